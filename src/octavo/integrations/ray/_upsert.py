"""Write an encoded dataset into a collection."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data

from octavo.compression import Codec
from octavo.errors import InputTypeError, ParameterError
from octavo.integrations.qdrant.location import EMBEDDED, parse_location
from octavo.integrations.ray._checkpoint import Checkpoint
from octavo.integrations.ray._targets import Codecs, LocalTarget, OpenedTarget, QdrantTarget, Target
from octavo.integrations.ray._workers import Pool
from octavo.integrations.ray._writing import BlockWriter, UpsertReport

#: Documents written and committed at a time.
BATCH = 1024

_COUNTS = pa.schema(
    [
        ("documents", pa.int64()),
        ("skipped", pa.int64()),
        ("duplicates", pa.int64()),
        ("failed", pa.int64()),
        ("ids", pa.list_(pa.string())),
        ("errors", pa.list_(pa.string())),
    ]
)


def upsert(
    dataset: ray.data.Dataset,
    target: str | os.PathLike[str] | Callable[[], Any],
    *,
    codec: Codec | None = None,
    encoder: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    num_cpus: float = 0,
    batch_size: int = BATCH,
) -> UpsertReport:
    """Write what `encode` made into a collection.

    A collection that is named by its place has one writer: this process, which reads the dataset as it is being made. What a
    callable opens is opened in several tasks at once, each of which writes.

    Parameters
    ----------
    dataset : ray.data.Dataset
        From `encode`; rows may have been left out since, or come from files that it was written to.
    target : str, path-like or callable
        The place of a collection, which is created if it is not there: a directory; in Qdrant, ``https://HOST:PORT#NAME``
        (the key is taken from ``QDRANT_API_KEY``) or ``qdrant:DIR``. Or a function without arguments that opens a collection
        that is there, called in each writing task: ``functools.partial(QdrantCollection.open, url=...)`` for instance.
    codec : Codec, optional
        The codec that the dataset was encoded with, if it is not in `checkpoint`.
    encoder : object, optional
        As in `octavo.open`; a new collection remembers it, and an existing one compares it with its own.
    checkpoint : str or path-like, optional
        As in `encode`. Blocks that were written are recorded, and passed over when the job is run again, if the target
        still has all of their ids.
    concurrency : int, optional
        Writing tasks, where the target is a callable; one for each node by default.
    num_cpus : float, default=0
        Of each of them; they spend their time waiting for the target.
    batch_size : int, default=1024
        Documents written, and committed, at a time.

    Returns
    -------
    UpsertReport
        With the documents that could not be encoded; they are not written.

    Raises
    ------
    ParameterError
        When an argument cannot be used.
    MismatchError
        When the dataset was made with another codec or metric than the target's.
    CodecError
        When the target is a place in Qdrant, which has no counterpart of the codec.
    """
    if codec is not None and not codec.is_fitted:
        raise ParameterError(f"expected a fitted codec, got {codec!r}")
    pool = Pool(concurrency, num_cpus, batch_size=batch_size)
    kept = Checkpoint(checkpoint) if checkpoint is not None else None
    if not isinstance(target, str | os.PathLike):
        if not callable(target):
            raise InputTypeError(f"expected target as a path or a callable, got {type(target).__name__}")
        if encoder is not None:
            raise ParameterError(
                "encoder= belongs to a target given by its place; let the target's own callable open it with one"
            )
        return _in_tasks(dataset, target, codec, kept, pool)
    codecs = Codecs(codec, kept)
    name, place = _place(target, encoder, codecs)
    writer = BlockWriter(place, name, codecs, kept, pool.documents)
    report = UpsertReport()
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            report += writer.write(table)
    finally:
        writer.close()
    return report


def _place(target: str | os.PathLike[str], encoder: Any, codecs: Codecs) -> tuple[str, Target]:
    """Return the collection at a place, and what a checkpoint calls it."""
    location = parse_location(target)
    if location is None:
        path = Path(target).expanduser().resolve()
        return str(path), LocalTarget(path, encoder, codecs)
    if location.path is not None:
        return f"{EMBEDDED}{location.path.resolve()}", QdrantTarget(location, encoder, codecs)
    return f"{location.url}#{location.name}", QdrantTarget(location, encoder, codecs)


class TaskWriter:
    """The actor that writes into a collection which it opens itself."""

    def __init__(
        self, target: Callable[[], Any], codec: Sequence[Any], checkpoint: Path | None, name: str, batch_size: int
    ) -> None:
        kept = Checkpoint(checkpoint) if checkpoint is not None else None
        given = Codec.from_bytes(ray.get(codec[0])) if codec else None
        self._writer = BlockWriter(OpenedTarget(target()), name, Codecs(given, kept), kept, batch_size)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        report = self._writer.write(table)
        yield pa.Table.from_pylist(
            [
                {
                    "documents": report.documents,
                    "skipped": report.skipped,
                    "duplicates": report.duplicates,
                    "failed": report.failed,
                    "ids": [identifier for identifier, _ in report.failures],
                    "errors": [error for _, error in report.failures],
                }
            ],
            schema=_COUNTS,
        )


def _in_tasks(
    dataset: ray.data.Dataset, target: Callable[[], Any], codec: Codec | None, kept: Checkpoint | None, pool: Pool
) -> UpsertReport:
    shared = [ray.put(codec.to_bytes())] if codec is not None else []
    arguments = (target, shared, kept.folder if kept is not None else None, _name_of(target), pool.documents)
    counts = dataset.map_batches(TaskWriter, fn_constructor_args=arguments, **pool.options())
    report = UpsertReport()
    for table in counts.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in table.to_pylist():
            failures = list(zip(row["ids"], row["errors"], strict=True))
            report += UpsertReport(row["documents"], row["skipped"], row["duplicates"], row["failed"], failures)
    return report


def _name_of(target: Callable[[], Any]) -> str:
    """Return what tells one target from another: a partial's function and arguments, or the callable's own name."""
    inner = getattr(target, "func", target)
    arguments = repr((getattr(target, "args", ()), sorted(getattr(target, "keywords", {}).items())))
    return f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}{arguments}"
