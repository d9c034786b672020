"""What a search costs, and which way is the cheaper.

The constants were read off ``benchmarks/bench_crossover.py`` on one core of an AMD EPYC (Zen 5, AVX-512), 384
dimensions, perturbed all-MiniLM-L6-v2 embeddings of SciFact, ``k=10``. They need only be right within a factor of two:
where two ways cost about the same, taking the wrong one costs little.

===========  ============================  ==============  =================================
code         exact scan, 20,000 rows       graph, ef=64    graph build, 20,000 rows, 1 core
===========  ============================  ==============  =================================
b1           0.49 ms                       0.09 ms         2.2 s
i8           0.46 ms                       0.25 ms         3.0 s
e4m3         0.66 ms                       0.17 ms         5.2 s
f32          3.0 ms                        0.30 ms         8.6 s
===========  ============================  ==============  =================================

So up to about 20,000 rows of one byte a value, a graph saves less than half a millisecond a query and costs seconds of
work, memory and a part of the recall: a scan is used there.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal

from octavo._layout import BITS, QUERY_PLANES, CodeLayout
from octavo._validation import check_integer
from octavo.errors import ParameterError
from octavo.index.tuning import Tuning

#: Cores that this process may use, for whoever divides work. Asking the system costs 15 microseconds, each time.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

#: Fixed cost of one call from Python, in microseconds.
CALL_US = 30.0
#: Reading one row in order: microseconds a row, and a byte of the row.
SCAN_ROW_US = 0.020
SCAN_BYTE_US = 0.000_05
#: The same for a row that is gathered from a list of rows.
GATHER_ROW_US = 0.030
GATHER_BYTE_US = 0.000_12
#: Unpacking a row of two-bit codes: microseconds a byte of the stored row.
UNPACK_BYTE_US = 0.000_9
#: Exploring one candidate of a graph: microseconds a candidate, and a byte of the row.
VISIT_US = 1.2
VISIT_BYTE_US = 0.005

#: Searching by cells: fixed, for each centroid, for each row whose bits are compared, for each one that is rescored.
CELLS_CALL_US, CELL_US, CELL_ROW_US, RESCORE_US = 130.0, 0.012, 0.03, 0.2

#: Rows that a search by cells looks at for ten results where no `Reach` has been learned, because there are too few.
#: Measured on 90,453 sentences and real questions, recall@10 of an exact search of the same vectors: 2,000 rows are 0.98 for
#: MiniLM, 6,000 for multilingual-e5, 12,000 to 16,000 for WordLlama and a static model of 64 dimensions. Beyond, 0.95 is the
#: aim (400,000, WordLlama: 6,000 rows 0.957), so there are no more of them.
_CELL_ROWS, _CELL_ROWS_AT = 12_000.0, 90_000
_CELL_ROWS_FEWER, _CELL_ROWS_MORE, _CELL_ROWS_K = 0.5, -0.2, 0.25
#: Where it is learned: four times the results take twice the rows.
_REACHED_K = 0.5
#: Candidates rescored for each of ten results: so many values of a vector, one bit each, tell them apart ...
_KEEP_VALUES, _KEEP_LEAST = 4_800.0, 5.0
#: ... and proportionally fewer for more results.
_KEEP_GROWTH = 0.85

#: Rows up to which the smallest `ef` below gives 0.98 of the exact top ten. Each doubling beyond adds `EF_STEP`: with
#: 64 throughout, recall of i8 fell to 0.964 at 100,000 rows and to 0.909 at 200,000.
EF_ROWS = 50_000
EF_STEP = 32

#: Candidates rescored per result, by kind of the coarse codes. 15 for binary reaches 0.956 to 0.960 of the exact float32
#: top ten for real questions and 25,000 to 100,000 sentence vectors. One-byte codes need 2 by themselves (0.98); 5 leaves
#: room for the reducer before them.
_OVERSAMPLE = {
    "b1": 15,
    "i2": 5,
    "i4": 5,
    "i8": 5,
    "e4m3": 5,
    "e5m2": 5,
    "f16": 2,
    "bf16": 2,
    "f32": 2,
    "r1": 10,
    "r2": 5,
    "r3": 3,
    "r4": 2,
}
#: Fewer dimensions tell documents apart less well: estimates from 64 values in one or two bits need three times the candidates
#: of those from 384 for the same agreement (four models; benchmarks/bench_codecs_models.py).
_ESTIMATED_DIM, _ESTIMATED_POWER = 384, 0.6
#: Rows beyond which bits need more: the more documents, the more of them agree with the query in as many bits. For 0.95,
#: 300,000 rows take 20 candidates a result and a million 32.
OVERSAMPLE_ROWS, _OVERSAMPLE_STEP = 100_000, {"b1": 5.0, "r1": 3.0}
#: Hamming distances are few and tie often, which makes the walk through the graph lose its way earlier.
_EF = {"b1": 128, "r1": 160}
_EF_OTHERS = 64


@dataclass(frozen=True)
class Limits:
    """Where one way of searching gives way to another; there is one such object, `limits`, and tests replace it.

    Parameters
    ----------
    graph_min : int, default=20,000
        Below this many rows no graph is built, however short the rows are ...
    graph_min_wide : int, default=5,000
        ... above this many one may be ...
    cells_min : int, default=30,000
        The same for cells.
    scan_budget_us : float, default=750
        ... as soon as a scan takes longer than this, in microseconds.
    tail_max : int, default=8,192
        Rows not yet linked that are scanned beside the graph, at most ...
    tail_budget_us : float, default=400
        ... and as many as can be scanned in this time, in microseconds: about what searching the graph takes.
    few : int, default=1,024
        Matches that are few enough to be scored at once in the finest tier, or by MaxSim, without candidates.
    late_candidates : int, default=400
        Candidates that MaxSim scores for each query, unless asked otherwise: so many of 5,000 documents, in proportion to
        the square root for more (measured: 400 of 5,183 and 800 of 20,000 lose 1 to 2 % of the ten best).
    late_candidates_by_tokens : int, default=120
        The same where token cells find half of them.
    token_cells_min : int, default=2,000
        Below this many documents a multi-vector collection has no token cells.
    token_tail_max : int, default=1,024
        Documents not yet in them, at most; these are found by their candidate vectors alone.

    Examples
    --------
    >>> limits == Limits()
    True
    """

    graph_min: int = 20_000
    graph_min_wide: int = 5_000
    cells_min: int = 30_000
    scan_budget_us: float = 750.0
    tail_max: int = 8_192
    tail_budget_us: float = 400.0
    few: int = 1_024
    late_candidates: int = 400
    late_candidates_by_tokens: int = 120
    token_cells_min: int = 2_000
    token_tail_max: int = 1_024


#: The limits in force.
limits = Limits()


@dataclass(frozen=True)
class Plan:
    """How to find candidates.

    Parameters
    ----------
    method : {"scan", "scan_matching", "graph"}
        ``"scan"``: `exact_search` over everything; ``"scan_matching"``: `exact_search` over the matching rows;
        ``"graph"``: `Graph.search`, then drop what does not match.
    fetch : int
        Results to ask of the graph, so that enough are left after the filter; 0 for scans.
    ef : int
        Candidates that the graph should explore; 0 for scans.
    limit : int
        If too few of the fetched match, doubling `fetch` is cheaper than the exact way as long as it stays within this.
    cost_us : float
        Expected time on one core in microseconds.

    Examples
    --------
    >>> Plan(method="graph", fetch=50, ef=64, limit=400, cost_us=120.0).method
    'graph'
    """

    method: Literal["scan", "scan_matching", "graph"]
    fetch: int
    ef: int
    limit: int
    cost_us: float


def scan_us(layout: CodeLayout, n: int, tuning: Tuning | None = None) -> float:
    """Expected microseconds of an exact search over `n` rows in order.

    Examples
    --------
    >>> scan_us(CodeLayout("i8", 384), 100_000) > scan_us(CodeLayout("b1", 384), 100_000)
    True
    """
    us = CALL_US + n * _scan_row_us(layout)
    return us if tuning is None else us * tuning.scan


def gather_us(layout: CodeLayout, n: int, tuning: Tuning | None = None) -> float:
    """Expected microseconds of an exact search over `n` listed rows."""
    us = CALL_US + n * (GATHER_ROW_US + GATHER_BYTE_US * layout.row_bytes + _unpack_row_us(layout))
    return us if tuning is None else us * tuning.gather


def graph_us(layout: CodeLayout, ef: int, tuning: Tuning | None = None) -> float:
    """Expected microseconds of a graph search that explores `ef` candidates."""
    us = CALL_US + ef * _visit_us(layout)
    return us if tuning is None else us * tuning.graph


def cells_us(n_cells: int, rows: int, keep: int, tuning: Tuning | None = None) -> float:
    """Expected microseconds of a search by cells that looks at `rows` rows and rescores `keep` of them."""
    us = CELLS_CALL_US + n_cells * CELL_US + rows * CELL_ROW_US + keep * RESCORE_US
    return us if tuning is None else us * tuning.graph


def cells_effort(n: int, k: int, dim: int, tuning: Tuning | None = None) -> tuple[int, int]:
    """Return how many rows a search by cells should look at, and how many candidates it should rescore.

    Parameters
    ----------
    n : int
        Rows that may come back.
    k : int
        Results wanted.
    dim : int
        Values of a vector, each of which leaves one bit.
    tuning : Tuning, optional
        What was measured on this collection.

    Examples
    --------
    >>> cells_effort(90_000, 10, 384)
    (12000, 125)
    """
    if tuning is not None and tuning.probed is not None:
        growth = _cells_rows(n, k) / _cells_rows(tuning.rows, tuning.k)
        wider = (tuning.oversample or 1.0) * k
        return round(tuning.probed * max(1.0, growth)), max(k, round(wider))
    factor = max(_KEEP_LEAST, _KEEP_VALUES / dim)
    return round(_cells_rows(n, k)), max(k, round(10 * factor * (k / 10) ** _KEEP_GROWTH))


def cells_reached(typical: float, kept: float, share: float, k: int) -> tuple[int, int]:
    """Return how many rows a search by cells is expected to look at by itself, and how many candidates it should rescore.

    Parameters
    ----------
    typical : float
        Rows that it looks at for ten results, of those that pass a filter.
    kept : float
        Candidates rescored for each of ten results.
    share : float
        Part of the rows that pass.
    k : int
        Results wanted.

    Examples
    --------
    >>> cells_reached(4_000.0, 8.0, 1.0, 10)
    (4000, 80)
    """
    rows = typical / math.sqrt(share) * max(1.0, k / 10) ** _REACHED_K
    return round(rows), max(k, round(10 * kept * (k / 10) ** _KEEP_GROWTH))


def _cells_rows(n: int, k: int) -> float:
    growth = _CELL_ROWS_FEWER if n < _CELL_ROWS_AT else _CELL_ROWS_MORE
    rows: float = _CELL_ROWS * (n / _CELL_ROWS_AT) ** growth * (k / 10) ** _CELL_ROWS_K
    return rows


def crossover(layout: CodeLayout, index_us: float, n: int, tuning: Tuning | None = None) -> int:
    """Return how many of `n` rows may match a filter for an exact search of them to take no longer than the index."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if gather_us(layout, middle, tuning) <= index_us:
            low = middle
        else:
            high = middle - 1
    return low


def graph_min(layout: CodeLayout) -> int:
    """Return how many rows a collection must have before it gets a graph.

    Examples
    --------
    >>> graph_min(CodeLayout("b1", 384)), graph_min(CodeLayout("f32", 4096))
    (20000, 5000)
    """
    affordable = (limits.scan_budget_us - CALL_US) / _scan_row_us(layout)
    return int(min(limits.graph_min, max(limits.graph_min_wide, affordable)))


def cells_min(layout: CodeLayout) -> int:
    """Return how many rows a collection must have before it gets cells.

    Examples
    --------
    >>> cells_min(CodeLayout("b1", 384)), cells_min(CodeLayout("f32", 4096))
    (30000, 5000)
    """
    affordable = (limits.scan_budget_us - CALL_US) / _scan_row_us(layout)
    return int(min(limits.cells_min, max(limits.graph_min_wide, affordable)))


def tail_max(layout: CodeLayout) -> int:
    """Return how many rows may wait outside the graph, scanned exactly.

    Examples
    --------
    >>> tail_max(CodeLayout("i8", 384))
    8192
    """
    affordable = (limits.tail_budget_us - CALL_US) / _scan_row_us(layout)
    return int(min(limits.tail_max, max(1_024, affordable)))


def default_oversample(layout: CodeLayout, n: int = 0) -> float:
    """Return how many candidates of a coarse tier of `n` rows to rescore for each result.

    Examples
    --------
    >>> default_oversample(CodeLayout("b1", 384)), default_oversample(CodeLayout("b1", 384), 1_600_000)
    (15.0, 35.0)
    """
    least = float(_OVERSAMPLE[layout.kind])
    if layout.has_factors:
        least = max(2.0, round(least * (_ESTIMATED_DIM / layout.dim) ** _ESTIMATED_POWER, 1))
    if n <= OVERSAMPLE_ROWS:
        return least
    return least + _OVERSAMPLE_STEP.get(layout.kind, 0.0) * math.log2(n / OVERSAMPLE_ROWS)


def default_ef(layout: CodeLayout, k: int, *, n: int = 0, rescored: bool = False) -> int:
    """Return how many candidates a graph should explore to find at least 0.95 of the best.

    Parameters
    ----------
    layout : CodeLayout
        What the graph's codes are.
    k : int
        Results wanted from the graph: candidates, if a finer tier rescores them.
    n : int, default=0
        Rows in the graph; beyond 50,000 more exploring is needed.
    rescored : bool, default=False
        Whether the `k` are candidates of which a part is kept. Then the worst of them matter little, and exploring no
        more than `k` is enough.

    Examples
    --------
    >>> default_ef(CodeLayout("i8", 384), 10), default_ef(CodeLayout("i8", 384), 100)
    (64, 200)
    """
    k = check_integer(k, "k", least=1)
    least = _EF.get(layout.kind, _EF_OTHERS)
    if n > EF_ROWS:
        least += int(EF_STEP * math.log2(n / EF_ROWS))
    return max(least, k if rescored else 2 * k)


def explored(layout: CodeLayout, k: int, *, n: int, rescored: bool, tuning: Tuning | None) -> int:
    """Return how many candidates a graph of `n` rows should explore for the best `k`: as tuned, or `default_ef`."""
    if tuning is not None and tuning.ef is not None:
        return tuning.ef_for(check_integer(k, "k", least=1), n, EF_STEP)
    return default_ef(layout, k, n=n, rescored=rescored)


def choose(
    layout: CodeLayout,
    k: int,
    *,
    n_alive: int,
    n_matching: int | None = None,
    linked: int = 0,
    ef: int | None = None,
    rescored: bool = False,
    tuning: Tuning | None = None,
) -> Plan:
    """Choose the cheapest way to the best `k` rows that match.

    Parameters
    ----------
    layout : CodeLayout
        What the codes are.
    k : int
        Results wanted from these codes (the candidates, if a finer tier rescores them).
    n_alive : int
        Rows that have not been deleted.
    n_matching : int, optional
        How many of them pass the filter. None means that there is no filter, or one whose matches cannot be counted; in
        the latter case start with the plan and double ``fetch`` up to ``limit``.
    linked : int, default=0
        Rows in the graph; 0 if there is none. Rows beyond it are scanned exactly whichever way is chosen.
    ef : int, optional
        Candidates to explore without a filter; `default_ef` by default.
    rescored : bool, default=False
        See `default_ef`.
    tuning : Tuning, optional
        What was measured on this collection; used instead of `default_ef` and of the constants of this module.

    Returns
    -------
    Plan
        What to do and what it is expected to cost.

    Raises
    ------
    ParameterError
        If a count is negative or more rows match than are alive.

    Examples
    --------
    >>> bits = CodeLayout("b1", 384)
    >>> choose(bits, 10, n_alive=100_000, linked=100_000).method
    'graph'
    >>> choose(bits, 10, n_alive=100_000, n_matching=1_000, linked=100_000).method
    'scan_matching'
    >>> choose(bits, 10, n_alive=5_000).method
    'scan'
    """
    k = check_integer(k, "k", least=1)
    n_alive = check_integer(n_alive, "n_alive", least=0)
    linked = check_integer(linked, "linked", least=0)
    matching = n_alive if n_matching is None else check_integer(n_matching, "n_matching", least=0)
    if matching > n_alive:
        raise ParameterError(f"expected at most n_alive={n_alive} matching rows, got {matching}")

    exact: Literal["scan", "scan_matching"] = "scan"
    exact_us = scan_us(layout, n_alive, tuning)
    if matching < n_alive and gather_us(layout, matching, tuning) < exact_us:
        exact, exact_us = "scan_matching", gather_us(layout, matching, tuning)
    if not linked or matching <= k:  # all matching rows are wanted: a graph could only miss some
        return Plan(exact, 0, 0, 0, exact_us)

    if ef is not None:
        explore = check_integer(ef, "ef", least=1)
    else:
        explore = explored(layout, k, n=linked, rescored=rescored, tuning=tuning)
    fetch = k
    if matching < n_alive:
        # The best k that match lie among the best k / share if the filter knows nothing of the query; half more,
        # because that scatters, and because a filter usually does know something.
        fetch = math.ceil(1.5 * k * n_alive / matching) + 8
        explore = max(explore, fetch)
    cost = graph_us(layout, max(explore, fetch), tuning)
    if cost >= exact_us:
        return Plan(exact, 0, 0, 0, exact_us)
    factor = tuning.graph if tuning is not None else 1.0
    return Plan("graph", fetch, explore, max(fetch, int((exact_us / factor - CALL_US) / _visit_us(layout))), cost)


def _scan_row_us(layout: CodeLayout) -> float:
    return SCAN_ROW_US + SCAN_BYTE_US * layout.row_bytes + _unpack_row_us(layout)


def _unpack_row_us(layout: CodeLayout) -> float:
    if layout.kind == "i2":
        return UNPACK_BYTE_US * layout.row_bytes
    # Planes of bits are read one by one, and what a score is made of is put together row by row.
    return (0.012 + 0.012 * (BITS[layout.kind] if layout.passes == QUERY_PLANES else 1)) if layout.has_factors else 0.0


def _visit_us(layout: CodeLayout) -> float:
    return VISIT_US + VISIT_BYTE_US * layout.linked_bytes
