"""Recall of the graph against the order in which documents are inserted.

Orders: ``random``; ``clustered``, all documents nearest to one of 256 random documents together, as when sources are loaded one
after the other; ``lid``, by descending local intrinsic dimensionality (maximum likelihood over 100 neighbours), which Elliott
and Clark report to be best; ``lid-up``, ascending, their worst. What finding the order costs is measured too: it needs each
document's exact neighbours.

References
----------
Elliott, O. P. and Clark, J. (2024). The impacts of data, ordering, and intrinsic dimensionality on recall in hierarchical
navigable small worlds. ICTIR.
Levina, E. and Bickel, P. J. (2004). Maximum likelihood estimation of intrinsic dimension. NeurIPS.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import K
from octavo.compression import Codec
from octavo.index import Graph, exact_search

ORDERS = ("random", "clustered", "lid", "lid-up")
NEIGHBOURS, CLUSTERS, EFS = 100, 256, (16, 32, 64, 128)
CODES = ("int8", "binary")


def measure(data: Path, orders: list[str], threads: int) -> list[dict[str, Any]]:
    """Build a graph in each order and search it."""
    if unknown := set(orders) - set(ORDERS):
        raise SystemExit(f"expected orders among {', '.join(ORDERS)}, got {', '.join(sorted(unknown))}")
    vectors = np.load(data / "documents.npy")
    queries = np.load(data / "queries.npy")
    lid: tuple[np.ndarray, float] | None = None
    rows = []
    arranged: dict[str, tuple[np.ndarray, float]] = {}
    for order in orders:
        start = time.perf_counter()
        if order == "random":
            arranged[order] = np.random.default_rng(0).permutation(len(vectors)), 0.0
        elif order == "clustered":
            arranged[order] = clustered(vectors), time.perf_counter() - start
        else:
            if lid is None:
                lid = local_dimensions(vectors), time.perf_counter() - start
            arranged[order] = np.argsort(lid[0] if order == "lid-up" else -lid[0], kind="stable"), lid[1]
    for text in CODES:
        codec = Codec.parse(text)
        codec.fit(vectors[:30_000], seed=0)
        pipe = codec.tiers[0]
        codes, asked = pipe.encode(vectors), pipe.encode_queries(queries)
        truth, _ = exact_search(pipe.layout, codes, asked, K, threads=threads)
        for order, (permutation, seconds) in arranged.items():
            graph = Graph(pipe.layout)
            start = time.perf_counter()
            for begin in range(0, len(permutation), 16_384):
                part = permutation[begin : begin + 16_384]
                graph.add(part, codes[part], threads=threads)
            built = time.perf_counter() - start
            recall = {}
            for ef in EFS:
                found, _ = graph.search(asked, K, ef, threads=threads)
                # Binary distances tie often, and any of the tied is as right: what counts is the score of the worst.
                recall[str(ef)] = _recall(pipe, codes, asked, found, truth)
            rows.append({"codes": text, "order": order, "recall": recall, "build_s": built, "order_s": seconds})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _recall(pipe: Any, codes: np.ndarray, asked: np.ndarray, found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of results that score at least as well as the tenth best."""
    from octavo.index import score_rows

    hits = 0
    for query, rows, best in zip(asked, found, truth, strict=True):
        rows = rows[rows >= 0]
        least = score_rows(pipe.layout, codes, query, best[-1:])[0]
        hits += int((score_rows(pipe.layout, codes, query, rows) >= least - 1e-6 * abs(least)).sum())
    return hits / truth.size


def clustered(vectors: np.ndarray) -> np.ndarray:
    """Return the rows, those nearest to the same random row together."""
    centres = vectors[np.random.default_rng(1).choice(len(vectors), min(CLUSTERS, len(vectors)), replace=False)]
    nearest = [
        np.argmax(vectors[start : start + 50_000] @ centres.T, axis=1) for start in range(0, len(vectors), 50_000)
    ]
    return np.argsort(np.concatenate(nearest), kind="stable")


def local_dimensions(vectors: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Return the local intrinsic dimension at each row: the reciprocal of the mean log ratio of neighbours' distances."""
    out = np.empty(len(vectors))
    for start in range(0, len(vectors), 512):
        part = vectors[start : start + 512]
        scores = part @ vectors.T
        scores[np.arange(len(part)), np.arange(start, start + len(part))] = -np.inf
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
        distances = np.sqrt(np.maximum(2 - 2 * best.astype(np.float64), 1e-12))
        farthest = distances.max(axis=1, keepdims=True)
        out[start : start + len(part)] = 1 / np.maximum(np.mean(np.log(farthest / distances), axis=1), 1e-12)
    return out
