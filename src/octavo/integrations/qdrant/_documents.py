"""Documents as payloads of points, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from octavo.integrations.qdrant._terms import describe
from octavo.store.documents import Batch, Document

#: The fields of a payload that make up a document.
FIELDS: Final = ("id", "text", "metadata", "json", "payload")

#: Beyond this an integer does not survive every JSON reader.
_SAFE_INTEGER: Final = 2**53


def payload_of(batch: Batch, row: int, order: int) -> dict[str, Any]:
    """Return the payload of a document of a batch; `order` tells which of two was written later."""
    metadata = json.loads(batch.metadata[row])
    payload: dict[str, Any] = {"id": batch.ids[row], "text": batch.texts[row], "order": order, **describe(metadata)}
    if _plain(metadata):
        payload["metadata"] = metadata
    else:  # Qdrant would not give it back as it was
        payload["json"] = batch.metadata[row]
    if batch.payloads[row] is not None:
        payload["payload"] = batch.payloads[row]
    return payload


def document_of(payload: Mapping[str, Any]) -> Document:
    """Return the document that a payload holds."""
    text = payload.get("json")
    metadata = json.loads(text) if text is not None else payload.get("metadata") or {}
    return Document(payload["id"], payload.get("text", ""), metadata)


def _plain(value: Any) -> bool:
    """Tell whether a JSON value comes back from Qdrant as it was: floats may lose their last bit, long integers more."""
    if isinstance(value, Mapping):
        return all(_valid(key) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, float):
        return False
    if isinstance(value, int):
        return abs(value) <= _SAFE_INTEGER
    return not isinstance(value, str) or _valid(value)


def _valid(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
