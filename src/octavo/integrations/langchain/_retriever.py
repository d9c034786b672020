"""`OctavoRetriever`: dense, full-text, hybrid and diverse retrieval from one class, and what the retrievers share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from octavo._validation import check_integer, check_number
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.integrations.langchain._vectorstore import (
    LATE_OPTIONS,
    SEARCH_OPTIONS,
    OctavoVectorStore,
    Scored,
    ranked_by,
)

#: Options that shape some modes only.
_BELONGS_TO: dict[str, tuple[str, ...]] = {
    "fetch_k": ("mmr", "hybrid"),
    "lambda_mult": ("mmr",),
    "alpha": ("hybrid",),
    "rank": ("hybrid",),
    "weights": ("hybrid",),
}

#: What a call may change for itself.
_PER_CALL = ("k", "filter", "mode", "score_key", *_BELONGS_TO)


class StoreRetriever(BaseRetriever):
    """Retrieve documents from a store; subclasses say by which modes."""

    #: What the search methods of the store call a mode, where it has another name there.
    _store_modes: ClassVar[dict[str, str]] = {}

    vectorstore: OctavoVectorStore
    mode: str
    k: int = 4
    filter: Any = None
    score_key: str | None = None
    fetch_k: int | None = None
    lambda_mult: float | None = None
    alpha: float | None = None
    rank: Sequence[str] | None = None
    weights: Sequence[float] | None = None
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    # An option with a typing error must not pass unnoticed.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @field_validator("search_kwargs")
    @classmethod
    def _check_search_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = sorted(set(value) & set(cls.model_fields))
        if own:
            raise ParameterError(f"give {', '.join(own)} to the retriever itself, not in search_kwargs")
        unknown = sorted(set(value) - {*SEARCH_OPTIONS, *LATE_OPTIONS})
        if unknown:
            known = ", ".join((*SEARCH_OPTIONS, *LATE_OPTIONS))
            raise ParameterError(f"unexpected search option {unknown[0]!r} in search_kwargs; expected one of {known}")
        return value

    @field_validator("k", "fetch_k", mode="before")
    @classmethod
    def _check_integer(cls, value: Any, info: ValidationInfo) -> int | None:
        name = str(info.field_name)
        if value is None and name != "k":
            return None
        return check_integer(value, name, least=0 if name == "k" else 1)

    @field_validator("lambda_mult", "alpha", mode="before")
    @classmethod
    def _check_share(cls, value: Any, info: ValidationInfo) -> float | None:
        return check_number(value, str(info.field_name), least=0, most=1) if value is not None else None

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        for name, modes in _BELONGS_TO.items():
            if getattr(self, name) is not None and self.mode not in modes:
                raise ParameterError(f"{name} belongs to mode={' or '.join(map(repr, modes))}, got mode={self.mode!r}")
        if self.mode == "hybrid":  # how they go together
            ranked_by({"mode": "hybrid", "alpha": self.alpha, "rank": self.rank, "weights": self.weights})
        return self

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
            options["mode"] = self._store_modes.get(self.mode, self.mode)
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
        embedding = self.vectorstore.embedding
        if embedding is not None:
            params["ls_embedding_provider"] = type(embedding).__name__
            names = (getattr(embedding, name, None) for name in ("model_name", "model", "name"))
            model = next((name for name in names if name), None)
            if isinstance(model, str):
                params["ls_embedding_model"] = model
        return params


class OctavoRetriever(StoreRetriever):
    """Retrieve documents by vectors, full text, learned sparse vectors, several of them, or with diversity.

    Parameters
    ----------
    vectorstore : OctavoVectorStore
        Where from.
    mode : {"dense", "text", "sparse", "hybrid", "mmr"}, default="dense"
        Vectors (MaxSim in a store for late interaction), BM25 full text, learned sparse vectors, several of them fused, or
        maximal marginal relevance over vectors.
    k : int, default=4
        Documents to return.
    filter : dict, callable, filter tree or structured query, optional
        Which documents may come back; see `OctavoVectorStore.similarity_search`.
    score_key : str, optional
        Put each document's score (higher is better) into its metadata under this key. The stored metadata stays as it
        is.
    fetch_k : int, optional
        ``mmr``: candidates to choose from; ``hybrid``: depth of each ranking.
    lambda_mult : float, optional
        ``mmr``: 1 is relevance alone, 0 the greatest diversity (0.5 unless given).
    alpha : float, optional
        ``hybrid``: weight of the vectors, between 0 (text alone) and 1 (vectors alone). None fuses by reciprocal rank.
    rank, weights : sequence, optional
        ``hybrid``: which of "dense", "text" and "sparse" to fuse ("dense" and "text" unless given), and what each weighs; see
        `octavo.Collection.search`.
    search_kwargs : dict, optional
        More options of `octavo.Collection.search`: ``text``, ``ids``, ``oversample``, ``ef``, ``exact``.

    Notes
    -----
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

    mode: Literal["dense", "text", "sparse", "hybrid", "mmr"] = "dense"

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
        retriever = await asyncio.to_thread(cls._empty, embedding, kwargs)
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
        """Create (or open) a store, add texts to it, and retrieve from it.

        Parameters
        ----------
        texts, metadatas, ids
            See `OctavoVectorStore.add_texts`.
        embedding, **kwargs
            See `from_documents`.
        """
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
        """Create a retriever from texts, off the event loop; see `from_texts`."""
        retriever = await asyncio.to_thread(cls._empty, embedding, kwargs)
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


@contextlib.contextmanager
def closed_on_error(retriever: StoreRetriever) -> Iterator[None]:
    """Close the retriever's store when filling it fails."""
    try:
        yield
    except BaseException:
        retriever.vectorstore.close()
        raise
