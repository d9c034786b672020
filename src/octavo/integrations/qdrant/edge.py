"""Qdrant's own core in this process, by ``qdrant-edge-py``."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import re
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from octavo._files import make_directory, storage_errors, sync_directory, sync_file
from octavo._forks import keep_for_ever, register
from octavo.errors import (
    CollectionClosedError,
    CollectionLockedError,
    CollectionNotFoundError,
    CorruptCollectionError,
    InputTypeError,
    MissingExtraError,
    ParameterError,
    StorageError,
)
from octavo.integrations.qdrant._filters import COUNT, MANIFEST, Condition
from octavo.integrations.qdrant.transport import (
    DENSE,
    SPARSE,
    TEXT,
    TOKENS,
    Layout,
    Point,
    Search,
    Sparse,
    Status,
    TokenLayout,
    vector_name,
)

_PAGE = 256

#: By this file a directory of the core is known.
CONFIG_FILE: Final = "edge_config.json"

#: Lengths and checksums of the core's files, as they were when the collection was closed.
SUMS_FILE: Final = "octavo-sums.json"

#: Where the core builds segments.
_DRAFTS: Final = "temp_segments"

#: What the core keeps in the directory.
_CORE_ENTRIES: Final = (CONFIG_FILE, "wal", "segments", _DRAFTS)

#: How long another process may take to load a collection, and how often it is looked for.
_LOADING_SECONDS: Final = 1.0
_LOADING_STEPS: Final = 20

#: Bytes of a file that are read at a time.
_BLOCK: Final = 1 << 16

#: The core takes 32 bits; nobody has so many nodes.
_MOST_EF: Final = 2**31 - 1

_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")


def _edge() -> Any:
    try:
        qdrant_edge: Any = importlib.import_module("qdrant_edge")
    except ImportError as err:
        raise MissingExtraError("path= needs Qdrant's core: pip install 'octavo[qdrant]'") from err
    return qdrant_edge


def absolute_path(path: Any) -> Path:
    """Return a directory as the caller gave it, absolute from now on: a later `os.chdir` moves no collection.

    Raises
    ------
    InputTypeError
        When it is neither a str nor path-like.
    ParameterError
        When it is empty, or no file system can hold it.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputTypeError(f"expected path as a str or path-like, got {type(path).__name__}")
    text = os.fspath(path)
    if text == "":
        raise ParameterError("expected path as the name of a directory, got an empty one")
    try:
        valid = "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise ParameterError(f"expected path as a name that Qdrant's core can open, got {text!r}")
    return Path(text).expanduser().absolute()


class EdgeTransport:
    """A shard in a directory.

    The core trusts its files. So their lengths and checksums are written down when the collection is closed, and compared when
    it is opened, before the core reads them. And one point holds how many others there are, written together with them, which
    shows what is missing after a process was killed. A panic of the core, which damage may still lead to, ends as a
    `CorruptCollectionError`.

    Parameters
    ----------
    path : str or path-like
        The directory; one process at a time holds it.
    """

    rests_last = False

    def __init__(self, path: Any) -> None:
        self._path = absolute_path(path)
        self._edge = _edge()
        self._shard: Any = None
        self._pid = os.getpid()
        self._state = threading.Condition()  # guards the five below
        self._users = 0
        self._reloading = False
        self._closed = False
        self._panicked = False
        self._writing = threading.Lock()
        self._points: int | None = None  # but the one that counts them; None: to be counted
        self._directory: tuple[int, int] | None = None
        register(self)
        if self.exists():
            self._load()

    @property
    def place(self) -> str:
        """Where it is."""
        return str(self._path)

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._path

    def reference(self) -> dict[str, Any]:
        """Return the directory, absolute."""
        return {"path": str(self._path)}

    def exists(self) -> bool:
        """Whether there is a shard."""
        return (self._path / CONFIG_FILE).exists() or (self._path / SUMS_FILE).exists()

    # ------------------------------------------------------------------ opening and closing

    def _load(self) -> None:
        _refuse_links(self._path)
        _verify(self._path)
        with self._translated():
            try:
                self._shard = self._edge.EdgeShard.load(str(self._path))
            except Exception as err:  # the core raises nothing more specific
                if "WouldBlock" in str(err):
                    raise CollectionLockedError(
                        f"expected {self._path} to be free, but another process, or another object of this one, has it open; "
                        "close it there"
                    ) from err
                raise
        try:
            self._directory = self._identity()
            self._check_count()
            _unseal(self._path)  # loading alone changes files
        except BaseException:
            self._drop()
            raise

    def _check_count(self) -> None:
        """Compare the number of points with what was written together with them.

        Raises
        ------
        CorruptCollectionError
            When points are missing, or there are too many.
        """
        with self._translated():
            found = int(self._shard.count(self._edge.CountRequest(True, None)))
            known = {
                str(record.id): record.payload or {} for record in self._shard.retrieve([COUNT, MANIFEST], True, False)
            }
        if COUNT not in known:
            if MANIFEST in known:
                raise CorruptCollectionError(
                    f"{self._path} is damaged: it has lost the number of its documents; {_ADVICE}"
                )
            self._points = found  # nothing was written yet, or not by us
            return
        expected, deleting = known[COUNT].get("points"), known[COUNT].get("deleting", 0)
        if (
            not isinstance(expected, int)
            or not isinstance(deleting, int)
            or not expected - deleting <= found - 1 <= expected
        ):
            # Without our own point, the description of the collection.
            raise CorruptCollectionError(
                f"{self._path} is damaged: expected {expected - 1 if isinstance(expected, int) else expected!r} documents, but "
                f"Qdrant's core finds {max(found - 2, 0)}; {_ADVICE}"
            )
        self._points = found - 1

    def create(self, layout: Layout) -> None:
        """Create the shard."""
        self._check_process()
        edge = self._edge
        config = self._config({0: layout})
        make_directory(self._path, 0o700)
        with self._state, self._translated():
            if self._closed:
                raise CollectionClosedError(_CLOSED)
            self._shard = edge.EdgeShard.create(str(self._path), config)
        self._directory = self._identity()
        self._points = 0
        with self._changing() as shard:
            shard.update(edge.UpdateOperation.create_field_index("terms", edge.PayloadSchemaType.Keyword))
            for key in layout.ranges:
                shard.update(edge.UpdateOperation.create_field_index(key, edge.PayloadSchemaType.Float))

    def _config(self, layouts: Mapping[int, Layout]) -> Any:
        """Return the configuration of a shard with some spaces, all of which have the same thresholds."""
        edge = self._edge
        vectors = {}
        for space, layout in layouts.items():
            vectors[vector_name(DENSE, space)] = self._vectors(layout)
            if layout.tokens is not None:
                vectors[vector_name(TOKENS, space)] = self._vectors(
                    layout.tokens,
                    multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
                    hnsw_config=edge.HnswIndexConfig(0, layout.ef_construct, layout.full_scan_threshold),
                )
        layout = next(iter(layouts.values()))
        return edge.EdgeConfig(
            vectors=vectors,
            sparse_vectors={TEXT: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
            | ({SPARSE: edge.EdgeSparseVectorParams()} if layout.sparse else {}),
            hnsw_config=edge.HnswIndexConfig(layout.hnsw_m, layout.ef_construct, layout.full_scan_threshold),
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=layout.indexing_threshold),
        )

    def _vectors(self, layout: Layout | TokenLayout, **options: Any) -> Any:
        edge = self._edge
        quantization = None
        if layout.quantization == "scalar":
            quantization = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Pinned)
        elif layout.quantization == "binary":
            quantization = edge.BinaryQuantizationConfig(memory=edge.Memory.Pinned)
        elif layout.quantization is not None:
            sizes = edge.TurboQuantBitSize
            bits = {"turbo1": sizes.Bits1, "turbo2": sizes.Bits2, "turbo4": sizes.Bits4}[layout.quantization]
            quantization = edge.TurboQuantQuantizationConfig(bits=bits, memory=edge.Memory.Pinned)
        datatype = edge.VectorStorageDatatype
        return edge.EdgeVectorParams(
            layout.dim,
            edge.Distance.Dot,
            datatype=datatype.Float16 if layout.datatype == "float16" else datatype.Float32,
            quantization_config=quantization,
            **options,
        )

    def close(self) -> None:
        """Write everything to disk and release the directory, once those who are using it are done."""
        if os.getpid() != self._pid:
            return  # it is the other process's
        with self._state:
            self._closed = True
            self._state.wait_for(lambda: self._users == 0)
            shard, self._shard = self._shard, None
        if shard is None:
            return
        if self._panicked:
            with contextlib.suppress(BaseException):
                shard.close()
            return
        with self._translated():
            shard.flush()
            shard.close()
        if self._directory == self._identity():
            _keep_private(self._path)
            _seal(self._path)

    def _drop(self) -> None:
        """Release the directory and leave it as it is."""
        shard, self._shard = self._shard, None
        self._closed = True
        if shard is not None:
            with contextlib.suppress(BaseException):  # a damaged one may panic once more
                shard.close()

    # ------------------------------------------------------------------ forks

    def before_fork(self) -> None:
        """Nothing to do: the core is not asked in the child."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Never let go of what belongs to the parent.

        The core's threads do not exist here, and its destructor would wait for them, or write what the parent writes.
        """
        if self._shard is not None:
            keep_for_ever(self._shard)

    # ------------------------------------------------------------------ who may use it, and what is raised

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise CollectionClosedError(
                f"the collection at {self._path} was opened by process {self._pid}, and this one, {os.getpid()}, was forked "
                "from it: Qdrant's core cannot be used across a fork. Close it before forking and open it in the child, "
                "start processes by 'spawn', or use a server (url=)"
            )

    @contextlib.contextmanager
    def _using(self) -> Iterator[Any]:
        """Give the shard, which is not closed meanwhile."""
        self._check_process()
        with self._state:
            self._state.wait_for(lambda: not self._reloading)
            if self._panicked:
                raise CorruptCollectionError(_panic(self._path))
            if self._closed or self._shard is None:
                raise CollectionClosedError(_CLOSED)
            self._users += 1
            shard = self._shard
        try:
            with self._translated():
                yield shard
        finally:
            del shard
            with self._state:
                self._users -= 1
                self._state.notify_all()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Any]:
        """Give the shard to one writer; nobody else may read the files that come into being."""
        with self._using() as shard, self._writing:
            if self._directory != self._identity():
                raise CollectionNotFoundError(
                    f"the directory {self._path} was deleted, moved or replaced while the collection was open; nothing was "
                    "written. Close it, and open the place that you mean"
                )
            try:
                yield shard
            finally:
                _keep_private(self._path)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the core raises into errors of ours: it has no classes but `Exception` and a panic."""
        try:
            yield
        except Exception as err:
            if type(err) is not Exception:
                raise
            number = _OS_ERROR.search(str(err))
            if number is not None:
                code = int(number[1])
                raise StorageError(code, f"{self._path}: {os.strerror(code)}, says Qdrant's core ({err})") from err
            raise CorruptCollectionError(f"Qdrant's core cannot read {self._path}: {err}; {_ADVICE}") from err
        except BaseException as err:
            if type(err).__name__ != "PanicException":
                raise
            self._panicked = True
            raise CorruptCollectionError(_panic(self._path)) from err

    # ------------------------------------------------------------------ points

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points, and in the same operation how many there are then."""
        if not points:
            return
        sent = [self._point(point) for point in points]
        ids = {point.id for point in points}
        with self._changing() as shard:
            before = self._counted(shard)
            self._points = None  # until it is known that the core has taken them
            after = before + len(ids) - len(shard.retrieve(list(ids), False, False))
            shard.update(self._edge.UpdateOperation.upsert_points([*sent, self._count_point(after)]))
            self._points = after

    def _counted(self, shard: Any) -> int:
        """Return the number of points but our own."""
        if self._points is None:
            own = len(shard.retrieve([COUNT], False, False))
            self._points = int(shard.count(self._edge.CountRequest(True, None))) - own
        return self._points

    def _count_point(self, points: int, deleting: int = 0) -> Any:
        return self._edge.Point(COUNT, {}, {"points": points, "deleting": deleting})

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
            vectors[TEXT] = self._edge.SparseVector(*point.text)
        if point.sparse is not None and point.sparse[0]:
            vectors[SPARSE] = self._edge.SparseVector(*point.sparse)
        return self._edge.Point(point.id, vectors, point.payload)

    def change(self, points: Sequence[Point]) -> None:
        """Change payloads and words."""
        operation = self._edge.UpdateOperation
        with self._changing() as shard:
            for point in points:
                if point.text is not None and point.text[0]:
                    words = {TEXT: self._edge.SparseVector(*point.text)}
                    shard.update(operation.update_vectors([self._edge.PointVectors(point.id, words)]))
                elif point.text is not None:
                    shard.update(operation.delete_vectors([point.id], [TEXT]))
                shard.update(operation.overwrite_payload([point.id], point.payload))

    def add_space(self, layouts: Mapping[int, Layout], space: int) -> None:
        """Make room for the vectors of one more space."""
        edge = self._edge
        datatypes = {"float16": edge.VectorStorageDatatype.Float16, "float32": edge.VectorStorageDatatype.Float32}
        layout = layouts[space]
        many = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
        rooms: list[tuple[str, Layout | TokenLayout, Any]] = [(vector_name(DENSE, space), layout, None)]
        if layout.tokens is not None:
            rooms.append((vector_name(TOKENS, space), layout.tokens, many))
        with self._changing() as shard:
            for name, each, multivector in rooms:
                kind = datatypes[each.datatype]
                shard.update(
                    edge.UpdateOperation.create_dense_vector(name, each.dim, edge.Distance.Dot, multivector, kind)
                )
        if layout.quantization is None and layout.tokens is None:
            return  # the core made it as it is to be
        config = json.loads((self._path / CONFIG_FILE).read_bytes())
        graph, optimizers = config["hnsw_config"], config["optimizers"]
        as_made = {
            "hnsw_m": graph["m"],
            "ef_construct": graph["ef_construct"],
            "full_scan_threshold": graph["full_scan_threshold"],
            "indexing_threshold": optimizers["indexing_threshold"],
        }
        self._reload(self._config({number: replace(each, **as_made) for number, each in layouts.items()}))

    def _reload(self, config: Any) -> None:
        """Close the shard and load it with another configuration, while those who use it wait."""
        with self._state:
            self._reloading = True
            try:
                self._state.wait_for(lambda: self._users == 0)
                if self._closed:
                    raise CollectionClosedError(_CLOSED)
                with self._translated():
                    self._shard.flush()
                    self._shard.close()
                    self._shard = None
                    self._shard = self._edge.EdgeShard.load(str(self._path), config)
            finally:
                self._reloading = False
                self._state.notify_all()
        _keep_private(self._path)

    def fill(self, points: Sequence[Point]) -> int:
        """Give points that were not replaced since they were read the vectors of a space."""
        if not points:
            return 0
        edge = self._edge
        with self._changing() as shard:
            found = shard.retrieve([point.id for point in points], ["order"], False)
            orders = {str(record.id): (record.payload or {}).get("order") for record in found}
            kept = [point for point in points if orders.get(point.id) == point.payload["order"]]
            if kept:
                sent = [edge.PointVectors(point.id, self._named_vectors(point)) for point in kept]
                shard.update(edge.UpdateOperation.update_vectors(sent))
        return len(kept)

    def drop_space(self, space: int, *, tokens: bool) -> None:
        """Drop the vectors of a space."""
        with self._changing() as shard:
            for kind in (DENSE, TOKENS) if tokens else (DENSE,):
                shard.update(self._edge.UpdateOperation.delete_vector_name(vector_name(kind, space)))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete points."""
        edge = self._edge
        with self._changing() as shard:
            before = self._counted(shard)
            there = len(shard.retrieve(list(ids), False, False))
            if not there:
                return
            self._points = None
            # Two operations, so the first says what may be missing if there is no second.
            shard.update(edge.UpdateOperation.upsert_points([self._count_point(before, there)]))
            shard.update(edge.UpdateOperation.delete_points(list(ids)))
            shard.update(edge.UpdateOperation.upsert_points([self._count_point(before - there)]))
            self._points = before - there

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = (), space: int = 0
    ) -> list[Point]:
        """Return points."""
        wanted = fields if isinstance(fields, bool) else list(fields)
        names = [vector_name(kind, space) for kind in vectors]
        with self._using() as shard:
            return [_as_point(record, space) for record in shard.retrieve(list(ids), wanted, names or False)]

    def scroll(self, where: Condition, fields: Sequence[str], offset: str | None) -> tuple[list[Point], str | None]:
        """Return a page."""
        request = self._edge.ScrollRequest(
            offset=offset, limit=_PAGE, filter=self._filter(where), with_payload=list(fields), with_vector=False
        )
        with self._using() as shard:
            records, following = shard.scroll(request)
            return [_as_point(record) for record in records], str(following) if following is not None else None

    def count(self, where: Condition) -> int:
        """Return the number of points."""
        with self._using() as shard:
            return int(shard.count(self._edge.CountRequest(True, self._filter(where))))

    def search(self, searches: Sequence[Search]) -> list[list[Point]]:
        """Answer queries."""
        requests = [self._request(search) for search in searches]
        with self._using() as shard:
            answers = shard.query_batch(self._edge.QueryBatchRequest(requests))
            return [
                [_as_point(hit, search.space) for hit in answer]
                for search, answer in zip(searches, answers, strict=True)
            ]

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
            with_payload=search.with_payload,
            with_vector=[vector_name(DENSE, search.space)] if search.with_vectors else False,
            params=self._params(search),
        )

    def _query(self, search: Search) -> Any:
        edge = self._edge
        if search.dense is not None:
            return edge.Query.Nearest(list(search.dense), vector_name(DENSE, search.space))
        if search.tokens is not None:
            return edge.Query.Nearest(search.tokens, vector_name(TOKENS, search.space))
        if search.sparse is not None:
            return edge.Query.Nearest(edge.SparseVector(*search.sparse), SPARSE)
        assert search.text is not None  # one of the four
        return edge.Query.Nearest(edge.SparseVector(*search.text), TEXT)

    def _params(self, search: Search) -> Any:
        edge = self._edge
        quantization = None
        if search.exact or search.oversampling is not None:
            quantization = edge.QuantizationSearchParams(
                ignore=search.exact, rescore=True, oversampling=search.oversampling
            )
        ef = min(search.ef, _MOST_EF) if search.ef is not None else None
        return edge.SearchParams(hnsw_ef=ef, exact=search.exact, quantization=quantization)

    def _filter(self, condition: Condition) -> Any:
        built = self._condition(condition)
        return built if isinstance(built, self._edge.Filter) else self._edge.Filter(must=[built])

    def _condition(self, condition: Condition) -> Any:
        edge = self._edge
        if "has_id" in condition:
            return edge.HasIdCondition(set(condition["has_id"]))
        if "has_vector" in condition:
            return edge.HasVectorCondition(condition["has_vector"])
        if "match" in condition:
            return edge.FieldCondition(condition["key"], match=edge.MatchAny(list(condition["match"]["any"])))
        if "range" in condition:
            return edge.FieldCondition(condition["key"], range=edge.RangeFloat(**condition["range"]))
        return edge.Filter(**{name: [self._condition(part) for part in parts] for name, parts in condition.items()})

    def optimize(self) -> bool:
        """Build the graph now."""
        with self._changing() as shard:
            with storage_errors(self._path):
                (self._path / _DRAFTS).mkdir(mode=0o700, exist_ok=True)  # or the core makes one that everybody may read
            return bool(shard.optimize())

    def status(self) -> Status:
        """Return what the shard tells."""
        with self._using() as shard:
            info = shard.info()
            return Status(info.points_count, info.indexed_vectors_count, info.segments_count)


_CLOSED: Final = "the collection is closed; open it again"

_ADVICE: Final = "bring the directory back from a backup"


def _panic(path: Path) -> str:
    return f"{path} is damaged: Qdrant's core gave up on its files; {_ADVICE}"


def _as_point(record: Any, space: int = 0) -> Point:
    vectors = record.vector or {}
    score = float(getattr(record, "score", 0.0))
    return Point(
        str(record.id),
        record.payload or {},
        vectors.get(vector_name(DENSE, space)),
        score=score,
        tokens=vectors.get(vector_name(TOKENS, space)),
        sparse=_pair(vectors),
        space=space,
    )


def _pair(vectors: Any) -> Sparse | None:
    found = vectors.get(SPARSE)
    return None if found is None else (list(found.indices), list(found.values))


# ---------------------------------------------------------------------- the core's files


def _files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the core's files with their names relative to the directory."""
    for name in _CORE_ENTRIES:
        entry = path / name
        if entry.is_file():
            yield name, entry
        for folder, _, names in os.walk(entry):
            for each in names:
                found = Path(folder, each)
                yield found.relative_to(path).as_posix(), found


def _checksum(path: Path) -> list[int]:
    """Return a file's length and CRC-32; what was never written into it (most of it, where the core reserves room) counts for
    nothing.
    """
    crc = 0
    with storage_errors(path, "read"), path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        for start, end in _written(file.fileno(), length):
            for position in range(start, end, _BLOCK):
                file.seek(position)
                data = file.read(min(_BLOCK, end - position))
                written = data.rstrip(b"\0")  # zeros that are written are as good as those that are not
                if written:
                    lead = len(written) - len(written.lstrip(b"\0"))
                    crc = zlib.crc32(f"{position + lead}:".encode() + written[lead:], crc)
    return [length, crc]


def _written(descriptor: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a file that are no holes, cut where blocks begin, whatever the file system tells."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, length
        return
    position = 0
    while position < length:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as err:
            if err.errno == errno.ENXIO:  # nothing but a hole is left
                return
            yield position, length  # the file system cannot tell
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start, end = start - start % _BLOCK, min(length, end + -end % _BLOCK)
        start = max(start, position)
        if start < end:
            yield start, end
        position = max(end, position + 1)


def _seal(path: Path) -> None:
    """Write down lengths and checksums."""
    sums = {name: _checksum(file) for name, file in _files_of(path)}
    text = json.dumps({"format": 1, "files": sums}, sort_keys=True)
    text = json.dumps({"crc32": zlib.crc32(text.encode()), "sums": text})
    draft = path / f".{SUMS_FILE}.tmp"
    with storage_errors(draft):
        descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
        with open(descriptor, "wb") as file:
            file.write(text.encode())
        sync_file(draft)
        os.replace(draft, path / SUMS_FILE)
    sync_directory(path)


def _unseal(path: Path) -> None:
    with storage_errors(path / SUMS_FILE, "deleted"):
        (path / SUMS_FILE).unlink(missing_ok=True)
    sync_directory(path)


def _read_sums(path: Path) -> dict[str, list[int]] | None:
    """Return what was written down; None where nothing was, because somebody is writing or was killed.

    Raises
    ------
    CorruptCollectionError
        When it cannot be read.
    """
    try:
        text = (path / SUMS_FILE).read_text()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as err:
        raise CorruptCollectionError(f"{path / SUMS_FILE} is damaged; {_ADVICE}") from err
    try:
        outer = json.loads(text)
        if zlib.crc32(outer["sums"].encode()) != outer["crc32"]:
            raise ValueError("checksum")
        files: dict[str, list[int]] = json.loads(outer["sums"])["files"]
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise CorruptCollectionError(f"{path / SUMS_FILE} is damaged; {_ADVICE}") from err
    return files


def _verify(path: Path) -> None:
    """Compare the core's files with what was written down when they were closed, if they were.

    Raises
    ------
    CorruptCollectionError
        When one of them is another.
    """
    expected = _read_sums(path)
    if expected is None:
        return
    found = {}
    with contextlib.suppress(FileNotFoundError):  # somebody is writing: see below
        found = {name: _checksum(file) for name, file in _files_of(path)}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if not wrong:
        return
    for _ in range(_LOADING_STEPS):  # somebody else may be loading it, which changes files before the sums are deleted
        if _read_sums(path) != expected:
            return  # the core will say so
        time.sleep(_LOADING_SECONDS / _LOADING_STEPS)
    raise CorruptCollectionError(
        f"{path / wrong[0]} was changed since the collection was closed; {_ADVICE}. If another program wrote there on purpose, "
        f"delete {SUMS_FILE}"
    )


def _entries(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield what the core keeps, directories too, with their modes; links are not followed."""
    pending = [path / name for name in _CORE_ENTRIES]
    while pending:
        entry = pending.pop()
        try:
            mode = entry.lstat().st_mode
            if stat.S_ISDIR(mode):
                pending += [Path(each.path) for each in os.scandir(entry)]
        except FileNotFoundError:
            continue  # the core has put it away
        yield entry, mode


def _refuse_links(path: Path) -> None:
    """Raise `CorruptCollectionError` where a link lies among the core's files, which would be followed and written to."""
    for entry, mode in _entries(path):
        if stat.S_ISLNK(mode):
            raise CorruptCollectionError(f"{entry} is a link, and Qdrant's core makes none; remove it, or {_ADVICE}")


def _keep_private(path: Path) -> None:
    """Take the core's files and directories from everybody but their owner; the directory itself is as it was made."""
    if sys.platform == "win32":
        return
    for entry, mode in _entries(path):
        if mode & 0o077 and not stat.S_ISLNK(mode):
            with contextlib.suppress(FileNotFoundError):
                entry.chmod(stat.S_IMODE(mode) & 0o700)
