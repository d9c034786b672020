"""Models that need no download, for the tests of both frameworks."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

DIM = 64


def direction(word: str, dim: int = DIM) -> np.ndarray:
    """Return the unit vector of a word, the same in every process."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    row = np.random.default_rng(seed).standard_normal(dim)
    return row / np.linalg.norm(row)


def words(texts: Sequence[str]) -> list[Any]:
    """Encode for late interaction: give each word a direction of its own."""
    split = [text.lower().replace(".", "").split() for text in texts]
    return [np.array([direction(word) for word in listed], np.float32).reshape(-1, DIM) for listed in split]


def oracle(query: str, texts: Sequence[str]) -> list[float]:
    """Return what MaxSim gives with `words`."""
    (tokens,) = words([query])
    return [float((tokens @ matrix.T).max(axis=1).sum()) for matrix in words(texts)]


def let_the_loop_turn(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until an event loop has turned once, which it cannot while it is kept waiting for the caller."""
    turned = threading.Event()
    loop.call_soon_threadsafe(turned.set)
    assert turned.wait(60), "the event loop stood still while something worked"


class Slow:
    """A model that takes its time, as real ones do: it answers when the event loop has turned meanwhile.

    Called on the loop's own thread it never answers, however fast the machine is; called beside it, however slow.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.answers = 0

    def encode_documents(self, texts: list[str]) -> list[Any]:
        let_the_loop_turn(self.loop)
        self.answers += 1
        return words(texts)

    encode_queries = encode_documents
