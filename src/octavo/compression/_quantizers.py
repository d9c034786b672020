"""Quantizers of single values: casts to shorter floats, float8, small integers, and one bit.

float8 and the integers are centred and scaled first. Unit vectors of 384 values have entries near 0.05, where float8-e4m3 is
subnormal and coarse; the largest magnitude seen in `fit` is put at or a little below the format's largest value instead, and
the terms of each query take the factor out of the scores again. Values beyond the format's range, in documents added later,
become its largest value.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numkong
import numpy as np
import numpy.typing as npt

from octavo._arrays import BLOCK_ROWS, Codes, Floats, row_lengths, to_float32
from octavo._layout import TERMS_BYTES, CodeKind, CodeLayout, from_logarithms, to_logarithms
from octavo.compression._base import Quantizer, Shapes, State
from octavo.compression._registry import register_step
from octavo.errors import CodecError

#: Factors stay within these bounds, so that neither they nor what they are multiplied with leave the range of float32.
_LEAST, _MOST = 1e-30, 1e30

#: Rows of zeros that the learned mean is drawn towards.
_PRIOR_ROWS = 8

#: Dimensions that vary less than this part of a typical deviation are taken to vary by so much.
_LEAST_SPREAD = 1e-3

#: Values looked at for the best cut-off; more change it no further.
_SEARCHED_VALUES = 200_000


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


class CentredQuantizer(Quantizer):
    """A quantizer of documents relative to their mean, and of queries by a step of their own.

    Scores are the dot products of queries with what the codes stand for, the mean included. What all documents have in
    common, such as the constant outliers of some models, costs their codes nothing, and a query is never cut off: each has
    the step that its largest value asks for. Where lengths differ, directions are coded and lengths kept beside them.
    """

    asymmetric = True

    kind: ClassVar[CodeKind]

    _mean: Floats
    _unit: np.float32

    @property
    def layout(self) -> CodeLayout:
        """How the codes lie in memory, and what a score over them means."""
        return CodeLayout(self.kind, self.in_dim, centred=True, lengths=bool(self._unit))

    def _fit(self, X: Floats, seed: int) -> None:
        keep = self._keeps_lengths
        found = row_lengths(X)
        found = found[found > 0]
        self._unit = np.float32(min(max(float(np.median(found)), _LEAST), _MOST) if keep and len(found) else keep)
        U = self._directions(X)[0]
        # A few documents hardly tell the mean: as many of zeros are added.
        self._mean = to_float32(U.sum(axis=0, dtype=np.float64) / (len(U) + _PRIOR_ROWS))
        self._fit_centred(U, seed)

    @abstractmethod
    def _fit_centred(self, U: Floats, seed: int) -> None:
        """Learn from vectors that are yet to be centred, by the mean that is known: a copy of all may be large."""

    def _directions(self, X: Floats) -> tuple[Floats, npt.NDArray[np.float64] | None]:
        """Return vectors as they are coded, and their lengths if these are kept."""
        if not self._unit:
            return X, None
        lengths = row_lengths(X)
        divided = X / np.where(lengths > 0, lengths, 1)[:, None]
        return divided.astype(np.float32), lengths

    def _rows(self, codes: Codes, factors: npt.NDArray[Any] | None, lengths: npt.NDArray[Any] | None) -> Codes:
        """Put factors and lengths behind codes."""
        if lengths is not None:
            lengths = lengths / float(self._unit)
        tails = [to_logarithms(tail)[:, None].view(np.uint8) for tail in (factors, lengths) if tail is not None]
        return np.concatenate([codes, *tails], axis=1) if tails else codes

    def _query_rows(self, terms: Sequence[npt.NDArray[np.float64] | float], codes: Codes) -> Codes:
        """Put step, square and offset before the codes of queries."""
        columns = np.empty((len(codes), len(terms)))
        for number, term in enumerate(terms):
            columns[:, number] = term
        columns *= float(self._unit) or 1.0
        rows = np.empty((len(codes), TERMS_BYTES + codes.shape[1]), np.uint8)
        rows[:, :TERMS_BYTES] = to_float32(columns).view(np.uint8)
        rows[:, TERMS_BYTES:] = codes
        return rows

    def _query_offsets(self, X: Floats) -> npt.NDArray[np.float64]:
        products: npt.NDArray[np.float64] = np.multiply(X, self._mean, dtype=np.float64).sum(axis=1)
        return products

    def _lengths_of(self, codes: Codes) -> npt.NDArray[np.float32] | None:
        """Return the lengths at the end of rows, None if there are none."""
        if not self._unit:
            return None
        return from_logarithms(np.ascontiguousarray(codes[:, -2:]).view(np.uint16)[:, 0]) * self._unit

    def _shapes(self, in_dim: int) -> Shapes:
        return {"mean": (np.float32, (in_dim,)), "unit": (np.float32, ())}

    def _get_arrays(self) -> State:
        return {"mean": self._mean, "unit": np.array(self._unit)}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._mean, self._unit = arrays["mean"], np.float32(arrays["unit"])
        if self._unit < 0:
            raise CodecError(f"expected a unit of lengths of at least 0 for {self.step_id}, got {self._unit}")


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """What a scaled quantizer is told of the magnitudes of the values that it learns from: largest, deviation, some of them."""

    most: float
    deviation: float
    some: npt.NDArray[np.float64]


class ScaledQuantizer(CentredQuantizer):
    """A quantizer that multiplies each centred value with a learned factor before it rounds.

    Dimensions that vary much get coarser steps and those that vary little finer ones, by the square root of their deviations:
    what that adds up to in the scores is least for queries that vary as documents do. Of rotation, factors by the deviation
    itself, and one factor for all, this was the best or within .003 of it on four models, with and without two constant
    outliers of 0.6 and 0.8; outliers that *vary* need a rotation in front (agreement of `int8` .80 to .94 without, .95 to .99
    with one).
    """

    largest: ClassVar[float]
    """Largest magnitude of the format."""

    largest_query: ClassVar[float] = 127.0
    """Largest magnitude of a query's codes."""

    _gain: Floats

    def _fit_centred(self, U: Floats, seed: int) -> None:
        n, dim = U.shape
        squares, most = np.zeros(dim), 0.0
        for block in self._centred(U):
            squares += np.square(block, dtype=np.float64).sum(axis=0)
        deviations = np.sqrt(squares / max(1, n))
        typical = float(np.sqrt(np.square(deviations).mean()))
        # Vectors that are all alike leave nothing to learn.
        spread = np.sqrt(np.maximum(deviations / typical, _LEAST_SPREAD)) if typical > 0 else np.ones(dim)
        for block in self._centred(U):
            most = max(most, float(np.abs(block / spread).max()))
        every = max(1, U.size // _SEARCHED_VALUES)
        columns = np.arange(0, U.size, every) % dim
        some = np.abs((U.reshape(-1)[::every] - self._mean[columns]) / spread[columns])
        bound = self._bound(Magnitudes(most, float(np.sqrt(np.square(deviations / spread).mean())), some))
        factor = min(max(self.largest / bound, _LEAST), _MOST) if bound > 0 else 1.0
        self._gain = to_float32(factor / spread)

    def _centred(self, U: Floats) -> Iterator[Floats]:
        for start in range(0, len(U), BLOCK_ROWS):
            yield U[start : start + BLOCK_ROWS] - self._mean

    def _bound(self, magnitudes: Magnitudes) -> float:
        """Return the magnitude that is put at `largest`."""
        return magnitudes.most

    def _encode(self, X: Floats) -> Codes:
        U, lengths = self._directions(X)
        with np.errstate(over="ignore", under="ignore"):
            scaled = (U - self._mean) * self._gain
        codes = self._round(np.clip(scaled, -self.largest, self.largest, out=scaled))
        if lengths is not None:
            # What the codes stand for is not quite of unit length; together with the length kept, it has the vector's own.
            found = row_lengths(self._values(codes) / self._gain + self._mean)
            lengths = np.divide(lengths, found, out=np.zeros_like(found), where=found > 0)
        return self._rows(codes, None, lengths)

    def _encode_queries(self, X: Floats) -> Codes:
        weighted = np.divide(X, self._gain, dtype=np.float64)
        step = np.abs(weighted).max(axis=1) / self.largest_query
        weighted /= np.where(step > 0, step, 1)[:, None]
        return self._query_rows([step, 0.0, self._query_offsets(X)], self._round_query(weighted.astype(np.float32)))

    @abstractmethod
    def _round(self, scaled: Floats) -> Codes:
        """Return the codes of values within `largest`."""

    def _round_query(self, scaled: Floats) -> Codes:
        codes: Codes = np.rint(scaled).astype(np.int8).view(np.uint8)
        return codes

    def _decode(self, codes: Codes) -> Floats:
        layout = self.layout
        values = self._values(np.ascontiguousarray(codes[:, : layout.code_bytes])) / self._gain
        values += self._mean
        lengths = self._lengths_of(codes)
        return values if lengths is None else values * lengths[:, None]

    def _values(self, codes: Codes) -> Floats:
        """Return the values, within `largest`, that codes stand for."""
        return self.layout.values(codes)

    def _shapes(self, in_dim: int) -> Shapes:
        return {**super()._shapes(in_dim), "gain": (np.float32, (in_dim,))}

    def _get_arrays(self) -> State:
        return {**super()._get_arrays(), "gain": self._gain}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        super()._set_arrays(arrays, in_dim)
        self._gain = arrays["gain"]
        if not (self._gain > 0).all():
            raise CodecError(f"expected positive gains in the learned state of {self.step_id}")


class _Float8(ScaledQuantizer):
    numkong_type: ClassVar[Literal["e4m3", "e5m2"]]

    def _bound(self, magnitudes: Magnitudes) -> float:
        # Room for documents twice as large as those seen: floating point keeps its precision, so that it costs nothing.
        return 2 * magnitudes.most

    def _round(self, scaled: Floats) -> Codes:
        return np.asarray(numkong.astype(scaled, self.numkong_type)).view(np.uint8)

    def _round_query(self, scaled: Floats) -> Codes:
        return self._round(scaled)


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
    >>> bool(np.allclose(step.decode(step.encode(X)), X, rtol=0.1))
    True
    """

    step_id = "float8-e4m3"
    short_name = "float8"
    kind = numkong_type = "e4m3"
    largest = largest_query = 448.0


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
    >>> bool(np.allclose(step.decode(step.encode(X)), X, rtol=0.1))
    True
    """

    step_id = "float8-e5m2"
    kind = numkong_type = "e5m2"
    largest = largest_query = 57344.0


@register_step
class Int8(ScaledQuantizer):
    """Store each value in one byte, as an integer from -127 to 127, relative to the mean.

    The magnitude that becomes 127 is the one that gives the least squared error on the fitted vectors; what is larger is cut
    off there. Agreement with the exact ten best is 0.96 to 0.99 on four models, nDCG@10 that of float32.

    Examples
    --------
    >>> X = np.array([[0.5, -1.0], [0.25, 1.25], [-0.75, -0.25]], dtype=np.float32)
    >>> step = Int8().fit(X, lengths=False)
    >>> step.decode(step.encode(X)).round(2)
    array([[ 0.5 , -1.  ],
           [ 0.25,  1.25],
           [-0.75, -0.25]], dtype=float32)
    """

    step_id = "int8"
    kind = "i8"
    largest = 127.0

    def _bound(self, magnitudes: Magnitudes) -> float:
        return _bound_of_least_error(magnitudes, self.largest)

    def _round(self, scaled: Floats) -> Codes:
        return np.rint(scaled, out=scaled).astype(np.int8).view(np.uint8)


@register_step
class Int4(ScaledQuantizer):
    """Store two values in a byte, as integers from -7 to 7 relative to the mean; the first of the two takes the lower half.

    The magnitude that becomes 7 is the one that gives the least squared error on the fitted vectors; what is larger is
    cut off there. Queries keep eight bits. `RaBitQ` of four bits is better where a factor of two bytes a vector and a
    rotation do not matter.

    Examples
    --------
    >>> X = np.array([[1.0, -2.0, 7.0], [-1.0, 2.0, -7.0]], dtype=np.float32)
    >>> step = Int4().fit(X)
    >>> step.encode(X).shape, step.encode_queries(X).shape
    ((2, 2), (2, 15))
    """

    step_id = "int4"
    kind = "i4"
    largest = 7.0
    largest_query = 119.0  # 16 times a nibble and a nibble, so that the kernel for nibbles multiplies both

    def _bound(self, magnitudes: Magnitudes) -> float:
        return _bound_of_least_error(magnitudes, self.largest)

    def _round(self, scaled: Floats) -> Codes:
        return pack_nibbles(np.rint(scaled, out=scaled).astype(np.int8))


def _bound_of_least_error(magnitudes: Magnitudes, largest: float) -> float:
    """Return the magnitude to be put at the largest whole number for the least squared error, what is cut off included."""
    values, best, least = magnitudes.some, magnitudes.most, np.inf
    for bound in best * 2.0 ** (-np.arange(41) / 8):
        step = bound / largest
        error = float(np.square(np.minimum(np.rint(values / step), largest) * step - values).sum()) if step else 0.0
        if error < least:
            best, least = float(bound), error
    return best


def pack_nibbles(whole: npt.NDArray[np.int8]) -> Codes:
    """Put two integers from -8 to 7 into each byte, the first in the lower half."""
    nibbles = whole.view(np.uint8) & 0x0F
    if nibbles.shape[1] % 2:
        nibbles = np.pad(nibbles, ((0, 0), (0, 1)))
    packed: Codes = np.bitwise_or(nibbles[:, 0::2], np.left_shift(nibbles[:, 1::2], 4), dtype=np.uint8)
    return packed


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
