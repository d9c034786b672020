"""What a collection in Qdrant will be, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from octavo.errors import ParameterError
from octavo.integrations.qdrant._client import ClientTransport, ServerOptions
from octavo.integrations.qdrant._terms import number_key
from octavo.integrations.qdrant._words import Words
from octavo.integrations.qdrant.edge import EdgeTransport
from octavo.integrations.qdrant.transport import Transport

#: Documents whose length tells the typical one, for BM25.
_LENGTH_SAMPLE = 1000


@dataclass(frozen=True)
class Plan:
    """What a collection will be, before its first document says the rest."""

    codec: str
    metric: Literal["cosine", "dot"]
    dim: int | None
    full_text: str
    seed: int
    fit_after: int
    layout: dict[str, Any]


def transport_of(path: Any, url: str | None, name: str, options: ServerOptions) -> Transport:
    """Reach a place, whether there is a collection or not."""
    if (path is None) == (url is None):
        raise ParameterError("expected either path= (in this process) or url= (a server), got both or neither")
    if path is not None:
        return EdgeTransport(Path(path).expanduser())
    assert url is not None  # checked above
    return ClientTransport(url, name, options)


def layout_of(
    ranges: Sequence[str | Sequence[str]], connectivity: int, full_scan: int, indexing: int
) -> dict[str, Any]:
    """Return the options of `Layout` that the caller has given."""
    return {
        "hnsw_m": connectivity,
        "full_scan_threshold": full_scan,
        "indexing_threshold": indexing,
        "ranges": [f"number.{number_key([field] if isinstance(field, str) else field)}" for field in ranges],
    }


def average_length(language: str, texts: Sequence[str]) -> float:
    """Return the terms of a typical document."""
    counts = [Words(language, 1.0).count(text) for text in texts[:_LENGTH_SAMPLE] if text]
    return float(np.mean(counts)) if counts else 100.0
