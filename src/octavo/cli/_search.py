"""``octavo search``: a question to a collection."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from octavo._printing import console, note, print_json, printable, to_json
from octavo.cli._app import app
from octavo.cli._encoders import load_sparse_encoder, open_with_encoder, stored_sparse_encoder
from octavo.cli._locations import open_place
from octavo.cli._options import FilterJson, Json, Model, OneSource, PlaceOption, Previous, Sparse, condition
from octavo.retrievers.results import ANSWERED_BY, SearchResult
from octavo.retrievers.search import SearchOptions
from octavo.words import parse_words

_SNIPPET = 300


class SearchMode(StrEnum):
    """What a search goes by."""

    dense = "dense"
    text = "text"
    sparse = "sparse"
    hybrid = "hybrid"


@app.command("search")
def search_command(
    query: Annotated[str, typer.Argument(help="The question, in words.", show_default=False)],
    path: PlaceOption,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of results.")] = 10,
    filter_json: FilterJson = None,
    source: OneSource = None,
    mode: Annotated[
        SearchMode,
        typer.Option(help="By vectors (dense), words (text, BM25), learned sparse vectors, or several fused (hybrid)."),
    ] = SearchMode.dense,
    rank: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Hybrid: what is fused.", show_default="dense,text"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,...", help="Hybrid: what each of --rank weighs.", show_default="fused by reciprocal rank"
        ),
    ] = None,
    operators: Annotated[
        bool,
        typer.Option(
            "--operators",
            help='Of words (--mode text, hybrid): "a phrase", pre*, misspelt~, +must, -mustnot, AND, OR, NOT and parentheses.',
        ),
    ] = False,
    model: Model = None,
    previous: Previous = None,
    sparse: Sparse = None,
    as_json: Json = False,
) -> None:
    """Print the best documents for a question. Scores: higher is better."""
    if not query.strip():
        raise typer.BadParameter("expected a question, got an empty text", param_hint="query")
    wanted = condition(filter_json, source)
    names = _names(rank)
    asked = SearchOptions(mode=mode.value, rank=names, weights=_numbers(weights))
    words = parse_words(query) if operators else None
    if words is not None and not asked.needs_words:
        raise typer.BadParameter("operators are for words: --mode text, or --mode hybrid", param_hint="--operators")
    sparse_encoder = None
    if asked.needs_sparse:
        sparse_encoder = load_sparse_encoder(sparse) if sparse is not None else stored_sparse_encoder(path)
    if asked.needs_vectors:
        opened = open_with_encoder(path, model, previous=previous, sparse=sparse_encoder, read_only=True)
    else:
        opened = open_place(path, sparse=sparse_encoder, read_only=True)
    with closing(opened) as collection:
        result = collection.search(
            query, k, filter=wanted, mode=mode.value, text=words, rank=names, weights=_numbers(weights)
        )
    if as_json:
        hits = [
            {
                "id": hit.id,
                "score": hit.score,
                "text": hit.text,
                "metadata": hit.metadata,
                "image": hit.image is not None,
            }
            for hit in result
        ]
        print_json({"query": query, "mode": mode.value, "reencoding": result.reencoding, "hits": hits})
        return
    _print(result)
    if result.reencoding is not None:
        note(f"the collection's model is being changed: {ANSWERED_BY[result.reencoding]}")


def _names(text: str | None) -> list[str] | None:
    """Return the names of rankings; the vectors of a collection for late interaction may be called either way."""
    return (
        ["dense" if name.strip() == "late" else name.strip() for name in text.split(",")] if text is not None else None
    )


def _numbers(text: str | None) -> list[float] | None:
    try:
        return [float(each) for each in text.split(",")] if text is not None else None
    except ValueError:
        raise typer.BadParameter(
            f"expected numbers with commas between them, got {text!r}", param_hint="--weights"
        ) from None


def _print(result: SearchResult) -> None:
    out = console()
    if not len(result):
        out.print("No documents found.")
    for rank, hit in enumerate(result, start=1):
        head = Text.assemble(f"{rank:>2}  ", (f"{hit.score:.4f}", "cyan"), "  ", (printable(hit.id), "bold"))
        out.print(head, soft_wrap=True)
        print_excerpt(out, hit.text or ("[an image]" if hit.image is not None else ""), hit.metadata)


def print_excerpt(out: Console, text: str, metadata: dict[str, Any]) -> None:
    """Print the beginning of a text, and the metadata, below what names the document."""
    snippet = printable(" ".join(text.split()))
    out.print(Text("    " + (snippet if len(snippet) <= _SNIPPET else snippet[:_SNIPPET] + " …")), soft_wrap=True)
    if metadata:
        out.print(Text("    " + printable(to_json(metadata)), style="dim"), soft_wrap=True)
