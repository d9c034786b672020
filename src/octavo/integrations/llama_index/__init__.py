"""Octavo as a LlamaIndex vector store.

::

    from octavo.integrations.llama_index import OctavoVectorStore

    store = OctavoVectorStore(path="kb", codec="rabitq:1 > int8")
    index = VectorStoreIndex.from_documents(docs, storage_context=StorageContext.from_defaults(vector_store=store))

See ``docs/llama-index.md``.
"""

from __future__ import annotations

from octavo.errors import MissingExtraError

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as err:
    if err.name is None or err.name.partition(".")[0] != "llama_index":
        raise  # llama-index-core is there, but something that it needs is not: its own error says what
    raise MissingExtraError(
        "octavo.integrations.llama_index needs llama-index-core. Install it: pip install 'octavo[llama-index]'"
    ) from err

from octavo.integrations.llama_index._late_interaction import LateInteractionIndex, as_retriever
from octavo.integrations.llama_index._reranker import MaxSimRerank
from octavo.integrations.llama_index._vector_store import OctavoVectorStore

__all__ = ["LateInteractionIndex", "MaxSimRerank", "OctavoVectorStore", "as_retriever"]
