"""What the halves of `OctavoVectorStore` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.structured_query import FilterDirective, StructuredQuery
from langchain_core.vectorstores import VectorStore

from octavo import open as open_collection
from octavo import open_multi_vector
from octavo.collection import CollectionLike, MultiVectorLike
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError
from octavo.integrations.langchain import _names
from octavo.integrations.langchain._embedding import CollectionEncoder, Embedder, TokenEmbedder, check_embedding
from octavo.integrations.langchain._relevance import RelevanceFn
from octavo.integrations.langchain._structured_query import OctavoTranslator
from octavo.store.documents import Document as StoredDocument

#: What other LangChain stores call some options.
_OTHER_NAMES = {
    "embedding_function": "embedding",
    "embeddings": "embedding",
    "persist_directory": "path",
    "distance_strategy": "metric",
}


class StoreBase(VectorStore):
    """Opens, describes and closes a store; see `OctavoVectorStore` for the parameters."""

    def __init__(
        self,
        embedding: Embeddings | TokenEncoder | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        codec: str | None = None,
        collection: CollectionLike | None = None,
        collection_name: str | None = None,
        relevance_score_fn: RelevanceFn | None = None,
        **options: Any,
    ) -> None:
        for theirs, ours in _OTHER_NAMES.items():
            if theirs in options:
                raise TypeError(f"unexpected option {theirs!r}; in OctavoVectorStore it is called {ours}=")
        self._embedding = check_embedding(embedding)
        if relevance_score_fn is not None and not callable(relevance_score_fn):
            raise InputTypeError(
                "expected relevance_score_fn as a callable from float to float, "
                f"got {type(relevance_score_fn).__name__}"
            )
        self._relevance_score_fn = relevance_score_fn
        self._root: str | os.PathLike[str] | None = None
        self._collection_name = collection_name
        self._owns_collection = collection is None
        if collection is not None:
            _refuse_with_collection(
                collection, {"path": path, "codec": codec, "collection_name": collection_name, **options}
            )
            self._collection: CollectionLike = collection
        else:
            self._collection = self._open(path, codec, collection_name, options)
        # A collection for late interaction, of which some methods ask something else; None for ordinary ones.
        self._late = self._collection if isinstance(self._collection, MultiVectorLike) else None
        try:
            self._embedder = self._embedder_of_its_kind()
        except BaseException:
            self.close()
            raise

    def _embedder_of_its_kind(self) -> Embedder | TokenEmbedder:
        embedding = self._embedding
        if self._late is None:
            if isinstance(embedding, TokenEncoder):
                raise MismatchError(
                    f"the collection keeps one vector a document, got {embedding!r}, which makes many; give LangChain "
                    "Embeddings, or a collection of octavo.open_multi_vector"
                )
            return Embedder(embedding, self._collection)
        if embedding is None:
            return TokenEmbedder(self._late.encoder)
        if isinstance(embedding, TokenEncoder):
            return TokenEmbedder(embedding)
        raise _one_for_many(embedding)

    def _open(
        self, path: str | os.PathLike[str] | None, codec: str | None, name: str | None, options: dict[str, Any]
    ) -> CollectionLike:
        if name is not None:
            directory = _names.collection_path(path or ".", name)  # checks the name even where nothing is written
            if path is not None:
                self._root, path = path, directory
                if not (options.get("must_exist") or options.get("read_only")):
                    _names.remember_name(self._root, name)
        if isinstance(self._embedding, TokenEncoder):
            return open_multi_vector(path, self._embedding, codec=codec, **options)
        encoder = CollectionEncoder(self._embedding) if self._embedding is not None else None
        try:
            return open_collection(path, encoder, codec=codec, **options)
        except InvalidVectorsError as err:
            if path is None or not _is_late(path):
                raise
            raise _one_for_many(self._embedding) from err

    # ------------------------------------------------------------------ what it is

    @property
    def embeddings(self) -> Embeddings | None:
        """The embedding, if there is one; an encoder for late interaction is none to LangChain: see `embedding`."""
        return self._embedding if not isinstance(self._embedding, TokenEncoder) else None

    @property
    def embedding(self) -> Embeddings | TokenEncoder | None:
        """The embedding or encoder, under the name of the constructor's argument."""
        return self._embedding

    @property
    def collection(self) -> CollectionLike:
        """The collection underneath, with everything that LangChain has no word for: `info`, `verify`, `compact`."""
        return self._collection

    @property
    def collection_name(self) -> str | None:
        """The name under which the collection lives in a shared directory."""
        return self._collection_name

    def __repr__(self) -> str:
        embedding = type(self._embedding).__name__ if self._embedding is not None else None
        return f"OctavoVectorStore(embedding={embedding}, collection={self._collection!r})"

    def count(self, filter: Any = None) -> int:
        """Return the number of documents (that match)."""
        return self._collection.count(as_filter(filter))

    def close(self) -> None:
        """Release the files; documents are durable without this. A collection that was passed in stays open."""
        if self._owns_collection:
            self._collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _is_late(path: str | os.PathLike[str]) -> bool:
    with open_collection(path, read_only=True) as collection:
        return isinstance(collection, MultiVectorLike)


def _one_for_many(embedding: Any) -> MismatchError:
    return MismatchError(
        f"the collection keeps many vectors a document (late interaction), got {type(embedding).__name__}, which makes one; "
        "give octavo.TokenEncoder(model)"
    )


def to_langchain(document: StoredDocument) -> Document:
    """Return a stored document as LangChain's; the metadata is a fresh dict already."""
    return Document(id=document.id, page_content=document.text, metadata=document.metadata)


def as_filter(where: Any) -> Any:
    """Return a filter as the collection takes it.

    Dict operators and Octavo's own trees go through unchanged, LangChain's structured queries are translated, and a
    callable is given LangChain documents, as `InMemoryVectorStore` does.
    """
    if isinstance(where, StructuredQuery):
        where = where.filter
        if where is None:
            return None
    if isinstance(where, FilterDirective):
        return where.accept(OctavoTranslator())
    if callable(where):
        return _on_langchain_documents(where)
    return where


def _on_langchain_documents(where: Callable[[Document], Any]) -> Callable[[StoredDocument], bool]:
    def matches(document: StoredDocument) -> bool:
        return bool(where(to_langchain(document)))

    return matches


def _refuse_with_collection(collection: Any, others: dict[str, Any]) -> None:
    if isinstance(collection, type) or not isinstance(collection, CollectionLike):
        raise InputTypeError(
            f"expected collection as what octavo.open returns, or a QdrantCollection, got {type(collection).__name__}; "
            "for a collection's name use collection_name="
        )
    given = sorted(name for name, value in others.items() if value is not None)
    if given:
        raise ParameterError(
            f"expected either an open collection or options to open one, got collection= and {', '.join(given)}; "
            "pass the options to octavo.open"
        )
