"""``octavo index``: files into a collection."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import octavo
from octavo._printing import console, human_bytes, note, print_json, printable
from octavo._progress import progress_bar
from octavo.cli._app import app
from octavo.cli._encoders import (
    DEFAULT_MODEL,
    load_encoder,
    load_sparse_encoder,
    load_stored_encoder,
    stored_encoder,
    stored_sparse_encoder,
)
from octavo.cli._locations import open_or_create_place
from octavo.cli._options import Json, Model, PlaceOption, Sparse
from octavo.encoders.dense import Encoder
from octavo.encoders.sparse import SparseEncoder
from octavo.errors import CollectionNotFoundError, ParameterError
from octavo.ingest.indexing import IngestReport, ingest
from octavo.ingest.sources import FILE_CHUNK_OVERLAP, FILE_CHUNK_SIZE, TEXT_SUFFIXES, Fields, Skipped, Source

_LISTED = 5  # names shown of a kind of files that were left out


@app.command("index")
def index_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help=f"A folder of text and Markdown files ({' '.join(TEXT_SUFFIXES)}, at all depths; links to files are "
            "followed, links to folders are not), one such file, or JSON lines (.jsonl, .jsonl.gz).",
            show_default=False,
        ),
    ],
    path: PlaceOption,
    model: Model = None,
    sparse: Sparse = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Compression of a new collection, e.g. 'int8', 'rabitq:1 > int8', 'svd:50%|float8 > int8'.",
            show_default="int8",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Similarity of a new collection: cosine or dot.", show_default="cosine")
    ] = None,
    id_field: Annotated[
        str | None, typer.Option(help="JSON lines: the field with the id.", show_default="_id, then id")
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="JSON lines: the field with the text.", show_default="text")
    ] = None,
    title_field: Annotated[
        str | None,
        typer.Option(
            help="JSON lines: a field put before the text, on a line of its own.", show_default="title, if there is one"
        ),
    ] = None,
    metadata_fields: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="JSON lines: the fields kept as metadata.",
            show_default="the metadata object and all other fields",
        ),
    ] = None,
    chunk_size: Annotated[
        int | None,
        typer.Option(
            help="Cut documents into chunks of at most so many characters, at paragraphs, sentences, spaces; 0: no.",
            show_default=f"{FILE_CHUNK_SIZE} for files, 0 for JSON lines",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Characters that a chunk repeats of the one before.",
            show_default=f"{FILE_CHUNK_OVERLAP}, or a tenth of --chunk-size",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents encoded and committed at a time.")] = 256,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also remove documents of the collection that SOURCE does not have (any more)."),
    ] = False,
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Leave out lines that cannot be read, and list them; else stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a collection from files, or bring it up to date with them.

    Run it again to add new documents and replace changed ones; unchanged ones are not encoded again. An interrupted run
    keeps the batches that were committed and continues there. Everything is read once before anything is written, so a
    bad line stops the run with the collection as it was. Links to files are read, links to folders are not followed.
    """
    if prune and skip_bad_lines:
        raise typer.BadParameter("--prune would remove the documents of the lines that --skip-bad-lines leaves out")
    wanted = [name.strip() for name in metadata_fields.split(",")] if metadata_fields else None
    reader = Source(
        source,
        fields=Fields(id_field, text_field, title_field, wanted),
        chunk_size=chunk_size,
        overlap=overlap,
        skip_bad_lines=skip_bad_lines,
    )
    total, skipped = reader.scan()
    if total == 0:
        # Most likely a wrong path; with --prune it would empty the collection.
        raise ParameterError(f"found no documents in {str(source)!r}{_other_files(skipped)}")
    encoder, sparse_encoder = _encoder(path, model), _sparse_encoder(path, sparse)
    opened = open_or_create_place(path, encoder, sparse=sparse_encoder, codec=codec, metric=metric)
    with closing(opened) as collection:
        with progress_bar("index", total) as advance:
            report = ingest(collection, reader.documents(), batch_size=batch_size, prune=prune, advance=advance)
        if codec is not None and isinstance(collection, octavo.Collection) and len(collection):
            collection.fit()  # however few they are: the codec was asked for
        collection.flush()  # a server does so on its own; in this process nobody else would
        info = collection.info()
    disk_bytes: int | None = getattr(info, "disk_bytes", None)  # Qdrant does not tell
    if as_json:
        print_json({"path": str(path), **asdict(report), "skipped": asdict(skipped), "documents": info.documents,
                    "codec": info.codec, "encoder": info.encoder, "sparse": info.sparse, "disk_bytes": disk_bytes})  # fmt: skip
        return
    _print(report, skipped, info, path, disk_bytes)


def _encoder(path: str, model: str | None) -> Encoder:
    if model is not None:
        return load_encoder(model)
    try:
        return load_stored_encoder(stored_encoder(path))
    except CollectionNotFoundError:
        return load_encoder(DEFAULT_MODEL)


def _sparse_encoder(path: str, name: str | None) -> SparseEncoder | None:
    if name is not None:
        return load_sparse_encoder(name)
    try:
        return stored_sparse_encoder(path)
    except CollectionNotFoundError:
        return None


def _other_files(skipped: Skipped) -> str:
    return (
        f"; {skipped.other_files} files have other endings than {' '.join(TEXT_SUFFIXES)}"
        if skipped.other_files
        else ""
    )


def _print(report: IngestReport, skipped: Skipped, info: Any, path: str, disk_bytes: int | None) -> None:
    for names, what in (
        (skipped.binary, "binary files, left out"),
        (skipped.empty, "empty files, left out"),
        (skipped.replaced, "files that are not UTF-8, read with the undecodable bytes replaced"),
        (skipped.lines, "bad lines, left out"),
    ):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            note(f"{len(names)} {what}: {', '.join(map(printable, names[:_LISTED]))}{more}")
    if skipped.other_files:
        note(f"{skipped.other_files} files with other endings, left out")
    on_disk = f", {human_bytes(disk_bytes)} on disk" if disk_bytes is not None else ""
    console().print(
        f"{path}: {report.added:,} added, {report.updated:,} updated, {report.unchanged:,} unchanged, "
        f"{report.removed:,} removed; now {info.documents:,} documents{on_disk}, "
        f"codec {info.codec}",
        markup=False,
        soft_wrap=True,
    )
