"""Changing the model of a collection that is in use: encodes its texts again, batch by batch, and follows what is written."""

from __future__ import annotations

import errno
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._printing import human_bytes
from octavo._validation import check_choice, check_integer
from octavo.collection.model_check import prompts_of
from octavo.compression import Codec
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.dense import as_encoder, fingerprint
from octavo.encoders.tokens import TokenEncoder, encode_pooled, is_multi_vector, pooling_beside
from octavo.errors import CollectionLockedError, MismatchError, ParameterError, StorageError
from octavo.retrievers.search import read_documents, slots_of_ids
from octavo.store.documents import Document
from octavo.store.info import reencoded_bytes
from octavo.store.reencoding import (
    LATE_WAITING,
    NO_SAMPLE,
    PREFIX,
    WAITING,
    Reencoding,
    Serve,
    sample_order,
    sample_size,
    sampled_ids,
    sampled_vectors,
)
from octavo.store.settings import Settings, check_token_codec
from octavo.store.snapshot import Snapshot
from octavo.store.sqlite import Connection
from octavo.store.store import Store, new_identity
from octavo.store.writer import Writer

#: Documents of the first batch by which the model can be told later.
_SAMPLE = 8

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|sec|second|min|minute|h|hour)\s*")
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}


#: Returns what an encoder is given of documents.
TextsOf: TypeAlias = Callable[[Sequence[Document]], list[str]]


@dataclass(frozen=True)
class Rate:
    """How many documents may be encoded in how many seconds.

    Parameters
    ----------
    documents, seconds : float
        The two.
    """

    documents: float
    seconds: float

    @classmethod
    def parse(cls, text: Any) -> Rate | None:
        """Read what a caller gave.

        Raises
        ------
        ParameterError
            When it is not of the form ``"500/min"``.
        """
        if text is None:
            return None
        match = _RATE.fullmatch(text) if isinstance(text, str) else None
        if match is None or not float(match[1]):
            raise ParameterError(f"expected rate as documents per s, min or h, such as '500/min', got {text!r}")
        return cls(float(match[1]), _SECONDS[match[2]])


class Pace:
    """Keeps to a rate.

    Parameters
    ----------
    rate : Rate or None
        How many documents may be encoded in a time.
    """

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._next_at = 0.0

    def wait(self, encoded: int) -> None:
        """Wait as long as the rate asks for, after so many documents."""
        if self._rate is None or not encoded:
            return
        now = time.monotonic()
        time.sleep(max(0.0, self._next_at - now))
        self._next_at = max(now, self._next_at) + encoded * self._rate.seconds / self._rate.documents


def batch_within(batch_size: int, rate: Rate | None) -> int:
    """Return how many documents to encode at a time: no more than the rate allows in one of its times."""
    return batch_size if rate is None else max(1, min(batch_size, int(rate.documents)))


def require_the_same(under_way: tuple[str, str, bool], asked: tuple[str, str, bool]) -> None:
    """Raise `MismatchError` where a change of the model is under way to another one.

    Parameters
    ----------
    under_way, asked : tuple of str, str and bool
        Name of the encoder, codec, and whether it gives many vectors a text.
    """
    if under_way != asked:
        raise MismatchError(
            f"the collection is being re-encoded with {under_way[0]!r} and codec {under_way[1]!r}, got {asked[0]!r} and "
            f"{asked[1]!r}; go on with those, or give up what is done with cancel_reencode() (octavo reencode --cancel)"
        )


def require_texts(documents: Sequence[Document], *, by_encoder: bool) -> None:
    """Raise `ParameterError` for documents whose vectors were given, and that have no text to make others of.

    Parameters
    ----------
    documents : sequence of Document
        That are to be encoded.
    by_encoder : bool
        Whether an encoder is known that made the vectors: of no text as well.
    """
    empty = next((document.id for document in documents if not document.to_embed.strip()), None)
    if empty is not None and not by_encoder:
        raise ParameterError(
            f"expected every document to have a text to encode, but {empty!r} has none: its vector was given; delete it, or "
            "add it again with a text"
        )


def require_room(directory: Path | None, needed: int) -> None:
    """Raise `StorageError` where the disk has no room for so many bytes."""
    if directory is None:
        return
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise StorageError(
            errno.ENOSPC,
            f"the new vectors take up to {human_bytes(needed)} beside the old ones, and {directory} has "
            f"{human_bytes(free)} free; make room, or choose a smaller codec",
        )


@dataclass(frozen=True)
class _Work:
    """Documents to encode next: those of slots `first` up to `last`, or a part of the sample."""

    generation: int
    documents: list[tuple[int, Document]]
    first: int = 0
    last: int = 0
    ready: dict[int, Floats] | None = None  # by slot: vectors that were encoded as a part of the sample
    sampling: bool = False
    asked: Sequence[str] = ()  # ids of the sample that this is all that is left of


class Reencoder:
    """Fills the second space of a collection until it can take the place of the first.

    Parameters
    ----------
    store, writer
        Of the collection.
    encoder : encoder
        The new model: one vector a text, or many.
    codec : str
        For the new vectors.
    batch_size : int
        Documents encoded and committed at a time.
    rate : Rate or None
        How many documents may be encoded in a time.
    serve : {"both", "old"}
        What answers searches meanwhile.
    texts_of : callable or None
        What the encoder is given of documents, where an adapter embeds something else than `Document.to_embed`.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        encoder: Any,
        codec: str,
        batch_size: int,
        rate: Rate | None,
        serve: Serve,
        texts_of: TextsOf | None = None,
    ) -> None:
        self._store, self._writer = store, writer
        self._encoder = encoder
        self._codec = codec
        self._batch_size = batch_within(batch_size, rate)
        self._pace = Pace(rate)
        self._serve = serve
        self._texts_of = texts_of
        self._late = isinstance(encoder, TokenEncoder)
        self._kind = _kind(store.settings, late=self._late)
        if isinstance(encoder, TokenEncoder) and encoder.pools is not None:
            self._kind = self._kind | {"pooling": pooling_beside(encoder, None)}
        self._ranked: list[tuple[int, str]] = []  # priority and id of all documents, before it has begun
        self._order: list[str] | None = None  # ids of the sample that wait
        self._order_of: str | None = None
        self._known: dict[tuple[str, str], Floats] = {}  # by id and text: of a batch that came too late

    def resume(self, snapshot: Snapshot) -> None:
        """Compare with a change of the model that is under way.

        Raises
        ------
        MismatchError
            When that is to another model, or another codec.
        """
        state = snapshot.reencoding
        if state is not None:
            under_way = state.encoder["name"], state.codec, state.late
            require_the_same(under_way, (self._encoder.name, self._codec, self._late))

    def step(self) -> int | None:
        """Encode and commit the next batch; returns how many documents that brought, None when there is nothing to encode."""
        with self._store.read() as (connection, snapshot):
            work = self._next_work(connection, snapshot)
            if work is None:
                return None
            self._refuse_without_text(connection, work)
        began = time.monotonic()
        vectors, encoded = self._vectors(work, snapshot)
        self._pace.wait(encoded)
        seconds = time.monotonic() - began
        if snapshot.next is None:
            self._begin(snapshot, vectors)
            work = replace(work, generation=self._store.space(PREFIX).generation)
        ids = [document.id for _, document in work.documents]
        matrices = [vectors[i] for i in range(len(ids))]
        if work.sampling:
            rows = [matrix if matrix.ndim == 2 else matrix[None] for matrix in matrices]
            self._writer.sample_reencoded(work.generation, ids, rows, seconds)
            assert self._order is not None
            del self._order[: len(work.asked)]
            return encoded
        named = [document.id for _, document in work.documents if document.to_embed.strip()][:_SAMPLE]
        written = self._writer.append_reencoded(
            work.first,
            work.last,
            work.generation,
            [slot for slot, _ in work.documents],
            vectors,
            encoded=encoded,
            seconds=seconds,
            serve=self._serve,
            about={"sample" if self._texts_of is None else "nodes": named},
        )
        if written:
            self._known.clear()
            return encoded
        self._look_for_others(work)
        self._known = {
            (document.id, document.to_embed): matrix
            for (_, document), matrix in zip(work.documents, matrices, strict=True)
        }
        return 0

    def fit(self) -> bool:
        """Learn the codec of the new vectors when it is time to; False when there is nothing to be learned now."""
        with self._store.read() as (connection, snapshot):
            state, following = snapshot.reencoding, snapshot.next
            if state is None or following is None or state.fitted:
                return False
            if state.sampling:
                due = not self._waiting_sample(connection, state)
            else:
                waiting = LATE_WAITING if state.late else WAITING
                complete = state.done == snapshot.n_slots and following.n_alive >= (self._store.settings.fit_after or 1)
                due = following.n_alive > 0 and (complete or following.n_alive > waiting)
                if following.tokens is not None and not len(following.tokens.codes):
                    due = False
        if due:
            self._writer.fit_reencoded()
        return due

    # ------------------------------------------------------------------ what comes next

    def _next_work(self, connection: Connection, snapshot: Snapshot) -> _Work | None:
        state = snapshot.reencoding
        generation = snapshot.next.generation if snapshot.next is not None else -1
        if state is None:
            many = snapshot.n_alive > (LATE_WAITING if self._late else WAITING)
            sampling = many and Codec.parse(self._codec).needs_fit
        else:
            sampling = state.sampling
        if sampling:
            asked = self._sample_batch(connection, state)
            if asked:
                slots = slots_of_ids(connection, asked)
                documents = read_documents(connection, "slot", sorted(slots.values()))
                found = [(slots[i], documents[slots[i]][0]) for i in asked if i in slots]
                return _Work(generation, found, sampling=True, asked=asked)
        first = state.done if state is not None else 0
        if first >= snapshot.n_slots:
            return None
        query = "SELECT slot FROM documents WHERE slot >= ? ORDER BY slot LIMIT ?"
        slots_found = [row[0] for row in connection.execute(query, (first, self._batch_size))]
        last = slots_found[-1] + 1 if len(slots_found) == self._batch_size else snapshot.n_slots
        stored = read_documents(connection, "slot", slots_found)
        ready = sampled_vectors(connection, state.dim, slots_found) if state is not None else {}
        return _Work(generation, [(slot, stored[slot][0]) for slot in slots_found], first, last, ready)

    def _sample_batch(self, connection: Connection, state: Reencoding | None) -> list[str]:
        """Return ids of the next documents of the sample; those that were deleted meanwhile may be among them."""
        if state is not None:
            return self._waiting_sample(connection, state)[: self._batch_size]
        if self._order is None:
            self._ranked = sample_order(connection, self._store.settings.seed or 0)
            self._order = [identifier for _, identifier in self._ranked]
        return self._order[: self._batch_size]

    def _waiting_sample(self, connection: Connection, state: Reencoding) -> list[str]:
        """Return the ids of the sample that are not encoded yet."""
        if self._order is None or self._order_of != state.identity:
            there = sampled_ids(connection)
            ranked = sample_order(connection, self._store.settings.seed or 0)
            self._order = [name for rank, name in ranked if rank < state.below and name not in there]
            self._order_of = state.identity
        return self._order

    def _refuse_without_text(self, connection: Connection, work: _Work) -> None:
        row = connection.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
        require_texts([document for _, document in work.documents], by_encoder=row is not None and bool(row[0]))

    def _look_for_others(self, work: _Work) -> None:
        """Raise `CollectionLockedError` when another process re-encodes the same collection."""
        with self._store.read() as (_, snapshot):
            state = snapshot.reencoding
            if state is not None and state.generation == work.generation and state.done > work.first:
                raise CollectionLockedError(
                    "another process is re-encoding the collection; let it go on, or stop it before this one goes on"
                )

    # ------------------------------------------------------------------ encoding

    def _vectors(self, work: _Work, snapshot: Snapshot) -> tuple[Floats | TokenMatrices, int]:
        """Return the vectors of documents, ready to be stored, and how many of them were encoded for this."""
        dim = snapshot.reencoding.dim if snapshot.reencoding is not None else None
        found: dict[int, Floats] = dict(work.ready or {})
        for slot, document in work.documents:
            known = self._known.get((document.id, document.to_embed))
            if known is not None:
                found[slot] = known if self._late else known[None]
        waiting = [(slot, document) for slot, document in work.documents if slot not in found]
        if waiting:
            documents = [document for _, document in waiting]
            texts = (
                self._texts_of(documents)
                if self._texts_of is not None
                else [document.to_embed for document in documents]
            )
            fresh = self._encode(texts, dim)
            for number, (slot, _) in enumerate(waiting):
                found[slot] = fresh[number] if self._late else fresh[number][None]
            dim = dim or int(fresh.dim if isinstance(fresh, TokenMatrices) else fresh.shape[1])
        matrices = [found[slot] for slot, _ in work.documents]
        if self._late:
            return TokenMatrices.of(matrices, dim=dim), len(waiting)
        return (np.concatenate(matrices) if matrices else np.zeros((0, dim or 1), np.float32)), len(waiting)

    def _encode(self, texts: Sequence[str], dim: int | None) -> Floats | TokenMatrices:
        if self._late:
            return encode_pooled(self._encoder, list(texts), dict(self._kind["pooling"]), dim)
        matrix = as_matrix(self._encoder.encode_documents(texts), dim, f"the vectors of encoder {self._encoder.name!r}")
        return unit_rows(matrix, keep_zeros=True) if self._kind["metric"] == "cosine" else matrix

    # ------------------------------------------------------------------ the beginning

    def _begin(self, snapshot: Snapshot, vectors: Floats | TokenMatrices) -> None:
        """Begin, now that the dimension is known, if the disk has room for the new vectors."""
        tokens = 0.0
        if isinstance(vectors, TokenMatrices):
            dim, tokens = vectors.dim, len(vectors.flat) / max(1, len(vectors))
        else:
            dim = int(vectors.shape[1])
        needed = reencoded_bytes(self._codec, dim, snapshot.n_alive, late=self._late, tokens=tokens)
        require_room(self._store.directory, needed)
        below = NO_SAMPLE
        if self._order is not None:
            below = self._ranked[min(sample_size(dim, late=self._late, tokens=tokens), len(self._ranked) - 1)][0]
        state = Reencoding(
            generation=1,  # the writer knows which one is free
            done=0,
            dim=dim,
            codec=self._codec,
            fitted=False,
            serve=self._serve,
            encoder=fingerprint(self._encoder.name, prompts_of(self._encoder), dim),
            kind=self._kind,
            identity=new_identity(),
            below=below,
        )
        self._writer.begin_reencoding(state)
        if self._order is not None:
            self._order = [name for rank, name in self._ranked if rank < below]
            self._order_of = state.identity


def new_encoder(encoder: Any, *, late: bool) -> Any:
    """Return what a caller gave as the new model, behind its interface; `late` says what a plain callable is taken for."""
    if encoder is None:
        raise ParameterError("expected the new model as encoder, got None")
    if isinstance(encoder, TokenEncoder) or is_multi_vector(encoder):
        return encoder if isinstance(encoder, TokenEncoder) else TokenEncoder(encoder)
    if late and not isinstance(encoder, str) and callable(encoder):
        return TokenEncoder(encoder)
    return as_encoder(encoder)


def new_codec(codec: Any, settings: Settings, current: str, *, late: bool) -> str:
    """Return the codec of the new vectors: the one that is asked for, or the one that the collection has."""
    if codec is None:
        if late == bool(settings.multi_vector):
            return current
        codec = "int8"
    text = str(Codec.parse(codec))
    if late:
        check_token_codec(text)
    return text


def _kind(settings: Settings, *, late: bool) -> dict[str, Any]:
    """Return what settings say of the kind of vectors, for another kind if that is asked for."""
    if late == bool(settings.multi_vector):
        return settings.kind
    asked = Settings(multi_vector=late, metric=None if late else "cosine")
    return asked.for_new_collection().kind


def check_options(batch_size: Any, serve: Any) -> tuple[int, Serve]:
    """Return the options of a re-encoding, checked."""
    return check_integer(batch_size, "batch_size", least=1), check_choice(serve, "serve", ("both", "old"))
