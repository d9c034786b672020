"""What `octavo stats` says: the fields are those that can be filtered by, as the page and the assistant name them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

import octavo
from octavo.collection.fields import metadata_fields
from octavo.ingest.summary import summarise
from octavo.store.metadata import summary

METADATA: list[dict[str, Any]] = [
    {"n": 1, "who": {"name": "Ada"}, "tags": ["a", "b"], "when": date(2024, 1, 2)},
    {"n": 2.5, "who": {"name": "Bo"}, "tags": [], "_source": "notes"},
    {"n": True, "who": None, "tags": ["a"]},
]


@pytest.fixture
def kb() -> octavo.Collection:
    collection = octavo.open()
    collection.add(["one", "", "three three"], vectors=[[1, 0], [0, 1], [1, 1]], metadata=METADATA)
    return collection


def test_fields_are_the_same_as_those_of_the_index(kb: octavo.Collection) -> None:
    assert summarise(kb, values=summary.MOST_VALUES).fields == metadata_fields(kb)[0]
    (who,) = (field for field in summarise(kb).fields if field.name == "who.name")
    assert (who.documents, who.values, who.distinct) == (2, [("Ada", 1), ("Bo", 1)], 2)


def test_texts_and_sources(kb: octavo.Collection) -> None:
    told: list[int] = []
    found = summarise(kb, advance=told.append)
    assert (found.documents, sum(told)) == (3, 3)
    assert found.sources == {"": 2, "notes": 1}
    assert (found.lengths.least, found.lengths.most, found.lengths.empty) == (3, 11, 1)


def test_a_filter_and_the_number_of_values(kb: octavo.Collection) -> None:
    found = summarise(kb, filter={"tags": "a"}, values=1)
    assert found.documents == 2
    (tags,) = (field for field in found.fields if field.name == "tags")
    assert (tags.values, tags.distinct, tags.complete) == ([("a", 2)], 2, False)


def test_no_end_of_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "_MOST_PATHS", 50)
    monkeypatch.setattr(summary, "MOST_DISTINCT", 30)
    fields = summary.summarise({"id": f"x{i}", f"key{i}": i} for i in range(100))
    assert len(fields) == 50
    assert (fields[0].name, fields[0].documents, fields[0].distinct) == ("id", 100, 30)
