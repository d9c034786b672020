"""Maximal marginal relevance against a double loop and against langchain-core."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import InvalidVectorsError, ParameterError
from octavo.retrievers.mmr import maximal_marginal_relevance


def cosine(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths > 0 else 0.0


def slow_mmr(scores, vectors, k, lambda_mult):
    chosen = []
    while len(chosen) < min(k, len(scores)):
        best, best_value = -1, -np.inf
        for i in range(len(scores)):
            if i in chosen:
                continue
            if chosen:
                near = max(cosine(vectors[i], vectors[j]) for j in chosen)
                value = lambda_mult * scores[i] - (1 - lambda_mult) * near
            else:
                value = scores[i]
            if value > best_value:
                best, best_value = i, value
        chosen.append(best)
    return chosen


def sample(seed, n=40, dim=6):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)) * rng.uniform(0.1, 9, size=(n, 1))
    query = rng.normal(size=dim)
    return query, vectors, np.array([cosine(query, vector) for vector in vectors])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_agrees_with_the_double_loop(seed, k, lambda_mult):
    _, vectors, scores = sample(seed, n=20)
    assert maximal_marginal_relevance(scores, vectors, k, lambda_mult).tolist() == slow_mmr(
        scores, vectors, k, lambda_mult
    )


@pytest.mark.parametrize("lambda_mult", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_agrees_with_langchain(lambda_mult):
    utils = pytest.importorskip("langchain_core.vectorstores.utils")
    for seed in range(5):
        query, vectors, scores = sample(seed)
        expected = utils.maximal_marginal_relevance(query, list(vectors), lambda_mult=lambda_mult, k=15)
        assert maximal_marginal_relevance(scores, vectors, 15, lambda_mult).tolist() == expected


def test_one_is_the_order_of_relevance_with_ties_in_the_order_given():
    scores = np.array([0.5, 0.9, 0.5, 0.9])
    assert maximal_marginal_relevance(scores, np.eye(4), 4, 1.0).tolist() == [1, 3, 0, 2]


def test_zero_ignores_relevance_after_the_first():
    vectors = np.array([[1.0, 0], [1, 0.1], [-1, 0]])
    assert maximal_marginal_relevance([0.9, 0.8, -0.9], vectors, 2, 0.0).tolist() == [0, 2]


def test_length_and_scale_of_vectors_do_not_matter():
    _, vectors, scores = sample(3)
    factors = np.random.default_rng(0).choice([1e-200, 1e-3, 1e200], size=(len(vectors), 1))
    assert (
        maximal_marginal_relevance(scores, vectors, 20, 0.5).tolist()
        == maximal_marginal_relevance(scores, vectors * factors, 20, 0.5).tolist()
    )


def test_a_zero_vector_is_similar_to_nothing():
    assert maximal_marginal_relevance([0.9, 0.8, 0.7], [[1, 0], [1, 0], [0, 0]], 3, 0.5).tolist() == [0, 2, 1]


def test_does_not_change_its_input():
    _, vectors, scores = sample(1)
    kept = vectors.copy(), scores.copy()
    maximal_marginal_relevance(scores, vectors, 5, 0.5)
    np.testing.assert_array_equal(vectors, kept[0])
    np.testing.assert_array_equal(scores, kept[1])


def test_fewer_candidates_than_asked_for():
    assert maximal_marginal_relevance([0.1], np.ones((1, 3), np.float32), 9).tolist() == [0]
    assert maximal_marginal_relevance([], np.empty((0, 3), np.float32), 9).tolist() == []


@pytest.mark.parametrize(
    ("scores", "vectors", "k", "lambda_mult", "error", "message"),
    [
        ([1.0], [[1.0]], 0, 0.5, ParameterError, "k as an integer of at least 1"),
        ([1.0], [[1.0]], 1, 1.5, ParameterError, "lambda_mult as a number between 0"),
        ([1.0], [[1.0]], 1, float("nan"), ParameterError, "lambda_mult as a number between 0"),
        ([1.0, 2.0], [[1.0]], 1, 0.5, ParameterError, "shape"),
        ([1.0], [1.0], 1, 0.5, ParameterError, "shape"),
        ([float("nan")], [[1.0]], 1, 0.5, InvalidVectorsError, "finite"),
        ([1.0], [[float("inf")]], 1, 0.5, InvalidVectorsError, "finite"),
    ],
)
def test_refuses(scores, vectors, k, lambda_mult, error, message):
    with pytest.raises(error, match=message):
        maximal_marginal_relevance(scores, vectors, k, lambda_mult)
