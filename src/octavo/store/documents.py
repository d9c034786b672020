"""Documents as the caller gives them, and as they are stored: checked, with ids, as JSON."""

from __future__ import annotations

import contextlib
import json
import math
import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import numpy as np

from octavo._arrays import Codes, Floats, as_matrix
from octavo._html import notebook_table
from octavo._printing import short
from octavo._sparse_rows import SparseRows
from octavo._validation import check_flag
from octavo.compression import Codec
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.page_images import ImageLike, PageImage, as_page_image, is_image
from octavo.errors import DocumentNotFoundError, InputTypeError, InvalidImageError, ParameterError
from octavo.filters.times import plain_datetime64, plain_time

#: Bytes of a document: its id, text, metadata and payload. SQLite keeps rows of up to 10^9 bytes.
LARGEST_DOCUMENT = 900_000_000

#: Characters of each part of a document that its `repr` shows.
_SHOWN = 120

_T = TypeVar("_T")

DocumentLike: TypeAlias = "str | Document | Mapping[str, Any] | ImageLike"


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
    embed_text : str, optional
        What its vector is made of, where that is not the text.
    embed_words : bool, default=False
        Whether a search by words looks into `embed_text` in place of the text.

    Examples
    --------
    >>> Document("r", "a red apple", {"year": 2020}).metadata
    {'year': 2020}
    >>> Document("r", "It is red.", embed_text="Apples. It is red.").to_embed
    'Apples. It is red.'
    """

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    embed_text: str | None = None
    embed_words: bool = False

    @property
    def to_embed(self) -> str:
        """What the vector is made of: `embed_text`, or else the text."""
        return self.text if self.embed_text is None else self.embed_text

    @property
    def image(self) -> PageImage | None:
        """The image that its vectors are made of; None where they are made of a text."""
        embed_text = self.embed_text
        return PageImage.stored(embed_text, self.text) if embed_text is not None and is_image(embed_text) else None

    @property
    def words(self) -> str:
        """What a search by words looks into."""
        return self.to_embed if self.embed_words else self.text

    @classmethod
    def stored(cls, id: str, text: str, metadata: str, embed_text: str | None = None, flags: int = 0) -> Self:
        """Return a document as it is stored; its metadata is read from the JSON text when somebody asks for it.

        Parameters
        ----------
        id, text : str
            As in the class.
        metadata : str
            What `metadata_to_json` has written.
        embed_text : str or None
            As in the class.
        flags : int
            As in `octavo.store.database`.
        """
        document = object.__new__(cls)
        document.__dict__.update(id=id, text=text, _stored=metadata)
        if embed_text is not None:
            document.__dict__.update(embed_text=embed_text, embed_words=bool(flags & 1))
        return document

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "metadata" and (stored := self.__dict__.get("_stored")) is not None:
                return self.__dict__.setdefault("metadata", metadata_from_json(stored))  # the same for all threads
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        parts = [
            f"id={short(self.id, _SHOWN)}",
            f"text={short(self.text, _SHOWN)}",
            f"metadata={short(self.metadata, _SHOWN)}",
        ]
        if self.embed_text is not None:
            parts.append(f"embed_text={short(self.embed_text, _SHOWN)}")
        if self.embed_words:
            parts.append("embed_words=True")
        return f"Document({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = [
            ("id", self.id),
            ("text", self.text),
            *([("embedded text", short(self.embed_text, 300))] if self.embed_text is not None else ()),
            *((name, short(value, 300)) for name, value in self.metadata.items()),
        ]
        return notebook_table("Document", [], rows)


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
    sparse: SparseRows | None = None  # learned sparse vectors, if the collection keeps any
    codes: tuple[bytes, Sequence[Codes]] | None = None  # a stored codec, and what it made of `vectors` in each tier
    embed_texts: list[str | None] = field(default_factory=list)  # None: the text itself
    flags: list[int] = field(default_factory=list)  # see `octavo.store.database`

    def __len__(self) -> int:
        return len(self.ids)

    def codes_of(self, codec: Codec | None) -> Sequence[Codes] | None:
        """Return the codes of each tier if they were made beforehand, with this very codec."""
        if self.codes is None or codec is None or codec.to_bytes() != self.codes[0]:
            return None
        return self.codes[1]

    @property
    def to_embed(self) -> list[str]:
        """What the vectors are made of."""
        return [text if other is None else other for text, other in zip(self.texts, self.embed_texts, strict=True)]

    @property
    def words(self) -> list[str]:
        """What a search by words looks into."""
        found = zip(self.texts, self.to_embed, self.flags, strict=True)
        return [embedded if flags & 1 else text for text, embedded, flags in found]

    def rows(self) -> Iterator[tuple[str, str, str, str | None, str | None, int]]:
        """Yield what `document_crc` takes."""
        return zip(self.ids, self.texts, self.metadata, self.payloads, self.embed_texts, self.flags, strict=True)

    @classmethod
    def of_rows(cls, rows: Sequence[tuple[str, str, str, str | None, str | None, int]]) -> Batch:
        """Return a batch of what `rows` yields, without vectors."""
        ids, texts, metadata, payloads, embed_texts, flags = (list(column) for column in zip(*rows, strict=True))
        parsed = [metadata_from_json(text) for text in metadata]
        return cls(ids, texts, metadata, parsed, payloads, None, embed_texts=embed_texts, flags=flags)

    def part(self, rows: Sequence[int]) -> Batch:
        """Return the documents of some rows, without vectors."""
        return Batch(
            [self.ids[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.metadata[row] for row in rows],
            [self.parsed[row] for row in rows],
            [self.payloads[row] for row in rows],
            None,
            embed_texts=[self.embed_texts[row] for row in rows],
            flags=[self.flags[row] for row in rows],
        )

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
        text = _ENCODER.encode(metadata)
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
    decoder = _TYPED if _MARK in text else _PLAIN
    value, end = decoder.raw_decode(text)
    return value if end == len(text) else decoder.decode(text)  # which says what is wrong


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
    if isinstance(value, list):
        return [inner if type(inner) in _ATOMS else _normal(inner, path, where) for inner in value]
    if isinstance(value, tuple):
        return tuple([inner if type(inner) in _ATOMS else _normal(inner, path, where) for inner in value])
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
        inside: Iterable[Any] = value.values()
    elif isinstance(value, list):
        inside = value
    else:
        return isinstance(value, tuple)
    for inner in inside:  # noqa: SIM110 - a generator would take twice as long, for every document
        if type(inner) not in _PLAIN_TYPES and _needs_tags(inner):
            return True
    return False


def _tagged(value: Any) -> Any:
    """Return the stored form of a normal value."""
    if type(value) in _PLAIN_TYPES:
        return value
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


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_tagged)
_PLAIN, _TYPED = json.JSONDecoder(), json.JSONDecoder(object_hook=_untagged)

_ATOMS = frozenset({str, int, bool, type(None)})
_PLAIN_TYPES = _ATOMS | {float}


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


#: Characters of a note: it is read as a whole, and in Qdrant it is part of one point.
_LONGEST_NOTE = 1_000_000


def check_note(name: Any, text: Any) -> tuple[str, str | None]:
    """Return name and text of a note that can be kept."""
    name = check_text(name, "the name of a note")
    if not name:
        raise ParameterError("expected a name for the note, got an empty string")
    if text is not None:
        text = check_text(text, f"the note {name!r}")
        if len(text) > _LONGEST_NOTE:
            raise ParameterError(
                f"expected at most {_LONGEST_NOTE:,} characters in the note {name!r}, got {len(text):,}; store "
                "documents instead"
            )
    return name, text


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


#: Documents of one call whose batches are kept between the check of all of them and the writing.
_KEPT = 32_768

#: Characters of texts to embed that they may hold meanwhile: an image has hundreds of thousands.
_HELD = 1 << 28


def each_of(found: Mapping[str, _T], ids: Sequence[str]) -> list[_T]:
    """Return what was found for each of these ids, in their order.

    Raises
    ------
    DocumentNotFoundError
        When one of them is not there.
    """
    missing = next((identifier for identifier in ids if identifier not in found), None)
    if missing is not None:
        raise DocumentNotFoundError(f"expected ids of stored documents, but {missing!r} is not in the collection")
    return [found[identifier] for identifier in ids]


def read_batches(
    documents: Iterable[DocumentLike] | None,
    ids: Iterable[str | None] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
    vectors: Any,
    payloads: Iterable[str | None] | None,
    *,
    batch_size: int,
    dim: int | None,
    embed_texts: Iterable[str | None] | None = None,
    embed_words: bool = False,
) -> Iterator[Batch]:
    """Yield checked batches of at most `batch_size` documents.

    When the inputs are sized, all of them are checked before the first batch comes out; streams are checked as they go.
    """
    if isinstance(documents, str | Mapping | Document) or as_page_image(documents) is not None:
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
    if isinstance(embed_texts, str | bytes):
        raise InputTypeError(f"expected embed_texts as an iterable of str, got a single {type(embed_texts).__name__}")
    if check_flag(embed_words, "embed_words") and embed_texts is None:
        raise ParameterError("embed_words belongs to embed_texts: words come from the texts themselves otherwise")
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
        "embed_texts": embed_texts,
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
        checked = _chunks(columns, batch_size, embed_words)
        kept: deque[Batch] = deque()
        done = held = 0
        for batch in checked:
            kept.append(batch)
            done, held = done + len(batch), held + sum(len(text) for text in batch.embed_texts if text is not None)
            if done + batch_size > _KEPT or held > _HELD:
                break
        for _ in checked:
            pass  # made again below rather than kept, which would double the memory of a long input
        while kept:
            yield kept.popleft()
        yield from _chunks(columns, batch_size, embed_words, done)
    elif _sized(primary):
        yield from list(_chunks(columns, batch_size, embed_words))
    else:
        yield from _chunks(columns, batch_size, embed_words)


def read_made(
    documents: Iterable[DocumentLike] | None,
    vectors: Iterable[Any],
    ids: Iterable[str | None] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
    *,
    batch_size: int,
    embed_texts: Iterable[str | None] | None,
) -> list[tuple[Batch, list[Any]]]:
    """Return all batches of documents whose vectors were made elsewhere, each with its vectors: None for what a document has.

    Raises
    ------
    ParameterError
        When there is not one vector, or None, for each document.
    """
    batches = list(
        read_batches(documents, ids, metadata, None, None, batch_size=batch_size, dim=None, embed_texts=embed_texts)
    )
    made, wanted = list(vectors), sum(map(len, batches))
    if len(made) != wanted:
        raise ParameterError(f"expected one vector, or None, for each of {wanted} documents, got {len(made)}")
    given = iter(made)
    return [(batch, list(islice(given, len(batch)))) for batch in batches]


def _chunks(columns: dict[str, Any], batch_size: int, embed_words: bool, start: int = 0) -> Iterator[Batch]:
    """Yield batches of columns that run side by side, from number `start` on."""
    matrix: Any = columns.get("vectors")
    ready = isinstance(matrix, np.ndarray)  # checked already: batches are views of it
    streams = {
        name: islice(iter(value), start, None) for name, value in columns.items() if name != "vectors" or not ready
    }
    seen: set[str] = set()
    while True:
        part: dict[str, Any] = {name: list(islice(stream, batch_size)) for name, stream in streams.items()}
        if ready:
            part["vectors"] = matrix[start : start + batch_size]
        n, most = min(map(len, part.values())), max(map(len, part.values()))
        if n < most:
            ended = next(name for name in columns if len(part[name]) == n)
            more = next(name for name in columns if len(part[name]) > n)
            raise ParameterError(
                f"expected as many ids, metadata and vectors as documents, but {ended} ended after {start + n} "
                f"while {more} went on"
            )
        if not n:
            return
        batch = _read_batch(part, n, start, seen, embed_words)
        if matrix is not None:
            batch.vectors = part["vectors"] if ready else as_matrix(part["vectors"])
        start += n
        yield batch


def _read_batch(part: Mapping[str, list[Any]], n: int, start: int, seen: set[str], embed_words: bool = False) -> Batch:
    """Check `n` documents, of which the first is number `start`; their ids are added to those `seen`."""
    nothing = [None] * n
    texts: list[Any] = part.get("documents", [""] * n)
    _refuse_urls(part.get("embed_texts", ()), start)
    ids, metadata, payloads = (part.get(name, nothing) for name in ("ids", "metadata", "payloads"))
    embed_texts = part.get("embed_texts", nothing)
    words = [embed_words] * n
    if set(map(type, texts)) != {str}:
        rows = [_parts(document, number) for number, document in enumerate(texts, start)]
        texts = [row[0] for row in rows]
        ids = [row[1] if given is None else given for given, row in zip(ids, rows, strict=True)]
        metadata = [row[2] if given is None else given for given, row in zip(metadata, rows, strict=True)]
        _refuse_two(embed_texts, rows, start)
        embed_texts = [row[3] if given is None else given for given, row in zip(embed_texts, rows, strict=True)]
        words = [embed_words or row[4] for row in rows]
        metadata = [_with_about(given, document) for given, document in zip(metadata, part["documents"], strict=True)]
    ids = [
        identifier
        if type(identifier) is str and identifier.isascii()
        else (uuid.uuid4().hex if identifier is None else check_text(identifier, f"the id of document {number}"))
        for number, identifier in enumerate(ids, start)
    ]
    texts = [
        text if type(text) is str and text.isascii() else check_text(text, f"the text of document {number}")
        for number, text in enumerate(texts, start)
    ]
    if not all(map(str.isascii, texts)):
        _refuse_urls(texts, start)
    payloads = [
        payload if payload is None else check_text(payload, f"the payload of document {number}")
        for number, payload in enumerate(payloads, start)
    ]
    if embed_texts is not nothing:
        embed_texts = [
            None
            if value is None or check_text(value, f"the text to embed of document {number}") == text
            else str(value)
            for number, (value, text) in enumerate(zip(embed_texts, texts, strict=True), start)
        ]
    flags = [0] * n if embed_texts is nothing else list(map(_flags_of, embed_texts, words))
    if not seen.isdisjoint(ids) or len(set(ids)) < n:
        for number, identifier in enumerate(ids, start):
            if identifier in seen:
                raise ParameterError(f"expected each id once in a call, got {identifier!r} twice (document {number})")
            seen.add(identifier)
    seen.update(ids)
    parsed = [
        value.copy() if _is_stored_as_it_is(value) else _normal_of(value, f"document {number}")
        for number, value in enumerate(metadata, start)
    ]
    batch = Batch(
        ids, texts, _to_json_together(parsed, start), parsed, payloads, None, embed_texts=embed_texts, flags=flags
    )
    columns = (ids, texts, batch.metadata, payloads, embed_texts)
    characters = sum(sum(map(len, filter(None, column))) for column in columns)
    if 4 * characters > LARGEST_DOCUMENT:  # a character has at most four bytes
        _check_sizes(batch, start)
    return batch


def _flags_of(embed_text: str | None, words: bool) -> int:
    return int(words and embed_text is not None and not is_image(embed_text))


def _parts(document: Any, position: int) -> tuple[Any, Any, Any, Any, bool]:
    """Return text, id, metadata, text to embed, and whether that has the words, of what a caller gave for a document."""
    if isinstance(document, Document):
        return document.text, document.id, document.metadata, document.embed_text, document.embed_words
    image = as_page_image(document)
    if image is not None:
        return image.text, None, None, _embed_text_of(image, position), False
    if not isinstance(document, Mapping):
        return document, None, None, None, False
    unknown = set(document) - {"id", "text", "metadata"}
    if unknown or "text" not in document:
        raise ParameterError(
            f"document {position}: expected a mapping with 'text' and optionally 'id' and 'metadata', "
            f"got the keys {sorted(map(str, document))}"
        )
    return document["text"], document.get("id"), document.get("metadata"), None, False


def _embed_text_of(image: PageImage, position: int) -> str:
    try:
        return image.embed_text
    except InvalidImageError as error:
        raise InvalidImageError(f"document {position}: {error}") from error


def _with_about(metadata: Any, document: Any) -> Any:
    """Return metadata with what an image says of itself, unless it says something else there."""
    about = image.about if (image := as_page_image(document)) is not None else {}
    return about | dict(metadata or {}) if about and isinstance(metadata, Mapping | None) else metadata


def _refuse_two(embed_texts: Sequence[Any], rows: Sequence[Sequence[Any]], start: int) -> None:
    """Raise for a document whose vectors would have to be made of an image and of a text."""
    for number, (given, row) in enumerate(zip(embed_texts, rows, strict=True), start):
        if given is not None and row[3] is not None and is_image(row[3]):
            raise ParameterError(
                f"document {number}: expected None in embed_texts for an image, which its vectors are made of; what words "
                "find it by is PageImage(image, text)"
            )


def _refuse_urls(texts: Iterable[Any], start: int) -> None:
    """Raise for a text that would be taken for an image: a text from anywhere must not have a file opened."""
    for number, text in enumerate(texts, start):
        if isinstance(text, str) and is_image(text):
            raise ParameterError(
                f"document {number}: expected a text, got one that begins with U+FFFC and a URL, which stands for an image; "
                "give an octavo.PageImage for an image, and take the first character away from a text"
            )


def _normal_of(metadata: Any, where: str) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InputTypeError(f"{where}: expected metadata to be a mapping, got {type(metadata).__name__} {metadata!r}")
    return normal_metadata(metadata, where)


def _is_stored_as_it_is(metadata: Any) -> bool:
    """Tell whether metadata is a flat dict for which `normal_metadata` would give an equal one; most is."""
    if type(metadata) is not dict:
        return False
    for key, value in metadata.items():
        if type(key) is not str or not key.isascii():
            return False
        kind = type(value)
        if kind not in _ATOMS and not (kind is float and math.isfinite(value)):
            return False
    return True


def _to_json_together(metadata: list[dict[str, Any]], start: int) -> list[str]:
    """Return what `normal_to_json` gives for each, where possible cut out of one text, which takes a third of the time."""
    with contextlib.suppress(RecursionError, UnicodeEncodeError):  # raised again below, with the number of the document
        text = _ENCODER.encode([_tagged(each) if _needs_tags(each) else each for each in metadata])
        if not text.isascii():
            text.encode()
        found = text[2:-2].split("},{")
        if len(found) == len(metadata):  # so none of these places is inside of an object
            return [f"{{{each}}}" for each in found]
    return [normal_to_json(each, f"document {number}") for number, each in enumerate(metadata, start)]


def _check_sizes(batch: Batch, start: int) -> None:
    columns: dict[str, Sequence[str | None]] = {
        "id": batch.ids,
        "text": batch.texts,
        "metadata": batch.metadata,
        "payload": batch.payloads,
        "text to embed": batch.embed_texts,
    }
    for number, row in enumerate(zip(*columns.values(), strict=True), start):
        if sum(len(part) for part in row if part) * 4 <= LARGEST_DOCUMENT:
            continue
        sizes = {name: len((part or "").encode()) for name, part in zip(columns, row, strict=True)}
        if sum(sizes.values()) > LARGEST_DOCUMENT:
            largest = max(sizes, key=sizes.__getitem__)
            raise ParameterError(
                f"document {number}: expected at most {LARGEST_DOCUMENT:,} bytes in all, got {sum(sizes.values()):,}, of "
                f"which its {largest} has {sizes[largest]:,}; cut it into several documents"
            )


@dataclass(frozen=True)
class DocumentChanges:
    """What is to change of documents beside their vectors; None leaves a part as it is."""

    ids: list[str]
    metadata: list[str | None]
    texts: list[str | None]
    payloads: list[str | None]

    @classmethod
    def read(
        cls,
        ids: Iterable[str],
        metadata: Iterable[Mapping[str, Any] | None] | None,
        texts: Iterable[str | None] | None,
        payloads: Iterable[str | None] | None,
    ) -> DocumentChanges:
        """Check what is asked for.

        Raises
        ------
        ParameterError, InputTypeError
            When it cannot be used.
        """
        listed = check_ids(ids)
        if len(set(listed)) < len(listed):
            twice = next(identifier for number, identifier in enumerate(listed) if identifier in listed[:number])
            raise ParameterError(f"expected each id once, got {twice!r} twice")
        if metadata is None and texts is None and payloads is None:
            raise ParameterError("expected metadata, texts or payloads to change, got none of them")
        if isinstance(metadata, Mapping):
            raise InputTypeError("expected metadata as one mapping for each id, got a single mapping; put it in a list")
        columns: dict[str, list[Any]] = {}
        for name, given in (("metadata", metadata), ("texts", texts), ("payloads", payloads)):
            if isinstance(given, str | bytes):
                raise InputTypeError(f"expected {name} as one for each id, got a single {type(given).__name__}")
            _refuse_table(given, name, "give one value for each id")
            columns[name] = [None] * len(listed) if given is None else list(given)
            if len(columns[name]) != len(listed):
                raise ParameterError(f"expected as many {name} as ids ({len(listed)}), got {len(columns[name])}")
        _refuse_urls(columns["texts"], 0)
        for name, what in (("texts", "text"), ("payloads", "payload")):
            columns[name] = [
                None if value is None else check_text(value, f"the new {what} of {identifier!r}")
                for identifier, value in zip(listed, columns[name], strict=True)
            ]
        for number, (identifier, value) in enumerate(zip(listed, columns["metadata"], strict=True)):
            if value is not None:
                if not isinstance(value, Mapping):
                    raise InputTypeError(
                        f"expected new metadata of {identifier!r} as a mapping, got {type(value).__name__}"
                    )
                columns["metadata"][number] = metadata_to_json(value, f"the new metadata of {identifier!r}")
        return cls(listed, columns["metadata"], columns["texts"], columns["payloads"])

    def applied(
        self, stored: Mapping[str, Sequence[Any]]
    ) -> Iterator[tuple[str, str, str, str | None, str | None, int]]:
        """Return the rows that those of the documents become, as `document_crc` takes them.

        Raises
        ------
        DocumentNotFoundError
            When one is not there.
        """
        rows = list(self._rows(stored))
        if rows:
            _check_sizes(Batch.of_rows(rows), 0)
        return iter(rows)

    def _rows(self, stored: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str, str, str | None, str | None, int]]:
        for identifier, metadata, text, payload in zip(self.ids, self.metadata, self.texts, self.payloads, strict=True):
            if identifier not in stored:
                raise DocumentNotFoundError(
                    f"expected ids of stored documents, but {identifier!r} is not in the collection; nothing was changed"
                )
            _, old, *rest, embed_text, flags = stored[identifier][:6]
            if text is not None:
                embed_text = old if embed_text is None else embed_text
                embed_text = None if embed_text == text else embed_text
            else:
                text = old
            if embed_text is None:
                flags &= ~1  # words come from the text, whichever it is
            row = (
                identifier,
                text,
                metadata if metadata is not None else rest[0],
                payload if payload is not None else rest[1],
                embed_text,
                flags,
            )
            yield row


def chunked(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield slices of at most `size` values."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
