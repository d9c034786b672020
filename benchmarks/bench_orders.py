"""Does a codec suffer from the order in which documents come?

``python benchmarks/bench_orders.py --data ../shared/data --vectors ../shared/emb`` adds the documents of several sets to
collections of Octavo, 100 at a time, topic by topic (20, by k-means on the vectors), the same reversed, and in random order.
It prints what is kept of the nDCG@10 of float32 vectors: by a codec that is fitted on all documents, by one that is fitted
on the first 1,000 and never again, and by the collection, in points of 100. Vectors are ``MODEL-SET.npz`` with ``D``, ``Q``,
``did`` and ``qid``. Nothing is timed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import octavo
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


def ndcg(rankings: list[list[int]], judged: Judgements) -> float:
    """Return the mean nDCG@10 over the queries that have judgements."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    gains = []
    for query, grades in judged.items():
        found = np.array([grades.get(row, 0) for row in rankings[query][:DEPTH]], float)
        best = np.sort(list(grades.values()))[::-1][:DEPTH]
        gains.append((found * discounts[: len(found)]).sum() / (best * discounts[: len(best)]).sum())
    return float(np.mean(gains))


def searched(kb: octavo.Collection, queries: Matrix) -> list[list[int]]:
    """Return the ten best documents of each query."""
    return [[int(key) for key in result.ids] for result in kb.search_batch(queries, DEPTH)]


def filled(codec: str, documents: Matrix, order: NDArray[np.int64], *, batch: int, again: bool = True) -> Any:
    """Return a collection to which documents were added in this order."""
    kb = octavo.open(codec=codec)
    if not again:
        kb._writer.learn_again = lambda *, ended: False  # type: ignore[method-assign]
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        kb.add(None, ids=[str(row) for row in rows], vectors=documents[rows])
    kb.fit()
    return kb


def measured(codec: str, documents: Matrix, queries: Matrix, judged: Judgements) -> dict[str, float]:
    """Return what is kept, by scheme and order."""
    base = ndcg(exact(documents, queries), judged)
    kept = {}
    with filled(codec, documents, np.arange(len(documents)), batch=writing.FIT_SAMPLE) as kb:
        kept["all"] = 100 * ndcg(searched(kb, queries), judged) / base
    for name, order in orders(documents).items():
        for scheme, again in (("once", False), ("now", True)):
            with filled(codec, documents, order, batch=BATCH, again=again) as kb:
                kept[f"{name} {scheme}"] = 100 * ndcg(searched(kb, queries), judged) / base
    return kept


def exact(documents: Matrix, queries: Matrix) -> list[list[int]]:
    """Return the ten best documents of each query by float32."""
    return [np.argsort(-(documents @ query), kind="stable")[:DEPTH].tolist() for query in queries]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of collections with qrels")
    parser.add_argument("--vectors", type=Path, nargs="+", required=True, help="folders with MODEL-SET.npz")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    asked = parser.parse_args()
    print("| model | set | codec | fitted on all | topics: once, now | reversed: once, now | random: once, now |")
    print("|---|---|---|---|---|---|---|")
    for model in asked.models:
        for name in asked.sets:
            found = [folder / f"{model}-{name}.npz" for folder in asked.vectors]
            path = next((path for path in found if path.exists()), None)
            if path is None:
                sys.exit(f"there is no {model}-{name}.npz in {', '.join(map(str, asked.vectors))}")
            documents, queries, judged = load(asked.data, path, name)
            for codec in asked.codecs:
                kept = measured(codec, documents, queries, judged)
                pairs = [f"{kept[f'{o} once']:.1f}, {kept[f'{o} now']:.1f}" for o in ("topics", "reversed", "random")]
                cells = [model, name, f"`{codec}`".replace("|", "\\|"), f"{kept['all']:.1f}", *pairs]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
