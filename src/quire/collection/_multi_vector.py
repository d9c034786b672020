"""Collections for late interaction: many vectors a document, scored by MaxSim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quire.collection._collection import Collection, _check_batch_size, _is_sized, _with_progress
from quire.collection._token_input import not_late, pooled_tokens, with_tokens
from quire.compression._ragged import TokenMatrices
from quire.compression.token_pooling import TokenPooling
from quire.errors import DocumentNotFoundError, InputTypeError, InvalidVectorsError, ParameterError
from quire.retrievers.late_interaction import CandidateSource, LateOptions, LateQueries, LateSearcher, similarities
from quire.retrievers.results import SearchResult
from quire.retrievers.search import FilterLike, Mode, Queries, Searcher, SearchOptions, check_k, slots_of_ids
from quire.retrievers.tuning import TuningReport
from quire.store import (
    Batch,
    DocumentLike,
    Floats,
    MeanProbe,
    Store,
    TokenEncoder,
    check_ids,
    encode_pooled,
    pooled,
    read_batches,
    unit_tokens,
)

#: Documents whose token vectors are checked at a time: a copy of them all might not fit in memory.
_CHECKED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a document scores as it does for a query.

    Parameters
    ----------
    id : str
        The document.
    score : float
        Its MaxSim, the sum of the largest value of each row.
    similarities : ndarray of shape (n_query_tokens, n_document_vectors), float32
        Cosine of each query token with each stored vector of the document.
    best : ndarray of shape (n_query_tokens,), int64
        The document vector that each query token matches best.
    query_tokens : list of str or None
        The strings that the rows stand for, where the encoder can tell.
    document_tokens : list of str or None
        The strings that the columns stand for, where the encoder can tell; a pooled vector stands for several, joined by
        spaces (each token of the text is counted to the stored vector that it is closest to).
    """

    id: str
    score: float
    similarities: Floats
    best: Any
    query_tokens: list[str] | None
    document_tokens: list[str] | None


class MultiVectorCollection(Collection):
    """Documents with many compressed vectors each. Made by `open_multi_vector`; safe to use from many threads.

    Everything that `Collection` does works here as well, on token vectors where it speaks of vectors: `get_vectors` returns
    the candidate vectors. MMR takes the mean cosine of a query's tokens with their best matches as the relevance of a
    document, and the cosine of candidate vectors as the similarity of two documents.
    """

    _fit_at_most = 4_096  # documents that wait as float16 matrices of full width within one `add`

    def __init__(self, store: Store, encoder: TokenEncoder | None) -> None:
        self._token_encoder = encoder
        # What tells two encoders apart is asked of one vector a text: the mean of its tokens.
        try:
            super().__init__(store, MeanProbe(encoder) if encoder is not None else None)
        except InvalidVectorsError as err:
            raise not_late(self._fingerprint, encoder.name if encoder is not None else "none") from err

    def _new_searcher(self) -> Searcher:
        return LateSearcher(self._store, self._text)

    def _given_encoder(self) -> Any:
        return self._token_encoder

    def __repr__(self) -> str:
        return super().__repr__().replace("quire.Collection", "quire.MultiVectorCollection")

    @property
    def encoder(self) -> TokenEncoder | None:  # type: ignore[override]  # gives matrices where a plain one gives rows
        """What turns texts into token vectors, if it was given."""
        return self._token_encoder

    @property
    def pooling(self) -> TokenPooling:
        """How the tokens of a document are pooled."""
        return TokenPooling.from_config(self._store.settings.pooling or {})

    def encode_documents(self, texts: Sequence[str]) -> list[Floats]:  # type: ignore[override]
        """Return the encoder's token vectors for documents, one matrix each, as the encoder gives them: not pooled."""
        return self._require_token_encoder().encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> list[Floats]:  # type: ignore[override]
        """Return the encoder's token vectors for queries, one matrix each, as the encoder gives them."""
        return self._require_token_encoder().encode_queries(texts)

    # ------------------------------------------------------------------ writing

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
        progress: bool = False,
    ) -> list[str]:
        """Insert documents, replacing those whose id is already there.

        Parameters
        ----------
        documents, ids, metadata, payloads, batch_size, progress
            See `Collection.add`.
        vectors : None
            Belongs to collections with one vector a document.
        token_vectors : iterable of array-like of shape (n_tokens, dim), optional
            Ready token vectors, one matrix a document; otherwise the encoder makes them from the texts. They are scaled
            to unit length and pooled here. A document without tokens (shape ``(0, dim)``, or an empty list) is kept, and
            can be found by its words, but never by its vectors.
        pooled : bool, default=False
            Whether `token_vectors` are pooled already, as those of `get_token_vectors` are: they are then encoded as they
            are, neither scaled nor pooled once more, so that documents moved between collections keep their vectors.

        Returns
        -------
        list of str
            The ids, in order. When this returns, the documents survive ``kill -9`` and power loss.

        Raises
        ------
        InvalidVectorsError
            Ragged or zero token vectors, NaN, infinity, another dimension.
        ParameterError, InputTypeError
            Anything else about the input; see `Collection.add`.
        """
        self._store.require_open()
        _check_batch_size(batch_size)
        if vectors is not None:
            raise ParameterError("expected token_vectors= (one matrix a document), got vectors=")
        if not isinstance(pooled, bool | np.bool_):
            raise InputTypeError(f"expected pooled as True or False, got {type(pooled).__name__}")
        if pooled and token_vectors is None:
            raise ParameterError("pooled=True says how token_vectors= are; give them, or leave it out")
        if token_vectors is None and self._token_encoder is None:
            raise ParameterError(
                "expected token_vectors=, because the collection was opened without an encoder; give either of them"
            )
        ready = self._token_batches(token_vectors, pooled) if token_vectors is not None else None
        if documents is None:
            if not _is_sized(token_vectors):
                raise InputTypeError("expected documents, or token_vectors with a length, got neither")
            documents = [""] * len(token_vectors)  # type: ignore[arg-type]
        sized = {"documents": documents, "token_vectors": token_vectors}
        lengths = {name: len(value) for name, value in sized.items() if _is_sized(value)}  # type: ignore[arg-type]
        if len(set(lengths.values())) > 1:
            raise ParameterError(
                "expected as many token matrices as documents, got "
                + ", ".join(f"{count} {name}" for name, count in lengths.items())
            )
        batches = read_batches(documents, ids, metadata, None, payloads, batch_size=batch_size, dim=None)
        if ready is not None:
            batches = with_tokens(batches, ready)
        if pooled:
            batches = map(self._as_given, batches)
        return self._add_batches(_with_progress(batches, documents) if progress else batches)

    def _as_given(self, batch: Batch) -> Batch:
        """Make a batch ready whose matrices are pooled already."""
        assert batch.matrices is not None  # the caller has put them there
        self._require_dim(batch.matrices)
        batch.tokens, batch.matrices = pooled_tokens(batch.matrices, self.dim), None
        batch.ready = True
        return batch

    def _token_batches(self, token_vectors: Iterable[Any], pooled: bool) -> Iterator[Any]:
        """Return an iterator over the matrices; those with a length are all checked before anything is written."""
        if _is_sized(token_vectors):
            token_vectors = token_vectors if isinstance(token_vectors, TokenMatrices) else list(token_vectors)
            dim = self.dim
            for start in range(0, len(token_vectors), _CHECKED_AT_ONCE):
                part = [token_vectors[i] for i in range(start, min(start + _CHECKED_AT_ONCE, len(token_vectors)))]
                if dim is not None or any(not hasattr(matrix, "__len__") or len(matrix) for matrix in part):
                    dim = (pooled_tokens(part, dim) if pooled else unit_tokens(part, dim, "document")).dim
        return iter(token_vectors)

    def _ready(self, batch: Batch) -> Batch:
        if batch.ready:
            return batch
        pooling = self._store.settings.pooling or {}
        if batch.matrices is not None:
            self._require_dim(batch.matrices)
            batch.tokens = pooled(batch.matrices, pooling, self.dim)
            batch.matrices = None
        else:
            batch.tokens = encode_pooled(self._require_token_encoder(), batch.texts, pooling, self.dim)
        batch.ready = True
        return batch

    def _require_dim(self, matrices: Sequence[Any]) -> None:
        if self.dim is None and not any(np.ndim(matrix) == 2 for matrix in matrices):
            raise InvalidVectorsError(
                "expected at least one token vector in the first batch, to tell the dimension; or give dim= on opening"
            )

    def _maintain(self, fit_after: int | None) -> None:
        tokens = self._store.snapshot.tokens
        nothing_to_learn = tokens is None or len(tokens.codes) == 0
        super()._maintain(None if nothing_to_learn else fit_after)

    # ------------------------------------------------------------------ reading

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors of documents: pooled, decoded, of unit length (nearly).

        Returns
        -------
        list of ndarray of shape (n_vectors, dim), float32
            In the order asked.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, snapshot):
            found = slots_of_ids(connection, listed)
            slots = np.array([_slot(found, identifier) for identifier in listed], np.int64)
            if not len(slots) or snapshot.tokens is None:
                return []
            return [np.array(matrix) for matrix in snapshot.tokens.decode(slots)]

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
        """Find the k best documents for one query by MaxSim.

        Parameters
        ----------
        query : str or array-like of shape (n_tokens, dim)
            A text (the encoder makes its token vectors), or token vectors.
        k, filter, ids, text, alpha, fusion, fetch_k, lambda_mult
            See `Collection.search`. Where few documents match (a thousand), every one of them is scored.
        mode : {"dense", "text", "hybrid"}, default="dense"
            MaxSim, BM25 full text, or both fused.
        n_candidates : int, optional
            Documents scored by MaxSim; by default 400, more above 5,000 documents (1,800 of 100,000), and at least 4 k.
        candidates : {"vectors", "text", "both"}, default="vectors"
            Where they come from: the candidate vectors, the best by BM25 (only documents with one of the words), or both.
        oversample : float, optional
            In place of `n_candidates`: so many candidates a result.
        ef : int, optional
            Nodes that the graph search for candidates keeps in view.
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
        """
        options = LateOptions(
            mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 1, n_candidates, candidates
        )
        queries = self._queries([query], [text] if text is not None else None, options)
        listed = check_ids(ids) if ids is not None else None
        return self._run(queries, check_k(k), filter, listed, options)[0]

    def search_batch(
        self,
        queries: Any,
        k: int = 10,
        *,
        filter: FilterLike = None,
        ids: Iterable[str] | None = None,
        mode: Mode = "dense",
        texts: Sequence[str] | None = None,
        alpha: float | None = None,
        fusion: str = "rrf",
        fetch_k: int | None = None,
        lambda_mult: float | None = None,
        n_candidates: int | None = None,
        candidates: CandidateSource = "vectors",
        oversample: float | None = None,
        ef: int | None = None,
        exact: bool | None = None,
    ) -> list[SearchResult]:
        """Find the k best documents for each of many queries, on all cores.

        Parameters
        ----------
        queries : sequence of str, or sequence of array-like of shape (n_tokens, dim)
            Texts or token vectors.
        texts : sequence of str, optional
            The words to look for, one for each query, when the queries are token vectors.
        k, filter, ids, mode, alpha, fusion, fetch_k, lambda_mult, n_candidates, candidates, oversample, ef, exact
            See `search`.

        Returns
        -------
        list of SearchResult
            One for each query, all from the same committed state.
        """
        if isinstance(queries, str):
            raise InputTypeError("expected a sequence of queries, got a single str; use search(), or put it in a list")
        options = LateOptions(
            mode, alpha, fusion, fetch_k, lambda_mult, oversample, ef, exact, 0, n_candidates, candidates
        )
        if len(queries) == 0:
            self._store.require_open()
            return []
        listed = check_ids(ids) if ids is not None else None
        return self._run(self._queries(queries, texts, options), check_k(k), filter, listed, options)

    def _queries(self, queries: Any, texts: Sequence[str] | None, options: SearchOptions) -> Queries:
        assert isinstance(options, LateOptions)
        strings = [isinstance(query, str) for query in queries]
        if any(strings) and not all(strings):
            raise InputTypeError("expected queries all as str or all as token vectors, got a mixture")
        words: Sequence[str] | None = texts if texts is not None else (list(queries) if all(strings) else None)
        if texts is not None and not options.needs_text:
            raise ParameterError("text belongs to mode='text' or 'hybrid', or to candidates from text; got neither")
        if words is not None and (len(words) != len(queries) or not all(isinstance(word, str) for word in words)):
            raise ParameterError(f"expected one text for each of {len(queries)} queries, got {len(words)}")
        if options.needs_text and words is None:
            raise ParameterError("full text needs words: give the query as a str, or text= beside the token vectors")
        if options.mode == "text" and options.lambda_mult is None:
            return LateQueries(None, words)
        if all(strings):
            queries = self._require_token_encoder(
                "expected a query's token vectors, because the collection was opened without an encoder; open it with one, "
                "or search by words with mode='text'"
            ).encode_queries(list(queries))
        tokens = unit_tokens(queries, self.dim, "query")
        empty = np.flatnonzero(tokens.lengths == 0)
        if len(empty):
            raise InvalidVectorsError(f"expected at least one token vector a query, got none for query {int(empty[0])}")
        return LateQueries(None, words, tokens)

    def tune(self, *arguments: Any, **options: Any) -> TuningReport:
        """Not for late interaction: what it searches hardest is decided by `n_candidates`.

        Raises
        ------
        ParameterError
            Always; the message says what to do.
        """
        raise ParameterError(
            "tune() is for one vector a document; here n_candidates= says how hard to look, and "
            "`quire eval run --mode late --n-candidates ...` measures what it finds"
        )

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
            Similarities of all pairs, the best match of each query token, and the tokens as strings where known.

        Raises
        ------
        DocumentNotFoundError
            When the id is not there.
        """
        queries = self._queries([query], None, LateOptions())
        assert isinstance(queries, LateQueries)
        assert queries.tokens is not None  # mode is "dense"
        with self._store.read() as (connection, snapshot):
            slot = _slot(slots_of_ids(connection, check_ids([id])), id)
            view = snapshot.tokens
            assert view is not None  # there is a document, so there are files
            matrix = similarities(view, queries.tokens.flat, slot)
            stored = view.decode(np.array([slot])).flat
            text = connection.execute("SELECT text FROM documents WHERE slot = ?", (slot,)).fetchone()[0]
        best = matrix.argmax(axis=1) if matrix.shape[1] else np.zeros(0, np.int64)
        score = float(matrix.max(axis=1).sum()) if matrix.shape[1] else -np.inf
        query_tokens = None
        if isinstance(query, str) and self._token_encoder is not None:
            query_tokens = self._token_encoder.query_tokens(query)
            if query_tokens is not None and len(query_tokens) != len(matrix):
                query_tokens = None
        return Explanation(id, score, matrix, best, query_tokens, self._labels(text, stored))

    def _labels(self, text: str, stored: Floats) -> list[str] | None:
        """Return the strings that each stored vector of a document stands for."""
        if self._token_encoder is None or not text or not len(stored):
            return None
        strings = self._token_encoder.document_tokens(text)
        if strings is None:
            return None
        matrix = unit_tokens(self._token_encoder.encode_documents([text]), self.dim, "document").flat
        if len(matrix) != len(strings):
            return None
        if len(matrix) == len(stored):
            return strings
        owners = (matrix @ stored.T).argmax(axis=1)
        return [" ".join(strings[token] for token in np.flatnonzero(owners == row)) for row in range(len(stored))]

    def _require_token_encoder(self, message: str | None = None) -> TokenEncoder:
        if self._token_encoder is None:
            raise ParameterError(message or "the collection was opened without an encoder; open it with encoder=")
        return self._token_encoder


def _slot(found: Mapping[str, int], identifier: str) -> int:
    if identifier not in found:
        raise DocumentNotFoundError(f"expected ids of stored documents, but {identifier!r} is not in the collection")
    return found[identifier]
