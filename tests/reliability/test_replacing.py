"""A collection that takes the place of another: at each moment one of the two is there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo import _files
from octavo.errors import StorageError

OLD, NEW = ["a", "b"], ["c", "d", "e"]

#: Steps of a replacement in order, and where the process is killed; each process has its own.
PLACES = ["before the exchange", "after the exchange", "after the sync", "within the deletion"]

KILLED = """
    import os, shutil, signal, sys
    import octavo
    from octavo import _files

    source, target, place, whole = sys.argv[1:]
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    if whole == "fallback":
        _files._renameat2 = lambda: None
    exchange, replace, sync, rmtree = _files._exchange, os.replace, _files.sync_directory, shutil.rmtree
    swapped = False

    def patched_exchange(one, other):
        global swapped
        if place == "before the exchange":
            die()
        done = exchange(one, other)
        swapped = True
        if done and place == "after the exchange":
            die()
        return done

    def patched_sync(path):
        sync(path)
        if swapped and place == "after the sync":
            die()

    def patched_rmtree(path, *rest, **more):
        if swapped and place == "within the deletion":
            os.unlink(os.path.join(path, "octavo.db"))
            die()
        rmtree(path, *rest, **more)

    def patched_replace(one, other):
        replace(one, other)
        if swapped and place == "between the renames":
            die()

    _files._exchange, _files.sync_directory = patched_exchange, patched_sync
    shutil.rmtree, os.replace = patched_rmtree, patched_replace
    octavo.restore(source, target, overwrite=True)
"""


def _make(path: Path, ids: list[str]) -> Path:
    with octavo.open(path, codec="int8 > float16") as kb:
        kb.add([f"text {i}" for i in ids], ids=ids, vectors=np.eye(len(ids), 8, dtype=np.float32))
    return path


def _ids(path: Path) -> list[str]:
    with octavo.open(path, must_exist=True) as kb:
        assert kb.verify().ok
        return sorted(kb.ids())


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def _directories(path: Path) -> tuple[Path, Path]:
    for name in ("draft", "there"):
        (path / name).mkdir()
        (path / name / name).touch()
    return path / "draft", path / "there"


def _cannot(one: bytes, other: bytes) -> int:
    return errno.EINVAL


@pytest.fixture(params=["as the system can", "no such call", "not on this file system"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no such call":
        monkeypatch.setattr(_files, "_renameat2", lambda: None)
    elif request.param == "not on this file system":
        monkeypatch.setattr(_files, "_renameat2", lambda: _cannot)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_the_draft_has_the_name_and_the_old_one_another(tmp_path: Path) -> None:
    draft, there = _directories(tmp_path)
    old = _files.put_in_place_of(draft, there)
    assert _names(there) == ["draft"]
    assert _names(old) == ["there"]
    assert _names(tmp_path) == sorted([there.name, old.name])


def test_linux_exchanges_in_one_step(tmp_path: Path) -> None:
    """Where the C library has the call and the file system takes it, neither name is free at any time."""
    draft, there = _directories(tmp_path)
    if not _files._exchange(draft, there):
        pytest.skip("names cannot be exchanged here")
    assert (_names(draft), _names(there)) == (["there"], ["draft"])
    with pytest.raises(FileNotFoundError) as caught:
        _files._exchange(draft, tmp_path / "nothing")
    assert caught.value.filename == str(draft)
    assert caught.value.filename2 == str(tmp_path / "nothing")


@pytest.mark.usefixtures("way")
def test_if_the_names_cannot_be_synced_the_old_one_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft, there = _directories(tmp_path)

    def failing(path: Path) -> None:
        raise StorageError(errno.ENOSPC, f"{path} could not be written")

    monkeypatch.setattr(_files, "sync_directory", failing)
    with pytest.raises(StorageError, match="could not be written"):
        _files.put_in_place_of(draft, there)
    assert (_names(draft), _names(there)) == (["draft"], ["there"])
    assert _names(tmp_path) == ["draft", "there"]


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.usefixtures("way")
def test_what_failed_and_was_done_all_the_same_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """A disk may report an error for a rename that it has carried out."""
    real, calls = os.replace, []
    exchange = _files._renameat2()

    def done(*paths: object) -> bool:
        calls.append(paths)
        return len(calls) == call

    def replace(one: Path, other: Path) -> None:
        real(one, other)
        if done(one, other):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def exchanged(one: bytes, other: bytes) -> int:
        code = exchange(one, other) if exchange is not None else errno.ENOSYS
        return errno.EIO if not code and done(one, other) else code

    monkeypatch.setattr(os, "replace", replace)
    if exchange is not None:
        monkeypatch.setattr(_files, "_renameat2", lambda: exchanged)
    draft, there = _directories(tmp_path)
    if call == 1:
        with pytest.raises(StorageError):
            _files.put_in_place(draft, tmp_path / "new")
        assert (_names(draft), _names(tmp_path)) == (["draft"], ["draft", "there"])
        calls.clear()
    elif exchange is not None and exchange is not _cannot:
        return  # one call is all
    with pytest.raises(StorageError):
        _files.put_in_place_of(draft, there)
    assert (_names(draft), _names(there)) == (["draft"], ["there"])
    assert _names(tmp_path) == ["draft", "there"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.ENOSPC, StorageError), (errno.EIO, StorageError), (errno.EACCES, PermissionError)],
    ids=errno.errorcode.get,
)
def test_an_error_leaves_the_old_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[OSError]
) -> None:
    backup, target = _make(tmp_path / "backup", NEW), _make(tmp_path / "kb", OLD)
    monkeypatch.setattr(_files, "_renameat2", lambda: lambda one, other: code)
    with pytest.raises(expected) as caught:
        octavo.restore(backup, target, overwrite=True)
    assert caught.value.errno == code
    assert _names(tmp_path) == ["backup", "kb"]
    assert _ids(target) == OLD


@pytest.mark.usefixtures("way")
def test_restore_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    backup, target = _make(tmp_path / "backup", NEW), _make(tmp_path / "kb", OLD)
    octavo.restore(backup, target, overwrite=True)
    assert _names(tmp_path) == ["backup", "kb"]
    assert _ids(target) == NEW


@pytest.fixture
def killed(tmp_path: Path) -> Callable[[str, str], Path]:
    """Kill a process at a place in the replacement of `kb`; returns that path."""
    if not hasattr(os, "fork"):
        pytest.skip("SIGKILL is POSIX")
    backup, target = _make(tmp_path / "backup", NEW), _make(tmp_path / "kb", OLD)

    def run(place: str, whole: str) -> Path:
        arguments = [str(backup), str(target), place, whole]
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == -9, done.stderr
        return target

    return run


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_leaves_the_old_or_the_new_one(
    tmp_path: Path, killed: Callable[[str, str], Path], place: str
) -> None:
    draft, there = _directories(tmp_path)
    if not _files._exchange(draft, there):
        pytest.skip("names cannot be exchanged here")
    target = killed(place, "exchange")
    assert _ids(target) == (OLD if place == "before the exchange" else NEW)


def test_a_killed_process_leaves_both_beside_where_names_cannot_be_exchanged(
    tmp_path: Path, killed: Callable[[str, str], Path]
) -> None:
    target = killed("between the renames", "fallback")
    assert not target.exists()
    (old,) = tmp_path.glob(".kb.*.tmp.old")
    (new,) = tmp_path.glob(".kb.*.tmp")
    assert (_ids(old), _ids(new)) == (OLD, NEW)
