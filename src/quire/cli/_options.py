"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CollectionPath = Annotated[
    Path, typer.Option("--path", "-p", metavar="DIR", help="The collection's directory.", show_default=False)
]
#: The same as an argument, for commands that are about a collection and nothing else.
CollectionArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="The collection's directory.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Embedding model: the name or folder of a sentence-transformers model, or module:attribute for a callable "
        "or an embedding object of your own.",
        show_default="the collection's own",
    ),
]
