"""turbovec through its own API: its LangChain store adds Python objects to the same search, and loads JSON on opening."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rivals.base import Setting, System, blocks, sample

RESCORED = "; *rescored n*: n x k of its results rescored by the benchmark from a mapped float32 file"


class Turbovec(System):
    package, module = "turbovec", "turbovec"
    durable = "yes (`sync`)"
    source = "its README; calibration before adding, as `calibrate` advises"
    bits = 4

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        from turbovec import TurboQuantIndex

        index = TurboQuantIndex(dim=vectors.shape[1], bit_width=self.bits)
        index.calibrate(sample(vectors, 4_096))
        for _, block in blocks(vectors):
            index.add(block)
        index.sync(str(folder / "index.tv"))

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        from turbovec import TurboQuantIndex

        self.index = TurboQuantIndex.load(str(folder / "index.tv"))
        self.index.prepare()
        self.documents = np.load(documents, mmap_mode="r").view(np.ndarray)
        self.factor = 0

    def curve(self) -> list[Setting]:
        """Its own ranking first; then, because that has no dial, candidates rescored here from the float32 file."""
        return [{"rescored": factor} for factor in (0, 2, 3, 4, 6, 8, 12, 16)]

    def use(self, setting: Setting) -> None:
        self.factor = setting["rescored"]

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        found = self.index.search(query[None], k * max(1, self.factor))[1][0]
        if not self.factor:
            return found
        return found[np.argsort(-(self.documents[found] @ query))[:k]]

    def batch(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        found = self.index.search(queries, k * max(1, self.factor))[1]
        if not self.factor:
            return found
        scores = np.stack([self.documents[rows] @ query for rows, query in zip(found, queries, strict=True)])
        return np.take_along_axis(found, np.argsort(-scores, axis=1)[:, :k], axis=1)


class Turbovec4(Turbovec):
    name = "turbovec 4 bit"
    settings = "4 bits, calibrated on 4,096 rows" + RESCORED
    minutes = 0.2


class Turbovec2(Turbovec):
    name = "turbovec 2 bit"
    bits = 2
    settings = "2 bits, calibrated on 4,096 rows" + RESCORED
    minutes = 0.2


SYSTEMS = [Turbovec2, Turbovec4]
