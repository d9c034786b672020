"""What a search is about to read is announced, block by block, and the system reads nothing around it."""

from __future__ import annotations

import mmap
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo import _files
from octavo._files import REQUEST_BYTES, Directory, HeldFile, requests
from octavo.errors import CorruptCollectionError
from octavo.store import _cell_format as cell_format
from octavo.store import vectors as vectors_module
from octavo.store.vectors import BLOCK_ROWS, BlockGuard, VectorFile, block_checksums

DIM = 32


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Position and length of what the system is told of."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, start, length, advice: found.append((start, length)), raising=False
    )
    return found


@given(
    numbers=st.lists(st.integers(0, 60), max_size=20, unique=True).map(sorted),
    length=st.sampled_from([1, 100, 48 << 10, REQUEST_BYTES, REQUEST_BYTES + 1]),
)
def test_requests_are_the_stretches_without_what_lies_between(numbers: list[int], length: int) -> None:
    found = list(requests((number * length, number * length + length) for number in numbers))
    assert all(0 < size <= REQUEST_BYTES for _, size in found)
    ends = [start + size for start, size in found]
    assert all(end <= start for end, (start, _) in zip(ends, found[1:], strict=False))
    assert sum(size for _, size in found) == len(numbers) * length
    touched = {number for start, size in found for number in range(start // length, (start + size - 1) // length + 1)}
    assert touched == set(numbers)
    if length * 61 <= REQUEST_BYTES:
        assert len(found) == len(set(numbers) - {number + 1 for number in numbers})


# ---------------------------------------------------------------------- records of cells


def guarded(folder: Path, rows: int, row_bytes: int, start: int) -> cell_format.RecordGuard:
    """Return the guard of a file of random records that begin at `start`."""
    data = np.random.default_rng(0).integers(0, 256, rows * row_bytes, np.uint8)
    (folder / "records").write_bytes(bytes(start) + data.tobytes())
    parts = range(0, len(data), cell_format.BLOCK_BYTES)
    sums = np.array([zlib.crc32(data[part : part + cell_format.BLOCK_BYTES]) for part in parts], np.uint32)
    file = HeldFile(os.open(folder / "records", os.O_RDONLY))
    return cell_format.RecordGuard("records", data, sums, row_bytes, file=file, start=start)


def test_each_block_of_records_is_announced_before_it_is_verified_and_once(
    tmp_path: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    row_bytes, rows, start = 56, 40_000, 128
    guard, block = guarded(tmp_path, rows, row_bytes, start), cell_format.BLOCK_BYTES
    verified: list[int] = []
    verify = cell_format.RecordGuard._verify

    def noted(self: cell_format.RecordGuard, number: int) -> None:
        assert start + number * block in covered_now()
        verified.append(number)
        verify(self, number)

    def covered_now() -> set[int]:
        return {at for position, length in asked for at in range(position, position + length, block)}

    monkeypatch.setattr(cell_format.RecordGuard, "_verify", noted)
    rng = np.random.default_rng(1)
    known: set[int] = set()
    for _ in range(20):
        first = np.sort(rng.integers(0, rows - 700, 5))
        last = first + rng.integers(0, 700, 5)  # cells without rows among them, and some of many blocks
        asked.clear()
        guard.check(first, last)
        wanted = {
            row * row_bytes + byte for a, b in zip(first, last, strict=True) for row in range(a, b) for byte in (0, 55)
        }
        touched = {byte // block for byte in wanted} | {
            number
            for a, b in zip(first, last, strict=True)
            if b > a
            for number in range(a * row_bytes // block, (b * row_bytes - 1) // block + 1)
        }
        assert sum(length for _, length in asked) == len(touched - known) * block
        assert covered_now() == {start + number * block for number in touched - known}
        known |= touched
        assert sorted(verified) == sorted(known)
    asked.clear()
    guard.check_all()
    assert covered_now() == {
        start + number * block for number in range(-(-rows * row_bytes // block)) if number not in known
    }
    asked.clear()
    guard.check_all()
    guard.check(np.array([0]), np.array([rows]))
    assert asked == []


def test_a_whole_segment_is_announced_a_few_megabytes_at_a_time(
    tmp_path: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_format, "_ANNOUNCED", 4)
    guard, block = guarded(tmp_path, 4_000, 56, 0), cell_format.BLOCK_BYTES
    ahead: list[int] = []
    verify = cell_format.RecordGuard._verify

    def noted(self: cell_format.RecordGuard, number: int) -> None:
        ahead.append(sum(length for _, length in asked) // block - number)
        verify(self, number)

    monkeypatch.setattr(cell_format.RecordGuard, "_verify", noted)
    guard.check_all()
    assert len(ahead) == 14
    assert 1 <= min(ahead) <= max(ahead) <= 4


def test_a_damaged_block_of_records_is_found_whatever_was_announced(tmp_path: Path) -> None:
    guard = guarded(tmp_path, 4_000, 56, 0)
    guard._data = guard._data.copy()
    guard._data[5 * cell_format.BLOCK_BYTES + 7] ^= 1
    guard.check(np.array([0]), np.array([100]))
    with pytest.raises(CorruptCollectionError, match="block 5 does not match"):
        guard.check(np.array([0, 1_400]), np.array([10, 1_500]))
    assert guard.damaged


# ---------------------------------------------------------------------- rows of vectors


def test_blocks_of_rows_are_announced_even_a_single_one(tmp_path: Path, asked: list[tuple[int, int]]) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (5_000, 24), np.uint8)
    folder = Directory(tmp_path)
    file = VectorFile(folder, "rows.vec", 24)
    file.write(0, codes)
    guard, size = BlockGuard("rows.vec"), BLOCK_ROWS * 24
    guard.expect(5_000, block_checksums(codes, 0, 0), known_good=False)
    guard.check_rows(file.view(5_000), np.array([BLOCK_ROWS]), file.announce)
    assert asked == [(size, size)]
    guard.check_rows(file.view(5_000), np.array([0, BLOCK_ROWS, 2 * BLOCK_ROWS, 20 * BLOCK_ROWS]), file.announce)
    assert asked[1:] == [(0, size), (2 * size, size), (20 * size, size)]
    guard.check_rows(file.view(5_000), np.array([20 * BLOCK_ROWS + 1]), file.announce)
    assert len(asked) == 4
    file.close()
    folder.close()


def known_one_by_one(
    sums: dict[int, int], good: np.ndarray, before: int, *, known_good: bool
) -> tuple[np.ndarray, dict[int, int]]:
    """What `expect` does, one block after the other."""
    good = good.copy()
    for block in sums:
        good[block] = known_good and (good[block] or block * BLOCK_ROWS >= before)
    return good, sums


@given(
    rows=st.integers(1, 20 * BLOCK_ROWS),
    more=st.integers(0, 20 * BLOCK_ROWS),
    changed=st.sets(st.integers(0, 19)),
    known_good=st.booleans(),
    seen=st.sets(st.integers(0, 19)),
)
def test_checksums_are_taken_over_as_if_one_by_one(
    rows: int, more: int, changed: set[int], known_good: bool, seen: set[int]
) -> None:
    blocks = -(-rows // BLOCK_ROWS)
    guard = BlockGuard("rows.vec")
    guard.expect(rows, {block: block for block in range(blocks)}, known_good=False)
    guard._good[[block for block in seen if block < blocks]] = True
    after = -(-(rows + more) // BLOCK_ROWS)
    sums = {
        block: 1_000 + block
        for block in sorted({*(b for b in changed if b < after), *range(rows // BLOCK_ROWS, after)})
    }
    before = np.zeros(after, np.bool_)
    before[:blocks] = guard._good[:blocks]
    good, _ = known_one_by_one(sums, before, rows, known_good=known_good)
    guard.expect(rows + more, sums, known_good=known_good)
    assert guard._good[:after].tolist() == good.tolist()
    assert guard._sums[:after].tolist() == [sums.get(block, block) for block in range(after)]


@pytest.mark.parametrize(
    "sums", [{0: True}, {True: 1}, {0: 1.5}, {0.0: 1}, {0: 2**70}, {-(2**70): 1}, {64: 1}, {0: b"1"}]
)
def test_what_is_no_checksum_is_named(sums: dict[int, int]) -> None:
    with pytest.raises(CorruptCollectionError, match=re.escape(f"checksum {next(iter(sums.values()))!r} for block")):
        BlockGuard("rows.vec").expect(1, sums, known_good=False)


# ---------------------------------------------------------------------- what is not in memory any more


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Pages of files that are not in memory."""
    found: set[int] = set()
    monkeypatch.setattr(_files, "CAN_TELL", True)
    monkeypatch.setattr(_files, "in_memory", lambda fd, position: position // mmap.PAGESIZE not in found)
    return found


@given(stretches=st.lists(st.tuples(st.integers(0, 1 << 22), st.integers(1, 30_000)), min_size=1, max_size=20))
def test_pages_that_are_missing_are_announced_once(stretches: list[tuple[int, int]]) -> None:
    asked: list[tuple[int, int]] = []
    starts = np.array([start for start, _ in stretches])
    ends = starts + np.array([length for _, length in stretches])
    read, write = os.pipe()
    os.close(write)
    file = HeldFile(read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "CAN_TELL", True)
        patch.setattr(_files, "in_memory", lambda fd, position: False)
        patch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
        patch.setattr(
            os, "posix_fadvise", lambda fd, start, length, advice: asked.append((start, length)), raising=False
        )
        assert file.announce_missing(starts, ends)
    page = mmap.PAGESIZE
    wanted = {each for start, end in zip(starts, ends, strict=True) for each in range(start // page, -(-end // page))}
    told = [each for start, length in asked for each in range(start // page, -(-(start + length) // page))]
    assert sorted(told) == sorted(wanted)


def test_whoever_finds_nothing_missing_does_not_look_again_at_once(
    tmp_path: Path, asked: list[tuple[int, int]], absent: set[int]
) -> None:
    (tmp_path / "file").write_bytes(bytes(100 * mmap.PAGESIZE))
    file = HeldFile(os.open(tmp_path / "file", os.O_RDONLY))
    starts = np.arange(0, 100, 10) * mmap.PAGESIZE
    assert file.may_miss()
    assert not file.announce_missing(starts, starts + 10)
    absent.update(range(100))
    found = [file.may_miss() and file.announce_missing(starts, starts + 10) for _ in range(20)]
    assert found == [False] * 15 + [True] * 5
    assert len(asked) == 5 * 10


def test_rows_and_records_that_were_verified_are_announced_when_they_have_gone(
    with_cells: tuple[Path, np.ndarray], asked: list[tuple[int, int]], absent: set[int]
) -> None:
    path, vectors = with_cells
    with octavo.open(path) as kb:
        expected = [kb.search(vector, 10, exact=False) for vector in vectors[:20]]
        asked.clear()
        absent.update(range(1 << 12))
        for vector, before in zip(vectors[:20], expected, strict=True):
            for _ in range(17):
                again = kb.search(vector, 10, exact=False)
                assert again.ids == before.ids
                assert again.scores.tolist() == before.scores.tolist()
        assert asked


def test_the_system_knows_whether_rows_are_read_in_order(with_cells: tuple[Path, np.ndarray]) -> None:
    path, vectors = with_cells
    with octavo.open(path) as kb:
        file = kb._store.snapshot.tiers[-1].file

        def scattered() -> bool:
            if sys.platform.startswith("linux"):
                assert ("rr" in flags_of(path)["vec"]) == file._scattered
            return file._scattered

        assert not scattered()
        kb.search(vectors[7], 5, exact=False)
        assert scattered()
        kb.search(vectors[7], 5, exact=True)
        assert not scattered()
        kb.search(vectors[8], 5, exact=False, lambda_mult=0.5)
        assert scattered()
        assert kb.verify().ok
        assert not scattered()
        everything = np.arange(3_000)
        file.expect(everything[::30])
        assert scattered()
        file.expect(everything)
        assert not scattered()
        file.expect(np.array([0, *range(1_500), 10**6]))
        assert scattered()


# ---------------------------------------------------------------------- a whole collection


def flags_of(path: Path) -> dict[str, list[str]]:
    """Return what Linux knows of the maps of a collection's files, by the ending of their names."""
    maps = Path("/proc/self/smaps").read_text()
    found = re.findall(rf"{re.escape(str(path))}/(\S+)\n(?:\w+:.*\n)*?VmFlags:(.*)\n", maps)
    return {name.rpartition(".")[2]: flags.split() for name, flags in found}


@pytest.fixture
def with_cells(
    tmp_path: Path, lowered_limits: Callable[..., AbstractContextManager[None]]
) -> Iterator[tuple[Path, np.ndarray]]:
    """A collection with cells, and its vectors."""
    vectors = np.random.default_rng(0).standard_normal((3_000, DIM)).astype(np.float32)
    with lowered_limits(cells_min=1_000, tail_max=300, few=10):
        with octavo.open(tmp_path / "kb", fit_after=500) as kb:
            kb.add(vectors=vectors, ids=[str(i) for i in range(len(vectors))])
            kb.flush()
        yield tmp_path / "kb", vectors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells how a file is mapped")
@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="this Python cannot tell the system")
def test_nothing_is_read_around_what_is_read_of_cells(with_cells: tuple[Path, np.ndarray]) -> None:
    path, _ = with_cells
    with octavo.open(path) as kb:
        assert kb._store.snapshot.cells is not None
        flags = flags_of(path)
    assert "rr" in flags["segment"]
    assert "rr" in flags["cells"]
    assert "rr" not in flags["vec"]  # until somebody reads scattered rows


def test_heads_of_files_and_blocks_are_announced_when_they_are_read(
    with_cells: tuple[Path, np.ndarray], asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, vectors = with_cells
    sizes = {each.suffix: each.stat().st_size for each in path.iterdir()}
    with octavo.open(path) as kb:
        assert (0, sizes[".cells"]) in asked
        heads = [length for start, length in asked if start == 0 and length != sizes[".cells"]]
        view = kb._store.snapshot.cells
        assert view is not None
        assert heads == [sizes[".segment"] - view.parts[0].segment.records.nbytes]
        asked.clear()
        found = kb.search(vectors[7], 5, exact=False)
        assert found.ids[0] == "7"
        assert asked
        asked.clear()
        assert kb.search(vectors[7], 5, exact=False).ids == found.ids
        assert asked == []


@pytest.mark.parametrize("missing", ["posix_fadvise", "MADV_RANDOM"])
def test_answers_are_the_same_where_the_system_cannot_be_told(
    with_cells: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    path, vectors = with_cells
    with octavo.open(path) as kb:
        expected = [kb.search(vector, 10, exact=False).ids for vector in vectors[:20]]
    monkeypatch.delattr(os if missing == "posix_fadvise" else mmap, missing, raising=False)
    monkeypatch.setattr(_files, "CAN_TELL", False)
    monkeypatch.setattr(vectors_module, "_CAN_ADVISE", False)
    with octavo.open(path) as kb:
        assert kb._store.snapshot.cells is not None
        assert [kb.search(vector, 10, exact=False).ids for vector in vectors[:20]] == expected
