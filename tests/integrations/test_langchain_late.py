"""Late interaction in LangChain: retriever, reranker, and the vector store with an encoder of token vectors."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import index
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

import octavo
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    InputTypeError,
    InvalidVectorsError,
    MismatchError,
    OctavoError,
    ParameterError,
)
from octavo.integrations.langchain import (
    LateInteractionRetriever,
    MaxSimReranker,
    OctavoRecordManager,
    OctavoRetriever,
    OctavoVectorStore,
)
from toy_models import DIM, Slow, oracle, words


class MultiVectorEncoder:
    """Looks like the class of this name in sentence-transformers."""

    model_name = "tiny/late"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_document(self, texts: list[str], **options: Any) -> list[Any]:
        assert options == {"convert_to_numpy": True, "show_progress_bar": False}
        self.encoded += texts
        return words(texts)

    def encode_query(self, texts: list[str], **options: Any) -> list[Any]:
        return words(texts)


DOCUMENTS = [
    Document(id="steam", page_content="The steam engine drove the mills", metadata={"year": 1820, "tags": ["power"]}),
    Document(id="diesel", page_content="A diesel engine ignites its fuel by compression", metadata={"year": 1897}),
    Document(id="violin", page_content="The violin sonata was written for a friend", metadata={"year": 1917}),
    Document(id="gas", page_content="Gas turbines spin without pistons", metadata={"year": 1939}),
]
TEXTS = [document.page_content for document in DOCUMENTS]
QUERY = "a diesel engine without pistons"


def ids_of(documents: Sequence[Document]) -> list[str | None]:
    return [document.id for document in documents]


@pytest.fixture(params=[None, "kb"], ids=["memory", "disk"])
def retriever(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LateInteractionRetriever]:
    path = tmp_path / request.param if request.param else None
    with LateInteractionRetriever.from_documents(DOCUMENTS, words, path=path, pool_factor=1, k=4) as retriever:
        yield retriever


class Standard(RetrieversIntegrationTests):
    mode: str
    options: ClassVar[dict[str, Any]]

    @pytest.fixture(autouse=True)
    def _build(self, tmp_path: Path) -> None:
        self.path = tmp_path / "kb"
        texts = ["a red apple", "a green apple", "an apple pie", "apple juice", "a pear"]
        LateInteractionRetriever.from_texts(texts, words, path=self.path, **self.options).close()

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return LateInteractionRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"path": self.path, "model": words, "mode": self.mode}

    @property
    def retriever_query_example(self) -> str:
        return "apple"


class TestLate(Standard):
    """The 5 standard tests, by MaxSim over float vectors."""

    mode = "late"
    options: ClassVar[dict[str, Any]] = {}


class TestFitted(Standard):
    """The 5 standard tests, by MaxSim over fitted codes."""

    mode = "late"
    options: ClassVar[dict[str, Any]] = {"fit_after": 1, "codec": "svd:16|int8", "pool_factor": 1}


class TestHybrid(Standard):
    """The 5 standard tests, fused with full text."""

    mode = "hybrid"
    options: ClassVar[dict[str, Any]] = {"pool_factor": 4}


del Standard, RetrieversIntegrationTests  # pytest would collect the bases, too


# ---------------------------------------------------------------------- retriever: reading


def test_ranking_and_scores_are_those_of_maxsim(retriever: LateInteractionRetriever) -> None:
    found = retriever.invoke(QUERY, score_key="score")
    expected = sorted(zip(oracle(QUERY, TEXTS), ids_of(DOCUMENTS), strict=True), reverse=True)
    assert ids_of(found) == [identifier for _, identifier in expected]
    assert [d.metadata["score"] for d in found] == pytest.approx([score for score, _ in expected], abs=0.02)


def test_ids_and_metadata_come_back_equal(retriever: LateInteractionRetriever) -> None:
    assert sorted(retriever.invoke(QUERY), key=lambda d: d.id or "") == sorted(DOCUMENTS, key=lambda d: d.id or "")
    assert "score" in retriever.invoke(QUERY, score_key="score")[0].metadata
    assert "score" not in retriever.invoke(QUERY)[0].metadata


def test_modes(retriever: LateInteractionRetriever) -> None:
    assert ids_of(retriever.invoke("engines", mode="text")) == ["steam", "diesel"] or ids_of(
        retriever.invoke("engines", mode="text")
    ) == ["diesel", "steam"]  # BM25 stems; MaxSim over these words does not
    assert ids_of(retriever.invoke("violins", mode="text")) == ["violin"]
    hybrid = retriever.invoke("turbines violins", mode="hybrid", k=2)
    assert set(ids_of(hybrid)) == {"gas", "violin"}
    assert ids_of(retriever.invoke(QUERY, mode="hybrid", alpha=1)) == ids_of(retriever.invoke(QUERY))
    assert ids_of(retriever.invoke("violins", mode="hybrid", alpha=0)) == ["violin"]
    assert ids_of(retriever.invoke(QUERY, mode="mmr", lambda_mult=1)) == ids_of(retriever.invoke(QUERY))


def test_filters(retriever: LateInteractionRetriever) -> None:
    assert ids_of(retriever.invoke("turbines", filter={"year": {"$gt": 1900}})) == ["gas", "violin"]
    assert ids_of(retriever.invoke(QUERY, filter={"tags": {"$contains": "power"}})) == ["steam"]
    assert ids_of(retriever.invoke(QUERY, filter=lambda document: "sonata" in document.page_content)) == ["violin"]


def test_options_for_one_call_stay_with_it(retriever: LateInteractionRetriever) -> None:
    assert len(retriever.invoke(QUERY, k=1)) == 1
    assert len(retriever.invoke(QUERY)) == 4
    with pytest.raises(TypeError, match=r"'top_k'.*k, filter, mode, score_key"):
        retriever.invoke(QUERY, top_k=1)
    with pytest.raises(ValidationError, match="late"):
        retriever.invoke(QUERY, mode="dense")
    with pytest.raises(ValidationError, match="alpha belongs to mode='hybrid'"):
        retriever.invoke(QUERY, alpha=0.5)


def test_search_options(tmp_path: Path) -> None:
    with LateInteractionRetriever.from_documents(
        DOCUMENTS, words, pool_factor=1, k=4, search_kwargs={"candidates": "text", "exact": False}, fit_after=1
    ) as retriever:
        assert ids_of(retriever.invoke("violin turbines")) in (["violin", "gas"], ["gas", "violin"])
    with pytest.raises(ValidationError, match="n_candidate'"):
        LateInteractionRetriever(model=words, search_kwargs={"n_candidate": 3})


async def test_async(retriever: LateInteractionRetriever) -> None:
    for options in ({}, {"mode": "text"}, {"mode": "hybrid"}, {"mode": "mmr"}, {"k": 2, "filter": {"year": 1939}}):
        assert await retriever.ainvoke(QUERY, **options) == retriever.invoke(QUERY, **options)


async def test_async_leaves_the_loop_free() -> None:
    model = Slow(asyncio.get_running_loop())
    retriever = await LateInteractionRetriever.afrom_texts(TEXTS, model, ids=["s", "d", "v", "g"])
    assert ids_of(await retriever.ainvoke("violin sonata", k=1)) == ["v"]
    await MaxSimReranker(model=model).acompress_documents(DOCUMENTS, QUERY)
    assert model.answers >= 4  # documents, a query, and both once more for the reranker
    retriever.close()


def test_tracing(retriever: LateInteractionRetriever) -> None:
    class Recorder(BaseCallbackHandler):
        started: dict[str, Any]
        found: Sequence[Document]

        def on_retriever_start(
            self, serialized: dict[str, Any], query: str, *, run_id: UUID, metadata: Any = None, **kwargs: Any
        ) -> None:
            self.started = {"query": query, **metadata}

        def on_retriever_end(self, documents: Sequence[Document], **kwargs: Any) -> None:
            self.found = documents

    recorder = Recorder()
    found = retriever.invoke(QUERY, {"callbacks": [recorder]})
    assert recorder.found == found
    assert recorder.started["query"] == QUERY
    params = retriever._get_ls_params()
    assert params["ls_vector_store_provider"] == "OctavoVectorStore"
    assert params["ls_embedding_provider"] == "TokenEncoder"
    assert params["ls_embedding_model"] == "words"


# ---------------------------------------------------------------------- retriever: writing, opening


def test_add_replace_delete_reopen(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with LateInteractionRetriever.from_documents(DOCUMENTS, words, path=path, pool_factor=1, k=9) as retriever:
        assert retriever.add_documents([Document("Rotary engine", id="wankel"), Document("Wind mills", id="gas")]) == [
            "wankel",
            "gas",
        ]
        retriever.delete(["steam", "not there"])
        retriever.delete(filter={"year": 1917})
        before = retriever.invoke("engine mills", score_key="score")
    with LateInteractionRetriever(path, words, k=9) as retriever:
        assert set(ids_of(before)) == {"diesel", "wankel", "gas"}
        assert retriever.invoke("engine mills", score_key="score") == before
        assert retriever.collection.info().documents == 3
    with LateInteractionRetriever.from_existing(path, words, mode="text") as retriever:
        assert ids_of(retriever.invoke("mill")) == ["gas"]
        assert retriever.invoke("steam") == []


async def test_writing_asynchronously() -> None:
    retriever = await LateInteractionRetriever.afrom_documents(DOCUMENTS, words, k=9)
    assert await retriever.aadd_documents([Document("Rotary engine")], ids=["wankel"]) == ["wankel"]
    await retriever.adelete(["steam"])
    await retriever.adelete(filter={"year": {"$lt": 1900}})
    assert set(ids_of(await retriever.ainvoke(QUERY))) == {"violin", "gas", "wankel"}
    retriever.close()


def test_delete_needs_to_be_told_what(retriever: LateInteractionRetriever) -> None:
    with pytest.raises(ParameterError, match=r"collection\.clear\(\)"):
        retriever.delete()
    retriever.delete([])
    assert len(retriever.invoke(QUERY)) == 4


def test_a_collection_opens_without_its_model_for_text(tmp_path: Path) -> None:
    LateInteractionRetriever.from_documents(DOCUMENTS, words, path=tmp_path / "kb").close()
    with LateInteractionRetriever(tmp_path / "kb", mode="text") as retriever:
        assert ids_of(retriever.invoke("violins")) == ["violin"]
        with pytest.raises(ParameterError, match="open it with the encoder"):
            retriever.invoke("violins", mode="late")


def test_nothing_is_created_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CollectionNotFoundError):
        LateInteractionRetriever(tmp_path / "kb")
    with pytest.raises(CollectionNotFoundError):
        LateInteractionRetriever.from_existing(tmp_path / "kb", words)
    assert not (tmp_path / "kb").exists()
    with pytest.raises(ParameterError, match="expected a model"):
        LateInteractionRetriever()


def test_another_model_is_refused(tmp_path: Path) -> None:
    LateInteractionRetriever.from_documents(DOCUMENTS, words, path=tmp_path / "kb").close()
    with LateInteractionRetriever(tmp_path / "kb", lambda texts: [-matrix for matrix in words(texts)]) as retriever:
        for ask in (lambda: retriever.invoke("sonata"), lambda: retriever.add_documents(DOCUMENTS)):
            with pytest.raises(MismatchError, match="words"):
                ask()
    with pytest.raises(MismatchError, match="pool"):
        LateInteractionRetriever(tmp_path / "kb", words, pool_factor=3)


def test_collections_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    dense = DeterministicFakeEmbedding(size=8)
    OctavoVectorStore.from_texts(["red"], dense, path=tmp_path / "dense").close()
    with pytest.raises(MismatchError, match="one vector a document"):
        LateInteractionRetriever(tmp_path / "dense", words)
    with pytest.raises(ValueError, match="use OctavoRetriever"):
        LateInteractionRetriever(tmp_path / "dense")
    with OctavoVectorStore(dense) as store, pytest.raises(ValueError, match="use OctavoRetriever"):
        LateInteractionRetriever(vectorstore=store)
    LateInteractionRetriever.from_texts(["red"], words, path=tmp_path / "late").close()
    with pytest.raises(MismatchError, match="many vectors a document"):
        OctavoVectorStore(dense, tmp_path / "late")
    with octavo.open(dim=8) as collection, pytest.raises(MismatchError, match="one vector a document"):
        OctavoVectorStore(octavo.TokenEncoder(words), collection=collection)


def test_a_store_or_what_opens_one() -> None:
    with OctavoVectorStore(octavo.TokenEncoder(words)) as store:
        store.add_texts(TEXTS)
        assert LateInteractionRetriever(vectorstore=store, k=1).invoke("gas")[0].page_content == TEXTS[3]
        with pytest.raises(ParameterError, match="got vectorstore= and model, pool_factor"):
            LateInteractionRetriever(vectorstore=store, model=words, pool_factor=2)


def test_a_collection_that_is_open_already() -> None:
    with octavo.open_multi_vector(encoder=words, pool_factor=1) as collection:
        retriever = LateInteractionRetriever(collection=collection, k=1)
        retriever.add_documents(DOCUMENTS)
        assert ids_of(retriever.invoke("sonata")) == ["violin"]
        retriever.close()
        assert len(collection) == 4  # still open


def test_encoding_can_stay_outside_of_the_collection() -> None:
    with octavo.open_multi_vector() as collection:
        retriever = LateInteractionRetriever(model=words, collection=collection, k=1)
        retriever.add_documents(DOCUMENTS)
        assert ids_of(retriever.invoke("sonata", mode="hybrid")) == ["violin"]


def test_pooling_and_codec_reach_the_collection() -> None:
    with LateInteractionRetriever.from_documents(DOCUMENTS, words, codec="svd:8|int8", pool_factor=3) as retriever:
        assert retriever.collection.codec == "svd:8|int8"
        assert retriever.collection.pooling.factor == 3
    with LateInteractionRetriever.from_documents(DOCUMENTS, words) as retriever:
        assert (retriever.collection.codec, retriever.collection.pooling.factor) == ("int8", 2)


@pytest.mark.parametrize(
    "options", [{"k": -1}, {"mode": "dense"}, {"cutoff": 3}, {"metric": "cosine"}, {"encoder": words}]
)
def test_bad_options(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises((ValidationError, TypeError)):
        LateInteractionRetriever(tmp_path / "kb", words, **options)


def test_a_failed_build_closes_the_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[OctavoVectorStore] = []
    monkeypatch.setattr(OctavoVectorStore, "close", lambda store: closed.append(store))
    with pytest.raises(InputTypeError):
        LateInteractionRetriever.from_texts(["red", 3], words)  # type: ignore[list-item]
    with pytest.raises(ValidationError):
        LateInteractionRetriever(model=words, k=-1)
    assert len(closed) == 2


def test_closed() -> None:
    retriever = LateInteractionRetriever.from_documents(DOCUMENTS, words)
    retriever.close()
    with pytest.raises(CollectionClosedError):
        retriever.invoke(QUERY)


# ---------------------------------------------------------------------- vector store


@pytest.fixture
def store() -> Iterator[OctavoVectorStore]:
    with OctavoVectorStore.from_documents(DOCUMENTS, MultiVectorEncoder(), pool_factor=1) as store:
        yield store


def test_the_store_takes_a_multi_vector_encoder(store: OctavoVectorStore) -> None:
    assert ids_of(store.as_retriever(search_kwargs={"k": 2}).invoke(QUERY)) == ["diesel", "gas"]
    assert ids_of(store.as_retriever(search_type="mmr", search_kwargs={"k": 1}).invoke("violin")) == ["violin"]
    assert store.embeddings is None
    assert isinstance(store.embedding, octavo.TokenEncoder)
    assert "TokenEncoder" in repr(store)
    found = OctavoRetriever(vectorstore=store, mode="hybrid", k=1, score_key="s").invoke("violin sonata")
    assert ids_of(found) == ["violin"]


def test_relevance_is_the_mean_cosine(store: OctavoVectorStore) -> None:
    scored = store.similarity_search_with_relevance_scores(QUERY, k=4)
    n = len(QUERY.split())
    assert [s for _, s in scored] == pytest.approx(
        sorted(0.5 + 0.5 * s / n for s in oracle(QUERY, TEXTS))[::-1], abs=0.01
    )
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99, "filter": {"year": 1897}}
    )
    assert ids_of(retriever.invoke("diesel engine")) == ["diesel"]
    (text, relevance), *_ = store.similarity_search_with_relevance_scores("violins", mode="text")
    assert text.id == "violin"
    assert 0 < relevance < 1


async def test_async_relevance(store: OctavoVectorStore) -> None:
    options: dict[str, Any] = {"k": 3, "filter": {"year": {"$gt": 1850}}}
    assert await store.asimilarity_search_with_relevance_scores(
        QUERY, **options
    ) == store.similarity_search_with_relevance_scores(QUERY, **options)


def test_flat_vectors_are_refused_with_advice(store: OctavoVectorStore) -> None:
    flat = [0.5] * DIM
    for method in (store.similarity_search_by_vector, store.max_marginal_relevance_search_by_vector):
        with pytest.raises(InvalidVectorsError, match=r"\(64,\).*similarity_search\(query\)"):
            method(flat)
    with pytest.raises(ParameterError, match="add_texts"):
        store.add_embeddings([("red", flat)])
    with OctavoVectorStore(octavo.TokenEncoder(words)) as other, pytest.raises(ParameterError, match="add_documents"):
        store.merge_from(other)


def test_token_vectors_find_by_vector(store: OctavoVectorStore) -> None:
    (tokens,) = words([QUERY])
    assert store.similarity_search_by_vector(tokens, k=3) == store.similarity_search(QUERY, k=3)


def test_options_of_late_interaction_belong_to_it(store: OctavoVectorStore) -> None:
    assert ids_of(store.similarity_search("turbines", candidates="text", exact=False, n_candidates=9)) == ids_of(
        store.similarity_search("turbines", k=4)
    )
    with OctavoVectorStore(DeterministicFakeEmbedding(size=8)) as dense:
        dense.add_texts(["red"])
        with pytest.raises(ParameterError, match="n_candidates belongs to stores for late interaction"):
            dense.similarity_search("red", n_candidates=3)


def test_indexing_encodes_nothing_twice() -> None:
    model = MultiVectorEncoder()
    with OctavoVectorStore(model) as store:
        records = OctavoRecordManager(store)
        for documents in (DOCUMENTS, [*DOCUMENTS[:3], Document("Wind mills", metadata={"year": 1000})]):
            index(documents, records, store, cleanup="full", source_id_key="year", key_encoder="sha256")
        assert store.count() == 4
        assert sum(text in TEXTS for text in model.encoded) == 4
        assert ids_of(store.similarity_search("mills", k=1, filter={"year": 1000})) != []
        assert store.similarity_search("turbines", mode="text") == []


def test_save_load_and_copies(store: OctavoVectorStore, tmp_path: Path) -> None:
    store.save_local(tmp_path / "copy")
    with OctavoVectorStore.load_local(tmp_path / "copy", octavo.TokenEncoder(words)) as loaded:
        assert loaded.similarity_search_with_score(QUERY) == store.similarity_search_with_score(QUERY)


def test_streams_are_stored_batch_by_batch() -> None:
    model = MultiVectorEncoder()
    with OctavoVectorStore(model) as store:

        def stream() -> Iterator[str]:
            yield from (f"word{n} of many" for n in range(10))
            assert store.count() == 10

        assert len(store.add_texts(stream(), batch_size=5)) == 10


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(InputTypeError, match="TokenEncoder"):
        OctavoVectorStore(words)  # type: ignore[arg-type]  # could be a dense encoder just as well


# ---------------------------------------------------------------------- reranker


def test_reranking_is_exact_maxsim() -> None:
    reranker = MaxSimReranker(model=words, top_n=None, score_key="relevance_score")
    found = reranker.compress_documents(DOCUMENTS, QUERY)
    expected = sorted(zip(oracle(QUERY, TEXTS), ids_of(DOCUMENTS), strict=True), reverse=True)
    assert ids_of(found) == [identifier for _, identifier in expected]
    assert [d.metadata["relevance_score"] for d in found] == pytest.approx([s for s, _ in expected], abs=1e-5)
    assert all(type(d.metadata["relevance_score"]) is float for d in found)


def test_token_vectors_are_compared_by_cosine() -> None:
    def stretched(texts: list[str]) -> list[Any]:
        return [matrix * (1 + len(matrix)) for matrix in words(texts)]

    plain, scaled = (MaxSimReranker(model=model, score_key="s") for model in (words, stretched))
    for a, b in zip(
        plain.compress_documents(DOCUMENTS, QUERY), scaled.compress_documents(DOCUMENTS, QUERY), strict=True
    ):
        assert a.id == b.id
        assert a.metadata["s"] == pytest.approx(b.metadata["s"], abs=1e-5)


def test_inputs_stay_as_they_are() -> None:
    documents = copy.deepcopy(DOCUMENTS)
    found = MaxSimReranker(model=words, score_key="year").compress_documents(documents, "steam")
    assert documents == DOCUMENTS
    found[0].metadata["tags"].append("more")
    assert documents == DOCUMENTS


def test_top_n() -> None:
    assert len(MaxSimReranker(model=words).compress_documents(DOCUMENTS, QUERY)) == 3
    assert ids_of(MaxSimReranker(model=words, top_n=1).compress_documents(DOCUMENTS, QUERY)) == ["diesel"]
    assert MaxSimReranker(model=words).compress_documents([], QUERY) == []
    with pytest.raises(ValidationError):
        MaxSimReranker(model=words, top_n=0)
    with pytest.raises(ValidationError):
        MaxSimReranker(model=words, topn=3)  # type: ignore[call-arg]


def test_ties_keep_their_order_and_empty_texts_come_last() -> None:
    documents = [Document("", id="empty"), Document("red", id="1"), Document("red", id="2")]
    assert ids_of(MaxSimReranker(model=words).compress_documents(documents, "red")) == ["1", "2", "empty"]


async def test_async_reranking() -> None:
    reranker = MaxSimReranker(model=words, score_key="s")
    assert await reranker.acompress_documents(DOCUMENTS, QUERY) == reranker.compress_documents(DOCUMENTS, QUERY)


def test_a_model_that_is_none() -> None:
    with pytest.raises(InputTypeError, match="token encoder"):
        MaxSimReranker(model=3)


def test_an_empty_query_is_an_error() -> None:
    with pytest.raises(OctavoError):
        MaxSimReranker(model=words).compress_documents(DOCUMENTS, "")


async def test_in_a_pipeline(store: OctavoVectorStore) -> None:
    """What langchain's ContextualCompressionRetriever does."""

    class Compressing(BaseRetriever):
        base_retriever: Any
        base_compressor: BaseDocumentCompressor

        def _get_relevant_documents(self, query: str, *, run_manager: Any, **kwargs: Any) -> list[Document]:
            found = self.base_retriever.invoke(query, config={"callbacks": run_manager.get_child()}, **kwargs)
            return list(self.base_compressor.compress_documents(found, query, callbacks=run_manager.get_child()))

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **kwargs: Any) -> list[Document]:
            found = await self.base_retriever.ainvoke(query, config={"callbacks": run_manager.get_child()}, **kwargs)
            return list(await self.base_compressor.acompress_documents(found, query, callbacks=run_manager.get_child()))

    pipeline = Compressing(
        base_retriever=store.as_retriever(search_kwargs={"k": 4, "mode": "text"}),
        base_compressor=MaxSimReranker(model=words, top_n=1),
    )
    assert ids_of(pipeline.invoke("steam mills engine")) == ["steam"]
    assert ids_of(await pipeline.ainvoke("steam mills engine")) == ["steam"]
    chain = pipeline | RunnableLambda(ids_of)
    assert chain.invoke("diesel fuel engine") == ["diesel"]
