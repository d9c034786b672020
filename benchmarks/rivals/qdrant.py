"""qdrant-edge: Qdrant's engine inside the process, with texts and metadata as payload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common import metadata_of, text_of
from rivals.base import DOCUMENTS, Setting, System, blocks


class Qdrant(System):
    name = "qdrant-edge"
    package, module = "qdrant-edge-py", "qdrant_edge"
    stores = DOCUMENTS
    durable = "yes (write-ahead log)"
    settings = "int8 scalar quantization (quantile 0.99) in memory; HNSW m 16, ef_construct 100; one segment"
    source = "Qdrant docs, Optimize performance: quantized in memory, originals on disk"
    minutes = 5

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        import qdrant_edge as q

        (folder / "shard").mkdir()
        config = q.EdgeConfig(
            vectors=q.EdgeVectorParams(size=vectors.shape[1], distance=q.Distance.Dot),
            hnsw_config=q.HnswIndexConfig(
                m=16, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=threads
            ),
            quantization_config=q.ScalarQuantizationConfig(
                type=q.ScalarType.Int8, quantile=0.99, memory=q.Memory.Pinned
            ),
            # One segment: a search visits one graph. The default limit would leave several.
            optimizers=q.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=16_000_000),
        )
        shard = q.EdgeShard.create(str(folder / "shard"), config)
        for start, block in blocks(vectors, 5_000):
            points = [
                q.Point(start + i, row, metadata_of(start + i) | {"text": text_of(start + i)})
                for i, row in enumerate(block.tolist())
            ]
            shard.update(q.UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
        shard.close()

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        import qdrant_edge as q

        self.shard = q.EdgeShard.load(str(folder / "shard"))

    def curve(self) -> list[Setting]:
        pairs = (
            (16, 1.0),
            (32, 1.5),
            (48, 2.0),
            (64, 2.0),
            (96, 2.0),
            (128, 2.0),
            (192, 2.0),
            (256, 3.0),
            (384, 3.0),
            (512, 3.0),
        )
        return [{"hnsw_ef": ef, "oversampling": factor} for ef, factor in pairs]

    def use(self, setting: Setting) -> None:
        import qdrant_edge as q

        self.params = q.SearchParams(
            hnsw_ef=setting["hnsw_ef"],
            quantization=q.QuantizationSearchParams(rescore=True, oversampling=setting["oversampling"]),
        )

    def search(self, query: np.ndarray, k: int) -> Any:
        return self.shard.query(self._request(query, k))

    def batch(self, queries: np.ndarray, k: int, threads: int) -> Any:
        import qdrant_edge as q

        return self.shard.query_batch(q.QueryBatchRequest([self._request(query, k) for query in queries]))

    def rows(self, found: Any) -> list[int]:
        return [int(point.id) for point in found]

    def _request(self, query: np.ndarray, k: int) -> Any:
        import qdrant_edge as q

        return q.QueryRequest(limit=k, query=q.Query.Nearest(query.tolist()), with_payload=True, params=self.params)


SYSTEMS = [Qdrant]
