from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import ParameterError
from octavo.ingest.chunking import split_text

TEXTS = st.text(st.sampled_from("ab. \n!。"), max_size=200)


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(TEXTS, st.integers(1, 40))
def test_without_overlap_nothing_is_lost_or_repeated(text: str, size: int) -> None:
    pieces = split_text(text, size)
    assert all(0 < len(piece) <= size for piece in pieces)
    assert "".join(map(squeezed, pieces)) == squeezed(text)


@given(st.text(st.sampled_from("ab \n"), max_size=200), st.integers(1, 40), st.data())
def test_with_overlap_each_piece_continues_the_one_before(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size // 2))
    text = "".join(
        chr(0x4E00 + place) if letter.isalpha() else letter for place, letter in enumerate(text)
    )  # found once only
    pieces = split_text(text, size, overlap)
    assert all(0 < len(piece) <= size for piece in pieces)
    position = covered = 0
    for piece in pieces:
        start = text.index(piece, position)
        assert not text[covered:start].strip()  # only white space may lie between
        covered, position = max(covered, start + len(piece)), start
    assert not text[covered:].strip()


def test_boundaries_in_order_of_preference() -> None:
    assert split_text("aaaa bbbb.\n\ncccc dddd", 16) == ["aaaa bbbb.", "cccc dddd"]
    assert split_text("aaaa bbbb cc. dddd", 16) == ["aaaa bbbb cc.", "dddd"]
    assert split_text("aaaa bbbb cccc dddd", 16) == ["aaaa bbbb cccc", "dddd"]
    assert split_text("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]


def test_overlap_starts_at_a_word() -> None:
    assert split_text("one two three four five", 14, 6) == ["one two three", "three four", "four five"]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (10, -1), (10, 6)])
def test_unusable_sizes(size: int, overlap: int) -> None:
    with pytest.raises(ParameterError, match=r"expected chunk size|expected overlap|expected an overlap"):
        split_text("text", size, overlap)
