"""Collections for late interaction: many vectors a document, scored by MaxSim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo.collection._collection import Collection, _check_batch_size, _with_progress
from octavo.collection.explanation import Explanation, explanation
from octavo.collection.token_input import make_ready, not_late, read_token_batches, read_token_queries
from octavo.compression.token_pooling import TokenPooling
from octavo.encoders.tokens import MeanProbe, TokenEncoder
from octavo.errors import DocumentNotFoundError, InputTypeError, InvalidVectorsError, ParameterError
from octavo.retrievers.late_interaction import CandidateSource, LateOptions, LateQueries, LateSearcher, similarities
from octavo.retrievers.results import SearchResult
from octavo.retrievers.search import FilterLike, Mode, Queries, Searcher, SearchOptions, check_k, slots_of_ids
from octavo.retrievers.tuning import TuningReport
from octavo.store.documents import Batch, DocumentLike, check_ids
from octavo.store.store import Store


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
        return super().__repr__().replace("octavo.Collection", "octavo.MultiVectorCollection")

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
        batches = read_token_batches(
            documents,
            ids,
            metadata,
            vectors,
            payloads,
            token_vectors=token_vectors,
            pooled=pooled,
            batch_size=batch_size,
            dim=self.dim,
            encoder=self._token_encoder,
        )
        if documents is None:
            documents = token_vectors  # as long, and that is all that is asked of it now
        if pooled:
            batches = map(self._as_given, batches)
        return self._add_batches(_with_progress(batches, documents) if progress else batches)

    def _as_given(self, batch: Batch) -> Batch:
        return make_ready(batch, self.dim, None, self._token_encoder)

    def _ready(self, batch: Batch) -> Batch:
        return make_ready(batch, self.dim, self._store.settings.pooling or {}, self._token_encoder)

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
        tokens, words = read_token_queries(
            queries,
            texts,
            self.dim,
            self._token_encoder,
            needs_text=options.needs_text,
            needs_tokens=options.mode != "text" or options.lambda_mult is not None,
        )
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
            "`octavo eval run --mode late --n-candidates ...` measures what it finds"
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
        return explanation(id, matrix, query, text, stored, self._token_encoder)

    def _require_token_encoder(self) -> TokenEncoder:
        if self._token_encoder is None:
            raise ParameterError("the collection was opened without an encoder; open it with encoder=")
        return self._token_encoder


def _slot(found: Mapping[str, int], identifier: str) -> int:
    if identifier not in found:
        raise DocumentNotFoundError(f"expected ids of stored documents, but {identifier!r} is not in the collection")
    return found[identifier]
