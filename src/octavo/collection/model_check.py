"""Notices that an encoder is not the one that made a collection's vectors.

An encoder is asked for nothing but texts of documents that it has encoded before: one of them is encoded once more beside the
first batch, or the first query, of an open collection, and compared with what is stored. Opening a collection asks nothing, a
question that fails is logged, and vectors that a caller has brought along are never compared.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._sparse_rows import SparseRows
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.dense import check_fingerprint, cosine, fingerprint
from octavo.encoders.tokens import pooled
from octavo.errors import MismatchError, OctavoError
from octavo.retrievers.search import read_documents, slots_of_ids
from octavo.store.database import write_manifest
from octavo.store.documents import Document
from octavo.store.settings import Settings
from octavo.store.snapshot import Slots, Snapshot, decode_rows
from octavo.store.sparse import SparseReader, read_waiting
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.tokens import mean_vectors

_log = logging.getLogger(__name__)

#: Two vectors of one text that are closer than this come from the same model (numerics differ between machines).
_SAME_MODEL = 0.99

#: The same where the codec was fitted anew since: what an earlier codec has dropped is gone, but another model has about 0.
_SAME_MODEL_REFITTED = 0.5

#: Documents that are remembered, and how many of them have to be there before more are chosen.
_SAMPLE, _ENOUGH = 8, 4

#: Values that a sparse vector is folded into, to be compared with another.
_FOLDED = 4_096

#: Questions that may fail before no more are asked.
_ATTEMPTS = 3


class Known(Protocol):
    """What a collection knows about its vectors."""

    def read_encoder(self) -> dict[str, Any] | None:
        """Return the manifest's entry about the encoder; None if there is none."""
        ...

    def write_encoder(self, entry: dict[str, Any]) -> None:
        """Store that entry."""
        ...

    def sample(self, ids: Sequence[str]) -> tuple[list[str], list[str], Floats]:
        """Return ids, texts and vectors of those of these documents that are there and have both."""
        ...

    def as_stored(self, vectors: Any) -> Floats:
        """Return what the codec leaves of an encoder's vectors for documents, one row a document."""
        ...


class RemoteVectors:
    """What a collection whose documents lie elsewhere knows about its vectors, by its own methods.

    Parameters
    ----------
    read_encoder, write_encoder, as_stored : callable
        See `Known`.
    get : callable
        Return the documents with some ids.
    vectors : callable
        Return the stored vectors of documents that are there, one row each.
    """

    def __init__(
        self,
        *,
        read_encoder: Callable[[], dict[str, Any] | None],
        write_encoder: Callable[[dict[str, Any]], None],
        get: Callable[[Sequence[str]], list[Document]],
        vectors: Callable[[Sequence[str]], Floats],
        as_stored: Callable[[Any], Floats],
    ) -> None:
        self.read_encoder = read_encoder
        self.write_encoder = write_encoder
        self.as_stored = as_stored
        self._get = get
        self._vectors = vectors

    def sample(self, ids: Sequence[str]) -> tuple[list[str], list[str], Floats]:
        """See `Known`."""
        found = [document for document in self._get(ids) if document.to_embed.strip()]
        if not found:
            return [], [], np.zeros((0, 0), np.float32)
        vectors = self._vectors([document.id for document in found])
        kept = np.flatnonzero(vectors.any(axis=1))
        return [found[i].id for i in kept], [found[i].to_embed for i in kept], vectors[kept]


class LocalVectors:
    """What a collection of files, with one vector a document, knows about its vectors.

    Parameters
    ----------
    store : Store
        Its files.
    coming : bool
        The vectors of the model that the collection is being changed to are meant, instead of those that it has.
    """

    _key = "encoder"

    def __init__(self, store: Store, *, coming: bool = False) -> None:
        self._store = store
        self._coming = coming

    def read_encoder(self) -> dict[str, Any] | None:
        """See `Known`."""
        with self._store.read() as (connection, snapshot):
            if self._coming:
                return snapshot.reencoding.encoder if snapshot.reencoding is not None else None
            row = connection.execute("SELECT value FROM manifest WHERE key = ?", (self._key,)).fetchone()
        entry: dict[str, Any] | None = json.loads(row[0]) if row else None
        return entry

    def write_encoder(self, entry: dict[str, Any]) -> None:
        """See `Known`."""
        with self._store.write() as connection:
            write_manifest(connection, {self._key: json.dumps(entry)})

    def sample(self, ids: Sequence[str]) -> tuple[list[str], list[str], Floats]:
        """See `Known`."""
        with self._store.read() as (connection, snapshot):
            space = self._space(snapshot)
            slots = slots_of_ids(connection, list(ids))
            documents = read_documents(
                connection, "id", [name for name in ids if slots.get(name, -1) in range(space.n_slots)]
            )
            found = [documents[identifier][0] for identifier in ids if identifier in documents]
            found = [document for document in found if document.to_embed.strip()]
            if not found:
                return [], [], np.zeros((0, 0), np.float32)
            vectors = self._vectors(connection, space, np.array([slots[each.id] for each in found], np.int64))
        kept = np.flatnonzero(vectors.any(axis=1))
        return [found[i].id for i in kept], [found[i].to_embed for i in kept], vectors[kept]

    def as_stored(self, vectors: Any) -> Floats:
        """See `Known`."""
        with self._store.read() as (_, snapshot):
            return self._as_stored(self._space(snapshot), vectors)

    def _space(self, snapshot: Snapshot) -> Snapshot:
        return snapshot.next if self._coming and snapshot.next is not None else snapshot

    def _settings(self, space: Snapshot) -> Settings:
        settings = self._store.settings
        return space.reencoding.settings(settings) if space.prefix and space.reencoding is not None else settings

    def _vectors(self, connection: Connection, snapshot: Snapshot, slots: Slots) -> Floats:
        return decode_rows(snapshot, slots)

    def _as_stored(self, snapshot: Snapshot, vectors: Any) -> Floats:
        matrix = as_matrix(vectors, snapshot.dim, "vectors of the encoder")
        if self._settings(snapshot).metric != "dot":
            matrix = unit_rows(matrix, keep_zeros=True)
        pipeline = snapshot.tiers[-1].pipeline
        return pipeline.decode(pipeline.encode(matrix))


class LocalTokens(LocalVectors):
    """What a collection of files, with many vectors a document, knows about its vectors: their means are compared."""

    def _vectors(self, connection: Connection, snapshot: Snapshot, slots: Slots) -> Floats:
        assert snapshot.tokens is not None  # there is a document, so there are files
        return mean_vectors(snapshot.tokens.decode(slots))

    def _as_stored(self, snapshot: Snapshot, vectors: Any) -> Floats:
        view = snapshot.tokens
        assert view is not None
        tokens = pooled(vectors, dict(self._settings(snapshot).pooling or {}), snapshot.dim)
        return mean_vectors(TokenMatrices(view.codec.pipeline.decode(view.codec.encode(tokens.flat)), tokens.offsets))


class LocalSparse(LocalVectors):
    """What a collection of files knows about its learned sparse vectors, each folded into a few thousand values.

    Parameters
    ----------
    store : Store
        Its files.
    """

    _key = "sparse_encoder"

    def _vectors(self, connection: Connection, snapshot: Snapshot, slots: Slots) -> Floats:
        if snapshot.sparse is None:
            return np.zeros((len(slots), 1), np.float32)
        order = np.argsort(slots)
        reader = SparseReader(snapshot.sparse, read_waiting(connection, snapshot.sparse))
        vectors = np.zeros((len(slots), _FOLDED), np.float32)
        vectors[order] = folded(reader.rows(slots[order]))
        return vectors

    def _as_stored(self, snapshot: Snapshot, vectors: Any) -> Floats:
        return folded(SparseRows.of(vectors))


def folded(rows: SparseRows) -> Floats:
    """Return sparse vectors as dense ones of a few thousand values, to be compared with each other."""
    vectors = np.zeros((len(rows), _FOLDED), np.float32)
    np.add.at(vectors, (np.repeat(np.arange(len(rows)), rows.lengths), rows.terms % _FOLDED), rows.weights)
    return vectors


class ModelCheck:
    """Compares one encoder with the one that has made a collection's vectors, once.

    Parameters
    ----------
    known : Known
        The collection.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self._failures = 0
        self._remembered = False
        self.settled = False  # nothing (more) is to be asked

    def probe(self, name: str, dim: int | None = None) -> ModelProbe | None:
        """Return what to ask the encoder; None when there is nothing (more) to ask.

        Parameters
        ----------
        name : str
            The encoder's.
        dim : int, optional
            The dimension of its vectors, where it is known.

        Raises
        ------
        MismatchError
            When the dimension differs.
        """
        if self.settled:
            return None
        entry = self.known.read_encoder()
        if entry is None:
            return None
        check_fingerprint(entry, name, dim)
        ids, texts, stored = self.known.sample(entry.get("sample", ()))
        if not ids:
            self.settled = True
            return None
        bound = _SAME_MODEL_REFITTED if entry.get("refitted") else _SAME_MODEL
        question = _Question(self, name, entry["name"], ids, texts, stored, bound)
        return ModelProbe(texts[:1], question.first)

    def remember(
        self, name: str, prompts: dict[str, str], dim: int | None, ids: Sequence[str], texts: Sequence[str]
    ) -> None:
        """Write down that the encoder has made the vectors of these documents, if the collection needs to know."""
        entry = self.entry(name, prompts, dim, ids, texts)
        if entry is not None:
            self.known.write_encoder(entry)

    def entry(
        self, name: str, prompts: dict[str, str], dim: int | None, ids: Sequence[str], texts: Sequence[str]
    ) -> dict[str, Any] | None:
        """Return the entry to be stored together with documents whose vectors the encoder has made; None to leave it."""
        if self._remembered:
            return None
        stored = self.known.read_encoder()
        sample: list[str] = []
        if stored is None:
            self.settled = True  # there is nothing of anybody else's
        else:
            sample, _, _ = self.known.sample(stored.get("sample", ()))
            if len(sample) >= _ENOUGH:
                self._remembered = True
                return None
        new = [identifier for identifier, text in zip(ids, texts, strict=True) if text.strip()]
        chosen = list(dict.fromkeys([*sample, *new]))[:_SAMPLE]
        return (stored or fingerprint(name, prompts, dim)) | {"sample": chosen}

    def refitted(self) -> None:
        """Write down that vectors are about to be made of what an earlier codec has left of them."""
        entry = self.known.read_encoder()
        if entry is not None and not entry.get("refitted"):
            self.known.write_encoder(entry | {"refitted": True})

    def failed(self, error: Exception) -> None:
        """Take note that the encoder could not answer."""
        self._failures += 1
        self.settled = self._failures >= _ATTEMPTS
        _log.warning(
            "whether the encoder is the one that made the collection's vectors could not be checked: encoding a stored "
            "document again raised %r",
            error,
        )

    def run(self, name: str, dim: int | None, encode: Callable[[list[str]], Any]) -> None:
        """Ask an encoder that answers at once.

        Raises
        ------
        MismatchError
            When it is another one.
        """
        probe = self.probe(name, dim)
        while probe is not None:
            try:
                vectors = encode(probe.texts)
            except Exception as err:
                self.failed(err)
                return
            probe = probe.compare(vectors)


@dataclass(frozen=True)
class ModelProbe:
    """Texts of stored documents; encode them (as documents) and hand the vectors to `compare`.

    `compare` returns None when all is well, or a further probe before it raises `MismatchError`.
    """

    texts: list[str]
    compare: Callable[[Any], ModelProbe | None]


@dataclass(frozen=True)
class _Question:
    check: ModelCheck
    name: str
    built_with: str
    ids: list[str]
    texts: list[str]
    stored: Floats
    bound: float

    def first(self, vectors: Any) -> ModelProbe | None:
        fresh = self._as_stored(vectors, 1)
        if fresh is None:
            return None
        if cosine(fresh[0], self.stored[0]) >= self.bound:
            self.check.settled = True
            return None
        return ModelProbe(self.texts, lambda again: self._second(fresh[0], again))

    def _second(self, before: Floats, vectors: Any) -> None:
        fresh = self._as_stored(vectors, len(self.texts))
        if fresh is None:
            return
        # An encoder that gives another vector each time says nothing; a document may have got another vector by hand.
        self.check.settled = cosine(fresh[0], before) < _SAME_MODEL or any(
            cosine(one, other) >= self.bound for one, other in zip(fresh, self.stored, strict=True)
        )
        if not self.check.settled:
            raise MismatchError(
                f"the collection was built with encoder {self.built_with!r}, got {self.name!r}, whose vector for the stored "
                f"document {self.ids[0]!r} differs (cosine {cosine(before, self.stored[0]):.3f}); open it with the first, "
                "or change the collection's model to the second: reencode(encoder), octavo reencode"
            )

    def _as_stored(self, vectors: Any, n: int) -> Floats | None:
        try:
            fresh = self.check.known.as_stored(vectors)
            if fresh.shape != (n, self.stored.shape[1]):
                raise MismatchError(f"expected {n} vectors of {self.stored.shape[1]} values, got shape {fresh.shape}")
        except OctavoError as err:  # an encoder that fails for its own reasons
            self.check.failed(err)
            return None
        return fresh


def prompts_of(encoder: Any) -> dict[str, str]:
    """Return what an encoder puts before texts, as far as it says."""
    prompts = getattr(encoder, "prompts", None)
    return dict(prompts) if isinstance(prompts, dict) else {}
