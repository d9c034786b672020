"""Tables of `bench_million.py`, made from the results that it keeps."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from rivals import SYSTEMS

TARGETS = (0.90, 0.95, 0.98)
Row = dict[str, Any]


def shown(row: Row) -> str:
    """Return a system's name for a table, in which a bar would end the cell."""
    return str(row["system"]).replace("|", "\\|")


def load(home: Path) -> list[Row]:
    """Return what is known of each system in the order of the registry."""
    rows = []
    for file in home.glob("*/system.json"):
        row: Row = json.loads(file.read_text())
        if row["system"] not in SYSTEMS:
            continue
        for part in ("build", "extras"):
            path = file.with_name(f"{part}.json")
            row[part] = json.loads(path.read_text()) if path.is_file() else None
        row["search"] = {
            int(path.stem.partition("-")[2]): json.loads(path.read_text()) for path in file.parent.glob("search-*.json")
        }
        rows.append(row)
    order = list(SYSTEMS)
    return sorted(rows, key=lambda row: order.index(row["system"]))


def reached(row: Row, cores: int, recall: float) -> Row | None:
    """Return the quickest measured point of at least this recall."""
    found = [point for point in curve(row, cores) if point["recall"] >= recall]
    return min(found, key=lambda point: point["p50_ms"]) if found else None


def curve(row: Row, cores: int) -> list[Row]:
    """Return the measured points."""
    points: list[Row] = (row["search"].get(cores) or {}).get("curve", [])
    return points


def best_recall(row: Row, cores: int) -> float:
    """Return the highest recall measured."""
    return max((point["recall"] for point in curve(row, cores)), default=0.0)


def everything(rows: list[Row], n: int, dim: int) -> str:
    """Return all tables."""
    parts = [
        f"{n:,} documents, {dim} dimensions. {machine()}.",
        f"### Search at recall@10 of at least 0.95, and what it takes ({n:,} x {dim})",
        "Ratios are to the quickest of Octavo's rows. *Not reached* gives the best recall of any setting.",
        main_table(rows, 0.95),
        "### Latency at equal recall",
        targets_table(rows),
        "### Octavo: defaults, filters, deletions",
        extras_tables(rows),
        "### Settings",
        settings_table(rows),
    ]
    failed = [f"- {row['system']}: {text}" for row in rows for text in errors(row)]
    return "\n\n".join(parts + (["### Not measured", "\n".join(failed)] if failed else []))


def errors(row: Row) -> list[str]:
    """Return what went wrong, in words."""
    steps = {"build": row["build"], "extras": row["extras"]}
    steps |= {f"search on {cores} core(s)": result for cores, result in row["search"].items()}
    return [f"{name}: {result['error']}" for name, result in steps.items() if result and "error" in result]


def machine() -> str:
    """Return what this ran on, in a sentence."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}, Python {platform.python_version()}"


def _octavo(rows: list[Row], cores: int, recall: float) -> float | None:
    """Return the latency of the quickest Octavo collection: what ratios are to."""
    points = [reached(row, cores, recall) for row in rows if row["system"].startswith("Octavo")]
    return min((point["p50_ms"] for point in points if point), default=None)


def _ms(row: Row, cores: int, recall: float, base: float | None, *, ratio: bool = True) -> str:
    if not curve(row, cores):
        return "–"
    point = reached(row, cores, recall)
    if point is None:
        return f"not reached (best {best_recall(row, cores):.3f})"
    text = f"{point['p50_ms']:.2f} / {point['p95_ms']:.2f}"
    return f"{text} ({point['p50_ms'] / base:.1f}x)" if ratio and base else text


def _setting(point: Row | None) -> str:
    if point is None:
        return ""
    return ", ".join(f"{name} {value:g}" for name, value in point["setting"].items()) or "defaults"


def main_table(rows: list[Row], recall: float) -> str:
    """Return one line a system: time at equal recall on one and two cores, and everything that it costs."""
    titles = ["system", "holds", "1 core p50 / p95 ms", "2 cores p50 / p95 ms", "setting", "recall"]
    titles += [
        "batch q/s, 1 core",
        "2 cores",
        "build s",
        "CPU s",
        "docs/s",
        "build peak MB",
        "disk MB",
        "anon MB",
        "file MB",
        "open s",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        if not row["build"] or "error" in row["build"]:
            continue
        built, base = row["build"], {cores: _octavo(rows, cores, recall) for cores in (1, 2)}
        opened = next((row["search"][cores] for cores in (1, 2) if curve(row, cores)), None)
        point = reached(row, 1, recall) or reached(row, 2, recall)
        cells = [
            shown(row),
            built["stores"],
            _ms(row, 1, recall, base[1]),
            _ms(row, 2, recall, base[2]),
            _setting(point),
        ]
        cells.append(f"{point['recall']:.3f}" if point else "")
        for cores in (1, 2):
            batch = (row["search"].get(cores) or {}).get("batch")
            mark = "" if not batch or batch["recall"] >= recall else f" (recall {batch['recall']:.3f})"
            cells.append(f"{batch['queries_per_s']:,.0f}{mark}" if batch else "–")
        cells += [f"{built[key]:,.0f}" for key in ("build_s", "build_cpu_s", "docs_per_s", "build_peak_anon_mb")]
        cells.append(f"{built['disk_mb']:,.0f}")
        cells += [f"{opened[key]:,.0f}" for key in ("anon_mb", "file_mb")] if opened else ["–", "–"]
        cells.append(f"{opened['open_s']:.2f}" if opened else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def targets_table(rows: list[Row]) -> str:
    """Return p50 and p95 at each target on one core, with ratios to Octavo's quickest."""
    titles = ["system", *(f"recall {target:.2f}: p50 / p95 ms" for target in TARGETS)]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    cores = 1 if any(curve(row, 1) for row in rows) else 2
    for row in rows:
        if curve(row, cores):
            cells = [_ms(row, cores, target, _octavo(rows, cores, target)) for target in TARGETS]
            lines.append(f"| {shown(row)} | " + " | ".join(cells) + " |")
    return "\n".join([f"On {cores} core(s); ratios are to the quickest of Octavo's rows.", "", *lines])


def extras_tables(rows: list[Row]) -> str:
    """Return what was measured of Octavo alone."""
    own = [row for row in rows if row["system"].startswith("Octavo")]
    lines = ["| codec | recall@10 of defaults | p50 / p95 ms, 1 core | the same questions again |", "|---|---|---|---|"]
    for row in own:
        point = next((point for point in curve(row, 1) if not point["setting"]), None)
        if point:
            times = [f"{part['p50_ms']:.2f} / {part['p95_ms']:.2f}" for part in (point, point["again"])]
            lines.append(f"| {shown(row)} | {point['recall']:.3f} | {times[0]} | {times[1]} |")
    measured = [row for row in own if row["extras"] and "error" not in row["extras"]]
    lines += [
        "",
        "| codec | documents that match | p50 / p95 ms | against no filter | a filter's first search, ms | recall@10 |",
    ]
    lines.append("|---" * 6 + "|")
    for row in measured:
        plain = row["extras"]["filters"][0]
        for part in row["extras"]["filters"]:
            first = f"{part['first_ms']:.1f} | {part['recall']:.3f}" if "first_ms" in part else " | "
            lines.append(
                f"| {shown(row)} | {100 * part['share']:g} % | {part['p50_ms']:.2f} / {part['p95_ms']:.2f} | "
                f"{part['p50_ms'] / plain['p50_ms']:.1f}x | {first} |"
            )
    lines += [
        "",
        "| codec | recall before | a tenth deleted | added again | p50 before, ms | after | delete s | add s |",
    ]
    lines.append("|---" * 8 + "|")
    for row in measured:
        churn = row["extras"]["churn"]
        lines.append(
            f"| {shown(row)} | {churn['recall_before']:.3f} | {churn['recall_deleted']:.3f} | {churn['recall_after']:.3f} | "
            f"{churn['p50_before_ms']:.2f} | {churn['p50_after_ms']:.2f} | {churn['delete_s']:.1f} | {churn['add_s']:.1f} |"
        )
    return "\n".join(lines)


def settings_table(rows: list[Row]) -> str:
    """Return how each system was built, and where that is recommended."""
    lines = ["| system | version | built with | after | durable |", "|---|---|---|---|---|"]
    for row in rows:
        system = SYSTEMS[row["system"]]
        version = (row["build"] or {}).get("version", "")
        settings = system.settings.replace("|", "\\|")
        lines.append(f"| {shown(row)} | {version} | {settings} | {system.source} | {system.durable} |")
    return "\n".join(lines)


def insertion_table(rows: list[Row], n: int) -> str:
    """Return recall of the graph against insertion order."""
    lines = [f"{n:,} documents, graph alone; recall@10 against an exact search over the same codes. {machine()}.", ""]
    efs = sorted({int(ef) for row in rows for ef in row["recall"]})
    lines.append("| codes | order | " + " | ".join(f"ef {ef}" for ef in efs) + " | build s | finding the order, s |")
    lines.append("|---" * (len(efs) + 4) + "|")
    for row in rows:
        cells = " | ".join(f"{row['recall'][str(ef)]:.3f}" for ef in efs)
        lines.append(f"| {row['codes']} | {row['order']} | {cells} | {row['build_s']:.1f} | {row['order_s']:.1f} |")
    return "\n".join(lines)


def publish(report: Path | None, marker: str, text: str, writer: str = "bench_million.py") -> None:
    """Print the tables, and put them between their markers in the report (at its end when it has none)."""
    print(f"\n{text}\n")
    if report is None:
        return
    begin, end = f"<!-- {marker}: begin, written by {writer} -->", f"<!-- {marker}: end -->"
    block = f"{begin}\n\n{text}\n\n{end}"
    old = report.read_text(encoding="utf-8") if report.is_file() else "# Benchmarks\n"
    start = old.find(begin)
    stop = old.find(end, start)
    if start >= 0 and stop >= 0:
        new = old[:start] + block + old[stop + len(end) :]
    else:
        new = old.rstrip("\n") + f"\n\n{block}\n"
    draft = report.with_name(report.name + ".tmp")
    draft.write_text(new, encoding="utf-8")
    os.replace(draft, report)
