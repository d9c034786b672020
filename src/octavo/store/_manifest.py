"""Is what a manifest says of the kind that Octavo writes? A collection may be damaged, or come from anyone."""

from __future__ import annotations

import json
import re
from typing import Any

from octavo.errors import CorruptCollectionError

FORMAT_VERSION = 1

#: More rows, commits or values than any collection has; such numbers still fit whatever is computed from them.
_LARGEST = 2**48

_COUNTS = ("seq", "generation", "slots", "alive", "fitted", "tokens", "space")
_BYTES = ("codec_state", "token_codec", "candidate_state")
_SETTINGS = {"metric": str, "full_text": str, "fit_after": int, "seed": int, "connectivity": int}

_GRAPH_NAME = re.compile(r"g\d{6,}-[0-9a-f]{32}\.graph")
_CELL_NAMES = {
    kind: re.compile(rf"g\d{{6,}}-[0-9a-f]{{32}}\.{kind}") for kind in ("cells", "segment", "centroids", "postings")
}
_SPARSE_NAME = re.compile(r"[0-9a-f]{32}\.sparse")
_TEXT_FILE = re.compile(r"[\w.-]+")


def check_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of a collection if each entry has the type and range that it should have.

    Raises
    ------
    CorruptCollectionError
        When one has not; the message names it.
    """
    for key in _COUNTS:
        value = manifest.get(key, 0 if key in ("tokens", "space") else None)
        if not isinstance(value, int) or not 0 <= value < _LARGEST:
            raise _wrong(key, "a number of 0 or more", value)
    dim = manifest.get("dim")
    if dim is not None and (not isinstance(dim, int) or not 1 <= dim < 2**24):
        raise _wrong("dim", "a dimension", dim)
    for key in _BYTES:
        if not isinstance(manifest.get(key, b""), bytes):
            raise _wrong(key, "bytes", manifest[key])
    if manifest["generation"] and not manifest.get("codec_state"):
        raise _wrong("codec_state", "what the codec has learned", manifest.get("codec_state"))
    if not isinstance(manifest.get("codec"), str):
        raise _wrong("codec", "a codec string", manifest.get("codec"))
    settings = _parsed("settings", manifest.get("settings"))
    for name, kind in _SETTINGS.items():
        if not isinstance(settings.get(name), kind):
            raise _wrong("settings", f"{name} as {kind.__name__}", settings.get(name))
    if settings.get("index", "graph") not in ("cells", "graph"):
        raise _wrong("settings", "index as 'cells' or 'graph'", settings["index"])
    if manifest.get("encoder"):
        encoder = _parsed("encoder", manifest["encoder"])
        if not isinstance(encoder.get("name"), str):
            raise _wrong("encoder", "a name", encoder.get("name"))
    if manifest.get("sparse"):
        _check_sparse(manifest["sparse"], manifest["slots"])
    return manifest


def _check_sparse(text: Any, slots: int) -> None:
    """Raise `CorruptCollectionError` unless segments of sparse vectors have names and ranges of slots such as Octavo writes."""
    try:
        entry = _parsed("sparse", text)
        numbers = [entry["sealed"]]
        good, end = True, 0
        for part in entry["segments"]:
            numbers += [part[key] for key in ("bytes", "crc", "first", "last", "rows")]
            good = good and _SPARSE_NAME.fullmatch(part["file"]) is not None
            good = good and end <= part["first"] < part["last"] <= entry["sealed"]
            end = part["last"]
        good = good and entry["sealed"] <= slots
    except (KeyError, TypeError):
        good, numbers = False, []
    if not good or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise _wrong("sparse", "segments of sparse vectors", text)


def check_artifact(name: str, text: str) -> dict[str, Any] | None:
    """Return what is recorded about a derived file; None (it is then made anew) for what Octavo would not have written.

    File names among it are such as Octavo gives, so that none leads out of the collection's directory.
    """
    try:
        entry = json.loads(text)
        if name.endswith("token_cells"):
            numbers, good = _cell_numbers(entry, "centroids", "postings")
        elif name.endswith("cells"):
            numbers, good = _cell_numbers(entry, "cells", "segment")
        elif name.endswith("graph"):
            numbers = [entry[key] for key in ("generation", "covered", "bytes", "crc")]
            good = _GRAPH_NAME.fullmatch(entry["file"]) is not None
        else:
            numbers = [entry["seq"], entry["slots"]]
            files = entry["manifest"]["files"]
            numbers += [number for pair in files.values() for number in pair]
            good = entry["manifest"]["directory"].isdecimal() and all(
                _TEXT_FILE.fullmatch(file) and file not in (".", "..") for file in files
            )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entry if good and all(isinstance(number, int) and number >= 0 for number in numbers) else None


def _cell_numbers(entry: dict[str, Any], model_kind: str, part_kind: str) -> tuple[list[Any], bool]:
    """Return all numbers of what is recorded about cells, and whether names and ranges of slots are such as Octavo writes."""
    model, parts, covered = entry["model"], entry["segments"], entry["covered"]
    since, cosine = entry["later"]
    numbers = [entry["generation"], covered, since, *(model[key] for key in ("bytes", "crc"))]
    numbers += [part[key] for part in parts for key in ("bytes", "crc", "first", "last", "rows")]
    good = _CELL_NAMES[model_kind].fullmatch(model["file"]) is not None and isinstance(cosine, float)
    end = 0
    for part in parts:
        named = _CELL_NAMES[part_kind].fullmatch(part["file"]) is not None
        good = good and named and end <= part["first"] <= part["last"] <= covered < _LARGEST
        end = part["last"]
    return numbers, good


def _parsed(key: str, value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _wrong(key, "a JSON object", value)
    return found


def _wrong(key: str, expected: str, found: Any) -> CorruptCollectionError:
    shown = repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return CorruptCollectionError(
        f"octavo.db is damaged: its manifest should have {expected} under {key!r}, got {shown}; restore it from a backup"
    )
