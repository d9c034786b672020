"""Run the notebooks beside this file top to bottom, each in an empty folder, and keep what they show: ``make notebooks``.

With ``--check`` nothing is written: it ends with status 1 where a cell raises, or shows something else than the file says.
Numbers may differ there, since times and the last digits of a score do; so may everything under another Python than the file
was run with, since the notebooks search what that Python brings along.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SPACE = re.compile(r"[\s─━-]+")


def run(path: Path) -> Any:
    """Return a notebook after running it, with what its cells show; what they print on stderr is left out."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=600, startup_timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _together(_plain(output) for output in cell.outputs if output.get("name") != "stderr")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "version": version},
    }
    return notebook


def _plain(output: Any) -> Any:
    if "execution_count" in output:
        output.execution_count = None
    if "metadata" in output:
        output.metadata = {}
    return output


def _together(outputs: Iterable[Any]) -> list[Any]:
    """Join what is printed piece by piece, wherever the pieces happen to end."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def shown(notebook: Any) -> list[tuple[int, str]]:
    """Return what each cell shows, without numbers and spaces."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/html") or output["data"]["text/plain"]
            found.append((number, _SPACE.sub(" ", _NUMBER.sub("#", text)).strip()))
    return found


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them, if none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    asked = parser.parse_args()
    # What a notebook calls is what belongs to this interpreter, and nothing is asked of a model hub.
    os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", "")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "NO_COLOR": "1", "COLUMNS": "120"}
    os.environ["PYTHONWARNINGS"] = "ignore"  # of the kernel's own libraries
    wrong = 0
    for path in asked.notebooks or sorted(FOLDER.glob("*.ipynb")):
        before = nbformat.read(path, as_version=4)
        after = run(path)
        if not asked.check:
            nbformat.write(after, path)
            continue
        if before.metadata.get("language_info", {}).get("version") != after.metadata["language_info"]["version"]:
            print(f"{path.name}: runs; made with another Python, so what it shows was not compared")
        elif shown(before) != shown(after):
            wrong += 1
            for was, now in zip(shown(before), shown(after), strict=False):
                if was != now:
                    print(f"{path.name}, cell {now[0]}: the file shows\n{was[1]}\nand it shows now\n{now[1]}")
        else:
            print(f"{path.name}: runs, and shows what the file says")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
