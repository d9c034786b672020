"""What llama-index-core builds on a retriever: engines, retrievers of retrievers, routers, memories, graphs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import Document, PropertyGraphIndex, StorageContext, VectorStoreIndex
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import EntityNode, Relation
from llama_index.core.indices.property_graph import VectorContextRetriever
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata, MessageRole, MockLLM
from llama_index.core.memory import ChatMemoryBuffer, Memory, VectorMemory, VectorMemoryBlock
from llama_index.core.node_parser import (
    HierarchicalNodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    get_leaf_nodes,
    get_root_nodes,
)
from llama_index.core.postprocessor import (
    FixedRecencyPostprocessor,
    MetadataReplacementPostProcessor,
    PrevNextNodePostprocessor,
    SimilarityPostprocessor,
)
from llama_index.core.query_engine import (
    CitationQueryEngine,
    RetrieverQueryEngine,
    RouterQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.retrievers import (
    AutoMergingRetriever,
    QueryFusionRetriever,
    RecursiveRetriever,
    RouterRetriever,
    TransformRetriever,
    VectorIndexAutoRetriever,
)
from llama_index.core.schema import IndexNode, NodeRelationship, RelatedNodeInfo, TextNode, TransformComponent
from llama_index.core.selectors import LLMMultiSelector, LLMSingleSelector
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.tools import QueryEngineTool, RetrieverTool
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, MetadataInfo, VectorStoreInfo
from sqlalchemy.ext.asyncio import create_async_engine

Library = Callable[[], list[Document]]
SideBySide = Callable[[Callable[[Any], Any]], Any]

QUESTIONS = ["a steam engine", "apple", "violin sonata", "gas turbine"]


class SayingLLM(CustomLLM):
    """Answers the same to everything."""

    answer: str

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.answer)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        yield CompletionResponse(text=self.answer, delta=self.answer)


def ask(engine: Any) -> list[Any]:
    """What an engine is told (the mock repeats its prompt) and the sources it names."""
    responses = [engine.query(question) for question in QUESTIONS]
    return [[str(response), response.source_nodes] for response in responses]


# ---------------------------------------------------------------------- engines


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "no_text"])
def test_query_engines(side_by_side: SideBySide, library: Library, mode: str) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        answered = ask(index.as_query_engine(llm=MockLLM(), similarity_top_k=1, response_mode=mode))
        return [sources if mode == "tree_summarize" else [text, sources] for text, sources in answered]

    side_by_side(program)


def test_streaming_and_citations(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        streamed = index.as_query_engine(llm=MockLLM(max_tokens=5), streaming=True, similarity_top_k=1).query("violin")
        cited = CitationQueryEngine.from_args(index, llm=MockLLM(), similarity_top_k=1).query("steam engine mills")
        return ["".join(streamed.response_gen), streamed.source_nodes, cited.source_nodes]

    side_by_side(program)


async def test_asynchronous_engines(worlds: Any, side_by_side: SideBySide, library: Library) -> None:
    async def program(world: Any) -> Any:
        engine = world.index(library()).as_query_engine(llm=MockLLM(), similarity_top_k=1, use_async=True)
        responses = [await engine.aquery(question) for question in QUESTIONS]
        return [[str(response), response.source_nodes] for response in responses]

    results = iter([await program(world) for world in worlds])
    side_by_side(lambda world: next(results))


@pytest.mark.parametrize("mode", [ChatMode.CONTEXT, ChatMode.CONDENSE_QUESTION, ChatMode.CONDENSE_PLUS_CONTEXT])
def test_chat_engines(side_by_side: SideBySide, library: Library, mode: ChatMode) -> None:
    def program(world: Any) -> Any:
        chat = world.index(library()).as_chat_engine(
            chat_mode=mode,
            llm=SayingLLM(answer="steam engine mills"),
            memory=ChatMemoryBuffer.from_defaults(token_limit=1000),
            similarity_top_k=1,
        )
        first, second = chat.chat("Which engine drove the mills?"), chat.chat("And the violin?")
        chat.reset()
        return [str(first), first.source_nodes, second.source_nodes, len(chat.chat_history)]

    assert side_by_side(program)[1]


def test_postprocessors(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        cut = index.as_query_engine(
            llm=MockLLM(), similarity_top_k=8, node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.35)]
        )
        recent = index.as_query_engine(
            llm=MockLLM(),
            similarity_top_k=8,
            node_postprocessors=[FixedRecencyPostprocessor(date_key="year", top_k=2)],
            filters=MetadataFilters(filters=[MetadataFilter(key="topic", value="food")]),
        )
        return [
            cut.query("apple pie with cinnamon").source_nodes,
            sorted(hit.node.metadata["name"] for hit in recent.query("apple").source_nodes),
        ]

    found = side_by_side(program)
    assert len(found[0]) == 1


# ---------------------------------------------------------------------- retrievers of retrievers


@pytest.mark.parametrize("mode", ["simple", "reciprocal_rerank", "relative_score", "dist_based_score"])
def test_fusion(side_by_side: SideBySide, library: Library, mode: str) -> None:
    """Two indices, and two more questions that a model writes."""

    def program(world: Any) -> Any:
        documents = library()
        retrievers = [world.index(part).as_retriever(similarity_top_k=2) for part in (documents[:4], documents[4:])]
        fusion = QueryFusionRetriever(
            retrievers,
            llm=SayingLLM(answer="steam engine mills\nviolin sonata minor"),
            mode=mode,
            num_queries=3,
            similarity_top_k=3,
            use_async=False,
        )
        hits = fusion.retrieve("apple pie with cinnamon and sugar")
        # the scores of the two last are sums of places or of scaled scores: they need not be near for near scores
        return [hit.node.get_content() for hit in hits][:1], len(hits)

    assert side_by_side(program)[1] == 3


LONG = [
    "The steam engine drove the mills. Coal heated the boiler. Pistons moved up and down.",
    "Violins are made of spruce. The sonata was written for a friend. Cellos are larger.",
    "Apples grow in orchards. Cider is made of apples. Pies are baked with cinnamon.",
]


def test_auto_merging(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        parser = HierarchicalNodeParser.from_defaults(chunk_sizes=[64, 12], chunk_overlap=0)
        nodes = parser.get_nodes_from_documents([Document(text=text) for text in LONG])
        docstore = SimpleDocumentStore()
        docstore.add_documents(nodes)
        context = StorageContext.from_defaults(docstore=docstore, vector_store=world.store())
        index = VectorStoreIndex(get_leaf_nodes(nodes), storage_context=context, embed_model=world.embedding)
        merging = AutoMergingRetriever(index.as_retriever(similarity_top_k=3), context, simple_ratio_thresh=0.3)
        hits = merging.retrieve("steam engine coal boiler pistons")
        return [len(get_root_nodes(nodes)), len(get_leaf_nodes(nodes)), [hit.node.get_content() for hit in hits][:1]]

    roots, leaves, texts = side_by_side(program)
    assert roots < leaves
    assert texts == [LONG[0]]  # the parent in place of its sentences


def test_sentence_windows(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        parser = SentenceWindowNodeParser(
            window_size=1, sentence_splitter=lambda text: [part + "." for part in text.split(".") if part.strip()]
        )
        nodes = parser.get_nodes_from_documents([Document(text=text) for text in LONG])
        index = VectorStoreIndex(nodes, storage_context=world.context(), embed_model=world.embedding)
        engine = index.as_query_engine(
            llm=MockLLM(),
            similarity_top_k=1,
            node_postprocessors=[MetadataReplacementPostProcessor(target_metadata_key="window")],
        )
        return [
            engine.query(question).source_nodes
            for question in ("violins of spruce", "cider of apples", "coal heated the boiler")
        ]

    found = side_by_side(program)
    assert all(len(hits[0].text.split(".")) > 2 for hits in found)


def test_neighbours_of_a_node(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        splitter = SentenceSplitter(chunk_size=12, chunk_overlap=0)
        nodes = splitter.get_nodes_from_documents([Document(text=text) for text in LONG])
        docstore = SimpleDocumentStore()
        docstore.add_documents(nodes)
        context = StorageContext.from_defaults(docstore=docstore, vector_store=world.store())
        index = VectorStoreIndex(nodes, storage_context=context, embed_model=world.embedding)
        around = PrevNextNodePostprocessor(docstore=docstore, num_nodes=1, mode="both")
        hits = around.postprocess_nodes(index.as_retriever(similarity_top_k=1).retrieve("coal heated the boiler"))
        return [hit.node.get_content() for hit in hits]

    assert len(side_by_side(program)) > 1


def test_recursive(side_by_side: SideBySide, library: Library) -> None:
    """Small pieces lead to the document that they come from."""

    def program(world: Any) -> Any:
        documents = library()
        pieces = [
            IndexNode(text=piece, index_id=document.id_, obj=None)
            for document in documents
            for piece in document.text.split(" with ")
        ]
        index = VectorStoreIndex(pieces, storage_context=world.context(), embed_model=world.embedding)
        recursive = RecursiveRetriever(
            "vector",
            retriever_dict={"vector": index.as_retriever(similarity_top_k=1)},
            node_dict={document.id_: TextNode(id_=document.id_, text=document.text) for document in documents},
        )
        return [hit.node.node_id for question in QUESTIONS for hit in recursive.retrieve(question)]

    assert side_by_side(program)[1] in ("pie", "juice")


def spec(query: str, *filters: tuple[str, str, Any], top_k: int | None = None) -> str:
    listed = [{"key": key, "operator": operator, "value": value} for key, operator, value in filters]
    return json.dumps({"query": query, "filters": listed, "top_k": top_k})


@pytest.mark.parametrize(
    "answer",
    [
        spec("engine", ("topic", "==", "machines")),
        spec("engine", ("year", "<", 1900), ("topic", "!=", "music")),
        spec("apple", ("topic", "in", ["food", "music"]), top_k=2),
        spec("apple", ("name", "text_match", "ju")),
        "this is no specification",
    ],
)
def test_auto_retriever(side_by_side: SideBySide, library: Library, answer: str) -> None:
    about = VectorStoreInfo(
        content_info="things", metadata_info=[MetadataInfo(name="topic", type="str", description="what about")]
    )

    def program(world: Any) -> Any:
        retriever = VectorIndexAutoRetriever(
            world.index(library()), about, llm=SayingLLM(answer=answer), similarity_top_k=8
        )
        return retriever.retrieve("whatever apple")

    assert side_by_side(program)


def test_auto_retriever_with_filters_alone(worlds: Any, library: Library) -> None:
    """An empty query is a vector of zeros: the reference divides by its length and returns NaN, ours the matches."""
    world = worlds[1]
    about = VectorStoreInfo(content_info="things", metadata_info=[])
    retriever = VectorIndexAutoRetriever(
        world.index(library()),
        about,
        llm=SayingLLM(answer=spec("", ("topic", "==", "music"))),
        default_empty_query_vector=[0.0] * 48,
    )
    hits = retriever.retrieve("everything about music")
    assert [(hit.node.ref_doc_id, hit.score) for hit in hits] == [("violin", 0.0), ("cello", 0.0)]


@pytest.mark.parametrize("several", [False, True])
def test_routers(side_by_side: SideBySide, library: Library, several: bool) -> None:
    choices = [{"choice": 2, "reason": "music"}, {"choice": 1, "reason": "food"}][: 1 + several]
    llm = SayingLLM(answer=json.dumps(choices))
    selector = (LLMMultiSelector if several else LLMSingleSelector).from_defaults(llm=llm)

    def program(world: Any) -> Any:
        documents = library()
        indices = [world.index(documents[:3]), world.index(documents[6:])]
        engines = [
            QueryEngineTool.from_defaults(
                index.as_query_engine(llm=MockLLM(), similarity_top_k=1), description=description
            )
            for index, description in zip(indices, ("food", "music"), strict=True)
        ]
        retrievers = [
            RetrieverTool.from_defaults(index.as_retriever(similarity_top_k=1), description=description)
            for index, description in zip(indices, ("food", "music"), strict=True)
        ]
        engine = RouterQueryEngine(selector=selector, query_engine_tools=engines, llm=MockLLM())
        answered = engine.query("violin sonata apple pie")
        hits = RouterRetriever(selector=selector, retriever_tools=retrievers).retrieve("violin sonata apple pie")
        return [
            sorted(hit.node.get_content() for hit in answered.source_nodes),
            sorted(hit.node.get_content() for hit in hits),
        ]

    assert len(side_by_side(program)[1]) == 1 + several


def test_transformed_questions(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        index = world.index(library())
        hyde = HyDEQueryTransform(llm=SayingLLM(answer="violin sonata in a minor"), include_original=True)
        retriever = TransformRetriever(index.as_retriever(similarity_top_k=2), hyde)
        engine = TransformQueryEngine(
            RetrieverQueryEngine.from_args(index.as_retriever(similarity_top_k=2), llm=MockLLM()), hyde
        )
        return [retriever.retrieve("music for strings"), engine.query("music for strings").source_nodes]

    assert side_by_side(program)[0][0].source == "violin"


# ---------------------------------------------------------------------- memories


def test_vector_memory(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        memory = VectorMemory.from_defaults(
            vector_store=world.store() if world.ours else None,
            embed_model=world.embedding,
            retriever_kwargs={"similarity_top_k": 1},
        )
        talk = [
            (MessageRole.USER, "My dog likes apple pie."),
            (MessageRole.ASSISTANT, "What a dog."),
            (MessageRole.USER, "The steam engine is loud."),
            (MessageRole.ASSISTANT, "Indeed it is loud."),
        ]
        for role, content in talk:
            memory.put(ChatMessage(role=role, content=content))
        found = [memory.get("apple pie dog"), memory.get("loud steam engine")]
        memory.reset()
        return [[str(message) for message in messages] for messages in found], memory.get("anything")

    (pie, engine), nothing = side_by_side(program)
    assert len(pie) == len(engine) == 2
    assert nothing == []


async def test_vector_memory_block(worlds: Any) -> None:
    """Core's own store keeps no text, which this block asks for: there is nothing to compare with."""
    world = worlds[1]
    block = VectorMemoryBlock(vector_store=world.store(), embed_model=world.embedding, similarity_top_k=1)
    for session, text in (("a", "My dog likes apple pie."), ("a", "The engine is loud."), ("b", "A cello and a pie.")):
        await block.aput([ChatMessage(content=text, additional_kwargs={"session_id": session})])
    question = [ChatMessage(content="apple pie")]
    assert "My dog likes apple pie." in await block.aget(question, session_id="a")
    other = VectorMemoryBlock(vector_store=block.vector_store, embed_model=world.embedding, similarity_top_k=5)
    assert await other.aget(question, session_id="b") == "<message role='user'>A cello and a pie.</message>"
    third = VectorMemoryBlock(vector_store=block.vector_store, embed_model=world.embedding)
    assert await third.aget(question, session_id="nobody") == ""


async def test_memory_with_a_vector_block(worlds: Any) -> None:
    world = worlds[1]
    block = VectorMemoryBlock(vector_store=world.store(), embed_model=world.embedding, similarity_top_k=1)
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")  # core does not close the one that it makes
    memory = Memory.from_defaults(
        session_id="s",
        token_limit=60,
        chat_history_token_ratio=0.5,
        token_flush_size=20,
        memory_blocks=[block],
        async_engine=engine,
    )
    for number in range(8):
        await memory.aput(ChatMessage(role="user", content=f"Fact {number}: apple pie is good to eat."))
        await memory.aput(ChatMessage(role="assistant", content=f"I will remember {number}."))
    assert len(block.vector_store.get_nodes()) > 0
    messages = await memory.aget(input="apple pie")
    assert any("RetrievedMessages" in str(message) for message in messages)
    await engine.dispose()


# ---------------------------------------------------------------------- property graph


class Extract(TransformComponent):
    """Finds what follows a pattern in the text: (this) drives (that)."""

    def __call__(self, nodes: Any, **kwargs: Any) -> Any:
        for node in nodes:
            left, _, right = node.get_content().rstrip(".").partition(" drives ")
            entities = [
                EntityNode(name=name, label="thing", properties={"length": len(name)}) for name in (left, right)
            ]
            relation = Relation(label="drives", source_id=entities[0].id, target_id=entities[1].id)
            node.metadata["nodes"] = node.metadata.get("nodes", []) + entities
            node.metadata["relations"] = [relation]
        return nodes


GRAPH = [
    "steam engine drives mill.",
    "diesel motor drives ship.",
    "wind drives sail boat.",
    "apple pie drives appetite.",
]


def graph(world: Any) -> PropertyGraphIndex:
    return PropertyGraphIndex.from_documents(
        [Document(text=text) for text in GRAPH],
        property_graph_store=SimplePropertyGraphStore(),
        vector_store=world.store(),
        kg_extractors=[Extract()],
        embed_model=world.embedding,
        llm=MockLLM(),
        use_async=False,
    )


@pytest.mark.parametrize("include_text", [False, True])
def test_property_graph(side_by_side: SideBySide, include_text: bool) -> None:
    def program(world: Any) -> Any:
        index = graph(world)
        retriever = VectorContextRetriever(
            index.property_graph_store,
            vector_store=index.vector_store,
            embed_model=world.embedding,
            similarity_top_k=1,
            include_text=include_text,
        )
        questions = ("ship", "steam engine", "apple pie")
        # without the scores: what is embedded of an entity holds a random id of its source
        return [[hit.node.get_content() for hit in retriever.retrieve(asked)] for asked in questions]

    found = side_by_side(program)
    assert all(hits for hits in found)


def test_property_graph_as_a_retriever(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        index = graph(world)
        index.insert(Document(text="horse drives carriage."))
        retriever = index.as_retriever(similarity_top_k=1, include_text=False)
        return [sorted(hit.node.get_content() for hit in retriever.retrieve("carriage"))]

    assert side_by_side(program)[0]


def test_property_graph_with_filters(side_by_side: SideBySide) -> None:
    def program(world: Any) -> Any:
        index = graph(world)
        retriever = VectorContextRetriever(
            index.property_graph_store,
            vector_store=index.vector_store,
            embed_model=world.embedding,
            similarity_top_k=1,
            include_text=False,
            filters=MetadataFilters(filters=[MetadataFilter(key="length", value=5, operator="<")]),
        )
        return [hit.node.get_content() for hit in retriever.retrieve("diesel ship")]

    side_by_side(program)


def test_nodes_with_sources_know_them(side_by_side: SideBySide) -> None:
    """`ref_doc_id` comes back however nodes were made."""

    def program(world: Any) -> Any:
        nodes = [
            TextNode(text=text, relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"source {i}")})
            for i, text in enumerate(LONG)
        ]
        index = VectorStoreIndex(nodes, storage_context=world.context(), embed_model=world.embedding)
        return index.as_retriever(similarity_top_k=3).retrieve("steam engine mills")

    assert {hit.source for hit in side_by_side(program)} == {"source 0", "source 1", "source 2"}
