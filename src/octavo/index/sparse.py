"""Inverted lists of learned sparse vectors: built once, added up for queries, taken apart to be merged.

A segment holds the vectors of a stretch of slots. Each term that occurs has a list of the documents that have it, in the
form of few bytes: *short* lists name local slots in two bytes each, *paged* ones count the documents of each 256 slots and
keep the low bytes, and lists of *bits* have a bit for each slot. The weights are bytes, in the order of the lists; what they
mean is told by one scale a document. ``docs/format.md`` has the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats
from octavo._sparse_rows import FULL, SparseRows, Terms, ranges

Ints: TypeAlias = npt.NDArray[np.int64]
Sums: TypeAlias = npt.NDArray[np.float32]
Whole: TypeAlias = npt.NDArray[np.float32]  # of whole numbers

#: Slots that a segment may span: local slots have two bytes, and a merge holds the postings of one segment in memory.
MOST_SLOTS = 1 << 15

#: The whole numbers that stand for the weights of a query sum up to this: times a code of 8 bits, that fits the 24 bits of a
#: float32. Their sums are the same in whatever order, so that a document's score does not depend on where it is kept.
_QUERY_SUM = 1 << 16

#: Bits are read at a third of the pace of pages, so a list has to take so many times fewer bytes that way.
_WORTH = 2

#: Weights of a query are looked up in a table where terms are below this, and by bisection where not.
_TABLE = 1 << 18

#: Bytes of the longest lists that a segment keeps as one weight a slot, which are added up in a fifth of the time; and
#: the least share of the slots that such a list has.
MOST_KEPT = 6 << 20
_KEPT_SHARE = 1 / 10

#: Slots of them that are multiplied at once, so that what is in work fits the caches.
_AT_ONCE = 4096

#: Scores are compared in so many rows, to find what the best ones reach without sorting all.
_ROWS = 64

#: Slots of a page, and documents that its count can tell of.
PAGE = 256
_PAGE_MOST = 255

SHORT, PAGED, BITS = range(3)


@dataclass(frozen=True, eq=False)
class Postings:
    """Which documents have which terms, and how much: in the order of terms, then slots.

    Parameters
    ----------
    terms : ndarray of shape (n_lists,), uint32
        Rising.
    counts : ndarray of shape (n_lists,), int64
        Documents of each.
    slots : ndarray of shape (n,), int64
        The documents, list after list.
    codes : ndarray of shape (n,), uint8
        Their weights.
    """

    terms: Terms
    counts: Ints
    slots: Ints
    codes: Codes

    @classmethod
    def of(cls, rows: SparseRows, slots: Ints) -> Postings:
        """Invert vectors; `slots` rise."""
        codes, _ = rows.coded()
        order = np.argsort(rows.terms, kind="stable")
        terms, counts = np.unique(rows.terms, return_counts=True)
        return cls(terms, counts.astype(np.int64), np.repeat(slots, rows.lengths)[order], codes[order])

    @classmethod
    def joined(cls, parts: Sequence[Postings]) -> Postings:
        """Put lists of the same term behind each other; the slots of each part lie behind those of the one before."""
        terms = np.concatenate([part.terms for part in parts])
        counts = np.concatenate([part.counts for part in parts])
        order = np.argsort(terms, kind="stable")
        where = ranges((np.cumsum(counts) - counts)[order], counts[order])
        slots, codes = (np.concatenate([getattr(part, name) for part in parts])[where] for name in ("slots", "codes"))
        union, starts = np.unique(terms[order], return_index=True)
        return cls(union, np.add.reduceat(counts[order], starts) if len(union) else counts, slots, codes)

    def kept(self, slots: Ints) -> Postings:
        """Return them with other slots, those of -1 left out; `slots` has a number for each slot, rising."""
        renamed = slots[self.slots]
        kept = renamed >= 0
        starts = np.cumsum(self.counts) - self.counts
        counts = np.add.reduceat(kept, starts, dtype=np.int64) if len(starts) else self.counts
        some = counts > 0
        return Postings(self.terms[some], counts[some], renamed[kept], self.codes[kept])

    def rows(self, n_slots: int, scales: Floats) -> SparseRows:
        """Return the vectors of slots 0 to `n_slots` - 1."""
        order = np.argsort(self.slots, kind="stable")
        offsets = np.zeros(n_slots + 1, np.int64)
        np.cumsum(np.bincount(self.slots, minlength=n_slots), out=offsets[1:])
        terms = np.repeat(self.terms, self.counts)[order]
        return SparseRows.decoded(offsets, terms, self.codes[order], scales)


@dataclass(frozen=True, eq=False)
class SparseSegment:
    """The inverted lists of a stretch of slots; see the module.

    Parameters
    ----------
    lists : tuple of int
        How many there are of each kind.
    terms, counts : ndarray of shape (n_lists,), uint32
        The term and the documents of each list, in the order of kinds, then terms.
    scales : ndarray of shape (slots,), float32
        What 255 means in a document's weights; 0 where there are no terms.
    short : ndarray of uint16
        Local slots.
    pages : ndarray of shape (paged lists, pages), uint8
        Documents of each page.
    low : ndarray of uint8
        Low bytes of local slots.
    bits : ndarray of shape (bit lists, ceil(slots / 8)), uint8
        One bit a slot.
    codes : ndarray of uint8
        Weights.
    """

    lists: tuple[int, int, int]
    terms: Terms
    counts: npt.NDArray[np.uint32]
    scales: Floats
    short: npt.NDArray[np.uint16]
    pages: Codes
    low: Codes
    bits: Codes
    codes: Codes

    @classmethod
    def build(cls, postings: Postings, scales: Floats) -> SparseSegment:
        """Choose a form for each list; slots count from 0, and there are as many as scales."""
        slots, counts, n_pages = len(scales), postings.counts, -(-len(scales) // PAGE)
        kinds, paged = _kinds(postings, slots)
        order = np.argsort(kinds, kind="stable")
        starts = np.cumsum(counts) - counts
        sorted_counts = counts[order]
        where = ranges(starts[order], sorted_counts)
        local, codes = postings.slots[where], postings.codes[where]
        lists = tuple(int((kinds == kind).sum()) for kind in (SHORT, PAGED, BITS))
        ends = np.concatenate([[0], np.cumsum(sorted_counts)])
        a, b = int(ends[lists[0]]), int(ends[lists[0] + lists[1]])
        bits = np.zeros((lists[2], -(-slots // 8)), np.uint8)
        for row in range(lists[2]):
            first = lists[0] + lists[1] + row
            members = np.zeros(slots, np.bool_)
            members[local[ends[first] : ends[first + 1]]] = True
            bits[row] = np.packbits(members, bitorder="little")
        pages = paged[order[lists[0] : lists[0] + lists[1]]] if lists[1] else np.zeros((0, n_pages))
        return cls(
            lists,  # type: ignore[arg-type]  # three
            postings.terms[order],
            sorted_counts.astype(np.uint32),
            scales,
            local[:a].astype(np.uint16),
            pages.astype(np.uint8),
            (local[a:b] % PAGE).astype(np.uint8),
            bits,
            codes,
        )

    @classmethod
    def of(cls, rows: SparseRows) -> SparseSegment:
        """Invert vectors, one for each slot."""
        return cls.build(Postings.of(rows, np.arange(len(rows))), rows.coded()[1])

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def slots(self) -> int:
        """Slots that it spans."""
        return len(self.scales)

    @cached_property
    def ends(self) -> Ints:
        """Where each list begins among the weights, and where the last one ends."""
        ends = np.zeros(len(self.terms) + 1, np.int64)
        np.cumsum(self.counts, out=ends[1:])
        return ends

    @cached_property
    def _edges(self) -> list[tuple[int, int]]:
        """Number of the first list of each kind, and of the first one behind it."""
        edges = np.concatenate([[0], np.cumsum(self.lists)]).tolist()
        return list(pairwise(edges))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of everything."""
        parts = (self.terms, self.counts, self.scales, self.short, self.pages, self.low, self.bits, self.codes)
        return sum(part.nbytes for part in parts)

    # ------------------------------------------------------------------ searching

    def find(self, terms: Terms) -> tuple[Ints, Ints]:
        """Return the lists of those of the terms that have one, in rising order, and which of the terms these are."""
        table, lists = self._by_term
        if not len(table):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(table, terms), len(table) - 1)
        which = np.flatnonzero(table[at] == terms)
        found = lists[at[which]]
        order = np.argsort(found)
        return found[order], which[order]

    @cached_property
    def _by_term(self) -> tuple[Terms, Ints]:
        """All terms in rising order, and the list of each."""
        order = np.argsort(self.terms, kind="stable")
        return self.terms[order], order

    def sums(self, lists: Ints, weights: Whole) -> Whole:
        """Return the sum of ``weight * code`` over some lists, for each slot."""
        counts = self.counts[lists]
        long = counts >= self._long
        sums = self._sums_of_long(lists[long], weights[long]) if long.any() else np.zeros(self.slots, np.float32)
        if not long.all():
            lists, weights, counts = lists[~long], weights[~long], counts[~long]
            pieces = zip(self.ends[lists].tolist(), self.ends[lists + 1].tolist(), strict=True)
            codes = np.concatenate([self.codes[a:b] for a, b in pieces])
            np.add.at(sums, self.members(lists), np.multiply(np.repeat(weights, counts), codes, dtype=np.float32))
        return sums

    def _sums_of_long(self, lists: Ints, weights: Whole) -> Whole:
        """Return the sums over lists that are kept as one weight a slot."""
        rows, table, filled = self._kept
        found = np.searchsorted(rows, lists)
        for row, each in zip(found.tolist(), lists.tolist(), strict=True):
            if not filled[row]:  # two threads may both see to it, and write the same
                table[row, self.members(rows[row : row + 1])] = self.codes[self.ends[each] : self.ends[each + 1]]
                filled[row] = True
        sums = np.empty(self.slots, np.float32)
        for first in range(0, self.slots, _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            np.dot(weights, table[found, part].astype(np.float32), out=sums[part])
        return sums

    @cached_property
    def _long(self) -> int:
        """Documents of a list from which on it is kept."""
        least, most = int(np.ceil(_KEPT_SHARE * self.slots)), MOST_KEPT // self.slots
        if len(self.counts) <= most:
            return least
        return max(least, int(np.partition(self.counts, -most - 1)[-most - 1]) + 1)

    @cached_property
    def _kept(self) -> tuple[Ints, Codes, npt.NDArray[np.bool_]]:
        """The long lists, a row of one weight a slot for each, and which of these rows are filled already."""
        lists = np.flatnonzero(self.counts >= self._long)
        return lists, np.zeros((len(lists), self.slots), np.uint8), np.zeros(len(lists), np.bool_)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept beside the lists to be read faster."""
        return int(self._kept[2].sum()) * self.slots if "_kept" in self.__dict__ else 0

    def members(self, lists: Ints) -> Ints:
        """Return the local slots of some lists, in rising order of these, one after the other."""
        ends, (one, two) = self.ends, np.searchsorted(lists, [edge for _, edge in self._edges[:2]]).tolist()
        short, paged, bits = lists[:one], lists[one:two], lists[two:]
        parts: list[npt.NDArray[np.integer[Any]]] = [
            self.short[a:b] for a, b in zip(ends[short].tolist(), ends[short + 1].tolist(), strict=True)
        ]
        if len(paged):
            counts = self.pages[paged - self.lists[SHORT]].reshape(-1)
            base = np.tile(np.arange(0, self.slots, PAGE, dtype=np.uint16), len(paged))
            before = int(ends[self.lists[SHORT]])
            pieces = zip((ends[paged] - before).tolist(), (ends[paged + 1] - before).tolist(), strict=True)
            parts.append(np.repeat(base, counts) + np.concatenate([self.low[a:b] for a, b in pieces]))
        for row in (bits - self.lists[SHORT] - self.lists[PAGED]).tolist():
            members = np.unpackbits(self.bits[row], count=self.slots, bitorder="little").view(np.bool_)
            parts.append(np.flatnonzero(members))
        return np.concatenate(parts, dtype=np.int64)

    # ------------------------------------------------------------------ taking apart

    def postings(self) -> Postings:
        """Return everything in the order of terms."""
        order = np.argsort(self.terms, kind="stable")
        counts = self.counts.astype(np.int64)
        slots = self.members(np.arange(len(self.terms))) if len(self.terms) else np.zeros(0, np.int64)
        where = ranges(self.ends[:-1][order], counts[order])
        return Postings(self.terms[order], counts[order], slots[where], self.codes[where])

    def rows(self) -> SparseRows:
        """Return the vectors, one for each slot."""
        return self.postings().rows(self.slots, self.scales)

    def picked(self, slots: Ints) -> SparseRows:
        """Return the vectors of a few slots, which rise, without taking everything apart."""
        wanted = np.zeros(self.slots, np.bool_)
        wanted[slots] = True
        (_, one), (_, two), _ = self._edges
        found = [np.flatnonzero(wanted[self.short])]
        members = [self.short[found[0]].astype(np.int64)]
        if one < two:
            begins = self.ends[one:two, None] + np.cumsum(self.pages, axis=1, dtype=np.int64) - self.pages
            for page in np.unique(slots // PAGE).tolist():
                at = ranges(begins[:, page], self.pages[:, page].astype(np.int64))
                local = page * PAGE + self.low[at - self.ends[one]].astype(np.int64)
                hits = np.flatnonzero(wanted[local])
                found.append(at[hits])
                members.append(local[hits])
        for number, row in enumerate(self.bits, two):
            inside = np.flatnonzero(np.unpackbits(row, count=self.slots, bitorder="little").view(np.bool_))
            hits = np.flatnonzero(wanted[inside])
            found.append(self.ends[number] + hits)
            members.append(inside[hits])
        at, local = np.concatenate(found), np.concatenate(members)
        terms = self.terms[np.searchsorted(self.ends, at, side="right") - 1]
        order = np.lexsort((terms, local))
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(np.bincount(np.searchsorted(slots, local), minlength=len(slots)), out=offsets[1:])
        return SparseRows.decoded(offsets, terms[order], self.codes[at[order]], self.scales[slots])


def _kinds(postings: Postings, slots: int) -> tuple[Ints, Ints]:
    """Return the form of the fewest bytes for each list, and how many documents it has in each page."""
    counts, n_pages = postings.counts, -(-slots // PAGE)
    lists = np.repeat(np.arange(len(counts)), counts)
    pages = np.bincount(lists * n_pages + postings.slots // PAGE, minlength=len(counts) * n_pages)
    pages = pages.reshape(len(counts), n_pages)
    sizes = np.stack([2 * counts, n_pages + counts, np.full_like(counts, _WORTH * -(-slots // 8))])
    sizes[PAGED, pages.max(axis=1, initial=0) > _PAGE_MOST] = np.iinfo(np.int64).max
    return np.argmin(sizes, axis=0), pages


# ---------------------------------------------------------------------- the best of several


Check: TypeAlias = Callable[[int, Ints], None]


def query_weights(weights: Floats) -> tuple[Whole, np.float32]:
    """Return a query's weights as whole numbers, and what one of them stands for."""
    total = float(weights.sum(dtype=np.float64))
    unit = total / (_QUERY_SUM - len(weights)) if total > 0 else 1.0  # each may be rounded up by a half
    return np.rint(weights / unit).astype(np.float32), np.float32(unit / FULL)


def sparse_scores(
    segments: Sequence[tuple[int, SparseSegment]],
    terms: Terms,
    weights: Floats,
    n_slots: int,
    check: Check | None = None,
) -> Sums:
    """Return the inner product of a query with every document.

    Parameters
    ----------
    segments : sequence of (int, SparseSegment)
        With the first slot of each.
    terms, weights : ndarray
        The query's, terms in rising order.
    n_slots : int
        Documents; those in no segment get 0.
    check : callable, optional
        Told the number of a segment and the lists that are about to be read.
    """
    scores = np.zeros(n_slots, np.float32)
    whole, unit = query_weights(weights)
    for number, (first, segment) in enumerate(segments):
        lists, which = segment.find(terms)
        if not len(lists):
            continue
        if check is not None:
            check(number, lists)
        scores[first : first + segment.slots] = _inner(segment.sums(lists, whole[which]), unit, segment.scales)
    return scores


def _inner(sums: Whole, unit: np.float32, scales: Floats) -> Sums:
    """Return what sums of whole numbers mean; weights near the limits of float32 give scores of infinity, or 0."""
    with np.errstate(over="ignore"):
        scores: Sums = sums * unit
        scores *= scales
    return scores


def scan_rows(rows: SparseRows, codes: Codes, scales: Floats, terms: Terms, weights: Floats) -> Sums:
    """Return the inner product of a query with vectors that are in no segment, to the last bit as if they were in one.

    Parameters
    ----------
    rows : SparseRows
        The vectors.
    codes, scales : ndarray
        What `SparseRows.coded` gives of them.
    terms, weights : ndarray
        The query's, terms in rising order.
    """
    if not len(rows.terms) or not len(terms):
        return np.zeros(len(rows), np.float32)
    whole, unit = query_weights(weights)
    top = int(rows.terms.max())
    if top < _TABLE:
        table = np.zeros(top + 1, np.float32)
        known = terms <= top
        table[terms[known]] = whole[known]
        found = table[rows.terms]
    else:
        at = np.minimum(np.searchsorted(terms, rows.terms), len(terms) - 1)
        found = np.where(terms[at] == rows.terms, whole[at], np.float32(0))
    sums = np.zeros(len(rows), np.float32)
    filled = np.flatnonzero(rows.lengths)
    sums[filled] = np.add.reduceat(found * codes, rows.offsets[filled])
    return _inner(sums, unit, scales)


def best(scores: Sums, k: int, mask: npt.NDArray[np.bool_] | None) -> tuple[Ints, Floats]:
    """Return the k best of scores above 0, best first, equal ones by slot."""
    if mask is not None:
        scores = np.where(mask, scores, 0.0)
    bound = 0.0
    if k < len(scores):
        compared, whole = scores, len(scores) // _ROWS
        if k <= whole // 4:
            # the k-th of the best of each column is no higher than the k-th of all, and nearly as high
            compared = scores[: whole * _ROWS].reshape(_ROWS, whole).max(axis=0)
        bound = float(np.partition(compared, len(compared) - k)[len(compared) - k])
    found = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    values = scores[found]
    order = np.argsort(-values, kind="stable")[:k]
    return found[order], values[order]


def runs(slots: Ints, most: int = MOST_SLOTS) -> Iterator[tuple[int, int]]:
    """Cut rising slots into runs that span at most so many; yields positions."""
    first = 0
    while first < len(slots):
        last = int(np.searchsorted(slots, slots[first] + most))
        yield first, last
        first = last
