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
        ("pq:12.5%", 2),
        ("itq:100%", 2),
        ("itq:7", 1),
        ("bebr:3", 6),
        ("leanvec:50%", 32),
        ("matryoshka:4", 16),
        ("matryoshka:4|binary-sign", 1),
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
        "pq",
        "itq:4|int8-minmax",
        "gaussian:4|bebr:2",
    ):
        with pytest.raises(ParameterError, match="expected a baseline"):
            check_baseline(wrong)
    with pytest.raises(ParameterError, match="many"):
        check_baseline("gaussian:many")
    for wrong in ("bebr:0", "bebr:9", "bebr:50%", "bebr:"):
        with pytest.raises(ParameterError, match="bebr:1"):
            check_baseline(wrong)


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


# ---------------------------------------------------------------------- what learns


@pytest.fixture(scope="module")
def bent() -> tuple[np.ndarray, np.ndarray]:
    """Documents and queries that share a mean and vary little in most directions, as models' vectors do."""
    rng = np.random.default_rng(3)
    spread = np.linspace(1, 0.1, 32) ** 2
    X = (rng.normal(size=(1500, 32)) * spread + 0.3).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X[:1400], X[1400:]


def found(name: str, pair: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the share of the exact ten best that a baseline finds."""
    encoded = encode_baseline(name, *pair)
    exact, got = rank_all(*pair, 10)[0], rank_all(encoded.documents, encoded.queries, 10)[0]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), got.tolist(), strict=True)]))


def test_product_quantization_takes_the_nearest_of_256_centroids(bent: tuple[np.ndarray, np.ndarray]) -> None:
    documents, queries = bent
    encoded = encode_baseline("pq:4", documents, queries)
    assert np.array_equal(encoded.queries, queries)
    for part in range(4):
        columns = slice(8 * part, 8 * part + 8)
        centroids = np.unique(encoded.documents[:, columns], axis=0)
        assert 200 < len(centroids) <= 256
        nearest = ((documents[:, None, columns] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        assert np.allclose(centroids[nearest], encoded.documents[:, columns])
    assert found("pq:8", bent) > found("pq:4", bent) > found("pq:2", bent)


def test_product_quantization_of_few_documents_keeps_them() -> None:
    rows = np.repeat(np.eye(6, dtype=np.float32)[:3], 2, axis=0)
    assert np.allclose(encode_baseline("pq:2", rows, rows).documents, rows, atol=1e-6)


def test_iterative_quantization_turns_for_its_signs(bent: tuple[np.ndarray, np.ndarray]) -> None:
    encoded = encode_baseline("itq:100%", *bent)
    assert set(np.unique(encoded.documents)) == set(np.unique(encoded.queries)) == {-1.0, 1.0}
    assert abs(encoded.documents.mean()) < 0.2  # the common mean is gone
    assert found("itq:100%", bent) > found("binary-sign", bent) + 0.05


def test_planes_of_residual_binarisation(bent: tuple[np.ndarray, np.ndarray]) -> None:
    documents, _ = bent
    one = encode_baseline("bebr:1", *bent)
    assert np.allclose(one.documents, np.where(documents > 0, 1, -1) / np.sqrt(32))
    signs = np.where(documents > 0, 1, -1)
    second = np.where(documents > signs / np.sqrt(32), 1, -1) / 2
    two = (signs + second) / np.linalg.norm(signs + second, axis=1, keepdims=True)
    assert np.allclose(encode_baseline("bebr:2", *bent).documents, two, atol=1e-6)
    assert found("bebr:1", bent) < found("bebr:2", bent) < found("bebr:4", bent)


def test_a_query_teaches_only_the_others(bent: tuple[np.ndarray, np.ndarray]) -> None:
    documents, queries = bent
    full = encode_baseline("leanvec:100%", documents, queries)
    assert np.allclose(full.documents @ full.queries.T, documents @ queries.T, atol=1e-3)
    half = encode_baseline("leanvec:50%", documents, queries)
    assert ((half.queries[:, :16] == 0).all(axis=1) != (half.queries[:, 16:] == 0).all(axis=1)).all()
    changed = queries.copy()
    changed[0] = -changed[0]
    again = encode_baseline("leanvec:50%", documents, changed)
    assert np.allclose(again.queries[0], -half.queries[0], atol=1e-5)
    assert found("leanvec:50%", bent) > found("gaussian:50%", bent)


def test_an_adaptor_makes_truncation_cost_less(bent: tuple[np.ndarray, np.ndarray]) -> None:
    turned = tuple(X @ np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0].astype(np.float32) for X in bent)
    exact = turned[0][:300] @ turned[0][:300].T

    def loss(X: np.ndarray) -> float:
        unit = X[:300] / np.linalg.norm(X[:300], axis=1, keepdims=True)
        return float(np.square(unit @ unit.T - exact).mean())

    encoded = encode_baseline("matryoshka:8", *turned)
    assert encoded.documents.shape == (1400, 8)
    assert loss(encoded.documents) < 0.5 * loss(turned[0][:, :8])
    assert np.array_equal(encoded.documents, encode_baseline("matryoshka:8", *turned).documents)
