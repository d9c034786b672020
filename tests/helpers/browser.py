"""A real browser for the tests that need one: Chromium of the system, or the one that playwright has installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: Widths at which pages are looked at: a desktop's window and a telephone's.
WIDE, NARROW = (1280, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser, or skip the test where none can be had."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"needs Chromium (apt-get install chromium): {str(error).splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true (playwright's own way needs `eval`, which a strict page forbids)."""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"it never became true that {expression}")


def overflow(page: Any) -> list[str]:
    """Return what reaches beyond the right edge of a page, and is not within something that scrolls by itself."""
    found: list[str] = page.evaluate(
        """() => {
        const wide = document.documentElement.clientWidth, found = [];
        if (document.documentElement.scrollWidth > wide) found.push("the page scrolls sideways");
        for (const element of document.body.querySelectorAll("*")) {
            const box = element.getBoundingClientRect();
            if (!box.width || !box.height || box.right <= wide + 1) continue;
            let above = element.parentElement, held = false;
            for (; above; above = above.parentElement) {
                const scrolls = ["auto", "scroll", "hidden"].includes(getComputedStyle(above).overflowX);
                if (scrolls && above.getBoundingClientRect().right <= wide + 1) held = true;
            }
            if (!held) found.push(element.tagName + "." + element.className + " ends at " + box.right);
        }
        return found;
    }"""
    )
    return found


def unreadable(page: Any) -> list[str]:
    """Return texts whose contrast with what lies behind them is below 4.5."""
    found: list[str] = page.evaluate(
        """() => {
        const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
        const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
        const light = (colour) => {
            const [r, g, b] = colour.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (element) => {
            const stack = [];
            for (let at = element; at; at = at.parentElement) stack.push(parse(getComputedStyle(at).backgroundColor));
            const dark = matchMedia("(prefers-color-scheme: dark)").matches;
            return stack.reverse().reduce((under, top) => over(top, under), dark ? [18, 18, 18] : [255, 255, 255]);
        };
        const found = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node; node = walker.nextNode();) {
            const element = node.parentElement;
            const unseen = ["SCRIPT", "STYLE", "OPTION", "NOSCRIPT", "title"].includes(element.tagName);
            if (!node.data.trim() || unseen || !element.checkVisibility()) continue;
            const under = behind(element), ink = over(parse(getComputedStyle(element).color), under);
            const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
            const contrast = (a + 0.05) / (b + 0.05);
            if (contrast < 4.5) found.push(node.data.trim().slice(0, 40) + ": " + contrast.toFixed(2));
        }
        return found;
    }"""
    )
    return found
