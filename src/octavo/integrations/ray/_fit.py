"""Fit a codec once, on a sample of a dataset, so that every machine encodes alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray.data

import octavo
from octavo._validation import check_choice, check_integer
from octavo.collection.rebuild import blueprint_of
from octavo.compression import Codec
from octavo.errors import InvalidVectorsError, ParameterError
from octavo.integrations.ray._rows import Columns
from octavo.integrations.ray._workers import EncoderSpec, Pool, VectorWorker

#: Documents that a codec is fitted on: as many as `octavo.open` takes.
FIT_SAMPLE = 16_384

#: A random sample has about the size that was asked for; some more are drawn, and the rest is left.
_MARGIN = 1.1

METRICS = ("cosine", "dot")


def fit_codec(
    dataset: ray.data.Dataset,
    encoder: Any,
    codec: str,
    *,
    metric: str = "cosine",
    id_column: str = "id",
    text_column: str = "text",
    encoder_options: Mapping[str, Any] | None = None,
    sample: int = FIT_SAMPLE,
    seed: int = 0,
    concurrency: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    batch_size: int | None = None,
) -> Codec:
    """Fit a codec on a random sample of a dataset's documents.

    Parameters
    ----------
    dataset : ray.data.Dataset
        One row a document.
    encoder, encoder_options, metric, id_column, text_column, concurrency, num_cpus, num_gpus, batch_size
        See `encode`.
    codec : str
        Codec string, such as ``"binary > int8"``.
    sample : int, default=16384
        Documents to fit on; they are encoded for this alone.
    seed : int, default=0
        Seed of the sample, and of what a codec draws at random.

    Returns
    -------
    Codec
        Fitted.

    Raises
    ------
    InvalidVectorsError
        When no document of the sample could be encoded.
    """
    parsed = Codec.parse(codec)
    check_metric(metric)
    sample = check_integer(sample, "sample", least=1)
    seed = check_integer(seed, "seed", least=0)
    columns = Columns(id_column, text_column, ())
    columns.check_known(dataset)
    pool = Pool(concurrency, num_cpus, num_gpus, batch_size)
    texts = dataset.select_columns([id_column, text_column])
    wanted = sample if parsed.needs_fit else 1  # what learns nothing only needs to know the dimension
    n = texts.count()
    if n > wanted:
        texts = texts.random_sample(min(1.0, _MARGIN * wanted / n + 100 / n), seed=seed)
    arguments = (EncoderSpec(encoder, encoder_options or {}), columns, metric, pool.documents)
    # Fewer blocks: each ends in a batch of its own, and a sample has as many blocks as the dataset.
    encoded = texts.limit(wanted).map_batches(VectorWorker, fn_constructor_args=arguments, **pool.options())
    rows = [
        row
        for batch in encoded.iter_batches(batch_size=None, batch_format="pyarrow")
        for row in batch["vector"].to_pylist()
    ]
    if not rows:
        raise InvalidVectorsError(f"expected documents to fit {codec!r} on, but none of {n} could be encoded")
    vectors = np.stack([np.frombuffer(row, np.float32) for row in rows])
    return parsed.fit(vectors, seed=seed)


def stored_codec(path: str | os.PathLike[str]) -> Codec:
    """Return the fitted codec of a collection, to encode documents that are to be added to it.

    Parameters
    ----------
    path : str or path-like
        Directory of the collection.

    Returns
    -------
    Codec
        With what it has learned.

    Raises
    ------
    ParameterError
        When it has none yet.
    """
    with octavo.open(path, must_exist=True, read_only=True) as collection:
        state = blueprint_of(collection).codec_state
    if state is None:
        raise ParameterError(f"the codec of the collection at {path} is not fitted yet: call its fit() first")
    return Codec.from_bytes(state)


def check_metric(metric: str) -> None:
    """Raise `ParameterError` unless there is such a metric."""
    check_choice(metric, "metric", METRICS)


def column_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the columns as `Columns` takes them."""
    if isinstance(names, str):
        raise ParameterError(f"expected metadata_columns as a list of names, got the string {names!r}")
    return None if names is None else tuple(names)
