"""The store under the framework: indices, pipelines, query engines, retrievers, async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import MockEmbedding, Settings, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode, IndexNode, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery

from octavo.errors import InputTypeError, InvalidVectorsError
from octavo.integrations.llama_index import OctavoVectorStore, as_retriever
from toy_models import let_the_loop_turn

MakeStore = Callable[..., OctavoVectorStore]

TEXTS = {
    "cake": "apple pie with cinnamon and a little sugar",
    "motor": "steam engine of the nineteenth century",
    "music": "violin sonata in a minor",
}


@pytest.fixture(autouse=True)
def no_models() -> Iterator[None]:
    """Nothing may fall back on a default model; the splitter is the framework's own."""
    Settings.llm = MockLLM()
    Settings.embed_model = MockEmbedding(embed_dim=4)
    yield
    Settings._llm = Settings._embed_model = None


@pytest.fixture
def documents() -> list[Document]:
    return [Document(id_=name, text=text, metadata={"name": name}) for name, text in TEXTS.items()]


@pytest.fixture
def index(make_store: MakeStore, embedding: BaseEmbedding, documents: list[Document]) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=make_store("kb", codec="binary > int8", fit_after=3))
    return VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedding)


def store_of(index: VectorStoreIndex) -> OctavoVectorStore:
    assert isinstance(index.vector_store, OctavoVectorStore)
    return index.vector_store


def texts(hits: list[Any]) -> list[str]:
    return [hit.node.get_content() for hit in hits]


# ---------------------------------------------------------------------- VectorStoreIndex


def test_from_documents_and_retrieve(index: VectorStoreIndex) -> None:
    hits = index.as_retriever(similarity_top_k=2).retrieve("a steam engine")
    assert texts(hits)[0] == TEXTS["motor"]
    assert hits[0].score > hits[1].score
    assert hits[0].node.ref_doc_id == "motor"
    assert hits[0].node.metadata == {"name": "motor"}


def test_from_vector_store_after_reopening(index: VectorStoreIndex, embedding: BaseEmbedding) -> None:
    store = store_of(index)
    store.close()
    again = OctavoVectorStore(store.path)
    reopened = VectorStoreIndex.from_vector_store(again, embed_model=embedding)
    assert texts(reopened.as_retriever(similarity_top_k=1).retrieve("violin")) == [TEXTS["music"]]
    again.close()


def test_insert_delete_and_refresh(index: VectorStoreIndex, documents: list[Document]) -> None:
    store = store_of(index)
    index.insert(Document(id_="boat", text="electric boat"))
    assert len(store.client) == 4
    index.delete_ref_doc("cake", delete_from_docstore=True)
    assert TEXTS["cake"] not in [node.get_content() for node in store.get_nodes()]
    changed = Document(id_="motor", text="diesel engine", metadata={"name": "motor"})
    assert index.refresh_ref_docs([changed, documents[2]]) == [True, False]
    assert sorted(node.get_content() for node in store.get_nodes()) == [
        "diesel engine",
        "electric boat",
        TEXTS["music"],
    ]
    index.update_ref_doc(Document(id_="motor", text="gas turbine"))
    assert texts(index.as_retriever(similarity_top_k=1).retrieve("turbine")) == ["gas turbine"]
    (node,) = store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="ref_doc_id", value="boat")]))
    index.delete_nodes([node.node_id])
    index.delete_nodes([])
    assert len(store.client) == 2


def test_query_engine(index: VectorStoreIndex) -> None:
    response = index.as_query_engine(llm=MockLLM(), similarity_top_k=1).query("Who built the steam engine?")
    assert TEXTS["motor"] in str(response)
    assert [hit.node.ref_doc_id for hit in response.source_nodes] == ["motor"]


def test_retriever_options_reach_the_store(index: VectorStoreIndex) -> None:
    only_cake = MetadataFilters(filters=[MetadataFilter(key="name", value="cake")])
    assert texts(index.as_retriever(filters=only_cake).retrieve("violin")) == [TEXTS["cake"]]
    assert texts(index.as_retriever(doc_ids=["music"]).retrieve("apple")) == [TEXTS["music"]]
    words = index.as_retriever(vector_store_query_mode="text_search").retrieve("violins")
    assert texts(words) == [TEXTS["music"]]
    hybrid = index.as_retriever(vector_store_query_mode="hybrid", alpha=0.0, similarity_top_k=3).retrieve("violin")
    assert texts(hybrid) == [TEXTS["music"]]
    mmr = index.as_retriever(
        vector_store_query_mode="mmr", similarity_top_k=3, vector_store_kwargs={"mmr_threshold": 0.0}
    ).retrieve("steam engine")
    assert texts(mmr)[0] == TEXTS["motor"]
    assert len(mmr) == 3


def test_text_mode_embeds_nothing(make_store: MakeStore, embedding: BaseEmbedding, index: VectorStoreIndex) -> None:
    class NoQueries(MockEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            raise AssertionError("embedded a query")

    retriever = as_retriever(index, vector_store_query_mode="text_search", embed_model=NoQueries(embed_dim=32))
    assert texts(retriever.retrieve("violin")) == [TEXTS["music"]]


def test_two_models_of_different_size(index: VectorStoreIndex) -> None:
    other = VectorStoreIndex.from_vector_store(store_of(index), embed_model=MockEmbedding(embed_dim=7))
    with pytest.raises(InvalidVectorsError, match="32"):
        other.as_retriever().retrieve("anything")
    with pytest.raises(InvalidVectorsError, match="32"):
        other.insert(Document(text="anything"))
    assert len(store_of(index).client) == 3


# ---------------------------------------------------------------------- the retriever without core's trap


@pytest.mark.parametrize("kind", ["index", "image"])
def test_one_index_node_does_not_hide_the_text_nodes(index: VectorStoreIndex, kind: str) -> None:
    extra: TextNode = (
        IndexNode(id_="x", text="summary of everything", index_id="all")
        if kind == "index"
        else ImageNode(id_="x", text="a picture", image_path="p.png")
    )
    index.insert_nodes([extra])
    trapped = index.as_retriever(similarity_top_k=10).retrieve("steam engine")
    assert [hit.node_id for hit in trapped] == ["x"]  # what llama-index-core does; if this fails, the trap is gone
    hits = as_retriever(index, similarity_top_k=10).retrieve("steam engine")
    assert len(hits) == 4
    assert texts(hits)[0] == TEXTS["motor"]
    engine = RetrieverQueryEngine.from_args(as_retriever(index, similarity_top_k=1), llm=MockLLM())
    assert TEXTS["motor"] in str(engine.query("steam engine"))


def test_retriever_of_a_store(index: VectorStoreIndex, embedding: BaseEmbedding) -> None:
    retriever = as_retriever(store_of(index), embed_model=embedding, similarity_top_k=1)
    assert texts(retriever.retrieve("violin")) == [TEXTS["music"]]
    assert [hit.node_id for hit in as_retriever(index, node_ids=["none"]).retrieve("violin")] == []
    for nobody in ({"node_ids": []}, {"doc_ids": []}):
        assert as_retriever(index, **nobody).retrieve("violin") == []
    with pytest.raises(InputTypeError, match="str"):
        as_retriever("index")  # type: ignore[arg-type]


def test_objects_of_index_nodes_are_followed(
    make_store: MakeStore, index: VectorStoreIndex, embedding: BaseEmbedding
) -> None:
    context = StorageContext.from_defaults(vector_store=make_store())
    manual = VectorStoreIndex.from_documents(
        [Document(text="replace the injector every year")], storage_context=context, embed_model=embedding
    )
    node = IndexNode(id_="x", text="diesel manual", index_id="manual", obj=manual.as_retriever())
    index.insert_nodes([node])
    hits = as_retriever(index, similarity_top_k=1).retrieve("diesel manual")
    assert texts(hits) == ["replace the injector every year"]


# ---------------------------------------------------------------------- IngestionPipeline


def pipeline(store: OctavoVectorStore, embedding: BaseEmbedding, **options: Any) -> IngestionPipeline:
    return IngestionPipeline(transformations=[SentenceSplitter(), embedding], vector_store=store, **options)


def test_pipeline(make_store: MakeStore, embedding: BaseEmbedding, documents: list[Document]) -> None:
    store = make_store()
    nodes = pipeline(store, embedding).run(documents=documents)
    assert [node.node_id for node in store.get_nodes()] == [node.node_id for node in nodes]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("strategy", [DocstoreStrategy.UPSERTS, DocstoreStrategy.UPSERTS_AND_DELETE])
def test_pipeline_with_upserts(
    make_store: MakeStore, embedding: BaseEmbedding, documents: list[Document], strategy: DocstoreStrategy, whole: bool
) -> None:
    store = make_store()
    run = pipeline(store, embedding, docstore=SimpleDocumentStore(), docstore_strategy=strategy)
    if whole:
        run.transformations = [embedding]  # documents are stored as they are, without a splitter
    run.run(documents=documents)
    run.run(documents=documents)
    assert len(store.client) == 3
    changed = Document(id_="motor", text="diesel engine", metadata={"name": "motor"})
    run.run(documents=[documents[0], changed])
    expected = {TEXTS["cake"], "diesel engine"}
    if strategy is DocstoreStrategy.UPSERTS:
        expected.add(TEXTS["music"])
    assert {node.get_content() for node in store.get_nodes()} == expected


async def test_async_pipeline(make_store: MakeStore, embedding: BaseEmbedding, documents: list[Document]) -> None:
    store = make_store()
    await pipeline(store, embedding, docstore=SimpleDocumentStore()).arun(documents=documents)
    assert len(store.client) == 3


# ---------------------------------------------------------------------- async


async def test_async_twins_do_the_same(make_store: MakeStore, library: list[TextNode]) -> None:
    store, twin = make_store(), make_store()
    query = VectorStoreQuery(query_embedding=library[0].embedding, similarity_top_k=4)
    food = MetadataFilters(filters=[MetadataFilter(key="topic", value="food")])
    assert await twin.async_add(library) == store.add(library)
    found = await twin.aquery(query, exact=True)
    assert found.ids == store.query(query).ids
    assert [n.node_id for n in await twin.aget_nodes(["n3", "n0"])] == ["n3", "n0"]
    assert [n.node_id for n in await twin.aget_nodes(filters=food)] == ["n0", "n1", "n2", "n3"]
    await twin.adelete("d0")
    await twin.adelete_nodes(["n3", "n4"], food)
    await twin.adelete_nodes([])
    await twin.adelete_nodes()
    assert [n.node_id for n in twin.get_nodes()] == [f"n{i}" for i in range(4, 12)]
    await twin.aclear()
    assert twin.get_nodes() == []


async def test_async_index(index: VectorStoreIndex) -> None:
    await index.ainsert(Document(id_="boat", text="electric boat"))
    hits = await index.as_retriever(similarity_top_k=1).aretrieve("electric boat")
    assert texts(hits) == ["electric boat"]
    await index.adelete_ref_doc("boat")
    response = await index.as_query_engine(llm=MockLLM(), similarity_top_k=1).aquery("violin")
    assert TEXTS["music"] in str(response)


@pytest.mark.parametrize("method", ["add", "search", "delete", "ids"])
async def test_the_event_loop_stays_free(
    make_store: MakeStore, library: list[TextNode], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    store = make_store("kb")
    store.add(library)
    loop, real, calls = asyncio.get_running_loop(), getattr(store.client, method), []

    def patient(*args: Any, **options: Any) -> Any:
        let_the_loop_turn(loop)
        calls.append(method)
        return real(*args, **options)

    monkeypatch.setattr(store.client, method, patient)
    work: dict[str, Callable[[], Any]] = {
        "add": lambda: store.async_add(library),
        "search": lambda: store.aquery(VectorStoreQuery(query_embedding=library[0].embedding)),
        "delete": lambda: store.adelete("d0"),
        "ids": lambda: store.aget_nodes(),
    }
    await work[method]()
    assert calls == [method]


async def test_many_at_once(make_store: MakeStore, library: list[TextNode]) -> None:
    store = make_store("kb")
    await asyncio.gather(*(store.async_add([node]) for node in library))
    queries = [VectorStoreQuery(query_embedding=node.embedding) for node in library]
    found = await asyncio.gather(*(store.aquery(query) for query in queries))
    assert [result.ids for result in found] == [[node.node_id] for node in library]
