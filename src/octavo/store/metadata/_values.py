"""How the values of metadata become rows of the inverted index.

SQLite holds most JSON values exactly and compares them as Python does: integers of 64 bits, floats (against integers
too), strings (by UTF-8 byte, which is code point order). What it cannot hold, or what would bloat the index, gets a
rougher row that only marks the document as a candidate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, TypeAlias

from octavo.filters.times import Instant, instant

#: Strings longer than this are indexed by so many leading characters.
PREFIX = 200

# Kinds of rows. NULL, BOOL, NUMBER, TEXT and TIME (microseconds, see `Instant`) are exact; LONG (a prefix and a digest),
# LIST (its length) and ODD (nothing) mark candidates; a DICT is there to exist, its fields have rows of their own.
NULL, NUMBER, TEXT, LONG, LIST, DICT, ODD, TIME, BOOL = range(9)

#: Added to the kind for an element of a list. A value has one row below this, whatever it is.
ELEMENT = 16

Stored: TypeAlias = int | float | str
Row: TypeAlias = tuple[tuple[str, ...], int, Stored]

_SCALARS = (str, int, float, type(None), date)


def field_name(path: tuple[str, ...]) -> str:
    """Give the text that stands for a path: JSON in ASCII, which any key has, even one with a lone surrogate."""
    return json.dumps(path)


def storable(text: str) -> bool:
    """Say whether SQLite can hold a string (a lone surrogate has no UTF-8 form)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_64_bit(value: float) -> bool:
    """Say whether SQLite can hold a number exactly."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value == value  # NaN would be stored as NULL


def _digest(text: str) -> str:
    """Tell long strings with a common beginning apart, so that few candidates are verified in vain."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def classify(value: str | float | date | Instant | None) -> tuple[int, Stored]:
    """Give the kind of a scalar and what is stored for it.

    Examples
    --------
    >>> classify(True) == (BOOL, 1)
    True
    >>> classify(2**80) == (ODD, 0)
    True
    """
    if value is None:
        return NULL, 0  # a column of the primary key holds no NULL
    if isinstance(value, str):
        if not storable(value):
            return ODD, 0
        return (TEXT, value) if len(value) <= PREFIX else (LONG, value[:PREFIX] + _digest(value))
    if isinstance(value, date | Instant):
        return TIME, (instant(value) if isinstance(value, date) else value).microseconds
    if isinstance(value, bool):
        return BOOL, int(value)
    return (NUMBER, value) if is_64_bit(value) else (ODD, 0)


def plain(value: Any) -> tuple[int, Stored] | None:
    """Give what `classify` gives for those scalars that most metadata is made of; None for everything else.

    Examples
    --------
    >>> plain("a") == (TEXT, "a"), plain(["a"])
    (True, None)
    """
    kind = type(value)
    if kind is str:
        return (TEXT, value) if len(value) <= PREFIX and value.isascii() else None
    if kind is int:
        return (NUMBER, value) if -(2**63) <= value < 2**63 else None
    if kind is float:
        return (NUMBER, value) if value == value else None
    return (BOOL, int(value)) if kind is bool else None


def rows_of(metadata: Mapping[str, Any]) -> Iterator[Row]:
    """Give the rows of one document's metadata: path, kind and stored value.

    Examples
    --------
    >>> list(rows_of({"year": 2020, "tags": ["a"]})) == [
    ...     (("year",), NUMBER, 2020), (("tags",), LIST, 1), (("tags",), TEXT + ELEMENT, "a")]
    True
    """
    pending: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), metadata)]
    while pending:  # a loop, since JSON may be nested deeper than Python recurses
        above, mapping = pending.pop()
        for key, value in mapping.items():
            path = (*above, key)
            if isinstance(value, _SCALARS):
                yield path, *classify(value)
            elif isinstance(value, Mapping):
                yield path, DICT, 0
                pending.append((path, value))
            elif isinstance(value, (list, tuple)):
                yield path, LIST, len(value)
                for item in value:
                    # Lists and objects within lists have no rows; filters that may mean them verify all lists.
                    if isinstance(item, _SCALARS):
                        kind, stored = classify(item)
                        yield path, kind + ELEMENT, stored
            else:
                raise TypeError(
                    f"expected a JSON value under {'.'.join(path)!r}, or a date or time, got {type(value).__name__}"
                )
