"""The metadata index against the slow evaluator, on everything JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import InvalidFilterError
from octavo.filters import (
    Between,
    Compare,
    Contains,
    Exists,
    Field,
    Filter,
    In,
    Like,
    Not,
    Or,
    PartOf,
    TextMatch,
    matches,
)
from octavo.store.documents import _tagged, metadata_from_json
from octavo.store.metadata import index as metadata_index
from octavo.store.metadata._values import PREFIX
from octavo.store.sqlite import Connection, connect_scratch
from strategies import filter_trees

Metadata = dict[str, Any]

LONG = "l" * PREFIX
# Few values, so that operands meet them, and each edge that the index treats on its own.
TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "A",
    "Ä",
    "ß",
    "a\x00b",
    "%",
    "_x",
    "𝄞",
    "\ud7ff",
    "\ue000",
    "\ud800",
    LONG,
    LONG + "a",
    LONG + "b",
]
NUMBERS = [0, 1, -1, 2, 0.5, 1.0, -0.0, 2**53, 2.0**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2.0**63, 2**80, 1e300]
NUMBERS += [-(2**80), 10**400, -1e300, 9.3e18, 5e-324]
TIMES: list[date] = [
    date(2024, 5, 1),
    datetime(2024, 5, 1),
    datetime(2024, 5, 1, tzinfo=UTC),
    datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    datetime(2024, 5, 1, 0, 0, 0, 1),
    date.min,
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
]
TIME_TEXTS = ["2024-05-01", "2024-05-01T02:00+02:00", "20240501", "2024-05-02"]
KEYS = ["a", "b", "a.b", "", "\ud800"]

scalars = st.sampled_from([None, True, False, *NUMBERS, *TEXTS, *TIMES, *TIME_TEXTS])
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from([*KEYS, *TEXTS[:4]]), inner, max_size=3)
    ),
    max_leaves=6,
)
# Most documents have the field that most filters ask for.
documents = st.builds(
    lambda rest, value: {**rest, "a": value},
    st.dictionaries(st.sampled_from(KEYS), anything, max_size=2),
    anything,
) | st.dictionaries(st.sampled_from(KEYS), anything, max_size=1)
operands = scalars | st.lists(scalars | st.lists(scalars, max_size=2), max_size=3).map(tuple)
fields = st.builds(
    lambda path, elements, typed: Field(*path, elements=elements, typed=typed),
    st.just(["a"])
    | st.lists(st.sampled_from(KEYS[:2]), min_size=1, max_size=2)
    | st.sampled_from([["a.b"], [""], ["\ud800"]]),
    st.booleans(),
    st.booleans(),
)
texts = st.sampled_from(TEXTS)
patterns = st.text(alphabet="aAlß%_\x00\ud7ff", max_size=4) | st.just(LONG + "%") | st.just("\\%%")
leaves = st.one_of(
    st.builds(Compare, fields, st.sampled_from(["==", ">", ">=", "<", "<="]), operands),
    st.builds(Between, fields, texts | st.sampled_from(TIME_TEXTS), texts | st.sampled_from(TIME_TEXTS)),
    st.builds(Between, fields, st.sampled_from(TIMES), st.sampled_from(TIMES)),
    st.builds(Between, fields, st.sampled_from([*NUMBERS, True, False]), st.sampled_from([*NUMBERS, True, False])),
    st.builds(In, fields, st.lists(operands, max_size=4)),
    st.builds(Exists, fields),
    st.builds(Contains, fields, operands),
    st.builds(Like, fields, patterns, st.booleans()),
    st.builds(TextMatch, fields, texts, st.booleans()),
    st.builds(PartOf, fields, texts | st.just(LONG + "abÄ")),
)
trees = filter_trees(leaves, max_leaves=5)


def stored_json(metadata: Metadata) -> str:
    """As it is stored, with the lone surrogates that only other hands can have written there."""
    return json.dumps(_tagged(metadata))


@contextmanager
def indexed(metadata: Sequence[Metadata]) -> Iterator[Connection]:
    connection = connect_scratch()
    connection.execute("CREATE TABLE documents (slot INTEGER PRIMARY KEY, metadata TEXT NOT NULL)")
    connection.execute(metadata_index.DDL)
    connection.executemany(
        "INSERT INTO documents VALUES (?, ?)", ((slot, stored_json(item)) for slot, item in enumerate(metadata))
    )
    metadata_index.insert(connection, enumerate(metadata))
    try:
        yield connection
    finally:
        connection.close()


def oracle(tree: Filter, metadata: Sequence[Metadata], alive: np.ndarray) -> list[bool]:
    return [bool(lives and matches(tree, item)) for lives, item in zip(alive, metadata, strict=True)]


def everything(connection: Connection) -> list[Any]:
    return connection.execute("SELECT * FROM octavo_fields ORDER BY 1, 2, 3, 4").fetchall()


@settings(max_examples=250, deadline=None)
@given(st.lists(documents, max_size=8), st.lists(trees, min_size=1, max_size=6), st.data())
def test_the_index_agrees_with_the_evaluator(
    metadata: list[Metadata], wanted: list[Filter], data: st.DataObject
) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=len(metadata), max_size=len(metadata)))
    with indexed(metadata) as connection:
        for alive in (np.ones(len(metadata), np.bool_), np.array(flags, np.bool_)):
            before = alive.copy()
            for tree in wanted:
                mask = metadata_index.select(connection, tree, alive)
                assert mask.dtype == np.bool_
                assert mask.tolist() == oracle(tree, metadata, alive)
            np.testing.assert_array_equal(alive, before)


@pytest.mark.parametrize(
    "operand",
    [*NUMBERS, *TEXTS, *TIMES, *TIME_TEXTS, None, True, False, (), (1,), (True,), (1, "a"), (TIMES[0],)],
    ids=lambda value: repr(value)[:20],
)
def test_each_value_against_each_operand(operand: Any) -> None:
    values = [
        *NUMBERS,
        *TEXTS,
        *TIMES,
        *TIME_TEXTS,
        (1,),
        (TIMES[3],),
        None,
        True,
        False,
        {},
        {"a": 1},
        [],
        [1],
        [True],
        [1.0, "a"],
        [[1]],
        [[]],
        [None],
        {"b": {}},
    ]
    metadata = [{"x": value} for value in values] + [{"x": [value]} for value in values] + [{}]
    alive = np.ones(len(metadata), np.bool_)
    with indexed(metadata) as connection:
        for field in (
            Field("x"),
            Field("x", elements=True),
            Field("x", "a"),
            Field("x", typed=True),
            Field("x", elements=True, typed=True),
        ):
            wanted: list[Filter] = [Compare(field, op, operand) for op in ("==", ">", ">=", "<", "<=")]  # type: ignore[arg-type]
            wanted += [In(field, [operand, "b"]), Contains(field, operand)]
            if isinstance(operand, str):
                wanted += [TextMatch(field, operand), TextMatch(field, operand, True), PartOf(field, operand)]
                wanted += [Like(field, operand), Like(field, operand + "%"), Like(field, "%" + operand, True)]
                wanted += [Between(field, operand, "b"), Between(field, "a", operand)]
            elif isinstance(operand, (int, float)):
                wanted += [Between(field, operand, 2**63), Between(field, -1, operand)]
            elif isinstance(operand, date):
                wanted += [Between(field, operand, TIMES[-1]), Between(field, TIMES[0], operand)]
            for tree in wanted:
                assert metadata_index.select(connection, tree, alive).tolist() == oracle(tree, metadata, alive), tree


@settings(max_examples=60, deadline=None)
@given(st.lists(documents, min_size=1, max_size=6), st.data())
def test_removing_leaves_no_trace(metadata: list[Metadata], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(0, len(metadata) - 1)))
    kept = [(slot, item) for slot, item in enumerate(metadata) if slot not in gone]
    with indexed(metadata) as connection, indexed([]) as fresh:
        stored = [(slot, metadata_from_json(stored_json(metadata[slot]))) for slot in sorted(gone)]
        metadata_index.remove(connection, stored)
        metadata_index.remove(connection, stored)  # no error when it is gone already
        # Insert everything once more for the same numbering of fields, then take the rest out by hand.
        metadata_index.insert(fresh, enumerate(metadata))
        fresh.executemany("DELETE FROM octavo_fields WHERE slot = ?", [(slot,) for slot in gone])
        assert everything(connection) == everything(fresh)
        metadata_index.remove(connection, kept)
        assert everything(connection) == []


def test_removing_unknown_fields_creates_nothing() -> None:
    with indexed([{"a": 1}]) as connection:
        metadata_index.remove(connection, [(7, {"b": 2, "a": 2})])
        assert connection.execute("SELECT count(*) FROM octavo_field_names").fetchone() == (1,)
        assert len(everything(connection)) == 1


def test_clearing_and_filling_again() -> None:
    alive = np.ones(2, np.bool_)
    with indexed([{"a": 1}, {"b": 2}]) as connection:
        metadata_index.clear(connection)
        assert not metadata_index.select(connection, Or(Exists("a"), Exists("b")), alive).any()
        metadata_index.insert(connection, [(0, {"b": 2}), (1, {"a": 1})])
        assert metadata_index.select(connection, Exists("a"), alive).tolist() == [False, True]


def test_a_rollback_takes_the_index_back() -> None:
    with indexed([{"a": 1}]) as connection:
        before = everything(connection)
        connection.execute("BEGIN")
        metadata_index.insert(connection, [(1, {"a": 1, "new": 2})])
        metadata_index.remove(connection, [(0, {"a": 1})])
        connection.execute("ROLLBACK")
        assert everything(connection) == before
        assert connection.execute("SELECT count(*) FROM octavo_field_names").fetchone() == (1,)


def test_slots_beyond_the_snapshot_are_left_out() -> None:
    metadata = [{"a": 1, "l": 2**70}] * 5
    with indexed(metadata) as connection:
        for tree in (Compare("a", "==", 1), Compare("l", "==", 2**70), Not(Compare("a", "==", 2))):
            assert metadata_index.select(connection, tree, np.ones(3, np.bool_)).tolist() == [True] * 3


def test_verification_reads_candidates_in_chunks() -> None:
    metadata = [{"text": LONG + str(number % 3)} for number in range(2500)]
    alive = np.ones(len(metadata), np.bool_)
    tree = Compare("text", "==", LONG + "1")
    with indexed(metadata) as connection:
        np.testing.assert_array_equal(metadata_index.select(connection, tree, alive), np.arange(2500) % 3 == 1)


def test_long_texts_with_a_common_beginning_are_told_apart() -> None:
    """Of many long texts only those that may be equal are read; the rest of the JSON may be broken."""
    metadata: list[Metadata] = [{"text": LONG + str(number)} for number in range(20)]
    with indexed(metadata) as connection:
        connection.execute("UPDATE documents SET metadata = 'broken' WHERE slot != 7")
        mask = metadata_index.select(connection, In("text", [LONG + "7", LONG]), np.ones(20, np.bool_))
        assert np.flatnonzero(mask).tolist() == [7]


def test_a_huge_list_stays_within_the_variable_limit() -> None:
    metadata = [{"id": f"id-{number}"} for number in range(2000)]
    alive = np.ones(len(metadata), np.bool_)
    with indexed(metadata) as connection:
        connection.limit(apsw.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        wanted = In("id", [f"id-{number}" for number in range(0, 200_000, 2)])
        np.testing.assert_array_equal(metadata_index.select(connection, wanted, alive), np.arange(2000) % 2 == 0)
        assert metadata_index.select(connection, Not(wanted), alive).sum() == 1000


def test_values_are_bound_never_spliced() -> None:
    nasty = "x') OR 1=1; DROP TABLE octavo_fields; --"
    metadata: list[Metadata] = [{nasty: nasty}, {"a": "x"}]
    alive = np.ones(2, np.bool_)
    with indexed(metadata) as connection:
        for tree in (Compare(nasty, "==", nasty), In(nasty, [nasty]), Compare(nasty, ">=", nasty), Like(nasty, nasty)):
            assert metadata_index.select(connection, tree, alive).tolist() == [True, False]


def test_a_common_value_is_read_from_the_index_alone() -> None:
    """Exact values must not be verified against the JSON: break the JSON, and nothing changes."""
    metadata: list[Metadata] = [{"n": number % 2, "s": str(number), "tags": ["a", number]} for number in range(50)]
    alive = np.ones(50, np.bool_)
    wanted = (
        Compare("n", "==", 1),
        Between("n", 0, 0),
        Contains("tags", 7),
        In("s", ["1"]),
        Like("s", "1%"),
        Exists("n"),
    )
    with indexed(metadata) as connection:
        connection.execute("UPDATE documents SET metadata = 'broken'")
        for tree in wanted:
            assert metadata_index.select(connection, tree, alive).tolist() == oracle(tree, metadata, alive)


@pytest.mark.parametrize("value", [{1, 2}, b"x", object()])
def test_what_is_not_json_is_refused(value: object) -> None:
    with indexed([]) as connection, pytest.raises(TypeError, match=r"expected a JSON value under 'a\.b'"):
        metadata_index.insert(connection, [(0, {"a": {"b": value}})])


def test_selecting_by_what_is_no_tree_is_refused() -> None:
    with indexed([]) as connection, pytest.raises(InvalidFilterError, match="expected a filter tree"):
        metadata_index.select(connection, {"a": 1}, np.ones(0, np.bool_))  # type: ignore[arg-type]


def test_deeply_nested_metadata_is_indexed() -> None:
    nested: Metadata = {"x": 1}
    for _ in range(300):
        nested = {"d": nested}
    tree = Compare(Field(*["d"] * 300, "x"), "==", 1)
    with indexed([nested, {}]) as connection:
        assert metadata_index.select(connection, tree, np.ones(2, np.bool_)).tolist() == [True, False]
