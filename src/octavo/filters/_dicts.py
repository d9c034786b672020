"""The dict form of filters, as LangChain users write it.

``{"year": {"$gte": 2020}, "lang": "en"}`` and the like. The meaning follows MongoDB where stores differ:

- Several keys, and several operators on one key, must all hold.
- ``$ne``, ``$neq``, ``$nin`` and ``$not`` are exact complements, so they include documents without the field.
- Where a value is a list, the comparing operators hold if they hold for the list or for one of its elements.
- ``{"field": None}`` means null or missing.
- ``true`` and ``1`` are different values, as they are in JSON; ``1`` and ``1.0`` are one.
- Dates and times are compared by the instant; see `octavo.filters.Compare`.
- A bare list means ``$in`` (as in LangChain's FAISS store); ``{"$eq": [...]}`` compares with the list itself.
- A key with dots means the top-level key of that name or the nested path: ``"a.b"`` is ``metadata["a.b"]`` or
  ``metadata["a"]["b"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from octavo.errors import InvalidFilterError
from octavo.filters._tree import (
    And,
    Between,
    Compare,
    Comparison,
    Contains,
    Exists,
    Field,
    Filter,
    In,
    Like,
    Not,
    Or,
    Value,
    are_ends,
    as_value,
)

#: Deeper than anyone writes, shallow enough never to meet Python's recursion limit.
MAX_DEPTH = 100


def parse_filter(obj: Mapping[str, Any] | Filter | None) -> Filter | None:
    """Read a filter in its dict form.

    Parameters
    ----------
    obj : mapping, Filter or None
        Keys are fields, or ``$and``, ``$or`` (lists of dicts) and ``$not`` (a dict, or a list of dicts of which none
        may hold). Conditions are plain values (equality) or dicts of operators: ``$eq $ne $neq $gt $gte $lt $lte $in
        $nin $between $exists $like $ilike $contains $not``. A tree is given back as it is.

    Returns
    -------
    tree : Filter or None
        None if there is nothing to restrict.

    Raises
    ------
    InvalidFilterError
        An operator is unknown or its operand has the wrong form.

    Examples
    --------
    >>> parse_filter({"year": {"$gt": 2020}})
    Compare(Field('year', elements=True, typed=True), '>', 2020)
    >>> parse_filter({}) is None
    True
    """
    if obj is None or isinstance(obj, Filter):
        return obj
    if isinstance(obj, Mapping) and not obj:
        return None
    return _parse(obj, 0)


def _parse(obj: object, depth: int) -> Filter:
    if isinstance(obj, Filter):
        return obj
    if not isinstance(obj, Mapping):
        raise InvalidFilterError(f'expected a filter such as {{"year": {{"$gte": 2020}}}}, got {obj!r}')
    _check_depth(depth)
    parts: list[Filter] = []
    for key, condition in obj.items():
        if not isinstance(key, str):
            raise InvalidFilterError(f"expected the name of a field or an operator, got {key!r}")
        if key in ("$and", "$or"):
            items = [_parse(item, depth + 1) for item in _list_of(key, condition)]
            parts.append(And(*items) if key == "$and" else Or(*items))
        elif key == "$not":
            inner = condition if isinstance(condition, (list, tuple)) else [condition]
            parts.append(Not(_any([_parse(item, depth + 1) for item in _list_of(key, inner)])))
        elif key.startswith("$"):
            raise InvalidFilterError(
                f"unknown operator {key!r} in the place of a field; known here: $and, $or, $not. "
                f'Comparisons go below a field: {{"year": {{"{key}": ...}}}}'
            )
        else:
            parts.append(_condition(key, condition, depth + 1))
    return _all(parts)


def _condition(key: str, condition: object, depth: int) -> Filter:
    """Read what stands below a field."""
    _check_depth(depth)
    if isinstance(condition, (list, tuple)):
        return _in(key, "$in", condition)
    if not isinstance(condition, Mapping):
        return _eq(key, "$eq", condition)
    if not condition:
        raise InvalidFilterError(f"the condition on {key!r} is empty; expected a value or a dict of operators")
    parts: list[Filter] = []
    for name, operand in condition.items():
        if name == "$not":
            if not isinstance(operand, Mapping):
                _refuse(key, "$not", "a dict of operators", operand)
            parts.append(Not(_condition(key, operand, depth + 1)))
        elif name in _OPERATORS:
            parts.append(_OPERATORS[name](key, name, operand))
        elif isinstance(name, str) and not name.startswith("$"):
            raise InvalidFilterError(
                f"the condition on {key!r} has the key {name!r}, which is no operator; "
                f"to reach a nested field write {f'{key}.{name}'!r}"
            )
        else:
            raise InvalidFilterError(
                f"unknown operator {name!r} on {key!r}; known: {', '.join([*_OPERATORS, '$not'])}, "
                "and $and, $or, $not around whole filters"
            )
    return _all(parts)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidFilterError(f"the filter is nested deeper than {MAX_DEPTH} levels; flatten it")


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(*parts)


def _any(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Or(*parts)


def _refuse(key: str, name: str, expected: str, got: object) -> NoReturn:
    raise InvalidFilterError(f"{name} on {key!r} expects {expected}, got {got!r}")


def _list_of(name: str, operand: object) -> list[Any]:
    if not isinstance(operand, (list, tuple)) or not operand:
        raise InvalidFilterError(f"{name} expects a list of at least one filter, got {operand!r}")
    return list(operand)


def _over_fields(key: str, make: Callable[[Field], Filter], *, elements: bool = True) -> Filter:
    """Apply a leaf to each address that a key may mean."""
    fields = [Field(key, elements=elements, typed=True)]
    nested = key.split(".")
    if len(nested) > 1 and all(nested):
        fields.append(Field(*nested, elements=elements, typed=True))
    return _any([make(field) for field in fields])


def _operand(key: str, name: str, operand: object) -> Value:
    try:
        return as_value(operand)
    except InvalidFilterError as error:
        raise InvalidFilterError(f"{name} on {key!r}: {error}") from None


def _exists(key: str, name: str, operand: object) -> Filter:
    if not isinstance(operand, bool):
        _refuse(key, name, "True or False", operand)
    found = _over_fields(key, Exists, elements=False)
    return found if operand else Not(found)


def _eq(key: str, name: str, operand: object) -> Filter:
    value = _operand(key, name, operand)
    equal = _over_fields(key, lambda field: Compare(field, "==", value))
    return _or_missing(key, equal) if value is None else equal


def _in(key: str, name: str, operand: object) -> Filter:
    if isinstance(operand, (str, bytes, Mapping)) or not isinstance(operand, (list, tuple, set, frozenset, range)):
        _refuse(key, name, "a list of values", operand)
    values = tuple(_operand(key, name, item) for item in operand)
    found = _over_fields(key, lambda field: In(field, values))
    return _or_missing(key, found) if None in values else found


def _or_missing(key: str, found: Filter) -> Filter:
    return Or(found, _exists(key, "$exists", False))


def _ordered(comparison: Comparison) -> Callable[[str, str, object], Filter]:
    def make(key: str, name: str, operand: object) -> Filter:
        value = _operand(key, name, operand)
        if value is None or isinstance(value, tuple):
            _refuse(key, name, "a number, a string, a date or a time", operand)
        return _over_fields(key, lambda field: Compare(field, comparison, value))

    return make


def _between(key: str, name: str, operand: object) -> Filter:
    if not isinstance(operand, (list, tuple)) or len(operand) != 2:
        _refuse(key, name, "a list [low, high]", operand)
    low, high = (_operand(key, name, end) for end in operand)
    if not are_ends(low, high):
        _refuse(key, name, "two numbers, two strings, or two dates or times", operand)
    return _over_fields(key, lambda field: Between(field, low, high))  # type: ignore[arg-type]


def _like(ignore_case: bool) -> Callable[[str, str, object], Filter]:
    def make(key: str, name: str, operand: object) -> Filter:
        if not isinstance(operand, str):
            _refuse(key, name, "a string pattern", operand)
        return _over_fields(key, lambda field: Like(field, operand, ignore_case))

    return make


def _contains(key: str, name: str, operand: object) -> Filter:
    value = _operand(key, name, operand)
    if isinstance(value, tuple):
        _refuse(key, name, "one value; join several with $and or $or", operand)
    return _over_fields(key, lambda field: Contains(field, value), elements=False)


def _not(make: Callable[[str, str, object], Filter]) -> Callable[[str, str, object], Filter]:
    return lambda key, name, operand: Not(make(key, name, operand))


_OPERATORS: dict[str, Callable[[str, str, object], Filter]] = {
    "$eq": _eq,
    "$ne": _not(_eq),
    "$neq": _not(_eq),
    "$gt": _ordered(">"),
    "$gte": _ordered(">="),
    "$lt": _ordered("<"),
    "$lte": _ordered("<="),
    "$in": _in,
    "$nin": _not(_in),
    "$between": _between,
    "$exists": _exists,
    "$like": _like(False),
    "$ilike": _like(True),
    "$contains": _contains,
}
