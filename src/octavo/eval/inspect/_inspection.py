"""What is found out about a set of embeddings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Suggestion:
    """Something to try; not a result.

    Parameters
    ----------
    codec : str or None
        The codec to measure, where the suggestion is one.
    text, reason, check : str
        What, why, and the command or option that shows whether it holds on this data.
    """

    codec: str | None
    text: str
    reason: str
    check: str


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
