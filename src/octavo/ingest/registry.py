"""Which sources a collection has been filled from, and how each was read: the collection's note ``sources``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from octavo.collection import CollectionLike
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.ingest.headings import check_context
from octavo.ingest.rows import Fields
from octavo.ingest.sources import kind_of_source
from octavo.ingest.walking import MAX_SIZE, Rules

NOTE = "sources"
_VERSION = 1

_NAME_LENGTH = 200


@dataclass(frozen=True)
class SourceRecord:
    """What is remembered of a source.

    Parameters
    ----------
    name : str
        Unique in its collection.
    path : str
        Where it was read from last, absolute.
    kind : str
        ``folder``, ``rows`` or ``file``.
    chunk_size, overlap : int
        How its texts are cut.
    context : str
        What they are embedded with: ``none``, ``title`` or ``headings``.
    include, exclude : tuple of str
        Patterns of files that are read, or not.
    ignore : bool
        Whether ``.gitignore`` and the like are respected.
    max_size : int
        Bytes of the largest file.
    fields : dict
        Which field of a row is what, as far as it was said.
    keep_images : bool
        Whether images are stored in the collection, rather than where they lie.
    """

    name: str
    path: str
    kind: str
    chunk_size: int
    overlap: int
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    ignore: bool = True
    max_size: int = MAX_SIZE
    fields: dict[str, Any] = field(default_factory=dict)
    keep_images: bool = False
    context: str = "none"

    def rules(self) -> Rules:
        """Return which files of a folder are read."""
        return Rules(self.include, self.exclude, self.ignore, self.max_size)

    def row_fields(self) -> Fields:
        """Return which field of a row is what."""
        return Fields(**self.fields)


def read_sources(collection: CollectionLike) -> dict[str, SourceRecord]:
    """Return the sources of a collection, by name.

    Raises
    ------
    CorruptCollectionError
        When the note is not what `write_source` writes.
    """
    text = collection.notes().get(NOTE)
    if text is None:
        return {}
    try:
        read = json.loads(text)
        if read["version"] != _VERSION:
            raise ValueError(f"version {read['version']!r}")
        return {name: _record(name, values) for name, values in read["sources"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCollectionError(
            f"the collection's note {NOTE!r} cannot be read ({error}); if a later version of Octavo wrote it, use that one, "
            f"otherwise remove it with set_note({NOTE!r}, None) and index the sources again with --source NAME"
        ) from error


def _record(name: str, values: dict[str, Any]) -> SourceRecord:
    for pattern in ("include", "exclude"):
        values[pattern] = tuple(str(line) for line in values.get(pattern, ()))
    record = SourceRecord(name=name, **values)
    record.row_fields()
    check_context(record.context)
    numbers, texts = (record.chunk_size, record.overlap, record.max_size), (record.path, record.kind)
    if not all(isinstance(value, int) for value in numbers) or not all(isinstance(value, str) for value in texts):
        raise TypeError(f"the source {name!r} has values of other types")
    return record


def write_source(collection: CollectionLike, record: SourceRecord) -> None:
    """Remember a source, in place of what was remembered of it."""
    _write(collection, read_sources(collection) | {record.name: record})


def forget_source(collection: CollectionLike, name: str) -> None:
    """Remove what is remembered of a source; harmless if there is nothing."""
    sources = read_sources(collection)
    if sources.pop(name, None) is not None:
        _write(collection, sources)


def _write(collection: CollectionLike, sources: dict[str, SourceRecord]) -> None:
    listed = {}
    for name, record in sorted(sources.items()):
        known = {key: value for key, value in asdict(record).items() if key != "name"}
        listed[name] = known if record.context != "none" else {key: known[key] for key in known if key != "context"}
    text = json.dumps({"version": _VERSION, "sources": listed} if listed else None, ensure_ascii=False)
    if collection.notes().get(NOTE) != text:
        collection.set_note(NOTE, text if listed else None)


@dataclass(frozen=True)
class Identity:
    """Which source a path is.

    Parameters
    ----------
    name : str
        Of the source.
    root : Path
        Its folder or file.
    scope : str
        What of it is meant: a path below the root, with slashes; empty for all of it.
    record : SourceRecord or None
        What is remembered; None for a new one.
    moved_from : str or None
        Where it was before, if that was elsewhere.
    """

    name: str
    root: Path
    scope: str
    record: SourceRecord | None
    moved_from: str | None = None


def identify(path: Path, name: str | None, sources: dict[str, SourceRecord]) -> Identity:
    """Tell which source a path is: a known one, a part of a known one, or a new one.

    Parameters
    ----------
    path : Path
        What is to be indexed.
    name : str or None
        What the user calls it.
    sources : dict
        What the collection remembers.

    Raises
    ------
    SourceError
        When there is nothing at the path.
    ParameterError
        When the name cannot be one, or it is not clear which source is meant.
    """
    kind_of_source(path)
    real = path.resolve()
    if name is not None:
        _check_name(name)
        record = sources.get(name)
        if record is None:
            return Identity(name, real, "", None)
        scope = _below(real, record)
        if scope is not None:
            return Identity(name, Path(record.path), scope, record)
        was = "folder" if record.kind == "folder" else "file"
        if (record.kind == "folder") != real.is_dir():
            raise ParameterError(
                f"the source {name!r} is a {was}, {record.path}, and {real} is none; choose another name for it (--source)"
            )
        return Identity(name, real, "", record, moved_from=record.path)
    holding = [(record, scope) for record in sources.values() if (scope := _below(real, record)) is not None]
    if holding:
        record, scope = max(holding, key=lambda found: len(found[0].path))
        return Identity(record.name, Path(record.path), scope, record)
    return Identity(_new_name(real, sources), real, "", None)


def _below(real: Path, record: SourceRecord) -> str | None:
    """Return the way from a source's root to a path, empty for the root itself; None if it does not lie there."""
    root = Path(record.path)
    if real == root:
        return ""
    if record.kind != "folder" or not real.is_relative_to(root):
        return None
    return real.relative_to(root).as_posix()


def _new_name(real: Path, sources: dict[str, SourceRecord]) -> str:
    base = real.name or "root"
    if base not in sources:
        _check_name(base)
        return base
    taken = sources[base]
    if not Path(taken.path).exists():
        raise ParameterError(
            f"the collection has a source {base!r}, which was read from {taken.path}, and there is nothing any more. If it has "
            f"moved to {real}: --source {base}. If this is another one, choose a name for it: --source NAME"
        )
    stem, suffix = (real.stem, real.suffix) if real.is_file() else (base, "")
    number = 2
    while f"{stem}-{number}{suffix}" in sources:
        number += 1
    return f"{stem}-{number}{suffix}"


def _check_name(name: str) -> None:
    try:
        good = bool(name.strip()) and len(name) <= _NAME_LENGTH and name.isprintable() and bool(name.encode())
    except UnicodeEncodeError:
        good = False
    if not good or set(name) & set("/#\\") or name in (".", ".."):
        raise ParameterError(
            f"expected a name for the source of 1 to {_NAME_LENGTH} characters without / \\ and #, got {name!r}; choose "
            "another one with --source"
        )


def patterns(given: Sequence[str] | None, stored: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns that hold: those given, without empty ones, or else those remembered."""
    return tuple(stored) if given is None else tuple(line for line in given if line.strip())
