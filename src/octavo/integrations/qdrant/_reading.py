"""The reading half of a Qdrant collection: documents, filters, searches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo.encoders.dense import Encoder
from octavo.errors import CollectionClosedError, DocumentNotFoundError, InputTypeError, ParameterError
from octavo.filters import matches, parse_filter
from octavo.integrations.qdrant._documents import FIELDS, document_of
from octavo.integrations.qdrant._filters import DOCUMENTS, NOTHING, Condition, all_of, any_of, none_of, translate
from octavo.integrations.qdrant._ids import point_id
from octavo.integrations.qdrant._manifest import Manifest
from octavo.integrations.qdrant._words import Words
from octavo.integrations.qdrant.mapping import ClientCodec, Mapping, map_codec
from octavo.integrations.qdrant.transport import DENSE, Point, Search, Transport
from octavo.retrievers.fusion import convex_combination, reciprocal_rank_fusion
from octavo.retrievers.mmr import maximal_marginal_relevance
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import FilterLike, Mode, SearchOptions
from octavo.store.documents import Document, check_ids, chunked

_CHUNK = 256
_QUERIES_AT_ONCE = 32


class ReadingMethods(ABC):
    """What `QdrantCollection` does without writing."""

    _transport: Transport
    _manifest: Manifest | None
    _codec: ClientCodec | None
    _encoder: Encoder | None
    _closed: bool

    # ------------------------------------------------------------------ documents

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in the order asked; unknown ids are left out."""
        listed = check_ids(ids)
        found = {point.id: point.payload for point in self._retrieve(listed, FIELDS)}
        points = [point_id(identifier) for identifier in listed]
        return [document_of(found[point]) for point in points if point in found]

    def get_payloads(self, ids: Iterable[str]) -> list[str | None]:
        """Return the payloads of these ids, in the order asked; None where there is no document or no payload."""
        listed = check_ids(ids)
        found = {point.id: point.payload.get("payload") for point in self._retrieve(listed, ["payload"])}
        return [found.get(point_id(identifier)) for identifier in listed]

    def get_vectors(self, ids: Iterable[str]) -> Floats:
        """Return the stored vectors, in the dimension they came in.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        listed = check_ids(ids)
        found = {point.id: point.dense for point in self._retrieve(listed, False, vectors=[DENSE])}
        points = [point_id(identifier) for identifier in listed]
        for identifier, point in zip(listed, points, strict=True):
            if point not in found:
                raise DocumentNotFoundError(
                    f"expected ids of stored documents, but {identifier!r} is not in the collection"
                )
        if not listed:
            return np.zeros((0, self.dim or 0), np.float32)
        return self._decoded([found[point] for point in points])

    def contains(self, ids: Iterable[str]) -> list[bool]:
        """Tell for each id whether it is there."""
        listed = check_ids(ids)
        found = {point.id for point in self._retrieve(listed, False)}
        return [point_id(identifier) in found for identifier in listed]

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self.contains([identifier])[0]

    def __len__(self) -> int:
        return self.count()

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents (that match)."""
        self._require_open()
        return self._transport.count(self._where(filter)) if self._manifest else 0

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return the ids of all documents (that match), oldest version first."""
        self._require_open()
        found = [
            (point.payload["order"], point.payload["id"])
            for point in self._scroll(self._where(filter), ["id", "order"])
        ]
        return [identifier for _, identifier in sorted(found)]

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield all documents (that match), oldest version first, a few hundred in memory at a time."""
        for part in chunked(self.ids(filter), _CHUNK):
            yield from self.get(part)

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
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the k best documents for one query; see `octavo.Collection.search`.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            When an argument cannot be used; the message says which and why.
        """
        options = SearchOptions(mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 1)
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
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> list[SearchResult]:
        """Find the k best documents for each of many queries; see `octavo.Collection.search_batch`."""
        if isinstance(queries, str):
            raise InputTypeError("expected a sequence of queries, got a single str; use search(), or put it in a list")
        options = SearchOptions(mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 0)
        return self._run(queries, texts, k, filter, ids, options)

    def _run(
        self,
        queries: Any,
        texts: Sequence[str] | None,
        k: int,
        filter: FilterLike,
        ids: Iterable[str] | None,
        options: SearchOptions,
    ) -> list[SearchResult]:
        self._require_open()
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ParameterError(f"expected k as an integer of at least 1, got {k!r}")
        listed = check_ids(ids) if ids is not None else None
        if not callable(filter):
            parse_filter(filter)  # a malformed filter is an error even where there is nothing to search
        vectors, words = self._read_queries(queries, texts, options)
        if self._manifest is None or len(queries) == 0:
            return [_result([]) for _ in queries]
        where = self._where(filter)
        if listed is not None:
            where = all_of(where, {"has_id": [point_id(each) for each in listed]} if listed else NOTHING)
        return [_result(ranking) for ranking in self._rank(vectors, words, int(k), where, options)]

    def _read_queries(
        self, queries: Any, texts: Sequence[str] | None, options: SearchOptions
    ) -> tuple[Any, Sequence[str] | None]:
        """Return what `_dense` and `_diversified` take of each query, and the words, where the mode needs them."""
        strings = [isinstance(query, str) for query in queries]
        if any(strings) and not all(strings):
            raise InputTypeError("expected queries all as str or all as vectors, got a mixture")
        if texts is not None and options.mode == "dense":
            raise ParameterError("text belongs to mode='text' or 'hybrid', got mode='dense'")
        words = texts if texts is not None else (list(queries) if any(strings) else None)
        if words is not None and (len(words) != len(queries) or not all(isinstance(word, str) for word in words)):
            raise ParameterError(f"expected one text for each of {len(queries)} queries, got {len(words)}")
        if options.mode != "dense" and words is None and len(queries):
            raise ParameterError(
                f"mode={options.mode!r} needs words: give the query as a str, or text= beside the vector"
            )
        if len(queries) == 0 or (options.mode == "text" and options.lambda_mult is None):
            return None, words
        if any(strings):
            if self._encoder is None:
                raise ParameterError(
                    "expected a query vector, because the collection was opened without an encoder; open it with one, or "
                    "search by words with mode='text'"
                )
            queries = self._encoder.encode_queries(list(queries))
        matrix = as_matrix(queries, self.dim, "the query" if len(queries) == 1 else "queries")
        return (unit_rows(matrix, "queries") if self.metric == "cosine" else matrix), words

    def _rank(
        self,
        vectors: Any,
        words: Sequence[str] | None,
        k: int,
        where: Condition,
        options: SearchOptions,
    ) -> list[list[Point]]:
        depth = k
        if options.lambda_mult is not None:
            depth = max(k, options.fetch_k or max(20, 4 * k))
        if options.mode == "dense" or (options.mode == "hybrid" and options.alpha == 1):
            rankings = self._dense(vectors, depth, where, options)
        elif options.mode == "text" or options.alpha == 0:
            rankings = self._text(words, depth, where, options)
        else:
            fetch = max(depth, options.fetch_k or max(100, 4 * depth))
            pairs = zip(
                self._dense(vectors, fetch, where, options), self._text(words, fetch, where, options), strict=True
            )
            rankings = [_fused(dense, text, depth, options.alpha) for dense, text in pairs]
        if options.lambda_mult is None or options.lambda_mult == 1:
            return [ranking[:k] for ranking in rankings]
        assert vectors is not None  # MMR has asked for them
        return [
            self._diversified(ranking, vector, k, options.lambda_mult)
            for ranking, vector in zip(rankings, vectors, strict=True)
        ]

    def _dense(self, vectors: Any, k: int, where: Condition, options: SearchOptions) -> list[list[Point]]:
        assert vectors is not None  # the mode needs them
        oversampling = options.oversample or self._mapping.oversampling
        encoded, offsets = self._fitted().queries(vectors)
        searches = [
            Search(
                k,
                where,
                dense=row.tolist(),
                ef=options.ef,
                exact=bool(options.exact),
                oversampling=None if options.exact else oversampling,
                with_vectors=options.lambda_mult not in (None, 1),
            )
            for row in encoded
        ]
        rankings = self._ask(searches)
        return [
            [Point(hit.id, hit.payload, hit.dense, score=hit.score + float(offset)) for hit in ranking]
            for ranking, offset in zip(rankings, offsets, strict=True)
        ]

    def _text(self, words: Sequence[str] | None, k: int, where: Condition, options: SearchOptions) -> list[list[Point]]:
        assert words is not None  # the mode needs them
        with_vectors = options.lambda_mult not in (None, 1)
        sparse = [self._words().query(text) for text in words]
        asked = [Search(k, where, text=terms, with_vectors=with_vectors) for terms in sparse if terms[0]]
        answers = iter(self._ask(asked))
        return [next(answers) if terms[0] else [] for terms in sparse]

    def _ask(self, searches: Sequence[Search]) -> list[list[Point]]:
        return [ranking for part in chunked(searches, _QUERIES_AT_ONCE) for ranking in self._transport.search(part)]

    def _diversified(self, ranking: list[Point], query: Any, k: int, lambda_mult: float) -> list[Point]:
        if not ranking:
            return []
        vectors = self._decoded([hit.dense for hit in ranking])
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        relevance = (vectors @ query) / np.where(lengths > 0, lengths, 1)
        chosen = maximal_marginal_relevance(relevance, vectors, min(k, len(ranking)), lambda_mult)
        return [ranking[number] for number in chosen]

    # ------------------------------------------------------------------ inside

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """Dimension of the vectors as they come in; None before the first ones."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """How vectors are compared: "cosine" or "dot"."""

    @property
    def _mapping(self) -> Mapping:
        assert self._manifest is not None
        return map_codec(self._manifest.codec)

    def _fitted(self) -> ClientCodec:
        assert self._codec is not None  # there are documents, so there is one
        return self._codec

    def _decoded(self, vectors: Sequence[Sequence[float] | None]) -> Floats:
        """Return stored vectors in the dimension they came in."""
        return self._fitted().decode(np.array(vectors, np.float32))

    def _words(self) -> Words:
        assert self._manifest is not None
        return Words(self._manifest.full_text, self._manifest.average_length)

    def _require_open(self) -> None:
        if self._closed:
            raise CollectionClosedError("the collection is closed; open it again")

    def _retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = ()
    ) -> Iterator[Point]:
        self._require_open()
        if self._manifest is None:
            return
        points = list(dict.fromkeys(map(point_id, ids)))
        for part in chunked(points, _CHUNK):
            yield from self._transport.retrieve(part, fields, vectors=vectors)

    def _scroll(self, where: Condition, fields: Sequence[str]) -> Iterator[Point]:
        offset: str | None = None
        while self._manifest is not None:
            page, offset = self._transport.scroll(where, fields, offset)
            yield from page
            if offset is None:
                return

    def _where(self, filter: FilterLike) -> Condition:
        """Return a filter that lets exactly the wanted documents through."""
        if callable(filter):
            return self._chosen(DOCUMENTS, filter)
        tree = parse_filter(filter)
        if tree is None:
            return DOCUMENTS
        bounds = translate(tree)
        if bounds.exact:
            return all_of(DOCUMENTS, bounds.lower)
        between = all_of(DOCUMENTS, bounds.upper, none_of(bounds.lower))
        some = self._chosen(between, lambda document: matches(tree, document.metadata))
        return all_of(DOCUMENTS, bounds.lower if some is NOTHING else any_of(bounds.lower, some))

    def _chosen(self, where: Condition, wanted: Callable[[Document], bool]) -> Condition:
        """Look at documents one by one, and return a filter for those that are wanted."""
        found = [point.id for point in self._scroll(where, FIELDS) if wanted(document_of(point.payload))]
        return {"has_id": found} if found else NOTHING


def _fused(dense: list[Point], text: list[Point], k: int, alpha: float | None) -> list[Point]:
    points = {hit.payload["id"]: hit for hit in [*text, *dense]}
    rankings = [
        (np.array([hit.payload["id"] for hit in ranking], np.str_), np.array([hit.score for hit in ranking]))
        for ranking in (dense, text)
    ]
    if alpha is None:
        keys, scores = reciprocal_rank_fusion(rankings)
    else:
        keys, scores = convex_combination(rankings[0], rankings[1], alpha)
    pairs = zip(keys[:k].tolist(), scores[:k].tolist(), strict=True)
    return [Point(points[key].id, points[key].payload, points[key].dense, score=score) for key, score in pairs]


def _result(ranking: Sequence[Point]) -> SearchResult:
    documents = [document_of(hit.payload) for hit in ranking]
    return SearchResult(
        [document.id for document in documents],
        np.array([hit.score for hit in ranking], np.float32),
        documents,
        [hit.payload.get("payload") for hit in ranking],
    )
