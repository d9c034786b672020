"""Bringing a backup back: verified before and after, and in place of a collection only when asked.

Making one is `octavo.store.upkeep.copy`: a copy of one committed state is all that a backup is.
"""

from __future__ import annotations

import os
from pathlib import Path

from octavo._files import followed, fresh_directory, is_occupied
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.store.indexes import index_of
from octavo.store.settings import Settings
from octavo.store.store import TEXT_DIRECTORY, Store, is_own_file
from octavo.store.text.files import TextFiles
from octavo.store.upkeep.copy import write_copy
from octavo.store.upkeep.verify import verify_files


def restore_collection(source: Path, destination: Path, *, overwrite: bool) -> int:
    """Copy a collection from `source` to `destination` once every byte of it is known to be as it was written.

    Parameters
    ----------
    source : Path
        A collection that nobody needs to have open; it is only read.
    destination : Path
        The directory to make.
    overwrite : bool
        Replace a collection that is there.

    Returns
    -------
    int
        Documents in the restored collection.

    Raises
    ------
    CollectionNotFoundError
        When there is no collection at `source`.
    CorruptCollectionError
        When the source, or what was written, does not match its checksums. Nothing was changed.
    ParameterError
        When there is something at `destination`, and it is not a collection or `overwrite` is not set.
    """
    destination = followed(destination)  # a link stays, and leads to what was restored
    replaces = _occupied(source, destination, overwrite=overwrite)
    with fresh_directory(destination, "the collection", replace=replaces) as draft:
        store = _open_verified(source, "the backup")
        try:
            write_copy(store, draft)
        finally:
            store.close()
        store = _open_verified(draft, "the copy of the backup")
        documents = store.snapshot.n_alive
        store.close()
    return documents


def _occupied(source: Path, destination: Path, *, overwrite: bool) -> bool:
    """Tell whether a collection will be replaced; refuse what must not be."""
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ParameterError(f"expected another directory than the backup's own to restore to, got {destination}")
    if not is_occupied(destination):
        return False
    if not destination.is_dir() or not Store.exists(destination):
        raise ParameterError(
            f"expected a new or empty directory, or a collection, but {destination} holds something else"
        )
    if not overwrite:
        raise ParameterError(
            f"there is a collection at {destination}; restore to another directory, or say that it may be replaced "
            "(overwrite=True, --overwrite)"
        )
    for name in os.listdir(destination):
        if not is_own_file(name) and name != TEXT_DIRECTORY:
            raise ParameterError(
                f"{destination} holds {name!r}, which is not a part of the collection and would be lost; restore to "
                "another directory, or move it away first"
            )
    return True


def _open_verified(path: Path, what: str) -> Store:
    store = Store(path, Settings(read_only=True, must_exist=True))
    try:
        report = verify_files(store, index_of(store), TextFiles(store))
        if not report.ok:
            raise CorruptCollectionError(f"{what} at {path} is damaged, nothing was restored: {report.problems[0]}")
    except BaseException:
        store.close()
        raise
    return store
