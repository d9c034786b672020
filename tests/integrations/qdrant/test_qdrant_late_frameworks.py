"""LangChain's and LlamaIndex's stores around a multi-vector collection in Qdrant do what they do around a local one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.collection import CollectionLike, MultiVectorLike
from octavo.errors import MismatchError, ParameterError
from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")

TEXTS = ["zebras", "a quick fox", "lemon jelly", "wavy navy", "moon loon"]
IDS = ["z", "f", "l", "w", "m"]
METADATA: list[dict[str, Any]] = [{"n": n} for n in range(5)]


def letters(texts: Any) -> Any:
    return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]


@pytest.fixture(params=["local", "edge"])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    options = {"path": tmp_path / "c", "encoder": letters, "codec": "float32", "pool_factor": 1}
    opened = (
        octavo.open_multi_vector(**options)  # type: ignore[arg-type]
        if request.param == "local"
        else QdrantMultiVectorCollection.create(**options)  # type: ignore[arg-type]
    )
    with opened:
        yield opened


def test_the_protocols_tell_both_kinds_apart(collection: Any, tmp_path: Path) -> None:
    assert isinstance(collection, CollectionLike)
    assert isinstance(collection, MultiVectorLike)
    with octavo.open() as local, QdrantCollection.create(path=tmp_path / "dense") as dense:
        assert not isinstance(local, MultiVectorLike)
        assert not isinstance(dense, MultiVectorLike)
        assert isinstance(dense, CollectionLike)


def test_langchain(collection: Any) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from octavo.integrations.langchain import LateInteractionRetriever, OctavoVectorStore

    store = OctavoVectorStore(collection=collection)
    assert store.add_texts(TEXTS, METADATA, ids=IDS) == IDS
    assert store.similarity_search("navy", k=1)[0].id == "w"
    document, score = store.similarity_search_with_score("fox", k=1)[0]
    assert document == Document(id="f", page_content="a quick fox", metadata={"n": 1})
    assert score == pytest.approx(3, rel=1e-3)
    assert store.similarity_search("navy", k=1, filter={"n": {"$lt": 3}})[0].id != "w"
    retriever = LateInteractionRetriever(vectorstore=store, k=1)
    assert retriever.invoke("zebra")[0].id == "z"
    assert retriever.invoke("jelly", mode="text")[0].id == "l"
    assert retriever.invoke("zebra", mode="mmr")[0].id == "z"
    assert retriever.collection.explain("zebra", "z").score == pytest.approx(5, rel=1e-3)
    retriever.delete(["z"])
    assert store.count() == 4
    with pytest.raises(MismatchError):
        OctavoVectorStore(DeterministicFakeEmbedding(size=128), collection=collection)


def test_llama_index(collection: Any) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

    from octavo.integrations.llama_index import LateInteractionIndex, OctavoVectorStore

    store = OctavoVectorStore(collection=collection)
    assert not store.is_embedding_query
    nodes = [
        TextNode(id_=identifier, text=text, metadata=metadata)
        for identifier, text, metadata in zip(IDS, TEXTS, METADATA, strict=True)
    ]
    assert store.add(nodes) == IDS

    def ask(words: str, mode: VectorStoreQueryMode, **options: Any) -> list[str]:
        query = VectorStoreQuery(query_str=words, similarity_top_k=2, mode=mode)
        return list(store.query(query, **options).ids or [])

    assert ask("navy", VectorStoreQueryMode.DEFAULT, n_candidates=5)[0] == "w"
    assert ask("jelly", VectorStoreQueryMode.TEXT_SEARCH) == ["l"]
    assert ask("jelly", VectorStoreQueryMode.HYBRID)[0] == "l"
    index = LateInteractionIndex(vector_store=store)
    assert index.as_retriever(similarity_top_k=1).retrieve("zebra")[0].node.node_id == "z"
    store.delete_nodes(["z"])
    assert collection.count() == 4
    with pytest.raises(ParameterError):
        store.query(VectorStoreQuery(query_embedding=[1.0] * 128, similarity_top_k=1))
