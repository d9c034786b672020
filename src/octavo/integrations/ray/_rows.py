"""Documents as rows of Arrow tables: how they come in, and how they travel once they are encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from octavo._arrays import Codes, Floats
from octavo.compression import Codec
from octavo.errors import OctavoError, ParameterError
from octavo.store.documents import check_text, metadata_to_json

#: What `encode` gives: one row a document. ``codes`` holds the codes of all tiers, one behind the other; it is null, and
#: ``error`` says why, where a document could not be encoded. ``codec`` names metric and codec.
ENCODED = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("metadata", pa.string()),
        ("codes", pa.binary()),
        ("codec", pa.string()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Columns:
    """Where the parts of a document stand in the input."""

    id: str = "id"
    text: str = "text"
    metadata: tuple[str, ...] | None = None  # None: all others

    def check_known(self, dataset: Any) -> None:
        """Check the columns of a dataset if they are known without reading anything; if not, `read_rows` will."""
        names = dataset.columns(fetch_if_missing=False)
        if names is not None:
            self.check(names)

    def check(self, names: Sequence[str]) -> None:
        """Raise `ParameterError` unless the columns are there."""
        wanted = [self.id, self.text, *(self.metadata or ())]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ParameterError(
                f"expected a dataset with the columns {', '.join(map(repr, wanted))}, got {', '.join(map(repr, names))}; "
                "say which columns hold the ids and texts with id_column and text_column"
            )


class Row(NamedTuple):
    """One document; `error` says why it cannot be used."""

    id: str
    text: str
    metadata: str  # JSON
    error: str | None


def read_rows(table: pa.Table, columns: Columns) -> list[Row]:
    """Return the documents of a table, checked one by one.

    Raises
    ------
    ParameterError
        When a column is missing.
    """
    columns.check(table.column_names)
    others = columns.metadata
    if others is None:
        others = tuple(name for name in table.column_names if name not in (columns.id, columns.text))
    values = table.select([columns.id, columns.text, *others]).to_pylist()
    return [_read_row(value, columns, others) for value in values]


def _read_row(value: dict[str, Any], columns: Columns, others: Sequence[str]) -> Row:
    identifier, text = value[columns.id], value[columns.text]
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    shown = identifier if isinstance(identifier, str) else ""
    try:
        check_text(identifier, "the id")
        check_text(text, "the text")
        # A null means that the document has no such field; a column cannot say so in any other way.
        fields = {name: value[name] for name in others if value[name] is not None}
        return Row(shown, text, metadata_to_json(fields, "the metadata"), None)
    except OctavoError as error:
        return Row(shown, text if isinstance(text, str) else "", "{}", str(error))


@dataclass
class EncodedRows:
    """Documents on their way into the table that `encode` gives."""

    tag: str
    rows: list[Row] = field(default_factory=list)
    codes: list[bytes | None] = field(default_factory=list)

    def to_table(self) -> pa.Table:
        """Return the rows as a table with the schema `ENCODED`."""
        return pa.Table.from_pydict(
            {
                "id": [row.id for row in self.rows],
                "text": [row.text for row in self.rows],
                "metadata": [row.metadata for row in self.rows],
                "codes": self.codes,
                "codec": [self.tag] * len(self.rows),
                "error": [row.error for row in self.rows],
            },
            schema=ENCODED,
        )


def codec_tag(codec: Codec, metric: str) -> str:
    """Return the name of a fitted codec: two that have learned different things have different names."""
    return f"{metric}:{hashlib.sha256(codec.to_bytes()).hexdigest()[:32]}"


def join_tiers(tiers: Sequence[Codes]) -> list[bytes]:
    """Return the codes of all tiers, one ``bytes`` a document."""
    return [row.tobytes() for row in np.concatenate(tiers, axis=1)]


def split_tiers(codes: Sequence[bytes], codec: Codec) -> list[Codes]:
    """Reverse `join_tiers`.

    Raises
    ------
    ParameterError
        When a row has another length than the codec's codes.
    """
    widths = [tier.layout.row_bytes for tier in codec.tiers]
    if any(len(row) != sum(widths) for row in codes):
        raise ParameterError(f"expected codes of {sum(widths)} bytes a document; was the dataset changed after encode?")
    matrix = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), sum(widths))
    ends = np.cumsum(widths)
    return [np.ascontiguousarray(part) for part in np.split(matrix, ends[:-1], axis=1)]


def decoded(tiers: Sequence[Codes], codec: Codec) -> Floats:
    """Return the vectors that the codes of the finest tier stand for."""
    return codec.tiers[-1].decode(tiers[-1])
