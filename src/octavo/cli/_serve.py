"""``octavo serve``: a page about a collection, for a browser on this machine."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from octavo._printing import echo, note, print_json
from octavo.cli._app import app
from octavo.cli._encoders import open_with_encoder
from octavo.cli._locations import open_place
from octavo.cli._options import Json, Model, PlaceArgument, Previous
from octavo.collection import CollectionLike
from octavo.errors import MissingExtraError, ParameterError
from octavo.serving import PageServer

_PORT = 8620


@app.command("serve")
def serve_command(
    path: PlaceArgument,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 for any free one.")] = _PORT,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    model: Model = None,
    previous: Previous = None,
    as_json: Json = False,
) -> None:
    """Look into a collection with a browser: search, filters, neighbours, a map, bytes. Reads only, on this machine only.

    The address that is printed ends in a key; whoever has it can read the collection until the command ends (Ctrl-C).
    """
    with closing(open_to_read(path, model, previous)) as collection, PageServer(collection, port=port) as server:
        if as_json:
            print_json({"url": server.url})
        else:
            echo(server.url)
            note("Reads only, for browsers on this machine. Ctrl-C ends it.")
        if browser:
            import webbrowser

            webbrowser.open(server.url)
        try:
            server.wait()
        except KeyboardInterrupt:
            note("closed")


def open_to_read(place: str, model: str | None, previous: str | None = None) -> CollectionLike:
    """Open a collection with its model, or without one to be searched by words where the model cannot be had."""
    try:
        return open_with_encoder(place, model, previous=previous, read_only=True)
    except (ParameterError, MissingExtraError) as error:
        if model is not None or previous is not None:
            raise
        collection = open_place(place, read_only=True)
        note(f"searched by words alone: {error}")
        return collection
