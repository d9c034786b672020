"""A consistent copy of a collection, made while it is being written to."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from octavo._files import make_directory, put_in_place, storage_errors, sync_directory, sync_file
from octavo.errors import ParameterError
from octavo.store.database import DATABASE_NAME
from octavo.store.snapshot import Snapshot
from octavo.store.sqlite import Connection, connect_file, fold_on_close, prepare_empty, translate_errors
from octavo.store.store import Store
from octavo.store.tokens import OFFSETS, TOKENS
from octavo.store.vectors import VectorFile


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
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ParameterError(f"expected a new or empty directory for the copy, but {destination} holds something")
    make_directory(destination.parent)
    draft = destination.parent / f".{destination.name}.{uuid.uuid4().hex}.tmp"
    try:
        with storage_errors(destination):
            draft.mkdir(mode=0o700)
            with store.read() as (connection, snapshot):
                _write_files(store, connection, snapshot, draft)
            put_in_place(draft, destination)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return None


def _write_files(store: Store, connection: Connection, snapshot: Snapshot, draft: Path) -> None:
    for number, tier in enumerate(snapshot.tiers):
        tier.check()
        file = VectorFile(draft / f"g{snapshot.generation:06d}-{number}.vec", tier.layout.row_bytes)
        file.write(0, tier.codes)
        file.sync()
        file.close()
    if snapshot.tokens is not None:
        tokens = snapshot.tokens
        tokens.check()
        for name, rows in ((TOKENS, tokens.codes), (OFFSETS, tokens.offset_rows)):
            file = VectorFile(draft / f"g{snapshot.generation:06d}-{name}.vec", rows.shape[1])
            file.write(0, rows)
            file.sync()
            file.close()
    derived = ["text"]  # rebuilt by the next text search
    graph = store.artifact(connection, "graph")
    if graph is not None and not _copy_graph(store, graph, draft):
        derived.append("graph")
    path = draft / DATABASE_NAME
    with storage_errors(path, "created"):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with translate_errors(path), closing(connect_file(path, patience=0)) as target:
        prepare_empty(target)
        connection.copy_into(target)
        target.executemany("DELETE FROM artifacts WHERE name = ?", [(name,) for name in derived])
        fold_on_close(target)
    sync_file(path)
    sync_directory(draft)


def _copy_graph(store: Store, entry: dict[str, object], draft: Path) -> bool:
    assert store.directory is not None  # only collections on disk have graph files
    name = str(entry["file"])
    try:
        shutil.copyfile(store.directory / name, draft / name)
    except OSError:
        return False  # replaced meanwhile: the copy builds its own
    os.chmod(draft / name, 0o600)
    sync_file(draft / name)
    return True


def _copy_to_memory(store: Store) -> Store:
    settings = store.settings
    copy = Store(None, replace(settings, read_only=False, must_exist=False))
    with store.read() as (connection, snapshot):
        for number, tier in enumerate(snapshot.tiers):
            tier.check()
            copy.new_vector_file(snapshot.generation, number, tier.layout.row_bytes).write(0, tier.codes)
        if snapshot.tokens is not None:
            tokens = snapshot.tokens
            tokens.check()
            for name, rows in ((TOKENS, tokens.codes), (OFFSETS, tokens.offset_rows)):
                copy.new_vector_file(snapshot.generation, name, rows.shape[1]).write(0, rows)
        copy.database.load_from(connection)
    with copy.database.write() as connection:
        connection.execute("DELETE FROM artifacts")
    with copy.read():
        pass
    return copy
