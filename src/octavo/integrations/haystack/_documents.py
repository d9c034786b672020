"""Haystack's documents as ours, and back."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

from octavo._arrays import Floats
from octavo.errors import ParameterError
from octavo.store.documents import Document as Stored

#: Marks documents without an embedding in their metadata, so that searches by embedding can leave them out.
UNEMBEDDED = "octavo:haystack:unembedded"

#: Begins the payload of a document that has more than a text; other adapters keep other things there.
_PREFIX = '{"octavo:haystack": '


def metadata_of(document: Document) -> dict[str, Any]:
    """Return what is stored as metadata.

    Raises
    ------
    ParameterError
        When the document uses the name that marks documents without an embedding.
    """
    if UNEMBEDDED in document.meta:
        raise ParameterError(f"expected metadata without {UNEMBEDDED!r}, which the document store sets itself")
    return dict(document.meta) if document.embedding is not None else {**document.meta, UNEMBEDDED: True}


def payload_of(document: Document) -> str | None:
    """Return what a document has beside text, metadata and embedding, as JSON; None for nothing."""
    rest: dict[str, Any] = {}
    if document.content is None:
        rest["no_content"] = True
    if document.blob is not None:
        data = base64.b64encode(document.blob.data).decode("ascii")
        rest["blob"] = {"data": data, "meta": document.blob.meta, "mime_type": document.blob.mime_type}
    if document.sparse_embedding is not None:
        rest["sparse_embedding"] = document.sparse_embedding.to_dict()
    return f"{_PREFIX}{json.dumps(rest)}}}" if rest else None


def from_stored(
    document: Stored, payload: str | None, *, score: float | None = None, embedding: Floats | None = None
) -> Document:
    """Return a stored document as Haystack's."""
    rest: dict[str, Any] = {}
    if payload is not None and payload.startswith(_PREFIX):
        rest = json.loads(payload)["octavo:haystack"]
    meta = dict(document.metadata)
    unembedded = meta.pop(UNEMBEDDED, False)
    blob = rest.get("blob")
    sparse = rest.get("sparse_embedding")
    return Document(
        id=document.id,
        content=None if rest.get("no_content") else document.text,
        meta=meta,
        score=score,
        embedding=None if embedding is None or unembedded else embedding.tolist(),
        blob=None
        if blob is None
        else ByteStream(data=base64.b64decode(blob["data"]), meta=blob["meta"], mime_type=blob["mime_type"]),
        sparse_embedding=None if sparse is None else SparseEmbedding.from_dict(sparse),
    )


def sparse_pair(embedding: SparseEmbedding | None) -> tuple[list[int], list[float]] | None:
    """Return a sparse embedding as a collection takes it: terms in rising order, and their weights."""
    if embedding is None:
        return None
    pairs = sorted(zip(embedding.indices, embedding.values, strict=True))
    return [term for term, _ in pairs], [weight for _, weight in pairs]


def vectors_of(documents: list[Document], dim: int) -> Floats:
    """Return the embeddings as a matrix; documents without one get zeros, which are like nothing.

    Raises
    ------
    ParameterError
        When an embedding has another dimension.
    """
    matrix = np.zeros((len(documents), dim), np.float32)
    for row, document in enumerate(documents):
        if document.embedding is None:
            continue
        if len(document.embedding) != dim:
            raise ParameterError(
                f"expected embeddings of dimension {dim}, got {len(document.embedding)} for document {document.id!r}; was the "
                "store filled with another model?"
            )
        matrix[row] = document.embedding
    return matrix
