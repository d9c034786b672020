"""From Haystack's filters to ours, which the inverted index answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter

from octavo.errors import InvalidFilterError
from octavo.filters import And, Compare, Exists, Field, Filter, Not, Or
from octavo.filters.times import instant_of
from octavo.integrations.haystack._documents import from_stored
from octavo.retrievers.search import FilterLike
from octavo.store.documents import Document as Stored

_META = "meta."

#: Attributes of a document that are no metadata: a filter that names one looks at every document.
_ATTRIBUTES = frozenset({"id", "content", "blob", "score", "embedding", "sparse_embedding", "meta"})

_ORDERS = (">", ">=", "<", "<=")


def to_filter(filters: Mapping[str, Any] | None) -> FilterLike:
    """Return Haystack's filters as a filter of Octavo; None for none.

    Raises
    ------
    FilterError
        When they are not as Haystack describes them.
    """
    if filters is None or filters == {}:
        return None
    if not isinstance(filters, Mapping):
        raise FilterError(f"expected filters to be a dict, got {type(filters).__name__}")
    try:
        tree = _node(filters)
    except InvalidFilterError as error:
        raise FilterError(str(error)) from error
    except RecursionError:
        raise FilterError("the filters are nested too deeply") from None
    if _names_attribute(filters):
        return _one_by_one(dict(filters))
    return tree


def _one_by_one(filters: dict[str, Any]) -> Callable[[Stored], bool]:
    def matches(document: Stored) -> bool:
        return document_matches_filter(filters, from_stored(document, None))

    return matches


def _names_attribute(filters: Mapping[str, Any]) -> bool:
    if "field" in filters:
        return filters["field"] in _ATTRIBUTES
    return any(_names_attribute(each) for each in filters["conditions"])


def _node(filters: Any) -> Filter:
    if not isinstance(filters, Mapping):
        raise FilterError(f"expected a condition to be a dict, got {type(filters).__name__}")
    if "operator" not in filters:
        raise FilterError(f"'operator' key missing in {dict(filters)}")
    operator = filters["operator"]
    if "field" in filters:
        if "value" not in filters:
            raise FilterError(f"'value' key missing in {dict(filters)}")
        return _comparison(filters["field"], operator, filters["value"])
    if "conditions" not in filters:
        raise FilterError(f"'conditions' or 'field' key missing in {dict(filters)}")
    conditions = filters["conditions"]
    if not isinstance(conditions, list | tuple):
        raise FilterError(f"expected conditions to be a list, got {type(conditions).__name__}")
    nodes = [_node(each) for each in conditions]
    if operator == "AND":
        return And(*nodes)
    if operator == "OR":
        return Or(*nodes)
    if operator == "NOT":
        return Not(And(*nodes))
    raise FilterError(f"unknown logical operator {operator!r}; there are AND, OR and NOT")


def _comparison(name: Any, operator: Any, value: Any) -> Filter:
    if not isinstance(name, str) or not name:
        raise FilterError(f"expected a field's name, got {name!r}")
    field = Field(*(name.removeprefix(_META).split(".") if name.startswith(_META) else [name]))
    if operator in _ORDERS:
        return _order(field, operator, value)
    if operator == "==":
        return _equal(field, value)
    if operator == "!=":
        return Not(_equal(field, value))
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"expected the value of {operator!r} to be a list, got {type(value).__name__}")
        among = Or(*(_equal(field, each) for each in value))
        return among if operator == "in" else Not(among)
    known = ("==", "!=", *_ORDERS, "in", "not in")
    raise FilterError(f"unknown operator {operator!r}; there are {', '.join(known)}")


def _equal(field: Field, value: Any) -> Filter:
    if value is None:
        return Or(Not(Exists(field)), Compare(field, "==", None))
    return Compare(field, "==", value)


def _order(field: Field, operator: Any, value: Any) -> Filter:
    if value is None:
        return Or()  # nothing is more or less than nothing
    if isinstance(value, str):
        if instant_of(value) is None:
            raise FilterError(f"expected a number or a date in ISO form for {operator!r}, got the text {value!r}")
    elif not isinstance(value, int | float | date):
        raise FilterError(f"expected a number or a date for {operator!r}, got {type(value).__name__}")
    return Compare(field, operator, value)
