"""Compression of vectors into codes that usearch and numkong read directly.

`Codec` turns a codec string such as ``"svd:50%|float8 > int8"`` into one or more tiers; each is a `Pipeline` of steps:
reducers (`Truncate`, `SVD`, `PCA`, `Rotate`) and one quantizer (`Float32`, `Float16`, `BFloat16`, `Float8`,
`Float8E5M2`, `Int8`, `Int4`, `Binary`). Packages add steps through the entry-point group ``quire.steps``, derived from
`Reducer` or `Quantizer`.
"""

from quire.compression._base import Quantizer, Reducer, Step
from quire.compression._binary import Binary
from quire.compression._casts import BFloat16, Float8, Float8E5M2, Float16, Float32
from quire.compression._codec import Codec, identity_codec
from quire.compression._integers import Int4, Int8
from quire.compression._pipeline import Pipeline
from quire.compression._reducers import PCA, SVD, Rotate, Truncate
from quire.compression._registry import register_step, step_class, step_from_config, step_names

__all__ = [
    "PCA",
    "SVD",
    "BFloat16",
    "Binary",
    "Codec",
    "Float8",
    "Float8E5M2",
    "Float16",
    "Float32",
    "Int4",
    "Int8",
    "Pipeline",
    "Quantizer",
    "Reducer",
    "Rotate",
    "Step",
    "Truncate",
    "identity_codec",
    "register_step",
    "step_class",
    "step_from_config",
    "step_names",
]
