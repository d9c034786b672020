"""How many bytes a configuration takes for another number of documents than were measured."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import octavo
from octavo._layout import CodeLayout
from octavo.compression import Codec
from octavo.eval.results import Result
from octavo.index import Graph
from octavo.index.cells import bytes_for
from octavo.index.planner import cells_min, graph_min
from octavo.store.info import most_original_bytes

Where = Literal["ram", "disk", "index"]

# Rows that are enough to fit a codec's shape on, and to measure what a graph takes for each of its rows.
_FIT_ROWS, _GRAPH_ROWS = 64, 2_000


@dataclass(frozen=True)
class Footprint:
    """Bytes of a collection: measured, or estimated as ``fixed + per_document * documents + graph``.

    Parameters
    ----------
    documents : int
        For how many documents.
    total : float
        Bytes.
    fixed : float
        What does not grow: on disk what an empty collection takes with this codec's learned state, in RAM that state; and
        the original vectors that are kept of as many documents.
    per_document : float
        Measured bytes of one more document, without the graph.
    graph : float
        Of the index that finds candidates, cells or a graph. Small collections have none, larger ones do: then cells are
        counted, and a graph is measured on random codes of the same shape.
    measured : bool
        False where `total` was estimated.
    """

    documents: int
    total: float
    fixed: float
    per_document: float
    graph: float
    measured: bool

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def footprint(result: Result, where: Where, documents: int | None = None) -> Footprint:
    """Return what a configuration takes.

    Parameters
    ----------
    result : Result
        A run.
    where : {"ram", "disk", "index"}
        ``index``: on disk, without texts, metadata and full text.
    documents : int, optional
        For another number of documents than were measured.
    """
    storage = result.storage
    parts = storage.ram if where == "ram" else storage.disk
    if where == "index":
        total = storage.index_bytes_per_document * storage.documents
    else:
        total = float(sum(parts.values())) if parts else _per_document(result, where) * storage.documents
    graph = float(parts.get("graph", 0) + parts.get("cells", 0))
    fixed = 0.0
    if where == "disk" and result.configuration.store is not None:
        fixed = float(parts.get("log", 0))  # grows to 64 MB only: Qdrant cuts it
    elif where == "ram" and result.configuration.store is None:
        fixed = float(parts.get("codec", 0))
    elif where == "disk" and storage.measured and not result.configuration.late:
        fixed = min(float(_empty_bytes(_codec(result), _dim(result))), total - graph)
    kept = float(parts.get("originals", 0)) if result.configuration.store is None else 0.0
    each = (total - graph - fixed - kept) / storage.documents
    if documents is None or documents == storage.documents:
        return Footprint(storage.documents, total, fixed + kept, each, graph, measured=True)
    if kept:  # of some documents only, once there are many
        most = float(most_original_bytes(_dim(result), late=result.configuration.late))
        fixed += min(kept * documents / storage.documents, max(kept, most))
    scaled = _graph_bytes(result, where, documents, graph) if storage.measured else 0.0
    return Footprint(documents, fixed + each * documents + scaled, fixed, each, scaled, measured=False)


def _per_document(result: Result, where: Where) -> float:
    storage = result.storage
    return {
        "ram": storage.ram_bytes_per_document,
        "disk": storage.disk_bytes_per_document,
        "index": storage.index_bytes_per_document,
    }[where]


def _codec(result: Result) -> str:
    return result.configuration.codec or "float32"


def _dim(result: Result) -> int:
    return result.model.dim if result.model is not None else 1


def _graph_bytes(result: Result, where: Where, documents: int, measured: float) -> float:
    chosen = result.configuration
    if result.model is None or chosen.exact is True or chosen.late or chosen.store is not None:
        # Nothing to link; documents of many vectors, whose graph is not one over the codec's coarse tier; or Qdrant's graph,
        # which is always there.
        return measured * documents / result.storage.documents
    layout = _coarse_layout(_codec(result), result.model.dim)
    least = graph_min(layout) if chosen.has_graph else cells_min(layout)
    if chosen.exact is None and documents < least:
        return 0.0
    if measured:
        return measured * documents / result.storage.documents
    if not chosen.has_graph:
        return bytes_for(documents, result.model.dim)
    return _graph_row_bytes(layout, chosen.connectivity, where) * documents


@functools.lru_cache(maxsize=256)
def _coarse_layout(codec: str, dim: int) -> CodeLayout:
    fitted = Codec.parse(codec).fit(_random(max(_FIT_ROWS, dim), dim), seed=0, lengths=False)
    return fitted.tiers[0].layout


@functools.lru_cache(maxsize=64)
def _graph_row_bytes(layout: CodeLayout, connectivity: int, where: Where) -> float:
    codes = np.random.default_rng(0).integers(0, 256, (_GRAPH_ROWS, layout.row_bytes), dtype=np.uint8)
    if layout.kind in ("f32", "f16", "bf16", "e4m3", "e5m2"):
        codes[:] = 0  # random bytes could be NaN; what a row takes does not depend on its values
    graph = Graph(layout, connectivity=connectivity, expansion_add=16)
    graph.add(np.arange(_GRAPH_ROWS), codes, threads=1)
    if where == "ram":
        return graph.memory_bytes / _GRAPH_ROWS
    with tempfile.TemporaryDirectory() as directory:
        graph.save(Path(directory, "graph"))
        return Path(directory, "graph").stat().st_size / _GRAPH_ROWS


@functools.lru_cache(maxsize=256)
def _empty_bytes(codec: str, dim: int) -> int:
    """Return what a collection with this codec takes on disk before its first document."""
    state = Codec.parse(codec).fit(_random(max(_FIT_ROWS, dim), dim), seed=0, lengths=False).to_bytes()
    with tempfile.TemporaryDirectory() as directory:
        with octavo.open(Path(directory, "empty"), codec=codec, dim=dim):
            pass
        empty = sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())
    return empty + len(state)


def _random(n: int, dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
