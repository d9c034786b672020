"""`verify` beside writers: it looks at one commit, whose files it holds open."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.errors import CollectionLockedError
from octavo.store.upkeep import verify as _verify

DIM = 32


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def opened(path: Path) -> octavo.Collection:
    return octavo.open(path, fit_after=50)


def opened_late(path: Path) -> octavo.Collection:
    return octavo.open_multi_vector(path, fit_after=50)


def fill(kb: octavo.Collection, n: int) -> None:
    more: dict[str, Any] = {"vectors": vectors(n)}
    if isinstance(kb, octavo.MultiVectorCollection):
        more = {"token_vectors": vectors(2 * n).reshape(n, 2, DIM)}
    kb.add(["word"] * n, ids=[str(i) for i in range(n)], **more)


@pytest.mark.parametrize("open_", [opened, opened_late])
@pytest.mark.parametrize("repair", [False, True])
def test_beside_refits_and_compactions_in_another_thread(
    tmp_path: Path, open_: Callable[[Path], octavo.Collection], repair: bool
) -> None:
    with open_(tmp_path / "kb") as kb, open_(tmp_path / "kb") as other:
        fill(kb, 600)
        done = threading.Event()

        def write() -> None:
            for number in range(8):
                other.refit()
                other.delete([str(number)])
                other.compact()
                other.search("word", mode="text")
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        looks = 0
        while not done.is_set() or not looks:
            report = kb.verify(repair=repair)
            assert (report.problems, report.repaired) == ([], [])
            looks += 1
        thread.join()


WRITER = """
    import sys, octavo
    with octavo.open(sys.argv[1]) as kb:
        print("ready", flush=True)
        for number in range(12):
            kb.refit()
            kb.delete([str(number)])
            kb.compact()
            kb.search("word", mode="text")
"""


@pytest.mark.slow
@pytest.mark.parametrize("read_only", [False, True])
def test_beside_another_process(tmp_path: Path, read_only: bool) -> None:
    with opened(tmp_path / "kb") as kb:
        fill(kb, 2_000)
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "kb")], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    with octavo.open(tmp_path / "kb", read_only=read_only) as kb:
        while writer.poll() is None:
            assert kb.verify().problems == []
    assert writer.wait() == 0
    writer.stdout.close()


@pytest.mark.parametrize("open_", [opened, opened_late])
def test_repair_looks_again_when_others_write_meanwhile(
    tmp_path: Path, open_: Callable[[Path], octavo.Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_(tmp_path / "kb") as kb:
        fill(kb, 600)
    (file,) = (tmp_path / "kb").glob("g*-0.vec")
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    real, writes = _verify._repair, [0, 1, 2]
    encoder = (lambda texts: [vectors(2)] * len(texts)) if open_ is opened_late else (lambda texts: vectors(len(texts)))

    def late(store: Any, *rest: Any) -> list[str]:
        if writes and rest[-2].rows:
            with octavo.open(tmp_path / "kb") as other:
                other.delete([str(300 + writes.pop())])  # leaves the damage, moves the commit
        return real(store, *rest)

    monkeypatch.setattr(_verify, "_repair", late)
    with open_(tmp_path / "kb") as kb:
        if open_ is opened:
            with pytest.raises(octavo.OctavoError, match="lost their vectors"):
                kb.verify(repair=True)  # nothing to make them of
        else:
            report = kb.verify(repair=True)
            assert report.ok
            assert "candidate vectors" in report.repaired[0]
    assert writes == []
    del encoder


def test_repair_gives_up_by_name_when_others_never_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_late(tmp_path / "kb") as kb:
        fill(kb, 100)
    (file,) = (tmp_path / "kb").glob("g*-0.vec")
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    real = _verify._repair

    def late(store: Any, *rest: Any) -> list[str]:
        with octavo.open(tmp_path / "kb") as other:
            other.delete([other.ids()[-1]])
        return real(store, *rest)

    monkeypatch.setattr(_verify, "_repair", late)
    with opened_late(tmp_path / "kb") as kb, pytest.raises(CollectionLockedError, match="run verify"):
        kb.verify(repair=True)


def test_info_beside_compactions(tmp_path: Path) -> None:
    """Files may vanish between any two looks at them."""
    with opened(tmp_path / "kb") as kb, opened(tmp_path / "kb") as other:
        fill(kb, 600)
        done = threading.Event()

        def write() -> None:
            for number in range(10):
                other.delete([str(number)])
                other.compact(secure=number % 2 == 0)
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        while not done.is_set():
            info = kb.info()
            assert info.disk["tier 0"] > 0
            assert info.documents <= 600
        thread.join()
