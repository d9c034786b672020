"""Paired tests and intervals against enumeration and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ParameterError
from octavo.eval.analysis.statistics import bootstrap_interval, paired_difference, randomisation_test, t_test


def enumerated(differences: np.ndarray) -> float:
    """Go through every way of swapping, one by one."""
    observed = abs(differences.sum())
    signs = itertools.product((-1, 1), repeat=len(differences))
    extreme = [
        abs(sum(s * d for s, d in zip(choice, differences, strict=True))) >= observed - 1e-12 for choice in signs
    ]
    return sum(extreme) / len(extreme)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), min_size=4, max_size=9), st.integers(0, 1000))
def test_randomisation_is_exact_for_few_queries(values: list[float], seed: int) -> None:
    a = np.array(values)
    b = np.random.default_rng(seed).permutation(a)
    assert randomisation_test(a, b) == pytest.approx(min(1.0, enumerated(b - a)), abs=1e-9)


def test_randomisation_by_sampling_agrees_with_enumeration() -> None:
    rng = np.random.default_rng(3)
    a = rng.random(14)
    b = a + rng.normal(0.1, 0.25, 14)
    sampled = randomisation_test(a, b, resamples=4000)  # fewer than the 16,384 swaps there are
    assert sampled == pytest.approx(enumerated(b - a), abs=0.02)


def test_equal_queries_do_not_change_the_p_value() -> None:
    a, b = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.1, 0.6, 0.7])
    same = np.linspace(0, 1, 50)
    assert randomisation_test(np.r_[a, same], np.r_[b, same]) == randomisation_test(a, b)


def test_randomisation_survives_many_queries() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(4000)
    b = a + rng.normal(0.02, 0.1, 4000)
    assert randomisation_test(a, b, resamples=200) == pytest.approx(1 / 201 * 2, rel=0.6)


def test_p_values_are_uniform_when_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    small = [randomisation_test(rng.random(20), rng.random(20), resamples=199, seed=i) < 0.2 for i in range(200)]
    assert 0.1 < np.mean(small) < 0.3


def test_t_test_against_the_formula() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(40), rng.random(40)
    d = b - a
    t = d.mean() / (d.std(ddof=1) / math.sqrt(len(d)))
    grid = np.linspace(abs(t), 200, 400_001)  # the tail of Student's density with 39 degrees of freedom, by hand
    nu = len(d) - 1
    log_norm = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
    density = np.exp(log_norm - (nu + 1) / 2 * np.log1p(grid**2 / nu))
    assert t_test(a, b) == pytest.approx(2 * np.trapezoid(density, grid), rel=1e-4)


def test_degenerate_differences() -> None:
    a = np.array([0.1, 0.2, 0.3])
    assert t_test(a, a) == 1.0
    assert randomisation_test(a, a) == 1.0
    assert t_test(a, a + 0.5) == 0.0
    assert bootstrap_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_bootstrap_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).normal(0.3, 0.2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.003)
    assert high == pytest.approx(values.mean() + half, abs=0.003)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(5).random(30)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_paired_difference_counts_and_serialises() -> None:
    d = paired_difference([0.0, 0.5, 1.0, 0.2], [0.5, 0.5, 0.9, 0.4], test="t")
    assert (d.wins, d.losses, d.ties, d.n) == (2, 1, 1, 4)
    assert d.difference == pytest.approx(0.15)
    assert d.relative == pytest.approx(0.15 / 0.425)
    assert d.low <= d.difference <= d.high
    assert d.to_dict()["relative"] == d.relative
    assert paired_difference([0.0, 0.0], [0.0, 1.0]).relative is None


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        ([0.1], [0.2], {}),
        ([0.1, 0.2], [0.2], {}),
        ([0.1, float("nan")], [0.2, 0.3], {}),
        ([0.1, 0.2], [0.2, 0.3], {"test": "wilcoxon"}),
        ([0.1, 0.2], [0.2, 0.3], {"confidence": 1.0}),
        ([0.1, 0.2], [0.2, 0.3], {"resamples": 5}),
    ],
)
def test_bad_input_is_named(a: list[float], b: list[float], options: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        paired_difference(a, b, **options)
