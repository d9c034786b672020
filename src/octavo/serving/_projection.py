"""A map of a collection: a sample of its vectors on the two axes along which they differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo._arrays import Floats

#: Documents on the map.
MOST_POINTS = 2_000


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal components of vectors.

    Parameters
    ----------
    mean : ndarray of shape (dim,)
        What is taken off first.
    axes : ndarray of shape (2, dim)
        Orthonormal directions.
    explained : tuple of two floats
        Share of the variance that each axis shows.
    """

    mean: Floats
    axes: Floats
    explained: tuple[float, float]

    @classmethod
    def of(cls, vectors: Floats) -> Projection:
        """Return the projection on the first two principal components.

        Examples
        --------
        >>> found = Projection.of(np.array([[0, 0, 1], [4, 0, 1], [0, 1, 1], [4, 1, 1]], np.float32))
        >>> np.abs(found.axes).round(6).tolist(), [round(share, 3) for share in found.explained]
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.941, 0.059])
        """
        matrix = vectors.astype(np.float64)
        mean = matrix.mean(axis=0)
        matrix -= mean
        _, lengths, axes = np.linalg.svd(matrix, full_matrices=False)
        variance = lengths**2
        shares = variance / variance.sum() if variance.sum() > 0 else np.zeros_like(variance)
        both: Any = np.zeros((2, matrix.shape[1]))
        both[: min(2, len(axes))] = axes[:2]
        # The sign of a component means nothing; a fixed one keeps the map from turning over between two starts.
        both *= np.where(both[np.arange(2), np.abs(both).argmax(axis=1)] < 0, -1, 1)[:, None]
        explained = [float(share) for share in shares[:2]] + [0.0, 0.0]
        return cls(mean.astype(np.float32), both.astype(np.float32), (explained[0], explained[1]))

    def place(self, vectors: Floats) -> Floats:
        """Return where vectors lie, of shape (n, 2)."""
        found: Floats = np.asarray((vectors - self.mean) @ self.axes.T, np.float32)
        return found
