"""Keeps the full-text index in step with the collection.

The index is derived. It is built by the first text search and caught up by each later one that finds commits it does not
cover, so that it always answers for the same committed state as the vectors and collections that never use it pay nothing.

Nobody waits for it. A search extends the newest index that it can have in a directory of its own, beside whatever others write,
and then offers it to the collection: if no writer is at work, its name is recorded for everybody; otherwise a later search, or
`close`, offers it again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from octavo import _forks
from octavo._text_analysis import TextAnalysis
from octavo.errors import CorruptCollectionError, MismatchError, OctavoError
from octavo.store.database import WORDS, select_documents
from octavo.store.snapshot import Snapshot
from octavo.store.sqlite import Connection
from octavo.store.store import TEXT_DIRECTORY, Store
from octavo.store.text._index import TextIndex, verify_files
from octavo.store.text._search import TextSnapshot

#: Texts handed to the index at a time.
_CHUNK = 2_000

#: Seconds after which a directory that is not recorded belongs to a process that died.
_DRAFT_AGE = 3_600.0


@dataclass(frozen=True)
class TextView:
    """A full-text index as of one commit; later commits do not change its snapshot."""

    index: TextIndex
    snapshot: TextSnapshot
    seq: int
    slots: int  # covers those below
    generation: int
    recorded: bool  # in the collection, for others to open
    extensible: bool


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
        store.at_close(self.close)

    @property
    def _shared(self) -> bool:
        """Whether the index lies on disk; otherwise it is in memory: for collections there, and for those who may not write."""
        return self._store.folder is not None and not self._store.settings.read_only

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
            self._view = None

    # ------------------------------------------------------------------ keeping up

    @contextlib.contextmanager
    def reading(self, *, positions: bool = False) -> Iterator[tuple[Connection, Snapshot, TextView]]:
        """Yield a connection and the snapshot of the newest commit, as `Store.read` does, and an index that covers just that.

        Where it has to be caught up first, that happens within the reading: however fast others write, it happens once.

        Parameters
        ----------
        positions : bool, default=False
            One that has the words in order beside their terms; the first time, that builds it anew.
        """
        with self._store.read() as (connection, snapshot):
            view = self._view
            good = view is not None and view.seq == snapshot.seq and view.snapshot.whole
            if view is not None and good and (view.index.positions or not positions):
                yield connection, snapshot, view
                return
        with contextlib.ExitStack() as stack:
            with self._lock:
                found = self._patiently_caught_up(stack, positions)
            yield found
        with self._lock:  # no longer within a reading, which would keep the log from being folded
            self._offer()

    def _patiently_caught_up(
        self, stack: contextlib.ExitStack, positions: bool
    ) -> tuple[Connection, Snapshot, TextView]:
        """Return what `reading` yields; `stack` then ends the reading."""
        for attempt in range(4):
            try:
                with contextlib.ExitStack() as reading:
                    connection, snapshot = reading.enter_context(self._store.read())
                    # The last time, since others are faster: an index that stands on nothing of theirs.
                    view = self._caught_up(connection, snapshot, positions, anew=attempt == 3)
                    stack.push(reading.pop_all())
                    return connection, snapshot, view
            except OSError as err:
                # Somebody has removed the files that it stood on: old ones, or all, to erase what was deleted.
                if err.errno != errno.ENOENT or attempt == 3:
                    raise
                self._forget()
        raise AssertionError  # the last attempt returns or raises

    def _caught_up(self, connection: Connection, snapshot: Snapshot, positions: bool, *, anew: bool) -> TextView:
        self._store.follow_words(connection)
        view = self._usable(connection, snapshot) if not anew else None
        if view is not None and view.index.analysis.record != self._analysis().record:
            view = None
        if view is not None and positions and not view.index.positions:
            view = None
        if view is None or view.seq != snapshot.seq:
            index = view.index if view is not None else self._new_index(positions)
            self._extend(connection, snapshot, index, view)
            index.commit()
            view = TextView(
                index, index.snapshot, snapshot.seq, snapshot.n_slots, snapshot.generation, not self._shared, True
            )
        self._remember(view)
        return view

    def _usable(self, connection: Connection, snapshot: Snapshot) -> TextView | None:
        """Return the newest index that answers for this commit, or can be extended to."""
        entry = self._store.artifact(connection, "text") if self._store.folder is not None else None
        view = self._view
        # Slots are renumbered by a compaction, which changes the generation (and so does fitting, harmlessly) and deletes the
        # entry.
        if view is not None and view.generation != snapshot.generation:
            same = view.recorded and entry is not None and view.index.manifest == entry["manifest"]
            view = view if same else None
        if view is not None and not (view.snapshot.whole and (view.extensible or view.seq == snapshot.seq)):
            view = None
        wanted = entry is not None and (view is None or _before(view, entry))
        if entry is not None and wanted and (self._shared or entry["seq"] == snapshot.seq):
            index = self._open(entry)
            if index is not None:
                covered = entry["seq"], entry["slots"], snapshot.generation
                return TextView(index, index.snapshot, *covered, recorded=True, extensible=self._shared)
        return view

    def _open(self, entry: dict[str, Any]) -> TextIndex | None:
        assert self._store.folder is not None  # in memory nothing is recorded
        try:
            folder = self._store.folder.sub(TEXT_DIRECTORY)
            return TextIndex.open(folder, self._analysis(), manifest=entry["manifest"])
        except (CorruptCollectionError, MismatchError, FileNotFoundError):
            return None  # derived: built again from the documents

    def _offer(self) -> None:
        """Record the index for others, unless a writer is at work, or somebody has recorded one that goes as far."""
        view = self._view
        if view is None or view.recorded or self._store.closed:
            return
        manifest = view.index.manifest
        assert manifest is not None  # it was committed
        with contextlib.suppress(OctavoError):  # it only saves time later
            with self._store.write(timeout=0) as connection:
                generation = connection.execute("SELECT value FROM manifest WHERE key = 'generation'").fetchone()[0]
                entry = self._store.artifact(connection, "text")
                if generation != view.generation:
                    return
                if entry is not None and _same_words(entry, manifest) and not _before_entry(entry, view):
                    return
                replaced = entry["manifest"]["directory"] if entry is not None else None
                value = {"seq": view.seq, "slots": view.slots, "manifest": manifest, "replaced": replaced}
                connection.execute("INSERT OR REPLACE INTO artifacts VALUES ('text', ?)", (json.dumps(value),))
            view.index.give()
            self._view = replace(view, recorded=True)
            # A process may be about to open the one that was replaced; the one before that is left to nobody.
            if entry is not None and entry.get("replaced"):
                view.index.remove(entry["replaced"])
            view.index.prune(keep={replaced}, age=_DRAFT_AGE)

    def _remember(self, view: TextView) -> None:
        if self._view is not None and self._view.index is not view.index:
            self._view.index.close()
        self._view = view

    def _forget(self) -> None:
        if self._view is not None:
            self._view.index.close()
        self._view = None

    def forget(self) -> None:
        """Drop what is held; the next search opens or builds the index again."""
        with self._lock:
            self._forget()

    def close(self) -> None:
        """Offer what was not recorded, and let go of files and maps."""
        with self._lock:
            self._offer()
            self._forget()

    def damage(self, entry: dict[str, Any] | None) -> str | None:
        """Return what is wrong with the files of an entry, if anything is."""
        if self._store.folder is None or entry is None:
            return None
        try:
            verify_files(self._store.folder.sub(TEXT_DIRECTORY), entry["manifest"])
        except FileNotFoundError:
            return f"the full-text index is gone ({self._store.folder.path / TEXT_DIRECTORY}); the next text search rebuilds it"
        except CorruptCollectionError as err:
            return f"the full-text index is damaged ({err}); it is rebuilt by the next text search"
        return None

    def _new_index(self, positions: bool) -> TextIndex:
        folder = self._store.folder.sub(TEXT_DIRECTORY, create=True) if self._shared and self._store.folder else None
        return TextIndex.open(folder, self._analysis(), positions=positions)

    def _analysis(self) -> TextAnalysis:
        return self._store.settings.analysis()

    def _extend(self, connection: Connection, snapshot: Snapshot, index: TextIndex, view: TextView | None) -> None:
        """Bring an index that is as far as a view (None: an empty one) to the snapshot."""
        seq, covered = (view.seq, view.slots) if view is not None else (-1, 0)
        dead = connection.execute("SELECT slot FROM tombstones WHERE seq > ? AND slot < ?", (seq, covered)).fetchall()
        if dead:
            index.delete(np.array([row[0] for row in dead], np.int64))
        found = connection.execute("SELECT slot FROM retexted WHERE seq > ? AND slot < ?", (seq, covered)).fetchall()
        changed = [row[0] for row in found]
        if changed:
            index.delete(np.array(changed, np.int64))
        rows = chain(
            select_documents(connection, f"slot, {WORDS}", "slot", changed),
            connection.execute(f"SELECT slot, {WORDS} FROM documents WHERE slot >= ? ORDER BY slot", (covered,)),
        )
        with self._store.database.calling("the function given as full_text"):
            while part := list(islice(rows, _CHUNK)):
                index.add(np.array([row[0] for row in part], np.int64), [row[1] for row in part])


def _order(manifest: dict[str, Any] | None, seq: int) -> tuple[bool, int]:
    """Return which of two indexes is the better one: one with positions answers every query, then the one that goes further."""
    return bool(manifest and manifest.get("positions")), seq


def _same_words(entry: dict[str, Any], manifest: dict[str, Any]) -> bool:
    return bool(entry["manifest"].get("analysis") == manifest["analysis"])


def _before(view: TextView, entry: dict[str, Any]) -> bool:
    return _order(view.index.manifest, view.seq) < _order(entry["manifest"], entry["seq"])


def _before_entry(entry: dict[str, Any], view: TextView) -> bool:
    return _order(entry["manifest"], entry["seq"]) < _order(view.index.manifest, view.seq)
