"""The steps by name: those of Octavo, those registered by hand, those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from octavo.compression._base import Quantizer, Reducer, Step
from octavo.errors import CodecError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

#: Packages add a step under its `step_id` in this entry-point group.
ENTRY_POINT_GROUP = "octavo.steps"

_STEPS: dict[str, type[Step]] = {}

S = TypeVar("S", bound=type[Step])


def register_step(cls: S) -> S:
    """Make a step known to codec strings under its `step_id` and `short_name`; usable as a class decorator.

    Packages that are installed need not call it: they name the class in the entry-point group ``octavo.steps``.

    Parameters
    ----------
    cls : type
        A subclass of `Reducer` or `Quantizer`.

    Returns
    -------
    type
        The same.

    Raises
    ------
    CodecError
        If the class is neither a reducer nor a quantizer, or its name is taken by another class.
    """
    if not issubclass(cls, Reducer | Quantizer):
        raise CodecError(f"expected a subclass of Reducer or Quantizer, got {cls!r}")
    names = {cls.step_id, cls.name()}
    for name in sorted(names):
        if not name or any(c in name for c in "|:> \t\n"):
            raise CodecError(f"a step name must not be empty nor hold any of '|', ':', '>' or spaces, got {name!r}")
        if _STEPS.get(name, cls) is not cls:
            raise CodecError(f"the step name {name!r} is already taken by {_STEPS[name]!r}")
    for name in names:
        _STEPS[name] = cls
    return cls


def step_names() -> list[str]:
    """Return all names that a codec string may use, sorted, without importing other packages' steps."""
    return sorted(set(_STEPS) | {entry.name for entry in _entry_points()})


def is_step_name(name: str) -> bool:
    """Return whether a step of this name is registered or promised by an installed package."""
    return name in _STEPS or name in step_names()  # looking through the installed packages takes milliseconds


def loaded_step(name: str) -> type[Step] | None:
    """Return the class behind a name if it has been imported already."""
    return _STEPS.get(name)


def step_class(name: str) -> type[Step]:
    """Return the class behind a name.

    Raises
    ------
    CodecError
        If there is none, or the package that promises it gives something else.
    """
    if name in _STEPS:
        return _STEPS[name]
    for entry in _entry_points():
        if entry.name == name:
            cls = entry.load()
            if not (
                isinstance(cls, type) and issubclass(cls, Reducer | Quantizer) and name in (cls.step_id, cls.name())
            ):
                raise CodecError(f"the entry point {entry.value!r} should be a step called {name!r}, got {cls!r}")
            return register_step(cls)
    raise CodecError(f"unknown step {name!r}; expected one of {', '.join(step_names())}")


def step_from_config(config: Mapping[str, Any]) -> Step:
    """Rebuild an unfitted step from its `get_config`."""
    name = config.get("id")
    if not isinstance(name, str):
        raise CodecError(f"expected a step configuration with an 'id', got {dict(config)!r}")
    return step_class(name).from_config(config)


def _entry_points() -> EntryPoints:
    from importlib.metadata import entry_points  # takes as long to import as most of Octavo, and is rarely needed

    return entry_points(group=ENTRY_POINT_GROUP)
