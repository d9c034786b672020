"""Searching many vectors a document: candidates, filters, full text, fusion, diversity, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError
from octavo.retrievers import late_interaction
from octavo.retrievers.late_interaction import maxsim_scores


@pytest.fixture(scope="module")
def kb(world: Any) -> Iterator[octavo.MultiVectorCollection]:
    with octavo.open_multi_vector(codec="float16", pool_factor=1, fit_after=100) as collection:
        world.add_to(collection)
        yield collection


@pytest.fixture(autouse=True)
def _candidates_even_for_few(lowered_limits: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    with lowered_limits(few=30, late_candidates=100):
        yield


def test_candidates_give_the_scores_of_maxsim(world: Any, kb: octavo.MultiVectorCollection) -> None:
    shared = 0
    for query in world.queries:
        expected = dict(world.ranking(query))
        result = kb.search(query, 10)
        np.testing.assert_allclose(result.scores, [expected[i] for i in result.ids], atol=0.02)
        assert (np.diff(result.scores) <= 0).all()
        shared += len(set(result.ids) & set(kb.search(query, 10, exact=True).ids))
    assert shared / 200 > 0.7  # random vectors: the mean tells little; real ones are measured in the benchmarks


def test_more_candidates_find_more_and_all_find_everything(world: Any, kb: octavo.MultiVectorCollection) -> None:
    exact = [kb.search(query, 10, exact=True).ids for query in world.queries]

    def agreement(count: int) -> float:
        found = [kb.search(query, 10, n_candidates=count, exact=False).ids for query in world.queries]
        return float(np.mean([len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]))

    assert agreement(20) < agreement(150) <= agreement(400) == 10
    assert kb.search(world.queries[0], 10, oversample=40.0).ids == exact[0]


def test_exhaustive_for_few_documents(world: Any, kb: octavo.MultiVectorCollection) -> None:
    for query in world.queries:
        result = kb.search(query, 30, filter={"topic": 3})
        among = [number for number in range(400) if number % 12 == 3]
        expected = [identifier for identifier, _ in world.ranking(query, among)]
        assert len(result) == 30
        assert len(set(result.ids) & set(expected[:30])) >= 29  # float16 may swap the last with the next


@pytest.mark.parametrize("n_matching", [1, 5, 29, 31, 200])
def test_a_filter_never_starves(world: Any, kb: octavo.MultiVectorCollection, n_matching: int) -> None:
    result = kb.search(world.queries[0], 50, filter={"n": {"$lt": n_matching}})
    assert len(result) == min(50, n_matching)
    assert all(hit.metadata["n"] < n_matching for hit in result)


def test_ids_are_searched_exhaustively(world: Any, kb: octavo.MultiVectorCollection) -> None:
    chosen = [5, 17, 300, 301]
    result = kb.search(world.queries[1], 10, ids=[f"d{number}" for number in chosen] + ["unknown"])
    assert result.ids == [identifier for identifier, _ in world.ranking(world.queries[1], chosen)]


def test_batch_equals_single(world: Any, kb: octavo.MultiVectorCollection) -> None:
    for options in ({}, {"exact": True}, {"filter": {"topic": 2}}, {"n_candidates": 50}, {"lambda_mult": 0.5}):
        batch = kb.search_batch(world.queries, 7, **options)  # type: ignore[arg-type]
        for query, together in zip(world.queries, batch, strict=True):
            alone = kb.search(query, 7, **options)  # type: ignore[arg-type]
            assert together.ids == alone.ids
            np.testing.assert_array_equal(together.scores, alone.scores)
    assert kb.search_batch([], 3) == []


def test_candidates_from_text(world: Any, kb: octavo.MultiVectorCollection) -> None:
    query = world.queries[2]
    result = kb.search(query, 50, candidates="text", text="topic4")
    among = [number for number in range(400) if number % 12 == 4]
    expected = [identifier for identifier, _ in world.ranking(query, among)]
    assert set(result.ids) == set(expected)
    assert (np.diff(result.scores) <= 0).all()
    both = kb.search(query, 10, candidates="both", text="topic4", n_candidates=60)
    wanted = set(result.ids) | set(kb.search(query, 60, n_candidates=60).ids)
    assert set(both.ids) <= wanted
    assert both.scores[0] >= max(result.scores[0], kb.search(query, 1, n_candidates=60).scores[0])


def test_hybrid(world: Any, kb: octavo.MultiVectorCollection) -> None:
    query, words = world.queries[3], "number 33"
    tokens = kb.search(query, 10)
    assert kb.search(query, 10, mode="hybrid", text=words, alpha=1).ids == tokens.ids
    text = kb.search(words, 10, mode="text")
    assert kb.search(query, 10, mode="hybrid", text=words, alpha=0).ids == text.ids
    fused = kb.search(query, 20, mode="hybrid", text=words)
    assert text.ids[0] in fused.ids
    assert tokens.ids[0] in fused.ids


def test_mmr(world: Any, kb: octavo.MultiVectorCollection) -> None:
    query = world.queries[0]
    assert kb.search(query, 10, lambda_mult=1.0).ids == kb.search(query, 10).ids
    diverse = kb.search(query, 10, lambda_mult=0.1, fetch_k=100)
    assert diverse.ids[0] == kb.search(query, 1).ids[0]
    topics = [hit.metadata["topic"] for hit in diverse]
    assert len(set(topics)) > len({hit.metadata["topic"] for hit in kb.search(query, 10)})
    with pytest.raises(ParameterError, match="without an encoder"):
        kb.search("topic3", 10, mode="text", lambda_mult=0.5)


def test_graph_finds_candidates(world: Any, small_limits: None) -> None:
    with octavo.open_multi_vector(codec="float16", pool_factor=1, fit_after=100) as collection:
        world.add_to(collection)
        collection.flush()
        assert collection.info().index_covers > 300
        found = [collection.search(query, 10, n_candidates=150, exact=False).ids for query in world.queries]
        best = [collection.search(query, 10, exact=True).ids for query in world.queries]
        assert np.mean([len(set(a) & set(b)) for a, b in zip(found, best, strict=True)]) > 7.5


@pytest.mark.parametrize(
    "options",
    [
        {"n_candidates": 0},
        {"n_candidates": 5, "oversample": 2.0},
        {"candidates": "nonsense"},
        {"candidates": "text"},  # without words
        {"exact": True, "n_candidates": 5},
        {"mode": "text", "n_candidates": 5, "text": "a"},
        {"text": "unused"},
        {"alpha": 0.5},
        {"fetch_k": 5},
        {"k": 0},
    ],
)
def test_bad_options(world: Any, kb: octavo.MultiVectorCollection, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        kb.search(world.queries[0], **options)


@pytest.mark.parametrize(
    ("k", "n", "options", "expected"),
    [
        (10, 5_000, {}, 100),
        (10, 20_000, {}, 200),
        (50, 100, {}, 200),
        (10, 20_000, {"n_candidates": 70}, 70),
        (10, 20_000, {"n_candidates": 7}, 10),
        (10, 20_000, {"oversample": 3.0}, 30),
    ],
)
def test_how_many_candidates(k: int, n: int, options: dict[str, Any], expected: int) -> None:
    assert late_interaction.LateOptions(**options).depth(k, n) == expected


def test_bad_queries(world: Any, kb: octavo.MultiVectorCollection) -> None:
    for query in ([[]], [[0.0] * 24], [[np.nan] * 24], [[1.0] * 23], [1.0] * 24, np.zeros((0, 24))):
        with pytest.raises(InvalidVectorsError):
            kb.search(query, 3)
    with pytest.raises(InputTypeError, match="mixture"):
        kb.search_batch(["a", world.queries[0]], 3)
    with pytest.raises(InputTypeError, match="single str"):
        kb.search_batch("a", 3)
    with pytest.raises(ParameterError, match="without an encoder"):
        kb.search("a", 3)


def test_empty_collection(world: Any) -> None:
    with octavo.open_multi_vector() as collection:
        assert collection.search(world.queries[0], 3).ids == []
        assert [r.ids for r in collection.search_batch(world.queries[:2], 3)] == [[], []]
        assert collection.search("words", 3, mode="text").ids == []
        world.add_to(collection, range(3))
        collection.clear()
        assert collection.search(world.queries[0], 3).ids == []


def test_maxsim_scores_of_given_matrices(world: Any) -> None:
    query = world.queries[0] / np.linalg.norm(world.queries[0], axis=1, keepdims=True)
    documents = [tokens / np.linalg.norm(tokens, axis=1, keepdims=True) for tokens in world.tokens[:30]]
    expected = [world.maxsim(query, document) for document in documents]
    np.testing.assert_allclose(maxsim_scores(query, documents), expected, atol=1e-5)
    assert maxsim_scores(query, []).tolist() == []
    assert maxsim_scores(query, [np.zeros((0, 24)), documents[0]])[0] == -np.inf
    with pytest.raises(InvalidVectorsError):
        maxsim_scores(np.zeros((0, 24)), documents)
    with pytest.raises(InvalidVectorsError, match="dimension"):
        maxsim_scores(query, [np.ones((2, 3))])


def test_reading_ahead_changes_no_answer(world: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.store import vectors as _vectors

    with octavo.open_multi_vector(tmp_path / "kb", pool_factor=1, fit_after=100) as collection:
        world.add_to(collection)
        expected = [(r.ids, r.scores.tolist()) for r in collection.search_batch(world.queries, 5)]
        asked = []
        monkeypatch.setattr(_vectors, "_CAN_PREFETCH", True)
        monkeypatch.setattr(_vectors, "_in_memory", lambda fd, position: False)
        monkeypatch.setattr(_vectors.os, "posix_fadvise", lambda *given: asked.append(given), raising=False)
        monkeypatch.setattr(_vectors.os, "POSIX_FADV_WILLNEED", 3, raising=False)
        assert [(r.ids, r.scores.tolist()) for r in collection.search_batch(world.queries, 5)] == expected
        assert len(asked) > 100
