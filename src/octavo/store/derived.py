"""What finds candidates is derived: an index that follows the vector files in the background, and is rebuilt when damaged."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from octavo import _forks
from octavo._files import Directory
from octavo.errors import CollectionLockedError, CollectionReplacedError, OctavoError, StorageError
from octavo.index import planner
from octavo.store.snapshot import Snapshot
from octavo.store.store import Store

#: While documents stream in, rows may wait outside the index up to this multiple of what may be scanned beside it.
_BACKLOG = 8

#: Seconds after which a draft belongs to a writer that died.
_DRAFT_AGE = 3_600.0

#: What may have a thread.
_building: weakref.WeakSet[DerivedIndex] = weakref.WeakSet()


@atexit.register
def _stop_building() -> None:
    # A thread that comes back from native code into an interpreter that is being taken down ends the process by a signal.
    for files in list(_building):
        files.stop()


class Follower(ABC):
    """Follows the vector files of one store with what finds candidates: a `DerivedIndex`, or several beside each other."""

    @property
    @abstractmethod
    def parts(self) -> tuple[DerivedIndex, ...]:
        """The indexes it consists of, each with a name and files of its own."""

    @abstractmethod
    def stop(self) -> None:
        """Give up building and wait until the thread has noticed: it must not be in native code when the process ends."""

    @abstractmethod
    def begin(self) -> None:
        """Take up work when the collection is opened."""

    @abstractmethod
    def behind(self, snapshot: Snapshot, tail: int | None = None) -> bool:
        """Tell whether more rows wait outside the index than `tail` (None: than should be scanned beside it)."""

    @abstractmethod
    def covered(self, snapshot: Snapshot) -> int:
        """Return up to which slot the index reaches."""

    @abstractmethod
    def catch_up(self, tail: int | None = None) -> None:
        """Extend the index until at most `tail` rows wait outside it; the caller waits."""

    @abstractmethod
    def start(self) -> None:
        """Extend the index in a thread of its own; searches stay exact, if slower, until it is done."""

    @abstractmethod
    def keep_up(self) -> None:
        """Extend the index beside a stream of writes; the writer waits only when it is far ahead."""

    @abstractmethod
    def complete(self) -> None:
        """Bring the index to where nothing is left to do; the caller waits."""

    @abstractmethod
    def take_over(self, before: Snapshot, renumbered: bool) -> None:
        """Go on with what there was for the generation of vector files before this one, where that is possible.

        Parameters
        ----------
        before : Snapshot
            The last state of that generation.
        renumbered : bool
            Whether slots without documents were left out.
        """

    @abstractmethod
    def wait(self) -> None:
        """Wait for background runs to end."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the index in memory, so that it is built again from the vector files."""

    @abstractmethod
    def checkpoint(self, *, keep: bool = False) -> None:
        """Save the index beside the vector files and record its checksums; searches read it from there, unless `keep`."""

    @abstractmethod
    def close(self) -> None:
        """Stop extending and save what is there."""


class DerivedIndex(Follower):
    """Follows the vector files of one store with an index that finds candidates: `GraphFiles` or `CellFiles`.

    What it does not reach yet is scanned exactly, so whatever is missing or damaged costs time, never an answer. One thread
    at a time builds, extends and saves; searches take what was published last and never wait.

    Parameters
    ----------
    store : Store
        The collection's files.
    prefix : str
        Of the space that is followed: nothing, or "next_" for the one that a change of the model fills.
    """

    #: The value of the option `index`; after the prefix, that under which its files are recorded in `artifacts`.
    name: ClassVar[str] = ""

    rests_last = False

    def __init__(self, store: Store, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix
        self.artifact = f"{prefix}{self.name}"
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False  # the process, or the use of the collection, is about to end
        _forks.register(self)

    @property
    def parts(self) -> tuple[DerivedIndex, ...]:
        """Itself."""
        return (self,)

    # ------------------------------------------------------------------ forks and the end

    def before_fork(self) -> None:
        """Do nothing: building takes long, and a child begins anew."""
        return

    def after_fork_in_parent(self) -> None:
        """Do nothing."""
        return

    def after_fork_in_child(self) -> None:
        """Have no thread, and a free lock."""
        self._lock, self._thread = threading.Lock(), None

    def stop(self) -> None:
        """Give up building and wait until the thread has noticed: it must not be in native code when the process ends."""
        self._stopped = True
        self.wait()

    def _over(self) -> bool:
        return self._stopped or self._store.closed

    # ------------------------------------------------------------------ following

    @property
    def space(self) -> Snapshot:
        """The newest state of what is followed."""
        return self._store.space(self._prefix)

    def begin(self) -> None:
        """Take up work when the collection is opened."""
        if self.behind(self.space):
            self.start()

    def catch_up(self, tail: int | None = None) -> None:
        """Extend the index until at most `tail` rows wait outside it; the caller waits."""
        self._catch_up(tail)
        self._save()

    def _save(self) -> None:
        """Save the index, if it is time to."""
        if not self._store.settings.read_only and self._due(self.space):
            # It only saves time later, and the write that it follows is durable: no reason to fail that.
            with contextlib.suppress(StorageError, CollectionLockedError, CollectionReplacedError):
                self.checkpoint()

    @abstractmethod
    def _catch_up(self, tail: int | None) -> None:
        """Extend the index in memory."""

    @abstractmethod
    def _due(self, snapshot: Snapshot) -> bool:
        """Tell whether it is time to save."""

    def start(self) -> None:
        """Extend the index in a thread of its own; searches stay exact, if slower, until it is done."""
        if self._stopped or self._lock.locked() or (self._thread is not None and self._thread.is_alive()):
            return
        _building.add(self)
        self._thread = threading.Thread(target=self._quietly, name=f"octavo-{self.name}", daemon=True)
        self._thread.start()

    def _quietly(self) -> None:
        # A damaged tier shows itself to the search that reads it; the thread must not print a traceback for it.
        with contextlib.suppress(OctavoError, OSError):
            self.catch_up()

    def keep_up(self) -> None:
        """Extend the index beside a stream of writes; the writer waits only when it is far ahead."""
        snapshot = self.space
        if not self.behind(snapshot):
            return
        if snapshot.n_slots - self.covered(snapshot) > _BACKLOG * planner.limits.tail_max:
            _join(self._thread)
        self.start()

    def complete(self) -> None:
        """Bring the index to where nothing is left to do; the caller waits."""
        self.wait()
        self.catch_up(tail=0)

    def take_over(self, before: Snapshot, renumbered: bool) -> None:
        """Do nothing: see `Follower.take_over`."""
        return

    def wait(self) -> None:
        """Wait for background runs to end."""
        _join(self._thread)

    # ------------------------------------------------------------------ saving

    def close(self) -> None:
        """Stop extending and save what is there."""
        self.wait()
        with contextlib.suppress(OctavoError, OSError):
            self.checkpoint(keep=True)

    @abstractmethod
    def damage(self, entry: dict[str, Any] | None) -> str | None:
        """Return what is wrong with the recorded files, if anything is."""


def _join(thread: threading.Thread | None) -> None:
    if thread is not None and thread is not threading.current_thread():
        thread.join()


def is_abandoned(folder: Directory, name: str) -> bool:
    """Tell whether a draft is so old that its writer must have died."""
    found = folder.stat(name)
    return found is None or time.time() - found.st_mtime > _DRAFT_AGE
