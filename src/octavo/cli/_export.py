"""``octavo export`` and ``octavo import``: a collection as JSON lines and arrays, and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import octavo
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


@app.command("import")
def import_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="What `octavo export` wrote.", show_default=False)],
    path: CollectionArgument,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec", "-c", help="Compress with another codec, fitted anew.", show_default="the exported one"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a collection from an export. It appears in one step, complete, or not at all."""
    with octavo.import_from(folder, path, codec=codec, progress=sys.stderr.isatty()) as collection:
        documents, found = collection.count(), collection.codec
    if as_json:
        print_json({"export": str(folder), "path": str(path), "documents": documents, "codec": found})
    else:
        echo(f"{path}: {documents:,} documents, codec {found}")
