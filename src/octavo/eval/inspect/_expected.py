"""What codecs would lose on a set of embeddings: measured on the sample itself, through real collections in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import octavo
from octavo._arrays import Floats
from octavo.errors import CodecError
from octavo.eval.baselines import rank_all
from octavo.eval.inspect._inspection import CodecExpectation

#: What is tried: from a quarter of float32 down to a thirty-second in RAM.
CODECS = (
    "int8",
    "rotate|int8",
    "int4",
    "rotate|int4",
    "svd:50%|int8",
    "truncate:50%|int8",
    "svd:50%|int8 > int8",
    "binary > int8",
    "rabitq:4",
    "rabitq:2",
    "rabitq:1 > int8",
)

#: Results compared, and queries tried.
DEPTH, QUERIES = 10, 200


def expected_agreements(
    documents: Floats, queries: Floats | None, *, codecs: Sequence[str] = CODECS, seed: int = 0
) -> list[CodecExpectation]:
    """Return how far each codec's ten best agree with those of exact float32 search.

    Parameters
    ----------
    documents : ndarray of shape (n, dim), float32
        The sample; compared by cosine.
    queries : ndarray of shape (m, dim), float32, or None
        Real queries. Without them, some of the documents ask for their neighbours, which flatters codecs that are learned
        from documents.
    codecs : sequence of str
        Those that cannot be had, or do not fit the dimension, are left out.
    seed : int, default=0
        Which queries are tried, and of everything random in a codec.

    Returns
    -------
    list of CodecExpectation
        Fewest bytes in RAM first; none for fewer documents than are compared.
    """
    if len(documents) <= DEPTH + 1:
        return []
    rng = np.random.default_rng(seed)
    asked = queries if queries is not None else documents
    chosen = np.sort(rng.permutation(len(asked))[:QUERIES])
    own = chosen if queries is None else np.full(len(chosen), -1)
    exact, _ = rank_all(_unit(documents), _unit(asked[chosen]), DEPTH + 1)
    found = []
    for codec in codecs:
        try:
            collection = octavo.open(codec=codec, seed=seed)
            collection.add(vectors=documents, ids=list(map(str, range(len(documents)))))
            collection.fit()
        except CodecError:
            continue
        with collection:
            results = collection.search_batch(asked[chosen], k=DEPTH + 1)
            tiers = collection.info().tiers
        agreement = [
            len(set(_best(list(map(int, result.ids)), row)) & set(_best(best, row))) / DEPTH
            for result, best, row in zip(results, exact.tolist(), own.tolist(), strict=True)
        ]
        sizes = [int(tier["row_bytes"]) for tier in tiers]
        found.append(CodecExpectation(codec, sum(sizes), sizes[0], float(np.mean(agreement))))
    return sorted(found, key=lambda one: (one.ram_bytes, one.vector_bytes, -one.agreement))


def _best(rows: list[int], own: int) -> list[int]:
    """Return the documents that count: not the one that asks."""
    return [row for row in rows if row != own][:DEPTH]


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
