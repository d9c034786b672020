"""Bring a collection up to date with a source: add what is new, replace what changed, leave the rest alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from octavo._validation import check_integer
from octavo.collection import CollectionLike
from octavo.ingest.sources import SourceDocument
from octavo.store.documents import Document, metadata_to_tagged


@dataclass
class IngestReport:
    """How many documents (chunks count as documents) were added, replaced, left alone and removed."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0


def ingest(
    collection: CollectionLike,
    documents: Iterable[SourceDocument],
    *,
    batch_size: int = 256,
    prune: bool = False,
    advance: Callable[[int], object] = lambda n: None,
) -> IngestReport:
    """Write documents that are new or differ from what is stored; what is stored already is not encoded again.

    Parameters
    ----------
    collection : Collection or QdrantCollection
        Opened with an encoder.
    documents : iterable of SourceDocument
        Streamed, a batch at a time.
    batch_size : int, default=256
        Documents encoded and committed at a time. Each batch is all or nothing.
    prune : bool, default=False
        At the end, remove every document of the collection that was not among `documents`. Chunks that a document no
        longer has are removed in any case.
    advance : callable, optional
        Told the number of documents done after each batch.

    Returns
    -------
    IngestReport
    """
    batch_size = check_integer(batch_size, "batch_size", least=1)
    report = IngestReport()
    seen: set[str] = set()
    parents: set[str] = set()
    stream = iter(documents)
    while batch := list(islice(stream, batch_size)):
        stored = {document.id: document for document in collection.get([document.id for document in batch])}
        changed = [document for document in batch if _differs(stored.get(document.id), document)]
        if changed:
            collection.add(
                [document.text for document in changed],
                ids=[document.id for document in changed],
                metadata=[document.metadata for document in changed],
                batch_size=batch_size,
            )
        replaced = sum(document.id in stored for document in changed)
        report.updated += replaced
        report.added += len(changed) - replaced
        report.unchanged += len(batch) - len(changed)
        seen.update(document.id for document in batch)
        parents.update(document.parent for document in batch)
        advance(len(batch))
    stale = [
        document.id
        for document in collection.documents()
        if document.id not in seen and (prune or document.metadata.get("document", document.id) in parents)
    ]
    if stale:
        report.removed = collection.delete(stale)
    return report


def _differs(stored: Document | None, document: SourceDocument) -> bool:
    if stored is None or stored.text != document.text:
        return True
    # As JSON, because Python takes 1, 1.0 and True for the same.
    return _json(stored.metadata) != _json(document.metadata)


def _json(value: Any) -> str:
    return json.dumps(metadata_to_tagged(value), sort_keys=True)
