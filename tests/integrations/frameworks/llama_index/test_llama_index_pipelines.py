"""Ingestion pipelines: strategies of the document store, caches, workers, saving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.extractors import TitleExtractor
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import MarkdownNodeParser, SentenceSplitter
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.vector_stores.types import VectorStoreQuery

Library = Callable[[], list[Document]]
SideBySide = Callable[[Callable[[Any], Any]], Any]


class Counting(TransformComponent):
    """Counts the nodes that went through it, whoever holds a copy."""

    label: str = "counting"

    def __call__(self, nodes: Any, **kwargs: Any) -> Any:
        SEEN.extend(node.node_id for node in nodes)
        return nodes


SEEN: list[str] = []


def pipeline(world: Any, store: Any, *before: TransformComponent, **options: Any) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[SentenceSplitter(), *before, world.embedding], vector_store=store, **options
    )


def content(world: Any, store: Any) -> list[Any]:
    """What a store finds for a few questions: scores only, for the reference keeps no text."""
    found = []
    for question in ("steam engine", "apple", "violin"):
        query = VectorStoreQuery(query_embedding=world.embedding.get_query_embedding(question), similarity_top_k=20)
        found.append(store.query(query).similarities)
    return found


@pytest.mark.parametrize("strategy", list(DocstoreStrategy))
def test_strategies(side_by_side: SideBySide, library: Library, strategy: DocstoreStrategy) -> None:
    def program(world: Any) -> Any:
        store = world.store()
        run = pipeline(world, store, docstore=SimpleDocumentStore(), docstore_strategy=strategy)
        counts = [len(run.run(documents=library())), len(run.run(documents=library()))]
        seen = [content(world, store)]
        changed = [*library()[:5], Document(id_="turbine", text="Steam turbines drive ships.")]
        counts.append(len(run.run(documents=changed)))
        return [counts, seen, content(world, store)]

    counts, _, after = side_by_side(program)
    assert counts == [8, 0, 1]
    assert len(after[0]) == {"upserts": 8, "duplicates_only": 9, "upserts_and_delete": 6}[strategy.value]


async def test_asynchronous_strategies(worlds: Any, side_by_side: SideBySide, library: Library) -> None:
    async def program(world: Any) -> Any:
        store = world.store()
        run = pipeline(
            world, store, docstore=SimpleDocumentStore(), docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE
        )
        counts = [len(await run.arun(documents=library())), len(await run.arun(documents=library()[:5]))]
        return [counts, content(world, store)]

    results = iter([await program(world) for world in worlds])
    assert side_by_side(lambda world: next(results))[0] == [8, 0]


def test_cache(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        SEEN.clear()
        cache = IngestionCache(cache=SimpleKVStore(), collection="c")
        stores = [world.store(), world.store()]
        for store in stores:
            pipeline(world, store, Counting(), cache=cache).run(documents=library())
        return [len(SEEN), [content(world, store) for store in stores]]

    seen, (first, second) = side_by_side(program)
    assert seen == 8
    assert first == second


def test_workers(side_by_side: SideBySide, library: Library) -> None:
    """The store stays in this process; transformations are pickled into others."""

    def program(world: Any) -> Any:
        store = world.store()
        embedding = MockEmbedding(embed_dim=8)  # importable by a process of its own
        run = IngestionPipeline(transformations=[MarkdownNodeParser(), embedding], vector_store=store)
        nodes = run.run(documents=library(), num_workers=2)
        found = store.query(VectorStoreQuery(query_embedding=[0.5] * 8, similarity_top_k=20))
        return [len(nodes), sorted(node.ref_doc_id for node in nodes), found.similarities]

    assert side_by_side(program)[0] == 8


def test_saved_pipelines(side_by_side: SideBySide, library: Library) -> None:
    def program(world: Any) -> Any:
        store = world.store()
        folder = str(world.folder / "pipeline")
        run = pipeline(world, store, docstore=SimpleDocumentStore())
        run.run(documents=library())
        run.persist(folder)
        again = pipeline(world, store, docstore=SimpleDocumentStore())
        again.load(folder)
        changed = [*library()[1:], Document(id_="pie", text="Pear pie.")]
        return [len(again.run(documents=changed)), content(world, store)]

    assert side_by_side(program)[0] == 1


def test_into_an_index(side_by_side: SideBySide, library: Library) -> None:
    """Extractors write metadata; the index over the same store finds the nodes."""

    def program(world: Any) -> Any:
        store = world.store()
        title = TitleExtractor(llm=MockLLM(max_tokens=2), nodes=1)
        nodes = pipeline(world, store, title).run(documents=library())
        if world.ours:
            index = VectorStoreIndex.from_vector_store(store, embed_model=world.embedding)
        else:
            index = VectorStoreIndex(nodes, embed_model=world.embedding)
        hits = index.as_retriever(similarity_top_k=2).retrieve("steam engine mills")
        return [[hit.node.metadata["document_title"] for hit in hits], hits]

    assert side_by_side(program)[0] == ["text text"] * 2


def test_nodes_without_words_are_kept(worlds: Any) -> None:
    """An embedding of zeros has no direction, and the score 0 (the reference divides by its length, and warns)."""
    world = worlds[1]
    nodes: list[BaseNode] = [
        Document(id_="empty", text=""),
        *(Document(id_=f"n{i}", text=f"word{i}") for i in range(6)),
    ]
    store = world.store()
    IngestionPipeline(transformations=[world.embedding], vector_store=store).run(nodes=nodes)
    embedding = world.embedding.get_query_embedding("word3")
    found = store.query(VectorStoreQuery(query_embedding=embedding, similarity_top_k=7))
    assert found.ids[0] == "n3"
    assert dict(zip(found.ids, found.similarities, strict=True))["empty"] == pytest.approx(0, abs=0.02)
