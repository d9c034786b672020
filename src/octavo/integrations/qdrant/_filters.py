"""Octavo's filter tree as a Qdrant filter, in the JSON form that its REST interface documents.

A tree becomes two filters. What `Bounds.lower` lets through matches for certain; what `Bounds.upper` keeps out does not. Where
they are one and the same, Qdrant's answer is exact; else the documents in between have to be looked at.
"""

from __future__ import annotations

import math
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
from octavo.integrations.qdrant._ids import MANIFEST, NOBODY
from octavo.integrations.qdrant._terms import (
    ELEMENT,
    EXISTS,
    INEXACT,
    NUMBER,
    NUMBERS,
    STRING,
    STRINGS,
    VALUE,
    exact_float,
    number_key,
    term,
)

Condition: TypeAlias = dict[str, Any]

NOTHING: Final[Condition] = {"has_id": [NOBODY]}
EVERYTHING: Final[Condition] = {"must_not": [{"has_id": [NOBODY]}]}
DOCUMENTS: Final[Condition] = {"must_not": [{"has_id": [MANIFEST]}]}

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
