"""hnswlib and plain usearch: graphs over the vectors, nothing else stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rivals.base import Setting, System, blocks


class Hnswlib(System):
    name = "hnswlib"
    package, module = "hnswlib", "hnswlib"
    settings = "M 16, ef_construction 200, float32"
    source = "its README's example; ALGO_PARAMS.md: M 12 to 48"
    minutes = 6.5

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
        for start, block in blocks(vectors):
            index.add_items(block, np.arange(start, start + len(block)), num_threads=threads)
        index.save_index(str(folder / "index.hnsw"))
        (folder / "dim").write_text(str(vectors.shape[1]))

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=int((folder / "dim").read_text()))
        self.index.load_index(str(folder / "index.hnsw"))

    def curve(self) -> list[Setting]:
        return [{"ef": ef} for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)]

    def use(self, setting: Setting) -> None:
        self.index.set_ef(setting["ef"])

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self.index.knn_query(query, k, num_threads=1)[0][0]

    def batch(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        return self.index.knn_query(queries, k, num_threads=threads)[0]


class Usearch(System):
    """usearch by inner product, which is quicker on unit vectors; 8-bit integers by cosine, which its README asks for."""

    package, module = "usearch", "usearch.index"
    dtype, metric = "f32", "ip"
    source = "its defaults, which its README recommends to start from"

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        from usearch.index import Index

        index = Index(ndim=vectors.shape[1], metric=self.metric, dtype=self.dtype)
        for start, block in blocks(vectors):
            index.add(np.arange(start, start + len(block)), block, threads=threads)
        index.save(str(folder / "index.usearch"))

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        from usearch.index import Index

        # Mapped rather than loaded: as quick once the pages are there, and it costs usearch no anonymous memory.
        self.index = Index.restore(str(folder / "index.usearch"), view=True)

    def curve(self) -> list[Setting]:
        return [{"expansion": ef} for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)]

    def use(self, setting: Setting) -> None:
        self.index.expansion_search = setting["expansion"]

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self.index.search(query, k, threads=1).keys

    def batch(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        return self.index.search(queries, k, threads=threads).keys


class UsearchF32(Usearch):
    name = "usearch f32"
    settings = "f32, inner product, connectivity 16, expansion_add 128"
    minutes = 7


class UsearchF16(Usearch):
    name = "usearch f16"
    dtype = "f16"
    settings = "f16, inner product, connectivity 16, expansion_add 128"
    minutes = 4.5


class UsearchI8(Usearch):
    name = "usearch i8"
    dtype, metric = "i8", "cos"
    settings = "i8, cosine, connectivity 16, expansion_add 128"
    minutes = 3


SYSTEMS = [Hnswlib, UsearchI8, UsearchF16, UsearchF32]
