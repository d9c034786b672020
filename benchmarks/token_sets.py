"""Data sets with token vectors, exact MaxSim rankings and nDCG@10: what the late-interaction benchmarks measure on.

Token vectors come from a model of `octavo.TokenEncoder` and are kept in octavo.eval's cache, which goes by the content of each
text; exact rankings (float32 MaxSim over all tokens, not pooled, at full width) lie beside it, by the data set's fingerprint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import with_others
from octavo._arrays import unit_rows
from octavo.compression import SVD, TokenMatrices
from octavo.eval import Dataset, load_dataset
from octavo.eval.running._maxsim import rank_by_maxsim
from octavo.eval.running.encodings import TokenCache
from octavo.eval.running.measures import Measures
from octavo.eval.running.models import EvalModel, load_model

MODEL = "all-MiniLM-L6-v2"
K = 10
SEED = 0

#: Queries drawn from the sets that have more than it takes to tell two settings apart.
SAMPLED = {"squad-v1.1-dev": 500}

Rows = NDArray[np.int64]


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark over these sets takes."""
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder that holds the sets in BEIR layout"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("bench-out/tokens"), help="folder for token vectors and exact rankings"
    )


class TokenSet:
    """Documents and queries as token vectors of unit length, and what counts as relevant.

    Parameters
    ----------
    dataset : Dataset
        Texts and judgements.
    cache : Path
        Where token vectors and exact rankings are kept.
    model : EvalModel
        What makes the token vectors, loaded with ``tokens=True``.
    """

    def __init__(self, dataset: Dataset, cache: Path, model: EvalModel) -> None:
        self.dataset = dataset
        tokens = TokenCache(cache, model)
        self._exact = cache / f"exact-{dataset.info.fingerprint}-{tokens.fingerprint}.npy"
        self.documents = _unit(tokens.embed_tokens(dataset.texts, "documents", progress=True, description=dataset.name))
        self.queries = _unit(tokens.embed_tokens(dataset.queries, "queries"))

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.dataset.name

    def exact(self) -> Rows:
        """Rows of the ten best documents of each query by float32 MaxSim over all tokens."""
        if not self._exact.exists():
            np.save(self._exact, rank_by_maxsim(list(self.documents), list(self.queries), K)[0])
        ranked: Rows = np.load(self._exact)
        return ranked

    def ndcg(self, ranked: Rows) -> NDArray[np.float64]:
        """nDCG@10 of each query; -1 stands for no document."""
        ids = self.dataset.document_ids
        run = {
            query: [(ids[row], float(-place)) for place, row in enumerate(rows) if row >= 0]
            for query, rows in zip(self.dataset.query_ids, ranked.tolist(), strict=True)
        }
        scores = Measures(["nDCG@10"]).evaluate(self.dataset.qrels, {K: run}).per_query["nDCG@10"]
        return np.array([scores[query] for query in self.dataset.query_ids])


def load_token_sets(
    data: Path, names: Sequence[str], cache: Path, model: str = MODEL, documents: int | None = None
) -> Iterator[TokenSet]:
    """Load data sets in BEIR layout one after the other, drawing queries where there are many.

    With `documents`, a set that has more is cut to those that are judged and as many others, drawn at random, as make so many.
    """
    loaded = load_model(model, tokens=True)
    for name in names:
        dataset = load_dataset(str(data / name))
        if name in SAMPLED:
            dataset = drawn(dataset, SAMPLED[name])
        if documents is not None and documents < len(dataset.document_ids):
            dataset = smaller(dataset, documents)
        yield TokenSet(dataset, cache, loaded)


def smaller(dataset: Dataset, n: int) -> Dataset:
    """Return the data set with all judged documents and others, drawn with a fixed seed, `n` in all, in their order."""
    judged = {document for grades in dataset.qrels.values() for document in grades}
    found = with_others(dataset, max(0, n - len(judged & set(dataset.document_ids))), SEED)
    return replace(found, name=f"{dataset.name}, {len(found.texts)} documents")


def drawn(dataset: Dataset, n: int) -> Dataset:
    """Return the data set with `n` of its queries, drawn with a fixed seed."""
    chosen = np.sort(np.random.default_rng(SEED).choice(len(dataset.query_ids), n, replace=False))
    ids = [dataset.query_ids[row] for row in chosen]
    return Dataset(
        name=f"{dataset.name}, {n} queries",
        split=dataset.split,
        source=dataset.source,
        document_ids=dataset.document_ids,
        texts=dataset.texts,
        query_ids=ids,
        queries=[dataset.queries[row] for row in chosen],
        qrels={query: dataset.qrels[query] for query in ids},
    )


def narrowed(documents: TokenMatrices, queries: TokenMatrices, width: int) -> tuple[TokenMatrices, TokenMatrices]:
    """Make token vectors narrower, as ColBERT-type models give them: an uncentred SVD head, then unit length again."""
    rows = np.random.default_rng(SEED).choice(len(documents.flat), min(50_000, len(documents.flat)), replace=False)
    head = SVD(width).fit(documents.flat[rows], seed=SEED)
    encoded = head.encode(documents.flat), head.encode_queries(queries.flat)
    flat, asked = (unit_rows(one) for one in encoded)
    return TokenMatrices(flat, documents.offsets), TokenMatrices(asked, queries.offsets)


def agreement(exact: Rows, found: Rows) -> float:
    """Share of the exact ten best that were found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))


def split(codes: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """Cut the codes of all queries into one matrix a query."""
    return [codes[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def _unit(matrices: Sequence[NDArray[np.float32]]) -> TokenMatrices:
    tokens = TokenMatrices.of(matrices)
    return TokenMatrices(unit_rows(tokens.flat), tokens.offsets)
