"""``octavo eval compare``, ``pareto`` and ``report``: what reads results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo._printing import echo, print_json
from octavo.eval.analysis.pareto import CONFIDENCE, Pareto, pareto
from octavo.eval.cli._options import (
    Budget,
    DatasetName,
    Disk,
    Index,
    Json,
    Measure,
    MinQuality,
    Ram,
    Seed,
    Texts,
    chosen_bytes,
    print_table,
    read_query_texts,
)

_WHERE = {"ram": "in RAM", "disk": "on disk, all files", "index": "on disk, without texts"}


def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help="The baseline: a result file, or a configuration in --dir.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    directory: Annotated[
        Path,
        typer.Option("--dir", "-d", metavar="DIR", help="Where configurations are looked up by label, codec or id."),
    ] = Path("runs"),
    dataset: DatasetName = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", "-m", help="Repeat for several; 'agreement' too.", show_default="all that both have"),
    ] = None,
    test: Annotated[str, typer.Option(help="randomisation or t.")] = "randomisation",
    confidence: Annotated[float, typer.Option(help="Coverage of the interval.")] = 0.95,
    changed: Annotated[int, typer.Option(min=0, help="Queries that changed most, to list.")] = 10,
    data: Texts = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Say whether B differs from A by more than the choice of queries would explain."""
    from octavo.eval.analysis.compare import compare
    from octavo.eval.analysis.select import find_result

    place = directory if directory.is_dir() else None
    first, second = find_result(a, place, dataset=dataset), find_result(b, place, dataset=dataset)
    names = [name for text in measure for name in text.split()] if measure else None
    found = compare(
        first,
        second,
        measures=names,
        test=test,  # type: ignore[arg-type]  # checked where it is used
        confidence=confidence,
        changed=changed,
        seed=seed,
        texts=read_query_texts(data),
    )
    if as_json:
        print_json(found.to_dict())
        return
    echo(f"{found.dataset}: A = {found.a}, B = {found.b}\n")
    headings = [
        "measure",
        "A",
        "B",
        "B - A",
        f"{confidence:.0%} interval",
        f"p ({test})",
        "B better",
        "B worse",
        "same",
    ]
    rows = [
        [
            name,
            f"{d.mean_a:.4f}",
            f"{d.mean_b:.4f}",
            f"{d.difference:+.4f}",
            f"{d.low:+.4f} to {d.high:+.4f}",
            f"{d.p_value:.4f}",
            str(d.wins),
            str(d.losses),
            str(d.ties),
        ]
        for name, d in found.measures.items()
    ]
    print_table(headings, rows)
    echo("\n" + found.caution)
    if found.changed:
        echo(f"\nQueries whose {found.changed_measure} changed most:\n")
        listed = [[q.id, f"{q.a:.4f}", f"{q.b:.4f}", f"{q.change:+.4f}", q.text or ""] for q in found.changed]
        print_table(["query", "A", "B", "B - A", "text"], listed)


def pareto_command(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of results.")],
    budget: Budget = None,
    ram: Ram = False,
    disk: Disk = False,
    index: Index = False,
    documents: Annotated[
        int | None,
        typer.Option(
            min=1, help="Size of the collection that the budget is for.", show_default="that of the data measured"
        ),
    ] = None,
    min_quality: MinQuality = None,
    measure: Measure = None,
    dataset: DatasetName = None,
    confidence: Annotated[float, typer.Option(help="That the bounds of all configurations hold.")] = CONFIDENCE,
    as_json: Json = False,
) -> None:
    """Find the frontier of quality and bytes, and name the configuration to use.

    With a budget: the most that fits in it. Without: the fewest bytes at 99 % of float32. What counts is what these queries
    show, a lower bound that holds for all configurations at once, rather than what was measured on them; a smaller one that
    was measured to be good enough is named beside it, with the number of queries that would settle it.
    """
    found = pareto(
        results,
        budget=budget,
        where=chosen_bytes(ram, disk, index),
        documents=documents,
        min_quality=min_quality,
        measure=measure,
        dataset=dataset,
        confidence=confidence,
    )
    if as_json:
        print_json(found.to_dict())
        return
    echo(_about(found) + "\n")
    sets = found.datasets if found.documents is None and len(found.datasets) > 1 else []
    rows = [
        [
            ("> " if point is found.recommended else "")
            + point.label
            + (" (reference scheme)" if point.baseline else ""),
            f"{point.quality:.4f}",
            f"{point.relative:.1%}" if point.relative is not None else "",
            f"{point.at_least:.1%}" if point.at_least is not None else "",
            f"{point.changed:,}" if point.changed is not None else "",
            f"{point.bytes_per_document:,.0f}",
            *([f"{part.total:,.0f}" for part in point.footprints] if sets else [f"{point.total_bytes:,.0f}"]),
            f"{point.p50_ms:.2f}" if point.p50_ms is not None else "",
            "yes" if point.on_frontier else "",
        ]
        for point in found.points
    ]
    totals = [f"bytes in all, {name}" for name in sets] or ["bytes in all"]
    bound = f"at least ({found.confidence:.0%})"
    headings = ["configuration", found.measure, "of float32", bound, "queries changed", "bytes/document"]
    print_table([*headings, *totals, "p50 ms", "on the frontier"], rows)
    for line in found.left_out:
        echo(f"left out: {line}", err=True)
    for sentence, lines in zip(found.sentences, (found.recipe, found.cheap_recipe), strict=False):
        if lines is not None:
            echo("\n" + "\n\n".join(part for part in (sentence, lines.python, lines.shell) if part))


def _about(found: Pareto) -> str:
    """Return the data and how many documents the bytes are for: never one set's for a mean over several."""
    parts = found.points[0].footprints
    if found.documents is not None:
        how = (
            ""
            if parts[0].measured
            else ", estimated: fixed bytes, bytes a document, and a graph where there will be one"
        )
        return f"{', '.join(found.datasets)}; bytes {_WHERE[found.where]}, for {found.documents:,} documents{how}"
    sets = [f"{name} ({part.documents:,} documents)" for name, part in zip(found.datasets, parts, strict=True)]
    mean = "; quality, bytes a document and milliseconds are means over them" if len(sets) > 1 else ""
    return f"{', '.join(sets)}; bytes {_WHERE[found.where]}{mean}"


def report_command(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of results.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page.", show_default="DIR/report.html")
    ] = None,
    measure: Measure = None,
    dataset: DatasetName = None,
    budget: Budget = None,
    ram: Ram = False,
    disk: Disk = False,
    index: Index = False,
    min_quality: MinQuality = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.", show_default=False)] = None,
    data: Texts = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of a late-interaction match, for a heat map.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one HTML page that needs nothing beside itself, and its pictures as PNG."""
    from octavo.eval.report import report

    found = report(
        results,
        out=out,
        measure=measure,
        dataset=dataset,
        budget=budget,
        where=chosen_bytes(ram, disk, index),
        min_quality=min_quality,
        title=title,
        texts=read_query_texts(data),
        explain=explain,
    )
    if as_json:
        print_json(found.to_dict())
        return
    for line in found.left_out:
        echo(f"left out: {line}", err=True)
    echo(found.html)
    for picture in found.pictures:
        echo(picture)
