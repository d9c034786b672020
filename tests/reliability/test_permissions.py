"""Whatever the umask, nobody but the owner can read a collection, a snapshot, or what was exported."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import octavo

pytestmark = pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")

DIM = 16
N = 300


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest, small_limits: None) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def _check(path: Path, *, expect: set[str]) -> None:
    """Compare the mode of a directory and of everything in it; `expect` names suffixes that must be there."""
    found = set()
    for entry in [path, *path.rglob("*")]:
        wanted = 0o700 if entry.is_dir() else 0o600
        mode = stat.S_IMODE(entry.stat().st_mode)
        assert mode == wanted, f"{entry} has mode {mode:o}"
        found.add(entry.name if entry.is_dir() else entry.name.rpartition(".")[2])
    assert expect <= found, f"missing {expect - found}"


def _work(kb: octavo.Collection, path: Path, **vectors: object) -> None:
    kb.add([f"text {i}" for i in range(N)], ids=[str(i) for i in range(N)], **vectors)  # type: ignore[arg-type]
    kb.search("text", mode="text")
    kb.flush()
    _check(path, expect={"vec", "db", "db-wal", "db-shm", "cells", "segment", "text", "json"})
    kb.delete(["1"])
    kb.search("text", mode="text")
    kb.verify(repair=True)
    kb.compact()
    kb.refit()
    kb.search("text", mode="text")
    kb.flush()
    _check(path, expect={"vec", "db", "db-wal", "db-shm", "cells", "segment", "text"})
    kb.compact(secure=True)
    kb.search("text", mode="text")
    kb.snapshot(path.parent / "snapshot")
    _check(path.parent / "snapshot", expect={"vec", "db"})
    octavo.restore(path.parent / "snapshot", path.parent / "restored")
    _check(path.parent / "restored", expect={"vec", "db"})
    with octavo.open(path, read_only=True) as reader:
        reader.search("text", mode="text")
    kb.flush()  # cells are learned in the background after an erasure: nothing may appear and go while it is looked at
    _check(path, expect={"vec", "db", "text"})


@pytest.mark.usefixtures("umask")
def test_one_vector_a_document(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path, codec="int8 > float16", fit_after=100) as kb:
        _work(kb, path, vectors=np.random.default_rng(0).standard_normal((N, DIM)))
    _check(path, expect={"vec", "db", "text"})


@pytest.mark.usefixtures("umask")
def test_many_vectors_a_document(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open_multi_vector(path, fit_after=100) as kb:
        _work(kb, path, token_vectors=list(np.random.default_rng(0).standard_normal((N, 3, DIM))))
    _check(path, expect={"vec", "db", "text"})
