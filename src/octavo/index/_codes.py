"""Codes: their checks, and the SIMD products behind every score. The only module that calls numkong.

numkong reads a matrix of codes in place, through an address, so nothing here copies a memory map. What to know of it:

- ``from_pointer`` takes byte counts, not value counts, as the width of ``uint1`` and pairs of nibbles for ``int4``; and
  its ``"i8"`` means int64.
- ``dots_pack(dtype=)`` does not cast, so the element type is given to the tensor instead.
- ``dots_packed`` gives the same bits for a pair of rows whatever else is in the call (checked in the tests). ``cdist``
  does not agree with it in the last bit for float8. Every score therefore comes from ``dots_packed``: rescoring,
  scanning in blocks and scanning for many queries at once then agree exactly.
- Hamming distances to eight rows take little longer than to one.

It knows no two-bit values, so ``i2`` rows are unpacked to ``i8`` here, for as many rows as are multiplied at a time. Whole
numbers of different widths are multiplied in parts: a query's byte as two nibbles with ``i4`` rows, its planes of bits with
those of ``r1`` to ``r3``. All of that is exact.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numkong
import numpy as np
from numpy.typing import NDArray

from octavo._layout import BITS, LEVELS_2BIT, QUERY_PLANES, TERMS_BYTES, CodeLayout, from_logarithms
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
    "r4": "int4",
}
_VALUE_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
#: The four values of two bits that each byte stands for, the first in the lowest bits.
_UNPACK_INT2 = np.array(LEVELS_2BIT, np.int8)[np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3].view(np.uint8)
#: What each plane of a query's bits counts for; whole numbers below 2 ** 24 are exact in float32.
_PLANES = (1 << np.arange(QUERY_PLANES)).astype(np.float32)
_EXACT_DIM = (1 << 24) // (1 << QUERY_PLANES)


@dataclass(frozen=True)
class CentredQueries:
    """Queries of a centred layout: their codes as the kernel takes them, and the terms of their scores."""

    packed: Any
    step: Scores
    square: Scores
    offset: Scores
    sums: NDArray[np.int32] | None  # of the codes, for `r4`


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
    """Bring queries into the form that `raw_products` and `products` read; costs about 10 microseconds."""
    if layout.centred:
        return _pack_centred(layout, queries)
    tensor = _tensor(layout.compared, queries)
    return numkong.hammings_pack(tensor) if layout.kind == "b1" else numkong.dots_pack(tensor)


def raw_products(layout: CodeLayout, codes: Codes, packed_queries: Any) -> NDArray[Any]:
    """Multiply document codes of a layout that is not centred with packed queries.

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
    if layout.centred:
        return _centred_products(layout, codes, packed_queries)
    return to_scores(layout, raw_products(layout, codes, packed_queries))


# -- centred layouts -------------------------------------------------------------------------------------------------


def split_query(layout: CodeLayout, queries: Codes) -> tuple[Scores, Codes]:
    """Return the terms (step, square, offset) of queries of a centred layout, of shape (3, m), and their codes."""
    terms = np.ascontiguousarray(queries[:, :TERMS_BYTES]).view(np.float32)
    return np.ascontiguousarray(terms.T), np.ascontiguousarray(queries[:, TERMS_BYTES:])


def row_terms(layout: CodeLayout, codes: Codes) -> tuple[Scores | None, Scores | None]:
    """Return the factors and the lengths behind the codes of rows, each None where rows have none."""
    tails = np.ascontiguousarray(codes[:, layout.code_bytes :]).view(np.uint16)
    factors = from_logarithms(tails[:, 0]) if layout.has_factors else None
    return factors, from_logarithms(tails[:, -1]) if layout.lengths else None


def _pack_centred(layout: CodeLayout, queries: Codes) -> CentredQueries:
    (step, square, offset), codes = split_query(layout, queries)
    whole = codes.view(np.int8)
    sums = whole.sum(axis=1, dtype=np.int32) if layout.kind == "r4" else None
    if layout.kind in ("r1", "r2", "r3"):
        packed = numkong.hammings_pack(_byte_tensor(query_planes(codes).reshape(-1, -(-layout.dim // 8)), "uint1"))
    elif layout.kind in ("i4", "r4"):
        packed = numkong.dots_pack(_byte_tensor(_nibbles(whole), "int4"))
    else:
        packed = numkong.dots_pack(_byte_tensor(codes, _NUMKONG_NAMES[layout.compared.kind]))
    return CentredQueries(packed, step, square, offset, sums)


def query_planes(codes: Codes) -> NDArray[np.uint8]:
    """Return the bits of odd whole numbers from -127 to 127 by plane, lowest first: shape (m, planes, bytes)."""
    places = (codes + np.uint8(127)) >> np.uint8(1)  # in whole bytes: they wrap to what 16 bits would give
    bits = np.unpackbits(places[:, :, None], axis=2, count=QUERY_PLANES, bitorder="little")
    return np.packbits(np.ascontiguousarray(bits.transpose(0, 2, 1)), axis=2)


def _nibbles(whole: NDArray[np.int8]) -> Codes:
    """Return each query as two rows of nibbles, of which the first counts 16 times, for numbers from -119 to 119."""
    low = ((whole + 8) & 15).astype(np.int8) - 8
    high = (whole - low) >> 4
    both: Codes = np.stack([high, low], axis=1).reshape(2 * len(whole), -1).view(np.uint8) & np.uint8(15)
    if both.shape[1] % 2:
        both = np.pad(both, ((0, 0), (0, 1)))
    return np.ascontiguousarray(both[:, 0::2] | (both[:, 1::2] << np.uint8(4)))


def _whole_products(layout: CodeLayout, codes: Codes, queries: CentredQueries) -> NDArray[Any]:
    """Return the dot products of what the codes stand for with the queries' codes, of shape (n, m)."""
    kind = layout.kind
    if kind in ("r1", "r2", "r3"):
        width, planes = -(-layout.dim // 8), BITS[kind]
        exact = np.float32 if layout.dim * (2**planes - 1) <= _EXACT_DIM else np.float64
        weights: NDArray[Any] = _PLANES.astype(exact)
        total: NDArray[Any] = np.array(0)
        for plane in range(planes):
            near = np.asarray(
                numkong.hammings_packed(_part_tensor(codes, plane * width, width, "uint1"), queries.packed)
            )
            apart = (near.reshape(-1, QUERY_PLANES).astype(exact) @ weights).reshape(len(codes), -1)
            total = total + apart * (2 ** (planes - plane))
        return exact((2**planes - 1) * (2**QUERY_PLANES - 1) * layout.dim) - total
    if kind in ("i4", "r4"):
        halves = np.asarray(
            numkong.dots_packed(_part_tensor(codes, 0, layout.code_bytes, "int4"), queries.packed), np.int32
        ).reshape(len(codes), -1, 2)
        whole = halves[:, :, 0] * 16 + halves[:, :, 1]
        return 2 * whole + queries.sums if queries.sums is not None else whole
    if kind == "i2":
        codes = unpack_int2(layout, codes)
        return np.asarray(numkong.dots_packed(_byte_tensor(codes, "int8"), queries.packed))
    return np.asarray(
        numkong.dots_packed(_part_tensor(codes, 0, layout.code_bytes, _NUMKONG_NAMES[kind]), queries.packed)
    )


def _centred_products(layout: CodeLayout, codes: Codes, queries: CentredQueries) -> Scores:
    with np.errstate(over="ignore", under="ignore"):
        scores: Scores = np.multiply(
            _whole_products(layout, codes, queries), queries.step, dtype=np.float32, casting="unsafe"
        )
        factors, lengths = row_terms(layout, codes) if layout.has_factors or layout.lengths else (None, None)
        if factors is not None:
            scores += factors[:, None] * queries.square
            scores *= factors[:, None]
        scores += queries.offset
        if lengths is not None:
            scores *= lengths[:, None]
    return scores


def unpack_codes(layout: CodeLayout, codes: Codes) -> NDArray[np.int8]:
    """Return the whole numbers that rows of integer kinds stand for, int8 of shape (n, dim), without factor and length."""
    codes = codes[:, : layout.code_bytes]
    if layout.kind in ("r1", "r2", "r3"):
        planes = BITS[layout.kind]
        bits = np.unpackbits(codes.reshape(len(codes), planes, -(-layout.dim // 8)), axis=2, count=layout.dim).astype(
            np.int8
        )
        weights = (1 << np.arange(planes - 1, -1, -1)).astype(np.int8)
        whole: NDArray[np.int8] = ((2 * bits - 1) * weights[:, None]).sum(axis=1, dtype=np.int8)
        return whole
    if layout.kind in ("i4", "r4"):
        nibbles = unpack_int4(layout, np.ascontiguousarray(codes))
        return 2 * nibbles + np.int8(1) if layout.kind == "r4" else nibbles
    if layout.kind == "i2":
        return unpack_int2(layout, np.ascontiguousarray(codes)).view(np.int8)
    return np.ascontiguousarray(codes).view(np.int8)


def code_values(layout: CodeLayout, codes: Codes) -> Scores:
    """Return the numbers that the codes of rows stand for, as float32 of shape (n, dim), without factor and length."""
    if layout.kind in ("e4m3", "e5m2"):
        part = np.ascontiguousarray(codes[:, : layout.code_bytes])
        return np.asarray(numkong.astype(_byte_tensor(part, _NUMKONG_NAMES[layout.kind]), "f32"))
    return unpack_codes(layout, codes).astype(np.float32)


# -- rows ------------------------------------------------------------------------------------------------------------


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
    wide = _UNPACK_INT2.view(np.uint32)[:, 0].take(codes[:, : layout.code_bytes], mode="wrap").view(np.uint8)
    return wide if wide.shape[1] == layout.dim else np.ascontiguousarray(wide[:, : layout.dim])


def _tensor(layout: CodeLayout, codes: Codes) -> Any:
    width = layout.code_bytes // _VALUE_BYTES.get(layout.kind, 1)
    address = codes.__array_interface__["data"][0]
    return numkong.from_pointer(address, (codes.shape[0], width), _NUMKONG_NAMES[layout.kind], owner=codes)


def _byte_tensor(codes: Codes, name: _NumkongName) -> Any:
    address = codes.__array_interface__["data"][0]
    return numkong.from_pointer(address, codes.shape, name, owner=codes)


def _part_tensor(codes: Codes, first: int, width: int, name: _NumkongName) -> Any:
    """Return `width` bytes of each row from `first` on, in place."""
    address = codes.__array_interface__["data"][0] + first
    shape = codes.shape[0], width
    return numkong.from_pointer(address, shape, name, strides=(codes.shape[1], 1), owner=codes)
