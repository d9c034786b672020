"""RaBitQ: codes against the published definition, estimates without bias, and what a row's two bytes tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import octavo
from octavo._layout import from_logarithms
from octavo.compression import Codec, RaBitQ
from octavo.errors import CodecError, ParameterError
from octavo.index import exact_search

BITS = [1, 2, 3, 4]


def unit(x: np.ndarray) -> np.ndarray:
    return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


def anisotropic(n: int, dim: int, seed: int = 0, common: float = 1.0) -> np.ndarray:
    """Unit vectors that have a direction in common, as those of most models do."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=dim)
    return unit(rng.normal(size=(n, dim)) + common * direction)


def all_scores(step: RaBitQ, documents: np.ndarray, queries: np.ndarray) -> np.ndarray:
    rows, scores = exact_search(step.layout, step.encode(documents), step.encode_queries(queries), len(documents))
    ordered = np.empty(scores.shape)
    np.put_along_axis(ordered, rows, scores.astype(np.float64), axis=1)
    return ordered


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dim", [5, 33, 64])
def test_codes_and_factors_are_those_of_the_definition(bits: int, dim: int) -> None:
    X = anisotropic(80, dim)
    step = RaBitQ(bits).fit(X)
    codes, state = step.encode(X), step.get_state()
    assert codes.shape == (80, (bits * -(-dim // 8) if bits < 4 else -(-dim // 2)) + 2)
    rotation = step._rotation.apply(np.eye(dim, dtype=np.float32)).astype(np.float64)
    centred = np.float64(X) - state["mean"]
    radii = np.linalg.norm(centred, axis=1)
    turned = centred / radii[:, None] @ rotation
    whole = step.layout.unpack(codes).astype(np.float64)
    assert (np.abs(whole) % 2 == 1).all()
    assert np.abs(whole).max() <= 2**bits - 1
    products = (whole * turned).sum(axis=1)
    if bits == 1:
        assert (whole == np.where(turned > 0, 1, -1)).mean() > 0.999
    else:
        # Nearest odd numbers of a multiple of the direction, and the product that all rows share.
        for row, direction in zip(whole, turned, strict=True):
            stretches = np.geomspace(0.3, 3, 4000) * float(state["stretch"])
            grids = np.clip(2 * np.floor(direction * stretches[:, None]) + 1, 1 - 2**bits, 2**bits - 1)
            assert (grids == row).all(axis=1).any() or np.abs(grids - row).sum(axis=1).min() <= 2
        assert_allclose(products, state["product"], rtol=0.06 if dim > 8 else 0.5)
    factors = from_logarithms(np.ascontiguousarray(codes[:, -2:]).view(np.uint16)[:, 0])
    wanted = radii / products * float(state["product"]) / float(state["radius"])
    assert_allclose(factors, wanted, rtol=1e-3)


@pytest.mark.parametrize("bits", BITS)
def test_decoded_vectors_are_the_nearest_multiples(bits: int) -> None:
    X = anisotropic(60, 48)
    step = RaBitQ(bits).fit(X)
    centred = np.float64(X) - step.get_state()["mean"]
    back = step.decode(step.encode(X)) - step.get_state()["mean"]
    cosine = (centred * back).sum(axis=1) / np.linalg.norm(centred, axis=1) / np.linalg.norm(back, axis=1)
    assert cosine.mean() > {1: 0.75, 2: 0.9, 3: 0.97, 4: 0.99}[bits]
    assert_allclose(np.linalg.norm(back, axis=1), np.linalg.norm(centred, axis=1) * cosine, rtol=0.25)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("common", [0.0, 2.0])
def test_estimates_are_without_bias(bits: int, common: float) -> None:
    X, Q = anisotropic(40, 64, common=common), anisotropic(6, 64, seed=1, common=common)
    exact = Q.astype(np.float64) @ X.T
    estimates = np.array([all_scores(RaBitQ(bits).fit(X, seed=seed), X, Q) for seed in range(60)])
    mean, deviation = estimates.mean(axis=0), estimates.std(axis=0)
    # Over random rotations the mean is the true product, within four standard errors and the rounding of two bytes.
    assert np.abs(mean - exact).max() < (4.5 * deviation / np.sqrt(60)).max() + 2e-3
    assert np.abs((mean - exact).mean()) < 2e-3


def test_the_error_shrinks_with_bits_and_dimensions() -> None:
    def error(bits: int, dim: int) -> float:
        X, Q = anisotropic(200, dim), anisotropic(20, dim, seed=1)
        return float(np.abs(all_scores(RaBitQ(bits).fit(X), X, Q) - Q @ X.T).mean())

    errors = [error(bits, 256) for bits in BITS]
    for more, less in zip(errors[1:], errors[:-1], strict=True):
        assert more < 0.65 * less
    assert error(1, 1024) < 0.6 * error(1, 256)


def test_the_common_direction_costs_no_precision() -> None:
    """Queries are centred too: otherwise the error would grow with the length of the mean."""
    errors = []
    for common in (0.0, 3.0):
        X, Q = anisotropic(400, 128, common=common), anisotropic(20, 128, seed=1, common=common)
        step = RaBitQ(1).fit(X)
        errors.append(np.abs(all_scores(step, X, Q) - Q @ X.T).mean() / (Q @ X.T).std(axis=1).mean())
    assert errors[1] < 1.3 * errors[0]


def test_better_than_signs_alone() -> None:
    X, Q = anisotropic(2000, 96, common=1.0), anisotropic(40, 96, seed=1, common=1.0)
    best = np.argsort(-(Q @ X.T), axis=1)[:, :10]
    agreements = {}
    for text in ("binary", "rabitq:1", "rabitq:2", "rabitq:3", "rabitq:4"):
        [tier] = Codec.parse(text).fit(X)
        rows, _ = exact_search(tier.layout, tier.encode(X), tier.encode_queries(Q), 10)
        agreements[text] = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(rows, best, strict=True)])
    ranked = list(agreements.values())
    assert ranked == sorted(ranked)
    assert agreements["rabitq:1"] > agreements["binary"] + 0.1
    assert agreements["rabitq:4"] > 0.85


@pytest.mark.parametrize("text", ["rabitq:1", "rabitq:4", "int8", "int4", "int2", "float8"])
@pytest.mark.parametrize("factor", [1000.0, 1e6])
def test_one_long_document_costs_the_others_nothing(text: str, factor: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(0.3, 1, (800, 64)).astype(np.float32) * rng.uniform(0.5, 2, (800, 1)).astype(np.float32)
    Q = rng.normal(0.3, 1, (30, 64)).astype(np.float32)
    # The queries point away from the long one, or it would be first everywhere.
    long = X.copy()
    long[0] *= factor
    agreements = []
    for documents in (X, long):
        [tier] = Codec.parse(text).fit(documents)
        assert tier.layout.lengths
        exact = Q.astype(np.float64) @ documents[1:].T
        best = np.argsort(-exact, axis=1)[:, :10]
        codes, queries = tier.encode(documents), tier.encode_queries(Q)
        rows, _ = exact_search(tier.layout, codes[1:], queries, 10)
        agreements.append(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(rows, best, strict=True)]))
        rows, scores = exact_search(tier.layout, codes[:1], queries, 1)
        exact = Q.astype(np.float64) @ documents[0].astype(np.float64)
        length = np.linalg.norm(documents[0].astype(np.float64)) * np.linalg.norm(Q, axis=1)
        error = {"rabitq:1": 0.4, "rabitq:4": 0.05, "int8": 0.01, "int4": 0.1, "int2": 0.3, "float8": 0.05}[text]
        assert np.abs(scores[:, 0] - exact).max() < (error * length).max()
    assert agreements[1] > agreements[0] - 0.05
    assert agreements[0] > {"int8": 0.95, "rabitq:4": 0.85, "float8": 0.85, "int4": 0.8}.get(text, 0.3)


@pytest.mark.parametrize("text", ["rabitq:2", "int8", "int4", "float8"])
def test_longer_than_anything_fitted_is_not_cut_off(text: str) -> None:
    X = np.random.default_rng(0).normal(0.3, 1, (300, 32)).astype(np.float32)
    [tier] = Codec.parse(text).fit(X, lengths=True)
    queries = tier.encode_queries(X[:5])
    short = exact_search(tier.layout, tier.encode(X[7:8]), queries, 1)[1]
    for factor in (10.0, 1e4, 1e8):
        long = exact_search(tier.layout, tier.encode(X[7:8] * np.float32(factor)), queries, 1)[1]
        assert_allclose(long, factor * short, rtol=1e-3)
        assert_allclose(
            np.linalg.norm(tier.decode(tier.encode(X[7:8] * np.float32(factor)))),
            factor * np.linalg.norm(tier.decode(tier.encode(X[7:8]))),
            rtol=1e-3,
        )


def test_lengths_are_kept_where_they_differ() -> None:
    X = anisotropic(100, 40)
    for text in ("int8", "rabitq:1", "svd:50%|int4"):
        one, other = (
            Codec.parse(text).fit(X),
            Codec.parse(text).fit(X * np.linspace(1, 2, 100, dtype=np.float32)[:, None]),
        )
        asked = Codec.parse(text).fit(X, lengths=True)
        [a], [b], [c] = one.tiers, other.tiers, asked.tiers
        assert (a.layout.lengths, b.layout.lengths, c.layout.lengths) == (False, True, True)
        assert b.layout.row_bytes == c.layout.row_bytes == a.layout.row_bytes + 2
        assert a.layout_for(40) == a.layout
        assert a.layout_for(40, lengths=True) == c.layout
        again = Codec.from_bytes(other.to_bytes())
        assert again.tiers[0].layout == b.layout
        assert_array_equal(again.encode(X)[0], other.encode(X)[0])


def test_behind_centring_the_length_of_a_row_is_not_guessed() -> None:
    X, Q = anisotropic(500, 64, common=2.0), anisotropic(20, 64, seed=1, common=2.0)
    [tier] = Codec.parse("pca:50%|rabitq:4").fit(X)
    assert float(tier.quantizer.get_state()["whole"]) == 0
    rows, scores = exact_search(tier.layout, tier.encode(X), tier.encode_queries(Q), 500)
    wanted = Q.astype(np.float64) @ tier.decode(tier.encode(X)).T
    found = scores + tier.query_offset(Q)[:, None]
    assert_allclose(found, np.take_along_axis(wanted, rows, 1), atol=0.05)


def test_wide_vectors_take_little_memory_beside_the_codes() -> None:
    X = np.random.default_rng(0).normal(size=(20, 3072))
    codec = Codec.parse("rabitq:1 > rabitq:4").fit(X)
    assert codec.state_bytes < 200_000
    assert len(codec.to_bytes()) < 202_000


def test_configuration() -> None:
    assert str(Codec.parse("rabitq:1 > int8")) == "rabitq:1 > int8"
    assert RaBitQ(np.int64(3)) == RaBitQ(3) != RaBitQ(2)
    for wrong in (0, 5, True, 1.0, "1"):
        with pytest.raises(ParameterError, match="bits"):
            RaBitQ(wrong)
    for text in ("rabitq", "rabitq:0", "rabitq:5", "rabitq:one", "rabitq:"):
        with pytest.raises(CodecError, match="rabitq:1 to rabitq:4"):
            Codec.parse(text)
    state = RaBitQ(1).fit(anisotropic(9, 8)).get_state()
    for name, bad in (("stretch", np.float32(-1)), ("order", np.zeros((3, 8), np.int32))):
        with pytest.raises(CodecError, match="learned state"):
            RaBitQ(1).set_state({**state, name: np.asarray(bad)})


# -- collections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("codec", ["rabitq:1 > int8", "rabitq:1 > rabitq:4", "rabitq:3", "svd:50%|rabitq:2"])
def test_a_collection(codec: str, metric: str, tmp_path: Path) -> None:
    X, Q = anisotropic(400, 40), anisotropic(12, 40, seed=1)
    if metric == "dot":
        X = X * np.random.default_rng(0).uniform(0.5, 2, (400, 1)).astype(np.float32)
    with octavo.open(tmp_path / "kb", codec=codec, fit_after=100, metric=metric) as kb:
        kb.add(ids=[str(i) for i in range(400)], vectors=X)
        finest = kb._current().tiers[-1]
        assert finest.layout.lengths is (metric == "dot")
        for number, tier in enumerate(kb.info().tiers):
            assert kb.info().disk[f"tier {number}"] == 400 * tier["row_bytes"]
        before = [kb.search(query, 10) for query in Q]
        best = np.argsort(-(Q @ X.T), axis=1)[:, :10]
        agreement = np.mean([len({*map(int, hit.ids)} & {*row}) / 10 for hit, row in zip(before, best, strict=True)])
        assert agreement > {"rabitq:1 > int8": 0.9, "rabitq:1 > rabitq:4": 0.75}.get(codec, 0.3)
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        for query, old in zip(Q, before, strict=True):
            new = kb.search(query, 10)
            assert new.ids == old.ids
            assert_array_equal(new.scores, old.scores)
        assert kb.delete(["3"]) == 1
        kb.add(ids=["new"], vectors=X[3:4] * (50 if metric == "dot" else 1))
        assert kb.search(X[3], 1).ids == ["new"]
        assert kb.verify().ok


@pytest.mark.parametrize("codec", ["rabitq:1", "rabitq:2", "rabitq:4", "svd:16|rabitq:2"])
def test_token_vectors(codec: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = [anisotropic(int(n), 24, seed=1000 + i) for i, n in enumerate(rng.integers(1, 12, 150))]
    queries = [anisotropic(5, 24, seed=7_000 + j) for j in range(6)]
    with octavo.open_multi_vector(tmp_path / "kb", codec=codec, pool_factor=1, fit_after=100) as kb:
        kb.add([f"t{i}" for i in range(150)], ids=[f"d{i}" for i in range(150)], token_vectors=tokens)
        exact = np.array([[(q @ t.T).max(axis=1).sum() for t in tokens] for q in queries])
        overlaps = []
        for query, row in zip(queries, exact, strict=True):
            found = kb.search(query, 10, exact=True)
            overlaps.append(len({*found.ids} & {f"d{i}" for i in np.argsort(-row)[:10]}) / 10)
            explained = kb.explain(query, found.ids[0])
            assert_allclose(explained.similarities.max(axis=1).sum(), found.scores[0], rtol=1e-4)
        assert np.mean(overlaps) > {"rabitq:1": 0.15, "rabitq:2": 0.4, "rabitq:4": 0.7}.get(codec, 0.2)
        before = [kb.search(query, 5).ids for query in queries]
    with octavo.open_multi_vector(tmp_path / "kb", must_exist=True) as kb:
        assert [kb.search(query, 5).ids for query in queries] == before
        assert kb.verify().ok
