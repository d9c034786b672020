"""Run the tests of the DSPy adapter in an environment of their own: ``make dspy``.

DSPy brings a client of every provider of language models, so neither the extra ``all`` nor the environment of the other tests
has it. Arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("pytest", "pytest-asyncio")  # what these tests import themselves
TESTS = ("tests/integrations/test_dspy.py", "tests/integrations/test_pages.py::test_the_blocks_of_a_page[dspy]")


def main() -> None:
    uv = [sys.executable, "-m", "uv"]
    with tempfile.TemporaryDirectory() as name:
        python = Path(name) / "environment" / "bin" / "python"
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(python.parent.parent)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", "constraints.txt"]
        subprocess.run([*install, "--editable", ".[dspy,qdrant]", *TOOLS], cwd=ROOT, check=True)
        # What is set for the environment that calls has no business in this one.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        tests = [*TESTS, *sys.argv[1:]]
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        raise SystemExit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
