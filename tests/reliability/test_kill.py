"""`kill -9` at random moments: every acknowledged batch is there afterwards, and no half of an unacknowledged one."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo

KILLS = 50


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is a POSIX signal")
def test_kill_at_random_moments(tmp_path: Path, writer_script: Callable[[str], Any]) -> None:
    path = tmp_path / "kb"
    script = writer_script("_writer_process")
    vector_of = script.module().vector_of
    rng = random.Random(0)
    present: set[str] = set()
    for run in range(KILLS):
        lines = script.run_and_kill(path, run, rng.uniform(0.0, 0.5))
        present = _check(path, present, lines, vector_of, run)
    assert len(present) > 1_000  # the writer did get somewhere
    assert not [entry.name for entry in path.iterdir() if entry.name.endswith(".tmp")][3:]  # leftovers do not pile up


def _check(path: Path, before: set[str], lines: list[dict[str, object]], vector_of: object, run: int) -> set[str]:
    sure, open_add, open_delete = set(before), [], []
    for line in lines:
        for action, ids in line.items():
            if action == "try_add":
                open_add = ids
            elif action == "add":
                sure |= set(ids)
                open_add = []
            elif action == "try_delete":
                open_delete = ids
            elif action == "delete":
                sure -= set(ids)
                open_delete = []
    with octavo.open(path, must_exist=True, lock_timeout=5) as kb:
        report = kb.verify()
        assert report.ok, report.problems
        found = set(kb.ids())
        # What was in flight happened as a whole or not at all.
        outcomes = [sure]
        if open_add:
            outcomes = [sure, sure | set(open_add)]
        if open_delete:
            outcomes = [sure, sure - set(open_delete)]
        assert found in outcomes, f"run {run}: {len(found)} found, {len(sure)} acknowledged"
        sample = random.Random(run).sample(sorted(found), min(5, len(found)))
        for identifier in sample:
            result = kb.search(vector_of(identifier), 1)  # type: ignore[operator]
            assert result.ids == [identifier]
            assert result.scores[0] == pytest.approx(1.0, abs=0.02)
            assert result.documents[0].text == f"words of {identifier}"
            assert kb.search(f'"{identifier}"', 30, mode="text", ids=[identifier]).ids == [identifier]
        if found:
            batch = sample[0].rsplit("/", 1)[0]
            assert kb.count({"batch": batch}) == sum(i.rsplit("/", 1)[0] == batch for i in found)
            exact = np.stack([vector_of(i) for i in sample])  # type: ignore[operator]
            assert [r.ids[0] for r in kb.search_batch(exact, 1)] == sample
    return found
