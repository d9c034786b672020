"""Haystack's `DocumentStore` over an Octavo collection."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

import octavo
from octavo._printing import to_json
from octavo._validation import check_flag, check_integer
from octavo.collection import CollectionLike
from octavo.collection.protocol import has_vectors
from octavo.errors import InputTypeError, ParameterError
from octavo.filters import And, Exists, Field, Filter, Not
from octavo.integrations.haystack._documents import (
    UNEMBEDDED,
    from_stored,
    metadata_of,
    payload_of,
    sparse_pair,
    vectors_of,
)
from octavo.integrations.haystack._filters import to_filter
from octavo.retrievers import reciprocal_rank_fusion
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import FilterLike
from octavo.store.documents import Document as Stored
from octavo.store.documents import chunked

_BATCH = 1_024

#: Depth of both rankings that are fused here.
_DEPTH = 100

_EMBEDDED = Not(Exists(Field(UNEMBEDDED)))


class OctavoDocumentStore:
    """Keeps Haystack's documents in an Octavo collection: compressed, durable, searched by embedding, by words or both.

    The collection is opened when it is first needed, so that a pipeline can be written to YAML and read elsewhere.

    Parameters
    ----------
    path : str or path-like, optional
        The collection's directory, made when it is not there; None keeps documents in memory.
    codec : str, optional
        How embeddings are compressed, ``"int8"`` by default; see `octavo.open`.
    metric : {"cosine", "dot"}, optional
        How they are compared, ``"cosine"`` by default.
    full_text : str, optional
        Stemmer of the words, ``"english"`` by default; ``"plain"`` for none.
    embedding_dim : int, optional
        Dimension of the embeddings. Needed only where the first documents that are written have none.
    return_embedding : bool, default=True
        Whether documents come back with their embeddings, decoded from the codes (of unit length for cosine).

    Raises
    ------
    ParameterError
        When an option is not what it should be; what the collection itself does not accept, when it is opened.

    Examples
    --------
    >>> from haystack import Document
    >>> store = OctavoDocumentStore()
    >>> documents = [
    ...     Document(id="r", content="red", embedding=[1.0, 0.0], meta={"n": 1}),
    ...     Document(id="g", content="green", embedding=[0.0, 1.0], meta={"n": 2}),
    ... ]
    >>> store.write_documents(documents)
    2
    >>> [found.id for found in store.filter_documents({"field": "meta.n", "operator": ">", "value": 1})]
    ['g']
    >>> store.close()
    """

    __module__ = "octavo.integrations.haystack"  # what a pipeline in YAML names

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        codec: str | None = None,
        metric: str | None = None,
        full_text: str | None = None,
        embedding_dim: int | None = None,
        return_embedding: bool = True,
    ) -> None:
        self.path = os.fspath(path) if path is not None else None
        self.codec = codec
        self.metric = metric
        self.full_text = full_text
        self.embedding_dim = (
            check_integer(embedding_dim, "embedding_dim", least=1) if embedding_dim is not None else None
        )
        self.return_embedding = check_flag(return_embedding, "return_embedding")
        self._opening = threading.Lock()
        self._writing = threading.RLock()
        self._collection: CollectionLike | None = None
        self._space = 0
        self._given = False

    @classmethod
    def from_collection(cls, collection: CollectionLike, *, return_embedding: bool = True) -> OctavoDocumentStore:
        """Return a store over an open collection, in Qdrant for instance. Only one of a directory can be written to YAML.

        Parameters
        ----------
        collection : CollectionLike
            Of one vector a document.
        return_embedding : bool, default=True
            As above.

        Raises
        ------
        ParameterError
            When the collection is one for late interaction.
        """
        local = collection.local
        store = cls(local.path if local is not None else None, return_embedding=return_embedding)
        store._collection = _of_one_vector(collection)
        store._space = collection.space
        store._given = True
        return store

    @property
    def collection(self) -> CollectionLike:
        """The collection, opened by now."""
        with self._opening:
            if self._collection is None:
                options = {
                    "codec": self.codec,
                    "metric": self.metric,
                    "full_text": self.full_text,
                    "dim": self.embedding_dim,
                }
                given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
                opened: Any = octavo.open(self.path, **given)
                try:
                    self._collection = _of_one_vector(opened)
                except ParameterError:
                    opened.close()
                    raise
                self._space = opened.space
            return self._collection

    def _require_same_model(self) -> None:
        """Raise `DocumentStoreError` where embeddings that a pipeline brings along are of a model that the collection had.

        Its dimension may be the same, and then nothing else would tell.
        """
        collection = self.collection
        if collection.space != self._space:
            raise DocumentStoreError(
                f"the model of the collection was changed to {collection.info().encoder!r} since the store was opened: give "
                "the pipeline an embedder of that model, and open the store anew (close() it)"
            )

    def close(self) -> None:
        """Release the files; the next use opens them again. What was in memory is lost."""
        with self._opening:
            if self._collection is not None:
                self._collection.close()
                if not self._given:
                    self._collection = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline writes to YAML: where the documents lie, and the options.

        Returns
        -------
        dict
            The class's name and the arguments of the constructor.

        Raises
        ------
        DocumentStoreError
            When the store was made from a collection that is in no directory.
        """
        if self._given and self.path is None:
            raise DocumentStoreError("a store made from a collection that is in no directory cannot be written down")
        return default_to_dict(
            self,
            path=self.path,
            codec=self.codec,
            metric=self.metric,
            full_text=self.full_text,
            embedding_dim=self.embedding_dim,
            return_embedding=self.return_embedding,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> OctavoDocumentStore:
        """Return the store that `to_dict` has described."""
        store: OctavoDocumentStore = default_from_dict(cls, data)
        return store

    # ------------------------------------------------------------------ writing

    def write_documents(self, documents: Iterable[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents. They survive ``kill -9`` and power loss when this returns.

        Parameters
        ----------
        documents : iterable of Document
            With their embeddings, and sparse embeddings if they are to be found by those; without any, they are found by words
            and filters alone.
        policy : DuplicatePolicy, default=DuplicatePolicy.NONE
            What to do about ids that are there already; NONE means FAIL.

        Returns
        -------
        int
            How many were written.

        Raises
        ------
        DuplicateDocumentError
            When an id is there already and the policy is FAIL; nothing is written then.
        ValueError
            When something else than documents is given, or an embedding cannot be used.
        """
        given: Any = documents
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"expected a list of Documents, got {type(given).__name__}")
        listed = list(documents)
        others = [type(document).__name__ for document in listed if not isinstance(document, Document)]
        if others:
            raise ValueError(f"expected a list of Documents, got {others[0]} in it")
        with self._writing:
            wanted = self._without_duplicates(listed, policy)
            for start in range(0, len(wanted), _BATCH):
                self._write(wanted[start : start + _BATCH])
        return len(listed) if policy is DuplicatePolicy.OVERWRITE else len(wanted)

    def _without_duplicates(self, documents: list[Document], policy: DuplicatePolicy) -> list[Document]:
        if policy is DuplicatePolicy.OVERWRITE:
            return list({document.id: document for document in documents}.values())
        there = self.collection.contains([document.id for document in documents])
        wanted: dict[str, Document] = {}
        for document, is_there in zip(documents, there, strict=True):
            if not is_there and document.id not in wanted:
                wanted[document.id] = document
            elif policy is not DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(
                    f"ID '{document.id}' already exists; pass another policy to skip or overwrite it"
                )
        return list(wanted.values())

    def _write(self, documents: list[Document]) -> None:
        first = next((len(document.embedding) for document in documents if document.embedding is not None), None)
        if first is not None:
            self._require_same_model()
        collection = self.collection
        dim = collection.dim or first
        if collection.dim is not None and not has_vectors(collection):
            dim = None
            if first is not None:
                raise DocumentStoreError(
                    "the store holds documents without embeddings, and was not told their dimension when it was made; fill a "
                    "new one that is made with embedding_dim="
                )
        if dim is None and collection.local is None:
            raise DocumentStoreError(
                "documents without embeddings need a collection that knows the dimension of the others; create it with dim="
            )
        collection.add(
            [document.content or "" for document in documents],
            ids=[document.id for document in documents],
            metadata=[metadata_of(document) for document in documents],
            vectors=vectors_of(documents, dim) if dim is not None else None,
            payloads=[payload_of(document) for document in documents],
            sparse_vectors=self._sparse_of(documents),
        )

    def _sparse_of(self, documents: list[Document]) -> list[Any] | None:
        """Return the documents' sparse embeddings for a collection that keeps such, or can; None to leave them to its model."""
        collection = self.collection
        if not collection.has_sparse_vectors and collection.local is None:
            return None
        some = any(document.sparse_embedding is not None for document in documents)
        if not some and (not collection.has_sparse_vectors or collection.sparse_encoder is not None):
            return None
        return [sparse_pair(document.sparse_embedding) for document in documents]

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by id; ids that are not there are no error."""
        self.collection.delete(document_ids)

    def delete_all_documents(self) -> None:
        """Delete every document."""
        self.collection.clear()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match.

        Parameters
        ----------
        filters : dict
            As Haystack describes them.

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        FilterError
            When the filters say nothing: `delete_all_documents` deletes everything.
        """
        return self.collection.delete(filter=_some(filters, "delete_all_documents() deletes everything"))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set metadata of the documents that match.

        Parameters
        ----------
        filters : dict
            As Haystack describes them.
        meta : dict
            What to set; other fields stay as they are.

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        FilterError
            When the filters say nothing.
        """
        where = _some(filters, "name the documents to update")
        collection = self.collection
        with self._writing:
            ids = collection.ids(where)
            for part in chunked(ids, _BATCH):
                documents = collection.get(part)
                collection.update(
                    [document.id for document in documents],
                    metadata=[{**document.metadata, **meta} for document in documents],
                )
        return len(ids)

    # ------------------------------------------------------------------ reading

    def count_documents(self) -> int:
        """Return the number of documents."""
        return self.collection.count()

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Return the number of documents that match."""
        return self.collection.count(to_filter(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Return the documents that match, oldest first; all of them where the filters say nothing.

        Parameters
        ----------
        filters : dict, optional
            As Haystack describes them. Texts are compared as texts (dates in one ISO form by time therefore), and with
            metadata that are dates by time.

        Returns
        -------
        list of Document
            With their embeddings, if the store returns them.

        Raises
        ------
        FilterError
            When they are not as described.
        """
        collection = self.collection
        found: list[Document] = []
        for part in chunked(collection.ids(to_filter(filters)), _BATCH):
            documents = collection.get(part)
            found += self._documents(documents, collection.get_payloads([document.id for document in documents]))
        return found

    def _documents(
        self,
        documents: Sequence[Stored],
        payloads: Sequence[str | None],
        scores: Sequence[float | None] | None = None,
        return_embedding: bool | None = None,
    ) -> list[Document]:
        wanted = self.return_embedding if return_embedding is None else return_embedding
        vectors: Any = [None] * len(documents)
        if wanted and documents and has_vectors(self.collection):
            vectors = self.collection.get_vectors([document.id for document in documents])
        listed = scores if scores is not None else [None] * len(documents)
        return [
            from_stored(document, payload, score=score, embedding=vector)
            for document, payload, score, vector in zip(documents, payloads, listed, vectors, strict=True)
        ]

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Return for each field how many different values the matching documents have.

        Parameters
        ----------
        filters : dict
            As Haystack describes them; none for all documents.
        metadata_fields : list of str
            The fields, with or without ``meta.``.

        Returns
        -------
        dict of str to int
            The numbers, by the name of the field without ``meta.``.
        """
        names = [_field(name) for name in metadata_fields]
        seen: dict[str, set[tuple[str, str]]] = {name: set() for name in names}
        for meta in self._metadata(filters):
            for name in names:
                if meta.get(name) is not None:
                    seen[name].add(_key(meta[name]))
        return {name: len(values) for name, values in seen.items()}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the fields of the metadata with their types: ``boolean``, ``int``, ``float`` or ``keyword``."""
        types: dict[str, str] = {}
        for meta in self._metadata(None):
            for name, value in meta.items():
                if value is not None:
                    known = next((kind for python, kind in _TYPES if isinstance(value, python)), "keyword")
                    types[name] = known
        return {name: {"type": kind} for name, kind in types.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the least and the greatest value of a field; None where there is none, or they cannot be compared."""
        name = _field(metadata_field)
        values = [meta[name] for meta in self._metadata(None) if isinstance(meta.get(name), int | float | str)]
        try:
            return {"min": min(values), "max": max(values)} if values else {"min": None, "max": None}
        except TypeError:  # numbers and texts
            return {"min": None, "max": None}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Return a page of the different values of a field, sorted, and how many there are.

        Parameters
        ----------
        metadata_field : str
            The field, with or without ``meta.``.
        search_term : str, optional
            Only values whose text contains it, in either case.
        from_, size : int
            Where the page begins, and how long it is.
        filters : dict, optional
            Only documents that match.

        Returns
        -------
        values : list
            Those of the page.
        total : int
            How many there are in all.
        """
        name = _field(metadata_field)
        values = {_key(meta[name]): meta[name] for meta in self._metadata(filters) if meta.get(name) is not None}
        if search_term:
            values = {key: value for key, value in values.items() if search_term.lower() in str(value).lower()}
        ordered = sorted(values, key=lambda key: (str(values[key]), key[0]))
        return [values[key] for key in ordered[from_ : from_ + size]], len(ordered)

    def _metadata(self, filters: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        for document in self.collection.documents(to_filter(filters)):
            document.metadata.pop(UNEMBEDDED, None)
            yield document.metadata

    # ------------------------------------------------------------------ searching

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool | None = None,
    ) -> list[Document]:
        """Return the documents whose embeddings are nearest.

        Parameters
        ----------
        query_embedding : list of float
            The query's vector.
        filters, top_k, scale_score, return_embedding
            As for `OctavoEmbeddingRetriever`.

        Returns
        -------
        list of Document
            The best first.
        """
        where = to_filter(filters)
        self._require_same_model()
        if not check_integer(top_k, "top_k", least=0) or not has_vectors(self.collection):
            return []
        found = self._by_embedding(query_embedding, where, top_k)
        scores = found.scores.tolist()
        if scale_score:
            dot = self.collection.metric == "dot"
            scores = [_expit(score / 100) if dot else (score + 1) / 2 for score in scores]
        return self._documents(found.documents, found.payloads, scores, return_embedding)

    def _by_embedding(self, embedding: list[float], where: FilterLike, k: int) -> SearchResult:
        found = self.collection.search(embedding, k, filter=where)
        if any(UNEMBEDDED in document.metadata for document in found.documents):  # they only took the place of others
            found = self.collection.search(embedding, k, filter=_and_embedded(where))
        return found

    def bm25_retrieval(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
    ) -> list[Document]:
        """Return the documents whose words match best, by BM25.

        Parameters
        ----------
        query : str
            A bag of words, whatever is in it.
        filters, top_k, scale_score
            As for `OctavoBM25Retriever`.

        Returns
        -------
        list of Document
            The best first.
        """
        where = to_filter(filters)
        if not check_integer(top_k, "top_k", least=0):
            return []
        found = self.collection.search(query, top_k, filter=where, mode="text")
        scores = [_expit(score / 8) if scale_score else score for score in found.scores.tolist()]
        return self._documents(found.documents, found.payloads, scores)

    def sparse_embedding_retrieval(
        self,
        query_sparse_embedding: SparseEmbedding,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool | None = None,
    ) -> list[Document]:
        """Return the documents whose sparse embeddings have the largest inner product with a query's.

        Parameters
        ----------
        query_sparse_embedding : SparseEmbedding
            The query's terms and weights.
        filters, top_k, return_embedding
            As for `OctavoSparseEmbeddingRetriever`.

        Returns
        -------
        list of Document
            The best first.
        """
        where = to_filter(filters)
        if not check_integer(top_k, "top_k", least=0) or not self.collection.has_sparse_vectors:
            return []
        found = self._by_sparse(query_sparse_embedding, where, top_k)
        return self._documents(found.documents, found.payloads, found.scores.tolist(), return_embedding)

    def _by_sparse(self, embedding: SparseEmbedding, where: FilterLike, k: int) -> SearchResult:
        if not isinstance(embedding, SparseEmbedding):
            raise InputTypeError(
                f"expected query_sparse_embedding as a SparseEmbedding, got {type(embedding).__name__}"
            )
        return self.collection.search(None, k, filter=where, mode="sparse", sparse_vector=sparse_pair(embedding))

    def hybrid_retrieval(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool | None = None,
        query_sparse_embedding: SparseEmbedding | None = None,
    ) -> list[Document]:
        """Return the documents that all rankings put first, fused by reciprocal rank.

        They are fused here and not by the collection, whose filter holds for all rankings: documents without an embedding are
        left out of the ranking by embedding alone.

        Parameters
        ----------
        query : str
            A bag of words, whatever is in it.
        query_embedding : list of float
            The query's vector.
        filters, top_k, return_embedding
            As for `OctavoHybridRetriever`.
        query_sparse_embedding : SparseEmbedding, optional
            The query's terms and weights, for a third ranking.

        Returns
        -------
        list of Document
            The best first.
        """
        where = to_filter(filters)
        if not check_integer(top_k, "top_k", least=0):
            return []
        depth = max(_DEPTH, 4 * top_k)
        by_words = self.collection.search(query, depth, filter=where, mode="text")
        rankings = [by_words]
        if has_vectors(self.collection):
            self._require_same_model()
            rankings.insert(0, self._by_embedding(query_embedding, where, depth))
        if query_sparse_embedding is not None and self.collection.has_sparse_vectors:
            rankings.append(self._by_sparse(query_sparse_embedding, where, depth))
        numbers: dict[str, int] = {}
        stored: dict[int, tuple[Stored, str | None]] = {}
        numbered = []
        for ranking in rankings:
            keys = [numbers.setdefault(id, len(numbers)) for id in ranking.ids]
            stored |= zip(keys, zip(ranking.documents, ranking.payloads, strict=True), strict=True)
            numbered.append((np.array(keys, np.int64), ranking.scores))
        best, scores = reciprocal_rank_fusion(numbered)
        chosen = [stored[key] for key in best[:top_k].tolist()]
        documents, payloads = [document for document, _ in chosen], [payload for _, payload in chosen]
        return self._documents(documents, payloads, scores[:top_k].tolist(), return_embedding)

    # ------------------------------------------------------------------ the same for event loops

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As `write_documents`, in a thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As `delete_documents`, in a thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """As `delete_all_documents`, in a thread."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `delete_by_filter`, in a thread."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """As `update_by_filter`, in a thread."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_async(self) -> int:
        """As `count_documents`, in a thread."""
        return await asyncio.to_thread(self.count_documents)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `count_documents_by_filter`, in a thread."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """As `filter_documents`, in a thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """As `count_unique_metadata_by_filter`, in a thread."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """As `get_metadata_fields_info`, in a thread."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """As `get_metadata_field_min_max`, in a thread."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """As `get_metadata_field_unique_values`, in a thread."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool | None = None,
    ) -> list[Document]:
        """As `embedding_retrieval`, in a thread."""
        return await asyncio.to_thread(
            self.embedding_retrieval, query_embedding, filters, top_k, scale_score, return_embedding
        )

    async def bm25_retrieval_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int = 10, scale_score: bool = False
    ) -> list[Document]:
        """As `bm25_retrieval`, in a thread."""
        return await asyncio.to_thread(self.bm25_retrieval, query, filters, top_k, scale_score)

    async def sparse_embedding_retrieval_async(
        self,
        query_sparse_embedding: SparseEmbedding,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool | None = None,
    ) -> list[Document]:
        """As `sparse_embedding_retrieval`, in a thread."""
        return await asyncio.to_thread(
            self.sparse_embedding_retrieval, query_sparse_embedding, filters, top_k, return_embedding
        )

    async def hybrid_retrieval_async(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool | None = None,
        query_sparse_embedding: SparseEmbedding | None = None,
    ) -> list[Document]:
        """As `hybrid_retrieval`, in a thread."""
        return await asyncio.to_thread(
            self.hybrid_retrieval, query, query_embedding, filters, top_k, return_embedding, query_sparse_embedding
        )


_TYPES: tuple[tuple[type, str], ...] = ((bool, "boolean"), (int, "int"), (float, "float"))


def _of_one_vector(collection: CollectionLike) -> CollectionLike:
    if collection.late is not None:
        raise ParameterError(
            "expected a collection with one vector a document, got one for late interaction; search it with "
            "collection.search, or fill a new one with octavo.open"
        )
    return collection


def _some(filters: dict[str, Any], instead: str) -> FilterLike:
    where = to_filter(filters)
    if where is None:
        raise FilterError(f"expected filters with a condition, got none; {instead}")
    return where


def _and_embedded(where: FilterLike) -> FilterLike:
    if where is None:
        return _EMBEDDED
    if isinstance(where, Filter):
        return And(where, _EMBEDDED)
    if callable(where):
        return lambda document: UNEMBEDDED not in document.metadata and where(document)
    raise FilterError(f"expected a filter, got {type(where).__name__}")


def _field(name: str) -> str:
    return name.removeprefix("meta.")


def _key(value: Any) -> tuple[str, str]:
    """Tell values apart as their types do: 1, 1.0, "1" and true are four."""
    return type(value).__name__, to_json(value)


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
