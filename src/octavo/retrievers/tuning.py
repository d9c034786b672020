"""Finds the cheapest way to search one collection that still finds what an exact search finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.errors import ParameterError
from octavo.index import Tuning, exact_search, planner
from octavo.retrievers.dense import DenseOptions, dense_search
from octavo.store.snapshot import Snapshot, decode_rows

#: Candidates rescored per result that are tried.
OVERSAMPLES = tuple(round(1.5 * 1.2**step, 1) for step in range(27))

#: Candidates explored for each candidate wanted, of which each is tried.
WIDTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

#: Candidates explored where there is nothing to rescore, for each result.
EXPLORED = tuple(1.2**step for step in range(32))

#: Cells looked at, for each result wanted, and candidates rescored for each of them.
PROBED = tuple(1.25**step for step in range(-8, 32))
RESCORED = (3.0, 5.0, 8.0, 12.0, 20.0, 40.0, 80.0)

#: Cosine of a query made from a document with that document.
QUERY_COSINE = 0.86

#: Rows that are scanned to compare this machine with the planner's constants.
_TIMED_ROWS = 20_000


@dataclass(frozen=True)
class TuningReport:
    """What `tune` found.

    Parameters
    ----------
    tuning : Tuning or None
        What was stored; None if the collection has neither cells nor graph, because it is small and searched exactly.
    recall : float
        Share of the exact best `k` found with it, on the queries used; a document as good as the worst of these counts.
    recall_before : float
        The same with the settings before.
    query_ms, query_ms_before : float
        Median time of a search of the vectors alone, in milliseconds.
    exact_ms : float
        The same for an exact search.
    crossover : int
        Documents up to which a filter's matches are searched exactly rather than by the index.
    n_queries : int
        Queries used.
    """

    tuning: Tuning | None
    recall: float
    recall_before: float
    query_ms: float
    query_ms_before: float
    exact_ms: float
    crossover: int
    n_queries: int


def sample_queries(snapshot: Snapshot, n: int, seed: int) -> Floats:
    """Make queries out of `n` random documents (all, if there are fewer).

    A stored document is too easy a query: it is a node of the graph, and its neighbours are linked to it. So each is moved
    off, in the direction in which two other documents differ, until its cosine with what it was is `QUERY_COSINE`. On a
    million sentence vectors, `int8`, ef=202, real questions found 0.963 of their best ten, queries made like that 0.943,
    those at cosine 0.8 and 0.9 0.91 and 0.97, the documents themselves 0.998.
    """
    rng = np.random.default_rng(seed)
    alive = np.flatnonzero(snapshot.alive)
    rows = rng.choice(alive, min(n, len(alive)), replace=False)
    documents, one, other = (
        decode_rows(snapshot, slots) for slots in (rows, rng.choice(alive, len(rows)), rng.choice(alive, len(rows)))
    )
    lengths = np.linalg.norm(documents, axis=1, keepdims=True)
    units = documents / np.where(lengths > 0, lengths, 1)
    away = one - other + 1e-6 * rng.standard_normal(one.shape, dtype=np.float32)  # equal documents do not differ
    away -= np.einsum("nd,nd->n", away, units)[:, None] * units
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    moved = lengths * (QUERY_COSINE * units + np.sqrt(1 - QUERY_COSINE**2) * away)
    queries: Floats = moved.astype(np.float32)
    return queries


def tune(snapshot: Snapshot, queries: Floats, k: int, target: float) -> TuningReport:
    """Try settings on queries and return the quickest that finds the share `target` of the exact best `k`.

    Parameters
    ----------
    snapshot : Snapshot
        The collection; its cells or graph must reach every row.
    queries : ndarray of shape (m, dim)
        Query vectors, as `dense_search` takes them.
    k : int
        Results.
    target : float
        Share to be found, above 0 and at most 1.

    Raises
    ------
    ParameterError
        If no setting that was tried finds that much.
    """
    trial = _Trial(snapshot, queries, k)
    before, before_ms = trial.measure(DenseOptions())
    cells, graph = snapshot.cells, snapshot.graph
    if cells is None and (graph is None or graph.covered == 0):
        return TuningReport(None, before, before, before_ms, before_ms, trial.exact_ms, snapshot.n_alive, len(queries))
    found = [option for option in trial.cheapest(target) if option is not None]
    if not found:
        best = trial.best
        raise ParameterError(
            f"expected a recall that this collection can reach, got {target:g}; the most that was found is {best[0]:.3f}, with "
            f"oversample={best[1].oversample}, {'ef' if cells is None else 'n_probe'}={best[1].ef or best[1].n_probe}. Ask for "
            "less, or change to a finer coarse tier with refit()"
        )
    options, recall, query_ms = min(found, key=lambda option: option[2])
    if cells is not None:
        assert options.n_probe is not None  # every trial sets it
        looked = max(1, round(options.n_probe * cells.rows / len(cells.trained.model)))
        shape = (None, options.oversample, recall, target)
        plain = Tuning(snapshot.codec_text, k, cells.rows, *shape, probed=looked)
        model = cells.trained.model
        keep = round((options.oversample or 1.0) * k)
        tuned = _timed(
            snapshot,
            queries,
            plain,
            lambda query: dense_search(snapshot, query, k, None, options),
            planner.cells_us(len(model), looked, keep),
        )
        by_index = planner.cells_us(len(model), looked, keep, tuned)
    else:
        assert graph is not None
        assert options.ef is not None
        plain = Tuning(snapshot.codec_text, k, graph.covered, options.ef, options.oversample, recall, target)
        encode, walk, ef = snapshot.tiers[0].pipeline.encode_queries, graph.graph, options.ef
        expected = planner.graph_us(snapshot.tiers[0].layout, ef)
        tuned = _timed(snapshot, queries, plain, lambda query: walk.search(encode(query), k, ef), expected)
        by_index = planner.graph_us(snapshot.tiers[0].layout, ef, tuned)
    least = planner.crossover(snapshot.tiers[0].layout, by_index, snapshot.n_slots, tuned)
    return TuningReport(tuned, recall, before, query_ms, before_ms, trial.exact_ms, least, len(queries))


class _Trial:
    """Measures recall and time of settings on a set of queries."""

    def __init__(self, snapshot: Snapshot, queries: Floats, k: int) -> None:
        self._snapshot, self._queries, self._k = snapshot, queries, min(k, snapshot.n_alive)
        self._stages = len(snapshot.tiers)
        _, exact = dense_search(snapshot, queries, self._k, None, DenseOptions(exact=True, threads=0))
        worst = exact.min(axis=1, initial=np.inf, where=exact > -np.inf)
        self._good_enough = worst - 1e-6 * np.abs(worst)
        self.best: tuple[float, DenseOptions] = (-1.0, DenseOptions())
        self._known: dict[DenseOptions, tuple[float, float]] = {}
        one = _microseconds(
            queries[:8], lambda query: dense_search(snapshot, query, self._k, None, DenseOptions(exact=True))
        )
        self.exact_ms = one / 1e3

    def measure(self, options: DenseOptions) -> tuple[float, float]:
        """Return recall, and median milliseconds of one query at a time."""
        if options not in self._known:
            times, found = [], []
            for query in self._queries[:, None]:
                started = time.perf_counter()
                _, scores = dense_search(self._snapshot, query, self._k, None, options)
                times.append(time.perf_counter() - started)
                found.append(scores[0])
            # Of documents that are equally good, which come back is chance: each counts as found.
            hits = np.count_nonzero(np.stack(found) >= self._good_enough[:, None])
            recall = float(hits / max(1, self._k * len(self._queries)))
            self._known[options] = recall, float(np.median(times)) * 1e3
            self.best = max(self.best, (recall, options), key=lambda pair: pair[0])
        return self._known[options]

    def cheapest(self, target: float) -> list[tuple[DenseOptions, float, float] | None]:
        """Return, for each shape of search that is tried, the least effort that reaches the target."""
        if self._snapshot.cells is not None:
            return [
                self._least(
                    target,
                    PROBED,
                    lambda size, kept=kept: DenseOptions(kept, None, False, n_probe=max(1, round(size * self._k))),  # type: ignore[misc]
                )
                for kept in RESCORED
            ]
        if self._stages == 1:
            return [self._least(target, EXPLORED, lambda size: DenseOptions(None, round(size * self._k), False))]
        return [
            self._least(
                target,
                OVERSAMPLES,
                lambda size, width=width: DenseOptions(size, round(size * width * self._k), False),  # type: ignore[misc]
            )
            for width in WIDTHS
        ]

    def _least(
        self, target: float, sizes: tuple[float, ...], make: Callable[[float], DenseOptions]
    ) -> tuple[DenseOptions, float, float] | None:
        low, high = 0, len(sizes)  # the least size that reaches the target lies in [low, high]
        while low < high:
            middle = (low + high) // 2
            if self.measure(make(sizes[middle]))[0] >= target:
                high = middle
            else:
                low = middle + 1
        if low == len(sizes):
            return None
        options = make(sizes[low])
        return options, *self.measure(options)


def _timed(
    snapshot: Snapshot,
    queries: Floats,
    tuning: Tuning,
    search: Callable[[Floats], object],
    expected_us: float,
) -> Tuning:
    """Return the tuning with the times of this machine against those that the planner expects."""
    coarse = snapshot.tiers[0]
    codes = coarse.pipeline.encode_queries(queries[:16])
    n = min(_TIMED_ROWS, snapshot.n_slots)
    coarse.check(np.arange(n))
    listed = np.sort(np.random.default_rng(0).choice(n, n // 4, replace=False))
    layout, rows = coarse.layout, coarse.codes[:n]
    scan = _microseconds(codes, lambda code: exact_search(layout, rows, code, tuning.k))
    gather = _microseconds(codes, lambda code: exact_search(layout, rows, code, tuning.k, rows=listed))
    by_index = _microseconds(queries[:16], search)
    return replace(
        tuning,
        scan=scan / planner.scan_us(layout, n),
        gather=gather / planner.gather_us(layout, len(listed)),
        graph=by_index / expected_us,
    )


def _microseconds(rows: npt.NDArray[Any], run: Callable[[npt.NDArray[Any]], object]) -> float:
    """Return the median time of a call for each row."""
    times = []
    for row in rows[:, None]:
        started = time.perf_counter()
        run(row)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e6
