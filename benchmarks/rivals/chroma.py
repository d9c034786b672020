"""Chroma, embedded and persistent, with texts and metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common import metadata_of, text_of
from rivals.base import DOCUMENTS, Setting, System, blocks


class Chroma(System):
    name = "Chroma"
    package, module = "chromadb", "chromadb"
    stores = DOCUMENTS
    durable = "yes (SQLite)"
    settings = "HNSW: max_neighbors 16, ef_construction 100; synchronised 20 times"
    source = "its defaults (docs: Configure collections); a larger sync_threshold for a bulk load"
    minutes = 15

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        collection = self._client(folder).create_collection(
            "bench",
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "ip",
                    "ef_construction": 100,
                    "max_neighbors": 16,
                    "num_threads": threads,
                    # Every sync writes the whole graph, and what came after the last is linked again on opening.
                    "sync_threshold": min(50_000, max(1_000, len(vectors) // 20)),
                }
            },
        )
        for start, block in blocks(vectors, 5_000):
            numbers = range(start, start + len(block))
            collection.add(
                ids=[str(number) for number in numbers],
                embeddings=block,
                documents=[text_of(number) for number in numbers],
                metadatas=[metadata_of(number) for number in numbers],
            )

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        self.folder = folder
        self.setting = None
        self._load()

    def _load(self) -> None:
        self.collection = self._client(self.folder).get_collection("bench", embedding_function=None)

    def curve(self) -> list[Setting]:
        return [{"ef_search": ef} for ef in (16, 32, 48, 64, 100, 128, 192, 256, 384, 512)]

    def use(self, setting: Setting) -> None:
        from chromadb.api.client import SharedSystemClient

        if setting == self.setting:
            return
        # An open collection goes on with the ef_search that it was loaded with: change it, and open again.
        self.collection.modify(configuration={"hnsw": setting})
        if self.setting is not None:
            SharedSystemClient.clear_system_cache()
            self._load()
        self.setting = setting

    def search(self, query: np.ndarray, k: int) -> Any:
        return self.collection.query(query_embeddings=query[None], n_results=k)

    def batch(self, queries: np.ndarray, k: int, threads: int) -> Any:
        return self.collection.query(query_embeddings=queries, n_results=k)

    def rows(self, found: Any) -> list[int]:
        return [int(identifier) for identifier in found["ids"][0]]

    @staticmethod
    def _client(folder: Path) -> Any:
        import chromadb
        from chromadb.config import Settings

        return chromadb.PersistentClient(str(folder / "chroma"), Settings(anonymized_telemetry=False))


SYSTEMS = [Chroma]
