"""Octavo beside rivals in one process, in turns: ratios that other work on the machine does not spoil.

    python benchmarks/bench_together.py VECTORS.npz --work together/ --systems 'octavo `int8`,hnswlib,ivf-pq,scann'

`bench_million.py` measures one system after the other, which compares states of the machine where that is busy. Here each
system is built in a process of its own, the cheapest settings that reach each recall@10 are looked for, and then all systems
take turns, some questions at a time on one core. A row gives the medians, and their ratio to the first system's, of which the
median over the turns. Batches of all questions follow, with one thread and with two. VECTORS holds `D` (documents) and
`Q` (questions).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import corpora
from bench_million import slug
from rivals import SYSTEMS
from rivals.base import System

K, TURN = 10, 50


def build(name: str, vectors: Path, folder: Path, threads: int) -> None:
    """Build one system and leave beside it what that took."""
    folder.mkdir(parents=True, exist_ok=True)
    wall, cpu = time.perf_counter(), time.process_time()
    SYSTEMS[name]().build(np.load(vectors, mmap_mode="r"), folder, threads)
    took = {"cpu_s": round(time.process_time() - cpu, 1), "s": round(time.perf_counter() - wall, 1)}
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    (folder / "built.json").write_text(json.dumps(took | {"disk_mb": round(size / 1e6)}))


def recall(system: System, queries: np.ndarray, truth: np.ndarray) -> float:
    """Return recall@10 against exact float32 search."""
    found = [system.rows(system.search(query, K)) for query in queries]
    return float(np.mean([len(set(rows) & set(best)) for rows, best in zip(found, truth.tolist(), strict=True)])) / K


def settings_for(system: System, queries: np.ndarray, truth: np.ndarray, wanted: list[float]) -> dict[str, Any]:
    """Return the quickest setting measured for each recall, and the first of the curve as the default."""
    tried = []
    for setting in system.curve():
        system.use(setting)
        for query in queries[:20]:
            system.search(query, K)
        times = []
        for query in queries:
            started = time.perf_counter()
            system.search(query, K)
            times.append(time.perf_counter() - started)
        tried.append((setting, recall(system, queries, truth), float(np.quantile(times, 0.25))))
        if tried[-1][1] >= max(wanted) and len(tried) > 1:
            break
    chosen: dict[str, Any] = {"default": tried[0]} if system.name.startswith("Octavo") else {}
    for least in wanted:
        enough = [each for each in tried if each[1] >= least]
        if enough:
            chosen[f"{least:g}"] = min(enough, key=lambda each: each[2])
    return chosen


Calls = dict[str, tuple[Callable[[], None], Callable[[np.ndarray], Any]]]


def in_turns(calls: Calls, queries: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Return seconds of each question, of shape (rounds, questions), with systems taking turns."""
    times = {name: np.empty((rounds, len(queries))) for name in calls}
    for turn in range(rounds):
        for start in range(0, len(queries), TURN):
            for name, (use, search) in calls.items():
                use()
                for query in queries[start : start + 5]:  # its memory comes back into the caches
                    search(query)
                for number in range(start, min(start + TURN, len(queries))):
                    started = time.perf_counter()
                    search(queries[number])
                    times[name][turn, number] = time.perf_counter() - started
    return times


def main() -> None:
    """Build what is missing, and print one JSON object a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--systems", required=True, help="parts of names, comma-separated; ratios are to the first")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of builds, and of the second batch")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    documents = options.work / "documents.npy"
    if options.child:
        build(options.child, documents, options.work / slug(options.child), options.threads)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    with np.load(options.vectors) as data:
        D, Q = corpora.unit(data["D"].astype(np.float32)), corpora.unit(data["Q"].astype(np.float32))
    if not documents.exists():
        np.save(documents, D)
    queries, hold = Q[: options.queries], Q[-200:]
    truth, seen = (np.argpartition(-(part @ D.T), K, axis=1)[:, :K] for part in (queries, hold))
    names = [name for part in options.systems.split(",") for name in SYSTEMS if part.strip().lower() in name.lower()]
    systems, calls, about = [], {}, {}
    for name in dict.fromkeys(names):
        folder = options.work / slug(name)
        if not (folder / "built.json").exists():
            command = [sys.executable, __file__, str(options.vectors), "--work", str(options.work), "--systems", name]
            done = subprocess.run([*command, "--child", name, "--threads", str(options.threads)], check=False)
            if done.returncode:
                print(json.dumps({"system": name, "error": f"build ended with {done.returncode}"}), flush=True)
                continue
        system = SYSTEMS[name]()
        try:
            system.open(folder, documents, 1)
        except Exception as err:  # whatever a rival raises
            print(json.dumps({"system": name, "error": repr(err)[:200]}), flush=True)
            continue
        systems.append(system)
        print(json.dumps({"system": name} | json.loads((folder / "built.json").read_text())), flush=True)
        for label, (setting, _, _) in settings_for(system, hold, seen, [0.95, 0.98]).items():
            use = lambda system=system, setting=setting: system.use(setting)  # noqa: E731
            calls[f"{name}: {label}"] = use, lambda query, system=system: system.search(query, K)
            use()
            about[f"{name}: {label}"] = setting, recall(system, queries, truth)
    times = in_turns(calls, queries, options.rounds)
    best = {name: seconds.min(axis=0) for name, seconds in times.items()}
    first = next(iter(best))
    for name, seconds in best.items():
        ratio = np.median(np.median(times[name], axis=1) / np.median(times[first], axis=1))
        setting, found = about[name]
        row = {"system": name, "setting": setting, "recall": round(found, 4), "ratio": round(float(ratio), 2)}
        row |= {
            "p50_ms": round(float(np.median(seconds)) * 1e3, 3),
            "p95_ms": round(float(np.quantile(seconds, 0.95)) * 1e3, 3),
        }
        print(json.dumps(row), flush=True)
    for system in systems:
        labels = [name for name in calls if name.startswith(system.name + ":")]
        if not labels:
            continue
        calls[labels[-1]][0]()
        rates = {}
        for threads in (1, options.threads):
            taken = []
            for _ in range(5):
                started = time.perf_counter()
                system.batch(Q, K, threads)
                taken.append(time.perf_counter() - started)
            rates[f"batch_{threads}"] = round(len(Q) / min(taken))
        print(json.dumps({"system": system.name, "batch": rates, "load": os.getloadavg()[0]}), flush=True)


if __name__ == "__main__":
    main()
