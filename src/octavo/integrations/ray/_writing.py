"""Writing encoded tables into one collection, whoever does it: this process, or a task on another machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from octavo.compression import Codec
from octavo.errors import MismatchError, ParameterError
from octavo.integrations.ray._checkpoint import Checkpoint, table_key
from octavo.integrations.ray._rows import ENCODED, split_tiers
from octavo.integrations.ray._targets import Codecs, Target, write
from octavo.store.documents import Document, metadata_from_json

#: Failures that a report lists; it counts all.
LISTED = 1000


@dataclass(frozen=True)
class UpsertReport:
    """What `upsert` did.

    Parameters
    ----------
    documents : int
        Documents written.
    skipped : int
        Documents that an earlier run of the job has written, by its checkpoint.
    duplicates : int
        Documents that were passed over because a later one of the same block has their id.
    failed : int
        Documents that could not be encoded.
    failures : list of (str, str)
        Id and error of the first thousand of them.

    Examples
    --------
    >>> UpsertReport(documents=3, failed=1) + UpsertReport(documents=2)
    UpsertReport(documents=5, skipped=0, duplicates=0, failed=1, failures=[])
    """

    documents: int = 0
    skipped: int = 0
    duplicates: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __add__(self, other: UpsertReport) -> UpsertReport:
        return UpsertReport(
            self.documents + other.documents,
            self.skipped + other.skipped,
            self.duplicates + other.duplicates,
            self.failed + other.failed,
            [*self.failures, *other.failures][:LISTED],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


class BlockWriter:
    """Writes tables into a collection, a batch at a time, and records those that are done.

    Parameters
    ----------
    target : Target
        Gives the collection for a table's tag, and is closed at the end.
    name : str
        What the checkpoint calls the target.
    codecs : Codecs
        To read the codes with.
    checkpoint : Checkpoint or None
        Where to record what is done.
    batch_size : int
        Documents written at a time.
    """

    def __init__(
        self, target: Target, name: str, codecs: Codecs, checkpoint: Checkpoint | None, batch_size: int
    ) -> None:
        self._target, self._name, self._codecs = target, name, codecs
        self._checkpoint, self._batch_size = checkpoint, batch_size

    def write(self, table: pa.Table) -> UpsertReport:
        """Write what was encoded, and say what happened."""
        if missing := [name for name in ENCODED.names if name not in table.column_names]:
            raise ParameterError(f"expected a dataset that encode() made, but it has no column {missing[0]!r}")
        table = table.select(ENCODED.names)
        good = table.filter(pc.is_null(table["error"]))
        bad = table.filter(pc.is_valid(table["error"]))
        failures = list(zip(bad["id"].to_pylist(), bad["error"].to_pylist(), strict=True))
        report = UpsertReport(failed=len(failures), failures=failures[:LISTED])
        for tag in sorted(set(good["codec"].to_pylist())):
            report += self._write(tag, good.filter(pc.equal(good["codec"], tag)))
        return report

    def _write(self, tag: str, table: pa.Table) -> UpsertReport:
        collection = self._target.for_tag(tag, table["text"].slice(0, 1000).to_pylist())
        metric = tag.partition(":")[0]
        if collection.late is not None:
            raise MismatchError(
                "the dataset has one vector a document, but the target is a collection for late interaction; choose "
                "another, or build that one locally and move it with octavo push"
            )
        if collection.metric != metric:
            raise MismatchError(
                f"the dataset was encoded for metric {metric!r}, but the target has {collection.metric!r}"
            )
        if collection.has_sparse_vectors:
            raise ParameterError(
                "the target keeps learned sparse vectors, which a dataset of encode() does not have: its documents would not "
                "be found by them; choose a target without (sparse= left out), or fill this one with Collection.add"
            )
        ids = table["id"].to_pylist()
        key = table_key(table) if self._checkpoint is not None else ""
        if (
            self._checkpoint is not None
            and self._checkpoint.is_written(self._name, key)
            and all(collection.contains(ids))
        ):
            return UpsertReport(skipped=len(ids))
        last = sorted({identifier: row for row, identifier in enumerate(ids)}.values())
        for start in range(0, len(last), self._batch_size):
            self._write_batch(collection, self._codecs.of(tag), table.take(last[start : start + self._batch_size]))
        if self._checkpoint is not None:
            self._checkpoint.mark_written(self._name, key)
        return UpsertReport(documents=len(last), duplicates=len(ids) - len(last))

    @staticmethod
    def _write_batch(collection: Any, codec: Codec, table: pa.Table) -> None:
        columns = [table[name].to_pylist() for name in ("id", "text", "metadata")]
        documents = [Document(i, text, metadata_from_json(fields)) for i, text, fields in zip(*columns, strict=True)]
        write(collection, documents, codec, split_tiers(table["codes"].to_pylist(), codec))

    def close(self) -> None:
        """Close the collection."""
        self._target.close()
