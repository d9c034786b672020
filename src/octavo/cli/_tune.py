"""``octavo tune``: how hard must searches of this collection look?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from octavo._printing import echo, print_json
from octavo.cli._app import app
from octavo.cli._encoders import encoder_for
from octavo.cli._locations import open_local
from octavo.cli._options import CollectionArgument, Json
from octavo.retrievers.tuning import TuningReport


@app.command("tune")
def tune_command(
    path: CollectionArgument,
    recall: Annotated[
        float, typer.Option(help="Share of what an exact search finds that searches should find.", show_default=True)
    ] = 0.95,
    k: Annotated[int, typer.Option("-k", help="Results.", min=1)] = 10,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Text file with a real query in each line (needs --model). Without it, queries are made from documents.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="The embedding model, for --queries.", show_default=False),
    ] = None,
    n_queries: Annotated[int, typer.Option(help="How many queries to make.", min=1)] = 200,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the defaults.")] = False,
    as_json: Json = False,
) -> None:
    """Measure how hard searches must look for the wanted recall, and store it in the collection."""
    if (queries is None) != (model is None):
        raise typer.BadParameter("--queries are encoded with --model; pass both or neither", param_hint="--queries")
    if reset and queries is not None:
        raise typer.BadParameter("--reset measures nothing; pass it alone", param_hint="--reset")
    lines = None
    if queries is not None:
        lines = [line for line in queries.read_text(encoding="utf-8").splitlines() if line.strip()]
    encoder = encoder_for(str(path), model) if model is not None else None
    with open_local(path, encoder, read_only=False) as collection:
        if reset:
            collection.forget_tuning()
            report = None
        else:
            report = collection.tune(recall, k, queries=lines, n_queries=n_queries)
    if as_json:
        print_json(asdict(report) if report is not None else {"tuning": None})
    elif report is None:
        echo(f"{path}: searches use the defaults again")
    else:
        echo(_summary(report))


def _summary(report: TuningReport) -> str:
    tuning = report.tuning
    if tuning is None:
        return f"too small for an index: searches are exact and take {report.query_ms:.2f} ms; nothing to tune"
    effort = f"ef={tuning.ef}" if tuning.ef is not None else f"rows looked at={tuning.probed:,}"
    effort += f", oversample={tuning.oversample:g}" if tuning.oversample is not None else ""
    return (
        f"stored: {effort}; recall@{tuning.k} {report.recall:.3f} in {report.query_ms:.2f} ms "
        f"(before: {report.recall_before:.3f} in {report.query_ms_before:.2f} ms; exact: {report.exact_ms:.2f} ms), "
        f"on {report.n_queries:,} queries\n"
        f"filters that leave up to {report.crossover:,} documents are searched exactly"
    )
