"""Files and JSON lines as documents: what is followed, and what a line may hold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from octavo.ingest.rows import SourceError
from octavo.ingest.sources import Source

LINES = [
    {"id": "a", "text": "fine"},
    {"id": "b", "text": "half a pair \ud83d"},
    {"id": "c\udc00", "text": "its id"},
    {"id": "d", "text": "its key", "metadata": {"\ud800": 1}},
    {"id": "e", "text": "its value", "metadata": {"list": [{"x": "\udfff"}]}},
    {"id": "f", "text": "a whole pair 😀", "metadata": {"n": "\\ud800 written out"}},
]


def test_lines_with_half_a_pair_are_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="ascii")
    with pytest.raises(SourceError, match=r"lines\.jsonl, line 2: .*lone surrogate.*--skip-bad-lines"):
        list(Source(path).documents())
    source = Source(path, skip_bad_lines=True)
    found = list(source.documents())
    assert [document.id for document in found] == ["a", "f"]
    assert found[1].text == "a whole pair 😀"
    assert [message.split(":")[0] for message in source.skipped.lines] == [
        f"lines.jsonl, line {n}" for n in (2, 3, 4, 5)
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    for folder in ("source", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "elsewhere" / "note.txt").write_text("a note")
    (tmp_path / "source" / "linked.txt").symlink_to(tmp_path / "elsewhere" / "note.txt")
    (tmp_path / "source" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source" / "circle").symlink_to(tmp_path / "source")
    assert [document.text for document in Source(tmp_path / "source").documents()] == ["a note"]
