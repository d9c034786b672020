"""Read documents from a folder of text files or from JSON lines, for `octavo index`."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo._validation import check_integer
from octavo.errors import OctavoError
from octavo.ingest.chunking import split_text

#: File name endings that are read from a folder.
TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

#: Chunks of files, in characters: about 250 tokens, which is what small embedding models read.
FILE_CHUNK_SIZE, FILE_CHUNK_OVERLAP = 1_000, 100


class SourceError(OctavoError, ValueError):
    """A file or line cannot be read as a document; the message says which and why."""


@dataclass(frozen=True)
class SourceDocument:
    """A document, or one chunk of it, as it was read."""

    id: str
    text: str
    metadata: dict[str, Any]
    parent: str  # id of the whole document; the same as `id` unless it was cut into chunks


@dataclass
class Skipped:
    """What was not read, and why."""

    binary: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # read, but with undecodable bytes replaced
    lines: list[str] = field(default_factory=list)
    other_files: int = 0


@dataclass(frozen=True)
class Fields:
    """Which field of a JSON line is what.

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


class Source:
    """Documents in a folder, a text file or a file of JSON lines, in a fixed order.

    Parameters
    ----------
    path : Path
        A folder, which is searched at all depths for text and Markdown files; such a file; or JSON lines, which may be
        compressed with gzip. Hidden files and folders are left out. Links to files are followed, wherever they lead; links
        to folders are not.
    fields : Fields
        For JSON lines.
    chunk_size, overlap : int or None
        Characters, see `octavo.ingest.chunking.split_text`. None: `FILE_CHUNK_SIZE` and `FILE_CHUNK_OVERLAP` for files, no
        chunks for JSON lines, whose documents are usually passages already. 0: no chunks.
    skip_bad_lines : bool
        Leave out lines that cannot be read, and list them, rather than raise.

    Raises
    ------
    SourceError
        When there is nothing at the path, or it is of another kind.
    """

    def __init__(
        self,
        path: Path,
        *,
        fields: Fields | None = None,
        chunk_size: int | None = None,
        overlap: int | None = None,
        skip_bad_lines: bool = False,
    ) -> None:
        self.path = path
        self.is_json = path.name.lower().endswith(_JSON_SUFFIXES) and not path.is_dir()
        if not path.exists():
            raise SourceError(f"expected a folder or a file, but there is nothing at {str(path)!r}")
        if not path.is_dir() and not self.is_json and not _is_text_name(path.name):
            raise SourceError(
                f"expected a folder, a text file ({' '.join(TEXT_SUFFIXES)}) or JSON lines "
                f"({' '.join(_JSON_SUFFIXES)}), got {str(path)!r}"
            )
        self._fields = fields or Fields()
        default_size, default_overlap = (0, 0) if self.is_json else (FILE_CHUNK_SIZE, FILE_CHUNK_OVERLAP)
        self._chunk_size = default_size if chunk_size is None else check_integer(chunk_size, "chunk_size", least=0)
        if overlap is None:
            overlap = default_overlap if chunk_size is None else self._chunk_size // 10
        self._overlap = overlap
        if self._chunk_size:
            split_text("", self._chunk_size, overlap)  # an unusable size or overlap is told before anything is read
        self._skip_bad_lines = skip_bad_lines

    def scan(self) -> tuple[int, Skipped]:
        """Read everything once and count the documents, so that a bad line is found before anything is written."""
        skipped = Skipped()
        return sum(1 for _ in self.documents(skipped)), skipped

    def documents(self, skipped: Skipped | None = None) -> Iterator[SourceDocument]:
        """Yield the documents.

        Parameters
        ----------
        skipped : Skipped, optional
            What was left out is listed here.

        Raises
        ------
        SourceError
            For a line that cannot be read, or two with the same id; the message names file and line.
        """
        skipped = Skipped() if skipped is None else skipped
        for identifier, text, metadata in self._lines(skipped) if self.is_json else self._files(skipped):
            if not self._chunk_size:
                yield SourceDocument(identifier, text, metadata, identifier)
                continue
            pieces = split_text(text, self._chunk_size, self._overlap) or [text]
            for number, piece in enumerate(pieces):
                described = {**metadata, "document": identifier, "chunk": number}
                yield SourceDocument(f"{identifier}#{number}", piece, described, identifier)

    def _files(self, skipped: Skipped) -> Iterator[tuple[str, str, dict[str, Any]]]:
        single = not self.path.is_dir()
        for path in [self.path] if single else _walk(self.path, skipped):
            name = path.name if single else path.relative_to(self.path).as_posix()
            if not _is_encodable(name):
                raise SourceError(
                    f"expected file names in UTF-8, got {name!r}; rename the file, its name becomes an id"
                )
            text = _decode(path.read_bytes(), name, skipped)
            if text is not None:
                yield name, text, {"path": name}

    def _lines(self, skipped: Skipped) -> Iterator[tuple[str, str, dict[str, Any]]]:
        opened = gzip.open if self.path.name.lower().endswith(".gz") else open
        seen: dict[str, int] = {}
        with opened(self.path, "rb") as lines:
            number = 0
            while line := self._next_line(lines.readline, number):
                number += 1
                if not line.strip():
                    continue
                try:
                    identifier, text, metadata = self._parse(line)
                    if identifier in seen:
                        raise ValueError(f"the id {identifier!r} is also that of line {seen[identifier]}")
                except ValueError as error:
                    message = f"{self.path.name}, line {number}: {error}"
                    if not self._skip_bad_lines:
                        raise SourceError(f"{message}; mend the line, or leave it out with --skip-bad-lines") from error
                    skipped.lines.append(message)
                    continue
                seen[identifier] = number
                yield identifier, text, metadata

    def _next_line(self, readline: Callable[[], bytes], number: int) -> bytes:
        try:
            return readline()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(f"{self.path.name} is damaged or cut short after line {number}: {error}") from error

    def _parse(self, line: bytes) -> tuple[str, str, dict[str, Any]]:
        try:
            record = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError("lists and objects are nested too deeply") from None
        if not isinstance(record, dict):
            raise ValueError(f"expected a JSON object, got {type(record).__name__}")
        fields = self._fields
        id_field = fields.id or ("_id" if "_id" in record else "id")
        text_field = fields.text or "text"
        title_field = fields.title or "title"
        identifier = _required(record, id_field, "--id-field")
        if isinstance(identifier, bool) or not isinstance(identifier, str | int):
            raise ValueError(f"expected a string or an integer in {id_field!r}, got {type(identifier).__name__}")
        text = _required(record, text_field, "--text-field")
        title = _required(record, title_field, "--title-field") if fields.title else record.get(title_field)
        for name, value in ((text_field, text), (title_field, title or "")):
            if not isinstance(value, str):
                raise ValueError(f"expected a string in {name!r}, got {type(value).__name__}")
        metadata = _metadata(record, {id_field, text_field, title_field}, fields.metadata)
        if b"\\u" in line and not _is_encodable(json.dumps([identifier, title, text, metadata], ensure_ascii=False)):
            # The only way in which UTF-8 can name half a pair.
            raise ValueError("it holds a lone surrogate, which is no valid Unicode")
        if self._chunk_size and (clash := {"document", "chunk"} & metadata.keys()):
            raise ValueError(f"the metadata field {min(clash)!r} is what chunks are numbered by; leave it out")
        return str(identifier), "\n".join(part for part in (title, text) if part), metadata


def _is_encodable(text: str) -> bool:
    """Tell whether a text can be stored: lone surrogates have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def _is_text_name(name: str) -> bool:
    return name.lower().endswith(TEXT_SUFFIXES)


def _walk(folder: Path, skipped: Skipped) -> Iterator[Path]:
    """Yield the text files below a folder, sorted; links to files are followed, links to folders are not: no circles."""

    def stop(error: OSError) -> None:
        raise error

    for directory, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            if _is_text_name(name):
                yield Path(directory, name)
            else:
                skipped.other_files += 1


def _decode(data: bytes, name: str, skipped: Skipped) -> str | None:
    """Return the text of a file; None for a binary or empty one."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    if encoding == "utf-8-sig" and b"\0" in data:
        skipped.binary.append(name)
        return None
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        skipped.replaced.append(name)
        text = data.decode(encoding, errors="replace")
    if not text.strip():
        skipped.empty.append(name)
        return None
    return text.replace("\r\n", "\n")
