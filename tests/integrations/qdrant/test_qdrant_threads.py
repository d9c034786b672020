"""Threads that write and search one collection at the same time: every answer is one that a moment allows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

WRITERS, EACH, DIM = 3, 40, 16


def test_writers_and_readers_share_a_collection(make: Callable[..., Any]) -> None:
    vectors = np.random.default_rng(0).standard_normal((WRITERS * EACH, DIM)).astype(np.float32)
    kb = make(codec="float32", metric="cosine")
    kb.add(["first"], ids=["first"], metadata=[{"writer": -1}], vectors=vectors[:1])
    done = threading.Event()

    def write(writer: int) -> None:
        for n in range(EACH):
            row = writer * EACH + n
            kb.add([f"text {row}"], ids=[f"d{row}"], metadata=[{"writer": writer}], vectors=vectors[row : row + 1])
            if n % 4 == 3:
                assert kb.delete([f"d{row - 1}"]) == 1

    def read() -> int:
        asked = 0
        while not done.is_set() or asked == 0:
            for hit in kb.search(vectors[asked % len(vectors)], 5, filter={"writer": {"$gte": 0}}):
                row = int(hit.id[1:])
                assert (hit.text, hit.metadata) == (f"text {row}", {"writer": row // EACH})
            asked += 1
        return asked

    with ThreadPoolExecutor(WRITERS + 2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for future in [pool.submit(write, writer) for writer in range(WRITERS)]:
                future.result()
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)
    left = {f"d{row}" for row in range(WRITERS * EACH) if row % EACH % 4 != 2}
    assert set(kb.ids({"writer": {"$gte": 0}})) == left
    assert kb.count() == len(left) + 1
