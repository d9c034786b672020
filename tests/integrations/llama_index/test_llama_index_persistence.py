"""Saving, loading, pickling, copying."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import Document, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import VectorStoreQuery

import octavo
from octavo.errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    InputTypeError,
    MismatchError,
    ParameterError,
    ReadOnlyError,
)
from octavo.integrations.llama_index import OctavoVectorStore

MakeStore = Callable[..., OctavoVectorStore]

POINTER = "default__vector_store.json"


def snapshot(store: OctavoVectorStore, query: TextNode) -> Any:
    found = store.query(VectorStoreQuery(query_embedding=query.embedding, similarity_top_k=6))
    return found.ids, found.similarities, [node.model_dump() for node in store.get_nodes()]


@pytest.fixture
def memory() -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    fs = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"
    yield fs, root
    if fs.exists(root):
        fs.rm(root, recursive=True)


def copies(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".octavo")


# ---------------------------------------------------------------------- persist and from_persist_*


def test_round_trip_on_this_machine(store: OctavoVectorStore, library: list[TextNode], tmp_path: Path) -> None:
    store.add(library)
    store.delete("d3")
    expected = snapshot(store, library[1])
    path = tmp_path / "saved" / "deeper" / POINTER
    store.persist(str(path))
    store.add([library[11]])  # not part of what was saved
    store.close()
    loaded = OctavoVectorStore.from_persist_path(str(path))
    assert snapshot(loaded, library[1]) == expected
    assert loaded.client.codec == store.client.codec
    assert loaded.client.verify().ok
    loaded.close()
    by_dir = OctavoVectorStore.from_persist_dir(str(path.parent))
    assert snapshot(by_dir, library[1]) == expected
    by_dir.close()


def test_round_trip_on_another_file_system(
    store: OctavoVectorStore, library: list[TextNode], memory: tuple[fsspec.AbstractFileSystem, str]
) -> None:
    fs, root = memory
    store.add(library)
    expected = snapshot(store, library[1])
    store.persist(f"{root}/a/{POINTER}", fs=fs)
    loaded = OctavoVectorStore.from_persist_dir(f"{root}/a", fs=fs)
    assert snapshot(loaded, library[1]) == expected
    loaded.clear()  # lives in memory, away from what was saved
    assert snapshot(OctavoVectorStore.from_persist_dir(f"{root}/a/", fs=fs), library[1]) == expected


def test_loading_from_another_file_system_to_a_path(
    make_store: MakeStore, library: list[TextNode], memory: tuple[fsspec.AbstractFileSystem, str], tmp_path: Path
) -> None:
    fs, root = memory
    store = make_store(codec="binary > int8", fit_after=8)
    store.add(library)
    store.persist(f"{root}/{POINTER}", fs=fs)
    with pytest.raises(ParameterError, match="path="):
        OctavoVectorStore.from_persist_dir(root, fs=fs, read_only=True)
    loaded = OctavoVectorStore.from_persist_dir(root, fs=fs, path=tmp_path / "here", read_only=True)
    assert snapshot(loaded, library[1]) == snapshot(store, library[1])
    assert loaded.path == str(tmp_path / "here")
    with pytest.raises(ReadOnlyError):
        loaded.clear()
    loaded.close()


@pytest.mark.parametrize("kind", ["local", "directory"])
def test_file_systems_that_are_this_machine_after_all(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path, kind: str
) -> None:
    fs = LocalFileSystem() if kind == "local" else DirFileSystem(str(tmp_path), LocalFileSystem())
    folder = f"{tmp_path}/saved" if kind == "local" else "saved"
    store = make_store()
    store.add(library)
    StorageContext.from_defaults(vector_store=store).persist(folder, fs=fs)
    assert (tmp_path / "saved" / POINTER).is_file()
    loaded = OctavoVectorStore.from_persist_dir(folder, fs=fs)
    assert snapshot(loaded, library[1]) == snapshot(store, library[1])
    loaded.close()


def test_a_loaded_store_is_durable_where_it_lies(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path
) -> None:
    store = make_store()
    store.add(library[:6])
    store.persist(str(tmp_path / "saved" / POINTER))
    loaded = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"))
    loaded.add(library[6:])
    loaded.close()
    again = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"))
    assert len(again.client) == 12
    again.close()
    apart = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"), path=tmp_path / "apart")
    apart.clear()
    apart.close()
    again = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"), read_only=True)
    assert len(again.client) == 12
    again.close()


def test_persist_replaces_what_was_there(make_store: MakeStore, library: list[TextNode], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    store = make_store()
    for number in (3, 5):
        store.add(library[:number])
        store.persist(str(folder / POINTER))
        assert len(copies(folder)) == 1
        loaded = OctavoVectorStore.from_persist_dir(str(folder))
        assert len(loaded.client) == number
        loaded.close()
    # a file of the framework's own store gives way, too
    SimpleVectorStore().persist(str(folder / POINTER))
    store.persist(str(folder / POINTER))
    OctavoVectorStore.from_persist_dir(str(folder)).close()


def test_persist_replaces_what_was_there_elsewhere(
    make_store: MakeStore, library: list[TextNode], memory: tuple[fsspec.AbstractFileSystem, str]
) -> None:
    fs, root = memory
    store = make_store()
    for number in (3, 5):
        store.add(library[:number])
        store.persist(f"{root}/{POINTER}", fs=fs)
        assert len(fs.ls(root)) == 2
        assert len(OctavoVectorStore.from_persist_dir(root, fs=fs).client) == number


def test_a_collection_that_lies_there_already_is_not_copied(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path
) -> None:
    for name in ("storage/kb", "storage2"):
        store = make_store(name)
        store.add(library)
        folder = tmp_path / name.partition("/")[0]
        store.persist(str(folder / POINTER))
        assert copies(folder) == []
        store.persist(str(folder / POINTER))
        store.close()
        folder = folder.rename(tmp_path / f"moved-{folder.name}")
        loaded = OctavoVectorStore.from_persist_dir(str(folder))
        assert len(loaded.client) == 12
        loaded.persist(str(folder / POINTER))
        assert copies(folder) == []
        loaded.close()


def test_saving_a_loaded_store_again_keeps_it(make_store: MakeStore, library: list[TextNode], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    store = make_store()
    store.add(library[:3])
    store.persist(str(folder / POINTER))
    loaded = OctavoVectorStore.from_persist_dir(str(folder))
    loaded.add(library)
    loaded.persist(str(folder / POINTER))
    loaded.close()
    again = OctavoVectorStore.from_persist_dir(str(folder))
    assert len(again.client) == 12
    again.close()


def test_a_crash_while_saving_keeps_the_earlier_copy(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    store = make_store()
    store.add(library[:3])
    store.persist(str(folder / POINTER))
    store.add(library)

    def broken(source: Any, target: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("octavo.integrations.llama_index._persistence.os.replace", broken)
        with pytest.raises(OSError, match="no space"):
            store.persist(str(folder / POINTER))
    loaded = OctavoVectorStore.from_persist_dir(str(folder))
    assert len(loaded.client) == 3
    loaded.close()


def test_a_saved_folder_can_be_moved(make_store: MakeStore, library: list[TextNode], tmp_path: Path) -> None:
    store = make_store("kb")
    store.add(library)
    store.persist(str(tmp_path / "saved" / POINTER))
    store.close()
    shutil.rmtree(tmp_path / "kb")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    loaded = OctavoVectorStore.from_persist_dir(str(tmp_path / "moved"))
    assert len(loaded.client) == 12
    loaded.close()


def test_namespaces(make_store: MakeStore, library: list[TextNode], tmp_path: Path) -> None:
    first, second = make_store(), make_store(codec="float8", fit_after=3)
    first.add(library[:4])
    second.add(library[4:])
    context = StorageContext.from_defaults(vector_store=first)
    context.add_vector_store(second, "german")
    context.persist(str(tmp_path / "saved"))
    found = OctavoVectorStore.from_namespaced_persist_dir(str(tmp_path / "saved"))
    assert {name: len(store.client) for name, store in found.items()} == {"default": 4, "german": 8}
    both = StorageContext.from_defaults(persist_dir=str(tmp_path / "saved"), vector_stores=found)
    assert both.vector_store is found["default"]
    german = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"), namespace="german")
    assert german.client.codec == "float8"
    for store in (*found.values(), german):
        store.close()


# ---------------------------------------------------------------------- StorageContext


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_storage_context_round_trip(
    make_store: MakeStore, embedding: BaseEmbedding, tmp_path: Path, place: str
) -> None:
    store = make_store("kb" if place == "disk" else None)
    documents = [Document(id_=f"d{i}", text=text) for i, text in enumerate(["apple pie", "steam engine", "violin"])]
    index = VectorStoreIndex.from_documents(
        documents, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedding
    )
    folder = str(tmp_path / "storage")
    index.storage_context.persist(folder)
    store.close()
    loaded_store = OctavoVectorStore.from_persist_dir(folder)
    context = StorageContext.from_defaults(persist_dir=folder, vector_store=loaded_store)
    loaded = load_index_from_storage(context, embed_model=embedding)
    assert loaded.index_id == index.index_id
    assert [hit.text for hit in loaded.as_retriever(similarity_top_k=1).retrieve("engine")] == ["steam engine"]
    assert loaded.refresh_ref_docs([*documents, Document(id_="d3", text="new")]) == [False, False, False, True]
    loaded_store.close()


def test_storage_context_round_trip_on_another_file_system(
    make_store: MakeStore, embedding: BaseEmbedding, memory: tuple[fsspec.AbstractFileSystem, str]
) -> None:
    fs, root = memory
    store = make_store()
    context = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex.from_documents([Document(text="apple pie")], storage_context=context, embed_model=embedding)
    context.persist(root, fs=fs)
    loaded = load_index_from_storage(
        StorageContext.from_defaults(
            persist_dir=root, vector_store=OctavoVectorStore.from_persist_dir(root, fs=fs), fs=fs
        ),
        embed_model=embedding,
    )
    assert [hit.text for hit in loaded.as_retriever().retrieve("apple")] == ["apple pie"]
    with pytest.raises(ValueError, match="OctavoVectorStore"):
        StorageContext.from_defaults(persist_dir=root, fs=fs)


@pytest.mark.parametrize("inside", [False, True])
def test_forgetting_the_vector_store_says_what_to_do(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path, inside: bool
) -> None:
    folder = tmp_path / "storage"
    store = make_store("storage" if inside else None)
    store.add(library)
    StorageContext.from_defaults(vector_store=store).persist(str(folder))
    with pytest.raises(ValueError, match="OctavoVectorStore") as caught:
        StorageContext.from_defaults(persist_dir=str(folder))
    message = str(caught.value)
    assert "octavo.integrations.llama_index.OctavoVectorStore" in message
    assert "vector_store=OctavoVectorStore.from_persist_dir(folder)" in message
    with pytest.raises(ValueError, match="from_persist_dir"):
        SimpleVectorStore.from_persist_path(str(folder / POINTER))


def test_the_hint_names_the_namespace(make_store: MakeStore, library: list[TextNode], tmp_path: Path) -> None:
    store = make_store()
    store.add(library)
    store.persist(str(tmp_path / "german__vector_store.json"))
    with pytest.raises(ValueError, match="namespace='german'"):
        SimpleVectorStore.from_persist_dir(str(tmp_path), namespace="german")


# ---------------------------------------------------------------------- what is not ours, or damaged


def test_loading_what_is_not_there(tmp_path: Path, memory: tuple[fsspec.AbstractFileSystem, str]) -> None:
    fs, root = memory
    with pytest.raises(CollectionNotFoundError, match=POINTER):
        OctavoVectorStore.from_persist_dir(str(tmp_path))
    with pytest.raises(CollectionNotFoundError, match=POINTER):
        OctavoVectorStore.from_persist_dir(root, fs=fs)


def test_loading_what_another_store_wrote(tmp_path: Path) -> None:
    StorageContext.from_defaults().persist(str(tmp_path))
    with pytest.raises(MismatchError, match="not written by OctavoVectorStore"):
        OctavoVectorStore.from_persist_dir(str(tmp_path))
    assert OctavoVectorStore.from_namespaced_persist_dir(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda pointer: b"", CorruptCollectionError, "expected JSON"),
        (lambda pointer: b"[1]", MismatchError, "not written"),
        (lambda pointer: {**pointer, "format": 9}, MismatchError, "format 9"),
        (lambda pointer: {**pointer, "collection": "../elsewhere"}, CorruptCollectionError, "outside"),
        (lambda pointer: {**pointer, "collection": "/etc"}, CorruptCollectionError, "outside"),
        (lambda pointer: {**pointer, "collection": "gone.octavo"}, CollectionNotFoundError, "gone.octavo"),
    ],
)
def test_damaged_pointers(
    make_store: MakeStore,
    library: list[TextNode],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], Any],
    error: type[Exception],
    words: str,
) -> None:
    folder = tmp_path / "saved"
    store = make_store()
    store.add(library)
    store.persist(str(folder / POINTER))
    content = json.loads((folder / POINTER).read_text())
    changed = change(content["octavo"])
    data = changed if isinstance(changed, bytes) else json.dumps({**content, "octavo": changed}).encode()
    (folder / POINTER).write_bytes(data)
    with pytest.raises(error, match=words):
        OctavoVectorStore.from_persist_dir(str(folder))
    assert len(copies(folder)) == 1
    store.persist(str(folder / POINTER))  # saving again puts it right
    OctavoVectorStore.from_persist_dir(str(folder)).close()


def test_a_link_that_leads_out_of_the_folder_is_damage(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    store = make_store("elsewhere")
    store.add(library)
    store.persist(str(folder / POINTER))
    (copy_of_it,) = copies(folder)
    shutil.rmtree(folder / copy_of_it)
    (folder / copy_of_it).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptCollectionError, match="outside"):
        OctavoVectorStore.from_persist_dir(str(folder))
    store.persist(str(folder / POINTER))  # does not delete what the link leads to
    assert store.client.verify().ok
    assert len(store.client) == 12


LEADING_OUT = ["../x", "..", ".", "a/b", "a\\b", "..\\x", "/etc/x", "C:foo", "C:\\foo", "stream:x", "", "a\0b", "a\nb"]


@pytest.mark.parametrize("namespace", LEADING_OUT)
def test_namespaces_never_lead_out_of_the_folder(
    tmp_path: Path, namespace: str, memory: tuple[fsspec.AbstractFileSystem, str]
) -> None:
    fs, root = memory
    for directory, options in ((str(tmp_path / "saved"), {}), (root, {"fs": fs})):
        with pytest.raises(ParameterError, match="plain name"):
            OctavoVectorStore.from_persist_dir(directory, namespace, **options)


@pytest.mark.parametrize("namespace", ["../x", "../../x", "a/../../x", "C:foo", "a:b", "a\\..\\..\\x", ""])
def test_saving_under_a_name_that_leads_out_is_refused(
    make_store: MakeStore, tmp_path: Path, namespace: str, memory: tuple[fsspec.AbstractFileSystem, str]
) -> None:
    context = StorageContext.from_defaults()
    context.add_vector_store(make_store(), namespace)
    fs, root = memory
    for directory, options in ((str(tmp_path / "deep" / "saved"), {}), (root, {"fs": fs})):
        with pytest.raises(ParameterError, match="plain name"):
            context.persist(directory, **options)
    assert not list(tmp_path.rglob("*x__*"))


def test_odd_but_plain_names(make_store: MakeStore, library: list[TextNode], tmp_path: Path) -> None:
    names = ["..x", "x..", "über uns", "a.b", "-", "~", "__", "a__b"]
    for name in names:
        store = make_store()
        store.add(library)
        context = StorageContext.from_defaults()
        context.add_vector_store(store, name)
        context.persist(str(tmp_path / "saved"))
        loaded = OctavoVectorStore.from_persist_dir(str(tmp_path / "saved"), name)
        assert len(loaded.client) == 12
        loaded.close()
    found = OctavoVectorStore.from_namespaced_persist_dir(str(tmp_path / "saved"))
    assert sorted(found) == sorted(names)  # core's own stores beside them are left out
    for loaded in found.values():
        loaded.close()


def test_saving_to_a_place_above(make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for folder in ("..", "../saved", "."):
        StorageContext.from_defaults(vector_store=make_store()).persist(folder)
        OctavoVectorStore.from_persist_dir(folder).close()
    assert (tmp_path / POINTER).is_file()
    with pytest.raises(ParameterError, match="persist_dir"):
        OctavoVectorStore.from_persist_dir("")


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:evil.txt", "a\\..\\evil.txt"])
def test_files_of_a_saved_copy_stay_below_it(tmp_path: Path, name: str) -> None:
    from octavo.integrations.llama_index import _persistence

    assert not _persistence._stays_inside(name)
    for good in (".", "kb", "kb/text/0.seg"):
        assert _persistence._stays_inside(good)


# ---------------------------------------------------------------------- paths


def test_paths_are_absolute_from_the_first_moment(
    library: list[TextNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("sub/kb", "sub"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(OctavoVectorStore("kb")) as store:
        store.add(library[:6])
        monkeypatch.chdir(tmp_path / "sub")
        store.add(library[6:])
        assert store.path == str(tmp_path / "kb")
        assert len(copy.deepcopy(store).client) == 12
        assert len(pickle.loads(pickle.dumps(store)).client) == 12
        assert OctavoVectorStore.from_dict(store.to_dict()).path == store.path
        assert store.client.verify().ok
    assert os.listdir(tmp_path / "sub" / "kb") == []
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(OctavoVectorStore(collection=octavo.open("kb"))) as store:
        monkeypatch.chdir(tmp_path / "sub")
        assert store.path == str(tmp_path / "kb")


def test_saved_paths_are_absolute_too(
    make_store: MakeStore, library: list[TextNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store().persist("saved/" + POINTER)
    (tmp_path / "sub").mkdir()
    with contextlib.closing(OctavoVectorStore.from_persist_dir("saved")) as loaded:
        monkeypatch.chdir(tmp_path / "sub")
        loaded.add(library)
        assert Path(loaded.path or "").is_relative_to(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(OctavoVectorStore.from_persist_dir("saved", path="apart")) as apart:
        monkeypatch.chdir(tmp_path / "sub")
        assert apart.path == str(tmp_path / "apart")
    assert os.listdir(tmp_path / "sub") == []


def test_an_empty_path_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="None keeps everything in memory"):
        OctavoVectorStore("")
    with pytest.raises(InputTypeError, match="path"):
        OctavoVectorStore(7)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------- pickle and copies


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_a_store_in_memory_takes_its_content_along(store: OctavoVectorStore, library: list[TextNode], how: str) -> None:
    store.add(library)
    expected = snapshot(store, library[1])
    other = pickle.loads(pickle.dumps(store)) if how == "pickle" else copy.deepcopy(store)
    assert isinstance(other, OctavoVectorStore)
    assert snapshot(other, library[1]) == expected
    other.add([library[0].model_copy(update={"id_": "only in the copy"})])
    # on disk both are the same collection, in memory they are two
    assert len(store.client) == (12 if store.path is None else 13)
    other.close()


def test_pickles_find_their_path_from_anywhere(
    library: list[TextNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = OctavoVectorStore("kb", read_only=False, lock_timeout=3.0)
    store.add(library)
    data = pickle.dumps(store)
    store.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    other = pickle.loads(data)
    assert len(other.client) == 12
    assert other.lock_timeout == 3.0
    other.close()
    shutil.rmtree(tmp_path / "kb")
    with pytest.raises(CollectionNotFoundError):
        pickle.loads(data)
    assert not os.listdir(tmp_path / "elsewhere")
