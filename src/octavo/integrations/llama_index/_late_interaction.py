"""`LateInteractionIndex`: many vectors a node, compared by MaxSim."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import fsspec
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.data_structs import IndexDict
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.ingestion import arun_transformations, run_transformations
from llama_index.core.schema import (
    BaseNode,
    Document,
    IndexNode,
    NodeWithScore,
    QueryBundle,
    TransformComponent,
)
from llama_index.core.settings import Settings
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from octavo.collection import MultiVectorLike
from octavo.errors import InputTypeError, ParameterError
from octavo.filters import Compare, Field
from octavo.integrations.llama_index import _persistence
from octavo.integrations.llama_index._model import NodeModel
from octavo.integrations.llama_index._nodes import SOURCE, embedded_text, has_image, node_metadata
from octavo.integrations.llama_index._vector_store import OctavoVectorStore

Mode = Literal["late", "text", "sparse", "hybrid", "mmr"]

_QUERY_MODES = {
    "late": VectorStoreQueryMode.DEFAULT,
    "text": VectorStoreQueryMode.TEXT_SEARCH,
    "sparse": VectorStoreQueryMode.SPARSE,
    "hybrid": VectorStoreQueryMode.HYBRID,
    "mmr": VectorStoreQueryMode.MMR,
}

#: Nodes encoded and committed together. Core's 2,048 would hold as many matrices of token vectors in memory.
_BATCH_SIZE = 256


class LateInteractionIndex(VectorStoreIndex):
    """Index nodes for late interaction: each token of a query looks for its best match among those of a node.

    A `VectorStoreIndex` without an embedding model: the store encodes nodes and queries itself, and keeps compressed,
    pooled token vectors in a durable collection. Documents that were indexed are known again after reopening, so
    `refresh_ref_docs` needs no document store.

    Parameters
    ----------
    nodes : sequence of BaseNode, optional
        Nodes to insert.
    model : str, callable or object, optional
        Turns texts into token vectors: the name or folder of a late-interaction or an ordinary sentence-transformers
        model, such a model, a PyLate model, or a callable from a list of texts to a list of arrays of shape
        ``(n_tokens, dim)``; see `octavo.TokenEncoder`. An existing collection opens without it for ``mode="text"``.
    path : str or path-like, optional
        The collection's directory, created when it is not there, opened when it is. None keeps everything in memory.
    vector_store : OctavoVectorStore, optional
        A store for late interaction that is open already, instead of `model`, `path` and options.
    storage_context : StorageContext, optional
        One with such a store, instead of `vector_store`.
    insert_batch_size : int, default=256
        Nodes encoded and committed at a time.
    use_async, objects, index_struct, callback_manager, transformations, show_progress
        See `VectorStoreIndex`.
    **options
        Those of `OctavoVectorStore`: ``codec`` (``"int8"`` unless given), ``pool_factor`` (2), ``candidates``,
        ``full_text``, ``read_only``, ``must_exist``, ...

    Raises
    ------
    MismatchError
        When the collection was made with another model or other settings, or for one vector a node.
    ParameterError
        When arguments contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> from llama_index.core.schema import TextNode
    >>> def letters(texts):  # a toy model: one vector a letter
    ...     return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]
    >>> index = LateInteractionIndex([TextNode(text="red"), TextNode(text="green")], model=letters)
    >>> index.as_retriever(similarity_top_k=1).retrieve("ren")[0].text
    'green'
    """

    def __init__(
        self,
        nodes: Sequence[BaseNode] | None = None,
        *,
        model: Any = None,
        path: str | os.PathLike[str] | None = None,
        vector_store: OctavoVectorStore | None = None,
        storage_context: StorageContext | None = None,
        insert_batch_size: int = _BATCH_SIZE,
        use_async: bool = False,
        objects: Sequence[IndexNode] | None = None,
        index_struct: IndexDict | None = None,
        callback_manager: CallbackManager | None = None,
        transformations: list[TransformComponent] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> None:
        store, opened = _store(model, path, vector_store, storage_context, options)
        if storage_context is None:
            storage_context = StorageContext.from_defaults(vector_store=store)
        try:
            super().__init__(
                nodes=list(nodes or []) if index_struct is None else None,
                use_async=use_async,
                embed_model=MockEmbedding(embed_dim=1),  # never asked; without one, core would go for OpenAI's
                insert_batch_size=insert_batch_size,
                objects=list(objects or []),
                index_struct=index_struct,
                storage_context=storage_context,
                callback_manager=callback_manager,
                transformations=transformations,
                show_progress=show_progress,
            )
        except BaseException:
            if opened:
                store.close()
            raise

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        storage_context: StorageContext | None = None,
        show_progress: bool = False,
        callback_manager: CallbackManager | None = None,
        transformations: list[TransformComponent] | None = None,
        *,
        model: Any = None,
        path: str | os.PathLike[str] | None = None,
        vector_store: OctavoVectorStore | None = None,
        insert_batch_size: int = _BATCH_SIZE,
        use_async: bool = False,
        **options: Any,
    ) -> Self:
        """Create (or open) an index, split documents into nodes and insert them.

        Parameters
        ----------
        documents : sequence of Document
            The documents.
        transformations : list of TransformComponent, optional
            What makes nodes of them; ``Settings.transformations`` (a sentence splitter) unless given.
        model, path, vector_store, storage_context, **options
            See `LateInteractionIndex`.
        show_progress, callback_manager, insert_batch_size, use_async
            See `VectorStoreIndex`.
        """
        # Opened first, so that options that cannot be used are found before anything is split and encoded.
        store, opened = _store(model, path, vector_store, storage_context, options)
        try:
            nodes = run_transformations(
                list(documents), transformations or Settings.transformations, show_progress=show_progress
            )
            return cls(
                nodes,
                vector_store=store if storage_context is None else None,
                storage_context=storage_context,
                insert_batch_size=insert_batch_size,
                use_async=use_async,
                callback_manager=callback_manager,
                transformations=transformations,
                show_progress=show_progress,
            )
        except BaseException:
            if opened:
                store.close()
            raise

    @classmethod
    def from_vector_store(  # type: ignore[override]  # takes one kind of store alone
        cls, vector_store: OctavoVectorStore, embed_model: None = None, **kwargs: Any
    ) -> Self:
        """Return the index of a store for late interaction.

        Parameters
        ----------
        vector_store : OctavoVectorStore
            The store.
        embed_model : None
            The store encodes by itself.
        **kwargs
            See `LateInteractionIndex`.
        """
        if embed_model is not None:
            raise ParameterError("expected no embed_model: the store encodes nodes and queries itself")
        return cls(vector_store=vector_store, **kwargs)

    @classmethod
    def load(
        cls,
        persist_dir: str | os.PathLike[str],
        model: Any = None,
        *,
        fs: fsspec.AbstractFileSystem | None = None,
        sparse: Any = None,
        read_only: bool = False,
        lock_timeout: float = 30.0,
        **kwargs: Any,
    ) -> Self:
        """Open what `persist` saved, or the index whose `path` this was.

        Parameters
        ----------
        persist_dir : str or path-like
            The directory.
        model : str, callable or object, optional
            The model that the index was built with.
        fs : fsspec.AbstractFileSystem, optional
            As given to `persist`. From the local file system the collection is opened where it lies, so that later
            changes are durable at once; from any other it is copied into memory.
        sparse, read_only, lock_timeout
            See `OctavoVectorStore`.
        **kwargs
            ``callback_manager``, ``transformations``, ``insert_batch_size`` and so on of `LateInteractionIndex`.

        Raises
        ------
        CollectionNotFoundError
            When there is none.
        """
        directory = os.fspath(persist_dir)
        options: dict[str, Any] = {
            "encoder": model,
            "sparse": sparse,
            "read_only": read_only,
            "lock_timeout": lock_timeout,
        }
        pointer = _persistence.namespaced(directory, "default")
        if _persistence.is_local(fs) and not Path(pointer).expanduser().exists():
            store = OctavoVectorStore(directory, must_exist=True, **options)
        else:
            store = OctavoVectorStore.from_persist_path(pointer, fs, **options)
        try:
            return cls(vector_store=store, **kwargs)
        except BaseException:
            store.close()
            raise

    def persist(self, persist_dir: str | os.PathLike[str], fs: fsspec.AbstractFileSystem | None = None) -> None:
        """Save a copy of the index to a directory; with a `path` it is durable without this.

        Parameters
        ----------
        persist_dir : str or path-like
            The directory. What was saved there before is replaced, in one step.
        fs : fsspec.AbstractFileSystem, optional
            Any file system of fsspec; the local one if None.
        """
        self.vector_store.persist(_persistence.namespaced(os.fspath(persist_dir), "default"), fs)

    # ------------------------------------------------------------------ what it is

    @property
    def vector_store(self) -> OctavoVectorStore:
        """The store underneath."""
        assert isinstance(self._vector_store, OctavoVectorStore)  # the constructor has checked
        return self._vector_store

    @property
    def collection(self) -> MultiVectorLike:
        """The collection underneath, for everything else that it does: `explain`, `info`, and what only a local one has."""
        late = self.vector_store.client.late
        assert late is not None  # the constructor has checked
        return late

    def close(self) -> None:
        """Release the collection's files; harmless when closed already. Nodes are durable without this."""
        self.vector_store.close()

    # ------------------------------------------------------------------ retrieving

    def as_retriever(
        self,
        *,
        similarity_top_k: int = 2,
        filters: MetadataFilters | None = None,
        mode: Mode | None = None,
        **kwargs: Any,
    ) -> VectorIndexRetriever:
        """Return a retriever over all nodes.

        Parameters
        ----------
        similarity_top_k : int, default=2
            Nodes to return; if n match the filters, min(k, n) come back.
        filters : MetadataFilters, optional
            Which nodes may come back.
        mode : {"late", "text", "sparse", "hybrid", "mmr"}, default="late"
            MaxSim, BM25 full text, learned sparse vectors, MaxSim fused with one of them, or MaxSim with diversity.
        **kwargs
            As for ``VectorStoreIndex.as_retriever``: ``alpha``, ``doc_ids``, ``node_ids``, ``vector_store_kwargs``, ...
        """
        if mode is not None and "vector_store_query_mode" in kwargs:
            raise ParameterError("expected mode or vector_store_query_mode, got both; they say the same thing")
        if mode is not None and mode not in _QUERY_MODES:
            raise ParameterError(f"expected mode out of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}")
        kwargs.setdefault("vector_store_query_mode", _QUERY_MODES[mode or "late"])
        return as_retriever(self, similarity_top_k=similarity_top_k, filters=filters, **kwargs)

    # ------------------------------------------------------------------ documents

    @property
    def ref_doc_info(self) -> dict[str, RefDocInfo]:
        """The documents whose nodes are indexed: the ids of their nodes, and the metadata of the first."""
        found: dict[str, RefDocInfo] = {}
        for document in self.collection.documents():
            source = document.metadata.get(SOURCE)
            if source is not None:
                info = found.setdefault(source, RefDocInfo(metadata=node_metadata(document.metadata)))
                info.node_ids.append(document.id)
        return found

    def update_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Replace a document's nodes; those of the earlier version go when the new ones are durable.

        Parameters
        ----------
        document : Document
            The new version.
        **update_kwargs
            ``insert_kwargs`` for the transformations, as in `VectorStoreIndex`.
        """
        insert_kwargs, old = self._update_options(update_kwargs), self._ids_of(document.id_)
        with self._callback_manager.as_trace("update_ref_doc"):
            nodes = run_transformations(
                [document], self._transformations, show_progress=self._show_progress, **insert_kwargs
            )
            self.insert_nodes(nodes)
            self.delete_nodes(_without(old, nodes))

    async def aupdate_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Replace a document's nodes, off the event loop; see `update_ref_doc`."""
        insert_kwargs = self._update_options(update_kwargs)
        old = await asyncio.to_thread(self._ids_of, document.id_)
        with self._callback_manager.as_trace("aupdate_ref_doc"):
            nodes = await arun_transformations(
                [document], self._transformations, show_progress=self._show_progress, **insert_kwargs
            )
            await self.ainsert_nodes(nodes)
            await self.adelete_nodes(_without(old, nodes))

    def refresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """Insert documents that are new and replace those that have changed, also after reopening.

        Parameters
        ----------
        documents : sequence of Document
            Documents with ids of their own.
        **update_kwargs
            ``insert_kwargs`` and ``update_kwargs``, as in `VectorStoreIndex`.

        Returns
        -------
        list of bool
            Which of the documents were inserted or replaced.
        """
        refreshed = []
        for document in documents:
            known = self._hash_of(document.id_)
            if known is None:
                self.insert(document, **update_kwargs.get("insert_kwargs", {}))
            elif known != document.hash:
                self.update_ref_doc(document, **update_kwargs.get("update_kwargs", {}))
            refreshed.append(known != document.hash)
        return refreshed

    async def arefresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """Insert new and replace changed documents, off the event loop; see `refresh_ref_docs`."""
        refreshed = []
        for document in documents:
            known = await asyncio.to_thread(self._hash_of, document.id_)
            if known is None:
                await self.ainsert(document, **update_kwargs.get("insert_kwargs", {}))
            elif known != document.hash:
                await self.aupdate_ref_doc(document, **update_kwargs.get("update_kwargs", {}))
            refreshed.append(known != document.hash)
        return refreshed

    def build_index_from_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> IndexDict:
        """Build the index; unlike core, without passing over images without a text.

        Parameters
        ----------
        nodes : sequence of BaseNode
            All nodes.
        **insert_kwargs
            As in `VectorStoreIndex`.

        Returns
        -------
        IndexDict
            What core keeps beside the store.
        """
        encoder = self.collection.encoder
        if encoder is None or not encoder.takes_images or not any(map(has_image, nodes)):
            return super().build_index_from_nodes(nodes, **insert_kwargs)
        kept = [node for node in nodes if has_image(node) or embedded_text(node)]
        return self._build_index_from_nodes(kept, **insert_kwargs)

    # ------------------------------------------------------------------ inside

    def _get_node_with_embedding(self, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[BaseNode]:
        return list(nodes)  # the store encodes them

    async def _aget_node_with_embedding(self, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[BaseNode]:
        return list(nodes)

    def _ids_of(self, ref_doc_id: str) -> list[str]:
        return self.collection.ids(Compare(Field(SOURCE), "==", ref_doc_id))

    def _hash_of(self, ref_doc_id: str) -> str | None:
        """Return the hash of the version of a document that is indexed, which its nodes carry; None if there is none."""
        nodes = self.vector_store.get_nodes(self._ids_of(ref_doc_id)[:1])
        if not nodes:
            return None
        source = nodes[0].source_node
        if source is None:  # a document that was stored whole
            return str(nodes[0].hash)
        return source.hash or ""  # nodes that do not say are never up to date

    @staticmethod
    def _update_options(options: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(options) - {"insert_kwargs"})
        if unknown:
            raise ParameterError(f"unknown option {unknown[0]!r} of update_ref_doc; known: insert_kwargs")
        insert_kwargs: dict[str, Any] = options.get("insert_kwargs", {})
        return insert_kwargs


def _store(
    model: Any,
    path: str | os.PathLike[str] | None,
    vector_store: OctavoVectorStore | None,
    storage_context: StorageContext | None,
    options: dict[str, Any],
) -> tuple[OctavoVectorStore, bool]:
    """Return the store, and whether it was opened here."""
    for theirs in ("encoder", "embed_model"):
        if theirs in options:
            raise TypeError(f"unexpected option {theirs!r}; in LateInteractionIndex it is called model=")
    given: Any = vector_store
    if storage_context is not None:
        if vector_store is not None:
            raise ParameterError("expected vector_store or storage_context, got both")
        given = storage_context.vector_store
    if given is None:
        if model is None and path is None:
            raise ParameterError(
                "expected a model that turns texts into token vectors, or the path of an index, got neither"
            )
        if model is None:
            options = {"must_exist": True, **options}  # there is nothing to create one for
        given, opened = OctavoVectorStore(path, encoder=model, **options), True
    else:
        if model is not None or path is not None or options:
            named = [name for name, value in (("model", model), ("path", path)) if value is not None]
            raise ParameterError(f"expected a store or what opens one, got a store and {', '.join([*named, *options])}")
        opened = False
    if isinstance(given, OctavoVectorStore) and given.client.late is not None:
        return given, opened
    if opened:
        given.close()
    raise ParameterError(
        "expected an OctavoVectorStore for late interaction (with encoder=), got "
        + ("one with one vector a node" if isinstance(given, OctavoVectorStore) else type(given).__name__)
    )


def _without(ids: list[str], nodes: Sequence[BaseNode]) -> list[str]:
    kept = {node.node_id for node in nodes}
    return [identifier for identifier in ids if identifier not in kept]


class _Retriever(VectorIndexRetriever):
    """Compares its embedding model with what is stored, beside the first query."""

    _model: NodeModel | None = None

    def _compare(self) -> None:
        store = self._vector_store
        if not isinstance(store, OctavoVectorStore) or not self._needs_embedding():
            return
        if self._model is None:
            self._model = NodeModel.of_embedding(store.client, self._embed_model)
        self._model.warn()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self._compare()
        return list(super()._retrieve(query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        await asyncio.to_thread(self._compare)
        return list(await super()._aretrieve(query_bundle))


def as_retriever(source: VectorStoreIndex | OctavoVectorStore, **options: Any) -> VectorIndexRetriever:
    """Return a retriever over every node, also where the index holds an `IndexNode` or `ImageNode`.

    ``index.as_retriever()`` restricts its queries to the node ids that the index keeps itself. With a store that
    keeps the nodes' text, these are the index and image nodes only: as soon as there is one, every text node is out
    of reach. The retriever made here is the same, without that restriction.

    Parameters
    ----------
    source : VectorStoreIndex or OctavoVectorStore
        The index; or the store, from which an index is made (give ``embed_model=`` unless ``Settings`` has it).
    **options
        As for ``index.as_retriever``: ``similarity_top_k``, ``vector_store_query_mode``, ``filters``, ``alpha``,
        ``doc_ids``, ``node_ids``, ``sparse_top_k``, ``hybrid_top_k``, ``vector_store_kwargs``, ``verbose``, ... An empty
        list of either ids names nothing, so that nothing is found.

    Returns
    -------
    VectorIndexRetriever
        For a query engine: ``RetrieverQueryEngine.from_args(as_retriever(index), llm=llm)``.

    Raises
    ------
    InputTypeError
        When it is neither.
    MismatchError
        From ``retrieve``: the nodes were embedded with another model.
    """
    if isinstance(source, OctavoVectorStore):
        index = VectorStoreIndex.from_vector_store(source, embed_model=options.pop("embed_model", None))
    elif isinstance(source, VectorStoreIndex):
        index = source
    else:
        raise InputTypeError(f"expected a VectorStoreIndex or an OctavoVectorStore, got {type(source).__name__}")
    node_ids = options.get("node_ids")
    if node_ids is not None and len(node_ids) == 0:
        options["doc_ids"] = []  # core's own retriever passes node_ids=[] for "all nodes", so the store cannot tell
    # what index.as_retriever passes on, which llama-index-core offers no public way to read
    options.setdefault("object_map", index._object_map)
    options.setdefault("callback_manager", index._callback_manager)
    return _Retriever(index, **options)
