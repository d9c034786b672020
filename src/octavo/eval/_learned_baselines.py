"""Schemes from papers that learn from documents, as references: product quantization, ITQ, BEBR, LeanVec, a Matryoshka adaptor.

Each takes documents and queries as they are (of unit length where cosine is meant) and returns values whose dot product is the
scheme's score, with what a document would take. They are as plain as their papers allow; what is simpler is said in each.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, row_lengths
from octavo.errors import MissingExtraError, ParameterError

Pair = tuple[Floats, Floats]

#: Documents that a scheme learns from, at most.
_SAMPLE = 8_192


def product_quantization(pair: Pair, n_bytes: int, seed: int) -> Pair:
    """Keep of each part of a vector the number of its nearest centroid, one byte a part; queries stay as they are.

    Centroids are scipy's k-means, 256 a part. Where the parts do not divide the dimensions evenly the first are longer.

    Parameters
    ----------
    pair : tuple of ndarray
        Documents and queries.
    n_bytes : int
        Parts, and bytes of a document.
    seed : int
        Of sample and centroids.

    Returns
    -------
    tuple of ndarray
        What the bytes stand for, and the queries.

    References
    ----------
    Jégou, H., Douze, M. and Schmid, C. (2011). Product quantization for nearest neighbor search. IEEE TPAMI 33(1).
    """
    try:
        from scipy.cluster.vq import kmeans2, vq
    except ImportError as err:
        raise MissingExtraError(
            "the baseline 'pq' needs scipy, which belongs to octavo.eval: pip install 'octavo[eval]'"
        ) from err
    documents, queries = pair
    rng = np.random.default_rng(seed)
    sample = _sample(documents, rng)
    parts = np.array_split(np.arange(documents.shape[1]), n_bytes)
    kept = np.empty_like(documents)
    for part in parts:
        points = np.ascontiguousarray(sample[:, part])
        centroids = np.unique(points, axis=0)
        if len(centroids) > 256:
            centroids = centroids[rng.choice(len(centroids), 256, replace=False)]
            with warnings.catch_warnings():  # a centroid that lost all its points stays where it is
                warnings.simplefilter("ignore", UserWarning)
                centroids, _ = kmeans2(points, centroids, iter=12, minit="matrix")
        codes, _ = vq(np.ascontiguousarray(documents[:, part]), centroids)
        kept[:, part] = centroids[codes]
    return kept, queries


def iterative_quantization(pair: Pair, n_bits: int, seed: int, *, rounds: int = 50) -> Pair:
    """Keep signs of the leading principal components, turned so that signs lose least; Hamming distance on both sides.

    Parameters
    ----------
    pair : tuple of ndarray
        Documents and queries.
    n_bits : int
        Components, and bits of a document.
    seed : int
        Of sample and first rotation.
    rounds : int, default=50
        In which signs and rotation are fitted to each other.

    Returns
    -------
    tuple of ndarray
        Values of 1 and -1.

    References
    ----------
    Gong, Y. and Lazebnik, S. (2011). Iterative quantization: a Procrustean approach to learning binary codes. CVPR.
    """
    documents, queries = pair
    rng = np.random.default_rng(seed)
    sample = _sample(documents, rng).astype(np.float64)
    mean = sample.mean(axis=0)
    _, vectors = np.linalg.eigh((sample - mean).T @ (sample - mean))
    components = vectors[:, ::-1][:, :n_bits]
    turned = (sample - mean) @ components
    rotation, _ = np.linalg.qr(rng.normal(size=(n_bits, n_bits)))
    for _ in range(rounds):
        left, _, right = np.linalg.svd(turned.T @ np.where(turned @ rotation > 0, 1.0, -1.0))
        rotation = left @ right
    documents, queries = (
        np.where((X - mean) @ components @ rotation > 0, np.float32(1), np.float32(-1)) for X in (documents, queries)
    )
    return documents, queries


def recurrent_binarization(pair: Pair, planes: int) -> Pair:
    """Keep signs, then the signs of what they leave, at half the weight, and so on; documents and queries alike.

    The paper's network in front of it is left out: vectors are binarised as they are.

    Parameters
    ----------
    pair : tuple of ndarray
        Documents and queries.
    planes : int
        Bits a value.

    Returns
    -------
    tuple of ndarray
        Sums of the planes, of unit length.

    References
    ----------
    Gan, Y. et al. (2023). Binary embedding-based retrieval at Tencent. KDD. arXiv:2302.08714.
    """

    def encode(X: Floats) -> Floats:
        total = np.zeros_like(X)
        for plane in range(planes):
            total += np.where(_unit(total) < X, np.float32(1), np.float32(-1)) * np.float32(2.0**-plane)
        return _unit(total)

    documents, queries = map(encode, pair)
    return documents, queries


def query_aware_projection(pair: Pair, dim: int, seed: int) -> Pair:
    """Project documents and queries apart, so that products of the queries seen are kept best.

    Queries are split in two halves by chance, and each is projected by what the other half taught. With as few queries as a
    test set has, their second moment is drawn towards that of the documents, by ``dim`` rows.

    Parameters
    ----------
    pair : tuple of ndarray
        Documents and queries.
    dim : int
        Values of a document that are kept.
    seed : int
        Of the halves.

    Returns
    -------
    tuple of ndarray
        Both projections of the documents side by side, and queries with zeros for the one that is not theirs.

    References
    ----------
    Tepper, M. et al. (2024). LeanVec: searching vectors faster by making them fit. TMLR. arXiv:2312.16335.

    Tepper, M. et al. (2024). GleanVec: accelerating vector search with minimalist nonlinear dimensionality reduction.
    arXiv:2410.22347 (the closed form used here, "LeanVec-Sphering").
    """
    documents, queries = pair
    halves = np.random.default_rng(seed).permutation(len(queries)) % 2
    of_documents = _moment(documents)
    left = np.zeros((len(documents), 2 * dim), np.float32)
    right = np.zeros((len(queries), 2 * dim), np.float32)
    for half in (0, 1):
        known = queries[halves != half]
        columns = slice(half * dim, (half + 1) * dim)
        moment = _moment(known) * len(known) + of_documents * documents.shape[1]
        values, vectors = np.linalg.eigh(moment / np.trace(moment) if np.trace(moment) > 0 else moment)
        roots = np.sqrt(np.maximum(values, 1e-9))
        sphere, back = (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
        _, found = np.linalg.eigh(sphere @ of_documents @ sphere)
        chosen = found[:, ::-1][:, :dim]
        left[:, columns] = documents @ (sphere @ chosen)
        right[halves == half, columns] = queries[halves == half] @ (back @ chosen)
    return left, right


def matryoshka_adaptor(pair: Pair, dim: int, seed: int, *, steps: int = 300) -> Pair:
    """Truncate what a learned linear map makes of vectors: one after which the first values keep the cosines of all.

    The map is the identity plus a matrix, fitted by Adam on batches of documents and neighbours of theirs, to keep the products
    of all pairs in a batch by the first ``dim`` values and by all. The paper's map has a hidden layer.

    Parameters
    ----------
    pair : tuple of ndarray
        Documents and queries.
    dim : int
        Values that are kept.
    seed : int
        Of the batches.
    steps : int, default=300
        Batches.

    Returns
    -------
    tuple of ndarray
        Of unit length.

    References
    ----------
    Yoon, J. et al. (2024). Matryoshka-Adaptor: unsupervised and supervised tuning for smaller embedding dimensions. EMNLP.
    arXiv:2407.20243.
    """
    documents, queries = pair
    rng = np.random.default_rng(seed)
    sample = _unit(_sample(documents, rng, 4_096))
    if len(sample) < 2:
        return _unit(documents[:, :dim]), _unit(queries[:, :dim])
    width = sample.shape[1]
    near = np.argsort(-(sample @ sample.T), axis=1)[:, 1:11]
    change, mean, square = (np.zeros((width, width), np.float32) for _ in range(3))
    for step in range(1, steps + 1):
        anchors = rng.integers(0, len(sample), 64)
        beside = near[np.repeat(anchors, 3), rng.integers(0, near.shape[1], 192)]
        X = sample[np.unique(np.concatenate([anchors, beside]))]
        wanted, mapped = X @ X.T, X + X @ change
        slope = np.zeros_like(mapped)
        for kept in {dim, width}:
            lengths = np.maximum(row_lengths(mapped[:, :kept]), 1e-9).astype(np.float32)[:, None]
            unit = mapped[:, :kept] / lengths
            pull = (4 / X.shape[0] ** 2) * (unit @ unit.T - wanted) @ unit
            slope[:, :kept] += (pull - (pull * unit).sum(axis=1, keepdims=True) * unit) / lengths
        gradient = X.T @ slope
        mean += np.float32(0.1) * (gradient - mean)
        square += np.float32(0.001) * (gradient * gradient - square)
        change -= 1e-3 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    documents, queries = (_unit((X + X @ change)[:, :dim]) for X in (documents, queries))
    return documents, queries


def check_planes(text: str) -> int:
    """Return the number of planes that a name asks for.

    Raises
    ------
    ParameterError
        When it is none from 1 to 8.
    """
    if text not in map(str, range(1, 9)):
        raise ParameterError(f"expected 'bebr:1' to 'bebr:8' (bits a value), got 'bebr:{text}'")
    return int(text)


def _sample(documents: Floats, rng: np.random.Generator, most: int = _SAMPLE) -> Floats:
    if len(documents) <= most:
        return documents
    return documents[np.sort(rng.choice(len(documents), most, replace=False))]


def _moment(X: Floats) -> npt.NDArray[np.float64]:
    wide = X.astype(np.float64)
    moment: npt.NDArray[np.float64] = wide.T @ wide / max(len(X), 1)
    return moment


def _unit(X: npt.NDArray[Any]) -> Floats:
    lengths = row_lengths(X)[:, None]
    return np.asarray(X / np.where(lengths > 0, lengths, 1), np.float32)
