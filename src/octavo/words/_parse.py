"""Reads what somebody has typed into a search box."""

from __future__ import annotations

import re
from typing import Final

from octavo.errors import ParameterError
from octavo.words._tree import MOST_PARTS, AllOf, AnyOf, Not, Phrase, Prefix, WordQuery, Words, check_str

#: An operator, a phrase (which may lack its end), or whatever stands between spaces.
_TOKEN: Final = re.compile(r'\s*([+-]?(?:"[^"]*(?:"|$)|“[^”]*(?:”|$)|\()|\)|[^\s()"“]+)')

_DEEPEST: Final = 40


def parse_words(text: str) -> WordQuery:
    """Return the query that a line means.

    ``"two words"`` is a phrase, ``wor*`` a prefix, ``word~`` a word that may be misspelt; ``+word`` must be there and ``-word``
    must not; ``AND``, ``OR``, ``NOT`` and parentheses put them together. Anything else is a bag of words. What is no complete
    operator is a word: there are no errors of syntax.

    Parameters
    ----------
    text : str
        The line.

    Returns
    -------
    WordQuery
        To be given to a search in place of a string.

    Raises
    ------
    ParameterError
        When it only says what must not be there, or has more than a thousand parts.

    Examples
    --------
    >>> parse_words('+"red apple" pie -green')
    AllOf(Phrase(text='red apple'), Not(part=Words(text='green', typos=False)), optional=[Words(text='pie', typos=False)])
    >>> parse_words("(apple OR pear) AND ri*")
    AllOf(AnyOf(Words(text='apple', typos=False), Words(text='pear', typos=False)), Prefix(text='ri'))
    >>> parse_words("what's 5 < 7 (or so?")
    Words(text="what's 5 < 7 or so?", typos=False)
    """
    tokens = _TOKEN.findall(check_str(text, "a query"))
    if len(tokens) > MOST_PARTS * 4:
        raise ParameterError(
            f"expected at most {MOST_PARTS * 4:,} words in a query with operators, got {len(tokens):,}"
        )
    return _positive(_Reader(tokens).any_of(0)) or Words("")


class _Reader:
    """Recursive descent, as deep as parentheses are, and those only to a limit."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def any_of(self, depth: int) -> WordQuery | None:
        parts = [self._all_of(depth)]
        while self._next() == "OR":
            self._at += 1
            parts.append(self._all_of(depth))
        found = [_positive(part) for part in parts if part is not None] if len(parts) > 1 else parts
        kept = [part for part in found if part is not None]
        return AnyOf(*kept) if len(kept) > 1 else (kept[0] if kept else None)

    def _all_of(self, depth: int) -> WordQuery | None:
        parts = [self._side_by_side(depth)]
        while self._next() == "AND":
            self._at += 1
            parts.append(self._side_by_side(depth))
        kept = [part for part in parts if part is not None]
        if len(kept) < 2:
            return kept[0] if kept else None
        return _joined(kept, [])

    def _side_by_side(self, depth: int) -> WordQuery | None:
        must: list[WordQuery] = []
        may: list[WordQuery] = []
        while (token := self._next()) is not None and token not in {"AND", "OR"}:
            if token == ")":
                if depth:
                    break
                self._at += 1
                continue
            self._at += 1
            sign = token[0] if token[0] in "+-" and len(token) > 1 else ""
            if token == "NOT":
                sign, token = "-", self._next() or ""
                if not token or token in {"AND", "OR", ")"}:
                    continue
                self._at += 1
                token = token[1:] if token[0] in "+-" and len(token) > 1 else token
            elif sign:
                token = token[1:]
            part = self._part(token, depth)
            if part is None:
                continue
            if sign == "-":
                must.append(part.part if isinstance(part, Not) else Not(part))
            elif sign == "+" or isinstance(part, Not):
                must.append(part)
            else:
                may.append(part)
        may = _gathered(may)
        if not must:
            return AnyOf(*may) if len(may) > 1 else (may[0] if may else None)
        return _joined(must, may)

    def _part(self, token: str, depth: int) -> WordQuery | None:
        if token == "(":
            if depth >= _DEEPEST:
                return None
            inner = self.any_of(depth + 1)
            if self._next() == ")":
                self._at += 1
            return inner
        if token[0] in '"“':
            phrase = token.strip('"“”')
            return Phrase(phrase) if phrase.strip() else None
        if token.endswith("*") and token.strip("*"):
            return Prefix(token.rstrip("*"))
        if token.endswith("~") and token.strip("~"):
            return Words(token.rstrip("~"), typos=True)
        return Words(token)


def _gathered(parts: list[WordQuery]) -> list[WordQuery]:
    """Put plain words into one bag."""
    plain = [part.text for part in parts if isinstance(part, Words) and not part.typos]
    if len(plain) < 2:
        return parts
    rest = [part for part in parts if not (isinstance(part, Words) and not part.typos)]
    return [Words(" ".join(plain)), *rest]


def _joined(must: list[WordQuery], may: list[WordQuery]) -> WordQuery:
    """Return what has all of these parts; where all that must be is a Not, one of what may be there must."""
    if all(isinstance(part, Not) for part in must):
        if not may:
            return Not(AnyOf(*(part.part for part in must if isinstance(part, Not))))
        must, may = [AnyOf(*may) if len(may) > 1 else may[0], *must], []
    return must[0] if len(must) == 1 and not may else AllOf(*must, optional=may)


def _positive(query: WordQuery | None) -> WordQuery | None:
    if isinstance(query, Not):
        raise ParameterError("expected something to look for beside what must not be there; add a word")
    return query
