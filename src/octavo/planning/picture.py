"""The picture of a fan-out simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from octavo.errors import MissingExtraError, ParameterError
from octavo.planning._fan_out import FanOut

#: Okabe and Ito's palette, which people with any colour vision can tell apart; dashes say the same again.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
_LINES = (("p50_ms", ":", "median"), ("p95_ms", "--", "95th percentile"), ("p99_ms", "-", "99th percentile"))


def draw_fan_out(curves: Mapping[str, Sequence[FanOut]], path: Path) -> None:
    """Draw latency against the number of shards, a colour for each curve and a line for each percentile.

    Parameters
    ----------
    curves : mapping of str to sequence of FanOut
        What to draw, by name.
    path : Path
        The file: ``.svg`` or ``.png``.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    ParameterError
        When the file has another ending.
    """
    if path.suffix not in (".svg", ".png"):
        raise ParameterError(f"expected a picture's file to end in .svg or .png, got {str(path)!r}")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise MissingExtraError("drawing a plan needs matplotlib. Install it: pip install 'octavo[eval]'") from None
    with matplotlib.rc_context({"svg.hashsalt": "octavo", "svg.fonttype": "none"}):  # the same file each time
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        for colour, (name, points) in zip(_COLOURS, curves.items(), strict=False):
            shards = [point.shards for point in points]
            for attribute, style, percentile in _LINES:
                values = [getattr(point, attribute) for point in points]
                axes.plot(shards, values, style, color=colour, label=f"{name}: {percentile}", linewidth=1.6)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(shards, [str(count) for count in shards])
        axes.set_xlabel("shards that a query waits for")
        axes.set_ylabel("milliseconds (simulated)")
        axes.grid(True, which="major", color="#E4E7EB", linewidth=0.6)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
