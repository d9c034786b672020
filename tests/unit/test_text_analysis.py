"""Terms of texts in every script: what belongs to a word, which words are the same, and that the short way is the long one."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import _text_analysis
from octavo._text_analysis import (
    ANALYSIS_VERSION,
    FUNCTION,
    TextAnalysis,
    check_full_text,
    check_function,
    digest_of,
    normalise,
    text_analysis,
)
from octavo.errors import InputTypeError, MismatchError, MissingExtraError, ParameterError


def words(text: str, spec: str = "plain") -> list[str]:
    return text_analysis(spec).words(text)


# ---------------------------------------------------------------------- what belongs to a word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("हिन्दी की किताबें", ["हिन्दी", "की", "किताबें"]),
        ("বাংলা ভাষা", ["বাংলা", "ভাষা"]),
        ("ẹ̀kọ́ ilé-ẹ̀kọ́", ["ẹ̀kọ́", "ilé", "ẹ̀kọ́"]),
        ("ܫܠܵܡܵܐ ܥܲܠ", ["ܫܠܵܡܵܐ", "ܥܲܠ"]),
        ("العربيّة مُحَمَّد", ["العربيّة", "مُحَمَّد"]),
        ("አማርኛ ቋንቋ", ["አማርኛ", "ቋንቋ"]),
        ("Հայերեն ქართული", ["հայերեն", "ქართული"]),
        ("ʻŌlelo Hawaiʻi", ["ʻōlelo", "hawaiʻi"]),
        ("don't can\u2019t", ["don", "t", "can", "t"]),
        ("U.S.A. 3.14 a_b x:y", ["u", "s", "a", "3", "14", "a", "b", "x", "y"]),
    ],
)
def test_marks_stay_with_their_letters_and_punctuation_separates(text, expected):
    assert words(text) == [normalise(word) for word in expected]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("co\u00adoperation", "cooperation"),  # soft hyphen
        ("می\u200cخواهم", "میخواهم"),
        ("ســلام", "سلام"),
        ("צה״ל", 'צה"ל'),
        ("\u200eabc\u200f", "abc"),
        ("ΟΔΟΣ", "οδος"),
        ("STRASSE", "Straße"),
        ("İstanbul", "istanbul"),
        ("I\u0307stanbul", "istanbul"),
        ("IŞIK", "ışık"),
        ("ﬁne", "fine"),
        ("ＡＢＣ", "abc"),
        ("cafe\u0301", "CAFÉ"),
        ("ภาษา\u200bไทย", "ภาษาไทย"),
        ("葛\U000e0100城", "葛城"),  # variation selector
    ],
)
def test_the_same_word_written_otherwise(one, other):
    assert words(one) == words(other) != []


def test_turkish_and_azerbaijani_keep_the_dotless_letter_apart():
    for spec in ("turkish", "azerbaijani"):
        assert words("IŞIK", spec) == words("ışık", spec) == ["ışık"]
        assert words("İstanbul", spec) == words("istanbul", spec) == ["istanbul"]
        assert words("KIR", spec) != words("kir", spec)
    assert text_analysis("turkish").terms("kitapları") != text_analysis("azerbaijani").terms("kitapları")


def test_scripts_without_spaces_give_characters_and_pairs():
    assert words("東京の塔") == ["東", "東京", "京", "京の", "の", "の塔", "塔"]
    assert words("GPT東京2024年") == ["gpt", "東", "東京", "京", "2024", "年"]
    assert words("한국어") == ["한", "한국", "국", "국어", "어"]
    assert words("ไทย") == ["ไ", "ไท", "ท", "ทย", "ย"]
    assert words("𠮷野") == ["𠮷", "𠮷野", "野"]


@pytest.mark.parametrize("text", ["東京都庁", "ภาษาไทย", "ພາສາລາວ", "ភាសាខ្មែរ", "မြန်မာဘာသာ", "서울특별시", "カタカナ"])
def test_a_part_of_a_run_gives_a_part_of_its_terms(text):
    from unicode_segmentation_rs import graphemes

    letters = graphemes(normalise(text), True)
    whole = "\n".join(words(text))
    for start in range(len(letters)):
        for end in range(start + 1, len(letters) + 1):
            assert "\n".join(words("".join(letters[start:end]))) in whole


# ---------------------------------------------------------------------- the short way and the long one

_SHORT = st.characters(exclude_categories=["Cs"]).filter(lambda c: not _text_analysis._BEYOND_SHORT_WAY.search(c))


@settings(max_examples=400, deadline=None)
@given(st.text(_SHORT | st.sampled_from("a'.:_, 1é’·-"), max_size=30))
def test_the_short_way_makes_the_words_of_the_long_one(text):
    short, made = text_analysis("plain").prepare(text)
    if made is None:
        assert list(text_analysis("plain").word_analyzer.analyze(short)) == text_analysis("plain")._long_way(short)


def test_every_character_of_the_short_way_makes_the_same_words_among_letters():
    analysis = text_analysis("plain")
    for number in range(sys.maxunicode):
        character = chr(number)
        if _text_analysis._BEYOND_SHORT_WAY.search(character) or 0xD800 <= number < 0xE000:
            continue
        text = f"a{character}b 1{character}2 {character}"
        short, made = analysis.prepare(text)
        if made is None:
            assert list(analysis.word_analyzer.analyze(short)) == analysis._long_way(short), (hex(number), character)


def test_a_word_gives_the_same_terms_in_whatever_text_it_stands():
    text = "don't co-operate: U.S.A. naïve café 3.14 İstanbul ΟΔΟΣ Straße"
    for spec in ("plain", "english", "turkish"):
        analysis = text_analysis(spec)
        alone = analysis.terms(text)
        for other in ("東京", "தமிழ்", "ẹ̀", "مُ", "\u200e"):
            added = analysis.terms(other)
            assert analysis.terms(f"{text} {other}") == alone + added


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_words_of_letters_and_digits(text):
    for spec in ("plain", "turkish", "plain|fold-accents"):
        analysis = text_analysis(spec)
        found = analysis.words(text)
        assert len(analysis.stem(found)) == len(found)
        assert all(word and not word.isspace() for word in found)


# ---------------------------------------------------------------------- what is asked for


def test_accents_are_folded_where_that_is_asked():
    assert words("Crème brûlée ħello Øre Œuvre", "plain|fold-accents") == ["creme", "brulee", "hello", "ore", "oeuvre"]
    assert words("مُحَمَّد שָׁלוֹם ẹ̀kọ́ ДЁМ", "plain|fold-accents") == ["محمد", "שלום", "eko", "дем"]
    assert words("हिन्दी தமிழ்", "plain|fold-accents") == ["हिन्दी", "தமிழ்"]  # their marks are letters
    assert words("crème") == ["crème"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("german", "german"),
        ("jieba", "english|jieba"),
        (" fold-accents|kiwipiepy | jieba|plain", "plain|jieba|kiwipiepy|fold-accents"),
    ],
)
def test_a_specification_has_one_form(given, expected):
    assert check_full_text(given) == expected


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("klingon", ParameterError, "'klingon'"),
        ("", ParameterError, "got ''"),
        ("english|german", ParameterError, "one language"),
        ("jieba|jieba", ParameterError, "every part once"),
        ("jieba|fugashi", ParameterError, "both split"),
        ("function:os.system", ParameterError, "function:os.system"),
        (3, InputTypeError, "got int"),
        (b"english", InputTypeError, "got bytes"),
    ],
)
def test_a_specification_that_cannot_be_used(given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        check_full_text(given)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("jieba", "我在北京大学学习 the Birds", ["北京大学", "学习", "bird"]),
        ("fugashi", "コンピューターを使った the Birds", ["コンピューター", "使う", "bird"]),
        ("kiwipiepy", "서울에서 김치를 먹었습니다 the Birds", ["서울", "김치", "먹", "bird"]),
    ],
)
def test_a_library_splits_the_runs_of_its_script(name, text, expected):
    pytest.importorskip(name)
    analysis = text_analysis(check_full_text(name))
    made = analysis.terms(text)
    assert set(expected) <= set(made)
    assert text_analysis("english|" + name) is analysis
    assert analysis.record["used"].keys() >= {name}
    other = {"jieba": "ภาษา", "fugashi": "ภาษา", "kiwipiepy": "東京"}[name]
    assert analysis.terms(other) == text_analysis("english").terms(other)


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'octavo[chinese]'")):
        TextAnalysis("english|jieba")


def test_nothing_heavy_is_loaded_for_latin_texts():
    import subprocess

    code = (
        "import sys; from octavo._text_analysis import text_analysis; text_analysis('english').terms('naïve café'); "
        "print({'unicode_segmentation_rs', 'jieba', 'fugashi', 'kiwipiepy', 'regex'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# ---------------------------------------------------------------------- functions


def by_commas(text: str) -> list[str]:
    return text.split(",")


def test_a_function_makes_the_terms_as_they_are():
    analysis = TextAnalysis(check_full_text(by_commas), by_commas)
    assert analysis.terms("C++,New York,ภาษา,,Flying birds") == ["C++", "New York", "ภาษา", "Flying birds"]
    assert analysis.spec == f"{FUNCTION}{__name__}.by_commas"
    assert analysis.record == {
        "version": ANALYSIS_VERSION,
        "spec": analysis.spec,
        "used": {"function": digest_of(by_commas)},
    }


def test_another_function_is_told_by_what_it_makes():
    check_function("function:x", digest_of(by_commas), lambda text: text.split(","))
    with pytest.raises(MismatchError, match="set_full_text"):
        check_function("function:x", digest_of(by_commas), str.split)


@pytest.mark.parametrize("made", ["a string", 3, [1], [b"x"], [None]])
def test_a_function_has_to_return_terms(made):
    analysis = TextAnalysis("function:x", lambda text: [])
    analysis._function = lambda text: made
    with pytest.raises(InputTypeError, match="full_text"):
        analysis.terms("text")


def test_terms_of_a_function_may_hold_anything():
    assert TextAnalysis("function:x", lambda text: ["a\x1fb", "\ud800", "", "x" * 300]).terms("t") == ["a b", "?"]


def test_a_function_that_was_not_given_is_asked_for():
    with pytest.raises(ParameterError, match="full_text="):
        TextAnalysis("function:app.split")
