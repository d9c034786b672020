"""Pooling of patches by place, against a slow and obvious oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.compression import SpatialPooling, TokenMatrices, TokenPooling
from octavo.compression.spatial_pooling import pool_documents, pooling_from_config, region_labels
from octavo.errors import CodecError, ParameterError


def slow_regions(patches: np.ndarray, there: np.ndarray, k: int) -> list[frozenset[int]]:
    """Merge the two touching regions that cost least, looking at all pairs each time."""
    number = np.full(there.shape, -1)
    number[there] = np.arange(len(patches))
    regions = [{each} for each in range(len(patches))]

    def touch(a: set[int], b: set[int]) -> bool:
        pairs = [*zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True)]
        pairs += zip(number[:-1].ravel(), number[1:].ravel(), strict=True)
        return any((x in a and y in b) or (x in b and y in a) for x, y in pairs if x >= 0 and y >= 0)

    def cost(a: set[int], b: set[int]) -> float:
        one, two = patches[sorted(a)].mean(axis=0), patches[sorted(b)].mean(axis=0)
        return float(len(a) * len(b) / (len(a) + len(b)) * ((one - two) ** 2).sum())

    while len(regions) > k:
        pairs = [
            (cost(a, b), min(a), min(b), a, b) for i, a in enumerate(regions) for b in regions[i + 1 :] if touch(a, b)
        ]
        if not pairs:
            break
        *_, a, b = min(pairs, key=lambda pair: pair[:3])
        regions = [region for region in regions if region is not a and region is not b] + [a | b]
    return sorted((frozenset(region) for region in regions), key=min)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_regions_are_those_of_the_oracle(rows: int, columns: int, k: int, seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random((rows, columns)) >= missing
    there[0, 0] = True
    patches = rng.standard_normal((int(there.sum()), 6)).astype(np.float64)
    labels = region_labels(patches.astype(np.float64), there, k)
    found = [frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    assert sorted(found, key=min) == slow_regions(patches, there, k)
    assert all(
        labels[label] == label and min(region) == label
        for label, region in zip(np.unique(labels), sorted(found, key=min), strict=True)
    )


def test_neighbours_come_first() -> None:
    # the same two colours in two corners: hierarchical pooling would make one vector of each colour
    grid = np.arange(16).reshape(4, 4)
    colours = np.eye(3, dtype=np.float32)[[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]].reshape(16, 3)
    pooled = SpatialPooling(4).pool_page(colours, grid)
    np.testing.assert_allclose(pooled, np.eye(3)[[0, 1, 2, 0]], atol=1e-6)
    assert len(TokenPooling(4, protected=0).pool([colours])[0]) == 3


def test_rows_that_are_no_patches_come_first_and_unchanged() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20, 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    grid = np.arange(2, 18).reshape(4, 4)
    for pooling in (SpatialPooling(4), TokenPooling(4)):
        tokens = TokenMatrices.of([matrix, matrix[:5]])
        pages = pool_documents(pooling.get_config(), tokens, [grid, None])
        np.testing.assert_allclose(pages[0][:4], matrix[[0, 1, 18, 19]], atol=1e-6)
        assert len(pages[0]) == 8
        np.testing.assert_array_equal(pages[1], pooling.pool([matrix[:5]])[0])
    # a model that has pooled by itself has fewer rows than its grid
    np.testing.assert_array_equal(
        pool_documents(SpatialPooling(4).get_config(), TokenMatrices.of([matrix[:6]]), [grid])[0],
        SpatialPooling(4).pool([matrix[:6]])[0],
    )


def test_configurations_come_back_and_others_are_refused() -> None:
    for pooling in (SpatialPooling(3), SpatialPooling(n_vectors=20), SpatialPooling(), TokenPooling(3)):
        again = pooling_from_config(pooling.get_config())
        assert again == pooling
        assert type(again) is type(pooling)
        assert repr(again) == repr(pooling)
    assert SpatialPooling(3) != TokenPooling(3)
    assert repr(SpatialPooling()) == "SpatialPooling(factor=9, protected=1)"
    for config in ({"id": "pool-grid", "distance": 1}, {"id": "other"}):
        with pytest.raises(CodecError):
            SpatialPooling.from_config(config)
    with pytest.raises(ParameterError):
        SpatialPooling(0)


@pytest.mark.parametrize("grid", [[0, 1], [[0.5]], [[0, 0]], [[-2, 1]], [[-1]], [[0, 99]], np.zeros((0, 2), np.int64)])
def test_grids_are_checked(grid: object) -> None:
    with pytest.raises(ParameterError, match="grid"):
        SpatialPooling(2).pool_page(np.eye(4), grid)
