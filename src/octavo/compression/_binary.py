"""Quantizer to one bit a value."""

from __future__ import annotations

import numpy as np

from octavo._layout import CodeLayout
from octavo.compression._base import Codes, Floats, Quantizer
from octavo.compression._registry import register_step


@register_step
class Binary(Quantizer):
    """Store the sign of each value in one bit: 1 above zero, 0 otherwise; the first of eight is a byte's highest bit.

    Scores are dot products of sign vectors of unit length, ``1 - 2 * hamming / dim``. They rank documents but do not
    approximate the vectors' own dot products, so `binary` belongs in front of a finer tier.

    Examples
    --------
    >>> X = np.array([[0.3, -0.1, 0.0, 2.0]], dtype=np.float32)
    >>> step = Binary().fit(X)
    >>> step.encode(X), step.decode(step.encode(X))
    (array([[144]], dtype=uint8), array([[ 0.5, -0.5, -0.5,  0.5]], dtype=float32))
    """

    step_id = "binary"
    learns = False

    @property
    def layout(self) -> CodeLayout:
        """How the codes lie in memory."""
        return CodeLayout("b1", self.in_dim)

    def _fit(self, X: Floats, seed: int) -> None:
        pass  # `in_dim` is all there is to know

    def _encode(self, X: Floats) -> Codes:
        return np.packbits(X > 0, axis=1)

    def _decode(self, codes: Codes) -> Floats:
        signs = np.unpackbits(codes, axis=1, count=self.in_dim).astype(np.float32)
        return (2 * signs - 1) / np.float32(np.sqrt(self.in_dim))
