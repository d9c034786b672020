"""What stands above a piece of a text: the title of its document, and the headings that it lies under."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Literal, TypeAlias, get_args

from octavo._validation import check_choice

#: What is embedded with a chunk and returned without it.
Context: TypeAlias = Literal["none", "title", "headings"]

#: A heading of Markdown: marks, then words, perhaps marks again. Or the fence of a block of code, where none are.
_LINE = re.compile(r"^(?: {0,3}(#{1,6})[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*| {0,3}(```+|~~~+)(.*))$", re.MULTILINE)

#: Characters of a title or heading that are kept: more is a paragraph.
_LONGEST = 300


def check_context(context: str) -> Context:
    """Return a context if there is such a one.

    Raises
    ------
    ParameterError
        When there is not.
    """
    check_choice(context, "context", get_args(Context))
    return context  # type: ignore[return-value]  # it is one of them


class Headings:
    r"""The headings of a text in Markdown, and which of them a place lies under.

    Parameters
    ----------
    text : str
        The text; one that is no Markdown has none.
    title : str, optional
        Of the document; otherwise the first heading of the first level is.

    Examples
    --------
    >>> headings = Headings("# Fruit\n\n## Apples\n\nred\n\n## Pears\n\ngreen")
    >>> headings.title, headings.above(20), headings.above(35)
    ('Fruit', ['Fruit', 'Apples'], ['Fruit', 'Pears'])
    """

    def __init__(self, text: str, title: str | None = None) -> None:
        self._starts: list[int] = []
        self._paths: list[list[tuple[int, str]]] = []
        path: list[tuple[int, str]] = []
        fence = ""
        first = None
        for line in _LINE.finditer(text):
            if line[3] is not None:
                if not fence:
                    fence = line[3]
                elif line[3].startswith(fence) and not line[4].strip():
                    fence = ""
                continue
            if fence:
                continue
            level, words = len(line[1]), _short(line[2])
            if level == 1 and first is None:
                first = words
            path = [*(above for above in path if above[0] < level), (level, words)]
            self._starts.append(line.start())
            self._paths.append(path)
        self.title = _short(title) if title else first

    def above(self, start: int) -> list[str]:
        """Return the headings above a piece that begins at `start`, the title first; its own first line is not above it."""
        at = bisect_right(self._starts, start) - 1
        path = self._paths[at] if at >= 0 else []
        if path and self._starts[at] == start:
            path = path[:-1]
        listed = [words for _, words in path]
        title = self.title_above(start)
        return [title, *listed] if title is not None and title not in listed else listed

    def title_above(self, start: int) -> str | None:
        """Return the title, unless the piece that begins at `start` begins with it."""
        return self.title if self.title and not self._is_title(start) else None

    def _is_title(self, start: int) -> bool:
        """Tell whether the heading that begins here is the title itself."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._starts[at] == start and self._paths[at][-1][1] == self.title


def in_context(piece: str, above: list[str]) -> str | None:
    r"""Return what is embedded of a piece that stands below something; None for the piece alone.

    Examples
    --------
    >>> in_context("It has 2.1 million inhabitants.", ["France", "Paris"])
    'France > Paris\nIt has 2.1 million inhabitants.'
    """
    return f"{' > '.join(above)}\n{piece}" if above else None


def _short(words: str) -> str:
    return " ".join(words.split())[:_LONGEST]
