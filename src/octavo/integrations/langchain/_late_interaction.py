"""`LateInteractionRetriever`: many vectors a document, compared by MaxSim."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, Self

from langchain_core.documents import Document
from pydantic import model_validator

from octavo.collection import MultiVectorLike
from octavo.encoders.page_images import ImageLike
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.integrations.langchain._retriever import StoreRetriever, closed_on_error
from octavo.integrations.langchain._vectorstore import OctavoVectorStore


class LateInteractionRetriever(StoreRetriever):
    """Retrieve documents by late interaction: each token of the query looks for its best match in a document.

    Documents are kept as compressed, pooled token vectors in a durable collection.

    Parameters
    ----------
    path : str or path-like, optional
        Directory of the collection; created when it is not there, opened when it is. None keeps it in memory.
    model : str, callable or object, optional
        Turns texts into token vectors: the name or folder of a late-interaction or an ordinary sentence-transformers
        model, such a model, a PyLate model, or a callable from a list of texts to a list of arrays of shape
        ``(n_tokens, dim)``; see `octavo.TokenEncoder`. An existing collection opens without it for ``mode="text"``.
    vectorstore : OctavoVectorStore, optional
        A store for late interaction that is open already, instead of `path`, `model` and options.
    mode : {"late", "text", "sparse", "hybrid", "mmr"}, default="late"
        MaxSim, BM25 full text, learned sparse vectors, several of them fused, or MaxSim with diversity.
    k : int, default=4
        Documents to return.
    filter : dict, callable, filter tree or structured query, optional
        Which documents may come back; see `OctavoVectorStore.similarity_search`.
    score_key : str, optional
        Put each document's score (higher is better) into its metadata under this key. The stored metadata stays as it
        is.
    fetch_k, lambda_mult, alpha, rank, weights
        See `OctavoRetriever`.
    search_kwargs : dict, optional
        More options of `octavo.MultiVectorCollection.search`: ``n_candidates``, ``candidates``, ``exact``, ``ef``,
        ``text``, ``ids``.
    **options
        Those of `octavo.open_multi_vector`: ``codec`` (``"int8"`` unless given), ``pool_factor`` (2), ``pooling``,
        ``candidates``, ``full_text``, ``read_only``, ...; and ``collection``, ``collection_name`` of `OctavoVectorStore`.

    Raises
    ------
    MismatchError
        When the collection was made with another model or other settings, or for one vector a document.
    ParameterError
        When arguments contradict each other.

    Notes
    -----
    All from `mode` to `weights` may be given to ``invoke`` and ``ainvoke``, too, for that call.

    Examples
    --------
    >>> import numpy as np
    >>> def letters(texts):  # a toy model: one vector a letter
    ...     return [np.eye(128)[[ord(letter) % 128 for letter in text]] for text in texts]
    >>> retriever = LateInteractionRetriever.from_texts(["red", "green"], letters, ids=["r", "g"], k=1)
    >>> retriever.invoke("ren")
    [Document(id='g', metadata={}, page_content='green')]
    >>> retriever.close()
    """

    _store_modes: ClassVar[dict[str, str]] = {"late": "dense"}

    mode: Literal["late", "text", "sparse", "hybrid", "mmr"] = "late"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        model: Any = None,
        *,
        vectorstore: OctavoVectorStore | None = None,
        **options: Any,
    ) -> None:
        own = {name: options.pop(name) for name in type(self).model_fields if name in options}
        opened = None
        if vectorstore is None:
            vectorstore = opened = _open(path, model, options)
        elif path is not None or model is not None or options:
            given = [name for name, value in (("path", path), ("model", model)) if value is not None]
            raise ParameterError(
                f"expected either vectorstore or what opens one, got vectorstore= and {', '.join([*given, *options])}"
            )
        try:
            super().__init__(vectorstore=vectorstore, **own)
        except BaseException:
            if opened is not None:
                opened.close()
            raise

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if not isinstance(self.vectorstore.collection, MultiVectorLike):
            raise ParameterError(
                "expected a store with many vectors a document, got one with one vector; use OctavoRetriever for it, or "
                "build a new one with LateInteractionRetriever.from_documents"
            )
        return self

    @property
    def collection(self) -> MultiVectorLike:
        """The collection underneath, for everything else that it does: `explain`, `info`, and what only a local one has."""
        collection = self.vectorstore.collection
        assert isinstance(collection, MultiVectorLike)  # the constructor has checked
        return collection

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], model: Any = None, *, ids: Iterable[str | None] | None = None, **kwargs: Any
    ) -> Self:
        """Create (or open) a collection, encode documents and add them to it.

        Parameters
        ----------
        documents, ids
            See `OctavoVectorStore.add_documents`.
        model : str, callable or object
            See `LateInteractionRetriever`.
        **kwargs
            ``path``, ``pool_factor``, ``codec``, ``k``, ``mode`` and the other parameters of `LateInteractionRetriever`.
        """
        retriever = cls(model=model, **kwargs)
        with closed_on_error(retriever):
            retriever.add_documents(documents, ids=ids)
        return retriever

    @classmethod
    async def afrom_documents(
        cls, documents: Iterable[Document], model: Any = None, *, ids: Iterable[str | None] | None = None, **kwargs: Any
    ) -> Self:
        """Create a retriever from documents, off the event loop; see `from_documents`."""
        retriever = await asyncio.to_thread(cls, model=model, **kwargs)
        with closed_on_error(retriever):
            await retriever.aadd_documents(documents, ids=ids)
        return retriever

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        model: Any = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a collection, encode texts and add them to it.

        Parameters
        ----------
        texts, metadatas, ids
            See `OctavoVectorStore.add_texts`.
        model, **kwargs
            See `from_documents`.
        """
        retriever = cls(model=model, **kwargs)
        with closed_on_error(retriever):
            retriever.vectorstore.add_texts(texts, metadatas, ids=ids)
        return retriever

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        model: Any = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create a retriever from texts, off the event loop; see `from_texts`."""
        retriever = await asyncio.to_thread(cls, model=model, **kwargs)
        with closed_on_error(retriever):
            await retriever.vectorstore.aadd_texts(texts, metadatas, ids=ids)
        return retriever

    @classmethod
    def from_existing(cls, path: str | os.PathLike[str], model: Any = None, **kwargs: Any) -> Self:
        """Open a collection that is there.

        Parameters
        ----------
        path : str or path-like
            Its directory.
        model : str, callable or object, optional
            The model that it was built with.
        **kwargs
            Other parameters of `LateInteractionRetriever`.

        Raises
        ------
        CollectionNotFoundError
            When there is none.
        """
        return cls(path, model, must_exist=True, **kwargs)

    # ------------------------------------------------------------------ writing

    def add_documents(
        self, documents: Iterable[Document], *, ids: Iterable[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Encode documents and store them, replacing those whose id is there already.

        Parameters
        ----------
        documents, ids, **kwargs
            See `OctavoVectorStore.add_documents`.

        Returns
        -------
        list of str
            The ids. When this returns, the documents survive a crash.
        """
        return self.vectorstore.add_documents(documents, ids=ids, **kwargs)

    async def aadd_documents(
        self, documents: Iterable[Document], *, ids: Iterable[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Encode and store documents off the event loop; see `add_documents`."""
        return await self.vectorstore.aadd_documents(documents, ids=ids, **kwargs)

    def add_images(
        self,
        images: Iterable[ImageLike],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Encode images (files, bytes, PIL images, pages of PDFs) and store them; see `OctavoVectorStore.add_images`.

        Parameters
        ----------
        images, metadatas, ids, **kwargs
            See `OctavoVectorStore.add_images`.

        Returns
        -------
        list of str
            The ids.
        """
        return self.vectorstore.add_images(images, metadatas, ids=ids, **kwargs)

    async def aadd_images(
        self,
        images: Iterable[ImageLike],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Encode and store images off the event loop; see `add_images`."""
        return await self.vectorstore.aadd_images(images, metadatas, ids=ids, **kwargs)

    def image_blocks(self, documents: Iterable[Document | str]) -> list[dict[str, Any] | None]:
        """Return the images of found documents as chat models take them; see `OctavoVectorStore.image_blocks`."""
        return self.vectorstore.image_blocks(documents)

    async def aimage_blocks(self, documents: Iterable[Document | str]) -> list[dict[str, Any] | None]:
        """Return the images of found documents, read off the event loop; see `image_blocks`."""
        return await self.vectorstore.aimage_blocks(documents)

    def delete(self, ids: Sequence[str] | None = None, *, filter: Any = None) -> None:
        """Delete documents by id, by filter, or those that both name.

        Parameters
        ----------
        ids : sequence of str, optional
            Ids that are not there are no error.
        filter : dict, callable, filter tree or structured query, optional
            Delete what matches; with `ids`, those of them that match.

        Raises
        ------
        ParameterError
            When neither is given; ``retriever.collection.clear()`` deletes everything.
        """
        if ids is None and filter is None:
            raise ParameterError("expected ids or filter, got neither; retriever.collection.clear() deletes everything")
        self.vectorstore.delete(ids, filter=filter)

    async def adelete(self, ids: Sequence[str] | None = None, *, filter: Any = None) -> None:
        """Delete documents off the event loop; see `delete`."""
        await asyncio.to_thread(self.delete, ids, filter=filter)

    def close(self) -> None:
        """Release the files; documents are durable without this. A collection that was passed in stays open."""
        self.vectorstore.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _open(path: str | os.PathLike[str] | None, model: Any, options: dict[str, Any]) -> OctavoVectorStore:
    for theirs in ("encoder", "embedding", "embeddings"):
        if theirs in options:
            raise TypeError(f"unexpected option {theirs!r}; in LateInteractionRetriever it is called model=")
    encoder = TokenEncoder(model) if model is not None else None
    if encoder is None and options.get("collection") is None:
        if path is None:
            raise ParameterError(
                "expected a model that turns texts into token vectors, or the path of a collection, got neither"
            )
        options = {"must_exist": True, **options}  # without a model there is nothing to create one for
    return OctavoVectorStore(encoder, path, **options)
