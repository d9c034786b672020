"""Backups of a collection: a consistent copy while others write, and the way back."""

from __future__ import annotations

import os

from octavo._files import as_path
from octavo.store.upkeep.backup import restore_collection


def restore(snapshot: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Bring a snapshot back: every byte is compared with its checksum before and after it is copied.

    Parameters
    ----------
    snapshot : str or path-like
        What `Collection.snapshot` wrote (or any collection that is at rest). It is only read, and may lie on a read-only
        file system.
    path : str or path-like
        Where the collection should be. If it is a link to a directory, that directory is meant, and the link stays.
    overwrite : bool, default=False
        Replace the collection that is there. Whoever still has it open is told so by a `CollectionReplacedError` the next
        time that it reads or writes, and changes nothing.

    Raises
    ------
    CollectionNotFoundError
        When there is no snapshot.
    CorruptCollectionError
        When the snapshot is damaged; what is at `path` has not been touched.
    ParameterError
        When there is something at `path` that may not be replaced.

    Examples
    --------
    >>> import tempfile, octavo
    >>> folder = tempfile.TemporaryDirectory()
    >>> with octavo.open(f"{folder.name}/kb") as kb:
    ...     _ = kb.add(["red"], ids=["r"], vectors=[[1.0, 0.0]])
    ...     snapshot = kb.snapshot(f"{folder.name}/monday")
    >>> octavo.restore(snapshot, f"{folder.name}/again")
    >>> with octavo.open(f"{folder.name}/again") as kb:
    ...     kb.ids()
    ['r']
    >>> folder.cleanup()
    """
    restore_collection(as_path(snapshot, "snapshot"), as_path(path, "path"), overwrite=overwrite)
