"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octavo._html import Html, element, join
from octavo.eval.analysis.compare import compare
from octavo.eval.analysis.pareto import Point
from octavo.eval.analysis.select import Group
from octavo.eval.analysis.statistics import PairedDifference
from octavo.eval.report._page import Cell, table


@dataclass(frozen=True)
class ReportData:
    """What a report shows.

    Parameters
    ----------
    groups : list of Group
        Configurations, fewest bytes first.
    points : list of Point
        The same in the plane.
    baseline : Group
        What the others are compared with.
    has_reference : bool
        Whether that is a float32 run; otherwise it is the best configuration there is.
    measure : str
        What the pictures show.
    measures : list of str
        All measures that every result has.
    differences : dict
        By label, number of the data set and measure.
    left_out : list of str
        What is not shown, and why.
    texts : mapping
        Of the queries.
    """

    groups: list[Group]
    points: list[Point]
    baseline: Group
    has_reference: bool
    measure: str
    measures: list[str]
    differences: dict[tuple[str, int, str], PairedDifference]
    left_out: list[str]
    texts: Mapping[str, str]


def _number(value: float | None, shown: str) -> Cell:
    return Cell("–" if value is None else format(value, shown), value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def configuration_table(data: ReportData, best: str | None) -> Html:
    """Return everything that was measured, a row for each configuration: what is found, and what it takes."""
    found_headings = [
        "configuration",
        *data.measures,
        "agreement with exact float32",
        "loss by codec",
        "loss by index and coarse tier",
    ]
    takes_headings = [
        "configuration",
        "codes, bytes",
        "RAM, bytes",
        "index on disk, bytes",
        "all files, bytes",
        "p50, ms",
        "p95, ms",
        "queries a second",
        "build, s",
    ]
    finds, takes, chosen = [], [], None
    for number, (found, point) in enumerate(zip(data.groups, data.points, strict=True)):
        tags = []
        if point.label == best and not point.baseline:
            tags.append(element("span", "recommended", class_="tag best"))
            chosen = number
        if point.on_frontier:
            tags.append(element("span", "frontier", class_="tag"))
        if point.baseline:
            tags.append(element("span", "reference scheme", class_="tag"))
        if found is data.baseline:
            tags.append(element("span", "compared with", class_="tag"))
        results = found.results
        agreement = _mean([r.agreement.float32 for r in results])
        codec = _mean([r.agreement.codes_float32 for r in results])
        index = _mean([r.agreement.same_codes for r in results])
        times = [r.speed.latency_ms for r in results]
        finds.append(
            [
                Html(element("code", found.label) + join(tags)),
                *[_number(found.value(name), ".4f") for name in data.measures],
                _number(agreement, ".3f"),
                _number(None if codec is None else 1 - codec, ".3f"),
                _number(None if index is None else 1 - index, ".3f"),
            ]
        )
        takes.append(
            [
                element("code", found.label),
                _number(_mean([r.storage.vector_bytes_per_document for r in results]), ",.0f"),
                _number(_mean([r.storage.ram_bytes_per_document for r in results]), ",.0f"),
                _number(_mean([r.storage.index_bytes_per_document for r in results]), ",.0f"),
                _number(
                    _mean([r.storage.disk_bytes_per_document for r in results])
                    if results[0].storage.measured
                    else None,
                    ",.0f",
                ),
                _number(_mean([t.p50 if t else None for t in times]), ".2f"),
                _number(_mean([t.p95 if t else None for t in times]), ".2f"),
                _number(_mean([r.speed.queries_per_second for r in results]), ",.0f"),
                _number(_mean([r.speed.build_seconds for r in results]), ".1f"),
            ]
        )
    note = element(
        "p",
        "Agreement is the share of the ten best documents that a search has in common with exact "
        "search over the float32 vectors; it needs no judgements. The loss by codec is what exact search over the stored codes "
        "lacks of that, the loss by index and coarse tier what the search as configured lacks of exact search over the same "
        "codes. Press a heading to sort.",
        class_="note",
    )
    return join(
        [
            table("What is found; fewest bytes in RAM first", found_headings, finds, best=chosen),
            note,
            *_by_dataset(data),
            table("What it takes; bytes are per document", takes_headings, takes, best=chosen),
        ]
    )


def _by_dataset(data: ReportData) -> list[Html]:
    """Return the measure on each data set, where there are several."""
    names = [result.dataset.name for result in data.groups[0].results]
    if len(names) < 2:
        return []
    rows = [
        [
            element("code", found.label),
            *[_number(result.value(data.measure), ".4f") for result in found.results],
            _number(found.value(data.measure), ".4f"),
        ]
        for found in data.groups
    ]
    return [table(f"{data.measure} on each data set", ["configuration", *names, "mean"], rows)]


def difference_tables(data: ReportData) -> list[Html]:
    """Return the paired differences, one table a data set."""
    out = []
    several = len(data.groups[0].results) > 1
    for at, result in enumerate(data.groups[0].results):
        rows = []
        for found in data.groups:
            for name in data.measures:
                d = data.differences.get((found.label, at, name))
                if d is None:
                    continue
                style = ("up" if d.difference > 0 else "down") if d.p_value < 0.05 else ""
                rows.append(
                    [
                        element("code", found.label),
                        name,
                        Cell(f"{d.mean_b:.4f}", d.mean_b),
                        Cell(f"{d.difference:+.4f}", d.difference, style),
                        Cell("–" if d.relative is None else f"{d.relative:+.1%}", d.relative, style),
                        Cell(f"{d.low:+.4f} to {d.high:+.4f}", d.low),
                        Cell(f"{d.p_value:.4f}", d.p_value),
                        Cell(f"{d.wins} / {d.losses} / {d.ties}", d.wins - d.losses),
                        Cell(f"{d.changed} of {d.n}", d.changed),
                    ]
                )
        headings = [
            "configuration",
            "measure",
            "value",
            "difference",
            "relative",
            "95 % interval",
            "p",
            "better / worse / same",
            "changed",
        ]
        where = f" on {result.dataset.name}" if several else ""
        out.append(table(f"Paired differences from {data.baseline.label}{where}", headings, rows))
    return out


def changed_table(data: ReportData, found: Group) -> list[Html]:
    """Return the queries that a configuration changed most."""
    out = []
    several = len(found.results) > 1
    for a, b in zip(data.baseline.results, found.results, strict=True):
        if a.dataset.queries < 2:
            continue
        changes = compare(a, b, measures=[data.measure], resamples=99).changed
        if not changes:
            continue
        rows = []
        for query in changes:
            text = data.texts.get(query.id)
            rows.append(
                [
                    element("code", query.id),
                    *([Cell(text or "–", text, "text wrap")] if data.texts else []),
                    Cell(f"{query.a:.4f}", query.a),
                    Cell(f"{query.b:.4f}", query.b),
                    Cell(f"{query.change:+.4f}", query.change, "up" if query.change > 0 else "down"),
                ]
            )
        headings = ["query", *(["text"] if data.texts else []), data.baseline.label, found.label, "change"]
        where = f" on {a.dataset.name}" if several else ""
        out.append(table(f"Queries whose {data.measure} changed most with {found.label}{where}", headings, rows))
    return out


def provenance(data: ReportData) -> list[Html]:
    """Return what is needed to do it again."""
    first = data.groups[0].first
    environments = {
        (r.environment.platform, r.environment.cpu, r.environment.cores): r.environment
        for found in data.groups
        for r in found.results
    }
    machines = [
        [
            e.cpu,
            e.platform,
            Cell(str(e.cores), e.cores),
            Cell(" ".join(e.cpu_features), None, "text wide"),
            Cell(", ".join(f"{name} {version}" for name, version in e.versions.items()), None, "text wide"),
        ]
        for e in environments.values()
    ]
    data_rows = [
        [
            r.dataset.name,
            r.dataset.split,
            Cell(f"{r.dataset.documents:,}", r.dataset.documents),
            Cell(f"{r.dataset.queries:,}", r.dataset.queries),
            Cell(f"{r.dataset.judgements:,}", r.dataset.judgements),
            element("code", r.dataset.fingerprint),
        ]
        for r in data.groups[0].results
    ]
    commands = {r.environment.command: None for found in data.groups for r in found.results}
    runs = [
        [
            element("code", r.label),
            r.dataset.name,
            element("code", r.id),
            r.environment.started,
            Cell(f"{r.environment.seconds:.1f}", r.environment.seconds),
            Cell(str(r.environment.seed), r.environment.seed),
        ]
        for found in data.groups
        for r in found.results
    ]
    speed = first.speed
    return [
        element(
            "p",
            "Measures are computed by ir-measures. Bytes are read off the open collection and its files, except for reference "
            f"schemes, where they follow from the shape of the codes. Latency: {speed.timed_queries:,} queries, each timed "
            f"{speed.repeats} times after {speed.warmup} searches of warm-up, {speed.k} results each.",
        ),
        table(
            "Data",
            ["data set", "split", "documents", "queries", "judgements", "fingerprint"],
            data_rows,
            sortable=False,
        ),
        table("Machine", ["processor", "system", "cores", "instruction sets", "versions"], machines, sortable=False),
        element("h3", "Commands"),
        *[element("pre", element("code", command)) for command in commands],
        table("Runs", ["configuration", "data set", "id", "started", "seconds", "seed"], runs),
    ]
