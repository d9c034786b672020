"""Codes of one to four bits a value whose scores estimate inner products without bias."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats, row_lengths, to_float32
from octavo._layout import CodeKind, CodeLayout, from_logarithms
from octavo._rotation import ROUNDS, StructuredRotation
from octavo._validation import check_integer
from octavo.compression._base import Shapes, State
from octavo.compression._quantizers import CentredQuantizer, pack_nibbles
from octavo.compression._registry import register_step
from octavo.errors import CodecError

_KINDS: dict[int, CodeKind] = {1: "r1", 2: "r2", 3: "r3", 4: "r4"}

#: Rows from which the stretch of the grid is learned.
_STRETCH_ROWS = 500
#: Steps towards the stretch that gives a row the product wanted; each at least halves what is left.
_STRETCH_STEPS = 6
#: Rows encoded at a time: what fits the caches takes two thirds of the time.
_BLOCK = 512
#: Vectors whose lengths deviate by less than this part are taken for vectors of one length.
_EQUAL = 0.02

#: Part of the typical length below which a mean is taken for zero: queries are not centred by it then.
_LEAST_MEAN = 0.05


@register_step
class RaBitQ(CentredQuantizer):
    """Store one to four bits a value, relative to the mean and rotated, and a factor of two bytes that makes scores unbiased.

    The direction of each centred vector, turned by a random rotation, becomes the nearest odd whole numbers on a stretched
    grid. The rotation spreads its values evenly, so that the product with the codes, divided by the product of the vector with
    its own codes (the factor), estimates the true dot product: the error shrinks with the square root of the dimension.
    Lengths are kept. Queries keep eight bits, and are centred themselves.

    Agreement with the exact ten best of vectors of 256 and 384 values is 0.60 to 0.77 with one bit, 0.79 to 0.88 with two, 0.88
    to 0.94 with three and 0.93 to 0.96 with four, on three models (benchmarks/bench_codecs_models.py). One bit finds
    candidates for a finer tier: ``rabitq:1 > int8`` agrees in 0.96 and more.

    Parameters
    ----------
    bits : {1, 2, 3, 4}, default=1
        Bits a value. A row takes so many, rounded up to whole bytes for each bit, and two bytes for the factor.

    References
    ----------
    Gao, J. and Long, C. (2024). RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate
    nearest neighbor search. SIGMOD. arXiv:2405.12497.

    Gao, J. et al. (2025). Practical and asymptotically optimal quantization of high-dimensional vectors in Euclidean space for
    approximate nearest neighbor search. SIGMOD. arXiv:2409.09913.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 384)).astype(np.float32)
    >>> [RaBitQ(bits).fit(X, lengths=False).encode(X).shape[1] for bits in (1, 2, 3, 4)]
    [50, 98, 146, 194]
    """

    step_id = "rabitq"

    def __init__(self, bits: int = 1) -> None:
        self.bits = check_integer(bits, "bits", least=1, most=4)
        self._top = 2**self.bits - 1

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Build the step from its number of bits."""
        if argument not in ("1", "2", "3", "4"):
            raise CodecError(f"expected {cls.name()}:1 to {cls.name()}:4 (bits a value), got {argument!r}")
        return cls(int(argument))

    @property
    def argument(self) -> str:
        """The number of bits."""
        return str(self.bits)

    def __repr__(self) -> str:
        return f"RaBitQ({self.bits})"

    @property
    def layout(self) -> CodeLayout:
        """How the codes lie in memory, and what a score over them means."""
        return CodeLayout(_KINDS[self.bits], self.in_dim, lengths=bool(self._unit))

    # -- learning ----------------------------------------------------------------------------------------------------

    def _fit_centred(self, U: Floats, seed: int) -> None:
        X = U - self._mean
        self._rotation = StructuredRotation(X.shape[1], seed)
        found = row_lengths(X)
        chosen = np.flatnonzero(found > 0)
        chosen = chosen[:: max(1, len(chosen) // _STRETCH_ROWS)]
        self._stretch = self._product = np.float32(1)
        self._radius = np.float32(1)
        if not len(chosen):
            return
        self._radius = np.float32(np.median(found[chosen]))
        turned = self._rotation.apply((X[chosen] / found[chosen, None]).astype(np.float32))
        if self.bits > 1:
            self._stretch = np.float32(max(self._stretches(X.shape[1]), key=lambda t: self._fits(turned, t)))
        self._product = np.float32(np.median(_products(turned, self._grid(turned, self._stretch))))

    def _fit(self, X: Floats, seed: int) -> None:
        super()._fit(X, seed)
        # The part of a score that lies along the mean follows from a centred vector's length if that of the whole is known.
        found = np.ones(1) if self._unit else row_lengths(X)
        whole = float(np.median(found[found > 0])) if (found > 0).any() else 0.0
        equal = bool(whole) and float(np.square(found[found > 0] / whole - 1).mean()) < _EQUAL**2
        self._mean_square = _square(self._mean)
        mean = math.sqrt(self._mean_square)
        self._whole = np.float32(whole if equal and mean > _LEAST_MEAN * whole else 0.0)

    def _stretches(self, dim: int) -> npt.NDArray[np.float64]:
        stretches: npt.NDArray[np.float64] = np.sqrt(dim) * 2.0 ** (self.bits - 2) * np.linspace(0.4, 1.4, 41)
        return stretches

    def _fits(self, turned: Floats, stretch: float) -> float:
        """Return the mean cosine of directions with their codes."""
        codes = self._grid(turned, np.float32(stretch))
        return float((_products(turned, codes) / row_lengths(codes)).mean())

    def _shapes(self, in_dim: int) -> Shapes:
        numbers: Shapes = dict.fromkeys(("stretch", "product", "radius", "whole"), (np.float32, ()))
        return {
            **super()._shapes(in_dim),
            **numbers,
            "order": (np.int32, (ROUNDS, in_dim)),
            "signs": (np.uint8, (ROUNDS, 2, in_dim)),
        }

    def _get_arrays(self) -> State:
        return {
            **super()._get_arrays(),
            "stretch": np.array(self._stretch),
            "product": np.array(self._product),
            "radius": np.array(self._radius),
            "whole": np.array(self._whole),
            "order": self._rotation.order,
            "signs": self._rotation.signs,
        }

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        super()._set_arrays(arrays, in_dim)
        self._stretch, self._product = np.float32(arrays["stretch"]), np.float32(arrays["product"])
        self._radius, self._whole = np.float32(arrays["radius"]), np.float32(arrays["whole"])
        if min(self._stretch, self._product, self._radius) <= 0 or self._whole < 0:
            raise CodecError(f"expected positive numbers in the learned state of {self.step_id}")
        self._mean_square = _square(self._mean)
        self._rotation = StructuredRotation.restore(arrays["order"], arrays["signs"])

    # -- use ---------------------------------------------------------------------------------------------------------

    def _encode(self, X: Floats) -> Codes:
        if len(X) <= _BLOCK:
            return self._encode_block(X)
        return np.concatenate([self._encode_block(X[start : start + _BLOCK]) for start in range(0, len(X), _BLOCK)])

    def _encode_block(self, X: Floats) -> Codes:
        U, lengths = self._directions(X)
        centred = U - self._mean
        radii = row_lengths(centred)
        turned = self._rotation.apply((centred / np.where(radii > 0, radii, 1)[:, None]).astype(np.float32))
        codes = self._grid(turned, self._stretch) if self.bits == 1 else self._stretched(turned)
        products = _products(turned, codes)
        factors = np.divide(
            radii * self._product, products * self._radius, out=np.zeros_like(radii), where=products > 0
        )
        return self._rows(self._pack(codes), factors, lengths)

    def _grid(self, turned: Floats, stretch: npt.NDArray[np.float32] | np.float32) -> Floats:
        """Return the nearest odd whole numbers of stretched directions."""
        codes = np.floor(turned * stretch)
        codes *= 2
        codes += 1
        clipped: Floats = np.clip(codes, -self._top, self._top, out=codes)
        return clipped

    def _stretched(self, turned: Floats) -> Floats:
        """Return the codes whose products with their directions are as nearly the learned one as the grid allows.

        The factor of a row then tells the length of its centred vector, which nothing else stores.
        """
        wanted = float(self._product)
        low = np.full(len(turned), 0.5 * self._stretch, np.float64)
        high = np.full(len(turned), 2.0 * self._stretch, np.float64)
        stretch = np.full(len(turned), self._stretch, np.float64)
        best, nearest = np.empty_like(turned), np.full(len(turned), np.inf)
        for _ in range(_STRETCH_STEPS):
            codes = self._grid(turned, stretch.astype(np.float32)[:, None])
            products = _products(turned, codes)
            off = np.abs(products - wanted)
            better = off < nearest
            best[better], nearest[better] = codes[better], off[better]
            below = products < wanted
            low, high = np.where(below, stretch, low), np.where(below, high, stretch)
            # The product grows almost in proportion; where that leads outside of what is known, the middle is taken.
            guess = stretch * (wanted / np.maximum(products, 1e-30))
            stretch = np.where((guess > low) & (guess < high), guess, (low + high) / 2)
        return best

    def _pack(self, codes: Floats) -> Codes:
        if self.bits == 4:
            return pack_nibbles(((codes - 1) / 2).astype(np.int8))
        places = ((codes + self._top) / 2).astype(np.uint8)
        planes = [np.packbits(places >> plane & 1, axis=1) for plane in range(self.bits - 1, -1, -1)]
        return np.concatenate(planes, axis=1)

    def _encode_queries(self, X: Floats) -> Codes:
        offset = self._query_offsets(X)
        square = np.zeros(len(X))
        centred: npt.NDArray[Any] = X
        if self._whole:
            along = offset / self._mean_square
            centred = X - along[:, None] * self._mean
            square = along * (-0.5 * float(self._radius) ** 2)
            offset = offset + along * (0.5 * (float(self._whole) ** 2 - self._mean_square))
        turned = self._rotation.apply(to_float32(centred)).astype(np.float64)
        largest = np.abs(turned).max(axis=1)
        if self.bits == 4:
            step = largest / 119  # 16 times a nibble and a nibble, so that the kernel for nibbles multiplies both
            turned /= np.where(step > 0, step, 1)[:, None]
            np.rint(turned, out=turned)
        else:
            step = largest / 127  # odd, so that seven planes of bits hold them
            turned /= np.where(step > 0, 2 * step, 1)[:, None]
            np.floor(turned, out=turned)
            turned *= 2
            turned += 1
            np.clip(turned, -127, 127, out=turned)
        per_factor = float(self._radius) / float(self._product)
        return self._query_rows([step * per_factor, square, offset], turned.astype(np.int8).view(np.uint8))

    def _decode(self, codes: Codes) -> Floats:
        layout = self.layout
        whole = layout.values(codes)
        tails = np.ascontiguousarray(codes[:, layout.code_bytes :]).view(np.uint16)
        radii = from_logarithms(tails[:, 0]) * self._radius
        # Of all multiples of the codes the one nearest to the vector: its length times the cosine of the two.
        share = radii * self._product / np.square(row_lengths(whole))
        vectors = self._rotation.undo((whole * share[:, None]).astype(np.float32)) + self._mean
        lengths = self._lengths_of(codes)
        return vectors if lengths is None else vectors * lengths[:, None]


def _square(vector: Floats) -> float:
    return float(np.square(vector, dtype=np.float64).sum())


def _products(turned: Floats, codes: Floats) -> npt.NDArray[np.float64]:
    products: npt.NDArray[np.float64] = np.multiply(turned, codes, dtype=np.float64).sum(axis=1)
    return products
