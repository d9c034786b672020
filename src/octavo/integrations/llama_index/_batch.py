"""Nodes as the columns that `Collection.add` takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llama_index.core.schema import BaseNode, MetadataMode

from octavo._arrays import Floats
from octavo.errors import InvalidVectorsError
from octavo.integrations.llama_index._nodes import Record, to_record
from octavo.store.documents import Document


class NodeBatch(NamedTuple):
    """Columns with one row for each id, and the ids as they were given, repetitions included."""

    ids: list[str]
    texts: list[str]
    metadata: list[dict[str, Any]]
    payloads: list[str]
    given: list[str]
    images: list[str | None]

    @property
    def documents(self) -> list[str | Document]:
        """The texts, or documents where the vectors are made of an image."""
        return [
            text if image is None else Document(name, text, metadata, image)
            for name, text, metadata, image in zip(self.ids, self.texts, self.metadata, self.images, strict=True)
        ]


def to_batch(nodes: Iterable[BaseNode], dim: int | None) -> tuple[NodeBatch, Floats]:
    """Return nodes as columns, and their embeddings; where an id comes twice, the last node counts.

    Parameters
    ----------
    nodes : iterable of BaseNode
        Each with an embedding.
    dim : int or None
        Dimension of the embeddings; None takes the first one's.

    Raises
    ------
    InvalidVectorsError
        When a node has no embedding, or one of another dimension.
    InputTypeError
        When it is no node, or cannot be stored.
    """
    given: list[str] = []
    kept: dict[str, tuple[Record, Sequence[float]]] = {}
    for position, node in enumerate(nodes):
        record = to_record(node, position)
        if node.embedding is None:
            raise InvalidVectorsError(
                f"expected nodes with embeddings, got none on node {record.id!r}; add it through VectorStoreIndex "
                "or an IngestionPipeline with an embedding model, or set node.embedding"
            )
        given.append(record.id)
        kept[record.id] = record, node.embedding
    return _columns([record for record, _ in kept.values()], given), _matrix(kept, dim)


def to_texts(nodes: Iterable[BaseNode], *, images: bool = False) -> tuple[NodeBatch, list[str]]:
    """Return nodes as columns, and what is to be encoded of each; where an id comes twice, the last node counts.

    Embeddings that the nodes bring along are left alone. As with embeddings in LlamaIndex, what is encoded is the text
    together with the metadata, without those in ``excluded_embed_metadata_keys``; with `images`, of a node with an image
    that alone.

    Raises
    ------
    InputTypeError
        When something is no node, or cannot be stored.
    """
    given: list[str] = []
    kept: dict[str, tuple[Record, str]] = {}
    for position, node in enumerate(nodes):
        record = to_record(node, position, images=images)
        given.append(record.id)
        kept[record.id] = record, record.image or node.get_content(metadata_mode=MetadataMode.EMBED)
    return _columns([record for record, _ in kept.values()], given), [text for _, text in kept.values()]


def _columns(records: list[Record], given: list[str]) -> NodeBatch:
    return NodeBatch(
        [record.id for record in records],
        [record.text for record in records],
        [record.metadata for record in records],
        [record.payload for record in records],
        given,
        [record.image for record in records],
    )


def _matrix(kept: dict[str, tuple[Record, Sequence[float]]], dim: int | None) -> Floats:
    """Return the embeddings as rows, converted one at a time: all at once would keep other threads waiting for long."""
    if dim is None:
        dim = next((len(embedding) for _, embedding in kept.values()), 0)
    matrix = np.empty((len(kept), dim), np.float32)
    with np.errstate(over="ignore"):  # the collection refuses infinity, with a message of its own
        for row, (identifier, (_, embedding)) in enumerate(kept.items()):
            if len(embedding) != dim:
                raise InvalidVectorsError(
                    f"expected embeddings of dimension {dim}, got {len(embedding)} on node {identifier!r}; was the "
                    "collection built with another model?"
                )
            matrix[row] = embedding
    return matrix
