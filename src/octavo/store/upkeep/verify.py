"""Reads every byte of a collection, says what does not match, and rebuilds what can be rebuilt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any

import numpy as np

from octavo._arrays import Floats, unit_rows
from octavo.encoders.dense import Encoder
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import CollectionLockedError, CorruptCollectionError, OctavoError
from octavo.index import Tuning
from octavo.store import _originals
from octavo.store.database import ROW, document_crc
from octavo.store.derived import Follower
from octavo.store.documents import chunked
from octavo.store.metadata import index as _metadata_index
from octavo.store.reencoding import PREFIX
from octavo.store.snapshot import Mask, Snapshot
from octavo.store.sqlite import Connection, Error, connect_scratch
from octavo.store.store import TEXT_DIRECTORY, Store
from octavo.store.text.files import TextFiles
from octavo.store.upkeep._verify_sparse import SparseDamage, repair_sparse, sparse_damage
from octavo.store.upkeep._verify_tokens import bad_rows, repair_tokens, require_none_lost, texts_of, token_damage
from octavo.store.writer import Writer, rebuild_metadata_index, stored_metadata

#: How often a repair begins anew when others write between looking and mending.
_ATTEMPTS = 5


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Parameters
    ----------
    problems : list of str
        What does not match and could not be, or was not asked to be, repaired; each names the file or document.
    repaired : list of str
        What was rebuilt, and from what.

    Examples
    --------
    >>> import octavo
    >>> with octavo.open() as kb:
    ...     report = kb.verify()
    >>> report.ok, report.problems, report.repaired
    (True, [], [])
    """

    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything matches now."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok


#: What each index is made of.
_SOURCES = {"graph": "the coarse tier", "cells": "the finest tier", "token_cells": "the tokens"}


@dataclass
class _Damage:
    """Findings by part, so that repair need not read messages."""

    database: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    metadata_index: bool = False
    rows: dict[int, Mask] = field(default_factory=dict)  # tier -> which rows are damaged
    tokens: Mask | None = None  # documents whose tokens are damaged
    token_files: list[str] = field(default_factory=list)
    sparse: SparseDamage = field(default_factory=SparseDamage)
    index: dict[str, str] = field(default_factory=dict)  # name -> sentence
    text: str | None = None
    tuning: str | None = None
    originals: list[str] = field(default_factory=list)
    following: int | None = None  # the first slot of the space that is being filled that is damaged
    following_names: list[str] = field(default_factory=list)
    following_index: dict[str, str] = field(default_factory=dict)

    def messages(self, snapshot: Snapshot) -> list[str]:
        found = self.database + self.documents
        if self.metadata_index:
            found.append("the metadata index does not match the documents; verify(repair=True) rebuilds it")
        for number, mask in self.rows.items():
            name = snapshot.tiers[number].file.name
            found.append(
                f"{name} is damaged: {int(mask.sum()):,} of {len(mask):,} rows do not match their checksum, the first is "
                f"row {int(np.flatnonzero(mask)[0])}"
            )
        found += self.token_files + self.sparse.messages() + self.originals
        found += [
            f"{name} is damaged: it holds new vectors from the re-encoding that is under way; repair drops those from the "
            "first damaged one on, and reencode makes them again"
            for name in self.following_names
        ]
        found += [*self.index.values(), *self.following_index.values()]
        return found + [message for message in (self.text, self.tuning) if message is not None]


def verify_files(store: Store, index: Follower, text: TextFiles) -> VerifyReport:
    """Compare every file with its checksum and the tables with each other."""
    damage, snapshot = _find_damage(store, index, text)
    return VerifyReport(damage.messages(snapshot))


def _find_damage(store: Store, index: Follower, text: TextFiles) -> tuple[_Damage, Snapshot]:
    """Look at the newest commit; returns it as well.

    The vector files of a snapshot are held open, so it does not matter who replaces or deletes them meanwhile.
    """
    with store.read() as (connection, snapshot):
        damage = _damage_of(store, connection, snapshot)
    for part in index.parts:
        for name, findings in ((part.artifact, damage.index), (f"{PREFIX}{part.name}", damage.following_index)):
            found = _derived_damage(store, name, part.damage)
            if found is not None:
                findings[part.name] = found
    damage.text = _derived_damage(store, "text", text.damage)
    return damage, snapshot


def _derived_damage(store: Store, name: str, look: Callable[[dict[str, Any] | None], str | None]) -> str | None:
    """Return what is wrong with the derived files that are recorded; those that were replaced meanwhile do not count."""
    with store.read() as (connection, _):
        entry = store.artifact(connection, name)
    while True:
        found = look(entry)
        with store.read() as (connection, _):
            now = store.artifact(connection, name)
        if found is None or now == entry:
            return found
        entry = now


def _damage_of(store: Store, connection: Connection, snapshot: Snapshot) -> _Damage:
    damage = _Damage()
    damage.database = store.database.integrity_problems(connection)
    if damage.database:
        return damage
    slots, damage.documents = _read_documents(connection)
    present = np.zeros(snapshot.n_slots, np.bool_)
    inside = [slot for slot in slots if 0 <= slot < snapshot.n_slots]
    present[inside] = True
    if len(inside) != len(slots) or not np.array_equal(present, snapshot.alive) or len(slots) != snapshot.n_alive:
        damage.database.append("the documents table and the table of deleted rows contradict each other")
    elif not damage.documents:
        damage.metadata_index = not _index_matches(connection)
    for number, tier in enumerate(snapshot.tiers):
        bad = bad_rows(tier.file, tier.guard, tier.codes)
        if bad.any():
            damage.rows[number] = bad
    if snapshot.tokens is not None:
        damage.tokens, damage.token_files = token_damage(snapshot.tokens, snapshot.n_slots)
    damage.sparse = sparse_damage(store, connection, snapshot)
    damage.tuning = _tuning_damage(connection)
    damage.originals = _originals.problems(connection, snapshot.alive, snapshot.dim)
    if snapshot.next is not None:
        _look_at_next(snapshot.next, damage)
        dim, alive = snapshot.next.dim, snapshot.alive
        damage.originals += _originals.problems(connection, alive, dim, snapshot.next.prefix)
    return damage


def _look_at_next(following: Snapshot, damage: _Damage) -> None:
    """Look at the rows of the space that a change of the model fills."""
    bad = np.zeros(following.n_slots, np.bool_)
    for tier in following.tiers:
        rows = bad_rows(tier.file, tier.guard, tier.codes)
        if rows.any():
            damage.following_names.append(tier.file.name)
            bad |= rows
    if following.tokens is not None:
        tokens, messages = token_damage(following.tokens, following.n_slots)
        if messages:
            damage.following_names.append(following.tokens.file.name)
            bad |= tokens if tokens is not None else True
    if damage.following_names:
        damage.following = int(np.flatnonzero(bad)[0]) if bad.any() else 0


def _read_documents(connection: Connection) -> tuple[list[int], list[str]]:
    """Return the slots of all documents, and a sentence for each that does not match its checksum."""
    slots, messages = [], []
    for slot, *row, crc in connection.execute(f"SELECT slot, {ROW} FROM documents"):
        slots.append(slot)
        identifier, text, metadata, payload, embed_text, flags = row
        if document_crc(identifier, text, metadata, payload, embed_text, flags) != crc:
            messages.append(f"the stored document {identifier!r} does not match its checksum; add it again")
    return slots, messages


def _index_matches(connection: Connection) -> bool:
    """Compare the metadata index with one that is made anew from the documents, in a scratch database."""
    scratch = connect_scratch()
    try:
        scratch.execute(_metadata_index.DDL)
        rows = stored_metadata(connection)
        while part := list(islice(rows, 4_096)):
            _metadata_index.insert(scratch, part)
        query = (
            "SELECT name, kind, value, slot FROM octavo_fields JOIN octavo_field_names USING (field) "
            "ORDER BY name, kind, value, slot"
        )
        pairs = zip_longest(connection.execute(query), scratch.execute(query))
        return all(stored == expected for stored, expected in pairs)
    finally:
        scratch.close()


def _tuning_damage(connection: Connection) -> str | None:
    row = connection.execute("SELECT value FROM manifest WHERE key = 'tuning'").fetchone()
    try:
        if row is not None and row[0]:
            Tuning.from_json(row[0])
    except CorruptCollectionError as error:
        return str(error)
    return None


# ---------------------------------------------------------------------- repair


def repair_damage(
    store: Store,
    writer: Writer,
    index: Follower,
    text: TextFiles,
    encoder: Encoder | TokenEncoder | None,
    sparse_encoder: SparseEncoder | None = None,
) -> VerifyReport:
    """Rebuild what is damaged from what is left, in one transaction a part, and report."""
    repaired: list[str] = []
    for attempts_left in reversed(range(_ATTEMPTS)):
        damage, snapshot = _find_damage(store, index, text)
        try:
            repaired += _repair(store, writer, index, text, encoder, sparse_encoder, damage, snapshot)
        except CollectionLockedError:  # another writer was there between looking and mending: look again
            if not attempts_left:
                raise
        else:
            break
    left, snapshot = _find_damage(store, index, text)
    return VerifyReport(left.messages(snapshot), repaired)


def _repair(
    store: Store,
    writer: Writer,
    index: Follower,
    text: TextFiles,
    encoder: Encoder | TokenEncoder | None,
    sparse_encoder: SparseEncoder | None,
    damage: _Damage,
    snapshot: Snapshot,
) -> list[str]:
    repaired: list[str] = []
    if damage.database:
        with contextlib.suppress(OctavoError, Error), store.write(unchecked=True) as connection:
            connection.execute("REINDEX")
            _next_commit(connection)
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok" or _read_documents(connection)[1]:
                # an index may know more than a damaged table does, so it stays as it was
                raise CorruptCollectionError("rolled back")
        damage, snapshot = _find_damage(store, index, text)
        if damage.database:
            return []
        repaired.append("the indexes of octavo.db were rebuilt from its tables")
    # first what must find the collection as it was looked at
    if snapshot.tokens is not None:
        if damage.rows or damage.token_files:
            lost = damage.tokens if damage.tokens is not None else np.zeros(snapshot.n_slots, np.bool_)
            repaired += repair_tokens(store, writer, encoder, snapshot, lost, damage.rows.values())
    elif damage.rows:
        mine = None if isinstance(encoder, TokenEncoder) else encoder
        repaired += _repair_rows(store, writer, mine, damage, snapshot)
    if damage.sparse:
        found, snapshot = _find_damage(store, index, text) if repaired else (damage, snapshot)
        repaired += repair_sparse(store, writer, sparse_encoder, snapshot, found.sparse)
    if damage.following is not None:
        now = _find_damage(store, index, text)[1] if repaired else snapshot
        writer.shorten_reencoding(now, damage.following)
        repaired.append(
            f"the re-encoding goes on from row {damage.following:,}: what it had written beyond was damaged"
        )
    for name in damage.following_index:
        with store.write() as connection:
            connection.execute("DELETE FROM artifacts WHERE name = ?", (f"{PREFIX}{name}",))
        repaired.append(f"the {name} index of the new vectors was dropped; it is built again")
    for part in index.parts:
        if part.name in damage.index:
            with store.write() as connection:
                connection.execute("DELETE FROM artifacts WHERE name = ?", (part.artifact,))
            part.forget()
            part.catch_up()
            repaired.append(f"the {part.name} index was rebuilt from {_SOURCES[part.name]}")
    if damage.text is not None:
        with store.write() as connection:
            connection.execute("DELETE FROM artifacts WHERE name = 'text'")
        if store.folder is not None:
            store.folder.remove_tree(TEXT_DIRECTORY)
        text.forget()
        repaired.append("the full-text index was dropped; the next text search rebuilds it from the documents")
    if damage.metadata_index:
        with store.write() as connection:
            rebuild_metadata_index(connection)
            _next_commit(connection)
        repaired.append("the metadata index was rebuilt from the documents")
    if damage.originals:
        writer.forget_originals()
        repaired.append("the original vectors that were kept to learn from were dropped")
    if damage.tuning is not None:
        writer.set_tuning(None)
        repaired.append("the tuning was dropped; searches use the defaults until tune() is run again")
    return repaired


def _next_commit(connection: Connection) -> None:
    """Have every process forget what it remembers of this commit: answers to filters."""
    connection.execute("UPDATE manifest SET value = value + 1 WHERE key = 'seq'")


def _repair_rows(
    store: Store, writer: Writer, encoder: Encoder | None, damage: _Damage, snapshot: Snapshot
) -> list[str]:
    """Write a new generation in which damaged rows come from another tier, or from the texts."""
    notes: list[str] = []
    with store.read() as (connection, now):
        if now.seq != snapshot.seq:
            raise CollectionLockedError(
                "the collection changed while it was being repaired; run verify(repair=True) again"
            )
        tiers = len(snapshot.tiers)
        needed = np.zeros(snapshot.n_slots, np.bool_)
        for mask in damage.rows.values():
            needed |= mask
        needed &= snapshot.alive
        lost = needed.copy()  # rows that no undamaged tier holds
        source = np.full(snapshot.n_slots, -1)
        for number in range(tiers):  # the finest undamaged tier wins
            fine = ~damage.rows.get(number, np.zeros(snapshot.n_slots, np.bool_))
            source[needed & fine] = number
            lost &= ~fine
        from_text = needed & (source < tiers - 1) if encoder is not None else np.zeros_like(needed)
        texts = texts_of(connection, np.flatnonzero(from_text))
        from_text[[slot for slot in np.flatnonzero(from_text) if not texts.get(int(slot))]] = False
        lost &= ~from_text
        require_none_lost(connection, np.flatnonzero(lost), "vectors in every tier", "its encoder")
    vectors: dict[int, Any] = {}
    if encoder is not None and from_text.any():
        slots = np.flatnonzero(from_text)
        for part in chunked(slots.tolist(), 1024):
            encoded: Floats = encoder.encode_documents([texts[slot] for slot in part])
            if store.settings.metric == "cosine":
                encoded = unit_rows(encoded, keep_zeros=True)
            vectors.update(zip(part, encoded, strict=True))
        notes.append(f"{len(slots):,} vectors were encoded again from their texts")
    copied = needed & ~from_text
    if copied.any():
        notes.append(f"{int(copied.sum()):,} vectors were rebuilt from another tier, and are as exact as that tier")
    writer.rebuild(snapshot, damage.rows, source, vectors)
    return notes
