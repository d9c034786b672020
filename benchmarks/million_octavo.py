"""What is measured of Octavo alone: filters, deletions and re-insertions, opening."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from common import K, exact_top, metadata_of, text_of

SHARES = (0.001, 0.01, 0.1, 0.5)
#: Share deleted and added again, and queries for everything here.
CHURN, QUERIES = 0.1, 300


def extras(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Measure a built collection; the deletions are made on a copy."""
    vectors = np.load(data / "documents.npy", mmap_mode="r").view(np.ndarray)
    queries, truth = np.load(data / "queries.npy")[:QUERIES], np.load(data / "truth.npy")[:QUERIES]
    with octavo.open(folder / "kb", must_exist=True) as kb:
        _times(kb, queries[:100])
        result: dict[str, Any] = {"filters": _filters(kb, vectors, queries)}
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "kb", copy)
    try:
        return result | {"churn": _churn(copy, vectors, queries, truth)}
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _times(kb: Any, queries: np.ndarray, **options: Any) -> tuple[float, float, list[list[int]]]:
    """Return p50 and p95 in milliseconds, and the rows found."""
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        result = kb.search(query, K, **options)
        times.append(time.perf_counter() - start)
        found.append([int(identifier) for identifier in result.ids])
    return 1e3 * float(np.percentile(times, 50)), 1e3 * float(np.percentile(times, 95)), found


def _recall(found: list[list[int]], truth: np.ndarray) -> float:
    return float(np.mean([len(set(rows) & set(best.tolist())) / K for rows, best in zip(found, truth, strict=True)]))


def _filters(kb: Any, vectors: np.ndarray, queries: np.ndarray) -> list[dict[str, Any]]:
    """Search among a share of the documents; the file is shuffled, so a range of numbers is a random share."""
    n = len(vectors)
    p50, p95, _ = _times(kb, queries)
    rows = [{"share": 1.0, "p50_ms": p50, "p95_ms": p95}]
    for share in SHARES:
        count = max(K, int(share * n))
        first = []
        # Filters that were not asked before: the matching rows have to be found; afterwards they are remembered.
        for start in range(5):
            where = {"number": {"$gte": start + 1, "$lt": start + 1 + count}}
            begin = time.perf_counter()
            kb.search(queries[start], K, filter=where)
            first.append(time.perf_counter() - begin)
        where = {"number": {"$lt": count}}
        _times(kb, queries[:20], filter=where)
        p50, p95, found = _times(kb, queries, filter=where)
        recall = _recall(found[:100], exact_top(vectors[:count], queries[:100]))
        rows.append(
            {"share": share, "p50_ms": p50, "p95_ms": p95, "first_ms": 1e3 * float(np.median(first)), "recall": recall}
        )
    return rows


def _churn(path: Path, vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Delete a tenth at random and add it again under the same ids."""
    n = len(vectors)
    chosen = np.sort(np.random.default_rng(5).choice(n, int(CHURN * n), replace=False))
    with octavo.open(path, must_exist=True) as kb:
        _times(kb, queries[:50])
        before_ms, _, found = _times(kb, queries)
        before = _recall(found, truth)
        start = time.perf_counter()
        kb.delete(str(number) for number in chosen.tolist())
        deleted = time.perf_counter() - start
        alive = np.ones(n, np.bool_)
        alive[chosen] = False
        some = queries[:100]
        remaining = np.flatnonzero(alive)[exact_top(vectors[alive], some)]
        _, _, found = _times(kb, some)
        between = _recall(found, remaining)
        start = time.perf_counter()
        kb.add(
            (text_of(number) for number in chosen.tolist()),
            ids=(str(number) for number in chosen.tolist()),
            metadata=(metadata_of(number) for number in chosen.tolist()),
            vectors=(vectors[number] for number in chosen.tolist()),
        )
        kb.flush()
        added = time.perf_counter() - start
        _times(kb, queries[:50])
        after_ms, _, found = _times(kb, queries)
    return {
        "recall_before": before,
        "recall_deleted": between,
        "recall_after": _recall(found, truth),
        "p50_before_ms": before_ms,
        "p50_after_ms": after_ms,
        "delete_s": deleted,
        "add_s": added,
        "count": len(chosen),
    }
