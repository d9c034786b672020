"""Scalar quantization of token vectors to 2, 4 or 16 levels, for comparison with the steps of octavo."""

from __future__ import annotations

from typing import Self

import numpy as np

from octavo._arrays import Codes
from octavo._layout import CodeLayout
from octavo._validation import check_choice
from octavo.compression._levels import Levels
from octavo.errors import CodecError

_BITS = (1, 2, 4)


class LloydMax(Levels):
    """Store each value as one of 2, 4 or 16 levels; compare with queries of eight bits.

    Meant for token vectors behind `Rotate`, which makes their values nearly normal. Nothing but the deviation of the
    values is learned, so that adding a document costs only that document.

    Codes of documents are packed, the first value in the lowest bits of a byte, and narrower than `layout` says: `unpacked`
    makes of them the ``i8`` codes that `layout` describes and searches read. Queries are ``i8`` from the start. Codec strings
    know `Int2`, whose codes are those of two bits.

    Parameters
    ----------
    bits : {1, 2, 4}, default=2
        Bits a value.

    References
    ----------
    Lloyd, S. P. (1982). Least squares quantization in PCM. IEEE Transactions on Information Theory 28(2).

    Max, J. (1960). Quantizing for minimum distortion. IRE Transactions on Information Theory 6(1).

    Examples
    --------
    >>> X = np.array([[-3.0, -0.5, 0.5, 3.0]], dtype=np.float32)
    >>> step = LloydMax(2).fit(X)
    >>> [f"{byte:08b}" for byte in step.encode(X)[0]]
    ['11100100']
    """

    step_id = "lloyd-max"

    def __init__(self, bits: int = 2) -> None:
        self.bits = check_choice(bits, "bits", _BITS)

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Build the step from its number of bits."""
        if argument is None:
            return cls()
        if argument not in map(str, _BITS):
            raise CodecError(f"expected {cls.name()}:1, {cls.name()}:2 or {cls.name()}:4, got {argument!r}")
        return cls(int(argument))

    @property
    def argument(self) -> str:
        """The number of bits."""
        return str(self.bits)

    def __repr__(self) -> str:
        return f"LloydMax({self.bits})"

    # -- use ---------------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> CodeLayout:
        """How unpacked codes and queries lie in memory."""
        return CodeLayout("i8", self.in_dim, self._scale)

    @property
    def stored_bytes(self) -> int:
        """Bytes that one packed row takes."""
        return -(-self.in_dim * self.bits // 8)

    def unpacked(self, codes: Codes) -> Codes:
        """Return stored codes as the ``i8`` codes that are compared."""
        wide = self._table[codes].reshape(len(codes), -1)[:, : self.in_dim]
        return np.ascontiguousarray(wide).view(np.uint8)

    @property
    def _out_width(self) -> int:
        return self.stored_bytes
