"""The first query of a process, from a cold disk and from files in memory: how long it takes, and what it waits for.

    python benchmarks/bench_cold.py COLLECTION QUERIES.npy --trials 15 --base main

Each trial is a process of its own, which opens the collection and asks one question, another one, and the first again;
then, where the disk is cold, 20 times more, each time after all but SQLite's own cache was dropped from memory, as if the
collection were larger than that, of which the first and the last are printed. Each trial has other questions. For ``cold``
every file of the collection is dropped from the page cache (``posix_fadvise``) after the imports and before it is opened;
nobody else may have it open, because pages that are mapped cannot be dropped. For ``memory`` all of them are read before.
Printed are medians and 90th percentiles by the clock, the processor time in them, and what was read from the device; and
for each part of the first query the same, but for what was read. What is no processor time is waiting for the disk. With
``--base`` another state of the sources takes turns with this one. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent

#: Parts of a query: module, class (or nothing) and function, and what is printed for it.
PARTS = (
    ("octavo.index.cells", "CellModel", "route", "centroids"),
    ("octavo.store._cell_format", "RecordGuard", "check", "blocks of cells"),
    ("octavo.store.vectors", "BlockGuard", "check_rows", "blocks of rows"),
    ("octavo.retrievers.search", "", "select_documents", "documents"),
)

# ---------------------------------------------------------------------- the child: one trial


def _drop(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _forget(kb: Any) -> None:
    """Have this process's maps of vectors and cells hold no page, so that they can be dropped."""
    snapshot = kb._store.snapshot
    parts = snapshot.cells.parts if snapshot.cells is not None else ()
    for data in [*(tier.codes for tier in snapshot.tiers), *(part.segment.records for part in parts)]:
        base: Any = data
        while base is not None and not isinstance(base, mmap.mmap):
            base = base.obj if isinstance(base, memoryview) else base.base
        if base is not None:
            base.madvise(mmap.MADV_DONTNEED)


def _read_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    before = _read_bytes()
    start, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"ms": 1e3 * wall, "cpu": 1e3 * cpu, "kib": (_read_bytes() - before) / 1024}


def _watch(spent: dict[str, list[float]]) -> None:
    """Have the parts of a query add their seconds, by the clock and of the processor, to `spent`."""
    for module_name, owner_name, function, label in PARTS:
        module = __import__(module_name, fromlist=["_"])
        owner = getattr(module, owner_name, None) if owner_name else module
        inner = getattr(owner, function, None)
        if inner is None:  # another state of the sources: its time counts as the rest
            continue

        def outer(*args: Any, inner: Any = inner, label: str = label, **options: Any) -> Any:
            start, cpu = time.perf_counter(), time.process_time()
            try:
                return inner(*args, **options)
            finally:
                found = spent.setdefault(label, [0.0, 0.0])
                found[0] += time.perf_counter() - start
                found[1] += time.process_time() - cpu

        setattr(owner, function, outer)


def _trial(folder: Path, queries: Path, number: int, k: int, *, cold: bool) -> None:
    import octavo

    vectors = np.load(queries, mmap_mode="r")
    question, other = (
        np.array(vectors[each % len(vectors)], np.float32) for each in (number, number + len(vectors) // 2)
    )
    spent: dict[str, list[float]] = {}
    _watch(spent)
    if cold:
        _drop(folder)
    else:
        for path in folder.iterdir():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
    opened: list[Any] = []
    found = {"open": _timed(lambda: opened.append(octavo.open(folder, must_exist=True)))}
    kb = opened[0]
    found["first query"] = _timed(lambda: kb.search(question, k))
    parts = {f"  {label}": {"ms": 1e3 * wall, "cpu": 1e3 * cpu} for label, (wall, cpu) in spent.items()}
    rest = {key: found["first query"][key] - sum(part[key] for part in parts.values()) for key in ("ms", "cpu")}
    found |= parts | {"  all else": rest}
    found["another query"] = _timed(lambda: kb.search(other, k))
    found["first again"] = _timed(lambda: kb.search(question, k))
    if cold:
        for turn in range(20):
            _forget(kb)
            _drop(folder)
            name = "not in memory" if turn == 0 else "  the 20th time"
            found[name] = _timed(lambda: kb.search(question, k))
    kb.close()
    print(json.dumps(found))


# ---------------------------------------------------------------------- the parent


def _run(sources: Path, args: argparse.Namespace, number: int, state: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, __file__, args.collection, args.queries, "--k", str(args.k), "--trial", str(number)]
    environment = os.environ | {"PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--state", state], env=environment, check=True, capture_output=True, text=True)
    trial: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return trial


def _lines(trials: list[dict[str, dict[str, float]]]) -> Iterator[str]:
    yield f"  {'':18} {'p50 ms':>8} {'p90 ms':>8} {'cpu ms':>8} {'read KiB':>9}"
    for name in dict.fromkeys(name for trial in trials for name in trial):
        of = [trial[name] for trial in trials if name in trial]
        wall = [each["ms"] for each in of]
        read = f"{np.median([each['kib'] for each in of]):9.0f}" if "kib" in of[0] else ""
        middle, late, cpu = np.median(wall), np.percentile(wall, 90), np.median([each["cpu"] for each in of])
        yield f"  {name:18} {middle:8.2f} {late:8.2f} {cpu:8.2f} {read}"


def main() -> None:
    """Measure first queries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", help="folder of a collection; nothing is written to it")
    parser.add_argument("queries", help="query vectors, a .npy of shape (m, dim)")
    parser.add_argument("--trials", type=int, default=15, help="processes a state (default: 15)")
    parser.add_argument("--k", type=int, default=10, help="documents a query (default: 10)")
    parser.add_argument("--base", help="revision to compare with")
    parser.add_argument("--trial", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--state", choices=("cold", "memory"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trial is not None:
        _trial(Path(args.collection), Path(args.queries), args.trial, args.k, cold=args.state == "cold")
        return
    with tempfile.TemporaryDirectory() as work:
        trees = {"this tree": ROOT / "src"}
        if args.base is not None:
            archive = subprocess.run(
                ["git", "-C", str(ROOT), "archive", args.base, "src"], check=True, capture_output=True
            )
            subprocess.run(["tar", "-x", "-C", work], input=archive.stdout, check=True)
            trees = {args.base: Path(work, "src"), **trees}
        found: dict[tuple[str, str], list[dict[str, dict[str, float]]]] = {}
        for number in range(args.trials):
            for name, sources in trees.items():
                for state in ("cold", "memory"):
                    found.setdefault((name, state), []).append(_run(sources, args, number, state))
        for (name, state), trials in found.items():
            print(f"{name}, {state}")
            print("\n".join(_lines(trials)), flush=True)


if __name__ == "__main__":
    main()
