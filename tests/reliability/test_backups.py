"""Snapshots while others write, and restoring them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo import _files as _fs
from octavo.cli import app
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    CorruptCollectionError,
    InputTypeError,
    ParameterError,
)

DIM = 16
BATCH = 20


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def _fill(path: Path, n: int = 60) -> np.ndarray:
    matrix = _vectors(n)
    with octavo.open(path, codec="int8 > float16", fit_after=30) as kb:
        kb.add(
            [f"text {i}" for i in range(n)],
            ids=[str(i) for i in range(n)],
            metadata=[{"n": i} for i in range(n)],
            vectors=matrix,
            payloads=[f"payload {i}" if i % 2 else None for i in range(n)],
        )
        kb.delete(["3"])
        kb.search("text", mode="text")
    return matrix


def _same(one: Path, other: Path, matrix: np.ndarray) -> None:
    with octavo.open(one) as left, octavo.open(other) as right:
        assert left.ids() == right.ids()
        assert left.get(left.ids()) == right.get(left.ids())
        assert left.get_payloads(left.ids()) == right.get_payloads(left.ids())
        for query in matrix[:5]:
            found, again = left.search(query, 5), right.search(query, 5)
            assert found.ids == again.ids
            np.testing.assert_array_equal(found.scores, again.scores)
        assert left.search("7", 1, mode="text").ids == right.search("7", 1, mode="text").ids == ["7"]
        assert right.verify().ok


def test_snapshots_hold_whole_batches_while_others_write(tmp_path: Path) -> None:
    """Each snapshot is one committed state: whole batches, up to some commit and none beyond."""
    batches = 30
    with octavo.open(tmp_path / "kb", codec="int8", fit_after=100) as kb:

        def write() -> None:
            for batch in range(batches):
                kb.add(
                    [f"batch {batch}"] * BATCH,
                    ids=[f"{batch} {i}" for i in range(BATCH)],
                    vectors=_vectors(BATCH, seed=batch),
                )
                if batch % 10 == 9:
                    kb.delete([f"{batch} 0"])
                    kb.compact()

        writer = threading.Thread(target=write)
        writer.start()
        taken = []
        while writer.is_alive() or len(taken) < 2:
            taken.append(kb.snapshot(tmp_path / f"snapshot {len(taken)}"))
        writer.join()
    seen = -1
    for path in taken:
        with octavo.open(path, read_only=True) as copy:
            assert copy.verify().ok
            ids = set(copy.ids())
            done = {int(identifier.split()[0]) for identifier in ids}
            assert done == set(range(len(done))), "a batch is there although an earlier one is not"
            assert len(done) >= seen
            seen = len(done)
            for batch in done:
                expected = {f"{batch} {i}" for i in range(BATCH)}
                # the delete after every tenth batch is a commit of its own
                missing = expected - ids
                assert missing <= ({f"{batch} 0"} if batch % 10 == 9 else set())
                position = 1
                assert copy.search(_vectors(BATCH, seed=batch)[position], 1).ids == [f"{batch} {position}"]


def test_there_and_back(tmp_path: Path) -> None:
    matrix = _fill(tmp_path / "kb")
    with octavo.open(tmp_path / "kb") as kb:
        snapshot = kb.snapshot(tmp_path / "backups" / "monday")
        kb.clear()
        kb.compact()
    assert snapshot == tmp_path / "backups" / "monday"
    octavo.restore(snapshot, tmp_path / "again")
    _same(snapshot, tmp_path / "again", matrix)
    octavo.restore(snapshot, tmp_path / "kb", overwrite=True)
    _same(snapshot, tmp_path / "kb", matrix)
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == ["again", "backups", "kb"], "drafts are left behind"


def test_a_snapshot_shares_no_file_with_its_collection(tmp_path: Path) -> None:
    """What happens to one, an in-place change included, does not happen to the other."""
    _fill(tmp_path / "kb")
    with octavo.open(tmp_path / "kb") as kb:
        kb.snapshot(tmp_path / "copy")
    inodes = {entry.stat().st_ino for entry in (tmp_path / "kb").rglob("*") if entry.is_file()}
    assert not any(entry.stat().st_ino in inodes for entry in (tmp_path / "copy").rglob("*"))


def test_multi_vector(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal((3 + i % 4, DIM)).astype(np.float32) for i in range(30)]
    with octavo.open_multi_vector(tmp_path / "kb", fit_after=10) as kb:
        kb.add([f"text {i}" for i in range(30)], ids=[str(i) for i in range(30)], token_vectors=matrices)
        expected = [kb.search(matrix, 5).ids for matrix in matrices]
        snapshot = kb.snapshot(tmp_path / "copy")
    octavo.restore(snapshot, tmp_path / "again")
    with octavo.open(tmp_path / "again", read_only=True) as kb:
        assert isinstance(kb, octavo.MultiVectorCollection)
        assert [kb.search(matrix, 5).ids for matrix in matrices] == expected
        assert kb.verify().ok


def test_in_memory(tmp_path: Path) -> None:
    with octavo.open() as kb:
        kb.add(vectors=_vectors(5), ids=list("abcde"))
        kb.snapshot(tmp_path / "copy")
    with octavo.open(tmp_path / "copy") as kb:
        assert kb.ids() == list("abcde")


def test_an_empty_collection(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.snapshot(tmp_path / "copy")
    octavo.restore(tmp_path / "copy", tmp_path / "again")
    with octavo.open(tmp_path / "again") as kb:
        assert len(kb) == 0
        kb.add(vectors=_vectors(1))


def test_refusals(tmp_path: Path) -> None:
    _fill(tmp_path / "kb")
    with octavo.open(tmp_path / "kb") as kb:
        snapshot = kb.snapshot(tmp_path / "copy")
        with pytest.raises(ParameterError, match="holds something"):
            kb.snapshot(tmp_path / "copy")
        with pytest.raises(InputTypeError, match="path"):
            kb.snapshot(3)  # type: ignore[arg-type]
    with pytest.raises(CollectionClosedError):
        kb.snapshot(tmp_path / "late")
    with pytest.raises(ParameterError, match="overwrite"):
        octavo.restore(snapshot, tmp_path / "kb")
    with pytest.raises(ParameterError, match="own"):
        octavo.restore(snapshot, snapshot, overwrite=True)
    with pytest.raises(CollectionNotFoundError):
        octavo.restore(tmp_path / "nothing", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("keep me")
    with pytest.raises(ParameterError, match="something else"):
        octavo.restore(snapshot, tmp_path / "other", overwrite=True)
    (tmp_path / "kb" / "mine.txt").write_text("keep me")
    with pytest.raises(ParameterError, match=r"mine\.txt"):
        octavo.restore(snapshot, tmp_path / "kb", overwrite=True)
    assert (tmp_path / "kb" / "mine.txt").read_text() == "keep me"
    with octavo.open(tmp_path / "kb") as kb:
        assert len(kb) == 59


@pytest.mark.parametrize("part", ["octavo.db", "g000002-1.vec"])
def test_a_damaged_snapshot_replaces_nothing(tmp_path: Path, part: str) -> None:
    matrix = _fill(tmp_path / "kb")
    with octavo.open(tmp_path / "kb") as kb:
        snapshot = kb.snapshot(tmp_path / "copy")
    data = bytearray((snapshot / part).read_bytes())
    position = data.find(b"text 12") if part == "octavo.db" else len(data) // 2
    data[position] ^= 0xFF
    (snapshot / part).write_bytes(data)
    with pytest.raises(CorruptCollectionError, match="damaged"):
        octavo.restore(snapshot, tmp_path / "kb", overwrite=True)
    with octavo.open(tmp_path / "kb") as kb:
        assert len(kb) == 59
        assert kb.search(matrix[7], 1).ids == ["7"]
        assert kb.verify().ok


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is POSIX")
@pytest.mark.parametrize("command", ["kb.snapshot(target)", "octavo.restore(sys.argv[1], target)"])
def test_killed_before_the_last_step(tmp_path: Path, command: str) -> None:
    """Nothing is at the destination, and the next attempt works."""
    matrix = _fill(tmp_path / "kb")
    code = f"""
        import os, signal, sys, octavo
        target = sys.argv[2]
        kb = octavo.open(sys.argv[1])
        kb.close() if "restore" in {command!r} else None
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        {command}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "kb"), str(tmp_path / "target")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "target").exists()
    with octavo.open(tmp_path / "kb") as kb:
        kb.snapshot(tmp_path / "target")
    _same(tmp_path / "kb", tmp_path / "target", matrix)


def test_a_replacement_that_fails_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = _fill(tmp_path / "kb")
    with octavo.open(tmp_path / "kb") as kb:
        snapshot = kb.snapshot(tmp_path / "copy")
    rename = os.replace

    def failing(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp") and Path(target).name == "kb":
            raise OSError("no space")
        rename(source, target)

    monkeypatch.setattr(_fs, "_renameat2", lambda: None)  # as where names cannot be exchanged in one step
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no space"):
        octavo.restore(snapshot, tmp_path / "kb", overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy", "kb"]
    _same(tmp_path / "kb", snapshot, matrix)


def test_commands(tmp_path: Path) -> None:
    matrix = _fill(tmp_path / "kb")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    assert "59 documents" in run("snapshot", str(tmp_path / "kb"), str(tmp_path / "copy"))
    assert "59 documents restored" in run("restore", str(tmp_path / "copy"), str(tmp_path / "again"))
    _same(tmp_path / "kb", tmp_path / "again", matrix)
    assert "overwrite" in run("restore", str(tmp_path / "copy"), str(tmp_path / "again"), code=2)
    assert '"documents": 59' in run("restore", str(tmp_path / "copy"), str(tmp_path / "again"), "--overwrite", "--json")
    assert '"documents": 59' in run("snapshot", str(tmp_path / "kb"), str(tmp_path / "copy 2"), "--json")
