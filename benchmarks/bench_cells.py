"""Cells and graph side by side, in one run: CPU seconds of a build, bytes, time of a search, recall.

``python benchmarks/bench_cells.py VECTORS.npz [--rows N] [--codec int8 ...]``; the file holds ``D`` (documents) and ``Q``
(queries). More rows than there are documents are made by `corpora.extend`. Recall is against an exact search of the same codes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import corpora
import octavo


def measure(path: Path, index: Any, codec: str, documents: np.ndarray, queries: np.ndarray, k: int) -> dict[str, Any]:
    """Build a collection and search it."""
    cpu, wall = time.process_time(), time.perf_counter()
    with octavo.open(path, codec=codec, index=index) as kb:
        kb.add(vectors=documents, batch_size=4_096)
        kb.flush()
    built, took = time.process_time() - cpu, time.perf_counter() - wall
    with octavo.open(path, read_only=True) as kb:
        kb.search(queries[0], k)
        kb.flush()
        exact = [result.scores[-1] for result in kb.search_batch(queries, k, exact=True)]
        for query in queries[:50]:
            kb.search(query, k)
        times, hits = [], 0
        for query, worst in zip(queries, exact, strict=True):
            started = time.perf_counter()
            scores = kb.search(query, k).scores
            times.append(time.perf_counter() - started)
            hits += int(np.count_nonzero(scores >= worst - 1e-6 * abs(worst)))
        info = kb.info()
    return {
        "index": index,
        "codec": codec,
        "rows": len(documents),
        "build_cpu_s": round(built, 1),
        "build_s": round(took, 1),
        "p50_ms": round(float(np.median(times)) * 1e3, 3),
        "p95_ms": round(float(np.quantile(times, 0.95)) * 1e3, 3),
        f"recall_at_{k}": round(hits / (k * len(queries)), 4),
        "covers": info.index_covers,
        "index_bytes_a_row": round(info.disk.get(index, 0) / len(documents), 1),
        "vector_bytes_a_row": round(info.vector_bytes_per_document, 1),
    }


def main() -> None:
    """Print one JSON object a build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--codec", nargs="+", default=["int8", "binary > int8"])
    parser.add_argument("--index", nargs="+", default=["cells", "graph"])
    options = parser.parse_args()
    with np.load(options.vectors) as data:
        documents, queries = corpora.unit(data["D"].astype(np.float32)), data["Q"][: options.queries].astype(np.float32)
    rows = options.rows or len(documents)
    if rows > len(documents):
        documents = corpora.extend(documents, corpora.neighbours(documents), rows)
    for codec in options.codec:
        for index in options.index:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(Path(folder) / "kb", index, codec, documents[:rows], queries, options.k)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
