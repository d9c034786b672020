"""`OctavoVectorStore`: an Octavo collection as a LangChain vector store."""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages.content import create_image_block
from langchain_core.structured_query import FilterDirective, StructuredQuery
from langchain_core.vectorstores import VectorStore

from octavo import open as open_collection
from octavo import open_multi_vector
from octavo._files import as_path, put_in_place_of
from octavo._validation import check_integer
from octavo.collection import CollectionLike, MultiVectorLike
from octavo.collection.protocol import encodes_itself, require_local
from octavo.encoders.page_images import ImageLike, PageImage
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError, StaleVectorsError
from octavo.integrations.langchain import _inputs, _names
from octavo.integrations.langchain._embedding import (
    Embedder,
    TokenEmbedder,
    check_embedding,
    is_embedding,
    vectors_to_matrix,
)
from octavo.integrations.langchain._inputs import BATCH_SIZE, Rows, Source, refuse_options
from octavo.integrations.langchain._structured_query import OctavoTranslator
from octavo.retrievers.late_interaction import LateOptions
from octavo.retrievers.results import SearchResult
from octavo.store.database import DATABASE_NAME
from octavo.store.documents import Document as StoredDocument
from octavo.store.store import delete_files

Scored: TypeAlias = list[tuple[Document, float]]
RelevanceFn: TypeAlias = Callable[[float], float]

Store = TypeVar("Store", bound="OctavoVectorStore")

#: Options of `Collection.search` that the search methods pass on.
SEARCH_OPTIONS = (
    "ids",
    "mode",
    "text",
    "sparse_vector",
    "alpha",
    "rank",
    "weights",
    "fetch_k",
    "oversample",
    "ef",
    "n_probe",
    "exact",
)

#: Further options of `MultiVectorCollection.search`.
LATE_OPTIONS = ("n_candidates", "candidates")

#: Options of LangChain's that belong to one search type: retrievers whose type is configured keep them for the others.
OF_OTHER_TYPES = ("fetch_k", "lambda_mult", "score_threshold")

#: Options of `add_documents` that are for those above: a retriever that has put them into the metadata passes them on.
FOR_THE_CALLER = ("current_time",)

#: The best that reciprocal rank fusion can give a document for each ranking: it is the first, with the usual constant of 60.
_BEST_RANK = 1 / 61

#: What other LangChain stores call some options.
_OTHER_NAMES = {
    "embedding_function": "embedding",
    "embeddings": "embedding",
    "persist_directory": "path",
    "distance_strategy": "metric",
}


class OctavoVectorStore(VectorStore):
    """Keep LangChain documents in a compressed, durable collection.

    Parameters
    ----------
    embedding : Embeddings or encoder for late interaction, optional
        Turns texts into vectors. Without it, the encoder of `collection` is used, if it has one. With a
        ``sentence_transformers.MultiVectorEncoder``, a PyLate model or an `octavo.TokenEncoder` (of anything that gives
        token vectors), the store keeps many vectors a document and compares them by MaxSim.
    path : str or path-like, optional
        Directory of the collection; created when it is not there, opened when it is. None keeps it in memory. A relative
        one is made absolute at once.
    codec : str, optional
        How vectors are compressed: ``"int8"`` (default), ``"rabitq:1 > int8"``, ``"svd:50%|float8 > int8"`` and so on. An
        existing collection keeps its own.
    collection : Collection or QdrantCollection, optional
        A collection that is open already, instead of `path`; it stays the caller's to close.
    collection_name : str, optional
        One of several collections that share the directory `path`, for instance one for each tenant. Any name is safe.
    embed_text : str or callable, optional
        What is embedded of a document in place of its ``page_content``, which is returned: the metadata under this key, or
        what this function makes of the `Document`; where that is None, the text itself. Not kept with the collection: give it
        whenever documents are added.
    relevance_score_fn : callable, optional
        Map from scores to relevance in [0, 1], instead of the one described in ``docs/langchain.md``.
    **options
        Options of `octavo.open`: ``sparse`` (an encoder of learned sparse vectors), ``metric``,
        ``dim``, ``full_text``, ``fit_after``, ``seed``, ``index``, ``connectivity``,
        ``read_only``, ``must_exist``, ``lock_timeout``, ``previous`` (the embedding that
        the collection is being changed from: see `reencode`); for late interaction those of `octavo.open_multi_vector`, with
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

    def __init__(
        self,
        embedding: Embeddings | TokenEncoder | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        codec: str | None = None,
        collection: CollectionLike | None = None,
        collection_name: str | None = None,
        embed_text: _inputs.EmbedText | None = None,
        relevance_score_fn: RelevanceFn | None = None,
        **options: Any,
    ) -> None:
        for theirs, ours in _OTHER_NAMES.items():
            if theirs in options:
                raise TypeError(f"unexpected option {theirs!r}; in OctavoVectorStore it is called {ours}=")
        self._embedding = check_embedding(embedding)
        if relevance_score_fn is not None and not callable(relevance_score_fn):
            raise InputTypeError(
                "expected relevance_score_fn as a callable from float to float, "
                f"got {type(relevance_score_fn).__name__}"
            )
        self._relevance_score_fn = relevance_score_fn
        if embed_text is not None and not isinstance(embed_text, str) and not callable(embed_text):
            raise InputTypeError(
                f"expected embed_text as a key of metadata or a callable on a Document, got {type(embed_text).__name__}"
            )
        self._embed_text = embed_text
        self._root: Path | None = None  # where named collections lie
        self._collection_name = collection_name
        self._owns_collection = collection is None
        self._reopened_with: dict[str, Any] = {
            name: options[name] for name in ("read_only", "lock_timeout", "previous") if name in options
        }
        if collection is not None:
            _refuse_with_collection(
                collection, {"path": path, "codec": codec, "collection_name": collection_name, **options}
            )
            self._collection: CollectionLike = collection
        else:
            self._collection = self._open(path, codec, collection_name, options)
        # A collection for late interaction, of which some methods ask something else; None for ordinary ones.
        self._late: MultiVectorLike | None = self._collection.late
        try:
            self._embedder = self._embedder_of_its_kind()
        except BaseException:
            self.close()
            raise

    def _embedder_of_its_kind(self) -> Embedder | TokenEmbedder:
        embedding = self._embedding
        if self._late is None:
            if isinstance(embedding, TokenEncoder):
                raise MismatchError(
                    f"the collection keeps one vector a document, got {embedding!r}, which makes many; give LangChain "
                    "Embeddings, or a collection of octavo.open_multi_vector"
                )
            return Embedder(embedding, self._collection)
        if embedding is None:
            return TokenEmbedder(self._late.encoder, self._late)
        if isinstance(embedding, TokenEncoder):
            return TokenEmbedder(embedding, self._late)
        raise _one_for_many(embedding)

    def _open(
        self, path: str | os.PathLike[str] | None, codec: str | None, name: str | None, options: dict[str, Any]
    ) -> CollectionLike:
        directory = as_path(path, "path") if path is not None else None
        if name is not None:
            inside = _names.collection_path(directory or Path(), name)  # checks the name even where nothing is written
            if directory is not None:
                self._root, directory = directory, inside
                if not (options.get("must_exist") or options.get("read_only")):
                    _names.remember_name(self._root, name)
        if isinstance(self._embedding, TokenEncoder):
            return open_multi_vector(directory, self._embedding, codec=codec, **options)
        return open_collection(directory, self._embedding, codec=codec, **options)

    # ------------------------------------------------------------------ what it is

    @property
    def embeddings(self) -> Embeddings | None:
        """The embedding, if there is one; an encoder for late interaction is none to LangChain: see `embedding`."""
        return self._embedding if not isinstance(self._embedding, TokenEncoder) else None

    @property
    def embedding(self) -> Embeddings | TokenEncoder | None:
        """The embedding or encoder, under the name of the constructor's argument."""
        return self._embedding

    @property
    def collection(self) -> CollectionLike:
        """The collection underneath, with everything that LangChain has no word for: `info`, `verify`, `compact`."""
        return self._collection

    @property
    def collection_name(self) -> str | None:
        """The name under which the collection lives in a shared directory."""
        return self._collection_name

    def __repr__(self) -> str:
        embedding = type(self._embedding).__name__ if self._embedding is not None else None
        return f"OctavoVectorStore(embedding={embedding}, collection={self._collection!r})"

    def count(self, filter: Any = None) -> int:
        """Return the number of documents (that match)."""
        return self._collection.count(as_filter(filter))

    def close(self) -> None:
        """Release the files; documents are durable without this. A collection that was passed in stays open."""
        if self._owns_collection:
            self._collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ another model

    def reencode(
        self,
        embedding: Embeddings | TokenEncoder | None = None,
        codec: str | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        progress: bool = False,
    ) -> None:
        """Change the collection's model to another embedding, while it is searched and written to.

        Parameters
        ----------
        embedding : Embeddings or encoder for late interaction, optional
            The new one; by default the one that the store was opened with.
        codec, batch_size, rate, serve, progress
            See `octavo.Collection.reencode`. Run it again after an interruption: it goes on where it was.

        Raises
        ------
        ParameterError
            When there is no embedding.
        """
        coming = check_embedding(embedding) if embedding is not None else self._embedding
        if coming is None:
            raise ParameterError("expected the new embedding, but the store has none of its own either")
        collection = self._collection
        own = self._embedding if collection.encoder is None and coming is not self._embedding else None
        collection.reencode(
            coming, codec, batch_size=batch_size, rate=rate, serve=serve, previous=own, progress=progress
        )
        self._embedding = coming
        self._embedder = self._embedder_of_its_kind()

    # ------------------------------------------------------------------ copies

    def __reduce__(self) -> tuple[Any, ...]:
        if _path_of(self._collection) is None:
            raise InputTypeError(
                "a store is pickled as a reference to its directory, and this one has none: its documents are in memory or "
                "in Qdrant; open it with path=, or save it with save_local() and pickle what load_local() opens"
            )
        return _reopened, (type(self), self._reference())

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if _path_of(self._collection) is not None:
            return _reopened(type(self), self._reference())
        twin = self.__copy__()
        if self._collection.local is not None:
            twin._collection = self._collection.local.copy()
            twin._late = twin._collection.late
            twin._owns_collection = True
            twin._embedder = twin._embedder_of_its_kind()
        else:  # the documents are elsewhere, and are not copied
            twin._owns_collection = False
        return twin

    def _reference(self) -> dict[str, Any]:
        """Return what opens the same collection again, there or in another process."""
        options = self._reopened_with | {
            "relevance_score_fn": self._relevance_score_fn,
            "embed_text": self._embed_text,
        }
        if self._collection.sparse_encoder is not None:
            options["sparse"] = self._collection.sparse_encoder
        if self._root is not None:
            return options | {
                "embedding": self._embedding,
                "path": str(self._root),
                "collection_name": self._collection_name,
            }
        embedding = self._embedding if self._embedding is not None else self._collection.encoder
        return options | {"embedding": embedding, "path": str(_path_of(self._collection))}

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

        What was embedded already under the same id, by this store or another one, is not embedded again.

        Parameters
        ----------
        texts : iterable of str
            A list is embedded as a whole before anything is stored; a stream is stored batch by batch, and so are
            token vectors, which take too much memory to wait for each other.
        metadatas : iterable of dict, optional
            One for each text: JSON values, dates, times, tuples and numbers of numpy.
        ids : iterable of str, int or None, optional
            One for each text; None makes up a new one, and an integer becomes its digits.
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
            When something is not a string, or metadata cannot be stored; the message names the document and the key.
        TypeError
            For any other option.
        """
        refuse_options("add_texts", kwargs)
        return self._add(_inputs.from_texts(texts, metadatas, ids, batch_size, self._embed_text))

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
        return await self._aadd(_inputs.from_texts(texts, metadatas, ids, batch_size, self._embed_text))

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
        **kwargs
            ``current_time``, which `TimeWeightedVectorStoreRetriever` passes on after having used it, has no effect; any
            other option raises.

        Returns
        -------
        list of str
            The ids.
        """
        refuse_options("add_documents", kwargs, but=FOR_THE_CALLER)
        return self._add(_inputs.from_documents(documents, ids, batch_size, self._embed_text))

    async def aadd_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs: Any,
    ) -> list[str]:
        """Embed documents with the embedding's async method and store them off the event loop; see `add_documents`."""
        refuse_options("aadd_documents", kwargs, but=FOR_THE_CALLER)
        return await self._aadd(_inputs.from_documents(documents, ids, batch_size, self._embed_text))

    def add_images(
        self,
        images: Iterable[ImageLike],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Encode images and store them, replacing documents whose id is there already; of stores for late interaction.

        Parameters
        ----------
        images : iterable of PageImage, path, bytes or PIL image
            ``octavo.pdf_pages(path)`` gives the pages of a PDF. What stands beside an image as text is its `page_content`. A
            list is checked as a whole before anything is stored.
        metadatas : iterable of dict, optional
            One for each image. ``source`` and, of a page, ``page`` are added unless they are there.
        ids : iterable of str or None, optional
            One for each image; None makes up a new one.
        batch_size : int, default=256
            Images encoded and committed at a time.

        Returns
        -------
        list of str
            The ids. When this returns, the documents survive a crash.

        Raises
        ------
        InvalidImageError
            When an image cannot be used; the message says which and why.
        ParameterError
            When the store keeps one vector a document, or its model takes no images.
        """
        if self._late is None:
            raise ParameterError(
                "expected a store for late interaction, which images are for, got one with one vector a document; use "
                "LateInteractionRetriever, or OctavoVectorStore(octavo.TokenEncoder(model))"
            )
        named = [each if each is None else _inputs.as_ids([each])[0] for each in ids] if ids is not None else None
        return self._late.add(images, ids=named, metadata=metadatas, batch_size=batch_size)

    async def aadd_images(
        self,
        images: Iterable[ImageLike],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Encode and store images off the event loop; see `add_images`."""
        return await asyncio.to_thread(self.add_images, images, metadatas, ids=ids, batch_size=batch_size)

    def image_blocks(self, documents: Iterable[Document | str]) -> list[dict[str, Any] | None]:
        """Return the images of documents in the form that chat models take in a message.

        Parameters
        ----------
        documents : iterable of Document or str
            Found in this store, or their ids.

        Returns
        -------
        list of (dict or None)
            For each ``{"type": "image", "base64": ..., "mime_type": ...}``, for the `content` of a ``HumanMessage``; None for
            a document that is no image, or is not there (any more).

        Raises
        ------
        InvalidImageError
            When the file of an image that is kept by reference is gone or has changed.
        """
        names = [each.id if isinstance(each, Document) else each for each in documents]
        stored = {each.id: each for each in self._collection.get([name for name in names if name is not None])}
        return [image_block(stored[name]) if name in stored else None for name in names]

    async def aimage_blocks(self, documents: Iterable[Document | str]) -> list[dict[str, Any] | None]:
        """Return the images of documents, read off the event loop; see `image_blocks`."""
        return await asyncio.to_thread(self.image_blocks, list(documents))

    def _add(self, source: Source) -> list[str]:
        if source.sized and self._late is None:
            slices = list(source)  # checks everything first
            return self._store(slices, [self._embedded(part) for part in slices], source.batch_size)
        added: list[str] = []
        for part in list(source) if source.sized else source:
            added += self._store([part], [self._embedded(part)], source.batch_size)
        return added

    async def _aadd(self, source: Source) -> list[str]:
        slices = await asyncio.to_thread(list, source) if source.sized else source
        if source.sized and self._late is None:
            vectors = [await self._aembedded(part) for part in slices]
            return await self._astore(slices, vectors, source.batch_size)
        added: list[str] = []
        for part in slices:  # the caller's generator stays in the caller's thread
            added += await self._astore([part], [await self._aembedded(part)], source.batch_size)
        return added

    def _embedded(self, part: Rows, *, anew: bool = False) -> list[Any] | None:
        """Return a vector for each row, None for one that is there; None for all where the collection has to encode them."""
        known = self._known(part) if not anew else []
        texts = [text for text, there in zip_longest(part.to_embed, known) if not there]
        if not texts and known and not encodes_itself(self._collection):
            self._embedder.confirm()
            return [None] * len(known)
        return _merged(self._embedder.documents(texts), known)

    async def _aembedded(self, part: Rows, *, anew: bool = False) -> list[Any] | None:
        """Return what `_embedded` does, through the embedding's async method."""
        known = await asyncio.to_thread(self._known, part) if not anew else []
        texts = [text for text, there in zip_longest(part.to_embed, known) if not there]
        if not texts and known and not encodes_itself(self._collection):
            await self._embedder.aconfirm()
            return [None] * len(known)
        return _merged(await self._embedder.adocuments(texts), known)

    def _known(self, part: Rows) -> list[bool]:
        """Tell which rows were embedded before; empty if none of them was."""
        if not any(part.ids) or encodes_itself(self._collection):
            return []
        known = self._collection.embedded(part.ids, part.to_embed)
        return known if any(known) else []

    def _store(
        self, slices: Sequence[Rows] | Iterable[Rows], vectors: list[list[Any] | None], batch_size: int
    ) -> list[str]:
        listed = list(slices)
        try:
            return self._write(listed, vectors, batch_size)
        except StaleVectorsError:  # somebody was faster
            return self._write(listed, [self._embedded(part, anew=True) for part in listed], batch_size)

    async def _astore(self, slices: Iterable[Rows], vectors: list[list[Any] | None], batch_size: int) -> list[str]:
        listed = list(slices)
        try:
            return await asyncio.to_thread(self._write, listed, vectors, batch_size)
        except StaleVectorsError:
            made = [await self._aembedded(part, anew=True) for part in listed]
            return await asyncio.to_thread(self._write, listed, made, batch_size)

    def _write(self, slices: Sequence[Rows], vectors: list[list[Any] | None], batch_size: int) -> list[str]:
        rows = Rows()
        for part in slices:
            rows.extend(part)
        if not rows.ids:
            return []
        other = rows.embed_texts if any(text is not None for text in rows.embed_texts) else None
        made = [vector for part in vectors if part is not None for vector in part]
        if len(made) < len(rows.ids):  # the collection's model is being changed: it knows which one is meant
            return self._collection.add(
                rows.texts, ids=rows.ids, metadata=rows.metadata, embed_texts=other, batch_size=batch_size
            )
        added = self._collection.add_embedded(
            rows.texts, rows.ids, rows.metadata, made, embed_texts=other, batch_size=batch_size
        )
        fresh = [row for row, vector in enumerate(made) if vector is not None]
        if fresh:
            texts = rows.to_embed
            self._embedder.remember(
                [added[row] for row in fresh], [texts[row] for row in fresh], [made[row] for row in fresh]
            )
        return added

    def update(
        self,
        ids: Iterable[str],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        texts: Iterable[str | None] | None = None,
    ) -> None:
        """Change metadata, or the text that is returned, of stored documents without embedding anything; all or none.

        Parameters
        ----------
        ids : iterable of str
            Documents that are there, each once.
        metadatas : iterable of dict, optional
            For each the new metadata as a whole; None leaves it as it is.
        texts : iterable of str, optional
            For each the new text; None leaves it as it is. The earlier one stays what its vector is made of.

        Raises
        ------
        DocumentNotFoundError
            When one of them is not there.
        """
        self._collection.update(_inputs.as_ids(ids), metadatas, texts)

    async def aupdate(
        self,
        ids: Iterable[str],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        texts: Iterable[str | None] | None = None,
    ) -> None:
        """Change metadata or texts of stored documents off the event loop; see `update`."""
        await asyncio.to_thread(self.update, ids, metadatas, texts)

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
            self._collection.delete(_inputs.as_ids(ids) if ids is not None else None, as_filter(filter))
        return True

    async def adelete(self, ids: Iterable[str] | None = None, *, filter: Any = None, **kwargs: Any) -> bool:
        """Delete documents off the event loop; see `delete`."""
        return await asyncio.to_thread(self.delete, ids, filter=filter, **kwargs)

    # ------------------------------------------------------------------ reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in the order asked; ids that are not there are left out."""
        return [to_langchain(document) for document in self._collection.get(_inputs.as_ids(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, off the event loop."""
        return await asyncio.to_thread(self.get_by_ids, ids)

    # ------------------------------------------------------------------ similarity

    def similarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:
        """Return the k documents most similar to a query.

        Parameters
        ----------
        query : str
            The query's text.
        k : int, default=4
            Results; if n documents match the filter, min(k, n) come back.
        filter : dict, callable, filter tree or structured query, optional
            Which documents may come back, honoured during the search: dict operators
            (``{"year": {"$gte": 2020}}``), a function of `Document`, a tree of `octavo.filters`, or LangChain's
            ``structured_query`` objects.
        **kwargs
            Options of `octavo.Collection.search`: ``mode`` ("dense", "text", "sparse", "hybrid"), ``rank``, ``weights``,
            ``alpha``, ``text``, ``sparse_vector``, ``ids``,
            ``fetch_k``, ``oversample``, ``ef``, ``n_probe``, ``exact``; for late interaction also ``n_candidates`` and
            ``candidates``. Options of LangChain's other search types (``score_threshold``, ``lambda_mult``, and
            ``fetch_k`` without ``mode="hybrid"``) have no effect, as in LangChain's own stores: a retriever whose search
            type is configured at run time passes them all.

        Returns
        -------
        list of Document
            Best first.

        Raises
        ------
        TypeError
            For an option that is none of these.
        InvalidFilterError, ParameterError
            When the filter or an option cannot be used.
        """
        return _documents(self.similarity_search_with_score(query, k, filter, **kwargs))

    async def asimilarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:
        """Return the k documents most similar to a query, off the event loop; see `similarity_search`."""
        return _documents(await self.asimilarity_search_with_score(query, k, filter, **kwargs))

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return the k documents most similar to a query, each with its score.

        The score is Octavo's own: **higher is better**. It is the cosine (or, with ``metric="dot"``, the dot product) in
        the finest tier of the codec, MaxSim in a store for late interaction, BM25 with ``mode="text"``, the inner product
        with ``mode="sparse"``, the fused score with ``mode="hybrid"``.

        Parameters
        ----------
        query, k, filter, **kwargs
            See `similarity_search`.

        Returns
        -------
        list of (Document, float)
            Best first.
        """
        options = search_options(kwargs)
        vector = self._embedder.query(query) if needs_vector(options) else None
        return self._scored(query, vector, k, filter, options)

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return scored documents, off the event loop; see `similarity_search_with_score`."""
        options = search_options(kwargs)
        vector = await self._embedder.aquery(query) if needs_vector(options) else None
        return await asyncio.to_thread(self._scored, query, vector, k, filter, options)

    def similarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents most similar to a vector; ``mode="hybrid"`` needs ``text=`` beside it."""
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    async def asimilarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents most similar to a vector, off the event loop."""
        return _documents(await self.asimilarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return the k documents most similar to a vector, each with its score.

        Parameters
        ----------
        embedding : sequence of float, or matrix of shape (n_tokens, dim)
            The query's vector; in a store for late interaction its token vectors.
        k, filter, **kwargs
            See `similarity_search`; ``mode="hybrid"`` needs ``text=`` beside the vector.

        Returns
        -------
        list of (Document, float)
            Best first; higher is better.
        """
        options = search_options(kwargs)
        return self._scored(None, embedding, k, filter, options)

    async def asimilarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return scored documents for a vector, off the event loop; see `similarity_search_with_score_by_vector`."""
        options = search_options(kwargs)
        return await asyncio.to_thread(self._scored, None, embedding, k, filter, options)

    # ------------------------------------------------------------------ relevance

    def _select_relevance_score_fn(self) -> RelevanceFn:
        return self._relevance_fn({})

    def _relevance_fn(self, options: dict[str, Any]) -> RelevanceFn:
        if self._relevance_score_fn is not None:
            return self._relevance_score_fn
        dense = cosine_relevance if self._collection.metric == "cosine" else unbounded_relevance
        parts = ranked_by(options)
        if tuple(parts) == ("dense",):
            return dense if self._late is None else unbounded_relevance
        if len(parts) == 1:
            return positive_relevance
        if None in parts.values():
            return lambda score: fraction_relevance(score / (_BEST_RANK * len(parts)))
        return fraction_relevance

    def _similarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        if not self._scores_by_maxsim(kwargs):
            relevance = self._relevance_fn(kwargs)
            return [(doc, relevance(score)) for doc, score in self.similarity_search_with_score(query, k, **kwargs)]
        where = kwargs.pop("filter", None)
        options = search_options(kwargs)
        tokens = self._embedder.query(query)
        return _mean_relevance(self._scored(query, tokens, k, where, options), self._token_count(query, tokens))

    async def _asimilarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        if not self._scores_by_maxsim(kwargs):
            relevance = self._relevance_fn(kwargs)
            scored = await self.asimilarity_search_with_score(query, k, **kwargs)
            return [(doc, relevance(score)) for doc, score in scored]
        where = kwargs.pop("filter", None)
        options = search_options(kwargs)
        tokens = await self._embedder.aquery(query)
        scored = await asyncio.to_thread(self._scored, query, tokens, k, where, options)
        return _mean_relevance(scored, await asyncio.to_thread(self._token_count, query, tokens))

    def _token_count(self, query: str, tokens: Any) -> int:
        if tokens is not None:
            return len(tokens)
        assert isinstance(self._embedder, TokenEmbedder)  # asked only where scores are sums over tokens
        return self._embedder.count(query)

    def _scores_by_maxsim(self, options: dict[str, Any]) -> bool:
        """Tell whether scores are sums over the query's tokens, whose number is needed to make something of them."""
        if self._late is None or self._relevance_score_fn is not None:
            return False
        return tuple(ranked_by(options)) == ("dense",)

    # ------------------------------------------------------------------ diversity

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k documents that are relevant to a query and differ from each other.

        Parameters
        ----------
        query : str
            The query's text.
        k : int, default=4
            Results.
        fetch_k : int, default=20
            Candidates to choose from, k at least.
        lambda_mult : float, default=0.5
            1 is relevance alone, 0 the greatest diversity.
        filter, **kwargs
            See `similarity_search`.

        Returns
        -------
        list of Document
            In the order chosen.
        """
        return _documents(
            self.max_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, filter, **kwargs)
        )

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return diverse documents, off the event loop; see `max_marginal_relevance_search`."""
        return _documents(
            await self.amax_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, filter, **kwargs)
        )

    def max_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int | None = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return diverse documents, each with its score for the query.

        Parameters
        ----------
        query, k, fetch_k, lambda_mult, filter, **kwargs
            See `max_marginal_relevance_search`.

        Returns
        -------
        list of (Document, float)
            In the order chosen, so that the scores need not fall.
        """
        options = search_options(kwargs)
        return self._scored(query, self._embedder.query(query), k, filter, options, fetch_k, lambda_mult)

    async def amax_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int | None = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return scored diverse documents, off the event loop; see `max_marginal_relevance_search_with_score`."""
        options = search_options(kwargs)
        vector = await self._embedder.aquery(query)
        return await asyncio.to_thread(self._scored, query, vector, k, filter, options, fetch_k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k documents that are relevant to a vector and differ from each other."""
        options = search_options(kwargs)
        return _documents(self._scored(None, embedding, k, filter, options, fetch_k, lambda_mult))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return diverse documents for a vector, off the event loop."""
        options = search_options(kwargs)
        return _documents(
            await asyncio.to_thread(self._scored, None, embedding, k, filter, options, fetch_k, lambda_mult)
        )

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
        source = _inputs.from_texts(texts, metadatas, ids, batch_size, kwargs.get("embed_text"))
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
        source = _inputs.from_texts(texts, metadatas, ids, batch_size, kwargs.get("embed_text"))
        return await cls._afilled(await asyncio.to_thread(cls, embedding, **kwargs), source)

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
        source = _inputs.from_documents(documents, ids, batch_size, kwargs.get("embed_text"))
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
        source = _inputs.from_documents(documents, ids, batch_size, kwargs.get("embed_text"))
        return await cls._afilled(await asyncio.to_thread(cls, embedding, **kwargs), source)

    @classmethod
    def _filled(cls, store: Self, source: Source) -> Self:
        held = len(store._collection)
        try:
            store._add(source)
        except BaseException:
            store.close()
            raise
        _tell_doubled(held, source)
        return store

    @classmethod
    async def _afilled(cls, store: Self, source: Source) -> Self:
        held = await asyncio.to_thread(len, store._collection)
        try:
            await store._aadd(source)
        except BaseException:
            store.close()
            raise
        _tell_doubled(held, source)
        return store

    # ------------------------------------------------------------------ ready vectors

    @classmethod
    def from_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store and add texts whose vectors are known.

        Parameters
        ----------
        text_embeddings : iterable of (str, sequence of float)
            Texts with their vectors.
        embedding : Embeddings, optional
            Used for queries.
        metadatas, ids
            See `add_texts`.
        **kwargs
            ``path``, ``codec`` and the other parameters of `OctavoVectorStore`.

        Examples
        --------
        >>> from octavo.integrations.langchain import OctavoVectorStore
        >>> store = OctavoVectorStore.from_embeddings([("red", [1.0, 0.0]), ("green", [0.0, 1.0])])
        >>> store.similarity_search_by_vector([0.9, 0.1], k=1)[0].page_content
        'red'
        """
        store = cls(embedding, **kwargs)
        try:
            store.add_embeddings(text_embeddings, metadatas, ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def afrom_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store from texts with vectors, off the event loop; see `from_embeddings`."""
        return await asyncio.to_thread(cls.from_embeddings, text_embeddings, embedding, metadatas, ids, **kwargs)

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Any]],
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
    ) -> list[str]:
        """Add texts whose vectors are known, replacing documents whose id is there already.

        Parameters
        ----------
        text_embeddings : iterable of (str, sequence of float)
            Texts with their vectors.
        metadatas, ids
            See `add_texts`.

        Returns
        -------
        list of str
            The ids.

        Raises
        ------
        ParameterError
            When the store is for late interaction.
        """
        if self._late is not None:
            raise ParameterError(
                "add_embeddings stores one vector a text, but this store keeps many; use add_texts or add_documents, which "
                "encode the texts, or store.collection.add(texts, token_vectors=...)"
            )
        texts: list[str] = []
        rows: list[Any] = []
        for position, pair in enumerate(text_embeddings):
            if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
                raise InputTypeError(
                    f"expected text_embeddings as pairs of text and vector, got {type(pair).__name__} "
                    f"at position {position}"
                )
            texts.append(pair[0])
            rows.append(pair[1])
        added: list[str] = []
        vectors = vectors_to_matrix(rows, len(texts))
        for part in _inputs.from_texts(texts, metadatas, ids, max(1, len(texts)), self._embed_text):
            added = self._collection.add(
                part.texts, ids=part.ids, metadata=part.metadata, vectors=vectors, embed_texts=part.embed_texts
            )
        return added

    async def aadd_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Any]],
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
    ) -> list[str]:
        """Add texts whose vectors are known, off the event loop; see `add_embeddings`."""
        return await asyncio.to_thread(self.add_embeddings, text_embeddings, metadatas, ids)

    def merge_from(self, other: OctavoVectorStore) -> int:
        """Add every document of another store to this one; the other stays as it is.

        Vectors are taken over as they come out of the other's codec, nothing is embedded again. Documents whose id is
        here already are replaced.

        Parameters
        ----------
        other : OctavoVectorStore
            A store with the same embedding.

        Returns
        -------
        int
            How many documents were added or replaced.

        Raises
        ------
        MismatchError
            When the other's vectors have another dimension, or lost the lengths that this store's metric needs.
        ParameterError
            When one of them is for late interaction.
        """
        if not isinstance(other, OctavoVectorStore):
            raise InputTypeError(f"expected an OctavoVectorStore to merge from, got {type(other).__name__}")
        if self._late is not None or other._late is not None:
            raise ParameterError(
                "merge_from takes over ready vectors, but token vectors are pooled, which cannot be done twice; use "
                "add_documents, which encodes the other store's documents again"
            )
        source, target = other._collection, self._collection
        if source is target or _same_place(_path_of(source), _path_of(target)):
            raise ParameterError("expected another store to merge from, got the same collection")
        if target.metric == "dot" and source.metric == "cosine":
            raise MismatchError(
                "expected a store with metric 'dot' to merge from, got one with 'cosine', whose vectors were "
                "normalised; add its documents with add_documents, which embeds them again"
            )
        if None not in (source.dim, target.dim) and source.dim != target.dim:
            raise MismatchError(
                f"expected vectors of dimension {target.dim}, the other store's have {source.dim}; was it built with "
                "another model?"
            )
        merged = 0
        for ids in _parts(source.ids(), BATCH_SIZE):
            documents = source.get(ids)
            kept = [document.id for document in documents]
            if not kept:
                continue
            vectors, payloads = source.get_vectors(kept), source.get_payloads(kept)
            sparse = source.get_sparse_vectors(kept) if source.has_sparse_vectors else None
            merged += len(target.add(documents, vectors=vectors, sparse_vectors=sparse, payloads=payloads))
        return merged

    # ------------------------------------------------------------------ folders

    def save_local(self, folder_path: str | os.PathLike[str], collection_name: str | None = None) -> None:
        """Copy the collection to a folder; a collection that is there already is replaced, other files in it stay.

        A store with a ``path`` does not need this: it is saved after each call. For the folder that the store lives in,
        this only saves the graph.

        Parameters
        ----------
        folder_path : str or path-like
            Where to.
        collection_name : str, optional
            Save it as one of several named collections in that folder.

        Raises
        ------
        ParameterError
            When the folder holds files, but no collection to replace, or the documents lie in Qdrant.
        """
        collection = require_local(self._collection, "save_local", "octavo pull makes a local one of it")
        target = as_path(folder_path, "folder_path")
        if collection_name is not None:
            _names.remember_name(target, collection_name)
            target = _names.collection_path(target, collection_name)
        target = target.resolve()  # a link stays one: what it leads to is replaced
        if _same_place(collection.path, target):
            collection.flush()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target / DATABASE_NAME).is_file():
            collection.copy(target).close()
            return
        # The old one is there until the new one is complete; then the two change places.
        draft = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        try:
            collection.copy(draft).close()
            old = put_in_place_of(draft, target)
        except BaseException:
            if draft.exists():
                delete_files(draft)
            raise
        delete_files(old)
        if old.exists():  # files that are not the collection's: they stay in the folder
            for entry in old.iterdir():
                entry.rename(target / entry.name)
            old.rmdir()

    @classmethod
    def load_local(
        cls,
        folder_path: str | os.PathLike[str],
        embedding: Embeddings | TokenEncoder | None = None,
        collection_name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open the collection in a folder. Changes go there, too: the folder *is* the store.

        Parameters
        ----------
        folder_path : str or path-like
            Where from.
        embedding : Embeddings, optional
            The embedding that it was built with.
        collection_name : str, optional
            Which of several named collections.
        **kwargs
            Other parameters of `OctavoVectorStore`.

        Raises
        ------
        CollectionNotFoundError
            When there is none.
        MismatchError
            When it was built with another embedding.
        ParameterError
            For ``allow_dangerous_deserialization``, which other stores need because they unpickle what they load.
        """
        if "allow_dangerous_deserialization" in kwargs:
            raise ParameterError(
                "load_local unpickles nothing, so there is nothing dangerous to allow: leave out "
                "allow_dangerous_deserialization"
            )
        if "index_name" in kwargs:
            raise ParameterError(
                "expected collection_name=, got index_name=; a folder may hold several named collections"
            )
        kwargs.setdefault("must_exist", True)
        return cls(embedding, folder_path, collection_name=collection_name, **kwargs)

    # ------------------------------------------------------------------ named collections

    @staticmethod
    def list_collections(path: str | os.PathLike[str]) -> list[str]:
        """Return the names of the collections that share a directory, sorted."""
        return _names.list_names(as_path(path, "path"))

    def delete_collection(self) -> None:
        """Close the store and delete its collection from disk; the store cannot be used afterwards.

        Raises
        ------
        ParameterError
            When the documents lie in Qdrant.
        """
        instead = "delete() without arguments deletes its documents, and the rest is to be deleted in Qdrant"
        require_local(self._collection, "delete_collection", instead).destroy()
        if self._root is not None and self._collection_name is not None:
            _names.forget_name(self._root, self._collection_name)

    # ------------------------------------------------------------------ inside

    def _scored(
        self,
        query: str | None,
        vector: Any,
        k: int,
        where: Any,
        options: dict[str, Any],
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
    ) -> Scored:
        k = check_integer(k, "k", least=0)
        options = dict(options)
        if self._late is not None:
            if query is None:
                _check_token_vectors(vector)
        elif late := next((name for name in LATE_OPTIONS if name in options), None):
            raise ParameterError(f"{late} belongs to stores for late interaction; this one keeps one vector a document")
        if query is not None and vector is not None and _looks_at_words(options):
            options.setdefault("text", query)
        if fetch_k is not None:
            options["fetch_k"] = fetch_k
        if not k:
            return []
        result: SearchResult = self._collection.search(
            vector if vector is not None else query,
            k,
            filter=as_filter(where) if where is not None else None,
            lambda_mult=lambda_mult,
            **options,
        )
        scores = result.scores.tolist()
        return [(to_langchain(document), score) for document, score in zip(result.documents, scores, strict=True)]


def _looks_at_words(options: dict[str, Any]) -> bool:
    asked = _asked(options)
    return asked.needs_words or (asked.needs_sparse and options.get("sparse_vector") is None)


def _check_token_vectors(vector: Any) -> None:
    if np.ndim(vector) != 2:
        raise InvalidVectorsError(
            "expected the token vectors of a query, of shape (n_tokens, dim), because this store keeps many vectors a "
            f"document; got shape {np.shape(vector)}. Use similarity_search(query), which encodes the text, or "
            "store.collection.encode_queries([query])[0]"
        )


def needs_vector(options: dict[str, Any]) -> bool:
    """Tell whether a search with these options looks at vectors at all."""
    return _asked(options).needs_vectors


def ranked_by(options: dict[str, Any]) -> dict[str, float | None]:
    """Return the rankings that make up the answer, and what each weighs; see `SearchOptions.parts`."""
    return _asked(options).parts


def _asked(options: dict[str, Any]) -> LateOptions:
    """Return what a search with these options ranks by. Which of them its collection has, that search itself will say."""
    named = {name: options[name] for name in ("mode", "alpha", "rank", "weights", "candidates") if name in options}
    named["mode"] = named.get("mode") or "dense"
    return LateOptions(**named)


def search_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a search takes; those of other search types are left out, what does not exist raises."""
    for name in options:
        if name not in SEARCH_OPTIONS and name not in LATE_OPTIONS and name not in OF_OTHER_TYPES:
            known = ", ".join((*SEARCH_OPTIONS, *LATE_OPTIONS))
            raise TypeError(f"unexpected search option {name!r}; expected k, filter or one of {known}")
    others = set(OF_OTHER_TYPES) - ({"fetch_k"} if options.get("mode") == "hybrid" else set())
    return {name: value for name, value in options.items() if name not in others}


def _mean_relevance(scored: Scored, n_tokens: int) -> Scored:
    """Map MaxSim to [0, 1]: the mean cosine of the query's tokens with their best matches, as `cosine_relevance`."""
    return [(document, cosine_relevance(score / n_tokens)) for document, score in scored]


def _documents(scored: Scored) -> list[Document]:
    return [document for document, _ in scored]


def _one_for_many(embedding: Any) -> MismatchError:
    return MismatchError(
        f"the collection keeps many vectors a document (late interaction), got {type(embedding).__name__}, which makes one; "
        "give octavo.TokenEncoder(model)"
    )


def _reopened(cls: type[Store], reference: dict[str, Any]) -> Store:
    embedding = reference.pop("embedding")
    if embedding is None or isinstance(embedding, TokenEncoder) or is_embedding(embedding):
        return cls(embedding, must_exist=True, **reference)
    # An encoder that only `octavo.open` knows how to use.
    opening: dict[str, Any] = {
        name: reference.pop(name) for name in ("read_only", "lock_timeout", "sparse", "previous") if name in reference
    }
    store = cls(collection=open_collection(reference.pop("path"), embedding, must_exist=True, **opening), **reference)
    store._owns_collection, store._reopened_with = True, opening
    return store


def to_langchain(document: StoredDocument) -> Document:
    """Return a stored document as LangChain's; the metadata is a fresh dict already."""
    return Document(id=document.id, page_content=document.text, metadata=document.metadata)


#: Types of images that chat models take.
_SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp")


def image_block(document: StoredDocument) -> dict[str, Any] | None:
    """Return the image of a document as a content block of langchain-core; None if it is a text."""
    image = document.image
    if image is None:
        return None
    data, media_type = image.to_bytes()
    if media_type not in _SHOWN:
        data, media_type = PageImage(image.load()).to_bytes()
    block = create_image_block(base64=base64.b64encode(data).decode("ascii"), mime_type=media_type)
    return {name: value for name, value in block.items() if name != "id"}


def as_filter(where: Any) -> Any:
    """Return a filter as the collection takes it.

    Dict operators and Octavo's own trees go through unchanged, LangChain's structured queries are translated, and a
    callable is given LangChain documents, as `InMemoryVectorStore` does.
    """
    if isinstance(where, StructuredQuery):
        where = where.filter
        if where is None:
            return None
    if isinstance(where, FilterDirective):
        return where.accept(OctavoTranslator())
    if callable(where):
        return _on_langchain_documents(where)
    return where


def _on_langchain_documents(where: Callable[[Document], Any]) -> Callable[[StoredDocument], bool]:
    def matches(document: StoredDocument) -> bool:
        return bool(where(to_langchain(document)))

    return matches


def _refuse_with_collection(collection: Any, others: dict[str, Any]) -> None:
    if isinstance(collection, type) or not isinstance(collection, CollectionLike):
        raise InputTypeError(
            f"expected collection as what octavo.open returns, or a QdrantCollection, got {type(collection).__name__}; "
            "for a collection's name use collection_name="
        )
    given = sorted(name for name, value in others.items() if value is not None)
    if given:
        raise ParameterError(
            f"expected either an open collection or options to open one, got collection= and {', '.join(given)}; "
            "pass the options to octavo.open"
        )


def _path_of(collection: CollectionLike) -> Path | None:
    return collection.local.path if collection.local is not None else None


def _same_place(a: Path | None, b: Path | None) -> bool:
    return a is not None and b is not None and a.expanduser().resolve() == b.expanduser().resolve()


def _tell_doubled(held: int, source: Source) -> None:
    """Say that documents without ids were added to others: those who know FAISS expect a store of these alone."""
    if held and source.unnamed:
        warnings.warn(
            f"the collection held {held:,} documents already, and {source.unnamed:,} without ids were added to them: the same "
            "documents are stored again each time that this runs. Give ids= (or Document(id=...)) so that they replace "
            "themselves, open the store without adding (OctavoVectorStore(embedding, path=...)), or call add_documents to add",
            UserWarning,
            stacklevel=4,
        )


def _parts(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


# ---------------------------------------------------------------------- relevance

# Maps from scores (higher is better, not bounded) to relevance in [0, 1]. Each is monotone, so the order of the results and the
# effect of a threshold stay what they were.


def cosine_relevance(score: float) -> float:
    """Return ``(1 + score) / 2``, clipped: compressed codes may overshoot -1 or 1 by a rounding error.

    Examples
    --------
    >>> cosine_relevance(1.0), cosine_relevance(0.0), cosine_relevance(-1.0)
    (1.0, 0.5, 0.0)
    """
    return min(1.0, max(0.0, 0.5 + 0.5 * score))


def unbounded_relevance(score: float) -> float:
    """Return ``(1 + score / (1 + |score|)) / 2`` for scores without bounds, such as dot products.

    Unlike the logistic function it does not reach 1 at scores of about 37 already, so large dot products stay apart.

    Examples
    --------
    >>> unbounded_relevance(0.0), unbounded_relevance(3.0), unbounded_relevance(-3.0)
    (0.5, 0.875, 0.125)
    """
    return 0.5 + 0.5 * score / (1.0 + abs(score))


def positive_relevance(score: float) -> float:
    """Return ``score / (1 + score)`` for scores from 0 up, such as BM25.

    Examples
    --------
    >>> positive_relevance(0.0), positive_relevance(4.0)
    (0.0, 0.8)
    """
    score = max(0.0, score)
    return score / (1.0 + score)


def fraction_relevance(score: float) -> float:
    """Return `score`, clipped, for scores that are fractions already, such as a convex combination."""
    return min(1.0, max(0.0, score))


def _merged(made: Any, known: Sequence[bool]) -> list[Any] | None:
    """Return vectors with None between them for rows that are there; None if there are no vectors."""
    if made is None or not known:
        return list(made) if made is not None else None
    fresh = iter(made)
    return [None if there else next(fresh) for there in known]
