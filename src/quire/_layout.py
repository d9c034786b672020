"""How the codes of one tier lie in memory, and what a score over them means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from quire.errors import ParameterError

CodeKind = Literal["f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "b1"]

#: Bits that one value takes in each kind of code.
BITS: dict[str, int] = {
    "f32": 32,
    "f16": 16,
    "bf16": 16,
    "e4m3": 8,
    "e5m2": 8,
    "i8": 8,
    "i4": 4,
    "b1": 1,
}


@dataclass(frozen=True)
class CodeLayout:
    """Describe rows of codes as usearch and numkong read them.

    Codes are ``uint8`` arrays of shape ``(n, row_bytes)``, C-contiguous.

    Parameters
    ----------
    kind : {"f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "b1"}
        Scalar type of one value.
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

    @property
    def row_bytes(self) -> int:
        """Bytes that one row takes (sub-byte values are padded to a whole byte)."""
        return (self.dim * BITS[self.kind] + 7) // 8
