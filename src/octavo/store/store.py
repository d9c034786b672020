"""The durable store: documents and codes on disk, one writer at a time, snapshots for everybody."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from octavo import _forks
from octavo._arrays import retain_arrays
from octavo._files import Directory, as_path, is_occupied, make_directory, storage_errors, sync_directory
from octavo._version import __version__
from octavo.compression import Codec
from octavo.errors import (
    CollectionClosedError,
    CollectionLockedError,
    CollectionNotFoundError,
    CollectionReplacedError,
    CorruptCollectionError,
    MismatchError,
    OctavoError,
    ParameterError,
)
from octavo.index import Graph, Tuning
from octavo.store._locks import LOCK_NAME
from octavo.store._manifest import FORMAT_VERSION, check_artifact
from octavo.store._originals import Learned
from octavo.store.database import DATABASE_NAME, Database, read_manifest, write_manifest
from octavo.store.reencoding import PREFIX, Reencoding
from octavo.store.settings import DERIVED, Settings
from octavo.store.snapshot import CellView, GraphView, Mask, Snapshot, TierView
from octavo.store.sparse import SegmentShelf, SparseDraft
from octavo.store.sqlite import Connection
from octavo.store.tokens import grow_tokens, open_tokens
from octavo.store.vectors import BLOCK_ROWS, BlockGuard, VectorFile

#: The directory of the full-text index.
TEXT_DIRECTORY = "text"

#: Everything else that may lie in a collection's directory.
_OWN_FILE = re.compile(
    r"octavo\.(db(-wal|-shm)?|lock)|g\d{6,}-(\d+|tokens|offsets)\.vec|g\d{6,}-[0-9a-f]{32}\.(graph|cells|segment|centroids|postings)(\.tmp)?"
    r"|[0-9a-f]{32}\.sparse(\.tmp)?"
)

#: Segments of sparse vectors, and drafts of them.
SPARSE_FILE = re.compile(r"[0-9a-f]{32}\.sparse(\.tmp)?")

_VECTOR_FILE = re.compile(r"g(\d{6,})-(\d+|tokens|offsets)\.vec")

#: What else may lie in a directory where a collection is made: leftovers of one that was not finished, or is gone, and the
#: notes of an adapter about its named collections in directories below.
_BESIDE = re.compile(
    r"\..*|octavo\.db.*|octavo\.lock|text|g\d{6,}-[0-9a-f]{32}\.(graph|cells|segment|centroids|postings)(\.tmp)?|h-.*\.name"
)


class Store:
    """Open or create the files of a collection and publish a `Snapshot` after each commit.

    Parameters
    ----------
    directory : Path or None
        The collection's directory; None keeps everything in memory. Its path is made absolute, and the directory is held
        open: everything but the database, which SQLite opens by path, is reached through it. Each transaction compares what
        is at the path now with what is held.
    settings : Settings
        What was asked for; an existing collection's own settings win where nothing was asked.
    """

    def __init__(self, directory: Path | None, settings: Settings) -> None:
        self.directory = as_path(directory, "path") if directory is not None else None
        self.closed = False
        retain_arrays()
        self._state_lock = threading.RLock()
        _forks.register(self)
        self._damaged: set[int] = set()  # generations whose files are short, and not because they are being replaced
        self._memory_files: dict[tuple[int, int | str], VectorFile] = {}
        self._closing: list[Callable[[], None]] = []
        exists = self.directory is not None and self.exists(self.directory)
        if not exists:
            self._check_creatable(settings)
        if self.directory is not None and not exists:
            make_directory(self.directory)
        self.folder = Directory(self.directory) if self.directory is not None else None
        self.shelf = SegmentShelf(self.folder)
        self.identity: str | None = None
        self._database_file: os.stat_result | None = None
        self._database_path = str(self.directory / DATABASE_NAME) if self.directory is not None else ""
        try:
            self._check_no_links()
            self.database = Database(self.directory, lock_timeout=settings.lock_timeout, read_only=settings.read_only)
        except BaseException:
            self._release()
            raise
        try:
            if not settings.read_only:
                self.database.create_schema()
            self._remember_place()
            self.settings = self._load_or_create_settings(settings)
            self._snapshot = self._empty_snapshot()
            with self.read() as (_, snapshot):
                pass
            if self.folder is not None and not settings.read_only and snapshot.generation == 0:
                # even if it was there before: the process that made it may have died before it came to this
                self.folder.sync()
                sync_directory(self.folder.path.parent)
            self._remove_leftovers()
        except BaseException:
            self.database.close()
            self._release()
            raise

    # ------------------------------------------------------------------ forks

    rests_last = False

    def before_fork(self) -> None:
        """Nothing to do: what is published does not change, and who publishes is inside a transaction."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Take a free lock. The parent's files may be read and written through its descriptors, as they hold no position."""
        self._state_lock = threading.RLock()

    def forget_graph_after_fork(self, generation: int) -> Graph | None:
        """In a forked child, take back what was published of a graph, and return it."""
        space = next((space for space in self._snapshot.spaces if space.generation == generation), None)
        if space is None or space.graph is None:
            return None
        view = space.graph
        self._publish_derived(generation, graph=None)
        return view.graph

    # ------------------------------------------------------------------ opening

    @staticmethod
    def exists(directory: Path) -> bool:
        """Tell whether there is a collection in a directory.

        Raises
        ------
        CorruptCollectionError
            When its database is a link.
        AccessDeniedError
            When the directory may not be looked into.
        """
        path = directory / DATABASE_NAME
        with storage_errors(path, "read"):
            if path.is_symlink():
                raise CorruptCollectionError(
                    f"{path} is a link, and no collection of Octavo's has one; see where it leads"
                )
            return path.is_file()

    def _check_creatable(self, settings: Settings) -> None:
        where = self.directory
        if settings.must_exist or settings.read_only:
            raise CollectionNotFoundError(
                f"there is no collection at {where}; check the path, or open it without must_exist and read_only to create one"
                if where is not None
                else "a collection in memory cannot be opened with must_exist or read_only: it starts empty"
            )
        if where is None or not is_occupied(where):
            return
        if not where.is_dir():
            raise ParameterError(f"expected a directory for the collection, but {where} is a file")
        if any(_VECTOR_FILE.fullmatch(name) for name in os.listdir(where)):
            raise CorruptCollectionError(
                f"{where} holds vector files but no {DATABASE_NAME}, or an empty one; restore {DATABASE_NAME} from a backup, "
                "or choose an empty directory for a new collection"
            )
        others = [name for name in sorted(os.listdir(where)) if not _may_lie_beside(where, name)]
        if others:
            raise ParameterError(
                f"expected a new or empty directory for the collection, but {where} holds other things ({others[0]!r}"
                f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}) and no collection; check the path, or give the "
                f"collection a directory of its own, such as {where / 'octavo'}"
            )

    def _load_or_create_settings(self, asked: Settings) -> Settings:
        with self.database.read() as connection:
            manifest = read_manifest(connection)
        if not manifest:
            with self.write() as connection:
                manifest = read_manifest(connection)  # another process may have been first
                if not manifest:
                    self._check_creatable(asked)  # an emptied database beside vector files is no new collection
                    created = asked.for_new_collection()
                    self.identity = new_identity()
                    about = {"created_with": __version__, "identity": self.identity}
                    write_manifest(connection, created.to_manifest() | about)
                    return created
        version = manifest.get("format_version")
        if version != FORMAT_VERSION:
            raise MismatchError(
                f"the collection has format version {version}, this version of Octavo ({__version__}) reads "
                f"{FORMAT_VERSION}; upgrade Octavo, or export the collection with the version that wrote it"
            )
        self.identity = manifest.get("identity")
        return asked.for_existing_collection(manifest)

    def take_words(self, full_text: str, digest: str | None, analyser: Callable[..., Any] | None) -> None:
        """Go on with other settings of the words."""
        self.settings = replace(self.settings, full_text=full_text, full_text_digest=digest, analyser=analyser)

    def follow_words(self, connection: Connection) -> None:
        """Notice that another process has changed what makes terms of texts."""
        row = connection.execute("SELECT value FROM manifest WHERE key = 'settings'").fetchone()
        stored = json.loads(row[0])
        full_text, digest = stored["full_text"], stored.get("full_text_digest")
        if (full_text, digest) != (self.settings.full_text, self.settings.full_text_digest):
            self.take_words(full_text, digest, None)

    def _empty_snapshot(self) -> Snapshot:
        return Snapshot(-1, -1, 0, 0, np.zeros(0, np.bool_), None, "", False, None, (), None)

    def _remove_leftovers(self) -> None:
        """Delete vector files of other generations: what a dead writer, or a reader on Windows, left behind."""
        if self.folder is None or self.settings.read_only:
            return
        with self.write() as connection:  # nobody else is between writing files and committing them
            manifest = read_manifest(connection)
            current, coming = int(manifest["generation"]), Reencoding.from_manifest(manifest)
            used = {current} if coming is None else {current, coming.generation}
            sparse = sparse_files(manifest)
            # A database without the files that it names may be an old copy of itself: later ones are not its to delete.
            own = bool(current) and self.folder.stat(vector_name(current, 0)) is not None
            for name in self.folder.names():
                match = _VECTOR_FILE.fullmatch(name)
                if match and int(match[1]) not in used and (int(match[1]) < current or own):
                    self.folder.remove(name)
                if own and SPARSE_FILE.fullmatch(name) and name not in sparse:
                    self.folder.remove(name)

    # ------------------------------------------------------------------ is it still there?

    def _check_no_links(self) -> None:
        if self.folder is not None:
            for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", LOCK_NAME):
                self.folder.check_regular(name)

    def _remember_place(self) -> None:
        if self.folder is not None:
            self._database_file = self.folder.stat(DATABASE_NAME)
            self.require_in_place()

    def in_place(self, *, to_read: bool = False) -> bool:
        """Tell whether the directory that was opened, with the database that was opened, is what lies at the path now.

        Parameters
        ----------
        to_read : bool, default=False
            Look at the database alone, which takes a microsecond: the same file at the same path is the same collection, but
            for a directory of hard links.
        """
        if self.folder is None:
            return True
        opened = self._database_file
        try:
            same = opened is None or os.path.samestat(os.stat(self._database_path, follow_symlinks=False), opened)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return same and (to_read or self.folder.is_at_its_path())

    def require_in_place(self, *, to_read: bool = False) -> None:
        """Raise `CollectionReplacedError` when the directory was moved, deleted or replaced."""
        if not self.in_place(to_read=to_read):
            raise CollectionReplacedError(
                f"the collection that was opened at {self.directory} is no longer there: its directory or {DATABASE_NAME} was "
                "moved, deleted or replaced; nothing was changed, here or there: close this one and open the collection again"
            )

    @contextlib.contextmanager
    def write(self, timeout: float | None = None, *, unchecked: bool = False) -> Iterator[Connection]:
        """Yield the writing connection inside a transaction of this very collection; see `Database.write`.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait for other writers; None waits as long as `lock_timeout` says.
        unchecked : bool
            Do not compare pages with their checksums: to repair what can be.

        Raises
        ------
        CollectionReplacedError
            When the collection is no longer at its path. Nothing was written.
        """
        self.require_open()
        self.require_in_place()
        with self.database.write(timeout, unchecked=unchecked) as connection:
            self.require_in_place()
            if self.identity is not None:
                row = connection.execute("SELECT value FROM manifest WHERE key = 'identity'").fetchone()
                if row is None or row[0] != self.identity:
                    raise CollectionReplacedError(
                        f"{self.database.path} now holds another collection than the one that was opened; nothing was changed: "
                        "close this one and open it again"
                    )
            yield connection
            self.require_in_place()

    # ------------------------------------------------------------------ snapshots

    @property
    def snapshot(self) -> Snapshot:
        """The newest state that this process has seen."""
        return self._snapshot

    def space(self, prefix: str = "") -> Snapshot:
        """Return the newest state of one space: the first, or that which a change of the model fills (empty if none does)."""
        snapshot = self._snapshot
        if not prefix:
            return snapshot
        return snapshot.next if snapshot.next is not None else self._empty_snapshot()

    def generation(self, connection: Connection, prefix: str = "") -> int:
        """Return which generation of files the database names for a space; -1 where there is no such space."""
        manifest = read_manifest(connection)
        if not prefix:
            return int(manifest["generation"])
        coming = Reencoding.from_manifest(manifest)
        return coming.generation if coming is not None else -1

    def derived(self, connection: Connection) -> set[str]:
        """Return the names of all files that are recorded of what finds candidates, in every space."""
        return {
            name
            for prefix in ("", PREFIX)
            for index in DERIVED
            for name in derived_files(index, self.artifact(connection, f"{prefix}{index}"))
        }

    def require_open(self) -> None:
        """Raise `CollectionClosedError` when the collection was closed."""
        if self.closed:
            raise CollectionClosedError("the collection was closed; open it again with octavo.open")

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """Yield a connection inside a read transaction of this very collection, without a snapshot.

        Raises
        ------
        CollectionReplacedError
            When the collection is no longer at its path.
        """
        self.require_in_place(to_read=True)  # before, too: a new connection opens what is at the path
        with self.database.read() as connection:
            self.require_in_place(to_read=True)
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[tuple[Connection, Snapshot]]:
        """Yield a connection inside a read transaction and the snapshot of exactly the same commit.

        Raises
        ------
        CollectionReplacedError
            When the collection is no longer at its path.
        """
        self.require_open()
        for _ in range(100):
            with self.connected() as connection:
                row = connection.execute("SELECT value FROM manifest WHERE key = 'seq'").fetchone()
                if row is None:
                    raise CorruptCollectionError(f"{self.database.path} is damaged: its manifest is empty")
                snapshot = self._snapshot if self._snapshot.seq == row[0] else self.refresh(connection)
                if snapshot is not None and not snapshot.whole:
                    snapshot = self._without_what_was_cut(connection, snapshot)
                if snapshot is not None and (snapshot.generation in self._damaged or not _incomplete(snapshot)):
                    yield connection, snapshot
                    return
            if snapshot is not None:
                # Another process may have switched generations while we were opening the files of the old one.
                if self._changed_since(snapshot.seq):
                    self._snapshot = self._empty_snapshot()
                else:
                    self._damaged.add(snapshot.generation)
        raise CollectionLockedError("the collection kept changing while it was being opened; try again")

    def _without_what_was_cut(self, connection: Connection, snapshot: Snapshot) -> Snapshot | None:
        """Open the files again after another program has made one shorter: to read on in its map would kill the process."""
        with self._state_lock:
            sparse = snapshot.sparse is None or snapshot.sparse.whole
            if not sparse or not all(file.whole for file in snapshot.all_files):
                self._snapshot = self._empty_snapshot()
                return self.refresh(connection)
            nothing: dict[str, Any] = {"graph": None, "cells": None, "token_cells": None}
            coming = replace(snapshot.next, **nothing) if snapshot.next is not None else None
            self._snapshot = replace(snapshot, **nothing, next=coming)
            return self._snapshot

    def _changed_since(self, seq: int) -> bool:
        with self.connected() as connection:
            return bool(connection.execute("SELECT value FROM manifest WHERE key = 'seq'").fetchone()[0] != seq)

    def refresh(self, connection: Connection, *, own: bool = False) -> Snapshot | None:
        """Publish the state that `connection` sees; None when a newer one was published before.

        Parameters
        ----------
        own : bool
            This process wrote the rows that are new, so their checksums need not be verified.
        """
        with self._state_lock:
            manifest = read_manifest(connection)
            seq, generation = int(manifest["seq"]), int(manifest["generation"])
            current = self._snapshot
            if seq < current.seq:
                return None
            if seq == current.seq and generation == current.generation:
                return current
            fresh = self._space(connection, manifest, current, own=own)
            coming = Reencoding.from_manifest(manifest)
            if coming is not None:
                entries = manifest | coming.as_manifest()
                following = self._space(connection, entries, current, own=own, prefix=PREFIX, alive=fresh.alive)
                fresh = replace(fresh, reencoding=coming, next=replace(following, reencoding=coming))
            used = {space.generation for space in fresh.spaces}
            self._memory_files = {  # those of later generations are being written
                key: file for key, file in self._memory_files.items() if key[0] in used or key[0] > max(used)
            }
            self._snapshot = fresh
            return fresh

    def _space(
        self,
        connection: Connection,
        manifest: dict[str, Any],
        current: Snapshot,
        *,
        own: bool,
        prefix: str = "",
        alive: Mask | None = None,
    ) -> Snapshot:
        """Return one space: what is known of its generation, grown, or its files opened.

        Parameters
        ----------
        manifest : dict
            What the manifest says, with the second space's entries in place of the first's where that is meant.
        current : Snapshot
            The state before.
        own : bool
            See `refresh`.
        prefix : str
            What its tables begin with.
        alive : ndarray of bool or None
            Which slots belong to a document, where that is known.
        """
        seq, generation, n_slots = (int(manifest[name]) for name in ("seq", "generation", "slots"))
        settings = self._settings_of(manifest, prefix)
        # When a change of the model ends, its space becomes the first one: with what finds candidates in it.
        base = next((space for space in current.spaces if space.generation == generation > 0), None)
        graph: GraphView | None = None
        cells: CellView | None = None
        token_cells: CellView | None = None
        if base is None or base.n_slots > n_slots:
            tiers, codec = self._open_tiers(connection, manifest, prefix)
            known_good = self.directory is None
            tokens = None
            if settings.multi_vector and generation:
                tokens = open_tokens(connection, manifest, self._open_file, known_good=known_good, prefix=prefix)
            if alive is None:
                alive = self._read_alive(connection, n_slots)
        else:
            tiers, codec = self._grow_tiers(connection, base, n_slots, own, prefix), base.codec
            graph, cells, tokens, token_cells = base.graph, base.cells, base.tokens, base.token_cells
            if tokens is not None and n_slots != base.n_slots:
                n_tokens = int(manifest["tokens"])
                tokens = grow_tokens(connection, tokens, n_slots, n_tokens, own=own, prefix=prefix)
            if alive is None:
                alive = self._updated_alive(connection, base, n_slots)
        if prefix:
            alive = alive[:n_slots]
        return Snapshot(
            seq=seq,
            generation=generation,
            n_slots=n_slots,
            n_alive=int(np.count_nonzero(alive)) if prefix else int(manifest["alive"]),
            alive=alive,
            dim=manifest.get("dim"),
            codec_text=manifest["codec"],
            fitted=bool(manifest["fitted"]),
            codec=codec,
            tiers=tiers,
            graph=graph,
            tokens=tokens,
            tuning=_tuning(manifest) if not prefix else None,
            cells=cells,
            token_cells=token_cells,
            learned=Learned.from_json(manifest.get("learned")),
            sparse=self.shelf.view(sparse, current.sparse)
            if (sparse := manifest.get("sparse")) and not prefix
            else None,
            space=int(manifest.get("space", 0)),
            prefix=prefix,
        )

    def _settings_of(self, manifest: dict[str, Any], prefix: str) -> Settings:
        """Return the settings of a space.

        Raises
        ------
        CollectionReplacedError
            When another process has changed the kind of vectors: whoever opened the collection before cannot read them.
        """
        if prefix:
            coming = Reencoding.from_manifest(manifest)
            assert coming is not None  # asked for its space
            return coming.settings(self.settings)
        if bool(json.loads(manifest["settings"]).get("multi_vector")) != bool(self.settings.multi_vector):
            raise CollectionReplacedError(
                f"the collection at {self.directory} was re-encoded with a model of another kind (one vector a document, or "
                "many: late interaction) since it was opened; close it and open it again, with that model"
            )
        return self.settings

    def publish_graph(self, generation: int, graph: GraphView | None) -> None:
        """Show searches a graph that reaches further, unless the vector files were replaced meanwhile."""
        self._publish_derived(generation, graph=graph)

    def publish_cells(self, generation: int, cells: CellView | None) -> None:
        """Show searches other cells, unless the vector files were replaced meanwhile."""
        self._publish_derived(generation, cells=cells)

    def publish_token_cells(self, generation: int, cells: CellView | None) -> None:
        """Show searches other cells of tokens, unless the vector files were replaced meanwhile."""
        self._publish_derived(generation, token_cells=cells)

    def _publish_derived(self, generation: int, **view: Any) -> None:
        with self._state_lock:
            snapshot = self._snapshot
            if snapshot.generation == generation:
                self._snapshot = replace(snapshot, **view)
            elif snapshot.next is not None and snapshot.next.generation == generation:
                self._snapshot = replace(snapshot, next=replace(snapshot.next, **view))

    def _open_tiers(
        self, connection: Connection, manifest: dict[str, Any], prefix: str
    ) -> tuple[tuple[TierView, ...], Codec | None]:
        n_slots, generation = int(manifest["slots"]), int(manifest["generation"])
        if generation == 0:
            if n_slots:
                raise CorruptCollectionError(
                    f"{self.database.path} is damaged: it counts rows, but names no vector file"
                )
            return (), None
        codec = Codec.from_bytes(manifest["codec_state"])
        tiers = []
        for number, pipeline in enumerate(codec.tiers):
            file = self._open_file(generation, number, pipeline.layout.row_bytes)
            guard = BlockGuard(file.name)
            query = f"SELECT block, crc FROM {prefix}blocks WHERE tier = ?"
            guard.expect(
                n_slots, dict(connection.execute(query, (number,)).fetchall()), known_good=self.directory is None
            )
            tiers.append(TierView(pipeline, file, guard, file.view(n_slots)))
        return tuple(tiers), codec

    def _read_alive(self, connection: Connection, n_slots: int) -> Mask:
        # only now: that there is a checksum for each block of rows shows that there may be as many rows as the manifest says
        alive = np.ones(n_slots, np.bool_)
        dead = np.array([row[0] for row in connection.execute("SELECT slot FROM tombstones")], np.int64)
        if len(dead) and not 0 <= int(dead.min()) <= int(dead.max()) < n_slots:
            raise CorruptCollectionError(f"{self.database.path} is damaged: a deleted slot lies beyond the last one")
        alive[dead] = False
        return alive

    def _open_file(self, generation: int, tier: int | str, row_bytes: int) -> VectorFile:
        if self.folder is None:
            # in memory there is nothing to open: the rows are handed over by the writer
            return self._memory_files[generation, tier]
        return VectorFile(self.folder, vector_name(generation, tier), row_bytes)

    def new_vector_file(self, generation: int, tier: int | str, row_bytes: int) -> VectorFile:
        """Return an empty file for one tier (or the tokens or offsets) of a new generation."""
        name = vector_name(generation, tier)
        if self.folder is None:
            file = self._memory_files[generation, tier] = VectorFile(None, name, row_bytes)
            return file
        self.folder.remove(name)
        return VectorFile(self.folder, name, row_bytes)

    def _grow_tiers(
        self, connection: Connection, current: Snapshot, n_slots: int, own: bool, prefix: str
    ) -> tuple[TierView, ...]:
        if n_slots == current.n_slots:
            return current.tiers
        first = current.n_slots // BLOCK_ROWS
        tiers = []
        for number, tier in enumerate(current.tiers):
            rows = connection.execute(
                f"SELECT block, crc FROM {prefix}blocks WHERE tier = ? AND block >= ?", (number, first)
            ).fetchall()
            tier.guard.expect(n_slots, dict(rows), known_good=own)
            codes = tier.file.view(n_slots)
            tiers.append(replace(tier, codes=codes))
        return tuple(tiers)

    def _updated_alive(self, connection: Connection, current: Snapshot, n_slots: int) -> Mask:
        rows = connection.execute("SELECT slot FROM tombstones WHERE seq > ?", (current.seq,)).fetchall()
        if not rows and n_slots == current.n_slots:
            return current.alive
        alive = np.ones(n_slots, np.bool_)
        alive[: current.n_slots] = current.alive
        if rows:
            alive[np.fromiter((row[0] for row in rows), np.int64, len(rows))] = False
        return alive

    # ------------------------------------------------------------------ small things

    def sparse_draft(self) -> SparseDraft:
        """Return what a transaction that changes sparse vectors leaves behind itself."""

        def named() -> set[str]:
            with self.connected() as connection:
                return sparse_files(read_manifest(connection))

        return SparseDraft(self.shelf, named)

    def artifact(self, connection: Connection, name: str) -> dict[str, Any] | None:
        """Return what is recorded about a derived file."""
        row = connection.execute("SELECT value FROM artifacts WHERE name = ?", (name,)).fetchone()
        return check_artifact(name, row[0]) if row else None

    def at_close(self, callback: Callable[[], None]) -> None:
        """Call something before the files are released."""
        self._closing.append(callback)

    def close(self) -> None:
        """Release every file."""
        if not self.closed:
            for callback in self._closing:
                with contextlib.suppress(OctavoError, OSError):  # what they would save can be made anew
                    callback()
        self.closed = True
        if self.in_place():
            self.database.checkpoint()
        self.database.close()
        self._release()

    def _release(self) -> None:
        """Let go of files and maps; what the collection is made with can still be asked for."""
        snapshot = getattr(self, "_snapshot", None)
        if snapshot is not None:
            for file in snapshot.all_files:
                file.close()
            self._snapshot = replace(
                snapshot,
                alive=np.zeros(0, np.bool_),
                codec=None,
                tiers=(),
                graph=None,
                tokens=None,
                cells=None,
                token_cells=None,
                sparse=None,
                next=None,
            )
        self._memory_files = {}
        self.shelf = SegmentShelf(None)
        if self.folder is not None:
            self.folder.close()

    def destroy(self) -> None:
        """Close, and delete the files of this very collection; other files in the directory stay, and so does it then.

        Raises
        ------
        CollectionClosedError
            When it was closed before: there is no telling whether what is at the path is still the same.
        CollectionReplacedError
            When the collection is no longer at its path. Nothing was deleted.
        """
        self.require_open()
        self.require_in_place()
        folder = Directory(self.directory) if self.directory is not None else None
        self.require_in_place()
        self.close()
        if folder is not None:
            _delete_from(folder)
            folder.close()


def _may_lie_beside(directory: Path, name: str) -> bool:
    """Tell whether something in a directory is no reason not to make a collection there."""
    return _BESIDE.fullmatch(name) is not None or (directory / name / DATABASE_NAME).is_file()


def _tuning(manifest: dict[str, Any]) -> Tuning | None:
    """Return what was measured on this collection, unless the codec has changed since or the entry cannot be read."""
    if not manifest.get("tuning"):
        return None
    try:
        tuning = Tuning.from_json(manifest["tuning"])
    except CorruptCollectionError:  # a search without it is slower or finds less, never wrong; verify reports it
        return None
    return tuning if tuning.codec == manifest["codec"] else None


def _incomplete(snapshot: Snapshot) -> bool:
    missing = snapshot.sparse is not None and snapshot.sparse.missing
    return missing or any(file.incomplete for file in snapshot.all_files)


def derived_files(index: str, entry: dict[str, Any] | None) -> list[str]:
    """Return the names of the files that are recorded of an index."""
    if entry is None:
        return []
    if index == "graph":
        return [entry["file"]]
    return [entry["model"]["file"], *(part["file"] for part in entry["segments"])]


def sparse_files(manifest: dict[str, Any]) -> set[str]:
    """Return the names of the segments of sparse vectors that a manifest names."""
    text = manifest.get("sparse")
    return {part["file"] for part in json.loads(text)["segments"]} if text else set()


def is_own_file(name: str) -> bool:
    """Tell whether a file of this name in a collection's directory is a part of the collection."""
    return _OWN_FILE.fullmatch(name) is not None


def vector_name(generation: int, tier: int | str) -> str:
    """Return the name of the file of a tier, or of the tokens or offsets."""
    return f"g{generation:06d}-{tier}.vec"


def new_identity() -> str:
    """Return what tells a collection from all others, copies of it included."""
    return os.urandom(16).hex()


def delete_files(directory: Path) -> None:
    """Delete the files of a collection, and the directory if nothing else is in it. Links are deleted, never followed."""
    folder = Directory(directory)
    _delete_from(folder)
    folder.close()


def _delete_from(folder: Directory) -> None:
    for name in folder.names():
        if is_own_file(name):
            folder.remove(name)
    folder.remove_tree(TEXT_DIRECTORY)
    if folder.is_at_its_path():
        with contextlib.suppress(OSError):
            folder.path.rmdir()
