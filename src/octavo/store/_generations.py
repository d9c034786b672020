"""New generations of vector files: what is learned, and the rows that are written.

Functions that begin with ``late`` are those of multi-vector collections, whose rows are tokens and candidate vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from octavo._arrays import Floats, unit_rows
from octavo.compression import Codec, Float32
from octavo.compression.candidates import candidate_encoder_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import ParameterError
from octavo.store._originals import ALL, NEGLIGIBLE, Learned, errors_of, overlaid
from octavo.store.settings import Settings, check_token_codec
from octavo.store.snapshot import Mask, Slots, Snapshot, TierView, decode_rows
from octavo.store.tokens import TokenCodec, TokenView
from octavo.store.vectors import Codes

#: Vectors that the codec is fitted on, at most.
FIT_SAMPLE = 16_384

#: Values of the token vectors that the codec and the candidate encoder are fitted on, at most: 131,072 tokens of 128, 64 MB.
FIT_VALUES = 1 << 24

#: Documents whose originals are enough to learn from them alone, where there are more.
_LEAST_SAMPLE = 1_000

#: Vectors from which on a quarter of the sample is set apart to measure errors.
_LEAST_APART = 64

#: A tier is exchanged when the new one loses less than this part of what the old one loses.
_CLEARLY = 0.95

#: Vectors from which it is judged what a tier loses. Of one bit a value the standard error of the mean is .1 to .5 % of it, of
#: `int8`, which loses little but of outliers, 2 to 9 %; old and new tier are compared on the same vectors.
_JUDGED = 4_096

#: Slots, and tokens, decoded or re-encoded at a time.
_CHUNK_SLOTS, _CHUNK_TOKENS = 8_192, 1 << 13


@dataclass(frozen=True)
class Rows:
    """Codes of consecutive slots, on their way into the files.

    Parameters
    ----------
    tiers : list of ndarray of shape (n, row_bytes)
        One a tier.
    tokens : ndarray of shape (n_tokens, row_bytes) or None
        Token codes of a multi-vector collection.
    lengths : ndarray of shape (n,) or None
        How many of them belong to each slot.
    """

    tiers: list[Codes]
    tokens: Codes | None = None
    lengths: Slots | None = None

    def __len__(self) -> int:
        return len(self.tiers[0])


# ---------------------------------------------------------------------- one vector a document


def learning_sample(snapshot: Snapshot, settings: Settings, originals: Mapping[int, Floats]) -> Floats:
    """Return the vectors that a codec is learned from; there is at least one document.

    They are the originals that are kept, if those are all or a fair sample, and what can be decoded otherwise.
    """
    alive = np.flatnonzero(snapshot.alive)
    learned = snapshot.learned
    kept = np.fromiter(originals, np.int64, len(originals))
    fair = learned is not None and learned.lossy and (learned.complete or learned.below < ALL)
    if fair and len(kept) >= min(len(alive), _LEAST_SAMPLE):
        return fit_ready(np.concatenate([originals[slot] for slot in kept.tolist()]), settings)
    rng = np.random.default_rng(settings.seed)
    chosen = alive if len(alive) <= FIT_SAMPLE else np.sort(rng.choice(alive, FIT_SAMPLE, replace=False))
    chosen = np.union1d(chosen, kept)
    return fit_ready(overlaid(chosen, decode_rows(snapshot, chosen), originals), settings)


def fit_ready(vectors: Floats, settings: Settings) -> Floats:
    """Return vectors as they came in: what a codec gives back is not quite of unit length."""
    return unit_rows(vectors, keep_zeros=True) if settings.metric == "cosine" else vectors


def fit_codec(sample: Floats, settings: Settings, codec_text: str) -> Codec:
    """Fit a codec on a sample."""
    return Codec.parse(codec_text).fit(sample, seed=settings.seed or 0, lengths=settings.metric != "cosine")


def assessed(codec: Codec, sample: Floats, settings: Settings, documents: int) -> Learned | None:
    """Return what to expect of a codec that was learned from `sample`: the errors on a part of it, once learned from the rest.

    None where the codec learns nothing.
    """
    if not codec.needs_fit:
        return None
    order = np.random.default_rng(settings.seed).permutation(len(sample))
    apart = len(sample) // 4 if len(sample) >= _LEAST_APART else 0
    held_out, rest = sample[order[:apart]], sample[order[apart:]]
    measured = fit_codec(rest, settings, str(codec)) if apart else codec
    errors = [errors_of(tier, held_out if apart else sample) for tier in measured.tiers]
    return Learned(
        documents,
        errors=tuple(float(error.mean()) for error in errors),
        spreads=tuple(float(error.std()) for error in errors),
        learning=tuple(tier.needs_fit for tier in codec.tiers),
    )


def reassessed(found: Learned, learned: Learned, codec: Codec, sample: Floats, renewed: Sequence[bool]) -> Learned:
    """Return what to expect of tiers that were not renewed: what they lose of the sample, or lost of what came last."""
    errors, spreads = list(found.errors), list(found.spreads)
    sample = _spread_over(sample, _JUDGED)
    for number, tier in enumerate(codec.tiers):
        if not renewed[number]:
            measured = errors_of(tier, sample)
            last = learned.found[number] if learned.found else 0.0
            errors[number], spreads[number] = max(float(measured.mean()), last), float(measured.std())
    return replace(found, errors=tuple(errors), spreads=tuple(spreads))


def better_tiers(new: Codec, old: Codec, sample: Floats, *, always: bool) -> list[bool]:
    """Tell which tiers of a codec are worth exchanging: those that lose something, and less of it in the new one."""
    sample = _spread_over(sample, _JUDGED)
    return [
        now.needs_fit
        and (before := float(errors_of(was, sample).mean())) > NEGLIGIBLE
        and (always or float(errors_of(now, sample).mean()) < _CLEARLY * before)
        for now, was in zip(new.tiers, old.tiers, strict=True)
    ]


def _spread_over(sample: Floats, n: int) -> Floats:
    """Return every so many-th vector of a sample, so that `n` to twice as many are left."""
    return sample[:: max(1, len(sample) // n)]


def reencoded(
    snapshot: Snapshot, codec: Codec, settings: Settings, originals: Mapping[int, Floats], renewed: Sequence[bool] = ()
) -> Iterator[Rows]:
    """Yield every slot in other codes, made of the original vector where it is kept.

    Parameters
    ----------
    snapshot : Snapshot
        What is there.
    codec : Codec
        What makes the codes.
    settings : Settings
        Of the collection.
    originals : mapping of int to ndarray of shape (1, dim)
        By slot.
    renewed : sequence of bool, optional
        Which tiers get other codes; those of the others stay. All of them, if left out.
    """
    for rows in _runs(snapshot.n_slots):
        vectors = fit_ready(overlaid(rows, decode_rows(snapshot, rows), originals), settings)
        yield Rows(
            [
                pipeline.encode(vectors) if not renewed or renewed[number] else _rows_of(snapshot.tiers[number], rows)
                for number, pipeline in enumerate(codec.tiers)
            ]
        )


def _rows_of(tier: TierView, rows: Slots) -> Codes:
    tier.check(rows)
    return tier.codes[rows]


def kept(snapshot: Snapshot, slots: Slots) -> Iterator[Rows]:
    """Yield the rows of `slots` as they are."""
    for start in range(0, len(slots), _CHUNK_SLOTS):
        rows = slots[start : start + _CHUNK_SLOTS]
        for tier in snapshot.tiers:
            tier.check(rows)
        yield Rows([tier.codes[rows] for tier in snapshot.tiers])


def mended(
    snapshot: Snapshot, damaged: Mapping[int, Mask], source: Slots, vectors: Mapping[int, Floats]
) -> Iterator[Rows]:
    """Yield every slot with damaged rows made anew.

    Parameters
    ----------
    snapshot : Snapshot
        The state in which the damage was found.
    damaged : mapping of int to ndarray of bool
        Which rows of each tier are damaged.
    source : ndarray of int, shape (n_slots,)
        The tier from which a row is decoded.
    vectors : mapping of int to ndarray of shape (dim,)
        Better: the vector itself, by slot.
    """
    for rows in _runs(snapshot.n_slots):
        yield Rows(
            [
                _mended_rows(snapshot, number, rows, damaged.get(number), source, vectors)
                for number in range(len(snapshot.tiers))
            ]
        )


def _runs(n_slots: int) -> Iterator[Slots]:
    for start in range(0, n_slots, _CHUNK_SLOTS):
        yield np.arange(start, min(start + _CHUNK_SLOTS, n_slots))


def _mended_rows(
    snapshot: Snapshot,
    number: int,
    rows: Slots,
    damaged: Mask | None,
    source: Slots,
    vectors: Mapping[int, Floats],
) -> Codes:
    tier = snapshot.tiers[number]
    codes = np.zeros((len(rows), tier.layout.row_bytes), np.uint8)
    good = rows if damaged is None else rows[~damaged[rows]]
    codes[good - rows[0]] = tier.codes[good]
    for row in rows if damaged is None else rows[damaged[rows]]:
        if damaged is None or not snapshot.alive[row]:
            continue
        if int(row) in vectors:
            vector = vectors[int(row)][None]
        else:
            other = snapshot.tiers[int(source[row])]
            vector = other.pipeline.decode(other.codes[row : row + 1])
        codes[row - rows[0]] = tier.pipeline.encode(vector)[0]
    return codes


# ---------------------------------------------------------------------- many vectors a document


def waiting_codec(codec_text: str, dim: int) -> TokenCodec:
    """Return what tokens are kept in until there are enough documents to fit the codec on."""
    exact = isinstance(Codec.parse(codec_text).tiers[0].quantizer, Float32)
    codec = Codec.parse("float32" if exact else "float16").fit(np.zeros((0, dim), np.float32))
    return TokenCodec(codec.tiers[0], None)


def late_learning_sample(snapshot: Snapshot, settings: Settings, originals: Mapping[int, Floats]) -> TokenMatrices:
    """Return the documents, as token vectors of unit length, that codecs are learned from; see `learning_sample`.

    Raises
    ------
    ParameterError
        When no document has any token.
    """
    view = _view(snapshot)
    seed = settings.seed or 0
    slots = np.flatnonzero(snapshot.alive)
    learned = snapshot.learned
    fair = learned is not None and learned.lossy and (learned.complete or learned.below < ALL)
    if fair and originals and len(originals) >= min(int((view.lengths(slots) > 0).sum()), _LEAST_SAMPLE):
        return of_unit_length(TokenMatrices.of(list(originals.values())))
    view.check_offsets(slots)
    slots = np.random.default_rng(seed).permutation(slots[view.lengths(slots) > 0])
    if not len(slots):
        raise ParameterError("expected at least one document with tokens to fit the codec on; there is none")
    enough = int(np.searchsorted(np.cumsum(view.lengths(slots)), FIT_VALUES // (snapshot.dim or 1), side="right"))
    return of_unit_length(view.decode(np.sort(slots[: max(1, enough)])))


def of_unit_length(sample: TokenMatrices) -> TokenMatrices:
    """Scale token vectors in place to how they came in, as `fit_ready` does: a sample is large, and nobody else has it."""
    for start in range(0, len(sample.flat), _CHUNK_TOKENS):
        part = sample.flat[start : start + _CHUNK_TOKENS]
        part[:] = unit_rows(part, keep_zeros=True)
    return sample


def fit_late(sample: TokenMatrices, settings: Settings, codec_text: str) -> tuple[Codec, TokenCodec]:
    """Fit the token codec, the candidate encoder and the codec of its vectors on a sample.

    Raises
    ------
    CodecError
        When the codec has several tiers.
    """
    check_token_codec(codec_text)
    seed = settings.seed or 0
    assert settings.candidates is not None  # every multi-vector collection has them
    tokens = TokenCodec.fit(codec_text, sample, candidate_encoder_from_config(settings.candidates), seed=seed)
    codec = Codec.parse(settings.candidate_codec or "").fit(tokens.document_vectors(sample), seed=seed)
    return codec, tokens


def late_assessed(tokens: TokenCodec, sample: TokenMatrices, settings: Settings, documents: int) -> Learned | None:
    """Return what to expect of a token codec that was learned from `sample`; see `assessed`."""
    codec = Codec([tokens.pipeline])
    if not codec.needs_fit:
        return None
    flat = sample.flat[: FIT_VALUES // sample.dim]
    return assessed(codec, _spread_over(flat, FIT_SAMPLE), settings, documents)


def late_reencoded(
    snapshot: Snapshot, codec: Codec, tokens: TokenCodec, originals: Mapping[int, Floats]
) -> Iterator[Rows]:
    """Yield every slot in other codes; slots of deleted documents are left without tokens."""
    view = _view(snapshot)
    for first, last in _chunks(view, np.arange(snapshot.n_slots)):
        slots = np.arange(first, last)
        again = {slot: TokenMatrices.of([originals[slot]]) for slot in slots.tolist() if slot in originals}
        alive = np.array([slot for slot in slots[snapshot.alive[slots]].tolist() if slot not in again], np.int64)
        yield _encoded_rows(view, slots, alive, codec, tokens, again)


def late_kept(snapshot: Snapshot, slots: Slots) -> Iterator[Rows]:
    """Yield the rows of `slots` as they are."""
    view = _view(snapshot)
    for first, last in _chunks(view, slots):
        part = slots[first:last]
        for tier in snapshot.tiers:
            tier.check(part)
        yield Rows([tier.codes[part] for tier in snapshot.tiers], view.rows(part), view.lengths(part))


def late_mended(
    snapshot: Snapshot, codec: Codec, lost: Mask, damaged: Mask, matrices: Mapping[int, TokenMatrices]
) -> Iterator[Rows]:
    """Yield every slot with damaged parts made anew.

    Parameters
    ----------
    snapshot : Snapshot
        The state in which the damage was found.
    codec : Codec
        Of the candidate vectors.
    lost : ndarray of bool, shape (n_slots,)
        Slots whose tokens cannot be read.
    damaged : ndarray of bool, shape (n_slots,)
        Slots whose candidate vectors cannot be read; they are made from the tokens.
    matrices : mapping of int to TokenMatrices
        The tokens of each lost slot that belongs to a document.
    """
    view = _view(snapshot)
    good = np.flatnonzero(snapshot.alive & ~lost)
    lengths = np.zeros(snapshot.n_slots, np.int64)
    lengths[good] = view.lengths(good)
    for first, last in _cut(lengths):
        slots = np.arange(first, last)
        whole = slots[snapshot.alive[slots] & ~lost[slots]]
        again = {int(slot): matrices[int(slot)] for slot in slots[snapshot.alive[slots] & lost[slots]]}
        rows = _encoded_rows(view, slots, whole, codec, view.codec, again, as_they_are=True)
        fine = whole[~damaged[whole]]
        for tier, codes in zip(snapshot.tiers, rows.tiers, strict=True):
            codes[fine - first] = tier.codes[fine]
        yield rows


def _view(snapshot: Snapshot) -> TokenView:
    assert snapshot.tokens is not None  # only called for multi-vector collections
    return snapshot.tokens


def _chunks(view: TokenView, slots: Slots) -> Iterator[tuple[int, int]]:
    view.check_offsets(slots)
    return _cut(view.lengths(slots))


def _cut(lengths: Slots) -> Iterator[tuple[int, int]]:
    """Cut slots into runs of about so many tokens as are worked on at a time, each at least one slot."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + _CHUNK_TOKENS, side="right"))
        last = min(max(last, first + 1), first + _CHUNK_SLOTS)
        yield first, last
        first = last


def _encoded_rows(
    view: TokenView,
    slots: Slots,
    alive: Slots,
    codec: Codec,
    tokens: TokenCodec,
    again: Mapping[int, TokenMatrices],
    *,
    as_they_are: bool = False,
) -> Rows:
    """Return the rows of consecutive `slots`, of which those in `alive` are decoded and those in `again` are given."""
    decoded = view.decode(alive)
    lengths = np.zeros(len(slots), np.int64)
    lengths[alive - slots[0]] = decoded.lengths
    for slot, matrix in again.items():
        lengths[slot - slots[0]] = len(matrix.flat)
    offsets = np.zeros(len(slots) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = np.empty((int(offsets[-1]), decoded.dim), np.float32) if again else decoded.flat
    codes = np.empty((len(flat), tokens.pipeline.layout.row_bytes), np.uint8)
    mine = np.ones(len(flat), np.bool_)
    for slot, matrix in again.items():
        span = slice(offsets[slot - slots[0]], offsets[slot - slots[0] + 1])
        mine[span], flat[span], codes[span] = False, matrix.flat, tokens.encode(matrix.flat)
    if again:
        flat[mine] = decoded.flat
    codes[mine] = view.rows(alive) if as_they_are else tokens.encode(decoded.flat)
    vectors = tokens.document_vectors(TokenMatrices(flat, offsets))
    return Rows([tier.encode(vectors) for tier in codec.tiers], codes, lengths)
