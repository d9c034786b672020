"""What the kill tests share: a writer process, killed at a given moment, and what it said was acknowledged."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


class WriterScript:
    """A script that writes to a collection until it is killed, one JSON object a line for what was acknowledged."""

    def __init__(self, name: str) -> None:
        self.path = Path(__file__).with_name(f"{name}.py")

    def module(self) -> ModuleType:
        """Import the script, for what it can tell about the documents that it writes."""
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run_and_kill(self, collection: Path, run: int, delay: float) -> list[dict[str, list[str]]]:
        """Start the writer, kill it `delay` seconds after it has opened the collection, return its complete lines."""
        command = [sys.executable, str(self.path), str(collection), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = (
                process.stdout.readline()
            )  # wait until it has opened the collection: most moments should hit a write
            assert first, process.stderr.read()
            time.sleep(delay)
            process.kill()
            # not `communicate`: it would pass over what `readline` has already taken into its buffer
            rest, errors = process.stdout.read(), process.stderr.read()
        assert "Traceback" not in errors, errors
        # the last line may be torn
        return [json.loads(line) for line in [first, *rest.splitlines(keepends=True)] if line.endswith("\n")]


@pytest.fixture
def writer_script() -> Callable[[str], WriterScript]:
    """Return the script of a name."""
    return WriterScript
