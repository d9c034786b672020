"""LangChain's structured queries mean what the dict form means."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery

from octavo.errors import InvalidFilterError
from octavo.filters import Filter, matches, parse_filter
from octavo.integrations.langchain._structured_query import OctavoTranslator

DOCUMENTS: list[dict[str, Any]] = [
    {"year": 2020, "tags": ["a", "b"], "name": "Ada Lovelace", "day": "2024-05-01"},
    {"year": 1999, "tags": [], "name": "ada", "day": "2023-12-31T10:00:00"},
    {"author": {"name": "Ada"}},
]


def translate(directive: Any) -> Filter:
    query, kwargs = OctavoTranslator().visit_structured_query(StructuredQuery(query="words", filter=directive))
    assert query == "words"
    return kwargs["filter"]  # type: ignore[no-any-return]


def found(tree: Filter) -> list[int]:
    return [number for number, metadata in enumerate(DOCUMENTS) if matches(tree, metadata)]


@pytest.mark.parametrize(
    ("comparator", "attribute", "value", "expected"),
    [
        (Comparator.EQ, "year", 2020, [0]),
        (Comparator.NE, "year", 2020, [1, 2]),
        (Comparator.GT, "year", 1999, [0]),
        (Comparator.GTE, "year", 1999, [0, 1]),
        (Comparator.LT, "year", 2020, [1]),
        (Comparator.LTE, "year", 2020, [0, 1]),
        (Comparator.CONTAIN, "tags", "b", [0]),
        (Comparator.LIKE, "name", "Ada%", [0]),
        (Comparator.IN, "year", [1999, 3], [1]),
        (Comparator.NIN, "year", [1999, 3], [0, 2]),
        (Comparator.EQ, "author.name", "Ada", [2]),
        (Comparator.GTE, "day", {"type": "date", "date": "2024-01-01"}, [0]),
        (Comparator.LT, "day", {"type": "datetime", "datetime": "2024-01-01T00:00:00"}, [1]),
        (Comparator.IN, "day", [{"type": "date", "date": "2024-05-01"}], [0]),
    ],
)
def test_comparators(comparator: Comparator, attribute: str, value: Any, expected: list[int]) -> None:
    assert found(translate(Comparison(comparator, attribute, value))) == expected


def test_every_comparator_and_operator_is_allowed() -> None:
    assert set(OctavoTranslator.allowed_comparators) == set(Comparator)
    assert set(OctavoTranslator.allowed_operators) == set(Operator)


@pytest.mark.parametrize(("operator", "expected"), [(Operator.AND, [1]), (Operator.OR, [0, 1]), (Operator.NOT, [2])])
def test_operators(operator: Operator, expected: list[int]) -> None:
    arguments = [Comparison(Comparator.GT, "year", 1), Comparison(Comparator.EQ, "name", "ada")]
    assert found(translate(Operation(operator, arguments))) == expected


def test_nesting() -> None:
    inner = Operation(Operator.NOT, [Comparison(Comparator.EQ, "year", 2020)])
    assert found(translate(Operation(Operator.AND, [inner, Comparison(Comparator.LIKE, "name", "a%")]))) == [1]


def test_the_tree_is_that_of_the_dict_form() -> None:
    assert translate(Comparison(Comparator.GTE, "year", 2000)) == parse_filter({"year": {"$gte": 2000}})


def test_a_query_without_a_filter() -> None:
    assert OctavoTranslator().visit_structured_query(StructuredQuery(query="x", filter=None)) == ("x", {})


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        (Comparison(Comparator.LIKE, "name", 3), r"\$like on 'name' expects a string"),
        (Comparison(Comparator.EQ, "year", {"x": 1}), "object"),
        (Operation(Operator.OR, []), "'or' expects at least one argument"),
    ],
)
def test_what_makes_no_sense_is_refused(directive: Any, message: str) -> None:
    with pytest.raises(InvalidFilterError, match=message):
        translate(directive)
