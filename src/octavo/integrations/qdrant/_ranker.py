"""Rankings that Qdrant makes: what a collection there supplies to `octavo.collection.searching`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np

from octavo._arrays import Floats
from octavo._sparse_rows import SparseRows
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import ParameterError
from octavo.integrations.qdrant._filters import Condition, all_of
from octavo.integrations.qdrant.late_points import LateCodec
from octavo.integrations.qdrant.points import BM25Encoder, ClientCodec, document_of, order_of
from octavo.integrations.qdrant.transport import DENSE, TOKENS, Point, Search, Transport
from octavo.retrievers.late_interaction import LateOptions
from octavo.retrievers.results import Ranking, SearchResult
from octavo.retrievers.search import Queries, SearchOptions, cosines
from octavo.store.documents import chunked
from octavo.words import Phrase, Prefix, WordQuery, Words
from octavo.words.matching import leaves

_QUERIES_AT_ONCE = 32

#: Results up to which Qdrant is asked for them without knowing whether there are as many; for more, it is asked to count.
_WITHOUT_COUNTING = 10_000


#: How many more points than results are looked at first where texts have to be read to see whether they match, and then.
_MATCH_FACTOR = 4


class QdrantRanker:
    """Ranks the points of one condition.

    Parameters
    ----------
    transport : Transport
        The collection.
    where : Condition
        Which points may come back.
    words : BM25Encoder
        Makes of a query's words what the points were given.
    oversampling : float or None
        Candidates rescored per result, where Qdrant rescores and the options do not say.
    sparse : bool
        Whether points have learned sparse vectors.
    space : int
        Which of the points' vectors are compared.
    """

    late = False

    def __init__(
        self,
        transport: Transport,
        where: Condition,
        words: BM25Encoder,
        oversampling: float | None,
        *,
        sparse: bool = False,
        space: int = 0,
    ) -> None:
        self._transport = transport
        self._has_sparse = sparse
        self._where = where
        self._words = words
        self._oversampling = oversampling
        self._space = space
        self._points: dict[int, Point] = {}
        self.cosines = False

    def beside(self, other: QdrantRanker) -> None:
        """Give points the same numbers as another ranker."""
        self._points = other._points

    def restricted(self, condition: Condition) -> Self:
        """Return a ranker of the same points, but of those alone for which a condition holds as well."""
        ranker = copy.copy(self)
        ranker._where = all_of(self._where, condition)
        return ranker

    def at_most(self, depth: int) -> int:
        """Return how many results there can be; a request of its own, so only where the number is large."""
        return depth if depth <= _WITHOUT_COUNTING else min(depth, self._transport.count(self._where))

    def by_words(self, words: Sequence[str | WordQuery], k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by BM25, as the stored weights of the words say."""
        sparse = [self._words.query(text) if isinstance(text, str) else ([], []) for text in words]
        with_vectors = _diversified(options)
        asked = [Search(k, self._where, text=terms, with_vectors=with_vectors) for terms in sparse if terms[0]]
        answers = iter(self.ask(asked))
        return [
            self._matching(text, k, with_vectors)
            if isinstance(text, WordQuery)
            else self._named(next(answers) if terms[0] else [])
            for text, terms in zip(words, sparse, strict=True)
        ]

    def _matching(self, query: WordQuery, k: int, with_vectors: bool) -> Ranking:
        """Rank by the words that may be there, and keep the texts that match: Qdrant keeps weights, and no order of words."""
        terms = self._words.query(" ".join(map(_text_of, leaves(query))))
        depth = k * _MATCH_FACTOR
        while terms[0]:
            (found,) = self.ask([Search(depth, self._where, text=terms, with_vectors=with_vectors)])
            kept = [point for point in found if self._words.matches(query, document_of(point).words)]
            if len(kept) >= k or len(found) < depth:
                return self._named(kept[:k])
            depth *= _MATCH_FACTOR
        return self._named([])

    def by_sparse(self, queries: SparseRows, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by the inner product of learned sparse vectors."""
        self._require_sparse()
        with_vectors = _diversified(options)
        pairs = [(terms.tolist(), weights.tolist()) for terms, weights in queries]
        asked = [Search(k, self._where, sparse=pair, with_vectors=with_vectors) for pair in pairs if pair[0]]
        answers = iter(self.ask(asked))
        return [self._named(next(answers) if pair[0] else []) for pair in pairs]

    def _require_sparse(self) -> None:
        if not self._has_sparse:
            raise ParameterError(
                "the collection in Qdrant holds no sparse vectors: create one with sparse=, and add documents to it"
            )

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        """Read the documents out of the payloads that came with the points."""
        found = []
        for keys, scores in rankings:
            points = [self._points[key] for key in keys.tolist()]
            documents = [document_of(point) for point in points]
            ids = [document.id for document in documents]
            found.append(SearchResult(ids, scores, documents, [point.payload.get("payload") for point in points]))
        return found

    def _comparison(self, points: Sequence[str], **query: Any) -> Search:
        """Return what asks for the scores of some points, whatever else matches."""
        where = {"has_id": list(points)}
        return Search(len(points), where, exact=True, space=self._space, with_payload=False, **query)

    def _retrieved(self, points: Sequence[str], kind: str) -> list[Point]:
        return self._transport.retrieve(list(points), False, vectors=[kind], space=self._space)

    def ask(self, searches: Sequence[Search]) -> list[list[Point]]:
        """Answer searches."""
        return [ranking for part in chunked(searches, _QUERIES_AT_ONCE) for ranking in self._transport.search(part)]

    def _named(self, points: Sequence[Point], offset: float = 0.0) -> Ranking:
        """Return a ranking of points by the numbers that order documents by age, and remember which is which."""
        keys = []
        for point in points:
            key = order_of(point)
            while (known := self._points.setdefault(key, point)).id != point.id:  # two writers in one nanosecond
                key += 1
            if known.dense is None:
                self._points[key] = point
            keys.append(key)
        scores = np.array([point.score + offset for point in points], np.float32)
        return np.array(keys, np.int64), scores

    def found(self, ranking: Ranking) -> list[Point]:
        """Return the points of a ranking that this ranker, or one beside it, has made."""
        return [self._points[key] for key in ranking[0].tolist()]


class QdrantDenseRanker(QdrantRanker):
    """Ranks points with one vector each.

    Parameters
    ----------
    transport, where, words, oversampling
        See `QdrantRanker`.
    sparse, space
        See `QdrantRanker`.
    codec : ClientCodec
        What runs before vectors are sent.
    cosines : bool
        Whether scores are cosines.
    """

    def __init__(
        self,
        transport: Transport,
        where: Condition,
        words: BM25Encoder,
        oversampling: float | None,
        *,
        codec: ClientCodec,
        cosines: bool,
        sparse: bool = False,
        space: int = 0,
    ) -> None:
        super().__init__(transport, where, words, oversampling, sparse=sparse, space=space)
        self._codec = codec
        self.cosines = cosines

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by vectors."""
        assert queries.vectors is not None  # the options ask for them
        encoded, offsets = self._codec.queries(queries.vectors)
        oversampling = options.oversample or self._oversampling
        searches = [
            Search(
                k,
                self._where,
                dense=row.tolist(),
                ef=options.ef,
                exact=bool(options.exact),
                oversampling=None if options.exact else oversampling,
                with_vectors=_diversified(options),
                space=self._space,
            )
            for row in encoded
        ]
        return [self._named(points, float(offset)) for points, offset in zip(self.ask(searches), offsets, strict=True)]

    def comparisons(self, queries: Queries, points: Sequence[Sequence[str]]) -> tuple[list[Search], Floats]:
        """Return what asks for the exact scores of some points for each query, and what to add to those.

        Parameters
        ----------
        queries : Queries
            By this space's model.
        points : sequence of (sequence of str)
            Points for each of them.
        """
        assert queries.vectors is not None  # of this space
        encoded, offsets = self._codec.queries(queries.vectors)
        rows = zip(encoded, points, strict=True)
        return [self._comparison(each, dense=row.tolist()) for row, each in rows], offsets

    def stored(self, points: Sequence[str]) -> Floats:
        """Return the vectors of points by which they are told apart in MMR, one row each."""
        found = {point.id: point.dense for point in self._retrieved(points, DENSE)}
        nothing = [0.0] * self._codec.out_dim
        return self._codec.decode(np.array([found.get(point) or nothing for point in points], np.float32))

    def vectors(self, ranking: Ranking) -> Floats:
        """Return the vectors that came with the points."""
        return self._codec.decode(np.array([point.dense for point in self.found(ranking)], np.float32))

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return the cosines of a query with documents."""
        assert queries.vectors is not None  # the options ask for them
        return cosines(vectors, queries.vectors[number])


class QdrantLateRanker(QdrantRanker):
    """Ranks points with many vectors each: candidates and MaxSim in one request.

    Parameters
    ----------
    transport, where, words, oversampling
        See `QdrantRanker`.
    sparse, space
        See `QdrantRanker`.
    codec : LateCodec
        What runs before vectors are sent.
    """

    late = True

    def __init__(
        self,
        transport: Transport,
        where: Condition,
        words: BM25Encoder,
        oversampling: float | None,
        *,
        codec: LateCodec,
        sparse: bool = False,
        space: int = 0,
    ) -> None:
        super().__init__(transport, where, words, oversampling, sparse=sparse, space=space)
        self._codec = codec

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Rank by MaxSim."""
        assert queries.tokens is not None  # the options ask for them
        assert isinstance(options, LateOptions)  # which every search of a multi-vector collection has
        tokens, candidates, offsets = self._codec.queries(queries.tokens)
        depth, every = self._depth(k, options)
        searches: list[Search | None] = []
        for number, (matrix, candidate) in enumerate(zip(tokens, candidates, strict=True)):
            words = queries.words[number] if queries.words is not None else None
            sparse = queries.sparse[number] if queries.sparse is not None else None
            prefetch = [] if every else self._prefetch(words, sparse, candidate, depth, options)
            search = Search(
                k,
                self._where,
                tokens=matrix.tolist(),
                exact=bool(options.exact),
                oversampling=None if options.exact else self._oversampling,
                with_vectors=_diversified(options),
                prefetch=prefetch,
                space=self._space,
            )
            searches.append(search if every or prefetch else None)
        answers = iter(self.ask([search for search in searches if search is not None]))
        rankings = [next(answers) if search is not None else [] for search in searches]
        return [self._named(points, float(offset)) for points, offset in zip(rankings, offsets, strict=True)]

    def comparisons(self, queries: Queries, points: Sequence[Sequence[str]]) -> tuple[list[Search], Floats]:
        """See `QdrantDenseRanker.comparisons`."""
        assert queries.tokens is not None  # of this space
        tokens, _, offsets = self._codec.queries(queries.tokens)
        rows = zip(tokens, points, strict=True)
        return [self._comparison(each, tokens=matrix.tolist()) for matrix, each in rows], offsets

    def stored(self, points: Sequence[str]) -> Floats:
        """Return the vectors of points by which they are told apart in MMR, one row each."""
        found = {point.id: point.dense for point in self._retrieved(points, DENSE)}
        nothing = [0.0] * self._codec.candidate_dim
        return np.array([found.get(point) or nothing for point in points], np.float32)

    def _depth(self, k: int, options: LateOptions) -> tuple[int, bool]:
        """Return how many candidates to take, and whether every document is to be scored instead."""
        if options.candidates == "tokens":
            raise ParameterError(
                "candidates='tokens' asks for token cells, which there are none of in Qdrant: leave it out, or ask for 'mean'"
            )
        if options.exact:
            return k, True
        asked = options.n_candidates is not None or options.oversample is not None
        if asked and options.exact is False:
            return self.at_most(options.depth(k, 0)), False
        matching = self._transport.count(self._where)
        return min(options.depth(k, matching), max(1, matching)), options.scores_all(k, matching)

    def _prefetch(
        self, words: str | WordQuery | None, sparse: Any, candidate: Floats, depth: int, options: LateOptions
    ) -> list[Search]:
        found = []
        if "sparse" in options.sources:
            self._require_sparse()
            pair = (sparse[0].tolist(), sparse[1].tolist())
            if pair[0]:
                found.append(Search(depth, self._where, sparse=pair))
        if "mean" in options.sources:
            found.append(Search(depth, self._where, dense=candidate.tolist(), ef=options.ef, space=self._space))
        if "text" in options.sources:
            assert words is not None  # the options ask for them
            if isinstance(words, WordQuery):
                raise ParameterError(
                    "candidates by words are a bag of words in Qdrant: give text= as a str, or search with mode='text'"
                )
            terms = self._words.query(words)
            if terms[0]:
                found.append(Search(depth, self._where, text=terms))
        return found

    def vectors(self, ranking: Ranking) -> Floats:
        """Return the candidate vectors that came with the points; zero for documents without tokens."""
        nothing = [0.0] * self._codec.candidate_dim
        return np.array([point.dense or nothing for point in self.found(ranking)], np.float32)

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return the mean cosine of a query's tokens with their best matches."""
        assert queries.tokens is not None  # the options ask for them
        query = queries.tokens[number]
        tokens, _, (offset,) = self._codec.queries(TokenMatrices.of([query]))
        points = self.found(ranking)
        found = self._transport.retrieve([point.id for point in points], False, vectors=[TOKENS], space=self._space)
        stored = {point.id: point.tokens for point in found}
        relevance = np.full(len(points), -1.0, np.float32)  # without tokens, found by its words: as far as can be
        for row, point in enumerate(points):
            matrix = np.array(stored.get(point.id) or [], np.float32).reshape(-1, self._codec.token_dim)
            if len(matrix):
                relevance[row] = ((tokens.flat @ matrix.T).max(axis=1).sum() + offset) / len(query)
        return relevance


#: Either of them.
SpaceRanker: TypeAlias = QdrantDenseRanker | QdrantLateRanker


def _diversified(options: SearchOptions) -> bool:
    return options.lambda_mult not in (None, 1)


def _text_of(leaf: WordQuery) -> str:
    if isinstance(leaf, Prefix) or (isinstance(leaf, Words) and leaf.typos):
        raise ParameterError(
            "prefixes and misspelt words need a list of all words, which Qdrant does not keep; search by whole words here, or "
            "in a local collection (octavo pull)"
        )
    assert isinstance(leaf, Words | Phrase)  # the only others
    return leaf.text
