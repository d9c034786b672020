"""Words in collections, local and in Qdrant: every script is found, operators, another analysis, functions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.errors import MismatchError, ParameterError
from octavo.words import AllOf, AnyOf, Not, Phrase, Prefix, Words, parse_words

#: Script to documents, each with a query for it alone: some of its words, or a part of a run where there are no spaces.
KNOWN: dict[str, list[tuple[str, str]]] = {
    "Latin": [("The heron waits at the river mouth", "heron river"), ("Żółte światło w oknie", "żółte światło")],
    "Latin with marks (Yoruba)": [("Mo fẹ́ràn ilé-ẹ̀kọ́ mi", "ẹ̀kọ́"), ("Ọmọ náà ń sùn ní ilé", "sùn")],
    "Turkish": [("İSTANBUL'DA IŞIK SÖNDÜ", "istanbul ışık"), ("Kırmızı gül bahçesi", "KIRMIZI GÜL")],
    "Greek": [("Ο ΜΕΓΑΛΟΣ ΔΡΟΜΟΣ", "μεγάλος δρόμος μεγαλος δρομος"), ("Η μικρή θάλασσα", "ΘΆΛΑΣΣΑ")],
    "Cyrillic": [("Старый мост через реку", "мост реку"), ("Київ стоїть на Дніпрі", "київ")],
    "Han": [("我在北京大学学习计算机科学", "计算机"), ("今天的天气非常好", "天气"), ("京都的寺庙很古老", "寺庙")],
    "Japanese": [("東京都庁の展望台から富士山が見える", "富士山"), ("カタカナのデータベースを使う", "データ")],
    "Hangul": [("서울에서 맛있는 김치를 먹었습니다", "서울 김치"), ("부산의 바다는 아름답다", "바다")],
    "Thai": [("แมวดำนอนอยู่บนหลังคา", "หลังคา"), ("ฝนตกหนักในกรุงเทพ", "กรุงเทพ")],
    "Lao": [("ແມວນອນຢູ່ເທິງຫລັງຄາ", "ຫລັງຄາ"), ("ຝົນຕົກຢູ່ວຽງຈັນ", "ວຽງຈັນ")],
    "Khmer": [("ឆ្មាដេកលើដំបូល", "ដំបូល"), ("ភ្លៀងធ្លាក់នៅភ្នំពេញ", "ភ្នំពេញ")],
    "Burmese": [("ကြောင်သည်ခေါင်မိုးပေါ်တွင်အိပ်သည်", "ခေါင်မိုး"), ("ရန်ကုန်တွင်မိုးရွာသည်", "ရန်ကုန်")],
    "Devanagari": [("हिन्दी की पुरानी किताबें", "हिन्दी किताबें"), ("बर्फ़ पहाड़ पर गिरती है", "पहाड़")],
    "Bengali": [("নদীর ধারে পুরনো বাড়ি", "নদীর বাড়ি"), ("সকালের আলো", "আলো")],
    "Tamil": [("தமிழ் மொழி மிகவும் பழமையானது", "தமிழ் மொழி"), ("மழை பெய்கிறது", "மழை")],
    "Arabic": [("القطة نائمة على السطح", "القطة السطح"), ("ســوق المدينة القديمة", "سوق")],
    "Persian": [("من می\u200cخواهم بروم", "میخواهم"), ("کتابخانه\u200cی بزرگ شهر", "کتابخانهی")],
    "Hebrew": [('צה"ל פרסם הודעה', "צה״ל"), ("החתול ישן על הגג", "החתול הגג")],
    "Syriac": [("ܫܠܵܡܵܐ ܥܲܠ ܟܠ", "ܫܠܵܡܵܐ"), ("ܟܬܵܒ݂ܵܐ ܚܲܕ݇ܬܵܐ", "ܟܬܵܒ݂ܵܐ")],
    "Ethiopic": [("ድመቷ ጣሪያው ላይ ተኝታለች", "ጣሪያው"), ("የአዲስ አበባ ዝናብ", "አበባ")],
    "Georgian": [("კატა სახურავზე წევს", "სახურავზე"), ("თბილისის ძველი ქუჩა", "ქუჩა")],
    "Armenian": [("Կատուն տանիքին է", "ԿԱՏՈՒՆ"), ("Երևանի հին փողոցը", "փողոցը")],
    "mixed": [("iPhoneの電池をBerlinで交換した", "電池 berlin"), ("GPT模型在Кракові", "模型 кракові")],
}

DOCUMENTS = {f"{script} {number}": text for script, pairs in KNOWN.items() for number, (text, _) in enumerate(pairs)}
QUERIES = {f"{script} {number}": query for script, pairs in KNOWN.items() for number, (_, query) in enumerate(pairs)}


def function_by_commas(text: str) -> list[str]:
    return text.casefold().split(",")


def other_function(text: str) -> list[str]:
    return text.casefold().split()


@pytest.fixture(params=["memory", "disk", "late", "qdrant", "qdrant late"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def build(texts: dict[str, str], **options: Any) -> Any:
        kind = request.param
        if "qdrant" in kind:
            qdrant = pytest.importorskip("octavo.integrations.qdrant")
            late = "late" in kind
            create = (qdrant.QdrantMultiVectorCollection if late else qdrant.QdrantCollection).create
            kb = create(path=tmp_path / f"q{len(made)}", **options)
        elif kind == "late":
            kb = octavo.open_multi_vector(tmp_path / f"l{len(made)}", **options)
        else:
            kb = octavo.open(tmp_path / f"d{len(made)}" if kind == "disk" else None, **options)
        made.append(kb)
        given = (
            {"token_vectors": [[[1.0, 0.0]]] * len(texts)} if "late" in kind else {"vectors": [[1.0, 0.0]] * len(texts)}
        )
        kb.add(list(texts.values()), ids=list(texts), **given)
        return kb

    yield build
    for kb in made:
        kb.close()


def found(kb: Any, query: Any) -> list[str]:
    return kb.search(query, k=50, mode="text").ids


def test_known_items_are_found_in_every_script(make):
    assert len(KNOWN) >= 12
    kb = make(DOCUMENTS)
    for name, query in QUERIES.items():
        assert found(kb, query)[:1] == [name], (name, query)


def test_every_word_of_a_text_finds_it(make):
    kb = make(DOCUMENTS)
    for name, text in DOCUMENTS.items():
        for word in text.split():
            assert name in found(kb, word), (name, word)


@pytest.mark.parametrize("library", ["jieba", "fugashi", "kiwipiepy"])
def test_libraries_split_texts_and_queries_alike(make, library):
    pytest.importorskip(library)
    kb = make(DOCUMENTS, full_text=library)
    wanted = {"jieba": ["北京大学", "天气"], "fugashi": ["富士山", "使う"], "kiwipiepy": ["서울 김치", "바다"]}[library]
    assert all(len(found(kb, query)) >= 1 for query in wanted)
    assert kb.info().full_text == f"english|{library}"


def test_operators(make):
    kb = make({"a": "red apple pie", "b": "a green apple", "c": "apple, red", "d": "東京都の red apple", "e": "京都"})
    assert found(kb, Phrase("red apple")) in (["d", "a"], ["a", "d"])
    assert found(kb, AllOf("apple", Not("red"))) == ["b"]
    assert sorted(found(kb, AnyOf(Phrase("green apple"), "京都"))) == ["b", "d", "e"]
    assert found(kb, AllOf(Phrase("京都"), Not(Phrase("東京")))) == ["e"]
    assert found(kb, parse_words('+apple -"red apple" -green')) == ["c"]
    assert found(kb, '+apple -"red apple" -green')[:1] != ["e"]  # a string has no operators
    assert len(found(kb, '+apple -"red apple" -green')) == 4
    assert found(kb, Phrase("...")) == []
    assert kb.search(Phrase("red apple"), k=1, mode="text", filter={"n": 1}).ids == []
    query = [[1.0, 0.0]] if kb.late is not None else [1.0, 0.0]
    assert kb.search(query, k=5, mode="hybrid", text=Phrase("green apple")).ids[0] == "b"
    batch = kb.search_batch([Phrase("green apple"), "京都"], mode="text")
    assert [result.ids[0] for result in batch] == ["b", "e"]
    with pytest.raises(ParameterError, match="text="):
        kb.search(Phrase("red"), mode="dense")


def test_prefixes_and_misspelt_words(make, request):
    kb = make({"a": "red apple pie", "b": "retrieval of documents", "c": "rédaction"})
    if "qdrant" in request.node.name:
        for query in (Prefix("re"), Words("retreival", typos=True), AllOf("red", Prefix("ap"))):
            with pytest.raises(ParameterError, match="list of all words"):
                found(kb, query)
        return
    assert sorted(found(kb, Prefix("re"))) == ["a", "b"]
    assert found(kb, Prefix("red ap")) == ["a"]
    assert found(kb, Words("retreival dokument", typos=True)) == ["b"]
    assert found(kb, parse_words("aple~")) == ["a"]


def test_candidates_of_late_interaction_by_operators(tmp_path):
    texts = ["red apple"] * 7 + ["apple red"] + ["red apple"] * 12
    with octavo.open_multi_vector(tmp_path / "kb", fit_after=5) as kb:
        kb.add(texts, ids=[str(n) for n in range(20)], token_vectors=[[[1.0, 0.0]]] * 20)
        options = {"candidates": "text", "n_candidates": 4, "exact": False}
        assert kb.search([[1.0, 0.0]], k=1, text="apple red", **options).ids == ["0"]
        assert kb.search([[1.0, 0.0]], k=1, text=Phrase("apple red"), **options).ids == ["7"]


# ---------------------------------------------------------------------- the index follows


def text_folder(path: Path) -> set[str]:
    return {name for name in os.listdir(path / "text") if name.isdecimal()}


def test_the_first_operator_builds_what_it_needs_and_others_go_on_with_it(tmp_path):
    texts = {"a": "red apple", "b": "apple red"}
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(list(texts.values()), ids=list(texts))
        assert len(found(kb, "red")) == 2
        plain = kb.info().text_bytes if hasattr(kb.info(), "text_bytes") else None
        assert kb._text._view.index.positions is False
        assert found(kb, Phrase("apple red")) == ["b"]
        built = kb._text._view
        assert built.index.positions is True
        assert len(found(kb, "red")) == 2
        assert kb._text._view is built  # the one that answers everything
        kb.add(["new red apple"], ids=["c"])
        assert len(found(kb, "red")) == 3
        assert kb._text._view.index is built.index  # and is extended
        assert sorted(found(kb, Phrase("red apple"))) == ["a", "c"]
        assert plain is None or kb.info().text_bytes > plain
    with octavo.open(tmp_path / "kb") as kb:
        assert found(kb, Phrase("apple red")) == ["b"]
        assert kb._text._view.recorded
        assert kb.verify().ok
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert found(kb, Phrase("apple red")) == ["b"]


def test_an_index_without_positions_does_not_take_the_place_of_one_with_them(tmp_path):
    with octavo.open(tmp_path / "kb") as one, octavo.open(tmp_path / "kb") as two:
        one.add(["red apple", "apple red"], ids=["a", "b"])
        assert len(found(one, "red")) == len(found(two, "red")) == 2
        assert found(one, Phrase("red apple")) == ["a"]
        one.add(["red apples"], ids=["c"])
        assert len(found(two, "red")) == 3
        assert two._text._view.index.positions  # it has taken over what the other recorded, and extended that
        assert found(two, Phrase("red apple")) == ["a"]


@pytest.mark.parametrize("change", ["version", "library"])
def test_an_index_of_another_analysis_is_built_anew(tmp_path, monkeypatch, change):
    from octavo import _text_analysis

    if change == "library":
        pytest.importorskip("jieba")
    with octavo.open(tmp_path / "kb", full_text="jieba" if change == "library" else "english") as kb:
        kb.add(["flying birds 北京大学"])
        assert len(found(kb, "bird")) == 1
    before = text_folder(tmp_path / "kb")
    with octavo.open(tmp_path / "kb") as kb:
        assert len(found(kb, "bird")) == 1
        assert text_folder(tmp_path / "kb") == before  # nothing to do
    if change == "version":
        monkeypatch.setattr(_text_analysis, "ANALYSIS_VERSION", 99)
    else:
        monkeypatch.setattr(_text_analysis, "_version", lambda package: "0.0.1")
    with octavo.open(tmp_path / "kb") as kb:
        assert len(found(kb, "bird")) == 1
        assert kb.verify().ok
    after = text_folder(tmp_path / "kb")  # the older one stays a while, for those who are about to open it
    assert after > before
    with octavo.open(tmp_path / "kb") as kb:
        assert len(found(kb, "bird")) == 1
    assert text_folder(tmp_path / "kb") == after


def test_changing_the_analysis(tmp_path):
    with octavo.open(tmp_path / "kb") as kb, octavo.open(tmp_path / "kb") as other:
        kb.add(["Crème brûlée", "flying birds"], ids=["c", "b"])
        assert (found(kb, "creme"), found(kb, "bird")) == ([], ["b"])
        assert found(other, "bird") == ["b"]
        kb.set_full_text("plain|fold-accents")
        assert (found(kb, "creme"), found(kb, "bird")) == (["c"], [])
        assert (found(other, "creme"), found(other, "bird")) == (["c"], [])
        assert kb.info().full_text == other.info().full_text == "plain|fold-accents"
    with octavo.open(tmp_path / "kb") as kb:
        assert found(kb, "creme") == ["c"]
    with pytest.raises(MismatchError, match="set_full_text"):
        octavo.open(tmp_path / "kb", full_text="english")
    with octavo.open(tmp_path / "kb", full_text="fold-accents | plain") as kb, pytest.raises(ParameterError):
        kb.set_full_text("klingon")


def test_a_function_on_disk(tmp_path):
    path = tmp_path / "kb"
    with octavo.open(path, full_text=function_by_commas) as kb:
        kb.add(["New York,C++", "york"], ids=["n", "y"])
        assert (found(kb, "new york"), found(kb, "york"), found(kb, "c++")) == (["n"], ["y"], ["n"])
        assert kb.info().full_text == f"function:{__name__}.function_by_commas"
    with pytest.raises(MismatchError, match="set_full_text"):
        octavo.open(path, full_text=other_function)
    with pytest.raises(MismatchError, match=re.escape("function_by_commas")):
        octavo.open(path, full_text="english")
    with octavo.open(path) as kb:  # everything but words goes on
        kb.add(["added"], ids=["a"])
        with pytest.raises(ParameterError, match="full_text="):
            found(kb, "york")
        assert kb.verify().ok
        export = kb.export(tmp_path / "export")
    with octavo.open(path, full_text=lambda text: text.casefold().split(",")) as kb:  # the same by another name
        assert found(kb, "added") == ["a"]
        assert found(kb, Phrase("new york")) == ["n"]
        copy = kb.copy(tmp_path / "copy") if hasattr(kb, "copy") else None
    if copy is not None:
        with octavo.open(tmp_path / "copy", full_text=function_by_commas) as kb:
            assert found(kb, "york") == ["y"]
    octavo.import_from(export, tmp_path / "again").close()
    with octavo.open(tmp_path / "again", full_text=function_by_commas) as kb:
        assert found(kb, "new york") == ["n"]
    with pytest.raises(MismatchError):
        octavo.open(tmp_path / "again", full_text=other_function)
    with octavo.open(path, full_text=function_by_commas) as kb:
        kb.set_full_text("english")
        assert found(kb, "york") == ["y", "n"]


def test_a_name_is_no_function(tmp_path):
    for text in ("function:os.system", "function:x|jieba"):
        with pytest.raises(ParameterError, match="expected full_text"):
            octavo.open(tmp_path / "kb", full_text=text)


def test_a_function_that_fails_leaves_everything_as_it_was(tmp_path):
    answers = {"fail": False}

    def function(text: str) -> list[str]:
        if answers["fail"]:
            raise RuntimeError("no model")
        return text.split()

    with octavo.open(tmp_path / "kb", full_text=function) as kb:
        kb.add(["a b"], ids=["1"])
        answers["fail"] = True
        with pytest.raises(RuntimeError, match="no model"):
            found(kb, "a")
        answers["fail"] = False
        assert found(kb, "a") == ["1"]


def test_a_function_must_not_search_the_collection(tmp_path):
    def function(text: str) -> list[str]:
        if text == "trap":
            holder[0].search("x", mode="text")
        return text.split()

    holder: list[Any] = []
    with octavo.open(tmp_path / "kb", full_text=function) as kb:
        holder.append(kb)
        kb.add(["trap"])
        with pytest.raises(ParameterError, match="must not search"):
            found(kb, "a")


# ---------------------------------------------------------------------- Qdrant


def test_a_function_in_qdrant(tmp_path):
    qdrant = pytest.importorskip("octavo.integrations.qdrant")
    path = tmp_path / "q"
    with qdrant.QdrantCollection.create(path=path, full_text=function_by_commas) as kb:
        kb.add(["New York,C++", "york"], ids=["n", "y"], vectors=[[1.0, 0.0]] * 2)
        assert (found(kb, "new york"), found(kb, "york")) == (["n"], ["y"])
    with qdrant.QdrantCollection.open(path=path) as kb:
        assert len(kb.search([1.0, 0.0], k=2)) == 2  # vectors need no words
        for call in (lambda: found(kb, "york"), lambda: kb.add(["x"], vectors=[[1.0, 0.0]])):
            with pytest.raises(ParameterError, match="full_text="):
                call()
    with pytest.raises(MismatchError):
        qdrant.QdrantCollection.open(path=path, full_text=other_function)
    with pytest.raises(MismatchError, match="without full_text="):
        qdrant.QdrantCollection.open(path=path, full_text="english")
    with qdrant.QdrantCollection.open(path=path, full_text=function_by_commas) as kb:
        assert found(kb, "york") == ["y"]


def test_other_words_than_those_stored_in_qdrant_are_an_error(tmp_path, monkeypatch):
    from octavo import _text_analysis

    qdrant = pytest.importorskip("octavo.integrations.qdrant")
    with qdrant.QdrantCollection.create(path=tmp_path / "q") as kb:
        kb.add(["york"], ids=["y"], vectors=[[1.0, 0.0]])
    monkeypatch.setattr(_text_analysis, "ANALYSIS_VERSION", 99)
    with qdrant.QdrantCollection.open(path=tmp_path / "q") as kb:
        assert kb.search([1.0, 0.0], k=1).ids == ["y"]
        with pytest.raises(MismatchError, match="new collection"):
            found(kb, "york")


def test_import_octavo_stays_light():
    code = "import sys, octavo; print({'unicode_segmentation_rs', 'jieba', 'fugashi', 'kiwipiepy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
