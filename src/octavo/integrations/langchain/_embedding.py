"""Texts to vectors through LangChain's `Embeddings`, sync and async, without ever holding the interpreter for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
from langchain_core.embeddings import Embeddings

from octavo._arrays import Floats
from octavo.encoders.dense import as_encoder
from octavo.encoders.tokens import TokenEncoder, is_multi_vector
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError

T = TypeVar("T")


def vectors_to_matrix(rows: Any, n: int | None = None) -> Floats:
    """Return vectors as a float32 matrix, row by row.

    One ``np.asarray`` over thousands of lists would hold the interpreter lock for a hundred milliseconds, during which
    no event loop turns; between rows the lock can change hands.

    Raises
    ------
    InvalidVectorsError
        When there are not `n` rows, or the rows differ in length or are not numbers.
    """
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        matrix = rows.astype(np.float32)
    else:
        listed = list(rows)
        dim = len(listed[0]) if listed else 0
        matrix = np.empty((len(listed), dim), np.float32)
        with np.errstate(over="ignore"):  # becomes an infinity, which the collection refuses by row
            for position, row in enumerate(listed):
                if len(row) != dim:
                    raise InvalidVectorsError(
                        f"expected vectors of one length, got {dim} values in the first and {len(row)} in vector "
                        f"{position}"
                    )
                try:
                    matrix[position] = row
                except (TypeError, ValueError) as err:
                    raise InvalidVectorsError(f"expected vectors of numbers, but vector {position}: {err}") from err
    if n is not None and len(matrix) != n:
        raise InvalidVectorsError(f"expected {n} vectors from the embedding, one for each text, got {len(matrix)}")
    return matrix


def check_embedding(embedding: Any) -> Embeddings | TokenEncoder | None:
    """Return `embedding` if it can be used as LangChain `Embeddings`, or as an encoder for late interaction."""
    if embedding is None or isinstance(embedding, Embeddings):
        return embedding
    if is_multi_vector(embedding):
        return TokenEncoder(embedding)
    if isinstance(embedding, type):
        raise InputTypeError(
            f"expected an Embeddings object, got the class {embedding.__name__}; create an instance of it"
        )
    if all(hasattr(embedding, name) for name in ("embed_documents", "embed_query", "aembed_documents", "aembed_query")):
        return embedding  # type: ignore[no-any-return]  # speaks the protocol without inheriting it
    raise InputTypeError(
        f"expected embedding to be langchain_core Embeddings, got {type(embedding).__name__}; for other encoders open "
        "the collection with octavo.open(path, encoder=...) and pass collection=, for late interaction pass "
        "octavo.TokenEncoder(model)"
    )


class Embedder:
    """What a store embeds with: the caller's `Embeddings`, or else the encoder that its collection was opened with.

    Parameters
    ----------
    embedding : Embeddings or None
        The caller's.
    collection : Collection
        Supplies the encoder where `embedding` is None.
    """

    def __init__(self, embedding: Embeddings | None, collection: Any) -> None:
        self.embedding = embedding
        self._collection = collection

    def documents(self, texts: Sequence[str]) -> Floats:
        """Return one vector for each text."""
        if self.embedding is None:
            self._require_encoder()
            return np.asarray(self._collection.encode_documents(list(texts)), np.float32)
        return vectors_to_matrix(self.embedding.embed_documents(list(texts)), len(texts))

    async def adocuments(self, texts: Sequence[str]) -> Floats:
        """Return one vector for each text, through the embedding's own async method."""
        if self.embedding is None:
            return await asyncio.to_thread(self.documents, texts)
        rows = await self.embedding.aembed_documents(list(texts))
        return await asyncio.to_thread(vectors_to_matrix, rows, len(texts))

    def query(self, text: str) -> Floats:
        """Return the vector of a query."""
        _check_query(text)
        if self.embedding is None:
            self._require_encoder()
            return np.asarray(self._collection.encode_queries([text])[0], np.float32)
        return _one_vector(self.embedding.embed_query(text))

    async def aquery(self, text: str) -> Floats:
        """Return the vector of a query, through the embedding's own async method."""
        _check_query(text)
        if self.embedding is None:
            return await asyncio.to_thread(self.query, text)
        return _one_vector(await self.embedding.aembed_query(text))

    def _require_encoder(self) -> None:
        if self._collection.encoder is None:
            raise ParameterError(
                "expected an embedding, but the store has none; create it with OctavoVectorStore(embedding=...), or use "
                "the methods that take vectors, or search with mode='text'"
            )


class TokenEmbedder:
    """What a store for late interaction encodes with: the caller's encoder, or else that of its collection.

    The models run in this process, so there is nothing to await: async code encodes in a worker thread.

    Parameters
    ----------
    encoder : TokenEncoder or None
        Gives one matrix of token vectors a text.
    """

    def __init__(self, encoder: TokenEncoder | None) -> None:
        self.encoder = encoder

    def documents(self, texts: Sequence[str]) -> list[Floats]:
        """Return the token vectors of each text."""
        return self._require_encoder().encode_documents(texts)

    async def adocuments(self, texts: Sequence[str]) -> list[Floats]:
        """Return the token vectors of each text, from a worker thread."""
        return await asyncio.to_thread(self.documents, texts)

    def query(self, text: str) -> Floats:
        """Return the token vectors of a query."""
        _check_query(text)
        return self._require_encoder().encode_queries([text])[0]

    async def aquery(self, text: str) -> Floats:
        """Return the token vectors of a query, from a worker thread."""
        return await asyncio.to_thread(self.query, text)

    def _require_encoder(self) -> TokenEncoder:
        if self.encoder is None:
            raise ParameterError(
                "expected an encoder, but the store has none; open it with the encoder that it was built with, or search "
                "with mode='text'"
            )
        return self.encoder


def _one_vector(row: Any) -> Floats:
    matrix = vectors_to_matrix([row])
    return matrix.reshape(-1)


def _check_query(text: Any) -> None:
    if not isinstance(text, str):
        raise InputTypeError(
            f"expected the query as a str, got {type(text).__name__}; for a vector use similarity_search_by_vector"
        )


class _Wanted(Exception):  # noqa: N818 - never leaves this module
    """Vectors that synchronous code in a worker thread needs, and that only the event loop can ask for."""

    def __init__(self, encoder: CollectionEncoder, texts: list[str]) -> None:
        super().__init__(texts)
        self.encoder = encoder
        self.texts = texts


#: Vectors that the event loop has asked for on behalf of a worker thread; None in ordinary synchronous code.
_answers: ContextVar[Iterator[Floats] | None] = ContextVar("_answers", default=None)

#: Whether all vectors are given, so that not even the probe is to be embedded.
_vectors_given: ContextVar[bool] = ContextVar("_vectors_given", default=False)


@contextlib.contextmanager
def nothing_to_embed() -> Iterator[None]:
    """Keep the collection from embedding its probe: whoever brings vectors pays for no embedding.

    The probe is then taken when the first text is embedded.
    """
    token = _vectors_given.set(True)
    try:
        yield
    finally:
        _vectors_given.reset(token)


async def in_thread(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run blocking work in a worker thread; what it wants embedded is asked for here, by the embedding's async method.

    The work then starts again, with the answers at hand: collections want vectors before they write anything, so nothing is
    done twice. (A thread that waited for the loop instead would hold a place in the pool, in which the embedding, too, may
    need one: enough calls at once would wait for each other for ever.)
    """
    answers: list[Floats] = []
    while True:
        token = _answers.set(iter(answers))
        try:
            return await asyncio.to_thread(function, *args, **kwargs)  # the thread runs in a copy of this context
        except _Wanted as wanted:
            # Twice, because collections ask twice, to see whether the embedding gives the same vector each time.
            answers += [await wanted.encoder.aencode_documents(wanted.texts) for _ in range(2)]
        finally:
            _answers.reset(token)


class CollectionEncoder:
    """The encoder that a collection is opened with: the embedding, asked through its async methods in async code.

    The collection itself embeds little, since the store hands it vectors: a probe sentence, by which it recognises the
    embedding when it is opened again.
    """

    def __init__(self, embedding: Embeddings) -> None:
        self._embedding = embedding
        self.name = as_encoder(embedding).name

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        """Return one vector for each text."""
        if _vectors_given.get():
            raise NotImplementedError  # which the collection takes as "cannot say now"
        answers = _answers.get()
        if answers is None:
            return vectors_to_matrix(self._embedding.embed_documents(list(texts)), len(texts))
        for answer in answers:
            return answer
        raise _Wanted(self, list(texts))

    async def aencode_documents(self, texts: Sequence[str], /) -> Floats:
        """Return one vector for each text, through the embedding's own async method."""
        return vectors_to_matrix(await self._embedding.aembed_documents(list(texts)), len(texts))

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """Return one vector for each query; only searches of the collection itself ask for it."""
        return vectors_to_matrix([self._embedding.embed_query(text) for text in texts], len(texts))
