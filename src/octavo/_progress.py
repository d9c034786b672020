"""One bar for everything that takes long, drawn on stderr if that is a terminal (or a notebook); elsewhere a line a minute."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

#: Seconds between two lines where no bar can be drawn.
LINE_EVERY = 60.0


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
    if not (stderr.is_terminal or stderr.is_jupyter):
        yield _Lines(description, total).advance
        return
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)


class _Lines:
    """Says on stderr once a minute how far something is: a log shows that it lives, and a short run says nothing."""

    def __init__(self, description: str, total: int | None) -> None:
        self._description, self._total = description, total
        self._done = 0
        self._start = self._said = time.monotonic()

    def advance(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._said < LINE_EVERY:
            return
        self._said = now
        line = f"{self._description}: {self._done:,}"
        if self._total:
            line += f" of {self._total:,} ({self._done / self._total:.0%})"
        line += f" after {_clock(now - self._start)}"
        if self._total and 0 < self._done < self._total:
            line += f", about {_clock((now - self._start) * (self._total - self._done) / self._done)} left"
        print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
