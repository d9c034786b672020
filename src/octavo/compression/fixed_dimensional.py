"""Fixed-dimensional encodings (MUVERA): one vector a document whose dot products estimate MaxSim."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import MAX_DIM, Floats, unit_rows
from octavo._validation import check_flag, check_integer, check_number
from octavo.compression._base import Shapes, State
from octavo.compression._reducers import Projection
from octavo.compression.candidates import CandidateEncoder
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CodecError, ParameterError

Doubles = npt.NDArray[np.float64]

#: Values of projected tokens, and of encodings before the final projection, worked on at a time.
_CHUNK_VALUES = 1 << 22

_PRESETS: dict[str, dict[str, Any]] = {
    "1280": {"repetitions": 20, "simhash_bits": 3, "projected_dim": 8},
    "2560": {"repetitions": 20, "simhash_bits": 4, "projected_dim": 8},
    "5120": {"repetitions": 20, "simhash_bits": 5, "projected_dim": 8},
    "10240": {"repetitions": 20, "simhash_bits": 5, "projected_dim": 16},
    "10240-sketch": {"repetitions": 40, "simhash_bits": 6, "projected_dim": None, "final_dim": 10240},
}


class FixedDimensionalEncoding(CandidateEncoder):
    """Encode the token vectors of a document as one long vector, as MUVERA does.

    Space is cut by `simhash_bits` random hyperplanes into ``2 ** simhash_bits`` buckets. A query's tokens are summed up
    in each bucket, a document's are averaged, so that the dot product within a bucket pairs each query token with the
    average of the document tokens near it. That is repeated with other hyperplanes, and the tokens of each repetition
    are projected to few dimensions by random signs. The dot product of a query's and a document's encoding, of length
    ``repetitions * 2 ** simhash_bits * projected_dim``, estimates the MaxSim of the (centred) tokens.

    Parameters
    ----------
    repetitions : int, default=20
        How often space is cut anew.
    simhash_bits : int, default=5
        Hyperplanes in each repetition, at most 16.
    projected_dim : int or None, default=16
        Dimensions that tokens are projected to in each repetition; None leaves them as they are.
    final_dim : int, optional
        Project the whole encoding to so many dimensions by a count sketch.
    fill_empty : bool, default=True
        Put into each bucket that no token of a document fell into the token whose own bucket differs in the fewest bits
        (the first of several), so that a query's tokens there are not compared with nothing.
    centre : bool, default=True
        Subtract the mean of the document tokens seen in `fit` from all tokens. Tokens of today's models point into one
        half of space, where most hyperplanes do not separate them.
    carve : float, optional
        Replace query tokens (after centring) that have a cosine of at least this much with the first of them by their
        sum, greedily in the order of the tokens; makes long queries cheaper. The paper uses 0.7.
    normalise : bool, default=False
        Scale the encodings of documents to unit length. They no longer estimate MaxSim then, but on documents of very
        different lengths they find more of what it ranks high.

    References
    ----------
    Dhulipala, L., Hadian, M., Jayaram, R., Lee, J. and Mirrokni, V. (2024). MUVERA: multi-vector retrieval via fixed
    dimensional encodings. NeurIPS. arXiv:2405.19504.

    Charikar, M., Chen, K. and Farach-Colton, M. (2002). Finding frequent items in data streams. ICALP. (The count sketch.)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> documents = [rng.standard_normal((n, 16)) for n in (3, 9, 5)]
    >>> encoding = FixedDimensionalEncoding(repetitions=10, simhash_bits=3, projected_dim=8).fit(documents)
    >>> encoding.encode_documents(documents).shape, encoding.out_dim
    ((3, 640), 640)
    """

    encoder_id = "fde"

    def __init__(
        self,
        repetitions: int = 20,
        simhash_bits: int = 5,
        projected_dim: int | None = 16,
        *,
        final_dim: int | None = None,
        fill_empty: bool = True,
        centre: bool = True,
        carve: float | None = None,
        normalise: bool = False,
    ) -> None:
        self.repetitions = check_integer(repetitions, "repetitions", least=1, most=1024)
        self.simhash_bits = check_integer(simhash_bits, "simhash_bits", least=0, most=16)
        self.projected_dim = (
            None if projected_dim is None else check_integer(projected_dim, "projected_dim", least=1, most=MAX_DIM)
        )
        self.final_dim = None if final_dim is None else check_integer(final_dim, "final_dim", least=1, most=MAX_DIM)
        self.fill_empty = check_flag(fill_empty, "fill_empty")
        self.centre = check_flag(centre, "centre")
        self.normalise = check_flag(normalise, "normalise")
        self.carve = None if carve is None else check_number(carve, "carve", least=-1, most=1)

    @classmethod
    def preset(cls, name: str, **options: Any) -> Self:
        """Build the encoding with one of the parameter sets that the paper evaluates.

        Parameters
        ----------
        name : {"1280", "2560", "5120", "10240", "10240-sketch"}
            Length of the encoding. ``"10240-sketch"`` is the costly one that the paper compares with other engines: 40
            repetitions of 64 buckets without inner projection, sketched to that length.
        **options
            Other parameters of the class.

        Raises
        ------
        ParameterError
            If there is no such preset.
        """
        if name not in _PRESETS:
            raise ParameterError(f"expected a preset out of {', '.join(_PRESETS)}, got {name!r}")
        return cls(**{**_PRESETS[name], **options})

    def _options(self) -> dict[str, Any]:
        sizes = ("repetitions", "simhash_bits", "projected_dim", "final_dim")
        return {name: getattr(self, name) for name in (*sizes, "fill_empty", "centre", "carve", "normalise")}

    @property
    def out_dim(self) -> int:
        """Dimension of the encodings."""
        return self.final_dim or self._full_dim(self.in_dim)

    def _full_dim(self, in_dim: int) -> int:
        return self.repetitions * (1 << self.simhash_bits) * (self.projected_dim or in_dim)

    # -- learning ----------------------------------------------------------------------------------------------------

    def _fit(self, tokens: TokenMatrices, rng: np.random.Generator) -> None:
        dim = tokens.dim
        mean = tokens.flat.mean(axis=0, dtype=np.float64) if self.centre else np.zeros(dim)
        arrays: State = {"mean": mean.astype(np.float32)}
        arrays["planes"] = rng.standard_normal((dim, self.repetitions * self.simhash_bits), np.float32)
        if self.projected_dim is not None:
            arrays["signs"] = rng.integers(0, 2, (dim, self.repetitions * self.projected_dim), dtype=np.uint8)
        if self.final_dim is not None:
            full = self._full_dim(dim)
            arrays["sketch_columns"] = rng.integers(0, self.final_dim, full, dtype=np.int32)
            arrays["sketch_signs"] = rng.integers(0, 2, full, dtype=np.uint8)
        self._set_arrays(arrays, dim)

    def _shapes(self, in_dim: int) -> Shapes:
        shapes: Shapes = {
            "mean": (np.float32, (in_dim,)),
            "planes": (np.float32, (in_dim, self.repetitions * self.simhash_bits)),
        }
        if self.projected_dim is not None:
            shapes["signs"] = (np.uint8, (in_dim, self.repetitions * self.projected_dim))
        if self.final_dim is not None:
            shapes["sketch_columns"] = (np.int32, (self._full_dim(in_dim),))
            shapes["sketch_signs"] = (np.uint8, (self._full_dim(in_dim),))
        return shapes

    def _get_arrays(self) -> State:
        return dict(self._arrays)

    def _set_arrays(self, arrays: State, in_dim: int) -> None:
        self._arrays = arrays
        self._mean: Floats = arrays["mean"]
        # One product gives both the sides of all hyperplanes and the projected tokens.
        columns = [arrays["planes"]]
        if self.projected_dim is not None:
            columns.append(_plus_minus(arrays["signs"]))
        merged = np.ascontiguousarray(np.concatenate(columns, axis=1))
        self._project = Projection(merged) if merged.shape[1] else None
        if self.final_dim is not None:
            # Columns that end in the same place, side by side, can be added up in one pass.
            places = arrays["sketch_columns"]
            if places.min() < 0 or places.max() >= self.final_dim:
                raise CodecError(
                    f"expected sketch columns from 0 to {self.final_dim - 1}; is the stored state damaged?"
                )
            self._order = np.argsort(places, kind="stable")
            self._places, self._edges = np.unique(places[self._order], return_index=True)
            self._flips = _plus_minus(arrays["sketch_signs"][self._order])

    # -- use ---------------------------------------------------------------------------------------------------------

    def _chunk_size(self) -> tuple[int, int]:
        width = self.projected_dim or self.in_dim
        return _CHUNK_VALUES // (self.repetitions * width), max(1, _CHUNK_VALUES // self._full_dim(self.in_dim))

    def _encode_documents(self, tokens: TokenMatrices) -> Floats:
        centred = tokens.flat - self._mean
        buckets, projected = self._cut(centred)
        sums, counts, first = self._gather(tokens, buckets, projected)
        taken = counts > 0
        sums[taken] /= counts[taken, None]
        if self.fill_empty and len(centred):
            self._fill(sums, first, projected)
        encoded = self._finish(sums)
        return unit_rows(encoded, keep_zeros=True) if self.normalise else encoded

    def _encode_queries(self, tokens: TokenMatrices) -> Floats:
        centred = TokenMatrices(tokens.flat - self._mean, tokens.offsets)
        if self.carve is not None:
            centred = TokenMatrices.of([_carve(query, self.carve) for query in centred], dim=tokens.dim)
        sums, _, _ = self._gather(centred, *self._cut(centred.flat))
        return self._finish(sums)

    def _cut(self, X: Floats) -> tuple[npt.NDArray[np.int64], Doubles]:
        """Return bucket (n, repetitions) and projected token (n, repetitions, width) of each token."""
        reps, bits = self.repetitions, self.simhash_bits
        product = self._project(X) if self._project is not None else np.empty((len(X), 0))
        above = product[:, : reps * bits].reshape(len(X), reps, bits) > 0
        buckets = above @ (1 << np.arange(bits, dtype=np.int64))
        if self.projected_dim is None:
            return buckets, np.broadcast_to(X[:, None, :].astype(np.float64), (len(X), reps, X.shape[1]))
        return buckets, product[:, reps * bits :].reshape(len(X), reps, self.projected_dim)

    def _gather(
        self, tokens: TokenMatrices, buckets: npt.NDArray[np.int64], projected: Doubles
    ) -> tuple[Doubles, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Sum up the tokens in each bucket.

        Returns
        -------
        sums : ndarray of shape (n * repetitions * buckets, width)
        counts : ndarray of shape (n * repetitions * buckets,)
            How many tokens were added up.
        first : ndarray of shape (n * repetitions * buckets,)
            The first of them; the number of tokens where there is none.
        """
        reps, n_buckets, width = self.repetitions, 1 << self.simhash_bits, projected.shape[2]
        size = len(tokens) * reps * n_buckets
        sums, counts = np.zeros((size, width)), np.zeros(size, np.int64)
        first = np.full(size, len(tokens.flat))
        if len(tokens.flat):
            keys = ((tokens.owners[:, None] * reps + np.arange(reps)) * n_buckets + buckets).ravel()
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            edges = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
            where = keys[edges]
            rows = projected[order // reps, order % reps]
            sums[where] = np.add.reduceat(rows, edges, axis=0)
            counts[where] = np.diff(edges, append=len(keys))
            first[where] = order[edges] // reps
        return sums, counts, first

    def _fill(self, sums: Doubles, first: npt.NDArray[np.int64], projected: Doubles) -> None:
        """Put the nearest token, in differing bits, into each empty bucket of documents that have any token."""
        reps, n_buckets, n = self.repetitions, 1 << self.simhash_bits, len(projected)
        empty = first == n
        # A cost of n a bit plus the number of the token: the smallest is the nearest token, and the first of several.
        cost = np.where(empty, np.int64(1) << 60, first).reshape(-1, n_buckets)
        for bit in range(self.simhash_bits):
            # Passing over the dimensions of a hypercube one by one finds the shortest ways between all its corners.
            cost = np.minimum(cost, cost[:, np.arange(n_buckets) ^ (1 << bit)] + n)
        reached = cost.ravel()
        holes = np.flatnonzero(empty & (reached < np.int64(1) << 60))
        sums[holes] = projected[reached[holes] % n, holes // n_buckets % reps]

    def _finish(self, sums: Doubles) -> Floats:
        """Scale so that the dot product is the mean over the repetitions, and apply the final projection."""
        width = sums.shape[1]
        projected = 1 if self.projected_dim is None else width
        encoded = sums.reshape(-1, self._full_dim(self.in_dim)) / math.sqrt(self.repetitions * projected)
        if self.final_dim is not None:
            sketched = np.zeros((len(encoded), self.final_dim))
            sketched[:, self._places] = np.add.reduceat(encoded[:, self._order] * self._flips, self._edges, axis=1)
            encoded = sketched
        return encoded.astype(np.float32)


def _plus_minus(bits: npt.NDArray[np.uint8]) -> Floats:
    """Return 1 for bits that are set and -1 for the others."""
    return np.where(bits > 0, np.float32(1), np.float32(-1))


def _carve(query: Floats, cosine: float) -> Floats:
    """Replace each ball of similar tokens by its sum."""
    units = unit_rows(query, keep_zeros=True)
    left = np.arange(len(query))
    sums = []
    while len(left):
        inside = units[left] @ units[left[0]] >= cosine
        inside[0] = True
        sums.append(query[left[inside]].sum(axis=0))
        left = left[~inside]
    return np.array(sums, np.float32).reshape(len(sums), query.shape[1])
