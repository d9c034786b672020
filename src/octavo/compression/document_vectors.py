"""Vectors for the candidate stage of late interaction, besides the fixed-dimensional encodings.

All of them, `FixedDimensionalEncoding` included, are a `CandidateEncoder`, so that a retriever can take any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import MAX_DIM, Floats, unit_rows
from octavo._validation import check_flag, check_integer, check_number
from octavo.compression._base import Shapes, State
from octavo.compression._reducers import Projection
from octavo.compression.candidates import CandidateEncoder
from octavo.compression.token_matrices import TokenMatrices

#: Documents over which `RandomFeatures` takes the mean document vector.
_CENTRE_DOCUMENTS = 256


class CentredMean(CandidateEncoder):
    """Encode a document as the direction of its mean token, seen from the mean of all documents.

    The cheapest encoder, and the shortest vectors.

    Parameters
    ----------
    centre : bool, default=True
        Subtract the mean of the documents' mean tokens, learnt in `fit`, from documents and queries. Without it, the
        means of models whose vectors all point one way hardly differ.

    Examples
    --------
    >>> documents = [np.float32([[1, 0], [0, 1]]), np.float32([[0, 1]])]
    >>> CentredMean(centre=False).fit(documents).encode_documents(documents).round(3)
    array([[0.707, 0.707],
           [0.   , 1.   ]], dtype=float32)
    """

    encoder_id = "mean"

    def __init__(self, *, centre: bool = True) -> None:
        self.centre = check_flag(centre, "centre")

    def _options(self) -> dict[str, Any]:
        return {"centre": self.centre}

    @property
    def out_dim(self) -> int:
        """Dimension of the vectors: that of the tokens."""
        return self.in_dim

    def _fit(self, tokens: TokenMatrices, rng: np.random.Generator) -> None:
        mean = _means(tokens)[tokens.lengths > 0].mean(axis=0) if self.centre else np.zeros(tokens.dim)
        self._mean: Floats = mean.astype(np.float32)

    def _shapes(self, in_dim: int) -> Shapes:
        return {"mean": (np.float32, (in_dim,))}

    def _get_arrays(self) -> State:
        return {"mean": self._mean}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._mean = arrays["mean"]

    def _encode_documents(self, tokens: TokenMatrices) -> Floats:
        centred = (_means(tokens) - self._mean).astype(np.float32)
        centred[tokens.lengths == 0] = 0
        return unit_rows(centred, keep_zeros=True)

    def _encode_queries(self, tokens: TokenMatrices) -> Floats:
        return self._encode_documents(tokens)


class RandomFeatures(CandidateEncoder):
    """Encode a document as the weights that predict its MaxSim from random features of the query tokens.

    A query token contributes to a document's MaxSim a function of the token alone. The function is fitted, by ridge
    regression, as a weighted sum of random rectified features, ``max(0, a . (token - mean) + b)``: the weights are the
    document's vector, the sum of the features of its tokens a query's. The dot product estimates MaxSim, less the mean
    document's share of it, which is the same for all documents of a query. Features and training tokens are drawn in
    `fit`; a document that is added later is fitted on the same ones, by itself.

    This is LEMUR with random instead of trained features, so that there is nothing to train.

    Parameters
    ----------
    features : int, default=1024
        Number of features: the dimension of the vectors.
    n_tokens : int, optional
        Training tokens, drawn from the documents' tokens in `fit`; four times `features` if left out. Encoding a
        document multiplies all its tokens with all of them.
    ridge : float, default=0.01
        Weight of the penalty, relative to the features' mean square.

    References
    ----------
    Jääsaari, E., Hyvönen, V. and Roos, T. (2026). LEMUR: learned multi-vector retrieval. ICML. arXiv:2601.21853.

    Rahimi, A. and Recht, B. (2008). Weighted sums of random kitchen sinks. NIPS.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> documents = [rng.standard_normal((n, 16)) for n in (30, 90, 50)]
    >>> RandomFeatures(64).fit(documents).encode_documents(documents).shape
    (3, 64)
    """

    encoder_id = "random-features"

    def __init__(self, features: int = 1024, *, n_tokens: int | None = None, ridge: float = 0.01) -> None:
        self.features = check_integer(features, "features", least=1, most=MAX_DIM)
        self.n_tokens = None if n_tokens is None else check_integer(n_tokens, "n_tokens", least=1, most=MAX_DIM)
        self.ridge = check_number(ridge, "ridge", above=0)

    def _options(self) -> dict[str, Any]:
        return {"features": self.features, "n_tokens": self.n_tokens, "ridge": self.ridge}

    @property
    def out_dim(self) -> int:
        """Dimension of the vectors."""
        return self.features

    # -- learning ----------------------------------------------------------------------------------------------------

    def _fit(self, tokens: TokenMatrices, rng: np.random.Generator) -> None:
        wanted = min(len(tokens.flat), self.n_tokens or 4 * self.features)
        training = tokens.flat[np.sort(rng.choice(len(tokens.flat), wanted, replace=False))]
        mean = tokens.flat.mean(axis=0, dtype=np.float64)
        spread = float(np.sqrt(np.square(training - mean).sum(axis=1).mean()))
        planes = rng.standard_normal((tokens.dim, self.features)) / (spread or 1.0)
        self._set_arrays(
            {
                "training": training,
                "planes": planes.astype(np.float32),
                # A shift of about half a deviation, so that not all features bend at the mean.
                "shifts": (0.5 * rng.standard_normal(self.features) - mean @ planes).astype(np.float32),
                "centre": np.zeros(self.features, np.float32),
            },
            tokens.dim,
        )
        filled = np.flatnonzero(tokens.lengths)
        chosen = np.sort(rng.choice(filled, min(len(filled), _CENTRE_DOCUMENTS), replace=False))
        sample = TokenMatrices.of([tokens[int(i)] for i in chosen])
        self._arrays["centre"] = self._weights(sample).mean(axis=0).astype(np.float32)

    def _shapes(self, in_dim: int) -> Shapes:
        return {
            "training": (np.float32, (-1, in_dim)),
            "planes": (np.float32, (in_dim, self.features)),
            "shifts": (np.float32, (self.features,)),
            "centre": (np.float32, (self.features,)),
        }

    def _get_arrays(self) -> State:
        return dict(self._arrays)

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._arrays = arrays
        self._project = Projection(np.ascontiguousarray(arrays["planes"]))
        self._solve: Projection | None = None

    def _solver(self) -> Projection:
        """Return the product that maps targets at the training tokens to ridge weights; built when first needed."""
        if self._solve is None:
            design = self._apply(self._arrays["training"])
            gram = design.T @ design
            gram[np.diag_indices_from(gram)] += self.ridge * max(float(np.trace(gram)) / len(gram), 1e-12)
            self._solve = Projection(np.ascontiguousarray(np.linalg.solve(gram, design.T).T, np.float32))
        return self._solve

    # -- use ---------------------------------------------------------------------------------------------------------

    def _apply(self, X: Floats) -> npt.NDArray[np.float64]:
        return np.maximum(self._project(X) + self._arrays["shifts"], 0)

    def _weights(self, tokens: TokenMatrices) -> npt.NDArray[np.float64]:
        training = self._arrays["training"]
        targets = np.zeros((len(tokens), len(training)), np.float32)
        for row, document in zip(targets, tokens, strict=True):
            if len(document):
                # One document at a time: in a common product its company could change the last bit.
                (document @ training.T).max(axis=0, out=row)
        return self._solver()(targets)

    def _encode_documents(self, tokens: TokenMatrices) -> npt.NDArray[np.float64]:
        weights = self._weights(tokens) - self._arrays["centre"]
        weights[tokens.lengths == 0] = 0
        return weights

    def _encode_queries(self, tokens: TokenMatrices) -> npt.NDArray[np.float64]:
        return _sums(self._apply(tokens.flat), tokens)


def _sums(rows: npt.NDArray[Any], tokens: TokenMatrices) -> npt.NDArray[np.float64]:
    """Sum up the rows that belong to each document, zero where there are none."""
    sums = np.zeros((len(tokens), rows.shape[1]))
    filled = tokens.lengths > 0
    if filled.any():
        sums[filled] = np.add.reduceat(rows, tokens.offsets[:-1][filled], axis=0, dtype=np.float64)
    return sums


def _means(tokens: TokenMatrices) -> npt.NDArray[np.float64]:
    """Return the mean token of each document, zero where there is none."""
    return _sums(tokens.flat, tokens) / np.maximum(tokens.lengths, 1)[:, None]
