"""The documentation's site: every page is in its navigation, and every entry there is a page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Records of decisions are reached from their list.
LISTED_ELSEWHERE = re.compile(r"decisions/(?!README)")


def entries() -> list[str]:
    return re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)


def test_navigation_and_pages_are_the_same() -> None:
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    named = entries()
    assert len(named) == len(set(named)) > 30
    assert {page for page in pages if not LISTED_ELSEWHERE.match(page)} == set(named)


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    missing = [path.name for path in (ROOT / "docs/decisions").glob("*.md") if f"({path.name}" not in listed]
    assert missing == ["README.md"]


def test_every_public_package_is_in_the_reference() -> None:
    named = set(
        re.findall(
            r"^::: (\S+)$", "\n".join(p.read_text() for p in (ROOT / "docs/reference").glob("*.md")), re.MULTILINE
        )
    )
    assert named >= {
        f"octavo.{name}" for name in ("retrievers", "words", "filters", "compression", "index", "eval", "testing")
    }
