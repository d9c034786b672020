"""A process forks while it has a collection open: what either side acknowledges is there, and nothing hangs.

SQLite forbids carrying a connection across a fork; see `octavo.store.database.Database.after_fork_in_child`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import octavo

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")

PRELUDE = """
import os, sys, threading, time, multiprocessing
import numpy as np
import octavo
from octavo.errors import CollectionClosedError, OctavoError
path = sys.argv[1]
V = np.random.default_rng(0).standard_normal((3000, 8))

def in_child(work):
    "Run a function in a forked child; returns its process id."
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as err:
            print(f"child: {type(err).__name__}: {err}", flush=True)
        sys.stdout.flush()
        os._exit(status)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Run a program about the collection at ``tmp_path / "kb"``; returns what it wrote."""

    def run(source: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PRELUDE + textwrap.dedent(source), str(tmp_path / "kb")],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def _ids(tmp_path: Path) -> list[str]:
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        assert kb.verify().problems == []
        return kb.ids()


def test_the_parent_closes_first(program: Callable[[str], str], tmp_path: Path) -> None:
    program("""
        kb = octavo.open(path); kb.add(vectors=V[:1], ids=["a"])
        def work():
            kb.add(vectors=V[1:2], ids=["b"])
            time.sleep(0.4)
            kb.add(vectors=V[2:3], ids=["c"])
            assert kb.ids() == ["a", "b", "c"]
        pid = in_child(work); time.sleep(0.2); kb.close(); assert ended(pid) == 0
    """)
    assert _ids(tmp_path) == ["a", "b", "c"]


def test_the_parent_exits_first_and_a_third_process_writes(program: Callable[[str], str], tmp_path: Path) -> None:
    program("""
        import subprocess
        kb = octavo.open(path); kb.add(vectors=V[:1], ids=["a"])
        done = os.pipe()
        def work():
            kb.add(vectors=V[1:2], ids=["b"])
            time.sleep(0.5)  # the parent is gone by now
            third = "import octavo, sys\\nwith octavo.open(sys.argv[1]) as kb: kb.add(vectors=[[1.0] * 8], ids=['third'])"
            assert subprocess.run([sys.executable, "-c", third, path]).returncode == 0
            for i in range(30): kb.add(vectors=V[i:i + 1], ids=[f"c{i}"])
            assert kb.verify().ok
            open(path + ".done", "w").close()
        in_child(work); time.sleep(0.2); os._exit(0)
    """)
    for _ in range(400):
        if (tmp_path / "kb.done").exists():
            break
        time.sleep(0.05)
    assert _ids(tmp_path) == ["a", "b", "third", *(f"c{i}" for i in range(30))]


def test_both_sides_write_at_the_same_time(program: Callable[[str], str], tmp_path: Path) -> None:
    program("""
        kb = octavo.open(path, codec="int8", fit_after=50); kb.add(vectors=V[:60], ids=[f"a{i}" for i in range(60)])
        def work(name):
            for i in range(40): kb.add([f"text {i}"], vectors=V[i:i + 1], ids=[f"{name}{i}"])
            assert kb.verify().ok and kb.search("text", mode="text").ids
        children = [in_child(lambda name=name: work(name)) for name in "bc"]
        work("d")
        assert [ended(pid) for pid in children] == [0, 0]
        assert kb.count() == 180; kb.close()
    """)
    assert len(_ids(tmp_path)) == 180


def test_while_the_graph_is_built(program: Callable[[str], str], tmp_path: Path) -> None:
    program("""
        from octavo.index import planner
        planner.graph_min = lambda layout: 100
        planner.tail_max = lambda layout: 50
        many = np.random.default_rng(1).standard_normal((20000, 32))
        with octavo.open(path, index="graph") as kb: kb.add(vectors=many)
        for name in os.listdir(path):
            if name.endswith(".graph"): os.remove(os.path.join(path, name))
        kb = octavo.open(path)
        assert kb._index._thread.is_alive()
        def work():
            assert len(kb.search(many[0], 5)) == 5
            kb.add(vectors=many[:10], ids=[f"child {i}" for i in range(10)])
            kb.flush()
            assert kb.search(many[3], 2, exact=False).scores[0] > 0.99
            kb.close()
        pid = in_child(work); assert ended(pid) == 0
        kb.add(vectors=many[:1], ids=["parent"]); assert len(kb.search(many[0], 5)) == 5; kb.close()
    """)
    assert _ids(tmp_path)[-11:] == [*(f"child {i}" for i in range(10)), "parent"]


def test_while_a_thread_writes(program: Callable[[str], str], tmp_path: Path) -> None:
    """The fork waits for the end of a short transaction, and both sides go on."""
    program("""
        kb = octavo.open(path, lock_timeout=5); kb.add(vectors=V[:1], ids=["a"])
        inside = threading.Event()
        def slow(connection, added, deleted):
            inside.set(); time.sleep(0.5)
        kb.join_writes(slow)
        thread = threading.Thread(target=kb.add, kwargs=dict(vectors=V[1:2], ids=["thread"])); thread.start(); inside.wait()
        pid = in_child(lambda: kb.add(vectors=V[2:3], ids=["child"]))
        thread.join(); assert ended(pid) == 0; kb.close()
    """)
    assert _ids(tmp_path) == ["a", "thread", "child"]


def test_while_a_thread_writes_for_long(program: Callable[[str], str], tmp_path: Path) -> None:
    """The child is told at once that it cannot use the collection, nor open it anew; the parent goes on."""
    said = program("""
        from octavo.store import database
        database._FORK_PATIENCE = 0.2
        kb = octavo.open(path, lock_timeout=5); kb.add(vectors=V[:1], ids=["a"])
        inside = threading.Event()
        kb.join_writes(lambda *_: (inside.set(), time.sleep(1.5)))
        thread = threading.Thread(target=kb.add, kwargs=dict(vectors=V[1:2], ids=["thread"])); thread.start(); inside.wait()
        def work():
            for attempt in (lambda: kb.add(vectors=V[2:3]), kb.count, lambda: octavo.open(path)):
                try: attempt()
                except CollectionClosedError as err: print(err)
            kb.close()
            with octavo.open(path + " of the child") as own: own.add(vectors=V[:1])
            import gc; gc.collect()
        pid = in_child(work); assert ended(pid) == 0
        thread.join(); kb.add(vectors=V[2:3], ids=["b"]); kb.close()
    """)
    assert said.count("forked while a transaction of the collection was running") == 3
    assert _ids(tmp_path) == ["a", "thread", "b"]


def test_within_a_transaction(program: Callable[[str], str], tmp_path: Path) -> None:
    """A child forked by a function that takes part in a write commits nothing."""
    program("""
        kb = octavo.open(path); kb.add(vectors=V[:1], ids=["a"])
        children = []
        def forks(connection, added, deleted):
            children.append(os.fork())
        kb.join_writes(forks)
        try:
            kb.add(vectors=V[1:2], ids=["b"])
        except CollectionClosedError as err:
            assert children == [0] and "forked" in str(err)
            try: kb.count()
            except CollectionClosedError: sys.exit(0)
        assert ended(children[0]) == 0 and kb.count() == 2; kb.close()
    """)
    assert _ids(tmp_path) == ["a", "b"]


def test_a_child_that_ends_as_a_program_does(program: Callable[[str], str], tmp_path: Path) -> None:
    """Its interpreter destroys what it has inherited, without effect on the parent."""
    program("""
        kb = octavo.open(path); kb.add(vectors=V[:1], ids=["a"])
        with kb.connection(): pass
        if (pid := os.fork()) == 0: sys.exit(0)
        assert ended(pid) == 0
        if (pid := os.fork()) == 0: kb.count(); sys.exit(0)
        assert ended(pid) == 0
        for i in range(20): kb.add(vectors=V[i:i + 1], ids=[f"b{i}"])
        os.kill(os.getpid(), 9) if os.fork() == 0 else os.wait()
        assert kb.verify().ok; os._exit(0)
    """)
    assert len(_ids(tmp_path)) == 21


def test_multiprocessing(program: Callable[[str], str], tmp_path: Path) -> None:
    program("""
        kb = octavo.open(path, lock_timeout=60); kb.add(vectors=V[:1], ids=["a"])
        def work(number):
            kb.add(vectors=V[number:number + 1], ids=[f"b{number}"])
            return kb.contains([f"b{number}"])[0] and len(kb.search(V[number], 1)) == 1
        with multiprocessing.get_context("fork").Pool(4) as pool:
            assert all(pool.map(work, range(40), chunksize=1))
        assert kb.count() == 41; kb.close()
    """)
    assert len(_ids(tmp_path)) == 41


def test_a_server_that_loads_before_it_forks(program: Callable[[str], str], tmp_path: Path) -> None:
    """Workers search with many threads, one of them is killed, another is started instead; the first process only watches."""
    program("""
        import signal
        kb = octavo.open(path, codec="int8", fit_after=100)
        kb.add([f"word{i % 7}" for i in range(500)], vectors=V[:500], ids=[str(i) for i in range(500)])
        assert kb.search("word3", mode="text").ids
        def worker(number):
            failed = []
            def serve():
                try:
                    for i in range(30):
                        assert kb.search(V[i], 1).ids == [str(i)] and len(kb.search("word3", mode="text", k=3)) == 3
                        if i % 10 == 0: kb.add([f"of worker {number}"], vectors=V[600:601], ids=[f"w{number}"])
                except BaseException as err: failed.append(err)
            threads = [threading.Thread(target=serve) for _ in range(4)]
            [t.start() for t in threads]; [t.join() for t in threads]
            if failed: raise failed[0]
        workers = [in_child(lambda n=n: worker(n)) for n in range(3)]
        doomed = in_child(lambda: time.sleep(60)); os.kill(doomed, signal.SIGKILL); assert ended(doomed) == -9
        workers.append(in_child(lambda: worker(9)))
        assert [ended(pid) for pid in workers] == [0] * 4
        assert kb.count() == 504 and kb.verify().ok; kb.close()
    """)
    assert len(_ids(tmp_path)) == 504


def test_a_daemon(program: Callable[[str], str], tmp_path: Path) -> None:
    """Opened first, then twice forked into the background, with another working directory."""
    program("""
        os.chdir(os.path.dirname(path))
        kb = octavo.open("kb"); kb.add(vectors=V[:1], ids=["a"])
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.chdir("/"); time.sleep(0.2)
                null = os.open(os.devnull, os.O_RDWR)
                for fd in (0, 1, 2): os.dup2(null, fd)
                kb.add(vectors=V[1:2], ids=["daemon"]); kb.close()
                os.write(writer, b"x")
            os._exit(0)
        os.close(writer); os.read(reader, 1)
    """)
    assert _ids(tmp_path) == ["a", "daemon"]


def test_a_daemon_that_closes_all_that_it_has_inherited(program: Callable[[str], str], tmp_path: Path) -> None:
    """It may not be able to go on, but it says so and writes into nobody else's file."""
    program("""
        kb = octavo.open(path); kb.add(vectors=V[:1], ids=["a"])
        def work():
            os.closerange(3, 1000)
            others = [os.open(f"{path}.other{i}", os.O_CREAT | os.O_RDWR) for i in range(40)]
            try: kb.add(vectors=V[1:2], ids=["b"])
            except OctavoError: pass
            assert all(os.fstat(fd).st_size == 0 for fd in others)
        assert ended(in_child(work)) == 0
        kb.add(vectors=V[2:3], ids=["c"]); kb.close()
    """)
    assert [name for name in _ids(tmp_path) if name != "b"] == ["a", "c"]


def test_in_memory(program: Callable[[str], str]) -> None:
    """A child has the state of the fork as its own."""
    program("""
        kb = octavo.open(codec="int8", fit_after=50)
        kb.add([f"word{i}" for i in range(100)], vectors=V[:100], ids=[str(i) for i in range(100)])
        assert kb.search("word3", mode="text").ids == ["3"]
        def work():
            assert kb.search(V[5], 1).ids == ["5"] and kb.search("word7", mode="text").ids == ["7"]
            kb.add(["child"], vectors=V[200:201], ids=["child"]); kb.delete(["5"])
            assert kb.search("child", mode="text").ids == ["child"] and kb.count() == 100 and kb.verify().ok
            threads = [threading.Thread(target=lambda: kb.search(V[6], 1)) for _ in range(3)]
            [t.start() for t in threads]; [t.join() for t in threads]
            kb.close()
        assert ended(in_child(work)) == 0
        assert kb.count() == 100 and kb.contains(["child"]) == [False]
        kb.add(vectors=V[300:301], ids=["parent"]); assert kb.count() == 101; kb.close()
    """)


def test_in_memory_while_the_graph_is_built(program: Callable[[str], str]) -> None:
    program("""
        from octavo.index import planner
        planner.graph_min = lambda layout: 100
        planner.tail_max = lambda layout: 50
        many = np.random.default_rng(1).standard_normal((20000, 32))
        kb = octavo.open(index="graph"); kb.add(vectors=many, ids=[str(i) for i in range(20000)])
        kb._index.forget(); kb._index.start(); assert kb._index._thread.is_alive()
        def work():
            assert kb.search(many[3], 1).ids == ["3"]
            kb.add(vectors=many[:1], ids=["child"]); kb.flush(); assert kb.search(many[7], 1, exact=False).ids == ["7"]
        assert ended(in_child(work)) == 0; kb.flush(); kb.close()
    """)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell which files are open")
def test_a_program_that_is_started_inherits_nothing(tmp_path: Path) -> None:
    lines = """
        import contextlib, os
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                print(os.readlink(f"/proc/self/fd/{fd}"))
    """
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(vectors=np.eye(2))
        command = [sys.executable, "-c", textwrap.dedent(lines)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, close_fds=False).stdout
        assert "kb" not in {part for line in said.splitlines() for part in line.split("/")}
