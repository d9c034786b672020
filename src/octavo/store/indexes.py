"""What finds candidates in a collection: what its settings say, one index or two beside each other."""

from __future__ import annotations

from collections.abc import Callable

from octavo.store.cell_files import CellFiles
from octavo.store.derived import DerivedIndex, Follower
from octavo.store.graph_files import GraphFiles
from octavo.store.snapshot import Snapshot
from octavo.store.store import Store
from octavo.store.token_cell_files import TokenCellFiles


class Beside(Follower):
    """Several indexes of one space, followed together: that of candidate vectors, and the token cells.

    Parameters
    ----------
    parts : tuple of DerivedIndex
        The indexes.
    """

    def __init__(self, parts: tuple[DerivedIndex, ...]) -> None:
        self._parts = parts

    @property
    def parts(self) -> tuple[DerivedIndex, ...]:
        """The indexes, for whoever treats each by its name."""
        return self._parts

    def _each(self, call: Callable[[DerivedIndex], object]) -> None:
        for part in self._parts:
            call(part)

    def stop(self) -> None:
        """Stop all of them."""
        self._each(lambda part: part.stop())

    def begin(self) -> None:
        """Take up work."""
        self._each(lambda part: part.begin())

    def behind(self, snapshot: Snapshot, tail: int | None = None) -> bool:
        """Tell whether one of them has something to do."""
        return any(part.behind(snapshot, tail) for part in self._parts)

    def covered(self, snapshot: Snapshot) -> int:
        """Return up to which slot the first one reaches."""
        return self._parts[0].covered(snapshot)

    def catch_up(self, tail: int | None = None) -> None:
        """Extend all of them; the caller waits."""
        self._each(lambda part: part.catch_up(tail))

    def start(self) -> None:
        """Extend those that are behind, each in a thread of its own."""
        self._each(lambda part: part.start() if part.behind(part.space) else None)

    def keep_up(self) -> None:
        """Extend them beside a stream of writes."""
        self._each(lambda part: part.keep_up())

    def complete(self) -> None:
        """Bring all of them to where nothing is left to do; the caller waits."""
        self._each(lambda part: part.complete())

    def take_over(self, before: Snapshot, renumbered: bool) -> None:
        """Go on with what there was for the generation before this one."""
        self._each(lambda part: part.take_over(before, renumbered))

    def wait(self) -> None:
        """Wait for background runs to end."""
        self._each(lambda part: part.wait())

    def forget(self) -> None:
        """Drop all of them in memory."""
        self._each(lambda part: part.forget())

    def checkpoint(self, *, keep: bool = False) -> None:
        """Save all of them."""
        self._each(lambda part: part.checkpoint(keep=keep))

    def close(self) -> None:
        """Stop all of them and save what is there."""
        self._each(lambda part: part.close())


def index_of(store: Store, prefix: str = "") -> Follower:
    """Return what follows the vector files of a space of a store with what its settings name."""
    by_vectors = CellFiles(store, prefix) if store.settings.index == "cells" else GraphFiles(store, prefix)
    if not store.settings.multi_vector and not prefix:
        return by_vectors
    return Beside((by_vectors, TokenCellFiles(store, prefix)))
