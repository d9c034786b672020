"""`OctavoVectorStore`: an Octavo collection as a LangChain vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from octavo.encoders.tokens import TokenEncoder
from octavo.integrations.langchain import _inputs
from octavo.integrations.langchain._base import as_filter, to_langchain
from octavo.integrations.langchain._embedding import in_thread
from octavo.integrations.langchain._inputs import BATCH_SIZE, Rows, Source, refuse_options
from octavo.integrations.langchain._search import SearchMethods
from octavo.integrations.langchain._transfer import TransferMethods


class OctavoVectorStore(SearchMethods, TransferMethods):
    """Keep LangChain documents in a compressed, durable collection.

    Parameters
    ----------
    embedding : Embeddings or encoder for late interaction, optional
        Turns texts into vectors. Without it, the encoder of `collection` is used, if it has one. With a
        ``sentence_transformers.MultiVectorEncoder``, a PyLate model or an `octavo.TokenEncoder` (of anything that gives
        token vectors), the store keeps many vectors a document and compares them by MaxSim.
    path : str or path-like, optional
        Directory of the collection; created when it is not there, opened when it is. None keeps it in memory.
    codec : str, optional
        How vectors are compressed: ``"int8"`` (default), ``"binary > int8"``, ``"svd:50%|float8 > int8"`` and so on. An
        existing collection keeps its own.
    collection : Collection or QdrantCollection, optional
        A collection that is open already, instead of `path`; it stays the caller's to close.
    collection_name : str, optional
        One of several collections that share the directory `path`, for instance one for each tenant. Any name is safe.
    relevance_score_fn : callable, optional
        Map from scores to relevance in [0, 1], instead of the one described in ``docs/langchain.md``.
    **options
        Options of `octavo.open`: ``metric``, ``dim``, ``full_text``, ``fit_after``, ``seed``, ``connectivity``,
        ``read_only``, ``must_exist``, ``lock_timeout``; for late interaction those of `octavo.open_multi_vector`, with
        ``pool_factor``, ``pooling`` and ``candidates``.

    Raises
    ------
    MismatchError
        When the collection was made with another embedding, codec or metric.
    ParameterError, InputTypeError
        When arguments contradict each other or have the wrong type.

    Examples
    --------
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> store = OctavoVectorStore(DeterministicFakeEmbedding(size=8))
    >>> store.add_texts(["red", "green"], [{"n": 1}, {"n": 2}], ids=["r", "g"])
    ['r', 'g']
    >>> store.similarity_search("red", k=1)
    [Document(id='r', metadata={'n': 1}, page_content='red')]
    >>> store.similarity_search("red", k=1, filter={"n": {"$gt": 1}})[0].id
    'g'
    >>> store.close()
    """

    # ------------------------------------------------------------------ writing

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts and store them, replacing documents whose id is there already.

        Parameters
        ----------
        texts : iterable of str
            A list is embedded as a whole before anything is stored; a stream is stored batch by batch, and so are
            token vectors, which take too much memory to wait for each other.
        metadatas : iterable of dict, optional
            One JSON object for each text.
        ids : iterable of str or None, optional
            One for each text; None makes up a new one.
        batch_size : int, default=256
            Texts embedded at a time, and documents committed at a time.

        Returns
        -------
        list of str
            The ids. When this returns, the documents survive a crash.

        Raises
        ------
        ParameterError
            When `ids` or `metadatas` are more or fewer than the texts, or an id comes twice.
        InputTypeError
            When something is not a string, or metadata is not JSON.
        TypeError
            For any other option.
        """
        refuse_options("add_texts", kwargs)
        return self._add(_inputs.from_texts(texts, metadatas, ids, batch_size))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts with the embedding's async method and store them off the event loop; see `add_texts`."""
        refuse_options("aadd_texts", kwargs)
        return await self._aadd(_inputs.from_texts(texts, metadatas, ids, batch_size))

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """Embed documents and store them, replacing those whose id is there already.

        Parameters
        ----------
        documents : iterable of Document
            Their own ids are kept.
        ids : iterable of str or None, optional
            One for each document; wins over the document's own.
        batch_size : int, default=256
            See `add_texts`.

        Returns
        -------
        list of str
            The ids.
        """
        refuse_options("add_documents", kwargs)
        return self._add(_inputs.from_documents(documents, ids, batch_size))

    async def aadd_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """Embed documents with the embedding's async method and store them off the event loop; see `add_documents`."""
        refuse_options("aadd_documents", kwargs)
        return await self._aadd(_inputs.from_documents(documents, ids, batch_size))

    def _add(self, source: Source) -> list[str]:
        if source.sized and self._late is None:
            slices = list(source)  # checks everything first
            return self._store(slices, [self._embedder.documents(part.texts) for part in slices], source.batch_size)
        added: list[str] = []
        for part in list(source) if source.sized else source:
            added += self._store([part], [self._embedder.documents(part.texts)], source.batch_size)
        return added

    async def _aadd(self, source: Source) -> list[str]:
        slices = await asyncio.to_thread(list, source) if source.sized else source
        if source.sized and self._late is None:
            vectors = [await self._embedder.adocuments(part.texts) for part in slices]
            return await in_thread(self._store, slices, vectors, source.batch_size)
        added: list[str] = []
        for part in slices:  # the caller's generator stays in the caller's thread
            vectors = [await self._embedder.adocuments(part.texts)]
            added += await in_thread(self._store, [part], vectors, source.batch_size)
        return added

    def _store(self, slices: Iterable[Rows], vectors: list[Any], batch_size: int) -> list[str]:
        rows = Rows()
        for part in slices:
            rows.extend(part)
        if not rows.ids:
            return []
        if self._late is not None:
            matrices = [matrix for part in vectors for matrix in part]
            return self._late.add(
                rows.texts, ids=rows.ids, metadata=rows.metadata, token_vectors=matrices, batch_size=batch_size
            )
        matrix = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        return self._collection.add(
            rows.texts, ids=rows.ids, metadata=rows.metadata, vectors=matrix, batch_size=batch_size
        )

    def delete(self, ids: Iterable[str] | None = None, *, filter: Any = None, **kwargs: Any) -> bool:
        """Delete documents.

        Parameters
        ----------
        ids : iterable of str, optional
            Ids that are not there are no error; an empty list deletes nothing.
        filter : dict, callable, filter tree or structured query, optional
            Delete what matches; with `ids`, those of them that match. With neither, **every document** is deleted, as
            LangChain specifies.

        Returns
        -------
        bool
            True.
        """
        refuse_options("delete", kwargs)
        if ids is None and filter is None:
            self._collection.clear()
        else:
            self._collection.delete(ids, as_filter(filter))
        return True

    async def adelete(self, ids: Iterable[str] | None = None, *, filter: Any = None, **kwargs: Any) -> bool:
        """Delete documents off the event loop; see `delete`."""
        return await in_thread(self.delete, ids, filter=filter, **kwargs)

    # ------------------------------------------------------------------ reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in the order asked; ids that are not there are left out."""
        return [to_langchain(document) for document in self._collection.get(ids)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, off the event loop."""
        return await in_thread(self.get_by_ids, ids)

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store and add texts to it.

        Parameters
        ----------
        texts, metadatas, ids, batch_size
            See `add_texts`.
        embedding : Embeddings or encoder for late interaction
            See `OctavoVectorStore`.
        **kwargs
            ``path``, ``codec`` and the other parameters of `OctavoVectorStore`.
        """
        source = _inputs.from_texts(texts, metadatas, ids, batch_size)
        return cls._filled(cls(embedding, **kwargs), source)

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store and add texts to it, off the event loop; see `from_texts`."""
        source = _inputs.from_texts(texts, metadatas, ids, batch_size)
        return await cls._afilled(await in_thread(cls, embedding, **kwargs), source)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | TokenEncoder | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store and add documents to it.

        Parameters
        ----------
        documents, ids, batch_size
            See `add_documents`.
        embedding : Embeddings or encoder for late interaction
            See `OctavoVectorStore`.
        **kwargs
            ``path``, ``codec`` and the other parameters of `OctavoVectorStore`.
        """
        source = _inputs.from_documents(documents, ids, batch_size)
        return cls._filled(cls(embedding, **kwargs), source)

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | TokenEncoder | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store and add documents to it, off the event loop; see `from_documents`."""
        source = _inputs.from_documents(documents, ids, batch_size)
        return await cls._afilled(await in_thread(cls, embedding, **kwargs), source)

    @classmethod
    def _filled(cls, store: Self, source: Source) -> Self:
        try:
            store._add(source)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def _afilled(cls, store: Self, source: Source) -> Self:
        try:
            await store._aadd(source)
        except BaseException:
            store.close()
            raise
        return store
