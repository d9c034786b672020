"""Paired tests and intervals against enumeration and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ParameterError
from octavo.eval.analysis.statistics import (
    mean_interval,
    paired_difference,
    queries_needed,
    randomisation_test,
    shares_kept,
    t_test,
)


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
    assert t_test(a, b) == pytest.approx(2 * np.sum((density[1:] + density[:-1]) / 2 * np.diff(grid)), rel=1e-4)


def test_degenerate_differences() -> None:
    a = np.array([0.1, 0.2, 0.3])
    assert t_test(a, a) == 1.0
    assert randomisation_test(a, a) == 1.0
    assert t_test(a, a + 0.5) == 0.0
    same = paired_difference(a, a)
    assert (same.changed, same.difference, same.p_value) == (0, 0.0, 1.0)
    assert same.low < 0 < same.high  # three queries prove nothing


@pytest.mark.parametrize("n", [2, 30, 300])
def test_without_any_change_it_is_the_rule_of_three(n: int) -> None:
    low, high = mean_interval([0.0] * n, least=-1, most=1, confidence=0.9, resamples=20_000)
    assert low == pytest.approx(-(1 - 0.05 ** (1 / n)), rel=0.03)
    assert high == pytest.approx(-low, rel=0.03)
    assert paired_difference([0.5] * n, [0.5] * n).unseen == pytest.approx(1 - 0.05 ** (1 / n))
    if n == 300:
        assert low == pytest.approx(-3 / n, rel=0.03)


@pytest.mark.parametrize(("ones", "n"), [(1, 20), (3, 50), (45, 50)])
def test_of_zeros_and_ones_it_is_that_of_clopper_and_pearson(ones: int, n: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    exact = scipy_stats.binomtest(ones, n).proportion_ci(0.95, method="exact")
    found = mean_interval([1.0] * ones + [0.0] * (n - ones), least=0, most=1, resamples=40_000)
    assert found == pytest.approx((exact.low, exact.high), abs=0.004)


def _population(rng: np.random.Generator, losing: float, winning: float) -> np.ndarray:
    """Differences of nDCG@10 of a hundred thousand queries, of which few change: as many as a good codec changes."""
    kind = rng.random(100_000)
    size = rng.choice([0.11, 0.37, 0.5, 1.0], 100_000, p=[0.4, 0.3, 0.2, 0.1])
    return np.where(kind < losing, -size, np.where(kind > 1 - winning, size, 0.0))


@pytest.mark.parametrize("n", [30, 52, 100, 300])
@pytest.mark.parametrize(("losing", "winning"), [(0.01, 0.0), (0.03, 0.01), (0.2, 0.15)])
def test_the_interval_covers_what_it_promises(n: int, losing: float, winning: float) -> None:
    """A bootstrap of the percentiles covers 26 to 94 % here: a sample without a change has an interval without width."""
    rng = np.random.default_rng(n)
    population = _population(rng, losing, winning)
    trials = 250
    covered = 0
    for trial in range(trials):
        low, high = mean_interval(rng.choice(population, n), least=-1, most=1, resamples=399, seed=trial)
        covered += low <= population.mean() <= high
    assert covered / trials >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / trials)


def test_the_bounds_of_all_candidates_hold_at_once() -> None:
    """Ten codecs lose one query in fifty each, not the same ones: the best of them looks as if it lost none."""
    rng = np.random.default_rng(3)
    reference = rng.choice([0.0, 0.3, 0.5, 1.0], 100_000)
    candidates = [np.where(rng.random(100_000) < 0.02, 0.0, reference) for _ in range(10)]
    truth = [candidate.mean() / reference.mean() for candidate in candidates]
    wrong = naive = 0
    trials = 150
    for trial in range(trials):
        rows = rng.integers(0, 100_000, 60)
        shares = shares_kept([reference[rows]], [[c[rows]] for c in candidates], resamples=999, seed=trial)
        wrong += any(share > true for share, true in zip(shares, truth, strict=True))
        naive += max(c[rows].mean() / reference[rows].mean() for c in candidates) > max(truth)
    assert wrong / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)
    assert naive / trials > 0.9  # what the best mean would have promised


def test_the_bound_is_a_mean_over_data_sets() -> None:
    one, other = [0.5, 1.0] * 200, [0.2, 0.4] * 300
    [share] = shares_kept([one, other], [[one, [0.5 * value for value in other]]])
    assert 0.80 < share < (0.75 + 0.15) / (0.75 + 0.3)
    assert shares_kept([one, other], []) == []


def test_how_many_queries_would_settle_it() -> None:
    rng = np.random.default_rng(1)
    reference = rng.choice([0.0, 0.5, 1.0], 60)
    worse = np.where(np.arange(60) % 20 == 0, 0.0, reference)
    needed = queries_needed([reference], [reference], 0.99, candidates=4)
    assert needed is not None
    assert 500 < needed < 2_000
    times = math.ceil(needed / 60)
    [shown] = shares_kept([np.tile(reference, times)], [[np.tile(reference, times)]], confidence=1 - 0.05 / 4)
    assert shown >= 0.99 - 0.0005
    [not_yet] = shares_kept(
        [np.tile(reference, times // 2)], [[np.tile(reference, times // 2)]], confidence=1 - 0.05 / 4
    )
    assert not_yet < 0.99
    assert queries_needed([reference], [worse], 0.99, candidates=4) is None  # more of the same would not help
    fewer = queries_needed([reference], [worse], 0.8, candidates=4)
    assert fewer is not None
    assert fewer < needed


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).normal(0.3, 0.2, 400)
    low, high = mean_interval(values, least=-1, most=1.5)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.008)
    assert high == pytest.approx(values.mean() + half, abs=0.008)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(5).random(30)
    one, again, other = (mean_interval(values, least=0, most=1, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


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
