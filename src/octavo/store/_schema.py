"""The tables of a collection, and the comparison of what a file says with them.

A database may come from anyone, and SQLite runs what its schema says: the query of a view, the expressions of generated
columns, checks and indexes, triggers. So the text of the schema is compared before the first query, byte for byte where the
tables are Octavo's. Adapters may keep tables of their own, of a form in which there is nothing to run.
"""

from __future__ import annotations

import re
from pathlib import Path

from octavo.errors import CorruptCollectionError
from octavo.store.metadata import index as _metadata_index
from octavo.store.sqlite import Connection

_TABLES = """
CREATE TABLE IF NOT EXISTS manifest (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL, payload TEXT,
    embed_text TEXT, flags INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tombstones (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS tombstones_by_seq ON tombstones (seq);
CREATE TABLE IF NOT EXISTS retexted (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    tier INTEGER NOT NULL, block INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (tier, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS artifacts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

#: Tables and indexes that collections of earlier versions get when they are opened to be written to.
_LATER = """
CREATE TABLE IF NOT EXISTS originals (
    slot INTEGER PRIMARY KEY, priority INTEGER NOT NULL, n INTEGER NOT NULL, vectors BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS originals_by_priority ON originals (priority, n);
CREATE TABLE IF NOT EXISTS next_blocks (
    tier INTEGER NOT NULL, block INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (tier, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS next_originals (
    slot INTEGER PRIMARY KEY, priority INTEGER NOT NULL, n INTEGER NOT NULL, vectors BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS next_originals_by_priority ON next_originals (priority, n);
CREATE TABLE IF NOT EXISTS octavo_notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

#: The table that a collection gets with its first learned sparse vectors.
SPARSE_ROWS = "CREATE TABLE IF NOT EXISTS sparse_rows (slot INTEGER PRIMARY KEY, vector BLOB NOT NULL)"

_STATEMENTS = [text.strip() for text in (_TABLES + _metadata_index.DDL + _LATER).split(";") if text.strip()]

#: Name to (type, text), as SQLite keeps them.
_EXPECTED = {
    text.split()[5]: (text.split()[1].lower(), text.replace("IF NOT EXISTS ", "", 1))
    for text in (*_STATEMENTS, SPARSE_ROWS)
}

_MAY_BE_ABSENT = {
    "originals",
    "originals_by_priority",
    "next_blocks",
    "next_originals",
    "next_originals_by_priority",
    "octavo_notes",
    "sparse_rows",
}

_COLUMN = r"\w+( (TEXT|INTEGER|REAL|BLOB|NUMERIC))?( NOT NULL)?( PRIMARY KEY)?( UNIQUE)?"
_NAMES = r"\(\w+(, \w+)*\)"
_ITEM = rf"\s*({_COLUMN}|(PRIMARY KEY|UNIQUE) {_NAMES})\s*"
_PLAIN_TABLE = re.compile(rf"CREATE TABLE \w+ ?\({_ITEM}(,{_ITEM})*\)( WITHOUT ROWID)?", re.ASCII)
_PLAIN_INDEX = re.compile(rf"CREATE (UNIQUE )?INDEX \w+ ON \w+ ?{_NAMES}", re.ASCII)

#: No schema is longer; a table that adapters make neither.
_MOST_ENTRIES, _LONGEST = 1_000, 10_000

#: Steps of SQLite's machine that reading a schema may take: some thousand are enough.
_STEPS = 1_000_000


def create_tables(connection: Connection) -> None:
    """Create the tables; harmless when they exist."""
    for statement in _STATEMENTS:
        connection.execute(statement)


def check_schema(connection: Connection, path: Path) -> bool:
    """Compare the schema with what Octavo writes; False when there is none yet.

    Raises
    ------
    CorruptCollectionError
        When something is missing, differs, or could run by itself.
    """
    with connection.bounded(_STEPS, f"the schema of {path}"):
        entries = connection.execute(
            "SELECT type, name, tbl_name, substr(sql, 1, ?) FROM sqlite_master LIMIT ?",
            (_LONGEST + 1, _MOST_ENTRIES + 1),
        ).fetchall()
    if not entries:
        return False
    if not connection.checks_pages:
        raise CorruptCollectionError(
            f"{path} is damaged: its pages have no checksums, which every database of Octavo has; restore it from a backup"
        )
    found = {}
    for kind, name, table, sql in entries:
        if not all(isinstance(value, str) for value in (kind, name, table)) or not isinstance(sql, str | None):
            raise _foreign(path, kind, name)
        found[name] = kind, sql
        if name in _EXPECTED:
            if (kind, sql) != _EXPECTED[name]:
                raise CorruptCollectionError(
                    f"{path} is damaged: its {kind} {name!r} is not as Octavo makes it; restore it from a backup"
                )
        elif not (_is_automatic(kind, name, sql) or _is_plain(kind, sql)):
            raise _foreign(path, kind, name)
    missing = _EXPECTED.keys() - found.keys() - _MAY_BE_ABSENT
    if missing or len(entries) > _MOST_ENTRIES:
        what = f"it lacks the table {min(missing)!r}" if missing else "it has too many tables"
        raise CorruptCollectionError(f"{path} is damaged: {what}; restore it from a backup")
    return True


def _is_automatic(kind: str, name: str, sql: str | None) -> bool:
    return kind == "index" and sql is None and name.startswith("sqlite_autoindex_")


def _is_plain(kind: str, sql: str | None) -> bool:
    """Tell whether this is a table of columns, or an index of columns, and holds no expression."""
    if sql is None or len(sql) > _LONGEST:
        return False
    form = {"table": _PLAIN_TABLE, "index": _PLAIN_INDEX}.get(kind)
    return form is not None and form.fullmatch(sql) is not None


def _foreign(path: Path, kind: object, name: object) -> CorruptCollectionError:
    return CorruptCollectionError(
        f"{path} holds the {kind} {name!r}, which Octavo does not make and which could run by itself; if the file comes from "
        "somebody else, do not trust it, otherwise restore it from a backup"
    )
