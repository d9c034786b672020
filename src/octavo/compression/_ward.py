"""Ward's agglomerative clustering of a few hundred points, with numpy alone.

The dendrogram is that of ``scipy.cluster.hierarchy.linkage(condensed, "ward")``, found in another order. Ward's
criterion is *reducible*: merging two clusters that are each other's nearest neighbours never brings the result nearer
to a third than the nearer of the two was. So all pairs of mutual nearest neighbours can be merged at once, and what
would be n steps of array operations of length n becomes about a dozen rounds on whole matrices. On a document of 250
tokens that takes about as long as scipy's compiled loop.

Where many distances are equal, mutual nearest neighbours are rare if each point has one nearest neighbour, the first; so
pairs are then made of all that are as near to each other as either is to anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Share of clusters left at which the matrix is copied to a smaller one.
_COMPACT = 0.75

#: Share of clusters that have to be in a pair; otherwise equal distances are looked at.
_PAIRED = 1 / 8

Doubles = NDArray[np.float64]


def ward_labels(distances: Doubles, *, n_clusters: int | None = None, height: float | None = None) -> NDArray[np.int64]:
    """Cluster points by Ward's criterion and cut the tree.

    Parameters
    ----------
    distances : ndarray of shape (n, n), float64
        Symmetric dissimilarities, at least 0; need not be Euclidean. The diagonal is not read.
    n_clusters : int, optional
        Cut where at most so many clusters are left: at the lowest height that does it, so that of merges at equal
        heights all are made or none.
    height : float, optional
        Cut at this height instead, making all merges up to it.

    Returns
    -------
    ndarray of shape (n,), int64
        For each point the smallest point of its cluster.

    References
    ----------
    Murtagh, F. (1983). A survey of recent advances in hierarchical clustering algorithms. The Computer Journal 26(4).

    Examples
    --------
    >>> points = np.array([0.0, 5.0, 0.2, 5.1])
    >>> ward_labels(np.abs(points[:, None] - points), n_clusters=2).tolist()
    [0, 1, 0, 1]
    """
    n = len(distances)
    if n_clusters is not None and n <= n_clusters:
        return np.arange(n)
    wanted = n - n_clusters if n_clusters is not None else 0
    # All heights are kept squared: the update is linear in them.
    limit = np.inf if height is None else height * height
    merges, heights = _merge(distances, wanted, limit)
    if n_clusters is not None:
        limit = np.partition(heights, wanted - 1)[wanted - 1]
    made = heights <= limit
    parent = np.arange(n)
    parent[merges[made, 1]] = merges[made, 0]
    while True:  # parents are smaller than their children, so following them ends at the smallest
        further = parent[parent]
        if np.array_equal(further, parent):
            return parent
        parent = further


def _merge(distances: Doubles, wanted: int, limit: float) -> tuple[NDArray[np.int64], Doubles]:
    """Return merges (smallest point of either cluster) and squared heights.

    All merges up to the squared height `limit` are among them or, if `wanted` is not 0, the `wanted` lowest ones and
    those as high as the last of these.
    """
    squared = distances * distances
    np.fill_diagonal(squared, np.inf)
    points = np.arange(len(squared))
    sizes = np.ones(len(squared))
    alive = np.ones(len(squared), np.bool_)
    merges = np.empty((len(squared), 2), np.int64)
    heights = np.full(len(squared), np.inf)
    left, done = len(squared), 0
    while left > 1:
        nearest = squared.argmin(axis=1)
        # Of equal neighbours the first counts, so the first point of a closest pair always has a mutual neighbour.
        rows = np.arange(len(squared))
        first = np.flatnonzero((nearest[nearest] == rows) & (rows < nearest) & alive)
        second = nearest[first]
        if len(first) < _PAIRED * left:
            first, second = _tied_pairs(squared, squared[rows, nearest], alive)
        height = squared[first, second]
        if wanted and done >= wanted:
            limit = np.partition(heights[:done], wanted - 1)[wanted - 1]
        # No later merge is lower than the two clusters' own, so what is too high now need never be merged.
        low = height <= limit
        if not low.any():
            break
        first, second, height = first[low], second[low], height[low]
        merges[done : done + len(first)] = np.stack([points[first], points[second]], axis=1)
        heights[done : done + len(first)] = height
        done += len(first)
        left -= len(first)
        _update(squared, sizes, first, second, height)
        alive[second] = False
        if left < _COMPACT * len(squared):
            squared = squared[alive][:, alive]
            sizes, points = sizes[alive], points[alive]
            alive = np.ones(left, np.bool_)
    return merges[:done], heights[:done]


def _tied_pairs(
    squared: Doubles, least: Doubles, alive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return as many pairs of mutual nearest neighbours as there are without a point in two, all equal distances counted.

    Merging one of them leaves the others mutual nearest neighbours: the criterion is reducible.
    """
    tied = (squared == least) & (squared == least[:, None])
    free = alive.copy()
    pairs = []
    for point in np.flatnonzero(alive & tied.any(axis=1)).tolist():
        if free[point]:
            others = tied[point] & free
            other = int(others.argmax())
            if others[other]:
                free[[point, other]] = False
                pairs.append((point, other))
    made = np.array(pairs, np.int64).reshape(-1, 2)
    return made[:, 0], made[:, 1]


def _update(
    squared: Doubles, sizes: Doubles, first: NDArray[np.int64], second: NDArray[np.int64], height: Doubles
) -> None:
    """Merge pairs of clusters in place, into the first of each; no cluster is in two pairs."""
    a, b = sizes[first], sizes[second]
    rows = _combine(squared[first], squared[second], height[:, None], a[:, None], b[:, None], sizes)
    # Between two merged clusters the same formula is applied to the columns as well.
    both = _combine(rows[:, first], rows[:, second], height, a, b, (a + b)[:, None])
    rows[:, first] = (both + both.T) / 2  # a symmetric matrix keeps neighbours mutual
    rows[:, second] = np.inf
    squared[first] = rows
    squared[:, first] = rows.T
    squared[second] = np.inf
    squared[:, second] = np.inf
    sizes[first] += b


def _combine(to_a: Doubles, to_b: Doubles, between: Doubles, a: Doubles, b: Doubles, other: Doubles) -> Doubles:
    """Return the squared distances to the union of two clusters, by the formula of Lance and Williams for Ward."""
    result = (a + other) * to_a
    result += (b + other) * to_b
    result -= other * between
    result /= a + b + other
    return result
