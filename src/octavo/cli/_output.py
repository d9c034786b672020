"""What commands print: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_UNITS = ("B", "kB", "MB", "GB", "TB")


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(to_json(value, indent=2))


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
    return Console(highlight=False)


def note(message: str) -> None:
    """Tell the user something that is not a result."""
    typer.echo(message, err=True)


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


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr while something long runs, if that is a terminal; yields what advances it."""
    stderr = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
