"""Other ways to group a document's tokens, for comparison with Ward's clusters: neighbours in the text, and k-means."""

from __future__ import annotations

import numpy as np

from octavo._arrays import Floats
from octavo.compression import TokenPooling
from octavo.compression.token_pooling import Labels, mean_directions

#: Passes of k-means over a document; it has settled before, as a rule.
_KMEANS_PASSES = 10


class SequentialPooling(TokenPooling):
    """Groups are neighbours in the text, runs of nearly equal length."""

    def _labels(self, units: Floats, k: int) -> Labels:
        return np.arange(len(units)) * k // max(len(units), 1)


class KMeansPooling(TokenPooling):
    """Groups are those of spherical k-means, starting from tokens drawn at random with seed 0."""

    def _labels(self, units: Floats, k: int) -> Labels:
        return _kmeans(units, k, 0)


POOLINGS = {"": TokenPooling, "hierarchical": TokenPooling, "sequential": SequentialPooling, "kmeans": KMeansPooling}


def _kmeans(units: Floats, k: int, seed: int) -> Labels:
    """Spherical k-means: groups around k directions, starting from k of the tokens drawn at random."""
    # A generator of its own for each document, so that a document's vectors do not depend on those before it.
    centres = units[np.sort(np.random.default_rng(seed).permutation(len(units))[:k])]
    labels = np.full(len(units), -1)
    for _ in range(_KMEANS_PASSES):
        nearest = np.argmax(units @ centres.T, axis=1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        used, groups = np.unique(labels, return_inverse=True)
        centres = centres.copy()  # a centre that lost all its tokens stays where it was
        centres[used] = mean_directions(units, groups)
    _, first, groups = np.unique(labels, return_index=True, return_inverse=True)
    return first[groups]
