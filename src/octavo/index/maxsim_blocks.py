"""The work of MaxSim: documents in blocks, the products of each block, the best match of each query token.

What makes it fast (measured by ``benchmarks/bench_late_interaction.py shapes``). The tokens of a document lie together,
so documents are copied whole, one after the other, into blocks that fit the second-level cache, or read in place where
they follow each other in the file. Nothing is padded: the best match of each document is one ``reduceat`` over the
products, which are in the cache too. The copies go into memory that each thread keeps, because fresh pages from the
operating system cost as much as the products. And queries are multiplied in multiples of four tokens, because the SIMD
kernel takes up to a third longer for one token less.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo._arrays import Codes, Rows, Scores
from octavo._layout import CodeLayout

#: Most bytes of gathered codes, and of products, in one block.
_BLOCK_BYTES = 384 << 10
#: Document tokens times query tokens that are worth another thread.
_WORK_PER_THREAD = 1 << 20
#: Query tokens are padded to a multiple of so many.
_STEP = 4


class _Scratch(threading.local):
    """Memory for the gathered codes of one block, kept by each thread."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def rows(self, n: int, row_bytes: int) -> Codes:
        """Return uninitialised rows, valid until the next call in this thread."""
        needed = n * row_bytes
        if needed > _BLOCK_BYTES:  # one document longer than a block: not to be kept
            return np.empty((n, row_bytes), np.uint8)
        if len(self._bytes) < needed:
            self._bytes = np.empty(_BLOCK_BYTES, np.uint8)
        return self._bytes[:needed].reshape(n, row_bytes)


_scratch = _Scratch()


def score_spans(
    layout: CodeLayout,
    codes: Codes,
    starts: Rows,
    lengths: Rows,
    queries: Sequence[Codes],
    threads: int,
) -> Scores:
    """Score documents given by spans of tokens against queries, everything checked by the caller.

    Returns
    -------
    ndarray of shape (len(queries), len(starts)), float32
        Scores; -inf where a span is empty.
    """
    scores = np.full((len(queries), len(starts)), -np.inf, dtype=np.float32)
    counts = np.array([len(query) for query in queries])
    edges = np.cumsum(counts) - counts
    n_tokens = int(counts.sum())
    tokens = list(queries)
    if n_tokens % _STEP:
        tokens.append(queries[-1][-1:].repeat(-n_tokens % _STEP, axis=0))
    together = tokens[0] if len(tokens) == 1 else np.concatenate(tokens)
    packed = layout.pack(np.ascontiguousarray(together))

    def fill(block: Rows) -> None:
        best = _best_matches(layout, codes, starts[block], lengths[block], packed)[:, :n_tokens]
        scores[:, block] = _sum_matches(layout, best, edges, counts)

    blocks = _blocks(lengths, max(layout.compared.row_bytes, 4 * len(together) * layout.passes))
    work = int(lengths.sum()) * n_tokens
    each(fill, blocks, max(1, min(threads, len(blocks), work // _WORK_PER_THREAD)))
    return scores


def _blocks(lengths: Rows, bytes_per_token: int) -> list[Rows]:
    """Cut documents, in their order, into blocks whose tokens fit the cache; empty documents are left out."""
    budget = _BLOCK_BYTES // bytes_per_token
    filled = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[filled])
    blocks = []
    first, before = 0, 0
    while first < len(filled):
        last = max(first + 1, int(np.searchsorted(ends, before + budget, side="right")))
        blocks.append(filled[first:last])
        first, before = last, int(ends[last - 1])
    return blocks


def _best_matches(layout: CodeLayout, codes: Codes, starts: Rows, lengths: Rows, packed: Any) -> NDArray[Any]:
    """Return the raw product (or score) of the best token for each document and query token, (documents, query tokens)."""
    ends = starts + lengths
    if np.array_equal(starts[1:], ends[:-1]):
        rows = codes[int(starts[0]) : int(ends[-1])]
    else:
        spans = [codes[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        rows = np.concatenate(spans, out=_scratch.rows(int(lengths.sum()), codes.shape[1]))
    # Rows with factors of their own can only be compared as scores; where they have none, only the best need become scores.
    raw = layout.products(rows, packed) if layout.ordered else layout.scores(rows, packed)
    nearest = np.minimum if layout.kind == "b1" else np.maximum  # of Hamming distances the smallest is the best
    best: NDArray[Any] = nearest.reduceat(raw, np.cumsum(lengths) - lengths, axis=0)
    return layout.to_scores(best, packed) if layout.centred and layout.ordered else best


def _sum_matches(layout: CodeLayout, best: NDArray[Any], edges: Rows, counts: Rows) -> NDArray[np.float64]:
    """Add up each query's best matches and convert to scores: float64 of shape (queries, documents)."""
    exact = np.int64 if best.dtype.kind in "iu" else np.float64
    sums = np.add.reduceat(best, edges, axis=1, dtype=exact).T
    if layout.centred:
        return sums
    if layout.kind == "b1":
        return layout.scale * (counts[:, None] - sums * (2.0 / layout.dim))
    return sums * float(layout.scale)


def each(work: Callable[[Any], None], items: Sequence[Any], threads: int) -> None:
    """Call `work` on each item, in this thread or in several; what it raises is raised here."""
    if threads <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for _ in pool.map(work, items):
            pass
