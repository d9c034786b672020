"""A database that is empty, old or damaged in its own structures: nothing is thrown away, and what can be rebuilt is."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionNotFoundError, CorruptCollectionError
from octavo.filters import parse_filter
from octavo.store.metadata import index as _metadata_index
from octavo.store.sqlite import Connection, Rows, connect_file, fold_on_close
from octavo.store.vectors import BlockGuard

IDS = [f"identifier {i}" for i in range(60)]


@contextlib.contextmanager
def edited(path: Path) -> Iterator[Connection]:
    """Change what a closed collection's database says, checksums of its pages included."""
    with contextlib.closing(connect_file(path / "octavo.db", patience=5)) as connection:
        with connection:
            yield connection
        fold_on_close(connection)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kb"
    with octavo.open(path, codec="int8", fit_after=50) as kb:
        vectors = np.random.default_rng(0).standard_normal((60, 8))
        kb.add(IDS[:10], ids=IDS[:10], vectors=vectors[:10])
        kb.snapshot(tmp_path / "old")
        kb.add(IDS[10:], ids=IDS[10:], metadata=[{"n": i} for i in range(10, 60)], vectors=vectors[10:])
    return path


@pytest.mark.parametrize("must_exist", [False, True])
def test_an_emptied_database_is_no_new_collection(path: Path, must_exist: bool) -> None:
    files = {file.name: file.read_bytes() for file in path.glob("*.vec")}
    (path / "octavo.db").write_bytes(b"")
    with pytest.raises(CollectionNotFoundError if must_exist else CorruptCollectionError):
        octavo.open(path, must_exist=must_exist)
    assert {file.name: file.read_bytes() for file in path.glob("*.vec")} == files


def test_an_old_database_deletes_no_later_files(path: Path, tmp_path: Path) -> None:
    """Put back without the vector files of its time, it cannot be searched; with the right one, all is there again."""
    database = path / "octavo.db"
    shutil.copy(database, tmp_path / "right.db")
    shutil.copy(tmp_path / "old" / "octavo.db", database)
    assert not list(path.glob("g000001-*.vec"))
    with octavo.open(path) as kb, pytest.raises(CorruptCollectionError, match=r"g000001-0\.vec"):
        kb.search(np.ones(8), 3)
    shutil.copy(tmp_path / "right.db", database)
    with octavo.open(path) as kb:
        assert kb.verify().ok
        assert len(kb.search(np.ones(8), 60)) == 60


def _change(path: Path, root: str, old: bytes, new: bytes) -> None:
    """Overwrite bytes within the root page of a table or index."""
    with edited(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (root,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = (path / "octavo.db").read_bytes()
    start, end = (page - 1) * size, page * size
    assert content[start:end].count(old) == 1
    (path / "octavo.db").write_bytes(content[:start] + content[start:end].replace(old, new) + content[end:])


def test_a_damaged_index_of_ids_is_rebuilt(path: Path) -> None:
    _change(path, "sqlite_autoindex_documents_1", b"identifier 47", b"identifier 4x")
    with octavo.open(path) as kb:
        assert any("missing from index" in problem for problem in kb.verify().problems)
        report = kb.verify(repair=True)
        assert report.ok
        assert report.repaired == ["the indexes of octavo.db were rebuilt from its tables"]
        assert kb.get(["identifier 47"])[0].text == "identifier 47"
    with octavo.open(path) as kb:
        assert kb.verify().ok


def test_a_lost_document_is_missed(path: Path) -> None:
    with edited(path) as connection:
        connection.execute("DELETE FROM documents WHERE slot = 30")
    with octavo.open(path) as kb:
        with pytest.raises(CorruptCollectionError, match="missing"):
            kb.ids()
        assert not kb.verify(repair=True).ok


def test_a_repaired_metadata_index_is_asked_again(path: Path) -> None:
    """What a filter found before the repair is not remembered."""
    with edited(path) as connection:
        connection.execute("UPDATE octavo_fields SET slot = 5 WHERE slot = 30")
    with octavo.open(path) as kb, octavo.open(path) as other:
        assert kb.count({"n": 30}) == other.count({"n": 30}) == 1
        assert kb.ids({"n": 30}) == other.ids({"n": 30}) == [IDS[5]]
        assert "metadata index" in kb.verify().problems[0]
        assert kb.verify(repair=True).ok
        assert kb.ids({"n": 30}) == other.ids({"n": 30}) == [IDS[30]]


def test_indexes_stay_where_documents_are_damaged(path: Path) -> None:
    """They may be all that is left of a document's id."""
    _change(path, "sqlite_autoindex_documents_1", b"identifier 47", b"identifier 4x")
    with edited(path) as connection:
        connection.execute("UPDATE documents SET crc = crc + 1 WHERE slot = 3")
    before = (path / "octavo.db").read_bytes()
    with octavo.open(path) as kb:
        assert not kb.verify(repair=True).ok
    assert (path / "octavo.db").read_bytes() == before


def test_values_of_another_type_are_damage(path: Path) -> None:
    with edited(path) as connection:
        connection.execute("UPDATE documents SET text = x'ff00' WHERE slot = 30")
    with octavo.open(path) as kb:
        with pytest.raises(CorruptCollectionError, match="identifier 30"):
            kb.get([IDS[30]])
        assert "identifier 30" in kb.verify().problems[0]


def test_slots_out_of_range_are_damage(path: Path) -> None:
    with edited(path) as connection:
        connection.execute("UPDATE octavo_fields SET slot = -30000 WHERE slot = 30")
        connection.execute("UPDATE documents SET slot = 30000 WHERE slot = 40")
    with octavo.open(path) as kb:
        assert kb.count({"n": 30}) == 0
        with pytest.raises(CorruptCollectionError, match="beyond the last row"):
            kb.get_vectors([IDS[40]])
        assert not kb.verify().ok


def test_names_that_are_no_text_are_damage(path: Path) -> None:
    content = (path / "octavo.db").read_bytes()
    (path / "octavo.db").write_bytes(content.replace(b"CREATE TABLE documents", b"CREATE TABLE d\xf2(uments"))
    with pytest.raises(CorruptCollectionError, match=r"octavo\.db is damaged"), octavo.open(path) as kb:
        kb.ids()


def test_numpy_has_nothing_left_to_import_in_threads() -> None:
    """Its lazy import of `numpy.ma` recurses without end where two threads need it at the same time."""
    code = "import sys, octavo; octavo.open; sys.exit('numpy.ma' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_slot_of_the_metadata_index_that_is_no_number(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["a", "b"], ids=["a", "b"], metadata=[{"n": 1}, {"n": 2}], vectors=np.eye(2, dtype=np.float32))
    with edited(tmp_path / "kb") as connection:
        connection.execute("UPDATE octavo_fields SET slot = 'x' WHERE slot = 0")
    with octavo.open(tmp_path / "kb") as kb:
        with pytest.raises(CorruptCollectionError, match="metadata index"):
            kb.ids({"n": 1})
        assert not kb.verify().ok
        assert kb.verify(repair=True).ok
        assert kb.ids({"n": 1}) == ["a"]


def test_a_field_of_the_metadata_index_without_a_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite gives None for the number of a row in a page that another has been written over."""
    with octavo.open(path) as kb:

        class Damaged:
            def execute(self, sql: str, *more: object) -> Rows:
                return kb_connection.execute(
                    "SELECT nullif(?, 0) & NULL" if sql.startswith("SELECT field FROM") else sql, *more
                )

        with (
            kb.connection() as kb_connection,
            pytest.raises(CorruptCollectionError, match=r"metadata index in octavo\.db is damaged"),
        ):
            _metadata_index.select(Damaged(), parse_filter({"n": 30}), np.ones(60, np.bool_))
        assert kb.ids({"n": 30}) == [IDS[30]]


def test_a_manifest_that_has_lost_the_codec(path: Path) -> None:
    with edited(path) as connection:
        connection.execute("DELETE FROM manifest WHERE key = 'codec_state'")
    with pytest.raises(CorruptCollectionError, match="codec_state"):
        octavo.open(path)


@pytest.mark.parametrize("sums", [{-89: 1}, {None: 1}, {64: 1}, {0: "x"}, {0: -1}, {0: 2**32}])
def test_a_checksum_that_can_be_none(sums: dict[int, int]) -> None:
    with pytest.raises(CorruptCollectionError, match=r"checksum .* of g000001-0\.vec"):
        BlockGuard("g000001-0.vec").expect(100, sums, known_good=False)
