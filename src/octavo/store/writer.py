"""Everything that changes a collection: adding, deleting, and switching to a new generation of vector files.

Each public method is one transaction: after it returns, the change survives power loss; when it raises, nothing changed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from octavo._arrays import Floats
from octavo.compression import Codec
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CollectionLockedError, InvalidVectorsError, OctavoError, ParameterError
from octavo.index import Tuning
from octavo.store._generations import (
    Rows,
    fit_codec,
    fit_late,
    kept,
    late_kept,
    late_mended,
    late_reencoded,
    mended,
    reencoded,
    waiting_codec,
)
from octavo.store.database import document_crc, select_documents, write_manifest
from octavo.store.documents import Batch, metadata_from_json
from octavo.store.metadata import index as _metadata_index
from octavo.store.snapshot import Mask, Slots, Snapshot, TierView
from octavo.store.sqlite import Connection, Error
from octavo.store.store import Store
from octavo.store.tokens import TokenAppender, TokenCodec
from octavo.store.vectors import BLOCK_ROWS, BlockGuard, block_checksums

#: Takes part in a write transaction: connection, added ids, deleted ids.
JoinedWrite: TypeAlias = Callable[[Connection, Sequence[str], Sequence[str]], None]

#: Documents whose metadata is read at a time.
_CHUNK = 8_192


class Writer:
    """The writing half of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._joined: list[JoinedWrite] = []

    def join(self, callback: JoinedWrite) -> None:
        """Call `callback(connection, added_ids, deleted_ids)` before the commit of every later add and delete."""
        if callback not in self._joined:
            self._joined.append(callback)

    def _tell(self, connection: Connection, added: Sequence[str], deleted: Sequence[str]) -> None:
        with self._store.database.calling("a function given to join_writes"):
            for callback in self._joined:
                callback(connection, added, deleted)

    # ------------------------------------------------------------------ add and delete

    def add(self, batch: Batch, encoder_fingerprint: dict[str, Any] | None = None) -> None:
        """Insert or replace documents.

        `batch.vectors`, or `batch.tokens` in a multi-vector collection, are ready to be encoded (of unit length where
        cosine is meant).
        """
        store = self._store
        with store.write() as connection:
            snapshot = self._current(connection)
            dim = batch.dim
            if snapshot.dim is not None and snapshot.dim != dim:
                raise InvalidVectorsError(
                    f"expected vectors of dimension {snapshot.dim}, got {dim}; was the collection built with another model?"
                )
            changes: dict[str, Any] = {"dim": dim}
            tiers: Sequence[TierView] = snapshot.tiers
            appender = TokenAppender(snapshot.tokens) if snapshot.tokens is not None else None
            if snapshot.generation == 0:
                tiers, appender = self._first_generation(dim, snapshot, changes)
            if encoder_fingerprint is not None:
                changes["encoder"] = json.dumps(encoder_fingerprint)
            start, seq = snapshot.n_slots, snapshot.seq + 1
            vectors = batch.vectors
            if appender is not None:
                vectors = self._add_tokens(connection, appender, batch, changes)
            assert vectors is not None  # the collection encodes before it writes
            made = batch.codes_of(snapshot.codec)
            for number, tier in enumerate(tiers):
                codes = tier.pipeline.encode(vectors) if made is None else made[number]
                tier.file.write(start, codes)
                tier.file.sync()
                sums = block_checksums(codes, start, tier.guard.tail())
                _write_blocks(connection, number, sums)
            replaced = list(select_documents(connection, "slot, metadata", "id", batch.ids))
            self._bury(connection, replaced, seq)
            slots = range(start, start + len(batch))
            connection.executemany(
                "INSERT INTO documents (slot, id, text, metadata, payload, crc) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (slot, *values, document_crc(*values))
                    for slot, values in zip(
                        slots, zip(batch.ids, batch.texts, batch.metadata, batch.payloads, strict=True), strict=True
                    )
                ],
            )
            _metadata_index.insert(connection, zip(slots, batch.parsed, strict=True))
            changes |= {
                "seq": seq,
                "slots": start + len(batch),
                "alive": snapshot.n_alive + len(batch) - len(replaced),
            }
            write_manifest(connection, changes)
            self._tell(connection, batch.ids, ())
        self._publish(own=True)
        if snapshot.generation == 0:
            for tier in tiers:
                tier.file.close()  # the published snapshot opens the file anew
            if appender is not None:
                appender.close()

    def delete(self, choose: Callable[[Connection, Snapshot], Sequence[int]] | None) -> int:
        """Delete documents; returns how many there were.

        Parameters
        ----------
        choose : callable or None
            Names the slots, inside the transaction, since a slot means nothing once another process has compacted.
            None deletes everything.
        """
        with self._store.write() as connection:
            snapshot = self._current(connection)
            if choose is None:
                found = connection.execute("SELECT slot, metadata, id FROM documents").fetchall()
            else:
                chosen = choose(connection, snapshot)
                found = list(select_documents(connection, "slot, metadata, id", "slot", chosen))
            if not found:
                return 0
            seq = snapshot.seq + 1
            if len(found) == snapshot.n_alive:
                connection.execute("DELETE FROM documents")
                _metadata_index.clear(connection)
                connection.executemany("INSERT INTO tombstones VALUES (?, ?)", [(row[0], seq) for row in found])
            else:
                self._bury(connection, [row[:2] for row in found], seq)
            write_manifest(connection, {"seq": seq, "alive": snapshot.n_alive - len(found)})
            self._tell(connection, (), [row[2] for row in found])
        self._publish()
        return len(found)

    def set_tuning(self, tuning: Tuning | None) -> None:
        """Record how hard to look from now on; None goes back to the planner's constants."""
        with self._store.write() as connection:
            snapshot = self._current(connection)
            changes = {"seq": snapshot.seq + 1, "tuning": tuning.to_json() if tuning is not None else ""}
            write_manifest(connection, changes)
        self._publish()

    def _bury(self, connection: Connection, found: Sequence[tuple[int, str]], seq: int) -> None:
        if not found:
            return
        slots = [(slot,) for slot, _ in found]
        connection.executemany("DELETE FROM documents WHERE slot = ?", slots)
        connection.executemany("INSERT INTO tombstones VALUES (?, ?)", [(slot, seq) for (slot,) in slots])
        _metadata_index.remove(connection, ((slot, metadata_from_json(metadata)) for slot, metadata in found))

    def _add_tokens(
        self, connection: Connection, appender: TokenAppender, batch: Batch, changes: dict[str, Any]
    ) -> Floats:
        """Write the tokens of a batch; returns the candidate vectors of its documents."""
        assert batch.tokens is not None  # the collection encodes before it writes
        appender.append(appender.codec.encode(batch.tokens.flat), batch.tokens.lengths)
        appender.sync()
        self._record_tokens(connection, appender, changes)
        return appender.codec.document_vectors(batch.tokens)

    def _first_generation(
        self, dim: int, snapshot: Snapshot, changes: dict[str, Any]
    ) -> tuple[list[TierView], TokenAppender | None]:
        Codec.parse(snapshot.codec_text).check_dim(dim)
        plain = Codec.identity(dim)
        changes |= {"generation": 1, "codec_state": plain.to_bytes()}
        appender = None
        if self._store.settings.multi_vector:
            codec = waiting_codec(snapshot.codec_text, dim)
            appender = TokenAppender.fresh(codec, self._store.new_vector_file, 1)
            changes |= {"fitted": 0, **codec.to_manifest()}
        else:
            changes["fitted"] = int(str(Codec.parse(snapshot.codec_text)) == str(plain))
        return self._new_tiers(plain, 1), appender

    # ------------------------------------------------------------------ generations

    def fit(self, codec_text: str | None = None) -> None:
        """Fit the codec on a sample of what is stored and re-encode everything.

        Parameters
        ----------
        codec_text : str or None
            Another codec to change to; None keeps the one that was asked for.

        Raises
        ------
        ParameterError
            When there is no document to fit it on.
        """
        store = self._store
        with store.write() as connection:
            snapshot = self._current(connection)
            text = codec_text or snapshot.codec_text
            if not snapshot.n_alive:
                raise ParameterError("expected at least one document to fit the codec on; the collection is empty")
            changes = {"codec": text, "fitted": 1}
            if snapshot.tokens is not None:
                codec, tokens = fit_late(snapshot, store.settings, text)
                chunks = late_reencoded(snapshot, codec, tokens)
                self._switch(connection, snapshot, codec, chunks, changes, tokens=tokens)
            else:
                codec = fit_codec(snapshot, store.settings, text)
                self._switch(connection, snapshot, codec, reencoded(snapshot, codec), changes)
        self._after_switch(snapshot)

    def adopt(self, codec: Codec, tokens: TokenCodec | None, changes: dict[str, Any]) -> None:
        """Start a new collection with codecs that were fitted elsewhere, and with what else the manifest should say.

        Raises
        ------
        ParameterError
            When the collection holds vectors already.
        """
        with self._store.write() as connection:
            snapshot = self._current(connection)
            if snapshot.generation != 0:
                raise ParameterError(
                    "expected a new collection to start with a fitted codec, but this one holds vectors"
                )
            changes = {"codec": str(codec), "dim": codec.in_dim, "fitted": 1} | changes
            self._switch(connection, snapshot, codec, (), changes, tokens=tokens)
        self._after_switch(snapshot)

    def compact(self, *, always: bool = False) -> int:
        """Renumber the slots without the dead ones; returns how many were dropped.

        Parameters
        ----------
        always : bool
            Write a new generation even where nothing is dead.
        """
        store = self._store
        with store.write() as connection:
            snapshot = self._current(connection)
            if snapshot.codec is None or (snapshot.dead == 0 and not always):
                return 0
            alive = np.flatnonzero(snapshot.alive)

            # Slots only ever move down, in rising order, so no two documents meet on the way.
            moves = ((new, int(old)) for new, old in enumerate(alive) if new != old)
            connection.executemany("UPDATE documents SET slot = ? WHERE slot = ?", moves)
            connection.execute("DELETE FROM tombstones")
            rebuild_metadata_index(connection)
            changes = {"slots": len(alive)}
            if snapshot.tokens is not None:
                chunks = late_kept(snapshot, alive)
                codec = snapshot.tokens.codec
                self._switch(connection, snapshot, snapshot.codec, chunks, changes, tokens=codec, renumbered=True)
            else:
                self._switch(connection, snapshot, snapshot.codec, kept(snapshot, alive), changes, renumbered=True)
        self._after_switch(snapshot)
        return snapshot.dead

    def rebuild(
        self, snapshot: Snapshot, damaged: Mapping[int, Mask], source: Slots, vectors: Mapping[int, Floats]
    ) -> None:
        """Write a new generation in which damaged rows come from another tier or from given vectors; see `mended`.

        Raises
        ------
        CollectionLockedError
            When another writer changed the collection since; look again.
        """
        with self._store.write() as connection:
            codec = self._unchanged(connection, snapshot)
            self._switch(connection, snapshot, codec, mended(snapshot, damaged, source, vectors), {})
        self._after_switch(snapshot)

    def rebuild_late(
        self, snapshot: Snapshot, lost: Mask, damaged: Mask, matrices: Mapping[int, TokenMatrices]
    ) -> None:
        """Write a new generation of a multi-vector collection with damaged parts made anew; see `late_mended`.

        Raises
        ------
        CollectionLockedError
            When another writer changed the collection since; look again.
        """
        assert snapshot.tokens is not None  # only called for multi-vector collections
        with self._store.write() as connection:
            codec = self._unchanged(connection, snapshot)
            chunks = late_mended(snapshot, codec, lost, damaged, matrices)
            self._switch(connection, snapshot, codec, chunks, {}, tokens=snapshot.tokens.codec)
        self._after_switch(snapshot)

    def _unchanged(self, connection: Connection, snapshot: Snapshot) -> Codec:
        current = self._current(connection)
        if current.seq != snapshot.seq or current.codec is None:
            raise CollectionLockedError(
                "the collection changed while it was being repaired; run verify(repair=True) again"
            )
        return current.codec

    def _switch(
        self,
        connection: Connection,
        snapshot: Snapshot,
        codec: Codec,
        chunks: Iterable[Rows],
        changes: dict[str, Any],
        *,
        tokens: TokenCodec | None = None,
        renumbered: bool = False,
    ) -> None:
        """Write a new generation of vector files and make the manifest point to it."""
        generation = snapshot.generation + 1
        tiers = self._new_tiers(codec, generation)
        appender = None
        if tokens is not None:
            appender = TokenAppender.fresh(tokens, self._store.new_vector_file, generation)
            changes |= tokens.to_manifest()
        connection.execute("DELETE FROM blocks")
        connection.execute("DELETE FROM artifacts WHERE name IN ('graph', 'cells')")
        if renumbered:
            connection.execute("DELETE FROM artifacts WHERE name = 'text'")
        start = 0
        tails = [0] * len(tiers)
        for rows in chunks:
            if appender is not None:
                assert rows.tokens is not None
                assert rows.lengths is not None
                appender.append(rows.tokens, rows.lengths)
            for number, (tier, part) in enumerate(zip(tiers, rows.tiers, strict=True)):
                tier.file.write(start, part)
                sums = block_checksums(part, start, tails[number])
                _write_blocks(connection, number, sums)
                end = start + len(part)
                tails[number] = sums[end // BLOCK_ROWS] if end % BLOCK_ROWS else 0
            start += len(rows)
        for tier in tiers:
            tier.file.sync()
            tier.file.close()
        if appender is not None:
            appender.sync()
            appender.close()
            self._record_tokens(connection, appender, changes)
        if self._store.folder is not None:
            self._store.folder.sync()
        changes |= {"generation": generation, "seq": snapshot.seq + 1, "codec_state": codec.to_bytes()}
        write_manifest(connection, changes)

    def _after_switch(self, old: Snapshot) -> None:
        self._publish()
        for file in old.files:
            file.unlink()

    @staticmethod
    def _record_tokens(connection: Connection, appender: TokenAppender, changes: dict[str, Any]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", [(*key, crc) for key, crc in appender.sums.items()]
        )
        changes["tokens"] = appender.n_tokens

    def _new_tiers(self, codec: Codec, generation: int) -> list[TierView]:
        tiers = []
        for number, pipeline in enumerate(codec.tiers):
            file = self._store.new_vector_file(generation, number, pipeline.layout.row_bytes)
            file.write(0, np.zeros((0, pipeline.layout.row_bytes), np.uint8))  # the file exists, even when empty
            tiers.append(TierView(pipeline, file, BlockGuard(file.name), file.view(0)))
        if self._store.folder is not None:
            self._store.folder.sync()
        return tiers

    # ------------------------------------------------------------------ publishing

    def _current(self, connection: Connection) -> Snapshot:
        self._store.require_open()
        snapshot = self._store.refresh(connection)
        assert snapshot is not None  # nobody commits while we hold the write lock
        return snapshot

    def _publish(self, *, own: bool = False) -> None:
        """Show searches what was just committed.

        The commit is durable, so a failure here must not look like one of the write: whoever reads next sees that there is
        a newer commit, tries again, and is told what is wrong.
        """
        with contextlib.suppress(OSError, OctavoError, Error, MemoryError), self._store.database.read() as connection:
            self._store.refresh(connection, own=own)


def stored_metadata(connection: Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield slot and metadata of every document, without holding them all in memory."""
    for slot, metadata in connection.execute("SELECT slot, metadata FROM documents ORDER BY slot"):
        yield slot, metadata_from_json(metadata)


def rebuild_metadata_index(connection: Connection) -> None:
    """Index the metadata of all documents anew, some thousand at a time."""
    _metadata_index.clear(connection)
    rows = stored_metadata(connection)
    while part := list(islice(rows, _CHUNK)):
        _metadata_index.insert(connection, part)


def _write_blocks(connection: Connection, tier: int, sums: dict[int, int]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", [(tier, block, crc) for block, crc in sums.items()]
    )
