"""One learned factor for all values of all vectors, which puts them into the range of a small format."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from octavo._layout import CodeKind, CodeLayout
from octavo.compression._base import Floats, Quantizer, State, check_arrays
from octavo.errors import CodecError, NotFittedError

#: Factors stay within these bounds, so that neither they nor their squares leave the range of float32.
_LEAST, _MOST = 1e-18, 1e18


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

    def _get_arrays(self) -> State:
        return {"factor": np.array(self._factor)}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        check_arrays(self, arrays, {"factor": ()})
        factor = float(arrays["factor"])
        if not _LEAST * 0.99 <= factor <= _MOST * 1.01:
            raise CodecError(f"expected the factor of {self.step_id} between {_LEAST} and {_MOST}, got {factor}")
        self._learned_factor = np.float32(factor)
