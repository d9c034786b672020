"""What the adapters of frameworks need of a collection, wherever its documents lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.collection.collection import Collection
from octavo.collection.model_check import ModelCheck
from octavo.collection.searching import DenseSearch, LateSearch
from octavo.compression.token_pooling import TokenPooling
from octavo.encoders.dense import TextOnly
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.retrievers.search import FilterLike
from octavo.store.documents import Document, DocumentLike


@runtime_checkable
class CollectionLike(DenseSearch, Protocol):
    """A collection as `octavo.Collection` is one, as far as adapters ask it; see there for what the methods do.

    Examples
    --------
    >>> import octavo
    >>> isinstance(octavo.open(), CollectionLike)
    True
    """

    @property
    def local(self) -> Collection | None:
        """The collection itself, if its documents lie in files of Octavo's own or in memory and it can do more; else None."""
        ...

    @property
    def late(self) -> MultiVectorLike | None:
        """The collection itself, if it keeps many vectors a document; None if it keeps one."""
        ...

    @property
    def codec(self) -> str:
        """The codec string."""
        ...

    @property
    def has_sparse_vectors(self) -> bool:
        """Whether documents have learned sparse vectors."""
        ...

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        ...

    @property
    def space(self) -> int:
        """How many times the model was changed by now: vectors of another number are of another model."""
        ...

    @property
    def encodes_itself(self) -> bool:
        """Whether texts are left to the collection: its model is being changed, or was since it was opened; it has encoders."""
        ...

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        embed_texts: Iterable[str | None] | None = None,
        embed_words: bool = False,
        sparse_vectors: Any = None,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert or replace documents."""
        ...

    def embedded(self, ids: Sequence[str | None], texts: Sequence[str]) -> list[bool]:
        """Tell which documents have vectors that a model has made of these very texts."""
        ...

    def add_embedded(
        self,
        documents: Iterable[DocumentLike],
        ids: Iterable[str | None],
        metadata: Iterable[Mapping[str, Any] | None],
        vectors: Sequence[Any],
        *,
        embed_texts: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert documents with vectors that a model has just made; None where they keep what they have."""
        ...

    def update(
        self,
        ids: Iterable[str],
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        texts: Iterable[str | None] | None = None,
        *,
        payloads: Iterable[str | None] | None = None,
    ) -> None:
        """Change what is kept beside the vectors of documents."""
        ...

    def delete(self, ids: Iterable[str] | None = None, filter: FilterLike = None) -> int:
        """Delete documents."""
        ...

    def clear(self) -> int:
        """Delete every document."""
        ...

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return documents, in the order asked."""
        ...

    def get_payloads(self, ids: Iterable[str]) -> list[str | None]:
        """Return payloads, in the order asked."""
        ...

    def get_vectors(self, ids: Iterable[str]) -> Floats:
        """Return vectors, in the order asked."""
        ...

    def get_sparse_vectors(self, ids: Iterable[str]) -> list[tuple[npt.NDArray[np.uint32], Floats]]:
        """Return learned sparse vectors, in the order asked."""
        ...

    def contains(self, ids: Iterable[str]) -> list[bool]:
        """Tell for each id whether it is there."""
        ...

    def __contains__(self, identifier: object) -> bool: ...

    def __len__(self) -> int: ...

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents."""
        ...

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return ids, oldest version first."""
        ...

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield documents, oldest version first."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Return the encoder's vectors for documents."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Return the encoder's vectors for queries."""
        ...

    def model_check(self) -> ModelCheck:
        """Return what notices that an encoder is not the one that made the stored vectors."""
        ...

    def notes(self) -> dict[str, str]:
        """Return the short texts that tools keep beside the documents."""
        ...

    def set_note(self, name: str, text: str | None) -> None:
        """Keep one, or remove it."""
        ...

    def info(self) -> Any:
        """Describe the collection."""
        ...

    def reencode(
        self,
        encoder: Any,
        codec: str | None = None,
        *,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        previous: Any = None,
        progress: bool = False,
    ) -> None:
        """Change the model, while the collection is searched and written to."""
        ...

    def reencode_texts(
        self,
        texts_of: Any,
        encoder: Any,
        codec: str | None = None,
        batch_size: int = 256,
        rate: str | None = None,
        serve: Literal["both", "old"] = "both",
        *,
        previous: Any = None,
        progress: bool = False,
    ) -> None:
        """Change the model, for adapters that embed something else than the stored text."""
        ...

    def cancel_reencode(self) -> bool:
        """Give up a change of the model."""
        ...

    def vectors_for(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return what `add` is to be given beside documents of which an adapter embeds something else than their texts."""
        ...

    def flush(self) -> None:
        """Finish what makes searches quick, the graph above all; documents are durable without this."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


@runtime_checkable
class MultiVectorLike(LateSearch, CollectionLike, Protocol):
    """A collection as `octavo.MultiVectorCollection` is one, as far as adapters ask it; see there for what the methods do.

    Examples
    --------
    >>> import octavo
    >>> isinstance(octavo.open_multi_vector(), MultiVectorLike), isinstance(octavo.open(), MultiVectorLike)
    (True, False)
    """

    @property
    def encoder(self) -> TokenEncoder | None:
        """What turns texts into token vectors, if one was given."""
        ...

    @property
    def pooling(self) -> TokenPooling:
        """How the tokens of a document are pooled."""
        ...

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        token_vectors: Iterable[Any] | None = None,
        pooled: bool = False,
        embed_texts: Iterable[str | None] | None = None,
        embed_words: bool = False,
        sparse_vectors: Any = None,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert or replace documents."""
        ...

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors, in the order asked."""
        ...


def search_modes(collection: CollectionLike) -> list[str]:
    """Return what questions in words can be searched by, the best first; without an encoder by their words alone.

    Parameters
    ----------
    collection : CollectionLike
        Any collection, opened with or without its encoders.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     search_modes(kb)
    ['text']
    """
    encoder = collection.encoder
    dense = encoder is not None and not isinstance(encoder, TextOnly)
    sparse = collection.has_sparse_vectors and collection.sparse_encoder is not None
    return [*(["hybrid", "dense"] if dense else []), "text", *(["sparse"] if sparse else [])]


def has_vectors(collection: CollectionLike) -> bool:
    """Tell whether a collection holds vectors: not before the first, nor where texts are searched by their words alone.

    Parameters
    ----------
    collection : CollectionLike
        Any collection, opened with or without its encoder.
    """
    if collection.dim is None or isinstance(collection.encoder, TextOnly):
        return False
    return collection.dim > 1 or collection.info().encoder != TextOnly.name


def require_local(collection: CollectionLike, what: str, instead: str) -> Collection:
    """Return a collection that has files of Octavo's own.

    Parameters
    ----------
    collection : CollectionLike
        Any collection.
    what : str
        What needs such a one, for the message.
    instead : str
        What to do where it is none.

    Raises
    ------
    ParameterError
        When its documents lie elsewhere.
    """
    if collection.local is None:
        raise ParameterError(f"{what} needs a collection of octavo.open, got {type(collection).__name__}; {instead}")
    return collection.local
