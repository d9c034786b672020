"""A collection from what `Collection.export` or `Collection.snapshot` wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._files import as_path, followed, fresh_directory, is_occupied
from octavo._sparse_rows import SparseRows
from octavo._validation import check_integer
from octavo.collection.collection import Collection, with_progress
from octavo.collection.opening import open_store
from octavo.collection.rebuild import open_from_blueprint, stored_batch
from octavo.compression import Codec
from octavo.errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    InputTypeError,
    InvalidVectorsError,
    OctavoError,
    ParameterError,
)
from octavo.store.database import EMBED_WORDS
from octavo.store.documents import Batch, Document, metadata_from_tagged
from octavo.store.settings import Settings
from octavo.store.upkeep.backup import restore_collection
from octavo.store.upkeep.blueprint import Blueprint
from octavo.store.upkeep.export import (
    DOCUMENTS,
    EXPORT_VERSION,
    LEARNED,
    MANIFEST,
    OFFSETS,
    ORIGINALS,
    ORIGINALS_OF,
    SPARSE,
    TOKENS,
    VECTORS,
    file_sha256,
)


def import_from(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    encoder: Any = None,
    *,
    sparse: Any = None,
    codec: str | None = None,
    batch_size: int = 2048,
    progress: bool = False,
) -> Collection:
    """Build a collection from what `Collection.export` wrote.

    Parameters
    ----------
    folder : str or path-like
        The export. Every file is compared with its checksum first; links are followed, since files are only read, and only
        those with the names of an export.
    path : str, path-like or None
        A directory that does not exist or is empty; the collection appears there in one step, complete. None builds it
        in memory.
    encoder : object, optional
        As in `octavo.open`.
    sparse : object, optional
        As in `octavo.open`.
    codec : str, optional
        Another codec, fitted anew on the exported vectors. None keeps the exported one with all it has learned.
    batch_size : int, default=2048
        Documents read and committed at a time.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    Collection
        Open; a `MultiVectorCollection` if that was exported.

    Raises
    ------
    CollectionNotFoundError
        When there is no export in `folder`.
    CorruptCollectionError
        When a file does not match its checksum, or does not hold what it should.
    ParameterError
        When there is something at `path`, or `codec` cannot be used.

    Examples
    --------
    >>> import tempfile, octavo
    >>> folder = tempfile.TemporaryDirectory()
    >>> with octavo.open() as kb:
    ...     _ = kb.add(["red"], ids=["r"], vectors=[[1.0, 0.0]], metadata=[{"warm": True}])
    ...     _ = kb.export(f"{folder.name}/out")
    >>> with octavo.import_from(f"{folder.name}/out") as kb:
    ...     kb.get(["r"])
    [Document(id='r', text='red', metadata={'warm': True})]
    >>> folder.cleanup()
    """
    batch_size = check_integer(batch_size, "batch_size", least=1)
    source = as_path(folder, "folder")
    if codec is not None:
        codec = str(Codec.parse(codec))
    destination = as_path(path, "path") if path is not None else None
    if destination is not None and is_occupied(followed(destination)):  # before the files are read
        raise ParameterError(f"expected a new or empty directory for the collection, but {destination} holds something")
    export = _Export(source)
    blueprint = export.blueprint(codec)
    if destination is None:
        collection = open_from_blueprint(None, blueprint, encoder, sparse)
        try:
            export.fill(collection, batch_size, progress=progress)
            export.keep_originals(collection, blueprint)
            export.keep_notes(collection)
        except BaseException:
            collection.close()
            raise
        return collection
    with (
        fresh_directory(destination, "the collection") as draft,
        closing(open_from_blueprint(draft, blueprint)) as collection,
    ):
        export.fill(collection, batch_size, progress=progress)
        export.keep_originals(collection, blueprint)
        export.keep_notes(collection)
    return open_store(destination, encoder, Settings(must_exist=True), sparse)


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


class _Export:
    """An export, checked; only files of known names in its folder are read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise CollectionNotFoundError(f"there is no export at {folder}: it has no {MANIFEST}")
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            version, sums = manifest["octavo_export"], dict(manifest["sha256"])
            self.n, self.dim = int(manifest["documents"]), manifest["dim"]
            self.dtype = np.dtype({"float32": "<f4", "float16": "<f2"}[manifest["dtype"]])
            self.late = bool(manifest["settings"].get("multi_vector"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            raise CorruptCollectionError(f"{folder / MANIFEST} cannot be read ({err!r}); export again") from err
        if version != EXPORT_VERSION:
            raise CorruptCollectionError(
                f"{folder / MANIFEST} says version {version!r}, this version of Octavo reads {EXPORT_VERSION}"
            )
        self.manifest: dict[str, Any] = manifest
        self._sums = sums
        for name in (DOCUMENTS, TOKENS, OFFSETS) if self.late and TOKENS in sums else (DOCUMENTS, VECTORS):
            self._verify(name)
        if ORIGINALS in sums:
            self._verify(ORIGINALS)
            self._verify(ORIGINALS_OF)
        self.sparse = SPARSE["terms"] in sums
        if self.sparse:
            for name in SPARSE.values():
                self._verify(name)
        self.learned = {field: self._read(name) for field, name in LEARNED.items() if name in sums}

    def _verify(self, name: str) -> None:
        path = self.folder / name
        try:
            good = file_sha256(path) == self._sums.get(name)
        except OSError as err:
            raise CorruptCollectionError(f"the export lacks a readable {path} ({err.strerror}); export again") from err
        if not good:
            raise CorruptCollectionError(f"{path} does not match its checksum in {MANIFEST}; export again")

    def _read(self, name: str) -> bytes:
        self._verify(name)
        return (self.folder / name).read_bytes()

    def blueprint(self, codec: str | None) -> Blueprint:
        """Return what the collection is to be made with."""
        keep = codec is None
        encoder = self.manifest.get("encoder")
        learned: dict[str, Any] = self.learned
        if encoder is not None and not (isinstance(encoder, dict) and {"name", "dim"} <= set(encoder)):
            raise CorruptCollectionError(f"{self.folder / MANIFEST} describes its encoder as {encoder!r}; export again")
        try:
            made = Blueprint(
                settings=self.manifest["settings"],
                codec=codec or self.manifest["codec"],
                dim=self.dim,
                encoder=encoder,
                sparse_encoder=self._sparse_encoder(),
                **(learned if keep else {}),
            )
            made.as_settings(Settings())
        except (TypeError, KeyError, OctavoError) as err:
            if isinstance(err, OctavoError) and not keep:
                raise
            raise CorruptCollectionError(f"{self.folder / MANIFEST} cannot be used ({err}); export again") from err
        return made

    def _sparse_encoder(self) -> dict[str, Any] | None:
        entry = self.manifest.get("sparse_encoder")
        if entry is not None and not (isinstance(entry, dict) and isinstance(entry.get("name"), str)):
            raise CorruptCollectionError(
                f"{self.folder / MANIFEST} describes its sparse encoder as {entry!r}; export again"
            )
        return entry if self.sparse else None

    def _sparse_rows(self) -> SparseRows | None:
        """Return the sparse vectors of all documents, mapped from their files."""
        if not self.sparse:
            return None
        kinds = {"offsets": "<i8", "terms": "<u4", "weights": "<f4"}
        offsets, terms, weights = (self._array(SPARSE[name], np.dtype(kind), 1) for name, kind in kinds.items())
        sound = len(offsets) == self.n + 1 and offsets[0] == 0 and offsets[-1] == len(terms) == len(weights)
        if not sound or np.any(np.diff(offsets) < 0):
            raise CorruptCollectionError(f"{self.folder / SPARSE['offsets']} does not fit its terms; export again")
        return SparseRows(np.asarray(offsets, np.int64), terms, weights)

    def fill(self, collection: Collection, batch_size: int, *, progress: bool) -> None:
        """Add all documents."""
        batches = self._batches(collection, batch_size)
        added = collection._add_batches(with_progress(batches, range(self.n)) if progress else batches)
        if len(added) != self.n or len(collection) != self.n:
            raise CorruptCollectionError(
                f"{self.folder} should hold {self.n} documents of different ids, but has {len(added)} with "
                f"{len(collection)} ids; export again"
            )

    def keep_originals(self, collection: Collection, blueprint: Blueprint) -> None:
        """Hand over the original vectors that were kept, where the codec that was learned from them is kept as well."""
        learned = self.manifest.get("learned")
        if blueprint.codec_state is None or not isinstance(learned, str):
            return
        ids: list[str] = []
        matrices: list[Floats] = []
        if ORIGINALS in self._sums:
            vectors, owners = self._array(ORIGINALS, np.dtype("<f4"), 2), self._array(ORIGINALS_OF, np.dtype("<i8"), 1)
            if len(vectors) != len(owners) or not np.isfinite(vectors).all():
                raise CorruptCollectionError(f"{self.folder / ORIGINALS_OF} does not fit {ORIGINALS}; export again")
            starts = np.flatnonzero(np.diff(owners, prepend=-1))
            names = self._ids(owners[starts])
            ids = [names[owner] for owner in owners[starts].tolist()]
            matrices = [np.asarray(part, np.float32) for part in np.split(vectors, starts[1:])]
        collection._writer.keep_originals(learned, ids, matrices)

    def keep_notes(self, collection: Collection) -> None:
        """Hand over the notes; exports of earlier versions have none."""
        notes = self.manifest.get("notes", {})
        try:
            for name, text in notes.items():
                collection.set_note(name, text)
        except (AttributeError, ParameterError, InputTypeError) as err:
            raise CorruptCollectionError(
                f"{self.folder / MANIFEST} has notes that are none ({err}); export again"
            ) from err

    def _ids(self, numbers: npt.NDArray[np.int64]) -> dict[int, str]:
        wanted = set(numbers.tolist())
        with (self.folder / DOCUMENTS).open("rb") as file:
            found = {number: self._document(line, number)[0].id for number, line in enumerate(file) if number in wanted}
        if len(found) != len(numbers):
            raise CorruptCollectionError(
                f"{self.folder / ORIGINALS_OF} names documents that are not there; export again"
            )
        return found

    def _batches(self, collection: Collection, batch_size: int) -> Iterator[Batch]:
        if self.late and TOKENS in self._sums:
            tokens, offsets = self._array(TOKENS, self.dtype, 2), self._array(OFFSETS, np.dtype("<i8"), 1)
            if (
                len(offsets) != self.n + 1
                or offsets[0] != 0
                or offsets[-1] != len(tokens)
                or np.any(np.diff(offsets) < 0)
            ):
                raise CorruptCollectionError(f"{self.folder / OFFSETS} does not fit {TOKENS}; export again")
        else:
            vectors = self._array(VECTORS, self.dtype, 2)
            if len(vectors) != self.n:
                raise CorruptCollectionError(
                    f"{self.folder / VECTORS} has {len(vectors)} rows, expected {self.n}; export again"
                )
        start, sparse = 0, self._sparse_rows()
        with (self.folder / DOCUMENTS).open("rb") as file:
            while lines := list(islice(file, batch_size)):
                rows = [self._document(line, start + number) for number, line in enumerate(lines)]
                end = start + len(rows)
                if end > self.n:
                    raise CorruptCollectionError(
                        f"{self.folder / DOCUMENTS} has more than {self.n} lines; export again"
                    )
                given: dict[str, Any] = {}
                if not self.late:
                    given["vectors"] = np.asarray(vectors[start:end], np.float32)
                elif TOKENS in self._sums:
                    bounds = offsets[start : end + 1]
                    given["token_vectors"] = [
                        np.asarray(tokens[first:last], np.float32) for first, last in pairwise(bounds)
                    ]
                if sparse is not None:
                    given["sparse_vectors"] = self._checked_sparse(sparse, start, end)
                documents = [document for document, _ in rows]
                yield stored_batch(collection, documents, payloads=[payload for _, payload in rows], **given)
                start = end

    def _checked_sparse(self, sparse: SparseRows, start: int, end: int) -> SparseRows:
        try:
            return SparseRows.of([sparse[number] for number in range(start, end)])
        except (InvalidVectorsError, InputTypeError) as err:
            raise CorruptCollectionError(
                f"{self.folder / SPARSE['terms']} cannot be used ({err}); export again"
            ) from err

    def _document(self, line: bytes, number: int) -> tuple[Document, str | None]:
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise TypeError(f"expected an object, got {type(record).__name__}")
            words = bool(record.get("flags", 0) & EMBED_WORDS)
            metadata = metadata_from_tagged(record["metadata"])
            made = Document(record["id"], record["text"], metadata, record.get("embed_text"), words)
            return made, record["payload"]
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise CorruptCollectionError(
                f"line {number + 1} of {self.folder / DOCUMENTS} is not a document ({err!r}); export again"
            ) from err

    def _array(self, name: str, dtype: np.dtype[Any], axes: int) -> Any:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                shape, _, found = np.lib.format.read_array_header_1_0(file)
            # numpy cannot map an array without elements, and would otherwise take the header's word for the memory it needs
            array = np.zeros(shape, found) if 0 in shape else np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError) as err:
            raise CorruptCollectionError(f"{path} cannot be read ({err}); export again") from err
        fits = array.ndim == axes and array.dtype == dtype
        if not fits or (axes == 2 and array.size and array.shape[1] != self.dim):
            raise CorruptCollectionError(
                f"{path} holds {array.dtype} of shape {array.shape}, expected {dtype} with {axes} axes and "
                f"dimension {self.dim}; export again"
            )
        return array
