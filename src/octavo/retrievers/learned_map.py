"""A map between the vectors of two models, learned from documents that have both, and used where it is seen to help.

While a collection's model is being changed, documents without a new vector are ranked by the old model alone. An orthogonal map
[1]_ from the old model's vectors to the new one's says what the new model might find in them. It is no substitute for the old
model (docs/decisions/reencode.md), but a little of it helps where the two models are related. Whether they are is measured on
the documents: do scores with a part of the mapped ones come closer to the new model's ranking than the old scores do?

References
----------
.. [1] Schönemann, P. H. (1966). A generalized solution of the orthogonal Procrustes problem. Psychometrika 31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from octavo._arrays import Floats, unit_rows

#: Documents that a map is learned from at most, and at least.
MOST, LEAST = 2_048, 256

#: The part of the mapped scores in those of documents that have the old vector alone.
MAPPED: Final = 0.3

#: Documents that stand for questions when it is measured, and how far down their rankings are compared.
_QUESTIONS, _DEPTH = 128, 10

#: Standard errors by which rankings must come closer to the new model's.
_SURE = 2.0


@dataclass(frozen=True)
class LearnedMap:
    """Turns queries of the new model into queries that old vectors are compared with.

    Parameters
    ----------
    matrix : ndarray of shape (old_dim, new_dim), float32
        With orthogonal rows or columns, whichever are fewer.
    """

    matrix: Floats

    @classmethod
    def fit(cls, old: Floats, new: Floats) -> LearnedMap:
        """Return the orthogonal map that takes old vectors nearest to new ones, about their means.

        Parameters
        ----------
        old, new : ndarray of shape (n, dim)
            Vectors of the same documents by either model.

        Examples
        --------
        >>> import numpy as np
        >>> old = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
        >>> turned = old[:, [2, 0, 1]]
        >>> np.allclose(LearnedMap.fit(old, turned).matrix, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-4)
        True
        """
        left, _, right = np.linalg.svd((old - old.mean(0)).T @ (new - new.mean(0)), full_matrices=False)
        return cls((left @ right).astype(np.float32))

    def queries(self, vectors: Floats) -> Floats:
        """Return what to compare with old vectors, for queries of the new model."""
        return unit_rows(vectors @ self.matrix.T, keep_zeros=True)


def helpful_map(old: Floats, new: Floats) -> LearnedMap | None:
    """Return a map that helps to rank documents as the new model would; None where none does for certain.

    It is learned from one half of the documents. Of the other half, some stand for questions: the ten best that the new model
    finds for them are looked for by the old scores, and by those with a part of the mapped ones.

    Parameters
    ----------
    old, new : ndarray of shape (n, dim)
        Vectors of unit length of the same documents by either model, in any order that says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> new = rng.standard_normal((600, 16)).astype(np.float32)
    >>> related = new[:, ::-1] + rng.standard_normal((600, 16)).astype(np.float32)
    >>> unrelated = rng.standard_normal((600, 16)).astype(np.float32)
    >>> helpful_map(related, new) is None, helpful_map(unrelated, new) is None
    (False, True)
    """
    if len(old) < LEAST:
        return None
    found = LearnedMap.fit(old[::2], new[::2])
    old_rest, new_rest = old[1::2], new[1::2]
    asked = slice(0, _QUESTIONS)
    wanted = _best(new_rest[asked] @ new_rest.T)
    plain = _scaled(old_rest[asked] @ old_rest.T)
    mapped = _scaled(found.queries(new_rest[asked]) @ old_rest.T)
    mixed = (1 - MAPPED) * plain + MAPPED * mapped
    gained = _shared(wanted, _best(mixed)) - _shared(wanted, _best(plain))
    error = gained.std() / np.sqrt(len(gained))
    return LearnedMap.fit(old, new) if gained.mean() > _SURE * error else None


def _scaled(scores: Floats) -> Floats:
    scaled: Floats = (scores - scores.mean(1, keepdims=True)) / np.maximum(scores.std(1, keepdims=True), 1e-12)
    return scaled


def _best(scores: Floats) -> Floats:
    """Return a row of ones and zeros for each question: which of the others are its best."""
    np.fill_diagonal(scores, -np.inf)  # the question itself
    chosen = np.zeros(scores.shape, np.float32)
    np.put_along_axis(chosen, np.argpartition(-scores, _DEPTH, axis=1)[:, :_DEPTH], 1, axis=1)
    return chosen


def _shared(wanted: Floats, found: Floats) -> Floats:
    shared: Floats = (wanted * found).sum(1) / _DEPTH
    return shared
