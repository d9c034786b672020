"""The directory under an open collection is moved, deleted or replaced: an error that says so, and nothing is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionClosedError, CollectionReplacedError, ParameterError
from octavo.store.database import read_manifest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="files that are open cannot be moved or deleted on Windows")

DIM = 8


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def contents(path: Path) -> dict[str, bytes]:
    """Return a digest of each file, but of SQLite's shared memory, which a reader changes."""
    files = (file for file in path.rglob("*") if file.is_file() and not file.name.endswith("-shm"))
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).digest() for file in files}


def make(path: Path, ids: str, seed: int) -> Path:
    with octavo.open(path, fit_after=5) as kb:
        kb.add(list(ids), ids=list(ids), vectors=vectors(len(ids), seed))
        kb.search("a", mode="text")
    return path


def deleted_and_rebuilt(path: Path) -> None:
    shutil.rmtree(path)
    make(path, "uvwxyz", 1)


def rebuilt_and_open(path: Path) -> None:
    shutil.rmtree(path)
    kb = octavo.open(path, fit_after=5)
    kb.add(list("uvwxyz"), ids=list("uvwxyz"), vectors=vectors(6, 1))
    _OPEN.append(kb)


def restored_over(path: Path) -> None:
    octavo.restore(make(path.with_name("backup"), "uvwxyz", 1), path, overwrite=True)


def moved_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def moved_and_copied_back(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    shutil.copytree(path.with_name("elsewhere"), path)


def database_replaced(path: Path) -> None:
    other = make(path.with_name("other"), "uvwxyz", 1)
    for entry in path.iterdir():
        if entry.name.startswith("octavo.db"):
            entry.unlink()
    shutil.copyfile(other / "octavo.db", path / "octavo.db")


_OPEN: list[octavo.Collection] = []

CHANGES = [deleted_and_rebuilt, rebuilt_and_open, restored_over, moved_away, moved_and_copied_back, database_replaced]

OPERATIONS: list[Callable[[octavo.Collection], Any]] = [
    lambda kb: kb.add(["p"], ids=["p"], vectors=vectors(1, 3)),
    lambda kb: kb.delete(["a"]),
    lambda kb: kb.clear(),
    lambda kb: kb.refit(),
    lambda kb: kb.compact(),
    lambda kb: kb.compact(secure=True),
    lambda kb: kb.search(vectors(1)[0], 3),
    lambda kb: kb.search("a", mode="text"),
    lambda kb: kb.get(["a"]),
    lambda kb: kb.verify(),
    lambda kb: kb.verify(repair=True),
    lambda kb: kb.snapshot(kb.path.with_name("snap")) if kb.path else None,
    lambda kb: kb.destroy(),
]


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_open_handle_says_so_and_touches_nothing(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = make(tmp_path / "kb", "abcdef", 0)
    old = octavo.open(path)
    old.delete(["b"])
    old.search("a", mode="text")
    change(path)
    before = contents(tmp_path)
    for operation in OPERATIONS:
        with pytest.raises(CollectionReplacedError, match="no longer there"):
            operation(old)
    errors: list[BaseException] = []

    def look() -> None:  # a new thread opens what is at the path
        for operation in (OPERATIONS[6], OPERATIONS[7], OPERATIONS[0]):
            try:
                operation(old)
            except CollectionReplacedError as err:
                errors.append(err)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert len(errors) == 3
    assert contents(tmp_path) == before
    if change in (moved_away, database_replaced):  # nothing there, or nothing whole
        return
    with octavo.open(path) as new:
        assert new.verify().ok
        if change is rebuilt_and_open:
            new.add(["one more"], ids=["more"], vectors=vectors(1, 4))
            assert _OPEN[0].search(vectors(1, 4)[0], 1).ids == ["more"]


def test_a_directory_that_is_moved_back_works_again(tmp_path: Path) -> None:
    path = make(tmp_path / "kb", "abcdef", 0)
    with octavo.open(path) as kb:
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(CollectionReplacedError):
            kb.add(["p"], ids=["p"], vectors=vectors(1, 3))
        (tmp_path / "elsewhere").rename(path)
        kb.add(["p"], ids=["p"], vectors=vectors(1, 3))
        assert len(kb) == 7
        assert kb.verify().ok


def test_closing_an_old_handle_leaves_what_the_new_one_has_not_folded_yet(tmp_path: Path) -> None:
    """The write-ahead log of the new collection has the name that the old one's had."""
    path = make(tmp_path / "kb", "abcdef", 0)
    old = octavo.open(path)
    old.add(["g"], ids=["g"], vectors=vectors(1, 2))
    rebuilt_and_open(path)
    old.close()
    assert {"octavo.db-wal", "octavo.db-shm"} <= {entry.name for entry in path.iterdir()}
    _OPEN[0].add(["late"], ids=["late"], vectors=vectors(1, 5))
    shutil.copytree(path, tmp_path / "as after a kill")  # what a crash would leave
    with octavo.open(tmp_path / "as after a kill") as kb:
        assert "late" in kb
        assert kb.verify().ok


def test_relative_paths_are_those_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub" / "kb").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    matrix = vectors(1_100)
    kb = octavo.open("kb", fit_after=400)
    kb.add(vectors=matrix[:500])
    monkeypatch.chdir(tmp_path / "sub")
    kb.add(["word"] * 600, vectors=matrix[500:])
    assert len(kb.search("word", 700, mode="text")) == 600
    kb.refit()
    kb.snapshot("snap")
    kb.export("out")
    kb.copy("copy").close()
    kb.close()
    assert list((tmp_path / "sub" / "kb").iterdir()) == []
    assert {entry.name for entry in (tmp_path / "sub").iterdir()} == {"kb", "snap", "out", "copy"}
    with octavo.open(tmp_path / "kb") as kb:
        assert len(kb) == 1_100
        assert kb.verify().ok


def identity(path: Path) -> str:
    with octavo.open(path, read_only=True) as kb, kb.connection() as connection:
        return str(read_manifest(connection)["identity"])


def test_each_collection_has_an_identity_of_its_own(tmp_path: Path) -> None:
    path = make(tmp_path / "kb", "abcdef", 0)
    with octavo.open(path) as kb:
        kb.copy(tmp_path / "copy").close()
        kb.snapshot(tmp_path / "snap")
        kb.export(tmp_path / "out")
        with kb.copy() as memory:
            memory.add(["q"], ids=["q"], vectors=vectors(1, 3))
        kb.refit()
        kb.compact(secure=True)
    octavo.restore(tmp_path / "snap", tmp_path / "restored")
    octavo.import_from(tmp_path / "out", tmp_path / "imported").close()
    names = ["kb", "copy", "snap", "restored", "imported"]
    found = [identity(tmp_path / name) for name in names]
    assert len(set(found)) == 5
    assert all(len(value) == 32 for value in found)
    assert [identity(tmp_path / name) for name in names] == found


def test_restore_through_a_link_keeps_it(tmp_path: Path) -> None:
    backup = make(tmp_path / "backup", "uvwxyz", 1)
    real = make(tmp_path / "data" / "kb", "abcdef", 0)
    (tmp_path / "link").symlink_to(real)
    octavo.restore(backup, tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    with octavo.open(tmp_path / "link") as kb, octavo.open(real, read_only=True) as same:
        assert sorted(kb.ids()) == sorted(same.ids()) == list("uvwxyz")
    assert [entry.name for entry in real.parent.iterdir()] == ["kb"]


@pytest.mark.parametrize("operation", ["snapshot", "export", "copy"])
def test_copies_through_a_link_to_an_empty_folder_keep_it(tmp_path: Path, operation: str) -> None:
    (tmp_path / "data" / "there").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data" / "there")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    with octavo.open(make(tmp_path / "kb", "abcdef", 0)) as kb:
        getattr(kb, operation)(tmp_path / "link")
        with pytest.raises(ParameterError, match=r"link to .*nothing, which does not exist"):
            getattr(kb, operation)(tmp_path / "nowhere")
    assert (tmp_path / "link").is_symlink()
    assert any((tmp_path / "data" / "there").iterdir())


def test_destroy_of_a_closed_collection_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "kb", "abcdef", 0)
    kb = octavo.open(path)
    kb.close()
    with pytest.raises(CollectionClosedError):
        kb.destroy()
    assert path.exists()


def test_a_directory_of_hard_links_is_another(tmp_path: Path) -> None:
    """What incremental backups make: the same files, whose directory is not the one that is open."""
    path = make(tmp_path / "kb", "abcdef", 0)
    with octavo.open(path) as kb:
        shutil.copytree(path, tmp_path / "links", copy_function=os.link)
        path.rename(tmp_path / "old")
        (tmp_path / "links").rename(path)
        before = sorted(contents(path))
        for operation in (OPERATIONS[0], OPERATIONS[3], OPERATIONS[5], OPERATIONS[-1]):
            with pytest.raises(CollectionReplacedError):
                operation(kb)
        assert sorted(contents(path)) == before


def test_publishing_a_commit_does_not_look_into_another_collection(tmp_path: Path) -> None:
    path = make(tmp_path / "kb", "abcdef", 0)
    with octavo.open(path) as old:
        snapshot = old._store.snapshot
        old._store.database._local.session.close()  # as after an error: the next reading connects anew
        old._store.database._local.session = None
        deleted_and_rebuilt(path)
        before = contents(tmp_path)
        old._writer._publish()
        assert old._store.snapshot is snapshot
        assert contents(tmp_path) == before
