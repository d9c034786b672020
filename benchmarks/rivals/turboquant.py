"""turboquant-pro: its index with cells (experimental, it says), rescored from the float32 vectors that it keeps."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from rivals.base import Setting, System


class TurboQuantPro(System):
    name = "turboquant-pro IVF"
    package, module = "turboquant-pro", "turboquant_pro"
    settings = "`IVFIndex.create`, 4 bits, its number of cells; pickled, since it has no format of its own"
    source = "docstring of `IVFIndex`"
    minutes = 3

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import turboquant_pro

        index = turboquant_pro.IVFIndex.create(np.array(vectors, np.float32), bits=4)
        with (folder / "index.pickle").open("wb") as file:
            pickle.dump(index, file, protocol=5)

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        with (folder / "index.pickle").open("rb") as file:
            self.index = pickle.load(file)

    def curve(self) -> list[Setting]:
        return [{"nprobe": n, "rerank": rerank} for n in (4, 8, 16, 32, 64, 128) for rerank in (0, 5)]

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        assert self.setting is not None
        return np.asarray(self.index.search(query[None], k, **self.setting)[0][0])

    def batch(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        assert self.setting is not None
        return np.asarray(self.index.search(queries, k, **self.setting)[0])


SYSTEMS = [TurboQuantPro]
