"""Maps from Octavo's scores (higher is better, not bounded) to LangChain's relevance scores in [0, 1].

Each is monotone, so the order of the results and the effect of a threshold stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable

RelevanceFn = Callable[[float], float]


def cosine_relevance(score: float) -> float:
    """Return ``(1 + score) / 2``, clipped: compressed codes may overshoot -1 or 1 by a rounding error.

    Examples
    --------
    >>> cosine_relevance(1.0), cosine_relevance(0.0), cosine_relevance(-1.0)
    (1.0, 0.5, 0.0)
    """
    return min(1.0, max(0.0, 0.5 + 0.5 * score))


def unbounded_relevance(score: float) -> float:
    """Return ``(1 + score / (1 + |score|)) / 2`` for scores without bounds, such as dot products.

    Unlike the logistic function it does not reach 1 at scores of about 37 already, so large dot products stay apart.

    Examples
    --------
    >>> unbounded_relevance(0.0), unbounded_relevance(3.0), unbounded_relevance(-3.0)
    (0.5, 0.875, 0.125)
    """
    return 0.5 + 0.5 * score / (1.0 + abs(score))


def positive_relevance(score: float) -> float:
    """Return ``score / (1 + score)`` for scores from 0 up, such as BM25.

    Examples
    --------
    >>> positive_relevance(0.0), positive_relevance(4.0)
    (0.0, 0.8)
    """
    score = max(0.0, score)
    return score / (1.0 + score)


def fraction_relevance(score: float) -> float:
    """Return `score`, clipped, for scores that are fractions already, such as a convex combination."""
    return min(1.0, max(0.0, score))
