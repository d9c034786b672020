"""Levels of least error, packed and unpacked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from octavo.compression._lloyd_max import LloydMax, gaussian_levels
from octavo.errors import CodecError, InvalidVectorsError, NotFittedError, ParameterError
from octavo.index.maxsim import maxsim_explain, maxsim_scores, maxsim_search

# Squared errors for a normal variable of unit variance, Max (1960), table I.
ERRORS = {1: 0.3634, 2: 0.1175, 4: 0.009497}


def normal(n, dim, seed=0, deviation=0.1):
    return np.float32(deviation * np.random.default_rng(seed).standard_normal((n, dim)))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_levels_are_the_published_ones(bits):
    levels, edges = gaussian_levels(bits)
    assert_allclose(levels, -levels[::-1], atol=1e-12)
    x = np.random.default_rng(0).standard_normal(400_000)
    error = np.square(x - levels[np.searchsorted(edges, x)]).mean()
    assert_allclose(error, ERRORS[bits], rtol=0.02)
    if bits == 1:
        assert_allclose(levels[1], np.sqrt(2 / np.pi), atol=1e-9)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("dim", [1, 7, 16, 33])
def test_nearest_level_of_each_value(bits, dim):
    X = normal(200, dim)
    step = LloydMax(bits).fit(X)
    codes = step.encode(X)
    assert codes.shape == (200, step.stored_bytes) == (200, (dim * bits + 7) // 8)
    levels = np.sqrt(np.mean(np.float64(X) ** 2)) * gaussian_levels(bits)[0]
    nearest = levels[np.abs(X[:, :, None] - levels).argmin(axis=2)]
    assert_allclose(step.decode(codes), nearest, atol=levels[-1] / 200)  # levels are whole numbers of 127
    assert_array_equal(codes, np.concatenate([step.encode(X[i : i + 1]) for i in range(200)]))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("dim", [5, 32])
def test_maxsim_over_packed_codes(bits, dim):
    X, Q = normal(90, dim), normal(7, dim, seed=1)
    step = LloydMax(bits).fit(X)
    codes, query = step.encode(X), step.encode_queries(Q)
    offsets = np.array([0, 20, 20, 21, 60, 90])
    decoded = step.decode(codes)
    whole = query.view(np.int8) * np.float64(step._bound / 127)
    wanted = [(whole @ decoded[a:b].T).max(axis=1).sum() if b > a else -np.inf for a, b in itertools.pairwise(offsets)]
    scores = maxsim_scores(step.layout, codes, offsets, query, unpack=step.unpack)
    assert_allclose(scores, wanted, rtol=1e-4, atol=1e-6)
    found, best = maxsim_search(step.layout, codes, offsets, [query], 3, unpack=step.unpack)
    order = np.argsort(-scores, kind="stable")[:3]
    assert_array_equal(found[0], order)
    assert_array_equal(best[0], scores[order])
    matrix = maxsim_explain(step.layout, codes, offsets, query, 3, unpack=step.unpack)
    assert_allclose(matrix.max(axis=1).sum(), scores[3], rtol=1e-5)


def test_more_bits_give_better_products():
    X, Q = normal(300, 64), normal(20, 64, seed=1)
    errors = []
    for bits in (1, 2, 4):
        step = LloydMax(bits).fit(X)
        errors.append(np.abs(Q @ step.decode(step.encode(X)).T - Q @ X.T).mean())
    assert errors[0] > 1.5 * errors[1] > 3 * errors[2]


def test_configuration_and_state():
    X = normal(50, 9)
    step = LloydMax(4).fit(X)
    again = LloydMax.from_config(step.get_config()).set_state(step.get_state())
    assert again == step
    assert eval(repr(step)) == step
    assert LloydMax.from_argument(None).bits == 2
    assert again.layout == step.layout
    assert_array_equal(again.encode(X), step.encode(X))
    assert_array_equal(again.encode_queries(X), step.encode_queries(X))
    zeros = LloydMax().fit(np.zeros((3, 4)))
    assert np.isfinite(zeros.decode(zeros.encode(np.zeros((1, 4))))).all()


def test_what_does_not_fit_is_refused():
    X = normal(5, 8)
    with pytest.raises(ParameterError, match="1, 2 and 4"):
        LloydMax(3)
    with pytest.raises(CodecError, match="lloyd-max:4"):
        LloydMax.from_argument("8")
    with pytest.raises(NotFittedError):
        LloydMax().encode(X)
    step = LloydMax(2).fit(X)
    with pytest.raises(CodecError, match="positive"):
        LloydMax(2).set_state({**step.get_state(), "bound": np.array(0, np.float32)})
    codes, query = step.encode(X), step.encode_queries(X)
    with pytest.raises(InvalidVectorsError, match=r"\(n, 2\)"):
        step.decode(query)
    with pytest.raises(ParameterError, match=r"packed document codes of shape \(n, 2\)"):
        maxsim_scores(step.layout, query, np.array([0, 5]), query, unpack=step.unpack)
    with pytest.raises(ParameterError, match="256"):
        maxsim_scores(step.layout, codes, np.array([0, 5]), query, unpack=step.unpack[:9])
