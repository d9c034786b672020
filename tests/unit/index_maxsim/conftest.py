"""Ragged token codes of every kind with what they decode to, made without the library under test."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import pytest

from codes import encode
from octavo._layout import RABITQ, CodeKind, CodeLayout

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
