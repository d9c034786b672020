"""Encode a dataset: texts in, compressed vectors out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import ray.data

from octavo.compression import Codec
from octavo.errors import InputTypeError, NotFittedError, ParameterError
from octavo.integrations.ray._checkpoint import Checkpoint, content_key
from octavo.integrations.ray._fit import check_metric, column_names, fit_codec
from octavo.integrations.ray._rows import Columns, codec_tag
from octavo.integrations.ray._workers import CodeWorker, EncoderSpec, Pool


def encode(
    dataset: ray.data.Dataset,
    encoder: Any,
    codec: Codec | str,
    *,
    metric: str = "cosine",
    id_column: str = "id",
    text_column: str = "text",
    metadata_columns: Sequence[str] | None = None,
    encoder_options: Mapping[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    batch_size: int | None = None,
) -> ray.data.Dataset:
    """Encode every document of a dataset, on a pool of actors that hold the model.

    Nothing happens until the result is read, by `upsert` for instance.

    Parameters
    ----------
    dataset : ray.data.Dataset
        One row a document. Ids are strings (or integers, which become strings) and unique.
    encoder : str, type or object
        The name of a sentence-transformers model; a class whose instances `octavo.open` takes as encoders, made once in each
        actor; or such an object, which Ray copies to the actors.
    codec : Codec or str
        A fitted codec, from `fit_codec` or `stored_codec`. A codec string is fitted on a sample first, and kept in
        `checkpoint`, where `upsert` and a resumed job find it.
    metric : {"cosine", "dot"}, default="cosine"
        As in `octavo.open`: ``cosine`` scales vectors to unit length.
    id_column, text_column : str
        Where ids and texts stand.
    metadata_columns : sequence of str, optional
        What becomes metadata; all other columns by default. Nulls are left out.
    encoder_options : mapping, optional
        Arguments for `encoder` if it is a class.
    checkpoint : str or path-like, optional
        A folder, on more than one machine a shared one, in which encoded documents are kept. A job that was killed and is
        run again takes them from there; the blocks of the dataset must be the same for that, as they are when the same
        files are read in the same way.
    concurrency : int, optional
        Actors; as many as the cluster has room for by default.
    num_cpus, num_gpus : float
        Of each actor: 1 and 0 by default (0 and 0 on a single CPU, which reading needs).
    batch_size : int, optional
        Documents encoded at a time: by default 256, or 2,048 where actors have a GPU. With GPUs, blocks should not be
        smaller than that.

    Returns
    -------
    ray.data.Dataset
        One row a document: ``id``, ``text``, ``metadata`` (JSON), ``codes`` (bytes of all tiers), ``codec`` (what they were
        made with), ``error`` (null, or why a document could not be encoded; it has no codes then).

    Raises
    ------
    ParameterError
        When an argument cannot be used.
    OctavoError
        While the result is read: the encoder could not encode any of a batch of documents.
    MismatchError
        While the result is read: the checkpoint belongs to another encoder.
    """
    columns = Columns(id_column, text_column, column_names(metadata_columns))
    columns.check_known(dataset)
    check_metric(metric)
    pool = Pool(concurrency, num_cpus, num_gpus, batch_size)
    spec = EncoderSpec(encoder, encoder_options or {})
    if isinstance(codec, str):
        if checkpoint is None:
            raise ParameterError(
                "a codec string needs checkpoint=, where the fitted codec is kept; or fit it first: fit_codec(dataset, "
                f"encoder, {codec!r})"
            )
        kept = Checkpoint(checkpoint)
        key = _fit_key(spec, codec, metric)
        fitted = kept.load_fitted(key)  # by an earlier run of this job
        if fitted is None:
            fitted = fit_codec(
                dataset,
                encoder,
                codec,
                metric=metric,
                id_column=id_column,
                text_column=text_column,
                encoder_options=encoder_options,
                concurrency=concurrency,
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                batch_size=batch_size,
            )
            kept.save_codec(codec_tag(fitted, metric), fitted)
            kept.save_fitted(key, codec_tag(fitted, metric))
        codec = fitted
    elif not isinstance(codec, Codec):
        raise InputTypeError(f"expected codec as a fitted Codec or a codec string, got {type(codec).__name__}")
    elif not codec.is_fitted:
        raise NotFittedError(f"expected a fitted codec, got {codec!r}; fit it with fit_codec")
    tag = codec_tag(codec, metric)
    if checkpoint is not None:
        Checkpoint(checkpoint).save_codec(tag, codec)
        checkpoint = Checkpoint(checkpoint).folder
    shared = [ray.put(codec.to_bytes())]
    arguments = (spec, columns, metric, pool.documents, shared, tag, checkpoint)
    return dataset.map_batches(CodeWorker, fn_constructor_args=arguments, **pool.options())


def _fit_key(spec: EncoderSpec, codec: str, metric: str) -> str:
    kind = spec.encoder if isinstance(spec.encoder, type) else type(spec.encoder)
    name = spec.encoder if isinstance(spec.encoder, str) else f"{kind.__module__}.{kind.__qualname__}"
    return content_key([name, str(Codec.parse(codec)), metric])[:32]
