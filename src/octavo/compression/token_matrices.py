"""Token matrices of many documents in one array."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, real_array
from octavo.errors import InvalidVectorsError, ParameterError

Offsets: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenMatrices:
    """Token vectors of documents (or queries), one after the other.

    Parameters
    ----------
    flat : ndarray of shape (n_tokens, dim)
        All token vectors, float32, finite.
    offsets : ndarray of shape (n_documents + 1,), int64
        Tokens ``offsets[i]`` up to ``offsets[i + 1]`` belong to document ``i``; the first is 0, the last ``n_tokens``.

    Raises
    ------
    InvalidVectorsError
        If the vectors are not finite float32 of shape (n_tokens, dim).
    ParameterError
        If the offsets do not cut them into documents.

    Examples
    --------
    >>> tokens = TokenMatrices.of([np.ones((2, 3)), np.zeros((0, 3)), np.ones((1, 3))])
    >>> len(tokens), tokens.dim, tokens.offsets.tolist(), tokens[2].shape
    (3, 3, [0, 2, 2, 3], (1, 3))
    """

    flat: Floats
    offsets: Offsets

    def __post_init__(self) -> None:
        if self.flat.dtype != np.float32 or self.flat.ndim != 2 or not self.flat.shape[1]:
            raise InvalidVectorsError(
                f"expected token vectors as float32 of shape (n_tokens, dim), got {self.flat.dtype} {self.flat.shape}"
            )
        offsets = self.offsets
        if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets):
            raise ParameterError(f"expected offsets as int64 of shape (n + 1,), got {offsets.dtype} {offsets.shape}")
        if offsets[0] != 0 or offsets[-1] != len(self.flat) or (offsets[1:] < offsets[:-1]).any():
            raise ParameterError(
                f"expected offsets that rise from 0 to the {len(self.flat)} tokens there are, "
                f"got {int(offsets[0])} to {int(offsets[-1])}"
            )
        if not np.isfinite(self.flat).all():
            token = int(np.argmin(np.isfinite(self.flat).all(axis=1)))
            document = int(np.searchsorted(offsets, token, side="right")) - 1
            raise InvalidVectorsError(f"expected finite float32 values, got others in document {document}")

    @classmethod
    def of(cls, matrices: TokenMatrices | Sequence[npt.ArrayLike], *, dim: int | None = None) -> TokenMatrices:
        """Put a list of matrices, one a document, into one array.

        Parameters
        ----------
        matrices : TokenMatrices, or sequence of array_like of shape (n_tokens, dim)
            Token vectors of each document; of shape (0, dim), or an empty list, where there are none. What is in one
            array already is returned as it is.
        dim : int, optional
            What their dimension has to be; only needed if no matrix tells.

        Raises
        ------
        InputTypeError
            If a matrix does not hold real numbers.
        InvalidVectorsError
            If the matrices do not have one dimension, or hold NaN or infinity.
        """
        if isinstance(matrices, TokenMatrices):
            tokens = matrices
        else:
            arrays = [_matrix(matrix, i) for i, matrix in enumerate(matrices)]
            widths = {array.shape[1] for array in arrays if array.shape[1] or len(array)}
            if len(widths) > 1:
                raise InvalidVectorsError(f"expected token vectors of one dimension, got {sorted(widths)}")
            width = widths.pop() if widths else dim
            if not width:
                raise InvalidVectorsError(
                    "expected at least one matrix of shape (n_tokens, dim) that tells the dimension"
                )
            arrays = [array.reshape(len(array), width) for array in arrays]
            flat = np.concatenate([np.empty((0, width), np.float32), *arrays])
            offsets = np.zeros(len(arrays) + 1, np.int64)
            np.cumsum([len(array) for array in arrays], out=offsets[1:])
            tokens = cls(flat, offsets)
        if dim is not None and tokens.dim != dim:
            raise InvalidVectorsError(
                f"expected token vectors of dimension {dim}, got {tokens.dim}; were they made by another model?"
            )
        return tokens

    @property
    def dim(self) -> int:
        """Values in a token vector."""
        return int(self.flat.shape[1])

    @property
    def lengths(self) -> Offsets:
        """Tokens of each document."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Offsets:
        """Document that each token belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, document: int) -> Floats:
        """Return the tokens of one document, a view of shape (n_tokens, dim)."""
        if not -len(self) <= document < len(self):
            raise IndexError(f"expected a document between 0 and {len(self) - 1}, got {document}")
        document %= len(self)
        return self.flat[self.offsets[document] : self.offsets[document + 1]]

    def __iter__(self) -> Iterator[Floats]:
        for start, stop in itertools.pairwise(self.offsets.tolist()):
            yield self.flat[start:stop]


def _matrix(matrix: npt.ArrayLike, document: int) -> Floats:
    what = f"token vectors in document {document}"
    array = real_array(matrix, what)
    if array.ndim == 1 and not array.size:
        array = array.reshape(0, 0)
    if array.ndim != 2:
        raise InvalidVectorsError(f"expected {what} of shape (n_tokens, dim), got shape {array.shape}")
    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        return array.astype(np.float32, copy=False)
