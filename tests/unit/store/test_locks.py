"""Locks that connections give up wherever they are destroyed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import octavo
from octavo.store._locks import Shadow

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of descriptions are Linux's")


def test_a_connection_that_is_destroyed_while_another_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is collected anywhere: within `Shadow.of` it must not wait for the lock that its own thread has."""
    for name in ("a", "b"):
        octavo.open(tmp_path / name).close()
    with octavo.open(tmp_path / "a"):
        old = Shadow.of(tmp_path / "a" / "octavo.db")
        if old is None:
            pytest.skip("no locks of descriptions here")
        users = old._users
        real = os.open

        def destroys(path: object, *rest: int, **more: int) -> int:
            if "b" in Path(str(path)).parts and str(path).endswith("-shm"):
                monkeypatch.setattr(os, "open", real)
                old.release()  # as a destructor would
            return real(path, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", destroys)
        done = threading.Event()

        def open_other() -> None:
            with octavo.open(tmp_path / "b") as kb:
                kb.add(vectors=[[1.0, 0.0]])
            done.set()

        threading.Thread(target=open_other, daemon=True).start()
        assert done.wait(30)
        assert old._users == users - 1
        assert not Shadow._released
