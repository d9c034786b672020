"""Chroma's persistent directories, read through the ``chromadb`` package from a copy."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from octavo._files import as_path
from octavo.errors import MissingExtraError
from octavo.ingest.importing._taking_over import ImportReport, Records, Wishes, as_text, chosen, take_over
from octavo.ingest.rows import SourceError

_DATABASE = "chroma.sqlite3"

_DISTANCES = {"cosine": "cosine", "ip": "dot", "l2": "l2"}


def import_chroma(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    encoder: Any = None,
    *,
    collection: str | None = None,
    metric: str | None = None,
    codec: str | None = None,
    batch_size: int = 1024,
    progress: bool = False,
) -> ImportReport:
    """Build a collection from one of a persistent Chroma directory, such as ``chromadb.PersistentClient(folder)`` writes.

    Ids, documents, metadata and vectors are taken over. The package ``chromadb`` reads them (version 1 or later: earlier ones
    unpickle a file of the directory, which could run any program). It writes into a directory that it opens, so it is given a
    copy, in the folder for temporary files (``TMPDIR``).

    Parameters
    ----------
    folder : str or path-like
        The directory, with ``chroma.sqlite3`` in it. Nobody should be writing to it.
    path : str or path-like
        A directory that does not exist or is empty; the collection appears there in one step, complete, or not at all.
    encoder : object, optional
        As in `import_faiss`.
    collection : str, optional
        Which of its collections; needed where there are several.
    metric : {"cosine", "dot"}, optional
        How the collection compares. None takes the one that ranks as Chroma does.
    codec : str, optional
        Compression of the collection; default ``"int8"``.
    batch_size : int, default=1024
        Documents written at a time.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    ImportReport
        What was taken, what was left out and why.

    Raises
    ------
    SourceError, MismatchError, ParameterError
        As `import_faiss`.
    MissingExtraError
        When ``chromadb`` is not installed, or too old.

    Examples
    --------
    >>> from octavo.ingest.importing import import_chroma
    >>> import_chroma("no-such-folder", "kb")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    octavo.ingest.rows.SourceError: expected a directory of Chroma, but there is no ...no-such-folder/chroma.sqlite3
    """
    wishes = Wishes.of(path, encoder, metric, codec, batch_size, progress)
    place = as_path(folder, "folder")
    if not (place / _DATABASE).is_file():
        raise SourceError(f"expected a directory of Chroma, but there is no {place / _DATABASE}")
    chromadb = _library()
    with _copy_of(place) as copy, _client(chromadb, copy, place) as client:
        try:
            names = [held.name for held in client.list_collections()]
        except Exception as error:  # of many kinds, from its own core
            raise SourceError(f"Chroma cannot read {place}: {error}") from error
        name = chosen(names, collection, "collection", str(place), "collection=")
        store = _Chroma(client, place, name, left=len(names) - 1)
        return take_over(store, wishes)


def _library() -> Any:
    try:
        chromadb: Any = importlib.import_module("chromadb")
    except ModuleNotFoundError as error:
        if error.name != "chromadb":
            raise
        raise MissingExtraError(
            "importing from Chroma needs chromadb. Install it: pip install 'octavo[import-chroma]'"
        ) from None
    if int(chromadb.__version__.split(".")[0]) < 1:
        raise MissingExtraError(
            f"importing from Chroma needs chromadb 1.0 or later, found {chromadb.__version__}, which would run what a "
            "directory has in its pickle. Install it: pip install 'octavo[import-chroma]'"
        )
    return chromadb


@contextlib.contextmanager
def _copy_of(place: Path) -> Iterator[Path]:
    """Copy the database and the folders of indexes beside it: ordinary files alone."""
    with tempfile.TemporaryDirectory(prefix="octavo-chroma-") as folder:
        copy = Path(folder)
        try:
            for held in sorted(place.iterdir()):
                if held.name.startswith(_DATABASE) and _is_ordinary(held):
                    shutil.copyfile(held, copy / held.name)
                elif held.is_dir() and not held.is_symlink():
                    (copy / held.name).mkdir()
                    for inner in sorted(held.iterdir()):
                        if _is_ordinary(inner):
                            shutil.copyfile(inner, copy / held.name / inner.name)
        except OSError as error:
            raise SourceError(
                f"{place} cannot be copied into {folder} to be read ({error}); TMPDIR names another place"
            ) from error
        yield copy


def _is_ordinary(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


@contextlib.contextmanager
def _client(chromadb: Any, copy: Path, place: Path) -> Iterator[Any]:
    # its own core, which reads a pickle as data; the environment could name another
    settings = chromadb.config.Settings(anonymized_telemetry=False, chroma_api_impl="chromadb.api.rust.RustBindingsAPI")
    try:
        client = chromadb.PersistentClient(str(copy), settings=settings)
    except Exception as error:  # of many kinds, from its own core
        raise SourceError(f"Chroma cannot open {place}: {error}") from error
    try:
        yield client
    finally:
        close = getattr(client, "close", None)
        if close is not None:
            close()


class _Chroma:
    """A collection of Chroma's."""

    def __init__(self, client: Any, place: Path, name: str, *, left: int) -> None:
        self.place = f"{place}, collection {name!r}"
        self.rounded_by: str | None = None
        self._left = left
        self._uris = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # about functions that are not used here
                self._collection = client.get_collection(name, embedding_function=None)
                configuration = self._collection.configuration
            ids = self._collection.get(include=[])["ids"]
        except Exception as error:  # of many kinds, from its own core
            raise SourceError(f"Chroma cannot read {self.place}: {error}") from error
        space = ((configuration.get("hnsw") or configuration.get("spann")) or {}).get("space") or "l2"
        if space not in _DISTANCES:
            raise SourceError(f"{self.place} compares vectors by {space!r}, which no collection does")
        self.distance = _DISTANCES[space]
        self.count = len(ids)
        self._ids = ids

    def records(self, batch_size: int) -> Iterator[Records]:
        self._uris = 0
        for start in range(0, len(self._ids), batch_size):
            yield self._read(self._ids[start : start + batch_size])

    def _read(self, ids: list[str]) -> Records:
        try:
            got = self._collection.get(ids=ids, include=["embeddings", "documents", "metadatas", "uris"])
        except Exception as error:  # of many kinds, from its own core
            raise SourceError(f"Chroma cannot read {self.place} from {ids[0]!r} on: {error}") from error
        place_of = {identifier: number for number, identifier in enumerate(got["ids"])}
        if len(place_of) != len(ids) or len(got["embeddings"]) != len(ids):
            raise SourceError(f"{self.place} does not give all of its records back, from {ids[0]!r} on; it is damaged")
        order = [place_of[identifier] for identifier in ids]
        documents, metadatas, uris = got["documents"], got["metadatas"], got["uris"]
        self._uris += sum(uri is not None for uri in uris or ())
        try:
            vectors = np.asarray(got["embeddings"], np.float32)[order]
        except (ValueError, TypeError) as error:
            raise SourceError(f"{self.place} has vectors of different dimensions, from {ids[0]!r} on") from error
        return Records(
            ids,
            [as_text(documents[number], self.place) for number in order],
            [dict(metadatas[number] or {}) for number in order],
            vectors,
        )

    def left_out(self) -> dict[str, int]:
        found = {"other collections": self._left, "URIs of documents": self._uris}
        return {what: count for what, count in found.items() if count}
