"""Locks between processes: they last when the files are read by others than SQLite, and writers take turns.

POSIX drops all locks of a process on a file when the process closes any descriptor of it; see ``docs/decisions/locks.md``.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
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
from octavo.errors import CollectionLockedError
from octavo.store import _locks
from octavo.store._locks import LockFile, ReadLock, Shadow

VECTORS = np.random.default_rng(0).standard_normal((200, 8))

needs_descriptions = pytest.mark.skipif(
    not _locks._has_descriptions(), reason="the system has no locks of open file descriptions"
)

#: Adds a document in a process of its own, and closes, whereupon SQLite would delete the log of whoever has lost its locks.
OTHER = "import sys, octavo\nkb = octavo.open(sys.argv[1]); kb.add(vectors=[[1.0] * 8], ids=['other']); kb.close()"


def _program(source: str, *arguments: object, wait: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if wait:
        said, _ = process.communicate(timeout=100)
        assert process.returncode == 0, said
    return process


def _read(path: Path) -> None:
    (path / "octavo.db").read_bytes()


def _copy(path: Path) -> None:
    shutil.copytree(path, path.parent / f"copy {time.monotonic_ns()}")


def _read_each(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_file():
            entry.read_bytes()


def _look_with_sqlite(path: Path) -> None:
    """Another copy of SQLite in the same process."""
    connection = sqlite3.connect(path / "octavo.db")
    assert connection.execute("SELECT count(*) FROM documents").fetchone()[0] > 0
    connection.close()


WAYS = {"read": _read, "copy": _copy, "read each": _read_each, "look with sqlite": _look_with_sqlite}

#: The holder dies in the end, without closing, so that only what is in the files counts.
HOLDER = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[3])
import numpy as np, octavo
from pathlib import Path
from test_locks import OTHER, VECTORS, WAYS
path, way = Path(sys.argv[1]), WAYS[sys.argv[2]]
kb = octavo.open(path)
kb.add(vectors=VECTORS[:50])
reader = octavo.open(path, read_only=True); reader.count()
way(path)
subprocess.run([sys.executable, "-c", OTHER, str(path)], check=True)
assert kb.count() == reader.count() == 51
for i in range(50, 60): kb.add(vectors=VECTORS[i:i + 1])
way(path)
kb.add(vectors=VECTORS[60:70])
assert kb.count() == reader.count() == 71
os.kill(os.getpid(), 9)
"""


@needs_descriptions
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_when_the_files_are_read_by_their_holder(way: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "kb"), way, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == -9, done.stdout + done.stderr
    with octavo.open(tmp_path / "kb", must_exist=True) as kb:
        assert kb.count() == 71
        assert kb.verify().problems == []


@needs_descriptions
def test_another_program_of_sqlite_takes_no_log_away(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path) as kb:
        kb.add(vectors=VECTORS[:50])
        _read_each(path)
        look = """
            import sqlite3, sys
            connection = sqlite3.connect(sys.argv[1])
            print(connection.execute("SELECT count(*) FROM documents").fetchone()); connection.close()
        """
        _program(look, path / "octavo.db")
        assert (path / "octavo.db-wal").exists()
        kb.add(vectors=VECTORS[50:60])
        _program(OTHER, path)
        assert kb.count() == 61
    assert not (path / "octavo.db-wal").exists()


@needs_descriptions
@pytest.mark.parametrize("way", ["copy", "read each"])
def test_a_reading_goes_on_as_it_began(way: str, tmp_path: Path) -> None:
    """Its locks are dropped in the middle, and others write so much that the log would be folded under it."""
    path = tmp_path / "kb"
    many = """
        import sys, numpy as np, octavo
        kb = octavo.open(sys.argv[1])
        for i in range(30):
            kb.add(["x" * 20_000] * 10, vectors=np.eye(10, 8) + 1, ids=[f"{i} {j}" for j in range(10)])
            kb.delete([f"old{i}"])
        kb.close()
    """
    with octavo.open(path) as kb:
        kb.add([f"{i}" * 500 for i in range(200)], vectors=VECTORS, ids=[f"old{i}" for i in range(200)])
        with kb.connection() as connection:
            before = connection.execute("SELECT count(*) FROM documents").fetchone()
            WAYS[way](path)
            _program(many, path)
            assert connection.execute("SELECT count(*) FROM documents").fetchone() == before
            rows = connection.execute("SELECT id, text FROM documents ORDER BY slot").fetchall()
            assert rows == [(f"old{i}", f"{i}" * 500) for i in range(200)]
        assert kb.count() == 470
        assert kb.verify().problems == []


@needs_descriptions
def test_a_handle_that_is_closed_leaves_the_others_their_locks(tmp_path: Path) -> None:
    first, second = octavo.open(tmp_path / "kb"), octavo.open(tmp_path / "kb")
    first.add(vectors=VECTORS[:50])
    second.count()
    second.close()
    _program(OTHER, tmp_path / "kb")
    first.add(vectors=VECTORS[50:60])
    assert (tmp_path / "kb" / "octavo.db-wal").exists()
    first.close()
    assert not (tmp_path / "kb" / "octavo.db-wal").exists()
    assert Shadow._all == {}
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.count() == 61


@needs_descriptions
def test_turns_come_in_order(tmp_path: Path) -> None:
    """Twelve handles queue one after the other; they are served in that order, as often as it is tried."""
    files = [LockFile(tmp_path, read_only=False, patience=1) for _ in range(13)]
    order: list[int] = []

    def write(number: int) -> None:
        with files[number].turn(30):
            order.append(number)

    for _ in range(5):
        order.clear()
        threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
        with files[12].turn(1):
            for thread in threads:
                before = (tmp_path / _locks.LOCK_NAME).read_bytes()
                thread.start()
                while (tmp_path / _locks.LOCK_NAME).read_bytes() == before:  # until it has drawn its ticket
                    time.sleep(0.001)
            assert order == []
        for thread in threads:
            thread.join()
        assert order == list(range(12))


@needs_descriptions
def test_who_gives_up_or_dies_holds_nobody_up(tmp_path: Path) -> None:
    first, second, third = (LockFile(tmp_path, read_only=False, patience=1) for _ in range(3))
    with first.turn(1):
        with pytest.raises(CollectionLockedError, match="have been writing"), second.turn(0.05):
            pass
        waits = """
            import sys; from pathlib import Path; from octavo.store._locks import LockFile
            print("ready", flush=True)
            with LockFile(Path(sys.argv[1]), read_only=False, patience=1).turn(100): pass
        """
        before = (tmp_path / _locks.LOCK_NAME).read_bytes()
        process = _program(waits, tmp_path, wait=False)
        while (tmp_path / _locks.LOCK_NAME).read_bytes() == before:
            time.sleep(0.001)
        process.kill()
        process.communicate()
    with third.turn(0), pytest.raises(CollectionLockedError), first.turn(0):
        pass


@needs_descriptions
def test_a_lock_file_that_was_emptied_or_overwritten_excludes_all_the_same(tmp_path: Path) -> None:
    first, second = (LockFile(tmp_path, read_only=False, patience=1) for _ in range(2))
    for content in (b"", b"x", b"\xff" * 8, b"\xff" * 100):
        with first.turn(0):
            (tmp_path / _locks.LOCK_NAME).write_bytes(content)
            with pytest.raises(CollectionLockedError), second.turn(0.01):
                pass
        with second.turn(0):
            pass


@needs_descriptions
def test_readers_and_folding_exclude_each_other(tmp_path: Path) -> None:
    file = LockFile(tmp_path, read_only=False, patience=1)
    readers = [ReadLock(tmp_path, patience=0.05) for _ in range(3)]
    for reader in readers:
        reader.enter()
    with file.no_readers(0.01) as alone:
        assert not alone
    for reader in readers:
        reader.leave()
    with file.no_readers(0) as alone:
        assert alone
        with pytest.raises(CollectionLockedError, match="folding"):
            readers[0].enter()
    readers[0].enter()


def test_the_log_is_folded_while_others_read(tmp_path: Path) -> None:
    """Readers without a pause do not keep it from it, and it does not grow beyond some multiple of a transaction."""
    path = tmp_path / "kb"
    stop = threading.Event()
    failed: list[BaseException] = []
    with octavo.open(path) as kb, octavo.open(path) as other:
        kb.add(vectors=VECTORS, ids=[str(i) for i in range(200)])

        def read() -> None:
            try:
                while not stop.is_set():
                    assert other.get(["7"])
            except BaseException as err:
                failed.append(err)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for i in range(60):
            kb.add(["x" * 100_000] * 10, vectors=VECTORS[:10], ids=[f"{i} {j}" for j in range(10)])
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed
        assert (path / "octavo.db-wal").stat().st_size < 45 << 20  # of 60 MB that were written
        assert (path / "octavo.db").stat().st_size > 20 << 20


WRITER = """
import json, sys, time, numpy as np, octavo
path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
if len(sys.argv) > 4:
    from octavo.store import _locks
    _locks._has_descriptions = lambda: False
kb = octavo.open(path, lock_timeout=60)
print("open", flush=True); sys.stdin.readline()
waits, end, count = [], time.monotonic() + seconds, 0
while time.monotonic() < end:
    began = time.monotonic()
    kb.add(vectors=np.random.default_rng(count).standard_normal((20, 8)), ids=[f"{name} {count} {i}" for i in range(20)])
    waits.append(time.monotonic() - began); count += 1
kb.close()
print(json.dumps(waits))
"""


def race(path: Path, processes: int, seconds: float, *extra: str) -> list[list[float]]:
    """Have processes write without a pause at the same time; returns how long each write of each took."""
    import json

    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number), str(seconds), *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(process.communicate(timeout=100)[0]) for process in running]
    assert all(process.returncode == 0 for process in running)
    return found


@needs_descriptions
def test_no_writer_is_left_out(tmp_path: Path) -> None:
    """Three processes that write without a pause get about as many turns each."""
    counts = sorted(len(waits) for waits in race(tmp_path / "kb", 3, 4))
    assert counts[0] > 0.5 * counts[-1], counts
    with octavo.open(tmp_path / "kb") as kb:
        assert kb.count() == 20 * sum(counts)
        assert kb.verify().problems == []


@pytest.mark.skipif(os.name == "nt", reason="flock is POSIX")
def test_systems_that_lock_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [len(waits) for waits in race(tmp_path / "kb", 2, 1.5, "without descriptions")]
    monkeypatch.setattr(_locks, "_has_descriptions", lambda: False)
    with octavo.open(tmp_path / "kb", lock_timeout=0.2) as kb, octavo.open(tmp_path / "kb", lock_timeout=0.05) as other:
        assert kb.count() == 20 * sum(counts)
        kb.join_writes(_refused(other))
        with pytest.raises(CollectionLockedError, match="have been writing"):
            kb.add(vectors=VECTORS[:1])
        assert kb.verify().problems == []
    with octavo.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.count() == 20 * sum(counts)


def _refused(other: octavo.Collection) -> Callable[..., None]:
    return lambda *_: other.add(vectors=VECTORS[:1]) and None


def test_threads_take_turns_too(tmp_path: Path) -> None:
    order: list[str] = []
    with octavo.open(tmp_path / "kb") as kb:
        started = threading.Event()

        def note(connection: object, added: list[str], deleted: object) -> None:
            started.set()
            time.sleep(0.05)
            order.extend(added)

        kb.join_writes(note)
        threads = []
        for number in range(6):
            thread = threading.Thread(target=kb.add, kwargs={"vectors": VECTORS[:1], "ids": [str(number)]})
            thread.start()
            started.wait()
            while len(kb._store.database._turns._waiting) + len(order) <= number:
                time.sleep(0.001)
            threads.append(thread)
        for thread in threads:
            thread.join()
    assert order == [str(number) for number in range(6)]


@needs_descriptions
@pytest.mark.parametrize("same", [True, False])
def test_garbage_is_collected_while_a_lock_is_taken(same: bool, tmp_path: Path) -> None:
    """A dropped collection gives up its locks wherever Python destroys it, within the taking of others, too."""
    dropped = """
        import gc, os, sys, octavo
        from octavo.store import _locks
        gc.disable()
        path, same = sys.argv[1], sys.argv[2] == "True"
        kb = octavo.open(path + "/a"); kb.add(vectors=[[1.0, 0.0]]); cycle = [kb]; cycle.append(cycle); del kb, cycle
        real = os.open
        def collecting(*args, **options):
            gc.collect()
            return real(*args, **options)
        os.open = collecting
        class Collecting(dict):
            def get(self, key):
                found = super().get(key)
                gc.collect()
                return found
        _locks.Shadow._all = Collecting(_locks.Shadow._all)
        kb = octavo.open(path + ("/a" if same else "/b")); kb.add(vectors=[[0.0, 1.0]]); kb.close()
        assert dict(_locks.Shadow._all) == {}
    """
    _program(dropped, tmp_path, same)
    with octavo.open(tmp_path / ("a" if same else "b")) as kb:
        assert kb.count() == (2 if same else 1)
