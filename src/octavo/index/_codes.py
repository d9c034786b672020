"""Codes: their checks, and the SIMD products behind every score. The only module that calls numkong.

numkong reads a matrix of codes in place, through an address, so nothing here copies a memory map. What to know of it:

- ``from_pointer`` takes byte counts, not value counts, as the width of ``uint1`` and pairs of nibbles for ``int4``; and
  its ``"i8"`` means int64.
- ``dots_pack(dtype=)`` does not cast, so the element type is given to the tensor instead.
- ``dots_packed`` gives the same bits for a pair of rows whatever else is in the call (checked in the tests). ``cdist``
  does not agree with it in the last bit for float8. Every score therefore comes from ``dots_packed``: rescoring,
  scanning in blocks and scanning for many queries at once then agree exactly.

It knows no two-bit values, so ``i2`` rows are unpacked to ``i8`` here, for as many rows as are multiplied at a time.
"""

from __future__ import annotations

import os
from typing import Any, Literal, SupportsIndex

import numkong
import numpy as np
from numpy.typing import NDArray

from octavo._layout import LEVELS_2BIT, CodeLayout
from octavo._validation import check_integer
from octavo.errors import InputTypeError, ParameterError

Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

#: Cores that this process may use. Asking the system costs 15 microseconds, each time.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_NumkongName = Literal["float32", "float16", "bfloat16", "e4m3", "e5m2", "int8", "int4", "uint1"]
_NUMKONG_NAMES: dict[str, _NumkongName] = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "e4m3": "e4m3",
    "e5m2": "e5m2",
    "i8": "int8",
    "i4": "int4",
    "b1": "uint1",
}
_VALUE_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
#: The four values of two bits that each byte stands for, the first in the lowest bits.
_UNPACK_INT2 = np.array(LEVELS_2BIT, np.int8)[np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3].view(np.uint8)


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


def resolve_threads(threads: SupportsIndex) -> int:
    """Return the number of threads to use; 0 asks for one a core."""
    return check_integer(threads, "threads", least=0) or CORES


def check_integers(values: Rows, what: str, ndim: int = 1) -> Rows:
    """Return row numbers as an int64 array of the wanted number of dimensions."""
    values = np.asarray(values)
    if values.ndim != ndim or (values.size and values.dtype.kind not in "iu"):
        raise ParameterError(f"expected {what} as integers in {ndim} dimension(s), got {values.dtype} {values.shape}")
    return values.astype(np.int64, copy=False)


def pack_queries(layout: CodeLayout, queries: Codes) -> Any:
    """Bring queries into the form that `raw_products` reads; costs about 10 microseconds."""
    tensor = _tensor(layout.compared, queries)
    return numkong.hammings_pack(tensor) if layout.kind == "b1" else numkong.dots_pack(tensor)


def raw_products(layout: CodeLayout, codes: Codes, packed_queries: Any) -> NDArray[Any]:
    """Multiply document codes with packed queries.

    Returns
    -------
    ndarray of shape (n, m)
        Dot products (float64 for f32, float32 for narrower floats, int32 for integers) or, for b1, Hamming distances
        (uint32).
    """
    if layout.kind == "i2":
        layout, codes = layout.compared, unpack_int2(layout, codes)
    product = numkong.hammings_packed if layout.kind == "b1" else numkong.dots_packed
    return np.asarray(product(_tensor(layout, codes), packed_queries))


def to_scores(layout: CodeLayout, raw: NDArray[Any]) -> Scores:
    """Convert raw products to similarities, higher is better, in float32."""
    if layout.kind == "b1":
        # One division per collection instead of one per document; the graph's distances take the same way.
        scores: Scores = np.multiply(
            raw, np.float32(-2.0 * layout.scale / layout.dim), dtype=np.float32, casting="unsafe"
        )
        scores += np.float32(layout.scale)
        return scores
    if raw.dtype == np.float32 and layout.scale == 1.0:
        return raw
    scaled: Scores = np.multiply(raw, np.float32(layout.scale), dtype=np.float32, casting="unsafe")
    return scaled


def products(layout: CodeLayout, codes: Codes, packed_queries: Any) -> Scores:
    """Score document codes against packed queries: float32 of shape (n, m)."""
    return to_scores(layout, raw_products(layout, codes, packed_queries))


def take_rows(codes: Codes, rows: Rows) -> Codes:
    """Copy scattered rows into one contiguous block; the caller has checked that they exist."""
    return codes.take(rows, axis=0)


def unpack_int4(layout: CodeLayout, codes: Codes) -> NDArray[np.int8]:
    """Spread two nibbles a byte into int8 of shape (n, dim), low nibble first."""
    wide = np.empty((codes.shape[0], codes.shape[1] * 2), dtype=np.int8)
    signed = codes.view(np.int8)
    wide[:, 0::2] = np.left_shift(signed, 4) >> 4
    wide[:, 1::2] = signed >> 4
    return np.ascontiguousarray(wide[:, : layout.dim])


def unpack_int2(layout: CodeLayout, codes: Codes) -> Codes:
    """Replace two-bit codes by their levels: ``i8`` codes of shape (n, dim)."""
    # Four values move as one number; every byte has an entry, so `wrap` only saves `take` the time to look for those that
    # have none, a third of it all.
    wide = _UNPACK_INT2.view(np.uint32)[:, 0].take(codes, mode="wrap").view(np.uint8)
    return wide if wide.shape[1] == layout.dim else np.ascontiguousarray(wide[:, : layout.dim])


def _tensor(layout: CodeLayout, codes: Codes) -> Any:
    width = layout.row_bytes // _VALUE_BYTES.get(layout.kind, 1)
    address = codes.__array_interface__["data"][0]
    return numkong.from_pointer(address, (codes.shape[0], width), _NUMKONG_NAMES[layout.kind], owner=codes)
