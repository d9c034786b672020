"""Token pooling against scipy and against loops."""

from __future__ import annotations

from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from octavo.compression._ward import _merge, ward_labels
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import TokenPooling
from octavo.errors import CodecError, InputTypeError, InvalidVectorsError, ParameterError

exact_counts = pytest.mark.skipif(
    tuple(map(int, version("scipy").split(".")[:2])) < (1, 15),
    reason="fcluster of SciPy before 1.15 does not always return as many clusters as it could",
)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def topical(rng, n, dim):
    """Draw tokens around a few directions, as those of a text are."""
    return np.float32(unit(rng.standard_normal((5, dim))[rng.integers(0, 5, n)] + 0.8 * rng.standard_normal((n, dim))))


def smallest_members(labels):
    return np.array([int(np.flatnonzero(labels == label)[0]) for label in labels])


def scipy_pool(x, groups=None, height=None, protected=1):
    """Pool one document as published, with scipy."""
    head, free = np.float64(x[:protected]), np.float64(x[protected:])
    if len(free) > 1:
        distances = 1 - free @ free.T
        tree = linkage(distances[np.triu_indices(len(free), 1)], "ward")
        labels = fcluster(tree, groups, "maxclust") if height is None else fcluster(tree, height, "distance")
    else:
        labels = np.arange(len(free))
    means = [free[labels == labels[i]].mean(axis=0) for i in np.unique(smallest_members(labels))]
    return np.array([*head, *(mean / np.linalg.norm(mean) for mean in means)]).reshape(-1, x.shape[1])


@exact_counts
@pytest.mark.parametrize("n", [2, 3, 17, 60, 250])
@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.9])
def test_ward_is_scipys(n, share):
    rng = np.random.default_rng(n)
    for _ in range(5):
        x = topical(rng, n, 16)
        distances = squareform(squareform(1 - np.float64(x) @ np.float64(x).T, checks=False))
        k = max(int(n * share), 1)
        tree = linkage(squareform(distances), "ward")
        assert_array_equal(ward_labels(distances.copy(), n_clusters=k), smallest_members(fcluster(tree, k, "maxclust")))
        height = tree[int((n - 2) * share), 2] + 1e-9
        assert_array_equal(
            ward_labels(distances.copy(), height=height), smallest_members(fcluster(tree, height, "distance"))
        )


@exact_counts
@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(1, 40), seed=st.integers(0, 2**20), euclidean=st.booleans())
def test_ward_is_scipys_for_any_dissimilarity(n, k, seed, euclidean):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)), 1)
    distances = upper + upper.T
    if euclidean:
        points = rng.standard_normal((n, 3))
        distances = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    labels = ward_labels(distances.copy(), n_clusters=k)
    if n == 1 or k >= n:
        assert_array_equal(labels, np.arange(n))
    else:
        tree = linkage(squareform(distances, checks=False), "ward")
        assert_array_equal(labels, smallest_members(fcluster(tree, k, "maxclust")))


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=25), k=st.integers(1, 25))
def test_ward_with_equal_heights(values, k):
    points = np.float64(values)
    labels = ward_labels(np.abs(points[:, None] - points), n_clusters=k)
    assert len(np.unique(labels)) <= k
    assert (labels <= np.arange(len(values))).all()
    assert_array_equal(labels[labels], labels)
    if k < len(values) and len(np.unique(values)) <= k:  # the cut falls among the merges at height zero: all are made
        assert_array_equal(labels, smallest_members(points))


@exact_counts
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6])
def test_factor_is_the_published_pooling(factor):
    rng = np.random.default_rng(factor)
    documents = [topical(rng, n, 32) for n in (1, 2, 3, 4, 9, 40, 131)]
    pooled = TokenPooling(factor=factor).pool(documents)
    for x, got in zip(documents, pooled, strict=True):
        groups = max((len(x) - 1) // factor, 1)
        wanted = x if factor == 1 else scipy_pool(x, groups)
        assert got.dtype == np.float32
        assert got.shape == (1 + min(groups, len(x) - 1), 32)
        assert_allclose(got, wanted, atol=3e-7)


@exact_counts
@pytest.mark.parametrize("n_vectors", [2, 8, 32])
@pytest.mark.parametrize("protected", [0, 1])
def test_fixed_number_of_vectors(n_vectors, protected):
    rng = np.random.default_rng(n_vectors)
    documents = [topical(rng, n, 32) for n in (1, 8, 32, 33, 90)]
    pooling = TokenPooling(n_vectors=n_vectors, protected=protected)
    for x, got in zip(documents, pooling.pool(documents), strict=True):
        assert len(got) == min(len(x), n_vectors)
        wanted = x if len(x) <= n_vectors else scipy_pool(x, n_vectors - protected, protected=protected)
        assert_allclose(got, wanted, atol=3e-7)


@pytest.mark.parametrize("distance", [0.2, 0.6, 1.5])
def test_distance(distance):
    x = topical(np.random.default_rng(0), 70, 32)
    pooled = TokenPooling(distance=distance).pool([x])[0]
    assert 2 <= len(pooled) < 70
    assert_allclose(pooled, scipy_pool(x, height=distance), atol=3e-7)


@pytest.mark.parametrize("size", [{"factor": 3}, {"n_vectors": 5}])
def test_a_document_does_not_depend_on_its_company(size):
    rng = np.random.default_rng(2)
    documents = [topical(rng, n, 16) for n in (20, 0, 1, 2, 37)]
    pooling = TokenPooling(**size)
    together = pooling.pool(documents)
    for x, got in zip(documents, together, strict=True):
        assert_array_equal(pooling.pool([x])[0] if len(x) else np.empty((0, 16), np.float32), got)
    ragged = pooling.pool(TokenMatrices.of(documents))
    assert isinstance(ragged, TokenMatrices)
    assert_array_equal(ragged.flat, np.concatenate(together))
    assert ragged.lengths.tolist() == [len(x) for x in together]


def test_degenerate_documents():
    pooling = TokenPooling(n_vectors=4, protected=2)
    documents = [
        np.zeros((0, 3)),
        [[0.0, 2.0, 0.0]],
        np.zeros((9, 3)),
        np.tile([3.0, 0.0, 0.0], (9, 1)),
        np.array([[1.0, 0, 0], [0, 1, 0]] + [[0, 0, 1.0], [0, 0, -1.0]] * 4),
    ]
    pooled = pooling.pool(documents)
    assert [len(x) <= 4 for x in pooled] == [True] * 5
    assert pooled[0].shape == (0, 3)
    assert pooled[1].tolist() == [[0, 1, 0]]
    assert not pooled[2].any()
    assert_array_equal(pooled[3], np.tile(np.float32([1, 0, 0]), (len(pooled[3]), 1)))
    assert all(np.isfinite(x).all() for x in pooled)
    assert pooling.pool([]) == []


def test_vectors_come_out_with_unit_length():
    x = 7 * topical(np.random.default_rng(3), 30, 16)
    pooled = TokenPooling(factor=4).pool([x])[0]
    assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    assert_array_equal(pooled[0], TokenPooling(factor=1).pool([x])[0][0])


def test_configuration():
    for pooling in (
        TokenPooling(),
        TokenPooling(3, protected=0),
        TokenPooling(n_vectors=9),
        TokenPooling(distance=0.5),
    ):
        again = TokenPooling.from_config(pooling.get_config())
        assert again == pooling
        assert hash(again) == hash(pooling)
        assert eval(repr(pooling)) == pooling
    assert TokenPooling().factor == 2
    assert TokenPooling(2) != TokenPooling(3)
    with pytest.raises(CodecError, match="'speed'"):
        TokenPooling.from_config({**TokenPooling().get_config(), "speed": 1})
    with pytest.raises(CodecError, match="token pooling"):
        TokenPooling.from_config({"id": "svd"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0}, "factor as an integer"),
        ({"factor": 2.5}, "factor as an integer"),
        ({"factor": 2, "n_vectors": 8}, "one of factor"),
        ({"n_vectors": 1}, "n_vectors as an integer of at least 2"),
        ({"distance": -1.0}, "distance as a number of at least 0"),
        ({"protected": -1}, "protected"),
        ({"distance": True}, "distance"),
        ({"protected": True}, "protected"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ParameterError, match=message):
        TokenPooling(**options)


def test_vectors_that_do_not_fit():
    with pytest.raises(InvalidVectorsError, match="document 1"):
        TokenPooling().pool([np.ones((2, 3)), np.array([[1.0, np.nan, 0.0]])])
    with pytest.raises(InvalidVectorsError, match=r"\[3, 4\]"):
        TokenPooling().pool([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(InvalidVectorsError, match=r"document 0 of shape \(n_tokens, dim\), got shape \(3,\)"):
        TokenPooling().pool([np.ones(3)])
    with pytest.raises(InputTypeError, match="real numbers"):
        TokenPooling().pool([np.array([["a"]])])


def test_token_matrices():
    tokens = TokenMatrices.of([np.ones((2, 3)), [], np.zeros((1, 3))])
    assert [len(x) for x in tokens] == [2, 0, 1]
    assert tokens.owners.tolist() == [0, 0, 2]
    assert tokens[-1].tolist() == [[0, 0, 0]]
    assert TokenMatrices.of(tokens) is tokens
    assert TokenMatrices.of([], dim=4).flat.shape == (0, 4)
    with pytest.raises(IndexError, match="between 0 and 2"):
        tokens[3]
    with pytest.raises(InvalidVectorsError, match="dimension 4, got 3"):
        TokenMatrices.of(tokens, dim=4)
    with pytest.raises(InvalidVectorsError, match="tells the dimension"):
        TokenMatrices.of([[]])
    flat = np.ones((3, 2), np.float32)
    with pytest.raises(ParameterError, match="rise from 0 to the 3"):
        TokenMatrices(flat, np.array([0, 2]))
    with pytest.raises(ParameterError, match="int64"):
        TokenMatrices(flat, np.array([0.0, 3.0]))
    with pytest.raises(InvalidVectorsError, match="float32"):
        TokenMatrices(flat.astype(np.float64), np.array([0, 3]))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), k=st.integers(1, 60), seed=st.integers(0, 2**20), values=st.integers(1, 4))
def test_ties_leave_the_heights_of_some_tree(n, k, seed, values):
    # Among equal distances more than one tree is right; a merge is, if no other pair was nearer.
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(1, 1 + values, (n, n)).astype(np.float64), 1)
    merges, heights = _merge(upper + upper.T, 0, np.inf)
    assert len(merges) == n - 1
    assert len(np.unique(merges[:, 1])) == n - 1  # each point but the first is merged away once
    squared = (upper + upper.T) ** 2
    alive, sizes = np.ones(n, bool), np.ones(n)
    for (a, b), height in zip(merges, heights, strict=True):
        assert_allclose(squared[a, b], height)
        others = alive.copy()
        others[[a, b]] = False
        if others.any():  # mutual nearest neighbours when they are merged, in the order in which they are
            assert height <= squared[a, others].min() + 1e-9
            assert height <= squared[b, others].min() + 1e-9
        row = (sizes[a] + sizes) * squared[a] + (sizes[b] + sizes) * squared[b] - sizes * height
        squared[a] = squared[:, a] = row / (sizes[a] + sizes[b] + sizes)
        sizes[a], alive[b] = sizes[a] + sizes[b], False
    assert len(np.unique(ward_labels(upper + upper.T, n_clusters=k))) <= k


def test_equal_tokens_become_one():
    token = np.float32([[0.3, -0.2, 0.9]])
    assert len(TokenPooling(factor=2, protected=0).pool([token.repeat(700, axis=0)])[0]) == 1
    far = TokenPooling(factor=50, protected=0).pool([np.eye(600, dtype=np.float32)])[0]  # all at the same distance
    assert 1 <= len(far) <= 12


@pytest.mark.parametrize(
    "pooling", [{"factor": 2}, {"factor": 30}, {"n_vectors": 9}, {"n_vectors": 300}, {"distance": 0.4}]
)
def test_long_documents_are_pooled_by_windows(pooling):
    rng = np.random.default_rng(7)
    x = topical(rng, 2_701, 16)
    pooled = TokenPooling(**pooling, protected=1).pool([x])[0]
    assert_array_equal(pooled[0], TokenPooling(factor=1).pool([x])[0][0])
    assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    edges = [1, 901, 1801, 2701]
    if pooling in ({"factor": 2}, {"distance": 0.4}):  # each window by itself, into its share
        whole = TokenPooling(**pooling, protected=0)  # which is scipy's, see above
        assert_allclose(pooled[1:], np.concatenate(whole.pool([x[a:b] for a, b in pairwise(edges)])), atol=1e-6)
    else:
        assert len(pooled) == {30: 91, 9: 9, 300: 300}[next(iter(pooling.values()))]


def test_few_groups_of_a_long_document_are_the_groups_that_it_has():
    # Five directions, far apart and in no order: whatever window a token is in, it belongs to its direction.
    rng = np.random.default_rng(3)
    owners = rng.integers(0, 5, 2_600)
    x = np.float32(unit(np.eye(16)[owners] + 0.05 * rng.standard_normal((2_600, 16))))
    pooled = TokenPooling(n_vectors=5, protected=0).pool([x])[0]
    wanted = [
        unit(x[owners == owner].sum(axis=0, keepdims=True))[0]
        for owner in owners[np.sort(np.unique(owners, return_index=True)[1])]
    ]
    assert_allclose(pooled, wanted, atol=1e-5)
