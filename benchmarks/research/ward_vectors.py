"""A few vectors a document for the candidate stage, for comparison with the encoders of octavo, which give one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, unit_rows
from octavo._validation import check_integer
from octavo.compression import TokenMatrices, TokenPooling


class WardVectors:
    """Encode a document as a few vectors, the means of Ward clusters of its tokens.

    Finds the most per byte of all encoders, but it is a small MaxSim itself: candidates come from comparing each query
    token with each document's vectors.

    Parameters
    ----------
    n : int, default=8
        Vectors a document; one with fewer tokens repeats the last, which changes no maximum.

    Examples
    --------
    >>> documents = [np.float32([[1, 0], [0, 1], [0, 2]]), np.float32([[0, 1]])]
    >>> WardVectors(2).encode_documents(documents)
    array([[1., 0.],
           [0., 1.],
           [0., 1.],
           [0., 1.]], dtype=float32)
    """

    def __init__(self, n: int = 8) -> None:
        self.n = check_integer(n, "n", least=1, most=1024)
        self._pooling = TokenPooling(n_vectors=self.n, protected=0)

    def __repr__(self) -> str:
        return f"WardVectors({self.n})"

    def encode_documents(self, documents: TokenMatrices | Sequence[npt.ArrayLike]) -> Floats:
        """Return `n` vectors a document, those of a document next to each other."""
        tokens = TokenMatrices.of(documents)
        out = np.zeros((len(tokens), self.n, tokens.dim), np.float32)
        for row, pooled in zip(out, self._pooling.pool(tokens), strict=True):
            if len(pooled):
                row[: len(pooled)] = pooled
                row[len(pooled) :] = pooled[-1]
        return out.reshape(-1, tokens.dim)

    def encode_queries(self, queries: TokenMatrices | Sequence[npt.ArrayLike]) -> Floats:
        """Return one vector for each token of the queries."""
        return unit_rows(TokenMatrices.of(queries).flat, keep_zeros=True)
