"""Several processes on one collection: readers beside a writer, two writers, a fork after opening."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionLockedError

DIM = 8


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    """Commits, fitting and compaction of another process show up in the next search, without reopening."""
    path = tmp_path / "kb"
    matrix = _vectors(600)
    with octavo.open(path, codec="int8", fit_after=300) as reader:
        writer = _python(
            """
            import sys, numpy as np, octavo
            matrix = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
            with octavo.open(sys.argv[1]) as kb:
                for line in sys.stdin:
                    exec(line)
                    print("done", flush=True)
            """,
            str(path),
        )
        assert writer.stdin is not None
        assert writer.stdout is not None

        def tell(command: str) -> None:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(command + "\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n", writer.stderr.read() if writer.stderr else ""

        tell("kb.add(vectors=matrix[:200], ids=[str(i) for i in range(200)])")
        assert len(reader) == 200
        assert reader.search(matrix[7], 1).ids == ["7"]
        tell("kb.add(['t']*400, vectors=matrix[200:], ids=[str(i) for i in range(200, 600)])")
        assert reader.info().fitted
        assert reader.search(matrix[507], 1).ids == ["507"]
        tell("kb.delete([str(i) for i in range(0, 600, 2)])")
        assert reader.search(matrix[8], 1).ids != ["8"]
        tell("kb.compact()")
        assert reader.search(matrix[507], 1).ids == ["507"]
        assert len(reader.search("t", 1_000, mode="text")) == 200
        tell("kb.search('t', mode='text')")
        tell("kb.delete(['507'])")
        assert reader.search(matrix[507], 1).ids != ["507"]
        assert len(reader.search("t", 1_000, mode="text")) == 199
        assert reader.verify().ok
        reader.add(vectors=matrix[:1], ids=["from the reader"])
        tell("assert 'from the reader' in kb")
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors


@pytest.mark.slow
def test_two_writers(tmp_path: Path) -> None:
    """Both get their turn; nothing is lost."""
    code = """
        import sys, numpy as np, octavo
        name = sys.argv[2]
        with octavo.open(sys.argv[1], codec="int8", fit_after=100) as kb:
            for step in range(20):
                matrix = np.random.default_rng(step).standard_normal((10, 8))
                kb.add(vectors=matrix, ids=[f"{name} {step} {i}" for i in range(10)])
    """
    path = tmp_path / "kb"
    writers = [_python(code, str(path), name) for name in "ab"]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors
    with octavo.open(path) as kb:
        assert set(kb.ids()) == {f"{name} {step} {i}" for name in "ab" for step in range(20) for i in range(10)}
        assert kb.info().fitted
        assert kb.verify().ok


@pytest.mark.slow
def test_a_locked_collection_says_so(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    octavo.open(path).close()
    holder = _python(
        """
        import sys, octavo
        with octavo.open(sys.argv[1]) as kb, kb.connection(write=True):
            print("held", flush=True)
            sys.stdin.read()
        """,
        str(path),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with octavo.open(path, lock_timeout=0.2, read_only=True) as kb:
        assert kb.search(_vectors(1)[0]).ids == []  # readers do not wait
    with pytest.raises(CollectionLockedError, match="lock_timeout"), octavo.open(path, lock_timeout=0.2) as kb:
        kb.add(vectors=_vectors(1))
    holder.kill()  # the operating system releases the lock of a dead process
    holder.communicate()
    with octavo.open(path, lock_timeout=5) as kb:
        kb.add(vectors=_vectors(1))
        assert len(kb) == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_open(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(vectors=_vectors(50), ids=[str(i) for i in range(50)])
        child = os.fork()
        if child == 0:
            try:
                good = kb.search(_vectors(50)[7], 1).ids == ["7"]
                kb.add(vectors=_vectors(1, seed=1), ids=["from the child"])
                os._exit(0 if good else 1)
            except BaseException:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert "from the child" in kb
        kb.add(vectors=_vectors(1, seed=2), ids=["from the parent"])
        assert len(kb) == 52
        assert kb.verify().ok
