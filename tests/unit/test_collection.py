"""The collection through its public face: add, search, delete, get, reopen, and bad input that changes nothing."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import octavo
from octavo.errors import (
    CollectionClosedError,
    CollectionNotFoundError,
    DocumentNotFoundError,
    InputTypeError,
    InvalidFilterError,
    InvalidVectorsError,
    MismatchError,
    OctavoError,
    ParameterError,
    ReadOnlyError,
)
from octavo.filters import Compare
from octavo.store.documents import LARGEST_DOCUMENT

CODECS = ["float32", "float16", "bfloat16", "float8", "float8-e5m2", "int8", "int4", "int2", "binary", "binary > int8",
          "binary > rotate|int2", "svd:50%|float8 > int8", "rotate|int4 > float16",
          "truncate:16|int8 > truncate:24|int8 > int8"]  # fmt: skip
DIM = 32


def vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def cosine_top(matrix: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.argsort(-(unit @ query), kind="stable")[:k].tolist()


@pytest.fixture(params=["memory", "disk"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "kb" if request.param == "disk" else None


def snapshot(kb: octavo.Collection) -> list[octavo.Document]:
    return list(kb.documents())


# ------------------------------------------------------------------ add, get, search


def test_round_trip(where: Path | None) -> None:
    metadata = {
        "none": None, "yes": True, "int": 2**70, "float": 0.1, "nested": {"a": [1, {"b": None}], "": []},
        "unicode": "žluťoučký 🐎 \u0000 \ud7ff", "é": "key",
    }  # fmt: skip
    texts = ["", "x" * 1_000_000, "line\nbreak \u0000 nul"]
    with octavo.open(where) as kb:
        ids = kb.add(texts, ids=["", "b\u0000c", "š"], metadata=[metadata, None, {}], vectors=vectors(3))
        assert ids == ["", "b\u0000c", "š"]
        found = kb.get(["š", "", "missing", "b\u0000c"])
        assert [document.id for document in found] == ["š", "", "b\u0000c"]
        assert [document.text for document in found] == [texts[2], texts[0], texts[1]]
        assert found[1].metadata == metadata
        assert type(found[1].metadata["yes"]) is bool
        assert found[2].metadata == {}


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_before_and_after_fitting(codec: str, where: Path | None) -> None:
    matrix, queries = vectors(300), vectors(20, seed=1)
    with octavo.open(where, codec=codec, fit_after=200) as kb:
        ids = [str(number) for number in range(300)]
        kb.add([f"text {i}" for i in ids[:150]], ids=ids[:150], vectors=matrix[:150])
        assert not kb.info().fitted or codec == "float32"
        for query in queries:  # float32 until the codec is fitted: exact
            assert kb.search(query, 5).ids == [str(i) for i in cosine_top(matrix[:150], query, 5)]
        kb.add([f"text {i}" for i in ids[150:]], ids=ids[150:], vectors=matrix[150:])
        assert kb.info().fitted
        assert kb.codec == codec
        overlap = np.mean(
            [len(set(kb.search(q, 10).ids) & {str(i) for i in cosine_top(matrix, q, 10)}) / 10 for q in queries]
        )
        # Random directions are the hardest case there is: nothing separates the neighbours.
        floor = {
            "binary": 0.2,
            "binary > int8": 0.8,
            "float8-e5m2": 0.7,
            "int4": 0.7,
            "int2": 0.5,
            "binary > rotate|int2": 0.5,
            "truncate:16|int8 > truncate:24|int8 > int8": 0.6,
        }
        assert overlap >= floor.get(codec, 0.85)
        assert kb.verify().ok


def test_scores_are_the_cosine_and_dot_is_the_dot() -> None:
    matrix, query = vectors(50) * 3, vectors(1, seed=2)[0] * 7
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    with octavo.open(codec="float32") as kb:
        kb.add(vectors=matrix)
        expected = np.sort(unit @ (query / np.linalg.norm(query)))[::-1][:10]
        np.testing.assert_allclose(kb.search(query, 10).scores, expected, rtol=1e-5)
    with octavo.open(codec="float32", metric="dot") as kb:
        kb.add(vectors=matrix)
        np.testing.assert_allclose(kb.search(query, 10).scores, np.sort(matrix @ query)[::-1][:10], rtol=1e-5)


@pytest.mark.parametrize("codec", ["int8", "float8", "svd:50%|int8", "pca:50%|float8", "binary > int8"])
@pytest.mark.parametrize("length", [0.01, 1.0, 100.0])
def test_dot_scores_of_long_and_short_queries(codec: str, length: float) -> None:
    """Under 'dot' a query longer than the documents must not be clipped, nor a short one lose its digits."""
    rng = np.random.default_rng(0)
    matrix = (rng.standard_normal((300, 6)) @ rng.standard_normal((6, DIM)) + 0.3).astype(np.float32)
    query = (rng.standard_normal(6) @ rng.standard_normal((6, DIM))).astype(np.float32) * length
    with octavo.open(codec=codec, metric="dot", fit_after=100) as kb:
        kb.add(vectors=matrix, ids=[str(i) for i in range(300)])
        result = kb.search(query, 10)
        truth = matrix @ query
        spread = float(np.std(truth))
        np.testing.assert_allclose(result.scores, truth[[int(i) for i in result.ids]], atol=0.3 * spread)
        assert len(set(result.ids) & {str(i) for i in np.argsort(-truth)[:10]}) >= 8


def test_result_iterates_as_hits() -> None:
    with octavo.open() as kb:
        kb.add(["a", "b"], ids=["a", "b"], metadata=[{"n": 1}, {"n": 2}], vectors=[[1.0, 0], [0.6, 0.8]])
        result = kb.search([1, 0], k=5)
        assert len(result) == 2
        assert result.ids == ["a", "b"]
        assert [hit.id for hit in result] == ["a", "b"]
        assert result[0].text == "a"
        assert result[-1].metadata == {"n": 2}
        assert [hit.score for hit in result[:2]] == pytest.approx([1.0, 0.6])
        assert result.scores.dtype == np.float32
        assert [document.id for document in result.documents] == ["a", "b"]


def test_upsert_replaces_text_metadata_and_vector(where: Path | None) -> None:
    with octavo.open(where) as kb:
        kb.add(["old"], ids=["a"], metadata=[{"v": 1}], vectors=[[1.0, 0.0]])
        kb.add(["new"], ids=["a"], metadata=[{"w": 2}], vectors=[[0.0, 1.0]])
        assert len(kb) == 1
        result = kb.search([0.0, 1.0], 3)
        assert result.ids == ["a"]
        assert result.scores[0] == pytest.approx(1.0)
        assert result.documents == [octavo.Document("a", "new", {"w": 2})]
        assert kb.count({"v": 1}) == 0
        assert kb.count({"w": 2}) == 1
        assert kb.search("old", mode="text").ids == []
        assert kb.search("new", mode="text").ids == ["a"]


def test_documents_of_every_form() -> None:
    with octavo.open(encoder=lambda texts: np.ones((len(texts), 4), np.float32)) as kb:
        ids = kb.add(
            ["plain", octavo.Document("d", "document", {"n": 1}), {"text": "mapping", "id": "m", "metadata": {"n": 2}}]
        )
        assert ids[1:] == ["d", "m"]
        assert [d.text for d in kb.get(ids)] == ["plain", "document", "mapping"]
        assert [d.metadata for d in kb.get(ids)] == [{}, {"n": 1}, {"n": 2}]
        assert kb.add([octavo.Document("x", "t")], ids=["y"]) == ["y"]


def test_streams_are_read_in_batches() -> None:
    calls: list[int] = []

    def encoder(texts: list[str]) -> np.ndarray:
        calls.append(len(texts))
        return np.array([[len(text), 1.0] for text in texts])

    with octavo.open(encoder=encoder) as kb:
        assert kb.add((f"text {i}" for i in range(10)), batch_size=4, metadata=({"i": i} for i in range(10)))
        assert [size for size in calls if size != 1] == [4, 4, 2]
        assert len(kb) == 10
        assert kb.add([]) == []
        assert kb.add(iter(())) == []


def test_payloads() -> None:
    with octavo.open() as kb:
        kb.add(["a", "b"], ids=["a", "b"], vectors=vectors(2), payloads=["{}", None])
        assert kb.get_payloads(["b", "a", "c"]) == [None, "{}", None]
        result = kb.search(vectors(1)[0], 2)
        assert dict(zip(result.ids, result.payloads, strict=True)) == {"a": "{}", "b": None}


def test_get_vectors_and_contains() -> None:
    matrix = vectors(5)
    with octavo.open() as kb:
        kb.add(vectors=matrix, ids=list("abcde"))
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        np.testing.assert_allclose(kb.get_vectors(["d", "a"]), unit[[3, 0]], rtol=1e-6)
        assert kb.get_vectors([]).shape == (0, DIM)
        assert kb.contains(["a", "z"]) == [True, False]
        assert "a" in kb
        assert "z" not in kb
        with pytest.raises(DocumentNotFoundError, match="'z'"):
            kb.get_vectors(["a", "z"])


def test_results_never_alias() -> None:
    metadata = {"list": [1]}
    with octavo.open() as kb:
        kb.add(["t"], ids=["a"], metadata=[metadata], vectors=[[1.0, 0.0]])
        metadata["list"].append(2)
        first, second = kb.search_batch([[1.0, 0.0], [1.0, 0.0]], 1)
        first.documents[0].metadata["list"].append(3)
        assert second.documents[0].metadata == {"list": [1]}
        one, two = kb.get(["a", "a"])
        one.metadata["list"].append(4)
        assert two.metadata == kb.get(["a"])[0].metadata == {"list": [1]}


def test_search_batch_equals_search(where: Path | None) -> None:
    matrix, queries = vectors(500), vectors(30, seed=3)
    with octavo.open(where, codec="binary > int8", fit_after=100) as kb:
        kb.add([f"word{i % 7}" for i in range(500)], metadata=[{"i": i} for i in range(500)], vectors=matrix)
        for options in ({}, {"filter": {"i": {"$lt": 50}}}, {"lambda_mult": 0.5}, {"exact": True}):
            batch = kb.search_batch(queries, 7, **options)
            single = [kb.search(query, 7, **options) for query in queries]
            assert [r.ids for r in batch] == [r.ids for r in single]
            for a, b in zip(batch, single, strict=True):
                np.testing.assert_array_equal(a.scores, b.scores)
        texts = [f"word{i % 7}" for i in range(30)]
        batch = kb.search_batch(queries, 7, mode="hybrid", texts=texts)
        single = [kb.search(q, 7, mode="hybrid", text=t) for q, t in zip(queries, texts, strict=True)]
        assert [r.ids for r in batch] == [r.ids for r in single]
        assert kb.search_batch([], 3) == []


# ------------------------------------------------------------------ filters


@pytest.mark.parametrize("codec", ["float32", "binary > int8"])
@pytest.mark.parametrize("share", [1, 3, 10, 50, 100])
def test_a_filter_never_starves_a_query(codec: str, share: int) -> None:
    matrix, queries = vectors(2_000), vectors(5, seed=4)
    marks = np.random.default_rng(5).integers(0, 100, 2_000)
    with octavo.open(codec=codec, fit_after=100) as kb:
        kb.add(vectors=matrix, ids=[str(i) for i in range(2_000)], metadata=[{"m": int(m)} for m in marks])
        matching = np.flatnonzero(marks < share)
        assert kb.count({"m": {"$lt": share}}) == len(matching)
        for query in queries:
            result = kb.search(query, 40, filter={"m": {"$lt": share}})
            assert len(result) == min(40, len(matching))
            assert all(document.metadata["m"] < share for document in result.documents)
            if codec == "float32":
                top = matching[cosine_top(matrix[matching], query, 40)]
                assert result.ids == [str(i) for i in top]


def test_callable_filter_and_ids() -> None:
    with octavo.open() as kb:
        kb.add(list("abcd"), ids=list("abcd"), vectors=vectors(4))
        query = vectors(1, seed=9)[0]
        assert set(kb.search(query, filter=lambda document: document.text in "bc").ids) == {"b", "c"}
        assert set(kb.search(query, ids=["a", "b", "zz"], filter=lambda d: d.id != "a").ids) == {"b"}
        assert kb.search(query, ids=[]).ids == []
        assert kb.count(lambda d: d.id == "a") == 1


# ------------------------------------------------------------------ text and hybrid


def test_text_follows_upserts_deletes_and_compaction(where: Path | None) -> None:
    with octavo.open(where) as kb:
        kb.add(["red apples", "green pears"], ids=["a", "b"], vectors=vectors(2))
        assert kb.search("apple", mode="text").ids == ["a"]
        kb.add(["blue plums"], ids=["a"], vectors=vectors(1))
        assert kb.search("apple", mode="text").ids == []
        assert kb.search("plum", mode="text").ids == ["a"]
        kb.delete(["b"])
        assert kb.search("pear", mode="text").ids == []
        kb.compact()
        assert kb.search("plums", mode="text").ids == ["a"]
        assert kb.search('AND "plum* OR (-x:) ~^', mode="text").ids == ["a"]


def test_hybrid_ends_are_exact() -> None:
    matrix = vectors(300)
    with octavo.open() as kb:
        kb.add([f"w{i % 11} w{i % 13}" for i in range(300)], vectors=matrix)
        query, words = vectors(1, seed=6)[0], "w3 w5"
        text, dense = kb.search(words, 20, mode="text"), kb.search(query, 20)
        only_text = kb.search(query, 20, mode="hybrid", text=words, alpha=0)
        only_dense = kb.search(query, 20, mode="hybrid", text=words, alpha=1)
        assert only_text.ids == text.ids
        assert only_dense.ids == dense.ids
        np.testing.assert_array_equal(only_text.scores, text.scores)
        np.testing.assert_array_equal(only_dense.scores, dense.scores)
        fused = kb.search(query, 20, mode="hybrid", text=words)
        assert set(fused.ids) & set(text.ids[:5])
        assert set(fused.ids) & set(dense.ids[:5])
        assert (np.diff(fused.scores) <= 0).all()


def test_mmr_one_is_relevance_and_zero_is_diverse() -> None:
    close = np.array([[1.0, 0.01 * i, 0.0] for i in range(10)])
    apart = np.array([[0.7, 0.0, 0.7]])
    with octavo.open() as kb:
        kb.add(vectors=np.vstack([close, apart]), ids=[str(i) for i in range(11)])
        query = [1.0, 0.0, 0.0]
        assert kb.search(query, 4, lambda_mult=1.0).ids == kb.search(query, 4).ids
        assert "10" in kb.search(query, 2, lambda_mult=0.0, fetch_k=11).ids
        assert kb.search(query, 2, lambda_mult=0.0, fetch_k=11).ids[0] == "0"


# ------------------------------------------------------------------ delete, compact, refit, reopen


def test_delete(where: Path | None) -> None:
    with octavo.open(where) as kb:
        kb.add(list("abcdef"), ids=list("abcdef"), metadata=[{"n": i} for i in range(6)], vectors=vectors(6))
        assert kb.delete([]) == 0
        assert kb.delete(["zz"]) == 0
        assert kb.delete(["a", "zz", "a"]) == 1
        assert kb.delete(filter={"n": {"$gte": 4}}) == 2
        assert kb.delete(["b", "c"], filter={"n": 2}) == 1
        assert sorted(kb.ids()) == ["b", "d"]
        assert sorted(kb.search(vectors(1)[0], 10).ids) == ["b", "d"]
        with pytest.raises(ParameterError, match="clear"):
            kb.delete()
        with pytest.raises(ParameterError, match="clear"):
            kb.delete(filter={})
        assert kb.clear() == 2
        assert kb.clear() == 0
        assert len(kb) == 0
        assert kb.search(vectors(1)[0], 3).ids == []
        assert kb.search("a", mode="text").ids == []
        kb.add(["g"], ids=["g"], vectors=vectors(1))
        assert kb.search(vectors(1)[0], 3).ids == ["g"]
        assert kb.verify().ok


@pytest.mark.parametrize("codec", ["int8", "svd:50%|float8 > int8"])
def test_compact_and_refit_keep_answers(codec: str, where: Path | None) -> None:
    matrix, queries = vectors(400), vectors(10, seed=7)
    with octavo.open(where, codec=codec, fit_after=100) as kb:
        kb.add(vectors=matrix, ids=[str(i) for i in range(400)], metadata=[{"i": i} for i in range(400)])
        kb.delete([str(i) for i in range(0, 400, 2)])
        before = [kb.search(query, 5) for query in queries]
        assert kb.info().dead_slots == 200
        assert kb.compact() == 200
        assert kb.compact() == 0
        after = [kb.search(query, 5) for query in queries]
        assert [r.ids for r in before] == [r.ids for r in after]
        assert kb.info().dead_slots == 0
        assert kb.count({"i": {"$lt": 100}}) == 50
        assert kb.search(queries[0], 3, filter={"i": 7}).ids == ["7"]
        kb.refit("float16")
        assert kb.codec == "float16"
        assert kb.search(queries[0], 1).ids == before[0].ids[:1]
        assert kb.verify().ok


def test_fit_and_refit_need_documents() -> None:
    with octavo.open(codec="int8") as kb, pytest.raises(ParameterError, match="empty"):
        kb.fit()


def test_fit_now(where: Path | None) -> None:
    with octavo.open(where, codec="int8") as kb:
        kb.add(vectors=vectors(20))
        assert not kb.info().fitted
        assert kb.info().vector_bytes_per_document == 4 * DIM
        kb.fit()
        assert kb.info().fitted
        assert kb.info().vector_bytes_per_document == DIM


@pytest.mark.parametrize("codec", CODECS)
def test_reopen(codec: str, tmp_path: Path) -> None:
    matrix, queries = vectors(300), vectors(10, seed=8)
    with octavo.open(tmp_path / "kb", codec=codec, fit_after=100) as kb:
        kb.add([f"text {i}" for i in range(300)], metadata=[{"i": i} for i in range(300)], vectors=matrix)
        kb.delete(filter={"i": {"$lt": 10}})
        expected = [(r.ids, r.scores.tolist()) for r in kb.search_batch(queries, 5)]
        words = kb.search("text 77", 3, mode="text").ids
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        assert kb.codec == codec
        assert [(r.ids, r.scores.tolist()) for r in kb.search_batch(queries, 5)] == expected
        assert kb.search("text 77", 3, mode="text").ids == words
        assert len(kb) == 290
        assert kb.verify().ok
        kb.add(vectors=vectors(1), ids=["more"])
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert "more" in kb
        assert kb.search("text 77", 3, mode="text").ids == words
        with pytest.raises(ReadOnlyError):
            kb.add(vectors=vectors(1))
        with pytest.raises(ReadOnlyError):
            kb.delete(["more"])


def test_copy_and_destroy(where: Path | None, tmp_path: Path) -> None:
    with octavo.open(where, codec="int8", fit_after=10) as kb:
        kb.add([f"t{i}" for i in range(50)], ids=[str(i) for i in range(50)], vectors=vectors(50))
        kb.delete(["3"])
        query = vectors(1, seed=1)[0]
        for target in (None, tmp_path / "deep" / "copy"):
            with kb.copy(target) as copy:
                assert copy.ids() == kb.ids()
                assert copy.search(query, 5).ids == kb.search(query, 5).ids
                assert copy.search("t7", 1, mode="text").ids == ["7"]
                assert copy.verify().ok
                copy.add(vectors=vectors(1), ids=["only in the copy"])
                assert "only in the copy" not in kb
        with pytest.raises(ParameterError, match="copy"):
            kb.copy(tmp_path / "deep" / "copy")
    if where is not None:
        (where / "mine.txt").write_text("keep me")
        octavo.open(where).destroy()
        assert [entry.name for entry in where.iterdir()] == ["mine.txt"]


# ------------------------------------------------------------------ bad input changes nothing


class _Stream:
    """Iterates anew each time, but has no length."""

    def __init__(self, values: list[object]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[object]:
        return iter(self._values)


class _Table:
    """What tables of pandas, Polars and PyArrow have in common; to iterate over one gives the names of its columns."""

    columns = ("id", "text")
    shape = (1, 2)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return 1


def _bad_adds() -> list[tuple[str, dict[str, object], type[OctavoError], str]]:
    nan, inf = vectors(2), vectors(2)
    nan[1, 3], inf[0, 0] = math.nan, math.inf
    return [
        ("nan", {"vectors": nan}, InvalidVectorsError, "row 1"),
        ("infinity", {"vectors": inf}, InvalidVectorsError, "row 0"),
        ("dimension", {"vectors": np.ones((2, 5))}, InvalidVectorsError, "dimension 32, got 5"),
        ("one axis", {"vectors": np.ones(32)}, OctavoError, "expected"),
        ("text for numbers", {"vectors": [["a"] * DIM] * 2}, InputTypeError, "numbers"),
        ("ragged", {"vectors": [[1.0], [1.0, 2.0]]}, InvalidVectorsError, "expected vectors"),
        ("short ids", {"vectors": vectors(2), "ids": ["a"]}, ParameterError, "1 ids"),
        ("short metadata", {"vectors": vectors(2), "metadata": [{}]}, ParameterError, "1 metadata"),
        ("short id stream", {"vectors": vectors(2), "ids": _Stream(["x"])}, ParameterError, "ended after 1"),
        ("twice", {"vectors": vectors(2), "ids": ["a", "a"]}, ParameterError, "'a' twice"),
        ("id type", {"vectors": vectors(2), "ids": ["a", 3]}, InputTypeError, "int"),
        ("surrogate id", {"vectors": vectors(2), "ids": ["a", "\ud800"]}, ParameterError, "surrogate"),
        ("single id", {"vectors": vectors(2), "ids": "ab"}, InputTypeError, "single str"),
        ("metadata type", {"vectors": vectors(2), "metadata": [{}, 3]}, InputTypeError, "mapping"),
        ("one mapping", {"vectors": vectors(2), "metadata": {"a": 1}}, InputTypeError, "single mapping"),
        ("set", {"vectors": vectors(2), "metadata": [{}, {"a": {1}}]}, InputTypeError, "set"),
        ("key", {"vectors": vectors(2), "metadata": [{}, {"a": {1: 2}}]}, InputTypeError, "keys"),
        ("nan in metadata", {"vectors": vectors(2), "metadata": [{}, {"a": math.nan}]}, ParameterError, "finite"),
        ("array", {"vectors": vectors(2), "metadata": [{}, {"a": np.ones(2)}]}, InputTypeError, "ndarray .* under 'a'"),
        (
            "bytes",
            {"vectors": vectors(2), "metadata": [{}, {"a": {"b": b"x"}}]},
            InputTypeError,
            r"bytes .* under 'a\.b'",
        ),
        (
            "surrogate key",
            {"vectors": vectors(2), "metadata": [{}, {"\ud800": 1}]},
            ParameterError,
            "document 1.*surrogate",
        ),
        (
            "surrogate value",
            {"vectors": vectors(2), "metadata": [{}, {"a": [{"b": "x\ud800"}]}]},
            ParameterError,
            r"metadata of document 1 under 'a\.b'.*surrogate",
        ),
        ("surrogate payload", {"vectors": vectors(1), "payloads": ["\ud800"]}, ParameterError, "payload of document 0"),
        (
            "table",
            {"documents": _Table(), "vectors": vectors(1)},
            InputTypeError,
            "'id', 'text'.*column that holds the texts",
        ),
        ("table of ids", {"vectors": vectors(1), "ids": _Table()}, InputTypeError, "column that holds them"),
        ("table of metadata", {"vectors": vectors(1), "metadata": _Table()}, InputTypeError, "rows as dicts"),
        ("text type", {"documents": ["a", 3], "vectors": vectors(2)}, InputTypeError, "text of document 1"),
        ("one text", {"documents": "abc", "vectors": vectors(3)}, InputTypeError, "single str"),
        ("odd mapping", {"documents": [{"txt": "a"}], "vectors": vectors(1)}, ParameterError, "'text'"),
        ("nothing", {}, OctavoError, "expected"),
        ("no encoder", {"documents": ["a"]}, ParameterError, "encoder"),
        ("batch size", {"vectors": vectors(2), "batch_size": 0}, ParameterError, "batch_size"),
        ("payload", {"vectors": vectors(1), "payloads": [3]}, InputTypeError, "payload"),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "match"), [case[1:] for case in _bad_adds()], ids=[c[0] for c in _bad_adds()]
)
def test_bad_add_changes_nothing(
    where: Path | None, arguments: dict[str, object], error: type[OctavoError], match: str
) -> None:
    with octavo.open(where) as kb:
        kb.add(["kept"], ids=["kept"], vectors=vectors(1, seed=9))
        before, commits = snapshot(kb), kb.info().commits
        with pytest.raises(error, match=match):
            kb.add(**arguments)  # type: ignore[arg-type]
        assert snapshot(kb) == before
        assert kb.info().commits == commits
        assert kb.verify().ok


def test_a_bad_document_late_in_a_sized_input_changes_nothing() -> None:
    matrix = vectors(3_000)
    matrix[2_999, 1] = math.nan
    with octavo.open() as kb:
        with pytest.raises(InvalidVectorsError, match="row 2999"):
            kb.add(vectors=matrix)
        assert len(kb) == 0


def test_bad_searches() -> None:
    with octavo.open() as kb:
        assert kb.search(vectors(1)[0], 3).ids == []
        kb.add(["a"], ids=["a"], vectors=vectors(1))
        query = vectors(1)[0]
        for arguments, error, match in [
            ({"query": query, "k": 0}, ParameterError, "at least 1"),
            ({"query": query, "k": 1.5}, ParameterError, "integer"),
            ({"query": query, "k": True}, ParameterError, "integer"),
            ({"query": query[:5]}, InvalidVectorsError, "dimension 32, got 5"),
            ({"query": query * math.nan}, InvalidVectorsError, "NaN"),
            ({"query": "words"}, ParameterError, "without an encoder"),
            ({"query": query, "mode": "sparsely"}, ParameterError, "'sparsely'"),
            ({"query": query, "mode": "text"}, ParameterError, "words"),
            ({"query": query, "mode": "hybrid"}, ParameterError, "words"),
            ({"query": query, "alpha": 0.5}, ParameterError, "hybrid"),
            ({"query": query, "text": "a"}, ParameterError, "mode"),
            ({"query": query, "mode": "hybrid", "text": "a", "alpha": 1.5}, ParameterError, "between 0 and 1"),
            ({"query": query, "lambda_mult": -1}, ParameterError, "between 0 and 1"),
            ({"query": query, "fetch_k": 5}, ParameterError, "fetch_k"),
            ({"query": query, "oversample": 0.5}, ParameterError, "oversample"),
            ({"query": query, "ef": 0}, ParameterError, "ef"),
            ({"query": query, "ids": "a"}, InputTypeError, "list of str"),
            ({"query": query, "filter": {"a": {"$near": 1}}}, InvalidFilterError, "near"),
            ({"query": query, "filter": 7}, InvalidFilterError, "filter"),
        ]:
            with pytest.raises(error, match=match):
                kb.search(**arguments)
        with pytest.raises(TypeError, match="nprobe"):
            kb.search(query, nprobe=3)  # type: ignore[call-arg]
        with pytest.raises(InputTypeError, match="single str"):
            kb.search_batch("words")


def test_unknown_options_and_paths(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="quantizer"):
        octavo.open(quantizer="int8")  # type: ignore[call-arg]
    for arguments, match in [
        ({"codec": "int9"}, "int9"),
        ({"metric": "l2"}, "'l2'"),
        ({"dim": 0}, "dim"),
        ({"fit_after": -1}, "fit_after"),
        ({"lock_timeout": -1}, "lock_timeout"),
        ({"full_text": "klingon"}, "klingon"),
    ]:
        with pytest.raises(ParameterError, match=match):
            octavo.open(tmp_path / "never", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "never").exists()
    with pytest.raises(CollectionNotFoundError, match="never"):
        octavo.open(tmp_path / "never", must_exist=True)
    with pytest.raises(CollectionNotFoundError):
        octavo.open(tmp_path / "never", read_only=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ParameterError, match="file"):
        octavo.open(tmp_path / "file")
    with pytest.raises(InputTypeError, match="int"):
        octavo.open(3)  # type: ignore[arg-type]


def test_mismatch_on_open(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", codec="binary>int8", metric="cosine") as kb:
        kb.add(vectors=vectors(3))
    with octavo.open(tmp_path / "kb", codec="binary > int8"):
        pass
    for arguments, match in [
        ({"codec": "int8"}, "'binary > int8', got 'int8'"),
        ({"metric": "dot"}, "metric='cosine'"),
        ({"dim": 7}, "dim=32"),
        ({"full_text": "german"}, "full_text"),
    ]:
        with pytest.raises(MismatchError, match=match):
            octavo.open(tmp_path / "kb", **arguments)  # type: ignore[arg-type]


def test_closed() -> None:
    kb = octavo.open()
    kb.close()
    kb.close()
    assert kb.closed
    assert "closed" in repr(kb)
    for call in (
        lambda: kb.add(vectors=vectors(1)),
        lambda: kb.search(vectors(1)[0]),
        lambda: len(kb),
        kb.info,
        kb.flush,
    ):
        with pytest.raises(CollectionClosedError):
            call()


# ------------------------------------------------------------------ encoders


class Bag:
    """A tiny deterministic model: counts of letters."""

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift
        self.name = f"bag-{shift}"

    def encode_documents(self, texts: list[str]) -> np.ndarray:
        rows = [[text.count(chr(97 + (i + self.shift) % 26)) + 0.01 for i in range(26)] for text in texts]
        return np.array(rows)

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return self.encode_documents([text.removeprefix("query: ") for text in texts])


def test_encoder_fingerprint(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", Bag()) as kb:
        kb.add(["apple", "zebra"], ids=["a", "z"])
        assert kb.search("query: zbr", 1).ids == ["z"]
        assert kb.info().encoder == "bag-0"
    with octavo.open(tmp_path / "kb", Bag()) as kb:
        assert kb.search("apl", 1).ids == ["a"]
    with octavo.open(tmp_path / "kb", Bag(3)) as kb, pytest.raises(MismatchError, match=r"'bag-0'.*'bag-3'"):
        kb.search("apl", 1)
    with (
        octavo.open(tmp_path / "kb", lambda texts: np.ones((len(texts), 2))) as kb,
        pytest.raises(MismatchError, match=r"dimension 26.*dimension 2"),
    ):
        kb.add(["new"])
    with octavo.open(tmp_path / "kb") as kb:  # vectors alone need no encoder
        assert kb.info().encoder == "bag-0"
        assert kb.search(Bag().encode_queries(["apl"])[0], 1).ids == ["a"]


def test_framework_encoders() -> None:
    class LangChainLike:
        model_name = "lc"

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return Bag().encode_documents(texts).tolist()

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    class LlamaLike:
        model_name = "li"

        def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
            return Bag().encode_documents(texts).tolist()

        def get_query_embedding(self, text: str) -> list[float]:
            return self.get_text_embedding_batch([text])[0]

    for encoder in (LangChainLike(), LlamaLike()):
        with octavo.open(encoder=encoder) as kb:
            kb.add(["apple", "zebra"], ids=["a", "z"])
            assert kb.search("zb", 1).ids == ["z"]
            assert kb.info().encoder == encoder.model_name
    for wrong in (3, Bag):
        with pytest.raises(InputTypeError, match="encoder"):
            octavo.open(encoder=wrong)


def test_bad_encoder_changes_nothing() -> None:
    with octavo.open(encoder=lambda texts: np.full((len(texts), 3), np.nan)) as kb:
        with pytest.raises(InvalidVectorsError, match="NaN"):
            kb.add(["a"])
        assert len(kb) == 0
    with octavo.open(encoder=lambda texts: np.ones((1, 3))) as kb:
        with pytest.raises(InvalidVectorsError, match="expected 2 vectors"):
            kb.add(["a", "b"])
        assert len(kb) == 0


# ------------------------------------------------------------------ threads


@pytest.mark.slow
def test_threads_see_whole_batches(where: Path | None) -> None:
    """Readers never see part of a batch, nor miss a document while it is being replaced."""
    matrix = vectors(20)
    stop = threading.Event()
    problems: list[str] = []
    with octavo.open(where, fit_after=150) as kb:
        kb.add(vectors=matrix, ids=[str(i) for i in range(20)], metadata=[{"round": 0}] * 20)

        def read() -> None:
            while not stop.is_set():
                result = kb.search(matrix[0], 400)
                rounds = {d.metadata["round"] for d in result.documents if not d.id.startswith("extra")}
                names = {i for i in result.ids if not i.startswith("extra")}
                if len(rounds) != 1 or names != {str(i) for i in range(20)}:
                    problems.append(f"{rounds} {len(names)}")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(1, 25):
            kb.add(vectors=matrix, ids=[str(i) for i in range(20)], metadata=[{"round": number}] * 20)
            kb.add(vectors=-matrix[:8], ids=[f"extra {number} {i}" for i in range(8)], metadata=[{"round": -1}] * 8)
            if number % 10 == 0:
                kb.compact()
        stop.set()
        for reader in readers:
            reader.join()
        assert not problems
        assert len(kb) == 20 + 24 * 8
        assert kb.verify().ok


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_table_is_no_list_of_documents(library: str) -> None:
    module = pytest.importorskip(library)
    columns = {"id": ["a", "b"], "text": ["one", "two"]}
    table = module.table(columns) if library == "pyarrow" else module.DataFrame(columns)
    with octavo.open() as kb:
        with pytest.raises(InputTypeError, match=r"'id', 'text'; give the column that holds the texts"):
            kb.add(table, vectors=vectors(2))
        if library == "pyarrow":
            kb.add(table["text"].to_pylist(), ids=table["id"].to_pylist(), vectors=vectors(2))
        else:
            kb.add(table["text"], ids=table["id"], vectors=vectors(2))
        assert [document.text for document in kb.get(["a", "b"])] == ["one", "two"]


def test_ids_that_differ_by_a_trailing_nul_are_two(where: Path | None) -> None:
    ids = ["a", "a\x00", "a\x00\x00"]
    with octavo.open(where) as kb:
        assert kb.add(["one", "two", "three"], ids=ids, vectors=vectors(3)) == ids
        assert kb.ids() == ids
        assert [kb.search(vector, 1).ids for vector in vectors(3)] == [[identifier] for identifier in ids]
        assert kb.delete(["a\x00"]) == 1
        assert kb.contains(ids) == [True, False, True]
        assert kb.verify().ok


def test_ids_of_str_subclasses_are_plain(where: Path | None) -> None:
    class Name(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
        FIRST = "first"

    with octavo.open(where) as kb:
        assert [type(identifier) for identifier in kb.add([Name.FIRST], ids=[Name.FIRST], vectors=vectors(1))] == [str]
        assert kb.get([Name.FIRST])[0].text == "first"
        kb.add(["x"], ids=["x"], metadata=[{Name.FIRST: Name.FIRST}], vectors=vectors(1, seed=1))
        assert kb.ids(filter={"first": "first"}) == kb.ids(filter={Name.FIRST: Name.FIRST}) == ["x"]
        assert kb.verify().ok


def test_a_document_beyond_what_the_database_holds_is_refused(
    where: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LARGEST_DOCUMENT < 1_000_000_000  # SQLite's own limit for a row
    monkeypatch.setattr("octavo.store.documents.LARGEST_DOCUMENT", 1_000)
    with octavo.open(where) as kb:
        kb.add(["ä" * 450], vectors=vectors(1))
        with pytest.raises(
            ParameterError, match=r"document 1: expected at most 1,000 bytes in all.*its text has 1,200"
        ):
            kb.add(["fine", "ä" * 600], vectors=vectors(2))
        assert len(kb) == 1


def test_booleans_are_not_numbers_to_filters(where: Path | None) -> None:
    with octavo.open(where) as kb:
        kb.add(["a", "b", "c"], ids=["t", "1", "f"], metadata=[{"x": True}, {"x": 1}, {"x": False}], vectors=vectors(3))
        for _ in range(2):  # the second time, answers are remembered
            assert kb.ids(filter={"x": True}) == ["t"]
            assert kb.ids(filter={"x": 1}) == ["1"]
            assert kb.ids(filter={"x": {"$in": [0, 1]}}) == ["1"]
            assert kb.ids(filter={"x": {"$gte": 0}}) == ["1"]
            assert kb.ids(filter=Compare("x", "==", 1)) == ["t", "1"]  # a field that is not typed, as in Python
            assert kb.ids(filter=Compare("x", "==", True)) == ["t", "1"]


# ------------------------------------------------------------------ vectors of zeros


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("codec", ["float32", "int8", "binary", "binary > int8", "svd:50%|float8 > int8"])
@pytest.mark.parametrize("n", [40, 1500])
def test_vectors_of_zeros_have_the_score_0(codec: str, metric: Literal["cosine", "dot"], n: int) -> None:
    given = vectors(n, seed=3)
    given[5] = 0
    with octavo.open(codec=codec, metric=metric, fit_after=30) as kb:
        numbers = range(n)
        kb.add([f"word {i}" for i in numbers], [str(i) for i in numbers], [{"m": i % 4} for i in numbers], given)
        nothing = np.zeros(DIM)
        for filter, matching in ((None, n), ({"m": 1}, n // 4)):
            found = kb.search(nothing, 12, filter=filter)
            assert len(set(found.ids)) == min(12, matching)
            assert found.scores.tolist() == [0.0] * len(found)
            assert all(document.metadata["m"] == 1 for document in found.documents) or filter is None
        assert len(kb.search(nothing, 3, lambda_mult=0.5)) == 3
        assert len(kb.search(nothing, 3, mode="hybrid", text="word")) == 3
        assert kb.search_batch(np.stack([nothing, given[0]]), 1)[1].ids == kb.search(given[0], 1).ids
        assert kb.count() == n
        if codec != "binary":  # bits know no zero
            whole = kb.search(given[0], n, exact=True)
            assert abs(dict(zip(whole.ids, whole.scores, strict=True))["5"]) < 0.02
        assert kb.verify().ok
