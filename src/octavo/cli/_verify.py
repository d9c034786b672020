"""``octavo verify``: is a collection sound, and can it be mended?"""

from __future__ import annotations

from typing import Annotated

import typer

from octavo._printing import echo, print_json
from octavo.cli._app import FAILURE, app
from octavo.cli._encoders import encoder_for
from octavo.cli._locations import open_local
from octavo.cli._options import CollectionArgument, Json


@app.command("verify")
def verify_command(
    path: CollectionArgument,
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild what can be rebuilt from what is left.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="With --repair: the collection's embedding model, to encode texts anew whose vectors are all lost.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare every byte of a collection with its checksum. Exit code 1 if problems are (still) there."""
    if model is not None and not repair:
        raise typer.BadParameter("only --repair encodes anything; pass both or neither", param_hint="--model")
    encoder = encoder_for(str(path), model) if model is not None else None
    with open_local(path, encoder, read_only=not repair) as collection:
        report = collection.verify(repair=repair)
        documents = collection.count()
    if as_json:
        print_json({"path": str(path), "ok": report.ok, "documents": documents, "problems": report.problems,
                    "repaired": report.repaired})  # fmt: skip
    else:
        for line in report.repaired:
            echo(f"repaired: {line}")
        for line in report.problems:
            echo(f"problem: {line}")
        if report.ok:
            echo(f"{path}: {documents:,} documents, everything matches its checksum")
    if not report.ok:
        raise typer.Exit(FAILURE)
