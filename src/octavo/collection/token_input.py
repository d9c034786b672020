"""Token vectors and their encoder as a caller gives them, checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from octavo._validation import check_flag
from octavo.compression.spatial_pooling import needs_grids
from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.dense import as_encoder
from octavo.encoders.tokens import TokenEncoder, encode_pooled, pooled, unit_tokens
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError
from octavo.store.documents import Batch, DocumentLike, read_batches
from octavo.store.store import Store

#: Longest vector that decoding makes of a unit vector, with room to spare: the coarsest floats are off by 1 in 16.
_LONGEST_STORED = 1.25

#: Documents whose token vectors are checked at a time: a copy of them all might not fit in memory.
_CHECKED_AT_ONCE = 256


def read_token_batches(
    documents: Iterable[DocumentLike] | None,
    ids: Iterable[str | None] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
    vectors: Any,
    payloads: Iterable[str | None] | None,
    *,
    token_vectors: Iterable[Any] | None,
    pooled: bool,
    batch_size: int,
    dim: int | None,
    encoder: TokenEncoder | None,
    embed_texts: Iterable[str | None] | None = None,
    embed_words: bool = False,
) -> Iterator[Batch]:
    """Return batches with the token matrices as they were given; what has a length is checked before the first comes.

    Parameters
    ----------
    documents, ids, metadata, vectors, payloads, token_vectors, pooled, batch_size, embed_texts, embed_words
        See `MultiVectorCollection.add`.
    dim : int or None
        What the dimension has to be.
    encoder : TokenEncoder or None
        What will make the token vectors where none are given.

    Raises
    ------
    InvalidVectorsError, ParameterError, InputTypeError
        As `MultiVectorCollection.add`.
    """
    if vectors is not None:
        raise ParameterError("expected token_vectors= (one matrix a document), got vectors=")
    pooled = check_flag(pooled, "pooled")
    if pooled and token_vectors is None:
        raise ParameterError("pooled=True says how token_vectors= are; give them, or leave it out")
    if token_vectors is None and encoder is None:
        raise ParameterError(
            "expected token_vectors=, because the collection was opened without an encoder; give either of them"
        )
    matrices = _checked_matrices(token_vectors, pooled, dim) if token_vectors is not None else None
    if documents is None:
        if not is_sized(token_vectors):
            raise InputTypeError("expected documents, or token_vectors with a length, got neither")
        documents = [""] * len(token_vectors)  # type: ignore[arg-type]
    sized = {"documents": documents, "token_vectors": token_vectors}
    lengths = {name: len(value) for name, value in sized.items() if is_sized(value)}  # type: ignore[arg-type]
    if len(set(lengths.values())) > 1:
        raise ParameterError(
            "expected as many token matrices as documents, got "
            + ", ".join(f"{count} {name}" for name, count in lengths.items())
        )
    batches = read_batches(
        documents,
        ids,
        metadata,
        None,
        payloads,
        batch_size=batch_size,
        dim=None,
        embed_texts=embed_texts,
        embed_words=embed_words,
    )
    return with_tokens(batches, matrices) if matrices is not None else batches


def _checked_matrices(token_vectors: Iterable[Any], pooled: bool, dim: int | None) -> Iterator[Any]:
    """Return an iterator over the matrices; those with a length are all checked before anything is written."""
    if is_sized(token_vectors):
        token_vectors = token_vectors if isinstance(token_vectors, TokenMatrices) else list(token_vectors)
        for start in range(0, len(token_vectors), _CHECKED_AT_ONCE):
            part = [token_vectors[i] for i in range(start, min(start + _CHECKED_AT_ONCE, len(token_vectors)))]
            if dim is not None or any(not hasattr(matrix, "__len__") or len(matrix) for matrix in part):
                dim = (pooled_tokens(part, dim) if pooled else unit_tokens(part, dim, "document")).dim
    return iter(token_vectors)


def make_ready(batch: Batch, dim: int | None, pooling: Mapping[str, Any] | None, encoder: TokenEncoder | None) -> Batch:
    """Give a batch its pooled token vectors.

    Parameters
    ----------
    batch : Batch
        With matrices, or texts for the encoder.
    dim : int or None
        Dimension of the token vectors; None before the first ones.
    pooling : mapping or None
        Configuration of a `TokenPooling`; None where the matrices are pooled already.
    encoder : TokenEncoder or None
        Makes token vectors of texts.
    """
    if batch.ready:
        return batch
    if batch.matrices is not None:
        if dim is None and not any(np.ndim(matrix) == 2 for matrix in batch.matrices):
            raise InvalidVectorsError(
                "expected at least one token vector in the first batch, to tell the dimension; or give dim= on opening"
            )
        if pooling is None:
            batch.tokens = pooled_tokens(batch.matrices, dim)
        else:
            images = encoder is not None and encoder.takes_images and needs_grids(pooling)
            grids = [encoder.patch_grid(text) for text in batch.to_embed] if encoder is not None and images else None
            batch.tokens = pooled(batch.matrices, dict(pooling), dim, grids)
        batch.matrices = None
    else:
        assert encoder is not None  # add has asked for one of the two
        batch.tokens = encode_pooled(encoder, batch.to_embed, dict(pooling or {}), dim)
    batch.ready = True
    return batch


def is_sized(value: Any) -> bool:
    """Tell whether an input has a length."""
    return value is not None and (hasattr(value, "__len__") or hasattr(value, "__array__"))


def pooled_tokens(matrices: Sequence[Any], dim: int | None) -> TokenMatrices:
    """Return token vectors that are pooled already, checked but neither scaled nor pooled.

    Decoded codes are nearly of unit length, or shorter behind a reducer; scaling them again would make other codes of them.
    """
    tokens = TokenMatrices.of(matrices, dim=dim)
    lengths = np.linalg.norm(tokens.flat, axis=1)
    if len(lengths) and lengths.max() > _LONGEST_STORED:
        raise InvalidVectorsError(
            f"expected pooled token vectors of unit length, as get_token_vectors returns them, got one of length "
            f"{lengths.max():.3g}; scale them to unit length, or leave out pooled=True"
        )
    return tokens


def token_encoder_for(store: Store, encoder: Any) -> TokenEncoder | None:
    """Return an encoder as a `TokenEncoder`, for a collection that is there or has just been made.

    Raises
    ------
    MismatchError
        When it gives one vector a text; the message names both encoders.
    """
    try:
        return encoder if encoder is None or isinstance(encoder, TokenEncoder) else TokenEncoder(encoder)
    except InputTypeError as err:
        try:
            name = as_encoder(encoder).name
        except InputTypeError:
            raise err from None  # no encoder of any kind
        with store.read() as (connection, _):
            row = connection.execute("SELECT value FROM manifest WHERE key = 'encoder'").fetchone()
        raise not_late(json.loads(row[0]) if row else None, name) from err


def not_late(stored: Mapping[str, Any] | None, name: str) -> MismatchError:
    """Return the error for an encoder of one vector a text; `stored` is the fingerprint of the collection's own."""
    built = f" and was built with encoder {stored['name']!r}" if stored is not None else ""
    return MismatchError(
        f"the collection keeps many vectors a document{built}, got {name!r}, which does not give a matrix of token vectors "
        f"for each text; open it with the encoder it was built with, or build a collection of one vector a document with "
        f"octavo.open"
    )


def with_tokens(batches: Iterator[Batch], matrices: Iterator[Any]) -> Iterator[Batch]:
    """Put the next matrices into each batch."""
    position = 0
    for batch in batches:
        batch.matrices = list(islice(matrices, len(batch)))
        if len(batch.matrices) < len(batch):
            raise ParameterError(
                f"expected as many token matrices as documents, but token_vectors ended after "
                f"{position + len(batch.matrices)} while documents went on"
            )
        position += len(batch)
        yield batch
    if next(matrices, None) is not None:
        raise ParameterError(
            f"expected as many token matrices as documents, but documents ended after {position} while token_vectors went on"
        )
