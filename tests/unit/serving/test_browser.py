"""The page in a real browser, as a person uses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import octavo
from browser import NARROW, WIDE, chromium, overflow, unreadable, until
from octavo.serving import PageServer
from serving_client import EVIL, Client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Visit:
    """An open page, and what went wrong in it."""

    def __init__(self, browser: Any, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale="en-GB"
        )
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, url: str) -> Any:
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]")
        return self.page

    def search(self, query: str, by: str | None = None) -> list[str]:
        if by is not None:
            self.page.select_option("#mode", by)
        self.page.fill("#q", query)
        with self.page.expect_response(lambda response: "/api/search" in response.url):
            self.page.click("#go")
        until(self.page, "!document.getElementById('status').textContent.startsWith('Searching')")
        return self.hits()

    def hits(self) -> list[str]:
        found: list[str] = self.page.locator("#hits .title").all_inner_texts()
        return found


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    visit.context.close()


def test_a_search(visit: Visit, client: Client, kb: octavo.Collection) -> None:
    page = visit.open(client.server.url)
    assert "6 documents" in page.inner_text("#facts")
    for by in ("hybrid", "dense", "text"):
        assert visit.search("ripe apple", by) == kb.search("ripe apple", 10, mode=by).ids  # type: ignore[arg-type]
    assert page.locator("#hits mark").all_inner_texts()[:2] == ["apple", "ripe"]
    assert "words" in page.inner_text("#hits .scores")
    visit.search("ripe apple", "hybrid")  # a document that none of these words is in has no score for them, and no bar
    lengths = page.evaluate(
        "[...document.querySelectorAll('.scores > div')].map(e => [e.innerText, e.querySelector('.fill').offsetWidth])"
    )
    assert {length > 0 for text, length in lengths if "–" in text} == {False}
    assert {length > 0 for text, length in lengths if "#1)" in text} == {True}
    assert visit.problems == []
    assert all(url.startswith(f"http://127.0.0.1:{client.port}/") for url in visit.asked)


def test_filters(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    visit.search("ripe apple", "dense")
    with page.expect_response(lambda response: "/api/search" in response.url):
        page.locator("#fields label", has_text="fruit").locator("input").check()
    until(page, "document.querySelectorAll('#hits > li').length === 2")
    assert sorted(visit.hits()) == ["apple", "pear"]
    assert page.inner_text("#chosen") == "1"
    page.locator("#fields .field", has_text="year").locator("summary").first.click()
    year = page.locator("#fields .field", has_text="year (")
    if not year.locator("input[type=number]").first.is_visible():
        year.locator("summary").click()
    year.locator("input[type=number]").first.fill("2021")
    year.locator("input[type=number]").first.blur()
    until(page, "document.querySelectorAll('#hits > li').length === 1")
    assert visit.hits() == ["pear"]
    page.click("#clear")
    until(page, "document.querySelectorAll('#hits > li').length === 6")
    assert visit.problems == []


def test_a_document_and_its_neighbours(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    visit.search("ripe", "text")
    page.click("#hits .title >> nth=0")
    page.wait_for_selector("#document .near li")
    assert page.inner_text("#documentid") in ("apple", "pear")
    assert page.locator("#body mark").all_inner_texts() == ["ripe"]
    first = page.inner_text("#documentid")
    page.click("#document .near .title >> nth=0")
    until(page, f"document.getElementById('documentid').textContent !== {first!r}")
    page.keyboard.press("Escape")
    assert not page.is_visible("#document")
    assert visit.problems == []


def test_texts_of_others_stay_texts(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    assert "evil" in visit.search("somebody else", "text")
    page.click("#hits .title >> text=evil")
    page.wait_for_selector("#document .near li")
    assert EVIL in page.inner_text("#body .text")
    assert "owned" not in page.title()
    assert page.locator("#hits img, #body img, main script").count() == 0
    assert page.locator("#map title", has_text="<img src=x").count() == 1
    assert visit.problems == []  # the policy of the page had nothing to stop


def test_the_policy_stops_what_would_slip_through(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    page.evaluate(
        """() => {
        const script = document.createElement('script');
        script.textContent = 'document.title = 2';
        document.body.append(script);
    }"""
    )
    assert page.evaluate("fetch('http://127.0.0.1:1/').then(() => 'sent', () => 'stopped')") == "stopped"
    assert "Octavo" in page.title()
    assert any("Content Security Policy" in problem for problem in visit.problems)


def test_another_site_reads_nothing(visit: Visit, client: Client) -> None:
    visit.page.goto("data:text/html,<title>elsewhere</title>")
    read = "fetch(%r, {headers: {'X-Octavo-Key': %r}}).then((r) => r.text(), () => 'stopped')"
    for url in (f"http://127.0.0.1:{client.port}/api/about", f"http://127.0.0.1:{client.port}/"):
        assert visit.page.evaluate(read % (url, client.key)) == "stopped"
    with PageServer(client.server._http.site.answers._collection, port=0) as other:  # another port is another origin
        visit.page.goto(other.url)
        assert visit.page.evaluate(read % (f"http://127.0.0.1:{client.port}/api/about", client.key)) == "stopped"


def test_without_the_key(visit: Visit, client: Client) -> None:
    visit.page.goto(client.server.url.partition("#")[0])
    visit.page.wait_for_selector("#status.error")
    assert "key" in visit.page.inner_text("#status")
    visit.page.goto("about:blank")
    visit.page.goto(client.server.url + "x")
    until(visit.page, "document.getElementById('status').textContent.includes('printed last')")


def test_the_address_remembers_the_question(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    found = visit.search("ripe apple", "text")
    page.reload()
    page.wait_for_selector("#hits > li")
    assert visit.hits() == found
    assert page.input_value("#mode") == "text"


def test_what_goes_wrong_is_said(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    client.server.close()
    page.fill("#q", "apple")
    page.click("#go")
    page.wait_for_selector("#status.error")
    assert "still running" in page.inner_text("#status")


def test_late_interaction(visit: Visit, late_client: Client) -> None:
    page = visit.open(late_client.server.url)
    visit.search("ripe apple", "hybrid")
    page.click("#hits .title >> text=apple")
    page.wait_for_selector("#heat .token")
    heat = page.evaluate(
        "[...document.querySelectorAll('#heat .token')].map((token) => getComputedStyle(token).backgroundColor)"
    )
    assert len(set(heat)) > 1
    assert visit.problems == []


def test_a_map_of_colours(visit: Visit, client: Client) -> None:
    page = visit.open(client.server.url)
    assert page.locator("#map circle").count() == 6
    assert page.input_value("#colour") == "kind"
    assert page.locator("#legend li").count() == 5
    visit.search("ripe apple", "dense")
    page.wait_for_selector("#map circle.hit")
    assert page.locator("#map circle.hit").count() == 6
    assert visit.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_layout(browser: Any, client: Client, kb: octavo.Collection, size: tuple[int, int], scheme: str) -> None:
    kb.add(["word" * 400], ids=["an-id-without-any-break-" * 20], metadata=[{"key" * 30: "value" * 80}])
    visit = Visit(browser, size, scheme)
    page = visit.open(client.server.url)
    visit.search("ripe apple", "hybrid")
    for box in ("filters", "mapbox", "bytesbox"):
        page.evaluate(f"document.getElementById('{box}').open = true")
    page.wait_for_selector("#map circle.hit")
    assert overflow(page) == []
    assert unreadable(page) == []
    page.click("#hits .title >> nth=0")
    page.wait_for_selector("#document .near li")
    assert overflow(page) == []
    assert unreadable(page) == []
    visit.context.close()
