"""Removing what deletion leaves behind: earlier files, pages of the database that are free, the write-ahead log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from octavo._files import Directory
from octavo.errors import CollectionLockedError
from octavo.store.database import READ_FILES, has_table, read_manifest
from octavo.store.reencoding import PREFIX
from octavo.store.store import SPARSE_FILE, TEXT_DIRECTORY, Store, sparse_files

_GENERATION_FILE = re.compile(
    r"g(\d{6,})-(?:(?:\d+|tokens|offsets)\.vec|[0-9a-f]{32}\.(?:graph|cells|segment|centroids|postings)(?:\.tmp)?)"
)


def erase_leftovers(store: Store) -> None:
    """Delete every file of the collection that the newest commit does not name, and rewrite the database without gaps.

    Call it after a compaction that has written a new generation. Files are deleted, not overwritten: another process may
    be searching in them, and its answers must stay right.

    Raises
    ------
    CollectionLockedError
        When another process keeps a file or the write-ahead log in use; what could be erased has been.
    """
    folder = store.folder
    assert folder is not None  # only collections on disk have files
    text = folder.sub(TEXT_DIRECTORY) if folder.stat(TEXT_DIRECTORY) is not None else None
    with store.write() as connection:  # nobody else is between writing files and committing them
        if has_table(connection, READ_FILES):  # names, and what is left of texts
            connection.execute(f"DELETE FROM {READ_FILES}")
        generations = {store.generation(connection, prefix) for prefix in ("", PREFIX)}
        recorded = store.artifact(connection, "text")
        kept = store.derived(connection) | sparse_files(read_manifest(connection))
        kept_text = recorded["manifest"]["directory"] if recorded is not None else None
        old = [name for name in _leftovers(folder, generations) if name not in kept]
        left = [folder.path / name for name in old if not folder.remove(name)]
        if text is not None:
            old = [name for name in text.names() if name != kept_text]
            left += [text.path / name for name in old if not text.remove_tree(name)]
            text.sync()
            text.close()
    folder.sync()
    if left:
        raise CollectionLockedError(
            f"{left[0]} holds deleted documents and could not be deleted; close the collection in other processes and "
            "compact it again"
        )
    if not store.database.vacuum(patient=True):
        raise CollectionLockedError(
            f"another process reads from {store.database.path}, whose write-ahead log still holds deleted documents; close "
            "it there and compact the collection again"
        )


def _leftovers(folder: Directory, generations: Set[int]) -> Iterator[str]:
    """Yield the names of vector files of other generations, and of graphs, cells and segments of sparse vectors."""
    for name in folder.names():
        match = _GENERATION_FILE.fullmatch(name)
        if match is None:
            if SPARSE_FILE.fullmatch(name):
                yield name
            continue
        # A draft of this generation may still be being written, and holds no document of an earlier one.
        if int(match[1]) not in generations or name.endswith(
            (".graph", ".cells", ".segment", ".centroids", ".postings")
        ):
            yield name
