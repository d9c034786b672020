"""Centred layouts: every score against a sum over values, read from the bytes as the format describes them."""

from __future__ import annotations

import itertools
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from octavo._layout import CENTRED, LEVELS_2BIT, CodeLayout, from_logarithms, to_logarithms
from octavo.compression import Codec
from octavo.errors import ParameterError
from octavo.index import Graph, exact_search, maxsim_codes, maxsim_explain, maxsim_search, score_rows

LAYOUTS = list(itertools.product(CENTRED, [False, True]))


def values_of(layout: CodeLayout, row: bytes) -> list[float]:
    """Read the numbers that one row stands for, one by one."""
    kind, dim = layout.kind, layout.dim
    width = -(-dim // 8)
    out: list[float] = []
    for j in range(dim):
        if kind in ("r1", "r2", "r3"):
            planes = int(kind[1])
            bits = [row[plane * width + j // 8] >> (7 - j % 8) & 1 for plane in range(planes)]
            out.append(sum((2 * bit - 1) * 2 ** (planes - 1 - plane) for plane, bit in enumerate(bits)))
        elif kind in ("i4", "r4"):
            nibble = row[j // 2] >> 4 * (j % 2) & 15
            whole = nibble - 16 if nibble > 7 else nibble
            out.append(2 * whole + 1 if kind == "r4" else whole)
        elif kind == "i2":
            out.append(LEVELS_2BIT[row[j // 4] >> 2 * (j % 4) & 3])
        elif kind == "i8":
            out.append(struct.unpack_from("<b", row, j)[0])
        else:
            dtype = ml_dtypes.float8_e4m3fn if kind == "e4m3" else ml_dtypes.float8_e5m2
            out.append(float(np.frombuffer(row[j : j + 1], dtype)[0]))
    return out


def number_of(code: int) -> float:
    return 0.0 if code == 0 else 2 ** ((code - 32768) / 1024)


def score_of(layout: CodeLayout, row: bytes, query: bytes) -> float:
    step, square, offset = struct.unpack_from("<3f", query)
    asked = values_of(layout.compared, query[12:])
    product = sum(a * b for a, b in zip(values_of(layout, row), asked, strict=True))
    tail = [
        number_of(code) for code in struct.unpack(f"<{(len(row) - layout.code_bytes) // 2}H", row[layout.code_bytes :])
    ]
    factor = tail[0] if layout.has_factors else None
    score = step * product if factor is None else factor * (step * product + factor * square)
    return (score + offset) * (tail[-1] if layout.lengths else 1)


def draw(layout: CodeLayout, n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows and queries of any codes that a quantizer could give."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n, layout.row_bytes), dtype=np.uint8)
    part = layout.code_bytes
    if layout.kind in ("e4m3", "e5m2"):
        codes[:, :part] = (
            rng.normal(0, 20, (n, part))
            .astype(ml_dtypes.float8_e4m3fn if layout.kind == "e4m3" else ml_dtypes.float8_e5m2)
            .view(np.uint8)
        )
    if layout.kind in ("r1", "r2", "r3") and layout.dim % 8:  # what pads a plane is zero
        width = -(-layout.dim // 8)
        codes[:, width - 1 : part : width] &= 0xFF << 8 - layout.dim % 8 & 0xFF
    if layout.kind in ("i4", "r4") and layout.dim % 2:
        codes[:, part - 1] &= 15
    tails = codes[:, part:]
    if tails.shape[1]:
        tails[:] = to_logarithms(rng.uniform(0.3, 3, (n, tails.shape[1] // 2))).view(np.uint8)
        if layout.lengths:
            tails[0, -2:] = 0
    terms = rng.normal(size=(m, 3)).astype(np.float32) * [1e-3, 0.1, 0.3]
    terms[:, 0] = np.abs(terms[:, 0])  # a step is a length
    if not layout.has_factors:
        terms[:, 1] = 0
    if layout.kind in ("e4m3", "e5m2"):
        asked = rng.normal(0, 20, (m, layout.dim)).astype(
            ml_dtypes.float8_e4m3fn if layout.kind == "e4m3" else ml_dtypes.float8_e5m2
        )
    elif layout.kind in ("r1", "r2", "r3"):
        asked = (2 * rng.integers(-64, 64, (m, layout.dim)) + 1).astype(np.int8)
    else:
        asked = rng.integers(-119, 120, (m, layout.dim)).astype(np.int8)
    return codes, np.concatenate([np.float32(terms).view(np.uint8), asked.view(np.uint8)], axis=1)


def oracle(layout: CodeLayout, codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return np.array([[score_of(layout, row.tobytes(), query.tobytes()) for row in codes] for query in queries])


@pytest.mark.parametrize(("kind", "lengths"), LAYOUTS)
@settings(max_examples=12, deadline=None)
@given(dim=st.integers(1, 40), n=st.integers(1, 12), m=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_scores_are_the_obvious_sums(kind: str, lengths: bool, dim: int, n: int, m: int, seed: int) -> None:
    layout = CodeLayout(kind, dim, centred=True, lengths=lengths)  # type: ignore[arg-type]
    codes, queries = draw(layout, n, m, seed)
    wanted = oracle(layout, codes, queries)
    rows, scores = exact_search(layout, codes, queries, n)
    scale = 1 + np.abs(wanted).max()
    assert_allclose(scores, np.take_along_axis(wanted, rows, axis=1), atol=2e-5 * scale)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize(("kind", "lengths"), LAYOUTS)
def test_every_way_to_a_score_gives_the_same_bits(kind: str, lengths: bool) -> None:
    layout = CodeLayout(kind, 37, centred=True, lengths=lengths)  # type: ignore[arg-type]
    codes, queries = draw(layout, 3000, 70)
    rows, scores = exact_search(layout, codes, queries, 50)
    for j in (0, 1, 63, 64, 69):
        assert_array_equal(score_rows(layout, codes, queries[j], rows[j]), scores[j])
        alone = exact_search(layout, codes, queries[j : j + 1], 50)
        assert_array_equal(alone[0][0], rows[j])
        assert_array_equal(alone[1][0], scores[j])
    some = np.arange(0, 3000, 7)
    found = exact_search(layout, codes, queries[:3], 20, rows=some)
    mask = np.zeros(3000, np.bool_)
    mask[some] = True
    masked = exact_search(layout, codes, queries[:3], 20, alive=mask)
    assert_array_equal(found[0], masked[0])
    assert_array_equal(found[1], masked[1])
    threaded = exact_search(layout, codes, queries, 50, threads=2)
    assert_array_equal(threaded[0], rows)


@pytest.mark.parametrize(("kind", "lengths"), LAYOUTS)
def test_maxsim_is_the_sum_of_the_best(kind: str, lengths: bool) -> None:
    layout = CodeLayout(kind, 24, centred=True, lengths=lengths)  # type: ignore[arg-type]
    codes, queries = draw(layout, 60, 5)
    offsets = np.array([0, 7, 7, 20, 21, 60])
    similar = oracle(layout, codes, queries)
    wanted = [similar[:, a:b].max(axis=1).sum() if b > a else -np.inf for a, b in itertools.pairwise(offsets)]
    scores = maxsim_codes(layout, codes, offsets, queries)
    assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    found, best = maxsim_search(layout, codes, offsets, [queries, queries[:2]], 3)
    assert_array_equal(best[0], scores[found[0]])
    assert_array_equal(maxsim_codes(layout, codes, offsets, queries, np.array([4, 2])), scores[[4, 2]])
    explained = maxsim_explain(layout, codes, offsets, queries, 2)
    assert_allclose(explained, similar[:, 7:20], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", ["rabitq:1", "rabitq:2", "rabitq:3", "rabitq:4", "int8", "int4", "int2", "float8"])
@pytest.mark.parametrize("lengths", [False, True])
def test_a_graph_finds_what_the_scores_say(text: str, lengths: bool, tmp_path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(0.4, 1, (1200, 48)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Q = X[:40] + 0.1 * rng.normal(size=(40, 48)).astype(np.float32)
    if lengths:
        X *= rng.uniform(0.5, 2, (1200, 1)).astype(np.float32)
    [tier] = Codec.parse(text).fit(X, lengths=lengths)
    codes, queries = tier.encode(X), tier.encode_queries(Q)
    graph = Graph(tier.layout)
    graph.add(np.arange(1200), codes)
    rows, exact = exact_search(tier.layout, codes, queries, 10)
    slots, _ = graph.search(queries, 250, 250)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(rows, slots, strict=True)]) > 0.95
    for j in range(40):  # which rows are found is the graph's luck (it is built by threads), their scores are not
        found = dict(zip(slots[j], score_rows(tier.layout, codes, queries[j], slots[j]), strict=True))
        assert [found[row] for row in rows[j] if row in found] == [
            e for row, e in zip(rows[j], exact[j], strict=True) if row in found
        ]
    graph.save(tmp_path / "graph")
    again = Graph.load(tmp_path / "graph", tier.layout, mapped=True)
    assert_array_equal(again.search(queries, 250, 250)[0], slots)


def test_a_graph_over_codes_without_factors_tells_their_scores() -> None:
    X = np.random.default_rng(0).normal(0.3, 1, (300, 16)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    for text in ("int8", "int4", "int2", "float8"):
        [tier] = Codec.parse(text).fit(X)
        codes, queries = tier.encode(X), tier.encode_queries(X[:5])
        graph = Graph(tier.layout)
        graph.add(np.arange(300), codes)
        slots, scores = graph.search(queries, 5, 300)
        for j in range(5):
            assert_allclose(scores[j], score_rows(tier.layout, codes, queries[j], slots[j]), rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(2.0**-31, 2.0**31, allow_nan=False), min_size=1))
def test_logarithms_are_near(values: list[float]) -> None:
    codes = to_logarithms(np.array(values))
    assert codes.dtype == np.uint16
    assert_allclose(from_logarithms(codes), values, rtol=3.5e-4)
    assert from_logarithms(codes).tolist() == [np.float32(number_of(int(code))) for code in codes]


def test_logarithms_end_softly() -> None:
    codes = to_logarithms(np.array([0.0, 1e-300, 1e300]))
    assert codes.tolist() == [0, 1, 65535]


def test_layouts_that_cannot_be() -> None:
    for options in ({"kind": "f32", "centred": True}, {"kind": "b1", "centred": True}, {"kind": "i8", "lengths": True}):
        with pytest.raises(ParameterError, match="centred"):
            CodeLayout(dim=8, **options)
    assert CodeLayout("r1", 384) == CodeLayout("r1", 384, centred=True)
    sizes = [CodeLayout(kind, 384).row_bytes for kind in ("r1", "r2", "r3", "r4")]  # type: ignore[arg-type]
    assert sizes == [50, 98, 146, 194]
    assert CodeLayout("r3", 33, lengths=True).row_bytes == 3 * 5 + 4
