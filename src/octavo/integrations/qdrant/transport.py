"""What the collection asks of Qdrant, whether it runs in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from octavo.integrations.qdrant._filters import Condition

#: A sparse vector: dimensions and values.
Sparse: TypeAlias = tuple[list[int], list[float]]

#: What Qdrant searches by instead of the vectors in full: bytes, signs, or TurboQuant's codes of so many bits a value.
Quantization: TypeAlias = Literal["scalar", "binary", "turbo1", "turbo2", "turbo4"]

#: Names of the vectors of a point. Where a document has many vectors, they are `TOKENS`, and `DENSE` finds candidates.
DENSE = "dense"
TEXT = "text"
TOKENS = "tokens"
SPARSE = "sparse"


def vector_name(kind: str, space: int) -> str:
    """Return the name of the vectors of a kind in a space: a change of the model fills another one.

    Examples
    --------
    >>> vector_name(DENSE, 0), vector_name(DENSE, 2), vector_name(TEXT, 2)
    ('dense', 'dense-2', 'text')
    """
    return f"{kind}-{space}" if space and kind in (DENSE, TOKENS) else kind


@dataclass(frozen=True)
class TokenLayout:
    """How Qdrant stores a document's many vectors: compared by MaxSim, and without a graph of their own."""

    dim: int
    datatype: Literal["float32", "float16"]
    quantization: Quantization | None


@dataclass(frozen=True)
class Layout:
    """How Qdrant stores vectors; `hnsw_m` links a node, `indexing_threshold` in KB of vectors; `sparse`: learned ones, too."""

    dim: int
    datatype: Literal["float32", "float16"]
    quantization: Quantization | None
    hnsw_m: int = 16
    ef_construct: int = 128
    full_scan_threshold: int = 10_000
    indexing_threshold: int = 10_000
    ranges: Sequence[str] = ()
    tokens: TokenLayout | None = None
    sparse: bool = False


@dataclass(frozen=True)
class Point:
    """A point on its way in or out; `dense` and `tokens` are those of one space."""

    id: str
    payload: dict[str, Any]
    dense: Sequence[float] | None = None
    text: Sparse | None = None
    score: float = 0.0
    tokens: list[list[float]] | None = None
    sparse: Sparse | None = None
    space: int = 0


@dataclass(frozen=True)
class Search:
    """One query by one of the vectors; with `prefetch`, only what those queries have found is compared."""

    limit: int
    where: Condition
    dense: Sequence[float] | None = None
    text: Sparse | None = None
    ef: int | None = None
    exact: bool = False
    oversampling: float | None = None
    with_vectors: bool = False
    tokens: list[list[float]] | None = None
    prefetch: Sequence[Search] = ()
    sparse: Sparse | None = None
    space: int = 0
    with_payload: bool = True


@dataclass(frozen=True)
class Status:
    """What Qdrant tells about the collection."""

    points: int
    indexed: int
    segments: int
    details: dict[str, Any] = field(default_factory=dict)


class Transport(Protocol):
    """Reaches one Qdrant collection."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        ...

    @property
    def directory(self) -> Path | None:
        """Where its files are, if they are on this machine."""
        ...

    def reference(self) -> dict[str, Any]:
        """Return what `QdrantCollection.open` takes to reach the same collection from another process; no secret is in it.

        Raises
        ------
        InputTypeError
            When no other process can.
        """
        ...

    def exists(self) -> bool:
        """Whether there is such a collection."""
        ...

    def create(self, layout: Layout) -> None:
        """Create it with its payload indexes."""
        ...

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points; when this returns, they survive the death of the process."""
        ...

    def change(self, points: Sequence[Point]) -> None:
        """Give points that are there another payload and, where it is given, another `text`; their other vectors stay."""
        ...

    def add_space(self, layouts: Mapping[int, Layout], space: int) -> None:
        """Make room for the vectors of one more space, if there is none yet; `layouts` are those of all spaces."""
        ...

    def fill(self, points: Sequence[Point]) -> int:
        """Give points that are there, and were not replaced since they were read, the vectors of a space.

        Which version that is, their payload's ``order`` says. Returns how many were there still.
        """
        ...

    def drop_space(self, space: int, *, tokens: bool) -> None:
        """Drop the vectors of a space, if they are there."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Delete points."""
        ...

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | bool, *, vectors: Sequence[str] = (), space: int = 0
    ) -> list[Point]:
        """Return those of the points that are there, in any order, with the vectors of these kinds in a space."""
        ...

    def scroll(self, where: Condition, fields: Sequence[str], offset: str | None) -> tuple[list[Point], str | None]:
        """Return a page of points, and where the next begins."""
        ...

    def count(self, where: Condition) -> int:
        """Return the exact number of points."""
        ...

    def search(self, searches: Sequence[Search]) -> list[list[Point]]:
        """Answer queries."""
        ...

    def optimize(self) -> bool:
        """Build the graph now, where that can be asked for."""
        ...

    def status(self) -> Status:
        """Return what is known about the collection."""
        ...

    def close(self) -> None:
        """Release it."""
        ...
