"""Files and directories: steps that survive power loss, paths that cannot lead elsewhere, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import stat
import sys
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import (
    AccessDeniedError,
    CorruptCollectionError,
    InputTypeError,
    OctavoError,
    ParameterError,
    StorageError,
)

#: What the C library's ``renameat2`` is told (Linux): paths are relative to the working directory; exchange the two.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

#: The kernel, or the file system, cannot exchange names.
_CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

#: Whether files can be opened relative to a directory that is held open (not on Windows).
_RELATIVE = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd

#: Links are not followed, a pipe is not waited for, text is not translated, and no child process inherits the file.
_CAREFULLY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))

_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)

#: Bytes asked for at once: of a longer request Linux reads no more than the device is set to read ahead, 128 KiB unless set
#: otherwise.
REQUEST_BYTES = 128 << 10

#: Whether the system tells what of a file is in memory, and can be asked to read (Linux).
CAN_TELL = hasattr(os, "posix_fadvise") and hasattr(os, "RWF_NOWAIT")

#: Stretches that are looked at to tell whether they are in memory, and how many calls do without when they were.
_PROBES, _UNLOOKED = 4, 15

#: How often a directory is emptied in which somebody may still be creating files.
_DELETIONS = 20

ADVICE = "the collection is as its last commit left it; free space or mend the disk, then try again"


# ---------------------------------------------------------------------- paths and errors


def as_path(value: Any, name: str) -> Path:
    """Return a path as the caller means it now: absolute, so that a later ``chdir`` does not change what it names.

    Parameters
    ----------
    value : str or path-like
        What the caller gave; ``~`` is expanded.
    name : str
        The option, as the message calls it.

    Raises
    ------
    InputTypeError
        When it is neither a str nor a path-like of one.
    ParameterError
        When it is empty, holds a NUL character or a lone surrogate, or begins with the ``~`` of an unknown user.

    Examples
    --------
    >>> as_path("kb", "path").is_absolute()
    True
    >>> as_path("", "path")
    Traceback (most recent call last):
    octavo.errors.ParameterError: expected path to name a file or folder, got an empty string; write '.' for this folder
    """
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise InputTypeError(f"expected {name} as a str or path-like, got {type(value).__name__}")
    if not text:
        raise ParameterError(
            f"expected {name} to name a file or folder, got an empty string; write '.' for this folder"
        )
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise ParameterError(f"expected {name} in valid Unicode, got {text!r}, which holds a lone surrogate") from err
    if "\0" in text:
        raise ParameterError(f"expected {name} as a path, got {text!r}, which holds a NUL character")
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as err:  # no such user; a working directory that was deleted
        raise ParameterError(f"expected {name} as a path, got {text!r}, but {err}") from err


@contextlib.contextmanager
def storage_errors(path: Path | None, action: str = "written") -> Iterator[None]:
    """Turn what the operating system refuses into `StorageError`, which names the file and what to do.

    A file that is missing, or there already, is something that the caller knows more about: such errors pass through.
    """
    try:
        yield
    except (OctavoError, FileNotFoundError, FileExistsError):
        raise
    except OSError as err:
        name = path if path is not None else "the collection"
        if isinstance(err, PermissionError):
            advice = "check who owns it and who may write to it, and to the folder that it lies in"
            denied = f"{name} could not be {action}: {err.strerror or err}; {advice}"
            raise AccessDeniedError(err.errno, denied) from err
        raise StorageError(
            err.errno or errno.EIO, f"{name} could not be {action}: {err.strerror or err}; {ADVICE}"
        ) from err


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Create a directory, and those above it that are missing, so that all of their names survive power loss.

    Parameters
    ----------
    path : Path
        Harmless if it is there.
    mode : int
        Of all that are made: whoever may read a parent learns the names of what lies in it.

    Raises
    ------
    ParameterError
        When it, or one above it, is a link that leads nowhere, or a file.
    """
    missing = []
    level = path
    with storage_errors(path, "created"):
        while not _is_there(level):
            missing.append(level)
            level = level.parent
        for level in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was first
                level.mkdir(mode)
            if not level.is_dir():
                target = (
                    f"is a link to {os.readlink(level)}, which does not exist" if level.is_symlink() else "is a file"
                )
                raise ParameterError(f"expected {path} to be a folder or a place for a new one, but {level} {target}")
            sync_directory(level.parent)
    if not path.is_dir():
        raise ParameterError(f"expected {path} to be a folder or a place for a new one, but it is a file")


def _is_there(path: Path) -> bool:
    """Tell whether there is something at a path; unlike `Path.exists`, errors other than "no such file" are errors."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


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


# ---------------------------------------------------------------------- what is held open


class HeldFile:
    """A file that is held open until nobody refers to it any more.

    So no thread can close it, and have its number given to another file, while a second one writes to it.

    Parameters
    ----------
    fd : int
        Its descriptor, which is this object's from now on.
    writable : bool
        Whether it was opened for writing.
    """

    __slots__ = ("__weakref__", "_unlooked", "fd", "writable")

    def __init__(self, fd: int, *, writable: bool = False) -> None:
        self.fd = fd
        self.writable = writable
        self._unlooked = 0  # calls of `may_miss` that say no

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def size(self) -> int:
        """Return its length in bytes now, even if it was deleted."""
        return os.fstat(self.fd).st_size

    def is_same(self, other: HeldFile) -> bool:
        """Tell whether the other is the same file."""
        return os.path.samestat(os.fstat(self.fd), os.fstat(other.fd))

    def read_blocks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """Yield its content from the beginning, whoever else reads from it."""
        position = 0
        while block := _pread(self.fd, size, position):
            yield block
            position += len(block)

    def mapped(self, length: int, path: Path, *, scattered: bool = False) -> mmap.mmap | None:
        """Map its first `length` bytes, to be read; None when it has just become shorter.

        Parameters
        ----------
        length : int
            Bytes.
        path : Path
            What messages call it.
        scattered : bool, default=False
            What is read of it is announced, so that the system reads nothing else: around a page that is missing it would
            read as much as the device is set to read ahead, which is megabytes on some.

        Raises
        ------
        StorageError
            When the system refuses; the message names `path`.
        """
        try:
            mapped = mmap.mmap(self.fd, length, access=mmap.ACCESS_READ)
        except ValueError:
            return None
        except OSError as err:
            raise StorageError(err.errno, f"{path} could not be mapped: {err.strerror}; {ADVICE}") from err
        if scattered and hasattr(mmap, "MADV_RANDOM") and hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                mapped.madvise(mmap.MADV_RANDOM)
        return mapped

    def announce(self, starts: Iterable[int], length: int) -> None:
        """Tell the system that stretches of `length` bytes are about to be read, so that it reads them side by side.

        Parameters
        ----------
        starts : iterable of int
            Where they begin, in rising order.
        length : int
            Bytes of each.
        """
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                for start, size in requests((start, start + length) for start in starts):
                    os.posix_fadvise(self.fd, start, size, os.POSIX_FADV_WILLNEED)

    def may_miss(self) -> bool:
        """Tell whether to call `announce_missing`: not for a while after nothing was missing, as that took searches longer."""
        if self._unlooked > 0:  # written by several threads: at worst one looks once more
            self._unlooked -= 1
            return False
        return True

    def announce_missing(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
        """Announce the pages that stretches lie in, if they seem not to be in memory; tells whether it did.

        A few of them are looked at, a microsecond each: where a collection is larger than memory, most are missing.

        Parameters
        ----------
        starts, ends : ndarray of shape (n,), int64
            Where they begin and end, in any order.
        """
        if not CAN_TELL or not len(starts):
            return False
        probes = starts[:: -(-len(starts) // _PROBES)].tolist()
        if all(in_memory(self.fd, start) for start in probes):
            self._unlooked = _UNLOOKED
            return False
        order = np.argsort(starts)
        first = starts[order] // mmap.PAGESIZE * mmap.PAGESIZE
        last = -(-ends[order] // mmap.PAGESIZE) * mmap.PAGESIZE
        with contextlib.suppress(OSError):
            for start, size in requests(zip(first.tolist(), last.tolist(), strict=True)):
                os.posix_fadvise(self.fd, start, size, os.POSIX_FADV_WILLNEED)
        return True

    def native_path(self, fallback: Path) -> str:
        """Return a path that leads to this very file where the system has one, for libraries that take nothing else."""
        held = f"/proc/self/fd/{self.fd}"
        return held if os.path.exists(held) else str(fallback)


def requests(stretches: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield position and length of what is to be asked for, where stretches of a file are about to be read.

    Those that touch are one request: each costs some microseconds, and the disk less if there are fewer.

    Parameters
    ----------
    stretches : iterable of (int, int)
        Where they begin and end, by where they begin.

    Examples
    --------
    >>> list(requests([(0, 16), (16, 32), (48, 64)]))
    [(0, 32), (48, 16)]
    """
    first = end = 0
    for start, stop in stretches:
        if start > end:
            yield from _pieces(first, end)
            first = end = start
        end = max(end, stop)
    yield from _pieces(first, end)


def in_memory(fd: int, position: int) -> bool:
    """Tell whether the byte at `position` can be read without waiting for the disk; True where the system cannot tell."""
    try:
        os.preadv(fd, [bytearray(1)], position, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _pieces(first: int, end: int) -> Iterator[tuple[int, int]]:
    for start in range(first, end, REQUEST_BYTES):
        yield start, min(REQUEST_BYTES, end - start)


def _pread(fd: int, size: int, position: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, size, position)
    os.lseek(fd, position, os.SEEK_SET)  # Windows
    return os.read(fd, size)


class Directory:
    """A directory that is held open: what lies in it is reached through it, whatever its path comes to mean later.

    Nothing in it is reached through a link: one that is there is damage, or an attempt to have somebody else's file written.
    Where the operating system cannot open files relative to a directory (Windows), paths are used, and links are looked for
    first.

    Parameters
    ----------
    path : Path
        A directory that exists; a link to one will do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        if _RELATIVE:
            with storage_errors(path, "opened"):
                self._hold(os.open(path, os.O_RDONLY | _DIRECTORY))

    def _hold(self, fd: int) -> None:
        self._fd = fd
        self._release = weakref.finalize(self, os.close, fd)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def close(self) -> None:
        """Let go of the directory."""
        if self._fd is not None:
            self._release()
            self._fd = None

    def is_at_its_path(self) -> bool:
        """Tell whether its path still leads to this very directory."""
        if self._fd is None:
            return self.path.is_dir()
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.EBADF):  # the last where a daemon has closed everything
                return False
            raise

    def _at(self, name: str) -> tuple[str | Path, dict[str, int]]:
        """Return how a call of `os` is told of an entry."""
        return (self.path / name, {}) if self._fd is None else (name, {"dir_fd": self._fd})

    def stat(self, name: str) -> os.stat_result | None:
        """Return what the system knows of an entry (of a link, not of what it leads to); None if there is none."""
        where, relative = self._at(name)
        try:
            return os.stat(where, follow_symlinks=False, **relative)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a regular file and return its descriptor.

        Raises
        ------
        FileNotFoundError, FileExistsError
            As `os.open`.
        CorruptCollectionError
            When it is a link, or no regular file.
        StorageError
            When the system refuses for another reason.
        """
        where, relative = self._at(name)
        if self._fd is None:
            self.check_regular(name)
        with storage_errors(self.path / name, "created" if flags & os.O_CREAT else "opened"):
            try:
                fd = os.open(where, flags | _CAREFULLY, mode, **relative)
            except OSError as err:
                if err.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EEXIST):
                    self.check_regular(name)
                raise
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise self._not_ours(name, "not a regular file")
            return fd

    def sub(self, name: str, *, create: bool = False) -> Directory:
        """Open a directory in this one.

        Raises
        ------
        FileNotFoundError
            When there is none.
        CorruptCollectionError
            When it is a link or a file.
        """
        where, relative = self._at(name)
        with storage_errors(self.path / name, "opened"):
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(where, 0o700, **relative)
            found = self.stat(name)
            if found is not None and not stat.S_ISDIR(found.st_mode):
                raise self._not_ours(name, "a link" if stat.S_ISLNK(found.st_mode) else "not a folder")
            if self._fd is None:
                return Directory(self.path / name)
            inner = Directory.__new__(Directory)
            inner.path = self.path / name
            inner._hold(os.open(name, os.O_RDONLY | _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd))
            return inner

    def hold(self, name: str, *, write: bool = False) -> HeldFile:
        """Open a regular file that is there and hold it; see `open`."""
        return HeldFile(self.open(name, os.O_RDWR if write else os.O_RDONLY), writable=write)

    def names(self) -> list[str]:
        """Return the names of all entries."""
        if self._fd is None:
            return os.listdir(self.path)
        with storage_errors(self.path, "read"):
            return self._listed(self._fd)

    @staticmethod
    def _listed(directory: int) -> list[str]:
        fd = os.open(
            ".", os.O_RDONLY | _DIRECTORY, dir_fd=directory
        )  # listing moves a position, which threads would share
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def replace(self, old: str, new: str) -> None:
        """Give an entry another name, in place of what has it."""
        if self._fd is None:
            os.replace(self.path / old, self.path / new)
        else:
            os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def link_from(self, other: Directory, name: str) -> None:
        """Make a hard link to a file of another directory, under the same name."""
        if self._fd is None or other._fd is None:
            os.link(other.path / name, self.path / name, follow_symlinks=False)
        else:
            os.link(name, name, src_dir_fd=other._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def remove(self, name: str) -> bool:
        """Delete a file or a link (not what it leads to) that is no longer wanted; tells whether nothing is there now."""
        where, relative = self._at(name)
        try:
            os.unlink(where, **relative)
        except FileNotFoundError:
            return True
        except OSError:  # a leftover is removed by the next open
            return False
        return True

    def remove_tree(self, name: str) -> bool:
        """Delete an entry with all that is in it; links are deleted, never followed."""
        found = self.stat(name)
        if found is None:
            return True
        if not stat.S_ISDIR(found.st_mode):
            return self.remove(name)
        where, relative = self._at(name)
        for _ in range(_DELETIONS):
            shutil.rmtree(where, ignore_errors=True, dir_fd=relative.get("dir_fd"))
            if self.stat(name) is None:
                return True
        return False

    def sync(self) -> None:
        """Make created, renamed and deleted names survive power loss."""
        if self._fd is None:
            sync_directory(self.path)
            return
        with storage_errors(self.path):
            os.fsync(self._fd)

    def native_path(self) -> str:
        """Return a path for libraries that take nothing else, which leads to this very directory where the system has one."""
        held = f"/proc/self/fd/{self._fd}"
        return held if self._fd is not None and os.path.isdir(held) else str(self.path)

    def check_regular(self, name: str) -> None:
        """Raise `CorruptCollectionError` when an entry is a link or anything else than a regular file."""
        found = self.stat(name)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise self._not_ours(name, "a link" if stat.S_ISLNK(found.st_mode) else "not a regular file")

    def _not_ours(self, name: str, what: str) -> CorruptCollectionError:
        return CorruptCollectionError(
            f"{self.path / name} is {what}; Octavo makes no such thing and follows none inside a collection: see "
            "where it leads, then remove it or restore the file from a backup"
        )


# ---------------------------------------------------------------------- in one step


def write_atomically(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Write a file so that a reader, a crash or a power cut sees all of it or the one before.

    Parameters
    ----------
    path : Path
        The file; missing folders above it are created.
    data : str or bytes
        Its content; text is written as UTF-8.
    private : bool, default=False
        Let nobody but its owner read it; otherwise as the user's umask says.
    """
    if not path.parent.is_dir():
        make_directory(path.parent, 0o700 if private else 0o777)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    with storage_errors(path):
        try:
            with os.fdopen(os.open(draft, flags, 0o600 if private else 0o666), "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
            sync_directory(path.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def fresh_directory(destination: Path, what: str, *, replace: bool = False) -> Iterator[Path]:
    """Make a directory that appears in one step, complete, or not at all.

    Parameters
    ----------
    destination : Path
        A directory that does not exist or is empty. A link to a directory means that directory; the link stays.
    what : str
        What will be there, as the message calls it.
    replace : bool, default=False
        Take the place of what is there, in one step where the system has one. The caller knows that it may be lost.

    Yields
    ------
    Path
        An empty directory beside it, to be filled; every file in it is to be synced.

    Raises
    ------
    ParameterError
        When there is something at the destination.
    StorageError
        When the system refuses; nothing has changed then.
    """
    with storage_errors(destination):
        target = followed(destination)
        occupied = is_occupied(target)
        if occupied and not replace:
            raise ParameterError(f"expected a new or empty directory for {what}, but {destination} holds something")
        make_directory(target.parent)
        draft = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
        try:
            draft.mkdir(0o700)
            yield draft
            sync_directory(draft)
            if occupied:
                shutil.rmtree(put_in_place_of(draft, target), ignore_errors=True)
            else:
                put_in_place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # gone already where all went well


def followed(path: Path) -> Path:
    """Return what a link leads to, and any other path as it is.

    Raises
    ------
    ParameterError
        When it leads nowhere.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if not target.exists():
        raise ParameterError(
            f"expected {path} to be a folder or a place for a new one, but it is a link to {target}, which "
            "does not exist"
        )
    return target


def is_occupied(path: Path) -> bool:
    """Tell whether there is something at a path other than an empty directory."""
    with storage_errors(path, "read"):
        return path.exists() and (not path.is_dir() or any(path.iterdir()))


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
        ours = _identity(draft)
        try:
            os.replace(draft, destination)
            sync_directory(destination.parent)
        except BaseException:  # what failed may have been done all the same
            if _identity(destination) == ours:
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
        ours, theirs, aside = _identity(draft), _identity(destination), draft.with_name(f"{draft.name}.old")
        try:
            exchanged = _exchange(draft, destination)
            if not exchanged:
                os.replace(destination, aside)
                os.replace(draft, destination)
            sync_directory(destination.parent)
        except BaseException:  # what failed may have been done all the same
            if _identity(destination) == ours and _identity(draft) == theirs:
                _exchange(draft, destination)
            elif _identity(destination) == ours:
                os.replace(destination, draft)
            if _identity(aside) == theirs:
                os.replace(aside, destination)
            raise
    return draft if exchanged else aside


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a directory from all others, whatever it is called; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
