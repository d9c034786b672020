"""What commands print: results to stdout, remarks to stderr, and nothing that a terminal would obey."""

from __future__ import annotations

import itertools
import json
import re
import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_UNITS = ("B", "kB", "MB", "GB", "TB")

#: What moves the cursor, changes the direction of writing, breaks a line, or cannot be encoded: control characters (C0, DEL,
#: C1), bidirectional marks, embeddings, overrides and isolates, line and paragraph separators, lone surrogates.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with what a terminal would obey written as in Python's strings.

    Parameters
    ----------
    text : str
        Of whoever wrote the documents.
    lines : bool, default=False
        Leave line breaks and tabs.

    Examples
    --------
    >>> print(printable("red\x1b[31m and \u202eback"))
    red\x1b[31m and \u202eback
    """

    def escaped(match: re.Match[str]) -> str:
        character = match[0]
        if lines and character in "\n\t":
            return character
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")

    return _ACTIVE.sub(escaped, text)


def short(value: object, most: int = 60) -> str:
    """Return a value as in Python's code, cut where it is longer than that; never more than `most` characters.

    Examples
    --------
    >>> short("a red apple"), short("a very long story", 10), short({"n": 1, "tags": ["a"]})
    ("'a red apple'", "'a very …'", "{'n': 1, 'tags': ['a']}")
    """
    if isinstance(value, str):
        written = repr(value[: most + 1])
        return written if len(written) <= most else f"{written[: most - 2]}…{written[-1]}"
    shape = reprlib.Repr()
    shape.maxdict = shape.maxlist = shape.maxtuple = shape.maxset = most
    shape.maxstring = shape.maxlong = shape.maxother = most
    if isinstance(value, dict):  # in its own order
        parts = (f"{shape.repr(key)}: {shape.repr(each)}" for key, each in itertools.islice(value.items(), most))
        written = "{" + ", ".join(parts) + "}"
    else:
        written = shape.repr(value)
    return written if len(written) <= most else f"{written[: most - 2]}…{written[-1]}"


def echo(text: object = "", *, err: bool = False) -> None:
    """Print lines of text to stdout, or to stderr."""
    import typer

    typer.echo(printable(str(text), lines=True), err=err)


def note(message: str) -> None:
    """Tell the user something that is not a result."""
    echo(message, err=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, whose own escapes stand for what a terminal would obey."""
    import typer

    text = to_json(value, indent=2)
    # Line breaks are json's own: those of strings are escaped by now.
    typer.echo(_ACTIVE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text))


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON; dates and times of metadata as ISO strings.

    Examples
    --------
    >>> from datetime import date
    >>> to_json({"day": date(2024, 5, 1)})
    '{"day": "2024-05-01"}'
    """
    return json.dumps(value, ensure_ascii=False, indent=indent, default=lambda time: time.isoformat())


def console() -> Console:
    """Return where results go. Made anew each time, so that it follows a redirected stdout."""
    from rich.console import Console

    return Console(highlight=False)


def human_duration(seconds: float) -> str:
    """Return a time in the largest unit that leaves a digit before the point.

    Examples
    --------
    >>> human_duration(4.2), human_duration(90), human_duration(5400), human_duration(200_000)
    ('4 s', '1.5 min', '1.5 h', '2.3 days')
    """
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def human_bytes(count: float) -> str:
    """Return a number of bytes in decimal units.

    Examples
    --------
    >>> human_bytes(1536), human_bytes(48)
    ('1.5 kB', '48 B')
    """
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"
