"""What the contract of a codec step promises, checked on one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.compression import Codec, Pipeline, Quantizer, Reducer, Step
from octavo.errors import CodecError, InputTypeError, InvalidVectorsError, NotFittedError
from octavo.index import exact_search, score_rows

_ROWS = 60
#: Rows at which blocks of work begin and end, and others.
_PROBED = (0, 1, 17, 2047, 2048, 4998, 4999)
_LARGE = 3e38


def check_step(step: Step, /, *, dim: int = 33) -> None:
    """Check that a reducer or a quantizer keeps the contract of `octavo.compression.Step`.

    Checked are: shapes and types; that codes depend on nothing but the vector and what was learned (not on the other vectors
    of the call, their memory layout, their type, or the time of day); configuration and learned state there and back, alone
    and stored in a codec; that a damaged state, vectors that are not what they should be, and a step that has not been fitted
    are refused by Octavo's own errors; that samples of one vector, of equal or of tiny ones do no harm; that vectors longer
    than any seen saturate; and that exact search over the codes agrees with itself and prefers similar documents.

    Parameters
    ----------
    step : Step
        The step, fitted or not; it is not changed.
    dim : int, default=33
        Dimension of the vectors to check with. An odd one shows whether codes are padded to whole bytes.

    Raises
    ------
    AssertionError
        If a check fails; the message says which promise was not kept.

    Examples
    --------
    >>> from octavo.compression import Int8
    >>> check_step(Int8())
    """
    assert isinstance(step, Reducer | Quantizer), f"expected a step derived from Reducer or Quantizer, got {step!r}"
    fresh = _copier(step)
    for check in _CHECKS:
        check(fresh, dim)


_Fresh = Callable[[], Any]


def _copier(step: Step) -> _Fresh:
    config = step.get_config()
    return lambda: type(step).from_config(config)


def _vectors(n: int = _ROWS, dim: int = 33, seed: int = 0) -> Floats:
    """Draw unit vectors that have a common direction and dimensions of different weight, as those of models do."""
    X = np.random.default_rng(seed).normal(size=(n, dim)) * np.random.default_rng(99).uniform(0.2, 2, dim) + 0.5
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True), np.float32)


def _same(one: Any, other: Any, promise: str) -> None:
    assert np.array_equal(one, other), f"{promise}: {one!r} and {other!r} differ"


@contextmanager
def _raises(error: type[Exception], what: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"expected {what} to raise {error.__name__}, but nothing was raised")


# -- the checks ------------------------------------------------------------------------------------------------------


def _check_shapes(fresh: _Fresh, dim: int) -> None:
    X = _vectors(dim=dim)
    step = fresh().fit(X)
    codes, queries = step.encode(X), step.encode_queries(X)
    if isinstance(step, Reducer):
        width = query_width = step.out_dim
        wanted: npt.DTypeLike = np.float32
        assert step.out_dim_for(dim) == width, f"out_dim_for({dim}) is {step.out_dim_for(dim)}, out_dim {width}"
    else:
        width, query_width = step.layout.row_bytes, step.layout.compared.row_bytes
        wanted = np.uint8
    assert codes.shape == (_ROWS, width), f"expected codes of shape {(_ROWS, width)}, got {codes.shape}"
    assert queries.shape == (_ROWS, query_width), f"expected queries of width {query_width}, got {queries.shape}"
    assert codes.dtype == queries.dtype == wanted, f"expected {wanted}, got {codes.dtype} and {queries.dtype}"
    assert codes.flags.c_contiguous, "expected codes in C order"
    assert queries.flags.c_contiguous, "expected queries in C order"
    assert step.in_dim == dim, f"expected in_dim {dim}, got {step.in_dim}"
    decoded = step.decode(codes)
    assert decoded.shape == X.shape, f"expected decoded vectors of shape {X.shape}, got {decoded.shape}"
    assert decoded.dtype == np.float32, f"expected decoded vectors as float32, got {decoded.dtype}"
    assert step.query_offset(X).shape == (_ROWS,), "expected one offset a query"
    assert step.encode(X[:0]).shape == (0, width), "expected no codes for no vectors"
    assert step.encode_queries(X[:0]).shape == (0, query_width), "expected no codes for no queries"
    assert step.decode(codes[:0]).shape == (0, dim), "expected no vectors for no codes"
    assert step.query_offset(X[:0]).shape == (0,), "expected no offsets for no queries"


def _check_codes_depend_on_vector_and_state_alone(fresh: _Fresh, dim: int) -> None:
    X = _vectors(5000, dim)
    step = fresh().fit(X[:50])
    for name in ("encode", "encode_queries", "query_offset"):
        encode = getattr(step, name)
        whole = encode(X)
        for i in _PROBED:
            _same(encode(X[i : i + 1])[0], whole[i], f"{name} does not depend on the company of row {i}")
        _same(encode(X[11:16]), whole[11:16], f"{name} does not depend on the company of rows")
    X = X[:_ROWS]
    expected = step.encode(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((_ROWS, 2 * dim), np.float32)
    wide[:, ::2] = X
    for same in (np.asfortranarray(X), wide[:, ::2], read_only, X.astype(">f4"), X.astype(np.float64), X.tolist()):
        _same(step.encode(same), expected, "codes do not depend on how vectors lie in memory")
    before = X.copy()
    step.encode(X)[:] = 0
    step.decode(step.encode(X))[:] = 0
    _same(X, before, "the vectors given are left alone")
    again = fresh().fit(X, seed=3).encode(X), fresh().fit(X.astype(np.float64), seed=3).encode(X)
    _same(*again, "the same sample and seed give the same codes")


def _check_configuration(fresh: _Fresh, dim: int) -> None:
    step = fresh()
    config = json.loads(json.dumps(step.get_config()))
    assert config.get("id") == step.step_id, f"expected the id {step.step_id!r} in the configuration, got {config!r}"
    again = type(step).from_config(config)
    assert again == step, f"the configuration rebuilds the step: {again!r} != {step!r}"
    assert hash(again) == hash(step), "equal steps have equal hashes"
    assert again.token == step.token, "the configuration rebuilds what a codec string writes"
    assert type(step).from_argument(step.argument) == step, "from_argument takes what `argument` gives"
    assert not again.is_fitted, "a step is rebuilt without what it learned"
    with _raises(CodecError, "a configuration with an unknown key"):
        type(step).from_config({**config, "no such key": 1})
    with _raises(CodecError, "the configuration of another step"):
        type(step).from_config({"id": "no such step"})


def _check_state(fresh: _Fresh, dim: int) -> None:
    X = _vectors(dim=dim)
    step = fresh().fit(X, seed=5)
    state = step.get_state()
    again = fresh().set_state(state)
    for name in ("encode", "encode_queries", "query_offset"):
        _same(getattr(again, name)(X), getattr(step, name)(X), f"the learned state rebuilds {name}")
    _same(again.decode(step.encode(X)), step.decode(step.encode(X)), "the learned state rebuilds decode")
    assert again.state_bytes == step.state_bytes, "the learned state takes the same memory"
    for what, bad in (
        ("without in_dim", {}),
        ("with in_dim 0", {**state, "in_dim": np.array(0)}),
        ("with an absurd in_dim", {**state, "in_dim": np.array(1 << 40)}),
        ("with a list of in_dim", {**state, "in_dim": np.array([dim])}),
        ("with a fraction as in_dim", {**state, "in_dim": np.array(3.5)}),
        ("with an unknown array", {**state, "stranger": np.zeros(3)}),
        *((f"without {name!r}", {k: v for k, v in state.items() if k != name}) for name in state),
        *((f"with NaN in {k!r}", {**state, k: np.full(a.shape, np.nan)}) for k, a in state.items() if k != "in_dim"),
        *((f"with {k!r} of another shape", {**state, k: np.zeros((3, 3, 3))}) for k in state if k != "in_dim"),
    ):
        broken = fresh()
        with _raises(CodecError, f"a learned state {what}"):
            broken.set_state(bad)
        with _raises(NotFittedError, f"a step after a learned state {what}"):
            broken.encode(X)


def _check_not_fitted(fresh: _Fresh, dim: int) -> None:
    X = _vectors(dim=dim)
    step = fresh()
    assert not step.is_fitted, "a new step is not fitted"
    uses: dict[str, Callable[[], Any]] = {
        "encode": lambda: step.encode(X),
        "encode_queries": lambda: step.encode_queries(X),
        "query_offset": lambda: step.query_offset(X),
        "decode": lambda: step.decode(X),
        "in_dim": lambda: step.in_dim,
        "get_state": lambda: step.get_state(),
        "out_dim or layout": lambda: step.out_dim if isinstance(step, Reducer) else step.layout,
    }
    for name, use in uses.items():
        with _raises(NotFittedError, f"{name} before fit"):
            use()


def _check_bad_vectors(fresh: _Fresh, dim: int) -> None:
    X = _vectors(dim=dim)
    step = fresh().fit(X)
    for name in ("encode", "encode_queries", "query_offset"):
        use = getattr(step, name)
        bad: list[tuple[str, Any]] = [
            ("vectors of another dimension", X[:, :-1]),
            ("no vectors of another dimension", np.zeros((0, dim + 1))),
            ("values beyond float32", np.full((1, dim), 1e300)),
            ("a single vector", X[0]),
            ("rows of different lengths", [[1.0], [1.0, 2.0]]),
        ]
        for value in (np.nan, np.inf, -np.inf):
            spoiled = X.copy()
            spoiled[7, 2] = value
            bad.append((f"vectors with {value}", spoiled))
        for what, vectors in bad:
            with _raises(InvalidVectorsError, f"{name} of {what}"):
                use(vectors)
        with _raises(InputTypeError, f"{name} of strings"):
            use(X.astype(str))
    X[3, 3 % dim] = np.nan
    with _raises(InvalidVectorsError, "fit on NaN"):
        fresh().fit(X)
    with _raises(InvalidVectorsError, "fit on vectors without values"):
        fresh().fit(np.empty((3, 0)))


def _check_samples(fresh: _Fresh, dim: int) -> None:
    step, X = fresh(), _vectors(dim=dim)
    nothing = np.empty((0, dim))
    if step.needs_fit:
        with _raises(InvalidVectorsError, "fit on no vectors, by a step that learns,"):
            step.fit(nothing)
    else:
        same = step.fit(nothing).encode(X), fresh().fit(X).encode(X)
        _same(*same, "a step that does not look at the vectors learns the same from none")
    for what, sample in (
        ("zeros", np.zeros((3, dim))),
        ("one vector", X[:1]),
        ("tiny values", np.full((4, dim), 1e-40)),
        ("large values", np.full((2, dim), 1e30)),
    ):
        step = fresh().fit(sample)
        assert np.isfinite(step.decode(step.encode(sample))).all(), f"a sample of {what} does no harm"


def _check_large_vectors(fresh: _Fresh, dim: int) -> None:
    X = _vectors(dim=dim)
    step = fresh().fit(X)
    for factor in (3.0, 1e10, _LARGE):
        larger = np.clip(X.astype(np.float64) * factor, -_LARGE, _LARGE)
        codes = step.encode(larger)
        decoded = step.decode(codes)
        assert np.isfinite(codes if isinstance(step, Reducer) else decoded).all(), "longer vectors saturate"


def _check_stored(fresh: _Fresh, dim: int) -> None:
    """As a tier of a codec, with its learned state. The step has to be known to `register_step` for that."""
    X = _vectors(dim=dim)
    codec = Codec([Pipeline([fresh()])]).fit(X, seed=2)
    again = Codec.from_bytes(codec.to_bytes())
    assert again == codec, "a stored codec equals what was stored"
    _same(again.encode(X)[0], codec.encode(X)[0], "a stored codec gives the same codes")
    assert again.to_bytes() == codec.to_bytes(), "a codec read back stores the same bytes"


def _check_scores(fresh: _Fresh, dim: int) -> None:
    X, Q = _vectors(200, dim), _vectors(20, dim, seed=1)
    tier = Pipeline([fresh()]).fit(X)
    codes, queries = tier.encode(X), tier.encode_queries(Q)
    rows, scores = exact_search(tier.layout, codes, queries, len(X))
    ranked = np.empty((len(Q), len(X)), np.float32)
    np.put_along_axis(ranked, rows, scores, axis=1)
    for j in range(len(Q)):
        some = score_rows(tier.layout, codes, queries[j], np.arange(len(X)))
        _same(some, ranked[j], "scores of some rows have the bits of those of an exhaustive search")
    exact = Q.astype(np.float64) @ X.T
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(ranked, exact, strict=True)])
    assert correlation > 0.1, (
        f"documents that are more similar have higher scores: the correlation is {correlation:.2f}"
    )


_CHECKS: tuple[Callable[[_Fresh, int], None], ...] = (
    _check_shapes,
    _check_codes_depend_on_vector_and_state_alone,
    _check_configuration,
    _check_state,
    _check_not_fitted,
    _check_bad_vectors,
    _check_samples,
    _check_large_vectors,
    _check_stored,
    _check_scores,
)
