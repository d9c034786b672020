"""The programs in the documentation of the smaller adapters run, offline and without a warning, each page by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Page: the package that it needs, and what it prints.
PAGES = {
    "serve": ("octavo", r"http://127\.0\.0\.1:\d+/#key=\S+"),
    "index": ("octavo", r"pear [\d.]+ a green pear \{'year': 2023\}\nsky .*"),
    "adding": ("octavo", r"CollectionNotFoundError\n(\S+ [\d.]+ .*\n?){3}"),
    "filters": ("octavo", ""),
    "backups": ("octavo", "sound: False"),
    "processes": ("octavo", ""),
    "moving": ("octavo", "int8"),
    "codecs": ("octavo", ""),
    "sparse": ("octavo", ""),
    "text-search": ("octavo", ""),
    "context": ("octavo", ""),
    "page-images": ("langchain_core", r"\['poppies'\] \['poppies'\]\nsea \(60, 80\) sea\.png\nsea\.png image/png"),
    "tool-retrieval": ("octavo", r"\['rollback', 'deploy'\]"),
    "assistants": ("mcp", r"\['pear'\]"),
    "haystack": ("haystack", r"\['diesel'\]\n\['steam', 'violin'\]\n\['turbine'\]\n\['violin'\]"),
    "dspy": ("dspy", r"\['pear', 'plums'\]\n\['a red apple'\]"),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page(page: str, tmp_path: Path) -> None:
    needed, printed = PAGES[page]
    if find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    text = (ROOT / f"docs/{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert blocks
    (tmp_path / "program.py").write_text("\n".join(blocks), "utf-8")
    done = subprocess.run(
        # dspy warns about its own signatures when it is imported
        [
            sys.executable,
            "-W",
            "error",
            *(["-W", "ignore::DeprecationWarning"] if page == "dspy" else []),
            "program.py",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONIOENCODING": "utf-8",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(printed, done.stdout.strip()), done.stdout


@pytest.mark.parametrize("notebook", sorted(path.stem for path in ROOT.glob("docs/notebooks/*.ipynb")))
def test_a_notebook_runs_and_shows_what_its_file_says(notebook: str, minilm: str) -> None:
    for needed in ("nbclient", "ipykernel", "ir_measures", "matplotlib", "langchain_text_splitters"):
        if find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    done = subprocess.run(
        [sys.executable, ROOT / "docs/notebooks/run.py", "--check", ROOT / f"docs/notebooks/{notebook}.ipynb"],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{notebook}.ipynb: runs" in done.stdout


def test_tools_are_found_by_how_people_ask(tmp_path: Path, minilm: str) -> None:
    if find_spec("langchain_core") is None:
        pytest.skip("needs langchain_core")
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples/tool_retrieval.py"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs/tool-retrieval.md").read_text("utf-8")
    [shown] = re.findall(r"^\$ python examples/tool_retrieval.py\n(.*?)^```$", page, re.M | re.S)
    unnumbered = re.compile(r"0\.\d\d")
    assert unnumbered.sub("#", done.stdout) == unnumbered.sub("#", shown)
    recalls = {line.split()[1]: [float(share) for share in line.split()[2:]] for line in done.stdout.splitlines()[-3:]}
    assert recalls["both"][2] > recalls["description"][2] + 0.05
