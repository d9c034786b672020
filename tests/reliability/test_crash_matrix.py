"""A small part of the crash matrix: one trial for each kind of fault in some operations; see ``benchmarks/reliability``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

OPERATIONS = (
    "add, replacing",
    "graph checkpoint",
    "cells: segments",
    "cells: trained anew",
    "fork",
    "chdir",
    "page images: add, replacing",
)

HERE = Path(__file__).parents[2] / "benchmarks" / "reliability"


def _shim_module() -> ModuleType:
    path = HERE / "crash_shim.py"
    if not path.exists():
        pytest.skip("the benchmarks are not here")
    spec = importlib.util.spec_from_file_location("crash_shim_for_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_sample_of_the_crash_matrix(tmp_path: Path) -> None:
    shim = _shim_module()
    if (reason := shim.unavailable()) is not None:
        pytest.skip(reason)
    try:
        shim.build(tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("the fault shim cannot be compiled here")
    report = tmp_path / "report.json"
    only = [word for name in OPERATIONS for word in ("--only", name)]
    trials = str(15 * len(OPERATIONS))
    command = [sys.executable, str(HERE / "crash_matrix.py"), "--trials", trials, *only, "--json", str(report)]
    result = subprocess.run(
        [*command, "--folder", str(tmp_path), "--jobs", "1"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    trials = json.loads(report.read_text())["trials"]
    kinds = 15 - ("left out" in result.stdout)  # a file system that is really full, where one can be mounted
    assert len(trials) == kinds * len(OPERATIONS)
    words = {trial["word"] for trial in trials}
    assert "failed" not in words
    assert {"absent", "named"} <= words  # processes were killed within a write, and others saw an error
