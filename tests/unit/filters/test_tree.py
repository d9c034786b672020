"""What each node of the filter tree means, and that trees are values."""

from __future__ import annotations

import copy
import itertools
import pickle
import sqlite3
import time
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import InvalidFilterError
from octavo.filters import (
    And,
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
from octavo.filters.like import compile_like, escape_like

DOCUMENT = {
    "year": 2020,
    "score": 0.5,
    "draft": True,
    "title": "Straße und Weg",
    "tags": ["red", "green", 7, None],
    "none": None,
    "empty": [],
    "blank": "",
    "author": {"name": "Ada", "born": {"year": 1815}},
    "a.b": "dotted",
}
TAGS = Field("tags", elements=True)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (And(), True),
        (Or(), False),
        (Not(And()), False),
        (Compare("year", "==", 2020), True),
        (Compare("year", "==", 2020.0), True),
        (Compare("year", "==", "2020"), False),
        (Compare("year", ">", 2019.5), True),
        (Compare("year", ">", 2020), False),
        (Compare("year", ">=", 2020), True),
        (Compare("year", "<", 2021), True),
        (Compare("year", "<=", 2019), False),
        (Compare("year", ">", "2019"), False),
        (Not(Compare("year", ">", "2019")), True),
        (Compare("draft", "==", 1), True),
        (Compare("draft", ">", 0), True),
        (Compare("year", "==", None), False),
        (Compare("none", "==", None), True),
        (Compare("nowhere", "==", None), False),
        (Not(Compare("nowhere", "==", 1)), True),
        (Compare("none", "<", 1), False),
        (Compare("author", ">", 1), False),
        (Compare("year", ">", None), False),
        (Compare("tags", "==", "red"), False),
        (Compare("tags", "==", ["red", "green", 7, None]), True),  # type: ignore[arg-type]
        (Compare("tags", ">", ("pink",)), True),
        (Compare("tags", ">", (1,)), False),
        (Compare(TAGS, "==", "red"), True),
        (Compare(TAGS, "==", None), True),
        (Compare(TAGS, ">", 6), True),
        (Compare(TAGS, ">", 7), False),
        (Compare(Field("year", elements=True), "==", 2020), True),
        (Compare("a.b", "==", "dotted"), True),
        (Compare(Field("a", "b"), "==", "dotted"), False),
        (Compare(Field("author", "born", "year"), "<", 1900), True),
        (Compare(Field("title", "x"), "==", "S"), False),
        (Between("year", 2020, 2020), True),
        (Between("year", 2021, 2019), False),
        (Between("title", "S", "T"), True),
        (Between(TAGS, 1, 6), False),
        (In("year", [1, 2020]), True),
        (In("year", ()), False),
        (In("none", [None]), True),
        (In("empty", [()]), True),
        (In(TAGS, ["blue", "green"]), True),
        (In("tags", ["blue", "green"]), False),
        (Exists("none"), True),
        (Exists("nowhere"), False),
        (Exists(Field("author", "born")), True),
        (Contains("tags", 7), True),
        (Contains("tags", 8), False),
        (Contains("tags", None), True),
        (Contains("title", "und"), True),
        (Contains("title", 7), False),
        (Contains("author", "name"), True),
        (Contains("author", "Ada"), False),
        (Contains("year", 2), False),
        (Like("title", "Stra_e%"), True),
        (Like("title", "stra%"), False),
        (Like("title", "STRASSE%", ignore_case=True), True),
        (Like("year", "%"), False),
        (Like("blank", ""), True),
        (Like(TAGS, "r%"), True),
        (TextMatch("title", "und"), True),
        (TextMatch("title", "UND"), False),
        (TextMatch("title", "UND", ignore_case=True), True),
        (TextMatch("title", "STRASSE", ignore_case=True), False),
        (TextMatch("tags", "red"), False),
        (PartOf("blank", "anything"), True),
        (PartOf("title", "In der Straße und Weg 7"), True),
        (PartOf("title", "Straße"), False),
        (PartOf("year", "2020"), False),
    ],
)
def test_each_node_means_what_it_says(tree: Filter, expected: bool) -> None:
    assert matches(tree, DOCUMENT) is expected


@pytest.mark.parametrize(("first", "second"), list(itertools.product([True, False], repeat=2)))
def test_groups_follow_boolean_logic(first: bool, second: bool) -> None:
    nodes = [And() if truth else Or() for truth in (first, second)]
    assert matches(And(*nodes), {}) is (first and second)
    assert matches(Or(*nodes), {}) is (first or second)
    assert matches(Not(nodes[0]), {}) is (not first)


def test_trees_are_values() -> None:
    def build() -> Filter:
        return And(Or(In("a", [1, [2, "x"]]), Not(Exists("b"))), Like(Field("c", "d"), "x%", ignore_case=True))  # type: ignore[list-item]

    tree = build()
    assert tree == build()
    assert hash(tree) == hash(build())
    assert len({tree, build(), Not(tree)}) == 2
    assert And(tree) != Or(tree)
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert copy.deepcopy(tree) == tree
    assert eval(repr(tree)) == tree


@pytest.mark.parametrize("node", [And(Exists("a")), Not(Exists("a")), Exists("a"), Field("a")])
def test_trees_cannot_be_changed(node: Any) -> None:
    name = next(n for n in ("filters", "filter", "field", "path") if hasattr(node, n))
    with pytest.raises(AttributeError):
        setattr(node, name, ())
    with pytest.raises(AttributeError):
        delattr(node, name)


def test_an_operand_is_copied() -> None:
    values = [1, 2]
    tree = In("a", values)
    values.append(3)
    assert not matches(tree, {"a": 3})


def test_operands_become_plain_python() -> None:
    class Text(str):
        __slots__ = ()

    tree = In("a", [np.int64(3), np.float32(0.5), np.bool_(True), Text("x")])
    assert [type(value) for value in tree.values] == [int, float, bool, str]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Compare("a", "!=", 1), "unknown comparison '!='"),
        (lambda: Compare("a", "==", float("nan")), "NaN"),
        (lambda: Compare("a", "==", {"x": 1}), "one by one"),
        (lambda: Compare("a", "==", b"x"), "got bytes"),
        (lambda: Compare(1, "==", 1), "a key or a Field"),
        (lambda: In("a", "abc"), "In expects a list"),
        (lambda: Between("a", 1, "b"), "two numbers, two strings or two dates"),
        (lambda: Between("a", None, None), "two numbers, two strings or two dates"),
        (lambda: Like("a", 3), "Like expects a string, got 3"),
        (lambda: Like("a", "x\\"), "lone backslash"),
        (lambda: TextMatch("a", None), "TextMatch expects a string"),
        (lambda: PartOf("a", ["x"]), "PartOf expects a string"),
        (lambda: And({"a": 1}), "And expects filters"),
        (lambda: Not(None), "Not expects a filter"),
        (lambda: Field(), "one or more string keys"),
        (lambda: Field("a", 1), "one or more string keys"),
        (lambda: matches({"a": 1}, {}), "expected a filter tree"),
    ],
)
def test_malformed_nodes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidFilterError, match=message):
        make()


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab%_\\.\n", max_size=8), st.text(alphabet="ab%_\\.\n", max_size=10))
def test_like_is_sqlite_like(pattern: str, text: str) -> None:
    trailing = len(pattern) - len(pattern.rstrip("\\"))
    if trailing % 2:
        with pytest.raises(InvalidFilterError):
            compile_like(pattern)
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like = ON")
        expected = connection.execute("SELECT ? LIKE ? ESCAPE '\\'", (text, pattern)).fetchone()[0]
    connection.close()
    assert compile_like(pattern)(text) is bool(expected)


@given(st.text(), st.text())
def test_an_escaped_text_matches_itself_only(text: str, other: str) -> None:
    predicate = compile_like(escape_like(text))
    assert predicate(text)
    assert predicate(other) is (text == other)


def test_a_hostile_pattern_takes_no_time() -> None:
    predicate = compile_like("%a_" * 20 + "b")
    start = time.perf_counter()
    assert not predicate("a" * 5000)
    assert time.perf_counter() - start < 2  # a backtracking regular expression would not end


def test_true_and_one_make_different_leaves() -> None:
    """Answers to filters are remembered by filter: one that asks for 1 must not get the answer of one that asks for True."""
    for one, other in ((True, 1), ((True,), (1,)), (False, 0.0)):
        assert Compare("a", "==", one) != Compare("a", "==", other)
        assert In("a", [one]) != In("a", [other])
        assert Contains("a", one) != Contains("a", other)
    assert Between("a", False, 5) != Between("a", 0, 5)
    assert Compare("a", "==", 1) == Compare("a", "==", 1.0)
    assert Compare(Field("a", typed=True), "==", 1) != Compare("a", "==", 1)
    assert len({Compare("a", "==", True), Compare("a", "==", 1)}) == 2
