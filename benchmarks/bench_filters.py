"""What a filter costs a search, as a multiple of the same search without one, at 100,000 documents.

Each filter matches a share of the documents that has nothing to do with the query. *First* is the first search with a
filter after a write (the metadata index is read), *p50* the median of later ones (the matching rows are remembered until
the next write). Full-text and hybrid searches of the same collection stand below.

    OMP_NUM_THREADS=1 python benchmarks/bench_filters.py --documents 100000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from bench_collection import make_vectors, text_of

SHARES = {"0.1 %": 1, "1 %": 10, "10 %": 100, "50 %": 500}


def milliseconds(search: Callable[[Any], Any], queries: list[Any], repeats: int = 2) -> float:
    """Return the median time of one search."""
    for query in queries:
        search(query)
    times = []
    for _ in range(repeats):
        for query in queries:
            start = time.perf_counter()
            search(query)
            times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--embeddings", type=Path, help="real embeddings, .npy of shape (n, dim)")
    parser.add_argument("--codec", action="append", help="repeat for several")
    arguments = parser.parse_args()
    n = arguments.documents
    vectors, queries = make_vectors(n, arguments.queries, 384, arguments.embeddings)
    marks = np.random.default_rng(1).integers(0, 1_000, n)
    words = [text_of(number).split(": ")[1].split()[number % 5 : number % 5 + 4] for number in range(arguments.queries)]
    texts = [f"document {number} " + " ".join(some) for number, some in enumerate(words)]
    print("| codec | search | p50 ms | multiple | first ms |\n|---|---|---|---|---|")
    for codec in arguments.codec or ["binary > int8", "int8"]:
        with tempfile.TemporaryDirectory() as folder, octavo.open(f"{folder}/kb", codec=codec) as kb:
            kb.add(
                (text_of(i) for i in range(n)),
                metadata=({"mark": int(mark), "number": i} for i, mark in enumerate(marks)),
                vectors=(row for row in vectors),
            )
            kb.flush()
            plain = milliseconds(lambda query, kb=kb: kb.search(query), list(queries))
            print(f"| `{codec}` | no filter | {plain:.2f} | 1.0 | |", flush=True)
            for name, mark in SHARES.items():
                where = {"mark": {"$lt": mark}}
                start = time.perf_counter()
                kb.search(queries[0], filter=where)
                first = 1e3 * (time.perf_counter() - start)
                p50 = milliseconds(lambda query, kb=kb, where=where: kb.search(query, filter=where), list(queries))
                print(f"| `{codec}` | {name} match | {p50:.2f} | {p50 / plain:.1f} | {first:.1f} |", flush=True)
            start = time.perf_counter()
            kb.search("document 1", mode="text")
            print(f"| `{codec}` | full text, building the index | | | {1e3 * (time.perf_counter() - start):.0f} |")
            p50 = milliseconds(lambda query, kb=kb: kb.search(query, mode="text"), texts)
            print(f"| `{codec}` | full text, 6 words | {p50:.2f} | | |")
            pairs = list(zip(queries, texts, strict=True))
            p50 = milliseconds(lambda pair, kb=kb: kb.search(pair[0], text=pair[1], mode="hybrid"), pairs)
            print(f"| `{codec}` | hybrid | {p50:.2f} | | |", flush=True)


if __name__ == "__main__":
    main()
