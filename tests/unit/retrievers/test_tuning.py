"""`Collection.tune`: what it stores holds, and searches use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo.cli import app
from octavo.errors import CorruptCollectionError, ParameterError
from octavo.index import Tuning, planner
from octavo.retrievers.tuning import QUERY_COSINE, sample_queries

DIM = 48


@pytest.fixture(autouse=True)
def small_graphs(lowered_limits: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    with lowered_limits(graph_min=1_000):
        yield


def clustered(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, DIM))
    return (centres[rng.integers(0, 40, n)] + 0.7 * rng.standard_normal((n, DIM))).astype(np.float32)


@pytest.fixture(params=["cells", "graph"])
def index(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kb(tmp_path: Path, request: pytest.FixtureRequest, index: str):
    codec = getattr(request, "param", "binary > int8")
    with octavo.open(tmp_path / "kb", codec=codec, index=index, fit_after=500) as collection:
        collection.add(vectors=clustered(4_000), ids=[str(i) for i in range(4_000)])
        collection.flush()
        yield collection


def measured_recall(kb: octavo.Collection, queries: np.ndarray, k: int = 10) -> float:
    exact = [set(result.ids) for result in kb.search_batch(queries, k, exact=True)]
    found = [set(result.ids) for result in kb.search_batch(queries, k, exact=False)]
    return float(np.mean([len(a & b) / k for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize("kb", ["binary > int8", "int8", "truncate:24|int8 > float16"], indirect=True)
def test_searches_find_what_was_asked_for(kb: octavo.Collection) -> None:
    queries = clustered(150, seed=7)
    report = kb.tune(0.97, queries=queries)
    tuning = report.tuning
    assert tuning is not None
    assert report.recall >= 0.97
    assert (tuning.oversample is None) == (kb.codec == "int8" and kb.info().index == "graph")
    assert (tuning.ef is None) == (tuning.probed is not None) == (kb.info().index == "cells")
    # What it says of its own queries is what the collection then does without being told anything.
    assert measured_recall(kb, queries) == pytest.approx(report.recall, abs=0.002)
    assert measured_recall(kb, clustered(150, seed=8)) > 0.93  # and about that on others


def effort(tuning: Tuning) -> float:
    return tuning.ef * (tuning.oversample or 1) if tuning.ef is not None else tuning.probed


def test_more_recall_takes_more_effort(kb: octavo.Collection) -> None:
    queries = clustered(100, seed=3)
    low, high = kb.tune(0.7, queries=queries), kb.tune(0.99, queries=queries)
    assert low.tuning is not None
    assert high.tuning is not None
    assert low.recall < high.recall
    assert effort(low.tuning) < effort(high.tuning)


def test_made_queries_lie_beside_documents(kb: octavo.Collection) -> None:
    snapshot = kb._store.snapshot
    queries = sample_queries(snapshot, 100, seed=0)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=0.02)  # int8 codes are not quite of length 1
    nearest = (queries @ kb.get_vectors(kb.ids()).T).max(axis=1)
    assert (nearest > QUERY_COSINE - 0.02).all()
    assert (nearest < 0.97).all()  # none is a document
    report = kb.tune(0.9, k=1, n_queries=80)
    assert report.n_queries == 80
    assert report.tuning is not None
    assert report.tuning.k == 1


def test_queries_can_be_made_from_documents_that_are_all_the_same() -> None:
    with octavo.open(codec="int8", fit_after=500) as kb:
        kb.add(vectors=np.ones((1_500, 8)))
        assert np.isfinite(sample_queries(kb._store.snapshot, 20, seed=0)).all()


def test_it_is_kept_on_disk_and_dropped_with_the_codec(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", codec="binary > int8", fit_after=500) as kb:
        kb.add(vectors=clustered(2_000))
        tuning = kb.tune(0.9).tuning
        assert tuning is not None
    with octavo.open(tmp_path / "kb") as kb:
        assert kb._store.snapshot.tuning == tuning
        assert kb.info().tuning == {**kb.info().tuning, "ef": tuning.ef, "probed": tuning.probed}
        kb.compact()
        assert kb._store.snapshot.tuning == tuning
        assert kb.verify().ok
        kb.refit("int8")
        assert kb._store.snapshot.tuning is None
        assert kb.info().tuning is None


def test_other_readers_see_it(kb: octavo.Collection) -> None:
    with octavo.open(kb.path, read_only=True) as reader:
        tuning = kb.tune(0.9).tuning
        reader.search(clustered(1)[0])
        assert reader._store.snapshot.tuning == tuning
        kb.forget_tuning()
        reader.search(clustered(1)[0])
        assert reader._store.snapshot.tuning is None


def test_what_cannot_be_reached_is_said_and_nothing_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with octavo.open(codec="binary > int8", index="graph", fit_after=500) as kb:
        # Signs say nothing here: all vectors lie in one direction, and differ by little.
        kb.add(vectors=1 + 0.01 * rng.standard_normal((9_000, 8)))
        with pytest.raises(ParameterError, match=r"the most that was found is 0\.\d+, with oversample=.*, ef="):
            kb.tune(0.99)
        assert kb.info().tuning is None


def test_small_collections_need_none() -> None:
    with octavo.open() as kb:
        kb.add(vectors=clustered(300))
        report = kb.tune()
        assert report.tuning is None
        assert report.recall == 1
        assert kb.info().tuning is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recall": 0}, "above 0"),
        ({"recall": 1.1}, "at most 1"),
        ({"k": 0}, "at least 1"),
        ({"n_queries": 0}, "n_queries"),
        ({"queries": []}, "at least one"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with octavo.open() as kb:
        kb.add(vectors=clustered(20))
        with pytest.raises(ParameterError, match=message):
            kb.tune(**arguments)
    with octavo.open() as empty, pytest.raises(ParameterError, match="two documents"):
        empty.tune()


def test_late_interaction_has_another_knob() -> None:
    with octavo.open_multi_vector() as kb, pytest.raises(ParameterError, match="n_candidates"):
        kb.tune(0.95)


def test_effort_grows_with_rows_and_results() -> None:
    tuning = Tuning("int8", k=10, rows=100_000, ef=80, oversample=None, recall=0.96, target=0.95)
    assert tuning.ef_for(10, 100_000, 32) == 80
    assert tuning.ef_for(20, 100_000, 32) == 160
    assert tuning.ef_for(10, 400_000, 32) == 144
    assert tuning.ef_for(5, 50_000, 32) == 80
    assert Tuning.from_json(tuning.to_json()) == tuning


def test_measured_times_move_the_crossover() -> None:
    layout = octavo._layout.CodeLayout("i8", 384)
    plain = Tuning("int8", 10, 100_000, 64, None, 0.95, 0.95)
    slow_graph = Tuning("int8", 10, 100_000, 64, None, 0.95, 0.95, graph=8.0)
    few = planner.crossover(layout, planner.graph_us(layout, 64, plain), 100_000, plain)
    many = planner.crossover(layout, planner.graph_us(layout, 64, slow_graph), 100_000, slow_graph)
    assert 0 < few < many
    half_way = (few + many) // 2
    assert planner.gather_us(layout, few + 1, plain) > planner.graph_us(layout, 64, plain)
    assert planner.gather_us(layout, half_way, slow_graph) < planner.graph_us(layout, 64, slow_graph)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"codec": "int8"}', '{"codec": 1, "k": "x"}'])
def test_damaged_json(text: str) -> None:
    with pytest.raises(CorruptCollectionError, match="tune"):
        Tuning.from_json(text)


def test_a_damaged_entry_costs_no_answer_and_is_reported(kb: octavo.Collection) -> None:
    kb.tune(0.9)
    with kb.connection(write=True) as connection:
        connection.execute("UPDATE manifest SET value = '{\"k\": -1}' WHERE key = 'tuning'")
    with octavo.open(kb.path) as again:
        assert len(again.search(clustered(1)[0], 5)) == 5
        assert any("tuning" in problem for problem in again.verify().problems)
        assert again.verify(repair=True).ok
        assert again.verify().ok


def test_command_line(tmp_path: Path, index: str) -> None:
    with octavo.open(tmp_path / "kb", codec="int8", index=index, fit_after=500) as kb:
        kb.add(vectors=clustered(2_000))
    run = CliRunner().invoke(app, ["tune", str(tmp_path / "kb"), "--recall", "0.9", "--n-queries", "50"])
    assert run.exit_code == 0, run.output
    assert ("stored: ef=" if index == "graph" else "stored: rows looked at=") in run.output
    shown = CliRunner().invoke(app, ["tune", str(tmp_path / "kb"), "--recall", "0.9", "--json"])
    assert json.loads(shown.output)["tuning"]["target"] == 0.9
    assert CliRunner().invoke(app, ["tune", str(tmp_path / "kb"), "--reset"]).exit_code == 0
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.info().tuning is None
    wrong = CliRunner().invoke(app, ["tune", str(tmp_path / "kb"), "--recall", "2"])
    assert wrong.exit_code == 2
    assert CliRunner().invoke(app, ["tune", str(tmp_path / "kb"), "--model", "m"]).exit_code == 2
