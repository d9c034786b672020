"""Search, once for every collection: its signature, its documentation, its checks, and how rankings become an answer.

`DenseSearch` and `LateSearch` are the public methods. A collection inherits one of them and supplies a `Ranker`: something
that ranks the documents of one state by vectors or by words. How deep to look, how rankings are fused and diversified, and
that nothing is asked for beyond what can match, is decided here, for a collection of files and one in Qdrant alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from octavo._arrays import Floats, as_matrix, unit_rows
from octavo._sparse_rows import SparseRows
from octavo._validation import check_integer
from octavo.collection.explanation import Explanation, explanation
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import unit_tokens
from octavo.errors import InputTypeError, InvalidFilterError, InvalidVectorsError, ParameterError
from octavo.filters import Filter, has_empty_part, parse_filter
from octavo.retrievers.fusion import convex_combination, linear_combination, reciprocal_rank_fusion
from octavo.retrievers.late_interaction import CandidateSource, LateOptions
from octavo.retrievers.mmr import maximal_marginal_relevance
from octavo.retrievers.ranker import Ranker
from octavo.retrievers.results import Ranking, SearchResult
from octavo.retrievers.search import DocumentFilter, FilterLike, Mode, Queries, SearchOptions
from octavo.store.documents import check_ids
from octavo.words import WordQuery
from octavo.words.matching import needs_positions

#: Depth of both rankings that a hybrid search fuses, unless `fetch_k` says otherwise, and at least this often k.
_HYBRID_DEPTH = 100
_HYBRID_FACTOR = 4

#: Candidates that MMR chooses from, unless `fetch_k` says otherwise: as LangChain, but never fewer than 4 k.
_MMR_DEPTH = 20
_MMR_FACTOR = 4

#: A filter that was checked: None restricts nothing.
Where: TypeAlias = "Filter | DocumentFilter | None"


class NothingRanked:
    """The `Ranker` of a collection without documents."""

    cosines = False

    def at_most(self, depth: int) -> int:
        """Return 0."""
        return 0

    def by_vectors(self, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
        """Return an empty ranking for each query."""
        return [_NOTHING] * len(queries)

    def by_words(self, words: Sequence[str | WordQuery], k: int, options: SearchOptions) -> list[Ranking]:
        """Return an empty ranking for each query."""
        return [_NOTHING] * len(words)

    def by_sparse(self, queries: SparseRows, k: int, options: SearchOptions) -> list[Ranking]:
        """Return an empty ranking for each query."""
        return [_NOTHING] * len(queries)

    def vectors(self, ranking: Ranking) -> Floats:
        """Return no vectors."""
        return np.empty((0, 1), np.float32)

    def relevance(self, queries: Queries, number: int, ranking: Ranking, vectors: Floats) -> Floats:
        """Return no relevance."""
        return np.empty(0, np.float32)

    def results(self, rankings: Sequence[Ranking]) -> list[SearchResult]:
        """Return an empty result for each ranking."""
        return [SearchResult([], scores, [], []) for _, scores in rankings]


class DenseSearch(Protocol):
    """`search` and `search_batch` of a collection with one vector a document."""

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors as they come in; None before the first ones."""
        ...

    @property
    def metric(self) -> str:
        """How vectors are compared: "cosine" or "dot"."""
        ...

    @property
    def encoder(self) -> Any:
        """What turns texts into vectors, if one was given: one each, or for late interaction many."""
        ...

    @property
    def sparse_encoder(self) -> SparseEncoder | None:
        """What turns texts into learned sparse vectors, if one was given."""
        ...

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        text: str | WordQuery | None = None,
        sparse_vector: Any = None,
        alpha: float | None = None,
        rank: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        oversample: float | None = None,
        ef: int | None = None,
        n_probe: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the k best documents for one query.

        Parameters
        ----------
        query : str, array-like of shape (dim,), or None
            A text (the encoder makes its vector), or a vector; None where `text` or `sparse_vector` says all.
        k : int, default=10
            Results; if n documents match the filter, min(k, n) come back.
        filter : dict, filter or callable, optional
            Which documents may come back: the dict form (``{"year": {"$gte": 2020}}``), a tree of
            `octavo.filters`, or a function from `Document` to bool, which has to look at every document.
        ids : iterable of str, optional
            Only these documents may come back.
        mode : {"dense", "text", "sparse", "hybrid"}, default="dense"
            Vectors, BM25 full text, learned sparse vectors, or several of them fused. Words and sparse vectors find documents
            that share a term with the query.
        text : str or WordQuery, optional
            The words to look for, when `query` is a vector or when they should differ from it; a string is a bag of words,
            `octavo.words` has phrases and operators. With ``mode="text"``, `query` may be either as well.
        sparse_vector : mapping, pair or sparse row, optional
            Ready sparse vector of the query: ``{term: weight}``, ``(indices, values)``, or a row of scipy or torch. Otherwise
            the sparse encoder makes it of the text.
        alpha : float, optional
            Hybrid of vectors and words: weight of the vectors in a convex combination of the two scores; 0 is text alone and 1
            vectors alone, exactly. None (default) fuses by reciprocal rank.
        rank : sequence of {"dense", "text", "sparse"}, default=("dense", "text")
            Hybrid: which rankings to fuse.
        weights : sequence of float, optional
            Hybrid: what each ranking of `rank` weighs in a combination of their scores; of one alone above 0, the answer is
            that ranking, exactly. None (default) fuses by reciprocal rank.
        fetch_k : int, optional
            MMR: candidates to choose from (default ``max(20, 4 * k)``). Hybrid: depth of each ranking (default
            ``max(100, 4 * k)``).
        lambda_mult : float, optional
            Choose by maximal marginal relevance: 1 is relevance alone, 0 the greatest diversity.
        oversample : float, optional
            Candidates rescored per result. With cells every codec rescores, with a graph those of more than one tier.
        ef : int, optional
            With ``index="graph"``: nodes that the search keeps in view; more finds more and takes longer.
        n_probe : int, optional
            With ``index="cells"``: cells that the search looks at, nearest first; more finds more and takes longer. Under a
            filter, so many more that as many matching documents are looked at as there would be others.
        exact : bool, optional
            True scores every document in the finest tier; False uses the index wherever there is one.

        Returns
        -------
        SearchResult
            ``.ids``, ``.scores`` (higher is better), ``.documents``; iterates as hits.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            When an argument cannot be used; the message says which and why.

        Examples
        --------
        >>> import octavo
        >>> with octavo.open() as kb:
        ...     _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]], metadata=[{"n": 1}, {"n": 2}])
        ...     print(kb.search([0.9, 0.1], k=1).ids, kb.search([0.9, 0.1], filter={"n": {"$gt": 1}}).ids)
        ...     print(kb.search("green", mode="text").ids)
        ['r'] ['g']
        ['g']
        """
        options = SearchOptions(
            mode=mode,
            alpha=alpha,
            rank=rank,
            weights=weights,
            fetch_k=fetch_k,
            lambda_mult=lambda_mult,
            oversample=oversample,
            ef=ef,
            n_probe=n_probe,
            exact=exact,
        )
        single = query[None] if isinstance(query, np.ndarray) and query.dtype == np.float32 else [query]
        given = None if sparse_vector is None else [sparse_vector]
        return self._search(single, [text] if text is not None else None, k, filter, ids, options, given)[0]

    def search_batch(
        self,
        queries: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        texts: Sequence[str | WordQuery] | None = None,
        sparse_vectors: Any = None,
        alpha: float | None = None,
        rank: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        oversample: float | None = None,
        ef: int | None = None,
        n_probe: int | None = None,
        exact: bool | None = None,
    ) -> list[SearchResult]:
        """Find the k best documents for each of many queries, on all cores.

        Parameters
        ----------
        queries : sequence of str, or array-like of shape (m, dim)
            Texts or vectors.
        texts : sequence of str, optional
            The words to look for, one for each query, when the queries are vectors.
        sparse_vectors : sparse matrix or sequence, optional
            Ready sparse vectors, one for each query.
        k, filter, ids, mode, alpha, rank, weights, fetch_k, lambda_mult, oversample, ef, n_probe, exact
            See `search`.

        Returns
        -------
        list of SearchResult
            One for each query, all from the same committed state.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            As `search`.

        Examples
        --------
        >>> import octavo
        >>> with octavo.open() as kb:
        ...     _ = kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]])
        ...     [result.ids for result in kb.search_batch([[0.9, 0.1], [0.2, 0.8]], k=1)]
        [['r'], ['g']]
        """
        options = SearchOptions(
            mode=mode,
            alpha=alpha,
            rank=rank,
            weights=weights,
            fetch_k=fetch_k,
            lambda_mult=lambda_mult,
            oversample=oversample,
            ef=ef,
            n_probe=n_probe,
            exact=exact,
            threads=0,
        )
        return self._search(queries, texts, k, filter, ids, options, sparse_vectors)

    # ------------------------------------------------------------------ what a collection supplies

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Return the encoder's vectors for queries."""
        ...

    def encode_sparse_queries(self, texts: Sequence[str]) -> SparseRows:
        """Return the sparse encoder's vectors for queries."""
        ...

    def _require_open(self) -> None:
        """Raise `CollectionClosedError` when the collection was closed."""
        ...

    def _ranker(
        self, where: Where, ids: Sequence[str] | None, options: SearchOptions
    ) -> AbstractContextManager[Ranker]:
        """Return what ranks one state of the collection, restricted to what `where` and `ids` let through."""
        ...

    # ------------------------------------------------------------------ inside

    def _search(
        self,
        queries: Any,
        texts: Sequence[str | WordQuery] | None,
        k: Any,
        filter: FilterLike,
        ids: Iterable[str] | None,
        options: SearchOptions,
        sparse: Any = None,
    ) -> list[SearchResult]:
        self._require_open()
        wanted = check_integer(k, "k", least=1)
        listed = check_ids(ids) if ids is not None else None
        where = check_filter(filter)
        read = self._read_queries(queries, texts, options, sparse)
        if not len(read):
            return []
        if read.words is not None and any(map(needs_positions, read.words)):
            options = replace(options, word_positions=True)
        with self._ranker(where, listed, options) as ranker:
            return ranker.results(_rank(ranker, read, wanted, options))

    def _read_queries(
        self, queries: Any, texts: Sequence[str | WordQuery] | None, options: SearchOptions, sparse: Any = None
    ) -> Queries:
        """Return queries as vectors, as words and as sparse vectors, each where the search needs them."""
        if isinstance(queries, str | WordQuery):
            raise InputTypeError(
                f"expected a sequence of queries, got a single {type(queries).__name__}; use search(), or put it in a list"
            )
        if not hasattr(queries, "__len__"):
            raise InputTypeError(f"expected a sequence of queries, got {type(queries).__name__}; put them in a list")
        if not len(queries):
            return Queries()
        are_words, are_absent = _are_words(queries), _are_absent(queries)
        words: Sequence[str | WordQuery] | None = texts if texts is not None else (list(queries) if are_words else None)
        if texts is not None and not options.needs_words and not (options.needs_sparse and sparse is None):
            raise ParameterError(
                "text belongs to mode='text' or 'hybrid' (or to candidates from text), or to sparse vectors that the encoder "
                f"is to make, got mode={options.mode!r}"
            )
        if words is not None and (
            len(words) != len(queries) or not all(isinstance(word, str | WordQuery) for word in words)
        ):
            raise ParameterError(f"expected one text for each of {len(queries)} queries, got {len(words)}")
        if options.needs_words and words is None:
            raise ParameterError(
                f"a search by words (mode={options.mode!r}) needs words: give the query as a str, or text= beside its vectors"
            )
        lists = self._sparse_queries(words, len(queries), options, sparse)
        if not options.needs_words:
            words = None
        if not options.needs_vectors:
            if are_absent and words is None and lists is None:
                raise ParameterError("expected a query, got None")
            return Queries(words=words, sparse=lists)
        if are_absent:
            raise ParameterError(
                "expected a query, because the search ranks by vectors, got None; give a text or a vector, or mode='sparse'"
            )
        if are_words and any(isinstance(query, WordQuery) for query in queries):
            raise ParameterError(
                "a query of octavo.words has no vector: give it as text= beside a query as str or as vectors, or search with "
                "mode='text'"
            )
        if are_words and self.encoder is None:
            raise ParameterError(
                "expected a query's vectors, because the collection was opened without an encoder; open it with one, or "
                "search by words with mode='text'"
            )
        read = self._encoded(queries, words, are_words)
        return read if lists is None else replace(read, sparse=lists)

    def _sparse_queries(
        self, words: Sequence[str | WordQuery] | None, n: int, options: SearchOptions, given: Any
    ) -> SparseRows | None:
        """Return the sparse vectors of queries, given or made of their words; None where the search does not need them."""
        if not options.needs_sparse:
            if given is not None:
                raise ParameterError(
                    "sparse_vector belongs to mode='sparse', to a hybrid with 'sparse' in rank=, or to candidates='sparse', "
                    f"got mode={options.mode!r}"
                )
            return None
        if given is not None:
            return SparseRows.of(given, "the query's sparse vector" if n == 1 else "sparse vectors of queries", n=n)
        if words is None:
            raise ParameterError(
                "a search by sparse vectors needs one of the query: give the query as a str, text= beside its vector, or "
                "sparse_vector="
            )
        if self.sparse_encoder is None:
            raise ParameterError(
                "expected the query's sparse vector, because the collection was opened without a sparse encoder; open it with "
                "sparse=, or give sparse_vector="
            )
        plain = [word for word in words if isinstance(word, str)]
        if len(plain) < len(words):
            raise ParameterError(
                "a query of octavo.words has no sparse vector: give sparse_vector= beside it, or search with mode='text'"
            )
        return self.encode_sparse_queries(plain)

    def _encoded(self, queries: Any, words: Sequence[str | WordQuery] | None, are_words: bool) -> Queries:
        """Return queries as the collection compares them; the encoder is there if they are words."""
        check_no_list_of_texts(queries)
        vectors = self.encode_queries(list(queries)) if are_words else queries
        matrix = as_matrix(vectors, self.dim, "the query" if len(queries) == 1 else "queries")
        return Queries(vectors=unit_rows(matrix, keep_zeros=True) if self.metric == "cosine" else matrix, words=words)


class LateSearch(DenseSearch, Protocol):
    """`search`, `search_batch` and `explain` of a collection for late interaction."""

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        text: str | WordQuery | None = None,
        sparse_vector: Any = None,
        alpha: float | None = None,
        rank: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        n_candidates: int | None = None,
        candidates: CandidateSource = "vectors",
        oversample: float | None = None,
        ef: int | None = None,
        n_probe: int | None = None,
        exact: bool | None = None,
    ) -> SearchResult:
        """Find the k best documents for one query by MaxSim.

        Parameters
        ----------
        query : str, array-like of shape (n_tokens, dim), or None
            A text (the encoder makes its token vectors), or token vectors; None where `text` or `sparse_vector` says all.
        k : int, default=10
            Results; if n documents match the filter, min(k, n) come back.
        filter : dict, filter or callable, optional
            Which documents may come back: the dict form (``{"year": {"$gte": 2020}}``), a tree of
            `octavo.filters`, or a function from `Document` to bool, which has to look at every document. Where few
            documents match (a thousand), every one of them is scored.
        ids : iterable of str, optional
            Only these documents may come back.
        mode : {"dense", "text", "sparse", "hybrid"}, default="dense"
            MaxSim, BM25 full text, learned sparse vectors, or several of them fused.
        text : str, optional
            The words to look for, when `query` is given as token vectors or when they should differ from it.
        sparse_vector : mapping, pair or sparse row, optional
            Ready sparse vector of the query; see `Collection.search`.
        alpha : float, optional
            Hybrid of MaxSim and words: weight of MaxSim in a convex combination of the two scores; 0 is text alone and 1 MaxSim
            alone, exactly. None (default) fuses by reciprocal rank.
        rank : sequence of {"late", "text", "sparse"}, default=("late", "text")
            Hybrid: which rankings to fuse; "dense" is another name of "late" here.
        weights : sequence of float, optional
            Hybrid: what each ranking of `rank` weighs in a combination of their scores. None fuses by reciprocal rank.
        fetch_k : int, optional
            MMR: candidates to choose from (default ``max(20, 4 * k)``). Hybrid: depth of each ranking (default
            ``max(100, 4 * k)``).
        lambda_mult : float, optional
            Choose by maximal marginal relevance: 1 is relevance alone, 0 the greatest diversity. Relevance is the mean
            cosine of the query's tokens with their best matches, similarity the cosine of two documents' candidate vectors.
        n_candidates : int, optional
            Documents scored by MaxSim; by default 120, more above 5,000 documents (254 of 100,000), and at least 4 k; without
            token cells 400 (1,800 of 100,000).
        candidates : {"vectors", "mean", "tokens", "text", "both", "sparse"}, default="vectors"
            Where they come from: candidate vectors (the means of documents) and token cells, half of them each; means alone;
            token cells alone; the best by BM25 (only documents with one of the words); vectors and, as many again, words; or
            the best by learned sparse vectors. Collections of fewer than 2,000 documents have no token cells: means find
            them all.
        oversample : float, optional
            In place of `n_candidates`: so many candidates a result.
        ef : int, optional
            With ``index="graph"``: nodes that the search for candidates keeps in view.
        n_probe : int, optional
            With ``index="cells"``: cells that the search for candidates looks at.
        exact : bool, optional
            True scores every document by MaxSim; False takes candidates however few documents there are. None scores
            every document while there are few, or none is fitted yet.

        Returns
        -------
        SearchResult
            ``.ids``, ``.scores`` (MaxSim: the sum over the query's tokens), ``.documents``; iterates as hits.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            When an argument cannot be used; the message says which and why.

        Examples
        --------
        >>> import octavo
        >>> with octavo.open_multi_vector(pool_factor=1) as kb:
        ...     _ = kb.add(ids=["rg", "b"], token_vectors=[[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8]]])
        ...     [(hit.id, f"{hit.score:.1f}") for hit in kb.search([[1.0, 0.0], [0.0, 1.0]], k=2)]
        [('rg', '2.0'), ('b', '1.4')]
        """
        options = LateOptions(
            mode=mode,
            alpha=alpha,
            rank=rank,
            weights=weights,
            fetch_k=fetch_k,
            lambda_mult=lambda_mult,
            n_candidates=n_candidates,
            candidates=candidates,
            oversample=oversample,
            ef=ef,
            n_probe=n_probe,
            exact=exact,
        )
        given = None if sparse_vector is None else [sparse_vector]
        return self._search([query], [text] if text is not None else None, k, filter, ids, options, given)[0]

    def search_batch(
        self,
        queries: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        texts: Sequence[str | WordQuery] | None = None,
        sparse_vectors: Any = None,
        alpha: float | None = None,
        rank: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        n_candidates: int | None = None,
        candidates: CandidateSource = "vectors",
        oversample: float | None = None,
        ef: int | None = None,
        n_probe: int | None = None,
        exact: bool | None = None,
    ) -> list[SearchResult]:
        """Find the k best documents for each of many queries, on all cores.

        Parameters
        ----------
        queries : sequence of str, or sequence of array-like of shape (n_tokens, dim)
            Texts or token vectors.
        texts : sequence of str, optional
            The words to look for, one for each query, when the queries are token vectors.
        sparse_vectors : sparse matrix or sequence, optional
            Ready sparse vectors, one for each query.
        k, filter, ids, mode, alpha, rank, weights, fetch_k, lambda_mult
            See `search`.
        n_candidates, candidates, oversample, ef, n_probe, exact
            See `search`.

        Returns
        -------
        list of SearchResult
            One for each query, all from the same committed state.

        Raises
        ------
        InvalidVectorsError, InvalidFilterError, ParameterError, InputTypeError
            As `search`.

        Examples
        --------
        >>> import octavo
        >>> with octavo.open_multi_vector(pool_factor=1) as kb:
        ...     _ = kb.add(ids=["rg", "b"], token_vectors=[[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8]]])
        ...     [result.ids for result in kb.search_batch([[[1.0, 0.0]], [[0.6, 0.8]]], k=1)]
        [['rg'], ['b']]
        """
        options = LateOptions(
            mode=mode,
            alpha=alpha,
            rank=rank,
            weights=weights,
            fetch_k=fetch_k,
            lambda_mult=lambda_mult,
            n_candidates=n_candidates,
            candidates=candidates,
            oversample=oversample,
            ef=ef,
            n_probe=n_probe,
            exact=exact,
            threads=0,
        )
        return self._search(queries, texts, k, filter, ids, options, sparse_vectors)

    def explain(self, query: Any, id: str) -> Explanation:
        """Say which of a document's vectors each token of a query matches.

        Parameters
        ----------
        query : str or array-like of shape (n_tokens, dim)
            A text, or token vectors.
        id : str
            The document; it need not be among the best.

        Returns
        -------
        Explanation
            Similarities of all pairs, the best match of each query token, and the tokens as strings where known; of a page
            image, with the heat map of the query over it (`Explanation.heat_map`).

        Raises
        ------
        DocumentNotFoundError
            When the id is not there.

        Examples
        --------
        >>> import octavo
        >>> with octavo.open_multi_vector(pool_factor=1) as kb:
        ...     _ = kb.add(ids=["rg"], token_vectors=[[[1.0, 0.0], [0.0, 1.0]]])
        ...     kb.explain([[0.0, 1.0]], "rg").best.tolist()
        [1]
        """
        self._require_open()
        read = self._read_queries([query], None, LateOptions())
        assert read.tokens is not None  # mode is "dense"
        (identifier,) = check_ids([id])
        similarities, stored, text = self._similarities(read.tokens, identifier)
        return explanation(identifier, similarities, query, text, stored, self.encoder, read.tokens.flat)

    def _similarities(self, tokens: TokenMatrices, id: str) -> tuple[Floats, Floats, str]:
        """Return the cosine of each token of one query with each vector of a document, the vectors, and the text."""
        ...

    def _encoded(self, queries: Any, words: Sequence[str | WordQuery] | None, are_words: bool) -> Queries:
        check_no_list_of_texts(queries)
        given = self.encode_queries(list(queries)) if are_words else queries
        tokens = unit_tokens(given, self.dim, "query")
        empty = np.flatnonzero(tokens.lengths == 0)
        if len(empty):
            raise InvalidVectorsError(f"expected at least one token vector a query, got none for query {int(empty[0])}")
        return Queries(tokens=tokens, words=words)


# ---------------------------------------------------------------------- checks


def check_no_list_of_texts(queries: Any) -> None:
    """Refuse several questions where one belongs, which would otherwise be taken for a vector that is none.

    Raises
    ------
    InputTypeError
        When a query is a list or tuple with texts in it.
    """
    for query in queries:
        if isinstance(query, (list, tuple)) and any(isinstance(each, (str, WordQuery)) for each in query):
            raise InputTypeError(
                f"expected a text or the vectors of one query, got a {type(query).__name__} of {len(query)} with texts in it; "
                "search_batch asks several at once"
            )


def check_filter(filter: FilterLike) -> Where:
    """Return a filter in a form that can be used: a tree, a function, or None.

    Raises
    ------
    InvalidFilterError
        When it is neither, or can only be awaited.
    """
    if filter is None or isinstance(filter, Filter):
        return filter
    if not callable(filter):
        return parse_filter(filter)
    if inspect.iscoroutinefunction(filter) or inspect.iscoroutinefunction(getattr(filter, "__call__", None)):  # noqa: B004
        raise InvalidFilterError(
            "expected a filter function that returns True or False, got one that is async; filters cannot be awaited"
        )
    return filter


def check_deletion(ids: Iterable[str] | None, filter: FilterLike) -> tuple[list[str] | None, Where]:
    """Return what a deletion names, checked: a condition that says nothing must not delete everything.

    Raises
    ------
    ParameterError
        When neither is given, or a condition is empty, wherever in the filter.
    """
    if ids is None and filter is None:
        raise ParameterError("expected ids or filter, got neither; to delete every document call clear()")
    listed = check_ids(ids) if ids is not None else None
    where = check_filter(filter)
    empty = filter is not None and where is None
    if empty or (isinstance(where, Filter) and has_empty_part(where)):
        raise ParameterError(
            f"expected a filter with a condition in each of its parts, got an empty one in {filter!r}; to delete every "
            "document call clear()"
        )
    return listed, where


def _are_absent(queries: Any) -> bool:
    return isinstance(queries, list | tuple) and all(query is None for query in queries)


def _are_words(queries: Any) -> bool:
    if isinstance(queries, np.ndarray) and queries.dtype.kind not in "OUT":
        return False
    strings = [isinstance(query, str | WordQuery) for query in queries]
    if any(strings) and not all(strings):
        raise InputTypeError("expected queries all as str or all as vectors, got a mixture")
    return strings[0]


# ---------------------------------------------------------------------- from rankings to an answer


def _rank(ranker: Ranker, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
    """Return the k best documents for each query, whatever they are ranked by."""
    depth = k
    if options.lambda_mult is not None:
        depth = max(k, options.fetch_k or max(_MMR_DEPTH, _MMR_FACTOR * k))
    fetch = max(depth, options.fetch_k or max(_HYBRID_DEPTH, _HYBRID_FACTOR * depth))
    depth = ranker.at_most(depth)
    if depth == 0:
        return [_NOTHING] * len(queries)
    # Where all weight lies on one ranking the answer is that one alone, exactly: no deeper search may change it.
    parts = options.parts
    if len(parts) == 1:
        rankings = _by(next(iter(parts)), ranker, queries, depth, options)
    else:
        fetch = ranker.at_most(fetch)
        each = [_by(name, ranker, queries, fetch, options) for name in parts]
        rankings = [_fused(found, depth, parts, options.alpha) for found in zip(*each, strict=True)]
    if options.lambda_mult is None:
        return rankings
    if options.lambda_mult == 1:  # relevance alone: the ranking as it is, whatever rounding would make of it
        return [(keys[:k], scores[:k]) for keys, scores in rankings]
    return [_diversified(ranker, queries, number, ranking, k, options) for number, ranking in enumerate(rankings)]


_NOTHING: Ranking = (np.empty(0, np.int64), np.empty(0, np.float32))


def _by_vectors(ranker: Ranker, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
    """Rank by vectors; a query of zeros has no direction, so that every document has the score 0 (bits know no zero)."""
    rankings = ranker.by_vectors(queries, k, options)
    if queries.vectors is None:
        return rankings
    return [
        (keys, scores if vector.any() else np.zeros_like(scores))
        for (keys, scores), vector in zip(rankings, queries.vectors, strict=True)
    ]


def _words(queries: Queries) -> Sequence[str | WordQuery]:
    assert queries.words is not None  # reading them has asked for words
    return queries.words


def _by(name: str, ranker: Ranker, queries: Queries, k: int, options: SearchOptions) -> list[Ranking]:
    """Rank by one of the kinds that `SearchOptions.names` gives."""
    if name == "dense":
        return _by_vectors(ranker, queries, k, options)
    if name == "text":
        return ranker.by_words(_words(queries), k, options)
    assert queries.sparse is not None  # reading them has asked for it
    return ranker.by_sparse(queries.sparse, k, options)


#: The score that stands for nothing in common: of vectors, the lowest that was found.
_MINIMA: dict[str, float | None] = {"dense": None, "text": 0.0, "sparse": 0.0}


def _fused(rankings: Sequence[Ranking], k: int, parts: Mapping[str, float | None], alpha: float | None) -> Ranking:
    weights = list(parts.values())
    if alpha is not None:
        found = dict(zip(parts, rankings, strict=True))
        keys, scores = convex_combination(found["dense"], found["text"], alpha)
    elif None in weights:
        keys, scores = reciprocal_rank_fusion(rankings)
    else:
        shares = [weight for weight in weights if weight is not None]
        keys, scores = linear_combination(rankings, shares, minima=[_MINIMA[name] for name in parts])
    return keys[:k], scores[:k].astype(np.float32)


def _diversified(
    ranker: Ranker, queries: Queries, number: int, ranking: Ranking, k: int, options: SearchOptions
) -> Ranking:
    """Choose k documents of a ranking by maximal marginal relevance."""
    keys, scores = ranking
    if not len(keys):
        return ranking
    assert options.lambda_mult is not None  # asked only then
    vectors = ranker.vectors(ranking)
    # Relevance must be a cosine as the similarity between documents is, for the two to be weighed against each other.
    cosines = options.vectors_alone and ranker.cosines
    relevance = scores if cosines else ranker.relevance(queries, number, ranking, vectors)
    chosen = maximal_marginal_relevance(relevance, vectors, min(k, len(keys)), options.lambda_mult)
    return keys[chosen], scores[chosen]
