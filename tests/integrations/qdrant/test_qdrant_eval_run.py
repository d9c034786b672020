"""``octavo eval run`` on Qdrant's core in this process: the same configurations as in a local collection, side by side."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from octavo.cli import app
from octavo.errors import CodecError, MissingExtraError, ParameterError
from octavo.eval import Configuration, Dataset, Result, Timing, expand_sweep, load_results, run
from octavo.eval.analysis.pareto import pareto
from octavo.eval.analysis.recipe import recipe
from octavo.eval.analysis.scaling import footprint
from octavo.eval.gates import Gate
from octavo.eval.report import find_explanation

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py: pip install 'octavo[qdrant]'")

from octavo.eval.running import _qdrant as module
from octavo.integrations.qdrant import QdrantCollection, QdrantMultiVectorCollection

DIM, N = 32, 300
QUICK = Timing(queries=2, repeats=1, warmup=0)
WORDS = ("red", "green", "blue", "round", "square", "heavy", "light", "old", "new", "soft", "loud", "quick")


class Words:
    """A random vector for each word, and their sum for a text; counts what it is asked for."""

    name = "words"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tokens(self, text: str) -> np.ndarray:
        return np.array([_vector(word) for word in text.lower().split()], np.float32)

    def _encode(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return np.array([self.tokens(text).sum(axis=0) for text in texts])

    def encode_documents(self, texts: Sequence[str]) -> Any:
        return self._encode(texts)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return self._encode(texts)


class WordTokens(Words):
    """A vector for each word."""

    def _encode(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return [self.tokens(text) for text in texts]


def _vector(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Documents of common words and one of their own, so that scores do not tie."""
    rng = np.random.default_rng(5)
    texts = [f"{' '.join(rng.choice(WORDS, 4, replace=False))} thing{number}" for number in range(N)]
    queries = [" ".join(texts[7 * number].split()[1:]) for number in range(12)]
    return Dataset(
        name="tiny",
        document_ids=[f"d{number}" for number in range(N)],
        texts=texts,
        query_ids=[f"q{number}" for number in range(12)],
        queries=queries,
        qrels={f"q{number}": {f"d{7 * number}": 2, f"d{number}": 1} for number in range(12)},
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def both(data: Dataset, out: Path) -> dict[str, Result]:
    """Results of two codecs in both stores, by their labels."""
    results = run(
        data, Words(), expand_sweep({"codec": ["float32", "int8"], "store": ["local", "qdrant"]}), out=out, timing=QUICK
    )
    return {result.label: result for result in results}


# ---------------------------------------------------------------------- one vector a document


def test_both_stores_find_the_same(both: dict[str, Result]) -> None:
    assert list(both) == ["float32", "float32, store qdrant", "int8", "int8, store qdrant"]
    for result in both.values():
        assert result.ok, result.checks
    exact = both["float32, store qdrant"].agreement
    assert exact.codes_float32 == 1.0
    assert exact.float32 is not None
    assert exact.float32 > 0.97  # by the graph
    there, here = both["int8, store qdrant"], both["int8"]
    assert there.quality["nDCG@10"] == pytest.approx(here.quality["nDCG@10"], abs=0.03)
    assert there.speed.latency_ms is not None
    assert there.speed.latency_ms.p50 > 0
    assert "qdrant-edge-py" in there.environment.versions


def test_exact_search_is_that_of_the_float32_vectors(data: Dataset, both: dict[str, Result]) -> None:
    [result] = run(data, Words(), Configuration(codec="float32", exact=True, store="qdrant"), timing=QUICK)
    assert result.agreement.float32 == 1.0
    assert result.quality == pytest.approx(both["float32"].quality)


def test_bytes_are_those_of_the_files(both: dict[str, Result]) -> None:
    storage = both["int8, store qdrant"].storage
    assert storage.measured
    assert storage.documents == N
    assert storage.disk["vectors"] == pytest.approx(2 * DIM * N, abs=4096)  # float16, and a header
    assert storage.disk["quantized vectors"] == pytest.approx((DIM + 4) * N, abs=4096)  # bytes, and an offset each
    assert storage.ram == {part: storage.disk[part] for part in ("quantized vectors", "graph")}
    assert {"documents", "full text", "log"} < set(storage.disk)
    parts = sum(storage.disk[part] for part in ("vectors", "quantized vectors"))
    assert storage.vector_bytes_per_document * N == pytest.approx(parts)
    assert storage.index_bytes_per_document * N == pytest.approx(parts + storage.disk["graph"])
    plain = both["float32, store qdrant"].storage
    assert plain.ram == {part: plain.disk[part] for part in ("vectors", "graph")}
    assert plain.disk["vectors"] == pytest.approx(4 * DIM * N, abs=4096)


def test_reserved_bytes_do_not_count(tmp_path: Path) -> None:
    with QdrantCollection.create(path=tmp_path / "kb") as kb:
        kb.add(["red", "green"], ids=["r", "g"], vectors=[[1.0, 0.0], [0.0, 1.0]])
    files = [file for file in (tmp_path / "kb").rglob("*") if file.is_file()]
    parts = module.weigh(tmp_path / "kb")
    assert sum(parts.values()) == sum(map(module.occupied, files))
    whole = sum(file.stat().st_size for file in files)
    assert sum(parts.values()) <= whole
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 24)
    if getattr(sparse.stat(), "st_blocks", 1) == 0:  # the file system keeps no zeros
        assert module.occupied(sparse) == 0
        assert sum(parts.values()) < whole / 2


def test_a_collection_without_its_graph_is_caught(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_THRESHOLD", 10_000)
    [result] = run(data, Words(), Configuration(codec="svd:50%|int8", store="qdrant"), timing=QUICK)
    assert [check.name for check in result.checks if not check.ok] == ["Qdrant's graph covers every document"]


def test_lost_documents_are_caught(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    add = QdrantCollection.add

    def forgetful(self: Any, documents: Any, ids: Any, vectors: Any) -> Any:
        return add(self, documents[:-1], ids=ids[:-1], vectors=vectors[:-1])

    monkeypatch.setattr(QdrantCollection, "add", forgetful)
    [result] = run(data, Words(), Configuration(codec="float16", store="qdrant"), timing=QUICK)
    assert [check.name for check in result.checks if not check.ok] == ["every document is stored"]


# ---------------------------------------------------------------------- side by side


def test_the_local_float32_run_is_what_others_are_measured_by(both: dict[str, Result], out: Path) -> None:
    assert {result.label for result in load_results(out)} == set(both)
    choice = pareto(list(both.values()), measure="nDCG@10", min_quality="1%")
    assert choice.reference == "float32"
    assert {point.label for point in choice.points} == set(both)


def test_a_gate_refers_to_the_local_float32(both: dict[str, Result]) -> None:
    here, there = both["float32"], both["float32, store qdrant"]
    kept = there.quality["nDCG@10"]
    there.quality["nDCG@10"] = 0.0
    try:
        assert Gate.parse("nDCG@10=0.99x").failures([there, here])
        assert not Gate.parse("nDCG@10=0.99x").failures([there])
    finally:
        there.quality["nDCG@10"] = kept


def test_more_documents_take_more_graph(both: dict[str, Result]) -> None:
    result = both["int8, store qdrant"]
    ram = footprint(result, "ram", 10 * N)
    assert ram.total == pytest.approx(10 * sum(result.storage.ram.values()))
    disk = footprint(result, "disk", 10 * N)
    assert disk.fixed == result.storage.disk["log"]  # which Qdrant cuts
    assert disk.total == pytest.approx(10 * (sum(result.storage.disk.values()) - disk.fixed) + disk.fixed)


def test_what_was_measured_is_not_measured_again(
    data: Dataset, both: dict[str, Result], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_qdrant", None)
    [again] = run(data, Words(), {"codec": "int8", "store": "qdrant"}, out=out, timing=QUICK)
    assert again == both["int8, store qdrant"]


# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "text"},
        {"mode": "hybrid", "codec": "int8", "alpha": 0.5},
        {"mode": "hybrid", "codec": "float32", "metric": "dot"},
    ],
)
def test_words(data: Dataset, options: dict[str, Any]) -> None:
    [result] = run(data, Words(), {**options, "store": "qdrant"}, timing=QUICK)
    assert result.ok, result.checks
    names = [check.name for check in result.checks]
    assert "full text finds documents by their own words" in names
    assert ("the vectors that are fused with words find what float32 finds" in names) == (options["mode"] == "hybrid")
    assert result.quality["RR@10"] > 0.9  # each query has the name of its document


# ---------------------------------------------------------------------- late interaction


def test_late_interaction(data: Dataset, tmp_path: Path) -> None:
    wanted = expand_sweep({"codec": "float16", "mode": "late", "pool_factor": 1, "store": ["local", "qdrant"]})
    wanted.append(
        Configuration(
            codec="int8", mode="hybrid", pool_factor=2, candidates="both", n_candidates=40, exact=False, store="qdrant"
        )
    )
    here, there, fused = run(data, WordTokens(), wanted, out=tmp_path, timing=QUICK)
    for result in (here, there, fused):
        assert result.ok, result.checks
    assert there.quality["nDCG@10"] == pytest.approx(here.quality["nDCG@10"], abs=0.02)
    assert there.agreement.codes_float32 is not None
    assert there.agreement.codes_float32 > 0.97
    assert there.storage.disk["tokens"] == pytest.approx(2 * DIM * 5 * N, rel=0.2)
    assert set(there.storage.ram) == {"quantized vectors", "graph"}  # of the candidates; tokens in full lie on disk
    assert set(fused.storage.ram) == {"quantized vectors", "quantized tokens", "graph"}
    explained = find_explanation(tmp_path, [there])
    assert explained is not None
    lines = recipe(there).python
    assert lines.startswith("from octavo.integrations.qdrant import QdrantMultiVectorCollection\n")
    made = "QdrantMultiVectorCollection.create(path='kb.qdrant', encoder=encoder, codec='float16', pool_factor=1"
    assert made in lines
    assert recipe(there).shell is None


# ---------------------------------------------------------------------- recipes


def test_the_recipe_can_be_followed(both: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = both["int8, store qdrant"]
    found = recipe(result)
    assert found.shell is None  # an object has no name that a command line could load
    assert result.model is not None
    named = recipe(replace(result, model=replace(result.model, encoder="mine:words")))
    assert named.shell == "octavo index SOURCE --path qdrant:kb.qdrant --model mine:words --codec int8"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"encoder": Words()}
    *lines, search = found.python.replace("# kb.", "kb.").splitlines()
    names |= {"texts": ["red house", "blue sky"], "ids": ["r", "b"]}
    exec("\n".join(lines), names)
    assert names["kb"].codec == "int8"
    assert eval(search.replace("your question", "blue sky"), names).ids[0] == "b"
    names["kb"].close()


# ---------------------------------------------------------------------- what cannot be measured


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"codec": "svd:50%|float8"}, CodecError, "no counterpart of 'float8'.*nearest is 'int8'"),
        ({"codec": "binary > int8 > float32"}, CodecError, "at most two tiers"),
        ({"codec": "int4", "mode": "late"}, CodecError, "nearest is 'rabitq:4'"),
        ({"codec": "int8", "exact": True, "ef": 64}, ParameterError, "expected no ef, got 64"),
        ({"codec": "int8", "exact": True, "oversample": 4}, ParameterError, "expected no oversample, got 4"),
        ({"codec": "float32", "oversample": 4}, ParameterError, "such as 'int8 > float32'"),
        ({"baseline": "int8-minmax"}, ParameterError, "expected no store"),
        ({"codec": "int8", "store": "qdrant:kb"}, ParameterError, "give 'qdrant' alone"),
        ({"codec": "int8", "store": "https://host:6333"}, ParameterError, "a server does not tell"),
        ({"codec": "int8", "store": "disk"}, ParameterError, "expected store 'local' or 'qdrant'"),
    ],
)
def test_what_qdrant_cannot_do_is_refused_before_anything_is_encoded(
    data: Dataset, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    encoder = Words()
    with pytest.raises(error, match=message):
        run(data, encoder, ["float32", {"store": "qdrant", **options}], timing=QUICK)
    assert encoder.texts == []


def test_without_the_core_nothing_is_encoded(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    encoder = Words()
    with pytest.raises(MissingExtraError, match=r"octavo\[qdrant\]"):
        run(data, encoder, ["float32", {"codec": "int8", "store": "qdrant"}], timing=QUICK)
    assert encoder.texts == []


# ---------------------------------------------------------------------- sweeps


def test_stores_multiply() -> None:
    entry = {"codec": ["float32", "int8"], "oversample": [2, 4], "store": ["local", "qdrant"]}
    assert [one.label for one in expand_sweep(entry)] == [
        "float32",
        "float32, store qdrant",
        "int8",
        "int8, oversample 2, store qdrant",  # which rescores in Qdrant
        "int8, oversample 4, store qdrant",
    ]
    assert expand_sweep({"codec": "int8", "store": "local"}) == [Configuration(codec="int8")]
    with pytest.raises(ParameterError, match="oversample applies to none"):
        expand_sweep({"codec": "float32", "oversample": 2, "store": "qdrant"})


# ---------------------------------------------------------------------- the command line

MODEL = '''
import zlib
import numpy as np

def encode(texts):
    """Bag of hashed words."""
    vectors = np.full((len(texts), 64), 0.01, np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, zlib.crc32(word.encode()) % 64] += 1
    return vectors
'''


@pytest.fixture
def invoke(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "qdrant_run_encoder", raising=False)
    (tmp_path / "qdrant_run_encoder.py").write_text(MODEL)
    rows = [{"_id": name, "text": text} for name, text in zip(data.document_ids, data.texts, strict=True)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:60]))
    (tmp_path / "questions.csv").write_text(f"question,relevant\n{data.queries[0]},d0\n{data.queries[1]},d7\n")

    def call(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["eval", *arguments])
        assert result.exit_code == code, result.output
        return result

    return call


def test_the_command(invoke: Callable[..., Any], tmp_path: Path) -> None:
    asked = ("run", "--data", "questions.csv", "--model", "qdrant_run_encoder:encode", "--repeats", "1", "--no-report")
    ran = invoke(*asked, "-c", "int8", "--store", "local", "--store", "qdrant", "--json")
    shown = json.loads(ran.stdout)
    assert [each["label"] for each in shown["results"]] == ["int8", "int8, store qdrant"]
    assert [each["configuration"].get("store") for each in shown["results"]] == [None, "qdrant"]
    files = sorted(str(file) for file in (tmp_path / "runs").rglob("int8*.json"))
    assert len(files) == 2
    compared = json.loads(invoke("compare", *files, "--json").stdout)
    assert "store qdrant" in json.dumps(compared)
    assert "int8, store qdrant" in (tmp_path / "runs" / "summary.md").read_text()
    refused = invoke(*asked, "-c", "int8", "--store", "qdrant:kb", code=2)
    assert "give 'qdrant' alone" in refused.output
    refused = invoke(*asked, "-c", "float8", "--store", "qdrant", code=2)
    assert "nearest is 'int8'" in refused.output


def test_the_codecs_that_are_measured_when_nobody_says_which() -> None:
    from octavo.eval.cli._run import DEFAULT_CODECS, _configurations

    found = _configurations({"store": ["local", "qdrant"]}, {}, [], None)
    assert [one.codec for one in found if one.store == "qdrant"] == list(DEFAULT_CODECS)
    assert [one.codec for one in found if one.store is None] == list(DEFAULT_CODECS)


def test_the_multi_vector_kind_is_created_for_late_interaction(tmp_path: Path) -> None:
    late = Configuration(codec="int8", mode="late", pool_factor=3, connectivity=8, store="qdrant")
    with module.create(tmp_path / "late", late, 0, 10) as kb:
        assert isinstance(kb, QdrantMultiVectorCollection)
        assert kb.pooling.factor == 3
