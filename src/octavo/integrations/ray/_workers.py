"""The actors that hold a model: texts in, codes (or, to fit a codec on, vectors) out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from octavo._arrays import Floats, unit_rows
from octavo._validation import check_integer, check_number
from octavo.compression import Codec
from octavo.encoders.dense import Encoder, as_encoder
from octavo.encoders.tokens import is_multi_vector
from octavo.errors import InputTypeError, OctavoError
from octavo.integrations.ray._checkpoint import Checkpoint, encoding_key
from octavo.integrations.ray._rows import Columns, EncodedRows, Row, join_tiers, read_rows

#: Documents encoded at a time, unless the caller says otherwise.
CPU_BATCH, GPU_BATCH = 256, 2048

#: If so many documents are given to the encoder and it can do none of them, the encoder is at fault, not the documents.
_ALL_FAILED = 8


@dataclass(frozen=True)
class Pool:
    """How many actors there are, and what each of them gets.

    Parameters
    ----------
    concurrency : int or None
        Actors; None for as many as the cluster has room for.
    num_cpus : float or None
        Of each actor. None for 1, or for 0 where the cluster has only one, which reading needs.
    num_gpus : float
        Of each actor.
    batch_size : int or None
        Documents encoded, and kept as one file of the checkpoint, at a time; None for a size that suits the device.

    Raises
    ------
    ParameterError
        When a number cannot be.
    """

    concurrency: int | None = None
    num_cpus: float | None = None
    num_gpus: float = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {"num_gpus": check_number(self.num_gpus, "num_gpus", least=0)}
        if self.num_cpus is not None:
            checked["num_cpus"] = check_number(self.num_cpus, "num_cpus", least=0)
        for name in ("concurrency", "batch_size"):
            if getattr(self, name) is not None:
                checked[name] = check_integer(getattr(self, name), name, least=1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def documents(self) -> int:
        """Documents encoded at a time."""
        return self.batch_size or (GPU_BATCH if self.num_gpus else CPU_BATCH)

    def options(self) -> dict[str, Any]:
        """Return what `Dataset.map_batches` is to be told."""
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call, unused-ignore]
        num_cpus = self.num_cpus
        if num_cpus is None:
            # Reading needs a whole CPU: actors that took them all would wait for documents for ever.
            num_cpus = 1.0 if resources.get("CPU", 0) > 1 else 0.0
        room = [resources.get(name, 0) / n for name, n in (("CPU", num_cpus), ("GPU", self.num_gpus)) if n]
        size = self.concurrency or max(1, int(min(room, default=len(ray.nodes()))))
        options: dict[str, Any] = {
            "compute": ActorPoolStrategy(min_size=1, max_size=size),
            "batch_format": "pyarrow",
            # A whole block where possible: the same documents then come together when the job is run again. Ray wants a
            # number where there are GPUs.
            "batch_size": self.documents if self.num_gpus else None,
            "num_cpus": num_cpus,
        }
        return options | ({"num_gpus": self.num_gpus} if self.num_gpus else {})


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder that each actor makes for itself.

    Parameters
    ----------
    encoder : str, type or object
        The name of a sentence-transformers model; a class whose instances `octavo.open` takes as encoders; or such an
        object, which is then sent to the actors as it is.
    options : mapping
        Arguments for the class.
    """

    encoder: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.options and not isinstance(self.encoder, type):
            raise InputTypeError(
                f"encoder_options are arguments for a class, but encoder is a {type(self.encoder).__name__}; leave them out"
            )
        if not isinstance(self.encoder, type) and not isinstance(self.encoder, str) and is_multi_vector(self.encoder):
            raise InputTypeError("expected an encoder of one vector a document, got one of late interaction")

    def load(self) -> Encoder:
        """Return the encoder, loaded in this process."""
        if isinstance(self.encoder, type):
            return as_encoder(self.encoder(**self.options))
        return as_encoder(self.encoder)


class VectorWorker:
    """Turns texts into vectors, for a codec to be fitted on; documents that cannot be encoded are left out."""

    def __init__(self, spec: EncoderSpec, columns: Columns, metric: str, batch_size: int) -> None:
        self._encoder = spec.load()
        self._columns, self._metric, self._batch_size = columns, metric, batch_size

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        rows = [row for row in read_rows(table, self._columns) if row.error is None]
        for start in range(0, len(rows), self._batch_size):
            texts = [row.text for row in rows[start : start + self._batch_size]]
            vectors = [v for v in encode_each(self._encoder, texts, self._metric) if not isinstance(v, str)]
            yield pa.table({"vector": pa.array([vector.tobytes() for vector in vectors], pa.binary())})


class CodeWorker:
    """Turns documents into codes, and keeps them in the checkpoint."""

    def __init__(
        self,
        spec: EncoderSpec,
        columns: Columns,
        metric: str,
        batch_size: int,
        codec: Any,  # a list around an object reference: Ray would pass on the bytes of a bare one each time
        tag: str,
        checkpoint: str | os.PathLike[str] | None,
    ) -> None:
        self._encoder = spec.load()
        self._codec = Codec.from_bytes(ray.get(codec[0]))
        self._columns, self._metric, self._batch_size, self._tag = columns, metric, batch_size, tag
        self._checkpoint = Checkpoint(checkpoint) if checkpoint is not None else None
        if self._checkpoint is not None:
            self._checkpoint.check_encoder(self._encoder)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        rows = read_rows(table, self._columns)
        for start in range(0, len(rows), self._batch_size):
            yield self._part(rows[start : start + self._batch_size])

    def _part(self, rows: list[Row]) -> pa.Table:
        if self._checkpoint is None:
            return self._encode(rows)
        key = encoding_key(self._encoder.name, self._tag, rows)
        table = self._checkpoint.load_encoded(key)
        if table is None:
            table = self._encode(rows)
            self._checkpoint.save_encoded(key, table)
        return table

    def _encode(self, rows: list[Row]) -> pa.Table:
        good = [number for number, row in enumerate(rows) if row.error is None]
        found = encode_each(self._encoder, [rows[number].text for number in good], self._metric)
        done = EncodedRows(self._tag, list(rows), [None] * len(rows))
        encoded = []
        for number, vector in zip(good, found, strict=True):
            if isinstance(vector, str):
                done.rows[number] = rows[number]._replace(error=vector)
            else:
                encoded.append((number, vector))
        if encoded:
            tiers = self._codec.encode(np.stack([vector for _, vector in encoded]))
            for (number, _), codes in zip(encoded, join_tiers(tiers), strict=True):
                done.codes[number] = codes
        return done.to_table()


def encode_each(encoder: Encoder, texts: Sequence[str], metric: str) -> list[Floats | str]:
    """Return a vector for each text, or what went wrong with it.

    Raises
    ------
    OctavoError
        When nothing could be encoded: the model is at fault then.
    """
    found = _encode_part(encoder, texts, metric)
    if len(texts) >= _ALL_FAILED and all(isinstance(value, str) for value in found):
        raise OctavoError(
            f"encoder {encoder.name!r} failed for all of {len(texts)} documents; the first time: {found[0]}"
        )
    return found


def _encode_part(encoder: Encoder, texts: Sequence[str], metric: str) -> list[Floats | str]:
    if not texts:
        return []
    try:
        vectors = encoder.encode_documents(texts)
        return list(unit_rows(vectors, keep_zeros=True) if metric == "cosine" else vectors)
    except Exception as error:  # models raise what they like, and no document may end a job of many hours
        if len(texts) == 1:
            return [f"{type(error).__name__}: {error}"]
    half = len(texts) // 2
    return _encode_part(encoder, texts[:half], metric) + _encode_part(encoder, texts[half:], metric)
