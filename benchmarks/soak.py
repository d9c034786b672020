"""A mixed load for many minutes on one collection: do memory, file handles, files on disk, or latency grow?

    python benchmarks/soak.py --minutes 20

One thread writes (adds, replacements, deletions by id and by filter, compaction, a snapshot now and then, closing and opening
again), others search (by vector, words, both, with filters) and check each answer. The number of documents stays about the
same, so everything else should, too. Prints one row a minute, and fails (exit code 1) if the last third of the minutes takes
more than the first third after warming up: anonymous memory by a tenth and 16 MB, file handles by 4, threads by 2, bytes on
disk by half, the median latency of searches to twice as much.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import octavo
from octavo.index import planner

DIM = 128
BATCH = 50


@dataclass
class Minute:
    """What was seen in one minute."""

    rss_anon: int
    handles: int
    threads: int
    disk: int
    documents: int
    writes: int
    searches: int
    latency: dict[str, float]


class Load:
    """The collection, what is known of it, and the threads that work on it.

    Parameters
    ----------
    path : Path
        The collection's directory.
    documents : int
        About as many are kept.
    pause : float
        Seconds that each thread sleeps between two operations.
    codec : str
        How vectors are compressed.
    index : {"cells", "graph"}
        What finds candidates.
    """

    def __init__(self, path: Path, documents: int, pause: float, codec: str, index: str) -> None:
        self.path, self.documents, self.pause = path, documents, pause
        self._codec = codec
        self.kb = octavo.open(path, codec=codec, fit_after=500, index=index)
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.lock = threading.Lock()
        self.latency: dict[str, list[float]] = defaultdict(list)
        self.writes = 0
        self._steady: list[str] = []  # never deleted, so that every search for one of them has a known answer
        self._vectors = np.random.default_rng(0).standard_normal((200, DIM)).astype(np.float32)
        self._gate = threading.Condition()
        self._searching = 0
        self._serial = 0
        self._passing: list[str] = []

    def start(self, readers: int) -> list[threading.Thread]:
        """Fill the collection and start the threads."""
        self._steady = self.kb.add(
            [f"steady document {i}" for i in range(len(self._vectors))],
            ids=[f"steady {i}" for i in range(len(self._vectors))],
            metadata=[{"steady": True, "n": i} for i in range(len(self._vectors))],
            vectors=self._vectors,
        )
        while len(self._passing) < self.documents:
            self._add()
        jobs = [self._write, *[self._read] * readers]
        threads = [threading.Thread(target=self._guarded, args=(job, seed)) for seed, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, job: object, seed: int) -> None:
        try:
            rng = random.Random(seed)
            while not self.stop.is_set():
                job(rng)  # type: ignore[operator]
                time.sleep(self.pause)
        except BaseException as err:
            self.errors.append(err)
            self.stop.set()

    # ------------------------------------------------------------------ writing

    def _add(self) -> None:
        rng = np.random.default_rng(self._serial)
        ids = [f"passing {self._serial} {i}" for i in range(BATCH)]
        self.kb.add(
            [f"passing document {rng.integers(1000)} of batch {self._serial}" for _ in ids],
            ids=ids,
            metadata=[{"steady": False, "batch": self._serial, "n": i} for i in range(BATCH)],
            vectors=rng.standard_normal((BATCH, DIM)),
        )
        self._serial += 1
        self._passing += ids

    def _write(self, rng: random.Random) -> None:
        draw = rng.random()
        if draw < 0.45 and len(self._passing) > 1.1 * self.documents:
            draw = 0.8
        started = time.perf_counter()
        if draw < 0.45:
            kind = "add"
            self._add()
        elif draw < 0.6:
            kind = "replace"
            ids = rng.sample(self._passing, 20)
            self.kb.add(
                ["replaced"] * 20,
                ids=ids,
                metadata=[{"steady": False, "batch": int(name.split()[1])} for name in ids],
                vectors=np.random.default_rng().standard_normal((20, DIM)),
            )
        elif draw < 0.75:
            kind = "delete"
            batch = int(self._passing[0].split()[1])
            self._passing = [name for name in self._passing if int(name.split()[1]) != batch]
            self.kb.delete(filter={"batch": batch})
        elif draw < 0.99:
            kind = "delete"
            gone, self._passing = self._passing[:BATCH], self._passing[BATCH:]
            self.kb.delete(gone)
        elif draw < 0.994:
            kind = "compact"
            self.kb.compact()
        elif draw < 0.997:
            kind = "snapshot"
            target = self.path.parent / "snapshot"
            self.kb.snapshot(target)
            shutil.rmtree(target)
        else:
            kind = "reopen"
            self._reopen()
        with self.lock:
            self.latency[kind].append(time.perf_counter() - started)
            self.writes += 1
        if len(self.kb) != len(self._passing) + len(self._steady):
            raise AssertionError(f"expected {len(self._passing) + len(self._steady)} documents, found {len(self.kb)}")
        while len(self._passing) < 0.9 * self.documents:
            self._add()

    def _reopen(self) -> None:
        with self._gate:
            self._gate.wait_for(lambda: self._searching == 0)
            self.kb.close()
            self.kb = octavo.open(self.path)

    # ------------------------------------------------------------------ reading

    def _read(self, rng: random.Random) -> None:
        with self._gate:
            self._searching += 1
        try:
            number = rng.randrange(len(self._vectors))
            vector, wanted = self._vectors[number], self._steady[number]
            kind = rng.choice(["vector", "vector", "batch", "words", "hybrid", "filter"])
            started = time.perf_counter()
            if kind == "vector":
                found = self.kb.search(vector, 10).ids[0]
            elif kind == "batch":
                found = self.kb.search_batch(np.stack([vector] * 8), 10)[7].ids[0]
            elif kind == "words":
                found = self.kb.search(f"steady {number}", 10, mode="text").ids[0]
            elif kind == "hybrid":
                found = self.kb.search(vector, 10, mode="hybrid", text=f"steady {number}").ids[0]
            else:
                found = self.kb.search(vector, 1, filter={"steady": True}).ids[0]
            with self.lock:
                self.latency[kind].append(time.perf_counter() - started)
            if found != wanted:
                raise AssertionError(f"{kind} search found {found!r} instead of {wanted!r}")
        finally:
            with self._gate:
                self._searching -= 1
                self._gate.notify_all()

    def sample(self) -> Minute:
        """Return what there is now, and the latencies since the last call."""
        with self.lock:
            latency, self.latency = self.latency, defaultdict(list)
            writes, self.writes = self.writes, 0
        searches = sum(len(latency[kind]) for kind in ("vector", "batch", "words", "hybrid", "filter"))
        return Minute(
            rss_anon=_rss_anon(),
            handles=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            disk=_disk(self.path),
            documents=len(self.kb),
            writes=writes,
            searches=searches,
            latency={kind: statistics.median(times) * 1e3 for kind, times in latency.items() if times},
        )


def _rss_anon() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell RssAnon; the soak test needs Linux")


def _disk(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):  # which passes over directories that go away meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def growth(minutes: list[Minute]) -> list[str]:
    """Say what has grown from the first third of the minutes (after warming up) to the last."""
    if len(minutes) < 4:
        return ["too few minutes to tell: give at least --minutes 4"]
    settled = minutes[max(1, len(minutes) // 10) :]
    third = max(1, len(settled) // 3)
    first, last = settled[:third], settled[-third:]
    found = []

    def compare(name: str, values: list[float], later: list[float], factor: float, extra: float) -> None:
        before, after = statistics.median(values), statistics.median(later)
        if after > before * factor + extra:
            found.append(f"{name} grew from {before:,.1f} to {after:,.1f}")

    compare("anonymous memory (MB)", [m.rss_anon / 1e6 for m in first], [m.rss_anon / 1e6 for m in last], 1.1, 16)
    compare("file handles", [m.handles for m in first], [m.handles for m in last], 1, 4)
    compare("threads", [m.threads for m in first], [m.threads for m in last], 1, 2)
    compare("bytes on disk (MB)", [m.disk / 1e6 for m in first], [m.disk / 1e6 for m in last], 1.5, 0)
    for kind in ("vector", "batch", "words", "hybrid", "filter"):
        values = [[m.latency[kind] for m in part if kind in m.latency] for part in (first, last)]
        if all(values):
            compare(f"median latency of {kind} searches (ms)", values[0], values[1], 2, 0.2)
    return found


def main() -> int:
    """Run the load and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--documents", type=int, default=6_000)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.005, help="seconds each thread sleeps between operations")
    parser.add_argument("--codec", default="binary > int8")
    parser.add_argument("--index", default="cells", choices=["cells", "graph"])
    options = parser.parse_args()
    minutes: list[Minute] = []
    # So few documents would be scanned: the index is to be at work, with segments, merges and trainings.
    planner.limits = planner.Limits(
        graph_min=1_000, cells_min=1_000, tail_max=200, few=100, scan_budget_us=50, tail_budget_us=50
    )
    with tempfile.TemporaryDirectory() as folder:
        load = Load(Path(folder) / "kb", options.documents, options.pause, options.codec, options.index)
        threads = load.start(options.readers)
        print("minute  RssAnon MB  handles  threads  disk MB  documents  writes  searches  p50 ms: ", end="")
        print("vector  batch-8  words  hybrid  filter  add  delete", flush=True)
        deadline = time.monotonic() + options.minutes * 60
        while not load.stop.is_set() and time.monotonic() < deadline - 1:
            load.stop.wait(min(60, deadline - time.monotonic()))
            with load._gate:  # not while it is being reopened
                minutes.append(seen := load.sample())
            print(
                f"{len(minutes):6}  {seen.rss_anon / 1e6:10.1f}  {seen.handles:7}  {seen.threads:7}  {seen.disk / 1e6:7.1f}"
                f"  {seen.documents:9}  {seen.writes:6}  {seen.searches:8}           "
                + "  ".join(
                    f"{seen.latency.get(kind, float('nan')):6.2f}"
                    for kind in ("vector", "batch", "words", "hybrid", "filter", "add", "delete")
                ),
                flush=True,
            )
        load.stop.set()
        for thread in threads:
            thread.join()
        report = load.kb.verify()
        load.kb.close()
    problems = [repr(error) for error in load.errors] + report.problems + growth(minutes)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print("nothing grew, every answer was right, verify() is clean" if not problems else "failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
