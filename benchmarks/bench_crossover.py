"""Measure where a graph starts to pay against an exact scan; `octavo.index.planner` holds constants read off this.

For each kind of code and each size: one query at a time on one thread, median over the queries, for the exact scan and
for the graph at several `ef`; the time to build the graph; recall@10 of the graph against the scan of the same codes
(`recall_graph`), and against exact float32 search after rescoring several candidates a result in float32
(`recall_rescored_x5` for five).

    OMP_NUM_THREADS=1 python benchmarks/bench_crossover.py --documents docs.npy --queries queries.npy --out result.json

Without `--documents` the vectors are drawn around Gaussian clusters. With it, rows are drawn from the file and moved by
noise of half the vectors' own spread, which keeps their geometry while giving any number of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from octavo._layout import CodeLayout
from octavo.index import Graph, exact_search

KINDS = ("f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "b1")


def unit(x: np.ndarray) -> np.ndarray:
    """Scale rows to length one."""
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def encode(x: np.ndarray, kind: str) -> np.ndarray:
    """Quantise unit vectors with one global scale, as the compression steps do."""
    top = 0.25  # covers all but about one in 10,000 values of 384-dimensional sentence vectors
    if kind == "f32":
        return np.ascontiguousarray(x).view(np.uint8)
    if kind == "i8":
        return np.clip(np.rint(x * (127 / top)), -127, 127).astype(np.int8).view(np.uint8)
    if kind == "i4":
        q = np.clip(np.rint(x * (7 / 0.12)), -7, 7).astype(np.int8).view(np.uint8) & 15
        return np.ascontiguousarray(q[:, 0::2] | (q[:, 1::2] << 4))
    if kind == "b1":
        return np.packbits(x > 0, axis=1)
    dtype, factor = {
        "f16": (np.float16, 1.0),
        "bf16": (ml_dtypes.bfloat16, 1.0),
        "e4m3": (ml_dtypes.float8_e4m3fn, 400 / top),
        "e5m2": (ml_dtypes.float8_e5m2, 400 / top),
    }[kind]
    return np.clip(x * factor, -448, 448).astype(dtype).view(np.uint8)


def make_data(args: argparse.Namespace, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n documents and m queries of unit length."""
    rng = np.random.default_rng(args.seed)
    if args.documents:
        base = unit(np.load(args.documents))
        spread = 0.5 * float(base.std(axis=0).mean())
        documents = np.empty((n, base.shape[1]), dtype=np.float32)
        for start in range(0, n, 8192):
            part = base[rng.integers(0, len(base), min(8192, n - start))]
            documents[start : start + len(part)] = unit(part + spread * rng.standard_normal(part.shape))
        if args.queries:
            return documents, unit(np.load(args.queries))[:m]
        return documents, unit(documents[rng.integers(0, n, m)] + spread * rng.standard_normal((m, base.shape[1])))
    centres = rng.standard_normal((max(50, n // 100), args.dim))
    draw = rng.integers(0, len(centres), n + m)
    x = unit(centres[draw] + 0.8 * rng.standard_normal((n + m, args.dim)))
    return x[:n], x[n:]


def median_ms(run: Callable[[int], Any], m: int) -> float:
    """Median time of one call in milliseconds, over the queries, after a few to warm up."""
    for i in range(min(5, m)):
        run(i)
    times = []
    for i in range(m):
        begin = time.perf_counter()
        run(i)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true rows that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def measure(
    kind: str, documents: np.ndarray, queries: np.ndarray, truth: np.ndarray, args: argparse.Namespace
) -> dict[str, Any]:
    """Measure one kind of code at one size."""
    n, m = len(documents), len(queries)
    layout = CodeLayout(kind, documents.shape[1])  # type: ignore[arg-type]
    codes, asked = encode(documents, kind), encode(queries, kind)
    row: dict[str, Any] = {"kind": kind, "n": n}
    for k in (10, 100):
        row[f"exact_k{k}_ms"] = median_ms(lambda i, k=k: exact_search(layout, codes, asked[i : i + 1], k), m)
    same, _ = exact_search(layout, codes, asked, 10)
    graph = Graph(layout, args.connectivity, args.expansion_add)
    begin = time.perf_counter()
    graph.add(np.arange(n), codes, threads=args.build_threads)
    row["build_s"] = time.perf_counter() - begin
    row["memory_bytes_per_row"] = graph.memory_bytes / n
    row["search"] = []
    for ef in args.ef:
        slots, _ = graph.search(asked, max(10, ef), ef)
        entry = {
            "ef": ef,
            "k10_ms": median_ms(lambda i, ef=ef: graph.search(asked[i : i + 1], 10, ef), m),
            "k100_ms": median_ms(lambda i, ef=ef: graph.search(asked[i : i + 1], 100, ef), m),
            "recall_graph": overlap(slots[:, :10], same),
        }
        for oversample in (1, 2, 3, 5, 10, 20):
            if oversample * 10 <= slots.shape[1]:
                kept = slots[:, : oversample * 10]
                best = []
                for query, candidates in zip(queries, kept, strict=True):
                    real = candidates[candidates >= 0]
                    best.append(real[np.argsort(-(documents[real] @ query))[:10]])
                entry[f"recall_rescored_x{oversample}"] = overlap(np.asarray(best), truth)
        row["search"].append(entry)
    return row


def main() -> None:
    """Run the measurements and print them as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, help="float32 .npy to draw documents from")
    parser.add_argument("--queries", type=Path, help="float32 .npy of queries")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000]
    )
    parser.add_argument("--ef", nargs="+", type=int, default=[16, 32, 64, 100, 200])
    parser.add_argument("--n-queries", type=int, default=200)
    parser.add_argument("--dim", type=int, default=384, help="dimensions of synthetic vectors")
    parser.add_argument("--connectivity", type=int, default=16)
    parser.add_argument("--expansion-add", type=int, default=128)
    parser.add_argument("--build-threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    for n in args.sizes:
        documents, queries = make_data(args, n, args.n_queries)
        flat = CodeLayout("f32", documents.shape[1])
        truth, _ = exact_search(flat, encode(documents, "f32"), encode(queries, "f32"), 10)
        for kind in args.kinds:
            row = measure(kind, documents, queries, truth, args)
            results.append(row)
            print(json.dumps(row), flush=True)
    if args.out:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        report = {"settings": settings, "machine": platform.processor() or platform.machine(), "results": results}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
