"""What a collection in Qdrant holds and how Qdrant keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class QdrantInfo:
    """Description of a collection in Qdrant.

    Parameters
    ----------
    place : str
        Directory, or URL and name.
    documents : int
        Documents in it.
    dim, stored_dim : int or None
        Dimension of the vectors as they come in, and behind the reducers.
    metric, codec, full_text : str
        What it was made with.
    encoder : str or None
        Name of the encoder; None when vectors were given.
    datatype, quantization : str or None
        What the codec has become.
    indexed : int
        Vectors that a graph covers, as Qdrant counts them (sparse ones among them).
    segments : int
        Parts that Qdrant keeps them in.
    details : dict
        What else the server tells.
    tokens : dict or None
        Of a multi-vector collection: dimension of the stored token vectors, how they are pooled, what finds candidates;
        `datatype` and `quantization` are theirs, `stored_dim` that of the candidate vectors.
    """

    place: str
    documents: int
    dim: int | None
    stored_dim: int | None
    metric: str
    codec: str
    full_text: str
    encoder: str | None
    datatype: str
    quantization: str | None
    indexed: int
    segments: int
    details: dict[str, Any]
    tokens: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)
