"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo.cli._locations import as_given, local_directory
from octavo.encoders.layers import layered_name
from octavo.encoders.models import is_attribute
from octavo.ingest.sources import SOURCE_FIELD

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
#: One source of a collection, as a filter.
OneSource = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="Only documents of this source.", show_default=False)
]
FilterJson = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="JSON",
        help="""Only documents whose metadata match, e.g. '{"year": {"$gte": 2020}}'.""",
        show_default=False,
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
        "or an embedding object of your own. NAME@layers=3 stops after the first layers.",
        show_default="the collection's own",
    ),
]
Previous = Annotated[
    str | None,
    typer.Option(
        "--previous",
        metavar="NAME",
        help="The model that the collection is, or will be, changed from (octavo reencode); then --model names the new one.",
        show_default="while it is being changed: the collection's own",
    ),
]

Layers = Annotated[
    int | None,
    typer.Option(
        "--layers", min=1, help="Use so many of the first layers of --model, and no more.", show_default="all"
    ),
]
QueryLayers = Annotated[
    int | None,
    typer.Option(
        "--query-layers",
        min=1,
        help="Queries go through fewer layers than documents: of a model trained with octavo train --align-queries.",
        show_default="as documents",
    ),
]


def with_layers(model: str | None, layers: int | None, query_layers: int | None) -> str | None:
    """Return what ``--model``, ``--layers`` and ``--query-layers`` name together.

    Raises
    ------
    typer.BadParameter
        When there is no model whose layers are meant, or it is an object.
    """
    if layers is None and query_layers is None:
        return model
    if model is None or is_attribute(model):
        raise typer.BadParameter("it takes --model with the name or folder of a model", param_hint="--layers")
    return layered_name(model, layers, query_layers)


def condition(filter_json: str | None, source: str | None) -> Any:
    """Return the filter that ``--filter`` and ``--source`` ask for together; None for neither.

    Raises
    ------
    typer.BadParameter
        When it is no JSON object.
    """
    wanted = _parsed(filter_json)
    if source is None:
        return wanted
    of_source = {SOURCE_FIELD: source}
    return of_source if wanted is None else {"$and": [of_source, wanted]}


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        parsed = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise typer.BadParameter(f"expected a JSON object, got {text!r}: {error}", param_hint="--filter") from None
    if not isinstance(parsed, dict):
        raise typer.BadParameter(f"expected a JSON object, got {text!r}", param_hint="--filter")
    return parsed
