"""The documentation's site: every page is in its navigation, and every entry there is a page."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.errors import MissingExtraError

ROOT = Path(__file__).parents[2]


def public() -> dict[str, str]:
    """Return the table of what is promised, from the test that keeps it."""
    tree = ast.parse(Path(__file__).with_name("test_exports.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "PUBLIC":
            table: dict[str, str] = ast.literal_eval(node.value)  # type: ignore[arg-type]
            return table
    raise AssertionError("test_exports.py has no PUBLIC")


PUBLIC = public()

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


#: Commands have a page of their own, which is written from them.
COMMANDS = {"octavo.cli", "octavo.eval.cli"}


def in_the_reference() -> set[str]:
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    return set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))


def test_every_public_package_is_in_the_reference() -> None:
    assert in_the_reference() == set(PUBLIC) - COMMANDS


@pytest.mark.parametrize("package", sorted(set(PUBLIC) - COMMANDS))
def test_every_public_name_is_shown_in_the_reference(package: str) -> None:
    """The site shows what has a docstring of its own, and passes over the rest without a word."""
    try:
        module = importlib.import_module(package)
        found = {name: getattr(module, name) for name in PUBLIC[package].split()}
    except MissingExtraError as error:
        pytest.skip(str(error))
    silent = [name for name, value in found.items() if not name.startswith("__") and not is_documented(name, value)]
    assert silent == []


def is_documented(name: str, value: object) -> bool:
    if inspect.isclass(value) or inspect.isfunction(value):
        return bool(value.__doc__)
    # a constant or the name of a type: the string below it in the module that has it
    return any(documents(path, name) for path in (ROOT / "src/octavo").rglob("*.py"))


def documents(path: Path, name: str) -> bool:
    body = ast.parse(path.read_text("utf-8")).body
    for node, following in itertools.pairwise(body):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    return False


def hook(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_has_every_command_and_option() -> None:
    made = hook("site_commands")
    page = SimpleNamespace(file=SimpleNamespace(src_uri=made.PAGE))
    text = made.on_page_markdown((ROOT / "docs" / made.PAGE).read_text("utf-8"), page=page, config=None, files=None)
    headings = re.findall(r"^#+ octavo (.+)$", text, re.MULTILINE)
    for command in (
        "index",
        "search",
        "import",
        "import faiss",
        "import chroma",
        "import lancedb",
        "pull",
        "eval run",
        "demo",
    ):
        assert command in headings
    assert len(headings) == len(set(headings)) > 30
    assert "\n| `-p, --path PLACE` | The collection's directory; or in Qdrant:" in text
    assert made.MARK not in text


def test_a_codec_in_a_table_is_shown_as_it_is_typed() -> None:
    links = hook("site_links")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="codecs.md"))
    config = SimpleNamespace(repo_url="https://octavo.example/source")
    files = SimpleNamespace(get_file_from_path=lambda target: target == "results.md" or None)

    def shown(markdown: str) -> str:
        return str(links.on_page_markdown(markdown, page=page, config=config, files=files))

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
    assert hook("site_links").notebook_page(json.dumps({"cells": cells}), "n.ipynb").split("\n\n") == [
        "# Title",
        "What it is.",
        "[The notebook](n.ipynb){ download }",
        "```python\nprint('<b>')\n```",
        "<pre><code>&lt;b&gt;&#10;&#10;c</code></pre>",
        "```sh\noctavo info kb\n```",
        "<table>&#10;</table>\n",
    ]
