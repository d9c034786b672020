"""Collections for late interaction: many vectors a document, scored by MaxSim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from octavo._arrays import Floats
from octavo._validation import check_integer
from octavo.collection.collection import Collection, with_progress
from octavo.collection.model_check import LocalTokens, ModelCheck
from octavo.collection.searching import LateSearch
from octavo.collection.sparse_input import with_sparse
from octavo.collection.token_input import make_ready, read_token_batches
from octavo.compression.spatial_pooling import pooling_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import TokenPooling
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError
from octavo.retrievers.late_interaction import LateSearcher, similarities
from octavo.retrievers.search import Queries, Searcher, stored_slots
from octavo.store.database import TO_EMBED
from octavo.store.documents import Batch, DocumentLike, check_ids
from octavo.store.store import Store
from octavo.words import WordQuery


class MultiVectorCollection(LateSearch, Collection):
    """Documents with many compressed vectors each. Made by `open_multi_vector`; safe to use from many threads.

    Everything that `Collection` does works here as well, on token vectors where it speaks of vectors: `get_vectors` returns
    the candidate vectors.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open_multi_vector(pool_factor=1) as kb:
    ...     _ = kb.add(["red green", "brown"], ids=["rg", "b"], token_vectors=[[[1, 0], [0, 1]], [[0.6, 0.8]]])
    ...     kb.search([[1, 0], [0, 1]], k=2).ids
    ['rg', 'b']
    """

    _fit_at_most = 4_096  # documents that wait as float16 matrices of full width within one `add`

    def __init__(
        self,
        store: Store,
        encoder: TokenEncoder | None,
        sparse_encoder: SparseEncoder | None = None,
        previous: Any = None,
    ) -> None:
        super().__init__(store, encoder, sparse_encoder, previous)  # type: ignore[arg-type]

    def _new_searcher(self) -> Searcher:
        return LateSearcher(self._store, self._text)

    def __repr__(self) -> str:
        return super().__repr__().replace("octavo.Collection", "octavo.MultiVectorCollection")

    @property
    def late(self) -> MultiVectorCollection:  # type: ignore[override]  # None for a plain one
        """The collection itself: it keeps many vectors a document."""
        return self

    @property
    def encoder(self) -> TokenEncoder | None:  # type: ignore[override]  # gives matrices where a plain one gives rows
        """What turns texts into token vectors, if it was given."""
        encoder: TokenEncoder | None = self._models.any
        return encoder

    @property
    def pooling(self) -> TokenPooling:
        """How the tokens of a document are pooled."""
        return pooling_from_config(self._store.settings.pooling or {})

    def encode_documents(self, texts: Sequence[str]) -> list[Floats]:  # type: ignore[override]
        """Return the encoder's token vectors for documents.

        Parameters
        ----------
        texts : sequence of str
            Texts of documents.

        Returns
        -------
        list of ndarray of shape (n_tokens, dim), float32
            One matrix each, as the encoder gives them: not pooled.

        Raises
        ------
        ParameterError
            When the collection was opened without an encoder.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open_multi_vector(encoder=lambda texts: [[[len(word), 1.0] for word in text.split()] for text in texts])
        >>> [matrix.tolist() for matrix in kb.encode_documents(["dark green"])]
        [[[4.0, 1.0], [5.0, 1.0]]]
        >>> kb.close()
        """
        matrices: list[Floats] = self._of_the_same_model(self._require_encoder().encode_documents(texts))
        return matrices

    def encode_queries(self, texts: Sequence[str]) -> list[Floats]:  # type: ignore[override]
        """Return the encoder's token vectors for queries.

        Parameters
        ----------
        texts : sequence of str
            Texts of queries.

        Returns
        -------
        list of ndarray of shape (n_tokens, dim), float32
            One matrix each, as the encoder gives them.

        Raises
        ------
        ParameterError
            When the collection was opened without an encoder.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open_multi_vector(encoder=lambda texts: [[[len(word), 1.0] for word in text.split()] for text in texts])
        >>> [matrix.tolist() for matrix in kb.encode_queries(["dark green"])]
        [[[4.0, 1.0], [5.0, 1.0]]]
        >>> kb.close()
        """
        matrices: list[Floats] = self._of_the_same_model(self._require_encoder().encode_queries(texts))
        return matrices

    def model_check(self) -> ModelCheck:
        """Return what notices that an encoder is not the one that made the stored vectors; for those who encode themselves.

        Returns
        -------
        ModelCheck
            See `Collection.model_check`.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open_multi_vector(encoder=lambda texts: [[[len(word), 1.0] for word in text.split()] for text in texts])
        >>> _ = kb.add(["red apple", "green pear"])
        >>> check = kb.model_check()
        >>> check.run(kb.encoder.name, 2, kb.encoder.encode_documents)
        >>> check.settled  # it is the one
        True
        >>> kb.close()
        """
        return ModelCheck(LocalTokens(self._store))

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
        embed_texts: Iterable[str | None] | None = None,
        embed_words: bool = False,
        sparse_vectors: Any = None,
        payloads: Iterable[str | None] | None = None,
        batch_size: int = 256,
        progress: bool = False,
    ) -> list[str]:
        """Insert documents, replacing those whose id is already there.

        Parameters
        ----------
        documents, ids, metadata, embed_texts, embed_words, payloads, batch_size, progress
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
        sparse_vectors : sparse matrix of scipy or torch, or iterable, optional
            Ready learned sparse vectors; see `Collection.add`.

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

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open_multi_vector(pool_factor=1)
        >>> kb.add(["red", ""], ids=["r", "empty"], token_vectors=[[[1.0, 0.0]], []])
        ['r', 'empty']
        >>> kb.search([[1.0, 0.0]]).ids  # a document without tokens is not found by vectors
        ['r']
        >>> kb.close()
        """
        self._store.require_open()
        batch_size = check_integer(batch_size, "batch_size", least=1)
        self._check_sparse_given(sparse_vectors)
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
            encoder=self._encoder,
            embed_texts=embed_texts,
            embed_words=embed_words,
        )
        if documents is None:
            documents = token_vectors  # as long, and that is all that is asked of it now
        if sparse_vectors is not None:
            batches = with_sparse(batches, sparse_vectors, documents)
        if pooled:
            batches = map(self._as_given, batches)
        return self._add_batches(with_progress(batches, documents) if progress else batches)

    def _take(self, batch: Batch, vectors: list[Any]) -> None:
        batch.matrices = vectors

    def _as_given(self, batch: Batch) -> Batch:
        return make_ready(batch, self.dim, None, self._encoder)

    def _ready(self, batch: Batch) -> Batch:
        encoded = not batch.ready and batch.matrices is None
        if encoded and self._old_is_gone:
            batch.matrices, encoded = [np.zeros((0, self.dim or 1), np.float32)] * len(batch), False
        encoder = self._require_encoder() if encoded else None
        batch = make_ready(batch, self.dim, self._store.settings.pooling or {}, self._grids_by(encoder))
        if encoder is not None:
            self._checked_model().run(encoder.name, batch.dim, encoder.encode_documents)
        return batch

    def _grids_by(self, encoder: TokenEncoder | None) -> TokenEncoder | None:
        """Return what encodes; where vectors are given, what tells how patches lie, if the collection has its model."""
        known = self._models.any
        return encoder if encoder is not None or not isinstance(known, TokenEncoder) or self._old_is_gone else known

    def _encoded(self, queries: Any, words: Sequence[str | WordQuery] | None, are_words: bool) -> Queries:
        return self._by_models(queries, words, are_words, partial(LateSearch._encoded, self))

    def _maintain(self, fit_after: int | None) -> None:
        tokens = self._store.snapshot.tokens
        nothing_to_learn = tokens is None or len(tokens.codes) == 0
        super()._maintain(None if nothing_to_learn else fit_after)

    # ------------------------------------------------------------------ reading

    def get_token_vectors(self, ids: Iterable[str]) -> list[Floats]:
        """Return the stored token vectors of documents: pooled, decoded, of unit length (nearly).

        Parameters
        ----------
        ids : iterable of str
            Which; every one has to be there.

        Returns
        -------
        list of ndarray of shape (n_vectors, dim), float32
            In the order asked.

        Raises
        ------
        DocumentNotFoundError
            When an id is not there.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open_multi_vector(pool_factor=1)
        >>> tokens = [[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8]]]
        >>> _ = kb.add(["red green", "brown"], ids=["rg", "b"], token_vectors=tokens)
        >>> [matrix.shape for matrix in kb.get_token_vectors(["rg", "b"])]
        [(2, 2), (1, 2)]
        >>> kb.close()
        """
        listed = check_ids(ids)
        with self._store.read() as (connection, snapshot):
            slots = stored_slots(connection, snapshot, listed)
            if not len(slots) or snapshot.tokens is None:
                return []
            return [np.array(matrix) for matrix in snapshot.tokens.decode(slots)]

    def tune(self, *arguments: Any, **options: Any) -> NoReturn:
        """Not for late interaction: what it searches hardest is decided by `n_candidates`.

        Parameters
        ----------
        *arguments, **options
            As for `Collection.tune`; none is looked at.

        Raises
        ------
        ParameterError
            Always; the message says what to do.

        Examples
        --------
        >>> import octavo
        >>> kb = octavo.open_multi_vector()
        >>> kb.tune()
        Traceback (most recent call last):
        octavo.errors.ParameterError: tune() is for one vector a document; here n_candidates= says how hard to look, and ...
        >>> kb.close()
        """
        raise ParameterError(
            "tune() is for one vector a document; here n_candidates= says how hard to look, and "
            "`octavo eval run --mode late --n-candidates ...` measures what it finds"
        )

    def _similarities(self, tokens: TokenMatrices, id: str) -> tuple[Floats, Floats, str]:
        with self._store.read() as (connection, snapshot):
            [slot] = stored_slots(connection, snapshot, [id]).tolist()
            view = snapshot.tokens
            assert view is not None  # there is a document, so there are files
            matrix = similarities(view, tokens.flat, slot)
            stored = view.decode(np.array([slot])).flat
            text: str = connection.execute(f"SELECT {TO_EMBED} FROM documents WHERE slot = ?", (slot,)).fetchone()[0]
        return matrix, stored, text
