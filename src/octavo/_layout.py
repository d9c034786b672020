"""How the codes of one tier lie in memory, and what a score over them means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from octavo.errors import ParameterError

CodeKind = Literal["f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "i2", "b1"]

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
}

#: What the four two-bit codes stand for: the levels of least squared error for normally distributed values, -1.510, -0.453,
#: 0.453 and 1.510 deviations, as the largest whole numbers that `i8` can hold.
LEVELS_2BIT = (-127, -38, 38, 127)


@dataclass(frozen=True)
class CodeLayout:
    """Describe rows of codes as usearch and numkong read them.

    Codes are ``uint8`` arrays of shape ``(n, row_bytes)``, C-contiguous.

    Parameters
    ----------
    kind : {"f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "i2", "b1"}
        Scalar type of one value. Rows of ``i2`` hold four values a byte, the first in the lowest bits, which stand for
        `LEVELS_2BIT`. No kernel reads them: they are unpacked to ``i8`` where they are compared, and queries are ``i8``
        from the start. For every other kind, queries and documents lie in memory alike.
    dim : int
        Number of values in a row.
    scale : float, default=1.0
        Factor from the dot product of two rows of codes to the similarity: ``score = scale * dot(query, document)``.
        For ``b1`` the dot product is that of two sign vectors of unit length, ``1 - 2 * hamming / dim``.

    Examples
    --------
    >>> CodeLayout("b1", 384).row_bytes
    48
    """

    kind: CodeKind
    dim: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(CodeKind):
            raise ParameterError(f"expected a code kind out of {', '.join(get_args(CodeKind))}, got {self.kind!r}")
        if self.dim < 1:
            raise ParameterError(f"expected a positive number of dimensions, got {self.dim}")

    @cached_property
    def row_bytes(self) -> int:
        """Bytes that one row takes (sub-byte values are padded to a whole byte)."""
        return (self.dim * BITS[self.kind] + 7) // 8

    @cached_property
    def compared(self) -> CodeLayout:
        """How queries lie in memory, and documents when they are multiplied; differs from this layout for ``i2`` only.

        Examples
        --------
        >>> CodeLayout("i2", 384).row_bytes, CodeLayout("i2", 384).compared.row_bytes
        (96, 384)
        """
        return CodeLayout("i8", self.dim, self.scale) if self.kind == "i2" else self
