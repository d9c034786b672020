"""One suite for every step: what the contract promises holds for each, alone or in front of / behind others."""

import numkong
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usearch.index import Index

import octavo.compression
from octavo.compression import Codec, Reducer, _registry, register_step
from octavo.compression._registry import step_class, step_names
from octavo.errors import CodecError, InputTypeError, InvalidVectorsError, NotFittedError
from octavo.index import exact_search
from octavo.testing import check_step

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
    "rabitq": ["rabitq:1", "rabitq:2", "rabitq:3", "rabitq:4"],
    "binary": ["binary"],
}
#: Largest error of a decoded value as a part of the largest magnitude fitted (reducers: on vectors they can represent).
VALUE_ERROR = {
    "float32": 0.0,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8-e4m3": 2.0**-4,
    "float8-e5m2": 2.0**-3,
    "int8": 0.1,  # cut off above the learned bound; its own test is stricter
    "int4": 1.0,  # as for int8
    "int2": 1.0,
    "rabitq": np.inf,
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
    "rabitq:1",
    "svd:50%|rabitq:2",
    "pca:50%|rabitq:4",
    "svd:20|pca:10|float32",
    "truncate:50%|bfloat16",
]
DIM = 33  # odd, so that int4, int2 and binary must pad


def make(token):
    name, _, argument = token.partition(":")
    return step_class(name).from_argument(argument or None)


class Negate(Reducer):
    """Turns all signs over: a reducer as another package might bring it."""

    step_id = "negate"
    learns = False

    @property
    def out_dim(self):
        return self.in_dim

    def _fit(self, X, seed):
        pass

    def _encode(self, X):
        return -X

    def _decode(self, X):
        return -X


def vectors(n=60, dim=DIM, seed=0, shift=0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, dim)) * rng.uniform(0.2, 2, dim) + shift
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def test_every_registered_step_is_tested():
    assert {step_class(name).step_id for name in step_names()} == set(TOKENS)


@pytest.mark.parametrize("token", ALL)
def test_every_step_keeps_the_contract(token):
    step = make(token)
    check_step(step)
    assert step.token == token
    assert eval(repr(step), vars(octavo.compression)) == step


@pytest.mark.parametrize("token", QUANTIZERS)
def test_no_sign_turns_over_beyond_the_range(token):
    X = vectors()
    step = make(token).fit(X)
    centre = np.zeros(DIM) if not step.layout.centred else step.get_state()["mean"]
    for factor in (3.0, 1e10, 3e38):
        larger = np.clip(X.astype(np.float64) * factor, -3e38, 3e38)
        if step.step_id != "rabitq":  # which turns them
            turned = np.sign(step.decode(step.encode(larger)) - centre) * np.sign(larger - centre)
            assert (turned >= 0).all() or np.abs(larger - centre)[turned < 0].max() < 1e-6


@pytest.mark.parametrize("token", ALL)
def test_messages_say_what_came_and_where(token):
    X = vectors()
    step = make(token).fit(X)
    with pytest.raises(InvalidVectorsError, match=r"expected vectors of dimension 33, got 32; .* another model"):
        step.encode(X[:, :-1])
    with pytest.raises(InvalidVectorsError, match=r"X\[None, :\]"):
        step.encode_queries(X[0])
    with pytest.raises(InvalidVectorsError, match="different lengths"):
        step.encode([[1.0], [1.0, 2.0]])
    with pytest.raises(InputTypeError, match="real numbers"):
        step.encode(X.astype(str))
    X[7, 2] = np.nan
    for use in (step.encode, step.encode_queries, step.query_offset):
        with pytest.raises(InvalidVectorsError, match="got NaN in row 7"):
            use(X)
    with pytest.raises(NotFittedError, match="call fit"):
        make(token).encode(X)
    with pytest.raises(CodecError, match="knows no configuration key 'colour'"):
        type(step).from_config({**step.get_config(), "colour": 1})


class Company(Negate):
    """Breaks the contract: a row's code depends on the rows beside it."""

    step_id = "company"

    def _encode(self, X):
        return X - X.mean(axis=0)


class Forgetful(Negate):
    """Breaks the contract: what it learned is not in its state."""

    step_id = "forgetful"
    learns = True

    def _fit(self, X, seed):
        self.mean = X.mean(axis=0)

    def _encode(self, X):
        return X - getattr(self, "mean", 0)


class Wrong(Negate):
    """Breaks the contract: documents that are more similar have lower scores."""

    step_id = "wrong"

    def _encode_queries(self, X):
        return X


@pytest.mark.parametrize(
    ("step", "promise"),
    [(Company, "company of row"), (Forgetful, "learned state rebuilds"), (Wrong, "more similar have higher scores")],
)
def test_a_broken_step_is_found(step, promise, monkeypatch):
    monkeypatch.setattr(_registry, "_STEPS", dict(_registry._STEPS))
    check_step(register_step(Negate)())
    with pytest.raises(AssertionError, match=promise):
        check_step(register_step(step)())


def test_check_step_takes_steps_only():
    with pytest.raises(AssertionError, match="derived from Reducer or Quantizer"):
        check_step("int8")


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
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "b1": "uint1"}
    width = layout.row_bytes if layout.kind == "b1" else layout.dim

    def tensor(codes):
        return numkong.from_pointer(codes.ctypes.data, (len(codes), width), names[layout.kind], owner=codes)

    if layout.kind == "b1":
        packed = numkong.hammings_pack(tensor(documents))
        return 1 - 2 * np.asarray(numkong.hammings_packed(tensor(queries), packed)) / layout.dim
    return np.asarray(numkong.dots_packed(tensor(queries), numkong.dots_pack(tensor(documents))), np.float64)


def usearch_dots(layout, queries, documents):
    view = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}.get(layout.kind, np.uint8)
    metric = "hamming" if layout.kind == "b1" else "ip"
    index = Index(ndim=layout.row_bytes * 8 if layout.kind == "b1" else layout.dim, metric=metric, dtype=layout.kind)
    index.add(np.arange(len(documents)), documents.view(view), dtype=layout.kind, threads=1)
    found = index.search(queries.view(view), len(documents), exact=True, dtype=layout.kind, threads=1)
    distances = np.empty((len(queries), len(documents)))
    np.put_along_axis(distances, found.keys.astype(np.int64), found.distances, axis=1)
    return 1 - 2 * distances / layout.dim if layout.kind == "b1" else 1 - distances


@pytest.mark.parametrize("text", ["float32", "float16", "bfloat16", "binary", "truncate:50%|bfloat16", "rotate|binary"])
def test_plain_codes_are_what_other_libraries_read(text):
    X, Q = vectors(80), vectors(11, seed=1)
    [tier] = Codec.parse(text).fit(X).tiers
    codes, queries = tier.encode(X), tier.encode_queries(Q)
    quantizer, layout = tier.quantizer, tier.layout
    expected = quantizer.decode(queries).astype(np.float64) @ quantizer.decode(codes).astype(np.float64).T
    np.testing.assert_allclose(numkong_dots(layout, queries, codes), expected, rtol=1e-4, atol=1e-6)
    tolerance = 1e-2 if layout.kind in ("f16", "bf16") else 2e-4
    np.testing.assert_allclose(usearch_dots(layout, queries, codes), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("text", [text for text in PIPELINES if "binary" not in text])
def test_scores_stand_for_the_dot_products_of_decoded_vectors(text):
    X, Q = vectors(80), vectors(11, seed=1)
    [tier] = Codec.parse(text).fit(X).tiers
    rows, scores = exact_search(tier.layout, tier.encode(X), tier.encode_queries(Q), 80)
    found = np.empty((11, 80))
    np.put_along_axis(found, rows, scores.astype(np.float64), axis=1)
    found += tier.query_offset(Q)[:, None]
    decoded = tier.decode(tier.encode(X)).astype(np.float64)
    exact = np.float64(Q)
    for reducer in tier.reducers:
        if reducer.step_id in ("svd", "truncate"):  # queries are stretched as well
            exact = reducer.decode(reducer.encode_queries(exact)).astype(np.float64)
    wanted = exact @ decoded.T
    # Codes that only estimate are as far off as their bits say; of the others, the rounding of the queries is left.
    bits = text[-1] if "rabitq" in text else None
    bound = {None: 0.03, "1": 0.6, "2": 0.35, "3": 0.2, "4": 0.12}[bits]
    assert np.abs(found - wanted).max() < bound
    assert (
        np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > {None: 0.999, "1": 0.8, "2": 0.9, "3": 0.97, "4": 0.99}[bits]
    )


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
