"""``octavo stats`` and ``octavo duplicates``: what texts and fields a collection holds, and what it holds twice."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from octavo._printing import console, echo, note, print_json, printable, to_json
from octavo._progress import progress_bar
from octavo.cli._app import app
from octavo.cli._locations import open_place
from octavo.cli._options import FilterJson, Json, OneSource, PlaceArgument, condition
from octavo.ingest.duplicates import find_duplicates
from octavo.ingest.registry import read_sources
from octavo.ingest.summary import Summary, summarise
from octavo.store.metadata.summary import MOST_DISTINCT, FieldSummary

_SHOWN = 40  # characters of a value


@app.command("stats")
def stats_command(
    path: PlaceArgument,
    filter_json: FilterJson = None,
    source: OneSource = None,
    values: Annotated[int, typer.Option(min=1, help="How many of the most frequent values of a field to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Print what documents a collection holds: sources, lengths, languages, metadata fields and their values."""
    where = condition(filter_json, source)
    with closing(open_place(path, read_only=True)) as collection:
        sources = read_sources(collection)
        with progress_bar("read", collection.count(filter=where)) as advance:
            found = summarise(collection, filter=where, values=values, advance=advance)
    if as_json:
        described = asdict(found)
        described["sources"] = {
            name: {"documents": count, "path": sources[name].path if name in sources else None}
            for name, count in found.sources.items()
        }
        print_json({"path": path, **described})
        return
    _print(found, {name: record.path for name, record in sources.items()})


def _print(found: Summary, paths: dict[str, str]) -> None:
    out = console()
    echo(f"{found.documents:,} documents")
    if not found.documents:
        return
    for name, count in found.sources.items():
        where = f"  {paths[name]}" if name in paths else ""
        echo(f"  {count:,} of {f'the source {name}' if name else 'no source'}{where}")
    lengths = found.lengths
    echo(
        f"characters: {lengths.least:,} to {lengths.most:,}, median {lengths.median:,.0f}, mean {lengths.mean:,.0f}, "
        f"95 % have at most {lengths.p95:,.0f}" + (f"; {lengths.empty:,} texts are empty" if lengths.empty else "")
    )
    shares = ", ".join(
        f"{'not told' if name == '?' else name} {count / found.sampled:.0%}" for name, count in found.languages.items()
    )
    if shares:
        echo(f"languages: {shares}" + (f" (of {found.sampled:,})" if found.sampled < found.documents else ""))
    if not found.fields:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("field", "documents", "type", "values"):
        table.add_column(column, justify="right" if column == "documents" else "left", overflow="fold")
    for field in found.fields:
        table.add_row(
            Text(printable(field.name)), f"{field.documents:,}", Text(", ".join(field.kinds)), Text(_values(field))
        )
    out.print(table)


def _values(field: FieldSummary) -> str:
    different = f"{field.distinct:,}{' or more' if field.distinct >= MOST_DISTINCT else ''} different"
    ends = f", {_shown(field.least)} to {_shown(field.greatest)}" if field.least is not None else ""
    common = ", ".join(f"{_shown(value)} ({count:,})" for value, count in field.values if count > 1)
    return different + ends + (f": {common}" if common else "")


def _shown(value: Any) -> str:
    text = printable(value if isinstance(value, str) else to_json(value).strip('"'))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


@app.command("duplicates")
def duplicates_command(
    path: PlaceArgument,
    filter_json: FilterJson = None,
    source: OneSource = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Cosine of their vectors from which on two documents count as one.")
    ] = 0.98,
    exact: Annotated[bool, typer.Option("--exact", help="Compare texts alone, case and white space aside.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Groups to print.")] = 20,
    as_json: Json = False,
) -> None:
    """Print groups of documents that say the same, in words or nearly so. Nothing is changed."""
    where = condition(filter_json, source)
    with closing(open_place(path, read_only=True)) as collection:
        total = collection.count(filter=where)
        with progress_bar("compare", total) as advance:
            groups = find_duplicates(collection, threshold=None if exact else threshold, filter=where, advance=advance)
    extra = sum(len(group.ids) - 1 for group in groups)
    if as_json:
        print_json(
            {"path": path, "documents": total, "superfluous": extra, "groups": [asdict(group) for group in groups]}
        )
        return
    for group in groups[:limit]:
        how = "equal texts" if group.similarity == 1 else f"cosine {group.similarity:.3f}"
        snippet = printable(" ".join(group.text.split()))
        console().print(Text(f"{len(group.ids)} documents, {how}: {snippet[:100]}"), soft_wrap=True)
        for identifier in group.ids:
            console().print(Text(f"    {printable(identifier)}", style="bold"), soft_wrap=True)
    if len(groups) > limit:
        note(f"{limit} of {len(groups):,} groups; more with --limit")
    echo(f"{path}: {extra:,} of {total:,} documents say what another one says" + _advice(extra))


def _advice(extra: int) -> str:
    return "; octavo delete removes documents by id" if extra else ""
