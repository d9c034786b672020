"""Merging several rankings of the same collection into one.

A ranking is a pair of arrays ``(slots, scores)``, best first. Nothing here knows where a ranking comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from octavo._validation import check_number
from octavo.errors import ParameterError

Keys: TypeAlias = npt.NDArray[Any]
Scores: TypeAlias = npt.NDArray[np.float64]
Ranking: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike]


def reciprocal_rank_fusion(
    rankings: Sequence[Ranking], k: float = 60.0, *, weights: Sequence[float] | None = None
) -> tuple[Keys, Scores]:
    """Merge rankings by the places that they give, ignoring their scores.

    A document's score is the sum of ``weight / (k + rank)`` over the rankings that hold it, with ranks from 1 [1]_.

    Parameters
    ----------
    rankings : sequence of (slots, scores)
        Each best first, of shapes ``(n_i,)``.
    k : float, default=60
        The larger, the less the first places stand out.
    weights : sequence of float or None, default=None
        One factor a ranking, 0 or above; None weighs all alike.

    Returns
    -------
    slots : ndarray of shape (n_results,)
        Every document of every ranking with a positive weight, best first; equal scores by smaller slot.
    scores : float64 ndarray of shape (n_results,)
        Above 0 and at most ``sum(weights) / (k + 1)``.

    Raises
    ------
    ParameterError
        `k` is below 0, the weights do not fit, or a ranking is malformed.

    References
    ----------
    .. [1] G. V. Cormack, C. L. A. Clarke and S. Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
       Rank Learning Methods", SIGIR 2009.

    Examples
    --------
    >>> slots, scores = reciprocal_rank_fusion([([7, 3, 5], [0.9, 0.8, 0.1]), ([3, 4], [12.0, 6.0])])
    >>> slots.tolist()
    [3, 7, 4, 5]
    """
    k = check_number(k, "k", least=0)
    factors = [1.0] * len(rankings) if weights is None else [check_number(each, "weights", least=0) for each in weights]
    if len(factors) != len(rankings):
        raise ParameterError(f"expected one weight for each of {len(rankings)} rankings, got {len(factors)}")
    parts = [
        (keys, factor / (k + np.arange(1.0, len(keys) + 1)))
        for (keys, _), factor in zip(map(_checked, rankings), factors, strict=True)
        if factor > 0
    ]
    if not parts:
        return np.empty(0, np.int64), np.empty(0)
    return _summed(np.concatenate([keys for keys, _ in parts]), np.concatenate([values for _, values in parts]))


def convex_combination(
    dense: Ranking,
    text: Ranking,
    alpha: float,
    *,
    dense_minimum: float | None = None,
    text_minimum: float | None = 0.0,
) -> tuple[Keys, Scores]:
    """Merge a ranking by vectors and a ranking by words by their normalised scores.

    A document's score is ``alpha * dense + (1 - alpha) * text``, each brought to [0, 1] by
    ``(score - minimum) / (best - minimum)`` [1]_. `alpha` reads as in Weaviate and LlamaIndex: 0 is words only, 1 is
    vectors only. At either end that ranking comes back exactly as it was given, with its own documents and scores.

    Parameters
    ----------
    dense, text : (slots, scores)
        Each best first, of shapes ``(n_i,)``.
    alpha : float
        Weight of the vectors, from 0 to 1.
    dense_minimum : float or None, default=None
        The score that becomes 0. None takes the lowest of the ranking ("min-max"). A lower bound that holds for any
        document ("theoretical min-max": -1 for cosine) keeps a ranking of equally good documents from being torn
        apart, but punishes a document missing from `dense` severely: give rankings that cover each other's documents.
    text_minimum : float or None, default=0
        The same for words; 0 is what BM25 gives to a document without any of them.

    Returns
    -------
    slots : ndarray of shape (n_results,)
        Every document of either ranking, best first; equal scores by smaller slot. A document that one ranking lacks
        gets that ranking's minimum, so 0 after normalisation; so do scores below the minimum.
    scores : float64 ndarray of shape (n_results,)
        In [0, 1] for 0 < alpha < 1. If all scores of a ranking are equal (and no minimum below them is known), each
        of its documents counts as best.

    Raises
    ------
    ParameterError
        `alpha` is not in [0, 1], or a ranking is malformed.

    References
    ----------
    .. [1] S. Bruch, S. Gai and A. Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM Transactions on
       Information Systems 42(1), 2023.

    Examples
    --------
    >>> slots, scores = convex_combination(([7, 3, 5], [0.9, 0.8, 0.4]), ([3, 4], [12.0, 6.0]), 0.5)
    >>> slots.tolist(), scores.round(2).tolist()
    ([3, 7, 4, 5], [0.9, 0.5, 0.25, 0.0])
    """
    alpha = check_number(alpha, "alpha", least=0, most=1)
    by_vector, by_words = _checked(dense), _checked(text)
    minima = (
        None if dense_minimum is None else check_number(dense_minimum, "dense_minimum"),
        None if text_minimum is None else check_number(text_minimum, "text_minimum"),
    )
    return _combined((by_vector, by_words), (alpha, 1 - alpha), minima)


def linear_combination(
    rankings: Sequence[Ranking], weights: Sequence[float], *, minima: Sequence[float | None] | None = None
) -> tuple[Keys, Scores]:
    """Merge any number of rankings by their normalised scores: `convex_combination` for more than two.

    A document's score is the sum of ``weight * score``, each score brought to [0, 1] by
    ``(score - minimum) / (best - minimum)``, and the weights to a sum of 1.

    Parameters
    ----------
    rankings : sequence of (slots, scores)
        Each best first, of shapes ``(n_i,)``.
    weights : sequence of float
        One a ranking, 0 or above. Where only one is above 0, its ranking comes back exactly as it was given.
    minima : sequence of (float or None), optional
        The score that becomes 0 in each ranking; see `convex_combination`. None takes the lowest.

    Returns
    -------
    slots : ndarray of shape (n_results,)
        Every document of every ranking with a positive weight, best first; equal scores by smaller slot.
    scores : float64 ndarray of shape (n_results,)
        In [0, 1].

    Raises
    ------
    ParameterError
        The weights do not fit or are all 0, or a ranking is malformed.

    Examples
    --------
    >>> dense, text, sparse = ([7, 3], [0.9, 0.5]), ([3, 4], [12.0, 6.0]), ([4, 7], [2.0, 1.0])
    >>> slots, scores = linear_combination([dense, text, sparse], [2, 1, 1], minima=[None, 0.0, 0.0])
    >>> slots.tolist(), scores.round(3).tolist()
    ([7, 4, 3], [0.625, 0.375, 0.25])
    """
    factors = [check_number(each, "weights", least=0) for each in weights]
    lowest = [None] * len(rankings) if minima is None else list(minima)
    if not len(factors) == len(rankings) == len(lowest):
        raise ParameterError(
            f"expected one weight and one minimum for each of {len(rankings)} rankings, got {len(factors)} and {len(lowest)}"
        )
    total = sum(factors)
    if not total > 0:
        raise ParameterError(f"expected a weight above 0, got {factors}")
    checked = [None if low is None else check_number(low, "minima") for low in lowest]
    return _combined([_checked(ranking) for ranking in rankings], [factor / total for factor in factors], checked)


def _combined(
    rankings: Sequence[tuple[Keys, Scores]], weights: Sequence[float], minima: Sequence[float | None]
) -> tuple[Keys, Scores]:
    parts = [each for each in zip(rankings, weights, minima, strict=True) if each[1] > 0]
    if len(parts) == 1:
        return parts[0][0]
    values = [weight * _normalised(scores, minimum) for (_, scores), weight, minimum in parts]
    return _summed(np.concatenate([keys for (keys, _), _, _ in parts]), np.concatenate(values))


def _normalised(scores: Scores, minimum: float | None) -> Scores:
    """Map [minimum, best] to [0, 1]."""
    if len(scores) == 0:
        return scores
    low, best = float(scores.min()) if minimum is None else minimum, float(scores.max())
    if best <= low:  # nothing to tell the documents apart by
        return np.ones_like(scores)
    # Halved first, because the difference of two large scores may overflow.
    normalised: Scores = np.clip((scores / 2 - low / 2) / (best / 2 - low / 2), 0, 1)
    return normalised


def _summed(keys: Keys, values: Scores) -> tuple[Keys, Scores]:
    """Add up the values of each key, best first."""
    union, where = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(union))
    np.add.at(sums, where, values)
    order = np.lexsort((union, -sums))
    return union[order], sums[order]


def _checked(ranking: Ranking) -> tuple[Keys, Scores]:
    keys, scores = np.asarray(ranking[0]), np.asarray(ranking[1], dtype=np.float64)
    if keys.size == 0 and scores.size == 0:
        return np.empty(0, keys.dtype if keys.dtype.kind in "iuU" else np.int64), np.empty(0)
    if keys.ndim != 1 or scores.shape != keys.shape:
        raise ParameterError(f"expected slots and scores of one length, got shapes {keys.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise ParameterError("expected finite scores; drop padding (-inf) before fusing")
    if (np.diff(scores) > 0).any():
        raise ParameterError("expected a ranking with the best score first")
    if len(np.unique(keys)) != len(keys):
        raise ParameterError("expected every slot at most once in a ranking")
    return keys, scores
