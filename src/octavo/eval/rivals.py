"""Other index libraries, measured beside the collection on the same vectors with the same measures.

A rival is an object with `add`, `search` and `memory_bytes`; `register_rival` gives it a name, and so does a package with
an entry point in the group ``octavo.eval.rivals``. It is measured as ``baseline="rival:NAME"``, on the command line
``--baseline rival:NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Protocol

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.errors import InvalidVectorsError, ParameterError

PREFIX = "rival:"

_ENTRY_POINTS = "octavo.eval.rivals"


class Rival(Protocol):
    """An index of vectors."""

    def add(self, vectors: Floats, /) -> None:
        """Take all documents, of shape ``(n, dim)``, once."""
        ...

    def search(self, queries: Floats, k: int, /) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return the rows (-1: none) and scores, higher is better, of the best k for each query, both ``(m, k)``."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What it takes, by its own account."""
        ...


#: From the number of dimensions to an empty index.
RivalFactory = Callable[[int], Rival]

_rivals: dict[str, RivalFactory] = {}


def register_rival(name: str, factory: RivalFactory) -> None:
    """Add another index library under a name; the last one registered under it is taken.

    Parameters
    ----------
    name : str
        Without spaces, ``|`` and ``:``.
    factory : callable
        From the number of dimensions to an empty `Rival`.

    Raises
    ------
    ParameterError
        When the name cannot be used.

    Examples
    --------
    >>> class Flat:
    ...     def add(self, vectors): self.vectors = vectors
    ...     def search(self, queries, k):
    ...         scores = queries @ self.vectors.T
    ...         rows = np.argsort(-scores, axis=1)[:, :k]
    ...         return rows, np.take_along_axis(scores, rows, 1)
    ...     @property
    ...     def memory_bytes(self): return self.vectors.nbytes
    >>> register_rival("flat", lambda dim: Flat())
    >>> rival_factory("rival:flat")(384).__class__.__name__
    'Flat'
    >>> unregister_rival("flat")
    """
    if not name or any(character in name for character in "|: "):
        raise ParameterError(f"expected a name without spaces, '|' and ':', got {name!r}")
    _rivals[name] = factory


def unregister_rival(name: str) -> None:
    """Take back what `register_rival` added."""
    _rivals.pop(name, None)


def rival_factory(name: str) -> RivalFactory:
    """Return the factory of ``rival:NAME``.

    Raises
    ------
    ParameterError
        When nothing is registered under that name.
    """
    short = name.removeprefix(PREFIX)
    if short not in _rivals:
        for point in metadata.entry_points(group=_ENTRY_POINTS, name=short):
            register_rival(short, point.load())
    if short not in _rivals:
        there = ", ".join(sorted(_rivals)) or "none"
        raise ParameterError(f"expected a registered rival after {PREFIX!r} (there are: {there}), got {short!r}")
    return _rivals[short]


def checked_search(rival: Rival, queries: Floats, k: int, n: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Search, and make sure that what comes back can be measured.

    Raises
    ------
    InvalidVectorsError
        When rows or scores have another shape than the protocol says, or rows that there are not.
    """
    found = rival.search(queries, k)
    rows, scores = np.asarray(found[0], np.int64), np.asarray(found[1], np.float32)
    if rows.shape != scores.shape or rows.ndim != 2 or len(rows) != len(queries) or rows.shape[1] > k:
        raise InvalidVectorsError(
            f"expected rows and scores of shape ({len(queries)}, {k}) from the rival, got {rows.shape} and {scores.shape}"
        )
    if rows.size and (rows.max() >= n or rows.min() < -1):
        raise InvalidVectorsError(f"expected rows below {n} from the rival, got {int(rows.min())} to {int(rows.max())}")
    return rows, scores
