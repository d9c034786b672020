"""A database file from a stranger: what its schema would run is not run, and the file is refused before the first query."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest

import octavo
from octavo.errors import CorruptCollectionError
from octavo.store._schema import check_schema
from octavo.store.sqlite import connect_file


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crafted") / "kb"
    with octavo.open(path, codec="int8", fit_after=50) as kb:
        kb.add([f"text {i}" for i in range(60)], vectors=np.random.default_rng(0).standard_normal((60, 8)))
    return path


@contextlib.contextmanager
def attacker(path: Path) -> Iterator[apsw.Connection]:
    """A connection that may do everything and leaves valid checksums."""
    connect_file(path / "octavo.db", patience=1).close()  # makes the checksums known to SQLite
    connection = apsw.Connection(str(path / "octavo.db"), vfs="cksmvfs")
    try:
        yield connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def replaced(name: str, *statements: str) -> list[str]:
    """Statements that put others in place of a table, its content kept under another name."""
    return [f"ALTER TABLE {name} RENAME TO kept_{name}", *statements]


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"

CRAFTED = {
    "a view for the manifest": replaced(
        "manifest", f"CREATE VIEW manifest AS {ENDLESS} SELECT 'seq' AS key, max(i) AS value FROM n"
    ),
    "a view for the documents": replaced(
        "documents",
        "CREATE VIEW documents AS SELECT slot, id, hex(zeroblob(300000000)) AS text, metadata, payload, crc "
        "FROM kept_documents",
    ),
    "a generated column": replaced(
        "tombstones",
        "CREATE TABLE tombstones (slot INTEGER PRIMARY KEY, seq INTEGER AS (length(hex(zeroblob(900000000)))))",
    ),
    "a check": replaced(
        "blocks",
        "CREATE TABLE blocks (tier INTEGER NOT NULL, block INTEGER NOT NULL, crc INTEGER NOT NULL CHECK (crc != 7), "
        "PRIMARY KEY (tier, block)) WITHOUT ROWID",
    ),
    "a default": replaced(
        "artifacts",
        "CREATE TABLE artifacts (name TEXT PRIMARY KEY, value TEXT NOT NULL DEFAULT (hex(zeroblob(99)))) WITHOUT ROWID",
    ),
    "a trigger": ["CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END"],
    "a trigger on a table of one's own": [
        "CREATE TABLE mine (a TEXT)",
        "CREATE TRIGGER t AFTER INSERT ON mine BEGIN DELETE FROM documents; END",
    ],
    "a view of one's own": [f"CREATE VIEW mine AS {ENDLESS} SELECT * FROM n"],
    "an index of an expression": ["CREATE INDEX mine ON documents (length(text))"],
    "a partial index": ["CREATE INDEX mine ON documents (slot) WHERE slot > 3"],
    "a table with a check": ["CREATE TABLE mine (a TEXT CHECK (length(a) < 3))"],
    "a table with a generated column": ["CREATE TABLE mine (a TEXT, b TEXT AS (upper(a)))"],
    "a table with a default": ["CREATE TABLE mine (a TEXT DEFAULT (hex(zeroblob(9))))"],
    "a table with a collation": ["CREATE TABLE mine (a TEXT COLLATE NOCASE)"],
    "a virtual table": ["CREATE VIRTUAL TABLE mine USING fts5(a)"],
    "a virtual table of files": ["CREATE VIRTUAL TABLE mine USING dbstat"],
    "an index less": ["DROP INDEX tombstones_by_seq"],
    "a table less": ["DROP TABLE octavo_fields"],
    "another collation": replaced(
        "octavo_field_names",
        "CREATE TABLE octavo_field_names (\n    field INTEGER PRIMARY KEY,\n    name TEXT NOT NULL UNIQUE COLLATE NOCASE\n)",
    ),
    "another index": ["DROP INDEX tombstones_by_seq", "CREATE INDEX tombstones_by_seq ON tombstones (slot)"],
    "very many tables": [f"CREATE TABLE t{i} (a TEXT)" for i in range(1200)],
    "a very long text": [f"CREATE TABLE mine (a TEXT, {', '.join(f'column{i} TEXT' for i in range(1500))})"],
}


@pytest.mark.parametrize("name", CRAFTED)
def test_nothing_of_it_runs(name: str, good: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    with attacker(path) as connection:
        for statement in CRAFTED[name]:
            connection.execute(statement)
    before = (path / "octavo.db").read_bytes()
    for read_only in (True, False):
        with pytest.raises(CorruptCollectionError, match=r"octavo\.db"):
            octavo.open(path, read_only=read_only)
    with pytest.raises(CorruptCollectionError):
        octavo.restore(path, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    assert (path / "octavo.db").read_bytes() == before


def _used(path: Path) -> None:
    with octavo.open(path, read_only=True) as kb:
        kb.ids()
        kb.search(np.ones(8), 3)


def test_a_trigger_that_is_hidden_behind_the_text_of_a_table(good: Path, tmp_path: Path) -> None:
    """The text of the schema itself is edited, so that SQLite meets something else than the type says."""
    for edit in (
        "UPDATE sqlite_schema SET sql = replace(sql, 'payload TEXT', 'payload TEXT AS (text)') WHERE name = 'documents'",
        "UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 'manifest'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'TABLE', 'TABLE /* */') WHERE name = 'blocks'",
        "UPDATE sqlite_schema SET type = 'view' WHERE name = 'artifacts'",
        "UPDATE sqlite_schema SET name = x'ff' WHERE name = 'artifacts'",
        "UPDATE sqlite_schema SET sql = x'00' WHERE name = 'artifacts'",
        "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'documents'",
        "UPDATE sqlite_schema SET rootpage = 999999 WHERE name = 'documents'",
        "DELETE FROM sqlite_schema",
    ):
        path = Path(shutil.copytree(good, tmp_path / str(abs(hash(edit)))))
        with attacker(path) as connection:
            connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
            connection.pragma("writable_schema", True)
            connection.execute(edit)
        with pytest.raises(CorruptCollectionError):
            _used(path)


def test_tables_of_adapters_are_let_be(good: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    statements = (
        "CREATE TABLE mine (a TEXT NOT NULL, b INTEGER, c, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "CREATE TABLE mine_too (id INTEGER PRIMARY KEY, name TEXT UNIQUE)",
        "CREATE UNIQUE INDEX mine_by_c ON mine (c, b)",
    )
    with octavo.open(path) as kb, kb.connection(write=True) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO mine VALUES ('x', 1, 2.5)")
    with octavo.open(path) as kb:
        assert kb.verify().ok
        with kb.connection() as connection:
            assert connection.execute("SELECT * FROM mine").fetchall() == [("x", 1, 2.5)]


def test_statistics_of_sqlite_are_let_be(good: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    with attacker(path) as connection:
        connection.execute("ANALYZE")
    with octavo.open(path) as kb:
        assert kb.verify().ok


def test_a_database_without_checksums_is_refused(good: Path, tmp_path: Path) -> None:
    """Otherwise one damaged byte of the header would turn all checksums off."""
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    content = bytearray((path / "octavo.db").read_bytes())
    assert content[20] == 8
    for value in (0, 7, 9, 255):
        content[20] = value
        (path / "octavo.db").write_bytes(content)
        for read_only in (True, False):
            with pytest.raises(CorruptCollectionError, match=r"octavo\.db"):
                octavo.open(path, read_only=read_only)


def test_a_reading_of_the_schema_is_interrupted(good: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    connection = connect_file(path / "octavo.db", patience=1)
    with pytest.raises(CorruptCollectionError, match="endless"), connection.bounded(100_000, "it"):
        connection.execute(f"{ENDLESS} SELECT max(i) FROM n").fetchall()
    assert check_schema(connection, path / "octavo.db")
    connection.close()


def test_what_a_connection_may_not_do(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even Octavo's own connections change the schema behind its text, run views, load code or make other files."""
    path = Path(shutil.copytree(good, tmp_path / "kb"))
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(connect_file(path / "octavo.db", patience=1)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("CREATE VIEW v AS SELECT 1")
        for statement in (
            "UPDATE sqlite_schema SET sql = 'x'",
            "SELECT * FROM v",
            "ATTACH 'other.db' AS other",
            "SELECT load_extension('x')",
        ):
            with pytest.raises(apsw.Error):
                connection.execute(statement).fetchall()
    assert not (tmp_path / "other.db").exists()
