"""Options of the vector store: what they mean to the collection, and how a copy of the store gets them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import octavo.collection
from octavo import Collection
from octavo.collection import CollectionLike
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError, ParameterError
from octavo.integrations.llama_index import _persistence

if TYPE_CHECKING:
    from octavo.integrations.llama_index._vector_store import OctavoVectorStore

Store = TypeVar("Store", bound="OctavoVectorStore")

#: Options of the constructor and the values that leave them to the collection.
NO_OPTIONS: dict[str, Any] = {
    "codec": None,
    "dim": None,
    "metric": None,
    "full_text": None,
    "fit_after": None,
    "seed": None,
    "connectivity": None,
    "pool_factor": None,
    "candidates": None,
    "read_only": False,
    "lock_timeout": 30.0,
}

#: Options of late interaction alone.
_LATE = ("pool_factor", "candidates")


def open_collection(
    path: str | os.PathLike[str] | None, encoder: Any, options: dict[str, Any], must_exist: bool
) -> Collection:
    """Open a collection: for late interaction where there is an encoder, else the one that is there or a new dense one.

    Raises
    ------
    ParameterError
        When options belong to collections of the other kind.
    """
    given = {name: value for name, value in options.items() if value != NO_OPTIONS[name]}
    if encoder is not None:
        if given.pop("metric", "cosine") != "cosine":
            raise ParameterError(f"late interaction compares tokens by cosine, got metric={options['metric']!r}")
        return octavo.open_multi_vector(path, TokenEncoder(encoder), must_exist=must_exist, **given)
    late = next((name for name in _LATE if name in given), None)
    if late is not None:
        raise ParameterError(f"{late} belongs to late interaction; give encoder=, too")
    return octavo.open(path, must_exist=must_exist, **given)


def check_given(collection: Any, path: Any, encoder: Any, options: dict[str, Any], must_exist: bool) -> CollectionLike:
    """Return a collection that the caller has open, when nothing else was given beside it."""
    if isinstance(collection, type) or not isinstance(collection, CollectionLike):
        raise InputTypeError(
            f"expected collection as an octavo Collection or a QdrantCollection, got {type(collection).__name__}"
        )
    if path is not None or encoder is not None or must_exist or options != NO_OPTIONS:
        raise ParameterError(
            "expected either collection or path, encoder and options, got both; an open collection has its own"
        )
    return collection


def refuse_options(method: str, options: dict[str, Any]) -> None:
    """Raise for options that a method does not have, instead of ignoring them."""
    if options:
        raise ParameterError(f"OctavoVectorStore.{method} takes no options, got {', '.join(sorted(options))}")


def around(cls: type[Store], collection: CollectionLike, encoder: Any) -> Store:
    """Return a store around a collection that was opened with an encoder, which further copies will need."""
    store = cls(collection=collection)
    store._encoder = encoder
    return store


def reopen(cls: type[Store], options: dict[str, Any], encoder: Any) -> Store:
    """Make a store from its pickled form, where it has a path."""
    return cls(**options, encoder=encoder, must_exist=True)


def from_bytes(cls: type[Store], data: bytes, encoder: Any) -> Store:
    """Make a store from its pickled form, where it lives in memory."""
    return around(cls, _persistence.unpack(data, encoder), encoder)
