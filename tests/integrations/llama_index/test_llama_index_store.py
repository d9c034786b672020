"""Adding, replacing, deleting and reading nodes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import Document, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

import octavo
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    InputTypeError,
    InvalidVectorsError,
    MismatchError,
    ParameterError,
    ReadOnlyError,
)
from octavo.integrations.llama_index import OctavoVectorStore

MakeStore = Callable[..., OctavoVectorStore]
MakeNode = Callable[..., TextNode]


def where(key: str, value: Any, operator: str = "==") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])


def ids_of(nodes: list[Any]) -> list[str]:
    return [node.node_id for node in nodes]


def nearest(store: OctavoVectorStore, node: TextNode, k: int = 1) -> list[str]:
    return store.query(VectorStoreQuery(query_embedding=node.embedding, similarity_top_k=k)).ids or []


def test_is_what_the_framework_expects(make_store: MakeStore) -> None:
    store = make_store()
    assert isinstance(store, BasePydanticVectorStore)
    assert store.stores_text is True
    assert store.is_embedding_query is True
    assert store.flat_metadata is False
    assert store.class_name() == "OctavoVectorStore"
    assert isinstance(store.client, octavo.Collection)


def test_add_returns_the_ids_in_order_and_finds_each_node_first(
    store: OctavoVectorStore, library: list[TextNode]
) -> None:
    assert store.add(library) == ids_of(library)
    assert store.client.info().fitted
    for node in library:
        assert nearest(store, node) == [node.node_id]


def test_add_of_nothing(make_store: MakeStore) -> None:
    store = make_store()
    assert store.add([]) == []
    assert store.get_nodes() == []


def test_adding_again_replaces(store: OctavoVectorStore, library: list[TextNode], make_node: MakeNode) -> None:
    store.add(library)
    changed = make_node("n3", "completely different words", "other", metadata={"topic": "new"})
    store.add([changed])
    assert len(store.client) == len(library)
    assert nearest(store, changed) == ["n3"]
    (back,) = store.get_nodes(["n3"])
    assert back.get_content() == "completely different words"
    assert back.metadata == {"topic": "new"}
    assert store.get_nodes(filters=where("number", 3)) == []
    store.delete("d1")  # the earlier source of n3 is forgotten
    assert ids_of(store.get_nodes(["n3"])) == ["n3"]


def test_an_id_twice_in_one_call_keeps_the_last(make_store: MakeStore, make_node: MakeNode) -> None:
    store = make_store()
    first, second = make_node("same", "first words"), make_node("same", "second thoughts")
    assert store.add([first, make_node("other", "else"), second]) == ["same", "other", "same"]
    assert len(store.client) == 2
    assert store.get_nodes(["same"])[0].get_content() == "second thoughts"


def test_adds_any_iterable(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    assert store.add(node for node in library) == ids_of(library)  # type: ignore[arg-type]


def bad_batches() -> dict[str, tuple[Callable[[TextNode], Any], type[Exception], str]]:
    def edited(**changes: Any) -> Callable[[TextNode], TextNode]:
        return lambda node: node.model_copy(update=changes)

    return {
        "no embedding": (edited(embedding=None), InvalidVectorsError, "n5"),
        "dimension": (edited(embedding=[1.0, 2.0]), InvalidVectorsError, "n5"),
        "NaN": (edited(embedding=[float("nan")] * 32), InvalidVectorsError, "NaN"),
        "overflow": (edited(embedding=[1e300] * 32), InvalidVectorsError, "finite"),
        "no node": (lambda node: node.text, InputTypeError, "str"),
        "unserialisable": (edited(metadata={"what": object()}), InputTypeError, "n5"),
        "NaN in metadata": (edited(metadata={"what": float("nan")}), ParameterError, "finite"),
    }


@pytest.mark.parametrize("case", list(bad_batches()))
@pytest.mark.parametrize("filled", [False, True])
def test_a_failed_batch_changes_nothing(
    make_store: MakeStore, library: list[TextNode], case: str, filled: bool
) -> None:
    spoil, error, words = bad_batches()[case]
    store = make_store()
    if filled:
        store.add(library[:4])
    before = [node.model_dump() for node in store.get_nodes()]
    batch = [*library[:5], spoil(library[5]), *library[6:]]
    batch[0] = batch[0].model_copy(update={"text": "changed"})
    with pytest.raises(error, match=words):
        store.add(batch)
    assert [node.model_dump() for node in store.get_nodes()] == before


def test_a_batch_larger_than_the_collections_own_is_one_transaction(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    commits = []
    store.client.join_writes(lambda connection, added, deleted: commits.append(len(added)))
    nodes = [TextNode(id_=str(i), text="t", embedding=[1.0, float(i)]) for i in range(3000)]
    store.add(nodes)
    assert commits == [3000]


def test_input_nodes_are_not_changed(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    before = [node.model_dump() for node in library]
    store.add(library)
    assert [node.model_dump() for node in library] == before


def test_results_do_not_alias_what_is_stored(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    for read in (
        lambda: store.get_nodes(["n0"])[0],
        lambda: store.query(VectorStoreQuery(library[0].embedding)).nodes[0],
    ):
        node = read()
        node.metadata["tags"].append("changed")
        node.text = "changed"
        again = read()
        assert again.metadata["tags"] == ["a"]
        assert again.text == "apple pie with cinnamon"


# ---------------------------------------------------------------------- delete


def test_delete_by_source_document(store: OctavoVectorStore, library: list[TextNode]) -> None:
    store.add(library)
    store.delete("d1")
    assert ids_of(store.get_nodes()) == [f"n{i}" for i in range(12) if i // 3 != 1]
    assert "n4" not in nearest(store, library[4], 12)
    store.delete("no such document")
    assert len(store.client) == 9


def test_delete_does_not_take_node_ids(make_store: MakeStore, library: list[TextNode], make_node: MakeNode) -> None:
    store = make_store()
    store.add([*library, make_node("loose", "without a source")])
    store.delete("n0")
    store.delete("loose")
    assert len(store.client) == 13


def test_a_document_stored_whole_is_its_own_source(make_store: MakeStore) -> None:
    store = make_store()
    store.add([Document(id_="doc", text="whole", embedding=[1.0, 0.0])])
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], doc_ids=["doc"])
    assert store.query(query).ids == ["doc"]
    store.delete("doc")
    assert store.get_nodes() == []


def test_a_users_key_named_like_ours_is_left_alone(make_store: MakeStore, make_node: MakeNode) -> None:
    store = make_store()
    metadata = {
        "octavo:ref_doc_id": "mine",
        "octavo::x": 1,
        "ref_doc_id": "theirs",
        "_node_type": "t",
        "octavo:node_type": None,
    }
    store.add([make_node("a", "words", "source", metadata=metadata), make_node("b", "words", "theirs")])
    assert store.get_nodes(["a"])[0].metadata == metadata
    store.delete("mine")
    assert len(store.client) == 2
    assert ids_of(store.get_nodes(filters=where("octavo:ref_doc_id", "mine"))) == ["a"]
    assert ids_of(store.get_nodes(filters=where("octavo::x", 1))) == ["a"]
    store.delete("theirs")
    assert ids_of(store.get_nodes()) == ["a"]
    store.delete("source")
    assert store.get_nodes() == []


@pytest.mark.parametrize("key", ["ref_doc_id", "doc_id", "document_id"])
def test_filters_see_the_source_document(make_store: MakeStore, library: list[TextNode], key: str) -> None:
    store = make_store()
    own = library[0].model_copy(update={"metadata": {key: "own"}})
    store.add([own, *library[1:]])
    assert ids_of(store.get_nodes(filters=where(key, "d1"))) == ["n3", "n4", "n5"]
    assert ids_of(store.get_nodes(filters=where(key, "d0"))) == ["n1", "n2"]  # n0 has a value of its own
    assert ids_of(store.get_nodes(filters=where(key, "own"))) == ["n0"]
    unlike = MetadataFilters(
        filters=[where(key, "own"), where(key, ["d0", "d1", "d2"], "in")], condition=FilterCondition.NOT
    )
    assert ids_of(store.get_nodes(filters=unlike)) == ["n9", "n10", "n11"]


def test_filters_see_the_class(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add([*library, Document(id_="doc", text="whole", embedding=library[0].embedding)])
    assert ids_of(store.get_nodes(filters=where("_node_type", "Document"))) == ["doc"]


def test_delete_nodes(store: OctavoVectorStore, library: list[TextNode]) -> None:
    store.add(library)
    store.delete_nodes(["n0", "n11", "not there"])
    assert len(store.client) == 10
    store.delete_nodes(filters=where("topic", "music"))
    assert ids_of(store.get_nodes()) == [f"n{i}" for i in range(1, 8)]
    store.delete_nodes(["n1", "n4"], where("topic", "machines"))
    assert ids_of(store.get_nodes()) == ["n1", "n2", "n3", "n5", "n6", "n7"]


def test_delete_nodes_of_nothing_deletes_nothing(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    store.delete_nodes()
    store.delete_nodes([])
    store.delete_nodes([], where("topic", "music"))
    assert len(store.client) == len(library)


NOTHING = MetadataFilters(filters=[])


@pytest.mark.parametrize(
    ("filters", "place"),
    [
        (NOTHING, "filters"),
        (MetadataFilters(filters=[NOTHING]), "filters.filters[0]"),
        (MetadataFilters(filters=[where("topic", "food"), NOTHING], condition="or"), "filters.filters[1]"),
        (
            MetadataFilters(filters=[MetadataFilters(filters=[NOTHING])], condition="not"),
            "filters.filters[0].filters[0]",
        ),
    ],
)
@pytest.mark.parametrize("ids", [None, ["n0"], []])
def test_a_deletion_with_an_empty_group_is_refused(
    make_store: MakeStore, library: list[TextNode], filters: MetadataFilters, place: str, ids: list[str] | None
) -> None:
    store = make_store()
    store.add(library)
    with pytest.raises(ParameterError, match=f"empty group at {re.escape(place)};"):
        store.delete_nodes(ids, filters)
    assert len(store.client) == len(library)


def test_a_condition_that_nothing_meets_deletes_nothing(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    for value, operator in ((None, "=="), ([], "any"), ([], "in"), (5, "all"), (5, "text_match")):
        store.delete_nodes(filters=where("topic", value, operator))
    assert len(store.client) == len(library)


def test_ids_that_are_no_strings_are_named(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    for call in (
        lambda: store.get_nodes(["n0", 7]),  # type: ignore[list-item]
        lambda: store.delete_nodes(["n0", 7]),  # type: ignore[list-item]
        lambda: store.query(VectorStoreQuery(query_embedding=library[0].embedding, node_ids=["n0", 7])),  # type: ignore[list-item]
        lambda: store.query(VectorStoreQuery(query_embedding=library[0].embedding, doc_ids=["d0", 7])),  # type: ignore[list-item]
    ):
        with pytest.raises(InputTypeError, match=r"_ids of type str, got 7 \(int\) at position 1; .* write '7'"):
            call()
    with pytest.raises(InputTypeError, match="as a list of str, got 'n0'"):
        store.get_nodes("n0")  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="ref_doc_id of type str, got 7"):
        store.delete(7)  # type: ignore[arg-type]
    assert len(store.client) == len(library)


def test_the_same_id_twice(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    first, second = store.get_nodes(["n3", "n3"])
    assert (first.node_id, second.node_id) == ("n3", "n3")
    first.metadata["topic"] = "changed"
    assert second.metadata["topic"] == "food"
    found = store.query(
        VectorStoreQuery(query_embedding=library[3].embedding, node_ids=["n3", "n3"], similarity_top_k=5)
    )
    assert found.ids == ["n3"]
    store.delete_nodes(["n3", "n3"])
    assert len(store.client) == 11


def test_clear(store: OctavoVectorStore, library: list[TextNode]) -> None:
    store.add(library)
    store.clear()
    assert store.get_nodes() == []
    assert nearest(store, library[0], 5) == []
    store.add(library[:2])
    assert ids_of(store.get_nodes()) == ["n0", "n1"]


# ---------------------------------------------------------------------- get_nodes


def test_get_nodes_in_the_order_asked(store: OctavoVectorStore, library: list[TextNode]) -> None:
    store.add(library)
    assert ids_of(store.get_nodes(["n7", "not there", "n0", "n3"])) == ["n7", "n0", "n3"]
    assert ids_of(store.get_nodes()) == ids_of(library)
    assert store.get_nodes([]) == []


def test_get_nodes_intersects_ids_and_filters(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    found = store.get_nodes(["n9", "n1", "n8", "n5"], where("topic", "music"))
    assert ids_of(found) == ["n9", "n8"]
    assert ids_of(store.get_nodes(filters=where("number", 9, ">"))) == ["n10", "n11"]
    assert ids_of(store.get_nodes(["n1"], where("doc_id", "d0"))) == ["n1"]


def test_get_nodes_twice_the_same_id_gives_two_nodes(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.add(library)
    first, second = store.get_nodes(["n2", "n2"])
    first.metadata["tags"].append("changed")
    assert second.metadata["tags"] == ["b"]


def test_get_nodes_has_no_cap(make_store: MakeStore) -> None:
    store = make_store()
    ids = [uuid.uuid4().hex for _ in range(2500)]
    vectors = np.random.default_rng(0).standard_normal((len(ids), 4))
    nodes = [
        TextNode(id_=identifier, text="t", metadata={"even": number % 2 == 0}, embedding=vector.tolist())
        for number, (identifier, vector) in enumerate(zip(ids, vectors, strict=True))
    ]
    store.add(nodes)
    assert ids_of(store.get_nodes()) == ids
    assert ids_of(store.get_nodes(ids[::-1])) == ids[::-1]
    assert ids_of(store.get_nodes(filters=where("even", 1))) == ids[::2]


# ---------------------------------------------------------------------- reopening and options


def test_nodes_are_durable_without_persist(make_store: MakeStore, codec: str, library: list[TextNode]) -> None:
    store = make_store("kb", codec=codec, fit_after=8)
    store.add(library)
    store.delete("d3")
    expected = store.query(VectorStoreQuery(query_embedding=library[1].embedding, similarity_top_k=5))
    store.close()
    again = make_store("kb")
    found = again.query(VectorStoreQuery(query_embedding=library[1].embedding, similarity_top_k=5))
    assert found.ids == expected.ids
    assert found.similarities == expected.similarities
    assert [node.model_dump() for node in found.nodes or []] == [node.model_dump() for node in expected.nodes or []]
    assert again.client.codec == codec


def test_two_stores_on_one_path_see_each_other(make_store: MakeStore, library: list[TextNode]) -> None:
    one, two = make_store("kb"), make_store("kb")
    one.add(library[:6])
    assert len(two.get_nodes()) == 6
    two.delete("d0")
    assert ids_of(one.get_nodes()) == ["n3", "n4", "n5"]


def test_options_of_an_existing_collection_must_agree(make_store: MakeStore, library: list[TextNode]) -> None:
    make_store("kb", codec="int8").add(library)
    with pytest.raises(MismatchError, match="float8"):
        make_store("kb", codec="float8")
    with pytest.raises(MismatchError, match="64"):
        make_store("kb", dim=64)


def test_dim_is_checked_from_the_start(make_store: MakeStore, library: list[TextNode]) -> None:
    with pytest.raises(InvalidVectorsError, match="dimension 16"):
        make_store(dim=16).add(library)


def test_read_only_and_must_exist(make_store: MakeStore, library: list[TextNode]) -> None:
    with pytest.raises(CollectionNotFoundError):
        make_store("kb", must_exist=True)
    make_store("kb").add(library)
    reader = make_store("kb", read_only=True)
    assert nearest(reader, library[0]) == ["n0"]
    with pytest.raises(ReadOnlyError):
        reader.clear()


def test_dot_product_ranks_by_length(make_store: MakeStore) -> None:
    store = make_store(metric="dot", codec="float32")
    store.add([TextNode(id_="short", embedding=[1.0, 0.0]), TextNode(id_="long", embedding=[3.0, 3.0])])
    found = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=2))
    assert found.ids == ["long", "short"]
    assert found.similarities == [3.0, 1.0]


def test_an_open_collection_can_be_shared_with_plain_python(library: list[TextNode]) -> None:
    with octavo.open() as collection:
        store = OctavoVectorStore(collection=collection)
        store.add(library)
        collection.add(["plain"], ids=["p"], vectors=[library[0].embedding], metadata=[{"topic": "plain", "n": None}])
        assert collection.count({"topic": "food"}) == 4
        (node,) = store.get_nodes(["p"])
        assert isinstance(node, TextNode)
        assert (node.text, node.metadata) == ("plain", {"topic": "plain", "n": None})
        with pytest.raises(ParameterError, match="both"):
            OctavoVectorStore("kb", collection=collection)
        with pytest.raises(ParameterError, match="both"):
            OctavoVectorStore(codec="int8", collection=collection)
    with pytest.raises(InputTypeError, match="str"):
        OctavoVectorStore(collection="kb")  # type: ignore[arg-type]


def test_unknown_options_raise(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    with pytest.raises(TypeError, match="table_name"):
        OctavoVectorStore(table_name="x")  # type: ignore[call-arg]
    with pytest.raises(ParameterError, match="batch"):
        store.add(library, batch=3)
    with pytest.raises(ParameterError, match="force"):
        store.delete("d0", force=True)
    with pytest.raises(ParameterError, match="force"):
        store.delete_nodes(["n0"], force=True)


def test_a_closed_store_says_so(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store()
    store.close()
    store.close()
    with pytest.raises(CollectionClosedError):
        store.add(library)


def test_describes_itself_and_comes_back(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store("kb", codec="int8", fit_after=8)
    store.add(library)
    described = store.to_dict()
    assert described["class_name"] == "OctavoVectorStore"
    again = OctavoVectorStore.from_dict(described)
    assert ids_of(again.get_nodes()) == ids_of(library)
    again.close()
