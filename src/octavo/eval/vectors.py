"""Vectors that somebody has made already, in place of a model: arrays, or files of them.

=============  =========================================================================================================
``.npy``       one array of shape ``(n, dim)``; only the rows that are needed are read
``.npz``       several arrays: ``emb.npz#D`` names one; ids are an array of strings of the same length
``.parquet``   a column of lists of numbers: ``emb.parquet#embedding`` names it; ids are a column ``id`` or ``_id`` (needs
               pyarrow)
=============  =========================================================================================================

Without ids, the rows are in the order of the documents, and of the queries as their file lists them (all of them, or those
with judgements).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo._arrays import Floats, as_matrix
from octavo.errors import InputTypeError, InvalidVectorsError, MissingExtraError, ParameterError
from octavo.eval.datasets import Dataset

Role = Literal["documents", "queries"]

#: What arrays and columns are called where a file has several, by what they hold.
_NAMES: dict[Role, tuple[str, ...]] = {
    "documents": (
        "documents",
        "document_vectors",
        "docs",
        "corpus",
        "D",
        "vectors",
        "embeddings",
        "embedding",
        "vector",
    ),
    "queries": ("queries", "query_vectors", "questions", "Q", "vectors", "embeddings", "embedding", "vector"),
}
_ID_NAMES: dict[Role, tuple[str, ...]] = {
    "documents": ("document_ids", "doc_ids", "corpus_ids", "did", "docid", "document_id", "doc_id", "ids", "id", "_id"),
    "queries": ("query_ids", "qid", "qids", "query_id", "ids", "id", "_id"),
}
#: What results call a model whose name nobody gave.
READY = "ready vectors"

_SUFFIXES = (".npy", ".npz", ".parquet", ".pq")


class NamedRows(NamedTuple):
    """Rows of vectors, and their ids where the file has them."""

    vectors: Any
    ids: list[str] | None


@dataclass(frozen=True, eq=False)
class ReadyVectors:
    """Vectors of documents and queries, in place of a model.

    Parameters
    ----------
    documents, queries : array-like of shape (n, dim) and (m, dim)
        The vectors.
    document_ids, query_ids : sequence of str, optional
        What the rows belong to; without them, the rows are in the order of the data set.

    Examples
    --------
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> ready = ReadyVectors([[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0]], document_ids=["b", "a"])
    >>> documents, queries = ready.of(data)
    >>> documents.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    documents: ArrayLike
    queries: ArrayLike
    document_ids: Sequence[str] | None = None
    query_ids: Sequence[str] | None = None

    def __repr__(self) -> str:
        return f"<octavo.eval.ReadyVectors of shapes {np.shape(self.documents)} and {np.shape(self.queries)}>"

    @classmethod
    def read(cls, documents: str | os.PathLike[str], queries: str | os.PathLike[str]) -> Self:
        """Read two files; see the module's description. Both may be the same ``.npz``.

        Parameters
        ----------
        documents, queries : str or path-like
            ``.npy``, ``.npz#ARRAY`` or ``.parquet#COLUMN``.

        Raises
        ------
        ParameterError
            When there is no such file, or it is not clear which array or column is meant.
        MissingExtraError
            When a Parquet file is read without pyarrow.
        """
        found, asked = read_vectors(documents, "documents"), read_vectors(queries, "queries")
        return cls(found.vectors, asked.vectors, found.ids, asked.ids)

    def of(self, dataset: Dataset) -> tuple[Floats, Floats]:
        """Return the vectors of a data set's documents and queries, in its order.

        Parameters
        ----------
        dataset : Dataset
            What they are vectors of.

        Returns
        -------
        documents, queries : ndarray of shape (n, dim) and (m, dim), float32
            One row each.

        Raises
        ------
        ParameterError
            When some are missing.
        InvalidVectorsError
            When they are not finite, or of different dimensions.
        """
        documents = _in_order(
            self.documents, self.document_ids, dataset.document_ids, None, f"{dataset.name}: documents"
        )
        listed = dataset.listed_query_ids
        queries = _in_order(self.queries, self.query_ids, dataset.query_ids, listed, f"{dataset.name}: queries")
        if documents.shape[1] != queries.shape[1]:
            raise InvalidVectorsError(
                f"{dataset.name}: expected vectors of documents and queries of one dimension, got {documents.shape[1]} and "
                f"{queries.shape[1]}"
            )
        return documents, queries


def fingerprint(documents: Floats, queries: Floats) -> str:
    """Return a hash of the vectors of a data set."""
    state = hashlib.sha256()
    for part in (documents, queries):
        state.update(str(part.shape).encode() + np.ascontiguousarray(part, "<f4").tobytes())
    return state.hexdigest()[:16]


def _in_order(
    vectors: ArrayLike, ids: Sequence[str] | None, wanted: Sequence[str], listed: Sequence[str] | None, what: str
) -> Floats:
    given = vectors if isinstance(vectors, np.ndarray) else np.asarray(vectors)
    if given.ndim != 2:
        raise InvalidVectorsError(f"{what}: expected vectors of shape (n, dim), got shape {given.shape}")
    names = list(map(str, ids)) if ids is not None else None
    if names is None:
        if len(given) == len(wanted):
            return as_matrix(given, None, what)
        if listed is not None and len(given) == len(listed):
            names = list(listed)
        else:
            also = f", or {len(listed):,}, one for each in their file" if listed is not None else ""
            raise ParameterError(
                f"{what}: expected {len(wanted):,} vectors without ids, one for each in the order of the data set{also}; got "
                f"{len(given):,}. Vectors with ids may come in any order: an array of strings beside them in .npz, a column id "
                "in Parquet"
            )
    if len(names) != len(given):
        raise ParameterError(f"{what}: expected one id for each of {len(given):,} vectors, got {len(names):,}")
    places = {name: row for row, name in enumerate(names)}
    if missing := [name for name in wanted if name not in places]:
        raise ParameterError(
            f"{what}: {len(missing):,} of {len(wanted):,} have no vector, for instance {missing[0]!r}; were the vectors made "
            "for this data set?"
        )
    return as_matrix(given[[places[name] for name in wanted]], None, what)


# ---------------------------------------------------------------------- files


def read_vectors(source: str | os.PathLike[str], role: Role = "documents") -> NamedRows:
    """Read a file of vectors, ``FILE`` or ``FILE#NAME``.

    Parameters
    ----------
    source : str or path-like
        See the module's description.
    role : {"documents", "queries"}
        Which array is looked for where a file has several and none is named.

    Raises
    ------
    ParameterError
        When there is no such file, it cannot be read, or it is not clear which array or column is meant.
    MissingExtraError
        When a Parquet file is read without pyarrow.
    """
    place, name = _split(source)
    if not place.is_file():
        raise ParameterError(
            f"expected a file of vectors ({', '.join(_SUFFIXES)}), but there is none at {str(place)!r}"
        )
    suffix = place.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _read_parquet(place, name, role)
    if suffix not in _SUFFIXES:
        raise ParameterError(f"expected a file of vectors ({', '.join(_SUFFIXES)}), got {place.name!r}")
    try:
        loaded: Any = np.load(place, mmap_mode="r" if suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if name is not None:
                raise ParameterError(f"{place.name} holds one array: expected no '#{name}' behind it")
            return NamedRows(loaded, None)
        with loaded:
            return _choose({key: loaded[key] for key in loaded.files}, name, role, place)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(
            f"expected arrays of numbers at {str(place)!r}, but they cannot be read: {error}"
        ) from error


def _split(source: str | os.PathLike[str]) -> tuple[Path, str | None]:
    text = os.fspath(source)
    if not isinstance(text, str):
        raise InputTypeError(f"expected a path as text, got {type(text).__name__}")
    if Path(text).expanduser().exists():
        return Path(text).expanduser(), None
    file, sharp, name = text.rpartition("#")
    return (Path(file).expanduser(), name) if sharp and file else (Path(text).expanduser(), None)


def _choose(arrays: Mapping[str, NDArray[Any]], name: str | None, role: Role, place: Path) -> NamedRows:
    """Return the array that is meant, and the ids that belong to it."""
    matrices = {key: array for key, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"}
    if name is None:
        named = [key for wanted in _NAMES[role] for key in matrices if key.lower() == wanted.lower()]
        chosen = named[:1] or list(matrices)
        if len(chosen) != 1:
            there = ", ".join(f"{place.name}#{key}" for key in matrices) or "no array of shape (n, dim)"
            raise ParameterError(f"expected to know which array holds the vectors of the {role}; name one of: {there}")
        name = chosen[0]
    if name not in matrices:
        raise ParameterError(
            f"expected an array of numbers of shape (n, dim) called {name!r} in {place.name}; there are: "
            f"{', '.join(matrices) or 'none'}"
        )
    vectors = matrices[name]
    lists = {
        key: array
        for key, array in arrays.items()
        if array.ndim == 1 and len(array) == len(vectors) and array.dtype.kind in "USiu"
    }
    named = [key for wanted in _ID_NAMES[role] for key in lists if key.lower() == wanted.lower()]
    chosen = named[:1] or ([key for key, array in lists.items() if array.dtype.kind in "US"] if len(lists) == 1 else [])
    return NamedRows(vectors, [_text(value) for value in lists[chosen[0]].tolist()] if chosen else None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_parquet(place: Path, name: str | None, role: Role) -> NamedRows:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        types: Any = importlib.import_module("pyarrow").types
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "pyarrow":
            raise
        raise MissingExtraError(f"reading {place.name} needs pyarrow. Install it: pip install pyarrow") from None
    arrow_error: Any = importlib.import_module("pyarrow").ArrowException
    try:
        schema = parquet.read_schema(place)
        lists = [
            field.name
            for field in schema
            if (types.is_list(field.type) or types.is_large_list(field.type) or types.is_fixed_size_list(field.type))
            and (types.is_floating(field.type.value_type) or types.is_integer(field.type.value_type))
        ]
        if name is None:
            named = [key for wanted in _NAMES[role] for key in lists if key.lower() == wanted.lower()]
            chosen = lists if len(lists) == 1 else named[:1]
            if not chosen:
                there = ", ".join(f"{place.name}#{key}" for key in lists) or "no column of lists of numbers"
                raise ParameterError(
                    f"expected to know which column holds the vectors of the {role}; name one of: {there}"
                )
            name = chosen[0]
        if name not in lists:
            raise ParameterError(
                f"expected a column of lists of numbers called {name!r} in {place.name}; there are: "
                f"{', '.join(lists) or 'none'}"
            )
        ids = next((key for wanted in _ID_NAMES[role] for key in schema.names if key.lower() == wanted.lower()), None)
        table = parquet.read_table(place, columns=[name, *([ids] if ids is not None else [])])
    except (arrow_error, OSError) as error:
        raise ParameterError(f"expected a Parquet file at {str(place)!r}, but it cannot be read: {error}") from error
    column = table.column(name).combine_chunks()
    if column.null_count:
        raise InvalidVectorsError(
            f"expected a vector in every row of {place.name}#{name}, got {column.null_count:,} nulls"
        )
    vectors = np.zeros((0, 0), np.float32)
    if len(column):
        lengths = np.asarray(column.value_lengths())
        if (lengths != lengths[0]).any():
            raise InvalidVectorsError(
                f"expected vectors of one dimension in {place.name}#{name}, got {set(lengths.tolist())}"
            )
        vectors = np.asarray(column.flatten()).reshape(len(column), int(lengths[0]))
    return NamedRows(vectors, [str(value) for value in table.column(ids).to_pylist()] if ids is not None else None)
