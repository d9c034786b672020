"""File-system steps that must survive power loss, and what is raised where the disk does not take them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from octavo.errors import StorageError

#: What the C library's ``renameat2`` is told (Linux): paths are relative to the working directory; exchange the two.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

#: The kernel, or the file system, cannot exchange names.
_CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

ADVICE = "the collection is as its last commit left it; free space or mend the disk, then try again"


@contextlib.contextmanager
def storage_errors(path: Path | None, action: str = "written") -> Iterator[None]:
    """Turn what a full or failing disk raises into `StorageError`, which names the file and what to do.

    Errors that Python has a class of its own for (a missing file, a refused permission) are about something else, and
    pass through.
    """
    try:
        yield
    except OSError as err:
        if type(err) is not OSError:
            raise
        name = path if path is not None else "the collection"
        raise StorageError(err.errno, f"{name} could not be {action}: {err.strerror or err}; {ADVICE}") from err


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Create a directory, and those above it that are missing, so that all of their names survive power loss.

    Parameters
    ----------
    path : Path
        Harmless if it is there.
    mode : int
        Of the last level; those above are made as the user's umask says.
    """
    missing = []
    level = path
    while not level.exists():
        missing.append(level)
        level = level.parent
    with storage_errors(path, "created"):
        for level in reversed(missing):
            level.mkdir(mode if level == path else 0o777, exist_ok=True)
            sync_directory(level.parent)


def sync_directory(path: Path) -> None:
    """Make created, renamed and deleted names in a directory survive power loss (not possible on Windows)."""
    if os.name == "nt":
        return
    with storage_errors(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sync_file(path: Path) -> None:
    """Make a file's content survive power loss."""
    with storage_errors(path):
        fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def put_in_place(draft: Path, destination: Path) -> None:
    """Give a complete draft its name, in one step that survives power loss; where that fails, nothing has it.

    Parameters
    ----------
    draft, destination : Path
        Directories with the same parent; the latter is absent or empty.
    """
    with storage_errors(destination):
        if destination.exists():
            destination.rmdir()
        os.replace(draft, destination)
        try:
            sync_directory(destination.parent)
        except BaseException:
            try:
                os.replace(destination, draft)
            except OSError:  # a full disk may still let go of it
                shutil.rmtree(destination, ignore_errors=True)
            raise


def put_in_place_of(draft: Path, destination: Path) -> Path:
    """Give a complete draft the name of a directory that is there; where that fails, the latter keeps its name.

    Linux exchanges two names in one step on most file systems (ext4, XFS, Btrfs, tmpfs): at each moment, and after a power
    cut, `destination` is one of the two. Elsewhere the old directory is moved aside first, and for a moment there is
    nothing at `destination`.

    Parameters
    ----------
    draft, destination : Path
        Directories with the same parent.

    Returns
    -------
    Path
        Where the old directory lies now, under another name in the same parent. The exchange is on disk by then, so that
        it may be deleted.
    """
    with storage_errors(destination):
        exchanged = _exchange(draft, destination)
        old = draft if exchanged else draft.with_name(f"{draft.name}.old")
        if not exchanged:
            os.replace(destination, old)
            try:
                os.replace(draft, destination)
            except BaseException:
                os.replace(old, destination)
                raise
        try:
            sync_directory(destination.parent)
        except BaseException:
            if exchanged:
                _exchange(draft, destination)
            else:
                os.replace(destination, draft)
                os.replace(old, destination)
            raise
    return old


def _exchange(one: Path, other: Path) -> bool:
    """Let two entries change names in one step; False, and nothing has happened, where that is not possible."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    code = renameat2(os.fsencode(one), os.fsencode(other))
    if code in _CANNOT_EXCHANGE:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    return True


@cache
def _renameat2() -> Callable[[bytes, bytes], int] | None:
    """Return what exchanges two paths and returns an error number, or 0; None where the C library has no such call."""
    if sys.platform != "linux":
        return None
    import ctypes  # only to replace a directory

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

    def exchange(one: bytes, other: bytes) -> int:
        return ctypes.get_errno() if call(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE) else 0

    return exchange


def remove(path: Path) -> None:
    """Delete a file that is no longer part of the collection; a leftover is removed by the next open."""
    with contextlib.suppress(OSError):
        path.unlink()
