"""What the retrievers share: options, checked for each call; scores in the metadata; tracing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, field_validator, model_validator

from octavo.errors import ParameterError
from octavo.integrations.langchain._search import Scored, check_options
from octavo.integrations.langchain._vectorstore import OctavoVectorStore

#: Options that shape some modes only.
_BELONGS_TO: dict[str, tuple[str, ...]] = {
    "fetch_k": ("mmr", "hybrid"),
    "lambda_mult": ("mmr",),
    "alpha": ("hybrid",),
}

#: What a call may change for itself.
_PER_CALL = ("k", "filter", "mode", "score_key", *_BELONGS_TO)


class StoreRetriever(BaseRetriever):
    """Retrieve documents from a store; subclasses say by which modes."""

    #: What the search methods of the store call a mode, where it has another name there.
    _store_modes: ClassVar[dict[str, str]] = {}

    vectorstore: OctavoVectorStore
    mode: str
    k: int = Field(default=4, ge=1)
    filter: Any = None
    score_key: str | None = None
    fetch_k: int | None = Field(default=None, ge=1)
    lambda_mult: float | None = Field(default=None, ge=0, le=1)
    alpha: float | None = Field(default=None, ge=0, le=1)
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


@contextlib.contextmanager
def closed_on_error(retriever: StoreRetriever) -> Iterator[None]:
    """Close the retriever's store when filling it fails."""
    try:
        yield
    except BaseException:
        retriever.vectorstore.close()
        raise
