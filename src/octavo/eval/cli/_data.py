"""``octavo eval inspect`` and ``make``: what needs no results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from octavo._printing import echo, print_json
from octavo.eval.cli._options import Json, Seed, Vectors, print_table
from octavo.eval.datasets import load_dataset
from octavo.eval.vectors import Role


def inspect_command(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="Vectors: .npy, .npz#ARRAY or .parquet#COLUMN; or a collection: its directory, https://HOST:6333#NAME or "
            "qdrant:DIR.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="SOURCE",
            help="A data set, with --model; as in octavo eval run.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Judgements to use.", show_default="test, or the only ones")] = None,
    corpus: Annotated[
        str | None, typer.Option(metavar="PATH", help="Documents, if not beside the questions.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Encodes the data set's texts: a sentence-transformers model, its folder, or module:attribute.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Transformer layers to keep (2D-Matryoshka).", show_default="all")
    ] = None,
    vectors: Vectors = None,
    queries: Annotated[bool, typer.Option("--queries", help="The queries instead of the documents.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(envvar="OCTAVO_CACHE", metavar="DIR", help="Embeddings kept between runs.", show_default="none"),
    ] = None,
    sample: Annotated[int, typer.Option(min=3, help="Vectors to look at.")] = 5_000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Describe a set of embeddings, and what that suggests for codec and centring."""
    from octavo.eval.inspect import inspect_collection, inspect_dataset, inspect_file, is_collection

    role: Role = "queries" if queries else "documents"
    given = [
        name for name, value in (("SOURCE", source), ("--vectors", vectors), ("--data", data)) if value is not None
    ]
    # A data set beside vectors says nothing more about them, but it is what octavo eval run is called with.
    if given not in (["SOURCE"], ["--vectors"], ["--data"], ["--vectors", "--data"]):
        raise typer.BadParameter("expected a SOURCE, --vectors, or --data and --model")
    options: dict[str, Any] = {"sample": sample, "seed": seed}
    if source is not None:
        if queries:
            raise typer.BadParameter("--queries belongs to --data and --vectors")
        found = (inspect_collection if is_collection(source) else inspect_file)(source, **options)
    elif vectors is not None:
        asked = None if queries else vectors[1]
        found = inspect_file(vectors[queries], queries=asked, role=role, **options)
    else:
        if model is None:
            raise typer.BadParameter("--data needs --model, which encodes its texts")
        dataset = load_dataset(data or "", split=split, corpus=corpus)
        found = inspect_dataset(dataset, model, layers=layers, role=role, cache=cache, **options)
    values = found.to_dict()
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        if name not in ("suggestions", "outliers", "codecs", "recognised", "asked"):
            echo(f"{name.replace('_', ' '):<24} {_plain(value)}")
    for outlier in values["outliers"]:
        echo(f"{'outlier dimension':<24} {_plain(outlier)}")
    echo(f"{'recognised':<24} {', '.join(found.recognised) or 'nothing that stands out'}\n")
    if found.codecs:
        echo(f"Agreement with exact float32 search on this sample, searched with {found.asked}:\n")
        sizes = [[c.codec, f"{c.ram_bytes:,}", f"{c.vector_bytes:,}", f"{c.agreement:.3f}"] for c in found.codecs]
        print_table(["codec", "bytes in RAM", "bytes in all", "agreement@10"], sizes)
        echo()
    for suggestion in found.suggestions:
        echo(f"- {suggestion.text}\n    why:   {suggestion.reason}\n    check: {suggestion.check}")


def make_command(
    path: Annotated[
        str,
        typer.Option(
            "--path",
            "-p",
            help="A collection (its directory, https://HOST:6333#NAME or qdrant:DIR), a folder of text files, or JSON lines.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The test set, a new BEIR folder.", show_default=False)
    ],
    queries: Annotated[int, typer.Option(min=1, help="How many queries.")] = 300,
    method: Annotated[
        str, typer.Option(help="sentence: one from anywhere in a document; title: its first line.")
    ] = "sentence",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the query in its document, which makes it easy to find.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make a test set out of documents alone: find each again by a sentence that was taken out of it.

    It measures whether documents are found by their own words, and so compares configurations of one model. It does not
    measure how well questions in other words are answered, and it flatters full text.
    """
    from octavo.eval.datasets.make import make

    found = make(path, out, queries=queries, method=method, remove=not keep, seed=seed)  # type: ignore[arg-type]
    if as_json:
        print_json(found.to_dict())
        return
    echo(f"{found.queries:,} queries for {found.documents:,} documents in {found.folder}\n\n{found.note}")
    if found.queries < queries:
        echo(f"only {found.queries:,} of {queries:,}: no other document has a fitting {method}", err=True)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} {_plain(inner)}" for key, inner in value.items())
    if value is None:
        return "too few vectors to tell"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
