"""Nodes as the columns that `Collection.add` takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from llama_index.core.schema import BaseNode

from octavo._arrays import Floats
from octavo.errors import InvalidVectorsError
from octavo.integrations.llama_index._nodes import Record, embedded_text, to_record
from octavo.store.documents import Document


class NodeBatch(NamedTuple):
    """Columns with one row for each id, and the ids as they were given, repetitions included.

    What is embedded of a node is its text together with metadata, without those in ``excluded_embed_metadata_keys``: None where
    that is the text alone.
    """

    ids: list[str]
    texts: list[str]
    metadata: list[dict[str, Any]]
    payloads: list[str]
    embed_texts: list[str | None]
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
    kept: dict[str, tuple[Record, str, Sequence[float]]] = {}
    for position, node in enumerate(nodes):
        record = to_record(node, position)
        if node.embedding is None:
            raise InvalidVectorsError(
                f"expected nodes with embeddings, got none on node {record.id!r}; add it through VectorStoreIndex "
                "or an IngestionPipeline with an embedding model, or set node.embedding"
            )
        given.append(record.id)
        kept[record.id] = record, embedded_text(node), node.embedding
    embeddings = {identifier: embedding for identifier, (_, _, embedding) in kept.items()}
    return _columns([(record, text) for record, text, _ in kept.values()], given), _matrix(embeddings, dim)


def to_texts(nodes: Iterable[BaseNode], *, images: bool = False, stored: Mapping[str, str] | None = None) -> NodeBatch:
    """Return nodes as columns; where an id comes twice, the last node counts.

    Embeddings that the nodes bring along are left alone. With `images`, the vectors of a node with an image are made of that.
    `stored` says what stands for the images of nodes that are stored: see `to_record`.

    Raises
    ------
    InputTypeError
        When something is no node, or cannot be stored.
    """
    given: list[str] = []
    kept: dict[str, tuple[Record, str]] = {}
    for position, node in enumerate(nodes):
        known = stored.get(node.node_id) if stored and isinstance(node, BaseNode) else None
        record = to_record(node, position, images=images, stored=known)
        given.append(record.id)
        kept[record.id] = record, embedded_text(node)
    return _columns(list(kept.values()), given)


def _columns(records: list[tuple[Record, str]], given: list[str]) -> NodeBatch:
    return NodeBatch(
        [record.id for record, _ in records],
        [record.text for record, _ in records],
        [record.metadata for record, _ in records],
        [record.payload for record, _ in records],
        [text if text != record.text and record.image is None else None for record, text in records],
        given,
        [record.image for record, _ in records],
    )


def _matrix(kept: dict[str, Sequence[float]], dim: int | None) -> Floats:
    """Return the embeddings as rows, converted one at a time: all at once would keep other threads waiting for long."""
    if dim is None:
        dim = next((len(embedding) for embedding in kept.values()), 0)
    matrix = np.empty((len(kept), dim), np.float32)
    with np.errstate(over="ignore"):  # the collection refuses infinity, with a message of its own
        for row, (identifier, embedding) in enumerate(kept.items()):
            if len(embedding) != dim:
                raise InvalidVectorsError(
                    f"expected embeddings of dimension {dim}, got {len(embedding)} on node {identifier!r}; was the "
                    "collection built with another model?"
                )
            matrix[row] = embedding
    return matrix
