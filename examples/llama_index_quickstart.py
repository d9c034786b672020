"""Index a few texts with LlamaIndex and Octavo, close, reopen, ask: offline, with an embedding made of hashed words.

Run it with ``python examples/llama_index_quickstart.py``.
"""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from octavo.integrations.llama_index import OctavoVectorStore, as_retriever


class WordEmbedding(BaseEmbedding):
    """One random direction a word, added up: enough to see texts that share words find each other."""

    def _get_text_embedding(self, text: str) -> list[float]:
        total = np.zeros(256)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.strip(".,?").encode()).digest()[:8], "little")
            total += np.random.default_rng(seed).standard_normal(256)
        return [float(value) for value in total / (np.linalg.norm(total) or 1.0)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


DOCUMENTS = [
    Document(id_="steam", text="The steam engine drove the mills of the nineteenth century.", metadata={"year": 1820}),
    Document(id_="diesel", text="A diesel engine ignites its fuel by compression.", metadata={"year": 1897}),
    Document(id_="violin", text="The violin sonata was written for a friend.", metadata={"year": 1917}),
]


def main() -> None:
    """Build, reopen, ask."""
    embedding = WordEmbedding()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb"

        store = OctavoVectorStore(path, codec="rabitq:1 > int8", embed_model=embedding)
        VectorStoreIndex.from_documents(
            DOCUMENTS, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedding
        )
        store.close()  # nothing to persist: every node was durable when the call returned

        store = OctavoVectorStore(path, embed_model=embedding)  # another model would be noticed
        after_1850 = MetadataFilters(filters=[MetadataFilter(key="year", value=1850, operator=FilterOperator.GT)])
        retriever = as_retriever(store, embed_model=embedding, similarity_top_k=2, filters=after_1850)
        for hit in retriever.retrieve("Which engine needs no spark?"):
            print(f"{hit.score:.3f}  {hit.node.ref_doc_id:7} {hit.text}")

        words = as_retriever(store, embed_model=embedding, vector_store_query_mode="text_search")
        print("by words:", [hit.node.ref_doc_id for hit in words.retrieve("violins")])

        engine = RetrieverQueryEngine.from_args(as_retriever(store, embed_model=embedding), llm=MockLLM())
        print("sources:", [hit.node.ref_doc_id for hit in engine.query("Who wrote the sonata?").source_nodes])
        store.close()


if __name__ == "__main__":
    main()
