"""The half of `OctavoVectorStore` that brings documents in and out: ready vectors, folders, other stores."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from langchain_core.embeddings import Embeddings

from octavo import Collection
from octavo._files import put_in_place_of
from octavo.collection import CollectionLike
from octavo.collection.protocol import require_local
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError, MismatchError, ParameterError
from octavo.integrations.langchain import _names
from octavo.integrations.langchain._base import StoreBase
from octavo.integrations.langchain._embedding import in_thread, nothing_to_embed, vectors_to_matrix
from octavo.integrations.langchain._inputs import BATCH_SIZE, from_texts
from octavo.store.database import DATABASE_NAME
from octavo.store.store import delete_files


class TransferMethods(StoreBase):
    """The calls that people know from LangChain's FAISS store."""

    # ------------------------------------------------------------------ ready vectors

    @classmethod
    def from_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store and add texts whose vectors are known.

        Parameters
        ----------
        text_embeddings : iterable of (str, sequence of float)
            Texts with their vectors.
        embedding : Embeddings, optional
            Used for queries.
        metadatas, ids
            See `add_texts`.
        **kwargs
            ``path``, ``codec`` and the other parameters of `OctavoVectorStore`.

        Examples
        --------
        >>> from octavo.integrations.langchain import OctavoVectorStore
        >>> store = OctavoVectorStore.from_embeddings([("red", [1.0, 0.0]), ("green", [0.0, 1.0])])
        >>> store.similarity_search_by_vector([0.9, 0.1], k=1)[0].page_content
        'red'
        """
        store = cls(embedding, **kwargs)
        try:
            store.add_embeddings(text_embeddings, metadatas, ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def afrom_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store from texts with vectors, off the event loop; see `from_embeddings`."""
        return await in_thread(cls.from_embeddings, text_embeddings, embedding, metadatas, ids, **kwargs)

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Any]],
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
    ) -> list[str]:
        """Add texts whose vectors are known, replacing documents whose id is there already.

        Parameters
        ----------
        text_embeddings : iterable of (str, sequence of float)
            Texts with their vectors.
        metadatas, ids
            See `add_texts`.

        Returns
        -------
        list of str
            The ids.

        Raises
        ------
        ParameterError
            When the store is for late interaction.
        """
        if self._late is not None:
            raise ParameterError(
                "add_embeddings stores one vector a text, but this store keeps many; use add_texts or add_documents, which "
                "encode the texts, or store.collection.add(texts, token_vectors=...)"
            )
        texts: list[str] = []
        rows: list[Any] = []
        for position, pair in enumerate(text_embeddings):
            if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
                raise InputTypeError(
                    f"expected text_embeddings as pairs of text and vector, got {type(pair).__name__} "
                    f"at position {position}"
                )
            texts.append(pair[0])
            rows.append(pair[1])
        added: list[str] = []
        vectors = vectors_to_matrix(rows, len(texts))
        with nothing_to_embed():
            for part in from_texts(texts, metadatas, ids, max(1, len(texts))):
                added = self._collection.add(part.texts, ids=part.ids, metadata=part.metadata, vectors=vectors)
        return added

    async def aadd_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Any]],
        metadatas: Iterable[dict[str, Any]] | None = None,
        ids: Iterable[str | None] | None = None,
    ) -> list[str]:
        """Add texts whose vectors are known, off the event loop; see `add_embeddings`."""
        return await in_thread(self.add_embeddings, text_embeddings, metadatas, ids)

    def merge_from(self, other: StoreBase) -> int:
        """Add every document of another store to this one; the other stays as it is.

        Vectors are taken over as they come out of the other's codec, nothing is embedded again. Documents whose id is
        here already are replaced.

        Parameters
        ----------
        other : OctavoVectorStore
            A store with the same embedding.

        Returns
        -------
        int
            How many documents were added or replaced.

        Raises
        ------
        MismatchError
            When the other's vectors have another dimension, or lost the lengths that this store's metric needs.
        ParameterError
            When one of them is for late interaction.
        """
        if not isinstance(other, StoreBase):
            raise InputTypeError(f"expected an OctavoVectorStore to merge from, got {type(other).__name__}")
        if self._late is not None or other._late is not None:
            raise ParameterError(
                "merge_from takes over ready vectors, but token vectors are pooled, which cannot be done twice; use "
                "add_documents, which encodes the other store's documents again"
            )
        source, target = other._collection, self._collection
        if source is target or _same_place(_path_of(source), _path_of(target)):
            raise ParameterError("expected another store to merge from, got the same collection")
        if target.metric == "dot" and source.metric == "cosine":
            raise MismatchError(
                "expected a store with metric 'dot' to merge from, got one with 'cosine', whose vectors were "
                "normalised; add its documents with add_documents, which embeds them again"
            )
        if None not in (source.dim, target.dim) and source.dim != target.dim:
            raise MismatchError(
                f"expected vectors of dimension {target.dim}, the other store's have {source.dim}; was it built with "
                "another model?"
            )
        merged = 0
        for ids in _parts(source.ids(), BATCH_SIZE):
            documents = source.get(ids)
            kept = [document.id for document in documents]
            if not kept:
                continue
            vectors, payloads = source.get_vectors(kept), source.get_payloads(kept)
            with nothing_to_embed():
                merged += len(target.add(documents, vectors=vectors, payloads=payloads))
        return merged

    # ------------------------------------------------------------------ folders

    def save_local(self, folder_path: str | os.PathLike[str], collection_name: str | None = None) -> None:
        """Copy the collection to a folder; a collection that is there already is replaced, other files in it stay.

        A store with a ``path`` does not need this: it is saved after each call. For the folder that the store lives in,
        this only saves the graph.

        Parameters
        ----------
        folder_path : str or path-like
            Where to.
        collection_name : str, optional
            Save it as one of several named collections in that folder.

        Raises
        ------
        ParameterError
            When the folder holds files, but no collection to replace, or the documents lie in Qdrant.
        """
        collection = require_local(self._collection, "save_local", "octavo pull makes a local one of it")
        target = Path(folder_path).expanduser()
        if collection_name is not None:
            _names.remember_name(target, collection_name)
            target = _names.collection_path(target, collection_name)
        if _same_place(collection.path, target):
            collection.flush()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target / DATABASE_NAME).is_file():
            collection.copy(target).close()
            return
        # The old one is there until the new one is complete; then the two change places.
        draft = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        try:
            collection.copy(draft).close()
            old = put_in_place_of(draft, target)
        except BaseException:
            if draft.exists():
                delete_files(draft)
            raise
        delete_files(old)
        if old.exists():  # files that are not the collection's: they stay in the folder
            for entry in old.iterdir():
                entry.rename(target / entry.name)
            old.rmdir()

    @classmethod
    def load_local(
        cls,
        folder_path: str | os.PathLike[str],
        embedding: Embeddings | TokenEncoder | None = None,
        collection_name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open the collection in a folder. Changes go there, too: the folder *is* the store.

        Parameters
        ----------
        folder_path : str or path-like
            Where from.
        embedding : Embeddings, optional
            The embedding that it was built with.
        collection_name : str, optional
            Which of several named collections.
        **kwargs
            Other parameters of `OctavoVectorStore`.

        Raises
        ------
        CollectionNotFoundError
            When there is none.
        MismatchError
            When it was built with another embedding.
        ParameterError
            For ``allow_dangerous_deserialization``, which other stores need because they unpickle what they load.
        """
        if "allow_dangerous_deserialization" in kwargs:
            raise ParameterError(
                "load_local unpickles nothing, so there is nothing dangerous to allow: leave out "
                "allow_dangerous_deserialization"
            )
        if "index_name" in kwargs:
            raise ParameterError(
                "expected collection_name=, got index_name=; a folder may hold several named collections"
            )
        kwargs.setdefault("must_exist", True)
        return cls(embedding, folder_path, collection_name=collection_name, **kwargs)

    # ------------------------------------------------------------------ named collections

    @staticmethod
    def list_collections(path: str | os.PathLike[str]) -> list[str]:
        """Return the names of the collections that share a directory, sorted."""
        return _names.list_names(path)

    def delete_collection(self) -> None:
        """Close the store and delete its collection from disk; the store cannot be used afterwards.

        Raises
        ------
        ParameterError
            When the documents lie in Qdrant.
        """
        instead = "delete() without arguments deletes its documents, and the rest is to be deleted in Qdrant"
        require_local(self._collection, "delete_collection", instead).destroy()
        if self._root is not None and self._collection_name is not None:
            _names.forget_name(self._root, self._collection_name)


def _path_of(collection: CollectionLike) -> Path | None:
    return collection.path if isinstance(collection, Collection) else None


def _same_place(a: Path | None, b: Path | None) -> bool:
    return a is not None and b is not None and a.expanduser().resolve() == b.expanduser().resolve()


def _parts(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
