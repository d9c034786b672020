"""`OctavoRetriever`: modes, options for one call, scores in metadata, tracing, chains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from octavo.errors import CollectionClosedError
from octavo.integrations.langchain import OctavoRetriever, OctavoVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=16)
TEXTS = ["a red apple", "a green apple", "an apple pie", "a yellow pear", "the sky"]


@pytest.fixture(scope="module")
def store() -> Iterator[OctavoVectorStore]:
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING, [{"n": n} for n in range(5)], ids=list("abcde")) as store:
        yield store


def ids_of(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_modes(store: OctavoVectorStore) -> None:
    query = "a yellow pear"
    assert OctavoRetriever(vectorstore=store).invoke(query) == store.similarity_search(query)
    assert ids_of(OctavoRetriever(vectorstore=store, mode="text").invoke("pears")) == ["d"]
    hybrid = OctavoRetriever(vectorstore=store, mode="hybrid", alpha=0.3, k=2).invoke(query)
    assert hybrid == store.similarity_search(query, 2, mode="hybrid", alpha=0.3)
    mmr = OctavoRetriever(vectorstore=store, mode="mmr", k=3, fetch_k=4, lambda_mult=0.1).invoke(query)
    assert mmr == store.max_marginal_relevance_search(query, 3, 4, 0.1)


def test_options_for_one_call(store: OctavoVectorStore) -> None:
    retriever = OctavoRetriever(vectorstore=store, mode="hybrid", alpha=0.5, k=1)
    assert len(retriever.invoke("apple", k=3)) == 3
    assert ids_of(retriever.invoke("pears", mode="text")) == ["d"]
    assert ids_of(retriever.invoke("apple", k=5, filter={"n": {"$gte": 3}})) == ids_of(
        store.similarity_search("apple", 5, {"n": {"$gte": 3}}, mode="hybrid", alpha=0.5)
    )
    assert "score" in retriever.invoke("apple", score_key="score")[0].metadata
    assert retriever.k == 1
    assert retriever.filter is None


def test_filters(store: OctavoVectorStore) -> None:
    retriever = OctavoRetriever(vectorstore=store, k=9, filter={"n": {"$lt": 2}})
    assert set(ids_of(retriever.invoke("apple"))) == {"a", "b"}
    by_function = OctavoRetriever(vectorstore=store, k=9, filter=lambda document: "pie" in document.page_content)
    assert ids_of(by_function.invoke("apple")) == ["c"]


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid", "mmr"])
def test_scores_go_into_copies_of_the_metadata(store: OctavoVectorStore, mode: Any) -> None:
    found = OctavoRetriever(vectorstore=store, mode=mode, score_key="score").invoke("a red apple")
    scores = [document.metadata["score"] for document in found]
    assert all(type(score) is float for score in scores)
    if mode != "mmr":
        assert scores == sorted(scores, reverse=True)
    assert all("score" not in document.metadata for document in store.get_by_ids(list("abcde")))
    assert all("score" not in document.metadata for document in store.similarity_search("a red apple"))


@pytest.mark.parametrize(
    "options",
    [
        {"k": -1},
        {"k": 1.5},
        {"k": None},
        {"mode": "best"},
        {"topk": 3},
        {"lambda_mult": 2.0, "mode": "mmr"},
        {"lambda_mult": 0.5},
        {"alpha": 0.5},
        {"fetch_k": 10},
        {"search_kwargs": {"nprobe": 1}},
        {"search_kwargs": {"k": 1}},
    ],
)
def test_bad_options_raise(store: OctavoVectorStore, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        OctavoRetriever(vectorstore=store, **options)


def test_bad_options_for_one_call_raise(store: OctavoVectorStore) -> None:
    retriever = OctavoRetriever(vectorstore=store)
    with pytest.raises(TypeError, match="top_k"):
        retriever.invoke("apple", top_k=3)
    with pytest.raises(ValueError, match="k"):
        retriever.invoke("apple", k=-1)
    with pytest.raises(ValueError, match="alpha"):
        retriever.invoke("apple", alpha=0.5)


def test_search_kwargs_are_passed_on(store: OctavoVectorStore) -> None:
    retriever = OctavoRetriever(vectorstore=store, search_kwargs={"ids": ["a", "e"], "exact": True})
    assert set(ids_of(retriever.invoke("apple"))) == {"a", "e"}


def test_constructors(tmp_path: Path) -> None:
    retriever = OctavoRetriever.from_texts(
        TEXTS,
        EMBEDDING,
        [{"n": n} for n in range(5)],
        ids=list("abcde"),
        path=tmp_path / "kb",
        codec="float8",
        k=2,
        tags=["x"],
    )
    assert ids_of(retriever.invoke("a red apple"))[0] == "a"
    assert retriever.vectorstore.collection.codec == "float8"
    assert retriever.tags == ["x"]
    retriever.vectorstore.close()
    documents = (Document(page_content=text, id=text[0] + text[2]) for text in TEXTS)
    with OctavoRetriever.from_documents(documents, EMBEDDING, mode="text").vectorstore as store:
        assert store.count() == 5


async def test_async_constructors() -> None:
    first = await OctavoRetriever.afrom_texts(TEXTS, EMBEDDING, k=1)
    second = await OctavoRetriever.afrom_documents([Document(page_content=text) for text in TEXTS], EMBEDDING, k=1)
    assert (
        (await first.ainvoke("the sky"))[0].page_content
        == (await second.ainvoke("the sky"))[0].page_content
        == TEXTS[4]
    )


def test_bad_options_are_found_before_anything_is_embedded() -> None:
    class Silent(DeterministicFakeEmbedding):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise AssertionError("not needed")

    with pytest.raises(ValueError, match="best"):
        OctavoRetriever.from_texts(TEXTS, Silent(size=4), mode="best")


def test_a_failing_constructor_closes_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[OctavoVectorStore] = []
    original = OctavoVectorStore.add_texts

    def failing(self: OctavoVectorStore, *args: Any, **kwargs: Any) -> list[str]:
        opened.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(OctavoVectorStore, "add_texts", failing)
    with pytest.raises(ValueError, match="as many"):
        OctavoRetriever.from_texts(TEXTS, EMBEDDING, ids=["a"], path=tmp_path / "kb")
    with pytest.raises(CollectionClosedError):
        opened[0].count()


class Spy(BaseCallbackHandler):
    """Notes what a tracer would see."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.tags: list[str] = []
        self.errors: list[BaseException] = []
        self.documents: list[Document] = []

    def on_retriever_start(
        self, serialized: Any, query: str, *, tags: Any = None, metadata: Any = None, **kwargs: Any
    ) -> None:
        self.metadata, self.tags = metadata, tags

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.documents = list(documents)

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


def test_tracing(store: OctavoVectorStore) -> None:
    spy = Spy()
    found = OctavoRetriever(vectorstore=store, tags=["mine"]).invoke("apple", {"callbacks": [spy]})
    assert spy.metadata["ls_retriever_name"] == "octavo"
    assert spy.metadata["ls_vector_store_provider"] == "OctavoVectorStore"
    assert spy.metadata["ls_embedding_provider"] == "DeterministicFakeEmbedding"
    assert spy.tags == ["mine"]
    assert spy.documents == found
    with pytest.raises(ValueError, match="xor"):
        OctavoRetriever(vectorstore=store).invoke("apple", {"callbacks": [spy]}, filter={"$xor": []})
    assert len(spy.errors) == 1


def test_tracing_of_as_retriever(store: OctavoVectorStore) -> None:
    spy = Spy()
    retriever = store.as_retriever()
    retriever.invoke("apple", {"callbacks": [spy]})
    assert spy.metadata["ls_vector_store_provider"] == "OctavoVectorStore"
    assert spy.metadata["ls_embedding_provider"] == "DeterministicFakeEmbedding"
    assert retriever.tags == ["OctavoVectorStore", "DeterministicFakeEmbedding"]


def test_in_a_chain(store: OctavoVectorStore) -> None:
    retriever = OctavoRetriever(vectorstore=store, mode="text", k=1)
    prompt = ChatPromptTemplate.from_template("Context: {context}\nQuestion: {question}")
    asked: list[str] = []

    def note(value: Any) -> Any:
        asked.append(value.to_string())
        return value

    chain = (
        {"context": retriever | (lambda documents: documents[0].page_content), "question": RunnablePassthrough()}
        | prompt
        | note
        | FakeListChatModel(responses=["yellow"])
        | StrOutputParser()
    )
    assert chain.invoke("yellow pear?") == "yellow"
    assert "a yellow pear" in asked[0]


def test_batches(store: OctavoVectorStore) -> None:
    retriever = OctavoRetriever(vectorstore=store, k=1)
    assert [ids_of(found) for found in retriever.batch(TEXTS)] == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_as_retriever_takes_k_for_one_call(store: OctavoVectorStore) -> None:
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert len(retriever.invoke("apple")) == 1
    assert len(retriever.invoke("apple", k=3)) == 3
    retriever.add_documents([Document(id="tmp", page_content="temporary")])
    assert retriever.invoke("temporary")[0].id == "tmp"
    store.delete(["tmp"])
