"""FAISS through its own API, configured after its wiki ("Guidelines to choose an index", revision of March 2026)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from rivals.base import Setting, System, blocks, sample

WIKI = "FAISS wiki, Guidelines to choose an index"


def lists(n: int) -> int:
    """Return the inverted lists for `n` rows: the power of two nearest to 4 sqrt(n), as the wiki says below a million."""
    return 2 ** round(math.log2(4 * math.sqrt(n)))


class Faiss(System):
    """An index from a factory string."""

    package, module = "faiss-cpu", "faiss"

    def factory(self, n: int, dim: int) -> str:
        raise NotImplementedError

    def prepare(self, index: Any) -> None:
        """Set what the factory string cannot say."""

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        n, dim = vectors.shape
        index = faiss.index_factory(dim, self.factory(n, dim), faiss.METRIC_INNER_PRODUCT)
        self.prepare(index)
        if not index.is_trained:
            # The wiki asks for 30 to 256 training rows for each list.
            index.train(sample(vectors, 50 * lists(n)))
        for _, block in blocks(vectors):
            index.add(block)
        faiss.write_index(index, str(folder / "index.faiss"))

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index = faiss.read_index(str(folder / "index.faiss"))

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self.index.search(query[None], k)[1][0]

    def batch(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        return self.index.search(queries, k)[1]


class FaissFlat(Faiss):
    name = "FAISS Flat"
    settings = "`Flat`, inner product"
    source = WIKI
    minutes = 0.1

    def factory(self, n: int, dim: int) -> str:
        return "Flat"


class FaissHNSW(Faiss):
    name = "FAISS HNSW"
    settings = "`HNSW32`, efConstruction 40 (its default)"
    source = WIKI + ": HNSW with 4 to 64 links"
    minutes = 3.5

    def factory(self, n: int, dim: int) -> str:
        return "HNSW32"

    def curve(self) -> list[Setting]:
        return [{"efSearch": ef} for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)]

    def use(self, setting: Setting) -> None:
        self.index.hnsw.efSearch = setting["efSearch"]


class FaissRefined(Faiss):
    """Inverted lists of short codes, the best of which are rescored from float32 held in memory."""

    #: Lists visited, and candidates rescored for each result: the wiki's parameters nprobe and k_factor_rf, all combinations.
    nprobe = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    k_factor = (2, 4, 8)

    def curve(self) -> list[Setting]:
        return [{"nprobe": nprobe, "k_factor": factor} for nprobe in self.nprobe for factor in self.k_factor]

    def use(self, setting: Setting) -> None:
        import faiss

        self.index.k_factor = setting["k_factor"]
        faiss.extract_index_ivf(self.index.base_index).nprobe = setting["nprobe"]


class FaissIVFPQ(FaissRefined):
    name = "FAISS IVF-PQ fast scan"
    settings = "`IVF{4 sqrt(n)},PQ{dim/2}x4fs,RFlat`, trained on 50 rows a list"
    source = WIKI + ": IVF1024,PQNx4fs,RFlat"
    minutes = 2.5

    def factory(self, n: int, dim: int) -> str:
        return f"IVF{lists(n)},PQ{dim // 2}x4fs,RFlat"


class FaissRaBitQ(FaissRefined):
    name = "FAISS RaBitQ fast scan"
    settings = "`RR,IVF{4 sqrt(n)},RaBitQfs,RFlat` (random rotation first)"
    source = "FAISS wiki, RaBitQ: rotate, then refine"
    minutes = 2
    k_factor = (4, 8, 16, 32)

    def factory(self, n: int, dim: int) -> str:
        return f"RR{dim},IVF{lists(n)},RaBitQfs,RFlat"


SYSTEMS = [FaissFlat, FaissIVFPQ, FaissRaBitQ, FaissHNSW]
