"""BM25 as sparse vectors: term frequencies are weighed here, inverse document frequencies by Qdrant (``modifier: idf``)."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Final

from octavo._text_analysis import build_analyzer, check_language, normalise

_K1: Final = 1.2
_B: Final = 0.75

Sparse = tuple[list[int], list[float]]


class Words:
    """Turns texts into sparse vectors, split and stemmed as the local collection's full text is.

    Parameters
    ----------
    language : str
        As `full_text` of `octavo.open`.
    average_length : float
        Terms of a typical document.
    """

    def __init__(self, language: str, average_length: float) -> None:
        self._analyzer = build_analyzer(check_language(language))
        self._average = max(average_length, 1.0)

    def count(self, text: str) -> int:
        """Return the number of terms."""
        return len(self._analyzer.analyze(normalise(text)))

    def document(self, text: str) -> Sparse:
        """Return a document's terms with the share of BM25 that does not depend on other documents."""
        terms = self._analyzer.analyze(normalise(text))
        norm = _K1 * (1 - _B + _B * len(terms) / self._average)
        weights: dict[int, float] = {}
        for term, count in Counter(terms).items():
            number = _number(term)
            weights[number] = weights.get(number, 0.0) + count * (_K1 + 1) / (count + norm)
        return list(weights), list(weights.values())

    def query(self, text: str) -> Sparse:
        """Return a query's terms, each as often as it stands there."""
        counts = Counter(_number(term) for term in self._analyzer.analyze(normalise(text)))
        return list(counts), [float(count) for count in counts.values()]


def _number(term: str) -> int:
    """Return a term's dimension; of a hundred thousand different terms, about one pair shares one."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "little")
