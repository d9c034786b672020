"""What a collection says of a change of its model that is under way: the second space beside the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias

from octavo._arrays import Floats
from octavo.errors import CorruptCollectionError
from octavo.store import _originals
from octavo.store._originals import CAPACITY, Learned
from octavo.store.settings import Settings
from octavo.store.sqlite import Connection

#: What answers searches while the second space is being filled: both spaces, or the first alone.
Serve: TypeAlias = Literal["both", "old"]

#: What tables and artifacts of the second space begin with.
PREFIX = "next_"

#: The bound of priorities where there is no sample: every document.
NO_SAMPLE = _originals.ALL

#: Documents that may wait as floats for the codec to be learned: with one vector each, and with many.
WAITING, LATE_WAITING = CAPACITY, 1 << 12

#: Larger than any number in an entry; such numbers still fit whatever is computed from them.
_LARGEST = 2**48

_BYTES = ("codec_state", "token_codec", "candidate_state")

#: The manifest's entries about the second space.
ENTRIES = ("next", *(f"{PREFIX}{name}" for name in _BYTES))


class SpaceChangedError(Exception):
    """The collection's vectors are another model's than those at hand: queries or documents have to be encoded again."""


@dataclass(frozen=True)
class Reencoding:
    """One change of the model, as the manifest tells it under ``next``.

    Parameters
    ----------
    generation : int
        Number of the second space's vector files.
    done : int
        Slots that they hold: rows of documents below this are there, or dead.
    dim : int
        Dimension of the new vectors.
    codec : str
        The codec that they will be in.
    fitted : bool
        Whether they are in it already, or wait as floats.
    serve : {"both", "old"}
        What answers searches meanwhile.
    encoder : dict
        Like the manifest's entry ``encoder``.
    kind : dict
        What the settings will be changed to, where the kind of vectors changes; what `Settings.kind` returns.
    identity : str
        32 hex digits, chosen at random: tells it from other changes of the model.
    below : int
        Documents of a lower priority are encoded first, for the codec to be learned from; `NO_SAMPLE` where there are so few
        documents that all can wait.
    tokens : int
        Rows in the file of token codes.
    encoded, seconds : int and float
        Documents encoded so far, and how long that took.
    learned : str
        Like the manifest's entry ``learned``.
    """

    generation: int
    done: int
    dim: int
    codec: str
    fitted: bool
    serve: Serve
    encoder: dict[str, Any]
    kind: dict[str, Any]
    identity: str
    below: int = NO_SAMPLE
    tokens: int = 0
    encoded: int = 0
    seconds: float = 0.0
    learned: str = ""
    states: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def sampling(self) -> bool:
        """Whether a sample has to be encoded, and the codec learned from it, before rows can be written."""
        return self.below != NO_SAMPLE and not self.fitted

    @property
    def late(self) -> bool:
        """Whether the new vectors are many for a document."""
        return bool(self.kind.get("multi_vector"))

    def to_manifest(self) -> dict[str, Any]:
        """Return the manifest's entries, with the states of the codecs where there are any."""
        entry = {name: value for name, value in asdict(self).items() if name != "states"}
        return {"next": json.dumps(entry)} | {f"{PREFIX}{name}": value for name, value in self.states.items()}

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> Self | None:
        """Return what the manifest says; None while nothing is under way.

        Raises
        ------
        CorruptCollectionError
            When it says what Octavo would not have written.
        """
        text = manifest.get("next")
        if not text:
            return None
        try:
            entry = json.loads(text)
            found = cls(**entry)
            counts = (found.generation, found.done, found.dim, found.tokens, found.encoded)
            good = (
                all(isinstance(count, int) and 0 <= count < _LARGEST for count in counts)
                and isinstance(found.below, int)
                and 0 <= found.below <= NO_SAMPLE
                and isinstance(found.codec, str)
                and isinstance(found.fitted, bool)
                and found.serve in ("both", "old")
                and isinstance(found.encoder.get("name"), str)
                and isinstance(found.kind.get("multi_vector"), bool)
                and isinstance(found.identity, str)
                and isinstance(found.seconds, float)
                and isinstance(found.learned, str)
                and found.generation > 0
                and found.dim > 0
                and isinstance(manifest.get(f"{PREFIX}codec_state"), bytes)
            )
        except (ValueError, TypeError, AttributeError, RecursionError):
            good = False
        if not good:
            raise CorruptCollectionError(
                "octavo.db is damaged: its manifest does not say under 'next' how far the re-encoding is; restore it from a "
                "backup"
            )
        states = {name: manifest[f"{PREFIX}{name}"] for name in _BYTES if manifest.get(f"{PREFIX}{name}") is not None}
        return replace(found, states=states)

    def as_manifest(self) -> dict[str, Any]:
        """Return the entries that the manifest would have if the second space were the first."""
        return {
            "generation": self.generation,
            "slots": self.done,
            "dim": self.dim,
            "codec": self.codec,
            "fitted": int(self.fitted),
            "tokens": self.tokens,
            "learned": self.learned,
            **self.states,
        }

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of the second space."""
        return replace(settings, codec=self.codec, dim=self.dim, **self.kind)

    def known(self) -> Learned | None:
        """Return what is known of the fitted codec."""
        return Learned.from_json(self.learned)


# ---------------------------------------------------------------------- the sample that the codec is learned from


def sample_order(connection: Connection, seed: int) -> list[tuple[int, str]]:
    """Return priority and id of all documents, lowest priority first."""
    rows = connection.execute("SELECT id FROM documents")
    return sorted((_originals.priority(identifier, seed), identifier) for (identifier,) in rows)


def sample_size(dim: int, *, late: bool, tokens: float = 1.0) -> int:
    """Return how many documents there must be for a sample to be drawn, which is then as large."""
    if late:
        return max(1, min(LATE_WAITING, int(_originals.capacity(dim, late=True) / max(1.0, tokens))))
    return _originals.capacity(dim, late=False)


def sampled_ids(connection: Connection) -> set[str]:
    """Return the ids of documents whose new vectors wait for the codec."""
    query = f"SELECT id FROM documents JOIN {PREFIX}originals USING (slot)"
    return {row[0] for row in connection.execute(query)}


def sampled_vectors(connection: Connection, dim: int, slots: Sequence[int]) -> dict[int, Floats]:
    """Return the new vectors of those slots that were encoded as a part of the sample."""
    if not slots:
        return {}
    query = f"SELECT slot, vectors FROM {PREFIX}originals WHERE slot BETWEEN ? AND ?"
    wanted = set(slots)
    rows = connection.execute(query, (min(slots), max(slots)))
    return {slot: _originals.unpacked(data, dim) for slot, data in rows if slot in wanted}
