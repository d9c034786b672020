"""Files that a collection holds as they are, so that they need not be read again.

That size and times of a file are as they were is a hint; whether the collection still holds what was read from it is looked at
in the documents themselves. The hints lie in a table of the collection's database, a row a file. Nothing else depends on them:
without them, every file is read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from octavo._version import __version__
from octavo.collection import CollectionLike
from octavo.ingest.registry import SourceRecord
from octavo.ingest.sources import Source, SourceDocument
from octavo.ingest.walking import Stamp
from octavo.store.database import READ_FILES, has_table
from octavo.store.documents import Document, metadata_to_tagged

_TABLE = (
    f"CREATE TABLE IF NOT EXISTS {READ_FILES} (source TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, "
    "mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, reader TEXT NOT NULL, documents INTEGER NOT NULL, digest BLOB NOT NULL, "
    "PRIMARY KEY (source, name)) WITHOUT ROWID"
)

#: A file that was changed so shortly before it was read may be changed again without its time telling: clocks of file systems
#: are coarse, by two seconds at most.
_SETTLED = 2_000_000_000

_BITS = 128


@dataclass
class Content:
    """What is known of the documents of a file, in whatever order they are seen: their number, and a sum of their hashes."""

    documents: int = 0
    total: int = 0

    def add(self, document: Document | SourceDocument) -> None:
        """Take a document in."""
        # As JSON, because Python takes 1, 1.0 and True for the same.
        parts = [
            document.id,
            document.text,
            metadata_to_tagged(document.metadata),
            getattr(document, "embed_text", None),
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
        self.total = (self.total + int.from_bytes(digest[: _BITS // 8], "big")) % 2**_BITS
        self.documents += 1

    @property
    def digest(self) -> bytes:
        """The sum, as it is stored."""
        return self.total.to_bytes(_BITS // 8, "big")


@dataclass
class KnownFiles:
    """What a collection remembers of the files of a source.

    Parameters
    ----------
    reader : str
        What makes documents of a file: settings of the source, and the version of Octavo.
    stamps : dict of str to Stamp
        Of each file when it was read.
    contents : dict of str to Content
        What was made of it.
    """

    reader: str
    stamps: dict[str, Stamp] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)

    @classmethod
    def of(cls, collection: CollectionLike | None, record: SourceRecord) -> KnownFiles:
        """Read what is remembered of files that were read in this very way; nothing for a collection in Qdrant."""
        known = cls(_reader(record))
        local = collection.local if collection is not None else None
        if local is None:
            return known
        with local.connection() as connection:
            if has_table(connection, READ_FILES):
                rows = connection.execute(
                    f"SELECT name, size, mtime, ctime, documents, digest FROM {READ_FILES} WHERE source = ? AND reader = ?",
                    (record.name, known.reader),
                ).fetchall()
                for name, size, mtime, ctime, documents, digest in rows:
                    if isinstance(name, str) and isinstance(digest, bytes):  # SQLite would keep anything
                        known.stamps[name] = size, mtime, ctime
                        known.contents[name] = Content(documents, int.from_bytes(digest, "big"))
        return known

    def unchanged(self, source: Source, stored: Mapping[str, Content]) -> dict[str, int]:
        """Return the files that are as they were, and whose documents are: how many each has.

        Parameters
        ----------
        source : Source
            Has found its files.
        stored : mapping of str to Content
            The documents that the collection holds, by their file.
        """
        found: dict[str, int] = {}
        for name, stamp in source.stamps.items():
            content = self.contents.get(name)
            if content is not None and self.stamps[name] == stamp and stored.get(source.parent_of(name)) == content:
                found[name] = content.documents
        return found


class Reading:
    """Files on their way into a collection, of which it remembers those that were read without a remark.

    Parameters
    ----------
    source : Source
        Has found its files; `since` is from before that.
    since : int
        Nanoseconds.
    """

    def __init__(self, source: Source, since: int) -> None:
        self._source = source
        self._since = since
        self._contents: dict[str, Content] = {}

    def through(self, documents: Iterable[SourceDocument]) -> Iterator[SourceDocument]:
        """Pass documents on, and look at them."""
        for document in documents:
            self._contents.setdefault(document.parent, Content()).add(document)
            yield document

    def remember(self, collection: CollectionLike, record: SourceRecord, kept: Iterable[str]) -> None:
        """Write down what was read, and forget files that are not there any more.

        Parameters
        ----------
        collection : CollectionLike
            Holds the documents.
        record : SourceRecord
            How they were read.
        kept : iterable of str
            Files that were not read, because nothing has changed.
        """
        source, local = self._source, collection.local
        if local is None or source.kind == "rows":
            return
        remarks = set(source.skipped.replaced) | {line.partition(":")[0] for line in source.skipped.lines}
        remarks.update(name for names in source.skipped.files.values() for name in names)
        if source.wants_images:
            remarks.update(source.skipped.scans)  # another model might read them
        reader, rows = _reader(record), []
        for name, stamp in source.stamps.items():
            content = self._contents.get(source.parent_of(name))
            settled = max(stamp[1:]) < self._since - _SETTLED
            if content is not None and settled and name not in remarks:
                rows.append((record.name, name, *stamp, reader, content.documents, content.digest))
        with local.connection() as connection:
            there = has_table(connection, READ_FILES)
            names = f"SELECT name FROM {READ_FILES} WHERE source = ?"
            known = [name for (name,) in connection.execute(names, (record.name,))] if there else []
        still = set(kept) | {row[1] for row in rows}
        gone = [(record.name, name) for name in known if source.in_scope(name) and name not in still]
        if not rows and not gone:
            return
        with local.connection(write=True) as connection:
            connection.execute(_TABLE)
            connection.executemany(f"DELETE FROM {READ_FILES} WHERE source = ? AND name = ?", gone)
            connection.executemany(f"INSERT OR REPLACE INTO {READ_FILES} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def forget_files(collection: CollectionLike, source: str) -> None:
    """Remove what is remembered of the files of a source; harmless if there is nothing."""
    local = collection.local
    if local is None:
        return
    with local.connection() as connection:
        if not has_table(connection, READ_FILES):
            return
    with local.connection(write=True) as connection:
        connection.execute(f"DELETE FROM {READ_FILES} WHERE source = ?", (source,))


def now() -> int:
    """Return the time that `Reading` is told, in nanoseconds."""
    return time.time_ns()


def _reader(record: SourceRecord) -> str:
    """Return what changes with the way in which a file becomes documents."""
    text = json.dumps([__version__, asdict(record)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
