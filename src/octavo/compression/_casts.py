"""Quantizers that cast to a shorter floating-point format: float32, float16, bfloat16, float8.

float8 is scaled by one learned factor first. Unit vectors of 384 values have entries near 0.05, where float8-e4m3 is
subnormal and coarse; the largest magnitude seen in `fit` is put a little below the format's largest value instead, and
`CodeLayout.scale` takes the factor out of the scores again. Values beyond the format's range, in documents added later,
become its largest value.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numkong
import numpy as np

from octavo._layout import CodeKind, CodeLayout
from octavo.compression._base import Codes, Floats, Quantizer
from octavo.compression._registry import register_step
from octavo.compression._scale import ScaledQuantizer


def _minifloat_values(exponent_bits: int, mantissa_bits: int) -> Floats:
    """Return the value of each of the 256 patterns of an 8-bit float (infinities and NaN as the format has them)."""
    pattern = np.arange(256)
    sign = np.where(pattern >> 7, -1.0, 1.0)
    exponent = (pattern >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (pattern & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    values = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    return (sign * values).astype(np.float32)


class _Cast(Quantizer):
    """A quantizer that learns nothing and casts each value."""

    learns = False
    kind: ClassVar[CodeKind]

    @property
    def layout(self) -> CodeLayout:
        """How the codes lie in memory."""
        return CodeLayout(self.kind, self.in_dim)

    def _fit(self, X: Floats, seed: int) -> None:
        pass  # `in_dim` is all there is to know


@register_step
class Float32(_Cast):
    """Store each value unchanged, in four bytes.

    Examples
    --------
    >>> Float32().fit(np.zeros((1, 3))).encode([[1.0, 2.0, 3.0]]).view(np.float32)
    array([[1., 2., 3.]], dtype=float32)
    """

    step_id = "float32"
    kind = "f32"

    def _encode(self, X: Floats) -> Codes:
        return X.view(np.uint8)

    def _decode(self, codes: Codes) -> Floats:
        return codes.view(np.float32).copy()


@register_step
class Float16(_Cast):
    """Store each value in two bytes, as an IEEE half; what is beyond +-65,504 becomes that.

    Examples
    --------
    >>> Float16().fit(np.zeros((1, 3))).encode([[1.0, 0.25, 1e9]]).view(np.float16).tolist()
    [[1.0, 0.25, 65504.0]]
    """

    step_id = "float16"
    kind = "f16"

    def _encode(self, X: Floats) -> Codes:
        largest = np.float32(np.finfo(np.float16).max)
        with np.errstate(under="ignore"):
            return np.clip(X, -largest, largest).astype(np.float16).view(np.uint8)

    def _decode(self, codes: Codes) -> Floats:
        return codes.view(np.float16).astype(np.float32)


@register_step
class BFloat16(_Cast):
    """Store each value in two bytes, with the range of float32 and 8 significant bits.

    Examples
    --------
    >>> step = BFloat16().fit(np.zeros((1, 2)))
    >>> step.decode(step.encode([[1.0, 0.1]]))
    array([[1.        , 0.10009766]], dtype=float32)
    """

    step_id = "bfloat16"
    kind = "bf16"

    def _encode(self, X: Floats) -> Codes:
        largest = np.array(0x7F7F0000, np.uint32).view(np.float32)  # rounding up from here would give infinity
        cast = numkong.astype(np.clip(X, -largest, largest), "bf16")
        return np.asarray(cast).view(np.uint8)

    def _decode(self, codes: Codes) -> Floats:
        return (codes.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


class _Float8(ScaledQuantizer):
    values: ClassVar[Floats]
    numkong_type: ClassVar[Literal["e4m3", "e5m2"]]

    def _bound(self, magnitudes: Floats) -> float:
        # Room for documents twice as large as those seen: floating point keeps its precision, so that it costs nothing.
        return 2 * float(magnitudes.max())

    def _encode(self, X: Floats) -> Codes:
        return np.asarray(numkong.astype(self._scaled(X, self.largest), self.numkong_type)).view(np.uint8)

    def _decode(self, codes: Codes) -> Floats:
        return (self.values / self._factor)[codes]


@register_step
class Float8(_Float8):
    """Store each value in one byte with 4 bits of exponent and 3 of mantissa (E4M3), scaled into the format's range.

    References
    ----------
    Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, 2022.

    Examples
    --------
    >>> X = np.array([[0.5, -2.0], [1.0, 4.0]], dtype=np.float32)
    >>> step = Float8().fit(X)
    >>> step.decode(step.encode(X))
    array([[ 0.5, -2. ],
           [ 1. ,  4. ]], dtype=float32)
    """

    step_id = "float8-e4m3"
    short_name = "float8"
    kind = numkong_type = "e4m3"
    largest = 448.0
    values = _minifloat_values(4, 3)
    values[[0x7F, 0xFF]] = np.nan


@register_step
class Float8E5M2(_Float8):
    """Store each value in one byte with 5 bits of exponent and 2 of mantissa (E5M2), scaled into the format's range.

    Coarser than `Float8` by a factor of two, and hardly ever the better choice: embeddings do not need its range.

    References
    ----------
    Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, 2022.

    Examples
    --------
    >>> X = np.array([[0.5, -2.0], [1.0, 4.0]], dtype=np.float32)
    >>> step = Float8E5M2().fit(X)
    >>> step.decode(step.encode(X))
    array([[ 0.5, -2. ],
           [ 1. ,  4. ]], dtype=float32)
    """

    step_id = "float8-e5m2"
    kind = numkong_type = "e5m2"
    largest = 57344.0
    values = _minifloat_values(5, 2)
    values[[0x7C, 0xFC]] = np.inf, -np.inf
    values[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = np.nan
