"""The token tier of a multi-vector collection: codes of all documents' tokens, and where each document's begin.

Two files a generation, kept as the fixed-width tiers are: ``g<gen>-tokens.vec`` holds one row a token, documents in order of
slot; row *s* of ``g<gen>-offsets.vec`` says which row of the first is the first of slot *s*, and one row more where the
last slot ends. Begins are kept instead of counts so that a damaged block loses its own documents and no others.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats
from octavo._layout import CodeLayout
from octavo.compression import Codec, Pipeline
from octavo.compression.candidates import CandidateEncoder, candidate_encoder_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CodecError, CorruptCollectionError, OctavoError
from octavo.store.sqlite import Connection
from octavo.store.vectors import BLOCK_ROWS, BlockGuard, Codes, VectorFile, block_checksums

#: What stands for the token tier in the name of its file and in the table of block checksums.
TOKENS, TOKENS_TIER = "tokens", -1
OFFSETS, OFFSETS_TIER = "offsets", -2

OFFSET_BYTES = 8

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenCodec:
    """What turns token vectors into codes and into candidate vectors.

    Parameters
    ----------
    pipeline : Pipeline
        The fitted tier that token vectors are stored in.
    candidates : CandidateEncoder or None
        Makes the vector that finds a document; None until there are enough documents to fit it on.
    """

    pipeline: Pipeline
    candidates: CandidateEncoder | None

    @classmethod
    def fit(cls, codec_text: str, sample: TokenMatrices, candidates: CandidateEncoder, *, seed: int) -> TokenCodec:
        """Learn from the tokens of some documents, which are of unit length."""
        pipeline = Codec.parse(codec_text).tiers[0].fit(sample.flat, seed=seed, lengths=False)
        return cls(pipeline, candidates.fit(sample, seed=seed))

    def encode(self, tokens: Floats) -> Codes:
        """Return the codes of documents' tokens, of shape ``(n_tokens, row_bytes)``."""
        return self.pipeline.encode(tokens)

    def encode_queries(self, tokens: Floats) -> Codes:
        """Return the codes of a query's tokens, of shape ``(n_tokens, row_bytes)``."""
        return self.pipeline.encode_queries(tokens)

    def query_offset(self, tokens: Floats) -> Floats:
        """Return what to add to the similarities of each of a query's tokens, of shape ``(n_tokens,)``."""
        return self.pipeline.query_offset(tokens)

    def document_vectors(self, tokens: TokenMatrices) -> Floats:
        """Return the candidate vectors of documents, of shape ``(n, out_dim)``; the mean while nothing is fitted."""
        if self.candidates is not None:
            return self.candidates.encode_documents(tokens)
        return mean_vectors(tokens)

    def query_vectors(self, tokens: TokenMatrices) -> Floats:
        """Return the candidate vectors of queries, of shape ``(m, out_dim)``."""
        return self.candidates.encode_queries(tokens) if self.candidates is not None else mean_vectors(tokens)

    def to_manifest(self) -> dict[str, bytes]:
        """Return the learned state for the manifest."""
        return {"token_codec": Codec([self.pipeline]).to_bytes(), "candidate_state": _dump(self.candidates)}

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> TokenCodec:
        """Restore what `to_manifest` returned.

        Raises
        ------
        CorruptCollectionError
            When the stored state is damaged.
        """
        try:
            return cls(Codec.from_bytes(manifest["token_codec"]).tiers[0], _load(manifest["candidate_state"]))
        except (CodecError, KeyError) as err:
            raise CorruptCollectionError(
                f"the stored state of the token codec cannot be read ({err}); restore octavo.db from a backup"
            ) from err


def mean_vectors(tokens: TokenMatrices) -> Floats:
    """Return the mean of each document's tokens; zero where there are none."""
    means = np.zeros((len(tokens), tokens.dim), np.float32)
    filled = np.flatnonzero(tokens.lengths)
    if len(filled):
        sums = np.add.reduceat(tokens.flat, tokens.offsets[filled], axis=0, dtype=np.float64)
        means[filled] = sums / tokens.lengths[filled, None]
    return means


def _dump(encoder: CandidateEncoder | None) -> bytes:
    if encoder is None:
        return b""
    arrays: dict[str, Any] = {f"state.{name}": array for name, array in encoder.get_state().items()}
    arrays["config"] = np.frombuffer(json.dumps(encoder.get_config()).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _load(data: bytes) -> CandidateEncoder | None:
    if not data:
        return None
    try:
        # An npz archive is a zip file: Python's reader compares the CRC-32 of each array. No pickle.
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            _check_sizes(archive.zip, len(data))
            arrays = {name: archive[name] for name in archive.files}
        encoder = candidate_encoder_from_config(json.loads(arrays.pop("config").tobytes()))
        return encoder.set_state({name.removeprefix("state."): array for name, array in arrays.items()})
    except (ValueError, KeyError, TypeError, OSError, EOFError, SyntaxError, zipfile.BadZipFile, OctavoError) as err:
        raise CodecError(f"the stored candidate encoder cannot be read: {err}") from err


def _check_sizes(archive: zipfile.ZipFile, available: int) -> None:
    """Refuse an archive whose arrays claim more bytes than there are, before memory is taken for them."""
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > available:
            raise CodecError(f"the array {member.filename!r} is compressed or longer than the archive")
        with archive.open(member) as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if math.prod(shape) * dtype.itemsize > member.file_size:
            raise CodecError(f"the array {member.filename!r} has shape {shape}, but {member.file_size} bytes")


@dataclass(frozen=True)
class TokenView:
    """The tokens that belong to a snapshot.

    Parameters
    ----------
    codec : TokenCodec
        What made the codes.
    file, guard, codes
        One row a token, of shape ``(n_tokens, row_bytes)``.
    offset_file, offset_guard, offsets
        First token of each slot, int64 of shape ``(n_slots + 1,)``; a view of the mapped file.
    """

    codec: TokenCodec
    file: VectorFile
    guard: BlockGuard
    codes: Codes
    offset_file: VectorFile
    offset_guard: BlockGuard
    offsets: Slots

    @property
    def layout(self) -> CodeLayout:
        """How a token's row lies in memory."""
        return self.codec.pipeline.layout

    @property
    def files(self) -> tuple[VectorFile, VectorFile]:
        """Both files."""
        return self.file, self.offset_file

    @property
    def offset_rows(self) -> Codes:
        """The offsets as rows of bytes, as they lie in their file."""
        return as_rows(self.offsets)

    def check(self, slots: Slots | None = None) -> None:
        """Verify the checksums of what belongs to `slots` (None: of everything), once each.

        Raises
        ------
        CorruptCollectionError
            When a block does not match; the message names the file.
        """
        if slots is None:
            self.offset_guard.check_all(self.offset_rows)
            self._check_ranges(self.offsets[:-1], self.offsets[1:])
            self.guard.check_all(self.codes)
            return
        self.check_offsets(slots)
        if not self.guard.all_good:
            self.guard.check_rows(self.codes, touched_rows(self.offsets[slots], self.offsets[slots + 1]))

    def check_offsets(self, slots: Slots) -> None:
        """Verify the offsets of `slots` alone."""
        if not self.offset_guard.all_good:
            self.offset_guard.check_rows(self.offset_rows, np.concatenate([slots, slots + 1]))
        self._check_ranges(self.offsets[slots], self.offsets[slots + 1])

    def _check_ranges(self, starts: Slots, ends: Slots) -> None:
        # Not only the first time: somebody may have written over the file since, and native code trusts what it is told.
        if len(starts) and (int(starts.min()) < 0 or bool((ends < starts).any()) or int(ends.max()) > len(self.codes)):
            raise CorruptCollectionError(
                f"{self.offset_guard.name} is damaged: it points beyond the tokens; run verify(repair=True)"
            )

    def lengths(self, slots: Slots) -> Slots:
        """Return the number of tokens of each slot."""
        lengths: Slots = self.offsets[slots + 1] - self.offsets[slots]
        return lengths

    def rows(self, slots: Slots) -> Codes:
        """Return the codes of all tokens of `slots`, one slot after the other, verified."""
        self.check(slots)
        return self.codes[_ranges(self.offsets[slots], self.lengths(slots))]

    def decode(self, slots: Slots) -> TokenMatrices:
        """Return the token vectors of `slots`, verified and decoded."""
        rows = self.rows(slots)
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(self.lengths(slots), out=offsets[1:])
        return TokenMatrices(self.codec.pipeline.decode(rows), offsets)


def touched_rows(starts: Slots, ends: Slots) -> Slots:
    """Return one row of every block that the ranges ``[start, end)`` touch."""
    filled = ends > starts
    first = starts[filled] // BLOCK_ROWS
    counts = (ends[filled] - 1) // BLOCK_ROWS - first + 1
    return _ranges(first, counts) * BLOCK_ROWS


def _ranges(starts: Slots, lengths: Slots) -> Slots:
    """Return the integers of ``[start, start + length)`` for each start, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def as_rows(offsets: Slots) -> Codes:
    """Return int64 values as the rows of bytes that are stored: little-endian."""
    return np.ascontiguousarray(offsets, "<i8").view(np.uint8).reshape(-1, OFFSET_BYTES)


def as_offsets(rows: Codes) -> Slots:
    """Return stored rows as int64 values, without a copy on little-endian machines."""
    return rows.reshape(-1).view("<i8").astype(np.int64, copy=False)


# ---------------------------------------------------------------------- opening and growing

OpenFile = Callable[[int, "int | str", int], VectorFile]


def open_tokens(
    connection: Connection, manifest: dict[str, Any], open_file: OpenFile, *, known_good: bool, prefix: str = ""
) -> TokenView:
    """Return the tokens of the generation that the manifest names; `prefix` is what the table of its checksums begins with."""
    codec = TokenCodec.from_manifest(manifest)
    n_slots, n_tokens, generation = (int(manifest[key]) for key in ("slots", "tokens", "generation"))
    file = open_file(generation, TOKENS, codec.pipeline.layout.row_bytes)
    offset_file = open_file(generation, OFFSETS, OFFSET_BYTES)
    guard, offset_guard = BlockGuard(file.name), BlockGuard(offset_file.name)
    guard.expect(n_tokens, _sums(connection, prefix, TOKENS_TIER), known_good=known_good)
    offset_guard.expect(n_slots + 1, _sums(connection, prefix, OFFSETS_TIER), known_good=known_good)
    offsets = as_offsets(offset_file.view(n_slots + 1))
    return TokenView(codec, file, guard, file.view(n_tokens), offset_file, offset_guard, offsets)


def grow_tokens(
    connection: Connection, current: TokenView, n_slots: int, n_tokens: int, *, own: bool, prefix: str = ""
) -> TokenView:
    """Return the view after a commit within the same generation."""
    codes = current.file.view(n_tokens)
    offsets = as_offsets(current.offset_file.view(n_slots + 1))
    first, first_slot = len(current.codes) // BLOCK_ROWS, len(current.offsets) // BLOCK_ROWS
    current.guard.expect(n_tokens, _sums(connection, prefix, TOKENS_TIER, first), known_good=own)
    current.offset_guard.expect(n_slots + 1, _sums(connection, prefix, OFFSETS_TIER, first_slot), known_good=own)
    return replace(current, codes=codes, offsets=offsets)


def _sums(connection: Connection, prefix: str, tier: int, first: int = 0) -> dict[int, int]:
    rows = connection.execute(f"SELECT block, crc FROM {prefix}blocks WHERE tier = ? AND block >= ?", (tier, first))
    return dict(rows.fetchall())


# ---------------------------------------------------------------------- writing


class TokenAppender:
    """Writes tokens behind those of a view, slot after slot; the caller commits.

    Parameters
    ----------
    view : TokenView
        Where it goes on.
    """

    def __init__(self, view: TokenView) -> None:
        self._view = view
        self.n_tokens = len(view.codes)
        self._next_slot = len(view.offsets)  # row of the offsets file: slot s ends where row s + 1 says
        self._tail, self._offset_tail = view.guard.tail(), view.offset_guard.tail()
        self.sums: dict[tuple[int, int], int] = {}  # (tier, block) -> CRC-32

    @classmethod
    def fresh(cls, codec: TokenCodec, new_file: OpenFile, generation: int) -> TokenAppender:
        """Begin the files of a new generation."""
        file = new_file(generation, TOKENS, codec.pipeline.layout.row_bytes)
        offset_file = new_file(generation, OFFSETS, OFFSET_BYTES)
        file.write(0, np.zeros((0, file.row_bytes), np.uint8))  # the file exists, even when empty
        nothing = np.zeros(0, np.int64)
        guards = BlockGuard(file.name), BlockGuard(offset_file.name)
        appender = cls(TokenView(codec, file, guards[0], file.view(0), offset_file, guards[1], nothing))
        appender._write_offsets(np.zeros(1, np.int64))
        return appender

    @property
    def codec(self) -> TokenCodec:
        """What makes the codes."""
        return self._view.codec

    def append(self, codes: Codes, lengths: Slots | Sequence[int]) -> None:
        """Write the codes of consecutive slots with so many tokens each."""
        self._view.file.write(self.n_tokens, codes)
        sums = block_checksums(codes, self.n_tokens, self._tail)
        self._tail = self._remember(TOKENS_TIER, sums, self.n_tokens + len(codes), self._tail)
        ends = self.n_tokens + np.cumsum(np.asarray(lengths, np.int64))
        self.n_tokens += len(codes)
        self._write_offsets(ends)

    def _write_offsets(self, values: Slots) -> None:
        rows = as_rows(values)
        self._view.offset_file.write(self._next_slot, rows)
        sums = block_checksums(rows, self._next_slot, self._offset_tail)
        self._next_slot += len(rows)
        self._offset_tail = self._remember(OFFSETS_TIER, sums, self._next_slot, self._offset_tail)

    def _remember(self, tier: int, sums: dict[int, int], end: int, tail: int) -> int:
        self.sums.update({(tier, block): crc for block, crc in sums.items()})
        if end % BLOCK_ROWS == 0:
            return 0
        return sums.get(end // BLOCK_ROWS, tail)

    def sync(self) -> None:
        """Make everything survive power loss."""
        for file in self._view.files:
            file.sync()

    def close(self) -> None:
        """Release the file handles."""
        for file in self._view.files:
            file.close()
