"""Cut long texts into overlapping pieces at natural boundaries."""

from __future__ import annotations

import re

from octavo._validation import check_integer
from octavo.errors import ParameterError

# Best first. A piece ends behind the last of these that lies in its second half.
_BOUNDARIES = [re.compile(pattern) for pattern in (r"\n\s*\n", r"[.!?。！？]\s+|[。！？]", r"\s+")]


def split_text(text: str, size: int, overlap: int = 0) -> list[str]:
    """Cut a text into pieces of at most `size` characters.

    A piece ends at a paragraph, else at a sentence, else at a space, whichever is found in its second half; a text
    without any is cut at `size`. Characters, not words: they mean the same in languages that write no spaces.

    Parameters
    ----------
    text : str
        The text.
    size : int
        Largest number of characters in a piece.
    overlap : int, default=0
        Characters at the end of a piece that the next one repeats, less where it would start inside a word.

    Returns
    -------
    list of str
        Without white space at either end; empty for a text that has nothing else.

    Raises
    ------
    ParameterError
        When `size` is not positive, or `overlap` is negative or more than half of `size`.

    Examples
    --------
    >>> split_text("One sentence. Another sentence. The end.", 20)
    ['One sentence.', 'Another sentence.', 'The end.']
    """
    return [piece for _, piece in split_places(text, size, overlap)]


def split_places(text: str, size: int, overlap: int = 0) -> list[tuple[int, str]]:
    """Cut a text as `split_text` does, and tell where each piece begins in it.

    Examples
    --------
    >>> split_places("One sentence. Another sentence.", 20)
    [(0, 'One sentence.'), (14, 'Another sentence.')]
    """
    size = check_integer(size, "chunk size", least=1)
    overlap = check_integer(overlap, "overlap", least=0)
    if overlap > size // 2:
        raise ParameterError(
            f"expected an overlap of 0 to {size // 2} characters (half of the chunk size), got {overlap}"
        )
    pieces = []
    start, length = 0, len(text)
    while start < length:
        end = length if length - start <= size else _end(text, start, size)
        piece = text[start:end].strip()
        if piece:
            pieces.append((text.index(piece[0], start), piece))
        if end >= length:
            break
        start = _start(text, start, end, overlap)
    return pieces


def _end(text: str, start: int, size: int) -> int:
    """Return where the piece that begins at `start` ends."""
    middle, limit = start + (size + 1) // 2, start + size
    for boundary in _BOUNDARIES:
        found = [match.end() for match in boundary.finditer(text, middle, limit)]
        if found:
            return found[-1]
    return limit


def _start(text: str, start: int, end: int, overlap: int) -> int:
    """Return where the next piece begins: at the first word in the last `overlap` characters before `end`."""
    if overlap == 0:
        return end
    # A piece is at least half of `size` long and the overlap at most half, so `end - overlap` is never before `start`.
    space = re.compile(r"\s+").search(text, end - overlap - 1, end)
    begin = space.end() if space else end - overlap
    return begin if begin > start else end
