"""``octavo index``: files into a collection."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import octavo
from octavo._printing import console, human_bytes, note, print_json, printable
from octavo._progress import progress_bar
from octavo.cli._agreement import Yes, agree, interruptible
from octavo.cli._app import app
from octavo.cli._encoders import (
    DEFAULT_MODEL,
    load_encoder_of,
    load_sparse_encoder,
    load_stored_encoder,
    stored_sparse_encoder,
)
from octavo.cli._locations import find_place, open_or_create_place
from octavo.cli._options import Json, Layers, Model, PlaceOption, QueryLayers, Sparse, with_layers
from octavo.collection import CollectionLike
from octavo.encoders.sparse import SparseEncoder
from octavo.errors import MismatchError, ParameterError
from octavo.ingest.indexing import Ingest, IngestReport
from octavo.ingest.preparing import Choices, Prepared, prepare
from octavo.ingest.registry import write_source
from octavo.ingest.rows import Fields
from octavo.ingest.sources import FILE_CHUNK_OVERLAP, FILE_CHUNK_SIZE
from octavo.ingest.walking import EXCLUDED, HIDDEN, IGNORED, IMAGES, MAX_SIZE, NOT_INCLUDED, Skipped

_LISTED = 5  # names shown of a kind of files that were left out

#: Left out on purpose: how many is enough to know.
_EXPECTED = (HIDDEN, IGNORED, EXCLUDED, NOT_INCLUDED, IMAGES)

_MEGABYTE = 1_000_000


class Context(StrEnum):
    """What chunks are embedded with."""

    NONE = "none"
    TITLE = "title"
    HEADINGS = "headings"


SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="NAME",
        help="What to call the source in this collection. The same folder is the same source without it.",
        show_default="the name of the folder or file",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Of a folder: read only files that match, as in a .gitignore; may be given more than once.",
        show_default="every file that can be read",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Of a folder: leave these out; may be given more than once.", show_default=False
    ),
]
Ignore = Annotated[
    bool | None,
    typer.Option(
        "--ignore/--no-ignore",
        help="Of a folder: leave out what .gitignore names, and packages, caches, virtual environments.",
        show_default="--ignore",
    ),
]
MaxSize = Annotated[
    int | None,
    typer.Option(
        metavar="MB", min=1, help="Of a folder: leave out larger files.", show_default=str(MAX_SIZE // _MEGABYTE)
    ),
]
ChunkSize = Annotated[
    int | None,
    typer.Option(
        help="Cut documents into chunks of at most so many characters, at paragraphs, sentences, spaces; 0: no.",
        show_default=f"as before, at first {FILE_CHUNK_SIZE} for files, 0 for a file of rows",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        help="Characters that a chunk repeats of the one before.",
        show_default=f"as before, at first {FILE_CHUNK_OVERLAP}, or a tenth of --chunk-size",
    ),
]
ContextOption = Annotated[
    Context | None,
    typer.Option(
        help="What chunks are embedded with, and found by words with, but returned without: the title of their document, or "
        "that and the headings above them; none: a title of rows is part of their text.",
        show_default="as before, at first none",
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        help="Compression of a new collection, e.g. 'int8', 'rabitq:1 > int8', 'svd:50%|float8 > int8'.",
        show_default="int8",
    ),
]
Late = Annotated[
    bool,
    typer.Option(
        "--late",
        help="A new collection for late interaction: many vectors a document, of a model that gives such, or of the tokens of "
        "any other.",
    ),
]


KeepImages = Annotated[
    bool | None,
    typer.Option(
        "--keep-images/--refer-to-images",
        help="With a model of page images: store images and scanned pages in the collection, or only where they lie.",
        show_default="as before, at first --refer-to-images",
    ),
]
PoolFactor = Annotated[
    int | None,
    typer.Option(min=1, help="Of --late: pool so many token vectors of a document into one.", show_default="2"),
]


@app.command("index")
def index_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, searched at all depths, or a file: Markdown, text, source code, notebooks, CSV, JSON lines, and "
            "with octavo\\[files] PDF, HTML and DOCX; with --late and a model of page images also images and scanned pages. "
            "Links to files are followed, links to folders are not.",
            show_default=False,
        ),
    ],
    path: PlaceOption,
    model: Model = None,
    layers: Layers = None,
    query_layers: QueryLayers = None,
    sparse: Sparse = None,
    name: SourceOption = None,
    codec: CodecOption = None,
    metric: Annotated[
        str | None, typer.Option(help="Similarity of a new collection: cosine or dot.", show_default="cosine")
    ] = None,
    late: Late = False,
    pool_factor: PoolFactor = None,
    include: Include = None,
    exclude: Exclude = None,
    ignore: Ignore = None,
    max_size: MaxSize = None,
    chunk_size: ChunkSize = None,
    overlap: Overlap = None,
    context: ContextOption = None,
    id_field: Annotated[
        str | None, typer.Option(help="Rows: the field with the id.", show_default="_id, then id")
    ] = None,
    text_field: Annotated[
        str | None,
        typer.Option(help="Rows: the field with the text.", show_default="text; of CSV without: all columns"),
    ] = None,
    title_field: Annotated[
        str | None,
        typer.Option(
            help="Rows: a field put before the text, on a line of its own.", show_default="title, if there is one"
        ),
    ] = None,
    metadata_fields: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Rows: the fields kept as metadata.",
            show_default="the metadata object and all other fields",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents encoded and committed at a time.")] = 256,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also remove documents of this source whose file or row is not there any more."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, say what would be done, and write nothing.")
    ] = False,
    skip_bad_lines: Annotated[
        bool,
        typer.Option(
            "--skip-bad-lines", help="Of a file of rows: leave out lines that cannot be read, and list them; else stop."
        ),
    ] = False,
    keep_images: KeepImages = None,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Of a file of rows: replace documents of other sources that have the same ids."),
    ] = False,
    checksum: Annotated[
        bool,
        typer.Option(
            "--checksum", "--force", help="Read every file again, also those whose size and times are as they were."
        ),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create a collection from files, or bring it up to date with them.

    Run it again to add new documents and replace changed ones; unchanged ones are not encoded again. Any number of folders
    and files live in one collection, each as a source with a name; a part of a folder that is a source can be indexed by
    itself. An interrupted run keeps the batches that were committed and continues there.
    """
    if prune and skip_bad_lines:
        raise typer.BadParameter("--prune would remove the documents of the lines that --skip-bad-lines leaves out")
    wanted = [field.strip() for field in metadata_fields.split(",")] if metadata_fields else None
    choices = Choices(
        name=name,
        chunk_size=chunk_size,
        overlap=overlap,
        include=include or None,
        exclude=exclude or None,
        ignore=ignore,
        max_size=megabytes(max_size),
        fields=Fields(id_field, text_field, title_field, wanted),
        skip_bad_lines=skip_bad_lines,
        adopt=adopt,
        keep_images=keep_images,
        context=context.value if context is not None else None,
        read_all=checksum,
    )
    model = with_layers(model, layers, query_layers)
    making = Making(path, model=model, codec=codec, metric=metric, late=late, pool_factor=pool_factor, sparse=sparse)
    report, prepared, about = _dry(source, choices, making, prune) if dry_run else (None, None, None)
    if report is None:
        with closing(Target(making, source, choices)) as target:
            prepared = target.prepared
            target.agree(prune=prune, yes=yes)
            with interruptible(target.safe):
                report = target.run(batch_size, prune=prune)
            about = target.about()
    assert prepared is not None  # by either way
    if as_json:
        print_json(_as_json(path, report, prepared, about, dry_run=dry_run))
    else:
        tell_run(path, report, prepared, about, prune=prune, dry_run=dry_run)


def megabytes(count: int | None) -> int | None:
    """Return a number of megabytes as bytes."""
    return count * _MEGABYTE if count is not None else None


@dataclass(frozen=True)
class Making:
    """Where a collection is, and what a new one is made with."""

    path: str
    model: str | None = None
    codec: str | None = None
    metric: str | None = None
    late: bool = False
    pool_factor: int | None = None
    sparse: str | None = None


class Target:
    """A source on its way into a collection that is open for writing from `run` on.

    Parameters
    ----------
    making : Making
        The collection.
    source : Path
        What is to be indexed.
    choices : Choices
        How.
    """

    def __init__(self, making: Making, source: Path, choices: Choices) -> None:
        self._making = making
        self._choices = choices
        self._collection: CollectionLike | None = None
        self._ingest: Ingest | None = None
        self._encoder_name: str | None = None
        self._exists = False
        self._late = making.late
        with closing_if(find_place(making.path)) as there:
            if there is not None:
                self._exists, self._encoder_name = True, there.info().encoder
                self._late = there.late is not None
                if making.late and not self._late:
                    raise MismatchError(
                        f"the collection at {making.path} keeps one vector a document; choose another place for --late"
                    )
            self.prepared = prepare(source, choices, there, images=self._late)
            self._has_documents = there is not None and len(there) > 0
        check_found(self.prepared, source)
        if making.pool_factor is not None and not self._late:
            raise ParameterError("--pool-factor belongs to late interaction: --late")

    @property
    def collection(self) -> CollectionLike:
        """The collection, open for writing."""
        if self._collection is None:
            self._collection = open_or_create_place(
                self._making.path,
                self._encoder(),
                codec=self._making.codec,
                metric=self._making.metric,
                late=self._late,
                pool_factor=self._making.pool_factor,
                sparse=self._sparse_encoder(),
            )
        return self._collection

    def _encoder(self) -> Any:
        if self._making.model is not None:
            return load_encoder_of(self._making.model, late=self._late)
        if self._exists and (self._encoder_name is not None or self._has_documents):
            return load_stored_encoder(self._encoder_name, late=self._late)
        return load_encoder_of(DEFAULT_MODEL, late=self._late)

    def _sparse_encoder(self) -> SparseEncoder | None:
        if self._making.sparse is not None:
            return load_sparse_encoder(self._making.sparse)
        return stored_sparse_encoder(self._making.path) if self._exists else None

    def agree(self, *, prune: bool, yes: bool) -> None:
        """Ask about what nobody may have meant, before anything is written."""
        prepared = self.prepared
        said = [text for text in (prepared.consequences(), _pruning(prepared) if prune else None) if text]
        if said:
            agree("; and ".join(said), yes=yes)

    def run(self, batch_size: int, *, prune: bool) -> IngestReport:
        """Write what is new or has changed."""
        prepared, collection = self.prepared, self.collection
        encoder = collection.late.encoder if collection.late is not None else None
        if encoder is None or not encoder.takes_images:
            prepared.source.images = None  # only now is the model there to tell
        new = prepared.identity.record is None
        if new and collection.local is not None:
            write_source(collection, prepared.record)
        ingest = self._ingest = Ingest(
            collection, prepared.record.name, batch_size=batch_size, adopt=self._choices.adopt, recut=prepared.recut
        )
        with progress_bar("index", prepared.found.count) as advance:
            ingest.run(prepared.documents(advance))
        ingest.report.unchanged += sum(prepared.unchanged.values())
        if prune:
            ingest.remove(prepared.gone.ids)
        prepared.remember(collection)
        if len(collection):  # in Qdrant, a collection appears with its first document
            write_source(collection, prepared.record)
        if self._making.codec is not None and isinstance(collection, octavo.Collection) and len(collection):
            collection.fit()  # however few they are: the codec was asked for
        collection.flush()  # a server does so on its own; in this process nobody else would
        return ingest.report

    def about(self) -> Any:
        """Describe the collection."""
        return self.collection.info()

    def safe(self) -> str:
        """Say what an interrupted run has done."""
        report = self._ingest.report if self._ingest is not None else IngestReport()
        done = report.added + report.updated
        return (
            f"{done:,} documents of this run are written and safe, {report.unchanged:,} were there already; the same command "
            "goes on with the rest"
        )

    def close(self) -> None:
        """Close the collection."""
        if self._collection is not None:
            self._collection.close()


def closing_if(collection: CollectionLike | None) -> Any:
    """Close a collection at the end, if there is one."""
    return closing(collection) if collection is not None else nullcontext()


def check_found(prepared: Prepared, source: Path) -> None:
    """Raise if there is nothing to index: most likely a wrong path, and pruning would remove everything.

    Raises
    ------
    ParameterError
        When no file or row was found.
    """
    if prepared.found.count:
        return
    reasons = [f"{len(names)} {reason}" for reason, names in prepared.source.skipped.files.items()]
    empty = prepared.source.skipped.empty
    reasons += [f"{len(empty)} without text"] if empty else []
    left_out = f"; left out: {'; '.join(reasons)}" if reasons else ""
    scope = prepared.identity.scope
    part = f", as a part of the source {prepared.record.name!r}" if scope else ""
    instead = ""
    if prepared.gone.ids:
        instead = (
            f". The collection has {len(prepared.gone.ids):,} documents of it; to remove them: octavo delete "
            f"{'--filter ...' if scope else f'--source {prepared.record.name}'}"
        )
    raise ParameterError(f"found no documents in {str(source)!r}{part}{left_out}{instead}")


def _pruning(prepared: Prepared) -> str | None:
    gone = prepared.gone
    if not gone.ids or not gone.is_large:
        return None
    things = "rows" if prepared.source.kind == "rows" else "files"
    return (
        f"--prune would remove {len(gone.parents):,} of the {gone.of:,} {things} that the collection has of the source "
        f"{prepared.record.name!r} ({len(gone.ids):,} documents, {', '.join(map(repr, gone.parents[:3]))} among them)"
    )


def _dry(source: Path, choices: Choices, making: Making, prune: bool) -> tuple[IngestReport, Prepared, Any]:
    with closing_if(find_place(making.path)) as there:
        late = there.late is not None if there is not None else making.late
        prepared = prepare(source, choices, there, images=late)
        check_found(prepared, source)
        ingest = Ingest(
            there if there is not None else octavo.open(),  # nothing is in an empty one
            prepared.record.name,
            write=False,
            adopt=choices.adopt,
            recut=prepared.recut,
        )
        with progress_bar("read", prepared.found.count) as advance:
            ingest.run(prepared.documents(advance))
        ingest.report.unchanged += sum(prepared.unchanged.values())
        if prune:
            ingest.remove(prepared.gone.ids)
        return ingest.report, prepared, there.info() if there is not None else None


def _as_json(path: str, report: IngestReport, prepared: Prepared, info: Any, *, dry_run: bool) -> dict[str, Any]:
    counts = {name: value for name, value in asdict(report).items() if name != "changed_files"}
    return {
        "path": path,
        "source": prepared.record.name,
        "root": prepared.record.path,
        "read": prepared.found.count - len(prepared.unchanged),
        "not_read": len(prepared.unchanged),
        **counts,
        "dry_run": dry_run,
        "changed": report.changed_files,
        "gone": {"documents": len(prepared.gone.ids), "files": prepared.gone.parents},
        "skipped": asdict(prepared.source.skipped),
        "pages": asdict(prepared.source.pages),
        "chunk_size": prepared.record.chunk_size,
        "overlap": prepared.record.overlap,
        "context": prepared.record.context,
        "documents": info.documents if info is not None else 0,
        "codec": info.codec if info is not None else None,
        "encoder": info.encoder if info is not None else None,
        "disk_bytes": getattr(info, "disk_bytes", None),  # Qdrant does not tell
    }


def _tell(prepared: Prepared, *, prune: bool) -> None:
    """Print remarks: what was left out, and what has no file any more."""
    tell_skipped(prepared.source.skipped)
    pages = prepared.source.pages
    if pages.image or pages.blank:
        note(
            f"{pages.text:,} pages by their text, {pages.image:,} images and pages without text by what they look like, "
            f"{pages.blank:,} blank pages left out"
        )
    gone, name = prepared.gone, prepared.record.name
    if gone.ids and not prune:
        things = "rows" if prepared.source.kind == "rows" else "files"
        note(
            f"{len(gone.ids):,} documents of {len(gone.parents):,} {things} that are not there any more "
            f"({_some(gone.parents)}); --prune removes them"
        )
    if prepared.strangers and prepared.identity.record is None:
        note(f"{prepared.strangers:,} documents of the collection belong to no source; indexing leaves them alone")
    if prepared.identity.record is None and not prepared.identity.scope and prepared.identity.root.name != name:
        note(f"{prepared.record.path} is the source {name!r}: its own name is that of another source")


def tell_skipped(skipped: Skipped) -> None:
    """Print what was left out, and why."""
    for reason, names in skipped.files.items():
        note(f"{len(names):,} left out, {reason}" + ("" if reason in _EXPECTED else f": {_some(names)}"))
    for names, what in (
        (skipped.empty, "files without text, as if they were not there"),
        (skipped.replaced, "files that are not UTF-8, read with the undecodable bytes replaced"),
        (skipped.lines, "bad lines, left out"),
        (
            [f"{name} page {page}" for name, pages in skipped.scans.items() for page in pages],
            "pages without text, left out",
        ),
    ):
        if names:
            note(f"{len(names):,} {what}: {_some(names)}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more (--json lists them)" if len(names) > _LISTED else ""
    return f"{', '.join(map(printable, names[:_LISTED]))}{more}"


def tell_run(
    path: str, report: IngestReport, prepared: Prepared, info: Any, *, prune: bool, dry_run: bool = False
) -> None:
    """Print what a run has done, or would do."""
    _tell(prepared, prune=prune)
    disk_bytes = getattr(info, "disk_bytes", None)
    on_disk = f", {human_bytes(disk_bytes)} on disk" if disk_bytes is not None else ""
    now = f"; now {info.documents:,} documents{on_disk}, codec {info.codec}" if info is not None and not dry_run else ""
    would = "would be: " if dry_run else ""
    console().print(
        f"{path}: {would}{report.added:,} added, {report.updated:,} updated, {report.unchanged:,} unchanged, "
        f"{report.removed:,} removed (source {printable(prepared.record.name)}){now}",
        markup=False,
        soft_wrap=True,
    )
    if dry_run:
        for name in [*report.changed_files, *([] if not report.removed else prepared.gone.parents)]:
            gone = name in prepared.gone.parents
            console().print(f"  {'remove' if gone else 'write'}  {printable(name)}", markup=False, soft_wrap=True)
