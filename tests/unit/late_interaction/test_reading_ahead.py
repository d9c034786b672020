"""Reading ahead asks for whole blocks of rows, each of them once."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._files import REQUEST_BYTES, Directory
from octavo.store import vectors as _vectors
from octavo.store.vectors import BLOCK_ROWS, VectorFile


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), min_size=1, max_size=12),
    row_bytes=st.sampled_from([1, 48, 384, 5_000]),
)
def test_requests_cover_the_touched_blocks_once(gaps, row_bytes):
    starts, ends, at = [], [], 0
    for gap, length in gaps:
        starts.append(at + gap)
        ends.append(at := at + gap + length)
    requests = list(_vectors._whole_blocks(np.array(starts), np.array(ends), row_bytes))
    touched = {row // BLOCK_ROWS for start, end in zip(starts, ends, strict=True) for row in range(start, end)}
    block_bytes = BLOCK_ROWS * row_bytes
    before = 0
    for position, length in requests:
        assert position >= before
        assert 0 < length <= REQUEST_BYTES
        before = position + length
        assert set(range(position // block_bytes, (before - 1) // block_bytes + 1)) <= touched
    assert sum(length for _, length in requests) == len(touched) * block_bytes


def test_asks_only_for_what_is_not_in_memory(tmp_path, monkeypatch):
    file = VectorFile(Directory(tmp_path), "rows.vec", 16)
    file.write(0, np.zeros((1_000, 16), np.uint8))
    asked = []
    monkeypatch.setattr(_vectors, "_CAN_PREFETCH", True)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, *range_and_advice: asked.append(range_and_advice), raising=False
    )
    starts, ends = np.array([10, 700]), np.array([20, 800])
    monkeypatch.setattr(_vectors, "_in_memory", lambda fd, position: True)
    assert not file.prefetch(starts, ends)
    assert asked == []
    monkeypatch.setattr(_vectors, "_in_memory", lambda fd, position: position < 16 * 700)
    assert file.prefetch(starts, ends)
    assert asked == [(0, 16 * 128, 3), (16 * 640, 16 * 256, 3)]
    assert not file.prefetch(starts[:0], ends[:0])
    file.close()


@pytest.mark.parametrize("why", ["in memory", "no such call", "gone"])
def test_nothing_is_asked(tmp_path, monkeypatch, why):
    file = VectorFile(None if why == "in memory" else Directory(tmp_path), "rows.vec", 16)
    file.write(0, np.zeros((300, 16), np.uint8))
    monkeypatch.setattr(_vectors, "_CAN_PREFETCH", why != "no such call")
    monkeypatch.setattr(_vectors, "_in_memory", lambda fd, position: False)
    if why == "gone":
        file.unlink()
    assert not file.prefetch(np.array([0]), np.array([300]))
    file.close()
