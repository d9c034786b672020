"""The SQLite database of a collection: schema, connections, transactions.

WAL mode with ``synchronous=FULL``: a committed transaction survives ``kill -9`` and power loss, readers never wait for the
writer. The write lock is SQLite's own and is released by the operating system when a process dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import uuid
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from octavo._files import ADVICE, storage_errors
from octavo.errors import CollectionLockedError, CorruptCollectionError, ParameterError, ReadOnlyError, StorageError
from octavo.store._manifest import FORMAT_VERSION, check_manifest
from octavo.store.metadata import index as _metadata_index

DATABASE_NAME = "octavo.db"

#: Values bound in one statement; SQLite takes 32,766 since 3.32 and 999 before.
_BOUND_VALUES = 900

#: What SQLite says of a damaged file in an error that it also raises for other reasons.
_DAMAGE = ("malformed", "corrupt", "no such table", "no such column", "not decode to UTF-8")

#: SQLite's primary result codes of a disk that is full (SQLITE_FULL) or failing (SQLITE_IOERR).
_DISK_ERRORS = {13: errno.ENOSPC, 10: errno.EIO}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS manifest (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL, payload TEXT,
    crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tombstones (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS tombstones_by_seq ON tombstones (seq);
CREATE TABLE IF NOT EXISTS blocks (
    tier INTEGER NOT NULL, block INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (tier, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS artifacts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def document_crc(identifier: str, text: str, metadata: str, payload: str | None) -> int:
    """Return the checksum stored beside a document; SQLite itself does not notice a flipped bit inside a value."""
    try:
        crc = zlib.crc32(metadata.encode(), zlib.crc32(text.encode(), zlib.crc32(identifier.encode())))
        return zlib.crc32(payload.encode(), crc) if payload is not None else crc
    except AttributeError:
        return -1  # a damaged page gives values of any type; no stored checksum is negative


class Database:
    """Connections to one database: one a thread for reading, one for writing.

    Parameters
    ----------
    directory : Path or None
        The collection's directory; None keeps the database in memory.
    lock_timeout : float
        Seconds to wait for another writer.
    read_only : bool
        Refuse writes.
    """

    def __init__(self, directory: Path | None, *, lock_timeout: float, read_only: bool) -> None:
        self._directory = directory
        self._path = directory / DATABASE_NAME if directory is not None else None
        self._lock_timeout = lock_timeout
        self.read_only = read_only
        self._memory_name = f"octavo-{uuid.uuid4().hex}"
        self._local = threading.local()
        self._write_lock = threading.RLock()
        self._writer: _Connection | None = None
        self._unsettled = False  # a commit has failed and its frames may still be in the log
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._closed = False
        self._anchor = self._connect() if directory is None else None  # keeps an in-memory database alive

    @property
    def path(self) -> Path | None:
        """The database file."""
        return self._path

    def create_schema(self) -> None:
        """Create the tables; harmless when they exist."""
        with self.write() as connection:
            for statement in (_SCHEMA + _metadata_index.DDL).split(";"):
                if statement.strip():
                    connection.execute(statement)

    @contextlib.contextmanager
    def calling(self, what: str) -> Iterator[None]:
        """Say that this thread now runs a function of the caller's, inside a transaction: it must not begin another one."""
        before, self._local.calling = getattr(self._local, "calling", None), what
        try:
            yield
        finally:
            self._local.calling = before

    def _check_not_calling(self) -> None:
        if (what := getattr(self._local, "calling", None)) is not None:
            raise ParameterError(
                f"{what} must not search or change the collection that is calling it; look first, and keep what was found"
            )

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection inside a read transaction: one consistent state from start to end."""
        self._check_not_calling()
        connection = self._reader()
        with translate_errors(self.path):
            connection.execute("BEGIN")
            try:
                if self._directory is None:
                    # Take the lock now. A database in memory has no write-ahead log: readers wait for a writer's commit,
                    # and must not do so later, when they may hold a lock that the writer waits for.
                    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
                yield connection
            finally:
                if connection.in_transaction:  # SQLite ends it by itself when the disk fails
                    connection.execute("COMMIT")

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield the writing connection inside a transaction; commits on leaving, rolls back on an exception.

        Raises
        ------
        CollectionLockedError
            When another writer held the lock for longer than the lock timeout.
        ReadOnlyError
            When the collection was opened for reading.
        """
        self._check_not_calling()
        if self.read_only:
            raise ReadOnlyError("the collection was opened with read_only=True; open it without to write")
        if not self._write_lock.acquire(timeout=self._lock_timeout):
            raise CollectionLockedError(
                f"another thread has been writing for more than {self._lock_timeout:g} s; try again or raise lock_timeout"
            )
        try:
            with translate_errors(self.path):
                connection = self._writing_connection()
                if self._unsettled:
                    self._settle(connection)
                self._begin(connection)
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                self._commit(connection)
        finally:
            self._write_lock.release()

    def _begin(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as err:
            if _is_busy(err):
                raise CollectionLockedError(
                    f"another process holds the write lock of {self.path or 'the collection'} and did not "
                    f"release it within {self._lock_timeout:g} s; try again or raise lock_timeout"
                ) from err
            raise

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except BaseException:
            self._unsettled = self._directory is not None
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with contextlib.suppress(sqlite3.Error, OSError):
                self._settle(connection)
            raise

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Overwrite in the log what a failed commit may have left there.

        When the last step of a commit fails, say the `fsync`, its frames lie complete in the log, and a recovery would
        bring the transaction back: one that was reported as failed, and whose rows of the vector files have perhaps been
        written over since. Frames have a running checksum, so one other commit in their place makes them all void.
        """
        self._begin(connection)
        try:
            # a page is rewritten even if the value stays the same, unlike one of a table
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute(f"PRAGMA user_version = {int(version)}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self._unsettled = False

    def checkpoint(self) -> bool:
        """Fold the write-ahead log into the database file and empty it; False when others still read from it."""
        if self._directory is None or self.read_only:
            return True
        with self._write_lock, contextlib.suppress(sqlite3.Error, OSError):
            busy = self._writing_connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return not busy
        return False

    def vacuum(self) -> bool:
        """Rewrite the database file without the space of deleted rows; returns what `checkpoint` does.

        Raises
        ------
        StorageError
            When there is no space for it, or the disk fails; nothing but the space is missing then.
        """
        with self._write_lock, translate_errors(self.path):
            self._writing_connection().execute("VACUUM")
        return self.checkpoint()

    def load_from(self, source: sqlite3.Connection) -> None:
        """Replace everything in this in-memory database by a copy of what another connection sees."""
        image = bytearray(source.serialize())
        image[18:20] = b"\x01\x01"  # "not WAL" in the file header: a database in memory has no write-ahead log
        with self._write_lock, translate_errors(self.path), contextlib.closing(sqlite3.connect(":memory:")) as plain:
            plain.deserialize(bytes(image))
            plain.backup(self._writing_connection())

    def close(self) -> None:
        """Close every connection of this process."""
        with self._write_lock:
            self._closed = True
            for connection in list(self._connections):
                if connection.pid == os.getpid():
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
            self._writer = None
            self._anchor = None

    def _reader(self) -> sqlite3.Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.pid != os.getpid():
            _abandon(connection)
            connection = self._local.connection = self._connect()
        return connection

    def _writing_connection(self) -> sqlite3.Connection:
        if self._writer is None or self._writer.pid != os.getpid():
            _abandon(self._writer)
            self._writer = self._connect()
        return self._writer

    def _connect(self) -> _Connection:
        with translate_errors(self.path):
            if self._directory is None:
                connection = self._open_uri(f"file:/{self._memory_name}?vfs=memdb")
            elif self.read_only:
                connection = self._open_read_only()
            else:
                # SQLite would create it readable for everybody; its companions take over the permissions.
                path = self._directory / DATABASE_NAME
                with storage_errors(path, "created"), contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                connection = self._open_uri(f"file:{quote(str(path))}?mode=rw")
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                except UnicodeDecodeError as err:  # what SQLite says of a damaged name of a table
                    raise CorruptCollectionError(f"{path} is damaged ({err}); restore it from a backup") from err
                connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA cell_size_check=ON")  # looks at each page that is read for nonsense
            connection.execute("PRAGMA cache_size=-8000")
        self._connections.add(connection)
        return connection

    def _open_read_only(self) -> _Connection:
        uri = f"file:{quote(str(self.path))}?mode=ro"
        connection = self._open_uri(uri)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            # WAL needs a file of shared memory beside the database, which cannot be made on a read-only file system.
            # Once the last writer has closed, there is no log left and the database can be read as it stands.
            log = Path(f"{self.path}-wal")
            connection.close()
            if log.exists() and log.stat().st_size:
                raise
            connection = self._open_uri(f"{uri}&immutable=1")
        return connection

    def _open_uri(self, uri: str) -> _Connection:
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self._lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
            cached_statements=256,
        )
        connection.pid = os.getpid()
        return connection


class _Connection(sqlite3.Connection):
    """A connection that knows which process opened it, and that closes itself when its thread is gone."""

    pid: int = 0

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.close()


#: Connections of the parent process. SQLite wants them neither used nor closed on this side of a fork.
_ABANDONED: list[_Connection] = []


def _abandon(connection: _Connection | None) -> None:
    if connection is not None:
        _ABANDONED.append(connection)


@contextlib.contextmanager
def translate_errors(path: Path | None) -> Iterator[None]:
    """Turn SQLite's errors about damaged files and failing disks into errors that name the file and what to do."""
    try:
        yield
    except sqlite3.DatabaseError as err:
        name = str(path) if path is not None else "the in-memory database"
        if isinstance(err, sqlite3.OperationalError):
            if _is_busy(err):
                raise CollectionLockedError(f"{name} stayed locked by another process: {err}") from err
            if (number := _DISK_ERRORS.get(getattr(err, "sqlite_errorcode", 0) & 0xFF)) is not None:
                raise StorageError(number, f"{name} could not be read or written: {err}; {ADVICE}") from err
            if "readonly" in str(err) or "read-only" in str(err) or "unable to open" in str(err):
                raise ReadOnlyError(
                    f"{name} cannot be written: {err}; open it with read_only=True to search it"
                ) from err
            if not any(sign in str(err) for sign in _DAMAGE):
                raise
        elif isinstance(err, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
            raise
        raise CorruptCollectionError(f"{name} is damaged ({err}); restore it from a backup") from err


def _is_busy(err: sqlite3.OperationalError) -> bool:
    return getattr(err, "sqlite_errorcode", 0) & 0xFF in (5, 6) or "locked" in str(err)


def select_documents(
    connection: sqlite3.Connection, columns: str, key: Literal["slot", "id"], values: Sequence[int] | Sequence[str]
) -> Iterator[Any]:
    """Yield columns of the documents whose slot or id is among `values`, in no particular order; absent ones are left out."""
    for start in range(0, len(values), _BOUND_VALUES):
        part = values[start : start + _BOUND_VALUES]
        marks = ",".join("?" * len(part))
        yield from connection.execute(f"SELECT {columns} FROM documents WHERE {key} IN ({marks})", part)


def read_manifest(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return all manifest entries, checked unless there are none yet or a later version wrote them."""
    manifest = dict(connection.execute("SELECT key, value FROM manifest").fetchall())
    return check_manifest(manifest) if manifest.get("format_version") == FORMAT_VERSION else manifest


def write_manifest(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    """Set manifest entries."""
    connection.executemany("INSERT OR REPLACE INTO manifest VALUES (?, ?)", list(values.items()))
