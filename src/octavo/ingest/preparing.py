"""What a run of `octavo index` would do, found out before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from octavo.collection import CollectionLike
from octavo.errors import ParameterError
from octavo.ingest.headings import check_context
from octavo.ingest.indexing import Gone, check_owners, find_gone
from octavo.ingest.known_files import Content, KnownFiles, Reading, now
from octavo.ingest.registry import Identity, SourceRecord, identify, patterns, read_sources
from octavo.ingest.rows import Fields
from octavo.ingest.sources import SOURCE_FIELD, Found, Source, SourceDocument, chunking_of, kind_of_source
from octavo.store.documents import Document


@dataclass(frozen=True)
class Choices:
    """What the user says about a source; None: as before, or the default.

    Parameters
    ----------
    name : str or None
        What to call it.
    chunk_size, overlap : int or None
        How its texts are cut.
    include, exclude : sequence of str or None
        Patterns; a single empty one takes back what was said before.
    ignore : bool or None
        Whether ``.gitignore`` and the like are respected.
    max_size : int or None
        Bytes of the largest file.
    fields : Fields
        Of rows.
    skip_bad_lines : bool
        See `Source`.
    adopt : bool
        See `Ingest`.
    keep_images : bool or None
        Whether images are stored in the collection, rather than where they lie.
    context : str or None
        What documents are embedded with; see `Source`.
    read_all : bool
        Read files that are as they were, too.
    """

    name: str | None = None
    chunk_size: int | None = None
    overlap: int | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    ignore: bool | None = None
    max_size: int | None = None
    fields: Fields = field(default_factory=Fields)
    skip_bad_lines: bool = False
    adopt: bool = False
    keep_images: bool | None = None
    context: str | None = None
    read_all: bool = False


@dataclass(frozen=True)
class Prepared:
    """A run that is ready.

    Parameters
    ----------
    identity : Identity
        Which source it is.
    record : SourceRecord
        What will be remembered of it.
    source : Source
        Reads it.
    found : Found
        What is there.
    gone : Gone
        What the collection has of it and is there no more.
    recut : bool
        Whether what is stored was cut in another way, or embedded in another context.
    stored : int
        Documents that the collection has of the whole source.
    strangers : int
        Documents in the collection that belong to no source.
    unchanged : mapping of str to int
        Files that need not be read, because nothing has changed, and how many documents each has.
    reading : Reading
        Remembers what is read.
    """

    identity: Identity
    record: SourceRecord
    source: Source
    found: Found
    gone: Gone
    recut: bool
    stored: int
    strangers: int
    unchanged: Mapping[str, int]
    reading: Reading

    def documents(self, advance: Callable[[int], object] = lambda done: None) -> Iterator[SourceDocument]:
        """Yield the documents of all files that have to be read."""
        if not self.unchanged:
            yield from self.reading.through(self.source.documents(advance))
            return
        advance(len(self.unchanged))
        read = [file.name for file in self.source.files if file.name not in self.unchanged]
        yield from self.reading.through(self.source.documents(advance, only=read))

    def remember(self, collection: CollectionLike) -> None:
        """Write down which files need not be read again, once the collection holds their documents."""
        self.reading.remember(collection, self.record, self.unchanged)

    def consequences(self) -> str | None:
        """Say what the run would change that nobody may have meant; None if there is nothing of the kind."""
        said = []
        old = self.identity.record
        if self.identity.moved_from is not None and Path(self.identity.moved_from).exists():
            said.append(
                f"the source {self.record.name!r} was read from {self.identity.moved_from}, which is still there; from now on "
                f"it would be {self.record.path}, and documents of files with equal names are replaced"
            )
        if self.recut and old is not None:
            said.append(
                f"the source {self.record.name!r} is cut {_cut(old)}; {_cut(self.record)}, all of its {self.found.count:,} "
                f"{'rows' if self.source.kind == 'rows' else 'files'} ({self.stored:,} documents now) are encoded anew"
            )
        return "; and ".join(said) or None


def _cut(record: SourceRecord) -> str:
    context = {"title": ", embedded with their title", "headings": ", embedded with their title and headings"}
    what = f"into chunks of {record.chunk_size:,} characters that overlap by {record.overlap:,}"
    return (what if record.chunk_size else "into no chunks") + context.get(record.context, "")


def prepare(path: Path, choices: Choices, collection: CollectionLike | None, *, images: bool = False) -> Prepared:
    """Find out what a run would do; reads files of rows as a whole, and only names, sizes and blank files of a folder.

    Parameters
    ----------
    path : Path
        What is to be indexed.
    choices : Choices
        What the user said.
    collection : CollectionLike or None
        The collection as it is; None if there is none yet.
    images : bool, default=False
        Whether images, and pages without text, are to be documents.

    Raises
    ------
    SourceError
        When there is nothing to be read, or a row cannot be.
    ParameterError
        When it is not clear which source is meant, or an id belongs to another one.
    """
    since = now()
    identity = identify(path, choices.name, read_sources(collection) if collection is not None else {})
    record = _record(identity, choices)
    source = Source(
        identity.root,
        record.name,
        fields=record.row_fields(),
        chunk_size=record.chunk_size,
        overlap=record.overlap,
        rules=replace(record.rules(), images=images),
        scope=identity.scope,
        skip_bad_lines=choices.skip_bad_lines,
        images=("bytes" if record.keep_images else "reference") if images else None,
        context=record.context,
    )
    known = KnownFiles.of(None if choices.read_all else collection, record)
    found = source.find(known.stamps)
    contents: dict[str, Content] = {}

    def look(parent: str, document: Document) -> None:
        if known.contents:
            contents.setdefault(parent, Content()).add(document)

    stored = strangers = 0
    gone = Gone([], [], 0)
    recut = False
    if collection is not None and len(collection):
        stored = collection.count(filter={SOURCE_FIELD: record.name})
        if source.kind == "rows" and found.parents and not choices.adopt:
            ids = found.parents if not record.chunk_size else frozenset(f"{row}#0" for row in found.parents)
            check_owners(collection, record.name, sorted(ids))
        if stored:
            gone = find_gone(collection, record.name, found, identity.scope, look)
            old = identity.record
            recut = old is not None and _shape(old) != _shape(record)
        strangers = collection.count(filter={SOURCE_FIELD: {"$exists": False}})
    if recut and identity.scope:
        raise ParameterError(
            f"{path} is a part of the source {record.name!r}, which is cut {_cut(identity.record or record)}; another size or "
            f"context is for the whole of it: index {identity.root}, or give this part a name of its own (--source)"
        )
    unchanged = known.unchanged(source, contents)
    return Prepared(identity, record, source, found, gone, recut, stored, strangers, unchanged, Reading(source, since))


def _shape(record: SourceRecord) -> tuple[int, int, str]:
    return record.chunk_size, record.overlap, record.context


def _record(identity: Identity, choices: Choices) -> SourceRecord:
    """Return what holds for this run: what was said now, else before, else the defaults."""
    kind = kind_of_source(identity.root)
    old = identity.record
    if old is None:
        size, overlap = chunking_of(kind, choices.chunk_size, choices.overlap)
        fresh = SourceRecord(identity.name, str(identity.root), "file", size, overlap)
        old = replace(fresh, kind=kind if kind in ("folder", "rows") else "file")
    else:
        size, overlap = old.chunk_size, old.overlap
        if choices.chunk_size is not None or choices.overlap is not None:
            asked = size if choices.chunk_size is None else choices.chunk_size
            kept = overlap if choices.chunk_size is None or choices.chunk_size == size else None
            size, overlap = chunking_of(kind, asked, kept if choices.overlap is None else choices.overlap)
    given = {name: value for name, value in asdict(choices.fields).items() if value is not None}
    return replace(
        old,
        path=str(identity.root),
        chunk_size=size,
        overlap=overlap,
        include=patterns(choices.include, old.include),
        exclude=patterns(choices.exclude, old.exclude),
        ignore=old.ignore if choices.ignore is None else choices.ignore,
        max_size=old.max_size if choices.max_size is None else choices.max_size,
        keep_images=old.keep_images if choices.keep_images is None else choices.keep_images,
        fields=old.fields | given,
        context=old.context if choices.context is None else check_context(choices.context),
    )
