"""Describe a set of embeddings: lengths, spread, intrinsic dimension, spectrum, outlier dimensions, and what follows."""

from octavo.eval.inspect._inspection import CodecExpectation, Inspection, OutlierDimension, Suggestion
from octavo.eval.inspect._sources import inspect_collection, inspect_dataset, inspect_file, is_collection
from octavo.eval.inspect._vectors import inspect_vectors

__all__ = [
    "CodecExpectation",
    "Inspection",
    "OutlierDimension",
    "Suggestion",
    "inspect_collection",
    "inspect_dataset",
    "inspect_file",
    "inspect_vectors",
    "is_collection",
]
