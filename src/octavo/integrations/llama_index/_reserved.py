"""Keys that the adapter keeps in a document's metadata beside the user's own.

The node's metadata is stored at the top level, so that plain Python and the other adapters can filter on it. What the
adapter adds starts with ``octavo:``; a user's key that starts like this is stored with a second colon, so the two
never meet.

llama-index-core itself adds ``ref_doc_id``, ``doc_id``, ``document_id`` and ``_node_type`` to what can be filtered,
over any value of the user's. Here they mean the same, except that a node's own value under such a key wins.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from octavo.filters import And, Exists, Field, Filter, Leaf, Not, Or

_PREFIX = "octavo:"
_ESCAPED = "octavo::"

#: Id of the document that a node was cut from.
SOURCE = "octavo:ref_doc_id"

#: Name of the node's class.
NODE_TYPE = "octavo:node_type"

#: Names under which llama-index-core's stores let filters see the same facts.
_ALIASES = {"ref_doc_id": SOURCE, "doc_id": SOURCE, "document_id": SOURCE, "_node_type": NODE_TYPE}


def stored_metadata(metadata: dict[str, Any], source: str | None, node_type: str) -> dict[str, Any]:
    """Return what is stored for a node's metadata."""
    if any(key.startswith(_PREFIX) for key in metadata):
        metadata = {_escape(key): value for key, value in metadata.items()}
    stored = {**metadata, NODE_TYPE: node_type}
    if source is not None:
        stored[SOURCE] = source
    return stored


def node_metadata(stored: dict[str, Any]) -> dict[str, Any]:
    """Undo `stored_metadata`."""
    if not any(key.startswith(_PREFIX) for key in stored):
        return stored
    return {
        _PREFIX + key.removeprefix(_ESCAPED) if key.startswith(_ESCAPED) else key: value
        for key, value in stored.items()
        if not key.startswith(_PREFIX) or key.startswith(_ESCAPED)
    }


def _escape(key: str) -> str:
    return _ESCAPED + key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else key


def on_stored_keys(tree: Filter) -> Filter:
    """Return a filter on nodes' metadata as a filter on what is stored."""
    if isinstance(tree, And | Or):
        return type(tree)(*(on_stored_keys(item) for item in tree.filters))
    if isinstance(tree, Not):
        return Not(on_stored_keys(tree.filter))
    if not isinstance(tree, Leaf):
        return tree
    path = _field(tree).path
    key = path[0]
    if key in _ALIASES and len(path) == 1:
        ours = _on_key(tree, _ALIASES[key])
        return Or(And(Exists(Field(key)), tree), And(Not(Exists(Field(key))), ours))
    return _on_key(tree, _escape(key)) if key.startswith(_PREFIX) else tree


def _on_key(leaf: Leaf, key: str) -> Leaf:
    old = _field(leaf)
    field = Field(key, *old.path[1:], elements=old.elements, typed=old.typed)
    # every leaf is a frozen dataclass with a `field`; the abstract base does not say so
    return dataclasses.replace(leaf, field=field)  # type: ignore[type-var]


def _field(leaf: Leaf) -> Field:
    return leaf.field if isinstance(leaf.field, Field) else Field(leaf.field)
