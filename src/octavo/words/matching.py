"""What a query of words means: whether a text matches, told by its words and their stems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from octavo.words._tree import AllOf, AnyOf, Not, Phrase, Prefix, WordQuery, Words, inner_parts

#: Letters from which on a word may be misspelt in one place, and in two.
_ONE_TYPO: Final = 4
_TWO_TYPOS: Final = 8


class Analysis(Protocol):
    """What makes words and terms of texts, the same as of the collection's."""

    def words(self, text: str) -> list[str]:
        """Return the words of a text, not stemmed."""
        ...

    def stem(self, words: Sequence[str]) -> list[str]:
        """Return the term of each word."""
        ...


def leaves(query: WordQuery) -> Iterator[WordQuery]:
    """Yield the leaves that may be there, those below `Not` left out."""
    if isinstance(query, Not):
        return
    inner = inner_parts(query)
    if not inner:
        yield query
    for part in inner:
        yield from leaves(part)


def needs_positions(query: WordQuery | str) -> bool:
    """Tell whether words are compared before stemming, or in their order."""
    if isinstance(query, str):
        return False
    if isinstance(query, Phrase | Prefix):
        return True
    return any(map(needs_positions, inner_parts(query))) if not isinstance(query, Words) else query.typos


def allowed_typos(word: str) -> int:
    """Return in how many places a word may differ."""
    return (len(word) >= _ONE_TYPO) + (len(word) >= _TWO_TYPOS)


def is_typo(word: str, other: str) -> int | None:
    """Return in how many places two words differ, if that is few enough and they begin alike; None otherwise.

    Examples
    --------
    >>> is_typo("retreival", "retrieval"), is_typo("color", "colour"), is_typo("cat", "cut")
    (1, 1, None)
    """
    most = allowed_typos(word)
    if word == other:
        return 0
    if not most or abs(len(word) - len(other)) > most or word[0] != other[0]:
        return None
    earlier: list[int] = []
    before = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        row = [i]
        for j, its in enumerate(other, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != its))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == its:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return None
        earlier, before = before, row
    return before[-1] if before[-1] <= most else None


def matches_words(query: WordQuery, text: str, analysis: Analysis) -> bool:
    """Tell whether a text matches; the index must always agree.

    Leaves without a single word ask for nothing: alone they match no text, beside others they are left out.
    """
    words = analysis.words(text)
    return _matches(query, words, set(analysis.stem(words)), analysis) is True


def _matches(query: WordQuery, words: Sequence[str], stems: set[str], analysis: Analysis) -> bool | None:
    """Return whether it matches; None where nothing is asked for."""
    if isinstance(query, Words):
        wanted = analysis.words(query.text)
        if not wanted:
            return None
        if not stems.isdisjoint(analysis.stem(wanted)):
            return True
        return query.typos and any(is_typo(one, word) is not None for one in wanted for word in words)
    if isinstance(query, Phrase | Prefix):
        wanted = analysis.words(query.text)
        if not wanted:
            return None
        size = len(wanted)
        for start in range(len(words) - size + 1):
            part = words[start : start + size]
            if part == wanted or (
                isinstance(query, Prefix) and part[:-1] == wanted[:-1] and part[-1].startswith(wanted[-1])
            ):
                return True
        return False
    if isinstance(query, Not):
        found = _matches(query.part, words, stems, analysis)
        return None if found is None else not found
    assert isinstance(query, AllOf | AnyOf)  # there are no others
    answers = [_matches(part, words, stems, analysis) for part in query.parts]
    asked = [answer for answer in answers if answer is not None]
    if isinstance(query, AnyOf):
        return any(asked) if asked else None
    positive = [
        answer
        for part, answer in zip(query.parts, answers, strict=True)
        if answer is not None and not isinstance(part, Not)
    ]
    if not positive:  # what must be there is nothing; then what only counts must be
        optional = [_matches(part, words, stems, analysis) for part in query.optional]
        rest = [answer for answer in optional if answer is not None]
        return (any(rest) and all(asked)) if rest else None
    return all(asked)
