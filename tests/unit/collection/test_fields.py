"""What can be filtered by: read off the index, or counted from documents, with the same answer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo.collection.fields import metadata_fields
from octavo.store.metadata.summary import MOST_FIELDS, MOST_VALUES, FieldSummary, summarise

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2)
    | st.sampled_from(["a", "b", "x" * 300])
    | st.dates(date(2000, 1, 1), date(2000, 1, 9))
)
METADATA = st.dictionaries(
    st.sampled_from(["a", "b", "a.b", "ü"]),
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(["b", "c"]), SCALARS, max_size=2),
    max_size=4,
)


def fields_of(metadata: list[dict[str, Any]]) -> list[FieldSummary]:
    with octavo.open() as kb:
        kb.add([""] * len(metadata), metadata=metadata, vectors=[[1.0, 0.0]] * len(metadata))
        fields, looked_at = metadata_fields(kb)
    assert looked_at is None
    return fields


@given(st.lists(METADATA, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_index_and_documents_agree(metadata: list[dict[str, Any]]) -> None:
    assert fields_of(metadata) == summarise(metadata)


@given(st.lists(METADATA, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_values_are_what_filters_find(metadata: list[dict[str, Any]]) -> None:
    with octavo.open() as kb:
        kb.add([""] * len(metadata), metadata=metadata, vectors=[[1.0, 0.0]] * len(metadata))
        for field in metadata_fields(kb)[0]:
            for value, count in field.values:
                found = kb.count({field.name: {"$eq": value}})
                # A key with a dot and a nested one share their name, and an ISO text means the time as well.
                assert found >= count
                assert found == count or "." in field.name or "time" in field.kinds


def test_values_and_ends() -> None:
    metadata = [
        {"year": 2000 + n % 30, "tags": ["x", "y"], "day": date(2024, 5, 1 + n % 9), "open": n % 2 == 0}
        for n in range(90)
    ]
    by_name = {field.name: field for field in fields_of(metadata)}
    assert (by_name["year"].least, by_name["year"].greatest) == (2000, 2029)
    assert len(by_name["year"].values) == MOST_VALUES
    assert not by_name["year"].complete
    assert by_name["tags"].values == [("x", 90), ("y", 90)]
    assert by_name["tags"].kinds == ["list", "text"]
    assert by_name["day"].least == "2024-05-01"
    assert fields_of([{"t": datetime(2024, 5, 1, 12, tzinfo=UTC)}])[0].least == "2024-05-01T12:00:00+00:00"
    assert by_name["open"].values == [(False, 45), (True, 45)]
    assert by_name["open"].complete


def test_deleted_documents_do_not_count() -> None:
    with octavo.open() as kb:
        kb.add(["a", "b"], ids=["a", "b"], vectors=[[1, 0], [0, 1]], metadata=[{"n": 1}, {"m": 2}])
        kb.delete(["a"])
        assert [field.name for field in metadata_fields(kb)[0]] == ["m"]
        kb.clear()
        assert metadata_fields(kb) == ([], None)


def test_no_end_of_fields() -> None:
    fields = fields_of([{f"key {n}": n} for n in range(MOST_FIELDS + 50)])
    assert len(fields) == MOST_FIELDS


@pytest.mark.parametrize("n", [3, 2_100])
def test_in_qdrant(tmp_path: Path, n: int) -> None:
    from octavo.integrations.qdrant import QdrantCollection

    kb = QdrantCollection.create(path=tmp_path / "kb")
    kb.add([""] * n, metadata=[{"n": number % 2} for number in range(n)], vectors=[[1.0, 0.0]] * n)
    [field], looked_at = metadata_fields(kb)
    assert (field.name, field.complete, looked_at) == ("n", True, 2_000 if n > 2_000 else None)
    kb.close()
