"""How the codes of one tier lie in memory, and how they are multiplied: `CodeLayout`.

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

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numkong
import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats
from octavo.errors import InputTypeError, ParameterError

CodeKind = Literal["f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "i2", "b1", "r1", "r2", "r3", "r4"]

#: Bits that one value takes in each kind of code.
BITS: dict[str, int] = {
    "f32": 32,
    "f16": 16,
    "bf16": 16,
    "e4m3": 8,
    "e5m2": 8,
    "i8": 8,
    "i4": 4,
    "i2": 2,
    "b1": 1,
    "r1": 1,
    "r2": 2,
    "r3": 3,
    "r4": 4,
}

#: Kinds whose rows carry a factor, and whose codes stand for odd whole numbers.
RABITQ = ("r1", "r2", "r3", "r4")
#: Kinds that can be centred, which the others of them always are.
CENTRED = ("e4m3", "e5m2", "i8", "i4", "i2", *RABITQ)

#: What the four two-bit codes stand for: the levels of least squared error for normally distributed values, -1.510, -0.453,
#: 0.453 and 1.510 deviations, as the largest whole numbers that `i8` can hold.
LEVELS_2BIT = (-127, -38, 38, 127)

#: Planes of bits that the whole numbers of a query fall into, where rows are compared plane by plane.
QUERY_PLANES = 7
#: Bytes before the codes of a query of a centred layout: step, square and offset as float32.
TERMS_BYTES = 12
#: Bytes of a factor or of a length behind the codes of a row.
LOGARITHM_BYTES = 2

_STEPS_AN_OCTAVE, _MIDDLE = 1024, 32768

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
    step: Floats
    square: Floats
    offset: Floats
    sums: npt.NDArray[np.int32] | None  # of the codes, for `r4`


@dataclass(frozen=True)
class CodeLayout:
    """Describe rows of codes as usearch and numkong read them.

    Codes are ``uint8`` arrays of shape ``(n, row_bytes)``, C-contiguous.

    Parameters
    ----------
    kind : {"f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "i2", "b1", "r1", "r2", "r3", "r4"}
        Type of one value. Rows of ``i2`` hold four values a byte, the first in the lowest bits, which stand for
        `LEVELS_2BIT`. No kernel reads them: they are unpacked to ``i8`` where they are compared, and queries are ``i8``
        from the start. ``r1`` to ``r3`` hold as many planes of bits, that of the signs first, which stand for odd whole numbers
        (the planes have weights 4, 2, 1 and values of 1 and -1); ``r4`` holds nibbles ``c``, the first in the lower half,
        that stand for ``2 c + 1``. Behind them lies the row's factor.
    dim : int
        Number of values in a row.
    scale : float, default=1.0
        Factor from the dot product of two rows of codes to the similarity: ``score = scale * dot(query, document)``.
        For ``b1`` the dot product is that of two sign vectors of unit length, ``1 - 2 * hamming / dim``. Not used where
        the layout is centred.
    centred : bool, default=False
        Whether queries begin with three float32, `step`, `square` and `offset`, and a score is
        ``length * (factor * (step * dot(query, document) + factor * square) + offset)``, without factor or length where rows
        have none. Always so for ``r1`` to ``r4``.
    lengths : bool, default=False
        Whether rows of a centred layout end with the length of their vector.
    query : bool, default=False
        Whether these are the rows of queries of a centred layout; see `compared`.

    Examples
    --------
    >>> CodeLayout("b1", 384).row_bytes, CodeLayout("r1", 384).row_bytes
    (48, 50)
    """

    kind: CodeKind
    dim: int
    scale: float = 1.0
    centred: bool = False
    lengths: bool = False
    query: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(CodeKind):
            raise ParameterError(f"expected a code kind out of {', '.join(get_args(CodeKind))}, got {self.kind!r}")
        if self.dim < 1:
            raise ParameterError(f"expected a positive number of dimensions, got {self.dim}")
        if self.kind in RABITQ:
            object.__setattr__(self, "centred", True)
        if self.lengths and not self.centred:
            raise ParameterError(f"expected a centred layout to keep lengths, got {self.kind!r} without")
        if self.centred and self.kind not in CENTRED:
            raise ParameterError(f"expected a kind out of {', '.join(CENTRED)} to be centred, got {self.kind!r}")

    @cached_property
    def code_bytes(self) -> int:
        """Bytes that the codes of one row take (sub-byte values are padded to a whole byte, each plane by itself)."""
        if self.kind in ("r1", "r2", "r3"):
            return BITS[self.kind] * ((self.dim + 7) // 8)
        return (self.dim * BITS[self.kind] + 7) // 8

    @cached_property
    def row_bytes(self) -> int:
        """Bytes that one row takes: codes, and what stands before or behind them."""
        if self.query:
            return TERMS_BYTES + self.code_bytes
        return self.code_bytes + LOGARITHM_BYTES * (self.has_factors + self.lengths)

    @cached_property
    def has_factors(self) -> bool:
        """Whether rows carry a factor."""
        return self.kind in RABITQ

    @cached_property
    def compared(self) -> CodeLayout:
        """How queries lie in memory; differs from this layout for ``i2`` and where it is centred.

        Examples
        --------
        >>> CodeLayout("i2", 384).row_bytes, CodeLayout("i2", 384).compared.row_bytes
        (96, 384)
        >>> CodeLayout("r1", 384).compared
        CodeLayout(kind='i8', dim=384, scale=1.0, centred=True, lengths=False, query=True)
        """
        if self.query:
            return self
        kind: CodeKind = (
            "i8" if self.kind in ("i4", "i2", *RABITQ) and (self.centred or self.kind == "i2") else self.kind
        )
        if self.centred:
            return CodeLayout(kind, self.dim, self.scale, centred=True, query=True)
        return self if kind == self.kind else replace(self, kind=kind)

    @cached_property
    def passes(self) -> int:
        """Products of a row with each query that one score is made of."""
        if self.kind in ("r1", "r2", "r3"):
            return QUERY_PLANES
        return 2 if self.centred and self.kind in ("i4", "r4") else 1

    @cached_property
    def linked_bytes(self) -> int:
        """Bytes that the codes of a row take in a graph, which holds what usearch can compare."""
        if self.lengths:
            return 2 * (self.dim + 1 + self.has_factors)
        if self.kind == "r1":
            return 2 * self.code_bytes
        return self.dim if self.kind in ("i4", "i2", "r2", "r3", "r4") else self.code_bytes

    # ------------------------------------------------------------------ scores

    def check(self, codes: Codes, what: str) -> None:
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
            raise InputTypeError(
                f"expected {what} as a uint8 array, got {got}; encode vectors with the tier's quantizer"
            )
        if codes.ndim != 2 or codes.shape[1] != self.row_bytes:
            raise ParameterError(
                f"expected {what} of shape (n, {self.row_bytes}) for {self.kind} codes of {self.dim} dimensions, "
                f"got {codes.shape}; was the array encoded with another codec?"
            )
        if not codes.flags.c_contiguous:
            raise ParameterError(f"expected {what} in C order, got a strided view; pass np.ascontiguousarray(...)")

    def pack(self, queries: Codes) -> Any:
        """Bring queries, laid out as `compared`, into the form that `scores` and `products` read.

        Costs about 5 microseconds.
        """
        if not self.centred:
            tensor = self.compared._tensor(queries)
            return numkong.hammings_pack(tensor) if self.kind == "b1" else numkong.dots_pack(tensor)
        (step, square, offset), codes = self.split(queries)
        whole = codes.view(np.int8)
        sums = None
        if self.kind in ("r1", "r2", "r3"):
            packed = numkong.hammings_pack(as_tensor(query_planes(codes).reshape(-1, -(-self.dim // 8)), "uint1"))
        elif self.kind in ("i4", "r4"):
            packed = numkong.dots_pack(as_tensor(_nibbles(whole), "int4"))
            sums = whole.sum(axis=1, dtype=np.int32) if self.kind == "r4" else None
        else:
            packed = numkong.dots_pack(as_tensor(codes, _NUMKONG_NAMES[self.compared.kind]))
        return CentredQueries(packed, step, square, offset, sums)

    def scores(self, codes: Codes, packed: Any) -> Floats:
        """Score document codes against packed queries: float32 of shape (n, m), higher is better."""
        if self.ordered:
            return self.to_scores(self.products(codes, packed), packed)
        with np.errstate(over="ignore", under="ignore"):
            scores: Floats = np.multiply(
                self._whole_products(codes, packed), packed.step, dtype=np.float32, casting="unsafe"
            )
            factors, lengths = self.terms(codes)
            if factors is not None:
                scores += factors[:, None] * packed.square
                scores *= factors[:, None]
            scores += packed.offset
            if lengths is not None:
                scores *= lengths[:, None]
        return scores

    @cached_property
    def ordered(self) -> bool:
        """Whether the products of rows with a query order these as scores do: no row has a factor or length of its own."""
        return not (self.has_factors or self.lengths)

    def products(self, codes: Codes, packed: Any) -> npt.NDArray[Any]:
        """Multiply document codes with packed queries; only where they are `ordered` by that.

        Returns
        -------
        ndarray of shape (n, m)
            Dot products (float64 for f32, float32 for narrower floats, int32 for integers) or, for b1, Hamming distances
            (uint32).
        """
        if self.centred:
            return self._whole_products(codes, packed)
        if self.kind == "i2":
            return np.asarray(numkong.dots_packed(as_tensor(self._unpack_int2(codes), "int8"), packed))
        product = numkong.hammings_packed if self.kind == "b1" else numkong.dots_packed
        return np.asarray(product(self._tensor(codes), packed))

    def to_scores(self, raw: npt.NDArray[Any], packed: Any = None) -> Floats:
        """Convert raw products to similarities, higher is better, in float32; a centred layout has to see the queries."""
        if self.centred:
            with np.errstate(over="ignore", under="ignore"):
                centred: Floats = np.multiply(raw, packed.step, dtype=np.float32, casting="unsafe")
                centred += packed.offset
            return centred
        if self.kind == "b1":
            # One division per collection instead of one per document; the graph's distances take the same way.
            scores: Floats = np.multiply(
                raw, np.float32(-2.0 * self.scale / self.dim), dtype=np.float32, casting="unsafe"
            )
            scores += np.float32(self.scale)
            return scores
        if raw.dtype == np.float32 and self.scale == 1.0:
            return raw
        scaled: Floats = np.multiply(raw, np.float32(self.scale), dtype=np.float32, casting="unsafe")
        return scaled

    def _whole_products(self, codes: Codes, queries: CentredQueries) -> npt.NDArray[Any]:
        """Return the dot products of what the codes stand for with the queries' codes, of shape (n, m)."""
        kind, packed = self.kind, queries.packed
        if kind in ("r1", "r2", "r3"):
            width, planes = -(-self.dim // 8), BITS[kind]
            exact = np.float32 if self.dim * (2**planes - 1) <= _EXACT_DIM else np.float64
            weights: npt.NDArray[Any] = _PLANES.astype(exact)
            total: npt.NDArray[Any] = np.array(0)
            for plane in range(planes):
                near = np.asarray(numkong.hammings_packed(as_tensor(codes, "uint1", plane * width, width), packed))
                apart = (near.reshape(-1, QUERY_PLANES).astype(exact) @ weights).reshape(len(codes), -1)
                total = total + apart * (2 ** (planes - plane))
            return exact((2**planes - 1) * (2**QUERY_PLANES - 1) * self.dim) - total
        if kind in ("i4", "r4"):
            halves = np.asarray(
                numkong.dots_packed(as_tensor(codes, "int4", 0, self.code_bytes), packed), np.int32
            ).reshape(len(codes), -1, 2)
            whole = halves[:, :, 0] * 16 + halves[:, :, 1]
            return whole if queries.sums is None else 2 * whole + queries.sums
        if kind == "i2":
            return np.asarray(numkong.dots_packed(as_tensor(self._unpack_int2(codes), "int8"), packed))
        return np.asarray(numkong.dots_packed(as_tensor(codes, _NUMKONG_NAMES[kind], 0, self.code_bytes), packed))

    def _tensor(self, codes: Codes) -> Any:
        width = self.code_bytes // _VALUE_BYTES.get(self.kind, 1)
        address = codes.__array_interface__["data"][0]
        return numkong.from_pointer(address, (codes.shape[0], width), _NUMKONG_NAMES[self.kind], owner=codes)

    # ------------------------------------------------------------------ what rows hold

    def split(self, queries: Codes) -> tuple[Floats, Codes]:
        """Return the terms (step, square, offset) of queries of a centred layout, of shape (3, m), and their codes."""
        terms = np.ascontiguousarray(queries[:, :TERMS_BYTES]).view(np.float32)
        return np.ascontiguousarray(terms.T), np.ascontiguousarray(queries[:, TERMS_BYTES:])

    def terms(self, codes: Codes) -> tuple[Floats | None, Floats | None]:
        """Return the factors and the lengths behind the codes of rows, each None where rows have none."""
        tails = np.ascontiguousarray(codes[:, self.code_bytes :]).view(np.uint16)
        factors = from_logarithms(tails[:, 0]) if self.has_factors else None
        return factors, from_logarithms(tails[:, -1]) if self.lengths else None

    def unpack(self, codes: Codes) -> npt.NDArray[np.int8]:
        """Return the whole numbers that rows of integer kinds stand for, int8 of shape (n, dim), without factor and length."""
        codes = codes[:, : self.code_bytes]
        if self.kind in ("r1", "r2", "r3"):
            planes = BITS[self.kind]
            bits = np.unpackbits(codes.reshape(len(codes), planes, -(-self.dim // 8)), axis=2, count=self.dim).astype(
                np.int8
            )
            weights = (1 << np.arange(planes - 1, -1, -1)).astype(np.int8)
            whole: npt.NDArray[np.int8] = ((2 * bits - 1) * weights[:, None]).sum(axis=1, dtype=np.int8)
            return whole
        if self.kind in ("i4", "r4"):
            nibbles = np.empty((len(codes), 2 * codes.shape[1]), np.int8)
            nibbles[:, 0::2] = codes.view(np.int8) << 4 >> 4  # shifting an int8 right keeps its sign
            nibbles[:, 1::2] = codes.view(np.int8) >> 4
            nibbles = np.ascontiguousarray(nibbles[:, : self.dim])
            return 2 * nibbles + np.int8(1) if self.kind == "r4" else nibbles
        if self.kind == "i2":
            return self._unpack_int2(codes).view(np.int8)
        return np.ascontiguousarray(codes).view(np.int8)

    def _unpack_int2(self, codes: Codes) -> Codes:
        # Four values move as one number; every byte has an entry, so `wrap` only saves `take` the time to look for those that
        # have none, a third of it all.
        wide = _UNPACK_INT2.view(np.uint32)[:, 0].take(codes[:, : self.code_bytes], mode="wrap").view(np.uint8)
        return wide if wide.shape[1] == self.dim else np.ascontiguousarray(wide[:, : self.dim])

    def values(self, codes: Codes) -> Floats:
        """Return the numbers that the codes of rows stand for, as float32 of shape (n, dim), without factor and length."""
        if self.kind in ("e4m3", "e5m2"):
            part = np.ascontiguousarray(codes[:, : self.code_bytes])
            return np.asarray(numkong.astype(as_tensor(part, _NUMKONG_NAMES[self.kind]), "f32"))
        return self.unpack(codes).astype(np.float32)


def as_tensor(codes: npt.NDArray[Any], name: _NumkongName, first: int = 0, width: int | None = None) -> Any:
    """Return rows, or so many bytes of each from `first` on, as numkong reads them in place."""
    address = codes.__array_interface__["data"][0] + first
    shape = codes.shape if width is None else (codes.shape[0], width)
    return numkong.from_pointer(address, shape, name, strides=(codes.shape[1], 1), owner=codes)


def query_planes(codes: Codes) -> npt.NDArray[np.uint8]:
    """Return the bits of odd whole numbers from -127 to 127 by plane, lowest first: shape (m, planes, bytes)."""
    places = (codes + np.uint8(127)) >> np.uint8(1)  # in whole bytes: they wrap to what 16 bits would give
    bits = np.unpackbits(places[:, :, None], axis=2, count=QUERY_PLANES, bitorder="little")
    return np.packbits(np.ascontiguousarray(bits.transpose(0, 2, 1)), axis=2)


def _nibbles(whole: npt.NDArray[np.int8]) -> Codes:
    """Return each query as two rows of nibbles, of which the first counts 16 times, for numbers from -119 to 119."""
    low = ((whole + 8) & 15).astype(np.int8) - 8
    high = (whole - low) >> 4
    both: Codes = np.stack([high, low], axis=1).reshape(2 * len(whole), -1).view(np.uint8) & np.uint8(15)
    if both.shape[1] % 2:
        both = np.pad(both, ((0, 0), (0, 1)))
    return np.ascontiguousarray(both[:, 0::2] | (both[:, 1::2] << np.uint8(4)))


def to_logarithms(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return numbers of at least 0 as 16-bit logarithms: 0 is zero, ``c`` is ``2 ** ((c - 32768) / 1024)``.

    What lies beyond ``2 ** -32`` and ``2 ** 32`` becomes that; in between, the error is at most 0.034 %.

    Examples
    --------
    >>> to_logarithms(np.array([0.0, 1.0, 2.0, 0.5])).tolist()
    [0, 32768, 33792, 31744]
    """
    with np.errstate(divide="ignore"):
        steps = np.rint(np.log2(np.asarray(values, np.float64)) * _STEPS_AN_OCTAVE) + _MIDDLE
    return np.where(np.asarray(values) > 0, np.clip(steps, 1, 65535), 0).astype(np.uint16)


_NUMBERS = np.exp2((np.arange(65536) - _MIDDLE) / _STEPS_AN_OCTAVE).astype(np.float32)
_NUMBERS[0] = 0


def from_logarithms(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the numbers that 16-bit logarithms stand for, as float32.

    Examples
    --------
    >>> from_logarithms(np.array([0, 32768, 33792], np.uint16)).tolist()
    [0.0, 1.0, 2.0]
    """
    return _NUMBERS[codes]
