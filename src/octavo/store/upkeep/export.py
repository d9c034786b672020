"""A collection as plain files that any tool reads: JSON lines and arrays in numpy's own format.

====================  ===========================================================================================
``manifest.json``     what the files hold: settings, codec, encoder, notes, versions, and the SHA-256 of each file
``documents.jsonl``   one JSON object a line: ``id``, ``text``, ``metadata``, ``payload`` (null where there is none)
``vectors.npy``       one decoded vector a document, in the same order, of shape ``(n, dim)``
``tokens.npy``,       in place of ``vectors.npy`` where documents have many vectors: document *i* has rows
``offsets.npy``       ``offsets[i]`` to ``offsets[i + 1] - 1`` of ``tokens``
``sparse-terms.npy``  learned sparse vectors, if there are any: the terms of all documents, one after the other, as uint32,
``sparse-weights.npy``  their weights, as float32,
``sparse-offsets.npy``  and where those of document *i* begin and end
``originals.npy``,    original vectors that are kept beside the codes, if any, of shape ``(m, dim)``, and the number of the
``originals-of.npy``  document (from 0) that each belongs to
``codec.bin`` ...     what the codecs have learned, if they are fitted (`Blueprint`)
====================  ===========================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from octavo._files import fresh_directory, sync_file
from octavo._version import __version__
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.store import _originals
from octavo.store.database import ROW, document_crc, read_manifest, read_notes
from octavo.store.snapshot import Slots, Snapshot, decode_rows
from octavo.store.sparse import SparseReader, SparseView, read_waiting
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.upkeep.blueprint import Blueprint

MANIFEST, DOCUMENTS = "manifest.json", "documents.jsonl"
VECTORS, TOKENS, OFFSETS = "vectors.npy", "tokens.npy", "offsets.npy"
ORIGINALS, ORIGINALS_OF = "originals.npy", "originals-of.npy"

SPARSE = {name: f"sparse-{name}.npy" for name in ("offsets", "terms", "weights")}

#: Files for what codecs have learned, by field of `Blueprint`.
LEARNED = {"codec_state": "codec.bin", "token_codec": "token-codec.bin", "candidate_state": "candidates.bin"}

EXPORT_VERSION = 1

#: Documents read, decoded and written at a time.
_CHUNK = 512
_SPARSE_CHUNK = 8_192


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
    with fresh_directory(destination, "the export") as draft:
        with store.read() as (connection, snapshot):
            manifest = _write_files(store, connection, snapshot, draft, dtype, advance)
        manifest["sha256"] = {entry.name: file_sha256(entry) for entry in sorted(draft.iterdir())}
        with private_file(draft / MANIFEST) as file:
            file.write(json.dumps(manifest, ensure_ascii=True, indent=2).encode())
        for entry in draft.iterdir():
            sync_file(entry)
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
    with private_file(draft / DOCUMENTS) as file, _Arrays(snapshot, draft, dtype, blueprint.dim or 0) as arrays:
        for slots, lines in _documents(connection):
            file.writelines(lines)
            arrays.write(slots)
            advance(len(slots))
    _write_originals(connection, draft, blueprint.dim or 0)
    if snapshot.sparse is not None:
        _write_sparse(connection, snapshot, snapshot.sparse, draft)
    return {
        "octavo_export": EXPORT_VERSION,
        "created_with": __version__,
        "documents": snapshot.n_alive,
        "dim": blueprint.dim,
        "dtype": dtype,
        "codec": blueprint.codec,
        "settings": blueprint.settings,
        "encoder": blueprint.encoder,
        "learned": blueprint.learned,
        "sparse_encoder": blueprint.sparse_encoder,
        "notes": read_notes(connection),
    }


def _write_sparse(connection: Connection, snapshot: Snapshot, view: SparseView, draft: Path) -> None:
    """Write the sparse vectors of all documents, a segment in memory at a time; their number is known at the end."""
    alive = np.flatnonzero(snapshot.alive)
    reader = SparseReader(view, read_waiting(connection, view))
    lengths = np.zeros(len(alive) + 1, np.int64)
    with ExitStack() as stack:
        parts = {
            name: stack.enter_context(private_file(draft / f"{SPARSE[name]}.part")) for name in ("terms", "weights")
        }
        for start in range(0, len(alive), _SPARSE_CHUNK):
            rows = reader.rows(alive[start : start + _SPARSE_CHUNK])
            lengths[start + 1 : start + 1 + len(rows)] = rows.lengths
            parts["terms"].write(rows.terms.astype("<u4").tobytes())
            parts["weights"].write(rows.weights.astype("<f4").tobytes())
    offsets = np.cumsum(lengths)
    with _new_array(draft / SPARSE["offsets"], "int64", offsets.shape) as file:
        file.write(offsets.astype("<i8").tobytes())
    for name, dtype in (("terms", "uint32"), ("weights", "float32")):
        part = draft / f"{SPARSE[name]}.part"
        with _new_array(draft / SPARSE[name], dtype, (int(offsets[-1]),)) as file, part.open("rb") as source:
            shutil.copyfileobj(source, file)
        part.unlink()


def _write_originals(connection: Connection, draft: Path, dim: int) -> None:
    kept = _originals.read(connection, dim) if dim else {}
    if not kept:
        return
    slots = np.fromiter((row[0] for row in connection.execute("SELECT slot FROM documents ORDER BY slot")), np.int64)
    owners = np.searchsorted(slots, np.fromiter(kept, np.int64, len(kept)))
    flat = np.concatenate(list(kept.values()))
    of = np.repeat(owners, [len(matrix) for matrix in kept.values()])
    for name, array, dtype in ((ORIGINALS, flat, "float32"), (ORIGINALS_OF, of, "int64")):
        with _new_array(draft / name, dtype, array.shape) as file:
            little = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
            file.write(little.reshape(-1).view(np.uint8).data)


def _documents(connection: Connection) -> Iterator[tuple[Slots, list[bytes]]]:
    rows = connection.execute(f"SELECT slot, {ROW} FROM documents ORDER BY slot")
    while part := list(islice(rows, _CHUNK)):
        lines = []
        for _, *row, crc in part:
            identifier, text, metadata, payload, embed_text, flags = row
            if document_crc(identifier, text, metadata, payload, embed_text, flags) != crc:
                raise CorruptCollectionError(
                    f"the stored document {identifier!r} does not match its checksum; run verify(repair=True)"
                )
            given = [json.dumps(value, ensure_ascii=False) for value in (identifier, text, payload, embed_text)]
            # metadata is JSON already
            line = '{{"id":{},"text":{},"metadata":{},"payload":{}'.format(*given[:2], metadata, given[2])
            if embed_text is not None:
                line += f',"embed_text":{given[3]}'
            lines.append((line + (f',"flags":{flags}' if flags else "") + "}\n").encode())
        yield np.array([row[0] for row in part], np.int64), lines


class _Arrays:
    """The vectors of an export, written in order.

    They are written, not mapped: on a full disk, storing to a map of a file with holes ends the process.
    """

    def __init__(self, snapshot: Snapshot, draft: Path, dtype: str, dim: int) -> None:
        self._snapshot = snapshot
        self._tokens_done = 0
        n = snapshot.n_alive
        if snapshot.tokens is None:
            self._files = [_new_array(draft / VECTORS, dtype, (n, dim))]
        else:
            alive = np.flatnonzero(snapshot.alive)
            snapshot.tokens.check_offsets(alive)
            n_tokens = int(snapshot.tokens.lengths(alive).sum())
            self._files = [
                _new_array(draft / TOKENS, dtype, (n_tokens, dim)),
                _new_array(draft / OFFSETS, "int64", (n + 1,)),
            ]
            self._put(1, np.zeros(1), "int64")
        self._dtype = dtype

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files:
            file.close()

    def write(self, slots: Slots) -> None:
        """Write what belongs to the next documents."""
        if self._snapshot.tokens is None:
            self._put(0, decode_rows(self._snapshot, slots), self._dtype)
            return
        matrices = self._snapshot.tokens.decode(slots)
        self._put(0, matrices.flat, self._dtype)
        self._put(1, self._tokens_done + matrices.offsets[1:], "int64")
        self._tokens_done += len(matrices.flat)

    def _put(self, number: int, values: npt.NDArray[Any], dtype: str) -> None:
        with np.errstate(over="ignore"):
            little = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
        self._files[number].write(little.reshape(-1).view(np.uint8).data)


def _new_array(path: Path, dtype: str, shape: tuple[int, ...]) -> IO[bytes]:
    """Begin a file in numpy's format; the values follow."""
    file = private_file(path)
    header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def private_file(path: Path) -> IO[bytes]:
    """Create a file that only its owner can read, whatever the umask."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
    return os.fdopen(fd, "wb")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
