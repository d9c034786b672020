"""``octavo search``: a question to a collection."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from octavo._printing import console, print_json, printable, to_json
from octavo.cli._app import app
from octavo.cli._encoders import open_with_encoder
from octavo.cli._locations import open_place
from octavo.cli._options import FilterJson, Json, Model, OneSource, PlaceOption, condition
from octavo.retrievers.results import SearchResult

_SNIPPET = 300


class SearchMode(StrEnum):
    """What a search goes by."""

    dense = "dense"
    text = "text"
    hybrid = "hybrid"


@app.command("search")
def search_command(
    query: Annotated[str, typer.Argument(help="The question, in words.", show_default=False)],
    path: PlaceOption,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of results.")] = 10,
    filter_json: FilterJson = None,
    source: OneSource = None,
    mode: Annotated[
        SearchMode, typer.Option(help="By vectors (dense), by words (text, BM25), or by both fused (hybrid).")
    ] = SearchMode.dense,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Print the best documents for a question. Scores: higher is better."""
    wanted = condition(filter_json, source)
    if mode is SearchMode.text:  # needs no model
        collection = open_place(path, read_only=True)
    else:
        collection = open_with_encoder(path, model, read_only=True)
    with closing(collection):
        result = collection.search(query, k, filter=wanted, mode=mode.value)
    if as_json:
        hits = [{"id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata} for hit in result]
        print_json({"query": query, "mode": mode.value, "hits": hits})
        return
    _print(result)


def _print(result: SearchResult) -> None:
    out = console()
    if not len(result):
        out.print("No documents found.")
    for rank, hit in enumerate(result, start=1):
        head = Text.assemble(f"{rank:>2}  ", (f"{hit.score:.4f}", "cyan"), "  ", (printable(hit.id), "bold"))
        out.print(head, soft_wrap=True)
        print_excerpt(out, hit.text, hit.metadata)


def print_excerpt(out: Console, text: str, metadata: dict[str, Any]) -> None:
    """Print the beginning of a text, and the metadata, below what names the document."""
    snippet = printable(" ".join(text.split()))
    out.print(Text("    " + (snippet if len(snippet) <= _SNIPPET else snippet[:_SNIPPET] + " …")), soft_wrap=True)
    if metadata:
        out.print(Text("    " + printable(to_json(metadata)), style="dim"), soft_wrap=True)
