"""Makes the small stores beside this file with the libraries themselves, which the tests then need not have.

Run with faiss-cpu, langchain-community and llama-index-vector-stores-faiss installed: python tests/data/stores/make_stores.py
"""

from __future__ import annotations

import datetime
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TEXTS = ["a red apple", "a green pear", "a blue plum"]


def vector(text: str) -> np.ndarray:
    found = np.random.default_rng(zlib.crc32(text.encode())).normal(size=8)
    return (found / np.linalg.norm(found)).astype(np.float32)


def make_langchain() -> None:
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import Embeddings

    class Embedding(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return vector(text).tolist()

    utc = datetime.UTC
    metadata: list[dict[str, Any]] = [
        {"year": np.int64(2020), "when": datetime.datetime(2024, 5, 1, 12, tzinfo=utc), "path": Path("/fruit/a.txt")},
        {"year": 2021, "day": datetime.date(2024, 5, 1), "weight": np.float32(0.5)},
        {"tags": ["x", "y"], "nested": {"deep": [1, 2.5, None, True]}, "raw": b"bytes"},
        {},
    ]
    store = FAISS.from_texts([*TEXTS, "deleted"], Embedding(), metadatas=metadata, ids=["r", "g", "b", "x"])
    store.delete(["x"])
    store.save_local(str(HERE / "langchain"))


def make_llama_index() -> None:
    import faiss
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.vector_stores.faiss import FaissVectorStore

    class Embedding(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return vector(query).tolist()

        def _get_text_embedding(self, text: str) -> list[float]:
            return vector(text).tolist()

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return vector(query).tolist()

    documents = [
        Document(
            text=TEXTS[0], metadata={"file": "a.txt", "year": 2020}, excluded_embed_metadata_keys=["year"], id_="doc-a"
        ),
        Document(text=TEXTS[1], id_="doc-b"),
    ]
    context = StorageContext.from_defaults(vector_store=FaissVectorStore(faiss_index=faiss.IndexFlatL2(8)))
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=Embedding())
    context.persist(str(HERE / "llama-index"))
    for name in ("graph_store.json", "image__vector_store.json"):
        (HERE / "llama-index" / name).unlink()  # of other stores


def make_indexes() -> None:
    import faiss

    matrix = np.array([vector(text) for text in TEXTS])
    folder = HERE / "faiss"
    folder.mkdir()
    numbered = faiss.IndexIDMap(faiss.IndexFlatIP(8))
    numbered.add_with_ids(matrix, np.array([30, 10, 20]))
    flat = faiss.IndexFlatIP(8)
    flat.add(matrix)
    for name, index in (("flat", flat), ("numbered", numbered)):
        faiss.write_index(index, str(folder / f"{name}.faiss"))


if __name__ == "__main__":
    for made in ("langchain", "llama-index", "faiss"):
        shutil.rmtree(HERE / made, ignore_errors=True)
    make_langchain()
    make_llama_index()
    make_indexes()
