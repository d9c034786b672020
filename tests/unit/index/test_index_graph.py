"""What the graph does over its life: removal, small sizes, threads, files, bad input."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest

from octavo._layout import CodeLayout
from octavo.errors import CorruptCollectionError, MismatchError, ParameterError, StorageError
from octavo.index import Graph, exact_search


def built(sample, kind: str = "i8", n: int = 3000, dim: int = 32) -> tuple[Graph, np.ndarray]:
    """Return a graph over n rows, and their codes."""
    layout, codes, _ = sample(kind, n, dim)
    graph = Graph(layout)
    graph.add(np.arange(n), codes, threads=1)
    return graph, codes


def recall(graph: Graph, codes: np.ndarray, alive: np.ndarray, queries: np.ndarray) -> float:
    """Share of the scores of the exact top ten that the graph reaches."""
    _, truth = exact_search(graph.layout, codes, queries, 10, alive=alive)
    slots, scores = graph.search(queries, 10, 64)
    assert alive[slots[slots >= 0]].all()
    return float(np.mean(scores >= truth[:, -1:]))


def test_empty_graph_answers_with_padding(sample):
    layout, codes, _ = sample("i8", 3, 8)
    graph = Graph(layout)
    slots, scores = graph.search(codes[:2], 4, 16)
    assert slots.tolist() == [[-1] * 4] * 2
    assert np.isneginf(scores).all()
    assert graph.search(codes[:0], 4, 16)[0].shape == (0, 4)
    graph.add(np.array([], dtype=np.int64), codes[:0])
    assert len(graph) == 0
    assert not graph.contains(np.array([0, 1])).any()


@pytest.mark.parametrize("ef", [1, 2, 50])
def test_fewer_rows_than_asked(sample, ef):
    layout, codes, _ = sample("i8", 3, 8)
    graph = Graph(layout)
    graph.add(np.array([5, 50, 2**40]), codes)
    slots, scores = graph.search(codes[:1], 5, ef)
    assert sorted(slots[0].tolist()) == [-1, -1, 5, 50, 2**40]
    assert slots[0, 3:].tolist() == [-1, -1]
    assert np.isneginf(scores[0, 3:]).all()
    assert (np.diff(scores[0, :3]) <= 0).all()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.995])
def test_removed_rows_neither_come_back_nor_hide_others(sample, share):
    graph, codes = built(sample)
    queries = sample("i8", 30, 32, seed=1).codes
    gone = np.random.default_rng(0).permutation(3000)[: int(3000 * share)]
    assert graph.remove(gone) == len(gone)
    assert graph.remove(gone[:5]) == 0
    alive = np.ones(3000, dtype=bool)
    alive[gone] = False
    assert len(graph) == alive.sum()
    np.testing.assert_array_equal(graph.contains(np.arange(3000)), alive)
    assert recall(graph, codes, alive, queries) >= 0.95
    graph.add(gone[: len(gone) // 2], codes[gone[: len(gone) // 2]], threads=1)
    alive[gone[: len(gone) // 2]] = True
    assert len(graph) == alive.sum()
    assert recall(graph, codes, alive, queries) >= 0.95


def test_everything_removed_then_added_again(sample):
    graph, codes = built(sample, n=200)
    graph.remove(np.arange(200))
    assert len(graph) == 0
    assert (graph.search(codes[:3], 5, 20)[0] == -1).all()
    graph.add(np.array([7]), codes[7:8])
    assert graph.search(codes[7:8], 2, 20)[0].tolist() == [[7, -1]]


def test_a_linked_slot_cannot_be_added(sample):
    graph, codes = built(sample, n=100)
    with pytest.raises(ParameterError, match="slot 99 is already in the graph"):
        graph.add(np.array([200, 99]), codes[:2])
    assert len(graph) == 100
    assert not graph.contains(np.array([200]))[0]
    with pytest.raises(ParameterError, match="each slot once"):
        graph.add(np.array([200, 200]), codes[:2])


def test_searches_stay_right_while_the_graph_grows_and_shrinks(sample):
    layout, codes, _ = sample("i8", 6000, 16)
    graph = Graph(layout)
    graph.add(np.arange(1000), codes[:1000], threads=1)
    own = np.arange(500, 540)
    _, best = exact_search(layout, codes[own], codes[own], 1)
    problems: list[object] = []
    done = threading.Event()

    def search(ef: int) -> None:
        try:
            while not done.is_set():
                slots, scores = graph.search(codes[own], 5, ef)
                if (slots[:, 0] < 0).any() or (scores[:, 0] < best[:, 0]).any():
                    problems.append((ef, slots[:, 0], scores[:, 0]))
        except Exception as error:
            problems.append(error)

    def write() -> None:
        try:
            for start in range(1000, 6000, 100):
                graph.add(np.arange(start, start + 100), codes[start : start + 100], threads=1)
                graph.remove(np.arange((start - 1000) // 50, (start - 1000) // 50 + 2))
        except Exception as error:
            problems.append(error)
        finally:
            done.set()

    threads = [threading.Thread(target=search, args=(ef,)) for ef in (10, 64, 200)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(graph) == 5900


def test_two_writers_take_turns(sample):
    layout, codes, _ = sample("i8", 2000, 16)
    graph = Graph(layout)
    halves = [np.arange(0, 2000, 2), np.arange(1, 2000, 2)]
    threads = [threading.Thread(target=graph.add, args=(half, codes[half]), kwargs={"threads": 1}) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(graph) == 2000
    assert recall(graph, codes, np.ones(2000, dtype=bool), codes[:30]) >= 0.95


def test_more_ef_never_finds_less(sample):
    graph, _ = built(sample, "b1", dim=64)
    queries = sample("b1", 50, 64, seed=1).codes
    _, narrow = graph.search(queries, 10, 10)
    _, wide = graph.search(queries, 10, 400)
    assert wide.sum() >= narrow.sum()
    alone = [graph.search(queries[j : j + 1], 10, 10)[0][0] for j in range(50)]
    np.testing.assert_array_equal(np.stack(alone), graph.search(queries, 10, 10, threads=2)[0])


def test_memory_grows_with_rows(sample):
    small, _ = built(sample, n=500)
    large, _ = built(sample, n=3000)
    assert 500 * 32 < small.memory_bytes < large.memory_bytes
    assert repr(small) == "<Graph of 500 slots, i8 x 32>"


def test_a_file_of_another_layout_is_refused(sample, tmp_path: Path):
    graph, _ = built(sample, n=50)
    graph.save(tmp_path / "graph")
    with pytest.raises(MismatchError, match=r"expected a graph of F16 x 32, .* holds I8 x 32"):
        Graph.load(tmp_path / "graph", CodeLayout("f16", 32))
    with pytest.raises(MismatchError, match="I8 x 33"):
        Graph.load(tmp_path / "graph", CodeLayout("i8", 33))
    with pytest.raises(CorruptCollectionError, match="missing"):
        Graph.load(tmp_path / "missing", graph.layout)
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(CorruptCollectionError, match="rebuild it"):
        Graph.load(tmp_path / "short", graph.layout)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda g, c: Graph(g.layout, connectivity=1), "connectivity as an integer of at least 2"),
        (lambda g, c: Graph(g.layout, expansion_add=0), "expansion_add as an integer of at least 1"),
        (lambda g, c: g.add(np.array([1, 2]), c[:1]), "got 2 slots for 1 rows"),
        (lambda g, c: g.add(np.array([-3]), c[:1]), "slots of 0 or more, got -3"),
        (lambda g, c: g.add(np.array([0.5]), c[:1]), "slots as integers"),
        (lambda g, c: g.add(np.array([9]), c[:1, :5].copy()), "document codes of shape"),
        (lambda g, c: g.search(c[:1], 0, 5), "k as an integer"),
        (lambda g, c: g.search(c[:1], 5, 0), "ef as an integer"),
        (lambda g, c: g.search(c[0], 5, 5), "query codes of shape"),
        (lambda g, c: g.remove(np.array([-1])), "slots of 0 or more"),
    ],
)
def test_bad_input_is_named(sample, call, match):
    graph, codes = built(sample, n=4, dim=8)
    with pytest.raises(ParameterError, match=match):
        call(graph, codes)
    assert len(graph) == 4


def test_a_mapped_graph_answers_alike_and_a_copy_of_it_can_grow(tmp_path):
    rng = np.random.default_rng(5)
    layout = CodeLayout("i8", 16)
    codes = rng.integers(-127, 128, (600, 16), dtype=np.int8).view(np.uint8)
    graph = Graph(layout)
    graph.add(np.arange(500), codes[:500], threads=1)
    graph.save(tmp_path / "graph")
    mapped = Graph.load(tmp_path / "graph", layout, mapped=True)
    assert mapped.mapped
    assert not graph.mapped
    expected = graph.search(codes[:20], 10, 64)
    for found, wanted in zip(mapped.search(codes[:20], 10, 64), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for change in (lambda: mapped.add(np.arange(500, 600), codes[500:]), lambda: mapped.remove(np.arange(5))):
        with pytest.raises(ParameterError, match="mapped"):
            change()
    grown = mapped.copy()
    assert not grown.mapped
    (tmp_path / "graph").unlink()  # both must go on without the name
    grown.add(np.arange(500, 600), codes[500:], threads=1)
    assert (len(grown), len(mapped)) == (600, 500)
    slots, _ = grown.search(codes[500:600], 1, 64)
    assert (slots[:, 0] >= 500).mean() > 0.95
    assert mapped.search(codes[:20], 10, 64)[0].tolist() == expected[0].tolist()
    assert mapped.memory_bytes > 0


@pytest.mark.parametrize("raised", [MemoryError("no more"), RuntimeError("Out of memory!")])
def test_a_graph_without_memory_says_so(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(CodeLayout("i8", 8))
    codes = np.random.default_rng(0).integers(0, 256, (20, 8), dtype=np.uint8)

    class Full:
        def add_many(self, *arguments: object, **options: object) -> None:
            raise raised

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def __len__(self) -> int:
            return len(real)

    real = graph._index
    monkeypatch.setattr(graph, "_index", Full())
    with pytest.raises(StorageError, match="could not take") as caught:
        graph.add(np.arange(20), codes, threads=1)
    assert caught.value.errno == errno.ENOMEM
    monkeypatch.setattr(graph, "_index", real)
    graph.add(np.arange(20), codes, threads=1)
    assert len(graph) == 20
