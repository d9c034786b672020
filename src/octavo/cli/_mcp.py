"""``octavo mcp``: lets an assistant read a collection, over standard input and output."""

from __future__ import annotations

import sys
from contextlib import closing, redirect_stdout
from typing import Annotated

import typer

from octavo.cli._app import app
from octavo.cli._options import Model, PlaceArgument, Previous
from octavo.cli._serve import open_to_read


@app.command("mcp")
def mcp_command(
    path: PlaceArgument,
    name: Annotated[str, typer.Option(help="What the assistant calls the collection.")] = "octavo",
    model: Model = None,
    previous: Previous = None,
) -> None:
    """Let an assistant search a collection: a server of the Model Context Protocol over standard input and output.

    Meant to be started by the assistant's program, not by hand. It only reads: search with filters, get, fields.
    """
    from octavo.integrations.mcp import collection_server

    with redirect_stdout(sys.stderr):  # standard output belongs to the protocol, and models print while they load
        collection = open_to_read(path, model, previous)
    with closing(collection):
        collection_server(collection, name=name).run()
