"""Everything Quire raises on purpose.

::

    QuireError
    ├── ParameterError (ValueError)          an option or argument is not what it should be
    │   └── CodecError                       a codec string or configuration cannot be read
    ├── InputTypeError (TypeError)           an argument has the wrong type
    ├── InvalidVectorsError (ValueError)     NaN, infinity, wrong dimension, zero vectors under cosine
    ├── InvalidFilterError (ValueError)      an unknown operator or a malformed filter
    ├── NotFittedError (RuntimeError)        a step was used before `fit`
    ├── DocumentNotFoundError (KeyError)     an id is not in the collection
    ├── CollectionNotFoundError (FileNotFoundError)
    ├── CollectionClosedError (RuntimeError)
    ├── CollectionLockedError (TimeoutError) another process holds the write lock
    ├── ReadOnlyError (PermissionError)
    ├── MismatchError (ValueError)           the collection was made with another encoder, codec or metric
    ├── CorruptCollectionError (OSError)     a file is damaged; the message names it and what to do
    ├── StorageError (OSError)               the disk is full or failing; nothing of the write was kept
    └── MissingExtraError (ImportError)      an optional dependency is not installed

A message says what was expected, what came, and what to do.
"""

from __future__ import annotations


class QuireError(Exception):
    """Base class of all errors that Quire raises on purpose."""


class ParameterError(QuireError, ValueError):
    """An option or argument has a value that cannot be used."""


class CodecError(ParameterError):
    """A codec string or configuration cannot be read."""


class InputTypeError(QuireError, TypeError):
    """An argument has a type that cannot be used."""


class InvalidVectorsError(QuireError, ValueError):
    """Vectors hold NaN or infinity, have the wrong dimension, or are zero where cosine is meant."""


class InvalidFilterError(QuireError, ValueError):
    """A filter uses an unknown operator or is malformed."""


class NotFittedError(QuireError, RuntimeError):
    """A compression step was used before it was fitted."""


class DocumentNotFoundError(QuireError, KeyError):
    """An id is not in the collection."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CollectionNotFoundError(QuireError, FileNotFoundError):
    """There is no collection at the path."""


class CollectionClosedError(QuireError, RuntimeError):
    """The collection was closed."""


class CollectionLockedError(QuireError, TimeoutError):
    """Another process or thread holds the write lock."""


class ReadOnlyError(QuireError, PermissionError):
    """A write was asked of a collection that was opened for reading."""


class MismatchError(QuireError, ValueError):
    """A collection was made with another encoder, codec, metric or dimension."""


class CorruptCollectionError(QuireError, OSError):
    """A file of the collection is damaged."""


class StorageError(QuireError, OSError):
    """The disk is full or failing: a file could not be written or read; `errno` says why, as in any `OSError`.

    The collection is as its last commit left it.
    """


class ServerError(QuireError, ConnectionError):
    """A server cannot be reached, or refused a request."""


class MissingExtraError(QuireError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""
