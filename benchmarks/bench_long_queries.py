"""What late interaction makes of long queries: nDCG@10 by length, and of queries whose tokens are pooled or weighed.

Exact float32 MaxSim over all tokens of a set that ``bench_late_100k.py encode --set`` has encoded. Queries are cut into thirds
by their number of tokens; beside MaxSim stands the cosine of the means of the tokens. As the longest queries at hand there
are, the documents themselves: how many of the ten best stay when their tokens are pooled, the document itself left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench_late_100k import DIM
from octavo.compression.token_pooling import TokenPooling, mean_directions
from octavo.eval import load_dataset
from octavo.eval.running.measures import Measures

K = 10
Matrix = NDArray[np.float32]


def load(cache: Path, name: str) -> list[Matrix]:
    """Return the token vectors of each text."""
    offsets = np.load(cache / f"{name}.offsets.npy")
    flat = np.fromfile(cache / f"{name}.f16", np.float16).reshape(-1, DIM).astype(np.float32)
    return [flat[a:b] for a, b in itertools.pairwise(offsets)]


class Documents:
    """Documents whose scores are wanted, all of them."""

    def __init__(self, matrices: list[Matrix]) -> None:
        self._flat = np.concatenate(matrices)
        self._starts = np.cumsum([0, *map(len, matrices[:-1])])
        self.means = unit(np.stack([matrix.mean(axis=0) for matrix in matrices]))

    def best(self, query: Matrix) -> Matrix:
        """Return the best cosine of each query token in each document, of shape (n_documents, n_tokens)."""
        found: Matrix = np.maximum.reduceat(self._flat @ query.T, self._starts, axis=0)
        return found


def unit(matrix: Matrix) -> Matrix:
    scaled: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return scaled


def pooled(query: Matrix, factor: int) -> tuple[Matrix, Matrix]:
    """Return the means of groups of a query's tokens, and how many tokens each stands for; the first is left alone."""
    free = query[1:]
    labels = TokenPooling(factor=factor)._labels(free, max(1, len(free) // factor))
    _, counts = np.unique(labels, return_counts=True)
    return np.concatenate([query[:1], mean_directions(free, labels)]), np.float32([1, *counts])


def rankings(documents: Documents, query: Matrix) -> dict[str, Matrix]:
    """Return the scores of all documents by each way."""
    found = {"mean": documents.means @ unit(query.mean(axis=0, keepdims=True))[0]}
    best = documents.best(query)
    found["MaxSim"] = best.sum(axis=1)
    # What a token finds everywhere says little: its best cosine counts by how far it stands out among the documents.
    found["MaxSim, by what stands out"] = (best * best.std(axis=0)).sum(axis=1)
    for factor in (2, 4):
        some, counts = pooled(query, factor)
        values = documents.best(some)
        found[f"query x{factor}"] = values.sum(axis=1)
        found[f"query x{factor}, by size"] = values @ counts
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--set", default="cranfield")
    parser.add_argument("--abstracts", type=int, default=40, help="documents that are asked for")
    args = parser.parse_args()
    dataset = load_dataset(str(args.data / args.set))
    queries, matrices = load(args.cache, "queries"), load(args.cache, "documents")
    documents = Documents(matrices)
    scores = [rankings(documents, query) for query in queries]
    lengths = np.array([len(query) for query in queries])
    order = np.argsort(lengths, kind="stable")
    table: dict[str, NDArray[np.float64]] = {}
    for way in scores[0]:
        run = {}
        for query, found in zip(dataset.query_ids, scores, strict=True):
            rows = np.argsort(-found[way], kind="stable")[:K]
            run[query] = [(dataset.document_ids[row], float(found[way][row])) for row in rows]
        values = Measures(["nDCG@10"]).evaluate(dataset.qrels, {K: run}).per_query["nDCG@10"]
        table[way] = np.array([values[query] for query in dataset.query_ids])
    thirds = np.array_split(order, 3)
    print("| |", " | ".join(f"{lengths[t].min()} to {lengths[t].max()} tokens" for t in thirds), "| all |")
    for way, values in table.items():
        print(f"| {way} |", " | ".join(f"{values[t].mean():.3f}" for t in (*thirds, order)), "|", flush=True)

    rng = np.random.default_rng(0)
    kept: dict[str, list[float]] = {}
    for row in rng.choice(len(matrices), args.abstracts, replace=False).tolist():
        found = rankings(documents, matrices[row])
        tops = {}
        for way, values in found.items():
            values[row] = -np.inf
            tops[way] = set(np.argsort(-values, kind="stable")[:K].tolist())
        for way, top in tops.items():
            kept.setdefault(way, []).append(len(top & tops["MaxSim"]) / K)
    print(json.dumps({way: round(float(np.mean(values)), 3) for way, values in kept.items()}))


if __name__ == "__main__":
    main()
