"""Find the configurations that nothing beats in both quality and bytes, and name the one to use."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from octavo._validation import check_choice, check_integer
from octavo.errors import OctavoError, ParameterError
from octavo.eval.analysis.recipe import Recipe, recipe
from octavo.eval.analysis.scaling import Footprint, Where, footprint
from octavo.eval.analysis.select import Group, common_measures, group, on_dataset
from octavo.eval.results import Result, load_results

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


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
    bytes_per_document, total_bytes : float
        For the number of documents asked for (mean over the data sets).
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
    recommended : Point
        The one to use.
    recipe : Recipe
        It, ready to paste.
    why : str
        How it was chosen.
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
    recommended: Point
    recipe: Recipe
    why: str
    left_out: list[str]

    @property
    def frontier(self) -> list[Point]:
        """The configurations that nothing beats, fewest bytes first."""
        return [point for point in self.points if point.on_frontier]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return self.__dict__ | {
            "points": [point.to_dict() for point in self.points],
            "recommended": self.recommended.to_dict(),
            "recipe": self.recipe.to_dict(),
        }


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
) -> Pareto:
    """Find the frontier of quality and bytes, and the configuration to use.

    With a budget, the best quality that fits in it. Without, the fewest bytes at the floor, which then is 99 % of float32
    unless `min_quality` says otherwise. Of two that are equal, the one with fewer bytes.

    Parameters
    ----------
    results : iterable of Result, or path
        Results, or a directory of them. With several data sets, the mean over them is what counts, and only configurations
        measured on all of them.
    budget : str or float, optional
        Bytes for the whole collection: ``"64MB"``, ``"64MiB"``, ``1.5e9``.
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
    floor = _floor(min_quality if min_quality is not None or limit is not None else "99%", axis, reference)
    best = _choose(points, limit, floor, where, axis)
    members = next(found for found in groups if found.label == best.label and [r.id for r in found.results] == best.ids)
    return Pareto(
        datasets=[result.dataset.name for result in groups[0].results],
        measure=axis,
        where=where,
        documents=documents,
        budget=limit,
        min_quality=floor,
        reference=reference.label if reference is not None else None,
        points=points,
        recommended=best,
        recipe=recipe(members.first),
        why=_why(best, axis, limit, floor),
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
                bytes_per_document=each,
                total_bytes=sum(part.total for part in parts) / len(parts),
                footprints=parts,
                p50_ms=sum(times) / len(times) if times else None,
                on_frontier=on_frontier,
            )
        )
    return points, reference


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


def _choose(points: list[Point], budget: float | None, floor: float | None, where: Where, measure: str) -> Point:
    usable = [point for point in points if not point.baseline]
    if not usable:
        raise NothingFitsError("expected a configuration of the collection, got baselines only; run one with --codec")
    good = [point for point in usable if floor is None or point.quality >= floor]
    if not good:
        best = max(usable, key=lambda point: point.quality)
        raise NothingFitsError(
            f"no configuration reaches {measure} {floor:.4f}; the best is {best.label!r} with {best.quality:.4f}"
        )
    if budget is None:
        return good[0]
    fitting = [point for point in good if point.total_bytes <= budget]
    if not fitting:
        smallest = good[0]
        among = "" if floor is None else f" of those that reach {measure} {floor:.4f}"
        raise NothingFitsError(
            f"no configuration fits in {budget:,.0f} bytes ({where}); the smallest{among} is {smallest.label!r} with "
            f"{smallest.total_bytes:,.0f} bytes for {smallest.footprints[0].documents:,} documents, "
            f"{smallest.bytes_per_document:,.0f} each"
        )
    return max(fitting, key=lambda point: (point.quality, -point.total_bytes))


def _why(best: Point, measure: str, budget: float | None, floor: float | None) -> str:
    least = f"{measure} of at least {floor:.4f}" if floor is not None else ""
    if budget is None:
        return f"fewest bytes with {least}"
    return f"best {measure} within {budget:,.0f} bytes" + (f", with {least}" if least else "")
