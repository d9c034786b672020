import copy
import hashlib
import json
import pickle
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo._layout import CodeLayout
from octavo.compression import PCA, Codec, Float32, Int8, Pipeline, Truncate
from octavo.errors import CodecError, InvalidVectorsError, NotFittedError
from octavo.index import exact_search


def vectors(n=200, dim=48, seed=0):
    return np.random.default_rng(seed).normal(0.1, 1, (n, dim)).astype(np.float32)


TEXT = "svd:50%|int8 > svd:50%|float16 > pca:50%|int4 > svd:50%|rotate|binary > int8"


def test_tiers_encode_together_as_they_do_alone():
    X = vectors(3000)
    codec = Codec.parse(TEXT).fit(X[:200])
    for together, tier in zip(codec.encode(X), codec, strict=True):
        assert together.flags.c_contiguous
        np.testing.assert_array_equal(together, tier.encode(X))


def test_tiers_are_fitted_together_as_they_are_alone():
    X = vectors()
    codec = Codec.parse(TEXT).fit(X, seed=4)
    for text, codes in zip(TEXT.split(" > "), codec.encode(X), strict=True):
        np.testing.assert_array_equal(Codec.parse(text).fit(X, seed=4).encode(X)[0], codes)


def test_common_reducers_are_fitted_and_stored_once():
    X = vectors()
    codec = Codec.parse(TEXT).fit(X)
    first, second, third, fourth, _ = (tier.steps[0] for tier in codec.tiers)
    assert first is second is fourth
    assert first is not third
    one, two = (len(Codec.parse(t).fit(X).to_bytes()) for t in ("svd:50%|int8", "svd:50%|int8 > svd:50%|float16"))
    assert two < one + 300
    again = Codec.from_bytes(codec.to_bytes())
    assert again.tiers[0].steps[0] is again.tiers[1].steps[0]


def test_another_seed_gives_another_rotation():
    X = vectors()
    one, two = (Codec.parse("rotate|float32").fit(X, seed=s).encode(X)[0] for s in (0, 1))
    assert (one != two).any()
    one, two = (Codec.parse("rotate:5|float32").fit(X, seed=s).encode(X)[0] for s in (0, 1))
    np.testing.assert_array_equal(one, two)


def test_needs_fit():
    assert Codec.parse("binary > int8").needs_fit
    assert Codec.parse("svd:3").needs_fit
    for text in ("truncate:50%|binary > float16", "rotate|bfloat16", "float32"):
        codec = Codec.parse(text)
        assert not codec.needs_fit
        assert codec.fit(np.empty((0, 48))).is_fitted
    with pytest.raises(InvalidVectorsError, match="at least one"):
        Codec.parse("binary > int8").fit(np.empty((0, 48)))


def test_fitting_again_starts_afresh_and_a_failure_changes_nothing():
    codec = Codec.parse("svd:50%|int8 > truncate:40|int8").fit(vectors())
    before = codec.to_bytes()
    with pytest.raises(CodecError, match="cannot keep 40 dimensions: only 30 go in"):
        codec.fit(vectors(dim=30))
    assert codec.to_bytes() == before
    old_tier = codec.tiers[0]
    codec.fit(vectors(dim=64))
    assert codec.in_dim == 64
    assert old_tier.in_dim == 48  # whoever still holds the old tier keeps reading the old codes
    assert str(codec) == "svd:50%|int8 > truncate:40|int8"


def test_not_fitted():
    codec = Codec.parse("binary > int8")
    assert not codec.is_fitted
    with pytest.raises(NotFittedError):
        codec.encode(vectors())
    with pytest.raises(NotFittedError):
        _ = codec.in_dim
    again = Codec.from_bytes(codec.to_bytes())
    assert again == codec
    assert not again.is_fitted


def test_percentages_follow_the_dimension_and_print_as_written():
    for dim, expected in ((384, 192), (100, 48), (64, 32), (30, 15), (1, 1)):
        codec = Codec.parse("truncate:50%|int8").fit(vectors(dim=dim))
        assert codec.tiers[0].layout.dim == expected
        assert str(codec) == "truncate:50%|int8"


def test_shapes_of_a_codec():
    codec = Codec.parse("binary > int8")
    assert len(codec) == 2
    assert [str(tier) for tier in codec] == ["binary", "int8"]
    codec.tiers.clear()
    assert len(codec) == 2
    with pytest.raises(CodecError, match="at least one tier"):
        Codec([])
    with pytest.raises(CodecError, match="at least one step"):
        Pipeline([])


def test_pipelines_nest_and_configure():
    nested = Pipeline([Truncate(8), Pipeline([PCA(4), Int8()])])
    assert nested == Pipeline([Truncate(8), PCA(4), Int8()])
    assert nested.needs_fit
    assert Pipeline.from_config(json.loads(json.dumps(nested.get_config()))) == nested
    assert eval(repr(nested), {"Pipeline": Pipeline, "Truncate": Truncate, "PCA": PCA, "Int8": Int8}) == nested
    assert Pipeline([Truncate(8)]) == Pipeline([Truncate(8), Float32()])
    X = vectors()
    fitted = nested.fit(X, lengths=False)
    again = Pipeline.from_config(nested.get_config()).set_state(fitted.get_state())
    np.testing.assert_array_equal(again.encode(X), fitted.encode(X))
    with pytest.raises(CodecError, match="unknown arrays"):
        again.set_state({**fitted.get_state(), "7.in_dim": np.array(3)})
    other = Int8().fit(vectors(dim=5), lengths=False).get_state()
    mixed = {**fitted.get_state(), **{f"2.{name}": array for name, array in other.items()}}
    with pytest.raises(CodecError, match="was fitted for 5 dimensions, but 4 go in"):
        again.set_state(mixed)
    for wrong in ({"id": "pipeline"}, {"id": "x", "steps": []}, {"id": "pipeline", "steps": [{"id": 3}]}):
        with pytest.raises(CodecError):
            Pipeline.from_config(wrong)


def test_queries_of_a_centred_tier_are_not_cut_off():
    X = vectors() + 20  # the mean dwarfs what is left after centring
    [tier] = Codec.parse("pca:100%|int8").fit(X, lengths=False)
    scores = exact_scores(tier, X, X[:20])
    spread = np.linalg.norm(X - X.mean(axis=0), axis=1).max()
    np.testing.assert_allclose(scores, X[:20] @ X.T, atol=spread * np.linalg.norm(X[0]) / 127)


def exact_scores(tier, documents, queries):
    rows, scores = exact_search(tier.layout, tier.encode(documents), tier.encode_queries(queries), len(documents))
    ordered = np.empty_like(scores)
    np.put_along_axis(ordered, rows, scores, axis=1)
    return ordered + tier.query_offset(queries)[:, None]


def test_decoding_back_projects():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(300, 10)) @ rng.normal(size=(10, 48)) + 3).astype(np.float32)  # rank 11
    for text in ("svd:16|float32", "pca:10|float32", "rotate|svd:12|rotate", "svd:16|float16"):
        [tier] = Codec.parse(text).fit(X).tiers
        np.testing.assert_allclose(tier.decode(tier.encode(X)), X, atol=0.02 if "16|float16" in text else 5e-4)


def test_identity():
    codec = Codec.identity(5)
    assert codec.tiers[0].layout == CodeLayout("f32", 5)
    X = vectors(dim=5)
    np.testing.assert_array_equal(codec.encode(X)[0].view(np.float32), X)


def test_copies_and_other_processes_get_the_same_codec():
    X = vectors()
    codec = Codec.parse(TEXT).fit(X)
    for again in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        for a, b in zip(again.encode(X), codec.encode(X), strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_may_share_a_codec():
    X = vectors(2000)
    codec = Codec.parse(TEXT).fit(X)
    expected = codec.encode(X)
    wrong = []

    def work(seed):
        rows = np.random.default_rng(seed).integers(0, len(X), 500)
        wrong.extend(i for i, c in enumerate(codec.encode(X[rows])) if (c != expected[i][rows]).any())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- stored codecs ---------------------------------------------------------------------------------------------------


def forge(header, payload=b""):
    """Return a stored codec with a valid checksum around any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = struct.pack("<8sIIQ", b"OCTAVOCD", 1, len(text), len(payload))
    return head + hashlib.sha256(head + text + payload).digest() + text + payload


def binary_step(**array):
    """A step whose whole state is its dimension, and perhaps another array."""
    arrays = [{"name": "in_dim", "dtype": "i8", "shape": []}]
    return {"config": {"id": "binary"}, "arrays": arrays + ([{"name": "x", "dtype": "f4", **array}] if array else [])}


def int8_step(**array):
    names = {"mean": [4], "unit": [], "gain": [4]}
    arrays = [{"name": "in_dim", "dtype": "i8", "shape": []}]
    arrays += [{"name": name, "dtype": "f4", "shape": shape} for name, shape in names.items()]
    arrays[-1].update(array)
    return {"config": {"id": "int8"}, "arrays": arrays}


def int8_state(dim=4, gain=2.0):
    return struct.pack("<q4ff4f", dim, 0, 0, 0, 0, 0, gain, gain, gain, gain)


def test_a_forged_header_around_good_values_is_read():
    data = forge({"steps": [int8_step()], "tiers": [[0]]}, int8_state())
    [codes] = Codec.from_bytes(data).encode([[1, -2, 3, 100]])
    assert codes.view(np.int8).tolist() == [[2, -4, 6, 127]]
    data = forge({"steps": [binary_step()], "tiers": [[0]]}, struct.pack("<q", 4))
    assert Codec.from_bytes(data).encode([[1, -2, 3, 100]])[0].tolist() == [[0b10110000]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OCTAVOCD",
        b"x" * 100,
        forge(b"{"),
        forge(b"\xff\xfe"),
        forge(b"[" * 100_000),
        forge(b"9" * 10_000),
        forge([]),
        forge({}),
        forge({"steps": [], "tiers": []}),
        forge({"steps": [], "tiers": [[0]]}),
        forge({"steps": [], "tiers": [[]]}),
        forge({"steps": [int8_step()], "tiers": [[0]]}),
        forge({"steps": [int8_step()], "tiers": [[0]]}, int8_state() + b"more"),
        forge({"steps": [int8_step()], "tiers": [[1]]}, int8_state()),
        forge({"steps": [int8_step()], "tiers": [[-1]]}, int8_state()),
        forge({"steps": [int8_step()], "tiers": [[0, 0]]}, int8_state()),
        forge({"steps": [int8_step()], "tiers": [[0.0]]}, int8_state()),
        forge({"steps": [int8_step()], "tiers": 3}, int8_state()),
        forge({"steps": [int8_step()], "tiers": [[0]]}, int8_state(1 << 60)),
        forge({"steps": [int8_step()], "tiers": [[0]]}, int8_state(-4)),
        forge({"steps": [int8_step()], "tiers": [[0]]}, int8_state(4, float("nan"))),
        forge({"steps": [int8_step()], "tiers": [[0]]}, int8_state(4, -1.0)),
        forge({"steps": [int8_step(shape=[1 << 40, 1 << 40])], "tiers": [[0]]}, int8_state()),
        forge({"steps": [int8_step(shape=[0, 1 << 62])], "tiers": [[0]]}, struct.pack("<q", 4)),
        forge({"steps": [int8_step(shape=[0] * 100)], "tiers": [[0]]}, struct.pack("<q", 4)),
        forge({"steps": [int8_step(shape=[-1])], "tiers": [[0]]}, int8_state()),
        forge({"steps": [int8_step(shape=[True])], "tiers": [[0]]}, int8_state()),
        forge({"steps": [int8_step(shape="ab")], "tiers": [[0]]}, int8_state()),
        forge({"steps": [int8_step(dtype="O")], "tiers": [[0]]}, int8_state()),
        forge({"steps": [int8_step(dtype=["f4"])], "tiers": [[0]]}, int8_state()),
        forge({"steps": [{"config": {"id": "os.system"}, "arrays": []}], "tiers": [[0]]}),
        forge({"steps": [{"config": {"id": ["svd"]}, "arrays": []}], "tiers": [[0]]}),
        forge({"steps": [{"config": {"id": "svd", "argument": 3}, "arrays": []}], "tiers": [[0]]}),
        forge({"steps": [{"config": 3, "arrays": []}], "tiers": [[0]]}),
    ],
)
def test_hostile_bytes(data):
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            Codec.from_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_tiers_of_different_dimensions_are_refused():
    steps = [binary_step(), binary_step()]
    data = forge({"steps": steps, "tiers": [[0], [1]]}, struct.pack("<qq", 4, 5))
    with pytest.raises(CodecError, match="different dimensions"):
        Codec.from_bytes(data)


def test_another_version_is_named():
    data = bytearray(Codec.parse("int8").to_bytes())
    data[8] = 9
    with pytest.raises(CodecError, match="format version 9, this version of octavo reads 1"):
        Codec.from_bytes(bytes(data))


STORED = Codec.parse("svd:25%|int8 > int4").fit(vectors(50, 12)).to_bytes()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(STORED) - 1), st.integers(1, 255), st.sampled_from(["flip", "cut", "drop", "add"]))
def test_any_damage_is_noticed(at, flip, how):
    data = bytearray(STORED)
    if how == "flip":
        data[at] ^= flip
    elif how == "cut":
        del data[at:]
    elif how == "drop":
        del data[at]
    else:
        data.insert(at, flip)
    with pytest.raises(CodecError):
        Codec.from_bytes(bytes(data))
