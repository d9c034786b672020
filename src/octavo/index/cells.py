"""Cells: a partition of the vectors around centroids, and one bit a value of what each vector leaves in its cell.

A search looks at the cells whose centroids are nearest to the query, estimates the similarity of each row in them from one
bit a value and two small numbers, and hands the best to whoever rescores them from a finer tier. Nothing here knows of
files: a `CellModel` is what was learned, a `Segment` the rows of one stretch of slots in the order of their cells, as
arrays that may lie in a memory map.

The estimate. With the unit centroid c of its cell and a random rotation P, a vector x is ``a c + r``, ``a = <x, c>``, r
orthogonal to c. The bits are the signs ``b`` of ``P r``. For every query q::

    <q, x>  =  a <q, c> + <q - <q, c> c, r>  ~  h <q, c> + f <P q, b>,
    f = |r|^2 / <P r, b>,    h = a - f <P c, b>

so two numbers a row, ``h`` and ``f``, make an estimate without bias whose error is that of the part of the query outside the
centroid's direction, lengths included, and the query is rotated once, whatever cells are looked at. ``<P q, b>`` is taken
from the query in four or eight bits: as ``step * sum of 2^p t_p`` with planes ``t_p`` of signs, it is
``step * sum of 2^p (dim - 2 hamming(t_p, b))``, one pass of Hamming distances for all planes.

References
----------
J. Gao, C. Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate Nearest Neighbor
Search", SIGMOD 2024, arXiv:2405.12497. Inverted files over k-means cells: H. Jegou, M. Douze, C. Schmid, "Product
Quantization for Nearest Neighbor Search", IEEE TPAMI 33(1), 2011.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numkong
import numpy as np
from numpy.typing import NDArray

from octavo._layout import as_tensor
from octavo._rotation import StructuredRotation
from octavo.index._bytes import Bytes, Floats, multiply, pack, scale_of, to_bytes, to_directions
from octavo.index.reach import FIRST, KEPT, KEPT_LEAST, MOST_WIDENED, NEAREST, HeldOut, Reach, learned, made_queries

Cells: TypeAlias = NDArray[np.int32]
Slots: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Records: TypeAlias = NDArray[np.void]
Places: TypeAlias = NDArray[np.intp]

#: Cells for n rows: so many times the square root of n ...
CELLS_PER_ROOT = 20.0
#: ... but never so many that a cell has fewer rows than this, on average, ...
ROWS_PER_CELL = 12
#: ... or that a query, which is compared with all centroids, reads more of them than caches of processors hold.
MOST_CELLS = 32_768
#: Rows of the training sample for each centroid.
SAMPLE_PER_CELL = 16

#: Up to so many cells every centroid is compared; beyond, first the groups they lie in.
FLAT_CELLS = 1_024
#: Groups whose centroids are compared for each row that is assigned.
ASSIGN_GROUPS = 8

#: Bits a value of a query that is compared with rows: four cost a twentieth less time and find as much (0.001 fewer of the ten
#: best among 40 candidates, for MiniLM and WordLlama), but not where vectors hardly differ from the centroids of their cells,
#: because a query then hardly differs, either (0.01 to 0.016 fewer for multilingual-e5 and a static model of 64 dimensions).
_PLANES, _PLANES_ALIKE = 4, 8
#: Mean cosine of rows with centroids from which on they are called alike: 0.65 to 0.74 and 0.85 to 0.94 for these models.
_ALIKE = 0.8

_ITERATIONS = 8
_BLOCK = 4_096
_CACHED = 512
_GROUPED = 1 << 13  # rows that are compared with the groups of centroids at once: each takes some 200 bytes a group
_LOOKED, _LOOKED_TOGETHER = 8_192, 16_384  # rows estimated at once for one query, and for several
_SET = 32  # columns that are compared with each other before the largest are looked for
_PLANE_BITS = (1 << np.arange(_PLANES_ALIKE)).astype(np.uint8)[:, None]
_PLANE_WEIGHTS = (2.0 ** np.arange(_PLANES_ALIKE)).astype(np.float32)


def cells_for(n: int) -> int:
    """Return into how many cells `n` rows are divided.

    Examples
    --------
    >>> cells_for(100_000), cells_for(1_000_000), cells_for(10_000_000)
    (6324, 20000, 32768)
    """
    return max(1, min(int(CELLS_PER_ROOT * math.sqrt(n)), n // ROWS_PER_CELL, MOST_CELLS))


def record_type(dim: int) -> np.dtype[np.void]:
    """Return how one row of a segment lies in memory: bits, the two numbers of the estimate, the slot.

    Examples
    --------
    >>> record_type(384).itemsize
    56
    """
    width = -(-dim // 32) * 4  # whole words, so that everything behind is aligned
    return np.dtype([("bits", np.uint8, (width,)), ("h", np.float16), ("f", np.float16), ("slot", np.uint32)])


def bytes_for(n: int, dim: int) -> float:
    """Return about how many bytes cells take for `n` rows: a record a row, centroids, where cells begin in two segments.

    Examples
    --------
    >>> bytes_for(1_000_000, 384) / 1_000_000
    64.0
    """
    return float(n * record_type(dim).itemsize + cells_for(n) * (dim + 16))


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows of one stretch of slots, in the order of their cells.

    Parameters
    ----------
    starts : ndarray of shape (n_cells + 1,), int64
        Rows ``starts[j]`` up to ``starts[j + 1]`` lie in cell ``j``.
    records : ndarray of shape (n,), of `record_type`
        Bits, numbers and slot of each row.
    """

    starts: NDArray[np.int64]
    records: Records

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cell."""
        return np.diff(self.starts)

    @cached_property
    def slots(self) -> NDArray[np.uint32]:
        """Slot of each row, contiguous; made on demand, for filters."""
        return np.ascontiguousarray(self.records["slot"])

    def counts(self, mask: Mask) -> NDArray[np.int64]:
        """Return how many rows of each cell a mask over slots lets through."""
        passed = np.concatenate([[0], np.cumsum(mask.take(self.slots, mode="clip"))])
        return np.asarray(np.diff(passed[self.starts]), np.int64)

    @classmethod
    def merged(cls, segments: Sequence[Segment], alive: Mask | None = None) -> Segment:
        """Put the rows of segments of one model together, cell by cell, without those that are no longer alive.

        Parameters
        ----------
        segments : sequence of Segment
            At least one; within a cell, rows stay in the order of the segments.
        alive : ndarray of bool, optional
            Which slots are kept.
        """
        owners = [np.repeat(np.arange(len(each.sizes), dtype=np.int32), each.sizes) for each in segments]
        kept = [np.flatnonzero(alive[each.slots]) if alive is not None else None for each in segments]
        owner = np.concatenate([o if k is None else o[k] for o, k in zip(owners, kept, strict=True)])
        records = np.concatenate(
            [each.records if k is None else each.records.take(k) for each, k in zip(segments, kept, strict=True)]
        )
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=len(segments[0].sizes))
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), records.take(order))


@dataclass(frozen=True, eq=False)
class Routed:
    """Queries as they are compared: rotated, their lengths, and their products with all unit centroids, a row each."""

    rotated: Floats
    lengths: Floats
    products: Floats

    def __len__(self) -> int:
        return len(self.products)

    def __getitem__(self, some: slice | list[int]) -> Routed:
        return Routed(self.rotated[some], self.lengths[some], self.products[some])


class CellModel:
    """Centroids, the rotation, and what both are good for. Immutable.

    Parameters
    ----------
    centroids : ndarray of shape (n_cells, dim), int8
        Rotated centroids of unit length, scaled and rounded; cells of one group lie together.
    groups : ndarray of shape (n_groups + 1,), int64
        Cells ``groups[g]`` up to ``groups[g + 1]`` form group ``g``.
    seed : int
        Of the rotation.
    length : float
        Typical length of a vector; what is stored is measured in it, so that it fits two bytes.
    cosine : float
        Mean cosine of rows with the centroids of their cells: what later rows are held against.
    reach : Reach, optional
        How far a search looks, where that has been learned.
    rotation : StructuredRotation, optional
        The rotation itself, where it is not to be made of the seed: that may give another one with another version of numpy.
    """

    def __init__(
        self,
        centroids: Bytes,
        groups: NDArray[np.int64],
        *,
        seed: int,
        length: float,
        cosine: float,
        reach: Reach | None = None,
        rotation: StructuredRotation | None = None,
    ) -> None:
        self.centroids = centroids
        self.groups = groups
        self.seed = seed
        self.length = length
        self.cosine = cosine
        self.reach = reach
        self.dim = int(centroids.shape[1])
        self.rotation = rotation or StructuredRotation(self.dim, seed)
        self._record = record_type(self.dim)
        self.width = int(self._record["bits"].shape[0])
        self.planes = _PLANES_ALIKE if cosine >= _ALIKE else _PLANES

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def nbytes(self) -> int:
        """Bytes of centroids and groups."""
        return int(self.centroids.nbytes + self.groups.nbytes)

    # ------------------------------------------------------------------ learning

    @classmethod
    def train(
        cls,
        sample: Floats | Iterable[Floats],
        n_cells: int,
        *,
        seed: int = 0,
        pause: Callable[[], None] | None = None,
    ) -> CellModel:
        """Find centroids by spherical k-means in two levels, refined once over all cells.

        Parameters
        ----------
        sample : ndarray of shape (n, dim), or iterable of such
            Vectors, float32; `SAMPLE_PER_CELL` rows a cell or more. In parts they need not be in memory together.
        n_cells : int
            Cells wanted; there are fewer if the sample has fewer distinct directions.
        seed : int, default=0
            Of everything random.
        pause : callable, optional
            Called every now and then; what it raises ends the training.
        """
        pause = pause or _go_on
        rows, length = _read_sample([sample] if isinstance(sample, np.ndarray) else sample, seed, pause)
        rng = np.random.default_rng([seed, n_cells])
        n_cells = max(1, min(n_cells, len(rows)))
        if n_cells <= FLAT_CELLS:
            centroids = _spherical_kmeans(rows, n_cells, rng, pause)
            groups = np.array([0, len(centroids)], np.int64)
            model = cls(centroids, groups, seed=seed, length=length, cosine=0.0)
        else:
            n_groups = math.isqrt(n_cells)
            coarse = _spherical_kmeans(rows[rng.permutation(len(rows))[: n_groups * 256]], n_groups, rng, pause)
            owner, _ = _nearest(rows, coarse)
            parts = []
            for group in range(len(coarse)):
                inside = rows[owner == group]
                if len(inside):
                    share = max(1, round(n_cells * len(inside) / len(rows)))
                    parts.append(_spherical_kmeans(inside, min(share, len(inside)), rng, pause))
            groups = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
            model = cls(np.concatenate(parts), groups, seed=seed, length=length, cosine=0.0)
            model = model._refined(rows)
            pause()
        cells, products = model._assign(rows)
        cosine = products / (_lengths(rows) * model._centroid_lengths[cells])
        return cls(model.centroids, model.groups, seed=seed, length=length, cosine=float(cosine.mean()))

    def _refined(self, rows: Bytes) -> CellModel:
        """Return the model with each centroid in the middle of what is assigned to it, whatever group it came from."""
        cells, _ = self._assign(rows)
        centroids = _means(rows, cells, self.centroids)
        return CellModel(centroids, self.groups, seed=self.seed, length=self.length, cosine=0.0, rotation=self.rotation)

    # ------------------------------------------------------------------ encoding

    def encode(self, X: Floats, slots: Slots, held: HeldOut | None = None) -> tuple[Segment, float]:
        """Put vectors into cells.

        Parameters
        ----------
        X : ndarray of shape (n, dim)
            Vectors, float32, as the finest tier stands for them.
        slots : ndarray of shape (n,), int64
            Slot of each.
        held : HeldOut, optional
            Queries that are shown the rows, too.

        Returns
        -------
        segment : Segment
            The rows in the order of their cells; within a cell in the order given.
        cosine : float
            Mean cosine of the vectors with the centroids of their cells; falls when the centroids do not fit them.
        """
        n = len(X)
        records = np.empty(n, self._record)
        cells = np.empty(n, np.int32)
        total = 0.0
        for start in range(0, n, _BLOCK):
            part = slice(start, start + _BLOCK)
            cells[part], cosines, directions, lengths = self._encode_block(X[part], records[part])
            if held is not None:
                held.see(directions, lengths, slots[part], cells[part])
            total += float(cosines.sum())
        records["slot"] = slots
        order = np.argsort(cells, kind="stable")
        counts = np.bincount(cells, minlength=len(self))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Segment(starts, records[order]), total / n if n else self.cosine

    def _encode_block(self, X: Floats, records: Records) -> tuple[Cells, Floats, Bytes, Floats]:
        # What fits the caches takes two thirds of the time; groups of centroids want many rows at once.
        parts = [slice(start, start + _CACHED) for start in range(0, len(X), _CACHED)]
        Y, lengths = np.empty(X.shape, np.float32), np.empty(len(X), np.float32)
        directions, cosines = np.empty(X.shape, np.int8), np.empty(len(X), np.float32)
        for part in parts:
            Y[part] = self.rotation.apply(X[part])
            norms = np.linalg.norm(Y[part], axis=1)
            lengths[part] = np.where(norms > 0, norms, 1)
            directions[part] = to_bytes(Y[part] / lengths[part, None])
        cells, _ = self._assign(directions)
        records["bits"] = 0
        for part in parts:
            cosines[part] = self._encode_rows(Y[part], cells[part], records[part]) / lengths[part]
        return cells, cosines, directions, lengths

    def _encode_rows(self, Y: Floats, cells: Cells, records: Records) -> Floats:
        """Fill records of rotated rows, and return their products with the centroids."""
        C = self.centroids[cells] / self._centroid_lengths[cells, None]  # of unit length, as the estimate takes them
        a: Floats = np.einsum("ij,ij->i", Y, C)
        R = Y - a[:, None] * C
        positive = R > 0
        signs = np.where(positive, np.float32(1), np.float32(-1))
        along = np.einsum("ij,ij->i", R, signs)
        f = np.einsum("ij,ij->i", R, R) / np.where(along > 0, along, 1)
        h = a - f * np.einsum("ij,ij->i", C, signs)
        packed = np.packbits(positive, axis=1)
        records["bits"][:, : packed.shape[1]] = packed
        records["h"] = _to_half(h / self.length)
        records["f"] = _to_half(f / self.length)
        return a

    def assign(self, X: Floats) -> tuple[Cells, Floats]:
        """Return the cell whose centroid is nearest to each vector, and the cosine with it."""
        cells, cosines = np.empty(len(X), np.int32), np.empty(len(X), np.float32)
        for start in range(0, len(X), _BLOCK):
            part = slice(start, start + _BLOCK)
            directions, _ = to_directions(self.rotation.apply(X[part]))
            cells[part], products = self._assign(directions)
            cosines[part] = products / (_lengths(directions) * self._centroid_lengths[cells[part]])
        return cells, cosines

    @cached_property
    def _centroid_lengths(self) -> Floats:
        return _lengths(self.centroids)

    def _assign(self, rows: Bytes) -> tuple[Cells, Floats]:
        """Return the cell whose centroid is nearest to each row, and the product of both."""
        if len(self.groups) == 2:
            return _nearest(rows, self.centroids, self._packed[0])
        cells = np.empty(len(rows), np.int32)
        products = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _GROUPED):
            part = slice(start, start + _GROUPED)
            cells[part], products[part] = self._assign_by_groups(rows[part])
        return cells, products

    def _assign_by_groups(self, rows: Bytes) -> tuple[Cells, Floats]:
        n_groups = len(self.groups) - 1
        looked = min(ASSIGN_GROUPS, n_groups)
        scores = np.concatenate(
            [multiply(rows[i : i + _BLOCK], self._packed_groups) for i in range(0, len(rows), _BLOCK)]
        )
        near = np.argpartition(scores, n_groups - looked, axis=1)[:, n_groups - looked :]
        order = np.argsort(near, axis=None, kind="stable")  # pairs of row and group, by group
        edges = np.searchsorted(near.ravel()[order], np.arange(n_groups + 1))
        found = np.empty(len(order), np.int32)
        values = np.empty(len(order), np.int32)
        for group in range(n_groups):
            pairs = order[edges[group] : edges[group + 1]]
            for start in range(0, len(pairs), _BLOCK):
                some = pairs[start : start + _BLOCK]
                products = multiply(rows.take(some // looked, axis=0), self._packed[group])
                best = products.argmax(axis=1)
                found[some] = best + self.groups[group]
                values[some] = products[np.arange(len(some)), best]
        # Among equals the first cell, so that the choice does not depend on the order of the groups.
        best = np.lexsort((found.reshape(-1, looked), -values.reshape(-1, looked)), axis=1)[:, 0]
        chosen = np.arange(len(rows)) * looked + best
        return found[chosen], values[chosen].astype(np.float32)

    @cached_property
    def _packed(self) -> list[Any]:
        """The centroids of each group, as the products read them."""
        edges = self.groups.tolist()
        return [pack(self.centroids[a:b]) for a, b in itertools.pairwise(edges)]

    @cached_property
    def _packed_groups(self) -> Any:
        """The middle of each group."""
        owner = np.repeat(np.arange(len(self.groups) - 1, dtype=np.int32), np.diff(self.groups))
        return pack(_means(self.centroids, owner, np.zeros((len(self.groups) - 1, self.dim), np.int8)))

    # ------------------------------------------------------------------ how far to look

    def held_out(self, documents: Floats, one: Floats, other: Floats) -> HeldOut:
        """Make queries of documents, to be shown all rows while these are encoded: see `learned`.

        Parameters
        ----------
        documents, one, other : ndarray of shape (m, dim)
            Random vectors: each query is a document, moved in the direction in which two others differ.
        """
        mean = np.concatenate([documents, one, other]).mean(axis=0, dtype=np.float64).astype(np.float32)
        return HeldOut(self.rotation.apply(made_queries(documents, one, other, mean)))

    def learned(
        self, held: HeldOut, segment: Segment, cosine: float, pause: Callable[[], None] | None = None
    ) -> CellModel:
        """Return the model with what a search needs to know of how far to look, learned from queries that have seen all rows.

        Parameters
        ----------
        held : HeldOut
            What was given to `encode` for all rows.
        segment : Segment
            These rows.
        cosine : float
            Mean cosine with their centroids of rows that these were not learned from.
        pause : callable, optional
            See `train`.
        """
        model = self._with(cosine, None)
        reach = model._reach(held, segment, pause or _go_on) if (held.slots >= 0).all() else None
        return self._with(cosine, reach)

    def _with(self, cosine: float, reach: Reach | None) -> CellModel:
        """Return the same cells with what was learned of them."""
        return CellModel(
            self.centroids,
            self.groups,
            seed=self.seed,
            length=self.length,
            cosine=cosine,
            reach=reach,
            rotation=self.rotation,
        )

    def _reach(self, held: HeldOut, segment: Segment, pause: Callable[[], None]) -> Reach | None:
        queries = self.rotation.undo(held.queries)
        m, first = len(queries), min(FIRST, len(self))
        cosines = np.empty((m, len(self)), np.float32)
        scores, borders = np.full(m, -np.inf, np.float32), np.empty(m, np.float32)
        for number, query in enumerate(queries):
            pause()
            look = _Look(self, self.route(query[None]), [segment], None, None, None)
            cosines[number] = look.products[0]
            near, border = _first_places(look.products, first)
            look.at(near)
            score = look.score_of(0, NEAREST)
            if score is not None:
                scores[number] = score / self.length
            borders[number] = border[0]
        nearest = np.take_along_axis(cosines, held.cells.astype(np.int64), axis=1)
        cosines.sort(axis=1)
        reach = learned(cosines, nearest, scores, borders, first)
        if reach is None:
            return None
        model = self._with(self.cosine, reach)
        ranks = []
        for query, slots in zip(queries, held.slots, strict=True):
            pause()
            found, _ = model.search(query, [segment], None, len(segment))
            ranks.append(np.flatnonzero(np.isin(found, slots)))
        kept = float(np.quantile(np.concatenate(ranks), KEPT, method="higher") + 1) / NEAREST
        return replace(reach, kept=max(KEPT_LEAST, kept))

    # ------------------------------------------------------------------ searching

    def route(self, queries: Floats) -> Routed:
        """Return what queries, of shape (m, dim), are compared with centroids and rows by.

        That is with all centroids, because a walk over groups of cells misses those behind a border, which costs more recall
        than the time it saves: 16,000 products of bytes take a tenth of a millisecond, and those of eight queries less than
        half as long each.
        """
        rotated = self.rotation.apply(queries)
        lengths: Floats = np.sqrt(np.einsum("ij,ij->i", rotated, rotated))
        divisors = np.where(lengths > 0, lengths, np.float32(1))[:, None]
        units: Floats = np.divide(rotated, divisors, dtype=np.float32)
        products: Floats = multiply(to_bytes(units), self.packed).astype(np.float32)  # int32 times float32 were float64
        products *= self._unscaled
        products *= divisors
        return Routed(rotated, lengths, products)

    def make_ready(self) -> None:
        """Arrange the centroids as searches read them, which the first one would wait for: 7 ms at a million rows."""
        _ = self.packed, self._unscaled

    @cached_property
    def packed(self) -> Any:
        """All centroids, as the products read them."""
        return self._packed[0] if len(self.groups) == 2 else pack(self.centroids)

    @cached_property
    def _unscaled(self) -> Floats:
        """What makes a product of bytes with a centroid one of unit vectors."""
        unscaled: Floats = np.float32(1 / scale_of(self.dim)) / self._centroid_lengths
        return unscaled

    def search(
        self, query: Floats, segments: Sequence[Segment], rows: int | None, keep: int, **options: Any
    ) -> tuple[Slots, Floats]:
        """Return the slots whose estimates are best for one query, of shape (dim,); see `search_batch`."""
        return self.search_batch(self.route(query[None]), segments, rows, keep, **options)[0]

    def search_batch(
        self,
        queries: Routed,
        segments: Sequence[Segment],
        rows: int | None,
        keep: int,
        *,
        wanted: int = NEAREST,
        widen: bool = False,
        mask: Mask | None = None,
        counts: Sequence[NDArray[np.int64]] | None = None,
        check: Callable[[int, NDArray[np.int64], NDArray[np.int64]], None] | None = None,
    ) -> list[tuple[Slots, Floats]]:
        """Return the slots whose estimates are best, for each query.

        Parameters
        ----------
        queries : Routed
            What `route` has made of the queries. A few (32) at a time: all products with the centroids are in memory.
        segments : sequence of Segment
            Where to look.
        rows : int or None
            Rows to look at: cells are taken, nearest first, until they hold so many. None goes as far as `reach` says for
            each query; there has to be one.
        keep : int
            Slots to return, at most.
        wanted : int, default=10
            Results that will be taken from these: what `reach` looks at.
        widen : bool, default=False
            Return more, up to `MOST_WIDENED` times `keep`, for a query that `reach` has look at more cells than most: what is
            far away is less well told apart.
        mask : ndarray of bool, optional
            Which slots may be returned; indexed by slot.
        counts : sequence of ndarray of shape (n_cells,), optional
            `Segment.counts` of each segment, where `mask` is a filter: cells are then taken until so many rows pass it.
        check : callable, optional
            Called with the number of a segment, first and last rows, before they are read.

        Returns
        -------
        list of tuple
            Slots of shape (r,), int64, best first, at most `keep`, but for `widen`; and their estimated similarities, float32.
        """
        look = _Look(self, queries, segments, mask, counts, check)
        if rows is not None:
            near = [_first_until(products, look.held, rows) for products in look.products]
            look.at(_places(near, len(self)))
            return [look.best(number, keep) for number in range(len(queries))]
        farther = self._reach_out(look, wanted)
        if not widen:
            return [look.best(number, keep) for number in range(len(queries))]
        return [
            look.best(number, math.ceil(keep * min(max(1.0, times), MOST_WIDENED)))
            for number, times in enumerate(farther)
        ]

    def _reach_out(self, look: _Look, wanted: int) -> list[float]:
        """Look at the first cells, and then at as many more as what is found there leaves worth looking at.

        Returns how many that were for each query, against what is usual.
        """
        reach = self.reach
        assert reach is not None  # whoever has none says how many rows
        products, m, n = look.products, len(look.products), len(self)
        wanted = max(wanted, NEAREST)  # for fewer results the same cells: what they are looked for is as far away
        first, usual = min(reach.first, n), reach.typical
        mean = sum(len(segment) for segment in look.segments) / n
        if look.counts is not None:
            # Fewer rows pass: the best of these lie farther away, and in more cells.
            share = max(1, int(look.held.sum())) / max(1.0, mean * n)
            usual /= math.sqrt(share)
            rows = max(wanted, round(first * mean * math.sqrt(share)))
            chosen = [_first_until(row, look.held, rows) for row in products]
            near = _places(chosen, n)
            borders = np.array([row.take(some).min() for row, some in zip(products, chosen, strict=True)])
        else:
            near, borders = _first_places(products, first)
        look.at(near)
        least = np.full(m, -np.inf, np.float32)
        for number, (length, border) in enumerate(zip(look.lengths, borders.tolist(), strict=True)):
            score = look.score_of(number, wanted)
            if score is not None and length > 0:
                least[number] = length * reach.least(score / (length * self.length), border / length)
        further = products >= least[:, None]
        further.reshape(-1)[near] = False
        if look.counts is not None:
            further &= look.held > 0
        places = np.flatnonzero(further)
        edges = _edges(places, m, n)
        most = max(0, min(reach.most, n) - first)
        cells = [places[a:b] for a, b in itertools.pairwise(edges)]
        if max(map(len, cells)) > most:
            cells = [
                self._at_most(look, number, some, most, mean) if len(some) > most else some
                for number, some in enumerate(cells)
            ]
            places = np.concatenate(cells)
        if len(places):
            look.at(places)
        return [
            (b - a + len(some)) / usual
            for (a, b), some in zip(itertools.pairwise(_edges(near, m, n)), cells, strict=True)
        ]

    def _at_most(self, look: _Look, number: int, places: Places, most: int, mean: float) -> Places:
        """Return the places of one query where centroids are nearest, if they hold more rows than `most` cells usually do."""
        cells = places - number * len(self)
        rows = look.held.take(cells)
        if rows.sum() <= most * mean:
            return places
        return np.sort(places[_first_until(look.products[number].take(cells), rows, max(1, round(most * mean)))])


class _Look:
    """The look of some queries into cells: what they have seen so far.

    A place is the number of a query times the number of cells, and the number of a cell: where it stands in the products.
    """

    def __init__(
        self,
        model: CellModel,
        queries: Routed,
        segments: Sequence[Segment],
        mask: Mask | None,
        counts: Sequence[NDArray[np.int64]] | None,
        check: Callable[[int, NDArray[np.int64], NDArray[np.int64]], None] | None,
    ) -> None:
        self.segments, self.counts = segments, counts
        self._model, self._mask, self._check = model, mask, check
        self.lengths: list[float] = queries.lengths.tolist()
        self.products = queries.products
        planes, self._steps = _query_planes(queries.rotated, model.width, model.planes)
        self._packed = [numkong.hammings_pack(as_tensor(each, "uint1")) for each in planes]
        self._slots: list[list[NDArray[np.uint32]]] = [[] for _ in planes]
        self._estimates: list[list[Floats]] = [[] for _ in planes]

    @cached_property
    def held(self) -> NDArray[np.int64]:
        """Rows of each cell, in all segments; those that pass the filter, where there is one."""
        sizes = self.counts if self.counts is not None else [segment.sizes for segment in self.segments]
        return sizes[0] if len(sizes) == 1 else np.sum(sizes, axis=0)

    def at(self, places: Places) -> None:
        """Estimate the rows of cells; the places of one query lie together, in the order of the queries."""
        n, m = len(self._model), len(self.products)
        products = self.products.reshape(-1).take(places)
        owners = _edges(places, m, n)
        cells = places % n if m > 1 else places
        for number, segment in enumerate(self.segments):
            first, last = segment.starts.take(cells), segment.starts.take(cells + 1)
            if self._check is not None:
                self._check(number, first, last)
            sizes = last - first
            positions, near = _ranges(first, last), np.repeat(products, sizes)
            edges = np.concatenate([[0], np.cumsum(sizes)])[owners] if m > 1 else np.array([0, len(positions)])
            if self._mask is not None and self.counts is not None:  # few may pass: look before records are copied
                passed = np.flatnonzero(self._mask.take(segment.slots.take(positions, mode="clip"), mode="clip"))
                positions, near, edges = positions[passed], near[passed], np.searchsorted(passed, edges)
            # Little at a time: the large arrays of a query that looks far cost more to get from the system than to fill.
            # More for several queries: each call is then long enough for another thread to work meanwhile.
            at_once = _LOOKED if m == 1 else _LOOKED_TOGETHER
            for start in range(0, len(positions), at_once):
                part = slice(start, start + at_once)
                records = segment.records.take(positions[part], mode="clip")
                inside = [min(max(edge - start, 0), len(records)) for edge in edges.tolist()]
                self._look(records, near[part], inside)

    def _look(self, records: Records, near: Floats, edges: list[int]) -> None:
        """Estimate rows; those of query ``i`` are ``edges[i]`` up to ``edges[i + 1]``."""
        if self._mask is not None and self.counts is None:
            passed = np.flatnonzero(self._mask.take(records["slot"], mode="clip"))
            records, near, edges = records.take(passed), near[passed], np.searchsorted(passed, edges).tolist()
        if not len(records):
            return
        slots, estimates = records["slot"].copy(), self._estimated(records, near, edges)
        for number, (a, b) in enumerate(itertools.pairwise(edges)):
            if b > a:
                self._slots[number].append(slots[a:b])
                self._estimates[number].append(estimates[a:b])

    def score_of(self, number: int, wanted: int) -> float | None:
        """Return the estimate that `wanted` rows reach for one query; None where there are fewer."""
        parts = self._estimates[number]
        total = sum(map(len, parts))
        if total < wanted or not total:
            return None
        estimates = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return float(np.partition(estimates, total - wanted)[total - wanted])

    def best(self, number: int, keep: int) -> tuple[Slots, Floats]:
        """Return the slots whose estimates are best for one query, and the estimates."""
        parts, seen = self._estimates[number], self._slots[number]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        estimates = parts[0] if len(parts) == 1 else np.concatenate(parts)
        slots = seen[0] if len(seen) == 1 else np.concatenate(seen)
        if len(estimates) > keep:
            best = np.argpartition(estimates, len(estimates) - keep)[len(estimates) - keep :]
            best = best[np.argsort(-estimates[best])]
        else:
            best = np.argsort(-estimates)
        return slots[best].astype(np.int64), estimates[best]

    def _estimated(self, records: Records, near: Floats, edges: list[int]) -> Floats:
        """Return the estimated similarities of rows; `near` are the products of their query with their centroids."""
        model = self._model
        width, stride = model.width, records.dtype.itemsize
        bits = records["bits"].__array_interface__  # that of whole records takes several times as long
        address = bits["data"][0]
        planes = model.planes
        distances = np.empty((len(records), planes), np.uint32)
        out, row = distances.__array_interface__["data"][0], distances.strides[0]
        for number, (a, b) in enumerate(itertools.pairwise(edges)):
            if b > a:
                numkong.hammings_packed(
                    numkong.from_pointer(
                        address + a * stride, (b - a, width), "uint1", strides=(stride, 1), owner=records
                    ),
                    self._packed[number],
                    out=numkong.from_pointer(out + a * row, (b - a, planes), "uint32", owner=distances),
                )
        # As signed numbers, which are converted in half the time; there are no more bits than those hold.
        inside: Floats = distances.view(np.int32).astype(np.float32) @ _PLANE_WEIGHTS[:planes]
        inside *= np.float32(-2)
        inside += np.float32(model.dim * (2.0**planes - 1))
        inside *= self._steps[0] if len(edges) == 2 else np.repeat(self._steps, np.diff(edges))
        inside *= records["f"]
        estimates: Floats = near * records["h"]
        estimates += inside
        estimates *= np.float32(model.length)
        return estimates


# ---------------------------------------------------------------------- queries


def _query_planes(rotated: Floats, width: int, n_planes: int) -> tuple[NDArray[np.uint8], Floats]:
    """Return queries as planes of signs, bits of shape (m, n_planes, width), and steps: value = step * sum of 2^p sign_p."""
    levels = 2**n_planes - 1
    steps: Floats = np.abs(rotated).max(axis=1) / np.float32(levels)
    steps[steps == 0] = 1
    codes = (rotated * (np.float32(0.5) / steps)[:, None] + np.float32((levels + 1) / 2)).astype(np.uint8)
    ones = codes[:, None] & _PLANE_BITS[:n_planes]  # what is not zero becomes a one
    bits: NDArray[np.uint8] = np.packbits(ones, axis=2)
    if bits.shape[2] == width:
        return bits, steps
    planes = np.zeros((len(bits), n_planes, width), np.uint8)
    planes[:, :, : bits.shape[2]] = bits
    return planes, steps


def _first_places(products: Floats, first: int) -> tuple[Places, Floats]:
    """Return the places of the largest products of each row, `first` or hardly more, in order; and the least of these.

    Each row is looked at as if it were alone. Its columns are taken as sets of 32. The `first` largest of what is the largest
    number of a set are no larger than the `first` largest of all: whatever is as large as the least of them is found by one
    comparison, in less than half the time of a partition. Where that is much more, because many are equal, some of it does.
    """
    m, n = products.shape
    sets = n // _SET
    if first >= n:
        return np.arange(m * n), products.min(axis=1)
    if sets > 2 * first:
        tops = products[:, : sets * _SET].reshape(m, _SET, sets).max(axis=1)  # comparing long stretches of a row
        borders: Floats = np.partition(tops, sets - first, axis=1)[:, sets - first]
        places = np.flatnonzero(products >= borders[:, None])
        edges = _edges(places, m, n)
        if max(b - a for a, b in itertools.pairwise(edges)) <= 2 * first:
            return places, borders
        near = [places[a:b] % n if b - a <= 2 * first else None for a, b in itertools.pairwise(edges)]
    else:
        near = [None] * m
    chosen = [_largest(row, first) if some is None else some for row, some in zip(products, near, strict=True)]
    return _places(chosen, n), np.array([row.take(some).min() for row, some in zip(products, chosen, strict=True)])


def _largest(row: Floats, n: int) -> NDArray[np.intp]:
    """Return where the `n` largest numbers stand, in order of place; of equal ones any."""
    return np.sort(np.argpartition(row, len(row) - n)[len(row) - n :])


def _edges(places: Places, m: int, n: int) -> list[int]:
    """Return where the places of each of `m` queries begin, and where the last ones end; they lie in the order of queries."""
    edges: list[int] = np.searchsorted(places, n * np.arange(m + 1)).tolist() if m > 1 else [0, len(places)]
    return edges


def _places(cells: Sequence[NDArray[np.intp]], n: int) -> Places:
    """Return the places of the cells of each query."""
    return np.concatenate([n * number + some for number, some in enumerate(cells)])


def _first_until(products: Floats, held: NDArray[np.int64], rows: int) -> NDArray[np.intp]:
    """Return positions in descending order of `products` until what they hold adds up to `rows`.

    Not all of them are sorted: a share that very likely suffices first.
    """
    n = len(products)
    mean = float(held.mean()) if n else 0.0
    guess = int(2 * rows / mean) + 16 if mean > 0 else n
    while True:
        guess = min(guess, n)
        if guess < n:
            best = np.argpartition(products, n - guess)[n - guess :]
            best = best[np.argsort(-products[best], kind="stable")]
        else:
            best = np.argsort(-products, kind="stable")
        total = np.cumsum(held[best])
        if guess == n or total[-1] >= rows:
            return best[: int(np.searchsorted(total, rows)) + 1]
        guess *= 4


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers from each of `first` up to each of `last`, one range behind the other."""
    lengths = last - first
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: NDArray[np.int64] = np.arange(total) + np.repeat(first - (ends - lengths), lengths)
    return numbers


# ---------------------------------------------------------------------- learning, bytes and products


def _go_on() -> None:
    """Nothing to wait for."""


def _read_sample(parts: Iterable[Floats], seed: int, pause: Callable[[], None]) -> tuple[Bytes, float]:
    """Return the directions of vectors, rotated and as bytes, and their typical length."""
    rotation: StructuredRotation | None = None
    directions, lengths = [], []
    for part in parts:
        rotation = rotation or StructuredRotation(part.shape[1], seed)
        norms = np.linalg.norm(part, axis=1)
        some = norms > 0
        directions.append(_rotated_directions(part[some], rotation))
        lengths.append(norms[some])
        pause()
    assert rotation is not None  # a sample has at least one part
    norms = np.concatenate(lengths)
    rows, first = np.empty((len(norms), rotation.dim), np.int8), 0
    directions.reverse()
    while directions:  # each part goes once it is copied: a sample is large, and twice of it need not be in memory
        part_of_rows = directions.pop()
        rows[first : first + len(part_of_rows)] = part_of_rows
        first += len(part_of_rows)
    if not len(rows):
        return np.zeros((1, rotation.dim), np.int8), 1.0
    return rows, float(np.median(norms))


def _rotated_directions(X: Floats, rotation: StructuredRotation) -> Bytes:
    out = np.empty(X.shape, np.int8)
    for start in range(0, len(X), _BLOCK):
        Y = rotation.apply(X[start : start + _BLOCK])
        out[start : start + _BLOCK] = to_bytes(Y / np.linalg.norm(Y, axis=1, keepdims=True))
    return out


def _to_half(values: Floats) -> NDArray[np.float16]:
    """Round to two bytes; what is beyond their range becomes the largest they hold."""
    return np.clip(values, -65504, 65504).astype(np.float16)


def _lengths(rows: Bytes) -> Floats:
    lengths = np.empty(len(rows), np.float32)
    for start in range(
        0, len(rows), 512
    ):  # little at a time: what fits the caches is quicker than what memory is asked for
        floats = rows[start : start + 512].astype(np.float32)
        np.sqrt(np.einsum("ij,ij->i", floats, floats), out=lengths[start : start + 512])
    return np.where(lengths > 0, lengths, np.float32(1))


def _nearest(rows: Bytes, centroids: Bytes, packed: Any = None) -> tuple[Cells, Floats]:
    packed = packed if packed is not None else pack(centroids)
    cells = np.empty(len(rows), np.int32)
    products = np.empty(len(rows), np.float32)
    for start, raw in _blocks(rows, packed):
        best = raw.argmax(axis=1)
        cells[start : start + len(raw)] = best
        products[start : start + len(raw)] = raw[np.arange(len(raw)), best]
    return cells, products


def _blocks(rows: Bytes, packed: Any) -> Iterator[tuple[int, NDArray[np.int32]]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, multiply(rows[start : start + _BLOCK], packed)


def _means(rows: Bytes, owners: Cells, fallback: Bytes) -> Bytes:
    """Return the direction of the mean of each owner's rows, as bytes; `fallback` where there is none."""
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(fallback))
    some = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts)])[some]
    out = np.array(fallback)
    ends = np.cumsum(counts[some])
    start = 0
    while start < len(some):  # floats of little at a time
        before = int(ends[start - 1]) if start else 0
        last = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        chosen = slice(start, last)
        a, b = starts[start], starts[last - 1] + counts[some[last - 1]]
        sums = np.add.reduceat(rows[order[a:b]].astype(np.float32), starts[chosen] - a, axis=0)
        lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        good = lengths > 0
        out[some[chosen][good]] = to_bytes(sums[good] / lengths[good, None])
        start = last
    return out


def _spherical_kmeans(rows: Bytes, n_centroids: int, rng: np.random.Generator, pause: Callable[[], None]) -> Bytes:
    """Return centroids of rows that are directions in bytes; empty ones start again at random rows."""
    start = rows[rng.permutation(len(rows))[:n_centroids]]
    centroids = np.array(start)
    if n_centroids >= len(rows):
        return centroids
    for _ in range(_ITERATIONS):
        pause()
        cells, _ = _nearest(rows, centroids)
        counts = np.bincount(cells, minlength=n_centroids)
        centroids = _means(rows, cells, centroids)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            centroids[empty] = rows[rng.integers(0, len(rows), len(empty))]
    return centroids
