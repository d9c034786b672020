"""Nodes of every type come back as they went in."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery

import octavo
from octavo.errors import InputTypeError, MismatchError, ParameterError
from octavo.integrations.llama_index import OctavoVectorStore
from octavo.integrations.llama_index._nodes import StoredObject

MakeStore = Callable[..., OctavoVectorStore]

VECTOR = [0.6, 0.8]


class Chapter(TextNode):
    """A node type of the user's own."""

    number: int
    authors: list[str] = Field(default_factory=list)
    first: bool = False

    @classmethod
    def class_name(cls) -> str:
        return "Chapter"


class Clip(Node):
    """One that says nothing about its name."""

    seconds: float = 1.5
    poster: MediaResource | None = None


class Settings(BaseModel):
    colour: str
    depth: int


def related(identifier: str, kind: ObjectType | None = ObjectType.TEXT, **metadata: Any) -> RelatedNodeInfo:
    return RelatedNodeInfo(node_id=identifier, node_type=kind, metadata=metadata, hash="f" * 64)


RELATIONSHIPS: dict[NodeRelationship, Any] = {
    NodeRelationship.SOURCE: related("doc", ObjectType.DOCUMENT, file="a.txt", none=None),
    NodeRelationship.PREVIOUS: related("before"),
    NodeRelationship.NEXT: related("after", None),
    NodeRelationship.PARENT: related("up", ObjectType.INDEX),
    NodeRelationship.CHILD: [related("c1"), related("c2", ObjectType.IMAGE)],
}

METADATA = {
    "none": None,
    "true": True,
    "int": 2**60,
    "float": 0.1,
    "text": 'straße 北京 😀 " \\ \u2028',
    "": "empty key",
    "a.b": 1,
    "$gt": "operator-like",
    "nested": {"list": [1, [2.5, None], {"deep": "er"}], "empty": {}, "no": []},
}

EVERYTHING: dict[str, Any] = {
    "id_": "id/with: odd 'characters' 北",
    "metadata": METADATA,
    "excluded_embed_metadata_keys": ["int"],
    "excluded_llm_metadata_keys": ["float", "text"],
    "relationships": RELATIONSHIPS,
    "metadata_template": "{key} => {value}",
    "metadata_separator": " | ",
    "text_template": "{content}\n---\n{metadata_str}",
}

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(40)))


def all_nodes() -> dict[str, BaseNode]:
    return {
        "text, plain": TextNode(id_="plain", text="some words"),
        "text, nothing": TextNode(id_="nothing"),
        "text, everything": TextNode(
            text="naïve\n\ttext 😀", mimetype="text/markdown", start_char_idx=0, end_char_idx=11, **EVERYTHING
        ),
        "text, long": TextNode(id_="long", text="word " * 200_000),
        "image": ImageNode(
            text="a caption", image=PIXEL.decode(), image_mimetype="image/png", text_embedding=[0.5, 0.25], **EVERYTHING
        ),
        "image, path": ImageNode(id_="image", image_path="pictures/cat.jpg", image_url="https://example.org/cat.jpg"),
        "index": IndexNode(text="see there", index_id="other", **EVERYTHING),
        "index, node": IndexNode(
            id_="i1", text="summary", index_id="x", obj=TextNode(id_="inner", text="inner", metadata={"k": [1, None]})
        ),
        "index, document": IndexNode(
            id_="i2", text="summary", index_id="x", obj=Document(id_="inner", text="inner", metadata={"k": 1})
        ),
        "index, index": IndexNode(
            id_="i3", text="s", index_id="x", obj=IndexNode(id_="i4", text="t", index_id="y", obj={"a": [1, "b"]})
        ),
        "index, text": IndexNode(id_="i5", text="summary", index_id="x", obj="just words"),
        "index, json": IndexNode(id_="i6", text="summary", index_id="x", obj={"a": [1, None]}),
        "index, model": IndexNode(id_="i7", text="summary", index_id="x", obj=Settings(colour="red", depth=3)),
        "node": Node(
            text_resource=MediaResource(text="spoken words", mimetype="text/x-rst", path=Path("a/b.rst")),
            image_resource=MediaResource(data=PIXEL),
            audio_resource=MediaResource(url="https://example.org/a.mp3", mimetype="audio/mpeg"),
            video_resource=MediaResource(path=Path("clip.mp4"), embeddings={"dense": [0.1], "sparse": [0.2]}),
            **EVERYTHING,
        ),
        "node, nothing": Node(id_="empty"),
        "node, no text": Node(id_="picture", text_resource=MediaResource(data=b"raw"), image_resource=MediaResource()),
        "document": Document(text="all of it", **EVERYTHING),
        "document, empty": Document(id_="void", text=""),
        "image document": ImageDocument(id_="imgdoc", image=PIXEL.decode(), text="seen", metadata={"k": 1}),
        "subclass of text": Chapter(text="once", number=7, authors=["a", "b"], first=True, **EVERYTHING),
        "subclass, defaults": Chapter(id_="c", number=0),
        "subclass of node": Clip(
            id_="clip", seconds=0.0, text_resource=MediaResource(text="t"), poster=MediaResource(data=PIXEL)
        ),
    }


def dump(node: BaseNode) -> dict[str, Any]:
    return {**node.model_dump(), "embedding": None}


@pytest.mark.parametrize("name", list(all_nodes()))
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_node_comes_back_equal(make_store: MakeStore, name: str, place: str) -> None:
    node = all_nodes()[name]
    node.embedding = VECTOR
    expected = dump(node)
    store = make_store("kb" if place == "disk" else None)
    store.add([node])
    if place == "disk":
        store.close()
        store = make_store("kb")
    by_query = (store.query(VectorStoreQuery(query_embedding=VECTOR)).nodes or [])[0]
    for back in (store.get_nodes([node.node_id])[0], by_query):
        assert type(back) is type(node)
        assert back.model_dump() == expected
        assert back.hash == node.hash
        assert back.get_content("all") == node.get_content("all")


def test_all_at_once_in_order(make_store: MakeStore) -> None:
    nodes = [node.model_copy(update={"embedding": VECTOR, "id_": name}) for name, node in all_nodes().items()]
    store = make_store()
    store.add(nodes)
    assert [dump(node) for node in store.get_nodes()] == [dump(node) for node in nodes]


def test_embeddings_stay_in_the_store(make_store: MakeStore) -> None:
    store = make_store(codec="float32")
    store.add([TextNode(id_="a", text="a", embedding=[3.0, 4.0])])
    assert store.get_nodes(["a"])[0].embedding is None
    assert store.client.get_vectors(["a"])[0].tolist() == pytest.approx(VECTOR)


def test_media_bytes_survive(make_store: MakeStore) -> None:
    # llama-index-core leaves them out of every dump, so an equal dump does not show it
    node = all_nodes()["node"]
    clip = all_nodes()["subclass of node"]
    store = make_store()
    store.add([node.model_copy(update={"embedding": VECTOR}), clip.model_copy(update={"embedding": VECTOR})])
    back, back_clip = store.get_nodes()
    assert isinstance(back, Node)
    assert isinstance(back_clip, Clip)
    assert back.image_resource is not None
    assert back.image_resource.data == PIXEL
    assert back_clip.poster is not None
    assert back_clip.poster.data == PIXEL


def test_relationships_are_typed(make_store: MakeStore) -> None:
    node = TextNode(text="t", embedding=VECTOR, relationships=RELATIONSHIPS)
    store = make_store()
    store.add([node])
    (back,) = store.get_nodes()
    assert back.source_node is not None
    assert back.source_node.node_type is ObjectType.DOCUMENT
    assert back.next_node is not None
    assert back.next_node.node_type is None
    assert back.child_nodes is not None
    assert [child.node_id for child in back.child_nodes] == ["c1", "c2"]
    assert back.relationships == node.relationships


def test_objects_of_index_nodes(make_store: MakeStore) -> None:
    nodes = all_nodes()
    store = make_store()
    names = ["index, node", "index, index", "index, text", "index, json", "index, model"]
    store.add([nodes[name].model_copy(update={"embedding": VECTOR}) for name in names])
    node, index, text, data, model = (back.obj for back in store.get_nodes() if isinstance(back, IndexNode))
    assert isinstance(node, TextNode)
    assert node.node_id == "inner"
    assert isinstance(index, IndexNode)
    assert index.obj == {"a": [1, "b"]}
    assert text == "just words"
    assert data == {"a": [1, None]}
    assert isinstance(model, StoredObject)
    assert model.model_dump() == {"colour": "red", "depth": 3}


def test_objects_that_only_live_in_memory(make_store: MakeStore) -> None:
    store = make_store()
    node = IndexNode(id_="i", text="t", index_id="x", obj=object(), embedding=VECTOR)
    with pytest.raises(InputTypeError, match=r"'i'.*objects="):
        store.add([node])


ZONE = dt.timezone(dt.timedelta(hours=2))

TYPED: dict[str, Any] = {
    "day": dt.date(2024, 2, 29),
    "time": dt.datetime(2024, 2, 29, 12, 30, 1, 5),
    "zoned": dt.datetime(2024, 2, 29, 12, 30, tzinfo=ZONE),
    "pair": (1, (2, "x")),
    "list": [dt.date(2024, 3, 1), (1,), {"deep": dt.date(1, 1, 1)}],
    "octavo:date": {"octavo:date": "no date"},
}


def test_typed_values_come_back_equal(store: OctavoVectorStore) -> None:
    related = RelatedNodeInfo(node_id="source", metadata=TYPED)
    inner = TextNode(id_="inner", text="i", metadata=TYPED, relationships={NodeRelationship.SOURCE: related})
    nodes = [
        TextNode(id_="plain", text="t", metadata=TYPED, embedding=VECTOR),
        Document(id_="document", text="t", metadata=TYPED, embedding=VECTOR),
        TextNode(
            id_="related",
            text="t",
            relationships={NodeRelationship.SOURCE: related, NodeRelationship.CHILD: [related, related]},
            embedding=VECTOR,
        ),
        IndexNode(id_="index", text="t", index_id="x", obj=inner, metadata=TYPED, embedding=VECTOR),
        IndexNode(
            id_="twice", text="t", index_id="x", obj=IndexNode(text="u", index_id="y", obj=inner), embedding=VECTOR
        ),
    ]
    before = [node.model_copy(deep=True) for node in nodes]
    store.add(nodes)
    for node, as_given, kept in zip(store.get_nodes(), before, nodes, strict=True):
        assert kept == as_given  # what the caller has is left alone
        assert node.metadata == as_given.metadata
        assert repr(node.metadata) == repr(as_given.metadata)  # tuples are tuples, dates are dates
        assert node.relationships == as_given.relationships
        for one, other in zip(related_to(node), related_to(as_given), strict=True):
            assert repr(one.metadata) == repr(other.metadata)
    found = {node.node_id: node for node in store.get_nodes()}
    assert repr(found["index"].obj.metadata) == repr(TYPED)  # type: ignore[attr-defined]
    assert repr(found["twice"].obj.obj.source_node.metadata) == repr(TYPED)  # type: ignore[attr-defined]


def related_to(node: BaseNode) -> list[RelatedNodeInfo]:
    listed = node.relationships.values()
    return [info for infos in listed for info in (infos if isinstance(infos, list) else [infos])]


def test_numpy_scalars_become_numbers(store: OctavoVectorStore) -> None:
    metadata = {"n": np.int64(5), "x": np.float32(0.5), "yes": np.True_, "when": np.datetime64("2024-02-29")}
    store.add([TextNode(id_="a", text="t", metadata=metadata, embedding=VECTOR)])
    (node,) = store.get_nodes()
    assert repr(node.metadata) == repr({"n": 5, "x": 0.5, "yes": True, "when": dt.date(2024, 2, 29)})


@pytest.mark.parametrize(
    "value", [{1, 2}, b"bytes", Path("file"), uuid.UUID(int=1), decimal.Decimal("1.5"), object(), float("nan")]
)
def test_what_has_no_one_meaning_is_refused_by_name(make_store: MakeStore, value: Any) -> None:
    store = make_store()
    good = TextNode(id_="good", text="t", embedding=VECTOR)
    for where, node in {
        "node 'bad' at position 1": TextNode(id_="bad", text="t", metadata={"a": {"b": value}}, embedding=VECTOR),
        "node 'bad' at position 1, its relationship SOURCE": TextNode(
            id_="bad",
            text="t",
            embedding=VECTOR,
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="s", metadata={"a": {"b": 1}})},
        ),
    }.items():
        for info in related_to(node):
            info.metadata["a"]["b"] = value
        with pytest.raises((InputTypeError, ParameterError), match=rf"^{where}.* under 'a\.b'"):
            store.add([good, node])
    assert len(store.client) == 0


LONE = ["\ud800", "\ud801"]


def test_keys_never_collapse(make_store: MakeStore) -> None:
    """Pydantic writes every key that is no valid Unicode as the same three signs, and keys 1 and "1" as one."""
    store = make_store()
    for metadata, words in (
        (dict.fromkeys(LONE, 1), "a metadata key"),
        ({"inner": dict.fromkeys(LONE, 1)}, "a metadata key under 'inner'"),
        ({"inner": {1: "one", "1": "two"}}, "keys of type str, got 1"),
    ):
        with pytest.raises((InputTypeError, ParameterError), match=rf"node 'n' at position 0.*{words}"):
            store.add([TextNode(id_="n", text="t", metadata=metadata, embedding=VECTOR)])
        related = RelatedNodeInfo(node_id="s", metadata=metadata)
        node = TextNode(id_="n", text="t", relationships={NodeRelationship.SOURCE: related}, embedding=VECTOR)
        with pytest.raises((InputTypeError, ParameterError), match=rf"node 'n' at position 0.*SOURCE.*{words}"):
            store.add([node])
    with pytest.raises(ParameterError, match="a key in the fields of node 'o'"):
        store.add([Odd(id_="o", text="t", more=dict.fromkeys(LONE, 1), embedding=VECTOR)])
    assert len(store.client) == 0
    store.add([Odd(id_="o", text="\ufffd", more={"\ufffd": 1}, embedding=VECTOR)])
    assert store.get_nodes()[0].model_dump()["more"] == {"\ufffd": 1}


class Odd(TextNode):
    more: dict[str, int] = Field(default_factory=dict)


def test_surrogates_are_one_error_with_the_node_s_place(make_store: MakeStore) -> None:
    store = make_store()
    good = TextNode(id_="good", text="t", embedding=VECTOR)
    with pytest.raises(ParameterError, match=r"the text of node 'bad' at position 1 to be valid Unicode"):
        store.add([good, TextNode(id_="bad", text="half \ud83d", embedding=VECTOR)])
    with pytest.raises(ParameterError, match=r"the id of node '.ud83d' at position 1 to be valid Unicode"):
        store.add([good, TextNode(id_="\ud83d", text="t", embedding=VECTOR)])
    related = RelatedNodeInfo(node_id="s", metadata={"a": "\ud83d"})
    for node, words in (
        (TextNode(id_="bad", text="t", metadata={"a": "\ud83d"}), "the metadata of node 'bad' at position 1 under 'a'"),
        (
            TextNode(id_="bad", text="t", relationships={NodeRelationship.SOURCE: related}),
            "the fields and relationships of node 'bad' at position 1",
        ),
        (
            TextNode(id_="bad", text="t", text_template="{content} \ud83d"),
            "the fields and relationships of node 'bad' at position 1",
        ),
    ):
        node.embedding = VECTOR
        with pytest.raises(ParameterError, match=f"{words} to be valid Unicode"):
            store.add([good, node])
    assert len(store.client) == 0


def test_times_are_compared_as_times(store: OctavoVectorStore) -> None:
    """LlamaIndex's filters hold no dates: strings in ISO form stand for them."""
    times = {
        "a": dt.date(2024, 1, 1),
        "b": dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC),
        "c": dt.datetime(2024, 1, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),  # an hour before midnight in UTC
        "d": dt.datetime(2024, 1, 3),
    }
    store.add([TextNode(id_=key, text="t", metadata={"at": time}, embedding=VECTOR) for key, time in times.items()])
    store.add([TextNode(id_="s", text="t", metadata={"at": "2024-01-01T12:00:00"}, embedding=VECTOR)])

    def ids(value: Any, operator: str) -> str:
        one = MetadataFilter(key="at", value=value, operator=FilterOperator(operator))
        return "".join(node.node_id for node in store.get_nodes(filters=MetadataFilters(filters=[one])))

    assert ids("2024-01-02", "<") == "abcs"
    assert ids("2024-01-01T13:00:00+01:00", "==") == "b"
    assert ids("2024-01-01T12:00:00", "==") == "bs"
    assert ids("2024-01-01", ">") == "bcds"
    assert ids(["2024-01-03", "2024-01-01"], "in") == "ad"
    assert ids("2024-01-03", "!=") == "abcs"


def test_what_is_stored_is_small_and_documented(tmp_path: Path) -> None:
    store = OctavoVectorStore(tmp_path / "kb")
    store.add([TextNode(id_="a", text="words", metadata={"k": 1}, embedding=VECTOR)])
    store.close()
    with octavo.open(tmp_path / "kb") as collection:
        assert collection.get_payloads(["a"]) == ['{"node":1,"type":"TextNode","fields":{}}']
        (document,) = collection.get(["a"])
        assert document.text == "words"
        assert document.metadata == {"k": 1, "octavo:node_type": "TextNode"}


def test_foreign_payloads_are_left_alone(make_store: MakeStore) -> None:
    store = make_store()
    store.client.add(["t"], ids=["a"], metadata=[{"k": 1}], vectors=[VECTOR], payloads=['{"other": "adapter"}'])
    (node,) = store.get_nodes()
    assert dump(node) == dump(TextNode(id_="a", text="t", metadata={"k": 1}))


def test_a_newer_layout_is_refused(make_store: MakeStore) -> None:
    store = make_store()
    store.client.add(["t"], ids=["a"], vectors=[VECTOR], payloads=['{"node":2,"type":"TextNode","fields":{}}'])
    with pytest.raises(MismatchError, match="layout 2"):
        store.get_nodes()


def test_a_class_that_is_not_imported_becomes_the_nearest_known(tmp_path: Path) -> None:
    store = OctavoVectorStore(tmp_path / "kb")
    store.add([all_nodes()["subclass of text"].model_copy(update={"id_": "c", "embedding": VECTOR})])
    payload = json.loads(store.client.get_payloads(["c"])[0] or "")
    store.close()
    assert payload["class"].endswith(":Chapter")
    script = """
        import sys
        from octavo.integrations.llama_index import OctavoVectorStore
        (node,) = OctavoVectorStore(sys.argv[1]).get_nodes()
        print(type(node).__name__, node.text, node.metadata["int"], len(node.relationships))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "kb")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["TextNode", "once", str(2**60), "5"]


def test_a_class_of_nothing_known_is_named(make_store: MakeStore) -> None:
    store = make_store()
    payload = '{"node":1,"type":null,"class":"gone.module:Thing","fields":{}}'
    store.client.add(["t"], ids=["a"], vectors=[VECTOR], payloads=[payload])
    with pytest.raises(MismatchError, match=r"gone\.module:Thing"):
        store.get_nodes()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    text=TEXT,
    metadata=st.dictionaries(TEXT | st.sampled_from(["octavo:", "octavo::", "octavo:ref_doc_id"]), JSON, max_size=5),
    template=TEXT,
    start=st.none() | st.integers(0, 10**9),
    excluded=st.lists(TEXT, max_size=3),
)
def test_any_text_node_comes_back_equal(
    text: str, metadata: dict[str, Any], template: str, start: int | None, excluded: list[str]
) -> None:
    node = TextNode(
        text=text,
        metadata=metadata,
        metadata_template=template,
        start_char_idx=start,
        excluded_llm_metadata_keys=excluded,
        embedding=VECTOR,
    )
    store = OctavoVectorStore()
    try:
        store.add([node])
        (back,) = store.get_nodes()
        assert back.model_dump() == dump(node)
        assert list(back.metadata) == list(metadata)
    finally:
        store.close()
