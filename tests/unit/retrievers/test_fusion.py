"""Fusing rankings, against dictionaries and loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ParameterError
from octavo.retrievers.fusion import convex_combination, reciprocal_rank_fusion


@st.composite
def rankings(draw):
    slots = draw(st.lists(st.integers(0, 30), unique=True, max_size=12))
    scores = draw(st.lists(st.floats(-50, 50), min_size=len(slots), max_size=len(slots)))
    return np.array(slots, np.int64), np.array(sorted(scores, reverse=True), np.float32)


def ordered(scores):
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def slow_rrf(lists, k, weights):
    total = {}
    for (slots, _), weight in zip(lists, weights, strict=True):
        if weight > 0:
            for rank, slot in enumerate(slots, start=1):
                total[int(slot)] = total.get(int(slot), 0.0) + weight / (k + rank)
    return ordered(total)


def slow_convex(dense, text, alpha, minimums):
    total = {}
    for (slots, scores), weight, minimum in zip((dense, text), (alpha, 1 - alpha), minimums, strict=True):
        values = [float(score) for score in scores]
        low = min(values, default=0) if minimum is None else minimum
        best = max(values, default=0)
        for slot, value in zip(slots, values, strict=True):
            part = 1.0 if best <= low else min(max((value / 2 - low / 2) / (best / 2 - low / 2), 0), 1)
            total[int(slot)] = total.get(int(slot), 0.0) + weight * part
    return ordered(total)


def same(result, expected):
    assert result[0].tolist() == [slot for slot, _ in expected]
    np.testing.assert_allclose(result[1], [score for _, score in expected], rtol=1e-12)


class TestReciprocalRankFusion:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(rankings(), st.sampled_from([0.0, 0.5, 1.0, 2.0])), max_size=4), st.sampled_from([0, 2, 60])
    )
    def test_agrees_with_the_formula(self, weighted, k):
        lists, weights = [ranking for ranking, _ in weighted], [weight for _, weight in weighted]
        same(reciprocal_rank_fusion(lists, k, weights=weights), slow_rrf(lists, k, weights))

    def test_scores_do_not_matter_and_ranks_begin_at_one(self):
        slots, scores = reciprocal_rank_fusion([([4, 2], [0.1, 0.0]), ([2], [1e9])])
        assert slots.tolist() == [2, 4]
        np.testing.assert_allclose(scores, [1 / 62 + 1 / 61, 1 / 61])

    def test_one_ranking_keeps_its_order(self):
        assert reciprocal_rank_fusion([([9, 1, 5], [3, 3, 1])])[0].tolist() == [9, 1, 5]

    def test_ties_go_to_the_smaller_slot(self):
        assert reciprocal_rank_fusion([([9, 1], [2, 1]), ([1, 9], [2, 1])])[0].tolist() == [1, 9]
        assert reciprocal_rank_fusion([([1, 9], [2, 1]), ([9, 1], [2, 1])])[0].tolist() == [1, 9]

    def test_a_ranking_of_weight_zero_adds_nothing(self):
        assert reciprocal_rank_fusion([([1], [1]), ([2], [1])], weights=[1, 0])[0].tolist() == [1]

    @pytest.mark.parametrize("lists", [[], [([], [])], [([], []), ([], [])]])
    def test_nothing_gives_nothing(self, lists):
        slots, scores = reciprocal_rank_fusion(lists)
        assert slots.dtype == np.int64
        assert slots.shape == scores.shape == (0,)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"k": -1}, "k as a number of at least 0"),
            ({"k": float("nan")}, "k as a number of at least 0"),
            ({"weights": [1.0]}, "one weight for each of 2"),
            ({"weights": [1.0, -1.0]}, "at least 0"),
        ],
    )
    def test_refuses_options(self, options, message):
        with pytest.raises(ParameterError, match=message):
            reciprocal_rank_fusion([([1], [1]), ([2], [1])], **options)

    @pytest.mark.parametrize(
        ("ranking", "message"),
        [
            (([1, 2], [1.0]), "one length"),
            (([1, 1], [2.0, 1.0]), "at most once"),
            (([1, 2], [1.0, 2.0]), "best score first"),
            (([1, -1], [1.0, -np.inf]), "padding"),
            (([[1]], [[1.0]]), "one length"),
        ],
    )
    def test_refuses_rankings(self, ranking, message):
        with pytest.raises(ParameterError, match=message):
            reciprocal_rank_fusion([ranking])
        with pytest.raises(ParameterError, match=message):
            convex_combination(ranking, ([], []), 0.5)
        with pytest.raises(ParameterError, match=message):
            convex_combination(([], []), ranking, 1.0)


class TestConvexCombination:
    @settings(max_examples=80, deadline=None)
    @given(
        rankings(),
        rankings(),
        st.floats(0.01, 0.99),
        st.sampled_from([None, -1.0, 0.0]),
        st.sampled_from([None, 0.0]),
    )
    def test_agrees_with_the_formula(self, dense, text, alpha, dense_minimum, text_minimum):
        result = convex_combination(dense, text, alpha, dense_minimum=dense_minimum, text_minimum=text_minimum)
        expected = dict(slow_convex(dense, text, alpha, (dense_minimum, text_minimum)))
        assert set(result[0].tolist()) == set(expected)
        np.testing.assert_allclose(result[1], [expected[slot] for slot in result[0].tolist()], atol=1e-12)
        assert ordered(dict(zip(result[0].tolist(), result[1].tolist(), strict=True))) == list(
            zip(result[0].tolist(), result[1].tolist(), strict=True)
        )
        assert ((result[1] >= 0) & (result[1] <= 1 + 1e-12)).all()

    @given(rankings(), rankings())
    @settings(max_examples=30, deadline=None)
    def test_the_ends_are_the_rankings_as_given(self, dense, text):
        for alpha, ranking in ((1, dense), (1.0, dense), (0, text), (0.0, text)):
            slots, scores = convex_combination(dense, text, alpha)
            assert slots.tolist() == ranking[0].tolist()
            assert scores.tolist() == ranking[1].astype(np.float64).tolist()

    def test_a_missing_document_gets_the_minimum(self):
        slots, scores = convex_combination(([1, 2, 3], [0.9, 0.6, 0.5]), ([2, 4], [8.0, 2.0]), 0.5)
        assert slots.tolist() == [2, 1, 4, 3]
        np.testing.assert_allclose(scores, [0.5 * 0.25 + 0.5, 0.5, 0.5 * 0.25, 0.0])

    def test_the_theoretical_minimum_keeps_close_scores_close(self):
        dense = ([1, 2], [0.91, 0.90])
        torn = dict(zip(*map(np.ndarray.tolist, convex_combination(dense, ([], []), 0.5)), strict=True))
        kept = dict(
            zip(*map(np.ndarray.tolist, convex_combination(dense, ([], []), 0.5, dense_minimum=-1)), strict=True)
        )
        assert torn == {1: 0.5, 2: 0.0}
        assert kept[2] == pytest.approx(0.5 * 1.9 / 1.91)

    def test_equal_scores_all_count_as_best(self):
        assert convex_combination(([5, 2], [0.3, 0.3]), ([], []), 0.4)[1].tolist() == [0.4, 0.4]
        assert convex_combination(([5, 2], [0.3, 0.3]), ([], []), 0.4)[0].tolist() == [2, 5]

    @pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
    def test_refuses_alpha(self, alpha):
        with pytest.raises(ParameterError, match="alpha as a number between 0"):
            convex_combination(([1], [1]), ([1], [1]), alpha)

    @pytest.mark.parametrize("option", ["dense_minimum", "text_minimum"])
    def test_refuses_a_minimum_that_is_not_finite(self, option):
        with pytest.raises(ParameterError, match=option):
            convex_combination(([1], [1]), ([1], [1]), 0.5, **{option: float("-inf")})
