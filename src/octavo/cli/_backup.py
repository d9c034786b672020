"""``octavo snapshot`` and ``octavo restore``: backups of a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import octavo
from octavo._printing import echo, print_json
from octavo.cli._app import app
from octavo.cli._locations import open_local
from octavo.cli._options import CollectionArgument, Json


@app.command("snapshot")
def snapshot_command(
    path: CollectionArgument,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new or empty directory.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a backup of the newest commit, while others may go on writing."""
    with open_local(path, read_only=True) as collection:
        written = collection.snapshot(destination)
    with octavo.open(written, read_only=True) as copy:
        info = copy.info()
    if as_json:
        print_json({"path": str(path), "snapshot": str(written), "documents": info.documents, "commits": info.commits})
    else:
        echo(f"{written}: {info.documents:,} documents, as of commit {info.commits:,}")


@app.command("restore")
def restore_command(
    snapshot: Annotated[
        Path, typer.Argument(metavar="SNAPSHOT", help="What `octavo snapshot` wrote.", show_default=False)
    ],
    path: CollectionArgument,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the collection that is there; close it everywhere first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a backup back, comparing every byte with its checksum before and after."""
    octavo.restore(snapshot, path, overwrite=overwrite)
    with open_local(path, read_only=True) as collection:
        documents = collection.count()
    if as_json:
        print_json({"snapshot": str(snapshot), "path": str(path), "documents": documents})
    else:
        echo(f"{path}: {documents:,} documents restored, everything matches its checksum")
