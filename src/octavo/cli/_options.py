"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.cli._locations import as_given, local_directory

_PLACE = (
    "The collection's directory; or in Qdrant: https://HOST:6333#NAME of a server, whose key is taken from QDRANT_API_KEY, or "
    "qdrant:DIR for its core in this process."
)

#: A collection, wherever it is.
PlaceOption = Annotated[str, typer.Option("--path", "-p", metavar="PLACE", help=_PLACE, show_default=False)]
#: The same as an argument, for commands that are about a collection and nothing else.
PlaceArgument = Annotated[str, typer.Argument(metavar="PLACE", help=_PLACE, show_default=False)]
#: A collection in a directory, for commands that need its files.
CollectionArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="The collection's directory.", show_default=False, parser=as_given, callback=local_directory
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Sparse = Annotated[
    str | None,
    typer.Option(
        "--sparse",
        metavar="NAME",
        help="Model for learned sparse vectors: the name or folder of one that sentence_transformers.SparseEncoder loads, or "
        "module:attribute.",
        show_default="the collection's own, if it has sparse vectors",
    ),
]
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
