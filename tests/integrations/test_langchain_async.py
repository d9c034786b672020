"""Every method has an async twin that gives the same, embeds by the embedding's async methods and frees the loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import VectorStore

from octavo.errors import MismatchError
from octavo.integrations.langchain import OctavoRecordManager, OctavoRetriever, OctavoVectorStore

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
    store = await OctavoVectorStore.afrom_texts(["two"], AsyncOnly(), path=tmp_path / "kb")
    assert store.count() == 2
    store.close()

    class Other(AsyncOnly):
        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            return EMBEDDING.embed_documents([text + "!" for text in texts])

    with pytest.raises(MismatchError):
        await OctavoVectorStore.afrom_texts(["three"], Other(), path=tmp_path / "kb")


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


class Ticker:
    """Notes the longest time between two turns of the loop."""

    async def __aenter__(self) -> Ticker:
        self.longest = 0.0
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0.05)
        self.longest = 0.0
        return self

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.perf_counter() - before - 0.01)

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()


class Prepared(AsyncOnly):
    """Instant vectors of a usual size, as lists of floats, as from a service."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._rows = DeterministicFakeEmbedding(size=384).embed_documents([str(i) for i in range(n)])

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self._rows[hash(text) % len(self._rows)] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        return self._rows[0]


@pytest.mark.parametrize("codec", ["int8", "svd:50%|float8 > int8"])
async def test_the_loop_keeps_turning_while_5000_documents_are_added(tmp_path: Path, codec: str) -> None:
    embedding = Prepared(500)
    documents = [
        Document(page_content=f"document {n} " + "some words " * 50, metadata={"n": n, "tags": ["a", "b"]})
        for n in range(5000)
    ]
    stalls: list[float] = []
    for attempt in range(4):  # a busy machine may steal one run's time, not four
        with OctavoVectorStore(embedding, tmp_path / f"kb{attempt}", codec=codec) as store:
            gc.collect()  # what making 5,000 documents left behind is not the store's to answer for
            async with Ticker() as ticker:
                await store.aadd_documents(documents)
                await store.asimilarity_search("q", 100)
                await store.adelete()
            stalls.append(ticker.longest)
        if stalls[-1] < 0.05:
            break
    if min(stalls) >= 0.05:
        async with Ticker() as idle:
            await asyncio.sleep(1.0)
        if idle.longest > 0.02:
            pytest.skip(f"the machine is too busy to tell: a loop with nothing to do stalled {idle.longest:.3f} s")
    assert min(stalls) < 0.05, stalls


async def test_many_searches_at_once(store: OctavoVectorStore) -> None:
    await store.aadd_texts([f"text {n}" for n in range(50)], ids=[str(n) for n in range(50)])
    found = await asyncio.gather(*(store.asimilarity_search(f"text {n}", 1) for n in range(50)))
    assert [documents[0].id for documents in found] == [str(n) for n in range(50)]


async def test_many_first_adds_at_once() -> None:
    """Each waits for the probe's vector; a pool whose threads waited for each other would never finish."""

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
