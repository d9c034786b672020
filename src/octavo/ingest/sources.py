"""A source of documents, for `octavo index`: a folder of files, a file, or a file of rows."""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo._validation import check_integer
from octavo.encoders.page_images import PageImage
from octavo.errors import ParameterError
from octavo.ingest.chunking import split_places, split_text
from octavo.ingest.converter import UnreadableFileError
from octavo.ingest.headings import check_context, in_context
from octavo.ingest.kinds import ROW_SUFFIXES, kind_of
from octavo.ingest.reading import FileReader, Keep, PageCounts, Text
from octavo.ingest.rows import Fields, Rows, SourceError
from octavo.ingest.walking import FoundFile, Rules, Skipped, Stamp, Walk, look_at, stamp_of

#: Chunks of files, in characters: about 250 tokens, which is what small embedding models read.
FILE_CHUNK_SIZE, FILE_CHUNK_OVERLAP = 1_000, 100

#: The metadata field that says which source a document belongs to.
SOURCE_FIELD = "_source"

#: Files up to this size are looked into before anything is written, in case there is nothing but white space.
_MAYBE_BLANK = 4_096


@dataclass(frozen=True)
class SourceDocument:
    """A document, or one chunk of it, as it was read."""

    id: str
    text: str
    metadata: dict[str, Any]
    parent: str  # the file or row that it is a piece of
    embed_text: str | None = None  # what is embedded of it in place of the text: with what stands above it
    image: PageImage | None = None  # what is encoded, where that is an image: then `embed_text` stands for it


@dataclass(frozen=True)
class Found:
    """What a source holds, before it is read.

    Parameters
    ----------
    parents : set of str or None
        The files or rows that are there; their documents may stay.
    kept : tuple of str
        Beginnings of further ones that could not be looked at and whose documents are left alone; whole ones end with NUL.
    count : int
        How many files or rows are to be read.
    size : int
        Their bytes.
    """

    parents: frozenset[str]
    kept: tuple[str, ...]
    count: int
    size: int

    def has(self, parent: str) -> bool:
        """Tell whether the documents of a file or row still have it."""
        return parent in self.parents or f"{parent}\0".startswith(self.kept or ("\0",))


class Source:
    """Documents in a folder, a file or a file of rows, in a fixed order.

    Parameters
    ----------
    path : Path
        A folder, which is searched at all depths; a file of text or whatever else `kind_of` knows; or rows (JSON lines, CSV),
        which may be compressed with gzip. Links to files are followed, wherever they lead; links to folders are not.
    name : str
        What the source is called; ids of files begin with it. Empty: ids are the paths below the folder.
    fields : Fields
        Of rows.
    chunk_size, overlap : int or None
        Characters, see `octavo.ingest.chunking.split_text`. None: `FILE_CHUNK_SIZE` and `FILE_CHUNK_OVERLAP` for files, no
        chunks for a file of rows, whose documents are usually passages already. 0: no chunks.
    rules : Rules
        Which files of a folder are read.
    scope : str
        Of a folder: read only this file or folder below it.
    skip_bad_lines : bool
        Of a file of rows: leave out lines that cannot be read, and list them, rather than raise.
    images : {"bytes", "reference"}, optional
        Read images, and pages of PDFs without text, as images, and how to keep them. `rules` say whether images are found.
    context : {"none", "title", "headings"}
        What is embedded with a piece and returned without it: the title of its document, or that and the headings above it.
        With ``"none"``, a title of rows is part of their text.

    Attributes
    ----------
    skipped : Skipped
        What was left out so far.
    images : {"bytes", "reference"} or None
        As given; may be taken back when the collection's model turns out to take texts alone.
    pages : PageCounts
        Pages that were read so far.
    stamps : dict
        Of each file that `find` has found: what changes with it.

    Raises
    ------
    SourceError
        When there is nothing at the path, or it is of another kind.
    """

    def __init__(
        self,
        path: Path,
        name: str = "",
        *,
        fields: Fields | None = None,
        chunk_size: int | None = None,
        overlap: int | None = None,
        rules: Rules | None = None,
        scope: str = "",
        skip_bad_lines: bool = False,
        images: Keep | None = None,
        context: str = "none",
    ) -> None:
        self.path = path
        self.name = name
        self.kind = kind_of_source(path)
        self.skipped = Skipped()
        self.stamps: dict[str, Stamp] = {}
        self.images = images
        self.wants_images = images is not None  # whether or not the model turns out to take any
        self.pages = PageCounts()
        if self.kind == "image" and not (rules is not None and rules.images):
            raise no_reader(path, "an image, which is for a collection of page images (--late)")
        self._fields = fields or Fields()
        self.chunk_size, self.overlap = chunking_of(self.kind, chunk_size, overlap)
        self._rules = rules or Rules()
        self._scope = scope
        self._skip_bad_lines = skip_bad_lines
        self._context = check_context(context)
        self._files: list[FoundFile] | None = None
        self._looked = False

    def find(self, known: Mapping[str, Stamp] | None = None) -> Found:
        """Look at what there is, before anything is written: files by name, rows by reading all of them.

        Parameters
        ----------
        known : mapping of str to Stamp, optional
            Of files that held text when they were read: those that are as they were are not looked into.

        Raises
        ------
        SourceError
            For a row that cannot be read, or two with the same id; the message names file and line.
        """
        self._looked = True
        known = known or {}
        if self.kind == "rows":
            self.skipped = Skipped()
            about = self.path.stat()
            self.stamps = {self.path.name: stamp_of(about)}
            parents = frozenset(self._row_id(row) for row in self._rows(self.skipped))
            return Found(parents, (), len(parents), about.st_size)
        walk = Walk(self.path, self._rules, self._scope)
        self.skipped = walk.skipped
        if self.kind == "folder":
            files = list(walk.files())
        else:
            found = look_at(self.path.name, self.path, self.kind, self._rules.max_size, walk)
            files = [found] if found is not None else []
        self._files = []
        for file in files:
            blank = known.get(file.name) != file.stamp and _is_blank(file)
            self.skipped.empty.append(file.name) if blank else self._files.append(file)
        self.stamps = {file.name: file.stamp for file in self._files}
        kept = tuple(self.parent_of(name) if name.endswith("/") else self.parent_of(name) + "\0" for name in walk.kept)
        parents = frozenset(self.parent_of(file.name) for file in self._files)
        return Found(parents, kept, len(self._files), sum(file.size for file in self._files))

    @property
    def files(self) -> list[FoundFile]:
        """The files that are read, as `find` has found them."""
        if self._files is None:
            self.find()
        return self._files or []

    def documents(
        self, advance: Callable[[int], object] = lambda done: None, only: Iterable[str] | None = None
    ) -> Iterator[SourceDocument]:
        """Yield the documents, those of one file or row after each other.

        Parameters
        ----------
        advance : callable, optional
            Told when a file or row is done.
        only : iterable of str, optional
            Of a folder: read only these files, of those that `find` has found.

        Raises
        ------
        SourceError
            For a row of a file of rows that cannot be read. A file that cannot be read is left out and listed.
        """
        if self.kind == "rows":
            for row in self._rows(Skipped() if self._looked else self.skipped):  # listed once
                yield from self._chunks(self._row_id(row), row.metadata, Text(row.body, row.metadata, title=row.title))
                advance(1)
            return
        wanted = None if only is None else frozenset(only)
        files = self.files  # which lists what is skipped, before the reader goes on with that
        with FileReader(self._fields, self.skipped, self.images, self.pages) as reader:
            for file in files:
                if wanted is None or file.name in wanted:
                    yield from self._of_file(reader, file)
                    advance(1)

    def _of_file(self, reader: FileReader, file: FoundFile) -> Iterator[SourceDocument]:
        parent = self.parent_of(file.name)
        seen: set[str] = set()
        try:
            for text in reader.read(file):
                metadata = {**text.metadata, "path": file.name, "document": parent}
                if text.image is not None:
                    yield self._page(parent, metadata, text)
                elif text.row is None:
                    yield from self._chunks(parent, metadata, text)
                elif text.row in seen:
                    self.skipped.lines.append(f"{file.name}: the id {text.row!r} is there twice")
                else:
                    seen.add(text.row)
                    yield from self._pieces_of_row(parent, metadata, text)
        except UnreadableFileError as error:
            self.skipped.add(file.name, str(error))

    def in_scope(self, name: str) -> bool:
        """Tell whether a file belongs to what is read of the source."""
        return not self._scope or name == self._scope or name.startswith(self._scope + "/")

    def parent_of(self, name: str) -> str:
        """Return what the documents of a file have as their `document`."""
        if self.kind != "folder":
            return self.name or name
        return f"{self.name}/{name}" if self.name else name

    def _chunks(self, parent: str, metadata: dict[str, Any], text: Text) -> Iterator[SourceDocument]:
        if not self.chunk_size:
            piece, embedded = self._in_context(text, 0, self._returned(text))
            yield SourceDocument(parent, piece, self._marked(metadata), parent, embedded)
            return
        starts = [start for start, _ in text.pages]
        for number, (start, part) in enumerate(self._pieces(self._returned(text))):
            piece, embedded = self._in_context(text, start, part)
            described = {**metadata, "document": parent, "chunk": number}
            if starts:
                described["page"] = text.pages[max(bisect_right(starts, start) - 1, 0)][1]
            yield SourceDocument(f"{parent}#{number}", piece, self._marked(described), parent, embedded)

    def _returned(self, text: Text) -> str:
        """Return what is kept of a text: where nothing is context, a row's title is part of it."""
        return text.whole if self._context == "none" else text.text

    def _in_context(self, text: Text, start: int, piece: str) -> tuple[str, str | None]:
        """Return a piece, and what is embedded in its place."""
        if self._context == "none":
            return piece, None
        headings = text.headings
        if self._context == "headings":
            return piece, in_context(piece, headings.above(start))
        title = headings.title_above(start)
        return piece, in_context(piece, [title] if title is not None else [])

    def _page(self, parent: str, metadata: dict[str, Any], text: Text) -> SourceDocument:
        number = text.pages[0][1] if text.pages else None
        about = text.image.about if text.image is not None else {}  # as `add` puts it there
        described = about | metadata | {"image": True} | ({} if number is None else {"page": number})
        name = f"{parent}#image" if number is None else f"{parent}#page-{number}"
        assert text.image is not None  # or it would be a text
        return SourceDocument(name, text.text, self._marked(described), parent, text.image.embed_text, text.image)

    def _pieces_of_row(self, parent: str, metadata: dict[str, Any], text: Text) -> Iterator[SourceDocument]:
        whole = self._returned(text)
        pieces = self._pieces(whole) if self.chunk_size else [(0, whole)]
        for number, (start, part) in enumerate(pieces):
            piece, embedded = self._in_context(text, start, part)
            identifier = f"{parent}#{text.row}" + (f".{number}" if len(pieces) > 1 else "")
            described = {**metadata, "chunk": number} if len(pieces) > 1 else metadata
            yield SourceDocument(identifier, piece, self._marked(described), parent, embedded)

    def _pieces(self, text: str) -> list[tuple[int, str]]:
        return split_places(text, self.chunk_size, self.overlap) or [(0, text)]

    def _marked(self, metadata: dict[str, Any]) -> dict[str, Any]:
        return {**metadata, SOURCE_FIELD: self.name} if self.name else metadata

    def _row_id(self, row: Any) -> str:
        return row.id if row.id is not None else f"{self.name or self.path.name}#{row.number}"

    def _rows(self, skipped: Skipped) -> Iterator[Any]:
        def bad(message: str) -> None:
            if not self._skip_bad_lines:
                raise SourceError(f"{message}; mend the line, or leave it out with --skip-bad-lines")
            skipped.lines.append(message)

        for row in Rows(self.path, self._fields, strict=True, bad=bad):
            if self.chunk_size and (clash := {"document", "chunk"} & row.metadata.keys()):
                bad(
                    f"{self.path.name}, line {row.number}: the metadata field {min(clash)!r} is what chunks are numbered by; "
                    "leave it out"
                )
                continue
            yield row


def kind_of_source(path: Path) -> str:
    """Return ``folder``, ``rows``, or what a single file is read as.

    Raises
    ------
    SourceError
        When there is nothing at the path, or nothing that can be read.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise SourceError(f"expected a folder or a file, but {str(path)!r} is a link that leads nowhere") from error
        raise SourceError(f"expected a folder or a file, but there is nothing at {str(path)!r}") from error
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise SourceError(f"expected a folder or a file, but {str(path)!r} is a pipe, a socket or a device")
    kind = kind_of(path.name)
    if kind is None:
        raise no_reader(path)
    return kind


def no_reader(path: Path, what: str = "") -> SourceError:
    """Return the error for a file that nothing reads; `what` says what it is, if that is known."""
    if what:
        return SourceError(f"expected a folder or a file with text, got {str(path)!r}, {what}")
    return SourceError(
        f"expected a folder, a file of text, source code, PDF, HTML or DOCX, or rows ({' '.join(ROW_SUFFIXES)}), got "
        f"{str(path)!r}; to read it as text all the same, copy it to a name that ends with .txt"
    )


def chunking_of(kind: str, chunk_size: int | None, overlap: int | None) -> tuple[int, int]:
    """Return chunk size and overlap of a source for what the user gave.

    Raises
    ------
    ParameterError
        When they cannot be used.
    """
    default_size, default_overlap = (0, 0) if kind == "rows" else (FILE_CHUNK_SIZE, FILE_CHUNK_OVERLAP)
    size = default_size if chunk_size is None else check_integer(chunk_size, "chunk size", least=0)
    if overlap is None:
        overlap = default_overlap if chunk_size is None else size // 10
    if size:
        split_text("", size, overlap)  # an unusable size or overlap is told before anything is read
    elif overlap:
        raise ParameterError(f"expected an overlap of 0 where nothing is cut into chunks, got {overlap}")
    return size, overlap


def _is_blank(file: FoundFile) -> bool:
    """Tell whether a file has been emptied, white space aside."""
    if file.size == 0:
        return True
    if file.size > _MAYBE_BLANK or file.kind not in ("text", "markdown", "code"):
        return False
    try:
        return not file.path.read_bytes().decode("utf-8-sig", "replace").strip()
    except OSError:
        return False  # reading it says why
