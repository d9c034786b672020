"""A re-encoding that is killed again and again, while others write: a small version of `benchmarks/bench_reencode_kills.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_reencode_kills.py"


@pytest.fixture
def kills() -> Any:
    spec = importlib.util.spec_from_file_location("bench_reencode_kills", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_at_random_moments(kills: Any, tmp_path: Path) -> None:
    killed = 0
    for seed in range(20):
        happened, encoded, _ = kills.run(tmp_path, 1_500, 3, seed)
        assert encoded >= 1_500 - 600  # what was deleted before its turn came is not encoded
        killed += happened
        if killed >= 5:
            break
    assert killed >= 5
