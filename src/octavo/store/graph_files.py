"""Keeps the graph over the coarse tier in step with the collection, and its checkpoints on disk.

The graph is derived: it can always be rebuilt from the coarse tier, so a missing or damaged checkpoint costs time, never
an answer. What it does not reach yet is scanned exactly.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
import zlib
from typing import Any

import numpy as np

from octavo import _forks
from octavo._files import ADVICE, Directory, HeldFile, storage_errors
from octavo.errors import CorruptCollectionError, OctavoError, StorageError
from octavo.index import Graph, planner
from octavo.store.derived import DerivedIndex, is_abandoned
from octavo.store.snapshot import GraphView, Snapshot
from octavo.store.store import Store

#: Rows linked between two publications, and between two looks at whether the process is about to end.
_CHUNK = 4_096

#: A checkpoint is written when the graph has grown by this share since the last one.
_GROWTH = 0.25

_NAME = re.compile(r"g(\d{6,})-[0-9a-f]{32}\.graph(\.tmp)?")


class GraphFiles(DerivedIndex):
    """Builds, extends, loads and saves the graph of one store.

    Parameters
    ----------
    store : Store
        The collection's files.
    prefix : str
        See `DerivedIndex`.
    """

    name = "graph"

    def __init__(self, store: Store, prefix: str = "") -> None:
        super().__init__(store, prefix)
        self._loaded_generation = -1
        self._saved = 0  # slots that the newest checkpoint covers
        self._refused: dict[str, Any] | None = None  # the entry whose file is damaged

    def after_fork_in_child(self) -> None:
        """Have no thread; a graph that one was building cannot be used here, nor be destroyed."""
        busy = self._lock.locked()
        super().after_fork_in_child()
        if busy:
            _forks.keep_for_ever(self._store.forget_graph_after_fork(self.space.generation))
            self._saved, self._loaded_generation = 0, -1

    # ------------------------------------------------------------------ building

    def behind(self, snapshot: Snapshot, tail: int | None = None) -> bool:
        """Tell whether more rows wait outside the graph than `tail` (None: than should be scanned beside it)."""
        if not snapshot.fitted or not snapshot.tiers:
            return False
        covered = self.covered(snapshot)
        waiting = snapshot.n_slots - covered
        if waiting == 0 or snapshot.n_alive < planner.graph_min(snapshot.tiers[0].layout):
            return False
        if tail is None:
            tail = planner.tail_max(snapshot.tiers[0].layout)
        return waiting > (tail if covered else 0)

    def covered(self, snapshot: Snapshot) -> int:
        """Return up to which slot rows are linked."""
        return snapshot.graph.covered if snapshot.graph is not None else 0

    def _catch_up(self, tail: int | None) -> None:
        with self._lock:
            while self.behind(self.space, tail) and not self._over():
                self._extend(self.space)

    def forget(self) -> None:
        """Drop the graph in memory, so that it is built again from the coarse tier."""
        self.wait()
        with self._lock:
            self._saved = 0
            self._store.publish_graph(self.space.generation, None)

    def _extend(self, snapshot: Snapshot) -> None:
        view = snapshot.graph
        if view is None:
            view = self._load(snapshot)
        if view is None:
            view = GraphView(Graph(snapshot.tiers[0].layout, self._store.settings.connectivity or 16), 0)
        if view.graph.mapped and view.covered < snapshot.n_slots:
            view = GraphView(view.graph.copy(), view.covered)
        coarse = snapshot.tiers[0]
        for start in range(view.covered, snapshot.n_slots, _CHUNK):
            end = min(start + _CHUNK, snapshot.n_slots)
            rows = start + np.flatnonzero(snapshot.alive[start:end])
            coarse.check(rows)
            missing = rows[~view.graph.contains(rows)]  # an interrupted run may have linked some of them
            view.graph.add(missing, coarse.codes[missing])
            view = GraphView(view.graph, end)
            self._store.publish_graph(snapshot.generation, view)
            if self._over():
                return

    # ------------------------------------------------------------------ checkpoints

    def _due(self, snapshot: Snapshot) -> bool:
        covered = self.covered(snapshot)
        if self._loaded_generation != snapshot.generation:
            self._saved, self._loaded_generation = 0, snapshot.generation
        return covered - self._saved > max(self._saved * _GROWTH, planner.limits.tail_max)

    def _load(self, snapshot: Snapshot) -> GraphView | None:
        """Return the graph of the newest checkpoint, if there is one that matches its checksum."""
        folder = self._store.folder
        if folder is None:
            return None
        with self._store.read() as (connection, _):
            entry = self._store.artifact(connection, self.artifact)
        if entry is None or entry["generation"] != snapshot.generation or entry["covered"] > snapshot.n_slots:
            return None
        try:
            file = folder.hold(entry["file"])
            if graph_damage(file, entry) is not None:
                self._refused = entry
                return None
            view = self._map(file, entry["file"], snapshot, entry["covered"])
        except (OSError, OctavoError, RuntimeError):
            self._refused = entry
            return None
        self._saved, self._loaded_generation = entry["covered"], snapshot.generation
        self._store.publish_graph(snapshot.generation, view)
        return view

    def _map(self, file: HeldFile, name: str, snapshot: Snapshot, covered: int) -> GraphView:
        """Return a graph that is searched where it lies, in a file that cannot vanish meanwhile."""
        assert self._store.folder is not None  # only collections on disk have graph files
        path = file.native_path(self._store.folder.path / name)
        connectivity = self._store.settings.connectivity or 16
        graph = Graph.load(path, snapshot.tiers[0].layout, connectivity=connectivity, mapped=True)
        return GraphView(graph, covered, file, file.size())

    def checkpoint(self, *, keep: bool = False) -> None:
        """Save the graph beside the vector files and record its checksum.

        Afterwards searches read it from that file, which gives its memory back; with `keep`, the graph stays in memory. One
        thread does so at a time: the file of a checkpoint is deleted by the next one.
        """
        store = self._store
        folder = store.folder
        if folder is None or store.settings.read_only or self._is_saved(self.space):
            return
        with self._lock:
            snapshot = self.space
            view = snapshot.graph
            if view is None or self._is_saved(snapshot):  # by the thread that had the lock until now
                return
            name = f"g{snapshot.generation:06d}-{uuid.uuid4().hex}.graph"
            draft = f"{name}.tmp"
            try:
                store.require_in_place()
                file = self._write(folder, draft, view.graph)
                entry = {
                    "file": name,
                    "generation": snapshot.generation,
                    "covered": view.covered,
                    "bytes": file.size(),
                    "crc": file_crc(file),
                }
                with storage_errors(folder.path / name):
                    folder.replace(draft, name)
                folder.sync()
                with store.write() as connection:
                    current = self._store.generation(connection, self._prefix)
                    kept = store.artifact(connection, self.artifact)
                    good = kept is not None and kept["generation"] == current and kept != self._refused
                    further = good and kept is not None and kept["covered"] >= view.covered
                    there = folder.stat(name) is not None  # another process may have removed what nobody knew of
                    if current == snapshot.generation and not further and there:  # or have saved more
                        connection.execute(
                            "INSERT OR REPLACE INTO artifacts VALUES (?, ?)", (self.artifact, json.dumps(entry))
                        )
                self._remove_others(folder)
                self._saved, self._loaded_generation = view.covered, snapshot.generation
            except FileNotFoundError:
                return  # another process has erased the draft, with all else that knew deleted documents
            except BaseException:
                folder.remove(draft)
                raise
            if not keep:
                with contextlib.suppress(OSError, OctavoError):
                    store.publish_graph(snapshot.generation, self._map(file, name, snapshot, view.covered))

    def _is_saved(self, snapshot: Snapshot) -> bool:
        """Tell whether there is nothing to save: no graph, one that is read from its file, or one that was saved as it is."""
        view = snapshot.graph
        if view is None or view.graph.mapped:
            return True
        return self._loaded_generation == snapshot.generation and view.covered == self._saved

    @staticmethod
    def _write(folder: Directory, draft: str, graph: Graph) -> HeldFile:
        """Write a graph, all of it: a draft that a full disk has cut short must not get a checksum that matches."""
        # created by ourselves: usearch would make it readable for all
        file = HeldFile(folder.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR), writable=True)
        path = folder.path / draft
        try:
            graph.save(file.native_path(path))
        except RuntimeError as err:  # what usearch makes of any error of the operating system
            raise StorageError(errno.EIO, f"{path} could not be written: {err}; {ADVICE}") from err
        if file.size() != graph.file_bytes:
            raise StorageError(errno.ENOSPC, f"{path} was cut short; {ADVICE}")
        with storage_errors(path):
            os.fsync(file.fd)
        return file

    def _remove_others(self, folder: Directory) -> None:
        # Only once the new name is committed: where a process dies before that, the old file is the checkpoint. Under the
        # write lock, since another process may commit a newer one. A file that another process saved but has not recorded
        # yet goes too: that process then records a name without a file, which reads as "no checkpoint". Drafts may still
        # be being written, so only old ones are removed.
        with self._store.write() as connection:
            known = self._store.derived(connection)
            for name in folder.names():
                match = _NAME.fullmatch(name)
                old = match is not None and (match[2] is None or is_abandoned(folder, name))
                if old and name not in known:
                    folder.remove(name)

    def damage(self, entry: dict[str, Any] | None) -> str | None:
        """Return what is wrong with the file of the checkpoint, if anything is."""
        if self._store.folder is None or entry is None:
            return None
        try:
            return graph_damage(self._store.folder.hold(entry["file"]), entry)
        except FileNotFoundError:
            return f"{entry['file']} is missing; it is rebuilt when it is needed"
        except CorruptCollectionError as err:
            return str(err)


def graph_damage(file: HeldFile, entry: dict[str, Any]) -> str | None:
    """Return what is wrong with the file of a checkpoint, if anything is."""
    if file.size() != entry["bytes"] or file_crc(file) != entry["crc"]:
        return f"{entry['file']} is damaged (its checksum does not match); it is rebuilt when it is needed"
    return None


def file_crc(file: HeldFile) -> int:
    """Return the CRC-32 of a file's content."""
    crc = 0
    for block in file.read_blocks():
        crc = zlib.crc32(block, crc)
    return crc
