"""First tiers side by side: encoding, building, and the time of a search at equal recall, in one run.

    taskset -c 0 python benchmarks/bench_first_tiers.py VECTORS.npz
    taskset -c 0 python benchmarks/bench_first_tiers.py VECTORS.npz --codecs "rabitq:1 > int8" "binary > int8" --index graph

The file holds ``D`` (documents) and ``Q`` (queries). Each codec is built once for each index and asked with several efforts:
candidates rescored, nodes of the graph kept in view, rows of cells looked at. Queries take turns between codecs, so that other
work on the machine slows all of them alike; what counts is the ratio. Recall is against an exact search by float32. Printed is,
for each target, the fastest effort that reaches it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import corpora
import octavo
from common import K, exact_top
from octavo.compression import Codec

Effort = dict[str, Any]

#: Efforts of each index; the empty one is the default.
EFFORTS: dict[str, list[Effort]] = {
    "graph": [{}]
    + [{"ef": ef} for ef in (64, 96, 128, 160, 192, 256)]
    + [{"oversample": o, "ef": ef} for o in (5, 8, 12, 16, 24) for ef in (64, 96, 128, 192) if ef >= 8 * o],
    "cells": [{}] + [{"oversample": o, "n_probe": p} for o in (5, 8, 16) for p in (16, 32, 64)],
}


def encoding(codec: str, documents: np.ndarray, repeats: int = 3) -> float:
    """Return the microseconds that the first tier takes to encode a document, the best of several times."""
    tier = Codec.parse(codec).tiers[0].fit(documents[:20_000], lengths=False)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        tier.encode(documents)
        times.append(time.process_time() - started)
    return 1e6 * min(times) / len(documents)


def search(collections: dict[str, Any], effort: Effort, queries: np.ndarray, best: np.ndarray) -> dict[str, Any]:
    """Return recall and the median milliseconds of each collection, which take turns."""
    times: dict[str, list[float]] = {codec: [] for codec in collections}
    hits = dict.fromkeys(collections, 0)
    for query, rows in zip(queries, best, strict=True):
        for codec, kb in collections.items():
            started = time.perf_counter()
            found = kb.search(query, K, **effort).ids
            times[codec].append(time.perf_counter() - started)
            hits[codec] += len(set(found) & {str(row) for row in rows})
    return {codec: (hits[codec] / (K * len(queries)), 1e3 * float(np.median(times[codec]))) for codec in collections}


def main() -> None:
    """Print one line a codec and index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--codecs", nargs="+", default=["rabitq:1 > int8", "binary > int8"])
    parser.add_argument("--index", nargs="+", default=["cells", "graph"], choices=list(EFFORTS))
    parser.add_argument("--recall", nargs="+", type=float, default=[0.95, 0.97, 0.98])
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    with np.load(options.vectors) as data:
        documents, queries = (corpora.unit(data[part].astype(np.float32)) for part in "DQ")
    queries = queries[: options.queries]
    best = exact_top(documents, queries)
    head = ["codec", "index", "encode, us a row", "build, CPU s", "default: recall, ms"]
    print("| " + " | ".join([*head, *(f"ms at {target:g}" for target in options.recall)]) + " |")
    print("|---" * (len(head) + len(options.recall)) + "|")
    for index in options.index:
        with tempfile.TemporaryDirectory(prefix="octavo-tiers-") as work:
            opened, built = {}, {}
            for number, codec in enumerate(options.codecs):
                started = time.process_time()
                with octavo.open(Path(work, str(number)), codec=codec, index=index) as kb:
                    ids = [str(row) for row in range(len(documents))]
                    kb.add(ids=ids, vectors=documents, batch_size=4_096)
                    kb.flush()
                built[codec] = time.process_time() - started
                opened[codec] = octavo.open(Path(work, str(number)), read_only=True)
                opened[codec].search(queries[0], K)
                opened[codec].flush()
            for query in queries[:50]:
                for kb in opened.values():
                    kb.search(query, K)
            found = [search(opened, effort, queries, best) for effort in EFFORTS[index]]
            for codec, kb in opened.items():
                reached = [row[codec] for row in found]
                cells = [f"`{codec}`", index, f"{encoding(codec, documents):.1f}", f"{built[codec]:.1f}"]
                cells.append(f"{reached[0][0]:.3f}, {reached[0][1]:.2f}")
                for target in options.recall:
                    enough = [ms for recall, ms in reached if recall >= target]
                    cells.append(f"{min(enough):.2f}" if enough else f"not reached ({max(r for r, _ in reached):.3f})")
                print("| " + " | ".join(cells) + " |", flush=True)
                kb.close()


if __name__ == "__main__":
    main()
