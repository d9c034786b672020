"""Another embedding model for a LlamaIndex store that is in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_index.core import MockEmbedding, Settings, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

from octavo.errors import MismatchError
from octavo.integrations.llama_index import OctavoVectorStore
from toy_models import direction

DIM = 32


class Words(BaseEmbedding):
    """Adds up the directions of words; another `salt` makes another model."""

    salt: str = ""
    dim: int = DIM
    left: int = 10**9

    def _get_text_embedding(self, text: str) -> list[float]:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("rate limit")
        total = sum(direction(self.salt + word, self.dim) for word in text.lower().split())
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


def nodes(model: BaseEmbedding, n: int = 150) -> list[TextNode]:
    made = [TextNode(id_=f"n{i}", text=f"word{i} thing{i // 2}", metadata={"topic": f"t{i % 3}"}) for i in range(n)]
    for node in made:
        node.embedding = model.get_text_embedding(node.get_content(metadata_mode="embed"))  # type: ignore[arg-type]
    return made


def ask(store: OctavoVectorStore, text: str, model: BaseEmbedding) -> str:
    query = VectorStoreQuery(query_embedding=model.get_query_embedding(text), query_str=text, similarity_top_k=1)
    found = store.query(query)
    assert found.ids is not None
    return found.ids[0]


@pytest.mark.parametrize("dim", [DIM, 48])
def test_both_models_answer_and_the_new_one_takes_over(tmp_path: Path, dim: int) -> None:
    old = Words(model_name="old", salt="old")
    new = Words(model_name="new", salt="new", dim=dim, left=110)
    store = OctavoVectorStore(tmp_path / "kb", embed_model=old)
    store.add(nodes(old))
    with pytest.raises(ConnectionError):
        store.reencode(new, batch_size=50)
    new.left = 10**9
    assert store.client.local is not None
    assert store.client.local.info().reencoding is not None
    assert ask(store, "topic: t1 word7 thing3", old) == "n7"
    assert ask(store, "topic: t0 word120 thing60", old) == "n120"
    store.add([TextNode(id_="x", text="quite another", embedding=old.get_text_embedding("quite another"))])
    store.reencode(new)
    assert ask(store, "topic: t1 word7 thing3", new) == "n7"
    assert ask(store, "quite another", new) == "x"
    store.add([TextNode(id_="y", text="added later", embedding=new.get_text_embedding("added later"))])
    assert ask(store, "added later", new) == "y"
    assert store.client.local.verify().ok
    store.close()
    with pytest.raises(MismatchError, match=r"store\.reencode"):
        ask(
            OctavoVectorStore(tmp_path / "kb", embed_model=Words(model_name="third", salt="third", dim=dim)),
            "word7",
            new,
        )
    again = OctavoVectorStore(tmp_path / "kb", embed_model=new)
    assert ask(again, "topic: t1 word7 thing3", new) == "n7"
    again.close()


def test_the_frameworks_own_model_is_refused_when_it_is_another_of_the_same_dimension(tmp_path: Path) -> None:
    old, new = Words(model_name="old", salt="old"), Words(model_name="new", salt="new")
    Settings.embed_model = old
    store = OctavoVectorStore(tmp_path / "kb")
    storage = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(nodes=[], storage_context=storage)
    index.insert_nodes(nodes(old))
    assert index.as_retriever(similarity_top_k=1).retrieve("topic: t1 word7 thing3")[0].node_id == "n7"
    store.close()
    Settings.embed_model = new
    index = VectorStoreIndex.from_vector_store(OctavoVectorStore(tmp_path / "kb"))
    with pytest.raises(MismatchError, match="new"):
        index.as_retriever().retrieve("word7")
    with pytest.raises(MismatchError, match="new"):
        index.as_retriever().retrieve("word8")
    # an index of its own model is left alone, whatever the default is
    index = VectorStoreIndex.from_vector_store(OctavoVectorStore(tmp_path / "kb"), embed_model=old)
    assert index.as_retriever(similarity_top_k=1).retrieve("topic: t1 word7 thing3")[0].node_id == "n7"


def test_the_line_that_the_error_gives_works_when_it_is_pasted(tmp_path: Path) -> None:
    old, new = Words(model_name="old", salt="old"), Words(model_name="new", salt="new")
    with contextlib.closing(OctavoVectorStore(tmp_path / "kb", embed_model=old)) as store:
        store.add(nodes(old))
    Settings.embed_model = new
    with contextlib.closing(OctavoVectorStore(tmp_path / "kb")) as store:
        index = VectorStoreIndex.from_vector_store(store)
        with pytest.raises(MismatchError) as caught:
            index.as_retriever().retrieve("word7")
        line = str(caught.value).rpartition(": ")[2]
        assert line == "store.reencode(embed_model)"
        eval(line, {"store": store, "embed_model": new})  # as a user would
        assert index.as_retriever(similarity_top_k=1).retrieve("topic: t1 word7 thing3")[0].node_id == "n7"
