"""A consistent copy of a collection, made while it is being written to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from octavo._files import Directory, HeldFile, fresh_directory, storage_errors, sync_file
from octavo.errors import CorruptCollectionError
from octavo.store.database import DATABASE_NAME
from octavo.store.reencoding import PREFIX
from octavo.store.settings import DERIVED
from octavo.store.snapshot import Snapshot
from octavo.store.sparse import copy_segments
from octavo.store.sqlite import Connection, connect_file, fold_on_close, prepare_empty, translate_errors
from octavo.store.store import Store, derived_files, new_identity, vector_name
from octavo.store.tokens import OFFSETS, TOKENS
from octavo.store.vectors import Codes, VectorFile


def copy_collection(store: Store, destination: Path | None) -> Store | None:
    """Copy one committed state.

    Parameters
    ----------
    store : Store
        What to copy; others may go on writing to it.
    destination : Path or None
        A directory that does not exist or is empty; None copies into memory.

    Returns
    -------
    Store or None
        The copy, when it is in memory.

    Raises
    ------
    ParameterError
        When there is something at the destination.
    """
    if destination is None:
        return _copy_to_memory(store)
    with fresh_directory(destination, "the copy") as draft:
        write_copy(store, draft)
    return None


def write_copy(store: Store, draft: Path) -> None:
    """Copy one committed state into an empty directory that nobody else uses."""
    folder = Directory(draft)
    try:
        with store.read() as (connection, snapshot):
            _write_files(store, connection, snapshot, folder)
    finally:
        folder.close()


def _write_files(store: Store, connection: Connection, snapshot: Snapshot, draft: Directory) -> None:
    for generation, name, rows in _checked_rows(snapshot):
        file = VectorFile(draft, vector_name(generation, name), rows.shape[1])
        file.write(0, rows)
        file.sync()
        file.close()
    sparse = copy_segments(snapshot.sparse, draft) if snapshot.sparse is not None else None
    derived = ["text"]  # rebuilt by the next text search
    names = [f"{prefix}{index}" for prefix in ("", PREFIX) for index in DERIVED]
    recorded = {name: derived_files(name.removeprefix(PREFIX), store.artifact(connection, name)) for name in names}
    derived += [index for index, names in recorded.items() if not all(_copy_file(store, name, draft) for name in names)]
    path = draft.path / DATABASE_NAME
    os.close(draft.open(DATABASE_NAME, os.O_CREAT | os.O_EXCL | os.O_RDWR))
    with translate_errors(path), closing(connect_file(path, patience=0)) as target:
        prepare_empty(target)
        connection.copy_into(target)
        target.executemany("DELETE FROM artifacts WHERE name = ?", [(name,) for name in derived])
        target.execute("UPDATE manifest SET value = ? WHERE key = 'identity'", (new_identity(),))
        if sparse is not None:  # of a collection in memory they had neither length nor checksum
            target.execute("UPDATE manifest SET value = ? WHERE key = 'sparse'", (sparse,))
        fold_on_close(target)
    sync_file(path)


def _checked_rows(snapshot: Snapshot) -> Iterator[tuple[int, int | str, Codes]]:
    """Yield generation, name and verified rows of each vector file, in every space."""
    for space in snapshot.spaces:
        for number, tier in enumerate(space.tiers):
            tier.check()
            yield space.generation, number, tier.codes
        if space.tokens is not None:
            space.tokens.check()
            yield space.generation, TOKENS, space.tokens.codes
            yield space.generation, OFFSETS, space.tokens.offset_rows


def _copy_file(store: Store, name: str, draft: Directory) -> bool:
    assert store.folder is not None  # only collections on disk have such files
    try:
        source = store.folder.hold(name)
    except (OSError, CorruptCollectionError):
        return False  # replaced meanwhile: the copy builds its own
    file = HeldFile(draft.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY), writable=True)
    with storage_errors(draft.path / name), os.fdopen(os.dup(file.fd), "wb") as target:
        target.writelines(source.read_blocks())
        target.flush()
        os.fsync(file.fd)
    return True


def _copy_to_memory(store: Store) -> Store:
    settings = store.settings
    copy = Store(None, replace(settings, read_only=False, must_exist=False))
    with store.read() as (connection, snapshot):
        for generation, name, rows in _checked_rows(snapshot):
            copy.new_vector_file(generation, name, rows.shape[1]).write(0, rows)
        if snapshot.sparse is not None:
            copy.shelf.take_over(snapshot.sparse)
        copy.database.load_from(connection)
    with copy.database.write() as connection:  # what was loaded is not yet the copy's own
        connection.execute("DELETE FROM artifacts")
        connection.execute("UPDATE manifest SET value = ? WHERE key = 'identity'", (copy.identity,))
    with copy.read():
        pass
    return copy
