"""How long searches take: one query at a time, and many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo._validation import check_integer
from octavo.eval.results import Latency, Speed

#: Queries whose encoding is timed, one at a time.
_ENCODED = 20


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How searches are timed.

    Parameters
    ----------
    k : int, default=10
        Results asked for.
    queries : int, default=200
        Different queries timed, drawn at random.
    repeats : int, default=3
        How often each is timed.
    warmup : int, default=20
        Searches thrown away before.

    Examples
    --------
    >>> Timing(queries=50, repeats=1)
    Timing(k=10, queries=50, repeats=1, warmup=20)
    """

    k: int = 10
    queries: int = 200
    repeats: int = 3
    warmup: int = 20

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("queries", 1), ("repeats", 1), ("warmup", 0)):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, least=least))


def timed_queries(total: int, timing: Timing, seed: int) -> list[int]:
    """Return which queries are timed."""
    return sorted(np.random.default_rng(seed).permutation(total)[: timing.queries].tolist())


def encoding_ms(model: Any, queries: Sequence[str], seed: int) -> float:
    """Return how much processor time, of all threads, encoding one query takes: the median of some, in milliseconds.

    Parameters
    ----------
    model : EvalModel
        What encodes them.
    queries : sequence of str
        Of which some are drawn.
    seed : int
        Of the drawing.
    """
    encode = model.encode if model.tokens is None else model.encode_tokens
    chosen = [queries[at] for at in np.random.default_rng(seed).permutation(len(queries))[:_ENCODED].tolist()]
    encode(chosen[:1], "queries")  # the first warms up
    spent = []
    for query in chosen:
        started = time.process_time()
        encode([query], "queries")
        spent.append(time.process_time() - started)
    return float(np.median(spent) * 1000)


def time_searches(
    calls: Sequence[Callable[[], Any]], batch: Callable[[], Any], batch_size: int, timing: Timing, build_seconds: float
) -> Speed:
    """Time single searches, and one of many queries at once."""
    for number in range(timing.warmup):
        calls[number % len(calls)]()
    seconds = np.empty((timing.repeats, len(calls)))
    for repeat in range(timing.repeats):
        for number, call in enumerate(calls):
            started = time.perf_counter()
            call()
            seconds[repeat, number] = time.perf_counter() - started
    rates = []
    for _ in range(timing.repeats + 1):
        started = time.perf_counter()
        batch()
        rates.append(batch_size / (time.perf_counter() - started))
    p50, p95, p99 = (float(value) for value in np.percentile(seconds * 1000, [50, 95, 99]))
    return Speed(
        build_seconds=build_seconds,
        latency_ms=Latency(p50=p50, p95=p95, p99=p99, mean=float(seconds.mean() * 1000)),
        queries_per_second=float(np.median(rates[1:])),  # the first warms up
        k=timing.k,
        timed_queries=len(calls),
        warmup=timing.warmup,
        repeats=timing.repeats,
    )
