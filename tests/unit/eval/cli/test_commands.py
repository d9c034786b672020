"""The commands: what they print, as text and as JSON, and how they exit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

import octavo
from octavo.eval.analysis.pareto import NothingFitsError
from octavo.eval.cli import app as eval_app
from octavo.eval.datasets import load_dataset


@pytest.fixture
def app() -> typer.Typer:
    return eval_app


@pytest.fixture
def runs(make_result: Any, tmp_path: Path) -> Path:
    directory = tmp_path / "runs"
    for number, result in enumerate(
        [
            make_result("float32", [0.50, 0.70, 0.90, 0.2], ram=1536),
            make_result("svd:50%|int8", [0.50, 0.70, 0.89, 0.3], ram=192),
            make_result("binary", [0.30, 0.40, 0.50, 0.1], ram=48),
        ]
    ):
        result.write(directory / f"{number}.json")
    return directory


def call(app: typer.Typer, *words: object, code: int = 0) -> Result:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == code, (found.output, found.exception)
    return found


def test_compare_by_name_and_by_file(app: typer.Typer, runs: Path) -> None:
    text = call(app, "compare", "float32", "svd:50%|int8", "--dir", runs).stdout
    assert "A = float32, B = svd:50%|int8" in text
    assert "| nDCG@10" in text
    assert "+0.0225" in text
    assert "q3" in text
    found = call(app, "compare", runs / "0.json", runs / "2.json", "-m", "R@100", "--test", "t", "--json").stdout
    assert list(json.loads(found)["measures"]) == ["R@100"]
    assert json.loads(found)["measures"]["R@100"]["test"] == "t"


def test_compare_shows_the_queries(app: typer.Typer, runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "a wing"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q3", "text": "what is a wing?"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td\t1\n")
    assert "what is a wing?" in call(app, "compare", "float32", "binary", "--dir", runs, "--data", folder).stdout


def test_pareto(app: typer.Typer, runs: Path) -> None:
    text = call(app, "pareto", runs).stdout
    assert "| > float32 " in text
    assert "Use float32: fewest bytes with nDCG@10 of at least 0.569" in text
    assert "Cheaper, but not settled by 4 queries: svd:50%|int8" in text
    assert "kb = octavo.open('kb', encoder='all-MiniLM-L6-v2', codec='svd:50%|int8')" in text
    assert "octavo index SOURCE --path kb" in text
    found = json.loads(call(app, "pareto", runs, "--budget", "100kB", "--json").stdout)
    assert found["recommended"]["label"] == "binary"
    scaled = call(app, "pareto", runs, "--documents", 5000, "--budget", "1MB").stdout
    assert "for 5,000 documents, estimated" in scaled
    assert json.loads(call(app, "pareto", runs, "--disk", "--json").stdout)["where"] == "disk"


def test_pareto_of_several_sets_has_a_total_for_each(app: typer.Typer, make_result: Any, tmp_path: Path) -> None:
    for number, (codec, name, documents) in enumerate(
        (codec, *one) for codec in ("float32", "int8") for one in (("small", 1000), ("large", 9000))
    ):
        result = make_result(
            codec, [0.5, 0.7, 0.9], dataset=name, documents=documents, ram={"float32": 1536}.get(codec, 384)
        )
        result.write(tmp_path / f"{number}.json")
    text = call(app, "pareto", tmp_path).stdout
    assert text.startswith(
        "large (9,000 documents), small (1,000 documents); bytes in RAM; quality, bytes a document and"
    )
    assert "bytes in all, large | bytes in all, small" in text
    assert "3,456,000 |" in text
    assert "384,000 |" in text
    assert "1,920,000" not in text  # the mean of the two, which no collection takes
    scaled = call(app, "pareto", tmp_path, "--documents", 5000).stdout
    assert "large, small; bytes in RAM, for 5,000 documents, estimated" in scaled


def test_pareto_when_nothing_fits(app: typer.Typer, runs: Path) -> None:
    found = CliRunner().invoke(app, ["pareto", str(runs), "--budget", "1kB"])
    assert isinstance(found.exception, NothingFitsError)  # the main command line turns it into one line and exit code 1
    assert call(app, "pareto", runs, "--ram", "--disk", code=2).exit_code == 2


def test_report(app: typer.Typer, runs: Path) -> None:
    lines = call(app, "report", runs, "--title", "Ours").stdout.split()
    assert lines[0] == str(runs / "report.html")
    assert "<h1>Ours</h1>" in Path(lines[0]).read_text(encoding="utf-8")
    assert all(Path(line).is_file() for line in lines)


def test_inspect(app: typer.Typer, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 8))
    np.save(tmp_path / "x.npy", X)
    text = call(app, "inspect", tmp_path / "x.npy").stdout
    assert "mean cosine" in text
    assert "- suggests" in text
    assert json.loads(call(app, "inspect", tmp_path / "x.npy", "--json").stdout)["dim"] == 8
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(vectors=X, ids=[str(i) for i in range(60)])
    assert json.loads(call(app, "inspect", tmp_path / "kb", "--json").stdout)["n"] == 60
    call(app, "inspect", code=2)
    call(app, "inspect", tmp_path / "x.npy", "--data", "x", code=2)
    call(app, "inspect", "--data", "x", code=2)
    call(app, "inspect", tmp_path / "x.npy", "--queries", code=2)


def test_make(app: typer.Typer, tmp_path: Path) -> None:
    words = "one two three four five six seven eight nine ten eleven twelve"
    notes = [{"_id": f"d{i}", "text": f"Note {i} starts with this very line.\n{words} {i}."} for i in range(5)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    text = call(app, "make", "--path", tmp_path / "notes.jsonl", "--out", tmp_path / "a", "--queries", 3).stdout
    assert "3 queries for 5 documents" in text
    assert "does not measure" in text
    assert len(load_dataset(tmp_path / "a").queries) == 3
    found = call(
        app, "make", "-p", tmp_path / "notes.jsonl", "-o", tmp_path / "b", "--method", "title", "--keep", "--json"
    ).stdout
    assert json.loads(found)["removed"] is False
    assert json.loads(found)["queries"] == 5


def test_every_command_explains_itself(app: typer.Typer) -> None:
    for name in ("compare", "pareto", "report", "inspect", "make"):
        text = call(app, name, "--help").stdout
        assert "--json" in text
        assert "Exit codes" in text
