"""The full-text index of a collection: nobody waits for it, and everybody may use what one has built."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionLockedError
from octavo.store.text import _index

DIM = 8


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


@contextmanager
def busy(kb: octavo.Collection) -> Iterator[None]:
    """Hold the write lock of a collection in another thread."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with kb._store.database.write():
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        release.set()
        thread.join()


def recorded(kb: octavo.Collection) -> int | None:
    with kb.connection() as connection:
        entry = kb._store.artifact(connection, "text")
    return entry["seq"] if entry is not None else None


def folders(path: Path) -> set[str]:
    return {name for name in os.listdir(path / "text") if name.isdecimal()}


@pytest.mark.parametrize("same", [True, False], ids=["same handle", "another"])
@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_a_search_by_words_waits_for_no_writer(tmp_path: Path, same: bool, mode: str) -> None:
    path = tmp_path / "kb"
    with octavo.open(path) as kb, octavo.open(path, lock_timeout=0.2) as reader:
        kb.add(["red apple", "green pear"], ids=["a", "p"], vectors=vectors(2))
        kb.search("apple", mode="text")
        kb.add(["yellow apple"], ids=["y"], vectors=vectors(1, 1))
        kb.delete(["a"])
        asked = kb if same else reader
        with busy(kb):
            found = asked.search(vectors(1, 1)[0], 5, mode=mode, text="apple")
            assert found.ids[0] == "y"
            assert "a" not in found.ids
            assert asked.search(vectors(1)[0], 5, mode="text", text="apple").ids == ["y"]
            assert recorded(asked) == 1
        assert len(asked.search("pear", mode="text")) == 1


def test_what_could_not_be_offered_is_offered_later_and_left_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path) as kb:
        kb.add(["red apple"], ids=["a"], vectors=vectors(1))
        with busy(kb):
            for number in range(4):
                assert len(kb.search("apple", mode="text")) == 1
                assert len(folders(path)) == 1  # of the one before, nothing is left
                assert recorded(kb) is None
                if number < 3:
                    # as another process would commit: the lock is only ever asked for without waiting
                    kb._text._view = None
                    for name in folders(path):
                        kb._store.folder.sub("text").remove_tree(name)
    assert len(folders(path)) == 1  # close has offered it
    with octavo.open(path) as kb:
        assert recorded(kb) == 1
        before = folders(path)
        kb.search("apple", mode="text")
        assert folders(path) == before  # opened, not built


def test_offers_follow_each_other_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path) as one, octavo.open(path) as two:
        for number in range(12):
            kb = (one, two)[number % 2]
            kb.add([f"word number {number}"], ids=[str(number)], vectors=vectors(1, number))
            for each in (one, two):
                assert len(each.search("word", 50, mode="text")) == number + 1
            assert len(folders(path)) <= 4
        assert one.verify().ok
        assert two.verify().ok
    assert len(folders(path)) <= 2


def test_an_index_whose_files_are_removed_meanwhile_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `compact(secure=True)` in another process."""
    path = tmp_path / "kb"
    with octavo.open(path) as kb:
        kb.add(["red apple"], ids=["a"], vectors=vectors(1))
        kb.search("apple", mode="text")
        kb.add(["green apple"], ids=["g"], vectors=vectors(1, 1))
        real = _index.TextIndex.commit

        def late(index: _index.TextIndex) -> object:
            monkeypatch.setattr(_index.TextIndex, "commit", real)
            with (
                octavo.open(path, lock_timeout=0.1) as other,
                contextlib.suppress(CollectionLockedError),  # the search reads; its files are gone by then
            ):
                other.compact(secure=True)
            return real(index)

        monkeypatch.setattr(_index.TextIndex, "commit", late)
        assert sorted(kb.search("apple", mode="text").ids) == ["a", "g"]
        assert kb.verify().ok


def test_directories_of_dead_processes_go_in_time(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with octavo.open(path) as kb:
        kb.add(["red apple"], ids=["a"], vectors=vectors(1))
        kb.search("apple", mode="text")
        (path / "text" / "00000000000000000001").mkdir()
        (path / "text" / "00000000000000000002").mkdir()
        hours_ago = time.time() - 7_200
        os.utime(path / "text" / "00000000000000000001", (hours_ago, hours_ago))
        kb.add(["green apple"], ids=["g"], vectors=vectors(1, 1))
        kb.search("apple", mode="text")
        assert "00000000000000000001" not in folders(path)
        assert "00000000000000000002" in folders(path)


def test_a_dropped_collection_lets_go_of_the_index(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are counted in /proc")
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["red apple"], ids=["a"], vectors=vectors(1))
    counts = []
    for _ in range(4):
        with octavo.open(tmp_path / "kb") as kb:
            kb.search("apple", mode="text")
            kb.search(vectors(1)[0], 1)
        del kb
        gc.collect()  # what other tests have left may go at any time
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] <= counts[0]


def test_others_that_are_always_faster_do_not_stop_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever an index is about to be extended, the files that it stands on have just been removed."""
    with octavo.open(tmp_path / "kb") as kb:
        kb.add(["amber one"], ids=["1"], vectors=vectors(1))
        assert kb.search("amber", mode="text").ids == ["1"]
        kb.add(["amber two"], ids=["2"], vectors=vectors(1, 1))
        begin = _index.TextIndex._begin

        def too_late(self: _index.TextIndex, path: Path) -> object:
            if self._manifest is not None:
                raise FileNotFoundError(2, "No such file or directory", self._manifest["directory"])
            return begin(self, path)

        monkeypatch.setattr(_index.TextIndex, "_begin", too_late)
        assert sorted(kb.search("amber", mode="text").ids) == ["1", "2"]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_writers_that_are_always_faster_do_not_stop_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool, mode: str
) -> None:
    """Each time that the index has followed the newest commit, there is a newer one."""
    with octavo.open(None if memory else tmp_path / "kb") as kb:
        kb.add(["amber one"], ids=["1"], vectors=vectors(1))
        kb.search("amber", mode="text")
        kb.add(["amber two"], ids=["2"], vectors=vectors(1, 1))
        commit, writers = _index.TextIndex.commit, []

        def overtaken(self: _index.TextIndex) -> object:
            manifest = commit(self)
            if len(writers) == 5:
                raise AssertionError("the search runs after the writers")
            arguments = {"ids": [f"later {len(writers)}"], "vectors": vectors(1, 2)}
            writers.append(threading.Thread(target=kb.add, args=(["amber three"],), kwargs=arguments))
            writers[-1].start()
            if not memory:  # there writers wait for readers
                writers[-1].join()
            return manifest

        monkeypatch.setattr(_index.TextIndex, "commit", overtaken)
        if mode == "text":
            found = kb.search("amber", mode="text")
        else:
            found = kb.search(vectors(1)[0], 10, mode="hybrid", text="amber")
        assert len(writers) == 1
        for writer in writers:
            writer.join()
        monkeypatch.undo()
        assert {"1", "2"} <= set(found.ids)
        assert sorted(kb.search("amber", mode="text").ids) == ["1", "2", "later 0"]
