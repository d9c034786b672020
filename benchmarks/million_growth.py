"""How Octavo's costs grow: one picture, and the same figures as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from million_report import Row, curve, machine, reached

RECALL = 0.95


def points(results: list[list[Row]]) -> dict[str, list[dict[str, Any]]]:
    """Return what was measured at each size, for each codec; None where something is missing."""
    series: dict[str, list[dict[str, Any]]] = {}
    for rows in results:
        for row in rows:
            if not row["system"].startswith("Octavo") or not row["build"] or "error" in row["build"]:
                continue
            searched = row["search"].get(1) or next(iter(row["search"].values()), {})
            cores = 1 if 1 in row["search"] else next(iter(row["search"]), 1)
            point = reached(row, cores, RECALL)
            default = next((part for part in curve(row, cores) if not part["setting"]), None)
            series.setdefault(row["system"].removeprefix("Octavo ").strip("`"), []).append(
                {
                    "documents": row["documents"],
                    "build_s": row["build"]["build_s"],
                    "docs_per_s": row["build"]["docs_per_s"],
                    "disk_mb": row["build"]["disk_mb"],
                    "anon_mb": searched.get("anon_mb"),
                    "file_mb": searched.get("file_mb"),
                    "open_s": searched.get("open_s"),
                    "p50_ms": point["p50_ms"] if point else None,
                    "p95_ms": point["p95_ms"] if point else None,
                    "default_recall": default["recall"] if default else None,
                    "default_p50_ms": default["p50_ms"] if default else None,
                }
            )
    for rows in series.values():
        rows.sort(key=lambda row: row["documents"])
    return series


def draw(results: list[list[Row]], file: Path) -> None:
    """Draw build, search, memory and disk against the number of documents; both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "octavo"
    from matplotlib import pyplot

    panels = (
        ("build_s", "build, s (durable)"),
        ("p50_ms", f"search p50, ms (recall {RECALL}, one core)"),
        ("anon_mb", "anonymous memory of the process, MB"),
        ("disk_mb", "disk, MB"),
    )
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for axis, (key, title) in zip(axes.flat, panels, strict=True):
        for name, rows in points(results).items():
            known = [(row["documents"], row[key]) for row in rows if row[key] is not None]
            if known:
                axis.loglog(*zip(*known, strict=True), marker="o", label=name)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("documents")
        axis.grid(visible=True, which="both", alpha=0.25)
    axes.flat[0].legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def table(results: list[list[Row]]) -> str:
    """Return the figures of the picture."""
    titles = ["codec", "documents", "build s", "docs/s", f"p50 / p95 ms at {RECALL}", "defaults: recall, p50 ms"]
    titles += ["anon MB", "file MB", "disk MB", "open s"]
    lines = [f"{machine()}.", "", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, rows in points(results).items():
        for row in rows:
            cells = [
                name.replace("|", "\\|"),
                f"{row['documents']:,}",
                f"{row['build_s']:.1f}",
                f"{row['docs_per_s']:,.0f}",
            ]
            cells.append("not reached" if row["p50_ms"] is None else f"{row['p50_ms']:.2f} / {row['p95_ms']:.2f}")
            known = row["default_recall"] is not None
            cells.append(f"{row['default_recall']:.3f}, {row['default_p50_ms']:.2f}" if known else "–")
            cells += ["–" if row[key] is None else f"{row[key]:,.0f}" for key in ("anon_mb", "file_mb", "disk_mb")]
            cells.append("–" if row["open_s"] is None else f"{row['open_s']:.2f}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
