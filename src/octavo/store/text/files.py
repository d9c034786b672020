"""Keeps the full-text index in step with the collection.

The index is derived. It is built by the first text search and caught up by each later one that finds commits it does not
cover, so that it always answers for the same committed state as the vectors and collections that never use it pay nothing.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from octavo import _forks
from octavo._files import make_directory
from octavo.errors import CorruptCollectionError, MismatchError
from octavo.store.snapshot import Snapshot
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.text._index import TextIndex, verify_files
from octavo.store.text._search import TextSnapshot

#: Texts handed to the index at a time.
_CHUNK = 2_000

DIRECTORY_NAME = "text"


@dataclass(frozen=True)
class TextView:
    """A full-text index as of one commit; later commits do not change its snapshot."""

    index: TextIndex
    snapshot: TextSnapshot
    seq: int


class TextFiles:
    """Opens, extends and rebuilds the full-text index of one store.

    Parameters
    ----------
    store : Store
        The collection's files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        _forks.register(self)
        self._view: TextView | None = None
        self._covered_slots = 0
        self._generation = -1

    # ------------------------------------------------------------------ forks

    rests_last = False

    def before_fork(self) -> None:
        """Nothing to do: catching up may take long, and a child begins anew."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Have a free lock; an index that another thread was extending cannot be used here, nor be destroyed."""
        busy, self._lock = self._lock.locked(), threading.Lock()
        if busy:
            _forks.keep_for_ever(self._view)
            self._view, self._covered_slots, self._generation = None, 0, -1

    # ------------------------------------------------------------------ keeping up

    def ready(self) -> TextView:
        """Return an index that covers the newest commit, catching up first if it has to."""
        with self._store.read() as (_, snapshot):
            view = self._view
            if view is not None and view.seq == snapshot.seq:
                return view
        with self._lock:
            if self._store.settings.read_only or self._store.directory is None:
                return self._private_view()
            return self._shared_view()

    def _private_view(self) -> TextView:
        """An index in this process's memory: for collections in memory, and for readers that may not write."""
        with self._store.read() as (connection, snapshot):
            view = self._view
            if view is not None and view.seq == snapshot.seq:
                return view
            entry = self._store.artifact(connection, "text")
            if entry is not None and self._store.directory is not None and entry["seq"] == snapshot.seq:
                index = self._open(entry)  # a reader may use what a writer left, as long as it need not be extended
                if index is not None:
                    view = self._remember(index, snapshot)
                    self._generation = -1  # not to be extended: a later commit needs an index of this process's own
                    return view
            # Slots are renumbered by a compaction, which changes the generation (and so does fitting, harmlessly).
            fresh = view is None or self._generation != snapshot.generation
            index = self._new_index() if view is None or fresh else view.index
            covered, seq = (0, -1) if view is None or fresh else (self._covered_slots, view.seq)
            self._extend(connection, snapshot, index, covered, seq)
            index.commit()
            return self._remember(index, snapshot)

    def _shared_view(self) -> TextView:
        """The index on disk; the write lock keeps other processes away while it catches up."""
        store = self._store
        try:
            with store.database.write() as connection:
                snapshot = store.refresh(connection)
                assert snapshot is not None  # nobody commits while we hold the write lock
                if self._view is not None and self._view.seq == snapshot.seq:
                    return self._view
                entry = store.artifact(connection, "text")
                index = self._open(entry) if entry is not None else None
                if index is None or entry is None:
                    index, entry = self._new_index(), {"slots": 0, "seq": -1}
                if entry["seq"] != snapshot.seq:
                    self._extend(connection, snapshot, index, entry["slots"], entry["seq"])
                    value = {"seq": snapshot.seq, "slots": snapshot.n_slots, "manifest": index.commit()}
                    connection.execute("INSERT OR REPLACE INTO artifacts VALUES ('text', ?)", (json.dumps(value),))
            return self._remember(index, snapshot)
        except BaseException:
            self.forget()  # the index may be ahead of what was committed
            raise

    def _open(self, entry: dict[str, Any]) -> TextIndex | None:
        if self._view is not None and self._view.seq == entry["seq"]:
            return self._view.index
        try:
            return TextIndex.open(self._path(), self._language(), manifest=entry["manifest"])
        except (CorruptCollectionError, MismatchError):
            return None  # derived: built again from the documents

    def forget(self) -> None:
        """Drop what is held in memory; the next search opens or builds the index again."""
        self._view, self._covered_slots, self._generation = None, 0, -1

    def damage(self, connection: Connection) -> str | None:
        """Return what is wrong with the index on disk, if anything is."""
        entry = self._store.artifact(connection, "text")
        if self._store.directory is None or entry is None:
            return None
        path = self._store.directory / DIRECTORY_NAME
        try:
            verify_files(path, entry["manifest"], str(path))
        except CorruptCollectionError as err:
            return f"the full-text index is damaged ({err}); it is rebuilt by the next text search"
        return None

    def _new_index(self) -> TextIndex:
        path = self._path() if not self._store.settings.read_only else None
        if path is not None:
            make_directory(path, 0o700)
        return TextIndex.open(path, self._language(), manifest=None)

    def _path(self) -> Path | None:
        return self._store.directory / DIRECTORY_NAME if self._store.directory is not None else None

    def _language(self) -> str:
        return self._store.settings.full_text or "english"

    def _extend(self, connection: Connection, snapshot: Snapshot, index: TextIndex, covered: int, seq: int) -> None:
        """Bring an index that covers slots below `covered` and deletions up to commit `seq` to the snapshot."""
        dead = connection.execute("SELECT slot FROM tombstones WHERE seq > ? AND slot < ?", (seq, covered)).fetchall()
        if dead:
            index.delete(np.array([row[0] for row in dead], np.int64))
        rows = connection.execute("SELECT slot, text FROM documents WHERE slot >= ? ORDER BY slot", (covered,))
        while part := list(islice(rows, _CHUNK)):
            index.add(np.array([row[0] for row in part], np.int64), [row[1] for row in part])

    def _remember(self, index: TextIndex, snapshot: Snapshot) -> TextView:
        view = TextView(index, index.snapshot, snapshot.seq)
        self._view, self._covered_slots, self._generation = view, snapshot.n_slots, snapshot.generation
        return view
