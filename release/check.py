"""Build what would be published and try it as a stranger would: ``make package``.

1. Source distribution, and the wheel from it; their metadata and README as an index would show them (``twine check``).
2. The source distribution unpacked elsewhere: every test is collected, those of the rules and of the stored format run.
3. The wheel alone in a fresh environment: dependencies agree, the command answers, `user_program.py` runs, and what needs
   an extra says so.
4. Types as a user sees them: `user_program.py` under mypy (strict) against the wheel, `pyright --verifytypes` over all
   public names.

Any failure ends it with that command's output and status 1. Needs the dependency groups ``dev`` and ``release``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Their frameworks, and PyTorch, are not beside the wheel: a type checker knows nothing of their base classes there.
FRAMEWORKS = ("octavo.integrations.", "octavo.training.losses.", "octavo.training.held_out.")
NEEDS_AN_EXTRA = (
    "import octavo.integrations.langchain",
    "import octavo.integrations.llama_index",
    "import octavo.integrations.ray",
    "from octavo.integrations.qdrant import open_collection; open_collection('qdrant:kb')",
    "import octavo; octavo.open(encoder='some-model').add(['text'])",
)


def run(*command: str | Path, cwd: Path = ROOT, expect: int = 0, **environment: str) -> str:
    """Run a command and return its output; another exit status than expected ends the check."""
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=outside | environment, text=True, capture_output=True, check=False
    )
    if done.returncode != expect:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}, expected {expect}")
    return done.stdout + done.stderr


def step(text: str) -> None:
    print(f"== {text}", flush=True)


def build(folder: Path) -> tuple[Path, Path]:
    """Build both distributions into a folder and check what an index would show."""
    run(sys.executable, "-m", "build", "--outdir", folder, ".")
    [source], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", source, wheel)
    return source, wheel


def check_source(source: Path, folder: Path) -> str:
    """Run tests from the unpacked source distribution; `src` of the checkout is out of reach."""
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    [tree] = folder.iterdir()
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    path = {"PYTHONPATH": str(tree / "src")}
    run(*pytest, "--collect-only", cwd=tree, **path)
    rules = ["tests/unit/test_exports.py", "tests/unit/test_layers.py", "tests/unit/test_name.py"]
    return run(*pytest, "tests/format", *rules, cwd=tree, **path).strip().splitlines()[-1]


def check_wheel(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone into a fresh environment and use it; returns that environment's interpreter."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    run(python, "-m", "pip", "check")
    version = run(folder / "bin" / "octavo", "--version", cwd=folder).strip()
    if run(python, "-m", "octavo", "--version", cwd=folder).strip() != version:
        raise SystemExit("the command and `python -m octavo` say different versions")
    print(run(python, "-W", "error", ROOT / "release" / "user_program.py", cwd=folder).strip())
    for statement in NEEDS_AN_EXTRA:
        said = run(python, "-c", statement, cwd=folder, expect=1)
        if "pip install 'octavo[" not in said:
            raise SystemExit(f"{statement!r} without its extra does not say what to install:\n{said}")
    return python


def check_types(python: Path) -> str:
    """Check a user's program, and that every public name outside the adapters has a type that is known."""
    run(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--config-file", os.devnull,
        ROOT / "release" / "user_program.py", cwd=python.parent)  # fmt: skip
    environment = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(python.parent.parent)}
    pyright = [sys.executable, "-m", "pyright", "--verifytypes", "octavo", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        pyright, cwd=python.parent, env=os.environ | environment, text=True, capture_output=True, check=False
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [symbol for symbol in symbols if symbol["isExported"] and not symbol["name"].startswith(FRAMEWORKS)]
    unknown = [symbol["name"] for symbol in public if not symbol["isTypeKnown"] and not symbol.get("isTypeAmbiguous")]
    if unknown or not public:
        raise SystemExit(
            f"pyright does not know the types of {unknown}" if public else f"pyright found nothing: {done.stdout}"
        )
    return f"pyright: {len(public)} public symbols, none of unknown type"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step("source distribution and wheel")
        source, wheel = build(folder / "dist")
        print(source.name, wheel.name)
        step("tests from the source distribution")
        print(check_source(source, folder / "source"))
        step("the wheel alone")
        python = check_wheel(wheel, folder / "environment")
        step("types from outside")
        print(check_types(python))


if __name__ == "__main__":
    main()
