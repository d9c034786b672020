"""The LlamaIndex vector store over an Octavo collection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import fsspec
from llama_index.core import Settings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import resolve_embed_model
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

import octavo
from octavo import Collection
from octavo.collection import CollectionLike
from octavo.collection.protocol import require_local
from octavo.encoders.page_images import is_image
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError, MismatchError, ParameterError
from octavo.filters import Compare, Field
from octavo.integrations.llama_index import _persistence
from octavo.integrations.llama_index._batch import NodeBatch, to_batch, to_texts
from octavo.integrations.llama_index._model import NodeModel
from octavo.integrations.llama_index._nodes import SOURCE, embedded_text, has_image, read_nodes, to_node
from octavo.integrations.llama_index._query import TEXT_MODES, check_names, node_filter, refuse_empty_groups, search
from octavo.store.documents import Document as StoredDocument

#: Options of the constructor and the values that leave them to the collection.
_NO_OPTIONS: dict[str, Any] = {
    "codec": None,
    "dim": None,
    "metric": None,
    "full_text": None,
    "fit_after": None,
    "seed": None,
    "index": None,
    "connectivity": None,
    "pool_factor": None,
    "candidates": None,
    "read_only": False,
    "lock_timeout": 30.0,
}

#: Options of late interaction alone.
_LATE = ("pool_factor", "candidates")


class OctavoVectorStore(BasePydanticVectorStore):
    """Keep LlamaIndex nodes, compressed and durable, in an Octavo collection.

    Every method has an async twin that works in a thread and leaves the event loop free. Scores are similarities:
    higher is better.

    Parameters
    ----------
    path : str or path-like, optional
        The collection's directory, created when it is not there. None keeps everything in memory.
    codec : str, optional
        How embeddings are compressed, for instance ``"int8"`` (the default) or ``"rabitq:1 > int8"``. An existing
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
    index : {"cells", "graph"}, default="cells"
        What finds candidates in a large collection.
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
    sparse : str, callable or object, optional
        Turns texts into learned sparse vectors (see `octavo.SparseEncoder`), for the modes ``sparse`` and ``hybrid``; the store
        encodes nodes and queries itself.
    pool_factor : int, default=2
        With `encoder`: pool a node's tokens into so many times fewer vectors.
    candidates : str, default="mean"
        With `encoder`: what finds the nodes that MaxSim then scores; see `octavo.open_multi_vector`.
    collection : Collection or QdrantCollection, optional
        A collection that is open already, instead of `path` and the options; the store does not own it.
    embed_model : BaseEmbedding or str, optional
        The model that the index embeds with, which a store is not told otherwise. The store embeds nothing with it but one
        stored node beside the first nodes and the first query, and refuses another model of the same dimension.

    Raises
    ------
    MismatchError
        When the collection at `path` was made with another encoder, codec, metric or dimension; from `add` and `query`
        also when its nodes were embedded with another model than `embed_model`.
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
    index: str | None = None
    connectivity: int | None = None
    pool_factor: int | None = None
    candidates: str | None = None
    read_only: bool = False
    lock_timeout: float = 30.0

    _collection: CollectionLike = PrivateAttr()
    _encoder: Any = PrivateAttr(None)
    _embed_model: Any = PrivateAttr(None)
    _model: NodeModel | None = PrivateAttr(None)
    _asked_default: bool = PrivateAttr(False)
    _checked_default: bool = PrivateAttr(False)

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
        index: Literal["cells", "graph"] | None = None,
        connectivity: int | None = None,
        read_only: bool = False,
        must_exist: bool = False,
        lock_timeout: float = 30.0,
        encoder: Any = None,
        sparse: Any = None,
        pool_factor: int | None = None,
        candidates: str | None = None,
        collection: CollectionLike | None = None,
        embed_model: Any = None,
    ) -> None:
        options: dict[str, Any] = {
            "codec": codec,
            "dim": dim,
            "metric": metric,
            "full_text": full_text,
            "fit_after": fit_after,
            "seed": seed,
            "index": index,
            "connectivity": connectivity,
            "pool_factor": pool_factor,
            "candidates": candidates,
            "read_only": read_only,
            "lock_timeout": lock_timeout,
        }
        opened = collection is None
        if collection is None:
            collection = _open(path, encoder, sparse, options, must_exist)
        else:
            collection = _check_given(collection, path, encoder, sparse, options, must_exist)
        try:
            self._begin(collection, encoder, embed_model, options)
        except BaseException:
            if opened:
                collection.close()
            raise

    def _begin(self, collection: CollectionLike, encoder: Any, embed_model: Any, options: dict[str, Any]) -> None:
        path = collection.local.path if collection.local is not None else None
        where = str(_absolute(path)) if path is not None else None
        asks_for_embeddings = collection.late is None
        super().__init__(path=where, is_embedding_query=asks_for_embeddings, **options)  # type: ignore[call-arg]
        self._collection = collection
        self._encoder = encoder if asks_for_embeddings or encoder is not None else collection.encoder
        self._embed_model = embed_model
        if asks_for_embeddings and embed_model is not None:
            self._model = NodeModel.of_embedding(collection, embed_model)
        elif embed_model is not None:
            raise ParameterError(
                "expected no embed_model: for late interaction the store encodes nodes and queries itself"
            )
        elif not asks_for_embeddings:
            self._model = NodeModel.of_tokens(collection)

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
        _refuse_options("add", kwargs)
        nodes = list(nodes)
        embeddings: Any = None
        if self._collection.late is not None:
            encoder = self._collection.late.encoder
            batch = to_texts(nodes, images=encoder is not None and encoder.takes_images)
        else:
            batch, embeddings = to_batch(nodes, self._collection.dim)
        if not batch.ids:
            return batch.given
        if self._collection.encodes_itself:
            return self._add_while_changing(batch)
        if self._model is None:
            self._adopt_from(nodes)
        if self._model is not None:
            self._model.compare()
        encodes = self._collection.late is not None or self._collection.sparse_encoder is not None
        self._collection.add(
            batch.documents,
            ids=batch.ids,
            metadata=batch.metadata,
            payloads=batch.payloads,
            batch_size=len(batch.ids),  # one transaction: all or nothing
            # what the framework alone has embedded of a node is put together again from the node
            embed_texts=batch.embed_texts if encodes else None,
            **({"vectors": embeddings} if embeddings is not None else {}),
        )
        if self._model is not None and self._collection.late is None:
            self._model.remember(nodes)
        return batch.given

    def update_nodes(self, nodes: Sequence[BaseNode], **kwargs: Any) -> None:
        """Change metadata, texts and relationships of stored nodes without embedding anything; all of them or none.

        Parameters
        ----------
        nodes : sequence of BaseNode
            Nodes whose ids are stored; their embeddings are left alone. A changed text is what is returned and found by
            words, a changed image what is returned; to have them embedded, `add` the node.
        **kwargs
            None is known; any raises.

        Raises
        ------
        DocumentNotFoundError
            When one of them is not there.
        InputTypeError, ParameterError
            Something that is no node or cannot be stored as JSON; an unknown option.
        """
        _refuse_options("update_nodes", kwargs)
        nodes = list(nodes)
        with_images = [node.node_id for node in nodes if isinstance(node, BaseNode) and has_image(node)]
        documents = self._collection.get(with_images) if with_images else []
        stored = {document.id: document.to_embed for document in documents if document.image is not None}
        batch = to_texts(nodes, stored=stored)
        self._collection.update(batch.ids, batch.metadata, batch.texts, payloads=batch.payloads)

    async def async_update_nodes(self, nodes: Sequence[BaseNode], **kwargs: Any) -> None:
        """Change stored nodes off the event loop; see `update_nodes`.

        Parameters
        ----------
        nodes, **kwargs
            See `update_nodes`.
        """
        await asyncio.to_thread(self.update_nodes, nodes, **kwargs)

    def _add_while_changing(self, batch: NodeBatch) -> list[str]:
        """Store nodes with vectors of the model that the collection has, whoever has embedded them."""
        contents = [
            image or (text if other is None else other)
            for text, other, image in zip(batch.texts, batch.embed_texts, batch.images, strict=True)
        ]
        self._collection.add(
            batch.documents,
            ids=batch.ids,
            metadata=batch.metadata,
            payloads=batch.payloads,
            batch_size=len(batch.ids),
            **self._collection.vectors_for(contents),
        )
        return batch.given

    def _adopt_from(self, nodes: Sequence[BaseNode]) -> None:
        """Take note of the framework's embedding model, if it is what has embedded nodes: to tell it from others later."""
        model = Settings._embed_model
        if self._asked_default or not isinstance(model, BaseEmbedding) or self._collection.late is not None:
            return
        self._asked_default = True
        found = NodeModel.of_embedding(self._collection, model)
        first = next((node for node in nodes if node.embedding is not None), None)
        if first is not None and found.made([embedded_text(first)], [first.embedding]):
            self._model = found

    def _refuse_another(self, query: VectorStoreQuery) -> None:
        """Raise `MismatchError` for a query that the framework's embedding model has embedded, if the nodes are another's."""
        model = Settings._embed_model
        if self._checked_default or not isinstance(model, BaseEmbedding) or self._collection.late is not None:
            return
        self._checked_default = True
        try:
            NodeModel.of_embedding(self._collection, model).compare()
        except MismatchError:
            self._checked_default = False
            if query.query_str and query.query_embedding is not None:
                asked = NodeModel(self._collection, "query", lambda texts: list(map(model.get_query_embedding, texts)))
                if asked.made([query.query_str], [query.query_embedding]):
                    raise

    def reencode(
        self,
        embed_model: Any,
        codec: str | None = None,
        *,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        progress: bool = False,
    ) -> None:
        """Change the model of the stored nodes, while they are searched and written to.

        What is embedded of a node is its text together with metadata, as LlamaIndex does. Afterwards the index that sits on
        the store has to embed queries with the new model. Meanwhile, both models answer queries that bring their words
        along, as those of a retriever do, if the store was made with ``embed_model=`` (the old one).

        Parameters
        ----------
        embed_model : BaseEmbedding, str or encoder
            The new model; for late interaction, an encoder as in ``OctavoVectorStore(encoder=...)``.
        codec, batch_size, rate, serve, progress
            See `octavo.Collection.reencode`. Run it again after an interruption: it goes on where it was.
        """
        late = self._collection.late is not None
        coming: Any = embed_model
        if late:
            coming = TokenEncoder(embed_model) if not isinstance(embed_model, TokenEncoder) else embed_model
        elif not hasattr(embed_model, "encode_documents"):
            coming = embed_model if isinstance(embed_model, BaseEmbedding) else resolve_embed_model(embed_model)
        before = None if late or self._collection.encoder is not None else self._embed_model
        if isinstance(before, str):
            before = resolve_embed_model(before)
        self._collection.reencode_texts(
            self._contents, coming, codec, batch_size, rate, serve, previous=before, progress=progress
        )
        if late:
            self._encoder, self._model = coming, NodeModel.of_tokens(self._collection)
        else:
            self._embed_model = coming
            self._model = (
                NodeModel.of_embedding(self._collection, coming) if isinstance(coming, BaseEmbedding) else None
            )

    def _contents(self, documents: Sequence[StoredDocument]) -> list[str]:
        """Return what is embedded of nodes."""
        found = {
            node.node_id: embedded_text(node)
            for node in read_nodes(self._collection, [document.id for document in documents], None)
        }
        return [
            document.to_embed if is_image(document.to_embed) else found.get(document.id, document.text)
            for document in documents
        ]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that were cut from a document; a `Document` that was stored whole counts as its own source.

        Parameters
        ----------
        ref_doc_id : str
            The document's id; no error if there is none.
        """
        _refuse_options("delete", delete_kwargs)
        check_names([ref_doc_id], "ref_doc_id")
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
            Each group, however deep, with at least one condition.

        Raises
        ------
        ParameterError
            When `filters` is empty, or a group in it: whether that means everything or nothing is not for a deletion to
            guess. `clear` deletes everything.
        """
        _refuse_options("delete_nodes", delete_kwargs)
        refuse_empty_groups(filters)
        where = node_filter(filters)
        if node_ids is not None or where is not None:
            self._collection.delete(check_names(node_ids, "node_ids"), filter=where)

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
        return read_nodes(self._collection, check_names(node_ids, "node_ids"), node_filter(filters))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the best nodes.

        Parameters
        ----------
        query : VectorStoreQuery
            Filters, ``doc_ids`` and ``node_ids`` restrict together. ``doc_ids=[]`` names no document, so that nothing
            comes back; ``node_ids=[]`` restricts nothing, because ``index.as_retriever()`` passes it with every query to
            a store that keeps the nodes' text. ``similarity_top_k=0`` returns nothing. An embedding of zeros (core's
            ``default_empty_query_vector``) asks for the nodes that the restrictions leave, oldest first, with score 0.
            Modes:

            - ``default``: by embedding.
            - ``text_search``: BM25 over the nodes' text, ``sparse_top_k or similarity_top_k`` results.
            - ``sparse``: learned sparse vectors where the collection keeps some, BM25 where it does not.
            - ``hybrid``: embeddings and what ``sparse`` means, fused by reciprocal rank, or by a convex combination of the
              scores where ``alpha`` is set (0 is the other side alone and 1 embeddings alone, exactly);
              ``hybrid_top_k or similarity_top_k`` results. With ``sparse_top_k`` exactly the best ``similarity_top_k`` by
              embedding and ``sparse_top_k`` of the other side are fused. ``rank`` and ``weights`` of `Collection.search`, as
              options, name the rankings themselves.
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
        if query.mode not in TEXT_MODES and not self._collection.encodes_itself:
            if self._model is not None:
                self._model.compare()
            else:
                self._refuse_another(query)
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
        if self._collection.local is not None:
            _persistence.save(self._collection.local, os.fspath(persist_path), fs)

    @classmethod
    def from_persist_path(
        cls,
        persist_path: str,
        fs: fsspec.AbstractFileSystem | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        encoder: Any = None,
        sparse: Any = None,
        read_only: bool = False,
        lock_timeout: float = 30.0,
        embed_model: Any = None,
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
        sparse : str, callable or object, optional
            What its learned sparse vectors were made with.
        read_only : bool, default=False
            Refuse writes.
        lock_timeout : float, default=30.0
            Seconds to wait for another writer.
        embed_model : BaseEmbedding or str, optional
            The model of the index, so that another one is noticed; see `OctavoVectorStore`.

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
        path = _absolute(path)
        if path is not None:
            _persistence.download(directory, fs, path).close()
        elif _persistence.is_local(fs):
            path = _absolute(directory if fs is None else fs._strip_protocol(directory))
        else:
            if read_only:
                raise ParameterError("a copy in memory cannot be read_only; give path= to copy it to a directory")
            return _around(cls, _persistence.download(directory, fs, None, encoder, sparse), encoder, embed_model)
        return cls(
            path,
            encoder=encoder,
            sparse=sparse,
            must_exist=True,
            read_only=read_only,
            lock_timeout=lock_timeout,
            embed_model=embed_model,
        )

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

        Parameters
        ----------
        persist_dir, fs
            See `from_persist_dir`.

        Returns
        -------
        dict of str to OctavoVectorStore
            What ``StorageContext.from_defaults`` takes as ``vector_stores=``.
        """
        return {
            namespace: cls.from_persist_dir(persist_dir, namespace, fs)
            for namespace in _persistence.namespaces(os.fspath(persist_dir), fs)
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Open the store that `to_dict` described; a store in memory comes back empty, models are to be given again."""
        known = set(_NO_OPTIONS) | {"path", "encoder", "sparse", "embed_model"}
        return cls(**{name: value for name, value in {**data, **kwargs}.items() if name in known})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place of the collection, or its content where it lives in memory."""
        models = self._encoder, self._embed_model, self._collection.sparse_encoder
        if self.path is not None:
            return _reopen, (type(self), self._options(), *models)
        return _from_bytes, (type(self), _persistence.pack(self._local("pickling")), *models)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Open the collection again, or copy it where it lives in memory."""
        if self.path is not None:
            sparse = self._collection.sparse_encoder
            return _reopen(type(self), self._options(), self._encoder, self._embed_model, sparse)
        return _around(type(self), self._local("a deep copy").copy(), self._encoder, self._embed_model)

    def _local(self, what: str) -> Collection:
        return require_local(self._collection, what, "make a new store around QdrantCollection.open(...) instead")

    def _options(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in _NO_OPTIONS}
        assert self.path is not None  # only stores with a path are reopened
        return {"path": self.path, **options}


# ---------------------------------------------------------------------- opening

Store = TypeVar("Store", bound=OctavoVectorStore)


def _open(
    path: str | os.PathLike[str] | None, encoder: Any, sparse: Any, options: dict[str, Any], must_exist: bool
) -> Collection:
    """Open a collection: for late interaction where there is an encoder, else the one that is there or a new dense one.

    Raises
    ------
    ParameterError
        When options belong to collections of the other kind.
    """
    given = {name: value for name, value in options.items() if value != _NO_OPTIONS[name]}
    path = _absolute(path)
    if encoder is not None:
        if given.pop("metric", "cosine") != "cosine":
            raise ParameterError(f"late interaction compares tokens by cosine, got metric={options['metric']!r}")
        return octavo.open_multi_vector(path, TokenEncoder(encoder), sparse=sparse, must_exist=must_exist, **given)
    late = next((name for name in _LATE if name in given), None)
    if late is not None:
        raise ParameterError(f"{late} belongs to late interaction; give encoder=, too")
    return octavo.open(path, sparse=sparse, must_exist=must_exist, **given)


def _absolute(path: str | os.PathLike[str] | None) -> Path | None:
    """Return a path that means the same wherever the process goes later."""
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike):
        raise InputTypeError(f"expected path as a str or path-like, or None, got {type(path).__name__}")
    if not os.fspath(path):
        raise ParameterError("expected path as the directory of a collection, got ''; None keeps everything in memory")
    return Path(path).expanduser().absolute()


def _check_given(
    collection: Any, path: Any, encoder: Any, sparse: Any, options: dict[str, Any], must_exist: bool
) -> CollectionLike:
    """Return a collection that the caller has open, when nothing else was given beside it."""
    if isinstance(collection, type) or not isinstance(collection, CollectionLike):
        raise InputTypeError(
            f"expected collection as an octavo Collection or a QdrantCollection, got {type(collection).__name__}"
        )
    if path is not None or encoder is not None or sparse is not None or must_exist or options != _NO_OPTIONS:
        raise ParameterError(
            "expected either collection or path, encoder and options, got both; an open collection has its own"
        )
    return collection


def _refuse_options(method: str, options: dict[str, Any]) -> None:
    """Raise for options that a method does not have, instead of ignoring them."""
    if options:
        raise ParameterError(f"OctavoVectorStore.{method} takes no options, got {', '.join(sorted(options))}")


def _around(cls: type[Store], collection: CollectionLike, encoder: Any, embed_model: Any) -> Store:
    """Return a store around a collection that was opened with an encoder, which further copies will need."""
    store = cls(collection=collection, embed_model=embed_model)
    store._encoder = encoder
    return store


def _reopen(cls: type[Store], options: dict[str, Any], encoder: Any, embed_model: Any, sparse: Any = None) -> Store:
    """Make a store from its pickled form, where it has a path."""
    return cls(**options, encoder=encoder, sparse=sparse, embed_model=embed_model, must_exist=True)


def _from_bytes(cls: type[Store], data: bytes, encoder: Any, embed_model: Any, sparse: Any = None) -> Store:
    """Make a store from its pickled form, where it lives in memory."""
    return _around(cls, _persistence.unpack(data, encoder, sparse), encoder, embed_model)
