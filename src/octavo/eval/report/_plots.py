"""Draw the pictures of a report. Figures are made without pyplot, so that nothing global changes."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.errors import MissingExtraError
from octavo.eval.analysis.grid import Grid
from octavo.eval.analysis.pareto import Point
from octavo.eval.analysis.statistics import PairedDifference

# Okabe and Ito's palette, which people with any colour vision can tell apart; shapes and labels say the same again.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#6B7280",
)
_INK, _FAINT = "#1F2933", "#E4E7EB"
_PARTS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY)
_PNG_DPI = 160
_LONGEST = 44  # letters of a name; alternative texts and tables have all of them
_LABELLED = 14  # more labels than this in one plane cannot be read


@dataclass(frozen=True)
class Picture:
    """A figure, drawn once as a vector graphic for the page and once as a bitmap for slides.

    Parameters
    ----------
    name : str
        File name without ending.
    alt : str
        What it shows, for those who cannot see it.
    svg, narrow, png : bytes
        The files; `narrow` is the vector graphic for a telephone, drawn anew so that its letters can be read there.
    """

    name: str
    alt: str
    svg: bytes
    narrow: bytes
    png: bytes


def _figure(width: float, height: float) -> Any:
    """Return an empty figure; 11.4 inches are the width of a wide page, 4.5 that of a narrow one."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise MissingExtraError("a report needs matplotlib. Install it: pip install 'octavo[eval]'") from None
    return Figure(figsize=(width, height), layout="constrained")


#: How colours change where the reader prefers a dark page: the picture is an image of its own and asks for itself.
_DARK = {
    _INK: "#e4e7eb",
    "#52606D": "#a9b4c0",
    _FAINT: "#323c47",
    "#9AA5B1": "#8795a3",
    "#ffffff": "#161b21",
    GREY: "#a9b4c0",
    BLUE: "#56a5dd",
}


def _style() -> bytes:
    rules = "".join(
        f'[style*="{name}: {colour.lower()}"]{{{name}:{dark}!important}}'
        for colour, dark in _DARK.items()
        for name in ("fill", "stroke")
    )
    return f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>".encode()


def _saved(figure: Any, **options: Any) -> bytes:
    from matplotlib import rc_context

    written = io.BytesIO()
    # A fixed salt and no date: the same results give the same bytes.
    with rc_context({"svg.hashsalt": "octavo", "svg.fonttype": "path"}):
        figure.savefig(written, **options)
    return written.getvalue()


def _laid_out(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once; saving would do it again for each file
    return figure


def _picture(name: str, alt: str, draw: Callable[[bool], Any]) -> Picture:
    """Draw a figure for a wide page and for a narrow one."""
    wide, narrow = _laid_out(draw(False)), _laid_out(draw(True))
    svgs = []
    for figure in (wide, narrow):
        svg = _saved(figure, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svgs.append(svg.replace(b"<defs>", _style() + b"<defs>", 1))
    png = _saved(wide, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return Picture(name, alt, svgs[0], svgs[1], png)


def _plain(axes: Any, *, grid: str = "both") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9AA5B1")
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.8)


def _literal(text: str, most: int = _LONGEST) -> str:
    """Return text that fits beside a picture and that matplotlib does not read as mathematics."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    return short.replace("$", r"\$")


def _name_rows(axes: Any, labels: Sequence[str], *, narrow: bool) -> None:
    """Write what the rows are beside them; above them where there is no room beside."""
    axes.set_ylim(len(labels) - 0.4, -0.75 if narrow else -0.6)
    if not narrow:
        axes.set_yticks(range(len(labels)), [_literal(label) for label in labels])
        return
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for at, label in enumerate(labels):
        axes.text(
            0, at - 0.28, _literal(label), transform=axes.get_yaxis_transform(), fontsize=9, color=_INK, va="bottom"
        )


def _legend(axes: Any, columns: int, *, narrow: bool) -> None:
    """Put the legend above the axes, where it covers nothing."""
    axes.legend(
        fontsize=9,
        frameon=False,
        ncols=min(columns, 2 if narrow else 6),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        labelcolor=_INK,
        columnspacing=1.2,
        handletextpad=0.4,
    )


def plane(points: Sequence[Point], measure: str, where: str, recommended: str | None) -> Picture:
    """Draw quality against bytes per document, with the frontier."""
    shown = [point for point in points if point.bytes_per_document > 0]
    frontier = [point for point in shown if point.on_frontier]
    top = "; ".join(f"{p.label}: {p.bytes_per_document:,.0f} bytes, {p.quality:.4f}" for p in frontier[:8])
    return _picture(
        f"plane-{where}",
        f"{measure} against bytes per document {_WHERE[where]}, {len(shown)} configurations. On the frontier: {top}.",
        lambda narrow: _draw_plane(shown, frontier, measure, where, recommended, narrow=narrow),
    )


def _draw_plane(
    shown: Sequence[Point],
    frontier: Sequence[Point],
    measure: str,
    where: str,
    recommended: str | None,
    *,
    narrow: bool,
) -> Any:
    figure = _figure(4.5, 4.8) if narrow else _figure(11.4, 5.2)
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes = figure.add_subplot()
    if frontier:
        x = [point.bytes_per_document for point in frontier]
        y = [point.quality for point in frontier]
        axes.step(x, y, where="post", color=BLUE, linewidth=1.6, alpha=0.75, zorder=2, label="frontier")
    kinds = [
        ("on the frontier", BLUE, "o", list(frontier)),
        ("beaten by another", GREY, "s", [p for p in shown if not p.on_frontier and not p.baseline]),
        ("reference scheme", ORANGE, "^", [p for p in shown if p.baseline]),
    ]
    for name, colour, marker, group in kinds:
        if group:
            axes.scatter(
                [p.bytes_per_document for p in group],
                [p.quality for p in group],
                s=46,
                color=colour,
                marker=marker,
                edgecolor="white",
                linewidth=0.8,
                zorder=3,
                label=name,
            )
    best = [point for point in shown if point.label == recommended]
    if best:
        axes.scatter(
            [best[0].bytes_per_document],
            [best[0].quality],
            s=190,
            facecolor="none",
            edgecolor=RED,
            linewidth=1.8,
            zorder=4,
            label="recommended",
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.06 * (high - low), high + 0.1 * (high - low))
    axes.set_xlabel(f"bytes per document, {_WHERE[where]} (logarithmic)", color=_INK, fontsize=10)
    axes.set_ylabel(_literal(measure), color=_INK, fontsize=10)
    _plain(axes)
    _legend(axes, 5, narrow=narrow)
    if shown:
        left, right = axes.get_xlim()
        axes.set_xlim(left / 1.15, right * (1.25 if narrow else 1.6))
        _name_points(axes, shown, frontier, best, most=7 if narrow else _LABELLED)
    return figure


_WHERE = {"ram": "in RAM", "index": "on disk, without texts", "disk": "on disk, all files"}


def _name_points(
    axes: Any, shown: Sequence[Point], frontier: Sequence[Point], best: Sequence[Point], *, most: int
) -> None:
    """Write names beside the points, the important ones first, leaving out what would cover a name, a mark or the line."""
    from matplotlib.transforms import Bbox

    rest = [point for point in shown if point not in frontier]
    ordered = [*best, *[p for p in frontier if p not in best], *rest]
    figure = axes.figure
    figure.draw_without_rendering()  # names can be told to overlap only once the axes have their size
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else figure._get_renderer()
    inside = axes.get_window_extent(renderer)
    at = axes.transData.transform([(point.bytes_per_document, point.quality) for point in shown])
    taken: list[Any] = [Bbox([(x - 5, y - 5), (x + 5, y + 5)]) for x, y in at]
    corners = (
        axes.transData.transform([(point.bytes_per_document, point.quality) for point in frontier]) if frontier else []
    )
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):  # a step: first along, then up
        taken += [Bbox([(x, y - 2), (next_x, y + 2)]), Bbox([(next_x - 2, y), (next_x + 2, next_y)])]
    written = 0
    for point in ordered[: 3 * most]:
        if written == most:
            break
        for dx, dy, horizontal in (
            (7, 6, "left"),
            (7, -13, "left"),
            (-7, 6, "right"),
            (-7, -13, "right"),
            (0, 11, "center"),
            (0, -19, "center"),
        ):
            text = axes.annotate(
                _literal(point.label),
                (point.bytes_per_document, point.quality),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=horizontal,
                fontsize=9,
                color=_INK if point.on_frontier else "#52606D",
                zorder=5,
            )
            box = text.get_window_extent(renderer).padded(1)
            within = box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                written += 1
                break
            text.remove()


def differences(
    panels: Sequence[tuple[str, Sequence[tuple[str, PairedDifference]]]], measure: str, against: str
) -> Picture:
    """Draw the mean difference of each configuration from the baseline with its interval, one panel a data set."""
    rows = max(len(entries) for _, entries in panels)
    return _picture(
        "differences",
        f"Mean difference in {measure} from {against} with its 95 % interval, for {rows} configurations on "
        f"{len(panels)} data set{'s' if len(panels) > 1 else ''}; the same figures are in the table below.",
        lambda narrow: _draw_differences(panels, measure, rows, narrow=narrow),
    )


def _draw_differences(
    panels: Sequence[tuple[str, Sequence[tuple[str, PairedDifference]]]], measure: str, rows: int, *, narrow: bool
) -> Any:
    if narrow:
        figure = _figure(4.5, len(panels) * (1.0 + 0.42 * rows))
        all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    else:
        figure = _figure(11.4, 1.0 + 0.3 * rows)
        all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for number, (axes, (name, entries)) in enumerate(zip(all_axes, panels, strict=True)):
        for at, (_, found) in enumerate(entries):
            significant = found.p_value < 0.05
            colour = (GREEN if found.difference > 0 else RED) if significant else GREY
            axes.plot([found.low, found.high], [at, at], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([found.difference], [at], "o" if significant else "s", color=colour, markersize=6)
        axes.axvline(0, color=_INK, linewidth=1)
        axes.set_xlabel(_literal(f"difference in {measure}"), fontsize=9, color=_INK)
        axes.locator_params(axis="x", nbins=5)
        if len(panels) > 1:
            axes.set_title(_literal(name, 36), fontsize=10, color=_INK)
        _plain(axes, grid="x")
        if narrow or number == 0:  # side by side they share their rows
            _name_rows(axes, [label for label, _ in entries], narrow=narrow)
    return figure


def scatter(panels: Sequence[tuple[str, Sequence[float], Sequence[float]]], measure: str, against: str) -> Picture:
    """Draw each query's value under a configuration against that under the baseline, one panel a configuration."""
    counted = "; ".join(
        f"{label}: {sum(q > p for p, q in zip(x, y, strict=True))} better, "
        f"{sum(q < p for p, q in zip(x, y, strict=True))} worse of {len(x)}"
        for label, x, y in panels
    )
    return _picture(
        "queries",
        f"{measure} of each query against that under {against}. {counted}.",
        lambda narrow: _draw_scatter(panels, measure, against, narrow=narrow),
    )


def _draw_scatter(
    panels: Sequence[tuple[str, Sequence[float], Sequence[float]]], measure: str, against: str, *, narrow: bool
) -> Any:
    columns = min(2 if narrow else 3, len(panels))
    rows = math.ceil(len(panels) / columns)
    each = 2.25 if narrow else 3.8 if columns == 3 else 4.5
    figure = _figure(each * columns, (each + 0.2) * rows)
    all_axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (label, x, y) in zip(all_axes, panels, strict=False):
        low, high = min(0.0, *x, *y), max(1.0, *x, *y)
        axes.plot([low, high], [low, high], color="#9AA5B1", linewidth=1, zorder=1)
        axes.scatter(x, y, s=16, color=BLUE, alpha=min(0.6, max(0.12, 60 / len(x))), linewidth=0, zorder=2)
        up, down = sum(q > p for p, q in zip(x, y, strict=True)), sum(q < p for p, q in zip(x, y, strict=True))
        # Beside the square, where no point can lie.
        axes.set_title(f"{_literal(label, 24 if narrow else 34)}\n{up} better, {down} worse", fontsize=9.5, color=_INK)
        axes.set_aspect("equal")
        _plain(axes)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(_literal(f"{measure} of each query, {against}"), fontsize=9.5, color=_INK)
    figure.supylabel("this configuration", fontsize=9.5, color=_INK)
    return figure


def latency(rows: Sequence[tuple[str, float, float, float]]) -> Picture:
    """Draw median, 95th and 99th percentile of the latency of each configuration."""
    listed = "; ".join(f"{name}: {p50:.2f}, {p95:.2f}, {p99:.2f}" for name, p50, p95, p99 in rows)
    return _picture(
        "latency",
        f"Latency in milliseconds (median, 95th, 99th percentile). {listed}.",
        lambda narrow: _draw_latency(rows, narrow=narrow),
    )


def _draw_latency(rows: Sequence[tuple[str, float, float, float]], *, narrow: bool) -> Any:
    figure = _figure(4.5, 1.3 + 0.42 * len(rows)) if narrow else _figure(11.4, 1.0 + 0.3 * len(rows))
    axes = figure.add_subplot()
    for at, (_, p50, _p95, p99) in enumerate(rows):
        axes.plot([p50, p99], [at, at], color="#9AA5B1", linewidth=1.6, zorder=1)
    for values, colour, marker, name in (
        ([row[1] for row in rows], BLUE, "o", "median"),
        ([row[2] for row in rows], ORANGE, "s", "95th percentile"),
        ([row[3] for row in rows], RED, "D", "99th percentile"),
    ):
        axes.scatter(values, range(len(rows)), s=34, color=colour, marker=marker, zorder=2, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds a query, one at a time", fontsize=9, color=_INK)
    _plain(axes, grid="x")
    _name_rows(axes, [row[0] for row in rows], narrow=narrow)
    _legend(axes, 3, narrow=narrow)
    return figure


def parts(rows: Sequence[tuple[str, dict[str, float]]], where: str) -> Picture:
    """Draw what the bytes of each configuration are made of."""
    listed = "; ".join(f"{name}: {sum(sizes.values()):,.0f}" for name, sizes in rows)
    return _picture(
        f"bytes-{where}",
        f"Bytes per document {_WHERE[where]}, by part. {listed}.",
        lambda narrow: _draw_parts(rows, where, narrow=narrow),
    )


def _draw_parts(rows: Sequence[tuple[str, dict[str, float]]], where: str, *, narrow: bool) -> Any:
    names = list(dict.fromkeys(name for _, sizes in rows for name in sizes))
    lines = math.ceil(len(names) / (2 if narrow else 6))
    figure = (
        _figure(4.5, 0.9 + 0.2 * lines + 0.5 * len(rows))
        if narrow
        else _figure(11.4, 0.8 + 0.2 * lines + 0.3 * len(rows))
    )
    axes = figure.add_subplot()
    begins = [0.0] * len(rows)
    height = 0.4 if narrow else 0.62
    places = [at + (0.08 if narrow else 0) for at in range(len(rows))]
    for number, name in enumerate(names):
        sizes = [found.get(name, 0.0) for _, found in rows]
        axes.barh(
            places,
            sizes,
            left=begins,
            height=height,
            color=_PARTS[number % len(_PARTS)],
            edgecolor="white",
            linewidth=0.8,
            hatch="" if number < len(_PARTS) else "//",
            label=_literal(name),
        )
        begins = [begin + size for begin, size in zip(begins, sizes, strict=True)]
    for at, end in zip(places, begins, strict=True):
        axes.text(end, at, f"  {end:,.0f}", va="center", fontsize=9, color=_INK)
    axes.set_xlim(0, max(begins) * (1.2 if narrow else 1.1) or 1)
    axes.set_xlabel(f"bytes per document, {_WHERE[where]}", fontsize=9, color=_INK)
    axes.locator_params(axis="x", nbins=4 if narrow else 8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _plain(axes, grid="x")
    _name_rows(axes, [name for name, _ in rows], narrow=narrow)
    _legend(axes, len(names), narrow=narrow)
    return figure


def heat_map(
    query_tokens: Sequence[str], document_tokens: Sequence[str], scores: Sequence[Sequence[float]], title: str
) -> Picture:
    """Draw the similarity of every query token with every document token; the best of each row is marked."""
    best = "; ".join(
        f"{token} with {document_tokens[max(range(len(row)), key=row.__getitem__)]} ({max(row):.2f})"
        for token, row in zip(query_tokens, scores, strict=True)
    )
    return _picture(
        "late-interaction",
        f"Similarity of query tokens and document tokens. Best match: {best}.",
        lambda narrow: (_draw_turned if narrow else _draw_heat_map)(query_tokens, document_tokens, scores, title),
    )


def _draw_turned(
    query_tokens: Sequence[str], document_tokens: Sequence[str], scores: Sequence[Sequence[float]], title: str
) -> Any:
    """Draw the same with the document's tokens downwards, which a narrow page has room for."""
    lines = textwrap.wrap(title, 52)
    figure = _figure(4.5, 1.4 + 0.2 * len(document_tokens) + 0.15 * len(lines))
    axes = figure.add_subplot()
    columns = [[row[at] for row in scores] for at in range(len(document_tokens))]
    image = axes.imshow(columns, cmap="cividis", aspect="auto")
    for at, row in enumerate(scores):
        axes.plot(
            [at], [max(range(len(row)), key=row.__getitem__)], "o", color="white", markeredgecolor="black", markersize=5
        )
    axes.set_xticks(
        range(len(query_tokens)), [_literal(token, 16) for token in query_tokens], rotation=90, fontsize=8.5
    )
    axes.set_yticks(range(len(document_tokens)), [_literal(token, 24) for token in document_tokens], fontsize=8)
    axes.tick_params(colors=_INK)
    axes.set_title("\n".join(lines).replace("$", r"\$"), fontsize=9.5, color=_INK)
    _colour_bar(figure, image, axes, location="bottom")
    return figure


def grid_map(grid: Grid, name: str) -> Picture:
    """Draw the quality of each number of layers and dimensions, a panel for each quantizer; the cheapest good one is framed."""
    return _picture(name, grid.sentence, lambda narrow: _draw_grid(grid, narrow=narrow))


def _draw_grid(grid: Grid, *, narrow: bool) -> Any:
    depths = sorted({cell.layers for cell in grid.cells}, key=lambda layers: (layers is None, layers or 0))
    widths = sorted({cell.dim for cell in grid.cells})
    quantizers = list(dict.fromkeys(cell.quantizer for cell in grid.cells))
    columns = 1 if narrow else min(2, len(quantizers))
    rows = -(-len(quantizers) // columns)
    figure = _figure(4.5 if narrow else 11.4, rows * (1.3 + 0.36 * len(depths)))
    values = [cell.value for cell in grid.cells]
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    cheapest = grid.cheapest
    image = None
    for axes, quantizer in zip(panels, quantizers, strict=False):
        table = [[math.nan] * len(widths) for _ in depths]
        for cell in grid.cells:
            if cell.quantizer != quantizer:
                continue
            at, across = depths.index(cell.layers), widths.index(cell.dim)
            table[at][across] = cell.value
            dark = cell.value < (min(values) + max(values)) / 2
            axes.text(
                across,
                at,
                f"{cell.value:.3f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
            if cell is cheapest:
                axes.plot([across], [at], "s", markersize=24, fillstyle="none", color=BLUE, markeredgewidth=2.5)
        image = axes.imshow(table, cmap="cividis", aspect="auto", vmin=min(values), vmax=max(values))
        axes.set_xticks(range(len(widths)), [str(width) for width in widths], fontsize=8.5)
        axes.set_yticks(range(len(depths)), ["all" if depth is None else str(depth) for depth in depths], fontsize=8.5)
        axes.set_xlabel("dimensions", fontsize=9, color=_INK)
        axes.set_ylabel("layers", fontsize=9, color=_INK)
        axes.set_title(_literal(quantizer), fontsize=10, color=_INK)
        axes.tick_params(colors=_INK)
    for axes in panels[len(quantizers) :]:
        axes.set_visible(False)
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8, location="bottom" if narrow else "right")
    bar.set_label(_literal(grid.measure), color=_INK)
    bar.ax.tick_params(colors=_INK)
    return figure


def _colour_bar(figure: Any, image: Any, axes: Any, **options: Any) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, **options)
    bar.set_label("similarity", color=_INK)
    bar.ax.tick_params(colors=_INK)


def _draw_heat_map(
    query_tokens: Sequence[str], document_tokens: Sequence[str], scores: Sequence[Sequence[float]], title: str
) -> Any:
    width = max(6.0, 1.6 + 0.24 * len(document_tokens))
    # About 13 characters of the title's size go into an inch.
    lines = textwrap.wrap(title, int(13 * width))
    figure = _figure(width, max(2.2, 1.2 + 0.26 * len(query_tokens)) + 0.15 * len(lines))
    axes = figure.add_subplot()
    image = axes.imshow(scores, cmap="cividis", aspect="auto")
    for at, row in enumerate(scores):
        axes.plot(
            [max(range(len(row)), key=row.__getitem__)], [at], "o", color="white", markeredgecolor="black", markersize=5
        )
    axes.set_xticks(
        range(len(document_tokens)), [_literal(token) for token in document_tokens], rotation=90, fontsize=7.5
    )
    axes.set_yticks(range(len(query_tokens)), [_literal(token) for token in query_tokens], fontsize=8)
    axes.set_title("\n".join(lines).replace("$", r"\$"), fontsize=10, color=_INK)
    axes.tick_params(colors=_INK)
    _colour_bar(figure, image, axes)
    return figure
