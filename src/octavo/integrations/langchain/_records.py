"""A record manager for `langchain_core.indexing.index` whose records live in the collection's own database.

``index()`` adds documents and records them in two steps, and deletes them in two steps. With a record manager
elsewhere, a crash between the two leaves documents that nobody knows of, or records of documents that are gone and will
never be indexed again. Here:

- A record counts only while its document is stored: both are in one database, and every question joins the two.
- Deleting a document deletes its record in the same transaction.
- Adding a document that ``index()`` has just asked for adds a *pending* record in the same transaction; the step that
  follows in ``index()`` fills in the source and confirms it. What stays pending belongs to a run that died: a later run
  confirms it when the document is still in the source, and cleans it up otherwise.

So whatever run dies where, the next one ends with exactly the documents that the source holds.
"""

from __future__ import annotations

import asyncio
import enum
import json
import math
import time
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
from langchain_core.indexing import RecordManager

from octavo import Collection, _forks
from octavo._validation import check_integer
from octavo.collection import CollectionLike
from octavo.collection.protocol import require_local
from octavo.errors import InputTypeError, ParameterError
from octavo.integrations.langchain._vectorstore import OctavoVectorStore
from octavo.store.documents import check_ids
from octavo.store.sqlite import Connection

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS langchain_records (
        namespace TEXT NOT NULL, key TEXT NOT NULL, group_id TEXT, updated_at REAL NOT NULL, pending INTEGER NOT NULL,
        PRIMARY KEY (namespace, key)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS langchain_records_by_time ON langchain_records (namespace, updated_at)",
    "CREATE INDEX IF NOT EXISTS langchain_records_by_key ON langchain_records (key)",
)

_STORED = "EXISTS (SELECT 1 FROM documents WHERE documents.id = langchain_records.key)"


class OctavoRecordManager(RecordManager):
    """Keep track of indexed documents, in the same database as the documents themselves.

    Parameters
    ----------
    store : OctavoVectorStore or Collection
        The store that is given to ``index()``; it should be the same object, so that adding a document and recording it
        are one transaction.
    namespace : str, default="default"
        Separates independent indexing jobs over one collection.

    Raises
    ------
    ReadOnlyError
        When the collection was opened for reading.
    ParameterError
        When the documents lie in Qdrant, which has no transactions to share.

    Examples
    --------
    >>> from langchain_core.documents import Document
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> from langchain_core.indexing import index
    >>> from octavo.integrations.langchain import OctavoVectorStore
    >>> store = OctavoVectorStore(DeterministicFakeEmbedding(size=8))
    >>> records = OctavoRecordManager(store)
    >>> pages = [Document(page_content="one"), Document(page_content="two")]
    >>> index(pages, records, store, cleanup="full", key_encoder="sha256")["num_added"]
    2
    >>> index(pages[:1], records, store, cleanup="full", key_encoder="sha256")["num_deleted"]
    1
    """

    def __init__(self, store: OctavoVectorStore | Collection, namespace: str = "default") -> None:
        if isinstance(store, OctavoVectorStore):
            given: CollectionLike = store._collection
        elif isinstance(store, CollectionLike):
            given = store
        else:
            raise InputTypeError(f"expected an OctavoVectorStore or a Collection, got {type(store).__name__}")
        if not isinstance(namespace, str):
            raise InputTypeError(f"expected namespace as a str, got {type(namespace).__name__}")
        instead = "use a record manager of LangChain's own, which keeps its records elsewhere"
        collection = require_local(given, "OctavoRecordManager", instead)
        super().__init__(namespace)
        self._collection = collection
        self._lock = _forks.Lock()
        self._last_time = 0.0
        self._announced: set[str] = set()
        self.create_schema()
        collection.join_writes(self._on_write)

    def create_schema(self) -> None:
        """Create the table; harmless when it is there (the constructor has done it)."""
        with self._collection.connection(write=True) as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    async def acreate_schema(self) -> None:
        """Create the table, off the event loop."""
        await asyncio.to_thread(self.create_schema)

    def get_time(self) -> float:
        """Return the time in seconds, later than every record and earlier answer, even when the clock goes back."""
        with self._collection.connection() as connection:
            return self._tick(connection)

    async def aget_time(self) -> float:
        """Return the time, off the event loop; see `get_time`."""
        return await asyncio.to_thread(self.get_time)

    def _tick(self, connection: Connection) -> float:
        row = connection.execute(
            "SELECT max(updated_at) FROM langchain_records WHERE namespace = ?", (self.namespace,)
        ).fetchone()
        with self._lock:
            latest = max(self._last_time, row[0] or 0.0)
            self._last_time = max(time.time(), math.nextafter(latest, math.inf))
            return self._last_time

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[Any] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Record that documents are up to date.

        Parameters
        ----------
        keys : sequence of str
            Ids of documents; those that are not stored are not recorded.
        group_ids : sequence, optional
            The source of each document: a str or None, a number, a date or time, a UUID, a path, an Enum, bytes or a tuple
            of them. Without it, the sources recorded before are kept.
        time_at_least : float, optional
            A time that must not lie in the future.

        Raises
        ------
        ParameterError
            When there are not as many group ids as keys, or `time_at_least` lies in the future.
        """
        listed = check_ids(keys, "keys")
        if group_ids is not None and len(group_ids) != len(listed):
            raise ParameterError(f"expected as many group_ids as keys, got {len(group_ids)} for {len(listed)} keys")
        now = self.get_time()
        if time_at_least is not None and now < time_at_least:
            raise ParameterError(f"expected time_at_least to be in the past, got {time_at_least} at {now}")
        groups = [_group(value) for value in group_ids] if group_ids is not None else [None] * len(listed)
        # A refresh without sources leaves a pending record pending: it still lacks its source.
        conflict = (
            "group_id = excluded.group_id, updated_at = excluded.updated_at, pending = 0"
            if group_ids is not None
            else "updated_at = excluded.updated_at"
        )
        with self._collection.connection(write=True) as connection:
            connection.executemany(
                "INSERT INTO langchain_records SELECT ?, ?, ?, ?, 0 "
                "WHERE EXISTS (SELECT 1 FROM documents WHERE id = ?) "
                f"ON CONFLICT (namespace, key) DO UPDATE SET {conflict}",
                [(self.namespace, key, group, now, key) for key, group in zip(listed, groups, strict=True)],
            )
        with self._lock:
            self._announced.difference_update(listed)

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[Any] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Record that documents are up to date, off the event loop; see `update`."""
        await asyncio.to_thread(self.update, keys, group_ids=group_ids, time_at_least=time_at_least)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Tell for each key whether it is recorded and its document is stored."""
        listed = check_ids(keys, "keys")
        with self._collection.connection() as connection:
            rows = connection.execute(
                "SELECT key FROM langchain_records WHERE namespace = ? AND key IN (SELECT value FROM json_each(?)) AND "
                + _STORED,
                (self.namespace, json.dumps(listed)),
            ).fetchall()
        known = {row[0] for row in rows}
        with self._lock:  # `index` adds the missing ones next
            self._announced.update(key for key in listed if key not in known)
        return [key in known for key in listed]

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """Tell for each key whether it is recorded and stored, off the event loop."""
        return await asyncio.to_thread(self.exists, keys)

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return the keys of recorded documents, oldest first.

        Parameters
        ----------
        before, after : float, optional
            Only records updated before or after this time, exclusively.
        group_ids : sequence, optional
            Only records of these sources, as they were given to `update`; none for an empty sequence. Together with
            `before`, which asks what to clean up, also what a run that died has left pending.
        limit : int, optional
            At most so many.
        """
        where = ["namespace = ?", _STORED]
        values: list[object] = [self.namespace]
        if before is not None:
            where.append("updated_at < ?")
            values.append(before)
        if after is not None:
            where.append("updated_at > ?")
            values.append(after)
        if group_ids is not None:
            pending = " OR pending" if before is not None and len(group_ids) else ""
            where.append(f"(group_id IN (SELECT value FROM json_each(?)){pending})")
            values.append(json.dumps([_group(value) for value in group_ids]))
        values.append(
            -1 if limit is None else check_integer(limit, "limit", least=0)
        )  # SQLite reads a negative limit as none
        with self._collection.connection() as connection:
            rows = connection.execute(
                f"SELECT key FROM langchain_records WHERE {' AND '.join(where)} ORDER BY updated_at, key LIMIT ?",
                values,
            ).fetchall()
        return [row[0] for row in rows]

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return the keys of recorded documents, off the event loop; see `list_keys`."""
        return await asyncio.to_thread(self.list_keys, before=before, after=after, group_ids=group_ids, limit=limit)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Forget records; the documents stay."""
        listed = check_ids(keys, "keys")
        with self._collection.connection(write=True) as connection:
            connection.executemany(
                "DELETE FROM langchain_records WHERE namespace = ? AND key = ?",
                [(self.namespace, key) for key in listed],
            )
        with self._lock:
            self._announced.difference_update(listed)

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """Forget records, off the event loop; the documents stay."""
        await asyncio.to_thread(self.delete_keys, keys)

    def _on_write(self, connection: Connection, added: Sequence[str], deleted: Sequence[str]) -> None:
        """Take part in the transaction that adds or deletes documents."""
        connection.executemany("DELETE FROM langchain_records WHERE key = ?", [(key,) for key in deleted])
        with self._lock:
            announced = [key for key in added if key in self._announced]
        if announced:
            now = self._tick(connection)
            connection.executemany(
                "INSERT INTO langchain_records VALUES (?, ?, NULL, ?, 1) "
                "ON CONFLICT (namespace, key) DO UPDATE SET updated_at = excluded.updated_at",
                [(self.namespace, key, now) for key in announced],
            )


#: Begins the group of a source that is no str, so that 5 and "5" stay two sources. No str that is stored begins so by itself.
_TYPED = "\x1foctavo:"


def _group(source: Any) -> str | None:
    """Return a source as text, equal for equal sources, as Python has it: what metadata holds may be numbers and more.

    Raises
    ------
    InputTypeError
        When there is no text that tells it from others.
    """
    if source is None:
        return None
    if isinstance(source, str):
        text = str.__str__(source)
        return _TYPED + f"str:{text}" if text.startswith(_TYPED) else text
    return _TYPED + _described(source)


def _described(source: Any) -> str:
    if isinstance(source, np.generic):
        source = source.item()
    if isinstance(source, enum.Enum) and not isinstance(source, int | float):
        return f"{type(source).__qualname__}.{source.name}"
    if isinstance(source, int | float | Decimal):  # True == 1 == 1.0
        whole = math.isfinite(source) and source == int(source)
        return f"number:{int(source)}" if whole else f"number:{float(source)!r}"
    if isinstance(source, date):
        return f"time:{source.isoformat()}"
    if isinstance(source, UUID | PurePath):
        return f"{'uuid' if isinstance(source, UUID) else 'path'}:{source}"
    if isinstance(source, bytes):
        return f"bytes:{source.hex()}"
    if isinstance(source, tuple | list):
        return json.dumps(["tuple", *(_group(item) for item in source)])
    raise InputTypeError(
        f"expected the source of a document as a str, number, date, time, UUID, path, Enum, bytes or tuple, got "
        f"{type(source).__name__} {source!r}; give source_id_key a function that returns str(source)"
    )
