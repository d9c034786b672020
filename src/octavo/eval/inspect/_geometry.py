"""Measures of how a cloud of vectors lies in its space; each works on a float array of shape (n, dim)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Distances computed at a time: 256 rows against a few thousand stay within tens of megabytes.
_ROWS = 256


def mean_cosine(units: Array) -> float:
    """Return the mean cosine over all pairs of rows of unit length, exactly and without forming the pairs.

    The squared length of the sum is the sum over all pairs, each vector with itself included.

    Examples
    --------
    >>> mean_cosine(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    0.3333333333333333
    """
    n = len(units)
    total = np.asarray(units.sum(axis=0, dtype=np.float64))
    own = float(np.einsum("ij,ij->", units, units, dtype=np.float64))
    return (float(total @ total) - own) / (n * (n - 1))


def isoscore(variances: Array) -> float:
    """Return IsoScore: 1 where every principal direction has the same variance, 0 where one has all of it.

    Parameters
    ----------
    variances : ndarray of shape (dim,)
        Variances along the principal components.

    References
    ----------
    Rudman, Gillman, Rayne and Eickhoff, "IsoScore: Measuring the Uniformity of Embedding Space Utilization", Findings
    of ACL 2022.

    Examples
    --------
    >>> isoscore(np.ones(8)), isoscore(np.eye(8)[0])
    (1.0, 0.0)
    """
    d = len(variances)
    if d == 1:
        return 1.0
    normalised = np.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    used = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    return max(0.0, float((d * used - 1) / (d - 1)))  # rounding, where one direction has everything


def participation_ratio(variances: Array) -> float:
    """Return the number of directions that would have these variances between them if all had the same.

    Examples
    --------
    >>> participation_ratio(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    return float(variances.sum() ** 2 / (variances**2).sum())


def effective_rank(singular_values: Array) -> float:
    """Return the exponential of the entropy of the singular values, taken as shares.

    References
    ----------
    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    Examples
    --------
    >>> round(effective_rank(np.array([2.0, 2.0, 0.0])), 6)
    2.0
    """
    shares = singular_values / singular_values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def neighbour_distances(points: Array, queries: Array, k: int) -> Array:
    """Return the Euclidean distances from each query row to its k nearest other rows, ascending.

    Parameters
    ----------
    points : ndarray of shape (n, dim)
        Distinct points.
    queries : ndarray of shape (m,)
        Row numbers in `points`.
    k : int
        Neighbours, at most n - 1.

    Returns
    -------
    ndarray of shape (m, k)
    """
    squares = np.einsum("ij,ij->i", points, points)
    found = np.empty((len(queries), k))
    for start in range(0, len(queries), _ROWS):
        rows = queries[start : start + _ROWS]
        squared = squares[rows, None] + squares[None, :] - 2 * (points[rows] @ points.T)
        squared[np.arange(len(rows)), rows] = np.inf
        nearest = np.partition(squared, k - 1, axis=1)[:, :k]
        found[start : start + len(rows)] = np.sqrt(np.maximum(np.sort(nearest, axis=1), 0))
    return found


def local_dimensions(distances: Array) -> Array:
    """Return the maximum-likelihood estimate of the local intrinsic dimension at each point.

    Parameters
    ----------
    distances : ndarray of shape (m, k)
        Positive distances to the k nearest neighbours, ascending.

    Returns
    -------
    ndarray of shape (m,)

    References
    ----------
    Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; Amsaleg et al., "Estimating
    local intrinsic dimensionality", KDD 2015.
    """
    logs = np.log(distances[:, -1:] / distances[:, :-1])
    total = logs.sum(axis=1)
    # All neighbours at one distance: the estimate is unbounded, and says nothing about the point.
    estimates: Array = np.divide(distances.shape[1] - 1, total, out=np.full(len(total), np.nan), where=total > 0)
    return estimates


def two_nn(distances: Array, *, keep: float = 0.9) -> float:
    """Return the global intrinsic dimension from the ratio of the distances to the two nearest neighbours.

    Parameters
    ----------
    distances : ndarray of shape (m, k >= 2)
        Positive distances to the nearest neighbours, ascending.
    keep : float, default=0.9
        Share of the ratios used; the largest are noisy, as the paper says.

    References
    ----------
    Facco, d'Errico, Rodriguez and Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", Scientific Reports 7, 2017.
    """
    ratios = np.sort(distances[:, 1] / distances[:, 0])
    shares = np.arange(1, len(ratios) + 1) / len(ratios)
    used = max(1, int(keep * len(ratios)))
    x, y = np.log(ratios[:used]), -np.log1p(-np.minimum(shares[:used], 1 - 1e-12))
    square = float(x @ x)
    return float(x @ y) / square if square > 0 else float("nan")


def neighbour_agreement(exact: Array, approximate: Array, queries: Array, k: int) -> float:
    """Return how many of the k nearest rows by dot product stay so when vectors are replaced by `approximate`.

    Parameters
    ----------
    exact, approximate : ndarray of shape (n, dim) and (n, other)
        The same points before and after.
    queries : ndarray of shape (m,)
        Row numbers that are looked up in turn; a row is no neighbour of itself.
    k : int
        Neighbours, at most n - 1.

    Returns
    -------
    float
        Between 0 and 1.
    """
    found = []
    for start in range(0, len(queries), _ROWS):
        rows = queries[start : start + _ROWS]
        before, after = _nearest(exact, rows, k), _nearest(approximate, rows, k)
        found += [len(np.intersect1d(x, y)) / k for x, y in zip(before, after, strict=True)]
    return float(np.mean(found))


def _nearest(points: Array, rows: Array, k: int) -> Array:
    scores: Array = points[rows] @ points.T
    scores[np.arange(len(rows)), rows] = -np.inf
    order: Array = np.argpartition(-scores, k - 1, axis=1)
    return order[:, :k]
