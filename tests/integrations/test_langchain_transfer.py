"""Ready vectors, folders, merging, and several collections in one directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from octavo import _files as _fs
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    InputTypeError,
    InvalidVectorsError,
    MismatchError,
    ParameterError,
)
from octavo.integrations.langchain import OctavoRecordManager, OctavoVectorStore
from octavo.integrations.langchain._names import directory_name, list_names, remember_name

EMBEDDING = DeterministicFakeEmbedding(size=12)
TEXTS = ["one", "two", "three"]


def pairs(texts: list[str] = TEXTS) -> list[tuple[str, list[float]]]:
    return list(zip(texts, EMBEDDING.embed_documents(texts), strict=True))


class QueriesOnly(Embeddings):
    """Must not be asked for documents that come with their vectors."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError("these documents have vectors already")

    def embed_query(self, text: str) -> list[float]:
        return EMBEDDING.embed_query(text)


# ---------------------------------------------------------------------- ready vectors


def test_from_embeddings_equals_from_texts() -> None:
    options: dict[str, Any] = {"metadatas": [{"n": n} for n in range(3)], "ids": list("abc"), "codec": "float16"}
    with (
        OctavoVectorStore.from_embeddings(iter(pairs()), QueriesOnly(), **options) as given_vectors,
        OctavoVectorStore.from_texts(TEXTS, EMBEDDING, **options) as embedded,
    ):
        assert given_vectors.similarity_search_with_score("two", 3) == embedded.similarity_search_with_score("two", 3)


def test_add_embeddings(tmp_path: Path) -> None:
    with OctavoVectorStore(QueriesOnly(), tmp_path / "kb") as store:
        assert store.add_embeddings(zip(TEXTS, EMBEDDING.embed_documents(TEXTS), strict=True), ids=list("abc")) == list(
            "abc"
        )
        assert store.add_embeddings([]) == []
        assert store.similarity_search("two", 1)[0].id == "b"
        assert len(store.add_embeddings(pairs(["four"]), [{"n": 4}])) == 1
        for bad, error in (
            ({"ids": ["a"]}, ParameterError),
            ({"metadatas": [{}, {}]}, ParameterError),
            ({"ids": ["a", "a", "b"]}, ParameterError),
        ):
            with pytest.raises(error):
                store.add_embeddings(pairs(), **bad)  # type: ignore[arg-type]
        with pytest.raises(InputTypeError, match="pairs"):
            store.add_embeddings(TEXTS)  # type: ignore[arg-type]
        with pytest.raises(InvalidVectorsError):
            store.add_embeddings([("x", [1.0] * 12), ("y", [1.0] * 11)])
        with pytest.raises(InvalidVectorsError):
            store.add_embeddings([("x", [float("nan")] * 12)])
        assert store.count() == 4


# ---------------------------------------------------------------------- folders


@pytest.mark.parametrize("codec", ["int8", "binary > int8"])
def test_save_and_load(tmp_path: Path, codec: str) -> None:
    with OctavoVectorStore.from_texts(
        TEXTS, EMBEDDING, [{"n": n} for n in range(3)], codec=codec, fit_after=2
    ) as store:
        before = store.similarity_search_with_score("two", 3)
        store.save_local(tmp_path / "folder")
        store.add_texts(["later"])
    with OctavoVectorStore.load_local(tmp_path / "folder", EMBEDDING) as loaded:
        assert loaded.similarity_search_with_score("two", 3) == before
        assert loaded.collection.codec == codec
        assert loaded.collection.verify().ok
        loaded.add_texts(["more"])
    with OctavoVectorStore.load_local(str(tmp_path / "folder"), EMBEDDING) as loaded:
        assert loaded.count() == 4


def test_saving_again_replaces_the_collection(tmp_path: Path) -> None:
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING) as store:
        store.save_local(tmp_path / "deep" / "folder")
        store.delete()
        store.add_texts(["four"], ids=["d"])
        store.save_local(tmp_path / "deep" / "folder")
    with OctavoVectorStore.load_local(tmp_path / "deep" / "folder", EMBEDDING) as loaded:
        assert loaded.collection.ids() == ["d"]
    assert os.listdir(tmp_path / "deep") == ["folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_collection_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING) as store:
        store.save_local(tmp_path / "folder")
        (tmp_path / "folder" / "thesis.txt").write_text("years of work")
        store.delete()
        monkeypatch.setattr(_fs, "_renameat2", lambda: lambda one, other: code)
        with pytest.raises(OSError) as caught:
            store.save_local(tmp_path / "folder")
    assert caught.value.errno == code
    assert os.listdir(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "thesis.txt").exists()
    with OctavoVectorStore.load_local(tmp_path / "folder", EMBEDDING) as loaded:
        assert loaded.count() == len(TEXTS)


def test_saving_in_place_and_elsewhere(tmp_path: Path) -> None:
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING, path=tmp_path / "kb") as store:
        index = OctavoRecordManager(store)
        index.update(store.collection.ids())
        store.save_local(tmp_path / "kb")
        store.save_local(tmp_path / "kb" / ".." / "copy")
        store.save_local(tmp_path / "tenants", "copy")
        assert store.count() == 3
    with OctavoVectorStore.load_local(tmp_path / "copy", EMBEDDING) as copied:
        assert len(OctavoRecordManager(copied).list_keys()) == 3
    with OctavoVectorStore.load_local(tmp_path / "tenants", EMBEDDING, "copy") as copied:
        assert copied.count() == 3
    assert OctavoVectorStore.list_collections(tmp_path / "tenants") == ["copy"]


def test_saving_never_touches_what_is_no_collection(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING) as store:
        with pytest.raises(ParameterError):
            store.save_local(tmp_path / "mine")
        store.save_local(tmp_path / "kb")
        with OctavoVectorStore.load_local(tmp_path / "kb", EMBEDDING) as loaded:
            assert loaded.similarity_search("one", mode="text")  # makes the folder of the full-text index
        (tmp_path / "kb" / "notes").mkdir()
        (tmp_path / "kb" / "notes" / "thesis.txt").write_text("years of work")
        store.delete(store.collection.ids()[:1])
        store.save_local(tmp_path / "kb")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "kb" / "notes" / "thesis.txt").read_text() == "years of work"
    assert sorted(os.listdir(tmp_path)) == ["kb", "mine"]
    with OctavoVectorStore.load_local(tmp_path / "kb", EMBEDDING) as loaded:
        assert loaded.count() == 2


def test_saving_that_fails_leaves_the_old_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OctavoVectorStore.from_texts(TEXTS, EMBEDDING) as store:
        store.save_local(tmp_path / "kb")
        store.delete()

        def failing(path: Any = None) -> Any:
            raise OSError("the disk is full")

        monkeypatch.setattr(store.collection, "copy", failing)
        with pytest.raises(OSError, match="full"):
            store.save_local(tmp_path / "kb")
    with OctavoVectorStore.load_local(tmp_path / "kb", EMBEDDING) as loaded:
        assert loaded.count() == 3
    assert os.listdir(tmp_path) == ["kb"]


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CollectionNotFoundError):
        OctavoVectorStore.load_local(tmp_path / "nope", EMBEDDING)
    with pytest.raises(CollectionNotFoundError):
        OctavoVectorStore.load_local(tmp_path, EMBEDDING, "nope")
    assert not (tmp_path / "nope").exists()
    assert os.listdir(tmp_path) == []


def test_there_is_nothing_dangerous_to_allow(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="nothing dangerous"):
        OctavoVectorStore.load_local(tmp_path, EMBEDDING, allow_dangerous_deserialization=True)
    with pytest.raises(ParameterError, match="collection_name"):
        OctavoVectorStore.load_local(tmp_path, EMBEDDING, index_name="index")


# ---------------------------------------------------------------------- merging


def test_merge_from() -> None:
    with (
        OctavoVectorStore.from_texts(["one", "two"], EMBEDDING, [{"n": 1}, {"n": 2}], ids=["a", "b"]) as left,
        OctavoVectorStore.from_texts(["zwei", "drei"], EMBEDDING, [{"n": 2}, {"n": 3}], ids=["b", "c"]) as right,
    ):
        assert left.merge_from(right) == 2
        assert left.count() == 3
        assert right.count() == 2
        assert left.get_by_ids(["b"])[0].page_content == "zwei"
        document, score = left.similarity_search_with_score("drei", 1)[0]
        assert (document.id, document.metadata) == ("c", {"n": 3})
        assert score == pytest.approx(1.0, abs=1e-3)


def test_merge_many(tmp_path: Path) -> None:
    texts = [str(n) for n in range(1500)]
    with (
        OctavoVectorStore(EMBEDDING, tmp_path / "kb") as target,
        OctavoVectorStore.from_texts(texts, EMBEDDING, ids=texts) as source,
    ):
        target.merge_from(source)
        assert target.count() == 1500
        assert target.similarity_search("777", 1)[0].id == "777"


def test_merging_what_cannot_be_merged(tmp_path: Path) -> None:
    with (
        OctavoVectorStore.from_texts(["one"], EMBEDDING, path=tmp_path / "kb") as store,
        OctavoVectorStore(EMBEDDING, tmp_path / "kb") as again,
        OctavoVectorStore.from_texts(["one"], EMBEDDING, metric="dot") as dot,
        OctavoVectorStore.from_texts(["one"], DeterministicFakeEmbedding(size=5)) as short,
    ):
        for other in (store, again):
            with pytest.raises(ParameterError, match="same"):
                store.merge_from(other)
        with pytest.raises(MismatchError, match="normalised"):
            dot.merge_from(store)
        with pytest.raises(MismatchError, match="dimension"):
            store.merge_from(short)
        with pytest.raises(InputTypeError):
            store.merge_from("kb")  # type: ignore[arg-type]
        assert store.merge_from(dot) == 1


# ---------------------------------------------------------------------- named collections

NASTY = [
    "../escape",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "CON",
    "nul",
    "x" * 300,
    "ünï",
    "日本" * 60,
    "a\0b",
    " ",
    "A",
    "a",
]


def test_names_do_not_meet_and_do_not_escape(tmp_path: Path) -> None:
    for number, name in enumerate(NASTY):
        with OctavoVectorStore(EMBEDDING, tmp_path / "root", collection_name=name) as store:
            assert store.count() == 0
            store.add_texts([f"text {number}"], ids=[str(number)])
    assert OctavoVectorStore.list_collections(tmp_path / "root") == sorted(NASTY)
    assert os.listdir(tmp_path) == ["root"]
    folders = [name.lower() for name in os.listdir(tmp_path / "root")]
    assert len(folders) == len(set(folders))
    assert all(len(name.encode()) <= 255 for name in folders)
    for number, name in enumerate(NASTY):
        with OctavoVectorStore(EMBEDDING, tmp_path / "root", collection_name=name, must_exist=True) as store:
            assert store.collection.ids() == [str(number)]
            assert store.collection_name == name


@settings(max_examples=200, deadline=None)
@given(first=st.text(min_size=1, max_size=300), second=st.text(min_size=1, max_size=300))
def test_directory_names_are_safe_and_distinct(first: str, second: str) -> None:
    try:
        a, b = directory_name(first), directory_name(second)
    except ParameterError:
        assert any("\ud800" <= character <= "\udfff" for character in first + second)
        return
    assert (a == b) == (first == second)
    for name in (a, b):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-%")
        assert 2 < len(name) <= 255


def test_bad_names(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        with pytest.raises(ParameterError, match="at least one"):
            OctavoVectorStore(EMBEDDING, path, collection_name="")
        with pytest.raises(InputTypeError, match="str"):
            OctavoVectorStore(EMBEDDING, path, collection_name=3)  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match="Unicode"):
            OctavoVectorStore(EMBEDDING, path, collection_name="\ud800")
    assert os.listdir(tmp_path) == []


def test_listing_skips_what_is_none_of_ours(tmp_path: Path) -> None:
    assert OctavoVectorStore.list_collections(tmp_path / "nope") == []
    OctavoVectorStore(EMBEDDING, tmp_path, collection_name="real").close()
    for folder in ("c-%zz", "c-%41", "other", "c-empty", "h-x-1", "c-UPPER"):
        (tmp_path / folder).mkdir()
        if folder != "c-empty":
            (tmp_path / folder / "octavo.db").write_bytes(b"")
    remember_name(tmp_path, "y" * 300)  # remembered, but its collection was never made
    assert list_names(tmp_path) == ["A", "real"]


def test_delete_collection(tmp_path: Path) -> None:
    names = ["a", "b", "z" * 300]
    stores = [OctavoVectorStore.from_texts(TEXTS, EMBEDDING, path=tmp_path, collection_name=name) for name in names]
    stores[0].delete_collection()
    stores[2].delete_collection()
    with pytest.raises(CollectionClosedError):
        stores[0].similarity_search("one")
    assert OctavoVectorStore.list_collections(tmp_path) == ["b"]
    assert len(os.listdir(tmp_path)) == 1
    assert stores[1].count() == 3
    stores[1].close()
    with OctavoVectorStore(EMBEDDING, tmp_path, collection_name="a") as fresh:
        assert fresh.count() == 0


def test_delete_collection_leaves_other_files_alone(tmp_path: Path) -> None:
    with OctavoVectorStore(EMBEDDING, tmp_path, collection_name="tenant") as tenant:
        tenant.add_texts(TEXTS)
        store = OctavoVectorStore.from_texts(TEXTS, EMBEDDING, path=tmp_path)
        (tmp_path / "thesis.txt").write_text("years of work")
        store.delete_collection()
        assert tenant.count() == 3
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert OctavoVectorStore.list_collections(tmp_path) == ["tenant"]
    store = OctavoVectorStore.from_texts(TEXTS, EMBEDDING)
    store.delete_collection()
    with pytest.raises(CollectionClosedError):
        store.count()
