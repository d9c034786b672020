"""``octavo train``, and ``--layers`` where models are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from octavo.cli import app
from tiny_model import save_tiny_model, spelled_pairs

pytest.importorskip("accelerate")
pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("train"))
    save_tiny_model(folder)
    queries, documents = spelled_pairs(40)
    data = folder / "data"
    (data / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{at}", "title": "", "text": text} for at, text in enumerate(documents)]
    (data / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": f"q{at}", "text": text} for at, text in enumerate(queries)]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{at}\td{at}\t1\n" for at in range(40))
    (data / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def invoke(place: Path, *arguments: str, code: int = 0) -> Any:
    words = [f"{place}/{word[1:]}" if word[0] == "@" else word for word in arguments]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, result.output
    return result


def test_from_data_to_a_collection_of_fewer_layers(place: Path) -> None:
    result = invoke(
        place, "train", "starbucks", "-m", "@model", "-d", "@data", "-o", "@out", "--points", "1:8", "--points", "2:16",
        "--align-queries", "--steps", "2", "--batch-size", "8", "--device", "cpu", "--workers", "0", "--json",
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert found["steps"] == 2
    assert set(found["after"]) == {"3x32", "2x16", "1x8"}
    invoke(place, "index", "@data/corpus.jsonl", "-p", "@kb", "-m", "@out", "--layers", "3", "--query-layers", "1")
    about = json.loads(invoke(place, "info", "@kb", "--json").stdout)
    assert about["encoder"] == f"{place}/out@layers=3,query_layers=1"
    text = json.loads((place / "data" / "corpus.jsonl").read_text().splitlines()[4])["text"]
    hits = json.loads(invoke(place, "search", text, "-p", "@kb", "--json").stdout)
    assert hits["hits"] if isinstance(hits, dict) else hits
    invoke(place, "train", "starbucks", "-m", "@model", "-d", "@data", "-o", "@out", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["matryoshka", "--points", "1:8"], "starbucks"),
        (["starbucks", "--points", "1x8"], "LAYERS:DIM"),
        (["late", "--dims", "8"], "matryoshka"),
        (["matryoshka", "--codec", "svd:4|int8"], "only rounds"),
        (["matryoshka", "--teacher", "nowhere/at/all"], "could not be loaded"),
        (["matryoshka", "--device", "gpu"], "'gpu' is not one of"),
        (["matryoshka", "--workers", "-1"], "--workers"),
        (["nothing"], "nothing"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], message: str, place: Path, tmp_path: Path) -> None:
    result = invoke(
        place, "train", *arguments, "-m", "@model", "-d", "@data", "-o", str(tmp_path / "out"), "--steps", "1", code=2
    )  # fmt: skip
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_layers_need_a_model(place: Path, tmp_path: Path) -> None:
    for model in ([], ["-m", "json:loads"]):
        result = invoke(
            place, "index", "@data/corpus.jsonl", "-p", str(tmp_path / "kb"), "--layers", "2", *model, code=2
        )
        assert "--model" in result.output
