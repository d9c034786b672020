"""Thousands of random filter trees: Qdrant's answer must be that of `matches`."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.filters import (
    And,
    Between,
    Compare,
    Contains,
    Exists,
    Field,
    Filter,
    In,
    Like,
    Not,
    Or,
    PartOf,
    TextMatch,
    matches,
)

SCALARS: list[Any] = [None, True, False, 0, 1, 1.0, -2, 0.1, 0.1 + 2**-56, 2**53, 2**53 + 1, 2**64, -(2**70), 1e300]
SCALARS += ["", "a", "ab", "b.c", "Ab", "\u00e9", "1", "true"]
TIMES: list[Any] = [
    date(2024, 5, 1),
    datetime(2024, 5, 1),
    datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2))),
]
TIMES += [datetime(2024, 5, 1, 0, 0, 0, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), date(1, 1, 1)]
TIME_TEXTS = ["2024-05-01", "2024-05-01T00:00:00.000001+00:00", "2024-05-02"]
SCALARS += [*TIMES, *TIME_TEXTS]
KEYS = ["a", "b", "a.b", "a[]", ""]


def _value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if kind < 0.65 or depth > 1:
        return rng.choice(SCALARS)
    if kind < 0.85:
        items = [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return items if rng.random() < 0.8 else tuple(items)
    return {key: _value(rng, depth + 1) for key in rng.sample(KEYS, rng.randrange(3))}


def _operand(rng: random.Random) -> Any:
    return rng.choice(SCALARS) if rng.random() < 0.85 else [rng.choice(SCALARS) for _ in range(rng.randrange(3))]


def _tree(rng: random.Random, depth: int = 0) -> Filter:
    if depth < 3 and rng.random() < 0.5:
        if rng.random() < 0.3:
            return Not(_tree(rng, depth + 1))
        return rng.choice([And, Or])(*(_tree(rng, depth + 1) for _ in range(rng.randrange(4))))
    path = [rng.choice(KEYS) for _ in range(1 + (rng.random() < 0.3))]
    field = Field(*path, elements=rng.random() < 0.4, typed=rng.random() < 0.5)
    numbers = [value for value in SCALARS if isinstance(value, int | float)]
    strings = [value for value in SCALARS if isinstance(value, str)]
    pair = rng.choice([numbers, strings, TIMES, TIME_TEXTS])
    make = [
        lambda: Compare(field, rng.choice(["==", ">", ">=", "<", "<="]), _operand(rng)),
        lambda: Compare(field, rng.choice([">", ">=", "<", "<="]), rng.choice([float("inf"), float("-inf"), *numbers])),
        lambda: In(field, [_operand(rng) for _ in range(rng.randrange(4))]),
        lambda: Exists(field),
        lambda: Contains(field, _operand(rng)),
        lambda: Between(field, rng.choice(pair), rng.choice(pair)),
        lambda: Like(field, rng.choice(["a%", "%b", "_", "%"]), rng.random() < 0.5),
        lambda: TextMatch(field, rng.choice(strings), rng.random() < 0.5),
        lambda: PartOf(field, rng.choice(["ab", "b.c true"])),
    ]
    return rng.choice(make)()


@pytest.mark.parametrize("seed", [0, 1])
def test_random_trees_select_what_matches_says(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    from octavo.integrations.qdrant import QdrantCollection

    rng = random.Random(seed)
    documents = [{key: _value(rng) for key in rng.sample(KEYS, rng.randrange(1, 5))} for _ in range(120)]
    with QdrantCollection.create(path=tmp_path / "q", codec="float32", ranges=["a", ("b", "a.b")]) as collection:
        vectors = np.random.default_rng(seed).normal(size=(len(documents), 4))
        names = [str(number) for number in range(len(documents))]
        collection.add(names, ids=names, metadata=documents, vectors=vectors)
        selective = 0
        for number in range(1500):
            tree = _tree(rng)
            expected = {names[i] for i, metadata in enumerate(documents) if matches(tree, metadata)}
            assert collection.count(tree) == len(expected), tree
            selective += 0 < len(expected) < len(documents)
            if number % 10 == 0:
                assert set(collection.ids(tree)) == expected, tree
                assert set(collection.search(vectors[0], len(documents), filter=tree, exact=True).ids) == expected, tree
        assert selective > 500
