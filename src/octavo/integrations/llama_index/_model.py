"""Notices that nodes are embedded by another model than those that are stored.

What LlamaIndex embeds of a node is its text together with metadata, not the text that the collection holds. So the nodes
whose vectors an embedding model has made are remembered in the manifest under a name of their own (``nodes``, beside the
``sample`` of documents whose text alone was encoded), and are put together again before they are compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import resolve_embed_model
from llama_index.core.schema import BaseNode

from octavo._arrays import Floats
from octavo.collection import CollectionLike
from octavo.collection.model_check import ModelCheck
from octavo.encoders.dense import cosine
from octavo.encoders.page_images import is_image
from octavo.errors import MismatchError
from octavo.integrations.llama_index._nodes import embedded_text, read_nodes

_log = logging.getLogger(__name__)

#: Nodes that are looked at where nobody wrote down which ones a model has embedded.
_SAMPLE = 8

#: From this on, they come from the same one.
_ALIKE = 0.99

#: Below this, two vectors of one node are from different models, whatever was embedded of it.
_UNLIKE = 0.3


class NodeModel:
    """One model that turns nodes into vectors, compared with the stored ones beside the first use.

    Parameters
    ----------
    collection : CollectionLike
        Where the nodes are.
    name : str
        What to call the model.
    encode : callable
        Return vectors of what is embedded of nodes.
    """

    def __init__(self, collection: CollectionLike, name: str, encode: Callable[[list[str]], Any]) -> None:
        self._collection = collection
        self._name = name
        self._encode = encode
        self._begin()

    def _begin(self) -> None:
        self._space = _space(self._collection)
        self._known = _NodeVectors(self._collection)
        self._check = ModelCheck(self._known)

    @classmethod
    def of_embedding(cls, collection: CollectionLike, model: Any) -> NodeModel:
        """Return the check of an embedding model of LlamaIndex; a name is resolved as the framework does."""
        # a model that is there already is left alone: resolving would give it another callback manager
        embedding: BaseEmbedding = model if isinstance(model, BaseEmbedding) else resolve_embed_model(model)
        named = embedding.model_name
        name = named if named and named != "unknown" else f"{type(embedding).__module__}.{type(embedding).__qualname__}"
        return cls(collection, name, embedding.get_text_embedding_batch)

    @classmethod
    def of_tokens(cls, collection: CollectionLike) -> NodeModel | None:
        """Return the check of the model that a collection for late interaction has; None if it was opened without."""
        encoder = collection.encoder
        return cls(collection, encoder.name, encoder.encode_documents) if encoder is not None else None

    def compare(self) -> None:
        """Ask the model for a node that is stored, if it was not asked before.

        Raises
        ------
        MismatchError
            When the vectors of stored nodes are another model's.
        """
        if self._space != _space(self._collection):  # the vectors are another model's since
            self._begin()
        try:
            self._check.run(self._name, None, self._encode)
        except MismatchError as error:
            raise MismatchError(
                f"{error}. To change the collection to this model: store.reencode(embed_model)"
            ) from error

    def made(self, texts: Sequence[str], vectors: Sequence[Any]) -> bool:
        """Tell whether the model gives these very vectors for some texts; False where it cannot answer."""
        try:
            fresh = self._encode(list(texts))
            return all(
                len(one) == len(other) and cosine(one, other) >= _ALIKE
                for one, other in zip(fresh, vectors, strict=True)
            )
        except Exception as error:
            _log.warning("whether the embedding model has made a vector could not be checked: %r", error)
            return False

    def remember(self, nodes: Sequence[BaseNode]) -> None:
        """Write down that the model has made the vectors of these nodes, which are stored by now."""
        dim = self._collection.dim
        if dim is None:
            return
        first = {node.node_id: embedded_text(node) for node in nodes[:_SAMPLE]}
        self._check.remember(self._name, {}, dim, list(first), list(first.values()))

    def warn(self) -> None:
        """Compare where nobody wrote down which model was used; vectors of unknown origin are no error, but worth a line."""
        if self._known.read_encoder() is not None:
            self.compare()
            return
        if self._check.settled or not self._collection.dim:
            return
        self._check.settled = True
        found = self._collection.search(np.zeros(self._collection.dim, np.float32), _SAMPLE)
        ids, texts, stored = self._known.sample(found.ids)
        best = -1.0
        for part in (slice(0, 1), slice(1, None)):  # one is enough where all is well
            if best < _UNLIKE and texts[part]:
                try:
                    fresh = self._known.as_stored(self._encode(texts[part]))
                    best = max(best, *(cosine(one, other) for one, other in zip(fresh, stored[part], strict=True)))
                except Exception as err:
                    self._check.failed(err)
                    return
        if ids and best < _UNLIKE:
            _log.warning(
                "the embedding model %r gives vectors for stored nodes that have nothing to do with the stored ones (best "
                "cosine %.2f for %d nodes): was the collection embedded with another model?",
                self._name,
                best,
                len(ids),
            )


def _space(collection: CollectionLike) -> int:
    return collection.space


class _NodeVectors:
    """What a collection knows about the vectors of nodes; see `octavo.collection.model_check.Known`."""

    def __init__(self, collection: CollectionLike) -> None:
        self._collection = collection
        self._known = collection.model_check().known
        self._plain: set[str] = set()

    def read_encoder(self) -> dict[str, Any] | None:
        entry = self._known.read_encoder()
        if entry is None:
            return None
        plain = entry.get("sample", ())
        self._plain = set(plain)
        return {**entry, "sample": [*entry.get("nodes", ()), *plain]}

    def write_encoder(self, entry: dict[str, Any]) -> None:
        listed = entry.get("sample", ())
        self._known.write_encoder(
            {
                **entry,
                "sample": [name for name in listed if name in self._plain],
                "nodes": [name for name in listed if name not in self._plain],
            }
        )

    def sample(self, ids: Sequence[str]) -> tuple[list[str], list[str], Floats]:
        nodes = [name for name in ids if name not in self._plain]
        embedded = {node.node_id: embedded_text(node) for node in read_nodes(self._collection, nodes, None)}
        found, texts, vectors = self._known.sample(ids)
        encoded = [
            text if is_image(text) else embedded.get(name, text) for name, text in zip(found, texts, strict=True)
        ]
        return found, encoded, vectors

    def as_stored(self, vectors: Any) -> Floats:
        return self._known.as_stored(vectors)
