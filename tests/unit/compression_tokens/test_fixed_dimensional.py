"""Fixed-dimensional encodings against a literal reading of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from octavo.compression.fixed_dimensional import FixedDimensionalEncoding
from octavo.errors import CodecError, ParameterError


def draw(n, dim, seed, shift=0.0, most=20):
    rng = np.random.default_rng(seed)
    out = []
    for length in rng.integers(1, most, n):
        x = rng.standard_normal((length, dim)) + shift
        out.append(np.float32(x / np.linalg.norm(x, axis=1, keepdims=True)))
    return out


def maxsim(query, document):
    return float((query @ document.T).max(axis=1).sum())


def literal(encoding, tokens, query):
    """Encode one document or query as the paper defines it, a bucket at a time, from the learned arrays."""
    state = encoding.get_state()
    reps, bits, width = encoding.repetitions, encoding.simhash_bits, encoding.projected_dim
    x = np.float64(np.float32(tokens) - state["mean"])
    if query and encoding.carve is not None:
        left, balls = list(range(len(x))), []
        while left:
            centre = left[0]
            inside = [
                i for i in left if x[i] @ x[centre] >= encoding.carve * np.sqrt((x[i] @ x[i]) * (x[centre] @ x[centre]))
            ]
            balls.append(x[inside].sum(axis=0))
            left = [i for i in left if i not in inside]
        x = np.array(balls)
    blocks = []
    for r in range(reps):
        planes = np.float64(state["planes"][:, r * bits : (r + 1) * bits])
        codes = [tuple(int(side > 0) for side in token @ planes) for token in x]
        if width is None:
            small = x
        else:
            signs = 2.0 * state["signs"][:, r * width : (r + 1) * width] - 1
            small = x @ signs / np.sqrt(width)
        for bucket in range(2**bits):
            corner = tuple((bucket >> b) & 1 for b in range(bits))
            inside = [i for i, code in enumerate(codes) if code == corner]
            if query:
                block = small[inside].sum(axis=0)
            elif inside:
                block = small[inside].mean(axis=0)
            elif encoding.fill_empty and len(x):
                distances = [sum(a != b for a, b in zip(code, corner, strict=True)) for code in codes]
                block = small[int(np.argmin(distances))]
            else:
                block = np.zeros(small.shape[1])
            blocks.append(block)
    full = np.concatenate(blocks) / np.sqrt(reps)
    out = np.zeros(encoding.final_dim or len(full))
    if encoding.final_dim is None:
        out += full
    else:
        sketch(out, full, state)
    return out / np.linalg.norm(out) if encoding.normalise and not query else out


def sketch(out, full, state):
    for value, column, sign in zip(full, state["sketch_columns"], state["sketch_signs"], strict=True):
        out[column] += value if sign else -value


OPTIONS = [
    {},
    {"projected_dim": None},
    {"fill_empty": False},
    {"centre": False},
    {"simhash_bits": 0},
    {"simhash_bits": 0, "projected_dim": None},
    {"final_dim": 50},
    {"final_dim": 1000},
    {"carve": 0.3},
    {"normalise": True},
    {"simhash_bits": 6, "repetitions": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_literal_reading(options):
    documents, queries = draw(12, 10, 0, shift=0.4), draw(6, 10, 1, shift=0.4)
    settings = {"repetitions": 4, "simhash_bits": 3, "projected_dim": 5, **options}
    encoding = FixedDimensionalEncoding(**settings).fit(documents, seed=7)
    encoded = encoding.encode_documents(documents)
    assert encoded.dtype == np.float32
    assert encoded.shape == (12, encoding.out_dim)
    assert_allclose(encoded, [literal(encoding, x, query=False) for x in documents], atol=2e-6)
    assert_allclose(encoding.encode_queries(queries), [literal(encoding, x, query=True) for x in queries], atol=2e-5)


def test_one_bucket_without_projection_is_the_mean():
    documents, queries = draw(5, 8, 0), draw(3, 8, 1)
    encoding = FixedDimensionalEncoding(1, 0, None, centre=False).fit(documents)
    assert_allclose(encoding.encode_documents(documents), [x.mean(axis=0) for x in documents], atol=1e-6)
    assert_allclose(encoding.encode_queries(queries), [x.sum(axis=0) for x in queries], atol=1e-5)


def test_more_dimensions_estimate_maxsim_better():
    documents, queries = draw(150, 24, 2, most=30), draw(20, 24, 3, most=12)
    exact = np.array([[maxsim(q, d) for d in documents] for q in queries])
    quality = []
    for reps, bits, width in ((4, 2, 4), (20, 4, 8), (40, 6, None)):
        encoding = FixedDimensionalEncoding(reps, bits, width, centre=False).fit(documents)
        estimate = encoding.encode_queries(queries) @ encoding.encode_documents(documents).T
        # The number of query tokens explains most of the spread between queries, so correlate within each.
        quality.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(exact, estimate, strict=True)]))
    assert quality[0] < quality[1] < quality[2]
    assert quality[2] > 0.7


def test_the_estimate_has_the_size_of_maxsim():
    documents, queries = draw(60, 24, 4, most=30), draw(10, 24, 5, most=12)
    exact = np.array([[maxsim(q, d) for d in documents] for q in queries])
    encoding = FixedDimensionalEncoding(60, 5, None, centre=False).fit(documents)
    estimate = encoding.encode_queries(queries) @ encoding.encode_documents(documents).T
    assert (estimate <= exact + 1e-3).all()  # an average is at most the maximum
    assert 0.2 * exact.mean() < estimate.mean() < exact.mean()


def test_centring_helps_where_all_vectors_point_one_way():
    rng = np.random.default_rng(6)
    topics = rng.standard_normal((150, 24))
    documents, queries = (
        [np.float32(10 + topics[i] + rng.standard_normal((length, 24))) for i in range(count)]
        for length, count in ((20, 150), (6, 30))
    )
    documents, queries = (
        [x / np.linalg.norm(x, axis=1, keepdims=True) for x in group] for group in (documents, queries)
    )
    exact = np.array([[maxsim(q, d) for d in documents] for q in queries])
    best = np.argsort(-exact, axis=1)[:, :5]
    recall = []
    for centre in (False, True):
        encoding = FixedDimensionalEncoding(20, 4, 8, centre=centre).fit(documents)
        estimate = encoding.encode_queries(queries) @ encoding.encode_documents(documents).T
        found = np.argsort(-estimate, axis=1)[:, :20]
        recall.append(np.mean([np.isin(b, f).mean() for b, f in zip(best, found, strict=True)]))
    assert recall[1] > recall[0] + 0.1


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_document_does_not_depend_on_its_company(options, monkeypatch):
    monkeypatch.setattr("octavo.compression.fixed_dimensional._CHUNK_VALUES", 900)
    documents = [*draw(9, 10, 0), np.zeros((0, 10))]
    encoding = FixedDimensionalEncoding(**{"repetitions": 4, "simhash_bits": 3, "projected_dim": 5, **options}).fit(
        documents
    )
    for encode in (encoding.encode_documents, encoding.encode_queries):
        together = encode(documents)
        assert_array_equal(together, np.concatenate([encode([x]) for x in documents]))
        assert not together[-1].any()
        assert encode([]).shape == (0, encoding.out_dim)


def test_seed():
    documents = draw(9, 10, 0)
    first, again, other = (
        FixedDimensionalEncoding(2, 2, 4).fit(documents, seed=seed).encode_documents(documents) for seed in (1, 1, 2)
    )
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("name", "dim"), [("1280", 1280), ("2560", 2560), ("5120", 5120), ("10240", 10240), ("10240-sketch", 10240)]
)
def test_presets(name, dim):
    documents = draw(3, 8, 0)
    assert FixedDimensionalEncoding.preset(name).fit(documents).encode_documents(documents).shape == (3, dim)
    assert FixedDimensionalEncoding.preset("2560", centre=False).centre is False
    with pytest.raises(ParameterError, match="10240-sketch"):
        FixedDimensionalEncoding.preset("99")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repetitions": 0}, "repetitions as an integer between 1"),
        ({"simhash_bits": 17}, "simhash_bits as an integer between 0 and 16"),
        ({"projected_dim": 0}, "projected_dim"),
        ({"final_dim": 1.5}, "final_dim"),
        ({"carve": 2.0}, "carve as a number between -1 and 1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ParameterError, match=message):
        FixedDimensionalEncoding(**options)


def test_damaged_sketch_is_refused():
    encoding = FixedDimensionalEncoding(2, 2, 4, final_dim=5).fit(draw(3, 8, 0))
    state = encoding.get_state()
    state["sketch_columns"] = state["sketch_columns"] + 3
    with pytest.raises(CodecError, match="sketch columns from 0 to 4"):
        FixedDimensionalEncoding(2, 2, 4, final_dim=5).set_state(state)
