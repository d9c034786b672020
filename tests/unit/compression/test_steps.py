"""What each step does to values, against obvious oracles."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from octavo.compression import (
    PCA,
    SVD,
    BFloat16,
    Binary,
    Float8,
    Float8E5M2,
    Float16,
    Int4,
    Int8,
    Rotate,
    Truncate,
)
from octavo.compression._quantizers import _minifloat_values
from octavo.errors import CodecError, InvalidVectorsError, ParameterError


def float8_cases(dtype):
    """Every finite value of the format, the midpoints between neighbours, and their float32 neighbours."""
    values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    values = np.unique(values[np.isfinite(values)])
    middle = (values[:-1] + values[1:]) / 2
    up, down = np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))
    beyond = np.float32([values[-1] * 1.03, values[-1] * 50, 3e38, 1e-30, -values[-1] * 1.2, -3e38])
    return np.concatenate([values, middle, up, down, beyond])


@pytest.mark.parametrize(
    ("step", "dtype", "largest"),
    [(Float8(), ml_dtypes.float8_e4m3fn, 448), (Float8E5M2(), ml_dtypes.float8_e5m2, 57344)],
)
def test_float8_rounds_to_nearest_even_and_saturates(step, dtype, largest):
    cases = float8_cases(dtype)[None, :]
    step.fit(np.full((1, cases.shape[1]), largest / 2))  # makes the factor 1
    assert step.layout.scale == 1.0
    expected = np.clip(cases, -largest, largest).astype(dtype)
    codes = step.encode(cases)
    np.testing.assert_array_equal(codes.view(dtype).astype(np.float32), expected.astype(np.float32))
    np.testing.assert_array_equal(step.decode(codes), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("bits", "dtype", "step"),
    [((4, 3), ml_dtypes.float8_e4m3fn, Float8), ((5, 2), ml_dtypes.float8_e5m2, Float8E5M2)],
)
def test_float8_table_has_every_pattern(bits, dtype, step):
    expected = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    np.testing.assert_array_equal(step.values, expected)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(_minifloat_values(*bits)[finite], expected[finite])


def test_float8_is_scaled_into_range():
    X = np.random.default_rng(0).normal(0, 1e-4, (100, 16))
    for step in (Float8(), Float8E5M2()):
        codes = step.fit(X).encode(X)
        assert np.abs(step.values[codes]).max() <= step.largest / 2
        assert np.abs(step.decode(codes) - X).max() < np.abs(X).max() / 8
        # twice as large as anything fitted still fits without saturation
        np.testing.assert_allclose(step.decode(step.encode(2 * X)), 2 * step.decode(codes), rtol=1e-6)


def test_bfloat16_rounds_to_nearest_even_and_saturates():
    patterns = np.arange(1 << 16, dtype=np.uint32) << 16
    near = np.concatenate([patterns, patterns | 0x8000, patterns | 0x7FFF, patterns | 0x8001]).view(np.float32)
    X = near[np.isfinite(near)][None, :]
    step = BFloat16().fit(X)
    largest = np.float32(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    expected = np.clip(X, -largest, largest).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(step.encode(X), expected.view(np.uint8))
    np.testing.assert_array_equal(step.decode(step.encode(X)), expected.astype(np.float32))


def test_float16_is_ieee_half_and_saturates():
    X = np.float32([[1.0, 1 / 3, -65504.0, 1e6, -3e38, 1e-8, 6e-8]])
    codes = Float16().fit(X).encode(X).view(np.float16)
    np.testing.assert_array_equal(codes, np.clip(X, -65504, 65504).astype(np.float16))


def test_int8_is_symmetrical_and_never_minus_128():
    X = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    step = Int8().fit(X)
    bound = np.abs(X).max()
    expected = np.clip(np.rint(X.astype(np.float64) * 127 / bound), -127, 127)
    np.testing.assert_array_equal(step.encode(X).view(np.int8), expected)
    np.testing.assert_array_equal(step.encode(-X).view(np.int8), -expected)
    np.testing.assert_array_equal(np.abs(step.encode(1000 * X).view(np.int8)).max(), 127)
    assert step.layout.scale == pytest.approx((bound / 127) ** 2, rel=1e-6)


def test_int4_packs_the_first_value_into_the_lower_half():
    step = Int4().set_state({"in_dim": np.array(5), "factor": np.array(1.0, np.float32)})
    codes = step.encode([[1, -1, 7, -7, 3], [0, 100, -100, 2.6, -0.4]])
    assert codes.tolist() == [[0xF1, 0x97, 0x03], [0x70, 0x39, 0x00]]
    assert step.decode(codes).tolist() == [[1, -1, 7, -7, 3], [0, 7, -7, 3, 0]]


def test_int4_finds_the_cut_off_of_least_error():
    X = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    X[0, 0] = 40  # an outlier that must not decide how coarsely everything is rounded

    def error(bound):
        decoded = np.clip(np.rint(X * 7 / bound), -7, 7) * bound / 7
        return np.square(decoded - X).sum()

    step = Int4().fit(X)
    chosen = np.square(step.decode(step.encode(X)) - X).sum()
    best = min(error(bound) for bound in np.geomspace(0.5, 40, 400))
    assert chosen <= 1.02 * best
    assert chosen < error(40.0) / 3


def test_binary_takes_signs_and_counts_zero_as_no():
    X = np.float32([[0.1, -0.1, 0.0, -0.0, 3, 1e-40, -5, 2, 1]])
    step = Binary().fit(X)
    assert step.encode(X).tolist() == [[0b10001101, 0b10000000]]
    np.testing.assert_allclose(step.decode(step.encode(X)) * 3, [[1, -1, -1, -1, 1, 1, -1, 1, 1]], rtol=1e-6)


def test_truncate_keeps_the_direction_of_the_prefix_and_the_length_of_the_whole():
    X = np.random.default_rng(0).normal(size=(20, 10)).astype(np.float32)
    step = Truncate(4).fit(X)
    Y = step.encode(X)
    prefix = X[:, :4].astype(np.float64)
    lengths = np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(Y, prefix / np.linalg.norm(prefix, axis=1, keepdims=True) * lengths, rtol=1e-6)
    np.testing.assert_array_equal(step.decode(Y), np.pad(Y, ((0, 0), (0, 6))))
    zero_prefix = np.float32([[0, 0, 0, 0, 1, 2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(step.encode(zero_prefix), np.zeros((1, 4)))


def test_svd_is_the_best_projection():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 12)) * np.arange(1, 13) + 2).astype(np.float32)
    step = SVD(5).fit(X)
    C = step.components.astype(np.float64)
    np.testing.assert_allclose(C.T @ C, np.eye(5), atol=1e-6)
    _, _, vt = np.linalg.svd(X.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(C @ C.T, vt[:5].T @ vt[:5], atol=1e-5)  # the same space
    np.testing.assert_allclose(step.decode(step.encode(X)), X @ vt[:5].T @ vt[:5], atol=1e-4)


def test_svd_spreads_the_length_evenly():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(500, 64)) * 0.95 ** np.arange(64) + 1).astype(np.float32)
    spread = np.square(SVD(32).fit(X).encode(X)).mean(axis=0)
    assert spread.max() / spread.sum() < 0.35  # the first singular vector alone holds more than 0.6
    singular = np.linalg.svd(X, compute_uv=False) ** 2
    assert singular[0] / singular.sum() > 0.6


def test_pca_is_the_best_projection_of_centred_documents():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 12)) * np.arange(1, 13) + 5).astype(np.float32)
    Q = rng.normal(size=(7, 12)).astype(np.float32)
    step = PCA(5).fit(X)
    mean = X.astype(np.float64).mean(axis=0)
    _, _, vt = np.linalg.svd(X - mean, full_matrices=False)
    projector = vt[:5].T @ vt[:5]
    np.testing.assert_allclose(step.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(step.components @ step.components.T, projector, atol=1e-5)
    np.testing.assert_allclose(step.decode(step.encode(X)), (X - mean) @ projector + mean, atol=1e-4)
    np.testing.assert_allclose(step.query_offset(Q), Q @ mean, atol=1e-4)
    scores = step.encode_queries(Q) @ step.encode(X).T + step.query_offset(Q)[:, None]
    np.testing.assert_allclose(scores, Q @ ((X - mean) @ projector + mean).T, atol=1e-3)


def test_fewer_vectors_than_directions():
    X = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    for step in (SVD(8), PCA(8)):
        C = step.fit(X).components
        np.testing.assert_allclose(C.T @ C, np.eye(8), atol=1e-5)
        np.testing.assert_allclose(step.decode(step.encode(X)), X, atol=1e-5)


def test_rotate_is_orthogonal_and_seeded():
    X = np.eye(9, dtype=np.float32)
    matrices = [Rotate(seed).fit(X).components.astype(np.float64) for seed in (0, 1, 2)]
    for R in matrices:
        np.testing.assert_allclose(R.T @ R, np.eye(9), atol=1e-6)
    for A, B in itertools.combinations(matrices, 2):
        assert np.abs(A - B).max() > 0.1
    np.testing.assert_array_equal(Rotate().fit(X, seed=2).components, Rotate(2).fit(X, seed=0).components)
    for wrong in (-1, True, 1.5, "3", 2**63):
        with pytest.raises(ParameterError, match="seed"):
            Rotate(wrong)


@pytest.mark.parametrize("step", [Truncate(11), SVD(11), PCA(11)])
def test_more_dimensions_than_there_are(step):
    with pytest.raises(CodecError, match="cannot keep 11 dimensions: only 10 go in"):
        step.fit(np.ones((3, 10)))
    assert not step.is_fitted


def test_codes_of_another_shape_are_refused():
    step = Int8().fit(np.ones((3, 10)))
    for wrong in (np.zeros((3, 9), np.uint8), np.zeros((3, 10), np.int8), np.zeros(10, np.uint8)):
        with pytest.raises(InvalidVectorsError, match=r"expected codes as uint8 of shape \(n, 10\)"):
            step.decode(wrong)
