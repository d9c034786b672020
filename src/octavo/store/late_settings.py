"""What makes a collection a multi-vector one: how tokens are pooled, and what finds candidates."""

from __future__ import annotations

from typing import Any

from octavo.compression import Codec
from octavo.compression.candidates import CandidateEncoder, candidate_encoder_from_config
from octavo.compression.token_pooling import TokenPooling
from octavo.errors import CodecError, InputTypeError, ParameterError

#: The codec of the candidate vectors; their only purpose is to be close to the right order.
CANDIDATE_CODEC = "int8"

DEFAULT_POOLING: dict[str, Any] = TokenPooling(factor=2).get_config()
DEFAULT_CANDIDATES = "mean"


def pooling_config(pool_factor: int | None, pooling: TokenPooling | None) -> dict[str, Any] | None:
    """Return what was asked of pooling as JSON data; None when nothing was.

    Raises
    ------
    ParameterError
        When both were given, or the factor cannot be used.
    """
    if pooling is None:
        return TokenPooling(factor=pool_factor).get_config() if pool_factor is not None else None
    if pool_factor is not None:
        raise ParameterError(f"expected pool_factor or pooling, got both ({pool_factor!r} and {pooling!r})")
    if not isinstance(pooling, TokenPooling):
        raise InputTypeError(f"expected pooling as an octavo TokenPooling, got {type(pooling).__name__}")
    return pooling.get_config()


def candidates_config(candidates: str | CandidateEncoder | None) -> dict[str, Any] | None:
    """Return the configuration of the asked candidate encoder; None when nothing was asked.

    Raises
    ------
    ParameterError
        When there is no such encoder.
    """
    if candidates is None:
        return None
    if isinstance(candidates, str):
        encoder = candidate_encoder_from_config({"id": candidates})
    elif isinstance(candidates, CandidateEncoder):
        encoder = candidates
    else:
        raise InputTypeError(
            f"expected candidates as the name of a candidate encoder or such an encoder, got {type(candidates).__name__}"
        )
    return encoder.get_config()


def check_token_codec(text: str) -> None:
    """Raise `CodecError` unless a codec has one tier: MaxSim reads the tokens once."""
    codec = Codec.parse(text)
    if len(codec.tiers) > 1:
        raise CodecError(
            f"expected a token codec of one tier, such as 'int8' or 'svd:128|int8', got {text!r}; the candidate stage "
            "takes the place of a coarse tier"
        )
