"""Questions before something is removed, and what Ctrl-C says."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from octavo._printing import note, printable
from octavo.errors import ParameterError

#: What shells take for "ended by Ctrl-C".
INTERRUPTED = 130

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def agree(what: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; where nobody can be asked, ``--yes`` is needed.

    Parameters
    ----------
    what : str
        What will happen, as a sentence without its end.
    yes : bool
        Whether the user has agreed beforehand.

    Raises
    ------
    ParameterError
        When nobody is there to ask.
    typer.Exit
        When the answer is no.
    """
    if yes:
        return
    if not _asks():
        raise ParameterError(f"{what}; nothing was written. If that is meant: --yes")
    if not typer.confirm(printable(what) + ". Go on?", err=True):
        note("nothing was written")
        raise typer.Exit(INTERRUPTED)


def _asks() -> bool:
    """Tell whether somebody is there to ask."""
    return sys.stdin.isatty()


@contextlib.contextmanager
def interruptible(safe: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C, and a polite request to end, into a sentence about what is safe.

    Parameters
    ----------
    safe : callable
        Returns that sentence.
    """

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if in_main else None
    try:
        yield
    except KeyboardInterrupt:
        note(f"\nstopped: {safe()}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
