"""Quantizers of single values: casts to shorter floats, float8, small integers, and one bit.

float8 and the integers are scaled by one learned factor first. Unit vectors of 384 values have entries near 0.05, where
float8-e4m3 is subnormal and coarse; the largest magnitude seen in `fit` is put a little below the format's largest value
instead, and `CodeLayout.scale` takes the factor out of the scores again. Values beyond the format's range, in documents added
later, become its largest value.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numkong
import numpy as np

from octavo._arrays import Codes, Floats
from octavo._layout import CodeKind, CodeLayout
from octavo.compression._base import Quantizer, Shapes, State
from octavo.compression._registry import register_step
from octavo.errors import CodecError, NotFittedError

#: Factors stay within these bounds, so that neither they nor their squares leave the range of float32.
_LEAST, _MOST = 1e-18, 1e18

#: Values looked at for the best cut-off; more change it no further.
_SEARCHED_VALUES = 200_000


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


class ScaledQuantizer(Quantizer):
    """A quantizer that multiplies documents and queries with one factor before it rounds.

    One factor for all, not one a vector: rows are then nothing but codes, which usearch and numkong read as they are.
    """

    kind: ClassVar[CodeKind]

    largest: ClassVar[float]
    """Largest magnitude of the format."""

    _learned_factor: np.float32 | None = None

    @property
    def _factor(self) -> np.float32:
        if self._learned_factor is None or not self.is_fitted:
            raise NotFittedError(f"{self!r} has not been fitted; call fit with a sample of the vectors first")
        return self._learned_factor

    @property
    def layout(self) -> CodeLayout:
        """How the codes lie in memory; its scale takes the factor out of documents and queries."""
        return CodeLayout(self.kind, self.in_dim, 1.0 / float(self._factor) ** 2)

    def _fit(self, X: Floats, seed: int) -> None:
        bound = self._bound(np.abs(X))
        # Vectors that are all zero leave nothing to learn.
        self._learned_factor = np.float32(min(max(self.largest / bound, _LEAST), _MOST) if bound > 0 else 1.0)

    def _bound(self, magnitudes: Floats) -> float:
        """Return the magnitude that is put at `largest`."""
        return float(magnitudes.max())

    def _scaled(self, X: Floats, largest: float) -> Floats:
        """Return the rows times the factor, saturated at the format's largest magnitude."""
        with np.errstate(over="ignore", under="ignore"):
            scaled = X * self._factor
        return np.clip(scaled, -largest, largest, out=scaled)

    def _shapes(self, in_dim: int) -> Shapes:
        return {"factor": (np.float32, ())}

    def _get_arrays(self) -> State:
        return {"factor": np.array(self._factor)}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        factor = float(arrays["factor"])
        if not _LEAST * 0.99 <= factor <= _MOST * 1.01:
            raise CodecError(f"expected the factor of {self.step_id} between {_LEAST} and {_MOST}, got {factor}")
        self._learned_factor = np.float32(factor)


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


@register_step
class Int8(ScaledQuantizer):
    """Store each value in one byte, as an integer from -127 to 127.

    The largest magnitude seen in `fit` becomes 127. Agreement with the exact ten best is 0.989 on Cranfield and 0.990
    on SciFact (all-MiniLM-L6-v2), nDCG@10 that of float32. A factor for each vector gives 0.996 and 0.991, but takes
    four more bytes a vector, and usearch could not compare the rows.

    Examples
    --------
    >>> X = np.array([[0.5, -1.0], [0.25, 1.27]], dtype=np.float32)
    >>> Int8().fit(X).encode(X).view(np.int8)
    array([[  50, -100],
           [  25,  127]], dtype=int8)
    """

    step_id = "int8"
    kind = "i8"
    largest = 127.0

    def _encode(self, X: Floats) -> Codes:
        scaled = self._scaled(X, self.largest)
        return np.rint(scaled, out=scaled).astype(np.int8).view(np.uint8)

    def _decode(self, codes: Codes) -> Floats:
        return codes.view(np.int8).astype(np.float32) / self._factor


@register_step
class Int4(ScaledQuantizer):
    """Store two values in a byte, as integers from -7 to 7; the first of the two takes the lower half.

    The magnitude that becomes 7 is the one that gives the least squared error on the fitted vectors; what is larger is
    cut off there. Agreement with the exact ten best is then 0.93 on Cranfield and 0.92 on SciFact (all-MiniLM-L6-v2);
    with the largest magnitude instead 0.81 and 0.86, with a factor for each vector 0.93 and 0.91.

    Examples
    --------
    >>> X = np.array([[1.0, -2.0, 7.0]], dtype=np.float32)
    >>> step = Int4().fit(X)
    >>> [f"{byte:02x}" for byte in step.encode(X)[0]]
    ['e1', '07']
    """

    step_id = "int4"
    kind = "i4"
    largest = 7.0

    def _bound(self, magnitudes: Floats) -> float:
        values = magnitudes.ravel()
        values = values[:: max(1, len(values) // _SEARCHED_VALUES)].astype(np.float64)
        best, least = float(magnitudes.max()), np.inf
        for bound in best * 2.0 ** (-np.arange(41) / 8):
            step = bound / self.largest
            error = (
                float(np.square(np.minimum(np.rint(values / step), self.largest) * step - values).sum())
                if step
                else 0.0
            )
            if error < least:
                best, least = float(bound), error
        return best

    def _encode(self, X: Floats) -> Codes:
        scaled = self._scaled(X, self.largest)
        nibbles = np.rint(scaled, out=scaled).astype(np.int8).view(np.uint8) & 0x0F
        if nibbles.shape[1] % 2:
            nibbles = np.pad(nibbles, ((0, 0), (0, 1)))
        packed: Codes = np.bitwise_or(nibbles[:, 0::2], np.left_shift(nibbles[:, 1::2], 4), dtype=np.uint8)
        return packed

    def _decode(self, codes: Codes) -> Floats:
        nibbles = np.empty((len(codes), 2 * codes.shape[1]), np.int8)
        nibbles[:, 0::2] = codes.view(np.int8) << 4 >> 4  # shifting an int8 right keeps its sign
        nibbles[:, 1::2] = codes.view(np.int8) >> 4
        return nibbles[:, : self.in_dim].astype(np.float32) / self._factor


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
