"""ScaNN through the package `scann-core`: its builder's API without TensorFlow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rivals.base import Setting, System


class Scann(System):
    name = "ScaNN"
    package, module = "scann-core", "scann"
    settings = "tree of 2 sqrt(n) leaves, asymmetric hashing of 2 dimensions a block, reordered from float32"
    source = "its docs/algorithms.md: leaves about sqrt(n), `score_ah(2, 0.2)`, reordering"
    minutes = 1.5

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import scann

        n = len(vectors)
        builder = scann.scann_ops_pybind.builder(np.array(vectors, np.float32), 10, "dot_product")
        builder = builder.set_n_training_threads(threads)
        leaves = 2 * math.isqrt(n)
        builder = builder.tree(
            num_leaves=leaves, num_leaves_to_search=leaves // 20, training_sample_size=min(n, 250_000)
        )
        searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        (folder / "index").mkdir()
        searcher.serialize(str(folder / "index"))

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import scann

        self.index = scann.scann_ops_pybind.load_searcher(str(folder / "index"))

    def curve(self) -> list[Setting]:
        leaves = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
        return [{"leaves": n, "reordered": reordered} for n in leaves for reordered in (50, 150)]

    def use(self, setting: Setting) -> None:
        self.arguments = {
            "leaves_to_search": setting["leaves"],
            "pre_reorder_num_neighbors": setting["reordered"],
        }

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self.index.search(query, final_num_neighbors=k, **self.arguments)[0]

    def batch(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        call = self.index.search_batched_parallel if threads > 1 else self.index.search_batched
        return call(queries, final_num_neighbors=k, **self.arguments)[0]


SYSTEMS = [Scann]
