"""Scalar quantization to the few best levels for normally distributed values."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats
from octavo.compression._quantizers import Magnitudes, ScaledQuantizer
from octavo.compression._registry import register_step


@lru_cache
def gaussian_levels(bits: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the levels of least squared error for a standard normal variable, and the edges between them.

    Lloyd's two conditions are applied in turn until nothing moves: each edge lies midway between two levels, each level
    is the mean of the variable between two edges.

    Examples
    --------
    >>> levels, edges = gaussian_levels(2)
    >>> levels.round(4).tolist(), edges.round(4).tolist()
    ([-1.5104, -0.4528, 0.4528, 1.5104], [-0.9816, 0.0, 0.9816])
    """
    n = 1 << bits
    levels = np.linspace(-2.0, 2.0, n) if n > 2 else np.array([-1.0, 1.0])
    while True:
        edges = (levels[1:] + levels[:-1]) / 2
        bounds = [-math.inf, *edges.tolist(), math.inf]
        density = np.array([math.exp(-x * x / 2) for x in bounds]) / math.sqrt(2 * math.pi)
        below = np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in bounds])
        better = (density[:-1] - density[1:]) / (below[1:] - below[:-1])
        better = (better - better[::-1]) / 2  # symmetrical, as the distribution is
        if np.abs(better - levels).max() < 1e-12:
            return better, (better[1:] + better[:-1]) / 2
        levels = better


@register_step
class Int2(ScaledQuantizer):
    """Store four values in a byte, each as the nearest of the four best levels for normal values; the first in the lowest bits.

    The levels are -1.510, -0.453, 0.453 and 1.510 times the deviation of the fitted values from their mean; the squared error
    expected is then the least, 0.118 of the variance. Meant to stand behind `Rotate`, which makes the values nearly normal.
    Queries keep eight bits a value. `RaBitQ` of two bits takes two bytes more a vector and is better.

    No kernel multiplies values of two bits: rows are unpacked where they are compared, and a graph holds a byte a value,
    as it does for `Int4`. Reading all rows therefore takes several times as long as with `Int8`. What shrinks are the files
    and the page cache that they need, which is most of a collection for token vectors and for the finest tier.

    References
    ----------
    Lloyd, S. P. (1982). Least squares quantization in PCM. IEEE Transactions on Information Theory 28(2).

    Max, J. (1960). Quantizing for minimum distortion. IRE Transactions on Information Theory 6(1).

    Examples
    --------
    >>> X = np.array([[-3.0, -0.5, 0.5, 3.0], [3.0, 0.5, -0.5, -3.0]], dtype=np.float32)
    >>> step = Int2().fit(X)
    >>> step.encode(X).shape, step.encode_queries(X).shape
    ((2, 1), (2, 16))
    """

    step_id = "int2"
    kind = "i2"
    largest = 127.0

    def _bound(self, magnitudes: Magnitudes) -> float:
        return magnitudes.deviation * float(gaussian_levels(2)[0][-1])

    def _round(self, scaled: Floats) -> Codes:
        levels, edges = gaussian_levels(2)
        places = np.zeros(scaled.shape, np.uint8)
        for edge in (edges * (127 / levels[-1])).astype(np.float32):
            places += edge <= scaled  # for so few edges many times quicker than a search in them
        grouped = np.pad(places, ((0, 0), (0, -scaled.shape[1] % 4))).reshape(len(scaled), -1, 4)
        packed: Codes = np.bitwise_or.reduce(grouped << np.arange(0, 8, 2, dtype=np.uint8), axis=2)
        return packed
