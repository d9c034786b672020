"""The demo: its corpus, what it measures, what it finds after a kill; on a small encoder, so that it takes seconds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app
from octavo.demo._corpus import Docstring, docstrings
from octavo.demo._crash import BATCH, kill_a_writer
from octavo.demo._measure import CODECS, compare_codecs, folder_of
from octavo.demo.run import DemoOptions, DemoReport, run_demo
from octavo.encoders.dense import Encoder, as_encoder
from octavo.errors import MissingExtraError, OctavoError, ParameterError

DIM = 64


def encode(texts: list[str]) -> Any:
    """Bag of hashed words."""
    vectors = np.zeros((len(texts), DIM), np.float32)
    vectors[:, 0] = 0.1
    for row, text in enumerate(texts):
        for word in text.lower().replace(".", " ").replace(":", " ").split():
            vectors[row, zlib.crc32(word.encode()) % DIM] += 1
    return vectors


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return as_encoder(encode)


@pytest.fixture(scope="module")
def corpus() -> list[Docstring]:
    return docstrings()


def test_the_standard_library_documents_thousands_of_things(corpus: list[Docstring]) -> None:
    assert len(corpus) > 4000
    assert len({document.id for document in corpus}) == len(corpus)
    assert all(document.text.startswith(f"{document.id}: ") for document in corpus)
    by_id = {document.id: document for document in corpus}
    loads = by_id["json.loads"]
    assert loads.metadata | {"line": 0} == {
        "module": "json", "package": "json", "kind": "function", "name": "loads", "line": 0,
        "python": ".".join(map(str, sys.version_info[:3])),
    }  # fmt: skip
    assert loads.summary.startswith("Deserialize ``s``")
    assert by_id["zipfile.ZipFile"].metadata["kind"] == "class"
    assert by_id["textwrap"].metadata["kind"] == "module"
    assert not [document.id for document in corpus if document.metadata["package"] in {"test", "idlelib"}]


def test_docstrings_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pack" / "tests").mkdir(parents=True)
    (tmp_path / "pack" / "tests" / "test_a.py").write_text('"""This one is left out."""')
    (tmp_path / "pack" / "__init__.py").write_text('"""A package with four words."""\n')
    (tmp_path / "pack" / "mod.py").write_text(
        "class A:\n"
        '    """One two three four.\n\n    More of it."""\n'
        "    if True:\n"
        "        def method(self):\n"
        '            """Does something for the caller."""\n'
        "def same():\n"
        '    """Does something for the caller."""\n'
        "def short():\n"
        '    """Too short."""\n'
        f'def long():\n    """{"word " * 200}"""\n'
    )
    (tmp_path / "broken.py").write_text("def (:")
    found = {document.id: document for document in docstrings(tmp_path)}
    assert list(found) == ["pack", "pack.mod.A", "pack.mod.A.method", "pack.mod.long"]
    assert found["pack.mod.A"].text == "pack.mod.A: One two three four. More of it."
    assert found["pack.mod.A"].summary == "One two three four."
    assert found["pack.mod.A.method"].metadata["line"] == 6
    assert found["pack.mod.long"].text.endswith("word …")
    assert len(found["pack.mod.long"].text.split()) == 112
    (tmp_path / "none").mkdir()
    with pytest.raises(OctavoError, match="found none with documentation"):
        docstrings(tmp_path / "none")


def test_codecs_are_compared_with_the_first(tmp_path: Path, corpus: list[Docstring], encoder: Encoder) -> None:
    documents, queries = corpus[:600], corpus[600:630]
    vectors = encoder.encode_documents([document.text for document in documents])
    asked = encoder.encode_queries([query.summary for query in queries])
    figures = compare_codecs(tmp_path, documents, vectors, asked, encoder, ["float32", "binary", "int8"])
    full, binary, int8 = figures
    assert full.agreement == 1.0
    assert binary.agreement < int8.agreement <= 1.0
    assert int8.agreement > 0.9
    assert [row.vector_bytes for row in figures] == [4 * DIM, DIM / 8, DIM]
    assert binary.ram_bytes < int8.ram_bytes < full.ram_bytes
    assert binary.disk_bytes < int8.disk_bytes < full.disk_bytes
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    with octavo.open(tmp_path / "float32", encoder) as collection:  # what the agreement is measured against is exact
        for query in asked[:5]:
            expected = np.sort(unit @ (query / np.linalg.norm(query)))[::-1][:10]
            np.testing.assert_allclose(collection.search(query, 10).scores, expected, rtol=1e-5)


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.02])
def test_a_killed_writer_loses_nothing(tmp_path: Path, corpus: list[Docstring], encoder: Encoder, delay: float) -> None:
    documents = corpus[:2000]
    vectors = encoder.encode_documents([document.text for document in documents])
    report = kill_a_writer(tmp_path / "kb", documents, vectors, "binary > int8", delay=delay)
    assert report.ok, report
    assert report.acknowledged >= 8 * BATCH
    assert report.acknowledged <= report.found < len(documents)  # it was killed before it was done
    assert report.found % BATCH == 0


def test_a_writer_that_ends_by_itself_is_an_error(tmp_path: Path, corpus: list[Docstring]) -> None:
    few = corpus[: 3 * BATCH]
    with pytest.raises(OctavoError, match="ended by itself"):
        kill_a_writer(tmp_path / "kb", few, encode([document.text for document in few]), "int8")


def test_lost_documents_are_noticed(tmp_path: Path, corpus: list[Docstring], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that forgets has to show up in the report; here it forgets one document behind the writer's back."""
    documents = corpus[: 20 * BATCH]

    def forget(path: Path, *arguments: Any) -> int:
        with octavo.open(path) as collection:
            kept = documents[: 4 * BATCH]
            collection.add([d.text for d in kept], ids=[d.id for d in kept], vectors=encode([d.text for d in kept]))
            collection.delete([kept[7].id])
        return 5 * BATCH

    monkeypatch.setattr("octavo.demo._crash._run_and_kill", forget)
    report = kill_a_writer(tmp_path / "kb", documents, encode([document.text for document in documents]), "int8")
    assert not report.ok
    assert (report.lost, report.partial) == (BATCH + 1, BATCH - 1)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, corpus: list[Docstring], encoder: Encoder) -> DemoReport:
    steps: list[str] = []

    def progress(what: str, total: int) -> Callable[[int], None]:
        steps.append(what)
        return lambda done: None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octavo.demo.run.docstrings", lambda: corpus)  # reading them again would take seconds
        found = run_demo(DemoOptions(tmp_path_factory.mktemp("demo"), 500), encoder, progress)
    assert len(steps) == 4
    return found


def test_report(report: DemoReport) -> None:
    assert (report.documents, report.queries, report.cut_short) == (500, 200, False)
    assert [row.codec for row in report.codecs] == list(CODECS)
    assert report.crash is not None
    assert report.crash.ok
    assert json.loads(json.dumps(report.to_dict()))["documents"] == 500


def test_all_interfaces_find_the_same(report: DemoReport) -> None:
    assert len(report.answers["Python"].ids) == 3
    for name, answers in report.answers.items():
        assert answers.ids == report.answers["Python"].ids, name
    assert set(report.texts) == set(report.answers["Python"].ids)
    assert set(report.answers) | set(report.missing) == {"Python", "LangChain", "LlamaIndex"}
    if "LangChain" in report.answers:
        prompt = report.answers["LangChain"].prompt
        assert prompt is not None
        assert report.question in prompt
        assert all(text[:60] in prompt for text in report.texts.values())


def test_missing_frameworks_are_named_with_their_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.demo import run as _run

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = DemoReport(python="3", available=0)
    with octavo.open(encoder=encode) as collection:
        collection.add(["zip files", "dates"])
        _run._ask_everywhere(found, collection)
    assert list(found.answers) == ["Python"]
    assert found.missing == {
        "LangChain": "pip install 'octavo[langchain]'",
        "LlamaIndex": "pip install 'octavo[llama-index]'",
    }


def test_encoding_stops_when_the_budget_is_spent(corpus: list[Docstring], encoder: Encoder) -> None:
    from octavo.demo import run as _run

    done: list[int] = []
    assert len(_run._encode(corpus[:3000], encoder, 0.0, done.append)) == 500  # the deadline is long past
    assert done == [250] * 2
    assert len(_run._encode(corpus[:1500], encoder, None, done.append)) == 1500


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: DemoReport, encoder: Encoder) -> None:
    monkeypatch.setattr("octavo.cli._demo.load_encoder", lambda name: encoder)
    monkeypatch.setattr("octavo.cli._demo.run_demo", lambda options, encoder, progress: report)
    monkeypatch.setenv("COLUMNS", "120")
    shown = CliRunner().invoke(app, ["demo"])
    assert shown.exit_code == 0, shown.output
    for expected in (*CODECS, "100.0%", report.question, "LangChain", "LlamaIndex", "nothing lost", "SIGKILL"):
        assert expected in shown.stdout
    kept = tmp_path / "kept"
    asked = re.search(r'octavo search --path "(.*?)"', CliRunner().invoke(app, ["demo", "--keep", str(kept)]).stdout)
    assert asked is not None
    assert asked[1] in {str(kept / folder_of(codec)) for codec in CODECS}
    as_json = CliRunner().invoke(app, ["demo", "--json"])
    assert json.loads(as_json.stdout)["crash"]["lost"] == 0


def test_command_fails_when_something_was_lost(monkeypatch: pytest.MonkeyPatch, report: DemoReport) -> None:
    assert report.crash is not None
    lost = replace(report, crash=replace(report.crash, lost=1))
    monkeypatch.setattr("octavo.cli._demo.load_encoder", lambda name: encode)
    monkeypatch.setattr("octavo.cli._demo.run_demo", lambda options, encoder, progress: lost)
    shown = CliRunner().invoke(app, ["demo"])
    assert shown.exit_code == 1
    assert "DAMAGED" in shown.stdout


def test_command_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: list[Docstring], encoder: Encoder
) -> None:
    monkeypatch.setattr("octavo.demo.run.docstrings", lambda: corpus)
    monkeypatch.setattr("octavo.cli._demo.load_encoder", lambda name: encoder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    full = CliRunner().invoke(app, ["demo", "--keep", str(tmp_path / "full")])
    assert (full.exit_code, "expected an empty or new directory" in full.stderr) == (2, True)
    few = CliRunner().invoke(app, ["demo", "--documents", "10"])
    assert (few.exit_code, "expected 500 to" in few.stderr) == (2, True)


def test_command_without_the_model_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Encoder:
        raise MissingExtraError(
            "loading the model needs sentence-transformers. Install it: pip install 'octavo[models]'"
        )

    monkeypatch.setattr("octavo.cli._demo.load_encoder", refuse)
    shown = CliRunner().invoke(app, ["demo"])
    assert (shown.exit_code, "pip install" in shown.stderr) == (1, True)


def test_wrong_number_of_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: list[Docstring], encoder: Encoder
) -> None:
    monkeypatch.setattr("octavo.demo.run.docstrings", lambda: corpus)
    with pytest.raises(ParameterError, match="expected 500 to"):
        run_demo(DemoOptions(tmp_path, 10**6), encoder, lambda what, steps: lambda done: None)


def test_the_writer_runs_without_a_warning() -> None:
    command = [sys.executable, "-W", "error", "-c", "import runpy; runpy.run_module('octavo.demo._writer')"]
    assert subprocess.run(command, check=False).returncode == 0
