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


#: Okabe and Ito's palette, which people with any colour vision can tell apart; marks say the same again.
_LOOKS = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#D55E00", "P"))


def _short(value: float) -> str:
    """Write a number as people say it: 10k, 3M, 0.5."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def draw(results: list[list[Row]], file: Path) -> None:
    """Draw build, search, memory and disk against the number of documents; both axes logarithmic."""
    draw_points(points(results), file)


def draw_points(series: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw what `points` returned."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    panels = (
        ("build_s", "build, seconds (durable)"),
        ("p50_ms", f"search, median ms (recall {RECALL}, one core)"),
        ("anon_mb", "anonymous memory of the process, MB"),
        ("disk_mb", "disk, MB"),
    )
    sizes = sorted({row["documents"] for rows in series.values() for row in rows})
    # The same figures give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "octavo", "svg.fonttype": "path"}):
        figure = Figure(figsize=(10.5, 8.4), layout="constrained")
        for axis, (key, title) in zip(figure.subplots(2, 2).flat, panels, strict=True):
            for (name, rows), (colour, marker) in zip(series.items(), _LOOKS, strict=False):
                known = [(row["documents"], row[key]) for row in rows if row[key] is not None]
                if known:
                    axis.loglog(*zip(*known, strict=True), marker=marker, color=colour, linewidth=1.6, label=name)
            axis.set_title(title, fontsize=11, loc="left")
            axis.set_xlabel("documents")
            axis.xaxis.set_major_locator(FixedLocator(sizes))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
            low, high = axis.get_ylim()
            steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
            axis.yaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.grid(visible=True, which="major", color="#E4E7EB", linewidth=0.8)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(fontsize=8.5, loc="upper left", frameon=True, framealpha=0.9, edgecolor="#E4E7EB")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


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
