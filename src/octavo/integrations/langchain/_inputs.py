"""What callers hand in - lists or streams of texts or documents - as checked slices of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from langchain_core.documents import Document

from octavo._validation import check_integer
from octavo.errors import InputTypeError, ParameterError
from octavo.store.documents import check_text, normal_metadata

Row: TypeAlias = "tuple[str | None, str, dict[str, Any], str | None]"

#: What is embedded in place of a document's text: the metadata under a key, or what a function makes of the document.
EmbedText: TypeAlias = "str | Callable[[Document], str | None]"

#: Documents embedded and written together. Measured: a few hundred at a time stay below the 700 new objects that
#: make Python collect garbage, and a full collection stops every thread, the event loop's too, for 80 ms and more.
BATCH_SIZE = 256

_END: Any = object()


@dataclass
class Rows:
    """Columns of some rows: ids (None: to be made up), texts, metadata, what is embedded (None: the text)."""

    ids: list[str | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    embed_texts: list[str | None] = field(default_factory=list)

    @property
    def to_embed(self) -> list[str]:
        """What is embedded of each."""
        return [text if other is None else other for text, other in zip(self.texts, self.embed_texts, strict=True)]

    def extend(self, other: Rows) -> None:
        """Append the rows of another."""
        self.ids += other.ids
        self.texts += other.texts
        self.metadata += other.metadata
        self.embed_texts += other.embed_texts


class Source:
    """Rows in slices, and whether there is an end to them that is known from the start.

    Lists are meant to be written as a whole: everything is checked and embedded before anything is stored. Streams are
    written slice by slice, since they may not fit in memory.
    """

    def __init__(self, rows: Iterator[Row], *, sized: bool, batch_size: int) -> None:
        self.sized = sized
        self.unnamed = 0  # rows without an id that were read so far
        self._rows = rows
        self.batch_size = check_integer(batch_size, "batch_size", least=1)

    def __iter__(self) -> Iterator[Rows]:
        seen: dict[str, int] = {}
        start = 0
        while part := list(islice(self._rows, self.batch_size)):
            for position, (identifier, *_) in enumerate(part, start):
                if identifier is None:
                    self.unnamed += 1
                    continue
                if identifier in seen:
                    raise ParameterError(
                        f"expected each id once in a call, got {identifier!r} twice, at positions {seen[identifier]} and "
                        f"{position}; keep one of the two, or add them in two calls (the later replaces the earlier)"
                    )
                seen[identifier] = position
            start += len(part)
            yield Rows(*(list(column) for column in zip(*part, strict=True)))


def from_texts(texts: Any, metadatas: Any, ids: Any, batch_size: int, embed_text: EmbedText | None = None) -> Source:
    """Read texts with their metadata and ids.

    Raises
    ------
    ParameterError
        When there are not as many metadatas or ids as texts.
    InputTypeError
        When an argument has the wrong type.
    """
    _check_iterable("texts", texts, "str")
    _check_lengths(texts=texts, metadatas=metadatas, ids=ids)
    _check_iterable("metadatas", metadatas, "dict")
    return Source(
        _text_rows(texts, metadatas, _id_column(ids), embed_text), sized=isinstance(texts, Sized), batch_size=batch_size
    )


def from_documents(documents: Any, ids: Any, batch_size: int, embed_text: EmbedText | None = None) -> Source:
    """Read documents; an id in `ids` wins over the document's own.

    Raises
    ------
    ParameterError
        When there are not as many ids as documents.
    InputTypeError
        When an argument has the wrong type.
    """
    _check_iterable("documents", documents, "Document")
    _check_lengths(documents=documents, ids=ids)
    return Source(
        _document_rows(documents, _id_column(ids), embed_text),
        sized=isinstance(documents, Sized),
        batch_size=batch_size,
    )


def refuse_options(method: str, options: dict[str, Any], *, but: Sequence[str] = ()) -> None:
    """Raise for options that a method does not have, instead of ignoring them; `but` may be there."""
    unknown = [name for name in options if name not in but]
    if unknown:
        raise TypeError(f"{method}() got an unexpected option {unknown[0]!r}")


def as_ids(ids: Any) -> list[str]:
    """Return ids as strings; integers become their digits.

    Raises
    ------
    InputTypeError
        When it is one id instead of several, or an id is something else.
    """
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise InputTypeError(f"expected ids as a list of str, got {type(ids).__name__} {ids!r}; write [{ids!r}]")
    return [_as_id(value, position) for position, value in enumerate(ids)]


def _as_id(value: Any, position: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise InputTypeError(
        f"expected ids of type str or int, got {value!r} ({type(value).__name__}) at position {position}; give str(id)"
    )


def _check_iterable(name: str, value: Any, of: str) -> None:
    if name == "metadatas" and value is None:
        return
    if isinstance(value, str | bytes | dict | Document) or not isinstance(value, Iterable):
        raise InputTypeError(f"expected {name} as an iterable of {of}, got {type(value).__name__}")


def _id_column(ids: Any) -> Iterator[Any] | None:
    if ids is None:
        return None
    _check_iterable("ids", ids, "str or None")
    column: Iterator[Any] = iter(ids)
    return column


def _check_lengths(**columns: Any) -> None:
    lengths = {name: len(value) for name, value in columns.items() if isinstance(value, Sized)}
    if len(set(lengths.values())) > 1:
        expected = next(iter(columns))
        raise ParameterError(
            f"expected as many {' and '.join(name for name in columns if name != expected)} as {expected}, got "
            + ", ".join(f"{count} {name}" for name, count in lengths.items())
        )


def _text_rows(
    texts: Iterable[Any], metadatas: Iterable[Any] | None, ids: Iterator[Any] | None, embed_text: EmbedText | None
) -> Iterator[Row]:
    metadata = iter(metadatas) if metadatas is not None else None
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(f"expected texts of type str, got {type(text).__name__} at position {position}")
        yield _checked(_next(ids, "ids", position), text, _next(metadata, "metadatas", position), position, embed_text)
    _check_exhausted(ids, "ids", "texts")
    _check_exhausted(metadata, "metadatas", "texts")


def _document_rows(documents: Iterable[Any], ids: Iterator[Any] | None, embed_text: EmbedText | None) -> Iterator[Row]:
    for position, document in enumerate(documents):
        if not isinstance(document, Document):
            raise InputTypeError(
                f"expected documents of type langchain_core Document, got {type(document).__name__} "
                f"at position {position}"
            )
        identifier = _next(ids, "ids", position)
        # LangChain takes an empty Document.id for none
        identifier = identifier if identifier is not None else document.id or None
        yield _checked(identifier, document.page_content, document.metadata, position, embed_text)
    _check_exhausted(ids, "ids", "documents")


def _next(column: Iterator[Any] | None, name: str, position: int) -> Any:
    if column is None:
        return None
    value = next(column, _END)
    if value is _END:
        raise ParameterError(f"expected as many {name} as texts or documents, got only {position}")
    return value


def _checked(identifier: Any, text: str, metadata: Any, position: int, embed_text: EmbedText | None) -> Row:
    """Return a row that can be stored: what cannot is found before anything is embedded."""
    if identifier is not None:
        identifier = check_text(_as_id(identifier, position), f"the id of document {position}")
    check_text(text, f"the text of document {position}")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, Mapping):
        raise InputTypeError(
            f"document {position}: expected metadata to be a mapping, got {type(metadata).__name__} {metadata!r}"
        )
    normal = normal_metadata(metadata, f"document {position}")
    embedded = _embed_text(embed_text, identifier, text, metadata, position)
    return identifier, text, normal, embedded if embedded != text else None


def _embed_text(
    embed_text: EmbedText | None, identifier: str | None, text: str, metadata: Mapping[str, Any], position: int
) -> str | None:
    """Return what is embedded of a document in place of its text; None for the text itself."""
    if embed_text is None:
        return None
    if isinstance(embed_text, str):
        found = metadata.get(embed_text)
        what = f"metadata[{embed_text!r}] of document {position}"
    else:
        found = embed_text(Document(id=identifier, page_content=text, metadata=dict(metadata)))
        what = f"what embed_text= makes of document {position}"
    if found is not None and not isinstance(found, str):
        raise InputTypeError(f"expected {what} as a str or None, got {type(found).__name__} {found!r}")
    return check_text(found, what) if found is not None else None


def _check_exhausted(column: Iterator[Any] | None, name: str, primary: str) -> None:
    if column is not None and next(column, _END) is not _END:
        raise ParameterError(f"expected as many {name} as {primary}, got more")
