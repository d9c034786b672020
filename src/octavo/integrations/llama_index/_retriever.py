"""A retriever that sees all nodes of an index."""

from __future__ import annotations

from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever

from octavo.errors import InputTypeError
from octavo.integrations.llama_index._vector_store import OctavoVectorStore


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
        ``doc_ids``, ``node_ids``, ``sparse_top_k``, ``hybrid_top_k``, ``vector_store_kwargs``, ``verbose``, ...

    Returns
    -------
    VectorIndexRetriever
        For a query engine: ``RetrieverQueryEngine.from_args(as_retriever(index), llm=llm)``.

    Raises
    ------
    InputTypeError
        When it is neither.
    """
    if isinstance(source, OctavoVectorStore):
        index = VectorStoreIndex.from_vector_store(source, embed_model=options.pop("embed_model", None))
    elif isinstance(source, VectorStoreIndex):
        index = source
    else:
        raise InputTypeError(f"expected a VectorStoreIndex or an OctavoVectorStore, got {type(source).__name__}")
    # what index.as_retriever passes on, which llama-index-core offers no public way to read
    options.setdefault("object_map", index._object_map)
    options.setdefault("callback_manager", index._callback_manager)
    return VectorIndexRetriever(index, **options)
