"""The systems of `bench_million.py`, one module for each package."""

from __future__ import annotations

from rivals import (
    chroma,
    faiss_indexes,
    graph_indexes,
    lance,
    octavo_collection,
    qdrant,
    scann_index,
    turboquant,
    turbovec_index,
)
from rivals.base import System

MODULES = (
    octavo_collection,
    turbovec_index,
    faiss_indexes,
    graph_indexes,
    scann_index,
    turboquant,
    lance,
    qdrant,
    chroma,
)

#: By name; Octavo first, because every ratio is to it, then those that build quickest.
SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in sorted(
        (system for module in MODULES for system in module.SYSTEMS),
        key=lambda system: (not system.name.startswith("Octavo"), system.minutes),
    )
}
