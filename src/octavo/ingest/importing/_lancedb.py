"""LanceDB's tables, read through the ``lancedb`` package."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo._files import as_path
from octavo._validation import check_choice
from octavo.errors import MissingExtraError, ParameterError
from octavo.ingest.importing._taking_over import (
    ImportReport,
    Records,
    Wishes,
    as_identifier,
    as_text,
    chosen,
    take_over,
)
from octavo.ingest.rows import SourceError

_DISTANCES = {"cosine": "cosine", "dot": "dot", "l2": "l2"}

#: Of the inverted file of products: what an index says of vectors is of no concern here, the table has them as they are.
_VECTOR_INDEXES = ("ivf", "hnsw")


def import_lancedb(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    encoder: Any = None,
    *,
    table: str | None = None,
    id_column: str | None = None,
    text_column: str | None = None,
    vector_column: str | None = None,
    metadata_columns: Sequence[str] | None = None,
    distance: str | None = None,
    metric: str | None = None,
    codec: str | None = None,
    batch_size: int = 2048,
    progress: bool = False,
) -> ImportReport:
    """Build a collection from a table of a LanceDB directory.

    The package ``lancedb`` reads it; nothing is written there. A column ``metadata`` that holds objects, as LangChain and
    LlamaIndex write it, becomes the metadata itself; other columns are fields of it.

    Parameters
    ----------
    folder : str or path-like
        The directory that ``lancedb.connect`` was given.
    path : str or path-like
        A directory that does not exist or is empty; the collection appears there in one step, complete, or not at all.
    encoder : object, optional
        As in `import_faiss`.
    table : str, optional
        Which of its tables; needed where there are several.
    id_column, text_column : str, optional
        Columns of ids and texts; default ``id`` and ``text``.
    vector_column : str, optional
        Column of vectors; default the one there is.
    metadata_columns : sequence of str, optional
        Columns that are kept as metadata; default all others but vectors.
    distance : {"l2", "cosine", "dot"}, optional
        How the table was searched. None takes what its vector index says, and Euclidean distance, LanceDB's own default, where
        there is none.
    metric : {"cosine", "dot"}, optional
        How the collection compares. None takes the one that ranks as `distance` does.
    codec : str, optional
        Compression of the collection; default ``"int8"``.
    batch_size : int, default=2048
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
        When ``lancedb`` is not installed.

    Examples
    --------
    >>> from octavo.ingest.importing import import_lancedb
    >>> import_lancedb("no-such-folder", "kb")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    octavo.ingest.rows.SourceError: expected a directory of LanceDB, but there is none at ...no-such-folder
    """
    wishes = Wishes.of(path, encoder, metric, codec, batch_size, progress)
    if distance is not None:
        check_choice(distance, "distance", tuple(_DISTANCES))
    place = as_path(folder, "folder")
    if not place.is_dir():
        raise SourceError(f"expected a directory of LanceDB, but there is none at {place}")
    names = sorted(held.name.removesuffix(".lance") for held in place.iterdir() if held.name.endswith(".lance"))
    name = chosen(names, table, "table", str(place), "table=")
    lancedb = _library()
    try:
        opened = lancedb.connect(str(place)).open_table(name)
        store = _Lance(opened, place, name, distance)
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, SourceError | ParameterError):
            raise
        raise SourceError(f"LanceDB cannot read {place}, table {name!r}: {error}") from error
    store.choose(id_column, text_column, vector_column, metadata_columns)
    return take_over(store, wishes)


def _library() -> Any:
    try:
        return importlib.import_module("lancedb")
    except ModuleNotFoundError as error:
        if error.name != "lancedb":
            raise
        raise MissingExtraError(
            "importing from LanceDB needs lancedb. Install it: pip install 'octavo[import-lancedb]'"
        ) from None


class _Lance:
    """A table of LanceDB's."""

    def __init__(self, table: Any, place: Path, name: str, distance: str | None) -> None:
        self.place = f"{place}, table {name!r}"
        self.count = int(table.count_rows())
        self.rounded_by: str | None = None
        self.distance = _DISTANCES[distance] if distance is not None else _distance_of(table)
        self._table = table
        self._id = self._text = self._vector = ""
        self._metadata: list[str] = []
        self._left: list[str] = []

    def choose(
        self, identifier: str | None, text: str | None, vector: str | None, metadata: Sequence[str] | None
    ) -> None:
        """Find the columns."""
        schema = self._table.schema
        columns, place = list(schema.names), self.place
        vectors = [field.name for field in schema if _is_vector(field.type)]
        self._vector = chosen(vectors, vector, "column of vectors", place, "vector_column=")
        self._id = chosen(columns, identifier or "id", "column", place, "id_column=")
        self._text = chosen(columns, text or "text", "column", place, "text_column=")
        if metadata is not None:
            unknown = [name for name in metadata if name not in columns]
            if unknown:
                raise ParameterError(
                    f"there is no column {unknown[0]!r} in {place}; there are: {', '.join(map(repr, columns))}"
                )
        used = {self._id, self._text, self._vector}
        rest = [name for name in columns if name not in used]
        wanted = set(rest) - set(vectors) if metadata is None else set(metadata)
        self._metadata = [name for name in rest if name in wanted]
        self._left = [name for name in rest if name not in wanted]

    def records(self, batch_size: int) -> Iterator[Records]:
        columns = list(dict.fromkeys([self._id, self._text, self._vector, *self._metadata]))
        try:
            for batch in self._table.search().select(columns).to_batches(batch_size):
                if batch.num_rows:
                    yield self._read(batch)
        except (RuntimeError, OSError) as error:
            raise SourceError(f"LanceDB cannot read {self.place}: {error}") from error

    def _read(self, batch: Any) -> Records:
        ids = [as_identifier(value, f"{self.place}, {self._id!r}") for value in batch.column(self._id).to_pylist()]
        texts = [
            as_text(value, f"{self.place}, {name!r}")
            for name, value in zip(ids, batch.column(self._text).to_pylist(), strict=True)
        ]
        values = {name: batch.column(name).to_pylist() for name in self._metadata}
        metadata = [_metadata({name: values[name][number] for name in values}) for number in range(len(ids))]
        return Records(ids, texts, metadata, self._vectors(batch, ids))

    def _vectors(self, batch: Any, ids: list[str]) -> Floats:
        column = batch.column(self._vector)
        if column.null_count:
            number = column.is_null().to_pylist().index(True)
            raise SourceError(
                f"{self.place}: the record {ids[number]!r} has no vector; remove it there, or give it one"
            )
        if hasattr(column.type, "list_size"):
            flat = column.flatten()
            return np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(len(ids), column.type.list_size)
        rows = column.to_pylist()
        if len({len(row) for row in rows}) > 1:
            raise SourceError(f"{self.place} has vectors of different dimensions, from {ids[0]!r} on")
        return np.array(rows, np.float32)

    def left_out(self) -> dict[str, int]:
        return {f"column {name!r}": self.count for name in self._left}


def _is_vector(kind: Any) -> bool:
    """Tell whether a column holds lists of floats, all of one length or not."""
    value = getattr(kind, "value_type", None)
    return value is not None and str(value) in ("float", "double", "halffloat")


def _distance_of(table: Any) -> str:
    for index in table.list_indices():
        if str(index.index_type).lower().startswith(_VECTOR_INDEXES):
            found = getattr(table.index_stats(index.name), "distance_type", None)
            if str(found) in _DISTANCES:
                return _DISTANCES[str(found)]
    return "l2"


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    nested = row.get("metadata")
    inner = dict(nested) if isinstance(nested, dict) else {}
    if nested is None or isinstance(nested, dict):
        row = {name: value for name, value in row.items() if name != "metadata"}
    merged = {**inner, **row}
    return {name: value for name, value in merged.items() if value is not None}
