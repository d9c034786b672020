"""`kill -9` while sparse vectors are written: each acknowledged one is there, and no file is left over."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import octavo


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is a POSIX signal")
def test_kill_at_random_moments(tmp_path: Path, writer_script: Callable[[str], Any]) -> None:
    path = tmp_path / "kb"
    script = writer_script("_sparse_writer_process")
    sparse_of = script.module().sparse_of
    rng = random.Random(0)
    sure: set[str] = set()
    for run in range(8):
        attempted: set[str] = set()
        for line in script.run_and_kill(path, run, rng.uniform(0.1, 0.8)):
            for action, ids in line.items():
                if action in ("try_add", "try_delete"):
                    attempted = set(ids)
                elif action == "add":
                    sure, attempted = sure | set(ids), set()
                elif action == "delete":
                    sure, attempted = sure - set(ids), set()
        with octavo.open(path, must_exist=True, lock_timeout=5) as kb:
            report = kb.verify()
            assert report.ok, report.problems
            found = set(kb.ids())
            assert found in (sure, sure | attempted, sure - attempted)
            sure = found
            for identifier in random.Random(run).sample(sorted(found), min(10, len(found))):
                expected = sparse_of(identifier)
                ((terms, weights),) = kb.get_sparse_vectors([identifier])
                assert terms.tolist() == sorted(expected)
                assert weights.tolist() == pytest.approx([expected[term] for term in sorted(expected)], abs=0.005)
                assert identifier in kb.search(None, 3, mode="sparse", sparse_vector=expected).ids
            with kb.connection() as connection:
                row = connection.execute("SELECT value FROM manifest WHERE key = 'sparse'").fetchone()
            named = {part["file"] for part in json.loads(row[0])["segments"]} if row else set()
            assert {file.name for file in path.iterdir() if ".sparse" in file.name} == named
    assert len(sure) > 100  # the writer did get somewhere
