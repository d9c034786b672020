"""Learned sparse vectors as a caller gives them, checked, beside the documents they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from octavo._sparse_rows import SparseRows
from octavo.collection.token_input import is_sized
from octavo.errors import ParameterError
from octavo.store.documents import Batch

_WHAT = "sparse_vectors"


def sized(vectors: Any) -> int:
    """Return how many vectors there are."""
    return int(vectors.shape[0]) if hasattr(vectors, "shape") else len(vectors)


def with_sparse(batches: Iterator[Batch], vectors: Any, documents: Any) -> Iterator[Batch]:
    """Return the batches with their sparse vectors; what has a length is checked before the first comes.

    Parameters
    ----------
    batches : iterator of Batch
        The documents.
    vectors : sparse matrix, or iterable
        One for each of them.
    documents : object
        What the documents were made of, whose length counts if it has one.

    Raises
    ------
    InputTypeError, InvalidVectorsError
        As `SparseRows.of`.
    ParameterError
        When there are more or fewer than documents.
    """
    if hasattr(vectors, "shape") or is_sized(vectors):
        rows = SparseRows.of(vectors, _WHAT)
        if is_sized(documents) and len(documents) != len(rows):
            raise ParameterError(f"expected one sparse vector for each of {len(documents)} documents, got {len(rows)}")
        return _sliced(batches, rows)
    return _taken(batches, iter(vectors))


def _sliced(batches: Iterator[Batch], rows: SparseRows) -> Iterator[Batch]:
    first = 0
    for batch in batches:
        last = first + len(batch)
        if last > len(rows):
            raise ParameterError(
                f"expected as many sparse vectors as documents, but they ended after {len(rows)} while documents went on"
            )
        batch.sparse = rows.taken(np.arange(first, last))
        first = last
        yield batch
    _require_end(first == len(rows), first)


def _taken(batches: Iterator[Batch], vectors: Iterator[Any]) -> Iterator[Batch]:
    position = 0
    for batch in batches:
        given: Iterable[Any] = list(islice(vectors, len(batch)))
        batch.sparse = SparseRows.of(given, _WHAT)
        if len(batch.sparse) < len(batch):
            raise ParameterError(
                "expected as many sparse vectors as documents, but they ended after "
                f"{position + len(batch.sparse)} while documents went on"
            )
        position += len(batch)
        yield batch
    _require_end(next(vectors, _END) is _END, position)


_END = object()


def _require_end(ended: bool, position: int) -> None:
    if not ended:
        raise ParameterError(
            f"expected as many sparse vectors as documents, but documents ended after {position} while sparse_vectors went on"
        )
