"""What has to happen around ``os.fork``: threads do not survive it, and what they held stays held.

Objects register what they do before a fork (come to rest), after it in the parent (go on) and after it in the child (begin
anew). Only forks that Python is told of call it: ``os.fork``, `multiprocessing`, servers written in Python, and embedders
that call ``PyOS_AfterFork_Child`` as they should. ``subprocess`` starts a program, which inherits nothing, and calls none.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any, Protocol

#: Objects that are never destroyed in this process, since what they would release belongs to the parent.
_KEPT: list[Any] = []


class ForkAware(Protocol):
    """An object that outlives forks."""

    rests_last: bool  # others may need it to come to rest

    def before_fork(self) -> None:
        """Come to rest, as far as that can be had without waiting for long."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Begin anew: no other thread is there, and locks are as they were at the moment of the fork."""


_registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_resting: list[ForkAware] = []
_forking = threading.RLock()  # one thread forks at a time


def register(thing: ForkAware) -> None:
    """Call the methods of `thing` around each fork, for as long as it lives."""
    _registered.add(thing)


def keep_for_ever(thing: Any) -> None:
    """Have an object live until the process is gone, past the interpreter's own end: its destructor must not run."""
    import ctypes  # only in a child process

    _KEPT.append(thing)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class Lock:
    """A `threading.Lock` that is free in a forked child, whoever held it in the parent."""

    rests_last = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        register(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(RuntimeError):  # renewed by a fork while it was held
            self._lock.release()

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._lock.locked()

    def before_fork(self) -> None:
        """Nothing to do: it is held for short times, and who holds it may be the one that forks."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Have a lock that is free."""
        self._lock = threading.Lock()


def _before() -> None:
    _forking.acquire()
    for thing in sorted(_registered, key=lambda thing: thing.rests_last):
        _resting.append(thing)
        thing.before_fork()


def _after_in_parent() -> None:
    while _resting:
        _resting.pop().after_fork_in_parent()
    _forking.release()


def _after_in_child() -> None:
    global _forking
    _forking = threading.RLock()
    while _resting:
        _resting.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
