"""Octavo's filters in Qdrant's terms: what a point carries for them, and a filter tree as Qdrant's own.

Qdrant compares in its own way: a condition on a list holds for its elements, 1 and 1.0 are different values, there is no
equality of floats, lists or null. So each document carries, beside its metadata, *terms*: keywords that stand for ``field f
has the value v`` and the like under Octavo's own rules, in one indexed field; and its numbers as floats under the digest of
their path, for ranges.

A tree becomes two filters, in the JSON form that Qdrant's REST interface documents. What `Bounds.lower` lets through matches
for certain; what `Bounds.upper` keeps out does not. Where they are one and the same, Qdrant's answer is exact; else the
documents in between have to be looked at.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from octavo.filters import (
    And,
    Between,
    Compare,
    Contains,
    Exists,
    Field,
    Filter,
    In,
    Leaf,
    Like,
    Not,
    Or,
    PartOf,
    TextMatch,
)

#: Kinds of terms. ``value`` and ``element`` come with a value, the others with a field alone.
EXISTS: Final = "exists"
STRING: Final = "string"  # the value is a string
STRINGS: Final = "strings"  # it is a list with a string in it
NUMBER: Final = "number"  # it is a number or a bool
NUMBERS: Final = "numbers"  # it is a list with one in it
VALUE: Final = "value"
ELEMENT: Final = "element"

#: A document with a number that a float cannot hold exactly: ranges must look at it again.
INEXACT: Final = "inexact"

Path = Sequence[str]


def term(kind: str, path: Path = (), value: Any = None) -> str:
    """Return the keyword that stands for a fact about a document, always 22 characters.

    Examples
    --------
    >>> term(VALUE, ("year",), 2020) == term(VALUE, ("year",), 2020.0) != term(VALUE, ("year",), "2020")
    True
    """
    return _digest([kind, list(path), canonical(value)])


def number_key(path: Path) -> str:
    """Return the key under which a field's numbers lie: a digest, since Qdrant would read dots and brackets in a name."""
    return "n" + hashlib.blake2b(_json(list(path)), digest_size=8).hexdigest()


def canonical(value: Any) -> Any:
    """Return a value in which everything that Python takes for equal is written alike: ``True == 1 == 1.0``."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"": str(value)}  # no metadata holds it
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return {key: canonical(item) for key, item in value.items()}
    return value


def exact_float(value: int | float) -> float | None:
    """Return a number as a float if that is the same number, else None."""
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if as_float == value else None


def describe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a payload that stand for a document's metadata: terms, and numbers where there are any."""
    terms: set[str] = set()
    one: dict[str, float] = {}
    many: dict[str, list[float]] = {}
    for path, value in _walk(metadata, ()):
        terms.add(term(EXISTS, path))
        if isinstance(value, Mapping):
            continue
        terms.add(term(VALUE, path, value))
        if isinstance(value, str):
            terms.add(term(STRING, path))
        elif _is_number(value):
            terms.add(term(NUMBER, path))
            as_float = exact_float(value)
            if as_float is None:
                terms.add(term(INEXACT))
            else:
                one[number_key(path)] = as_float
        elif isinstance(value, list | tuple):
            _add_elements(path, value, terms, many)
    fields: dict[str, Any] = {"terms": sorted(terms)}
    if one:
        fields["number"] = one
    if many:
        fields["numbers"] = many
    return fields


def _add_elements(path: Path, items: Sequence[Any], terms: set[str], many: dict[str, list[float]]) -> None:
    floats: list[float] = []
    for item in items:
        if isinstance(item, Mapping):
            continue  # no operand of a filter is an object
        terms.add(term(ELEMENT, path, item))
        if isinstance(item, str):
            terms.add(term(STRINGS, path))
        elif _is_number(item):
            terms.add(term(NUMBERS, path))
            as_float = exact_float(item)
            if as_float is None:
                terms.add(term(INEXACT))
            else:
                floats.append(as_float)
    if floats:
        many[number_key(path)] = floats


def _walk(metadata: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in metadata.items():
        yield (*path, key), value
        if isinstance(value, Mapping):
            yield from _walk(value, (*path, key))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)  # bool is an int, and Python orders it as one


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def _digest(value: Any) -> str:
    digest = hashlib.blake2b(_json(value), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


# ---------------------------------------------------------------------- filters

Condition: TypeAlias = dict[str, Any]

#: The point that holds what the collection is: settings and what the codec learned. It has no vectors, so no search finds it.
MANIFEST: Final = str(uuid.UUID("8f1c3b5e-52a5-5d07-9f0e-000000000000"))

#: The point that holds how many points there are, where the core keeps it beside them. It has no vectors either.
COUNT: Final = str(uuid.UUID("8f1c3b5e-52a5-5d07-9f0e-000000000001"))

#: No point has this id.
NO_POINT: Final = str(uuid.UUID(int=0))

NOTHING: Final[Condition] = {"has_id": [NO_POINT]}
EVERYTHING: Final[Condition] = {"must_not": [{"has_id": [NO_POINT]}]}
DOCUMENTS: Final[Condition] = {"must_not": [{"has_id": [MANIFEST, COUNT]}]}

#: Units in the last place by which a number may come back different.
_MARGIN: Final = 4

#: Limits beyond this are left to Python, so that no margin overflows.
_LARGEST: Final = 1e307

_RANGE: Final = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


@dataclass(frozen=True)
class Bounds:
    """What matches for certain, and what may match."""

    lower: Condition
    upper: Condition

    @property
    def exact(self) -> bool:
        """Whether the two are one."""
        return self.lower is self.upper


def all_of(*conditions: Condition) -> Condition:
    """Return the condition that all of these hold."""
    return {"must": list(conditions)} if conditions else EVERYTHING


def any_of(*conditions: Condition) -> Condition:
    """Return the condition that one of these holds."""
    return {"should": list(conditions)} if conditions else NOTHING


def none_of(condition: Condition) -> Condition:
    """Return the condition that this does not hold."""
    return {"must_not": [condition]}


def has_term(*terms: str) -> Condition:
    """Return the condition that a document carries one of these terms."""
    return {"key": "terms", "match": {"any": list(terms)}} if terms else NOTHING


def translate(tree: Filter) -> Bounds:
    """Return a filter tree as bounds in Qdrant's terms."""
    if isinstance(tree, Not):
        inner = translate(tree.filter)
        lower = none_of(inner.upper)
        return Bounds(lower, lower if inner.exact else none_of(inner.lower))
    if isinstance(tree, And | Or):
        join = all_of if isinstance(tree, And) else any_of
        parts = [translate(part) for part in tree.filters]
        lower = join(*(part.lower for part in parts))
        return Bounds(lower, lower if all(part.exact for part in parts) else join(*(part.upper for part in parts)))
    assert isinstance(tree, Leaf)  # there are no others
    return _leaf(tree)


def _leaf(leaf: Leaf) -> Bounds:
    field = leaf.at
    if isinstance(leaf, Exists):
        return _exactly(has_term(term(EXISTS, field.path)))
    if isinstance(leaf, Compare) and leaf.op == "==":
        return _exactly(has_term(*_equal(field, leaf.value)))
    if isinstance(leaf, In):
        return _exactly(has_term(*(each for value in leaf.values for each in _equal(field, value))))
    if isinstance(leaf, Compare) and isinstance(leaf.value, int | float):
        return _numbers(field, {_RANGE[leaf.op]: leaf.value})
    if isinstance(leaf, Between) and isinstance(leaf.low, int | float) and isinstance(leaf.high, int | float):
        return _numbers(field, {"gte": leaf.low, "lte": leaf.high})
    if isinstance(leaf, Contains) and not field.elements:
        return _contains(field, leaf.value)
    if isinstance(leaf, Compare | Between) and isinstance(leaf.value if isinstance(leaf, Compare) else leaf.low, str):
        return Bounds(NOTHING, _strings(field))
    if isinstance(leaf, Like | TextMatch | PartOf):
        return Bounds(NOTHING, _strings(field))
    return Bounds(NOTHING, has_term(term(EXISTS, field.path)))


def _exactly(condition: Condition) -> Bounds:
    return Bounds(condition, condition)


def _equal(field: Field, value: Any) -> list[str]:
    terms = [term(VALUE, field.path, value)]
    if field.elements:
        terms.append(term(ELEMENT, field.path, value))
    return terms


def _strings(field: Field) -> Condition:
    terms = [term(STRING, field.path)]
    if field.elements:
        terms.append(term(STRINGS, field.path))
    return has_term(*terms)


def _contains(field: Field, value: Any) -> Bounds:
    element = has_term(term(ELEMENT, field.path, value))
    if not isinstance(value, str):
        return _exactly(element)
    lower = any_of(element, has_term(term(EXISTS, (*field.path, value))))
    return Bounds(lower, any_of(lower, has_term(term(STRING, field.path))))


def _numbers(field: Field, limits: dict[str, int | float]) -> Bounds:
    """Return a range over numbers; values next to a limit, and those that no float holds, are left to be looked at.

    Qdrant stores payloads as JSON and may read the last bits of a number back otherwise. What equals a limit is therefore told
    by its term, which is exact.
    """
    kinds = [NUMBER, NUMBERS] if field.elements else [NUMBER]
    numeric = has_term(*(term(kind, field.path) for kind in kinds))
    floats = {op: exact_float(limit) for op, limit in limits.items()}
    known = {op: limit for op, limit in floats.items() if limit is not None and abs(limit) < _LARGEST}
    if len(known) < len(limits):
        return Bounds(NOTHING, numeric)
    if "gte" in known and "lte" in known and known["gte"] > known["lte"]:
        return _exactly(NOTHING)
    inside: dict[str, float] = {}
    around: dict[str, float] = {}
    for op, limit in known.items():
        margin = _MARGIN * math.ulp(limit)
        inside[op[:2]] = limit + margin if op[0] == "g" else limit - margin
        around[f"{op[:2]}e"] = limit - margin if op[0] == "g" else limit + margin
    included = has_term(*(each for op in known if op[2:] for each in _equal(field, known[op])))
    lower = any_of(_in_range(field, inside), included)
    upper = _in_range(field, around)
    excluded = [term(VALUE, field.path, limit) for op, limit in known.items() if not op[2:]]
    if excluded and not field.elements:  # a list may hold the limit, and a number beyond it
        upper = all_of(upper, none_of(has_term(*excluded)))
    return Bounds(lower, any_of(lower, upper, all_of(numeric, has_term(term(INEXACT)))))


def _in_range(field: Field, limits: dict[str, float]) -> Condition:
    names = ["number", "numbers"] if field.elements else ["number"]
    return any_of(*({"key": f"{name}.{number_key(field.path)}", "range": limits} for name in names))
