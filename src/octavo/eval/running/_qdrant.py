"""Measure one configuration in Qdrant's core in this process, as `_measure` does in a local collection."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from octavo.eval.configurations import Configuration
from octavo.eval.results import Check, Storage
from octavo.eval.running._checks import StoredFacts
from octavo.eval.running._heat_maps import explain_match
from octavo.eval.running._measure import AGREEMENT_DEPTH, Built, Embedded, Measured, search_and_time, vectors_of
from octavo.eval.running.timing import Timing
from octavo.integrations.qdrant import QdrantCollection, QdrantInfo, QdrantMultiVectorCollection
from octavo.integrations.qdrant.edge import EdgeTransport
from octavo.integrations.qdrant.transport import DENSE, TEXT, TOKENS

#: KB of vectors from which on Qdrant builds its graph and quantizes. A test set is smaller than what will be searched one
#: day, and below Qdrant's own thresholds (10 MB) neither codec nor graph would be in what is measured.
_THRESHOLD: Final = 1

#: Documents that reducers and centres learn from, where there are so many: `QdrantCollection.create`'s own choice.
_FIT_AFTER: Final = 1000

#: Parts of a collection's files that hold vectors.
_QUANTIZED, _QUANTIZED_TOKENS, _TOKENS, _VECTORS = "quantized vectors", "quantized tokens", "tokens", "vectors"

#: Bytes that the operating system counts blocks in.
_BLOCK: Final = 512


def require_core() -> None:
    """Check that Qdrant's core is installed.

    Raises
    ------
    MissingExtraError
        When it is not; the message says what to install.
    """
    with tempfile.TemporaryDirectory(prefix="octavo-eval-") as folder:
        EdgeTransport(Path(folder)).close()


def measure_qdrant(
    configuration: Configuration, data: Embedded, depths: Sequence[int], timing: Timing, seed: int
) -> Measured:
    """Build the collection in a directory, open it again as a user would, and measure it."""
    kind = QdrantMultiVectorCollection if configuration.late else QdrantCollection
    with tempfile.TemporaryDirectory(prefix="octavo-eval-") as folder:
        path = Path(folder) / "collection"
        started = time.perf_counter()
        with create(path, configuration, seed, len(data.dataset.texts)) as collection:
            _fill(collection, configuration, data)
            collection.optimize()
        seconds = time.perf_counter() - started
        parts = weigh(path)
        with kind.open(path=path) as collection:
            info = collection.info()
            built = Built(seconds, _facts(info), _storage(parts, info.documents), _graph(configuration, path, info))
            measured = search_and_time(collection, built, configuration, data, depths, timing, seed)
        if configuration.late and data.tokens is not None:
            with QdrantMultiVectorCollection.open(path=path, encoder=data.tokens) as tokens:
                explanation = explain_match(tokens, data.dataset, measured.runs[AGREEMENT_DEPTH])
            measured = replace(measured, explanation=explanation)
    return measured


def create(path: Path, configuration: Configuration, seed: int, documents: int) -> QdrantCollection:
    """Create the collection that a configuration says."""
    options: dict[str, Any] = {
        "path": path,
        # Full text alone compares no vectors, but a collection has some.
        "codec": configuration.codec or "float16",
        "seed": seed,
        "connectivity": configuration.connectivity,
        "fit_after": min(documents, _FIT_AFTER),  # a test set too small to be learned from is learned from all the same
        "full_scan_threshold": _THRESHOLD,
        "indexing_threshold": _THRESHOLD,
    }
    if configuration.late:
        return QdrantMultiVectorCollection.create(pool_factor=configuration.pool_factor, **options)
    return QdrantCollection.create(metric=configuration.metric, **options)


def _fill(collection: QdrantCollection, configuration: Configuration, data: Embedded) -> None:
    if isinstance(collection, QdrantMultiVectorCollection):
        collection.add(token_vectors=data.documents, **data.columns)
    else:
        collection.add(vectors=vectors_of(configuration, data), **data.columns)


def _facts(info: QdrantInfo) -> StoredFacts:
    plain = info.datatype == "float32"
    return StoredFacts(documents=info.documents, graph=True, bits=32 if plain else 16, plain=plain)


def _graph(configuration: Configuration, path: Path, info: QdrantInfo) -> list[Check]:
    """Return whether the graph covers everything, by the files: Qdrant counts words among what it has indexed."""
    if configuration.mode == "text":
        return []
    left = [file for file in path.glob(f"segments/*/vector_storage-{DENSE}/vectors/chunk_*") if occupied(file)]
    graphs = [file for file in path.glob(f"segments/*/vector_index-{DENSE}/graph*") if occupied(file)]
    detail = f"graphs: {len(graphs)}, segments: {info.segments}, of these still without: {len(left)}"
    return [Check(name="Qdrant's graph covers every document", ok=bool(graphs) and not left, detail=detail)]


def occupied(file: Path) -> int:
    """Return the bytes that a file occupies: Qdrant reserves many that it has not written."""
    found = file.stat()
    return min(found.st_size, found.st_blocks * _BLOCK) if hasattr(found, "st_blocks") else found.st_size


def weigh(path: Path) -> dict[str, int]:
    """Return the bytes of a closed collection's parts."""
    parts: Counter[str] = Counter()
    for file in path.rglob("*"):
        if file.is_file():
            parts[_part(file.relative_to(path))] += occupied(file)
    return {part: size for part, size in sorted(parts.items()) if size}


def _part(file: Path) -> str:
    """Name what a file of Qdrant's belongs to."""
    if file.parts[0] == "wal":
        return "log"
    if file.parts[0] != "segments" or len(file.parts) < 4:
        return "documents"
    where, within = file.parts[2], file.parts[3]
    if where in (f"vector_storage-{TEXT}", f"vector_index-{TEXT}"):
        return "full text"
    if where == f"vector_index-{DENSE}":
        return "graph"
    if within == "deleted":
        return "documents"
    named = {
        f"vector_storage-{DENSE}": (_VECTORS, _QUANTIZED),
        f"vector_storage-{TOKENS}": (_TOKENS, _QUANTIZED_TOKENS),
    }
    if where in named:
        return named[where][within.startswith("quantized")]
    return "documents"


def _storage(parts: dict[str, int], documents: int) -> Storage:
    vectors = sum(parts.get(part, 0) for part in (_VECTORS, _QUANTIZED, _TOKENS, _QUANTIZED_TOKENS))
    # Searched is what is quantized, where anything is, and the graph; vectors in full are read from disk to rescore, and so
    # are tokens, as in a local collection. What is quantized Qdrant pins.
    searched = [_QUANTIZED if _QUANTIZED in parts else _VECTORS, _QUANTIZED_TOKENS, "graph"]
    ram = {part: parts[part] for part in searched if part in parts}
    graph = parts.get("graph", 0)
    return Storage(
        measured=True,
        documents=documents,
        vector_bytes_per_document=vectors / documents,
        ram_bytes_per_document=sum(ram.values()) / documents,
        index_bytes_per_document=(vectors + graph) / documents,
        disk_bytes_per_document=sum(parts.values()) / documents,
        ram=ram,
        disk=parts,
    )
