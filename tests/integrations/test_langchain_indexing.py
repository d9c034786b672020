"""LangChain's indexing API over a store and `OctavoRecordManager`, and what is left when it dies in between."""

from __future__ import annotations

import contextlib
import enum
import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex
from langchain_core.indexing import index as langchain_index

from octavo.errors import InputTypeError, ParameterError, ReadOnlyError
from octavo.integrations.langchain import OctavoRecordManager, OctavoVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=8)
MODES = ["full", "incremental", "scoped_full"]


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OctavoVectorStore]:
    path = tmp_path / "kb" if request.param == "disk" else None
    with OctavoVectorStore(EMBEDDING, path) as store:
        yield store


@pytest.fixture
def records(store: OctavoVectorStore) -> OctavoRecordManager:
    return OctavoRecordManager(store)


def docs(*texts: str, source: str = "s") -> list[Document]:
    return [Document(page_content=text, metadata={"source": source}) for text in texts]


def index(documents: list[Document], records: Any, store: OctavoVectorStore, cleanup: Any, **kwargs: Any) -> Any:
    options = {"source_id_key": "source", "key_encoder": "sha256", **kwargs}
    return langchain_index(documents, records, store, cleanup=cleanup, **options)


def texts_of(store: OctavoVectorStore) -> list[str]:
    return sorted(document.text for document in store.collection.documents())


def counts(result: Any) -> tuple[int, int, int, int]:
    return tuple(result[f"num_{name}"] for name in ("added", "updated", "skipped", "deleted"))  # type: ignore[return-value]


@pytest.mark.parametrize("cleanup", [None, *MODES])
def test_all_clean_up_modes(store: OctavoVectorStore, records: OctavoRecordManager, cleanup: Any) -> None:
    assert counts(index(docs("a", "b", "c"), records, store, cleanup)) == (3, 0, 0, 0)
    assert counts(index(docs("a", "b", "c"), records, store, cleanup)) == (0, 0, 3, 0)
    deleted = 0 if cleanup is None else 1
    assert counts(index(docs("a", "b", "new"), records, store, cleanup)) == (1, 0, 2, deleted)
    assert texts_of(store) == (["a", "b", "c", "new"] if cleanup is None else ["a", "b", "new"])
    assert counts(index(docs("other", source="t"), records, store, cleanup)) == (1, 0, 0, 3 if cleanup == "full" else 0)
    assert counts(index(docs("other", source="t"), records, store, cleanup, force_update=True))[:2] == (0, 1)
    assert sorted(records.list_keys()) == sorted(store.collection.ids())


@pytest.mark.parametrize("cleanup", [None, *MODES])
async def test_all_clean_up_modes_async(store: OctavoVectorStore, records: OctavoRecordManager, cleanup: Any) -> None:
    async def run(*texts: str) -> tuple[int, int, int, int]:
        result = await aindex(
            docs(*texts), records, store, cleanup=cleanup, source_id_key="source", key_encoder="sha256", batch_size=5
        )
        return counts(result)

    assert await run("a", "b", "c") == (3, 0, 0, 0)
    assert await run("a", "b", "c") == (0, 0, 3, 0)
    await run("b", "d")
    assert texts_of(store) == (["a", "b", "c", "d"] if cleanup is None else ["b", "d"])


@pytest.mark.parametrize("cleanup", MODES)
def test_langchains_own_record_manager_works_too(store: OctavoVectorStore, cleanup: Any) -> None:
    records = InMemoryRecordManager("x")
    index(docs("a", "b"), records, store, cleanup)
    time.sleep(0.02)  # its clock has the resolution of the operating system's
    assert counts(index(docs("b", "c"), records, store, cleanup)) == (1, 0, 1, 1)
    assert texts_of(store) == ["b", "c"]


def test_many_batches_and_duplicates(store: OctavoVectorStore, records: OctavoRecordManager) -> None:
    texts = [str(n % 70) for n in range(100)]
    result = index(docs(*texts), records, store, "incremental", batch_size=7, cleanup_batch_size=3)
    assert counts(result)[0] == 70
    result = index(docs("1", "2"), records, store, "incremental", batch_size=7, cleanup_batch_size=3)
    assert counts(result) == (0, 0, 2, 68)
    assert texts_of(store) == ["1", "2"]


def test_a_document_deleted_behind_the_record_managers_back_is_indexed_again(
    store: OctavoVectorStore, records: OctavoRecordManager
) -> None:
    index(docs("a", "b"), records, store, "full")
    store.delete(filter=lambda document: document.page_content == "a")
    assert len(records.list_keys()) == 1
    assert counts(index(docs("a", "b"), records, store, "full")) == (1, 0, 1, 0)
    assert texts_of(store) == ["a", "b"]
    store.delete()
    assert records.list_keys() == []
    assert counts(index(docs("a", "b"), records, store, "full")) == (2, 0, 0, 0)


def test_the_same_through_another_object_on_the_same_collection(tmp_path: Path) -> None:
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store, OctavoVectorStore(EMBEDDING, tmp_path / "kb") as other:
        records = OctavoRecordManager(store)
        index(docs("a", "b"), records, store, "full")
        other.delete()
        assert records.list_keys() == []
        assert counts(index(docs("a", "b"), records, store, "full")) == (2, 0, 0, 0)
        assert counts(index(docs("b", "c"), OctavoRecordManager(other), other, "full")) == (1, 0, 1, 1)
        assert texts_of(store) == ["b", "c"]


def test_documents_that_were_not_indexed_are_left_alone(store: OctavoVectorStore, records: OctavoRecordManager) -> None:
    store.add_texts(["mine"])
    index(docs("a"), records, store, "full")
    index(docs("b"), records, store, "full")
    assert texts_of(store) == ["b", "mine"]


def test_namespaces_are_separate(store: OctavoVectorStore) -> None:
    first, second = OctavoRecordManager(store, "one"), OctavoRecordManager(store, "two")
    index(docs("a"), first, store, "full")
    index(docs("b"), second, store, "full")
    index([], second, store, "full")
    assert texts_of(store) == ["a"]
    assert (len(first.list_keys()), second.list_keys()) == (1, [])


def test_records_survive_reopening_fitting_and_compaction(tmp_path: Path) -> None:
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
        index(docs("a", "b", "c"), OctavoRecordManager(store), store, "full")
        store.collection.fit()
        store.delete([OctavoRecordManager(store).list_keys()[0]])
        store.collection.compact()
        left = texts_of(store)
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
        assert store.collection.verify().ok
        assert counts(index(docs(*left), OctavoRecordManager(store), store, "full")) == (0, 0, 2, 0)


# ---------------------------------------------------------------------- a run that dies


class Died(BaseException):
    """Stands for the end of the process."""


STEPS = ["add", "update", "delete", "delete_keys", "exists", "list_keys", "refresh"]


def die_at(
    step: str, nth: int, records: OctavoRecordManager, store: OctavoVectorStore, patch: pytest.MonkeyPatch
) -> None:
    """Let the process end just before the nth call of one step of `index`."""
    target, name = {
        "add": (store, "add_documents"),
        "update": (records, "update"),
        "refresh": (records, "update"),
        "delete": (store, "delete"),
        "delete_keys": (records, "delete_keys"),
        "exists": (records, "exists"),
        "list_keys": (records, "list_keys"),
    }[step]
    original = getattr(target, name)
    calls = itertools.count()

    def dying(*args: Any, **kwargs: Any) -> Any:
        if (step != "refresh" or "group_ids" not in kwargs) and next(calls) == nth:
            raise Died
        return original(*args, **kwargs)

    patch.setattr(target, name, dying)


@pytest.mark.parametrize("cleanup", MODES)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [0, 1, 2])
def test_whatever_died_where_the_next_run_converges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleanup: Any, step: str, nth: int
) -> None:
    def run(*texts: str, dying: bool = False) -> None:
        with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
            records = OctavoRecordManager(store)
            if not dying:
                index(docs(*texts), records, store, cleanup, batch_size=2)
                assert texts_of(store) == sorted(texts)
                assert sorted(records.list_keys()) == sorted(store.collection.ids())
                return
            with monkeypatch.context() as patch:
                die_at(step, nth, records, store, patch)
                with contextlib.suppress(Died):
                    index(docs(*texts), records, store, cleanup, batch_size=2)

    run("a", "b", "c", "d")
    run("c", "d", "e", "f", dying=True)
    run("b", "g", "d")  # the source has changed again meanwhile: "e" and "f" must not stay, "b" must come back
    run("b", "g", "d")


@pytest.mark.parametrize("cleanup", MODES)
def test_killed_between_adding_and_recording(tmp_path: Path, cleanup: str) -> None:
    """The same with a real process that ends without any clean-up of its own."""
    script = textwrap.dedent(
        """
        import os, sys
        from langchain_core.documents import Document
        from langchain_core.embeddings import DeterministicFakeEmbedding
        from langchain_core.indexing import index
        from octavo.integrations.langchain import OctavoRecordManager, OctavoVectorStore

        store = OctavoVectorStore(DeterministicFakeEmbedding(size=8), sys.argv[1])
        records = OctavoRecordManager(store)
        records.update = lambda *args, **kwargs: os._exit(9)
        index([Document(page_content="orphan", metadata={"source": "s"})], records, store, cleanup="full",
              source_id_key="source", key_encoder="sha256")
        """
    )
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
        index(docs("a"), OctavoRecordManager(store), store, cleanup)
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "kb")], check=False, timeout=60)
    assert killed.returncode == 9
    with OctavoVectorStore(EMBEDDING, tmp_path / "kb") as store:
        assert texts_of(store) == ["a", "orphan"]
        assert counts(index(docs("a"), OctavoRecordManager(store), store, cleanup)) == (0, 0, 1, 1)
        assert texts_of(store) == ["a"]


def test_what_a_dead_run_added_is_not_embedded_again(
    store: OctavoVectorStore, records: OctavoRecordManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        die_at("update", 0, records, store, patch)
        with pytest.raises(Died):
            index(docs("a"), records, store, "incremental")
    assert counts(index(docs("a"), records, store, "incremental")) == (0, 0, 1, 0)
    assert records.list_keys(group_ids=["s"]) == records.list_keys()


def test_a_failing_record_rolls_the_documents_back(
    store: OctavoVectorStore, records: OctavoRecordManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(connection: Any) -> float:
        raise OSError("the disk is full")

    monkeypatch.setattr(records, "_tick", failing)
    records._announced.add("a")
    with pytest.raises(OSError, match="full"):
        store.add_texts(["one"], ids=["a"])
    assert store.count() == 0


# ---------------------------------------------------------------------- the record manager by itself


def test_update_exists_list_delete(store: OctavoVectorStore, records: OctavoRecordManager) -> None:
    store.add_texts(["1", "2", "3"], ids=["a", "b", "c"])
    assert records.exists(["a", "b"]) == [False, False]
    records.update(["a", "b"], group_ids=["g", "h"])
    between = records.get_time()
    records.update(["c"])
    assert records.exists(["a", "nope", "c"]) == [True, False, True]
    assert records.list_keys(before=between) == ["a", "b"]
    assert records.list_keys(after=between) == ["c"]
    assert records.list_keys(group_ids=["g"]) == ["a"]
    assert records.list_keys(group_ids=[]) == []
    assert records.list_keys(limit=2) == ["a", "b"]
    records.update(["a"])  # without sources: the source stays
    assert records.list_keys(group_ids=["g"]) == ["a"]
    assert records.list_keys() == ["b", "c", "a"]
    records.delete_keys(["a", "nope"])
    assert records.list_keys() == ["b", "c"]
    assert store.count() == 3


def test_a_record_without_a_document_is_none(store: OctavoVectorStore, records: OctavoRecordManager) -> None:
    records.update(["ghost"], group_ids=["g"])
    assert records.exists(["ghost"]) == [False]
    assert records.list_keys() == []


def test_time_only_goes_forward(
    store: OctavoVectorStore, records: OctavoRecordManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_texts(["1"], ids=["a"])
    records.update(["a"])
    monkeypatch.setattr(time, "time", lambda: 1000.0)  # the clock was set back
    fresh = OctavoRecordManager(store)
    first, second = fresh.get_time(), fresh.get_time()
    assert 1000 < first < second
    assert fresh.list_keys(before=first) == ["a"]
    fresh.update(["a"], time_at_least=second)
    assert fresh.list_keys(before=second) == []
    with pytest.raises(ParameterError, match="past"):
        fresh.update(["a"], time_at_least=second + 1e6)


def test_bad_arguments(store: OctavoVectorStore, records: OctavoRecordManager, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="as many group_ids"):
        records.update(["a"], group_ids=[])
    with pytest.raises(InputTypeError):
        records.exists("a")
    with pytest.raises(InputTypeError, match="OctavoVectorStore"):
        OctavoRecordManager("namespace")  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="namespace"):
        OctavoRecordManager(store, 3)  # type: ignore[arg-type]
    assert OctavoRecordManager(store.collection).list_keys() == []
    OctavoVectorStore(EMBEDDING, tmp_path / "ro").close()
    with OctavoVectorStore(EMBEDDING, tmp_path / "ro", read_only=True) as read_only, pytest.raises(ReadOnlyError):
        OctavoRecordManager(read_only)


# ---------------------------------------------------------------------- sources that are no strings


class Shelf(enum.Enum):
    TOP = 1


SOURCES = [5, 0, True, 2.5, 3.0, np.int64(7), np.float32(0.5), date(2024, 5, 1), datetime(2024, 5, 1, tzinfo=UTC)]
SOURCES += [
    UUID(int=1),
    PurePosixPath("a/b"),
    Decimal("1.5"),
    Shelf.TOP,
    b"x",
    ("a", 1),
    "5",
    "",
    "\x1foctavo:number:5",
]


@pytest.mark.parametrize("cleanup", ["incremental", "scoped_full"])
@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_any_source_is_cleaned_up(
    store: OctavoVectorStore, records: OctavoRecordManager, cleanup: Any, source: Any
) -> None:
    def run(*texts: str, of: Any = source) -> tuple[int, int, int, int]:
        documents = [Document(page_content=text) for text in texts]
        return counts(
            langchain_index(
                documents, records, store, cleanup=cleanup, source_id_key=lambda _: of, key_encoder="sha256"
            )
        )

    others = [other for other in SOURCES if repr(other) != repr(source)]
    for number, other in enumerate(others):
        run(f"of another {number}", of=other)
    assert run("a", "b") == (2, 0, 0, 0)
    assert run("a", "c") == (1, 0, 1, 1)
    assert texts_of(store) == sorted(["a", "c", *(f"of another {number}" for number in range(len(others)))])


def test_sources_in_the_metadata(store: OctavoVectorStore, records: OctavoRecordManager) -> None:
    def run(*texts: str, source: Any) -> tuple[int, int, int, int]:
        documents = [Document(page_content=text, metadata={"source": source}) for text in texts]
        return counts(index(documents, records, store, "incremental"))

    assert run("a", "b", source=5) == (2, 0, 0, 0)
    assert run("a", source=5) == (0, 0, 1, 1)
    for unusable in (UUID(int=1), PurePosixPath("a"), object()):
        before = texts_of(store)
        with pytest.raises((TypeError, ValueError)):
            run("new", source=unusable)
        assert texts_of(store) == before


def test_equal_sources_are_one(store: OctavoVectorStore, records: OctavoRecordManager) -> None:
    store.add_texts(["1"], ids=["a"])
    for first, second in ((1, 1.0), (1, True), (1, np.int8(1)), (0.5, Decimal("0.5")), ("x", np.str_("x"))):
        records.update(["a"], group_ids=[first])
        assert records.list_keys(group_ids=[second]) == ["a"]
        assert records.list_keys(group_ids=[str(first) + "?"]) == []
    records.update(["a"], group_ids=[1])
    assert records.list_keys(group_ids=["1"]) == []
    with pytest.raises(InputTypeError, match="source_id_key"):
        records.update(["a"], group_ids=[object()])
    with pytest.raises(ParameterError, match="limit"):
        records.list_keys(limit=-2)
