"""LanceDB, embedded, with texts and metadata as columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import metadata_of, text_of
from rivals.base import DOCUMENTS, Setting, System, blocks


class Lance(System):
    package, module = "lancedb", "lancedb"
    stores = DOCUMENTS
    durable = "yes (files written once)"

    def index(self) -> Any:
        raise NotImplementedError

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import lancedb
        import pyarrow as pa

        dim = vectors.shape[1]
        schema = pa.schema(
            [
                ("id", pa.int64()),
                ("vector", pa.list_(pa.float32(), dim)),
                ("text", pa.string()),
                ("year", pa.int64()),
                ("source", pa.string()),
                ("number", pa.int64()),
                ("percent", pa.int64()),
            ]
        )

        def batches() -> Iterator[Any]:
            for start, block in blocks(vectors, 10_000):
                numbers = range(start, start + len(block))
                fields = [metadata_of(number) for number in numbers]
                columns = [
                    pa.array(numbers, pa.int64()),
                    pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim),
                    pa.array([text_of(number) for number in numbers]),
                    *(pa.array([row[name] for row in fields]) for name in ("year", "source", "number", "percent")),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        table = lancedb.connect(folder / "lance").create_table("bench", batches(), schema=schema)
        table.create_index("vector", config=self.index())

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import lancedb

        self.table = lancedb.connect(folder / "lance").open_table("bench")

    def search(self, query: np.ndarray, k: int) -> Any:
        return self._query(query).limit(k).to_arrow()

    def batch(self, queries: np.ndarray, k: int, threads: int) -> Any:
        return self._query(queries).limit(k).to_arrow()

    def rows(self, found: Any) -> list[int]:
        return [int(row) for row in found["id"].to_pylist()]

    def _query(self, query: np.ndarray) -> Any:
        search = self.table.search(query).select(["id", "text", "year", "source", "number", "percent", "_distance"])
        for name, value in (self.setting or {}).items():
            search = getattr(search, name)(value)
        return search


class LancePQ(Lance):
    name = "LanceDB IVF_PQ"
    settings = "IVF_PQ, default partitions, num_sub_vectors dim/8"
    source = "LanceDB docs, Vector indexes: dim/8 where recall matters, refine_factor"
    minutes = 4

    def index(self) -> Any:
        from lancedb.index import IvfPq

        return IvfPq(distance_type="dot", num_sub_vectors=48)

    def curve(self) -> list[Setting]:
        pairs = ((1, 2), (2, 2), (4, 2), (4, 4), (8, 4), (16, 4), (16, 8), (32, 8), (64, 8), (64, 16), (128, 16))
        return [{"nprobes": nprobes, "refine_factor": refine} for nprobes, refine in pairs]


class LanceHNSW(Lance):
    name = "LanceDB IVF_HNSW_SQ"
    settings = "IVF_HNSW_SQ, defaults (m 20, ef_construction 300)"
    source = "LanceDB docs, Vector indexes: defaults; ef from 1.5 k"
    minutes = 11

    def index(self) -> Any:
        from lancedb.index import HnswSq

        return HnswSq(distance_type="dot")

    def curve(self) -> list[Setting]:
        pairs = ((16, 1), (32, 2), (48, 2), (64, 2), (96, 2), (128, 2), (192, 2), (256, 3), (384, 3), (512, 4))
        return [{"ef": ef, "refine_factor": refine} for ef, refine in pairs]


SYSTEMS = [LancePQ, LanceHNSW]
