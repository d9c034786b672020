"""One suite for everything that finds candidates: what a collection answers must not depend on its index.

The oracle is numpy: the products of the query with the vectors that the collection gives back, all of them, sorted. Which of
two documents with the same score comes first is no index's business, so scores are compared, not ids.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.index import planner
from octavo.store.cell_files import CellFiles
from octavo.store.derived import DerivedIndex
from octavo.store.graph_files import GraphFiles
from octavo.store.settings import DERIVED, INDEXES
from octavo.store.token_cell_files import TokenCellFiles

DIM, N = 24, 3_000

#: What the suite sees of what there is, at least; every index has to find this much by its own defaults.
RECALL = 0.95


@dataclass(frozen=True)
class Kind:
    """One way of finding candidates.

    Parameters
    ----------
    index : str
        The option of `octavo.open`.
    search : dict
        Options with which a search goes that way.
    files : tuple of str
        What its files end with; none where it has no files.
    of_equals : float
        Share of the best that it finds where there are fifty copies of each document: a graph links copies to one another.
    """

    index: str
    search: dict[str, Any]
    files: tuple[str, ...] = ()
    of_equals: float = RECALL


#: An index that is not here fails `test_every_index_is_here`.
KINDS = {
    "exact": Kind("cells", {"exact": True}),
    "cells": Kind("cells", {"exact": False}, (".cells", ".segment")),
    "graph": Kind("graph", {"exact": False}, (".graph",), of_equals=0.7),
}

CODECS = ["int8", "rabitq:1 > int8", "float32"]


def test_every_index_is_here() -> None:
    assert {kind.index for kind in KINDS.values() if kind.files} == set(INDEXES)
    assert {each.name for each in (CellFiles, GraphFiles)} == set(INDEXES)
    # Token cells stand beside one of these where documents have many vectors: tests/unit/store/test_token_cell_files.py.
    kinds = {*DerivedIndex.__subclasses__(), *CellFiles.__subclasses__()}
    assert {each.name for each in kinds} == {*INDEXES, TokenCellFiles.name} == set(DERIVED)


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have indexes from 1,000 rows on, at most 300 rows beside them, and nothing scored exactly because it is little."""
    limits = planner.Limits(graph_min=1_000, cells_min=1_000, tail_max=300, few=1)
    monkeypatch.setattr(planner, "limits", limits)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each way of finding candidates."""
    return KINDS[request.param]


def vectors(n: int, seed: int = 0, *, spread: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(77).standard_normal((60, DIM))
    return (middles[rng.integers(0, 60, n)] + spread * rng.standard_normal((n, DIM))).astype(np.float32)


def filled(
    kind: Kind, path: Path | None = None, matrix: np.ndarray | None = None, codec: str = "int8", **options: Any
) -> octavo.Collection:
    kb = octavo.open(path, index=kind.index, codec=codec, fit_after=500, **options)
    add(kb, vectors(N) if matrix is None else matrix, 0)
    kb.flush()
    return kb


def add(kb: octavo.Collection, matrix: np.ndarray, first: int) -> None:
    kb.add(
        vectors=matrix,
        ids=[str(first + i) for i in range(len(matrix))],
        metadata=[{"n": first + i} for i in range(len(matrix))],
    )


def unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=-1, keepdims=True), 1e-12)


class Oracle:
    """Scores of all documents that are there, by the vectors that the collection gives back."""

    def __init__(self, kb: octavo.Collection) -> None:
        self.ids = kb.ids()
        self._vectors = np.asarray(kb.get_vectors(self.ids), np.float64)

    def best(self, query: np.ndarray, k: int, passing: set[str] | None = None) -> np.ndarray:
        scores = self._vectors @ unit(query).astype(np.float64)
        if passing is not None:
            scores = scores[[i in passing for i in self.ids]]
        return -np.sort(-scores)[:k]


def recall(found: list[Any], expected: list[np.ndarray]) -> float:
    """Share of the best that were found; what scores as much as the worst of them counts, up to what codes round off."""
    pairs = [(result, best) for result, best in zip(found, expected, strict=True) if len(best)]
    hits = [np.count_nonzero(np.asarray(result.scores) >= best[-1] - 0.012) for result, best in pairs]
    return float(sum(hits) / max(1, sum(map(len, expected))))


def check(kb: octavo.Collection, kind: Kind, k: int = 10, least: float = RECALL, **options: Any) -> None:
    """Compare searches with the oracle: how many come back, in which order, once each, and how good they are."""
    oracle, queries = Oracle(kb), vectors(25, 5)
    passing = None
    if "filter" in options:
        passing = set(kb.ids(options["filter"]))
    expected = [oracle.best(query, k, passing) for query in queries]
    found = [kb.search(query, k, **kind.search, **options) for query in queries]
    for result, best in zip(found, expected, strict=True):
        assert len(result) == len(best)
        assert len(set(result.ids)) == len(result.ids)
        assert (np.diff(result.scores) <= 1e-6).all()
        assert passing is None or set(result.ids) <= passing
    assert recall(found, expected) >= least
    batch = kb.search_batch(queries, k, **kind.search, **options)
    assert [result.ids for result in batch] == [result.ids for result in found]


@pytest.mark.parametrize("codec", CODECS)
def test_it_finds_the_best(kind: Kind, codec: str) -> None:
    with filled(kind, codec=codec) as kb:
        if kind.files:
            assert kb.info().index == kind.index
            assert kb.info().index_covers == N
        for k in (1, 10, 100):
            check(kb, kind, k)


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kind, octavo.Collection]]:
    """Each kind with a collection on disk."""
    with filled(KINDS[request.param], tmp_path / "kb") as kb:
        yield KINDS[request.param], kb


def test_filters_of_every_size(kept: tuple[Kind, octavo.Collection]) -> None:
    kind, kb = kept
    for matching in (1, 3, 30, 300, 1_500, N):
        check(kb, kind, filter={"n": {"$lt": matching}})
    assert not kb.search(vectors(1)[0], 5, filter={"n": {"$lt": 0}}, **kind.search)
    check(kb, kind, k=50, filter={"n": {"$gte": N - 40}})


def test_documents_that_are_deleted_do_not_come_back(kept: tuple[Kind, octavo.Collection]) -> None:
    kind, kb = kept
    kb.delete([str(i) for i in range(0, N, 2)])
    check(kb, kind)
    check(kb, kind, filter={"n": {"$lt": 100}})
    kb.compact()
    kb.flush()
    check(kb, kind)
    kb.delete(filter={"n": {"$gte": 20}})  # nearly all of what the index holds
    check(kb, kind, k=15)
    kb.clear()
    assert all(not kb.search(query, 5, **kind.search) for query in vectors(3))


def test_rows_beside_the_index_are_found(kept: tuple[Kind, octavo.Collection]) -> None:
    kind, kb = kept
    more = vectors(250, 9)
    add(kb, more, N)
    assert not kind.files or kb.info().index_covers == N
    check(kb, kind)
    check(kb, kind, filter={"n": {"$gte": N}})
    assert kb.search(more[249], 1, **kind.search).ids == [str(N + 249)]
    kb.delete([str(N + 249)])
    assert kb.search(more[249], 1, **kind.search).ids != [str(N + 249)]


def test_more_results_than_documents(kept: tuple[Kind, octavo.Collection]) -> None:
    kind, kb = kept
    for k in (N, N + 1, 10 * N):
        assert sorted(map(int, kb.search(vectors(1, 5)[0], k, **kind.search).ids)) == list(range(N))
    assert len(kb.search(vectors(1, 5)[0], 100, filter={"n": {"$lt": 7}}, **kind.search)) == 7


def test_a_query_without_a_direction(kept: tuple[Kind, octavo.Collection]) -> None:
    kind, kb = kept
    assert len(kb.search(np.zeros(DIM), 7, **kind.search)) == 7
    assert len(kb.search(np.zeros(DIM), 7, filter={"n": {"$lt": 50}}, **kind.search)) == 7


def test_the_same_answers_when_it_is_opened_again(kept: tuple[Kind, octavo.Collection]) -> None:
    kind, kb = kept
    queries = vectors(25, 5)
    kb.flush()  # the index reaches as far as it will; what it does not cover yet is scanned
    expected = [result.ids for result in kb.search_batch(queries, 10, **kind.search)]
    path = kb.path
    assert path is not None
    kb.close()
    for read_only in (True, False):
        with octavo.open(path, read_only=read_only) as again:
            again.flush()  # until the index is there, everything is scanned, which may find more
            assert [result.ids for result in again.search_batch(queries, 10, **kind.search)] == expected
            assert again.verify().ok


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "missing", "a directory", "a link"])
def test_damage_costs_time_and_no_answer(kept: tuple[Kind, octavo.Collection], damage: str) -> None:
    kind, kb = kept
    path = kb.path
    assert path is not None
    kb.close()
    for ending in kind.files:
        (file,) = path.glob(f"*{ending}")
        content = file.read_bytes()
        if damage in ("flipped", "cut", "emptied"):
            changed = {
                "flipped": content[:-40] + bytes([content[-40] ^ 0xFF]) + content[-39:],
                "cut": content[: len(content) // 2],
                "emptied": b"",
            }
            file.write_bytes(changed[damage])
        else:
            file.unlink()
            if damage == "a directory":
                file.mkdir()
            elif damage == "a link":
                (path.parent / f"outside{ending}").write_bytes(content)
                file.symlink_to(path.parent / f"outside{ending}")
        with octavo.open(path) as again:
            check(again, kind)
            check(again, kind, filter={"n": {"$lt": 400}})
            again._index.wait()
            again.flush()
            check(again, kind)
            assert again.verify().ok
        assert file.name not in os.listdir(path) or file.is_dir()  # which somebody else has made
    assert not [name for name in path.glob("*") if name.is_symlink()]


def test_it_grows_from_nothing(kind: Kind, tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", index=kind.index, fit_after=500) as kb:
        assert not kb.search(vectors(1)[0], 5, **kind.search)
        total = 0
        for step, n in enumerate(
            (1, 40, 600, 700, 900, 2_500)
        ):  # below what an index takes, above it, and four times as much
            add(kb, vectors(n, 100 + step), total)
            total += n
            check(kb, kind, k=min(10, total), least=0.9)
        kb.flush()
        check(kb, kind)
        assert not kind.files or kb.info().index_covers == total
        assert kb.verify().ok


def test_documents_in_the_order_of_their_topics(kind: Kind) -> None:
    matrix = vectors(2 * N, 3)
    topic = np.random.default_rng(8).standard_normal(DIM)
    with filled(kind, None, matrix[np.argsort(matrix @ topic)][:N]) as kb:
        add(kb, matrix[np.argsort(matrix @ topic)][N:], N)
        kb.flush()
        check(kb, kind)


def test_equal_documents(kind: Kind) -> None:
    """Forty documents, each fifty times, and then only one of them, thousands of times."""
    few = vectors(40, 11)
    with filled(kind, None, np.repeat(few, 50, axis=0)) as kb:
        right = 0
        for number in range(len(few)):  # in a graph, equal documents may link to each other alone, depending on threads
            found = kb.search(few[number], 50, **kind.search)
            assert len({*found.ids}) == 50
            right += {int(i) // 50 for i in found.ids} == {number} and np.allclose(
                found.scores, found.scores[0], atol=1e-5
            )
        assert right >= (kind.of_equals if kind.index == "graph" else 1) * len(few)
        check(kb, kind, k=60, least=kind.of_equals)
    with filled(kind, None, np.repeat(few[:1], 2_000, axis=0)) as kb:
        check(kb, kind, k=20)
        check(kb, kind, k=20, filter={"n": {"$lt": 30}})


def test_vectors_of_different_lengths(kind: Kind) -> None:
    rng = np.random.default_rng(12)
    matrix = vectors(N, 4) * rng.lognormal(0, 0.5, (N, 1)).astype(np.float32)
    with octavo.open(index=kind.index, metric="dot", fit_after=500, codec="float16") as kb:
        add(kb, matrix, 0)
        kb.flush()
        hits = 0
        for query in vectors(25, 5):
            scores = -np.sort(-(matrix @ query))[:10]
            found = kb.search(query, 10, **kind.search)
            hits += int(np.count_nonzero(np.asarray(found.scores) >= scores[-1] - 0.02 * abs(scores[-1])))
        assert hits >= RECALL * 250


def test_an_entry_of_another_kind_is_not_read(kept: tuple[Kind, octavo.Collection]) -> None:
    """What the database says of files that were never written costs time, too."""
    kind, kb = kept
    path = kb.path
    assert path is not None
    with kb.connection(write=True) as connection:
        for name in INDEXES:
            connection.execute(
                "INSERT OR REPLACE INTO artifacts VALUES (?, ?)", (name, json.dumps({"generation": 2, "file": "x"}))
            )
    kb.close()
    with octavo.open(path) as again:
        check(again, kind)
        again._index.wait()
        again.flush()
        check(again, kind)
