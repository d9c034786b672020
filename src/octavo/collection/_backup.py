"""Backups of a collection: a consistent copy while others write, and the way back."""

from __future__ import annotations

import os
from pathlib import Path

from octavo.errors import InputTypeError
from octavo.store.upkeep.backup import restore_collection


def restore(snapshot: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Bring a snapshot back: every byte is compared with its checksum before and after it is copied.

    Parameters
    ----------
    snapshot : str or path-like
        What `Collection.snapshot` wrote (or any collection that is at rest). It is only read, and may lie on a read-only
        file system.
    path : str or path-like
        Where the collection should be.
    overwrite : bool, default=False
        Replace the collection that is there. Close it first, in every process: one that still has it open goes on with the
        old files, and what it writes to them is lost.

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
    restore_collection(_directory(snapshot, "snapshot"), _directory(path, "path"), overwrite=overwrite)


def _directory(value: str | os.PathLike[str], name: str) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise InputTypeError(f"expected {name} as a str or path-like, got {type(value).__name__}")
    return Path(value).expanduser().absolute()
