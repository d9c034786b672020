"""LlamaIndex nodes as documents of a collection, and back.

A node becomes a document: its id, its text without metadata, its metadata, and a payload that holds everything else
(relationships, templates, offsets, media, the class). Nothing is stored twice, and fields that have their default
value are left out. The payload is JSON: ``{"node": 1, "type": ..., "class": ..., "fields": {...}}``, where ``type``
is the nearest class of llama-index-core, ``class`` is there only for subclasses of it, and ``node`` is the version of
this layout.

The node's metadata is stored at the top level, so that plain Python and the other adapters can filter on it. What the
adapter adds starts with ``octavo:``; a user's key that starts like this is stored with a second colon, so the two
never meet. llama-index-core itself adds ``ref_doc_id``, ``doc_id``, ``document_id`` and ``_node_type`` to what can be
filtered, over any value of the user's. Here they mean the same, except that a node's own value under such a key wins.
"""

from __future__ import annotations

import base64
import binascii
import copy
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from llama_index.core.bridge.pydantic import BaseModel, ConfigDict
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    ObjectType,
    TextNode,
)
from llama_index.core.storage.docstore.utils import json_to_doc

from octavo.collection import CollectionLike
from octavo.encoders.page_images import PageImage, is_image
from octavo.errors import InputTypeError, InvalidImageError, MismatchError
from octavo.filters import And, Exists, Field, Filter, Leaf, Not, Or, matches
from octavo.retrievers.search import read_documents
from octavo.store.documents import Document as StoredDocument
from octavo.store.documents import check_text, metadata_from_tagged, metadata_to_tagged, normal_metadata, normal_to_json

_VERSION = 1

_CORE_TYPES: dict[str, type[BaseNode]] = {
    cls.__name__: cls for cls in (TextNode, ImageNode, IndexNode, Node, Document, ImageDocument)
}

_OBJECT_TYPES = {member.value: member for member in ObjectType}

#: Fields that the document itself holds.
_ELSEWHERE = ("id_", "embedding", "metadata", "class_name")

_PREFIX = "octavo:"
_ESCAPED = "octavo::"

#: Id of the document that a node was cut from.
SOURCE = "octavo:ref_doc_id"

#: Name of the node's class.
NODE_TYPE = "octavo:node_type"

#: Names under which llama-index-core's stores let filters see the same facts.
_ALIASES = {"ref_doc_id": SOURCE, "doc_id": SOURCE, "document_id": SOURCE, "_node_type": NODE_TYPE}


class Record(NamedTuple):
    """A node as a collection takes it."""

    id: str
    text: str
    metadata: dict[str, Any]
    payload: str
    image: str | None = None  # what stands for its image, where that is to be encoded


class StoredObject(BaseModel):
    """What stands in for an `IndexNode.obj` that was some pydantic model: the same fields, but not its class."""

    model_config = ConfigDict(extra="allow")


# ---------------------------------------------------------------------- node -> record


def to_record(node: BaseNode, position: int = 0, *, images: bool = False, stored: str | None = None) -> Record:
    """Return a node as a document and payload, without its embedding.

    Parameters
    ----------
    node : BaseNode
        The node.
    position : int
        Its place in what the caller gave, for messages.
    images : bool
        Whether the vectors of a node with an image are made of that.
    stored : str or None
        What stands for the image in a collection that has one of this node: the same is not kept in the payload once more.

    Raises
    ------
    InvalidImageError
        When the image of a node cannot be used.
    InputTypeError
        When it is no node, or something in it cannot be stored as JSON.
    ParameterError
        When a number in the metadata is NaN or infinite, or an id, the text or a key is no valid Unicode.
    """
    if not isinstance(node, BaseNode):
        raise InputTypeError(f"expected LlamaIndex nodes, got {type(node).__name__} at position {position}")
    cls = type(node)
    where = f"node {node.node_id!r} at position {position}"
    check_text(node.node_id, f"the id of {where}")
    metadata, related = normal_metadata(node.metadata, where), _tagged_relationships(node, where)
    normal_to_json(metadata, where)  # what cannot be written is named with the node's place, not that in a batch
    try:
        # Without the metadata, which pydantic would make other values of (and one key of two that it cannot write).
        fields = node.model_dump(mode="json", exclude={"embedding", "metadata"})
    except ValueError as err:
        hint = ""
        if isinstance(node, IndexNode) and node.obj is not None:
            hint = (
                "; objects that only live in memory (retrievers, query engines) belong into "
                "VectorStoreIndex(objects=[...]) or index.insert_nodes, which keep them beside the store"
            )
        raise InputTypeError(f"{where} cannot be stored as JSON: {err}{hint}") from err
    text = check_text(node.get_content(metadata_mode=MetadataMode.NONE), f"the text of {where}")
    for name in _ELSEWHERE:
        fields.pop(name, None)
    _pack_relationships(fields, related)
    _pack_object(node, fields, where)
    image = _image_of(node, where) if images else stored
    if isinstance(node, ImageNode) and image is not None and node.image == _base64_of(image):
        fields["image"] = True  # it is what stands for the document's image
    if isinstance(node, Node):
        fields.pop("text", None)  # Document repeats it there for older readers
        _pack_resources(node, fields, text, image)
    elif fields.get("text") == text:
        del fields["text"]
    defaults = _defaults(cls)
    fields = {name: value for name, value in fields.items() if name not in defaults or defaults[name] != value}
    core_type = _core_type(cls)
    payload: dict[str, Any] = {"node": _VERSION, "type": core_type}
    if core_type is None or _CORE_TYPES[core_type] is not cls:
        payload["class"] = _class_key(cls)
    payload["fields"] = fields
    return Record(
        node.node_id,
        text,
        stored_metadata(metadata, _source_id(node), node.class_name()),
        _to_json(payload, node, where),
        image,
    )


def embedded_text(node: BaseNode) -> str:
    """Return what LlamaIndex embeds of a node; the text alone where the node's own templates cannot be filled.

    Parameters
    ----------
    node : BaseNode
        A node, with or without an embedding.
    """
    try:
        return node.get_content(metadata_mode=MetadataMode.EMBED)
    except (ValueError, LookupError, AttributeError):  # of str.format: nobody can have embedded it that way
        return node.get_content(metadata_mode=MetadataMode.NONE)


def _tagged_relationships(node: BaseNode, where: str) -> dict[str, list[dict[str, Any]]]:
    """Return the metadata of related nodes in the form that brings them back equal, by relation."""
    return {
        str(relation.value): [
            metadata_to_tagged(info.metadata, f"{where}, its relationship {relation.name}")
            for info in (infos if isinstance(infos, list) else [infos])
        ]
        for relation, infos in node.relationships.items()
    }


def _pack_relationships(fields: dict[str, Any], related: dict[str, list[dict[str, Any]]]) -> None:
    for relation, tagged in related.items():
        dumped = fields["relationships"][relation]
        for info, metadata in zip(dumped if isinstance(dumped, list) else [dumped], tagged, strict=True):
            info["metadata"] = metadata


def _pack_object(node: BaseNode, fields: dict[str, Any], where: str) -> None:
    """Do the same for a node that an index node leads to."""
    if isinstance(node, IndexNode) and isinstance(node.obj, BaseNode):
        where, data = f"the node in obj of {where}", fields["obj"]["__data__"]
        data["metadata"] = metadata_to_tagged(node.obj.metadata, where)
        _pack_relationships(data, _tagged_relationships(node.obj, where))
        _pack_object(node.obj, data, where)


def _unpack_relationships(fields: dict[str, Any]) -> None:
    for relation in fields.get("relationships", {}).values():
        for info in relation if isinstance(relation, list) else (relation,):
            info["metadata"] = metadata_from_tagged(info.get("metadata", {}))
            info["node_type"] = _OBJECT_TYPES.get(info.get("node_type"), info.get("node_type"))


def _to_json(payload: dict[str, Any], node: BaseNode, where: str) -> str:
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    if "\ufffd" in text:  # what pydantic writes for a key that is no valid Unicode, so that two could become one
        _check_keys(node.model_dump(exclude={"embedding", "metadata", "relationships"}), where)
    return check_text(text, f"the fields and relationships of {where}")


def _check_keys(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                check_text(key, f"a key in the fields of {where}")
            _check_keys(inner, where)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner, where)


def _source_id(node: BaseNode) -> str | None:
    """Return the id of the document that the node belongs to; a whole document that was cut from nothing is its own."""
    source = node.ref_doc_id
    return node.node_id if source is None and isinstance(node, Document) else source


def _pack_resources(node: Node, fields: dict[str, Any], text: str, image: str | None) -> None:
    for name in type(node).model_fields:
        resource = getattr(node, name)
        if not isinstance(resource, MediaResource):
            continue
        packed = {key: value for key, value in fields[name].items() if value is not None}
        if resource.data is not None:
            # base64 text; llama-index-core leaves it out of every dump, so that images would be lost
            data = resource.data.decode("ascii")
            packed["data"] = (
                True if image is not None and name == "image_resource" and data == _base64_of(image) else data
            )
        fields[name] = packed
    resource = node.text_resource
    if resource is not None and resource.text is not None and resource.text == text:
        fields["text_resource"]["text"] = True  # it is the document's text


def has_image(node: BaseNode) -> bool:
    """Tell whether a node brings an image along, or the path of one; the address of one does not count."""
    return any(_image_places(node))


def _image_places(node: BaseNode) -> tuple[str | None, Any]:
    """Return a node's image as base64, and the path of one."""
    if isinstance(node, ImageNode):
        return node.image, node.image_path
    if isinstance(node, Node) and node.image_resource is not None:
        resource = node.image_resource
        return (resource.data.decode("ascii") if resource.data is not None else None), resource.path
    return None, None


def _image_of(node: BaseNode, where: str) -> str | None:
    """Return what stands for a node's image in a collection; None if it has none, or only the address of one."""
    data, path = _image_places(node)
    try:
        if data:
            _, comma, behind = data.partition(",")
            given = behind if comma and data.startswith("data:") else data
            return PageImage(base64.b64decode("".join(given.split()), validate=True)).embed_text
        return PageImage(path, keep="reference").embed_text if path else None
    except (InvalidImageError, binascii.Error) as error:
        raise InvalidImageError(f"the image of {where}: {error}") from error


def _base64_of(embed_text: str) -> str | None:
    """Return the base64 of an image that is stored itself."""
    head, comma, data = embed_text.partition(";base64,")
    return data if comma and is_image(head) else None


_defaults_of: dict[type[BaseNode], dict[str, Any]] = {}


def _defaults(cls: type[BaseNode]) -> dict[str, Any]:
    """Return the fields whose default is plain JSON, so that only what differs from it need be stored."""
    known = _defaults_of.get(cls)
    if known is None:
        known = {}
        for name, field in cls.model_fields.items():
            if not field.is_required() and name != "text":
                value = field.get_default(call_default_factory=True, validated_data={})
                if value is None or isinstance(value, str | int | float | list | dict):
                    known[name] = value
        known.pop("id_", None)
        _defaults_of[cls] = known
    return known


# ---------------------------------------------------------------------- record -> node


def to_node(document: StoredDocument, payload: str | None) -> BaseNode:
    """Return the node that a stored document was made from.

    Documents that were not added through LlamaIndex become a `TextNode` with their id, text and metadata. The
    document's metadata is taken over, not copied.

    Raises
    ------
    MismatchError
        When the node's class is not known to this process and nothing in llama-index-core comes near it.
    """
    stored = _parse(payload)
    if stored is None:
        return TextNode(id_=document.id, text=document.text, metadata=document.metadata)
    cls = _find_class(document.id, stored)
    fields: dict[str, Any] = stored["fields"]
    fields["id_"] = document.id
    fields["metadata"] = node_metadata(document.metadata)
    if fields.get("image") is True:
        fields["image"] = _base64_of(document.to_embed)
    if issubclass(cls, Node):
        resource = fields.get("text_resource")
        if resource is not None and resource.get("text") is True:
            resource["text"] = document.text
        resource = fields.get("image_resource")
        if resource is not None and resource.get("data") is True:
            resource["data"] = _base64_of(document.to_embed)
    elif "text" not in fields and "text" in cls.model_fields:
        fields["text"] = document.text
    _unpack_relationships(fields)
    if issubclass(cls, IndexNode):
        obj = fields.pop("obj", None)
        node = cls(**fields)
        node.obj = _restore_object(obj)
        return node
    return cls(**fields)


def _parse(payload: str | None) -> dict[str, Any] | None:
    """Return a payload that this module wrote; other adapters may share the collection."""
    if payload is None or not payload.startswith('{"node":'):
        return None
    stored: dict[str, Any] = json.loads(payload)
    if stored["node"] != _VERSION:
        raise MismatchError(
            f"a node was stored in layout {stored['node']}, this version of Octavo reads {_VERSION}; upgrade Octavo"
        )
    return stored


def _restore_object(obj: Any) -> Any:
    """Undo how `IndexNode` dumps its `obj`: nodes and pydantic models as an object, the rest as JSON text."""
    if isinstance(obj, str):
        return json.loads(obj)
    if isinstance(obj, dict):
        data = obj.get("__data__")
        if not isinstance(data, dict):
            return StoredObject.model_validate(obj)
        data["metadata"] = metadata_from_tagged(data.get("metadata", {}))
        _unpack_relationships(data)
        cls = _CORE_TYPES.get(data.get("class_name", ""))
        if cls is None:
            return json_to_doc(obj)
        data = {name: value for name, value in data.items() if name != "class_name"}
        if issubclass(cls, Node):
            data.pop("text", None)
        if issubclass(cls, IndexNode):
            inner = data.pop("obj", None)
            node = cls(**data)
            node.obj = _restore_object(inner)
            return node
        return cls(**data)
    return obj


# ---------------------------------------------------------------------- classes


def _core_type(cls: type[BaseNode]) -> str | None:
    for base in cls.__mro__:
        if _CORE_TYPES.get(base.__name__) is base:
            return base.__name__
    return None


def _class_key(cls: type[BaseNode]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


_found_classes: dict[str, type[BaseNode]] = {}


def _find_class(identifier: str, stored: dict[str, Any]) -> type[BaseNode]:
    """Return the node's class if this process has it, otherwise the nearest one of llama-index-core.

    Only classes that are imported already are considered: a collection must not decide what code runs.
    """
    key = stored.get("class")
    core_type = stored["type"]
    if key is None:
        return _CORE_TYPES[core_type]
    if key not in _found_classes:
        _found_classes.update((_class_key(cls), cls) for cls in _subclasses(BaseNode))  # type: ignore[type-abstract]
    if key in _found_classes:
        return _found_classes[key]
    if core_type is None:
        raise MismatchError(
            f"node {identifier!r} was stored as {key}, which this process does not know; import it first"
        )
    return _CORE_TYPES[core_type]


def _subclasses(cls: type[BaseNode]) -> Iterator[type[BaseNode]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


# ---------------------------------------------------------------------- keys of the adapter's own


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


# ---------------------------------------------------------------------- out of a collection


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


def _read(collection: CollectionLike, ids: Sequence[str]) -> dict[str, tuple[StoredDocument, str | None]]:
    if collection.local is not None:
        with collection.local.connection() as connection:  # one transaction: a document and its payload belong together
            return read_documents(connection, "id", ids)
    documents = collection.get(list(dict.fromkeys(ids)))
    payloads = collection.get_payloads([document.id for document in documents])
    return {document.id: (document, payload) for document, payload in zip(documents, payloads, strict=True)}
