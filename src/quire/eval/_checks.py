"""Checks that tell a broken index from one that merely loses something."""

from __future__ import annotations

from collections.abc import Sequence

from quire.compression import Codec, Reducer
from quire.eval.configurations import Configuration
from quire.eval.results import Agreement, Check
from quire.store import CollectionInfo

#: Below these, an exact search is broken rather than lossy: ties alone cost less, and a byte a value loses a few percent.
_SAME, _PLAUSIBLE = 0.995, 0.5


def check(
    configuration: Configuration, expected: int, info: CollectionInfo, damage: Sequence[str], agreement: Agreement
) -> list[Check]:
    """Return what must hold of a collection of so many documents, whatever was measured of it."""
    checks = [
        Check(
            name="every document is stored",
            ok=info.documents == expected,
            detail=f"{info.documents:,} of {expected:,}",
        ),
        Check(
            name="every file matches its checksum", ok=not damage, detail="; ".join(damage) or "verify() found nothing"
        ),
    ]
    if agreement.same_codes is None or agreement.codes_float32 is None:
        return checks
    codec = Codec.parse(configuration.codec or "")
    if configuration.mode == "dense" and len(codec) == 1:
        if not info.graph_covers:
            checks.append(_at_least("a scan finds what the stored codes say", agreement.same_codes, _SAME))
        elif configuration.ef is None:
            checks.append(_at_least("the graph finds what the stored codes say", agreement.same_codes, _PLAUSIBLE))
    if configuration.mode == "late" and configuration.n_candidates is None and configuration.candidates is None:
        checks.append(
            _at_least("the candidates hold what MaxSim over the codes finds", agreement.same_codes, _PLAUSIBLE)
        )
    least = _least(configuration, info)
    if least is not None:
        checks.append(_at_least("exact search over the codes finds what float32 finds", agreement.codes_float32, least))
    return checks


def check_halves(
    configuration: Configuration, info: CollectionInfo, vectors: float | None, words: float | None
) -> list[Check]:
    """Return what must hold of vectors and of words, each alone.

    Parameters
    ----------
    configuration : Configuration
        What was measured.
    info : CollectionInfo
        Of the collection.
    vectors : float or None
        Agreement of exact search by vectors alone with float32.
    words : float or None
        Share of documents that full text finds by their own words.
    """
    checks = []
    least = _least(configuration, info) if vectors is not None else None
    if vectors is not None and least is not None:
        checks.append(_at_least("the vectors that are fused with words find what float32 finds", vectors, least))
    if words is not None:
        checks.append(
            Check(
                name="full text finds documents by their own words",
                ok=words >= _PLAUSIBLE,
                detail=f"{words:.0%} of those tried, expected at least {_PLAUSIBLE:.0%}",
            )
        )
    return checks


def _least(configuration: Configuration, info: CollectionInfo) -> float | None:
    """Return the least agreement of exact search over the codes with float32; None where a codec may lose anything."""
    finest = Codec.parse(configuration.codec or "").tiers[-1]
    whole = not any(isinstance(step, Reducer) for step in finest.reducers)
    layout = info.tokens if info.tokens is not None else info.tiers[-1]
    bits = 8 * layout["row_bytes"] / layout["values"]
    pooled = configuration.late and configuration.pool_factor != 1  # pooling by 2 loses a few percent, by 8 far more
    if not whole or bits < 8 or (pooled and configuration.pool_factor not in (None, 2)):
        return None
    return _SAME if layout["type"] == "f32" and not pooled else _PLAUSIBLE


def _at_least(name: str, value: float, least: float) -> Check:
    return Check(name=name, ok=value >= least, detail=f"agreement@10 {value:.4f}, expected at least {least}")
