"""Token cells: which documents have tokens near which centroids, and what a query's tokens make of that.

Centroids are those of a `CellModel` over token vectors. `Postings` say for each cell which documents have a token in it. A
search takes, for each token of the query, the centroids nearest to it; a document's gain is the product with the best of these
in whose cells it is, less that with the last of them: what is known of a document that is in none of them is that it has
nothing nearer. The gains of all tokens, added up, order the documents well enough to be candidates for MaxSim. Nothing here
knows of files.

References
----------
K. Santhanam, O. Khattab, C. Potts, M. Zaharia, "PLAID: An Efficient Engine for Late Interaction Retrieval", CIKM 2022,
arXiv:2205.09707. J. L. Scheerer, M. Zaharia, C. Potts, G. Alonso, O. Khattab, "WARP: An Efficient Engine for Multi-Vector
Retrieval", SIGIR 2025, arXiv:2501.17788: what stands for the tokens that are missing.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from octavo.index._bytes import Floats, multiply, scale_of, to_directions
from octavo.index.cells import CellModel, Mask, Segment, Slots

Cells: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int64]

#: Cells for n tokens: so many times the square root of n, but never so many that a cell has fewer tokens than this, on average.
CELLS_PER_ROOT = 16.0
TOKENS_PER_CELL = 8

#: Tokens of the training sample for each centroid.
SAMPLE_PER_CELL = 12

#: Slots of one block of postings: as many as two bytes tell apart.
BLOCK_BITS = 16
BLOCK_SLOTS = 1 << BLOCK_BITS

#: Cells that a query's token looks at.
PROBES = 16

#: Under a filter that few documents pass, up to so many times as many cells are looked at.
_MOST_PROBES = 8

#: Tokens of a query that are looked up together.
_TOKENS = 32

#: Centroids whose best product stands for all of theirs when the best are looked for.
_SET = 16


def cells_for(n_tokens: int) -> int:
    """Return into how many cells so many tokens are divided.

    Examples
    --------
    >>> cells_for(10_000), cells_for(3_000_000)
    (1250, 27712)
    """
    return max(1, min(int(CELLS_PER_ROOT * math.sqrt(n_tokens)), n_tokens // TOKENS_PER_CELL))


def bytes_for(n_documents: int, n_tokens: int, dim: int) -> float:
    """Return at most how many bytes token cells take: postings, centroids, where lists begin.

    Examples
    --------
    >>> round(bytes_for(100_000, 3_000_000, 128) / 3_000_000, 2)
    3.26
    """
    blocks = -(-n_documents // BLOCK_SLOTS)
    return float(2 * n_tokens + cells_for(n_tokens) * (dim + 4 * blocks))


@dataclass(frozen=True, eq=False)
class Postings(Segment):
    """Documents of each cell: a `Segment` whose records are slots in two bytes, in lists of one block of slots and one cell.

    Parameters
    ----------
    starts : ndarray of shape (n_blocks * n_cells + 1,), int64
        Records ``starts[i * n_cells + j]`` up to the next start are the documents of cell ``j`` in the ``i``-th block.
    records : ndarray of uint16
        Slots, less the first of their block, rising within a list.
    n_cells : int
        Cells of the model.
    block : int
        Number of the first block: slots from ``block * 65536`` on.
    """

    n_cells: int
    block: int

    @property
    def n_blocks(self) -> int:
        """Blocks that there are lists for."""
        return (len(self.starts) - 1) // self.n_cells

    @classmethod
    def of(cls, parts: Iterable[tuple[Slots, Cells]], n_cells: int) -> Postings:
        """Make lists of tokens.

        Parameters
        ----------
        parts : iterable of (slots, cells)
            The slot and the cell of each token; slots must not fall, from part to part either.
        n_cells : int
            Cells of the model.
        """
        by_block: dict[int, list[Keys]] = {}
        done: list[tuple[int, Keys]] = []
        for slots, cells in parts:
            blocks = slots >> BLOCK_BITS
            for block in np.unique(blocks).tolist():
                some = blocks == block
                keys = (cells[some].astype(np.int64) << BLOCK_BITS) | (slots[some] & (BLOCK_SLOTS - 1))
                by_block.setdefault(block, []).append(np.unique(keys))
            over = [block for block in by_block if len(blocks) and block < int(blocks[-1])]
            done += [(block, _united(by_block.pop(block))) for block in over]
        done += [(block, _united(keys)) for block, keys in by_block.items()]
        return cls._of_keys(done, n_cells)

    @classmethod
    def _of_keys(cls, blocks: Sequence[tuple[int, Keys]], n_cells: int) -> Postings:
        """Put the keys of blocks (cell and low part of the slot, rising) one behind the other."""
        if not blocks:
            return cls(np.zeros(1, np.int64), np.zeros(0, np.uint16), n_cells, 0)
        known = dict(blocks)
        first, last = min(known), max(known)
        counts = np.zeros((last - first + 1, n_cells), np.int64)
        records = []
        for block in range(first, last + 1):
            keys = known.get(block)
            if keys is not None:
                counts[block - first] = np.bincount(keys >> BLOCK_BITS, minlength=n_cells)
                records.append((keys & (BLOCK_SLOTS - 1)).astype(np.uint16))
        starts = np.concatenate([[0], np.cumsum(counts.ravel())]).astype(np.int64)
        return cls(starts, np.concatenate(records), n_cells, first)

    def by_blocks(self) -> Iterator[tuple[int, Keys]]:
        """Yield each block's number and its postings: the cell times 65,536, and the low part of the slot; rising."""
        for i in range(self.n_blocks):
            starts = self.starts[i * self.n_cells : (i + 1) * self.n_cells + 1]
            cells = np.repeat(np.arange(self.n_cells, dtype=np.int64), np.diff(starts))
            yield (
                self.block + i,
                (cells << BLOCK_BITS) | self.records[int(starts[0]) : int(starts[-1])].astype(np.int64),
            )

    @classmethod
    def merged(cls, segments: Sequence[Segment], alive: Mask | None = None) -> Postings:
        """Put the lists of segments of one model together, without documents that are no longer alive.

        Parameters
        ----------
        segments : sequence of Postings
            At least one.
        alive : ndarray of bool, optional
            Which slots are kept.
        """
        some = [each for each in segments if isinstance(each, Postings)]
        by_block: dict[int, list[Keys]] = {}
        for each in some:
            for block, keys in each.by_blocks():
                by_block.setdefault(block, []).append(_living(block, keys, alive))
        united = [(block, _united(keys)) for block, keys in by_block.items()]
        return cls._of_keys([(block, keys) for block, keys in united if len(keys)], some[0].n_cells)

    def moved(self, alive: Mask, places: NDArray[np.int64]) -> Postings:
        """Return the lists with other slots: `places` says where each slot went that is alive; the order stays."""
        by_block: dict[int, list[Keys]] = {}
        for block, keys in self.by_blocks():
            keys = _living(block, keys, alive)
            slots = places[(block << BLOCK_BITS) + (keys & (BLOCK_SLOTS - 1))]
            keys = (keys & ~np.int64(BLOCK_SLOTS - 1)) | (slots & (BLOCK_SLOTS - 1))
            blocks = slots >> BLOCK_BITS
            for target in np.unique(blocks).tolist():
                by_block.setdefault(target, []).append(keys[blocks == target])
        return self._of_keys([(block, _united(keys)) for block, keys in by_block.items()], self.n_cells)


def _united(keys: Sequence[Keys]) -> Keys:
    """Return the keys of several parts, each of which rises, without repetitions, and rising."""
    if len(keys) == 1:
        return keys[0]
    united = np.concatenate(keys)
    united.sort(kind="stable")  # in place, which `np.unique` is not; runs that rise are merged
    kept: Keys = united[np.concatenate([[True], united[1:] != united[:-1]])]
    return kept


def _living(block: int, keys: Keys, alive: Mask | None) -> Keys:
    return keys if alive is None else keys[alive[(block << BLOCK_BITS) + (keys & (BLOCK_SLOTS - 1))]]


# ---------------------------------------------------------------------- searching


class _Scratch(threading.local):
    """A number for each slot, kept by each thread."""

    def __init__(self) -> None:
        self._best = np.empty(0, np.float32)

    def best(self, n: int) -> Floats:
        """Return uninitialised numbers, valid until the next call in this thread."""
        if len(self._best) < n:
            self._best = np.empty(n, np.float32)
        return self._best


_scratch = _Scratch()

Check: TypeAlias = Callable[[int, NDArray[np.int64], NDArray[np.int64]], None]


def probes_for(share: float) -> int:
    """Return how many cells a token looks at when so large a share of the documents can match.

    Examples
    --------
    >>> probes_for(1.0), probes_for(0.1), probes_for(0.0001)
    (16, 51, 128)
    """
    return min(_MOST_PROBES * PROBES, round(PROBES / math.sqrt(max(share, 1e-9))))


def search(
    model: CellModel,
    segments: Sequence[Postings],
    query: Floats,
    n_slots: int,
    keep: int,
    *,
    probes: int = PROBES,
    mask: Mask | None = None,
    check: Check | None = None,
) -> Slots:
    """Return the documents that gain most by the cells of a query's tokens.

    Parameters
    ----------
    model : CellModel
        Centroids.
    segments : sequence of Postings
        Where to look.
    query : ndarray of shape (n_tokens, dim)
        The query's tokens, float32.
    n_slots : int
        Slots that there are.
    keep : int
        Slots to return, at most.
    probes : int, default=16
        Cells that a token looks at.
    mask : ndarray of bool of shape (n_slots,), optional
        Which slots may be returned.
    check : callable, optional
        Called with the number of a segment, first and last records, before they are read.

    Returns
    -------
    ndarray of shape (r,), int64
        The best first, at most `keep`; of equal ones the smaller slot.
    """
    last = max((each.block + each.n_blocks for each in segments), default=0) << BLOCK_BITS
    totals = np.zeros(max(last, n_slots), np.float32)
    best = _scratch.best(len(totals))
    for start in range(0, len(query), _TOKENS):  # so that a query of thousands of tokens takes no more memory
        cells, gains = nearest_cells(model, query[start : start + _TOKENS], probes)
        for number, segment in enumerate(segments):
            for slots, values in _gains(number, segment, cells, gains, check):
                best[slots] = values  # rising: of a document that is in several of the cells the best stays
                totals[slots] += best[slots]  # added once for each document, however often it is named
    found = np.flatnonzero(totals[:n_slots])
    if mask is not None:
        found = found[mask[found]]
    values = totals[found]
    if len(found) > keep:
        least = np.partition(values, len(values) - keep)[len(values) - keep]
        some = np.flatnonzero(values >= least)
        found, values = found[some], values[some]
    return found[np.argsort(-values, kind="stable")[:keep]]


def nearest_cells(model: CellModel, query: Floats, probes: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the cells nearest to each token of a query, the nearest last, and what they score above the first of them.

    Returns
    -------
    cells : ndarray of shape (n_tokens, p)
        At most `probes` for each token.
    gains : ndarray of shape (n_tokens, p), float32
        Above 0, except for the first.
    """
    rotated = model.rotation.apply(np.ascontiguousarray(query, np.float32))
    directions, lengths = to_directions(rotated)
    products = multiply(directions, model.packed)
    probes = min(probes, len(model))
    cells = _largest(products, probes)
    values = np.take_along_axis(products, cells, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    cells, values = np.take_along_axis(cells, order, axis=1), np.take_along_axis(values, order, axis=1)
    gains = (values - values[:, :1]).astype(np.float32)
    gains *= lengths / np.float32(scale_of(model.dim) ** 2)
    return cells, gains


def _largest(products: NDArray[np.int32], n: int) -> NDArray[np.intp]:
    """Return the places of the `n` largest of each row, in no order.

    They lie in the `n` sets of columns whose largest numbers are the largest, so nothing else is partitioned. A set has every
    so-manyth column: the largest of all sets are then found by comparing long stretches of a row.
    """
    rows, columns = products.shape
    sets = columns // _SET
    if sets <= 2 * n:
        return np.argpartition(products, columns - n, axis=1)[:, columns - n :]
    tops = products[:, : sets * _SET].reshape(rows, _SET, sets).max(axis=1)
    near = np.argpartition(tops, sets - n, axis=1)[:, sets - n :]
    places = (near[:, :, None] + sets * np.arange(_SET)).reshape(rows, -1)
    rest = np.arange(sets * _SET, columns)
    places = np.concatenate([places, np.broadcast_to(rest, (rows, len(rest)))], axis=1)
    inside = np.take_along_axis(products, places, axis=1)
    best = np.argpartition(inside, inside.shape[1] - n, axis=1)[:, inside.shape[1] - n :]
    return np.take_along_axis(places, best, axis=1)


def _gains(
    number: int, segment: Postings, cells: NDArray[np.intp], gains: Floats, check: Check | None
) -> Iterator[tuple[Slots, Floats]]:
    """Yield, token by token, the documents in its cells and what each cell gains them, from the least to the most."""
    tokens, probes = cells.shape
    blocks = np.arange(segment.n_blocks)
    # In the order of tokens, blocks, cells: a document lies in one block, so its gains rise.
    lists = (blocks[None, :, None] * segment.n_cells + cells[:, None, :]).reshape(-1)
    first, last = segment.starts.take(lists), segment.starts.take(lists + 1)
    if check is not None:
        check(number, first, last)
    lengths = last - first
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    if not total:
        return
    places = np.arange(total) + np.repeat(first - (ends - lengths), lengths)
    bases = np.broadcast_to((segment.block + blocks)[None, :, None] << BLOCK_BITS, (tokens, len(blocks), probes))
    slots = segment.records.take(places, mode="clip") + np.repeat(bases.reshape(-1), lengths)
    each = np.broadcast_to(gains[:, None, :], (tokens, len(blocks), probes)).reshape(-1)
    values = np.repeat(each, lengths)
    edges = np.concatenate([[0], ends])[:: len(blocks) * probes].tolist()
    for token in range(tokens):
        part = slice(edges[token], edges[token + 1])
        yield slots[part], values[part]
