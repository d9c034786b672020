"""Texts to vectors through LangChain's `Embeddings`, sync and async, without ever holding the interpreter for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from octavo._arrays import Floats, as_matrix
from octavo.collection import CollectionLike, MultiVectorLike
from octavo.collection.model_check import ModelCheck, prompts_of
from octavo.encoders.dense import as_encoder
from octavo.encoders.tokens import TokenEncoder, is_multi_vector
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, OctavoError, ParameterError

#: Vectors that are converted at a time.
_AT_ONCE = 64


def vectors_to_matrix(rows: Any, n: int | None = None) -> Floats:
    """Return vectors as a float32 matrix, some rows at a time.

    One ``np.asarray`` over thousands of lists would hold the interpreter lock for a hundred milliseconds, during which
    no event loop turns; between slices the lock can change hands.

    Parameters
    ----------
    rows : array-like, tensor, or sequence of them
        One vector a text.
    n : int, optional
        How many there have to be.

    Raises
    ------
    InvalidVectorsError, InputTypeError
        When there are not `n` rows, or the rows differ in length, are nested otherwise or are not finite numbers.
    """
    what = "vectors of the embedding"
    if not hasattr(rows, "__len__"):
        rows = list(rows)
    if n is not None and len(rows) != n:
        raise InvalidVectorsError(f"expected {n} vectors from the embedding, one for each text, got {len(rows)}")
    if not len(rows):
        return np.zeros((0, 0), np.float32)
    if not isinstance(rows, list | tuple) or len(rows) <= _AT_ONCE:
        return as_matrix(rows, None, what)
    try:
        parts = [as_matrix(rows[start : start + _AT_ONCE], None, what) for start in range(0, len(rows), _AT_ONCE)]
        return np.concatenate(parts)
    except (OctavoError, ValueError):
        return as_matrix(rows, None, what)  # which names the row that is wrong


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
    if is_embedding(embedding):
        return embedding  # type: ignore[no-any-return]  # speaks the protocol without inheriting it
    raise InputTypeError(
        f"expected embedding to be langchain_core Embeddings, got {type(embedding).__name__}; for other encoders open "
        "the collection with octavo.open(path, encoder=...) and pass collection=, for late interaction pass "
        "octavo.TokenEncoder(model)"
    )


def is_embedding(value: Any) -> bool:
    """Tell whether something can embed as LangChain's `Embeddings` do: by the two synchronous methods, at least."""
    return all(callable(getattr(value, name, None)) for name in ("embed_documents", "embed_query"))


class Embedder:
    """What a store embeds with: the caller's `Embeddings`, or else the encoder that its collection was opened with.

    Beside the first batch or query it embeds a stored document once more, to notice another model; see `ModelCheck`.

    Parameters
    ----------
    embedding : Embeddings or None
        The caller's.
    collection : CollectionLike
        Supplies the encoder where `embedding` is None.
    """

    def __init__(self, embedding: Embeddings | None, collection: CollectionLike) -> None:
        self.embedding = embedding
        self._collection = collection
        self._model_check, self._space = collection.model_check(), _space(collection)
        self._encoder = as_encoder(embedding) if embedding is not None else collection.encoder

    def documents(self, texts: Sequence[str]) -> Floats | None:
        """Return one vector for each text; None where the collection has to encode them: see `encodes_itself`."""
        if self._collection.encodes_itself:
            return None
        vectors = self._documents(list(texts))
        with _advice():
            self._check.run(self._name, vectors.shape[1], self._documents)
        return vectors

    async def adocuments(self, texts: Sequence[str]) -> Floats | None:
        """Return one vector for each text, through the embedding's own async method; see `documents`."""
        if self._collection.encodes_itself:
            return None
        vectors = await self._adocuments(list(texts))
        await self._acheck(vectors.shape[1])
        return vectors

    def confirm(self) -> None:
        """Find out whether the embedding is the one that made the stored vectors, where nothing has to be embedded."""
        with _advice():
            self._check.run(self._name, self._collection.dim, self._documents)

    async def aconfirm(self) -> None:
        """Find that out through the embedding's own async method; see `confirm`."""
        await self._acheck(self._collection.dim)

    def query(self, text: str) -> Floats | None:
        """Return the vector of a query; None where the collection has to encode it: see `encodes_itself`."""
        _check_query(text)
        if self._collection.encodes_itself:
            return None
        if self.embedding is None:
            self._require_encoder()
            vector: Floats = _one_vector(self._collection.encode_queries([text])[0])
        else:
            vector = _one_vector(self.embedding.embed_query(text))
        if not self._check.settled:
            with _advice():
                self._check.run(self._name, len(vector), self._documents)
        return vector

    async def aquery(self, text: str) -> Floats | None:
        """Return the vector of a query, through the embedding's own async method; see `query`."""
        _check_query(text)
        if self._collection.encodes_itself:
            return None
        embed = getattr(self.embedding, "aembed_query", None)
        if embed is None:
            return await asyncio.to_thread(self.query, text)
        vector: Floats = _one_vector(await embed(text))
        await self._acheck(len(vector))
        return vector

    def remember(self, ids: Sequence[str], texts: Sequence[str], vectors: Sequence[Floats]) -> None:
        """Let the collection know whose vectors it has stored."""
        self._check.remember(self._name, prompts_of(self._encoder), len(vectors[0]), ids, texts)

    @property
    def _check(self) -> ModelCheck:
        """What compares the embedding with the stored vectors: anew, if those are another model's since."""
        if (space := _space(self._collection)) != self._space:
            self._model_check, self._space = self._collection.model_check(), space
        return self._model_check

    @property
    def _name(self) -> str:
        return str(self._encoder.name)

    def _documents(self, texts: list[str]) -> Floats:
        if self.embedding is None:
            self._require_encoder()
            return np.asarray(self._collection.encode_documents(texts), np.float32)
        return vectors_to_matrix(self.embedding.embed_documents(texts), len(texts))

    async def _adocuments(self, texts: list[str]) -> Floats:
        embed = getattr(self.embedding, "aembed_documents", None)
        if embed is None:
            return await asyncio.to_thread(self._documents, texts)
        return await asyncio.to_thread(vectors_to_matrix, await embed(texts), len(texts))

    async def _acheck(self, dim: int | None) -> None:
        check = self._check
        if check.settled:
            return
        with _advice():
            probe = await asyncio.to_thread(check.probe, self._name, dim)
            while probe is not None:
                try:
                    vectors = await self._adocuments(probe.texts)
                except Exception as err:
                    check.failed(err)
                    return
                probe = await asyncio.to_thread(probe.compare, vectors)

    def _require_encoder(self) -> None:
        if self._encoder is None:
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
    collection : MultiVectorLike
        What the vectors are for.
    """

    def __init__(self, encoder: TokenEncoder | None, collection: MultiVectorLike) -> None:
        self.encoder = encoder
        self._collection = collection
        self._check: ModelCheck = collection.model_check()

    def documents(self, texts: Sequence[str]) -> list[Floats] | None:
        """Return the token vectors of each text; None where the collection has to encode them: see `encodes_itself`."""
        if self._collection.encodes_itself:
            return None
        encoder = self._require_encoder()
        matrices = encoder.encode_documents(texts)
        with _advice():
            self._check.run(encoder.name, _width(matrices), encoder.encode_documents)
        return matrices

    def confirm(self) -> None:
        """Find out whether the encoder is the one that made the stored vectors, where nothing has to be encoded."""
        encoder = self._require_encoder()
        with _advice():
            self._check.run(encoder.name, self._collection.dim, encoder.encode_documents)

    async def aconfirm(self) -> None:
        """Find that out from a worker thread; see `confirm`."""
        await asyncio.to_thread(self.confirm)

    async def adocuments(self, texts: Sequence[str]) -> list[Floats] | None:
        """Return the token vectors of each text, from a worker thread."""
        return await asyncio.to_thread(self.documents, texts)

    def query(self, text: str) -> Floats | None:
        """Return the token vectors of a query; None where the collection has to encode it."""
        _check_query(text)
        if self._collection.encodes_itself:
            return None
        encoder = self._require_encoder()
        matrices = encoder.encode_queries([text])
        with _advice():
            self._check.run(encoder.name, _width(matrices), encoder.encode_documents)
        return matrices[0]

    def count(self, text: str) -> int:
        """Return how many token vectors a query has by the model that the collection has."""
        return len(self._collection.encode_queries([text])[0])

    async def aquery(self, text: str) -> Floats | None:
        """Return the token vectors of a query, from a worker thread."""
        return await asyncio.to_thread(self.query, text)

    def remember(self, ids: Sequence[str], texts: Sequence[str], vectors: Sequence[Floats]) -> None:
        """Let the collection know whose vectors it has stored."""
        dim = _width(vectors)
        if dim is not None:
            encoder = self._require_encoder()
            self._check.remember(encoder.name, encoder.prompts, dim, ids, texts)

    def _require_encoder(self) -> TokenEncoder:
        if self.encoder is None:
            raise ParameterError(
                "expected an encoder, but the store has none; open it with the encoder that it was built with, or search "
                "with mode='text'"
            )
        return self.encoder


def _space(collection: CollectionLike) -> int:
    return collection.space


@contextlib.contextmanager
def _advice() -> Iterator[None]:
    """Say what to do about another model than the one that the collection was built with."""
    try:
        yield
    except MismatchError as error:
        raise MismatchError(
            f"{error}. To change the collection to the embedding that this store was opened with: store.reencode()"
        ) from error


def _width(matrices: Sequence[Floats]) -> int | None:
    return next((int(matrix.shape[1]) for matrix in matrices if matrix.size), None)


def _one_vector(vector: Any) -> Floats:
    if not hasattr(vector, "ndim"):
        vector = list(vector)
        nested = any(isinstance(value, list | tuple) or getattr(value, "ndim", 0) for value in vector[:1])
    else:
        nested = vector.ndim != 1
    if nested:
        raise InvalidVectorsError(
            "expected embed_query to return one vector, a list of numbers, got a list of lists or an array with more axes"
        )
    row: Floats = vectors_to_matrix([vector], 1)[0]
    return row


def _check_query(text: Any) -> None:
    if not isinstance(text, str):
        raise InputTypeError(
            f"expected the query as a str, got {type(text).__name__}; for a vector use similarity_search_by_vector"
        )
