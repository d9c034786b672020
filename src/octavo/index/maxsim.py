"""MaxSim over stored token codes: the late-interaction score, one query or many, some documents or all.

The score of a document is the sum over the query's tokens of the largest dot product with any of the document's tokens.

The work itself is in `octavo.index.maxsim_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octavo._arrays import Codes, Rows, Scores
from octavo._layout import CodeLayout
from octavo._validation import check_integer, check_integers
from octavo.errors import InputTypeError, ParameterError
from octavo.index.maxsim_blocks import score_spans
from octavo.index.planner import CORES

#: Query tokens multiplied at once when there are several queries: the gathered codes are used for all of them.
_TILE_TOKENS = 128


def maxsim_codes(
    layout: CodeLayout,
    codes: Codes,
    offsets: Rows,
    query: Codes,
    documents: Rows | None = None,
    *,
    threads: int = 1,
) -> Scores:
    """Score documents against one query by MaxSim.

    The score of a document depends neither on the other documents nor on `threads`. Integer codes are summed exactly.

    Parameters
    ----------
    layout : CodeLayout
        What the codes of one token are.
    codes : ndarray of shape (n_tokens, row_bytes)
        Codes of all documents' tokens, uint8; may be a read-only memory map, of which only what is needed is read.
    offsets : ndarray of shape (n_documents + 1,), int64
        Tokens ``offsets[i]`` up to ``offsets[i + 1]`` belong to document ``i``.
    query : ndarray of shape (n_query_tokens, row_bytes)
        Codes of the query's tokens, uint8, at least one.
    documents : ndarray of shape (r,), int64, optional
        Which documents to score, in any order; all of them if left out.
    threads : int, default=1
        Threads to use; 0 means all cores.

    Returns
    -------
    ndarray of shape (r,), float32
        Scores, higher is better; -inf for documents without tokens.

    Raises
    ------
    ParameterError
        If a shape does not fit, the query has no tokens, or a document does not exist.
    InputTypeError
        If codes are not uint8 arrays.

    References
    ----------
    Khattab, O. and Zaharia, M. (2020). ColBERT: efficient and effective passage search via contextualized late
    interaction over BERT. SIGIR.

    Examples
    --------
    >>> tokens = np.array([[1, 0], [0, 2], [1, 1]], dtype=np.int8).view(np.uint8)  # documents of two tokens and of one
    >>> query = np.array([[1, 0], [0, 1]], dtype=np.int8).view(np.uint8)
    >>> maxsim_codes(CodeLayout("i8", 2), tokens, np.array([0, 2, 3]), query).tolist()
    [3.0, 2.0]
    """
    plain = _check_tokens(layout, codes, offsets)
    _check_queries(layout, [query])
    scores: Scores = score_spans(layout, plain, *_spans(offsets, documents), [query], _cores(threads))[0]
    return scores


def maxsim_search(
    layout: CodeLayout,
    codes: Codes,
    offsets: Rows,
    queries: Sequence[Codes],
    k: int,
    *,
    alive: NDArray[np.bool_] | None = None,
    documents: Rows | None = None,
    threads: int = 1,
) -> tuple[Rows, Scores]:
    """Find the best documents for each query by scoring all of them with MaxSim.

    Equal scores are ordered by document; the scores have the same bits as those of `maxsim_codes`.

    Parameters
    ----------
    layout : CodeLayout
        What the codes of one token are.
    codes : ndarray of shape (n_tokens, row_bytes)
        Codes of all documents' tokens, uint8; may be a read-only memory map.
    offsets : ndarray of shape (n_documents + 1,), int64
        Tokens ``offsets[i]`` up to ``offsets[i + 1]`` belong to document ``i``.
    queries : sequence of ndarray of shape (n_query_tokens, row_bytes)
        Codes of each query's tokens. Several short queries together cost less than one after the other.
    k : int
        Results per query, at least 1.
    alive : ndarray of shape (>= n_documents,), optional
        Boolean mask; documents where it is False are passed over.
    documents : ndarray of int64, optional
        Search only these documents. Combines with `alive`.
    threads : int, default=1
        Threads to use; 0 means all cores.

    Returns
    -------
    documents : ndarray of shape (m, k), int64
        Best documents, best first; -1 where fewer than `k` were eligible. Documents without tokens never are.
    scores : ndarray of shape (m, k), float32
        Their scores, higher is better; -inf where the document is -1.

    Raises
    ------
    ParameterError
        If a shape, `k`, `threads`, a mask or a document does not fit, or a query has no tokens.
    InputTypeError
        If codes are not uint8 arrays.

    Examples
    --------
    >>> tokens = np.array([[1, 0], [0, 2], [1, 1]], dtype=np.int8).view(np.uint8)
    >>> query = np.array([[1, 0], [0, 1]], dtype=np.int8).view(np.uint8)
    >>> found, scores = maxsim_search(CodeLayout("i8", 2), tokens, np.array([0, 2, 3]), [query], k=3)
    >>> found.tolist(), scores.tolist()
    ([[0, 1, -1]], [[3.0, 2.0, -inf]])
    """
    plain = _check_tokens(layout, codes, offsets)
    _check_queries(layout, queries)
    k, threads = check_integer(k, "k", least=1), _cores(threads)
    n = len(offsets) - 1
    if alive is not None and (alive.dtype != np.bool_ or alive.ndim != 1 or alive.shape[0] < n):
        raise ParameterError(f"expected alive as a bool mask of {n} documents or more, got {alive.dtype} {alive.shape}")
    if documents is not None:
        documents = np.unique(_check_documents(documents, n))
        names = documents if alive is None else documents[alive[documents]]
    else:
        names = np.arange(n) if alive is None else np.flatnonzero(alive[:n])
    names = names[offsets[names + 1] > offsets[names]]
    starts, lengths = _spans(offsets, names)

    found = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for first, last in _tiles(queries):
        scores = score_spans(layout, plain, starts, lengths, queries[first:last], threads)
        for j, row in enumerate(scores, first):
            order = _top(row, k)
            found[j, : len(order)], best[j, : len(order)] = names[order], row[order]
    return found, best


def maxsim_explain(layout: CodeLayout, codes: Codes, offsets: Rows, query: Codes, document: int) -> Scores:
    """Return the similarity of each query token with each token of one document.

    The row maxima add up to the document's MaxSim score.

    Parameters
    ----------
    layout : CodeLayout
        What the codes of one token are.
    codes : ndarray of shape (n_tokens, row_bytes)
        Codes of all documents' tokens, uint8.
    offsets : ndarray of shape (n_documents + 1,), int64
        Tokens ``offsets[i]`` up to ``offsets[i + 1]`` belong to document ``i``.
    query : ndarray of shape (n_query_tokens, row_bytes)
        Codes of the query's tokens, uint8.
    document : int
        Which document.

    Returns
    -------
    ndarray of shape (n_query_tokens, n_document_tokens), float32
        Similarities, higher is better.

    Raises
    ------
    ParameterError
        If a shape does not fit, the query has no tokens, or the document does not exist.

    Examples
    --------
    >>> tokens = np.array([[1, 0], [0, 2], [1, 1]], dtype=np.int8).view(np.uint8)
    >>> query = np.array([[1, 0], [0, 1]], dtype=np.int8).view(np.uint8)
    >>> maxsim_explain(CodeLayout("i8", 2), tokens, np.array([0, 2, 3]), query, 0).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    plain = _check_tokens(layout, codes, offsets)
    _check_queries(layout, [query])
    start, length = _spans(offsets, np.array([check_integer(document, "document", least=0)]))
    if not length[0]:
        return np.empty((len(query), 0), dtype=np.float32)
    rows = plain[int(start[0]) : int(start[0] + length[0])]
    return np.ascontiguousarray(layout.scores(rows, layout.pack(query)).T)


# -- choosing and sharing out ---------------------------------------------------------------------------------------


def _top(scores: Scores, k: int) -> Rows:
    """Return the positions of the k largest scores, best first, the smaller position first among equals."""
    if len(scores) > k:
        candidates = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
        return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
    return np.argsort(-scores, kind="stable")


def _tiles(queries: Sequence[Codes]) -> list[tuple[int, int]]:
    """Group queries in order, each group of at most `_TILE_TOKENS` tokens or of one query."""
    tiles: list[tuple[int, int]] = []
    first, tokens = 0, 0
    for j, query in enumerate(queries):
        if j > first and tokens + len(query) > _TILE_TOKENS:
            tiles.append((first, j))
            first, tokens = j, 0
        tokens += len(query)
    if first < len(queries):
        tiles.append((first, len(queries)))
    return tiles


# -- checks ----------------------------------------------------------------------------------------------------------


def _cores(threads: int) -> int:
    return check_integer(threads, "threads", least=0) or CORES


def _check_tokens(layout: CodeLayout, codes: Codes, offsets: Rows) -> Codes:
    """Check codes and offsets; return the codes as a plain array, whose slices cost less than a memory map's."""
    layout.check(codes, "document codes")
    if not isinstance(offsets, np.ndarray) or offsets.ndim != 1 or offsets.dtype.kind not in "iu":
        got = f"{offsets.dtype} {offsets.shape}" if isinstance(offsets, np.ndarray) else type(offsets).__name__
        raise ParameterError(f"expected offsets as integers in one dimension, one more than documents, got {got}")
    if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(codes):
        ends = f"{int(offsets[0])} to {int(offsets[-1])}" if len(offsets) else "none"
        raise ParameterError(f"expected offsets between 0 and the {len(codes)} tokens there are, got {ends}")
    return np.asarray(codes)


def _check_queries(layout: CodeLayout, queries: Sequence[Codes]) -> None:
    if hasattr(queries, "dtype"):
        raise InputTypeError("expected a list with one matrix of token codes a query, got an array; pass [query]")
    for query in queries:
        layout.compared.check(query, "query codes")
        if not len(query):
            raise ParameterError("expected queries of at least one token, got one without any")


def _check_documents(documents: Rows, n: int) -> Rows:
    documents = check_integers(documents, "documents")
    if documents.size and (documents.min() < 0 or documents.max() >= n):
        got = f"{int(documents.min())} to {int(documents.max())}"
        raise ParameterError(f"expected documents between 0 and {n - 1}, got {got}")
    return documents


def _spans(offsets: Rows, documents: Rows | None) -> tuple[Rows, Rows]:
    """Return first token and number of tokens of the documents."""
    if documents is None:
        starts, ends = offsets[:-1], offsets[1:]
    else:
        documents = _check_documents(documents, len(offsets) - 1)
        starts, ends = offsets[documents], offsets[documents + 1]
    lengths = (ends - starts).astype(np.int64, copy=False)
    if lengths.size and lengths.min() < 0:
        raise ParameterError("expected offsets in ascending order")
    return starts.astype(np.int64, copy=False), lengths
