"""Kill a re-encoding at random moments, again and again, while another process adds, replaces and deletes; then compare.

The collection of `--documents` texts is re-encoded from one model of words to another by a process that is killed (SIGKILL)
after a random time, then started again, until it is done; whoever writes meanwhile is killed at random as well. After each run,
the number of texts that were encoded more than once must not exceed the batches in flight at the kills, all documents that
were acknowledged must be there, none that were deleted, and vectors and answers must be those of a collection built directly.

    python benchmarks/bench_reencode_kills.py --kills 200
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo.errors import CollectionLockedError, ParameterError

BATCH = 64
WORDS = [f"w{number}" for number in range(500)]


class Words:
    """Sums of vectors of words; writes down, in a file that survives a kill, every text that it is given."""

    def __init__(self, name: str, dim: int, log: Path | None = None, pause: float = 0.0) -> None:
        self.name, self._dim, self._pause = name, dim, pause
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if log is not None else None
        self._known: dict[str, Any] = {}

    def _vector(self, text: str) -> Any:
        total = np.full(self._dim, 1e-3)
        for word in text.split():
            if word not in self._known:
                seed = zlib.crc32(f"{self.name} {word}".encode())
                self._known[word] = np.random.default_rng(seed).standard_normal(self._dim)
            total = total + self._known[word]
        return total

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Return one vector for each text."""
        if self._log is not None:
            os.write(self._log, (json.dumps(list(texts)) + "\n").encode())
        time.sleep(self._pause)
        return np.array([self._vector(text) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Return one vector for each text."""
        return np.array([self._vector(text) for text in texts])


def text_of(identifier: str, version: int) -> str:
    """Return the text that a document has in a version: no two are equal."""
    rng = np.random.default_rng(zlib.crc32(f"{identifier} {version}".encode()))
    return " ".join(rng.choice(WORDS, 8)) + f" d{identifier} v{version}"


def reencode_child(place: str, log: str) -> None:
    """Re-encode until it is done."""
    with octavo.open(place, must_exist=True) as kb:
        print("begun", flush=True)
        kb.reencode(Words("new", 48, Path(log), pause=0.03), batch_size=BATCH)
    print("done", flush=True)


def write_child(place: str, seed: int) -> None:
    """Add, replace and delete, and say so before and after each commit, until somebody ends this."""
    rng = np.random.default_rng(seed)
    old, new = Words("old", 32), Words("new", 48)
    with octavo.open(place, new, previous=old, must_exist=True) as kb:
        for step in range(10**9):
            kind = rng.integers(3)
            ids = [str(rng.integers(6_000)) for _ in range(int(rng.integers(1, 12)))]
            ids = list(dict.fromkeys(ids))
            version = int(time.time_ns())
            print(json.dumps(["begin", int(kind == 2), version, ids]), flush=True)
            if kind == 2:
                kb.delete(ids)
            else:
                kb.add([text_of(name, version) for name in ids], ids=ids)
            print(json.dumps(["end", int(kind == 2), version, ids]), flush=True)
            if step % 5 == 0:
                kb.search("w1 w2 w3", k=3)
            time.sleep(float(rng.exponential(0.02)))


class Expected:
    """What must be there, as far as writers have said; a commit that was not acknowledged may have happened or not."""

    def __init__(self, n: int) -> None:
        self.may: dict[str, list[int | None]] = {str(number): [0] for number in range(n)}

    def take(self, lines: Sequence[str]) -> None:
        """Follow what a writer has said."""
        open_write: tuple[int, int, list[str]] | None = None
        for line in lines:
            try:
                what, deleted, version, ids = json.loads(line)
            except ValueError:
                continue  # cut off by the kill
            value = None if deleted else version
            if what == "begin":
                open_write = deleted, version, ids
                continue
            open_write = None
            for name in ids:
                self.may[name] = [value]
        if open_write is not None:
            deleted, version, ids = open_write
            for name in ids:
                self.may.setdefault(name, [None]).append(None if deleted else version)

    def settle(self, kb: octavo.Collection) -> None:
        """Compare with what is there."""
        found = {document.id: document.text for document in kb.documents()}
        for name, versions in self.may.items():
            allowed = [text_of(name, version) if version is not None else None for version in versions]
            assert found.get(name) in allowed, f"{name}: {found.get(name)!r} is none of {allowed!r}"
            self.may[name] = [versions[allowed.index(found.get(name))]]
        assert not found.keys() - self.may.keys(), "documents that nobody added"


def run(root: Path, documents: int, kills: int, seed: int) -> tuple[int, int, int]:
    """Re-encode once, with up to so many kills; returns kills, texts encoded, and texts encoded once more."""
    rng = np.random.default_rng(seed)
    place, log = root / f"kb{seed}", root / f"log{seed}"
    old = Words("old", 32)
    with octavo.open(place, old) as kb:
        ids = [str(number) for number in range(documents)]
        kb.add([text_of(name, 0) for name in ids], ids=ids)
    expected, killed, in_flight = Expected(documents), 0, 0
    own = [sys.executable, __file__]
    while True:
        writer = subprocess.Popen(
            [*own, "--child", "write", str(place), str(rng.integers(2**31))], stdout=subprocess.PIPE, text=True
        )
        worker = subprocess.Popen(
            [*own, "--child", "reencode", str(place), str(log)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        began = worker.stdout.readline().strip() == "begun"
        assert began, "the process that re-encodes did not begin"
        try:
            said, _ = worker.communicate(timeout=float(rng.exponential(0.9)) if killed < kills else None)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGKILL)
            said, _ = worker.communicate()
            killed += 1
        writer.send_signal(signal.SIGKILL)
        written, _ = writer.communicate()
        assert writer.returncode == -signal.SIGKILL, "the process that writes and searches has failed"
        expected.take(written.splitlines())
        with octavo.open(place, Words("new", 48), previous=old) as kb:
            expected.settle(kb)
            report = kb.verify()
            assert report.ok, report.problems
        if "done" in said:
            break
        assert worker.returncode == -signal.SIGKILL, said
        in_flight += 1
    given = Counter(text for line in log.read_text().splitlines() for text in json.loads(line))
    twice = sum(count - 1 for count in given.values())
    assert twice <= in_flight * BATCH, f"{twice} texts were encoded again, {in_flight} batches were in flight"
    with octavo.open(place, Words("new", 48)) as kb, octavo.open(None, Words("new", 48)) as direct:
        assert kb.info().reencoding is None
        assert kb.dim == 48
        ids = kb.ids()
        direct.add(kb.get(ids))
        mine, others = kb.get_vectors(ids), direct.get_vectors(ids)
        cosines = (mine * others).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(others, axis=1)
        assert cosines.min() > 0.999, cosines.min()
        queries = [text_of(name, 0) for name in ids[:50]]
        # Codecs that were learned on other samples may swap documents of nearly the same score, so scores are compared first:
        # vectors of a cosine above .999 are less than .045 apart.
        answers = list(zip(kb.search_batch(queries, 10), direct.search_batch(queries, 10), strict=True))
        apart = max(float(np.abs(a.scores - b.scores).max()) for a, b in answers)
        assert apart < 0.045, apart
        same = [len(set(a.ids) & set(b.ids)) / 10 for a, b in answers]
        assert np.mean(same) > 0.9, np.mean(same)
    return killed, sum(given.values()), twice


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until enough kills have happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args(arguments)
    if options.child:
        what, place, argument = options.child
        try:
            reencode_child(place, argument) if what == "reencode" else write_child(place, int(argument))
        except (CollectionLockedError, ParameterError) as error:
            print(f"failed: {error}", flush=True)
            raise
        return
    total, round_number = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        while total < options.kills:
            killed, encoded, twice = run(
                Path(folder), options.documents, options.kills - total, options.seed + round_number
            )
            total, round_number = total + killed, round_number + 1
            print(
                f"{total:4} kills; this re-encoding: {killed} kills, {encoded:,} texts encoded, {twice} of them again",
                flush=True,
            )


if __name__ == "__main__":
    main()
