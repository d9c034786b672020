"""Finding and repairing damage in the token files of a multi-vector collection."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from octavo.compression.token_matrices import TokenMatrices
from octavo.encoders.dense import Encoder
from octavo.encoders.tokens import TokenEncoder, encode_pooled
from octavo.errors import CollectionLockedError, CorruptCollectionError
from octavo.store.database import TO_EMBED, select_documents
from octavo.store.documents import chunked
from octavo.store.snapshot import Mask, Slots, Snapshot
from octavo.store.sqlite import Connection
from octavo.store.store import Store
from octavo.store.tokens import OFFSET_BYTES, TokenView
from octavo.store.vectors import BLOCK_ROWS, BlockGuard, Codes, VectorFile
from octavo.store.writer import Writer

#: Documents encoded again at a time.
_CHUNK = 256


def bad_rows(file: VectorFile, guard: BlockGuard, codes: Codes) -> Mask:
    """Return which rows do not match their checksum."""
    bad = np.zeros(len(codes), np.bool_)
    file.expect(None)
    if not file.resident:
        size = file.bytes
        if size < len(codes) * file.row_bytes:
            whole = size // file.row_bytes // BLOCK_ROWS * BLOCK_ROWS  # a torn block has no checksum any more
            bad[whole:] = True
            codes = codes[:whole]  # the map must not be read beyond the end of a file that shrank
    for block in guard.bad_blocks(codes):
        bad[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS] = True
    return bad


def token_damage(view: TokenView, n_slots: int) -> tuple[Mask, list[str]]:
    """Return which slots have tokens that cannot be read, and a sentence for each damaged file."""
    messages = []
    bad_offsets = bad_rows(view.offset_file, view.offset_guard, view.offset_rows)
    # A slot needs its own row and the next one.
    lost: Mask = bad_offsets[:-1] | bad_offsets[1:]
    if bad_offsets.any():
        messages.append(_message(view.offset_file.name, bad_offsets, OFFSET_BYTES))
    bad_tokens = bad_rows(view.file, view.guard, view.codes)
    if bad_tokens.any():
        messages.append(_message(view.file.name, bad_tokens, view.layout.row_bytes))
        before = np.concatenate([[0], np.cumsum(bad_tokens)])
        slots = np.flatnonzero(~lost)
        starts, ends = view.offsets[slots], view.offsets[slots + 1]
        lost[slots] = before[ends] > before[starts]
    return lost, messages


def _message(name: str, bad: Mask, row_bytes: int) -> str:
    return (
        f"{name} is damaged: {int(bad.sum()):,} of {len(bad):,} rows (of {row_bytes} bytes) do not match their checksum, the "
        f"first is row {int(np.flatnonzero(bad)[0])}"
    )


def repair_tokens(
    store: Store,
    writer: Writer,
    encoder: Encoder | TokenEncoder | None,
    snapshot: Snapshot,
    lost: Mask,
    rows: Iterable[Mask],
) -> list[str]:
    """Write a new generation: lost tokens come from the texts, candidate vectors from the tokens.

    Raises
    ------
    CorruptCollectionError
        When tokens are lost and there is no encoder or no text to make them from; the message names documents.
    """
    notes = []
    damaged = np.zeros(snapshot.n_slots, np.bool_)
    for mask in rows:
        damaged |= mask
    slots = np.flatnonzero(lost & snapshot.alive)
    texts = texts_to_encode(store, snapshot, slots, encoder, "token vectors", "its encoder")
    matrices: dict[int, TokenMatrices] = {}
    if len(slots):
        assert isinstance(encoder, TokenEncoder)  # a multi-vector collection is opened with no other
        for part in chunked(slots.tolist(), _CHUNK):
            pooled = encode_pooled(encoder, [texts[slot] for slot in part], store.settings.pooling or {}, snapshot.dim)
            matrices.update((slot, TokenMatrices.of([pooled[i]], dim=pooled.dim)) for i, slot in enumerate(part))
        notes.append(f"the token vectors of {len(slots):,} documents were encoded again from their texts")
    if (damaged & snapshot.alive & ~lost).any():
        count = int((damaged & snapshot.alive & ~lost).sum())
        notes.append(f"the candidate vectors of {count:,} documents were made again from their tokens")
    writer.rebuild_late(snapshot, lost, damaged, matrices)
    return notes


def texts_to_encode(
    store: Store, snapshot: Snapshot, slots: Slots, encoder: object | None, lost: str, needed: str
) -> dict[int, str]:
    """Return what lost vectors are made of, by slot.

    Parameters
    ----------
    store : Store
        The collection's files.
    snapshot : Snapshot
        The state in which the damage was found.
    slots : ndarray of int
        Of the documents that have lost something.
    encoder : object or None
        What would make it again.
    lost, needed : str
        What that is, and what to open the collection with, as messages say it.

    Raises
    ------
    CollectionLockedError
        When the collection has changed since.
    CorruptCollectionError
        When there is no encoder, or no text; the message names documents.
    """
    with store.read() as (connection, now):
        if now.seq != snapshot.seq:
            raise CollectionLockedError(
                "the collection changed while it was being repaired; run verify(repair=True) again"
            )
        texts = texts_of(connection, slots)
        require_none_lost(
            connection,
            slots if encoder is None else slots[[not texts.get(slot) for slot in slots.tolist()]],
            lost,
            needed,
        )
    return texts


def texts_of(connection: Connection, slots: Slots) -> dict[int, str]:
    """Return what the vectors in each slot are made of."""
    return dict(select_documents(connection, f"slot, {TO_EMBED}", "slot", slots.tolist()))


def require_none_lost(connection: Connection, gone: Slots, lost: str, needed: str) -> None:
    """Raise `CorruptCollectionError`, which names documents, if there are slots of which nothing can be made again."""
    if not len(gone):
        return
    ids = ", ".join(repr(row[0]) for row in select_documents(connection, "id", "slot", gone[:5].tolist()))
    raise CorruptCollectionError(
        f"{len(gone):,} documents have lost their {lost}, among them {ids}; open the collection with {needed} and run "
        "verify(repair=True) again, or add them again"
    )
