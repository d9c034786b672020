"""One late-interaction match of a run, token by token: what the report draws as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from octavo.collection import Explanation
from octavo.eval.datasets import Dataset

_DEPTH = 10


class Explains(Protocol):
    """A multi-vector collection, local or not, opened with an encoder that names the tokens."""

    def explain(self, query: Any, id: str) -> Explanation:
        """Say which of a document's vectors each token of a query matches."""
        ...


def explain_match(
    collection: Explains, dataset: Dataset, found: Mapping[str, Sequence[tuple[str, float]]]
) -> dict[str, Any]:
    """Return which tokens of a query match which stored vectors of a document that it found.

    The pair is the shortest of those that are judged relevant, and of all if none is: it has to be read in a picture.

    Parameters
    ----------
    collection : MultiVectorCollection, or one that explains like it
        Opened with an encoder that names the tokens.
    dataset : Dataset
        The texts and judgements.
    found : mapping of str to sequence of (str, float)
        Documents found for each query, with their scores.

    Returns
    -------
    dict
        What `octavo.eval.report.report` takes as ``explain``; empty when nothing was found.
    """
    texts = dict(zip(dataset.document_ids, dataset.texts, strict=True))
    queries = dict(zip(dataset.query_ids, dataset.queries, strict=True))
    pairs = [(query, name) for query, ranking in found.items() for name, _ in ranking[:_DEPTH]]
    relevant = [(query, name) for query, name in pairs if dataset.qrels.get(query, {}).get(name, 0) > 0]
    if not pairs:
        return {}
    query, name = min(relevant or pairs, key=lambda pair: (len(queries[pair[0]]) + len(texts[pair[1]]), pair))
    match = collection.explain(queries[query], name)
    rows, columns = match.similarities.shape
    return {
        "query_tokens": match.query_tokens or [str(number) for number in range(1, rows + 1)],
        "document_tokens": match.document_tokens or [str(number) for number in range(1, columns + 1)],
        "scores": [[round(float(value), 4) for value in row] for row in match.similarities],
        "title": f"{dataset.name}: query {query}, document {name}, MaxSim {match.score:.2f}",
    }
