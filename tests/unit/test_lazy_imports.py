"""`import octavo` is light: no framework, no model library, nothing that draws."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "langchain_core",
    "llama_index",
    "matplotlib",
    "scipy",
    "sklearn",
    "pandas",
    "ir_measures",
    "mteb",
    "qdrant_client",
    "ray",
    "rich",
    "typer",
    "octavo.integrations.langchain",
    "octavo.integrations.llama_index",
    "octavo.eval",
    "octavo.cli",
    "octavo.demo",
)

_SCRIPT = """
import json, sys, time
start = time.perf_counter()
{statement}
print(json.dumps({{"seconds": time.perf_counter() - start, "modules": sorted(sys.modules)}}))
"""


def imported_by(statement: str) -> dict[str, Any]:
    """Run a statement in a fresh interpreter; return the loaded modules and the time."""
    script = _SCRIPT.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_import_octavo_loads_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = imported_by("import octavo")
    assert [name for name in HEAVY if name in loaded["modules"]] == []
    with capsys.disabled():  # a figure, not an assertion: a busy machine is not a mistake
        print(f"[import octavo: {loaded['seconds'] * 1000:.0f} ms]", end=" ")


def test_working_without_a_model_loads_no_model_library() -> None:
    loaded = imported_by(
        "import octavo; kb = octavo.open(encoder=lambda texts: [[1.0, len(t)] for t in texts]);"
        "kb.add(['a', 'bb']); kb.search('a'); kb.search('a', mode='text'); kb.verify(); kb.close()"
    )
    assert [name for name in HEAVY if name in loaded["modules"]] == []


def test_help_loads_no_model_library_and_no_framework() -> None:
    loaded = imported_by("import octavo.cli")
    light_enough = {"rich", "typer", "octavo.cli", "octavo.demo", "octavo.eval"}
    assert [name for name in HEAVY if name in loaded["modules"] and name not in light_enough] == []


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_one_integration_does_not_load_the_other(framework: str) -> None:
    pytest.importorskip({"langchain": "langchain_core", "llama_index": "llama_index.core"}[framework])
    loaded = imported_by(f"import octavo.integrations.{framework}")["modules"]
    other = {"langchain": "llama_index", "llama_index": "langchain_core"}[framework]
    assert other not in loaded
    assert "torch" not in loaded
