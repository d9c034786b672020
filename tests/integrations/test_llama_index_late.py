"""Late interaction in LlamaIndex: the index, the vector store with an encoder inside, the reranker."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import IndexNode, NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

import octavo
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    InputTypeError,
    MismatchError,
    OctavoError,
    ParameterError,
)
from octavo.integrations.llama_index import LateInteractionIndex, MaxSimRerank, OctavoVectorStore, as_retriever
from toy_models import Slow, oracle, words


class Counting:
    """Remembers what it has encoded."""

    name = "counting"

    def __init__(self) -> None:
        self.documents: list[str] = []
        self.queries: list[str] = []

    def encode_documents(self, texts: list[str]) -> list[Any]:
        self.documents += texts
        return words(texts)

    def encode_queries(self, texts: list[str]) -> list[Any]:
        self.queries += texts
        return words(texts)


def make_documents() -> list[Document]:
    texts = {
        "steam": ("The steam engine drove the mills", 1820),
        "diesel": ("A diesel engine ignites its fuel by compression", 1897),
        "violin": ("The violin sonata was written for a friend", 1917),
        "gas": ("Gas turbines spin without pistons", 1939),
    }
    return [
        Document(id_=key, text=text, metadata={"year": year}, excluded_embed_metadata_keys=["year"])
        for key, (text, year) in texts.items()
    ]


QUERY = "a diesel engine without pistons"
TEXTS = [document.text for document in make_documents()]


def sources(hits: Sequence[NodeWithScore]) -> list[str | None]:
    return [hit.node.ref_doc_id for hit in hits]


def years(operator: FilterOperator, year: int) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key="year", value=year, operator=operator)])


@pytest.fixture(params=[None, "kb"], ids=["memory", "disk"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LateInteractionIndex]:
    path = tmp_path / request.param if request.param else None
    index = LateInteractionIndex.from_documents(make_documents(), model=words, path=path, pool_factor=1)
    yield index
    index.close()


# ---------------------------------------------------------------------- retrieving


def test_ranking_and_scores_are_those_of_maxsim(index: LateInteractionIndex) -> None:
    hits = index.as_retriever(similarity_top_k=4).retrieve(QUERY)
    expected = sorted(zip(oracle(QUERY, TEXTS), ["steam", "diesel", "violin", "gas"], strict=True), reverse=True)
    assert sources(hits) == [key for _, key in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=0.02)
    assert hits[0].node.metadata == {"year": 1897}


def test_default_number_of_results(index: LateInteractionIndex) -> None:
    assert len(index.as_retriever().retrieve(QUERY)) == 2


def test_modes(index: LateInteractionIndex) -> None:
    def found(query: str, mode: Any, **options: Any) -> list[str | None]:
        return sources(index.as_retriever(similarity_top_k=2, mode=mode, **options).retrieve(query))

    assert found("violins", "text") == ["violin"]
    assert set(found("violins turbines", "hybrid")) == {"violin", "gas"}
    assert found(QUERY, "hybrid", alpha=1) == found(QUERY, "late") == ["diesel", "gas"]
    assert found("violins", "hybrid", alpha=0) == ["violin"]
    assert found(QUERY, "mmr", vector_store_kwargs={"mmr_threshold": 1.0}) == found(QUERY, "late")
    with pytest.raises(ParameterError, match="'late', 'text', 'sparse', 'hybrid', 'mmr', got 'dense'"):
        index.as_retriever(mode="dense")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="vector_store_query_mode"):
        index.as_retriever(mode="late", vector_store_query_mode="mmr")
    assert sources(index.as_retriever(vector_store_query_mode="text_search").retrieve("violins")) == ["violin"]


def test_filters(index: LateInteractionIndex) -> None:
    def found(filters: MetadataFilters) -> list[str | None]:
        return sources(index.as_retriever(similarity_top_k=9, filters=filters).retrieve("turbines"))

    assert found(years(FilterOperator.GT, 1900)) == ["gas", "violin"]
    assert found(years(FilterOperator.EQ, 1820)) == ["steam"]
    nested = MetadataFilters(filters=[years(FilterOperator.LT, 1850), years(FilterOperator.GT, 1930)], condition="or")
    assert set(found(nested)) == {"steam", "gas"}
    assert sources(index.as_retriever(doc_ids=["violin"]).retrieve(QUERY)) == ["violin"]


def test_search_options(index: LateInteractionIndex) -> None:
    options = {"candidates": "text", "n_candidates": 3, "exact": False}
    assert sources(index.as_retriever(vector_store_kwargs=options).retrieve("turbines pistons"))[0] == "gas"
    with pytest.raises(ParameterError, match="unknown option 'n_candidate'"):
        index.as_retriever(vector_store_kwargs={"n_candidate": 3}).retrieve(QUERY)


async def test_async(index: LateInteractionIndex) -> None:
    retriever = index.as_retriever(similarity_top_k=3, filters=years(FilterOperator.GT, 1850))
    assert await retriever.aretrieve(QUERY) == retriever.retrieve(QUERY)


async def test_async_leaves_the_loop_free() -> None:
    model = Slow(asyncio.get_running_loop())
    index = LateInteractionIndex(model=model)
    await index.ainsert(Document(text="violin"))
    hits = await index.as_retriever().aretrieve("violin")
    await MaxSimRerank(model).apostprocess_nodes(hits, query_str="violin")
    assert model.answers >= 4  # a node, a query, and both once more for the reranker
    index.close()


def test_query_engine(index: LateInteractionIndex) -> None:
    engine = index.as_query_engine(
        llm=MockLLM(), similarity_top_k=3, mode="hybrid", node_postprocessors=[MaxSimRerank(words, top_n=1)]
    )
    response = engine.query(QUERY)
    assert sources(response.source_nodes) == ["diesel"]
    assert TEXTS[1] in str(response)


def test_a_node_whose_template_cannot_be_filled_is_ranked_by_its_text() -> None:
    nodes = [TextNode(text="a steam engine"), TextNode(text="a violin", metadata={"n": 1}, text_template="{")]
    hits = [NodeWithScore(node=node) for node in nodes]
    best = MaxSimRerank(words, top_n=1).postprocess_nodes(hits, query_str="violin")
    assert best[0].node.text == "a violin"  # type: ignore[attr-defined]


def test_index_nodes_hide_nothing(index: LateInteractionIndex) -> None:
    index.insert_nodes([IndexNode(text="an engine index", index_id="engines", obj=TextNode(text="all about engines"))])
    hits = index.as_retriever(similarity_top_k=5).retrieve("engine")
    assert len(hits) == 5
    assert "all about engines" in [hit.text for hit in hits]


# ---------------------------------------------------------------------- writing


def test_insert_delete_reopen(tmp_path: Path) -> None:
    index = LateInteractionIndex.from_documents(make_documents(), model=words, path=tmp_path / "kb", pool_factor=1)
    index.insert(Document(id_="wind", text="Wind mills have no engine"))
    index.insert_nodes([TextNode(id_="n", text="Rotary engine")])
    index.delete_ref_doc("steam")
    violin = index.ref_doc_info["violin"].node_ids
    index.delete_nodes(violin)
    before = index.as_retriever(similarity_top_k=9).retrieve("engine mills")
    assert set(sources(before)) == {"wind", "diesel", "gas", None}
    index.close()
    with pytest.raises(CollectionClosedError):
        index.as_retriever().retrieve(QUERY)

    index = LateInteractionIndex(model=words, path=tmp_path / "kb")
    assert index.as_retriever(similarity_top_k=9).retrieve("engine mills") == before
    index.delete_ref_doc("wind")
    assert "wind" not in sources(index.as_retriever(similarity_top_k=9).retrieve("mills"))
    assert index.collection.verify().ok
    index.close()


async def test_writing_asynchronously() -> None:
    index = LateInteractionIndex(model=words)
    for document in make_documents():
        await index.ainsert(document)
    await index.ainsert_nodes([TextNode(id_="n", text="Rotary engine")])
    await index.adelete_ref_doc("steam")
    await index.adelete_nodes(["n"])
    assert set(index.ref_doc_info) == {"diesel", "violin", "gas"}
    changed = Document(id_="gas", text="Gas lamps")
    assert await index.arefresh_ref_docs([*make_documents()[:3], changed]) == [True, False, False, True]
    assert set(index.ref_doc_info) == {"steam", "diesel", "violin", "gas"}
    assert sources(await index.as_retriever(similarity_top_k=1).aretrieve("lamps")) == ["gas"]


def test_building_with_use_async() -> None:
    index = LateInteractionIndex.from_documents(make_documents(), model=words, use_async=True)
    assert len(index.collection) == 4


def test_refresh_knows_documents_after_reopening(tmp_path: Path) -> None:
    model = Counting()
    LateInteractionIndex.from_documents(make_documents(), model=model, path=tmp_path / "kb").close()
    encoded = len(model.documents)
    index = LateInteractionIndex(model=model, path=tmp_path / "kb")
    assert index.refresh_ref_docs(make_documents()) == [False] * 4
    assert len(model.documents) == encoded  # opening asks the model nothing
    documents = [*make_documents()[1:], Document(id_="wind", text="Wind mills")]
    documents[0].set_content("A diesel engine needs no spark")
    assert index.refresh_ref_docs(documents) == [True, False, False, True]
    assert len(index.collection) == 5
    hits = index.as_retriever(similarity_top_k=1).retrieve("spark diesel")
    assert (sources(hits), hits[0].text) == (["diesel"], "A diesel engine needs no spark")
    assert index.as_retriever(mode="text").retrieve("compression") == []
    index.close()


def test_refresh_of_documents_that_are_stored_whole() -> None:
    index = LateInteractionIndex(make_documents(), model=words, transformations=[])
    assert index.refresh_ref_docs(make_documents()) == [False] * 4
    assert index.refresh_ref_docs([Document(id_="gas", text="Gas lamps")]) == [True]
    assert len(index.collection) == 4


def test_an_update_that_fails_leaves_the_old_version() -> None:
    def moody(texts: list[str]) -> list[Any]:
        if "broken" in texts[0]:
            raise RuntimeError("out of memory")
        return words(texts)

    index = LateInteractionIndex.from_documents(make_documents(), model=moody)
    with pytest.raises(RuntimeError):
        index.update_ref_doc(Document(id_="gas", text="broken"))
    assert sources(index.as_retriever(similarity_top_k=1).retrieve("turbines")) == ["gas"]
    with pytest.raises(ParameterError, match="delete_kwargs"):
        index.update_ref_doc(Document(id_="gas", text="new"), delete_kwargs={})


def test_an_update_with_fewer_nodes_leaves_none_behind() -> None:
    splitter = SentenceSplitter(chunk_size=12, chunk_overlap=0)
    index = LateInteractionIndex.from_documents(
        [Document(id_="d", text="One sentence about steam. Another about wind. A third one about gas.")],
        model=words,
        transformations=[splitter],
    )
    assert len(index.ref_doc_info["d"].node_ids) > 1
    index.update_ref_doc(Document(id_="d", text="Short."))
    assert len(index.collection) == len(index.ref_doc_info["d"].node_ids) == 1


# ---------------------------------------------------------------------- opening, saving, loading


def test_persist_and_load(index: LateInteractionIndex, tmp_path: Path) -> None:
    expected = index.as_retriever(similarity_top_k=4).retrieve(QUERY)
    index.persist(tmp_path / "saved")
    index.delete_ref_doc("gas")
    index.persist(tmp_path / "saved2")
    loaded = LateInteractionIndex.load(tmp_path / "saved", words)
    assert loaded.as_retriever(similarity_top_k=4).retrieve(QUERY) == expected
    loaded.insert(Document(id_="wind", text="Wind mills"))
    loaded.close()
    again = LateInteractionIndex.load(str(tmp_path / "saved"), words)
    assert set(again.ref_doc_info) == {"steam", "diesel", "violin", "gas", "wind"}
    again.close()
    second = LateInteractionIndex.load(tmp_path / "saved2", words, read_only=True)
    assert set(second.ref_doc_info) == {"steam", "diesel", "violin"}
    second.close()


def test_load_opens_a_path_too(tmp_path: Path) -> None:
    LateInteractionIndex.from_documents(make_documents(), model=words, path=tmp_path / "kb").close()
    index = LateInteractionIndex.load(tmp_path / "kb", words)
    assert sources(index.as_retriever(similarity_top_k=1).retrieve("sonata")) == ["violin"]
    index.close()
    with pytest.raises(CollectionNotFoundError):
        LateInteractionIndex.load(tmp_path / "nothing", words)
    assert not (tmp_path / "nothing").exists()


def test_persist_to_another_file_system() -> None:
    fs = fsspec.filesystem("memory")
    index = LateInteractionIndex.from_documents(make_documents(), model=words)
    index.persist("/late", fs)
    loaded = LateInteractionIndex.load("/late", words, fs=fs)
    assert sources(loaded.as_retriever(similarity_top_k=1).retrieve("sonata")) == ["violin"]
    loaded.insert(Document(text="still writable"))


def test_storage_context(tmp_path: Path) -> None:
    index = LateInteractionIndex.from_documents(make_documents(), model=words)
    index.storage_context.persist(str(tmp_path))
    context = StorageContext.from_defaults(
        persist_dir=str(tmp_path), vector_store=OctavoVectorStore.from_persist_dir(str(tmp_path), encoder=words)
    )
    loaded = LateInteractionIndex(storage_context=context)
    assert sources(loaded.as_retriever(similarity_top_k=1).retrieve("sonata")) == ["violin"]
    loaded.close()
    store = OctavoVectorStore(encoder=words)
    context = StorageContext.from_defaults(vector_store=store)
    LateInteractionIndex.from_documents(make_documents(), storage_context=context)
    assert len(store.client) == 4


def test_opening_without_the_model_for_text(tmp_path: Path) -> None:
    LateInteractionIndex.from_documents(make_documents(), model=words, path=tmp_path / "kb").close()
    index = LateInteractionIndex(path=tmp_path / "kb")
    assert sources(index.as_retriever(mode="text").retrieve("violins")) == ["violin"]
    with pytest.raises(ParameterError, match="opened without an encoder"):
        index.as_retriever().retrieve("violins")
    index.close()
    with pytest.raises(CollectionNotFoundError):
        LateInteractionIndex(path=tmp_path / "nothing")


def test_contradictions(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="expected a model"):
        LateInteractionIndex()
    store = OctavoVectorStore(encoder=words)
    with pytest.raises(ParameterError, match="a store and model, codec"):
        LateInteractionIndex(vector_store=store, model=words, codec="int8")
    with pytest.raises(ParameterError, match="got both"):
        LateInteractionIndex(vector_store=store, storage_context=StorageContext.from_defaults(vector_store=store))
    with pytest.raises(ParameterError, match="one vector a node"):
        LateInteractionIndex(vector_store=OctavoVectorStore())
    with pytest.raises(ParameterError, match="SimpleVectorStore"):
        LateInteractionIndex(storage_context=StorageContext.from_defaults())
    with pytest.raises(TypeError, match="unknown"):
        LateInteractionIndex(model=words, unknown=3)
    with pytest.raises(TypeError, match="model="):
        LateInteractionIndex(encoder=words)
    OctavoVectorStore(tmp_path / "dense", dim=8).close()
    with pytest.raises(MismatchError, match="one vector a document"):
        LateInteractionIndex(model=words, path=tmp_path / "dense")
    with pytest.raises(ParameterError, match="one vector a node"):
        LateInteractionIndex(path=tmp_path / "dense")


@pytest.mark.parametrize("use", ["insert", "retrieve"])
def test_another_model_is_refused(tmp_path: Path, use: str) -> None:
    """Also where what is encoded of a node holds metadata, which the stored text does not."""
    documents = [Document(id_=name, text=name, metadata={"topic": "strings"}) for name in ("violin", "cello", "harp")]
    LateInteractionIndex.from_documents(documents, model=words, path=tmp_path / "kb").close()

    def other(texts: list[str]) -> list[Any]:
        return [-matrix for matrix in words(texts)]

    index = LateInteractionIndex(path=tmp_path / "kb", model=other)  # opening asks the model nothing
    with pytest.raises(MismatchError, match=r"built with encoder .*words.*got .*other"):
        index.insert(Document(text="lute")) if use == "insert" else index.as_retriever().retrieve("harp")
    assert len(index.collection) == 3
    index.close()
    again = LateInteractionIndex(path=tmp_path / "kb", model=words)
    again.insert(Document(text="lute"))
    assert sources(again.as_retriever(similarity_top_k=1).retrieve("harp")) == ["harp"]
    again.close()


def test_pooling_and_codec_reach_the_collection() -> None:
    index = LateInteractionIndex(model=words, pool_factor=3, codec="svd:16|int8", candidates="fde")
    assert (index.collection.pooling.factor, index.collection.codec) == (3, "svd:16|int8")
    assert LateInteractionIndex(model=words).collection.pooling.factor == 2


def test_from_vector_store() -> None:
    store = OctavoVectorStore(encoder=words)
    index = LateInteractionIndex.from_vector_store(store)
    index.insert(Document(text="violin"))
    assert len(store.client) == 1
    with pytest.raises(ParameterError, match="embed_model"):
        LateInteractionIndex.from_vector_store(store, MockEmbedding(3))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- vector store


def make_node(identifier: str, text: str, **fields: Any) -> TextNode:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{identifier}")}
    return TextNode(id_=identifier, text=text, relationships=source, **fields)


def test_the_store_encodes_nodes_and_queries() -> None:
    model = Counting()
    store = OctavoVectorStore(encoder=model, pool_factor=1)
    assert not store.is_embedding_query
    assert OctavoVectorStore().is_embedding_query
    nodes = [make_node("a", "red apple"), make_node("b", "green pear", metadata={"title": "Fruit"})]
    assert store.add([*nodes, nodes[0]]) == ["a", "b", "a"]
    assert "title: Fruit\n\ngreen pear" in model.documents  # what the framework embeds, too
    result = store.query(VectorStoreQuery(query_str="apple", similarity_top_k=1))
    assert (result.ids, result.nodes) == (["a"], [nodes[0]])
    assert result.similarities == pytest.approx([1.0], abs=0.01)
    assert model.queries == ["apple"]
    store.delete("doc-a")
    assert store.get_nodes() == [nodes[1]]


def test_a_flat_embedding_beside_the_words_is_left_alone() -> None:
    """A `QueryBundle` that a dense retriever has embedded may reach this store next."""
    store = OctavoVectorStore(encoder=words)
    store.add([make_node("a", "red apple"), make_node("b", "green pear")])
    query = VectorStoreQuery(query_str="pear", query_embedding=[1.0, 0.0], similarity_top_k=1)
    assert store.query(query).ids == ["b"]
    for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR, VectorStoreQueryMode.HYBRID):
        with pytest.raises(ParameterError, match="query_str"):
            store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], mode=mode))


def test_core_index_over_the_store() -> None:
    store = OctavoVectorStore(encoder=words)
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(
        make_documents(), storage_context=context, embed_model=MockEmbedding(embed_dim=1)
    )
    assert sources(index.as_retriever(similarity_top_k=1).retrieve("sonata")) == ["violin"]
    assert sources(as_retriever(index, vector_store_query_mode="hybrid").retrieve("sonata"))[0] == "violin"
    engine = RetrieverQueryEngine.from_args(as_retriever(index), llm=MockLLM())
    assert sources(engine.query("sonata").source_nodes)[0] == "violin"


def test_ingestion_pipeline_without_an_embedding_model() -> None:
    store = OctavoVectorStore(encoder=words)
    nodes = IngestionPipeline(transformations=[SentenceSplitter()]).run(documents=make_documents())
    store.add(nodes)
    assert sources(LateInteractionIndex(vector_store=store).as_retriever().retrieve("sonata"))[0] == "violin"


async def test_the_store_asynchronously() -> None:
    store = OctavoVectorStore(encoder=words)
    await store.async_add([make_node("a", "red apple"), make_node("b", "green pear")])
    assert (await store.aquery(VectorStoreQuery(query_str="pear", similarity_top_k=1))).ids == ["b"]
    await store.adelete_nodes(["b"])
    assert [node.node_id for node in await store.aget_nodes()] == ["a"]


@pytest.mark.parametrize("name", [None, "kb"])
def test_copies_and_pickles(name: str | None, tmp_path: Path) -> None:
    store = OctavoVectorStore(tmp_path / name if name else None, encoder=words, pool_factor=1)
    store.add([make_node("a", "red apple"), make_node("b", "green pear")])
    query = VectorStoreQuery(query_str="pear", similarity_top_k=2)
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert other.query(query).ids == store.query(query).ids == ["b", "a"]
        other.close()


def test_a_described_store_needs_its_encoder_again() -> None:
    described = OctavoVectorStore(encoder=words, pool_factor=3).to_dict()
    assert OctavoVectorStore.from_dict(described, encoder=words).client.pooling.factor == 3
    with pytest.raises(ParameterError, match="give encoder="):
        OctavoVectorStore.from_dict(described)


def test_options_of_late_interaction_need_an_encoder() -> None:
    with pytest.raises(ParameterError, match="pool_factor belongs to late interaction"):
        OctavoVectorStore(pool_factor=2)
    with pytest.raises(ParameterError, match="cosine"):
        OctavoVectorStore(encoder=words, metric="dot")
    with octavo.open_multi_vector(encoder=words) as collection:
        with pytest.raises(ParameterError, match="got both"):
            OctavoVectorStore(collection=collection, encoder=words)
        store = OctavoVectorStore(collection=collection)
        store.add([make_node("a", "red apple")])
        assert store.query(VectorStoreQuery(query_str="red")).ids == ["a"]


# ---------------------------------------------------------------------- reranker


@pytest.fixture
def found() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=make_node(document.id_, document.text, metadata={"tags": ["x"]}), score=float(-n))
        for n, document in enumerate(make_documents())
    ]


def test_reranking_is_exact_maxsim(found: list[NodeWithScore]) -> None:
    for hit in found:
        hit.node.metadata = {}
    hits = MaxSimRerank(words, top_n=None).postprocess_nodes(found, query_str=QUERY)
    expected = sorted(zip(oracle(QUERY, TEXTS), ["steam", "diesel", "violin", "gas"], strict=True), reverse=True)
    assert [hit.node.node_id for hit in hits] == [key for _, key in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_reranking_changes_nothing_it_was_given(found: list[NodeWithScore]) -> None:
    before = copy.deepcopy(found)
    hits = MaxSimRerank(words, keep_retrieval_score=True).postprocess_nodes(found, QueryBundle(QUERY))
    assert found == before
    assert [hit.node.metadata["retrieval_score"] for hit in hits] == [-1.0, -3.0]


def test_top_n(found: list[NodeWithScore]) -> None:
    assert len(MaxSimRerank(words).postprocess_nodes(found, query_str=QUERY)) == 2
    assert len(MaxSimRerank(words, top_n=3).postprocess_nodes(found, query_str=QUERY)) == 3
    assert MaxSimRerank(words).postprocess_nodes([], query_str=QUERY) == []
    for options in ({"top_n": 0}, {"topn": 3}):
        with pytest.raises(ValueError, match=r"top_?n"):
            MaxSimRerank(words, **options)


def test_reranking_is_reported(found: list[NodeWithScore]) -> None:
    seen: list[BaseEvent] = []

    class Recorder(BaseEventHandler):
        def handle(self, event: BaseEvent, **kwargs: Any) -> None:
            seen.append(event)

    recorder = Recorder()
    handlers = get_dispatcher().event_handlers
    handlers.append(recorder)
    try:
        hits = MaxSimRerank(words, top_n=None).postprocess_nodes(found, query_str=QUERY)
    finally:
        handlers.remove(recorder)
    start, end = seen
    assert isinstance(start, ReRankStartEvent)
    assert (start.model_name, start.top_n, start.nodes) == ("words", 4, found)
    assert isinstance(end, ReRankEndEvent)
    assert end.nodes == hits


async def test_async_reranking(found: list[NodeWithScore]) -> None:
    reranker = MaxSimRerank(words)
    expected = reranker.postprocess_nodes(found, query_str=QUERY)
    assert await reranker.apostprocess_nodes(found, query_str=QUERY) == expected


def test_reranking_needs_a_query_and_a_model(found: list[NodeWithScore]) -> None:
    with pytest.raises(ParameterError, match="query_bundle or query_str"):
        MaxSimRerank(words).postprocess_nodes(found)
    with pytest.raises(InputTypeError, match="token encoder"):
        MaxSimRerank(3)
    with pytest.raises(OctavoError):
        MaxSimRerank(words).postprocess_nodes(found, query_str="")


def test_serialised_components_name_the_model() -> None:
    assert MaxSimRerank(words, top_n=3).to_dict() == {
        "model": "words",
        "top_n": 3,
        "keep_retrieval_score": False,
        "class_name": "MaxSimRerank",
    }
