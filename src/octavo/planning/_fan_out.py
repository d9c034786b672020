"""Fan-out: a query waits for the slowest of its shards, and what replicas and hedged requests do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._validation import check_integer, check_number
from octavo.errors import ParameterError

Times = npt.NDArray[np.float64]

#: Answers drawn at a time: bounds memory.
_DRAWN = 2_000_000


@dataclass(frozen=True)
class ShardLatency:
    """How long one shard takes to answer: lognormal, and now and then stalled.

    Parameters
    ----------
    median_ms : float, default=5.0
        Median of an answer that is not stalled.
    spread : float, default=0.3
        Standard deviation of the logarithm.
    stall_share : float, default=0.01
        Share of answers that are stalled: a segment being rebuilt, a page read from disk, a busy core.
    stall_ms : float, default=50.0
        What a stall adds on average (exponential).

    Raises
    ------
    ParameterError
        When a number cannot be.

    Examples
    --------
    >>> times = ShardLatency(stall_share=0.0).draw(np.random.default_rng(0), (1000,))
    >>> 4.5 < np.median(times) < 5.5
    np.True_
    """

    median_ms: float = 5.0
    spread: float = 0.3
    stall_share: float = 0.01
    stall_ms: float = 50.0

    def __post_init__(self) -> None:
        check_number(self.median_ms, "median_ms", above=0)
        check_number(self.spread, "spread", least=0)
        check_number(self.stall_share, "stall_share", least=0, most=1)
        check_number(self.stall_ms, "stall_ms", least=0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Times:
        """Draw answer times.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where chance comes from.
        shape : tuple of int
            Of the array.

        Returns
        -------
        ndarray of that shape, float64
            Milliseconds.
        """
        times = self.median_ms * np.exp(self.spread * rng.standard_normal(shape))
        stalled = rng.random(shape) < self.stall_share
        times[stalled] += rng.exponential(self.stall_ms, int(stalled.sum()))
        return times


@dataclass(frozen=True)
class FanOut:
    """Latency of queries that wait for all of `shards`.

    Parameters
    ----------
    shards, replicas : int
        Shards asked for each query, copies of each.
    hedge_ms : float or None
        A second replica is asked when the first has not answered after so long; None where there is no hedging.
    p50_ms, p95_ms, p99_ms : float
        Of a whole query.
    extra_requests : float
        Requests sent a second time, as a share of all.

    Examples
    --------
    >>> found = simulate_fan_out([16], replicas=2, hedge_percentile=95, queries=1000)[0]
    >>> found.p50_ms < found.p95_ms < found.p99_ms, 0.04 < found.extra_requests < 0.06
    (True, True)
    """

    shards: int
    replicas: int
    hedge_ms: float | None
    p50_ms: float
    p95_ms: float
    p99_ms: float
    extra_requests: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def simulate_fan_out(
    shards: Sequence[int],
    replicas: int = 1,
    *,
    latency: ShardLatency | None = None,
    hedge_percentile: float | None = None,
    queries: int = 20_000,
    seed: int = 0,
) -> list[FanOut]:
    """Simulate queries that each wait for the slowest of their shards.

    Answers are independent of each other, and there is no queueing: what is left out makes a real tail longer. With
    hedging, a shard's second replica is asked once the first has taken longer than `hedge_percentile` of single answers
    take, and the earlier answer counts [1]_. Replicas that are only there for failures change nothing.

    Parameters
    ----------
    shards : sequence of int
        Numbers of shards to look at.
    replicas : int, default=1
        Copies of each shard.
    latency : ShardLatency, optional
        Of one shard.
    hedge_percentile : float, optional
        From 0 to 100, such as 95; None asks one replica only.
    queries : int, default=20000
        Queries to simulate for each number of shards.
    seed : int, default=0
        Of everything random.

    Returns
    -------
    list of FanOut
        One for each number of shards.

    Raises
    ------
    ParameterError
        When a number cannot be, or hedging is asked for with one replica.

    References
    ----------
    .. [1] J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013.

    Examples
    --------
    >>> one, many = simulate_fan_out([1, 100], queries=2000)
    >>> one.p50_ms < 6 < 15 < many.p50_ms  # 63 in 100 queries meet a stall that meets 1 in 100 answers
    True
    """
    latency = latency if latency is not None else ShardLatency()
    replicas, queries = check_integer(replicas, "replicas", least=1), check_integer(queries, "queries", least=1)
    shards = [check_integer(count, "shards", least=1) for count in shards]
    hedge_ms = None
    if hedge_percentile is not None:
        if replicas < 2:
            raise ParameterError(f"expected at least 2 replicas to hedge between, got {replicas}")
        check_number(hedge_percentile, "hedge_percentile", above=0, below=100)
        hedge_ms = float(np.percentile(latency.draw(np.random.default_rng(seed), (200_000,)), hedge_percentile))
    return [_simulate(count, replicas, latency, hedge_ms, queries, seed) for count in shards]


def _simulate(
    shards: int, replicas: int, latency: ShardLatency, hedge_ms: float | None, queries: int, seed: int
) -> FanOut:
    rng = np.random.default_rng((seed, shards))
    totals: list[Times] = []
    extra = 0
    at_once = max(1, _DRAWN // shards)
    for start in range(0, queries, at_once):
        shape = (min(at_once, queries - start), shards)
        times = latency.draw(rng, shape)
        if hedge_ms is not None:
            late = times > hedge_ms
            extra += int(late.sum())
            times[late] = np.minimum(times[late], hedge_ms + latency.draw(rng, (int(late.sum()),)))
        totals.append(times.max(axis=1))
    p50, p95, p99 = (float(value) for value in np.percentile(np.concatenate(totals), [50, 95, 99]))
    return FanOut(shards, replicas, hedge_ms, p50, p95, p99, extra / (queries * shards))
