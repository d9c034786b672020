"""Threads and coroutines on one collection: each answer belongs to some commit, and nothing is lost.

``OCTAVO_CONCURRENCY_ROUNDS`` sets how much each writer does (15 by default; minutes take some thousand).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import octavo

DIM = 8
BATCH = 10
ROUNDS = int(os.environ.get("OCTAVO_CONCURRENCY_ROUNDS", "15"))


def _vectors(writer: int, batch: int) -> np.ndarray:
    return np.random.default_rng([writer, batch]).standard_normal((BATCH, DIM)).astype(np.float32)


def _ids(writer: int, batch: int) -> list[str]:
    return [f"{writer} {batch} {i}" for i in range(BATCH)]


def _write(kb: octavo.Collection, writer: int, model: dict[str, int]) -> None:
    """Add and delete batches of this writer's own; `model` says for each of its ids which round wrote it last."""
    for round_ in range(ROUNDS):
        batch = round_ % 7
        ids = _ids(writer, batch)
        if round_ % 5 == 4:
            assert kb.delete(ids) == sum(model.pop(identifier, None) is not None for identifier in ids)
            continue
        kb.add(
            [f"word{round_}"] * BATCH,
            ids=ids,
            metadata=[{"writer": writer, "batch": batch, "round": round_}] * BATCH,
            vectors=_vectors(writer, batch),
        )
        model.update(dict.fromkeys(ids, round_))
        if round_ % 11 == 10:
            kb.compact()


def _read(kb: octavo.Collection, reader: int, done: threading.Event) -> None:
    rng = np.random.default_rng(reader)
    while not done.is_set():
        writer, batch = int(rng.integers(4)), int(rng.integers(7))
        where = {"writer": writer, "batch": batch}
        assert kb.count(where) in (0, BATCH), "half a batch was seen"
        found = kb.search(_vectors(writer, batch)[3], BATCH, filter=where, exact=True)
        assert len(found) in (0, BATCH)
        assert len({document.metadata["round"] for document in found.documents}) <= 1, (
            "two versions of one batch were seen"
        )
        if len(found):
            assert found.ids[0] == _ids(writer, batch)[3]
        if rng.random() < 0.1:  # each one brings the full-text index up to date first, which keeps writers waiting
            words = kb.search(f"word{int(rng.integers(ROUNDS))}", 1_000, mode="text")
            assert len(words) % BATCH == 0, "half a batch was found by its words"
        done.wait(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [False, True], ids=["on disk", "in memory"])
def test_four_writers_and_four_readers(tmp_path: Path, in_memory: bool) -> None:
    models: list[dict[str, int]] = [{} for _ in range(4)]
    errors: list[BaseException] = []
    done = threading.Event()

    def guarded(job: Callable[..., None], *arguments: object) -> None:
        try:
            job(*arguments)
        except BaseException as err:
            errors.append(err)

    where = None if in_memory else tmp_path / "kb"
    with octavo.open(where, codec="int8 > float32", fit_after=60, lock_timeout=120) as kb:
        writers = [threading.Thread(target=guarded, args=(_write, kb, n, models[n])) for n in range(4)]
        readers = [threading.Thread(target=guarded, args=(_read, kb, n, done)) for n in range(4)]
        for thread in [*writers, *readers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        assert not errors, errors
        expected = {identifier: round_ for model in models for identifier, round_ in model.items()}
        assert {document.id: document.metadata["round"] for document in kb.documents()} == expected
        assert kb.verify().problems == []


async def test_asyncio(tmp_path: Path) -> None:
    """The collection blocks, so coroutines hand it to threads; a hundred at once get what they asked for."""
    with octavo.open(tmp_path / "kb", fit_after=60) as kb:
        await asyncio.gather(
            *(asyncio.to_thread(kb.add, None, _ids(0, batch), None, _vectors(0, batch)) for batch in range(20))
        )
        searches = [(batch, row) for batch in range(20) for row in range(0, BATCH, 2)]
        found = await asyncio.gather(
            *(asyncio.to_thread(kb.search, _vectors(0, batch)[row], 1) for batch, row in searches)
        )
        assert [result.ids for result in found] == [[_ids(0, batch)[row]] for batch, row in searches]
        assert len(kb) == 20 * BATCH
