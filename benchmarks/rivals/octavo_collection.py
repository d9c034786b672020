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

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import octavo

        n = len(vectors)

        def rows() -> Iterator[np.ndarray]:
            for _, block in blocks(vectors, 8_192):
                yield from block

        with octavo.open(folder / "kb", codec=self.codec) as kb:
            kb.add(
                (text_of(i) for i in range(n)),
                ids=(str(i) for i in range(n)),
                metadata=(metadata_of(i) for i in range(n)),
                vectors=rows(),
            )

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import octavo

        self.kb = octavo.open(folder / "kb", must_exist=True)

    def search(self, query: np.ndarray, k: int) -> Any:
        return self.kb.search(query, k, **(self.setting or {}))

    def batch(self, queries: np.ndarray, k: int, threads: int) -> Any:
        return self.kb.search_batch(queries, k, **(self.setting or {}))

    def rows(self, found: Any) -> list[int]:
        return [int(identifier) for identifier in found.ids]


class OctavoInt8(Octavo):
    name = "Octavo `int8`"
    settings = "codec `int8`, defaults"
    minutes = 4

    def curve(self) -> list[Setting]:
        return [{}] + [{"ef": ef} for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)]


class OctavoBinary(Octavo):
    name = "Octavo `binary > int8`"
    codec = "binary > int8"
    settings = "codec `binary > int8`, defaults"
    minutes = 3

    def curve(self) -> list[Setting]:
        pairs = (
            (8, 96),
            (12, 128),
            (16, 160),
            (20, 200),
            (25, 250),
            (30, 300),
            (40, 400),
            (60, 600),
            (80, 800),
            (120, 1200),
        )
        return [{}] + [{"oversample": oversample, "ef": ef} for oversample, ef in pairs]


class OctavoInt8Float16(Octavo):
    name = "Octavo `int8 > float16`"
    codec = "int8 > float16"
    settings = "codec `int8 > float16`, defaults"
    minutes = 4.5

    def curve(self) -> list[Setting]:
        pairs = ((2, 32), (2, 48), (2, 64), (2, 96), (2, 128), (3, 160), (3, 192), (4, 256), (4, 384), (5, 512))
        return [{}] + [{"oversample": oversample, "ef": ef} for oversample, ef in pairs]


class OctavoSvd(Octavo):
    name = "Octavo `svd:50%|float8 > int8`"
    codec = "svd:50%|float8 > int8"
    settings = "codec `svd:50%|float8 > int8`, defaults"
    minutes = 6

    def curve(self) -> list[Setting]:
        pairs = ((2, 32), (2, 48), (3, 64), (3, 96), (4, 128), (4, 192), (5, 256), (5, 384), (8, 512))
        return [{}] + [{"oversample": oversample, "ef": ef} for oversample, ef in pairs]


SYSTEMS = [OctavoBinary, OctavoInt8, OctavoInt8Float16, OctavoSvd]
