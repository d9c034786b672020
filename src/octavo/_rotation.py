"""A random rotation that costs little: what one-bit codes need so that no direction is special.

A rotation by a dense random orthogonal matrix takes ``dim * dim`` numbers and as many multiplications a vector: 37 MB and
milliseconds at 3,072 dimensions. This one flips random signs, shuffles, and multiplies with Hadamard matrices, three times
over. It is orthogonal for any dimension, takes 6 bytes a value where it is stored, and treats each row alike, whatever its
company.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.errors import CodecError

Floats = npt.NDArray[np.float32]

#: Rounds of shuffle, signs and Hadamard matrices. From two on the values of any direction are spread like normal ones
#: (measured); of a power of two, where one matrix covers all, that takes three.
ROUNDS = 3


class StructuredRotation:
    """Rotate vectors by a random orthogonal transform with structure.

    Each value becomes a sum, with signs, of as many others as the largest power of two that fits; a second Hadamard matrix
    covers those that the first does not reach, and the shuffle of the next round mixes the two.

    Parameters
    ----------
    dim : int
        Dimension of the vectors.
    seed : int
        The same seed gives the same rotation. What has to be the same for ever is kept as the arrays `order` and `signs`, from
        which `restore` builds it again: numpy's random numbers may change from version to version.

    References
    ----------
    Products of random signs, permutations and small or fast orthogonal transforms in place of random matrices: N. Ailon and
    B. Chazelle, "The Fast Johnson-Lindenstrauss Transform and Approximate Nearest Neighbors", SIAM J. Comput. 39(1), 2009.

    Examples
    --------
    >>> rotation = StructuredRotation(6, seed=0)
    >>> X = np.eye(6, dtype=np.float32)
    >>> bool(np.allclose(rotation.apply(X) @ rotation.apply(X).T, X, atol=1e-6))
    True
    """

    order: npt.NDArray[np.int32]
    """Shuffles, of shape (rounds, dim)."""

    signs: npt.NDArray[np.uint8]
    """1 where a value changes its sign, before either Hadamard matrix; of shape (rounds, 2, dim)."""

    def __init__(self, dim: int, seed: int) -> None:
        rng = np.random.default_rng([seed, dim])
        order = np.array([rng.permutation(dim) for _ in range(ROUNDS)], np.int32)
        self._set(order, rng.integers(0, 2, (ROUNDS, 2, dim), dtype=np.uint8))

    @classmethod
    def restore(cls, order: npt.NDArray[np.int32], signs: npt.NDArray[np.uint8]) -> StructuredRotation:
        """Build a rotation from its arrays.

        Raises
        ------
        CodecError
            If they hold no permutations.
        """
        if (np.sort(order, axis=1) != np.arange(order.shape[1])).any():
            raise CodecError("expected permutations in the learned state of a rotation")
        rotation = cls.__new__(cls)
        rotation._set(order, signs)
        return rotation

    def _set(self, order: npt.NDArray[np.int32], signs: npt.NDArray[np.uint8]) -> None:
        self.order, self.signs = order, signs
        self.dim = order.shape[1]
        self._block = 1 << (self.dim.bit_length() - 1)
        flips = np.where(signs > 0, np.float32(-1), np.float32(1))
        self._first, self._last = flips[:, 0], flips[:, 1]
        self._back = np.argsort(order, axis=1).astype(np.int32)
        # The Hadamard matrix of a * b applies one of a to the columns and one of b to the rows of a matrix of that shape.
        wide = 1 << (self._block.bit_length() // 2)
        self._left, self._right = _hadamard(self._block // wide), _hadamard(wide)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        parts = (self.order, self.signs, self._first, self._last, self._back, self._left, self._right)
        return sum(part.nbytes for part in parts)

    def apply(self, X: Floats) -> Floats:
        """Return the rows rotated: float32 of shape (n, dim)."""
        if len(X) == 1:
            return self._applied_to_one(X[0])[None]
        for order, first, last in zip(self.order, self._first, self._last, strict=True):
            X = X.take(order, axis=1)
            X *= first
            self._mix(X[:, : self._block])
            if self._block < self.dim:
                X *= last
                self._mix(X[:, self.dim - self._block :])
        return X

    def _applied_to_one(self, x: Floats) -> Floats:
        """Return a query rotated: the same products as for many rows, without what stacks of matrices cost."""
        left, right, block = self._left, self._right, self._block
        shape, rest = (len(left), len(right)), self.dim - block
        for order, first, last in zip(self.order, self._first, self._last, strict=True):
            x = x.take(order)
            x *= first
            part = x[:block].reshape(shape)
            np.dot(left, np.dot(part, right), out=part)
            if rest:
                x *= last
                part = x[rest:].reshape(shape)
                np.dot(left, np.dot(part, right), out=part)
        return x

    def undo(self, X: Floats) -> Floats:
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
