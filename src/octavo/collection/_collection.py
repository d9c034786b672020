"""The public face: `open` a collection, add documents to it, search it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from octavo._arrays import as_matrix, check_directions, unit_rows
from octavo._progress import progress_bar
from octavo.collection._tuning import TuningMethods
from octavo.collection.token_input import is_sized, token_encoder_for
from octavo.compression import Codec
from octavo.encoders.dense import TextOnly, as_encoder, check_fingerprint, fingerprint
from octavo.encoders.tokens import TokenEncoder, is_multi_vector
from octavo.errors import CollectionLockedError, InputTypeError, MismatchError, ParameterError, StorageError
from octavo.filters import parse_filter
from octavo.retrievers.search import (
    FilterLike,
    slots_of_ids,
)
from octavo.store.documents import Batch, DocumentLike, check_ids, read_batches
from octavo.store.settings import Settings
from octavo.store.snapshot import Snapshot
from octavo.store.store import Store, delete_files
from octavo.store.upkeep.copy import copy_collection
from octavo.store.upkeep.erase import erase_leftovers

#: Vectors that wait as float32 within one `add` before the codec is fitted without waiting for the end of the call.
_FIT_AT_MOST = 16_384

#: A collection compacts itself when more than this many slots, and more than half of them, are dead.
_COMPACT_DEAD = 10_000

#: Documents from which on an `add` links all of them into the graph before it returns; those of smaller ones wait.
_LINK_AT_ONCE = 4_096


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
    >>> import octavo
    >>> kb = octavo.open(codec="int8")
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
    from octavo.collection._multi_vector import MultiVectorCollection  # which is built on this module

    if path is not None and not isinstance(path, str | os.PathLike):
        raise InputTypeError(f"expected path as a str or path-like, or None, got {type(path).__name__}")
    directory = Path(path).expanduser() if path is not None else None
    if directory is None or not Store.exists(directory):  # an encoder that cannot be used must not leave a directory
        encoder = _wrapped(encoder, late=bool(settings.multi_vector))
    store = Store(directory, settings)
    try:
        if store.settings.multi_vector:
            return MultiVectorCollection(store, token_encoder_for(store, encoder))
        return Collection(store, _wrapped(encoder, late=False))
    except BaseException:
        store.close()
        raise


def _wrapped(encoder: Any, *, late: bool) -> Any:
    if encoder is None or not late:
        return as_encoder(encoder) if encoder is not None else None
    return encoder if isinstance(encoder, TokenEncoder) else TokenEncoder(encoder)


class Collection(TuningMethods):
    """Documents with compressed vectors, on disk or in memory. Made by `octavo.open`; safe to use from many threads.

    Attributes
    ----------
    path : Path or None
        The directory; None in memory.
    """

    _fit_at_most = _FIT_AT_MOST

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
            Ready vectors; otherwise the encoder makes them from the texts. With neither, a collection holds texts that are
            searched by their words alone (``mode="text"``).
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
        if isinstance(self._encoder, TextOnly) and self.dim is None:
            self._encoder = None  # a call that failed before it stored anything decides nothing
        if vectors is None and self._encoder is None:
            self._encode_nothing()
        if is_sized(vectors) and len(vectors):
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

    def _encode_nothing(self) -> None:
        """Let texts be stored without an encoder, to be searched by their words, where no vectors are."""
        stored = self._stored_fingerprint()
        if (stored["name"] if stored is not None else None) != (TextOnly.name if self.dim is not None else None):
            raise ParameterError(
                "expected vectors=, because the collection holds vectors and was opened without an encoder; give either of them"
            )
        self._encoder = TextOnly()

    def _add_batches(self, batches: Iterator[Batch]) -> list[str]:
        added: list[str] = []
        for batch in batches:
            self._writer.add(self._ready(batch), self._fingerprint_to_store())
            added += batch.ids
            self._fit_or_compact(self._fit_at_most)
            self._graph.keep_up()
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

    def compact(self, *, secure: bool = False) -> int:
        """Drop the rows of deleted documents from every file; returns how many there were.

        Parameters
        ----------
        secure : bool, default=False
            Leave no byte of a deleted document in any file of the collection: everything is written anew, even where
            nothing is dead, and all older files are deleted at once, the full-text index with them (the next search by
            words builds it again). ``SECURITY.md`` says what no program can promise: disks, file systems and backups
            may keep copies of their own, and a fitted codec keeps averages; `refit` before this learns new ones.

        Raises
        ------
        CollectionLockedError
            With `secure`: another process keeps old content in use. Close the collection there and call this again.
        """
        if secure:
            self._graph.wait()  # or it might save what it has read of the old rows
        dropped = self._writer.compact(always=secure)
        if self._store.directory is not None:
            if secure:
                erase_leftovers(self._store)
            else:
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

    def snapshot(self, path: str | os.PathLike[str]) -> Path:
        """Write a backup of the newest commit to a new directory, while others may go on writing.

        It is a collection like any other, and shares no file with this one. `octavo.restore` brings it back. It appears
        at `path` in one step, complete and on disk: a process that is killed before leaves nothing there.

        Parameters
        ----------
        path : str or path-like
            A directory that does not exist or is empty.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        ParameterError
            When there is something at `path`.
        CorruptCollectionError
            When a vector file does not match its checksums: damage is not copied.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputTypeError(f"expected path as a str or path-like, got {type(path).__name__}")
        destination = Path(path).expanduser().absolute()
        copy_collection(self._store, destination)
        return destination

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

    # ------------------------------------------------------------------ inside

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
        self._fit_or_compact(fit_after)
        if self._graph.behind(self._store.snapshot):
            self._graph.catch_up()

    def _fit_or_compact(self, fit_after: int | None) -> None:
        # The write that this follows is durable, and must not fail where there is no space for more; the next one tries again.
        with contextlib.suppress(StorageError, CollectionLockedError):
            snapshot = self._store.snapshot
            if fit_after is not None and not snapshot.fitted and snapshot.n_alive >= fit_after:
                self._writer.fit()
            snapshot = self._store.snapshot
            if snapshot.dead > max(_COMPACT_DEAD, snapshot.n_slots // 2):
                self._writer.compact()

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


def _with_progress(batches: Iterator[Batch], documents: Any) -> Iterator[Batch]:
    with progress_bar("add", len(documents) if is_sized(documents) else None) as advance:
        for batch in batches:
            yield batch
            advance(len(batch))


def _check_batch_size(batch_size: Any) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ParameterError(f"expected batch_size as an integer of at least 1, got {batch_size!r}")
