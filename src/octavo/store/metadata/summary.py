"""Which fields the metadata of a collection have, and with which values: what can be filtered by.

Read off the inverted index alone, so that no document is looked at; or counted from documents where there is no such index.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as midnight
from typing import Any

from octavo.store.metadata._values import (
    BOOL,
    DICT,
    ELEMENT,
    LIST,
    LONG,
    NULL,
    NUMBER,
    ODD,
    TEXT,
    TIME,
    Stored,
    rows_of,
)
from octavo.store.sqlite import Connection

#: Values of a field that are named, the most frequent first.
MOST_VALUES = 20

#: Fields that are described; metadata with identifiers as keys have no end of them.
MOST_FIELDS = 200

#: Where documents are counted: fields, and different values of each, that are kept in mind; later ones are not.
_MOST_PATHS, MOST_DISTINCT = 10_000, 10_000

_NAMES = {
    NULL: "null",
    NUMBER: "number",
    TEXT: "text",
    LONG: "text",
    LIST: "list",
    TIME: "time",
    BOOL: "boolean",
    ODD: "other",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FieldSummary:
    """A field of metadata and what stands in it.

    Parameters
    ----------
    name : str
        As filters in their dict form write it: ``"year"``, or ``"author.name"`` for what is nested.
    kinds : list of str
        Of the values: ``text``, ``number``, ``boolean``, ``time``, ``list``, ``null``, ``other``. An element of a list counts
        as a value, and filters mean it too.
    documents : int
        How many have the field.
    values : list of (value, int)
        The most frequent values, each with its number of documents; times in ISO form, midnights as dates. Long texts are
        left out.
    distinct : int
        Different values that could be named; counted from documents, no further than 10,000.
    complete : bool
        Whether `values` are all that there are.
    least, greatest : float, str or None
        Ends of the numbers, or of the times where there are no numbers.

    Examples
    --------
    >>> [year] = summarise([{"year": 2020}, {"year": 2021}, {"year": 2020}])
    >>> year.name, year.documents, year.values, year.least, year.greatest
    ('year', 3, [(2020, 2), (2021, 1)], 2020, 2021)
    """

    name: str
    kinds: list[str]
    documents: int
    values: list[tuple[Any, int]]
    distinct: int
    complete: bool
    least: float | str | None
    greatest: float | str | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def summarise_index(conn: Connection) -> list[FieldSummary]:
    """Describe the fields of all documents, from the index; those that most documents have come first.

    Parameters
    ----------
    conn : Connection
        Connection inside a transaction.
    """
    fields = []
    for number, written in conn.execute("SELECT field, name FROM octavo_field_names").fetchall():
        counts = conn.execute(
            "SELECT kind, count(*), min(value), max(value) FROM octavo_fields WHERE field = ? GROUP BY kind", (number,)
        ).fetchall()
        documents = sum(count for kind, count, _, _ in counts if kind < ELEMENT)
        path = tuple(json.loads(written))
        if documents and _is_listed(path, counts):
            fields.append((documents, path, number, counts))
    fields.sort(key=lambda field: (-field[0], field[1]))
    return [
        _summary(path, documents, counts, *_frequent(conn, number), MOST_VALUES)
        for documents, path, number, counts in fields[:MOST_FIELDS]
    ]


def _frequent(conn: Connection, field: int) -> tuple[list[tuple[int, Stored, int]], int]:
    """Return the most frequent values with their numbers of documents, and how many different ones there are."""
    kinds = ", ".join(str(kind + more) for kind in (TEXT, NUMBER, BOOL, TIME) for more in (0, ELEMENT))
    rows = conn.execute(
        f"SELECT kind % {ELEMENT} AS plain, value, count(DISTINCT slot) AS n, count(*) OVER () FROM octavo_fields "
        f"WHERE field = ? AND kind IN ({kinds}) GROUP BY plain, value ORDER BY n DESC, plain, value LIMIT {MOST_VALUES}",
        (field,),
    ).fetchall()
    return [(kind, value, n) for kind, value, n, _ in rows], rows[0][3] if rows else 0


class _Counted:
    """What was counted of one field."""

    def __init__(self) -> None:
        self.documents = 0
        self.ends: dict[int, tuple[int, Any, Any]] = {}
        self.values: Counter[tuple[int, Stored]] = Counter()


def summarise(metadata: Iterable[Mapping[str, Any]], *, most: int = MOST_VALUES) -> list[FieldSummary]:
    """Describe the fields of these metadata, those that most of them have first.

    Parameters
    ----------
    metadata : iterable of mapping
        One a document.
    most : int, default=20
        Values to name of each field.
    """
    fields: dict[tuple[str, ...], _Counted] = {}
    for each in metadata:
        rows = set(rows_of(each))
        for path, kind, stored in rows:
            if path not in fields:
                if len(fields) == _MOST_PATHS:
                    continue
                fields[path] = _Counted()
            field = fields[path]
            field.documents += kind < ELEMENT
            count, least, greatest = field.ends.get(kind, (0, stored, stored))
            field.ends[kind] = count + 1, min(least, stored), max(greatest, stored)
        for path, kind, stored in {(path, kind % ELEMENT, stored) for path, kind, stored in rows if path in fields}:
            values = fields[path].values
            if kind in (TEXT, NUMBER, BOOL, TIME) and ((kind, stored) in values or len(values) < MOST_DISTINCT):
                values[kind, stored] += 1
    found: list[FieldSummary] = []
    for path, field in sorted(fields.items(), key=lambda item: (-item[1].documents, item[0])):
        counts = [(kind, *numbers) for kind, numbers in field.ends.items()]
        if _is_listed(path, counts):
            frequent = sorted(
                ((kind, stored, n) for (kind, stored), n in field.values.items()),
                key=lambda entry: (-entry[2], entry[0], entry[1]),
            )
            found.append(_summary(path, field.documents, counts, frequent[:most], len(frequent), most))
        if len(found) == MOST_FIELDS:
            break
    return found


def _is_listed(path: tuple[str, ...], counts: list[Any]) -> bool:
    """Tell whether a filter in its dict form can name the field, and whether it is more than the object around others."""
    named = not path[0].startswith("$") and (len(path) == 1 or not any("." in key for key in path))
    return named and not all(kind == DICT for kind, *_ in counts)


def _summary(
    path: tuple[str, ...],
    documents: int,
    counts: list[Any],
    frequent: list[tuple[int, Stored, int]],
    distinct: int,
    most: int,
) -> FieldSummary:
    kinds = dict.fromkeys(_NAMES[kind % ELEMENT] for kind, *_ in sorted(counts) if kind % ELEMENT in _NAMES)
    unnamed = any(kind % ELEMENT in (LONG, ODD) for kind, *_ in counts)
    least, greatest = _ends(counts, NUMBER)
    if least is None:
        least, greatest = (_plain(TIME, end) if end is not None else None for end in _ends(counts, TIME))
    return FieldSummary(
        name=".".join(path),
        kinds=list(kinds),
        documents=documents,
        values=[(_plain(kind, stored), n) for kind, stored, n in frequent],
        distinct=distinct,
        complete=distinct <= most and not unnamed,
        least=least,
        greatest=greatest,
    )


def _ends(counts: list[Any], kind: int) -> tuple[Any, Any]:
    of_kind = [(least, greatest) for each, _, least, greatest in counts if each % ELEMENT == kind]
    if not of_kind:
        return None, None
    return min(least for least, _ in of_kind), max(greatest for _, greatest in of_kind)


def _plain(kind: int, stored: Any) -> Any:
    """Return a stored value as JSON has it."""
    if kind == BOOL:
        return bool(stored)
    if kind == TIME:
        try:
            time = _EPOCH + timedelta(microseconds=stored)
            return time.date().isoformat() if time.time() == midnight() else time.isoformat()
        except OverflowError:  # next to the years 1 and 9999
            return str(stored)
    return stored
