"""Where a collection is: a directory of Octavo's own, or a place in Qdrant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

import octavo
from octavo.collection import CollectionLike
from octavo.errors import ParameterError
from octavo.integrations.qdrant.location import open_collection, open_or_create, parse_location

#: What commands do that need Octavo's own files, and what to do instead where there are none.
_INSTEAD = {
    "verify": "Qdrant checks its own files; for a local copy that can be verified: octavo pull {place} DIR",
    "tune": "pass ef= and oversample= to searches, or tune a local copy: octavo pull {place} DIR",
    "reencode": "pull it, re-encode the copy, and push that: octavo pull {place} DIR; octavo reencode DIR; octavo push DIR",
    "snapshot": "use Qdrant's snapshots, or make a local copy: octavo pull {place} DIR",
    "restore": "restore into a directory, then: octavo push DIR --to {place}",
    "export": "make a local copy first: octavo pull {place} DIR",
    "import": "import into a directory, then: octavo push DIR --to {place}",
    "push": "it sends a local collection; from Qdrant into a directory: octavo pull {place} DIR",
    "pull": "it fills a local collection; from a directory into Qdrant: octavo push DIR --to {place}",
}


def as_given(text: str) -> str:
    """Return a place as it was typed: as a path, ``https://`` would lose a slash."""
    return text


def local_directory(context: typer.Context, place: str) -> Path:
    """Return the directory of a collection, for a command that needs Octavo's own files.

    Raises
    ------
    ParameterError
        When the place is in Qdrant; the message says what to do instead.
    """
    if parse_location(place) is not None:
        command = context.info_name or ""
        instead = _INSTEAD.get(command, "make a local copy: octavo pull {place} DIR").format(place=place)
        raise ParameterError(f"{command} needs a collection in a directory, got {place} in Qdrant; {instead}")
    return Path(place)


def open_place(place: str, encoder: Any = None, *, read_only: bool, previous: Any = None) -> CollectionLike:
    """Open an existing collection, wherever it is; `previous` as in `octavo.open`.

    Raises
    ------
    CollectionNotFoundError
        When there is none.
    """
    if parse_location(place) is not None:
        return open_collection(place, encoder)
    return octavo.open(place, encoder, read_only=read_only, must_exist=True, previous=previous)


def open_or_create_place(place: str, encoder: Any, *, codec: str | None, metric: Any) -> CollectionLike:
    """Open a collection for writing, wherever it is, or create it."""
    if parse_location(place) is not None:
        return open_or_create(place, encoder, codec=codec, metric=metric)
    return octavo.open(place, encoder, codec=codec, metric=metric)
