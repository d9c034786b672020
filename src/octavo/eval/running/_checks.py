"""Checks that tell a broken index from one that merely loses something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.compression import Codec, Reducer
from octavo.eval.configurations import Configuration
from octavo.eval.results import Agreement, Check
from octavo.store.info import CollectionInfo

#: Below these, an exact search is broken rather than lossy: ties alone cost less, and a byte a value loses a few percent.
_SAME, _PLAUSIBLE = 0.995, 0.5

#: Instead of the first where another engine computes: it breaks ties in another way.
_NEARLY = 0.95


@dataclass(frozen=True)
class StoredFacts:
    """What the checks have to know of a collection, whatever keeps it.

    Parameters
    ----------
    documents : int
        How many it holds.
    graph : bool
        Whether there is a graph.
    bits : float
        Of a value of the finest tier, or of a token vector.
    plain : bool
        Whether those are float32.
    """

    documents: int
    graph: bool
    bits: float
    plain: bool

    @classmethod
    def of(cls, info: CollectionInfo) -> StoredFacts:
        """Return it for a local collection."""
        layout = info.tokens if info.tokens is not None else info.tiers[-1]
        bits = 8 * layout["row_bytes"] / layout["values"]
        return cls(info.documents, bool(info.index_covers), bits, layout["type"] == "f32")


def check_files(damage: Sequence[str]) -> Check:
    """Return whether a local collection's `verify` found nothing."""
    return Check(
        name="every file matches its checksum", ok=not damage, detail="; ".join(damage) or "verify() found nothing"
    )


def check(configuration: Configuration, expected: int, facts: StoredFacts, agreement: Agreement) -> list[Check]:
    """Return what must hold of a collection of so many documents, whatever was measured of it."""
    checks = [
        Check(
            name="every document is stored",
            ok=facts.documents == expected,
            detail=f"{facts.documents:,} of {expected:,}",
        )
    ]
    if agreement.same_codes is None or agreement.codes_float32 is None:
        return checks
    codec = Codec.parse(configuration.codec or "")
    if configuration.mode == "dense" and len(codec) == 1:
        if not facts.graph:
            checks.append(_at_least("a scan finds what the stored codes say", agreement.same_codes, _SAME))
        elif configuration.ef is None:
            checks.append(_at_least("the graph finds what the stored codes say", agreement.same_codes, _PLAUSIBLE))
    if configuration.mode == "late" and configuration.n_candidates is None and configuration.candidates is None:
        checks.append(
            _at_least("the candidates hold what MaxSim over the codes finds", agreement.same_codes, _PLAUSIBLE)
        )
    least = _least(configuration, facts)
    other_words = configuration.mode == "hybrid" and configuration.store is not None  # than those of the reference
    if least is not None and not other_words:
        checks.append(_at_least("exact search over the codes finds what float32 finds", agreement.codes_float32, least))
    return checks


def check_halves(
    configuration: Configuration, facts: StoredFacts, vectors: float | None, words: float | None
) -> list[Check]:
    """Return what must hold of vectors and of words, each alone.

    Parameters
    ----------
    configuration : Configuration
        What was measured.
    facts : StoredFacts
        About the collection.
    vectors : float or None
        Agreement of exact search by vectors alone with float32.
    words : float or None
        Share of documents that full text finds by their own words.
    """
    checks = []
    least = _least(configuration, facts) if vectors is not None else None
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


def _least(configuration: Configuration, facts: StoredFacts) -> float | None:
    """Return the least agreement of exact search over the codes with float32; None where a codec may lose anything."""
    finest = Codec.parse(configuration.codec or "").tiers[-1]
    whole = not any(isinstance(step, Reducer) for step in finest.reducers)
    pooled = configuration.late and configuration.pool_factor != 1  # pooling by 2 loses a few percent, by 8 far more
    if not whole or facts.bits < 8 or (pooled and configuration.pool_factor not in (None, 2)):
        return None
    if not facts.plain or pooled:
        return _PLAUSIBLE
    return _SAME if configuration.store is None else _NEARLY


def _at_least(name: str, value: float, least: float) -> Check:
    return Check(name=name, ok=value >= least, detail=f"agreement@10 {value:.4f}, expected at least {least}")
