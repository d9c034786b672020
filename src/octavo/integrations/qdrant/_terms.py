"""What a point carries so that Qdrant can answer Octavo's filters exactly.

Qdrant compares in its own way: a condition on a list holds for its elements, 1 and 1.0 are different values, there is no
equality of floats, lists or null. So each document carries, beside its metadata, *terms*: keywords that stand for ``field f
has the value v`` and the like under Octavo's own rules, in one indexed field; and its numbers as floats under the digest of
their path, for ranges.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

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
