"""The life of an index: built, inserted into, updated, refreshed, deleted from, saved, loaded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import (
    Document,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
    load_indices_from_storage,
)
from llama_index.core.objects import ObjectIndex, SimpleObjectNodeMapping
from llama_index.core.schema import IndexNode, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from octavo.integrations.llama_index import OctavoVectorStore, as_retriever

Library = Callable[[], list[Document]]
SideBySide = Callable[[Callable[[Any], Any]], Any]

QUESTIONS = ["a steam engine", "apple", "violin sonata", "gas turbine", "walnuts"]


def where(key: str, value: Any, operator: str = "==") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])


def answers(index: VectorStoreIndex, k: int = 3, **options: Any) -> list[Any]:
    retriever = index.as_retriever(similarity_top_k=k, **options)
    return [retriever.retrieve(question) for question in QUESTIONS]


# ---------------------------------------------------------------------- building and changing


def test_the_codec_is_fitted_in_all_of_this(worlds: Any, library: Library) -> None:
    store = worlds[1].store()
    worlds[1].index(library(), storage_context=StorageContext.from_defaults(vector_store=store))
    assert store.client.info().fitted


def test_from_documents(side_by_side: SideBySide, library: Library) -> None:
    found = side_by_side(lambda world: answers(world.index(library())))
    assert found[1][0].text.startswith("Apple")


def test_every_filter_of_the_reference(side_by_side: SideBySide, library: Library) -> None:
    either = MetadataFilters(
        filters=[
            MetadataFilter(key="topic", value="music"),
            MetadataFilter(key="year", value=2005, operator=FilterOperator.GTE),
        ],
        condition=FilterCondition.OR,
    )
    neither = MetadataFilters(filters=either.filters, condition=FilterCondition.NOT)
    filters = [
        where("topic", "food"),
        where("topic", "food", "!="),
        where("year", 1900, ">"),
        where("year", 1897, "<="),
        where("topic", ["music", "machines"], "in"),
        where("topic", ["music", "machines"], "nin"),
        where("name", "e", "contains"),
        where("name", "ie", "text_match"),
        where("name", "IE", "text_match_insensitive"),
        where("missing", None, "is_empty"),
        where("name", ["p", "i"], "all"),
        where("name", ["v", "b"], "any"),
        where("ref_doc_id", "cello"),
        where("doc_id", "cello"),
        either,
        neither,
    ]

    def program(world: Any) -> Any:
        index = world.index(library())
        return [answers(index, 8, filters=one) for one in filters]

    assert all(hits[0] for hits in side_by_side(program))


def test_insert_update_refresh_delete(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        seen = [answers(index)]
        index.insert(Document(id_="boat", text="An electric engine for small boats."))
        seen.append(answers(index))
        index.delete_ref_doc("steam", delete_from_docstore=True)
        seen.append(answers(index))
        index.update_ref_doc(Document(id_="boat", text="A sail for small boats."))
        seen.append(answers(index))
        changed = [document for document in library() if document.id_ != "steam"]
        changed[0] = Document(id_="pie", text="Pear pie.")
        seen.append(index.refresh_ref_docs([*changed, Document(id_="new", text="A new text.")]))
        seen.append(answers(index))
        seen.append(index.refresh_ref_docs([*changed, Document(id_="new", text="A new text.")]))
        index.insert_nodes([TextNode(id_="n1", text="Rowing boats."), TextNode(id_="n2", text="Boats and ships.")])
        index.delete_nodes(["n1"], delete_from_docstore=True)
        return [*seen, answers(index), index.as_retriever(similarity_top_k=9).retrieve("boats")]

    found = side_by_side(program)
    assert found[4] == [True, *[False] * 6, True]
    assert found[6] == [False] * 8


async def test_the_same_asynchronously(worlds: Any, library: Library, side_by_side: SideBySide) -> None:
    async def program(world: Any) -> Any:
        index = world.index(library())
        await index.ainsert(Document(id_="boat", text="An electric engine for small boats."))
        await index.adelete_ref_doc("steam", delete_from_docstore=True)
        await index.aupdate_ref_doc(Document(id_="boat", text="A sail for small boats."))
        refreshed = await index.arefresh_ref_docs([Document(id_="pie", text="Pear pie."), library()[1]])
        retriever = index.as_retriever(similarity_top_k=3)
        return [refreshed, [await retriever.aretrieve(question) for question in QUESTIONS]]

    results = iter([await program(world) for world in worlds])
    side_by_side(lambda world: next(results))


def test_ref_docs(side_by_side: SideBySide, library: Library) -> None:
    """With `store_nodes_override` the framework keeps its own list, and empties it as with any other store."""

    def program(world: Any) -> Any:
        index = world.index(library(), store_nodes_override=True)
        before = {name: (len(info.node_ids), info.metadata) for name, info in index.ref_doc_info.items()}
        index.delete_ref_doc("pie", delete_from_docstore=True)
        return [before, sorted(index.ref_doc_info), answers(index)]

    assert len(side_by_side(program)[0]) == 8


def test_an_empty_index_finds_nothing(side_by_side: SideBySide) -> None:
    assert side_by_side(lambda world: answers(world.index())) == [[]] * 5


def test_deleting_nodes_by_filter(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        index.vector_store.delete_nodes(filters=where("topic", "food"))
        return index.as_retriever(similarity_top_k=9).retrieve("apple engine violin")

    assert len(side_by_side(program)) == 5


def test_node_ids_restrict(side_by_side: SideBySide) -> None:
    nodes = [
        TextNode(id_=f"n{i}", text=text) for i, text in enumerate(["red apple", "green apple", "apple pie", "boat"])
    ]

    def program(world: Any) -> Any:
        store = world.store()
        VectorStoreIndex(
            copy.deepcopy(nodes),
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=world.embedding,
        )
        embedding = world.embedding.get_query_embedding("apple")
        asked = ["n1", "n3", "n3", "none"]
        found = store.query(VectorStoreQuery(query_embedding=embedding, node_ids=asked, similarity_top_k=4))
        return [found.ids, found.similarities]

    assert side_by_side(program)[0] == ["n1", "n3"]


# ---------------------------------------------------------------------- saving and loading


def test_persist_and_load(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        index.storage_context.persist(str(world.folder / "saved"))
        loaded = load_index_from_storage(world.load_context(world.folder / "saved"), embed_model=world.embedding)
        refreshed = loaded.refresh_ref_docs([*library(), Document(id_="new", text="Something new.")])
        return [loaded.index_id == index.index_id, answers(loaded), refreshed]

    found = side_by_side(program)
    assert found[0] is True
    assert found[2] == [*[False] * 8, True]


def test_two_indices_in_one_context(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        context = world.context()
        first = world.index(library()[:4], storage_context=context)
        second = world.index(library()[4:], storage_context=context)
        context.persist(str(world.folder / "saved"))
        loaded = world.load_context(world.folder / "saved")
        by_id = [
            load_index_from_storage(loaded, index_id=index.index_id, embed_model=world.embedding)
            for index in (first, second)
        ]
        return [len(load_indices_from_storage(loaded, embed_model=world.embedding)), [len(by_id)]]

    side_by_side(program)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_pickles_and_copies(side_by_side: SideBySide, library: Library, how: str) -> None:
    def program(world: Any) -> Any:
        store = world.index(library()).vector_store
        other = pickle.loads(pickle.dumps(store)) if how == "pickle" else copy.deepcopy(store)
        query = VectorStoreQuery(query_embedding=world.embedding.get_query_embedding("apple pie"), similarity_top_k=4)
        one, two = store.query(query), other.query(query)
        return [one.ids == two.ids, one.similarities, two.similarities]

    assert side_by_side(program)[0] is True


# ---------------------------------------------------------------------- objects

TOOLS = ["a hammer for nails", "a saw for wood", "a brush for paint", "a needle for thread", "a spade for earth"]


def test_object_index(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        objects = ObjectIndex.from_objects(
            TOOLS, storage_context=world.context(), embed_model=world.embedding, index_cls=VectorStoreIndex
        )
        objects.insert_object("a rake for leaves")
        retriever = objects.as_retriever(similarity_top_k=2)
        return [retriever.retrieve(question) for question in ("a saw", "paint", "leaves")]

    assert side_by_side(program)[2][0] == "a rake for leaves"


def test_object_index_saved(side_by_side: SideBySide) -> None:
    """Core's `ObjectIndex.from_persist_dir` has no way to name a store: it is put together from its two halves."""

    def program(world: Any) -> Any:
        folder = str(world.folder / "saved")
        objects = ObjectIndex.from_objects(TOOLS, storage_context=world.context(), embed_model=world.embedding)
        objects.persist(folder)
        index = load_index_from_storage(world.load_context(Path(folder)), embed_model=world.embedding)
        loaded = ObjectIndex(index, SimpleObjectNodeMapping.from_persist_dir(folder))
        return loaded.as_retriever(similarity_top_k=2).retrieve("a saw")

    assert side_by_side(program)[0] == "a saw for wood"


def test_the_object_index_of_core_says_the_way_out(worlds: Any) -> None:
    world = worlds[1]
    folder = str(world.folder / "saved")
    ObjectIndex.from_objects(TOOLS, storage_context=world.context(), embed_model=world.embedding).persist(folder)
    for load in (
        lambda: ObjectIndex.from_persist_dir(folder),
        lambda: load_index_from_storage(StorageContext.from_defaults(persist_dir=folder)),
    ):
        with pytest.raises(ValueError) as caught:
            load()
        first = str(caught.value).splitlines()[0]
        assert "vector_store=OctavoVectorStore.from_persist_dir(folder)" in first
        assert "ObjectIndex(index, SimpleObjectNodeMapping.from_persist_dir(folder))" in first


def test_index_nodes_reach_their_objects(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        inner = world.index([Document(text="Replace the injector every year.")])
        node = IndexNode(id_="x", text="diesel manual", index_id="manual", obj=inner.as_retriever())
        index = world.index(library())
        index.insert_nodes([node])
        retriever = as_retriever(index, similarity_top_k=2) if world.ours else index.as_retriever(similarity_top_k=2)
        return [hit.node.get_content() for hit in retriever.retrieve("diesel manual")]

    assert side_by_side(program)[0] == "Replace the injector every year."


def test_our_store_needs_no_context(worlds: Any, library: Library) -> None:
    """What the reference cannot do: the store alone is the index, also in another process."""
    world = worlds[1]
    store = world.index(library()).vector_store
    if store.path is not None:
        store.close()
        store = OctavoVectorStore(store.path)
    again = VectorStoreIndex.from_vector_store(store, embed_model=world.embedding)
    assert [hit.text for hit in again.as_retriever(similarity_top_k=1).retrieve("steam")] == [
        "The steam engine drove the mills."
    ]
    store.close()
