"""A Qdrant server or cluster, by ``qdrant-client``."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from octavo._validation import check_integer, check_number
from octavo.errors import CollectionClosedError, InputTypeError, MissingExtraError, ParameterError, ServerError
from octavo.integrations.qdrant._filters import Condition
from octavo.integrations.qdrant.transport import (
    DENSE,
    SPARSE,
    TEXT,
    TOKENS,
    Layout,
    Point,
    Search,
    Status,
    TokenLayout,
    vector_name,
)

#: Where a server's key is taken from: a command line is seen by everybody on the machine, and a pickle by whoever reads it.
KEY_VARIABLE: Final = "QDRANT_API_KEY"

_PAGE = 256
T = TypeVar("T")


@dataclass(frozen=True)
class ServerOptions:
    """How to reach a server, and how it keeps what it is given; see `QdrantCollection.create`."""

    api_key: str | None = None
    timeout: int = 30
    retries: int = 4
    backoff: float = 0.5
    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "timeout": check_integer(self.timeout, "timeout", least=1),
            "retries": check_integer(self.retries, "retries", least=0),
            "backoff": check_number(self.backoff, "backoff", least=0),
        }
        for name in ("shard_number", "replication_factor", "write_consistency_factor"):
            if getattr(self, name) is not None:
                checked[name] = check_integer(getattr(self, name), name, least=1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class ClientTransport:
    """One collection of a server.

    Parameters
    ----------
    url : str
        For instance ``https://host:6333``; ``":memory:"`` is the client's own emulation, for tests.
    name : str
        The collection.
    options : ServerOptions
        How to reach it.
    """

    def __init__(self, url: str, name: str, options: ServerOptions) -> None:
        try:
            qdrant_client: Any = importlib.import_module("qdrant_client")
        except ImportError as err:
            raise MissingExtraError("url= needs Qdrant's client: pip install 'octavo[qdrant]'") from err
        for argument, what in ((url, "url"), (name, "name")):
            if not isinstance(argument, str):
                raise InputTypeError(f"expected {what} as a str, got {type(argument).__name__}")
            if not argument:
                raise ParameterError(f"expected {what} as a non-empty str, got {argument!r}")
        self._models: Any = qdrant_client.models
        self._url, self._name, self._options = url, name, options
        self._pid = os.getpid()
        self._connected: Any = self._connect()

    def _connect(self) -> Any:
        qdrant_client: Any = importlib.import_module("qdrant_client")
        if self._url == ":memory:":
            return qdrant_client.QdrantClient(":memory:")
        # Without the client's own check: it asks the server at once, and warns where our first request raises.
        return qdrant_client.QdrantClient(
            url=self._url, api_key=self._options.api_key, timeout=self._options.timeout, check_compatibility=False
        )

    @property
    def _client(self) -> Any:
        """The client, with connections of its own in a forked child: two processes cannot share a socket."""
        if self._connected is None:
            raise CollectionClosedError("the collection is closed; open it again")
        if self._pid != os.getpid() and self._url != ":memory:":
            self._connected, self._pid = self._connect(), os.getpid()
        return self._connected

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self._url} ({self._name})"

    @property
    def directory(self) -> None:
        """None: its files are the server's."""
        return None

    def reference(self) -> dict[str, Any]:
        """Return where the server is, without the key."""
        if self._url == ":memory:":
            raise InputTypeError("a collection in memory cannot be pickled: no other process reaches it")
        options = {"timeout": self._options.timeout, "retries": self._options.retries}
        return {"url": self._url, "name": self._name, **options}

    def exists(self) -> bool:
        """Whether there is such a collection."""
        return bool(self._retry(lambda: self._client.collection_exists(self._name)))

    def create(self, layout: Layout) -> None:
        """Create the collection."""
        # Asked once: a second attempt could meet the first one's collection.
        self._retry(lambda: self._create(layout), 0)
        if self._url == ":memory:":
            return  # the emulation has no payload indexes, and warns
        for key, schema in [("terms", "keyword"), *((key, "float") for key in layout.ranges)]:
            kind = self._models.PayloadSchemaType(schema)
            self._retry(partial(self._client.create_payload_index, self._name, key, kind, wait=True))

    def _create(self, layout: Layout) -> None:
        models, options = self._models, self._options
        vectors = {DENSE: self._vectors(layout)}
        if layout.tokens is not None:
            vectors[TOKENS] = self._vectors(
                layout.tokens,
                multivector_config=self._many(),
                hnsw_config=models.HnswConfigDiff(m=0),
            )
        self._client.create_collection(
            self._name,
            vectors_config=vectors,
            sparse_vectors_config={TEXT: models.SparseVectorParams(modifier=models.Modifier.IDF)}
            | ({SPARSE: models.SparseVectorParams()} if layout.sparse else {}),
            hnsw_config=models.HnswConfigDiff(
                m=layout.hnsw_m, ef_construct=layout.ef_construct, full_scan_threshold=layout.full_scan_threshold
            ),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=layout.indexing_threshold),
            shard_number=options.shard_number,
            replication_factor=options.replication_factor,
            write_consistency_factor=options.write_consistency_factor,
        )

    def _many(self) -> Any:
        return self._models.MultiVectorConfig(comparator=self._models.MultiVectorComparator.MAX_SIM)

    def _vectors(self, layout: Layout | TokenLayout, **options: Any) -> Any:
        models = self._models
        return models.VectorParams(
            size=layout.dim,
            distance=models.Distance.DOT,
            datatype=models.Datatype(layout.datatype),
            quantization_config=self._quantization(layout),
            **options,
        )

    def _quantization(self, layout: Layout | TokenLayout) -> Any:
        models = self._models
        quantization = None
        if layout.quantization == "scalar":
            quantization = models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            )
        elif layout.quantization == "binary":
            quantization = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        elif layout.quantization is not None:
            if not hasattr(models, "TurboQuantization"):
                raise MissingExtraError(
                    "codecs with 'rabitq' need a newer Qdrant client, which knows TurboQuant: pip install -U qdrant-client"
                )
            bits = models.TurboQuantBitSize(layout.quantization.replace("turbo", "bits"))
            quantization = models.TurboQuantization(
                turbo=models.TurboQuantQuantizationConfig(bits=bits, always_ram=True)
            )
        return quantization

    def add_space(self, layouts: Mapping[int, Layout], space: int) -> None:
        """Make room for the vectors of one more space; a server makes plain ones, so the rest is asked for afterwards."""
        models = self._models
        if not hasattr(self._client, "create_vector_name"):
            raise MissingExtraError(
                "changing the model of a collection in Qdrant needs a newer Qdrant client: pip install -U qdrant-client"
            )
        layout = layouts[space]
        rooms: list[tuple[str, Layout | TokenLayout, Any]] = [(vector_name(DENSE, space), layout, None)]
        if layout.tokens is not None:
            rooms.append((vector_name(TOKENS, space), layout.tokens, self._many()))
        for name, each, many in rooms:
            dense = models.DenseVectorConfig(
                size=each.dim,
                distance=models.Distance.DOT,
                multivector_config=many,
                datatype=models.VectorStorageDatatype(each.datatype),
            )
            config = models.DenseVectorNameConfig(dense=dense)
            self._retry(partial(self._client.create_vector_name, self._name, name, config, wait=True))
            quantization = self._quantization(each)
            if self._url == ":memory:" or (quantization is None and many is None):
                continue  # the emulation keeps vectors as they are
            graph = models.HnswConfigDiff(m=0) if many is not None else None
            diff = {name: models.VectorParamsDiff(quantization_config=quantization, hnsw_config=graph)}
            self._retry(partial(self._client.update_collection, self._name, vectors_config=diff))

    def fill(self, points: Sequence[Point]) -> int:
        """Give points that were not replaced since they were read the vectors of a space."""
        models = self._models
        while True:
            there = {point.id: point.payload.get("order") for point in self.retrieve([p.id for p in points], ["order"])}
            kept = [point for point in points if there.get(point.id) == point.payload["order"]]
            if not kept:
                return 0
            sent = [models.PointVectors(id=point.id, vector=self._named_vectors(point)) for point in kept]
            match = models.MatchAny(any=[point.payload["order"] for point in kept])
            same = models.Filter(must=[models.FieldCondition(key="order", match=match)])
            write = partial(self._client.update_vectors, self._name, sent, wait=True, update_filter=same)
            try:
                self._retry(write)
            except ServerError:
                left = {point.id for point in self.retrieve([point.id for point in kept], False)}
                if len(left) == len(kept):
                    raise
                points = [point for point in kept if point.id in left]  # others were deleted at this moment
            else:
                return len(kept)

    def drop_space(self, space: int, *, tokens: bool) -> None:
        """Drop the vectors of a space."""
        for kind in (DENSE, TOKENS) if tokens else (DENSE,):
            self._retry(partial(self._client.delete_vector_name, self._name, vector_name(kind, space), wait=True))

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points."""
        sent = [self._point(point) for point in points]
        self._retry(lambda: self._client.upsert(self._name, sent, wait=True))

    @staticmethod
    def _named_vectors(point: Point) -> dict[str, Any]:
        vectors: dict[str, Any] = {}
        if point.dense is not None:
            vectors[vector_name(DENSE, point.space)] = list(point.dense)
        if point.tokens is not None:
            vectors[vector_name(TOKENS, point.space)] = point.tokens
        return vectors

    def _point(self, point: Point) -> Any:
        vectors = self._named_vectors(point)
        if point.text is not None and point.text[0]:
            vectors[TEXT] = self._models.SparseVector(indices=point.text[0], values=point.text[1])
        if point.sparse is not None and point.sparse[0]:
            vectors[SPARSE] = self._models.SparseVector(indices=point.sparse[0], values=point.sparse[1])
        return self._models.PointStruct(id=point.id, vector=vectors, payload=point.payload)

    def change(self, points: Sequence[Point]) -> None:
        """Change payloads and words."""
        models = self._models
        operations: list[Any] = []
        for point in points:
            if point.text is not None and point.text[0]:
                words = {TEXT: models.SparseVector(indices=point.text[0], values=point.text[1])}
                vectors = models.UpdateVectors(points=[models.PointVectors(id=point.id, vector=words)])
                operations.append(models.UpdateVectorsOperation(update_vectors=vectors))
            elif point.text is not None:
                dropped = models.DeleteVectors(points=[point.id], vector=[TEXT])
                operations.append(models.DeleteVectorsOperation(delete_vectors=dropped))
            payload = models.SetPayload(payload=point.payload, points=[point.id])
            operations.append(models.OverwritePayloadOperation(overwrite_payload=payload))
        if operations:
            self._retry(lambda: self._client.batch_update_points(self._name, operations, wait=True))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete points."""
        selector = self._models.PointIdsList(points=list(ids))
        self._retry(lambda: self._client.delete(self._name, selector, wait=True))

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = (), space: int = 0
    ) -> list[Point]:
        """Return points."""
        wanted: Any = fields if isinstance(fields, bool) else list(fields)
        with_vectors: Any = [vector_name(kind, space) for kind in vectors] or False
        found = self._retry(lambda: self._client.retrieve(self._name, list(ids), wanted, with_vectors))
        return [_as_point(record, space) for record in found]

    def scroll(self, where: Condition, fields: Sequence[str], offset: str | None) -> tuple[list[Point], str | None]:
        """Return a page."""
        records, following = self._retry(
            lambda: self._client.scroll(
                self._name,
                self._filter(where),
                limit=_PAGE,
                offset=offset,
                with_payload=list(fields),
                with_vectors=False,
            )
        )
        return [_as_point(record) for record in records], str(following) if following is not None else None

    def count(self, where: Condition) -> int:
        """Return the number of points."""
        return int(self._retry(lambda: self._client.count(self._name, self._filter(where), exact=True)).count)

    def search(self, searches: Sequence[Search]) -> list[list[Point]]:
        """Answer queries."""
        requests = [self._request(search) for search in searches]
        answers = self._retry(lambda: self._client.query_batch_points(self._name, requests))
        return [
            [_as_point(hit, search.space) for hit in answer.points]
            for search, answer in zip(searches, answers, strict=True)
        ]

    def _request(self, search: Search) -> Any:
        models = self._models
        query, using = self._query(search)
        prefetch = []
        for each in search.prefetch:
            what, by = self._query(each)
            prefetch.append(
                models.Prefetch(
                    query=what, using=by, limit=each.limit, filter=self._filter(each.where), params=self._params(each)
                )
            )
        return models.QueryRequest(
            prefetch=prefetch or None,
            query=query,
            using=using,
            limit=search.limit,
            filter=self._filter(search.where),
            with_payload=search.with_payload,
            with_vector=[vector_name(DENSE, search.space)] if search.with_vectors else False,
            params=self._params(search),
        )

    def _query(self, search: Search) -> tuple[Any, str]:
        if search.dense is not None:
            return list(search.dense), vector_name(DENSE, search.space)
        if search.tokens is not None:
            return search.tokens, vector_name(TOKENS, search.space)
        if search.sparse is not None:
            return self._models.SparseVector(indices=search.sparse[0], values=search.sparse[1]), SPARSE
        assert search.text is not None  # one of the four
        return self._models.SparseVector(indices=search.text[0], values=search.text[1]), TEXT

    def _params(self, search: Search) -> Any:
        models = self._models
        quantization = None
        if search.exact or search.oversampling is not None:
            quantization = models.QuantizationSearchParams(
                ignore=search.exact, rescore=True, oversampling=search.oversampling
            )
        return models.SearchParams(hnsw_ef=search.ef, exact=search.exact, quantization=quantization)

    def _filter(self, condition: Condition) -> Any:
        whole = condition if condition.keys() <= {"must", "should", "must_not"} else {"must": [condition]}
        return self._models.Filter.model_validate(whole)

    def optimize(self) -> bool:
        """Return False: a server optimises on its own."""
        return False

    def status(self) -> Status:
        """Return what the server tells."""
        info = self._retry(lambda: self._client.get_collection(self._name))
        details = {"status": str(info.status), "shards": info.config.params.shard_number}
        return Status(info.points_count or 0, info.indexed_vectors_count or 0, info.segments_count, details)

    def close(self) -> None:
        """Close the connections."""
        if self._connected is not None and self._pid == os.getpid():
            self._connected.close()
        self._connected = None

    def _retry(self, call: Callable[[], T], retries: int | None = None) -> T:
        """Call again after a pause that doubles, where the server was not there or was too busy; such calls can be repeated."""
        exceptions: Any = importlib.import_module("qdrant_client.http.exceptions")
        attempts = self._options.retries if retries is None else retries
        for attempt in range(attempts + 1):
            try:
                return call()
            except (exceptions.ResponseHandlingException, exceptions.UnexpectedResponse) as err:
                status = getattr(err, "status_code", None)
                if attempt == attempts or (status is not None and status not in (429, 502, 503, 504)):
                    raise ServerError(self._describe_error(err, status)) from err
                time.sleep(self._options.backoff * 2**attempt)
        raise AssertionError  # the loop returns or raises

    def _describe_error(self, error: Exception, status: int | None) -> str:
        if status is None:
            return f"expected a Qdrant server at {self._url}, but it cannot be reached: {error}"
        if status in (401, 403):
            return (
                f"the Qdrant server at {self._url} refuses the key (HTTP {status}): pass api_key=, or to commands the "
                "environment variable QDRANT_API_KEY"
            )
        return f"the Qdrant server at {self._url} answered with an error: {error}"


def _as_point(record: Any, space: int = 0) -> Point:
    vectors = record.vector if isinstance(record.vector, dict) else {}
    score = float(getattr(record, "score", 0.0) or 0.0)
    sparse = vectors.get(SPARSE)
    return Point(
        str(record.id),
        record.payload or {},
        vectors.get(vector_name(DENSE, space)),
        score=score,
        tokens=vectors.get(vector_name(TOKENS, space)),
        sparse=None if sparse is None else (list(sparse.indices), list(sparse.values)),
        space=space,
    )
