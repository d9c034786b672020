"""Nodes out of a collection, wherever its documents lie."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from llama_index.core.schema import BaseNode

from octavo import Collection
from octavo.collection import CollectionLike
from octavo.filters import Filter, matches
from octavo.integrations.llama_index._nodes import to_node
from octavo.retrievers.search import read_documents, slots_of_ids
from octavo.store.documents import Document


def read_nodes(collection: CollectionLike, ids: Sequence[str] | None, where: Filter | None) -> list[BaseNode]:
    """Return nodes by id (None names every node), by filter, or those that both name."""
    asked = collection.ids(where) if ids is None else list(ids)
    stored = _read(collection, asked)
    nodes: list[BaseNode] = []
    used: set[str] = set()
    for identifier in asked:
        if identifier not in stored:
            continue
        document, payload = stored[identifier]
        if where is not None and not matches(where, document.metadata):
            continue
        if identifier in used:  # asked for twice: two nodes that share nothing
            document = copy.deepcopy(document)
        used.add(identifier)
        nodes.append(to_node(document, payload))
    return nodes


def _read(collection: CollectionLike, ids: Sequence[str]) -> dict[str, tuple[Document, str | None]]:
    if isinstance(collection, Collection):
        with collection.connection() as connection:  # one transaction: a document and its payload belong together
            slots = slots_of_ids(connection, ids)
            stored = read_documents(connection, sorted(slots.values()))
        return {identifier: stored[slot] for identifier, slot in slots.items()}
    documents = collection.get(list(dict.fromkeys(ids)))
    payloads = collection.get_payloads([document.id for document in documents])
    return {document.id: (document, payload) for document, payload in zip(documents, payloads, strict=True)}
