"""LlamaIndex's store around a collection in Qdrant does what it does around a local one; what it cannot do, it says."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from octavo.errors import InputTypeError, ParameterError
from octavo.integrations.llama_index import OctavoVectorStore

Make = Callable[..., Any]


class Letters(MockEmbedding):
    """Texts by their letters: alike texts have alike vectors, and no model is needed."""

    def _vector(self, text: str) -> list[float]:
        return [1.0 + 3.0 * text.lower().count(chr(97 + letter)) for letter in range(26)]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)


EMBEDDING = Letters(embed_dim=26)
TEXTS = ["zebras", "a quick fox", "lemon jelly", "wavy navy", "moon loon"]


def nodes() -> list[TextNode]:
    return [
        TextNode(
            id_=f"id/{n}",
            text=text,
            embedding=EMBEDDING.get_text_embedding(text),
            metadata={"n": n, "even": "no" if n % 2 else "yes"},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"source{n % 2}")},
        )
        for n, text in enumerate(TEXTS)
    ]


def filled(make: Make, **options: Any) -> OctavoVectorStore:
    store = OctavoVectorStore(collection=make(**{"codec": "float32"} | options))
    assert store.add(nodes()) == [f"id/{n}" for n in range(5)]
    return store


def where(key: str, value: Any, operator: str = "==") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def ask(store: OctavoVectorStore, text: str, k: int = 1, **options: Any) -> list[str]:
    embedding = EMBEDDING.get_query_embedding(text)
    query = VectorStoreQuery(query_embedding=embedding, query_str=text, similarity_top_k=k, **options)
    return list(store.query(query).ids or [])


def test_nodes_come_in_and_are_found(make: Make) -> None:
    store = filled(make)
    assert ask(store, "lemon jelly") == ["id/2"]
    assert ask(store, "lemon jelly", filters=where("even", "no")) != ["id/2"]
    assert sorted(ask(store, "x", 5, filters=where("n", 3, ">="))) == ["id/3", "id/4"]
    assert sorted(ask(store, "x", 5, doc_ids=["source1"])) == ["id/1", "id/3"]
    assert ask(store, "x", 5, node_ids=["id/4"]) == ["id/4"]
    assert ask(store, "navy", mode=VectorStoreQueryMode.TEXT_SEARCH) == ["id/3"]
    assert ask(store, "wavy navy", mode=VectorStoreQueryMode.HYBRID) == ["id/3"]
    assert ask(store, "wavy navy", mode=VectorStoreQueryMode.HYBRID, alpha=0.5, sparse_top_k=3) == ["id/3"]
    assert ask(store, "zebras", mode=VectorStoreQueryMode.MMR) == ["id/0"]


def test_nodes_come_back_as_they_were(make: Make) -> None:
    store = filled(make)
    found = store.get_nodes(["id/3", "missing", "id/0", "id/3"])
    assert [node.node_id for node in found] == ["id/3", "id/0", "id/3"]
    found[0].metadata["n"] = 99
    assert found[2].metadata == {"n": 3, "even": "no"}
    assert found[2].ref_doc_id == "source1"
    assert [node.node_id for node in store.get_nodes(filters=where("even", "yes"))] == ["id/0", "id/2", "id/4"]
    assert [node.node_id for node in store.get_nodes()] == [f"id/{n}" for n in range(5)]
    assert [node.node_id for node in store.get_nodes(["id/1", "id/2"], where("even", "yes"))] == ["id/2"]


def test_nodes_are_deleted(make: Make) -> None:
    store = filled(make)
    store.delete("source1")
    assert [node.node_id for node in store.get_nodes()] == ["id/0", "id/2", "id/4"]
    store.delete_nodes(["id/0"])
    store.delete_nodes(filters=where("n", 4))
    assert [node.node_id for node in store.get_nodes()] == ["id/2"]
    store.clear()
    assert store.get_nodes() == []


def test_async(make: Make) -> None:
    async def run() -> list[str]:
        store = OctavoVectorStore(collection=make(codec="int8"))
        await store.async_add(nodes())
        await store.adelete("source0")
        query = VectorStoreQuery(query_embedding=EMBEDDING.get_query_embedding("zebras"), similarity_top_k=5)
        return sorted((await store.aquery(query)).ids or [])

    assert asyncio.run(run()) == ["id/1", "id/3"]


def test_an_index(make: Make) -> None:
    store = OctavoVectorStore(collection=make(codec="float32"))
    documents = [Document(text=text, doc_id=f"d{n}", metadata={"n": n}) for n, text in enumerate(TEXTS)]
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=EMBEDDING)
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("n: 4\n\nmoon loon")
    assert isinstance(found, NodeWithScore)
    assert (found.node.ref_doc_id, found.node.metadata, found.get_content()) == ("d4", {"n": 4}, "moon loon")
    index.insert(Document(text="quiz", doc_id="d5"))
    index.delete_ref_doc("d4")
    assert store.client.count() == 5
    again = VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING)
    assert again.as_retriever(similarity_top_k=1).retrieve("quiz")[0].node.ref_doc_id == "d5"
    only = again.as_retriever(similarity_top_k=9, filters=where("n", 2, "<")).retrieve("quiz")
    assert {hit.node.metadata["n"] for hit in only} == {0, 1}


def test_what_lies_in_qdrant_is_not_saved_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    from octavo.integrations.qdrant import QdrantCollection

    with QdrantCollection.create(path=tmp_path / "kb", codec="float32") as collection:
        store = OctavoVectorStore(collection=collection)
        assert store.path is None
        index = VectorStoreIndex.from_documents(
            [Document(text="zebras", doc_id="z")],
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=EMBEDDING,
        )
        index.storage_context.persist(str(tmp_path / "saved"))
        assert not list((tmp_path / "saved").glob("default__vector_store*"))
        with pytest.raises(ParameterError, match="pickling needs a collection"):
            pickle.dumps(store)
        with pytest.raises(ParameterError, match="a deep copy needs"):
            copy.deepcopy(store)
        with pytest.raises(ParameterError, match="either collection or path"):
            OctavoVectorStore(collection=collection, codec="int8")
    with QdrantCollection.open(path=tmp_path / "kb") as collection:
        context = StorageContext.from_defaults(
            vector_store=OctavoVectorStore(collection=collection), persist_dir=str(tmp_path / "saved")
        )
        loaded = load_index_from_storage(context, embed_model=EMBEDDING)
        assert loaded.as_retriever(similarity_top_k=1).retrieve("zebras")[0].node.ref_doc_id == "z"


def test_something_else_is_refused() -> None:
    with pytest.raises(InputTypeError, match="a QdrantCollection, got str"):
        OctavoVectorStore(collection="kb")  # type: ignore[arg-type]
