"""Everything about a collection that is not a document: what another one needs in order to be its equal."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from octavo.compression import Codec
from octavo.store.database import read_manifest, write_manifest
from octavo.store.settings import Settings
from octavo.store.store import Store
from octavo.store.tokens import TokenCodec
from octavo.store.writer import Writer


@dataclass(frozen=True)
class Blueprint:
    """Settings, codec with what it learned, and encoder of a collection.

    Parameters
    ----------
    settings : dict
        JSON values: metric, full_text, fit_after, seed, connectivity, index; multi_vector, pooling, candidates and
        candidate_codec where there are token vectors.
    codec : str
        The codec string.
    dim : int or None
        Dimension of the vectors as they come in; None if not known yet.
    encoder : dict or None
        The encoder's fingerprint: name, dimension, prompts, probe.
    codec_state : bytes or None
        `Codec.to_bytes` of the tiers; None while there is nothing fitted.
    token_codec, candidate_state : bytes or None
        The same for token vectors, and for what makes candidate vectors of them.
    learned : str or None
        How well the codec fits what it was learned from.
    sparse_encoder : dict or None
        The fingerprint of what made learned sparse vectors.
    sparse : bool
        Whether there are any.
    """

    settings: dict[str, Any]
    codec: str
    dim: int | None = None
    encoder: dict[str, Any] | None = None
    codec_state: bytes | None = None
    token_codec: bytes | None = None
    candidate_state: bytes | None = None
    learned: str | None = None
    sparse_encoder: dict[str, Any] | None = None
    sparse: bool = False

    @classmethod
    def of(cls, store: Store) -> Blueprint:
        """Read the blueprint of a collection."""
        with store.read() as (connection, _):
            return cls.from_manifest(read_manifest(connection), store.settings)

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any], settings: Settings) -> Blueprint:
        """Return the blueprint of the collection with this manifest."""
        fitted = bool(manifest["fitted"])
        return cls(
            settings=json.loads(manifest["settings"]),
            codec=manifest["codec"],
            dim=manifest.get("dim") or settings.dim,
            encoder=json.loads(manifest["encoder"]) if manifest.get("encoder") else None,
            codec_state=manifest["codec_state"] if fitted else None,
            token_codec=manifest.get("token_codec") if fitted else None,
            candidate_state=manifest.get("candidate_state") if fitted else None,
            learned=manifest.get("learned") or None,
            sparse_encoder=json.loads(manifest["sparse_encoder"]) if manifest.get("sparse_encoder") else None,
            sparse=bool(manifest.get("sparse")),
        )

    def as_settings(self, base: Settings) -> Settings:
        """Return options for `Store` that make a collection of this kind."""
        return replace(base, codec=self.codec, dim=self.dim, **self.settings)

    def start(self, store: Store, writer: Writer) -> None:
        """Give a new collection of these settings the encoder's fingerprint and the codecs that were learned.

        Raises
        ------
        CodecError
            When the stored state is damaged.
        """
        known = {"encoder": json.dumps(self.encoder)} if self.encoder is not None else {}
        if self.sparse_encoder is not None:
            known["sparse_encoder"] = json.dumps(self.sparse_encoder)
        if self.codec_state is None:
            with store.write() as connection:
                write_manifest(connection, known)
            return
        tokens = None
        if self.token_codec is not None:
            tokens = TokenCodec.from_manifest(
                {"token_codec": self.token_codec, "candidate_state": self.candidate_state or b""}
            )
        writer.adopt(Codec.from_bytes(self.codec_state), tokens, {"codec": self.codec, "dim": self.dim, **known})
