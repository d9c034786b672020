"""One suite for every kind of code, scan and graph alike, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from octavo.index import Graph, exact_search, score_rows

N, M, DIM = 2500, 20, 48


def oracle(documents: np.ndarray, queries: np.ndarray, scale: float) -> np.ndarray:
    """Score everything in float64."""
    return scale * (queries @ documents.T)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true rows that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_scan_equals_numpy(kind, sample, scale):
    layout, codes, values = sample(kind, N, DIM, scale=scale)
    asked = sample(kind, M, DIM, seed=1, scale=scale)
    queries, expected = asked.queries, oracle(values, asked.values, scale)
    rows, scores = exact_search(layout, codes, queries, 10)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.take_along_axis(expected, rows, axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :10], rtol=1e-5, atol=1e-5)


def test_rows_are_ordered_by_score_then_row(kind, sample):
    made = sample(kind, 300, DIM)
    layout, codes, queries = made.layout, made.codes, made.queries[:5]
    codes = np.concatenate([codes, codes[::-1], codes])  # every score at least three times
    rows, scores = exact_search(layout, codes, queries, 50)
    every, _ = exact_search(layout, codes, queries, len(codes))
    for j in range(5):
        order = np.lexsort((rows[j], -scores[j]))
        assert order.tolist() == list(range(50))
    np.testing.assert_array_equal(rows, every[:, :50])


def test_odd_dimensions(kind, sample):
    made = sample(kind, 60, 13)
    _, scores = exact_search(made.layout, made.codes, made.queries[:4], 60)
    expected = -np.sort(-oracle(made.values, made.values[:4], 1.0), axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_rescoring_gives_the_bits_of_the_scan(kind, sample):
    layout, codes, _ = sample(kind, N, DIM, scale=0.7)
    queries = sample(kind, M, DIM, seed=1).queries
    rows, scores = exact_search(layout, codes, queries, 100)
    for j in range(M):
        np.testing.assert_array_equal(score_rows(layout, codes, queries[j], rows[j]), scores[j])
    one, _ = exact_search(layout, codes, queries[3:4], 100)
    np.testing.assert_array_equal(one[0], rows[3])


def test_graph_finds_the_neighbours(kind, sample):
    layout, codes, _ = sample(kind, N, DIM, scale=0.7)
    queries = sample(kind, M, DIM, seed=1).queries
    graph = Graph(layout)
    graph.add(np.arange(N), codes, threads=1)
    truth, exact = exact_search(layout, codes, queries, 10)
    slots, scores = graph.search(queries, 10, 128)
    # Ties make several answers right for coarse codes, so compare what was reached, not which row.
    assert float(np.mean(scores >= exact[:, -1:] - 1e-5)) >= 0.95
    if kind not in ("b1", "i2", "i4"):
        assert overlap(slots, truth) >= 0.95
    rescored = np.stack([score_rows(layout, codes, query, row) for query, row in zip(queries, slots, strict=True)])
    np.testing.assert_allclose(scores, rescored, rtol=1e-5, atol=1e-5)
    if kind in ("i8", "i4", "i2", "b1"):  # integers come through usearch's float32 distances whole
        np.testing.assert_array_equal(scores, rescored)


def test_graph_survives_the_disk(kind, sample, tmp_path: Path):
    made = sample(kind, 600, DIM)
    layout, codes, queries = made.layout, made.codes, made.queries
    graph = Graph(layout, connectivity=8, expansion_add=64)
    graph.add(np.arange(600) + 7, codes, threads=1)
    graph.save(tmp_path / "graph")
    again = Graph.load(tmp_path / "graph", layout, connectivity=8, expansion_add=64)
    assert len(again) == 600
    for before, after in zip(graph.search(queries[:9], 5, 50), again.search(queries[:9], 5, 50), strict=True):
        np.testing.assert_array_equal(before, after)
    again.add(np.array([3]), codes[:1])
    assert {3, 7} <= set(again.search(queries[:1], 5, 50)[0][0].tolist())


def test_memory_map_is_read_in_place(kind, sample, tmp_path: Path):
    made = sample(kind, 500, DIM)
    layout, codes, queries = made.layout, made.codes, made.queries
    path = tmp_path / "codes"
    path.write_bytes(codes.tobytes())
    mapped = np.memmap(path, dtype=np.uint8, mode="r", shape=codes.shape)
    for a, b in zip(
        exact_search(layout, mapped, queries[:3], 7), exact_search(layout, codes, queries[:3], 7), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    rows = np.array([4, 499, 0])
    np.testing.assert_array_equal(
        score_rows(layout, mapped, queries[2], rows), score_rows(layout, codes, queries[2], rows)
    )
