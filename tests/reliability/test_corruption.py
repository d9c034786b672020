"""Damaged files: the right answer, a repaired collection, or an error that names the file. Never a signal, never silence."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import quire

DIM = 32
N = 800

CHECK = textwrap.dedent(
    """
    import sys, warnings
    import numpy as np
    import quire
    from quire.index import planner
    planner.graph_min, planner.tail_max, planner.TAIL_MAX = (lambda layout: 100), (lambda layout: 50), 50
    matrix = np.random.default_rng(0).standard_normal((800, 32)).astype(np.float32)
    try:
        with quire.open(sys.argv[1]) as kb:
            kb.search(matrix[0], 1)
            kb._graph.wait()
            for row in range(0, 800, 40):
                found = kb.search(matrix[row], 1)
                if found.ids != [str(row)] or found.documents[0].text != f"text number {row}":
                    raise SystemExit(f"wrong answer for {row}: {found}")
                if kb.search(f"{row}", 1, mode="text").ids != [str(row)]:
                    raise SystemExit(f"wrong text answer for {row}")
            if kb.count({"n": {"$lt": 100}}) != 100:
                raise SystemExit("wrong count")
            print("right", kb.verify().ok)
    except quire.QuireError as err:
        if not str(err):
            raise SystemExit("an error without a message")
        print("error", type(err).__name__, err)
    """
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "kb"
    matrix = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quire.index.planner.graph_min", lambda layout: 100)
        patch.setattr("quire.index.planner.tail_max", lambda layout: 50)
        patch.setattr("quire.index.planner.TAIL_MAX", 50)
        with quire.open(path, codec="int8 > float16", fit_after=100) as kb:
            kb.add(
                [f"text number {i}" for i in range(N)],
                ids=[str(i) for i in range(N)],
                metadata=[{"n": i} for i in range(N)],
                vectors=matrix,
            )
            kb.search("text", mode="text")
            assert kb.info().graph_covers == N
    return path


def _outcome(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", CHECK, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout


def _files(path: Path) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file())


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
@pytest.mark.parametrize("how", ["flip", "cut", "zero", "longer", "missing"])
def test_every_file_damaged(good: Path, tmp_path: Path, how: str) -> None:
    rng = np.random.default_rng(len(how))
    names = [name for name in _files(good) if not name.endswith((".lock", "-shm"))]
    assert {Path(name).suffix for name in names} >= {".db", ".vec", ".graph"}
    for name in names:
        path = tmp_path / "kb"
        shutil.copytree(good, path)
        if how == "missing":
            (path / name).unlink()
        else:
            _damage(path / name, how, rng)
        outcome = _outcome(path)
        if outcome.startswith("error") and name.endswith((".vec", ".db")):
            assert Path(name).name in outcome or "document" in outcome, f"{name} {how}: {outcome}"
        shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.parametrize("tier", [0, 1])
def test_repair_from_the_other_tier(good: Path, tmp_path: Path, tier: int) -> None:
    path = tmp_path / "kb"
    shutil.copytree(good, path)
    file = next(path.glob(f"g*-{tier}.vec"))
    _damage(file, "flip", np.random.default_rng(0))
    with quire.open(path) as kb:
        report = kb.verify()
        assert not report
        assert file.name in report.problems[0]
        mended = kb.verify(repair=True)
        assert mended.ok, mended.problems
        assert "another tier" in mended.repaired[0]
        assert kb.verify().ok
    assert _outcome(path) == "right True\n"


@pytest.mark.slow
def test_repair_from_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "kb"

    def encoder(texts: list[str]) -> np.ndarray:
        return np.stack([np.random.default_rng(len(t) + sum(map(ord, t))).standard_normal(DIM) for t in texts])

    with quire.open(path, encoder, codec="int8", fit_after=10) as kb:
        kb.add([f"text number {i}" for i in range(200)], ids=[str(i) for i in range(200)])
        expected = kb.get_vectors(["7", "150"])
    _damage(next(path.glob("*.vec")), "cut", np.random.default_rng(0))
    with quire.open(path) as kb:
        assert kb.search("number", 3, mode="text").ids  # what is not damaged still works
        with pytest.raises(quire.QuireError, match="lost their vectors"):
            kb.verify(repair=True)
    with quire.open(path, encoder) as kb:
        assert kb.verify(repair=True).ok
        np.testing.assert_allclose(kb.get_vectors(["7", "150"]), expected, atol=0.02)
