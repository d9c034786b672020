"""The public face: `open` a collection, add documents to it, search it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from quire.compression import Codec
from quire.errors import DocumentNotFoundError, InputTypeError, MismatchError, ParameterError
from quire.retrievers.results import SearchResult
from quire.retrievers.search import (
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
from quire.store import (
    Batch,
    CollectionInfo,
    Document,
    DocumentLike,
    Encoder,
    Floats,
    GraphKeeper,
    Settings,
    Snapshot,
    Store,
    TextKeeper,
    TokenEncoder,
    VerifyReport,
    Writer,
    as_encoder,
    as_matrix,
    check_directions,
    check_fingerprint,
    check_ids,
    chunked,
    copy_collection,
    decode_rows,
    delete_files,
    describe,
    fingerprint,
    is_multi_vector,
    parse_filter,
    read_batches,
    repair_damage,
    unit_rows,
    verify_files,
)

#: Vectors that wait as float32 within one `add` before the codec is fitted without waiting for the end of the call.
_FIT_AT_MOST = 16_384

#: A collection compacts itself when more than this many slots, and more than half of them, are dead.
_COMPACT_DEAD = 10_000

#: Documents from which on an `add` links all of them into the graph before it returns; those of smaller ones wait.
_LINK_AT_ONCE = 4_096

_READ_CHUNK = 900


def open(
    path: str | os.PathLike[str] | None = None,
    encoder: Any = None,
    *,
    codec: str | None = None,
    metric: Literal["cosine", "dot"] | None = None,
    dim: int | None = None,
    full_text: str | None = None,
    fit_after: int | None = None,
    seed: int | None = None,
    connectivity: int | None = None,
    read_only: bool = False,
    must_exist: bool = False,
    lock_timeout: float = 30.0,
) -> Collection:
    """Create a collection, or open the one that is there.

    Parameters
    ----------
    path : str or path-like, optional
        The collection's directory. None keeps everything in memory, with the same behaviour, until `close`.
    encoder : str, callable or object, optional
        Turns texts into vectors: the name or path of a sentence-transformers model, such a model, LangChain
        ``Embeddings``, a LlamaIndex ``BaseEmbedding``, or a callable from a list of texts to an array of shape
        ``(n, dim)``. Not needed when vectors are given.
    codec : str, optional
        How vectors are compressed, for instance ``"int8"`` (the default), ``"binary > int8"`` or
        ``"svd:50%|float8 > int8"``. An existing collection keeps its own.
    metric : {"cosine", "dot"}, default="cosine"
        ``cosine`` normalises vectors once, on the way in; ``dot`` takes them as they are.
    dim : int, optional
        Dimension of the vectors; otherwise the first ones set it.
    full_text : str, default="english"
        Language whose stemmer the full-text index uses, or ``"plain"`` for none.
    fit_after : int, default=1000
        Documents from which on the codec is fitted. Before that, vectors are kept as float32 and searched exactly.
    seed : int, default=0
        Seed of everything random: the sample that the codec is fitted on, rotations.
    connectivity : int, default=16
        Links per node of the graph.
    read_only : bool, default=False
        Refuse writes; works on a read-only file system once the last writer has closed the collection.
    must_exist : bool, default=False
        Raise instead of creating a collection.
    lock_timeout : float, default=30.0
        Seconds to wait for another writer before `CollectionLockedError`.

    Returns
    -------
    Collection
        Close it, or use it as a context manager.

    Raises
    ------
    CollectionNotFoundError
        When there is none and `must_exist` or `read_only` was set.
    MismatchError
        When it was made with another encoder, codec, metric or dimension.
    CorruptCollectionError
        When a file is damaged.

    Examples
    --------
    >>> import quire
    >>> kb = quire.open(codec="int8")
    >>> kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]])
    ['r', 'g']
    >>> kb.search([0.9, 0.1], k=1).ids
    ['r']
    >>> kb.close()
    """
    settings = Settings(
        codec=codec,
        metric=metric,
        dim=dim,
        full_text=full_text,
        fit_after=fit_after,
        seed=seed,
        connectivity=connectivity,
        read_only=read_only,
        must_exist=must_exist,
        lock_timeout=lock_timeout,
        multi_vector=True if is_multi_vector(encoder) else None,
    )
    return open_store(path, encoder, settings)


def open_store(path: str | os.PathLike[str] | None, encoder: Any, settings: Settings) -> Collection:
    """Open the store and put the collection of its kind in front of it."""
    from quire.collection._multi_vector import MultiVectorCollection  # which is built on this module

    if path is not None and not isinstance(path, str | os.PathLike):
        raise InputTypeError(f"expected path as a str or path-like, or None, got {type(path).__name__}")
    directory = Path(path).expanduser() if path is not None else None
    if directory is None or not Store.exists(directory):  # an encoder that cannot be used must not leave a directory
        encoder = _wrapped(encoder, late=bool(settings.multi_vector))
    store = Store(directory, settings)
    try:
        if store.settings.multi_vector:
            return MultiVectorCollection(store, _wrapped(encoder, late=True))
        return Collection(store, _wrapped(encoder, late=False))
    except BaseException:
        store.close()
        raise


def _wrapped(encoder: Any, *, late: bool) -> Any:
    if encoder is None or not late:
        return as_encoder(encoder) if encoder is not None else None
    return encoder if isinstance(encoder, TokenEncoder) else TokenEncoder(encoder)


class Collection:
    """Documents with compressed vectors, on disk or in memory. Made by `quire.open`; safe to use from many threads.

    Attributes
    ----------
    path : Path or None
        The directory; None in memory.
    """

    _fit_at_most = _FIT_AT_MOST

    def __init__(self, store: Store, encoder: Encoder | None) -> None:
        self.path = store.directory
        self._encoder = encoder
        self._store = store
        self._writer = Writer(self._store)
        self._graph = GraphKeeper(self._store)
        self._text = TextKeeper(self._store)
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
        return f"<quire.Collection {where}, codec {self.codec!r}, {state}>"

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self.contains([identifier])[0]

    # ------------------------------------------------------------------ writing

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 1024,
        progress: bool = False,
    ) -> list[str]:
        """Insert documents, replacing those whose id is already there.

        Parameters
        ----------
        documents : iterable of str, Document or mapping
            Texts; or mappings with ``"text"`` and optionally ``"id"`` and ``"metadata"``. May be a stream. None stores
            vectors without texts.
        ids : iterable of str, optional
            Ids, each once; new random ones where None.
        metadata : iterable of mapping, optional
            One JSON object for each document.
        vectors : array-like of shape (n, dim), optional
            Ready vectors; otherwise the encoder makes them from the texts.
        payloads : iterable of str, optional
            Opaque strings stored beside the documents, for adapters; they cannot be searched.
        batch_size : int, default=1024
            Documents encoded and committed at a time. Each batch is all or nothing.
        progress : bool, default=False
            Show a progress bar.

        Returns
        -------
        list of str
            The ids, in order. When this returns, the documents survive ``kill -9`` and power loss.

        Raises
        ------
        InvalidVectorsError
            NaN, infinity, another dimension, or a zero vector under cosine.
        ParameterError, InputTypeError
            Anything else about the input. Inputs with a length are checked as a whole before anything is written; of a
            stream, the batches before the bad one stay.
        """
        self._store.require_open()
        _check_batch_size(batch_size)
        if vectors is None and self._encoder is None:
            raise ParameterError(
                "expected vectors=, because the collection was opened without an encoder; give either of them"
            )
        if _is_sized(vectors) and len(vectors):
            vectors = as_matrix(vectors, self.dim)
            if self.metric == "cosine":
                check_directions(vectors)
        batches = read_batches(
            documents,
            ids,
            metadata,
            vectors,
            payloads,
            batch_size=batch_size,
            dim=self.dim if vectors is not None else None,
        )
        return self._add_batches(_with_progress(batches, documents) if progress else batches)

    def _add_batches(self, batches: Iterator[Batch]) -> list[str]:
        added: list[str] = []
        for batch in batches:
            self._writer.add(self._ready(batch), self._fingerprint_to_store())
            added += batch.ids
            self._maintain(self._fit_at_most)
        self._maintain(self._store.settings.fit_after or 1)
        if len(added) >= _LINK_AT_ONCE:
            self._graph.catch_up(tail=0)  # after a long add a little more work spares every search the scan of the tail
        return added

    def delete(self, ids: Iterable[str] | None = None, filter: FilterLike = None) -> int:
        """Delete documents by id, by filter, or those that both name.

        Parameters
        ----------
        ids : iterable of str, optional
            Ids that are not there are no error; an empty list deletes nothing.
        filter : dict, filter or callable, optional
            See `search`.

        Returns
        -------
        int
            How many were deleted.

        Raises
        ------
        ParameterError
            When neither is given; `clear` deletes everything.
        """
        if ids is None and filter is None:
            raise ParameterError("expected ids or filter, got neither; to delete every document call clear()")
        listed = check_ids(ids) if ids is not None else None

        def choose(connection: sqlite3.Connection, snapshot: Snapshot) -> list[int]:
            mask = self._searcher.mask(connection, snapshot, filter)
            if listed is None:
                return np.flatnonzero(mask).tolist() if mask is not None else []
            slots = slots_of_ids(connection, listed).values()
            return [slot for slot in slots if mask is None or mask[slot]]

        if listed is None and not callable(filter) and parse_filter(filter) is None:
            raise ParameterError(
                "expected a filter with a condition, got an empty one; to delete every document call clear()"
            )
        deleted = self._writer.delete(choose)
        self._maintain(None)
        return deleted

    def clear(self) -> int:
        """Delete every document; returns how many there were. The codec stays fitted."""
        deleted = self._writer.delete(None)
        self._maintain(None)
        return deleted

    def fit(self) -> None:
        """Fit the codec now, on what is stored, instead of waiting for `fit_after` documents; no-op when it is fitted."""
        if not self._current().fitted:
            self.refit()

    def refit(self, codec: str | None = None) -> None:
        """Fit the codec anew on a sample of what is stored, and re-encode everything.

        Vectors are decoded from the finest tier first, so what an earlier codec dropped stays dropped: to change to a
        finer codec without that loss, build a new collection from the texts.

        Parameters
        ----------
        codec : str, optional
            Another codec to change to.

        Raises
        ------
        ParameterError
            When the collection is empty.
        """
        self._writer.fit(str(Codec.parse(codec)) if codec is not None else None)
        self._graph.catch_up()

    def compact(self) -> int:
        """Drop the rows of deleted documents from every file; returns how many there were."""
        dropped = self._writer.compact()
        if self._store.directory is not None and not self._store.settings.read_only:
            self._store.database.vacuum()
        self._graph.catch_up()
        return dropped

    def copy(self, path: str | os.PathLike[str] | None = None) -> Collection:
        """Copy the collection as of its newest commit, while others may go on writing to it.

        Parameters
        ----------
        path : str or path-like, optional
            A directory that does not exist or is empty; None copies into memory.

        Returns
        -------
        Collection
            The copy, opened with the same encoder.

        Raises
        ------
        ParameterError
            When there is something at `path`.
        """
        if path is None:
            copied = copy_collection(self._store, None)
            assert copied is not None  # a copy in memory has no path to open it from
            return type(self)(copied, self._given_encoder())
        copy_collection(self._store, Path(path).expanduser())
        settings = Settings(lock_timeout=self._store.settings.lock_timeout)
        return type(self)(Store(Path(path).expanduser(), settings), self._given_encoder())

    def destroy(self) -> None:
        """Close the collection and delete its files; other files in the directory stay, and so does the directory then."""
        directory = self._store.directory
        self._graph.wait()
        self._store.close()
        if directory is not None:
            delete_files(directory)

    def flush(self) -> None:
        """Save the graph, so that the next `open` need not extend it. Documents are durable without this."""
        self._store.require_open()
        self._graph.wait()
        self._graph.catch_up(tail=0)
        self._graph.checkpoint()

    def close(self) -> None:
        """Save the graph and release all files; harmless when closed already."""
        if self._store.closed:
            return
        self._graph.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ reading

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
        payloads: dict[str, str | None] = {}
        with self._store.read() as (connection, _):
            for part in chunked(listed, _READ_CHUNK):
                marks = ",".join("?" * len(part))
                rows = connection.execute(f"SELECT id, payload FROM documents WHERE id IN ({marks})", part)
                payloads.update(rows.fetchall())
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
            return decode_rows(snapshot, np.array([slots[identifier] for identifier in listed], np.int64))

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
            `quire.store.filters`, or a function from `Document` to bool, which has to look at every document.
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
        with self._store.read() as (connection, snapshot):
            return verify_files(self._store, connection, snapshot, self._text)

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

    def _ready(self, batch: Batch) -> Batch:
        """Return the batch with vectors that are finite, of the right dimension, and of unit length for cosine."""
        if batch.ready:
            return batch
        if batch.vectors is None:
            batch.vectors = self._require_encoder().encode_documents(batch.texts)
        batch.vectors = as_matrix(batch.vectors, self.dim)
        if self.metric == "cosine":
            batch.vectors = unit_rows(batch.vectors)
        batch.ready = True
        return batch

    def _maintain(self, fit_after: int | None) -> None:
        """Fit, compact and extend the graph where it is time to."""
        snapshot = self._store.snapshot
        if fit_after is not None and not snapshot.fitted and snapshot.n_alive >= fit_after:
            self._writer.fit()
        snapshot = self._store.snapshot
        if snapshot.dead > max(_COMPACT_DEAD, snapshot.n_slots // 2):
            self._writer.compact()
        if self._graph.behind(self._store.snapshot):
            self._graph.catch_up()

    def _given_encoder(self) -> Any:
        """Return the encoder as the caller knows it."""
        return self._encoder

    def _require_encoder(self) -> Encoder:
        if self._encoder is None:
            raise ParameterError("the collection was opened without an encoder; open it with encoder=")
        return self._encoder

    def _stored_fingerprint(self) -> dict[str, Any] | None:
        with self._store.read() as (connection, _):
            row = connection.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
        return json.loads(row[0]) if row else None

    def _fingerprint_to_store(self) -> dict[str, Any] | None:
        """Return the encoder's fingerprint when the collection has none yet."""
        if self._encoder is None or self._fingerprint is not None:
            return None
        stored = self._stored_fingerprint()  # another process may have been first
        if stored is None:
            try:
                self._fingerprint = fingerprint(self._encoder)
            except NotImplementedError:  # an encoder that can only be awaited
                return None
            if self.dim is not None and self._fingerprint["dim"] != self.dim:
                found, self._fingerprint = self._fingerprint, None
                raise MismatchError(
                    f"the collection holds vectors of dimension {self.dim}, but encoder {found['name']!r} makes "
                    f"{found['dim']}; give vectors of the encoder's dimension or open the collection without it"
                )
            return self._fingerprint
        check_fingerprint(stored, self._encoder)
        self._fingerprint = stored
        return None


def _is_sized(value: Any) -> bool:
    return value is not None and (hasattr(value, "__len__") or hasattr(value, "__array__"))


def _with_progress(batches: Iterator[Batch], documents: Any) -> Iterator[Batch]:
    from tqdm import tqdm  # comes with usearch, and is as slow to import

    with tqdm(total=len(documents) if _is_sized(documents) else None, unit="docs", desc="add") as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def _check_batch_size(batch_size: Any) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ParameterError(f"expected batch_size as an integer of at least 1, got {batch_size!r}")
