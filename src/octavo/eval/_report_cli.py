"""The commands of ``octavo eval`` that read results or describe data. Each calls the function of its name and prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Measure = Annotated[str | None, typer.Option("--measure", "-m", help="Which measure.", show_default="the first one")]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", help="Only results on this data set.", show_default="all")
]
Budget = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes for the whole collection: 64MB, 64MiB, 1.5GB.", show_default=False),
]
MinQuality = Annotated[
    str | None,
    typer.Option(
        metavar="FLOOR", help="99% of float32, or a value such as 0.65.", show_default="99% where there is no budget"
    ),
]
Ram = Annotated[bool, typer.Option("--ram", help="Count bytes in RAM (the default).")]
Disk = Annotated[bool, typer.Option("--disk", help="Count all files.")]
Index = Annotated[bool, typer.Option("--index", help="Count the files without texts, metadata and full text.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Texts = Annotated[
    str | None,
    typer.Option("--data", metavar="SOURCE", help="The data set, to show the queries' texts.", show_default=False),
]

_EPILOG = "Exit codes: 0 success, 1 failure, 2 wrong usage."


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("compare", epilog=_EPILOG)(compare_command)
    app.command("pareto", epilog="Exit codes: 0 success, 1 nothing fits or a file cannot be read, 2 wrong usage.")(
        pareto_command
    )
    app.command("report", epilog=_EPILOG)(report_command)
    app.command("inspect", epilog=_EPILOG)(inspect_command)
    app.command("make", epilog=_EPILOG)(make_command)


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
    confidence: Annotated[float, typer.Option(help="Coverage of the bootstrap interval.")] = 0.95,
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
        texts=_texts(data),
    )
    if as_json:
        _print_json(found.to_dict())
        return
    typer.echo(f"{found.dataset}: A = {found.a}, B = {found.b}\n")
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
    _print_table(headings, rows)
    if found.changed:
        typer.echo(f"\nQueries whose {found.changed_measure} changed most:\n")
        listed = [[q.id, f"{q.a:.4f}", f"{q.b:.4f}", f"{q.change:+.4f}", q.text or ""] for q in found.changed]
        _print_table(["query", "A", "B", "B - A", "text"], listed)


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
    as_json: Json = False,
) -> None:
    """Find the frontier of quality and bytes, and name the configuration to use.

    With a budget: the best quality that fits. Without: the fewest bytes at 99 % of float32.
    """
    from octavo.eval.analysis.pareto import pareto

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
    size = found.points[0].footprints[0]
    about = f"{', '.join(found.datasets)}; bytes {_WHERE[found.where]}, for {size.documents:,} documents"
    typer.echo(
        about
        + ("" if size.measured else ", estimated: fixed bytes, bytes a document, and a graph where there will be one")
        + "\n"
    )
    rows = [
        [
            ("> " if point is found.recommended else "")
            + point.label
            + (" (reference scheme)" if point.baseline else ""),
            f"{point.quality:.4f}",
            f"{point.relative:.1%}" if point.relative is not None else "",
            f"{point.bytes_per_document:,.0f}",
            f"{point.total_bytes:,.0f}",
            f"{point.p50_ms:.2f}" if point.p50_ms is not None else "",
            "yes" if point.on_frontier else "",
        ]
        for point in found.points
    ]
    _print_table(
        ["configuration", found.measure, "of float32", "bytes/document", "bytes in all", "p50 ms", "on the frontier"],
        rows,
    )
    for line in found.left_out:
        typer.echo(f"left out: {line}", err=True)
    typer.echo(f"\nUse {found.recommended.label} ({found.why}):\n\n{found.recipe.python}")
    if found.recipe.shell is not None:
        typer.echo(f"\n{found.recipe.shell}")


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
        where=_where(ram, disk, index),  # type: ignore[arg-type]
        min_quality=min_quality,
        title=title,
        texts=_texts(data),
        explain=explain,
    )
    if as_json:
        _print_json(found.to_dict())
        return
    for line in found.left_out:
        typer.echo(f"left out: {line}", err=True)
    typer.echo(found.html)
    for picture in found.pictures:
        typer.echo(picture)


def inspect_command(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="A .npy file of vectors, or a collection: its directory, https://HOST:6333#NAME or qdrant:DIR.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SOURCE", help="A data set, with --model.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encodes the data set's texts.", show_default=False)
    ] = None,
    queries: Annotated[
        bool, typer.Option("--queries", help="The data set's queries instead of its documents.")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(envvar="OCTAVO_CACHE", metavar="DIR", help="Embeddings kept between runs.", show_default="none"),
    ] = None,
    sample: Annotated[int, typer.Option(min=3, help="Vectors to look at.")] = 5_000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Describe a set of embeddings, and what that suggests for codec and centring."""
    from octavo.eval.inspect import inspect_collection, inspect_dataset, inspect_file, is_collection

    if (source is None) == (data is None) or (data is None) != (model is None):
        raise typer.BadParameter("expected a SOURCE, or --data and --model")
    if source is None and data is not None:
        role = "queries" if queries else "documents"
        found = inspect_dataset(data, model, role=role, cache=cache, sample=sample, seed=seed)  # type: ignore[arg-type]
    elif source is not None:
        if queries:
            raise typer.BadParameter("--queries belongs to --data")
        found = (inspect_collection if is_collection(source) else inspect_file)(source, sample=sample, seed=seed)
    values = found.to_dict()
    if as_json:
        _print_json(values)
        return
    for name, value in values.items():
        if name not in ("suggestions", "outliers"):
            typer.echo(f"{name.replace('_', ' '):<24} {_plain(value)}")
    for outlier in values["outliers"]:
        typer.echo(f"{'outlier dimension':<24} {_plain(outlier)}")
    typer.echo("")
    for suggestion in found.suggestions:
        typer.echo(f"- {suggestion.text}\n    why:   {suggestion.reason}\n    check: {suggestion.check}")


def make_command(
    path: Annotated[
        str,
        typer.Option(
            "--path",
            "-p",
            help="A collection (its directory, https://HOST:6333#NAME or qdrant:DIR), a folder of text files, or JSON lines.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The test set, a new BEIR folder.", show_default=False)
    ],
    queries: Annotated[int, typer.Option(min=1, help="How many queries.")] = 300,
    method: Annotated[
        str, typer.Option(help="sentence: one from anywhere in a document; title: its first line.")
    ] = "sentence",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the query in its document, which makes it easy to find.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make a test set out of documents alone: find each again by a sentence that was taken out of it.

    It measures whether documents are found by their own words, and so compares configurations of one model. It does not
    measure how well questions in other words are answered, and it flatters full text.
    """
    from octavo.eval.datasets.make import make

    found = make(path, out, queries=queries, method=method, remove=not keep, seed=seed)  # type: ignore[arg-type]
    if as_json:
        _print_json(found.to_dict())
        return
    typer.echo(f"{found.queries:,} queries for {found.documents:,} documents in {found.folder}\n\n{found.note}")
    if found.queries < queries:
        typer.echo(f"only {found.queries:,} of {queries:,}: no other document has a fitting {method}", err=True)


_WHERE = {"ram": "in RAM", "disk": "on disk, all files", "index": "on disk, without texts"}


def _texts(source: str | None) -> dict[str, str]:
    if source is None:
        return {}
    from octavo.eval.datasets import load_dataset

    data = load_dataset(source)
    return dict(zip(data.query_ids, data.queries, strict=True))


def _where(ram: bool, disk: bool, index: bool) -> str:
    chosen = [name for name, wanted in (("ram", ram), ("disk", disk), ("index", index)) if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"expected one of --ram, --disk and --index, got --{' and --'.join(chosen)}")
    return chosen[0] if chosen else "ram"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} {_plain(inner)}" for key, inner in value.items())
    if value is None:
        return "too few vectors to tell"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table with its columns aligned: for people, and for pasting."""
    lines = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in (headings, *rows)]
    used = [at for at in range(len(headings)) if at == 0 or any(line[at] for line in lines[1:])]
    widths = {at: max(3, *(len(line[at]) for line in lines)) for at in used}
    numeric = {at for at in used[1:] if headings[at] != "text"}

    def written(line: Sequence[str]) -> str:
        cells = (line[at].rjust(widths[at]) if at in numeric else line[at].ljust(widths[at]) for at in used)
        return f"| {' | '.join(cells)} |"

    typer.echo(written(lines[0]))
    marks = ("-" * (widths[at] - 1) + ":" if at in numeric else ":" + "-" * (widths[at] - 1) for at in used)
    typer.echo(f"| {' | '.join(marks)} |")
    for line in lines[1:]:
        typer.echo(written(line))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
