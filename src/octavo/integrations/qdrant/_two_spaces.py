"""Search in Qdrant while a collection's model is being changed: points that have the vectors of two spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._sparse_rows import SparseRows
from octavo.integrations.qdrant._filters import Condition, none_of
from octavo.integrations.qdrant._ranker import SpaceRanker
from octavo.integrations.qdrant.transport import DENSE, vector_name
from octavo.retrievers.results import Ranking, SearchResult, Served
from octavo.retrievers.search import Queries, SearchOptions
from octavo.retrievers.two_spaces import (
    DEPTH,
    ENOUGH,
    MORE,
    both_scores,
    either_of,
    options_for,
    parts_merged,
    weight_of,
)
from octavo.store.reencoding import SpaceChangedError
from octavo.words import WordQuery


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

    @property
    def share(self) -> float:
        """The part that is done."""
        return self.done / max(1, self.documents)


class QdrantTwoSpaces:
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
        second.beside(first)
        self._first, self._second = first, second
        self._identity, self._space, self._progress = identity, space, progress
        self._served: Served | None = None
        self.cosines = first.cosines

    def at_most(self, depth: int) -> int:
        """Return how many results there can be."""
        return self._first.at_most(depth)

    def by_words(self, words: Sequence[str | WordQuery], k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by BM25."""
        return self._first.by_words(words, k, options)

    def by_sparse(self, queries: SparseRows, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by learned sparse vectors, which are not changed."""
        return self._first.by_sparse(queries, k, options)

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by the vectors that there are, of the models that have encoded the queries."""
        if queries.next is not None and queries.reencoding != self._identity:
            raise SpaceChangedError
        if not queries.encoded:
            self._served, self.cosines = "new", False
            return self._by_the_new(queries, k, options)
        if queries.next is not None and self._progress.done >= ENOUGH:
            self._served = "both"
            return self._by_both(queries, queries.next, k, options)
        self._served = "old"
        return self._first.by_vectors(queries, k, options)

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
        sample = self._progress.sample
        nothing = np.zeros(0, np.float32)
        asked = [[point.id for point in self._first.found((found, nothing))] for found in keys]
        wanted = [list(dict.fromkeys([*points, *sample])) for points in asked]
        old = self._scores(self._first, queries, wanted)
        new = self._scores(self._second, following, wanted)
        fused = []
        for points, mine, others in zip(asked, old, new, strict=True):
            first, second = _of(mine, points, -np.inf), _of(others, points, np.nan)
            known = _of(mine, sample, np.nan), _of(others, sample, np.nan)
            weight = weight_of(self._progress.share)
            fused.append(both_scores(first, second, *known, weight, cosines=self._first.cosines))
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

    def _by_the_new(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by the new vectors where there are some; words rank the rest, unless they are fused with this anyway."""
        assert queries.next is not None  # one of the models has encoded them
        new = self._second.by_vectors(queries.next, self._second.at_most(k), self._options(options))
        if options.needs_words or queries.words is None:
            return new
        rest = self._first.restricted(none_of(in_space(self._space)))
        words = rest.by_words(queries.words, k, options)
        return [parts_merged(*parts, self._progress.share, k) for parts in zip(new, words, strict=True)]

    # ------------------------------------------------------------------ beside the ranking

    def vectors(self, ranking: Ranking) -> Floats:
        """Return the old model's vectors, which all points have; the new ones where the old model is not at hand."""
        ranker = self._second if self._served == "new" else self._first
        return ranker.stored([point.id for point in self._first.found(ranking)])

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return how good points are for a query, as cosines of the old model, or of the new one where that is alone."""
        if self._served == "new":
            assert queries.next is not None
            found = np.full(len(ranking[0]), -1, np.float32)  # found by their words: as far from the query as can be
            mine = np.flatnonzero(vectors.any(axis=1))
            part = ranking[0][mine], ranking[1][mine]
            found[mine] = self._second.relevance(queries.next, number, part, vectors[mine])
            return found
        if self._served == "both" and self._first.cosines:
            assert queries.next is not None
            return self._fused(_one_of(queries, number), _one_of(queries.next, number), [ranking[0]])[0]
        return self._first.relevance(queries, number, ranking, vectors)

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        """Read the documents."""
        found = self._first.results(rankings)
        return [replace(result, reencoding=self._served) for result in found] if self._served is not None else found


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
