"""Describe a set of embeddings: lengths, spread, intrinsic dimension, spectrum, outlier dimensions, and what follows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo._arrays import as_matrix, check_directions
from octavo._validation import check_integer
from octavo.errors import InvalidVectorsError
from octavo.eval.inspect import _geometry as geometry
from octavo.eval.inspect._expected import expected_agreements
from octavo.eval.inspect._inspection import Inspection, OutlierDimension
from octavo.eval.inspect._suggestions import suggest

#: Vectors looked at, and of those the ones whose neighbours are searched.
SAMPLE, PROBES = 5_000, 1_000
#: Neighbours in the local estimates, and in the agreement of shortened vectors.
LID_NEIGHBOURS, AGREEMENT_NEIGHBOURS = 20, 10
#: A dimension stands out when its root mean square is at least this many times the median dimension's.
OUTLIER_FACTOR = 3.0

_SHARES = (0.25, 0.5, 0.75)


def inspect_vectors(
    vectors: ArrayLike,
    *,
    queries: ArrayLike | None = None,
    source: str = "array",
    sample: int = SAMPLE,
    seed: int = 0,
) -> Inspection:
    """Describe a set of embeddings.

    Parameters
    ----------
    vectors : array-like of shape (n, dim)
        At least three vectors, not all the same.
    queries : array-like of shape (m, dim), optional
        What the vectors will be searched with: what codecs lose is then measured with these.
    source : str, default="array"
        What to call them.
    sample : int, default=5000
        Vectors to look at, drawn at random when there are more.
    seed : int, default=0
        Seed of the drawing.

    Returns
    -------
    Inspection
        What was found.

    Raises
    ------
    InvalidVectorsError
        NaN, infinity, zero vectors, or too few to say anything about.

    References
    ----------
    Timkey and van Schijndel, "All Bark and No Bite: Rogue Dimensions in Transformer Language Models Obscure
    Representational Quality", EMNLP 2021, for a dimension's share of the mean cosine. The other measures are referenced
    where they are computed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = inspect_vectors(rng.normal(size=(500, 16)))
    >>> abs(found.mean_cosine) < 0.05, found.isoscore > 0.8, len(found.outliers)
    (True, True, 0)
    """
    chosen, n = _chosen(vectors, sample, seed)
    norms = np.linalg.norm(chosen, axis=1)
    if not norms.all():
        raise InvalidVectorsError(f"expected vectors that are not zero, got {int((norms == 0).sum())} zero vectors")
    units = chosen / norms[:, None]
    distinct = np.unique(units, axis=0)
    if len(distinct) < 3:
        raise InvalidVectorsError(f"expected at least three different vectors, got {len(distinct)}")
    rng = np.random.default_rng(seed)
    distinct = distinct[rng.permutation(len(distinct))]  # np.unique sorts, and probes are to be drawn at random
    singular, directions = _directions(units)
    variances = np.maximum(np.linalg.eigvalsh(np.cov(units, rowvar=False).reshape(units.shape[1], -1))[::-1], 0)
    dimensions, halves = _dimensions(distinct), _halves(distinct, directions)
    quarter = units.shape[1] // 4
    asked = _queries(queries, chosen.shape[1]) if queries is not None else None
    found = Inspection(
        source=source,
        n=n,
        sampled=len(chosen),
        dim=chosen.shape[1],
        duplicates=len(chosen) - len(distinct),
        norm_mean=float(norms.mean()),
        norm_std=float(norms.std()),
        norm_min=float(norms.min()),
        norm_max=float(norms.max()),
        mean_cosine=geometry.mean_cosine(units),
        isoscore=geometry.isoscore(variances),
        effective_rank=geometry.effective_rank(singular),
        participation_ratio=geometry.participation_ratio(variances),
        two_nn=dimensions[0],
        lid_mean=dimensions[1],
        lid_median=dimensions[2],
        energy=_cumulated(singular**2),
        energy_centred=_cumulated(variances),
        prefix_energy=_cumulated((units**2).sum(axis=0)),
        agreement_svd_half=halves[0],
        agreement_truncate_half=halves[1],
        agreement_first_quarter=_agreement(distinct, distinct[:, :quarter]),
        agreement_last_quarter=_agreement(distinct, distinct[:, units.shape[1] - quarter :]),
        variance_order=_variance_order(units),
        peak_to_rms=float(np.abs(units).max() / np.sqrt((units**2).mean())),
        outliers=_outliers(units),
        asked="documents" if asked is None else "queries",
        codecs=expected_agreements(np.asarray(distinct * np.median(norms), np.float32), asked, seed=seed),
    )
    return Inspection(**{**found.__dict__, "suggestions": suggest(found)})


def _chosen(vectors: ArrayLike, sample: int, seed: int) -> tuple[NDArray[np.float64], int]:
    sample = check_integer(sample, "sample", least=3)
    array = np.asanyarray(vectors)
    if array.ndim != 2 or array.shape[1] < 1:
        raise InvalidVectorsError(f"expected vectors of shape (n, dim), got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InvalidVectorsError(f"expected an array of real numbers, got {array.dtype}")
    n = len(array)
    if n < 3:
        raise InvalidVectorsError(f"expected at least three vectors, got {n}")
    rows = np.sort(np.random.default_rng(seed).choice(n, sample, replace=False)) if n > sample else slice(None)
    chosen = np.array(array[rows], np.float64)
    if not np.isfinite(chosen).all():
        raise InvalidVectorsError("expected finite numbers, got NaN or infinity")
    return chosen, n


def _directions(units: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the uncentred singular values, descending, and the directions as columns."""
    squares, directions = np.linalg.eigh(units.T @ units)
    return np.sqrt(np.maximum(squares[::-1], 0)), directions[:, ::-1]


def _cumulated(parts: NDArray[Any]) -> dict[str, float]:
    shares = np.cumsum(parts) / parts.sum()
    return {f"{share:.0%}": float(shares[max(1, round(share * len(parts))) - 1]) for share in _SHARES}


def _dimensions(distinct: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return the global estimate, and mean and median of the local ones."""
    if len(distinct) <= LID_NEIGHBOURS:
        return None, None, None
    probes = np.arange(min(PROBES, len(distinct)))
    distances = geometry.neighbour_distances(distinct, probes, LID_NEIGHBOURS)
    distances = distances[distances[:, 0] > 1e-7]  # neighbours that are the same but for rounding
    local = geometry.local_dimensions(distances) if len(distances) else np.empty(0)
    local = local[np.isfinite(local)]
    if not len(local):
        return None, None, None
    # The mean of the inverses is the unbiased way to pool these estimates (MacKay and Ghahramani, 2005).
    pooled, median = float(1 / np.mean(1 / local)), float(np.median(local))
    dimension = geometry.two_nn(distances)
    return (dimension if np.isfinite(dimension) else None), pooled, median


def _halves(distinct: NDArray[np.float64], directions: NDArray[Any]) -> tuple[float | None, float | None]:
    """Return the agreement of the half kept by `svd` and of the first half of the coordinates."""
    half = directions.shape[1] // 2
    return _agreement(distinct, distinct @ directions[:, :half]), _agreement(distinct, distinct[:, :half])


def _agreement(distinct: NDArray[np.float64], reduced: NDArray[np.float64]) -> float | None:
    """Return the share of each vector's neighbours that stay by the cosine of fewer values; None for too few of either."""
    if len(distinct) <= AGREEMENT_NEIGHBOURS or reduced.shape[1] < 1:
        return None
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    probes = np.arange(min(PROBES, len(distinct)))
    unit = reduced / np.where(lengths > 0, lengths, 1)
    return geometry.neighbour_agreement(distinct, unit, probes, AGREEMENT_NEIGHBOURS)


def _variance_order(units: NDArray[np.float64]) -> float:
    """Return Spearman's correlation of falling variances with the order of the coordinates."""
    if units.shape[1] < 2:
        return 0.0
    ranks = np.argsort(np.argsort(-units.var(axis=0), kind="stable"), kind="stable")
    return float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])


def _queries(queries: ArrayLike, dim: int) -> NDArray[np.float32]:
    found = as_matrix(queries, None, "queries")
    if found.shape[1] != dim:
        raise InvalidVectorsError(f"expected queries of the vectors' dimension {dim}, got {found.shape[1]}")
    check_directions(found, "queries")
    return found


def _outliers(units: NDArray[np.float64]) -> list[OutlierDimension]:
    size = np.sqrt((units**2).mean(axis=0))
    median = float(np.median(size))
    if not median:
        return []
    mean = units.mean(axis=0)
    whole = float(mean @ mean)
    found = np.flatnonzero(size >= OUTLIER_FACTOR * median)
    return [
        OutlierDimension(
            dimension=int(d),
            mean=float(mean[d]),
            std=float(units[:, d].std()),
            times_median=float(size[d] / median),
            share_of_cosine=float(mean[d] ** 2 / whole) if whole else 0.0,
        )
        for d in found[np.argsort(-size[found], kind="stable")]
    ]
