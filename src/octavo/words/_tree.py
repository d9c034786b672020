"""The nodes of a query of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from octavo._validation import check_flag
from octavo.errors import InputTypeError, ParameterError

#: Parts of a tree, and how deep it may be: more is no query that anybody has meant.
MOST_PARTS: Final = 1_000
_DEEPEST: Final = 50


class WordQuery:
    """What to look for in texts: one of the classes of `octavo.words`.

    Examples
    --------
    >>> from octavo.words import Phrase, WordQuery
    >>> isinstance(Phrase("red apple"), WordQuery)
    True
    """

    __slots__ = ()


def check_str(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise InputTypeError(f"expected {what} as a str, got {type(text).__name__}")
    return text


@dataclass(frozen=True)
class Words(WordQuery):
    """A bag of words: a text matches that holds any of them; rare words weigh more.

    Parameters
    ----------
    text : str
        The words, in any form; there are no operators in it.
    typos : bool, default=False
        Let words of four letters and more differ in one place, of eight and more in two: a letter too many, missing, wrong or
        swapped with its neighbour. The first letter is taken as right.

    Examples
    --------
    >>> import octavo
    >>> from octavo.words import Words
    >>> kb = octavo.open()
    >>> _ = kb.add(["A retrieval system", "a red apple"], ids=["r", "a"])
    >>> kb.search("retreival", mode="text").ids, kb.search(Words("retreival", typos=True), mode="text").ids
    ([], ['r'])
    >>> kb.close()
    """

    text: str
    typos: bool = False

    def __post_init__(self) -> None:
        check_str(self.text, "words")
        check_flag(self.typos, "typos")


@dataclass(frozen=True)
class Phrase(WordQuery):
    """Words that stand side by side, in this order and in this very form: compared before stemming.

    Parameters
    ----------
    text : str
        The words.

    Examples
    --------
    >>> import octavo
    >>> from octavo.words import Phrase
    >>> kb = octavo.open()
    >>> _ = kb.add(["東京都の天気", "京都の天気"], ids=["t", "k"])
    >>> kb.search(Phrase("東京"), mode="text").ids
    ['t']
    >>> kb.close()
    """

    text: str

    def __post_init__(self) -> None:
        check_str(self.text, "a phrase")


@dataclass(frozen=True)
class Prefix(WordQuery):
    """A phrase whose last word goes on: ``Prefix("new yor")`` finds "New York".

    Parameters
    ----------
    text : str
        The words, compared before stemming.

    Examples
    --------
    >>> import octavo
    >>> from octavo.words import Prefix
    >>> kb = octavo.open()
    >>> _ = kb.add(["Quick foxes", "quiet owls", "The equinox"], ids=["q", "w", "e"])
    >>> kb.search(Prefix("qui"), mode="text").ids
    ['q', 'w']
    >>> kb.close()
    """

    text: str

    def __post_init__(self) -> None:
        check_str(self.text, "a prefix")


@dataclass(frozen=True)
class Not(WordQuery):
    """What must not be there; a part of `AllOf`, beside what must.

    Parameters
    ----------
    part : WordQuery or str
        A string is `Words`.

    Examples
    --------
    >>> from octavo.words import AllOf, Not
    >>> AllOf("apple", Not("green"))
    AllOf(Words(text='apple', typos=False), Not(part=Words(text='green', typos=False)))
    """

    part: WordQuery

    def __init__(self, part: WordQuery | str) -> None:
        object.__setattr__(self, "part", _read(part, "Not"))
        _refuse_not((self.part,), "Not")
        _check_tree(self)


@dataclass(frozen=True, init=False, repr=False)
class _Several(WordQuery):
    parts: tuple[WordQuery, ...]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


@dataclass(frozen=True, init=False, repr=False)
class AllOf(_Several):
    """Each part must be there, and none that `Not` names; what is `optional` only counts.

    Parameters
    ----------
    *parts : WordQuery or str
        A string is `Words`. At least one is no `Not`.
    optional : sequence of WordQuery or str, default=()
        Parts that raise the score of a text that has them.

    Examples
    --------
    >>> import octavo
    >>> from octavo.words import AllOf
    >>> kb = octavo.open()
    >>> _ = kb.add(["red apple", "ripe red apple", "green pear"], ids=["a", "b", "c"])
    >>> kb.search(AllOf("red", "apple", optional=["ripe"]), mode="text").ids
    ['b', 'a']
    >>> kb.close()
    """

    optional: tuple[WordQuery, ...] = field(default=())

    def __init__(self, *parts: WordQuery | str, optional: Sequence[WordQuery | str] = ()) -> None:
        if isinstance(optional, str | WordQuery):
            raise InputTypeError("expected optional as a list of parts, got a single one; put it in a list")
        object.__setattr__(self, "parts", tuple(_read(part, "AllOf") for part in parts))
        object.__setattr__(self, "optional", tuple(_read(part, "AllOf") for part in optional))
        if all(isinstance(part, Not) for part in self.parts):
            raise ParameterError(
                "expected AllOf to have at least one part that is no Not: every other text would match as well as any"
            )
        _refuse_not(self.optional, "optional")
        _check_tree(self)

    def __repr__(self) -> str:
        extra = f", optional={list(self.optional)!r}" if self.optional else ""
        return f"{super().__repr__()[:-1]}{extra})"


@dataclass(frozen=True, init=False, repr=False)
class AnyOf(_Several):
    """At least one part must be there; the more are, the higher is the score.

    Parameters
    ----------
    *parts : WordQuery or str
        A string is `Words`.

    Examples
    --------
    >>> import octavo
    >>> from octavo.words import AnyOf, Phrase
    >>> kb = octavo.open()
    >>> _ = kb.add(["red apple", "apple, red", "pear"], ids=["a", "b", "c"])
    >>> kb.search(AnyOf(Phrase("red apple"), "pear"), mode="text").ids
    ['c', 'a']
    >>> kb.close()
    """

    def __init__(self, *parts: WordQuery | str) -> None:
        object.__setattr__(self, "parts", tuple(_read(part, "AnyOf") for part in parts))
        if not self.parts:
            raise ParameterError("expected AnyOf to have at least one part, got none")
        _refuse_not(self.parts, "AnyOf")
        _check_tree(self)


def _read(part: Any, where: str) -> WordQuery:
    if isinstance(part, str):
        return Words(part)
    if not isinstance(part, WordQuery):
        raise InputTypeError(f"expected parts of {where} from octavo.words, or str, got {type(part).__name__}")
    return part


def _refuse_not(parts: Sequence[WordQuery], where: str) -> None:
    if any(isinstance(part, Not) for part in parts):
        raise ParameterError(f"expected no Not in {where}: it belongs to AllOf, beside what must be there")


def inner_parts(query: WordQuery) -> tuple[WordQuery, ...]:
    """Return what a node consists of; a leaf of nothing."""
    if isinstance(query, AllOf):
        return query.parts + query.optional
    if isinstance(query, AnyOf):
        return query.parts
    return (query.part,) if isinstance(query, Not) else ()


def _check_tree(query: WordQuery) -> None:
    """Refuse trees that are too large to be walked through: they come from outside."""
    level, parts = [query], 0
    for _ in range(_DEEPEST):
        if not level:
            return
        parts += len(level)
        if parts > MOST_PARTS:
            raise ParameterError(f"expected at most {MOST_PARTS:,} parts in a query of words, got more")
        level = [part for node in level for part in inner_parts(node)]
    raise ParameterError(f"expected a query of words at most {_DEEPEST} deep, got a deeper one")
