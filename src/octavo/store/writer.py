"""Everything that changes a collection: adding, deleting, and switching to a new generation of vector files.

Each public method is one transaction: after it returns, the change survives power loss; when it raises, nothing changed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from octavo._arrays import Floats, release_arrays
from octavo._sparse_rows import SparseRows
from octavo.compression import Codec, Float16, Float32
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CollectionLockedError, InvalidVectorsError, OctavoError, ParameterError
from octavo.index import Tuning
from octavo.store import _originals
from octavo.store._generations import (
    FIT_SAMPLE,
    Rows,
    assessed,
    better_tiers,
    fit_codec,
    fit_late,
    fit_ready,
    kept,
    late_assessed,
    late_kept,
    late_learning_sample,
    late_mended,
    late_reencoded,
    learning_sample,
    mended,
    of_unit_length,
    reassessed,
    reencoded,
    waiting_codec,
)
from octavo.store._originals import Learned, errors_of, watched_rows
from octavo.store.database import (
    EMBED_WORDS,
    ROW,
    document_crc,
    drop_from_manifest,
    select_documents,
    write_manifest,
)
from octavo.store.documents import Batch, chunked, metadata_from_json
from octavo.store.metadata import index as _metadata_index
from octavo.store.reencoding import ENTRIES, PREFIX, Reencoding, Serve, SpaceChangedError
from octavo.store.settings import DERIVED, Settings
from octavo.store.snapshot import Mask, Slots, Snapshot, TierView, decode_rows
from octavo.store.sqlite import Connection, Error
from octavo.store.store import Store
from octavo.store.tokens import TokenAppender, TokenCodec
from octavo.store.vectors import BLOCK_ROWS, BlockGuard, block_checksums

#: Takes part in a write transaction: connection, added ids, deleted ids.
JoinedWrite: TypeAlias = Callable[[Connection, Sequence[str], Sequence[str]], None]

_OVERTAKEN = "another process changed the collection's files while documents were being encoded; try again"

#: Documents whose metadata is read at a time.
_CHUNK = 8_192


class Outdated(Exception):  # noqa: N818 - no error: whoever asked looks again
    """A row is no longer what it was when a change of it was prepared; holds the document's id."""


@dataclass(frozen=True)
class RowChange:
    """What the row of a document is to become: what `document_crc` takes, and the checksum of what it was."""

    row: tuple[str, str, str, str | None, str | None, int]
    crc: int


@dataclass(frozen=True)
class Update:
    """Rows that change without their vectors."""

    rows: Sequence[RowChange]

    @property
    def ids(self) -> list[str]:
        """The ids of the documents."""
        return [change.row[0] for change in self.rows]


class Writer:
    """The writing half of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._joined: list[JoinedWrite] = []
        self._followers: list[Callable[[Snapshot, bool], None]] = []

    def follow(self, callback: Callable[[Snapshot, bool], None]) -> None:
        """Call `callback(before, renumbered)` after a switch to a new generation of vector files, but for an erasure.

        `before` is the last state of the old one; `renumbered` tells whether slots without documents were left out.
        """
        self._followers.append(callback)

    def join(self, callback: JoinedWrite) -> None:
        """Call `callback(connection, added_ids, deleted_ids)` before the commit of every later add and delete."""
        if callback not in self._joined:
            self._joined.append(callback)

    def _tell(self, connection: Connection, added: Sequence[str], deleted: Sequence[str]) -> None:
        with self._store.database.calling("a function given to join_writes"):
            for callback in self._joined:
                callback(connection, added, deleted)

    # ------------------------------------------------------------------ add and delete

    def add(
        self,
        batch: Batch,
        encoder_fingerprint: dict[str, Any] | None = None,
        sparse_fingerprint: dict[str, Any] | None = None,
        *,
        beside: Update | None = None,
    ) -> None:
        """Insert or replace documents.

        `batch.vectors`, or `batch.tokens` in a multi-vector collection, are ready to be encoded (of unit length where
        cosine is meant).

        Parameters
        ----------
        batch : Batch
            The documents.
        encoder_fingerprint, sparse_fingerprint : dict or None
            What to write down of the encoders.
        beside : Update or None
            What else changes in the same transaction.

        Raises
        ------
        Outdated
            When a row that `beside` changes is no longer what it was; nothing was written.
        SpaceChangedError
            When the vectors are of another model than the collection has by now.
        """
        store = self._store
        with store.sparse_draft() as draft, store.write() as connection:
            snapshot = self._current(connection)
            if beside is not None:
                self._change_rows(connection, beside, snapshot.seq + 1)
            dim = batch.dim
            if batch.space is not None and batch.space != snapshot.space:
                raise SpaceChangedError
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
            if sparse_fingerprint is not None:
                changes["sparse_encoder"] = json.dumps(sparse_fingerprint)
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
            self._watch(connection, snapshot, batch, vectors, changes)
            replaced = list(select_documents(connection, "slot, metadata", "id", batch.ids))
            self._bury(connection, snapshot, replaced, seq)
            if batch.sparse is not None:
                alive = snapshot.alive.copy()
                alive[[slot for slot, _ in replaced]] = False
                sparse = draft.begun(connection, snapshot.sparse, start)
                changes["sparse"] = draft.add(connection, sparse, batch.sparse, start, alive).entry
            slots = range(start, start + len(batch))
            connection.executemany(
                "INSERT INTO documents (slot, id, text, metadata, payload, embed_text, flags, crc) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(slot, *row, document_crc(*row)) for slot, row in zip(slots, batch.rows(), strict=True)],
            )
            _metadata_index.insert(connection, zip(slots, batch.parsed, strict=True))
            changes |= {
                "seq": seq,
                "slots": start + len(batch),
                "alive": snapshot.n_alive + len(batch) - len(replaced),
            }
            write_manifest(connection, changes)
            self._tell(connection, [*batch.ids, *(beside.ids if beside is not None else ())], ())
        self._publish(own=True)
        if snapshot.generation == 0:
            for tier in tiers:
                tier.file.close()  # the published snapshot opens the file anew
            if appender is not None:
                appender.close()

    def update(self, changes: Update) -> None:
        """Change rows of documents; their vectors stay as they are.

        Raises
        ------
        Outdated
            When a row is no longer what it was; nothing was written.
        """
        with self._store.write() as connection:
            snapshot = self._current(connection)
            if self._change_rows(connection, changes, snapshot.seq + 1):
                write_manifest(connection, {"seq": snapshot.seq + 1})
            self._tell(connection, changes.ids, ())
        self._publish(own=True)

    def _change_rows(self, connection: Connection, changes: Update, seq: int) -> bool:
        """Put rows in the place of others; tells whether any differed."""
        rows = {row[1]: row for row in select_documents(connection, f"slot, {ROW}", "id", changes.ids)}
        old: list[tuple[int, Any]] = []
        new: list[tuple[int, Any]] = []
        written: list[tuple[Any, ...]] = []
        for change in changes.rows:
            found = rows.get(change.row[0])
            if found is None or found[-1] != change.crc or document_crc(*found[1:-1]) != change.crc:
                raise Outdated(change.row[0])
            slot, before = found[0], found[1:-1]
            if change.row == before:
                continue
            if change.row[2] != before[2]:
                old.append((slot, metadata_from_json(before[2])))
                new.append((slot, metadata_from_json(change.row[2])))
            if _words_of(change.row) != _words_of(before):
                connection.execute("INSERT OR REPLACE INTO retexted VALUES (?, ?)", (slot, seq))
            written.append((*change.row[1:], document_crc(*change.row), slot))
        connection.executemany(
            "UPDATE documents SET text = ?, metadata = ?, payload = ?, embed_text = ?, flags = ?, crc = ? WHERE slot = ?",
            written,
        )
        _metadata_index.remove(connection, old)
        _metadata_index.insert(connection, new)
        return bool(written)

    def delete(self, choose: Callable[[Connection, Snapshot], Sequence[int]] | None) -> int:
        """Delete documents; returns how many there were.

        Parameters
        ----------
        choose : callable or None
            Names the slots, inside the transaction, since a slot means nothing once another process has compacted.
            None deletes everything.
        """
        with self._store.sparse_draft() as draft, self._store.write() as connection:
            snapshot = self._current(connection)
            if choose is None:
                found = connection.execute("SELECT slot, metadata, id FROM documents").fetchall()
            else:
                chosen = choose(connection, snapshot)
                found = list(select_documents(connection, "slot, metadata, id", "slot", chosen))
            if not found:
                return 0
            seq, changes = snapshot.seq + 1, {}
            if len(found) == snapshot.n_alive:
                connection.execute("DELETE FROM documents")
                _metadata_index.clear(connection)
                for space in snapshot.spaces:
                    _originals.clear(connection, space.prefix)
                if snapshot.learned is not None:  # what comes from now on can be kept completely
                    emptied = replace(
                        snapshot.learned, documents=0, below=_originals.ALL, complete=True, seen=0, found=()
                    )
                    write_manifest(connection, {"learned": emptied.to_json()})
                connection.executemany("INSERT INTO tombstones VALUES (?, ?)", [(row[0], seq) for row in found])
                if snapshot.sparse is not None:
                    changes["sparse"] = draft.emptied(connection, snapshot.sparse, snapshot.n_slots).entry
            else:
                self._bury(connection, snapshot, [row[:2] for row in found], seq)
            write_manifest(connection, changes | {"seq": seq, "alive": snapshot.n_alive - len(found)})
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

    def set_full_text(self, full_text: Any) -> None:
        """Change what makes terms of texts; the text index is derived, and made anew by the next search by words."""
        wanted = Settings(full_text=full_text)
        with self._store.write() as connection:
            snapshot = self._current(connection)
            row = connection.execute("SELECT value FROM manifest WHERE key = 'settings'").fetchone()
            stored = {name: value for name, value in json.loads(row[0]).items() if name != "full_text_digest"}
            stored["full_text"] = wanted.full_text
            if wanted.full_text_digest is not None:
                stored["full_text_digest"] = wanted.full_text_digest
            connection.execute("DELETE FROM artifacts WHERE name = 'text'")
            write_manifest(connection, {"settings": json.dumps(stored), "seq": snapshot.seq + 1})
        self._store.take_words(wanted.full_text, wanted.full_text_digest, wanted.analyser)
        self._publish()

    def forget_originals(self) -> None:
        """Forget the vectors that are kept beside the codes."""
        with self._store.write() as connection:
            snapshot = self._current(connection)
            _originals.clear(connection)
            changes: dict[str, Any] = {"seq": snapshot.seq + 1}
            if snapshot.learned is not None:
                changes["learned"] = replace(snapshot.learned, complete=False).to_json()
            write_manifest(connection, changes)
        self._publish()

    def keep_originals(self, learned: str, ids: Sequence[str], matrices: Sequence[Floats]) -> None:
        """Take over what another collection knew of its codec, which this one started with, and the originals that it kept.

        Parameters
        ----------
        learned : str
            The entry of its manifest.
        ids : sequence of str
            Of documents that are here.
        matrices : sequence of ndarray of shape (n, dim)
            Their vectors.
        """
        seed = self._store.settings.seed or 0
        with self._store.write() as connection:
            snapshot = self._current(connection)
            slots = dict(select_documents(connection, "id, slot", "id", ids))
            rows = zip(ids, matrices, strict=True)
            _originals.insert(connection, ((slots[i], _originals.priority(i, seed), matrix) for i, matrix in rows))
            write_manifest(connection, {"learned": learned, "seq": snapshot.seq + 1})
        self._publish()

    def _bury(self, connection: Connection, snapshot: Snapshot, found: Sequence[tuple[int, str]], seq: int) -> None:
        if not found:
            return
        slots = [(slot,) for slot, _ in found]
        connection.executemany("DELETE FROM documents WHERE slot = ?", slots)
        connection.executemany("INSERT INTO tombstones VALUES (?, ?)", [(slot, seq) for (slot,) in slots])
        for space in snapshot.spaces:
            _originals.remove(connection, (slot for (slot,) in slots), space.prefix)
        if (
            snapshot.sparse is not None
        ):  # those of segments stay until these are merged, as codes do until the next generation
            connection.executemany("DELETE FROM sparse_rows WHERE slot = ?", slots)
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

    def _watch(
        self, connection: Connection, snapshot: Snapshot, batch: Batch, vectors: Floats, changes: dict[str, Any]
    ) -> None:
        """Measure how well the codec keeps a batch, and keep the originals of those documents that are in the sample.

        Of a batch that is kept worse than the codec was learned to keep, those of all: it will be learned again with them.
        """
        learned = snapshot.learned
        if learned is None or snapshot.codec is None or not len(batch):
            return
        if batch.decoded:
            changes["learned"] = replace(learned, complete=False).to_json()
            return
        settings = self._store.settings
        matrices: Iterable[Floats]
        if batch.tokens is not None and snapshot.tokens is not None:
            tiers, measured, matrices = [snapshot.tokens.codec.pipeline], batch.tokens.flat, batch.tokens
        else:
            tiers, measured, matrices = snapshot.codec.tiers, vectors, vectors[:, None]
        errors = [errors_of(tier, watched_rows(measured)) for tier in tiers] if len(measured) else []
        suspicious = False
        if errors:
            learned, suspicious = learned.watched(len(measured), [float(error.mean()) for error in errors])
        if learned.lossy or suspicious:
            seed = settings.seed or 0
            rows = (
                (slot, order, matrix)
                for slot, identifier, matrix in zip(
                    itertools.count(snapshot.n_slots), batch.ids, matrices, strict=False
                )
                if len(matrix)
                and (((order := _originals.priority(identifier, seed)) < learned.below and learned.lossy) or suspicious)
            )
            _originals.insert(connection, rows)
            learned = _originals.thin(connection, learned, self._capacity(snapshot, batch.dim))
        changes["learned"] = learned.to_json()

    @staticmethod
    def _capacity(snapshot: Snapshot, dim: int) -> int:
        return _originals.capacity(dim, late=snapshot.tokens is not None)

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
            self._learn(connection, snapshot, text)
        release_arrays()
        self._after_switch(snapshot)

    def learn_again(self, *, ended: bool) -> bool:
        """Fit the codec again if the collection has grown enough, or what arrives is kept badly; tells whether codes changed.

        Parameters
        ----------
        ended : bool
            The call that adds documents is over. Then the codec is learned from all of them where their originals are there.
        """
        store = self._store
        fit_after = store.settings.fit_after or 1

        def due(snapshot: Snapshot) -> bool:
            learned = snapshot.learned
            return (
                snapshot.n_alive > 0 and learned is not None and learned.due(snapshot.n_alive, fit_after, ended=ended)
            )

        if not due(store.snapshot):
            return False
        with store.write() as connection:
            snapshot = self._current(connection)
            if not due(snapshot):
                return False
            release_arrays()
            changed = self._learn(connection, snapshot, None)
        release_arrays()
        if changed:
            self._after_switch(snapshot)
        else:
            self._publish()
        return changed

    def _learn(self, connection: Connection, snapshot: Snapshot, codec_text: str | None) -> bool:
        """Fit the codec and re-encode what gains by it; tells whether anything does.

        Parameters
        ----------
        codec_text : str or None
            The codec to change to, whatever it gains; None fits the present one again.
        """
        settings, learned, dim = self._store.settings, snapshot.learned, snapshot.dim
        assert dim is not None  # there are vectors
        text = codec_text or snapshot.codec_text
        originals = _originals.read(connection, dim)
        changes: dict[str, Any] = {"codec": text, "fitted": 1}
        all_there = learned is not None and (learned.complete or not learned.lossy) and snapshot.n_alive <= FIT_SAMPLE
        renewed: list[bool] = []
        if snapshot.tokens is not None:
            sample = late_learning_sample(snapshot, settings, originals)
            codec, tokens = fit_late(sample, settings, text)
            found = late_assessed(tokens, sample, settings, snapshot.n_alive)
            if codec_text is None:
                pair = (Codec([tokens.pipeline]), Codec([snapshot.tokens.codec.pipeline]))
                renewed = better_tiers(*pair, sample.flat, always=all_there)
                if found is not None and learned is not None:
                    found = reassessed(found, learned, pair[1], sample.flat, renewed)
            chunks = late_reencoded(snapshot, codec, tokens, originals)
        else:
            vectors, tokens = learning_sample(snapshot, settings, originals), None
            codec = fit_codec(vectors, settings, text)
            found = assessed(codec, vectors, settings, snapshot.n_alive)
            if codec_text is None:
                assert snapshot.codec is not None  # something was learned
                renewed = better_tiers(codec, snapshot.codec, vectors, always=all_there)
                pairs = zip(renewed, codec.tiers, snapshot.codec.tiers, strict=True)
                codec = Codec([now if better else was for better, now, was in pairs])
                if found is not None and learned is not None:
                    found = reassessed(found, learned, snapshot.codec, vectors, renewed)
            chunks = reencoded(snapshot, codec, settings, originals, renewed)
        if found is not None:
            changes["learned"] = self._keep_sample(connection, snapshot, found).to_json()
        else:
            _originals.clear(connection)
            changes["learned"] = ""
        if codec_text is None and not any(renewed):
            write_manifest(connection, {"learned": changes["learned"], "seq": snapshot.seq + 1})
            return False
        self._switch(connection, snapshot, codec, chunks, changes, tokens=tokens)
        return True

    def _keep_sample(self, connection: Connection, snapshot: Snapshot, found: Learned) -> Learned:
        """Bring the originals in line with a codec that was learned from them; returns what is known of it."""
        before, dim, prefix = snapshot.learned, snapshot.dim or 1, snapshot.prefix
        if before is not None:
            found = replace(found, below=before.below, complete=before.complete)
            _originals.drop_recent(connection, found)
        if not found.lossy:
            _originals.clear(connection, prefix)
            return replace(found, below=_originals.ALL, complete=True)
        if before is not None and before.lossy:
            return found
        # What is there is as good as it came: waiting for its first codec, or in one that loses hardly anything.
        exact = before is not None or not snapshot.fitted or _is_float(snapshot)
        if not exact:
            return replace(found, complete=False)
        seed, most = self._store.settings.seed or 0, self._capacity(snapshot, dim)
        rows = connection.execute("SELECT slot, id FROM documents WHERE slot < ?", (snapshot.n_slots,))
        order = sorted((_originals.priority(identifier, seed), slot) for slot, identifier in rows)
        for part in chunked(order[: most + 1], _CHUNK):
            slots = np.array([slot for _, slot in part], np.int64)
            if snapshot.tokens is not None:
                matrices: Iterable[Floats] = snapshot.tokens.decode(slots)
            else:
                matrices = fit_ready(decode_rows(snapshot, slots), self._settings(snapshot))[:, None]
            there = _originals.slots_there(connection, prefix)
            triples = zip(part, matrices, strict=True)
            _originals.insert(
                connection,
                ((slot, rank, matrix) for (rank, slot), matrix in triples if len(matrix) and slot not in there),
                prefix,
            )
            found = _originals.thin(connection, found, most, prefix)
            if found.below != _originals.ALL:
                break
        return found

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
        with store.sparse_draft() as draft, store.write() as connection:
            snapshot = self._current(connection)
            if snapshot.codec is None or (snapshot.dead == 0 and not always):
                return 0
            alive = np.flatnonzero(snapshot.alive)

            # Slots only ever move down, in rising order, so no two documents meet on the way.
            moves = [(new, int(old)) for new, old in enumerate(alive) if new != old]
            connection.executemany("UPDATE documents SET slot = ? WHERE slot = ?", moves)
            for space in snapshot.spaces:
                _originals.renumber(connection, moves, space.prefix)
            connection.execute("DELETE FROM tombstones")
            connection.execute("DELETE FROM retexted")
            rebuild_metadata_index(connection)
            if snapshot.next is not None:
                self._keep_next(connection, snapshot, np.flatnonzero(snapshot.next.alive))
            changes: dict[str, Any] = {"slots": len(alive)}
            if snapshot.sparse is not None:
                changes["sparse"] = draft.renumbered(connection, snapshot.sparse, alive, moves).entry
            rows, tokens = _kept_rows(snapshot, alive)
            self._switch(connection, snapshot, snapshot.codec, rows, changes, tokens=tokens, renumbered=True)
        # Written anew to forget: then nothing goes on that may know of deleted documents, as centroids do.
        self._after_switch(snapshot, renumbered=True, followed=not always)
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

    def mend_sparse(
        self, snapshot: Snapshot, made: Mapping[str, tuple[Slots, SparseRows]], rows: Sequence[int]
    ) -> None:
        """Write damaged sparse vectors anew; see `SparseDraft.mended`.

        Raises
        ------
        CollectionLockedError
            When another writer changed the collection since; look again.
        """
        assert snapshot.sparse is not None  # or there would be no damage
        with self._store.sparse_draft() as draft, self._store.write() as connection:
            self._unchanged(connection, snapshot)
            mended = draft.mended(connection, snapshot.sparse, made, rows)
            write_manifest(connection, {"sparse": mended.entry, "seq": snapshot.seq + 1})
        self._publish()

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
        generation = snapshot.newest_generation + 1
        _drop_derived(connection)
        if renumbered:
            connection.execute("DELETE FROM artifacts WHERE name = 'text'")
        changes |= self._write_generation(connection, generation, codec, chunks, tokens)
        changes |= {"generation": generation, "seq": snapshot.seq + 1, "codec_state": codec.to_bytes()}
        write_manifest(connection, changes)

    def _write_generation(
        self,
        connection: Connection,
        generation: int,
        codec: Codec,
        chunks: Iterable[Rows],
        tokens: TokenCodec | None,
        prefix: str = "",
    ) -> dict[str, Any]:
        """Write the files of a generation, and their checksums; returns what there is to say of its tokens."""
        changes: dict[str, Any] = {}
        tiers = self._new_tiers(codec, generation)
        appender = None
        if tokens is not None:
            appender = TokenAppender.fresh(tokens, self._store.new_vector_file, generation)
            changes |= tokens.to_manifest()
        connection.execute(f"DELETE FROM {prefix}blocks")
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
                _write_blocks(connection, number, sums, prefix)
                end = start + len(part)
                tails[number] = sums[end // BLOCK_ROWS] if end % BLOCK_ROWS else 0
            start += len(rows)
        for tier in tiers:
            tier.file.sync()
            tier.file.close()
        if appender is not None:
            appender.sync()
            appender.close()
            self._record_tokens(connection, appender, changes, prefix)
        if self._store.folder is not None:
            self._store.folder.sync()
        return changes

    def _after_switch(self, old: Snapshot, *, renumbered: bool = False, followed: bool = True) -> None:
        """Show the new files, and delete those of `old` that are no longer used."""
        self._publish()
        for callback in self._followers if followed else ():
            callback(old, renumbered)
        used = {space.generation for space in self._store.snapshot.spaces}
        if self._store.snapshot.seq > old.seq:  # otherwise the next one to open the collection cleans up
            for space in old.spaces:
                if space.generation not in used:
                    for file in space.files:
                        file.unlink()

    @staticmethod
    def _record_tokens(
        connection: Connection, appender: TokenAppender, changes: dict[str, Any], prefix: str = ""
    ) -> None:
        connection.executemany(
            f"INSERT OR REPLACE INTO {prefix}blocks VALUES (?, ?, ?)",
            [(*key, crc) for key, crc in appender.sums.items()],
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

    # ------------------------------------------------------------------ changing the model

    def begin_reencoding(self, reencoding: Reencoding) -> None:
        """Begin to fill a second space with vectors of another model.

        Parameters
        ----------
        reencoding : Reencoding
            What is to be done; its generation, progress and states are filled in here.

        Raises
        ------
        CollectionLockedError
            When a change of the model is under way already.
        """
        store = self._store
        with store.write() as connection:
            snapshot = self._current(connection)
            if snapshot.next is not None:
                raise CollectionLockedError(
                    "another process has begun to re-encode the collection; wait until it is done, or cancel that first"
                )
            dim, generation = reencoding.dim, snapshot.newest_generation + 1
            Codec.parse(reencoding.codec).check_dim(dim)
            plain, tokens = Codec.identity(dim), None
            fitted = False
            if reencoding.late:
                tokens = waiting_codec(reencoding.codec, dim)
            else:
                fitted = str(Codec.parse(reencoding.codec)) == str(plain)
            _originals.clear(connection, PREFIX)
            states = self._write_generation(connection, generation, plain, (), tokens, PREFIX)
            self._record_next(connection, reencoding, plain, states, generation=generation, done=0, fitted=fitted)
            write_manifest(connection, {"seq": snapshot.seq + 1})
        self._publish()

    @staticmethod
    def _record_next(
        connection: Connection, reencoding: Reencoding, codec: Codec, states: dict[str, Any], **changes: Any
    ) -> None:
        """Write down how far a change of the model is, with files that are in another codec."""
        n_tokens = states.pop("tokens", reencoding.tokens)
        states = {"codec_state": codec.to_bytes(), **states}
        changed = replace(reencoding, tokens=n_tokens, states=states, **changes)
        write_manifest(connection, changed.to_manifest())

    def _next(self, connection: Connection) -> tuple[Snapshot, Snapshot, Reencoding]:
        """Return both spaces, and how far the second one is.

        Raises
        ------
        ParameterError
            When no change of the model is under way.
        """
        snapshot = self._current(connection)
        if snapshot.next is None or snapshot.reencoding is None:
            raise ParameterError(
                "the re-encoding of the collection has ended, or was cancelled by another process; info() says where it stands"
            )
        return snapshot, snapshot.next, snapshot.reencoding

    def sample_reencoded(self, generation: int, ids: Sequence[str], matrices: Sequence[Floats], seconds: float) -> None:
        """Keep the new vectors of documents of the sample, until the codec is learned from them.

        Parameters
        ----------
        generation : int
            Of the second space, as it was when the documents were read.
        ids : sequence of str
            Of documents; those that are gone are left out.
        matrices : sequence of ndarray of shape (n, dim)
            Their vectors, ready to be stored.
        seconds : float
            How long it took to encode them.
        """
        seed = self._store.settings.seed or 0
        with self._store.write() as connection:
            snapshot, following, reencoding = self._next(connection)
            if following.generation != generation:
                raise CollectionLockedError(_OVERTAKEN)
            slots = dict(select_documents(connection, "id, slot", "id", ids))
            rows = zip(ids, matrices, strict=True)
            there = ((slots[i], _originals.priority(i, seed), matrix) for i, matrix in rows if i in slots)
            _originals.insert(connection, there, PREFIX)
            counted = replace(
                reencoding, encoded=reencoding.encoded + len(ids), seconds=reencoding.seconds + seconds, states={}
            )
            write_manifest(connection, counted.to_manifest() | {"seq": snapshot.seq + 1})
        self._publish()

    def append_reencoded(
        self,
        first: int,
        last: int,
        generation: int,
        slots: Sequence[int],
        vectors: Floats | TokenMatrices,
        *,
        encoded: int,
        seconds: float,
        serve: Serve,
        about: Mapping[str, Sequence[str]],
    ) -> bool:
        """Write the new vectors of slots `first` up to `last`; False where another process has changed what they are.

        Parameters
        ----------
        first, last : int
            The rows; those before are there.
        generation : int
            Of the second space, as it was when the documents were read.
        slots : sequence of int
            Those of documents, in rising order; the others are dead. So are those of documents that were deleted meanwhile,
            whose vectors are not kept.
        vectors : ndarray of shape (len(slots), dim), or TokenMatrices
            Ready to be stored.
        encoded, seconds : int and float
            How many of them were encoded for this, and how long that took.
        serve : {"both", "old"}
            What answers searches from now on.
        about : mapping of str to sequence of str
            Ids of documents by which the model can be told, as the manifest's entry ``encoder`` lists them.
        """
        with self._store.write() as connection:
            snapshot, following, reencoding = self._next(connection)
            if following.generation != generation or reencoding.done != first or last > snapshot.n_slots:
                return False
            settings = reencoding.settings(self._store.settings)
            alive = snapshot.alive[np.asarray(slots, np.int64)]
            kept_slots, tokens, n_tokens = np.asarray(slots, np.int64)[alive], None, reencoding.tokens
            matrices: Sequence[Floats]
            if isinstance(vectors, TokenMatrices):
                assert following.tokens is not None  # it is a space of many vectors a document
                matrices = [vectors[i] for i in np.flatnonzero(alive).tolist()]
                appender = TokenAppender(following.tokens)
                spread: list[Floats] = [np.zeros((0, following.dim or 1), np.float32)] * (last - first)
                for slot, matrix in zip(kept_slots.tolist(), matrices, strict=True):
                    spread[slot - first] = matrix
                tokens = TokenMatrices.of(spread, dim=following.dim)
                appender.append(appender.codec.encode(tokens.flat), tokens.lengths)
                appender.sync()
                sums: dict[str, Any] = {}
                self._record_tokens(connection, appender, sums, PREFIX)
                n_tokens, rows = sums["tokens"], appender.codec.document_vectors(tokens)
            else:
                matrices = list(vectors[alive][:, None])
                rows = np.zeros((last - first, vectors.shape[1]), np.float32)
                rows[kept_slots - first] = vectors[alive]
            for number, tier in enumerate(following.tiers):
                codes = tier.pipeline.encode(rows)
                tier.file.write(first, codes)
                tier.file.sync()
                _write_blocks(connection, number, block_checksums(codes, first, tier.guard.tail()), PREFIX)
            learned = reencoding.known()
            if learned is not None and learned.lossy and len(kept_slots):
                seed, ids = settings.seed or 0, dict(select_documents(connection, "slot, id", "slot", slots))
                wanted = (
                    (slot, order, matrix)
                    for slot, matrix in zip(kept_slots.tolist(), matrices, strict=True)
                    if len(matrix) and (order := _originals.priority(ids[slot], seed)) < learned.below
                )
                _originals.insert(connection, wanted, PREFIX)
                learned = _originals.thin(connection, learned, self._capacity(following, reencoding.dim), PREFIX)
            encoder = reencoding.encoder
            encoder = {name: list(ids) for name, ids in about.items() if ids} | encoder
            changed = replace(
                reencoding,
                done=last,
                tokens=n_tokens,
                encoded=reencoding.encoded + encoded,
                seconds=reencoding.seconds + seconds,
                serve=serve,
                encoder=encoder,
                learned=learned.to_json() if learned is not None else reencoding.learned,
                states={},
            )
            write_manifest(connection, changed.to_manifest() | {"seq": snapshot.seq + 1})
        self._publish(own=True)
        return True

    def fit_reencoded(self) -> None:
        """Learn the codec of the second space, from the sample or from all that is there, and put its rows into it."""
        with self._store.write() as connection:
            snapshot, following, reencoding = self._next(connection)
            settings, generation = reencoding.settings(self._store.settings), snapshot.newest_generation + 1
            originals = _originals.read(connection, reencoding.dim, PREFIX)
            tokens = None
            if following.tokens is not None:
                from_sample = reencoding.below != _originals.ALL
                matrices = (
                    of_unit_length(
                        TokenMatrices.of([matrix for matrix in originals.values() if len(matrix)], dim=reencoding.dim)
                    )
                    if from_sample
                    else late_learning_sample(following, settings, originals)
                )
                codec, tokens = fit_late(matrices, settings, reencoding.codec)
                found = late_assessed(tokens, matrices, settings, snapshot.n_alive)
                chunks = late_reencoded(following, codec, tokens, originals)
            else:
                if reencoding.below != _originals.ALL:
                    vectors = fit_ready(np.concatenate(list(originals.values())), settings)
                else:
                    vectors = learning_sample(following, settings, originals)
                codec = fit_codec(vectors, settings, reencoding.codec)
                found = assessed(codec, vectors, settings, snapshot.n_alive)
                chunks = reencoded(following, codec, settings, originals)
            learned = ""
            if found is not None and reencoding.below != _originals.ALL:  # the sample stays until its rows are written
                whole = replace(found, below=_originals.ALL, complete=True)
                learned = (replace(found, below=reencoding.below, complete=False) if found.lossy else whole).to_json()
            elif found is not None:
                learned = self._keep_sample(connection, following, found).to_json()
            states = self._write_generation(connection, generation, codec, chunks, tokens, PREFIX)
            _drop_derived(connection, PREFIX)
            changes = {"generation": generation, "fitted": True, "learned": learned}
            self._record_next(connection, reencoding, codec, states, **changes)
            write_manifest(connection, {"seq": snapshot.seq + 1})
        self._after_switch(snapshot, followed=False)

    def finish_reencoding(self) -> bool:
        """Make the second space the first and drop the old one, in one commit; False where it does not hold all rows yet."""
        with self._store.write() as connection:
            snapshot, following, reencoding = self._next(connection)
            if reencoding.done != snapshot.n_slots:
                return False
            learned = reencoding.known()
            if learned is None or not learned.lossy:
                _originals.clear(connection, PREFIX)
            for table in ("blocks", "originals"):
                connection.execute(f"DELETE FROM {table}")
                connection.execute(f"INSERT INTO {table} SELECT * FROM {PREFIX}{table}")
                connection.execute(f"DELETE FROM {PREFIX}{table}")
            _drop_derived(connection)
            for index in DERIVED:
                connection.execute("UPDATE artifacts SET name = ? WHERE name = ?", (index, f"{PREFIX}{index}"))
            changes = reencoding.as_manifest()
            changes |= {
                "seq": snapshot.seq + 1,
                "slots": snapshot.n_slots,
                "space": snapshot.space + 1,
                "learned": replace(learned, documents=max(1, snapshot.n_alive)).to_json()
                if learned is not None
                else "",
                "encoder": json.dumps(reencoding.encoder),
                "tuning": "",
            }
            if reencoding.kind != self._store.settings.kind:
                changes["settings"] = reencoding.settings(self._store.settings).fixed()
            if following.tokens is None:
                drop_from_manifest(connection, ("tokens", "token_codec", "candidate_state"))
                del changes["tokens"]
            write_manifest(connection, changes)
            drop_from_manifest(connection, ENTRIES)
        if "settings" in changes:
            self._store.settings = reencoding.settings(self._store.settings)
        self._after_switch(snapshot, followed=False)
        return True

    def cancel_reencoding(self) -> bool:
        """Drop the second space; False where there is none."""
        with self._store.write() as connection:
            snapshot = self._current(connection)
            if snapshot.next is None:
                return False
            for table in ("blocks", "originals"):
                connection.execute(f"DELETE FROM {PREFIX}{table}")
            _drop_derived(connection, PREFIX)
            drop_from_manifest(connection, ENTRIES)
            write_manifest(connection, {"seq": snapshot.seq + 1})
        self._after_switch(snapshot, followed=False)
        return True

    def start_over(self, changes: dict[str, Any]) -> bool:
        """Forget vectors, codec and encoder of a collection without documents; False where there are some."""
        with self._store.write() as connection:
            snapshot = self._current(connection)
            if snapshot.n_alive or snapshot.next is not None:
                return False
            for table in ("tombstones", "blocks", "originals", "artifacts"):
                connection.execute(f"DELETE FROM {table}")
            drop_from_manifest(connection, ("encoder", "tokens", "token_codec", "candidate_state"))
            fresh = {
                "generation": 0,
                "slots": 0,
                "codec_state": b"",
                "fitted": 0,
                "dim": None,
                "learned": "",
                "tuning": "",
            }
            write_manifest(connection, fresh | {"seq": snapshot.seq + 1, "space": snapshot.space + 1} | changes)
        self._after_switch(snapshot, followed=False)
        return True

    def _keep_next(self, connection: Connection, snapshot: Snapshot, slots: Slots) -> None:
        """Write the second space's rows of some slots, and no others, to a new generation."""
        following, reencoding = snapshot.next, snapshot.reencoding
        assert following is not None
        assert reencoding is not None
        assert following.codec is not None
        generation = snapshot.newest_generation + 2  # the first space may get the number between
        rows, tokens = _kept_rows(following, slots)
        states = self._write_generation(connection, generation, following.codec, rows, tokens, PREFIX)
        _drop_derived(connection, PREFIX)
        changes = {"generation": generation, "done": len(slots)}
        self._record_next(connection, reencoding, following.codec, states, **changes)

    def shorten_reencoding(self, snapshot: Snapshot, done: int) -> None:
        """Drop the rows of the second space from a slot on: they are damaged, and are encoded again.

        Raises
        ------
        CollectionLockedError
            When another writer changed the collection since; look again.
        """
        with self._store.write() as connection:
            self._unchanged(connection, snapshot)
            self._keep_next(connection, snapshot, np.arange(done))
            write_manifest(connection, {"seq": snapshot.seq + 1})
        self._after_switch(snapshot, followed=False)

    def _settings(self, snapshot: Snapshot) -> Settings:
        """Return the settings of a space."""
        settings = self._store.settings
        return snapshot.reencoding.settings(settings) if snapshot.prefix and snapshot.reencoding else settings

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
        with contextlib.suppress(OSError, OctavoError, Error, MemoryError), self._store.connected() as connection:
            self._store.refresh(connection, own=own)


def _drop_derived(connection: Connection, prefix: str = "") -> None:
    """Forget what finds candidates in a space; whoever made its files deletes them."""
    connection.executemany("DELETE FROM artifacts WHERE name = ?", [(f"{prefix}{index}",) for index in DERIVED])


def _words_of(row: Sequence[Any]) -> str:
    """Return what a search by words looks into."""
    _, text, _, _, embed_text, flags = row
    found: str = embed_text if flags & EMBED_WORDS and embed_text is not None else text
    return found


def _is_float(snapshot: Snapshot) -> bool:
    """Tell whether what is stored is as good as it came: floats of full width."""
    tier = snapshot.tokens.codec.pipeline if snapshot.tokens is not None else snapshot.tiers[-1].pipeline
    return not tier.reducers and isinstance(tier.quantizer, Float32 | Float16)


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


def _kept_rows(snapshot: Snapshot, slots: Slots) -> tuple[Iterator[Rows], TokenCodec | None]:
    """Return the rows of some slots as they are, and the codec of their tokens, where there are some."""
    if snapshot.tokens is not None:
        return late_kept(snapshot, slots), snapshot.tokens.codec
    return kept(snapshot, slots), None


def _write_blocks(connection: Connection, tier: int, sums: dict[int, int], prefix: str = "") -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO {prefix}blocks VALUES (?, ?, ?)", [(tier, block, crc) for block, crc in sums.items()]
    )
