"""`QuireRetriever`: dense, full-text, hybrid and diverse retrieval from one class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, field_validator, model_validator

from quire.errors import ParameterError
from quire.integrations.langchain._embedding import in_thread
from quire.integrations.langchain._search import Scored, check_options
from quire.integrations.langchain._vectorstore import QuireVectorStore

#: Options that shape some modes only.
_BELONGS_TO: dict[str, tuple[str, ...]] = {
    "fetch_k": ("mmr", "hybrid"),
    "lambda_mult": ("mmr",),
    "alpha": ("hybrid",),
    "fusion": ("hybrid",),
}

#: What a call may change for itself.
_PER_CALL = ("k", "filter", "mode", "score_key", *_BELONGS_TO)


class QuireRetriever(BaseRetriever):
    """Retrieve documents by vectors, full text, both, or with diversity.

    Parameters
    ----------
    vectorstore : QuireVectorStore
        Where from.
    mode : {"dense", "text", "hybrid", "mmr"}, default="dense"
        Vectors, BM25 full text, both fused, or maximal marginal relevance over vectors.
    k : int, default=4
        Documents to return.
    filter : dict, callable, filter tree or structured query, optional
        Which documents may come back; see `QuireVectorStore.similarity_search`.
    score_key : str, optional
        Put each document's score (higher is better) into its metadata under this key. The stored metadata stays as it
        is.
    fetch_k : int, optional
        ``mmr``: candidates to choose from; ``hybrid``: depth of both rankings.
    lambda_mult : float, optional
        ``mmr``: 1 is relevance alone, 0 the greatest diversity (0.5 unless given).
    alpha : float, optional
        ``hybrid``: weight of the vectors, between 0 (text alone) and 1 (vectors alone). None fuses by reciprocal rank.
    fusion : {"rrf", "convex"}, optional
        ``hybrid``: how the rankings are fused.
    search_kwargs : dict, optional
        More options of `quire.Collection.search`: ``text``, ``ids``, ``oversample``, ``ef``, ``exact``.

    All but `vectorstore` and `search_kwargs` may be given to ``invoke`` and ``ainvoke``, too, for that call. A call
    with another mode leaves out the options that belong to the retriever's own.

    Examples
    --------
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> texts = ["a red apple", "a green pear", "a blue car"]
    >>> retriever = QuireRetriever.from_texts(texts, DeterministicFakeEmbedding(size=8), mode="text", score_key="score")
    >>> [document.page_content for document in retriever.invoke("pears")]
    ['a green pear']
    """

    vectorstore: QuireVectorStore
    mode: Literal["dense", "text", "hybrid", "mmr"] = "dense"
    k: int = Field(default=4, ge=1)
    filter: Any = None
    score_key: str | None = None
    fetch_k: int | None = Field(default=None, ge=1)
    lambda_mult: float | None = Field(default=None, ge=0, le=1)
    alpha: float | None = Field(default=None, ge=0, le=1)
    fusion: Literal["rrf", "convex"] | None = None
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    # An option with a typing error must not pass unnoticed.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @field_validator("search_kwargs")
    @classmethod
    def _check_search_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = sorted(set(value) & set(cls.model_fields))
        if own:
            raise ParameterError(f"give {', '.join(own)} to the retriever itself, not in search_kwargs")
        try:
            check_options(value)
        except TypeError as err:
            raise ParameterError(str(err)) from err
        return value

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        for name, modes in _BELONGS_TO.items():
            if getattr(self, name) is not None and self.mode not in modes:
                raise ParameterError(f"{name} belongs to mode={' or '.join(map(repr, modes))}, got mode={self.mode!r}")
        return self

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store, add documents to it, and retrieve from it.

        Parameters
        ----------
        documents, ids
            See `QuireVectorStore.add_documents`.
        embedding : Embeddings
            See `QuireVectorStore`.
        **kwargs
            Parameters of the retriever; all others (``path``, ``codec`` and so on) are those of `QuireVectorStore`.
        """
        retriever = cls._empty(embedding, kwargs)
        with _closed_on_error(retriever):
            retriever.vectorstore.add_documents(documents, ids=ids)
        return retriever

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create a retriever from documents, off the event loop; see `from_documents`."""
        retriever = await in_thread(cls._empty, embedding, kwargs)
        with _closed_on_error(retriever):
            await retriever.vectorstore.aadd_documents(documents, ids=ids)
        return retriever

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create (or open) a store, add texts to it, and retrieve from it; see `from_documents`."""
        retriever = cls._empty(embedding, kwargs)
        with _closed_on_error(retriever):
            retriever.vectorstore.add_texts(texts, metadatas, ids=ids)
        return retriever

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Create a retriever from texts, off the event loop; see `from_documents`."""
        retriever = await in_thread(cls._empty, embedding, kwargs)
        with _closed_on_error(retriever):
            await retriever.vectorstore.aadd_texts(texts, metadatas, ids=ids)
        return retriever

    @classmethod
    def _empty(cls, embedding: Embeddings | None, kwargs: dict[str, Any]) -> Self:
        # Made before the store is filled, so that bad options are found before anything is embedded.
        own = {name: value for name, value in kwargs.items() if name in cls.model_fields}
        store = QuireVectorStore(embedding, **{name: value for name, value in kwargs.items() if name not in own})
        try:
            return cls(vectorstore=store, **own)
        except BaseException:
            store.close()
            raise

    # ------------------------------------------------------------------ retrieving

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        call = self._for_call(kwargs)
        if call.mode == "mmr":
            scored = self.vectorstore.max_marginal_relevance_search_with_score(query, **call._options())
        else:
            scored = self.vectorstore.similarity_search_with_score(query, **call._options())
        return call._with_scores(scored)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        call = self._for_call(kwargs)
        if call.mode == "mmr":
            scored = await self.vectorstore.amax_marginal_relevance_search_with_score(query, **call._options())
        else:
            scored = await self.vectorstore.asimilarity_search_with_score(query, **call._options())
        return call._with_scores(scored)

    def _for_call(self, changes: dict[str, Any]) -> Self:
        """Return the retriever with the options of one call, checked as the constructor checks them."""
        changes = {name: value for name, value in changes.items() if name != "verbose"}  # `invoke` has seen to that one
        if not changes:
            return self
        unknown = sorted(set(changes) - set(_PER_CALL))
        if unknown:
            raise TypeError(f"unexpected option {unknown[0]!r}; a call may change {', '.join(_PER_CALL)}")
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        if changes.get("mode", self.mode) != self.mode:
            fields |= dict.fromkeys(_BELONGS_TO)  # they shaped the mode that this call does not use
        return type(self)(**(fields | changes))

    def _options(self) -> dict[str, Any]:
        options = self.search_kwargs | {"k": self.k, "filter": self.filter}
        if self.mode != "mmr":
            options["mode"] = self.mode
        for name in _BELONGS_TO:
            value = getattr(self, name)
            if value is not None:
                options[name] = value
        return options

    def _with_scores(self, scored: Scored) -> list[Document]:
        if self.score_key is not None:
            for document, score in scored:  # made for this call alone: nobody else holds their metadata
                document.metadata[self.score_key] = score
        return [document for document, _ in scored]

    # ------------------------------------------------------------------ tracing

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = type(self.vectorstore).__name__
        embedding = self.vectorstore.embeddings
        if embedding is not None:
            params["ls_embedding_provider"] = type(embedding).__name__
            model = getattr(embedding, "model_name", None) or getattr(embedding, "model", None)
            if isinstance(model, str):
                params["ls_embedding_model"] = model
        return params


@contextlib.contextmanager
def _closed_on_error(retriever: QuireRetriever) -> Iterator[None]:
    try:
        yield
    except BaseException:
        retriever.vectorstore.close()
        raise
