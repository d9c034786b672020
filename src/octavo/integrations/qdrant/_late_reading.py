"""The reading half of a multi-vector collection in Qdrant: candidates and MaxSim in one request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo.collection import Explanation
from octavo.collection.explanation import explanation
from octavo.collection.token_input import read_token_queries
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import DocumentNotFoundError, InputTypeError
from octavo.integrations.qdrant._filters import Condition
from octavo.integrations.qdrant._ids import point_id
from octavo.integrations.qdrant._reading import ReadingMethods
from octavo.integrations.qdrant.late_codec import LateCodec, map_token_codec
from octavo.integrations.qdrant.mapping import Mapping
from octavo.integrations.qdrant.transport import TOKENS, Point, Search
from octavo.retrievers.late_interaction import FEW, CandidateSource, LateOptions
from octavo.retrievers.mmr import maximal_marginal_relevance
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import FilterLike, Mode, SearchOptions
from octavo.store.documents import check_ids, chunked

#: Documents whose token vectors are asked for in one request: 100 vectors of 384 numbers each make 15 MB of JSON.
_DOCUMENTS_AT_ONCE = 32


@dataclass(frozen=True)
class _Query:
    """One query: token vectors of unit length, and words, each where the search needs them."""

    tokens: Floats | None
    words: str | None


class LateReadingMethods(ReadingMethods):
    """What `QdrantMultiVectorCollection` does without writing."""

    _token_encoder: TokenEncoder | None
    _late: LateCodec | None

    # ------------------------------------------------------------------ documents

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors of documents: pooled, decoded, of unit length (nearly).

        Returns
        -------
        list of ndarray of shape (n_vectors, dim), float32
            In the order asked.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        return [self._learned().decode(stored) for stored in self._stored(check_ids(ids))]

    def _stored(self, ids: Sequence[str]) -> list[Floats]:
        """Return the token vectors of documents as Qdrant keeps them."""
        found = {
            point.id: point.tokens
            for part in chunked(ids, _DOCUMENTS_AT_ONCE)
            for point in self._retrieve(part, False, vectors=[TOKENS])
        }
        points = [point_id(identifier) for identifier in ids]
        for identifier, point in zip(ids, points, strict=True):
            if point not in found:
                raise DocumentNotFoundError(
                    f"expected ids of stored documents, but {identifier!r} is not in the collection"
                )
        return [self._matrix(found[point]) for point in points]

    def _matrix(self, tokens: Sequence[Sequence[float]] | None) -> Floats:
        return np.array(tokens or [], np.float32).reshape(-1, self._learned().token_dim)

    def _decoded(self, vectors: Sequence[Sequence[float] | None]) -> Floats:
        """Return stored candidate vectors as they are; zero for documents without tokens."""
        nothing = [0.0] * self._learned().candidate_dim
        return np.array([nothing if vector is None else vector for vector in vectors], np.float32)

    # ------------------------------------------------------------------ search

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        text: str | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        n_candidates: int | None = None,
        candidates: CandidateSource = "vectors",
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the k best documents for one query by MaxSim; see `octavo.MultiVectorCollection.search`.

        Candidates and MaxSim are one request to Qdrant. Another one before it counts the documents that match, to tell how
        many candidates to take; ``exact=False`` with `n_candidates` or `oversample` spares it. ``exact=True`` scores every
        document by the vectors that Qdrant keeps in full.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            When an argument cannot be used; the message says which and why.
        """
        options = LateOptions(
            mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 1, n_candidates, candidates
        )
        return self._run([query], [text] if text is not None else None, k, filter, ids, options)[0]

    def search_batch(
        self,
        queries: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        texts: Sequence[str] | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        n_candidates: int | None = None,
        candidates: CandidateSource = "vectors",
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> list[SearchResult]:
        """Find the k best documents for each of many queries; see `octavo.MultiVectorCollection.search_batch`."""
        if isinstance(queries, str):
            raise InputTypeError("expected a sequence of queries, got a single str; use search(), or put it in a list")
        options = LateOptions(
            mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 0, n_candidates, candidates
        )
        return self._run(queries, texts, k, filter, ids, options)

    def explain(self, query: Any, id: str) -> Explanation:
        """Say which of a document's vectors each token of a query matches; see `octavo.MultiVectorCollection.explain`.

        The similarities are computed here, with the vectors that Qdrant keeps in full.

        Raises
        ------
        DocumentNotFoundError
            When the id is not there.
        """
        ((asked,), _) = self._read_queries([query], None, LateOptions())
        assert asked.tokens is not None  # mode is "dense"
        (stored,) = self._stored(check_ids([id]))
        codec = self._learned()
        tokens, _, _ = codec.queries(TokenMatrices.of([asked.tokens]))
        similarities: Floats = tokens.flat @ stored.T + codec.token_offsets(asked.tokens)[:, None]
        (document,) = self.get([id])
        return explanation(id, similarities, query, document.text, codec.decode(stored), self._token_encoder)

    def _read_queries(
        self, queries: Any, texts: Sequence[str] | None, options: SearchOptions
    ) -> tuple[list[_Query], Sequence[str] | None]:
        if len(queries) == 0:
            return [], texts
        tokens, words = read_token_queries(
            queries,
            texts,
            self.dim,
            self._token_encoder,
            needs_text=options.needs_text,
            needs_tokens=options.mode != "text" or options.lambda_mult is not None,
        )
        rows = range(len(queries))
        read = [
            _Query(tokens[i] if tokens is not None else None, words[i] if words is not None else None) for i in rows
        ]
        return read, words

    def _dense(self, vectors: Sequence[_Query], k: int, where: Condition, options: SearchOptions) -> list[list[Point]]:
        assert isinstance(options, LateOptions)
        tokens, candidates, offsets = self._learned().queries(TokenMatrices.of([query.tokens for query in vectors]))  # type: ignore[misc]
        depth, every = self._depth(k, where, options)
        searches: list[Search | None] = []
        for query, matrix, candidate in zip(vectors, tokens, candidates, strict=True):
            prefetch = [] if every else self._prefetch(query, candidate, depth, where, options)
            search = Search(
                k,
                where,
                tokens=matrix.tolist(),
                exact=bool(options.exact),
                oversampling=None if options.exact else self._mapping.oversampling,
                with_vectors=options.lambda_mult not in (None, 1),
                prefetch=prefetch,
            )
            searches.append(search if every or prefetch else None)
        answers = iter(self._ask([search for search in searches if search is not None]))
        rankings = [next(answers) if search is not None else [] for search in searches]
        return [
            [Point(hit.id, hit.payload, hit.dense, score=hit.score + float(offset)) for hit in ranking]
            for ranking, offset in zip(rankings, offsets, strict=True)
        ]

    def _depth(self, k: int, where: Condition, options: LateOptions) -> tuple[int, bool]:
        """Return how many candidates to take, and whether every document is to be scored instead."""
        if options.exact:
            return k, True
        told = options.n_candidates is not None or options.oversample is not None
        if told and options.exact is False:
            return options.depth(k, 0), False
        matching = self._transport.count(where)
        depth = options.depth(k, matching)
        few = matching <= max(depth, FEW) and options.candidates == "vectors"
        return depth, few and options.exact is None

    def _prefetch(
        self, query: _Query, candidate: Floats, depth: int, where: Condition, options: LateOptions
    ) -> list[Search]:
        found = []
        if options.candidates != "text":
            found.append(Search(depth, where, dense=candidate.tolist(), ef=options.ef))
        if options.candidates != "vectors":
            assert query.words is not None  # reading the queries has asked for them
            terms = self._words().query(query.words)
            if terms[0]:
                found.append(Search(depth, where, text=terms))
        return found

    def _diversified(self, ranking: list[Point], query: _Query, k: int, lambda_mult: float) -> list[Point]:
        """Choose by maximal marginal relevance, as a local multi-vector collection does."""
        if not ranking:
            return []
        assert query.tokens is not None  # MMR has asked for them
        codec = self._learned()
        tokens, _, (offset,) = codec.queries(TokenMatrices.of([query.tokens]))
        found = self._transport.retrieve([hit.id for hit in ranking], False, vectors=[TOKENS])
        stored = {point.id: point.tokens for point in found}
        relevance = np.full(len(ranking), -1.0, np.float32)  # without tokens, found by its words: as far as can be
        for row, hit in enumerate(ranking):
            matrix = self._matrix(stored.get(hit.id))
            if len(matrix):
                relevance[row] = ((tokens.flat @ matrix.T).max(axis=1).sum() + offset) / len(query.tokens)
        vectors = self._decoded([hit.dense for hit in ranking])
        chosen = maximal_marginal_relevance(relevance, vectors, min(k, len(ranking)), lambda_mult)
        return [ranking[number] for number in chosen]

    # ------------------------------------------------------------------ inside

    @property
    def _mapping(self) -> Mapping:
        assert self._manifest is not None
        return map_token_codec(self._manifest.codec)

    def _learned(self) -> LateCodec:
        assert self._late is not None  # there are documents, so there is one
        return self._late
