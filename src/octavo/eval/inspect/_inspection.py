"""What is found out about a set of embeddings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: Mean cosine from which on a common direction takes enough of each vector to cost coarse codes their resolution: 0.13 to 0.38
#: for all-MiniLM-L6-v2 and wordllama, 0.53 to 0.84 for multilingual-e5-small and a static model of 64 dimensions.
ANISOTROPIC = 0.5
#: Lengths that vary by more than this share of their mean may carry meaning.
UNEQUAL_LENGTHS = 0.05
#: How much more of the neighbours the first quarter of the coordinates keeps than the last: 0.08 to 0.19 for wordllama and the
#: static model, at most 0.02 for all-MiniLM-L6-v2 and multilingual-e5-small.
ORDERED = 0.05
#: From here on variances fall steadily: 0.93 to 0.94 for the static model, which is reduced by a PCA, 0.60 to 0.72 for
#: wordllama, which is trained for 64, 128 and 256 dimensions.
STEADY = 0.85


@dataclass(frozen=True)
class Suggestion:
    """Something to try; not a result.

    Parameters
    ----------
    codec : str or None
        The codec to measure, where the suggestion is one.
    text, reason, check : str
        What, why, and the command or option that shows whether it holds on this data.

    Examples
    --------
    >>> import numpy as np
    >>> from octavo.eval.inspect import inspect_vectors
    >>> found = inspect_vectors(np.random.default_rng(0).normal(size=(500, 16)) + 2.0)
    >>> all(suggestion.reason and suggestion.check for suggestion in found.suggestions)
    True
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

    Examples
    --------
    >>> import numpy as np
    >>> from octavo.eval.inspect import inspect_vectors
    >>> vectors = np.random.default_rng(0).normal(size=(500, 16))
    >>> vectors[:, 3] *= 10
    >>> [outlier.dimension for outlier in inspect_vectors(vectors).outliers]
    [3]
    """

    dimension: int
    mean: float
    std: float
    times_median: float
    share_of_cosine: float


@dataclass(frozen=True)
class CodecExpectation:
    """What a codec would lose, measured on the sample.

    Parameters
    ----------
    codec : str
        The codec.
    vector_bytes, ram_bytes : int
        Of a vector: codes of all tiers, and of the first one, which every search reads.
    agreement : float
        Share of the ten best of exact float32 search that are found.

    Examples
    --------
    >>> import numpy as np
    >>> from octavo.eval.inspect import inspect_vectors
    >>> found = inspect_vectors(np.random.default_rng(0).normal(size=(500, 16)))
    >>> [expected.ram_bytes for expected in found.codecs if expected.codec == "int8"]
    [16]
    """

    codec: str
    vector_bytes: int
    ram_bytes: int
    agreement: float


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
    agreement_first_quarter, agreement_last_quarter : float or None
        The same when only the first, or the last, quarter of the coordinates does. They differ where coordinates are ordered
        by weight.
    variance_order : float
        Rank correlation of the coordinates' variances with their order: near 1 where they fall steadily, as after a PCA;
        lower where training for several lengths (Matryoshka) left steps; near 0 for other models.
    peak_to_rms : float
        Largest magnitude over the root mean square: how much of the range of one common scale is left unused.
    outliers : list of OutlierDimension
        Largest first.
    asked : {"queries", "documents"}
        What the codecs were searched with: queries where they were given, otherwise some of the vectors themselves.
    codecs : list of CodecExpectation
        What codecs would lose, fewest bytes in RAM first.
    suggestions : list of Suggestion
        What this suggests for codec and centring, why, and how to check.

    Examples
    --------
    >>> import numpy as np
    >>> from octavo.eval.inspect import inspect_vectors
    >>> found = inspect_vectors(np.random.default_rng(0).normal(size=(500, 16)))
    >>> found.n, found.dim, found.norm_min <= found.norm_mean <= found.norm_max
    (500, 16, True)
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
    agreement_first_quarter: float | None
    agreement_last_quarter: float | None
    variance_order: float
    peak_to_rms: float
    outliers: list[OutlierDimension]
    asked: str = "documents"
    codecs: list[CodecExpectation] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)

    @property
    def anisotropic(self) -> bool:
        """Whether a direction common to all vectors takes up much of each."""
        return self.mean_cosine >= ANISOTROPIC

    @property
    def varying_lengths(self) -> bool:
        """Whether lengths differ by more than rounding does, so that they may mean something."""
        return self.norm_std > UNEQUAL_LENGTHS * self.norm_mean

    @property
    def ordered(self) -> bool:
        """Whether the first coordinates tell vectors apart better than the last ones."""
        first, last = self.agreement_first_quarter, self.agreement_last_quarter
        return first is not None and last is not None and first - last >= ORDERED

    @property
    def matryoshka(self) -> bool:
        """Whether the model looks as if it was trained for short prefixes: ordered, but in steps."""
        return self.ordered and self.variance_order < STEADY

    @property
    def recognised(self) -> list[str]:
        """What stands out, in a word each."""
        named = {
            "anisotropic": self.anisotropic,
            "outlier dimensions": bool(self.outliers),
            "varying lengths": self.varying_lengths,
            "Matryoshka": self.matryoshka,
            "ordered by variance": self.ordered and not self.matryoshka,
        }
        return [name for name, there in named.items() if there]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self) | {"recognised": self.recognised}
