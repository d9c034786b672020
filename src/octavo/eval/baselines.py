"""Compression schemes that people believe in, for comparison only: none of them can be chosen for a collection.

Each is a plain numpy reference, searched exhaustively, so that what it loses is the scheme's own doing. Its bytes are
computed from the shape of its codes, not measured.

==================  ================================================================================================
``int8-minmax``     per-dimension minimum and maximum onto -128..127; dot products of the raw codes, both sides
``float16-cast``    each value cast to an IEEE half
``float8-cast``     each value cast to e4m3 as it is, unscaled
``binary-sign``     signs, compared by Hamming distance, without rescoring
``pca-cosine:N``    scikit-learn's PCA before a cosine index: the mean taken from both sides, N components, normalised
``gaussian:N``      a Gaussian random projection onto N dimensions, normalised
``matryoshka:N``    the first N values of what a Matryoshka adaptor, learned from the documents, makes of vectors
``pq:N``            product quantization with N bytes a document; queries stay as they are
``itq:N``           N bits: principal components, turned for their signs (ITQ); Hamming distance
``bebr:N``          residual binarisation in N planes of bits (BEBR), of both sides
``leanvec:N``       a query-aware projection onto N dimensions (LeanVec); learned from the other half of the queries
==================  ================================================================================================

``pca-cosine``, ``gaussian`` and ``matryoshka`` reduce; ``pca-cosine:50%|int8-minmax`` casts afterwards, alone they stay
float32. N is a number or a share of the dimensions, ``pq:12.5%`` as many bytes as one bit a value takes; of ``bebr`` it is 1
to 8. Those from ``matryoshka`` on come from papers (references: their functions); what learns takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo.compression import Truncate
from octavo.errors import ParameterError
from octavo.eval._learned_baselines import (
    check_planes,
    iterative_quantization,
    matryoshka_adaptor,
    product_quantization,
    query_aware_projection,
    recurrent_binarization,
)
from octavo.eval.rivals import PREFIX, rival_factory

#: What ``--baselines`` adds.
DEFAULT_BASELINES = ("int8-minmax", "float16-cast", "float8-cast", "binary-sign", "pca-cosine:50%", "gaussian:50%")

#: Scores held at a time while ranking.
_BLOCK_SCORES = 8_000_000

_E4M3_MAX = 448.0
_E4M3_MIN_EXPONENT = -6
_E4M3_MANTISSA_BITS = 3


@dataclass(frozen=True)
class Encoded:
    """Documents and queries as a baseline stores them, in float32 so that BLAS can score them.

    Parameters
    ----------
    documents, queries : ndarray of float32
        Values of the codes; their dot product is the score.
    row_bytes : int
        What a document would take.
    """

    documents: Floats
    queries: Floats
    row_bytes: int


Pair = tuple[Floats, Floats]


def check_baseline(name: str) -> str:
    """Return a baseline's name in its usual spelling.

    Raises
    ------
    ParameterError
        When there is none of that name.
    """
    if name.startswith(PREFIX):
        rival_factory(name)
        return name
    parts = [part.strip() for part in name.split("|")]
    kind, colon, size = parts[0].partition(":")
    if len(parts) == 1 and kind in _ALONE and colon:
        check_planes(size) if kind == "bebr" else Truncate(size)
        return parts[0]
    reducers, casts = parts[:-1], parts[-1:]
    if parts[-1].partition(":")[0] in _REDUCERS:
        reducers, casts = parts, []
    ok = len(reducers) <= 1 and all(cast in _CASTS for cast in casts)
    for reducer in reducers:
        kind, colon, size = reducer.partition(":")
        ok = ok and kind in _REDUCERS and bool(colon)
        if ok:
            Truncate(size)  # reads sizes as codec strings do
    if not ok:
        raise ParameterError(
            f"expected a baseline out of {', '.join(_CASTS)}, or {' or '.join(f'{kind}:SIZE' for kind in _REDUCERS)} with or "
            f"without '|' and one of these behind it, or {' or '.join(f'{kind}:SIZE' for kind in _ALONE)}, got {name!r}"
        )
    return "|".join(parts)


def encode_baseline(name: str, documents: Floats, queries: Floats, *, seed: int = 0) -> Encoded:
    """Encode documents and queries as a baseline does.

    Parameters
    ----------
    name : str
        Of the baseline.
    documents, queries : ndarray of shape (n, dim), float32
        Of unit length where cosine is meant.
    seed : int, default=0
        Of the random projection, and of what learns.

    Examples
    --------
    >>> X = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    >>> encode_baseline("binary-sign", X, X).documents
    array([[ 1.,  1.],
           [ 1., -1.]], dtype=float32)
    """
    pair = documents, queries
    cast = None
    name = check_baseline(name)
    kind, _, size = name.partition(":")
    if kind in _ALONE and not name.startswith(PREFIX):
        return _ALONE[kind](pair, size, seed)
    for part in name.split("|"):
        kind, _, size = part.partition(":")
        if kind in _REDUCERS:
            dim = Truncate(size).fit(documents[:1]).out_dim
            pair = _REDUCERS[kind](pair, dim, seed)
        else:
            cast = _CASTS[kind]
    dim = pair[0].shape[1]
    if cast is None:
        return Encoded(*pair, row_bytes=4 * dim)
    function, bits = cast
    return Encoded(*function(pair), row_bytes=(dim * bits + 7) // 8)


def rank_all(documents: Floats, queries: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the best k documents of each query by dot product, ties in the order of the documents.

    The obvious way, which shares no code with the collection: what it is checked against.

    Returns
    -------
    rows : ndarray of shape (m, min(k, n))
    scores : ndarray of shape (m, min(k, n)), float32
    """
    k = min(k, len(documents))
    rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    step = max(1, _BLOCK_SCORES // max(1, len(documents)))
    for start in range(0, len(queries), step):
        block = queries[start : start + step] @ documents.T
        order = np.argsort(-block, axis=1, kind="stable")[:, :k]
        rows[start : start + step] = order
        scores[start : start + step] = np.take_along_axis(block, order, 1)
    return rows, scores


# ---------------------------------------------------------------------- the schemes


def _pca_cosine(pair: Pair, dim: int, seed: int) -> Pair:
    documents, queries = pair
    mean = documents.mean(axis=0, dtype=np.float64)
    centred = documents - mean
    # Eigenvectors of the covariance, as scikit-learn takes them for many more rows than columns.
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, ::-1][:, :dim]
    return _unit(centred @ components), _unit((queries - mean) @ components)


def _gaussian(pair: Pair, dim: int, seed: int) -> Pair:
    documents, queries = pair
    projection = np.random.default_rng(seed).normal(0, dim**-0.5, (documents.shape[1], dim)).astype(np.float32)
    return _unit(documents @ projection), _unit(queries @ projection)


def _unit(X: npt.NDArray[np.floating]) -> Floats:
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(lengths > 0, lengths, 1), np.float32)


def _int8_minmax(pair: Pair) -> Pair:
    documents, queries = pair
    low, high = documents.min(axis=0), documents.max(axis=0)
    span = np.where(high > low, high - low, 1)

    def encode(X: Floats) -> Floats:
        return np.asarray(np.clip(np.rint((X - low) / span * 255 - 128), -128, 127), np.float32)

    return encode(documents), encode(queries)


def _float16_cast(pair: Pair) -> Pair:
    documents, queries = (X.astype(np.float16).astype(np.float32) for X in pair)
    return documents, queries


def _float8_cast(pair: Pair) -> Pair:
    documents, queries = map(to_e4m3, pair)
    return documents, queries


def to_e4m3(X: Floats) -> Floats:
    """Return the nearest float8-e4m3 values, ties to even; beyond +-448, the largest.

    Examples
    --------
    >>> to_e4m3(np.array([0.05, 0.0009, 1000.0], np.float32)).tolist()
    [0.05078125, 0.0, 448.0]
    """
    _, exponent = np.frexp(np.abs(X))
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, _E4M3_MIN_EXPONENT) - _E4M3_MANTISSA_BITS)
    return np.asarray(np.clip(np.rint(X / step) * step, -_E4M3_MAX, _E4M3_MAX), np.float32)


def _binary_sign(pair: Pair) -> Pair:
    documents, queries = (np.where(X > 0, np.float32(1), np.float32(-1)) for X in pair)
    return documents, queries


def _size(pair: Pair, size: str) -> int:
    return Truncate(size).fit(pair[0][:1]).out_dim


def _pq(pair: Pair, size: str, seed: int) -> Encoded:
    parts = _size(pair, size)
    return Encoded(*product_quantization(pair, parts, seed), row_bytes=parts)


def _itq(pair: Pair, size: str, seed: int) -> Encoded:
    bits = _size(pair, size)
    return Encoded(*iterative_quantization(pair, bits, seed), row_bytes=(bits + 7) // 8)


def _bebr(pair: Pair, size: str, seed: int) -> Encoded:
    planes = check_planes(size)
    return Encoded(*recurrent_binarization(pair, planes), row_bytes=(pair[0].shape[1] * planes + 7) // 8)


def _leanvec(pair: Pair, size: str, seed: int) -> Encoded:
    dim = _size(pair, size)
    return Encoded(*query_aware_projection(pair, dim, seed), row_bytes=4 * dim)


_ALONE: dict[str, Callable[[Pair, str, int], Encoded]] = {"pq": _pq, "itq": _itq, "bebr": _bebr, "leanvec": _leanvec}
_REDUCERS: dict[str, Callable[[Pair, int, int], Pair]] = {
    "pca-cosine": _pca_cosine,
    "gaussian": _gaussian,
    "matryoshka": matryoshka_adaptor,
}
_CASTS: dict[str, tuple[Callable[[Pair], Pair], int]] = {
    "int8-minmax": (_int8_minmax, 8),
    "float16-cast": (_float16_cast, 16),
    "float8-cast": (_float8_cast, 8),
    "binary-sign": (_binary_sign, 1),
}
