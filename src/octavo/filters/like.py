"""SQL ``LIKE`` patterns as Python predicates.

SQLite's own ``LIKE`` folds only ASCII letters and stops at a NUL character, so patterns are evaluated here, and the
index and the slow evaluator share the very same function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from octavo.errors import InvalidFilterError

#: One element of a pattern: a literal character, or None for ``_``.
_Item = str | None


def _segments(pattern: str) -> list[list[_Item]]:
    """Split a pattern at its unescaped percent signs."""
    segments: list[list[_Item]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            segments.append([])
        elif character == "_":
            segments[-1].append(None)
        elif character == "\\":
            escaped = next(characters, None)
            if escaped is None:
                raise InvalidFilterError(
                    f"the pattern {pattern!r} ends in a lone backslash; write \\\\ for a literal backslash"
                )
            segments[-1].append(escaped)
        else:
            segments[-1].append(character)
    return segments


def escape_like(text: str) -> str:
    r"""Give a pattern that matches exactly `text`.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The pattern.

    Examples
    --------
    >>> print(escape_like("50%_"))
    50\%\_
    """
    return re.sub(r"([\\%_])", r"\\\1", text)


def literal_prefix(pattern: str) -> str:
    """Give the literal text with which everything that matches `pattern` begins.

    Examples
    --------
    >>> literal_prefix("chapter_1%")
    'chapter'
    """
    prefix = []
    for item in _segments(pattern)[0]:
        if item is None:
            break
        prefix.append(item)
    return "".join(prefix)


@lru_cache(maxsize=256)
def compile_like(pattern: str, ignore_case: bool = False) -> Callable[[str], bool]:
    r"""Compile a ``LIKE`` pattern to a predicate on strings.

    ``%`` stands for any number of characters, ``_`` for exactly one, and a backslash takes the next character
    literally. The pattern covers the whole text. Every ``%`` is resolved by one leftmost search, so that the time is
    bounded by the product of the lengths for hostile patterns too, which a translation to one regular expression would
    not be.

    Parameters
    ----------
    pattern : str
        The pattern.
    ignore_case : bool, default=False
        Compare case-folded text with the case-folded pattern (``ß`` equals ``SS``); ``_`` then stands for one character
        of the folded text.

    Returns
    -------
    predicate : callable
        From a string to a bool.

    Raises
    ------
    InvalidFilterError
        The pattern ends in a lone backslash.

    Examples
    --------
    >>> compile_like("%.p_f")("report.pdf")
    True
    >>> compile_like("STRASSE%", ignore_case=True)("Straße 7")
    True
    """
    parts = []
    for segment in _segments(pattern):
        items = [item.casefold() if ignore_case and item is not None else item for item in segment]
        width = sum(1 if item is None else len(item) for item in items)
        expression = "".join("." if item is None else re.escape(item) for item in items)
        parts.append((re.compile(expression, re.DOTALL), width))

    def predicate(text: str) -> bool:
        if ignore_case:
            text = text.casefold()
        first, first_width = parts[0]
        if len(parts) == 1:
            return first.fullmatch(text) is not None
        if first.match(text) is None:
            return False
        position = first_width
        for regex, _ in parts[1:-1]:
            # Every match of one part has the same length, so the leftmost leaves the most room for the parts after it.
            found = regex.search(text, position)
            if found is None:
                return False
            position = found.end()
        last, last_width = parts[-1]
        start = len(text) - last_width
        return start >= position and last.match(text, start) is not None

    return predicate
