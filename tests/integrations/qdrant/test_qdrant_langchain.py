"""LangChain's store around a collection in Qdrant does what it does around a local one; what it cannot do, it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index

import octavo
from octavo.collection import CollectionLike
from octavo.errors import InputTypeError, ParameterError
from octavo.integrations.langchain import OctavoRecordManager, OctavoVectorStore

Make = Callable[..., Any]

EMBEDDING = DeterministicFakeEmbedding(size=32)
TEXTS = [f"word{n % 7} text {n}" for n in range(60)]
METADATA: list[dict[str, Any]] = [{"n": n, "even": n % 2 == 0, "name": f"n{n}"} for n in range(60)]
IDS = [f"id/{n}" for n in range(60)]


class Counting(Embeddings):
    """Counts what is embedded."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.texts += texts
        return EMBEDDING.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        self.texts.append(text)
        return EMBEDDING.embed_query(text)


def filled(make: Make, **options: Any) -> OctavoVectorStore:
    collection = make(**{"codec": "float32"} | options)
    return OctavoVectorStore.from_texts(TEXTS, EMBEDDING, METADATA, ids=IDS, collection=collection)


def test_texts_come_in_and_are_found(make: Make) -> None:
    store = filled(make)
    assert isinstance(store.collection, CollectionLike)
    assert (store.count(), store.count({"even": True})) == (60, 30)
    assert store.similarity_search(TEXTS[17], k=1) == [
        Document(id="id/17", page_content=TEXTS[17], metadata=METADATA[17])
    ]
    document, score = store.similarity_search_with_score(TEXTS[3], k=1)[0]
    assert (document.id, round(score, 3)) == ("id/3", 1)
    assert store.similarity_search_by_vector(EMBEDDING.embed_query(TEXTS[5]), k=1)[0].id == "id/5"
    assert store.similarity_search_with_relevance_scores(TEXTS[3], k=1)[0][1] == pytest.approx(1, abs=1e-3)
    assert [found.id for found in store.get_by_ids(["id/9", "missing", "id/2"])] == ["id/9", "id/2"]
    assert {found.id for found in store.similarity_search("word3", k=9, mode="text")} == {
        f"id/{n}" for n in range(3, 60, 7)
    }


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"n": {"$gte": 50}, "even": True}, {50, 52, 54, 56, 58}),
        ({"name": {"$like": "n1_"}}, set(range(10, 20))),
        (lambda document: document.metadata["n"] in (4, 40), {4, 40}),
    ],
    ids=["range", "string", "callable"],
)
def test_filters(make: Make, where: Any, expected: set[int]) -> None:
    found = filled(make).similarity_search("anything", k=60, filter=where)
    assert {document.metadata["n"] for document in found} == expected


def test_documents_are_replaced_and_deleted(make: Make) -> None:
    store = filled(make)
    store.add_documents([Document(id="id/1", page_content="something new", metadata={"n": 1})])
    assert store.count() == 60
    assert store.similarity_search("something new", k=1)[0].id == "id/1"
    store.delete(["id/1", "missing"])
    store.delete(filter={"n": {"$lt": 10}})
    assert store.count() == 50
    assert not store.get_by_ids(["id/1", "id/2"])
    store.delete()
    assert (store.count(), store.similarity_search("anything")) == (0, [])


def test_mmr_takes_no_document_twice(make: Make) -> None:
    store = OctavoVectorStore(EMBEDDING, collection=make(codec="float32"))
    store.add_texts(["same", "same", "same", "other"], ids=["a", "b", "c", "d"])
    found = store.max_marginal_relevance_search("same", k=2, fetch_k=4, lambda_mult=0.3)
    assert found[0].id in "abc"
    assert found[1].id == "d"


def test_retrievers(make: Make) -> None:
    store = filled(make)
    plain = store.as_retriever(search_kwargs={"k": 2, "filter": {"even": False}})
    assert plain.invoke(TEXTS[7])[0].id == "id/7"
    threshold = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99})
    assert [document.id for document in threshold.invoke(TEXTS[8])] == ["id/8"]
    assert store.as_retriever(search_type="mmr", search_kwargs={"k": 1}).invoke(TEXTS[9])[0].id == "id/9"


def test_async(make: Make) -> None:
    async def run() -> list[Document]:
        store = await OctavoVectorStore.afrom_texts(TEXTS[:9], EMBEDDING, ids=IDS[:9], collection=make(codec="int8"))
        await store.adelete(["id/0"])
        await store.aadd_texts(["late"], ids=["late"])
        return await store.asimilarity_search("late", k=1) + await store.aget_by_ids(["id/0", "id/4"])

    assert [document.id for document in asyncio.run(run())] == ["late", "id/4"]


def test_the_collections_own_encoder_is_used(make: Make) -> None:
    with_one = OctavoVectorStore(collection=make(codec="float32", encoder=EMBEDDING))
    with_one.add_texts(TEXTS[:5], ids=IDS[:5])
    assert with_one.similarity_search(TEXTS[2], k=1)[0].id == "id/2"
    with_none = OctavoVectorStore(collection=make(codec="float32"))
    with pytest.raises(ParameterError, match="the store has none"):
        with_none.add_texts(["x"])


def test_stores_are_merged_without_embedding_again(make: Make) -> None:
    embedding = Counting()
    local = OctavoVectorStore.from_texts(TEXTS[:20], embedding, METADATA[:20], ids=IDS[:20], codec="float32")
    target = OctavoVectorStore.from_texts(TEXTS[30:40], EMBEDDING, ids=IDS[30:40], collection=make(codec="float32"))
    embedding.texts.clear()
    assert target.merge_from(local) == 20
    assert (target.count(), target.similarity_search(TEXTS[4], k=1)[0].metadata) == (30, METADATA[4])
    assert local.merge_from(target) == 30
    assert local.count() == 30
    assert not embedding.texts
    with pytest.raises(ParameterError, match="the same collection"):
        target.merge_from(target)
    local.close()


def test_closing_a_store_leaves_the_collection_open(make: Make) -> None:
    collection = make(codec="float32")
    with OctavoVectorStore.from_texts(["a"], EMBEDDING, collection=collection):
        pass
    assert collection.count() == 1


def test_what_needs_a_local_collection_says_so(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    from octavo.integrations.qdrant import QdrantCollection

    with QdrantCollection.create(path=tmp_path / "kb", codec="float32") as collection:
        store = OctavoVectorStore.from_texts(["a"], EMBEDDING, ids=["a"], collection=collection)
        assert "QdrantCollection" in repr(store)
        with pytest.raises(ParameterError, match=r"save_local needs a collection of octavo.open.*octavo pull"):
            store.save_local(tmp_path / "saved")
        with pytest.raises(ParameterError, match="delete_collection needs"):
            store.delete_collection()
        for given in (store, collection):
            with pytest.raises(ParameterError, match="OctavoRecordManager needs"):
                OctavoRecordManager(given)  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match="codec"):
            OctavoVectorStore(EMBEDDING, collection=collection, codec="int8")
        assert store.count() == 1
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("given", ["kb", object(), octavo.Collection])
def test_something_else_is_refused(given: Any) -> None:
    with pytest.raises(InputTypeError, match="or a QdrantCollection, got"):
        OctavoVectorStore(EMBEDDING, collection=given)


def test_indexing_with_langchains_own_record_manager(make: Make) -> None:
    store = OctavoVectorStore(EMBEDDING, collection=make(codec="float32"))
    records = InMemoryRecordManager("test")
    records.create_schema()
    pages = [Document(page_content=text, metadata={"source": "s"}) for text in ("one", "two")]
    options: dict[str, Any] = {"cleanup": "full", "key_encoder": "sha256"}
    assert index(pages, records, store, **options)["num_added"] == 2
    assert index(pages[:1], records, store, **options)["num_deleted"] == 1
    assert store.count() == 1
