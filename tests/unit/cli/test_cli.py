"""The command line from the outside: what it prints, where, and with which exit code."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app

MODEL = "words:encode"

Run = Callable[..., Any]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    records = [
        {"_id": "a", "title": "Cats", "text": "cats sleep all day", "metadata": {"year": 2019}},
        {"_id": "b", "title": "", "text": "dogs bark at night", "metadata": {"year": 2024}},
        {"_id": 3, "text": "birds sing in the morning", "lang": "en"},
    ]
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def test_index_search_info_verify(run: Run, corpus: Path) -> None:
    indexed = json.loads(
        run("index", str(corpus), "--path", "kb", "--model", MODEL, "--codec", "float32", "--json").stdout
    )
    assert (indexed["added"], indexed["documents"], indexed["encoder"]) == (3, 3, MODEL)

    found = json.loads(run("search", "dogs bark", "-p", "kb", "-k", "2", "--model", MODEL, "--json").stdout)
    assert len(found["hits"]) == 2
    assert found["hits"][0]["id"] == "b"
    assert found["hits"][0]["metadata"] == {"year": 2024, "_source": "corpus.jsonl"}
    assert found["hits"][0]["score"] > found["hits"][1]["score"]

    info = json.loads(run("info", "kb", "--json").stdout)
    assert (info["documents"], info["codec"], info["encoder"], info["dim"]) == (3, "float32", MODEL, 64)

    report = json.loads(run("verify", "kb", "--json").stdout)
    assert report == {"path": "kb", "ok": True, "documents": 3, "problems": [], "repaired": []}


def test_text_for_people(run: Run, corpus: Path) -> None:
    assert "3 added" in run("index", str(corpus), "-p", "kb", "-m", MODEL).stdout
    searched = run("search", "dogs", "-p", "kb", "-m", MODEL).stdout
    assert "dogs bark at night" in searched
    assert '{"year": 2024, "_source": "corpus.jsonl"}' in searched
    assert "documents" in run("info", "kb").stdout
    assert "3 documents, everything matches its checksum" in run("verify", "kb").stdout


def test_json_lines_fields(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        record = {"key": "x", "body": "hello", "head": "T", "year": 1, "metadata": {"a": 2, "b": 3}}
        lines.write(json.dumps(record) + "\n")
    run("index", str(path), "-p", "kb", "-m", MODEL, "--id-field", "key", "--text-field", "body", "--title-field",
        "head", "--metadata-fields", "year, b")  # fmt: skip
    with octavo.open("kb", read_only=True) as collection:
        (document,) = collection.get(["x"])
    assert (document.text, document.metadata) == ("T\nhello", {"year": 1, "b": 3, "_source": "rows.jsonl.gz"})


def test_metadata_is_everything_else_by_default(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    with octavo.open("kb", read_only=True) as collection:
        assert [(d.id, d.text, d.metadata) for d in collection.get(["a", "3"])] == [
            ("a", "Cats\ncats sleep all day", {"year": 2019, "_source": "corpus.jsonl"}),
            ("3", "birds sing in the morning", {"lang": "en", "_source": "corpus.jsonl"}),
        ]


def test_again_encodes_only_what_changed(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    rewrite(corpus, lambda lines: [lines[0], lines[1].replace("bark", "howl"), json.dumps({"_id": "d", "text": "new"})])
    import words

    words.calls.clear()
    again = json.loads(run("index", str(corpus), "-p", "kb", "-m", MODEL, "--json").stdout)
    assert [again[name] for name in ("added", "updated", "unchanged", "removed")] == [1, 1, 1, 0]
    changed = ["dogs howl at night", "new"]
    assert [text for text in words.calls if text in changed] == changed
    assert len(words.calls) <= len(changed) + 1  # one that is stored, to see that it is the same model
    with octavo.open("kb", read_only=True) as collection:
        assert set(collection.ids()) == {"a", "b", "3", "d"}
        assert collection.get(["b"])[0].text == "dogs howl at night"


def test_a_change_of_type_in_metadata_is_a_change(run: Run, corpus: Path) -> None:
    corpus.write_text('{"_id": "a", "text": "t", "flag": 1}\n')
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    corpus.write_text('{"_id": "a", "text": "t", "flag": true}\n')
    assert json.loads(run("index", str(corpus), "-p", "kb", "-m", MODEL, "--json").stdout)["updated"] == 1
    with octavo.open("kb", read_only=True) as collection:
        assert collection.get(["a"])[0].metadata["flag"] is True


def test_prune_removes_what_is_gone(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    rewrite(corpus, lambda lines: lines[:1])
    assert json.loads(run("index", str(corpus), "-p", "kb", "-m", MODEL, "--json").stdout)["documents"] == 3
    refused = run("index", str(corpus), "-p", "kb", "-m", MODEL, "--prune", code=2)
    assert "remove 2 of the 3 rows" in refused.stderr
    pruned = json.loads(run("index", str(corpus), "-p", "kb", "-m", MODEL, "--prune", "--yes", "--json").stdout)
    assert (pruned["removed"], pruned["documents"]) == (2, 1)
    with octavo.open("kb", read_only=True) as collection:
        assert collection.ids() == ["a"]


def test_bad_line_stops_before_anything_is_written(run: Run, corpus: Path) -> None:
    rewrite(corpus, lambda lines: [*lines, '{"_id": "x"'])
    failed = run("index", str(corpus), "-p", "kb", "-m", MODEL, code=1)
    assert "corpus.jsonl, line 4" in failed.stderr
    assert failed.stdout == ""
    assert not Path("kb").exists()


def test_bad_lines_can_be_left_out(run: Run, corpus: Path) -> None:
    rewrite(corpus, lambda lines: ["[1]", *lines, '{"_id": "a", "text": "again"}', '{"_id": "n", "text": 5}'])
    indexed = json.loads(run("index", str(corpus), "-p", "kb", "-m", MODEL, "--skip-bad-lines", "--json").stdout)
    assert indexed["added"] == 3
    lines = indexed["skipped"]["lines"]
    assert [line.split(":")[0] for line in lines] == [f"corpus.jsonl, line {n}" for n in (1, 5, 6)]
    assert "line 2" in lines[1]  # where the id was first
    assert "line 6" in run("index", str(corpus), "-p", "kb", "-m", MODEL, "--skip-bad-lines").stderr
    run("index", str(corpus), "-p", "kb", "-m", MODEL, "--skip-bad-lines", "--prune", code=2)


def test_folder_of_files(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "no.md").write_text("secret")
    (folder / "a.md").write_text("# Cats\n\ncats sleep")
    (folder / "deep" / "b.txt").write_bytes("Grüße".encode("latin-1"))
    (folder / "deep" / "c.txt").write_text("wide", encoding="utf-16")
    (folder / "binary.txt").write_bytes(b"a\0b")
    (folder / "empty.md").write_text(" \n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    indexed = json.loads(run("index", "notes", "-p", "kb", "-m", MODEL, "--chunk-size", "0", "--json").stdout)
    skipped = indexed["skipped"]
    assert skipped == {
        "files": {
            "hidden": [".hidden/"], "binary, not text": ["binary.txt"],
            "images (indexed with --late and a model of page images)": ["picture.png"],
        },
        "empty": ["empty.md"], "replaced": ["deep/b.txt"], "lines": [], "scans": {},
    }  # fmt: skip
    with octavo.open("kb", read_only=True) as collection:
        stored = {document.id: (document.text, document.metadata) for document in collection.documents()}
    assert stored == {
        f"notes/{name}": (text, {"path": name, "document": f"notes/{name}", "_source": "notes"})
        for name, text in (("a.md", "# Cats\n\ncats sleep"), ("deep/b.txt", "Gr��e"), ("deep/c.txt", "wide"))
    }
    told = run("index", "notes", "-p", "kb", "-m", MODEL, "--chunk-size", "0").stderr
    assert "binary.txt" in told
    assert "deep/b.txt" in told


def test_chunks_that_a_file_no_longer_has_are_removed(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("one two three. four five six. seven eight nine.")
    (folder / "b.md").write_text("other")
    arguments = ("index", "notes", "-p", "kb", "-m", MODEL, "--chunk-size", "20", "--overlap", "0", "--json")
    assert json.loads(run(*arguments).stdout)["added"] == 4
    (folder / "a.md").write_text("one two three.")
    (folder / "b.md").unlink()
    assert json.loads(run(*arguments).stdout)["removed"] == 2
    with octavo.open("kb", read_only=True) as collection:
        assert sorted(collection.ids()) == ["notes/a.md#0", "notes/b.md#0"]
        (document,) = collection.get(["notes/a.md#0"])
        assert document.metadata == {"path": "a.md", "document": "notes/a.md", "chunk": 0, "_source": "notes"}


def test_filter_and_modes(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    wanted = ("search", "cats dogs birds", "-p", "kb", "--json")
    filtered = run(*wanted, "-m", MODEL, "--filter", '{"year": {"$gte": 2020}}').stdout
    assert [hit["id"] for hit in json.loads(filtered)["hits"]] == ["b"]
    by_text = json.loads(run(*wanted, "--mode", "text").stdout)  # no model needed, none given
    assert {hit["id"] for hit in by_text["hits"]} == {"a", "b", "3"}
    assert json.loads(run(*wanted, "--mode", "hybrid", "-m", MODEL).stdout)["mode"] == "hybrid"
    assert "No documents found" in run("search", "zebra", "-p", "kb", "--mode", "text").stdout


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_wrong_usage(run: Run, corpus: Path, question: str) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    assert "expected a question" in run("search", question, "-p", "kb", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--filter", "{year: 1}"), "expected a JSON object"),
        (("--filter", "[1]"), "expected a JSON object"),
        (("--filter", '{"year": {"$near": 1}}'), "$near"),
        (("--mode", "vector"), "vector"),
        (("-k", "0"), "-k"),
        (("--unknown",), "--unknown"),
    ],
)
def test_wrong_usage_of_search(run: Run, corpus: Path, arguments: tuple[str, ...], message: str) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    failed = run(
        "search", "cats", "-p", "kb", *(() if "--mode" in arguments else ("--mode", "text")), *arguments, code=2
    )
    assert message in failed.stderr
    assert failed.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("corpus.jsonl", "--codec", "int7"), 2, "int7"),
        (("corpus.jsonl", "--metric", "taxi"), 2, "metric"),
        (("corpus.jsonl", "--chunk-size", "-5"), 2, "chunk size"),
        (("corpus.jsonl", "--chunk-size", "10", "--overlap", "9"), 2, "overlap"),
        (("corpus.jsonl", "--model", "no_such_module:encode"), 2, "no_such_module"),
        (("corpus.jsonl", "--model", "words:decode"), 2, "decode"),
        (("corpus.jsonl", "--id-field", "key"), 1, "'key'"),
        (("nothing",), 1, "nothing"),
        (("picture.png",), 1, "picture.png"),
        (("pictures",), 2, "no documents in 'pictures'; left out: 1 images (indexed with --late"),
    ],
)
def test_index_says_what_is_wrong(run: Run, corpus: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert corpus.exists()
    Path("picture.png").write_bytes(b"")
    Path("pictures").mkdir()
    Path("pictures/one.png").write_bytes(b"")
    model = () if "--model" in arguments else ("--model", MODEL)
    failed = run("index", *arguments, *model, "-p", "kb", code=code)
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr


def test_truncated_gzip_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"_id": "a", "text": "t"}\n')[:-4])
    assert "cut.jsonl.gz is damaged" in run("index", str(path), "-p", "kb", "-m", MODEL, code=1).stderr


def test_no_collection(run: Run) -> None:
    for command in (("search", "x", "-p"), ("info",), ("verify",), ("verify", "--repair"), ("tune",)):
        assert "there is no collection at" in run(*command, "kb", code=1).stderr
        assert not Path("kb").exists()


def test_a_name_from_the_manifest_never_imports_code(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    sys.modules.pop("words")
    failed = run("search", "cats", "-p", "kb", code=2)
    assert f"--model {MODEL}" in failed.stderr
    assert "words" not in sys.modules


def test_another_encoder_is_refused(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    failed = run("search", "cats", "-p", "kb", "-m", "words:encode_otherwise", code=1)
    assert MODEL in failed.stderr
    assert "words:encode_otherwise" in failed.stderr


def test_the_model_of_a_collection_is_changed(run: Run, corpus: Path) -> None:
    import importlib

    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    wider = "words:encode_wider"
    module = importlib.import_module("words")
    module.limit[0] = 2
    failed = run("reencode", "kb", "--model", wider, "--batch-size", "2", "--codec", "float16", code=1)
    assert "429 too many requests" in failed.stderr
    assert "run the same command again" in failed.stderr
    assert "2 of 3 documents (67%)" in run("info", "kb").stdout
    state = json.loads(run("info", "kb", "--json").stdout)["reencoding"]
    assert (state["encoder"], state["documents"], state["of"], state["codec"]) == (wider, 2, 3, "float16")
    found = json.loads(run("search", "dogs bark", "-p", "kb", "-k", "1", "-m", MODEL, "--json").stdout)
    assert found["hits"][0]["id"] == "b"
    assert json.loads(run("reencode", "kb", "--cancel", "--json").stdout) == {"path": "kb", "cancelled": True}
    assert "no re-encoding" in run("reencode", "kb", "--cancel").stdout
    module.limit[0] = 100
    assert "3 documents are now encoded" in run("reencode", "kb", "-m", wider, "--rate", "6000/min").stdout
    info = json.loads(run("info", "kb", "--json").stdout)
    assert (info["dim"], info["encoder"], info["reencoding"]) == (96, wider, None)
    found = json.loads(run("search", "dogs bark", "-p", "kb", "-k", "1", "-m", wider, "--json").stdout)
    assert found["hits"][0]["id"] == "b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reencode", "kb"), "--cancel"),
        (("reencode", "kb", "--cancel", "-m", MODEL), "--cancel"),
        (("reencode", "kb", "-m", MODEL, "--rate", "quick"), "500/min"),
        (("reencode", "nowhere", "-m", MODEL), "no collection"),
    ],
)
def test_wrong_usage_of_reencode(run: Run, corpus: Path, arguments: tuple[str, ...], message: str) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    result = run(*arguments, code=1 if "nowhere" in arguments else 2)
    assert message in result.stderr


def test_verify_finds_damage_and_repairs_it(run: Run, corpus: Path) -> None:
    run("index", str(corpus), "-p", "kb", "-m", MODEL, "--codec", "float32")
    (vectors,) = Path("kb").glob("*.vec")
    data = bytearray(vectors.read_bytes())
    data[5] ^= 0xFF
    vectors.write_bytes(data)
    assert "problem: " in run("verify", "kb", code=1).stdout
    assert json.loads(run("verify", "kb", "--json", code=1).stdout)["ok"] is False
    assert "repaired: " in run("verify", "kb", "--repair", "--model", MODEL).stdout
    run("verify", "kb")
    run("verify", "kb", "--model", MODEL, code=2)


def test_debug_shows_the_traceback(run: Run) -> None:
    with pytest.raises(octavo.OctavoError, match="there is no collection"):
        CliRunner().invoke(app, ["--debug", "info", "kb"], catch_exceptions=False)


def test_version_and_help(run: Run) -> None:
    assert run("--version").stdout == f"octavo {octavo.__version__}\n"
    listed = run("--help").stdout
    assert all(command in listed for command in ("index", "search", "info", "verify", "demo"))


def test_as_a_process(run: Run, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("octavo")), "info", "kb"]
    if not Path(command[0]).exists():
        pytest.skip("the octavo command is not installed beside this Python")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: there is no collection at {tmp_path / 'kb'}")
    assert done.stderr.count("\n") == 1


def test_minilm_by_its_short_name(run: Run, corpus: Path, minilm: str) -> None:
    run("index", str(corpus), "-p", "kb", "--model", minilm)
    found = json.loads(
        run("search", "kittens nap", "-p", "kb", "-k", "1", "--json").stdout
    )  # the model: from the manifest
    assert [hit["id"] for hit in found["hits"]] == ["a"]
    assert json.loads(run("info", "kb", "--json").stdout)["encoder"] == minilm


def test_documents_are_printed_without_what_a_terminal_obeys(run: Run, corpus: Path) -> None:
    evil = "\x1b[2J\u202eevil\u2066\x9b31m"
    rewrite(corpus, lambda lines: [json.dumps({"_id": f"id{evil}", "text": f"plain words {evil}", "note": evil})])
    run("index", str(corpus), "-p", "kb", "-m", MODEL)
    for more in ((), ("--json",)):
        shown = run("search", "plain words", "-p", "kb", "-m", MODEL, *more).stdout
        assert not set("\x1b\x9b\u202e\u2066") & set(shown)
        assert r"\u202eevil\u2066" in shown
    assert json.loads(shown)["hits"][0]["id"] == f"id{evil}"


def test_python_m_octavo_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "octavo", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"octavo {octavo.__version__}\n"


def test_lone_surrogates_are_named_by_line(run: Run, corpus: Path) -> None:
    corpus.write_text('{"_id": "a", "text": "good"}\n{"_id": "b", "text": "half \\ud800 a pair"}\n')
    assert "line 2: it holds a lone surrogate" in run("index", str(corpus), "-p", "kb", "-m", MODEL, code=1).stderr
    done = json.loads(run("index", str(corpus), "-p", "kb", "-m", MODEL, "--skip-bad-lines", "--json").stdout)
    assert done["added"] == 1
    assert len(done["skipped"]["lines"]) == 1
