"""What each step does to values, against obvious oracles."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from octavo._layout import CodeLayout
from octavo.compression import (
    PCA,
    SVD,
    BFloat16,
    Binary,
    Codec,
    Float8,
    Float8E5M2,
    Float16,
    Int2,
    Int4,
    Int8,
    Pipeline,
    RaBitQ,
    Rotate,
    Truncate,
)
from octavo.errors import CodecError, InvalidVectorsError, ParameterError
from octavo.index import exact_search


def float8_cases(dtype):
    """Every finite value of the format, the midpoints between neighbours, and their float32 neighbours."""
    values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    values = np.unique(values[np.isfinite(values)])
    middle = (values[:-1] + values[1:]) / 2
    up, down = np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))
    beyond = np.float32([values[-1] * 1.03, values[-1] * 50, 3e38, 1e-30, -values[-1] * 1.2, -3e38])
    return np.concatenate([values, middle, up, down, beyond])


def plain(step, dim):
    """Return a step that centres nothing and has a gain of one."""
    ones = np.ones(dim, np.float32)
    state = {"in_dim": np.array(dim), "mean": 0 * ones, "gain": ones, "unit": np.array(0, np.float32)}
    return step.set_state(state)


@pytest.mark.parametrize(
    ("step", "dtype", "largest"),
    [(Float8(), ml_dtypes.float8_e4m3fn, 448), (Float8E5M2(), ml_dtypes.float8_e5m2, 57344)],
)
def test_float8_rounds_to_nearest_even_and_saturates(step, dtype, largest):
    cases = float8_cases(dtype)[None, :]
    plain(step, cases.shape[1])
    expected = np.clip(cases, -largest, largest).astype(dtype)
    codes = step.encode(cases)
    np.testing.assert_array_equal(codes.view(dtype).astype(np.float32), expected.astype(np.float32))
    np.testing.assert_array_equal(step.decode(codes), expected.astype(np.float32))


@pytest.mark.parametrize(("dtype", "step"), [(ml_dtypes.float8_e4m3fn, Float8), (ml_dtypes.float8_e5m2, Float8E5M2)])
def test_float8_reads_every_pattern(dtype, step):
    patterns = np.arange(256, dtype=np.uint8)
    expected = patterns.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(CodeLayout(step.kind, 256).values(patterns[None])[0], expected)


def test_float8_is_scaled_into_range():
    X = np.random.default_rng(0).normal(3e-4, 1e-4, (100, 16))
    for step in (Float8(), Float8E5M2()):
        codes = step.fit(X, lengths=False).encode(X)
        assert np.abs(step.layout.values(codes)).max() <= step.largest / 2
        assert np.abs(step.decode(codes) - X).max() < np.abs(X - X.mean(axis=0)).max() / 8
        # twice as far from the mean as anything fitted still fits without saturation
        far = step.decode(step.encode(X + (X - X.mean(axis=0))))
        assert np.abs(far - X - (X - X.mean(axis=0))).max() < np.abs(X - X.mean(axis=0)).max() / 4


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


def test_int8_is_symmetrical_about_the_mean_and_never_minus_128():
    X = np.random.default_rng(0).normal(2, 1, size=(100, 8)).astype(np.float32)
    step = Int8().fit(X, lengths=False)
    mean = X.astype(np.float64).sum(axis=0) / 108  # drawn to zero by eight rows of zeros
    state = step.get_state()
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-6)
    expected = np.clip(np.rint((X - mean) * state["gain"]), -127, 127)
    assert (step.encode(X).view(np.int8) != expected).mean() < 0.01  # halves, where float32 rounds otherwise
    around = 2 * np.float64(state["mean"]) - X
    assert (step.encode(around).view(np.int8) != -expected).mean() < 0.01
    assert step.encode(1000 * X).view(np.int8).max() == 127
    assert step.encode(-1000 * X).view(np.int8).min() == -127


def test_gains_follow_the_root_of_the_deviations():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(4000, 6)) * [1, 4, 16, 1e-9, 1, 1] + [0, 1, 5, 7, -3, 2]).astype(np.float32)
    for step in (Int8(), Int4(), Float8()):
        gain = step.fit(X, lengths=False).get_state()["gain"].astype(np.float64)
        np.testing.assert_allclose(gain[0] / gain[1:3], [2, 4], rtol=0.1)
        assert gain[3] / gain[0] < np.sqrt(16 * 1000)  # a dimension that never varies is not blown up without end


def test_int4_packs_the_first_value_into_the_lower_half():
    step = plain(Int4(), 5)
    codes = step.encode([[1, -1, 7, -7, 3], [0, 100, -100, 2.6, -0.4]])
    assert codes.tolist() == [[0xF1, 0x97, 0x03], [0x70, 0x39, 0x00]]
    assert step.decode(codes).tolist() == [[1, -1, 7, -7, 3], [0, 7, -7, 3, 0]]


@pytest.mark.parametrize(("step", "largest"), [(Int4(), 7), (Int8(), 127)])
def test_integers_find_the_cut_off_of_least_error(step, largest):
    X = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    if largest == 7:
        X[0, 0] = 40  # an outlier that must not decide how coarsely everything is rounded

    def error(bound):
        decoded = np.clip(np.rint(X * largest / bound), -largest, largest) * bound / largest
        return np.square(decoded - X).sum()

    step.fit(X, lengths=False)
    chosen = np.square(step.decode(step.encode(X)) - X).sum()
    best = min(error(bound) for bound in np.geomspace(0.5, 40, 400))
    assert chosen <= 1.1 * best


@pytest.mark.parametrize("step", [Int8(), Int4(), Float8(), Int2(), RaBitQ(2)])
def test_what_all_documents_have_in_common_costs_nothing(step):
    rng = np.random.default_rng(0)
    X, Q = (rng.normal(size=(n, 32)).astype(np.float32) for n in (600, 40))
    for x in (X, Q):
        x[:, 3], x[:, 17] = 12, -9  # two dimensions that are the same everywhere
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    best = np.argsort(-(Q @ X.T), axis=1)[:, :10]
    [tier] = Codec([Pipeline([step])]).fit(X)
    found, scores = exact_search(tier.layout, tier.encode(X), tier.encode_queries(Q), 10)
    agreement = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, best, strict=True)])
    assert agreement > {"int8": 0.9, "int4": 0.6, "float8-e4m3": 0.8, "int2": 0.3, "rabitq": 0.35}[step.step_id]
    np.testing.assert_allclose(scores, np.take_along_axis(Q @ X.T, found, 1), atol=0.05)


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
    step = SVD(5).fit(X, lengths=False)
    C = step.components.astype(np.float64)
    np.testing.assert_allclose(C.T @ C, np.eye(5), atol=1e-6)
    _, _, vt = np.linalg.svd(X.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(C @ C.T, vt[:5].T @ vt[:5], atol=1e-5)  # the same space
    projected = X @ vt[:5].T @ vt[:5]
    stretch = np.linalg.norm(X, axis=1) / np.linalg.norm(projected, axis=1)
    np.testing.assert_allclose(step.decode(step.encode(X)), projected * stretch[:, None], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("step", [Truncate(5), SVD(5), PCA(5)])
def test_reduced_vectors_have_their_own_length_again(step):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 12)) * np.arange(1, 13) + 2).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = step.fit(X).encode(X)
    back = step.decode(Y) if isinstance(step, PCA) else Y
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, rtol=1e-5)
    twice = 2 * X
    back = step.decode(step.encode(twice)) if isinstance(step, PCA) else step.encode(twice)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 2, rtol=1e-5)
    assert not step.encode(np.zeros((1, 12))).any() or isinstance(step, PCA)


@pytest.mark.parametrize("step", [SVD(5), PCA(5)])
def test_where_lengths_count_what_was_cut_off_stays_cut_off(step):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 12)) * np.arange(1, 13) + 2).astype(np.float32)
    for lengths in (None, True):  # they differ, which the sample tells
        back = step.fit(X, lengths=lengths).decode(step.encode(X))
        mean = step.mean if isinstance(step, PCA) else 0
        projected = (X - mean) @ step.components @ step.components.T + mean
        np.testing.assert_allclose(back, projected, rtol=1e-3, atol=1e-3)


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
    step = PCA(5).fit(X, lengths=False)
    mean = X.astype(np.float64).mean(axis=0)
    _, _, vt = np.linalg.svd(X - mean, full_matrices=False)
    projector = vt[:5].T @ vt[:5]
    np.testing.assert_allclose(step.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(step.components @ step.components.T, projector, atol=1e-5)
    kept = (X - mean) @ projector
    # The multiple of what is kept that gives the vector its own length: found by bisection.
    low, high = np.zeros(200), np.full(200, 50.0)
    for _ in range(80):
        middle = (low + high) / 2
        long = np.linalg.norm(mean + middle[:, None] * kept, axis=1) > np.linalg.norm(X, axis=1)
        low, high = np.where(long, low, middle), np.where(long, middle, high)
    stretched = kept * low[:, None] + mean
    # Elsewhere there is no multiple, or two of them.
    well = (np.abs(np.linalg.norm(stretched, axis=1) - np.linalg.norm(X, axis=1)) < 1e-6) & (np.abs(low - 1) < 0.5)
    assert well.sum() > 100
    np.testing.assert_allclose(step.decode(step.encode(X))[well], stretched[well], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(step.query_offset(Q), Q @ mean, atol=1e-4)
    scores = step.encode_queries(Q) @ step.encode(X).T + step.query_offset(Q)[:, None]
    np.testing.assert_allclose(scores[:, well], Q @ stretched[well].T, rtol=1e-3, atol=0.05)


def test_fewer_vectors_than_directions():
    X = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    for step in (SVD(8), PCA(8)):
        C = step.fit(X).components
        np.testing.assert_allclose(C.T @ C, np.eye(8), atol=1e-5)
        np.testing.assert_allclose(step.decode(step.encode(X)), X, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 3, 9, 33, 64, 100])
def test_rotate_is_orthogonal_and_seeded(dim):
    X = np.eye(dim, dtype=np.float32)
    matrices = [Rotate(seed).fit(X).encode(X).astype(np.float64) for seed in (0, 1, 2)]
    for R in matrices:
        np.testing.assert_allclose(R.T @ R, np.eye(dim), atol=1e-6)
    for A, B in itertools.combinations(matrices, 2):
        assert np.abs(A - B).max() > 0.1 or dim < 3
    np.testing.assert_array_equal(Rotate().fit(X, seed=2).encode(X), Rotate(2).fit(X, seed=0).encode(X))
    np.testing.assert_allclose(Rotate(3).fit(X).decode(Rotate(3).fit(X).encode(X)), X, atol=1e-6)
    for wrong in (-1, True, 1.5, "3", 2**63):
        with pytest.raises(ParameterError, match="seed"):
            Rotate(wrong)


@pytest.mark.parametrize("dim", [96, 128, 255, 768])
def test_rotate_spreads_every_dimension_over_all(dim):
    R = Rotate(1).fit(np.eye(dim)).encode(np.eye(dim)) * np.sqrt(dim)
    assert np.abs(R).max() < 6
    assert 2.5 < np.mean(R**4) < 3.5  # 3 for normal values; what hardly mixes has far more
    assert 2 < np.mean(np.sort(np.abs(R), axis=1)[:, -1]) < 4.5


def test_a_rotation_takes_few_bytes():
    step = Rotate().fit(np.empty((0, 3072)))
    assert step.state_bytes < 64_000
    assert Codec.parse("rotate|int8").fit(np.eye(4, 3072)).state_bytes < 100_000


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
