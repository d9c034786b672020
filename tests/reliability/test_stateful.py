"""Arbitrary sequences of operations against a model that is a dictionary and a matrix product."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import octavo

DIM = 12
FIT_AFTER = 12
IDS = [f"doc {i}" for i in range(25)]
WORDS = ["amber", "birch", "cedar"]


@dataclass
class Known:
    """What the model knows of a document."""

    text: str
    metadata: dict[str, Any]
    payload: str | None
    vectors: np.ndarray  # of shape (n, DIM), unit rows; one row in a collection with one vector a document


def _unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


class Machine(RuleBasedStateMachine):
    """Drives a collection and the model side by side."""

    late = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="octavo-stateful-"))
        self.path = self.folder / "kb"
        self.model: dict[str, Known] = {}
        self.serial = 0
        self.kb: octavo.Collection

    @initialize(on_disk=st.booleans())
    def start(self, on_disk: bool) -> None:
        self.on_disk = on_disk
        path = self.path if on_disk else None
        if self.late:
            # float32 without pooling: MaxSim of the model and of the collection are the same but for rounding
            self.kb = octavo.open_multi_vector(path, codec="float32", pool_factor=1, dim=DIM, fit_after=FIT_AFTER)
        else:
            self.kb = octavo.open(path, codec="int8 > float32", dim=DIM, fit_after=FIT_AFTER)

    def _draw(self, rows: int) -> np.ndarray:
        self.serial += 1
        return _unit(np.random.default_rng(self.serial).standard_normal((rows, DIM))).astype(np.float32)

    @rule(
        ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=15, unique=True),
        group=st.integers(0, 3),
        data=st.data(),
    )
    def add(self, ids: list[str], group: int, data: st.DataObject) -> None:
        """New documents and replacements, together."""
        sizes = [data.draw(st.integers(0 if number else 1, 3)) if self.late else 1 for number in range(len(ids))]
        matrices = [self._draw(size) if size else np.zeros((0, DIM), np.float32) for size in sizes]
        fresh = {
            identifier: Known(
                f"{WORDS[(number + group) % 3]} {self.serial}",
                {"group": group, "serial": self.serial},
                str(self.serial) if number % 2 else None,
                matrix,
            )
            for number, (identifier, matrix) in enumerate(zip(ids, matrices, strict=True))
        }
        given: dict[str, Any] = {"token_vectors": matrices} if self.late else {"vectors": np.concatenate(matrices)}
        added = self.kb.add(
            [known.text for known in fresh.values()],
            ids=ids,
            metadata=[known.metadata for known in fresh.values()],
            payloads=[known.payload for known in fresh.values()],
            **given,
        )
        assert added == ids
        for identifier, known in fresh.items():
            self.model.pop(identifier, None)  # a replacement is the newest document
            self.model[identifier] = known

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=8, unique=True))
    def delete_ids(self, ids: list[str]) -> None:
        assert self.kb.delete(ids) == sum(self.model.pop(identifier, None) is not None for identifier in ids)

    @rule(group=st.integers(0, 3))
    def delete_filter(self, group: int) -> None:
        gone = [identifier for identifier, known in self.model.items() if known.metadata["group"] == group]
        assert self.kb.delete(filter={"group": group}) == len(gone)
        for identifier in gone:
            del self.model[identifier]

    @rule()
    def clear(self) -> None:
        assert self.kb.clear() == len(self.model)
        self.model.clear()

    @rule(secure=st.booleans())
    def compact(self, secure: bool) -> None:
        self.kb.compact(secure=secure)
        assert self.kb.info().dead_slots == 0

    @precondition(lambda self: any(len(known.vectors) for known in self.model.values()))
    @rule()
    def refit(self) -> None:
        self.kb.refit()

    @precondition(lambda self: self.on_disk)
    @rule(flush=st.booleans())
    def reopen(self, flush: bool) -> None:
        if flush:
            self.kb.flush()
        self.kb.close()
        self.kb = octavo.open(self.path, must_exist=True)

    @rule(how=st.sampled_from(["snapshot", "export", "copy"]))
    def back_up(self, how: str) -> None:
        """A snapshot that was restored, or an export that was imported, answers as the model does."""
        target, again = self.folder / "out", self.folder / "again"
        if how == "snapshot":
            octavo.restore(self.kb.snapshot(target), again)
            other = octavo.open(again, must_exist=True)
        elif how == "export":
            other = octavo.import_from(self.kb.export(target), again)
        else:
            other = self.kb.copy()
        with other:
            self._compare(other)
            assert other.verify().ok
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(again, ignore_errors=True)

    @rule(seed=st.integers(0, 1_000), k=st.integers(1, 6), group=st.none() | st.integers(0, 3))
    def search(self, seed: int, k: int, group: int | None) -> None:
        query = _unit(np.random.default_rng(seed).standard_normal((2, DIM))).astype(np.float32)[: 2 if self.late else 1]
        scores = {
            identifier: float((query @ known.vectors.T).max(axis=1).sum())
            for identifier, known in self.model.items()
            if len(known.vectors) and (group is None or known.metadata["group"] == group)
        }
        where = {"group": group} if group is not None else None
        found = self.kb.search(query if self.late else query[0], k, filter=where, exact=True)
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.scores, best, atol=2e-3)
        for identifier, score in zip(found.ids, found.scores, strict=True):
            assert abs(scores[identifier] - score) < 2e-3

    @rule(word=st.sampled_from(WORDS))
    def search_words(self, word: str) -> None:
        wanted = {identifier for identifier, known in self.model.items() if word in known.text}
        assert set(self.kb.search(word, 100, mode="text").ids) == wanted

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "kb"):
            self._compare(self.kb)

    def _compare(self, kb: octavo.Collection) -> None:
        ids = list(self.model)
        assert sorted(kb.ids()) == sorted(ids)
        assert len(kb) == len(ids)
        assert [(d.id, d.text, d.metadata) for d in kb.get(ids)] == [
            (identifier, known.text, known.metadata) for identifier, known in self.model.items()
        ]
        assert kb.get_payloads(ids) == [known.payload for known in self.model.values()]
        for group in range(4):
            count = sum(known.metadata["group"] == group for known in self.model.values())
            assert kb.count({"group": group}) == count

    def teardown(self) -> None:
        try:
            if hasattr(self, "kb"):
                assert self.kb.verify().problems == []
                self.kb.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class LateMachine(Machine):
    """The same with many vectors a document."""

    late = True


_SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}

TestOneVector = pytest.mark.slow(Machine.TestCase)
TestOneVector.settings = settings(max_examples=15, stateful_step_count=25, **_SETTINGS)  # type: ignore[attr-defined]
TestManyVectors = pytest.mark.slow(LateMachine.TestCase)
TestManyVectors.settings = settings(max_examples=6, stateful_step_count=20, **_SETTINGS)  # type: ignore[attr-defined]
