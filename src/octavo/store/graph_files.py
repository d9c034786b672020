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
import threading
import time
import uuid
import zlib
from pathlib import Path

import numpy as np

from octavo._files import ADVICE, remove, storage_errors, sync_directory, sync_file
from octavo.errors import CollectionLockedError, OctavoError, StorageError
from octavo.index import Graph, planner
from octavo.store.snapshot import GraphView, Snapshot
from octavo.store.store import Store

#: Rows linked between two publications.
_CHUNK = 16_384

#: While documents stream in, rows may wait outside the graph up to this multiple of what may be scanned beside it.
_BACKLOG = 8

#: A checkpoint is written when the graph has grown by this share since the last one.
_GROWTH = 0.25

#: Seconds after which a draft belongs to a writer that died.
_DRAFT_AGE = 3_600.0

_NAME = re.compile(r"g(\d{6,})-[0-9a-f]{32}\.graph(\.tmp)?")


class GraphFiles:
    """Builds, extends, loads and saves the graph of one store.

    Parameters
    ----------
    store : Store
        The collection's files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loaded_generation = -1
        self._saved = 0  # slots that the newest checkpoint covers

    def behind(self, snapshot: Snapshot, tail: int | None = None) -> bool:
        """Tell whether more rows wait outside the graph than `tail` (None: than should be scanned beside it)."""
        if not snapshot.fitted or not snapshot.tiers:
            return False
        covered = snapshot.graph.covered if snapshot.graph is not None else 0
        waiting = snapshot.n_slots - covered
        if waiting == 0 or snapshot.n_alive < planner.graph_min(snapshot.tiers[0].layout):
            return False
        if tail is None:
            tail = planner.tail_max(snapshot.tiers[0].layout)
        return waiting > (tail if covered else 0)

    def catch_up(self, tail: int | None = None) -> None:
        """Extend the graph until at most `tail` rows wait outside it; the caller waits."""
        with self._lock:
            while self.behind(self._store.snapshot, tail) and not self._store.closed:
                self._extend(self._store.snapshot)
        if not self._store.settings.read_only and self._due(self._store.snapshot):
            # It only saves time later, and the write that it follows is durable: no reason to fail that.
            with contextlib.suppress(StorageError, CollectionLockedError):
                self.checkpoint()

    def start(self) -> None:
        """Extend the graph in a thread of its own; searches stay exact, if slower, until it is done."""
        if self._lock.locked() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._quietly, name="octavo-graph", daemon=True)
        self._thread.start()

    def keep_up(self) -> None:
        """Extend the graph beside a stream of writes; the writer waits only when it is far ahead."""
        snapshot = self._store.snapshot
        if not self.behind(snapshot):
            return
        covered = snapshot.graph.covered if snapshot.graph is not None else 0
        if snapshot.n_slots - covered > _BACKLOG * planner.limits.tail_max:
            self.wait()
        self.start()

    def _quietly(self) -> None:
        # A damaged tier shows itself to the search that reads it; the thread must not print a traceback for it.
        with contextlib.suppress(OctavoError, OSError):
            self.catch_up()

    def forget(self) -> None:
        """Drop the graph in memory, so that it is built again from the coarse tier."""
        self.wait()
        with self._lock:
            self._saved = 0
            self._store.publish_graph(self._store.snapshot.generation, None)

    def wait(self) -> None:
        """Wait for a background run to end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

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
            if self._store.closed:
                return

    # ------------------------------------------------------------------ checkpoints

    def _due(self, snapshot: Snapshot) -> bool:
        covered = snapshot.graph.covered if snapshot.graph is not None else 0
        if self._loaded_generation != snapshot.generation:
            self._saved, self._loaded_generation = 0, snapshot.generation
        return covered - self._saved > max(self._saved * _GROWTH, planner.limits.tail_max)

    def _load(self, snapshot: Snapshot) -> GraphView | None:
        """Return the graph of the newest checkpoint, if there is one that matches its checksum."""
        directory = self._store.directory
        if directory is None:
            return None
        with self._store.database.read() as connection:
            entry = self._store.artifact(connection, "graph")
        if entry is None or entry["generation"] != snapshot.generation or entry["covered"] > snapshot.n_slots:
            return None
        path = directory / entry["file"]
        try:
            if path.stat().st_size != entry["bytes"] or file_crc(path) != entry["crc"]:
                return None
            graph = self._map(path, snapshot)
        except (OSError, OctavoError, RuntimeError):
            return None
        self._saved, self._loaded_generation = entry["covered"], snapshot.generation
        view = GraphView(graph, entry["covered"])
        self._store.publish_graph(snapshot.generation, view)
        return view

    def _map(self, path: Path, snapshot: Snapshot) -> Graph:
        connectivity = self._store.settings.connectivity or 16
        return Graph.load(path, snapshot.tiers[0].layout, connectivity=connectivity, mapped=True)

    def checkpoint(self, *, keep: bool = False) -> None:
        """Save the graph beside the vector files and record its checksum.

        Afterwards searches read it from that file, which gives its memory back; with `keep`, the graph stays in memory.
        """
        store = self._store
        directory, snapshot = store.directory, store.snapshot
        if directory is None or snapshot.graph is None or store.settings.read_only:
            return
        if self._loaded_generation == snapshot.generation and snapshot.graph.covered == self._saved:
            return
        with self._lock:
            snapshot = store.snapshot
            if snapshot.graph is None:
                return
            covered = snapshot.graph.covered
            name = f"g{snapshot.generation:06d}-{uuid.uuid4().hex}.graph"
            path, draft = directory / name, directory / f"{name}.tmp"
            try:
                with storage_errors(draft, "created"):  # by ourselves: usearch would make it readable for all
                    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                _save(snapshot.graph.graph, draft)
                sync_file(draft)
                entry = {
                    "file": name,
                    "generation": snapshot.generation,
                    "covered": covered,
                    "bytes": draft.stat().st_size,
                    "crc": file_crc(draft),
                }
                with storage_errors(path):
                    os.replace(draft, path)
                sync_directory(directory)
                with store.database.write() as connection:
                    current = connection.execute("SELECT value FROM manifest WHERE key = 'generation'").fetchone()[0]
                    kept = store.artifact(connection, "graph")
                    further = kept is not None and kept["generation"] == current and kept["covered"] >= covered
                    if current == snapshot.generation and not further:  # another process may have saved more
                        connection.execute("INSERT OR REPLACE INTO artifacts VALUES ('graph', ?)", (json.dumps(entry),))
                self._remove_others(directory)
                self._saved, self._loaded_generation = covered, snapshot.generation
            except FileNotFoundError:
                return  # another process has erased the draft, with all else that knew deleted documents
            except BaseException:
                remove(draft)
                raise
            if not keep:
                with contextlib.suppress(OSError, OctavoError):  # gone already: another process saved a newer one
                    store.publish_graph(snapshot.generation, GraphView(self._map(path, snapshot), covered))

    def _remove_others(self, directory: Path) -> None:
        # Only once the new name is committed: where a process dies before that, the old file is the checkpoint. Under the
        # write lock, since another process may commit a newer one. A file that another process saved but has not recorded
        # yet goes too: that process then records a name without a file, which reads as "no checkpoint". Drafts may still
        # be being written, so only old ones are removed.
        with self._store.database.write() as connection:
            kept = self._store.artifact(connection, "graph")
            for entry in directory.iterdir():
                match = _NAME.fullmatch(entry.name)
                old = match is not None and (match[2] is None or _age(entry) > _DRAFT_AGE)
                if old and (kept is None or entry.name != kept["file"]):
                    remove(entry)

    def close(self) -> None:
        """Stop extending and save what is there."""
        self.wait()
        with contextlib.suppress(OctavoError, OSError):
            self.checkpoint(keep=True)


def _save(graph: Graph, path: Path) -> None:
    """Write a graph, all of it: a draft that a full disk has cut short must not get a checksum that matches."""
    try:
        graph.save(path)
    except RuntimeError as err:  # what usearch makes of any error of the operating system
        raise StorageError(errno.EIO, f"{path} could not be written: {err}; {ADVICE}") from err
    if path.stat().st_size != graph.file_bytes:
        raise StorageError(errno.ENOSPC, f"{path} was cut short; {ADVICE}")


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def file_crc(path: Path) -> int:
    """Return the CRC-32 of a file's content."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc
