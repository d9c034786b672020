"""Notes: in copies, snapshots and exports, and in collections that have no table for them yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import octavo
from octavo.errors import CorruptCollectionError


def test_notes_go_along(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["one"], ids=["a"], vectors=[[1.0, 0.0]])
        kb.set_note("sources", "text ü")
        kb.copy(tmp_path / "copy").close()
        kb.snapshot(tmp_path / "snapshot")
        kb.export(tmp_path / "export")
        with kb.copy() as memory:
            assert memory.notes() == {"sources": "text ü"}
        assert kb.verify().ok
    octavo.restore(tmp_path / "snapshot", tmp_path / "restored")
    octavo.import_from(tmp_path / "export", tmp_path / "imported").close()
    for name in ("kb", "copy", "snapshot", "restored", "imported"):
        with octavo.open(tmp_path / name, read_only=True) as kb:
            assert kb.notes() == {"sources": "text ü"}, name
            with pytest.raises(octavo.OctavoError):
                kb.set_note("n", "t")
    manifest = tmp_path / "export" / "manifest.json"
    told = json.loads(manifest.read_text())
    del told["notes"]  # as an earlier version wrote it
    manifest.write_text(json.dumps(told))
    with octavo.import_from(tmp_path / "export") as kb:
        assert kb.notes() == {}
    for notes in ([], {"n": 1}, "n"):
        manifest.write_text(json.dumps(told | {"notes": notes}))
        with pytest.raises(CorruptCollectionError, match="notes"):
            octavo.import_from(tmp_path / "export")


def test_a_collection_without_the_table(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["one"], ids=["a"], vectors=[[1.0, 0.0]])
        with kb.connection(write=True) as connection:
            connection.execute("DROP TABLE octavo_notes")
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.notes() == {}
    with octavo.open(tmp_path / "kb") as kb:
        kb.set_note("n", "t")
        assert kb.notes() == {"n": "t"}
