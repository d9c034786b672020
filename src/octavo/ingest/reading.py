"""The text of one file, whatever kind it is, and what the file says of itself."""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Self

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
    title : str or None
        Of a row: what stands above the text.
    marked : bool
        Whether lines that begin with ``#`` are headings.
    """

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    pages: list[tuple[int, int]] = field(default_factory=list)
    row: str | None = None
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
    """

    def __init__(self, fields: Fields, skipped: Skipped) -> None:
        self._fields = fields
        self._skipped = skipped
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
                yield self._converted(file)
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

    def _converted(self, file: FoundFile) -> Text:
        if (module := missing_for(file.kind)) is not None:
            raise UnreadableFileError(f"needs {module}: pip install 'octavo[files]'")
        check_regular(file)
        parts, about = self._converter.convert(file.kind, file.path.absolute())
        text, pages = "", []
        for page, part in parts:
            stripped = part.strip()
            if stripped:
                text += "\n\n" if text else ""
                if page is not None:
                    pages.append((len(text), page))
                text += stripped
        if not text:
            raise UnreadableFileError("no text in it; a scan?" if file.kind == "pdf" else "no text in it")
        text = re.sub(r"\n{3,}", "\n\n", text) if not pages else text
        return Text(text, own_fields(about), pages, marked=file.kind != "pdf")

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
