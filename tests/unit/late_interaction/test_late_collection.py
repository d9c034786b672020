"""Multi-vector collections behave as collections do: writing, deleting, reopening, fitting, compacting, copying."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.compression.token_pooling import TokenPooling
from octavo.errors import (
    CodecError,
    DocumentNotFoundError,
    InputTypeError,
    InvalidVectorsError,
    MismatchError,
    ParameterError,
)

Words = Callable[[list[str]], list[Any]]


def test_exact_before_and_after_the_fit(world: Any, place: Path | None) -> None:
    with octavo.open_multi_vector(place, codec="int8", pool_factor=1, fit_after=10_000) as kb:
        world.add_to(kb)
        assert not kb.info().fitted
        for tolerance in (2e-3, 0.05):
            for query in world.queries:
                expected = dict(world.ranking(query))
                result = kb.search(query, 10)
                best = sorted(expected.values(), reverse=True)[:10]
                np.testing.assert_allclose(result.scores, best, atol=tolerance)
                np.testing.assert_allclose(result.scores, [expected[i] for i in result.ids], atol=tolerance)
            kb.fit()
        assert kb.info().fitted
        assert kb.verify().ok


@pytest.mark.parametrize(
    "codec",
    [
        "float32",
        "svd:20|int8",
        "rotate|int4",
        "rotate|int2",
        "svd:20|rotate|int2",
        "pca:20|float16",
        "truncate:20|float8",
    ],
)
def test_every_codec_finds_the_document_itself(world: Any, codec: str) -> None:
    with octavo.open_multi_vector(codec=codec, pool_factor=1, fit_after=100) as kb:
        world.add_to(kb)
        assert kb.codec == str(octavo.compression.Codec.parse(codec))
        long = [number for number in range(200) if len(world.tokens[number]) > 3]
        found = [kb.search(world.tokens[number], 1, exact=True).ids[0] for number in long]
        assert found == [world.ids[number] for number in long]


def test_upsert_delete_reopen(world: Any, tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open_multi_vector(path, pool_factor=1, fit_after=100) as kb:
        world.add_to(kb)
        kb.add(["new text"], ids=["d3"], token_vectors=[world.tokens[7]])
        assert kb.delete(["d7", "unknown"]) == 1
        assert len(kb) == 399
    with octavo.open(path) as again:  # the ordinary way to open finds out what it is
        assert isinstance(again, octavo.MultiVectorCollection)
        assert again.search(world.tokens[7], 1).ids == ["d3"]
        assert again.search(world.tokens[7], 1).documents[0].text == "new text"
        assert "d7" not in again.search(world.tokens[7], 50).ids
        assert len(again.get_token_vectors(["d3"])[0]) == len(world.tokens[7])
        assert again.verify().ok


def test_compact_keeps_every_answer(world: Any, place: Path | None) -> None:
    with octavo.open_multi_vector(place, pool_factor=1, fit_after=100) as kb:
        world.add_to(kb)
        kb.delete(world.ids[::2])
        before = [(r.ids, r.scores.tolist()) for r in kb.search_batch(world.queries, 10)]
        tokens = kb.info().tokens
        assert kb.compact() == 200
        assert [(r.ids, r.scores.tolist()) for r in kb.search_batch(world.queries, 10)] == before
        assert tokens is not None
        assert kb.info().tokens["count"] < tokens["count"]  # type: ignore[index]
        assert kb.compact() == 0
        assert kb.verify().ok


def test_refit_changes_the_codec(world: Any, place: Path | None) -> None:
    with octavo.open_multi_vector(place, codec="int8", pool_factor=1, fit_after=100) as kb:
        world.add_to(kb)
        kb.delete(["d0"])
        wide = kb.info().tokens["row_bytes"]  # type: ignore[index]
        kb.refit("svd:16|int8")
        assert (wide, kb.info().tokens["row_bytes"]) == (DIM_BYTES, 16)  # type: ignore[index]
        assert kb.codec == "svd:16|int8"
        assert kb.search(world.tokens[4], 1).ids == ["d4"]
        with pytest.raises(CodecError, match="one tier"):
            kb.refit("int8 > float32")
        assert kb.verify().ok


DIM_BYTES = 24


def test_copy(world: Any, place: Path | None, tmp_path: Path) -> None:
    with octavo.open_multi_vector(place, pool_factor=1, fit_after=100) as kb:
        world.add_to(kb)
        expected = [(r.ids, r.scores.tolist()) for r in kb.search_batch(world.queries, 5)]
        for target in (None, tmp_path / "copy"):
            with kb.copy(target) as copied:
                assert isinstance(copied, octavo.MultiVectorCollection)
                assert [(r.ids, r.scores.tolist()) for r in copied.search_batch(world.queries, 5)] == expected
                copied.add(["more"], ids=["more"], token_vectors=[world.queries[0]])
                assert copied.search(world.queries[0], 1).ids == ["more"]
                assert copied.verify().ok
        assert "more" not in kb


def test_two_processes_worth_of_objects(world: Any, tmp_path: Path) -> None:
    """A second object on the same directory sees adds, fits, deletes and compactions of the first."""
    path = tmp_path / "kb"
    with octavo.open_multi_vector(path, pool_factor=1, fit_after=300) as writer, octavo.open(path) as reader:
        world.add_to(writer, range(100))
        assert reader.search(world.tokens[50], 1).ids == ["d50"]
        world.add_to(writer, range(100, 400))
        assert reader.search(world.tokens[350], 1).ids == ["d350"]
        writer.delete(world.ids[:100])
        writer.compact()
        assert len(reader) == 300
        assert reader.search(world.tokens[350], 1).ids == ["d350"]
        assert reader.verify().ok


def test_documents_without_tokens(world: Any) -> None:
    with octavo.open_multi_vector(pool_factor=1, fit_after=10, dim=24) as kb:
        kb.add(["only words"] * 12, ids=[f"empty{i}" for i in range(12)], token_vectors=[[]] * 12)
        assert kb.search(world.queries[0], 5).ids == []
        assert not kb.info().fitted  # there is nothing to learn from
        world.add_to(kb, range(50))
        assert kb.info().fitted
        result = kb.search(world.queries[0], 100)
        assert len(result) == 50
        assert np.isfinite(result.scores).all()
        assert len(kb.search("only words", 20, mode="text")) == 12
        assert kb.search(world.queries[0], 5, filter={"missing": 1}).ids == []
        assert kb.get_token_vectors(["empty0"])[0].shape == (0, 24)
        assert kb.verify().ok


def test_pooling_happens_on_the_way_in(world: Any) -> None:
    pooling = TokenPooling(n_vectors=3)
    with octavo.open_multi_vector(pooling=pooling, codec="float32", fit_after=10_000) as kb:
        world.add_to(kb)
        assert kb.pooling == pooling
        stored = kb.get_token_vectors(world.ids)
        for matrix, expected in zip(stored, pooling.pool(world.tokens), strict=True):
            np.testing.assert_allclose(matrix, expected, atol=1e-6)
        assert max(map(len, stored)) == 3


def test_an_encoder_makes_the_tokens(words: Words, tmp_path: Path) -> None:
    path = tmp_path / "kb"
    texts = [f"alpha beta{i} gamma{i % 3}" for i in range(40)]
    with octavo.open_multi_vector(path, octavo.TokenEncoder(words, name="words"), pool_factor=1, fit_after=30) as kb:
        kb.add(texts, ids=[str(i) for i in range(40)])
        assert kb.search("beta17", 1).ids == ["17"]
        assert [r.ids for r in kb.search_batch(["beta3", "beta4"], 1)] == [["3"], ["4"]]
        assert kb.info().encoder == "words"
        assert kb.search("beta17", 1, mode="hybrid").ids == ["17"]

    def others(given: list[str]) -> list[Any]:
        return words([text[::-1] for text in given])

    with octavo.open(path, others) as kb:
        for ask in (lambda: kb.search("beta17", 1), lambda: kb.add(["new"]), lambda: kb.verify(repair=True)):
            with pytest.raises(MismatchError, match=r"words.*others"):
                ask()
        assert len(kb) == 40
    with octavo.open(path) as kb, pytest.raises(ParameterError, match="without an encoder"):
        kb.search("beta17", 1)


def test_settings_are_checked_on_opening(world: Any, tmp_path: Path, words: Words) -> None:
    late, plain = tmp_path / "late", tmp_path / "plain"
    with octavo.open_multi_vector(late, codec="int8") as kb:
        world.add_to(kb, range(5))
    with octavo.open(plain) as kb:
        kb.add(["a"], vectors=[[1.0, 0.0]])
    with octavo.open_multi_vector(late, codec="int8", pool_factor=2, candidates="mean") as kb:
        assert len(kb) == 5
    for options in ({"pool_factor": 3}, {"codec": "float8"}, {"candidates": "random-features"}, {"seed": 4}):
        with pytest.raises(MismatchError):
            octavo.open_multi_vector(late, **options)  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="one vector a document"):
        octavo.open_multi_vector(plain)
    with pytest.raises(MismatchError, match="one vector a document"):
        octavo.open(plain, octavo.TokenEncoder(words))
    with octavo.open(late, words) as kb:
        assert isinstance(kb.encoder, octavo.TokenEncoder)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"codec": "int8 > float32"}, CodecError),
        ({"codec": "nonsense"}, CodecError),
        ({"pool_factor": 0}, ParameterError),
        ({"pool_factor": 2, "pooling": TokenPooling(factor=2)}, ParameterError),
        ({"pooling": 2}, InputTypeError),
        ({"candidates": "nonsense"}, CodecError),
        ({"candidates": 3}, InputTypeError),
        ({"encoder": 7}, InputTypeError),
        ({"must_exist": True}, FileNotFoundError),
    ],
)
def test_bad_settings(tmp_path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        octavo.open_multi_vector(tmp_path / "kb", **options)
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([[[1.0, 0.0]], [[1.0, 0.0, 0.0]]], InvalidVectorsError, "dimension"),
        ([[[1.0, 0.0]], [[1.0, np.nan]]], InvalidVectorsError, "finite"),
        ([[[1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]], InvalidVectorsError, "zero vector: row 1 of document 1"),
        ([[[1.0, 0.0]], [[1.0, 0.0], [0.0]]], InvalidVectorsError, "ragged"),
        ([[[1.0, 0.0]], [1.0, 0.0]], InvalidVectorsError, "shape"),
        ([[[1.0, 0.0]]], ParameterError, "2 documents, 1 token_vectors"),
        ([[["a", "b"]], [["c", "d"]]], InputTypeError, "numbers"),
        ([[], []], InvalidVectorsError, "dimension"),
    ],
)
def test_bad_token_vectors(tokens: Any, error: type[Exception], message: str) -> None:
    with octavo.open_multi_vector() as kb:
        with pytest.raises(error, match=message):
            kb.add(["a", "b"], token_vectors=tokens)
        assert len(kb) == 0
        kb.add(["a", "b"], token_vectors=[[[1.0, 0.0]], [[0.0, 1.0]]])
        with pytest.raises(InvalidVectorsError, match="dimension 2, got 3"):
            kb.add(["c"], token_vectors=[[[1.0, 0.0, 0.0]]])


def test_bad_calls(world: Any) -> None:
    with octavo.open_multi_vector() as kb:
        world.add_to(kb, range(5))
        with pytest.raises(ParameterError, match="token_vectors"):
            kb.add(["a"], vectors=[[1.0] * 24])
        with pytest.raises(ParameterError, match="without an encoder"):
            kb.add(["a"])
        with pytest.raises(ParameterError, match="ended after 1"):
            kb.add(iter(["a", "b"]), token_vectors=iter([world.tokens[0]]))
        with pytest.raises(ParameterError, match="documents ended after 1"):
            kb.add(iter(["a"]), token_vectors=iter(world.tokens[:2]))
        with pytest.raises(DocumentNotFoundError):
            kb.get_token_vectors(["unknown"])
        with pytest.raises(DocumentNotFoundError):
            kb.explain(world.queries[0], "unknown")
        assert kb.get_token_vectors([]) == []


def test_streams_of_documents_and_tokens(world: Any) -> None:
    with octavo.open_multi_vector(pool_factor=1, fit_after=100) as kb:
        kb.add(iter(world.texts), ids=iter(world.ids), token_vectors=iter(world.tokens), batch_size=64)
        assert len(kb) == 400
        assert kb.search(world.tokens[250], 1).ids == ["d250"]


def test_token_vectors_alone(world: Any) -> None:
    with octavo.open_multi_vector(pool_factor=1) as kb:
        ids = kb.add(token_vectors=world.tokens[:10])
        assert kb.search(world.tokens[4], 1).ids == [ids[4]]


def test_explain(words: Words) -> None:
    encoder = Splitting(words)
    with octavo.open_multi_vector(encoder=encoder, pool_factor=1) as kb:
        kb.add(["red green blue", "black white"], ids=["colours", "grey"])
        why = kb.explain("green unknown", "colours")
        assert why.similarities.shape == (2, 3)
        assert why.query_tokens == ["green", "unknown"]
        assert why.document_tokens == ["red", "green", "blue"]
        assert why.best[0] == 1
        assert why.score == pytest.approx(kb.search("green unknown", 1).scores[0], abs=1e-3)
        assert kb.explain("green", "grey").similarities.shape == (1, 2)
    with octavo.open_multi_vector(encoder=encoder, pooling=TokenPooling(n_vectors=2)) as kb:
        kb.add(["red red green"], ids=["colours"])
        why = kb.explain("green", "colours")
        assert why.document_tokens is not None
        assert sorted(" ".join(why.document_tokens).split()) == ["green", "red", "red"]
        assert why.similarities.shape == (1, 2)


class Splitting:
    """An encoder that can name its tokens."""

    name = "splitting"

    def __init__(self, words: Words) -> None:
        self.encode_documents = words
        self.encode_queries = words

    def document_tokens(self, text: str) -> list[str]:
        return text.split()

    query_tokens = document_tokens
