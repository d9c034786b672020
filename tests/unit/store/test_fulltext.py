"""The full-text index: BM25 against a plain implementation, filters, deletions, damage and crashes."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._text_analysis import LANGUAGES, MAX_TOKEN_BYTES, text_analysis
from octavo.errors import CorruptCollectionError, InputTypeError, MismatchError, ParameterError
from octavo.store.text import _search as _text_search
from octavo.store.text._index import TextIndex

WORDS = [f"w{i}" for i in range(40)]


def make(texts, language="plain", path=None):
    index = TextIndex.open(path, language)
    index.add(range(len(texts)), texts)
    index.commit()
    return index


def found(index, query, k=10, **options):
    return index.search(query, k, **options)[0].tolist()


def slow_bm25(texts, query, k1=1.2, b=0.75):
    """Score all texts; texts are a mapping from slot to text of at most 40 words (longer lengths are rounded)."""
    split = {slot: re.findall(r"\w+", text.lower()) for slot, text in texts.items()}
    mean = sum(map(len, split.values())) / len(split)
    scores = {}
    for word, repeats in Counter(re.findall(r"\w+", query.lower())).items():
        holding = [slot for slot, words in split.items() if word in words]
        idf = math.log(1 + (len(split) - len(holding) + 0.5) / (len(holding) + 0.5))
        for slot in holding:
            tf = split[slot].count(word)
            part = idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(split[slot]) / mean))
            scores[slot] = scores.get(slot, 0) + repeats * part
    return scores


def corpus(n, seed=0, length=30):
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    return [" ".join(rng.choice(WORDS, rng.integers(1, length), p=weights / weights.sum())) for _ in range(n)]


def check(result, texts, query, k, allowed=None):
    """A result equals the plain BM25 over the allowed slots, ties by smaller slot."""
    slots, scores = result
    expected = {s: v for s, v in slow_bm25(texts, query).items() if allowed is None or s in allowed}
    assert slots.dtype == np.int64
    assert scores.dtype == np.float32
    assert len(slots) == min(k, len(expected))
    assert len(set(slots.tolist())) == len(slots)
    np.testing.assert_allclose(scores, [expected[s] for s in slots.tolist()], rtol=1e-5)
    np.testing.assert_allclose(scores, sorted(expected.values(), reverse=True)[:k], rtol=1e-5)
    assert [*zip(-scores, slots, strict=True)] == sorted(zip(-scores, slots, strict=True))


# ---------------------------------------------------------------------- scores


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("n_commits", [1, 4])
def test_agrees_with_plain_bm25(tmp_path, on_disk, n_commits):
    texts = corpus(300)
    index = TextIndex.open(tmp_path / "text" if on_disk else None, "plain")
    for part in np.array_split(np.arange(300), n_commits):
        index.add(part, [texts[slot] for slot in part])
        index.commit()
    assert len(index) == 300
    numbered = dict(enumerate(texts))
    for query in ("w0", "w39 w3", "w1 w1 w1 w20", "w5 nowhere", " ".join(WORDS)):
        for k in (1, 7, 300):
            check(index.search(query, k), numbered, query, k)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_mask_thins_the_results_and_never_starves_them(data):
    alive = np.random.default_rng(data.draw(st.integers(0, 99))).random(data.draw(st.sampled_from([150, 400, 900])))
    alive = alive < data.draw(st.sampled_from([0.0, 0.004, 0.05, 0.5, 1.0]))
    query = data.draw(st.sampled_from(["w0", "w39", "w1 w30 w0"]))
    k = data.draw(st.sampled_from([1, 10, 500]))
    check(MASKED.search(query, k, alive=alive), MASKED_TEXTS, query, k, set(np.flatnonzero(alive).tolist()))


MASKED_TEXTS = dict(enumerate(corpus(400, seed=1)))
MASKED = make(list(MASKED_TEXTS.values()))


@pytest.mark.parametrize("cost", [0.0, math.inf])
@pytest.mark.parametrize("max_terms", [0, 2000])
def test_both_ways_to_honour_a_mask_agree(monkeypatch, cost, max_terms):
    monkeypatch.setattr(_text_search.TextSnapshot, "_restriction_cost", lambda self, n_allowed: cost)
    monkeypatch.setattr(_text_search, "_MAX_SLOT_TERMS", max_terms)
    for share in (0.01, 0.2, 0.9):
        alive = np.random.default_rng(7).random(400) < share
        for query in ("w0", "w39", "w1 w30 w0"):
            for k in (1, 10, 500):
                allowed = set(np.flatnonzero(alive).tolist())
                check(MASKED.search(query, k, alive=alive), MASKED_TEXTS, query, k, allowed)


def test_a_mask_against_the_grain_of_the_query():
    # the best 3,000 are all forbidden, so fetching a few more does not help
    texts = ["rare"] * 3000 + ["rare and more words"] * 3000
    index = make(texts)
    alive = np.arange(6000) >= 3000
    assert found(index, "rare", 5, alive=alive) == [3000, 3001, 3002, 3003, 3004]
    alive[:] = np.arange(6000) % 1000 == 999
    assert found(index, "rare", 10, alive=alive) == [999, 1999, 2999, 3999, 4999, 5999]


def test_ties_go_to_the_smaller_slot_across_segments(tmp_path):
    index = TextIndex.open(tmp_path, "plain")
    for part in ([4, 9], [0, 7], [2]):  # three commits, three segments, in an order of their own
        index.add(part, ["same words here"] * len(part))
        index.commit()
    for k in range(1, 6):
        assert found(index, "same words", k) == [0, 2, 4, 7, 9][:k]


def test_a_tie_of_thousands_is_quick_and_still_complete(monkeypatch, tmp_path):
    index = make(["same"] * 300, "plain", tmp_path)
    index.add(range(300, 400), ["same"] * 100)
    index.commit()
    assert found(index, "same", 5) == [0, 1, 2, 3, 4]
    monkeypatch.setattr(_text_search, "_MAX_TIED", 20)
    for k in (1, 30, 399):
        slots = found(index, "same", k)
        assert len(set(slots)) == k
        assert slots == sorted(slots) == found(index, "same", k)


def test_slots_beyond_the_mask_are_not_returned():
    index = make(["one", "one", "one"])
    assert found(index, "one", alive=np.ones(2, bool)) == [0, 1]
    assert found(index, "one", alive=np.ones(9, bool)) == [0, 1, 2]
    assert found(index, "one", alive=np.ones(0, bool)) == []


@pytest.mark.parametrize("k", [0, -1])
def test_refuses_k(k):
    with pytest.raises(ParameterError, match="k of 1"):
        make(["one"]).search("one", k)


# ---------------------------------------------------------------------- queries


@pytest.mark.parametrize("query", ["", "   ", "?!", '"', "()", "*", "\0", "\u0301", "\ud800", '+-&&||!(){}[]^"~*?:\\/'])
def test_a_query_without_words_finds_nothing(query):
    slots, scores = make(["one", ""]).search(query, 5)
    assert slots.shape == scores.shape == (0,)


@pytest.mark.parametrize(
    "query",
    [
        "apple AND",
        "NOT apple",
        '"apple',
        "apple*",
        "-apple",
        "+apple -",
        "text:apple",
        "slot:apple",
        "(apple",
        "[apple TO",
        "apple^5",
        "apple~2",
        "/apple/",
        "apple\\",
        "IN [apple]",
        "<apple>=",
        "apple\ud800",
        "ＡＰＰＬＥ",
    ],
)
def test_operators_are_plain_words(query):
    assert found(make(["an apple", "a pear"]), query) == [0]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_can_be_searched_and_finds_itself(text):
    index = make([text, "something else"])
    words = text_analysis("plain").terms(text)
    assert (0 in found(index, text)) == bool(words)


def test_operators_that_are_words_are_found():
    index = make(["rock and roll", "rock", "to be or not to be"], "english")
    assert found(index, "AND") == [0]
    assert found(index, "NOT OR") == [2]


def test_composed_and_decomposed_letters_are_the_same():
    index = make(["caf\u00e9", "cafe\u0301", "cafe"])
    assert found(index, "cafe\u0301") == found(index, "CAF\u00c9") == [0, 1]


def test_a_query_of_ten_thousand_words_uses_the_weightiest(monkeypatch):
    index = make([*(f"common number{i}" for i in range(3000)), "needle common"])
    slots, _ = index.search(" ".join(["common", *(f"absent{i}" for i in range(10_000)), "needle"]), 2)
    assert slots[0] == 3000
    monkeypatch.setattr(_text_search, "MAX_TERMS", 2)
    assert found(index, "common number5 needle") == [5, 3000]


# ---------------------------------------------------------------------- texts and languages


def test_a_long_word_is_found_up_to_the_limit():
    texts = ["x" * MAX_TOKEN_BYTES, "y" * (MAX_TOKEN_BYTES + 1) + " tail", "z" * 70_000 + " end"]
    index = make(texts)
    assert found(index, texts[0]) == [0]
    assert found(index, texts[1].split()[0]) == []
    assert found(index, "tail") == [1]
    assert found(index, "end") == [2]


def test_a_text_of_a_megabyte_and_an_empty_one():
    index = make(["", "word " * 250_000 + "last", "\0"])
    assert len(index) == 3
    assert found(index, "last") == [1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_indexes_and_finds(language):
    text = "Straße naïve café дом 日本語 مرحبا running"
    index = make([text, "other"], language)
    for word in text.split():
        assert found(index, word) == [0]


def test_a_language_stems_and_plain_does_not():
    assert found(make(["flying birds"], "english"), "bird fly") == [0]
    assert found(make(["alte Häuser"], "german"), "Haus") == [0]
    assert found(make(["alte Häuser"], "english"), "Haus") == []
    assert found(make(["flying birds"], "plain"), "bird fly") == []


def test_an_unknown_language_names_the_known_ones():
    with pytest.raises(ParameterError, match=r"english, finnish.*plain.*'klingon'"):
        TextIndex.open(None, "klingon")


# ---------------------------------------------------------------------- writing


@pytest.mark.parametrize("on_disk", [False, True])
def test_add_delete_reopen(tmp_path, on_disk):
    path = tmp_path / "text" if on_disk else None
    index = TextIndex.open(path)
    assert found(index, "apple") == []
    assert len(index) == 0
    index.add([0, 1, 2], ["red apple", "green apple", "pear"])
    assert found(index, "apple") == []  # not committed
    index.commit()
    index.delete([0, 77])
    index.add(np.array([3]), iter(["apples"]))
    assert found(index, "apple") == [0, 1]
    manifest = index.commit()
    assert sorted(found(index, "apple")) == [1, 3]
    assert len(index) == 3
    if path:
        again = TextIndex.open(path, manifest=json.loads(json.dumps(manifest)))
        assert sorted(found(again, "apple")) == [1, 3]
        assert again.nbytes == index.nbytes > 0
        again.delete([1])
        again.commit()
        assert found(again, "apple") == [3]


@pytest.mark.parametrize("on_disk", [False, True])
def test_rollback_forgets_and_writing_goes_on(tmp_path, on_disk):
    index = TextIndex.open(tmp_path if on_disk else None)
    index.add([0], ["apple"])
    first = index.commit()
    index.add([1], ["apple"])
    index.delete([0])
    index.rollback()
    index.rollback()
    assert index.commit() == first
    assert found(index, "apple") == [0]
    index.add([1], ["apple pie"])
    index.commit()
    assert found(index, "apple") == [0, 1]


def test_many_small_commits_keep_all_texts_and_few_files(tmp_path):
    index = TextIndex.open(tmp_path, "plain")
    for slot in range(30):
        index.add([slot], [f"word number{slot}"])
        if slot >= 10:
            index.delete([slot - 10])
        index.commit()
    assert sorted(found(index, "word", 50)) == list(range(20, 30))
    assert len(os.listdir(tmp_path)) <= 2
    index.prune()
    assert os.listdir(tmp_path) == [index.manifest["directory"]]
    assert sorted(found(TextIndex.open(tmp_path, "plain", manifest=index.manifest), "word", 50)) == list(range(20, 30))


def test_a_snapshot_goes_on_answering_for_its_commit(tmp_path):
    index = TextIndex.open(tmp_path)
    index.add([0, 1], ["apple", "apple"])
    index.commit()
    snapshot = index.snapshot
    for slot in range(2, 14):  # enough commits for merges, and for the files to be removed
        index.delete([slot - 2])
        index.add([slot], ["apple"])
        index.commit()
    index.prune()
    assert snapshot.search("apple", 50)[0].tolist() == [0, 1]
    assert sorted(found(index, "apple", 50)) == [12, 13]


def test_commit_without_changes_writes_nothing(tmp_path):
    index = TextIndex.open(tmp_path)
    index.add([0], ["apple"])
    manifest = index.commit()
    assert index.commit() is manifest
    assert len(os.listdir(tmp_path)) == 1


def test_an_empty_index_can_be_committed_and_opened(tmp_path):
    manifest = TextIndex.open(tmp_path / "a" / "b").commit()
    index = TextIndex.open(tmp_path / "a" / "b", manifest=manifest)
    assert found(index, "apple") == []


@pytest.mark.parametrize(
    ("slots", "texts", "error", "message"),
    [
        ([0, 1], ["a"], ParameterError, "fewer texts"),
        ([0], ["a", "b"], ParameterError, "more texts"),
        ([-1], ["a"], ParameterError, "slots of 0"),
        ([0], [None], InputTypeError, "NoneType for slot 0"),
    ],
)
def test_a_refused_add_leaves_nothing(tmp_path, slots, texts, error, message):
    index = make(["kept"], "plain", tmp_path)
    with pytest.raises(error, match=message):
        index.add([5, *slots], ["half", *texts])
    assert len(os.listdir(tmp_path)) == 1
    index.commit()
    assert found(index, "half a b kept") == [0]


def test_a_failed_write_is_an_os_error_and_leaves_the_last_commit(tmp_path):
    index = make(["kept"], "plain", tmp_path)
    index.add([1], ["lost"])
    pending = max(tmp_path.iterdir())
    # As good as a full disk: nothing can be written there. Renamed, not emptied, because a thread of tantivy's may write
    # into it at any moment.
    pending.rename(tmp_path.with_name(f"{tmp_path.name}-gone"))
    with pytest.raises(OSError, match="could not be written"):
        index.commit()
    assert found(index, "kept lost") == [0]
    index.add([1], ["found"])
    index.commit()
    assert found(index, "found") == [1]


def test_nothing_stays_locked_after_a_commit(tmp_path):
    index = make(["one"], "plain", tmp_path)
    other = TextIndex.open(tmp_path, "plain", manifest=index.manifest)
    other.add([1], ["two"])
    other.commit()
    assert found(other, "one two") == [0, 1]


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    index = make(["one"], "plain", tmp_path)
    index.add([1], ["two"])
    manifest = index.commit()
    index.prune()
    assert found(TextIndex.open(tmp_path, "plain", manifest=manifest), "one two") == [0, 1]


def test_searches_run_beside_each_other_and_beside_a_writer():
    index = make(corpus(500))
    expected = [found(index, word) for word in WORDS]
    errors = []

    def work():
        try:
            for _ in range(5):
                for word, slots in zip(WORDS, expected, strict=True):
                    assert found(snapshot, word) == slots
        except BaseException as err:
            errors.append(err)

    snapshot = index.snapshot
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for slot in range(500, 520):
        index.add([slot], ["w0 w1"])
        index.commit()
    for thread in threads:
        thread.join()
    assert errors == []


# ---------------------------------------------------------------------- opening and damage


def test_another_language_is_a_mismatch(tmp_path):
    manifest = make(["one"], "plain", tmp_path).manifest
    with pytest.raises(MismatchError, match=r"'plain'.*got.*'english'"):
        TextIndex.open(tmp_path, "english", manifest=manifest)


def test_a_manifest_needs_a_path(tmp_path):
    manifest = make(["one"], "plain", tmp_path).manifest
    with pytest.raises(ParameterError, match="in memory"):
        TextIndex.open(None, "plain", manifest=manifest)


def test_another_format_asks_for_a_rebuild(tmp_path):
    manifest = make(["one"], "plain", tmp_path).manifest
    with pytest.raises(CorruptCollectionError, match="rebuild"):
        TextIndex.open(tmp_path, "plain", manifest={**manifest, "format": 0})


def test_another_analysis_asks_for_a_rebuild(tmp_path):
    manifest = make(["one"], "plain", tmp_path).manifest
    with pytest.raises(MismatchError, match="rebuild"):
        TextIndex.open(tmp_path, "plain", manifest={**manifest, "analysis": 1})


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "remove"])
def test_a_damaged_file_is_named_before_it_is_read(tmp_path, damage):
    index = make(corpus(50), "plain", tmp_path / "good")
    index.delete([3])
    manifest = index.commit()
    assert len(manifest["files"]) >= 7
    for name in manifest["files"]:
        path = tmp_path / f"{damage}-{name}"
        shutil.copytree(tmp_path / "good", path)
        file = path / manifest["directory"] / name
        content = bytearray(file.read_bytes())
        if damage == "flip":
            content[len(content) // 2] ^= 16
        file.unlink()
        if damage != "remove":
            file.write_bytes({"flip": content, "truncate": content[:-1], "extend": content + b"x"}[damage])
        with pytest.raises(CorruptCollectionError, match=re.escape(str(file))):
            TextIndex.open(path, "plain", manifest=manifest)
        rebuilt = make(["fresh"], "plain", path)  # the way out
        rebuilt.prune()
        assert os.listdir(path) == [rebuilt.manifest["directory"]]
        assert found(TextIndex.open(path, "plain", manifest=rebuilt.manifest), "fresh") == [0]


def test_stray_files_are_ignored(tmp_path):
    index = make(["one"], "plain", tmp_path)
    (tmp_path / index.manifest["directory"] / "stray.idx").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("mine")
    again = TextIndex.open(tmp_path, "plain", manifest=index.manifest)
    again.add([1], ["two"])
    manifest = again.commit()
    assert "stray.idx" not in manifest["files"]
    assert found(again, "one two") == [0, 1]
    assert (tmp_path / "notes.txt").exists()


class PanicException(BaseException):
    """What a panic inside tantivy looks like: not an `Exception`."""


def test_a_panic_becomes_a_named_error(tmp_path):
    class Broken:
        num_docs = num_segments = 1

        def search(self, *_, **__):
            raise PanicException("index out of bounds")

    index = make(["one"], "plain", tmp_path)
    index._snapshot._searcher = Broken()
    with pytest.raises(CorruptCollectionError, match="index out of bounds"):
        index.search("one", 1)


# ---------------------------------------------------------------------- crashes

CHILD = """
import json, os, sys
from octavo.store.text._index import TextIndex
path, manifest, when = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
index = TextIndex.open(path, "plain", manifest=manifest)
index.delete([0])
index.add(range(100, 400), ["later"] * 300)
if when == "committed":
    index.commit()
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
@pytest.mark.parametrize("when", ["adding", "committed"])
def test_a_process_killed_before_the_manifest_is_stored_changes_nothing(tmp_path, when):
    index = make(["first", "second"], "plain", tmp_path)
    stored = json.dumps(index.manifest)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), stored, when], capture_output=True, text=True, check=False
    )
    assert child.returncode == -9, child.stderr
    assert len(os.listdir(tmp_path)) == 2
    again = TextIndex.open(tmp_path, "plain", manifest=json.loads(stored))
    assert found(again, "first second later") == [0, 1]
    again.add([2], ["third"])
    manifest = again.commit()
    assert found(TextIndex.open(tmp_path, "plain", manifest=manifest), "third later") == [2]
