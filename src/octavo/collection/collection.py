"""A collection: writing to it, reading from it, searching it."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._files import as_path
from octavo._html import notebook_table
from octavo._progress import progress_bar
from octavo._sparse_rows import SparseRows
from octavo._validation import check_integer, check_number
from octavo.collection.model_check import LocalSparse, LocalVectors, ModelCheck, prompts_of
from octavo.collection.models import LocalSpaces, Models, width
from octavo.collection.reencoding import Rate, Reencoder, TextsOf, check_options, new_codec, new_encoder
from octavo.collection.searching import DenseSearch, Where, check_deletion, check_filter
from octavo.collection.sparse_input import sized, with_sparse
from octavo.collection.token_input import is_sized
from octavo.compression import Codec
from octavo.encoders.dense import Encoder, TextOnly
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import (
    CollectionLockedError,
    CorruptCollectionError,
    OctavoError,
    ParameterError,
    StaleVectorsError,
    StorageError,
)
from octavo.retrievers import tuning
from octavo.retrievers.late_interaction import LateSearcher
from octavo.retrievers.ranker import Ranker
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import (
    FilterLike,
    Queries,
    Searcher,
    SearchOptions,
    read_documents,
    slots_of_ids,
    stored_slots,
)
from octavo.retrievers.tuning import TuningReport
from octavo.retrievers.two_spaces import Remembered, TwoSpaces
from octavo.store.database import ENCODED, ROW, SPARSE_ENCODED, read_notes, select_documents, to_embed, write_note
from octavo.store.derived import Follower
from octavo.store.documents import (
    Batch,
    Document,
    DocumentChanges,
    DocumentLike,
    check_ids,
    check_note,
    chunked,
    read_batches,
    read_made,
)
from octavo.store.indexes import index_of
from octavo.store.info import CollectionInfo, describe
from octavo.store.reencoding import PREFIX, SpaceChangedError
from octavo.store.settings import Settings
from octavo.store.snapshot import Snapshot, decode_rows
from octavo.store.sparse import SparseReader
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.text.files import TextFiles
from octavo.store.upkeep.copy import copy_collection
from octavo.store.upkeep.erase import erase_leftovers
from octavo.store.upkeep.export import export_store
from octavo.store.upkeep.verify import VerifyReport, repair_damage, verify_files
from octavo.store.writer import Outdated, RowChange, Update, Writer
from octavo.words import WordQuery

_log = logging.getLogger(__name__)

#: Vectors that wait as float32 within one `add` before the codec is fitted without waiting for the end of the call.
_FIT_AT_MOST = 16_384

#: A collection compacts itself when more than this many slots, and more than half of them, are dead.
_COMPACT_DEAD = 10_000

#: Documents from which on an `add` has all of them in the index before it returns; those of smaller ones wait.
_LINK_AT_ONCE = 4_096

_READ_CHUNK = 900

#: How often a search begins anew because the collection's model was changed meanwhile.
_CHANGES = 10
#: How often an update is tried while others change the same documents.
_ATTEMPTS = 20


class Collection(DenseSearch):
    """Documents with compressed vectors, on disk or in memory. Made by `octavo.open`; safe to use from many threads.

    Attributes
    ----------
    path : Path or None
        The directory; None in memory.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
    ...     len(kb), "r" in kb, kb.search([0.9, 0.1], k=1).ids
    (2, True, ['r'])
    """

    _fit_at_most = _FIT_AT_MOST

    def __init__(
        self,
        store: Store,
        encoder: Encoder | None,
        sparse_encoder: SparseEncoder | None = None,
        previous: Any = None,
    ) -> None:
        self.path = store.directory
        self._sparse_encoder = sparse_encoder
        self._store = store
        self._models = Models(LocalSpaces(store), encoder, previous)
        self._writer = Writer(self._store)
        self._index = index_of(self._store)
        self._writer.follow(self._index.take_over)
        self._text = TextFiles(self._store)
        self._searcher = self._new_searcher()
        # a state whose index reaches as far as it should; only as long as others use it, since it has files open
        self._settled: weakref.ref[Snapshot] | None = None
        self._model = self.model_check()
        self._model_of = self._opened_in = store.snapshot.space  # whose vectors it compares with
        self._remembered = Remembered()  # by searches of both
        self._second: tuple[Searcher, Follower] | None = None  # of the space that a change of the model fills
        self._sparse_model = ModelCheck(LocalSparse(self._store))
        self._index.begin()

    def _new_searcher(self) -> Searcher:
        return Searcher(self._store, self._text)

    @property
    def _encoder(self) -> Any:
        return self._models.encoder

    @_encoder.setter
    def _encoder(self, encoder: Any) -> None:
        self._models.encoder = encoder
        self._models.forget()

    # ------------------------------------------------------------------ what it is

    @property
    def local(self) -> Collection:
        """The collection itself: its documents lie in files of Octavo's own, or in memory."""
        return self

    @property
    def late(self) -> None:
        """None: it keeps one vector a document."""
        return None

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
        encoder: Encoder | None = self._models.any
        return encoder

    @property
    def space(self) -> int:
        """How many times the model was changed by now: vectors of another number are of another model."""
        return self._current().space

    @property
    def encodes_itself(self) -> bool:
        """Whether texts are left to the collection: its model is being changed, or was since it was opened; it has encoders."""
        if self.encoder is None:
            return False
        snapshot = self._current()
        return snapshot.space != self._opened_in or snapshot.next is not None or self._models.previous is not None

    @property
    def sparse_encoder(self) -> SparseEncoder | None:
        """What turns texts into learned sparse vectors, if one was given."""
        return self._sparse_encoder

    @property
    def has_sparse_vectors(self) -> bool:
        """Whether documents have learned sparse vectors."""
        return self._current().sparse is not None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._store.closed

    def __repr__(self) -> str:
        where = repr(str(self.path)) if self.path is not None else "in memory"
        state = "closed" if self.closed else f"{len(self):,} documents"
        return f"<octavo.Collection {where}, codec {self.codec!r}, {state}>"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), [], []) if self.closed else self.info()._repr_html_()

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
        embed_texts: Iterable[str | None] | None = None,
        embed_words: bool = False,
        sparse_vectors: Any = None,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 1024,
        progress: bool = False,
    ) -> list[str]:
        """Insert documents, replacing those whose id is already there.

        What the encoder has embedded already, under the same id, is not embedded again: of such a document metadata, payload
        and the text that is returned change where they lie, as by `update`.

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
        embed_texts : iterable of (str or None), optional
            What to make vectors of in place of the texts, such as the text with its title; kept, and given back as
            `Document.embed_text`, while the text stays what it is. None embeds the text itself.
        embed_words : bool, default=False
            Let searches by words look into `embed_texts` as well, in place of the texts.
        sparse_vectors : sparse matrix of scipy or torch, or iterable, optional
            Ready learned sparse vectors, one a document: ``{term: weight}``, ``(indices, values)``, or a row of scipy or torch;
            None for a document without any. Otherwise the sparse encoder makes them from the texts. Once a collection holds
            some, every later document has to come with one.
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
            NaN, infinity or another dimension. (A vector of zeros, as some models give for an empty text, is kept; under
            cosine its score is 0, give or take what the codec rounds.)
        ParameterError, InputTypeError
            Anything else about the input. Inputs with a length are checked as a whole before anything is written; of a
            stream, the batches before the bad one stay.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> kb.add([{"id": "r", "text": "a red apple", "metadata": {"year": 2020}}], vectors=[[1, 0]])
        ['r']
        >>> kb.add(["a ripe red apple"], ids=["r"], vectors=[[1, 0]])  # the id is there already: replaced
        ['r']
        >>> kb.get(["r"])
        [Document(id='r', text='a ripe red apple', metadata={})]
        >>> kb.close()
        """
        self._store.require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        if isinstance(self._encoder, TextOnly) and self.dim is None:
            self._encoder = None  # a call that failed before it stored anything decides nothing
        self._check_sparse_given(sparse_vectors)
        if documents is None and vectors is None and is_sized(sparse_vectors):
            documents = [""] * sized(sparse_vectors)
        if vectors is None and self._encoder is None:
            self._encode_nothing()
        batches = read_batches(
            documents,
            ids,
            metadata,
            vectors,
            payloads,
            batch_size=batch_size,
            dim=self.dim if vectors is not None else None,
            embed_texts=embed_texts,
            embed_words=embed_words,
        )
        if sparse_vectors is not None:
            batches = with_sparse(batches, sparse_vectors, documents if documents is not None else vectors)
        return self._add_batches(with_progress(batches, documents) if progress else batches)

    def embedded(self, ids: Sequence[str | None], texts: Sequence[str]) -> list[bool]:
        """Tell which documents have vectors that a model has made of these very texts, for adapters that embed by themselves.

        Whether that model is the one at hand, the caller finds out by `model_check`.

        Parameters
        ----------
        ids : sequence of (str or None)
            Ids of documents, which need not be there.
        texts : sequence of str
            What would be embedded of each.

        Returns
        -------
        list of bool
            True where embedding can be left out: see `add_embedded`.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> _ = kb.add(["red", "green"], ids=["r", "g"])
        >>> kb.embedded(["r", "g", "b"], ["red", "dark green", "blue"])
        [True, False, False]
        >>> kb.close()
        """
        self._store.require_open()
        if self._store.snapshot.n_alive == 0 or self._old_is_gone:
            return [False] * len(ids)
        wanted = ENCODED | SPARSE_ENCODED if self._sparse_encoder is not None else ENCODED
        with self._store.read() as (connection, _):
            named = [identifier for identifier in ids if identifier is not None]
            stored = {row[0]: row for row in select_documents(connection, ROW, "id", named)} if named else {}
        found = [(stored.get(identifier or ""), text) for identifier, text in zip(ids, texts, strict=True)]
        return [row is not None and row[5] & wanted == wanted and to_embed(row) == text for row, text in found]

    def add_embedded(
        self,
        documents: Iterable[DocumentLike],
        ids: Iterable[str | None],
        metadata: Iterable[Mapping[str, Any] | None],
        vectors: Sequence[Any],
        *,
        embed_texts: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert documents with vectors that a model has just made, for adapters that embed by themselves.

        As `add` with ready vectors, but that it is written down what they were made of: see `embedded`.

        Parameters
        ----------
        documents, ids, metadata, embed_texts, batch_size
            See `add`.
        vectors : sequence of (array-like or None)
            One for each document; in a collection for late interaction its token vectors. None where the document keeps those
            that it has, as `embedded` has told.

        Returns
        -------
        list of str
            The ids, in order.

        Raises
        ------
        StaleVectorsError
            When a document that was to keep its vectors is gone or has others by now; what was written of earlier batches
            stays. Embed all of them, and call again.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add_embedded(["red"], ["r"], [{"ripe": False}], [[1.0, 0.0]])
        >>> kb.embedded(["r"], ["red"])
        [True]
        >>> kb.add_embedded(["red", "green"], ["r", "g"], [{"ripe": True}, {}], [None, [0.0, 1.0]])
        ['r', 'g']
        >>> kb.get(["r"])[0].metadata
        {'ripe': True}
        >>> kb.close()
        """
        self._store.require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        made = read_made(documents, vectors, ids, metadata, batch_size=batch_size, embed_texts=embed_texts)
        parts = (part for _, part in made)
        return self._add_batches((batch for batch, _ in made), lambda batch: self._write_made(batch, next(parts)))

    def _write_made(self, batch: Batch, made: list[Any]) -> None:
        """Write a batch whose vectors were made elsewhere; None where a document keeps what it has."""
        kept = [row for row, vector in enumerate(made) if vector is None]
        known: dict[str, RowChange] = {}
        if kept:
            part = batch.part(kept)
            known = self._known(part)
            if missing := [identifier for identifier in part.ids if identifier not in known]:
                raise StaleVectorsError(missing[0])
            if (sparse := self._sparse_encoder) is not None:
                self._sparse_model.run(sparse.name, None, sparse.encode_documents)
        beside = Update(list(known.values())) if known else None
        rest = batch.part([row for row, vector in enumerate(made) if vector is not None])
        try:
            if len(rest):
                self._take(rest, [vector for vector in made if vector is not None])
                rest.flags = [flags | self._made_by_encoders(rest) for flags in rest.flags]
                rest = self._ready(rest)
                self._writer.add(rest, None, self._ready_sparse(rest), beside=beside)
            elif beside is not None:
                self._writer.update(beside)
        except Outdated as error:
            raise StaleVectorsError(str(error)) from error

    def _take(self, batch: Batch, vectors: list[Any]) -> None:
        """Give a batch vectors that were made elsewhere."""
        batch.vectors = as_matrix(vectors, self.dim)

    def _encode_nothing(self) -> None:
        """Let texts be stored without an encoder, to be searched by their words, where no vectors are."""
        stored = LocalVectors(self._store).read_encoder()
        if (stored["name"] if stored is not None else None) != (TextOnly.name if self.dim is not None else None):
            raise ParameterError(
                "expected vectors=, because the collection holds vectors and was opened without an encoder; give either of them"
            )
        self._encoder = TextOnly()

    def _add_batches(self, batches: Iterator[Batch], write: Callable[[Batch], object] | None = None) -> list[str]:
        added: list[str] = []
        for batch in batches:
            if write is not None:
                write(batch)
            elif batch.ready or batch.vectors is not None or batch.matrices is not None:
                batch = self._ready(batch)
                self._writer.add(batch, None, self._ready_sparse(batch))
            else:
                self._encode_and_add(batch)
            added += batch.ids
            with _afterwards("documents were added"):
                self._fit_or_compact(self._fit_at_most, ended=False)
                self._index.keep_up()
        with _afterwards("documents were added"):
            self._maintain(self._store.settings.fit_after or 1)
            if len(added) >= _LINK_AT_ONCE:
                self._index.catch_up(
                    tail=0
                )  # after a long add a little more work spares every search the scan of the tail
        return added

    def _encode_and_add(self, batch: Batch) -> None:
        """Make vectors of those documents of a batch that have none yet, and write all of them in one transaction."""
        known = self._already_encoded(batch)
        if known:
            rest = batch.part([row for row, identifier in enumerate(batch.ids) if identifier not in known])
            beside = Update([change for change in known.values() if change is not None])
            try:
                if len(rest):
                    self._write_encoded(rest, beside)
                else:
                    self._writer.update(beside)
            except Outdated:  # somebody was faster: none of them is known any more
                self._write_encoded(batch, None)
        else:
            self._write_encoded(batch, None)

    def _write_encoded(self, batch: Batch, beside: Update | None) -> None:
        given = list(batch.flags)
        for _ in range(_CHANGES):
            gone = self._old_is_gone
            if not gone and not isinstance(self._encoder, TextOnly):
                batch.flags = [flags | self._made_by_encoders(batch) for flags in given]
            before = self._store.snapshot
            batch.space = before.space
            try:
                try:
                    batch = self._ready(batch)
                    encoder = self._encoder_to_store(batch) if not gone else None
                except OctavoError as error:
                    self._require_unchanged(before, error)
                    raise
                self._writer.add(batch, encoder, self._ready_sparse(batch), beside=beside)
            except SpaceChangedError:  # by a change of the model that ended meanwhile
                batch.ready, batch.vectors, batch.matrices, batch.tokens = False, None, None, None
                batch.flags = list(given)
                self._current()
            else:
                return
        raise CollectionLockedError("the collection's model kept being changed while documents were added; try again")

    def _made_by_encoders(self, batch: Batch) -> int:
        """Return the flags of documents whose vectors are all made here."""
        if batch.sparse is not None:
            return 0
        return ENCODED | SPARSE_ENCODED if self._sparse_encoder is not None else ENCODED

    def _already_encoded(self, batch: Batch) -> dict[str, RowChange]:
        """Return, for documents whose vector the encoder has made of the very same text, what their rows are to become."""
        if self._old_is_gone:
            return {}
        encoder = self._require_encoder()
        known = self._known(batch) if not isinstance(encoder, TextOnly) else {}
        if known:
            self._checked_model().run(encoder.name, self.dim, encoder.encode_documents)
            if (sparse := self._sparse_encoder) is not None:
                self._sparse_model.run(sparse.name, None, sparse.encode_documents)
        return known

    def _known(self, batch: Batch) -> dict[str, RowChange]:
        """Return what the rows of those documents are to become whose vectors an encoder has made of the very same text."""
        wanted = self._made_by_encoders(batch)
        if self._store.snapshot.n_alive == 0 or not wanted:
            return {}
        with self._store.read() as (connection, _):
            stored = {row[0]: row for row in select_documents(connection, ROW, "id", batch.ids)}
        known: dict[str, RowChange] = {}
        for row in batch.rows() if stored else ():
            found = stored.get(row[0])
            if found is not None and found[5] & wanted == wanted and to_embed(row) == to_embed(found):
                known[row[0]] = RowChange((*row[:5], row[5] | wanted), found[-1])
        return known

    def update(
        self,
        ids: Iterable[str],
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        texts: Iterable[str | None] | None = None,
        *,
        payloads: Iterable[str | None] | None = None,
    ) -> None:
        """Change what is kept beside the vectors of documents, without encoding anything; all of them or none.

        A document keeps its vector, and its place in the order. Where its text changes, the earlier text stays what its vector
        is made of (`Document.embed_text`): `add` it to have the new one embedded.

        Parameters
        ----------
        ids : iterable of str
            Documents that are there, each once.
        metadata : iterable of mapping, optional
            For each of them the new metadata as a whole; None leaves them as they are.
        texts : iterable of str, optional
            For each the new text; None leaves it as it is.
        payloads : iterable of str, optional
            For each the new payload; None leaves it as it is.

        Raises
        ------
        DocumentNotFoundError
            When one of them is not there.
        ParameterError, InputTypeError
            Anything else about the input.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> _ = kb.add(["red apple", "green pear"], ids=["a", "p"], metadata=[{"ripe": False}, {"ripe": False}])
        >>> kb.update(["a"], metadata=[{"ripe": True}])
        >>> kb.search("apple", filter={"ripe": True}).documents
        [Document(id='a', text='red apple', metadata={'ripe': True})]
        >>> kb.close()
        """
        self._store.require_open()
        changes = DocumentChanges.read(ids, metadata, texts, payloads)
        for attempts_left in reversed(range(_ATTEMPTS)):
            with self._store.read() as (connection, _):
                stored = {row[0]: row for row in select_documents(connection, ROW, "id", changes.ids)}
            rows = [RowChange(row, stored[row[0]][-1]) for row in changes.applied(stored)]
            try:
                self._writer.update(Update(rows))
            except Outdated:
                if not attempts_left:
                    raise CollectionLockedError(
                        "the documents kept changing while they were being updated; try again"
                    ) from None
            else:
                return

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
            When neither is given, or a condition of the filter is empty; `clear` deletes everything.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]], metadata=[{"n": 1}, {"n": 2}])
        >>> kb.delete(["r", "not there"]), kb.delete(filter={"n": {"$gt": 1}}), len(kb)
        (1, 1, 0)
        >>> kb.close()
        """
        listed, where = check_deletion(ids, filter)

        def choose(connection: Connection, snapshot: Snapshot) -> list[int]:
            mask = self._searcher.mask(connection, snapshot, where)
            if listed is None:
                return np.flatnonzero(mask).tolist() if mask is not None else []
            slots = slots_of_ids(connection, listed).values()
            return [slot for slot in slots if mask is None or mask[slot]]

        deleted = self._writer.delete(choose)
        with _afterwards("documents were deleted"):
            self._maintain(None)
        return deleted

    def clear(self) -> int:
        """Delete every document. The codec stays fitted.

        Returns
        -------
        int
            How many there were.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.clear(), len(kb)
        (2, 0)
        >>> kb.close()
        """
        deleted = self._writer.delete(None)
        with _afterwards("documents were deleted"):
            self._maintain(None)
        return deleted

    def fit(self) -> None:
        """Fit the codec now, on what is stored, instead of waiting for `fit_after` documents; no-op when it is fitted.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.fit()
        >>> kb.info().fitted
        True
        >>> kb.close()
        """
        if not self._current().fitted:
            self.refit()

    def refit(self, codec: str | None = None) -> None:
        """Fit the codec anew on a sample of what is stored, and re-encode everything.

        Originals that are kept beside the codes (`info().originals`: up to 16,384 documents, then a sample) are encoded afresh.
        Other vectors are decoded from the finest tier first, so what an earlier codec dropped stays dropped: to change to a
        finer codec without that loss, build a new collection from the texts.

        Parameters
        ----------
        codec : str, optional
            Another codec to change to.

        Raises
        ------
        ParameterError
            When the collection is empty.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.refit("float16")
        >>> kb.codec
        'float16'
        >>> kb.close()
        """
        text = str(Codec.parse(codec)) if codec is not None else None
        if self._current().fitted:  # what the first codec has dropped makes vectors differ from fresh ones
            self._checked_model().refitted()
        self._writer.fit(text)
        self._index.start()

    def set_full_text(self, full_text: str | Callable[[str], Iterable[str]]) -> None:
        """Change what makes words of texts; the next search by words indexes all texts anew.

        Parameters
        ----------
        full_text : str or callable
            As in `octavo.open`. Other processes that have the collection open follow; a function they have to be given anew.

        Raises
        ------
        ParameterError, InputTypeError
            When it cannot be used.
        MissingExtraError
            When a library that it names is not installed.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["crème brûlée", "flying birds"])
        >>> len(kb.search("creme", mode="text")), len(kb.search("bird", mode="text"))
        (0, 1)
        >>> kb.set_full_text("plain|fold-accents")
        >>> len(kb.search("creme", mode="text")), len(kb.search("bird", mode="text"))
        (1, 0)
        >>> kb.close()
        """
        self._store.require_open()
        Settings(full_text=full_text).analysis()  # its library is there
        self._writer.set_full_text(full_text)

    def reencode(
        self,
        encoder: Any,
        codec: str | None = None,
        *,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        previous: Any = None,
        progress: bool = False,
    ) -> None:
        """Change the collection's model: encode all its texts with another one, while it is searched and written to.

        The new vectors are written beside the old ones, batch by batch, and take their place in one commit when they are
        complete. Whatever ends this call before (a kill, an exception of the encoder, such as a rate limit), call it again
        with the same encoder and codec: it goes on where it was. What others add, replace or delete meanwhile is followed.
        Other processes that search should hold both models: ``octavo.open(path, encoder=NEW, previous=OLD)``; those that hold
        the old one alone go on with its vectors, and are told at the end. ``docs/change-model.md`` says what it costs.

        From one vector a document to many (an encoder for late interaction), or back: at the end this object is closed, since
        it is of the other kind; open the collection again.

        Parameters
        ----------
        encoder : str, callable or object
            The new model, as in `octavo.open`. The old one again makes sense for another codec: nothing that the present one
            has dropped stays dropped. With the present codec as well there is nothing to do.
        codec : str, optional
            For the new vectors; by default the one that the collection has.
        batch_size : int, default=256
            Documents encoded and committed at a time.
        rate : str, optional
            At most so many documents in a time, such as ``"500/min"`` or ``"10/s"``.
        serve : {"both", "old"}, default="both"
            What answers searches by text meanwhile: the vectors of both models together, or the old ones alone. Ready vectors
            as queries are compared with the old ones.
        previous : str, callable or object, optional
            The model that made the present vectors, if the collection was opened without it: for searches of this object.
        progress : bool, default=False
            Show a progress bar.

        Raises
        ------
        MismatchError
            When it is being re-encoded already, with another model or codec.
        ParameterError
            When a document has no text, or somebody has cancelled meanwhile.
        StorageError
            When the disk has no room for the new vectors beside the old ones. Nothing was changed.
        CollectionLockedError
            When another process is re-encoding it.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> _ = kb.add(["red", "green"])
        >>> kb.reencode(lambda texts: [[text.count("e"), text.count("r"), 1.0] for text in texts])
        >>> kb.dim, kb.search("green", k=1)[0].text
        (3, 'green')
        >>> kb.close()
        """
        self.reencode_texts(None, encoder, codec, batch_size, rate, serve, previous=previous, progress=progress)

    def reencode_texts(
        self,
        texts_of: TextsOf | None,
        encoder: Any,
        codec: str | None = None,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        *,
        previous: Any = None,
        progress: bool = False,
    ) -> None:
        """Change the collection's model as `reencode` does, for adapters that embed something else than the stored text.

        Parameters
        ----------
        texts_of : callable or None
            Returns what the encoder is given of some documents.
        encoder, codec, batch_size, rate, serve, previous, progress
            See `reencode`.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> _ = kb.add(["red"])
        >>> kb.reencode_texts(lambda documents: ["dark " + document.text for document in documents], kb.encoder, "float32")
        >>> f"{kb.get_vectors(kb.ids())[0, 0]:.2f}"
        '0.99'
        >>> kb.close()
        """
        self._store.require_open()
        batch_size, chosen = check_options(batch_size, serve)
        pace = Rate.parse(rate)
        late = bool(self._store.settings.multi_vector)
        coming = new_encoder(encoder, late=late)
        if previous is not None:
            self._models.previous = new_encoder(previous, late=late)
            self._models.forget()
        snapshot = self._current()
        if codec is None and snapshot.reencoding is not None:
            codec = snapshot.reencoding.codec
        text = new_codec(codec, self._store.settings, snapshot.codec_text, late=isinstance(coming, TokenEncoder))
        other_kind = late != isinstance(coming, TokenEncoder)
        if other_kind and (self.path is None or not snapshot.n_alive):
            raise ParameterError(
                "a collection in memory, or without documents, keeps its kind of vectors: one a document, or many; re-encode a "
                "copy(path) of it, or create a new one"
            )
        if snapshot.next is None and not snapshot.n_alive and self._writer.start_over({"codec": text}):
            self._changed_to(coming)
            return
        if snapshot.next is None and text == snapshot.codec_text and self._models.has_made(coming):
            self._changed_to(coming)  # it was done before
            return
        work = Reencoder(self._store, self._writer, coming, text, batch_size, pace, chosen, texts_of)
        work.resume(snapshot)
        try:
            with progress_bar("reencode", snapshot.n_alive, shown=progress) as advance:
                if snapshot.reencoding is not None:
                    advance(min(snapshot.reencoding.encoded, snapshot.n_alive))
                self._reencode(work, coming, advance)
        finally:
            if self._store.snapshot.next is None:
                self._forget_second()
        if other_kind:
            self._models.coming = None
            self.close()
        else:
            self._changed_to(coming)

    def _reencode(self, work: Reencoder, coming: Any, advance: Callable[[int], object]) -> None:
        old = self._models.maker()
        while True:
            done = work.step()
            self._models.coming = coming
            self._models.assign(old, coming)
            if done is not None:
                advance(done)
            fitted = work.fit()
            snapshot = self._store.snapshot
            if snapshot.next is not None:
                _, index = self._beside(snapshot)
                index.keep_up()
                if done is None and not fitted:
                    index.complete()
            if done is None and not fitted and self._writer.finish_reencoding():
                return

    def _changed_to(self, encoder: Any) -> None:
        """Go on with another model."""
        self._models.coming = None
        self._encoder = encoder
        self._settled = None
        self._checked_model().settled = True  # it is the one
        with _afterwards("the collection was re-encoded"):
            if self._index.behind(self._store.snapshot):
                self._index.catch_up()

    def cancel_reencode(self) -> bool:
        """Give up a change of the model: drop the new vectors that are there, and go on with the old ones.

        Returns
        -------
        bool
            Whether one was under way. After its end there is nothing to go back to but `reencode` with the old model.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> kb.cancel_reencode()
        False
        >>> kb.close()
        """
        cancelled = self._writer.cancel_reencoding()
        self._models.coming = None
        self._models.forget()
        self._forget_second()
        return cancelled

    def compact(self, *, secure: bool = False) -> int:
        """Drop the rows of deleted documents from every file.

        Parameters
        ----------
        secure : bool, default=False
            Leave no byte of a deleted document in any file of the collection: everything is written anew, even where
            nothing is dead, and all older files are deleted at once, the full-text index with them (the next search by
            words builds it again). ``SECURITY.md`` says what no program can promise: disks, file systems and backups
            may keep copies of their own, and a fitted codec keeps averages; `refit` before this learns new ones.

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        CollectionLockedError
            With `secure`: another process keeps old content in use. Close the collection there and call this again.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.delete(["r"]), kb.compact()
        (1, 1)
        >>> kb.close()
        """
        if secure:
            self._index.wait()  # or it might save what it has read of the old rows
            if self._second is not None:
                self._second[1].wait()
        dropped = self._writer.compact(always=secure)
        if self._store.directory is not None:
            if secure:
                erase_leftovers(self._store)
            else:
                self._store.database.vacuum()
        self._index.start()
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

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> trial = kb.copy()
        >>> trial.delete(["r"]), len(trial), len(kb)
        (1, 1, 2)
        >>> trial.close()
        >>> kb.close()
        """
        if path is None:
            copied = copy_collection(self._store, None)
            assert copied is not None  # a copy in memory has no path to open it from
            return self._beside_it(copied)
        destination = as_path(path, "path")
        copy_collection(self._store, destination)
        here = self._store.settings
        settings = Settings(lock_timeout=here.lock_timeout, full_text=here.analyser)
        return self._beside_it(Store(destination, settings))

    def _beside_it(self, store: Store) -> Self:
        """Return a copy with the same encoders."""
        copy = type(self)(store, self._encoder, self._sparse_encoder, self._models.previous)
        copy._models.coming = self._models.coming
        return copy

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

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = kb.snapshot(folder.name + "/backup")
        >>> with octavo.open(path, read_only=True) as backup:
        ...     len(backup)
        2
        >>> folder.cleanup()
        >>> kb.close()
        """
        destination = as_path(path, "path")
        copy_collection(self._store, destination)
        return destination

    def destroy(self) -> None:
        """Close the collection and delete its files; other files in the directory stay, and so does the directory then.

        Examples
        --------
        >>> import os, tempfile, octavo
        >>> folder = tempfile.TemporaryDirectory()
        >>> kb = octavo.open(folder.name + "/kb")
        >>> _ = kb.add(["red"], vectors=[[1, 0]])
        >>> kb.destroy()
        >>> os.listdir(folder.name)
        []
        >>> folder.cleanup()
        """
        self._index.wait()
        self._store.destroy()

    def flush(self) -> None:
        """Complete and save the index, so that the next `open` need not extend it. Documents are durable without this.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.flush()
        >>> kb.close()
        """
        self._store.require_open()
        self._index.complete()
        self._index.checkpoint()

    def close(self) -> None:
        """Save the index and release all files; harmless when closed already.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.close()
        >>> kb.closed
        True
        """
        if self._store.closed:
            return
        self._index.close()
        if self._second is not None:
            self._second[1].close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ reading

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids.

        Parameters
        ----------
        ids : iterable of str
            Which; those that are not there are left out.

        Returns
        -------
        list of Document
            In the order asked.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.get(["g", "not there"])
        [Document(id='g', text='green', metadata={})]
        >>> kb.close()
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, _):
            documents = read_documents(connection, "id", list(dict.fromkeys(listed)))
        found = [documents[identifier][0] for identifier in listed if identifier in documents]
        # asked for twice: they share nothing
        return found if len(found) == len(documents) else [copy.deepcopy(document) for document in found]

    def get_payloads(self, ids: Iterable[str]) -> list[str | None]:
        """Return the payloads of these ids.

        Parameters
        ----------
        ids : iterable of str
            Which.

        Returns
        -------
        list of (str or None)
            In the order asked; None where there is no document or no payload.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> _ = kb.add(["blue"], ids=["b"], vectors=[[1, 1]], payloads=["kept for an adapter"])
        >>> kb.get_payloads(["b", "r"])
        ['kept for an adapter', None]
        >>> kb.close()
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, _):
            payloads: dict[str, str | None] = dict(select_documents(connection, "id, payload", "id", listed))
        return [payloads.get(identifier) for identifier in listed]

    def get_vectors(self, ids: Iterable[str]) -> Floats:
        """Return the stored vectors, decoded from the finest tier.

        Parameters
        ----------
        ids : iterable of str
            Which; every one has to be there.

        Returns
        -------
        ndarray of shape (len(ids), dim), float32
            In the order asked. Of unit length (nearly) where the metric is cosine.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.get_vectors(["g", "r"]).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        >>> kb.close()
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, snapshot):
            rows = stored_slots(connection, snapshot, listed)
            return decode_rows(snapshot, rows) if listed else np.zeros((0, self.dim or 0), np.float32)

    def get_sparse_vectors(self, ids: Iterable[str]) -> list[tuple[npt.NDArray[np.uint32], Floats]]:
        """Return the stored learned sparse vectors, decoded.

        Parameters
        ----------
        ids : iterable of str
            Which; every one has to be there.

        Returns
        -------
        list of (terms, weights)
            In the order asked; terms in rising order, empty where a document has none. Weights are within a 255th of the
            document's largest one.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red"], ids=["r"], sparse_vectors=[{7: 0.5, 3: 1.0}])
        >>> [(terms.tolist(), weights.round(2).tolist()) for terms, weights in kb.get_sparse_vectors(["r"])]
        [([3, 7], [1.0, 0.5])]
        >>> kb.close()
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, snapshot):
            wanted, where = np.unique(stored_slots(connection, snapshot, listed), return_inverse=True)
            if snapshot.sparse is None:
                rows = SparseRows.empty(len(wanted))
            else:
                rows = SparseReader(snapshot.sparse, self._searcher.waiting(connection, snapshot)).rows(wanted)
        return [rows[number] for number in where.tolist()]

    def contains(self, ids: Iterable[str]) -> list[bool]:
        """Tell for each id whether it is there.

        Parameters
        ----------
        ids : iterable of str
            Which.

        Returns
        -------
        list of bool
            In the order asked.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.contains(["r", "not there"])
        [True, False]
        >>> kb.close()
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, _):
            slots = slots_of_ids(connection, listed)
        return [identifier in slots for identifier in listed]

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents (that match).

        Parameters
        ----------
        filter : dict, filter or callable, optional
            Which; see `search`. All by default.

        Returns
        -------
        int
            How many.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]], metadata=[{"n": 1}, {"n": 2}])
        >>> kb.count(), kb.count({"n": 2})
        (2, 1)
        >>> kb.close()
        """
        where = check_filter(filter)
        with self._store.read() as (connection, snapshot):
            mask = self._searcher.mask(connection, snapshot, where)
            return int(np.count_nonzero(mask)) if mask is not None else snapshot.n_alive

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return the ids of all documents (that match).

        Parameters
        ----------
        filter : dict, filter or callable, optional
            Which; see `search`. All by default.

        Returns
        -------
        list of str
            Oldest version first.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]], metadata=[{"n": 1}, {"n": 2}])
        >>> kb.ids(), kb.ids({"n": {"$gte": 2}})
        (['r', 'g'], ['g'])
        >>> kb.close()
        """
        where = check_filter(filter)
        with self._store.read() as (connection, snapshot):
            mask = self._searcher.mask(connection, snapshot, where)
            rows = connection.execute("SELECT slot, id FROM documents ORDER BY slot").fetchall()
        if not np.array_equal([slot for slot, _ in rows], np.flatnonzero(snapshot.alive)):
            raise CorruptCollectionError("octavo.db is damaged: documents are missing from its table; run verify()")
        return [identifier for slot, identifier in rows if mask is None or mask[slot]]

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield all documents (that match), a few hundred in memory at a time.

        Parameters
        ----------
        filter : dict, filter or callable, optional
            Which; see `search`. All by default.

        Yields
        ------
        Document
            Oldest version first.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> [document.text for document in kb.documents()]
        ['red', 'green']
        >>> kb.close()
        """
        for part in chunked(self.ids(filter), _READ_CHUNK):
            yield from self.get(part)

    def info(self) -> CollectionInfo:
        """Return what the collection holds and what it takes: documents, bytes in RAM and on disk, codec, encoder.

        Returns
        -------
        CollectionInfo
            Its `to_dict` gives JSON.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> info = kb.info()
        >>> info.documents, info.dim, info.codec
        (2, 2, 'int8')
        >>> kb.close()
        """
        with self._store.read() as (connection, snapshot):
            return describe(self._store, connection, snapshot, self._encoder)

    def verify(self, repair: bool = False) -> VerifyReport:
        """Read every file and compare it with its checksum.

        Parameters
        ----------
        repair : bool, default=False
            Rebuild what can be rebuilt: a tier from another tier or, with an encoder, from the texts; sparse vectors, with
            theirs, from the texts; cells or graph from the codes, metadata index and full text from the documents.

        Returns
        -------
        VerifyReport
            ``.ok``, ``.problems`` and ``.repaired``, each a sentence that names the file.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.verify().ok
        True
        >>> kb.close()
        """
        if repair:
            encoder = self._models.roles().current
            if encoder is not None:
                with contextlib.suppress(CorruptCollectionError):  # nothing left to compare with
                    self._checked_model().run(encoder.name, None, encoder.encode_documents)
            return repair_damage(self._store, self._writer, self._index, self._text, encoder, self._sparse_encoder)
        return verify_files(self._store, self._index, self._text)

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

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = kb.export(folder.name + "/plain")
        >>> with octavo.import_from(path) as again:
        ...     again.ids()
        ['r', 'g']
        >>> folder.cleanup()
        >>> kb.close()
        """
        destination = as_path(path, "path")
        if not progress:
            export_store(self._store, destination, dtype=dtype)
            return destination
        with progress_bar("export", len(self)) as advance:
            export_store(self._store, destination, dtype=dtype, advance=advance)
        return destination

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        """Return the encoder's vectors for documents.

        Parameters
        ----------
        texts : sequence of str
            Texts of documents.

        Returns
        -------
        ndarray of shape (len(texts), dim), float32
            As the encoder gives them: not normalised.

        Raises
        ------
        ParameterError
            When the collection was opened without an encoder.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> kb.encode_documents(["red", "green"]).tolist()
        [[3.0, 1.0], [5.0, 1.0]]
        >>> kb.close()
        """
        vectors: Floats = self._of_the_same_model(self._require_encoder().encode_documents(texts))
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Return the encoder's vectors for queries.

        Parameters
        ----------
        texts : sequence of str
            Texts of queries.

        Returns
        -------
        ndarray of shape (len(texts), dim), float32
            As the encoder gives them: not normalised.

        Raises
        ------
        ParameterError
            When the collection was opened without an encoder.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> kb.encode_queries(["red", "green"]).tolist()
        [[3.0, 1.0], [5.0, 1.0]]
        >>> kb.close()
        """
        vectors: Floats = self._of_the_same_model(self._require_encoder().encode_queries(texts))
        return vectors

    def encode_sparse_queries(self, texts: Sequence[str]) -> SparseRows:
        """Return the sparse encoder's vectors for queries.

        Parameters
        ----------
        texts : sequence of str
            Texts of queries.

        Returns
        -------
        SparseRows
            One vector each; iterates as pairs of terms and weights.

        Raises
        ------
        ParameterError
            When the collection was opened without a sparse encoder.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(sparse=lambda texts: [{len(text): 1.0} for text in texts])
        >>> [terms.tolist() for terms, _ in kb.encode_sparse_queries(["red", "green"])]
        [[3], [5]]
        >>> kb.close()
        """
        encoder = self._sparse_encoder
        if encoder is None:
            raise ParameterError("the collection was opened without a sparse encoder; open it with sparse=")
        rows = encoder.encode_queries(texts)
        if self._store.snapshot.sparse is not None:
            self._sparse_model.run(encoder.name, None, encoder.encode_documents)
        return rows

    def model_check(self) -> ModelCheck:
        """Return what notices that an encoder is not the one that made the stored vectors; for those who encode themselves.

        Returns
        -------
        ModelCheck
            Its `run` raises `MismatchError` for another encoder; `probe` gives the texts to ask one that does not answer at
            once.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> _ = kb.add(["red", "green"])
        >>> check = kb.model_check()
        >>> check.run(kb.encoder.name, 2, kb.encoder.encode_documents)
        >>> check.settled  # it is the one
        True
        >>> kb.close()
        """
        return ModelCheck(LocalVectors(self._store))

    def notes(self) -> dict[str, str]:
        """Return the notes: short texts that tools keep beside the documents, such as what `octavo index` has read.

        Returns
        -------
        dict of str to str
            By name. Copies, snapshots, exports, `octavo push` and `octavo pull` keep them.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> kb.set_note("owner", "the library team")
        >>> kb.notes()
        {'owner': 'the library team'}
        >>> kb.close()
        """
        self._store.require_open()
        with self._store.read() as (connection, _):
            return read_notes(connection)

    def set_note(self, name: str, text: str | None) -> None:
        """Keep a short text beside the documents.

        Parameters
        ----------
        name : str
            What it is called; a note of that name is replaced. ``"sources"`` is what `octavo index` keeps.
        text : str or None
            At most a million characters. None removes the note.

        Raises
        ------
        ParameterError, InputTypeError
            When the name is empty, or the text is too long.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> kb.set_note("owner", "the library team")
        >>> kb.set_note("owner", None)
        >>> kb.notes()
        {}
        >>> kb.close()
        """
        name, text = check_note(name, text)
        self._store.require_open()
        with self._store.write() as connection:
            write_note(connection, name, text)

    @contextlib.contextmanager
    def connection(self, *, write: bool = False) -> Iterator[Connection]:
        """Yield a connection to the collection's database inside a transaction, for adapters that keep tables there.

        Parameters
        ----------
        write : bool, default=False
            Take the write lock and commit on leaving.

        Yields
        ------
        Connection
            Of SQLite. What is written through it is committed, or rolled back, with the block.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> with kb.connection(write=True) as connection:
        ...     _ = connection.execute("CREATE TABLE adapter_notes (note TEXT)")
        >>> kb.close()
        """
        self._store.require_open()
        if write:
            with self._store.write() as connection:
                yield connection
        else:
            with self._store.read() as (connection, _):
                yield connection

    def join_writes(self, callback: Callable[[Connection, Sequence[str], Sequence[str]], None]) -> None:
        """Call `callback(connection, added_ids, deleted_ids)` inside every later write transaction of this object.

        Parameters
        ----------
        callback : callable
            Called with the connection, the ids that are added and those that are deleted. An exception in it rolls the
            transaction back. Registering the same callback twice has no effect.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.join_writes(lambda connection, added, deleted: print("deleted:", *deleted))
        >>> kb.delete(["r"])
        deleted: r
        1
        >>> kb.close()
        """
        self._writer.join(callback)

    # ------------------------------------------------------------------ how hard to look

    def tune(
        self, recall: float = 0.95, k: int = 10, *, queries: Any = None, n_queries: int = 200, seed: int = 0
    ) -> TuningReport:
        """Measure how hard to look for a wanted recall, and use it in every search that does not say otherwise.

        Tries values of `oversample` and of `n_probe` (with a graph, `ef`), one query at a time, and stores the quickest pair
        that finds the share `recall` of what an exact search of the finest codes finds; beside it, how quick scans and index
        are on this machine, from which searches with a filter choose between them. What the codec itself costs is not seen
        here: ``octavo eval`` measures that. Meant for collections large enough for an index; run it again after it has
        grown much or moved to another machine.

        Parameters
        ----------
        recall : float, default=0.95
            Share of the exact best `k` to find, above 0 and at most 1.
        k : int, default=10
            Results. Searches for more look harder in proportion.
        queries : sequence of str, or array-like of shape (m, dim), optional
            Real queries, which are the better sample. None makes queries from stored documents, moved off so far that
            they are about as hard to answer as questions.
        n_queries : int, default=200
            How many to make, if none are given.
        seed : int, default=0
            For making them.

        Returns
        -------
        TuningReport
            ``.tuning`` is None if there is no index: a small collection is searched exactly, and nothing is stored.

        Raises
        ------
        ParameterError
            If a value is out of range, the collection is empty, or nothing that was tried finds that much; nothing is
            stored then.

        Examples
        --------
        >>> import numpy as np, octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(vectors=np.eye(8))
        >>> kb.tune(0.9).tuning is None  # eight documents need no index
        True
        >>> kb.close()
        """
        recall = check_number(recall, "recall", above=0, most=1)
        n_queries = check_integer(n_queries, "n_queries", least=1)
        seed = check_integer(seed, "seed", least=0)
        k = check_integer(k, "k", least=1)
        self._store.require_open()
        self._index.complete()
        with self._store.read() as (_, snapshot):
            pass
        if snapshot.n_alive < 2 or not snapshot.tiers:
            raise ParameterError(f"expected at least two documents to try searches on, got {snapshot.n_alive}")
        if queries is None:
            vectors = tuning.sample_queries(snapshot, n_queries, seed)
        else:
            vectors = self._given_queries(queries)
        vectors = vectors / self._searcher.query_lengths(snapshot, vectors)[:, None]
        report = tuning.tune(snapshot, vectors, k, recall)
        if report.tuning is not None:
            self._writer.set_tuning(report.tuning)
        return report

    def forget_tuning(self) -> None:
        """Go back to the defaults that `tune` replaced.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open()
        >>> _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1, 0], [0, 1]])
        >>> kb.forget_tuning()
        >>> kb.info().tuning is None
        True
        >>> kb.close()
        """
        self._writer.set_tuning(None)

    def _given_queries(self, queries: Any) -> Floats:
        if isinstance(queries, str) or len(queries) == 0:
            raise ParameterError("expected a sequence of queries with at least one in it")
        vectors = self._read_queries(queries, None, SearchOptions()).vectors
        assert vectors is not None  # a dense search always has vectors
        return vectors

    # ------------------------------------------------------------------ inside

    def _ready(self, batch: Batch) -> Batch:
        """Return the batch with vectors that are finite, of the right dimension, and of unit length for cosine."""
        if batch.ready:
            return batch
        if batch.vectors is None:
            batch.vectors = self._placeholders(len(batch))
        if batch.vectors is None:
            batch.vectors = self.encode_documents(batch.to_embed)
        batch.vectors = as_matrix(batch.vectors, self.dim)
        if self.metric == "cosine":
            batch.vectors = unit_rows(batch.vectors, keep_zeros=True)
        batch.ready = True
        return batch

    def _check_sparse_given(self, sparse_vectors: Any) -> None:
        """Have no document enter unseen a collection that is searched by sparse vectors."""
        if sparse_vectors is None and self._sparse_encoder is None and self._store.snapshot.sparse is not None:
            raise ParameterError(
                "expected sparse_vectors=, because the collection holds sparse vectors and was opened without sparse=; "
                "give them (None for a document without any), or open it with sparse="
            )

    def _ready_sparse(self, batch: Batch) -> dict[str, Any] | None:
        """Make the sparse vectors of a batch; returns the manifest's entry about the encoder, None to leave it."""
        if batch.sparse is not None:
            return None
        encoder = self._sparse_encoder
        if encoder is None:
            self._check_sparse_given(None)
            return None
        batch.sparse = encoder.encode_documents(batch.to_embed)
        if self._store.snapshot.sparse is not None:
            self._sparse_model.run(encoder.name, None, encoder.encode_documents)
        return self._sparse_model.entry(encoder.name, encoder.prompts, None, batch.ids, batch.to_embed)

    def _maintain(self, fit_after: int | None) -> None:
        """Fit, compact and extend the index where it is time to."""
        self._fit_or_compact(fit_after, ended=True)
        if self._index.behind(self._store.snapshot):
            self._index.catch_up()

    def _fit_or_compact(self, fit_after: int | None, *, ended: bool) -> None:
        # The write that this follows is durable, and must not fail where there is no space for more; the next one tries again.
        with contextlib.suppress(StorageError, CollectionLockedError):
            snapshot = self._store.snapshot
            if fit_after is not None and not snapshot.fitted and snapshot.n_alive >= fit_after:
                self._writer.fit()
            elif fit_after is not None:
                self._writer.learn_again(ended=ended)
            snapshot = self._store.snapshot
            if snapshot.next is None and snapshot.dead > max(_COMPACT_DEAD, snapshot.n_slots // 2):
                self._writer.compact()

    def _of_the_same_model(self, vectors: Any) -> Any:
        """Return vectors that the encoder has made, unless those in the collection are another encoder's."""
        encoder = self._require_encoder()
        self._checked_model().run(encoder.name, width(vectors), encoder.encode_documents)
        return vectors

    def vectors_for(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return what `add` is to be given beside documents of which an adapter embeds something else than their texts.

        Parameters
        ----------
        texts : sequence of str
            What is to be embedded of them.

        Returns
        -------
        dict of str to array
            Their vectors by the model that the collection has; of zeros, for `reencode` to replace, where that is not at
            hand.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        >>> kb.vectors_for(["red"])["vectors"].tolist()
        [[3.0, 1.0]]
        >>> kb.close()
        """
        if self._old_is_gone:
            if self._store.settings.multi_vector:
                return {"token_vectors": [np.zeros((0, self.dim or 1), np.float32)] * len(texts)}
            return {"vectors": np.zeros((len(texts), self.dim or 1), np.float32)}
        vectors: Any = self.encode_documents(texts)
        return {"token_vectors" if self._store.settings.multi_vector else "vectors": vectors}

    def _checked_model(self) -> ModelCheck:
        """Return what compares encoders with the model of the newest vectors: another one since, if it was changed."""
        space = self._store.snapshot.space
        if space != self._model_of:
            self._model, self._model_of = self.model_check(), space
        return self._model

    @property
    def _old_is_gone(self) -> bool:
        """Whether the collection's model is being changed and only the new one is at hand."""
        if self._store.snapshot.next is None:
            return False
        roles = self._models.roles()
        return roles.current is None and roles.coming is not None

    def _placeholders(self, n: int) -> Floats | None:
        """Return vectors of zeros where the model of the old vectors is not at hand: re-encoding comes to these documents."""
        return np.zeros((n, self.dim or 1), np.float32) if self._old_is_gone else None

    def _encoder_to_store(self, batch: Batch) -> dict[str, Any] | None:
        """Return the manifest's entry about the encoder, to be written with a batch that it has encoded; None to leave it."""
        encoder = self._require_encoder()
        return self._checked_model().entry(encoder.name, prompts_of(encoder), batch.dim, batch.ids, batch.to_embed)

    def _require_open(self) -> None:
        self._store.require_open()

    def _ranker(
        self, where: Where, ids: Sequence[str] | None, options: SearchOptions
    ) -> AbstractContextManager[Ranker]:
        options.check_index(self._store.settings.index)
        snapshot = self._store.snapshot
        settled = self._settled is not None and snapshot is self._settled()
        damaged = any(view is not None and view.damaged for view in (snapshot.cells, snapshot.token_cells))
        if not settled or damaged:
            if self._index.behind(snapshot):
                self._index.start()
            else:
                self._settled = weakref.ref(snapshot)
        if snapshot.next is not None:
            return self._ranker_of_two(where, ids, options)
        return self._searcher.ranker(where, ids, words=options.needs_words, positions=options.word_positions)

    @contextlib.contextmanager
    def _ranker_of_two(self, where: Where, ids: Sequence[str] | None, options: SearchOptions) -> Iterator[Ranker]:
        """Yield what ranks the documents while the collection's model is being changed."""
        words = options.needs_words or self._models.alone
        with self._searcher.ranker(where, ids, words=words, positions=options.word_positions) as ranker:
            snapshot = ranker.snapshot
            if snapshot.next is None:
                yield ranker
                return
            searcher, index = self._beside(snapshot)
            if index.behind(snapshot.next):
                index.start()
            yield TwoSpaces(snapshot, ranker, ranker.beside(searcher), self._remembered)

    def _beside(self, snapshot: Snapshot) -> tuple[Searcher, Follower]:
        """Return what searches and indexes the space that a change of the model fills."""
        if self._second is None:
            assert snapshot.reencoding is not None
            kind = LateSearcher if snapshot.reencoding.late else Searcher
            metric = snapshot.reencoding.settings(self._store.settings).metric
            self._second = kind(self._store, self._text, metric), index_of(self._store, PREFIX)
        return self._second

    def _forget_second(self) -> None:
        """Let go of what searches and indexes a second space: there is none any more."""
        second, self._second = self._second, None
        if second is not None:
            second[1].stop()

    def _search(self, *arguments: Any) -> list[SearchResult]:
        for _ in range(_CHANGES):
            try:
                return super()._search(*arguments)
            except SpaceChangedError:
                self._models.forget()
                self._current()
        raise CollectionLockedError("the collection's model kept being changed during a search; try again")

    def _encoded(self, queries: Any, words: Sequence[str | WordQuery] | None, are_words: bool) -> Queries:
        return self._by_models(queries, words, are_words, super()._encoded)

    def _by_models(
        self,
        queries: Any,
        words: Sequence[str | WordQuery] | None,
        are_words: bool,
        encoded: Callable[[Any, Sequence[str | WordQuery] | None, bool], Queries],
    ) -> Queries:
        """Return queries by the collection's model, and by the one that it is being changed to."""
        if not are_words:
            return encoded(queries, words, are_words)
        snapshot = self._store.snapshot
        try:
            if snapshot.next is None:
                return replace(encoded(queries, words, are_words), space=snapshot.space)
            return self._models.queries(list(queries), words, lambda: encoded(queries, words, are_words))
        except OctavoError as error:
            self._require_unchanged(snapshot, error)
            raise

    def _require_unchanged(self, before: Snapshot, error: OctavoError) -> None:
        """Raise `SpaceChangedError` if what was encoded did not fit because the model was changed meanwhile."""
        now = self._current()
        if (now.space, now.next is None) != (before.space, before.next is None):
            raise SpaceChangedError from error

    def _current(self) -> Snapshot:
        with self._store.read() as (_, snapshot):
            return snapshot

    def _require_encoder(self) -> Any:
        roles = self._models.roles()
        if roles.current is not None:
            return roles.current
        if roles.coming is not None:
            raise ParameterError(
                f"the collection is being re-encoded with {roles.coming.name!r}, and the model that made the vectors which it "
                "has is not at hand; open it with previous= as well, or wait for the end"
            )
        raise ParameterError("the collection was opened without an encoder; open it with encoder=")


@contextlib.contextmanager
def _afterwards(what: str) -> Iterator[None]:
    """Keep what follows a commit from failing the write: it is durable, and what was left undone can be done later."""
    try:
        yield
    except Exception:
        _log.warning("%s, but what follows that (fitting, compaction, the index) failed", what, exc_info=True)


def with_progress(batches: Iterator[Batch], documents: Any) -> Iterator[Batch]:
    """Draw a progress bar while batches are taken."""
    with progress_bar("add", len(documents) if is_sized(documents) else None) as advance:
        for batch in batches:
            yield batch
            advance(len(batch))
