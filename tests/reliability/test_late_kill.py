"""`kill -9` while a multi-vector collection is written to: acknowledged batches stay, with all of their tokens."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import octavo

KILLS = 20


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is a POSIX signal")
def test_kill_at_random_moments(tmp_path: Path, writer_script: Callable[[str], Any]) -> None:
    path = tmp_path / "kb"
    script = writer_script("_late_writer_process")
    documents = script.module()
    rng = random.Random(0)
    present: set[str] = set()
    for run in range(KILLS):
        lines = script.run_and_kill(path, run, rng.uniform(0.0, 0.5))
        present = _check(path, present, lines, documents, run)
    assert len(present) > 200  # the writer did get somewhere
    assert len(list(path.glob("*.vec"))) == 3  # no generation is left behind


def _check(path: Path, before: set[str], lines: list[dict[str, list[str]]], script: ModuleType, run: int) -> set[str]:
    sure, flying = set(before), set(before)
    for line in lines:
        ((action, ids),) = line.items()
        if action == "try_add":
            flying = sure | set(ids)
        elif action == "try_delete":
            flying = sure - set(ids)
        elif action in ("add", "delete"):
            sure = flying
    with octavo.open(path, must_exist=True, lock_timeout=5) as kb:
        assert isinstance(kb, octavo.MultiVectorCollection)
        report = kb.verify()
        assert report.ok, report.problems
        found = set(kb.ids())
        assert found in (sure, flying), f"run {run}: {len(found)} found, {len(sure)} acknowledged"
        sample = random.Random(run).sample(sorted(found), min(5, len(found)))
        for identifier, stored in zip(sample, kb.get_token_vectors(sample), strict=True):
            tokens = script.tokens_of(identifier)
            units = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
            np.testing.assert_allclose(stored, units, atol=0.15)  # int8 learnt from few: rare values are cut
            result = kb.search(tokens, 1, exact=True)
            assert result.ids == [identifier]
            assert result.scores[0] == pytest.approx(len(tokens), rel=0.06)
        if found:
            batch = sample[0].rsplit("/", 1)[0]
            assert kb.count({"batch": batch}) == sum(i.rsplit("/", 1)[0] == batch for i in found)
    return found
