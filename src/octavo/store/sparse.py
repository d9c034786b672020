"""Learned sparse vectors of a collection: segments of inverted lists, and rows of the database that wait to be in one.

Both are written in the transaction of their documents. A segment file is written once, made durable before the commit that
names it, and never changes; what a later commit no longer names is deleted after it. ``docs/format.md`` has the bytes.
"""

from __future__ import annotations

import contextlib
import json
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats
from octavo._files import Directory, HeldFile
from octavo._sparse_rows import SparseRows, Terms, ranges
from octavo.errors import CorruptCollectionError, OctavoError
from octavo.index.sparse import (
    BITS,
    MOST_SLOTS,
    PAGE,
    PAGED,
    SHORT,
    Postings,
    SparseSegment,
    runs,
    scan_rows,
    sparse_scores,
)
from octavo.store._cell_format import BLOCK_BYTES, RecordGuard, head_crc, map_file, write_file
from octavo.store._schema import SPARSE_ROWS
from octavo.store.sqlite import Connection

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Rows that wait in the database at most; from so many on they are sealed into a segment.
SEALED_AT = 256

_MAGIC, _VERSION = b"OCTSPARS", 1

#: Magic, version, slots, numbers of short, paged and bit lists, 0; postings of each.
_HEADER = struct.Struct("<8sIIIIIIQQQ")
_ALIGNED = 64

#: Vectors that are picked out of a segment one by one; for more, all of it is taken apart.
_FEW = 64

_ADVICE = "run verify(repair=True)"

#: Bytes a term takes in a row of the database, and those of the scale.
_TERM_BYTES, _SCALE_BYTES = 5, 4


@dataclass(frozen=True, eq=False)
class SegmentView:
    """A segment as searches use it: in memory, or mapped from its file.

    Parameters
    ----------
    segment : SparseSegment or None
        The lists; None where the file is missing or damaged, which `problem` tells.
    entry : dict
        What the manifest says of it.
    file : HeldFile or None
        What it is mapped from.
    guard : RecordGuard or None
        Checks what is mapped.
    problem : str or None
        Why it cannot be read.
    """

    segment: SparseSegment | None
    entry: dict[str, Any]
    file: HeldFile | None = None
    guard: RecordGuard | None = None
    problem: str | None = None

    @property
    def first(self) -> int:
        """The first slot that it spans."""
        return int(self.entry["first"])

    @property
    def last(self) -> int:
        """The first slot behind those that it spans."""
        return int(self.entry["last"])

    @property
    def whole(self) -> bool:
        """Whether the file still has the length that is mapped; reading beyond its end would kill the process."""
        return self.file is None or self.file.size() >= self.entry["bytes"]

    def checked(self, lists: Slots | None = None) -> SparseSegment:
        """Return the lists, once what is about to be read of them (None: everything) matches its checksums.

        Raises
        ------
        CorruptCollectionError
            When it does not; the message names the file.
        """
        if self.segment is None:
            raise CorruptCollectionError(self.problem or f"{self.entry['file']} is damaged; {_ADVICE}")
        if self.guard is not None and not self.guard.all_good:
            if lists is None:
                self.guard.check_all()
            else:
                self.guard.check(*_bytes_of(self.segment, lists))
        return self.segment


def _bytes_of(segment: SparseSegment, lists: Slots) -> tuple[Slots, Slots]:
    """Return where in the file's body some lists lie: first bytes, and those behind the last."""
    short, paged, bits = segment.lists
    ends, n_pages, row = segment.ends, -(-segment.slots // PAGE), segment.bits.shape[1]
    first, last = ends[lists], ends[lists + 1]
    a, b = int(ends[short]), int(ends[short + paged])
    low = 2 * a + paged * n_pages
    bit = low + b - a
    code = bit + bits * row
    kind = np.searchsorted([short, short + paged], lists, side="right")
    starts, stops = [first + code], [last + code]
    for number in (SHORT, PAGED, BITS):
        mine = kind == number
        if number == SHORT:
            starts.append(2 * first[mine])
            stops.append(2 * last[mine])
        elif number == PAGED:
            rows = lists[mine] - short
            starts += [2 * a + rows * n_pages, low + first[mine] - a]
            stops += [2 * a + (rows + 1) * n_pages, low + last[mine] - a]
        else:
            rows = lists[mine] - short - paged
            starts.append(bit + rows * row)
            stops.append(bit + (rows + 1) * row)
    return np.concatenate(starts), np.concatenate(stops)


@dataclass(frozen=True, eq=False)
class Waiting:
    """Sparse vectors that are in no segment yet.

    Parameters
    ----------
    slots : ndarray of shape (n,), int64
        Their slots, rising.
    rows : SparseRows
        The vectors.
    codes, scales : ndarray
        What is stored of them.
    """

    slots: Slots
    rows: SparseRows
    codes: Codes
    scales: Floats

    @classmethod
    def of(cls, slots: Slots, rows: SparseRows) -> Waiting:
        """Return vectors with their codes."""
        return cls(slots, rows, *rows.coded())


#: Nothing waits.
NONE_WAIT = Waiting.of(np.zeros(0, np.int64), SparseRows.joined([]))


@dataclass(frozen=True, eq=False)
class SparseView:
    """The sparse vectors that belong to a snapshot, but for those that wait in the database.

    Parameters
    ----------
    sealed : int
        Vectors of slots below this are in segments.
    segments : tuple of SegmentView
        In rising order of slots.
    """

    sealed: int
    segments: tuple[SegmentView, ...]

    @property
    def whole(self) -> bool:
        """Whether each mapped file still has the length that it had."""
        return all(segment.whole for segment in self.segments)

    @property
    def missing(self) -> bool:
        """Whether a file was not there when it was to be mapped."""
        return any(segment.segment is None for segment in self.segments)

    @property
    def nbytes(self) -> int:
        """Bytes of all segments, with what they keep in memory to be read faster."""
        return sum(view.segment.nbytes + view.segment.kept_bytes for view in self.segments if view.segment is not None)

    @property
    def entry(self) -> str:
        """What the manifest says of them."""
        return json.dumps({"sealed": self.sealed, "segments": [view.entry for view in self.segments]})

    def scores(self, terms: Terms, weights: Floats, n_slots: int, waiting: Waiting) -> Floats:
        """Return the inner product of a query with the vector of every slot; 0 where there is none.

        Raises
        ------
        CorruptCollectionError
            When a list is damaged.
        """

        def check(number: int, lists: Slots) -> None:
            self.segments[number].checked(lists)

        none = np.zeros(0, np.int64)
        segments = [(view.first, view.checked(none)) for view in self.segments]
        try:
            scores = sparse_scores(segments, terms, weights, n_slots, check)
        except (IndexError, ValueError) as err:  # contradictory numbers: checksums show damage, no intent
            raise CorruptCollectionError(f"a segment of sparse vectors contradicts itself; {_ADVICE}") from err
        if len(waiting.slots):
            scores[waiting.slots] = scan_rows(waiting.rows, waiting.codes, waiting.scales, terms, weights)
        return scores


class SparseReader:
    """Gives vectors back, decoded. Takes apart one segment at a time, so ask in the order of slots.

    Parameters
    ----------
    view : SparseView
        The segments.
    waiting : Waiting
        The other vectors.
    """

    def __init__(self, view: SparseView, waiting: Waiting) -> None:
        self._view = view
        self._waiting = waiting
        self._apart: tuple[SegmentView, SparseRows] | None = None

    def rows(self, slots: Slots) -> SparseRows:
        """Return the vectors of some slots, rising; without terms where there are none.

        Raises
        ------
        CorruptCollectionError
            When a segment is damaged.
        """
        found, parts, total = np.full(len(slots), -1), [], 0
        for view in self._view.segments:
            inside = np.flatnonzero((slots >= view.first) & (slots < view.last))
            if len(inside):
                parts.append(self._rows_of(view, slots[inside] - view.first))
                found[inside] = total + np.arange(len(inside))
                total += len(inside)
        known = self._waiting.slots
        at = np.searchsorted(known, slots)
        inside = np.flatnonzero(at < len(known))
        inside = inside[known[at[inside]] == slots[inside]]
        parts.append(self._waiting.rows.taken(at[inside]))
        found[inside] = total + np.arange(len(inside))
        rows = SparseRows.joined(parts)
        lengths = np.where(found >= 0, np.append(rows.lengths, 0)[found], 0)
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        where = ranges(rows.offsets[found], lengths)
        return SparseRows(offsets, rows.terms[where], rows.weights[where])

    def _rows_of(self, view: SegmentView, local: Slots) -> SparseRows:
        with _sound(view):
            if self._apart is None or self._apart[0] is not view:
                segment = view.checked()
                if len(local) <= _FEW:
                    return segment.picked(local)
                self._apart = view, segment.rows()
            return self._apart[1].taken(local)


@contextlib.contextmanager
def _sound(view: SegmentView) -> Iterator[None]:
    """Turn what contradictory numbers lead to into an error that names the file: checksums show damage, no intent."""
    try:
        yield
    except (IndexError, ValueError) as err:
        raise CorruptCollectionError(
            f"{view.entry['file']} is damaged: its lists contradict each other; {_ADVICE}"
        ) from err


# ---------------------------------------------------------------------- rows of the database


def read_waiting(connection: Connection, view: SparseView, known: Waiting | None = None) -> Waiting:
    """Return the vectors that are in no segment; `known` are some of them, for the same segments and generation.

    Raises
    ------
    CorruptCollectionError
        When a row is not as Octavo writes it.
    """
    start = view.sealed if known is None or not len(known.slots) else int(known.slots[-1]) + 1
    rows = connection.execute("SELECT slot, vector FROM sparse_rows WHERE slot >= ? ORDER BY slot", (start,)).fetchall()
    if not rows:
        return known if known is not None else NONE_WAIT
    parts = [_unpacked(slot, data) for slot, data in rows]
    lengths = [len(terms) for terms, _, _ in parts]
    fresh = Waiting.of(
        np.array([slot for slot, _ in rows], np.int64),
        SparseRows.decoded(
            np.cumsum([0, *lengths]),
            np.concatenate([terms for terms, _, _ in parts]),
            np.concatenate([codes for _, codes, _ in parts]),
            np.concatenate([scale for _, _, scale in parts]),
        ),
    )
    return fresh if known is None or not len(known.slots) else _both(known, fresh)


def _both(one: Waiting, other: Waiting) -> Waiting:
    slots, codes, scales = (
        np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("slots", "codes", "scales")
    )
    return Waiting(slots, SparseRows.joined([one.rows, other.rows]), codes, scales)


def _unpacked(slot: Any, data: Any) -> tuple[Terms, Codes, Floats]:
    n, rest = divmod(len(data) - _SCALE_BYTES, _TERM_BYTES) if isinstance(data, bytes) else (0, 1)
    if n > 0 and not rest:
        terms = np.frombuffer(data, "<u4", n).astype(np.uint32)
        codes = np.frombuffer(data, np.uint8, n, 4 * n)
        scale = np.frombuffer(data, "<f4", 1, _TERM_BYTES * n).astype(np.float32)
        if (terms[1:] > terms[:-1]).all() and codes.min() > 0 and 0 < scale[0] < np.inf:
            return terms, codes, scale
    raise CorruptCollectionError(f"octavo.db is damaged: the sparse vector in slot {slot!r} cannot be read; {_ADVICE}")


def unreadable_rows(connection: Connection, sealed: int) -> list[int]:
    """Return the slots whose row is not as Octavo writes it."""
    bad = []
    for slot, data in connection.execute("SELECT slot, vector FROM sparse_rows"):
        try:
            _unpacked(slot, data)
        except CorruptCollectionError:
            bad.append(slot)
        else:
            if slot < sealed:
                bad.append(slot)
    return bad


def _insert(connection: Connection, slots: Slots, rows: SparseRows) -> None:
    codes, scales = rows.coded()
    terms = rows.terms.astype("<u4")
    bounds = rows.offsets.tolist()
    connection.executemany(
        "INSERT OR REPLACE INTO sparse_rows VALUES (?, ?)",
        (
            (slot, terms[a:b].tobytes() + codes[a:b].tobytes() + np.float32(scale).astype("<f4").tobytes())
            for slot, a, b, scale in zip(slots.tolist(), bounds[:-1], bounds[1:], scales.tolist(), strict=True)
        ),
    )


# ---------------------------------------------------------------------- writing


class SparseDraft:
    """What one transaction changes of the sparse vectors; leave it behind the transaction, which deletes the right files.

    Parameters
    ----------
    shelf : SegmentShelf
        Where segments lie.
    named : callable
        Return the names of the files that the newest commit needs; asked when a transaction has failed.
    """

    def __init__(self, shelf: SegmentShelf, named: Callable[[], set[str]]) -> None:
        self._shelf = shelf
        self._named = named
        self._written: list[str] = []
        self._replaced: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._shelf.remove(self._replaced)
        elif self._written:
            with contextlib.suppress(OctavoError, OSError):
                self._shelf.remove(set(self._written) - self._named())

    def begun(self, connection: Connection, view: SparseView | None, n_slots: int) -> SparseView:
        """Return what there is, or begin: documents that are there already have no terms."""
        if view is not None:
            return view
        connection.execute(SPARSE_ROWS)
        return SparseView(n_slots, ())

    def add(self, connection: Connection, view: SparseView, rows: SparseRows, first: int, alive: Mask) -> SparseView:
        """Keep the vectors of slots `first` and following ones.

        Parameters
        ----------
        connection : Connection
            Inside the transaction.
        view : SparseView
            What there is.
        rows : SparseRows
            One for each slot.
        first : int
            The first slot.
        alive : ndarray of bool
            Which slots below `first` belong to documents; the others are left out where segments are merged.
        """
        filled = np.flatnonzero(rows.lengths)
        rows, slots = rows.taken(filled), first + filled
        count = connection.execute("SELECT count(*) FROM sparse_rows").fetchone()[0]
        if count + len(slots) < SEALED_AT:
            _insert(connection, slots, rows)
            return view
        waiting = read_waiting(connection, view)
        connection.execute("DELETE FROM sparse_rows")
        end = int(slots[-1]) + 1 if len(slots) else first
        known = np.ones(end, np.bool_)
        known[:first] = alive[:first]
        parts = [waiting.rows, rows]
        return self._sealed(view, np.concatenate([waiting.slots, slots]), SparseRows.joined(parts), known)

    def _sealed(self, view: SparseView, slots: Slots, rows: SparseRows, alive: Mask) -> SparseView:
        kept = list(view.segments)
        for first, last in runs(slots):
            where = np.arange(first, last)
            part = rows.taken(where)
            piece = _Piece.of(slots[where], part)
            while kept and kept[-1].entry["rows"] <= piece.rows and piece.last - kept[-1].first <= MOST_SLOTS:
                try:
                    other = _Piece.apart(kept[-1], alive)
                except CorruptCollectionError:
                    break  # it is for verify to see to it; what comes now is kept beside it
                self._replaced.add(kept.pop().entry["file"])
                piece = _Piece.joined([other, piece])
            kept.append(self._put(piece))
        return SparseView(len(alive), tuple(kept))

    def renumbered(
        self, connection: Connection, view: SparseView, alive: Slots, moves: Sequence[tuple[int, int]]
    ) -> SparseView:
        """Write everything anew for documents with other slots.

        Parameters
        ----------
        connection : Connection
            Inside the transaction.
        view : SparseView
            What there is.
        alive : ndarray of int
            The slots of all documents, rising: their new ones are 0, 1, ...
        moves : sequence of (int, int)
            New and old slots where they differ.
        """
        connection.executemany("UPDATE sparse_rows SET slot = ? WHERE slot = ?", moves)
        sealed = int(np.searchsorted(alive, view.sealed))
        known = np.zeros(view.sealed, np.bool_)
        known[alive[:sealed]] = True
        new = np.cumsum(known) - 1
        new[~known] = -1
        pieces: list[_Piece] = []
        kept: list[SegmentView] = []

        def flush() -> None:
            if pieces:
                kept.append(self._put(_Piece.joined(pieces)))
                pieces.clear()

        for segment in view.segments:
            piece = _Piece.apart(segment, known).moved(new)
            self._replaced.add(segment.entry["file"])
            if piece.rows == 0:
                continue
            if pieces and piece.last - pieces[0].first > MOST_SLOTS:
                flush()
            pieces.append(piece)
        flush()
        return SparseView(sealed, tuple(kept))

    def emptied(self, connection: Connection, view: SparseView, n_slots: int) -> SparseView:
        """Forget all vectors."""
        connection.execute("DELETE FROM sparse_rows")
        self._replaced |= {segment.entry["file"] for segment in view.segments}
        return SparseView(n_slots, ())

    def mended(
        self,
        connection: Connection,
        view: SparseView,
        made: Mapping[str, tuple[Slots, SparseRows]],
        rows: Sequence[int],
    ) -> SparseView:
        """Return the view with some parts made anew.

        Parameters
        ----------
        connection : Connection
            Inside the transaction.
        view : SparseView
            What there is.
        made : mapping of str to tuple
            File to slots, rising, and their vectors; under the empty name those of the database.
        rows : sequence of int
            Slots whose row of the database is to go.
        """
        connection.executemany("DELETE FROM sparse_rows WHERE slot = ?", [(slot,) for slot in rows])
        if "" in made:
            slots, vectors = made[""]
            filled = np.flatnonzero((vectors.lengths > 0) & (slots >= view.sealed))
            _insert(connection, slots[filled], vectors.taken(filled))
        segments = []
        for segment in view.segments:
            name = segment.entry["file"]
            if name not in made:
                segments.append(segment)
                continue
            self._replaced.add(name)
            slots, vectors = made[name]
            filled = np.flatnonzero(vectors.lengths)
            if len(filled):
                segments.append(self._put(_Piece.of(slots[filled], vectors.taken(filled))))
        return SparseView(view.sealed, tuple(segments))

    def _put(self, piece: _Piece) -> SegmentView:
        name = f"{uuid.uuid4().hex}.sparse"
        self._written.append(name)
        return self._shelf.put(name, piece)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Vectors on their way into a segment."""

    postings: Postings  # of slots of the collection
    slots: Slots  # of documents with terms, rising
    scales: Floats  # theirs

    @classmethod
    def of(cls, slots: Slots, rows: SparseRows) -> _Piece:
        return cls(Postings.of(rows, slots), slots, rows.coded()[1])

    @classmethod
    def apart(cls, view: SegmentView, alive: Mask) -> _Piece:
        """Take a segment apart, without the documents that are dead."""
        with _sound(view):
            segment = view.checked()
            local = np.flatnonzero(segment.scales > 0)
            local = local[alive[view.first + local]]
            new = np.full(segment.slots, -1)
            new[local] = view.first + local
            return cls(segment.postings().kept(new), view.first + local, segment.scales[local])

    @classmethod
    def joined(cls, pieces: Sequence[_Piece]) -> _Piece:
        if len(pieces) == 1:
            return pieces[0]
        slots, scales = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("slots", "scales"))
        return cls(Postings.joined([piece.postings for piece in pieces]), slots, scales)

    def moved(self, new: Slots) -> _Piece:
        return _Piece(self.postings.kept(new), new[self.slots], self.scales)

    @property
    def rows(self) -> int:
        return len(self.slots)

    @property
    def first(self) -> int:
        return int(self.slots[0])

    @property
    def last(self) -> int:
        return int(self.slots[-1]) + 1

    def segment(self) -> SparseSegment:
        scales = np.zeros(self.last - self.first, np.float32)
        scales[self.slots - self.first] = self.scales
        local = np.full(self.last, -1)
        local[self.slots] = self.slots - self.first
        return SparseSegment.build(self.postings.kept(local), scales)


# ---------------------------------------------------------------------- files


class SegmentShelf:
    """Where the segments of one collection lie: in its directory, or in memory.

    Parameters
    ----------
    folder : Directory or None
        The directory; None keeps them in memory.
    """

    def __init__(self, folder: Directory | None) -> None:
        self._folder = folder
        self._memory: dict[str, SparseSegment] = {}

    def view(self, text: str, known: SparseView | None) -> SparseView:
        """Return what the manifest names; segments that are mapped already stay as they are."""
        entry = json.loads(text)
        there = (
            {} if known is None else {view.entry["file"]: view for view in known.segments if view.segment is not None}
        )
        return SparseView(
            entry["sealed"], tuple(there.get(each["file"]) or self._open(each) for each in entry["segments"])
        )

    def _open(self, entry: dict[str, Any]) -> SegmentView:
        if self._folder is None:
            return SegmentView(self._memory[entry["file"]], entry)
        try:
            return read_segment(self._folder, entry)
        except FileNotFoundError:
            return SegmentView(None, entry, problem=f"{entry['file']} is missing; {_ADVICE}")
        except CorruptCollectionError as err:
            return SegmentView(None, entry, problem=str(err))

    def put(self, name: str, piece: _Piece) -> SegmentView:
        """Write a segment, durable once the directory is synced, which this does."""
        segment = piece.segment()
        about: dict[str, Any] = {"file": name, "first": piece.first, "last": piece.last, "rows": piece.rows}
        if self._folder is None:
            self._memory[name] = segment
            return SegmentView(segment, about | {"bytes": segment.nbytes, "crc": 0})
        about |= write_segment(self._folder, name, segment)
        self._folder.sync()
        return read_segment(self._folder, about)

    def take_over(self, other: SparseView) -> None:
        """Have segments of another collection: they never change. For a collection in memory."""
        for view in other.segments:
            segment = view.checked()
            if view.guard is not None:  # mapped from a file that may go
                segment = SparseSegment.build(segment.postings(), segment.scales.copy())
            self._memory[view.entry["file"]] = segment

    def remove(self, names: set[str]) -> None:
        """Delete segments; who has them mapped keeps them."""
        for name in names:
            if self._folder is None:
                self._memory.pop(name, None)
            else:
                self._folder.remove(name)


def write_segment(folder: Directory, name: str, segment: SparseSegment) -> dict[str, int]:
    """Write a segment's file; returns its length and checksum. Its name is not durable yet."""
    body = b"".join(
        part.tobytes()
        for part in (segment.short.astype("<u2"), segment.pages, segment.low, segment.bits, segment.codes)
    )
    sums = [zlib.crc32(body[start : start + BLOCK_BYTES]) for start in range(0, len(body), BLOCK_BYTES)]
    a, b = (int(segment.ends[edge]) for edge in (segment.lists[0], segment.lists[0] + segment.lists[1]))
    head = _HEADER.pack(_MAGIC, _VERSION, segment.slots, *segment.lists, 0, a, b - a, len(segment) - b)
    head += segment.terms.astype("<u4").tobytes() + segment.counts.astype("<u4").tobytes()
    head += segment.scales.astype("<f4").tobytes() + np.array(sums, "<u4").tobytes()
    head += bytes(-len(head) % _ALIGNED)
    return write_file(folder, name, [head, body], [head])


def copy_segments(view: SparseView, folder: Directory) -> str:
    """Write all segments to another directory, verified; returns what its manifest has to say of them."""
    entries = []
    for each in view.segments:
        about = write_segment(folder, each.entry["file"], each.checked())
        if each.guard is not None and about["crc"] != each.entry["crc"]:
            raise CorruptCollectionError(f"{each.entry['file']} is damaged; {_ADVICE}")
        entries.append(each.entry | about)
    folder.sync()
    return json.dumps({"sealed": view.sealed, "segments": entries})


def read_segment(folder: Directory, entry: dict[str, Any]) -> SegmentView:
    """Map a segment; of its lists nothing is read yet.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    CorruptCollectionError
        When it is not what was recorded.
    """
    file, data = map_file(folder, entry)
    wrong = CorruptCollectionError(f"{entry['file']} is damaged (its checksum does not match); {_ADVICE}")
    if len(data) < _HEADER.size:
        raise wrong
    magic, version, slots, short, paged, bits, _, *postings = _HEADER.unpack(data[: _HEADER.size].tobytes())
    if (magic, version) != (_MAGIC, _VERSION) or slots != entry["last"] - entry["first"] or not 0 < slots <= MOST_SLOTS:
        raise wrong
    lists, n_pages, row = short + paged + bits, -(-slots // PAGE), -(-slots // 8)
    sizes = [2 * postings[SHORT], paged * n_pages, postings[PAGED], bits * row, sum(postings)]
    blocks = -(-sum(sizes) // BLOCK_BYTES)
    table = _HEADER.size + 8 * lists
    sums_at = table + 4 * slots
    start = -(-(sums_at + 4 * blocks) // _ALIGNED) * _ALIGNED
    if len(data) != start + sum(sizes) or head_crc(file, data[:start]) != entry["crc"]:
        raise wrong
    terms = data[_HEADER.size : _HEADER.size + 4 * lists].view("<u4").astype(np.uint32)
    counts = data[_HEADER.size + 4 * lists : table].view("<u4").astype(np.uint32)
    scales = data[table:sums_at].view("<f4").astype(np.float32)
    sums = data[sums_at : sums_at + 4 * blocks].view("<u4").astype(np.uint32)
    body = data[start:]
    at = np.cumsum([0, *sizes]).tolist()
    parts = [body[a:b] for a, b in pairwise(at)]
    segment = SparseSegment(
        (short, paged, bits),
        terms,
        counts,
        scales,
        parts[0].view("<u2"),
        parts[1].reshape(paged, n_pages),
        parts[2],
        parts[3].reshape(bits, row),
        parts[4],
    )
    edges = (short, short + paged)
    if [int(part.sum()) for part in np.split(counts.astype(np.int64), edges)] != postings or not _in_order(
        terms, edges
    ):
        raise wrong
    guard = RecordGuard(entry["file"], body, sums, 1, _ADVICE, file=file, start=start)
    return SegmentView(segment, entry, file, guard)


def _in_order(terms: Terms, edges: tuple[int, int]) -> bool:
    return all(bool((part[1:] > part[:-1]).all()) for part in np.split(terms, edges))
