"""``octavo eval`` from the outside, and what it is made of: sweeps, tables, conditions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from octavo.errors import MissingExtraError, ParameterError
from octavo.eval import (
    Configuration,
    Gate,
    Result,
    average,
    expand_sweep,
    load_dataset,
    load_results,
    markdown,
    run,
)
from octavo.eval.analysis.recipe import recipe
from octavo.eval.cli import app
from octavo.eval.running.sweeps import Shape, expand_all, grid_points, read_plan

ENCODER = """
import zlib
import numpy as np

def encode(texts):
    vectors = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split()[:200]:
            vectors[row] += np.random.default_rng(zlib.crc32(word.encode())).normal(size=64)
    return vectors
"""

Invoke = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "eval_encoder.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "eval_encoder", raising=False)
    monkeypatch.delenv("OCTAVO_CACHE", raising=False)
    monkeypatch.setattr(sys, "argv", ["octavo", "eval", "run", "--as", "typed here"])
    root = typer.Typer()
    root.add_typer(app, name="eval")

    def call(*arguments: str, code: int = 0, error: type[Exception] | None = None) -> Any:
        result = CliRunner().invoke(root, ["eval", *arguments])
        if error is not None:
            assert isinstance(result.exception, error), result.output
            return str(result.exception)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


@pytest.fixture
def quickly(beir: Path, tmp_path: Path) -> list[str]:
    return [
        "run", "--data", str(beir), "--model", "eval_encoder:encode", "--out", str(tmp_path / "out"),
        "--timed-queries", "2", "--repeats", "1", "--no-report",
    ]  # fmt: skip


def test_run_writes_results_and_a_table(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    shown = invoke(*quickly, "-c", "float32", "-c", "binary > int8", "-m", "nDCG@10 R@5", "--baseline", "int8-minmax")
    results = load_results(tmp_path / "out")
    assert {result.label for result in results} == {"float32", "binary > int8", "int8-minmax"}
    assert set(results[0].quality) == {"nDCG@10", "R@5"}
    assert results[0].environment.command == "octavo eval run --as 'typed here'"
    assert "| binary > int8 | " in shown.stdout
    assert "| int8-minmax (baseline) | " in shown.stdout
    assert (tmp_path / "out" / "summary.md").read_text() in shown.stdout
    assert (tmp_path / "out" / ".cache").is_dir()
    again = invoke(*quickly, "-c", "float32", "-m", "nDCG@10")
    assert "measured before" in again.stderr


def test_json_is_all_that_is_on_stdout(invoke: Invoke, quickly: list[str]) -> None:
    values = json.loads(invoke(*quickly, "-c", "int8", "--json").stdout)
    assert [result["label"] for result in values["results"]] == ["int8"]
    assert values["results"][0]["quality"].keys() == {"nDCG@10", "R@100", "RR@10"}
    assert values["averages"][0]["label"] == "int8"
    assert values["failures"] == []


def test_fail_under(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    both = [*quickly, "-c", "float32", "-c", "binary"]
    invoke(*both, "--fail-under", "nDCG@10=0.01x")
    failed = invoke(*both, "--fail-under", "nDCG@10=1.5x", "--fail-under", "agreement=0.999", code=1)
    assert "tiny: float32: nDCG@10" in failed.stderr
    assert "tiny: binary: agreement" in failed.stderr
    invoke(*quickly, "-c", "int8", "--fail-under", "nDCG@10=0.01x")  # float32 was measured before, with the same data
    elsewhere = [*quickly, "-c", "int8", "--fail-under", "nDCG@10=0.99x", "--out", str(tmp_path / "elsewhere")]
    assert "needs its result on the same data" in invoke(*elsewhere, error=ParameterError)


def test_a_broken_index_fails_the_command(invoke: Invoke, quickly: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.retrievers import dense

    scan = dense.exact_search

    def broken(*arguments: Any, **options: Any) -> Any:
        rows, scores = scan(*arguments, **options)
        return rows[:, ::-1] % 7, scores

    monkeypatch.setattr(dense, "exact_search", broken)
    failed = invoke(*quickly, "-c", "float32", code=1)
    assert "exact search over the codes finds what float32 finds" in failed.stderr


def test_flags_multiply(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    flags = ["--dims", "16", "--dims", "50%", "--quantizer", "int8", "--quantizer", "binary > int8", "--reducer", "svd",
             "--oversample", "2", "--oversample", "4", "--mode", "dense", "--mode", "text"]  # fmt: skip
    invoke(*quickly, *flags, "--json")
    assert sorted(result.label for result in load_results(tmp_path / "out")) == sorted(
        [
            *(f"svd:{dim}|int8" for dim in ("16", "50%")),
            *(f"svd:{dim}|binary > svd:{dim}|int8, oversample {n}" for dim in ("16", "50%") for n in (2, 4)),
            "text",
        ]
    )


def test_a_plan_in_yaml(invoke: Invoke, quickly: list[str], beir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(beir, other)
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"data: ['{beir}', '{other}']\nmodel: eval_encoder:encode\nmeasures: [nDCG@10, R@20]\nout: '{tmp_path / 'planned'}'\n"
        "seed: 3\nbaselines: [float8-cast]\nconfigurations:\n  - int8\n  - {codec: ['binary > int8'], oversample: [2, 4]}\n"
    )
    shown = invoke("run", "--sweep", str(plan), "--timed-queries", "2", "--repeats", "1", "--no-report")
    results = load_results(tmp_path / "planned")
    assert len(results) == 8
    assert {result.environment.seed for result in results} == {3}
    assert "## Average over the data sets" in shown.stdout
    averages = average(results)
    assert [len(row.datasets) for row in averages] == [2] * 4
    for row in averages:
        values = [result.quality["R@20"] for result in results if result.label == row.label]
        assert row.quality["R@20"] == pytest.approx(sum(values) / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("configurations: int8", "a list of 'configurations'"),
        ("- int8", "a list of 'configurations'"),
        ("configurations: []\ncodecs: [int8]", "got 'codecs'"),
        ("configurations: [", "not YAML"),
    ],
)
def test_plans_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ParameterError, match=message):
        read_plan(tmp_path / "plan.yaml")
    with pytest.raises(ParameterError, match="there is none"):
        read_plan(tmp_path / "gone.yaml")


def test_wrong_usage(invoke: Invoke, quickly: list[str], beir: Path) -> None:
    assert "give its folder with --data" in invoke("run", "--model", "eval_encoder:encode", error=ParameterError)
    assert "expected a model" in invoke("run", "--data", str(beir), error=ParameterError)
    for flags, message in (
        (["--pool-factor", "2"], "pool_factor applies to none"),
        (["--mode", "late", "-c", "binary > int8"], "a codec of one tier"),
        (["--alpha", "0.5"], "alpha applies to none"),
        (["--grid", "Starbucks"], "has none"),
        (["--mode", "text", "-c", "int8"], "expected no codec"),
        (["--quantizer", "int8"], "expected dims or a grid with quantizers"),
        (["--fail-under", "good"], "expected a condition"),
        (["--model", "eval_encoder:nothing"], "expected --model as module:attribute"),
    ):
        assert message in invoke(*quickly, *flags, error=ParameterError), flags


def test_the_commands_that_read_results(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    for module in ("scipy", "matplotlib"):
        pytest.importorskip(module)
    invoke(*quickly, "-c", "float32", "-c", "int8", "-c", "binary")
    out = tmp_path / "out"
    files = {result.label: path for path in (out / "tiny").glob("*.json") for result in [Result.read(path)]}
    compared = json.loads(invoke("compare", str(files["float32"]), str(files["binary"]), "--json").stdout)
    assert compared["b"]["label"] == "binary"
    assert "| nDCG@10 | " in invoke("compare", str(files["float32"]), str(files["int8"]), "-m", "nDCG@10").stdout
    chosen = json.loads(invoke("pareto", str(out), "--budget", "1MB", "--json").stdout)
    assert chosen["recommended"]["label"] in files
    assert "octavo.open(" in invoke("pareto", str(out), "--min-quality", "50%", "--disk").stdout
    assert "expected one of --ram" in invoke("pareto", str(out), "--ram", "--disk", code=2).stderr
    written = json.loads(invoke("report", str(out), "--json").stdout)
    assert Path(written["html"]).read_text().startswith("<!")
    vectors = next((out / ".cache").rglob("documents/*.json")).with_suffix(".npy")
    assert "mean cosine" in invoke("inspect", str(vectors)).stdout
    assert json.loads(invoke("inspect", str(vectors), "--json").stdout)["dim"] == 64


def test_make_and_run(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    lines = [
        {
            "_id": f"n{n}",
            "text": " ".join(f"The {words[n % 10]} {words[m]} was seen number {n} near a house." for m in range(4)),
        }
        for n in range(20)
    ]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = json.loads(
        invoke(
            "make",
            "--path",
            str(tmp_path / "notes.jsonl"),
            "--out",
            str(tmp_path / "known"),
            "--queries",
            "9",
            "--json",
        ).stdout
    )
    assert (made["queries"], made["documents"], made["removed"]) == (9, 20, True)
    quickly[2] = str(tmp_path / "known")
    values = json.loads(invoke(*quickly, "-c", "int8", "-m", "RR@10", "--json").stdout)
    assert values["results"][0]["dataset"]["queries"] == 9


def test_run_recommends_and_draws(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    for module in ("scipy", "matplotlib"):
        pytest.importorskip(module)
    shown = invoke(*quickly[:-1], "-c", "float32", "-c", "int8")
    assert "Use " in shown.stdout
    assert "octavo.open(" in shown.stdout
    assert (tmp_path / "out" / "report.html").is_file()


def test_importing_needs_no_extra() -> None:
    heavy = ("torch", "matplotlib", "scipy", "mteb", "ir_measures", "yaml", "sentence_transformers", "datasets")
    code = f"import sys, octavo.eval, octavo.eval.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_extras_name_the_command(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, encoder: Any, tmp_path: Path
) -> None:
    (tmp_path / "plan.yaml").write_text("configurations: [int8]")
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'octavo\[eval\]'"):
        run(tiny, encoder, "int8")
    with pytest.raises(MissingExtraError, match=r"pip install 'octavo\[eval\]'"):
        read_plan(tmp_path / "plan.yaml")


def test_all_is_sorted_and_there() -> None:
    import octavo.eval

    assert octavo.eval.__all__ == sorted(octavo.eval.__all__)
    assert all(hasattr(octavo.eval, name) for name in octavo.eval.__all__)


# ---------------------------------------------------------------------- sweeps


def test_grids() -> None:
    assert grid_points("starbucks", 6, 384) == [(1, 16), (2, 32), (3, 64), (4, 128), (5, 256), (6, 384)]
    full = grid_points("2DMSE", 12, 768)
    assert {layers for layers, _ in full} == {2, 4, 6, 8, 10, 12}
    assert {dim for _, dim in full} == {32, 64, 128, 256, 512, 768}
    assert len(full) == 36
    for name, layers, dim in (("latte", 12, 768), ("2DMSE", 4, 768), ("2DMSE", 12, 32)):
        with pytest.raises(ParameterError, match="grid"):
            grid_points(name, layers, dim)


def test_a_grid_becomes_layers_and_codecs() -> None:
    found = expand_sweep({"grid": "Starbucks", "quantizers": ["int8"]}, Shape(lambda: (6, 384)))
    assert [(one.layers, one.codec) for one in found] == [
        (1, "truncate:16|int8"), (2, "truncate:32|int8"), (3, "truncate:64|int8"), (4, "truncate:128|int8"),
        (5, "truncate:256|int8"), (None, "int8"),
    ]  # fmt: skip


def test_a_model_is_only_looked_at_for_a_grid() -> None:
    def never() -> tuple[int, int]:
        raise AssertionError

    assert expand_all(["int8", {"codec": "int8", "layers": [2, 3]}], Shape(never)) == [
        Configuration(codec="int8"), Configuration(codec="int8", layers=2), Configuration(codec="int8", layers=3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"codecs": "int8"}, "expected options out of"),
        ({"codec": []}, "an empty list"),
        ({"oversample": 5}, "expected a codec"),
        ({"codec": "int8", "oversample": 5}, "oversample applies to none"),
        ({"dims": 64, "grid": "2DMSE"}, "chooses layers and dims itself"),
        ({"grid": "2DMSE"}, "expected a model"),
        ({"codec": "int8", "reducer": "svd"}, "expected dims or a grid with reducer"),
        ({"mode": "text", "layers": 2}, "expected no codec"),
        ({"codec": "binary > int8", "mode": "late"}, "a codec of one tier"),
        ({"codec": "int8", "pool_factor": [2, 4]}, "pool_factor applies to none"),
        ("int8", "expected a mapping"),
    ],
)
def test_sweeps_that_make_no_sense(entry: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        expand_sweep(entry)


# ---------------------------------------------------------------------- conditions and tables


@pytest.mark.parametrize("text", ["nDCG@10", "=0.5", "nDCG@10=high", "nDCG@10=", "nDCG@10=nan"])
def test_conditions_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ParameterError, match="expected a condition"):
        Gate.parse(text)


def test_conditions(tiny: Any, encoder: Any, quick: Any) -> None:
    float32, text, baseline = run(
        tiny, encoder, ["float32", {"mode": "text"}, {"baseline": "binary-sign"}], timing=quick
    )
    good = replace(float32, quality={"nDCG@10": 0.5})
    worse = replace(good, label="int8", configuration=Configuration(codec="int8"), quality={"nDCG@10": 0.49})
    bad = replace(baseline, quality={"nDCG@10": 0.0})
    assert Gate.parse("nDCG@10 = 0.98x").failures([good, worse, bad]) == []
    [failure] = Gate.parse("nDCG@10=0.99x").failures([good, worse, bad])
    assert "int8: nDCG@10 0.4900, expected at least 0.4950 (0.99 of float32's 0.5000)" in failure
    assert len(Gate.parse("nDCG@10=0.6").failures([good, worse])) == 2
    assert Gate.parse("agreement=1").failures([good, text, bad]) == []
    with pytest.raises(ParameterError, match="expected a measure"):
        Gate.parse("P@7=0.1").failures([good])


def test_tables_escape_what_would_break_them(tiny: Any, encoder: Any, quick: Any) -> None:
    results = run(tiny, encoder, ["svd:8|int8", {"baseline": "gaussian:8|float8-cast"}], timing=quick)
    lines = [line for line in markdown(results).splitlines() if line.startswith("|")]
    assert "svd:8\\|int8" in lines[2]
    assert "(baseline)" in lines[3]
    assert {line.replace("\\|", "").count("|") for line in lines} == {12}


def test_what_was_measured_before_counts(invoke: Invoke, quickly: list[str], beir: Path, tmp_path: Path) -> None:
    """A second call does not forget the first one's float32: summary, recommendation and conditions rest on both."""
    pytest.importorskip("matplotlib")
    quickly = [word for word in quickly if word != "--no-report"]
    invoke(*quickly, "-c", "float32", "-c", "svd:50%|int8")
    again = invoke(*quickly, "-c", "int8", "--fail-under", "nDCG@10=0.1x")
    assert "Use float32: fewest bytes" in again.stdout
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert all(f"| {label} |" in summary for label in ("float32", "int8", r"svd:50%\|int8"))
    assert "3 configurations on tiny" in (tmp_path / "out" / "report.html").read_text()
    values = json.loads(invoke(*quickly, "-c", "int8", "--json").stdout)
    assert [result["label"] for result in values["results"]] == ["int8"]
    assert {result["label"] for result in values["earlier"]} == {"float32", "svd:50%|int8"}
    # Other data, and another model, are other people's results.
    line = json.dumps({"_id": "more", "title": "", "text": "one more document"})
    (beir / "corpus.jsonl").write_text((beir / "corpus.jsonl").read_text() + line + "\n")
    assert json.loads(invoke(*quickly, "-c", "int8", "--json").stdout)["earlier"] == []
    # But all that lies there stands in the summary and in the report.
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert summary.count("## tiny") == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="part"') == 2
    # A question's id may be another question's on other data, so that texts are left out.
    assert '<th scope="col" class="text">text</th>' not in page


def test_lines_to_paste_work_when_pasted(
    invoke: Invoke, quickly: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fresh interpreter, in a directory of its own: a module's encoder is imported, words need none."""
    pytest.importorskip("matplotlib")
    quickly = [word for word in quickly if word != "--no-report"]
    values = json.loads(invoke(*quickly, "-c", "float16", "-c", "float32", "--json").stdout)
    words = ["run", "--data", str(tmp_path / "tiny"), "--mode", "text", "--out", str(tmp_path / "text"), "--json"]
    assert json.loads(invoke(*words).stdout)["recommendation"].startswith(
        "No recommendation"
    )  # nothing to compare with
    [result] = load_results(tmp_path / "text")
    for number, lines in enumerate((values["recipe"], values["cheaper_recipe"], recipe(result).python)):
        place = tmp_path / f"paste-{number}"
        place.mkdir()
        lines = lines.replace("# kb.add(texts, ids=ids)", "kb.add(['red thing', 'blue thing'], ids=['r', 'b'])")
        code = lines.replace("kb.search('your question'", "print(kb.search('blue'") + ".ids)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), *sys.path])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("['b'"), (lines, done.stdout)


def test_ready_vectors_from_the_command_line(invoke: Invoke, quickly: list[str], beir: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path / "modules"))
    try:
        from eval_encoder import encode
    finally:
        sys.path.remove(str(tmp_path / "modules"))
    data = load_dataset(beir)
    np.save(tmp_path / "d.npy", encode(list(data.texts)))
    np.save(tmp_path / "q.npy", encode(list(data.queries)))
    files = ["--vectors", str(tmp_path / "d.npy"), str(tmp_path / "q.npy")]
    out = [
        "--data",
        str(beir),
        "--out",
        str(tmp_path / "ready"),
        "--timed-queries",
        "2",
        "--repeats",
        "1",
        "--no-report",
    ]
    given = json.loads(invoke("run", *files, *out, "-c", "int8", "--json").stdout)["results"][0]
    of_model = json.loads(invoke(*quickly, "-c", "int8", "--json").stdout)["results"][0]
    assert given["quality"] == of_model["quality"]
    (tmp_path / "plan.yaml").write_text(
        json.dumps({"data": str(beir), "vectors": files[1:], "configurations": ["float32"], "out": str(tmp_path / "p")})
    )
    invoke("run", "--sweep", str(tmp_path / "plan.yaml"), "--no-report", "--timed-queries", "2", "--repeats", "1")
    assert json.loads(invoke("inspect", *files, "--json").stdout)["n"] == len(data.texts)
    assert json.loads(invoke("inspect", *files, "--queries", "--data", str(beir), "--json").stdout)["n"] == 12
    assert json.loads(invoke("inspect", str(tmp_path / "d.npy"), "--json").stdout)["dim"] == 64
    described = invoke("inspect", "--data", str(beir), "--split", "test", "--model", "eval_encoder:encode", "--json")
    assert json.loads(described.stdout)["source"] == "tiny, documents, eval_encoder:encode"


def test_an_encoder_that_looks_vectors_up_gets_an_answer(invoke: Invoke, quickly: list[str], tmp_path: Path) -> None:
    (tmp_path / "modules" / "table_encoder.py").write_text(
        "def encode(texts):\n    return [{}[text] for text in texts]\n"
    )
    words = [word if word != "eval_encoder:encode" else "table_encoder:encode" for word in quickly]
    message = invoke(*words, "-c", "int8", error=ParameterError)
    assert "cannot encode a sentence that it has not seen" in message
    assert "--vectors DOCUMENTS QUERIES" in message


def test_what_is_printed_moves_no_cursor(invoke: Invoke, beir: Path, tmp_path: Path) -> None:
    lines = (beir / "queries.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        query = json.loads(line)
        lines[number] = json.dumps({**query, "text": query["text"] + " \x1b[2J\u202e"})
    (beir / "queries.jsonl").write_text("\n".join(lines) + "\n")
    out = ["--model", "eval_encoder:encode", "--out", str(tmp_path / "o"), "--timed-queries", "1", "--repeats", "1"]
    invoke("run", "--data", str(beir), *out, "-c", "float32", "-c", "binary", "--no-report")
    shown = invoke("compare", "float32", "binary", "--dir", str(tmp_path / "o"), "--data", str(beir)).stdout
    assert r"\x1b[2J\u202e" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
