"""The dict form of filters: what it means and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import InvalidFilterError
from octavo.filters import And, Compare, Exists, Field, Not, matches, parse_filter
from octavo.filters._dicts import MAX_DEPTH

BEE = {"year": 2020, "lang": "en", "tags": ["a", "b"], "score": 1.5, "none": None, "open": True}
ANT = {"year": 1999, "lang": "De", "tags": [], "author": {"name": "Ada"}}
CAT = {"lang": "en_US", "a.b": 1, "tags": "abc"}
DOCUMENTS = {"bee": BEE, "ant": ANT, "cat": CAT}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"year": 2020}, "bee"),
        ({"year": {"$eq": 2020}}, "bee"),
        ({"year": {"$ne": 2020}}, "ant cat"),
        ({"year": {"$neq": 2020}}, "ant cat"),
        ({"year": {"$gt": 1999}}, "bee"),
        ({"year": {"$gte": 1999}}, "bee ant"),
        ({"year": {"$lt": 2020}}, "ant"),
        ({"year": {"$lte": 2020}}, "bee ant"),
        ({"year": {"$gte": 1990, "$lt": 2000}}, "ant"),
        ({"year": {"$in": [1999, 5]}}, "ant"),
        ({"year": {"$in": []}}, ""),
        ({"year": {"$nin": [1999, 5]}}, "bee cat"),
        ({"year": {"$nin": []}}, "bee ant cat"),
        ({"year": [1999, 2020]}, "bee ant"),
        ({"year": {"$in": {1999, 2020}}}, "bee ant"),
        ({"year": {"$between": [1999, 2010]}}, "ant"),
        ({"lang": {"$between": ["e", "f"]}}, "bee cat"),
        ({"year": {"$exists": True}}, "bee ant"),
        ({"year": {"$exists": False}}, "cat"),
        ({"none": {"$exists": True}}, "bee"),
        ({"none": None}, "bee ant cat"),
        ({"year": None}, "cat"),
        ({"year": {"$ne": None}}, "bee ant"),
        ({"year": {"$in": [None, 1999]}}, "ant cat"),
        ({"lang": {"$like": "en%"}}, "bee cat"),
        ({"lang": {"$like": "en\\_%"}}, "cat"),
        ({"lang": {"$like": "de"}}, ""),
        ({"lang": {"$ilike": "de"}}, "ant"),
        ({"tags": {"$contains": "a"}}, "bee cat"),
        ({"tags": {"$contains": "bc"}}, "cat"),
        ({"tags": "a"}, "bee"),
        ({"tags": {"$ne": "a"}}, "ant cat"),
        ({"tags": {"$in": ["b", "x"]}}, "bee"),
        ({"tags": {"$eq": ["a", "b"]}}, "bee"),
        ({"tags": {"$eq": []}}, "ant"),
        ({"tags": {"$gt": "a"}}, "bee cat"),
        ({"open": True}, "bee"),
        ({"open": 1}, ""),
        ({"open": {"$in": [1, 2]}}, ""),
        ({"open": {"$in": [1, True]}}, "bee"),
        ({"open": {"$gt": 0}}, ""),
        ({"open": {"$gt": False}}, "bee"),
        ({"open": {"$between": [0, 1]}}, ""),
        ({"open": {"$ne": 1}}, "bee ant cat"),
        ({"author.name": "Ada"}, "ant"),
        ({"author.name": {"$ne": "Ada"}}, "bee cat"),
        ({"author.name": None}, "bee cat"),
        ({"author.name": {"$exists": True}}, "ant"),
        ({"a.b": 1}, "cat"),
        ({"year": 2020, "lang": "en"}, "bee"),
        ({"year": 2020, "lang": "De"}, ""),
        ({"$and": [{"year": {"$gt": 1}}, {"lang": "De"}]}, "ant"),
        ({"$or": [{"year": 2020}, {"lang": "De"}]}, "bee ant"),
        ({"$or": [{"year": 2020}, {"lang": "De"}], "lang": "en"}, "bee"),
        ({"$not": {"year": 2020}}, "ant cat"),
        ({"$not": [{"year": 2020}, {"lang": "De"}]}, "cat"),
        ({"$not": {"$not": {"year": 2020}}}, "bee"),
        ({"year": {"$not": {"$gt": 2000}}}, "ant cat"),
        ({"year": {"$not": {"$gt": 2000}, "$exists": True}}, "ant"),
        ({"$and": [{}, {"year": 2020}]}, "bee"),
        ({"$or": [Compare("year", "==", 2020), {"lang": "De"}]}, "bee ant"),
    ],
)
def test_meaning(given_: dict[str, Any], expected: str) -> None:
    tree = parse_filter(given_)
    assert tree is not None
    assert [name for name, metadata in DOCUMENTS.items() if matches(tree, metadata)] == expected.split()


def test_nothing_to_restrict() -> None:
    assert parse_filter(None) is None
    assert parse_filter({}) is None


def test_a_tree_passes_through() -> None:
    tree = And(Exists("a"), Not(Compare(Field("b"), "==", 1)))
    assert parse_filter(tree) is tree


def test_the_input_is_left_alone() -> None:
    values = [1, 2]
    tree = parse_filter({"a": {"$in": values}})
    values.append(3)
    assert tree is not None
    assert not matches(tree, {"a": 3})


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"year": {"$regex": "x"}}, r"unknown operator '\$regex' on 'year'; known: \$eq, \$ne.*\$contains, \$not"),
        ({"$gte": 3}, r"unknown operator '\$gte' in the place of a field; known here: \$and, \$or, \$not"),
        ({"$nor": [{"a": 1}]}, r"unknown operator '\$nor'"),
        ({"a": {"b": 1}}, r"write 'a\.b'"),
        ({"a": {}}, "empty"),
        ({"a": {"$eq": {"b": 1}}}, r"\$eq on 'a'.*object"),
        ({"a": {"$eq": float("nan")}}, "NaN"),
        ({"a": object()}, r"\$eq on 'a'.*got object"),
        ({"a": {"$in": "abc"}}, r"\$in on 'a' expects a list of values, got 'abc'"),
        ({"a": {"$nin": 3}}, r"\$nin on 'a' expects a list"),
        ({"a": {"$in": {"x": 1}}}, r"\$in on 'a' expects a list"),
        ({"a": {"$between": [1]}}, r"\$between on 'a' expects a list \[low, high\], got \[1\]"),
        ({"a": {"$between": [1, 2, 3]}}, r"\$between"),
        ({"a": {"$between": "ab"}}, r"\$between"),
        ({"a": {"$between": [1, "b"]}}, "two numbers, two strings, or two dates"),
        ({"a": {"$exists": 1}}, r"\$exists on 'a' expects True or False, got 1"),
        ({"a": {"$like": 5}}, r"\$like on 'a' expects a string pattern, got 5"),
        ({"a": {"$ilike": None}}, r"\$ilike"),
        ({"a": {"$like": "x\\"}}, "lone backslash"),
        ({"a": {"$gt": None}}, r"\$gt on 'a' expects a number, a string, a date or a time, got None"),
        ({"a": {"$lte": [1]}}, r"\$lte"),
        ({"a": {"$contains": ["x"]}}, r"\$contains on 'a' expects one value"),
        ({"a": {"$not": 5}}, r"\$not on 'a' expects a dict of operators, got 5"),
        ({"$and": {"a": 1}}, r"\$and expects a list"),
        ({"$or": []}, r"\$or expects a list of at least one filter, got \[\]"),
        ({"$not": []}, r"\$not expects a list of at least one"),
        ({"$and": [3]}, "expected a filter"),
        ({3: 4}, "expected the name of a field"),
        ({"a": {3: 4}}, "unknown operator 3"),
        ("year > 3", "expected a filter such as"),
        ([], "expected a filter such as"),
    ],
)
def test_malformed_filters_are_refused(given_: Any, message: str) -> None:
    with pytest.raises(InvalidFilterError, match=message):
        parse_filter(given_)


def test_endless_nesting_is_refused() -> None:
    given_: dict[str, Any] = {"a": 1}
    below: dict[str, Any] = {"$eq": 1}
    for _ in range(MAX_DEPTH + 1):
        given_ = {"$not": given_}
        below = {"$not": below}
    for nested in (given_, {"a": below}):
        with pytest.raises(InvalidFilterError, match="nested deeper"):
            parse_filter(nested)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OPERATORS = "$eq $ne $neq $gt $gte $lt $lte $in $nin $between $exists $like $ilike $contains $not $and $or $what a"


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        JSON,
        lambda inner: (
            st.dictionaries(st.sampled_from(OPERATORS.split()), inner, min_size=1, max_size=2)
            | st.lists(inner, max_size=2)
        ),
        max_leaves=8,
    ),
    st.dictionaries(st.just("a"), JSON),
)
def test_any_input_is_parsed_or_refused(given_: Any, metadata: dict[str, Any]) -> None:
    try:
        tree = parse_filter(given_)
    except InvalidFilterError:
        return
    assert tree is None or matches(tree, metadata) in (True, False)
