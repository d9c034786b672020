"""Tables of `literature.py`, made from results of `octavo.eval`."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.eval import Result
from octavo.eval.analysis.compare import compare
from octavo.eval.analysis.statistics import PairedDifference

#: What the tables are about where they show one measure with its interval.
MAIN = "nDCG@10"


def claims(results: Sequence[Result], wanted: Sequence[tuple[str, str, str, float]]) -> str:
    """Return, for each claim and data set, what was measured and whether the interval decides it.

    Each claim is a sentence, the labels of the configuration that it starts from and of the one it is about, and the share
    of quality that may be lost.
    """
    lines = [
        f"| claim | data | from | to | change of {MAIN}, % | 95 % interval | holds |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for sentence, first, second, allowed in wanted:
        for number, found in enumerate(_by_dataset(results).values()):
            a, b = found[first], found[second]
            change = _difference(a, b)
            low, high = change.low / change.mean_a, change.high / change.mean_a
            said = _cell(sentence) if number == 0 else ""
            lines.append(
                f"| {said} | {a.dataset.name} | {change.mean_a:.4f} | {change.mean_b:.4f} | "
                f"{100 * (change.relative or 0):+.2f} | "
                f"{100 * low:+.2f} to {100 * high:+.2f} | {_verdict(low, high, allowed)} |"
            )
    return "\n".join(lines)


def _verdict(low: float, high: float, allowed: float) -> str:
    """Say whether all, none or part of the interval is where the claim puts it."""
    if low > -allowed:
        return "yes"
    return "no" if high < -allowed else "within noise"


def quality_tables(results: Sequence[Result]) -> str:
    """Return one table for each data set, with the difference of each configuration to float32."""
    parts = []
    for found in _by_dataset(results).values():
        reference = found["float32"]
        measures = [name for name in reference.quality if name != MAIN]
        head = ["configuration", "bytes", "smaller", MAIN, "of float32, %", "95 % interval", *measures, "agreement@10"]
        lines = [f"| {' | '.join(head)} |", f"|---{'|--:' * (len(head) - 1)}|"]
        for label, result in found.items():
            change = _difference(reference, result)
            size = result.storage.vector_bytes_per_document
            cells = [
                _cell(label) + (" (baseline)" if result.kind == "baseline" else ""),
                f"{size:,.0f}",
                f"{reference.storage.vector_bytes_per_document / size:.1f}x",
                f"{change.mean_b:.4f}",
                f"{100 * change.mean_b / change.mean_a:.1f}",
                f"{100 * (1 + change.low / change.mean_a):.1f} to {100 * (1 + change.high / change.mean_a):.1f}",
                *(f"{result.quality[name]:.4f}" for name in measures),
                f"{result.agreement.float32:.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"{_title(reference)}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def pooling_table(results: Sequence[Result]) -> str:
    """Return quality and bytes by pool factor, each against none pooled."""
    parts = []
    for found in _by_dataset(results).values():
        reference = next(iter(found.values()))
        measures = [name for name in reference.quality if name != MAIN]
        head = [
            "pool factor",
            "bytes",
            MAIN,
            "of factor 1, %",
            "95 % interval",
            *measures,
            "agreement@10",
            "same codes",
        ]
        lines = [f"| {' | '.join(head)} |", f"|{'--:|' * len(head)}"]
        for result in found.values():
            change = _difference(reference, result)
            cells = [
                str(result.configuration.pool_factor),
                f"{result.storage.vector_bytes_per_document:,.0f}",
                f"{change.mean_b:.4f}",
                f"{100 * change.mean_b / change.mean_a:.1f}",
                f"{100 * (1 + change.low / change.mean_a):.1f} to {100 * (1 + change.high / change.mean_a):.1f}",
                *(f"{result.quality[name]:.4f}" for name in measures),
                f"{result.agreement.float32:.3f}",
                f"{result.agreement.same_codes:.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"{_title(reference)}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def limit_table(results: Sequence[Result]) -> str:
    """Return recall of each mode."""
    measures = list(results[0].quality)
    lines = [f"| data | documents | search | {' | '.join(measures)} |", f"|---|--:|---{'|--:' * len(measures)}|"]
    for result in results:
        values = " | ".join(f"{result.quality[name]:.3f}" for name in measures)
        lines.append(f"| {result.dataset.name} | {result.dataset.documents:,} | {_cell(result.label)} | {values} |")
    return "\n".join(lines)


def graph_table(results: Sequence[Result]) -> str:
    """Return what the graph finds of what exact search over the same codes does."""
    lines = [
        f"| data | codec | graph, bytes | {MAIN} | agreement@10 with exact search over the same codes |",
        "|---|---|--:|--:|--:|",
    ]
    for result in results:
        cells = [
            result.dataset.name,
            _cell(result.configuration.codec or ""),
            _graph_bytes(result),
            f"{result.quality[MAIN]:.4f}",
            f"{result.agreement.same_codes:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _graph_bytes(result: Result) -> str:
    """Return what the graph takes, for each document; a dash where the search was a scan after all."""
    size = result.storage.ram.get("graph", 0) / result.storage.documents
    return f"{size:,.0f}" if size else "– (scan)"


def _by_dataset(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        found.setdefault(result.dataset.name, {})[result.label] = result
    return found


def _difference(a: Result, b: Result) -> PairedDifference:
    return compare(a, b, measures=[MAIN]).measures[MAIN]


def _title(result: Result) -> str:
    data = result.dataset
    return f"**{data.name}**: {data.documents:,} documents, {data.queries:,} queries."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
