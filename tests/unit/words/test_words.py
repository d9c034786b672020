"""Queries of words: what a line means, what may be put together, and that the index finds what the obvious evaluator does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._text_analysis import text_analysis
from octavo.errors import InputTypeError, ParameterError
from octavo.store.text._index import TextIndex
from octavo.words import AllOf, AnyOf, Not, Phrase, Prefix, WordQuery, Words, parse_words
from octavo.words.matching import is_typo, leaves, matches_words, needs_positions

# ---------------------------------------------------------------------- the parser


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("red apple", Words("red apple")),
        ('"red apple"', Phrase("red apple")),
        ("“red apple”", Phrase("red apple")),
        ('"never closed', Phrase("never closed")),
        ("re*", Prefix("re")),
        ("recieve~", Words("recieve", typos=True)),
        ("+red apple", AllOf("red", optional=["apple"])),
        ("apple -red", AllOf("apple", Not("red"))),
        ("apple NOT red", AllOf("apple", Not("red"))),
        ("NOT red apple", AllOf("apple", Not("red"))),
        ("red AND apple", AllOf("red", "apple")),
        ("red OR apple", AnyOf("red", "apple")),
        ("a AND (b OR c)", AllOf("a", AnyOf("b", "c"))),
        ("a AND b OR c", AnyOf(AllOf("a", "b"), "c")),
        ('+a +"b c" d e*', AllOf("a", Phrase("b c"), optional=["d", Prefix("e")])),
        ("", Words("")),
        ("()", Words("")),
        ("AND OR", Words("")),
        ("* ~", Words("* ~")),
        ("a) b (", Words("a b")),
        ('""', Words("")),
        ("don't x-y:z^2 [a TO b] {c} /d/ \\", Words("don't x-y:z^2 [a TO b] {c} /d/ \\")),
    ],
)
def test_what_a_line_means(line, expected):
    assert parse_words(line) == expected


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from('ab "“”()+-*~ ANDORT\n\\:')) | st.text(max_size=30))
def test_any_line_is_a_query_or_says_that_there_is_nothing_to_look_for(line):
    try:
        query = parse_words(line)
    except ParameterError as err:
        assert "add a word" in str(err)  # noqa: PT017
    else:
        assert isinstance(query, WordQuery)
        matches_words(query, "a b ab", text_analysis("plain"))


def test_depth_and_number_of_parts_are_limited():
    assert isinstance(parse_words("(" * 1_900 + "a" + ")" * 1_900), WordQuery)
    with pytest.raises(ParameterError, match="words"):
        parse_words("a* " * 3_000)
    deep: WordQuery = Words("a")
    for _ in range(48):
        deep = AllOf("b", deep)
    with pytest.raises(ParameterError, match="deep"):
        AllOf("b", AllOf("c", deep))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: AllOf(), ParameterError, "no Not"),
        (lambda: AllOf(Not("a")), ParameterError, "no Not"),
        (lambda: AnyOf(), ParameterError, "at least one"),
        (lambda: AnyOf("a", Not("b")), ParameterError, "AllOf"),
        (lambda: AllOf("a", optional=[Not("b")]), ParameterError, "AllOf"),
        (lambda: AllOf("a", optional="bc"), InputTypeError, "in a list"),
        (lambda: Not(Not("a")), ParameterError, "AllOf"),
        (lambda: Phrase(b"a"), InputTypeError, "bytes"),
        (lambda: Words(None), InputTypeError, "NoneType"),
        (lambda: Words("a", typos=1), ParameterError, "typos"),
        (lambda: AllOf(3), InputTypeError, "int"),
        (lambda: parse_words(3), InputTypeError, "int"),
    ],
)
def test_what_cannot_be_put_together(build, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build()


def test_leaves_and_positions():
    query = AllOf("a", Not(Phrase("b c")), AnyOf(Phrase("d"), Words("e")), optional=[Prefix("f")])
    assert list(leaves(query)) == [Words("a"), Phrase("d"), Words("e"), Prefix("f")]
    assert needs_positions(AllOf("a", Not(Phrase("b"))))
    assert not needs_positions(AllOf("a", Not("b"), optional=["c"]))
    assert not needs_positions("a")


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("cat", "cat", 0),
        ("cat", "cut", None),
        ("word", "ward", 1),
        ("word", "wrod", 1),
        ("word", "words", 1),
        ("word", "sword", None),
        ("apples", "aples", 1),
        ("apples", "apls", None),
        ("retrieval", "retreivl", 2),
        ("retrieval", "rtreivl", None),
        ("ภาษาไทย", "ภาษาไท", 1),
    ],
)
def test_how_far_words_may_differ(one, other, distance):
    assert is_typo(one, other) == distance


# ---------------------------------------------------------------------- the index and the obvious evaluator

TEXTS = [
    "red apple pie",
    "a green apple",
    "apple, red",
    "retrieval of apples",
    "retrieving reds",
    "東京都の red apple",
    "京都の林檎",
    "தமிழ் apple தமிழ்",
    "to be or not to be",
    "",
    "aplle redd",
    "İstanbul'da kırmızı elma",
]

_LEAVES = st.one_of(
    st.builds(Words, st.sampled_from(["apple", "red", "retrieval", "東京", "to be", "...", "elma", "தமிழ்"])),
    st.builds(Words, st.sampled_from(["appel", "retreival", "istanbull", "red"]), typos=st.just(True)),
    st.builds(
        Phrase, st.sampled_from(["red apple", "apple red", "京都", "東京", "to be", "be to", "கொ", "!", "apples"])
    ),
    st.builds(Prefix, st.sampled_from(["re", "red ap", "京", "பா", "t", "to b", "", "retriev", "zz"])),
)


def _trees(inner: st.SearchStrategy[WordQuery]) -> st.SearchStrategy[WordQuery]:
    parts = st.lists(inner, min_size=1, max_size=3)
    nots = st.lists(inner.map(Not), max_size=2)
    return st.one_of(
        parts.map(lambda found: AnyOf(*found)),
        st.tuples(parts, nots, st.lists(inner, max_size=2)).map(lambda t: AllOf(*t[0], *t[1], optional=t[2])),
    )


@pytest.mark.parametrize("spec", ["english", "plain", "turkish"])
def test_the_index_finds_what_matches(spec):
    analysis = text_analysis(spec)
    index = TextIndex.open(None, analysis, positions=True)
    for start in range(0, len(TEXTS), 5):  # several segments
        index.add(range(start, min(start + 5, len(TEXTS))), TEXTS[start : start + 5])
        index.commit()

    @settings(max_examples=400, deadline=None)
    @given(st.recursive(_LEAVES, _trees, max_leaves=8))
    def check(query: WordQuery) -> None:
        slots, scores = index.search(query, len(TEXTS))
        assert sorted(slots.tolist()) == [n for n, text in enumerate(TEXTS) if matches_words(query, text, analysis)]
        assert (scores >= 0).all()

    check()


def test_a_string_and_a_bag_are_the_same():
    index = TextIndex.open(None, "english", positions=True)
    index.add(range(len(TEXTS)), TEXTS)
    index.commit()
    for text in ["red apple", "東京 retrieval", "nothing"]:
        (slots, scores), (others, same) = index.search(text, 5), index.search(Words(text), 5)
        assert slots.tolist() == others.tolist()
        assert scores.tolist() == same.tolist()


def test_a_right_word_is_better_than_a_misspelt_one():
    index = TextIndex.open(None, "plain", positions=True)
    index.add(range(3), ["color chart", "colour chart", "collar chart"])
    index.commit()
    assert index.search(Words("colour", typos=True), 3)[0].tolist() == [1, 0]


def test_a_prefix_of_very_many_words_finds_all_of_them(monkeypatch):
    from octavo.store.text import _search

    monkeypatch.setattr(_search, "MAX_TERMS", 16)
    index = TextIndex.open(None, "plain", positions=True)
    index.add(range(100), [f"word{n}" for n in range(100)])
    index.commit()
    assert sorted(index.search(Prefix("wo"), 100)[0].tolist()) == list(range(100))


def test_operators_need_positions():
    index = TextIndex.open(None, "plain")
    index.add([0], ["a b"])
    index.commit()
    with pytest.raises(ParameterError, match="positions"):
        index.search(Phrase("a b"), 1)
    assert index.search(AllOf("a", Not("c")), 1)[0].tolist() == [0]


def test_long_and_odd_words_are_no_trouble():
    index = TextIndex.open(None, "plain", positions=True)
    index.add(range(3), ["x" * 255, "a.b*c\\d", "ab"])
    index.commit()
    assert index.search(Prefix("x" * 250), 3)[0].tolist() == [0]
    assert index.search(Words("x" * 254, typos=True), 3)[0].tolist() == [0]
    for text in [".*", "a.*", "[ab]", "a|b", "(", "\\", "^a$"]:
        for kind in (Prefix, Phrase, Words):
            index.search(kind(text), 3)
