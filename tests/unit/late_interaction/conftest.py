"""Random documents of many vectors, and the obvious way to score them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo

DIM = 24


class World:
    """Texts, token matrices, queries, and MaxSim in numpy."""

    def __init__(self, n: int = 400, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        topics = rng.standard_normal((12, DIM))
        self.ids = [f"d{number}" for number in range(n)]
        self.texts = [f"text number {number} topic{number % 12}" for number in range(n)]
        self.metadata = [{"n": number, "topic": number % 12} for number in range(n)]
        self.tokens = [
            topics[number % 12] + 1.5 * rng.standard_normal((int(rng.integers(1, 12)), DIM)) for number in range(n)
        ]
        self.queries = [
            topics[number % 12] + 1.5 * rng.standard_normal((int(rng.integers(1, 7)), DIM)) for number in range(20)
        ]

    @staticmethod
    def maxsim(query: np.ndarray, document: np.ndarray) -> float:
        if not len(document):
            return -np.inf
        query, document = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (query, document))
        return float((query @ document.T).max(axis=1).sum())

    def ranking(self, query: np.ndarray, among: Sequence[int] | None = None) -> list[tuple[str, float]]:
        numbers = range(len(self.ids)) if among is None else among
        scored = [(self.ids[number], self.maxsim(query, self.tokens[number])) for number in numbers]
        return sorted(scored, key=lambda pair: -pair[1])

    def add_to(self, kb: octavo.MultiVectorCollection, numbers: Sequence[int] | None = None) -> None:
        numbers = list(range(len(self.ids)) if numbers is None else numbers)
        kb.add(
            [self.texts[number] for number in numbers],
            ids=[self.ids[number] for number in numbers],
            metadata=[self.metadata[number] for number in numbers],
            token_vectors=[self.tokens[number] for number in numbers],
        )


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "kb" if request.param == "disk" else None


def letters(texts: list[str]) -> list[np.ndarray]:
    """An encoder for tests: one fixed vector a word, a little moved by the word before it."""
    return [np.array([_word(word) for word in text.split()]).reshape(-1, DIM) for text in texts]


def _word(word: str) -> np.ndarray:
    import zlib

    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIM)


@pytest.fixture
def words() -> Callable[[list[str]], list[Any]]:
    return letters
