"""Local and embedded collections behind one set of fixtures; skipped where Qdrant's packages are absent.

With QDRANT_URL in the environment the same tests run against that server, too, in collections that are deleted afterwards.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import octavo

SERVER = os.environ.get("QDRANT_URL")


def _create(where: str, path: Path, **options: Any) -> Any:
    if where == "local":
        return octavo.open(path, **options)
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    from octavo.integrations.qdrant import QdrantCollection

    place: dict[str, Any] = {"path": path} if where == "edge" else {"url": SERVER, "name": f"octavo-{uuid.uuid4().hex}"}
    return QdrantCollection.create(**place, full_scan_threshold=1, indexing_threshold=1, **options)


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """Return a client of the server in QDRANT_URL, which answers; collections that tests leave there are deleted."""
    client = pytest.importorskip("qdrant_client").QdrantClient(SERVER, timeout=5, check_compatibility=False)
    before = {collection.name for collection in client.get_collections().collections}
    yield client
    for collection in client.get_collections().collections:
        if collection.name.startswith("octavo-") and collection.name not in before:
            client.delete_collection(collection.name)
    client.close()


@pytest.fixture(params=["local", "edge", *(["server"] if SERVER else [])])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make collections of one kind, closed at the end."""
    if request.param == "server":
        request.getfixturevalue("server")
    made: list[Any] = []

    def create(**options: Any) -> Any:
        made.append(_create(request.param, tmp_path / f"c{len(made)}", **options))
        return made[-1]

    yield create
    for collection in made:
        collection.close()
