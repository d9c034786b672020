"""What is printed obeys nobody: no control character, no change of direction, and JSON that reads back."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo._printing import print_json, printable

#: Unicode's own classes of what changes the direction of writing.
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def active(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in DIRECTIONS
    )


def test_every_active_character_is_escaped() -> None:
    for code in range(0x110000):
        character = chr(code)
        if active(character):
            assert printable(character) == character.encode("unicode_escape", "surrogatepass").decode()
    assert printable("\u200f\u200e\u061c") == r"\u200f\u200e\u061c"  # marks


@given(st.text())
def test_other_text_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert not any(map(active, shown))
    if not any(map(active, text)) and not set(text) & set("\u200e\u200f\u061c"):
        assert shown == text
    assert printable(text, lines=True).count("\n") == text.count("\n")


@given(st.dictionaries(st.text(), st.text()))
def test_json_reads_back(values: dict[str, str]) -> None:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json(values)
    assert json.loads(out.getvalue()) == values
    assert not any(active(character) for character in out.getvalue() if character != "\n")


@pytest.mark.parametrize("text", ["naïve — 日本語 🙂", "a\u00a0b", "a-b_c/d"])
def test_ordinary_text(text: str) -> None:
    assert printable(text) == text
