"""What callers give as vectors, whatever its origin, becomes the same checked float32 rows, or is refused by name."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octavo._arrays import as_matrix, check_matrix, finite_floats, real_array, unit_rows
from octavo.compression import Float32, TokenMatrices
from octavo.encoders import TokenEncoder
from octavo.encoders.dense import as_encoder
from octavo.errors import InputTypeError, InvalidVectorsError

torch = pytest.importorskip("torch")

ROWS = [[1.0, 2.0], [3.0, -4.0]]


class Foreign:
    """An array of another library, which numpy can read."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(ROWS, dtype)


@pytest.mark.parametrize(
    "given_",
    [
        ROWS,
        tuple(map(tuple, ROWS)),
        np.array(ROWS, np.float16),
        np.array(ROWS, ">f8"),
        np.array(ROWS, np.int8),
        np.asfortranarray(ROWS),
        np.array(ROWS, ml_dtypes.bfloat16),
        np.array(ROWS, object),
        [np.array(row) for row in ROWS],
        [np.array(row, ml_dtypes.bfloat16) for row in ROWS],
        Foreign(),
        torch.tensor(ROWS),
        torch.tensor(ROWS, dtype=torch.bfloat16),
        torch.tensor(ROWS, dtype=torch.int64),
        torch.tensor(ROWS, requires_grad=True),
        [torch.tensor(row, requires_grad=True) for row in ROWS],
        [torch.tensor(row, dtype=torch.bfloat16) for row in ROWS],
        [[torch.tensor(value) for value in row] for row in ROWS],
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_origin_gives_the_same_rows(given_: Any) -> None:
    matrix = as_matrix(given_, 2)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.tolist() == ROWS
    assert Float32().fit(given_).encode(given_).view(np.float32).tolist() == ROWS
    assert TokenMatrices.of([given_]).flat.tolist() == ROWS
    assert as_encoder(lambda texts: given_).encode_documents(["a", "b"]).tolist() == ROWS
    assert TokenEncoder(lambda texts: [given_]).encode_queries(["a"])[0].tolist() == ROWS


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ([["a", "b"]], InputTypeError, "real numbers, got <U1"),
        (np.array([["a", 1.0]], object), InputTypeError, "real numbers"),
        ([[1j, 2]], InputTypeError, "complex128"),
        (torch.tensor([[1j, 2]]), InputTypeError, "complex"),
        (np.array([["2020-01-01"]], "M8[D]"), InputTypeError, "datetime64"),
        (np.zeros((2, 1), [("x", "f4")]), InputTypeError, "real numbers"),
        (None, InvalidVectorsError, "shape"),
        ([[1.0], [1.0, 2.0]], InvalidVectorsError, "ragged"),
        ([1.0, 2.0], InvalidVectorsError, r"X\[None, :\]"),
        (np.zeros((1, 2, 2)), InvalidVectorsError, r"\(1, 2, 2\)"),
        (np.zeros((2, 0)), InvalidVectorsError, "dimension 2, got 0"),
        ([[1.0, None]], InvalidVectorsError, "NaN in row 0"),
        ([[0.0, 1.0], [1.0, -np.inf]], InvalidVectorsError, "-infinity in row 1"),
        ([[1e300, 0.0]], InvalidVectorsError, "infinity in row 0"),
        ([[1.0, 2.0, 3.0]], InvalidVectorsError, "dimension 2, got 3"),
    ],
)
def test_anything_else_is_refused_by_name(given_: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        as_matrix(given_, 2, "the thing")
    assert "the thing" in str(caught.value)


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(width=32)))
def test_finite_or_refused(matrix: np.ndarray) -> None:
    if np.isfinite(matrix).all():
        assert finite_floats(matrix).tolist() == matrix.tolist()
    else:
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        with pytest.raises(InvalidVectorsError, match=f"row {row + 5}$"):
            finite_floats(matrix, 5)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        elements=st.floats(-(2.0**120), 2.0**120, width=32),
    )
)
def test_unit_rows(matrix: np.ndarray) -> None:
    units = unit_rows(matrix, keep_zeros=True)
    assert units.dtype == np.float32
    wide = matrix.astype(np.float64)
    for row, unit in zip(wide, units, strict=True):
        length = np.sqrt(sum(value * value for value in row))
        np.testing.assert_allclose(unit, row / length if length else row, rtol=1e-6, atol=1e-40)
    if not matrix.any(axis=1).all():
        with pytest.raises(InvalidVectorsError, match="zero vector"):
            unit_rows(matrix)


def test_nothing_is_converted_before_it_must() -> None:
    halves = np.array(ROWS, np.float16)
    assert real_array(halves) is halves
    assert check_matrix(halves, 2) is halves
    floats = np.array(ROWS, np.float32)
    assert as_matrix(floats) is floats
    assert as_matrix(np.zeros((0, 7)), 2).shape == (0, 7)
    with pytest.raises(InvalidVectorsError, match="dimension 2, got 7"):
        check_matrix(np.zeros((0, 7)), 2)


_ASK_AGAIN = """
import resource, sys
import numpy as np
from octavo._arrays import retain_arrays

def some_arrays():
    arrays = [np.ones(1 << 20, np.uint8) for _ in range(5)]

def new_pages():
    for _ in range(5):
        some_arrays()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        some_arrays()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20

before = new_pages()
retain_arrays()
print(before, new_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator goes by the largest array")
def test_memory_that_a_search_left_is_there_for_the_next_one() -> None:
    """Five arrays of a mebibyte, given back and asked for again: about a thousand pages, or none."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    child = subprocess.run(
        [sys.executable, "-c", _ASK_AGAIN], env=environment, capture_output=True, text=True, check=True
    )
    before, after = map(float, child.stdout.split())
    assert before > 500
    assert after < 100
