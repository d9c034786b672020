"""What a package exports: every public name of its `__init__` is in `__all__`, and every name in `__all__` is there.

The order of `__all__` is ruff's to check (RUF022).
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import octavo
from octavo.errors import MissingExtraError

ROOT = Path(octavo.__file__).parent

PACKAGES = sorted(".".join(["octavo", *path.parent.relative_to(ROOT).parts]) for path in ROOT.rglob("__init__.py"))


def source_of(package: str) -> ast.Module:
    return ast.parse(ROOT.joinpath(*package.split(".")[1:], "__init__.py").read_text(encoding="utf-8"))


def is_bare(tree: ast.Module) -> bool:
    """Tell whether a package only holds others: nothing but a docstring."""
    return all(isinstance(node, ast.Expr) for node in tree.body)


def public_names(tree: ast.AST, package: str) -> set[str]:
    """Return the public names that a package defines or takes over from its own modules."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or f"{node.module}.".startswith(f"{package}.")):
            names.update(alias.asname or alias.name for alias in node.names)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("package", PACKAGES)
def test_has_a_docstring(package: str) -> None:
    assert ast.get_docstring(source_of(package))


@pytest.mark.parametrize("package", [name for name in PACKAGES if not is_bare(source_of(name))])
def test_all_is_complete(package: str) -> None:
    try:
        module = importlib.import_module(package)
    except MissingExtraError as err:
        pytest.skip(str(err))
    listed = list(module.__all__)
    assert len(listed) == len(set(listed))
    assert [name for name in listed if not hasattr(module, name)] == []
    assert public_names(source_of(package), package) - set(listed) == set()


def test_the_check_itself() -> None:
    tree = ast.parse(
        "from octavo.a._b import C, _d\nfrom octavo.errors import E\nimport sys\ndef f(): x = 1\nN: int = 3"
    )
    assert public_names(tree, "octavo.a") == {"C", "f", "N"}
