"""A random rotation that is stored in a few bytes a dimension and applied in less than the square of their number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.errors import CodecError


class StructuredRotation:
    """Rounds of signs, a permutation, and Hadamard matrices over the first and the last values.

    Each value becomes a sum, with signs, of as many others as the largest power of two that fits; a second Hadamard matrix
    covers those that the first does not reach, and the permutation of the next round mixes the two. The product is
    orthogonal, so that dot products stay the same.

    Rows are treated alike whatever their company: each is a product of small matrices of its own.

    Parameters
    ----------
    order : ndarray of shape (rounds, dim), int32
        Permutations.
    signs : ndarray of shape (rounds, 2, dim), uint8
        1 where a value changes its sign, before either Hadamard matrix.

    References
    ----------
    Ailon, N. and Chazelle, B. (2009). The fast Johnson-Lindenstrauss transform and approximate nearest neighbors. SIAM
    Journal on Computing 39(1).

    Examples
    --------
    >>> rotation = StructuredRotation.draw(48, np.random.default_rng(0))
    >>> X = np.eye(48, dtype=np.float32)
    >>> Y = rotation(X)
    >>> bool(np.allclose(Y @ Y.T, X, atol=1e-6)), bool(np.allclose(rotation.inverse(Y), X, atol=1e-6))
    (True, True)
    """

    #: Of a power of two one Hadamard matrix covers all, so that it takes a round more to look random.
    ROUNDS = 3

    def __init__(self, order: npt.NDArray[np.int32], signs: npt.NDArray[np.uint8]) -> None:
        self.order, self.signs = order, signs
        self.dim = order.shape[1]
        self._block = 1 << (self.dim.bit_length() - 1)
        flips = np.where(signs > 0, np.float32(-1), np.float32(1))
        self._first, self._last = flips[:, 0], flips[:, 1]
        self._back = np.argsort(order, axis=1)
        # The Hadamard matrix of a * b applies one of a to the columns and one of b to the rows of a matrix of that shape.
        wide = 1 << (self._block.bit_length() // 2)
        self._left, self._right = _hadamard(self._block // wide), _hadamard(wide)

    @classmethod
    def draw(cls, dim: int, rng: np.random.Generator) -> StructuredRotation:
        """Draw a rotation of vectors of `dim` values."""
        order = np.array([rng.permutation(dim) for _ in range(cls.ROUNDS)], np.int32)
        return cls(order, rng.integers(0, 2, (cls.ROUNDS, 2, dim), dtype=np.uint8))

    @classmethod
    def restore(cls, order: npt.NDArray[np.int32], signs: npt.NDArray[np.uint8]) -> StructuredRotation:
        """Build a rotation from stored arrays.

        Raises
        ------
        CodecError
            If they hold no permutations.
        """
        if (np.sort(order, axis=1) != np.arange(order.shape[1])).any():
            raise CodecError("expected permutations in the learned state of a rotation")
        return cls(order, signs)

    def __call__(self, X: Floats) -> Floats:
        """Return the rows rotated."""
        for order, first, last in zip(self.order, self._first, self._last, strict=True):
            X = X.take(order, axis=1)
            X *= first
            self._mix(X[:, : self._block])
            if self._block < self.dim:
                X *= last
                self._mix(X[:, self.dim - self._block :])
        return X

    def inverse(self, X: Floats) -> Floats:
        """Return the rows rotated back."""
        for back, first, last in zip(self._back[::-1], self._first[::-1], self._last[::-1], strict=True):
            X = X.copy()
            if self._block < self.dim:
                self._mix(X[:, self.dim - self._block :])
                X *= last
            self._mix(X[:, : self._block])
            X *= first
            X = X.take(back, axis=1)
        return X

    def _mix(self, part: Floats) -> None:
        """Multiply in place with the Hadamard matrix, which is symmetric and its own inverse."""
        shape = len(part), len(self._left), len(self._right)
        # One small product a row, always of the same shape: in a common product a row's company could change its last bit.
        part[:] = (self._left @ (part.reshape(shape) @ self._right)).reshape(part.shape)


def _hadamard(size: int) -> Floats:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: Floats = (matrix / np.sqrt(size)).astype(np.float32)
    return scaled
