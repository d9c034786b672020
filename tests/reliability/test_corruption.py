"""Damaged files: the right answer, a repaired collection, or an error that names the file. Never a signal, never silence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

import octavo

DIM = 32
N = 800

#: All cases, thousands of them, are a benchmark: `docs/reliability.md`. Here are some, with the same harness.
MATRIX = Path(__file__).parents[2] / "benchmarks" / "reliability" / "corruption_matrix.py"


def _matrix() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, lowered_limits: Callable[..., AbstractContextManager[None]]) -> Path:
    path = tmp_path_factory.mktemp("good") / "kb"
    with lowered_limits(graph_min=100, tail_max=50), octavo.open(path, codec="int8 > float16", fit_after=100) as kb:
        kb.add(
            [f"text number {i}" for i in range(N)],
            ids=[str(i) for i in range(N)],
            metadata=[{"n": i} for i in range(N)],
            vectors=_matrix(),
        )
        kb.search("text", mode="text")
        assert kb.info().index_covers == N
    return path


def _damage(file: Path, how: str, rng: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    if how == "flip":
        for position in rng.integers(0, len(content), 5) if content else []:
            content[position] ^= int(rng.integers(1, 256))
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "zero":
        content[len(content) // 3 : 2 * len(content) // 3] = bytes(2 * len(content) // 3 - len(content) // 3)
    elif how == "longer":
        content += rng.bytes(1_000)
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the harness forks and reads /proc")
@pytest.mark.skipif(not MATRIX.exists(), reason="an installation without the benchmarks")
@pytest.mark.parametrize(
    ("recipe", "options"), [("compacted", []), ("late", ["--only", ".vec"]), ("int8", ["--opened"])]
)
def test_some_cases_of_the_matrix(recipe: str, options: list[str]) -> None:
    command = [sys.executable, str(MATRIX), "--cases", "12", "--recipes", recipe, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b([5-9]|1[0-2]) cases", done.stdout), done.stdout  # some leave a file as it was


@pytest.mark.slow
@pytest.mark.parametrize("tier", [0, 1])
def test_repair_from_the_other_tier(good: Path, tmp_path: Path, tier: int) -> None:
    path = tmp_path / "kb"
    shutil.copytree(good, path)
    file = next(path.glob(f"g*-{tier}.vec"))
    _damage(file, "flip", np.random.default_rng(0))
    with octavo.open(path) as kb:
        report = kb.verify()
        assert not report
        assert file.name in report.problems[0]
        mended = kb.verify(repair=True)
        assert mended.ok, mended.problems
        assert "another tier" in mended.repaired[0]
        assert kb.verify().ok
    with octavo.open(path) as kb:
        assert [found.ids for found in kb.search_batch(_matrix()[::40], 1)] == [[str(i)] for i in range(0, N, 40)]


@pytest.mark.slow
def test_repair_from_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "kb"

    def encoder(texts: list[str]) -> np.ndarray:
        return np.stack([np.random.default_rng(len(t) + sum(map(ord, t))).standard_normal(DIM) for t in texts])

    with octavo.open(path, encoder, codec="int8", fit_after=10) as kb:
        kb.add([f"text number {i}" for i in range(200)], ids=[str(i) for i in range(200)])
        expected = kb.get_vectors(["7", "150"])
    _damage(next(path.glob("*.vec")), "cut", np.random.default_rng(0))
    with octavo.open(path) as kb:
        assert kb.search("number", 3, mode="text").ids  # what is not damaged still works
        with pytest.raises(octavo.OctavoError, match="lost their vectors"):
            kb.verify(repair=True)
    with octavo.open(path, encoder) as kb:
        assert kb.verify(repair=True).ok
        np.testing.assert_allclose(kb.get_vectors(["7", "150"]), expected, atol=0.02)
