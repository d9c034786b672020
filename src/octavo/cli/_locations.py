"""Where a collection is: a directory of Octavo's own, or a place in Qdrant."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import typer

import octavo
from octavo.collection import CollectionLike
from octavo.errors import CollectionNotFoundError, CollectionReplacedError, ForeignCollectionError, ParameterError
from octavo.integrations.qdrant.location import open_collection, open_or_create, parse_location

#: What commands do that need Octavo's own files, and what to do instead where there are none.
_INSTEAD = {
    "verify": "Qdrant checks its own files; for a local copy that can be verified: octavo pull {place} DIR",
    "tune": "pass ef= and oversample= to searches, or tune a local copy: octavo pull {place} DIR",
    "snapshot": "use Qdrant's snapshots, or make a local copy: octavo pull {place} DIR",
    "restore": "restore into a directory, then: octavo push DIR --to {place}",
    "export": "make a local copy first: octavo pull {place} DIR",
    "import": "import into a directory, then: octavo push DIR --to {place}",
    "fit": "Qdrant collections are fitted with their first documents; nothing to do",
    "refit": "Qdrant keeps its codec; push a local collection that has another one: octavo push DIR --to {place}",
    "compact": "Qdrant's optimizer drops deleted points by itself",
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
        within = context.parent.info_name if context.parent is not None else None
        command = "import" if within == "import" else context.info_name or ""
        instead = _INSTEAD.get(command, "make a local copy: octavo pull {place} DIR").format(place=place)
        raise ParameterError(f"{command} needs a collection in a directory, got {place} in Qdrant; {instead}")
    return Path(place)


def open_place(
    place: str, encoder: Any = None, *, sparse: Any = None, read_only: bool, previous: Any = None
) -> CollectionLike:
    """Open an existing collection, wherever it is; `previous` as in `octavo.open`.

    Raises
    ------
    CollectionNotFoundError
        When there is none.
    """
    if parse_location(place) is None:
        return open_local(place, encoder, sparse=sparse, read_only=read_only, previous=previous)
    try:
        return open_collection(place, encoder, sparse=sparse, previous=previous)
    except (ForeignCollectionError, CollectionReplacedError):
        raise
    except CollectionNotFoundError as error:
        raise _not_found(place) from error


def find_place(place: str) -> CollectionLike | None:
    """Open a collection to read it; None if there is none yet.

    Raises
    ------
    OctavoError
        When there is something else, or it cannot be read.
    """
    try:
        return open_place(place, read_only=True)
    except (ForeignCollectionError, CollectionReplacedError):
        raise
    except CollectionNotFoundError:
        return None


def open_local(
    place: str | Path, encoder: Any = None, *, sparse: Any = None, read_only: bool, previous: Any = None
) -> octavo.Collection:
    """Open an existing collection in a directory; `previous` as in `octavo.open`.

    Raises
    ------
    CollectionNotFoundError
        When there is none.
    """
    try:
        return octavo.open(place, encoder, sparse=sparse, read_only=read_only, must_exist=True, previous=previous)
    except (ForeignCollectionError, CollectionReplacedError):
        raise
    except CollectionNotFoundError as error:
        raise _not_found(place) from error


def _not_found(place: str | Path) -> CollectionNotFoundError:
    where = place if parse_location(place) is not None else Path(place).expanduser().absolute()
    return CollectionNotFoundError(
        f"there is no collection at {where}; check the path, or create it with: octavo index SOURCE --path "
        f"{shlex.quote(str(place))}"
    )


def open_or_create_place(
    place: str,
    encoder: Any,
    *,
    codec: str | None,
    metric: Any,
    late: bool = False,
    pool_factor: int | None = None,
    sparse: Any = None,
) -> CollectionLike:
    """Open a collection for writing, wherever it is, or create it, for late interaction where that is asked for."""
    if parse_location(place) is not None:
        return open_or_create(
            place, encoder, sparse=sparse, codec=codec, metric=metric, late=late, pool_factor=pool_factor
        )
    if late:
        if metric == "dot":
            raise ParameterError("late interaction compares tokens by cosine; leave --metric out")
        return octavo.open_multi_vector(place, encoder, sparse=sparse, codec=codec, pool_factor=pool_factor)
    return octavo.open(place, encoder, sparse=sparse, codec=codec, metric=metric)
