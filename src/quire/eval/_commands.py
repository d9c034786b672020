"""The commands of ``quire eval`` that read results: each calls the function of its name and prints what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Measure = Annotated[str | None, typer.Option("--measure", "-m", help="Which measure.", show_default="the first one")]
Data = Annotated[str | None, typer.Option("--dataset", help="Only results on this data set.", show_default="all")]
Budget = Annotated[str | None, typer.Option(metavar="SIZE", help="Bytes in all, such as 64MB.", show_default=False)]
MinQuality = Annotated[
    str | None, typer.Option(metavar="FLOOR", help="99% of float32, or a value such as 0.65.", show_default=False)
]
Ram = Annotated[bool, typer.Option("--ram", help="The budget is for RAM (the default).")]
Disk = Annotated[bool, typer.Option("--disk", help="The budget is for all files.")]
Index = Annotated[bool, typer.Option("--index", help="The budget is for the files without the texts.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("compare")(compare_command)
    app.command("pareto")(pareto_command)
    app.command("report")(report_command)
    app.command("inspect")(inspect_command)
    app.command("make")(make_command)


def compare_command(
    a: Annotated[Path, typer.Argument(metavar="A", help="Result file of the baseline.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Result file of the other.")],
    measures: Annotated[
        list[str] | None, typer.Option("--measures", "-m", help="Which measures.", show_default="all that both have")
    ] = None,
    test: Annotated[str, typer.Option(help="randomisation or t.")] = "randomisation",
    confidence: Annotated[float, typer.Option(help="Of the bootstrap interval.")] = 0.95,
    changed: Annotated[int, typer.Option(help="Queries that changed most, to list.")] = 10,
    seed: Annotated[int, typer.Option(help="Of test and interval.")] = 0,
    as_json: Json = False,
) -> None:
    """Say whether B differs from A by more than the choice of queries would explain."""
    from quire.eval.compare import compare

    names = [name for text in measures for name in text.split()] if measures else None
    found = compare(a, b, measures=names, test=test, confidence=confidence, changed=changed, seed=seed)  # type: ignore[arg-type]
    if as_json:
        _print_json(found.to_dict())
        return
    typer.echo(f"{found.dataset}: A = {found.a}, B = {found.b}\n")
    typer.echo(f"| measure | A | B | B - A | {confidence:.0%} interval | p ({test}) | wins | losses | ties |")
    typer.echo("| :-- | --: | --: | --: | :-: | --: | --: | --: | --: |")
    for name, difference in found.measures.items():
        typer.echo(
            f"| {name} | {difference.mean_a:.4f} | {difference.mean_b:.4f} | {difference.difference:+.4f} | "
            f"{difference.low:+.4f} to {difference.high:+.4f} | {difference.p_value:.4f} | {difference.wins} | "
            f"{difference.losses} | {difference.ties} |"
        )
    if found.changed:
        typer.echo(f"\nQueries that changed most ({found.changed_measure}):")
        for query in found.changed:
            typer.echo(f"  {query.change:+.4f}  {query.id}" + (f"  {query.text}" if query.text else ""))


def pareto_command(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of results.")],
    budget: Budget = None,
    ram: Ram = False,
    disk: Disk = False,
    index: Index = False,
    documents: Annotated[
        int | None, typer.Option(help="Documents that the budget is for.", show_default="those measured")
    ] = None,
    min_quality: MinQuality = None,
    measure: Measure = None,
    dataset: Data = None,
    as_json: Json = False,
) -> None:
    """Find the frontier of quality and bytes, and name the configuration to use."""
    from quire.eval.pareto import pareto

    found = pareto(
        results,
        budget=budget,
        where=_where(ram, disk, index),  # type: ignore[arg-type]
        documents=documents,
        min_quality=min_quality,
        measure=measure,
        dataset=dataset,
    )
    if as_json:
        _print_json(found.to_dict())
        return
    typer.echo(
        f"| configuration | {found.measure} | of float32 | {found.where} B/document | p50 ms | on the frontier |"
    )
    typer.echo("| :-- | --: | --: | --: | --: | :-: |")
    for point in found.points:
        label = point.label.replace("|", "\\|") + (" (baseline)" if point.baseline else "")
        share = f"{point.relative:.1%}" if point.relative is not None else "–"
        p50 = f"{point.p50_ms:.2f}" if point.p50_ms is not None else "–"
        typer.echo(
            f"| {label} | {point.quality:.4f} | {share} | {point.bytes_per_document:,.0f} | {p50} | "
            f"{'yes' if point.on_frontier else ''} |"
        )
    for line in found.left_out:
        typer.echo(f"left out: {line}", err=True)
    typer.echo(f"\nUse {found.recommended.label}: {found.why}\n\n{found.recipe.python}")
    if found.recipe.shell is not None:
        typer.echo(f"\n{found.recipe.shell}")


def report_command(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of results.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page.", show_default="DIR/report.html")
    ] = None,
    measure: Measure = None,
    dataset: Data = None,
    budget: Budget = None,
    ram: Ram = False,
    disk: Disk = False,
    index: Index = False,
    min_quality: MinQuality = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.", show_default=False)] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of a late-interaction match, for a heat map.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page, and its pictures as PNG."""
    from quire.eval.report import report

    found = report(
        results,
        out=out,
        measure=measure,
        dataset=dataset,
        budget=budget,
        where=_where(ram, disk, index),  # type: ignore[arg-type]
        min_quality=min_quality,
        title=title,
        explain=explain,
    )
    if as_json:
        _print_json(found.to_dict())
        return
    typer.echo(found.html)
    for picture in found.pictures:
        typer.echo(picture)


def inspect_command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A .npy file of vectors, or a collection.")],
    sample: Annotated[int, typer.Option(help="Vectors to look at.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    as_json: Json = False,
) -> None:
    """Describe a set of embeddings, and what that suggests for codec and centring."""
    from quire.eval.inspect import inspect_collection, inspect_file

    found = (inspect_collection if source.is_dir() else inspect_file)(source, sample=sample, seed=seed)
    values = found.to_dict()
    if as_json:
        _print_json(values)
        return
    for name, value in values.items():
        if name not in ("suggestions", "outliers"):
            typer.echo(f"{name.replace('_', ' '):<26} {_plain(value)}")
    for outlier in values["outliers"]:
        typer.echo(f"{'outlier dimension':<26} {_plain(outlier)}")
    for suggestion in found.suggestions:
        typer.echo(f"\n{suggestion.text}\n  why: {suggestion.reason}\n  check: {suggestion.check}")


def make_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A collection, a folder of text files, or JSON lines.")
    ],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The BEIR folder to write, new or empty.")],
    queries: Annotated[int, typer.Option(help="How many; fewer if fewer documents qualify.")] = 300,
    method: Annotated[
        str, typer.Option(help="sentence: one from anywhere in the document; title: its first line.")
    ] = "sentence",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the queries in the documents; makes it far too easy.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    as_json: Json = False,
) -> None:
    """Make a test set of your own documents, without labels: sentences or titles that have to find where they come from."""
    from quire.eval.make import make

    made = make(source, out, queries=queries, method=method, remove=not keep, seed=seed)  # type: ignore[arg-type]
    if as_json:
        _print_json(made.to_dict())
        return
    typer.echo(f"{made.folder}: {made.queries:,} queries for {made.documents:,} documents. {made.note}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if value is None:
        return "not enough vectors"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _where(ram: bool, disk: bool, index: bool) -> str:
    chosen = [name for name, wanted in (("ram", ram), ("disk", disk), ("index", index)) if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"expected one of --ram, --disk and --index, got {' and '.join(chosen)}")
    return chosen[0] if chosen else "ram"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
