"""The searching half of `OctavoVectorStore`: by text or vector, with scores or without, by relevance or diversity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document

from octavo.errors import InvalidVectorsError, ParameterError
from octavo.integrations.langchain._base import StoreBase, as_filter, to_langchain
from octavo.integrations.langchain._embedding import in_thread
from octavo.integrations.langchain._relevance import (
    RelevanceFn,
    cosine_relevance,
    fraction_relevance,
    positive_relevance,
    unbounded_relevance,
)
from octavo.retrievers.results import SearchResult

#: Options of `Collection.search` that the search methods pass on.
SEARCH_OPTIONS = ("ids", "mode", "text", "alpha", "fetch_k", "oversample", "ef", "exact")

#: Further options of `MultiVectorCollection.search`.
LATE_OPTIONS = ("n_candidates", "candidates")

#: The best that reciprocal rank fusion of two rankings can give: first in both, with its usual constant of 60.
_BEST_RANK_FUSION = 2 / 61

Scored = list[tuple[Document, float]]


class SearchMethods(StoreBase):
    """Search, sync and async."""

    # ------------------------------------------------------------------ similarity

    def similarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:
        """Return the k documents most similar to a query.

        Parameters
        ----------
        query : str
            The query's text.
        k : int, default=4
            Results; if n documents match the filter, min(k, n) come back.
        filter : dict, callable, filter tree or structured query, optional
            Which documents may come back, honoured during the search: dict operators
            (``{"year": {"$gte": 2020}}``), a function of `Document`, a tree of `octavo.filters`, or LangChain's
            ``structured_query`` objects.
        **kwargs
            Options of `octavo.Collection.search`: ``mode`` ("dense", "text", "hybrid"), ``alpha``, ``text``,
            ``ids``, ``fetch_k``, ``oversample``, ``ef``, ``exact``; for late interaction also ``n_candidates`` and
            ``candidates``.

        Returns
        -------
        list of Document
            Best first.

        Raises
        ------
        TypeError
            For an option that is none of these.
        InvalidFilterError, ParameterError
            When the filter or an option cannot be used.
        """
        return _documents(self.similarity_search_with_score(query, k, filter, **kwargs))

    async def asimilarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:
        """Return the k documents most similar to a query, off the event loop; see `similarity_search`."""
        return _documents(await self.asimilarity_search_with_score(query, k, filter, **kwargs))

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return the k documents most similar to a query, each with its score.

        The score is Octavo's own: **higher is better**. It is the cosine (or, with ``metric="dot"``, the dot product) in
        the finest tier of the codec, MaxSim in a store for late interaction, BM25 with ``mode="text"``, the fused score
        with ``mode="hybrid"``.

        Parameters
        ----------
        query, k, filter, **kwargs
            See `similarity_search`.

        Returns
        -------
        list of (Document, float)
            Best first.
        """
        check_options(kwargs)
        vector = self._embedder.query(query) if needs_vector(kwargs) else None
        return self._scored(query, vector, k, filter, kwargs)

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return scored documents, off the event loop; see `similarity_search_with_score`."""
        check_options(kwargs)
        vector = await self._embedder.aquery(query) if needs_vector(kwargs) else None
        return await in_thread(self._scored, query, vector, k, filter, kwargs)

    def similarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents most similar to a vector; ``mode="hybrid"`` needs ``text=`` beside it."""
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    async def asimilarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents most similar to a vector, off the event loop."""
        return _documents(await self.asimilarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return the k documents most similar to a vector, each with its score (higher is better)."""
        check_options(kwargs)
        return self._scored(None, embedding, k, filter, kwargs)

    async def asimilarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return scored documents for a vector, off the event loop."""
        check_options(kwargs)
        return await in_thread(self._scored, None, embedding, k, filter, kwargs)

    # ------------------------------------------------------------------ relevance

    def _select_relevance_score_fn(self) -> RelevanceFn:
        return self._relevance_fn({})

    def _relevance_fn(self, options: dict[str, Any]) -> RelevanceFn:
        if self._relevance_score_fn is not None:
            return self._relevance_score_fn
        dense = cosine_relevance if self._collection.metric == "cosine" else unbounded_relevance
        mode, alpha = options.get("mode") or "dense", options.get("alpha")
        if mode == "text" or (mode == "hybrid" and alpha == 0):
            return positive_relevance
        if mode == "dense" or alpha == 1:
            return dense if self._late is None else unbounded_relevance
        if alpha is None:
            return lambda score: fraction_relevance(score / _BEST_RANK_FUSION)
        return fraction_relevance

    def _similarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        if not self._scores_by_maxsim(kwargs):
            relevance = self._relevance_fn(kwargs)
            return [(doc, relevance(score)) for doc, score in self.similarity_search_with_score(query, k, **kwargs)]
        where = kwargs.pop("filter", None)
        check_options(kwargs)
        tokens = self._embedder.query(query)
        return _mean_relevance(self._scored(query, tokens, k, where, kwargs), len(tokens))

    async def _asimilarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        if not self._scores_by_maxsim(kwargs):
            relevance = self._relevance_fn(kwargs)
            scored = await self.asimilarity_search_with_score(query, k, **kwargs)
            return [(doc, relevance(score)) for doc, score in scored]
        where = kwargs.pop("filter", None)
        check_options(kwargs)
        tokens = await self._embedder.aquery(query)
        return _mean_relevance(await in_thread(self._scored, query, tokens, k, where, kwargs), len(tokens))

    def _scores_by_maxsim(self, options: dict[str, Any]) -> bool:
        """Tell whether scores are sums over the query's tokens, whose number is needed to make something of them."""
        if self._late is None or self._relevance_score_fn is not None:
            return False
        mode = options.get("mode") or "dense"
        return mode == "dense" or (mode == "hybrid" and options.get("alpha") == 1)

    # ------------------------------------------------------------------ diversity

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k documents that are relevant to a query and differ from each other.

        Parameters
        ----------
        query : str
            The query's text.
        k : int, default=4
            Results.
        fetch_k : int, default=20
            Candidates to choose from, k at least.
        lambda_mult : float, default=0.5
            1 is relevance alone, 0 the greatest diversity.
        filter, **kwargs
            See `similarity_search`.

        Returns
        -------
        list of Document
            In the order chosen.
        """
        return _documents(
            self.max_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, filter, **kwargs)
        )

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return diverse documents, off the event loop; see `max_marginal_relevance_search`."""
        return _documents(
            await self.amax_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, filter, **kwargs)
        )

    def max_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int | None = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return diverse documents, each with its score for the query (so the scores need not fall in order)."""
        check_options(kwargs)
        return self._scored(query, self._embedder.query(query), k, filter, kwargs, fetch_k, lambda_mult)

    async def amax_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int | None = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> Scored:
        """Return scored diverse documents, off the event loop."""
        check_options(kwargs)
        vector = await self._embedder.aquery(query)
        return await in_thread(self._scored, query, vector, k, filter, kwargs, fetch_k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k documents that are relevant to a vector and differ from each other."""
        check_options(kwargs)
        return _documents(self._scored(None, embedding, k, filter, kwargs, fetch_k, lambda_mult))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return diverse documents for a vector, off the event loop."""
        check_options(kwargs)
        return _documents(await in_thread(self._scored, None, embedding, k, filter, kwargs, fetch_k, lambda_mult))

    # ------------------------------------------------------------------ inside

    def _scored(
        self,
        query: str | None,
        vector: Any,
        k: int,
        where: Any,
        options: dict[str, Any],
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
    ) -> Scored:
        options = dict(options)
        if self._late is not None:
            if query is None:
                _check_token_vectors(vector)
        elif late := next((name for name in LATE_OPTIONS if name in options), None):
            raise ParameterError(f"{late} belongs to stores for late interaction; this one keeps one vector a document")
        if query is not None and vector is not None and _looks_at_words(options):
            options.setdefault("text", query)
        if fetch_k is not None:
            options["fetch_k"] = fetch_k
        result: SearchResult = self._collection.search(
            vector if vector is not None else query,
            k,
            filter=as_filter(where) if where is not None else None,
            lambda_mult=lambda_mult,
            **options,
        )
        scores = result.scores.tolist()
        return [(to_langchain(document), score) for document, score in zip(result.documents, scores, strict=True)]


def _looks_at_words(options: dict[str, Any]) -> bool:
    return bool(options.get("mode", "dense") != "dense" or options.get("candidates", "vectors") != "vectors")


def _check_token_vectors(vector: Any) -> None:
    if np.ndim(vector) != 2:
        raise InvalidVectorsError(
            "expected the token vectors of a query, of shape (n_tokens, dim), because this store keeps many vectors a "
            f"document; got shape {np.shape(vector)}. Use similarity_search(query), which encodes the text, or "
            "store.collection.encode_queries([query])[0]"
        )


def needs_vector(options: dict[str, Any]) -> bool:
    """Tell whether a search with these options looks at vectors at all."""
    return bool(options.get("mode", "dense") != "text")


def check_options(options: dict[str, Any]) -> None:
    """Raise for a search option that does not exist, instead of ignoring it."""
    for name in options:
        if name in SEARCH_OPTIONS or name in LATE_OPTIONS:
            continue
        if name == "score_threshold":
            raise ParameterError(
                "score_threshold belongs to similarity_search_with_relevance_scores, or to "
                "as_retriever(search_type='similarity_score_threshold')"
            )
        if name == "lambda_mult":
            raise ParameterError(
                "lambda_mult belongs to max_marginal_relevance_search, or to as_retriever(search_type='mmr')"
            )
        raise TypeError(f"unexpected search option {name!r}; expected k, filter or one of {', '.join(SEARCH_OPTIONS)}")


def _mean_relevance(scored: Scored, n_tokens: int) -> Scored:
    """Map MaxSim to [0, 1]: the mean cosine of the query's tokens with their best matches, as `cosine_relevance`."""
    return [(document, cosine_relevance(score / n_tokens)) for document, score in scored]


def _documents(scored: Scored) -> list[Document]:
    return [document for document, _ in scored]
