"""The embeddings of a file, of a collection, of a model on a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import numpy as np

import octavo
from octavo._validation import check_choice
from octavo.collection import CollectionLike
from octavo.errors import InputTypeError
from octavo.eval.datasets import Dataset, load_dataset
from octavo.eval.inspect._expected import QUERIES
from octavo.eval.inspect._inspection import Inspection
from octavo.eval.inspect._vectors import SAMPLE, inspect_vectors
from octavo.eval.running.encodings import EmbeddingCache
from octavo.eval.running.models import load_model
from octavo.eval.vectors import Role, read_vectors
from octavo.integrations.qdrant import QdrantInfo, open_collection
from octavo.integrations.qdrant.location import parse_location


def inspect_file(
    path: str | os.PathLike[str],
    *,
    queries: str | os.PathLike[str] | None = None,
    role: Role = "documents",
    sample: int = SAMPLE,
    seed: int = 0,
) -> Inspection:
    """Describe the embeddings in a file, see `octavo.eval.vectors`; of ``.npy`` only the sampled rows are read.

    Parameters
    ----------
    path : path
        ``.npy``, ``.npz#ARRAY`` or ``.parquet#COLUMN``.
    queries : path, optional
        A file of what they will be searched with.
    role : {"documents", "queries"}, default="documents"
        Which array is meant where a file has both and none is named.
    sample, seed
        See `inspect_vectors`.

    Returns
    -------
    Inspection
        What was found.

    Raises
    ------
    ParameterError
        When there is no such file, or it holds no plain numbers (pickled objects are never loaded).
    """
    check_choice(role, "role", get_args(Role))
    asked = read_vectors(queries, "queries").vectors if queries is not None else None
    vectors = read_vectors(path, role).vectors
    return inspect_vectors(vectors, queries=asked, source=str(path), sample=sample, seed=seed)


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

    Returns
    -------
    Inspection
        What was found.
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
    layers: int | None = None,
    role: Role = "documents",
    cache: str | os.PathLike[str] | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Inspection:
    """Describe the vectors that a model gives the texts of a data set; only the sampled ones are encoded, and some queries.

    Parameters
    ----------
    data : path, name or Dataset
        See `octavo.eval.datasets.load_dataset`.
    model : str, callable or object
        Whatever `octavo.open` takes as an encoder; ``module:attribute`` names one.
    layers : int, optional
        Transformer layers to keep.
    role : {"documents", "queries"}, default="documents"
        Which texts.
    cache : path, optional
        Directory of cached embeddings, as `octavo eval run` keeps in ``OUT/.cache``.
    sample, seed
        See `inspect_vectors`.

    Returns
    -------
    Inspection
        What was found.
    """
    check_choice(role, "role", get_args(Role))
    dataset, loaded = load_dataset(data), load_model(model, layers)
    texts = list(dataset.texts if role == "documents" else dataset.queries)
    n = len(texts)
    if n > sample:
        texts = [texts[i] for i in sorted(np.random.default_rng(seed).choice(n, sample, replace=False))]
    kept = EmbeddingCache(Path(cache) if cache is not None else None, loaded)
    vectors = kept.embed(texts, role, progress=False)
    asked = None
    if role == "documents":
        few = np.sort(np.random.default_rng(seed).permutation(len(dataset.queries))[:QUERIES])
        asked = kept.embed([dataset.queries[i] for i in few], "queries", progress=False)
    source = f"{dataset.name}, {role}, {loaded.name}"
    found = inspect_vectors(vectors, queries=asked, source=source, sample=sample, seed=seed)
    return Inspection(**{**found.__dict__, "n": n})
