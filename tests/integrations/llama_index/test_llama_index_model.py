"""Another embedding model of the same dimension is noticed, and no other use of a model breaks."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, Settings, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

import octavo
from octavo.errors import MismatchError, ParameterError
from octavo.integrations.llama_index import OctavoVectorStore, as_retriever
from toy_models import direction, words

DIM = 32


class Words(BaseEmbedding):
    """Adds up the directions of words; another `salt` makes another model of the same dimension."""

    salt: str = ""
    asked: list[str] = []  # noqa: RUF012  (pydantic copies it for each instance)
    down: bool = False

    def _get_text_embedding(self, text: str) -> list[float]:
        if self.down:
            raise ConnectionError("the embedding service is down")
        self.asked.append(text)
        total = sum(direction(self.salt + word, DIM) for word in text.lower().split())
        return [float(value) for value in total]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture(autouse=True)
def no_default_model() -> Iterator[None]:
    Settings.embed_model = MockEmbedding(embed_dim=4)
    yield
    Settings._embed_model = None


def documents(n: int = 6) -> list[Document]:
    texts = ["red apple", "green pear", "steam engine", "violin sonata", "gas turbine", "apple pie"]
    return [Document(id_=f"d{i}", text=text, metadata={"topic": "things"}) for i, text in enumerate(texts[:n])]


def fill(path: Path, model: BaseEmbedding, *, told: bool, codec: str = "int8") -> None:
    store = OctavoVectorStore(path, codec, fit_after=4, embed_model=model if told else None)
    context = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex.from_documents(documents(), storage_context=context, embed_model=model)
    store.close()


@pytest.mark.parametrize("codec", ["float32", "int8", "binary > int8", "svd:50%|int8", "binary"])
@pytest.mark.parametrize("use", ["add", "query", "retriever"])
def test_another_model_is_refused(tmp_path: Path, codec: str, use: str) -> None:
    fill(tmp_path / "kb", Words(), told=True, codec=codec)
    other = Words(salt="other ", model_name="another model")
    store = OctavoVectorStore(tmp_path / "kb", embed_model=None if use == "retriever" else other)
    index = VectorStoreIndex.from_vector_store(store, embed_model=other)
    uses: dict[str, Callable[[], Any]] = {
        "add": lambda: index.insert(Document(text="a new text")),
        "query": lambda: index.as_retriever().retrieve("apple"),
        "retriever": lambda: as_retriever(index).retrieve("apple"),
    }
    with pytest.raises(MismatchError, match=r"built with encoder '.*Words', got 'another model'"):
        uses[use]()
    assert len(store.client) == 6
    assert as_retriever(index, vector_store_query_mode="text_search").retrieve("violin")  # words need no model
    store.close()


@pytest.mark.parametrize("codec", ["float32", "int8", "binary > int8", "svd:50%|int8", "binary"])
def test_the_same_model_is_recognised_by_one_node(tmp_path: Path, codec: str) -> None:
    fill(tmp_path / "kb", Words(), told=True, codec=codec)
    model = Words()
    store = OctavoVectorStore(tmp_path / "kb", embed_model=model)
    index = VectorStoreIndex.from_vector_store(store, embed_model=model)
    assert model.asked == []  # opening asks nothing
    for _ in range(3):
        index.as_retriever().retrieve("apple")
        as_retriever(index).retrieve("apple")
    index.insert(Document(text="plum"))
    # text and metadata of one stored node, once for the store and once for each retriever that checks by itself
    assert sorted(set(model.asked)) == ["apple", "plum", "topic: things\n\nred apple"]
    assert model.asked.count("topic: things\n\nred apple") == 4
    store.close()


async def test_asynchronously(tmp_path: Path) -> None:
    fill(tmp_path / "kb", Words(), told=True)
    store = OctavoVectorStore(tmp_path / "kb", embed_model=Words(salt="other "))
    embedding = Words(salt="other ").get_text_embedding("apple")
    with pytest.raises(MismatchError):
        await store.aquery(VectorStoreQuery(query_embedding=embedding))
    with pytest.raises(MismatchError):
        await store.async_add([TextNode(text="apple", embedding=embedding)])
    with pytest.raises(MismatchError):
        await as_retriever(store, embed_model=Words(salt="other ")).aretrieve("apple")
    store.close()


def test_a_model_that_is_down_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "kb", Words(), told=True)
    model = Words(down=True)
    with caplog.at_level(logging.WARNING):
        store = OctavoVectorStore(tmp_path / "kb", embed_model=model)
        assert len(store.client) == 6
        embedding = Words().get_text_embedding("apple")
        assert store.query(VectorStoreQuery(query_embedding=embedding)).ids
        store.add([TextNode(text="apple", embedding=embedding)])
        assert store.get_nodes()
        store.delete("d0")
    assert "could not be checked" in caplog.text
    store.close()


def test_vectors_of_unknown_origin_are_worth_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody wrote down which model has made them: a retriever of ours looks, and tells the log."""
    fill(tmp_path / "kb", Words(), told=False)
    with OctavoVectorStoreClosing(tmp_path / "kb") as store, caplog.at_level(logging.WARNING):
        for model in (Words(), MockEmbedding(embed_dim=DIM), Words(down=True)):
            retriever = as_retriever(store, embed_model=model)
            if isinstance(model, Words) and model.down:
                with pytest.raises(ConnectionError):
                    retriever.retrieve("apple")
            else:
                assert len(retriever.retrieve("apple")) == 2
            nothing_alike = "nothing to do with" in caplog.text
            assert nothing_alike is isinstance(model, MockEmbedding), caplog.text
            caplog.clear()


class OctavoVectorStoreClosing:
    """A store that is closed at the end."""

    def __init__(self, path: Path) -> None:
        self.store = OctavoVectorStore(path)

    def __enter__(self) -> OctavoVectorStore:
        return self.store

    def __exit__(self, *error: object) -> None:
        self.store.close()


def test_plain_python_and_llama_index_know_each_other(tmp_path: Path) -> None:
    """One manifest: what plain Python encoded is compared as it was encoded, and so is what LlamaIndex embedded."""
    model = Words()

    def encode(texts: list[str]) -> Any:
        return [model.get_text_embedding(text) for text in texts]

    with octavo.open(tmp_path / "kb", encode) as kb:
        kb.add([f"plain text {i}" for i in range(6)])
    for salt in ("", "other "):
        store = OctavoVectorStore(tmp_path / "kb", embed_model=Words(salt=salt))
        index = VectorStoreIndex.from_vector_store(store, embed_model=Words(salt=salt))
        if salt:
            with pytest.raises(MismatchError):
                index.insert(documents()[0])
        else:
            index.insert(documents()[0])
        store.close()
    with octavo.open(tmp_path / "kb", encode) as kb:
        kb.add(["more plain text"])
        assert kb.search("plain text").ids
    other = Words(salt="other ")
    kb = octavo.open(tmp_path / "kb", lambda texts: [other.get_text_embedding(text) for text in texts])
    with pytest.raises(MismatchError):
        kb.search("plain text")
    kb.close()


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_copies_know_the_model(tmp_path: Path, place: str, how: Callable[[Any], Any]) -> None:
    store = OctavoVectorStore(tmp_path / "kb" if place == "disk" else None, embed_model=MockEmbedding(embed_dim=2))
    store.add([TextNode(text="t", embedding=[0.5, 0.5])])
    other = how(store)
    assert other.query(VectorStoreQuery(query_embedding=[0.5, 0.5])).ids
    assert isinstance(other._embed_model, MockEmbedding)
    other.close()
    store.close()


def test_saved_stores_take_a_model(tmp_path: Path) -> None:
    fill(tmp_path / "kb", Words(), told=True)
    with OctavoVectorStoreClosing(tmp_path / "kb") as store:
        StorageContext.from_defaults(vector_store=store).persist(str(tmp_path / "saved"))
    loaded = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"), embed_model=Words(salt="other "))
    with pytest.raises(MismatchError):
        loaded.query(VectorStoreQuery(query_embedding=[1.0] * DIM))
    loaded.close()


def test_late_interaction_has_no_embedding_model(tmp_path: Path) -> None:
    OctavoVectorStore(tmp_path / "late", encoder=words).close()
    for options in ({"encoder": words}, {}):
        with pytest.raises(ParameterError, match="expected no embed_model"):
            OctavoVectorStore(tmp_path / "late", embed_model=Words(), **options)
    OctavoVectorStore(tmp_path / "late", encoder=words).close()  # the failed ones have let go of it


def test_a_zero_embedding_is_kept_with_score_0() -> None:
    """As in the framework's own store: one node without words must not fail a batch of thousands."""
    store = OctavoVectorStore()
    store.add([TextNode(id_="z", text="", embedding=[0.0, 0.0]), TextNode(id_="a", text="a", embedding=[1.0, 0.0])])
    found = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=2))
    assert (found.ids, found.similarities) == (["a", "z"], [1.0, 0.0])
