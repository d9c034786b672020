"""Snippets and marked words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.serving._highlights import Highlighter


@given(st.text(max_size=900), st.text(max_size=30))
def test_pieces_are_the_text(text: str, query: str) -> None:
    pieces = Highlighter(query, "english").pieces(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)


@given(st.text("ab c\n", max_size=1_500), st.text("abc ", max_size=10))
def test_a_snippet_is_part_of_the_text(text: str, query: str) -> None:
    pieces = Highlighter(query, "plain").snippet(text)
    shown = "".join(piece for piece, _ in pieces).removeprefix("… ").removesuffix(" …")
    assert " ".join(shown.split()) in " ".join(text.split())
    assert len(shown) <= 400


def test_the_snippet_is_where_most_words_are() -> None:
    text = "apple " + "nothing " * 200 + "the apple of the tree in the garden " + "nothing " * 200
    shown = Highlighter("apple tree garden", "english").snippet(text)
    assert [piece for piece, marked in shown if marked] == ["apple", "tree", "garden"]
    assert shown[0][0] == "… "
    assert shown[-1][0] == " …"


@pytest.mark.parametrize(
    ("query", "language", "text", "marked"),
    [
        ("Häuser", "german", "Das Haus und die Häuser", ["Haus", "Häuser"]),
        ("cafe\u0301", "french", "un café", ["café"]),
        ("café", "french", "un cafe\u0301", ["cafe\u0301"]),
        ("ＡＢＣ", "plain", "abc", ["abc"]),
        ("run", "plain", "running run_time", ["run"]),
        ("", "english", "anything", []),
        ("x", "english|jieba", "x", ["x"]),  # whether that library is there or not
    ],
)
def test_words_are_compared_as_in_the_index(query: str, language: str, text: str, marked: list[str]) -> None:
    assert [piece for piece, is_marked in Highlighter(query, language).pieces(text) if is_marked] == marked
