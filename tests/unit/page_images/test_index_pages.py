"""`octavo index --late` over a folder of PDFs and images: which page goes which way, and what a second run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app
from page_models import ColourModel, page, pdf

model = ColourModel()

TEXT = "Annual report of the green company.\nTurnover rose by four percent in the second half."


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "helpers"))
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    pdf(folder / "report.pdf", [TEXT, page("red", size=(620, 877)), None, "p. 4"])
    pdf(folder / "scan.pdf", [page("white", "blue", size=(620, 877)), page("yellow", size=(620, 877))])
    pdf(folder / "blank.pdf", [None])
    page("green", "green").save(folder / "sub" / "photo.png")
    (folder / "notes.md").write_text("# Notes\n\nred and white\n")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4\nnothing")
    return folder


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def index(*arguments: str, model: str = "page_models:COLOUR_MODEL") -> Any:
    return run("index", "docs", "--path", "kb", "--late", "--model", model, *arguments)


def test_text_pages_go_by_their_text_and_scans_by_what_they_look_like(docs: Path) -> None:
    report = index()
    assert report["pages"] == {"text": 1, "image": 5, "blank": 2}
    assert report["added"] == 7
    assert report["skipped"]["empty"] == ["blank.pdf"]
    assert sum(map(len, report["skipped"]["files"].values())) == 2
    with octavo.open("kb", model) as kb:
        found = {document.id: document for document in kb.documents()}
        assert sorted(found) == [
            "docs/notes.md#0",
            "docs/report.pdf#0",
            "docs/report.pdf#page-2",
            "docs/report.pdf#page-4",  # a page number alone is no text
            "docs/scan.pdf#page-1",
            "docs/scan.pdf#page-2",
            "docs/sub/photo.png#image",
        ]
        assert found["docs/report.pdf#0"].metadata["page"] == 1
        scan = found["docs/scan.pdf#page-2"]
        assert scan.metadata == {
            "path": "scan.pdf",
            "document": "docs/scan.pdf",
            "page": 2,
            "image": True,
            "source": str(docs / "scan.pdf"),
            "_source": "docs",
        }
        assert scan.image is not None
        assert scan.image.keep == "reference"
        assert kb.search("yellow", k=1).ids == ["docs/scan.pdf#page-2"]
        assert kb.search("company turnover", k=1, mode="text").ids == ["docs/report.pdf#0"]
        assert kb.verify().ok
    hits = run("search", "blue", "--path", "kb", "-k", "1", "--model", "page_models:COLOUR_MODEL")["hits"]
    assert [(hit["id"], hit["image"]) for hit in hits] == [("docs/scan.pdf#page-1", True)]
    shown = CliRunner().invoke(app, ["search", "blue", "-p", "kb", "-k", "1", "--model", "page_models:COLOUR_MODEL"])
    assert "[an image]" in shown.stdout


def test_a_second_run_encodes_what_has_changed(docs: Path) -> None:
    index()
    again = index()
    assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, 7)
    pdf(docs / "scan.pdf", [page("red", size=(620, 877))])
    page("blue").save(docs / "sub" / "photo.png")
    changed = index("--prune")
    assert (changed["added"], changed["updated"], changed["removed"]) == (0, 2, 1)
    kept = index("--keep-images")
    assert kept["updated"] == 4
    (docs / "sub" / "photo.png").unlink()
    assert index()["updated"] == 0  # it remembers to keep them
    with octavo.open("kb", model) as kb:
        hit = kb.search("blue", k=1)[0]
        assert hit.id == "docs/sub/photo.png#image"
        assert hit.image is not None
        assert hit.image.load().size == (160, 240)


def test_models_of_texts_say_what_they_leave_out(docs: Path) -> None:
    report = index(model="page_models:colour_words")
    assert report["pages"] == {"text": 2, "image": 0, "blank": 0}
    assert report["skipped"]["scans"] == {"report.pdf": ["2", "3"]}
    assert report["skipped"]["files"]["an image, and the collection's model takes texts alone"] == [
        "broken.png",
        "sub/photo.png",
    ]
    assert "no text in it; a scan?" in report["skipped"]["files"]


def test_collections_of_one_vector_a_document_leave_images_out(docs: Path) -> None:
    report = run("index", "docs", "--path", "kb", "--model", "page_models:mean_colour")
    [reason] = [reason for reason in report["skipped"]["files"] if "--late" in reason]
    assert report["skipped"]["files"][reason] == ["broken.png", "sub/photo.png"]
    refused = CliRunner().invoke(
        app, ["index", "docs/sub/photo.png", "-p", "kb2", "--model", "page_models:mean_colour"]
    )
    assert refused.exit_code != 0
    assert "--late" in refused.output + str(refused.exception)
    assert not Path("kb2").exists()


def test_one_image_is_a_source_as_well(docs: Path) -> None:
    result = run("index", "docs/sub/photo.png", "-p", "kb", "--late", "--model", "page_models:COLOUR_MODEL")
    assert result["added"] == 1


def test_a_dry_run_draws_and_writes_nothing(docs: Path) -> None:
    assert index("--dry-run")["pages"] == {"text": 1, "image": 5, "blank": 2}
    assert not Path("kb").exists()
