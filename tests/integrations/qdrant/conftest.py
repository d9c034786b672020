"""Local and embedded collections behind one set of fixtures; skipped where Qdrant's packages are absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import quire


def _create(where: str, path: Path, **options: Any) -> Any:
    if where == "local":
        return quire.open(path, **options)
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    from quire.integrations.qdrant import QdrantCollection

    return QdrantCollection.create(path=path, full_scan_threshold=1, indexing_threshold=1, **options)


@pytest.fixture(params=["local", "edge"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make collections of one kind, closed at the end."""
    made: list[Any] = []

    def create(**options: Any) -> Any:
        made.append(_create(request.param, tmp_path / f"c{len(made)}", **options))
        return made[-1]

    yield create
    for collection in made:
        collection.close()
