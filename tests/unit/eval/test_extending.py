"""The program in docs/evaluation-extending.md runs, and prints what the page says."""

from __future__ import annotations

import re
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from octavo.eval import datasets
from octavo.eval.rivals import unregister_rival
from octavo.eval.running import measures
from octavo.eval.running.measures import Measures, unregister_measure

pytest.importorskip("ir_measures", reason="needs ir-measures")

PAGE = Path(__file__).parents[3] / "docs" / "evaluation-extending.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="documentation is not part of this installation")
def test_the_page_does_what_it_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_loaders", dict(datasets._loaders))
    text = PAGE.read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    [printed] = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    try:
        exec(compile(program, str(PAGE), "exec"), {"__name__": "example"})  # our own page
    finally:
        unregister_measure("First")
        unregister_rival("half")
    assert capsys.readouterr().out == printed


def test_measures_of_installed_packages_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("Last@2", "test_extending_package:last", "octavo.eval.measures")
    package = types.ModuleType("test_extending_package")
    package.last = (lambda grades, ids: float(grades.get(ids[-1], 0)), 2)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)

    def entry_points(*, group: str, name: str) -> list[metadata.EntryPoint]:
        return [point] if (group, name) == (point.group, point.name) else []

    monkeypatch.setattr(measures.metadata, "entry_points", entry_points)
    try:
        chosen = Measures(["Last@2"])
        assert chosen.depths == {"Last@2": 2}
        assert chosen.evaluate({"q": {"b": 1}}, {2: {"q": [("a", 1.0), ("b", 0.5)]}}).mean == {"Last@2": 1.0}
    finally:
        unregister_measure("Last@2")
