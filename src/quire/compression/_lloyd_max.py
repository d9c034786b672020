"""Scalar quantization to the few best levels for normally distributed values: one, two or four bits a value."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from quire._layout import CodeLayout
from quire.compression._base import Codes, Floats, Quantizer, State, as_matrix, check_arrays, in_blocks
from quire.errors import CodecError, InvalidVectorsError, ParameterError

_BITS = (1, 2, 4)


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


class LloydMax(Quantizer):
    """Store each value as one of 2, 4 or 16 levels; compare with queries of eight bits.

    Meant for token vectors behind `Rotate`, which makes their values nearly normal. Nothing but the deviation of the
    values is learned, so that adding a document costs only that document.

    Codes of documents are packed, the first value in the lowest bits of a byte, and narrower than `layout` says: they are
    unpacked to ``i8`` by the table `unpack` when they are compared, which the MaxSim functions of `quire.index` do.
    Queries are ``i8`` from the start. usearch and the searches over single vectors cannot read packed codes, so codec
    strings do not know this step.

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
    asymmetric = True

    def __init__(self, bits: int = 2) -> None:
        if bits not in _BITS or isinstance(bits, bool):
            raise ParameterError(f"expected bits out of 1, 2 and 4, got {bits!r}")
        self.bits = int(bits)

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

    # -- learning ----------------------------------------------------------------------------------------------------

    def _fit(self, X: Floats, seed: int) -> None:
        deviation = float(np.sqrt(np.square(X, dtype=np.float64).mean()))
        # Vectors that are all zero leave nothing to learn.
        self._deviation = np.float32(deviation or 1.0)
        self._bound = np.float32(float(np.abs(X).max()) or 1.0)

    def _get_arrays(self) -> State:
        return {"deviation": np.array(self._deviation), "bound": np.array(self._bound)}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        check_arrays(self, arrays, {"deviation": (), "bound": ()})
        self._deviation, self._bound = np.float32(arrays["deviation"]), np.float32(arrays["bound"])
        if not (self._deviation > 0 and self._bound > 0):
            raise CodecError("expected a positive deviation and bound in the learned state of lloyd-max")

    # -- use ---------------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> CodeLayout:
        """How unpacked codes and queries lie in memory."""
        highest = float(gaussian_levels(self.bits)[0][-1])
        return CodeLayout("i8", self.in_dim, float(self._deviation) * highest / 127 * float(self._bound) / 127)

    @property
    def stored_bytes(self) -> int:
        """Bytes that one packed row takes."""
        return -(-self.in_dim * self.bits // 8)

    @property
    def unpack(self) -> npt.NDArray[np.uint8]:
        """Table of shape (256, 8 / bits): the ``i8`` codes that each stored byte stands for."""
        shifts = np.arange(0, 8, self.bits)
        places = (np.arange(256)[:, None] >> shifts) & ((1 << self.bits) - 1)
        table: npt.NDArray[np.uint8] = self._whole_levels[places].view(np.uint8)
        return table

    @property
    def _whole_levels(self) -> npt.NDArray[np.int8]:
        levels = gaussian_levels(self.bits)[0]
        whole: npt.NDArray[np.int8] = np.rint(levels * (127 / levels[-1])).astype(np.int8)
        return whole

    @property
    def _out_width(self) -> int:
        return self.stored_bytes

    def _encode(self, X: Floats) -> Codes:
        edges = (gaussian_levels(self.bits)[1] * float(self._deviation)).astype(np.float32)
        places = np.searchsorted(edges, X, side="right").astype(np.uint8)
        each = 8 // self.bits
        places = np.pad(places, ((0, 0), (0, -X.shape[1] % each))).reshape(len(X), -1, each)
        packed: Codes = np.bitwise_or.reduce(places << np.arange(0, 8, self.bits, dtype=np.uint8), axis=2)
        return packed

    def encode_queries(self, X: npt.ArrayLike, /) -> Codes:
        """Encode queries in eight bits a value.

        Parameters
        ----------
        X : array_like of shape (n, in_dim)
            Real numbers, finite in float32. What is larger than the largest value of `fit` is cut off there.

        Returns
        -------
        ndarray of shape (n, in_dim), uint8
            Codes of kind ``i8``.
        """
        matrix = as_matrix(X, self.in_dim)
        out = np.empty((len(matrix), self.in_dim), np.uint8)
        in_blocks(matrix, out, self._encode_queries)
        return out

    def _encode_queries(self, X: Floats) -> Codes:
        scaled = np.clip(X * (np.float32(127) / self._bound), -127, 127)
        codes: Codes = np.rint(scaled).astype(np.int8).view(np.uint8)
        return codes

    def decode(self, codes: npt.NDArray[Any], /) -> Floats:
        """Return the vectors of shape (n, in_dim) that packed codes stand for."""
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.stored_bytes:
            raise InvalidVectorsError(
                f"expected codes as uint8 of shape (n, {self.stored_bytes}), got {codes.dtype} of shape {codes.shape}"
            )
        return self._decode(codes)

    def _decode(self, codes: Codes) -> Floats:
        levels = self.unpack.view(np.int8)[codes].reshape(len(codes), -1)[:, : self.in_dim]
        step = float(self._deviation) * float(gaussian_levels(self.bits)[0][-1]) / 127
        return np.ascontiguousarray(levels * np.float32(step))
