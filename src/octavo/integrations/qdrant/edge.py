"""Qdrant's own core in this process, by ``qdrant-edge-py``."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from octavo.errors import CollectionLockedError, MissingExtraError
from octavo.integrations.qdrant._filters import Condition
from octavo.integrations.qdrant.transport import DENSE, TEXT, TOKENS, Layout, Point, Search, Status, TokenLayout

_PAGE = 256

#: By this file a directory of the core is known.
CONFIG_FILE: Final = "edge_config.json"


def _edge() -> Any:
    try:
        qdrant_edge: Any = importlib.import_module("qdrant_edge")
    except ImportError as err:
        raise MissingExtraError("path= needs Qdrant's core: pip install 'octavo[qdrant]'") from err
    return qdrant_edge


class EdgeTransport:
    """A shard in a directory.

    Parameters
    ----------
    path : Path
        The directory; one process at a time holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._edge = _edge()
        self._shard: Any = None
        self._writing = threading.Lock()
        if self.exists():
            try:
                self._shard = self._edge.EdgeShard.load(str(path))
            except Exception as err:  # the core raises nothing more specific
                if "WouldBlock" in str(err):
                    raise CollectionLockedError(
                        f"expected {path} to be free, but another process, or another object of this one, has it open; close "
                        "it there"
                    ) from err
                raise

    @property
    def place(self) -> str:
        """Where it is."""
        return str(self._path)

    def exists(self) -> bool:
        """Whether there is a shard."""
        return (self._path / CONFIG_FILE).exists()

    def create(self, layout: Layout) -> None:
        """Create the shard."""
        edge = self._edge
        vectors = {DENSE: self._vectors(layout)}
        if layout.tokens is not None:
            vectors[TOKENS] = self._vectors(
                layout.tokens,
                multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
                hnsw_config=edge.HnswIndexConfig(0, layout.ef_construct, layout.full_scan_threshold),
            )
        config = edge.EdgeConfig(
            vectors=vectors,
            sparse_vectors={TEXT: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
            hnsw_config=edge.HnswIndexConfig(layout.hnsw_m, layout.ef_construct, layout.full_scan_threshold),
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=layout.indexing_threshold),
        )
        self._path.mkdir(parents=True, exist_ok=True)
        self._shard = edge.EdgeShard.create(str(self._path), config)
        self._update(edge.UpdateOperation.create_field_index("terms", edge.PayloadSchemaType.Keyword))
        for key in layout.ranges:
            self._update(edge.UpdateOperation.create_field_index(key, edge.PayloadSchemaType.Float))

    def _vectors(self, layout: Layout | TokenLayout, **options: Any) -> Any:
        edge = self._edge
        quantization = None
        if layout.quantization == "scalar":
            quantization = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Pinned)
        elif layout.quantization == "binary":
            quantization = edge.BinaryQuantizationConfig(memory=edge.Memory.Pinned)
        datatype = edge.VectorStorageDatatype
        return edge.EdgeVectorParams(
            layout.dim,
            edge.Distance.Dot,
            datatype=datatype.Float16 if layout.datatype == "float16" else datatype.Float32,
            quantization_config=quantization,
            **options,
        )

    def _update(self, operation: Any) -> None:
        with self._writing:
            self._shard.update(operation)

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points."""
        self._update(self._edge.UpdateOperation.upsert_points([self._point(point) for point in points]))

    def _point(self, point: Point) -> Any:
        vectors: dict[str, Any] = {}
        if point.dense is not None:
            vectors[DENSE] = list(point.dense)
        if point.text is not None and point.text[0]:
            vectors[TEXT] = self._edge.SparseVector(*point.text)
        if point.tokens is not None:
            vectors[TOKENS] = point.tokens
        return self._edge.Point(point.id, vectors, point.payload)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete points."""
        self._update(self._edge.UpdateOperation.delete_points(list(ids)))

    def retrieve(self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = ()) -> list[Point]:
        """Return points."""
        wanted = fields if isinstance(fields, bool) else list(fields)
        found = self._shard.retrieve(list(ids), wanted, list(vectors) or False)
        return [_as_point(record) for record in found]

    def scroll(self, where: Condition, fields: Sequence[str], offset: str | None) -> tuple[list[Point], str | None]:
        """Return a page."""
        records, following = self._shard.scroll(
            self._edge.ScrollRequest(
                offset=offset, limit=_PAGE, filter=self._filter(where), with_payload=list(fields), with_vector=False
            )
        )
        return [_as_point(record) for record in records], str(following) if following is not None else None

    def count(self, where: Condition) -> int:
        """Return the number of points."""
        return int(self._shard.count(self._edge.CountRequest(True, self._filter(where))))

    def search(self, searches: Sequence[Search]) -> list[list[Point]]:
        """Answer queries."""
        requests = [self._request(search) for search in searches]
        answers = self._shard.query_batch(self._edge.QueryBatchRequest(requests))
        return [[_as_point(hit) for hit in answer] for answer in answers]

    def _request(self, search: Search) -> Any:
        edge = self._edge
        return edge.QueryRequest(
            limit=search.limit,
            query=self._query(search),
            prefetches=[
                edge.Prefetch(
                    limit=each.limit,
                    query=self._query(each),
                    filter=self._filter(each.where),
                    params=self._params(each),
                )
                for each in search.prefetch
            ],
            filter=self._filter(search.where),
            with_payload=True,
            with_vector=[DENSE] if search.with_vectors else False,
            params=self._params(search),
        )

    def _query(self, search: Search) -> Any:
        edge = self._edge
        if search.dense is not None:
            return edge.Query.Nearest(list(search.dense), DENSE)
        if search.tokens is not None:
            return edge.Query.Nearest(search.tokens, TOKENS)
        assert search.text is not None  # one of the three
        return edge.Query.Nearest(edge.SparseVector(*search.text), TEXT)

    def _params(self, search: Search) -> Any:
        edge = self._edge
        quantization = None
        if search.exact or search.oversampling is not None:
            quantization = edge.QuantizationSearchParams(
                ignore=search.exact, rescore=True, oversampling=search.oversampling
            )
        return edge.SearchParams(hnsw_ef=search.ef, exact=search.exact, quantization=quantization)

    def _filter(self, condition: Condition) -> Any:
        built = self._condition(condition)
        return built if isinstance(built, self._edge.Filter) else self._edge.Filter(must=[built])

    def _condition(self, condition: Condition) -> Any:
        edge = self._edge
        if "has_id" in condition:
            return edge.HasIdCondition(set(condition["has_id"]))
        if "match" in condition:
            return edge.FieldCondition(condition["key"], match=edge.MatchAny(list(condition["match"]["any"])))
        if "range" in condition:
            return edge.FieldCondition(condition["key"], range=edge.RangeFloat(**condition["range"]))
        return edge.Filter(**{name: [self._condition(part) for part in parts] for name, parts in condition.items()})

    def optimize(self) -> bool:
        """Build the graph now."""
        return bool(self._shard.optimize())

    def status(self) -> Status:
        """Return what the shard tells."""
        info = self._shard.info()
        return Status(info.points_count, info.indexed_vectors_count, info.segments_count)

    def close(self) -> None:
        """Write everything to disk and release the directory."""
        if self._shard is not None:
            self._shard.flush()
            self._shard.close()
            self._shard = None


def _as_point(record: Any) -> Point:
    vectors = record.vector or {}
    score = float(getattr(record, "score", 0.0))
    return Point(str(record.id), record.payload or {}, vectors.get(DENSE), score=score, tokens=vectors.get(TOKENS))
