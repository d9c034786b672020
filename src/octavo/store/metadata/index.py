"""An inverted index of metadata values, kept in SQLite beside the documents.

Each document puts one row a value into ``octavo_fields``: the field, the kind of the value, the value, the slot. The
primary key is the index: a leaf of a filter is a few ranges of the table (see `octavo.store.metadata._probes`), and the
nodes above work on bool masks. Everything runs on the caller's connection inside the caller's transaction, so the index
cannot disagree with the documents.

Two masks come out of a leaf: slots for which it holds, and slots for which it may hold because SQLite has only a rough
row of the value (see `octavo.store.metadata._values`). The latter are decided by `matches` on the stored JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from octavo.errors import CorruptCollectionError, InvalidFilterError
from octavo.filters import And, Filter, Leaf, Not, Or, matches
from octavo.store.documents import metadata_from_json
from octavo.store.metadata._probes import Probe, probes
from octavo.store.metadata._values import ELEMENT, Stored, field_name, plain, rows_of
from octavo.store.sqlite import Connection

Mask: TypeAlias = NDArray[np.bool_]

#: Tables of the index; run once when a collection is created.
DDL = """
CREATE TABLE IF NOT EXISTS octavo_field_names (
    field INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS octavo_fields (
    field INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    value NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (field, kind, value, slot)
) WITHOUT ROWID;
"""

#: Values bound in one statement; SQLite takes 32,766.
_CHUNK = 900

#: Rows that are inserted by one statement.
_ROWS = 64


def insert(conn: Connection, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Index the metadata of new documents.

    Parameters
    ----------
    conn : Connection
        Connection inside a write transaction.
    rows : iterable of (slot, metadata)
        Slots that are not in the index yet, and JSON objects.

    Raises
    ------
    TypeError
        Metadata holds something that is no JSON value.
    """
    entries = _entries(conn, rows, create=True)
    # In the order of the primary key each page of the tree is visited once. Kinds keep numbers and strings apart.
    entries.sort()
    # A list may hold a value twice, or 1 and 1.0, which are one value here. Many rows a statement take two thirds of the time.
    for start in range(0, len(entries), _ROWS):
        part = entries[start : start + _ROWS]
        marks = ", ".join(["(?, ?, ?, ?)"] * len(part))
        conn.execute(f"INSERT OR IGNORE INTO octavo_fields VALUES {marks}", list(chain.from_iterable(part)))


def remove(conn: Connection, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Take documents out of the index.

    Parameters
    ----------
    conn : Connection
        Connection inside a write transaction.
    rows : iterable of (slot, metadata)
        What was given to `insert`; slots that are not indexed are passed over.
    """
    conn.executemany(
        "DELETE FROM octavo_fields WHERE field = ? AND kind = ? AND value = ? AND slot = ?",
        _entries(conn, rows, create=False),
    )


def clear(conn: Connection) -> None:
    """Empty the index."""
    conn.execute("DELETE FROM octavo_fields")
    conn.execute("DELETE FROM octavo_field_names")


def select(conn: Connection, tree: Filter, alive: Mask) -> Mask:
    """Find the documents that satisfy a filter.

    Agrees with `octavo.filters.matches` on every document.

    Parameters
    ----------
    conn : Connection
        Connection that reads the index and the table ``documents (slot, metadata, ...)`` at one point in time.
    tree : Filter
        The filter.
    alive : ndarray of bool, shape (n_slots,)
        Slots that hold a document.

    Returns
    -------
    mask : ndarray of bool, shape (n_slots,)
        Slots that are alive and match; a new array.
    """
    if isinstance(tree, Leaf):
        return _select_leaf(conn, tree, alive)
    if isinstance(tree, Not):
        mask: Mask = alive & ~select(conn, tree.filter, alive)
        return mask
    if isinstance(tree, And):
        mask = alive.copy()
        for item in tree.filters:
            if not mask.any():
                break
            # Narrowing the live slots for the next filter spares it the verification of what is out already.
            mask = select(conn, item, mask)
        return mask
    if isinstance(tree, Or):
        mask = np.zeros_like(alive)
        for item in tree.filters:
            mask |= select(conn, item, alive & ~mask)
        return mask
    raise InvalidFilterError(f"expected a filter tree, got {tree!r}")


def _entries(
    conn: Connection, rows: Iterable[tuple[int, Mapping[str, Any]]], *, create: bool
) -> list[tuple[int, int, Stored, int]]:
    entries = []
    top: dict[str, int | None] = {}
    below: dict[tuple[str, ...], int | None] = {}
    for slot, metadata in rows:
        for key, value in metadata.items():
            if (found := plain(value)) is not None:
                if key not in top:
                    top[key] = _field(conn, (key,), create=create)
                if (field := top[key]) is not None:
                    entries.append((field, *found, slot))
                continue
            for path, kind, stored in rows_of({key: value}):
                if path not in below:
                    below[path] = _field(conn, path, create=create)
                if (field := below[path]) is not None:
                    entries.append((field, kind, stored, slot))
    return entries


def _field(conn: Connection, path: tuple[str, ...], *, create: bool = False) -> int | None:
    name = field_name(path)
    found = conn.execute("SELECT field FROM octavo_field_names WHERE name = ?", (name,)).fetchone()
    if found is None and create:
        conn.execute("INSERT INTO octavo_field_names (name) VALUES (?)", (name,))
        return conn.last_insert_rowid()
    if found is None:
        return None
    if not isinstance(found[0], int):
        raise CorruptCollectionError(
            "the metadata index in octavo.db is damaged (a field without a number); verify(repair=True) rebuilds it"
        )
    return found[0]


def _select_leaf(conn: Connection, leaf: Leaf, alive: Mask) -> Mask:
    sure = np.zeros_like(alive)
    maybe = np.zeros_like(alive)
    for probe in probes(leaf):
        path = leaf.at.path if probe.below is None else (*leaf.at.path, probe.below)
        field = _field(conn, path)
        if field is not None:
            for slots in _run(conn, field, probe):
                mask = sure if probe.sure else maybe
                # A commit by another process may have added slots beyond the caller's snapshot; a damaged page, any.
                mask[slots[(slots >= 0) & (slots < len(mask))]] = True
    sure &= alive
    maybe &= alive & ~sure
    _verify(conn, leaf, np.flatnonzero(maybe), sure)
    return sure


def _run(conn: Connection, field: int, probe: Probe) -> Iterator[NDArray[np.int64]]:
    """Give the slots that a probe finds, in one or more arrays."""
    condition = "field = ? AND "
    bound: list[Any] = [field]
    if probe.kind is None:
        condition += f"kind < {ELEMENT}"
    else:
        condition += "kind = ?"
        bound.append(probe.kind)
    if probe.where:
        condition += f" AND ({probe.where})"
        bound.extend(probe.bound)
    if probe.test is not None:
        yield _scan(conn, condition, bound, probe)
    elif probe.among is None:
        yield _slots(conn, condition, bound)
    else:
        for start in range(0, len(probe.among), _CHUNK):
            values = probe.among[start : start + _CHUNK]
            marks = ", ".join("?" * len(values))
            yield _slots(conn, f"{condition} AND value IN ({marks})", [*bound, *values])


def _slots(conn: Connection, condition: str, bound: list[Any]) -> NDArray[np.int64]:
    # Joining the numbers in SQLite and parsing them in numpy takes half the time of fetching them one by one.
    joined = conn.execute(f"SELECT group_concat(slot) FROM octavo_fields WHERE {condition}", bound).fetchone()[0]
    return _parse(joined or "")


def _scan(conn: Connection, condition: str, bound: list[Any], probe: Probe) -> NDArray[np.int64]:
    """Test the texts in a range, each different one once."""
    assert probe.test is not None
    groups = conn.execute(
        f"SELECT value, group_concat(slot) FROM octavo_fields WHERE {condition} GROUP BY value", bound
    )
    return _parse(",".join([slots for text, slots in groups if probe.test(text)]))


def _parse(joined: str) -> NDArray[np.int64]:
    try:
        return np.fromstring(joined, np.int64, sep=",") if joined else np.empty(0, np.int64)
    except ValueError as err:
        raise CorruptCollectionError(
            "the metadata index in octavo.db is damaged (a slot that is no number); verify(repair=True) rebuilds it"
        ) from err


def _verify(conn: Connection, leaf: Leaf, candidates: NDArray[np.int64], mask: Mask) -> None:
    """Set the mask for the candidates whose stored metadata satisfies the leaf."""
    for start in range(0, len(candidates), _CHUNK):
        slots = candidates[start : start + _CHUNK].tolist()
        marks = ", ".join("?" * len(slots))
        for slot, stored in conn.execute(f"SELECT slot, metadata FROM documents WHERE slot IN ({marks})", slots):
            if matches(leaf, metadata_from_json(stored)):
                mask[slot] = True
