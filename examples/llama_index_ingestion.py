"""Keep a collection in step with changing documents, through an IngestionPipeline with a document store; offline.

Run it with ``python examples/llama_index_ingestion.py``.
"""

import asyncio
import hashlib
import tempfile

import numpy as np
from llama_index.core import Document
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from octavo.integrations.llama_index import OctavoVectorStore


class TextEmbedding(BaseEmbedding):
    """A random direction for each text: any model that LlamaIndex knows takes its place."""

    def _get_text_embedding(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        return [float(value) for value in np.random.default_rng(seed).standard_normal(64)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


async def main() -> None:
    """Ingest twice: the second time one document has changed and one is gone."""
    with tempfile.TemporaryDirectory() as folder:
        store = OctavoVectorStore(f"{folder}/kb", codec="int8")
        pipeline = IngestionPipeline(
            transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), TextEmbedding()],
            vector_store=store,
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        )
        await pipeline.arun(
            documents=[
                Document(id_="rules", text="Members may borrow five books."),
                Document(id_="hours", text="The library is open from nine to five."),
                Document(id_="old", text="The reading room is closed for repairs."),
            ]
        )
        await pipeline.arun(
            documents=[
                Document(id_="rules", text="Members may borrow seven books."),
                Document(id_="hours", text="The library is open from nine to five."),
            ]
        )
        for node in await store.aget_nodes():
            print(node.ref_doc_id, "|", node.get_content())
        query = VectorStoreQuery(query_str="borrowing books", mode=VectorStoreQueryMode.TEXT_SEARCH)
        found = await store.aquery(query)
        print("found:", [node.get_content() for node in found.nodes or []])
        store.close()


if __name__ == "__main__":
    asyncio.run(main())
