"""One vocabulary of float matrices: what callers give, as checked float32 arrays.

Callers give numpy arrays, lists, tensors (on an accelerator, with or without gradients, of bfloat16), and lists of any of
them. `real_array` takes all that for an array of real numbers; `check_matrix` looks at its shape; `finite_floats` converts
rows to float32 and looks at their values; `as_matrix` does all three. Work in blocks checks the shape once and each block's
values when it is read, so that no copy of the whole is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo.errors import InputTypeError, InvalidVectorsError

Floats: TypeAlias = npt.NDArray[np.float32]
Codes: TypeAlias = npt.NDArray[np.uint8]
Rows: TypeAlias = npt.NDArray[np.int64]
Scores: TypeAlias = npt.NDArray[np.float32]

#: Vectors wider than this are refused, so that a damaged header cannot ask for absurd amounts of memory.
MAX_DIM = 1 << 20

#: Rows worked on at a time: bounds the memory for temporaries and keeps them in the cache.
BLOCK_ROWS = 2048

#: Bytes of an array that searches may leave and ask for again.
_RETAINED = 1 << 23

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def real_array(values: Any, what: str = "vectors") -> npt.NDArray[Any]:
    """Return numbers of any origin as an array of real numbers, converted no further than needed for that.

    Parameters
    ----------
    values : array_like, tensor, or (nested) sequence of them
        Tensors are taken off the accelerator and out of the graph of gradients; types that numpy does not have, such as
        bfloat16, become float32.
    what : str
        What the numbers are, for messages.

    Raises
    ------
    InputTypeError
        If they are not real numbers.
    InvalidVectorsError
        If rows differ in length.

    Examples
    --------
    >>> real_array([[1, 2], [3, 4]]).shape
    (2, 2)
    >>> real_array([[1j]])
    Traceback (most recent call last):
    octavo.errors.InputTypeError: expected vectors of real numbers, got complex128
    """
    array = values if isinstance(values, np.ndarray) else _to_numpy(values, what)
    kind = array.dtype.kind
    if kind in "fiub":
        return array
    if kind == "O" or (kind == "V" and array.dtype.names is None and "float" in array.dtype.name):
        try:
            return array.astype(np.float64 if kind == "O" else np.float32)
        except (TypeError, ValueError) as err:
            raise InputTypeError(f"expected {what} of real numbers, got others: {err}") from err
    raise InputTypeError(f"expected {what} of real numbers, got {array.dtype}")


def _to_numpy(values: Any, what: str) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):  # a torch tensor, perhaps on an accelerator, perhaps with gradients
        if values.is_complex() if hasattr(values, "is_complex") else False:
            raise InputTypeError(f"expected {what} of real numbers, got complex ones")
        return np.asarray(values.detach().cpu().float().numpy())
    if isinstance(values, list | tuple) and values and _holds_tensors(values[0]):
        values = [_to_numpy(value, what) for value in values]
    try:
        return np.asarray(values)
    except ValueError as err:
        raise InvalidVectorsError(
            f"expected {what} of one length, got a ragged list: rows of different lengths"
        ) from err


def _holds_tensors(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return hasattr(value, "detach")


def check_matrix(vectors: Any, dim: int | None = None, what: str = "vectors") -> npt.NDArray[Any]:
    """Return vectors as a matrix of real numbers, checked for its shape but not yet converted to float32.

    Raises
    ------
    InputTypeError
        If they are not real numbers.
    InvalidVectorsError
        If it is not a matrix, or its vectors do not have `dim` values.
    """
    return _check_shape(real_array(vectors, what), dim, what)


def _check_shape(array: npt.NDArray[Any], dim: int | None, what: str) -> npt.NDArray[Any]:
    if array.ndim != 2:
        hint = "; write X[None, :] for a single vector" if array.ndim == 1 and array.size else ""
        raise InvalidVectorsError(f"expected {what} of shape (n, dim), got shape {array.shape}{hint}")
    if dim is not None and array.shape[1] != dim:
        raise InvalidVectorsError(
            f"expected {what} of dimension {dim}, got {array.shape[1]}; were they made by another model?"
        )
    if not 1 <= array.shape[1] <= MAX_DIM:
        raise InvalidVectorsError(f"expected {what} of 1 to {MAX_DIM:,} values, got {array.shape[1]}")
    return array


def finite_floats(block: npt.NDArray[Any], first_row: int = 0, what: str = "vectors") -> Floats:
    """Return the rows as C-contiguous float32, or raise `InvalidVectorsError` if a value is not finite in float32."""
    if block.dtype == np.float32:
        floats = np.ascontiguousarray(block)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            floats = np.ascontiguousarray(block, dtype=np.float32)
    finite = np.isfinite(floats)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        value = "NaN" if np.isnan(floats[row]).any() else f"{'-' * bool((floats[row] == -np.inf).any())}infinity"
        raise InvalidVectorsError(f"expected {what} of finite float32 values, got {value} in row {first_row + row}")
    return floats


def as_matrix(vectors: Any, dim: int | None = None, what: str = "vectors") -> Floats:
    """Return vectors as a finite float32 matrix of shape ``(n, dim)``; without rows, any width will do.

    Raises
    ------
    InputTypeError
        If they are not real numbers.
    InvalidVectorsError
        If the shape is wrong or a value is NaN or infinite.

    Examples
    --------
    >>> as_matrix([[1, 2]], 2)
    array([[1., 2.]], dtype=float32)
    """
    array = real_array(vectors, what)
    if array.ndim == 2 and not len(array):
        return np.ascontiguousarray(array, dtype=np.float32)
    return finite_floats(_check_shape(array, dim, what), what=what)


def to_float32(X: npt.NDArray[np.float64]) -> Floats:
    """Round to float32; what is beyond its range becomes the largest finite value."""
    return np.minimum(np.maximum(X, -_FLOAT32_MAX), _FLOAT32_MAX).astype(np.float32)


def in_blocks(X: npt.NDArray[Any], out: npt.NDArray[Any], encode: Callable[[Floats], npt.NDArray[Any]]) -> None:
    """Fill `out` with ``encode(rows)``, checking and converting a block of rows at a time."""
    for start in range(0, len(X), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        out[start:stop] = encode(finite_floats(X[start:stop], start))


def unit_rows(matrix: Floats, what: str = "vectors", *, keep_zeros: bool = False) -> Floats:
    """Return rows scaled to unit length, in float32.

    Parameters
    ----------
    matrix : ndarray of shape (n, dim), float32
        Finite rows.
    what : str
        What they are, for messages.
    keep_zeros : bool, default=False
        Leave rows of zeros as they are instead of raising.

    Raises
    ------
    InvalidVectorsError
        When a row is zero, because it has no direction to compare.

    Examples
    --------
    >>> unit_rows(np.float32([[3, 4], [0, 0]]), keep_zeros=True)
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    lengths = row_lengths(matrix)
    if not lengths.all():
        if not keep_zeros:
            check_directions(matrix, what)
        lengths[lengths == 0] = 1
    units = np.empty(matrix.shape, np.float32)
    for start in range(0, len(matrix), BLOCK_ROWS):  # the quotients are float64: not of all rows at once
        part = slice(start, start + BLOCK_ROWS)
        units[part] = matrix[part] / lengths[part, None]
    return units


def release_arrays() -> None:
    """Have the allocator give back to the system what large arrays that are gone have left it, where it can be told to.

    glibc keeps such memory, in each of its arenas, for arrays to come: after learning there are none that large.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def retain_arrays() -> None:
    """Have the allocator keep what the arrays of a search leave it for the next search.

    glibc gives memory back to the system whenever more than 128 KiB of it are free, and has every page of it filled with
    zeros when it is asked for again: a query that looks far took a quarter longer. It goes by the largest array that is
    ever given back, so one that nobody has touched teaches it. Elsewhere nothing comes of this.
    """
    np.empty(_RETAINED, np.uint8)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        import ctypes  # only where something was learned

        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError, TypeError):  # another system, or another C library
        return None
    trim.argtypes = [ctypes.c_size_t]  # type: ignore[attr-defined]
    return trim


def row_lengths(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the Euclidean length of each row, the same whatever its company."""
    lengths = np.empty(len(matrix))
    for start in range(0, len(matrix), BLOCK_ROWS):
        # float64 sums: squares of large float32 values would overflow, of small ones vanish.
        rows = matrix[start : start + BLOCK_ROWS]
        np.square(rows, dtype=np.float64).sum(axis=1, out=lengths[start : start + BLOCK_ROWS])
    return np.sqrt(lengths, out=lengths)


def check_directions(matrix: Floats, what: str = "vectors") -> None:
    """Raise `InvalidVectorsError` when a row is zero."""
    some = matrix.any(axis=1)
    if not some.all():
        row = int(np.flatnonzero(~some)[0])
        raise InvalidVectorsError(
            f"expected {what} with a direction (metric 'cosine'), got a zero vector in row {row}; "
            "leave such documents out or create the collection with metric='dot'"
        )
