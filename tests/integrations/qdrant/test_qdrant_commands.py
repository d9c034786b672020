"""The command line, on a collection in Qdrant's core in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py: pip install 'octavo[qdrant]'")

from octavo.integrations.qdrant import QdrantCollection, open_collection

ENCODER = '''
import zlib
import numpy as np

def encode(texts):
    """Bag of hashed words: texts that share words are near."""
    vectors = np.zeros((len(texts), 1024), np.float32)
    vectors[:, 0] = 0.1  # no text is a zero vector
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, zlib.crc32(word.encode()) % 1024] += 1
    return vectors

left = [12]

def encode_some(texts):
    """Another model, which stops after some texts."""
    if len(texts) > 1:  # one is a question, or asks which model this is
        left[0] -= len(texts)
        if left[0] < 0:
            raise ConnectionError("429 too many requests")
    vectors = encode([" ".join("other" + word for word in text.lower().split()) for text in texts])
    return np.hstack([vectors, np.full((len(texts), 8), 0.01, np.float32)])
'''
MODEL = ("--model", "qdrant_encoder:encode")
PLACE = "qdrant:there"

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "qdrant_encoder.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "qdrant_encoder", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    rows = [
        {"_id": f"d{i}", "text": f"document number{i} about {'cats' if i % 2 else 'dogs'}", "year": 2000 + i}
        for i in range(20)
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def invoke(*arguments: object, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_index_search_and_info(run: Run) -> None:
    first = json.loads(run("index", "docs.jsonl", "--path", PLACE, *MODEL, "--codec", "float16", "--json").stdout)
    assert (first["added"], first["documents"], first["codec"], first["disk_bytes"]) == (20, 20, "float16", None)
    # Run again, and by the directory alone: nothing is encoded anew.
    again = json.loads(run("index", "docs.jsonl", "--path", "there", *MODEL, "--json").stdout)
    assert (again["added"], again["unchanged"]) == (0, 20)
    for mode in ("dense", "text", "hybrid"):
        options = () if mode == "text" else MODEL
        found = json.loads(run("search", "number7 cats", "--path", PLACE, "--mode", mode, *options, "--json").stdout)
        assert found["hits"][0]["id"] == "d7"
    wanted = json.dumps({"year": {"$gte": 2018}})
    found = json.loads(run("search", "number7", "-p", "there", "--filter", wanted, *MODEL, "--json").stdout)
    assert {hit["id"] for hit in found["hits"]} == {"d18", "d19"}
    info = json.loads(run("info", PLACE, "--json").stdout)
    assert (info["documents"], info["codec"], info["dim"], info["encoder"]) == (20, "float16", 1024, MODEL[1])
    shown = run("info", "there").stdout
    assert "float16; 1 segments" in shown or "float16; 2 segments" in shown
    assert "none, in this process" in shown
    pruned = run("index", "docs.jsonl", "--path", PLACE, *MODEL, "--id-field", "year", "--prune", "--yes").stdout
    assert "20 added" in pruned
    assert "20 removed (source docs.jsonl); now 20 documents, codec float16" in pruned


def test_another_codec_and_no_collection_are_errors(run: Run) -> None:
    run("index", "docs.jsonl", "--path", PLACE, *MODEL)
    refused = run("index", "docs.jsonl", "--path", PLACE, *MODEL, "--codec", "binary", code=1)
    assert "made with codec 'int8' and metric 'cosine', got 'binary'" in refused.stderr
    assert "metric 'cosine'" in run("index", "docs.jsonl", "--path", PLACE, *MODEL, "--metric", "dot", code=1).stderr
    for command in (("info", "qdrant:nowhere"), ("search", "q", "--path", "qdrant:nowhere", "--mode", "text")):
        assert "no collection at qdrant:nowhere" in run(*command, code=1).stderr
    with QdrantCollection.open(path="there") as held:
        assert "another process, or another object" in run("info", PLACE, code=1).stderr
        assert len(held) == 20


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("verify", "{}"), "Qdrant checks its own files"),
        (("tune", "{}"), "pass ef= and oversample="),
        (("snapshot", "{}", "copy"), "Qdrant's snapshots"),
        (("restore", "copy", "{}"), "octavo push DIR --to {}"),
        (("export", "{}", "out"), "octavo pull {} DIR"),
        (("import", "out", "{}"), "octavo push DIR --to {}"),
        (("push", "{}", "--to", "x"), "octavo pull {} DIR"),
        (("pull", "x", "{}"), "octavo push DIR --to {}"),
    ],
)
@pytest.mark.parametrize("place", [PLACE, "https://host:6333#kb"])
def test_what_needs_files_of_its_own_says_what_to_do(
    run: Run, tmp_path: Path, command: tuple[str, ...], told: str, place: str
) -> None:
    refused = run(*(word.format(place) for word in command), code=2)
    assert f"{command[0]} needs a collection in a directory, got {place} in Qdrant" in refused.stderr
    assert told.format(place) in refused.stderr
    assert not any((tmp_path / name).exists() for name in ("there", "copy", "out", "x"))


def test_a_pushed_directory_is_pulled_by_its_name_alone(run: Run, tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["a", "b"], vectors=np.eye(2, 4))
        ids = kb.ids()
    run("push", "kb", "--to", PLACE)
    run("pull", "there", "back")
    with octavo.open(tmp_path / "back", must_exist=True) as back, open_collection("there") as there:
        assert back.ids() == there.ids() == ids


def test_a_test_set_and_an_inspection(run: Run, tmp_path: Path) -> None:
    with QdrantCollection.create(path="there", codec="float16") as there:
        texts = [
            f"Sentence {i} says just this. " + " ".join(f"word{i}x{j}" for j in range(14)) + "." for i in range(30)
        ]
        there.add(texts, ids=[f"d{i}" for i in range(30)], vectors=np.random.default_rng(0).normal(size=(30, 8)))
    made = json.loads(run("eval", "make", "--path", PLACE, "--out", "known", "--queries", 5, "--json").stdout)
    assert (made["documents"], made["queries"]) == (30, 5)
    assert (tmp_path / "known" / "qrels" / "test.tsv").is_file()
    seen = json.loads(run("eval", "inspect", "there", "--json").stdout)
    assert (seen["n"], seen["dim"], seen["source"]) == (30, 8, f"{tmp_path / 'there'}, decoded from codec 'float16'")


def test_a_server_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client", reason="needs qdrant-client: pip install 'octavo[qdrant]'")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the pauses between attempts
    refused = run("info", "http://127.0.0.1:1#kb", code=1)
    assert "expected a Qdrant server at http://127.0.0.1:1, but it cannot be reached" in refused.stderr


def test_the_model_is_changed_in_place(run: Run) -> None:
    run("index", "docs.jsonl", "--path", PLACE, *MODEL)
    failed = run("reencode", PLACE, "--model", "qdrant_encoder:encode_some", "--batch-size", "8", code=1)
    assert "run the same command again" in failed.stderr
    assert "8 of 20 documents (40%)" in run("info", PLACE).stdout
    assert json.loads(run("info", PLACE, "--json").stdout)["reencoding"]["documents"] == 8
    both = ("--model", "qdrant_encoder:encode_some", "--previous", MODEL[1])
    found = run("search", "number7 cats", "-p", PLACE, "-k", "1", *both, "--json")
    assert json.loads(found.stdout)["hits"][0]["id"] == "d7"
    assert json.loads(found.stdout)["reencoding"] == "old"  # too few have both vectors
    assert json.loads(run("reencode", PLACE, "--cancel", "--json").stdout) == {"path": PLACE, "cancelled": True}
    sys.modules["qdrant_encoder"].left[0] = 1000  # type: ignore[attr-defined]
    done = run("reencode", PLACE, "--model", "qdrant_encoder:encode_some", "--codec", "float16")
    assert "20 documents are now encoded with qdrant_encoder:encode_some, 1032 dimensions, codec float16" in done.stdout
    again = run("search", "number7 cats", "-p", PLACE, "-k", "1", "--model", "qdrant_encoder:encode_some", "--json")
    assert json.loads(again.stdout)["hits"][0]["id"] == "d7"
    assert json.loads(again.stdout)["reencoding"] is None
