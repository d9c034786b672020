"""Octavo's filters in Qdrant's terms: what a point carries for them, and a filter tree as Qdrant's own.

Qdrant compares in its own way: a condition on a list holds for its elements, 1 and 1.0 are different values, there is no
equality of floats, lists or null. So each document carries, beside its metadata, *terms*: keywords that stand for ``field f
has the value v`` and the like under Octavo's own rules, in one indexed field; and its numbers, booleans and times as floats
under the digest of their kind and path, for ranges.

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
from datetime import date
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
from octavo.filters.times import Instant, instant, instant_of

#: Kinds of terms. The first four come with a value, the others with a field alone. A value is written as Python compares it;
#: where a boolean or one of 0 and 1 is in it, once more with booleans told apart, as typed fields compare.
VALUE: Final = "value"
ELEMENT: Final = "element"
TYPED_VALUE: Final = "typed value"
TYPED_ELEMENT: Final = "typed element"
EXISTS: Final = "exists"
STRING: Final = "string"  # the value is a string
STRINGS: Final = "strings"  # it is a list with a string in it

#: Kinds of values that have an order which Qdrant's floats keep: each with its own key for ranges, and terms for a value of
#: this kind and for a list with one in it.
NUMBER: Final = "number"
BOOLEAN: Final = "boolean"
TIME: Final = "time"

#: A document with a number that a float cannot hold exactly: ranges must look at it again.
INEXACT: Final = "inexact"

Path = Sequence[str]


def term(kind: str, path: Path = (), value: Any = None) -> str:
    """Return the keyword that stands for a fact about a document, always 22 characters; the value is a canonical one."""
    return _digest([kind, list(path), value])


def _in_list(kind: str) -> str:
    """Return the term for a list with a value of a kind in it."""
    return f"{kind}s"


def number_key(path: Path, kind: str = NUMBER) -> str:
    """Return the key under which a field's floats lie: a digest, since Qdrant would read dots and brackets in a name."""
    named = list(path) if kind == NUMBER else [kind, list(path)]
    return kind[0] + hashlib.blake2b(_json(named), digest_size=8).hexdigest()


def canonical(value: Any, *, typed: bool = False) -> Any:
    """Return a value in which everything that is equal is written alike: ``1 == 1.0``, and ``True == 1`` unless typed."""
    if isinstance(value, bool):
        return {"": value} if typed else int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"": str(value)}  # no metadata holds it
    if isinstance(value, Instant | date):
        return {"": ["time", _instant(value).microseconds]}
    if isinstance(value, list | tuple):
        return [canonical(item, typed=typed) for item in value]
    if isinstance(value, Mapping):
        return {key: canonical(item, typed=typed) for key, item in value.items()}
    return value


def _instant(value: Instant | date) -> Instant:
    return instant(value) if isinstance(value, date) else value


def _is_ambiguous(value: Any) -> bool:
    """Tell whether a value equals another one only because ``True == 1`` and ``False == 0``."""
    if isinstance(value, list | tuple):
        return any(map(_is_ambiguous, value))
    return isinstance(value, int | float) and value in (0, 1)


def value_terms(kind: str, path: Path, value: Any) -> list[str]:
    """Return the terms of a value in a document; `kind` is `VALUE` or `ELEMENT`."""
    terms = [term(kind, path, canonical(value))]
    if _is_ambiguous(value):
        terms.append(term(f"typed {kind}", path, canonical(value, typed=True)))
    return terms


def asked_term(kind: str, field: Field, value: Any) -> str:
    """Return the term of those documents whose value equals an operand, as the field compares."""
    if field.typed and _is_ambiguous(value):
        return term(f"typed {kind}", field.path, canonical(value, typed=True))
    return term(kind, field.path, canonical(value))


def exact_float(value: int | float) -> float | None:
    """Return a number as a float if that is the same number, else None."""
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if as_float == value else None


def describe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a payload that stand for a document's metadata: terms, and floats where there are any."""
    terms: set[str] = set()
    one: dict[str, float] = {}
    many: dict[str, list[float]] = {}
    for path, value in _walk(metadata, ()):
        terms.add(term(EXISTS, path))
        if isinstance(value, Mapping):
            continue
        terms.update(value_terms(VALUE, path, value))
        if isinstance(value, str):
            terms.add(term(STRING, path))
        elif isinstance(value, list | tuple):
            _add_elements(path, value, terms, many)
        elif (ordered := _ordered(value)) is not None:
            kind, number = ordered
            terms.add(term(kind, path))
            if number is None:
                terms.add(term(INEXACT))
            else:
                one[number_key(path, kind)] = number
    fields: dict[str, Any] = {"terms": sorted(terms)}
    if one:
        fields["number"] = one
    if many:
        fields["numbers"] = many
    return fields


def _add_elements(path: Path, items: Sequence[Any], terms: set[str], many: dict[str, list[float]]) -> None:
    for item in items:
        if isinstance(item, Mapping):
            continue  # no operand of a filter is an object
        terms.update(value_terms(ELEMENT, path, item))
        if isinstance(item, str):
            terms.add(term(STRINGS, path))
        elif (ordered := _ordered(item)) is not None:
            kind, number = ordered
            terms.add(term(_in_list(kind), path))
            if number is None:
                terms.add(term(INEXACT))
            else:
                many.setdefault(number_key(path, kind), []).append(number)


def _ordered(value: Any) -> tuple[str, float | None] | None:
    """Return the kind of a value that has an order among its like, and the float that keeps it; None for other values."""
    if isinstance(value, bool):
        return BOOLEAN, float(value)
    if isinstance(value, int | float):
        return NUMBER, exact_float(value)
    if isinstance(value, Instant | date):
        return TIME, exact_float(_instant(value).microseconds)
    return None


def _walk(metadata: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in metadata.items():
        yield (*path, key), value
        if isinstance(value, Mapping):
            yield from _walk(value, (*path, key))


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
    if isinstance(leaf, Contains) and not field.elements:
        return _contains(field, leaf.value)
    if isinstance(leaf, Compare):
        return _range(field, {_RANGE[leaf.op]: leaf.value})
    if isinstance(leaf, Between):
        return _range(field, {"gte": leaf.low, "lte": leaf.high})
    if isinstance(leaf, Like | TextMatch | PartOf):
        return Bounds(NOTHING, _strings(field))
    return Bounds(NOTHING, has_term(term(EXISTS, field.path)))


def _exactly(condition: Condition) -> Bounds:
    return Bounds(condition, condition)


def _either(*parts: Bounds) -> Bounds:
    lower = any_of(*(part.lower for part in parts))
    return Bounds(lower, lower if all(part.exact for part in parts) else any_of(*(part.upper for part in parts)))


def _equal(field: Field, value: Any) -> list[str]:
    values = [value]
    if isinstance(value, str) and (time := instant_of(value)) is not None:
        values.append(time)  # a string in ISO form stands for a time, too
    kinds = [VALUE, ELEMENT] if field.elements else [VALUE]
    return [asked_term(kind, field, each) for each in values for kind in kinds]


def _strings(field: Field) -> Condition:
    terms = [term(STRING, field.path)]
    if field.elements:
        terms.append(term(STRINGS, field.path))
    return has_term(*terms)


def _contains(field: Field, value: Any) -> Bounds:
    if not isinstance(value, str):
        return _exactly(has_term(asked_term(ELEMENT, field, value)))
    values = [value] if (time := instant_of(value)) is None else [value, time]
    element = has_term(*(asked_term(ELEMENT, field, each) for each in values))
    lower = any_of(element, has_term(term(EXISTS, (*field.path, value))))
    return Bounds(lower, any_of(lower, has_term(term(STRING, field.path))))


def _range(field: Field, limits: dict[str, Any]) -> Bounds:
    """Return a range, whatever its limits are."""
    values = list(limits.values())
    times = {op: instant_of(limit) for op, limit in limits.items()}
    in_time = {op: time.microseconds for op, time in times.items() if time is not None}
    by_time = _numbers(field, in_time, [TIME]) if len(in_time) == len(limits) else _exactly(NOTHING)
    if all(isinstance(value, str) for value in values):
        return _either(Bounds(NOTHING, _strings(field)), by_time)
    if all(isinstance(value, date) for value in values):
        return by_time
    if all(isinstance(value, int | float) for value in values):
        if not field.typed:
            return _numbers(field, limits, [NUMBER, BOOLEAN])
        booleans = [isinstance(value, bool) for value in values]
        if any(booleans) != all(booleans):
            return _exactly(NOTHING)  # no value is a boolean and a number
        return _numbers(field, limits, [BOOLEAN if booleans[0] else NUMBER])
    return Bounds(NOTHING, has_term(term(EXISTS, field.path)))


def _numbers(field: Field, limits: Mapping[str, int | float], kinds: Sequence[str]) -> Bounds:
    """Return a range over values of some kinds; those next to a limit, and those that no float holds, are to be looked at.

    Qdrant stores payloads as JSON and may read the last bits of a number back otherwise. What equals a limit is therefore told
    by its term, which is exact.
    """
    names = [*kinds, *map(_in_list, kinds)] if field.elements else kinds
    of_kind = has_term(*(term(name, field.path) for name in names))
    floats = {op: exact_float(limit) for op, limit in limits.items()}
    known = {op: limit for op, limit in floats.items() if limit is not None and abs(limit) < _LARGEST}
    if len(known) < len(limits):
        return Bounds(NOTHING, of_kind)
    if "gte" in known and "lte" in known and known["gte"] > known["lte"]:
        return _exactly(NOTHING)
    inside: dict[str, float] = {}
    around: dict[str, float] = {}
    for op, limit in known.items():
        margin = _MARGIN * math.ulp(limit)
        inside[op[:2]] = limit + margin if op[0] == "g" else limit - margin
        around[f"{op[:2]}e"] = limit - margin if op[0] == "g" else limit + margin
    at_limit = {op: _at_limit(field, limits[op], kinds) for op in known}
    included = has_term(*(each for op, terms in at_limit.items() if op[2:] for each in terms))
    lower = any_of(_in_range(field, inside, kinds), included)
    upper = _in_range(field, around, kinds)
    excluded = [each for op, terms in at_limit.items() if not op[2:] for each in terms]
    if excluded and not field.elements:  # a list may hold the limit, and a number beyond it
        upper = all_of(upper, none_of(has_term(*excluded)))
    return Bounds(lower, any_of(lower, upper, all_of(of_kind, has_term(term(INEXACT)))))


def _at_limit(field: Field, limit: int | float, kinds: Sequence[str]) -> list[str]:
    """Return the terms of values that equal a limit."""
    value = Instant(int(limit)) if TIME in kinds else limit
    return [asked_term(kind, field, value) for kind in ([VALUE, ELEMENT] if field.elements else [VALUE])]


def _in_range(field: Field, limits: dict[str, float], kinds: Sequence[str]) -> Condition:
    names = ["number", "numbers"] if field.elements else ["number"]
    keys = [number_key(field.path, kind) for kind in kinds]
    return any_of(*({"key": f"{name}.{key}", "range": limits} for name in names for key in keys))
