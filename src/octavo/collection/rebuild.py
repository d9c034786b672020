"""A collection from a blueprint, and documents as another collection stored them: what moving a collection takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from octavo._arrays import Codes, Floats, as_matrix
from octavo._files import as_path
from octavo._sparse_rows import SparseRows
from octavo.collection.collection import Collection
from octavo.collection.opening import open_store
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import MismatchError, ParameterError
from octavo.retrievers.search import read_documents, slots_of_ids
from octavo.store.documents import Batch, Document, read_batches
from octavo.store.settings import Settings
from octavo.store.store import Store
from octavo.store.upkeep.blueprint import Blueprint

#: The smallest number that float16, which the other side may keep vectors in, holds with full precision.
_TINY = np.float32(2.0**-14)


def blueprint_of(collection: Collection) -> Blueprint:
    """Return what a collection of the same kind needs: settings, codec with what it learned, encoder."""
    return Blueprint.of(collection._store)


def open_from_blueprint(
    path: str | os.PathLike[str] | None,
    blueprint: Blueprint,
    encoder: Any = None,
    sparse: Any = None,
    *,
    lock_timeout: float = 30.0,
) -> Collection:
    """Create a collection of the blueprint's kind, or open the one that is there if it is of that kind.

    Parameters
    ----------
    path : str, path-like or None
        The collection's directory; None keeps everything in memory.
    blueprint : Blueprint
        From `blueprint_of`.
    encoder, sparse : object, optional
        As in `octavo.open`.
    lock_timeout : float, default=30.0
        As in `octavo.open`.

    Raises
    ------
    MismatchError
        When there is a collection with other settings, of another model, or whose codec has learned something else.
    """
    there = path is not None and Store.exists(as_path(path, "path"))
    asked = blueprint.as_settings(Settings(lock_timeout=lock_timeout))
    collection = open_store(path, encoder, asked, sparse)
    try:
        if not there:
            blueprint.start(collection._store, collection._writer)
        elif (other := _another_model(collection, blueprint)) is not None:
            assert blueprint.encoder is not None  # compared
            raise MismatchError(
                f"expected a collection made with encoder {blueprint.encoder['name']!r} at {path}, got one made with "
                f"{other!r}; choose another place, or change the model of one of the two first (octavo reencode)"
            )
        elif blueprint.codec_state is not None:
            _take_over(collection, blueprint)
    except BaseException:
        collection.close()
        raise
    return collection


def _another_model(collection: Collection, blueprint: Blueprint) -> str | None:
    """Return the name of the model that made the vectors of a collection, if it is known not to be the blueprint's."""
    found = blueprint_of(collection).encoder
    if found is None or blueprint.encoder is None or found["name"] == blueprint.encoder["name"]:
        return None
    name: str = found["name"]
    return name


def _take_over(collection: Collection, blueprint: Blueprint) -> None:
    found = blueprint_of(collection)
    if found.codec_state is None and collection._current().generation == 0:  # its creator was killed before this
        blueprint.start(collection._store, collection._writer)
    elif (found.codec_state, found.token_codec) != (blueprint.codec_state, blueprint.token_codec):
        raise MismatchError(
            f"the collection at {collection.path} was fitted with codec {found.codec!r} on other documents; choose a new "
            "directory, or delete that collection first"
        )


def vectors_to_move(collection: Collection, ids: Sequence[str]) -> Floats:
    """Return stored vectors that give the same codes again, in the finest tier and in a first tier of bits.

    `Collection.get_vectors` decodes the finest tier alone. A value that it rounded to zero has lost its sign, which a binary
    tier of the same values still knows: such a value becomes a number too small to matter, with that sign.

    Parameters
    ----------
    collection : Collection
        With one vector a document.
    ids : sequence of str
        Stored documents.

    Returns
    -------
    ndarray of shape (len(ids), dim), float32

    Raises
    ------
    DocumentNotFoundError
        When an id is not there.
    """
    vectors = collection.get_vectors(ids)
    with collection._store.read() as (connection, snapshot):
        if not len(vectors) or len(snapshot.tiers) == 1:
            return vectors
        coarse, finest = snapshot.tiers[0].pipeline, snapshot.tiers[-1].pipeline
        if coarse.reducers or coarse.layout.kind != "b1":
            return vectors
        slots = slots_of_ids(connection, list(ids))
        rows = np.array([slots[identifier] for identifier in ids if identifier in slots], np.int64)
        if len(rows) != len(vectors):  # deleted since
            return vectors
        snapshot.tiers[0].check(rows)
        signs = coarse.decode(snapshot.tiers[0].codes[rows])
        codes = snapshot.tiers[-1].codes[rows]
    # Zero lies between such a value and what was rounded to it, so that the finest tier's code stays the same.
    signed = np.where((vectors > 0) != (signs > 0), np.copysign(_TINY, signs), vectors)
    unchanged = (finest.encode(signed) == codes).all(axis=1)
    return np.where(unchanged[:, None], signed, vectors)


def as_kept(collection: Collection, vectors: Any) -> Any:
    """Return what a collection keeps of vectors: those that it gives back of documents which were added with them.

    Parameters
    ----------
    collection : Collection
        With documents.
    vectors : ndarray of shape (n, dim), or sequence of ndarray of shape (n_vectors, dim)
        As `add_stored` takes them: of one vector a document, or of many.

    Returns
    -------
    ndarray or list of ndarray
        The same shapes, rounded by the codec.
    """
    with collection._store.read() as (_, snapshot):
        if snapshot.tokens is not None:
            pipeline = snapshot.tokens.codec.pipeline
            return [pipeline.decode(pipeline.encode(matrix)) if len(matrix) else matrix for matrix in vectors]
        if not snapshot.tiers:
            return vectors
        pipeline = snapshot.tiers[-1].pipeline
    return pipeline.decode(pipeline.encode(vectors))


def most_token_vectors(collection: Collection) -> tuple[str, int] | None:
    """Return the document with the most token vectors, and their number; None where there are no token vectors."""
    with collection._store.read() as (connection, snapshot):
        slots = np.flatnonzero(snapshot.alive)
        if snapshot.tokens is None or not len(slots):
            return None
        snapshot.tokens.check_offsets(slots)
        lengths = snapshot.tokens.lengths(slots)
        slot = int(slots[lengths.argmax()])
        document, _ = read_documents(connection, "slot", [slot])[slot]
        return document.id, int(lengths.max())


def add_stored(
    collection: Collection,
    documents: Sequence[Document],
    *,
    payloads: Iterable[str | None] | None = None,
    vectors: Any = None,
    token_vectors: Sequence[Any] | None = None,
    sparse_vectors: Any = None,
    codes: tuple[bytes, Sequence[Codes]] | None = None,
) -> list[str]:
    """Add documents with vectors as `get_vectors` or `get_token_vectors` of another collection returned them.

    They are taken as they are. `Collection.add` would scale them to unit length, which those behind a reducer no longer
    have, and pool tokens once more.

    Parameters
    ----------
    collection : Collection
        Where to.
    documents : sequence of Document
        One batch.
    payloads : iterable of str, optional
        As in `Collection.add`.
    vectors : array-like of shape (n, dim), optional
        Where the collection has one vector a document.
    token_vectors : sequence of ndarray of shape (n_vectors, dim), optional
        Where it has many.
    sparse_vectors : sparse matrix or sequence, optional
        Learned sparse vectors, if it keeps some.
    codes : tuple of bytes and sequence of ndarray of shape (n, row_bytes), optional
        `Codec.to_bytes`, and what that codec made of the vectors in each tier. Written as they are if the collection has
        that very codec, and passed over if not.

    Returns
    -------
    list of str
        The ids.
    """
    batch = stored_batch(
        collection,
        documents,
        payloads=payloads,
        vectors=vectors,
        token_vectors=token_vectors,
        sparse_vectors=sparse_vectors,
        codes=codes,
    )
    return collection._add_batches(iter([batch]))


def stored_batch(
    collection: Collection,
    documents: Sequence[Document],
    *,
    payloads: Iterable[str | None] | None = None,
    vectors: Any = None,
    token_vectors: Sequence[Any] | None = None,
    sparse_vectors: Any = None,
    codes: tuple[bytes, Sequence[Codes]] | None = None,
) -> Batch:
    """Return a batch that is ready to be stored as it is; see `add_stored`."""
    (batch,) = read_batches(documents, None, None, None, payloads, batch_size=max(1, len(documents)), dim=None)
    if (vectors is None) == (token_vectors is None):
        raise ParameterError("expected either vectors or token_vectors")
    given: Sequence[Any] = vectors if vectors is not None else token_vectors  # type: ignore[assignment]
    if len(given) != len(documents):
        raise ParameterError(f"expected one vector or matrix for each of {len(documents)} documents, got {len(given)}")
    if token_vectors is not None:
        batch.tokens = joined_tokens(token_vectors, collection.dim)
    else:
        batch.vectors = as_matrix(vectors, collection.dim)
        batch.codes = codes
    if sparse_vectors is not None:
        batch.sparse = SparseRows.of(sparse_vectors, n=len(documents))
    batch.ready = batch.decoded = True
    return batch


def joined_tokens(matrices: Sequence[Any], dim: int | None) -> TokenMatrices:
    """Return stored token vectors of documents as one, checked; `dim` is what they must have, None where nothing says."""
    parts: list[Floats] = [as_matrix(matrix, dim, "token vectors") for matrix in matrices]
    width = dim if dim is not None else next((part.shape[1] for part in parts if len(part)), 1)
    filled = [part for part in parts if len(part)]
    flat = np.concatenate(filled) if filled else np.zeros((0, width), np.float32)
    return TokenMatrices(flat, np.cumsum([0, *(len(part) for part in parts)]))


__all__ = [
    "Blueprint",
    "add_stored",
    "blueprint_of",
    "joined_tokens",
    "most_token_vectors",
    "open_from_blueprint",
    "vectors_to_move",
]
