"""Does a codec suffer from the order in which documents come?

``python benchmarks/bench_orders.py --data ../shared/data --vectors ../shared/emb`` adds the documents of several sets to
collections of Octavo, 100 at a time, topic by topic (20, by k-means on the vectors), the same reversed, and in random order.
It prints what is kept of the nDCG@10 of float32 vectors: by a codec that is fitted on all documents, by one that is fitted
on the first 1,000 and never again (with `--once`), and by the collection, in points of 100. Vectors are ``MODEL-SET.npz`` with
``D``, ``Q``, ``did`` and ``qid``. Nothing is timed.

With `--seeds` every cell is the mean of so many collections, which differ in the rotation of their codes. *Apart* is the
difference between the best and the worst order, with the interval of 95 % that a paired bootstrap over the queries gives for
the difference of these two; *agreement* is the mean share of the exact ten best that each order finds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import octavo
from bench_codecs_models import search
from octavo.compression import Codec
from octavo.store import writer as writing

CODECS = ("int8", "rabitq:1 > int8", "rabitq:4", "svd:50%|int8", "svd:25%|int8")
MODELS = ("minilm", "wl", "sm64", "e5")
SETS = ("cranfield", "scifact", "vaswani")
TOPICS, BATCH, DEPTH = 20, 100, 10

Matrix = NDArray[np.float32]
Judgements = dict[int, dict[int, int]]


def load(data: Path, vectors: Path, name: str) -> tuple[Matrix, Matrix, Judgements]:
    """Return documents, queries (unit rows) and the judgements of a set, by row."""
    with np.load(vectors) as archive:
        documents, queries = unit(archive["D"]), unit(archive["Q"])
        row = {str(key): number for number, key in enumerate(archive["did"])}
        query = {str(key): number for number, key in enumerate(archive["qid"])}
    judged: Judgements = {}
    files = sorted((data / name / "qrels").iterdir())
    chosen = next((file for file in files if "test" in file.name), files[0])
    for line in chosen.read_text(encoding="utf-8").splitlines():
        asked, document, grade = line.split("\t")[:3]
        if asked in query and document in row and int(grade) > 0:
            judged.setdefault(query[asked], {})[row[document]] = int(grade)
    return documents, queries, judged


def unit(matrix: NDArray[Any]) -> Matrix:
    """Return rows of unit length; rows of zeros stay."""
    floats = matrix.astype(np.float32)
    lengths = np.linalg.norm(floats, axis=1, keepdims=True)
    return floats / np.where(lengths > 0, lengths, 1)


def topics(documents: Matrix, k: int = TOPICS, rounds: int = 15) -> NDArray[np.int64]:
    """Return the topic of each document, by k-means."""
    centres = documents[np.random.default_rng(0).choice(len(documents), k, replace=False)]
    for _ in range(rounds):
        nearest = (documents @ centres.T - 0.5 * (centres * centres).sum(axis=1)).argmax(axis=1)
        for topic in range(k):
            if (nearest == topic).any():
                centres[topic] = documents[nearest == topic].mean(axis=0)
    return nearest


def orders(documents: Matrix) -> dict[str, NDArray[np.int64]]:
    """Return the orders in which documents are added."""
    by_topic = np.argsort(topics(documents), kind="stable")
    shuffled = np.random.default_rng(1).permutation(len(documents))
    return {"topics": by_topic, "reversed": by_topic[::-1], "random": shuffled}


def ndcg(rankings: list[list[int]], judged: Judgements) -> NDArray[np.float64]:
    """Return nDCG@10 of each query that has judgements."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    gains = []
    for query, grades in judged.items():
        found = np.array([grades.get(row, 0) for row in rankings[query][:DEPTH]], float)
        best = np.sort(list(grades.values()))[::-1][:DEPTH]
        gains.append((found * discounts[: len(found)]).sum() / (best * discounts[: len(best)]).sum())
    return np.array(gains)


def searched(kb: octavo.Collection, queries: Matrix, *, exact: bool | None = None) -> list[list[int]]:
    """Return the ten best documents of each query."""
    return [[int(key) for key in result.ids] for result in kb.search_batch(queries, DEPTH, exact=exact)]


def filled(
    codec: str, documents: Matrix, order: NDArray[np.int64], *, batch: int, again: bool = True, seed: int = 0
) -> Any:
    """Return a collection to which documents were added in this order."""
    kb = octavo.open(codec=codec, seed=seed)
    if not again:
        kb._writer.learn_again = lambda *, ended: False  # type: ignore[method-assign]
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        kb.add(None, ids=[str(row) for row in rows], vectors=documents[rows])
    kb.fit()
    return kb


def measured(
    codec: str, documents: Matrix, queries: Matrix, judged: Judgements, *, seeds: int, once: bool
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Return nDCG@10 of each query, and the agreement with float32, by scheme and order, means over the seeds."""
    best = [set(rows) for rows in exact(documents, queries)]
    schemes: dict[str, dict[str, Any]] = {"all": {"order": np.arange(len(documents)), "batch": writing.FIT_SAMPLE}}
    for name, order in orders(documents).items():
        if once:
            schemes[f"{name} once"] = {"order": order, "batch": BATCH, "again": False}
        schemes[f"{name} now"] = {"order": order, "batch": BATCH}
    values, agreed = {}, {}
    for name, options in schemes.items():
        gains, shares = [], []
        for seed in range(seeds):
            with filled(codec, documents, seed=seed, **options) as kb:
                found = searched(kb, queries)
            gains.append(ndcg(found, judged))
            shares.append(np.mean([len(rows & set(row)) / DEPTH for rows, row in zip(best, found, strict=True)]))
        values[name], agreed[name] = np.mean(gains, axis=0), float(np.mean(shares))
    return values, agreed


def agreements(codec: str, documents: Matrix, queries: Matrix) -> dict[str, float]:
    """Return the share of the exact ten best that is found, by order; documents come 1,000 at a time.

    Every document is scored, in the finest tier: what an index loses is not the codec's doing.
    """
    best = [set(rows) for rows in exact(documents, queries)]

    def share(found: Any) -> float:
        pairs = zip(best, found, strict=True)
        return float(np.mean([len(rows & {int(row) for row in each}) / DEPTH for rows, each in pairs]))

    shares = {"fitted on all": share(search(Codec.parse(codec).fit(documents), documents, queries))}
    for name, order in orders(documents).items():
        with filled(codec, documents, order, batch=1_000) as kb:
            shares[name] = share(searched(kb, queries, exact=True))
    return shares


def apart(values: dict[str, NDArray[np.float64]], base: float) -> str:
    """Return how far the orders are apart, with an interval."""
    now = {name: value for name, value in values.items() if name.endswith(" now")}
    best, worst = (pick(now.values(), key=lambda value: value.mean()) for pick in (max, min))
    difference = 100 * (best - worst) / base
    drawn = np.random.default_rng(0).integers(0, len(difference), (2_000, len(difference)))
    low, high = np.percentile(difference[drawn].mean(axis=1), [2.5, 97.5])
    return f"{difference.mean():.1f} ({low:.1f} to {high:.1f})"


def exact(documents: Matrix, queries: Matrix) -> list[list[int]]:
    """Return the ten best documents of each query by float32."""
    return [np.argsort(-(documents @ query), kind="stable")[:DEPTH].tolist() for query in queries]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of collections with qrels")
    parser.add_argument("--vectors", type=Path, nargs="+", help="folders with MODEL-SET.npz")
    parser.add_argument(
        "--large", type=Path, help="instead of these: vectors without judgements, D and Q; agreement alone"
    )
    parser.add_argument("--rows", type=int, default=60_000, help="of the large file")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    parser.add_argument("--seeds", type=int, default=1, help="collections of each kind")
    parser.add_argument("--once", action="store_true", help="also codecs that are fitted once")
    asked = parser.parse_args()
    if asked.large:
        with np.load(asked.large) as archive:
            documents, queries = unit(archive["D"][: asked.rows]), unit(archive["Q"])
        print("| codec | fitted on all | topics | reversed | random |\n|---|---|---|---|---|")
        for codec in asked.codecs:
            found = agreements(codec, documents, queries)
            cells = [f"`{codec}`".replace("|", "\\|"), *(f"{share:.3f}" for share in found.values())]
            print("| " + " | ".join(cells) + " |", flush=True)
        return
    if not asked.data or not asked.vectors:
        parser.error("expected --data and --vectors, or --large")
    shown = "once, now" if asked.once else "now"
    names = ("topics", "reversed", "random")
    heads = ["model", "set", "codec", "fitted on all", *(f"{name}: {shown}" for name in names), "apart", "agreement"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for model in asked.models:
        for name in asked.sets:
            found = [folder / f"{model}-{name}.npz" for folder in asked.vectors]
            path = next((path for path in found if path.exists()), None)
            if path is None:
                sys.exit(f"there is no {model}-{name}.npz in {', '.join(map(str, asked.vectors))}")
            documents, queries, judged = load(asked.data, path, name)
            for codec in asked.codecs:
                values, agreed = measured(codec, documents, queries, judged, seeds=asked.seeds, once=asked.once)
                base = float(ndcg(exact(documents, queries), judged).mean())
                kept = {scheme: f"{100 * value.mean() / base:.1f}" for scheme, value in values.items()}
                cells = [model, name, f"`{codec}`".replace("|", "\\|"), kept["all"]]
                cells += [", ".join(kept[f"{order} {when}"] for when in shown.split(", ")) for order in names]
                cells += [apart(values, base), ", ".join(f"{agreed[f'{order} now']:.3f}" for order in names)]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
