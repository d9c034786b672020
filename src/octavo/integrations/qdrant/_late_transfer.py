"""The part of moving a collection into Qdrant and back that belongs to late interaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo.collection.rebuild import Blueprint, joined_tokens
from octavo.compression.candidates import candidate_encoder_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import TokenPooling
from octavo.errors import ParameterError
from octavo.integrations.qdrant._late_collection import QdrantMultiVectorCollection, check_sizes
from octavo.integrations.qdrant.late_codec import LateCodec, centred, learns, map_token_codec
from octavo.store.documents import Batch
from octavo.store.settings import CANDIDATE_CODEC
from octavo.store.tokens import TokenCodec


def is_late(blueprint: Blueprint) -> bool:
    """Tell whether a blueprint is that of a collection with token vectors."""
    return bool(blueprint.settings.get("multi_vector"))


def late_codec(blueprint: Blueprint, dim: int) -> LateCodec:
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


def create_late(blueprint: Blueprint, **options: Any) -> QdrantMultiVectorCollection:
    """Prepare a collection of the blueprint's kind; nothing is in Qdrant yet."""
    settings = blueprint.settings
    return QdrantMultiVectorCollection.create(
        codec=blueprint.codec,
        pooling=TokenPooling.from_config(settings["pooling"]),
        candidates=candidate_encoder_from_config(settings["candidates"]),
        full_text=settings["full_text"],
        connectivity=settings.get("connectivity", 16),
        seed=settings.get("seed", 0),
        **options,
    )


def is_like(state: str, late: Mapping[str, Any], blueprint: Blueprint, codec: LateCodec) -> bool:
    """Tell whether a description's states and pooling are those of the blueprint."""
    return (state, late["state"]) == codec.to_state() and late["pooling"] == blueprint.settings["pooling"]


def late_settings(collection: QdrantMultiVectorCollection) -> dict[str, Any]:
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


def take_tokens(collection: QdrantMultiVectorCollection, batch: Batch, matrices: Sequence[Floats]) -> None:
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
