"""Search in Qdrant while a collection's model is being changed: points that have the vectors of two spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.integrations.qdrant._filters import Condition, none_of
from octavo.integrations.qdrant._ranker import SpaceRanker
from octavo.integrations.qdrant.transport import DENSE, vector_name
from octavo.retrievers.results import Ranking
from octavo.retrievers.search import Queries, SearchOptions
from octavo.retrievers.two_spaces import (
    DEPTH,
    MORE,
    OldAndNew,
    both_scores,
    either_of,
    options_for,
    parts_merged,
)


def in_space(space: int) -> Condition:
    """Return the condition that a point has vectors in a space."""
    return {"has_vector": vector_name(DENSE, space)}


@dataclass(frozen=True)
class Progress:
    """How far a change of the model is.

    Parameters
    ----------
    done, documents : int
        Documents that have the new vectors, and all.
    sample : sequence of str
        Points that have both.
    """

    done: int
    documents: int
    sample: Sequence[str]


class QdrantTwoSpaces(OldAndNew[SpaceRanker]):
    """Ranks points by the vectors of two models; see `octavo.retrievers.two_spaces.TwoSpaces`.

    Parameters
    ----------
    first, second : QdrantRanker
        By the old model's vectors, and by words; by the new model's.
    identity : str
        Which change of the model is under way.
    space : int
        The second space.
    progress : Progress
        How far it is.
    """

    def __init__(self, first: SpaceRanker, second: SpaceRanker, identity: str, space: int, progress: Progress) -> None:
        super().__init__(first, second, identity, progress.done, progress.documents)
        second.beside(first)
        self._space, self._known = space, progress.sample

    def _by_both(self, queries: Queries, following: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        depth = DEPTH * k + MORE
        old = self._first.by_vectors(queries, self._first.at_most(depth), options)
        new = self._second.by_vectors(following, self._second.at_most(depth), self._options(options))
        keys = [either_of(one[0], other[0]) for one, other in zip(old, new, strict=True)]
        rankings = []
        for found, scores in zip(keys, self._fused(queries, following, keys), strict=True):
            order = np.lexsort((found, -scores))[:k]
            rankings.append((found[order], scores[order]))
        return rankings

    def _options(self, options: SearchOptions) -> SearchOptions:
        return options_for(options, late=self._second.late)

    def _fused(self, queries: Queries, following: Queries, keys: Sequence[npt.NDArray[np.int64]]) -> list[Floats]:
        """Return the scores of points for each query, on the old model's scale."""
        sample = self._known
        nothing = np.zeros(0, np.float32)
        asked = [[point.id for point in self._first.found((found, nothing))] for found in keys]
        wanted = [list(dict.fromkeys([*points, *sample])) for points in asked]
        old = self._scores(self._first, queries, wanted)
        new = self._scores(self._second, following, wanted)
        fused = []
        for points, mine, others in zip(asked, old, new, strict=True):
            first, second = _of(mine, points, -np.inf), _of(others, points, np.nan)
            known = _of(mine, sample, np.nan), _of(others, sample, np.nan)
            fused.append(both_scores(first, second, *known, self._weight, cosines=self._first.cosines))
        return fused

    @staticmethod
    def _scores(ranker: SpaceRanker, queries: Queries, points: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """Return the scores of those points that have vectors, for each query."""
        searches, offsets = ranker.comparisons(queries, points)
        answers = ranker.ask(searches)
        return [
            {point.id: point.score + float(offset) for point in answer}
            for answer, offset in zip(answers, offsets, strict=True)
        ]

    def _by_the_new(self, queries: Queries, following: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        new = self._second.by_vectors(following, self._second.at_most(k), self._options(options))
        if options.needs_words or queries.words is None:
            return new
        rest = self._first.restricted(none_of(in_space(self._space)))
        words = rest.by_words(queries.words, k, options)
        return [parts_merged(*parts, self._share, k) for parts in zip(new, words, strict=True)]

    # ------------------------------------------------------------------ beside the ranking

    def vectors(self, ranking: Ranking) -> Floats:
        ranker = self._second if self._served == "new" else self._first
        return ranker.stored([point.id for point in self._first.found(ranking)])

    def _has_new(self, ranking: Ranking, vectors: Floats) -> npt.NDArray[np.bool_]:
        there: npt.NDArray[np.bool_] = np.any(vectors != 0, axis=1)
        return there

    def _fused_of(self, queries: Queries, following: Queries, number: int, found: npt.NDArray[np.int64]) -> Floats:
        return self._fused(_one_of(queries, number), _one_of(following, number), [found])[0]


def _of(scores: Mapping[str, float], points: Sequence[str], missing: float) -> npt.NDArray[np.float64]:
    return np.array([scores.get(point, missing) for point in points], np.float64)


def _one_of(queries: Queries, number: int) -> Queries:
    """Return one query of a batch, in the forms that rank by vectors."""
    part = slice(number, number + 1)
    tokens = queries.tokens
    return Queries(
        vectors=queries.vectors[part] if queries.vectors is not None else None,
        tokens=type(tokens).of([tokens[number]]) if tokens is not None else None,
    )
