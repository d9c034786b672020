"""Keeps the token cells of a multi-vector collection in step with its tokens, and their files on disk.

Everything but what is learned, what a segment holds and how its file looks is as with the cells of vectors: see
`octavo.store.cell_files`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from octavo._arrays import Floats
from octavo._files import Directory
from octavo.index import planner
from octavo.index.cells import CellModel, Segment
from octavo.index.reach import HeldOut
from octavo.index.token_cells import SAMPLE_PER_CELL, Cells, Postings, cells_for
from octavo.store._cell_format import ModelView, SegmentView, read_postings, write_postings
from octavo.store.cell_files import CellFiles, is_same
from octavo.store.snapshot import CellView, Mask, Slots, Snapshot
from octavo.store.tokens import TokenView

#: Tokens decoded and put into cells at a time, and between two looks at whether to stop.
_CHUNK = 8_192

#: Tokens left out of the training, to see how well others fit: this part of the sample, but no more than so many.
_LEFT_OUT, _LEFT_OUT_PART = 16_384, 8

#: Documents whose tokens are compared where a generation follows another.
_COMPARED = 64


class TokenCellFiles(CellFiles):
    """Trains, extends, merges, loads and saves the token cells of one store; see `DerivedIndex`.

    It has nothing to do where documents have one vector each.
    """

    name = "token_cells"
    endings: ClassVar[tuple[str, str]] = ("centroids", "postings")

    def _view(self, snapshot: Snapshot) -> CellView | None:
        return snapshot.token_cells

    def _publish(self, generation: int, view: CellView | None) -> None:
        self._store.publish_token_cells(generation, view)

    def _has_rows(self, snapshot: Snapshot) -> bool:
        tokens = snapshot.tokens
        return bool(snapshot.fitted and tokens is not None and len(tokens.codes) and snapshot.n_alive)

    def _least(self, snapshot: Snapshot) -> int:
        return planner.limits.token_cells_min

    def _tail(self, snapshot: Snapshot) -> int:
        return planner.limits.token_tail_max

    def _learn(self, snapshot: Snapshot, alive: Slots, seed: int) -> CellView:
        tokens = snapshot.tokens
        assert tokens is not None  # see `_has_rows`
        lengths = tokens.lengths(alive)
        n_cells = cells_for(int(lengths.sum()))
        order = np.random.default_rng(seed).permutation(len(alive))
        size = n_cells * SAMPLE_PER_CELL
        chosen = order[: int(np.searchsorted(np.cumsum(lengths[order]), size)) + 1]
        counts = np.cumsum(lengths[chosen])
        apart = int(np.searchsorted(counts, min(_LEFT_OUT, int(counts[-1]) // _LEFT_OUT_PART)))
        sample, left_out = np.sort(alive[chosen[apart:]]), np.sort(alive[chosen[:apart]])
        parts = (part for _, part in self._decoded_tokens(tokens, sample))
        model = CellModel.train(parts, n_cells, seed=seed, pause=self._pause)
        segment, cosine = self._encoded(snapshot, model, 0)
        if len(left_out):
            cosine = self._mean_cosine(tokens, model, left_out)
        model = CellModel(
            model.centroids, model.groups, seed=seed, length=model.length, cosine=cosine, rotation=model.rotation
        )
        return CellView(ModelView(model, len(alive)), (SegmentView(segment, 0, snapshot.n_slots),), snapshot.n_slots)

    def _mean_cosine(self, tokens: TokenView, model: CellModel, slots: Slots) -> float:
        """Return the mean cosine of documents' tokens with the centroids of their cells."""
        total, n = 0.0, 0
        for _, part in self._decoded_tokens(tokens, slots):
            total += float(model.assign(part)[1].sum())
            n += len(part)
        return total / n if n else model.cosine

    def _encoded(
        self, snapshot: Snapshot, model: CellModel, first: int, held: HeldOut | None = None
    ) -> tuple[Segment, float]:
        """Return the postings of the live documents from slot `first` on, and the mean cosine of their tokens."""
        tokens = snapshot.tokens
        assert tokens is not None  # see `_has_rows`
        slots = first + np.flatnonzero(snapshot.alive[first:])
        total, n = 0.0, 0

        def parts() -> Iterator[tuple[Slots, Cells]]:
            nonlocal total, n
            for owners, part in self._decoded_tokens(tokens, slots):
                cells, cosines = model.assign(part)
                total += float(cosines.sum())
                n += len(part)
                self._pause()
                yield owners, cells

        postings = Postings.of(parts(), len(model))
        return postings, total / n if n else model.cosine

    def _decoded_tokens(self, tokens: TokenView, slots: Slots) -> Iterator[tuple[Slots, Floats]]:
        """Yield the slots of tokens, and these decoded, some documents at a time."""
        before = np.cumsum(tokens.lengths(slots))
        first = 0
        while first < len(slots):
            start = int(before[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(before, start + _CHUNK, side="right")))
            some = slots[first:last]
            matrices = tokens.decode(some)
            if len(matrices.flat):
                yield np.repeat(some, matrices.lengths), matrices.flat
            first = last

    def _merged(self, segments: Sequence[Segment], alive: Mask | None) -> Segment:
        return Postings.merged(segments, alive)

    def _renumbered(self, segment: Segment, alive: Mask, places: NDArray[np.int64]) -> Segment:
        assert isinstance(segment, Postings)
        return segment.moved(alive, places)

    def _is_alike(self, before: Snapshot, now: Snapshot) -> bool:
        old, new = before.tokens, now.tokens
        if old is None or new is None or before.dim != now.dim or not now.fitted:
            return False
        alive = np.flatnonzero(before.alive & (np.diff(old.offsets) > 0))
        some = alive[np.linspace(0, len(alive) - 1, min(len(alive), _COMPARED)).astype(np.int64)]
        if not len(some) or not np.array_equal(old.lengths(some), new.lengths(some)):
            return False
        return is_same(old.decode(some).flat, new.decode(some).flat)

    def _write_part(self, folder: Directory, name: str, view: SegmentView, dim: int) -> dict[str, object]:
        return write_postings(folder, name, view)

    def _read_part(self, folder: Directory, entry: dict[str, object], model: CellModel) -> SegmentView:
        return read_postings(folder, entry, model)
