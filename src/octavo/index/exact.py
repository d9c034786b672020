"""Exhaustive search over rows of codes, straight from memory or a memory map."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo._arrays import Codes, Rows, Scores
from octavo._layout import CodeLayout
from octavo._validation import check_integer, check_integers
from octavo.errors import ParameterError
from octavo.index.planner import CORES

#: Queries scanned together. The codes are read from memory once for all of them.
_QUERY_TILE = 64
#: Scores held at once by a scan, per thread: 1 MiB of float32, which stays in the second-level cache.
_BLOCK_SCORES = 1 << 18
#: Rows in the largest block of a scan, and bytes in the largest block of gathered or unpacked rows, which has to fit
#: the cache too.
_BLOCK_ROWS = 1 << 15
_BLOCK_BYTES = 1 << 18
#: Rows that are worth another thread.
_ROWS_PER_THREAD = 1 << 14
#: A mask that lets fewer than this share of the rows through is turned into a list of rows: gathering a row costs a
#: few times what reading it in order costs.
_SPARSE_MASK = 0.2


def exact_search(
    layout: CodeLayout,
    codes: Codes,
    queries: Codes,
    k: int,
    *,
    alive: NDArray[np.bool_] | None = None,
    rows: Rows | None = None,
    threads: int = 1,
) -> tuple[Rows, Scores]:
    """Find the best rows for each query by scoring all of them.

    Equal scores are ordered by row, so the result depends neither on blocks nor on threads.

    Parameters
    ----------
    layout : CodeLayout
        What the codes are.
    codes : ndarray of shape (n, row_bytes)
        Document codes, uint8; may be a read-only memory map, which is never copied as a whole.
    queries : ndarray of shape (m, row_bytes)
        Query codes, uint8, laid out as `layout.compared`.
    k : int
        Results per query, at least 1.
    alive : ndarray of shape (>= n,), optional
        Boolean mask; rows where it is False are passed over.
    rows : ndarray of int64, optional
        Search only these rows, sorted and each once. Combines with `alive`.
    threads : int, default=1
        Threads to use; 0 means all cores.

    Returns
    -------
    rows : ndarray of shape (m, k), int64
        Best rows, best first; -1 where fewer than `k` were eligible.
    scores : ndarray of shape (m, k), float32
        Their similarities, higher is better; -inf where the row is -1.

    Raises
    ------
    ParameterError
        If a shape, `k`, `threads`, a mask or a row number does not fit.
    InputTypeError
        If codes are not uint8 arrays.

    Examples
    --------
    >>> documents = np.array([[1, 0], [0, 2], [1, 1]], dtype=np.int8).view(np.uint8)
    >>> query = np.array([[0, 1]], dtype=np.int8).view(np.uint8)
    >>> rows, scores = exact_search(CodeLayout("i8", 2), documents, query, k=2)
    >>> rows.tolist(), scores.tolist()
    ([[1, 2]], [[2.0, 1.0]])
    """
    layout.check(codes, "document codes")
    layout.compared.check(queries, "query codes")
    k = check_integer(k, "k", least=1)
    threads = check_integer(threads, "threads", least=0) or CORES
    n, m = codes.shape[0], queries.shape[0]
    if alive is not None:
        if alive.dtype != np.bool_ or alive.ndim != 1 or alive.shape[0] < n:
            raise ParameterError(f"expected alive as a bool mask of {n} rows or more, got {alive.dtype} {alive.shape}")
        alive = alive[:n]
    if rows is not None:
        rows = _check_rows(rows, n)
        if alive is not None:
            rows, alive = rows[alive[rows]], None
    elif alive is not None:
        count = int(np.count_nonzero(alive))
        if count < _SPARSE_MASK * n:
            rows, alive = np.flatnonzero(alive), None
        elif count == n:
            alive = None

    total = n if rows is None else int(rows.shape[0])
    jobs = _split(total, m, threads)
    if len(jobs) == 1:
        return _scan(layout, codes, queries, k, alive, rows, 0, total)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        futures = [
            pool.submit(_scan, layout, codes, queries[first:last], k, alive, rows, start, stop)
            for first, last, start, stop in jobs
        ]
        parts = [future.result() for future in futures]
    return _join(parts, jobs, m, k)


def _check_rows(rows: Rows, n: int) -> Rows:
    rows = check_integers(rows, "rows")
    if rows.size:
        if rows[0] < 0 or rows[-1] >= n:
            raise ParameterError(f"expected rows between 0 and {n - 1}, got {int(rows[0])} to {int(rows[-1])}")
        if not bool((rows[1:] > rows[:-1]).all()):
            raise ParameterError("expected rows in ascending order and each once; pass np.unique(rows)")
    return rows


def _split(total: int, m: int, threads: int) -> list[tuple[int, int, int, int]]:
    """Cut the work into (first query, last query, start, stop) pieces, one a thread, queries first."""
    if threads == 1 or m == 0 or total * m < 2 * _ROWS_PER_THREAD:
        return [(0, m, 0, total)]
    if m >= threads:
        edges = np.linspace(0, m, threads + 1).astype(int).tolist()
        return [(a, b, 0, total) for a, b in itertools.pairwise(edges)]
    pieces = max(1, min(threads, total // _ROWS_PER_THREAD))
    edges = np.linspace(0, total, pieces + 1).astype(int).tolist()
    return [(0, m, a, b) for a, b in itertools.pairwise(edges)]


def _join(
    parts: list[tuple[Rows, Scores]], jobs: list[tuple[int, int, int, int]], m: int, k: int
) -> tuple[Rows, Scores]:
    if jobs[0][1] < m:  # cut by queries
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    rows = np.concatenate([p[0] for p in parts], axis=1)
    scores = np.concatenate([p[1] for p in parts], axis=1)
    # Pieces come in ascending order of rows, so a stable sort keeps the smaller row first among equals.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _scan(
    layout: CodeLayout,
    codes: Codes,
    queries: Codes,
    k: int,
    alive: NDArray[np.bool_] | None,
    rows: Rows | None,
    start: int,
    stop: int,
) -> tuple[Rows, Scores]:
    m = queries.shape[0]
    best_rows = np.full((m, k), -1, dtype=np.int64)
    best_scores = np.full((m, k), -np.inf, dtype=np.float32)
    for first in range(0, m, _QUERY_TILE):
        tile = slice(first, min(first + _QUERY_TILE, m))
        packed = layout.pack(queries[tile])
        found = _Best(best_rows[tile], best_scores[tile])
        in_place = rows is None and layout.kind != "i2"
        most = _BLOCK_ROWS if in_place else max(64, _BLOCK_BYTES // layout.compared.row_bytes)
        columns = (tile.stop - tile.start) * layout.passes
        for a, b in _blocks(start, stop, min(most, _BLOCK_SCORES // columns), k):
            if rows is None:
                scores = layout.scores(codes[a:b], packed)
                if alive is not None:
                    scores = np.where(alive[a:b, None], scores, np.float32(-np.inf))
                found.offer(scores, a, None)
            else:
                taken = rows[a:b]
                found.offer(layout.scores(codes.take(taken, axis=0), packed), 0, taken)
    return best_rows, best_scores


def _blocks(start: int, stop: int, largest: int, k: int) -> Iterator[tuple[int, int]]:
    """Cut a range of rows into blocks that grow: the first sets the threshold cheaply, later ones mostly fail it."""
    size = min(largest, max(1024, 4 * k))
    while start < stop:
        if stop - start < 2 * size:  # what is left is hardly worth another one
            size = min(stop - start, largest)
        yield start, min(start + size, stop)
        start += size
        size = min(8 * size, largest)


class _Best:
    """The k best rows so far of each query, written into the caller's arrays."""

    def __init__(self, rows: Rows, scores: Scores) -> None:
        self.rows = rows
        self.scores = scores

    def offer(self, block: Scores, offset: int, names: Rows | None) -> None:
        """Take what beats the worst kept score from a block of shape (n, m); blocks come in ascending order of rows."""
        m, k = self.scores.shape
        # Strictly greater: a later row with an equal score loses to the one already kept.
        hits = block > self.scores[:, -1]
        for j in np.flatnonzero(hits.any(axis=0)) if m > 1 else range(m):
            candidates = np.flatnonzero(hits[:, j])
            values = block[:, j].take(candidates)
            if candidates.size > 2 * k:
                # Keep everything that ties with the k-th, so that rows can decide below.
                kept = np.flatnonzero(values >= np.partition(values, -k)[-k])
                candidates, values = candidates.take(kept), values.take(kept)
            elif not candidates.size:
                continue
            numbers = candidates + offset if names is None else names.take(candidates)
            values = np.concatenate([self.scores[j], values])
            order = np.argsort(-values, kind="stable")[:k]
            self.rows[j] = np.concatenate([self.rows[j], numbers])[order]
            self.scores[j] = values[order]


def score_rows(layout: CodeLayout, codes: Codes, query: Codes, rows: Rows) -> Scores:
    """Score scattered rows for one query, for instance candidates that a coarser tier found.

    The scores have the same bits as those of `exact_search`.

    Parameters
    ----------
    layout : CodeLayout
        What the codes are.
    codes : ndarray of shape (n, row_bytes)
        Document codes, uint8; may be a read-only memory map.
    query : ndarray of shape (row_bytes,) or (1, row_bytes)
        Codes of the query, uint8, laid out as `layout.compared`.
    rows : ndarray of shape (r,), int64
        Rows to score, in any order.

    Returns
    -------
    ndarray of shape (r,), float32
        Similarities, higher is better.

    Raises
    ------
    ParameterError
        If a shape does not fit or a row does not exist.

    Examples
    --------
    >>> documents = np.array([[1, 0], [0, 2], [1, 1]], dtype=np.int8).view(np.uint8)
    >>> query = np.array([0, 1], dtype=np.int8).view(np.uint8)
    >>> score_rows(CodeLayout("i8", 2, scale=0.5), documents, query, np.array([2, 1])).tolist()
    [0.5, 1.0]
    """
    if query.ndim == 1:
        query = query[None]
    layout.check(codes, "document codes")
    layout.compared.check(query, "query codes")
    if query.shape[0] != 1:
        raise ParameterError(f"expected one query, got {query.shape[0]}")
    rows = check_integers(rows, "rows")
    if rows.size == 0:
        return np.empty(0, dtype=np.float32)
    _check_range(rows, codes.shape[0])
    return layout.scores(codes.take(rows, axis=0), layout.pack(query))[:, 0]


def _check_range(rows: NDArray[Any], n: int) -> None:
    if rows.view(np.uint64).max() >= n:  # as numbers without a sign, negative ones are large
        raise ParameterError(f"expected rows between 0 and {n - 1}, got {int(rows.min())} to {int(rows.max())}")
