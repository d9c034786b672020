"""Public docstrings are numpydoc: everything in an ``__all__``, and the public methods and properties of its classes.

Parameters, with their types, and what comes back are described; each public class has an example, and so has each public
method of the collection classes. The examples themselves run with ``--doctest-modules``.

Where one line is enough, it may stay one line: a method with at most one parameter; the members of a protocol, which say what
an implementation owes; ``aname`` and ``name_async``, if they point to `name`. Fields that a framework's base class has may be
left out. A parameter may point to where it is described, alone or with others (``ids, metadata`` and below it
``See `Collection.add`.``), and has no type then.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.errors import MissingExtraError

validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed")

ROOT = Path(octavo.__file__).parent
PACKAGES = sorted(".".join(["octavo", *path.parent.relative_to(ROOT).parts]) for path in ROOT.rglob("__init__.py"))

#: What numpydoc can object to, and has to be right here.
#:
#: GL08 no docstring, PR01 a parameter is not described, PR02 one is described that there is not, PR03 in another order, PR04
#: without a type, PR07 without a description, RT01 no Returns, RT03 a value returned without a description, YD01 no Yields.
WANTED = {"GL08", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03", "YD01"}

#: Classes whose every public method has an example.
WITH_EXAMPLES = {"Collection", "MultiVectorCollection"}

POINTER = re.compile(r"(See|As in|As for) `")


def public_objects() -> Iterator[tuple[str, Any]]:
    """Yield each public class and function once, under the first name that leads to it."""
    seen: set[int] = set()
    for package in PACKAGES:
        try:
            module = importlib.import_module(package)
            values = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
        except MissingExtraError:  # of the package, or of names that it imports when they are asked for
            continue
        for name, value in values.items():
            if id(value) in seen or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if not value.__module__.startswith("octavo"):
                continue
            seen.add(id(value))
            yield f"{package}.{name}", value


def members(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class defines itself, and does not take over from a framework."""
    inherited = {
        attribute for base in cls.__mro__[1:] if not base.__module__.startswith("octavo") for attribute in vars(base)
    }
    for attribute, value in vars(cls).items():
        if attribute.startswith("_") or attribute in inherited:
            continue
        if inspect.isfunction(function_of(value)):
            yield f"{name}.{attribute}", value


def function_of(value: Any) -> Any:
    """Return the function behind a method or property; a class itself."""
    return value.fget if isinstance(value, property) else getattr(value, "__func__", value)


OBJECTS = dict(public_objects())
CLASSES = {name: value for name, value in OBJECTS.items() if inspect.isclass(value)}
MEMBERS = {name: value for owner, cls in CLASSES.items() for name, value in members(owner, cls)}


def is_protocol(cls: Any) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def complaints(value: Any, owner: Any = None) -> list[str]:
    """Return what is wrong with the docstring of a class or function, or of a member of the class `owner`."""
    function = function_of(value)
    text = inspect.getdoc(function) or ""
    found = validate.validate(f"{function.__module__}.{function.__qualname__}")["errors"]
    found = [error for error in found if error[0] != "RT01"] + no_returns(function, text)
    wanted = set(WANTED)
    if is_protocol(owner) or is_protocol(value):
        wanted = {"GL08"}
    elif inspect.isclass(value):
        if re.search(r"\bMade by `", text):  # nobody calls the constructor
            wanted -= {"PR01"}
    elif len(text.splitlines()) == 1:
        wanted -= {"RT01", "RT03", "YD01"}
        if is_twin(function.__name__, text, owner) or len(own_parameters(function, owner)) <= 1:
            wanted -= {"PR01"}
    elif is_twin(function.__name__, text, owner):
        wanted -= {"PR01", "RT01"}
    if isinstance(value, property):
        wanted -= {"RT01"}
    pointers = pointed_at(text)
    if pointers:
        wanted -= {"PR03"}  # what is described elsewhere stands together
    if inspect.isclass(value):
        found = [error for error in found if not belongs_to_the_framework(value, *error)]
        found = [error for error in found if not hides_its_parameters(value, *error)]
    elif "cls" in own_parameters(function, owner):  # which numpydoc takes for a class method's
        found = [error for error in found if error != ("PR02", "Unknown parameters {'cls'}")]
    said = [f"{code} {what}" for code, what in found if code in wanted]
    return [each for each in said if not (each.startswith("PR04") and each.split('"')[1] in pointers)]


def no_returns(function: Any, text: str) -> list[tuple[str, str]]:
    """Return what numpydoc says where a function gives something back and does not describe it, but by its annotation.

    A class method that gives an object of its class needs no description of it.
    """
    if not inspect.isfunction(function) or re.search(r"^(Returns|Yields)$", text, re.MULTILINE):
        return []
    annotation = str(inspect.signature(function).return_annotation)
    own = (*function.__qualname__.split(".")[:-1], "Self", "None", "NoReturn")
    return [] if annotation in own else [("RT01", "No Returns section found")]


def belongs_to_the_framework(cls: type, code: str, what: str) -> bool:
    """Tell whether a complaint is about fields that a framework's base class has, or the ``**options`` that it hides."""
    named = set(re.findall(r"'([*\w]+)'", what))
    bases = [
        base for base in cls.__mro__[1:] if hasattr(base, "model_fields") and base.__module__.split(".")[0] != "octavo"
    ]
    fields = {"*args"}.union(*(base.model_fields for base in bases)) if bases else set()
    if code == "PR01":
        return named <= fields
    return code == "PR02" and bool(bases) and named == {"**options"}


def is_twin(name: str, text: str, owner: Any) -> bool:
    """Tell whether a method does what another does, off the event loop, and says so."""
    if owner is None:
        return False
    other, words = (name.removesuffix("_async"), "As") if name.endswith("_async") else (name[1:], "see")
    return (name.startswith("a") or other != name[1:]) and hasattr(owner, other) and f"{words} `{other}`" in text


def hides_its_parameters(cls: type, code: str, what: str) -> bool:
    """Tell whether a complaint comes from a metaclass that calls the constructor with whatever it was called with."""
    if type(cls) is type or "args" not in inspect.signature(cls).parameters:
        return False
    named = set(re.findall(r"'([*\w]+)'", what))
    return named == {"*args", "**kwargs"} or (code == "PR02" and named == set(own_parameters(cls.__init__, cls)))


def own_parameters(function: Any, owner: Any) -> list[str]:
    given = {"self", "cls"} if owner is not None else set()
    return [name for name in inspect.signature(function).parameters if name not in given]


def pointed_at(text: str) -> set[str]:
    """Return the parameters whose description is a reference to another."""
    listed = validate.get_doc_object(None, doc=text)["Parameters"] if text else []
    return {name for names, _, lines in listed if POINTER.match(" ".join(lines)) for name in names.split(", ")}


def test_there_is_something_to_check() -> None:
    assert len(OBJECTS) > 40
    assert len(MEMBERS) > 150


def test_the_check_itself() -> None:
    assert complaints(_flawed)[0].startswith("PR01 Parameters {'b'}")
    assert {each.split()[0] for each in complaints(_flawed)} == {"PR01", "PR04", "PR07", "RT01"}
    assert complaints(_pointing) == []


def _flawed(a: int, b: int) -> int:
    """Do something.

    Parameters
    ----------
    a
    """
    return a + b


def _pointing(a: int, b: int, c: int) -> int:
    """Do something.

    Parameters
    ----------
    b, c
        See `_flawed`.
    a : int
        Something.

    Returns
    -------
    int
        Something.
    """
    return a + b + c


@pytest.mark.parametrize("name", OBJECTS)
def test_public_names_are_documented(name: str) -> None:
    assert complaints(OBJECTS[name]) == []


@pytest.mark.parametrize("name", MEMBERS)
def test_public_members_are_documented(name: str) -> None:
    assert complaints(MEMBERS[name], OBJECTS[name.rpartition(".")[0]]) == []


@pytest.mark.parametrize("name", [name for name, cls in CLASSES.items() if not issubclass(cls, Exception)])
def test_public_classes_have_an_example(name: str) -> None:
    if is_protocol(CLASSES[name]):
        return
    assert "Examples\n" in (inspect.getdoc(CLASSES[name]) or "")


@pytest.mark.parametrize("name", [name for name in MEMBERS if name.split(".")[-2] in WITH_EXAMPLES])
def test_methods_of_collections_have_an_example(name: str) -> None:
    if isinstance(MEMBERS[name], property):
        return
    assert ">>>" in (inspect.getdoc(function_of(MEMBERS[name])) or "")
