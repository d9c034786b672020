"""Titles and headings as context: what stands above a chunk is embedded with it and returned with nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo import Collection
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.ingest.headings import Headings, in_context
from octavo.ingest.indexing import Ingest
from octavo.ingest.preparing import Choices, prepare
from octavo.ingest.registry import NOTE, SourceRecord, read_sources, write_source
from octavo.ingest.watching import Watch

PAGE = """# France

About the country.

## Paris

It has 2.1 million inhabitants.

```
# no heading
```

### Walls

They are gone. #

## Lyon ##

It has half a million.
"""


@pytest.mark.parametrize(
    ("place", "title", "above"),
    [
        ("# France", None, []),
        ("About", None, ["France"]),
        ("## Paris", None, ["France"]),
        ("It has 2.1", None, ["France", "Paris"]),
        ("# no heading", None, ["France", "Paris"]),
        ("They are", None, ["France", "Paris", "Walls"]),
        ("## Lyon", None, ["France"]),
        ("It has half", None, ["France", "Lyon"]),
        ("It has half", "Atlas", ["Atlas", "France", "Lyon"]),
        ("# France", "Atlas", ["Atlas"]),
        ("# France", "France", []),
        ("It has half", "France", ["France", "Lyon"]),
        ("It has half", "  \n ", ["France", "Lyon"]),
    ],
)
def test_what_stands_above(place: str, title: str | None, above: list[str]) -> None:
    headings = Headings(PAGE, title)
    assert headings.above(PAGE.index(place)) == above


@pytest.mark.parametrize("text", ["", "#", "#no space", "####### seven", "    # code", "#\t", "plain", "```\n# open"])
def test_what_is_no_heading(text: str) -> None:
    assert Headings(text + "\nwords").above(len(text) + 1) == []
    assert in_context("words", []) is None


def test_a_long_line_of_marks_takes_no_long_time() -> None:
    assert len(Headings("# " + "a # " * 50_000 + "\nwords").above(200_010)[0]) <= 300


class Recorder:
    """Remembers what it is asked to embed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> Any:
        self.asked += texts
        return [[text.count("Paris") + 0.1, text.count("Lyon") + 0.1, 0.01 * len(text)] for text in texts]


@pytest.fixture
def model() -> Recorder:
    return Recorder()


@pytest.fixture
def kb(model: Recorder) -> Iterator[Collection]:
    with octavo.open(encoder=model) as kb:
        yield kb


def ingest(kb: Collection, path: Path, **choices: Any) -> Any:
    prepared = prepare(path, Choices(**choices), kb)
    report = Ingest(kb, prepared.record.name, recut=prepared.recut).run(prepared.source.documents())
    write_source(kb, prepared.record)
    return prepared, report


def test_a_page_in_chunks(tmp_path: Path, kb: Collection, model: Recorder) -> None:
    page = tmp_path / "page.md"
    page.write_text("---\ntitle: Atlas\n---\n" + PAGE)
    ingest(kb, page, chunk_size=40, overlap=0, context="headings")
    found = {document.text: document for document in kb.documents()}
    chunk = next(document for text, document in found.items() if "2.1 million" in text)
    assert chunk.embed_text == f"Atlas > France{' > Paris' if 'Paris' not in chunk.text else ''}\n{chunk.text}"
    assert not any("Atlas" in document.text for document in found.values())
    assert set(model.asked) == {document.to_embed for document in found.values()}
    assert len(kb.search("Atlas", 10, mode="text")) == len(found)
    first = next(iter(found.values()))
    assert first.embed_text == "Atlas\n" + first.text


def test_titles_alone_and_back(tmp_path: Path, kb: Collection, model: Recorder) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    ingest(kb, page, chunk_size=40, overlap=0, context="title")
    texts = [document.text for document in kb.documents()]
    embedded = [document.to_embed for document in kb.documents()]
    assert embedded == [text if text.startswith("# France") else f"France\n{text}" for text in texts]
    assert read_sources(kb)["page.md"].context == "title"
    model.asked.clear()
    prepared, report = ingest(kb, page)  # remembered, and nothing has changed
    assert prepared.record.context == "title"
    assert (report.added, report.updated) == (0, 0)
    prepared = prepare(page, Choices(context="headings"), kb)
    assert prepared.recut
    assert (
        "embedded with their title; into chunks of 40 characters that overlap by 0, embedded with their title and"
        in str(prepared.consequences())
    )
    _, report = ingest(kb, page, context="none")
    assert report.updated > 0
    assert [document.embed_text for document in kb.documents()] == [None] * len(texts)


def test_rows(tmp_path: Path, kb: Collection) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                {"_id": "p", "title": "Paris", "text": "two million"},
                {"_id": "x", "title": "", "text": "nothing above"},
            )
        )
    )
    ingest(kb, rows)
    assert [document.text for document in kb.documents()] == ["Paris\ntwo million", "nothing above"]
    ingest(kb, rows, context="title")
    assert [(document.text, document.embed_text) for document in kb.get(["p", "x"])] == [
        ("two million", "Paris\ntwo million"),
        ("nothing above", None),
    ]
    assert kb.search("Paris", 1, mode="text").ids == ["p"]
    kb.update(["p"], [{"n": 1}])  # beside the vector
    assert kb.get(["p"])[0].embed_text == "Paris\ntwo million"


def test_a_folder_of_rows_and_pages(tmp_path: Path, kb: Collection) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.csv").write_text("id,title,text\n1,Paris,two million\n")
    (folder / "b.txt").write_text("# no Markdown\n\nplain")
    (folder / "c.md").write_text(PAGE)
    (folder / "d.ipynb").write_text(
        json.dumps(
            {"cells": [{"cell_type": "markdown", "source": "# Notes"}, {"cell_type": "code", "source": "x = 1"}]}
        )
    )
    ingest(kb, folder, context="headings", chunk_size=60, overlap=0)
    found = {document.id: document for document in kb.documents()}
    assert found["docs/a.csv#1"].embed_text == "Paris\ntwo million"
    assert found["docs/b.txt#0"].embed_text is None
    assert found["docs/d.ipynb#0"].embed_text is None  # it begins with its title
    assert any((each.embed_text or "").startswith("France > Paris\n") for each in found.values())


def test_watching_keeps_to_it(tmp_path: Path, kb: Collection) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "c.md").write_text("# France\n\nabout")
    prepared, _ = ingest(kb, folder, context="headings", chunk_size=12, overlap=0)
    watch = Watch(kb, prepared, clock=lambda: 0.0)
    (folder / "c.md").write_text("# Italy\n\nabout it")
    assert watch.step() is None
    assert watch.step() is not None
    assert sorted(document.to_embed for document in kb.documents()) == ["# Italy", "Italy\nabout it"]


def test_what_cannot_be(tmp_path: Path, kb: Collection) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(ParameterError, match="context"):
        prepare(page, Choices(context="everything"), kb)
    write_source(kb, SourceRecord("x", "/x", "file", 10, 0))
    assert "context" not in kb.notes()[NOTE]  # as it always was
    kb.set_note(NOTE, kb.notes()[NOTE].replace('"ignore"', '"context": "everything", "ignore"'))
    with pytest.raises(CorruptCollectionError, match="cannot be read"):
        read_sources(kb)


def test_a_part_keeps_to_the_context_of_the_whole(tmp_path: Path, kb: Collection) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "c.md").write_text(PAGE)
    ingest(kb, folder, context="title")
    with pytest.raises(ParameterError, match="another size or context is for the whole"):
        prepare(folder / "c.md", Choices(context="none"), kb)
    assert prepare(folder / "c.md", Choices(), kb).record.context == "title"
