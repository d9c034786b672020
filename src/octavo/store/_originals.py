"""Original vectors that are kept beside the codes, and what is known of how well the codec fits: fitting that cannot be ruined.

A codec is learned from the first documents, and those may all be of one topic. What it drops of later ones cannot be won back
from their codes. So the vectors of up to `CAPACITY` documents are kept as they came, in the table ``originals``: all of them at
first, later a uniform sample. It is drawn by hashes of the ids, hence the same in whatever order the documents come. From
them the codec is learned again as the collection grows, or when what arrives is kept worse than what it was learned from
(docs/decisions/fitting.md). Rows are deleted with their document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from octavo._arrays import BLOCK_ROWS, Floats
from octavo.compression import Quantizer
from octavo.store.sqlite import Connection

#: Vectors that are kept, at most, where a document has one and where it has many; and their bytes.
CAPACITY, TOKEN_CAPACITY = 1 << 14, 1 << 17
CAPACITY_BYTES = 32 << 20

#: Vectors kept of what arrived since the codec was learned and is kept badly, beside the sample.
RECENT = 1 << 12

#: Part of its squared length that a vector may lose without anybody noticing: of int8 it is a tenth of this.
NEGLIGIBLE = 1e-3

#: Every document is in the sample.
ALL = 2**63 - 1

#: The codec is learned again when there are so many times the documents it was learned from: while vectors still stream in, at
#: the end of a call, and once not all originals are there.
_STREAMING, _ENDED, _SAMPLED = 2.0, 1.05, 4.0

#: How much worse than expected vectors are kept, as a factor and in standard deviations of the mean, when that is suspicious
#: and when it is no accident; and how many vectors it takes to say so.
_SUSPICIOUS, _WORSE, _SURE = (1.05, 2.0), (1.1, 4.0), 64

#: Vectors of a batch whose error is measured, and over how many the mean goes.
_WATCHED, _WINDOW = 256, 4_096

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Learned:
    """What is known of the fitted codec.

    Parameters
    ----------
    documents : int
        How many there were when it was learned.
    errors, spreads : tuple of float
        Mean and standard deviation of the part of its squared length that a vector loses in each tier, or that a token does,
        measured on vectors that a codec learned from others.
    learning : tuple of bool
        Which tiers look at vectors at all to learn.
    below : int
        A document is in the sample if its priority is below this.
    complete : bool
        Whether the originals of all documents are there.
    seen : int
        Vectors over which `found` goes.
    found : tuple of float
        Mean error of what has arrived since.
    """

    documents: int
    errors: tuple[float, ...]
    spreads: tuple[float, ...]
    learning: tuple[bool, ...]
    below: int = ALL
    complete: bool = True
    seen: int = 0
    found: tuple[float, ...] = ()

    def to_json(self) -> str:
        """Return the manifest's entry."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: Any) -> Self | None:
        """Return what the manifest says; None where it says nothing that can be read (then nothing is learned again)."""
        try:
            entry = json.loads(text)
            for name in ("errors", "spreads", "found"):
                entry[name] = tuple(float(value) for value in entry[name])
            entry["learning"] = tuple(bool(value) for value in entry["learning"])
            found = cls(**entry)
            numbers = (found.documents, found.below, found.seen)
            tiers = len(found.errors)
            good = all(isinstance(number, int) and 0 <= number <= ALL for number in numbers)
            fits = len(found.spreads) == len(found.learning) == tiers > 0 and len(found.found) in (0, tiers)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if good and fits and all(map(np.isfinite, found.errors + found.spreads + found.found)) else None

    @property
    def lossy(self) -> bool:
        """Whether what the finest tier gives back is no original any more."""
        return self.errors[-1] > NEGLIGIBLE

    @property
    def settled(self) -> bool:
        """Whether there is nothing that learning again could win."""
        return all(error <= NEGLIGIBLE for error, learns in zip(self.errors, self.learning, strict=True) if learns)

    def drifted(self, n_alive: int) -> bool:
        """Tell whether what has arrived is kept worse than what the codec was learned from, and is enough to learn from."""
        bound = _SUSPICIOUS if self.complete else _WORSE  # to learn from few thousand originals costs little
        enough = min(RECENT, max(_SURE, self.documents // 50))
        return (
            self.seen >= _SURE
            and n_alive - self.documents >= enough
            and any(self._exceeds(tier, found, self.seen, bound) for tier, found in enumerate(self.found))
        )

    def _exceeds(self, tier: int, error: float, n: int, bound: tuple[float, float]) -> bool:
        mean = self.errors[tier]
        limit = max(bound[0] * mean, mean + NEGLIGIBLE, mean + bound[1] * self.spreads[tier] / n**0.5)
        return self.learning[tier] and error > limit

    def due(self, n_alive: int, fit_after: int, *, ended: bool) -> bool:
        """Tell whether it is time to learn again from `n_alive` documents."""
        if self.drifted(n_alive):
            return True
        if self.settled:
            return False
        everything = self.complete if self.lossy else n_alive <= CAPACITY
        factor = (_ENDED if ended else _STREAMING) if everything else _SAMPLED
        return n_alive >= max(fit_after, factor * self.documents, self.documents + 1)

    def watched(self, n: int, errors: Sequence[float]) -> tuple[Learned, bool]:
        """Take in the mean errors of `n` vectors; returns as well whether they should be kept to be encoded again."""
        if not n:
            return self, False
        before = min(self.seen, max(0, _WINDOW - n))
        found = self.found or (0.0,) * len(errors)
        means = tuple((before * old + n * new) / (before + n) for old, new in zip(found, errors, strict=True))
        # What the finest tier keeps well can be decoded from it: what other tiers lose is not lost.
        first = 0 if self.lossy else len(errors) - 1
        suspicious = any(self._exceeds(tier, errors[tier], n, _SUSPICIOUS) for tier in range(first, len(errors)))
        return replace(self, seen=before + n, found=means), suspicious


def errors_of(pipeline: Quantizer, vectors: Floats) -> npt.NDArray[np.float64]:
    """Return the part of its squared length that each vector loses in a tier; zero for vectors of zeros."""
    errors: npt.NDArray[np.float64] = np.zeros(len(vectors))
    for start in range(0, len(vectors), BLOCK_ROWS):  # float64 of little at a time
        part = vectors[start : start + BLOCK_ROWS]
        lost = (part - pipeline.decode(pipeline.encode(part))).astype(np.float64)
        squared = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        np.divide(np.einsum("ij,ij->i", lost, lost), squared, out=errors[start : start + BLOCK_ROWS], where=squared > 0)
    return errors


def watched_rows(vectors: Floats) -> Floats:
    """Return the vectors of a batch whose error is measured."""
    return vectors[:: max(1, -(-len(vectors) // _WATCHED))]


def capacity(dim: int, *, late: bool) -> int:
    """Return how many vectors of `dim` values are kept at most."""
    return max(1, min(TOKEN_CAPACITY if late else CAPACITY, CAPACITY_BYTES // (2 * dim)))


def priority(identifier: str, seed: int) -> int:
    """Return the place of a document in the order in which the sample is drawn: a hash of its id."""
    digest = hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little") >> 1


# ---------------------------------------------------------------------- the table


def packed(vectors: Floats) -> bytes:
    """Return vectors as they are stored: the largest magnitude in 4 bytes, then the values as parts of it, 2 bytes each."""
    scale = np.float32(np.abs(vectors).max(initial=0.0)) or np.float32(1)
    parts = (vectors / scale).astype("<f2")
    return np.asarray(scale, "<f4").tobytes() + parts.tobytes()


def unpacked(data: bytes, dim: int) -> Floats:
    """Return what was packed, of shape ``(n, dim)``."""
    scale = np.frombuffer(data, "<f4", 1)[0]
    vectors: Floats = np.frombuffer(data, "<f2", offset=4).reshape(-1, dim).astype(np.float32)
    vectors *= scale
    return vectors


def is_there(connection: Connection, prefix: str = "") -> bool:
    """Tell whether there is such a table: read-only collections of earlier versions have none."""
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (f"{prefix}originals",)).fetchone()
    return row is not None


def insert(connection: Connection, rows: Iterable[tuple[int, int, Floats]], prefix: str = "") -> None:
    """Keep the vectors of slots: slot, priority, matrix of shape (n, dim)."""
    connection.executemany(
        f"INSERT OR REPLACE INTO {prefix}originals VALUES (?, ?, ?, ?)",
        ((slot, order, len(vectors), packed(vectors)) for slot, order, vectors in rows),
    )


def remove(connection: Connection, slots: Iterable[int], prefix: str = "") -> None:
    """Forget the vectors of slots."""
    connection.executemany(f"DELETE FROM {prefix}originals WHERE slot = ?", ((slot,) for slot in slots))


def clear(connection: Connection, prefix: str = "") -> None:
    """Forget all vectors."""
    connection.execute(f"DELETE FROM {prefix}originals")


def slots_there(connection: Connection, prefix: str = "") -> set[int]:
    """Return the slots whose vectors are kept."""
    return {row[0] for row in connection.execute(f"SELECT slot FROM {prefix}originals")}


def renumber(connection: Connection, moves: Iterable[tuple[int, int]], prefix: str = "") -> None:
    """Follow documents to other slots, given as new and old ones, in rising order, none of them upwards."""
    there = slots_there(connection, prefix)
    connection.executemany(
        f"UPDATE {prefix}originals SET slot = ? WHERE slot = ?", [(new, old) for new, old in moves if old in there]
    )


def thin(connection: Connection, learned: Learned, most: int, prefix: str = "") -> Learned:
    """Leave no more than `most` vectors in the sample, those of lowest priority, and `RECENT` beside it."""
    recent = _held(connection, f"{prefix}originals WHERE priority >= ?", learned.below)
    if recent > RECENT:
        _drop(connection, prefix, "priority >= ? ORDER BY slot", learned.below, recent - RECENT)
    held = _held(connection, f"{prefix}originals WHERE priority < ?", learned.below)
    if held <= most:
        return learned
    last = _drop(connection, prefix, "priority < ? ORDER BY priority DESC", learned.below, held - most)
    return replace(learned, below=last, complete=False)


def _held(connection: Connection, which: str, bound: int) -> int:
    return connection.execute(f"SELECT sum(n) FROM {which}", (bound,)).fetchone()[0] or 0


def _drop(connection: Connection, prefix: str, which: str, bound: int, excess: int) -> int:
    """Delete documents until `excess` vectors are gone; returns the priority of the last one."""
    dropped, last = [], bound
    for slot, order, n in connection.execute(
        f"SELECT slot, priority, n FROM {prefix}originals WHERE {which}", (bound,)
    ):
        dropped.append(slot)
        last, excess = order, excess - n
        if excess <= 0:
            break
    remove(connection, dropped, prefix)
    return last


def drop_recent(connection: Connection, learned: Learned) -> None:
    """Forget what was kept beside the sample: it has been learned from."""
    connection.execute("DELETE FROM originals WHERE priority >= ?", (learned.below,))


def read(connection: Connection, dim: int, prefix: str = "") -> dict[int, Floats]:
    """Return the vectors of all slots that are kept, those that come first in the order of the sample first."""
    if not is_there(connection, prefix):
        return {}
    rows = connection.execute(f"SELECT slot, vectors FROM {prefix}originals ORDER BY priority")
    return {slot: unpacked(data, dim) for slot, data in rows}


def problems(connection: Connection, alive: npt.NDArray[np.bool_], dim: int | None, prefix: str = "") -> list[str]:
    """Return what does not fit the documents: each row belongs to one, and holds as many values as it says."""
    if not is_there(connection, prefix):
        return []
    for slot, n, size in connection.execute(f"SELECT slot, n, length(vectors) FROM {prefix}originals"):
        if not 0 <= slot < len(alive) or not alive[slot] or dim is None or size != 4 + 2 * n * dim:
            return [f"the original vectors kept in octavo.db do not fit the documents (slot {slot})"]
    return []


def size(connection: Connection, prefix: str = "") -> tuple[int, int]:
    """Return for how many documents originals are kept, and their bytes."""
    if not is_there(connection, prefix):
        return 0, 0
    documents, total = connection.execute(f"SELECT count(*), sum(length(vectors)) FROM {prefix}originals").fetchone()
    return documents, total or 0


def overlaid(slots: Slots, vectors: Floats, originals: Mapping[int, Floats]) -> Floats:
    """Return the vectors of `slots` with originals in place of what was decoded, wherever they are kept."""
    if originals:
        for row, slot in enumerate(slots.tolist()):
            if slot in originals:
                vectors[row] = originals[slot][0]
    return vectors
