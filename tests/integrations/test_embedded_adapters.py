"""What adapters embed and what they return: context by key or function, equal texts, updates; local and in Qdrant."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from llama_index.core.schema import MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

import octavo
from octavo.errors import DocumentNotFoundError, InputTypeError, MismatchError, ParameterError, StaleVectorsError
from octavo.integrations.langchain import OctavoVectorStore
from octavo.integrations.llama_index import OctavoVectorStore as NodeStore

from ..helpers.toy_models import DIM, direction, words


class Counting(Embeddings):
    """Gives a text the sum of its words' directions, and remembers what it was asked for."""

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.asked: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        return list(np.sum([direction(self.salt + word) for word in text.lower().split()], axis=0))


def token_model(asked: list[str]) -> octavo.TokenEncoder:
    def encode(texts: list[str]) -> list[Any]:
        asked.extend(texts)
        return words(texts)

    return octavo.TokenEncoder(encode)


Make = Callable[..., OctavoVectorStore]
TEXTS = ["it has two million people", "it has three million people"]
METADATA = [{"about": "Paris has two million people"}, {"about": "Rome has three million people"}]


def seen(store: OctavoVectorStore) -> list[str]:
    asked: list[str] = store.asked  # type: ignore[attr-defined]
    found = list(asked)
    asked.clear()
    return found


@pytest.fixture(params=["local", "memory", "late", "qdrant", "late in qdrant"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    opened: list[OctavoVectorStore] = []

    def open_store(**options: Any) -> OctavoVectorStore:
        asked: list[str] = []
        late = "late" in request.param
        model: Any = token_model(asked) if late else Counting()
        if "qdrant" in request.param:
            qdrant = pytest.importorskip("octavo.integrations.qdrant")
            pytest.importorskip("qdrant_edge")
            kind = qdrant.QdrantMultiVectorCollection if late else qdrant.QdrantCollection
            collection = kind.create(path=tmp_path / "q", codec="int8", dim=DIM)
            store = OctavoVectorStore(model, collection=collection, **options)
        else:
            store = OctavoVectorStore(model, tmp_path / "kb" if request.param == "local" else None, **options)
        store.asked = asked if late else model.asked  # type: ignore[attr-defined]
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()
        if store.collection.local is None:
            store.collection.close()


@pytest.mark.parametrize("embed_text", ["about", lambda document: document.metadata["about"]])
def test_context_is_embedded_and_not_returned(make: Make, embed_text: Any) -> None:
    store = make(embed_text=embed_text)
    store.add_texts(TEXTS, METADATA, ids=["p", "r"])
    assert seen(store) == [entry["about"] for entry in METADATA]
    [found] = store.similarity_search("Rome", k=1)
    assert found == Document(id="r", page_content=TEXTS[1], metadata=METADATA[1])
    assert [document.embed_text for document in store.collection.get(["p", "r"])] == [
        entry["about"] for entry in METADATA
    ]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_equal_texts_are_embedded_once(make: Make, asynchronous: bool) -> None:
    store = make()

    def add(texts: list[str], metadatas: list[dict[str, Any]], ids: list[Any]) -> list[str]:
        if asynchronous:
            return asyncio.run(store.aadd_texts(texts, metadatas, ids=ids))
        return store.add_texts(texts, metadatas, ids=ids)

    add(["red", "green"], [{"n": 1}, {"n": 2}], ["r", "g"])
    assert seen(store) == ["red", "green"]
    added = add(["red", "dark green", "blue"], [{"n": 3}, {"n": 4}, {"n": 5}], ["r", "g", None])
    assert added[:2] == ["r", "g"]
    assert [text for text in seen(store) if text not in ("red", "green")] == ["dark green", "blue"]
    assert [(document.page_content, document.metadata["n"]) for document in store.get_by_ids(["r", "g", added[2]])] == [
        ("red", 3),
        ("dark green", 4),
        ("blue", 5),
    ]
    assert store.similarity_search("dark", k=1)[0].id == "g"
    seen(store)
    add(["red"], [{"n": 6}], ["r"])
    assert len(seen(store)) <= 1  # at most to find out whether it is the model
    assert store.get_by_ids(["r"])[0].metadata == {"n": 6}
    assert store.count() == 3


def test_another_text_to_embed_is_embedded(make: Make) -> None:
    store = make(embed_text="about")
    store.add_texts(TEXTS, METADATA, ids=["p", "r"])
    seen(store)
    store.add_texts(TEXTS, [METADATA[0], {"about": "Roma has three million people"}], ids=["p", "r"])
    assert "Roma has three million people" in seen(store)
    assert store.similarity_search("Roma", k=1)[0].id == "r"


def test_update_embeds_nothing(make: Make) -> None:
    store = make()
    store.add_texts(["red", "green"], [{"n": 1}, {"n": 2}], ids=["r", "g"])
    seen(store)
    store.update(["r"], [{"n": 7}])
    asyncio.run(store.aupdate(["g"], texts=["very green"]))
    assert seen(store) == []
    assert store.get_by_ids(["r", "g"]) == [
        Document(id="r", page_content="red", metadata={"n": 7}),
        Document(id="g", page_content="very green", metadata={"n": 2}),
    ]
    assert store.similarity_search("red", k=1, filter={"n": 7})[0].id == "r"
    with pytest.raises(DocumentNotFoundError):
        store.update(["nobody"], [{}])


def test_another_model_is_found_out_though_nothing_is_embedded(tmp_path: Path) -> None:
    with OctavoVectorStore(Counting(), tmp_path / "kb") as store:
        store.add_texts(["red", "green"], ids=["r", "g"])
    with OctavoVectorStore(Counting("other"), tmp_path / "kb") as store:
        with pytest.raises(MismatchError, match="reencode"):
            store.add_texts(["red"], ids=["r"])
        with pytest.raises(MismatchError, match="reencode"):
            asyncio.run(store.aadd_texts(["red"], ids=["r"]))


def test_somebody_was_faster(tmp_path: Path) -> None:
    """A document that changes between the question and the answer is embedded after all."""
    model = Counting()
    with OctavoVectorStore(model, tmp_path / "kb") as store:
        store.add_texts(["red"], [{"n": 1}], ids=["r"])
        real = store.collection.embedded

        def late(*arguments: Any) -> list[bool]:
            found = real(*arguments)
            store.collection.delete(["r"])
            return found

        store.collection.embedded = late  # type: ignore[method-assign]
        model.asked.clear()
        assert store.add_texts(["red"], [{"n": 2}], ids=["r"]) == ["r"]
        assert "red" in model.asked
        assert store.get_by_ids(["r"])[0].metadata == {"n": 2}
        with pytest.raises(StaleVectorsError):
            store.collection.add_embedded(["x"], ["nobody"], [{}], [None])
        with pytest.raises(ParameterError, match="one vector, or None, for each of 1"):
            store.collection.add_embedded(["x"], ["nobody"], [{}], [])


def context(document: Document) -> str:
    return str(document.metadata["about"])


def test_what_is_embedded_goes_with_the_store(tmp_path: Path) -> None:
    with OctavoVectorStore(Counting(), tmp_path / "kb", embed_text=context) as store:
        with pickle.loads(pickle.dumps(store)) as again:
            again.add_texts(TEXTS, METADATA, ids=["p", "r"])
        assert store.collection.get(["p"])[0].embed_text == METADATA[0]["about"]
    with OctavoVectorStore.from_texts(TEXTS, Counting(), METADATA, ids=["p", "r"], embed_text="about") as store:
        assert store.similarity_search("Rome", k=1)[0].id == "r"
        store.add_texts(["plain"], [{"about": None}], ids=["x"])
        assert store.collection.get(["x"])[0].embed_text is None
        with pytest.raises(
            InputTypeError, match=r"expected metadata\['about'\] of document 0 as a str or None, got int"
        ):
            store.add_texts(["plain"], [{"about": 5}])
    with pytest.raises(InputTypeError, match="expected embed_text as a key"):
        OctavoVectorStore(Counting(), embed_text=5)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- LlamaIndex


def node(name: str, text: str, city: str) -> TextNode:
    return TextNode(
        id_=name,
        text=text,
        metadata={"city": city, "file": "/tmp/x"},
        excluded_embed_metadata_keys=["file"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", metadata={"a": 1})},
        start_char_idx=3,
    )


def test_nodes_are_embedded_with_their_metadata_and_come_back_whole() -> None:
    asked: list[str] = []
    store = NodeStore(encoder=token_model(asked))
    nodes = [node("p", "two million", "Paris"), node("r", "three million", "Rome")]
    store.add(nodes)
    embedded = [each.get_content(metadata_mode=MetadataMode.EMBED) for each in nodes]
    assert asked == embedded
    assert "Rome" in embedded[1]
    [found] = store.query(VectorStoreQuery(query_str="Rome", similarity_top_k=1)).nodes or []
    assert found.model_dump() == nodes[1].model_dump()
    assert [document.to_embed for document in store.client.documents()] == embedded
    asked.clear()
    changed = node("r", "three million", "Rome")
    changed.metadata["file"] = "/tmp/y"  # not embedded
    store.add([nodes[0], changed])
    assert len(asked) <= 1
    assert store.get_nodes(["r"])[0].metadata["file"] == "/tmp/y"
    changed.metadata["city"] = "Roma"
    store.add([changed])
    assert any("Roma" in text for text in asked)
    store.close()


def test_learned_sparse_vectors_are_made_of_what_is_embedded() -> None:
    asked: list[str] = []

    def terms(texts: list[str]) -> list[dict[int, float]]:
        asked.extend(texts)
        return [{sum(map(ord, word)): 1.0 for word in text.split()} for text in texts]

    store = NodeStore(sparse=terms)
    nodes = [node("p", "two million", "Paris"), node("r", "three million", "Rome")]
    for each, vector in zip(nodes, ([1.0, 0.0], [0.0, 1.0]), strict=True):
        each.embedding = vector
    store.add(nodes)
    assert asked == [each.get_content(metadata_mode=MetadataMode.EMBED) for each in nodes]
    query = VectorStoreQuery(query_str="Rome", similarity_top_k=1, mode=VectorStoreQueryMode.SPARSE)
    [found] = store.query(query).nodes or []
    assert found.model_dump(exclude={"embedding"}) == nodes[1].model_dump(exclude={"embedding"})
    store.close()


def test_nodes_are_updated_beside_their_vectors() -> None:
    asked: list[str] = []
    store = NodeStore(encoder=token_model(asked))
    nodes = [node("p", "two million", "Paris"), node("r", "three million", "Rome")]
    store.add(nodes)
    asked.clear()
    nodes[1].metadata["city"] = "Roma"
    nodes[1].relationships = {}
    store.update_nodes(nodes[1:])
    asyncio.run(store.async_update_nodes([nodes[0]]))
    assert not asked
    assert store.get_nodes(["r"])[0].model_dump() == nodes[1].model_dump()
    assert "Rome" in store.client.get(["r"])[0].to_embed
    with pytest.raises(DocumentNotFoundError):
        store.update_nodes([node("nobody", "x", "y")])
    with pytest.raises(ParameterError, match="takes no options"):
        store.update_nodes([], unknown=1)
    store.close()
