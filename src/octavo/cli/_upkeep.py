"""``octavo fit``, ``refit`` and ``compact``: how a collection is kept on disk."""

from __future__ import annotations

from typing import Annotated

import typer

from octavo._printing import echo, human_bytes, print_json
from octavo.cli._app import app
from octavo.cli._locations import open_local
from octavo.cli._options import CollectionArgument, Json
from octavo.errors import ParameterError


@app.command("fit")
def fit_command(path: CollectionArgument, as_json: Json = False) -> None:
    """Fit the codec now, on what is stored, instead of waiting for more documents; nothing happens where it is fitted."""
    with open_local(path, read_only=False) as collection:
        if not len(collection):
            raise ParameterError(f"{path} is empty; a codec is fitted on documents: octavo index SOURCE --path {path}")
        before = collection.info().fitted
        collection.fit()
        codec, documents = collection.codec, len(collection)
    if as_json:
        print_json({"path": str(path), "codec": codec, "documents": documents, "was_fitted": before})
    elif before:
        echo(f"{path}: {codec} was fitted already; to learn it anew: octavo refit {path}")
    else:
        echo(f"{path}: {codec} fitted on {documents:,} documents")


@app.command("refit")
def refit_command(
    path: CollectionArgument,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec", "-c", help="Another codec to change to, e.g. 'rabitq:1 > int8'.", show_default="its own"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the codec anew on what is stored, or change to another one, and write everything anew.

    Vectors whose originals are not kept are decoded first, so what the codec before has dropped stays dropped: for a finer
    codec build a new collection.
    """
    with open_local(path, read_only=False) as collection:
        before = collection.info()
        collection.refit(codec)
        collection.flush()
        after = collection.info()
    if as_json:
        print_json({"path": str(path), "codec": after.codec, "codec_before": before.codec, "documents": after.documents,
                    "disk_bytes": after.disk_bytes, "disk_bytes_before": before.disk_bytes})  # fmt: skip
    else:
        echo(
            f"{path}: {before.codec} -> {after.codec}, {after.documents:,} documents, "
            f"{human_bytes(before.disk_bytes)} -> {human_bytes(after.disk_bytes)} on disk"
        )


@app.command("compact")
def compact_command(
    path: CollectionArgument,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="Leave no byte of a deleted document in any file of the collection; see SECURITY.md."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Drop what deleted and replaced documents have left in the files."""
    with open_local(path, read_only=False) as collection:
        before = collection.info().disk_bytes
        dropped = collection.compact(secure=secure)
        after = collection.info().disk_bytes
    if as_json:
        print_json({"path": str(path), "dropped": dropped, "disk_bytes": after, "disk_bytes_before": before})
    else:
        echo(f"{path}: {dropped:,} rows dropped, {human_bytes(before)} -> {human_bytes(after)} on disk")
