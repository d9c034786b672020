"""Metadata comes back equal, whatever it was made of, or is refused by name; see docs/decisions/typed-metadata.md."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import pickle
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavo
from octavo.errors import InputTypeError, OctavoError, ParameterError
from octavo.filters import Between, Compare, matches
from octavo.store.documents import (
    Document,
    metadata_from_json,
    metadata_from_tagged,
    metadata_to_json,
    metadata_to_tagged,
    normal_metadata,
    read_batches,
)

BERLIN = timezone(timedelta(hours=2))


class Text(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
    SOURCE = "source"


class Number(enum.IntEnum):
    ONE = 1


class Plain(enum.Enum):
    X = "x"


tags = st.sampled_from(
    ["a", "octavo:date", "octavo:datetime", "octavo:tuple", "octavo::date", "octavo:::tuple", "octavo:other"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(BERLIN))
    | st.sampled_from(["2024-05-01", "2024-05-01T00:00:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(tags, inner),
    max_leaves=8,
)


def types_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: types_of(inner) for key, inner in value.items()}
    return type(value), [types_of(inner) for inner in value] if isinstance(value, list | tuple) else None


@given(st.dictionaries(tags, values, max_size=3))
def test_what_goes_in_comes_back(metadata: dict[str, Any]) -> None:
    text = metadata_to_json(metadata, "document 0")
    for back in (
        metadata_from_json(text),
        metadata_from_tagged(json.loads(text)),
        metadata_from_tagged(metadata_to_tagged(metadata)),
        normal_metadata(metadata, "document 0"),
    ):
        assert back == metadata
        assert types_of(back) == types_of(metadata)


@pytest.mark.parametrize(
    ("given_", "stored"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2024-05-01"), date(2024, 5, 1)),
        (np.datetime64("2024-05"), date(2024, 5, 1)),
        (np.datetime64("2024-05-01T12:00"), datetime(2024, 5, 1, 12)),
        (np.datetime64("2024-05-01T12:00:00.000001000"), datetime(2024, 5, 1, 12, 0, 0, 1)),
        (Text.SOURCE, "source"),
        (Number.ONE, 1),
        ([np.int8(1), (np.int8(2),)], [1, (2,)]),
    ],
    ids=repr,
)
def test_what_becomes_plain(given_: Any, stored: Any) -> None:
    back = metadata_from_json(metadata_to_json({"a": given_}, "document 0"))
    assert back == {"a": stored}
    assert types_of(back) == types_of({"a": stored})


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1.1"),
        uuid.UUID(int=1),
        PurePosixPath("a"),
        Plain.X,
        {1},
        frozenset(),
        b"x",
        1j,
        np.ones(2),
        np.datetime64("NaT", "s"),
        np.datetime64("2024-05-01T12:00:00.000000001"),
        np.datetime64("20000-01-01T00"),
        timedelta(1),
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_rest_is_refused_with_its_key(value: Any) -> None:
    for metadata in ({"a": {"b": value}}, {"a": {"b": [value]}}, {"a": {"b": (1, {"c": value})}}):
        with pytest.raises(InputTypeError, match=rf"document 7: .*{type(value).__name__}.* under 'a\.b"):
            metadata_to_json(metadata, "document 7")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_numbers_that_are_none_are_refused_with_their_key(value: float) -> None:
    with pytest.raises(ParameterError, match=r"document 7: .* under 'a\.b'"):
        metadata_to_json({"a": {"b": value}}, "document 7")


def test_cycles_and_surrogates_in_keys_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ParameterError, match=r"document 7.*nested"):
        metadata_to_json({"a": endless}, "document 7")
    with pytest.raises(ParameterError, match=r"document 7.*under 'a'.*surrogate"):
        metadata_to_json({"a": {"\ud800": 1}}, "document 7")


@pytest.mark.parametrize("value", [5, "tomorrow", None, [1], {"octavo:date": "x"}])
def test_tags_of_other_hands_are_read_as_they_are(value: Any) -> None:
    for tag in ("octavo:date", "octavo:datetime"):
        assert metadata_from_json(json.dumps({"a": {tag: value}})) == {"a": {tag: value}}
    assert metadata_from_json('{"a": {"octavo:tuple": 5}}') == {"a": {"octavo:tuple": 5}}
    assert metadata_from_json('{"a": {"octavo:date": "2024-05-01", "b": 1}}')["a"]["b"] == 1


@given(
    st.datetimes(timezones=st.none() | st.just(UTC) | st.just(BERLIN)) | st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC) | st.just(BERLIN)) | st.dates(),
)
def test_comparisons_are_those_of_times_in_utc(stored: date, operand: date) -> None:
    def utc(value: date) -> datetime:
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        return value if value.tzinfo else value.replace(tzinfo=UTC)

    expected = {"==": utc(stored) == utc(operand), "<": utc(stored) < utc(operand), ">=": utc(stored) >= utc(operand)}
    for op, outcome in expected.items():
        assert matches(Compare("t", op, operand), {"t": stored}) is outcome  # type: ignore[arg-type]
        assert matches(Compare("t", op, operand.isoformat()), {"t": stored}) is outcome  # type: ignore[arg-type]
    assert matches(Between("t", operand, operand), {"t": stored}) is expected["=="]
    assert not matches(Compare("t", "==", operand), {"t": stored.isoformat()})  # a string is no time
    assert not matches(Compare("t", "<", 10**18), {"t": stored})


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "kb" if request.param == "disk" else None


def test_a_collection_keeps_and_finds_times(place: Path | None, tmp_path: Path) -> None:
    metadata: list[dict[str, Any]] = [
        {"at": datetime(2024, 5, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), "size": (3, 4), Text.SOURCE: np.int64(1)},
        {"at": date(2024, 5, 2), "size": [5], "source": Text.SOURCE},
        {"at": "2024-05-01", "own": {"octavo:date": "2024-05-01"}},
    ]
    with octavo.open(place) as kb:
        kb.add(["a", "b", "c"], ids=["a", "b", "c"], metadata=metadata, vectors=np.eye(3))
        assert [document.metadata for document in kb.get(["a", "b", "c"])] == metadata
        assert kb.ids(filter={"source": 1}) == ["a"]
        assert kb.ids(filter={"source": "source"}) == ["b"]
        assert kb.ids(filter={"at": {"$gte": datetime(2024, 5, 1, 10, tzinfo=UTC)}}) == ["a", "b"]
        assert kb.ids(filter={"at": {"$gt": datetime(2024, 5, 1, 10, tzinfo=UTC)}}) == ["b"]
        assert kb.ids(filter={"at": {"$between": [date(2024, 5, 1), np.datetime64("2024-05-02")]}}) == ["a", "b"]
        assert kb.ids(filter={"at": {"$in": ["2024-05-01", "2024-05-02"]}}) == ["b", "c"]
        assert kb.ids(filter={"at": {"$lt": "2024-05-01T11"}}) == ["a", "c"]
        assert kb.ids(filter={"size": {"$contains": 4}}) == ["a"]
        assert kb.ids(filter={"size": {"$eq": [3, 4]}}) == ["a"]
        assert kb.ids(filter={"own.octavo:date": "2024-05-01"}) == ["c"]
        assert kb.search([1, 0, 0], 3, filter=lambda found: found.metadata["at"] == date(2024, 5, 2)).ids == ["b"]
        assert kb.verify().problems == []
        kb.export(tmp_path / "export")
        kb.delete(["c"])
        with pytest.raises(OctavoError, match="under 'at'"):
            kb.add(["d"], ids=["a"], metadata=[{"at": {1}}], vectors=np.eye(3)[:1])
        assert kb.get(["a"])[0].metadata == metadata[0]
    with octavo.import_from(tmp_path / "export", tmp_path / "imported") as kb:
        assert [document.metadata for document in kb.get(["a", "b", "c"])] == metadata
        assert kb.ids(filter={"at": {"$gt": date(2024, 5, 1)}}) == ["a", "b"]
        assert kb.verify(repair=True).repaired == []
        found = kb.search_batch([[1, 0, 0], [1, 0, 0]], 1)
        found[0].documents[0].metadata["at"] = None
        assert found[1].documents[0].metadata == metadata[0]


@given(
    st.lists(st.none() | st.dictionaries(tags | st.text(max_size=3), values, max_size=3), max_size=6), st.integers(1, 4)
)
def test_a_batch_is_stored_as_its_documents_would_be(metadata: list[dict[str, Any] | None], batch_size: int) -> None:
    given_ = [{"text": "t"} if each is None else {"text": "t", "metadata": each} for each in metadata]
    vectors = np.ones((len(metadata), 2), np.float32)
    batches = list(read_batches(given_, None, None, vectors, None, batch_size=batch_size, dim=2))
    expected = [normal_metadata(each or {}, "it") for each in metadata]
    found = [parsed for batch in batches for parsed in batch.parsed]
    assert list(map(types_of, found)) == list(map(types_of, expected))
    assert found == expected
    assert [text for batch in batches for text in batch.metadata] == [metadata_to_json(each, "it") for each in expected]
    assert all(len(batch) <= batch_size for batch in batches)
    assert not any(parsed is each for parsed, each in zip(found, metadata, strict=True))  # shares nothing


@pytest.mark.parametrize(
    "bad", [{"a": "\ud800"}, {"a": [{"b": "\udfff"}]}, {"a": float("nan")}, {1: 2}, {"a": {3}}, "x"]
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_what_is_refused_is_named_whatever_its_batch(bad: Any, size: int) -> None:
    metadata = [{"a": 1}, {"b": [1, {"c": 2}]}, {}, bad, {"a": 2}]
    with pytest.raises(OctavoError, match="document 3"):
        list(read_batches(["t"] * 5, None, metadata, np.ones((5, 2)), None, batch_size=size, dim=2))


def test_more_than_is_kept_between_check_and_writing_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.store.documents._KEPT", 4)
    ids, vectors = [f"d{number}" for number in range(11)], np.arange(22).reshape(11, 2)
    batches = list(read_batches(["t"] * 11, ids, None, vectors, None, batch_size=3, dim=2))
    assert [identifier for batch in batches for identifier in batch.ids] == ids
    assert np.array_equal(np.concatenate([batch.vectors for batch in batches if batch.vectors is not None]), vectors)
    with pytest.raises(ParameterError, match=r"'d1' twice \(document 10\)"):
        next(read_batches(["t"] * 11, [*ids[:10], "d1"], None, vectors, None, batch_size=3, dim=2))


def test_a_stored_document_is_like_any_other() -> None:
    text = metadata_to_json({"day": date(2024, 5, 1), "n": [1]}, "it")
    plain = Document("i", "t", {"day": date(2024, 5, 1), "n": [1]})
    assert Document.stored("i", "t", text) == plain
    assert repr(Document.stored("i", "t", text)) == repr(plain)
    for copied in (
        copy.copy(Document.stored("i", "t", text)),
        copy.deepcopy(Document.stored("i", "t", text)),
        pickle.loads(pickle.dumps(Document.stored("i", "t", text))),
        dataclasses.replace(Document.stored("i", "t", text)),
    ):
        assert copied == plain
    stored = Document.stored("i", "t", text)
    stored.metadata["n"].append(2)
    assert stored.metadata["n"] == [1, 2]  # read once
    assert not hasattr(stored, "other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        stored.metadata = {}  # type: ignore[misc]
