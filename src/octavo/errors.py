"""Everything Octavo raises on purpose.

::

    OctavoError
    ├── ParameterError (ValueError)          an option or argument is not what it should be
    │   └── CodecError                       a codec string or configuration cannot be read
    ├── InputTypeError (TypeError)           an argument has the wrong type
    ├── InvalidVectorsError (ValueError)     NaN, infinity, wrong dimension, zero token vectors
    ├── InvalidImageError (ValueError)       an image that is damaged, too large, animated, gone or changed
    ├── InvalidFilterError (ValueError)      an unknown operator or a malformed filter
    ├── NotFittedError (RuntimeError)        a step was used before `fit`
    ├── DocumentNotFoundError (KeyError)     an id is not in the collection
    ├── CollectionNotFoundError (FileNotFoundError)
    │   ├── CollectionReplacedError          moved, deleted or replaced under an open handle
    │   └── ForeignCollectionError           something is there, but Octavo has not made it
    ├── CollectionClosedError (RuntimeError)
    ├── CollectionLockedError (TimeoutError) another process holds the write lock
    ├── ReadOnlyError (PermissionError)
    ├── StaleVectorsError (RuntimeError)     a document has other vectors by now than those that it was to keep
    ├── MismatchError (ValueError)           the collection was made with another encoder, codec or metric
    ├── CorruptCollectionError (OSError)     a file is damaged; the message names it and what to do
    ├── StorageError (OSError)               the disk is full or failing; nothing of the write was kept
    │   └── AccessDeniedError (PermissionError)  the operating system refuses access to a file or folder
    └── MissingExtraError (ImportError)      an optional dependency is not installed

A message says what was expected, what came, and what to do.
"""

from __future__ import annotations


class OctavoError(Exception):
    """Base class of all errors that Octavo raises on purpose."""


class ParameterError(OctavoError, ValueError):
    """An option or argument has a value that cannot be used."""


class CodecError(ParameterError):
    """A codec string or configuration cannot be read."""


class InputTypeError(OctavoError, TypeError):
    """An argument has a type that cannot be used."""


class InvalidVectorsError(OctavoError, ValueError):
    """Vectors hold NaN or infinity, have the wrong dimension, or are token vectors of zeros."""


class InvalidImageError(OctavoError, ValueError):
    """An image cannot be used: damaged, empty, too large, animated, in colours for print, or its file is gone or changed."""


class InvalidFilterError(OctavoError, ValueError):
    """A filter uses an unknown operator or is malformed."""


class NotFittedError(OctavoError, RuntimeError):
    """A compression step was used before it was fitted."""


class DocumentNotFoundError(OctavoError, KeyError):
    """An id is not in the collection."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CollectionNotFoundError(OctavoError, FileNotFoundError):
    """There is no collection at the path."""


class CollectionReplacedError(CollectionNotFoundError):
    """The directory of an open collection was moved, deleted or replaced; nothing was read from or written to what is there."""


class ForeignCollectionError(CollectionNotFoundError):
    """There is something at the place, but no collection that Octavo has made: it is not to be created over."""


class CollectionClosedError(OctavoError, RuntimeError):
    """The collection was closed."""


class CollectionLockedError(OctavoError, TimeoutError):
    """Another process or thread holds the write lock."""


class ReadOnlyError(OctavoError, PermissionError):
    """A write was asked of a collection that was opened for reading."""


class StaleVectorsError(OctavoError, RuntimeError):
    """A document that was to keep its vectors is gone or has others by now: embed it, and add it again."""


class MismatchError(OctavoError, ValueError):
    """A collection was made with another encoder, codec, metric or dimension."""


class CorruptCollectionError(OctavoError, OSError):
    """A file of the collection is damaged."""


class StorageError(OctavoError, OSError):
    """The disk is full or failing: a file could not be written or read; `errno` says why, as in any `OSError`.

    The collection is as its last commit left it.
    """


class AccessDeniedError(StorageError, PermissionError):
    """The operating system refuses access to a file or folder."""


class ServerError(OctavoError, ConnectionError):
    """A server cannot be reached, or refused a request."""


class MissingExtraError(OctavoError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""
