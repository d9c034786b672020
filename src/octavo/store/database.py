"""The SQLite database of a collection: who may read and write when, in which thread and process.

WAL mode with ``synchronous=FULL``: a committed transaction survives ``kill -9`` and power loss, readers never wait for the
writer. Each thread reads through a connection of its own; writers take turns, within the process and between processes. All
locks are released by the operating system when a process dies.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
import weakref
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from octavo import _forks
from octavo._files import storage_errors
from octavo.errors import (
    CollectionClosedError,
    CollectionLockedError,
    OctavoError,
    ParameterError,
    ReadOnlyError,
)
from octavo.store import sqlite
from octavo.store._locks import LockFile, ReadLock, Shadow
from octavo.store._manifest import FORMAT_VERSION, check_manifest
from octavo.store._schema import check_schema, create_tables
from octavo.store.sqlite import Connection, translate_errors

DATABASE_NAME = "octavo.db"

#: Values bound in one statement; SQLite takes 32,766.
_BOUND_VALUES = 900

#: Pages in the write-ahead log from which on a writer folds it into the database, and how many seconds it waits for readers
#: to leave then: readers wait meanwhile, so not long unless the log has become large.
_FOLD_PATIENCE = {1_000: 0.0, 8_000: 0.02, 64_000: 0.2}

#: Seconds to wait for others that prepare the same new database.
_PREPARING = 0.5

#: Seconds that a fork waits for running transactions to end.
_FORK_PATIENCE = 5.0

#: Databases, by device and inode, that this process must not touch: it was forked from one that was inside a transaction.
_unusable: set[tuple[int, int]] = set()

_CLOSED = "the collection was closed; open it again with octavo.open"


#: A document's row as `row_crc` reads it, with its checksum behind.
ROW = "id, text, metadata, payload, embed_text, flags, crc"

#: What a document's vector is made of, and what its words are, in SQL.
TO_EMBED = "coalesce(embed_text, text)"
WORDS = "CASE WHEN flags & 1 THEN coalesce(embed_text, text) ELSE text END"

#: Bits of a document's flags.
EMBED_WORDS, ENCODED, SPARSE_ENCODED = 1, 2, 4


def to_embed(row: Sequence[Any]) -> str:
    """Return what the vector of a document is made of; the row is as `ROW` says."""
    text: str = row[1] if row[4] is None else row[4]
    return text


def document_crc(
    identifier: str, text: str, metadata: str, payload: str | None, embed_text: str | None, flags: int
) -> int:
    """Return the checksum stored beside a document, which also tells a document from an older one of its own."""
    try:
        crc = zlib.crc32((identifier + text + metadata + (payload or "")).encode())
        if embed_text is not None:
            crc = zlib.crc32(embed_text.encode(), zlib.crc32(b"\0", crc))
        return zlib.crc32(b"%d" % flags, crc) if flags else crc
    except (AttributeError, TypeError):
        return -1  # a damaged page gives values of any type; no stored checksum is negative


class _Turns:
    """Let threads in one after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[int] = deque()

    def acquire(self, patience: float) -> bool:
        me = threading.get_ident()
        with self._changed:
            if me in self._waiting:
                raise ParameterError(
                    "expected one write at a time, but this thread is inside a write of the same collection (in a function "
                    "given to join_writes?); write when that has returned"
                )
            self._waiting.append(me)
            if not self._changed.wait_for(lambda: self._waiting[0] == me, min(patience, threading.TIMEOUT_MAX)):
                self._waiting.remove(me)
                self._changed.notify_all()
                return False
            return True

    def release(self) -> None:
        with self._changed:
            if self._waiting and self._waiting[0] == threading.get_ident():
                self._waiting.popleft()
                self._changed.notify_all()


class _Closing:
    """Held while a connection is being closed, which may happen wherever Python destroys one; a fork waits for it."""

    rests_last = True  # who is inside a transaction may have to close a connection to come out of it

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _forks.register(self)

    def before_fork(self) -> None:
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        self.lock.release()

    def after_fork_in_child(self) -> None:
        self.lock = threading.RLock()


_closing = _Closing()


class _Session:
    """A connection, and what belongs to it: its announcement as a reader, and its share of the locks that last."""

    def __init__(self, connection: Connection) -> None:
        self.pid = os.getpid()
        self.connection = connection
        self.read_lock: ReadLock | None = None
        self.shadow: Shadow | None = None
        self.is_open = True
        self.log = log = [0]  # pages in the write-ahead log after the last commit
        # the hook must not know the connection, or neither would ever be destroyed

        def note(_: Any, __: str, pages: int) -> int:
            log[0] = pages
            return 0

        connection.set_wal_hook(note)

    def drop_locks(self) -> None:
        """Give up all but SQLite's own locks."""
        if self.read_lock is not None:
            self.read_lock.close()
        shadow, self.shadow = self.shadow, None
        if shadow is not None:
            shadow.release()

    def close(self) -> None:
        """Close the connection; harmless when it is closed already."""
        with _closing.lock:
            self.is_open = False
            self.connection.close(True)
            self.drop_locks()

    def inherit(self, *, close: bool, keep: bool) -> None:
        """In a forked child: close the connection, keep it, or else leave it to the parent without ever destroying it."""
        self.shadow = None
        self.drop_locks()
        if close:
            self.close()
        elif not keep:
            _forks.keep_for_ever(self)
            return
        self.pid = os.getpid()

    def __del__(self) -> None:  # its thread is gone
        if self.pid == os.getpid():
            with contextlib.suppress(sqlite.Error):
                self.close()


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

    rests_last = False

    def __init__(self, directory: Path | None, *, lock_timeout: float, read_only: bool) -> None:
        self._directory = directory
        self._path = directory / DATABASE_NAME if directory is not None else None
        self._lock_timeout = lock_timeout
        self.read_only = read_only
        self._memory_name = f"octavo-{uuid.uuid4().hex}"
        self._writer: _Session | None = None
        self._unsettled = False  # a commit has failed and its frames may still be in the log
        self._closed = False
        self._sessions_closed = False
        self._refused = ""  # why this process must not use it
        self._quiet = True  # at the last fork, no transaction was running
        self._frozen = 0
        self._sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
        self._anchor: _Session | None = None
        self._begin_anew()
        if self._path is not None and _unusable and _identity(self._path) in _unusable:
            raise CollectionClosedError(_FORKED_INSIDE)
        _forks.register(self)
        try:
            if directory is None:
                self._anchor = self._connect()  # keeps an in-memory database alive
            elif not read_only:
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _begin_anew(self) -> None:
        """Have no thread inside and no connection, as in a new process."""
        self._pid = os.getpid()
        self._local = threading.local()
        self._turns = _Turns()
        self._changed = threading.Condition(threading.Lock())
        self._inside: Counter[int] = Counter()  # threads, and how many transactions they are in
        self._frozen = 0
        self._lock_file: LockFile | None = None

    @property
    def path(self) -> Path | None:
        """The database file."""
        return self._path

    def create_schema(self) -> None:
        """Create the tables; harmless when they exist.

        Raises
        ------
        CorruptCollectionError
            When there are others, or they are not as Octavo makes them.
        """
        with self.write() as connection:
            if self._path is not None:
                check_schema(connection, self._path)
            create_tables(connection)

    # ------------------------------------------------------------------ transactions

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
    def read(self) -> Iterator[Connection]:
        """Yield this thread's connection inside a read transaction: one consistent state from start to end.

        Raises
        ------
        CollectionClosedError
            When the collection was closed, or this process was forked at a moment that does not allow to use it.
        ParameterError
            When this thread is reading already.
        """
        self._check_not_calling()
        inside = self._enter()
        session: _Session | None = None
        try:  # written out rather than in five `with`: this comes before each search
            session = self._reader()
            connection, lock = session.connection, session.read_lock
            if not connection.get_autocommit():
                raise ParameterError(
                    "expected one reading of a collection at a time, but this thread is inside one (in a function given as a "
                    "filter, perhaps); read before or after it"
                )
            if lock is not None:
                lock.enter()
            try:
                connection.execute("BEGIN")
                if self._directory is None:
                    # Take the lock now. A database in memory has no write-ahead log: readers wait for a writer's commit,
                    # and must not do so later, when they may hold a lock that the writer waits for.
                    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
                yield connection
            finally:
                if session.pid == os.getpid():  # in a forked child it is the parent's
                    try:
                        if connection.in_transaction:  # SQLite ends it by itself when the disk fails
                            connection.execute("COMMIT")
                    finally:
                        if lock is not None:
                            lock.leave()
        except sqlite.Raised as err:
            if session is not None and isinstance(err, sqlite.Failures):
                self._discard(session)
            translated = sqlite.translated(err, self._path)
            if translated is None:
                raise
            raise translated from err
        except OSError:
            if session is not None:
                self._discard(session)
            raise
        finally:
            self._leave(inside)

    @contextlib.contextmanager
    def write(self, timeout: float | None = None, *, unchecked: bool = False) -> Iterator[Connection]:
        """Yield the writing connection inside a transaction; commits on leaving, rolls back on an exception.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait for other writers; None waits as long as the lock timeout says.
        unchecked : bool
            Do not compare pages with their checksums: to repair what can be.

        Raises
        ------
        CollectionLockedError
            When other writers held the lock for longer than the lock timeout.
        CollectionClosedError
            When the collection was closed, or this process was forked at a moment that does not allow to use it.
        ParameterError
            When this thread is writing already.
        ReadOnlyError
            When the collection was opened for reading.
        """
        self._check_not_calling()
        if self.read_only:
            raise ReadOnlyError("the collection was opened with read_only=True; open it without to write")
        with self._turn(timeout) as left, self._entered(), translate_errors(self._path):
            session = self._connect() if unchecked else self._writing_session()
            with self._discarded_on_error(session):
                connection = session.connection
                connection.set_patience(left)
                if unchecked:
                    connection.pragma("checksum_verification", 0)
                if self._unsettled:
                    self._settle(connection)
                self._begin(connection)
                try:
                    yield connection
                    if session.pid != os.getpid():
                        raise CollectionClosedError("a transaction cannot be committed by a process forked within it")
                except BaseException:
                    if session.pid == os.getpid() and connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                else:
                    self._commit(connection)
                    self._fold_if_due(session)
                finally:
                    if unchecked and session.pid == os.getpid():
                        session.close()

    @contextlib.contextmanager
    def _discarded_on_error(self, session: _Session) -> Iterator[None]:
        """Have the next transaction begin with a new connection where the disk, or the database, has failed this one.

        SQLite opens a log that it cannot open for writing for reading instead, and never again.
        """
        try:
            yield
        except (*sqlite.Failures, OSError):
            self._discard(session)
            raise

    def _discard(self, session: _Session) -> None:
        """Close a connection for good, unless it is the parent's of this forked process."""
        if session.pid != os.getpid():
            return
        if self._writer is session:
            self._writer = None
        if getattr(self._local, "session", None) is session:
            del self._local.session
        session.close()

    @contextlib.contextmanager
    def _turn(self, patience: float | None = None) -> Iterator[float]:
        """Be the only writer of all threads and processes; yields the seconds that are left of the timeout."""
        self._require_usable()
        patience = self._lock_timeout if patience is None else patience
        end = time.monotonic() + patience
        turns = self._turns
        if not turns.acquire(patience):
            raise CollectionLockedError(
                f"other threads have been writing for more than {patience:g} s; try again or raise lock_timeout"
            )
        try:
            with contextlib.ExitStack() as stack:
                locks = self._locks()
                if locks is not None:
                    stack.enter_context(locks.turn(max(0.0, end - time.monotonic()), of=patience))
                yield max(0.0, end - time.monotonic())
        finally:
            turns.release()

    def _enter(self) -> Counter[int]:
        """Count this thread among those that a fork and `close` have to wait for; give what comes back to `_leave`."""
        me = threading.get_ident()
        self._require_usable()
        with self._changed:
            while self._frozen and me not in self._inside:
                self._changed.wait()
            if self._closed:
                raise CollectionClosedError(_CLOSED)
            self._inside[me] += 1
            return self._inside

    def _leave(self, inside: Counter[int]) -> None:
        """Take this thread out again, also in a child that was forked meanwhile, whose threads are counted anew."""
        me = threading.get_ident()
        with self._changed:
            inside[me] -= 1
            if not inside[me]:
                del inside[me]
            self._changed.notify_all()
        if inside is self._inside and not inside:
            self._close_if_over()

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        inside = self._enter()
        try:
            yield
        finally:
            self._leave(inside)

    def _require_usable(self) -> None:
        if self._refused:
            raise CollectionClosedError(self._refused)
        if self._pid != os.getpid():
            raise CollectionClosedError(
                "this process was forked without Python's knowledge, and cannot use a collection that its parent has opened; "
                "open it after the fork"
            )
        if self._closed:
            raise CollectionClosedError(_CLOSED)

    def _begin(self, connection: Connection) -> None:
        try:
            with translate_errors(self._path):
                connection.execute("BEGIN IMMEDIATE")
        except CollectionLockedError as err:
            raise CollectionLockedError(
                f"another process holds the write lock of {self._path or 'the collection'} and did not "
                f"release it within {self._lock_timeout:g} s; try again or raise lock_timeout"
            ) from err

    def _commit(self, connection: Connection) -> None:
        try:
            connection.execute("COMMIT")
        except BaseException:
            self._unsettled = self._directory is not None
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with contextlib.suppress(sqlite.Error, OctavoError, OSError):
                if self._writer is not None and self._writer.connection is connection:
                    self._discard(self._writer)
                fresh = self._writing_session()
                with self._discarded_on_error(fresh):  # opened while the disk fails, it may be no better
                    self._settle(fresh.connection)
            raise

    def _settle(self, connection: Connection) -> None:
        """Overwrite in the log what a failed commit may have left there.

        When the last step of a commit fails, say the `fsync`, its frames lie complete in the log, and a recovery would
        bring the transaction back: one that was reported as failed, and whose rows of the vector files have perhaps been
        written over since. Frames have a running checksum, so one other commit in their place makes them all void.
        """
        self._begin(connection)
        try:
            # a page is rewritten even if the value stays the same, unlike one of a table
            version = connection.pragma("user_version")
            connection.pragma("user_version", int(version))
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self._unsettled = False

    # ------------------------------------------------------------------ the write-ahead log

    def _fold_if_due(self, session: _Session) -> None:
        due = [patience for pages, patience in _FOLD_PATIENCE.items() if session.log[0] >= pages]
        if due:
            self._fold(session, due[-1], empty=False)

    def _fold(self, session: _Session, patience: float, *, empty: bool) -> bool:
        """Copy the log into the database file, in a turn to write, while nobody reads; False where somebody does."""
        assert self._lock_file is not None  # only called for files
        with (
            contextlib.suppress(sqlite.Error, OSError),  # a full disk: what was committed is safe in the log
            self._lock_file.no_readers(patience) as alone,
        ):
            session.connection.set_patience(patience)
            return alone and sqlite.fold(session.connection, empty=empty)
        return False

    def checkpoint(self, patience: float = 1.0) -> bool:
        """Fold the write-ahead log into the database file and empty it; False when others keep it in use."""
        if self._directory is None or self.read_only:
            return True
        try:
            with self._turn(patience), self._entered(), translate_errors(self._path):
                session = self._writing_session()
                return self._fold(session, patience, empty=True)
        except OctavoError:
            return False

    def vacuum(self, *, patient: bool = False) -> bool:
        """Rewrite the database file without the space of deleted rows; returns what `checkpoint` does.

        Parameters
        ----------
        patient : bool
            Wait as long as the lock timeout for readers of the log to leave.

        Raises
        ------
        StorageError
            When there is no space for it, or the disk fails; nothing but the space is missing then.
        """
        with self._turn() as left, self._entered(), translate_errors(self._path):
            session = self._writing_session()
            session.connection.set_patience(left)
            session.connection.execute("VACUUM")
            if self._directory is None:
                return True
            end = time.monotonic() + left
            while not (folded := self._fold(session, 0.2, empty=True)) and patient and time.monotonic() < end:
                time.sleep(0.05)  # let those that wait read in between
            return folded

    def load_from(self, source: Connection) -> None:
        """Replace everything in this in-memory database by a copy of what another connection sees."""
        image = bytearray(source.serialize("main"))
        image[18:20] = b"\x01\x01"  # "not WAL" in the file header: a database in memory has no write-ahead log
        with (
            self._turn(),
            self._entered(),
            translate_errors(self._path),
            contextlib.closing(sqlite.connect_scratch()) as plain,
        ):
            plain.deserialize("main", bytes(image))
            plain.copy_into(self._writing_session().connection)

    # ------------------------------------------------------------------ damage

    def integrity_problems(self, connection: Connection, most: int = 20) -> list[str]:
        """Return what SQLite finds wrong with the database, as `connection` sees it; a damaged page is looked through."""
        name = str(self._path or "the database")
        try:
            rows = connection.execute(f"PRAGMA integrity_check({most})").fetchall()
        except sqlite.Error as err:
            found = [f"{name}: a page is damaged ({err})"]
            with contextlib.suppress(sqlite.Error, OctavoError), contextlib.closing(self._connect()) as other:
                other.connection.pragma("checksum_verification", 0)
                rows = other.connection.execute(f"PRAGMA integrity_check({most})").fetchall()
                found += [f"{name}: {row[0]}" for row in rows if row[0] != "ok"]
            return found
        return [f"{name}: {row[0]}" for row in rows if row[0] != "ok"]

    # ------------------------------------------------------------------ connections

    def _reader(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._connect()
        return session

    def _writing_session(self) -> _Session:
        if self._writer is None:
            self._writer = self._connect()
        return self._writer

    def _locks(self) -> LockFile | None:
        """Return this handle's lock file; None in memory."""
        if self._lock_file is None and self._directory is not None:
            self._lock_file = LockFile(self._directory, read_only=self.read_only, patience=self._lock_timeout)
        return self._lock_file

    def _prepare(self) -> None:
        """Make the database file where there is none."""
        assert self._path is not None  # only called for files
        if self._path.exists() and self._path.stat().st_size:
            return
        with self._turn():
            # SQLite would create it readable for everybody; its companions take over the permissions.
            with storage_errors(self._path, "created"), contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            if not self._path.stat().st_size:
                with translate_errors(self._path):
                    connection = sqlite.connect_file(self._path, patience=self._lock_timeout)
                    sqlite.prepare_empty(connection)
                    connection.close()

    def _connect(self) -> _Session:
        with translate_errors(self._path):
            if self._path is None:
                connection = sqlite.connect_memory(self._memory_name, patience=self._lock_timeout)
                session = _Session(connection)
            else:
                session = self._connect_file(self._path)
        self._sessions.add(session)
        return session

    def _connect_file(self, path: Path) -> _Session:
        locks = self._locks()
        assert locks is not None  # there is a directory
        connection, immutable = self._open_read_only(path) if self.read_only else (self._open_to_write(path), False)
        session = _Session(connection)
        try:
            check_schema(connection, path)
            if locks.announces and not immutable:
                session.shadow = Shadow.of(path)
                session.read_lock = ReadLock(path.parent, patience=self._lock_timeout)
        except BaseException:
            session.close()
            raise
        return session

    def _open_to_write(self, path: Path) -> Connection:
        connection = sqlite.connect_file(path, patience=self._lock_timeout)
        if connection.pragma("journal_mode") != "wal":
            # Whoever made it died before it came to this; or somebody has written over the header of a database that is in
            # use, and then no patience helps.
            connection.set_patience(min(self._lock_timeout, _PREPARING))
            connection.pragma("journal_mode", "wal")
            connection.set_patience(self._lock_timeout)
        connection.pragma("synchronous", "FULL")
        return connection

    def _open_read_only(self, path: Path) -> tuple[Connection, bool]:
        connection = sqlite.connect_file(path, patience=self._lock_timeout, read_only=True)
        try:
            with translate_errors(path):
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except ReadOnlyError:
            # WAL needs a file of shared memory beside the database, which cannot be made on a read-only file system.
            # Once the last writer has closed, there is no log left and the database can be read as it stands.
            log = Path(f"{path}-wal")
            connection.close()
            if log.exists() and log.stat().st_size:
                raise
            return sqlite.connect_file(path, patience=self._lock_timeout, read_only=True, immutable=True), True
        return connection, False

    def close(self) -> None:
        """Close every connection of this process, those of running transactions as soon as they end."""
        with self._changed:
            self._closed = True
            if self._pid != os.getpid() or self._refused:
                return
            me = threading.get_ident()
            self._changed.wait_for(
                lambda: not any(thread != me for thread in self._inside), min(self._lock_timeout, threading.TIMEOUT_MAX)
            )
            busy = bool(self._inside)
        if not busy:
            self._close_sessions()

    def _close_if_over(self) -> None:
        if self._closed:  # `close` did not wait for this thread
            self._close_sessions()

    def _close_sessions(self) -> None:
        with self._changed:
            if self._sessions_closed:  # several threads may see that they were the last ones
                return
            self._sessions_closed = True
            last, self._writer, self._anchor = self._writer, None, None
        for session in list(self._sessions):
            if session is not last:
                session.close()
        if last is not None:
            if self._lock_file is not None and last.is_open and self._lock_file.try_alone():
                last.drop_locks()
                sqlite.fold_on_close(last.connection)
            last.close()
        if self._lock_file is not None:
            self._lock_file.close()

    # ------------------------------------------------------------------ forks

    def before_fork(self) -> None:
        """Let no transaction begin, and wait a little for those that run: then a child can do without what it inherits."""
        me = threading.get_ident()
        with self._changed:
            self._frozen += 1
            self._quiet = (
                self._changed.wait_for(lambda: not any(thread != me for thread in self._inside), _FORK_PATIENCE)
                and not self._inside[me]
            )

    def after_fork_in_parent(self) -> None:
        """Let transactions begin again."""
        with self._changed:
            self._frozen -= 1
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Give up the parent's connections and locks.

        SQLite keeps a list of the files that a process has open and of the locks that it holds. A child has inherited the
        list, but not the locks. Connections at rest can be closed on this side without effect on the parent (nothing is
        checkpointed, nothing deleted), which empties the list. Connections in the middle of something cannot, and then this
        process must not touch the database.
        """
        if self._pid == os.getpid():
            return
        Shadow.forget()
        if self._lock_file is not None:
            self._lock_file.close()
        sessions, writer = list(self._sessions), self._writer
        self._begin_anew()
        for session in sessions:
            session.inherit(close=self._quiet and self._path is not None, keep=self._quiet)
        self._writer = writer if self._path is None else None
        if not self._quiet and not self._closed and sessions:
            self._refused = _FORKED_INSIDE
            if self._path is not None:
                _unusable.add(_identity(self._path))


_FORKED_INSIDE = (
    "this process was forked while a transaction of the collection was running, and cannot use it: SQLite's state belongs to "
    "the parent. Fork while nobody reads or writes it, or start processes afresh (multiprocessing's 'spawn' or 'forkserver')"
)


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino


def select_documents(
    connection: Connection, columns: str, key: Literal["slot", "id"], values: Sequence[int] | Sequence[str]
) -> list[Any]:
    """Return columns of the documents whose slot or id is among `values`, in no particular order; absent ones are left out."""
    found: list[Any] = []
    for start in range(0, len(values), _BOUND_VALUES):
        part = values[start : start + _BOUND_VALUES]
        marks = ",".join("?" * len(part))
        found += connection.execute(f"SELECT {columns} FROM documents WHERE {key} IN ({marks})", part).fetchall()
    return found


def read_manifest(connection: Connection) -> dict[str, Any]:
    """Return all manifest entries, checked unless there are none yet or a later version wrote them."""
    manifest = dict(connection.execute("SELECT key, value FROM manifest").fetchall())
    return check_manifest(manifest) if manifest.get("format_version") == FORMAT_VERSION else manifest


def write_manifest(connection: Connection, values: dict[str, Any]) -> None:
    """Set manifest entries."""
    connection.executemany("INSERT OR REPLACE INTO manifest VALUES (?, ?)", list(values.items()))


def drop_from_manifest(connection: Connection, keys: Iterable[str]) -> None:
    """Drop manifest entries; those that are not there are no error."""
    connection.executemany("DELETE FROM manifest WHERE key = ?", [(key,) for key in keys])


#: The table in which `octavo index` keeps sizes and times of files that it has read; not there before it has.
READ_FILES = "octavo_read_files"


def has_table(connection: Connection, name: str) -> bool:
    """Tell whether there is a table of this name."""
    return (
        connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)).fetchone()
        is not None
    )


def read_notes(connection: Connection) -> dict[str, str]:
    """Return the notes: texts that tools keep beside the documents."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'octavo_notes'").fetchone():
        return {}  # made by an earlier version, and never opened to be written to since
    return dict(connection.execute("SELECT name, value FROM octavo_notes ORDER BY name").fetchall())


def write_note(connection: Connection, name: str, text: str | None) -> None:
    """Set a note; None removes it."""
    if text is None:
        connection.execute("DELETE FROM octavo_notes WHERE name = ?", (name,))
    else:
        connection.execute("INSERT OR REPLACE INTO octavo_notes VALUES (?, ?)", (name, text))
