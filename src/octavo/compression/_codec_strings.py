"""Read codec strings, and say where one is wrong.

::

    codec := tier { ">" tier }            coarse to fine
    tier  := step { "|" step }            reducers first, one quantizer last (none: float32)
    step  := name [ ":" argument ]
"""

from __future__ import annotations

import difflib
from typing import NoReturn

from octavo.compression._base import Reducer, Step
from octavo.compression._pipeline import Pipeline, find_misplaced
from octavo.compression._registry import is_step_name, loaded_step, step_class, step_names
from octavo.errors import CodecError, InputTypeError


def parse_tiers(text: str) -> list[Pipeline]:
    """Return the unfitted tiers that a codec string describes.

    Raises
    ------
    InputTypeError
        If `text` is not a string.
    CodecError
        If it is not a codec string; the message points at the place and lists what could stand there.
    """
    if not isinstance(text, str):
        raise InputTypeError(f"expected a codec string such as 'svd:50%|float8 > int8', got {text!r}")
    return [_parse_tier(text, tier, at) for tier, at in _split(text, 0, ">")]


def _parse_tier(text: str, tier: str, start: int) -> Pipeline:
    spans: list[tuple[str, int]] = []
    steps: list[Step] = []
    for raw, at in _split(tier, start, "|"):
        token = raw.strip()
        at += len(raw) - len(raw.lstrip())
        if not token:
            _fail(text, at, 1, "a step is missing", f"expected one of: {_alternatives()}")
        spans.append((token, at))
        steps.append(_parse_step(text, token, at))
    if misplaced := find_misplaced(steps):
        index, why = misplaced
        token, at = spans[index]
        _fail(text, at, len(token), why, "reducers come first, each keeping no more than it gets, then one quantizer")
    return Pipeline(steps)


def _parse_step(text: str, token: str, at: int) -> Step:
    name, colon, argument = token.partition(":")
    if not is_step_name(name):
        close = difflib.get_close_matches(name.lower(), step_names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        _fail(text, at, max(len(name), 1), f"unknown step {name!r}", f"{hint}expected one of: {_alternatives()}")
    cls = step_class(name)
    try:
        return cls.from_argument(argument if colon else None)
    except CodecError as err:
        skip = len(name) + 1 if argument else 0
        raise _error(text, at + skip, max(len(token) - skip, 1), str(err), "") from err


def _split(text: str, start: int, separator: str) -> list[tuple[str, int]]:
    """Return the parts of `text`, each with its position, `text` itself standing at `start`."""
    parts = []
    for part in text.split(separator):
        parts.append((part, start))
        start += len(part) + len(separator)
    return parts


def _alternatives() -> str:
    """Return all steps, reducers before quantizers, as they may be written."""
    reducers: list[str] = []
    quantizers: list[str] = []
    others: list[str] = []  # not imported only to word a message: that may fail
    for name in step_names():
        cls = loaded_step(name)
        (others if cls is None else reducers if issubclass(cls, Reducer) else quantizers).append(name)
    more = f"; {', '.join(others)} (from installed packages)" if others else ""
    return f"{', '.join(reducers)} (reducers); {', '.join(quantizers)} (quantizers){more}"


def _error(text: str, at: int, length: int, problem: str, expected: str) -> CodecError:
    # Tabs and line breaks would shift the caret away from what it points at.
    shown = "".join(c if c.isprintable() else " " for c in text)
    lines = [problem, f"    {shown}", f"    {' ' * at}{'^' * length}", expected]
    return CodecError("\n".join(line for line in lines if line))


def _fail(text: str, at: int, length: int, problem: str, expected: str) -> NoReturn:
    raise _error(text, at, length, problem, expected)
