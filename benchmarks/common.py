"""What several benchmarks share: documents to store, exact answers, and memory as the kernel counts it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from octavo.eval import Dataset  # scripts of rivals come without Octavo

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
K = 10


def text_of(number: int) -> str:
    """A text of about 300 characters."""
    return f"document {number}: " + " ".join(WORDS[(number * 7 + step) % len(WORDS)] for step in range(45))


def with_others(whole: Dataset, n: int, seed: int) -> Dataset:
    """Return the judged documents of a data set and `n` of the others, drawn at random, in their old order."""
    judged = {document for grades in whole.qrels.values() for document in grades}
    others = [row for row, name in enumerate(whole.document_ids) if name not in judged]
    drawn = set(np.random.default_rng(seed).choice(others, n, replace=False).tolist())
    rows = [row for row, name in enumerate(whole.document_ids) if name in judged or row in drawn]
    return replace(
        whole,
        document_ids=[whole.document_ids[row] for row in rows],
        texts=[whole.texts[row] for row in rows],
        bodies=None if whole.bodies is None else [whole.bodies[row] for row in rows],
    )


def metadata_of(number: int) -> dict[str, Any]:
    """Four fields."""
    return {"year": 1990 + number % 30, "source": WORDS[number % 12], "number": number, "percent": number % 100}


def exact_top(documents: np.ndarray, queries: np.ndarray, k: int = K, block: int = 50_000) -> np.ndarray:
    """Return the rows of the best `k` documents for each query, best first, by float32 inner product."""
    best_scores = np.full((len(queries), 0), 0, np.float32)
    best_rows = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(documents), block):
        scores = queries @ np.asarray(documents[start : start + block]).T
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k] if scores.shape[1] > k else None
        rows = top if top is not None else np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        best_scores = np.concatenate([best_scores, np.take_along_axis(scores, rows, axis=1)], axis=1)
        best_rows = np.concatenate([best_rows, rows + start], axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
    return best_rows


def process_memory() -> dict[str, int]:
    """Return this process's memory in bytes: resident, peak resident, anonymous and file-backed resident (Linux)."""
    fields = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}


class Memory:
    """Samples this process's resident memory until it is stopped."""

    def __init__(self) -> None:
        self.base = self._now()
        self.peak = self.base
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def _now() -> tuple[int, int]:
        memory = process_memory()
        return memory["VmRSS"], memory["RssAnon"]

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            now = self._now()
            self.peak = (max(self.peak[0], now[0]), max(self.peak[1], now[1]))

    def stop(self) -> dict[str, float]:
        """Return the peaks above the base in MB."""
        self._stop.set()
        self._thread.join()
        return {"peak_mb": (self.peak[0] - self.base[0]) / 1e6, "anon_mb": (self.peak[1] - self.base[1]) / 1e6}


def folder_bytes(folder: Path) -> int:
    """Return what a folder's files take on the disk: a sparse file counts what is written of it."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
