"""MaxSim against one pair of tokens at a time."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from octavo.errors import InputTypeError, ParameterError
from octavo.index import maxsim_blocks
from octavo.index.maxsim import maxsim_codes, maxsim_explain, maxsim_search

LENGTHS = [7, 1, 0, 30, 12, 12, 3, 0, 55, 2]
EXACT = ("i8", "i4", "i2", "b1")


def check(kind, scores, wanted):
    if kind in EXACT:
        assert_array_equal(scores, wanted.astype(np.float32))
    else:
        assert_allclose(scores, wanted, rtol=2e-5)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_all_documents(kind, ragged, scale):
    data = ragged(kind, LENGTHS, scale=scale)
    if kind == "b1":  # the oracle adds 1/dim many times where the sum of distances is exact
        got = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0])
        assert_allclose(got, data.oracle(0), rtol=1e-6)
    else:
        check(kind, maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0]), data.oracle(0))


def test_some_documents_in_the_order_asked(kind, ragged):
    data = ragged(kind, LENGTHS)
    wanted = np.array([8, 2, 0, 8, 5])
    scores = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0], wanted)
    assert_allclose(scores, data.oracle(0, wanted), rtol=2e-5)
    every = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0])
    assert_array_equal(scores, every[wanted])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    query=st.integers(1, 40),
    dim=st.integers(1, 70),
    seed=st.integers(0, 2**16),
    block=st.sampled_from([1, 1 << 10, 1 << 18]),
)
def test_any_shape(ragged, lengths, query, dim, seed, block):
    data = ragged("i8", lengths, [query], dim=dim, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maxsim_blocks, "_BLOCK_BYTES", block)
        scores = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0])
    assert_array_equal(scores, data.oracle(0).astype(np.float32))


def test_only_negative_products_are_not_lifted_to_zero(ragged):
    data = ragged("i8", [1, 4, 2], [3], dim=8)
    data.codes.view(np.int8)[:] = 5
    data.queries[0].view(np.int8)[:] = -7
    assert_array_equal(
        maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0]), np.float32([-840, -840, -840])
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_search_equals_the_sorted_scores(kind, ragged, threads, monkeypatch):
    monkeypatch.setattr(maxsim_blocks, "_WORK_PER_THREAD", 100)
    monkeypatch.setattr(maxsim_blocks, "_BLOCK_BYTES", 1 << 12)
    rng = np.random.default_rng(3)
    data = ragged(kind, rng.integers(0, 25, 120), [3, 70, 1, 90, 9])
    found, scores = maxsim_search(data.layout, data.codes, data.offsets, data.queries, 10, threads=threads)
    for j in range(5):
        every = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[j])
        order = np.argsort(-every, kind="stable")[:10]
        assert_array_equal(found[j], order)
        assert_array_equal(scores[j], every[order])


def test_search_restricted(ragged):
    data = ragged("i8", LENGTHS)
    alive = np.ones(len(LENGTHS) + 5, dtype=np.bool_)
    alive[[3, 8]] = False
    some = np.array([9, 8, 2, 0, 0])
    every = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0])
    found, scores = maxsim_search(data.layout, data.codes, data.offsets, data.queries, 4, alive=alive, documents=some)
    wanted = sorted([0, 9], key=lambda d: -every[d])
    assert found.tolist() == [[*wanted, -1, -1]]
    assert scores.tolist() == [[every[wanted[0]], every[wanted[1]], -np.inf, -np.inf]]
    found, _ = maxsim_search(data.layout, data.codes, data.offsets, data.queries, 20, alive=alive)
    assert set(found[0].tolist()) == {0, 1, 4, 5, 6, 9, -1}


def test_equal_scores_are_ordered_by_document(ragged):
    data = ragged("i8", [2] * 9)
    data.codes[:] = data.codes[0]
    found, _ = maxsim_search(data.layout, data.codes, data.offsets, data.queries, 4)
    assert found.tolist() == [[0, 1, 2, 3]]


def test_memory_map(ragged, tmp_path):
    data = ragged("e4m3", LENGTHS)
    data.codes.tofile(tmp_path / "tokens")
    mapped = np.memmap(tmp_path / "tokens", mode="r", dtype=np.uint8).reshape(data.codes.shape)
    scores = maxsim_codes(data.layout, mapped, data.offsets, data.queries[0])
    assert type(scores) is np.ndarray
    assert_array_equal(scores, maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0]))


def test_offsets_may_cover_part_of_the_tokens(ragged):
    data = ragged("i8", LENGTHS)
    part = data.offsets[3:7]
    scores = maxsim_codes(data.layout, data.codes, part, data.queries[0])
    assert_array_equal(scores, data.oracle(0, [3, 4, 5]).astype(np.float32))


def test_explain(kind, ragged):
    data = ragged(kind, LENGTHS, scale=0.5)
    matrix = maxsim_explain(data.layout, data.codes, data.offsets, data.queries[0], 4)
    assert matrix.dtype == np.float32
    assert_allclose(matrix, 0.5 * data.query_values[0] @ data.values[4].T, rtol=1e-4, atol=1e-5)
    score = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0], np.array([4]))
    assert_allclose(matrix.max(axis=1).sum(), score[0], rtol=1e-5)
    assert maxsim_explain(data.layout, data.codes, data.offsets, data.queries[0], 2).shape == (5, 0)


def test_nothing_to_score(ragged):
    data = ragged("i8", [])
    assert maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0]).shape == (0,)
    found, scores = maxsim_search(data.layout, data.codes, data.offsets, data.queries, 2)
    assert found.tolist() == [[-1, -1]]
    assert scores.tolist() == [[-np.inf, -np.inf]]
    found, _ = maxsim_search(data.layout, data.codes, data.offsets, [], 2)
    assert found.shape == (0, 2)
    empty = ragged("i8", [0, 0])
    assert maxsim_codes(empty.layout, empty.codes, empty.offsets, empty.queries[0]).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": np.zeros((0, 48), np.uint8)}, ParameterError, "at least one token"),
        ({"query": np.zeros((2, 47), np.uint8)}, ParameterError, "query codes of shape"),
        ({"query": np.zeros((2, 48), np.int8)}, InputTypeError, "uint8"),
        ({"codes": np.zeros((9, 48), np.uint8)}, ParameterError, "offsets between 0 and the 9 tokens"),
        ({"offsets": np.array([0, 5, 3, 7])}, ParameterError, "ascending"),
        ({"offsets": np.array([-1, 5])}, ParameterError, "offsets between"),
        ({"offsets": np.zeros(0, np.int64)}, ParameterError, "got none"),
        ({"offsets": [0, 1]}, ParameterError, "got list"),
        ({"offsets": np.array([0.0, 1.0])}, ParameterError, "float64"),
        ({"documents": np.array([10])}, ParameterError, "documents between 0 and 9"),
        ({"documents": np.array([-1])}, ParameterError, "documents between 0 and 9"),
        ({"documents": np.array([0.5])}, ParameterError, "documents as integers"),
        ({"threads": -1}, ParameterError, "threads"),
    ],
)
def test_what_does_not_fit_is_refused(ragged, change, error, message):
    data = ragged("i8", LENGTHS)
    given = {
        "codes": data.codes,
        "offsets": data.offsets,
        "query": data.queries[0],
        "documents": None,
        "threads": 1,
        **change,
    }
    with pytest.raises(error, match=message):
        maxsim_codes(
            data.layout,
            given["codes"],
            given["offsets"],
            given["query"],
            given["documents"],
            threads=given["threads"],
        )


def test_search_refuses(ragged):
    data = ragged("i8", LENGTHS)
    args = (data.layout, data.codes, data.offsets)
    with pytest.raises(InputTypeError, match="pass \\[query\\]"):
        maxsim_search(*args, data.queries[0], 3)
    with pytest.raises(ParameterError, match="k as an integer"):
        maxsim_search(*args, data.queries, 0)
    with pytest.raises(ParameterError, match="bool mask of 10 documents"):
        maxsim_search(*args, data.queries, 3, alive=np.ones(9, np.bool_))
    with pytest.raises(ParameterError, match="documents between"):
        maxsim_explain(*args, data.queries[0], 10)


PROGRAM = """
import json, sys
import numkong
for name, present in numkong.get_capabilities().items():
    if present and name != "serial":
        numkong.disable_capability(name)
assert [name for name, on in numkong.get_capabilities().items() if on] == ["serial"]
import numpy as np
from octavo._layout import CodeLayout
from octavo.index.maxsim import maxsim_codes
with np.load(sys.argv[1]) as data:
    scores = {
        kind: maxsim_codes(CodeLayout(kind, 48), data[kind], data["offsets"], data[kind + "-query"]).tolist()
        for kind in sys.argv[2].split(",")
    }
print(json.dumps(scores))
"""


def test_without_vector_instructions(ragged, tmp_path):
    kinds = ["f32", "f16", "bf16", "e4m3", "e5m2", "i8", "i4", "i2", "b1"]
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 30, 60)
    samples = {kind: ragged(kind, lengths, [20]) for kind in kinds}
    arrays = {kind: data.codes for kind, data in samples.items()}
    arrays |= {f"{kind}-query": data.queries[0] for kind, data in samples.items()}
    np.savez(tmp_path / "tokens.npz", offsets=samples["i8"].offsets, **arrays)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "tokens.npz"), ",".join(kinds)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for kind, plain in json.loads(run.stdout).items():
        data = samples[kind]
        scores = maxsim_codes(data.layout, data.codes, data.offsets, data.queries[0])
        if kind in EXACT:
            assert_array_equal(np.float32(plain), scores)
        else:
            assert_allclose(plain, scores, rtol=1e-5)
