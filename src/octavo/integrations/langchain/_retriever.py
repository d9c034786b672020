"""`OctavoRetriever`: dense, full-text, hybrid and diverse retrieval from one class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from octavo.encoders.tokens import TokenEncoder
from octavo.integrations.langchain._embedding import in_thread
from octavo.integrations.langchain._retriever_base import StoreRetriever, closed_on_error
from octavo.integrations.langchain._vectorstore import OctavoVectorStore


class OctavoRetriever(StoreRetriever):
    """Retrieve documents by vectors, full text, both, or with diversity.

    Parameters
    ----------
    vectorstore : OctavoVectorStore
        Where from.
    mode : {"dense", "text", "hybrid", "mmr"}, default="dense"
        Vectors (MaxSim in a store for late interaction), BM25 full text, both fused, or maximal marginal relevance over
        vectors.
    k : int, default=4
        Documents to return.
    filter : dict, callable, filter tree or structured query, optional
        Which documents may come back; see `OctavoVectorStore.similarity_search`.
    score_key : str, optional
        Put each document's score (higher is better) into its metadata under this key. The stored metadata stays as it
        is.
    fetch_k : int, optional
        ``mmr``: candidates to choose from; ``hybrid``: depth of both rankings.
    lambda_mult : float, optional
        ``mmr``: 1 is relevance alone, 0 the greatest diversity (0.5 unless given).
    alpha : float, optional
        ``hybrid``: weight of the vectors, between 0 (text alone) and 1 (vectors alone). None fuses by reciprocal rank.
    search_kwargs : dict, optional
        More options of `octavo.Collection.search`: ``text``, ``ids``, ``oversample``, ``ef``, ``exact``.

    All but `vectorstore` and `search_kwargs` may be given to ``invoke`` and ``ainvoke``, too, for that call. A call
    with another mode leaves out the options that belong to the retriever's own.

    Examples
    --------
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> texts = ["a red apple", "a green pear", "a blue car"]
    >>> retriever = OctavoRetriever.from_texts(texts, DeterministicFakeEmbedding(size=8), mode="text", score_key="score")
    >>> [document.page_content for document in retriever.invoke("pears")]
    ['a green pear']
    """

    mode: Literal["dense", "text", "hybrid", "mmr"] = "dense"

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | TokenEncoder | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store, add documents to it, and retrieve from it.

        Parameters
        ----------
        documents, ids
            See `OctavoVectorStore.add_documents`.
        embedding : Embeddings or encoder for late interaction
            See `OctavoVectorStore`.
        **kwargs
            Parameters of the retriever; all others (``path``, ``codec`` and so on) are those of `OctavoVectorStore`.
        """
        retriever = cls._empty(embedding, kwargs)
        with closed_on_error(retriever):
            retriever.vectorstore.add_documents(documents, ids=ids)
        return retriever

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | TokenEncoder | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create a retriever from documents, off the event loop; see `from_documents`."""
        retriever = await in_thread(cls._empty, embedding, kwargs)
        with closed_on_error(retriever):
            await retriever.vectorstore.aadd_documents(documents, ids=ids)
        return retriever

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store, add texts to it, and retrieve from it; see `from_documents`."""
        retriever = cls._empty(embedding, kwargs)
        with closed_on_error(retriever):
            retriever.vectorstore.add_texts(texts, metadatas, ids=ids)
        return retriever

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | TokenEncoder | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create a retriever from texts, off the event loop; see `from_documents`."""
        retriever = await in_thread(cls._empty, embedding, kwargs)
        with closed_on_error(retriever):
            await retriever.vectorstore.aadd_texts(texts, metadatas, ids=ids)
        return retriever

    @classmethod
    def _empty(cls, embedding: Embeddings | TokenEncoder | None, kwargs: dict[str, Any]) -> Self:
        # Made before the store is filled, so that bad options are found before anything is embedded.
        own = {name: value for name, value in kwargs.items() if name in cls.model_fields}
        store = OctavoVectorStore(embedding, **{name: value for name, value in kwargs.items() if name not in own})
        try:
            return cls(vectorstore=store, **own)
        except BaseException:
            store.close()
            raise
