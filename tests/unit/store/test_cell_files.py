"""The cells of a collection: trained, extended, merged, saved, mapped, damaged and made again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo._files import Directory
from octavo.errors import CorruptCollectionError, MismatchError, ParameterError, StorageError
from octavo.index import cells
from octavo.index.cells import CellModel, cells_for
from octavo.store import _cell_format as cell_format
from octavo.store import cell_files
from octavo.store.cell_files import CellFiles
from octavo.store.snapshot import CellView

DIM = 32


@pytest.fixture(autouse=True)
def small_cells(lowered_limits: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    """Cells from 1,000 rows on, with at most 300 beside them, and nothing scored exactly because it is little."""
    with lowered_limits(cells_min=1_000, tail_max=300, few=10):
        yield


def clustered(n: int, seed: int = 0, centres: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99 + centres).standard_normal((40, DIM))
    return (middles[rng.integers(0, 40, n)] + 0.7 * rng.standard_normal((n, DIM))).astype(np.float32)


def filled(path: Path | None, n: int = 2_000, **options: Any) -> octavo.Collection:
    kb = octavo.open(path, **({"fit_after": 500} | options))
    kb.add(vectors=clustered(n), ids=[str(i) for i in range(n)], metadata=[{"m": i % 20} for i in range(n)])
    kb.flush()
    return kb


def view_of(kb: octavo.Collection) -> CellView:
    view = kb._store.snapshot.cells
    assert view is not None
    return view


def same_centroids(one: CellView, other: CellView) -> bool:
    return np.array_equal(one.trained.model.centroids, other.trained.model.centroids)


def names(path: Path, *kinds: str) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.endswith(kinds or (".cells", ".segment", ".tmp")))


def all_probed(kb: octavo.Collection, query: np.ndarray, k: int = 10, **options: Any) -> Any:
    return kb.search(query, k, n_probe=10**6, oversample=100, **options)


def by_cells(kb: octavo.Collection, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the queries that go through cells."""
    real, calls = CellView.search, []

    def counted(self: CellView, queries: Any, *arguments: Any, **options: Any) -> Any:
        calls.extend([1] * len(queries))
        return real(self, queries, *arguments, **options)

    monkeypatch.setattr(CellView, "search", counted)
    return calls


# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize("codec", ["int8", "binary > int8", "float32", "pca:16|int8 > float16", "rotate|int4"])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_everything_probed_is_what_an_exact_search_finds(
    codec: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path / "kb" if where == "disk" else None, codec=codec) as kb:
        kb.add(vectors=clustered(90, 5), ids=[f"tail {i}" for i in range(90)], metadata=[{"m": 3}] * 90)
        kb.delete([str(i) for i in range(0, 2_000, 7)])
        assert view_of(kb).covered == 2_000  # the rest waits beside them
        calls = by_cells(kb, monkeypatch)
        for query in clustered(15, 9):
            for restricted in (
                {},
                {"filter": {"m": 3}},
                {"filter": {"m": {"$lt": 9}}},
                {"ids": [str(i) for i in range(300)]},
            ):
                exact = kb.search(query, 10, exact=True, **restricted)
                found = all_probed(kb, query, **restricted)
                np.testing.assert_allclose(found.scores, exact.scores, atol=1e-5)
                assert len(set(found.ids) & set(exact.ids)) >= 9  # but for ties of coarse scores in the tail
        assert calls
        batch = kb.search_batch(clustered(15, 9), 10, n_probe=20)
        assert [r.ids for r in batch] == [kb.search(query, 10, n_probe=20).ids for query in clustered(15, 9)]


def test_defaults_find_nearly_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(tmp_path / "kb", 6_000) as kb:
        calls = by_cells(kb, monkeypatch)
        queries = clustered(60, 9)
        for options in ({}, {"filter": {"m": {"$lt": 10}}}, {"filter": {"m": 4}}):
            exact = [set(r.ids) for r in kb.search_batch(queries, 10, exact=True, **options)]
            found = [set(r.ids) for r in kb.search_batch(queries, 10, exact=False, **options)]
            assert np.mean([len(a & b) / 10 for a, b in zip(exact, found, strict=True)]) > 0.95
        assert len(calls) >= 180
        few = np.mean(
            [len(a & set(r.ids)) for a, r in zip(exact, kb.search_batch(queries, 10, n_probe=1), strict=True)]
        )
        many = np.mean(
            [len(a & set(r.ids)) for a, r in zip(exact, kb.search_batch(queries, 10, n_probe=80), strict=True)]
        )
        assert few < many


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_a_filter_never_starves(metric: str, tmp_path: Path) -> None:
    n = 3_000
    with octavo.open(tmp_path / "kb", metric=metric, fit_after=500) as kb:
        matrix = clustered(n) * np.linspace(0.5, 2, n, dtype=np.float32)[:, None]
        kb.add(vectors=matrix, ids=[str(i) for i in range(n)], metadata=[{"rare": i % 100 == 0} for i in range(n)])
        for k in (5, 30, 100):
            found = kb.search(-matrix[0], k, filter={"rare": True}, exact=False, n_probe=1)
            assert len(found) == min(k, 30)
            assert all(int(i) % 100 == 0 for i in found.ids)
        kb.delete([str(i) for i in range(n) if i % 50])  # most of what the cells hold is dead
        assert len(kb.search(matrix[0], 50, exact=False)) == 50
        assert len(kb.search(matrix[0], 500, exact=False)) == 60


def test_a_zero_query_and_equal_vectors() -> None:
    with octavo.open(fit_after=500) as kb:
        kb.add(vectors=np.ones((1_500, 8)))
        assert len(kb.search(np.zeros(8), 5, exact=False)) == 5
        assert kb.search(np.ones(8), 3, exact=False).scores == pytest.approx([1] * 3, abs=0.02)


def test_options_of_the_other_index_are_refused(tmp_path: Path) -> None:
    query = clustered(1)[0]
    with octavo.open() as kb, octavo.open(index="graph") as graph:
        with pytest.raises(ParameterError, match=r"ef belongs to index='graph'.*n_probe="):
            kb.search(query, ef=10)
        with pytest.raises(ParameterError, match=r"n_probe belongs to index='cells'.*ef="):
            graph.search_batch([query], n_probe=10)
        with pytest.raises(ParameterError, match="exact=True scores every document"):
            kb.search(query, n_probe=10, exact=True)
        with pytest.raises(ParameterError, match="n_probe"):
            kb.search(query, n_probe=0)
    with pytest.raises(ParameterError, match="expected index"):
        octavo.open(index="tree")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="connectivity belongs to index='graph'"):
        octavo.open(index="cells", connectivity=8)
    with octavo.open(tmp_path / "kb", connectivity=8) as kb:
        assert kb.info().index == "graph"
    with pytest.raises(MismatchError, match="index="):
        octavo.open(tmp_path / "kb", index="cells")
    with octavo.open_multi_vector(index="cells") as late, pytest.raises(ParameterError, match="ef belongs"):
        late.search([[1.0, 0.0]], ef=4)


# ---------------------------------------------------------------------- growing


def test_segments_are_merged_and_dead_rows_dropped(tmp_path: Path) -> None:
    with filled(tmp_path / "kb", 6_000) as kb:
        trained = view_of(kb).trained.entry
        assert trained is not None
        sizes = [[6_000]]
        for number in range(7):
            start = 6_000 + number * 310
            kb.delete([str(start - 5)])
            kb.add(vectors=clustered(310, 20 + number), ids=[str(i) for i in range(start, start + 310)])
            kb._index.wait()
            view = view_of(kb)
            assert view.trained.entry == trained  # what does not change stays in its file
            sizes.append([len(part.segment) for part in view.parts])
            assert all(a > 3 * b for a, b in zip(sizes[-1], sizes[-1][1:], strict=False))
            assert names(kb.path, ".segment") == sorted(part.entry["file"] for part in view.parts)  # type: ignore[index, arg-type]
        assert [6_000, 310] in [[len(row) and row[0], *row[1:]] for row in sizes]
        assert len(sizes[-1]) <= 3
        last = view_of(kb).parts
        assert [part.first for part in last[1:]] == [part.last for part in last[:-1]]
        assert kb.verify().ok
        for query in clustered(10, 9):
            np.testing.assert_allclose(all_probed(kb, query).scores, kb.search(query, exact=True).scores, atol=1e-5)


def test_trained_anew_when_it_has_grown(tmp_path: Path) -> None:
    with filled(tmp_path / "kb", 1_200) as kb:
        first = view_of(kb).trained
        kb.add(vectors=clustered(500, 2))
        kb._index.wait()
        assert view_of(kb).trained.rows == first.rows == 1_200
        kb.add(vectors=clustered(2_300, 3))
        kb._index.wait()
        kb.flush()
        again = view_of(kb).trained
        assert again.rows > 1.5 * first.rows
        assert len(again.model) > len(first.model)
        assert len(names(kb.path, ".cells")) == 1
        assert kb.verify().ok


def test_trained_anew_when_later_rows_are_of_another_kind(tmp_path: Path) -> None:
    with filled(tmp_path / "same", 1_200) as same:
        same.add(vectors=clustered(500, 3))
        same.flush()
        assert view_of(same).trained.rows == 1_200
        assert view_of(same).later[0] == 500
    with filled(tmp_path / "other", 1_200) as other:
        other.add(vectors=clustered(500, 3, centres=7))
        other.flush()
        assert view_of(other).trained.rows == 1_700
        assert view_of(other).later == (0, 0.0)


def test_more_is_looked_at_until_centroids_fit_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of another kind are found as well as ever, also before centroids are learned for them."""
    with filled(tmp_path / "kb", 6_000) as kb:
        monkeypatch.setattr(CellFiles, "_train_beside", lambda self: None)
        monkeypatch.setattr(CellFiles, "_overdue", lambda self, snapshot, tail: False)
        queries = {0: clustered(60, 9), 7: clustered(60, 9, centres=7)}
        rows: list[int] = []
        real = cells.CellModel.search_batch

        def counted(self: Any, queries: Any, segments: Any, looked: Any, *arguments: Any, **options: Any) -> Any:
            rows.append(looked)
            return real(self, queries, segments, looked, *arguments, **options)

        monkeypatch.setattr(cells.CellModel, "search_batch", counted)
        kb.search(queries[0][0], exact=False)
        assert rows == [None]  # each query finds out by itself
        kb.add(vectors=clustered(2_500, 3, centres=7))
        kb._index._follow(0)
        view = view_of(kb)
        assert view.unfit
        assert view.trained.rows == 6_000
        for kind in queries.values():
            exact = [set(result.ids) for result in kb.search_batch(kind, exact=True)]
            found = [set(result.ids) for result in kb.search_batch(kind, exact=False)]
            assert np.mean([len(a & b) / 10 for a, b in zip(exact, found, strict=True)]) > 0.95
        typical = view.trained.model.reach.typical / len(view.trained.model) * view.rows
        assert rows[-1] == pytest.approx(4 * typical, abs=5)
        monkeypatch.undo()
        kb.flush()
        assert not view_of(kb).unfit


def test_searches_go_on_while_it_is_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(tmp_path / "kb", 1_200) as kb:
        before, began, go_on = view_of(kb), threading.Event(), threading.Event()
        real = cell_files.CellModel.train

        def held(*arguments: Any, **options: Any) -> Any:
            began.set()
            go_on.wait(60)
            return real(*arguments, **options)

        monkeypatch.setattr(cell_files.CellModel, "train", held)
        monkeypatch.setattr("octavo.collection.collection._LINK_AT_ONCE", 10**9)
        monkeypatch.setattr(kb._index, "keep_up", lambda: None)  # which waits for the thread when it is far ahead
        kb.add(vectors=clustered(3_000, 2), ids=[f"new {i}" for i in range(3_000)])
        assert kb.search(clustered(3_000, 2)[17], 1).ids == ["new 17"]
        for _ in range(300):  # a search starts what is due, unless the thread before it is just about to end
            if began.wait(0.1):
                break
            kb.search(clustered(1)[0], 1)
        assert began.is_set()
        assert view_of(kb).trained.rows == before.trained.rows == 1_200
        assert kb.search(clustered(3_000, 2)[2_999], 1).ids == ["new 2999"]
        go_on.set()
        kb._index.wait()
        assert view_of(kb).trained.rows == 4_200
        assert kb.search(clustered(3_000, 2)[2_999], 1).ids == ["new 2999"]


def test_a_writer_does_not_wait_for_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go into the cells that there are while others are learned, however many come; then into those."""
    with filled(tmp_path / "kb", 1_200) as kb:
        began, go_on = threading.Event(), threading.Event()
        real = cell_files.CellModel.train

        def held(*arguments: Any, **options: Any) -> Any:
            began.set()
            assert go_on.wait(60)
            return real(*arguments, **options)

        monkeypatch.setattr(cell_files.CellModel, "train", held)
        old = view_of(kb).trained
        kb.add(vectors=clustered(900, 2), ids=[f"a{i}" for i in range(900)])  # half as many again, and more
        assert began.wait(30)
        for number in range(5):  # beyond eight times the tail
            kb.add(vectors=clustered(1_000, 3 + number), ids=[f"{number} {i}" for i in range(1_000)])
            kb._index.keep_up()
        threading.Thread.join(kb._index._thread, 30)  # type: ignore[arg-type]
        assert view_of(kb).trained.rows == old.rows
        assert len(kb) - view_of(kb).covered <= 8 * 300
        assert kb.search(clustered(1_000, 7)[999], 1).ids == ["4 999"]
        go_on.set()
        kb._index.wait()
        view = view_of(kb)
        assert view.trained.rows > old.rows
        assert len(kb) - view.covered <= 300  # what came meanwhile is in its cells
        assert kb.search(clustered(1_000, 7)[999], 1, exact=False).ids == ["4 999"]
        kb.flush()
        assert kb.verify().ok


def test_compacting_keeps_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(tmp_path / "kb") as kb:
        kb.add(vectors=clustered(400, 5), ids=[f"later {i}" for i in range(400)])
        kb.flush()
        kb.delete([str(i) for i in range(0, 2_000, 3)])
        before = view_of(kb)
        with monkeypatch.context() as patch:
            patch.setattr(cell_files.CellModel, "train", None)
            patch.setattr(cell_files.CellModel, "encode", None)
            assert kb.compact() == 667
            view = view_of(kb)
            assert same_centroids(view, before)
            assert view.covered == view.rows == len(kb) == 1_733
            kb.flush()
        assert all(name.startswith(f"g{kb._store.snapshot.generation:06d}-") for name in names(kb.path))
        queries = clustered(20, 9)
        expected = [r.ids for r in kb.search_batch(queries, 10, exact=True)]
        assert [all_probed(kb, query).ids for query in queries] == expected
        assert kb.verify().ok
        trained = cell_files.CellModel.train
        calls: list[int] = []
        monkeypatch.setattr(cell_files.CellModel, "train", lambda *a, **o: calls.append(1) or trained(*a, **o))
        kb.delete(["1"])
        kb.compact(secure=True)  # centroids know of deleted documents, too
        kb.flush()
        assert calls
        assert not same_centroids(view_of(kb), before)
    with octavo.open(tmp_path / "kb") as kb:
        assert view_of(kb).covered == 1_732


@pytest.mark.parametrize(("codec", "kept"), [("float16", True), ("binary > int8", True), ("pca:3", False)])
def test_cells_are_kept_where_vectors_are_nearly_the_same(codec: str, kept: bool, tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        before = view_of(kb)
        kb.refit(codec)
        kb.flush()
        assert same_centroids(view_of(kb), before) == kept
        assert view_of(kb).covered == 2_000
        for query in clustered(10, 9):
            np.testing.assert_allclose(all_probed(kb, query).scores, kb.search(query, exact=True).scores, atol=1e-5)
        assert kb.verify().ok


def test_closing_does_not_wait_for_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = filled(tmp_path / "kb", 1_200)
    began = threading.Event()
    real = CellFiles._pause

    def paused(self: CellFiles) -> None:
        began.set()
        while not self._over():
            pass
        real(self)

    monkeypatch.setattr("octavo.collection.collection._LINK_AT_ONCE", 10**9)
    monkeypatch.setattr(kb._index, "keep_up", lambda: None)
    monkeypatch.setattr(kb._index, "catch_up", lambda tail=None: None)
    kb.add(vectors=clustered(3_000, 2))
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CellFiles, "_pause", paused)
        kb.search(clustered(1)[0])  # starts what is behind
        assert began.wait(30)
        kb.close()
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.verify().ok
        assert len(kb) == 4_200


def test_adding_and_searching_at_once(tmp_path: Path) -> None:
    matrix = clustered(6_000, 4)
    failed: list[BaseException] = []
    done = threading.Event()
    with filled(tmp_path / "kb", 1_200) as kb:

        def search() -> None:
            try:
                while not done.is_set():
                    assert len(kb.search(matrix[5], 10, exact=False)) == 10
                    assert len(kb.search(matrix[5], 10, filter={"m": 3})) == 10
            except BaseException as err:
                failed.append(err)

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for start in range(0, 6_000, 300):
            kb.add(vectors=matrix[start : start + 300], ids=[f"n{i}" for i in range(start, start + 300)])
        done.set()
        for thread in threads:
            thread.join()
        assert not failed, failed
        kb.flush()
        assert view_of(kb).covered == 7_200
        assert kb.verify().ok
        assert all(kb.search(matrix[i], 1).ids == [f"n{i}"] for i in range(0, 6_000, 500))


# ---------------------------------------------------------------------- files


def test_what_is_saved_is_mapped_when_it_is_opened(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        expected = [r.ids for r in kb.search_batch(clustered(10, 9), 10, exact=False)]
        before = names(kb.path)
    for options in ({}, {"read_only": True}):
        with octavo.open(tmp_path / "kb", **options) as kb:
            view = view_of(kb)  # at once, without a thread
            assert all(part.file is not None for part in view.parts)
            assert [r.ids for r in kb.search_batch(clustered(10, 9), 10, exact=False)] == expected
            assert kb.verify().ok
            assert {"cells"} <= kb.info().disk.keys() & kb.info().ram.keys()
            assert kb.info().index_covers == 2_000
        assert names(tmp_path / "kb") == before


@pytest.mark.parametrize("change", ["compact", "refit"])
def test_a_training_goes_on_with_the_next_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    real_encoded, real_train, trainings = CellFiles._encoded, CellModel.train, []

    def encoded(self: CellFiles, snapshot: Any, model: Any, first: int, held: Any = None) -> Any:
        found = real_encoded(self, snapshot, model, first, held)
        if held is not None and len(trainings) == 1:  # all rows are in the new cells, which nobody sees yet
            kb.delete([str(i) for i in range(0, 900, 3)])
            other = threading.Thread(target=getattr(kb, change))
            other.start()
            other.join()
        return found

    def train(*arguments: Any, **options: Any) -> CellModel:
        trainings.append(1)
        return real_train(*arguments, **options)

    monkeypatch.setattr(CellFiles, "_encoded", encoded)
    monkeypatch.setattr(CellModel, "train", train)
    monkeypatch.setattr(CellFiles, "_train_beside", lambda self: None)  # only here, by `flush`
    with octavo.open(tmp_path / "kb", codec="rabitq:1 > int8", fit_after=500) as kb:
        kb.add(vectors=clustered(900), ids=[str(i) for i in range(900)])
        kb.add(vectors=clustered(400, 1), ids=[str(i) for i in range(900, 1_300)])
        generation = kb._store.snapshot.generation
        assert not trainings
        kb.flush()
        assert kb._store.snapshot.generation > generation
        assert len(trainings) == 1
        assert view_of(kb).trained.rows == 1_300
        assert view_of(kb).covered == kb._store.snapshot.n_slots
        monkeypatch.undo()
        for query in clustered(10, 2):
            assert all_probed(kb, query).ids == kb.search(query, 10, exact=True).ids
        assert kb.verify().ok


def test_cells_that_were_shown_while_a_writer_was_at_work_are_taken_over(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        before = view_of(kb)
        kb._writer._followers.clear()
        kb.delete(["3"])
        last = kb._store.snapshot
        kb.compact()
        assert kb._store.snapshot.cells is None
        kb._index._shown = last.generation, before
        kb._index.take_over(replace(last, cells=None), True)  # the writer had begun before there were cells
        assert same_centroids(view_of(kb), before)
        for query in clustered(10, 2):
            assert all_probed(kb, query).ids == kb.search(query, 10, exact=True).ids


def test_another_process_takes_over_what_was_saved(tmp_path: Path) -> None:
    with filled(tmp_path / "kb", 1_500) as kb, octavo.open(tmp_path / "kb", read_only=True) as reader:
        old = view_of(reader)
        matrix = clustered(2_000, 3)
        kb.add(vectors=matrix[:700], ids=[f"a{i}" for i in range(700)])
        kb.flush()
        assert reader.search(matrix[600], 1, exact=False).ids == ["a600"]
        reader.search(matrix[600], 1)  # by now it knows of the commit
        reader._index.wait()
        assert view_of(reader).covered == 2_200
        assert all(part.entry is not None for part in view_of(reader).parts)
        assert view_of(reader).trained is old.trained
        kb.add(vectors=matrix[1_000:1_200], ids=[f"b{i}" for i in range(200)])  # few: they wait
        assert reader.search(matrix[1_100], 1, exact=False).ids == ["b100"]
        kb.compact()  # nothing is dead, nothing happens
        kb.delete([f"a{i}" for i in range(700)])
        kb.compact()
        assert reader.search(matrix[1_100], 1, exact=False).ids == ["b100"]
        assert reader.verify().ok


def test_two_writers_end_with_one_set_of_files(tmp_path: Path) -> None:
    matrix = clustered(4_000, 3)
    with filled(tmp_path / "kb", 1_500) as one, octavo.open(tmp_path / "kb") as other:
        for number, kb in enumerate((one, other) * 4):
            part = matrix[number * 400 : (number + 1) * 400]
            kb.add(vectors=part, ids=[f"{number} {i}" for i in range(400)])
        for kb in (one, other):
            kb.flush()
            assert kb.verify().ok
            assert kb.search(matrix[3_100], 1, exact=False).ids == ["7 300"]
        with one.connection() as connection:
            entry = one._store.artifact(connection, "cells")
        assert entry is not None
        recorded = [entry["model"]["file"], *(part["file"] for part in entry["segments"])]
        assert names(tmp_path / "kb") == sorted(recorded)


STEPS = ["write_model", "write_segment", "sync", "record", "remove"]


@pytest.mark.skipif(os.name == "nt", reason="ends itself by a signal")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("first", [True, False])
def test_a_process_that_dies_on_the_way(step: str, first: bool, tmp_path: Path) -> None:
    if not first:
        filled(tmp_path / "kb", 1_500).close()
    program = f"""
        import os, signal, sys, numpy as np, octavo
        from dataclasses import replace
        from octavo.index import planner
        from octavo.store import cell_files
        from octavo._files import Directory
        planner.limits = replace(planner.limits, cells_min=1_000, tail_max=300)
        step, first = {step!r}, {first!r}
        def die(*arguments, **options):
            os.kill(os.getpid(), signal.SIGKILL)
        if step in ("write_model", "write_segment"):
            setattr(cell_files, step, die)
        elif step == "record":
            cell_files.CellFiles._record = die
        elif step == "sync":
            real = cell_files.write_segment
            def written(*arguments):
                real(*arguments)
                Directory.sync = die
                return {{}}
            cell_files.write_segment = written
        else:
            real = Directory.remove
            Directory.remove = lambda self, name: die() if name.endswith((".segment", ".cells")) else real(self, name)
        rng = np.random.default_rng(4)
        kb = octavo.open({str(tmp_path / "kb")!r}, fit_after=500)
        kb.add(vectors=rng.standard_normal((1_400, {DIM})), ids=[f"n{{i}}" for i in range(1_400)])
        kb.flush()
        print("alive")
        kb.close()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode in (-9, 0), done.stderr
    # a model is written once, and files are removed where there were some
    assert done.returncode == -9 or (step == "write_model" and not first) or (step == "remove" and first), done.stderr
    matrix = np.random.default_rng(4).standard_normal((1_400, DIM))
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.verify().ok
        kb.flush()
        assert kb.search(matrix[700], 1, exact=False).ids == ["n700"]
        assert view_of(kb).covered == len(kb)
        with kb.connection() as connection:
            entry = kb._store.artifact(connection, "cells")
        assert entry is not None
        kb.add(vectors=clustered(400))
        kb.flush()
        known = {name for name in names(kb.path) if not name.endswith(".tmp")}
        assert known == {view_of(kb).trained.entry["file"], *(part.entry["file"] for part in view_of(kb).parts)}  # type: ignore[index]


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0xFF]))


@pytest.mark.parametrize("kind", [".cells", ".segment"])
@pytest.mark.parametrize("damage", ["header", "middle", "end", "missing", "cut", "empty", "longer", "link"])
def test_damage_costs_time_and_no_answer(kind: str, damage: str, tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        queries = clustered(10, 9)
        expected = [r.ids for r in kb.search_batch(queries, 10, exact=True)]
    (name,) = names(tmp_path / "kb", kind)
    path = tmp_path / "kb" / name
    size = path.stat().st_size
    (tmp_path / "mine").write_bytes(b"mine")
    if damage == "missing":
        path.unlink()
    elif damage == "link":
        path.unlink()
        path.symlink_to(tmp_path / "mine")
    elif damage in ("cut", "empty"):
        os.truncate(path, size // 2 if damage == "cut" else 0)
    elif damage == "longer":
        with path.open("ab") as file:
            file.write(b"\0")
    else:
        flip(path, {"header": 9, "middle": size // 2, "end": size - 1}[damage])
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        (problem,) = kb.verify().problems
        assert name in problem
        with pytest.raises(CorruptCollectionError, match=name):
            octavo.restore(tmp_path / "kb", tmp_path / "restored")
    with octavo.open(tmp_path / "kb") as kb:
        for _ in range(2):
            found = [all_probed(kb, query).ids for query in queries]
            assert found == expected
            kb._index.wait()
        kb.flush()
        assert kb.verify().ok
        assert name not in names(kb.path)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_damaged_block_is_noticed_when_a_search_comes_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_format, "BLOCK_BYTES", 1_024)
    with filled(tmp_path / "kb") as kb:
        expected = [r.ids for r in kb.search_batch(clustered(30, 9), 10, exact=True)]
    (name,) = names(tmp_path / "kb", ".segment")
    flip(tmp_path / "kb" / name, (tmp_path / "kb" / name).stat().st_size - 3_000)
    with octavo.open(tmp_path / "kb") as kb:
        view = view_of(kb)
        assert not view.damaged
        assert [all_probed(kb, query).ids for query in clustered(30, 9)] == expected
        assert view.damaged
        kb._index.wait()
        kb.search(clustered(1)[0])
        kb._index.wait()
        assert not view_of(kb).damaged
        assert name not in names(kb.path)
        assert kb.verify().ok
    with octavo.open(tmp_path / "kb") as kb:
        assert view_of(kb).covered == 2_000


def test_repair_makes_them_again(tmp_path: Path) -> None:
    filled(tmp_path / "kb").close()
    (name,) = names(tmp_path / "kb", ".segment")
    flip(tmp_path / "kb" / name, 40)
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert not kb.verify().ok
    with octavo.open(tmp_path / "kb") as kb:
        report = kb.verify(repair=True)
        assert report.ok
        assert kb.verify().ok


@pytest.mark.parametrize(
    "change",
    [
        {"covered": -1},
        {"covered": 10**30},
        {"later": [0]},
        {"later": "no"},
        {"model": {"file": "../../etc/passwd", "bytes": 1, "crc": 1}},
        {"segments": [{"file": "g000001-0.vec", "bytes": 1, "crc": 1, "first": 0, "last": 1, "rows": 1}]},
        {"segments": 7},
    ],
)
def test_an_entry_that_nobody_wrote(change: dict[str, Any], tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb, kb.connection(write=True) as connection:
        entry = json.loads(connection.execute("SELECT value FROM artifacts WHERE name = 'cells'").fetchone()[0])
        connection.execute("UPDATE artifacts SET value = ? WHERE name = 'cells'", (json.dumps(entry | change),))
    with octavo.open(tmp_path / "kb") as kb:
        kb.search(clustered(1)[0])
        kb._index.wait()
        kb.flush()
        assert view_of(kb).covered == 2_000
        assert kb.verify().ok


def test_rows_that_are_not_there_are_damage(tmp_path: Path) -> None:
    """A file with sound checksums may come from anyone."""
    with filled(tmp_path / "kb") as kb:
        expected = kb.search(clustered(1, 9)[0], 10, exact=True).ids
        view = view_of(kb)
        (part,) = view.parts
        records = part.segment.records.copy()
        records["slot"] += 1_000_000
        wild = cell_format.SegmentView(cell_files.Segment(part.segment.starts, records), 0, 2_000, guard=part.guard)
        kb._store.publish_cells(kb._store.snapshot.generation, CellView(view.trained, (wild,), 2_000))
        assert all_probed(kb, clustered(1, 9)[0]).ids == expected
        kb._store.publish_cells(kb._store.snapshot.generation, CellView(view.trained, (wild,), 2_000))
        assert len(kb.search(clustered(1, 9)[0], 10, filter={"m": {"$lt": 15}})) == 10


def test_a_full_disk_leaves_cells_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> dict[str, Any]:
        raise StorageError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(cell_files, "write_segment", full)
        kb = octavo.open(tmp_path / "kb", fit_after=500)
        kb.add(vectors=clustered(2_000), ids=[str(i) for i in range(2_000)])
        assert view_of(kb).parts[0].file is None
        assert kb.search(clustered(2_000)[40], 1, exact=False).ids == ["40"]
        assert not names(kb.path)
    kb.flush()
    assert view_of(kb).parts[0].file is not None
    assert len(names(kb.path)) == 2
    kb.close()


def test_files_stay_where_nobody_knows_whether_a_commit_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may report an error for what it has done: the next process finds the commit, and looks for the files."""
    with filled(tmp_path / "kb") as kb:
        real = CellFiles._record

        def done_and_failed(self: CellFiles, *arguments: Any) -> bool:
            real(self, *arguments)
            raise StorageError(5, "an error, though it was done")

        with monkeypatch.context() as patch:
            patch.setattr(CellFiles, "_record", done_and_failed)
            kb.add(vectors=clustered(400, 5), ids=[f"later {i}" for i in range(400)])
            kb._index.wait()
        with octavo.open(tmp_path / "kb", read_only=True) as other:
            assert other.verify().ok
            assert view_of(other).covered == 2_400
        kb.add(vectors=clustered(400, 6), ids=[f"more {i}" for i in range(400)])
        kb.flush()
        view = view_of(kb)
        recorded = [part.entry["file"] for part in (view.trained, *view.parts) if part.entry is not None]
        assert names(kb.path) == sorted(recorded)
        assert kb.verify().ok


def test_copies_and_backups_have_them(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        kb.snapshot(tmp_path / "backup")
        octavo.restore(tmp_path / "backup", tmp_path / "restored")
        for copy in (kb.copy(tmp_path / "copy"), kb.copy(), octavo.open(tmp_path / "restored")):
            with copy:
                copy.flush()
                assert view_of(copy).covered == 2_000
                assert copy.info().index == "cells"
                assert copy.verify().ok
        assert names(tmp_path / "copy") == names(tmp_path / "kb") == names(tmp_path / "restored")
        kb.refit("binary > int8")
        assert view_of(kb).covered == 2_000
        kb.flush()
        assert all(name.startswith("g000003-") for name in names(kb.path))
        kb.delete(["1"])
        kb.compact(secure=True)
        kb.flush()
        assert len(names(kb.path)) == 2
        assert all(name.startswith("g000004-") for name in names(kb.path))
        assert kb.verify().ok
        kb.destroy()
    assert not (tmp_path / "kb").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    with filled(tmp_path / "kb") as kb:
        for name in names(kb.path):
            assert (kb.path / name).stat().st_mode & 0o077 == 0


def test_the_bytes_are_as_they_are_described(tmp_path: Path) -> None:
    """Read both files as docs/format.md says, with nothing but numpy."""
    with filled(tmp_path / "kb") as kb:
        view = view_of(kb)
        with kb.connection() as connection:
            entry = kb._store.artifact(connection, "cells")
    assert entry is not None
    data = np.fromfile(tmp_path / "kb" / entry["model"]["file"], np.uint8)
    assert data[:8].tobytes() == b"OCTCELLS"
    version, dim, cells, groups = data[8:24].view("<u4").tolist()
    assert (version, dim, cells, groups) == (1, DIM, len(view.trained.model), len(view.trained.model.groups) - 1)
    assert data[24:40].view("<u8").tolist() == [0, 2_000]
    assert data[40:56].view("<f8").tolist() == [view.trained.model.length, view.trained.model.cosine]
    reach = view.trained.model.reach
    assert reach is not None
    assert data[56:64].view("<u4").tolist() == [reach.first, reach.most]
    numbers = [reach.score, reach.border, reach.shift, reach.typical, reach.kept]
    assert data[64:104].view("<f8").tolist() == numbers
    start = 104 + 8 * (groups + 1)
    assert data[104:start].view("<i8").tolist() == view.trained.model.groups.tolist()
    rotation = view.trained.model.rotation
    assert data[start : start + 12 * DIM].view("<i4").tolist() == rotation.order.ravel().tolist()
    assert data[start + 12 * DIM : start + 18 * DIM].tolist() == rotation.signs.ravel().tolist()
    start += 18 * DIM
    assert data[start:].view(np.int8).tolist() == view.trained.model.centroids.ravel().tolist()
    (about,) = entry["segments"]
    data = np.fromfile(tmp_path / "kb" / about["file"], np.uint8)
    assert data[:8].tobytes() == b"OCTSEGMT"
    assert data[8:24].view("<u4").tolist() == [1, DIM, cells, 12]
    assert data[24:32].view("<u8").tolist() == [2_000]
    starts = data[32 : 32 + 4 * (cells + 1)].view("<i4")
    assert starts.tolist() == view.parts[0].segment.starts.tolist()
    body = data[-2_000 * 12 :]
    assert (len(data) - len(body)) % 64 == 0
    slots = body.reshape(2_000, 12)[:, 8:].copy().view("<u4")
    assert sorted(slots.ravel().tolist()) == list(range(2_000))


@pytest.mark.parametrize("position", [56, 64, 88, 104 + 8 * 2])
def test_a_model_with_a_sound_checksum_that_nobody_wrote(position: int, tmp_path: Path) -> None:
    """Numbers that are none, and an order that is no permutation, are damage whatever the checksum says."""
    with filled(tmp_path / "kb") as kb:
        expected = [r.ids for r in kb.search_batch(clustered(10, 9), 10, exact=True)]
    (name,) = names(tmp_path / "kb", ".cells")
    content = bytearray((tmp_path / "kb" / name).read_bytes())
    content[position : position + 8] = b"\xff" * 8
    (tmp_path / "kb" / name).write_bytes(content)
    with octavo.open(tmp_path / "kb") as kb, kb.connection(write=True) as connection:
        entry = json.loads(connection.execute("SELECT value FROM artifacts WHERE name = 'cells'").fetchone()[0])
        entry["model"]["crc"] = zlib.crc32(content)
        connection.execute("UPDATE artifacts SET value = ? WHERE name = 'cells'", (json.dumps(entry),))
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert [all_probed(kb, query).ids for query in clustered(10, 9)] == expected
        assert name in kb.verify().problems[0]


def test_links_are_not_followed_when_files_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    folder.mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (folder / "g000001-00.segment.tmp").symlink_to(tmp_path / "mine")
    with filled(None) as kb:
        part = view_of(kb).parts[0]
    directory = Directory(folder)
    with pytest.raises((CorruptCollectionError, FileExistsError)):
        cell_format.write_segment(directory, "g000001-00.segment", part, DIM)
    directory.close()
    assert (tmp_path / "mine").read_bytes() == b"mine"


def counted_trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many centroids are asked for each time that they are learned; codecs are fitted from 1,000 rows on."""
    real, asked = CellModel.train, []

    def counted(sample: Any, n_cells: int, **options: Any) -> CellModel:
        asked.append(n_cells)
        return real(sample, n_cells, **options)

    monkeypatch.setattr(cell_files.CellModel, "train", counted)
    monkeypatch.setattr(octavo.Collection, "_fit_at_most", 1_000)
    return asked


def test_one_call_that_adds_batch_after_batch_learns_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted_trainings(monkeypatch)
    with octavo.open(tmp_path / "kb", fit_after=500) as kb:
        kb.add(vectors=clustered(5_000), batch_size=500)
        kb.flush()
        assert asked == [cells_for(5_000)]
        assert view_of(kb).trained.rows == view_of(kb).covered == 5_000
        kb.add(vectors=clustered(4_000, 2), batch_size=500)  # less than three times as many: once, at the end
        kb.flush()
        assert asked == [cells_for(5_000), cells_for(9_000)]


def test_a_search_amid_such_a_call_has_centroids_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted_trainings(monkeypatch)
    vectors = clustered(5_000)
    with octavo.open(tmp_path / "kb", fit_after=500) as kb:
        real = kb._index.keep_up

        def searched() -> None:
            real()
            if len(kb) == 2_500:
                kb._index.wait()
                assert asked == []
                assert kb.search(vectors[7], 1).ids == [kb.search(vectors[7], 1, exact=True).ids[0]]
                kb._index.wait()
                assert asked == [cells_for(2_500)]

        monkeypatch.setattr(kb._index, "keep_up", searched)
        kb.add(vectors=vectors, batch_size=500)
        kb.flush()
        assert asked == [cells_for(2_500), cells_for(5_000)]


def test_many_rows_are_learned_from_amid_such_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted_trainings(monkeypatch)
    with octavo.open(tmp_path / "kb", fit_after=500) as kb:
        real = kb._index.keep_up

        def waited() -> None:
            real()
            kb._index.wait()

        monkeypatch.setattr(kb._index, "keep_up", waited)
        kb.add(vectors=clustered(9_000), batch_size=1_000)
        assert asked == [cells_for(8_000)]  # eight times the rows it takes
        kb.flush()
        assert view_of(kb).covered == 9_000
