"""An immutable view of a collection at one commit: what a search works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._files import HeldFile
from octavo._layout import CodeLayout
from octavo.compression import Codec, Pipeline
from octavo.errors import CorruptCollectionError
from octavo.index import Graph, Tuning, token_cells
from octavo.index.cells import Routed
from octavo.index.token_cells import Postings
from octavo.store._cell_format import ModelView, SegmentView
from octavo.store._originals import Learned
from octavo.store.reencoding import Reencoding
from octavo.store.sparse import SparseView
from octavo.store.tokens import TokenView
from octavo.store.vectors import BlockGuard, Codes, VectorFile

Slots: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TierView:
    """The rows of one tier that belong to a snapshot."""

    pipeline: Pipeline
    file: VectorFile
    guard: BlockGuard
    codes: Codes
    _verified = False  # whether all rows were found good

    @cached_property
    def layout(self) -> CodeLayout:
        """How the rows lie in memory."""
        return self.pipeline.layout

    def check(self, rows: Slots | None = None) -> None:
        """Verify the checksums of the blocks that hold `rows` (None: of all blocks), once each."""
        if self._verified:
            return
        if rows is None:
            self.guard.check_all(self.codes)
            object.__setattr__(self, "_verified", True)  # the rows of a view never change, nor what is known of them
        else:
            self.guard.check_rows(self.codes, rows, self.file.announce)


@dataclass(frozen=True)
class GraphView:
    """A graph over the coarse tier and how far it reaches: slots below `covered` are linked, the rest is not."""

    graph: Graph
    covered: int
    file: HeldFile | None = None  # what it is mapped from
    bytes: int = 0  # and its length

    @property
    def whole(self) -> bool:
        """Whether the file still has the length that is mapped; reading beyond its end would kill the process."""
        return self.file is None or self.file.size() >= self.bytes


#: Centroids no longer fit when the mean distance of later rows from them (1 - cosine) is that many times the one of rows that
#: were left out when they were learned, from so many times the rows that they were learned from on. Rows of the same kind are
#: at 1.00 by that; documents that come topic by topic at 1.07 (WordLlama, learned from 53,248 of 90,453: 0.970 of the ten best
#: are found instead of 0.984), abstracts from another field at 1.15 to 1.9.
MISFIT, MISFIT_GROWN = 1.05, 1.2


@dataclass(frozen=True, eq=False)
class CellView:
    """Cells and how far they reach: slots below `covered` are in a segment (or dead), the rest is not.

    Parameters
    ----------
    trained : ModelView
        Centroids, and for how many rows they were trained.
    parts : tuple of SegmentView
        In rising order of slots.
    covered : int
        Slots that the segments cover.
    later : tuple of int and float
        Rows that came since the training, and the mean cosine of these with the centroids of their cells.
    """

    trained: ModelView
    parts: tuple[SegmentView, ...]
    covered: int
    later: tuple[int, float] = (0, 0.0)

    @cached_property
    def rows(self) -> int:
        """Rows of all segments."""
        return sum(len(part.segment) for part in self.parts)

    @cached_property
    def unfit(self) -> bool:
        """Whether many rows came later that the centroids fit badly: these are due to be learned anew."""
        later, cosine = self.later
        misfit = MISFIT * (1 - self.trained.model.cosine) + 1e-3  # rounding apart
        return later >= (MISFIT_GROWN - 1) * self.trained.rows and 1 - cosine > misfit

    @property
    def nbytes(self) -> int:
        """Bytes of centroids, starts and records."""
        segments = sum(part.segment.records.nbytes + part.segment.starts.nbytes for part in self.parts)
        return self.trained.model.nbytes + segments

    @property
    def whole(self) -> bool:
        """Whether the files still have the length that is mapped; reading beyond their end would kill the process."""
        return self.trained.whole and all(part.whole for part in self.parts)

    @property
    def damaged(self) -> bool:
        """Whether a search has come to a block that does not match its checksum."""
        return any(part.damaged for part in self.parts)

    def counts(self, mask: Mask) -> list[npt.NDArray[np.int64]]:
        """Return how many rows of each cell of each segment a mask over slots lets through.

        Raises
        ------
        CorruptCollectionError
            When a segment is damaged.
        """
        for part in self.parts:
            part.check_all()
        return [part.segment.counts(mask) for part in self.parts]

    def route(self, queries: Floats) -> Routed:
        """Return what queries are compared by; see `CellModel.route`."""
        return self.trained.model.route(queries)

    def search(
        self,
        queries: Routed,
        rows: int | None,
        keep: int,
        mask: Mask | None = None,
        counts: list[npt.NDArray[np.int64]] | None = None,
        wanted: int = 10,
        *,
        widen: bool = False,
    ) -> list[Slots]:
        """Return the slots whose estimates are best for each query, at most `keep` but for `widen`, best first.

        See `CellModel.search_batch`.

        Raises
        ------
        CorruptCollectionError
            When what was looked at is damaged.
        """
        segments = [part.segment for part in self.parts]
        found = self.trained.model.search_batch(
            queries, segments, rows, keep, wanted=wanted, widen=widen, mask=mask, counts=counts, check=self._check
        )
        if any(len(slots) and int(slots.max()) >= self.covered for slots, _ in found):
            for part in self.parts:
                if part.guard is not None:
                    part.guard.damaged = True
            raise CorruptCollectionError("a segment of cells names a row that is not there")
        return [slots for slots, _ in found]

    def search_tokens(self, query: Floats, n_slots: int, keep: int, probes: int, mask: Mask | None = None) -> Slots:
        """Return the documents that gain most by the cells of a query's tokens; see `octavo.index.token_cells.search`.

        Raises
        ------
        CorruptCollectionError
            When what was looked at is damaged.
        """
        segments = [part.segment for part in self.parts if isinstance(part.segment, Postings)]
        return token_cells.search(
            self.trained.model, segments, query, n_slots, keep, probes=probes, mask=mask, check=self._check
        )

    def _check(self, number: int, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> None:
        guard = self.parts[number].guard
        if guard is not None:
            guard.check(first, last)


@dataclass(frozen=True)
class Snapshot:
    """One committed state of a collection.

    Parameters
    ----------
    seq : int
        Number of the commit.
    generation : int
        Number of the set of vector files; 0 while there is none.
    n_slots, n_alive : int
        Rows in the vector files; rows that belong to a document.
    alive : ndarray of bool, shape (n_slots,)
        Which rows belong to a document.
    dim : int or None
        Dimension of the vectors as they come in; None before the first.
    codec_text : str
        The codec that was asked for.
    fitted : bool
        Whether the tiers hold that codec's codes (otherwise float32, waiting for enough documents).
    tiers : tuple of TierView
        Coarse to fine; empty before the first vector.
    graph : GraphView or None
        The graph over the coarse tier, where there is one.
    cells : CellView or None
        Cells of the finest tier's vectors, where there are some.
    tokens : TokenView or None
        Token codes of a multi-vector collection; `tiers` hold its candidate vectors then.
    tuning : Tuning or None
        How hard to look, if that was measured with this codec.
    token_cells : CellView or None
        Cells of the tokens of a multi-vector collection, where there are some; its segments are `Postings`.
    learned : Learned or None
        How well the codec fits; None while there is none, or where nothing is learned.
    sparse : SparseView or None
        Learned sparse vectors, where there are some.
    space : int
        How many times the model was changed: vectors of another number come from another model.
    reencoding : Reencoding or None
        The change of the model that is under way.
    next : Snapshot or None
        The space that it fills: its first `n_slots` slots, with vectors of the new model.
    prefix : str
        What the space's tables begin with: nothing, or "next_".
    """

    seq: int
    generation: int
    n_slots: int
    n_alive: int
    alive: Mask
    dim: int | None
    codec_text: str
    fitted: bool
    codec: Codec | None
    tiers: tuple[TierView, ...]
    graph: GraphView | None
    tokens: TokenView | None = None
    tuning: Tuning | None = None
    cells: CellView | None = None
    token_cells: CellView | None = None
    learned: Learned | None = None
    sparse: SparseView | None = None
    space: int = 0
    reencoding: Reencoding | None = None
    next: Snapshot | None = None
    prefix: str = ""

    @cached_property
    def files(self) -> tuple[VectorFile, ...]:
        """The files of all tiers, and of the tokens."""
        return (*(tier.file for tier in self.tiers), *(self.tokens.files if self.tokens is not None else ()))

    @property  # not cached: a snapshot that holds itself keeps its files open until the garbage collector comes
    def spaces(self) -> tuple[Snapshot, ...]:
        """The space itself, and the one that a change of the model fills."""
        return (self,) if self.next is None else (self, self.next)

    @cached_property
    def all_files(self) -> tuple[VectorFile, ...]:
        """The files of all spaces."""
        return tuple(file for space in self.spaces for file in space.files)

    @cached_property
    def newest_generation(self) -> int:
        """The highest number that the files of a space have."""
        return max(space.generation for space in self.spaces)

    @cached_property
    def _mapped(self) -> tuple[VectorFile, ...]:
        return tuple(file for file in self.all_files if not file.resident)

    @property
    def whole(self) -> bool:
        """Whether each mapped file still has the length that it had."""
        derived = all(
            view is None or view.whole
            for space in self.spaces
            for view in (space.graph, space.cells, space.token_cells)
        )
        sparse = self.sparse is None or self.sparse.whole
        return derived and sparse and all(file.whole for file in self._mapped)

    @property
    def dead(self) -> int:
        """Rows that no longer belong to a document."""
        return self.n_slots - self.n_alive


def decode_rows(snapshot: Snapshot, rows: Slots) -> Floats:
    """Return the vectors of `rows`, decoded from the finest tier."""
    finest = snapshot.tiers[-1]
    finest.check(rows)
    return finest.pipeline.decode(finest.codes[rows])
