"""Rows of CSV files and JSON lines as documents."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from octavo.errors import OctavoError

#: Characters or bytes of one row; more is no row.
_LONGEST_ROW = 50_000_000

#: What documents are numbered and found by; a field of that name would be lost.
RESERVED = ("_source", "path", "document", "chunk", "page", "row")

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,14})", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,14})\.\d{1,15}", re.ASCII)


class SourceError(OctavoError, ValueError):
    """A file or line cannot be read as a document; the message says which and why."""


@dataclass(frozen=True)
class Fields:
    """Which field of a row is what.

    Parameters
    ----------
    id, text, title : str or None
        Field names. None looks for ``_id`` then ``id``, for ``text``, and for ``title``, which may be absent.
    metadata : sequence of str or None
        Fields to keep as metadata, also looked for inside the line's ``metadata`` object. None keeps all of that object
        and every field that is nothing else.
    """

    id: str | None = None
    text: str | None = None
    title: str | None = None
    metadata: Sequence[str] | None = None


@dataclass(frozen=True)
class Row:
    """One row: its number in the file, its own id if it has one, title, what stands below that, and metadata."""

    number: int
    id: str | None
    title: str | None
    body: str
    metadata: dict[str, Any]

    @property
    def text(self) -> str:
        """Title and what stands below it."""
        return "\n".join(part for part in (self.title, self.body) if part)


class Rows:
    """The rows of one file.

    Parameters
    ----------
    path : Path
        CSV, tab-separated values or JSON lines; may be compressed with gzip.
    fields : Fields
        Which field is what.
    strict : bool
        JSON lines have to have an id and a text, as a corpus has; else rows without are numbered, and their fields are the
        text.
    bad : callable
        Told what is wrong with a row that cannot be read; it may raise.
    """

    def __init__(self, path: Path, fields: Fields, *, strict: bool, bad: Callable[[str], object]) -> None:
        self._path = path
        self._fields = fields
        self._strict = strict
        self._bad = bad

    def __iter__(self) -> Iterator[Row]:
        name = self._path.name.lower()
        is_json = name.removesuffix(".gz").endswith((".jsonl", ".ndjson"))
        opened: Any = gzip.open if name.endswith(".gz") else open
        seen: dict[str, int] = {}
        with opened(self._path, "rb") as file:
            for number, read in self._lines(file) if is_json else self._table(file):
                try:
                    row = self._row(number, read, given=is_json and self._strict)
                    if row.id is not None and row.id in seen:
                        raise ValueError(f"the id {row.id!r} is also that of line {seen[row.id]}")
                except ValueError as error:
                    self._refuse(number, error)
                    continue
                if row.id is not None:
                    seen[row.id] = number
                yield row

    def _refuse(self, number: int, error: Exception) -> None:
        self._bad(f"{self._path.name}, line {number}: {error}")

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := self._guarded(lambda: file.readline(_LONGEST_ROW), number):
            number += 1
            if len(line) == _LONGEST_ROW:
                raise SourceError(f"{self._path.name}, line {number} is longer than {_LONGEST_ROW / 1e6:.0f} MB")
            if line.strip():
                yield number, line

    def _guarded(self, read: Callable[[], Any], number: int) -> Any:
        try:
            return read()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(f"{self._path.name} is damaged or cut short after line {number}: {error}") from error

    def _table(self, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
        start = self._guarded(lambda: file.read(4), 0)
        encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        try:
            yield from self._cells(text)
        finally:
            text.detach()  # whoever opened the file closes it

    def _cells(self, text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
        head = self._guarded(lambda: text.readline(_LONGEST_ROW), 0)
        if not head.strip():
            return
        delimiter = "\t" if ".tsv" in self._path.name.lower() else max(",;\t|", key=head.count)
        columns = next(csv.reader([head], delimiter=delimiter))
        names = [column.strip() or f"column {place}" for place, column in enumerate(columns, start=1)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SourceError(f"{self._path.name} has two columns called {twice!r}; rename one of them")
        csv.field_size_limit(_LONGEST_ROW)
        reader = csv.reader(text, delimiter=delimiter)
        while True:
            try:
                cells = self._guarded(lambda: next(reader, None), reader.line_num + 1)
            except csv.Error as error:
                self._refuse(reader.line_num + 1, error)
                continue
            if cells is None:
                return
            number = reader.line_num + 1
            if any(cell.strip() for cell in cells):
                if len(cells) > len(names):
                    self._refuse(number, ValueError(f"expected {len(names)} columns, got {len(cells)}"))
                    continue
                pairs = zip(names, cells, strict=False)
                yield number, {name: _value(cell) for name, cell in pairs if cell.strip()}

    def _row(self, number: int, read: bytes | dict[str, Any], *, given: bool) -> Row:
        record = _parsed(read) if isinstance(read, bytes) else read
        fields = self._fields
        id_field = fields.id or ("_id" if "_id" in record else "id")
        text_field, title_field = fields.text or "text", fields.title or "title"
        identifier: Any = None
        if given or fields.id or id_field in record:
            identifier = _required(record, id_field, "--id-field")
            if isinstance(identifier, bool) or not isinstance(identifier, str | int):
                raise ValueError(f"expected a string or an integer in {id_field!r}, got {type(identifier).__name__}")
        title = _required(record, title_field, "--title-field") if fields.title else record.get(title_field)
        if given or fields.text or isinstance(record.get(text_field), str):
            text = _required(record, text_field, "--text-field")
            used = {id_field, text_field, title_field}
        else:
            shown = {name: value for name, value in record.items() if name not in (id_field, title_field)}
            text = "\n".join(f"{name}: {_plain(value)}" for name, value in shown.items())
            used = {id_field, title_field}
        if isinstance(read, dict):  # columns have no types of their own
            text, title = str(text), str(title) if title is not None else None
        for name, value in ((text_field, text), (title_field, title or "")):
            if not isinstance(value, str):
                raise ValueError(f"expected a string in {name!r}, got {type(value).__name__}")
        metadata = _metadata(record, used, fields.metadata)
        if (
            isinstance(read, bytes)
            and b"\\u" in read
            and not is_encodable(json.dumps([identifier, title, text, metadata], ensure_ascii=False))
        ):
            # The only way in which UTF-8 can name half a pair.
            raise ValueError("it holds a lone surrogate, which is no valid Unicode")
        return Row(number, str(identifier) if identifier is not None else None, title or None, text, metadata)


def is_encodable(text: str) -> bool:
    """Tell whether a text can be stored: lone surrogates have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def own_fields(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a file's own fields, with an underscore behind the names that Octavo needs.

    Examples
    --------
    >>> own_fields({"path": "/x", "author": "A"})
    {'path_': '/x', 'author': 'A'}
    """
    return {f"{name}_" if name in RESERVED else name: value for name, value in metadata.items()}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("lists and objects are nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object, got {type(record).__name__}")
    return record


def _value(cell: str) -> Any:
    """Return a number where a cell is written as one, so that filters can compare it; ``007`` is none."""
    if _INTEGER.fullmatch(cell):
        return int(cell)
    return float(cell) if _DECIMAL.fullmatch(cell) else cell


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _required(record: dict[str, Any], name: str, option: str) -> Any:
    if name not in record:
        raise ValueError(f"expected a field {name!r}, got {', '.join(map(repr, record)) or 'none'} (see {option})")
    return record[name]


def _metadata(record: dict[str, Any], used: set[str], wanted: Sequence[str] | None) -> dict[str, Any]:
    nested = record.get("metadata")
    inner = nested if isinstance(nested, dict) else {}
    if nested is None or isinstance(nested, dict):
        used = used | {"metadata"}
    merged = {**inner, **{key: value for key, value in record.items() if key not in used}}
    if wanted is None:
        return merged
    return {name: merged[name] for name in wanted if name in merged}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
