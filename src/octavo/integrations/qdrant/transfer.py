"""Moving a local collection into Qdrant and back: a collection of the same kind, and vectors as they were stored."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from octavo._arrays import Floats, as_matrix
from octavo._sparse_rows import SparseRows
from octavo._text_analysis import Analyser
from octavo.collection.rebuild import Blueprint, joined_tokens
from octavo.compression import Codec, Float32, Pipeline
from octavo.compression.candidates import candidate_encoder_from_config
from octavo.compression.spatial_pooling import pooling_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    ForeignCollectionError,
    MismatchError,
    ParameterError,
)
from octavo.integrations.qdrant._collection import QdrantCollection
from octavo.integrations.qdrant._filters import MANIFEST
from octavo.integrations.qdrant._late_collection import QdrantMultiVectorCollection, check_size, check_sizes
from octavo.integrations.qdrant._manifest import encode_state
from octavo.integrations.qdrant.late_points import LateCodec, centred, learns, map_token_codec
from octavo.integrations.qdrant.location import open_either
from octavo.integrations.qdrant.points import ClientCodec, map_codec
from octavo.integrations.qdrant.transport import Point
from octavo.store.documents import Batch, Document, read_batches
from octavo.store.settings import CANDIDATE_CODEC
from octavo.store.tokens import TokenCodec

_STATES = ("codec_state", "token_codec", "candidate_state")


def open_from_blueprint(
    blueprint: Blueprint,
    texts: Sequence[str] = (),
    *,
    longest: tuple[str, int] | None = None,
    analyser: Analyser | None = None,
    **options: Any,
) -> QdrantCollection:
    """Create a collection of the blueprint's kind in Qdrant, or open the one that is there if it was made from it.

    Parameters
    ----------
    blueprint : Blueprint
        Of a local collection. It is kept beside the description of the collection, so that `blueprint_of` finds it.
    texts : sequence of str, default=()
        Some of the documents' texts, whose length BM25 takes for typical.
    longest : tuple of str and int, optional
        Of token vectors: the document with the most of them, and how many; Qdrant has a limit.
    analyser : callable, optional
        The function that makes terms of texts, where one does.
    **options
        Where: ``path``, or ``url``, ``name`` and what else `QdrantCollection.create` takes of a server.

    Returns
    -------
    QdrantCollection
        A `QdrantMultiVectorCollection` where the blueprint has token vectors.

    Raises
    ------
    ParameterError
        When the collection knows no dimension yet, or something learned is not fitted yet.
    CodecError
        When Qdrant has no counterpart of the codec.
    InvalidVectorsError
        When the longest document is too long for Qdrant.
    MismatchError
        When there is a collection that was made from something else.
    """
    if blueprint.dim is None:
        raise ParameterError(
            "expected a collection that holds vectors, or knows their dimension; there is nothing to move"
        )
    codec: ClientCodec | LateCodec
    if _is_late(blueprint):
        codec = _late_codec(blueprint, blueprint.dim)
        if longest is not None:
            check_size(*longest, codec)
    else:
        codec = _client_codec(blueprint, blueprint.dim)
    try:
        there = open_either(**{name: options[name] for name in _OF_OPENING if name in options})
    except ForeignCollectionError:
        raise  # which is not to be created over
    except CollectionNotFoundError:
        pass  # it is created below
    else:
        if not _made_from(there, blueprint, codec):
            there.close()
            raise MismatchError(
                f"the collection at {there._transport.place} was not pushed from this one; choose another place or name, or "
                "delete it first"
            )
        there._take_words(analyser)
        return there
    words = {"full_text": analyser or blueprint.settings["full_text"]}
    created = (
        _create_late(blueprint, **options, **words) if _is_late(blueprint) else _create(blueprint, **options, **words)
    )
    try:
        created._lay_out(codec, blueprint.dim, texts, blueprint.encoder)
        if blueprint.sparse_encoder is not None:
            created._write_sparse_encoder(blueprint.sparse_encoder)
        _keep(created, blueprint)
    except BaseException:
        created.close()
        raise
    return created


_OF_OPENING = ("path", "url", "name", "api_key", "timeout", "retries")


def _create(blueprint: Blueprint, **options: Any) -> QdrantCollection:
    settings = blueprint.settings
    return QdrantCollection.create(
        codec=blueprint.codec,
        metric=settings["metric"],
        connectivity=settings.get("connectivity", 16),
        seed=settings.get("seed", 0),
        sparse=blueprint.sparse or None,
        **options,
    )


def _made_from(collection: QdrantCollection, blueprint: Blueprint, codec: ClientCodec | LateCodec) -> bool:
    stored = _read(collection)
    if stored is None and collection.count() == 0 and _is_like(collection, blueprint, codec):
        _keep(collection, blueprint)  # its creator was killed before this
        stored = blueprint
    return stored == blueprint


def _is_like(collection: QdrantCollection, blueprint: Blueprint, codec: ClientCodec | LateCodec) -> bool:
    manifest = collection._manifest
    assert manifest is not None  # it was opened
    settings = blueprint.settings
    about = (manifest.codec, manifest.metric, manifest.full_text, manifest.dim)
    if about != (str(Codec.parse(blueprint.codec)), settings["metric"], settings["full_text"], blueprint.dim):
        return False
    if (manifest.sparse is not None) != blueprint.sparse:
        return False
    if isinstance(codec, LateCodec):
        return manifest.late is not None and _learned_alike(manifest.state, manifest.late, blueprint, codec)
    return manifest.late is None and manifest.state == encode_state(codec)


def blueprint_of(collection: QdrantCollection) -> Blueprint:
    """Return what a local collection needs in order to be this one's equal.

    Of a collection that was not pushed, that is its settings; the codec is then fitted anew when there are enough documents.
    """
    stored = _read(collection)
    if stored is not None:
        return stored
    about = collection._about
    encoder = collection._manifest.encoder if collection._manifest is not None else None
    settings: dict[str, Any] = {"metric": about.metric, "full_text": about.full_text}
    analysis = collection._manifest.analysis if collection._manifest is not None else None
    if analysis is not None and "function" in analysis["used"]:
        settings["full_text_digest"] = analysis["used"]["function"]
    if isinstance(collection, QdrantMultiVectorCollection):
        settings |= _late_settings(collection)
    return Blueprint(
        settings,
        about.codec,
        collection.dim,
        encoder,
        sparse_encoder=collection._sparse_about.get("encoder"),
        sparse=collection.has_sparse_vectors,
    )


def has_codec(collection: QdrantCollection, blueprint: Blueprint) -> bool:
    """Tell whether a collection has the codec of a blueprint, and it has learned the same."""
    if collection._manifest is None or blueprint.dim is None or collection.codec != blueprint.codec:
        return False
    return collection._manifest.state == encode_state(_client_codec(blueprint, blueprint.dim))


def write_stored(
    collection: QdrantCollection,
) -> Callable[[Sequence[Document], Sequence[str | None], Any, Any], list[str]]:
    """Return what writes vectors, or token matrices, as they were stored.

    The collection's own `add` would scale vectors to unit length again, and pool tokens once more.
    """

    def write(
        documents: Sequence[Document], payloads: Sequence[str | None], vectors: Any, sparse: Any = None
    ) -> list[str]:
        (batch,) = read_batches(documents, None, None, None, payloads, batch_size=max(1, len(documents)), dim=None)
        if isinstance(collection, QdrantMultiVectorCollection):
            _take_tokens(collection, batch, vectors)
        else:
            batch.vectors = as_matrix(vectors, collection.dim)
        batch.decoded = True
        if sparse is not None:
            batch.sparse = SparseRows.of(sparse, n=len(batch))
        with collection._writing:
            return collection._write(batch)

    return write


def _keep(collection: QdrantCollection, blueprint: Blueprint) -> None:
    """Put the blueprint beside the description of the collection."""
    (point,) = collection._transport.retrieve([MANIFEST], True)
    text = _to_json(blueprint)
    kept = {"blueprint": text, "blueprint_sha256": hashlib.sha256(text.encode()).hexdigest()}
    collection._transport.upsert([Point(MANIFEST, point.payload | kept)])


def _client_codec(blueprint: Blueprint, dim: int) -> ClientCodec:
    """Return the reducers that the local collection has learned."""
    map_codec(blueprint.codec)
    if blueprint.codec_state is None:
        codec = ClientCodec.of(blueprint.codec)
        if codec.learns:
            raise ParameterError(
                f"the codec {blueprint.codec!r} has not been fitted yet: call fit() on the collection first"
            )
        codec.fit(np.zeros((0, dim), np.float32))
        return codec
    reducers = Codec.from_bytes(blueprint.codec_state).tiers[-1].reducers
    width = reducers[-1].out_dim if reducers else dim
    return ClientCodec(Pipeline([*reducers, Float32().fit(np.zeros((0, width), np.float32))]))


def _to_json(blueprint: Blueprint) -> str:
    values = asdict(blueprint)
    for name in _STATES:
        if values[name] is not None:
            values[name] = base64.b64encode(values[name]).decode("ascii")
    return json.dumps(values, sort_keys=True)


def _read(collection: QdrantCollection) -> Blueprint | None:
    found = collection._transport.retrieve([MANIFEST], True) if collection._manifest is not None else []
    text = found[0].payload.get("blueprint") if found else None
    if text is None:
        return None
    if hashlib.sha256(text.encode()).hexdigest() != found[0].payload.get("blueprint_sha256"):
        raise CorruptCollectionError(f"the stored codec of the collection at {collection._transport.place} is damaged")
    values = json.loads(text)
    for name in _STATES:
        if values[name] is not None:
            values[name] = base64.b64decode(values[name])
    return Blueprint(**values)


def _is_late(blueprint: Blueprint) -> bool:
    """Tell whether a blueprint is that of a collection with token vectors."""
    return bool(blueprint.settings.get("multi_vector"))


def _late_codec(blueprint: Blueprint, dim: int) -> LateCodec:
    """Return what the local collection has learned: reducers and candidate encoder.

    A collection that is too young to have learned anything moves, too, if nothing but a centre is missing: its candidate
    vectors in Qdrant do without one, as those of a new collection with few documents do.

    Raises
    ------
    CodecError
        When Qdrant has no counterpart of the codec.
    ParameterError
        When reducers or candidate encoder are not fitted yet.
    CorruptCollectionError
        When the stored state is damaged.
    """
    map_token_codec(blueprint.codec)
    if blueprint.token_codec is not None:
        parts = {"token_codec": blueprint.token_codec, "candidate_state": blueprint.candidate_state or b""}
        return LateCodec.of(TokenCodec.from_manifest(parts), dim)
    candidates: dict[str, Any] = blueprint.settings["candidates"]
    if learns(blueprint.codec, candidates):
        raise ParameterError(
            f"the codec {blueprint.codec!r} or what finds candidates ({candidates['id']!r}) has not been fitted yet: call "
            "fit() on the collection first"
        )
    if centred(candidates):
        candidates = {**candidates, "centre": False}
    anything = TokenMatrices.of(
        [np.eye(1, dim, dtype=np.float32)]
    )  # nothing is left to learn from it but the dimension
    encoder = candidate_encoder_from_config(candidates)
    return LateCodec.fit(blueprint.codec, encoder, anything, seed=blueprint.settings.get("seed", 0))


def _create_late(blueprint: Blueprint, **options: Any) -> QdrantMultiVectorCollection:
    """Prepare a collection of the blueprint's kind; nothing is in Qdrant yet."""
    settings = blueprint.settings
    return QdrantMultiVectorCollection.create(
        codec=blueprint.codec,
        pooling=pooling_from_config(settings["pooling"]),
        candidates=candidate_encoder_from_config(settings["candidates"]),
        connectivity=settings.get("connectivity", 16),
        seed=settings.get("seed", 0),
        sparse=blueprint.sparse or None,
        **options,
    )


def _learned_alike(state: str, late: Mapping[str, Any], blueprint: Blueprint, codec: LateCodec) -> bool:
    """Tell whether a description's states and pooling are those of the blueprint."""
    return (state, late["state"]) == codec.to_state() and late["pooling"] == blueprint.settings["pooling"]


def _late_settings(collection: QdrantMultiVectorCollection) -> dict[str, Any]:
    """Return the settings of a local collection that are about token vectors.

    Where few documents were there at first, the collection in Qdrant does without a centre, and so does the local one.
    """
    manifest = collection._manifest
    assert manifest is not None  # it was opened,
    assert manifest.late is not None  # as a collection with token vectors
    late = manifest.late
    return {
        "multi_vector": True,
        "pooling": late["pooling"],
        "candidates": late["candidates"],
        "candidate_codec": CANDIDATE_CODEC,
    }


def _take_tokens(collection: QdrantMultiVectorCollection, batch: Batch, matrices: Sequence[Floats]) -> None:
    """Make a batch ready to be written with stored token vectors: decoded and pooled already.

    The reducers run over them again, which changes nothing, because what they give back lies in the space that they keep.

    Raises
    ------
    InvalidVectorsError
        When a document has more numbers than Qdrant takes.
    """
    batch.tokens = joined_tokens(matrices, collection.dim)
    batch.ready = True
    check_sizes(batch, collection._learned())
