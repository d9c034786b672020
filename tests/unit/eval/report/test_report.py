"""The page: complete, self-contained, safe against what the data holds."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import MissingExtraError, ParameterError
from octavo.eval.analysis.pareto import NothingFitsError
from octavo.eval.report import Report, _page, _plots, report
from octavo.eval.report._plots import Picture

_VOID = {"meta", "img", "link", "br", "hr", "input", "source"}


class Page(HTMLParser):
    """Collects elements, and fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def runs(make_result: Any) -> list[Any]:
    return [
        make_result("float32", [0.50, 0.70, 0.90, 0.2], ram=1536),
        make_result("int8", [0.50, 0.70, 0.89, 0.3], ram=384),
        make_result("binary", [0.30, 0.40, 0.50, 0.1], ram=48),
        make_result(None, [0.40, 0.40, 0.50, 0.1], ram=384, baseline="int8-minmax"),
    ]


@pytest.fixture(scope="module")
def written(runs: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(runs, out=tmp_path_factory.mktemp("report") / "sub" / "page.html", texts={"q3": "what is a wing?"})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save nothing to pictures, which takes most of the time, where a test is about something else."""
    monkeypatch.setattr(
        _plots, "_picture", lambda name, alt, draw: Picture(name, alt, b"<svg/>", b"<svg/>", b"\x89PNG")
    )


def test_the_page_stands_alone(written: Report) -> None:
    text = Path(written.html).read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, value)
    assert page.all("link") == []
    assert "@import" not in text
    assert "url(" not in text
    policy = next(meta["content"] or "" for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "'sha256-" in policy
    anchors = {attributes.get("id") for _, attributes in page.elements}
    assert {(link["href"] or "").removeprefix("#") for link in page.all("a")} <= anchors


def test_every_picture_has_words_and_a_png(written: Report) -> None:
    images = Page(Path(written.html).read_text(encoding="utf-8")).all("img")
    assert len(images) == len(written.pictures) == 7
    for image in images:
        assert len(image["alt"] or "") > 40
    for name in written.pictures:
        assert Path(name).read_bytes().startswith(b"\x89PNG")
    alt = next(image["alt"] or "" for image in images if "bytes per document in RAM" in (image["alt"] or ""))
    assert "int8: 384 bytes, 0.5975" in alt


def test_it_says_what_was_found(written: Report) -> None:
    assert written.recommended == "float32"  # four queries show nothing about the rest
    text = "".join(Page(Path(written.html).read_text(encoding="utf-8")).text)
    assert "kb = octavo.open('kb', encoder='all-MiniLM-L6-v2', codec='int8')" in text
    assert "Cheaper, but not settled by 4 queries: int8, 384 bytes a document instead of 1,536" in text
    assert "what is a wing?" in text
    assert "+0.1000" in text  # query q3
    assert "int8-minmax" in text
    assert "reference scheme" in text
    assert "octavo eval run --data toy" in text
    assert json.loads(json.dumps(written.to_dict()))["configurations"] == 4


def test_the_same_results_give_the_same_page(runs: list[Any], written: Report, tmp_path: Path) -> None:
    again = report(list(runs), out=tmp_path / "page.html", texts={"q3": "what is a wing?"})
    assert Path(again.html).read_bytes() == Path(written.html).read_bytes()


def test_data_cannot_break_out(runs: list[Any], tmp_path: Path) -> None:
    evil = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&$x$"
    hostile = [
        replace(
            run,
            label=f"{evil} {run.label}",
            dataset=replace(run.dataset, name=evil, split=evil),
            model=replace(run.model, name=evil),
            quality={"nDCG@10": run.quality["nDCG@10"]},
            per_query={"nDCG@10": {f"{evil}{query}": v for query, v in run.per_query["nDCG@10"].items()}},
            environment=replace(run.environment, command=evil, cpu=evil, versions={evil: evil}),
        )
        for run in runs
    ]
    broken = replace(runs[0].checks[0], ok=False, detail=evil)
    hostile.append(replace(hostile[1], configuration=replace(runs[1].configuration, ef=7), checks=[broken]))
    texts = {f"{evil}q{i}": evil for i in range(4)}
    written = report(hostile, out=tmp_path / "page.html", texts=texts, title=evil)
    page = Page(Path(written.html).read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert len(page.all("title")) == 1
    assert all("onerror" not in image for image in page.all("img"))
    assert len(written.left_out) == 1


@pytest.mark.usefixtures("undrawn")
def test_several_data_sets_are_averaged(make_result: Any, tmp_path: Path) -> None:
    runs = [
        make_result(codec, values, dataset=name, ram=ram)
        for codec, ram, values in (("float32", 1536, [0.5, 0.7]), ("int8", 384, [0.5, 0.6]))
        for name in ("a", "b")
    ]
    runs.append(make_result("int4", [0.5, 0.5], dataset="a"))
    written = report(runs, out=tmp_path / "page.html", min_quality="50%")
    text = "".join(Page(Path(written.html).read_text(encoding="utf-8")).text)
    assert written.datasets == ["a", "b"]
    assert "Paired differences from float32 on b" in text
    assert "int4: measured on a only" in text
    # What was measured on one of them only has its place as well: a part for each data set follows what they share.
    page = Path(written.html).read_text(encoding="utf-8")
    assert [f'id="part-{number}"' in page for number in range(4)] == [True, True, True, False]
    assert "int4" in page[page.index('id="part-1"') : page.index('id="part-2"')]
    assert "int4" not in page[page.index('id="part-2"') :].partition("<script>")[0]
    assert len(set(written.pictures)) == len(written.pictures)
    only = report(runs, out=tmp_path / "one.html", dataset="a")
    assert only.configurations == 3


@pytest.mark.usefixtures("undrawn")
def test_without_a_float32_run_there_is_a_page_and_no_recommendation(runs: list[Any], tmp_path: Path) -> None:
    written = report(runs[1:], out=tmp_path / "page.html")
    assert written.recommended is None
    assert "No recommendation" in Path(written.html).read_text(encoding="utf-8")
    with pytest.raises(NothingFitsError):
        report(runs, out=tmp_path / "page.html", budget="1kB")


@pytest.mark.usefixtures("undrawn")
def test_one_run_is_enough(runs: list[Any], tmp_path: Path) -> None:
    assert report(runs[:1], out=tmp_path / "page.html").recommended == "float32"
    assert "smaller than float32" not in (tmp_path / "page.html").read_text("utf-8")  # which is what it is


def test_the_heat_map_is_there_when_asked_for(runs: list[Any], tmp_path: Path) -> None:
    match = {"query_tokens": ["a", "<b>"], "document_tokens": ["x", "y", "$z$"], "scores": [[0, 1, 2], [5, 4, 3]]}
    (tmp_path / "match.json").write_text(json.dumps(match))
    written = report(runs[:2], out=tmp_path / "page.html", explain=tmp_path / "match.json")
    assert written.pictures[-1].endswith("page-late-interaction.png")
    images = Page(Path(written.html).read_text(encoding="utf-8")).all("img")
    assert any("a with $z$ (2.00); <b> with x (5.00)" in (image["alt"] or "") for image in images)


def test_a_page_image_has_its_heat_map_as_well(runs: list[Any], tmp_path: Path) -> None:
    page = "data:image/jpeg;base64,/9j/4AAQ"
    match = {"query_tokens": ["a"], "document_tokens": ["x"], "scores": [[1]], "title": "scan <1>", "page": page}
    (tmp_path / "match.json").write_text(json.dumps(match))
    written = report(runs[:2], out=tmp_path / "page.html", explain=tmp_path / "match.json")
    images = Page(Path(written.html).read_text(encoding="utf-8")).all("img")
    assert [image["alt"] for image in images if image["src"] == page] == ["Heat map over the page scan <1>"]
    for bad in ("javascript:alert(1)", "data:text/html;base64,AAAA", 'data:image/png;base64,A"onerror="', 3):
        (tmp_path / "match.json").write_text(json.dumps(match | {"page": bad}))
        with pytest.raises(ParameterError, match="data: URL"):
            report(runs[:2], out=tmp_path / "other.html", explain=tmp_path / "match.json")


def test_there_is_no_heat_map_otherwise(written: Report) -> None:
    assert not any(name.endswith("late-interaction.png") for name in written.pictures)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"query_tokens": ["a"]}', '{"query_tokens": ["a"], "document_tokens": ["b"], "scores": [[1, 2]]}'],
)
def test_a_match_that_is_none_is_refused(runs: list[Any], tmp_path: Path, content: str) -> None:
    (tmp_path / "match.json").write_text(content)
    with pytest.raises(ParameterError, match="query_tokens"):
        report(runs, out=tmp_path / "page.html", explain=tmp_path / "match.json")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_directory_gets_its_page_inside(runs: list[Any], tmp_path: Path) -> None:
    for number, run in enumerate(runs[:2]):
        run.write(tmp_path / f"{number}.json")
    assert report(tmp_path).html == str(tmp_path / "report.html")
    with pytest.raises(ParameterError, match="out="):
        report(runs)
    with pytest.raises(ParameterError, match="a measure that all"):
        report(tmp_path, measure="MAP")


def test_matplotlib_missing_is_told(runs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what an import finds when there is none
    with pytest.raises(MissingExtraError, match=r"octavo\[eval\]"):
        report(runs, out=tmp_path / "page.html")


def test_tables_sort_by_value_and_know_text_from_numbers() -> None:
    written = _page.table(
        "c", ["name", "size", "note"], [["a", _page.Cell("1,000", 1000), "x"], ["b", _page.Cell("–"), "y"]]
    )
    assert re.search(r'data-sort="1000">1,000<', written)
    assert re.search(r'data-sort="">–<', written)
    assert written.count('<th class="text" scope="col">') + written.count('<th scope="col" class="text">') == 2


def test_importing_loads_no_plotting_library() -> None:
    import subprocess

    code = "import sys, octavo.eval.report, octavo.eval.analysis.compare, octavo.eval.inspect, octavo.eval.analysis.pareto; "
    code += "print([m for m in ('matplotlib', 'scipy', 'torch', 'mteb') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
