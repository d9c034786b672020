"""One bar for everything that takes long, drawn on stderr if that is a terminal (or a notebook)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(description: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[[int], object]]:
    """Draw a bar while something long runs; yields what advances it.

    Parameters
    ----------
    description : str
        What runs.
    total : int or None
        How much there is of it; None where nobody knows.
    shown : bool, default=True
        False draws nothing.
    """
    if not shown:
        yield lambda done: None
        return
    from rich.console import Console  # not needed by anybody who asks for no bar
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    stderr = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    visible = stderr.is_terminal or stderr.is_jupyter
    with Progress(*columns, console=stderr, transient=True, disable=not visible) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
