"""Codes of every kind with what they decode to, made without the library under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import ml_dtypes
import numpy as np
import pytest

from octavo._layout import RABITQ, CodeKind, CodeLayout

FLOATS = {
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}

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
    if kind in FLOATS:
        typed = (x * (8.0 if kind.startswith("e") else 1.0)).astype(FLOATS[kind])
        codes, values = typed.view(np.uint8), typed.astype(np.float64)
    elif kind == "i8":
        typed = np.clip(np.rint(x * 127 * 2), -127, 127).astype(np.int8)
        codes, values = typed.view(np.uint8), typed.astype(np.float64)
    elif kind == "i4":
        values = np.clip(np.rint(x * 7 * 2), -8, 7)
        nibbles = np.zeros((n, dim + dim % 2), dtype=np.uint8)
        nibbles[:, :dim] = values.astype(np.int8).view(np.uint8) & 15
        codes = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    elif kind == "i2":
        places = np.zeros((n, dim + -dim % 4), dtype=np.uint8)
        places[:, :dim] = np.digitize(x * np.sqrt(dim), [-1, 0, 1])
        values = np.array([-127.0, -38.0, 38.0, 127.0])[places[:, :dim]]
        codes = (places.reshape(n, -1, 4) * np.array([1, 4, 16, 64], dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
    elif kind == "b1":
        codes = np.packbits(x > 0, axis=1)
        values = np.where(x > 0, 1.0, -1.0) / np.sqrt(dim)
    else:
        raise AssertionError(f"teach make_sample the kind {kind!r}")
    return Sample(layout, np.ascontiguousarray(codes).reshape(n, layout.row_bytes), values)


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """Return the maker of samples."""
    return make_sample


@pytest.fixture(params=PLAIN)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of code that a layout can name."""
    return str(request.param)
