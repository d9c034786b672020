"""Haystack: a document store over Octavo collections, and retrievers by embedding, by words, by sparse embedding and by all.

Examples
--------
>>> from haystack import Document
>>> from octavo.integrations.haystack import OctavoDocumentStore, OctavoEmbeddingRetriever
>>> store = OctavoDocumentStore()
>>> store.write_documents([Document(content="red", embedding=[1.0, 0.0]), Document(content="green", embedding=[0.0, 1.0])])
2
>>> OctavoEmbeddingRetriever(store, top_k=1).run(query_embedding=[0.9, 0.1])["documents"][0].content
'red'
>>> store.close()
"""

try:
    import haystack
except ModuleNotFoundError as err:
    if err.name != "haystack":
        raise  # it is there, but broken: its own error says more
    from octavo.errors import MissingExtraError

    raise MissingExtraError(
        "octavo.integrations.haystack needs haystack-ai. Install it: pip install 'octavo[haystack]'"
    ) from err

from octavo.integrations.haystack._document_store import OctavoDocumentStore
from octavo.integrations.haystack._retrievers import (
    OctavoBM25Retriever,
    OctavoEmbeddingRetriever,
    OctavoHybridRetriever,
    OctavoSparseEmbeddingRetriever,
)

__all__ = [
    "OctavoBM25Retriever",
    "OctavoDocumentStore",
    "OctavoEmbeddingRetriever",
    "OctavoHybridRetriever",
    "OctavoSparseEmbeddingRetriever",
]

del haystack
