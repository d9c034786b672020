"""``octavo import``: a collection from an export, or from another vector store."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import octavo
from octavo._printing import echo, print_json
from octavo.cli._agreement import interruptible
from octavo.cli._app import app
from octavo.cli._encoders import load_encoder
from octavo.cli._locations import as_given, local_directory
from octavo.cli._options import CollectionArgument, Json
from octavo.ingest.importing import ImportReport, import_chroma, import_faiss, import_lancedb

#: The command that is meant where none is named.
_DEFAULT = "export"


class _Group(TyperGroup):
    """Takes `octavo import OUT DIR` for `octavo import export OUT DIR`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is named, or else the one for exports."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [_DEFAULT, *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; options before anything else are those of the command for exports."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


_import = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build a collection from an export, or from what another vector store has saved.\n\n"
    "octavo import OUT DIR reads what `octavo export` wrote. From a Qdrant server: octavo pull.",
)
app.add_typer(_import, name="import")


@_import.command("export")
def import_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="What `octavo export` wrote.", show_default=False)],
    path: CollectionArgument,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec", "-c", help="Compress with another codec, fitted anew.", show_default="the exported one"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a collection from an export; the word may be left out: octavo import OUT DIR.

    It appears in one step, complete, or not at all.
    """
    with octavo.import_from(folder, path, codec=codec, progress=sys.stderr.isatty()) as collection:
        documents, found = collection.count(), collection.codec
    if as_json:
        print_json({"export": str(folder), "path": str(path), "documents": documents, "codec": found})
    else:
        echo(f"{path}: {documents:,} documents, codec {found}")


_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="What the store has saved.", show_default=False)]
_Path = Annotated[
    Path,
    typer.Option(
        "--path",
        "-p",
        metavar="DIR",
        help="The new collection's directory.",
        show_default=False,
        parser=as_given,
        callback=local_directory,
    ),
]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The embedding model that made the vectors, as for `octavo index`. It is compared with them, refused if it is "
        "another one, and recorded.",
        show_default="none is recorded",
    ),
]
_Metric = Annotated[
    str | None,
    typer.Option(
        help="How the collection compares: cosine or dot.", show_default="what ranks as the store did, if anything does"
    ),
]
_Codec = Annotated[str | None, typer.Option("--codec", "-c", help="Compression.", show_default="int8")]
_BatchSize = Annotated[int, typer.Option(min=1, help="Documents written at a time.")]


@_import.command("faiss")
def faiss_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder that was saved, or an index file.", show_default=False),
    ],
    path: _Path,
    model: _Model = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of an index alone: JSON lines, CSV or Parquet, a row for each vector and in the same order.",
            show_default="what LangChain or LlamaIndex saved beside the index",
        ),
    ] = None,
    id_field: Annotated[
        str | None, typer.Option(help="Of --documents: the field with the id.", show_default="_id, then id")
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="Of --documents: the field with the text.", show_default="text")
    ] = None,
    row_field: Annotated[
        str | None,
        typer.Option(
            help="Of --documents: the field with the number that the index knows the vector by.",
            show_default="the order",
        ),
    ] = None,
    metric: _Metric = None,
    codec: _Codec = None,
    batch_size: _BatchSize = 2048,
    as_json: Json = False,
) -> None:
    """Take over a FAISS index with its documents, as LangChain or LlamaIndex saved it.

    Nothing is encoded, and the pickle that LangChain writes is read without running it. The collection appears in one step,
    complete, or not at all.
    """
    with interruptible(_nothing):
        report = import_faiss(
            folder,
            path,
            load_encoder(model) if model is not None else None,
            documents=documents,
            id_field=id_field,
            text_field=text_field,
            row_field=row_field,
            metric=metric,
            codec=codec,
            batch_size=batch_size,
            progress=True,
        )
    _tell(report, path, as_json)


@_import.command("chroma")
def chroma_command(
    folder: _Folder,
    path: _Path,
    model: _Model = None,
    collection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which of its collections.", show_default="the only one"),
    ] = None,
    metric: _Metric = None,
    codec: _Codec = None,
    batch_size: _BatchSize = 1024,
    as_json: Json = False,
) -> None:
    """Take over a collection of a persistent Chroma directory, which is read from a copy.

    Nothing is encoded. The collection appears in one step, complete, or not at all.
    """
    with interruptible(_nothing):
        report = import_chroma(
            folder,
            path,
            load_encoder(model) if model is not None else None,
            collection=collection,
            metric=metric,
            codec=codec,
            batch_size=batch_size,
            progress=True,
        )
    _tell(report, path, as_json)


@_import.command("lancedb")
def lancedb_command(
    folder: _Folder,
    path: _Path,
    model: _Model = None,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of its tables.", show_default="the only one")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of ids.", show_default="id")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of texts.", show_default="text")] = None,
    vector_column: Annotated[
        str | None, typer.Option(help="Column of vectors.", show_default="the only one there is")
    ] = None,
    metadata_columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Columns kept as metadata.", show_default="all others but vectors"),
    ] = None,
    distance: Annotated[
        str | None,
        typer.Option(
            help="How the table was searched: l2, cosine or dot.", show_default="as its vector index says, else l2"
        ),
    ] = None,
    metric: _Metric = None,
    codec: _Codec = None,
    batch_size: _BatchSize = 2048,
    as_json: Json = False,
) -> None:
    """Take over a table of a LanceDB directory.

    Nothing is encoded. The collection appears in one step, complete, or not at all.
    """
    kept = [name.strip() for name in metadata_columns.split(",")] if metadata_columns is not None else None
    with interruptible(_nothing):
        report = import_lancedb(
            folder,
            path,
            load_encoder(model) if model is not None else None,
            table=table,
            id_column=id_column,
            text_column=text_column,
            vector_column=vector_column,
            metadata_columns=[name for name in kept if name] if kept is not None else None,
            distance=distance,
            metric=metric,
            codec=codec,
            batch_size=batch_size,
            progress=True,
        )
    _tell(report, path, as_json)


def _nothing() -> str:
    return "nothing was written; the same command begins anew"


def _tell(report: ImportReport, path: Path, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(path), **asdict(report)})
        return
    model = f"made by {report.model}, as was checked" if report.model is not None else "no model recorded"
    echo(
        f"{report.source} -> {path}: {report.documents:,} documents, vectors of {report.dim} dimensions ({model}), "
        f"{report.distance} there, {report.metric} here, codec {report.codec}"
    )
    if report.rounded_by is not None:
        echo(f"the vectors are what {report.rounded_by} has left of the model's")
    if report.without_text:
        echo(f"{report.without_text:,} documents have no text")
    for what, count in report.left_out.items():
        echo(f"left out: {count:,} {what}")
