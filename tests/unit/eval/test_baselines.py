"""Reference schemes against what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ParameterError
from octavo.eval.baselines import DEFAULT_BASELINES, check_baseline, encode_baseline, rank_all, to_e4m3

ml_dtypes = pytest.importorskip("ml_dtypes")


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 16)).astype(np.float32) * np.linspace(2, 0.5, 16, dtype=np.float32) + 0.3
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X[:80], X[80:]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-600, 600, width=32), min_size=1, max_size=30))
def test_float8_rounds_as_the_format_does(values: list[float]) -> None:
    X = np.array(values, np.float32)
    expected = np.clip(X, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(to_e4m3(X), expected)


def test_float8_of_small_values() -> None:
    X = np.concatenate([np.linspace(-0.07, 0.07, 4001), [2.0**-10, 2.0**-9, 1.5 * 2.0**-9]]).astype(np.float32)
    assert np.array_equal(to_e4m3(X), X.astype(ml_dtypes.float8_e4m3fn).astype(np.float32))


def test_casts(pair: tuple[np.ndarray, np.ndarray]) -> None:
    documents, queries = pair
    half = encode_baseline("float16-cast", documents, queries)
    assert np.array_equal(half.queries, queries.astype(np.float16).astype(np.float32))
    signs = encode_baseline("binary-sign", documents, queries)
    hamming = ((documents > 0)[:, None] != (queries > 0)[None]).sum(axis=2)
    assert np.array_equal(signs.documents @ signs.queries.T, 16 - 2 * hamming)
    raw = encode_baseline("int8-minmax", documents, queries)
    assert set(raw.documents.min(axis=0)) == {-128}
    assert set(raw.documents.max(axis=0)) == {127}
    assert np.array_equal(raw.documents, raw.documents.astype(np.int8))
    assert np.abs(raw.queries).max() <= 128


def test_pca_is_scikit_learns(pair: tuple[np.ndarray, np.ndarray]) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    documents, queries = pair
    fitted = decomposition.PCA(8).fit(documents.astype(np.float64))
    found = encode_baseline("pca-cosine:50%", documents, queries)

    def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = fitted.transform(a), fitted.transform(b)
        return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T

    assert np.allclose(found.documents @ found.queries.T, cosines(documents, queries), atol=1e-5)


def test_gaussian_projection_keeps_lengths_and_is_seeded(pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, same, other = (encode_baseline("gaussian:8", *pair, seed=seed).documents for seed in (0, 0, 1))
    assert one.shape == (80, 8)
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "row_bytes"),
    [
        ("int8-minmax", 16),
        ("float16-cast", 32),
        ("float8-cast", 16),
        ("binary-sign", 2),
        ("pca-cosine:50%", 32),
        ("gaussian:3", 12),
        ("pca-cosine:4|int8-minmax", 4),
        ("gaussian:50% | binary-sign", 1),
    ],
)
def test_bytes(pair: tuple[np.ndarray, np.ndarray], name: str, row_bytes: int) -> None:
    assert encode_baseline(name, *pair).row_bytes == row_bytes


def test_names() -> None:
    assert [check_baseline(name) for name in DEFAULT_BASELINES] == list(DEFAULT_BASELINES)
    assert check_baseline("gaussian:50% | binary-sign") == "gaussian:50%|binary-sign"
    for wrong in (
        "",
        "int8",
        "gaussian",
        "int8-minmax|gaussian:4",
        "gaussian:4|gaussian:2",
        "svd:4|int8-minmax",
        "int8-minmax|",
    ):
        with pytest.raises(ParameterError, match="expected a baseline"):
            check_baseline(wrong)
    with pytest.raises(ParameterError, match="many"):
        check_baseline("gaussian:many")


def test_ranking_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.eval.baselines._BLOCK_SCORES", 100)
    rng = np.random.default_rng(0)
    documents = rng.integers(-2, 3, (30, 3)).astype(np.float32)  # many ties
    queries = rng.integers(-2, 3, (11, 3)).astype(np.float32)
    rows, scores = rank_all(documents, queries, 7)
    for query, found, values in zip(queries, rows, scores, strict=True):
        exact = [float(document @ query) for document in documents]
        assert found.tolist() == sorted(range(30), key=lambda row: (-exact[row], row))[:7]
        assert values.tolist() == [exact[row] for row in found]
    assert rank_all(documents, queries, 99)[0].shape == (11, 30)
