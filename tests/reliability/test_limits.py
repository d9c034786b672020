"""What is too large, too many or no text is refused by name, and what was there before stays usable."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import numpy as np
import pytest

import octavo
from octavo.errors import CollectionLockedError, OctavoError, ParameterError, StorageError
from octavo.store import sqlite


def _program(source: str, *arguments: object) -> str:
    command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_database_in_memory_ends_where_memory_does() -> None:
    """SQLite's own limit is one GiB."""
    with octavo.open() as kb:
        for write in (False, True):
            with kb.connection(write=write) as connection:
                limit = ctypes.c_int64(-1)
                connection.file_control("main", apsw.SQLITE_FCNTL_SIZE_LIMIT, ctypes.addressof(limit))
                assert limit.value >= 1 << 40


def test_a_database_in_memory_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_MEMORY_BYTES", 1 << 20)
    with octavo.open() as kb:
        kb.add(["small"], vectors=[[1.0, 0.0]], ids=["a"])
        with pytest.raises(StorageError, match="in-memory database"):
            kb.add(["x" * 2_000_000], vectors=[[1.0, 0.0]], ids=["b"])
        assert kb.ids() == ["a"]
        kb.add(["small"], vectors=[[1.0, 0.0]], ids=["c"])
        assert kb.verify().ok


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_text_that_is_too_long(on_disk: bool, tmp_path: Path) -> None:
    """The limit is 10^9 bytes; it is lowered here, so that the test does not need as much memory."""
    with octavo.open(tmp_path / "kb" if on_disk else None) as kb:
        kb.add(["small"], vectors=[[1.0, 0.0]], ids=["a"])
        kb._store.database._writing_session().connection.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)
        for text, metadata in (("x" * 200_000, {}), ("x", {"a": "y" * 200_000})):
            with pytest.raises(ParameterError, match="1,000,000,000 bytes"):
                kb.add([text], vectors=[[1.0, 0.0]], ids=["b"], metadata=[metadata])
        assert kb.ids() == ["a"]
        assert kb.verify().ok


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, "30", None, True, 10**400])
def test_a_lock_timeout_that_is_none(value: object, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="lock_timeout"):
        octavo.open(tmp_path / "kb", lock_timeout=value)  # type: ignore[arg-type]
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize("value", [0, 0.5, np.float32(1.5), np.int64(3), 10**6])
def test_lock_timeouts(value: float, tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb", lock_timeout=value) as kb:
        kb.add(vectors=[[1.0, 0.0]])
        assert kb.count() == 1


@pytest.mark.parametrize("on_disk", [True, False])
def test_words_that_are_no_text(on_disk: bool, tmp_path: Path) -> None:
    """A lone surrogate is refused, or matches nothing; what reaches SQLite never comes back raw."""
    bad = "x\ud800"
    with octavo.open(tmp_path / "kb" if on_disk else None) as kb:
        kb.add(["a"], vectors=[[1.0, 0.0]], ids=["a"], metadata=[{"k": "v"}])
        calls = [
            lambda: kb.get([bad]),
            lambda: kb.contains([bad]),
            lambda: kb.delete([bad]),
            lambda: kb.get_vectors([bad]),
            lambda: kb.get_payloads([bad]),
            lambda: kb.search([1.0, 0.0], 1, ids=[bad]),
            lambda: kb.count({"k": bad}),
            lambda: kb.count({bad: "v"}),
            lambda: kb.count({"k": {"$in": [bad, "v"]}}),
            lambda: kb.count({"k": {"$like": f"{bad}%"}}),
            lambda: kb.count({"k": {"$gt": 2**70}}),
            lambda: kb.search(bad, 1, mode="text"),
            lambda: kb.add([bad], vectors=[[1.0, 0.0]]),
            lambda: kb.add(["x"], vectors=[[1.0, 0.0]], ids=[bad]),
        ]
        for number, call in enumerate(calls):
            try:
                call()
            except OctavoError:
                pass
            except Exception as err:
                raise AssertionError(f"call {number}: {err!r}") from err
        assert kb.ids() == ["a"]


OPEN_FILES = """
    import resource, sys, threading
    import numpy as np, octavo
    from octavo.errors import OctavoError
    path = sys.argv[1]
    V = np.eye(8)
    for number in range(40):
        with octavo.open(f"{path}/{number}") as kb:
            kb.add([f"text {i}" for i in range(8)], vectors=V)
            kb.search("text", mode="text")
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), 1024))
    kept, refused, raw = [], set(), []
    for number in range(40):
        try:
            kb = octavo.open(f"{path}/{number}")
            kept.append(kb)
            kb.search(V[0], 1); kb.search("text", mode="text"); kb.add(["more"], vectors=V[:1], ids=["more"])
        except OctavoError as err:
            refused.add(str(err))
        except Exception as err:
            import traceback; raw.append("".join(traceback.format_exception(err)))
    if raw: sys.exit(f"raw: {raw[:3]}")
    assert refused and all("open" in text or "could not" in text for text in refused), refused
    def search(kb):
        try:
            kb.search(V[0], 1); kb.get(["more"]); kb.verify()
        except OctavoError: pass
        except Exception as err: raw.append(repr(err))
    threads = [threading.Thread(target=search, args=(kb,)) for kb in kept]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    for kb in kept: kb.close()
    if raw: sys.exit(f"raw in a thread: {raw[:3]}")
    for number in range(40):
        with octavo.open(f"{path}/{number}") as kb:
            assert kb.verify().ok and kb.count() in (8, 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the number of files is not limited by a process there")
@pytest.mark.parametrize("most", [40, 61, 83])
def test_too_many_open_files(most: int, tmp_path: Path) -> None:
    _program(OPEN_FILES, tmp_path, most)


def test_a_write_within_a_write_is_refused(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.join_writes(lambda *_: kb.add(vectors=[[1.0, 0.0]]) and None)
        with pytest.raises(ParameterError, match="must not search or change"):
            kb.add(vectors=[[1.0, 0.0]])
        assert kb.count() == 0


def test_a_reading_within_a_reading_is_refused(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["a"], vectors=[[1.0, 0.0]], ids=["a"])
        with pytest.raises(ParameterError, match="must not search or change"):
            kb.search([1.0, 0.0], 1, filter=lambda document: kb.count() > 0)
        assert kb.count() == 1


def test_another_handle_that_holds_the_turn(tmp_path: Path) -> None:
    with octavo.open(tmp_path / "kb") as kb, octavo.open(tmp_path / "kb", lock_timeout=0.05) as other:
        with kb.connection(write=True), pytest.raises(CollectionLockedError, match=r"0\.05 s"):
            other.add(vectors=[[1.0, 0.0]])
        other.add(vectors=[[1.0, 0.0]])
