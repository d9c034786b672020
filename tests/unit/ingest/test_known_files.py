"""Files that need not be read again: those that are as they were, and whose documents are, and no others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.ingest import sources
from octavo.ingest.indexing import Ingest
from octavo.ingest.known_files import forget_files
from octavo.ingest.preparing import Choices, prepare
from octavo.ingest.reading import FileReader
from octavo.ingest.registry import write_source


def encode(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), 1.0] for text in texts], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "notes"
    (root / "deep").mkdir(parents=True)
    for name in ("a.md", "b.md", "deep/c.md"):
        (root / name).write_text(f"the text of {name}\n\n" + "more words " * 300)
    return root


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now count as old: their real times of change cannot be set."""
    monkeypatch.setattr("octavo.ingest.known_files._SETTLED", -(10**18))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read, or looked into."""
    names: list[str] = []
    read, is_blank = FileReader.read, sources._is_blank

    def counted(self: FileReader, file: Any) -> Any:
        names.append(file.name)
        return read(self, file)

    def looked(file: Any) -> bool:
        names.append(file.name)
        return is_blank(file)

    monkeypatch.setattr(FileReader, "read", counted)
    monkeypatch.setattr(sources, "_is_blank", looked)
    return names


Index = Callable[..., Any]


@pytest.fixture
def index(folder: Path, opened: list[str]) -> Index:
    """Index as the command does; returns the report, and which files were opened."""

    def run(kb: Any, path: Path = folder, **choices: Any) -> tuple[Any, list[str]]:
        opened.clear()
        prepared = prepare(path, Choices(**choices), kb)
        ingest = Ingest(kb, prepared.record.name, recut=prepared.recut)
        ingest.run(prepared.documents())
        prepared.remember(kb)
        write_source(kb, prepared.record)
        ingest.report.unchanged += sum(prepared.unchanged.values())
        return ingest.report, sorted(set(opened))

    return run


@pytest.mark.usefixtures("settled")
def test_nothing_is_opened_where_nothing_has_changed(tmp_path: Path, index: Index) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        first, opened = index(kb)
        assert opened == ["a.md", "b.md", "deep/c.md"]
        second, opened = index(kb)
        assert opened == []
        assert (second.added, second.updated, second.unchanged) == (0, 0, first.added)
        third, opened = index(kb, read_all=True)
        assert len(opened) == 3
        assert third.unchanged == first.added
    with octavo.open(tmp_path / "kb", encode) as kb:  # and after opening again
        assert index(kb)[1] == []


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "a.md").write_text("other words"), ["a.md"]),
        (lambda root: os.utime(root / "b.md"), ["b.md"]),
        (lambda root: (root / "new.md").write_text("new"), ["new.md"]),
        (lambda root: (root / "a.md").replace(root / "b.md"), ["b.md"]),
        (lambda root: (root / "a.md").write_text(" "), ["a.md"]),
    ],
    ids=["content", "time", "new", "replaced", "emptied"],
)
def test_what_has_changed_is_read(
    tmp_path: Path, folder: Path, index: Index, change: Callable[[Path], object], expected: list[str]
) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        change(folder)
        assert index(kb)[1] == expected
        fresh = octavo.open(encoder=encode)
        index(fresh)
        known = {document.id for document in fresh.documents()}
        assert known <= set(kb.ids())
        for document in fresh.documents():
            assert kb.get([document.id])[0] == document


@pytest.mark.usefixtures("settled")
def test_a_time_that_was_set_back_does_not_hide_a_change(tmp_path: Path, folder: Path, index: Index) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        about, text = (folder / "a.md").stat(), (folder / "a.md").read_text()
        (folder / "a.md").write_text(text.replace("the text", "the word"))
        os.utime(folder / "a.md", ns=(about.st_atime_ns, about.st_mtime_ns))
        report, opened = index(kb)
        assert opened == ["a.md"]
        assert report.updated > 0


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("way", ["deleted", "changed", "more", "metadata"])
def test_documents_that_are_not_as_they_were_are_made_again(tmp_path: Path, index: Index, way: str) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        before = {document.id: document for document in kb.documents()}
        document = before["notes/a.md#0"]
        if way == "deleted":
            kb.delete([document.id])
        elif way == "changed":
            kb.update([document.id], texts=["by hand"])
        elif way == "metadata":
            kb.update([document.id], metadata=[{**document.metadata, "reviewed": 1}])
        else:
            kb.add(["more"], ids=["notes/a.md#99"], metadata=[{**document.metadata, "chunk": 99}])
        assert index(kb)[1] == ["a.md"]
        assert {found.id: (found.text, found.metadata) for found in kb.documents()} == {
            found.id: (found.text, found.metadata) for found in before.values()
        }


@pytest.mark.usefixtures("settled")
def test_another_way_of_reading_reads_all(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        assert len(index(kb, chunk_size=300)[1]) == 3
        assert index(kb)[1] == []
        assert len(index(kb, context="title")[1]) == 3
        assert index(kb)[1] == []
        monkeypatch.setattr("octavo.ingest.known_files.__version__", "another")
        assert len(index(kb)[1]) == 3


@pytest.mark.usefixtures("settled")
def test_a_part_of_a_source_leaves_the_rest_known(tmp_path: Path, folder: Path, index: Index) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        assert index(kb, folder / "deep")[1] == []
        (folder / "deep/c.md").write_text("changed")
        assert index(kb, folder / "deep")[1] == ["deep/c.md"]
        assert index(kb)[1] == []


def test_a_file_that_was_changed_just_now_is_read_again(tmp_path: Path, folder: Path, index: Index) -> None:
    now = time.time_ns()
    for name in ("a.md", "b.md", "deep/c.md"):
        os.utime(folder / name, ns=(now, now + 10**9))  # in a moment, so however slow this test is
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        assert len(index(kb)[1]) == 3


@pytest.mark.usefixtures("settled")
def test_files_with_a_remark_are_read_again(tmp_path: Path, folder: Path, index: Index) -> None:
    (folder / "b.md").write_bytes(b"caf\xe9 " * 50)
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        assert index(kb)[1] == ["b.md"]  # so that it is listed again


@pytest.mark.usefixtures("settled")
def test_what_is_remembered_goes_with_its_source_and_with_secure_compaction(tmp_path: Path, index: Index) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        forget_files(kb, "another")
        assert index(kb)[1] == []
        forget_files(kb, "notes")
        assert len(index(kb)[1]) == 3
        kb.compact(secure=True)
        with kb.connection() as connection:
            assert connection.execute("SELECT count(*) FROM octavo_read_files").fetchone() == (0,)
        assert len(index(kb)[1]) == 3
        assert kb.verify().ok
        kb.snapshot(tmp_path / "monday")
    octavo.restore(tmp_path / "monday", tmp_path / "again")
    with octavo.open(tmp_path / "again", encode) as kb:
        assert index(kb)[1] == []


@pytest.mark.usefixtures("settled")
def test_odd_rows_are_no_hints(tmp_path: Path, index: Index) -> None:
    with octavo.open(tmp_path / "kb", encode) as kb:
        index(kb)
        with kb.connection(write=True) as connection:
            connection.execute("UPDATE octavo_read_files SET digest = 'text' WHERE name = 'a.md'")
            connection.execute("UPDATE octavo_read_files SET size = 'large', documents = 'many' WHERE name = 'b.md'")
        assert index(kb)[1] == ["a.md", "b.md"]


def test_in_memory_and_where_there_is_nothing_yet(tmp_path: Path, index: Index) -> None:
    with octavo.open(encoder=encode) as kb:
        forget_files(kb, "notes")
        report, opened = index(kb)
        assert report.added > 3
        assert len(opened) == 3
