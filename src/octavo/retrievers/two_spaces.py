"""Search while a collection's model is being changed: documents that have two vectors, of the old model and of the new one.

Scores of two models are not of one kind. For each query, those of either model become z-scores, by their mean and spread over
a sample of documents that have both vectors. A document with both is given the weighted mean of the two; one that has only the
old vector keeps its own, with a part of what a learned map says of it where that helps. What is returned is on the old model's
scale (docs/decisions/reencode.md has the measurements).
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, unit_rows
from octavo._sparse_rows import SparseRows
from octavo.errors import CorruptCollectionError
from octavo.retrievers.late_interaction import LateOptions, LateRanker
from octavo.retrievers.learned_map import LEAST, MAPPED, MOST, LearnedMap, helpful_map
from octavo.retrievers.ranker import Ranker
from octavo.retrievers.results import Ranking, SearchResult, Served
from octavo.retrievers.search import Queries, SearchOptions, SnapshotRanker
from octavo.store.reencoding import SpaceChangedError
from octavo.store.snapshot import Slots, Snapshot
from octavo.words import WordQuery

Scores: TypeAlias = npt.NDArray[np.float32]

R = TypeVar("R", bound=Ranker)

#: Documents over which the mean and the spread of scores are taken, and how many it takes to say anything.
SAMPLE, ENOUGH = 256, 64

#: The new model's weight is the share of documents that it has encoded, but at least this.
_LEAST_WEIGHT = 0.5

#: Documents of either ranking that are scored by both models: so many times k, and some more.
DEPTH, MORE = 2, 10

#: Smoothing of ranks where words stand in for vectors; as in reciprocal rank fusion.
_RANK = 60.0


class Remembered:
    """What searches by both spaces of a collection keep for the next ones."""

    def __init__(self) -> None:
        self._sample: tuple[tuple[str, int, int], Slots] | None = None
        self._learning = threading.Lock()
        self._known: tuple[str, int] | None = None
        self._map: LearnedMap | None = None

    def sample(self, following: Snapshot, identity: str) -> Slots:
        """Return documents that have both vectors, the same for each query of one state.

        Parameters
        ----------
        following : Snapshot
            Of the space that is being filled.
        identity : str
            Which change of the model it is.
        """
        known, state = self._sample, (identity, following.n_slots, following.n_alive)
        if known is not None and known[0] == state:
            return known[1]
        n = following.n_slots
        slots = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64))
        slots = slots[following.alive[slots]]
        if len(slots) < ENOUGH:
            alive = np.flatnonzero(following.alive)
            slots = alive[:: max(1, len(alive) // SAMPLE)]
        self._sample = state, slots
        return slots

    def learned(
        self, first: SnapshotRanker, second: SnapshotRanker, following: Snapshot, identity: str
    ) -> LearnedMap | None:
        """Return a map that helps to rank documents without a new vector, None where none does.

        Parameters
        ----------
        first, second : SnapshotRanker
            By the old model's vectors, by the new one's.
        following : Snapshot
            Of the space that is being filled.
        identity : str
            Which change of the model it is.
        """
        if following.n_alive < LEAST or not (first.cosines and second.cosines):
            return None
        wanted = identity, min(following.n_alive, 2 * MOST).bit_length()
        if self._known == wanted or not self._learning.acquire(blocking=False):  # others take what there is meanwhile
            return self._map if self._known is not None and self._known[0] == identity else None
        try:
            alive = np.flatnonzero(following.alive)
            slots = alive[np.unique(np.linspace(0, len(alive) - 1, min(len(alive), MOST)).astype(np.int64))]
            ranking = slots, np.zeros(len(slots), np.float32)
            vectors = [unit_rows(ranker.vectors(ranking), keep_zeros=True) for ranker in (first, second)]
            self._map, self._known = helpful_map(*vectors), wanted
            return self._map
        finally:
            self._learning.release()


class OldAndNew(ABC, Generic[R]):
    """Ranks documents by the vectors of two models, wherever these are; see `octavo.retrievers.ranker.Ranker`.

    Parameters
    ----------
    first, second : Ranker
        By the old model's vectors, and by words; by the new model's, those documents that have them.
    identity : str
        Which change of the model is under way.
    done, documents : int
        Documents that have the new vectors, and all.
    """

    def __init__(self, first: R, second: R, identity: str, done: int, documents: int) -> None:
        self._first, self._second = first, second
        self._identity, self._done = identity, done
        self._share = done / max(1, documents)
        self._weight = weight_of(self._share)
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
            assert queries.next is not None  # one of the models has encoded them
            self._served, self.cosines = "new", False
            return self._by_the_new(queries, queries.next, k, options)
        if queries.next is not None and self._done >= ENOUGH:
            try:
                rankings = self._by_both(queries, queries.next, k, options)
            except CorruptCollectionError:  # verify names it; the old vectors are all there
                pass
            else:
                self._served = "both"
                return rankings
        self._served = "old"
        return self._first.by_vectors(queries, k, options)

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return how good documents are for a query, as cosines of the old model, or of the new one where that is alone."""
        if self._served == "new":
            assert queries.next is not None
            found = np.full(len(ranking[0]), -1, np.float32)  # found by their words: as far from the query as can be
            mine = np.flatnonzero(self._has_new(ranking, vectors))
            part = ranking[0][mine], ranking[1][mine]
            found[mine] = self._second.relevance(queries.next, number, part, vectors[mine])
            return found
        if self._served == "both" and self._first.cosines:
            assert queries.next is not None
            return self._fused_of(queries, queries.next, number, ranking[0])
        return self._first.relevance(queries, number, ranking, vectors)

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        """Read the documents."""
        found = self._first.results(rankings)
        return [replace(result, reencoding=self._served) for result in found] if self._served is not None else found

    @abstractmethod
    def _by_both(self, queries: Queries, following: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by both models; `following` are the queries by the new one."""

    @abstractmethod
    def _by_the_new(self, queries: Queries, following: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by the new vectors where there are some; words rank the rest, unless they are fused with this anyway."""

    @abstractmethod
    def _fused_of(self, queries: Queries, following: Queries, number: int, found: Slots) -> Scores:
        """Return the scores of documents for one query by both models, on the old model's scale."""

    @abstractmethod
    def _has_new(self, ranking: Ranking, vectors: Floats) -> npt.NDArray[np.bool_]:
        """Tell which documents have a new vector; `vectors` are what `vectors` returned of them."""

    @abstractmethod
    def vectors(self, ranking: Ranking) -> Floats:
        """Return the old model's vectors, which all documents have; the new ones where the old model is not at hand."""


class TwoSpaces(OldAndNew[SnapshotRanker]):
    """Ranks documents by the vectors of two models.

    Parameters
    ----------
    snapshot : Snapshot
        With a change of the model under way.
    first : SnapshotRanker
        Ranks by the old model's vectors, and by words.
    second : SnapshotRanker
        Ranks by the new model's vectors those documents that have them.
    remembered : Remembered
        Of searches before.
    """

    def __init__(
        self, snapshot: Snapshot, first: SnapshotRanker, second: SnapshotRanker, remembered: Remembered
    ) -> None:
        assert snapshot.next is not None  # otherwise there is one space
        assert snapshot.reencoding is not None
        super().__init__(first, second, snapshot.reencoding.identity, snapshot.next.n_alive, snapshot.n_alive)
        self._next, self._remembered = snapshot.next, remembered
        self._mapped: tuple[Queries, Floats | None] | None = None  # of the new model, and for the old vectors

    # ------------------------------------------------------------------ both models

    def _by_both(self, queries: Queries, following: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        depth = DEPTH * k + MORE
        old = self._first.by_vectors(queries, self._first.at_most(depth), options)
        new = self._by_second(following, depth, options)
        sample = self._sample()
        rankings = []
        for number in range(len(queries)):
            slots = either_of(old[number][0], new[number][0])
            scores = self._fused(queries, following, number, slots, sample)
            order = np.lexsort((slots, -scores))[:k]
            rankings.append((slots[order], scores[order]))
        return rankings

    def _by_second(self, following: Queries, depth: int, options: SearchOptions) -> list[Ranking]:
        depth = self._second.at_most(depth)
        if not depth:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(following)
        return self._second.by_vectors(
            following, depth, options_for(options, late=isinstance(self._second, LateRanker))
        )

    def _sample(self) -> Slots:
        return self._remembered.sample(self._next, self._identity)

    def _fused(self, queries: Queries, following: Queries, number: int, slots: Slots, sample: Slots) -> Scores:
        """Return the scores of documents for one query, on the old model's scale."""
        n, both = len(slots), slots < self._next.n_slots
        again, compared = slots[both], np.concatenate([slots, sample])
        mapped = self._mapped_for(following) if len(again) < n else None
        if mapped is None:
            scored = self._first.scores(queries, number, compared).astype(np.float64)[None]
        else:  # both are compared with the old vectors
            assert queries.vectors is not None  # of one vector a document, or nothing would be mapped
            rows = np.stack([queries.vectors[number], mapped[number]])
            scored = self._first.scores_of_rows(rows, compared).astype(np.float64)
        old, old_known = scored[0, :n], scored[0, n:]
        found = self._second.scores(following, number, np.concatenate([again, sample])).astype(np.float64)
        new, new_known = np.full(n, np.nan), found[len(again) :]
        new[both] = found[: len(again)]
        if mapped is not None:
            old = blended(old, scored[1, :n], old_known, scored[1, n:], ~both)
        return both_scores(old, new, old_known, new_known, self._weight, cosines=self._first.cosines)

    def _mapped_for(self, following: Queries) -> Floats | None:
        """Return queries of the new model as queries that the old vectors are compared with; None where that does not help."""
        if following.vectors is None:
            return None
        if self._mapped is None or self._mapped[0] is not following:
            found = self._remembered.learned(self._first, self._second, self._next, self._identity)
            self._mapped = following, found.queries(following.vectors) if found is not None else None
        return self._mapped[1]

    # ------------------------------------------------------------------ the new model alone

    def _by_the_new(self, queries: Queries, following: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        new = self._by_second(following, k, options)
        if options.needs_words or not self._first.knows_words:
            return new
        assert queries.words is not None  # only words are encoded here
        rest = self._first.beyond(self._next.n_slots)
        words = self._first.by_words_of(queries.words, k, rest)
        return [parts_merged(*parts, self._share, k) for parts in zip(new, words, strict=True)]

    # ------------------------------------------------------------------ beside the ranking

    def _has_new(self, ranking: Ranking, vectors: Floats) -> npt.NDArray[np.bool_]:
        return ranking[0] < self._next.n_slots

    def _fused_of(self, queries: Queries, following: Queries, number: int, found: Slots) -> Scores:
        return self._fused(queries, following, number, found, self._sample())

    def vectors(self, ranking: Ranking) -> Floats:
        if self._served != "new":
            return self._first.vectors(ranking)
        slots = ranking[0]
        found = np.zeros((len(slots), self._second.dim), np.float32)
        mine = slots < self._next.n_slots
        found[mine] = self._second.vectors((slots[mine], ranking[1][mine]))
        return found


def weight_of(share: float) -> float:
    """Return the weight of the new model's scores when it has encoded a share of the documents."""
    return max(_LEAST_WEIGHT, min(1.0, share))


def options_for(options: SearchOptions, *, late: bool) -> SearchOptions:
    """Return the options of a search as a ranker of one vector a document, or of many, reads them."""
    if late == isinstance(options, LateOptions):
        return options
    if late:
        return LateOptions(**{field.name: getattr(options, field.name) for field in fields(options)})
    return SearchOptions(**{field.name: getattr(options, field.name) for field in fields(SearchOptions)})


def both_scores(
    old: npt.NDArray[np.float64],
    new: npt.NDArray[np.float64],
    old_known: npt.NDArray[np.float64],
    new_known: npt.NDArray[np.float64],
    weight: float,
    *,
    cosines: bool,
) -> Scores:
    """Return the scores of documents for one query by two models, on the old model's scale.

    Parameters
    ----------
    old, new : ndarray of shape (n,)
        Scores by either model. `new` is NaN for documents that have no new vector yet; minus infinity in either of them says
        that a model leaves nothing of a document to compare.
    old_known, new_known : ndarray of shape (m,)
        The same of a sample of documents that have both vectors: what mean and spread are taken of.
    weight : float
        Of the new model.
    cosines : bool
        Whether the old scores are cosines, so that none may exceed 1.

    Returns
    -------
    ndarray of shape (n,), float32

    Examples
    --------
    >>> import numpy as np
    >>> known = np.array([0.0, 0.2, 0.4])
    >>> both_scores(np.array([0.3, 0.3]), np.array([5.0, np.nan]), known, 10 * known, 0.5, cosines=True).tolist()
    [0.4000000059604645, 0.30000001192092896]
    """
    usable = np.isfinite(old_known) & np.isfinite(new_known)  # documents may be without tokens
    if not usable.all():
        old_known, new_known = old_known[usable], new_known[usable]
    middle, spread = _moments(old_known)
    new_middle, new_spread = _moments(new_known)
    if not spread or not new_spread:
        return old.astype(np.float32)
    share, new_share = (1 - weight) / spread, weight / new_spread
    # the mean of two z-scores spreads less than either, the less the models agree
    _, narrower = _moments(share * (old_known - middle) + new_share * (new_known - new_middle))
    narrower = narrower or 1.0
    fused = old.copy()
    both = ~np.isnan(new)
    mine, following = old[both], new[both]
    mixed = middle + spread / narrower * (share * (mine - middle) + new_share * (following - new_middle))
    if not np.isfinite(mixed).all():  # a document without tokens by one of the models: the other one alone
        alone = middle + spread / new_spread * (following - new_middle)
        mixed = np.where(np.isfinite(mine), np.where(np.isfinite(following), mixed, mine), alone)
    fused[both] = mixed
    if cosines and len(fused) and fused.max() > 1:  # no cosine is, and others build on that
        fused = middle + (fused - middle) * (1 - middle) / (fused.max() - middle)
    return fused.astype(np.float32)


def blended(
    old: npt.NDArray[np.float64],
    mapped: npt.NDArray[np.float64],
    old_known: npt.NDArray[np.float64],
    mapped_known: npt.NDArray[np.float64],
    alone: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Return the old scores of documents, with a part of the mapped ones for those that have the old vector alone.

    Parameters
    ----------
    old, mapped : ndarray of shape (n,)
        Scores of old vectors, for the old model's query and for the mapped one.
    old_known, mapped_known : ndarray of shape (m,)
        The same of a sample.
    alone : ndarray of bool of shape (n,)
        Which documents have the old vector alone.
    """
    middle, spread = _moments(old_known)
    mapped_middle, mapped_spread = _moments(mapped_known)
    if not spread or not mapped_spread:
        return old
    share, mapped_share = (1 - MAPPED) / spread, MAPPED / mapped_spread
    _, narrower = _moments(share * (old_known - middle) + mapped_share * (mapped_known - mapped_middle))
    mixed = middle + spread / (narrower or 1.0) * (share * (old - middle) + mapped_share * (mapped - mapped_middle))
    return np.where(alone, mixed, old)


def parts_merged(first: Ranking, second: Ranking, share: float, k: int) -> Ranking:
    """Return one ranking of two, each of which covers a part of the documents: the first one `share` of them.

    A document of rank r in a part that is a share s of all is taken for one of rank r / s.
    """
    share = min(1.0, max(share, 1e-6))
    mine, others = first[0], second[0]
    ranks = np.concatenate([(1 + np.arange(len(mine))) / share, (1 + np.arange(len(others))) / max(1 - share, 1e-6)])
    keys = np.concatenate([mine, others]).astype(np.int64)
    order = np.lexsort((keys, ranks))[:k]
    return keys[order], (1 / (_RANK + ranks[order])).astype(np.float32)


def _moments(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation; zeros for less than two values."""
    if len(values) < 2:
        return 0.0, 0.0
    mean = float(values.sum()) / len(values)
    return mean, math.sqrt(max(0.0, float(values @ values) / len(values) - mean * mean))


def either_of(a: Slots, b: Slots) -> Slots:
    """Return what is in one of two arrays, each once, in rising order."""
    found = np.concatenate([a, b])
    found.sort()
    if len(found) < 2:
        return found
    kept: Slots = found[np.concatenate([[True], found[1:] != found[:-1]])]
    return kept
