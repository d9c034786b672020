"""The text of one file, whatever kind it is, and what the file says of itself."""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

from octavo.encoders.page_images import PageImage
from octavo.errors import InvalidImageError, MissingExtraError
from octavo.ingest.converter import Converter, UnreadableFileError, missing_for
from octavo.ingest.headings import Headings
from octavo.ingest.rows import Fields, Rows, SourceError, own_fields
from octavo.ingest.walking import FoundFile, Skipped
from octavo.store.documents import normal_metadata

#: Characters of a line of source code; more was made by a program.
_LONGEST_CODE_LINE = 20_000

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)(?:^|\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)

#: Front matter is a few lines.
_LONGEST_FRONT_MATTER = 100_000


#: How images are kept: see `PageImage`.
Keep: TypeAlias = Literal["bytes", "reference"]

#: Letters and digits of a page from which on it is read by its text: scans often have a stamp or a number on them.
_LEAST_TEXT = 16

_NO_IMAGES = "an image, and the collection's model takes texts alone"


@dataclass
class PageCounts:
    """How many pages were read by their text and as images, and how many were blank."""

    text: int = 0
    image: int = 0
    blank: int = 0


@dataclass(frozen=True)
class Text:
    """A text of a file: the whole of it, or one row.

    Parameters
    ----------
    text : str
        May be empty.
    metadata : dict
        What the file says of itself.
    pages : list of tuple of int and int
        Where in the text each page begins, and its number.
    row : str or None
        What the row is called.
    image : PageImage or None
        What is to be encoded instead of the text.
    title : str or None
        Of a row: what stands above the text.
    marked : bool
        Whether lines that begin with ``#`` are headings.
    """

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    pages: list[tuple[int, int]] = field(default_factory=list)
    row: str | None = None
    image: PageImage | None = None
    title: str | None = None
    marked: bool = False

    @property
    def whole(self) -> str:
        """The title of a row, and the text."""
        return "\n".join(part for part in (self.title, self.text) if part)

    @cached_property
    def headings(self) -> Headings:
        """Title and headings: a title that the file says of itself comes before a first heading."""
        said = self.metadata.get("title")
        title = self.title or (said if isinstance(said, str) and said.strip() else None)
        return Headings(self.text if self.marked else "", title)


class FileReader:
    """Reads files; use it as a context manager, because some are read in a second process.

    Parameters
    ----------
    fields : Fields
        Of rows.
    skipped : Skipped
        Files without text, and what was replaced in others, is listed here.
    images : {"bytes", "reference"} or None
        Read images, and pages without text, as images, which are to be kept in this way.
    pages : PageCounts
        Pages are counted here.
    """

    def __init__(
        self, fields: Fields, skipped: Skipped, images: Keep | None = None, pages: PageCounts | None = None
    ) -> None:
        self._fields = fields
        self._skipped = skipped
        self._images = images
        self._pages = pages if pages is not None else PageCounts()
        self._converter = Converter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._converter.close()

    def read(self, file: FoundFile) -> Iterator[Text]:
        """Yield the texts of a file; none if it is empty.

        Raises
        ------
        UnreadableFileError
            When it is to be left out; the message says why. Rows before may have come.
        """
        if file.size == 0:
            self._skipped.empty.append(file.name)
            return
        try:
            if file.kind == "rows":
                yield from self._rows(file)
            elif file.kind in ("pdf", "html", "docx"):
                yield from self._converted(file)
            elif file.kind == "image":
                yield self._image(file)
            else:
                text = self._decoded(file)
                if not text.strip():
                    self._skipped.empty.append(file.name)
                    return
                if file.kind == "code" and max(map(len, text.splitlines())) > _LONGEST_CODE_LINE:
                    raise UnreadableFileError(
                        f"a line of more than {_LONGEST_CODE_LINE:,} characters, made by a program"
                    )
                if file.kind == "markdown":
                    yield self._markdown(text)
                else:
                    notebook = file.kind == "notebook"
                    yield Text(_cells_of(text) if notebook else text, marked=notebook)
        except OSError as error:
            raise UnreadableFileError(f"could not be read ({error.strerror or error})") from error

    def _rows(self, file: FoundFile) -> Iterator[Text]:
        found = 0
        try:
            for row in Rows(file.path, self._fields, strict=False, bad=self._bad_row(file)):
                found += 1
                name = row.id if row.id is not None else str(row.number)
                yield Text(row.body, own_fields(row.metadata) | {"row": name}, row=name, title=row.title)
        except SourceError as error:
            raise UnreadableFileError(str(error)) from error
        if not found:
            self._skipped.empty.append(file.name)

    def _bad_row(self, file: FoundFile) -> Any:
        folder = file.name.rpartition("/")[0]
        return lambda message: self._skipped.lines.append(f"{folder}/{message}" if folder else message)

    def _image(self, file: FoundFile) -> Text:
        if self._images is None:
            raise UnreadableFileError(_NO_IMAGES)
        image = PageImage(file.path.absolute(), keep=self._images)
        try:
            _ = image.embed_text  # which looks at all of it
        except InvalidImageError as error:
            raise UnreadableFileError(str(error)) from error
        except MissingExtraError as error:
            raise UnreadableFileError("needs pillow: pip install 'octavo[images]'") from error
        self._pages.image += 1
        return Text("", image=image)

    def _scans(self, file: FoundFile, numbers: list[int]) -> Iterator[Text]:
        """Yield pages without text as images; those that cannot be drawn, and blank ones, are left out."""
        drawn = self._converter.draw(file.path.absolute(), numbers)
        self._pages.blank += sum(state == "blank" for state in drawn.values())
        for number, state in drawn.items():
            if state == "blank":
                continue
            if state != "drawn":
                self._skipped.scans.setdefault(file.name, []).append(f"{number} ({state})")
                continue
            assert self._images is not None  # or nobody would have asked
            image = PageImage(file.path.absolute(), page=number, keep=self._images)
            try:
                _ = image.embed_text
            except InvalidImageError as error:
                self._skipped.scans.setdefault(file.name, []).append(f"{number} ({error})")
                continue
            self._pages.image += 1
            yield Text("", pages=[(0, number)], image=image)

    def _converted(self, file: FoundFile) -> Iterator[Text]:
        if (module := missing_for(file.kind)) is not None:
            raise UnreadableFileError(f"needs {module}: pip install 'octavo[files]'")
        check_regular(file)
        parts, about = self._converter.convert(file.kind, file.path.absolute())
        scans = [page for page, part in parts if page is not None and not _says_something(part)]
        if scans and self._images is not None and (module := missing_for("images")) is not None:
            raise UnreadableFileError(f"has pages without text, which need {module}: pip install 'octavo[images]'")
        text, pages = "", []
        for page, part in parts:
            stripped = part.strip()
            if stripped and (self._images is None or page not in scans):
                text += "\n\n" if text else ""
                if page is not None:
                    pages.append((len(text), page))
                text += stripped
        if not text and (not scans or self._images is None):
            raise UnreadableFileError("no text in it; a scan?" if file.kind == "pdf" else "no text in it")
        self._pages.text += len(pages)
        if text:
            whole = re.sub(r"\n{3,}", "\n\n", text) if not pages else text
            yield Text(whole, own_fields(about), pages, marked=file.kind != "pdf")
        if self._images is not None:
            before = self._pages.image
            for scan in self._scans(file, scans):
                yield replace(scan, metadata=own_fields(about))
            if not text and self._pages.image == before:
                self._skipped.empty.append(file.name)
        elif scans:
            read = {number for _, number in pages}
            if left_out := [str(number) for number in scans if number not in read]:
                self._skipped.scans[file.name] = left_out

    def _decoded(self, file: FoundFile) -> str:
        data = _content(file)
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        if encoding == "utf-8-sig" and b"\0" in data:
            raise UnreadableFileError("binary, not text")
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            self._skipped.replaced.append(file.name)
            text = data.decode(encoding, errors="replace")
        return text.replace("\r\n", "\n")

    def _markdown(self, text: str) -> Text:
        found = _FRONT_MATTER.match(text[:_LONGEST_FRONT_MATTER])
        metadata = _front_matter(found[1]) if found is not None else None
        if found is None or metadata is None:
            return Text(text, marked=True)
        below = text[found.end() :]
        return Text(below if below.strip() else found[1], own_fields(metadata), marked=True)


def _says_something(part: str) -> bool:
    """Tell whether there is enough text on a page for it to be read by that."""
    return sum(map(str.isalnum, part)) >= _LEAST_TEXT


def check_regular(file: FoundFile) -> None:
    """Raise for what has become a pipe or the like since it was found: to open one would wait for its other end."""
    if not stat.S_ISREG(os.stat(file.path).st_mode):
        raise UnreadableFileError("is no ordinary file any more")


def _content(file: FoundFile) -> bytes:
    """Return the bytes of a file, no more than there were when it was found and a little."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(file.path, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise UnreadableFileError("is no ordinary file any more")
        most = 2 * file.size + 1_000_000
        data = opened.read(most + 1)
    if len(data) > most:
        raise UnreadableFileError("grows faster than it can be read")
    return data


def _cells_of(text: str) -> str:
    """Return the cells of a notebook, without what they printed."""
    try:
        cells = json.loads(text)["cells"]
        sources = [cell["source"] for cell in cells if cell.get("cell_type") in ("markdown", "code")]
        joined = ["".join(source) if isinstance(source, list) else source for source in sources]
        return "\n\n".join(part.strip() for part in joined if part.strip())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFileError(f"not a notebook ({type(error).__name__})") from error


def _front_matter(text: str) -> dict[str, Any] | None:
    """Return the fields in front of a Markdown text; None if there are none that can be kept as metadata."""
    try:
        import yaml
    except ModuleNotFoundError:
        return None  # it stays in the text

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # the package has no types
        """Takes no aliases: a few lines of them stand for gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias")
            return super().compose_node(parent, index)

    try:
        found = yaml.load(text, Loader)
        return normal_metadata(_kept(found), "front matter") if isinstance(found, dict) and found else None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return None


def _kept(value: Any) -> Any:
    """Return a value of YAML as metadata takes it: keys are strings, sets are lists."""
    if isinstance(value, dict):
        return {str(key): _kept(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | set | tuple):
        return [_kept(inner) for inner in value]
    return value if isinstance(value, str | int | float | date) else str(value)
