"""Compression of vectors into codes that usearch and numkong read directly.

`Codec` turns a codec string such as ``"svd:50%|float8 > int8"`` into one or more tiers; each is a `Pipeline` of steps:
reducers (`Truncate`, `SVD`, `PCA`, `Rotate`) and one quantizer (`Float32`, `Float16`, `BFloat16`, `Float8`,
`Float8E5M2`, `Int8`, `Int4`, `Int2`, `Binary`). Packages add steps through the entry-point group ``octavo.steps``, derived from
`Reducer` or `Quantizer`.

For late interaction, `TokenPooling` thins out the token vectors of each document, `LloydMax` packs them to one, two or four
bits, and each `CandidateEncoder` (`FixedDimensionalEncoding`, `CentredMean`, `WardVectors`, `RandomFeatures`) makes of them
vectors that find candidates.
"""

from octavo.compression._base import Quantizer, Reducer, Step
from octavo.compression._binary import Binary
from octavo.compression._casts import BFloat16, Float8, Float8E5M2, Float16, Float32
from octavo.compression._codec import Codec, identity_codec
from octavo.compression._integers import Int4, Int8
from octavo.compression._lloyd_max import Int2, LloydMax
from octavo.compression._pipeline import Pipeline
from octavo.compression._reducers import PCA, SVD, Rotate, Truncate
from octavo.compression._registry import register_step, step_class, step_from_config, step_names
from octavo.compression.document_vectors import (
    CandidateEncoder,
    CentredMean,
    RandomFeatures,
    WardVectors,
    candidate_encoder_from_config,
)
from octavo.compression.fixed_dimensional import FixedDimensionalEncoding
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
    "LloydMax",
    "Pipeline",
    "Quantizer",
    "RandomFeatures",
    "Reducer",
    "Rotate",
    "Step",
    "TokenMatrices",
    "TokenPooling",
    "Truncate",
    "WardVectors",
    "candidate_encoder_from_config",
    "identity_codec",
    "register_step",
    "step_class",
    "step_from_config",
    "step_names",
]
