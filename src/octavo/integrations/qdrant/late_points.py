"""Token codecs in Qdrant's terms, and what runs before token vectors are sent."""

from __future__ import annotations

import base64
from collections.abc import Mapping as Config
from typing import Any

import numpy as np

from octavo._arrays import Floats, unit_rows
from octavo.compression import Codec, Float32, Pipeline
from octavo.compression.candidates import CandidateEncoder, candidate_encoder_from_config
from octavo.compression.token_matrices import TokenMatrices
from octavo.errors import CorruptCollectionError
from octavo.integrations.qdrant.points import CodecMapping, map_codec
from octavo.store.settings import CANDIDATE_CODEC, check_token_codec
from octavo.store.tokens import TokenCodec


def map_token_codec(text: str) -> CodecMapping:
    """Return what a token codec means for Qdrant.

    Raises
    ------
    CodecError
        When it has several tiers, or Qdrant has no counterpart; the message names the nearest that has one.

    Examples
    --------
    >>> map_token_codec("svd:128|int8").quantization
    'scalar'
    """
    check_token_codec(text)
    return map_codec(text)


def candidate_mapping() -> CodecMapping:
    """Return how the candidate vectors are kept."""
    return map_codec(CANDIDATE_CODEC)


def centred(config: Config[str, Any]) -> bool:
    """Tell whether a candidate encoder learns a centre."""
    return bool(getattr(candidate_encoder_from_config(config), "centre", False))


def learns(codec: str, candidates: Config[str, Any]) -> bool:
    """Tell whether a codec or a candidate encoder learns what few documents cannot tell: more than a centre."""
    encoder = candidate_encoder_from_config(candidates)
    return any(step.needs_fit for step in Codec.parse(codec).tiers[0].reducers) or not hasattr(encoder, "centre")


class LateCodec:
    """The part of a multi-vector collection that runs before vectors are sent: reducers and candidate encoder.

    Parameters
    ----------
    tokens : TokenCodec
        As a local collection has it, but with float32 behind the reducers.
    """

    def __init__(self, tokens: TokenCodec) -> None:
        self._tokens = tokens

    @classmethod
    def fit(cls, codec: str, candidates: CandidateEncoder, sample: TokenMatrices, *, seed: int) -> LateCodec:
        """Learn from the pooled tokens of documents."""
        reducers = (step.token for step in Codec.parse(codec).tiers[0].reducers)
        units = TokenMatrices(unit_rows(sample.flat, keep_zeros=True), sample.offsets)
        return cls(TokenCodec.fit("|".join([*reducers, "float32"]), units, candidates, seed=seed))

    @classmethod
    def of(cls, tokens: TokenCodec, dim: int) -> LateCodec:
        """Take over what a local collection of this dimension has learned; its quantizer is left to Qdrant."""
        reducers = tokens.pipeline.reducers
        width = reducers[-1].out_dim if reducers else dim
        full = Float32().fit(np.zeros((0, width), np.float32))
        return cls(TokenCodec(Pipeline([*reducers, full]), tokens.candidates))

    @classmethod
    def from_state(cls, state: str, candidates: str) -> LateCodec:
        """Restore what `to_state` returned.

        Raises
        ------
        CorruptCollectionError
            When it cannot be read.
        """
        try:
            parts = {"token_codec": base64.b64decode(state), "candidate_state": base64.b64decode(candidates)}
            return cls(TokenCodec.from_manifest(parts))
        except (CorruptCollectionError, ValueError) as err:
            raise CorruptCollectionError("what the collection in Qdrant has learned of its tokens is damaged") from err

    def to_state(self) -> tuple[str, str]:
        """Return what was learned as text: of the tokens, and of the candidate vectors."""
        parts = self._tokens.to_manifest()
        state, candidates = (base64.b64encode(parts[key]).decode("ascii") for key in ("token_codec", "candidate_state"))
        return state, candidates

    @property
    def token_dim(self) -> int:
        """Dimension of the token vectors that are sent."""
        return self._tokens.pipeline.layout.dim

    @property
    def candidate_dim(self) -> int:
        """Dimension of the candidate vectors."""
        return self._encoder.out_dim

    @property
    def candidates(self) -> dict[str, Any]:
        """Configuration of the candidate encoder."""
        return self._encoder.get_config()

    @property
    def _encoder(self) -> CandidateEncoder:
        assert self._tokens.candidates is not None  # fitted together with the rest
        return self._tokens.candidates

    def documents(self, tokens: TokenMatrices) -> tuple[TokenMatrices, Floats]:
        """Return what to store of documents: token vectors, and one candidate vector each."""
        sent = self._tokens.encode(tokens.flat).view(np.float32)
        return TokenMatrices(sent, tokens.offsets), self._tokens.document_vectors(tokens)

    def queries(self, tokens: TokenMatrices) -> tuple[TokenMatrices, Floats, Floats]:
        """Return what to search for: token vectors, a candidate vector each, and what to add to each query's scores."""
        sent = TokenMatrices(self._tokens.encode_queries(tokens.flat).view(np.float32), tokens.offsets)
        offsets = np.array([self._tokens.query_offset(matrix).sum() for matrix in tokens], np.float32)
        vectors = self._tokens.query_vectors(tokens)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(
            np.float32
        )  # in float16 a long one would overflow
        return sent, vectors, offsets

    def token_offsets(self, tokens: Floats) -> Floats:
        """Return what to add to the similarities of each of a query's tokens."""
        return self._tokens.query_offset(tokens)

    def decode(self, tokens: Floats) -> Floats:
        """Return stored token vectors in the dimension they came in."""
        return self._tokens.pipeline.decode(np.ascontiguousarray(tokens, np.float32).view(np.uint8))
