"""The corpus of the demo: the documentation strings of Python's own standard library.

Modules are parsed, not imported: importing some of them opens windows or prints.
"""

from __future__ import annotations

import ast
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import OctavoError

# Other people's packages, tests, and what is on its way out.
_LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "lib2to3",
    "turtledemo",
    "__pycache__",
}

_MIN_WORDS = 4

#: Words kept of a docstring: with the name before it about 200 tokens, less than the 256 that the model reads.
_MAX_WORDS = 110

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Docstring:
    """One documented thing of the standard library.

    Parameters
    ----------
    id : str
        Its qualified name, such as ``json.decoder.JSONDecoder.decode``.
    text : str
        Its name and documentation.
    summary : str
        The first paragraph of the documentation, without the name.
    metadata : dict
        ``module``, ``package`` (its first part), ``kind`` (module, class or function), ``name``, ``line``, ``python``.
    """

    id: str
    text: str
    summary: str
    metadata: dict[str, Any]


def docstrings(folder: Path | None = None) -> list[Docstring]:
    """Collect the documentation strings below a folder of Python modules.

    Parameters
    ----------
    folder : Path, optional
        The running interpreter's standard library by default.

    Returns
    -------
    list of Docstring
        In order of file and line; of equal texts the first. Modules that do not parse are passed over.

    Raises
    ------
    OctavoError
        When there are none, as in a Python whose library is packed into an archive.
    """
    folder = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
    found: list[Docstring] = []
    texts: set[str] = set()
    names: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        # Folders with a hyphen cannot be packages (build configuration); hidden ones are not ours.
        if _LEFT_OUT.intersection(parts) or any("-" in part or part.startswith(".") for part in parts[:-1]):
            continue
        for document, key in _in_module(path, _module_name(parts)):
            # Overloads, and methods that repeat what they override, say nothing new.
            if key not in texts and document.id not in names:
                texts.add(key)
                names.add(document.id)
                found.append(document)
    if not found:
        raise OctavoError(
            f"expected the source files of Python's standard library in {folder}, found none with documentation; "
            "run the demo with a Python that comes with them"
        )
    return found


def _in_module(path: Path, module: str) -> Iterator[tuple[Docstring, str]]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node, name in _walk(tree, ""):
        documentation = ast.get_docstring(node)
        if documentation is None or len(documentation.split()) < _MIN_WORDS:
            continue
        qualified = f"{module}.{name}" if name else module
        metadata = {
            "module": module,
            "package": module.split(".")[0],
            "kind": _kind(node),
            "name": name or module,
            "line": getattr(node, "lineno", 1),
            "python": platform.python_version(),
        }
        text = f"{qualified}: {_cut(documentation)}"
        yield Docstring(qualified, text, " ".join(documentation.split("\n\n")[0].split()), metadata), documentation


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[_Documented, str]]:
    if isinstance(node, ast.Module):
        yield node, ""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}{child.name}"
            yield child, name
            yield from _walk(child, f"{name}.")
        else:  # definitions inside `if` and `try` belong to what is around them
            yield from _walk(child, prefix)


def _kind(node: _Documented) -> str:
    if isinstance(node, ast.Module):
        return "module"
    return "class" if isinstance(node, ast.ClassDef) else "function"


def _module_name(parts: tuple[str, ...]) -> str:
    names = [*parts[:-1], parts[-1].removesuffix(".py")]
    return ".".join(names[:-1] if names[-1] == "__init__" and len(names) > 1 else names)


def _cut(documentation: str) -> str:
    words = documentation.split()
    return " ".join(words[:_MAX_WORDS]) + (" …" if len(words) > _MAX_WORDS else "")
