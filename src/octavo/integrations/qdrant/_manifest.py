"""What a Qdrant collection has to remember about itself: one point without vectors."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from octavo.errors import CollectionNotFoundError, CorruptCollectionError, MismatchError
from octavo.integrations.qdrant._ids import MANIFEST
from octavo.integrations.qdrant.mapping import ClientCodec
from octavo.integrations.qdrant.transport import Point, Transport

FORMAT: Final = 1


@dataclass(frozen=True)
class Manifest:
    """Settings and learned state of a collection.

    Parameters
    ----------
    codec, metric, full_text : str
        As in `octavo.open`.
    dim : int
        Dimension of the vectors as they come in.
    average_length : float
        Terms of a typical document, for BM25.
    encoder : dict or None
        The encoder's fingerprint.
    state : str
        The fitted reducers, in base64.
    late : dict or None
        Where documents have many vectors: how they are pooled, and what finds candidates.
    format : int
        Rises when what is stored changes its meaning.
    """

    codec: str
    metric: Literal["cosine", "dot"]
    full_text: str
    dim: int
    average_length: float
    encoder: dict[str, Any] | None
    state: str
    late: dict[str, Any] | None = None
    format: int = FORMAT

    def write(self, transport: Transport) -> None:
        """Store it."""
        values = asdict(self)
        if self.late is None:
            del values["late"]  # as before there was such a thing
        text = json.dumps(values, sort_keys=True)
        transport.upsert([Point(MANIFEST, {"octavo": text, "sha256": _checksum(text)})])

    @classmethod
    def read(cls, transport: Transport) -> Manifest:
        """Read it back.

        Raises
        ------
        CollectionNotFoundError
            When Octavo has not made this collection.
        CorruptCollectionError
            When it does not match its checksum.
        MismatchError
            When it has another format.
        """
        found = transport.retrieve([MANIFEST], True)
        if not found:
            raise CollectionNotFoundError(
                f"expected a collection made by Octavo at {transport.place}, but it holds no description of one; was it made "
                "by another program, or was its creator killed at the first document? Delete it and create it anew"
            )
        text = found[0].payload.get("octavo")
        if not isinstance(text, str) or _checksum(text) != found[0].payload.get("sha256"):
            raise CorruptCollectionError(f"the description of the collection at {transport.place} is damaged")
        values = json.loads(text)
        if values.get("format") != FORMAT:
            raise MismatchError(
                f"expected format {FORMAT} of the collection at {transport.place}, got {values.get('format')!r}; open it with "
                "the version of Octavo that made it"
            )
        return cls(**values)

    def client_codec(self) -> ClientCodec:
        """Return the fitted reducers."""
        return ClientCodec.from_bytes(base64.b64decode(self.state))


def encode_state(codec: ClientCodec) -> str:
    """Return fitted reducers as the manifest holds them."""
    return base64.b64encode(codec.to_bytes()).decode("ascii")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
