"""Compression of vectors into codes that usearch and numkong read directly.

`Codec` turns a codec string such as ``"rabitq:1 > int8"`` into one or more tiers; each is a `Pipeline` of steps: reducers
(`Truncate`, `SVD`, `PCA`, `Rotate`) and one quantizer (`RaBitQ`, `Int8`, `Int4`, `Int2`, `Binary`, `Float8`, `Float8E5M2`,
`Float16`, `BFloat16`, `Float32`). Packages add steps through the entry-point group ``octavo.steps``, derived from `Reducer` or
`Quantizer`; `octavo.testing.check_step` tells whether one keeps the contract.

For late interaction, `TokenPooling` (for page images `SpatialPooling`) thins out the token vectors of each document
(`TokenMatrices`), and each `CandidateEncoder` (`FixedDimensionalEncoding`, `CentredMean`, `RandomFeatures`) makes of them one
vector that finds candidates.
"""

from octavo.compression._base import Quantizer, Reducer, Step
from octavo.compression._codec import Codec
from octavo.compression._levels import Int2
from octavo.compression._pipeline import Pipeline
from octavo.compression._quantizers import (
    BFloat16,
    Binary,
    Float8,
    Float8E5M2,
    Float16,
    Float32,
    Int4,
    Int8,
)
from octavo.compression._rabitq import RaBitQ
from octavo.compression._reducers import PCA, SVD, Rotate, Truncate
from octavo.compression._registry import register_step
from octavo.compression.candidates import CandidateEncoder
from octavo.compression.document_vectors import CentredMean, RandomFeatures
from octavo.compression.fixed_dimensional import FixedDimensionalEncoding
from octavo.compression.spatial_pooling import SpatialPooling
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import TokenPooling

__all__ = [
    "PCA",
    "SVD",
    "BFloat16",
    "Binary",
    "CandidateEncoder",
    "CentredMean",
    "Codec",
    "FixedDimensionalEncoding",
    "Float8",
    "Float8E5M2",
    "Float16",
    "Float32",
    "Int2",
    "Int4",
    "Int8",
    "Pipeline",
    "Quantizer",
    "RaBitQ",
    "RandomFeatures",
    "Reducer",
    "Rotate",
    "SpatialPooling",
    "Step",
    "TokenMatrices",
    "TokenPooling",
    "Truncate",
    "register_step",
]
