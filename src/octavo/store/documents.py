"""Documents as the caller gives them, and as they are stored: checked, with ids, as JSON."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from octavo._arrays import Codes, Floats, as_matrix
from octavo.compression import Codec
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import InputTypeError, ParameterError
from octavo.filters.times import plain_datetime64, plain_time

#: Bytes of a document: its id, text, metadata and payload. SQLite keeps rows of up to 10^9 bytes.
LARGEST_DOCUMENT = 900_000_000

DocumentLike: TypeAlias = "str | Document | Mapping[str, Any]"


@dataclass(frozen=True)
class Document:
    """A stored document.

    Parameters
    ----------
    id : str
        The caller's own id.
    text : str
        The text; may be empty.
    metadata : dict
        Any JSON object; dates, times and tuples as well. A fresh copy each time: changing it does not change the collection.

    Examples
    --------
    >>> Document("r", "a red apple", {"year": 2020}).metadata
    {'year': 2020}
    """

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


def text_to_embed(document: Document) -> str:
    """Return what an encoder is given of a document when its vector has to be made again.

    Parameters
    ----------
    document : Document
        As it is stored.
    """
    return document.text


@dataclass
class Batch:
    """Checked documents on their way into the store; ``vectors`` is None until they are encoded."""

    ids: list[str]
    texts: list[str]
    metadata: list[str]  # JSON, see `metadata_to_json`
    parsed: list[Mapping[str, Any]]
    payloads: list[str | None]
    vectors: Floats | None
    ready: bool = False  # vectors are checked and, for cosine, of unit length
    matrices: list[Any] | None = None  # token vectors as they were given
    tokens: TokenMatrices | None = None  # in place of vectors in a multi-vector collection: pooled, of unit length
    decoded: bool = False  # vectors are what another collection's codes stand for, no originals
    space: int | None = None  # whose vectors they are, where an encoder of the collection makes them
    codes: tuple[bytes, Sequence[Codes]] | None = None  # a stored codec, and what it made of `vectors` in each tier

    def __len__(self) -> int:
        return len(self.ids)

    def codes_of(self, codec: Codec | None) -> Sequence[Codes] | None:
        """Return the codes of each tier if they were made beforehand, with this very codec."""
        if self.codes is None or codec is None or codec.to_bytes() != self.codes[0]:
            return None
        return self.codes[1]

    @property
    def dim(self) -> int:
        """Dimension of the vectors, once they are there."""
        if self.tokens is not None:
            return self.tokens.dim
        assert self.vectors is not None  # the collection encodes before it asks
        return int(self.vectors.shape[1])


def normal_metadata(metadata: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return metadata made of plain values only, equal to what was given, sharing nothing mutable with it.

    What is accepted, and what becomes of it, says ``docs/decisions/typed-metadata.md``.

    Parameters
    ----------
    metadata : mapping
        The caller's.
    where : str
        Whose it is, for messages.

    Raises
    ------
    InputTypeError
        When a key is not a string or a value cannot be stored.
    ParameterError
        When a number is NaN or infinite, a key is no valid Unicode, or the nesting is too deep.
    """
    try:
        plain: dict[str, Any] = _normal(metadata, (), where)
    except RecursionError as err:
        raise ParameterError(f"{where}: the metadata is nested too deeply to be stored as JSON") from err
    return plain


def metadata_to_json(metadata: Mapping[str, Any], where: str) -> str:
    """Return metadata as JSON text from which `metadata_from_json` makes an equal object.

    Raises
    ------
    InputTypeError, ParameterError
        As `normal_metadata`.

    Examples
    --------
    >>> from datetime import date
    >>> metadata_to_json({"day": date(2024, 5, 1)}, "document 0")
    '{"day":{"octavo:date":"2024-05-01"}}'
    """
    return normal_to_json(normal_metadata(metadata, where), where)


def normal_to_json(metadata: dict[str, Any], where: str) -> str:
    """Return what `normal_metadata` gave as JSON text."""
    try:
        if _needs_tags(metadata):
            metadata = _tagged(metadata)
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_tagged)
    except RecursionError as err:
        raise ParameterError(f"{where}: the metadata is nested too deeply to be stored as JSON") from err
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse_surrogates(metadata, (), where)
    return text


def _refuse_surrogates(value: Any, path: tuple[str, ...], where: str) -> None:
    """Raise `ParameterError` for the first string that UTF-8 cannot hold; keys were looked at before."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_surrogates(inner, (*path, key), where)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_surrogates(inner, path, where)
    elif isinstance(value, str):
        check_text(value, f"the metadata of {where} under {_shown(path)}")


def metadata_to_tagged(metadata: Mapping[str, Any], where: str = "the metadata") -> Any:
    """Return metadata in its stored form, as objects that JSON has; `metadata_from_tagged` is the way back.

    Examples
    --------
    >>> metadata_to_tagged({"pair": (1, 2)})
    {'pair': {'octavo:tuple': [1, 2]}}
    """
    return _tagged(normal_metadata(metadata, where))


def metadata_from_json(text: str) -> Any:
    """Return the metadata that `metadata_to_json` has written.

    Examples
    --------
    >>> metadata_from_json('{"day":{"octavo:date":"2024-05-01"}}')
    {'day': datetime.date(2024, 5, 1)}
    """
    if _MARK not in text:
        return json.loads(text)
    return json.loads(text, object_hook=_untagged)


def metadata_from_tagged(value: Any) -> Any:
    """Return the metadata of a stored form that has been read as JSON already; see `metadata_from_json`.

    Examples
    --------
    >>> metadata_from_tagged({"day": {"octavo:date": "2024-05-01"}})
    {'day': datetime.date(2024, 5, 1)}
    """
    if isinstance(value, dict):
        return _untagged({key: metadata_from_tagged(inner) for key, inner in value.items()})
    return [metadata_from_tagged(inner) for inner in value] if isinstance(value, list) else value


def _normal(value: Any, path: tuple[str, ...], where: str) -> Any:
    if type(value) in _ATOMS:
        return value
    if isinstance(value, float | np.floating):
        number = float(value)
        if not math.isfinite(number):
            raise ParameterError(f"{where}: expected finite numbers, got {number} under {_shown(path)}; leave it out")
        if number == value:
            return number
    elif isinstance(value, Mapping):
        return {
            _normal_key(key, path, where): inner if type(inner) in _ATOMS else _normal(inner, (*path, key), where)
            for key, inner in value.items()
        }
    elif isinstance(value, list):
        return [inner if type(inner) in _ATOMS else _normal(inner, path, where) for inner in value]
    elif isinstance(value, tuple):
        return tuple([inner if type(inner) in _ATOMS else _normal(inner, path, where) for inner in value])
    elif isinstance(value, str):
        return str.__str__(value)
    elif isinstance(value, int):
        return int(value)
    elif isinstance(value, np.bool_ | np.integer):
        return value.item()
    elif isinstance(value, date | np.datetime64):
        time = plain_time(value) if isinstance(value, date) else plain_datetime64(value)
        if time is not None:
            return time
    shown = repr(value)
    raise InputTypeError(
        f"{where}: expected JSON values (None, bool, int, float, str, list, dict), dates, times or tuples, got "
        f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:57] + '...'} under {_shown(path)}; convert the "
        "value first, for instance with str(), float() or sorted()"
    )


def _normal_key(key: Any, path: tuple[str, ...], where: str) -> str:
    # json.dumps would turn the key 1 into "1" silently: what comes back would not be what went in.
    if not isinstance(key, str):
        inside = f" under {_shown(path)}" if path else ""
        raise InputTypeError(f"{where}: expected metadata keys of type str, got {key!r} ({type(key).__name__}){inside}")
    if not key.isascii():
        check_text(key, f"{where}: a metadata key" if not path else f"{where}: a metadata key under {_shown(path)}")
    return key if type(key) is str else str.__str__(key)


def _shown(path: tuple[str, ...]) -> str:
    return repr(".".join(map(str.__str__, path)))


#: What every key of a typed value begins with in the stored text.
_MARK = '"octavo:'

_TAG = re.compile("octavo(:+)(date|datetime|tuple)")


def _needs_tags(value: Any) -> bool:
    """Tell whether there are tuples, which JSON would make lists of, or objects that look like a typed value."""
    if isinstance(value, dict):
        if len(value) == 1 and _TAG.fullmatch(next(iter(value))):
            return True
        return any(_needs_tags(inner) for inner in value.values() if type(inner) not in _ATOMS)
    if isinstance(value, list):
        return any(_needs_tags(inner) for inner in value if type(inner) not in _ATOMS)
    return isinstance(value, tuple)


def _tagged(value: Any) -> Any:
    """Return the stored form of a normal value."""
    if isinstance(value, dict):
        if len(value) == 1 and _TAG.fullmatch(key := next(iter(value))):
            return {key.replace(":", "::", 1): _tagged(value[key])}
        return {key: _tagged(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_tagged(inner) for inner in value]
    if isinstance(value, tuple):
        return {"octavo:tuple": [_tagged(inner) for inner in value]}
    if isinstance(value, datetime):
        return {"octavo:datetime": value.isoformat()}
    if isinstance(value, date):
        return {"octavo:date": value.isoformat()}
    return value


def _untagged(value: dict[str, Any]) -> Any:
    """Return the normal value of an object of the stored form whose values are normal already."""
    if len(value) != 1 or not (found := _TAG.fullmatch(key := next(iter(value)))):
        return value
    inner = value[key]
    if len(found[1]) > 1:
        return {key.replace("::", ":", 1): inner}
    if found[2] == "tuple":
        return tuple(inner) if isinstance(inner, list) else value
    try:
        return (datetime if found[2] == "datetime" else date).fromisoformat(inner)
    except (ValueError, TypeError):
        return value


_ATOMS = frozenset({str, int, bool, type(None)})


def check_text(value: Any, what: str) -> str:
    """Return `value` as a plain str if it is a string that can be stored as UTF-8."""
    if not isinstance(value, str):
        raise InputTypeError(f"expected {what} to be a str, got {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as err:
            raise ParameterError(f"expected {what} to be valid Unicode, but it holds a lone surrogate: {err}") from err
    return value if type(value) is str else str.__str__(value)


def check_ids(ids: Any, what: str = "ids") -> list[str]:
    """Return ids as a list of strings; a lone string is refused, since it would be read letter by letter."""
    if isinstance(ids, str | bytes):
        raise InputTypeError(f"expected {what} as a list of str, got {type(ids).__name__} {ids!r}; write [{ids!r}]")
    try:
        listed = list(ids)
    except TypeError as err:
        raise InputTypeError(f"expected {what} as a list of str, got {type(ids).__name__}") from err
    for number, value in enumerate(listed):
        if not isinstance(value, str):
            raise InputTypeError(f"expected {what} of type str, got {value!r} ({type(value).__name__})")
        if type(value) is not str or not value.isascii():
            listed[number] = check_text(value, f"number {number} of {what}")
    return listed


def _refuse_table(value: Any, name: str, advice: str) -> None:
    """Raise for a table of pandas, Polars, PyArrow and the like: to iterate over one gives the names of its columns."""
    if hasattr(value, "columns") and len(getattr(value, "shape", ())) == 2:
        columns = ", ".join(repr(str(column)) for column in list(getattr(value, "column_names", value.columns))[:5])
        raise InputTypeError(f"expected {name}, got a {type(value).__name__} with the columns {columns}; {advice}")


def _sized(value: Any) -> bool:
    return value is not None and hasattr(value, "__len__")


def read_batches(
    documents: Iterable[DocumentLike] | None,
    ids: Iterable[str | None] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
    vectors: Any,
    payloads: Iterable[str | None] | None,
    *,
    batch_size: int,
    dim: int | None,
) -> Iterator[Batch]:
    """Yield checked batches of at most `batch_size` documents.

    When the inputs are sized, all of them are checked before the first batch comes out; streams are checked as they go.
    """
    if isinstance(documents, str | bytes | Mapping | Document):
        raise InputTypeError(
            f"expected an iterable of documents, got a single {type(documents).__name__}; put it in a list"
        )
    _refuse_table(documents, "texts or documents", "give the column that holds the texts, such as table['text']")
    _refuse_table(ids, "ids", "give the column that holds them, such as table['id']")
    _refuse_table(metadata, "metadata as one mapping for each document", "give a list of its rows as dicts")
    _refuse_table(payloads, "payloads", "give the column that holds them")
    if isinstance(metadata, Mapping):
        raise InputTypeError(
            "expected metadata as an iterable with one mapping for each document, got a single mapping"
        )
    if isinstance(ids, str | bytes):
        raise InputTypeError(f"expected ids as an iterable of str, got a single {type(ids).__name__}")
    if documents is None and vectors is None:
        raise InputTypeError("expected documents, or vectors, got neither")
    if _sized(vectors) or hasattr(vectors, "__array__"):
        vectors = as_matrix(vectors, dim) if len(vectors) else np.zeros((0, dim or 0), np.float32)
    given: dict[str, Any] = {
        "documents": documents,
        "ids": ids,
        "metadata": metadata,
        "vectors": vectors,
        "payloads": payloads,
    }
    lengths = {name: len(value) for name, value in given.items() if _sized(value)}
    if len(set(lengths.values())) > 1:
        raise ParameterError(
            "expected as many ids, metadata and vectors as documents, got "
            + ", ".join(f"{count} {name}" for name, count in lengths.items())
        )
    columns = {name: value for name, value in given.items() if value is not None}
    primary = documents if documents is not None else vectors
    if all(_sized(value) for value in columns.values()):
        for _ in _chunks(columns, batch_size):
            pass  # checked as a whole; made again below rather than kept, which would double the memory of a long input
        yield from _chunks(columns, batch_size)
    elif _sized(primary):
        yield from list(_chunks(columns, batch_size))
    else:
        yield from _chunks(columns, batch_size)


_END = object()


def _records(columns: dict[str, Iterator[Any]]) -> Iterator[dict[str, Any]]:
    position = 0
    while True:
        row = {name: next(column, _END) for name, column in columns.items()}
        ended = [name for name, value in row.items() if value is _END]
        if len(ended) == len(row):
            return
        if ended:
            more = next(name for name in row if name not in ended)
            raise ParameterError(
                f"expected as many ids, metadata and vectors as documents, but {ended[0]} ended after {position} "
                f"while {more} went on"
            )
        row["position"] = position
        position += 1
        yield row


def _chunks(columns: dict[str, Any], batch_size: int) -> Iterator[Batch]:
    matrix: Any = columns.get("vectors")
    ready = isinstance(matrix, np.ndarray)  # checked already: batches are views of it
    if ready:  # the rows are sliced, not iterated over: their numbers stand in for them
        columns = columns | {"vectors": range(len(columns["vectors"]))}
    stream = _records({name: iter(value) for name, value in columns.items()})
    seen: set[str] = set()
    start = 0
    while rows := list(islice(stream, batch_size)):
        batch = Batch([], [], [], [], [], None)
        for row in rows:
            _append(batch, row, seen)
        if ready:
            batch.vectors = matrix[start : start + len(rows)]
        elif matrix is not None:
            batch.vectors = as_matrix([row["vectors"] for row in rows], None)
        start += len(rows)
        yield batch


def _append(batch: Batch, row: dict[str, Any], seen: set[str]) -> None:
    position = row["position"]
    document = row.get("documents", "")
    identifier: Any = None
    metadata: Any = None
    if isinstance(document, Document):
        identifier, text, metadata = document.id, document.text, document.metadata
    elif isinstance(document, Mapping):
        unknown = set(document) - {"id", "text", "metadata"}
        if unknown or "text" not in document:
            raise ParameterError(
                f"document {position}: expected a mapping with 'text' and optionally 'id' and 'metadata', "
                f"got the keys {sorted(map(str, document))}"
            )
        identifier, text, metadata = document.get("id"), document["text"], document.get("metadata")
    else:
        text = document
    if row.get("ids") is not None:
        identifier = row["ids"]
    if identifier is None:
        identifier = uuid.uuid4().hex
    if row.get("metadata") is not None:
        metadata = row["metadata"]
    if metadata is None:
        metadata = {}
    identifier = check_text(identifier, f"the id of document {position}")
    text = check_text(text, f"the text of document {position}")
    if not isinstance(metadata, Mapping):
        raise InputTypeError(
            f"document {position}: expected metadata to be a mapping, got {type(metadata).__name__} {metadata!r}"
        )
    payload = row.get("payloads")
    if payload is not None:
        payload = check_text(payload, f"the payload of document {position}")
    if identifier in seen:
        raise ParameterError(f"expected each id once in a call, got {identifier!r} twice (document {position})")
    seen.add(identifier)
    where = f"document {position}"
    normal = normal_metadata(metadata, where)
    stored = normal_to_json(normal, where)
    parts = {"id": identifier, "text": text, "metadata": stored, "payload": payload or ""}
    if sum(map(len, parts.values())) * 4 > LARGEST_DOCUMENT:  # a character has at most four bytes
        sizes = {name: len(part.encode()) for name, part in parts.items()}
        if sum(sizes.values()) > LARGEST_DOCUMENT:
            largest = max(sizes, key=sizes.__getitem__)
            raise ParameterError(
                f"{where}: expected at most {LARGEST_DOCUMENT:,} bytes in all, got {sum(sizes.values()):,}, of which its "
                f"{largest} has {sizes[largest]:,}; cut it into several documents"
            )
    batch.ids.append(identifier)
    batch.texts.append(text)
    batch.metadata.append(stored)
    batch.parsed.append(normal)
    batch.payloads.append(payload)


def chunked(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield slices of at most `size` values."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
