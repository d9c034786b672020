"""The second process: what crashes, hangs or grows costs one file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from octavo.ingest import converter
from octavo.ingest.converter import Converter, UnreadableFileError

DATA = Path(__file__).parents[2] / "data" / "files"

pytest.importorskip("pypdfium2")
pytest.importorskip("mammoth")


def test_a_process_is_kept_and_replaced_when_it_dies() -> None:
    with Converter() as reader:
        parts, about = reader.convert("pdf", DATA / "two-pages.pdf")
        assert [(page, text.strip()) for page, text in parts] == [
            (1, "The first page is about backups on Mondays."),
            (2, "The second page is about annual leave."),
        ]
        assert about == {"title": "Two pages"}
        first = reader._process
        assert first is not None
        parts, _ = reader.convert("docx", DATA / "letter.docx")
        assert parts == [
            (
                None,
                "# Leave\n\nEvery employee has thirty days.\n\n- one\n\n|  |  |\n| --- | --- |\n| c00 | c01 |\n| c10 | c11 |",
            )
        ]
        assert reader._process is first
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert reader.convert("pdf", DATA / "two-pages.pdf")[1] == about
        last = reader._process
        assert last is not None
    assert last.poll() is not None  # ended with the converter


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_hang_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "_convert.py"
    script.write_text("import sys, time\nfor line in sys.stdin:\n    time.sleep(600)\n")
    monkeypatch.setattr(converter, "__file__", str(tmp_path / "converter.py"))
    with Converter(time_limit=0.5) as reader:
        start = time.monotonic()
        with pytest.raises(UnreadableFileError, match="longer than"):
            reader.convert("pdf", DATA / "two-pages.pdf")
        assert time.monotonic() - start < 120
        assert reader._process is None
        script.write_text("import os\nos._exit(3)\n")
        with pytest.raises(UnreadableFileError, match="crashed"):
            reader.convert("pdf", DATA / "two-pages.pdf")


@pytest.mark.parametrize("kind", ["pdf", "docx", "html"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"%PDF-1.7", b"\0\xff" * 100, b"<" * 10_000])
def test_whatever_a_file_holds_is_an_answer(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with Converter() as reader:
        if kind == "html" and content:  # any bytes are some page
            parts, _ = reader.convert(kind, path)
            assert all(isinstance(text, str) for _, text in parts)
        elif kind != "html":
            with pytest.raises(UnreadableFileError, match=r"readable PDF|DOCX"):
                reader.convert(kind, path)
