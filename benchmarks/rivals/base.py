"""What the benchmark asks of a system."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

Setting = dict[str, Any]

#: What is stored for each document, as the tables name it.
VECTORS, DOCUMENTS = "vectors", "documents"


class System:
    """One system with one configuration; built in one process, searched in another.

    Attributes
    ----------
    name : str
        As it stands in the tables.
    package : str
        Distribution whose version is reported.
    module : str
        What is imported of it; not timed.
    stores : str
        `VECTORS` for a bare index (it returns row numbers), `DOCUMENTS` where text and metadata are stored and returned.
    durable : str
        What of a finished build survives a power cut.
    settings : str
        How it is built.
    source : str
        Where that is recommended.
    minutes : float
        Rough build of a million rows of 384 dimensions on two cores; orders the run, quickest first.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    module: ClassVar[str]
    stores: ClassVar[str] = VECTORS
    durable: ClassVar[str] = "no"
    settings: ClassVar[str] = ""
    source: ClassVar[str] = ""
    minutes: ClassVar[float] = 1.0

    setting: Setting | None = None

    def build(self, vectors: np.ndarray, folder: Path, threads: int) -> None:
        """Build from unit vectors (memory-mapped) and leave everything that a search needs in `folder`."""
        raise NotImplementedError

    def open(self, folder: Path, documents: Path, threads: int) -> None:
        """Open what `build` left; `documents` is the float32 file, for systems that rescore from it."""
        raise NotImplementedError

    def curve(self) -> list[Setting]:
        """Return settings of a search, roughly from the cheapest to the dearest."""
        return [{}]

    def use(self, setting: Setting) -> None:
        """Make later searches use a setting."""
        self.setting = setting

    def search(self, query: np.ndarray, k: int) -> Any:
        """Return the rows of the best `k` for one query, as integers or what `rows` turns into integers."""
        raise NotImplementedError

    def batch(self, queries: np.ndarray, k: int, threads: int) -> Any:
        """Search all queries in one call."""
        raise NotImplementedError

    def rows(self, found: Any) -> list[int]:
        """Turn what `search` returned into row numbers; not timed."""
        return [int(row) for row in found]


def blocks(vectors: np.ndarray, size: int = 50_000):  # type: ignore[no-untyped-def]
    """Yield starts and blocks of the rows as arrays of their own."""
    for start in range(0, len(vectors), size):
        yield start, np.ascontiguousarray(vectors[start : start + size])


def sample(vectors: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Return random rows to train on."""
    if count >= len(vectors):
        return np.array(vectors)
    return np.array(vectors[np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))])
