"""The bytes of cells on disk: one file for the model, one for each segment; described in ``docs/format.md``.

A file is written once and never changes. Its length and the CRC-32 of all that is read when it is opened are recorded in
SQLite; the records of a segment have a CRC-32 for every 16 KiB, which is compared when a search first comes there.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo._files import Directory, HeldFile, storage_errors
from octavo._rotation import ROUNDS, StructuredRotation
from octavo.errors import CodecError, CorruptCollectionError
from octavo.index.cells import CellModel, Records, Segment, record_type
from octavo.index.reach import Reach
from octavo.index.token_cells import BLOCK_BITS, Postings

#: Bytes of records that share one checksum.
BLOCK_BYTES = 1 << 14

#: Blocks announced at once.
_ANNOUNCED = 512

_VERSION = 1

#: Magic, version, dim, cells, groups, seed, rows, length, cosine; then the numbers of a `Reach`, all zero where there is none.
_MODEL = struct.Struct("<8sIIIIQQddIIddddd")
_NO_REACH = Reach(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
_MODEL_MAGIC = b"OCTCELLS"

#: Magic, version, dim, cells, bytes of a record, rows.
_SEGMENT = struct.Struct("<8sIIIIQ")
_SEGMENT_MAGIC = b"OCTSEGMT"

#: Magic, version, cells, first block, blocks, postings.
_POSTINGS = struct.Struct("<8sIIIIQ")
_POSTINGS_MAGIC = b"OCTPOSTS"

#: Records begin at a multiple of this.
_ALIGNED = 64


class RecordGuard:
    """Compares blocks of a segment's records with their checksums, each when it is first read.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    data : ndarray of uint8
        The records, as they lie in the file.
    sums : ndarray of uint32
        A CRC-32 for each block.
    row_bytes : int
        Bytes of a record.
    advice : str
        What to do about damage, for messages.
    file : HeldFile, optional
        The file itself, whose reads are announced then.
    start : int, default=0
        Where the records begin in it.
    """

    def __init__(
        self,
        name: str,
        data: NDArray[np.uint8],
        sums: NDArray[np.uint32],
        row_bytes: int,
        advice: str = "it is rebuilt when it is needed",
        *,
        file: HeldFile | None = None,
        start: int = 0,
    ) -> None:
        self.damaged = False
        self._file, self._start = file, start
        self._name = name
        self._advice = advice
        self._data = data
        self._sums = sums
        self._row_bytes = row_bytes
        self._good = np.zeros(len(sums), np.bool_)
        self._all_good = not len(sums)

    def check(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        """Verify what rows ``[first, last)`` lie in.

        Raises
        ------
        CorruptCollectionError
            When a block does not match; `damaged` is set then.
        """
        if not len(first):
            return
        if self._all_good:
            self._announce_missing(first, last)
            return
        begin, end = first * self._row_bytes // BLOCK_BYTES, (last * self._row_bytes - 1) // BLOCK_BYTES
        good = self._good.take(begin, mode="clip") & self._good.take(end, mode="clip")  # also where there are no rows
        if good.all() and (end - begin).max() <= 1:
            self._announce_missing(first, last)
            return
        filled = last > first
        begin, end = begin[filled], end[filled]
        if not len(begin):
            return
        bad = np.zeros(len(self._good) + 1, np.int64)
        np.cumsum(~self._good, out=bad[1:])
        if (bad[begin] == bad[end + 1]).all():
            self._announce_missing(first, last)
            return
        wanted = np.unique(np.concatenate([begin, end, *(np.arange(a, b) for a, b in _wide(begin, end))]))
        self._verify_each(wanted[~self._good[wanted]].tolist())
        self._all_good = bool(self._good.all())

    @property
    def all_good(self) -> bool:
        """Whether every block was verified."""
        return self._all_good

    def check_all(self) -> None:
        """Verify every block, those that were good before excepted."""
        if not self._all_good:
            self._verify_each(np.flatnonzero(~self._good).tolist())
            self._all_good = True

    def _announce_missing(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        """Announce rows that were verified before, if they seem not to be in memory any more."""
        if self._file is not None and self._file.may_miss():
            self._file.announce_missing(self._start + first * self._row_bytes, self._start + last * self._row_bytes)

    def _verify_each(self, blocks: list[int]) -> None:
        """Verify blocks in rising order, announced some megabytes at a time."""
        for start in range(0, len(blocks), _ANNOUNCED):
            part = blocks[start : start + _ANNOUNCED]
            if self._file is not None:
                self._file.announce((self._start + block * BLOCK_BYTES for block in part), BLOCK_BYTES)
            for block in part:
                self._verify(block)

    def _verify(self, block: int) -> None:
        if zlib.crc32(self._data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES].data) != int(self._sums[block]):
            self.damaged = True
            raise CorruptCollectionError(
                f"{self._name} is damaged: block {block} does not match its checksum; {self._advice}"
            )
        self._good[block] = True


def _wide(begin: NDArray[np.int64], end: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the first and last blocks of what lies in more than two."""
    wide = end - begin > 1
    return zip(begin[wide].tolist(), end[wide].tolist(), strict=True)


@dataclass(frozen=True, eq=False)
class SegmentView:
    """A segment as searches use it: in memory, or mapped from its file.

    Parameters
    ----------
    segment : Segment
        The rows.
    first, last : int
        Slots that it covers; dead ones among them may be missing.
    entry : dict or None
        What is recorded of its file; None while there is none.
    file : HeldFile or None
        What it is mapped from.
    guard : RecordGuard or None
        Checks what is mapped.
    """

    segment: Segment
    first: int
    last: int
    entry: dict[str, Any] | None = None
    file: HeldFile | None = None
    guard: RecordGuard | None = None

    @property
    def whole(self) -> bool:
        """Whether the file still has the length that is mapped."""
        return self.file is None or self.entry is None or self.file.size() >= self.entry["bytes"]

    @property
    def damaged(self) -> bool:
        """Whether a block did not match its checksum."""
        return self.guard is not None and self.guard.damaged

    def check_all(self) -> None:
        """Verify every block."""
        if self.guard is not None:
            self.guard.check_all()


@dataclass(frozen=True, eq=False)
class ModelView:
    """A model as searches use it, with the number of rows it was trained for."""

    model: CellModel
    rows: int
    entry: dict[str, Any] | None = None
    file: HeldFile | None = None

    @property
    def whole(self) -> bool:
        """Whether the file still has the length that is mapped."""
        return self.file is None or self.entry is None or self.file.size() >= self.entry["bytes"]


# ---------------------------------------------------------------------- writing


def write_model(folder: Directory, name: str, model: CellModel, rows: int) -> dict[str, Any]:
    """Write a model's file; returns what is to be recorded of it. Its name is not durable yet."""
    header = _MODEL.pack(
        _MODEL_MAGIC,
        _VERSION,
        model.dim,
        len(model),
        len(model.groups) - 1,
        model.seed,
        rows,
        model.length,
        model.cosine,
        *astuple(model.reach or _NO_REACH),
    )
    rotation = model.rotation.order.astype("<i4").tobytes() + model.rotation.signs.tobytes()
    parts = [header, model.groups.astype("<i8").tobytes() + rotation, np.ascontiguousarray(model.centroids).data]
    return {"file": name} | write_file(folder, name, parts, parts)


def write_segment(folder: Directory, name: str, view: SegmentView, dim: int) -> dict[str, Any]:
    """Write a segment's file; returns what is to be recorded of it. Its name is not durable yet."""
    segment = view.segment
    records = np.ascontiguousarray(segment.records)
    data = records.view(np.uint8).reshape(-1).data
    header = _SEGMENT.pack(_SEGMENT_MAGIC, _VERSION, dim, len(segment.starts) - 1, records.dtype.itemsize, len(segment))
    head = header + segment.starts.astype("<i4").tobytes() + _sums(data)
    head += bytes(-len(head) % _ALIGNED)
    about = {"file": name, "first": view.first, "last": view.last, "rows": len(segment)}
    return about | write_file(folder, name, [head, data], [head])


def write_postings(folder: Directory, name: str, view: SegmentView) -> dict[str, Any]:
    """Write a file of postings; returns what is to be recorded of it. Its name is not durable yet."""
    postings = view.segment
    assert isinstance(postings, Postings)  # what token cells hold
    records = np.ascontiguousarray(postings.records, "<u2")
    data = records.view(np.uint8).data
    header = _POSTINGS.pack(
        _POSTINGS_MAGIC, _VERSION, postings.n_cells, postings.block, postings.n_blocks, len(postings)
    )
    head = header + postings.starts.astype("<u4").tobytes() + _sums(data)
    head += bytes(-len(head) % _ALIGNED)
    about = {"file": name, "first": view.first, "last": view.last, "rows": len(postings)}
    return about | write_file(folder, name, [head, data], [head])


def _sums(data: memoryview) -> bytes:
    """Return the CRC-32 of each block of records."""
    starts = range(0, len(data), BLOCK_BYTES)
    return np.array([zlib.crc32(data[start : start + BLOCK_BYTES]) for start in starts], "<u4").tobytes()


def write_file(folder: Directory, name: str, parts: Iterable[Any], summed: Iterable[Any]) -> dict[str, int]:
    """Write a draft, sync it and give it its name; returns its length and the CRC-32 of some parts."""
    draft = f"{name}.tmp"
    try:
        file = HeldFile(folder.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR), writable=True)
        length = 0
        with storage_errors(folder.path / name):
            for part in parts:
                left = memoryview(part).cast("B")
                while len(left):
                    written = os.write(file.fd, left[: 1 << 24])
                    left, length = left[written:], length + written
            os.fsync(file.fd)
            folder.replace(draft, name)
    except BaseException:
        folder.remove(draft)
        raise
    crc = 0
    for part in summed:
        crc = zlib.crc32(part, crc)
    return {"bytes": length, "crc": crc}


# ---------------------------------------------------------------------- reading


def read_model(folder: Directory, entry: dict[str, Any]) -> ModelView:
    """Map a model.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    CorruptCollectionError
        When it is not what was recorded.
    """
    file, data = map_file(folder, entry)
    file.announce([0], len(data))
    if zlib.crc32(data.data) != entry["crc"]:
        raise _damaged(entry)
    magic, version, dim, cells, groups, seed, rows, length, cosine, *far = _unpacked(_MODEL, data, entry)
    table = _MODEL.size + 8 * (groups + 1)
    start = table + ROUNDS * dim * 6
    sound = magic == _MODEL_MAGIC and version == _VERSION and dim >= 1 and cells >= 1 and groups >= 1
    if not sound or len(data) != start + dim * cells:
        raise _damaged(entry)
    edges = data[_MODEL.size : table].view("<i8").astype(np.int64)
    if edges[0] != 0 or edges[-1] != cells or (np.diff(edges) < 1).any() or not 0 < length < np.inf:
        raise _damaged(entry)
    reach = Reach(*far)
    if reach != _NO_REACH and not (reach.sound and reach.most <= cells):
        raise _damaged(entry)
    centroids = data[start:].view(np.int8).reshape(cells, dim)
    try:
        rotation = StructuredRotation.restore(
            data[table : table + ROUNDS * dim * 4].view("<i4").astype(np.int32).reshape(ROUNDS, dim),
            data[table + ROUNDS * dim * 4 : start].reshape(ROUNDS, 2, dim).copy(),
        )
    except CodecError as err:
        raise _damaged(entry) from err
    model = CellModel(
        centroids,
        edges,
        seed=seed,
        length=length,
        cosine=cosine,
        reach=reach if reach.first else None,
        rotation=rotation,
    )
    model.make_ready()
    return ModelView(model, rows, entry, file)


def read_segment(folder: Directory, entry: dict[str, Any], model: CellModel) -> SegmentView:
    """Map a segment; of its records nothing is read yet. Raises as `read_model`."""
    file, data = map_file(folder, entry)
    magic, version, dim, cells, row_bytes, rows = _unpacked(_SEGMENT, data, entry)
    kind = record_type(model.dim)
    sound = magic == _SEGMENT_MAGIC and version == _VERSION and (dim, cells) == (model.dim, len(model))
    if not sound or row_bytes != kind.itemsize or rows != entry["rows"]:
        raise _damaged(entry)
    blocks = -(-rows * row_bytes // BLOCK_BYTES)
    table = _SEGMENT.size + 4 * (cells + 1)
    start = -(-(table + 4 * blocks) // _ALIGNED) * _ALIGNED
    if len(data) != start + rows * row_bytes or head_crc(file, data[:start]) != entry["crc"]:
        raise _damaged(entry)
    starts = data[_SEGMENT.size : table].view("<i4").astype(np.int64)
    if starts[0] != 0 or starts[-1] != rows or (np.diff(starts) < 0).any():
        raise _damaged(entry)
    sums = data[table : table + 4 * blocks].view("<u4").astype(np.uint32)
    body = data[start:]
    records: Records = body.view(kind)
    guard = RecordGuard(entry["file"], body, sums, row_bytes, file=file, start=start)
    return SegmentView(Segment(starts, records), entry["first"], entry["last"], entry, file, guard)


def read_postings(folder: Directory, entry: dict[str, Any], model: CellModel) -> SegmentView:
    """Map a file of postings; of the postings nothing is read yet. Raises as `read_model`."""
    file, data = map_file(folder, entry)
    magic, version, cells, block, blocks, rows = _unpacked(_POSTINGS, data, entry)
    sound = magic == _POSTINGS_MAGIC and version == _VERSION and cells == len(model) and rows == entry["rows"]
    # The lists of a segment lie in the blocks of its slots: nothing that they name is beyond these.
    if not sound or (
        blocks and not entry["first"] >> BLOCK_BITS <= block <= block + blocks - 1 <= entry["last"] >> BLOCK_BITS
    ):
        raise _damaged(entry)
    table = _POSTINGS.size + 4 * (blocks * cells + 1)
    n_sums = -(-2 * rows // BLOCK_BYTES)
    start = -(-(table + 4 * n_sums) // _ALIGNED) * _ALIGNED
    if len(data) != start + 2 * rows or head_crc(file, data[:start]) != entry["crc"]:
        raise _damaged(entry)
    starts = data[_POSTINGS.size : table].view("<u4").astype(np.int64)
    if starts[0] != 0 or starts[-1] != rows or (np.diff(starts) < 0).any():
        raise _damaged(entry)
    sums = data[table : table + 4 * n_sums].view("<u4").astype(np.uint32)
    body = data[start:]
    guard = RecordGuard(entry["file"], body, sums, 2, file=file, start=start)
    postings = Postings(starts, body.view("<u2"), cells, block)
    return SegmentView(postings, entry["first"], entry["last"], entry, file, guard)


def map_file(folder: Directory, entry: dict[str, Any]) -> tuple[HeldFile, NDArray[np.uint8]]:
    """Map a file that has the length that was recorded; what is read of it is announced before. Raises as `read_model`."""
    file = folder.hold(entry["file"])
    size = file.size()
    sound = size == entry["bytes"] and size
    mapped = file.mapped(size, folder.path / entry["file"], scattered=True) if sound else None
    if mapped is None:
        raise _damaged(entry)
    return file, np.frombuffer(mapped, np.uint8)


def head_crc(file: HeldFile, head: NDArray[np.uint8]) -> int:
    """Return the CRC-32 of what a file begins with; it is read now."""
    file.announce([0], len(head))
    return zlib.crc32(head.data)


def _unpacked(header: struct.Struct, data: NDArray[np.uint8], entry: dict[str, Any]) -> tuple[Any, ...]:
    if len(data) < header.size:
        raise _damaged(entry)
    return header.unpack(data[: header.size].tobytes())


def _damaged(entry: dict[str, Any]) -> CorruptCollectionError:
    return CorruptCollectionError(
        f"{entry['file']} is damaged (its checksum does not match); it is rebuilt when it is needed"
    )
