"""Exact late interaction in plain numpy: what a collection's own MaxSim, its codes and its pooling are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.errors import ParameterError

#: Products of document tokens and query tokens held at a time.
_BLOCK_VALUES = 24_000_000


def rank_by_maxsim(
    documents: Sequence[Floats], queries: Sequence[Floats], k: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the k documents with the largest MaxSim for each query, in float32 over all tokens.

    Parameters
    ----------
    documents, queries : sequence of ndarray of shape (n_tokens, dim), float32
        Token vectors; they are compared by cosine. Documents without tokens are never found.
    k : int
        Documents for each query, or all that have tokens if there are fewer.

    Returns
    -------
    tuple of (ndarray of int64, ndarray of float32), each of shape (len(queries), k)
        Rows of the documents, and their MaxSim; ties by row.

    Raises
    ------
    ParameterError
        When a query has no tokens.

    Examples
    --------
    >>> rows, scores = rank_by_maxsim([np.eye(2)[:1], np.eye(2)], [np.eye(2)], 2)
    >>> rows.tolist(), scores.tolist()
    ([[1, 0]], [[2.0, 1.0]])
    """
    if empty := [number for number, query in enumerate(queries) if not len(query)]:
        raise ParameterError(f"expected at least one token vector a query, got none for query {empty[0]}")
    filled = np.array([row for row, matrix in enumerate(documents) if len(matrix)], np.int64)
    asked = np.concatenate([_unit(query) for query in queries])
    starts = np.cumsum([0, *(len(query) for query in queries)])[:-1]
    scores = np.empty((len(queries), len(filled)), np.float32)
    at = 0
    while at < len(filled):
        end, tokens = at, 0
        while end < len(filled) and (end == at or (tokens + len(documents[filled[end]])) * len(asked) <= _BLOCK_VALUES):
            tokens += len(documents[filled[end]])
            end += 1
        part = [documents[row] for row in filled[at:end]]
        products = _unit(np.concatenate(part)) @ asked.T
        best = np.maximum.reduceat(products, np.cumsum([0, *(len(one) for one in part)])[:-1], axis=0)
        scores[:, at:end] = np.add.reduceat(best, starts, axis=1).T
        at = end
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return filled[order], np.take_along_axis(scores, order, axis=1)


def _unit(matrix: Floats) -> Floats:
    matrix = np.asarray(matrix, np.float32)
    unit: Floats = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit
