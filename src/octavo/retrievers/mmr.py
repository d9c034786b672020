"""Maximal marginal relevance: results that are relevant and do not repeat each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo._validation import check_integer, check_number
from octavo.errors import InvalidVectorsError, ParameterError


def maximal_marginal_relevance(
    query_scores: npt.ArrayLike, vectors: npt.ArrayLike, k: int, lambda_mult: float = 0.5
) -> npt.NDArray[np.int64]:
    """Choose `k` candidates that are relevant but unlike each other.

    Begins with the most relevant candidate and then repeatedly takes the one with the largest
    ``lambda_mult * relevance - (1 - lambda_mult) * similarity``, where similarity is the largest cosine to a candidate
    taken before [1]_. Costs one product of a vector with all candidates a step.

    Parameters
    ----------
    query_scores : array-like of shape (n,)
        Relevance of the candidates. It is weighed against cosines, so it should be a cosine as well.
    vectors : array-like of shape (n, dim)
        The candidates' vectors, of any length. A zero vector is similar to nothing.
    k : int
        How many to choose; all, in order, if there are fewer.
    lambda_mult : float, default=0.5
        1 gives the order of relevance, 0 the greatest diversity.

    Returns
    -------
    int64 ndarray of shape (min(k, n),)
        Positions of the chosen candidates in the order in which they were chosen; of equal ones the first is taken.

    Raises
    ------
    ParameterError
        `k` is below 1, `lambda_mult` is not in [0, 1], or the shapes do not fit.
    InvalidVectorsError
        There are NaN or infinite values.

    References
    ----------
    .. [1] J. Carbonell and J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
       Producing Summaries", SIGIR 1998.

    Examples
    --------
    >>> vectors = [[1.0, 0.0], [1.0, 0.01], [0.6, 0.8]]
    >>> maximal_marginal_relevance([1.0, 0.99, 0.6], vectors, 2, 0.5).tolist()
    [0, 2]
    >>> maximal_marginal_relevance([1.0, 0.99, 0.6], vectors, 2, 1.0).tolist()
    [0, 1]
    """
    relevance = np.asarray(query_scores, dtype=np.float64)
    rows = np.asarray(vectors)
    rows = rows.astype(np.float64 if rows.dtype == np.float64 else np.float32, copy=False)
    k = check_integer(k, "k", least=1)
    lambda_mult = check_number(lambda_mult, "lambda_mult", least=0, most=1)
    if relevance.size == 0 and rows.size == 0:
        return np.empty(0, np.int64)
    if relevance.ndim != 1 or rows.ndim != 2 or len(relevance) != len(rows):
        raise ParameterError(
            f"expected scores of shape (n,) and vectors of shape (n, dim), got {relevance.shape} and {rows.shape}"
        )
    if not (np.isfinite(relevance).all() and np.isfinite(rows).all()):
        raise InvalidVectorsError("expected finite scores and vectors, got NaN or infinity")

    unit = _unit(rows)
    gain = lambda_mult * relevance
    nearest = np.full(len(rows), -np.inf)  # cosine to the closest candidate taken so far
    chosen = np.empty(min(k, len(rows)), np.int64)
    best = int(np.argmax(relevance))  # even for lambda_mult=0, where nothing else tells the first from the others
    for place in range(len(chosen)):
        chosen[place] = best
        if place + 1 == len(chosen):
            break
        gain[best] = -np.inf
        np.maximum(nearest, unit @ unit[best], out=nearest)
        best = int(np.argmax(gain - (1 - lambda_mult) * nearest))
    return chosen


def _unit(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Scale rows to length 1; by their largest value first, so that squares neither overflow nor vanish."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    rows = rows / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: npt.NDArray[np.floating] = rows / np.where(lengths > 0, lengths, 1)
    return scaled
