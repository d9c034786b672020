"""Layers and dimensions of one model: how good each size is, and which is the cheapest that is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from octavo._printing import human_bytes
from octavo.compression import Codec, Truncate
from octavo.eval.analysis.select import Group

#: Share of the best cell's quality that a cheaper one may lose.
WITHIN = 0.01


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One size of a model with one quantizer.

    Parameters
    ----------
    layers : int or None
        Transformer layers kept; None for all.
    dim : int
        Dimensions kept.
    quantizer : str
        The codec without what cuts the vectors.
    value : float
        The measure, as a mean over the data sets.
    bytes_per_document : float
        Codes of all tiers.
    query_ms : float or None
        Processor time that encoding a query takes.
    label : str
        What the configuration is called.
    """

    layers: int | None
    dim: int
    quantizer: str
    value: float
    bytes_per_document: float
    query_ms: float | None
    label: str


@dataclass(frozen=True)
class Grid:
    """What was measured of a model at several numbers of layers and dimensions; `to_dict` gives JSON.

    Parameters
    ----------
    model : str
        What results call it.
    measure : str
        What `Cell.value` is.
    cells : list of Cell
        All sizes measured.
    """

    model: str
    measure: str
    cells: list[Cell]

    @property
    def best(self) -> Cell:
        """The cell with the best quality; of equals the one with fewer bytes."""
        return max(self.cells, key=lambda cell: (cell.value, -cell.bytes_per_document))

    @property
    def cheapest(self) -> Cell:
        """Of the cells within 1 % of the best the one whose bytes times processor time are least.

        Where processor time was not measured of all, bytes alone decide.
        """
        good = [cell for cell in self.cells if cell.value >= (1 - WITHIN) * self.best.value]
        timed = all(cell.query_ms is not None for cell in good)
        return min(
            good,
            key=lambda cell: (
                cell.bytes_per_document * ((cell.query_ms or 0.0) if timed else 1.0),
                cell.bytes_per_document,
                -cell.value,
            ),
        )

    @property
    def sentence(self) -> str:
        """What to do, in a sentence."""
        cell, best = self.cheapest, self.best
        layers = "all layers" if cell.layers is None else f"{cell.layers} layer{'s' if cell.layers > 1 else ''}"
        time = f" and {cell.query_ms:.1f} ms of processor time a query" if cell.query_ms is not None else ""
        size = human_bytes(round(cell.bytes_per_document))
        chosen = f"encode with {layers}, keep {cell.dim} dimensions, {cell.quantizer}"
        return (
            f"The cheapest within {WITHIN:.0%}: {chosen}: {self.measure} {cell.value:.4f} "
            f"(the best, {best.label}: {best.value:.4f}), {size} a document{time}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "cheapest": asdict(self.cheapest), "sentence": self.sentence}


def grids(groups: Sequence[Group], measure: str) -> list[Grid]:
    """Return a grid for each model that was measured with several numbers of layers.

    Parameters
    ----------
    groups : sequence of Group
        Configurations on the same data sets. Dense ones whose tiers all cut vectors to the same dimension, or not at all,
        are cells; of several with the same size and quantizer the best is.
    measure : str
        What all of them have.
    """
    found: dict[str, dict[tuple[int | None, int, str], Cell]] = {}
    for group in groups:
        cell = _cell(group, measure)
        if cell is None:
            continue
        model = group.first.model
        assert model is not None  # or it would be no cell
        cells = found.setdefault(model.name, {})
        key = cell.layers, cell.dim, cell.quantizer
        if key not in cells or cells[key].value < cell.value:
            cells[key] = cell
    made = [Grid(name, measure, list(cells.values())) for name, cells in found.items()]
    return [one for one in made if len({cell.layers for cell in one.cells}) > 1]


def _cell(group: Group, measure: str) -> Cell | None:
    first = group.first
    chosen = first.configuration
    if group.is_baseline or chosen.mode != "dense" or chosen.codec is None or first.model is None:
        return None
    tiers = Codec.parse(chosen.codec).tiers
    dims = set()
    for tier in tiers:
        dim = first.model.dim
        for reducer in tier.reducers:
            if not isinstance(reducer, Truncate):
                return None
            dim = reducer.out_dim_for(dim)
        dims.add(dim)
    if len(dims) > 1:
        return None
    times = [result.model.query_ms for result in group.results if result.model is not None]
    known = [time for time in times if time is not None]
    return Cell(
        layers=chosen.layers,
        dim=dims.pop(),
        quantizer=" > ".join(tier.quantizer.token for tier in tiers),
        value=group.value(measure),
        bytes_per_document=sum(r.storage.vector_bytes_per_document for r in group.results) / len(group.results),
        query_ms=sum(known) / len(known) if known else None,
        label=group.label,
    )
