"""FAISS indexes, with the documents that LangChain, LlamaIndex or a file of rows keep beside them."""

from __future__ import annotations

import importlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._files import as_path
from octavo.errors import InputTypeError, MissingExtraError, ParameterError
from octavo.ingest.importing._pickled import read_docstore
from octavo.ingest.importing._taking_over import (
    ImportReport,
    Records,
    Wishes,
    as_identifier,
    as_text,
    chosen,
    take_over,
)
from octavo.ingest.rows import Fields, Rows, SourceError

#: Names of an index in LangChain's folders and in LlamaIndex's, where the file is no JSON in spite of its name.
_LLAMA_INDEX, _ID_MAP = "default__vector_store.json", "id_map.json"

_ROW_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")

_LARGEST_JSON = 4_000_000_000


def import_faiss(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    encoder: Any = None,
    *,
    documents: str | os.PathLike[str] | None = None,
    metric: str | None = None,
    codec: str | None = None,
    id_field: str | None = None,
    text_field: str | None = None,
    row_field: str | None = None,
    batch_size: int = 2048,
    progress: bool = False,
) -> ImportReport:
    r"""Build a collection from a FAISS index and the documents beside it.

    Three layouts are read: what LangChain's ``FAISS.save_local`` writes (``index.faiss`` and ``index.pkl``), what a LlamaIndex
    storage context with a ``FaissVectorStore`` persists, and an index alone with a file of `documents`.

    LangChain's file of documents is a pickle, which could run any program. It is read as data here: no class is imported and
    nothing is called, and a file that names anything but LangChain's own classes, dates, numbers of numpy, paths and UUIDs is
    refused. A flat index, as both frameworks make by default, is read without FAISS; other kinds need it (``faiss-cpu``), and
    its reader has not been made for files from strangers.

    Parameters
    ----------
    folder : str or path-like
        The folder that was saved; or an index file, with `documents`.
    path : str or path-like
        A directory that does not exist or is empty; the collection appears there in one step, complete, or not at all.
    encoder : object, optional
        As in `octavo.open`: the model that made the vectors. Some texts are encoded again and compared, and its name is
        recorded.
    documents : str or path-like, optional
        Of an index alone: JSON lines, CSV or Parquet, a row for each vector and in the same order.
    metric : {"cosine", "dot"}, optional
        How the collection compares. None takes the one that ranks as the index does.
    codec : str, optional
        Compression of the collection; default ``"int8"``.
    id_field, text_field : str, optional
        Of `documents`: the fields of ids and texts; default ``_id`` or ``id``, and ``text``. All others are metadata.
    row_field : str, optional
        Of `documents`: the field with the number that the index knows a vector by. Needed where it was filled by
        ``add_with_ids``.
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
    SourceError
        When something cannot be read or does not fit; nothing was written.
    MismatchError
        When the encoder is another one than the vectors', or the index compares as no collection does; nothing was written.
    ParameterError
        When there is something at `path`, or an option cannot be used.
    MissingExtraError
        When the index needs FAISS, or the documents need pyarrow.

    Examples
    --------
    >>> import json, struct, tempfile, numpy as np, octavo
    >>> from octavo.ingest.importing import import_faiss
    >>> folder = tempfile.TemporaryDirectory()
    >>> vectors = np.eye(2, dtype=np.float32)
    >>> head = struct.pack("<4siqqqbiq", b"IxFI", 2, 2, 1 << 20, 1 << 20, 1, 0, vectors.size)  # faiss.write_index
    >>> with open(f"{folder.name}/index.faiss", "wb") as file:
    ...     _ = file.write(head + vectors.tobytes())
    >>> with open(f"{folder.name}/docs.jsonl", "w") as file:
    ...     _ = file.write("".join(json.dumps({"id": name, "text": name}) + "\n" for name in ("red", "green")))
    >>> report = import_faiss(f"{folder.name}/index.faiss", f"{folder.name}/kb", documents=f"{folder.name}/docs.jsonl")
    >>> report.documents, report.metric
    (2, 'cosine')
    >>> folder.cleanup()
    """
    wishes = Wishes.of(path, encoder, metric, codec, batch_size, progress)
    place = as_path(folder, "folder")
    beside = as_path(documents, "documents") if documents is not None else None
    given = {"id_field": id_field, "text_field": text_field, "row_field": row_field}
    if beside is None and any(value is not None for value in given.values()):
        raise ParameterError(
            f"{next(name for name, value in given.items() if value is not None)} belongs to documents="
        )
    if not place.exists():
        raise SourceError(f"expected a FAISS index, or a folder with one, but there is nothing at {place}")
    index_file = _index_file(place)
    index = _open_index(index_file)
    if beside is not None:
        found = _rows_beside(beside, index, Fields(id_field, text_field), row_field)
    elif index_file.name == _LLAMA_INDEX:
        found = _of_llama_index(index_file.parent, index)
    else:
        found = _of_langchain(index_file, index)
    return take_over(_Faiss(place, index, *found), wishes)


def _index_file(place: Path) -> Path:
    if place.is_file():
        return place
    names = [each.name for each in place.iterdir() if each.suffix == ".faiss" or each.name == _LLAMA_INDEX]
    if not names:
        raise SourceError(
            f"{place} holds no FAISS index: neither index.faiss, as LangChain saves it, nor {_LLAMA_INDEX}, as LlamaIndex does"
        )
    return place / chosen(names, None, "FAISS index", str(place), "its path instead of the folder's")


# ---------------------------------------------------------------------- the index


@dataclass(frozen=True)
class _Index:
    """Vectors of an index, and the number that each is known by; None for its place."""

    vectors: Callable[[int, int], Floats]
    count: int
    distance: str
    numbers: npt.NDArray[np.int64] | None = None
    rounded_by: str | None = None


#: Kind, dimension, vectors, two numbers without meaning, trained, metric.
_HEAD = struct.Struct("<4siqqqbi")
_SIZE = struct.Struct("<q")

_FLAT = {b"IxFI", b"IxF2", b"IxFl"}
_NUMBERED = {b"IxMp", b"IxM2"}
_DISTANCES = {0: "dot", 1: "l2"}

#: Kinds of index that keep each number of a vector as it was given.
_EXACT = ("IndexFlat", "IndexHNSWFlat", "IndexIVFFlat", "IndexNSGFlat")


def _open_index(path: Path) -> _Index:
    with path.open("rb") as file:
        start = file.read(4)
    if start in _FLAT:
        return _read_flat(path, 0)[0]
    if start in _NUMBERED:
        with path.open("rb") as file:
            file.seek(_HEAD.size)
            inner = file.read(4)
        if inner in _FLAT:
            return _read_numbered(path)
    if path.name == _LLAMA_INDEX and start.lstrip()[:1] == b"{":
        raise SourceError(
            f"{path} is LlamaIndex's own simple store, and no FAISS index; load it there and add its nodes to an "
            "OctavoVectorStore instead"
        )
    return _open_with_faiss(path)


def _head(path: Path, offset: int) -> tuple[int, int, int, int]:
    """Return dimension, number of vectors, metric, and where what follows begins."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(_HEAD.size)
    if len(data) < _HEAD.size:
        raise SourceError(f"{path} is cut short; copy it again")
    _, dim, count, _, _, _, metric = _HEAD.unpack(data)
    if dim < 1 or count < 0:
        raise SourceError(f"{path} is damaged: it says {count} vectors of dimension {dim}")
    return dim, count, metric, offset + _HEAD.size


def _read_flat(path: Path, offset: int) -> tuple[_Index, int]:
    """Read a flat index without FAISS; returns where it ends, too."""
    dim, count, metric, at = _head(path, offset)
    if metric not in _DISTANCES:
        raise SourceError(f"{path} compares vectors by a distance of FAISS (number {metric}) that no collection has")
    with path.open("rb") as file:
        file.seek(at)
        size = file.read(_SIZE.size)
    length = path.stat().st_size
    end = at + _SIZE.size + 4 * count * dim
    if len(size) < _SIZE.size or _SIZE.unpack(size)[0] != count * dim or end > length:
        raise SourceError(
            f"{path} is damaged or cut short: expected {count:,} vectors of dimension {dim}; copy it again"
        )
    if not count:
        return _Index(lambda first, last: np.zeros((0, dim), np.float32), 0, _DISTANCES[metric]), end
    matrix = np.memmap(path, "<f4", "r", at + _SIZE.size, (count, dim))
    return _Index(lambda first, last: np.array(matrix[first:last]), count, _DISTANCES[metric]), end


def _read_numbered(path: Path) -> _Index:
    _, count, _, at = _head(path, 0)
    index, end = _read_flat(path, at)
    with path.open("rb") as file:
        file.seek(end)
        size = file.read(_SIZE.size)
        data = file.read(8 * index.count)
    if len(size) < _SIZE.size or _SIZE.unpack(size)[0] != count or len(data) < 8 * count or index.count != count:
        raise SourceError(f"{path} is damaged or cut short: expected numbers for {count:,} vectors; copy it again")
    return _Index(index.vectors, count, index.distance, np.frombuffer(data, "<i8").astype(np.int64))


def _open_with_faiss(path: Path) -> _Index:
    try:
        faiss = importlib.import_module("faiss")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path} is no flat index, and reading any other kind needs FAISS. Install it: pip install 'octavo[import-faiss]'"
        ) from error
    try:
        owner = faiss.read_index(str(path))
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise SourceError(f"{path} is no FAISS index, or a damaged one: {_brief(error)}") from error
    index, numbers = faiss.downcast_index(owner), None  # which does not keep alive what it was made of
    if hasattr(index, "id_map") and hasattr(index, "index"):
        numbers = np.array(faiss.vector_to_array(index.id_map), np.int64)
        index = faiss.downcast_index(index.index)
    count, kind = int(index.ntotal), type(index).__name__
    if index.metric_type not in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
        raise SourceError(
            f"{path} compares vectors by a distance of FAISS that no collection has ({index.metric_type})"
        )
    if hasattr(index, "make_direct_map"):  # of inverted lists: what finds a vector by its number
        _calling(path, kind, index.make_direct_map)
    if count:
        _calling(path, kind, index.reconstruct, 0)

    def vectors(first: int, last: int) -> Floats:
        assert owner is not None  # and so alive
        found: Floats = _calling(path, kind, index.reconstruct_n, first, last - first)
        return np.asarray(found, np.float32)

    distance = "dot" if index.metric_type == faiss.METRIC_INNER_PRODUCT else "l2"
    return _Index(vectors, count, distance, numbers, None if kind.startswith(_EXACT) else kind)


def _calling(path: Path, kind: str, function: Callable[..., Any], *args: int) -> Any:
    try:
        return function(*args)
    except RuntimeError as error:
        raise SourceError(
            f"{path}, a FAISS index of the kind {kind}, does not give its vectors: {_brief(error)}"
        ) from error


def _brief(error: BaseException) -> str:
    """Return the end of a message of FAISS, whose beginning is where in its sources it comes from."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rpartition(": ")[2][:200] or lines[-1][:200]


# ---------------------------------------------------------------------- the documents


@dataclass(frozen=True)
class _Entry:
    id: str
    text: str
    metadata: dict[str, Any]
    embed_text: str | None = None


#: A document for each row of an index, and what was left out.
_Found = tuple[Callable[[int], _Entry], list[int], dict[str, int]]


class _Faiss:
    """An index with its documents."""

    def __init__(
        self, place: Path, index: _Index, entry: Callable[[int], _Entry], rows: list[int], left_out: dict[str, int]
    ) -> None:
        self.place = str(place)
        self.count = len(rows)
        self.distance = index.distance
        self.rounded_by = index.rounded_by
        self._index, self._entry, self._rows, self._left_out = index, entry, rows, left_out

    def records(self, batch_size: int) -> Iterator[Records]:
        for start in range(0, len(self._rows), batch_size):
            rows = self._rows[start : start + batch_size]
            first, last = min(rows), max(rows) + 1
            vectors = self._index.vectors(first, last)[np.array(rows) - first]
            entries = [self._entry(row) for row in rows]
            embedded = [entry.embed_text for entry in entries]
            yield Records(
                [entry.id for entry in entries],
                [entry.text for entry in entries],
                [entry.metadata for entry in entries],
                vectors,
                embedded if any(text is not None for text in embedded) else None,
            )

    def left_out(self) -> dict[str, int]:
        return {what: count for what, count in self._left_out.items() if count}


def _of_langchain(index_file: Path, index: _Index) -> _Found:
    pickled = index_file.with_suffix(".pkl")
    if not pickled.is_file():
        raise SourceError(
            f"there is no {pickled.name} beside {index_file}, where LangChain keeps the texts; give them as a file: documents="
        )
    documents, ids = read_docstore(pickled.read_bytes(), str(pickled))
    rows = sorted(ids)
    if rows != list(range(index.count)):
        raise SourceError(
            f"{index_file} holds {index.count:,} vectors, {pickled.name} names {len(rows):,}: they were not saved together"
        )
    missing = next((name for name in ids.values() if name not in documents), None)
    if missing is not None:
        raise SourceError(f"{pickled} has no document with the id {missing!r}, which the index has a vector of")

    def entry(row: int) -> _Entry:
        document = documents[ids[row]]
        what = f"{pickled}, {ids[row]!r}"
        if not isinstance(document.metadata, dict):
            raise SourceError(f"{what}: expected metadata, got {type(document.metadata).__name__}")
        return _Entry(ids[row], as_text(document.text, what), document.metadata)

    return entry, rows, {"documents without a vector": len(documents.keys() - set(ids.values()))}


def _of_llama_index(folder: Path, index: _Index) -> _Found:
    nodes = _table(folder / "docstore.json", "docstore/data")
    names = _names_of_rows(folder, index)
    place = folder / "docstore.json"
    missing = next((name for name in names if name not in nodes), None)
    if missing is not None:
        raise SourceError(f"{place} has no node {missing!r}, which the index has a vector of")

    def entry(row: int) -> _Entry:
        return _node(names[row], nodes[names[row]], f"{place}, node {names[row]!r}")

    return entry, list(range(index.count)), {"nodes without a vector": len(nodes.keys() - set(names))}


def _names_of_rows(folder: Path, index: _Index) -> list[str]:
    """Return the ids of the nodes, a row each."""
    if (folder / _ID_MAP).is_file():
        found = _table(folder / _ID_MAP, "faiss_id_to_node_id_map")
        source = folder / _ID_MAP
    else:
        source = folder / "index_store.json"
        found = {}
        for held in _table(source, "index_store/data").values():
            data = held.get("__data__") if isinstance(held, dict) else None
            try:
                parsed = json.loads(data) if isinstance(data, str) else data
            except (ValueError, RecursionError) as error:
                raise SourceError(f"{source} is damaged: {error}") from error
            if isinstance(parsed, dict) and isinstance(parsed.get("nodes_dict"), dict):
                found |= parsed["nodes_dict"]
    numbers = index.numbers.tolist() if index.numbers is not None else range(index.count)
    names = [found.get(str(number)) for number in numbers]
    if not all(isinstance(name, str) for name in names):
        raise SourceError(f"{source} names {len(found):,} of the {index.count:,} vectors: they were not saved together")
    return [str(name) for name in names]


def _table(path: Path, key: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise SourceError(
                f"{path} is larger than {_LARGEST_JSON / 1e9:.0f} GB, which is more than this can read at once"
            )
        read = json.loads(path.read_bytes())
        found = read.get(key, {})
        if not isinstance(found, dict):
            raise TypeError(f"{key!r} is no object")
    except FileNotFoundError as error:
        raise SourceError(f"there is no {path}, which LlamaIndex writes beside the index") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path} is not what LlamaIndex writes: {error}") from error
    return found


def _node(name: str, held: Any, what: str) -> _Entry:
    data = held.get("__data__") if isinstance(held, dict) else None
    if isinstance(data, str):  # of earlier versions
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{what}: {error}") from error
    if not isinstance(data, dict):
        raise SourceError(f"{what} is not what LlamaIndex writes")
    resource = data.get("text_resource")
    text = as_text(data.get("text", resource.get("text") if isinstance(resource, dict) else None), what)
    metadata = data.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise SourceError(f"{what}: expected metadata, got {type(metadata).__name__}")
    return _Entry(name, text, metadata, _embedded(text, metadata, data))


def _embedded(text: str, metadata: dict[str, Any], data: dict[str, Any]) -> str | None:
    """Return what LlamaIndex made the vector of: the metadata before the text, but for fields that were excluded."""
    excluded = data.get("excluded_embed_metadata_keys") or ()
    line, joined = (
        data.get("metadata_template", "{key}: {value}"),
        data.get("text_template", "{metadata_str}\n\n{content}"),
    )
    separator = data.get("metadata_separator", data.get("metadata_seperator", "\n"))
    try:
        # replaced, not formatted: a template may come from anyone
        lines = [
            line.replace("{key}", name).replace("{value}", str(value))
            for name, value in metadata.items()
            if name not in excluded
        ]
        shown = separator.join(lines)
        if not shown:
            return None
        whole = joined.replace("{metadata_str}", shown).replace("{content}", text)
    except (TypeError, AttributeError):
        return None
    return whole if whole != text else None


def _rows_beside(path: Path, index: _Index, fields: Fields, row_field: str | None) -> _Found:
    if index.numbers is not None and row_field is None:
        raise ParameterError(
            "the index knows its vectors by numbers of their own (add_with_ids); name the field of the documents that holds "
            "them: row_field="
        )
    entries: list[_Entry] = []
    numbers: list[int] = []
    for place, (identifier, text, metadata) in enumerate(_read_rows(path, fields)):
        what = f"{path.name}, row {place + 1}"
        number = place
        if row_field is not None:
            found = metadata.pop(row_field, None)
            if isinstance(found, bool) or not isinstance(found, int):
                raise SourceError(f"{what}: expected an integer in {row_field!r}, got {found!r}")
            number = found
        numbers.append(number)
        entries.append(_Entry(identifier if identifier is not None else str(number), text, metadata))
    known = index.numbers.tolist() if index.numbers is not None else list(range(index.count))
    by_number = dict(zip(numbers, entries, strict=True))
    if len(by_number) < len(numbers):
        raise SourceError(f"{path.name} names a vector twice in {row_field!r}")
    if row_field is None and len(entries) != index.count:
        raise SourceError(
            f"{path.name} has {len(entries):,} rows and the index {index.count:,} vectors; without row_field=, there has to be "
            "one for each, in the same order"
        )
    missing = next((number for number in known if number not in by_number), None)
    if missing is not None:
        raise SourceError(f"{path.name} has no row for the vector number {missing} of the index")
    left = {"rows without a vector": len(by_number.keys() - set(known))}
    return (lambda row: by_number[known[row]]), list(range(index.count)), left


def _read_rows(path: Path, fields: Fields) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    if not path.is_file():
        raise SourceError(f"expected a file of documents, but there is none at {path}")
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _read_parquet(path, fields)
        return
    if not name.removesuffix(".gz").endswith(_ROW_SUFFIXES):
        raise ParameterError(f"expected documents as {' '.join(_ROW_SUFFIXES)} or .parquet, got {path}")
    for row in Rows(path, fields, strict=False, bad=_refuse):
        yield row.id, row.text, row.metadata


def _refuse(message: str) -> None:
    raise SourceError(message)


def _read_parquet(path: Path, fields: Fields) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"reading {path} needs pyarrow. Install it: pip install pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
        columns = file.schema_arrow.names
        identifier = fields.id or next((name for name in ("_id", "id") if name in columns), None)
        text = fields.text or "text"
        for name in (identifier, text):
            if name is not None and name not in columns:
                raise SourceError(f"{path.name} has no column {name!r}; it has {', '.join(map(repr, columns))}")
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                key = row.pop(identifier) if identifier is not None else None
                content = as_text(row.pop(text), path.name)
                nested = row.pop("metadata", None)
                metadata = {**(nested if isinstance(nested, dict) else {}), **row}
                if nested is not None and not isinstance(nested, dict):
                    metadata["metadata"] = nested
                yield (
                    (as_identifier(key, path.name) if identifier is not None else None),
                    content,
                    {name: value for name, value in metadata.items() if value is not None},
                )
    except (OSError, InputTypeError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path} cannot be read: {error}") from error
