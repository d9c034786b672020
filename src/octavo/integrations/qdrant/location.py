"""One string that says where in Qdrant a collection is, for the command line, the evaluation and Ray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from octavo.compression import Codec
from octavo.errors import CollectionNotFoundError, ForeignCollectionError, MismatchError, ParameterError
from octavo.integrations.qdrant._client import KEY_VARIABLE, ServerOptions
from octavo.integrations.qdrant._collection import QdrantCollection
from octavo.integrations.qdrant._late_collection import QdrantMultiVectorCollection
from octavo.integrations.qdrant._manifest import Manifest, transport_of
from octavo.integrations.qdrant.edge import CONFIG_FILE, SUMS_FILE, absolute_path

#: What stands before the directory of Qdrant's core, where nothing lies there yet that would tell.
EMBEDDED: Final = "qdrant:"

DEFAULT_NAME: Final = "octavo"


@dataclass(frozen=True)
class Location:
    """Where in Qdrant a collection is.

    Parameters
    ----------
    path : Path or None
        The directory of Qdrant's core, absolute.
    url : str or None
        The server.
    name : str
        Of the collection on the server.
    """

    path: Path | None = None
    url: str | None = None
    name: str = DEFAULT_NAME

    def options(self) -> dict[str, Any]:
        """Return what `QdrantCollection.create` and `QdrantCollection.open` take, the key from the environment included."""
        if self.url is None:
            return {"path": self.path}
        return {"url": self.url, "name": self.name, "api_key": os.environ.get(KEY_VARIABLE) or None}


def parse_location(place: str | os.PathLike[str], name: str | None = None) -> Location | None:
    """Return where in Qdrant a place is; None for anything else, such as a directory of Octavo's own.

    Parameters
    ----------
    place : str or path-like
        ``http://HOST:PORT#NAME`` or ``https://HOST:PORT#NAME`` of a server (without ``#NAME``: "octavo"), ``qdrant:DIR`` for
        Qdrant's core in this process, or a directory in which such a collection lies already.
    name : str, optional
        Of the collection on the server, instead of ``#NAME``.

    Raises
    ------
    ParameterError
        When it begins like one and cannot be one, or holds a password.

    Examples
    --------
    >>> parse_location("https://qdrant.internal:6333#papers")
    Location(path=None, url='https://qdrant.internal:6333', name='papers')
    >>> parse_location("kb") is None
    True
    """
    text = os.fspath(place)
    if text.startswith(("http://", "https://")):
        url, _, fragment = text.partition("#")
        parts = urlsplit(url)
        if not parts.hostname:
            raise ParameterError(f"expected a URL such as https://HOST:6333#NAME, got {text!r}")
        if parts.username is not None or parts.password is not None:
            raise ParameterError(
                f"expected a URL without user and password; put the server's key into the environment variable {KEY_VARIABLE}"
            )
        if name and fragment and name != fragment:
            raise ParameterError(f"expected one name of the collection, got {name!r} and {fragment!r} in the URL")
        return Location(url=url, name=name or fragment or DEFAULT_NAME)
    if text.startswith(EMBEDDED):
        if not text.removeprefix(EMBEDDED):
            raise ParameterError(f"expected a directory after {EMBEDDED!r}, got nothing")
        return Location(path=absolute_path(text.removeprefix(EMBEDDED)))
    if not text or "\0" in text:
        return None  # no place at all; whoever opens it says so
    path = Path(text).expanduser().absolute()
    return Location(path=path) if (path / CONFIG_FILE).is_file() or (path / SUMS_FILE).is_file() else None


def open_collection(
    place: str | os.PathLike[str], encoder: Any = None, *, sparse: Any = None, previous: Any = None
) -> QdrantCollection:
    """Open the collection at a place in Qdrant, of one vector a document or of many; the key is taken from ``QDRANT_API_KEY``.

    Parameters
    ----------
    place : str or path-like
        ``https://HOST:PORT#NAME``, ``qdrant:DIR``, or a directory in which such a collection lies.
    encoder, sparse, previous : object, optional
        As in `octavo.open`.

    Returns
    -------
    QdrantCollection
        A `QdrantMultiVectorCollection` where documents have many vectors.

    Raises
    ------
    ParameterError
        When it is no place in Qdrant.
    CollectionNotFoundError, MismatchError, CollectionLockedError, CorruptCollectionError, ServerError
        As of `QdrantCollection.open`.

    Examples
    --------
    >>> import tempfile
    >>> from octavo.integrations.qdrant import QdrantCollection
    >>> folder = tempfile.TemporaryDirectory()
    >>> with QdrantCollection.create(path=folder.name, dim=2) as kb:
    ...     pass
    >>> with open_collection(f"qdrant:{folder.name}") as kb:
    ...     print(type(kb).__name__, len(kb))
    QdrantCollection 0
    >>> folder.cleanup()
    """
    return open_either(encoder, sparse=sparse, previous=previous, **_require(place).options())


def open_either(
    encoder: Any = None,
    *,
    sparse: Any = None,
    previous: Any = None,
    path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    name: str = DEFAULT_NAME,
    api_key: str | None = None,
    timeout: int = 30,
    retries: int = 4,
) -> QdrantCollection:
    """Open a collection as the class that its description asks for; the parameters are those of `QdrantCollection.open`."""
    transport = transport_of(path, url, name, ServerOptions(api_key=api_key, timeout=timeout, retries=retries))
    try:
        if not transport.exists():
            raise CollectionNotFoundError(f"expected a collection at {transport.place}, but there is none")
        late = Manifest.read(transport).late is not None
        return (QdrantMultiVectorCollection if late else QdrantCollection)(transport, encoder, None, sparse, previous)
    except BaseException:
        transport.close()
        raise


def open_or_create(
    place: str | os.PathLike[str],
    encoder: Any = None,
    *,
    sparse: Any = None,
    codec: str | None = None,
    metric: Any = None,
    late: bool = False,
    pool_factor: int | None = None,
) -> QdrantCollection:
    """Open the collection at a place in Qdrant, or create it there; the parameters are those of `octavo.open`.

    With `late`, and `pool_factor` as of `octavo.open_multi_vector`, a new one keeps many vectors a document.

    Raises
    ------
    MismatchError
        When there is one with another codec or metric.
    """
    options = _require(place).options()
    try:
        collection = open_either(encoder, sparse=sparse, **options)
    except ForeignCollectionError:
        raise  # which is not to be created over
    except CollectionNotFoundError:
        if late:
            return QdrantMultiVectorCollection.create(
                encoder=encoder, sparse=sparse, codec=codec or "int8", pool_factor=pool_factor, **options
            )
        return QdrantCollection.create(
            encoder=encoder, sparse=sparse, codec=codec or "int8", metric=metric or "cosine", **options
        )
    if late and collection.late is None:
        collection.close()
        raise MismatchError(
            f"the collection at {place} keeps one vector a document; choose another place for late interaction"
        )
    wanted = str(Codec.parse(codec)) if codec is not None else collection.codec
    if wanted != collection.codec or metric not in (None, collection.metric):
        found = (collection.codec, collection.metric)
        collection.close()
        raise MismatchError(
            f"the collection at {place} was made with codec {found[0]!r} and metric {found[1]!r}, got {wanted!r} and "
            f"{metric or found[1]!r}; leave them out, or choose another place"
        )
    return collection


def _require(place: str | os.PathLike[str]) -> Location:
    found = parse_location(place)
    if found is None:
        raise ParameterError(
            f"expected a place in Qdrant (https://HOST:6333#NAME, {EMBEDDED}DIR, or the directory of such a collection), got "
            f"{os.fspath(place)!r}"
        )
    return found
