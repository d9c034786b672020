"""Options and tables that several commands share, so that they are called, explained and printed the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from octavo._printing import echo, printable
from octavo.eval.analysis.scaling import Where
from octavo.eval.datasets import load_dataset

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
Vectors = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--vectors",
        metavar="DOCUMENTS QUERIES",
        help="Ready vectors in place of a model: .npy, .npz#ARRAY or .parquet#COLUMN of the documents and of the queries. "
        "--model then only names what made them.",
        show_default=False,
    ),
]
IgnoreIdenticalIds = Annotated[
    bool | None,
    typer.Option(
        "--ignore-identical-ids/--keep-identical-ids",
        help="Leave a document out of the results of the query that has its id (ArguAna and the like).",
        show_default="what the format says, else keep",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Texts = Annotated[
    str | None,
    typer.Option("--data", metavar="SOURCE", help="The data set, to show the queries' texts.", show_default=False),
]


def read_query_texts(source: str | None) -> dict[str, str]:
    """Return the texts of a data set's queries by their ids; none without a data set."""
    if source is None:
        return {}
    data = load_dataset(source)
    return dict(zip(data.query_ids, data.queries, strict=True))


def chosen_bytes(ram: bool, disk: bool, index: bool) -> Where:
    """Return which bytes count, of which at most one may be chosen."""
    options: tuple[tuple[Where, bool], ...] = (("ram", ram), ("disk", disk), ("index", index))
    chosen = [name for name, wanted in options if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"expected one of --ram, --disk and --index, got --{' and --'.join(chosen)}")
    return chosen[0] if chosen else "ram"


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table with its columns aligned: for people, and for pasting."""
    lines = [[printable(" ".join(cell.split())).replace("|", r"\|") for cell in row] for row in (headings, *rows)]
    used = [at for at in range(len(headings)) if at == 0 or any(line[at] for line in lines[1:])]
    widths = {at: max(3, *(len(line[at]) for line in lines)) for at in used}
    numeric = {at for at in used[1:] if headings[at] != "text"}

    def written(line: Sequence[str]) -> str:
        cells = (line[at].rjust(widths[at]) if at in numeric else line[at].ljust(widths[at]) for at in used)
        return f"| {' | '.join(cells)} |"

    echo(written(lines[0]))
    marks = ("-" * (widths[at] - 1) + ":" if at in numeric else ":" + "-" * (widths[at] - 1) for at in used)
    echo(f"| {' | '.join(marks)} |")
    for line in lines[1:]:
        echo(written(line))
