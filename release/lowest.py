"""Run the unit tests with the oldest versions that ``pyproject.toml`` admits: ``make lowest``.

``uv pip compile --resolution lowest-direct`` chooses the lower bound of everything that is named there, and the newest of
what those need. Models stay out (the lower bound of sentence-transformers alone would bring another PyTorch), so tests that
need one skip. Arguments go to pytest; without any, all unit tests and those of the stored format run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("langchain", "llama-index", "eval", "qdrant", "images")
TOOLS = ("pytest", "pytest-asyncio", "hypothesis", "numpydoc", "ml-dtypes", "lark")  # what tests import themselves


def main() -> None:
    uv = [sys.executable, "-m", "uv"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        oldest, python = folder / "oldest.txt", folder / "environment" / "bin" / "python"
        extras = [option for extra in EXTRAS for option in ("--extra", extra)]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        compiled = ["pip", "compile", "--quiet", "--resolution", "lowest-direct", "--python-version", version, *extras]
        subprocess.run(
            [*uv, *compiled, "--output-file", str(oldest), "pyproject.toml"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(python.parent.parent)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, "--requirement", str(oldest), "--constraint", str(oldest), *TOOLS], check=True)
        subprocess.run([*install, "--no-deps", "--editable", str(ROOT)], check=True)
        tests = sys.argv[1:] or ["tests/unit", "tests/format"]
        # an old package beside new ones of those that it needs warns of what these will take away
        command = [python, "-m", "pytest", "-q", "-W", "ignore::DeprecationWarning", *tests]
        raise SystemExit(subprocess.run(command, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
