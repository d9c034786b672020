"""`compact(secure=True)`: no byte of a deleted document is left in any file of the collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionLockedError, ReadOnlyError

DIM = 32
N = 300

#: Documents that will be deleted; each leaves traces that nothing else has.
DOOMED = (5, 77, 130, 299)


@pytest.fixture(autouse=True)
def early_graph(small_limits: None) -> None:
    """Let small collections have a graph, so that its checkpoints are looked at as well."""


def _marks(i: int) -> dict[str, bytes]:
    return {
        "id": b"idzqxk%dwvj" % i,
        "text": b"textzqxk%dwvj" % i,
        "metadata key": b"keyzqxk%dwvj" % i,
        "metadata value": b"valuezqxk%dwvj" % i,
        "payload": b"payloadzqxk%dwvj" % i,
    }


def _content(path: Path) -> dict[str, bytes]:
    return {str(entry.relative_to(path)): entry.read_bytes() for entry in path.rglob("*") if entry.is_file()}


def _where(path: Path, marks: dict[str, bytes]) -> dict[str, list[str]]:
    """Return the files that hold each mark."""
    content = _content(path)
    return {name: [file for file, data in content.items() if mark in data] for name, mark in marks.items()}


def _fill(kb: octavo.Collection, matrix: np.ndarray, **more: object) -> None:
    marks = [{name: mark.decode() for name, mark in _marks(i).items()} for i in range(N)]
    given: dict[str, object] = more or {"vectors": matrix}
    kb.add(
        [mark["text"] for mark in marks],
        ids=[mark["id"] for mark in marks],
        metadata=[{mark["metadata key"]: mark["metadata value"]} for mark in marks],
        payloads=[mark["payload"] for mark in marks],
        **given,  # type: ignore[arg-type]
    )


def _code_marks(kb: octavo.Collection, slot: int) -> dict[str, bytes]:
    snapshot = kb._store.snapshot
    found = {f"codes of tier {n}": tier.codes[slot].tobytes() for n, tier in enumerate(snapshot.tiers)}
    if snapshot.tokens is not None:
        found["token codes"] = snapshot.tokens.rows(np.array([slot])).tobytes()
    if snapshot.cells is not None:
        records = np.concatenate([part.segment.records for part in snapshot.cells.parts])
        (row,) = np.flatnonzero(records["slot"] == slot)
        found["record of a cell"] = records[row].tobytes()
    return found


@pytest.mark.parametrize("codec", ["int8", "svd:50%|float8 > int8"])
def test_nothing_is_left(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "kb"
    matrix = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    with octavo.open(path, codec=codec, fit_after=100) as kb:
        _fill(kb, matrix)
        kb.search("text", mode="text")
        kb.flush()  # a checkpoint of the graph
        marks = {i: _marks(i) | _code_marks(kb, i) for i in DOOMED}
        kb.delete([mark["id"].decode() for i, mark in marks.items() if i != 77])
        marks[77]["id"] = b"does not occur"
        kb.add(["new"], ids=[_marks(77)["id"].decode()], vectors=matrix[:1])  # an upsert buries the old version
        kb.search("text", mode="text")

        before = _where(path, marks[5])
        assert all(before.values()), f"the test looks in the wrong place: {before}"
        assert any(file.endswith(".segment") for file in before["record of a cell"])
        # tantivy shares the bytes of similar words, so its files are not searched but have to go as a whole
        assert [file for file in _content(path) if file.startswith(("text/", "text\\"))]

        assert kb.compact(secure=True) == len(DOOMED)
        assert not list((path / "text").iterdir())
        for i in DOOMED:
            assert not any(_where(path, marks[i]).values()), f"document {i}: {_where(path, marks[i])}"
        alive = _marks(6)
        assert all(_where(path, alive).values())
        assert kb.search(matrix[6], 1).ids == [alive["id"].decode()]
        assert kb.search(alive["text"].decode(), 1, mode="text").ids == [alive["id"].decode()]
        kb.flush()
        assert kb.verify().ok
    for i in DOOMED:
        assert not any(_where(path, marks[i]).values())
    with octavo.open(path) as kb:
        assert len(kb) == N - len(DOOMED) + 1
        assert kb.verify().ok


def test_an_ordinary_compaction_came_before(tmp_path: Path) -> None:
    """There is nothing dead any more, but old files and free pages may still hold what was."""
    path = tmp_path / "kb"
    matrix = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    with octavo.open(path, fit_after=100) as kb:
        _fill(kb, matrix)
        kb.search("text", mode="text")
        kb.flush()
        marks = _marks(5) | _code_marks(kb, 5)
        kb.delete([marks["id"].decode()])
        kb._writer.compact()  # as the collection does by itself from time to time
        assert any(_where(path, marks).values())
        assert kb.compact(secure=True) == 0
        assert not any(_where(path, marks).values())
        assert kb.search(matrix[6], 1).ids == [_marks(6)["id"].decode()]
        assert kb.verify().ok


def test_multi_vector(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal((4, DIM)).astype(np.float32) for _ in range(N)]
    with octavo.open_multi_vector(path, fit_after=100) as kb:
        _fill(kb, np.zeros(0), token_vectors=matrices)
        kb.search("text", mode="text")
        kb.flush()
        marks = _marks(5) | _code_marks(kb, 5)
        assert all(_where(path, marks).values())
        kb.delete([marks["id"].decode()])
        assert kb.compact(secure=True) == 1
        assert not any(_where(path, marks).values())
        assert kb.search(matrices[6], 1).ids == [_marks(6)["id"].decode()]
        assert kb.verify().ok


def test_everything_deleted_and_nothing_there(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path, fit_after=100) as kb:
        assert kb.compact(secure=True) == 0
        _fill(kb, np.random.default_rng(0).standard_normal((N, DIM)))
        marks = _marks(5) | _code_marks(kb, 5)
        kb.clear()
        assert kb.compact(secure=True) == N
        assert not any(_where(path, marks).values())
        assert kb.verify().ok


def test_in_memory_and_read_only(tmp_path: Path) -> None:
    with octavo.open() as kb:
        kb.add(vectors=np.eye(3), ids=list("abc"))
        kb.delete(["b"])
        assert kb.compact(secure=True) == 1
        assert kb.search(np.eye(3)[2], 1).ids == ["c"]
    octavo.open(tmp_path / "kb").close()
    with octavo.open(tmp_path / "kb", read_only=True) as kb, pytest.raises(ReadOnlyError):
        kb.compact(secure=True)


def test_a_reader_that_keeps_the_log_in_use_is_named(tmp_path: Path) -> None:
    """The promise is not made when it cannot be kept; answers are right all the same."""
    path = tmp_path / "kb"
    with octavo.open(path, fit_after=100, lock_timeout=0.1) as kb:
        _fill(kb, np.random.default_rng(0).standard_normal((N, DIM)))
        kb.delete([_marks(5)["id"].decode()])
        with octavo.open(path, read_only=True) as reader, reader.connection() as connection:
            connection.execute("SELECT count(*) FROM documents").fetchone()
            with pytest.raises(CollectionLockedError, match="compact"):
                kb.compact(secure=True)
        assert len(kb) == N - 1
        kb.compact(secure=True)
        assert not any(_where(path, _marks(5)).values())
