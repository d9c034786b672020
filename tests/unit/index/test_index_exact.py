"""The scan's masks, row lists, blocks, threads and bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._layout import CodeLayout
from octavo.errors import InputTypeError, ParameterError
from octavo.index import exact, exact_search, score_rows

LAYOUT = CodeLayout("i8", 4, scale=0.5)


def small_codes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw codes with so few values that ties are everywhere."""
    return rng.integers(-2, 3, (n, 4)).astype(np.int8).view(np.uint8)


def oracle(codes: np.ndarray, queries: np.ndarray, k: int, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort everything, slowly."""
    rows = np.full((len(queries), k), -1)
    scores = np.full((len(queries), k), -np.inf)
    for j, query in enumerate(queries.view(np.int8).astype(int)):
        value = 0.5 * (codes.view(np.int8).astype(int) @ query)
        ranked = sorted(np.flatnonzero(eligible), key=lambda r, value=value: (-value[r], r))[:k]
        rows[j, : len(ranked)] = ranked
        scores[j, : len(ranked)] = value[ranked]
    return rows, scores


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 90),
    m=st.integers(0, 5),
    k=st.integers(1, 100),
    block=st.sampled_from([1, 3, 16, 4096]),
    tile=st.sampled_from([1, 2, 64]),
    share=st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]),
    listed=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
)
def test_any_shape_equals_sorting_everything(seed, n, m, k, block, tile, share, listed, threads):
    rng = np.random.default_rng(seed)
    codes, queries = small_codes(rng, n), small_codes(rng, m)
    eligible = np.ones(n, dtype=bool)
    alive = rows = None
    if share is not None:
        alive = rng.random(n + 3) < share
        eligible &= alive[:n]
    if listed:
        rows = np.flatnonzero(rng.random(n) < 0.6)
        eligible &= np.isin(np.arange(n), rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_blocks", lambda a, b, *_: ((i, min(i + block, b)) for i in range(a, b, block)))
        patch.setattr(exact, "_QUERY_TILE", tile)
        patch.setattr(exact, "_ROWS_PER_THREAD", 8)
        found = exact_search(LAYOUT, codes, queries, k, alive=alive, rows=rows, threads=threads)
    expected = oracle(codes, queries, k, eligible)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_blocks_cover_each_row_once():
    for start, stop, largest, k in [(0, 0, 99, 1), (0, 5, 4096, 10), (3, 200_000, 4096, 100), (0, 70_000, 64, 20_000)]:
        blocks = list(exact._blocks(start, stop, largest, k))
        assert [r for a, b in blocks for r in (a, b)] == sorted(r for a, b in blocks for r in (a, b))
        assert sum(b - a for a, b in blocks) == stop - start
        assert all(b - a <= largest for a, b in blocks)
        assert all(a == b for (_, a), (b, _) in itertools.pairwise(blocks))


def test_big_scan_with_threads_equals_one_thread(sample):
    layout, codes, _ = sample("i8", 70_000, 16)
    mask = np.random.default_rng(0).random(70_000) < 0.5
    for m in (1, 3, 70):
        one = exact_search(layout, codes, codes[:m], 25, alive=mask)
        two = exact_search(layout, codes, codes[:m], 25, alive=mask, threads=2)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_all_scores_equal_takes_the_first_rows(sample):
    layout, codes, _ = sample("b1", 1, 64)
    codes = np.repeat(codes, 40_000, axis=0)
    rows, _ = exact_search(layout, codes, codes[:2], 300, threads=2)
    np.testing.assert_array_equal(rows, np.tile(np.arange(300), (2, 1)))


def test_ascending_scores_leave_nothing_behind():
    values = np.arange(20_000, dtype=np.float32)[:, None] * 1e-3
    layout = CodeLayout("f32", 1)
    rows, _ = exact_search(layout, values.view(np.uint8), np.ones((1, 1), np.float32).view(np.uint8), 3)
    assert rows.tolist() == [[19_999, 19_998, 19_997]]


def test_scores_that_differ_only_beyond_float32_count_as_equal():
    # The f32 kernel accumulates in float64; what is returned, and therefore what decides, is float32.
    values = np.array([[1.0, 0.0], [1.0, 1e-7]], dtype=np.float32)
    query = np.array([[1.0, 1e-7]], dtype=np.float32)
    rows, scores = exact_search(CodeLayout("f32", 2), values.view(np.uint8), query.view(np.uint8), 2)
    assert scores[0, 0] == scores[0, 1]
    assert rows.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"k": 0}, "k as an integer of at least 1, got 0"),
        ({"k": True}, "k as an integer"),
        ({"k": "ten"}, "k as an integer"),
        ({"threads": -1}, "threads as an integer of at least 0"),
        ({"queries": np.zeros((1, 5), np.uint8)}, r"query codes of shape \(n, 4\)"),
        ({"queries": np.zeros(4, np.uint8)}, r"query codes of shape"),
        ({"codes": np.zeros((9, 8), np.uint8)[:, ::2]}, "in C order"),
        ({"alive": np.ones(8, bool)}, "bool mask of 9 rows or more"),
        ({"alive": np.ones(9, np.uint8)}, "bool mask"),
        ({"rows": np.array([0, 9])}, "between 0 and 8, got 0 to 9"),
        ({"rows": np.array([-1, 3])}, "between 0 and 8, got -1 to 3"),
        ({"rows": np.array([3, 1])}, "ascending"),
        ({"rows": np.array([1, 1])}, "ascending"),
        ({"rows": np.array([0.5])}, "as integers"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"codes": np.zeros((9, 4), np.uint8), "queries": np.zeros((1, 4), np.uint8), "k": 1} | change
    with pytest.raises(ParameterError, match=match):
        exact_search(LAYOUT, given.pop("codes"), given.pop("queries"), given.pop("k"), **given)


def test_codes_of_another_type_are_refused():
    with pytest.raises(InputTypeError, match="uint8 array, got dtype float32"):
        exact_search(LAYOUT, np.zeros((2, 4), np.float32), np.zeros((1, 4), np.uint8), 1)
    with pytest.raises(InputTypeError, match="got list"):
        score_rows(LAYOUT, [[0, 0, 0, 0]], np.zeros(4, np.uint8), np.array([0]))


def test_rescoring_checks_rows():
    codes = np.zeros((3, 4), np.uint8)
    assert score_rows(LAYOUT, codes, codes[0], np.array([], dtype=np.int64)).shape == (0,)
    for rows in ([3], [-1]):
        with pytest.raises(ParameterError, match="between 0 and 2"):
            score_rows(LAYOUT, codes, codes[0], np.array(rows))
    with pytest.raises(ParameterError, match="one query, got 2"):
        score_rows(LAYOUT, codes, codes[:2], np.array([0]))
