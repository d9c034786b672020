"""Cells against slow, obvious versions of what they do."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._rotation import StructuredRotation
from octavo.index import cells
from octavo.index.cells import CellModel, Segment
from octavo.index.reach import MOST_WIDENED, HeldOut, Reach


def clustered(n: int, dim: int, seed: int, *, spread: float = 0.6, mean: float = 0.0) -> np.ndarray:
    """Return unit vectors around a few centres, all of them around a common one if `mean` is not zero."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 40), dim))
    X = centres[rng.integers(0, len(centres), n)] + spread * rng.standard_normal((n, dim)) + mean * np.sqrt(dim)
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def bits_of(model: CellModel, segment: Segment) -> np.ndarray:
    """Return the part of the vectors that their bits stand for, from the definition: f b, in rotated space."""
    bits = np.unpackbits(segment.records["bits"], axis=1)[:, : model.dim]
    return segment.records["f"].astype(np.float64)[:, None] * model.length * np.where(bits, 1.0, -1.0)


def decoded(model: CellModel, segment: Segment) -> np.ndarray:
    """Return the vectors that the codes of a segment stand for, from the definition: h c + f b, in rotated space."""
    floats = model.centroids.astype(np.float64)
    centroids = floats / np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), 1e-12)
    owner = np.repeat(np.arange(len(model)), np.diff(segment.starts))
    return segment.records["h"].astype(np.float64)[:, None] * model.length * centroids[owner] + bits_of(model, segment)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 300),
    dim=st.sampled_from([1, 2, 5, 31, 32, 33, 64]),
    wanted=st.integers(1, 40),
    seed=st.integers(0, 100),
    scale=st.sampled_from([1.0, 1e-3, 5e4]),
)
def test_search_agrees_with_the_definition(n: int, dim: int, wanted: int, seed: int, scale: float) -> None:
    X = clustered(n, dim, seed) * np.float32(scale)
    model = CellModel.train(X, wanted, seed=seed)
    segment, _ = model.encode(X, np.arange(n) * 3)
    assert sorted(segment.records["slot"].tolist()) == list(range(0, 3 * n, 3))
    query = np.random.default_rng(seed + 1).standard_normal(dim).astype(np.float32)
    slots, estimates = model.search(query, [segment], rows=n, keep=n)
    rotated = model.rotation.apply(query[None])[0].astype(np.float64)
    slow = decoded(model, segment) @ rotated
    # Bits are multiplied with the query in four or eight bits a value: the nearest odd multiple of a step.
    step = np.abs(rotated).max() / (2**model.planes - 1)
    nearest = (2 * np.round((rotated / step - 1) / 2) + 1) * step
    assert np.abs(nearest - rotated).max() <= 1.001 * step
    slow += bits_of(model, segment) @ (nearest - rotated)
    by_slot = dict(zip(segment.records["slot"].tolist(), slow.tolist(), strict=True))
    assert sorted(slots.tolist()) == sorted(by_slot)
    tolerance = 0.02 * scale * np.linalg.norm(query)  # centroids and the products with them have eight bits
    assert np.allclose(estimates, [by_slot[slot] for slot in slots.tolist()], atol=tolerance)
    assert (np.diff(estimates) <= 0).all()


@pytest.mark.parametrize("dim", [2, 33, 64, 384])
def test_queries_of_a_block_are_compared_as_each_is_alone(dim: int) -> None:
    """A batch finds what its queries find, to the last bit."""
    X = clustered(600, dim, 5)
    model = CellModel.train(X, 30)
    queries = np.concatenate([clustered(37, dim, 6) * np.float32(3), np.zeros((1, dim), np.float32)])
    segment, _ = model.encode(X, np.arange(len(X)))
    routed, alone = model.route(queries), [model.route(query[None]) for query in queries]
    assert routed.products.dtype == np.float32  # in float64 everything that follows takes twice as long
    for name in ("lengths", "rotated", "products"):
        assert np.array_equal(getattr(routed, name), np.concatenate([getattr(each, name) for each in alone]))
    found = model.search_batch(routed, [segment], 200, 20)
    for query, (slots, estimates) in zip(queries, found, strict=True):
        by_itself = model.search(query, [segment], 200, 20)
        assert np.array_equal(slots, by_itself[0])
        assert np.array_equal(estimates, by_itself[1])


@pytest.mark.parametrize("rows", [None, 900])
@pytest.mark.parametrize("share", [None, 0.9, 0.05])
@pytest.mark.parametrize("n_segments", [1, 3])
def test_a_block_of_queries_finds_what_each_finds_alone(rows: int | None, share: float | None, n_segments: int) -> None:
    """In several segments, under deletions and filters, and where each decides how far it looks."""
    X = clustered(9_000, 32, 6)
    model, whole, _ = learned(X, 450)
    edges = np.linspace(0, len(X), n_segments + 1).astype(int)
    segments = [model.encode(X[a:b], np.arange(a, b))[0] for a, b in itertools.pairwise(edges)]
    assert n_segments > 1 or np.array_equal(segments[0].records, whole.records)
    queries = np.concatenate([clustered(20, 32, 6), np.zeros((1, 32), np.float32), clustered(4, 32, 9) * 5])
    options: dict[str, Any] = {"widen": True}
    if share is not None:
        options["mask"] = np.random.default_rng(1).random(len(X)) < share
        if share < 0.5:  # a filter; the other is what deletions leave
            options["counts"] = [segment.counts(options["mask"]) for segment in segments]
    together = model.search_batch(model.route(queries), segments, rows, 50, **options)
    assert len({len(slots) for slots, _ in together}) > 1 or rows is not None
    for query, (slots, estimates) in zip(queries, together, strict=True):
        by_itself = model.search(query, segments, rows, 50, **options)
        assert np.array_equal(slots, by_itself[0])
        assert np.array_equal(estimates, by_itself[1])
    some = model.search_batch(model.route(queries)[[3, 21]], segments, rows, 50, **options)
    assert [slots.tolist() for slots, _ in some] == [together[3][0].tolist(), together[21][0].tolist()]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3_000),
    first=st.integers(1, 40),
    levels=st.lists(st.sampled_from([1, 3, 1000]), min_size=1, max_size=4),
)
def test_the_largest_products_are_found(n: int, first: int, levels: list[int]) -> None:
    """Of each row what it would give alone, whatever is equal in the others."""
    rng = np.random.default_rng(n)
    products = np.stack([rng.integers(0, each, n) for each in levels]).astype(np.float32)
    places, borders = cells._first_places(products, first)
    assert (np.diff(places) > 0).all()
    for number, row in enumerate(products):
        chosen = places[(places >= number * n) & (places < (number + 1) * n)] - number * n
        assert min(first, n) <= len(chosen) <= 2 * first or len(chosen) == n <= first
        assert row[chosen].min() == borders[number]
        assert np.array_equal(np.sort(row[chosen])[::-1], np.sort(row)[::-1][: len(chosen)])  # none is passed over
        alone, border = cells._first_places(row[None], first)
        assert np.array_equal(alone, chosen)
        assert border[0] == borders[number]


@pytest.mark.parametrize("mean", [0.0, 1.5])
def test_estimates_have_no_bias_and_little_error(mean: float) -> None:
    """Also where all vectors point nearly the same way, as those of many models do."""
    X = clustered(2_000, 64, 3, mean=mean)
    query = clustered(1, 64, 4, mean=mean)[0]
    errors = []
    for seed in range(12):
        model = CellModel.train(X, 40, seed=seed)
        segment, _ = model.encode(X, np.arange(len(X)))
        slots, estimates = model.search(query, [segment], rows=len(X), keep=len(X))
        errors.append((estimates - X[slots] @ query)[np.argsort(slots)])
    errors = np.array(errors)
    residual = np.sqrt(1 - np.square(model.cosine)) * np.linalg.norm(query) / np.sqrt(64)
    assert abs(errors.mean()) < 0.02 * residual * np.sqrt(64)
    assert np.sqrt(np.square(errors).mean()) < residual


def test_rows_go_to_their_nearest_centroid() -> None:
    X = clustered(30_000, 32, 0)
    model = CellModel.train(X, 1_500)
    assert len(model.groups) > 2  # by groups, not by comparing all
    segment, cosine = model.encode(X, np.arange(len(X)))
    rotated = model.rotation.apply(X)
    centroids = model.centroids / np.linalg.norm(model.centroids.astype(np.float32), axis=1, keepdims=True)
    products = np.concatenate([part @ centroids.T for part in np.array_split(rotated, 30)])
    best = products.max(axis=1)
    owner = np.empty(len(X), np.int64)
    owner[segment.records["slot"]] = np.repeat(np.arange(len(model)), np.diff(segment.starts))
    given = products[np.arange(len(X)), owner]
    assert (given >= best - 0.01).mean() > 0.98
    assert cosine == pytest.approx(given.mean(), abs=1e-3)


def test_the_nearest_cells_hold_most_of_the_best() -> None:
    X = clustered(20_000, 48, 5, spread=0.8)
    queries = clustered(30, 48, 5, spread=0.8)
    model = CellModel.train(X, cells.cells_for(len(X)))
    segment, _ = model.encode(X, np.arange(len(X)))
    for rows, least in ((len(X), 0.99), (2_000, 0.9)):
        found = [model.search(query, [segment], rows, 200)[0] for query in queries]
        best = np.argsort(-(queries @ X.T), axis=1)[:, :10]
        recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(best, found, strict=True)])
        assert recall >= least


def test_segments_together_find_what_one_finds() -> None:
    X = clustered(900, 24, 6)
    model = CellModel.train(X, 30)
    whole, _ = model.encode(X, np.arange(900))
    parts = [model.encode(X[a:b], np.arange(a, b))[0] for a, b in ((0, 100), (100, 101), (101, 900))]
    for query in X[:20]:
        one, several = model.search(query, [whole], 400, 50), model.search(query, parts, 400, 50)
        assert np.allclose(one[1], several[1])
        assert set(one[0].tolist()) == set(several[0].tolist())


def test_a_filter_never_starves_a_query() -> None:
    X = clustered(3_000, 16, 7)
    model = CellModel.train(X, 60)
    segment, _ = model.encode(X, np.arange(3_000))
    mask = np.zeros(3_000, np.bool_)
    mask[np.random.default_rng(0).permutation(3_000)[:40]] = True
    counts = segment.counts(mask)
    owner = np.repeat(np.arange(len(model)), np.diff(segment.starts))
    assert counts.tolist() == np.bincount(owner[mask[segment.records["slot"]]], minlength=len(model)).tolist()
    for query in X[:10]:
        slots, _ = model.search(query, [segment], 40, 40, mask=mask, counts=[counts])
        assert sorted(slots.tolist()) == np.flatnonzero(mask).tolist()
        few, _ = model.search(query, [segment], 5, 40, mask=mask, counts=[counts])
        assert len(few) >= 5
        assert mask[few].all()


@pytest.mark.parametrize("n", [1, 2, 17])
def test_few_rows_and_equal_rows(n: int) -> None:
    X = np.ones((n, 8), np.float32)
    model = CellModel.train(X, 5)
    segment, cosine = model.encode(X, np.arange(n))
    slots, estimates = model.search(X[0], [segment], 100, 100)
    assert sorted(slots.tolist()) == list(range(n))
    assert np.allclose(estimates, 8, atol=0.2)
    assert cosine == pytest.approx(1, abs=0.01)


def test_zero_vectors_have_a_cell_and_no_similarity() -> None:
    X = np.concatenate([clustered(50, 12, 8), np.zeros((3, 12), np.float32)])
    model = CellModel.train(X, 4)
    segment, _ = model.encode(X, np.arange(53))
    slots, estimates = model.search(X[0], [segment], 53, 53)
    assert np.allclose(estimates[slots >= 50], 0)
    nothing, _ = model.search(np.zeros(12, np.float32), [segment], 53, 53)
    assert len(nothing) == 53
    only_zeros = CellModel.train(np.zeros((4, 12), np.float32), 2)
    assert len(only_zeros.search(X[0], [only_zeros.encode(X, np.arange(53))[0]], 53, 53)[0]) == 53


def test_the_same_seed_gives_the_same_codes_whatever_the_company() -> None:
    X = clustered(400, 20, 9)
    one, other = CellModel.train(X, 12, seed=4), CellModel.train(X, 12, seed=4)
    assert one.centroids.tobytes() == other.centroids.tobytes()
    whole, _ = one.encode(X, np.arange(400))
    single = {int(s): one.encode(X[s : s + 1], np.array([s]))[0].records[0] for s in (0, 7, 399)}
    for slot, record in single.items():
        assert whole.records[whole.records["slot"] == slot][0].tobytes() == record.tobytes()


def test_a_model_rebuilt_from_its_parts_finds_the_same() -> None:
    X = clustered(600, 20, 10)
    model = CellModel.train(X, 25, seed=2)
    again = CellModel(model.centroids, model.groups, seed=model.seed, length=model.length, cosine=model.cosine)
    segment, _ = model.encode(X, np.arange(600))
    for query in X[:5]:
        a, b = model.search(query, [segment], 200, 20), again.search(query, [segment], 200, 20)
        assert a[0].tolist() == b[0].tolist()
        assert a[1].tolist() == b[1].tolist()


# ---------------------------------------------------------------------- how far to look


def learned(X: np.ndarray, n_cells: int, seed: int = 0) -> tuple[CellModel, Segment, HeldOut]:
    rng = np.random.default_rng(seed)
    model = CellModel.train(X, n_cells, seed=seed)
    held = model.held_out(*(X[rng.integers(0, len(X), 200)] for _ in range(3)))
    parts = [model.encode(X[a : a + 700], np.arange(a, min(len(X), a + 700)), held) for a in range(0, len(X), 700)]
    segment = Segment.merged([part for part, _ in parts])
    return model.learned(held, segment, float(np.mean([cosine for _, cosine in parts]))), segment, held


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_held_out_queries_know_their_nearest_rows(scale: float) -> None:
    X = clustered(3_000, 40, 21, spread=1.0) * np.float32(scale)
    X[::3] *= np.float32(1.7)
    model, _, held = learned(X, 60)
    queries = model.rotation.undo(held.queries)
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-4)
    truth = -np.sort(-(queries @ X.T), axis=1)[:, : held.scores.shape[1]]
    assert np.allclose(held.scores, truth, rtol=0.02, atol=0.02 * scale)
    assert np.allclose(np.take_along_axis(queries @ X.T, held.slots, axis=1), truth, atol=0.02 * scale)
    owner = model.encode(X, np.arange(len(X)))[0]
    cells_of = np.empty(len(X), np.int64)
    cells_of[owner.records["slot"]] = np.repeat(np.arange(len(model)), owner.sizes)
    assert (cells_of[held.slots] == held.cells).all()


@pytest.mark.parametrize("mean", [0.0, 0.2])
def test_a_query_looks_as_far_as_it_has_to(mean: float) -> None:
    X = clustered(20_000, 48, 5, spread=0.8, mean=mean)
    queries = clustered(60, 48, 5, spread=0.8, mean=mean)
    model, segment, _ = learned(X, cells.cells_for(len(X)))
    reach = model.reach
    assert reach is not None
    assert reach.sound
    assert reach.first < reach.most < len(model)
    looked, hits = [], 0
    for query in queries:
        rows = []
        slots, _ = model.search(
            query,
            [segment],
            None,
            round(10 * reach.kept),
            check=lambda number, first, last, rows=rows: rows.append(int((last - first).sum())),
        )
        best = np.argsort(-(X @ query))[:10]
        hits += len(set(best.tolist()) & set(slots.tolist()))
        looked.append(sum(rows))
    assert hits >= 0.96 * 10 * len(queries)
    assert max(looked) <= 1.5 * reach.most * len(X) / len(model)
    assert np.mean(looked) < 0.5 * len(X)
    assert len(set(looked)) > 20  # each query finds out by itself


@pytest.mark.parametrize(("spread", "planes"), [(1.5, 4), (0.6, 8)])
def test_queries_have_more_bits_where_vectors_are_alike(spread: float, planes: int) -> None:
    """What a model knows of its vectors stays the same when it is made again of what is stored."""
    X = clustered(4_000, 32, 6, spread=spread)
    model, _, _ = learned(X, 200)
    assert (model.cosine >= 0.8) == (planes == 8)
    assert model.planes == planes
    again = CellModel(model.centroids, model.groups, seed=model.seed, length=model.length, cosine=model.cosine)
    assert again.planes == planes


def test_a_filter_does_not_starve_a_query_that_finds_out_by_itself() -> None:
    X = clustered(8_000, 32, 6)
    model, segment, _ = learned(X, 400)
    for share in (0.5, 0.02, 0.003):
        mask = np.random.default_rng(1).random(len(X)) < share
        counts = [segment.counts(mask)]
        hits = total = 0
        for query in clustered(20, 32, 6):
            slots, _ = model.search(query, [segment], None, 100, mask=mask, counts=counts)
            assert mask[slots].all()
            best = np.argsort(-np.where(mask, X @ query, -9))[: min(10, int(mask.sum()))]
            hits, total = hits + len(set(best.tolist()) & set(slots.tolist())), total + len(best)
        assert hits >= 0.95 * total
    nothing = np.zeros(len(X), np.bool_)
    assert not len(model.search(X[0], [segment], None, 10, mask=nothing, counts=[segment.counts(nothing)])[0])


def test_a_query_that_looks_farther_has_more_rescored() -> None:
    X = clustered(8_000, 32, 6)
    model = CellModel.train(X, 400)
    segment, _ = model.encode(X, np.arange(len(X)))
    sizes = []
    for shift, typical in [(-9.0, 64.0), (9.0, 320.0), (9.0, 160.0), (9.0, 64.0), (9.0, 20.0)]:
        reach = Reach(64, 320, score=0.75, border=0.5, shift=shift, typical=typical, kept=2.0)
        looks = CellModel(model.centroids, model.groups, seed=model.seed, length=model.length, cosine=0.5, reach=reach)
        query = clustered(1, 32, 7)[0]
        plain, _ = looks.search(query, [segment], None, 20)
        wide, estimates = looks.search(query, [segment], None, 20, widen=True)
        assert len(plain) == 20
        assert wide[:20].tolist() == plain.tolist()
        assert (np.diff(estimates) <= 0).all()
        assert len(looks.search(query, [segment], 2_000, 20, widen=True)[0]) == 20  # how far to look was said
        sizes.append(len(wide))
    assert sizes[0] == 20  # no farther than usual
    assert 20 <= sizes[1] < sizes[2] < sizes[3] == sizes[4] == 20 * MOST_WIDENED


def test_learning_how_far_to_look_can_be_given_up() -> None:
    X = clustered(1_000, 32, 6)
    model, segment, held = learned(X, 50)
    calls = []

    def pause() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        model.learned(held, segment, 0.5, pause)


def test_where_there_is_little_to_learn_from() -> None:
    few = clustered(9, 8, 1)
    model, _, _ = learned(few, 3)
    assert model.reach is None  # fewer rows than are looked for
    equal = np.ones((300, 8), np.float32)
    model, segment, _ = learned(equal, 5)
    slots, _ = model.search(equal[0], [segment], None, 50)
    assert len(slots) == 50
    zeros = np.zeros((300, 8), np.float32)
    model, segment, _ = learned(zeros, 5)
    assert len(model.search(equal[0], [segment], None, 50)[0]) == 50


# ---------------------------------------------------------------------- the rotation


@settings(max_examples=30, deadline=None)
@given(dim=st.integers(1, 200), seed=st.integers(0, 1000))
def test_the_rotation_keeps_products(dim: int, seed: int) -> None:
    rotation = StructuredRotation(dim, seed)
    X = np.random.default_rng(seed).standard_normal((7, dim)).astype(np.float32)
    Y = rotation.apply(X)
    assert np.allclose(Y @ Y.T, X @ X.T, atol=1e-3)
    assert np.allclose(rotation.undo(Y), X, atol=1e-4)
    assert np.array_equal(rotation.apply(X[3:4])[0], Y[3]) or np.allclose(rotation.apply(X[3:4])[0], Y[3], atol=1e-5)
    assert np.array_equal(StructuredRotation(dim, seed).apply(X), Y)


def test_the_rotation_spreads_any_direction() -> None:
    """A vector with one value becomes one whose values look normally distributed, as behind a dense random matrix."""
    spread = [
        np.abs(StructuredRotation(384, seed).apply(np.eye(384, dtype=np.float32)[:8])).max(axis=1) for seed in range(8)
    ]
    assert np.median(spread) < 5 / np.sqrt(384)
    assert np.max(spread) < 12 / np.sqrt(384)
    assert StructuredRotation(3072, 0).nbytes < 200_000
