"""A collection as plain files that any tool reads: JSON lines and arrays in numpy's own format.

====================  ===========================================================================================
``manifest.json``     what the files hold: settings, codec, encoder, versions, and the SHA-256 of each file
``documents.jsonl``   one JSON object a line: ``id``, ``text``, ``metadata``, ``payload`` (null where there is none)
``vectors.npy``       one decoded vector a document, in the same order, of shape ``(n, dim)``
``tokens.npy``,       in place of ``vectors.npy`` where documents have many vectors: document *i* has rows
``offsets.npy``       ``offsets[i]`` to ``offsets[i + 1] - 1`` of ``tokens``
``codec.bin`` ...     what the codecs have learned, if they are fitted (`Blueprint`)
====================  ===========================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from octavo._files import make_directory, put_in_place, storage_errors, sync_directory, sync_file
from octavo._version import __version__
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.store.database import document_crc, read_manifest
from octavo.store.snapshot import Slots, Snapshot
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.upkeep.blueprint import Blueprint
from octavo.store.writer import decode_rows

MANIFEST, DOCUMENTS = "manifest.json", "documents.jsonl"
VECTORS, TOKENS, OFFSETS = "vectors.npy", "tokens.npy", "offsets.npy"

#: Files for what codecs have learned, by field of `Blueprint`.
LEARNED = {"codec_state": "codec.bin", "token_codec": "token-codec.bin", "candidate_state": "candidates.bin"}

EXPORT_VERSION = 1

#: Documents read, decoded and written at a time.
_CHUNK = 512


def export_store(
    store: Store,
    destination: Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    advance: Callable[[int], object] = lambda n: None,
) -> int:
    """Write one committed state as plain files; returns the number of documents.

    Parameters
    ----------
    store : Store
        What to export; others may go on writing to it.
    destination : Path
        A directory that does not exist or is empty. It appears in one step, complete.
    dtype : {"float32", "float16"}, default="float32"
        How vectors are written.
    advance : callable, optional
        Told the number of documents done from time to time.

    Raises
    ------
    ParameterError
        When there is something at `destination`, or `dtype` is another.
    CorruptCollectionError
        When something does not match its checksum.
    """
    if dtype not in ("float32", "float16"):
        raise ParameterError(f"expected dtype 'float32' or 'float16', got {dtype!r}")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ParameterError(f"expected a new or empty directory for the export, but {destination} holds something")
    make_directory(destination.parent)
    draft = destination.parent / f".{destination.name}.{uuid.uuid4().hex}.tmp"
    try:
        with storage_errors(destination):
            draft.mkdir(mode=0o700)
            with store.read() as (connection, snapshot):
                manifest = _write_files(store, connection, snapshot, draft, dtype, advance)
            manifest["sha256"] = {entry.name: file_sha256(entry) for entry in sorted(draft.iterdir())}
            with private_file(draft / MANIFEST) as file:
                file.write(json.dumps(manifest, ensure_ascii=True, indent=2).encode())
            for entry in draft.iterdir():
                sync_file(entry)
            sync_directory(draft)
            put_in_place(draft, destination)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return int(manifest["documents"])


def _write_files(
    store: Store,
    connection: Connection,
    snapshot: Snapshot,
    draft: Path,
    dtype: str,
    advance: Callable[[int], object],
) -> dict[str, Any]:
    blueprint = Blueprint.from_manifest(read_manifest(connection), store.settings)
    for field, name in LEARNED.items():
        learned = getattr(blueprint, field)
        if learned is not None:
            with private_file(draft / name) as file:
                file.write(learned)
    arrays = _Arrays(snapshot, draft, dtype, blueprint.dim or 0)
    with private_file(draft / DOCUMENTS) as file:
        for slots, lines in _documents(connection):
            file.writelines(lines)
            arrays.write(slots)
            advance(len(slots))
    return {
        "octavo_export": EXPORT_VERSION,
        "created_with": __version__,
        "documents": snapshot.n_alive,
        "dim": blueprint.dim,
        "dtype": dtype,
        "codec": blueprint.codec,
        "settings": blueprint.settings,
        "encoder": blueprint.encoder,
    }


def _documents(connection: Connection) -> Iterator[tuple[Slots, list[bytes]]]:
    rows = connection.execute("SELECT slot, id, text, metadata, payload, crc FROM documents ORDER BY slot")
    while part := list(islice(rows, _CHUNK)):
        lines = []
        for _, identifier, text, metadata, payload, crc in part:
            if document_crc(identifier, text, metadata, payload) != crc:
                raise CorruptCollectionError(
                    f"the stored document {identifier!r} does not match its checksum; run verify(repair=True)"
                )
            given = [json.dumps(value, ensure_ascii=False) for value in (identifier, text, payload)]
            # metadata is JSON already
            lines.append(
                '{{"id":{},"text":{},"metadata":{},"payload":{}}}\n'.format(*given[:2], metadata, given[2]).encode()
            )
        yield np.array([row[0] for row in part], np.int64), lines


class _Arrays:
    """The vectors of an export, written in order through memory maps."""

    def __init__(self, snapshot: Snapshot, draft: Path, dtype: str, dim: int) -> None:
        self._snapshot = snapshot
        self._done = 0
        self._tokens_done = 0
        self._vectors: Any = None
        n = snapshot.n_alive
        if snapshot.tokens is None:
            self._vectors = _new_array(draft / VECTORS, dtype, (n, dim))
        else:
            alive = np.flatnonzero(snapshot.alive)
            snapshot.tokens.check_offsets(alive)
            self._tokens = _new_array(draft / TOKENS, dtype, (int(snapshot.tokens.lengths(alive).sum()), dim))
            self._offsets = _new_array(draft / OFFSETS, "int64", (n + 1,))

    def write(self, slots: Slots) -> None:
        """Write what belongs to the next documents."""
        if self._vectors is not None:
            self._vectors[self._done : self._done + len(slots)] = decode_rows(self._snapshot, slots)
        else:
            assert self._snapshot.tokens is not None
            matrices = self._snapshot.tokens.decode(slots)
            end = self._tokens_done + len(matrices.flat)
            self._tokens[self._tokens_done : end] = matrices.flat
            self._offsets[self._done : self._done + len(slots) + 1] = self._tokens_done + matrices.offsets
            self._tokens_done = end
        self._done += len(slots)


def _new_array(path: Path, dtype: str, shape: tuple[int, ...]) -> Any:
    private_file(path).close()
    if 0 in shape:  # there is nothing to map
        with path.open("wb") as file:
            np.save(file, np.zeros(shape, dtype), allow_pickle=False)
        return np.zeros(shape, dtype)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)


def private_file(path: Path) -> IO[bytes]:
    """Create a file that only its owner can read, whatever the umask."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
    return os.fdopen(fd, "wb")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
