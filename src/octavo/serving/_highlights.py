"""Which words of a text a query by words would find, and the part of the text where most of them stand."""

from __future__ import annotations

import re
from typing import TypeAlias

from octavo._text_analysis import FUNCTION, text_analysis
from octavo.errors import MissingExtraError

#: Pieces of a text in order; True where a word of the query stands.
Pieces: TypeAlias = list[tuple[str, bool]]

#: Characters that are looked at; longer texts are cut.
MOST_TEXT = 200_000

_SNIPPET = 360


class Highlighter:
    """Marks the words of one query, as the full-text index of a collection compares them.

    Parameters
    ----------
    query : str
        The query's words.
    language : str
        What makes words of texts, as `octavo.open` takes it; a function cannot be named, and words are taken as they are.

    Examples
    --------
    >>> Highlighter("running shoes", "english").pieces("He runs in old shoes.")
    [('He ', False), ('runs', True), (' in old ', False), ('shoes', True), ('.', False)]
    """

    def __init__(self, query: str, language: str) -> None:
        try:
            self._analysis = text_analysis("plain" if language.startswith(FUNCTION) else language or "plain")
        except MissingExtraError:  # of a library that splits words; searches by vectors go without it, and so do we
            self._analysis = text_analysis("plain")
        self._terms = set(self._analysis.terms(query))

    def _spans(self, text: str) -> list[tuple[int, int]]:
        return self._analysis.spans(text, self._terms)

    def pieces(self, text: str) -> Pieces:
        """Return the text in pieces, at most the first 200,000 characters of it."""
        text = text[:MOST_TEXT]
        return _cut(text, self._spans(text), 0, len(text))

    def snippet(self, text: str) -> Pieces:
        """Return the part of the text with the most different words of the query, in pieces."""
        text = text[:MOST_TEXT]
        spans = self._spans(text)
        start, best = 0, 0
        for number, (at, _) in enumerate(spans):
            words = set()
            for begin, end in spans[number:]:
                if end > at + _SNIPPET - 60:
                    break
                words.add(text[begin:end].lower())
            if len(words) > best:
                start, best = at, len(words)
        start = max(0, start - 60) if start + 60 < len(text) else max(0, len(text) - _SNIPPET)
        if start:  # at the beginning of a word
            start = text.find(" ", start, start + 40) + 1 or start
        end = min(len(text), start + _SNIPPET)
        if end < len(text):
            end = next((at for at in range(end, end - 40, -1) if text[at].isspace()), end)
        pieces = _cut(text, spans, start, end)
        before, after = [("… ", False)] * bool(start), [(" …", False)] * (end < len(text))
        return [*before, *((" ".join(re.split(r"\s+", piece)), marked) for piece, marked in pieces), *after]


def _cut(text: str, spans: list[tuple[int, int]], start: int, end: int) -> Pieces:
    pieces: Pieces = []
    at = start
    for begin, stop in spans:
        if begin < start or stop > end:
            continue
        if begin > at:
            pieces.append((text[at:begin], False))
        pieces.append((text[begin:stop], True))
        at = stop
    if at < end:
        pieces.append((text[at:end], False))
    return pieces
