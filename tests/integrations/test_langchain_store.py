"""Adding, replacing, reading and deleting through the LangChain store."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

import octavo
from octavo.errors import CollectionClosedError, InputTypeError, InvalidVectorsError, MismatchError, ParameterError
from octavo.filters import parse_filter
from octavo.integrations.langchain import OctavoVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=16)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OctavoVectorStore]:
    path = tmp_path / "kb" if request.param == "disk" else None
    with OctavoVectorStore(EMBEDDING, path) as store:
        yield store


def filled(store: OctavoVectorStore) -> OctavoVectorStore:
    store.add_texts(["one", "two", "three", "four"], [{"n": n} for n in (1, 2, 3, 4)], ids=["a", "b", "c", "d"])
    return store


def ids_of(store: OctavoVectorStore) -> list[str]:
    return sorted(store.collection.ids())


# ---------------------------------------------------------------------- adding


def test_returned_ids_are_the_stored_ones(store: OctavoVectorStore) -> None:
    ids = store.add_texts(["one", "two"])
    assert len(set(ids)) == 2
    assert [document.page_content for document in store.get_by_ids(ids)] == ["one", "two"]


def test_ids_may_hold_none(store: OctavoVectorStore) -> None:
    ids = store.add_texts(["one", "two", "three"], ids=[None, "b", None])
    assert ids[1] == "b"
    assert len(set(ids)) == 3
    assert None not in ids


def test_document_ids_are_kept_and_the_argument_wins(store: OctavoVectorStore) -> None:
    documents = [
        Document(id="own", page_content="one"),
        Document(page_content="two"),
        Document(id="x", page_content="3"),
    ]
    ids = store.add_documents(documents, ids=[None, None, "given"])
    assert (ids[0], ids[2]) == ("own", "given")
    assert ids_of(store) == sorted(ids)


def test_an_empty_document_id_is_none(store: OctavoVectorStore) -> None:
    ids = store.add_documents([Document(id="", page_content="one"), Document(id="", page_content="two")])
    assert len(set(ids)) == 2
    assert "" not in ids


def test_adding_an_id_again_replaces_the_document(store: OctavoVectorStore) -> None:
    filled(store)
    assert store.add_texts(["uno"], [{"lang": "it"}], ids=["a"]) == ["a"]
    assert store.count() == 4
    assert store.similarity_search("uno", k=1) == [Document(id="a", page_content="uno", metadata={"lang": "it"})]
    assert "one" not in [document.page_content for document in store.similarity_search("one", k=10)]


@pytest.mark.parametrize("extra", [{"ids": ["a"]}, {"ids": ["a", "b", "c"]}, {"ids": []}, {"metadatas": [{}]}])
def test_other_lengths_raise_and_change_nothing(store: OctavoVectorStore, extra: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="as many"):
        store.add_texts(["one", "two"], **extra)
    assert store.count() == 0


@pytest.mark.parametrize("extra", [{"ids": iter(["a"])}, {"metadatas": iter([{}, {}, {}])}])
def test_other_lengths_of_generators_raise(store: OctavoVectorStore, extra: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="as many"):
        store.add_texts(["one", "two"], **extra)
    assert store.count() == 0


def test_documents_with_too_few_ids_raise(store: OctavoVectorStore) -> None:
    with pytest.raises(ValueError, match="1 ids"):
        store.add_documents([Document(page_content="one"), Document(page_content="two")], ids=["a"])


def test_an_id_twice_in_one_call_raises(store: OctavoVectorStore) -> None:
    with pytest.raises(ParameterError, match="'a' twice"):
        store.add_texts(["one", "two"], ids=["a", "a"])
    with pytest.raises(ParameterError, match="'a' twice"):
        store.add_texts((text for text in ["one", "two", "three"]), ids=["a", "b", "a"], batch_size=1)
    assert "three" not in [document.page_content for document in store.similarity_search("three", k=9)]


def test_generators_everywhere(store: OctavoVectorStore) -> None:
    texts, ids = [str(n) for n in range(10)], [f"id{n}" for n in range(10)]
    assert store.add_texts(iter(texts), ({"n": n} for n in range(10)), ids=iter(ids), batch_size=3) == ids
    more = store.add_documents((Document(page_content=text) for text in texts), batch_size=4)
    assert len(more) == 10
    assert store.count() == 20
    assert store.get_by_ids(["id7"]) == [Document(id="id7", page_content="7", metadata={"n": 7})]


def test_a_generator_of_documents_makes_a_store() -> None:
    with OctavoVectorStore.from_documents((Document(page_content=text) for text in "ab"), EMBEDDING) as store:
        assert store.count() == 2


def test_nothing_to_add(store: OctavoVectorStore) -> None:
    assert store.add_texts([]) == []
    assert store.add_documents([]) == []
    assert store.add_documents(iter([])) == []


def test_inputs_are_not_changed_and_results_share_nothing(store: OctavoVectorStore) -> None:
    documents = [Document(page_content="one", metadata={"tags": ["x"], "deep": {"y": 1}})]
    before = copy.deepcopy(documents)
    ids = store.add_documents(documents)
    assert documents == before
    documents[0].metadata["tags"].append("changed")
    for found in (store.similarity_search("one", k=1)[0], store.get_by_ids(ids)[0]):
        assert found.metadata == before[0].metadata
        found.metadata["deep"]["y"] = 2
        found.metadata["new"] = True
    assert store.get_by_ids(ids)[0].metadata == before[0].metadata
    assert store.similarity_search("one", k=1)[0].metadata == before[0].metadata
    first, second = store.get_by_ids([ids[0], ids[0]])
    first.metadata["deep"]["y"] = 3
    assert second.metadata == before[0].metadata


@pytest.mark.parametrize("bad", [{"when": {1, 2}}, {"x": float("nan")}, {1: "key"}])
def test_metadata_that_is_not_json_raises_and_changes_nothing(store: OctavoVectorStore, bad: dict[Any, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        store.add_texts(["one", "two"], [{}, bad])
    assert store.count() == 0


@pytest.mark.parametrize("texts", ["one", b"one", 3, ["one", 2], [None]])
def test_texts_that_are_none_raise(store: OctavoVectorStore, texts: Any) -> None:
    with pytest.raises(InputTypeError):
        store.add_texts(texts)


def test_documents_that_are_none_raise(store: OctavoVectorStore) -> None:
    for bad in (Document(page_content="one"), ["one"], "one"):
        with pytest.raises(InputTypeError):
            store.add_documents(bad)  # type: ignore[arg-type]


def test_unknown_options_raise(store: OctavoVectorStore) -> None:
    with pytest.raises(TypeError, match="namespace"):
        store.add_texts(["one"], namespace="x")
    with pytest.raises(TypeError, match="namespace"):
        store.add_documents([Document(page_content="one")], namespace="x")
    with pytest.raises(TypeError, match="delete_all"):
        store.delete(delete_all=True)
    assert store.count() == 0
    with pytest.raises(TypeError, match="kodec"):
        OctavoVectorStore(EMBEDDING, kodec="int8")
    with pytest.raises(TypeError, match="called embedding="):
        OctavoVectorStore(embedding_function=EMBEDDING)
    with pytest.raises(TypeError, match="called path="):
        OctavoVectorStore.from_texts(["one"], EMBEDDING, persist_directory="kb")


class Failing(Embeddings):
    """Fails once a text says so."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if "boom" in texts:
            raise ConnectionError("the service is down")
        return EMBEDDING.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        return EMBEDDING.embed_query(text)


def test_a_failing_embedding_changes_nothing(tmp_path: Path) -> None:
    with OctavoVectorStore(Failing(), tmp_path / "kb") as store:
        store.add_texts(["one"], ids=["a"])
        with pytest.raises(ConnectionError):
            store.add_texts([*map(str, range(50)), "boom"], batch_size=10)
        assert ids_of(store) == ["a"]
        with pytest.raises(ConnectionError):
            OctavoVectorStore.from_texts(["boom"], Failing(), path=tmp_path / "kb")
        assert ids_of(store) == ["a"]


class Short(Failing):
    """Gives one vector too few."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return EMBEDDING.embed_documents(texts)[:-1] if len(texts) > 1 else EMBEDDING.embed_documents(texts)


def test_an_embedding_that_gives_too_few_vectors_raises() -> None:
    with OctavoVectorStore(Short()) as store, pytest.raises(InvalidVectorsError, match="expected 2 vectors"):
        store.add_texts(["one", "two"])


# ---------------------------------------------------------------------- reading and deleting


def test_get_by_ids_keeps_the_order_and_leaves_out_what_is_missing(store: OctavoVectorStore) -> None:
    filled(store)
    assert [document.id for document in store.get_by_ids(["c", "nope", "a"])] == ["c", "a"]
    assert store.get_by_ids([]) == []


def test_delete_without_arguments_empties(store: OctavoVectorStore) -> None:
    filled(store)
    assert store.delete() is True
    assert store.count() == 0
    assert store.similarity_search("one") == []
    assert store.add_texts(["again"], ids=["a"]) == ["a"]
    assert store.similarity_search("again")[0].id == "a"


def test_delete_of_nothing_deletes_nothing(store: OctavoVectorStore) -> None:
    filled(store)
    assert store.delete([]) is True
    assert store.delete(["nope"]) is True
    assert store.delete([], filter={"n": 1}) is True
    assert store.count() == 4


def test_delete_by_id_then_search(store: OctavoVectorStore) -> None:
    filled(store)
    assert store.delete(["a", "nope", "c"]) is True
    assert ids_of(store) == ["b", "d"]
    assert {document.id for document in store.similarity_search("one", k=10)} == {"b", "d"}
    assert store.get_by_ids(["a"]) == []


def test_delete_by_filter(store: OctavoVectorStore) -> None:
    filled(store)
    store.delete(filter={"n": {"$gte": 3}})
    assert ids_of(store) == ["a", "b"]
    store.delete(["a", "b"], filter={"n": 2})
    assert ids_of(store) == ["a"]
    store.delete(filter=lambda document: document.page_content == "one")
    assert ids_of(store) == []


def test_delete_by_a_tree(store: OctavoVectorStore) -> None:
    filled(store).delete(filter=parse_filter({"n": {"$in": [1, 2]}}))
    assert ids_of(store) == ["c", "d"]


def test_delete_with_a_lone_id_raises(store: OctavoVectorStore) -> None:
    filled(store)
    with pytest.raises(InputTypeError):
        store.delete("a")
    assert store.count() == 4


def test_count_with_filters(store: OctavoVectorStore) -> None:
    filled(store)
    assert store.count({"n": {"$lt": 3}}) == 2
    assert store.count(lambda document: document.id == "d") == 1


# ---------------------------------------------------------------------- opening


def test_documents_are_there_after_reopening(tmp_path: Path) -> None:
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb", codec="float8", fit_after=3) as store:
        before = filled(store).similarity_search_with_score("two", k=4)
        store.delete(["d"])
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
        assert store.collection.codec == "float8"
        assert store.similarity_search_with_score("two", k=4) == [hit for hit in before if hit[0].id != "d"]
        store.add_texts(["five"], ids=["e"])
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb", read_only=True) as store:
        assert ids_of(store) == ["a", "b", "c", "e"]
        with pytest.raises(PermissionError):
            store.delete()


def test_another_embedding_or_codec_is_refused(tmp_path: Path) -> None:
    OctavoVectorStore.from_texts(["one"], EMBEDDING, path=tmp_path / "kb", codec="int8").close()
    with OctavoVectorStore(DeterministicFakeEmbedding(size=8), tmp_path / "kb") as store:
        for ask in (lambda: store.similarity_search("one"), lambda: store.add_texts(["two"])):
            with pytest.raises(MismatchError, match=r"dimension 16.*dimension 8"):
                ask()
        assert store.count() == 1
    with pytest.raises(MismatchError, match="float8"):
        OctavoVectorStore(EMBEDDING, tmp_path / "kb", codec="float8")


def test_a_collection_of_the_callers() -> None:
    with octavo.open(encoder=lambda texts: np.array(EMBEDDING.embed_documents(texts))) as kb:
        store = OctavoVectorStore(collection=kb)
        assert store.embeddings is None
        filled(store)
        assert store.similarity_search("two", k=1)[0].id == "b"
        store.close()
        assert not kb.closed
        assert store.collection is kb
        with pytest.raises(ParameterError, match="codec"):
            OctavoVectorStore(collection=kb, codec="int8")
        with pytest.raises(ParameterError, match="metric"):
            OctavoVectorStore(collection=kb, metric="dot")
    with pytest.raises(InputTypeError, match="collection_name"):
        OctavoVectorStore(EMBEDDING, collection="tenant")  # type: ignore[arg-type]


@pytest.mark.parametrize("embedding", ["all-MiniLM-L6-v2", DeterministicFakeEmbedding, lambda texts: texts])
def test_what_is_no_embedding_raises(embedding: Any) -> None:
    with pytest.raises(InputTypeError, match="Embeddings"):
        OctavoVectorStore(embedding)


def test_a_store_without_an_embedding_says_so() -> None:
    with OctavoVectorStore() as store:
        with pytest.raises(ParameterError, match="embedding"):
            store.add_texts(["one"])
        store.add_embeddings([("one apple", [1.0, 0.0]), ("two pears", [0.0, 1.0])])
        with pytest.raises(ParameterError, match="embedding"):
            store.similarity_search("one")
        assert store.similarity_search("pear", mode="text")[0].page_content == "two pears"
        assert store.similarity_search_by_vector([1.0, 0.1], k=1)[0].page_content == "one apple"


def test_a_closed_store_says_so() -> None:
    store = OctavoVectorStore(EMBEDDING)
    store.close()
    store.close()
    with pytest.raises(CollectionClosedError):
        store.similarity_search("one")


def test_repr_and_properties() -> None:
    with OctavoVectorStore(EMBEDDING, collection_name="tenant") as store:
        assert "DeterministicFakeEmbedding" in repr(store)
        assert store.embeddings is EMBEDDING
        assert store.embedding is EMBEDDING
        assert store.collection_name == "tenant"
        assert bool(store)  # an empty store must not look like a missing one


def test_many_threads_add_delete_and_search(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb", fit_after=60) as store:
        store.add_texts(["anchor"], ids=["anchor"])

        def work(worker: int) -> None:
            try:
                for turn in range(8):
                    ids = [f"{worker}-{turn}-{n}" for n in range(4)]
                    assert store.add_texts([f"text {name}" for name in ids], ids=ids) == ids
                    assert store.similarity_search(f"text {ids[0]}", k=1)[0].id == ids[0]
                    assert store.similarity_search("anchor", k=1)[0].id == "anchor"
                    store.delete(ids[:2])
            except BaseException as err:
                errors.append(err)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert store.count() == 1 + 4 * 8 * 2


# ---------------------------------------------------------------------- again


def test_filling_a_collection_again_without_ids_says_that_it_doubles(tmp_path: Path) -> None:
    documents = [Document(page_content="one"), Document(page_content="two")]
    OctavoVectorStore.from_documents(documents, EMBEDDING, path=tmp_path / "kb").close()
    with pytest.warns(UserWarning, match=r"held 2 documents already, and 2 without ids .*Give ids=") as told:
        store = OctavoVectorStore.from_documents(documents, EMBEDDING, path=tmp_path / "kb")
    assert told[0].filename == __file__
    assert store.count() == 4
    store.close()
    OctavoVectorStore.from_documents(documents, EMBEDDING, path=tmp_path / "named", ids=["a", "b"]).close()
    again = OctavoVectorStore.from_documents(documents, EMBEDDING, path=tmp_path / "named", ids=["a", "b"])
    assert again.count() == 2
    again.close()
