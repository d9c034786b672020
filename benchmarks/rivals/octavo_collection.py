"""Octavo through `Collection.add` and `Collection.search`: every document durable with text and metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import metadata_of, text_of
from rivals.base import DOCUMENTS, Setting, System, blocks


class Octavo(System):
    package, module = "octavo", "octavo"
    stores = DOCUMENTS
    durable = "yes (each batch of 1,024)"
    codec = "int8"
    index = "cells"

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import octavo

        n = len(vectors)

        def rows() -> Iterator[np.ndarray]:
            for _, block in blocks(vectors, 8_192):
                yield from block

        with octavo.open(folder / "kb", codec=self.codec, index=self.index) as kb:
            kb.add(
                (text_of(i) for i in range(n)),
                ids=(str(i) for i in range(n)),
                metadata=(metadata_of(i) for i in range(n)),
                vectors=rows(),
            )
            kb.flush()

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import octavo

        self.kb = octavo.open(folder / "kb", must_exist=True)

    def search(self, query: np.ndarray, k: int) -> Any:
        return self.kb.search(query, k, **(self.setting or {}))

    def batch(self, queries: np.ndarray, k: int, threads: int) -> Any:
        return self.kb.search_batch(queries, k, **(self.setting or {}))

    def rows(self, found: Any) -> list[int]:
        return [int(identifier) for identifier in found.ids]


#: Cells looked at, of 20,000 for a million documents; by default every query finds out by itself.
_PROBED: list[Setting] = [{"n_probe": n} for n in (16, 32, 64, 128, 256, 512, 1024)]


class OctavoInt8(Octavo):
    name = "Octavo `int8`"
    settings = "codec `int8`, defaults"
    minutes = 2

    def curve(self) -> list[Setting]:
        return [{}, *_PROBED]


class OctavoRabitq(Octavo):
    name = "Octavo `rabitq:1 > int8`"
    codec = "rabitq:1 > int8"
    settings = "codec `rabitq:1 > int8`, defaults"
    minutes = 2.5

    def curve(self) -> list[Setting]:
        return [{}, *_PROBED]


class OctavoInt8Float16(Octavo):
    name = "Octavo `int8 > float16`"
    codec = "int8 > float16"
    settings = "codec `int8 > float16`, defaults"
    minutes = 2

    def curve(self) -> list[Setting]:
        return [{}, *_PROBED]


class OctavoInt8Graph(Octavo):
    name = "Octavo `int8`, graph"
    index = "graph"
    settings = 'codec `int8`, `index="graph"`, defaults'
    minutes = 5

    def curve(self) -> list[Setting]:
        return [{}] + [{"ef": ef} for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)]


class OctavoBinaryGraph(Octavo):
    name = "Octavo `binary > int8`, graph"
    codec = "binary > int8"
    index = "graph"
    settings = 'codec `binary > int8`, `index="graph"`, defaults'
    minutes = 4

    def curve(self) -> list[Setting]:
        pairs = ((8, 96), (12, 128), (16, 160), (20, 200), (30, 300), (40, 400), (60, 600), (80, 800), (120, 1200))
        return [{}] + [{"oversample": oversample, "ef": ef} for oversample, ef in pairs]


SYSTEMS = [OctavoInt8, OctavoRabitq, OctavoInt8Float16, OctavoInt8Graph, OctavoBinaryGraph]
