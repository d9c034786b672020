"""Removing what deletion leaves behind: earlier files, pages of the database that are free, the write-ahead log."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from octavo._files import remove, sync_directory
from octavo.errors import CollectionLockedError
from octavo.store.database import read_manifest
from octavo.store.store import Store
from octavo.store.text.files import DIRECTORY_NAME

_GENERATION_FILE = re.compile(r"g(\d{6,})-(?:(?:\d+|tokens|offsets)\.vec|[0-9a-f]{32}\.graph(?:\.tmp)?)")


def erase_leftovers(store: Store) -> None:
    """Delete every file of the collection that the newest commit does not name, and rewrite the database without gaps.

    Call it after a compaction that has written a new generation. Files are deleted, not overwritten: another process may
    be searching in them, and its answers must stay right.

    Raises
    ------
    CollectionLockedError
        When another process keeps a file or the write-ahead log in use; what could be erased has been.
    """
    directory = store.directory
    assert directory is not None  # only collections on disk have files
    with store.database.write() as connection:  # nobody else is between writing files and committing them
        generation = int(read_manifest(connection)["generation"])
        graph, text = store.artifact(connection, "graph"), store.artifact(connection, "text")
        kept = {
            graph["file"] if graph is not None else None,
            text["manifest"]["directory"] if text is not None else None,
        }
        old = [path for path in _leftovers(directory, generation) if path.name not in kept]
        for path in old:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                remove(path)
    sync_directory(directory)
    left = [path for path in old if path.exists()]
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


def _leftovers(directory: Path, generation: int) -> Iterator[Path]:
    """Yield vector files of other generations, graphs, and the directories of the full-text index."""
    for entry in directory.iterdir():
        match = _GENERATION_FILE.fullmatch(entry.name)
        if match is None:
            continue
        # A graph draft of this generation may still be being written, and holds no document of an earlier one.
        current = int(match[1]) == generation
        if not current or entry.suffix == ".graph":
            yield entry
    text = directory / DIRECTORY_NAME
    if text.is_dir():
        yield from text.iterdir()
