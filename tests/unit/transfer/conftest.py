"""Collections to move."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import octavo
from octavo import Collection, MultiVectorCollection

Fill = Callable[[Collection, int], None]


@pytest.fixture
def fill() -> Fill:
    """Add documents with every kind of text, metadata and payload."""

    def add(collection: Collection, n: int, *, seed: int = 0, dim: int = 24) -> None:
        rng = np.random.default_rng(seed)
        options = {
            "ids": [f"id/{number} ü" for number in range(n)],
            "metadata": [
                {"n": number, "half": number / 2, "even": number % 2 == 0, "l": [1, None]} for number in range(n)
            ],
            "payloads": [None if number % 3 else f'{{"p": {number}}}' for number in range(n)],
        }
        texts = [f"text {number}, Straße" if number % 7 else "" for number in range(n)]
        if isinstance(collection, MultiVectorCollection):
            matrices = [rng.standard_normal((number % 6, dim)).astype(np.float32) for number in range(n)]
            collection.add(texts, token_vectors=matrices, **options)
        else:
            collection.add(texts, vectors=rng.standard_normal((n, dim)).astype(np.float32), **options)

    return add


@pytest.fixture
def source(fill: Fill) -> Collection:
    """A fitted collection of 300 documents behind a reducer, so that its vectors are not of unit length."""
    collection = octavo.open(codec="svd:50%|int8", fit_after=100)
    fill(collection, 300)
    return collection
