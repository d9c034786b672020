"""Running out of space: a named error, nothing half written, and the collection works again once there is space."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo import _files as _fs
from octavo._files import Directory
from octavo.errors import StorageError
from octavo.store.graph_files import GraphFiles

resource = pytest.importorskip("resource", reason="limits on the size of files are POSIX")

DIM = 32
N = 2_000


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Refuse to let any file of this process grow beyond so many bytes, like a disk that is full (but with EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def _texts(n: int) -> list[str]:
    return [f"document {i} " + "word " * 20 for i in range(n)]


@pytest.mark.parametrize(("limit", "named"), [(60_000, ".vec"), (400_000, "octavo.db")])
def test_add_says_which_file_and_keeps_nothing_of_it(tmp_path: Path, limit: int, named: str) -> None:
    with octavo.open(tmp_path / "kb", codec="float32") as kb:
        kb.add(_texts(10), ids=[f"a{i}" for i in range(10)], vectors=_vectors(10))
        with largest_file(limit), pytest.raises(StorageError, match="as its last commit left it") as caught:
            kb.add(_texts(N), vectors=_vectors(N, 1), batch_size=N)
        assert named in str(caught.value)
        assert caught.value.errno in (errno.EFBIG, errno.ENOSPC, errno.EIO)
        assert len(kb) == 10
        assert kb.verify().ok
        kb.add(_texts(N), ids=[f"b{i}" for i in range(N)], vectors=_vectors(N, 1))
        assert kb.search(_vectors(N, 1)[7], 1).ids == ["b7"]
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        assert len(kb) == N + 10
        assert kb.verify().ok


def _refit(kb: octavo.Collection) -> object:
    return kb.refit("float32 > float32")


def _flush(kb: octavo.Collection) -> object:
    return kb.flush()


def _text_search(kb: octavo.Collection) -> object:
    return kb.search("word", mode="text")


@pytest.fixture
def early_graph(lowered_limits: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    """Let a collection of a hundred documents have a graph; all of them may wait beside it."""
    with lowered_limits(graph_min=100):
        yield


@pytest.mark.parametrize("operation", [_refit, _flush, _text_search])
def test_other_writers_say_so_too(
    tmp_path: Path, operation: Callable[[octavo.Collection], object], early_graph: None
) -> None:
    with octavo.open(tmp_path / "kb", codec="int8", index="graph", fit_after=100) as kb:
        kb.add(_texts(N), ids=[f"a{i}" for i in range(N)], vectors=_vectors(N))
        with largest_file(4_096), pytest.raises(StorageError, match="as its last commit left it"):
            operation(kb)
        assert len(kb) == N
        operation(kb)
        assert kb.verify().ok
    names = [entry.name for entry in (tmp_path / "kb").iterdir()]
    assert not [name for name in names if name.endswith(".tmp")]


@pytest.mark.parametrize("operation", ["snapshot", "export"])
def test_copies_leave_nothing_behind(tmp_path: Path, operation: str) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(_texts(N), vectors=_vectors(N))
        with largest_file(20_000), pytest.raises(StorageError):
            getattr(kb, operation)(tmp_path / "there")
        assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]
        getattr(kb, operation)(tmp_path / "there")


def test_maintenance_that_has_no_space_does_not_fail_the_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, codec_text: str | None = None) -> None:
        raise StorageError(errno.ENOSPC, "no space")

    with octavo.open(tmp_path / "kb", fit_after=10) as kb:
        with monkeypatch.context() as patched:
            patched.setattr("octavo.store.writer.Writer.fit", full)
            assert len(kb.add(_texts(20), vectors=_vectors(20))) == 20
        assert not kb.info().fitted
        kb.add(_texts(1), vectors=_vectors(1, 2))
        assert kb.info().fitted


def test_what_fails_after_the_commit_is_no_failure_of_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with octavo.open(tmp_path / "kb", codec="float32") as kb:
        kb.add(_texts(10), ids=[f"a{i}" for i in range(10)], vectors=_vectors(10))
        with monkeypatch.context() as patched:
            patched.setattr("octavo.store.vectors.VectorFile.view", fails)
            kb.add(_texts(5), ids=[f"b{i}" for i in range(5)], vectors=_vectors(5, 1))
        assert len(kb) == 15
        assert kb.delete(["a1"]) == 1
        with monkeypatch.context() as patched:
            patched.setattr("octavo.store.store.Store._open_file", fails)
            kb._writer.compact()
        assert kb.search(_vectors(5, 1)[2], 1).ids == ["b2"]
        assert kb.verify().ok


def test_new_directories_are_synced_at_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = _fs.sync_directory
    monkeypatch.setattr(_fs, "sync_directory", lambda path: (synced.append(path), real(path))[1])
    _fs.make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o700
    _fs.make_directory(tmp_path / "a")  # harmless
    assert len(synced) == 3


def test_a_draft_that_another_process_erased_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_graph: None
) -> None:
    with octavo.open(tmp_path / "kb", codec="int8", index="graph", fit_after=100) as kb:
        kb.add(_texts(500), vectors=_vectors(500))
        with monkeypatch.context() as patched:
            real = GraphFiles._write

            def write_and_lose(folder: Directory, draft: str, graph: object) -> object:
                written = real(folder, draft, graph)  # type: ignore[arg-type]
                folder.remove(draft)
                return written

            patched.setattr(GraphFiles, "_write", staticmethod(write_and_lose))
            kb.flush()
        assert not list((tmp_path / "kb").glob("*.graph*"))
        kb.flush()
        assert len(list((tmp_path / "kb").glob("*.graph"))) == 1


def test_errors_with_a_class_of_their_own_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), _fs.storage_errors(tmp_path):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(StorageError) as caught, _fs.storage_errors(tmp_path, "read"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.errno == errno.EIO
    assert "could not be read" in str(caught.value)


def test_a_file_that_cannot_be_created_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lowered_limits: Callable[..., AbstractContextManager[None]]
) -> None:
    real = os.open

    def failing(path: object, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", failing)
        with pytest.raises(StorageError, match=r"octavo\.lock could not be created"):
            octavo.open(tmp_path / "kb")
    with octavo.open(tmp_path / "kb", codec="int8", index="graph", fit_after=100) as kb:
        kb.add(_texts(500), vectors=_vectors(500))
        with lowered_limits(graph_min=100):
            with monkeypatch.context() as patched:
                patched.setattr(os, "open", failing)
                with pytest.raises(StorageError, match=r"\.graph\.tmp could not be created"):
                    kb.flush()
            kb.flush()


def test_the_older_checkpoint_stays_until_the_newer_one_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_graph: None
) -> None:
    with octavo.open(tmp_path / "kb", codec="int8", index="graph", fit_after=100) as kb:
        kb.add(_texts(500), vectors=_vectors(500))
        kb.flush()
        (older,) = (tmp_path / "kb").glob("*.graph")
        kb.add(_texts(100), vectors=_vectors(100, 1))
        with monkeypatch.context() as patched:

            def fails(self: object, connection: object) -> None:
                raise StorageError(errno.EIO, "the commit failed")

            patched.setattr("octavo.store.database.Database._commit", fails)
            with pytest.raises(StorageError, match="the commit failed"):
                kb.flush()
        assert older.exists()
        assert kb.verify().ok
        kb.flush()
        assert not older.exists()
        assert kb.verify().ok


def test_the_directory_of_a_text_commit_is_synced_after_its_last_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[Path, set[tuple[str, int]]] = {}
    real = Directory.sync

    def sync(folder: Directory) -> None:
        synced[folder.path] = {(entry.name, entry.stat().st_ino) for entry in folder.path.iterdir()}
        real(folder)

    monkeypatch.setattr(Directory, "sync", sync)
    with octavo.open(tmp_path / "kb") as kb:
        for number in range(2):
            kb.add(_texts(50), vectors=_vectors(50, number))
            kb.search("word", mode="text")
            newest = max((tmp_path / "kb" / "text").iterdir())
            found = {(entry.name, entry.stat().st_ino) for entry in newest.iterdir() if entry.suffix != ".lock"}
            assert found <= synced[newest]


def test_a_link_that_was_made_and_reported_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(*where: object, **more: object) -> None:
        real(*where, **more)  # type: ignore[arg-type]
        raise OSError(errno.EIO, "Input/output error")

    with octavo.open(tmp_path / "kb") as kb:
        kb.add(_texts(50), ids=[f"a{i}" for i in range(50)], vectors=_vectors(50))
        kb.search("word", mode="text")
        kb.add(["another one"], ids=["b"], vectors=_vectors(1, 1))
        monkeypatch.setattr(os, "link", link)
        assert kb.search("another", mode="text").ids == ["b"]


def test_a_failed_commit_is_voided_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed `fsync` of the log leaves there, complete, must not come back when the log is recovered."""
    path = tmp_path / "kb"
    with octavo.open(path, codec="float32") as kb:
        kb.add(_texts(10), ids=[f"a{i}" for i in range(10)], vectors=_vectors(10))
        settled: list[object] = []
        real = type(kb._store.database)._settle
        monkeypatch.setattr(
            "octavo.store.database.Database._settle",
            lambda self, connection: (settled.append(connection), real(self, connection))[1],
        )
        with largest_file((path / "octavo.db-wal").stat().st_size + 1_000), pytest.raises(StorageError):
            kb.delete([f"a{i}" for i in range(10)])
        # there was no space to void anything either: it is done before the next write
        assert kb._store.database._unsettled
        before = len(settled)
        kb.add(["more"], ids=["b"], vectors=_vectors(1, 1))
        assert len(settled) == before + 1
        assert not kb._store.database._unsettled
        assert len(kb) == 11


@pytest.mark.parametrize("operation", ["snapshot", "export"])
def test_a_copy_whose_name_is_not_durable_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    real = _fs.sync_directory

    def fails(path: Path) -> None:
        if path == tmp_path:
            raise StorageError(errno.EIO, "Input/output error")
        real(path)

    with octavo.open(tmp_path / "kb") as kb:
        kb.add(_texts(20), vectors=_vectors(20))
        with monkeypatch.context() as patched:
            patched.setattr(_fs, "sync_directory", fails)
            with pytest.raises(StorageError):
                getattr(kb, operation)(tmp_path / "there")
        assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]
        getattr(kb, operation)(tmp_path / "there")


@pytest.mark.parametrize("write", [True, False])
def test_a_connection_that_has_failed_is_not_used_again(write: bool, tmp_path: Path) -> None:
    """SQLite may have opened the log for reading alone, for good; what comes next begins with a connection of its own."""
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(_texts(3), vectors=_vectors(3))
        database = kb._store.database
        before = database._writing_session() if write else database._reader()
        with pytest.raises(StorageError), kb.connection(write=write):
            raise StorageError(errno.EIO, "the disk has failed")
        assert (database._writing_session() if write else database._reader()) is not before
        assert not before.is_open
        kb.add(_texts(3), vectors=_vectors(3))
        assert kb.count() == 6
