"""Append-only files of fixed-width codes, with a checksum for every block of rows.

The file knows nothing of commits: the caller writes rows at a position, makes them durable, and records the new length
and the block checksums in SQLite. Bytes beyond the committed length are a dead writer's and are overwritten.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.ma  # np.unique would on its first call, and two threads that do so at once fail within numpy
import numpy.typing as npt

from octavo._files import CAN_TELL, REQUEST_BYTES, Directory, HeldFile, in_memory, storage_errors
from octavo.errors import CorruptCollectionError

Codes: TypeAlias = npt.NDArray[np.uint8]

#: Rows that share one checksum.
BLOCK_ROWS = 128

_CAN_PREFETCH, _in_memory = CAN_TELL, in_memory
_CAN_ADVISE = CAN_TELL and hasattr(mmap, "MADV_RANDOM")

#: Rows that are read one by one, whatever lies between them.
_SCATTERED_ROWS = 1_024

#: Ranges of a request that are looked at to tell whether it is in memory; each look costs a microsecond.
_PROBES = 8


def block_checksums(codes: Codes, start: int, tail: int) -> dict[int, int]:
    """Return the CRC-32 of every block that rows ``start, start + 1, ...`` touch.

    Parameters
    ----------
    codes : ndarray of shape (n, row_bytes)
        The appended rows.
    start : int
        Slot of the first appended row.
    tail : int
        Checksum of the rows before `start` in the same block (0 when there are none).
    """
    sums: dict[int, int] = {}
    position = 0
    while position < len(codes):
        block, inside = divmod(start + position, BLOCK_ROWS)
        count = min(BLOCK_ROWS - inside, len(codes) - position)
        before = tail if position == 0 and inside else 0
        sums[block] = zlib.crc32(codes[position : position + count].data, before)
        position += count
    return sums


class VectorFile:
    """Rows of codes on disk, read through a memory map, or in memory.

    Parameters
    ----------
    folder : Directory or None
        Where it lies; None keeps the rows in memory.
    name : str
        The file's name there.
    row_bytes : int
        Bytes in a row.
    """

    def __init__(self, folder: Directory | None, name: str, row_bytes: int) -> None:
        self.name = name if folder is not None else "in-memory vectors"
        self.row_bytes = row_bytes
        self._folder = folder
        self._rows: Codes = np.zeros((0, row_bytes), np.uint8)
        self._held: HeldFile | None = None
        self._mapped_bytes = 0
        self._mapped: mmap.mmap | None = None
        self._scattered = False  # how the system was told that the map is read
        self.incomplete = False  # the file is missing or shorter than what was committed

    @property
    def path(self) -> Path | None:
        """Where the file lies, for messages and for those who copy it."""
        return self._folder.path / self.name if self._folder is not None else None

    @property
    def bytes(self) -> int:
        """Bytes of the file, or of the rows in memory."""
        if self._folder is None:
            return self._rows.nbytes
        held = self._held
        if held is not None:
            return held.size()
        if self._mapped_bytes:  # deleted by this process, or closed: what is mapped is there
            return self._mapped_bytes
        found = self._folder.stat(self.name)
        return found.st_size if found is not None else 0

    @property
    def whole(self) -> bool:
        """Whether the file still has the length that is mapped; reading beyond its end would kill the process."""
        held = self._held
        return held is None or held.size() >= self._mapped_bytes

    def announce(self, starts: Iterable[int], length: int) -> None:
        """Tell the system which parts of the file are about to be read."""
        held = self._held
        if held is not None:
            held.announce(starts, length)

    def expect(self, rows: npt.NDArray[np.int64] | None) -> None:
        """Tell the system how the file is about to be read: some rows, or all of them (None).

        In order, it should read far ahead. Around scattered rows it should read nothing: of a collection larger than memory,
        whose rows are not there any more when they are asked for again, that were megabytes for each of them.
        """
        mapped = self._mapped
        if mapped is None or not _CAN_ADVISE:
            return
        scattered = rows is not None and _are_scattered(rows)
        if scattered != self._scattered:
            self._scattered = scattered
            with contextlib.suppress(OSError):
                mapped.madvise(mmap.MADV_RANDOM if scattered else mmap.MADV_NORMAL)

    def announce_missing(self, rows: npt.NDArray[np.int64]) -> None:
        """Announce rows that were verified before, if they seem not to be in memory any more."""
        held = self._held
        if held is not None and self._scattered and held.may_miss():
            starts = rows * self.row_bytes
            held.announce_missing(starts, starts + self.row_bytes)

    def write(self, start: int, codes: Codes) -> None:
        """Write rows from slot `start` on; not durable before `sync`.

        Raises
        ------
        StorageError
            When the disk is full or fails.
        CorruptCollectionError
            When the file is a link, or another one than that which is mapped.
        """
        if self._folder is None:
            needed = start + len(codes)
            if needed > len(self._rows):
                grown = np.zeros((max(needed, 2 * len(self._rows), 1024), self.row_bytes), np.uint8)
                grown[: len(self._rows)] = self._rows
                self._rows = grown  # older views keep the older array: committed rows never change
            self._rows[start:needed] = codes
            return
        with storage_errors(self.path):
            held = self._writable(self._folder)
            data = np.ascontiguousarray(codes).reshape(-1).data
            position = start * self.row_bytes
            while len(data):
                written = _pwrite(held.fd, data, position)
                position += written
                data = data[written:]

    def _writable(self, folder: Directory) -> HeldFile:
        held = self._held
        if held is not None and held.writable:
            return held
        try:
            fd = folder.open(self.name, os.O_RDWR)
        except FileNotFoundError:
            fd = folder.open(self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fresh = HeldFile(fd, writable=True)
        if held is not None and not fresh.is_same(held):
            raise CorruptCollectionError(
                f"{self.path} was replaced while the collection was open; close it, run verify() on what is there now"
            )
        self._held = fresh
        return fresh

    def sync(self) -> None:
        """Make what was written survive power loss."""
        held = self._held
        if held is not None:
            with storage_errors(self.path):
                os.fsync(held.fd)

    def view(self, n_rows: int) -> Codes:
        """Return the first `n_rows` rows without copying them.

        Rows that a damaged file no longer holds read as zeros, and `incomplete` is set: their checksums tell, so a search
        fails with the file's name, while everything that does not need these rows goes on working.
        """
        if n_rows <= len(self._rows):
            return self._rows[:n_rows]
        rows = self._map()
        self.incomplete = rows < n_rows
        if self.incomplete:
            padded = np.zeros((n_rows, self.row_bytes), np.uint8)
            padded[:rows] = self._rows[:rows]
            self._rows, self._mapped_bytes, self._mapped = padded, 0, None
        return self._rows[:n_rows]

    def _map(self) -> int:
        """Map all whole rows of the file; returns how many there are."""
        assert self._folder is not None  # in memory there is always what was written
        if self._held is None:
            try:
                self._held = self._folder.hold(self.name)
            except FileNotFoundError:
                return 0
        while rows := self._held.size() // self.row_bytes:
            length = rows * self.row_bytes
            mapped = self._held.mapped(length, self._folder.path / self.name, scattered=self._scattered)
            if mapped is None:
                continue
            self._mapped = mapped
            self._rows, self._mapped_bytes = np.frombuffer(mapped, np.uint8).reshape(rows, self.row_bytes), length
            return rows
        return 0

    def prefetch(self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> bool:
        """Ask the operating system to read rows ``[start, end)`` ahead, if they seem not to be in memory.

        Whole blocks are asked for, because their checksums are verified first: a page that is missing then would cost
        more than itself, since Linux reads around a page fault as much as the device is set to read ahead (several
        megabytes on some), which for scattered rows comes to the whole file.

        Parameters
        ----------
        starts, ends : ndarray of shape (n,), int64
            Ranges of rows, in rising order.

        Returns
        -------
        bool
            Whether it was asked; False where the rows are in memory already, or the system cannot be asked (only Linux
            tells both what is in memory and takes such requests).
        """
        held = self._held  # None: closed, or in memory
        if held is None or not _CAN_PREFETCH or not len(starts):
            return False
        probes = starts[:: -(-len(starts) // _PROBES)].tolist()
        if all(_in_memory(held.fd, start * self.row_bytes) for start in probes):
            return False
        for position, length in _whole_blocks(starts, ends, self.row_bytes):
            os.posix_fadvise(held.fd, position, length, os.POSIX_FADV_WILLNEED)
        return True

    @property
    def resident(self) -> bool:
        """Whether the rows live in anonymous memory rather than in a mapped file."""
        return self._folder is None

    def close(self) -> None:
        """Let go of the file; views stay valid."""
        self._held = None

    def unlink(self) -> None:
        """Delete the file, if it can be deleted (an open map keeps it alive on Windows)."""
        self.close()
        if self._folder is not None:
            self._folder.remove(self.name)


def _are_scattered(rows: npt.NDArray[np.int64]) -> bool:
    """Tell whether much lies between rows."""
    return len(rows) < _SCATTERED_ROWS or int(rows.max()) - int(rows.min()) > 8 * len(rows)


def _whole_blocks(
    starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], row_bytes: int
) -> Iterator[tuple[int, int]]:
    """Yield position and length in bytes of the blocks that ranges of rows touch, each block once."""
    done = 0
    filled = ends > starts
    for start, end in zip(starts[filled].tolist(), ends[filled].tolist(), strict=True):
        first = max(start // BLOCK_ROWS * BLOCK_ROWS * row_bytes, done)
        done = max(done, -(-end // BLOCK_ROWS) * BLOCK_ROWS * row_bytes)
        for position in range(first, done, REQUEST_BYTES):
            yield position, min(REQUEST_BYTES, done - position)


def _pwrite(fd: int, data: memoryview, position: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, position)
    os.lseek(fd, position, os.SEEK_SET)  # Windows; writers are serialised by the write lock
    return os.write(fd, data)


def _checked_sums(
    sums: dict[int, int], n_blocks: int, name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return numbers of blocks and their checksums, as a database has them, which may be damaged.

    A million rows have 7,800 of them, which are read when a collection is opened: all are looked at together.
    """
    with contextlib.suppress(OverflowError):  # what no file of Octavo's holds: looked for below
        if {*map(type, sums), *map(type, sums.values())} <= {int}:
            numbers, values = np.fromiter(sums, np.int64, len(sums)), np.fromiter(sums.values(), np.int64, len(sums))
            if ((numbers >= 0) & (numbers < n_blocks) & (values >= 0) & (values < 2**32)).all():
                return numbers, values
    block, value = next(
        each for each in sums.items() if not (_is_number(each[0], n_blocks) and _is_number(each[1], 2**32))
    )
    raise CorruptCollectionError(
        f"octavo.db is damaged: it has the checksum {value!r} for block {block!r} of {name}; restore it from a backup"
    )


def _is_number(value: object, end: int) -> bool:
    return type(value) is int and 0 <= value < end


class BlockGuard:
    """Verifies blocks of one vector file the first time they are read, and remembers that they were good.

    Checking 384 bytes x 128 rows takes about 50 microseconds, once; after that a look-up in a bitmap.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sums = np.zeros(0, np.uint32)
        self._good = np.zeros(0, np.bool_)
        self._rows = 0
        self._all_good = 0  # blocks before this one are all good

    def expect(self, n_rows: int, sums: dict[int, int], *, known_good: bool) -> None:
        """Take over the committed checksums of blocks that changed; `known_good` when this process wrote them."""
        blocks = -(-n_rows // BLOCK_ROWS)
        if blocks - self._rows // BLOCK_ROWS > len(sums):  # before memory is taken for rows that may not exist
            raise CorruptCollectionError(
                f"octavo.db is damaged: it has checksums for {len(sums)} blocks of {self.name}, which should have {n_rows:,} "
                "rows; restore it from a backup"
            )
        if blocks > len(self._sums):
            capacity = max(blocks, 2 * len(self._sums), 64)
            self._sums = np.concatenate([self._sums, np.zeros(capacity - len(self._sums), np.uint32)])
            self._good = np.concatenate([self._good, np.zeros(capacity - len(self._good), np.bool_)])
        numbers, values = _checked_sums(sums, len(self._sums), self.name)
        if known_good:
            self._good[numbers] |= numbers * BLOCK_ROWS >= self._rows
        else:
            self._good[numbers] = False
        self._sums[numbers] = values
        if sums and not known_good:
            self._all_good = min(self._all_good, min(sums))
        self._rows = n_rows

    @property
    def rows(self) -> int:
        """Rows whose checksums are known."""
        return self._rows

    @property
    def all_good(self) -> bool:
        """Whether every block was verified."""
        return self._all_good * BLOCK_ROWS >= self._rows

    def tail(self) -> int:
        """Return the checksum of the last, partly filled block (0 when the last block is full)."""
        return int(self._sums[self._rows // BLOCK_ROWS]) if self._rows % BLOCK_ROWS else 0

    def check_rows(
        self,
        codes: Codes,
        rows: npt.NDArray[np.int64],
        announce: Callable[[Iterable[int], int], None] | None = None,
    ) -> bool:
        """Verify the blocks that hold `rows`; tells whether all of them were good before.

        Parameters
        ----------
        codes : ndarray of shape (n, row_bytes)
            All rows.
        rows : ndarray of int
            Some of them.
        announce : callable, optional
            Told where in the file blocks begin that are about to be read, and their bytes.

        Raises
        ------
        CorruptCollectionError
            When a block does not match its checksum.
        """
        if self.all_good:
            return True
        blocks = rows // BLOCK_ROWS
        good = self._good[blocks]
        if good.all():
            return True
        missing = np.unique(blocks[~good])
        if announce is not None:  # a single one, too: see `HeldFile.mapped`
            size = BLOCK_ROWS * codes.shape[1]
            announce((missing * size).tolist(), size)
        for block in missing.tolist():
            self._check(codes, block)
        return False

    def check_all(self, codes: Codes) -> None:
        """Verify every block; quick when they were verified before."""
        blocks = -(-min(len(codes), self._rows) // BLOCK_ROWS)
        if self._all_good >= blocks:
            return
        for block in np.flatnonzero(~self._good[:blocks]):
            self._check(codes, int(block))
        self._all_good = blocks

    def bad_blocks(self, codes: Codes) -> list[int]:
        """Return the numbers of all blocks of `codes` that do not match, reading every byte again."""
        blocks = -(-min(len(codes), self._rows) // BLOCK_ROWS)
        return [block for block in range(blocks) if self._sum(codes, block) != int(self._sums[block])]

    def _sum(self, codes: Codes, block: int) -> int:
        return zlib.crc32(
            np.ascontiguousarray(codes[block * BLOCK_ROWS : min((block + 1) * BLOCK_ROWS, self._rows)]).data
        )

    def _check(self, codes: Codes, block: int) -> None:
        end = min((block + 1) * BLOCK_ROWS, self._rows)
        if len(codes) < end:
            return  # an older view than the checksums: its last block cannot be compared, the next snapshot's will be
        if self._sum(codes, block) != int(self._sums[block]):
            first = block * BLOCK_ROWS
            raise CorruptCollectionError(
                f"{self.name} is damaged: rows {first} to {end - 1} do not match their checksum; run verify(repair=True)"
            )
        self._good[block] = True
