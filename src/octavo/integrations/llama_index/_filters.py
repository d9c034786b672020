"""LlamaIndex's metadata filters as Octavo's filter tree.

The meaning is that of ``build_metadata_filter_fn`` in llama-index-core, oddities included:

- A missing field and a null are the same. Only ``NE``, ``NIN`` and ``IS_EMPTY`` accept them, whatever the value.
- A field is a top-level key; dots mean nothing.
- ``EQ`` on a list compares the whole list; ``CONTAINS``, ``ANY`` and ``ALL`` are Python's ``in`` on lists, strings and
  objects alike. ``IN`` and ``NIN`` with a string as their value look for the metadata within that string, ``ANY`` and
  ``ALL`` take it character by character.
- ``NOT`` means that none of the filters holds. An empty list of filters restricts nothing, under every condition.

Two things go beyond it. Filters nest, each group being worked out as core works out a flat one. And where core raises
(``GT`` between a number and a string, ``TEXT_MATCH`` on a number), the single filter does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from octavo.errors import InvalidFilterError
from octavo.filters import And, Compare, Contains, Exists, Filter, In, Like, Not, Or, PartOf, TextMatch


def to_filter(filters: MetadataFilters | None) -> Filter | None:
    """Translate LlamaIndex's filters.

    Parameters
    ----------
    filters : MetadataFilters or None
        Filters, nested to any depth.

    Returns
    -------
    tree : Filter or None
        None if nothing is restricted.

    Raises
    ------
    InvalidFilterError
        An operator or a condition is none of LlamaIndex's, or a value cannot be compared with.

    Examples
    --------
    >>> to_filter(MetadataFilters(filters=[MetadataFilter(key="year", value=2020, operator=">")]))
    Compare('year', '>', 2020)
    """
    if filters is None or not filters.filters:
        return None
    return _group(filters)


def _group(filters: MetadataFilters) -> Filter:
    if not filters.filters:
        return And()
    parts = [_group(item) if isinstance(item, MetadataFilters) else _single(item) for item in filters.filters]
    condition = filters.condition or FilterCondition.AND
    if condition == FilterCondition.AND:
        return parts[0] if len(parts) == 1 else And(*parts)
    if condition == FilterCondition.OR:
        return parts[0] if len(parts) == 1 else Or(*parts)
    if condition == FilterCondition.NOT:
        return Not(parts[0] if len(parts) == 1 else Or(*parts))
    raise InvalidFilterError(
        f"unknown condition {condition!r}; known: {', '.join(known.value for known in FilterCondition)}"
    )


def _single(item: MetadataFilter) -> Filter:
    make = _OPERATORS.get(item.operator)
    if make is None:
        raise InvalidFilterError(
            f"unknown operator {item.operator!r} on {item.key!r}; "
            f"known: {', '.join(known.value for known in FilterOperator)}"
        )
    return make(item.key, item.value)


def _nothing(key: str) -> Filter:
    return In(key, ())  # a leaf: an empty `Or` would count as a condition that says nothing, which a deletion refuses


def _given(key: str) -> Filter:
    return And(Exists(key), Not(Compare(key, "==", None)))


def _eq(key: str, value: Any) -> Filter:
    return _nothing(key) if value is None else Compare(key, "==", value)


def _ordered(op: Any) -> Callable[[str, Any], Filter]:
    return lambda key, value: Compare(key, op, value)


def _in(key: str, value: Any) -> Filter:
    if isinstance(value, str):
        return PartOf(key, value)
    if isinstance(value, (list, tuple)):
        return In(key, tuple(item for item in value if item is not None))
    return _nothing(key)


def _nin(key: str, value: Any) -> Filter:
    if isinstance(value, (list, tuple)):
        return Not(_in(key, value))
    # Core raises on metadata that is no string, and on all metadata when the value is no list and no string.
    absent = Not(_given(key))
    if isinstance(value, str):
        return Or(absent, And(Like(key, "%"), Not(PartOf(key, value))))
    return absent


def _contains(key: str, value: Any) -> Filter:
    return Contains(key, value)


def _parts(value: Any) -> list[Any]:
    if not isinstance(value, (str, list, tuple)):
        return []
    try:
        return list(dict.fromkeys(value))
    except TypeError:  # lists or objects among them, which `Contains` takes or refuses by name
        return list(value)


def _any(key: str, value: Any) -> Filter:
    parts = _parts(value)
    return Or(*(Contains(key, part) for part in parts)) if parts else _nothing(key)


def _all(key: str, value: Any) -> Filter:
    if not isinstance(value, (str, list, tuple)):
        return _nothing(key)
    return And(*(Contains(key, part) for part in _parts(value))) if value else _given(key)


def _text_match(ignore_case: bool) -> Callable[[str, Any], Filter]:
    return lambda key, value: TextMatch(key, value, ignore_case) if isinstance(value, str) else _nothing(key)


def _is_empty(key: str, value: Any) -> Filter:
    return Or(Not(Exists(key)), In(key, (None, "", ())))


_OPERATORS: dict[FilterOperator, Callable[[str, Any], Filter]] = {
    FilterOperator.EQ: _eq,
    FilterOperator.NE: lambda key, value: Not(_eq(key, value)),
    FilterOperator.GT: _ordered(">"),
    FilterOperator.GTE: _ordered(">="),
    FilterOperator.LT: _ordered("<"),
    FilterOperator.LTE: _ordered("<="),
    FilterOperator.IN: _in,
    FilterOperator.NIN: _nin,
    FilterOperator.CONTAINS: _contains,
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _all,
    FilterOperator.TEXT_MATCH: _text_match(False),
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match(True),
    FilterOperator.IS_EMPTY: _is_empty,
}
