"""Finding and repairing damage in learned sparse vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from octavo._sparse_rows import SparseRows
from octavo.encoders.sparse import SparseEncoder
from octavo.errors import CorruptCollectionError
from octavo.store.documents import chunked
from octavo.store.snapshot import Slots, Snapshot
from octavo.store.sparse import SegmentView, read_segment, unreadable_rows
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.upkeep._verify_tokens import texts_to_encode
from octavo.store.writer import Writer

#: Documents encoded again at a time.
_CHUNK = 256


@dataclass
class SparseDamage:
    """What is wrong with sparse vectors: segments by file, and rows of the database."""

    segments: dict[str, str] = field(default_factory=dict)  # file -> sentence
    rows: list[int] = field(default_factory=list)  # slots

    def __bool__(self) -> bool:
        return bool(self.segments or self.rows)

    def messages(self) -> list[str]:
        """Return a sentence for each."""
        found = list(self.segments.values())
        if self.rows:
            found.append(f"octavo.db is damaged: {len(self.rows):,} of its rows of sparse vectors cannot be read")
        return found


def sparse_damage(store: Store, connection: Connection, snapshot: Snapshot) -> SparseDamage:
    """Read every byte of every segment again."""
    damage = SparseDamage()
    if snapshot.sparse is None:
        return damage
    for view in snapshot.sparse.segments:
        try:
            _reread(store, view)
        except FileNotFoundError:
            damage.segments[view.entry["file"]] = f"{view.entry['file']} is missing"
        except CorruptCollectionError as err:
            damage.segments[view.entry["file"]] = str(err)
    damage.rows = unreadable_rows(connection, snapshot.sparse.sealed)
    return damage


def _reread(store: Store, view: SegmentView) -> None:
    if store.folder is None:
        return
    try:
        read_segment(store.folder, view.entry).checked()
    except FileNotFoundError:
        if view.segment is None or not view.whole:
            raise
        view.checked()  # replaced by another process, and as good as it was


def repair_sparse(
    store: Store, writer: Writer, encoder: SparseEncoder | None, snapshot: Snapshot, damage: SparseDamage
) -> list[str]:
    """Make damaged sparse vectors anew from the texts.

    Raises
    ------
    CorruptCollectionError
        When there is no encoder, or no text; the message names documents.
    """
    wanted = _documents(snapshot, damage)
    slots = np.unique(np.concatenate([*wanted.values(), np.zeros(0, np.int64)]))
    texts = texts_to_encode(store, snapshot, slots, encoder, "sparse vectors", "its sparse encoder (sparse=)")
    made: dict[str, tuple[Slots, SparseRows]] = {}
    for name, part in wanted.items():
        assert encoder is not None or not len(part)  # or they would be gone
        rows = [encoder.encode_documents([texts[slot] for slot in some]) for some in chunked(part.tolist(), _CHUNK)]  # type: ignore[union-attr]
        made[name] = part, SparseRows.joined(rows)
    writer.mend_sparse(snapshot, made, damage.rows)
    return [f"the sparse vectors of {len(slots):,} documents were encoded again from their texts"]


#: Under which those of the database stand.
ROWS = ""


def _documents(snapshot: Snapshot, damage: SparseDamage) -> Mapping[str, Slots]:
    """Return the slots of the documents that have lost their vectors, by file; those of the database under `ROWS`."""
    assert snapshot.sparse is not None  # or there would be no damage
    lost = {}
    for view in snapshot.sparse.segments:
        name = view.entry["file"]
        if name in damage.segments:
            slots = view.first + np.flatnonzero(snapshot.alive[view.first : view.last])
            if view.segment is not None:  # its head was good when it was opened, and tells who has a vector
                slots = slots[view.segment.scales[slots - view.first] > 0]
            lost[name] = slots
    rows = np.array(damage.rows, np.int64)
    lost[ROWS] = rows[(rows >= 0) & (rows < snapshot.n_slots)]
    lost[ROWS] = lost[ROWS][snapshot.alive[lost[ROWS]]]
    return lost
