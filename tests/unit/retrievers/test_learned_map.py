"""A map between the vectors of two models, and when it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import octavo
from octavo.retrievers import two_spaces
from octavo.retrievers.learned_map import LEAST, LearnedMap, helpful_map


def rows(n: int, dim: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def unit(matrix: Any) -> Any:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("old_dim", "new_dim"), [(12, 12), (8, 20), (20, 8)])
def test_the_map_is_orthogonal_and_the_best_of_those(old_dim: int, new_dim: int) -> None:
    old, new = rows(200, old_dim), rows(200, new_dim, 1)
    matrix = LearnedMap.fit(old, new).matrix
    small = matrix @ matrix.T if old_dim <= new_dim else matrix.T @ matrix
    assert np.allclose(small, np.eye(min(old_dim, new_dim)), atol=1e-4)
    aligned = np.trace((old - old.mean(0)) @ matrix @ (new - new.mean(0)).T)
    for seed in range(20):
        other = np.linalg.qr(rows(max(old_dim, new_dim), max(old_dim, new_dim), seed))[0][:old_dim, :new_dim]
        assert np.trace((old - old.mean(0)) @ other @ (new - new.mean(0)).T) <= aligned + 1e-3


def test_a_turned_model_is_found_again_and_an_unrelated_one_is_refused() -> None:
    new = unit(rows(800, 24))
    turn = np.linalg.qr(rows(24, 24, 1))[0]
    related = unit(new @ turn + 0.15 * rows(800, 24, 2))
    found = helpful_map(related, new)
    assert found is not None
    asked = unit(rows(5, 24, 3))
    assert np.allclose(found.queries(asked), asked @ turn, atol=0.15)
    assert np.allclose(np.linalg.norm(found.queries(asked), axis=1), 1, atol=1e-5)
    assert helpful_map(unit(rows(800, 24, 4)), new) is None
    assert helpful_map(new[np.random.default_rng(5).permutation(800)], new) is None
    assert helpful_map(related[: LEAST - 1], new[: LEAST - 1]) is None


def test_equal_vectors_and_zeros_do_no_harm() -> None:
    same = np.tile(unit(rows(1, 8)), (600, 1))
    assert helpful_map(same, unit(rows(600, 8))) is None
    assert helpful_map(np.zeros((600, 8), np.float32), unit(rows(600, 8))) is None


class Turned:
    """Vectors of numbered texts; may stop."""

    def __init__(self, name: str, vectors: Any, questions: Any) -> None:
        self.name, self.vectors, self.questions = name, vectors, questions
        self.limit: int | None = None

    def encode_documents(self, texts: Any) -> Any:
        if self.limit is not None:
            self.limit -= len(texts) if len(texts) > 1 else 0
            if self.limit < 0:
                raise ConnectionError
        return np.array([self.vectors[int(text)] for text in texts])

    def encode_queries(self, texts: Any) -> Any:
        return np.array([self.questions[int(text)] for text in texts])


@pytest.mark.parametrize("related", [True, False])
def test_searches_by_both_use_it_where_it_helps(monkeypatch: pytest.MonkeyPatch, related: bool) -> None:
    n = 900
    new, questions = unit(rows(n, 32)), unit(rows(60, 32, 9))
    turn = np.linalg.qr(rows(32, 32, 1))[0]
    noise = 0.6 if related else 50.0
    old, old_questions = (unit(part @ turn + noise * unit(rows(len(part), 32, 2))) for part in (new, questions))
    first, second = Turned("old", old, old_questions), Turned("new", new, questions)
    with octavo.open(None, first, codec="float32") as kb:
        kb.add([str(i) for i in range(n)], ids=[str(i) for i in range(n)])
        second.limit = n // 2
        with pytest.raises(ConnectionError):
            kb.reencode(second, batch_size=50)
        asked = [str(i) for i in range(60)]
        wanted = [set(np.argsort(-(new @ question))[:10].tolist()) for question in questions]

        def shared() -> float:
            found = kb.search_batch(asked, 10)
            assert {result.reencoding for result in found} == {"both"}
            return float(
                np.mean([len({int(i) for i in each.ids} & best) for each, best in zip(found, wanted, strict=True)])
            )

        with_map = shared()
        one = kb.search(asked[0], 10)
        assert one.ids == kb.search_batch(asked[:1], 10)[0].ids
        monkeypatch.setattr(two_spaces, "helpful_map", lambda old, new: None)
        kb._remembered = two_spaces.Remembered()
        without = shared()
    if related:
        assert with_map > without
    else:
        assert with_map == without
