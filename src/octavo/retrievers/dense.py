"""Dense search over one snapshot: candidates from cells, rescored in the finest tier, or from the coarse tier, rescored
tier by tier.

Scores returned always come from the finest tier. A filter never starves a query: when n documents match, min(k, n) come
back, exactly ranked over the matches when they are few.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, Scores
from octavo.errors import CorruptCollectionError
from octavo.index import Graph, exact_search, planner, score_rows
from octavo.store.snapshot import CellView, Mask, Slots, Snapshot, TierView

#: Rows of each cell of each segment that a mask lets through.
Counts = list[npt.NDArray[np.int64]]

#: Share of the rows above which what a graph finds may nearly all come back.
_HARDLY_ANY_PASSED = 0.9

#: Queries that search by cells together: their products with the centroids take a fifth of the time that they take one by
#: one, and what all of them need is long enough for another thread to work meanwhile.
_BLOCK, _BLOCK_LEAST = 32, 4

#: Rows looked at while centroids are due that fit later documents, in place of those that a query finds out by itself: so many
#: times what is usual. Measured with a third of the rows from another field, and questions about it: by itself a query found
#: 0.86 (MiniLM) and 0.88 (WordLlama) of the ten best, in twice the usual rows 0.97 and 0.96, in four times 0.99 and 0.99.
_UNFIT = 4

#: Share of the rows below which matching rows are gathered without asking the planner.
_SCATTERED = 0.25


@dataclass(frozen=True)
class DenseOptions:
    """How hard to look.

    Parameters
    ----------
    oversample : float or None
        Candidates rescored per result and tier; None takes the measured default of the coarse tier's type.
    ef : int or None
        Nodes that the graph search keeps in view; None takes the measured default.
    n_probe : int or None
        Cells that a search by cells looks at; None takes the measured default.
    exact : bool or None
        True scores every document in the finest tier; False uses the index wherever there is one; None lets the
        planner choose.
    threads : int
        Threads for a batch of queries; 0 means all cores.
    """

    oversample: float | None = None
    ef: int | None = None
    exact: bool | None = None
    threads: int = 1
    n_probe: int | None = None


def count_cells(mask: Mask, view: CellView) -> Counts:
    """Count how many rows of each cell a mask lets through."""
    return view.counts(mask)


def dense_search(
    snapshot: Snapshot,
    queries: Floats,
    k: int,
    mask: Mask | None,
    options: DenseOptions,
    count: Callable[[Mask, CellView], Counts] = count_cells,
    *,
    matching: int | None = None,
) -> tuple[Slots, Scores]:
    """Return the best slots for each query.

    Parameters
    ----------
    snapshot : Snapshot
        What to search.
    queries : ndarray of shape (m, dim)
        Query vectors, of unit length where cosine is meant.
    k : int
        Results per query.
    mask : ndarray of bool, shape (n_slots,), or None
        Which slots may come back; None means every document. Dead slots are False in it.
    options : DenseOptions
        How hard to look.
    count : callable
        Counts the rows of each cell that a mask lets through; a searcher remembers them.
    matching : int, optional
        How many slots the mask lets through, where that is known.

    Returns
    -------
    slots : ndarray of shape (m, k)
        Padded with -1.
    scores : ndarray of shape (m, k)
        Padded with -inf.
    """
    eligible = mask if mask is not None else (snapshot.alive if snapshot.n_alive < snapshot.n_slots else None)
    if matching is None:
        matching = int(np.count_nonzero(mask)) if mask is not None else snapshot.n_alive
    if not snapshot.tiers or matching == 0:
        return _nothing(len(queries), k)
    finest = snapshot.tiers[-1]
    wanted = min(k, matching)
    sizes = _stage_sizes(snapshot, wanted, matching, options)
    if options.exact or sizes[0] >= matching or (mask is not None and matching <= planner.limits.few):
        found = _scan(finest, queries, wanted, eligible, matching, options.threads)
    elif (by_cells := _by_cells(snapshot, queries, wanted, mask, matching, options, count)) is not None:
        found = by_cells
    elif len(snapshot.tiers) == 1:
        found = _candidates(snapshot, queries, wanted, eligible, matching, options)
    else:
        chosen = snapshot.tuning.oversample if options.oversample is None and snapshot.tuning else options.oversample
        rows, _ = _candidates(snapshot, queries, sizes[0], eligible, matching, options, all_found=chosen is None)
        found = _rescore(snapshot, queries, rows, sizes)
    slots, scores = _padded(found, k)
    if not finest.pipeline.shifts_queries:
        return slots, scores
    return slots, scores + finest.pipeline.query_offset(queries)[:, None]


def _stage_sizes(snapshot: Snapshot, k: int, matching: int, options: DenseOptions) -> list[int]:
    """Return how many candidates leave each tier: k times the oversampling after the first, k after the last."""
    stages = len(snapshot.tiers)
    if stages == 1:
        return [k]
    layout = snapshot.tiers[0].layout
    first = options.oversample
    if first is None and snapshot.tuning is not None:
        first = snapshot.tuning.oversample
    if first is None:
        first = planner.default_oversample(layout, snapshot.n_slots)
    # A funnel narrows geometrically: each refinement drops the same share.
    sizes = [max(k, round(k * first ** ((stages - 1 - stage) / (stages - 1)))) for stage in range(stages)]
    return [min(size, matching) for size in sizes]


def _scan(
    tier: TierView, queries: Floats, k: int, eligible: Mask | None, matching: int, threads: int
) -> tuple[Slots, Scores]:
    codes = tier.pipeline.encode_ready_queries(queries)
    if eligible is not None and _worth_gathering(tier, matching):
        rows = np.flatnonzero(eligible)
        tier.check(rows)
        return exact_search(tier.layout, tier.codes, codes, k, rows=rows, threads=threads)
    tier.check()
    return exact_search(tier.layout, tier.codes, codes, k, alive=eligible, threads=threads)


def _worth_gathering(tier: TierView, matching: int) -> bool:
    """Tell whether it is quicker to copy the matching rows together than to read all rows in order."""
    n = len(tier.codes)
    if matching < _SCATTERED * n:  # a gathered row costs at most three times as much, whatever its width
        return True
    return planner.gather_us(tier.layout, matching) < planner.scan_us(tier.layout, n)


def _by_cells(
    snapshot: Snapshot,
    queries: Floats,
    k: int,
    mask: Mask | None,
    matching: int,
    options: DenseOptions,
    count: Callable[[Mask, CellView], Counts],
) -> tuple[Slots, Scores] | None:
    """Return the best k by cells and the tail beside them; None where there are no (undamaged) cells, or a scan is cheaper."""
    view = snapshot.cells
    if view is None or view.damaged or view.rows == 0:
        return None
    effort = _effort(snapshot, view, k, matching, options)
    if effort is None:
        return None
    passing = mask if mask is not None else (snapshot.alive if snapshot.n_alive < snapshot.n_slots else None)
    finest, coarse = snapshot.tiers[-1], snapshot.tiers[0]
    encoded = finest.pipeline.encode_ready_queries(queries)
    if view.covered < snapshot.n_slots:
        size = _stage_sizes(snapshot, k, matching, options)[0]
        codes = encoded if finest is coarse else coarse.pipeline.encode_ready_queries(queries)
        tail, _ = _tail(snapshot, view.covered, codes, size, passing, options.threads)
    else:
        tail, _ = _nothing(len(queries), 0)
    slots, scores = _nothing(len(queries), k)

    def search(block: slice) -> None:
        found = _found_by_cells(view, queries[block], effort, passing, counts, k, options, tail[block])
        rows = np.concatenate(found)
        finest.check(rows)
        # as `score_rows` does, without a look at what was checked: rows by the cells, codes by their own encoder
        codes, start = finest.codes.take(rows, axis=0), 0
        for number, candidates in enumerate(found, block.start):
            if len(candidates) < k:  # never less than there is
                everything = _scan(finest, queries[number : number + 1], k, passing, matching, 1)
                slots[number], scores[number] = everything[0][0], everything[1][0]
            else:
                some = codes[start : start + len(candidates)]
                values = finest.layout.scores(some, finest.layout.pack(encoded[number : number + 1]))
                slots[number], scores[number] = _best(candidates, values[:, 0], k)
            start += len(candidates)

    try:
        counts = count(mask, view) if mask is not None else None
        threads = options.threads or planner.CORES
        size = min(_BLOCK, max(_BLOCK_LEAST, -(-len(queries) // threads)))
        blocks = [slice(start, start + size) for start in range(0, len(queries), size)]
        if threads == 1 or len(blocks) == 1:
            for block in blocks:
                search(block)
        else:
            with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
                for _ in pool.map(search, blocks):
                    pass  # what was raised in a thread is raised here
    except CorruptCollectionError:
        if not any(part.damaged for part in view.parts):
            raise
        return None  # cells can be made again; answers come from a scan meanwhile
    return slots, scores


def _found_by_cells(
    view: CellView,
    queries: Floats,
    effort: tuple[int | None, int],
    passing: Mask | None,
    counts: Counts | None,
    k: int,
    options: DenseOptions,
    tail: Slots,
) -> list[Slots]:
    """Return the candidates of each query, from the cells and the tail beside them."""
    looked, keep = effort
    routed = view.route(queries)
    beside = [row[row >= 0] for row in tail]
    found = [np.empty(0, np.int64)] * len(queries)
    left = list(range(len(queries)))
    while True:
        some = routed if len(left) == len(queries) else routed[left]
        for number, slots in zip(
            left, view.search(some, looked, keep, passing, counts, k, widen=options.oversample is None), strict=True
        ):
            found[number] = slots
        left = [number for number in left if len(found[number]) + len(beside[number]) < k]
        if not left or (looked is not None and looked >= view.rows):
            break
        looked = 8 * (looked or keep)  # the query's neighbourhood holds little that may come back
    return [np.concatenate(both) if len(both[1]) else both[0] for both in zip(found, beside, strict=True)]


def _effort(
    snapshot: Snapshot, view: CellView, k: int, matching: int, options: DenseOptions
) -> tuple[int | None, int] | None:
    """Return how many (matching) rows to look at and how many candidates to rescore; None where a scan is cheaper.

    Of the rows None as well, where each query finds out by itself.
    """
    model, coarse, tuning = view.trained.model, snapshot.tiers[0], snapshot.tuning
    share = matching / snapshot.n_slots
    reach = model.reach if tuning is None or tuning.probed is None else None
    if reach is not None:
        typical = reach.typical / len(model) * view.rows * share
        # one bit a value tells the best ten apart from as many more as there are more rows than it was learned with
        grown = max(1.0, view.rows / view.trained.rows)
        rows, keep = planner.cells_reached(typical, reach.kept * grown, share, k)
    else:
        rows, keep = planner.cells_effort(min(matching, view.rows), k, model.dim, tuning)
    if view.unfit:
        rows *= _UNFIT
    if options.oversample is not None:
        keep = max(k, round(k * options.oversample))
    if options.n_probe is not None:
        rows = max(1, round(options.n_probe * view.rows / len(model) * share))
    rows = max(rows, k)
    if options.exact is None and options.n_probe is None:
        scan = planner.scan_us(coarse.layout, snapshot.n_slots, tuning)
        if matching < snapshot.n_alive:
            scan = min(scan, planner.gather_us(coarse.layout, matching, tuning))
        if planner.cells_us(len(model), round(rows / share), keep, tuning) >= scan:
            return None
    by_itself = reach is not None and options.n_probe is None and not view.unfit
    return None if by_itself else rows, min(keep, matching)


def _candidates(
    snapshot: Snapshot,
    queries: Floats,
    count: int,
    eligible: Mask | None,
    matching: int,
    options: DenseOptions,
    *,
    all_found: bool = False,
) -> tuple[Slots, Scores]:
    """Return `count` candidates for each query from the coarse tier, by graph or by scan.

    With `all_found`, all that a graph of estimates has looked at is handed on, where little is passed over: a finer tier scores
    it in less time than it takes to estimate and choose.
    """
    coarse, view = snapshot.tiers[0], snapshot.graph
    if view is None or view.covered == 0:
        return _scan(coarse, queries, count, eligible, matching, options.threads)
    plan = planner.choose(
        coarse.layout,
        count,
        n_alive=snapshot.n_slots,  # the graph still walks through the dead ones
        n_matching=matching if eligible is not None else None,
        linked=view.covered,
        ef=options.ef,
        rescored=len(snapshot.tiers) > 1,
        tuning=snapshot.tuning,
    )
    if plan.method != "graph" and options.exact is not False:
        return _scan(coarse, queries, count, eligible, matching, options.threads)
    fetch, ef, limit = plan.fetch, plan.ef, plan.limit
    if plan.method != "graph":  # exact=False: by graph, whatever it costs
        fetch = count if eligible is None else int(1.5 * count * snapshot.n_slots / matching) + 8
        default = planner.explored(coarse.layout, count, n=view.covered, rescored=False, tuning=snapshot.tuning)
        ef, limit = options.ef or default, view.covered
    if all_found and _by_order(coarse) and matching > _HARDLY_ANY_PASSED * snapshot.n_slots:
        more = min(max(count, ef), matching)
        count, fetch = more, -(-fetch * more // count)
    codes = coarse.pipeline.encode_ready_queries(queries)
    if eligible is None and view.covered == snapshot.n_slots:
        if len(snapshot.tiers) > 1 and count >= ef:  # all of it is scored by the next tier: no need to estimate
            found, found_scores = view.graph.search(codes, count, ef, threads=options.threads)
        else:
            found, found_scores = _walk(snapshot, view.graph, codes, count, ef, options.threads)
        if not ((found < 0) | (found >= snapshot.n_slots)).any():  # the usual case needs no merging
            return found, found_scores
    tail_slots, tail_scores = _tail(snapshot, view.covered, codes, count, eligible, options.threads)
    needed = min(count, _reachable(eligible, view.covered))
    slots, scores = _nothing(len(queries), count)
    left = np.arange(len(queries))
    while len(left):
        if fetch > max(limit, count):  # the filter and the query have little in common: look at all that match
            slots[left], scores[left] = _scan(coarse, queries[left], count, eligible, matching, options.threads)
            break
        found, found_scores = _walk(snapshot, view.graph, codes[left], fetch, max(ef, fetch), options.threads)
        outside = (found < 0) | (found >= snapshot.n_slots)  # linked by a commit that this snapshot does not see
        if eligible is not None:
            outside |= ~eligible[np.where(outside, 0, found)]
        enough = np.count_nonzero(~outside, axis=1) >= needed
        inside = np.argsort(outside, axis=1, kind="stable")[:, :count]  # what may come back, still best first
        found = np.take_along_axis(found, inside, 1)
        found_scores = np.where(
            np.take_along_axis(outside, inside, 1), -np.inf, np.take_along_axis(found_scores, inside, 1)
        )
        merged = _merge(found, found_scores, tail_slots[left], tail_scores[left], count)
        done = left[enough]
        slots[done], scores[done] = merged[0][enough], merged[1][enough]
        left = left[~enough]
        fetch *= 2
    return slots, scores


def _walk(
    snapshot: Snapshot, graph: Graph, codes: npt.NDArray[np.uint8], count: int, ef: int, threads: int
) -> tuple[Slots, Scores]:
    """Return what the graph finds; where it knows only an order, the scores of all that it looked at decide."""
    coarse = snapshot.tiers[0]
    if not _by_order(coarse):
        return graph.search(codes, count, ef, threads=threads)
    found, _ = graph.search(codes, max(count, ef), ef, threads=threads)
    found[found >= snapshot.n_slots] = -1  # linked by a commit that this snapshot does not see
    rows = found[0] if len(found) == 1 else np.unique(found)
    coarse.check(rows[rows >= 0])
    scores = np.full(found.shape, -np.inf, np.float32)
    for query, row, into in zip(codes, found, scores, strict=True):
        into[row >= 0] = score_rows(coarse.layout, coarse.codes, query, row[row >= 0])
    order = np.lexsort((found, -scores), axis=1)[:, :count]
    return np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)


def _by_order(tier: TierView) -> bool:
    """Tell whether a graph of the tier knows no more than an order."""
    return tier.layout.has_factors or tier.layout.lengths


def _reachable(eligible: Mask | None, covered: int) -> int:
    return covered if eligible is None else int(np.count_nonzero(eligible[:covered]))


def _tail(
    snapshot: Snapshot,
    covered: int,
    codes: npt.NDArray[np.uint8],
    count: int,
    eligible: Mask | None,
    threads: int,
) -> tuple[Slots, Scores]:
    """Scan what the index does not reach yet."""
    coarse = snapshot.tiers[0]
    if covered >= snapshot.n_slots:
        return _nothing(len(codes), 0)
    coarse.check(np.arange(covered, snapshot.n_slots))
    alive = eligible[covered:] if eligible is not None else None
    slots, scores = exact_search(coarse.layout, coarse.codes[covered:], codes, count, alive=alive, threads=threads)
    return np.where(slots >= 0, slots + covered, -1), scores


def _merge(a: Slots, a_scores: Scores, b: Slots, b_scores: Scores, count: int) -> tuple[Slots, Scores]:
    """Return the `count` best of two rankings for each query, ties by slot."""
    if b.shape[1] == 0:
        return _padded((np.where(a_scores > -np.inf, a, -1), a_scores), count)
    slots, scores = np.concatenate([a, b], axis=1), np.concatenate([a_scores, b_scores], axis=1)
    order = np.lexsort((slots, -scores), axis=1)[:, :count]
    slots, scores = np.take_along_axis(slots, order, 1), np.take_along_axis(scores, order, 1)
    slots = np.where(scores > -np.inf, slots, -1)
    return _padded((slots, scores), count)


def _rescore(snapshot: Snapshot, queries: Floats, rows: Slots, sizes: list[int]) -> tuple[Slots, Scores]:
    """Score candidates in each finer tier in turn, keeping fewer each time."""
    k = sizes[-1]
    slots, scores = _nothing(len(queries), k)
    encoded = [tier.pipeline.encode_ready_queries(queries) for tier in snapshot.tiers[1:]]
    for number in range(len(queries)):
        kept = rows[number][rows[number] >= 0]
        kept_scores = np.zeros(0, np.float32)
        for tier, codes, size in zip(snapshot.tiers[1:], encoded, sizes[1:], strict=True):
            tier.check(kept)
            kept_scores = score_rows(tier.layout, tier.codes, codes[number], kept)
            kept, kept_scores = _best(kept, kept_scores, size)
        slots[number, : len(kept)], scores[number, : len(kept)] = kept, kept_scores
    return slots, scores


def _best(rows: Slots, scores: Scores, k: int) -> tuple[Slots, Scores]:
    """Return the k best rows, best first, ties by row: all of them are compared with the k-th, only these sorted."""
    if len(rows) > 2 * k:
        negative = -scores
        some = np.flatnonzero(~(negative > np.partition(negative, k - 1)[k - 1]))
        rows, scores = rows[some], scores[some]
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _nothing(m: int, k: int) -> tuple[Slots, Scores]:
    return np.full((m, k), -1, np.int64), np.full((m, k), -np.inf, np.float32)


def _padded(found: tuple[Slots, Scores], k: int) -> tuple[Slots, Scores]:
    slots, scores = found
    if slots.shape[1] == k:
        return slots, scores
    wide_slots, wide_scores = _nothing(len(slots), k)
    width = min(k, slots.shape[1])
    wide_slots[:, :width], wide_scores[:, :width] = slots[:, :width], scores[:, :width]
    return wide_slots, wide_scores
