"""Compare two configurations query by query."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from octavo.errors import InputTypeError, ParameterError
from octavo.eval.analysis.statistics import RESAMPLES, PairedDifference, TestName, paired_difference
from octavo.eval.results import Result

#: Queries listed that changed most.
CHANGED = 10


@dataclass(frozen=True)
class QueryChange:
    """A query whose value changed.

    Parameters
    ----------
    id : str
        The query's id.
    text : str or None
        Its text, where known.
    a, b : float
        Both values.
    """

    id: str
    text: str | None
    a: float
    b: float

    @property
    def change(self) -> float:
        """``b - a``."""
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `to_dict` gives JSON.

    Parameters
    ----------
    a, b : str
        Labels.
    a_id, b_id : str
        Ids of the two results.
    dataset : str
        Name of the data set.
    measures : dict of str to PairedDifference
        By measure.
    changed_measure : str
        The measure that `changed` is about: the first one compared.
    changed : list of QueryChange
        The queries that changed most, largest change first.
    """

    a: str
    b: str
    a_id: str
    b_id: str
    dataset: str
    measures: dict[str, PairedDifference]
    changed_measure: str
    changed: list[QueryChange]

    @property
    def caution(self) -> str:
        """How many queries changed, and what so many queries cannot rule out."""
        found = self.measures[self.changed_measure]
        return (
            f"{self.changed_measure}: {found.changed:,} of {found.n:,} queries changed. What none of {found.n:,} queries shows "
            f"may still befall {found.unseen:.2%} of all queries (3/n), which is why the interval is no narrower."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "a": {"label": self.a, "id": self.a_id},
            "b": {"label": self.b, "id": self.b_id},
            "dataset": self.dataset,
            "measures": {name: found.to_dict() for name, found in self.measures.items()},
            "changed_measure": self.changed_measure,
            "changed": [asdict(query) | {"change": query.change} for query in self.changed],
        }


def compare(
    a: Result | str | os.PathLike[str],
    b: Result | str | os.PathLike[str],
    *,
    measures: Sequence[str] | None = None,
    test: TestName = "randomisation",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    changed: int = CHANGED,
    texts: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare two runs over the same queries, measure by measure.

    Parameters
    ----------
    a, b : Result or path
        Differences are ``b - a``: give the baseline first.
    measures : sequence of str, optional
        Measures as the results name them, or ``"agreement"`` (with exact float32 search); by default all of quality that
        both have.
    test, confidence, resamples, seed
        See `octavo.eval.analysis.statistics.paired_difference`.
    changed : int, default=10
        How many of the queries that changed most to list.
    texts : mapping of str to str, optional
        Texts of the queries, by id.

    Returns
    -------
    Comparison

    Raises
    ------
    ParameterError
        When the two are about different data or have no measure in common.
    MissingExtraError
        When scipy is not installed.
    """
    first, second = _as_result(a), _as_result(b)
    if first.dataset.fingerprint != second.dataset.fingerprint:
        raise ParameterError(
            f"expected two results on the same data, got {first.dataset.name!r} ({first.dataset.fingerprint}) and "
            f"{second.dataset.name!r} ({second.dataset.fingerprint})"
        )
    names = list(measures) if measures is not None else [name for name in first.quality if name in second.quality]
    if not names:
        raise ParameterError(
            f"expected a measure that both results have, got {', '.join(first.quality) or 'none'} and "
            f"{', '.join(second.quality) or 'none'}"
        )
    found: dict[str, PairedDifference] = {}
    for name in names:
        ids, x, y = paired_values(first, second, name)
        found[name] = paired_difference(x, y, test=test, confidence=confidence, resamples=resamples, seed=seed)
    ids, x, y = paired_values(first, second, names[0])
    differing = [
        QueryChange(identifier, (texts or {}).get(identifier), p, q)
        for identifier, p, q in zip(ids, x, y, strict=True)
        if p != q
    ]
    differing.sort(key=lambda query: (-abs(query.change), query.id))
    return Comparison(
        a=first.label,
        b=second.label,
        a_id=first.id,
        b_id=second.id,
        dataset=first.dataset.name,
        measures=found,
        changed_measure=names[0],
        changed=differing[: max(0, changed)],
    )


def paired_values(a: Result, b: Result, measure: str) -> tuple[list[str], list[float], list[float]]:
    """Return the query ids and both results' values of a measure, in the order of the ids.

    Raises
    ------
    ParameterError
        When one of them has no such measure, or they were asked other queries.
    """
    x, y = per_query(a, measure), per_query(b, measure)
    if x.keys() != y.keys():
        raise ParameterError(
            f"expected {measure} for the same queries in both results, but {len(x.keys() ^ y.keys())} are in one of them only"
        )
    ids = sorted(x)
    return ids, [x[identifier] for identifier in ids], [y[identifier] for identifier in ids]


def per_query(result: Result, measure: str) -> Mapping[str, float]:
    """Return a measure's value for each query; ``"agreement"`` is that with exact float32 search."""
    if measure in result.per_query:
        return result.per_query[measure]
    if measure == "agreement" or measure.startswith("agreement."):
        level = measure.removeprefix("agreement").removeprefix(".") or "float32"
        if level in result.agreement.per_query:
            return result.agreement.per_query[level]
    there = [*result.per_query, *(f"agreement.{level}" for level in result.agreement.per_query)]
    raise ParameterError(f"expected a measure out of {', '.join(there)}, got {measure!r} for {result.label!r}")


def _as_result(value: Result | str | os.PathLike[str]) -> Result:
    if isinstance(value, Result):
        return value
    if isinstance(value, str | os.PathLike):
        return Result.read(value)
    raise InputTypeError(f"expected a result or its file, got {type(value).__name__}")
