"""Measure what codecs keep of exact search on ready vectors of several models: agreement of the ten best, and nDCG@10.

    python benchmarks/bench_codecs_models.py --vectors ../shared/emb --data ../shared/data
    python benchmarks/bench_codecs_models.py --vectors ../shared/emb --vectors cache/ --codecs "rabitq:1 > int8" "int8"
    python benchmarks/bench_codecs_models.py --vectors ../shared/emb --codecs --baselines itq:100% pq:12.5%
    python benchmarks/bench_codecs_models.py --vectors ../shared/emb --codecs rabitq:4 int8 --seeds 20
    python benchmarks/bench_codecs_models.py --vectors ../shared/emb --codecs --claims "int8 => pca:50%|float8"

A folder of vectors holds ``MODEL-SET.npz`` with `D`, `Q` (documents and judged queries), `did` and `qid`; the judgements are
those of the set of that name under `--data`, in BEIR layout. Codecs are fitted on all documents or, with `--fit`, on so many
drawn at random. With `--seeds` each cell is the mean of so many fits, every one with another rotation and on other nine tenths
of the documents, its standard deviation, and an interval of 95 % over the queries. Tiers with a finer one behind give as many
candidates as a collection rescores. With `--claims`, two schemes each: how nDCG@10 changes from the first to the second, and
a paired interval of 95 % over the queries. Accuracy only: nothing is timed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from octavo._arrays import unit_rows
from octavo.compression import Codec
from octavo.errors import CodecError
from octavo.eval import load_dataset
from octavo.eval.baselines import encode_baseline, rank_all
from octavo.index import exact_search, score_rows
from octavo.index.planner import default_oversample

K = 10

CODECS = (
    "binary",
    "binary > int8",
    "rabitq:1",
    "rabitq:1 > int8",
    "rabitq:2",
    "rabitq:3",
    "rabitq:4",
    "int2",
    "int4",
    "int8",
    "float8",
    "svd:50%|rabitq:1",
    "svd:50%|rabitq:2",
    "svd:50%|rabitq:4",
    "svd:50%|int8",
    "pca:50%|int8",
    "pca:100%|int4",
)


def search(codec: Codec, documents: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the rows of the ten best of each query, found by the first tier and rescored by the others."""
    coarse, *finer = codec.tiers
    encoded = codec.encode(documents)
    count = K if not finer else min(len(documents), round(K * default_oversample(coarse.layout, len(documents))))
    found, scores = exact_search(coarse.layout, encoded[0], coarse.encode_queries(queries), count)
    scores = scores + coarse.query_offset(queries)[:, None]
    for tier, codes in zip(finer, encoded[1:], strict=True):
        asked = tier.encode_queries(queries)
        for j, rows in enumerate(found):
            scores[j] = score_rows(tier.layout, codes, asked[j], rows)
        order = np.argsort(-scores, axis=1, kind="stable")
        found, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
    return found[:, :K]


def ndcg(found: np.ndarray, ids: np.ndarray, judged: list[dict[str, int]]) -> float:
    """Mean nDCG@10 over the queries that have a relevant document."""
    return float(np.mean(ndcgs(found, ids, judged)))


def ndcgs(found: np.ndarray, ids: np.ndarray, judged: list[dict[str, int]]) -> np.ndarray:
    """nDCG@10 of each query that has a relevant document."""
    values = []
    discount = 1 / np.log2(np.arange(K) + 2)
    for rows, grades in zip(found, judged, strict=True):
        ideal = np.sort([grade for grade in grades.values() if grade > 0])[::-1][:K]
        if len(ideal):
            gains = np.array([max(grades.get(identifier, 0), 0) for identifier in ids[rows]])
            values.append(float((gains * discount[: len(gains)]).sum() / (ideal * discount[: len(ideal)]).sum()))
    return np.array(values)


def seeded(text: str, seeds: int, data: tuple[Any, ...]) -> str:
    """Return agreement and nDCG kept over many fits, with the interval of the latter."""
    documents, queries, ids, judged, exact, full = data
    rng = np.random.default_rng(0)
    agreed, kept = [], []
    for seed in range(seeds):
        sample = documents[rng.permutation(len(documents))[: 9 * len(documents) // 10]]
        found = search(Codec.parse(text).fit(sample, seed=seed), documents, queries)
        agreed.append(agreement(found, exact))
        kept.append(ndcgs(found, ids, judged))
    values = np.array(kept)
    means = 100 * values.mean(axis=1) / full
    base = ndcgs(exact, ids, judged)
    drawn = rng.integers(0, len(base), (2_000, len(base)))
    ratios = 100 * values.mean(axis=0)[drawn].mean(axis=1) / base[drawn].mean(axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return f"{np.mean(agreed):.3f} / {means.mean():.1f} (sd {means.std(ddof=1):.1f}, {low:.1f} to {high:.1f})"


def of_scheme(text: str, data: tuple[Any, ...]) -> np.ndarray:
    """Return nDCG@10 of each query under a codec or a reference scheme."""
    documents, queries, ids, judged, _, _ = data
    try:
        found = search(Codec.parse(text).fit(documents), documents, queries)
    except CodecError:
        encoded = encode_baseline(text, documents, queries, seed=0)
        found = rank_all(encoded.documents, encoded.queries, K)[0]
    return ndcgs(found, ids, judged)


def change(claim: str, data: tuple[Any, ...]) -> str:
    """Return the change of nDCG@10 in percent, and its interval, for ``"first => second"``."""
    first, second = (of_scheme(text.strip(), data) for text in claim.split("=>"))
    drawn = np.random.default_rng(0).integers(0, len(first), (5_000, len(first)))
    ratios = 100 * (second[drawn].mean(axis=1) / first[drawn].mean(axis=1) - 1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return f"{100 * (second.mean() / first.mean() - 1):+.1f} ({low:+.1f} to {high:+.1f})"


def agreement(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share of the ten best that was found."""
    return float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, exact, strict=True)]))


def main() -> None:
    """Print a table with one line a codec, and one column a model and set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--vectors", type=Path, action="append", required=True, help="folder of MODEL-SET.npz; repeatable"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of sets in BEIR layout")
    parser.add_argument("--codecs", nargs="*", default=list(CODECS))
    parser.add_argument("--baselines", nargs="*", default=[], help="reference schemes of octavo.eval")
    parser.add_argument("--claims", nargs="*", default=[], help='pairs of schemes, "first => second"')
    parser.add_argument("--seeds", type=int, help="fits of each codec")
    parser.add_argument("--fit", type=int, help="documents to fit on; all of them if left out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    files = sorted(file for folder in args.vectors for file in folder.glob("*-*.npz"))
    print("| codec | bytes | " + " | ".join(file.stem for file in files) + " |")
    print("|---" * (len(files) + 2) + "|")
    sets = {}
    for file in files:
        name = file.stem.partition("-")[2]
        stored, data = np.load(file), load_dataset(args.data / name)
        documents, queries = (unit_rows(np.float32(stored[part])) for part in ("D", "Q"))
        known = [str(identifier) in data.qrels for identifier in stored["qid"]]
        queries, judged = queries[known], [data.qrels[str(i)] for i in stored["qid"][known]]
        exact = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :K]
        ids = stored["did"].astype(str)
        sets[file.stem] = documents, queries, ids, judged, exact, ndcg(exact, ids, judged)
    for text in args.claims:
        print(f"| `{text}` | | " + " | ".join(change(text, data) for data in sets.values()) + " |", flush=True)
    for text in args.codecs if args.seeds else ():
        cells = [seeded(text, args.seeds, data) for data in sets.values()]
        print(f"| `{text}` | | " + " | ".join(cells) + " |", flush=True)
    for text in args.baselines:
        cells, sizes = [], []
        for documents, queries, ids, judged, exact, full in sets.values():
            encoded = encode_baseline(text, documents, queries, seed=args.seed)
            found = rank_all(encoded.documents, encoded.queries, K)[0]
            cells.append(f"{agreement(found, exact):.3f} / {100 * ndcg(found, ids, judged) / full:.1f}")
            sizes.append(encoded.row_bytes)
        shown = "-".join(map(str, sorted({min(sizes), max(sizes)})))
        print(f"| `{text}` (baseline) | {shown} | " + " | ".join(cells) + " |", flush=True)
    for text in args.codecs if not args.seeds else ():
        cells, sizes = [], []
        for documents, queries, ids, judged, exact, full in sets.values():
            rng = np.random.default_rng(args.seed)
            sample = documents if args.fit is None else documents[rng.permutation(len(documents))[: args.fit]]
            codec = Codec.parse(text).fit(sample, seed=args.seed)
            found = search(codec, documents, queries)
            cells.append(f"{agreement(found, exact):.3f} / {100 * ndcg(found, ids, judged) / full:.1f}")
            sizes.append(codec.tiers[0].layout.row_bytes)
        shown = "-".join(map(str, sorted({min(sizes), max(sizes)})))
        print(f"| `{text}` | {shown} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
