"""Token pooling: fewer token vectors a document, for late interaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, unit_rows
from octavo._validation import check_integer, check_number
from octavo.compression._ward import ward_labels
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CodecError, ParameterError

Labels = npt.NDArray[np.int64]

#: Tokens that are no farther apart are equal: so much is rounding.
_EQUAL = 1e-5

#: Up to so many tokens a document is clustered as a whole. Time grows a little faster than the square, memory with it: 2,048
#: tokens take some 150 MB.
_WHOLE = 2_048
#: Longer ones are cut into windows of at most so many tokens, as equal as can be ...
_WINDOW = 1_024
#: ... and each is put into at least so many groups, which are then put together.
_GROUPS = 64


class TokenPooling:
    """Replace the token vectors of each document by the means of groups of similar ones.

    Works on one document at a time, so adding a document costs nothing but that document. All token vectors are scaled
    to unit length first. The first `protected` tokens are kept as they are. The others are put into groups, and each
    group is replaced by its mean, scaled to unit length again: the mean of unlike vectors is short, and unscaled it
    would lose against any single vector. Queries are not pooled.

    Groups are clusters by Ward's criterion over the dissimilarities ``1 - cosine``, as
    ``scipy.cluster.hierarchy`` computes them from a condensed matrix, cut into at most so many clusters (where merges
    of equal height straddle the cut, all of them are made). A document of more than 2,048 tokens is cut into windows of up to
    1,024, whose tokens are grouped by themselves, each into its share of the groups; where that is less than 64, the means of
    64 groups a window are grouped in turn.

    Give one of `factor`, `n_vectors` and `distance`.

    Parameters
    ----------
    factor : int, optional
        Pool the n tokens that are not protected into ``max(n // factor, 1)`` groups; 2 unless another size is given.
    n_vectors : int, optional
        Keep at most so many vectors a document, the protected ones included.
    distance : float, optional
        Merge up to this height of Ward's tree (a dissimilarity ``1 - cosine`` for pairs, above it for larger groups).
    protected : int, default=1
        Leading tokens left alone; the first one often stands for the whole text.

    References
    ----------
    Clavié, B., Chaffin, A. and Adams, G. (2024). Reducing the footprint of multi-vector retrieval with minimal
    performance impact via token pooling. arXiv:2409.14683.

    Ward, J. H. (1963). Hierarchical grouping to optimize an objective function. JASA 58(301).

    Examples
    --------
    >>> tokens = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    >>> TokenPooling(factor=2).pool([tokens])[0]
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        factor: int | None = None,
        *,
        n_vectors: int | None = None,
        distance: float | None = None,
        protected: int = 1,
    ) -> None:
        if sum(size is not None for size in (factor, n_vectors, distance)) > 1:
            raise ParameterError(
                f"expected one of factor, n_vectors and distance, got factor={factor}, n_vectors={n_vectors}, "
                f"distance={distance}"
            )
        if factor is n_vectors is distance is None:
            factor = 2
        self.protected = check_integer(protected, "protected", least=0)
        self.factor = None if factor is None else check_integer(factor, "factor", least=1)
        self.n_vectors = None if n_vectors is None else check_integer(n_vectors, "n_vectors", least=self.protected + 1)
        self.distance = None if distance is None else check_number(distance, "distance", least=0)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON data with an ``"id"``."""
        sizes = {"factor": self.factor, "n_vectors": self.n_vectors, "distance": self.distance}
        size = {name: value for name, value in sizes.items() if value is not None}
        return {"id": "pool", **size, "protected": self.protected}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> Self:
        """Rebuild the pooling from `get_config`.

        Parameters
        ----------
        config : mapping
            What `get_config` returned.

        Raises
        ------
        CodecError
            If the configuration is another's or has keys that this class does not know.
        """
        options = dict(config)
        if options.pop("id", None) != "pool":
            raise CodecError(f"expected the configuration of token pooling, got {dict(config)!r}")
        if unknown := sorted(set(options) - {"factor", "n_vectors", "distance", "protected"}):
            raise CodecError(f"token pooling knows no configuration key {', '.join(map(repr, unknown))}")
        return cls(**options)

    def __repr__(self) -> str:
        options = {name: value for name, value in self.get_config().items() if name != "id"}
        return f"TokenPooling({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenPooling) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash(repr(self))

    @overload
    def pool(self, matrices: TokenMatrices, /) -> TokenMatrices: ...

    @overload
    def pool(self, matrices: Sequence[npt.ArrayLike], /) -> list[Floats]: ...

    def pool(self, matrices: TokenMatrices | Sequence[npt.ArrayLike], /) -> TokenMatrices | list[Floats]:
        """Pool the token vectors of documents.

        Parameters
        ----------
        matrices : TokenMatrices, or sequence of array_like of shape (n_tokens, dim)
            Token vectors of each document.

        Returns
        -------
        TokenMatrices, or list of ndarray of shape (n_pooled, dim)
            What was given, pooled: float32 of unit length (zero vectors stay zero), protected tokens first, then the
            groups in the order of their first tokens. A document without tokens stays empty.

        Raises
        ------
        InvalidVectorsError
            If the matrices do not have one dimension, or hold NaN or infinity.
        """
        if not isinstance(matrices, TokenMatrices) and not len(matrices):
            return []
        tokens = TokenMatrices.of(matrices)
        units = unit_rows(tokens.flat, keep_zeros=True)
        pooled = [self._pool(units[a:b]) for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]
        return TokenMatrices.of(pooled, dim=tokens.dim) if isinstance(matrices, TokenMatrices) else pooled

    def _pool(self, units: Floats) -> Floats:
        free = units[self.protected :]
        n = len(free)
        k = self._groups(n)
        if k == n and self.distance is None:
            return units.copy()
        return np.concatenate([units[: self.protected], mean_directions(free, self._labels(free, k))])

    def _labels(self, units: Floats, k: int) -> Labels:
        """Put tokens into at most `k` groups: for each the smallest token of its group."""
        if len(units) < 2:
            return np.arange(len(units))
        if len(units) > _WHOLE:
            return self._labels_of_windows(units, k)
        products = (units @ units.T).astype(np.float64)
        # BLAS may round the two halves differently, and a hair above one.
        distances = np.maximum(1.0 - (products + products.T) / 2, 0.0)
        distances[distances < _EQUAL] = 0.0
        if self.distance is not None:
            return ward_labels(distances, height=self.distance)
        return ward_labels(distances, n_clusters=k)

    def _labels_of_windows(self, units: Floats, k: int) -> Labels:
        """Put the tokens of a long document into groups, window by window, and these together where they are too many."""
        n = len(units)
        edges = np.linspace(0, n, -(-n // _WINDOW) + 1).astype(np.int64)
        shares = np.diff(k * edges // n)  # that add up to k
        if self.distance is None:
            shares = np.maximum(shares, _GROUPS)
        labels = np.concatenate(
            [a + self._labels(units[a:b], share) for a, b, share in zip(edges[:-1], edges[1:], shares, strict=True)]
        )
        firsts = np.unique(labels)
        if self.distance is None and len(firsts) > k:
            again = self._labels(mean_directions(units, labels), k)
            labels = firsts[again][np.searchsorted(firsts, labels)]
        return labels

    def _groups(self, n: int) -> int:
        """How many groups n tokens are put into at most."""
        if self.n_vectors is not None:
            return min(n, self.n_vectors - self.protected)
        return min(n, max(n // self.factor, 1)) if self.factor is not None else n


def mean_directions(units: Floats, labels: Labels) -> Floats:
    """Return the mean direction of each group, in ascending order of labels."""
    if not len(labels):
        return units
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    return unit_rows(np.add.reduceat(units[order], starts, axis=0), keep_zeros=True)
