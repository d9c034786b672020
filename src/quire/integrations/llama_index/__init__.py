"""Quire as a LlamaIndex vector store.

::

    from quire.integrations.llama_index import QuireVectorStore

    store = QuireVectorStore(path="kb", codec="binary > int8")
    index = VectorStoreIndex.from_documents(docs, storage_context=StorageContext.from_defaults(vector_store=store))

See ``docs/llama-index.md``.
"""

from __future__ import annotations

from quire.errors import MissingExtraError

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as err:
    if err.name is None or err.name.partition(".")[0] != "llama_index":
        raise  # llama-index-core is there, but something that it needs is not: its own error says what
    raise MissingExtraError(
        "quire.integrations.llama_index needs llama-index-core. Install it: pip install 'quire[llama-index]'"
    ) from err

from quire.integrations.llama_index._late_interaction import LateInteractionIndex
from quire.integrations.llama_index._nodes import StoredObject
from quire.integrations.llama_index._reranker import MaxSimRerank
from quire.integrations.llama_index._retriever import as_retriever
from quire.integrations.llama_index._vector_store import QuireVectorStore

__all__ = ["LateInteractionIndex", "MaxSimRerank", "QuireVectorStore", "StoredObject", "as_retriever"]
