"""Layers x dimensions of one model: which cells there are, and which is the cheapest that is good enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from octavo.eval.analysis.grid import Cell, Grid, grids
from octavo.eval.analysis.select import group


def cell(layers: int | None, dim: int, value: float, size: float, time: float | None) -> Cell:
    return Cell(
        layers=layers,
        dim=dim,
        quantizer="int8",
        value=value,
        bytes_per_document=size,
        query_ms=time,
        label=f"{layers}x{dim}",
    )


def test_the_cheapest_is_that_of_the_least_bytes_times_time_within_one_percent() -> None:
    cells = [
        cell(None, 384, 0.600, 384, 10.0),
        cell(3, 192, 0.595, 192, 5.0),  # 960
        cell(None, 64, 0.594, 64, 10.0),  # 640, and within 1 %
        cell(3, 32, 0.590, 32, 5.0),  # too bad
    ]
    found = Grid("model", "nDCG@10", cells)
    assert found.best is cells[0]
    assert found.cheapest is cells[2]
    assert "encode with all layers, keep 64 dimensions, int8" in found.sentence
    assert "10.0 ms of processor time" in found.sentence
    # Without the time of one of them, bytes alone decide.
    cells[1] = cell(3, 60, 0.595, 60, None)
    assert Grid("model", "nDCG@10", cells).cheapest is cells[1]
    assert Grid("model", "nDCG@10", cells).to_dict()["cheapest"]["dim"] == 60


def test_cells_are_cut_dense_searches_of_models_with_several_depths(make_result: Any) -> None:
    def made(codec: str, layers: int | None, **options: Any) -> Any:
        result = make_result(codec, layers=layers, **options)
        return replace(result, model=replace(result.model, layers=layers, query_ms=1.0 + (layers or 6)))

    results = [
        made("int8", None),
        made("truncate:64|binary > truncate:64|int8", 3),
        made("truncate:64|int8", 3),
        made("svd:64|int8", 3),  # not cut
        made("truncate:32|binary > truncate:64|int8", 3),  # two dimensions
    ]
    groups, _ = group(results)
    [found] = grids(groups, "nDCG@10")
    dim = results[0].model.dim
    assert {(one.layers, one.dim, one.quantizer) for one in found.cells} == {
        (None, dim, "int8"),
        (3, 64, "binary > int8"),
        (3, 64, "int8"),
    }
    assert {one.query_ms for one in found.cells} == {7.0, 4.0}
    assert grids([one for one in groups if one.first.configuration.layers == 3], "nDCG@10") == []


def test_the_report_draws_it(make_result: Any, tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    from octavo.eval.report import report

    results = [
        make_result("int8"),
        make_result("truncate:64|int8", layers=3),
        make_result("truncate:32|int2", layers=2),
    ]
    page = report(results, out=tmp_path / "report.html")
    assert any(name.endswith("report-grid.png") for name in page.pictures)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Layers and dimensions" in text
    assert "The cheapest within 1%" in text
