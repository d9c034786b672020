"""Everything that LangChain combines with a store, on ours and on its own reference store, side by side.

A feature is a function that takes a way to make stores and gives something that can be compared. It is run with LangChain's
`InMemoryVectorStore` (which keeps floats and scores exactly), and with ours on disk and in memory, for codecs that are
fitted early.
"""

from __future__ import annotations

import asyncio
import datetime
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.example_selectors import MaxMarginalRelevanceExampleSelector, SemanticSimilarityExampleSelector
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.stores import InMemoryByteStore, InMemoryStore
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery, Visitor
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from octavo.integrations.langchain import OctavoRecordManager, OctavoTranslator, OctavoVectorStore

pytest.importorskip("langchain_classic", reason="needs langchain-classic, of the development group")
pytest.importorskip("langchain", reason="needs langchain, of the development group")
pytest.importorskip("langgraph", reason="needs langgraph, of the development group")

pytestmark = pytest.mark.filterwarnings("ignore")  # these packages deprecate much of what people use

DIM = 32

TEXTS = [
    "steam engines burn coal in a furnace",
    "diesel engines ignite fuel by compression",
    "gas turbines spin without pistons",
    "windmills turn in the wind over flat fields",
    "water wheels grind grain beside the river",
    "a violin has four strings tuned in fifths",
    "the cello sings lower than the viola",
    "a sonata for piano and violin in three movements",
    "an organ blows air through metal pipes",
    "drums keep time for marching soldiers",
    "bees collect nectar from clover blossoms",
    "honey keeps for years in a sealed jar",
    "wasps build nests of chewed paper",
    "butterflies migrate across whole continents",
    "ants carry leaves into underground gardens",
    "bread rises when yeast eats sugar",
    "cheese ripens for months in cool cellars",
    "olive oil is pressed from fresh fruit",
    "salt is harvested where sea water dries",
    "tea leaves wither before they are rolled",
]
QUERIES = ["how do diesel engines ignite fuel", "a sonata for violin", "honey of bees from clover", "cheese in cellars"]


#: Chosen so that no two documents are equally good for a query: a codec may not decide between them.
SALT = 2398


class WordEmbedding(Embeddings):
    """The sum of a random vector for each word."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        total = np.zeros(DIM)
        for word in text.lower().split():
            total += np.random.default_rng([SALT, zlib.crc32(word.encode())]).standard_normal(DIM)
        return total.tolist()


EMBEDDING = WordEmbedding()


class Reference(InMemoryVectorStore):
    """LangChain's own store, with the relevance that ours documents, and dates that it need not serialise."""

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: (1 + score) / 2


def documents() -> list[Document]:
    return [
        Document(
            id=f"d{number:02}",
            page_content=text,
            metadata={
                "n": number,
                "topic": ["machines", "music", "insects", "food"][number // 5],
                "even": number % 2 == 0,
            },
        )
        for number, text in enumerate(TEXTS)
    ]


Make = Callable[..., VectorStore]
New = Callable[[], VectorStore]
Feature = Callable[[New], Any]

FEATURES: dict[str, Feature] = {}


def feature(function: Feature) -> Feature:
    FEATURES[function.__name__] = function
    return function


def filled(new: New) -> VectorStore:
    store = new()
    assert store.add_documents(documents()) == [document.id for document in documents()]
    return store


def shown(found: Sequence[Document]) -> list[Any]:
    return [(document.id, document.page_content, sorted(document.metadata.items(), key=str)) for document in found]


def texts(found: Sequence[Document]) -> list[str]:
    return [document.page_content for document in found]


# ---------------------------------------------------------------------- the store itself


@feature
def searching(new: New) -> Any:
    store = filled(new)
    results: list[Any] = []
    for query in QUERIES:
        vector = EMBEDDING.embed_query(query)
        results += [
            shown(store.similarity_search(query)),
            shown(store.similarity_search(query, k=2)),
            shown(store.similarity_search(query, k=0)),
            shown(store.similarity_search_by_vector(vector, k=3)),
            shown(store.max_marginal_relevance_search(query, k=3, fetch_k=8, lambda_mult=0.3)),
            shown(store.max_marginal_relevance_search_by_vector(vector, k=3, fetch_k=8, lambda_mult=0.9)),
            [
                (document.id, pytest.approx(score, abs=0.02))
                for document, score in store.similarity_search_with_score(query, k=3)
            ],
            shown(store.similarity_search(query, k=3, filter=lambda document: document.metadata["n"] > 6)),
            shown(store.search(query, "mmr", k=2)),
        ]
    return results


@feature
def an_empty_text_whose_vector_is_zero(new: New) -> Any:
    store = filled(new)
    store.add_documents([Document(id="empty", page_content="")])
    found = store.similarity_search_with_score("how do diesel engines ignite", k=99)
    return len(found), [pytest.approx(score, abs=0.01) for document, score in found if document.id == "empty"]


@feature
def reading_replacing_deleting(new: New) -> Any:
    store = filled(new)
    store.add_documents([Document(id="d03", page_content="replaced", metadata={"n": 3, "topic": "", "even": False})])
    store.delete(["d01", "nobody"])
    store.delete([])
    read = store.get_by_ids(["d03", "d01", "d00", "nobody"])
    added = store.add_texts(["without an id", "with one"], [{"a": 1}, {}], ids=[None, "own"])  # type: ignore[list-item]
    return shown(read), added[1], len(added), texts(store.similarity_search("replaced", k=1))


@feature
def odd_metadata(new: New) -> Any:
    store = new()
    metadata = {
        "day": datetime.date(2024, 5, 1),
        "at": datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC),
        "pair": (1, (2, "x")),
        "nested": {"list": [1, 2.5, None, True, {"deep": "ü"}]},
        "big": 10**30,
    }
    store.add_texts(["text"], [metadata], ids=["a"])
    return store.get_by_ids(["a"])[0].metadata, store.similarity_search("text")[0].metadata


# ---------------------------------------------------------------------- retrievers


@feature
def all_kinds_of_retrievers(new: New) -> Any:
    store = filled(new)
    results = []
    for kind, options in [
        ("similarity", {"k": 3}),
        ("similarity", {"k": 0}),
        ("mmr", {"k": 3, "fetch_k": 10, "lambda_mult": 0.4}),
        ("similarity_score_threshold", {"k": 9, "score_threshold": 0.7}),
        ("similarity_score_threshold", {"k": 9, "score_threshold": 0.6}),
        ("similarity_score_threshold", {"k": 9, "score_threshold": 0.99}),
    ]:
        retriever = store.as_retriever(search_type=kind, search_kwargs=options)
        results.append([shown(found) for found in retriever.batch(QUERIES)])
        results.append([shown(found) for found in asyncio.run(retriever.abatch(QUERIES))])
        results.append([shown(found) for query in QUERIES for found in retriever.stream(query)])
        results.append(shown(asyncio.run(retriever.ainvoke(QUERIES[0]))))
    return results


@feature
def configurable_fields(new: New) -> Any:
    retriever = (
        filled(new)
        .as_retriever(search_kwargs={"k": 2})
        .configurable_fields(search_type=ConfigurableField(id="kind"), search_kwargs=ConfigurableField(id="options"))
    )
    everything = {"k": 3, "fetch_k": 10, "lambda_mult": 0.4, "score_threshold": 0.65}
    results = [shown(retriever.invoke(QUERIES[0]))]
    for kind in ("similarity", "mmr", "similarity_score_threshold"):
        configured = retriever.with_config(configurable={"kind": kind, "options": everything})
        if kind == "similarity":  # the reference's search takes no options of others by position
            assert len(configured.invoke(QUERIES[0])) == 3
        results.append(shown(configured.invoke(QUERIES[1])))
    return results


@feature
def ensemble(new: New) -> Any:
    from langchain_classic.retrievers import EnsembleRetriever

    store = filled(new)
    retriever = EnsembleRetriever(
        retrievers=[store.as_retriever(search_kwargs={"k": 4}), store.as_retriever(search_type="mmr")],
        weights=[0.7, 0.3],
    )
    return [texts(retriever.invoke(query)) for query in QUERIES], texts(asyncio.run(retriever.ainvoke(QUERIES[0])))


@feature
def multi_query(new: New) -> Any:
    from langchain_classic.retrievers import MultiQueryRetriever

    llm = FakeListLLM(responses=["diesel engines\nsteam engines\nhoney"])
    retriever = MultiQueryRetriever.from_llm(filled(new).as_retriever(search_kwargs={"k": 2}), llm)
    return sorted(texts(retriever.invoke("engines"))), sorted(texts(asyncio.run(retriever.ainvoke("engines"))))


@feature
def merger(new: New) -> Any:
    from langchain_classic.retrievers import MergerRetriever

    store = filled(new)
    retriever = MergerRetriever(
        retrievers=[
            store.as_retriever(search_kwargs={"k": 2, "filter": lambda document: document.metadata["even"]}),
            store.as_retriever(search_kwargs={"k": 2, "filter": lambda document: not document.metadata["even"]}),
        ]
    )
    return [texts(retriever.invoke(query)) for query in QUERIES], texts(asyncio.run(retriever.ainvoke(QUERIES[0])))


@feature
def parent_document(new: New) -> Any:
    from langchain_classic.retrievers import ParentDocumentRetriever
    from langchain_text_splitters import CharacterTextSplitter

    parents = [
        Document(page_content=". ".join(TEXTS[start : start + 5]), metadata={"part": start}) for start in (0, 5, 10, 15)
    ]
    retriever = ParentDocumentRetriever(
        vectorstore=new(),
        docstore=InMemoryStore(),
        child_splitter=CharacterTextSplitter(separator=". ", chunk_size=60, chunk_overlap=0),
        search_kwargs={"k": 2},
    )
    retriever.add_documents(parents[:2], ids=["p0", "p1"])
    asyncio.run(retriever.aadd_documents(parents[2:], ids=["p2", "p3"]))
    return [texts(retriever.invoke(query)) for query in QUERIES], texts(asyncio.run(retriever.ainvoke(QUERIES[0])))


@feature
def multi_vector(new: New) -> Any:
    from langchain_classic.retrievers import MultiVectorRetriever
    from langchain_classic.retrievers.multi_vector import SearchType

    results = []
    for kind in (SearchType.similarity, SearchType.mmr, SearchType.similarity_score_threshold):
        retriever = MultiVectorRetriever(
            vectorstore=new(), docstore=InMemoryStore(), search_type=kind, search_kwargs={"k": 3}
        )
        if kind == SearchType.similarity_score_threshold:
            retriever.search_kwargs["score_threshold"] = 0.6
        whole = documents()
        retriever.docstore.mset([(str(document.id), document) for document in whole])
        summaries = [
            Document(page_content=part, metadata={"doc_id": document.id})
            for document in whole
            for part in (document.page_content, " ".join(document.page_content.split()[:4]))
        ]
        retriever.vectorstore.add_documents(summaries)
        results.append([texts(retriever.invoke(query)) for query in QUERIES])
        results.append(texts(asyncio.run(retriever.ainvoke(QUERIES[0]))))
    return results


@feature
def contextual_compression(new: New) -> Any:
    from langchain_classic.retrievers import ContextualCompressionRetriever
    from langchain_classic.retrievers.document_compressors import (
        CrossEncoderReranker,
        DocumentCompressorPipeline,
        LLMChainExtractor,
    )
    from langchain_core.cross_encoders import BaseCrossEncoder

    class Shortest(BaseCrossEncoder):
        def score(self, text_pairs: Sequence[tuple[str, str]]) -> list[float]:
            return [-len(text) for _, text in text_pairs]

    store = filled(new)
    short = CrossEncoderReranker(model=Shortest(), top_n=2)
    extractor = LLMChainExtractor.from_llm(FakeListLLM(responses=["extracted"]))
    results: list[Any] = []
    for compressor in (short, extractor, DocumentCompressorPipeline(transformers=[short, extractor])):
        retriever = ContextualCompressionRetriever(
            base_compressor=compressor, base_retriever=store.as_retriever(search_kwargs={"k": 4})
        )
        results.append([texts(retriever.invoke(query)) for query in QUERIES])
        results.append(texts(asyncio.run(retriever.ainvoke(QUERIES[0]))))
    return results


#: What the reference filters by.
_TESTS: dict[Comparator, Callable[[Any, Any], bool]] = {
    Comparator.EQ: lambda a, b: a == b,
    Comparator.NE: lambda a, b: a != b,
    Comparator.GT: lambda a, b: a > b,
    Comparator.GTE: lambda a, b: a >= b,
    Comparator.LT: lambda a, b: a < b,
    Comparator.LTE: lambda a, b: a <= b,
    Comparator.IN: lambda a, b: a in b,
    Comparator.NIN: lambda a, b: a not in b,
    Comparator.CONTAIN: lambda a, b: b in a,
}


class ReferenceTranslator(Visitor):
    """Structured queries as functions, which is what the reference filters by."""

    allowed_comparators = tuple(Comparator)
    allowed_operators = tuple(Operator)

    def visit_operation(self, operation: Operation) -> Any:
        parts = [argument.accept(self) for argument in operation.arguments]
        if operation.operator == Operator.AND:
            return lambda document: all(part(document) for part in parts)
        if operation.operator == Operator.OR:
            return lambda document: any(part(document) for part in parts)
        return lambda document: not any(part(document) for part in parts)

    def visit_comparison(self, comparison: Comparison) -> Any:
        value = comparison.value
        if isinstance(value, dict):
            value = datetime.date.fromisoformat(value["date"])
        test = _TESTS[comparison.comparator]
        return lambda document: test(document.metadata[comparison.attribute], value)

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        where = structured_query.filter
        return structured_query.query, {} if where is None else {"filter": where.accept(self)}


@feature
def self_query(new: New) -> Any:
    from langchain_classic.chains.query_constructor.schema import AttributeInfo
    from langchain_classic.retrievers import SelfQueryRetriever

    store = new()
    whole = documents()
    for document in whole:
        document.metadata["day"] = datetime.date(2024, 1, 1 + document.metadata["n"])
    store.add_documents(whole)
    answers = [
        '{"query": "engines", "filter": "NO_FILTER"}',
        '{"query": "engines", "filter": "gt(\\"n\\", 1)"}',
        '{"query": "violin", "filter": "and(eq(\\"topic\\", \\"music\\"), not(eq(\\"n\\", 7)))"}',
        '{"query": "bees", "filter": "or(lt(\\"n\\", 2), in(\\"n\\", [10, 12]))"}',
        '{"query": "food", "filter": "nin(\\"topic\\", [\\"music\\", \\"insects\\"])"}',
        '{"query": "food", "filter": "gte(\\"day\\", \\"2024-01-15\\")"}',
        '{"query": "food", "filter": "eq(\\"day\\", \\"2024-01-15\\")"}',
        '{"query": "honey", "filter": "ne(\\"day\\", \\"2024-01-12\\")"}',
        '{"query": "cheese", "filter": "eq(\\"even\\", true)", "limit": 2}',
    ]
    results = []
    for answer in answers:
        retriever = SelfQueryRetriever.from_llm(
            FakeListChatModel(responses=[f"```json\n{answer}\n```"]),
            store,
            "sentences",
            [
                AttributeInfo(name="n", description="number", type="integer"),
                AttributeInfo(name="topic", description="topic", type="string"),
                AttributeInfo(name="even", description="parity", type="boolean"),
                AttributeInfo(name="day", description="day", type="date"),
            ],
            structured_query_translator=(
                OctavoTranslator() if isinstance(store, OctavoVectorStore) else ReferenceTranslator()
            ),
            enable_limit=True,
            search_kwargs={"k": 3},
        )
        results.append(texts(retriever.invoke("whatever")))
        results.append(texts(asyncio.run(retriever.ainvoke("whatever"))))
    assert any(results)
    return results


@feature
def time_weighted(new: New) -> Any:
    from langchain_classic.retrievers import TimeWeightedVectorStoreRetriever

    retriever = TimeWeightedVectorStoreRetriever(vectorstore=new(), decay_rate=0.5, k=2)
    now = datetime.datetime.now()
    for days, text in enumerate(TEXTS[:6]):
        seen = now - datetime.timedelta(days=days)
        retriever.add_documents([Document(page_content=text, metadata={"last_accessed_at": seen})])
    retriever.add_documents([Document(page_content=TEXTS[6])], current_time=now - datetime.timedelta(days=50))
    asyncio.run(
        retriever.aadd_documents([Document(page_content=TEXTS[7])], current_time=now - datetime.timedelta(days=40))
    )
    found = [texts(retriever.invoke(query)) for query in QUERIES]
    stored = retriever.vectorstore.similarity_search(TEXTS[6], k=1)[0].metadata
    assert stored["created_at"] == now - datetime.timedelta(days=50)
    return found, texts(asyncio.run(retriever.ainvoke(QUERIES[0]))), sorted(stored)


@feature
def rephrased(new: New) -> Any:
    from langchain_classic.retrievers import RePhraseQueryRetriever

    llm = FakeListLLM(responses=[QUERIES[2]])
    retriever = RePhraseQueryRetriever.from_llm(filled(new).as_retriever(search_kwargs={"k": 2}), llm)
    return texts(retriever.invoke("whatever"))


# ---------------------------------------------------------------------- chains, memories, selectors, tools


@feature
def a_chain(new: New) -> Any:
    seen: list[str] = []

    def remember(prompt: Any) -> Any:
        seen.append(prompt.to_string())
        return prompt

    retriever = filled(new).as_retriever(search_kwargs={"k": 2})
    chain = (
        {"context": retriever | (lambda found: "\n".join(texts(found))), "question": RunnablePassthrough()}
        | ChatPromptTemplate.from_template("{context}\n\n{question}")
        | RunnableLambda(remember)
        | FakeListChatModel(responses=["an answer"])
        | StrOutputParser()
    )
    answers = [chain.invoke(QUERIES[0]), *chain.batch(QUERIES[1:3]), "".join(chain.stream(QUERIES[3]))]
    return answers, sorted(seen)


@feature
def retrieval_chains(new: New) -> Any:
    from langchain_classic.chains import RetrievalQA, create_retrieval_chain
    from langchain_classic.chains.combine_documents import create_stuff_documents_chain

    retriever = filled(new).as_retriever(search_kwargs={"k": 2})
    llm = FakeListChatModel(responses=["an answer"])
    qa = RetrievalQA.from_chain_type(llm, retriever=retriever, return_source_documents=True)
    prompt = ChatPromptTemplate.from_template("{context} {input}")
    chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, prompt))
    return texts(qa.invoke(QUERIES[1])["source_documents"]), texts(chain.invoke({"input": QUERIES[2]})["context"])


@feature
def example_selectors(new: New) -> Any:
    examples = [{"question": text, "answer": str(number)} for number, text in enumerate(TEXTS)]
    store = new()
    selector = SemanticSimilarityExampleSelector(
        vectorstore=store, k=2, input_keys=["question"], example_keys=["answer"]
    )
    for example in examples[:10]:
        selector.add_example(example)
    for example in examples[10:]:
        asyncio.run(selector.aadd_example(example))
    diverse = MaxMarginalRelevanceExampleSelector(vectorstore=store, k=3, fetch_k=6, input_keys=["question"])
    return [
        (
            selector.select_examples({"question": query}),
            asyncio.run(selector.aselect_examples({"question": query})),
            diverse.select_examples({"question": query}),
            asyncio.run(diverse.aselect_examples({"question": query})),
        )
        for query in QUERIES
    ]


@feature
def example_selectors_of_their_own_store(new: New) -> Any:
    examples = [{"question": text, "answer": str(number)} for number, text in enumerate(TEXTS)]
    cls = type(new())
    results = []
    for kind in (SemanticSimilarityExampleSelector, MaxMarginalRelevanceExampleSelector):
        selector = kind.from_examples(examples, EMBEDDING, cls, k=2)
        results.append([selector.select_examples({"question": query}) for query in QUERIES])
    return results


@feature
def a_memory(new: New) -> Any:
    from langchain_classic.memory import VectorStoreRetrieverMemory

    memory = VectorStoreRetrieverMemory(retriever=new().as_retriever(search_kwargs={"k": 2}), return_docs=False)
    for text in TEXTS[:10]:
        memory.save_context({"input": text}, {"output": "noted"})
    asyncio.run(memory.asave_context({"input": TEXTS[10]}, {"output": "noted"}))
    return [memory.load_memory_variables({"prompt": query})["history"] for query in QUERIES]


@feature
def cached_embeddings(new: New) -> Any:
    from langchain_classic.embeddings import CacheBackedEmbeddings

    asked: list[str] = []

    class Counting(WordEmbedding):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            asked.extend(texts)
            return super().embed_documents(texts)

    cached = CacheBackedEmbeddings.from_bytes_store(
        Counting(), InMemoryByteStore(), namespace="x", query_embedding_cache=True, key_encoder="sha256"
    )
    store = new()
    embed = "_embedding" if isinstance(store, OctavoVectorStore) else "embedding"
    twin = OctavoVectorStore(cached) if embed == "_embedding" else Reference(cached)
    for _ in range(2):
        twin.add_documents(documents())
        asyncio.run(twin.aadd_documents(documents()))
    found = [shown(twin.similarity_search(query)) for query in QUERIES]
    return found, asked


@feature
def a_retriever_tool(new: New) -> Any:
    tool = create_retriever_tool(
        filled(new).as_retriever(search_kwargs={"k": 2}),
        "search",
        "Finds sentences.",
        response_format="content_and_artifact",
    )
    found = tool.invoke({"type": "tool_call", "id": "1", "name": "search", "args": {"query": QUERIES[0]}})
    return found.content, texts(found.artifact), asyncio.run(tool.ainvoke({"query": QUERIES[1]}))


class ToolCaller(GenericFakeChatModel):
    """Asks for the tool once, then answers."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


@feature
def an_agent_with_a_retriever_tool(new: New) -> Any:
    from langchain.agents import create_agent

    tool = create_retriever_tool(filled(new).as_retriever(search_kwargs={"k": 2}), "search", "Finds sentences.")
    call = {"name": "search", "args": {"query": QUERIES[0]}, "id": "1", "type": "tool_call"}
    model = ToolCaller(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("done")]))
    result = create_agent(model, [tool]).invoke({"messages": [HumanMessage("a question")]})
    return [message.content for message in result["messages"]]


@feature
def callbacks(new: New) -> Any:
    class Recorder(BaseCallbackHandler):
        def __init__(self) -> None:
            self.events: list[Any] = []

        def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
            self.events.append(("start", query, kwargs.get("tags")))

        def on_retriever_end(self, found: Sequence[Document], **kwargs: Any) -> None:
            self.events.append(("end", texts(found)))

        def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
            self.events.append(("error", type(error).__name__))

    recorder = Recorder()
    retriever = filled(new).as_retriever(search_kwargs={"k": 1}, tags=["mine"])
    retriever.invoke(QUERIES[0], config={"callbacks": [recorder]})
    asyncio.run(retriever.ainvoke(QUERIES[1], config={"callbacks": [recorder], "tags": ["now"]}))

    def failing(document: Document) -> bool:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        retriever.model_copy(update={"search_kwargs": {"filter": failing}}).invoke(
            QUERIES[0], config={"callbacks": [recorder]}
        )
    # the name of the class is among the tags
    return [
        tuple(sorted(part - {"OctavoVectorStore", "Reference"}) if isinstance(part, set) else part for part in event)
        for event in (
            (event[0], event[1], set(event[2])) if event[0] == "start" else event for event in recorder.events
        )
    ]


# ---------------------------------------------------------------------- indexing, graphs


def _of(*numbers: int, source: str = "s") -> list[Document]:
    return [Document(page_content=TEXTS[number], metadata={"source": source, "n": number}) for number in numbers]


@feature
def indexing(new: New) -> Any:
    results: list[Any] = []
    for cleanup in (None, "incremental", "full", "scoped_full"):
        for asynchronous in (False, True):
            store = new()
            manager: Any = (
                OctavoRecordManager(store) if isinstance(store, OctavoVectorStore) else InMemoryRecordManager("x")
            )
            manager.create_schema()

            def run(
                docs: list[Document],
                store: Any = store,
                manager: Any = manager,
                asynchronous: bool = asynchronous,
                cleanup: Any = cleanup,
                **options: Any,
            ) -> Any:
                options = {
                    "cleanup": cleanup,
                    "source_id_key": "source",
                    "key_encoder": "sha256",
                    "batch_size": 3,
                } | options
                if asynchronous:
                    return dict(asyncio.run(aindex(docs, manager, store, **options)))
                return dict(index(docs, manager, store, **options))

            results += [
                run(_of(0, 1, 2, 3)),
                run(_of(0, 1, 2, 3)),
                run(_of(4, 5, source="t")),
                run(_of(1, 1, 6)),
                run(_of(6, source="u"), force_update=True),
                run([]),
                sorted(texts(store.similarity_search("whatever", k=99))),
            ]
    return results


class State(TypedDict):
    question: str
    found: list[str]


@feature
def a_graph_with_threads(new: New) -> Any:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph

    store = filled(new)
    retriever = store.as_retriever(search_kwargs={"k": 2})

    def retrieve(state: State) -> dict[str, Any]:
        return {"found": [*state.get("found", []), *texts(retriever.invoke(state["question"]))]}

    async def aretrieve(state: State) -> dict[str, Any]:
        return {"found": [*state.get("found", []), *texts(await retriever.ainvoke(state["question"]))]}

    results = []
    for node in (retrieve, aretrieve):
        builder = StateGraph(State)
        builder.add_node("retrieve", node)
        builder.add_edge(START, "retrieve")
        builder.add_edge("retrieve", END)
        graph = builder.compile(checkpointer=InMemorySaver())

        async def ask(graph: Any = graph) -> list[Any]:
            return await asyncio.gather(
                *(
                    graph.ainvoke({"question": query, "found": []}, {"configurable": {"thread_id": str(number)}})
                    for number, query in enumerate(QUERIES)
                )
            )

        results.append(asyncio.run(ask()))
        if node is retrieve:
            for number in (0, 1):  # goes on with what the thread has found before
                config = {"configurable": {"thread_id": str(number)}}
                results.append(graph.invoke({"question": QUERIES[3]}, config))
            results.append(
                graph.batch(
                    [{"question": query, "found": []} for query in QUERIES],
                    [{"configurable": {"thread_id": f"b{number}"}} for number in range(4)],
                )
            )
    return results


# ---------------------------------------------------------------------- side by side


@pytest.fixture(scope="module")
def expected() -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in known:
            known[name] = FEATURES[name](lambda: Reference(EMBEDDING))
        return known[name]

    return of


@pytest.fixture(params=["memory", "disk"])
def new(request: pytest.FixtureRequest, tmp_path: Path, codec: str) -> Iterator[New]:
    opened: list[OctavoVectorStore] = []

    def make() -> OctavoVectorStore:
        path = tmp_path / f"kb{len(opened)}" if request.param == "disk" else None
        opened.append(OctavoVectorStore(EMBEDDING, path, codec=codec, fit_after=10))
        return opened[-1]

    yield make
    for store in opened:
        assert store.collection.closed or store.collection.local.verify().ok
        store.close()


@pytest.mark.parametrize("codec", ["int8", "binary > int8"])
@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_gives_what_the_reference_gives(
    name: str, codec: str, new: New, expected: Callable[[str], Any]
) -> None:
    assert FEATURES[name](new) == expected(name)


def test_the_codecs_are_fitted() -> None:
    with OctavoVectorStore(EMBEDDING, codec="binary > int8", fit_after=10) as store:
        store.add_documents(documents())
        assert store.collection.info().fitted
