"""What a graph of estimates hands to a finer tier, and how it is scored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.index import planner
from octavo.retrievers import dense

N = 1_500


@pytest.fixture
def vectors() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(N, 32)).astype(np.float32) + 0.3
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Note how many rows are scored in which kind of codes."""
    calls: list[tuple[str, int]] = []
    plain = dense.score_rows

    def noted(layout: Any, codes: Any, query: Any, rows: Any) -> Any:
        calls.append((layout.kind, len(rows)))
        return plain(layout, codes, query, rows)

    monkeypatch.setattr(dense, "score_rows", noted)
    return calls


def filled(vectors: np.ndarray, codec: str, **options: Any) -> octavo.Collection:
    kb = octavo.open(codec=codec, index="graph", **options)
    kb.add(ids=[str(i) for i in range(len(vectors))], vectors=vectors)
    kb.flush()
    return kb


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "limits", replace(planner.limits, graph_min=500, graph_min_wide=500))


def test_the_finer_tier_scores_all_that_the_graph_has_looked_at(
    vectors: np.ndarray, counted: list[tuple[str, int]]
) -> None:
    with filled(vectors, "rabitq:1 > int8") as kb:
        assert kb.info().index_covers == N
        exact = kb.search_batch(vectors[:50], 10, exact=True)
        counted.clear()
        found = [kb.search(vector, 10, exact=False, ef=600) for vector in vectors[:50]]
        assert counted == [("i8", 600)] * 50
        known = [dict(zip(one.ids, one.scores, strict=True)) for one in kb.search_batch(vectors[:50], N, exact=True)]
        for one, scores in zip(found, known, strict=True):
            assert list(one.scores) == [scores[each] for each in one.ids]
        assert np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(found, exact, strict=True)]) > 0.95


def test_with_oversample_the_estimates_choose(vectors: np.ndarray, counted: list[tuple[str, int]]) -> None:
    with filled(vectors, "rabitq:1 > int8") as kb:
        kb.search(vectors[0], 10, exact=False)
        counted.clear()
        kb.search(vectors[0], 10, exact=False, ef=600, oversample=3)
        assert counted == [("r1", 600), ("i8", 30)]


def test_one_tier_returns_estimates(vectors: np.ndarray, counted: list[tuple[str, int]]) -> None:
    with filled(vectors, "rabitq:2") as kb:
        found = kb.search(vectors[0], 10, exact=False, ef=600)
        assert ("r2", 600) in counted
        known = dict(zip(*(lambda one: (one.ids, one.scores))(kb.search(vectors[0], N, exact=True)), strict=True))
        assert list(found.scores) == [known[each] for each in found.ids]


def test_deleted_and_new_documents_are_merged_with_it(vectors: np.ndarray) -> None:
    with filled(vectors[:1_400], "rabitq:1 > int8") as kb:
        kb.delete([str(i) for i in range(20)])
        kb.add(ids=[str(i) for i in range(1_400, N)], vectors=vectors[1_400:])
        for row in (3, 700, 1_450):
            found = kb.search(vectors[row], 10, exact=False, ef=300)
            assert not {str(i) for i in range(20)} & set(found.ids)
            assert (found.ids[0] == str(row)) == (row >= 20)
