"""The documentation's site: every page is in its navigation, and every entry there is a page."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT = Path(__file__).parents[2]

#: Records of decisions are reached from their list.
LISTED_ELSEWHERE = re.compile(r"decisions/(?!README)")


def entries() -> list[str]:
    return re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)


def test_navigation_and_pages_are_the_same() -> None:
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    pages |= {path.relative_to(docs).with_suffix(".md").as_posix() for path in docs.rglob("*.ipynb")}
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


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_links", ROOT / "docs/site_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_codec_in_a_table_is_shown_as_it_is_typed() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="codecs.md"))
    config = SimpleNamespace(repo_url="https://octavo.example/source")
    files = SimpleNamespace(get_file_from_path=lambda target: target == "results.md" or None)

    def shown(markdown: str) -> str:
        return str(hook().on_page_markdown(markdown, page=page, config=config, files=files))

    assert shown("| `svd:50%\\|int8` | a \\| b |") == "| `svd:50%|int8` | a \\| b |"
    assert shown("no table: `a\\|b`") == "no table: `a\\|b`"
    assert shown("[r](results.md#x) [e](../examples/a.py)") == (
        "[r](results.md#x) [e](https://octavo.example/source/examples/a.py)"
    )


def test_a_notebook_becomes_a_page() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "What it is."]},
        {
            "cell_type": "code",
            "source": ["print('<b>')"],
            "outputs": [{"output_type": "stream", "text": ["<b>\n", "\n", "c"]}],
        },
        {
            "cell_type": "code",
            "source": ["%%sh\n", "octavo info kb"],
            "outputs": [{"output_type": "display_data", "data": {"text/html": ["<table>\n", "</table>"]}}],
        },
    ]
    assert hook().notebook_page(json.dumps({"cells": cells}), "n.ipynb").split("\n\n") == [
        "# Title",
        "What it is.",
        "[The notebook](n.ipynb){ download }",
        "```python\nprint('<b>')\n```",
        "<pre><code>&lt;b&gt;&#10;&#10;c</code></pre>",
        "```sh\noctavo info kb\n```",
        "<table>&#10;</table>\n",
    ]
