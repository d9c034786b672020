"""Watching a folder, one look at a time: changes that come to rest, drives that vanish, writes that fail."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import Collection
from octavo.ingest.indexing import Ingest
from octavo.ingest.preparing import Choices, prepare
from octavo.ingest.watching import Watch


class Model:
    """Tells texts apart by their length; fails while it is told to."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self, texts: list[str]) -> Any:
        if self.broken:
            raise ConnectionError("the model is away")
        return np.array([[len(text), 1.0, 0.5] for text in texts], np.float32)


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def kb(model: Model) -> Iterator[Collection]:
    with octavo.open(encoder=model) as kb:
        yield kb


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.md").write_text(f"text {number}")
    return folder


def start(kb: Collection, path: Path, clock: Clock | None = None, **choices: Any) -> Watch:
    prepared = prepare(path, Choices(**choices), kb)
    Ingest(kb, prepared.record.name).run(prepared.source.documents())
    return Watch(kb, prepared, clock=clock or Clock())


def texts(kb: Collection) -> dict[str, str]:
    return {document.id: document.text for document in kb.documents()}


def test_changes_are_taken_over_once_they_rest(kb: Collection, docs: Path) -> None:
    watch = start(kb, docs)
    assert watch.step() is None
    (docs / "0.md").write_text("half of a")
    assert watch.step() is None  # it may go on
    (docs / "0.md").write_text("half of a text, and the rest")
    (docs / "new.md").write_text("new")
    assert watch.step() is None
    change = watch.step()
    assert change is not None
    assert (change.changed, change.gone) == (["0.md", "new.md"], [])
    assert (change.report.updated, change.report.added) == (1, 1)
    assert watch.step() is None
    (docs / "1.md").unlink()
    (docs / "2.md").write_text("")  # emptied is deleted
    watch.step()
    change = watch.step()
    assert change is not None
    assert (change.gone, change.report.removed) == (["1.md", "2.md"], 2)
    assert texts(kb) == {"docs/0.md#0": "half of a text, and the rest", "docs/new.md#0": "new"}


def test_what_never_rests_is_taken_over_all_the_same(kb: Collection, docs: Path) -> None:
    clock = Clock()
    watch = start(kb, docs, clock)
    for second in range(40):
        clock.now = float(second)
        (docs / "0.md").write_text("x" * (second + 1))
        if watch.step() is not None:
            break
    assert second == 30
    assert texts(kb)["docs/0.md#0"] == "x" * 31


def test_a_file_that_was_replaced_by_one_of_equal_size_and_time_is_noticed(kb: Collection, docs: Path) -> None:
    watch = start(kb, docs)
    about = (docs / "0.md").stat()
    (docs / "other").write_text("TEXT 0")
    os.utime(docs / "other", ns=(about.st_atime_ns, about.st_mtime_ns))
    (docs / "other").replace(docs / "0.md")
    watch.step()
    assert watch.step() is not None
    assert texts(kb)["docs/0.md#0"] == "TEXT 0"


def test_a_drive_that_is_away_removes_nothing(kb: Collection, docs: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3, 20):
        (docs / f"{number}.md").write_text(f"text {number}")
    watch = start(kb, docs)
    docs.rename(docs.with_name("away"))
    assert [watch.step() for _ in range(3)] == [None] * 3
    docs.mkdir()  # as an empty mount point
    assert [watch.step() for _ in range(3)] == [None] * 3
    docs.rmdir()
    docs.with_name("away").rename(docs)
    assert [watch.step() for _ in range(3)] == [None] * 3
    assert len(kb) == 20
    assert caplog.text.count("cannot be read") == 1  # said once
    for number in range(12):
        (docs / f"{number}.md").rename(docs.with_name(f"{number}.md"))
    (docs / "new.md").write_text("new")
    caplog.clear()
    watch.step()
    change = watch.step()
    assert change is not None
    assert (change.changed, change.gone) == (["new.md"], [])
    assert "12 of 20 files are gone at once" in caplog.text
    assert len(kb) == 21


def test_a_failure_is_logged_and_tried_again(
    kb: Collection, docs: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    watch = start(kb, docs, clock)
    (docs / "0.md").write_text("another text")
    watch.step()
    model.broken = True
    assert watch.step() is None
    assert "the model is away" in caplog.text
    model.broken = False
    assert watch.step() is None  # not at once
    clock.now += 5
    assert watch.step() is not None
    assert texts(kb)["docs/0.md#0"] == "another text"
    kb.close()
    (docs / "0.md").write_text("and another")
    watch.step()
    with pytest.raises(octavo.OctavoError):
        watch.step()


def test_rows_are_watched_as_a_whole(kb: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    clock = Clock()
    watch = start(kb, path, clock)
    path.write_text('{"id": "a", "text": "changed"}\n{"id": "c"')  # while it is being written
    watch.step()
    assert watch.step() is None
    assert "line 2" in caplog.text
    path.write_text('{"id": "a", "text": "changed"}\n{"id": "c", "text": "three"}\n')
    clock.now += 400  # longer than changes may wait to come to rest
    assert watch.step() is not None
    assert texts(kb) == {"a": "changed", "c": "three"}


def test_the_library_logs_and_shows_nothing() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("octavo").handlers)
