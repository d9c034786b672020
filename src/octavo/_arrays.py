"""One vocabulary of float matrices: what callers give, as checked float32 arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo.errors import InvalidVectorsError

Floats: TypeAlias = npt.NDArray[np.float32]
Codes: TypeAlias = npt.NDArray[np.uint8]


def as_matrix(vectors: Any, dim: int | None, what: str = "vectors") -> Floats:
    """Return vectors as a finite float32 matrix of shape ``(n, dim)``.

    Raises
    ------
    InvalidVectorsError
        When the shape is wrong or a value is NaN or infinite.
    """
    try:
        matrix = np.asarray(vectors)
        if matrix.dtype == object or matrix.dtype.kind not in "fiub":
            matrix = np.asarray(vectors, dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise InvalidVectorsError(f"expected {what} as a matrix of numbers, one row each, but {err}") from err
    if matrix.ndim != 2:
        raise InvalidVectorsError(f"expected {what} of shape (n, dim), got shape {matrix.shape}")
    if dim is not None and matrix.shape[0] and matrix.shape[1] != dim:
        raise InvalidVectorsError(
            f"expected {what} of dimension {dim}, got {matrix.shape[1]}; was the collection built with another model?"
        )
    if matrix.shape[0] and matrix.shape[1] == 0:
        raise InvalidVectorsError(f"expected {what} with at least one dimension, got shape {matrix.shape}")
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise InvalidVectorsError(f"expected finite {what}, got NaN or infinity in row {row}")
    return matrix


def unit_rows(matrix: Floats, what: str = "vectors") -> Floats:
    """Return rows scaled to unit length, in float32.

    Raises
    ------
    InvalidVectorsError
        When a row is zero, because it has no direction to compare.
    """
    check_directions(matrix, what)
    # float64 sums: squares of large float32 values would overflow, of small ones vanish.
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    return np.asarray(matrix / norms[:, None], dtype=np.float32)


def check_directions(matrix: Floats, what: str = "vectors") -> None:
    """Raise `InvalidVectorsError` when a row is zero."""
    some = matrix.any(axis=1)
    if not some.all():
        row = int(np.flatnonzero(~some)[0])
        raise InvalidVectorsError(
            f"expected {what} with a direction (metric 'cosine'), got a zero vector in row {row}; "
            "leave such documents out or create the collection with metric='dot'"
        )
