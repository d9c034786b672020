"""Say whether two configurations differ by more than the choice of queries would explain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo._validation import check_choice, check_integer, check_number
from octavo.errors import MissingExtraError, ParameterError

TestName = Literal["randomisation", "t"]

#: Resamples for p-values and intervals; the smallest p-value that can come out is 1 / (RESAMPLES + 1).
RESAMPLES = 9_999

# Values that a resampling may hold at a time: 10,000 queries must not ask for a gigabyte.
_BATCH_VALUES = 2_000_000

#: Draws that the tail of an interval should hold, and the most that are made for it.
_IN_TAIL, _MOST_DRAWS = 50, 50_000

#: Draws for a number of queries, which is rounded, and how many times as many queries as there are it may be.
_PLANNING_DRAWS, _MOST_TIMES = 4_000, 2.0**20


@dataclass(frozen=True)
class PairedDifference:
    """The difference between two configurations over the same queries; `to_dict` gives JSON.

    Parameters
    ----------
    n : int
        Queries.
    mean_a, mean_b, difference : float
        Means, and the mean of ``b - a``.
    test : {"randomisation", "t"}
        Where `p_value` comes from.
    p_value : float
        Two-sided: how often a mean difference as large would turn up if the two configurations were exchangeable. Not
        corrected for the number of comparisons.
    confidence, low, high : float
        Interval of the mean difference over all queries of which these are a sample, see `mean_interval`.
    wins, losses, ties : int
        Queries where b is better, worse, the same.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    test: TestName
    p_value: float
    confidence: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int

    @property
    def changed(self) -> int:
        """Queries whose value differs."""
        return self.wins + self.losses

    @property
    def unseen(self) -> float:
        """Share of all queries that may behave in a way that none of these shows: ``3 / n`` at a confidence of 95 %.

        The rule of three: what is true of this share of the queries is missed by a sample of `n` in one case of twenty.
        """
        return float(1 - (1 - self.confidence) ** (1 / self.n))

    @property
    def relative(self) -> float | None:
        """Difference as a share of a's mean; None where that is zero."""
        return self.difference / self.mean_a if self.mean_a else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self) | {"relative": self.relative, "changed": self.changed, "unseen": self.unseen}


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    test: TestName = "randomisation",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two configurations query by query.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        One measure's value for each query, in the same order; higher is better.
    test : {"randomisation", "t"}, default="randomisation"
        See `randomisation_test` and `t_test`.
    confidence : float, default=0.95
        Coverage of the interval.
    resamples : int, default=9999
        Resamples of test and interval.
    seed : int, default=0
        Seed of both.

    Returns
    -------
    PairedDifference

    Raises
    ------
    ParameterError
        When the two do not pair up, there are fewer than two queries, or an option is out of range.
    MissingExtraError
        When scipy is not installed.

    Examples
    --------
    >>> d = paired_difference([0.5, 0.4, 0.9, 0.1], [0.6, 0.4, 1.0, 0.0])
    >>> round(d.difference, 3), d.wins, d.losses, d.ties
    (0.025, 2, 1, 1)
    """
    x, y = _pair(a, b)
    check_choice(test, "test", get_args(TestName))
    differences = y - x
    if test == "t":
        p_value = t_test(x, y)
    else:
        p_value = randomisation_test(x, y, resamples=resamples, seed=seed)
    span = span_of(x, y)
    low, high = mean_interval(
        differences, least=-span, most=span, confidence=confidence, resamples=resamples, seed=seed
    )
    return PairedDifference(
        n=len(x),
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        difference=float(differences.mean()),
        test=test,
        p_value=p_value,
        confidence=confidence,
        low=low,
        high=high,
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
    )


def randomisation_test(a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Return the two-sided p-value of Fisher's paired randomisation test on the mean difference.

    If the two configurations were exchangeable, swapping their values for any query would change nothing. The test swaps
    at random and counts how often the mean difference comes out as large as the one observed; with few queries that
    differ, it goes through all swaps.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        One value for each query, in the same order.
    resamples : int, default=9999
        Random swaps.
    seed : int, default=0
        Their seed.

    Returns
    -------
    float

    References
    ----------
    Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval
    evaluation", CIKM 2007.

    Examples
    --------
    >>> randomisation_test([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5])
    0.125
    """
    stats = _scipy_stats()
    x, y = _pair(a, b)
    resamples = check_integer(resamples, "resamples", least=99)
    differences = y - x
    # Swapping equal values changes no sum, so those queries only cost time.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    if len(differences) == 1:
        return 1.0  # both swaps are as extreme as what was observed
    with np.errstate(over="ignore"):  # some versions of SciPy count all permutations in a float
        result = stats.permutation_test(
            (differences,),
            # Two sums that differ only by rounding are a tie, and ties count as extreme.
            lambda values, axis: np.round(values.sum(axis=axis), 10),
            permutation_type="samples",
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _BATCH_VALUES // len(differences)),
            random_state=np.random.default_rng(seed),
        )
    return float(result.pvalue)


def t_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return the two-sided p-value of Student's paired t-test.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        One value for each query, in the same order.

    Returns
    -------
    float
        1 when nothing differs; 0 when every query differs by the same amount, where the statistic is infinite.

    Examples
    --------
    >>> round(t_test([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.6]), 4)
    0.0154
    """
    stats = _scipy_stats()
    x, y = _pair(a, b)
    differences = y - x
    if np.allclose(differences, differences[0], rtol=1e-12, atol=1e-15):
        return 1.0 if abs(differences[0]) <= 1e-15 else 0.0
    return float(stats.ttest_rel(x, y).pvalue)


def mean_interval(
    values: ArrayLike,
    *,
    least: float,
    most: float,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return an interval of the mean over a population, of which the values are a sample.

    A bootstrap knows only what the sample shows: where a codec changes one query in a hundred, most samples of thirty show
    no change at all, and it reports an interval of no width. Here one more value, the worst possible for the lower end and
    the best possible for the upper end, takes part with a random weight. Without any change it gives the rule of three, about
    ``3 / n``; for values of 0 and 1 it is the interval of Clopper and Pearson; for many values it comes near to that of the
    central limit theorem.

    Parameters
    ----------
    values : array-like of shape (n,)
        For instance the difference of each query.
    least, most : float
        The range that the values of a population can have, such as -1 and 1 for differences of nDCG.
    confidence : float, default=0.95
        Coverage, between 0 and 1.
    resamples : int, default=9999
        Draws of the weights.
    seed : int, default=0
        Their seed.

    Returns
    -------
    tuple of (float, float)

    References
    ----------
    Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable",
    Mathematical Methods of Statistics 14, 2005. Learned-Miller and Thomas, "A new confidence interval for the mean of a
    bounded random variable", 2019.

    Examples
    --------
    >>> low, high = mean_interval([0.0] * 300, least=-1, most=1)
    >>> round(low, 3), round(high, 3)  # at 97.5 % to each side
    (-0.012, 0.012)
    >>> low, high = mean_interval([0.0, 0.1, 0.2, 0.3] * 50, least=-1, most=1)
    >>> 0.11 < low < 0.15 < high < 0.19
    True
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ParameterError(f"expected at least two values in one dimension, got shape {array.shape}")
    check_number(confidence, "confidence", above=0, below=1)
    resamples = check_integer(resamples, "resamples", least=99)
    if least > array.min() or most < array.max():
        raise ParameterError(
            f"expected values between {least:g} and {most:g}, got {float(array.min()):g} to {float(array.max()):g}"
        )
    sums, weights, extra = _weighted_sums(array[:, None], resamples, np.random.default_rng(seed))
    low = (sums[:, 0] + extra * least) / (weights + extra)
    high = (sums[:, 0] + extra * most) / (weights + extra)
    tail = (1 - confidence) / 2
    return float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail))


def shares_kept(
    reference: Sequence[ArrayLike],
    candidates: Sequence[Sequence[ArrayLike]],
    *,
    most: float = 1.0,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[float]:
    """Return how much of the reference's mean each candidate keeps at least, all statements holding at once.

    The lower ends of one-sided intervals of the quotient of the means, as `mean_interval` makes them, each at a level by
    which all of them hold together with the confidence asked for, however they depend on each other (Bonferroni).

    Parameters
    ----------
    reference : sequence of array-like of shape (n,)
        For each data set, the reference's value of every query, none negative.
    candidates : sequence of sequence of array-like of shape (n,)
        For each candidate the same, in the same order.
    most : float, default=1.0
        The largest value that the reference can have; a candidate has at least 0.
    confidence : float, default=0.95
        That all bounds hold.
    resamples, seed : int
        Draws of the weights, and their seed.

    Returns
    -------
    list of float
        For each candidate; a mean over the data sets, each counting the same.

    Examples
    --------
    >>> same = [0.5, 1.0, 0.0, 0.7] * 100
    >>> [round(share, 2) for share in shares_kept([same], [[same], [[0.9 * value for value in same]]])]
    [0.98, 0.89]
    """
    if not candidates:
        return []
    level = (1 - check_number(confidence, "confidence", above=0, below=1)) / len(candidates)
    resamples = max(check_integer(resamples, "resamples", least=99), min(_MOST_DRAWS, math.ceil(_IN_TAIL / level)))
    rng = np.random.default_rng(seed)
    kept, whole = np.zeros((resamples, len(candidates))), np.zeros(resamples)
    for number, values in enumerate(reference):
        columns = np.column_stack(
            [np.asarray(values, np.float64), *(np.asarray(c[number], np.float64) for c in candidates)]
        )
        sums, weights, extra = _weighted_sums(columns, resamples, rng)
        total = weights + extra  # the value that was not seen: all of it for the reference, nothing for the candidate
        whole += (sums[:, 0] + extra * most) / total
        kept += sums[:, 1:] / total[:, None]
    return [float(np.quantile(share, level)) for share in (kept / whole[:, None]).T]


def queries_needed(
    reference: Sequence[ArrayLike],
    candidate: Sequence[ArrayLike],
    floor: float,
    *,
    candidates: int,
    most: float = 1.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> int | None:
    """Return how many queries in all would show that a candidate keeps a share, if more were like those there are.

    Parameters
    ----------
    reference, candidate : sequence of array-like of shape (n,)
        As in `shares_kept`.
    floor : float
        The share to be shown.
    candidates : int
        How many statements are to hold at once.
    most, confidence, seed
        As in `shares_kept`.

    Returns
    -------
    int or None
        Rounded up to two digits; None if the candidate does not keep the share of these queries, so that more like them
        would show nothing.

    Examples
    --------
    >>> same = [0.5, 1.0, 0.0, 0.7] * 25
    >>> queries_needed([same], [same], 0.99, candidates=1) > 300
    True
    """
    sets = [
        np.column_stack([np.asarray(x, np.float64), np.asarray(y, np.float64)])
        for x, y in zip(reference, candidate, strict=True)
    ]
    whole, kept = np.sum([columns.mean(axis=0) for columns in sets], axis=0)
    if kept <= floor * whole:
        return None
    level = (1 - confidence) / candidates
    grouped = [np.unique(columns, axis=0, return_counts=True) for columns in sets]

    def shown(times: float) -> bool:
        rng = np.random.default_rng(seed)
        totals = np.zeros((_PLANNING_DRAWS, 2))
        for values, counts in grouped:
            # A sample so many times as large: weights of equal queries add up.
            weights = rng.standard_gamma(counts * times, (_PLANNING_DRAWS, len(counts)))
            extra = rng.standard_exponential(_PLANNING_DRAWS)
            sums = weights @ values
            sums[:, 0] += extra * most
            totals += sums / (weights.sum(axis=1) + extra)[:, None]
        return bool(np.quantile(totals[:, 1] / totals[:, 0], level) >= floor)

    low, high = 0.0, 1.0
    while not shown(high):
        low, high = high, 2 * high
        if high > _MOST_TIMES:
            return None
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    number = high * sum(len(columns) for columns in sets)
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / unit) * unit)


def span_of(*values: ArrayLike) -> float:
    """Return the largest difference that two values of a measure can have: 1, or what was seen if that is more."""
    arrays = [np.asarray(part, np.float64) for part in values]
    return max(1.0, float(max(part.max() for part in arrays) - min(0.0, *(part.min() for part in arrays))))


def _weighted_sums(
    columns: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return sums of each column under random weights, the sums of the weights, and one more weight for each draw."""
    n = len(columns)
    sums, weights = np.empty((resamples, columns.shape[1])), np.empty(resamples)
    step = max(1, _BATCH_VALUES // n)
    for start in range(0, resamples, step):
        drawn = rng.standard_exponential((min(step, resamples - start), n))
        sums[start : start + step] = drawn @ columns
        weights[start : start + step] = drawn.sum(axis=1)
    return sums, weights, rng.standard_exponential(resamples)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ParameterError(f"expected two lists of values for the same queries, got shapes {x.shape} and {y.shape}")
    if len(x) < 2:
        raise ParameterError(f"expected at least two queries to compare, got {len(x)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ParameterError("expected finite values, got NaN or infinity")
    return x, y


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        raise MissingExtraError(
            "comparing configurations needs scipy. Install it: pip install 'octavo[eval]'"
        ) from None
    return stats
