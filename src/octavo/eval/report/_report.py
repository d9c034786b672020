"""Put the results of a directory on one page, with pictures, for those who decide."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from octavo._files import write_atomically
from octavo._html import Html, element, join
from octavo.errors import ParameterError
from octavo.eval.analysis.compare import paired_values
from octavo.eval.analysis.grid import Grid, grids
from octavo.eval.analysis.pareto import NothingFitsError, Pareto, pareto, plane
from octavo.eval.analysis.recipe import Recipe
from octavo.eval.analysis.scaling import Where
from octavo.eval.analysis.select import Group, common_measures, group, on_dataset
from octavo.eval.analysis.statistics import PairedDifference, paired_difference
from octavo.eval.report import _page, _plots
from octavo.eval.report._tables import ReportData, changed_table, configuration_table, difference_tables, provenance
from octavo.eval.results import EXPLANATION_SUFFIX, Result, load_results

#: An image as it may stand in a page.
_PAGE = re.compile(r"data:image/(jpeg|png);base64,[A-Za-z0-9+/]+={0,2}")

#: Resamples of tests and intervals on a page, where there are many: 10,000 queries and 40 comparisons stay under a minute.
RESAMPLES = 1_999

#: Configurations that get a panel in the per-query picture; more make it unreadable.
SCATTERED = 6


@dataclass(frozen=True)
class Report:
    """What `report` wrote; `to_dict` gives JSON.

    Parameters
    ----------
    html : str
        Path of the page.
    pictures : list of str
        Paths of the PNG files.
    recommended : str or None
        The configuration that the page recommends.
    configurations : int
        How many it shows.
    datasets : list of str
        On which data.
    left_out : list of str
        What it does not show in its comparisons, and why.

    Examples
    --------
    >>> from octavo.eval import Dataset, ReadyVectors, run
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> vectors = ReadyVectors([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.2]])
    >>> results = run(data, None, "int8", vectors=vectors, measures=["RR@10"])
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> written = report(results, out=f"{folder.name}/report.html")
    >>> written.configurations, written.datasets
    (1, ['tiny'])
    >>> folder.cleanup()
    """

    html: str
    pictures: list[str]
    recommended: str | None
    configurations: int
    datasets: list[str]
    left_out: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return dict(self.__dict__)


def find_explanation(folder: str | os.PathLike[str], results: Sequence[Result]) -> Path | None:
    """Return the match that a late-interaction run explained, of the first of these results that has one.

    Parameters
    ----------
    folder : str or path-like
        Where the runs were written; everything below it is looked through.
    results : sequence of Result
        Of those runs.

    Returns
    -------
    Path or None
        The JSON file; None where no run left one.
    """
    stems = {Path(result.run_file).stem for result in results if result.configuration.late}
    written = sorted(Path(folder).rglob(f"*{EXPLANATION_SUFFIX}"))
    return next((path for path in written if path.name.removesuffix(EXPLANATION_SUFFIX) in stems), None)


def report(
    results: Sequence[Result] | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    measure: str | None = None,
    dataset: str | None = None,
    budget: str | float | None = None,
    where: Where = "ram",
    min_quality: str | float | None = None,
    title: str | None = None,
    texts: Mapping[str, str] | None = None,
    explain: str | os.PathLike[str] | None = None,
) -> Report:
    """Write one self-contained HTML page about the results, and its pictures as PNG.

    The page needs no other file and no network, sorts its tables, and prints.

    Parameters
    ----------
    results : sequence of Result, or path
        Results, or a directory of them.
    out : path, optional
        The page, ``report.html`` in the results' directory by default; pictures go beside it.
    measure : str, optional
        What the pictures show; by default the first measure in the results.
    dataset : str, optional
        Only results on this data set.
    budget, where, min_quality
        See `octavo.eval.analysis.pareto.pareto`: what the recommendation is for.
    title : str, optional
        Heading of the page.
    texts : mapping of str to str, optional
        Texts of the queries, by id, for the list of those that changed most.
    explain : path, optional
        JSON of a late-interaction match: ``query_tokens``, ``document_tokens``, ``scores`` (a row for each query token) and
        optionally ``title`` and ``page``, the heat map over a page image (`octavo.collection.Explanation.to_dict` gives all of
        it). Adds a heat map. By default one of those that late-interaction runs left in the directory.

    Returns
    -------
    Report
        What was written, and what the page recommends.

    Raises
    ------
    ParameterError
        When there are no results, or an option cannot be used.
    MissingExtraError
        When matplotlib or scipy is not installed.
    """
    if out is None and not isinstance(results, str | os.PathLike):
        raise ParameterError("expected out=, because results given as objects lie in no directory")
    loaded = load_results(results) if isinstance(results, str | os.PathLike) else list(results)
    target = Path(out) if out is not None else _directory(results) / "report.html"
    if explain is None and isinstance(results, str | os.PathLike) and Path(results).is_dir():
        explain = find_explanation(results, loaded)
    match = _read_explain(explain) if explain is not None else None
    pages: list[Html] = []
    pictures: list[_plots.Picture] = []
    parts = [
        _part(found, measure, texts or {}, budget, where, min_quality)
        for found in _comparable(on_dataset(loaded, dataset))
    ]
    for number, (data, choice) in enumerate(parts):
        drawn: list[_plots.Picture] = []
        heading = title if len(parts) == 1 else None
        shown = match if number == 0 else None
        pages.append(_content(data, choice, heading, shown, drawn, number if len(parts) > 1 else None))
        pictures += [replace(each, name=f"{each.name}-{number + 1}") for each in drawn] if number else drawn
    name = title or (_title(parts[0][0]) if len(parts) == 1 else "What each byte costs")
    write_atomically(target, _page.page(name, pages[0] if len(parts) == 1 else _bound(name, parts, pages)))
    for picture in pictures:
        write_atomically(target.with_name(f"{target.stem}-{picture.name}.png"), picture.png)
    first_choice = parts[0][1]
    labels = {found.label for data, _ in parts for found in data.groups}
    return Report(
        html=str(target),
        pictures=[str(target.with_name(f"{target.stem}-{picture.name}.png")) for picture in pictures],
        recommended=first_choice.recommended.label if isinstance(first_choice, Pareto) else None,
        configurations=len(labels),
        datasets=list(dict.fromkeys(result.dataset.name for data, _ in parts for result in data.groups[0].results)),
        left_out=list(dict.fromkeys(reason for data, _ in parts for reason in data.left_out)),
    )


def _part(
    results: list[Result],
    measure: str | None,
    texts: Mapping[str, str],
    budget: str | float | None,
    where: Where,
    min_quality: str | float | None,
) -> tuple[ReportData, Pareto | str]:
    """Return what is shown of results that are compared with each other, and what is recommended; or why nothing is."""
    data = _collect(results, measure, texts)
    try:
        return data, pareto(results, budget=budget, where=where, min_quality=min_quality, measure=data.measure)
    except (NothingFitsError, ParameterError) as error:
        if budget is not None or min_quality is not None:
            raise
        return data, str(error)  # no float32 run, for instance: everything but the recommendation can still be shown


def _comparable(results: list[Result]) -> list[list[Result]]:
    """Return what stands together on the page: everything, or, where data sets have seen different configurations, what

    they have in common first, and then each data set with all of its own.
    """
    by_data: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: (result.dataset.name, result.dataset.fingerprint)):
        by_data.setdefault(result.dataset.fingerprint, []).append(result)
    keys = [{result.configuration_key for result in found} for found in by_data.values()]
    if len(keys) < 2 or all(each == keys[0] for each in keys):
        return [results]
    together = [results] if len(set.intersection(*keys)) > 1 else []
    return together + list(by_data.values())


def _bound(name: str, parts: Sequence[tuple[ReportData, Pareto | str]], pages: Sequence[Html]) -> Html:
    """Return several parts as one page."""
    titles = [", ".join(result.dataset.name for result in data.groups[0].results) for data, _ in parts]
    links = [element("a", each, href=f"#part-{number}") for number, each in enumerate(titles)]
    sections = [
        element("section", element("h2", title), page, id=f"part-{number}", class_="part")
        for number, (title, page) in enumerate(zip(titles, pages, strict=True))
    ]
    lead = "The data sets have seen different configurations, so that each has a part of its own."
    head = element("header", element("h1", name), element("p", lead, class_="lead"))
    return join([head, element("nav", *links, aria_label="Parts"), *sections])


def _directory(results: Any) -> Path:
    place = Path(results)
    return place if place.is_dir() else place.parent


def _collect(loaded: list[Result], measure: str | None, texts: Mapping[str, str]) -> ReportData:
    groups, left_out = group(loaded)
    if not groups:
        raise ParameterError(f"expected a configuration measured on all data sets, got none: {'; '.join(left_out)}")
    measures = common_measures([result for found in groups for result in found.results])
    if not measures or (measure is not None and measure not in measures):
        raise ParameterError(
            f"expected a measure that all results have ({', '.join(measures) or 'none'}), got {measure!r}"
        )
    axis = measure or measures[0]
    points, reference = plane(groups, axis)
    order = {(point.label, *point.ids): at for at, point in enumerate(points)}
    groups.sort(key=lambda found: order[(found.label, *(result.id for result in found.results))])
    baseline = reference or max(
        (g for g in groups if not g.is_baseline), key=lambda g: g.value(axis), default=groups[0]
    )
    differences: dict[tuple[str, int, str], PairedDifference] = {}
    for found in groups:
        if found is baseline:
            continue
        for at, (a, b) in enumerate(zip(baseline.results, found.results, strict=True)):
            for name in measures:
                _, x, y = paired_values(a, b, name)
                if len(x) > 1:
                    differences[found.label, at, name] = paired_difference(x, y, resamples=RESAMPLES)
    return ReportData(groups, points, baseline, reference is not None, axis, measures, differences, left_out, texts)


def _title(data: ReportData) -> str:
    names = [result.dataset.name for result in data.groups[0].results]
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    return f"What each byte costs on {listed}"


def _content(
    data: ReportData,
    choice: Pareto | str,
    title: str | None,
    match: dict[str, Any] | None,
    pictures: list[_plots.Picture],
    part: int | None,
) -> Html:
    """Return what is shown of one set of results: the page, or the part of it that has this number."""
    best = choice.recommended.label if isinstance(choice, Pareto) else None

    def drawn(picture: _plots.Picture, caption: object) -> Html:
        pictures.append(picture)
        return _page.figure(picture, caption)

    sections: list[tuple[str, str, list[Html]]] = []
    sections.append(("plane", "Quality and bytes", _planes(data, best, drawn)))
    sizes = grids(data.groups, data.measure)
    for number, found in enumerate(sizes):
        anchor = f"grid-{number + 1}" if number else "grid"
        name = f"Layers and dimensions of {found.model}" if len(sizes) > 1 else "Layers and dimensions"
        sections.append((anchor, name, _grid(found, anchor, drawn)))
    sections.append(("table", "All configurations", [configuration_table(data, best)]))
    if data.differences:
        sections.append(("differences", f"Against {data.baseline.label}", _differences(data, drawn)))
        sections.append(("queries", "Query by query", _queries(data, choice, drawn)))
    timed = _timed(data.groups)
    if timed:
        caption = (
            "One query at a time on one thread, after warm-up; encoding the query comes on top. Mean over the data sets where "
            "there are several."
        )
        sections.append(("latency", "Latency", [drawn(_plots.latency(timed), caption)]))
    sections.append(("bytes", "Where the bytes are", _bytes(data.groups, drawn)))
    if match is not None:
        heat = _plots.heat_map(match["query_tokens"], match["document_tokens"], match["scores"], match.get("title", ""))
        caption = "A document's score is the sum over the query's tokens of their best match (marked)."
        shown = [drawn(heat, caption)]
        if match.get("page"):
            shown.append(_page.photograph(match["page"], match.get("title", "")))
        sections.append(("late", "Late interaction", shown))
    sections.append(("provenance", "How it was measured", provenance(data)))
    before = "" if part is None else f"part-{part}-"
    links = [element("a", name, href=f"#{before}{anchor}") for anchor, name, _ in sections]
    heading = [element("h1", title or _title(data))] if part is None else []
    return join(
        [
            element("header", *heading, element("p", _lead(data), class_="lead")),
            element("nav", *links, aria_label="Sections"),
            _warnings(data),
            _card(choice, data),
            *[
                element("section", element("h2", name), *content, id=f"{before}{anchor}")
                for anchor, name, content in sections
            ],
            element(
                "footer",
                "Made by ",
                element("code", "octavo eval report"),
                ". This page is one file and needs no network.",
            ),
        ]
    )


def _lead(data: ReportData) -> str:
    sets = [
        f"{r.dataset.name} ({r.dataset.documents:,} documents, {r.dataset.queries:,} queries)"
        for r in data.groups[0].results
    ]
    models = sorted({r.model.name for found in data.groups for r in found.results if r.model is not None})
    made_by = f", vectors by {', '.join(models)}" if models else ""
    several = "; quality is the mean over the data sets" if len(sets) > 1 else ""
    return f"{len(data.groups)} configurations on {'; '.join(sets)}{made_by}{several}."


def _warnings(data: ReportData) -> Html:
    if not data.left_out:
        return Html("")
    listed = element("ul", *[element("li", reason) for reason in data.left_out])
    return element("div", element("strong", "Not in the comparisons below:"), listed, class_="warning", role="note")


def _card(choice: Pareto | str, data: ReportData) -> Html:
    if isinstance(choice, str):
        return element("div", element("h2", "No recommendation"), element("p", choice), class_="card")
    best = choice.recommended
    facts: list[tuple[str, str, str]] = [(choice.measure, f"{best.quality:.4f}", "")]
    if best.relative is not None and choice.reference is not None:
        facts[0] = (choice.measure, f"{best.quality:.4f}", f"{best.relative:.1%} of {choice.reference}")
    unit = {"ram": "in RAM", "disk": "on disk, all files", "index": "on disk, without texts"}[choice.where]
    plain = next((point for point in choice.points if point.label == choice.reference), None)
    smaller = ""
    if plain is not None and plain.label != best.label:
        smaller = f"{plain.bytes_per_document / best.bytes_per_document:.1f}x smaller than {plain.label}"
    facts.append((f"bytes per document {unit}", f"{best.bytes_per_document:,.0f}", smaller))
    if best.at_least is not None and best.label != choice.reference:
        facts.append((f"kept at least ({choice.confidence:.0%})", f"{best.at_least:.1%}", "all candidates at once"))
    if best.p50_ms is not None:
        facts.append(("median latency", f"{best.p50_ms:.2f} ms", ""))
    found = data.differences.get((best.label, 0, choice.measure))
    if found is not None and len(choice.datasets) == 1:
        interval = f"95 % interval {found.low:+.4f} to {found.high:+.4f}"
        facts.append((f"difference from {data.baseline.label}", f"{found.difference:+.4f}", interval))
    listed = [
        element("div", element("dt", name), element("dd", value, " ", element("small", remark) if remark else ""))
        for name, value, remark in facts
    ]
    return element(
        "div",
        element("h2", "Recommended" if choice.settled else "Recommended, but not settled"),
        element("p", best.label, class_="name"),
        element("dl", *listed, class_="facts"),
        *_pasted(choice.recipe),
        element("p", choice.sentences[0], class_="note"),
        *_cheaper(choice),
        class_="card",
    )


def _pasted(lines: Recipe) -> list[Html]:
    return [_page.code(lines.python)] + ([_page.code(lines.shell)] if lines.shell else [])


def _cheaper(choice: Pareto) -> list[Html]:
    """Return what takes less and was measured to be good enough, which these queries do not settle."""
    if choice.cheap is None or choice.cheap_recipe is None:
        return []
    return [
        element("h3", "Cheaper, not settled"),
        element("p", choice.cheap.label, class_="name"),
        element("p", choice.sentences[1], class_="note"),
        *_pasted(choice.cheap_recipe),
    ]


def _planes(data: ReportData, best: str | None, drawn: Any) -> list[Html]:
    caption = (
        "Nothing on the frontier is beaten: whatever takes fewer bytes is worse. Reference schemes are what others do, for "
        "comparison; they are no option of Octavo. Only the names that fit are written."
    )
    out = [drawn(_plots.plane(data.points, data.measure, "ram", best), caption)]
    index, _ = plane(data.groups, data.measure, where="index")
    out.append(
        drawn(
            _plots.plane(index, data.measure, "index", best),
            "The same by what lies on disk: codes of all tiers and the graph; texts, metadata and full text are left out, "
            "because they take the same for every configuration.",
        )
    )
    return out


def _grid(found: Grid, name: str, drawn: Any) -> list[Html]:
    times: dict[int | None, float] = {cell.layers: cell.query_ms for cell in found.cells if cell.query_ms is not None}
    spent = [
        f"{times[layers]:.1f} ms with {'all' if layers is None else layers}"
        for layers in sorted(times, key=lambda layers: (layers is None, layers or 0))
    ]
    caption = (
        f"{found.measure} of {found.model} cut to its first layers and dimensions; the cheapest within 1 % is framed. "
        + (f"Processor time of encoding a query: {', '.join(spent)} layers." if spent else "")
    )
    return [element("p", found.sentence), drawn(_plots.grid_map(found, name), caption)]


def _differences(data: ReportData, drawn: Any) -> list[Html]:
    panels = []
    for at, result in enumerate(data.groups[0].results):
        entries = [
            (found.label, data.differences[found.label, at, data.measure])
            for found in data.groups
            if (found.label, at, data.measure) in data.differences
        ]
        if entries:
            panels.append((result.dataset.name, entries))
    caption = (
        "Mean difference with its 95 % interval, which allows for what none of these queries shows (3/n). Coloured where a "
        "paired randomisation test gives p < 0.05, grey squares where it does not. p-values are not corrected for the number "
        "of comparisons: with twenty configurations, expect one at 0.05 by chance."
    )
    return [drawn(_plots.differences(panels, data.measure, data.baseline.label), caption), *difference_tables(data)]


def _queries(data: ReportData, choice: Pareto | str, drawn: Any) -> list[Html]:
    others = [found for found in data.groups if found is not data.baseline]
    chosen = [choice.recommended, choice.cheap] if isinstance(choice, Pareto) else []
    wanted = [found for point in chosen if point is not None for found in others if found.label == point.label]
    frontier = {point.label for point in data.points if point.on_frontier}
    wanted += [found for found in others if found.label in frontier and found not in wanted]
    wanted += [found for found in others if found not in wanted]
    panels = []
    for found in wanted[:SCATTERED]:
        x: list[float] = []
        y: list[float] = []
        for a, b in zip(data.baseline.results, found.results, strict=True):
            _, p, q = paired_values(a, b, data.measure)
            x += p
            y += q
        panels.append((found.label, x, y))
    caption = f"Each point is a query; above the line, the configuration does better than {data.baseline.label}."
    if len(others) > SCATTERED:
        caption += (
            f" The recommended one and the frontier come first; {len(others) - SCATTERED} more are in the tables."
        )
    return [drawn(_plots.scatter(panels, data.measure, data.baseline.label), caption), *changed_table(data, wanted[0])]


def _timed(groups: Sequence[Group]) -> list[tuple[str, float, float, float]]:
    rows = []
    for found in groups:
        times = [result.speed.latency_ms for result in found.results if result.speed.latency_ms is not None]
        if times:
            n = len(times)
            rows.append(
                (
                    found.label,
                    sum(t.p50 for t in times) / n,
                    sum(t.p95 for t in times) / n,
                    sum(t.p99 for t in times) / n,
                )
            )
    return rows


def _bytes(groups: Sequence[Group], drawn: Any) -> list[Html]:
    ram = [(found.label, _mean_parts(found, "ram")) for found in groups]
    disk = [(found.label, _mean_parts(found, "disk")) for found in groups if found.first.storage.measured]
    out = [
        drawn(
            _plots.parts(ram, "ram"), "What is held or mapped in RAM. The graph keeps its own copy of the coarse codes."
        )
    ]
    if disk:
        out.append(drawn(_plots.parts(disk, "disk"), "All files, with the documents themselves."))
    return out


def _mean_parts(found: Group, where: str) -> dict[str, float]:
    names = dict.fromkeys(name for result in found.results for name in getattr(result.storage, where))
    return {
        name: sum(getattr(r.storage, where).get(name, 0) / r.storage.documents for r in found.results)
        / len(found.results)
        for name in names
    }


def _read_explain(path: str | os.PathLike[str]) -> dict[str, Any]:
    expected = "expected JSON with query_tokens, document_tokens and scores (one row of numbers for each query token)"
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{expected}, but there is nothing at {str(path)!r}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ParameterError(f"{expected}, but {Path(path).name} cannot be read: {error}") from error
    try:
        rows, columns = [str(t) for t in found["query_tokens"]], [str(t) for t in found["document_tokens"]]
        scores = np.array(found["scores"], np.float64)
        title = str(found.get("title", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ParameterError(f"{expected}, but {Path(path).name} is not that: {error}") from error
    page = found.get("page", "")
    if page and not (isinstance(page, str) and _PAGE.fullmatch(page)):
        raise ParameterError(
            f"expected page in {Path(path).name} as a data: URL of a JPEG or PNG, got {str(page)[:40]!r}"
        )
    if scores.shape != (len(rows), len(columns)) or not scores.size or not np.isfinite(scores).all():
        raise ParameterError(
            f"{expected}; got scores of shape {scores.shape} for {len(rows)} and {len(columns)} tokens in {Path(path).name}"
        )
    return {"query_tokens": rows, "document_tokens": columns, "scores": scores.tolist(), "title": title, "page": page}
