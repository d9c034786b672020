"""`octavo index`: sources beside each other, files that are gone, chunk sizes, what is left out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.cli import _app

Run = Callable[..., Any]

MODEL = ("-m", "words:encode")


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


@pytest.fixture
def index(run: Run) -> Run:
    """Run `octavo index` into kb and return its JSON."""

    def call(*arguments: str, code: int = 0) -> Any:
        result = run("index", *arguments, "-p", "kb", *MODEL, "--json", code=code)
        return json.loads(result.stdout) if code == 0 else result.stderr

    return call


def begin(command: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a process that Ctrl-C reaches: whoever was started in the background ignores it, and hands that on."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def stored() -> dict[str, str]:
    with octavo.open("kb", read_only=True) as kb:
        return {document.id: document.text for document in kb.documents()}


def test_two_folders_with_equal_names_live_side_by_side(index: Run) -> None:
    write({"one/docs/a.md": "first", "two/docs/a.md": "second", "two/docs/b.md": "third"})
    assert index("one/docs")["source"] == "docs"
    assert index("two/docs")["source"] == "docs-2"
    assert stored() == {"docs/a.md#0": "first", "docs-2/a.md#0": "second", "docs-2/b.md#0": "third"}
    Path("two/docs/a.md").unlink()
    assert index("two/docs", "--prune", "--yes")["removed"] == 1
    assert set(stored()) == {"docs/a.md#0", "docs-2/b.md#0"}
    assert index("one/docs")["unchanged"] == 1  # the same folder is the same source


def test_a_name_is_kept_and_a_moved_folder_is_asked_about(index: Run) -> None:
    write({"docs/a.md": "text"})
    assert index("docs", "--source", "my notes")["source"] == "my notes"
    assert index("docs")["source"] == "my notes"
    Path("docs").rename("elsewhere")
    assert index("elsewhere", "--source", "my notes")["unchanged"] == 1
    assert index("elsewhere")["source"] == "my notes"
    write({"third/a.md": "other text"})
    refused = index("third", "--source", "my notes", code=2)
    assert "which is still there" in refused
    assert "--yes" in refused
    assert stored() == {"my notes/a.md#0": "text"}
    Path("elsewhere").rename("gone")
    write({"x/my notes/a.md": "other"})
    assert "--source" in index("x/my notes", code=2)
    for name in ("a/b", "", "a#b", "x" * 201, "..", "tab\t"):
        assert "name for the source" in index("gone", "--source", name, code=2)


def test_gone_files_are_counted_and_pruned_on_demand(index: Run, run: Run) -> None:
    write({f"docs/{number}.md": f"text {number}" for number in range(7)})
    index("docs")
    Path("docs/0.md").unlink()
    Path("docs/1.md").write_text(" \n")  # emptied is deleted
    told = index("docs")
    assert told["gone"] == {"documents": 2, "files": ["docs/0.md", "docs/1.md"]}
    assert told["skipped"]["empty"] == ["1.md"]
    assert "--prune removes them" in run("index", "docs", "-p", "kb", *MODEL).stderr
    dry = index("docs", "--prune", "--dry-run")
    assert (dry["removed"], dry["dry_run"]) == (2, True)
    assert len(stored()) == 7
    assert index("docs", "--prune")["removed"] == 2  # less than a third
    Path("docs/2.md").unlink()
    Path("docs/3.md").unlink()
    write({"docs/new.md": "new"})
    refused = index("docs", "--prune", code=2)
    assert "remove 2 of the 5 files" in refused
    assert "docs/new.md#0" not in stored()  # before anything is written
    assert index("docs", "--prune", "--yes")["removed"] == 2
    assert set(stored()) == {f"docs/{name}.md#0" for name in (4, 5, 6, "new")}


def test_a_question_is_answered_at_a_terminal(index: Run, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"docs/a.md": "a", "docs/b.md": "b"})
    index("docs")
    Path("docs/a.md").unlink()
    monkeypatch.setattr("octavo.cli._agreement._asks", lambda: True)
    command = ("index", "docs", "-p", "kb", *MODEL, "--prune")
    assert "nothing was written" in run(*command, input="n\n", code=130).stderr
    assert len(stored()) == 2
    run(*command, input="y\n")
    assert len(stored()) == 1


def test_a_part_of_a_source_is_indexed_by_itself(index: Run) -> None:
    write({"docs/a.md": "a", "docs/deep/b.md": "b", "docs/deep/c.md": "c", "docs/skip/d.md": "d"})
    index("docs", "--exclude", "skip/")
    write({"docs/a.md": "a changed", "docs/deep/b.md": "b changed"})
    assert index("docs/deep/b.md")["updated"] == 1
    assert stored()["docs/a.md#0"] == "a"
    Path("docs/deep/c.md").unlink()
    pruned = index("docs/deep", "--prune", "--yes")
    assert (pruned["source"], pruned["removed"]) == ("docs", 1)
    assert set(stored()) == {"docs/a.md#0", "docs/deep/b.md#0"}
    assert "left out by --exclude" in index("docs/skip/d.md", code=2)
    assert index("docs/skip/d.md", "--source", "other")["added"] == 1
    assert "--source" in index("docs/deep", "--chunk-size", "7", code=2)


def test_chunk_sizes_are_remembered_and_another_one_is_asked_about(index: Run) -> None:
    write({"docs/a.md": "one two three. four five six. seven eight nine."})
    assert index("docs", "--chunk-size", "20", "--overlap", "0")["added"] == 3
    again = index("docs")
    assert (again["unchanged"], again["chunk_size"], again["overlap"]) == (3, 20, 0)
    refused = index("docs", "--chunk-size", "0", code=2)
    assert "chunks of 20 characters that overlap by 0" in refused
    assert "encoded anew" in refused
    cut = index("docs", "--chunk-size", "0", "--yes")
    assert (cut["added"], cut["removed"]) == (1, 3)
    assert set(stored()) == {"docs/a.md"}
    assert index("docs")["unchanged"] == 1
    write({"rows.jsonl": '{"id": "r", "text": "one two three. four five six."}\n'})
    index("rows.jsonl")
    assert index("rows.jsonl", "--chunk-size", "15", "--yes")["removed"] == 1
    assert {"r#0", "r#1"} < set(stored())
    assert index("rows.jsonl", "--chunk-size", "0", "--yes")["removed"] == 2
    assert "r" in stored()


def test_rows_of_another_source_are_not_replaced(index: Run) -> None:
    write({
        "one.jsonl": '{"id": "a", "text": "mine"}\n',
        "two.jsonl": '{"id": "b", "text": "other"}\n{"id": "a", "text": "theirs"}\n',
    })  # fmt: skip
    index("one.jsonl")
    refused = index("two.jsonl", code=2)
    assert "belongs to the source 'one.jsonl'" in refused
    assert stored() == {"a": "mine"}  # before anything is written
    assert index("two.jsonl", "--source", "one.jsonl", "--yes")["added"] == 1
    with octavo.open("kb") as kb:
        kb.add(["by hand"], ids=["p"], vectors=[[1.0] * 64])
    write({"three.jsonl": '{"id": "p", "text": "from a file"}\n'})
    assert "no source" in index("three.jsonl", code=2)
    assert index("three.jsonl", "--adopt")["updated"] == 1
    assert stored()["p"] == "from a file"


def test_csv_rows(index: Run) -> None:
    write({"t.csv": 'name;age;code;note\nAda;45;007;"a\nb"\nBob;3.5;;\n;;;\nEve;1;2;3;4\n'})
    assert "line 6" in index("t.csv", code=1)
    told = index("t.csv", "--skip-bad-lines")
    assert len(told["skipped"]["lines"]) == 1
    with octavo.open("kb", read_only=True) as kb:
        first, second = kb.documents()
    assert first.text == "name: Ada\nage: 45\ncode: 007\nnote: a\nb"
    assert first.metadata == {"name": "Ada", "age": 45, "code": "007", "note": "a\nb", "_source": "t.csv"}
    assert (second.metadata["age"], "code" in second.metadata) == (3.5, False)
    write({"docs/t.csv": "id,text,path\nx,hello,/p\n", "docs/r.jsonl": '{"body": "b", "n": 1}\nno json\n'})
    told = index("docs")
    assert told["skipped"]["lines"][0].startswith("r.jsonl, line 2")
    with octavo.open("kb", read_only=True) as kb:
        row, line = kb.get(["docs/t.csv#x", "docs/r.jsonl#1"])
    assert (row.text, line.text) == ("hello", "body: b\nn: 1")
    assert row.metadata == {
        "path_": "/p", "row": "x", "path": "t.csv", "document": "docs/t.csv", "_source": "docs"
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")
def test_nothing_in_a_folder_stops_or_hangs_a_run(index: Run, run: Run) -> None:
    write({
        "docs/good.md": "good",
        "docs/.gitignore": "*.log.md\nbuild/\n!build/keep.md\n",
        "docs/x.log.md": "ignored",
        "docs/build/keep.md": "below an ignored folder",
        "docs/node_modules/m/readme.md": "package",
        "docs/env/pyvenv.cfg": "",
        "docs/env/a.md": "environment",
        "docs/cache/CACHEDIR.TAG": "Signature",
        "docs/cache/a.md": "cached",
        "docs/min.js": "x" * 30_000,
        "docs/package-lock.json": "{}",
        "docs/nb.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": ["a = 1\n", "b"], "outputs": ["no"]}]}),
        "docs/broken.ipynb": "{",
        "docs/picture.png": "",
    })  # fmt: skip
    os.mkfifo("docs/pipe.md")
    Path("docs/dangling.md").symlink_to("nowhere")
    Path("docs/loop").symlink_to("loop")
    Path("docs/to-folder").symlink_to("..")
    Path("docs/device.md").symlink_to("/dev/zero")
    Path(os.fsdecode(b"docs/\xff.md")).write_text("no name")
    Path("docs/sparse.txt").touch()
    os.truncate("docs/sparse.txt", 3 * 10**9)
    skipped = index("docs")["skipped"]["files"]
    assert set(stored()) == {"docs/good.md#0", "docs/nb.ipynb#0"}
    assert stored()["docs/nb.ipynb#0"] == "a = 1\nb"
    expected = {
        "left out by .gitignore": ["build/", "x.log.md"],
        "packages": ["node_modules/"],
        "a virtual environment": ["env/"],
        "a cache": ["cache/"],
        "a line of more than 20,000 characters, made by a program": ["min.js"],
        "a list of versions": ["package-lock.json"],
        "a pipe, not a file": ["pipe.md"],
        "a device, not a file": ["device.md"],
        "a link that leads nowhere": ["dangling.md"],
        "a link to a folder": ["to-folder/"],
        "its name is not UTF-8": ["\\xff.md"],
        "larger than 100 MB (--max-size)": ["sparse.txt"],
        "no reader for files of this kind": ["loop"],
        "images (indexed with --late and a model of page images)": ["picture.png"],
    }
    assert {reason: sorted(skipped[reason]) for reason in expected} == expected
    assert any(names == ["broken.ipynb"] for reason, names in skipped.items() if "not a notebook" in reason)
    assert index("docs", "--no-ignore", "--include", "build/", "--include", "*.png")["added"] == 1
    assert "docs/build/keep.md#0" in stored()
    for path in ("docs/pipe.md", "docs/dangling.md", "nothing", "docs/picture.png"):
        run("index", path, "-p", "other", *MODEL, code=1)
    assert not Path("other").exists()


def test_a_file_that_cannot_be_read_now_keeps_its_documents(index: Run) -> None:
    write({"docs/a.md": "a", "docs/b.md": "b", "docs/c.md": "c", "docs/d.md": "d"})
    index("docs")
    Path("docs/a.md").write_bytes(b"\0\0")
    Path("docs/b.md").unlink()
    Path("docs/b.md").symlink_to("away")
    told = index("docs", "--prune")
    assert (told["removed"], told["gone"]["files"]) == (0, [])
    assert len(stored()) == 4


def test_front_matter_html_docx_pdf(index: Run) -> None:
    pytest.importorskip("pypdfium2")
    pytest.importorskip("mammoth")
    data = Path(__file__).parents[2] / "data" / "files"
    write({
        "docs/f.md": "---\ntitle: T\nday: 2024-05-01\ntags: [a, b]\npath: own\nnone: null\n---\nbody\n",
        "docs/bomb.md": "---\na: &a [x, x]\nb: [*a, *a]\n---\nbody\n",
        "docs/rule.md": "---\nno fields\n---\nbody\n",
        "docs/h.html": "<title>The T</title><nav>menu</nav><script>x()</script><main><h1>Head</h1><p>Hello <b>you</b></p>"
        "<ul><li>one</li></ul><!-- c --></main>",
        "docs/deep.html": "<div>" * 20_000 + "x",
        "docs/bad.pdf": "%PDF-1.7 nothing",
        "docs/bad.docx": "PK",
    })  # fmt: skip
    for name in ("two-pages.pdf", "letter.docx"):
        (Path("docs") / name).write_bytes((data / name).read_bytes())
    skipped = index("docs", "--chunk-size", "60", "--overlap", "0")["skipped"]["files"]
    with octavo.open("kb", read_only=True) as kb:
        found = {document.id: document for document in kb.documents()}
    metadata = dict(found["docs/f.md#0"].metadata)
    assert str(metadata.pop("day")) == "2024-05-01"
    assert metadata == {
        "title": "T", "tags": ["a", "b"], "path_": "own", "path": "f.md", "document": "docs/f.md", "chunk": 0,
        "_source": "docs",
    }  # fmt: skip
    assert found["docs/f.md#0"].text == "body"
    assert "*a" in found["docs/bomb.md#0"].text  # aliases are not followed
    assert found["docs/rule.md#0"].text.startswith("---")
    assert found["docs/h.html#0"].text == "# Head\n\nHello **you**\n\n- one"
    assert found["docs/h.html#0"].metadata["title"] == "The T"
    assert "thirty days" in found["docs/letter.docx#0"].text
    pages = [document.metadata["page"] for document in found.values() if document.metadata["path"] == "two-pages.pdf"]
    assert pages[0] == 1
    assert pages[-1] == 2
    left_out = {name for names in skipped.values() for name in names}
    assert {"bad.pdf", "bad.docx", "deep.html"} <= left_out


def test_late_interaction(run: Run) -> None:
    write({"docs/a.md": "annual leave", "docs/b.md": "backup on monday"})
    late = ("-p", "late", "-m", "words:encode_tokens")
    run("index", "docs", *late, "--late", "--pool-factor", "1")
    assert json.loads(run("index", "docs", *late, "--json").stdout)["unchanged"] == 2
    hits = json.loads(run("search", "monday backup", *late, "--json").stdout)["hits"]
    assert hits[0]["id"] == "docs/b.md#0"
    assert hits[0]["score"] == pytest.approx(2, abs=0.05)
    run("index", "docs", "-p", "kb", *MODEL)
    assert "one vector a document" in run("index", "docs", "-p", "kb", *MODEL, "--late", code=1).stderr
    assert "--late" in run("index", "docs", "-p", "new", *MODEL, "--pool-factor", "2", code=2).stderr
    assert json.loads(run("duplicates", "late", "--json").stdout)["groups"] == []
    run("update", "late", "docs/a.md#0", "--metadata", '{"seen": true}')
    assert json.loads(run("list", "late", "--filter", '{"seen": true}', "--json").stdout)["total"] == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_place_in_qdrant(run: Run, late: bool) -> None:
    pytest.importorskip("qdrant_edge")
    write({"docs/a.md": "annual leave", "docs/b.md": "backup on monday"})
    place = ("-p", "qdrant:q", "-m", "words:encode_tokens" if late else "words:encode")
    run("index", "docs", *place, *(["--late"] if late else []))
    Path("docs/a.md").unlink()
    told = json.loads(run("index", "docs", *place, "--prune", "--yes", "--json").stdout)
    assert (told["source"], told["removed"], told["unchanged"]) == ("docs", 1, 1)
    assert json.loads(run("info", "qdrant:q", "--json").stdout)["sources"]["docs"].endswith("docs")
    run("update", "qdrant:q", "docs/b.md#0", "--metadata", '{"n": 1}')
    assert json.loads(run("stats", "qdrant:q", "--json").stdout)["sources"]["docs"]["documents"] == 1
    for command in ("fit", "refit", "compact"):
        assert "Qdrant" in run(command, "qdrant:q", code=2).stderr
    run("pull", "qdrant:q", "pulled")
    with octavo.open("pulled", read_only=True) as kb:
        assert "docs" in json.loads(kb.notes()["sources"])["sources"]
    run("delete", "qdrant:q", "--source", "docs", "--yes")
    assert json.loads(run("list", "qdrant:q", "--json").stdout)["total"] == 0


def test_a_mistyped_path_makes_no_collection_among_other_files(run: Run) -> None:
    write({"docs/a.md": "a", "home/letter.txt": "x", "home/.hidden": ""})
    refused = run("index", "docs", "-p", "home", *MODEL, code=2)
    assert "'letter.txt'" in refused.stderr
    assert "home/octavo" in refused.stderr
    with pytest.raises(octavo.OctavoError, match="other things"):
        octavo.open("home")
    assert sorted(os.listdir("home")) == [".hidden", "letter.txt"]
    Path("home/letter.txt").unlink()
    octavo.open("home").close()
    octavo.open("root/named").close()
    octavo.open("root").close()  # beside a named collection


def test_errors_speak_the_command_lines_language(run: Run) -> None:
    commands = ("info kb", "list kb", "get kb x", "delete kb x", "stats kb", "duplicates kb", "fit kb", "refit kb",
                "compact kb", "verify kb", "tune kb", "snapshot kb s", "export kb e", "update kb x --metadata {}",
                "push kb --to other", "search q -p kb --mode text", "info qdrant:kb")  # fmt: skip
    for command in commands:
        failed = run(*command.split(), code=1)
        assert "octavo index SOURCE --path" in failed.stderr, command
        assert "must_exist" not in failed.stderr
    assert not Path("kb").exists()
    said = _app.in_our_words(
        "damaged; run verify(repair=True), or mode='text', or pass codec='int8' and call fit() first"
    )
    assert (
        said == "damaged; run octavo verify --repair, or --mode text, or pass --codec 'int8' and run octavo fit first"
    )


def test_help_keeps_the_names_of_extras(run: Run) -> None:
    names = run("--help").stdout.split("Commands", 1)[1]
    listed = [line.split()[1] for line in names.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert listed[:3] == ["index", "watch", "search"]
    assert listed[-4:] == ["plan", "train", "eval", "demo"]
    assert "octavo[files]" in run("index", "--help").stdout
    assert "octavo[eval]" in run("plan", "--help").stdout
    assert "octavo[demo]" in run("demo", "--help").stdout


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_what_is_safe_and_goes_on(words: Any, run: Run, how: signal.Signals) -> None:
    write({f"docs/{number:03}.md": f"text {number}" for number in range(40)})
    Path("slow.py").write_text(
        "import time, words\n"
        "def encode(texts):\n    print('batch', flush=True)\n    time.sleep(0.3)\n    return words.encode(texts)\n"
    )
    command = [sys.executable, "-m", "octavo", "index", "docs", "-p", "kb", "-m", "slow:encode", "--batch-size", "2"]
    environment = os.environ | {"PYTHONPATH": os.environ["PYTHONPATH"] + os.pathsep + os.getcwd()}
    process = begin(command, env=environment)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(how)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "are written and safe" in said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    done = len(stored())
    assert 0 < done < 40
    result = subprocess.run([*command[:-2], "--json"], capture_output=True, text=True, env=environment, check=True)
    told = json.loads(result.stdout.split("batch\n")[-1])
    assert (told["unchanged"], told["added"]) == (done, 40 - done)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_watch_as_a_process(words: Any) -> None:
    write({"docs/a.md": "a", "docs/b.md": "b"})
    command = [sys.executable, "-m", "octavo", "watch", "docs", "-p", "kb", *MODEL, "--interval", "0.1", "--json"]
    process = begin(command)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["added"] == 2
        write({"docs/a.md": "a changed", "docs/c.md": "c"})
        seen: set[str] = set()
        while not {"a.md", "c.md"} <= seen:
            seen.update(json.loads(process.stdout.readline())["changed"])
        Path("docs/b.md").unlink()
        assert json.loads(process.stdout.readline())["gone"] == ["b.md"]
        assert stored() == {"docs/a.md#0": "a changed", "docs/c.md#0": "c"}  # while it is being watched
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "is written and safe" in said


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_watch_makes_sparse_vectors_as_index_does(words: Any) -> None:
    write({"docs/a.md": "red apple", "docs/b.md": "green pear"})
    sparse = ("--sparse", "words:encode_sparse")
    process = begin([sys.executable, "-m", "octavo", "watch", "docs", "-p", "kb", *MODEL, *sparse, "--json"])
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["added"] == 2
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    with octavo.open("kb") as kb:
        assert kb.has_sparse_vectors
        assert [len(terms) for terms, _ in kb.get_sparse_vectors(kb.ids())] == [2, 2]


def test_titles_and_headings_as_context(index: Run, run: Run) -> None:
    write({"docs/a.md": "# France\n\nabout it\n\n## Paris\n\ntwo million"})
    found = index("docs", "--context", "headings", "--chunk-size", "12", "--overlap", "0")
    assert (found["context"], found["added"]) == ("headings", 4)
    again = index("docs")
    assert (again["context"], again["unchanged"]) == ("headings", 4)
    with octavo.open("kb", read_only=True) as kb:
        assert kb.get(["docs/a.md#3"])[0].embed_text == "France > Paris\ntwo million"
    found = run("search", "Paris", "-p", "kb", "--mode", "text", "--json").stdout
    assert {hit["text"] for hit in json.loads(found)["hits"]} == {"## Paris", "two million"}
    assert "embedded with their title and headings" in index("docs", "--context", "none", code=2)
    assert index("docs", "--context", "none", "--yes")["updated"] == 3
    assert "Invalid value for '--context'" in index("docs", "--context", "everything", code=2)


def test_operators(index: Run, run: Run) -> None:
    write({"docs/a.txt": "a red apple pie", "docs/b.txt": "a red and green apple", "docs/c.txt": "a green pear"})
    index("docs")

    def found(*arguments: str, mode: str = "text") -> set[str]:
        output = run("search", *arguments, "-p", "kb", "--mode", mode, *MODEL, "--json").stdout
        return {hit["id"][5] for hit in json.loads(output)["hits"]}

    assert found('"red apple"') == {"a", "b"}  # a bag of words unless it is asked for
    assert found('"red apple"', "--operators") == {"a"}
    assert found("apple -green", "--operators") == {"a"}
    assert found("pea*", "--operators") == {"c"}
    assert found("aple~ AND (green OR pie)", "--operators") == {"a", "b"}
    assert found("+green", "--operators", mode="hybrid") >= {"b", "c"}
    refused = run("search", "x", "-p", "kb", "--operators", *MODEL, code=2)
    assert "operators are for words" in refused.stderr.replace("\n", " ")


def test_a_new_text_is_embedded_in_its_context(index: Run, run: Run) -> None:
    write({"docs/a.md": "# France\n\ntwo million"})
    index("docs", "--context", "headings", "--chunk-size", "12", "--overlap", "0")
    run("update", "kb", "docs/a.md#1", "--metadata", '{"seen": true}')
    run("update", "kb", "docs/a.md#1", "--text", "three million", *MODEL)
    with octavo.open("kb", read_only=True) as kb:
        [document] = kb.get(["docs/a.md#1"])
    assert (document.text, document.embed_text) == ("three million", "France\nthree million")
    assert document.metadata["seen"] is True
