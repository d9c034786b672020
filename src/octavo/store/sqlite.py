"""SQLite as Octavo uses it: connections that checksum each page and run nothing that a file brings along.

The only module that knows `apsw`. Everybody else takes a `Connection` and catches `octavo.errors`; ``docs/decisions/apsw.md``
says why it is apsw.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import apsw
import apsw.sqlite_extra

from octavo._files import ADVICE
from octavo.errors import (
    CollectionClosedError,
    CollectionLockedError,
    CorruptCollectionError,
    MissingExtraError,
    ParameterError,
    ReadOnlyError,
    StorageError,
)

#: Whatever SQLite raises.
Error = apsw.Error

#: Whatever comes out of a statement whose values, or those that it gives, are not what they should be.
Raised = (apsw.Error, UnicodeError, OverflowError)

#: What says that the disk, or the file, has failed a connection, rather than a statement.
Failures = (
    apsw.IOError,
    apsw.CantOpenError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
)

#: Bytes of each page that hold its checksum.
CHECKSUM_BYTES = 8

#: A name under which SQLite keeps a database in memory ends at so many bytes, unless it is told otherwise.
_MEMORY_BYTES = 1 << 46

_VFS = "cksmvfs"
_loading = threading.Lock()
_loaded = False

#: What a statement may be at most. Octavo's own are far below; a crafted file should not come near the defaults.
_LIMITS = {
    apsw.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 100,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    apsw.SQLITE_LIMIT_COLUMN: 100,
    apsw.SQLITE_LIMIT_VDBE_OP: 100_000,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_ATTACHED: 1,  # VACUUM attaches the new file
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}

_SWITCHES = {
    apsw.SQLITE_DBCONFIG_DEFENSIVE: 1,
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE: 0,
    apsw.SQLITE_DBCONFIG_DQS_DDL: 0,
    apsw.SQLITE_DBCONFIG_DQS_DML: 0,
    apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE: 1,  # the last one to close does it by itself, under a lock that lasts
}


class Rows(Protocol):
    """The rows that a statement gives."""

    def __iter__(self) -> Iterator[Any]: ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""


class Connection(apsw.Connection):
    """A connection to the database of a collection; use it in the thread, and inside the transaction, that it was lent for.

    ``execute(sql, values)`` and ``executemany(sql, rows)`` give cursors, which iterate over rows as tuples and have
    ``fetchone()`` and ``fetchall()``.
    """

    if TYPE_CHECKING:  # a row's values have the types that the statement says, which apsw cannot know

        def execute(self, sql: str, values: Sequence[Any] | None = None) -> Rows: ...  # type: ignore[override]

        def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Rows: ...  # type: ignore[override]

    def copy_into(self, target: apsw.Connection) -> None:
        """Replace everything in another database by what this connection sees."""
        with target.backup("main", self, "main") as backup:
            backup.step(-1)

    def set_patience(self, seconds: float) -> None:
        """Wait so long for locks of SQLite's own."""
        self.set_busy_timeout(int(min(seconds * 1000, 2**31 - 1)))

    @property
    def checks_pages(self) -> bool:
        """Whether pages have checksums, and are compared with them."""
        return str(self.pragma("checksum_verification")) == "1"

    @contextlib.contextmanager
    def bounded(self, steps: int, what: str) -> Iterator[None]:
        """Interrupt what takes more than so many steps of SQLite's machine.

        Raises
        ------
        CorruptCollectionError
            When it does: no database that Octavo has written makes it take so long.
        """
        used = 0

        def count() -> bool:
            nonlocal used
            used += 1
            return used > steps // _STEPS

        self.set_progress_handler(count, _STEPS)
        try:
            yield
        except apsw.InterruptError as err:
            raise CorruptCollectionError(f"{what} takes SQLite endless time to read; restore it from a backup") from err
        finally:
            self.set_progress_handler(None)


_STEPS = 1_000


def connect_memory(name: str, *, patience: float) -> Connection:
    """Open a database in this process's memory that all connections to the same name share while one of them is open."""
    connection = _connect(f"file:/{quote(name)}?vfs=memdb", _READ_WRITE, patience)
    limit = ctypes.c_int64(_MEMORY_BYTES)
    connection.file_control("main", apsw.SQLITE_FCNTL_SIZE_LIMIT, ctypes.addressof(limit))
    connection.reserve_bytes(reserve=CHECKSUM_BYTES)  # as in a file, so that it can be copied into one
    return connection


def connect_scratch() -> Connection:
    """Open an empty database in memory that nobody else sees."""
    return _connect(":memory:", _READ_WRITE | apsw.SQLITE_OPEN_CREATE, 0)


def connect_file(path: Path, *, patience: float, read_only: bool = False, immutable: bool = False) -> Connection:
    """Open a database file that is there.

    Raises
    ------
    MissingExtraError
        When apsw came without the checksums.
    """
    _load_checksums()
    uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}{'&immutable=1' if immutable else ''}"
    connection = _connect(uri, apsw.SQLITE_OPEN_READONLY if read_only else _READ_WRITE, patience, vfs=_VFS)
    persist = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(persist))
    return connection


def prepare_empty(connection: Connection) -> None:
    """Give a database that has no page yet the form of Octavo's: checksums, write-ahead log."""
    connection.reserve_bytes(reserve=CHECKSUM_BYTES)
    connection.pragma("journal_mode", "wal")


def fold_on_close(connection: Connection) -> None:
    """Have SQLite fold the write-ahead log into the database when the connection closes, and delete it."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    persist = ctypes.c_int(0)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(persist))


def fold(connection: Connection, *, empty: bool) -> bool:
    """Copy the write-ahead log into the database, and with `empty` truncate it; False when somebody else is in the way."""
    mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if empty else apsw.SQLITE_CHECKPOINT_PASSIVE
    try:
        frames, copied = connection.wal_checkpoint("main", mode)
    except (apsw.BusyError, apsw.LockedError):
        return False
    return frames == copied


_READ_WRITE = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE


def _connect(name: str, flags: int, patience: float, vfs: str | None = None) -> Connection:
    connection = Connection(name, flags | apsw.SQLITE_OPEN_URI, vfs, 256)
    for switch, value in _SWITCHES.items():
        connection.config(switch, value)
    for limit, value in _LIMITS.items():
        connection.limit(limit, value)
    connection.set_patience(patience)
    connection.wal_autocheckpoint(0)  # done in turns, see `Database`
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("cell_size_check", True)  # looks at each page that is read for nonsense
    connection.pragma("cache_size", -8000)
    return connection


def _load_checksums() -> None:
    """Make SQLite's page checksums known to it, once a process, and leave what others open in it as it was."""
    global _loaded
    with _loading:
        if _loaded:
            return
        before = apsw.vfs_names()[0]
        try:
            with contextlib.closing(apsw.Connection(":memory:")) as any_connection:
                apsw.sqlite_extra.load(any_connection, "cksumvfs")
        except (apsw.sqlite_extra.NotAvailable, apsw.Error, LookupError, OSError) as err:
            raise MissingExtraError(
                f"octavo needs apsw with SQLite's page checksums (cksumvfs), which its wheels bring along: {err}. "
                "Install the wheel: pip install --only-binary apsw apsw"
            ) from err
        apsw.set_default_vfs(before)
        _loaded = True


# ---------------------------------------------------------------------- errors

_DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.MismatchError)

#: What SQLite's I/O errors say of content rather than of the disk: a checksum, and a file that ends early.
_DAMAGED_CONTENT = (apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_SHORT_READ)


@contextlib.contextmanager
def translate_errors(path: Path | None) -> Iterator[None]:
    """Turn what SQLite raises into errors that name the file and what to do.

    What is left as it is says that a statement was wrong, which no user of Octavo has written.
    """
    try:
        yield
    except Raised as err:
        found = translated(err, path)
        if found is None:
            raise
        raise found from err


def translated(err: Exception, path: Path | None) -> Exception | None:
    """Return the error that `translate_errors` turns one of those in `Raised` into; None for what is left as it is."""
    name = str(path) if path is not None else "the in-memory database"
    backup = "restore it from a backup"
    if isinstance(err, UnicodeError | OverflowError):
        if not _raised_by_octavo(err.__traceback__):
            return None
        if isinstance(err, UnicodeDecodeError):
            return CorruptCollectionError(f"{name} is damaged ({err}); {backup}")
        if isinstance(err, UnicodeEncodeError):
            return ParameterError(f"expected valid Unicode, but a value for the database holds a lone surrogate: {err}")
        return ParameterError(f"expected an integer of at most 64 bits, but a value for the database is larger: {err}")
    if isinstance(err, apsw.BusyError | apsw.LockedError):
        return CollectionLockedError(f"{name} stayed locked by another process: {err}; try again or raise lock_timeout")
    if isinstance(err, apsw.IOError):
        extended = getattr(err, "extendedresult", 0)
        if extended == apsw.SQLITE_IOERR_DATA:
            return CorruptCollectionError(
                f"{name} is damaged: a page does not match its checksum; run verify(), and {backup} what it cannot repair"
            )
        if extended in _DAMAGED_CONTENT:
            return CorruptCollectionError(f"{name} is damaged ({err}); {backup}")
        return StorageError(errno.EIO, f"{name} could not be read or written: {err}; {ADVICE}")
    if isinstance(err, apsw.FullError):
        full = "free memory" if path is None else ADVICE
        return StorageError(errno.ENOSPC, f"{name} could not be written: {err}; {full}")
    if isinstance(err, apsw.NoMemError):
        return StorageError(errno.ENOMEM, f"there is not enough memory for {name}: {err}; {ADVICE}")
    if isinstance(err, apsw.TooBigError):
        return ParameterError("expected values below 1,000,000,000 bytes, but one is larger; split the document")
    if isinstance(err, apsw.CantOpenError):
        return _cannot_open(err, path, name)
    if isinstance(err, apsw.ReadOnlyError | apsw.PermissionsError):
        return ReadOnlyError(f"{name} cannot be written: {err}; open it with read_only=True to search it")
    if isinstance(err, apsw.InterruptError | apsw.ConnectionClosedError | apsw.CursorClosedError):
        return CollectionClosedError("the collection was closed meanwhile; open it again with octavo.open")
    if isinstance(err, _DAMAGE) or (isinstance(err, apsw.SQLError) and str(err).startswith("no such")):
        return CorruptCollectionError(f"{name} is damaged ({err}); {backup}")
    return None


def _cannot_open(err: Exception, path: Path | None, name: str) -> Exception:
    try:  # SQLite does not tell why
        if path is not None:
            os.close(os.open(path.parent, os.O_RDONLY))
    except OSError as why:
        if why.errno in (errno.EMFILE, errno.ENFILE):
            return StorageError(why.errno, f"{name} could not be opened: {why.strerror}; close what is not needed")
    return ReadOnlyError(f"{name} cannot be opened for writing: {err}; open it with read_only=True to search it")


def _raised_by_octavo(traceback: TracebackType | None) -> bool:
    """Tell whether the innermost frame is Octavo's own, and not a function that a user gave (a filter, say)."""
    name: Any = ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return str(name).partition(".")[0] == "octavo"


def library_version() -> str:
    """Return the version of SQLite."""
    return f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()})"
