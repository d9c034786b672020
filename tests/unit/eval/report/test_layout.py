"""The report in a real browser: nothing is cut off, and everything can be read, wide and narrow, light and dark, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import NARROW, WIDE, chromium, overflow, unreadable
from octavo.eval.report import report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page_file(make_result: Any, tmp_path: Path) -> Path:
    names = [
        "float32",
        "int8",
        "binary > int8",
        "svd:50%|float8 > int8",
        "truncate:128|int8 > truncate:256|int8 > float32",
    ]
    results = [
        make_result(label, [0.9 - 0.1 * at, 0.5, 0.4 + 0.05 * at], dataset=data, ram=1536 // 2**at)
        for data in ("one data set", "another-data-set-with-a-long-name")
        for at, label in enumerate(names)
    ]
    return Path(report(results, out=tmp_path / "report.html", title="An unbreakable-title-" * 6).html)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_is_cut_off(browser: Any, page_file: Path, size: tuple[int, int], scheme: str) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert overflow(page) == []
    assert unreadable(page) == []
    clipped = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth + 1)"
        ".map((box) => box.getAttribute('aria-label'))"
    )
    assert clipped == []
    shares = page.evaluate(
        "[...document.querySelectorAll('figure')].map((f) => f.querySelector('img').clientWidth / f.clientWidth)"
    )
    assert min(shares) > 0.8
    context.close()


def test_letters_of_pictures_are_large_enough_on_a_telephone(browser: Any, page_file: Path) -> None:
    context = browser.new_context(viewport={"width": NARROW[0], "height": NARROW[1]})
    page = context.new_page()
    page.goto(page_file.as_uri())
    # A picture is shown at nearly its own size, in which its smallest letters have eight points.
    scales = page.evaluate("[...document.images].map((image) => image.clientWidth / image.naturalWidth)")
    assert min(scales) > 0.8
    context.close()


def test_pictures_follow_the_reader(browser: Any, page_file: Path) -> None:
    shots = []
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, color_scheme=scheme)
        page = context.new_page()
        page.goto(page_file.as_uri())
        shots.append(page.locator("figure img").first.screenshot())
        context.close()
    assert shots[0] != shots[1]


def test_it_prints(browser: Any, page_file: Path) -> None:
    context = browser.new_context(
        viewport={"width": 1050, "height": 740}, color_scheme="dark"
    )  # paper is light all the same
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    assert overflow(page) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    context.close()
