"""The locks of a collection between processes: ``octavo.lock``, and what protects SQLite's own.

SQLite locks with POSIX record locks. Those belong to a process and a file, and the operating system drops them all as soon
as the process closes *any* descriptor of that file: a checksum, a copy or an upload of ``octavo.db`` within the process that
has it open is enough. Locks of *open file descriptions* (Linux) have no such fault, and the two kinds see each other.
``docs/decisions/locks.md`` tells which of SQLite's locks matter, and how each is made up for:

- Writers take turns through tickets, first come, first served (`LockFile.turn`). A checkpoint belongs to a turn.
- Each read transaction is announced (`ReadLock`), and a checkpoint waits for those that run (`LockFile.no_readers`).
- Each open collection is announced; the last one to close may remove the write-ahead log (`LockFile.try_alone`).
- `Shadow` holds the two locks that SQLite keeps for as long as a database is open a second time, in a way that lasts.

A process that dies lets go of everything. On other systems than Linux `LockFile` is an ``flock`` that writers poll, and the
rest is left to SQLite; on Windows all of it is, whose locks do not have this fault.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from octavo._files import storage_errors
from octavo.errors import CollectionLockedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "octavo.lock"

#: Bytes of the lock file, far beyond its end. A ticket's byte is its number.
_MUTEX, _TURN, _ENTRANCE, _READERS, _OPEN = ((1 << 61) + number for number in range(5))

#: Locks that SQLite (``os_unix.c``) holds for as long as a database in WAL mode is open: the shared range of the database
#: file, and the "dead man's switch" of the file of shared memory. Whoever finds the latter free empties that file.
_SHARED_FIRST, _SHARED_BYTES = 0x4000_0000 + 2, 510
_DEAD_MANS_SWITCH = 128

_MOST_TICKETS = 1 << 60

#: ``struct flock``: type, whence, start, length, process (0 for locks of open file descriptions).
_FLOCK = struct.Struct("hhqqi4x")

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_TAKEN = (errno.EAGAIN, errno.EACCES)


def _has_descriptions() -> bool:
    return hasattr(fcntl, "F_OFD_SETLK") and struct.calcsize("P") == 8


def _lock(fd: int, kind: str, start: int, length: int = 1) -> bool:
    """Take ("shared", "exclusive") or give up ("none") a lock of an open file description; False when another has it."""
    return _set(fd, _packed(kind, start, length))


def _packed(kind: str, start: int, length: int) -> bytes:
    number = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "none": fcntl.F_UNLCK}[kind]
    return _FLOCK.pack(number, os.SEEK_SET, start, length, 0)


def _set(fd: int, lock: bytes) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
    except OSError as err:
        if err.errno in _TAKEN:
            return False
        raise
    return True


def _give_up(fd: int, start: int) -> None:
    """Give up a lock; a descriptor that another thread has closed meanwhile (-1) has none any more."""
    if fd >= 0:
        _lock(fd, "none", start)


def _taken(fd: int, start: int, length: int) -> bool:
    """Tell whether another open file description has a lock in this range."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    return bool(_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


class _Patience:
    """Sleep a little longer each time, until a deadline."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = 0.000_25

    def wait(self) -> bool:
        """Sleep; False when the time is up."""
        left = self._end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, self._pause))
        self._pause = min(self._pause * 1.25, 0.005)
        return True


def _open(path: Path, *, read_only: bool) -> int:
    """Open a lock file, making it where it is missing and may be made; -1 where a reader cannot have it."""
    flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    if not read_only:
        with storage_errors(path, "created"):
            return os.open(path, os.O_RDWR | flags, 0o600)
    try:
        return os.open(path, os.O_RDWR | flags, 0o600)
    except OSError as err:
        if err.errno in (errno.EMFILE, errno.ENFILE):
            with storage_errors(path, "opened"):
                raise
    try:  # enough to announce a reader
        return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # a copy without it, on a file system that takes none
        return -1


class LockFile:
    """One handle's place among those that have a collection open, and its turns to write.

    Parameters
    ----------
    directory : Path
        The collection's directory.
    read_only : bool
        Only announce that the collection is open; works where nothing can be written.
    patience : float
        Seconds to wait while another process is removing the write-ahead log.

    Raises
    ------
    CollectionLockedError
        When that process does not come to an end.
    """

    def __init__(self, directory: Path, *, read_only: bool, patience: float) -> None:
        self.path = directory / LOCK_NAME
        self._ticket = self._fd = -1
        self._fd = _open(self.path, read_only=read_only) if fcntl is not None else -1
        self._whole = False
        if self._fd < 0:
            return
        waiting = _Patience(patience)
        try:
            while not self._announce():
                if not waiting.wait():
                    raise CollectionLockedError(
                        f"another process has been closing {directory} for more than {patience:g} s; try again"
                    )
        except BaseException:
            self.close()
            raise

    def _announce(self) -> bool:
        if _has_descriptions():
            try:
                return _lock(self._fd, "shared", _OPEN)
            except OSError as err:
                if err.errno not in _UNSUPPORTED:
                    raise
        self._whole = True  # a system, or a file system, that knows only locks of whole files
        return True

    @property
    def announces(self) -> bool:
        """Whether those that read, and those that have the collection open, can be told from here."""
        return self._fd >= 0 and not self._whole

    @contextlib.contextmanager
    def turn(self, patience: float, *, of: float | None = None) -> Iterator[None]:
        """Wait for the turn to write, for as many seconds at most; writers are served in the order in which they came.

        Parameters
        ----------
        patience : float
            The seconds.
        of : float or None
            What the caller was told to wait in all, for the message.

        Raises
        ------
        CollectionLockedError
            When the turn did not come.
        """
        if self._fd < 0:
            yield
            return
        try:
            with storage_errors(self.path, "locked"):
                taken = self._take(_Patience(patience))
        except (ValueError, OSError):
            if self._fd >= 0:
                raise
            taken = True  # closed meanwhile by another thread: what comes next says so, as it does below zero above
        if not taken:
            raise CollectionLockedError(
                f"others have been writing to {self.path.parent} for more than {patience if of is None else of:g} s; "
                "try again or raise lock_timeout"
            )
        try:
            yield
        finally:
            self._give_back()

    def _take(self, waiting: _Patience) -> bool:
        granted = False
        try:
            granted = self._take_whole(waiting) if self._whole else self._take_in_order(waiting)
        finally:
            if not granted:
                self._give_back()
        return granted

    def _take_whole(self, waiting: _Patience) -> bool:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as err:
                if err.errno in _UNSUPPORTED:
                    return True  # no locks at all: SQLite's own have to do
                if err.errno not in _TAKEN:
                    raise
                if not waiting.wait():
                    return False
            else:
                return True

    def _take_in_order(self, waiting: _Patience) -> bool:
        while not _lock(self._fd, "exclusive", _MUTEX):
            if not waiting.wait():
                return False
        try:
            self._ticket = int.from_bytes(os.pread(self._fd, 8, 0), "little") % _MOST_TICKETS
            os.pwrite(self._fd, (self._ticket + 1).to_bytes(8, "little"), 0)
            _lock(self._fd, "exclusive", self._ticket)
        finally:
            _give_up(self._fd, _MUTEX)
        while self._ticket and _taken(self._fd, 0, self._ticket):
            if not waiting.wait():
                return False
        while not _lock(self._fd, "exclusive", _TURN):  # the tickets are an order; this is what excludes
            if not waiting.wait():
                return False
        return True

    def _give_back(self) -> None:
        if self._fd < 0:  # a child's, which gave up what the parent has
            return
        if self._whole:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            return
        _give_up(self._fd, _TURN)
        if self._ticket >= 0:
            _give_up(self._fd, self._ticket)
            self._ticket = -1

    @contextlib.contextmanager
    def no_readers(self, patience: float) -> Iterator[bool]:
        """Keep readers out for a moment, if they leave within some seconds; yields whether they are out.

        Only during a turn. Readers that come meanwhile wait.
        """
        if not self.announces:
            yield True
            return
        waiting = _Patience(patience)
        out = False
        try:
            while not (out := _lock(self._fd, "exclusive", _ENTRANCE)) and waiting.wait():
                pass
            if out:
                while not (out := _lock(self._fd, "exclusive", _READERS)) and waiting.wait():
                    pass
            yield out
        finally:
            if self._fd >= 0:
                _lock(self._fd, "none", _ENTRANCE, 2)

    def try_alone(self) -> bool:
        """Tell whether nobody else has the collection open; nobody can open it then before `close`."""
        return self.announces and _lock(self._fd, "exclusive", _OPEN)

    def close(self) -> None:
        """Let go of everything, in a forked child only of the parent's descriptor; harmless when done already."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class ReadLock:
    """Announces the read transactions of one thread.

    Parameters
    ----------
    directory : Path
        The collection's directory.
    patience : float
        Seconds to wait while the write-ahead log is being folded into the database.
    """

    def __init__(self, directory: Path, *, patience: float) -> None:
        self._path = directory / LOCK_NAME
        self._patience = patience
        self._fd = -1
        self._fd = _open(self._path, read_only=True)
        # each reading takes three of them
        self._come, self._in = _packed("shared", _ENTRANCE, 2), _packed("none", _ENTRANCE, 1)
        self._out = _packed("none", _READERS, 1)

    def enter(self) -> None:
        """Begin to read.

        Raises
        ------
        CollectionLockedError
            When another process did not finish folding.
        """
        if self._fd < 0:
            return
        if not _set(self._fd, self._come):
            waiting = _Patience(self._patience)
            while not _set(self._fd, self._come):
                if not waiting.wait():
                    raise CollectionLockedError(
                        f"another process has been folding the write-ahead log of {self._path.parent} for more than "
                        f"{self._patience:g} s; try again"
                    )
        _set(self._fd, self._in)

    def leave(self) -> None:
        """End to read."""
        if self._fd >= 0:
            _set(self._fd, self._out)

    def close(self) -> None:
        """Let go of the descriptor; harmless when done already."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class Shadow:
    """Holds for this process what SQLite holds while a database is open, so that it lasts when SQLite's is dropped.

    One for all connections of the process to a database: closing these descriptors drops SQLite's own locks, so that happens
    only when the last connection has gone. Made by `Shadow.of` once a connection has read, and released once it is closed.
    """

    _all: dict[tuple[int, int], Shadow] = {}  # noqa: RUF012 (one registry for the process)
    _registry = threading.Lock()
    _released: deque[Shadow] = deque()  # noqa: RUF012 - one entry for each user that has gone and is not yet counted

    def __init__(self, key: tuple[int, int], database: Path) -> None:
        self._key = key
        self._users = 0
        self._fds: list[int] = []
        try:
            for path, start, length in (
                (database, _SHARED_FIRST, _SHARED_BYTES),
                (database.with_name(f"{database.name}-shm"), _DEAD_MANS_SWITCH, 1),
            ):
                fd = os.open(path, os.O_RDONLY)
                self._fds.append(fd)
                _lock(fd, "shared", start, length)
        except BaseException:
            self._drop()
            raise

    @classmethod
    def of(cls, database: Path) -> Shadow | None:
        """Return the shadow of a database that is open in this process; None where locks know no descriptions."""
        if not _has_descriptions():
            return None
        with cls._registry:
            try:
                with storage_errors(database, "locked"):
                    found = database.stat()
                    key = found.st_dev, found.st_ino
                    shadow = cls._all.get(key)
                    if shadow is None:
                        shadow = cls._all[key] = cls(key, database)
            except OSError as err:
                if err.errno in _UNSUPPORTED or isinstance(err, FileNotFoundError | PermissionError):
                    return None  # an immutable database has no file of shared memory
                raise
            shadow._users += 1
        cls._settle()
        return shadow

    def release(self) -> None:
        """Let go, once for each `of`.

        Connections are destroyed wherever Python collects garbage, within `of` too: so this never waits for the registry. Who
        has it does the rest.
        """
        self._released.append(self)
        self._settle()

    @classmethod
    def _settle(cls) -> None:
        while cls._released and cls._registry.acquire(blocking=False):
            try:
                while cls._released:
                    shadow = cls._released.popleft()
                    shadow._users -= 1
                    if shadow._users == 0:
                        if cls._all.get(shadow._key) is shadow:
                            del cls._all[shadow._key]
                        shadow._drop()
            finally:
                cls._registry.release()

    def _drop(self) -> None:
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds = []

    @classmethod
    def forget(cls) -> None:
        """In a forked child: close the parent's descriptors, which does not take the locks from the parent."""
        cls._registry, cls._released = threading.Lock(), deque()
        inherited, cls._all = cls._all, {}
        for shadow in inherited.values():
            shadow._drop()
