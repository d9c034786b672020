"""The graph of a collection: built, checkpointed, mapped from its file, and grown again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo._files import Directory, HeldFile
from octavo.index import Graph
from octavo.store.graph_files import GraphFiles
from octavo.store.snapshot import GraphView

DIM = 32


@pytest.fixture
def small_graphs(lowered_limits: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    """Graphs from 1,000 rows on, with at most 500 beside them."""
    with lowered_limits(graph_min=1_000, tail_max=500):
        yield


def graph_of(kb: octavo.Collection):
    view = kb._store.snapshot.graph
    assert view is not None
    return view.graph


@pytest.mark.slow
@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("codec", ["int8", "binary > int8"])
def test_graph_finds_what_exact_search_finds(codec: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((50, DIM))
    matrix = (centres[rng.integers(0, 50, 6_000)] + 0.6 * rng.standard_normal((6_000, DIM))).astype(np.float32)
    queries = matrix[::200] + 0.2 * rng.standard_normal((30, DIM)).astype(np.float32)
    with octavo.open(tmp_path / "kb", codec=codec, fit_after=500, index="graph") as kb:
        kb.add(vectors=matrix, ids=[str(i) for i in range(6_000)], metadata=[{"m": i % 100} for i in range(6_000)])
        kb.add(vectors=matrix[:200] + 0.01, ids=[f"tail {i}" for i in range(200)], metadata=[{"m": -1}] * 200)
        kb.delete([str(i) for i in range(0, 6_000, 7)])
        assert kb.info().index_covers >= 5_500

        def recall(**options: object) -> float:
            exact = [set(r.ids) for r in kb.search_batch(queries, 10, exact=True, **options)]
            found = [set(r.ids) for r in kb.search_batch(queries, 10, exact=False, **options)]
            assert all(len(ids) == 10 for ids in found)
            return float(np.mean([len(a & b) / 10 for a, b in zip(exact, found, strict=True)]))

        floor = 0.9 if codec == "int8" else 0.75  # 32 bits tell less than 32 bytes
        assert recall() > floor
        assert recall(filter={"m": {"$lt": 50}}) > floor
        assert recall(filter={"m": 3}) > floor
        expected = [r.ids for r in kb.search_batch(queries, 10, exact=False)]
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.verify().ok
        kb.search(queries[0])
        kb._index.wait()
        assert kb.info().index_covers >= 5_500
        again = [r.ids for r in kb.search_batch(queries, 10, exact=False)]
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(expected, again, strict=True)]) > 0.9


@pytest.mark.usefixtures("small_graphs")
def test_a_saved_graph_is_read_from_its_file_and_grows_in_memory(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((4_000, DIM)).astype(np.float32)
    names = [str(i) for i in range(4_000)]
    with octavo.open(tmp_path / "kb", fit_after=500, index="graph") as kb:
        kb.add(vectors=matrix[:2_500], ids=names[:2_500])
        kb.flush()
        assert graph_of(kb).mapped
        kb.add(vectors=matrix[2_500:2_900], ids=names[2_500:2_900])  # waits beside the graph
        assert graph_of(kb).mapped
        assert kb.search(matrix[2_700], 1, exact=False).ids == ["2700"]
        kb.add(vectors=matrix[2_900:3_200], ids=names[2_900:3_200])  # too many to wait
        assert len(graph_of(kb)) == 3_200
        assert kb.search(matrix[3_100], 1, exact=False).ids == ["3100"]
    with octavo.open(tmp_path / "kb") as kb:
        kb.search(matrix[0])
        kb._index.wait()
        assert graph_of(kb).mapped
        assert [kb.search(matrix[i], 1, exact=False).ids for i in (5, 3_100)] == [["5"], ["3100"]]
        assert kb.verify().ok
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        kb.search(matrix[0])
        kb._index.wait()
        assert graph_of(kb).mapped


@pytest.mark.usefixtures("small_graphs")
def test_a_process_goes_on_with_a_mapped_graph_that_another_replaced(tmp_path: Path) -> None:
    matrix = np.random.default_rng(2).standard_normal((4_500, DIM)).astype(np.float32)
    with octavo.open(tmp_path / "kb", fit_after=500, index="graph") as kb:
        kb.add(vectors=matrix[:1_500], ids=[str(i) for i in range(1_500)])
        kb.flush()
        with octavo.open(tmp_path / "kb") as other:
            other.search(matrix[0])
            other._index.wait()
            old = graph_of(other)
            assert old.mapped
            kb.add(vectors=matrix[1_500:], ids=[str(i) for i in range(1_500, 4_500)])
            kb.flush()
            assert other.search(matrix[4_000], 1, exact=False).ids == ["4000"]
            assert old.search(old_codes(other, 7), 1, 16)[0].tolist() == [[7]]  # its file has no name any more


def old_codes(kb: octavo.Collection, slot: int) -> np.ndarray:
    tier = kb._store.snapshot.tiers[0]
    return tier.pipeline.encode_queries(tier.pipeline.decode(tier.codes[slot : slot + 1]))


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("read_only", [False, True])
def test_verify_beside_a_writer_that_replaces_the_graph(
    read_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = np.random.default_rng(0).standard_normal((2_000, DIM)).astype(np.float32)
    with octavo.open(tmp_path / "kb", fit_after=500, index="graph") as kb:
        kb.add(vectors=matrix[:1_200])
    look, writes = GraphFiles.damage, [None]

    def look_late(files: GraphFiles, entry: dict[str, Any] | None) -> str | None:
        while writes:  # after verify() has begun to read, and before it looks at the graph that it has read of
            writes.pop()
            with octavo.open(tmp_path / "kb") as other:
                other.add(vectors=matrix[1_200:])
        return look(files, entry)

    monkeypatch.setattr(GraphFiles, "damage", look_late)
    with octavo.open(tmp_path / "kb", read_only=read_only) as kb:
        (before,) = (tmp_path / "kb").glob("*.graph")
        report = kb.verify()
        assert not before.exists()
        assert report.ok, report.problems
    (graph,) = (tmp_path / "kb").glob("*.graph")
    graph.unlink()
    with octavo.open(tmp_path / "kb", read_only=read_only) as kb:
        assert "is missing" in kb.verify().problems[0]


VIEW = """
    import os, sys, numpy as np
    from octavo._layout import CodeLayout
    from octavo.errors import CorruptCollectionError
    from octavo.index import Graph
    folder, what = sys.argv[1:]
    path = os.path.join(folder, "graph")
    if what != "missing":
        graph = Graph(CodeLayout("i8", 8))
        graph.add(np.arange(50), np.arange(400, dtype=np.uint8).reshape(50, 8))
        graph.save(path)
        if what == "empty":
            os.truncate(path, 0)
    before = os.fstat(0)
    if what == "no descriptor":
        import resource
        held = os.dup(0)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
        try:
            while True:
                os.dup(0)
        except OSError:
            os.close(held)  # one is left, for the copy that is put back
    try:
        Graph.load(path, CodeLayout("i8", 8), mapped=True)
        print("loaded")
    except CorruptCollectionError as err:
        print("refused")
    print(os.path.samestat(before, os.fstat(0)))
"""


@pytest.mark.skipif(os.name == "nt", reason="usearch's fault is about POSIX descriptors")
@pytest.mark.parametrize("what", ["missing", "empty", "no descriptor"])
def test_a_map_that_fails_does_not_close_descriptor_0(tmp_path: Path, what: str) -> None:
    if what == "no descriptor" and not sys.platform.startswith("linux"):
        pytest.skip("descriptors are counted in /proc")
    with (tmp_path / "input").open("w+b") as file:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(VIEW), str(tmp_path), what],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.split() == ["refused", "True"], done.stderr


@pytest.mark.usefixtures("small_graphs")
def test_one_thread_at_a_time_makes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = GraphFiles._write, []

    def slowly(folder: Directory, draft: str, graph: Graph) -> HeldFile:
        written.append(draft)
        time.sleep(0.3)
        return real(folder, draft, graph)

    monkeypatch.setattr(GraphFiles, "_write", staticmethod(slowly))
    with octavo.open(tmp_path / "kb", fit_after=500, index="graph") as kb:
        kb.add(vectors=np.random.default_rng(0).standard_normal((1_200, DIM)), batch_size=1_200)
        kb._index.wait()
        written.clear()
        kb.add(vectors=np.random.default_rng(1).standard_normal((200, DIM)))
        kb._index.catch_up(tail=0)
        written.clear()
        threads = [threading.Thread(target=kb._index.checkpoint) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(written) == 1
        (file,) = (tmp_path / "kb").glob("*.graph")
        with kb.connection() as connection:
            entry = kb._store.artifact(connection, "graph")
        assert entry is not None
        assert entry["file"] == file.name
        assert graph_of(kb).mapped
        kb._index.checkpoint()  # what is mapped is not mapped again
        assert len(written) == 1
        assert kb.verify().ok


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a file that is held open has a path in /proc")
@pytest.mark.usefixtures("small_graphs")
def test_a_checkpoint_that_another_process_removes_is_mapped_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = GraphFiles._map

    def late(self: GraphFiles, *arguments: Any) -> GraphView:
        for file in (tmp_path / "kb").glob("*.graph"):
            file.unlink()
        return real(self, *arguments)

    monkeypatch.setattr(GraphFiles, "_map", late)
    matrix = np.random.default_rng(0).standard_normal((1_200, DIM)).astype(np.float32)
    with octavo.open(tmp_path / "kb", fit_after=500, index="graph") as kb:
        kb.add(vectors=matrix, ids=[str(i) for i in range(1_200)])
        kb.flush()
        assert not list((tmp_path / "kb").glob("*.graph"))
        assert graph_of(kb).mapped
        assert kb.search(matrix[7], 1, exact=False).ids == ["7"]
    with octavo.open(tmp_path / "kb") as kb:
        assert "is missing" in kb.verify().problems[0]
