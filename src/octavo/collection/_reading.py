"""The reading half of a collection: what it is, what it holds, and search."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._progress import progress_bar
from octavo.encoders.dense import Encoder, TextOnly, check_fingerprint
from octavo.errors import CorruptCollectionError, DocumentNotFoundError, InputTypeError, ParameterError
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import (
    FilterLike,
    Mode,
    Queries,
    Searcher,
    SearchOptions,
    check_k,
    fresh,
    read_documents,
    slots_of_ids,
)
from octavo.store.database import select_documents
from octavo.store.documents import Document, check_ids, chunked
from octavo.store.graph_files import GraphFiles
from octavo.store.info import CollectionInfo, describe
from octavo.store.snapshot import Snapshot
from octavo.store.store import Store
from octavo.store.text.files import TextFiles
from octavo.store.upkeep.export import export_store
from octavo.store.upkeep.verify import VerifyReport, repair_damage, verify_files
from octavo.store.writer import Writer, decode_rows

_READ_CHUNK = 900


class ReadingMethods:
    """Everything of `Collection` that changes nothing."""

    def __init__(self, store: Store, encoder: Encoder | None) -> None:
        self.path = store.directory
        self._encoder = encoder
        self._store = store
        self._writer = Writer(self._store)
        self._graph = GraphFiles(self._store)
        self._text = TextFiles(self._store)
        self._searcher = self._new_searcher()
        self._fingerprint = self._stored_fingerprint()
        try:
            if self._encoder is not None and self._fingerprint is not None:
                with contextlib.suppress(NotImplementedError):  # an encoder that can only be awaited
                    check_fingerprint(self._fingerprint, self._encoder)
        except BaseException:
            self._store.close()
            raise
        if self._graph.behind(self._store.snapshot):
            self._graph.start()

    def _new_searcher(self) -> Searcher:
        return Searcher(self._store, self._text)

    # ------------------------------------------------------------------ what it is

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors as they come in; None before the first."""
        return self._store.snapshot.dim or self._store.settings.dim

    @property
    def metric(self) -> str:
        """``"cosine"`` or ``"dot"``."""
        return self._store.settings.metric or "cosine"

    @property
    def codec(self) -> str:
        """The codec string."""
        return self._store.snapshot.codec_text

    @property
    def encoder(self) -> Encoder | None:
        """What turns texts into vectors, if one was given."""
        return self._encoder

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._store.closed

    def __repr__(self) -> str:
        where = repr(str(self.path)) if self.path is not None else "in memory"
        state = "closed" if self.closed else f"{len(self):,} documents"
        return f"<octavo.Collection {where}, codec {self.codec!r}, {state}>"

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self.contains([identifier])[0]

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in the order asked; ids that are not there are left out."""
        listed = check_ids(ids)
        with self._store.read() as (connection, _):
            slots = slots_of_ids(connection, listed)
            documents = read_documents(connection, sorted(slots.values()))
        found: list[Document] = []
        used: set[int] = set()
        for identifier in listed:
            slot = slots.get(identifier)
            if slot is not None:
                document = documents[slot][0]
                found.append(fresh(document) if slot in used else document)  # asked for twice: they share nothing
                used.add(slot)
        return found

    def get_payloads(self, ids: Iterable[str]) -> list[str | None]:
        """Return the payloads of these ids, in the order asked; None where there is no document or no payload."""
        listed = check_ids(ids)
        with self._store.read() as (connection, _):
            payloads: dict[str, str | None] = dict(select_documents(connection, "id, payload", "id", listed))
        return [payloads.get(identifier) for identifier in listed]

    def get_vectors(self, ids: Iterable[str]) -> Floats:
        """Return the stored vectors, decoded from the finest tier.

        Returns
        -------
        ndarray of shape (len(ids), dim), float32
            In the order asked. Of unit length (nearly) where the metric is cosine.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, snapshot):
            slots = slots_of_ids(connection, listed)
            missing = [identifier for identifier in listed if identifier not in slots]
            if missing:
                raise DocumentNotFoundError(
                    f"expected ids of stored documents, but {missing[0]!r} is not in the collection"
                )
            if not listed:
                return np.zeros((0, self.dim or 0), np.float32)
            rows = np.array([slots[identifier] for identifier in listed], np.int64)
            if not 0 <= int(rows.min()) <= int(rows.max()) < snapshot.n_slots:
                raise CorruptCollectionError("octavo.db is damaged: a document lies beyond the last row; run verify()")
            return decode_rows(snapshot, rows)

    def contains(self, ids: Iterable[str]) -> list[bool]:
        """Tell for each id whether it is there."""
        listed = check_ids(ids)
        with self._store.read() as (connection, _):
            slots = slots_of_ids(connection, listed)
        return [identifier in slots for identifier in listed]

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents (that match)."""
        with self._store.read() as (connection, snapshot):
            mask = self._searcher.mask(connection, snapshot, filter)
            return int(np.count_nonzero(mask)) if mask is not None else snapshot.n_alive

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return the ids of all documents (that match), oldest version first."""
        with self._store.read() as (connection, snapshot):
            mask = self._searcher.mask(connection, snapshot, filter)
            rows = connection.execute("SELECT slot, id FROM documents ORDER BY slot").fetchall()
        if not np.array_equal([slot for slot, _ in rows], np.flatnonzero(snapshot.alive)):
            raise CorruptCollectionError("octavo.db is damaged: documents are missing from its table; run verify()")
        return [identifier for slot, identifier in rows if mask is None or mask[slot]]

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield all documents (that match), oldest version first, a few hundred in memory at a time."""
        for part in chunked(self.ids(filter), _READ_CHUNK):
            yield from self.get(part)

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        text: str | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the k best documents for one query.

        Parameters
        ----------
        query : str or array-like of shape (dim,)
            A text (the encoder makes its vector), or a vector.
        k : int, default=10
            Results; if n documents match the filter, min(k, n) come back.
        filter : dict, filter or callable, optional
            Which documents may come back: the dict form (``{"year": {"$gte": 2020}}``), a tree of
            `octavo.filters`, or a function from `Document` to bool, which has to look at every document.
        ids : iterable of str, optional
            Only these documents may come back.
        mode : {"dense", "text", "hybrid"}, default="dense"
            Vectors, BM25 full text, or both fused.
        text : str, optional
            The words to look for, when `query` is a vector or when they should differ from it.
        alpha : float, optional
            Hybrid: weight of the vectors in a convex combination of the two scores; 0 is text alone and 1 vectors alone,
            exactly. None (default) fuses by reciprocal rank.
        fusion : {"rrf", "convex"}, default="rrf"
            Hybrid: how the rankings are fused when `alpha` does not say so.
        fetch_k : int, optional
            MMR: candidates to choose from (default ``max(20, 4 * k)``). Hybrid: depth of both rankings (default
            ``max(100, 4 * k)``).
        lambda_mult : float, optional
            Choose by maximal marginal relevance: 1 is relevance alone, 0 the greatest diversity.
        oversample : float, optional
            Candidates rescored per result; only codecs with more than one tier rescore.
        ef : int, optional
            Nodes that the graph search keeps in view; more finds more and takes longer.
        exact : bool, optional
            True scores every document in the finest tier; False uses the graph wherever there is one.

        Returns
        -------
        SearchResult
            ``.ids``, ``.scores`` (higher is better), ``.documents``; iterates as hits.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            When an argument cannot be used; the message says which and why.
        """
        options = SearchOptions(mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 1)
        queries = self._queries([query], [text] if text is not None else None, options)
        listed = check_ids(ids) if ids is not None else None
        return self._run(queries, check_k(k), filter, listed, options)[0]

    def search_batch(
        self,
        queries: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        texts: Sequence[str] | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> list[SearchResult]:
        """Find the k best documents for each of many queries, on all cores.

        Parameters
        ----------
        queries : sequence of str, or array-like of shape (m, dim)
            Texts or vectors.
        texts : sequence of str, optional
            The words to look for, one for each query, when the queries are vectors.
        k, filter, ids, mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact
            See `search`.

        Returns
        -------
        list of SearchResult
            One for each query, all from the same committed state.
        """
        if isinstance(queries, str):
            raise InputTypeError("expected a sequence of queries, got a single str; use search(), or put it in a list")
        options = SearchOptions(mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 0)
        if len(queries) == 0:
            self._store.require_open()
            return []
        listed = check_ids(ids) if ids is not None else None
        return self._run(self._queries(queries, texts, options), check_k(k), filter, listed, options)

    def info(self) -> CollectionInfo:
        """Return what the collection holds and what it takes: documents, bytes in RAM and on disk, codec, encoder."""
        with self._store.read() as (connection, snapshot):
            return describe(self._store, connection, snapshot, self._encoder)

    def verify(self, repair: bool = False) -> VerifyReport:
        """Read every file and compare it with its checksum.

        Parameters
        ----------
        repair : bool, default=False
            Rebuild what can be rebuilt: a tier from another tier or, with an encoder, from the texts; graph, metadata
            index and full text from the documents.

        Returns
        -------
        VerifyReport
            ``.ok``, ``.problems`` and ``.repaired``, each a sentence that names the file.
        """
        if repair:
            return repair_damage(self._store, self._writer, self._graph, self._text, self._given_encoder())
        return verify_files(self._store, self._text)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: Literal["float32", "float16"] = "float32",
        progress: bool = False,
    ) -> Path:
        """Write the newest commit as JSON lines and ``.npy`` arrays that any tool reads; `octavo.import_from` reads them back.

        Others may go on writing meanwhile. Takes little memory however large the collection is. Tables that adapters keep
        beside the documents are left out.

        Parameters
        ----------
        path : str or path-like
            A directory that does not exist or is empty; it appears in one step, complete.
        dtype : {"float32", "float16"}, default="float32"
            How the vectors, decoded from the finest tier, are written.
        progress : bool, default=False
            Show a progress bar.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        ParameterError
            When there is something at `path`, or `dtype` is another.
        CorruptCollectionError
            When something does not match its checksum.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputTypeError(f"expected path as a str or path-like, got {type(path).__name__}")
        destination = Path(path).expanduser().absolute()
        if not progress:
            export_store(self._store, destination, dtype=dtype)
            return destination
        with progress_bar("export", len(self)) as advance:
            export_store(self._store, destination, dtype=dtype, advance=advance)
        return destination

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Return the encoder's vectors for documents, of shape ``(len(texts), dim)``, as the encoder gives them."""
        return self._require_encoder().encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Return the encoder's vectors for queries, of shape ``(len(texts), dim)``, as the encoder gives them."""
        return self._require_encoder().encode_queries(texts)

    @contextlib.contextmanager
    def connection(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the collection's database inside a transaction, for adapters that keep tables there.

        Parameters
        ----------
        write : bool, default=False
            Take the write lock and commit on leaving.
        """
        self._store.require_open()
        if write:
            with self._store.database.write() as connection:
                yield connection
        else:
            with self._store.database.read() as connection:
                yield connection

    def join_writes(self, callback: Callable[[sqlite3.Connection, Sequence[str], Sequence[str]], None]) -> None:
        """Call `callback(connection, added_ids, deleted_ids)` inside every later write transaction of this object.

        An exception in it rolls the transaction back. Registering the same callback twice has no effect.
        """
        self._writer.join(callback)

    # ------------------------------------------------------------------ inside

    def _current(self) -> Snapshot:
        with self._store.read() as (_, snapshot):
            return snapshot

    def _run(
        self, queries: Queries, k: int, where: FilterLike, ids: Sequence[str] | None, options: SearchOptions
    ) -> list[SearchResult]:
        if self._graph.behind(self._store.snapshot):
            self._graph.start()
        return self._searcher.search(queries, k, where, ids, options)

    def _queries(self, queries: Any, texts: Sequence[str] | None, options: SearchOptions) -> Queries:
        strings = isinstance(queries, list | tuple) and any(isinstance(query, str) for query in queries)
        if strings and not all(isinstance(query, str) for query in queries):
            raise InputTypeError("expected queries all as str or all as vectors, got a mixture")
        words: Sequence[str] | None = texts if texts is not None else (queries if strings else None)
        if texts is not None and options.mode == "dense":
            raise ParameterError("text belongs to mode='text' or 'hybrid', got mode='dense'")
        if words is not None and (len(words) != len(queries) or not all(isinstance(word, str) for word in words)):
            raise ParameterError(f"expected one text for each of {len(queries)} queries, got {len(words)}")
        if options.mode != "dense" and words is None:
            raise ParameterError(
                f"mode={options.mode!r} needs words: give the query as a str, or text= beside the vector"
            )
        if options.mode == "text" and options.lambda_mult is None:
            return Queries(None, words)
        if strings:
            if self._encoder is None:
                raise ParameterError(
                    "expected a query vector, because the collection was opened without an encoder; open it with one, or "
                    "search by words with mode='text'"
                )
            vectors = self._encoder.encode_queries(list(queries))
        else:
            vectors = queries
        matrix = as_matrix(vectors, self.dim, "the query" if len(queries) == 1 else "queries")
        return Queries(unit_rows(matrix, "queries") if self.metric == "cosine" else matrix, words)

    def _given_encoder(self) -> Any:
        """Return the encoder as the caller knows it."""
        return self._encoder

    def _require_encoder(self) -> Encoder:
        if self._encoder is None:
            stored = self._stored_fingerprint()
            if stored is not None and stored["name"] == TextOnly.name:
                return TextOnly()
            raise ParameterError("the collection was opened without an encoder; open it with encoder=")
        return self._encoder

    def _stored_fingerprint(self) -> dict[str, Any] | None:
        with self._store.read() as (connection, _):
            row = connection.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
        return json.loads(row[0]) if row else None
