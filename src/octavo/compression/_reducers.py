"""Reducers: fewer values a vector, with dot products kept.

Subtracting the mean from documents and queries alike and taking the cosine of what is left, as a PCA in front of a
cosine index does, changes what is compared. These steps do not: `truncate`, `svd` and `rotate` centre nothing, and
`pca` centres the documents only and gives back the missing part of the score, one number a query, by `query_offset`.
"""

from __future__ import annotations

from typing import Any, Self

import numkong
import numpy as np
import numpy.typing as npt

from octavo._arrays import BLOCK_ROWS, Floats, row_lengths, to_float32
from octavo._rotation import ROUNDS, StructuredRotation
from octavo._validation import check_integer
from octavo.compression._base import Reducer, Shapes, Size, State
from octavo.compression._registry import register_step
from octavo.errors import CodecError, NotFittedError


class Projection:
    """Dot products with the columns of a matrix, the same for a row whatever its company.

    BLAS picks another kernel for the last rows of a matrix, so that a vector encoded alone differs in the last bit from
    the same vector encoded in a batch, and now and then in its code. numkong's kernel treats every row alike and sums
    in float64; it takes 1.4 times as long as float32 BLAS for many rows, and 4 microseconds for one of 384 values.
    """

    def __init__(self, columns: Floats) -> None:
        self.columns = columns
        self._packed = numkong.dots_pack(np.ascontiguousarray(columns.T))

    def __reduce__(self) -> tuple[type[Projection], tuple[Floats]]:
        return Projection, (self.columns,)  # the packed form belongs to this process

    def __call__(self, X: Floats) -> npt.NDArray[np.float64]:
        if not len(X):
            return np.empty((0, self.columns.shape[1]))
        return np.asarray(numkong.dots_packed(X, self._packed), np.float64)


class _Sized(Reducer):
    """A reducer whose argument is the number of dimensions that it keeps."""

    def __init__(self, size: int | str) -> None:
        self.size = Size(size)

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Build the step from its size."""
        if argument is None:
            raise CodecError(f"{cls.name()} needs a size, such as {cls.name()}:64 or {cls.name()}:50%")
        return cls(argument)

    @property
    def argument(self) -> str:
        """The size."""
        return str(self.size)

    @property
    def out_dim(self) -> int:
        """Dimension of the vectors that come out."""
        return self.size.resolve(self.in_dim)

    def bound(self, in_dim: int | None) -> int | None:
        """Return the size as far as it is known before `fit`."""
        if self.size.count is None:
            return in_dim
        return self.size.resolve(self.size.count if in_dim is None else in_dim)

    def out_dim_for(self, in_dim: int) -> int:
        """Return the size for vectors of `in_dim` values."""
        return self.size.resolve(in_dim)


@register_step
class Truncate(_Sized):
    """Keep the first values of each vector, as Matryoshka models are trained for.

    The prefix is stretched to the length of the whole vector, so that the score is the cosine of the prefixes times the
    lengths of the vectors. Among unit vectors that is the usual renormalisation; where lengths carry meaning, they are
    kept. With all-MiniLM-L6-v2 (which was not trained for it) ``truncate:128`` keeps 91.9 % of nDCG@10 on Cranfield and
    93.3 % on SciFact this way, against 87.6 % and 89.2 % without stretching. Behind `svd` or `pca` ask these for fewer
    dimensions instead.

    Parameters
    ----------
    size : int or str
        How many values: ``64``, or ``"25%"`` of those that come in.

    References
    ----------
    Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.

    Examples
    --------
    >>> X = np.array([[0.0, 2.0, 2.0, 1.0]], dtype=np.float32)
    >>> Truncate("50%").fit(X).encode(X)
    array([[0., 3.]], dtype=float32)
    """

    step_id = "truncate"
    learns = False

    def _fit(self, X: Floats, seed: int) -> None:
        self.size.resolve(X.shape[1])

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self.size.resolve(in_dim)

    def _encode(self, X: Floats) -> Floats:
        return _stretched(X[:, : self.out_dim], row_lengths(X))

    def _decode(self, X: npt.NDArray[Any]) -> Floats:
        out = np.zeros((len(X), self.in_dim), np.float32)  # zeros for the values that were cut off
        out[:, : self.out_dim] = X
        return out


class _Linear(Reducer):
    """A reducer that multiplies with a matrix of orthonormal columns."""

    _project: Projection | None = None
    _stretches: bool = False

    @property
    def _projection(self) -> Projection:
        if self._project is None or not self.is_fitted:
            raise NotFittedError(f"{self!r} has not been fitted; call fit with a sample of the vectors first")
        return self._project

    @property
    def components(self) -> Floats:
        """Orthonormal columns, of shape (in_dim, out_dim), that the vectors are projected on."""
        return self._projection.columns

    def _columns(self, in_dim: int) -> int:
        """Return how many columns the matrix has for vectors of `in_dim` values."""
        return in_dim

    def _shapes(self, in_dim: int) -> Shapes:
        return {"components": (np.float32, (in_dim, self._columns(in_dim))), "stretches": (np.uint8, ())}

    def _get_arrays(self) -> State:
        return {"components": self.components, "stretches": np.array(self._stretches, np.uint8)}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._project = Projection(np.ascontiguousarray(arrays["components"]))
        self._stretches = bool(arrays["stretches"])

    def _decode(self, X: npt.NDArray[Any]) -> Floats:
        return to_float32(X.astype(np.float64) @ self.components.T.astype(np.float64))


@register_step
class SVD(_Sized, _Linear):
    """Project on the directions that keep most of the vectors' squared length, without centring.

    Unless lengths count, the projections are stretched to the length of the whole vectors, as by `Truncate`: of unit vectors
    the score is the cosine of their projections. Without that, vectors that the directions fit badly would lose every
    comparison; it keeps up to 15 % more of nDCG@10 at a quarter of the dimensions.

    Of all projections to so few dimensions it loses least of the vectors in the least-squares sense. The directions
    span the space of the leading singular vectors, but are turned at random within it: dot products stay the same, and
    the length is spread evenly over the values, where the singular vectors themselves would put most of it into the
    first few and leave the quantizer behind with the errors of those. On Cranfield and SciFact (all-MiniLM-L6-v2)
    turning raises the agreement of the ten best with exact search from 0.913 and 0.891 to 0.949 and 0.909 for
    ``svd:50%|float8``, and from 0.32 and 0.36 to 0.53 and 0.48 for ``svd:50%|binary``.

    Parameters
    ----------
    size : int or str
        How many directions: ``192``, or ``"50%"`` of the dimensions that come in.

    References
    ----------
    Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1, 1936.

    Examples
    --------
    >>> X = np.array([[3.0, 4.0], [6.0, 8.0], [-3.0, -4.0]], dtype=np.float32)
    >>> Y = SVD(1).fit(X).encode(X)
    >>> (Y @ Y[:1].T).ravel().round(3)
    array([ 25.,  50., -25.], dtype=float32)
    """

    step_id = "svd"

    def _columns(self, in_dim: int) -> int:
        return self.size.resolve(in_dim)

    def _fit(self, X: Floats, seed: int) -> None:
        kept = self.size.resolve(X.shape[1])
        self._project = Projection(_principal_directions(X, np.zeros(X.shape[1]), kept, seed))
        self._stretches = not self._keeps_lengths

    def _encode(self, X: Floats) -> Floats:
        kept = self._projection(X)
        return _stretched(kept, row_lengths(X)) if self._stretches else to_float32(kept)


@register_step
class PCA(_Sized, _Linear):
    """Project on the principal components, centring the documents but not the queries.

    The part of each score that the mean would have contributed is the same for all documents of a query; `query_offset`
    returns it, so that scores stay approximations of the real dot products. Centring queries too would change what is
    compared. The directions are turned as those of `SVD` are. Unless lengths count, what is left of a document is
    stretched until the document that it stands for, the mean included, has its own length again.

    Parameters
    ----------
    size : int or str
        How many components: ``192``, or ``"50%"`` of the dimensions that come in.

    Examples
    --------
    >>> X = np.array([[3.0, 5.0], [6.0, 9.0], [-3.0, -3.0]], dtype=np.float32)
    >>> pca, query = PCA(1).fit(X), np.array([[1.0, 2.0]], dtype=np.float32)
    >>> (pca.encode(X) @ pca.encode_queries(query).T + pca.query_offset(query)).ravel().round(2)
    array([13., 24., -9.], dtype=float32)
    """

    step_id = "pca"
    asymmetric = True

    _mean: Projection | None = None
    _projected_mean: npt.NDArray[np.float64]

    @property
    def mean(self) -> Floats:
        """Mean of the fitted vectors, of shape (in_dim,)."""
        _ = self.in_dim  # raises before `fit`
        assert self._mean is not None  # set by whatever sets `in_dim`
        return self._mean.columns[:, 0]

    def _columns(self, in_dim: int) -> int:
        return self.size.resolve(in_dim)

    def _fit(self, X: Floats, seed: int) -> None:
        kept = self.size.resolve(X.shape[1])
        mean = X.mean(axis=0, dtype=np.float64)
        self._project = Projection(_principal_directions(X, mean, kept, seed))
        self._stretches = not self._keeps_lengths
        self._set_mean(self._project, to_float32(mean))

    def _set_mean(self, project: Projection, mean: Floats) -> None:
        self._mean = Projection(np.ascontiguousarray(mean[:, None]))
        self._projected_mean = project(mean[None, :])

    def _shapes(self, in_dim: int) -> Shapes:
        return {**super()._shapes(in_dim), "mean": (np.float32, (in_dim,))}

    def _get_arrays(self) -> State:
        return {**super()._get_arrays(), "mean": self.mean}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._project = Projection(np.ascontiguousarray(arrays["components"]))
        self._stretches = bool(arrays["stretches"])
        self._set_mean(self._project, arrays["mean"])

    def _encode(self, X: Floats) -> Floats:
        kept = self._projection(X) - self._projected_mean
        if not self._stretches:
            return to_float32(kept)
        # |mean + t kept| is to be |X|: a quadratic equation for t, whose solution next to 1 is meant. Without one, t is 1.
        square = np.square(kept).sum(axis=1)
        middle = np.multiply(kept, self._projected_mean).sum(axis=1)
        missing = np.square(self.mean, dtype=np.float64).sum() - np.square(X, dtype=np.float64).sum(axis=1)
        root = np.sqrt(np.maximum(middle * middle - square * missing, 0))
        near = np.where(middle < -square, -root, root) - middle
        stretch = np.divide(near, square, out=np.ones_like(square), where=square > 0)
        stretch[(middle * middle < square * missing) | (stretch <= 0)] = 1
        return to_float32(kept * stretch[:, None])

    def _encode_queries(self, X: Floats) -> Floats:
        return to_float32(self._projection(X))

    def _query_offset(self, X: Floats) -> Floats:
        assert self._mean is not None  # the caller has looked at `in_dim`
        return to_float32(self._mean(X)[:, 0])

    def _decode(self, X: npt.NDArray[Any]) -> Floats:
        return to_float32(super()._decode(X).astype(np.float64) + self.mean)


@register_step
class Rotate(Reducer):
    """Turn the vectors by a random rotation, which spreads each vector evenly over all dimensions.

    For models that put much of the length into a few dimensions, which then decide alone how coarsely `int8` and `int4`
    round. Dot products do not change. `svd` and `pca` turn their results already, and `rabitq` turns what it gets.

    The rotation consists of signs, permutations and Hadamard matrices, so that it takes a few bytes a dimension and hardly
    any time: of 3072 values 55 microseconds instead of 1.5 milliseconds.

    Parameters
    ----------
    seed : int or None, default=None
        Seed of the rotation; None takes the one given to `fit`.

    References
    ----------
    Ailon, N. and Chazelle, B. (2009). The fast Johnson-Lindenstrauss transform and approximate nearest neighbors. SIAM
    Journal on Computing 39(1).

    Examples
    --------
    >>> X = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=np.float32)
    >>> Y = Rotate(7).fit(X).encode(X)
    >>> bool(np.allclose(Y @ Y.T, X @ X.T, atol=1e-6))
    True
    """

    step_id = "rotate"
    learns = False

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else check_integer(seed, "seed", least=0, most=2**63 - 1)

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Build the step from its seed."""
        if argument is None:
            return cls()
        if not (argument.isascii() and argument.isdigit() and len(argument) < 20):
            raise CodecError(f"expected a seed (a number from 0), got {argument!r}")
        return cls(int(argument))

    def __repr__(self) -> str:
        return f"Rotate({'' if self.seed is None else self.seed})"

    @property
    def argument(self) -> str | None:
        """The seed, if one was given."""
        return None if self.seed is None else str(self.seed)

    @property
    def out_dim(self) -> int:
        """Dimension of the vectors that come out, the same as go in."""
        return self.in_dim

    def _fit(self, X: Floats, seed: int) -> None:
        self._rotation = StructuredRotation(X.shape[1], seed if self.seed is None else self.seed)

    def _shapes(self, in_dim: int) -> Shapes:
        return {"order": (np.int32, (ROUNDS, in_dim)), "signs": (np.uint8, (ROUNDS, 2, in_dim))}

    def _get_arrays(self) -> State:
        return {"order": self._rotation.order, "signs": self._rotation.signs}

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._rotation = StructuredRotation.restore(arrays["order"], arrays["signs"])

    def _encode(self, X: Floats) -> Floats:
        return self._rotation.apply(X)

    def _decode(self, X: npt.NDArray[Any]) -> Floats:
        return self._rotation.undo(np.ascontiguousarray(X, np.float32))


def _stretched(X: npt.NDArray[Any], lengths: npt.NDArray[np.float64]) -> Floats:
    """Return rows scaled to given lengths; rows of zeros stay."""
    found = row_lengths(X)
    stretch = np.divide(lengths, found, out=np.zeros_like(found), where=found > 0)
    return to_float32(X * stretch[:, None])


def _random_rotation(dim: int, seed: int) -> npt.NDArray[np.float64]:
    """Return a uniformly distributed orthogonal matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    # Without fixed signs the result would depend on the LAPACK at hand, and not be uniformly distributed.
    rotation: npt.NDArray[np.float64] = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return rotation


def _principal_directions(X: Floats, mean: npt.NDArray[np.float64], kept: int, seed: int) -> Floats:
    """Return a turned basis, of shape (dim, kept), of the leading eigenvectors of ``(X - mean).T @ (X - mean)``."""
    gram = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), BLOCK_ROWS):
        rows = X[start : start + BLOCK_ROWS].astype(np.float64) - mean
        gram += rows.T @ rows
    _, vectors = np.linalg.eigh(gram)
    vectors = vectors[:, ::-1][:, :kept]
    # An eigenvector's sign is arbitrary; the largest value is made positive so that a fit can be repeated elsewhere.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None, :], axis=0)
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    return np.ascontiguousarray(vectors @ _random_rotation(kept, seed), np.float32)
