"""``octavo export``: a collection as JSON lines and arrays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from octavo._printing import echo, print_json
from octavo.cli._app import app
from octavo.cli._locations import open_local
from octavo.cli._options import CollectionArgument, Json


@app.command("export")
def export_command(
    path: CollectionArgument,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty directory.", show_default=False)],
    half: Annotated[bool, typer.Option("--float16", help="Write vectors as float16 instead of float32.")] = False,
    as_json: Json = False,
) -> None:
    """Write a collection as documents.jsonl and .npy arrays, which any tool reads."""
    with open_local(path, read_only=True) as collection:
        written = collection.export(folder, dtype="float16" if half else "float32", progress=sys.stderr.isatty())
        documents = collection.count()
    if as_json:
        print_json({"path": str(path), "export": str(written), "documents": documents})
    else:
        echo(f"{written}: {documents:,} documents")
