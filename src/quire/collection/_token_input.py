"""Token vectors and their encoder as a caller gives them, checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from quire.compression._ragged import TokenMatrices
from quire.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError
from quire.store import Batch, Store, TokenEncoder, as_encoder

#: Longest vector that decoding makes of a unit vector, with room to spare: the coarsest floats are off by 1 in 16.
_LONGEST_STORED = 1.25


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
        f"quire.open"
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
