"""Measure multi-vector collections on real token vectors: quality, bytes, candidates, latency warm and cold, 100,000 documents.

    export OMP_NUM_THREADS=1
    python benchmarks/bench_late_interaction.py codecs --data ../shared/data --cache tokens/ --sets scifact
    python benchmarks/bench_late_interaction.py candidates --data ../shared/data --cache tokens/ --sets scifact
    python benchmarks/bench_late_interaction.py shapes --data ../shared/data --cache tokens/ --sets scifact
    python benchmarks/bench_late_interaction.py cold --data ../shared/data --cache tokens/ --sets scifact
    python benchmarks/bench_late_interaction.py scale --data ../shared/data --cache tokens/ --documents 100000

Token vectors are those of all-MiniLM-L6-v2, 384 wide and of unit length, made on the first run and kept in the cache
(token_sets.py), as is the exact ranking: float32 MaxSim over all tokens at full width. Results are JSON lines.
`agreement` is the share of the exact top 10 that was found; `kept` is nDCG@10
relative to that of the exact ranking; times are wall clock of one thread and (`cpu`) its own, which other load disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo._arrays import unit_rows
from octavo.compression import TokenMatrices, TokenPooling
from octavo.eval.running._maxsim import rank_by_maxsim
from octavo.store import vectors as vectors
from token_sets import K, TokenSet, add_token_options, load_token_sets, narrowed

CONFIGURATIONS: list[tuple[str, TokenPooling, str]] = [
    ("x1", TokenPooling(factor=1), "int8"),
    ("x1", TokenPooling(factor=1), "rotate|int2"),
    ("x2", TokenPooling(factor=2), "int8"),
    ("x2", TokenPooling(factor=2), "svd:128|int8"),
    ("x2", TokenPooling(factor=2), "rotate|int4"),
    ("x2", TokenPooling(factor=2), "rotate|int2"),
    ("x2", TokenPooling(factor=2), "rotate|binary"),
    ("x3", TokenPooling(factor=3), "svd:128|int8"),
    ("x4", TokenPooling(factor=4), "svd:128|int8"),
    ("x6", TokenPooling(factor=6), "svd:128|int8"),
    ("at most 32", TokenPooling(n_vectors=32), "svd:128|rotate|int4"),
    ("at most 64", TokenPooling(n_vectors=64), "svd:128|rotate|int2"),
    ("at most 16", TokenPooling(n_vectors=16), "svd:128|int8"),
    ("at most 8", TokenPooling(n_vectors=8), "int8"),
]


def emit(**row: Any) -> None:
    print(
        json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}),
        flush=True,
    )


class Dataset:
    """A data set with its token vectors, by the names that a collection uses."""

    def __init__(self, source: TokenSet) -> None:
        self.name, self.source = source.name, source
        self.ids, self.texts = list(source.dataset.document_ids), list(source.dataset.texts)
        self.tokens, self.query_tokens = source.documents, source.queries
        self._exact: np.ndarray | None = None

    def narrow(self, width: int) -> None:
        """Replace the token vectors by narrower ones: they are the encoder's output now, and `exact` ranks by them."""
        self.tokens, self.query_tokens = narrowed(self.tokens, self.query_tokens, width)
        self._exact = rank_by_maxsim(list(self.tokens), list(self.query_tokens), K)[0]

    def exact(self) -> np.ndarray:
        """Rows of the ten best documents of each query by float32 MaxSim over all tokens."""
        if self._exact is None:
            self._exact = self.source.exact()
        return self._exact

    def ndcg(self, rankings: list[list[str]]) -> float:
        """Mean nDCG@10 of rankings by id."""
        place = {identifier: row for row, identifier in enumerate(self.ids)}
        rows = np.full((len(rankings), K), -1, np.int64)
        for number, ranking in enumerate(rankings):
            rows[number, : len(ranking[:K])] = [place[identifier] for identifier in ranking[:K]]
        return float(self.source.ndcg(rows).mean())


def build(
    data: Dataset,
    path: Path | None,
    pooling: TokenPooling,
    codec: str,
    tokens: TokenMatrices | None = None,
    **options: Any,
) -> tuple[octavo.MultiVectorCollection, float]:
    start = time.perf_counter()
    kb = octavo.open_multi_vector(path, codec=codec, pooling=pooling, **options)
    kb.add(data.texts, ids=data.ids, token_vectors=data.tokens if tokens is None else tokens)
    return kb, time.perf_counter() - start


def measure(data: Dataset, search: Callable[[np.ndarray], list[str]]) -> dict[str, float]:
    """Agreement, quality and time of a search function over all queries."""
    exact, rankings, wall, cpu = data.exact(), [], [], []
    search(data.query_tokens[0])
    for query in data.query_tokens:
        started, started_cpu = time.perf_counter(), time.thread_time()
        rankings.append(search(query))
        wall.append(time.perf_counter() - started)
        cpu.append(time.thread_time() - started_cpu)
    best = [[data.ids[row] for row in ranked[:10]] for ranked in exact]
    return {
        "agreement": float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best, rankings, strict=True)])),
        "ndcg10": data.ndcg(rankings),
        "kept": data.ndcg(rankings) / data.ndcg(best),
        "p50_ms": 1e3 * float(np.median(wall)),
        "p95_ms": 1e3 * float(np.percentile(wall, 95)),
        "cpu_p50_ms": 1e3 * float(np.median(cpu)),
    }


def codecs(args: argparse.Namespace) -> None:
    for data in datasets(args):
        full = 2 * data.tokens.dim * len(data.tokens.flat) / len(data.ids)
        for name, pooling, codec in CONFIGURATIONS:
            if args.only and f"{name} {codec}" not in args.only:
                continue
            with tempfile.TemporaryDirectory() as folder:
                kb, seconds = build(data, Path(folder) / "kb", pooling, codec)
                with kb:
                    bytes_each = kb.info().vector_bytes_per_document
                    row = {"set": data.name, "pooling": name, "codec": codec, "bytes_per_document": bytes_each}
                    row |= {"of_float16": bytes_each / full, "build_s": seconds}
                    emit(**row, search="default", **measure(data, lambda query, kb=kb: kb.search(query, 10).ids))
                    emit(
                        **row,
                        search="exhaustive",
                        **measure(data, lambda query, kb=kb: kb.search(query, 10, exact=True).ids),
                    )


def candidates(args: argparse.Namespace) -> None:
    for data in datasets(args):
        for encoder in ("mean", "random-features"):
            kb, seconds = build(data, None, TokenPooling(factor=2), args.codec, candidates=encoder)
            with kb:
                for count in (100, 200, 300, 400, 600, 800):
                    found = measure(
                        data,
                        lambda query, n=count, kb=kb: (
                            kb.search(query, 10, n_candidates=n, candidates="mean", exact=False).ids
                        ),
                    )
                    emit(
                        set=data.name,
                        codec=args.codec,
                        candidates=encoder,
                        n_candidates=count,
                        build_s=seconds,
                        **found,
                    )


def shapes(args: argparse.Namespace) -> None:
    """Full-width and 128-wide tokens, pooled by 1, 1.5 and 2: agreement and time by the number of candidates.

    The numbers of candidates take turns at each query, so that other load falls on all of them alike.
    """
    counts = (200, 300, 400, 600)
    for width in args.widths:
        for data in datasets(args):
            if width != data.tokens.dim:
                data.narrow(width)
            best = [{data.ids[row] for row in ranked[:10]} for ranked in data.exact()]
            for factor in (1, 1.5, 2):
                with kept_or_temporary(args.disk) as folder:
                    path = Path(folder) / f"{data.name}-{data.tokens.dim}-{factor}"
                    if not path.exists():
                        kb, _ = build(
                            data, path, TokenPooling(factor=1), args.codec, tokens=pooled_by(data.tokens, factor)
                        )
                        kb.close()
                    with octavo.open_multi_vector(path) as kb:
                        same: dict[int, list[float]] = {count: [] for count in counts}
                        exact: dict[int, list[float]] = {count: [] for count in (*counts, 0)}
                        cpu: dict[int, list[float]] = {count: [] for count in counts}
                        kb.search(data.query_tokens[0], 10, exact=True)  # verifies all checksums
                        every = max(1, len(data.query_tokens) // (args.queries or len(data.query_tokens)))
                        for number in range(0, len(data.query_tokens), every)[: args.queries]:
                            query = data.query_tokens[number]
                            limit = set(kb.search(query, 10, exact=True).ids)
                            exact[0].append(len(limit & best[number]) / 10)
                            for count in counts:
                                started = time.thread_time()
                                found = set(
                                    kb.search(query, 10, n_candidates=count, candidates="mean", exact=False).ids
                                )
                                cpu[count].append(time.thread_time() - started)
                                same[count].append(len(found & limit) / 10)
                                exact[count].append(len(found & best[number]) / 10)
                        row = {"set": data.name, "width": data.tokens.dim, "pooling": factor, "codec": args.codec}
                        row["agreement_of_exhaustive"] = float(np.mean(exact[0]))
                        for count in counts:
                            emit(
                                **row,
                                n_candidates=count,
                                agreement_with_exhaustive=float(np.mean(same[count])),
                                agreement=float(np.mean(exact[count])),
                                cpu_p50_ms=1e3 * float(np.median(cpu[count])),
                                cpu_p20_ms=1e3 * float(np.percentile(cpu[count], 20)),
                            )


def kept_or_temporary(folder: str | None) -> Any:
    """Return a context that gives the folder, or a temporary one where none is named."""
    return contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory()


def pooled_by(tokens: TokenMatrices, factor: float) -> TokenMatrices:
    """Pool by a factor that need not be whole, document by document."""
    if factor == int(factor):
        return TokenPooling(factor=int(factor)).pool(tokens)
    parts = []
    for matrix in tokens:
        n = max(int((len(matrix) - 1) // factor), 1) + 1
        parts += TokenPooling(n_vectors=n).pool([matrix])
    return TokenMatrices.of(parts)


def cold(args: argparse.Namespace) -> None:
    for data in datasets(args):
        with tempfile.TemporaryDirectory(dir=args.disk) as folder:
            kb, _ = build(data, Path(folder) / "kb", TokenPooling(factor=2), args.codec)
            kb.close()
            for name, ahead in (("reading ahead", True), ("page by page", False), ("reading ahead", True)):
                emit(set=data.name, codec=args.codec, reading=name, **cold_times(Path(folder) / "kb", data, ahead))
            with octavo.open_multi_vector(Path(folder) / "kb") as kb:
                warm = measure(data, lambda query, kb=kb: kb.search(query, 10).ids)
                emit(set=data.name, codec=args.codec, reading="warm", p50_ms=warm["p50_ms"])


def cold_times(path: Path, data: Dataset, ahead: bool) -> dict[str, float]:
    """Times of first queries: the token file is dropped from memory and the collection opened anew before each of them.

    As in any first query, the checksums of the blocks that it touches are verified.
    """
    vectors._CAN_PREFETCH = ahead
    wall = []
    for query in list(data.query_tokens)[:50]:
        gc.collect()  # pages that are still mapped cannot be dropped
        for file in path.glob("*-tokens.vec"):
            drop(file)
        with octavo.open_multi_vector(path) as kb:
            kb.search(
                data.query_tokens[0][:1], 1, n_candidates=1, candidates="mean", exact=False
            )  # everything but the tokens is warm
            started = time.perf_counter()
            kb.search(query, 10)
            wall.append(time.perf_counter() - started)
        del kb
    vectors._CAN_PREFETCH = True
    return {"p50_ms": 1e3 * float(np.median(wall)), "p95_ms": 1e3 * float(np.percentile(wall, 95))}


def drop(path: Path) -> None:
    """Drop a file from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def scale(args: argparse.Namespace) -> None:
    """Documents replicated from the first of the sets: each copy's tokens are moved by noise, then of unit length again."""
    data = next(datasets(args))
    copies = math.ceil(args.documents / len(data.ids))
    pooled = TokenPooling(factor=2).pool(data.tokens)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=args.disk) as folder:
        path = Path(folder) / "kb"
        started = time.perf_counter()
        kb = octavo.open_multi_vector(path, codec=args.codec, pool_factor=1)
        for copy in range(copies):
            size = min(len(data.ids), args.documents - copy * len(data.ids))
            part = TokenMatrices(pooled.flat[: pooled.offsets[size]], pooled.offsets[: size + 1])
            if copy:
                noise = rng.standard_normal(part.flat.shape, np.float32) * (0.6 / math.sqrt(pooled.dim))
                part = TokenMatrices(unit_rows(part.flat + noise), part.offsets)
            ids = [f"{copy}/{identifier}" for identifier in data.ids[:size]]
            kb.add(data.texts[:size], ids=ids, token_vectors=part, batch_size=1024)
        emit(step="build", documents=len(kb), seconds=time.perf_counter() - started, codec=args.codec)
        info = kb.info()
        emit(step="size", disk=info.disk, ram=info.ram, vector_bytes_per_document=info.vector_bytes_per_document)
        queries = list(data.query_tokens)[:100]
        exhaustive = [kb.search(query, 10, exact=True).ids for query in queries[:20]]
        for count in (None, 800, 1600, 3200):
            found, wall = [], []
            for query in queries:
                started = time.perf_counter()
                found.append(kb.search(query, 10, n_candidates=count, candidates="mean").ids)
                wall.append(time.perf_counter() - started)
            same = [len(set(a) & set(b)) / 10 for a, b in zip(exhaustive, found, strict=False)]
            emit(
                step="search",
                n_candidates=count or "default",
                p50_ms=1e3 * float(np.median(wall)),
                agreement_with_exhaustive=float(np.mean(same)),
            )
        started = time.perf_counter()
        kb.delete(kb.ids()[::10])
        emit(step="delete 10 %", seconds=time.perf_counter() - started)
        kb.close()
        started = time.perf_counter()
        kb = octavo.open_multi_vector(path)
        opened = time.perf_counter() - started
        kb.search(queries[0], 10)
        emit(step="reopen", open_s=opened, first_search_s=time.perf_counter() - started - opened, documents=len(kb))
        kb.close()
        del kb
        for ahead in (True, False, True):
            emit(step="cold", reading_ahead=ahead, **cold_times(path, data, ahead))


def datasets(args: argparse.Namespace) -> Iterator[Dataset]:
    for source in load_token_sets(args.data, args.sets, args.cache):
        yield Dataset(source)


PARTS = {"codecs": codecs, "candidates": candidates, "shapes": shapes, "cold": cold, "scale": scale}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"among {', '.join(PARTS)}; all unless given")
    add_token_options(parser)
    parser.add_argument("--sets", nargs="+", default=["scifact"])
    parser.add_argument("--codec", default="int8")
    parser.add_argument("--only", nargs="+", help="configurations such as 'x2 int8'")
    parser.add_argument("--widths", nargs="+", type=int, default=[384, 128], help="widths of token vectors (shapes)")
    parser.add_argument("--queries", type=int, help="so many of the queries, evenly spread (shapes); all unless given")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument(
        "--disk", help="folder for the collections of shapes (kept there), cold and scale; a real disk, not tmpfs"
    )
    args = parser.parse_args()
    if unknown := set(args.what) - set(PARTS):
        parser.error(f"expected {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    for name in args.what or PARTS:
        PARTS[name](args)


if __name__ == "__main__":
    main()
