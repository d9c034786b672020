"""The contract of a collection, on those in Qdrant's core and its client."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octavo.testing import collection_checks

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")

from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection

KINDS: dict[str, Callable[..., Any]] = {
    "dense int8": lambda path: QdrantCollection.create(path=path, codec="int8"),
    "dense float32, dot, by graph": lambda path: QdrantCollection.create(
        path=path, codec="float32", metric="dot", full_scan_threshold=1, indexing_threshold=1
    ),
    "late int8": lambda path: QdrantMultiVectorCollection.create(path=path, codec="int8"),
    "late float32": lambda path: QdrantMultiVectorCollection.create(path=path, codec="float32", pool_factor=1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", collection_checks(), ids=str)
def test_contract(check: Any, kind: str, tmp_path: Path) -> None:
    numbers = itertools.count()
    check(lambda: KINDS[kind](tmp_path / f"c{next(numbers)}"))


@pytest.mark.parametrize("make", [QdrantCollection.create, QdrantMultiVectorCollection.create])
def test_contract_of_sparse_vectors(make: Any, tmp_path: Path) -> None:
    (check,) = [check for check in collection_checks() if str(check) == "sparse_search"]
    numbers = itertools.count()
    check(lambda: make(path=tmp_path / f"c{next(numbers)}", sparse=True))
