"""One suite for all encoders of the candidate stage, and an oracle for each."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from octavo.compression import CentredMean, FixedDimensionalEncoding, RandomFeatures, TokenMatrices
from octavo.compression import candidates as _candidates
from octavo.compression.candidates import candidate_encoder_from_config
from octavo.errors import CodecError, InvalidVectorsError, NotFittedError, ParameterError

ENCODERS = [
    CentredMean(),
    CentredMean(centre=False),
    RandomFeatures(32),
    RandomFeatures(24, n_tokens=50, ridge=0.1),
    FixedDimensionalEncoding(3, 2, 4),
    FixedDimensionalEncoding(3, 2, None, final_dim=30, carve=0.5, centre=False, fill_empty=False, normalise=True),
]


@pytest.fixture(params=ENCODERS, ids=repr)
def encoder(request):
    return candidate_encoder_from_config(request.param.get_config())


def draw(n, dim=12, seed=0, most=25):
    """Draw documents, each about a topic of its own."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(99).standard_normal((n, dim))
    out = []
    for topic, length in zip(topics, rng.integers(1, most, n), strict=True):
        x = 0.8 * topic + rng.standard_normal((length, dim))
        out.append(np.float32(x / np.linalg.norm(x, axis=1, keepdims=True)))
    return out


def test_every_encoder_is_in_this_suite():
    assert {type(encoder) for encoder in ENCODERS} == set(_candidates._ENCODERS.values())


def test_configuration(encoder):
    config = json.loads(json.dumps(encoder.get_config()))
    again = candidate_encoder_from_config(config)
    assert again == encoder
    assert hash(again) == hash(encoder)
    assert again == eval(repr(encoder))
    with pytest.raises(CodecError, match="speed"):
        type(encoder).from_config({**config, "speed": 1})
    with pytest.raises(CodecError, match=encoder.encoder_id):
        type(encoder).from_config({**config, "id": "other"})
    with pytest.raises(CodecError, match="candidate encoder out of fde"):
        candidate_encoder_from_config({"id": "other"})


def test_shapes(encoder):
    documents = [*draw(9), np.zeros((0, 12))]
    encoder.fit(documents)
    encoded = encoder.encode_documents(documents)
    assert encoded.dtype == np.float32
    assert encoded.shape == (10, encoder.out_dim)
    assert not encoded[-1].any()
    queries = encoder.encode_queries(documents)
    assert queries.dtype == np.float32
    assert queries.shape == (10, encoder.out_dim)
    assert not queries[-1].any()


def test_a_document_does_not_depend_on_its_company(encoder, monkeypatch):
    documents = draw(30)
    encoder.fit(documents)
    for encode in (encoder.encode_documents, encoder.encode_queries):
        together = encode(documents)
        assert_array_equal(together, np.concatenate([encode([x]) for x in documents]))
        assert_array_equal(together, encode(TokenMatrices.of(documents)))
        monkeypatch.setattr(_candidates, "_CHUNK_TOKENS", 20)
        assert_array_equal(together, encode(documents))
        monkeypatch.undo()


def test_state_and_seed(encoder):
    documents = draw(20)
    encoder.fit(documents, seed=3)
    state = encoder.get_state()
    again = candidate_encoder_from_config(encoder.get_config()).set_state(state)
    assert again.out_dim == encoder.out_dim
    assert_allclose(again.encode_documents(documents), encoder.encode_documents(documents), atol=1e-5)
    assert_array_equal(again.encode_queries(documents), encoder.encode_queries(documents))
    same = candidate_encoder_from_config(encoder.get_config()).fit(documents, seed=3)
    assert_array_equal(same.encode_documents(documents), encoder.encode_documents(documents))
    for array in state.values():
        assert array.dtype.str[1:] in ("f4", "f8", "i8", "i4", "u1")  # what stored codecs hold


def test_damaged_state_is_refused(encoder):
    encoder.fit(draw(20))
    state = encoder.get_state()
    with pytest.raises(CodecError, match="in_dim"):
        encoder.set_state({**state, "in_dim": np.array(0)})
    with pytest.raises(CodecError, match="extra"):
        encoder.set_state({**state, "extra": np.zeros(3)})
    for name, array in state.items():
        if name == "in_dim":
            continue
        with pytest.raises(CodecError, match=name):
            encoder.set_state({**state, name: array[..., :-1]})
        with pytest.raises(CodecError, match=name):
            encoder.set_state({**state, name: array.astype(np.float16)})
        if array.dtype.kind == "f":
            with pytest.raises(CodecError, match="not finite"):
                encoder.set_state({**state, name: array * np.float32(np.nan)})
    with pytest.raises(NotFittedError):
        encoder.encode_queries(draw(2))


def test_input_is_checked(encoder):
    with pytest.raises(NotFittedError, match="call fit"):
        encoder.encode_documents(draw(2))
    with pytest.raises(InvalidVectorsError, match="at least one"):
        encoder.fit(np.zeros((3, 0, 12)))
    encoder.fit(draw(5))
    with pytest.raises(InvalidVectorsError, match="dimension 12, got 13"):
        encoder.encode_documents(draw(5, dim=13))
    with pytest.raises(InvalidVectorsError, match="document 0"):
        encoder.encode_queries([np.full((1, 12), np.inf)])


def test_candidates_are_found(encoder):
    documents, queries = draw(60, seed=1, most=40), draw(60, seed=2, most=10)
    encoder.fit(documents)
    encoded, asked = encoder.encode_documents(documents), encoder.encode_queries(queries)
    scores = asked @ encoded.T
    exact = np.array([[(q @ d.T).max(axis=1).sum() for d in documents] for q in queries])
    found = np.argsort(-scores, axis=1)[:, :20]
    recall = np.mean([np.isin(b, f).mean() for b, f in zip(np.argsort(-exact, axis=1)[:, :3], found, strict=True)])
    assert recall > 0.6  # a third would be chance


def test_mean():
    documents = draw(7)
    means = np.array([x.mean(axis=0) for x in documents])
    centred = means - means.mean(axis=0)
    wanted = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert_allclose(CentredMean().fit(documents).encode_documents(documents), wanted, atol=1e-5)


def test_random_features_are_the_ridge_fit():
    documents = draw(40)
    encoder = RandomFeatures(20, ridge=0.05).fit(documents)
    state = encoder.get_state()
    training = np.float64(state["training"])
    assert len(training) == 80
    design = np.maximum(training @ np.float64(state["planes"]) + state["shifts"], 0)
    penalty = np.sqrt(0.05 * np.square(design).sum() / 20)
    # Ridge regression is least squares with a row for each penalised weight.
    stacked = np.concatenate([design, penalty * np.eye(20)])
    weights = []
    for x in documents:
        targets = (training @ x.T).max(axis=1)
        weights.append(np.linalg.lstsq(stacked, np.concatenate([targets, np.zeros(20)]), rcond=None)[0])
    weights = np.array(weights)
    assert_allclose(state["centre"], weights.mean(axis=0), atol=1e-4)
    assert_allclose(encoder.encode_documents(documents), weights - weights.mean(axis=0), atol=1e-4)
    query = documents[0][:3]
    features = np.maximum(np.float64(query) @ np.float64(state["planes"]) + state["shifts"], 0)
    assert_allclose(encoder.encode_queries([query])[0], features.sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomFeatures(0), "features"),
        (lambda: RandomFeatures(8, n_tokens=0), "n_tokens"),
        (lambda: RandomFeatures(8, ridge=0.0), "ridge as a number above 0"),
    ],
)
def test_options_that_do_not_fit(build, message):
    with pytest.raises(ParameterError, match=message):
        build()
