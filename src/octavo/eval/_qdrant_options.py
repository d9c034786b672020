"""What of a configuration Qdrant can do; the rest is refused before anything is embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.errors import ParameterError
from octavo.integrations.qdrant.late_points import map_token_codec
from octavo.integrations.qdrant.location import EMBEDDED
from octavo.integrations.qdrant.points import CodecMapping, map_codec

if TYPE_CHECKING:
    from octavo.eval.configurations import Configuration


def check_qdrant(configuration: Configuration) -> None:
    """Check that a configuration can be measured in Qdrant.

    Raises
    ------
    ParameterError
        For another store, and for options that would change nothing there.
    CodecError
        When Qdrant has no counterpart of the codec; the message names the nearest that has one.
    """
    if configuration.store != "qdrant":
        raise ParameterError(_other_store(configuration.store))
    if configuration.baseline is not None:
        raise ParameterError(
            f"a baseline is scanned outside any collection: expected no store beside baseline={configuration.baseline!r}"
        )
    mapping = mapping_of(configuration)
    if mapping is None:
        return
    if configuration.exact:
        for name in ("ef", "oversample"):
            if (value := getattr(configuration, name)) is not None:
                raise ParameterError(
                    f"in Qdrant exact=True compares with every vector in full: expected no {name}, got {value:g}; leave one "
                    "of the two out"
                )
    if configuration.oversample is not None and mapping.quantization is None:
        raise ParameterError(
            f"Qdrant rescores what quantized vectors have found, and codec {configuration.codec!r} has none there: expected no "
            f"oversample, or a codec such as 'int8 > {mapping.datatype}', got oversample={configuration.oversample:g}"
        )


def mapping_of(configuration: Configuration) -> CodecMapping | None:
    """Return what the codec is in Qdrant; None for full text alone."""
    if configuration.codec is None:
        return None
    return map_token_codec(configuration.codec) if configuration.late else map_codec(configuration.codec)


def _other_store(store: object) -> str:
    text = str(store)
    expected = "expected store 'local' or 'qdrant' (Qdrant's core in this process)"
    if text.startswith(EMBEDDED):
        return (
            f"{expected}, got {text!r}; every configuration is measured in a directory of its own, which is deleted "
            f"afterwards, so give {EMBEDDED.rstrip(':')!r} alone"
        )
    if text.startswith(("http://", "https://")):
        return (
            f"{expected}, got {text!r}; a server does not tell the bytes of a collection, and its network would be timed "
            "with it: measure codecs and graph with 'qdrant'"
        )
    return f"{expected}, got {store!r}"
