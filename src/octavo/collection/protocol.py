"""What the adapters of frameworks need of a collection, wherever its documents lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from octavo._arrays import Floats
from octavo.collection._collection import Collection
from octavo.collection.explanation import Explanation
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.retrievers.late_interaction import CandidateSource
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import FilterLike, Mode
from octavo.store.documents import Document, DocumentLike


@runtime_checkable
class CollectionLike(Protocol):
    """A collection as `octavo.Collection` is one, as far as adapters ask it; see there for what the methods do.

    Examples
    --------
    >>> import octavo
    >>> isinstance(octavo.open(), CollectionLike)
    True
    """

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors; None before the first ones."""
        ...

    @property
    def metric(self) -> str:
        """How vectors are compared: "cosine" or "dot"."""
        ...

    @property
    def encoder(self) -> Any:
        """What turns texts into vectors, if one was given: one each, or for late interaction many."""
        ...

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert or replace documents."""
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

    def count(self, filter: FilterLike = None) -> int:
        """Return the number of documents."""
        ...

    def ids(self, filter: FilterLike = None) -> list[str]:
        """Return ids, oldest version first."""
        ...

    def documents(self, filter: FilterLike = None) -> Iterator[Document]:
        """Yield documents, oldest version first."""
        ...

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        text: str | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the best documents."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Return the encoder's vectors for documents."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Return the encoder's vectors for queries."""
        ...

    def info(self) -> Any:
        """Describe the collection."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


@runtime_checkable
class MultiVectorLike(CollectionLike, Protocol):
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

    def add(
        self,
        documents: Iterable[DocumentLike] | None = None,
        ids: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        token_vectors: Iterable[Any] | None = None,
        pooled: bool = False,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
    ) -> list[str]:
        """Insert or replace documents."""
        ...

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors, in the order asked."""
        ...

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        text: str | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        n_candidates: int | None = None,
        candidates: CandidateSource = "vectors",
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the best documents by MaxSim."""
        ...

    def explain(self, query: Any, id: str) -> Explanation:
        """Say which of a document's vectors each token of a query matches."""
        ...


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
    if not isinstance(collection, Collection):
        raise ParameterError(f"{what} needs a collection of octavo.open, got {type(collection).__name__}; {instead}")
    return collection
