"""Find the configurations that nothing beats in both quality and bytes, and name the one to use."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from octavo._validation import check_choice, check_integer, check_number
from octavo.errors import OctavoError, ParameterError
from octavo.eval.analysis.compare import paired_values
from octavo.eval.analysis.recipe import Recipe, recipe
from octavo.eval.analysis.scaling import Footprint, Where, footprint
from octavo.eval.analysis.select import Group, common_measures, group, on_dataset
from octavo.eval.analysis.statistics import queries_needed, shares_kept
from octavo.eval.results import Result, load_results

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


#: That the bounds of all candidates hold.
CONFIDENCE = 0.95

#: The share of float32 that is asked for where nobody says what.
_USUAL_SHARE = 0.99


class NothingFitsError(OctavoError, ValueError):
    """No configuration is within the budget and the floor; the message names the one that comes closest."""


@dataclass(frozen=True)
class Point:
    """One configuration in the plane of bytes and quality.

    Parameters
    ----------
    label : str
        What to call it.
    ids : list of str
        Ids of its results, one for each data set.
    baseline : bool
        Whether it is a reference scheme outside the collection: shown, never recommended.
    quality : float
        Mean of the measure over the data sets.
    relative : float or None
        `quality` as a share of that of float32; None without a float32 run.
    at_least : float or None
        The share of float32 that it keeps on all queries like these, at least: true of all candidates at once with the
        confidence of the choice. None for what is no candidate, and without a float32 run or single values.
    changed, queries : int or None, int
        Queries whose value differs from float32's, and all that were asked.
    bytes_per_document, total_bytes : float
        Mean over the data sets, and the largest total, which is what has to fit in a budget; for the number of documents
        asked for.
    footprints : list of Footprint
        How the bytes come about, one for each data set.
    p50_ms : float or None
        Median latency of a query, mean over the data sets.
    on_frontier : bool
        Whether no other configuration has at least its quality with fewer bytes. Baselines do not count.
    """

    label: str
    ids: list[str]
    baseline: bool
    quality: float
    relative: float | None
    at_least: float | None
    changed: int | None
    queries: int
    bytes_per_document: float
    total_bytes: float
    footprints: list[Footprint]
    p50_ms: float | None
    on_frontier: bool

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return self.__dict__ | {"footprints": [part.to_dict() for part in self.footprints]}


@dataclass(frozen=True)
class Pareto:
    """What `pareto` found; `to_dict` gives JSON.

    Parameters
    ----------
    datasets : list of str
        What the quality is a mean over.
    measure, where : str
        The two axes.
    documents : int or None
        Number of documents that bytes were scaled to; None for those measured.
    budget : float or None
        Bytes in all.
    min_quality : float or None
        The least value of the measure.
    reference : str or None
        Label of the float32 run that `relative` refers to.
    points : list of Point
        Fewest bytes first.
    confidence : float
        That the bounds of all candidates hold.
    recommended : Point
        The one to use: the safe choice, where there is one.
    settled : bool
        Whether it was shown to be good enough, and not only measured to be.
    recipe : Recipe
        It, ready to paste.
    why : str
        How it was chosen.
    cheap : Point or None
        One that takes fewer bytes and was measured to be good enough, which these queries do not settle; None if there is
        none.
    cheap_recipe : Recipe or None
        It, ready to paste.
    queries_needed : int or None
        Queries in all that would show it to be good enough, if the others are like these.
    left_out : list of str
        Configurations that were not considered, and why.
    """

    datasets: list[str]
    measure: str
    where: Where
    documents: int | None
    budget: float | None
    min_quality: float | None
    reference: str | None
    points: list[Point]
    confidence: float
    recommended: Point
    settled: bool
    recipe: Recipe
    why: str
    cheap: Point | None
    cheap_recipe: Recipe | None
    queries_needed: int | None
    left_out: list[str]

    @property
    def frontier(self) -> list[Point]:
        """The configurations that nothing beats, fewest bytes first."""
        return [point for point in self.points if point.on_frontier]

    @property
    def sentences(self) -> list[str]:
        """The recommendation in words: what to use and why, and what else there is."""
        used = f"Use {self.recommended.label}: {self.why}."
        if not self.settled:
            used += " These queries do not settle it" + self._needed() + "."
        if self.cheap is None:
            return [used]
        measured = f"{self.cheap.quality:.4f}"
        if self.cheap.relative is not None:
            measured += f" ({self.cheap.relative:.1%} of float32)"
        other = (
            f"Cheaper, but not settled by {self.cheap.queries:,} queries: {self.cheap.label}, {_size_of(self)} instead of "
            f"{_size_of(self, self.recommended)}. Measured {self.measure} {measured}"
        )
        if self.cheap.at_least is not None:
            other += f", at least {self.cheap.at_least:.1%} with {self.confidence:.0%} confidence"
        if self.cheap.changed is not None:
            other += f"; {self.cheap.changed:,} queries changed"
        return [used, other + self._needed() + "."]

    def _needed(self) -> str:
        return f"; about {self.queries_needed:,} queries like these would" if self.queries_needed is not None else ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return self.__dict__ | {
            "points": [point.to_dict() for point in self.points],
            "recommended": self.recommended.to_dict(),
            "recipe": self.recipe.to_dict(),
            "cheap": self.cheap.to_dict() if self.cheap is not None else None,
            "cheap_recipe": self.cheap_recipe.to_dict() if self.cheap_recipe is not None else None,
        }


def _size_of(choice: Pareto, point: Point | None = None) -> str:
    point = point if point is not None else choice.cheap
    return f"{point.bytes_per_document:,.0f} bytes a document" if point is not None else ""


def parse_bytes(text: str | float) -> float:
    """Return a number of bytes from text such as ``64MB`` (decimal) or ``64MiB`` (binary).

    Raises
    ------
    ParameterError
        When it is not a positive size.

    Examples
    --------
    >>> parse_bytes("64MB"), parse_bytes("1.5 GiB"), parse_bytes("300")
    (64000000.0, 1610612736.0, 300.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", str(text).lower())
    unit = match.group(2) if match else ""
    size = float(match.group(1)) * _UNITS.get(unit or "b", 0) if match else 0.0
    if not size:
        raise ParameterError(f"expected a size such as 64MB, 64MiB or 1.5GB, got {text!r}")
    return size


def parse_floor(text: str | float) -> tuple[float, bool]:
    """Return the number in text such as ``99%`` (of float32) or ``0.65`` (of the measure), and whether it is relative.

    Examples
    --------
    >>> parse_floor("99%"), parse_floor("0.65")
    ((0.99, True), (0.65, False))
    """
    cleaned = str(text).strip()
    try:
        value = float(cleaned.removesuffix("%")) / (100 if cleaned.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not value > 0 or math.isinf(value):
        raise ParameterError(f"expected a floor such as 99% (of float32) or 0.65 (of the measure), got {text!r}")
    return value, cleaned.endswith("%")


def pareto(
    results: Iterable[Result] | str | os.PathLike[str],
    *,
    budget: str | float | None = None,
    where: Where = "ram",
    documents: int | None = None,
    min_quality: str | float | None = None,
    measure: str | None = None,
    dataset: str | None = None,
    confidence: float = CONFIDENCE,
) -> Pareto:
    """Find the frontier of quality and bytes, and the configuration to use.

    Without a budget, the fewest bytes that are shown to reach the floor, which is 99 % of float32 unless `min_quality` says
    otherwise. With a budget, of those that fit the one that is shown to keep most. Of two that are equal, the one with fewer
    bytes. Shown is what a lower bound says that holds for all candidates at once (`shares_kept`): a mean over fifty queries
    is as likely to flatter a codec as not, and the best of many means flatters for certain. What is cheaper and was measured
    to be good enough is named beside it.

    Parameters
    ----------
    results : iterable of Result, or path
        Results, or a directory of them. With several data sets, the mean over them is what counts, and only configurations
        measured on all of them.
    budget : str or float, optional
        Bytes for the whole collection: ``"64MB"``, ``"64MiB"``, ``1.5e9``. With several data sets and no `documents`, the
        largest has to fit.
    where : {"ram", "disk", "index"}, default="ram"
        What the budget is for; ``index`` is the disk without the documents' own texts, metadata and full text.
    documents : int, optional
        Size of the collection that the budget is for; by default, that of the data measured. See
        `octavo.eval.analysis.scaling.footprint` for how bytes are scaled.
    min_quality : str or float, optional
        ``"99%"`` of the best float32 run, or a value of the measure such as ``0.65``.
    measure : str, optional
        By default the first one in the results.
    dataset : str, optional
        Only results on this data set.
    confidence : float, default=0.95
        That the bounds of all candidates hold.

    Returns
    -------
    Pareto

    Raises
    ------
    NothingFitsError
        When no configuration is within budget and floor.
    ParameterError
        When there are no results, or an option cannot be read.
    """
    check_choice(where, "where", get_args(Where))
    documents = check_integer(documents, "documents", least=1) if documents is not None else None
    confidence = check_number(confidence, "confidence", above=0, below=1)
    loaded = load_results(results) if isinstance(results, str | os.PathLike) else list(results)
    chosen = on_dataset(loaded, dataset)
    groups, left_out = group(chosen)
    if not groups:
        raise ParameterError(f"expected a configuration measured on all data sets, got none: {'; '.join(left_out)}")
    common = common_measures([result for found in groups for result in found.results])
    if measure is None and not common:
        raise ParameterError("expected a measure that all results have; run them with the same -m")
    axis = measure or common[0]
    limit = parse_bytes(budget) if budget is not None else None
    points, reference = plane(groups, axis, where=where, documents=documents)
    floor = _floor(
        min_quality if min_quality is not None or limit is not None else f"{_USUAL_SHARE:.0%}", axis, reference
    )
    by_ids = {tuple(result.id for result in found.results): found for found in groups}
    points = _bounded(points, by_ids, reference, axis, limit, confidence)
    best, settled = _choose(points, limit, floor, where, axis, reference)
    cheap = _cheaper(points, best, limit, floor, reference, axis)
    open_ = cheap if cheap is not None else (best if not settled else None)
    needed = None
    if open_ is not None and reference is not None and floor is not None and open_.at_least is not None:
        needed = queries_needed(
            _values(reference, axis),
            _values(by_ids[tuple(open_.ids)], axis),
            floor / reference.value(axis),
            candidates=sum(point.at_least is not None for point in points) - 1,
            most=_most(reference, axis),
            confidence=confidence,
        )
    return Pareto(
        datasets=[result.dataset.name for result in groups[0].results],
        measure=axis,
        where=where,
        documents=documents,
        budget=limit,
        min_quality=floor,
        reference=reference.label if reference is not None else None,
        points=points,
        confidence=confidence,
        recommended=best,
        settled=settled,
        recipe=recipe(by_ids[tuple(best.ids)].first),
        why=_why(best, axis, limit, floor, reference, confidence, settled),
        cheap=cheap,
        cheap_recipe=recipe(by_ids[tuple(cheap.ids)].first) if cheap is not None else None,
        queries_needed=needed,
        left_out=left_out,
    )


def plane(
    groups: list[Group], measure: str, *, where: Where = "ram", documents: int | None = None
) -> tuple[list[Point], Group | None]:
    """Return every configuration as a point, fewest bytes first, and the float32 run that they are measured against."""
    plain = [found for found in groups if found.is_float32]
    plain = [found for found in plain if found.first.configuration.store is None] or plain  # a move is measured by it
    reference = max(plain, key=lambda found: found.value(measure), default=None)
    rows = []
    for found in groups:
        if where == "disk" and found.is_baseline:
            continue  # it stores no texts, so that its files say nothing beside those of a collection
        parts = [footprint(result, where, documents) for result in found.results]
        each = sum(part.total / part.documents for part in parts) / len(parts)
        rows.append((each, -found.value(measure), found, parts))
    rows.sort(key=lambda row: row[:2])
    points, best = [], -math.inf
    for each, negative, found, parts in rows:
        on_frontier = not found.is_baseline and -negative > best
        if on_frontier:
            best = -negative
        times = [result.speed.latency_ms.p50 for result in found.results if result.speed.latency_ms is not None]
        points.append(
            Point(
                label=found.label,
                ids=[result.id for result in found.results],
                baseline=found.is_baseline,
                quality=-negative,
                relative=-negative / reference.value(measure) if reference and reference.value(measure) else None,
                at_least=None,
                changed=_changed(found, reference, measure),
                queries=sum(result.dataset.queries for result in found.results),
                bytes_per_document=each,
                total_bytes=max(part.total for part in parts),
                footprints=parts,
                p50_ms=sum(times) / len(times) if times else None,
                on_frontier=on_frontier,
            )
        )
    return points, reference


def _changed(found: Group, reference: Group | None, measure: str) -> int | None:
    if reference is None or not _comparable(found, reference, measure):
        return None
    pairs = [paired_values(a, b, measure) for a, b in zip(reference.results, found.results, strict=True)]
    return sum(p != q for _, x, y in pairs for p, q in zip(x, y, strict=True))


def _comparable(found: Group, reference: Group, measure: str) -> bool:
    """Tell whether both have the measure for each of the same queries."""
    pairs = [
        (a.per_query.get(measure, {}), b.per_query.get(measure, {}))
        for a, b in zip(reference.results, found.results, strict=True)
    ]
    return all(len(x) > 1 and x.keys() == y.keys() for x, y in pairs)


def _values(found: Group, measure: str) -> list[list[float]]:
    """Return the measure of every query in the order of their ids, for each data set."""
    return [[value for _, value in sorted(result.per_query[measure].items())] for result in found.results]


def _most(reference: Group, measure: str) -> float:
    """Return the largest value that the measure can have: 1, or what was seen if that is more."""
    return max(1.0, *(max(values) for values in _values(reference, measure)))


def _bounded(
    points: list[Point],
    groups: Mapping[tuple[str, ...], Group],
    reference: Group | None,
    measure: str,
    budget: float | None,
    confidence: float,
) -> list[Point]:
    """Return the points with the share of float32 that each candidate keeps at least."""
    if reference is None or not reference.value(measure) or not _comparable(reference, reference, measure):
        return points
    own = [result.id for result in reference.results]
    largest = next((point.bytes_per_document for point in points if point.ids == own), math.inf)
    names = [
        tuple(point.ids)
        for point in points
        if not point.baseline
        and point.ids != own
        # What takes more than float32, or does not fit, is chosen by nobody: each candidate more makes the bounds wider.
        and (point.total_bytes <= budget if budget is not None else point.bytes_per_document < largest)
        and _comparable(groups[tuple(point.ids)], reference, measure)
        and min(map(min, _values(groups[tuple(point.ids)], measure))) >= 0
    ]
    shares = shares_kept(
        _values(reference, measure),
        [_values(groups[name], measure) for name in names],
        most=_most(reference, measure),
        confidence=confidence,
    )
    known = {**dict(zip(names, shares, strict=True)), tuple(own): 1.0}
    return [replace(point, at_least=known.get(tuple(point.ids))) for point in points]


def _floor(asked: str | float | None, measure: str, reference: Group | None) -> float | None:
    if asked is None:
        return None
    value, relative = parse_floor(asked)
    if not relative:
        return value
    if reference is None:
        raise ParameterError(
            f"a floor of {asked} refers to float32, but no result is a float32 run; run one with --codec float32, or give "
            "the least value of the measure"
        )
    return value * reference.value(measure)


def _choose(
    points: list[Point], budget: float | None, floor: float | None, where: Where, measure: str, reference: Group | None
) -> tuple[Point, bool]:
    """Return the point to use, and whether it was shown to be good enough and not only measured to be."""
    usable = [point for point in points if not point.baseline]
    if not usable:
        raise NothingFitsError("expected a configuration of the collection, got baselines only; run one with --codec")
    good = [point for point in usable if floor is None or point.quality >= floor]
    if not good:
        best = max(usable, key=lambda point: point.quality)
        raise NothingFitsError(
            f"no configuration reaches {measure} {floor:.4f}; the best is {best.label!r} with {best.quality:.4f}"
        )
    fitting = [point for point in good if budget is None or point.total_bytes <= budget]
    if not fitting:
        smallest = min(good, key=lambda point: point.total_bytes)
        among = "" if floor is None else f" of those that reach {measure} {floor:.4f}"
        raise NothingFitsError(
            f"no configuration fits in {budget:,.0f} bytes ({where}); the smallest{among} is {smallest.label!r} with "
            f"{smallest.total_bytes:,.0f} bytes for {max(part.documents for part in smallest.footprints):,} documents, "
            f"{smallest.bytes_per_document:,.0f} each"
        )
    whole = reference.value(measure) if reference is not None else 0.0
    shown = [p for p in fitting if p.at_least is not None and (floor is None or p.at_least * whole >= floor)]
    if not shown:
        bounded = any(point.at_least is not None for point in fitting)
        return (max(fitting, key=_by_bound) if bounded or budget is not None else fitting[0]), False
    return (shown[0] if budget is None else max(shown, key=_by_bound)), True


def _by_bound(point: Point) -> tuple[float, float, float]:
    return (point.at_least if point.at_least is not None else -math.inf, point.quality, -point.total_bytes)


def _cheaper(
    points: list[Point], best: Point, budget: float | None, floor: float | None, reference: Group | None, measure: str
) -> Point | None:
    """Return the smallest that was measured to be good enough, if it is smaller than the one to use."""
    if floor is None:
        if reference is None:
            return None
        floor = _USUAL_SHARE * reference.value(measure)
    smaller = [
        point
        for point in points
        if not point.baseline and point.quality >= floor and point.bytes_per_document < best.bytes_per_document
    ]
    return min(smaller, key=lambda point: (point.bytes_per_document, -point.quality), default=None)


def _why(
    best: Point,
    measure: str,
    budget: float | None,
    floor: float | None,
    reference: Group | None,
    confidence: float,
    settled: bool,
) -> str:
    least = f"{measure} of at least {floor:.4f}" if floor is not None else ""
    if reference is not None and [result.id for result in reference.results] == best.ids:
        proof = "because these queries show it of nothing smaller" if floor is not None else ""
    elif best.at_least is not None:
        proof = f"keeps at least {best.at_least:.1%} of float32 with {confidence:.0%} confidence"
    else:
        proof = f"measured {best.quality:.4f}"
    if budget is None:
        head = f"fewest bytes with {least}" if settled else f"comes closest to {least}"
    else:
        head = f"best {measure} within {budget:,.0f} bytes" + (f", with {least}" if least else "")
    return f"{head}, {proof}" if proof else head
