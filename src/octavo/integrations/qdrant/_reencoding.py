"""Changing the model of a collection in Qdrant that is in use: its texts are encoded again, into vectors of another name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from octavo.collection.model_check import prompts_of
from octavo.collection.reencoding import (
    Pace,
    Rate,
    TextsOf,
    batch_within,
    require_room,
    require_texts,
    require_the_same,
)
from octavo.compression.candidates import candidate_encoder_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.dense import fingerprint
from octavo.encoders.tokens import TokenEncoder, encode_pooled
from octavo.errors import CollectionLockedError, ParameterError
from octavo.integrations.qdrant._filters import DOCUMENTS, Condition, all_of, none_of
from octavo.integrations.qdrant._manifest import Next, encode_state
from octavo.integrations.qdrant._spaces import NUMBERS_AT_ONCE, DenseSpace, Description, LateSpace, Space, encoded_rows
from octavo.integrations.qdrant._two_spaces import in_space
from octavo.integrations.qdrant.late_points import LateCodec, centred, learns
from octavo.integrations.qdrant.points import FIELDS, ClientCodec, document_of
from octavo.integrations.qdrant.transport import Point, Transport
from octavo.store.reencoding import Serve
from octavo.store.settings import DEFAULT_CANDIDATES, DEFAULT_POOLING, candidates_config
from octavo.store.store import new_identity

#: Documents by which the model can be told later.
_SAMPLE = 8

#: Documents that what learns is fitted on, and those whose mean is taken for a centre; they are encoded before anything is
#: written.
_FITTED_ON, _CENTRED_ON = 4_096, 1_000


def without(space: int) -> Condition:
    """Return the condition that a document has no vectors in a space."""
    return all_of(DOCUMENTS, none_of(in_space(space)))


class QdrantReencoder:
    """Fills the second space of a collection in Qdrant, and lets it take the place of the first.

    Parameters
    ----------
    transport, description
        The collection.
    writing : lock
        Held while this process writes documents.
    encoder : encoder
        The new model: one vector a text, or many.
    codec : str
        For the new vectors.
    batch_size : int
        Documents encoded and written at a time.
    rate : Rate or None
        How many documents may be encoded in a time.
    serve : {"both", "old"}
        What answers searches meanwhile.
    texts_of : callable or None
        What the encoder is given of documents, where an adapter embeds something else than `Document.to_embed`.
    """

    def __init__(
        self,
        transport: Transport,
        description: Description,
        writing: threading.Lock,
        encoder: Any,
        codec: str,
        batch_size: int,
        rate: Rate | None,
        serve: Serve,
        texts_of: TextsOf | None = None,
    ) -> None:
        self._transport, self._description, self._writing = transport, description, writing
        self._encoder, self._codec, self._serve, self._texts_of = encoder, codec, serve, texts_of
        self._late = isinstance(encoder, TokenEncoder)
        self._batch_size = batch_within(batch_size, rate)
        self._pace = Pace(rate)
        self._identity = ""
        self.encoded, self.seconds = 0, 0.0

    def begin(self) -> int:
        """Go on with the change that is under way, or begin; returns how many documents that has encoded.

        Raises
        ------
        MismatchError
            When another change is under way.
        """
        state = self._manifest.next
        if state is not None:
            under_way = state.encoder["name"], state.codec, state.late is not None
            require_the_same(under_way, (self._encoder.name, self._codec, self._late))
            self._identity = state.identity
            self._make_room()  # of which a kill may have left a part
            return 0
        return self._begin()

    def fill(self, advance: Callable[[int], object]) -> None:
        """Encode and write all documents that have no new vectors yet, those that are added meanwhile too."""
        space = self._require_next()
        while True:
            found = False
            for documents in self._batches(space.number):
                found = True
                self._require_alone(space, documents)
                vectors = self._encode(documents, space)
                self._require_next()
                self._write(space, documents, vectors)
                advance(len(documents))
            if not found:
                return

    def finish(self, advance: Callable[[int], object]) -> bool:
        """Let the new space take the place of the first; False when documents have come that it lacks."""
        space = self._require_next()
        with self._writing:
            self._require_next()
            if self._transport.count(without(space.number)):
                return False
            before, state = self._manifest, self._manifest.next
            assert state is not None  # required above
            self._description.edit(
                keep_blueprint=False,
                codec=state.codec,
                metric=state.metric,
                dim=state.dim,
                state=state.state,
                late=state.late,
                encoder=state.encoder,
                space=state.space,
                next=None,
                dropped={"space": before.space, "tokens": before.late is not None},
            )
            drop_rest(self._transport, self._description, forget=False)
        # Another process may have added documents by the old description up to now; none can any more.
        self._identity = ""
        self.fill_rest(space, advance)
        self._description.edit(dropped=None)
        return True

    def fill_rest(self, space: Space, advance: Callable[[int], object]) -> None:
        """Encode documents that came into the collection by the old description, just before its vectors were dropped."""
        for documents in self._batches(space.number):
            self._write(space, documents, self._encode(documents, space))
            advance(0)

    # ------------------------------------------------------------------ inside

    @property
    def _manifest(self) -> Any:
        assert self._description.manifest is not None  # there are documents
        return self._description.manifest

    def _require_next(self) -> Space:
        """Return the space that is being filled.

        Raises
        ------
        ParameterError
            When somebody has cancelled meanwhile.
        """
        self._description.refresh()
        state, space = self._manifest.next, self._description.next
        if state is None or space is None or state.identity != self._identity:
            raise ParameterError(
                "the re-encoding was cancelled, or ended, by somebody else meanwhile; nothing is left to do"
            )
        return space

    def _batches(self, space: int) -> Iterator[list[Point]]:
        """Yield documents without vectors in a space, in one pass."""
        waiting: list[Point] = []
        offset: str | None = None
        while True:
            page, offset = self._transport.scroll(without(space), [*FIELDS, "order"], offset)
            waiting += page
            while len(waiting) >= self._batch_size or (offset is None and waiting):
                yield waiting[: self._batch_size]
                del waiting[: self._batch_size]
            if offset is None:
                return

    def _encode(self, points: Sequence[Point], space: Space | None, pooling: dict[str, Any] | None = None) -> Any:
        """Return new vectors of documents: of no space yet, at the beginning."""
        documents = [document_of(point) for point in points]
        require_texts(documents, by_encoder=self._manifest.encoder is not None)
        texts = self._texts_of(documents) if self._texts_of is not None else [each.to_embed for each in documents]
        began = time.monotonic()
        if space is not None:
            vectors: Any = space.encoded(self._encoder, texts)
        elif pooling is not None:
            vectors = encode_pooled(self._encoder, texts, pooling, None)
        else:
            vectors = encoded_rows(self._encoder, texts, None, self._metric)
        self._pace.wait(len(texts))
        self.encoded += len(texts)
        self.seconds += time.monotonic() - began
        return vectors

    @property
    def _metric(self) -> Any:
        return "cosine" if self._manifest.late is not None else self._manifest.metric

    def _write(self, space: Space, documents: Sequence[Point], vectors: Any) -> None:
        """Write vectors, in requests that are not too large."""
        points = space.points(documents, vectors)
        part: list[Point] = []
        numbers = 0
        for point in points:
            size = len(point.dense or ()) + sum(map(len, point.tokens or ()))
            if part and numbers + size > NUMBERS_AT_ONCE:
                self._transport.fill(part)
                part, numbers = [], 0
            part.append(point)
            numbers += size
        self._transport.fill(part)

    def _require_alone(self, space: Space, documents: Sequence[Point]) -> None:
        """Raise `CollectionLockedError` when another process fills the same space."""
        ids = {"has_id": [point.id for point in documents]}
        if self._transport.count(all_of(ids, in_space(space.number))) == len(documents):
            raise CollectionLockedError(
                "another process is re-encoding the collection; let it go on, or stop it before this one goes on"
            )

    def _begin(self) -> int:
        """Encode the first documents, learn from them what the codec has to learn, and make room for the new vectors."""
        manifest, total = self._manifest, self._transport.count(DOCUMENTS)
        number = max(manifest.space, manifest.last_space) + 1
        kept = manifest.late or {}
        pooling = kept.get("pooling", DEFAULT_POOLING) if self._late else None
        candidates = kept.get("candidates") or candidates_config(DEFAULT_CANDIDATES) or {}
        learning = learns(self._codec, candidates) if self._late else ClientCodec.of(self._codec).learns
        centring = self._late and centred(candidates)
        wanted = _FITTED_ON if learning else _CENTRED_ON if centring else 1
        documents: list[Point] = []
        parts: list[Any] = []
        for batch in self._batches(number):
            documents += batch
            parts.append(self._encode(batch, None, pooling))
            if len(documents) >= min(wanted, total):
                break
        if not documents:
            if wanted > 1:
                raise ParameterError(f"codec {self._codec!r} learns from documents, and there are none; add some first")
            parts.append(self._of_nothing(pooling))
        if self._late:
            tokens = TokenMatrices.of([matrix for part in parts for matrix in part], dim=parts[0].dim)
            space: Space = self._late_space(number, tokens, dict(pooling or {}), candidates)
            vectors: Any = tokens
        else:
            vectors = np.concatenate(parts)
            codec = ClientCodec.of(self._codec)
            codec.fit(vectors)
            space = DenseSpace(number, self._codec, self._metric, int(vectors.shape[1]), codec)
        require_room(self._transport.directory, int(space.bytes_each * total))
        self._identity = new_identity()
        named = [document_of(point) for point in documents]
        sample = [document.id for document in named if document.to_embed.strip()][:_SAMPLE]
        encoder = fingerprint(self._encoder.name, prompts_of(self._encoder), space.dim)
        if self._texts_of is None:
            encoder = encoder | {"sample": sample}
        state = Next(
            space=number,
            identity=self._identity,
            codec=self._codec,
            metric=space.metric,
            dim=space.dim,
            state=space.codec.to_state()[0] if isinstance(space, LateSpace) else encode_state(space.codec),
            late=self._about_late(space) if isinstance(space, LateSpace) else None,
            serve=self._serve,
            encoder=encoder,
        )
        self._description.edit(next=state, last_space=number)
        self._make_room()
        self._write(space, documents, vectors)
        return len(documents)

    def _of_nothing(self, pooling: dict[str, Any] | None) -> Any:
        """Return vectors of no document, which have the dimension that the model's have."""
        if pooling is not None:
            tokens = encode_pooled(self._encoder, ["a"], pooling, None)
            return TokenMatrices.of([], dim=tokens.dim)
        return encoded_rows(self._encoder, ["a"], None, self._metric)[:0]

    def _late_space(
        self, number: int, tokens: TokenMatrices, pooling: dict[str, Any], candidates: dict[str, Any]
    ) -> LateSpace:
        if centred(candidates) and len(tokens) < _CENTRED_ON:
            candidates = {**candidates, "centre": False}  # the mean of a few documents is no centre of what will come
        codec = LateCodec.fit(self._codec, candidate_encoder_from_config(candidates), tokens, seed=0)
        return LateSpace(number, self._codec, tokens.dim, pooling, codec)

    @staticmethod
    def _about_late(space: LateSpace) -> dict[str, Any]:
        return {"pooling": space.pooling, "candidates": space.codec.candidates, "state": space.codec.to_state()[1]}

    def _make_room(self) -> None:
        current, following = self._description.space, self._description.next
        assert current is not None  # there are documents
        assert following is not None  # it was written just now
        sparse = self._manifest.sparse is not None
        layouts = {space.number: space.layout(sparse=sparse) for space in (current, following)}
        self._transport.add_space(layouts, following.number)


def drop_rest(transport: Transport, description: Description, *, forget: bool = True) -> None:
    """Drop the vectors of a space that a change of the model has left; their description is the last to go."""
    manifest = description.manifest
    if manifest is None or manifest.dropped is None:
        return
    transport.drop_space(manifest.dropped["space"], tokens=manifest.dropped["tokens"])
    if forget:
        description.edit(dropped=None)


def cancel(transport: Transport, description: Description) -> bool:
    """Give up a change of the model; returns whether one was under way."""
    description.refresh()
    manifest = description.manifest
    if manifest is None or manifest.next is None:
        return False
    left = {"space": manifest.next.space, "tokens": manifest.next.late is not None}
    description.edit(next=None, dropped=left)
    drop_rest(transport, description)
    return True
