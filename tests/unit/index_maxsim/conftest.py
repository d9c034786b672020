"""Ragged token codes of every kind with what they decode to, made without the library under test."""

from __future__ import annotations

import itertools
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


class Ragged(NamedTuple):
    """Token codes of documents and queries, and the float64 values that they stand for."""

    layout: CodeLayout
    codes: np.ndarray
    offsets: np.ndarray
    queries: list[np.ndarray]
    values: list[np.ndarray]
    query_values: list[np.ndarray]

    def oracle(self, query: int, documents: list[int] | np.ndarray | None = None) -> np.ndarray:
        """Score documents one pair of tokens at a time."""
        wanted = range(len(self.values)) if documents is None else documents
        out = []
        for d in wanted:
            total = 0.0
            for q in self.query_values[query]:
                total += max((float(q @ token) for token in self.values[d]), default=-np.inf)
            out.append(self.layout.scale * total)
        return np.array(out)


def encode(kind: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and the values that they stand for."""
    n, dim = x.shape
    if kind in FLOATS:
        typed = (x * (8.0 if kind.startswith("e") else 1.0)).astype(FLOATS[kind])
        codes, values = typed.view(np.uint8), typed.astype(np.float64)
    elif kind == "i8":
        typed = np.clip(np.rint(x * 254), -127, 127).astype(np.int8)
        codes, values = typed.view(np.uint8), typed.astype(np.float64)
    elif kind == "i4":
        values = np.clip(np.rint(x * 14), -8, 7)
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
        raise AssertionError(f"teach encode the kind {kind!r}")
    return np.ascontiguousarray(codes).reshape(n, -1), values


def make_ragged(
    kind: str,
    lengths: list[int] | np.ndarray,
    query_lengths: list[int] | np.ndarray = (5,),
    dim: int = 48,
    scale: float = 1.0,
    seed: int = 0,
) -> Ragged:
    """Draw documents and queries of the given numbers of tokens, of about unit length."""
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum([*lengths, *query_lengths])]).astype(np.int64)
    x = rng.standard_normal((int(bounds[-1]), dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-12
    codes, values = encode(kind, x)
    layout = CodeLayout(kind, dim, scale)  # type: ignore[arg-type]
    codes = codes.reshape(-1, layout.row_bytes)
    n = len(lengths)
    split = [values[a:b] for a, b in itertools.pairwise(bounds)]
    asked = values.astype(np.int8).view(np.uint8) if kind == "i2" else codes  # queries of two-bit documents are i8
    queries = [asked[a:b].copy() for a, b in itertools.pairwise(bounds[n:])]
    return Ragged(layout, codes[: bounds[n]].copy(), bounds[: n + 1], queries, split[:n], split[n:])


@pytest.fixture(scope="session")
def ragged() -> Callable[..., Ragged]:
    """Return the maker of ragged samples."""
    return make_ragged


@pytest.fixture(params=PLAIN)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of code that a layout can name."""
    return str(request.param)
