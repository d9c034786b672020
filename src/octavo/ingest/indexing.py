"""Bring a collection up to date with a source: add what is new, replace what changed, leave the rest alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from octavo._validation import check_integer
from octavo.collection import CollectionLike
from octavo.errors import ParameterError
from octavo.ingest.sources import SOURCE_FIELD, Found, SourceDocument
from octavo.store.documents import Document, chunked, metadata_to_tagged

_log = logging.getLogger(__name__)

#: Ids deleted at a time.
_DELETED_AT_ONCE = 1_000


@dataclass
class IngestReport:
    """How many documents (chunks count as documents) were added, replaced, left alone and removed."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    changed_files: list[str] = field(
        default_factory=list
    )  # files or rows of which something was added, replaced or removed


class Ingest:
    """One run over a source.

    Parameters
    ----------
    collection : CollectionLike
        Opened with an encoder, unless nothing is to be written.
    source : str
        Name of the source. Documents of other sources are never touched.
    batch_size : int, default=256
        Documents encoded and committed at a time. Each batch is all or nothing.
    write : bool, default=True
        False only counts what would be done.
    adopt : bool, default=False
        Take over documents of other sources, or of none, that have the same ids; else they are an error.
    recut : bool, default=False
        The source was cut into chunks of another size before, or not at all.

    Attributes
    ----------
    report : IngestReport
        What was done so far.
    """

    def __init__(
        self,
        collection: CollectionLike,
        source: str,
        *,
        batch_size: int = 256,
        write: bool = True,
        adopt: bool = False,
        recut: bool = False,
    ) -> None:
        self._collection = collection
        self._source = source
        self._batch_size = check_integer(batch_size, "batch_size", least=1)
        self._write = write
        self._adopt = adopt
        self._recut = recut
        self.report = IngestReport()

    def run(self, documents: Iterable[SourceDocument]) -> IngestReport:
        """Write documents that are new or differ from what is stored, and remove chunks that a file no longer has.

        Parameters
        ----------
        documents : iterable of SourceDocument
            Streamed, a batch at a time; those of one parent after each other.

        Raises
        ------
        ParameterError
            When an id belongs to a document of another source. Batches before it are written.
        """
        ids: dict[str, set[str]] = {}  # of parents that are not done yet
        batch: list[SourceDocument] = []
        last: str | None = None
        for document in documents:
            if document.parent != last and len(batch) >= self._batch_size:
                self._put(batch)
                self._drop_stale(ids)
                batch, ids = [], {}
            elif len(batch) >= self._batch_size:  # in the middle of a long file
                self._put(batch)
                batch = []
            last = document.parent
            ids.setdefault(document.parent, set()).add(document.id)
            batch.append(document)
        self._put(batch)
        self._drop_stale(ids)
        return self.report

    def remove(self, ids: Iterable[str]) -> int:
        """Remove documents of the source."""
        removed = 0
        for part in chunked(list(ids), _DELETED_AT_ONCE):
            removed += self._collection.delete(part) if self._write else len(part)
        self.report.removed += removed
        return removed

    def _put(self, batch: list[SourceDocument]) -> None:
        if not batch:
            return
        stored = {document.id: document for document in self._collection.get([document.id for document in batch])}
        self._check_owner(stored)
        changed = [document for document in batch if _differs(stored.get(document.id), document)]
        if changed and self._write:
            self._collection.add(
                [document.text if document.image is None else document.image for document in changed],
                ids=[document.id for document in changed],
                metadata=[document.metadata for document in changed],
                batch_size=self._batch_size,
                **self._context_of(changed),
            )
        replaced = sum(document.id in stored for document in changed)
        self.report.updated += replaced
        self.report.added += len(changed) - replaced
        self.report.unchanged += len(batch) - len(changed)
        self._note(document.parent for document in changed)
        _log.info("%d documents read, %d of them written", len(batch), len(changed))

    @staticmethod
    def _context_of(documents: list[SourceDocument]) -> dict[str, Any]:
        """Return what is embedded in place of texts, and looked into for words, if anything is."""
        embedded = [document.embed_text if document.image is None else None for document in documents]
        return {"embed_texts": embedded, "embed_words": True} if any(text is not None for text in embedded) else {}

    def _check_owner(self, stored: dict[str, Document]) -> None:
        if self._adopt:
            return
        for document in stored.values():
            owner = document.metadata.get(SOURCE_FIELD)
            if owner != self._source:
                raise taken(document.id, owner)

    def _drop_stale(self, ids: dict[str, set[str]]) -> None:
        """Remove the documents of these files or rows that were not among those read."""
        if not self._recut:  # a row that is a document of its own has nothing else
            ids = {parent: found for parent, found in ids.items() if found != {parent}}
        if not ids:
            return
        read = set().union(*ids.values())
        stale = [identifier for identifier in self._stored_of(list(ids)) if identifier not in read]
        self.remove(stale)

    def _stored_of(self, parents: list[str]) -> Iterator[str]:
        where = {SOURCE_FIELD: self._source}
        yield from self._collection.ids(filter={"$and": [where, {"document": {"$in": parents}}]})
        if not self._recut:
            return
        whole = [document for document in self._collection.get(parents) if "document" not in document.metadata]
        yield from (document.id for document in whole if document.metadata.get(SOURCE_FIELD) == self._source)

    def _note(self, parents: Iterable[str]) -> None:
        known = self.report.changed_files
        for parent in parents:
            if not known or known[-1] != parent:
                known.append(parent)


@dataclass(frozen=True)
class Gone:
    """Documents of a source whose file or row is there no more.

    Parameters
    ----------
    ids : list of str
        Of the documents.
    parents : list of str
        Their files or rows, sorted.
    of : int
        How many files or rows of the source the collection has documents of, those that are gone among them.
    """

    ids: list[str]
    parents: list[str]
    of: int

    @property
    def is_large(self) -> bool:
        """Whether more than a third would go: a wrong folder, or one that is not mounted?"""
        return 3 * len(self.parents) > self.of


def find_gone(
    collection: CollectionLike,
    source: str,
    found: Found,
    scope: str = "",
    look: Callable[[str, Document], object] = lambda parent, document: None,
) -> Gone:
    """Compare what a collection has of a source with what is there now.

    Parameters
    ----------
    collection : CollectionLike
        To be looked through.
    source : str
        Name of the source.
    found : Found
        What there is.
    scope : str
        Compare only what lies at or below this path of a folder.
    look : callable, optional
        Shown each document that was compared, with its file or row.
    """
    ids: list[str] = []
    parents: dict[str, bool] = {}
    inside = f"{source}/{scope}"
    for document in collection.documents(filter={SOURCE_FIELD: source}):
        parent = document.metadata.get("document", document.id)
        if not isinstance(parent, str) or (scope and parent != inside and not parent.startswith(inside + "/")):
            continue
        look(parent, document)
        gone = not found.has(parent)
        parents[parent] = gone
        if gone:
            ids.append(document.id)
    return Gone(ids, sorted(parent for parent, gone in parents.items() if gone), len(parents))


def check_owners(collection: CollectionLike, source: str, ids: Iterable[str]) -> None:
    """Look for ids that belong to documents of another source, before anything is written.

    Raises
    ------
    ParameterError
        When there is one.
    """
    for part in chunked(list(ids), 512):
        for document in collection.get(part):
            owner = document.metadata.get(SOURCE_FIELD)
            if owner != source:
                raise taken(document.id, owner)


def taken(identifier: str, owner: Any) -> ParameterError:
    """Return the error about an id of another source."""
    belongs = f"the source {owner!r}" if isinstance(owner, str) else "no source: it was added by a program"
    another = f"--source {owner} brings that source up to date with this file; " if isinstance(owner, str) else ""
    return ParameterError(
        f"the collection has a document with the id {identifier!r} already, and it belongs to {belongs}. {another}"
        "--adopt makes documents with the same ids part of this source and replaces them; or use another collection"
    )


def _differs(stored: Document | None, document: SourceDocument) -> bool:
    if stored is None or (stored.text, stored.embed_text) != (document.text, document.embed_text):
        return True
    # As JSON, because Python takes 1, 1.0 and True for the same.
    return _json(stored.metadata) != _json(document.metadata)


def _json(value: Any) -> str:
    return json.dumps(metadata_to_tagged(value), sort_keys=True)
