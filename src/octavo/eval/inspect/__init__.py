"""Describe a set of embeddings: lengths, spread, intrinsic dimension, spectrum, outlier dimensions, and what follows."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

import octavo
from octavo.collection import CollectionLike
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError
from octavo.eval.datasets import Dataset, load_dataset
from octavo.eval.inspect import _geometry as geometry
from octavo.eval.inspect._suggestions import Suggestion, suggest
from octavo.eval.run.encodings import EmbeddingCache
from octavo.eval.run.models import Role, load_model
from octavo.integrations.qdrant import QdrantInfo, open_collection
from octavo.integrations.qdrant.location import parse_location

#: Vectors looked at, and of those the ones whose neighbours are searched.
SAMPLE, PROBES = 5_000, 1_000
#: Neighbours in the local estimates, and in the agreement of shortened vectors.
LID_NEIGHBOURS, AGREEMENT_NEIGHBOURS = 20, 10
#: A dimension stands out when its root mean square is at least this many times the median dimension's.
OUTLIER_FACTOR = 3.0

_SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class OutlierDimension:
    """A coordinate that is much larger than the others.

    Parameters
    ----------
    dimension : int
        Counted from zero.
    mean, std : float
        Over the vectors, scaled to unit length.
    times_median : float
        Its root mean square over that of the median dimension.
    share_of_cosine : float
        Its part in the mean cosine between two vectors.
    """

    dimension: int
    mean: float
    std: float
    times_median: float
    share_of_cosine: float


@dataclass(frozen=True)
class Inspection:
    """What `inspect_vectors` found; `to_dict` gives JSON.

    Parameters
    ----------
    source : str
        Where the vectors came from.
    n, sampled, dim, duplicates : int
        Vectors there are, vectors looked at, values in each, and those looked at that repeat an earlier one.
    norm_mean, norm_std, norm_min, norm_max : float
        Of the lengths as they are stored. Everything below is about vectors scaled to unit length.
    mean_cosine : float
        Over all pairs: 0 for directions spread evenly, near 1 for a narrow cone (anisotropy).
    isoscore : float
        1 when all principal directions vary alike, 0 when one does.
    effective_rank, participation_ratio : float
        Directions used: from the entropy of the singular values, and from the centred variances.
    two_nn, lid_mean, lid_median : float or None
        Intrinsic dimension: global, and local at each point (harmonic mean and median). None with too few vectors.
    energy : dict of str to float
        Share of the squared length within the first 25, 50 and 75 % of the uncentred singular directions, which is what
        `svd` keeps.
    energy_centred : dict of str to float
        The same for the variance about the mean. A common direction inflates the first, not this one.
    prefix_energy : dict of str to float
        Share of the squared length in the first 25, 50 and 75 % of the coordinates, which is what `truncate` keeps.
    agreement_svd_half, agreement_truncate_half : float or None
        Share of each vector's ten nearest neighbours that stay when half the dimensions do.
    peak_to_rms : float
        Largest magnitude over the root mean square: how much of the range of one common scale is left unused.
    outliers : list of OutlierDimension
        Largest first.
    suggestions : list of Suggestion
        What this suggests for codec and centring, why, and how to check.
    """

    source: str
    n: int
    sampled: int
    dim: int
    duplicates: int
    norm_mean: float
    norm_std: float
    norm_min: float
    norm_max: float
    mean_cosine: float
    isoscore: float
    effective_rank: float
    participation_ratio: float
    two_nn: float | None
    lid_mean: float | None
    lid_median: float | None
    energy: dict[str, float]
    energy_centred: dict[str, float]
    prefix_energy: dict[str, float]
    agreement_svd_half: float | None
    agreement_truncate_half: float | None
    peak_to_rms: float
    outliers: list[OutlierDimension]
    suggestions: list[Suggestion] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def inspect_vectors(vectors: ArrayLike, *, source: str = "array", sample: int = SAMPLE, seed: int = 0) -> Inspection:
    """Describe a set of embeddings.

    Parameters
    ----------
    vectors : array-like of shape (n, dim)
        At least three vectors, not all the same.
    source : str, default="array"
        What to call them.
    sample : int, default=5000
        Vectors to look at, drawn at random when there are more.
    seed : int, default=0
        Seed of the drawing.

    Returns
    -------
    Inspection

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
        peak_to_rms=float(np.abs(units).max() / np.sqrt((units**2).mean())),
        outliers=_outliers(units),
    )
    return Inspection(**{**found.__dict__, "suggestions": suggest(found)})


def inspect_file(path: str | os.PathLike[str], *, sample: int = SAMPLE, seed: int = 0) -> Inspection:
    """Describe the embeddings in a ``.npy`` file; only the sampled rows are read.

    Raises
    ------
    ParameterError
        When there is no such file, or it holds no plain numbers (pickled objects are never loaded).
    """
    place = Path(path)
    try:
        vectors = np.load(place, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ParameterError(f"expected a .npy file, but there is nothing at {str(place)!r}") from None
    except (ValueError, OSError, EOFError) as error:
        raise ParameterError(
            f"expected a .npy file of numbers at {str(place)!r}, but it cannot be read: {error}"
        ) from error
    if not isinstance(vectors, np.ndarray):
        raise ParameterError(f"expected a .npy file with one array at {str(place)!r}, got an archive of several")
    return inspect_vectors(vectors, source=str(place), sample=sample, seed=seed)


def is_collection(source: str | os.PathLike[str]) -> bool:
    """Tell whether a source is for `inspect_collection`; otherwise it is for `inspect_file`."""
    return parse_location(source) is not None or Path(source).is_dir()


def inspect_collection(
    collection: CollectionLike | str | os.PathLike[str], *, sample: int = SAMPLE, seed: int = 0
) -> Inspection:
    """Describe the vectors of a collection, as its finest tier has kept them.

    What the codec dropped is gone: under ``svd:50%`` half of the directions are empty. Under the metric ``cosine`` all
    lengths are one.

    Parameters
    ----------
    collection : Collection, QdrantCollection or path
        A path, or a place in Qdrant (``https://HOST:6333#NAME``, ``qdrant:DIR``), is opened for reading and closed again.
    sample, seed
        See `inspect_vectors`.
    """
    if isinstance(collection, str | os.PathLike):
        if parse_location(collection) is not None:
            with open_collection(collection) as there:
                return inspect_collection(there, sample=sample, seed=seed)
        with octavo.open(collection, read_only=True, must_exist=True) as opened:
            return inspect_collection(opened, sample=sample, seed=seed)
    if not isinstance(collection, CollectionLike):
        raise InputTypeError(f"expected a collection or its path, got {type(collection).__name__}")
    ids = collection.ids()
    if len(ids) > sample:
        ids = [ids[i] for i in sorted(np.random.default_rng(seed).choice(len(ids), sample, replace=False))]
    info = collection.info()
    where = info.place if isinstance(info, QdrantInfo) else info.path or "a collection in memory"
    found = inspect_vectors(
        collection.get_vectors(ids),
        source=f"{where}, decoded from codec {info.codec!r}",
        sample=sample,
        seed=seed,
    )
    return Inspection(**{**found.__dict__, "n": collection.count()})


def inspect_dataset(
    data: str | os.PathLike[str] | Dataset,
    model: Any,
    *,
    role: Role = "documents",
    cache: str | os.PathLike[str] | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Inspection:
    """Describe the vectors that a model gives the texts of a data set; only the sampled ones are encoded.

    Parameters
    ----------
    data : path, name or Dataset
        See `octavo.eval.datasets.load_dataset`.
    model : str, callable or object
        Whatever `octavo.open` takes as an encoder.
    role : {"documents", "queries"}, default="documents"
        Which texts.
    cache : path, optional
        Directory of cached embeddings, as `octavo eval run` keeps in ``OUT/.cache``.
    sample, seed
        See `inspect_vectors`.
    """
    if role not in get_args(Role):
        raise ParameterError(f"expected role as one of {', '.join(get_args(Role))}, got {role!r}")
    dataset, loaded = load_dataset(data), load_model(model)
    texts = list(dataset.texts if role == "documents" else dataset.queries)
    n = len(texts)
    if n > sample:
        texts = [texts[i] for i in sorted(np.random.default_rng(seed).choice(n, sample, replace=False))]
    kept = EmbeddingCache(Path(cache) if cache is not None else None, loaded)
    vectors = kept.embed(texts, role, progress=False)
    found = inspect_vectors(vectors, source=f"{dataset.name}, {role}, {loaded.name}", sample=sample, seed=seed)
    return Inspection(**{**found.__dict__, "n": n})


def _chosen(vectors: ArrayLike, sample: int, seed: int) -> tuple[NDArray[np.float64], int]:
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 3:
        raise ParameterError(f"expected sample as an integer of at least 3, got {sample!r}")
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
    if len(distinct) <= AGREEMENT_NEIGHBOURS or half < 1:
        return None, None
    probes = np.arange(min(PROBES, len(distinct)))
    prefix = distinct[:, :half]
    lengths = np.linalg.norm(prefix, axis=1, keepdims=True)
    prefix = prefix / np.where(lengths > 0, lengths, 1)
    reduced = distinct @ directions[:, :half]
    return (
        geometry.neighbour_agreement(distinct, reduced, probes, AGREEMENT_NEIGHBOURS),
        geometry.neighbour_agreement(distinct, prefix, probes, AGREEMENT_NEIGHBOURS),
    )


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
