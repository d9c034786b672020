"""Say whether two configurations differ by more than the choice of queries would explain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo.errors import MissingExtraError, ParameterError

TestName = Literal["randomisation", "t"]

#: Resamples for p-values and intervals; the smallest p-value that can come out is 1 / (RESAMPLES + 1).
RESAMPLES = 9_999

# Values that a resampling may hold at a time: 10,000 queries must not ask for a gigabyte.
_BATCH_VALUES = 2_000_000


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
        Bootstrap interval of the mean difference, by percentiles.
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
    def relative(self) -> float | None:
        """Difference as a share of a's mean; None where that is zero."""
        return self.difference / self.mean_a if self.mean_a else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self) | {"relative": self.relative}


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
        Coverage of the bootstrap interval.
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
    if test not in get_args(TestName):
        raise ParameterError(f"expected test as one of {', '.join(get_args(TestName))}, got {test!r}")
    differences = y - x
    if test == "t":
        p_value = t_test(x, y)
    else:
        p_value = randomisation_test(x, y, resamples=resamples, seed=seed)
    low, high = bootstrap_interval(differences, confidence=confidence, resamples=resamples, seed=seed)
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
    _check_resamples(resamples)
    differences = y - x
    # Swapping equal values changes no sum, so those queries only cost time.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    if len(differences) == 1:
        return 1.0  # both swaps are as extreme as what was observed
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


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean.

    Parameters
    ----------
    values : array-like of shape (n,)
        For instance the differences of each query.
    confidence : float, default=0.95
        Coverage, between 0 and 1.
    resamples : int, default=9999
        Resamples of the queries.
    seed : int, default=0
        Their seed.

    Returns
    -------
    tuple of (float, float)

    References
    ----------
    Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006.

    Examples
    --------
    >>> low, high = bootstrap_interval([0.0, 0.1, 0.2, 0.3])
    >>> low < 0.15 < high
    True
    """
    stats = _scipy_stats()
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ParameterError(f"expected at least two values in one dimension, got shape {array.shape}")
    if not 0 < confidence < 1:
        raise ParameterError(f"expected confidence between 0 and 1, got {confidence!r}")
    _check_resamples(resamples)
    if np.all(array == array[0]):
        return float(array[0]), float(array[0])
    interval = stats.bootstrap(
        (array,),
        np.mean,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // len(array)),
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ParameterError(f"expected two lists of values for the same queries, got shapes {x.shape} and {y.shape}")
    if len(x) < 2:
        raise ParameterError(f"expected at least two queries to compare, got {len(x)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ParameterError("expected finite values, got NaN or infinity")
    return x, y


def _check_resamples(resamples: int) -> None:
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 99:
        raise ParameterError(f"expected resamples as an integer of at least 99, got {resamples!r}")


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
