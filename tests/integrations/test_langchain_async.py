"""Every method has an async twin that gives the same, embeds by the embedding's async methods and frees the loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import aindex
from langchain_core.vectorstores import VectorStore

from octavo import Collection
from octavo.collection.searching import DenseSearch
from octavo.errors import MismatchError
from octavo.integrations.langchain import OctavoRecordManager, OctavoRetriever, OctavoVectorStore, _embedding

EMBEDDING = DeterministicFakeEmbedding(size=16)


class AsyncOnly(Embeddings):
    """An embedding whose synchronous methods must not be called."""

    def __init__(self) -> None:
        self.calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError("the synchronous method was called from asynchronous code")

    def embed_query(self, text: str) -> list[float]:
        raise AssertionError("the synchronous method was called from asynchronous code")

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        await asyncio.sleep(0)
        return EMBEDDING.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        self.calls += 1
        await asyncio.sleep(0)
        return EMBEDDING.embed_query(text)


@pytest.fixture
def store() -> Iterator[OctavoVectorStore]:
    with OctavoVectorStore(AsyncOnly(), fit_after=5) as store:
        yield store


async def test_writing_uses_the_async_methods(store: OctavoVectorStore) -> None:
    ids = await store.aadd_texts(["one", "two"], [{"n": 1}, {"n": 2}], ids=["a", None])
    assert ids[0] == "a"
    more = await store.aadd_documents([Document(id="x", page_content=text) for text in ["three"]])
    assert more == ["x"]
    streamed = await store.aadd_texts((str(n) for n in range(10)), ids=(f"s{n}" for n in range(10)), batch_size=3)
    assert streamed == [f"s{n}" for n in range(10)]
    assert (await store.aget_by_ids(["a"]))[0].page_content == "one"
    assert await store.adelete(["x"]) is True
    assert await store.adelete([]) is True
    assert store.count() == 12
    assert await store.adelete(filter={"n": 1}) is True
    assert store.count() == 11
    assert await store.adelete() is True
    assert store.count() == 0


async def test_searching_uses_the_async_methods_and_agrees_with_sync(store: OctavoVectorStore) -> None:
    texts = [f"text {n}" for n in range(30)]
    await store.aadd_texts(texts, [{"n": n} for n in range(30)], ids=[str(n) for n in range(30)])
    with OctavoVectorStore(EMBEDDING, collection=store.collection) as sync:
        vector = EMBEDDING.embed_query("q")
        where = {"n": {"$lt": 20}}
        assert await store.asimilarity_search("q", 7, where) == sync.similarity_search("q", 7, where)
        assert await store.asimilarity_search_with_score("q", 7) == sync.similarity_search_with_score("q", 7)
        assert await store.asimilarity_search_by_vector(vector, 7) == sync.similarity_search_by_vector(vector, 7)
        assert await store.asimilarity_search_with_score_by_vector(
            vector, 7
        ) == sync.similarity_search_with_score_by_vector(vector, 7)
        assert await store.asimilarity_search_with_relevance_scores(
            "q", 7, score_threshold=0.4
        ) == sync.similarity_search_with_relevance_scores("q", 7, score_threshold=0.4)
        assert await store.amax_marginal_relevance_search("q", 7, 15, 0.2) == sync.max_marginal_relevance_search(
            "q", 7, 15, 0.2
        )
        assert await store.amax_marginal_relevance_search_by_vector(
            vector, 7, filter=where
        ) == sync.max_marginal_relevance_search_by_vector(vector, 7, filter=where)
        assert await store.amax_marginal_relevance_search_with_score(
            "q", 7
        ) == sync.max_marginal_relevance_search_with_score("q", 7)
        for kind in ("similarity", "mmr"):
            assert await store.asearch("q", kind, k=3) == sync.search("q", kind, k=3)
            ours, theirs = (s.as_retriever(search_type=kind, search_kwargs={"k": 3}) for s in (store, sync))
            assert await ours.ainvoke("q") == theirs.invoke("q")
        assert await store.asimilarity_search("text 3", 3, mode="hybrid") == sync.similarity_search(
            "text 3", 3, mode="hybrid"
        )
        for bad in ({"nprobe": 1}, {"fusion": "rrf"}):
            with pytest.raises((TypeError, ValueError)):
                await store.asimilarity_search("q", **bad)


async def test_constructors_use_the_async_methods(tmp_path: Path) -> None:
    documents = [Document(page_content="one"), Document(id="b", page_content="two")]
    for store in (
        await OctavoVectorStore.afrom_texts(["one", "two"], AsyncOnly(), ids=[None, "b"]),
        await OctavoVectorStore.afrom_documents(iter(documents), AsyncOnly(), path=tmp_path / "kb"),
    ):
        assert (await store.asimilarity_search("two", 1))[0].id == "b"
        store.close()
    store = await OctavoVectorStore.afrom_embeddings([("one", [1.0, 0.0])], None)
    await store.aadd_embeddings([("two", [0.0, 1.0])], [{"n": 2}], ["b"])
    assert (await store.asimilarity_search_by_vector([0.1, 1.0], 1))[0].id == "b"
    store.close()


async def test_reopening_recognises_the_embedding_without_its_sync_methods(tmp_path: Path) -> None:
    (await OctavoVectorStore.afrom_texts(["one"], AsyncOnly(), path=tmp_path / "kb")).close()
    store = await OctavoVectorStore.afrom_texts(["two"], AsyncOnly(), ids=["2"], path=tmp_path / "kb")
    assert store.count() == 2
    store.close()

    class Other(AsyncOnly):
        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            return EMBEDDING.embed_documents([text + "!" for text in texts])

    with pytest.raises(MismatchError):
        await OctavoVectorStore.afrom_texts(["three"], Other(), ids=["3"], path=tmp_path / "kb")


async def test_a_failing_async_embedding_changes_nothing(store: OctavoVectorStore) -> None:
    class Failing(AsyncOnly):
        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            raise ConnectionError("the service is down")

    with OctavoVectorStore(Failing(), collection=store.collection) as failing:
        with pytest.raises(ConnectionError):
            await failing.aadd_texts(["one"])
        assert failing.count() == 0


async def test_the_retriever_and_the_record_manager(store: OctavoVectorStore) -> None:
    await store.aadd_texts(["a red apple", "a green pear"], ids=["a", "b"])
    for mode in ("dense", "text", "hybrid", "mmr"):
        retriever = OctavoRetriever(vectorstore=store, mode=mode, k=1, score_key="score")
        found = await retriever.ainvoke("a green pear")
        assert (found[0].id, type(found[0].metadata["score"])) == ("b", float)
        assert len(await retriever.ainvoke("apple pear", k=2, mode="text")) == 2
        assert await retriever.abatch(["a green pear"] * 2) == [found, found]
    records = OctavoRecordManager(store)
    await records.acreate_schema()
    await records.aupdate(["a", "b"], group_ids=["g", None], time_at_least=await records.aget_time())
    assert await records.aexists(["a", "nope"]) == [True, False]
    assert await records.alist_keys(group_ids=["g"]) == ["a"]
    await records.adelete_keys(["a"])
    assert await records.alist_keys() == ["b"]


def test_no_method_is_left_to_the_base_class() -> None:
    """What LangChain's base class does for a missing method is to run the sync one, or to raise NotImplementedError."""
    inherited = {
        # these only dispatch to the others, or wrap a hook that the store overrides
        "as_retriever",
        "search",
        "asearch",
        "similarity_search_with_relevance_scores",
        "asimilarity_search_with_relevance_scores",
    }
    for name, method in inspect.getmembers(VectorStore, inspect.isroutine):
        if name.startswith("_") or name in inherited:
            continue
        assert getattr(OctavoVectorStore, name).__qualname__ != method.__qualname__, name


class Prepared(AsyncOnly):
    """Instant vectors of a usual size, as lists of floats, as from a service."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._rows = DeterministicFakeEmbedding(size=384).embed_documents([str(i) for i in range(n)])

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self._rows[hash(text) % len(self._rows)] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        return self._rows[0]


class Turns:
    """Counts the turns of the loop while a block runs."""

    async def __aenter__(self) -> Turns:
        self.count = 0
        self._task = asyncio.create_task(self._turn())
        return self

    async def _turn(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()


@pytest.mark.parametrize("codec", ["int8", "svd:50%|float8 > int8"])
async def test_the_loop_keeps_turning_while_5000_documents_are_added(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in turns of the loop against work done: neither a busy machine nor a slow one changes the outcome."""
    loop_thread = threading.get_ident()
    calls: list[str] = []
    turns = Turns()
    idle: list[str] = []  # calls during which the loop did not turn once

    def watch(owner: Any, name: str, *, long: bool) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if name == "vectors_to_matrix" and len(args[0]) == 1:  # one query takes some microseconds
                return original(*args, **kwargs)
            assert threading.get_ident() != loop_thread, f"{name} runs in the thread of the loop"
            calls.append(name)
            before = turns.count
            try:
                return original(*args, **kwargs)
            finally:
                if long and turns.count == before:
                    idle.append(name)

        monkeypatch.setattr(owner, name, watched)

    watch(Collection, "add_embedded", long=True)
    watch(Collection, "clear", long=False)
    watch(_embedding, "vectors_to_matrix", long=False)
    watch(DenseSearch, "search", long=False)
    embedding = Prepared(500)
    documents = [
        Document(page_content=f"document {n} " + "some words " * 50, metadata={"n": n, "tags": ["a", "b"]})
        for n in range(5000)
    ]
    with await asyncio.to_thread(OctavoVectorStore, embedding, tmp_path / "kb", codec=codec) as store:
        async with turns:
            await store.aadd_documents(documents)
            added = turns.count
            await store.asimilarity_search("q", 100)
            await store.adelete()
    assert idle == []
    assert added > 20  # as many as batches are written, at the very least
    assert {"add_embedded", "clear", "search", "vectors_to_matrix"} <= set(calls)


async def test_threads_are_not_waited_for_by_threads(tmp_path: Path) -> None:
    """With a pool of one thread, whatever waits in a thread for another thread's work waits for ever."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))

    async def everything(number: int) -> int:
        path = tmp_path / str(number)
        store = await OctavoVectorStore.afrom_texts([f"text {n}" for n in range(5)], EMBEDDING, path=path)
        await store.aadd_documents([Document(page_content="more")])
        store.close()
        store = await OctavoVectorStore.afrom_texts(["again"], Duck(), ids=["again"], path=path)
        found = await store.asimilarity_search("text 1", 2)
        records = OctavoRecordManager(store)
        await aindex([Document(page_content="indexed")], records, store, key_encoder="sha256")
        await OctavoRetriever(vectorstore=store, mode="hybrid").ainvoke("text")
        store.close()
        return len(found)

    assert await asyncio.wait_for(asyncio.gather(*(everything(number) for number in range(4))), 60) == [2] * 4


class Duck:
    """Speaks the two synchronous methods and nothing else."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return EMBEDDING.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        return EMBEDDING.embed_query(text)


async def test_two_synchronous_methods_are_enough(tmp_path: Path) -> None:
    with OctavoVectorStore(Duck(), tmp_path / "kb") as store:  # type: ignore[arg-type]
        assert await store.aadd_texts(["one", "two"], ids=["a", "b"]) == ["a", "b"]
        assert (await store.asimilarity_search("two", 1))[0].id == "b"
        assert store.similarity_search("one", 1)[0].id == "a"
        assert store.collection.info().encoder.endswith("Duck")
        assert store.as_retriever(search_kwargs={"k": 1}).invoke("two")[0].id == "b"


async def test_many_searches_at_once(store: OctavoVectorStore) -> None:
    await store.aadd_texts([f"text {n}" for n in range(50)], ids=[str(n) for n in range(50)])
    found = await asyncio.gather(*(store.asimilarity_search(f"text {n}", 1) for n in range(50)))
    assert [documents[0].id for documents in found] == [str(n) for n in range(50)]


async def test_many_first_adds_at_once() -> None:
    """A pool whose threads waited for each other would never finish."""

    async def fill(number: int) -> int:
        store = await OctavoVectorStore.afrom_texts([f"text {number}"], EMBEDDING)
        await store.aadd_texts(["more"])
        return store.count()

    assert await asyncio.wait_for(asyncio.gather(*(fill(number) for number in range(60))), 60) == [2] * 60


async def test_an_async_add_leaves_the_same_fingerprint(tmp_path: Path) -> None:
    sync = OctavoVectorStore.from_texts(["one"], EMBEDDING, path=tmp_path / "sync")
    waited = await OctavoVectorStore.afrom_texts(["one"], EMBEDDING, path=tmp_path / "async")
    assert sync.collection.info().encoder == waited.collection.info().encoder
    with OctavoVectorStore(EMBEDDING, collection=sync.collection) as other:
        assert await other.asimilarity_search("one") == sync.similarity_search("one")
    for store in (sync, waited):
        store.close()
