"""Checks of arguments that every search shares."""

from __future__ import annotations

import operator
import os
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from octavo._layout import CodeLayout
from octavo.errors import InputTypeError, ParameterError

Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


def check_codes(layout: CodeLayout, codes: Codes, what: str) -> None:
    """Check that codes are a two-dimensional C-contiguous uint8 array of the layout's width.

    Raises
    ------
    InputTypeError
        If the codes are not a uint8 array.
    ParameterError
        If the shape or the memory order is not that of codes of this layout.
    """
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
        got = f"dtype {codes.dtype}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise InputTypeError(f"expected {what} as a uint8 array, got {got}; encode vectors with the tier's quantizer")
    if codes.ndim != 2 or codes.shape[1] != layout.row_bytes:
        raise ParameterError(
            f"expected {what} of shape (n, {layout.row_bytes}) for {layout.kind} codes of {layout.dim} dimensions, "
            f"got {codes.shape}; was the array encoded with another codec?"
        )
    if not codes.flags.c_contiguous:
        raise ParameterError(f"expected {what} in C order, got a strided view; pass np.ascontiguousarray(...)")


def check_int(value: SupportsIndex, name: str, least: int) -> int:
    """Return an option as an int of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool | np.bool_):
        raise ParameterError(f"expected {name} as an integer of at least {least}, got {value!r}")
    return number


#: Cores that this process may use. Asking the system costs 15 microseconds, each time.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_threads(threads: SupportsIndex) -> int:
    """Return the number of threads to use; 0 asks for one a core."""
    return check_int(threads, "threads", 0) or CORES


def check_integers(values: Rows, what: str, ndim: int = 1) -> Rows:
    """Return row numbers as an int64 array of the wanted number of dimensions."""
    values = np.asarray(values)
    if values.ndim != ndim or (values.size and values.dtype.kind not in "iu"):
        raise ParameterError(f"expected {what} as integers in {ndim} dimension(s), got {values.dtype} {values.shape}")
    return values.astype(np.int64, copy=False)
