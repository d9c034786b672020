"""Learned sparse vectors of many documents in one array: terms and their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import Codes, Floats, real_array
from octavo.errors import InputTypeError, InvalidVectorsError

Terms: TypeAlias = npt.NDArray[np.uint32]
Offsets: TypeAlias = npt.NDArray[np.int64]

#: Terms are below this.
MOST_TERMS = 1 << 32

#: Largest code of a weight.
FULL = 255

_FORMS = (
    "a mapping from term to weight, a pair (indices, values), an object with .indices and .values, or a sparse row of scipy "
    "or torch"
)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Sparse vectors, one after the other: weights above 0, terms in rising order. Made by `of`.

    Parameters
    ----------
    offsets : ndarray of shape (n + 1,), int64
        Terms ``offsets[i]`` up to ``offsets[i + 1]`` belong to vector ``i``.
    terms : ndarray of shape (n_terms,), uint32
        Numbers of the terms.
    weights : ndarray of shape (n_terms,), float32
        Their weights.

    Examples
    --------
    >>> rows = SparseRows.of([{7: 0.5, 3: 1.0}, {}, ([9], [2.0])])
    >>> len(rows), rows.terms.tolist(), rows.lengths.tolist()
    (3, [3, 7, 9], [2, 0, 1])
    """

    offsets: Offsets
    terms: Terms
    weights: Floats

    @classmethod
    def of(cls, given: Any, what: str = "sparse vectors", *, n: int | None = None) -> SparseRows:
        """Read sparse vectors in any of the forms that models give.

        Parameters
        ----------
        given : SparseRows, sparse matrix of scipy or torch, or sequence
            One row a vector; or a sequence of mappings ``{term: weight}``, pairs ``(indices, values)``, objects with
            ``.indices`` and ``.values``, or sparse rows of scipy or torch; None stands for a vector without terms.
        what : str
            What they are, for messages.
        n : int, optional
            How many there have to be.

        Raises
        ------
        InputTypeError
            When they have none of these forms.
        InvalidVectorsError
            When a term is no whole number from 0 on or comes twice, a weight is below 0, NaN or infinite, or there are not `n`.
        """
        if isinstance(given, SparseRows):
            rows = given
        elif _is_sparse(given) and given.ndim == 2:
            rows = _of_matrix(given, what)
        elif isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__"):
            raise InputTypeError(f"expected {what} as a sequence, each {_FORMS}; got {type(given).__name__}")
        elif hasattr(given, "dtype") and getattr(given.dtype, "kind", "f") != "O":
            raise InputTypeError(
                f"expected {what} as sparse rows, got a dense array: give scipy.sparse.csr_array(rows)"
            )
        else:
            rows = cls.joined([_of_one(each, f"{what}[{number}]") for number, each in enumerate(given)])
        if n is not None and len(rows) != n:
            raise InvalidVectorsError(f"expected {n} {what}, got {len(rows)}")
        return rows

    @classmethod
    def joined(cls, parts: Sequence[SparseRows]) -> SparseRows:
        """Put vectors behind each other."""
        if not parts:
            return cls.empty(0)
        lengths = np.concatenate([part.lengths for part in parts])
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        terms, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("terms", "weights"))
        return cls(offsets, terms, weights)

    @classmethod
    def empty(cls, n: int) -> SparseRows:
        """Return vectors without terms."""
        return cls(np.zeros(n + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> tuple[Terms, Floats]:
        part = slice(self.offsets[number], self.offsets[number + 1])
        return self.terms[part], self.weights[part]

    def __iter__(self) -> Iterator[tuple[Terms, Floats]]:
        return (self[number] for number in range(len(self)))

    @property
    def lengths(self) -> Offsets:
        """Terms of each vector."""
        return np.diff(self.offsets)

    def taken(self, numbers: npt.NDArray[np.int64]) -> SparseRows:
        """Return some of the vectors, in the order of their numbers."""
        lengths = self.lengths[numbers]
        offsets = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        where = ranges(self.offsets[numbers], lengths)
        return SparseRows(offsets, self.terms[where], self.weights[where])

    def coded(self) -> tuple[Codes, Floats]:
        """Return the weights as bytes, and the scale of each vector: its largest weight, 0 where there are no terms."""
        scales = np.zeros(len(self), np.float32)
        lengths = self.lengths
        filled = np.flatnonzero(lengths)
        if len(filled):
            scales[filled] = np.maximum.reduceat(self.weights, self.offsets[filled])
        parts = self.weights.astype(np.float64) / np.repeat(scales, lengths)
        return np.maximum(np.rint(parts * FULL), 1).astype(np.uint8), scales

    @classmethod
    def decoded(cls, offsets: Offsets, terms: Terms, codes: Codes, scales: Floats) -> SparseRows:
        """Return the vectors that codes stand for."""
        weights = (
            codes.astype(np.float64) * np.repeat(scales, np.diff(offsets)) / FULL
        )  # so that 255 is the scale itself
        return cls(offsets, terms, weights.astype(np.float32))


def ranges(starts: Offsets, lengths: Offsets) -> Offsets:
    """Return the integers of ``[start, start + length)`` for each start, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _is_sparse(given: Any) -> bool:
    return hasattr(given, "tocsr") or _is_sparse_tensor(given)


def _is_sparse_tensor(given: Any) -> bool:
    return hasattr(given, "layout") and hasattr(given, "coalesce") and "sparse" in str(given.layout)


def _of_matrix(given: Any, what: str) -> SparseRows:
    if _is_sparse_tensor(given):
        found = given.detach().cpu()
        found = found if "coo" in str(found.layout) else found.to_sparse_coo()
        found = found.coalesce()
        rows, columns = (axis.numpy() for axis in found.indices())
        values = found.values().float().numpy()
    else:
        matrix = given.tocsr()
        if not matrix.has_canonical_format:
            matrix = matrix.copy() if matrix is given else matrix
            matrix.sum_duplicates()  # sorts them, too
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        columns, values = matrix.indices, matrix.data
    weights = _weights(values, what)
    if matrix_width(given) > MOST_TERMS:
        raise InvalidVectorsError(f"expected terms below 2^32 in {what}, got {matrix_width(given):,} columns")
    kept = weights > 0
    offsets = np.zeros(given.shape[0] + 1, np.int64)
    np.cumsum(np.bincount(rows[kept], minlength=given.shape[0]), out=offsets[1:])
    return SparseRows(offsets, columns[kept].astype(np.uint32), weights[kept])


def matrix_width(given: Any) -> int:
    """Return the number of columns."""
    return int(given.shape[1])


def _of_one(given: Any, what: str) -> SparseRows:
    if given is None:
        return SparseRows.empty(1)
    if _is_sparse(given):
        if given.ndim == 1:
            given = given.unsqueeze(0) if hasattr(given, "unsqueeze") else given.reshape(1, -1)
        if given.shape[0] != 1:
            raise InvalidVectorsError(f"expected {what} as one sparse row, got {given.shape[0]} rows")
        return _of_matrix(given, what)
    if isinstance(given, Mapping):
        try:
            terms = np.array([_term(key) for key in given], np.int64)
        except (TypeError, ValueError, OverflowError) as err:
            raise InvalidVectorsError(f"expected the terms of {what} as whole numbers from 0 on: {err}") from None
        values: Any = list(given.values())
    else:
        if not isinstance(given, tuple | list) and hasattr(given, "indices") and hasattr(given, "values"):
            given = (given.indices, given.values)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise InputTypeError(f"expected {what} as {_FORMS}; got {type(given).__name__}")
        named = given[0].detach().cpu().numpy() if hasattr(given[0], "detach") else given[0]
        indices = real_array(named, f"the terms of {what}")
        values = given[1]
        if indices.ndim != 1 or (indices.dtype.kind not in "iu" and indices.size):
            raise InvalidVectorsError(
                f"expected the terms of {what} as a list of whole numbers, got {indices.dtype} of shape {indices.shape}"
            )
        terms = indices.astype(np.int64)
    weights = _weights(values, what)
    if weights.shape != terms.shape:
        raise InvalidVectorsError(f"expected one weight for each of {len(terms)} terms of {what}, got {weights.shape}")
    if len(terms) and not 0 <= int(terms.min()) <= int(terms.max()) < MOST_TERMS:
        raise InvalidVectorsError(
            f"expected the terms of {what} from 0 to 2^32 - 1, got {terms.min()} to {terms.max()}"
        )
    order = np.argsort(terms, kind="stable")
    terms, weights = terms[order], weights[order]
    twice = np.flatnonzero(terms[1:] == terms[:-1])
    if len(twice):
        raise InvalidVectorsError(f"expected each term of {what} once, got {terms[twice[0]]} twice")
    kept = weights > 0
    return SparseRows(np.array([0, kept.sum()], np.int64), terms[kept].astype(np.uint32), weights[kept])


def _term(key: Any) -> int:
    if isinstance(key, bool) or (isinstance(key, float) and not key.is_integer()):
        raise ValueError(f"got {key!r}")
    return int(key)


def _weights(values: Any, what: str) -> Floats:
    array = real_array(values, f"the weights of {what}")
    with np.errstate(over="ignore"):
        weights = array.astype(np.float32).reshape(-1) if array.ndim <= 1 else array.astype(np.float32)
    if not np.isfinite(weights).all():
        raise InvalidVectorsError(f"expected finite float32 weights in {what}, got NaN or infinity")
    if (weights < 0).any():
        raise InvalidVectorsError(
            f"expected weights of 0 or more in {what}, got {weights.min():.3g}; learned sparse vectors have no negative ones"
        )
    return weights
