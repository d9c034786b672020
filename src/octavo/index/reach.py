"""How far a search by cells looks: learned from the collection itself, and decided anew for every query.

Cells come in the order in which their centroids fit a query. How many of them hold what it is looking for depends on the model
of the vectors (2,000 rows for one, 15,000 for another, of the same 90,453 sentences) and on the query: where ten rows of the
first cells are much more similar than the centroids of the next ones, there is little to come. So a search looks at `first`
cells, takes the score ``s`` of its k-th best estimate and the cosine ``b`` of the last of these centroids, and goes on to all
centroids whose cosine is at least ``score * s + border * b - shift``, but to no more than `most`.

What is learned, when the centroids are, is `shift` and `most`: queries are made of documents, the nearest rows of each are
found exactly among all, and `shift` is what it takes to find the share `FOUND` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from octavo.index._bytes import Bytes, Floats, multiply, pack, scale_of, to_bytes

Cells: TypeAlias = NDArray[np.int32]
Slots: TypeAlias = NDArray[np.int64]

#: Share of the nearest rows of its own queries that lie in the cells looked at, and of these that are among the candidates.
FOUND, KEPT = 0.995, 0.997

#: Nearest rows that are looked for.
NEAREST = 10

#: Queries that are made of documents, and how many values their products with all centroids may have.
QUERIES, _PRODUCTS = 384, 1 << 23

#: Cells looked at in any case. Of a million documents half of the questions need no more: with 64, they looked at 3,700 rows
#: instead of 2,200 and found as much.
FIRST = 32

#: No query looks at more than this many times the cells that all of them would need if they looked at equally many. Few do,
#: but for questions from elsewhere. Of 300 of these (who likes what, asked of abstracts and encyclopedia) MiniLM and WordLlama
#: found 0.947 and 0.935 of the ten best with 1.5, the limit for 66 and 82 % of them, and 0.975 with this and the next.
_SPREAD = 2.5

#: A query that looks at more cells than is usual has more candidates rescored in proportion, up to so many times.
MOST_WIDENED = 4.0

#: Cosine of a query with the document that it is made of, both seen from the mean of all: about as far as questions are from
#: their answers. Nearer ones (0.86) found too few of the best where documents have many near neighbours (0.94 of a million),
#: farther ones (0.6) too few on WordLlama (0.971).
_COSINE = 0.7

#: Candidates rescored for each of ten results, at least.
KEPT_LEAST = 8.0

#: The two factors. Together they are more than 1, so that questions from elsewhere, to which all cosines are lower, look
#: farther. To learn them, too, took as many rows and found between 0.978 and 0.992 of what these find 0.981 to 0.993 of.
_SCORE, _BORDER = 0.75, 0.5


@dataclass(frozen=True)
class Reach:
    """How far a search by cells looks.

    Parameters
    ----------
    first, most : int
        Cells looked at in any case, and at most.
    score, border, shift : float
        Centroids with a cosine of at least ``score * s + border * b - shift`` are looked at.
    typical : float
        Cells looked at by the queries that this was learned from, on average.
    kept : float
        Candidates rescored for each of ten results.

    Examples
    --------
    >>> Reach(64, 900, score=1.0, border=0.25, shift=0.25, typical=200.0, kept=8.0).least(0.5, 0.5)
    0.375
    """

    first: int
    most: int
    score: float
    border: float
    shift: float
    typical: float
    kept: float

    def least(self, score: float, border: float) -> float:
        """Return the cosine down to which centroids are looked at."""
        return self.score * score + self.border * border - self.shift

    @property
    def sound(self) -> bool:
        """Whether the numbers are such as are learned."""
        numbers = (self.score, self.border, self.shift, self.typical, self.kept)
        return 1 <= self.first <= self.most and all(map(math.isfinite, numbers)) and self.typical > 0 and self.kept >= 1


class HeldOut:
    """Queries whose nearest rows are found exactly, while all rows pass by.

    Parameters
    ----------
    queries : ndarray of shape (m, dim)
        Rotated vectors of unit length.
    """

    def __init__(self, queries: Floats) -> None:
        self.queries = queries
        self._packed = pack(to_bytes(queries))
        shape = len(queries), NEAREST
        self.scores = np.full(shape, -np.inf, np.float32)
        self.slots = np.full(shape, -1, np.int64)
        self.cells = np.zeros(shape, np.int32)

    def see(self, directions: Bytes, lengths: Floats, slots: Slots, cells: Cells) -> None:
        """Look at rows: their directions as bytes, their lengths, slots and cells."""
        values = (
            multiply(directions, self._packed) * (lengths / np.float32(scale_of(directions.shape[1]) ** 2))[:, None]
        )
        better = values > self.scores[:, -1]
        if np.count_nonzero(better) > 8 * self.scores.size:  # at the beginning: the best of this block only
            most = min(NEAREST, len(values))
            rows = np.argpartition(values, len(values) - most, axis=0)[len(values) - most :]
            queries = np.broadcast_to(np.arange(values.shape[1]), rows.shape)
            rows, queries = rows.ravel(), queries.ravel()
        else:
            rows, queries = np.nonzero(better)
        if not len(rows):
            return
        m = len(self.queries)
        owners = np.concatenate([np.repeat(np.arange(m), NEAREST), queries])
        scores = np.concatenate([self.scores.ravel(), values[rows, queries]])
        order = np.lexsort((-scores, owners))
        starts = np.searchsorted(owners[order], np.arange(m))
        best = order[starts[:, None] + np.arange(NEAREST)]
        self.scores = scores[best]
        self.slots = np.concatenate([self.slots.ravel(), slots[rows]])[best]
        self.cells = np.concatenate([self.cells.ravel(), cells[rows]])[best]


def queries_for(n_cells: int) -> int:
    """Return how many queries to learn from."""
    return max(16, min(QUERIES, _PRODUCTS // n_cells))


def made_queries(documents: Floats, one: Floats, other: Floats, mean: Floats) -> Floats:
    """Make queries of documents, of unit length: moved in the direction in which two others differ, as seen from the mean."""
    centred = documents - mean
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units = centred / np.where(lengths > 0, lengths, 1)
    away = one - other
    away -= np.einsum("nd,nd->n", away, units)[:, None] * units
    apart = np.linalg.norm(away, axis=1, keepdims=True)
    away /= np.where(apart > 0, apart, 1)
    moved = mean + lengths * (np.float32(_COSINE) * units + np.float32(math.sqrt(1 - _COSINE**2)) * away)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    queries: Floats = (moved / np.where(norms > 0, norms, 1)).astype(np.float32)
    return queries


def learned(cosines: NDArray[Any], nearest: Floats, scores: Floats, borders: Floats, first: int) -> Reach | None:
    """Return how far to look; None where there are too few rows to learn from.

    Parameters
    ----------
    cosines : ndarray of shape (m, n_cells)
        Of each query with all centroids, rising.
    nearest : ndarray of shape (m, NEAREST)
        Cosines of the query with the centroids of the cells of its nearest rows.
    scores, borders : ndarray of shape (m,)
        Of the k-th best estimate in the first cells, and of the last centroid among these.
    first : int
        Cells looked at in any case.
    """
    n_cells = cosines.shape[1]
    if not np.isfinite(scores).all():
        return None  # the first cells hold fewer rows than are looked for
    ranks = n_cells - np.stack([np.searchsorted(row, near) for row, near in zip(cosines, nearest, strict=True)])
    fixed = float(np.quantile(ranks, FOUND, method="higher"))
    most = int(min(n_cells, max(first, math.ceil(_SPREAD * fixed))))
    lines = _SCORE * scores + _BORDER * borders
    needed = np.where(ranks > most, np.inf, lines[:, None] - nearest)
    shift = float(np.quantile(needed, FOUND, method="higher"))
    counts = [n_cells - np.searchsorted(row, line - shift) for row, line in zip(cosines, lines, strict=True)]
    return Reach(first, most, _SCORE, _BORDER, shift, float(np.clip(counts, first, most).mean()), kept=1.0)
