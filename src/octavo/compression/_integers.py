"""Quantizers to small integers: int8 and int4, symmetrical about zero, with one learned factor."""

from __future__ import annotations

import numpy as np

from octavo.compression._base import Codes, Floats
from octavo.compression._registry import register_step
from octavo.compression._scale import ScaledQuantizer

#: Values looked at for the best cut-off; more change it no further.
_SEARCHED_VALUES = 200_000


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
