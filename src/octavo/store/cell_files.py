"""Keeps the cells of a collection in step with its vector files, and their files on disk.

Cells are derived: they can always be made again from the finest tier, so a missing or damaged file costs time, never an
answer. What they do not reach yet is scanned exactly.

A generation of vector files has one model (centroids) at a time and a few segments, each the rows of one stretch of slots.
Files are written once, made durable, and named by one entry in SQLite; whoever changes the entry deletes what it no longer
names. Rows that came later become a new segment, and small segments are merged, so that there are about five.

Two threads work beside searches and writers. One puts new rows into cells, which takes about 10 microseconds a row; a writer
that is far ahead waits for it. The other learns new centroids and puts all rows into their cells anew, which takes seconds:
meanwhile searches and the first thread go on with the cells that there are, and nobody waits.

A new generation of files goes on with the cells of the one before it, if its vectors are nearly the same (`take_over`).
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from octavo._arrays import Floats, release_arrays
from octavo._files import Directory
from octavo.errors import CorruptCollectionError, OctavoError
from octavo.index import planner
from octavo.index.cells import SAMPLE_PER_CELL, CellModel, Segment, cells_for
from octavo.index.reach import HeldOut, queries_for
from octavo.store._cell_format import ModelView, SegmentView, read_model, read_segment, write_model, write_segment
from octavo.store.derived import DerivedIndex, is_abandoned
from octavo.store.snapshot import CellView, Mask, Slots, Snapshot, decode_rows
from octavo.store.store import Store, derived_files

#: Rows decoded and encoded at a time, and between two looks at whether to stop.
_CHUNK = 16_384

#: A segment is merged with those behind it while it has at most so many times their rows.
_MERGE = 3

#: Centroids, and how far searches look, are learned anew, in the background, when the collection has grown by this factor.
#: Measured (int8, 300 questions, 1,000 rows at a time): with 3, WordLlama finds 0.962 to 0.968 of the ten best at 60,000 and
#: a static model 0.960 to 0.970; with 1.5, both 0.977 to 0.991 at six sizes from 30,000 to 90,000. It is also done ...
_GROWN = 1.5
#: ... by whoever adds documents when it has grown by this one, because no process lives long enough to end it otherwise.
_OVERGROWN = 9.0
#: They are learned for the first time by whoever adds documents when there are so many times the rows it takes.
_OVERDUE = 2

#: While one call adds batch after batch, and nobody searches here meanwhile, what is learned is soon learned again. So it is
#: only done when there are so many times the rows it takes, or as many times those that were there the last time.
_STREAMED, _STREAMED_GROWN = 8, 3.0

#: Cells are taken over by another generation if the mean square of the difference between old and new vectors is at most this
#: part of that of the vectors themselves; what one bit a value leaves is far more.
_SAME, _COMPARED = 0.01, 512

#: Rows left out: so many, or this part of the sample, if that is less.
_LEFT_OUT, _LEFT_OUT_PART = 2_048, 8


class _StoppedError(Exception):
    """Building was given up."""


class CellFiles(DerivedIndex):
    """Trains, extends, merges, loads and saves the cells of one store.

    Parameters
    ----------
    store : Store
        The collection's files.
    prefix : str
        See `DerivedIndex`.
    """

    name = "cells"

    #: What the names of its files end with: that of the model, and those of the segments.
    endings: ClassVar[tuple[str, str]] = ("cells", "segment")

    #: Whether learning may be put off until a call that adds has ended: a scan finds what is in no cells as well.
    puts_off: ClassVar[bool] = True

    def __init__(self, store: Store, prefix: str = "") -> None:
        super().__init__(store, prefix)
        self._own = re.compile(rf"g(\d{{6,}})-[0-9a-f]{{32}}\.(?:{'|'.join(self.endings)})(\.tmp)?")
        self._seen: dict[str, Any] | None = None  # the entry that was looked at last, used or not
        self._refused: dict[str, Any] | None = None  # one whose files are damaged
        self._training = threading.Lock()
        self._trainer: threading.Thread | None = None
        # what became of generations that were replaced while centroids are learned: the slots that were kept (None: all)
        self._moves: dict[int, Mask | None] = {}
        # shown last, and for which generation: a writer that replaces that may have begun before
        self._shown: tuple[int, CellView | None] = -1, None
        self._streaming = False  # the last to ask for work was a call that goes on adding

    # ------------------------------------------------------------------ what it follows

    def _view(self, snapshot: Snapshot) -> CellView | None:
        """Return the cells that a snapshot has."""
        return snapshot.cells

    def _publish(self, generation: int, view: CellView | None) -> None:
        """Show them to searches."""
        self._store.publish_cells(generation, view)

    def _has_rows(self, snapshot: Snapshot) -> bool:
        """Tell whether there is something to put into cells."""
        return bool(snapshot.fitted and snapshot.tiers and snapshot.n_alive)

    def _least(self, snapshot: Snapshot) -> int:
        """Return from how many documents on there are cells."""
        return planner.cells_min(snapshot.tiers[0].layout)

    def _tail(self, snapshot: Snapshot) -> int:
        """Return how many documents may wait beside the cells."""
        return planner.tail_max(snapshot.tiers[0].layout)

    def _learn(self, snapshot: Snapshot, alive: Slots, seed: int) -> CellView:
        """Learn centroids, put all documents into their cells, and learn how far to look."""
        n_cells = cells_for(len(alive))
        size = min(len(alive), n_cells * SAMPLE_PER_CELL)
        chosen = np.random.default_rng(seed).permutation(alive)[:size]
        apart = min(_LEFT_OUT, size // _LEFT_OUT_PART)
        sample, left_out = np.sort(chosen[apart:]), np.sort(chosen[:apart])
        model = CellModel.train(self._decoded(snapshot, sample), n_cells, seed=seed, pause=self._pause)
        some = np.random.default_rng([seed, 1]).choice(alive, (3, queries_for(len(model))))
        held = model.held_out(*(decode_rows(snapshot, rows) for rows in some))
        segment, cosine = self._encoded(snapshot, model, 0, held)
        if apart:
            _, cosine = model.encode(decode_rows(snapshot, left_out), left_out)
        model = model.learned(held, segment, cosine, self._pause)
        model.make_ready()
        return CellView(ModelView(model, len(alive)), (SegmentView(segment, 0, snapshot.n_slots),), snapshot.n_slots)

    def _merged(self, segments: Sequence[Segment], alive: Mask | None) -> Segment:
        """Put segments together, without documents that are no longer there."""
        return Segment.merged(segments, alive)

    def _renumbered(self, segment: Segment, alive: Mask, places: Slots) -> Segment:
        """Return a segment with the slots that documents have in the next generation."""
        moved = Segment.merged([segment], alive)
        moved.records["slot"] = places[moved.records["slot"]]
        return moved

    def _is_alike(self, before: Snapshot, now: Snapshot) -> bool:
        """Tell whether the vectors of two generations are nearly the same, slot by slot."""
        if before.dim != now.dim or not now.tiers or not now.fitted:
            return False
        alive = np.flatnonzero(before.alive)
        some = alive[np.linspace(0, len(alive) - 1, min(len(alive), _COMPARED)).astype(np.int64)]
        return bool(len(some)) and is_same(decode_rows(before, some), decode_rows(now, some))

    def _write_part(self, folder: Directory, name: str, view: SegmentView, dim: int) -> dict[str, Any]:
        """Write the file of a segment; returns what is to be recorded of it."""
        return write_segment(folder, name, view, dim)

    def _read_part(self, folder: Directory, entry: dict[str, Any], model: CellModel) -> SegmentView:
        """Map the file of a segment."""
        return read_segment(folder, entry, model)

    # ------------------------------------------------------------------ following

    def begin(self) -> None:
        """Map what is there, which takes milliseconds, and take up work."""
        with contextlib.suppress(OctavoError, OSError), self._lock:
            self._current(self.space)
        super().begin()

    def behind(self, snapshot: Snapshot, tail: int | None = None) -> bool:
        """Tell whether there is something to do: rows beyond the tail, another training, damage."""
        due = self._untrained(snapshot) or (tail is None and self._outgrown(snapshot))
        return (due and not self._is_training) or self._waits(snapshot, tail)

    @property
    def _is_training(self) -> bool:
        return self._trainer is not None and self._trainer.is_alive()

    def _untrained(self, snapshot: Snapshot) -> bool:
        """Tell whether there are no cells, and should be."""
        if not self._has_rows(snapshot):
            return False
        view = self._view(snapshot)
        if view is not None:
            return view.damaged
        return snapshot.n_alive >= self._least(snapshot)

    def _waits(self, snapshot: Snapshot, tail: int | None) -> bool:
        """Tell whether there are cells, and more than `tail` rows beside them."""
        view = self._view(snapshot)
        if view is None or view.damaged or not self._has_rows(snapshot):
            return False
        return snapshot.n_slots - view.covered > (self._tail(snapshot) if tail is None else tail)

    def _outgrown(self, snapshot: Snapshot, factor: float = _GROWN) -> bool:
        """Tell whether the centroids no longer fit what there is."""
        view = self._view(snapshot)
        if view is None or not self._has_rows(snapshot):
            return False
        grown = snapshot.n_alive / max(1, view.trained.rows)
        return grown > factor or (view.unfit and factor == _GROWN)

    def _overdue(self, snapshot: Snapshot, tail: int | None) -> bool:
        """Tell whether whoever adds documents should train, too."""
        if not self._untrained(snapshot):
            return self._outgrown(snapshot, _OVERGROWN)
        return tail == 0 or self._view(snapshot) is not None or snapshot.n_alive >= _OVERDUE * self._least(snapshot)

    def covered(self, snapshot: Snapshot) -> int:
        """Return up to which slot rows are in cells."""
        view = self._view(snapshot)
        return view.covered if view is not None else 0

    def start(self) -> None:
        """Extend the cells in a thread of its own, and learn them if it is time to."""
        self._streaming = False
        self._begin_thread()

    def keep_up(self) -> None:
        """Extend the cells beside a stream of writes; the writer waits only when it is far ahead."""
        snapshot = self.space
        self._streaming = self.puts_off
        if self._waits(snapshot, None) or (self._is_due(snapshot) and not self._is_training):
            self._beside(snapshot)

    def _is_due(self, snapshot: Snapshot) -> bool:
        """Tell whether it is time to learn centroids in the background."""
        view = self._view(snapshot)
        if not self._streaming or (view is not None and view.damaged):
            return self._untrained(snapshot) or self._outgrown(snapshot)
        if view is None:
            return self._untrained(snapshot) and snapshot.n_alive >= _STREAMED * self._least(snapshot)
        return self._outgrown(snapshot, _STREAMED_GROWN)

    def _quietly(self) -> None:
        with contextlib.suppress(OctavoError, OSError):
            self._follow(None)
            self._save()
            self._train_beside()

    def _train_beside(self) -> None:
        """Learn centroids in a thread of its own, if it is time to."""
        if not self._is_due(self.space) or self._over() or self._is_training:
            return
        self._trainer = threading.Thread(target=self._trained_quietly, name="octavo-centroids", daemon=True)
        self._trainer.start()

    def _trained_quietly(self) -> None:
        with contextlib.suppress(OctavoError, OSError):
            while not self._over() and self._is_due(self.space) and self._train():
                pass
            self._follow(None)
            self._save()

    def _catch_up(self, tail: int | None) -> None:
        self._streaming = False
        self._follow(tail)
        while self._overdue(self.space, tail) and not self._over() and self._train():
            self._follow(tail)
        if not self._stopped:
            self._train_beside()

    def complete(self) -> None:
        """Put all rows into cells, and learn centroids if it is time to; the caller waits."""
        self._streaming = False
        self.wait()
        self._follow(0)
        while not self._over() and self._is_due(self.space) and self._train():
            self._follow(0)
        self._save()

    def _follow(self, tail: int | None) -> None:
        """Put rows into the cells that there are, until at most `tail` wait beside them."""
        with self._lock, contextlib.suppress(_StoppedError):
            while not self._over():
                snapshot = self.space
                view = self._current(snapshot)
                if view is None or not self._waits(snapshot, tail):
                    return
                self._extend(snapshot, view)

    def wait(self) -> None:
        """Wait for background runs to end."""
        super().wait()
        trainer = self._trainer
        if trainer is not None and trainer is not threading.current_thread():
            trainer.join()

    def after_fork_in_child(self) -> None:
        """Have no threads, and free locks."""
        super().after_fork_in_child()
        self._training, self._trainer = threading.Lock(), None

    def forget(self) -> None:
        """Drop the cells in memory, so that they are made again from the finest tier."""
        self.wait()
        with self._lock:
            self._seen = self._refused = None
            self._show(self.space.generation, None)

    def _show(self, generation: int, view: CellView | None) -> None:
        """Let searches use other cells."""
        self._shown = generation, view
        self._publish(generation, view)

    # ------------------------------------------------------------------ making

    def _pause(self) -> None:
        if self._over():
            raise _StoppedError

    def _train(self) -> bool:
        """Learn centroids and encode everything; what was there before serves searches meanwhile, and is extended.

        Tells whether it was done; it is not where this is to end, or where the vector files were replaced by others meanwhile.
        """
        with self._training, contextlib.suppress(_StoppedError):
            self._moves.clear()
            snapshot = self.space
            alive = np.flatnonzero(snapshot.alive)
            if not len(alive) or not (self._untrained(snapshot) or self._outgrown(snapshot)):
                return False
            release_arrays()
            view = self._learn(snapshot, alive, self._store.settings.seed or 0)
            release_arrays()
            generation = snapshot.generation
            while not self._over():
                now = self.space
                if now.generation != generation:
                    if generation not in self._moves:
                        return False
                    view, generation = self._moved(view, self._moves[generation]), generation + 1
                    continue
                if now.n_slots - view.covered > self._tail(now):
                    view = self._extended(now, view)
                    continue
                with self._lock:
                    if self.space.generation == generation:
                        self._show(generation, view)
                        return True
        return False

    def _extend(self, snapshot: Snapshot, view: CellView) -> None:
        """Encode what waits, and merge small segments."""
        with contextlib.suppress(CorruptCollectionError):  # noticed: what the search would have come to, too
            self._show(snapshot.generation, self._extended(snapshot, view))

    def _extended(self, snapshot: Snapshot, view: CellView) -> CellView:
        fresh, cosine = self._encoded(snapshot, view.trained.model, view.covered)
        merged = [SegmentView(fresh, view.covered, snapshot.n_slots)]
        added = int(np.count_nonzero(snapshot.alive[view.covered :]))
        rows, kept = len(fresh), list(view.parts)
        while kept and len(kept[-1].segment) <= _MERGE * rows:
            part = kept.pop()
            part.check_all()
            merged.insert(0, part)
            rows += len(part.segment)
        if len(merged) > 1:
            segment = self._merged([part.segment for part in merged], snapshot.alive)
        else:
            segment = fresh
        if len(segment):
            kept.append(SegmentView(segment, merged[0].first, snapshot.n_slots))
        before, mean = view.later
        later = before + added
        mean = (before * mean + added * cosine) / later if later else 0.0
        release_arrays()
        return CellView(view.trained, tuple(kept), snapshot.n_slots, (later, mean))

    def take_over(self, before: Snapshot, renumbered: bool) -> None:
        """Go on with the cells of the generation of vector files before this one, where its vectors are nearly the same."""
        with contextlib.suppress(OctavoError, OSError), self._lock:
            now, (generation, view) = self.space, self._shown
            if generation != before.generation or (view is not None and view.covered > before.n_slots):
                view = self._view(before)
            training = self._training.locked()
            if now.generation != before.generation + 1 or (view is None and not training):
                return
            if not renumbered and not self._is_alike(before, now):
                return
            kept = before.alive if renumbered else None
            if training:
                self._moves[before.generation] = kept
            if view is None or view.damaged or self._view(now) is not None:
                return
            for part in view.parts:
                part.check_all()
            self._show(now.generation, self._moved(view, kept))

    def _moved(self, view: CellView, kept: Mask | None) -> CellView:
        """Return cells for the next generation of vector files, which has these slots of the one before it (None: all)."""
        places = np.concatenate([[0], np.cumsum(kept)]) if kept is not None else None
        parts = []
        for part in view.parts:
            segment, first, last = part.segment, part.first, part.last
            if kept is None or places is None:
                segment = self._merged([segment], None)  # in memory: what it is mapped from goes
            else:
                segment = self._renumbered(segment, kept, places)
                first, last = int(places[first]), int(places[last])
            parts.append(SegmentView(segment, first, last))
        covered = view.covered if places is None else int(places[view.covered])
        return CellView(ModelView(view.trained.model, view.trained.rows), tuple(parts), covered, view.later)

    def _encoded(
        self, snapshot: Snapshot, model: CellModel, first: int, held: HeldOut | None = None
    ) -> tuple[Segment, float]:
        """Return the live rows from slot `first` on as one segment, and their mean cosine with their centroids."""
        slots = first + np.flatnonzero(snapshot.alive[first:])
        parts, total = [], 0.0
        for start in range(0, len(slots), _CHUNK):
            rows = slots[start : start + _CHUNK]
            part, cosine = model.encode(decode_rows(snapshot, rows), rows, held)
            parts.append(part)
            total += len(rows) * cosine
            self._pause()
        if not parts:
            return model.encode(np.empty((0, model.dim), np.float32), slots)
        return (Segment.merged(parts) if len(parts) > 1 else parts[0]), total / len(slots)

    def _decoded(self, snapshot: Snapshot, rows: Slots) -> Iterator[Floats]:
        for start in range(0, len(rows), _CHUNK):
            yield decode_rows(snapshot, rows[start : start + _CHUNK])

    # ------------------------------------------------------------------ loading

    def _current(self, snapshot: Snapshot) -> CellView | None:
        """Return the cells to go on with: those that are recorded, where another process was the last to do so."""
        view = self._view(snapshot)
        if self._shown[0] != snapshot.generation:
            self._shown = snapshot.generation, view  # files of an old one are let go
        if view is not None and view.damaged:
            view, self._refused = None, self._seen
            self._show(snapshot.generation, None)
        folder = self._store.folder
        if folder is None:
            return view
        for _ in range(3):
            with self._store.read() as (connection, _):
                entry = self._store.artifact(connection, self.artifact)
            if entry is None or entry["generation"] != snapshot.generation:
                return view
            if entry == self._refused or (view is not None and entry == self._seen):
                return view
            if entry["covered"] > snapshot.n_slots:
                return view  # of rows that this process does not see yet
            try:
                loaded = self._load(folder, entry, view)
            except FileNotFoundError:  # replaced meanwhile, or gone
                self._seen = entry
                continue
            except (OctavoError, OSError):
                self._seen = self._refused = entry
                return view
            self._seen = entry
            self._show(snapshot.generation, loaded)
            return loaded
        self._refused = self._seen
        return view

    def _load(self, folder: Directory, entry: dict[str, Any], view: CellView | None) -> CellView:
        """Map the files that an entry names; those that are mapped already stay as they are."""
        if view is not None and view.trained.entry == entry["model"]:
            trained = view.trained
        else:
            trained = read_model(folder, entry["model"])
        mapped: Sequence[SegmentView] = view.parts if view is not None and view.trained is trained else ()
        known = {part.entry["file"]: part for part in mapped if part.entry is not None}
        parts = []
        for about in entry["segments"]:
            part = known.get(about["file"])
            parts.append(part if part is not None else self._read_part(folder, about, trained.model))
        later, cosine = entry["later"]
        return CellView(trained, tuple(parts), entry["covered"], (later, cosine))

    # ------------------------------------------------------------------ saving

    def _due(self, snapshot: Snapshot) -> bool:
        return self._store.folder is not None and not _is_saved(self._view(snapshot))

    def checkpoint(self, *, keep: bool = False) -> None:
        """Write what is not in files yet, record it, and map it; with `keep`, searches go on in memory.

        Where another process has recorded other cells since, ours are given up: the next catch-up takes over theirs.
        """
        store = self._store
        folder = store.folder
        if folder is None or store.settings.read_only or _is_saved(self._view(self.space)):
            return
        with self._lock:
            snapshot = self.space
            view = self._view(snapshot)
            if view is None or _is_saved(view) or view.damaged:
                return
            written: list[str] = []
            recorded, known = False, True
            try:
                store.require_in_place()
                entry = self._write(folder, snapshot, view, written)
                folder.sync()
                known = False  # a commit that fails may be there all the same: then the next one tidies up
                recorded = self._record(folder, snapshot, entry)
                known = True
            except FileNotFoundError:
                return  # another process has erased the drafts, with all else that knew deleted documents
            finally:
                if known and not recorded:
                    for name in written:
                        folder.remove(name)
            if recorded and not keep:
                with contextlib.suppress(OSError, OctavoError):
                    self._show(snapshot.generation, self._load(folder, entry, view))

    def _write(self, folder: Directory, snapshot: Snapshot, view: CellView, written: list[str]) -> dict[str, Any]:
        """Write the files that are missing, and return what is to be recorded."""

        def new(kind: str) -> str:
            written.append(f"g{snapshot.generation:06d}-{uuid.uuid4().hex}.{kind}")
            return written[-1]

        model, rows = view.trained.model, view.trained.rows
        model_ending, ending = self.endings
        about = view.trained.entry or write_model(folder, new(model_ending), model, rows)
        parts = [part.entry or self._write_part(folder, new(ending), part, model.dim) for part in view.parts]
        later, cosine = view.later
        return {
            "generation": snapshot.generation,
            "covered": view.covered,
            "later": [later, float(cosine)],
            "model": about,
            "segments": parts,
        }

    def _record(self, folder: Directory, snapshot: Snapshot, entry: dict[str, Any]) -> bool:
        """Have the database name the files, and delete all others; False where that is not ours to do."""
        with self._store.write() as connection:
            current = self._store.generation(connection, self._prefix)
            kept = self._store.artifact(connection, self.artifact)
            others = kept is not None and kept["generation"] == current and kept != self._seen
            # another process may have removed what nobody knew of
            there = all(folder.stat(name) is not None for name in derived_files(self.name, entry))
            good = current == snapshot.generation and not others and there
            if good:
                connection.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?)", (self.artifact, json.dumps(entry)))
        # Only once the new names are committed: where a process dies before that, the old files are the cells. Under the
        # write lock, since another process may commit newer ones. Drafts may still be being written: only old ones go.
        with self._store.write() as connection:
            known = self._store.derived(connection)
            for name in folder.names():
                match = self._own.fullmatch(name)
                if match is not None and name not in known and (match[2] is None or is_abandoned(folder, name)):
                    folder.remove(name)
        if good:
            self._seen, self._refused = entry, None
        return good

    def close(self) -> None:
        """Stop, wherever building is, and save what is there."""
        self.stop()
        with contextlib.suppress(OctavoError, OSError):
            self.checkpoint(keep=True)

    def damage(self, entry: dict[str, Any] | None) -> str | None:
        """Return what is wrong with the recorded files, if anything is: every block is compared with its checksum."""
        folder = self._store.folder
        if folder is None or entry is None:
            return None
        name = entry["model"]["file"]
        try:
            trained = read_model(folder, entry["model"])
            for about in entry["segments"]:
                name = about["file"]
                self._read_part(folder, about, trained.model).check_all()
        except FileNotFoundError:
            return f"{name} is missing; it is rebuilt when it is needed"
        except CorruptCollectionError as err:
            return str(err)
        return None


def is_same(old: Floats, new: Floats) -> bool:
    """Tell whether vectors are nearly the same, so that cells of the ones are cells of the others."""
    return bool(np.square(new - old, dtype=np.float64).sum() <= _SAME * np.square(old, dtype=np.float64).sum())


def _is_saved(view: CellView | None) -> bool:
    return view is None or (view.trained.entry is not None and all(part.entry is not None for part in view.parts))
