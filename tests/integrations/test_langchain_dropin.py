"""What an application does around a store: copies, processes, working directories, odd embeddings, odd metadata."""

from __future__ import annotations

import copy
import enum
import logging
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import ml_dtypes
import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.structured_query import Comparator, Comparison

import octavo
from octavo.errors import (
    CollectionNotFoundError,
    InputTypeError,
    InvalidVectorsError,
    MismatchError,
    OctavoError,
    ParameterError,
)
from octavo.integrations.langchain import LateInteractionRetriever, OctavoRetriever, OctavoVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=16)
TEXTS = ["one apple", "two pears", "three plums"]


class Words(Embeddings):
    """A table of vectors, as people write them for tests: a text that is not in it is a KeyError."""

    def __init__(self, *texts: str) -> None:
        self.table = dict(zip(texts, EMBEDDING.embed_documents(list(texts)), strict=True))
        self.asked: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        return [self.table[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return self.table[text]


class Down(Embeddings):
    """A service that cannot be reached."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise ConnectionError("the service is down")

    def embed_query(self, text: str) -> list[float]:
        raise ConnectionError("the service is down")


@pytest.fixture(params=["memory", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "kb" if request.param == "disk" else None


def filled(path: Path | None = None, embedding: Any = EMBEDDING, **options: Any) -> OctavoVectorStore:
    return OctavoVectorStore.from_texts(
        TEXTS, embedding, [{"n": n} for n in range(3)], ids=["a", "b", "c"], path=path, **options
    )


# ---------------------------------------------------------------------- embeddings


def test_an_embedding_hears_what_it_is_given_and_nothing_else(path: Path | None) -> None:
    words = Words(*TEXTS, "question", "four")
    with filled(path, words) as store:
        assert words.asked == TEXTS
        store.similarity_search("question")
        store.add_texts(["four"])
        assert words.asked == [*TEXTS, "question", "four"]


def test_mocks_that_count(path: Path | None) -> None:
    embedding = MagicMock(spec=Embeddings)
    embedding.embed_documents.side_effect = [EMBEDDING.embed_documents(TEXTS)]
    embedding.embed_query.return_value = EMBEDDING.embed_query(TEXTS[1])
    with filled(path, embedding) as store:
        assert store.similarity_search("whatever", 1)[0].id == "b"
    embedding.embed_documents.assert_called_once_with(TEXTS)
    embedding.embed_query.assert_called_once_with("whatever")


def test_a_mock_over_a_store_that_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path / "kb").close()
    embedding = MagicMock(spec=Embeddings)
    embedding.embed_documents.side_effect = StopIteration
    embedding.embed_query.return_value = EMBEDDING.embed_query(TEXTS[1])
    with OctavoVectorStore(embedding, tmp_path / "kb") as store, caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert store.similarity_search("whatever", 1)[0].id == "b"
    assert embedding.embed_documents.call_count <= 3
    assert "StopIteration" in caplog.text


def test_without_its_embedding_a_store_still_serves(tmp_path: Path) -> None:
    filled(tmp_path / "kb").close()
    with OctavoVectorStore(Down(), tmp_path / "kb") as store:
        assert store.count({"n": {"$gte": 1}}) == 2
        assert store.get_by_ids(["a"])[0].page_content == "one apple"
        assert store.similarity_search("pears", mode="text")[0].id == "b"
        assert store.similarity_search_by_vector(EMBEDDING.embed_query("two pears"), 1)[0].id == "b"
        store.delete(["a"])
        for attempt in (lambda: store.add_texts(["x"]), lambda: store.similarity_search("x")):
            with pytest.raises(ConnectionError):
                attempt()
        assert store.count() == 2


@pytest.mark.parametrize("codec", ["int8", "binary", "svd:50%|int8"])
def test_another_model_of_the_same_dimension_is_refused_before_anything_is_written(tmp_path: Path, codec: str) -> None:
    class Other(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return EMBEDDING.embed_documents([f"{text}!" for text in texts])

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    filled(tmp_path / "kb", codec=codec, fit_after=2).close()
    with OctavoVectorStore(Other(), tmp_path / "kb") as store:
        for attempt in (
            lambda: store.add_texts(["x"]),
            lambda: store.similarity_search("x"),
            lambda: store.max_marginal_relevance_search("x"),
        ):
            with pytest.raises(MismatchError, match="stored document"):
                attempt()
        assert store.count() == 3
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
        assert store.similarity_search("two pears", 1)[0].id == "b"


def as_embedding(convert: Any) -> Embeddings:
    class Converted(Embeddings):
        def embed_documents(self, texts: list[str]) -> Any:
            return convert(EMBEDDING.embed_documents(texts))

        def embed_query(self, text: str) -> Any:
            return convert([EMBEDDING.embed_query(text)])[0]

    return Converted()


def _torch(rows: list[list[float]], **options: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.tensor(rows, requires_grad=options.pop("grad", False), **options)


GOOD = {
    "lists": lambda rows: rows,
    "tuples": lambda rows: tuple(tuple(row) for row in rows),
    "array": lambda rows: np.array(rows, np.float32),
    "float16": lambda rows: np.array(rows, np.float16),
    "bfloat16": lambda rows: np.array(rows).astype(ml_dtypes.bfloat16),
    "list of arrays": lambda rows: [np.array(row) for row in rows],
    "numpy floats": lambda rows: [[np.float32(value) for value in row] for row in rows],
    "tensor": _torch,
    "tensor with grad": lambda rows: _torch(rows, grad=True),
    "bfloat16 tensor": lambda rows: _torch(rows).bfloat16(),
    "list of tensors": lambda rows: list(_torch(rows, grad=True)),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("n", [3, 100])
def test_vectors_of_any_kind(kind: str, n: int) -> None:
    texts = [f"text {i}" for i in range(n)]
    with OctavoVectorStore(as_embedding(GOOD[kind]), codec="float32") as store:
        store.add_texts(texts, ids=texts)
        assert store.similarity_search("text 2", 1)[0].id == "text 2"
        expected = np.array(EMBEDDING.embed_documents(texts))
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(store.collection.get_vectors(texts), expected, atol=4e-3)


BAD = {
    "too deep": lambda rows: [[row] for row in rows],
    "flat": lambda rows: rows[0],
    "too few": lambda rows: rows[:-1],
    "ragged": lambda rows: [row[: 16 - i] for i, row in enumerate(rows)],
    "nan": lambda rows: [[float("nan")] * 16, *rows[1:]],
    "words": lambda rows: [["a"] * 16 for _ in rows],
    "none": lambda rows: [None for _ in rows],
    "nothing": lambda rows: [[] for _ in rows],
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("n", [3, 100])
def test_vectors_that_are_none_are_one_clear_error(kind: str, n: int) -> None:
    with OctavoVectorStore(as_embedding(BAD[kind])) as store:
        with pytest.raises((InvalidVectorsError, InputTypeError), match="expected"):
            store.add_texts([f"text {i}" for i in range(n)])
        assert store.count() == 0


def test_a_query_vector_that_is_none(path: Path | None) -> None:
    class Nested(Words):
        def embed_query(self, text: str) -> Any:
            return [super().embed_query(text)]

    with filled(path, Nested(*TEXTS)) as store, pytest.raises(InvalidVectorsError, match="embed_query to return one"):
        store.similarity_search(TEXTS[0])


def test_vectors_of_zeros(path: Path | None) -> None:
    class Zero(Words):
        def embed_documents(self, texts: list[str]) -> Any:
            return [[0.0] * 16 if not text else self.table[text] for text in texts]

        def embed_query(self, text: str) -> Any:
            return self.embed_documents([text])[0]

    with filled(path, Zero(*TEXTS)) as store:
        store.add_texts([""], [{"n": 3}], ids=["empty"])
        found = store.similarity_search_with_score("", 9, {"n": {"$gte": 2}})
        assert {document.id for document, _ in found} == {"c", "empty"}
        assert [score for _, score in found] == [0.0, 0.0]
        scores = {document.id: score for document, score in store.similarity_search_with_score(TEXTS[0], 9)}
        assert scores["empty"] == 0.0


# ---------------------------------------------------------------------- working directories and links


def test_a_relative_path_stays_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    plain = filled(Path("kb"))
    named = filled(Path("root"), collection_name="Acme & Söhne")
    pickled = pickle.dumps((plain, named, OctavoRetriever(vectorstore=plain)))
    monkeypatch.chdir(tmp_path / "elsewhere")
    plain.add_texts(["four"], ids=["d"])
    named.add_texts(["four"], ids=["d"])
    for again in pickle.loads(pickled)[:2]:
        assert again.count() == 4
        again.close()
    assert OctavoVectorStore.list_collections(tmp_path / "root") == ["Acme & Söhne"]
    named.delete_collection()
    plain.close()
    assert os.listdir() == []
    assert OctavoVectorStore.list_collections(tmp_path / "root") == []


@pytest.mark.parametrize(("bad", "error"), [("", ParameterError), (b"kb", InputTypeError), (3, InputTypeError)])
@pytest.mark.parametrize(
    "call",
    [
        lambda path: OctavoVectorStore(EMBEDDING, path),
        lambda path: OctavoVectorStore(EMBEDDING, path, collection_name="x"),
        lambda path: filled().save_local(path),
        lambda path: OctavoVectorStore.load_local(path, EMBEDDING),
        lambda path: OctavoVectorStore.list_collections(path),
        lambda path: LateInteractionRetriever(path, _letters),
    ],
    ids=["open", "named", "save", "load", "list", "late"],
)
def test_an_empty_path_is_an_error(
    call: Any, bad: Any, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match="path"):
        call(bad)
    assert os.listdir() == []


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_save_local_keeps_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    with filled() as store:
        store.save_local(tmp_path / "link")
        store.delete(["a"])
        store.save_local(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
    for place in ("link", "real"):
        with OctavoVectorStore.load_local(tmp_path / place, EMBEDDING) as loaded:
            assert loaded.count() == 2
    with OctavoVectorStore.load_local(tmp_path / "link", EMBEDDING) as loaded:
        loaded.save_local(tmp_path / "real")  # the same place: nothing is copied over itself
        assert loaded.count() == 2
        assert loaded.collection.verify().ok


# ---------------------------------------------------------------------- copies


def _count(store: OctavoVectorStore) -> tuple[int, str | None]:
    with store:
        return store.count(), store.similarity_search("two pears", 1)[0].id


@pytest.mark.parametrize("options", [{}, {"collection_name": "tenant"}, {"read_only": True}])
def test_a_store_on_a_path_travels_as_a_reference(tmp_path: Path, options: dict[str, Any]) -> None:
    read_only = options.pop("read_only", False)
    filled(tmp_path / "kb", codec="float8", metric="cosine", **options).close()
    store = OctavoVectorStore(EMBEDDING, tmp_path / "kb", read_only=read_only, relevance_score_fn=abs, **options)
    for twin in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        assert twin.collection is not store.collection
        assert twin.collection.path == store.collection.path
        assert twin.collection_name == store.collection_name
        assert twin.collection.codec == "float8"
        assert twin._select_relevance_score_fn() is abs
        if read_only:
            with pytest.raises(PermissionError):
                twin.add_texts(["x"])
        else:
            twin.add_texts(["more"], ids=["m"])
            assert store.get_by_ids(["m"])[0].page_content == "more"
        twin.close()
        assert not store.collection.closed
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(_count, (store,)) == (store.count(), "b")
    store.close()
    again = pickle.loads(pickle.dumps(store))  # a closed one is a reference still
    assert again.count() >= 3
    again.close()


def test_a_reference_to_what_is_gone_creates_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "kb")
    data = pickle.dumps(store)
    store.delete_collection()
    with pytest.raises(CollectionNotFoundError):
        pickle.loads(data)
    assert not (tmp_path / "kb").exists()


def test_a_store_in_memory_is_copied_and_not_pickled() -> None:
    with filled(codec="int8", fit_after=2) as store:
        with pytest.raises(TypeError, match="save_local"):
            pickle.dumps(store)
        twin = copy.deepcopy(store)
        assert twin.similarity_search_with_score("two pears", 3) == store.similarity_search_with_score("two pears", 3)
        twin.delete(["a"])
        twin.add_texts(["four"], ids=["d"])
        assert (twin.count(), store.count()) == (3, 3)
        assert store.get_by_ids(["d"]) == []
        twin.close()
        assert not store.collection.closed
        same = copy.copy(store)
        assert same.collection is store.collection


def test_a_store_around_a_collection_of_the_callers(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        store = OctavoVectorStore(EMBEDDING, collection=kb)
        store.add_texts(TEXTS)
        twin = pickle.loads(pickle.dumps(store))
        assert twin.similarity_search("two pears", 1)[0].page_content == "two pears"
        twin.close()
        assert twin.collection.closed
        assert not kb.closed


@pytest.mark.parametrize("kind", ["retriever", "ours"])
def test_retrievers_are_copied_and_pickled(tmp_path: Path, kind: str) -> None:
    store = filled(tmp_path / "kb")
    retriever: Any = (
        store.as_retriever(search_kwargs={"k": 1})
        if kind == "retriever"
        else OctavoRetriever(vectorstore=store, mode="hybrid", k=1, score_key="score")
    )
    expected = retriever.invoke("two pears")
    for twin in (
        pickle.loads(pickle.dumps(retriever)),
        copy.deepcopy(retriever),
        retriever.model_copy(deep=True),
        retriever.model_copy(update={"tags": ["x"]}),
    ):
        assert twin.invoke("two pears") == expected
    store.close()


def _letters(texts: list[str]) -> Any:
    return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]


def test_late_retrievers_are_copied_and_pickled(tmp_path: Path) -> None:
    with LateInteractionRetriever.from_texts(["red", "green"], _letters, ids=["r", "g"], path=tmp_path / "kb") as one:
        for twin in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
            assert twin.invoke("ren", k=1)[0].id == "g"
            twin.close()
    with LateInteractionRetriever.from_texts(["red", "green"], _letters, ids=["r", "g"]) as one:
        twin = copy.deepcopy(one)
        twin.delete(["g"])
        assert [document.id for document in one.invoke("ren", k=1)] == ["g"]
        twin.close()


# ---------------------------------------------------------------------- ids and metadata


def test_ids_that_are_integers(path: Path | None) -> None:
    with OctavoVectorStore(EMBEDDING, path) as store:
        assert store.add_texts(["x", "y"], ids=[1, np.int64(2)]) == ["1", "2"]  # type: ignore[list-item]
        assert [document.id for document in store.get_by_ids([2, 1])] == ["2", "1"]  # type: ignore[list-item]
        store.delete([1])  # type: ignore[list-item]
        assert store.count() == 1
        for bad in (True, 1.5, UUID(int=1)):
            with pytest.raises(InputTypeError, match=r"position 1.*str\(id\)"):
                store.add_texts(["x", "y"], ids=["a", bad])  # type: ignore[list-item]


def test_the_same_id_twice_names_both_places(path: Path | None) -> None:
    with OctavoVectorStore(EMBEDDING, path) as store:
        with pytest.raises(ParameterError, match=r"'a' twice, at positions 0 and 2; .*two calls"):
            store.add_texts(["x", "y", "z"], ids=["a", "b", "a"])
        with pytest.raises(ParameterError, match="positions 300 and 600"):
            store.add_texts(map(str, range(700)), ids=(str(n % 300 if n > 299 else -n - 1) for n in range(700)))


@pytest.mark.parametrize("place", ["text", "id", "key"])
def test_surrogates_are_named_with_the_documents_place_before_anything_is_embedded(
    path: Path | None, place: str
) -> None:
    words = Words(*TEXTS)
    texts, ids, metadatas = list(TEXTS), ["a", "b", "c"], [{}, {}, {}]
    if place == "text":
        texts[1] = "\ud800"
    elif place == "id":
        ids[1] = "\ud800"
    else:
        metadatas[1] = {"\ud800": 1}
    with OctavoVectorStore(words, path) as store:
        with pytest.raises(ParameterError, match=r"document 1.*surrogate"):
            store.add_texts(texts, metadatas, ids=ids)
        assert store.count() == 0
    assert words.asked == []


class Key(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
    SOURCE = "source"


def test_metadata_comes_back_equal_and_is_found(path: Path | None) -> None:
    metadatas: list[dict[str, Any]] = [
        {Key.SOURCE: "a", "at": datetime(2024, 5, 1, 12, tzinfo=UTC), "pair": (1, 2), "size": np.float32(0.5)},
        {Key.SOURCE: Key.SOURCE, "at": date(2024, 5, 2), "flag": np.bool_(True), "n": np.int64(3)},
        {"at": "2024-05-01"},
    ]
    with OctavoVectorStore(EMBEDDING, path) as store:
        store.add_texts(TEXTS, metadatas, ids=["a", "b", "c"])
        found = [document.metadata for document in store.get_by_ids(["a", "b", "c"])]
        assert found == metadatas
        assert type(found[0]["pair"]) is tuple
        assert [type(value) for value in (found[0]["size"], found[1]["flag"], found[1]["n"])] == [float, bool, int]

        def ids(where: Any) -> list[str]:
            return sorted(str(document.id) for document in store.similarity_search("x", 9, where))

        assert ids({"source": "a"}) == ["a"]
        assert ids({"source": "source"}) == ["b"]
        assert ids({"at": {"$gt": datetime(2024, 5, 1, tzinfo=UTC)}}) == ["a", "b"]
        assert ids({"at": {"$lt": "2024-05-02"}}) == ["a", "c"]
        assert ids(lambda document: document.metadata["at"] == date(2024, 5, 2)) == ["b"]
        parsed = {"type": "date", "date": "2024-05-01"}
        assert ids(Comparison(comparator=Comparator.GTE, attribute="at", value=parsed)) == ["a", "b", "c"]
        assert ids(Comparison(comparator=Comparator.GT, attribute="at", value=parsed)) == ["a", "b"]
        assert ids(Comparison(comparator=Comparator.EQ, attribute="at", value=parsed)) == ["c"]
        assert ids(Comparison(comparator=Comparator.IN, attribute="source", value="a")) == ["a"]
        assert ids(Comparison(comparator=Comparator.NIN, attribute="source", value="a")) == ["b", "c"]


@pytest.mark.parametrize("value", [Decimal("1.1"), UUID(int=1), Path("a"), {1}, b"x", float("nan"), object()], ids=repr)
def test_metadata_without_one_meaning_is_refused_before_anything_is_embedded(path: Path | None, value: Any) -> None:
    words = Words(*TEXTS)
    with OctavoVectorStore(words, path) as store:
        with pytest.raises((InputTypeError, ParameterError), match=r"document 2.*'deep\.key'"):
            store.add_documents(
                [Document(page_content=text) for text in TEXTS[:2]]
                + [Document(page_content=TEXTS[2], metadata={"deep": {"key": value}})]
            )
        assert store.count() == 0
    assert words.asked == []


def test_what_a_retriever_passes_on_is_taken_and_the_unknown_refused(path: Path | None) -> None:
    with OctavoVectorStore(EMBEDDING, path) as store:
        store.add_documents([Document(page_content="x")], current_time=datetime(2024, 5, 1))
        with pytest.raises(TypeError, match="timeout"):
            store.add_documents([Document(page_content="y")], timeout=3)
        with pytest.raises(OctavoError, match="twice"):
            store.add_documents([Document(id="a", page_content="y")] * 2)
        assert store.count() == 1


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]  # drafts
