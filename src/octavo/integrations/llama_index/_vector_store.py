"""The LlamaIndex vector store over an Octavo collection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import fsspec
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.simple import DEFAULT_VECTOR_STORE, NAMESPACE_SEP
from llama_index.core.vector_stores.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from octavo import Collection
from octavo.collection import CollectionLike, MultiVectorLike
from octavo.collection.protocol import require_local
from octavo.errors import ParameterError
from octavo.filters import Compare, Field
from octavo.integrations.llama_index import _opening, _persistence
from octavo.integrations.llama_index._batch import to_batch, to_texts
from octavo.integrations.llama_index._nodes import to_node
from octavo.integrations.llama_index._query import node_filter, search
from octavo.integrations.llama_index._reserved import SOURCE
from octavo.integrations.llama_index._stored import read_nodes


class OctavoVectorStore(BasePydanticVectorStore):
    """Keep LlamaIndex nodes, compressed and durable, in an Octavo collection.

    Every method has an async twin that works in a thread and leaves the event loop free. Scores are similarities:
    higher is better.

    Parameters
    ----------
    path : str or path-like, optional
        The collection's directory, created when it is not there. None keeps everything in memory.
    codec : str, optional
        How embeddings are compressed, for instance ``"int8"`` (the default) or ``"binary > int8"``. An existing
        collection keeps its own.
    dim : int, optional
        Dimension of the embeddings; otherwise the first ones set it.
    metric : {"cosine", "dot"}, default="cosine"
        What a similarity is.
    full_text : str, default="english"
        Language whose stemmer the text modes use, or ``"plain"`` for none.
    fit_after : int, default=1000
        Nodes from which on the codec is fitted; before that, embeddings are kept as float32 and searched exactly.
    seed : int, default=0
        Seed of everything random.
    connectivity : int, default=16
        Links per node of the search graph.
    read_only : bool, default=False
        Refuse writes.
    must_exist : bool, default=False
        Raise instead of creating a collection.
    lock_timeout : float, default=30.0
        Seconds to wait for another writer.
    encoder : str, callable or object, optional
        Turns texts into token vectors (see `octavo.TokenEncoder`): the store then keeps many vectors a node, compares
        them by MaxSim, and encodes nodes and queries itself. Embeddings that the framework brings are left alone.
    pool_factor : int, default=2
        With `encoder`: pool a node's tokens into so many times fewer vectors.
    candidates : str, default="mean"
        With `encoder`: what finds the nodes that MaxSim then scores; see `octavo.open_multi_vector`.
    collection : Collection or QdrantCollection, optional
        A collection that is open already, instead of `path` and the options; the store does not own it.

    Raises
    ------
    MismatchError
        When the collection at `path` was made with another encoder, codec, metric or dimension.
    ParameterError
        When an option cannot be used, or `collection` comes with others.

    Examples
    --------
    >>> from llama_index.core.schema import TextNode
    >>> from llama_index.core.vector_stores.types import VectorStoreQuery
    >>> store = OctavoVectorStore()
    >>> red = TextNode(id_="r", text="red", embedding=[1.0, 0.0])
    >>> green = TextNode(id_="g", text="green", embedding=[0.0, 1.0])
    >>> store.add([red, green])
    ['r', 'g']
    >>> store.query(VectorStoreQuery(query_embedding=[0.9, 0.1], similarity_top_k=1)).nodes[0].text
    'red'
    """

    stores_text: bool = True
    is_embedding_query: bool = True

    #: Nested metadata is stored as it is.
    flat_metadata: ClassVar[bool] = False

    path: str | None = None
    codec: str | None = None
    dim: int | None = None
    metric: str | None = None
    full_text: str | None = None
    fit_after: int | None = None
    seed: int | None = None
    connectivity: int | None = None
    pool_factor: int | None = None
    candidates: str | None = None
    read_only: bool = False
    lock_timeout: float = 30.0

    _collection: CollectionLike = PrivateAttr()
    _encoder: Any = PrivateAttr(None)

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        codec: str | None = None,
        dim: int | None = None,
        *,
        metric: Literal["cosine", "dot"] | None = None,
        full_text: str | None = None,
        fit_after: int | None = None,
        seed: int | None = None,
        connectivity: int | None = None,
        read_only: bool = False,
        must_exist: bool = False,
        lock_timeout: float = 30.0,
        encoder: Any = None,
        pool_factor: int | None = None,
        candidates: str | None = None,
        collection: CollectionLike | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "codec": codec,
            "dim": dim,
            "metric": metric,
            "full_text": full_text,
            "fit_after": fit_after,
            "seed": seed,
            "connectivity": connectivity,
            "pool_factor": pool_factor,
            "candidates": candidates,
            "read_only": read_only,
            "lock_timeout": lock_timeout,
        }
        if collection is None:
            collection = _opening.open_collection(path, encoder, options, must_exist)
        else:
            collection = _opening.check_given(collection, path, encoder, options, must_exist)
        path = collection.path if isinstance(collection, Collection) else None
        where = os.fspath(path) if path is not None else None
        asks_for_embeddings = not isinstance(collection, MultiVectorLike)
        super().__init__(path=where, is_embedding_query=asks_for_embeddings, **options)  # type: ignore[call-arg]
        self._collection = collection
        self._encoder = encoder if asks_for_embeddings or encoder is not None else collection.encoder

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised components carry."""
        return "OctavoVectorStore"

    @property
    def client(self) -> CollectionLike:
        """The collection underneath, for everything that plain Python can do with it."""
        return self._collection

    def close(self) -> None:
        """Release the collection's files; harmless when closed already. Nodes are durable without this."""
        self._collection.close()

    # ------------------------------------------------------------------ writing

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Insert nodes, replacing those whose id is already there; all of them or, after an error, none.

        Parameters
        ----------
        nodes : sequence of BaseNode
            Each with an embedding, unless the store has an encoder. Where an id comes twice, the last one counts, as
            in a dictionary.

        Returns
        -------
        list of str
            The ids of `nodes`, in order. When this returns, the nodes survive ``kill -9`` and power loss.

        Raises
        ------
        InvalidVectorsError
            A node without embedding, of another dimension, with NaN or infinity, or zero under cosine.
        InputTypeError, ParameterError
            Something that is no node or cannot be stored as JSON; an unknown option.
        """
        _opening.refuse_options("add", kwargs)
        ready: dict[str, Any]
        if isinstance(self._collection, MultiVectorLike):
            batch, texts = to_texts(nodes)
            ready = {"token_vectors": self._collection.encode_documents(texts) if texts else []}
        else:
            batch, embeddings = to_batch(nodes, self._collection.dim)
            ready = {"vectors": embeddings}
        if batch.ids:
            self._collection.add(
                batch.texts,
                ids=batch.ids,
                metadata=batch.metadata,
                payloads=batch.payloads,
                batch_size=len(batch.ids),  # one transaction: all or nothing
                **ready,
            )
        return batch.given

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that were cut from a document; a `Document` that was stored whole counts as its own source.

        Parameters
        ----------
        ref_doc_id : str
            The document's id; no error if there is none.
        """
        _opening.refuse_options("delete", delete_kwargs)
        self._collection.delete(filter=Compare(Field(SOURCE), "==", ref_doc_id))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete nodes by id, by filter, or those that both name; deletes nothing when neither names any.

        Parameters
        ----------
        node_ids : list of str, optional
            Ids that are not there are no error; an empty list names no node.
        filters : MetadataFilters, optional
            An empty list of filters names no node either: `clear` deletes everything.
        """
        _opening.refuse_options("delete_nodes", delete_kwargs)
        where = node_filter(filters)
        if node_ids is not None or where is not None:
            self._collection.delete(node_ids, filter=where)

    def clear(self) -> None:
        """Delete every node."""
        self._collection.clear()

    # ------------------------------------------------------------------ reading

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
    ) -> list[BaseNode]:
        """Return nodes by id, by filter, or those that both name.

        Parameters
        ----------
        node_ids : list of str, optional
            Ids, in whose order the nodes come; those that are not there are left out, an empty list names none. None
            names every node, oldest first.
        filters : MetadataFilters, optional
            Filters on the metadata.

        Returns
        -------
        list of BaseNode
            As they were added, but without their embeddings.
        """
        return read_nodes(self._collection, node_ids, node_filter(filters))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the best nodes.

        Parameters
        ----------
        query : VectorStoreQuery
            Filters, ``doc_ids`` and ``node_ids`` restrict together; an empty list of ids restricts nothing. Modes:

            - ``default``: by embedding.
            - ``text_search`` and ``sparse``: BM25 over the nodes' text, ``sparse_top_k or similarity_top_k`` results.
            - ``hybrid``: both, fused by reciprocal rank, or by a convex combination of the scores where ``alpha`` is
              set
              (0 is text alone and 1 embeddings alone, exactly); ``hybrid_top_k or similarity_top_k`` results. With
              ``sparse_top_k`` exactly the best ``similarity_top_k`` by embedding and ``sparse_top_k`` by text are
              fused.
            - ``mmr``: maximal marginal relevance; ``mmr_threshold`` 1 is relevance alone, 0 the greatest diversity.
        **kwargs
            ``mmr_threshold`` (wins over the query's), ``mmr_prefetch_factor`` or ``mmr_prefetch_k`` (candidates, as a
            multiple of ``similarity_top_k`` or as a number); ``oversample``, ``ef`` and ``exact`` of
            `Collection.search`.

        Returns
        -------
        VectorStoreQueryResult
            ``nodes``, ``similarities`` (under mmr those with the query) and ``ids``, best first.

        Raises
        ------
        ParameterError
            Another mode, an unknown option, or a mode without the text or embedding that it needs.
        InvalidFilterError
            A filter that cannot be used.
        """
        result = search(self._collection, query, kwargs)
        nodes = [
            to_node(document, payload) for document, payload in zip(result.documents, result.payloads, strict=True)
        ]
        return VectorStoreQueryResult(nodes=nodes, similarities=result.scores.tolist(), ids=result.ids)

    # ------------------------------------------------------------------ async

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """See `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """See `delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """See `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """See `clear`."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
    ) -> list[BaseNode]:
        """See `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    # ------------------------------------------------------------------ saving and loading

    def persist(
        self,
        persist_path: str = f"{DEFAULT_PERSIST_DIR}/{DEFAULT_VECTOR_STORE}{NAMESPACE_SEP}{DEFAULT_PERSIST_FNAME}",
        fs: fsspec.AbstractFileSystem | None = None,
    ) -> None:
        """Save a copy of the collection, as ``StorageContext.persist`` asks of every store.

        A collection with a `path` is durable without this. What was saved before under the same name is replaced, in
        one step. A collection that lies in the directory of `persist_path` already is not copied, only pointed to. For one
        in Qdrant nothing is done, as for every store whose data lie elsewhere: give the store again on loading.

        Parameters
        ----------
        persist_path : str
            The file that will lead to the copy, which is put beside it.
        fs : fsspec.AbstractFileSystem, optional
            Any file system of fsspec; the local one if None.
        """
        if isinstance(self._collection, Collection):
            _persistence.save(self._collection, os.fspath(persist_path), fs)

    @classmethod
    def from_persist_path(
        cls,
        persist_path: str,
        fs: fsspec.AbstractFileSystem | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        encoder: Any = None,
        read_only: bool = False,
        lock_timeout: float = 30.0,
    ) -> Self:
        """Open what `persist` saved.

        Parameters
        ----------
        persist_path : str
            As given to `persist`.
        fs : fsspec.AbstractFileSystem, optional
            As given to `persist`. A collection on the local file system is opened where it lies, so that later
            changes are durable at once; from any other it is copied into memory.
        path : str or path-like, optional
            A new or empty directory to copy the collection to first, to open it there.
        encoder : str, callable or object, optional
            For late interaction: what the collection was built with.
        read_only : bool, default=False
            Refuse writes.
        lock_timeout : float, default=30.0
            Seconds to wait for another writer.

        Raises
        ------
        CollectionNotFoundError
            When there is nothing at `persist_path`.
        MismatchError
            When another class wrote it.
        CorruptCollectionError
            When a file is damaged.
        """
        directory = _persistence.find(os.fspath(persist_path), fs)
        if path is not None:
            _persistence.download(directory, fs, Path(path).expanduser()).close()
        elif _persistence.is_local(fs):
            path = directory if fs is None else fs._strip_protocol(directory)
        else:
            if read_only:
                raise ParameterError("a copy in memory cannot be read_only; give path= to copy it to a directory")
            return _opening.around(cls, _persistence.download(directory, fs, None, encoder), encoder)
        return cls(path, encoder=encoder, must_exist=True, read_only=read_only, lock_timeout=lock_timeout)

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: str = DEFAULT_VECTOR_STORE,
        fs: fsspec.AbstractFileSystem | None = None,
        **options: Any,
    ) -> Self:
        """Open what ``StorageContext.persist(persist_dir)`` saved for a store.

        Parameters
        ----------
        persist_dir : str
            As given to ``StorageContext.persist``.
        namespace : str, default="default"
            Name of the store within the storage context.
        fs : fsspec.AbstractFileSystem, optional
            As given to ``StorageContext.persist``.
        **options
            See `from_persist_path`.
        """
        return cls.from_persist_path(_persistence.namespaced(os.fspath(persist_dir), namespace), fs, **options)

    @classmethod
    def from_namespaced_persist_dir(
        cls, persist_dir: str = DEFAULT_PERSIST_DIR, fs: fsspec.AbstractFileSystem | None = None
    ) -> dict[str, BasePydanticVectorStore]:
        """Open every Octavo store that ``StorageContext.persist(persist_dir)`` saved, by namespace.

        What comes back is what ``StorageContext.from_defaults`` takes as ``vector_stores=``.
        """
        return {
            namespace: cls.from_persist_dir(persist_dir, namespace, fs)
            for namespace in _persistence.namespaces(os.fspath(persist_dir), fs)
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Open the store that `to_dict` described; a store in memory comes back empty, an encoder is to be given again."""
        known = set(_opening.NO_OPTIONS) | {"path", "encoder"}
        return cls(**{name: value for name, value in {**data, **kwargs}.items() if name in known})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place of the collection, or its content where it lives in memory."""
        if self.path is not None:
            return _opening.reopen, (type(self), self._options(), self._encoder)
        return _opening.from_bytes, (type(self), _persistence.pack(self._local("pickling")), self._encoder)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Open the collection again, or copy it where it lives in memory."""
        if self.path is not None:
            return type(self)(**self._options(), encoder=self._encoder, must_exist=True)
        return _opening.around(type(self), self._local("a deep copy").copy(), self._encoder)

    def _local(self, what: str) -> Collection:
        return require_local(self._collection, what, "make a new store around QdrantCollection.open(...) instead")

    def _options(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in _opening.NO_OPTIONS}
        assert self.path is not None  # only stores with a path are reopened
        return {"path": str(Path(self.path).expanduser().absolute()), **options}
