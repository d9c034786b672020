"""What searches find while a collection is changed from one model to another: measured beforehand, on one's own data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import octavo
from octavo._arrays import Floats
from octavo._validation import check_number
from octavo.encoders.dense import Encoder
from octavo.errors import ParameterError
from octavo.eval.datasets import Dataset
from octavo.eval.running.measures import Measures
from octavo.eval.vectors import ReadyVectors

#: Shares of the documents that are re-encoded when searches are measured.
DEFAULT_SHARES = (0.1, 0.25, 0.5, 0.75)

#: Texts encoded at a time, and steps in which a collection is re-encoded.
_BATCH, _STEPS = 256, 40


@dataclass(frozen=True)
class MigrationPoint:
    """How good searches are at one moment of a change.

    Parameters
    ----------
    share : float
        Part of the documents that is re-encoded: 0 is the old model, 1 the new one.
    quality : float
        The measure.
    of_new : float
        The same as a part of the new model's.
    above_old : float
        How much better than the old model, as a part of the new model's.
    query_ms : float
        Median time of a search, without encoding.
    """

    share: float
    quality: float
    of_new: float
    above_old: float
    query_ms: float


class _Known:
    """Vectors of known texts behind the interface of a model; may be told to stop."""

    def __init__(self, name: str, dataset: Dataset, documents: Floats, queries: Floats) -> None:
        self.name = name
        self.limit: int | None = None
        self._documents = dict(zip(dataset.texts, documents, strict=True))
        self._queries = dict(zip(dataset.queries, queries, strict=True))
        self.seconds = 0.0

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        if self.limit is not None:
            if len(texts) > self.limit:
                raise _EnoughError
            self.limit -= len(texts)
        return np.array([self._documents[text] for text in texts])

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        began = time.perf_counter()
        found = np.array([self._queries[text] for text in texts])
        self.seconds += time.perf_counter() - began
        return found


class _EnoughError(Exception):
    """So many documents were to be encoded."""


def vectors_of(model: Encoder | ReadyVectors, dataset: Dataset) -> tuple[Floats, Floats]:
    """Return the vectors of a data set's documents and queries, encoded or ready."""
    if isinstance(model, ReadyVectors):
        return model.of(dataset)
    texts = list(dataset.texts)
    parts = [model.encode_documents(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    return np.concatenate(parts), model.encode_queries(list(dataset.queries))


def measure_migration(
    dataset: Dataset,
    old: tuple[Floats, Floats],
    new: tuple[Floats, Floats],
    *,
    codec: str = "int8",
    shares: Sequence[float] = DEFAULT_SHARES,
    measure: str = "nDCG@10",
) -> list[MigrationPoint]:
    """Re-encode a collection of a data set and measure its searches at some moments.

    Parameters
    ----------
    dataset : Dataset
        Documents, queries and judgements.
    old, new : tuple of ndarray
        Vectors of documents and queries of either model.
    codec : str, default="int8"
        Of both.
    shares : sequence of float
        Between 0 and 1, rising.
    measure : str, default="nDCG@10"
        What to measure.

    Returns
    -------
    list of MigrationPoint
        The old model, each share, the new model.

    Raises
    ------
    ParameterError
        When shares do not rise between 0 and 1.
    """
    wanted = [check_number(share, "a share", above=0, below=1) for share in shares]
    if wanted != sorted(set(wanted)):
        raise ParameterError(f"expected shares that rise, got {', '.join(map(str, shares))}")
    measures = Measures([measure])
    first, second = (_Known(name, dataset, *vectors) for name, vectors in (("old", old), ("new", new)))
    found: list[tuple[float, float, float]] = []
    n = len(dataset.document_ids)
    with octavo.open(None, first, codec=codec) as kb:
        kb.add(list(dataset.texts), ids=list(dataset.document_ids))
        kb.fit()
        found.append((0.0, *_measured(kb, dataset, measures, (first, second))))
        done = 0
        for share in wanted:
            left = second.limit = max(0, round(share * n) - done)
            done += left
            while left:
                with contextlib.suppress(_EnoughError):
                    kb.reencode(second, batch_size=min(left, n // _STEPS + 1))
                left = second.limit if second.limit < left else 0
            state = kb.info().reencoding
            found.append(
                (state["share"] if state is not None else 1.0, *_measured(kb, dataset, measures, (first, second)))
            )
        second.limit = None
        kb.reencode(second)
        kb.fit()
        found.append((1.0, *_measured(kb, dataset, measures, (first, second))))
    best, before = found[-1][1] or 1.0, found[0][1]
    return [
        MigrationPoint(share, quality, quality / best, (quality - before) / best, milliseconds)
        for share, quality, milliseconds in found
    ]


def _measured(
    kb: octavo.Collection, dataset: Dataset, measures: Measures, encoders: tuple[_Known, _Known]
) -> tuple[float, float]:
    """Return the quality of searches, and their median time in milliseconds without encoding."""
    (name,) = measures.names
    depth = measures.depths[name]
    times, run = [], {}
    for identifier, query in zip(dataset.query_ids, dataset.queries, strict=True):
        encoding = sum(encoder.seconds for encoder in encoders)
        began = time.perf_counter()
        result = kb.search(query, depth + 1)
        times.append(time.perf_counter() - began - sum(encoder.seconds for encoder in encoders) + encoding)
        hits: list[tuple[str, Any]] = list(zip(result.ids, result.scores.tolist(), strict=True))
        if dataset.ignore_identical_ids:
            hits = [hit for hit in hits if hit[0] != identifier]
        run[identifier] = _decreasing(hits[:depth])
    scores = measures.evaluate(dataset.qrels, {depth: run})
    return scores.mean[name], 1000 * float(np.median(times))


def _decreasing(hits: list[tuple[str, Any]]) -> list[tuple[str, float]]:
    """Return hits in their order, whatever a measure makes of equal scores."""
    return [(name, float(len(hits) - place)) for place, (name, _) in enumerate(hits)]
