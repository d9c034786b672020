"""One suite for every step: what the contract promises holds for each, alone or in front of / behind others."""

import json

import numkong
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usearch.index import Index

from octavo.compression import (
    Codec,
    Quantizer,
    Reducer,
    step_class,
    step_from_config,
    step_names,
)
from octavo.errors import CodecError, InputTypeError, InvalidVectorsError, NotFittedError

#: For every registered step, the tokens it is tested as. A new step joins by a line here; a test fails without.
TOKENS = {
    "truncate": ["truncate:5", "truncate:50%", "truncate:100%"],
    "svd": ["svd:5", "svd:50%", "svd:100%"],
    "pca": ["pca:5", "pca:50%", "pca:100%"],
    "rotate": ["rotate", "rotate:7"],
    "float32": ["float32"],
    "float16": ["float16"],
    "bfloat16": ["bfloat16"],
    "float8-e4m3": ["float8"],
    "float8-e5m2": ["float8-e5m2"],
    "int8": ["int8"],
    "int4": ["int4"],
    "int2": ["int2"],
    "binary": ["binary"],
}
#: Largest error of a decoded value as a part of the largest magnitude fitted (reducers: on vectors they can represent).
VALUE_ERROR = {
    "float32": 0.0,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8-e4m3": 2.0**-4,
    "float8-e5m2": 2.0**-3,
    "int8": 0.5 / 127 * 1.0001,
    "int4": 1.0,  # cut off above the learned bound; its own test is stricter
    "int2": 1.0,  # as for int4
    "binary": np.inf,
}
ALL = [token for tokens in TOKENS.values() for token in tokens]
REDUCERS = [token for name in ("truncate", "svd", "pca", "rotate") for token in TOKENS[name]]
QUANTIZERS = [token for token in ALL if token not in REDUCERS]
PIPELINES = [
    *QUANTIZERS,
    "svd:50%|float8",
    "svd:17|int8",
    "pca:50%|int8",
    "pca:24|rotate:3|int4",
    "truncate:13|int4",
    "rotate|int2",
    "svd:50%|rotate:3|int2",
    "pca:21|rotate|int2",
    "rotate|binary",
    "svd:20|pca:10|float32",
    "truncate:50%|bfloat16",
]
DIM = 33  # odd, so that int4, int2 and binary must pad


def make(token):
    name, _, argument = token.partition(":")
    return step_class(name).from_argument(argument or None)


def queries_width(step, codes):
    return step.layout.compared.row_bytes if isinstance(step, Quantizer) else codes.shape[1]


def decode_queries(quantizer, queries):
    if quantizer.layout.kind == "i2":  # whole numbers of which 127 stands for the largest magnitude fitted
        return queries.view(np.int8) * (float(quantizer.get_state()["bound"]) / 127)
    return quantizer.decode(queries)


def vectors(n=60, dim=DIM, seed=0, shift=0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, dim)) * rng.uniform(0.2, 2, dim) + shift
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def test_every_registered_step_is_tested():
    assert {step_class(name).step_id for name in step_names()} == set(TOKENS)


@pytest.mark.parametrize("token", ALL)
class TestEveryStep:
    def test_shapes(self, token):
        X = vectors()
        step = make(token).fit(X)
        codes = step.encode(X)
        assert isinstance(step, Reducer | Quantizer)
        if isinstance(step, Reducer):
            assert codes.shape == (60, step.out_dim)
            assert codes.dtype == np.float32
        else:
            assert codes.shape == (60, step.layout.row_bytes)
            assert codes.dtype == np.uint8
        assert codes.flags.c_contiguous
        assert step.in_dim == DIM
        decoded = step.decode(codes)
        assert decoded.shape == X.shape
        assert decoded.dtype == np.float32
        assert step.query_offset(X).shape == (60,)
        assert step.encode(X[:0]).shape == (0, codes.shape[1])
        assert step.encode_queries(X[:0]).shape == (0, queries_width(step, codes))
        assert step.decode(codes[:0]).shape == (0, DIM)
        assert step.query_offset(X[:0]).shape == (0,)

    def test_the_same_seed_gives_the_same_codes(self, token):
        X = vectors()
        np.testing.assert_array_equal(
            make(token).fit(X, seed=3).encode(X), make(token).fit(X.astype(np.float64), seed=3).encode(X.tolist())
        )

    def test_company_does_not_change_a_code(self, token):
        X = vectors(5000)
        step = make(token).fit(X[:50])
        for encode in (step.encode, step.encode_queries, step.query_offset):
            whole = encode(X)
            for i in (0, 1, 17, 2047, 2048, 4998, 4999):
                np.testing.assert_array_equal(encode(X[i : i + 1])[0], whole[i])
            np.testing.assert_array_equal(encode(X[11:16]), whole[11:16])

    def test_input_layout_does_not_matter(self, token):
        X = vectors()
        step = make(token).fit(X)
        expected = step.encode(X)
        read_only = X.copy()
        read_only.flags.writeable = False
        wide = np.zeros((60, 2 * DIM), np.float32)
        wide[:, ::2] = X
        for same in (np.asfortranarray(X), wide[:, ::2], read_only, X.astype(">f4")):
            np.testing.assert_array_equal(step.encode(same), expected)

    def test_the_input_is_left_alone(self, token):
        X = vectors()
        before = X.copy()
        step = make(token).fit(X)
        step.encode(X)[:] = 0
        step.decode(step.encode(X))[:] = 0
        np.testing.assert_array_equal(X, before)

    def test_configuration_round_trip(self, token):
        step = make(token)
        config = json.loads(json.dumps(step.get_config()))
        assert config["id"] == step.step_id
        again = step_from_config(config)
        assert again == step
        assert hash(again) == hash(step)
        assert again.token == step.token == make(step.token).token
        assert not again.is_fitted
        with pytest.raises(CodecError, match="knows no configuration key 'colour'"):
            type(step).from_config({**config, "colour": 1})
        with pytest.raises(CodecError, match="expected the configuration of"):
            type(step).from_config({"id": "other"})

    def test_repr_is_code(self, token):
        import octavo.compression

        step = make(token)
        assert eval(repr(step), vars(octavo.compression)) == step

    def test_state_round_trip(self, token):
        X = vectors()
        step = make(token).fit(X, seed=5)
        again = make(token).set_state(step.get_state())
        np.testing.assert_array_equal(again.encode(X), step.encode(X))
        np.testing.assert_array_equal(again.encode_queries(X), step.encode_queries(X))
        np.testing.assert_array_equal(again.query_offset(X), step.query_offset(X))
        np.testing.assert_array_equal(again.decode(step.encode(X)), step.decode(step.encode(X)))

    def test_bad_state_is_refused(self, token):
        step = make(token).fit(vectors())
        state = step.get_state()
        for bad in (
            {},
            {**state, "in_dim": np.array(0)},
            {**state, "in_dim": np.array(1 << 40)},
            {**state, "in_dim": np.array([DIM])},
            {**state, "in_dim": np.array(3.5)},
            {**state, "stranger": np.zeros(3)},
            *({k: v for k, v in state.items() if k != name} for name in state),
            *({**state, name: np.full(a.shape, np.nan)} for name, a in state.items() if name != "in_dim"),
            *({**state, name: np.zeros((3, 3))} for name in state if name != "in_dim"),
        ):
            fresh = make(token)
            with pytest.raises(CodecError):
                fresh.set_state(bad)
            with pytest.raises(NotFittedError):
                fresh.encode(vectors())

    def test_not_fitted(self, token):
        step = make(token)
        X = vectors()
        assert not step.is_fitted
        for use in (
            lambda: step.encode(X),
            lambda: step.encode_queries(X),
            lambda: step.query_offset(X),
            lambda: step.decode(X),
            lambda: step.in_dim,
            lambda: step.get_state(),
            lambda: step.out_dim if isinstance(step, Reducer) else step.layout,
        ):
            with pytest.raises(NotFittedError, match="call fit"):
                use()

    def test_bad_vectors_are_refused(self, token):
        X = vectors()
        step = make(token).fit(X)
        for use in (step.encode, step.encode_queries, step.query_offset):
            with pytest.raises(InvalidVectorsError, match=r"expected vectors of dimension 33, got 32"):
                use(X[:, :-1])
            for value in (np.nan, np.inf, -np.inf):
                bad = X.copy()
                bad[7, 2] = value
                with pytest.raises(InvalidVectorsError, match=f"got {value} in row 7"):
                    use(bad)
            with pytest.raises(InvalidVectorsError, match="got inf in row 0"):
                use(np.full((1, DIM), 1e300))
            with pytest.raises(InvalidVectorsError, match=r"X\[None, :\]"):
                use(X[0])
            with pytest.raises(InvalidVectorsError, match="different lengths"):
                use([[1.0], [1.0, 2.0]])
            with pytest.raises(InputTypeError, match="real numbers"):
                use(X.astype(str))
        X[3, 3] = np.nan
        with pytest.raises(InvalidVectorsError, match="got nan in row 3"):
            make(token).fit(X)
        with pytest.raises(InvalidVectorsError):
            make(token).fit(np.empty((3, 0)))
        with pytest.raises(InvalidVectorsError, match="another model"):
            step.encode(np.zeros((0, 5)))

    def test_fitting_without_vectors(self, token):
        step = make(token)
        if step.needs_fit:
            with pytest.raises(InvalidVectorsError, match="at least one"):
                step.fit(np.empty((0, DIM)))
        else:
            X = vectors()
            np.testing.assert_array_equal(step.fit(np.empty((0, DIM))).encode(X), make(token).fit(X).encode(X))

    def test_degenerate_samples(self, token):
        for sample in (np.zeros((3, DIM)), vectors(1), np.full((4, DIM), 1e-40), np.full((2, DIM), 1e30)):
            step = make(token).fit(sample)
            step.encode(sample)
            assert np.isfinite(step.decode(step.encode(sample))).all()

    def test_larger_documents_saturate(self, token):
        X = vectors()
        step = make(token).fit(X)
        for factor in (3.0, 1e10, 3e38):
            larger = np.clip(X.astype(np.float64) * factor, -3e38, 3e38)
            codes = step.encode(larger)
            decoded = step.decode(codes)
            assert np.isfinite(codes if isinstance(step, Reducer) else decoded).all()
            if isinstance(step, Quantizer):  # never wraps: no sign turns over
                assert (np.sign(decoded) * np.sign(larger) >= 0).all()


@pytest.mark.parametrize("token", QUANTIZERS)
def test_decoding_error(token):
    X = vectors(200)
    step = make(token).fit(X)
    error = np.abs(step.decode(step.encode(X)) - X).max()
    assert error <= VALUE_ERROR[step.step_id] * np.abs(X).max()


@pytest.mark.parametrize("token", REDUCERS)
def test_reducers_that_keep_everything_keep_dot_products(token):
    name = token.partition(":")[0]
    X, Q = vectors(100), vectors(9, seed=1)
    step = make(name if name == "rotate" else f"{name}:100%").fit(X)
    np.testing.assert_allclose(
        step.encode_queries(Q) @ step.encode(X).T + step.query_offset(Q)[:, None], Q @ X.T, atol=1e-5
    )
    np.testing.assert_allclose(step.decode(step.encode(X)), X, atol=1e-5)


def numkong_dots(layout, queries, documents):
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "i4": "int4", "b1": "uint1"}
    width = {"i4": layout.row_bytes, "b1": layout.row_bytes}.get(layout.kind, layout.dim)

    if layout.kind == "i2":
        levels = np.array([-127, -38, 38, 127])[documents[:, :, None] >> np.arange(0, 8, 2) & 3]
        documents = levels.reshape(len(documents), -1)[:, : layout.dim].astype(np.int8).view(np.uint8)
        layout = layout.compared

    def tensor(codes):
        kind = names.get(layout.kind, layout.kind)
        return numkong.from_pointer(codes.ctypes.data, (len(codes), width), kind, owner=codes)

    if layout.kind == "b1":
        packed = numkong.hammings_pack(tensor(documents))
        return 1 - 2 * np.asarray(numkong.hammings_packed(tensor(queries), packed)) / layout.dim
    return np.asarray(numkong.dots_packed(tensor(queries), numkong.dots_pack(tensor(documents))), np.float64)


def usearch_dots(layout, queries, documents):
    names = {"f32": np.float32, "f16": np.float16, "i8": np.int8}
    view = names.get(layout.kind, np.uint8)
    metric = "hamming" if layout.kind == "b1" else "ip"
    index = Index(ndim=layout.row_bytes * 8 if layout.kind == "b1" else layout.dim, metric=metric, dtype=layout.kind)
    if layout.kind == "bf16":
        view = np.uint16
    dtype = {"f32": "f32", "f16": "f16", "i8": "i8"}.get(layout.kind, layout.kind)
    index.add(np.arange(len(documents)), documents.view(view), dtype=dtype, threads=1)
    found = index.search(queries.view(view), len(documents), exact=True, dtype=dtype, threads=1)
    distances = np.empty((len(queries), len(documents)))
    np.put_along_axis(distances, found.keys.astype(np.int64), found.distances, axis=1)
    return 1 - 2 * distances / layout.dim if layout.kind == "b1" else 1 - distances


@pytest.mark.parametrize("text", PIPELINES)
def test_scores_mean_what_the_layout_says(text):
    X, Q = vectors(80), vectors(11, seed=1)
    [tier] = Codec.parse(text).fit(X).tiers
    codes, queries, offset = tier.encode(X), tier.encode_queries(Q), tier.query_offset(Q)
    quantizer = tier.quantizer
    expected = decode_queries(quantizer, queries).astype(np.float64) @ quantizer.decode(codes).astype(np.float64).T
    layout = tier.layout
    assert layout.row_bytes == codes.shape[1]
    np.testing.assert_allclose(layout.scale * numkong_dots(layout, queries, codes), expected, rtol=1e-4, atol=1e-6)
    if layout.kind not in ("i4", "i2"):  # usearch has no narrower integers than of 8 bits
        tolerance = 1e-2 if layout.kind in ("f16", "bf16") else 2e-4
        np.testing.assert_allclose(
            layout.scale * usearch_dots(layout, queries, codes), expected, rtol=tolerance, atol=tolerance
        )
    # Scores stand for the dot products of decoded vectors, in the original space.
    if layout.kind != "b1" and "truncate" not in text:
        decoded = tier.decode(codes).astype(np.float64)
        whole = np.asarray(Q, np.float64) @ decoded.T
        lost = np.abs(whole - (expected + offset[:, None])).max()
        exact = Q
        for reducer in tier.reducers:
            exact = reducer.encode_queries(exact)
        # What remains is the rounding of the queries, at most its length: documents have about unit length.
        rounding = np.linalg.norm(exact - decode_queries(quantizer, queries), axis=1).max()
        assert lost <= rounding * 1.2 + 1e-5


@pytest.mark.parametrize("text", PIPELINES)
def test_codec_bytes_round_trip(text):
    X = vectors()
    codec = Codec.parse(text).fit(X, seed=2)
    again = Codec.from_bytes(codec.to_bytes())
    assert again == codec
    assert again.to_bytes() == codec.to_bytes()
    [a], [b] = codec.encode(X), again.encode(X)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(codec.tiers[0].encode(X), a)
    np.testing.assert_array_equal(codec.tiers[0].query_offset(X), again.tiers[0].query_offset(X))


@settings(max_examples=40, deadline=None)
@given(
    text=st.sampled_from(PIPELINES),
    n=st.integers(1, 40),
    dim=st.integers(24, 70),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4]),
)
def test_any_shape_and_magnitude(text, n, dim, seed, scale):
    X = vectors(n, dim, seed) * np.float32(scale)
    [tier] = Codec.parse(text).fit(X, seed=seed).tiers
    codes = tier.encode(X)
    assert codes.shape == (n, tier.layout.row_bytes)
    i = seed % n
    np.testing.assert_array_equal(tier.encode(X[i : i + 1])[0], codes[i])
    assert tier.decode(codes).shape == (n, dim)
    assert np.isfinite(tier.decode(codes)).all()
