"""Measure the parts of late interaction: MaxSim over codes, pooling and token codecs, vectors for candidates.

    export OMP_NUM_THREADS=1
    python benchmarks/bench_tokens.py speed
    python benchmarks/bench_tokens.py quality --data ../shared/data --cache tokens/ --out quality.jsonl
    python benchmarks/bench_tokens.py quality --data ../shared/data --cache tokens/ --model my_module:encoder --documents 1500
    python benchmarks/bench_tokens.py candidates --data ../shared/data --cache tokens/

`quality` and `candidates` measure on data sets with the token vectors of a model (all-MiniLM-L6-v2 unless `--model` names
another, or an encoder as module:attribute), which are made on the first run and kept in the cache (token_sets.py); `speed`
draws its own. Agreement, recall and `kept` (nDCG@10 relative to it) compare with
exact float32 MaxSim over all tokens at full width. `quality` scores every document by the stored codes, so that pooling and
codec are all that differs. Results are JSON lines; `quality` adds them to `--out` as they come and skips what is there.
Times are those of one thread, wall clock and (`_cpu`) the thread's own, which other load disturbs less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from octavo._arrays import unit_rows
from octavo._layout import CodeLayout
from octavo.compression import (
    SVD,
    CandidateEncoder,
    CentredMean,
    FixedDimensionalEncoding,
    RandomFeatures,
    TokenMatrices,
    TokenPooling,
)
from octavo.index.maxsim import maxsim_codes, maxsim_search
from octavo.store._generations import FIT_VALUES
from octavo.store.tokens import TokenCodec
from research.pooling import POOLINGS as POOLING_CLASSES
from research.ward_vectors import WardVectors
from token_sets import MODEL, TokenSet, add_token_options, agreement, load_token_sets, split

POOLINGS = ("none", "x2", "x3", "x4", "x6", "32", "16", "8")
CODECS = (
    "float32",
    "float16",
    "int8",
    "svd:128|int8",
    "rotate|int4",
    "svd:128|rotate|int4",
    "rabitq:4",
    "rabitq:2",
    "rabitq:1",
    "binary",
)

SETS = ("scifact", "cranfield", "vaswani", "squad-v1.1-dev")


def emit(**row: Any) -> None:
    """Print one result."""
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def timed(run: Callable[[], Any], repeat: int) -> dict[str, float]:
    """Median and least time of a call in milliseconds."""
    run()
    wall, cpu = [], []
    for _ in range(repeat):
        a, b = time.perf_counter(), time.thread_time()
        run()
        wall.append(time.perf_counter() - a)
        cpu.append(time.thread_time() - b)
    return {
        "median_ms": float(np.median(wall)) * 1e3,
        "least_ms": min(wall) * 1e3,
        "median_ms_cpu": float(np.median(cpu)) * 1e3,
        "least_ms_cpu": min(cpu) * 1e3,
    }


# -- speed -----------------------------------------------------------------------------------------------------------


def to_codes(x: np.ndarray, kind: str) -> np.ndarray:
    """Quantise unit vectors of 128 dimensions."""
    if kind == "f32":
        return x.view(np.uint8)
    if kind == "i8":
        return np.clip(np.rint(x * 300), -127, 127).astype(np.int8).view(np.uint8)
    if kind == "i4":
        q = np.clip(np.rint(x * 28), -7, 7).astype(np.int8).view(np.uint8) & 15
        return np.ascontiguousarray(q[:, 0::2] | (q[:, 1::2] << 4))
    if kind == "b1":
        return np.packbits(x > 0, axis=1)
    dtypes = {
        "f16": np.float16,
        "bf16": ml_dtypes.bfloat16,
        "e4m3": ml_dtypes.float8_e4m3fn,
        "e5m2": ml_dtypes.float8_e5m2,
    }
    return (x * (500 if kind.startswith("e") else 1)).astype(dtypes[kind]).view(np.uint8)


def numpy_maxsim(flat: np.ndarray, offsets: np.ndarray, query: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Score documents in float32 the direct way: gather, one matrix product, a ragged maximum."""
    lengths = offsets[documents + 1] - offsets[documents]
    starts = np.cumsum(lengths) - lengths
    rows = np.repeat(offsets[documents] - starts, lengths) + np.arange(lengths.sum())
    return np.maximum.reduceat(flat[rows] @ query.T, starts, axis=0).sum(axis=1)


def speed(args: argparse.Namespace) -> None:
    """Time MaxSim from a warm memory map."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(96, 30, args.documents), 5, 250).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = unit_rows(rng.standard_normal((int(offsets[-1]), 128), np.float32))
    query = unit_rows(rng.standard_normal((32, 128), np.float32))
    some = rng.permutation(args.documents)[:1000]
    shape = {"tokens": int(lengths[some].sum()), "all_tokens": int(offsets[-1])}
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            layout = CodeLayout(kind, 128)
            path = Path(folder) / kind
            to_codes(flat, kind).tofile(path)
            codes = np.memmap(path, np.uint8, "r").reshape(-1, layout.row_bytes)
            asked = to_codes(query, kind)
            run = timed(lambda c=codes, q=asked, la=layout: maxsim_codes(la, c, offsets, q, some), args.repeat)
            emit(what="1000 scattered documents", kind=kind, **shape, **run)
            run = timed(lambda c=codes, q=asked, la=layout: maxsim_search(la, c, offsets, [q], 10), args.repeat // 4)
            emit(what=f"all {args.documents} documents", kind=kind, **shape, **run)
            if kind == "f32":
                values = codes.view(np.float32)
                run = timed(lambda v=values: numpy_maxsim(v, offsets, query, some), args.repeat)
                emit(what="1000 scattered documents", kind="numpy float32", **shape, **run)
    documents = TokenMatrices(unit_rows(flat[:25_000] + flat[rng.integers(0, 50, 25_000)]), np.arange(0, 25_001, 250))
    for method in ("hierarchical", "kmeans", "sequential"):
        run = timed(lambda m=method: POOLING_CLASSES[m](2).pool(documents), 3)  # type: ignore[misc]
        each = {name: value / len(documents) for name, value in run.items()}
        emit(what="pooling a document of 250 tokens, 128 dimensions", method=method, **each)


# -- real tokens -----------------------------------------------------------------------------------------------------


def sample(tokens: TokenMatrices, n: int = 20_000) -> np.ndarray:
    """Draw token vectors to fit a codec on."""
    rows = np.random.default_rng(0).choice(len(tokens.flat), min(n, len(tokens.flat)), replace=False)
    return tokens.flat[np.sort(rows)]


def some_documents(documents: TokenMatrices) -> TokenMatrices:
    """Draw as many documents as a collection fits its codec on."""
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(documents.lengths))
    enough = np.searchsorted(np.cumsum(documents.lengths[chosen]), FIT_VALUES // documents.flat.shape[1], side="right")
    return TokenMatrices.of([documents[row] for row in np.sort(chosen[: max(1, enough)])])


def quality(args: argparse.Namespace) -> None:
    """Measure pooling and token codecs."""
    for data in load_token_sets(args.data, args.sets, args.cache, args.model, args.documents):
        done = read_done(args.out)
        exact = data.exact()
        best = data.ndcg(exact)
        full = float(best.mean())
        documents, queries = data.documents, data.queries
        if (args.model, data.name, "exact", "float32") not in done:
            row = {"documents": len(documents), "queries": len(queries), "tokens": len(documents.flat) / len(documents)}
            record(args.out, model=args.model, set=data.name, pooling="exact", codec="float32", ndcg10=full, **row)
        for name in args.poolings:
            missing = [codec for codec in args.codecs if (args.model, data.name, name, codec) not in done]
            if not missing:
                continue
            begin = time.thread_time()
            pooled = documents if name == "none" else pooling_of(name).pool(documents)
            spent = (time.thread_time() - begin) / len(documents) * 1e3
            for codec in missing:
                layout, codes, stored, asked = encode_tokens(codec, pooled, queries)
                begin = time.thread_time()
                found, _ = maxsim_search(layout, codes, pooled.offsets, asked, 10)
                search = (time.thread_time() - begin) / len(queries) * 1e3
                values = data.ndcg(found)
                value = float(values.mean())
                low, high = interval(values, best)
                record(
                    args.out,
                    model=args.model,
                    set=data.name,
                    pooling=name,
                    codec=codec,
                    bytes_per_document=stored / len(documents),
                    of_float16=stored / (2 * documents.flat.size),
                    ndcg10=value,
                    kept=value / full,
                    kept_low=low,
                    kept_high=high,
                    agreement=agreement(exact, found),
                    pool_ms_cpu=spent,
                    exhaustive_ms_cpu=search,
                )


def interval(values: np.ndarray, best: np.ndarray) -> tuple[float, float]:
    """Return an interval of 95 % of what is kept: a paired bootstrap over the queries."""
    drawn = np.random.default_rng(0).integers(0, len(best), (5_000, len(best)))
    low, high = np.percentile(values[drawn].mean(axis=1) / best[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def read_done(path: Path | None) -> set[tuple[str, str, str, str]]:
    """Return model, data set, pooling and codec of the results that a file holds."""
    if path is None or not path.exists():
        return set()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(row.get("model", MODEL), row["set"], row["pooling"], row["codec"]) for row in rows}


def record(path: Path | None, **row: Any) -> None:
    """Print one result and add it to a file."""
    emit(**row)
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def pooling_of(name: str) -> TokenPooling:
    """Return ``x<factor>`` or ``<at most so many vectors>``, by Ward or what stands behind a hyphen."""
    size, _, method = name.partition("-")
    pooling = POOLING_CLASSES[method]
    return pooling(factor=int(size[1:])) if size[0] == "x" else pooling(n_vectors=int(size))


def encode_tokens(
    text: str, documents: TokenMatrices, queries: TokenMatrices
) -> tuple[CodeLayout, np.ndarray, int, list[np.ndarray]]:
    """Return layout, codes of all documents as they are compared, the bytes that they take, and codes of each query.

    Codecs are fitted and applied as a collection does it.
    """
    codec = TokenCodec.fit(text, some_documents(documents), CentredMean(), seed=0)
    asked = codec.encode_queries(queries.flat)
    codes = codec.encode(documents.flat)
    return codec.pipeline.layout, codes, codes.nbytes, split(asked, queries.offsets)


def candidates(args: argparse.Namespace) -> None:
    """Measure how many of the exact ten best each candidate encoder finds among its first 50, 100 and 200."""
    for data in load_token_sets(args.data, args.sets, args.cache, args.model, args.documents):
        measure_candidates(data, args.dim)


def measure_candidates(data: TokenSet, dim: int) -> None:
    """Print the share of the exact ten best that each candidate encoder finds, and its time."""
    truth = data.exact()
    head = SVD(dim).fit(sample(data.documents))
    documents, queries = (TokenMatrices(head.encode(x.flat), x.offsets) for x in (data.documents, data.queries))
    encoders: list[CandidateEncoder | WardVectors] = [
        CentredMean(),
        CentredMean(centre=False),
        WardVectors(4),
        WardVectors(8),
        RandomFeatures(512),
        RandomFeatures(1024),
        RandomFeatures(2048),
        FixedDimensionalEncoding.preset("2560"),
        FixedDimensionalEncoding.preset("2560", normalise=True),
        FixedDimensionalEncoding.preset("10240"),
        FixedDimensionalEncoding.preset("10240", normalise=True),
        FixedDimensionalEncoding.preset("10240", normalise=True, carve=0.7),
    ]
    for encoder in encoders:
        begin = time.thread_time()
        each = encoder.n if isinstance(encoder, WardVectors) else 1
        if isinstance(encoder, CandidateEncoder):
            encoder.fit(documents)
        fitted = time.thread_time()
        encoded = encoder.encode_documents(documents)
        built = time.thread_time()
        vectors = encoder.encode_queries(queries)
        asked = time.thread_time()
        layout = CodeLayout("f32", encoded.shape[1])
        edges = np.arange(0, len(encoded) + 1, each)
        edges_of_queries = queries.offsets if isinstance(encoder, WardVectors) else np.arange(len(queries) + 1)
        found, _ = maxsim_search(
            layout, encoded.view(np.uint8), edges, split(vectors.view(np.uint8), edges_of_queries), 200
        )
        emit(
            set=data.name,
            encoder=repr(encoder),
            values_per_document=encoded.shape[1] * each,
            **{f"recall_{c}": agreement(truth, found[:, :c]) for c in (50, 100, 200)},
            fit_s_cpu=fitted - begin,
            document_ms_cpu=(built - fitted) / len(documents) * 1e3,
            query_ms_cpu=(asked - built) / len(queries) * 1e3,
        )


def main() -> None:
    """Run one of the measurements and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(help="all of them, with their defaults, unless given")
    part = commands.add_parser("speed")
    part.add_argument("--documents", type=int, default=5183, help="documents in the synthetic collection")
    part.add_argument("--kinds", nargs="+", default=["i8", "e4m3", "i4", "b1", "bf16", "f32"])
    part.add_argument("--repeat", type=int, default=20)
    part.set_defaults(run=speed)
    for name, run in (("quality", quality), ("candidates", candidates)):
        part = commands.add_parser(name)
        add_token_options(part)
        part.add_argument("--sets", nargs="+", default=list(SETS))
        part.add_argument("--model", default=MODEL, help="a model, or module:attribute of an encoder of token vectors")
        part.add_argument(
            "--documents", type=int, help="cut larger sets to the judged documents and others, so many in all"
        )
        if name == "quality":
            part.add_argument("--poolings", nargs="+", default=list(POOLINGS), help="also x2-kmeans, 48, ...")
            part.add_argument("--codecs", nargs="+", default=list(CODECS))
            part.add_argument("--out", type=Path, help="file of results, to which new ones are added")
        else:
            part.add_argument("--dim", type=int, default=128, help="token dimensions, by SVD")
        part.set_defaults(run=run)
    for command in [sys.argv[1:]] if sys.argv[1:] else [["speed"], ["quality"], ["candidates"]]:
        args = parser.parse_args(command)
        args.run(args)


if __name__ == "__main__":
    main()
