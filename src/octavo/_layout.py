"""How the codes of one tier lie in memory, and what a score over them means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from octavo.errors import ParameterError

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
