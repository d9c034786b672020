"""Results as Markdown tables, and averages over data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from octavo.eval.analysis.select import label_of
from octavo.eval.results import Result


@dataclass(frozen=True, kw_only=True)
class Average:
    """One configuration's means over all data sets of a call, each data set counting the same.

    Parameters
    ----------
    label, kind : str
        Of the configuration.
    datasets : list of str
        What the mean is over.
    quality : dict of str to float
        By measure.
    agreement : float or None
        With exact float32 search.
    vector_bytes_per_document, ram_bytes_per_document, index_bytes_per_document, disk_bytes_per_document : float
        See `Storage`.
    p50_ms, p95_ms : float or None
        Latency.

    Examples
    --------
    >>> from octavo.eval import Dataset, ReadyVectors, run
    >>> data = Dataset(
    ...     name="tiny", document_ids=["a", "b"], texts=["red", "green"],
    ...     query_ids=["q"], queries=["red"], qrels={"q": {"a": 1}},
    ... )
    >>> vectors = ReadyVectors([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.2]])
    >>> results = run(data, None, "int8", vectors=vectors, measures=["RR@10"])
    >>> [mean] = average(results)
    >>> mean.label, mean.datasets, mean.quality
    ('int8', ['tiny'], {'RR@10': 1.0})
    """

    label: str
    kind: str
    datasets: list[str]
    quality: dict[str, float]
    agreement: float | None
    vector_bytes_per_document: float
    ram_bytes_per_document: float
    index_bytes_per_document: float
    disk_bytes_per_document: float
    p50_ms: float | None
    p95_ms: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def average(results: Sequence[Result]) -> list[Average]:
    """Return the mean of each configuration that was measured on every data set there is.

    Parameters
    ----------
    results : sequence of Result
        On one data set or several.

    Returns
    -------
    list of Average
        In the order in which the configurations come first; those that were not measured on every data set are left out.
    """
    datasets = list(dict.fromkeys(map(_data, results)))
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.configuration_key, []).append(result)
    several = len({result.model.name for result in results if result.model is not None}) > 1
    return [_average(group, several_models=several) for group in groups.values() if len(group) == len(datasets)]


def _average(group: Sequence[Result], *, several_models: bool) -> Average:
    first = group[0]
    measures = [name for name in first.quality if all(name in result.quality for result in group)]
    agreements = [result.agreement.float32 for result in group]
    latencies = [result.speed.latency_ms for result in group]
    timed = [latency for latency in latencies if latency is not None]
    return Average(
        label=label_of(first, several_models=several_models),
        kind=first.kind,
        datasets=[result.dataset.name for result in group],
        quality={name: float(np.mean([result.quality[name] for result in group])) for name in measures},
        agreement=None if None in agreements else float(np.mean([value for value in agreements if value is not None])),
        vector_bytes_per_document=float(np.mean([result.storage.vector_bytes_per_document for result in group])),
        ram_bytes_per_document=float(np.mean([result.storage.ram_bytes_per_document for result in group])),
        index_bytes_per_document=float(np.mean([result.storage.index_bytes_per_document for result in group])),
        disk_bytes_per_document=float(np.mean([result.storage.disk_bytes_per_document for result in group])),
        p50_ms=float(np.mean([latency.p50 for latency in timed])) if timed else None,
        p95_ms=float(np.mean([latency.p95 for latency in timed])) if timed else None,
    )


_NOTE = (
    "Bytes are per document: vectors = codes of all tiers, index = vectors and graph on disk, disk = all files with the "
    "texts. Agreement@10 is the share of the ten best that exact float32 search finds too. Baselines are reference schemes "
    "outside the collection; their bytes are computed, not measured."
)


def markdown(results: Sequence[Result]) -> str:
    """Return one table for each data set, and one of averages if there are several.

    Parameters
    ----------
    results : sequence of Result
        On one data set or several.

    Returns
    -------
    str
        Markdown; empty without results.

    Examples
    --------
    >>> markdown([])
    ''
    """
    parts = []
    several = len({result.model.name for result in results if result.model is not None}) > 1
    for each in dict.fromkeys(map(_data, results)):
        found = [result for result in results if _data(result) == each]
        data = found[0].dataset
        title = f"## {data.name} ({data.split}): {data.documents:,} documents, {data.queries:,} queries"
        parts.append(f"{title}\n\n{_table([_average([result], several_models=several) for result in found])}")
    if len(set(map(_data, results))) > 1:
        parts.append(f"## Average over the data sets\n\n{_table(average(results))}")
    return "\n\n".join([*parts, _NOTE]) + "\n" if parts else ""


def _data(result: Result) -> tuple[str, str, str]:
    """Return what makes data the same: the fingerprint as well, since a data set that has changed keeps its name."""
    return result.dataset.name, result.dataset.split, result.dataset.fingerprint


def _table(rows: Sequence[Average]) -> str:
    measures = list(dict.fromkeys(name for row in rows for name in row.quality))
    head = ["configuration", *measures, "agreement@10", "vectors B", "RAM B", "index B", "disk B", "p50 ms", "p95 ms"]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for row in rows:
        label = row.label.replace("|", "\\|") + (" (baseline)" if row.kind == "baseline" else "")
        lines.append(
            [
                label,
                *(_number(row.quality.get(name), 4) for name in measures),
                _number(row.agreement, 4),
                _number(row.vector_bytes_per_document, 0),
                _number(row.ram_bytes_per_document, 0),
                _number(row.index_bytes_per_document, 0),
                "–" if row.kind == "baseline" else _number(row.disk_bytes_per_document, 0),
                _number(row.p50_ms, 2),
                _number(row.p95_ms, 2),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
