"""The filter tree: immutable nodes and the obvious evaluator."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from octavo.errors import InvalidFilterError
from octavo.filters.like import compile_like
from octavo.filters.times import Instant, instant, instant_of, plain_datetime64, plain_time

#: What a leaf compares with: a JSON value without objects, or a date or time; lists are kept as tuples so that trees can
#: be hashed.
Value: TypeAlias = "bool | int | float | str | date | tuple[Value, ...] | None"
"""What a field is compared with: a JSON value, a date or time, or a tuple of such. A number is a number, whatever its type."""

Comparison = Literal["==", ">", ">=", "<", "<="]

_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

#: Stands for a field that a document does not have.
_MISSING = object()


def as_value(obj: object) -> Value:
    """Normalise an operand: subclasses and numpy scalars to plain Python, lists to tuples.

    Raises
    ------
    InvalidFilterError
        The operand is no JSON value and no date or time, is an object (mapping), or is NaN.
    """
    if isinstance(obj, date | np.datetime64):
        time = plain_time(obj) if isinstance(obj, date) else plain_datetime64(obj)
        if time is None:
            raise InvalidFilterError(f"a filter compares with dates and times to the microsecond, got {obj!r}")
        return time
    if isinstance(obj, np.generic):
        obj = obj.item()
    if obj is None or isinstance(obj, bool):
        return obj
    if isinstance(obj, int):
        return int(obj)
    if isinstance(obj, float):
        if obj != obj:
            raise InvalidFilterError(
                "a filter cannot compare with NaN: nothing equals it and nothing is above or below it"
            )
        return float(obj)
    if isinstance(obj, str):
        return str.__str__(obj)
    if isinstance(obj, (list, tuple)):
        return tuple(as_value(item) for item in obj)
    if isinstance(obj, Mapping):
        raise InvalidFilterError(f"a filter cannot compare with the object {obj!r}; compare its fields one by one")
    raise InvalidFilterError(
        f"a filter compares with JSON values (str, int, float, bool, None or a list of these), dates and times, "
        f"got {type(obj).__name__}"
    )


def _comparable(value: Any) -> Any:
    """Give an operand, or a value of metadata, in the form in which they are compared: tuples as lists, times on one axis."""
    if isinstance(value, tuple | list):
        return [_comparable(item) for item in value]
    return instant(value) if isinstance(value, date) else value


def _compare(value: Any, test: Callable[[Any, Any], bool], operand: Any) -> bool:
    """Compare a value of metadata with an operand, both in their comparable form; False where they have no order."""
    if isinstance(value, Instant):  # a string that names a time stands for it
        operand = instant_of(operand)
    try:
        return bool(test(value, operand))
    except TypeError:
        return False


def _same_kind(a: Any, b: Any) -> bool:
    """Say whether booleans stand in the same places of two equal values, so that they are equal in JSON too."""
    if isinstance(a, list | tuple):
        return all(map(_same_kind, a, b))
    return isinstance(a, bool) == isinstance(b, bool)


def _same_leaf(leaf: object, other: object) -> bool:
    """Compare two leaves; ``True`` and ``1`` make different ones, since they mean different things in a typed field."""
    if type(leaf) is not type(other):
        return False
    names = [name for name in leaf.__slots__ if name != "field"]  # type: ignore[attr-defined]
    pairs = [(getattr(leaf, name), getattr(other, name)) for name in names]
    same_field: bool = leaf.field == other.field  # type: ignore[attr-defined]
    return same_field and all(a == b and _same_kind(a, b) for a, b in pairs)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Field:
    """Address a value in a document's metadata.

    Parameters
    ----------
    *path : str
        Keys from the outermost object inwards. ``Field("a.b")`` is the top-level key ``"a.b"``,
        ``Field("a", "b")`` is ``metadata["a"]["b"]``.
    elements : bool, default=False
        Where the value is a list, a leaf also holds if it holds for one of the elements.
    typed : bool, default=False
        Keep booleans and numbers apart, as JSON and MongoDB do; otherwise ``True`` is 1 and ``False`` is 0, as in Python.
        The dict form sets it.

    Examples
    --------
    >>> Field("author", "name")
    Field('author', 'name')
    >>> matches(Compare(Field("open", typed=True), "==", 1), {"open": True})
    False
    """

    path: tuple[str, ...]
    elements: bool
    typed: bool

    def __init__(self, *path: str, elements: bool = False, typed: bool = False) -> None:
        if not path or not all(isinstance(key, str) for key in path):
            raise InvalidFilterError(f"a field is addressed by one or more string keys, got {path!r}")
        object.__setattr__(self, "path", tuple(str.__str__(key) for key in path))
        object.__setattr__(self, "elements", bool(elements))
        object.__setattr__(self, "typed", bool(typed))

    def __repr__(self) -> str:
        suffix = ", elements=True" * self.elements + ", typed=True" * self.typed
        return f"Field({', '.join(map(repr, self.path))}{suffix})"

    def find(self, metadata: Mapping[str, Any]) -> Any:
        """Give the value at this address as it is compared, or a marker that equals nothing."""
        value: Any = metadata
        for key in self.path:
            if not isinstance(value, Mapping) or key not in value:
                return _MISSING
            value = value[key]
        return _comparable(value)


class Filter:
    """Base class of all nodes of a filter tree.

    Examples
    --------
    >>> isinstance(Compare("year", ">=", 2020), Filter)
    True
    """

    __slots__ = ()


class Leaf(Filter, ABC):
    """Base class of the nodes that look at one field; none of them holds where the field is missing.

    Examples
    --------
    >>> Compare("year", ">=", 2020).at, Compare("year", ">=", 2020).test(2021)
    (Field('year'), True)
    """

    __slots__ = ()
    field: Field | str

    @property
    def at(self) -> Field:
        """The field that the leaf looks at (a key that was given instead has become one)."""
        return cast(Field, self.field)

    @abstractmethod
    def test(self, value: Any) -> bool:
        """Say whether the leaf holds for a value that is there, as `Field.find` gives it; never raises on one."""

    def _equal(self, value: Any, operand: Value) -> bool:
        comparable = _comparable(operand)
        return _compare(value, operator.eq, comparable) and (not self.at.typed or _same_kind(value, comparable))


def _set_field(leaf: Leaf) -> None:
    given: object = leaf.field
    if isinstance(given, str):
        object.__setattr__(leaf, "field", Field(given))
    elif not isinstance(given, Field):
        raise InvalidFilterError(f"expected a key or a Field, got {given!r}")


def _set_value(leaf: Leaf, name: str) -> None:
    object.__setattr__(leaf, name, as_value(getattr(leaf, name)))


def _require_text(leaf: Leaf, name: str) -> None:
    value = getattr(leaf, name)
    if not isinstance(value, str):
        raise InvalidFilterError(f"{type(leaf).__name__} expects a string, got {value!r}")


class _Group(Filter):
    __slots__ = ("filters",)
    filters: tuple[Filter, ...]

    def __init__(self, *filters: Filter) -> None:
        for item in filters:
            if not isinstance(item, Filter):
                raise InvalidFilterError(f"{type(self).__name__} expects filters, got {item!r}")
        object.__setattr__(self, "filters", filters)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Group) and self.filters == other.filters

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.filters))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.filters))})"

    def __reduce__(self) -> tuple[type[_Group], tuple[Filter, ...]]:
        return type(self), self.filters


class And(_Group):
    """All of the filters hold; with none given, everything matches.

    Parameters
    ----------
    *filters : Filter
        The filters.

    Examples
    --------
    >>> And(Compare("year", ">=", 2020), Compare("year", "<", 2024))
    And(Compare('year', '>=', 2020), Compare('year', '<', 2024))
    """

    __slots__ = ()


class Or(_Group):
    """At least one of the filters holds; with none given, nothing matches.

    Parameters
    ----------
    *filters : Filter
        The filters.

    Examples
    --------
    >>> matches(Or(Compare("year", "==", 2020), Exists("draft")), {"draft": None})
    True
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """The filter does not hold: exactly the documents that it leaves out, those without the field included.

    Parameters
    ----------
    filter : Filter
        The filter.

    Examples
    --------
    >>> matches(Not(Compare("year", "==", 2020)), {}), matches(Not(Exists("year")), {"year": 2020})
    (True, False)
    """

    filter: Filter

    def __post_init__(self) -> None:
        if not isinstance(self.filter, Filter):
            raise InvalidFilterError(f"Not expects a filter, got {self.filter!r}")

    def __repr__(self) -> str:
        return f"Not({self.filter!r})"


def has_empty_part(tree: Filter) -> bool:
    """Tell whether a group without a filter stands anywhere in a tree, so that a part of it says nothing.

    Parameters
    ----------
    tree : Filter
        The tree.

    Returns
    -------
    bool
        False for a tree every part of which says something.

    Examples
    --------
    >>> has_empty_part(And(Compare("year", ">=", 2020), And())), has_empty_part(Compare("year", ">=", 2020))
    (True, False)
    """
    if isinstance(tree, Not):
        return has_empty_part(tree.filter)
    return isinstance(tree, _Group) and (not tree.filters or any(map(has_empty_part, tree.filters)))


class _Shown:
    """Print a leaf as it is written, with a plain key instead of a `Field` where that says the same."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = []
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined]
            value = getattr(self, name)
            if isinstance(value, Field) and value == Field(value.path[0]):
                value = value.path[0]
            if name != "ignore_case":
                shown.append(repr(value))
            elif value:
                shown.append("ignore_case=True")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, repr=False)
class Compare(_Shown, Leaf):
    """The value stands in a relation to another, as Python has it.

    ``1 == 1.0``, and ``True == 1`` unless the field is `typed`; numbers are compared exactly, strings by code point, lists
    element by element, dates and times by the instant: a date is its midnight, a time without zone is taken as UTC, and a
    string in ISO form stands for the time that it names where the document has a time. Values that Python cannot order (a
    number and a string, say) do not match, nor do a boolean and a number in a typed field. There is no ``!=``: write
    ``Not(Compare(f, "==", v))`` to include the documents without the field, ``And(Exists(f), Not(...))`` to leave
    them out.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    op : {"==", ">", ">=", "<", "<="}
        The relation of the document's value to `value`.
    value : None, bool, int, float, str, date, datetime or list of these
        What to compare with.

    Examples
    --------
    >>> matches(Compare("year", "<", 2024), {"year": 2020}), matches(Compare("year", "<", 2024), {"year": "2020"})
    (True, False)
    """

    field: Field | str
    op: Comparison
    value: Value

    __eq__ = _same_leaf

    def __post_init__(self) -> None:
        _set_field(self)
        _set_value(self, "value")
        if self.op not in get_args(Comparison):
            raise InvalidFilterError(
                f"unknown comparison {self.op!r}; known: {', '.join(get_args(Comparison))} (for != use Not)"
            )

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        if self.op == "==":
            return self._equal(value, self.value)
        if self.at.typed and isinstance(value, bool) != isinstance(self.value, bool):
            return False
        return _compare(value, _RELATIONS[self.op], _comparable(self.value))


def are_ends(low: Value, high: Value) -> bool:
    """Say whether two operands can be the ends of one range: both numbers, both strings, or both dates or times."""
    ends = (low, high)
    return any(all(isinstance(end, kind) for end in ends) for kind in (str, (int, float), date))


@dataclass(frozen=True, slots=True, repr=False)
class Between(_Shown, Leaf):
    """The value lies between two others, both included; both are numbers, both strings, or both dates or times.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    low, high : bool, int, float, str, date or datetime
        The ends.

    Examples
    --------
    >>> matches(Between("year", 2020, 2024), {"year": 2024})
    True
    """

    field: Field | str
    low: bool | int | float | str | date
    high: bool | int | float | str | date

    __eq__ = _same_leaf

    def __post_init__(self) -> None:
        _set_field(self)
        _set_value(self, "low")
        _set_value(self, "high")
        if not are_ends(self.low, self.high):
            raise InvalidFilterError(
                f"Between expects two numbers, two strings or two dates or times, got {self.low!r} and {self.high!r}"
            )

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        return Compare(self.field, ">=", self.low).test(value) and Compare(self.field, "<=", self.high).test(value)


@dataclass(frozen=True, slots=True, repr=False)
class In(_Shown, Leaf):
    """The value equals one of several; with none given, nothing matches.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    values : list, tuple, set, frozenset or range
        What it may equal.

    Examples
    --------
    >>> matches(In("colour", ["red", "green"]), {"colour": "green"})
    True
    """

    field: Field | str
    values: Collection[Value]

    __eq__ = _same_leaf

    def __post_init__(self) -> None:
        _set_field(self)
        if not isinstance(self.values, (list, tuple, set, frozenset, range)):
            raise InvalidFilterError(f"In expects a list of values, got {self.values!r}")
        object.__setattr__(self, "values", as_value(list(self.values)))

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        return any(self._equal(value, operand) for operand in self.values)


@dataclass(frozen=True, slots=True, repr=False)
class Exists(_Shown, Leaf):
    """The field is there, be it with the value null.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.

    Examples
    --------
    >>> matches(Exists("draft"), {"draft": None}), matches(Exists("draft"), {})
    (True, False)
    """

    field: Field | str

    def __post_init__(self) -> None:
        _set_field(self)

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        return True


@dataclass(frozen=True, slots=True, repr=False)
class Contains(_Shown, Leaf):
    """The value contains another, as Python's ``in`` has it.

    A list contains its elements, a string its substrings, an object its keys; anything else contains nothing.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    value : None, bool, int, float, str, date, datetime or list of these
        What is to be in it.

    Examples
    --------
    >>> matches(Contains("tags", "new"), {"tags": ["old", "new"]}), matches(Contains("title", "new"), {"title": "renewed"})
    (True, True)
    """

    field: Field | str
    value: Value

    __eq__ = _same_leaf

    def __post_init__(self) -> None:
        _set_field(self)
        _set_value(self, "value")

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        if isinstance(value, list):
            return any(self._equal(item, self.value) for item in value)
        if isinstance(value, (str, Mapping)):
            return isinstance(self.value, str) and self.value in value
        return False


@dataclass(frozen=True, slots=True, repr=False)
class Like(_Shown, Leaf):
    """The value is a string that a ``LIKE`` pattern covers (see `octavo.filters.like.compile_like`).

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    pattern : str
        ``%`` stands for any text, ``_`` for one character, a backslash takes either as it is.
    ignore_case : bool, default=False
        Compare both without regard to case.

    Examples
    --------
    >>> matches(Like("title", "chap%"), {"title": "chapter 1"}), matches(Like("title", "chap%"), {"title": "Chapter 1"})
    (True, False)
    """

    field: Field | str
    pattern: str
    ignore_case: bool = False

    def __post_init__(self) -> None:
        _set_field(self)
        _require_text(self, "pattern")
        compile_like(self.pattern, self.ignore_case)  # refuse a malformed pattern now, not at the first search

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        return isinstance(value, str) and compile_like(self.pattern, self.ignore_case)(value)


@dataclass(frozen=True, slots=True, repr=False)
class TextMatch(_Shown, Leaf):
    """The value is a string that has `text` in it; `ignore_case` compares both in lower case, as LlamaIndex does.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    text : str
        What is to be in it.
    ignore_case : bool, default=False
        Compare both in lower case.

    Examples
    --------
    >>> matches(TextMatch("title", "RED", ignore_case=True), {"title": "a red apple"})
    True
    """

    field: Field | str
    text: str
    ignore_case: bool = False

    def __post_init__(self) -> None:
        _set_field(self)
        _require_text(self, "text")

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        if not isinstance(value, str):
            return False
        return self.text.lower() in value.lower() if self.ignore_case else self.text in value


@dataclass(frozen=True, slots=True, repr=False)
class PartOf(_Shown, Leaf):
    """The value is a string that stands somewhere in `text`: `TextMatch` the other way round.

    Parameters
    ----------
    field : Field or str
        Where to look; a string is a top-level key.
    text : str
        What it is to be in.

    Examples
    --------
    >>> matches(PartOf("colour", "a red apple"), {"colour": "red"})
    True
    """

    field: Field | str
    text: str

    def __post_init__(self) -> None:
        _set_field(self)
        _require_text(self, "text")

    def test(self, value: Any) -> bool:
        """See `Leaf.test`."""
        return isinstance(value, str) and value in self.text


def matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Say whether a document's metadata satisfies a filter.

    This is the definition of what a filter means; the index in `octavo.store.metadata.index` must agree with it.

    Parameters
    ----------
    tree : Filter
        The filter.
    metadata : mapping
        The document's metadata, made of JSON values.

    Returns
    -------
    matched : bool
        True if the document is wanted.

    Examples
    --------
    >>> matches(Compare("year", ">=", 2020), {"year": 2021})
    True
    >>> matches(Not(Compare("year", "==", 2020)), {})
    True
    >>> matches(Compare(Field("tags", elements=True), "==", "new"), {"tags": ["old", "new"]})
    True
    """
    if isinstance(tree, And):
        return all(matches(item, metadata) for item in tree.filters)
    if isinstance(tree, Or):
        return any(matches(item, metadata) for item in tree.filters)
    if isinstance(tree, Not):
        return not matches(tree.filter, metadata)
    if not isinstance(tree, Leaf):
        raise InvalidFilterError(f"expected a filter tree, got {tree!r}")
    value = tree.at.find(metadata)
    if value is _MISSING:
        return False
    if tree.test(value):
        return True
    return tree.at.elements and isinstance(value, list) and any(tree.test(item) for item in value)
