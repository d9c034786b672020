"""`close` while others are at work, at the end of a process, and of collections that are merely dropped."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionClosedError
from octavo.store import _locks

VECTORS = np.random.default_rng(0).standard_normal((300, 8))


def _program(source: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(source), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert done.stderr == ""
    return done.stdout


CLOSES = """
    import shutil, sys, threading, time
    import numpy as np, octavo
    from octavo.errors import CollectionClosedError
    where, closes = sys.argv[1], int(sys.argv[2])
    V = np.random.default_rng(0).standard_normal((300, 8))
    failed = []
    def fill(kb):
        kb.add([f"word{i % 9}" for i in range(300)], vectors=V, ids=[str(i) for i in range(300)])
    if where != "memory":
        with octavo.open(where, codec="int8", fit_after=100) as kb:
            fill(kb)
            kb.search("word3", mode="text")
    for number in range(closes):
        kb = octavo.open(None if where == "memory" else where, codec="int8", fit_after=100)
        if where == "memory":
            fill(kb)
        works = [
            lambda: kb.count(),
            lambda: kb.search(V[3], 5),
            lambda: kb.search("word3", mode="hybrid", text="word3", k=5) if False else kb.search("word3", mode="text", k=5),
            lambda: kb.get(["3", "4"]),
            lambda: kb.ids(),
            lambda: kb.get_vectors(["5"]),
            lambda: kb.add(vectors=V[:2], ids=["x", "y"]),
            lambda: kb.verify(),
        ]
        begun = threading.Barrier(9)
        def run(work):
            begun.wait()
            try:
                while True:
                    work()
            except CollectionClosedError:
                pass
            except BaseException as err:
                failed.append(err)
        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads: thread.start()
        begun.wait()
        time.sleep(0.002 * (number % 5))
        kb.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    if failed:
        raise failed[0]
    if where != "memory":
        with octavo.open(where) as kb:
            assert kb.verify().ok and kb.count() in (300, 302)
"""


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_while_eight_threads_are_at_work(where: str, tmp_path: Path) -> None:
    """A hundred times: each thread gets an error of ours, and the process lives on."""
    _program(CLOSES, tmp_path / "kb" if where == "disk" else where, 100)


def test_it_waits_for_those_who_read(tmp_path: Path) -> None:
    kb = octavo.open(tmp_path / "kb")
    kb.add([f"text {i}" for i in range(300)], vectors=VECTORS)
    begun, found = threading.Event(), []

    def slowly(document: octavo.Document) -> bool:
        begun.set()
        time.sleep(0.001)
        return True

    thread = threading.Thread(target=lambda: found.append(kb.search(VECTORS[0], 300, filter=slowly)))
    thread.start()
    begun.wait()
    kb.close()
    assert not thread.is_alive() or not found or len(found[0]) == 300
    thread.join()
    assert len(found[0]) == 300
    with pytest.raises(CollectionClosedError):
        kb.count()


def test_within_a_reading_of_ones_own(tmp_path: Path) -> None:
    """`close` does not wait for the thread that calls it."""
    kb = octavo.open(tmp_path / "kb")
    kb.add(vectors=VECTORS)
    with kb.connection() as connection:
        kb.close()
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (300,)
    with pytest.raises(CollectionClosedError):
        kb.count()
    if os.path.isdir("/proc/self/fd"):
        assert _open_in(tmp_path) == []


def test_a_reader_that_does_not_come_to_an_end_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    kb = octavo.open(tmp_path / "kb", lock_timeout=0.2)
    kb.add(vectors=VECTORS)
    begun, go_on = threading.Event(), threading.Event()

    def wait(document: octavo.Document) -> bool:
        begun.set()
        go_on.wait(60)
        return False

    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(kb.count(wait)))
    thread.start()
    begun.wait()
    kb.close()
    assert thread.is_alive()
    go_on.set()
    thread.join()
    assert counts == [0]


EXIT = """
    import glob, os, sys, time
    import numpy as np, octavo
    from octavo.index import planner
    path, way = sys.argv[1:]
    with octavo.open(path, index="graph") as kb:
        kb.add([f"text {i}" for i in range(20000)], vectors=np.random.default_rng(0).normal(size=(20000, 64)))
    for name in glob.glob(path + "/*.graph"):
        os.remove(name)
    kb = octavo.open(path)
    if way == "at once": pass
    elif way == "while it is built": time.sleep(0.3)
    elif way == "with a reference in a module": sys.modules["json"].kept = kb
    elif way == "by an exception": time.sleep(0.3); sys.exit("over")
    elif way == "in a thread":
        import threading
        threading.Thread(target=lambda: [kb.search(np.ones(64), 3) for _ in range(200)]).start()
    elif way == "by a daemon thread":
        import threading
        def searches():
            while True: kb.search(np.ones(64), 3)
        threading.Thread(target=searches, daemon=True).start()
        time.sleep(0.3)
    assert kb._index._thread.is_alive()
"""

WAYS = ["at once", "while it is built", "with a reference in a module", "by an exception", "in a thread"]


@pytest.mark.parametrize("way", WAYS)
def test_exit_without_close_while_the_graph_is_built(way: str, tmp_path: Path) -> None:
    source = textwrap.dedent(EXIT)
    command = [sys.executable, "-c", source, str(tmp_path / "kb"), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    said = "over\n" if way == "by an exception" else ""
    assert (done.returncode, done.stderr) == (int(bool(said)), said)
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.count() == 20_000


# ---------------------------------------------------------------------- what is left


def _open_in(path: Path) -> list[str]:
    """What this process has open or mapped of a directory."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    found += [line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    return sorted(name for name in found if name.startswith(str(path)))


def _stays_open_in(path: Path) -> list[str]:
    """What is open or mapped for longer than a thread of tantivy's needs to look at its directory."""
    for _ in range(30):
        if not (found := _open_in(path)):
            break
        time.sleep(0.1)
    return found


def _work(kb: octavo.Collection) -> None:
    kb.add([f"word{i % 9}" for i in range(300)], vectors=VECTORS, ids=[str(i) for i in range(300)])
    kb.search("word3", mode="text")
    kb.delete(["1"])
    kb.search(VECTORS[0], 3)
    kb.search("word4", mode="text")
    kb.refit()
    kb.compact()
    kb.flush()
    thread = threading.Thread(target=kb.search, args=(VECTORS[0], 3))
    thread.start()
    thread.join()


def _read(kb: octavo.Collection) -> None:
    kb.search("word3", mode="text")
    kb.search(VECTORS[0], 3)
    kb.verify()


def _close(kb: octavo.Collection) -> None:
    kb.close()


def _drop(kb: octavo.Collection) -> None:
    del kb


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell which files are open")
@pytest.mark.parametrize("end", [_close, _drop])
@pytest.mark.parametrize(("work", "options"), [(_work, {}), (_read, {}), (_read, {"read_only": True})])
def test_nothing_stays_open(
    end: Callable[[octavo.Collection], None],
    work: Callable[[octavo.Collection], None],
    options: dict[str, bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifty collections, closed or just dropped: no descriptor and no map is left of any."""
    monkeypatch.setattr("octavo.index.planner.graph_min", lambda layout: 100)
    with octavo.open(tmp_path / "kb", codec="int8", fit_after=100) as kb:
        _work(kb)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        kb = octavo.open(tmp_path / "kb", **options)  # type: ignore[arg-type]
        work(kb)
        end(kb)
        if end is _close:
            assert _stays_open_in(tmp_path) == []
        del kb
    gc.collect()
    assert _stays_open_in(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell which files are open")
def test_threads_take_their_connections_with_them(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(vectors=VECTORS)
        counts = []
        for _ in range(30):  # SQLite keeps the descriptor of the first for the next, since closing it would drop locks
            thread = threading.Thread(target=kb.count)
            thread.start()
            thread.join()
            counts.append(len(_open_in(tmp_path)))
        assert len(set(counts[1:])) == 1


def test_the_lock_is_closed_while_a_turn_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is waiting for its turn when another thread closes gets an error of ours."""
    kb = octavo.open(tmp_path / "kb")
    kb.add(vectors=VECTORS[:5])
    real = _locks._lock
    once = iter([True])

    def closed_in_between(fd: int, kind: str, start: int, length: int = 1) -> bool:
        if kind == "exclusive" and next(once, False):
            closing = threading.Thread(target=kb.close)
            closing.start()
            closing.join(60)
            return real(-1, kind, start, length)
        return real(fd, kind, start, length)

    monkeypatch.setattr(_locks, "_lock", closed_in_between)
    with pytest.raises(CollectionClosedError):
        kb.add(vectors=VECTORS[:5])
    monkeypatch.undo()
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.count() == 5
