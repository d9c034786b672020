"""Two bits a value: the nearest of four levels, their order in a byte, scores, and the collections that keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import octavo
from octavo._layout import LEVELS_2BIT, CodeLayout
from octavo.compression import Codec, Int2
from octavo.compression._levels import gaussian_levels
from octavo.errors import CodecError, InvalidVectorsError, ParameterError
from octavo.index import Graph, exact_search, score_rows


def normal(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.float32(0.1 * np.random.default_rng(seed).standard_normal((n, dim)))


def unit(n: int, dim: int, seed: int = 0) -> np.ndarray:
    x = normal(n, dim, seed)
    return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


def unpacked(codes: np.ndarray, dim: int) -> np.ndarray:
    """Two bits at a time, the lowest first."""
    out = np.empty((len(codes), dim), np.int64)
    for i, row in enumerate(codes.tolist()):
        for j in range(dim):
            out[i, j] = row[j // 4] >> 2 * (j % 4) & 3
    return out


@pytest.mark.parametrize("dim", [1, 4, 7, 33])
def test_each_value_becomes_the_nearest_level(dim: int) -> None:
    X = normal(200, dim)
    step = Int2().fit(X, lengths=False)
    codes = step.encode(X)
    assert codes.shape == (200, -(-dim // 4))
    state = step.get_state()
    levels = np.array([-127, -38.07, 38.07, 127]) / np.asarray(state["gain"], np.float64)[:, None]
    centred = X - state["mean"]
    nearest = np.abs(centred[:, :, None] - levels).argmin(axis=2)
    assert_array_equal(unpacked(codes, dim), nearest)
    wanted = np.take_along_axis(levels, nearest.T, axis=1).T + state["mean"]
    assert_allclose(step.decode(codes), wanted, atol=2e-4)  # the inner level is 38 of 127
    # The levels are the published ones of the deviation, which the gains of the dimensions share out.
    spread = (centred * state["gain"]).std() * 1.5104
    assert_allclose(spread, 127, rtol=0.02)


@pytest.mark.parametrize(("bits", "published"), [(1, 0.3634), (2, 0.1175), (4, 0.009497)])  # Max (1960), table I
def test_the_levels_are_those_of_least_error(bits: int, published: float) -> None:
    levels, edges = gaussian_levels(bits)
    assert_allclose(levels, -levels[::-1], atol=1e-12)
    x = np.random.default_rng(0).standard_normal(400_000)
    assert_allclose(np.square(x - levels[np.searchsorted(edges, x)]).mean(), published, rtol=0.02)
    if bits == 2:
        assert_array_equal(LEVELS_2BIT, np.rint(levels * 127 / levels[-1]))


@given(dim=st.integers(1, 40), n=st.integers(0, 9), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_unpacking_equals_two_bits_at_a_time(dim: int, n: int, seed: int) -> None:
    layout = CodeLayout("i2", dim)
    codes = np.random.default_rng(seed).integers(0, 256, (n, layout.row_bytes), dtype=np.uint8)
    wide = layout.unpack(codes)
    assert wide.shape == (n, dim)
    assert wide.flags.c_contiguous
    assert_array_equal(wide, np.array(LEVELS_2BIT)[unpacked(codes, dim)])


@pytest.mark.parametrize("dim", [5, 64])
def test_scores_are_dot_products_of_what_the_codes_stand_for(dim: int) -> None:
    X, Q = normal(300, dim), normal(6, dim, seed=1)
    step = Int2().fit(X, lengths=False)
    codes, queries = step.encode(X), step.encode_queries(Q)
    assert queries.shape == (6, dim + 12)
    wanted = Q.astype(np.float64) @ step.decode(codes).astype(np.float64).T
    rows, scores = exact_search(step.layout, codes, queries, 300)
    rounding = np.abs(Q).max() / 254 * np.abs(step.decode(codes)).sum(axis=1).max()
    assert_allclose(scores, np.take_along_axis(wanted, rows, axis=1), atol=2 * rounding)
    for j in range(6):
        assert_array_equal(score_rows(step.layout, codes, queries[j], rows[j]), scores[j])


def test_the_error_lies_between_four_bits_and_one() -> None:
    X, Q = unit(500, 64), unit(30, 64, seed=1)
    errors, overlaps = [], []
    best = np.argsort(-(Q @ X.T), axis=1)[:, :10]
    for text in ("rotate|int4", "rotate|int2", "rotate|binary"):
        [tier] = Codec.parse(text).fit(X)
        codes = tier.encode(X)
        decoded = tier.decode(codes)
        errors.append(np.square(decoded - X).sum(axis=1).mean())
        rows, _ = exact_search(tier.layout, codes, tier.encode_queries(Q), 10)
        overlaps.append(np.mean([len(np.intersect1d(a, b)) for a, b in zip(rows, best, strict=True)]))
    assert errors[0] < 0.5 * errors[1] < 0.25 * errors[2]
    assert overlaps[0] > overlaps[1] > overlaps[2]
    assert_allclose(errors[1], 0.1175, rtol=0.1)  # Max (1960), table I: of unit variance


def test_stored_and_loaded() -> None:
    X = normal(90, 12)
    codec = Codec.parse("binary > svd:50%|rotate|int2").fit(X)
    again = Codec.from_bytes(codec.to_bytes())
    assert again == codec
    assert str(again) == "binary > svd:50%|rotate|int2"
    assert [tier.layout for tier in again] == [tier.layout for tier in codec]
    for one, other in zip(codec.encode(X), again.encode(X), strict=True):
        assert_array_equal(one, other)
    assert_array_equal(again.tiers[1].encode_queries(X), codec.tiers[1].encode_queries(X))


def test_what_does_not_fit_is_refused() -> None:
    X = normal(20, 8)
    step = Int2().fit(X, lengths=False)
    codes, queries = step.encode(X), step.encode_queries(X)
    with pytest.raises(InvalidVectorsError, match=r"\(n, 2\)"):
        step.decode(queries)
    with pytest.raises(ParameterError, match=r"query codes of shape \(n, 20\) for i8"):
        exact_search(step.layout, codes, codes, 3)
    with pytest.raises(ParameterError, match=r"document codes of shape \(n, 2\) for i2"):
        exact_search(step.layout, queries, queries, 3)
    graph = Graph(step.layout)
    graph.add(np.arange(20), codes)
    with pytest.raises(ParameterError, match="query codes of shape"):
        graph.search(codes, 3, 16)
    with pytest.raises(CodecError, match="positive gains in the learned state of int2"):
        Int2().set_state({**step.get_state(), "gain": np.full(8, -1, np.float32)})
    for text in ("int2|int8", "int2|rotate"):
        with pytest.raises(CodecError, match="stands behind the quantizer 'int2'"):
            Codec.parse(text)


# -- collections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["rotate|int2", "binary > rotate|int2", "rotate|int2 > int8", "svd:75%|rotate|int2"])
def test_a_collection_ranks_by_what_the_codes_stand_for(codec: str, tmp_path: Path) -> None:
    X, Q = unit(400, 40), unit(8, 40, seed=1)
    with octavo.open(tmp_path / "kb", codec=codec, fit_after=100) as kb:
        kb.add(ids=[str(i) for i in range(400)], vectors=X)
        info = kb.info()
        widths = {"i2": lambda n: -(-n // 4), "b1": lambda n: -(-n // 8), "i8": lambda n: n}
        assert [tier["row_bytes"] for tier in info.tiers] == [
            widths[tier["type"]](tier["values"]) for tier in info.tiers
        ]
        for number, tier in enumerate(info.tiers):
            assert info.disk[f"tier {number}"] == 400 * tier["row_bytes"]
        before = [kb.search(query, 10, exact=True) for query in Q]
        decoded = kb.get_vectors([str(i) for i in range(400)])
    bound = 0.04 if codec.endswith("int2") else 0.02  # queries of eight bits, or documents of them
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        for query, old in zip(Q, before, strict=True):
            new = kb.search(query, 10, exact=True)
            assert new.ids == old.ids
            assert_array_equal(new.scores, old.scores)
            wanted = decoded @ query
            for reducer in kb._current().tiers[-1].pipeline.reducers:
                if reducer.step_id == "svd":  # queries are stretched to their own length as well
                    wanted = wanted / np.linalg.norm(reducer.components.T @ query)
            assert_allclose(new.scores, wanted[[int(i) for i in new.ids]], atol=bound)
            assert new.scores[-1] >= np.sort(wanted)[-10] - bound
        assert kb.delete(["3"]) == 1
        kb.add(ids=["new"], vectors=X[3:4])
        assert kb.search(X[3], 1, exact=True).ids == ["new"]
        assert kb.verify().ok


def test_a_graph_over_the_coarse_tier(tmp_path: Path) -> None:
    X = unit(600, 32)
    step = Int2().fit(X)
    codes, queries = step.encode(X), step.encode_queries(unit(20, 32, seed=2))
    graph = Graph(step.layout)
    graph.add(np.arange(600), codes, threads=1)
    truth, exact = exact_search(step.layout, codes, queries, 10)
    slots, scores = graph.search(queries, 10, 400)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(slots, truth, strict=True)]) >= 0.95
    assert_allclose(scores[:, 0], exact[:, 0], rtol=1e-4)
    graph.save(tmp_path / "graph")
    again = Graph.load(tmp_path / "graph", step.layout)
    assert_array_equal(again.search(queries, 10, 400)[0], slots)


@pytest.mark.parametrize("codec", ["rotate|int2", "svd:16|rotate|int2"])
def test_maxsim_over_two_bits_equals_the_obvious_sum(codec: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = [unit(int(n), 24, seed=int(n) * 100 + i) for i, n in enumerate(rng.integers(1, 12, 150))]
    ids = [f"d{i}" for i in range(150)]
    queries = [unit(5, 24, seed=7_000 + j) for j in range(4)]
    path = tmp_path / "kb"
    with octavo.open_multi_vector(path, codec=codec, pool_factor=1, fit_after=100) as kb:
        kb.add([f"t{i}" for i in range(150)], ids=ids, token_vectors=tokens)
        info = kb.info()
        assert info.tokens is not None
        values = 16 if "svd" in codec else 24
        assert (info.tokens["type"], info.tokens["values"], info.tokens["row_bytes"]) == ("i2", values, values // 4)
        view = kb._current().tokens
        assert view is not None
        # What a token's code stands for, before the reducers are undone, and the query as the quantizer gets it.
        pipeline = view.codec.pipeline
        stored = pipeline.quantizer.decode(np.ascontiguousarray(view.codes)).astype(np.float64)
        for query in queries:
            asked = query
            for reducer in pipeline.reducers:
                asked = reducer.encode_queries(asked)
            wanted = np.array(
                [(asked @ stored[view.offsets[i] : view.offsets[i + 1]].T).max(axis=1).sum() for i in range(150)]
            )
            found = kb.search(query, 10, exact=True)
            order = np.argsort(-wanted, kind="stable")[:10]
            assert_allclose(found.scores, wanted[order], rtol=0.01)
            assert found.ids[0] == ids[order[0]]
            explained = kb.explain(query, found.ids[0])
            assert_allclose(explained.similarities.max(axis=1).sum(), found.scores[0], rtol=1e-4)
        before = [kb.search(query, 5).ids for query in queries]
    with octavo.open_multi_vector(path, must_exist=True) as kb:
        assert [kb.search(query, 5).ids for query in queries] == before
        assert kb.verify().ok
