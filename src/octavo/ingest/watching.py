"""Keep a collection up to date with a source as it changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from octavo.collection import CollectionLike
from octavo.errors import CollectionClosedError, CollectionReplacedError, OctavoError
from octavo.ingest.indexing import Ingest, IngestReport, find_gone
from octavo.ingest.preparing import Prepared
from octavo.ingest.sources import SOURCE_FIELD
from octavo.ingest.walking import Skipped, Stamp, stamp_of

_log = logging.getLogger(__name__)

#: Seconds between two looks at the source.
INTERVAL = 2.0

#: Looking takes at most this share of the time.
_SHARE = 0.2

#: Seconds that changes may go on before those so far are taken over all the same.
_LONGEST_WAIT = 30.0

#: Seconds before something that failed is tried again: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0

#: So many files that vanish at once, and more than a third of all, are more likely a drive that is not mounted.
_FEW = 10


@dataclass
class Change:
    """What one round has taken over.

    Parameters
    ----------
    report : IngestReport
        Documents written and removed.
    changed, gone : list of str
        Files (or the one file) that were read again, and those whose documents were removed.
    skipped : Skipped
        What was left out of them.
    """

    report: IngestReport
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)


class Watch:
    """Looks at a source again and again, and takes over what has changed once it has come to rest.

    Whatever goes wrong meanwhile, a drive that is away, a model that does not answer, a collection that another process writes
    to, is logged and tried again; only a collection that has been closed or replaced ends it.

    Parameters
    ----------
    collection : CollectionLike
        Open for writing, with its encoder, and up to date with the source.
    prepared : Prepared
        The source, as it was indexed.
    interval : float
        Seconds between two looks.
    batch_size : int
        See `Ingest`.
    clock : callable
        Seconds; for tests.
    """

    def __init__(
        self,
        collection: CollectionLike,
        prepared: Prepared,
        *,
        interval: float = INTERVAL,
        batch_size: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collection = collection
        self._source = prepared.source
        self._name = prepared.record.name
        self._scope = prepared.identity.scope
        self._interval = interval
        self._batch_size = batch_size
        self._clock = clock
        self._applied = dict(prepared.source.stamps)  # from before it was read
        self._seen = self._applied
        self._since: float | None = None  # when the changes that are not taken over yet were first seen
        self._pause = 0.0
        self._not_before = 0.0
        self._away = False
        self._held: frozenset[str] = frozenset()
        self._took = 0.0

    def run(self, tell: Callable[[Change], object], sleep: Callable[[float], object] = time.sleep) -> None:
        """Watch until interrupted.

        Parameters
        ----------
        tell : callable
            Called with what each round has taken over.
        sleep : callable
            Waits so many seconds; for tests.
        """
        while True:
            sleep(max(self._interval, self._took * (1 / _SHARE - 1)))
            change = self.step()
            if change is not None:
                tell(change)

    def step(self) -> Change | None:
        """Look once, and take over what has come to rest; None where there is nothing to do.

        Raises
        ------
        CollectionReplacedError, CollectionClosedError
            When there is nothing to write to any more.
        """
        start = self._clock()
        found = self._look()
        self._took = self._clock() - start
        if found is None or found == self._applied:
            self._since = None
            return None
        at_rest, self._seen = found == self._seen, found
        if self._since is None:
            self._since = start
        if (not at_rest and start - self._since < _LONGEST_WAIT) or start < self._not_before:
            return None
        try:
            change = self._take_over(found)
        except (CollectionReplacedError, CollectionClosedError):
            raise
        except Exception as error:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._not_before = self._clock() + self._pause
            known = isinstance(error, OctavoError | OSError)
            _log.warning("%s; tried again in %.0f seconds", error or type(error), self._pause, exc_info=not known)
            return None
        self._pause = self._not_before = 0.0
        self._since = None
        return change

    def _look(self) -> dict[str, Stamp] | None:
        """Return what there is; None while the source is away."""
        try:
            found = self._stamps()
        except (OSError, OctavoError) as error:
            if not self._away:
                _log.warning("the source cannot be read, and is waited for: %s", error)
            self._away = True
            return None
        if not found and self._applied:
            if not self._away:
                _log.warning("nothing of the source is there any more; its documents stay, and it is waited for")
            self._away = True
            return None
        self._away = False
        return found

    def _stamps(self) -> dict[str, Stamp]:
        if self._source.kind == "rows":  # which are read only when there is something new
            return {self._source.path.name: stamp_of(self._source.path.stat())}
        found = self._source.find()
        stamps = dict(self._source.stamps)
        for name, stamp in self._applied.items():
            if name not in stamps and found.has(self._source.parent_of(name)):
                stamps[name] = stamp  # what cannot be looked at now is as it was
        return stamps

    def _take_over(self, found: dict[str, Stamp]) -> Change | None:
        ingest = Ingest(self._collection, self._name, batch_size=self._batch_size)
        if self._source.kind == "rows":
            rows = self._source.find()
            ingest.run(self._source.documents())
            gone = find_gone(self._collection, self._name, rows)
            if gone.is_large and len(gone.parents) >= _FEW:
                _log.warning(
                    "%d of %d rows are gone at once; their documents stay: octavo index --prune removes them",
                    len(gone.parents),
                    gone.of,
                )
            else:
                ingest.remove(gone.ids)
            self._applied = found
            return Change(ingest.report, [self._source.path.name], [], self._source.skipped)
        changed = sorted(name for name, stamp in found.items() if self._applied.get(name) != stamp)
        lost = sorted(self._applied.keys() - found.keys())
        if 3 * len(lost) > len(self._applied) and len(lost) >= _FEW:
            if self._held != frozenset(lost):
                self._held = frozenset(lost)
                _log.warning(
                    "%d of %d files are gone at once, %r among them; their documents stay until they come back, or "
                    "octavo index --prune removes them",
                    len(lost),
                    len(self._applied),
                    lost[0],
                )
            found = found | {name: self._applied[name] for name in lost}
            lost = []
        before = {reason: list(names) for reason, names in self._source.skipped.files.items()}
        ingest.run(self._source.documents(only=changed))
        parents = [self._source.parent_of(name) for name in lost]
        for start in range(0, len(parents), 256):
            part = {"document": {"$in": parents[start : start + 256]}}
            ingest.remove(self._collection.ids(filter={"$and": [{SOURCE_FIELD: self._name}, part]}))
        self._applied = found
        if not changed and not lost:
            return None
        return Change(ingest.report, changed, lost, _later(self._source.skipped, before))


def _later(skipped: Skipped, before: dict[str, list[str]]) -> Skipped:
    """Return what was left out while reading, without what was before."""
    later = Skipped(replaced=list(skipped.replaced), lines=list(skipped.lines))
    for reason, names in skipped.files.items():
        for name in names[len(before.get(reason, [])) :]:
            later.add(name, reason)
    return later
