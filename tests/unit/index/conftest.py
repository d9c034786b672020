"""Codes of every kind with what they decode to, made without the library under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import pytest

from codes import encode
from octavo._layout import RABITQ, CodeKind, CodeLayout

#: Kinds that need not be centred; test_index_centred.py has the others, and these as they are when centred.
PLAIN = [kind for kind in get_args(CodeKind) if kind not in RABITQ]


class Sample(NamedTuple):
    """Codes and the float64 values that they stand for (unscaled; unit sign vectors for b1)."""

    layout: CodeLayout
    codes: np.ndarray
    values: np.ndarray

    @property
    def queries(self) -> np.ndarray:
        """The same vectors as queries: two-bit codes spread out, all others as they are."""
        return self.values.astype(np.int8).view(np.uint8) if self.layout.kind == "i2" else self.codes


def make_sample(kind: str, n: int, dim: int, seed: int = 0, scale: float = 1.0) -> Sample:
    """Draw n clustered vectors of about unit length and encode them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((12, dim))
    x = centres[rng.integers(0, 12, n)] + 0.7 * rng.standard_normal((n, dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-12
    layout = CodeLayout(kind, dim, scale)  # type: ignore[arg-type]
    codes, values = encode(kind, x)
    return Sample(layout, np.ascontiguousarray(codes).reshape(n, layout.row_bytes), values)


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """Return the maker of samples."""
    return make_sample


@pytest.fixture(params=PLAIN)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of code that a layout can name."""
    return str(request.param)
