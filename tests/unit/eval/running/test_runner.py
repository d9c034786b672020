"""Runs from end to end: what they measure, what they write, what they skip, and that a broken index is caught."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest

import octavo
from octavo.errors import InvalidVectorsError, ParameterError
from octavo.eval import (
    Configuration,
    Dataset,
    Result,
    Timing,
    load_dataset,
    load_results,
    register_measure,
    register_rival,
    run,
)
from octavo.eval.rivals import unregister_rival
from octavo.eval.running._measure import Embedded, measure_collection, shared
from octavo.eval.running.measures import Measures, _parse, run_lines, strictly_decreasing, unregister_measure

CODECS = ["float32", "int8", "binary > int8", "svd:50%|float8 > int8"]
MEASURES = ["nDCG@10", "R@100", "RR@10"]


def from_files(folder: Path, data: Path, result: Result) -> dict[str, float]:
    """Measure the exported runs with ir-measures alone: each measure on the run of its depth."""
    qrels = [
        ir_measures.Qrel(*line.split("\t")[:2], int(line.split("\t")[2]))
        for line in (data / "qrels" / "test.tsv").read_text().splitlines()[1:]
    ]
    found = {}
    for name, depth in (("nDCG@10", "10"), ("R@100", "100"), ("RR@10", "10")):
        lines = list(ir_measures.read_trec_run(str(folder / result.runs[depth])))
        measure = _parse(name)
        found[name] = ir_measures.calc_aggregate([measure], qrels, lines)[measure]
    return found


def test_quality_is_that_of_the_exported_runs(beir: Path, tmp_path: Path, encoder: Any, quick: Timing) -> None:
    wanted = [
        *CODECS,
        {"codec": "binary"},
        {"mode": "text"},
        {"codec": "int8", "mode": "hybrid"},
        {"baseline": "binary-sign"},
    ]
    results = run(beir, encoder, wanted, measures=MEASURES, out=tmp_path / "out", timing=quick)
    assert len(results) == len(wanted)
    for result in results:
        expected = from_files(tmp_path / "out" / "tiny", beir, result)
        for name in MEASURES:
            assert result.quality[name] == pytest.approx(expected[name], abs=1e-9), result.label
            assert np.mean(list(result.per_query[name].values())) == pytest.approx(expected[name])
            assert len(result.per_query[name]) == result.dataset.queries == 12
    assert len({tuple(result.quality.values()) for result in results}) > 2  # they are not all the same


def test_everything_is_measured(tiny: Dataset, encoder: Any, quick: Timing) -> None:
    float32, int8, tiers, text, baseline = run(
        tiny, encoder, ["float32", "int8", "binary > int8", {"mode": "text"}, {"baseline": "int8-minmax"}], timing=quick
    )
    assert all(result.ok and result.checks for result in (float32, int8, tiers, text))
    assert float32.agreement.float32 == float32.agreement.codes_float32 == 1
    assert 0.8 < int8.agreement.float32 <= 1  # type: ignore[operator]
    assert [result.storage.vector_bytes_per_document for result in (float32, int8, tiers)] == [128, 32, 36]
    assert tiers.storage.ram["coarse tier"] == 4 * 40
    assert tiers.storage.index_bytes_per_document == 36
    assert tiers.storage.disk_bytes > 40 * 36 + sum(map(len, tiny.texts))
    assert tiers.storage.disk_bytes == pytest.approx(tiers.storage.disk_bytes_per_document * 40)
    assert text.agreement.float32 is None
    assert text.model is None
    assert "full text" in text.storage.disk
    assert (baseline.kind, baseline.storage.measured, baseline.storage.ram_bytes) == ("baseline", False, 40 * 32)
    assert baseline.speed.latency_ms is None
    for result in (float32, int8, tiers, text):
        latency = result.speed.latency_ms
        assert latency is not None
        assert 0 < latency.p50 <= latency.p95 <= latency.p99
        assert result.speed.queries_per_second > 0  # type: ignore[operator]
        assert result.speed.build_seconds > 0
        assert result.environment.versions.keys() >= {"octavo", "numpy", "usearch", "numkong", "ir-measures"}
        assert result.environment.cpu
        assert result.environment.seed == 0


def test_bytes_are_those_of_a_collection_built_by_hand(
    tiny: Dataset, tmp_path: Path, encoder: Any, quick: Timing
) -> None:
    [result] = run(tiny, encoder, "binary > int8", timing=quick)
    with octavo.open(tmp_path / "kb", codec="binary > int8") as collection:
        collection.add(tiny.texts, ids=tiny.document_ids, vectors=encoder.encode_documents(tiny.texts))
        collection.fit()
    files = sum(path.stat().st_size for path in (tmp_path / "kb").rglob("*") if path.is_file())
    assert result.storage.disk_bytes == pytest.approx(files, rel=0.02)
    with octavo.open(tmp_path / "kb", read_only=True) as collection:
        assert result.storage.ram == collection.info().ram


def test_agreement_tells_codec_and_candidates_apart(tiny: Dataset, encoder: Any, quick: Timing) -> None:
    """A coarse tier that loses candidates shows in same_codes, a codec that loses precision in codes_float32."""
    wanted = [{"codec": "binary > float32", "oversample": 1}, "binary"]
    starved, coarse = (result.agreement for result in run(tiny, encoder, wanted, timing=quick))
    assert starved.codes_float32 == 1
    assert starved.float32 == starved.same_codes < 0.9  # type: ignore[operator]
    assert coarse.same_codes == 1
    assert coarse.float32 == coarse.codes_float32 < 0.9  # type: ignore[operator]


def test_agreement_against_a_loop() -> None:
    a = {"q": [("x", 3.0), ("y", 2.0)], "r": [], "s": [("x", 1.0)]}
    b = {"q": [("y", 3.0), ("z", 2.0)], "r": [], "s": [("y", 1.0)]}
    assert shared(a, b) == {"q": 0.5, "r": 1.0, "s": 0.0}


def test_measures_at_10_see_a_search_for_10(tiny: Dataset, encoder: Any) -> None:
    """Rescoring 100 x oversample candidates is not what a user who asks for 10 gets."""
    data = Embedded(tiny, encoder.encode_documents(tiny.texts), encoder.encode_queries(tiny.queries))
    configuration = Configuration(codec="binary > float32", oversample=1)
    measured = measure_collection(configuration, data, [10, 40], Timing(queries=1, repeats=1, warmup=0), 0)
    heads = {query: hits[:10] for query, hits in measured.runs[40].items()}
    assert min(shared(measured.runs[10], heads).values()) < 1
    assert measured.agreement.float32 == np.mean(
        list(shared(measured.runs[10], data.reference(configuration)).values())
    )


# ---------------------------------------------------------------------- a broken index


@pytest.mark.parametrize("codec", ["float32", "int8", "binary > int8"])
def test_an_index_that_returns_the_wrong_rows_is_caught(
    tiny: Dataset, encoder: Any, quick: Timing, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    from octavo.retrievers import dense

    [sound] = run(tiny, encoder, codec, timing=quick)
    scan = dense.exact_search

    def broken(layout: Any, codes: Any, *rest: Any, **options: Any) -> Any:
        rows, scores = scan(layout, codes, *rest, **options)
        return np.where(rows >= 0, (rows + 17) % len(codes), rows), scores

    monkeypatch.setattr(dense, "exact_search", broken)
    [result] = run(tiny, encoder, codec, timing=quick)
    assert result.agreement.float32 < 0.5 < sound.agreement.float32  # type: ignore[operator]
    assert sound.ok
    assert not result.ok
    assert result.quality["nDCG@10"] < sound.quality["nDCG@10"]


def test_the_graph_is_weighed_and_a_broken_one_is_caught(
    tiny: Dataset, encoder: Any, quick: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.index import Graph, planner

    monkeypatch.setattr(planner, "limits", planner.Limits(graph_min=30))
    by_graph = {"codec": "int8", "exact": False, "connectivity": 15}  # an option of graphs asks for one
    [sound] = run(tiny, encoder, by_graph, timing=quick)
    assert sound.ok
    assert sound.agreement.same_codes > 0.95  # type: ignore[operator]
    assert sound.storage.ram["graph"] > 0  # it is read in the background; what is weighed is the collection in use
    assert sound.storage.index_bytes_per_document == (sound.storage.disk["graph"] + sound.storage.disk["tier 0"]) / 40
    search = Graph.search

    def broken(self: Any, *arguments: Any, **options: Any) -> Any:
        slots, scores = search(self, *arguments, **options)
        return np.where(slots >= 0, (slots + 17) % 40, slots), scores

    monkeypatch.setattr(Graph, "search", broken)
    [result] = run(tiny, encoder, by_graph, timing=quick)
    assert result.agreement.codes_float32 == sound.agreement.codes_float32  # the codec is not to blame
    assert result.agreement.same_codes < 0.5  # type: ignore[operator]
    assert [check.name for check in result.checks if not check.ok] == ["the graph finds what the stored codes say"]


def test_lost_documents_are_caught(tiny: Dataset, encoder: Any, quick: Timing, monkeypatch: pytest.MonkeyPatch) -> None:
    add = octavo.Collection.add

    def forgetful(self: Any, documents: Any, ids: Any, vectors: Any) -> Any:
        return add(self, documents[:-1], ids=ids[:-1], vectors=vectors[:-1])

    monkeypatch.setattr(octavo.Collection, "add", forgetful)
    [result] = run(tiny, encoder, "int8", timing=quick)
    assert [check.name for check in result.checks if not check.ok] == ["every document is stored"]


def test_broken_vectors_are_caught_though_words_are_fused_with_them(
    tiny: Dataset, encoder: Any, quick: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.retrievers import dense

    [sound] = run(tiny, encoder, {"codec": "int8", "mode": "hybrid"}, timing=quick)
    assert sound.ok
    scan = dense.exact_search

    def broken(layout: Any, codes: Any, *rest: Any, **options: Any) -> Any:
        rows, scores = scan(layout, codes, *rest, **options)
        return np.where(rows >= 0, (rows + 17) % len(codes), rows), scores

    monkeypatch.setattr(dense, "exact_search", broken)
    [result] = run(tiny, encoder, {"codec": "int8", "mode": "hybrid"}, timing=quick)
    failed = [check.name for check in result.checks if not check.ok]
    assert "the vectors that are fused with words find what float32 finds" in failed
    assert "full text finds documents by their own words" not in failed


@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_broken_words_are_caught(
    tiny: Dataset, encoder: Any, quick: Timing, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    codec = None if mode == "text" else "int8"
    [sound] = run(tiny, encoder, Configuration(codec=codec, mode=mode), timing=quick)  # type: ignore[arg-type]
    assert sound.ok
    search, batch = octavo.Collection.search, octavo.Collection.search_batch

    def other_words(self: Any, query: Any, *rest: Any, **options: Any) -> Any:
        if options.get("mode") in ("text", "hybrid"):
            query, options = (query, {**options, "text": "zebra"}) if "text" in options else ("zebra", options)
        return search(self, query, *rest, **options)

    def other_words_for_all(self: Any, queries: Any, *rest: Any, **options: Any) -> Any:
        if options.get("mode") == "text":
            queries = ["zebra"] * len(queries)
        elif "texts" in options:
            options = {**options, "texts": ["zebra"] * len(options["texts"])}
        return batch(self, queries, *rest, **options)

    monkeypatch.setattr(octavo.Collection, "search", other_words)
    monkeypatch.setattr(octavo.Collection, "search_batch", other_words_for_all)
    [result] = run(tiny, encoder, Configuration(codec=codec, mode=mode), timing=quick)  # type: ignore[arg-type]
    failed = [check.name for check in result.checks if not check.ok]
    assert failed == ["full text finds documents by their own words"]


# ---------------------------------------------------------------------- resuming


def test_what_was_measured_is_not_measured_again(
    tiny: Dataset, tmp_path: Path, encoder: Any, quick: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tiny, encoder, CODECS, out=tmp_path, timing=quick)
    encoded = len(encoder.texts)
    built: list[str] = []
    real = measure_collection

    def watched(configuration: Configuration, *rest: Any) -> Any:
        built.append(configuration.label)
        return real(configuration, *rest)

    monkeypatch.setattr("octavo.eval.running.runner.measure_collection", watched)
    notes: list[str] = []
    again = run(tiny, encoder, [*CODECS, "float16"], out=tmp_path, timing=quick, note=notes.append)
    assert built == ["float16"]
    assert again[:4] == first
    assert len(notes) == 5
    assert len(encoder.texts) - encoded <= 2 * 6  # only the probes that identify the model

    cases: list[dict[str, Any]] = [
        {"force": True},
        {"seed": 1},
        {"measures": ["P@5"]},
        {"timing": Timing(queries=3, repeats=1, warmup=0)},
    ]
    for options in cases:
        built.clear()
        run(tiny, encoder, "int8", out=tmp_path, **{"timing": quick, **options})
        assert built == ["int8"], options
    for path in (tmp_path / "memory").glob("int8-*.run"):
        path.unlink()
    built.clear()
    run(tiny, encoder, "int8", out=tmp_path, timing=Timing(queries=3, repeats=1, warmup=0), measures=["P@5"])
    assert built == ["int8"]


def test_a_result_cut_short_is_measured_again(tiny: Dataset, tmp_path: Path, encoder: Any, quick: Timing) -> None:
    [first] = run(tiny, encoder, "int8", out=tmp_path, timing=quick)
    [path] = (tmp_path / "memory").glob("*.json")
    path.write_text(path.read_text()[:300])
    [again] = run(tiny, encoder, "int8", out=tmp_path, timing=quick)
    assert again.quality == first.quality
    assert load_results(tmp_path) == [again]


def test_another_model_of_the_same_name_is_another_run(
    tiny: Dataset, tmp_path: Path, encoder: Any, quick: Timing
) -> None:
    [first] = run(tiny, encoder, "int8", out=tmp_path, timing=quick)

    class Other:
        name = "hash"

        def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
            return encoder.encode_documents(texts)[:, ::-1] ** 3

        encode_queries = encode_documents

    [other] = run(tiny, Other(), "int8", out=tmp_path, timing=quick)
    assert other.id != first.id
    assert len(load_results(tmp_path)) == 2


def test_results_validate_and_name_their_runs(tiny: Dataset, tmp_path: Path, encoder: Any, quick: Timing) -> None:
    run(
        tiny,
        encoder,
        ["int8", {"codec": "int8", "mode": "hybrid", "alpha": 0.5}],
        out=tmp_path,
        timing=quick,
        command="this",
    )
    for result in load_results(tmp_path):
        values = json.loads(json.dumps(result.to_dict()))
        assert set(values) >= set(octavo.eval.result_schema()["required"])
        assert result.environment.command == "this"
        for depth, name in result.runs.items():
            lines = (tmp_path / "memory" / name).read_text().splitlines()
            assert {len(line.split()) for line in lines} == {6}
            assert len(lines) == 8 * min(int(depth), 40)
        assert result.runs[str(result.depth)] == result.run_file


# ---------------------------------------------------------------------- several data sets, options


def test_several_data_sets(beir: Path, tiny: Dataset, encoder: Any, quick: Timing) -> None:
    results = run([beir, tiny], encoder, ["float32", "int8"], timing=quick)
    assert [(result.dataset.name, result.label) for result in results] == [
        ("tiny", "float32"), ("tiny", "int8"), ("memory", "float32"), ("memory", "int8"),
    ]  # fmt: skip
    with pytest.raises(ParameterError, match="different names or splits"):
        run([tiny, tiny], encoder, "int8")


def test_what_cannot_be_run(tiny: Dataset, encoder: Any) -> None:
    for arguments, message in (
        (([], encoder, "int8"), "at least one data set"),
        ((tiny, encoder, []), "at least one data set and one configuration"),
        ((tiny, None, "int8"), "expected a model"),
        ((tiny, encoder, {"codec": "int8", "layers": 2}), "cuts the transformer"),
        ((tiny, encoder, {"mode": "late"}), "expected a codec"),
        ((tiny, encoder, "int8", ["nDGC@10"]), "expected a measure that ir-measures knows"),
    ):
        options = {"measures": arguments[3]} if len(arguments) > 3 else {}
        with pytest.raises(ParameterError, match=message):
            run(*arguments[:3], **options)  # type: ignore[arg-type]
    for wrong in ({"k": 0}, {"repeats": True}, {"queries": 1.5}):
        with pytest.raises(ParameterError, match="expected"):
            Timing(**wrong)  # type: ignore[arg-type]


def test_queries_without_results_count_as_nothing(tiny: Dataset, quick: Timing) -> None:
    parts = {key: value for key, value in tiny.__dict__.items() if key != "info"}
    parts["queries"] = ["zzz unheard of", *tiny.queries[1:]]
    data = Dataset(**parts)
    [result] = run(data, None, {"mode": "text"}, measures=["RR@10"], timing=quick)
    assert result.per_query["RR@10"]["q0"] == 0
    assert len(result.per_query["RR@10"]) == 8


def test_configurations_that_contradict_themselves() -> None:
    for options, message in (
        ({}, "expected a codec"),
        ({"codec": "int8", "oversample": 5}, "several tiers"),
        ({"codec": "int8", "alpha": 0.5}, "alpha belongs to mode='hybrid'"),
        ({"mode": "text", "codec": "int8"}, "expected no codec"),
        ({"codec": "int8", "pool_factor": 2}, "pool_factor belongs to mode='late'"),
        ({"codec": "int8", "n_candidates": 9}, "n_candidates belongs to mode='late'"),
        ({"codec": "int8", "mode": "hybrid", "candidates": "text"}, "with a pool_factor"),
        ({"codec": "binary > int8", "mode": "late"}, "a codec of one tier"),
        ({"codec": "int8", "mode": "late", "metric": "dot"}, "by cosine"),
        ({"codec": "int8", "mode": "late", "oversample": 5}, "n_candidates"),
        ({"codec": "int8", "mode": "late", "pool_factor": 1.5}, "expected pool_factor"),
        ({"codec": "int8", "mode": "late", "candidates": "luck"}, "expected candidates"),
        ({"codec": "int8", "mode": "late", "exact": True, "n_candidates": 9}, "scores every document"),
        ({"codec": "int8", "metric": "manhattan"}, "expected metric"),
        ({"codec": "int8", "ef": 0}, "expected ef"),
        ({"baseline": "int8-minmax", "codec": "int8"}, "outside any collection"),
        ({"baseline": "int8-raw"}, "expected a baseline"),
        ({"codec": "int8", "depth": 3}, "expected configuration options"),
    ):
        with pytest.raises(ParameterError, match=message):
            Configuration.from_dict(options)
    assert Configuration(codec="binary>int8") == Configuration(codec="binary > int8")


def test_a_rival_is_measured_beside_the_collection(tiny: Dataset, encoder: Any, quick: Timing, tmp_path: Path) -> None:
    class Flat:
        def __init__(self, shift: int = 0) -> None:
            self.shift = shift

        def add(self, vectors: np.ndarray) -> None:
            self.vectors = vectors

        def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            scores = queries @ self.vectors.T
            rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            return rows + self.shift, np.take_along_axis(scores, rows, 1)

        @property
        def memory_bytes(self) -> int:
            return self.vectors.nbytes

    register_rival("flat", lambda dim: Flat())
    register_rival("off", lambda dim: Flat(shift=1))
    try:
        wanted = ["float32", {"baseline": "rival:flat"}]
        mine, rival = run(tiny, encoder, wanted, timing=quick, out=tmp_path)
        assert rival.kind == "baseline"
        assert rival.quality == pytest.approx(mine.quality)
        assert (rival.agreement.float32, rival.agreement.same_codes) == (1, None)
        assert rival.speed.latency_ms is not None
        assert rival.storage.ram_bytes == 40 * 32 * 4
        assert run(tiny, encoder, wanted, timing=quick, out=tmp_path) == [mine, rival]
        with pytest.raises(InvalidVectorsError, match="expected rows below 40"):
            run(tiny, encoder, {"baseline": "rival:off"}, timing=quick)
    finally:
        unregister_rival("flat")
        unregister_rival("off")
    with pytest.raises(ParameterError, match="registered rival"):
        Configuration(baseline="rival:flat")
    with pytest.raises(ParameterError, match="expected a name"):
        register_rival("a|b", lambda dim: Flat())


# ---------------------------------------------------------------------- measures


def test_a_measure_of_ones_own(tiny: Dataset, encoder: Any, quick: Timing) -> None:
    register_measure("Hit@3", lambda grades, ids: float(any(grades.get(name, 0) > 0 for name in ids)), depth=3)
    try:
        [result] = run(tiny, encoder, "float32", measures=["Hit@3 Success@3"], timing=quick)
    finally:
        unregister_measure("Hit@3")
    assert result.quality["Hit@3"] == result.quality["Success@3"] > 0
    with pytest.raises(ParameterError, match="got 'Hit@3'"):
        Measures(["Hit@3"])


def test_depths_follow_the_measures() -> None:
    measures = Measures(["nDCG@10 AP", "R@200", "nDCG@10"])
    assert measures.depths == {"nDCG@10": 10, "AP": 200, "R@200": 200}


def test_ties_keep_the_order_that_users_saw() -> None:
    scores = np.array([1, 1, 1, 0, 0, -1, -1], np.float32)
    lowered = strictly_decreasing(scores)
    assert (np.diff(lowered) < 0).all()
    assert np.allclose(lowered, scores, atol=1e-6)
    run_of = {"q": [(name, float(score)) for name, score in zip("zyxwvut", lowered, strict=True)]}
    for target, rank in (("z", 1), ("y", 2), ("x", 3), ("t", 7)):
        found = Measures(["RR@10"]).evaluate({"q": {target: 1}}, {10: run_of}).mean["RR@10"]
        assert found == pytest.approx(1 / rank)


def test_ids_with_spaces_stay_one_word() -> None:
    text = run_lines({"a query": [("Geneva Durben", 0.5), ("100%", 0.25), ("é", 0.125)]}, "tag")
    assert [line.split()[2] for line in text.splitlines()] == ["Geneva%20Durben", "100%25", "é"]
    assert {len(line.split()) for line in text.splitlines()} == {6}


def test_real_data(shared_data: Path, minilm: str, tmp_path: Path, quick: Timing) -> None:
    """Forty-six documents of LIMIT with the real model: the exported runs measure the same, layers change them."""
    data = load_dataset(shared_data / "limit-small")
    parts = {key: value for key, value in data.__dict__.items() if key != "info"}
    keep = data.query_ids[:40]
    parts |= {"query_ids": keep, "queries": data.queries[:40], "qrels": {query: data.qrels[query] for query in keep}}
    whole, cut = run(
        Dataset(**parts), minilm, ["int8", {"codec": "truncate:64|int8", "layers": 2}], out=tmp_path, timing=quick
    )
    assert whole.agreement.float32 > 0.97  # type: ignore[operator]
    assert cut.model is not None
    assert cut.model.layers == 2
    assert cut.model.fingerprint != whole.model.fingerprint  # type: ignore[union-attr]
    assert cut.storage.vector_bytes_per_document == 64
    assert cut.per_query != whole.per_query
