"""One step of one system of `bench_million.py`, in a process of its own."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import K, Memory, folder_bytes, process_memory
from rivals import SYSTEMS
from rivals.base import System

#: Queries that only warm up, at the start of a run and before each setting.
WARM_UP, WARM_UP_SETTING = 100, 20
#: The curve is not followed beyond this recall, and its slow end not measured on all queries.
ENOUGH = 0.985
SETTING_SECONDS = 25.0
BATCH = 1_000


def build(name: str, data: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Build and leave the artefacts in the folder."""
    system = SYSTEMS[name]()
    importlib.import_module(system.module)
    vectors = np.load(data / "documents.npy", mmap_mode="r").view(np.ndarray)
    before = process_memory()
    memory = Memory()
    start, cpu = time.perf_counter(), time.process_time()
    system.build(vectors, folder, threads)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory.stop()
    return {
        "build_s": seconds,
        "build_cpu_s": cpu,
        "docs_per_s": len(vectors) / seconds,
        "build_peak_anon_mb": memory.peak[1] / 1e6,
        "build_peak_rss_mb": process_memory()["VmHWM"] / 1e6,
        "base_anon_mb": before["RssAnon"] / 1e6,
        "disk_mb": folder_bytes(folder) / 1e6,
        "version": _version(system.package),
        "stores": system.stores,
        "durable": system.durable,
        "settings": system.settings,
        "source": system.source,
    }


def search(name: str, data: Path, folder: Path, threads: int, budget: float) -> dict[str, Any]:
    """Open what was built and follow the curve of its search parameter."""
    system = SYSTEMS[name]()
    importlib.import_module(system.module)
    queries = np.load(data / "queries.npy")
    truth = np.load(data / "truth.npy")
    start = time.perf_counter()
    system.open(folder, data / "documents.npy", threads)
    curve = system.curve()
    system.use(curve[0])
    system.search(queries[0], K)
    opened = time.perf_counter() - start
    time.sleep(2)  # a graph may still be loading in the background; the first answers were exact
    deadline = time.perf_counter() + budget
    points = []
    _warm_up(system, queries[:WARM_UP])
    after_open = process_memory()
    for setting in curve:
        if points and time.perf_counter() > deadline:
            break
        system.use(setting)
        _warm_up(system, queries[:WARM_UP_SETTING])
        points.append({"setting": setting, **measure(system, queries[WARM_UP:], truth[WARM_UP:])})
        if not setting:  # the first of the curve: what these questions want has not been read before
            points[-1]["again"] = measure(system, queries[WARM_UP:], truth[WARM_UP:])
        if setting and points[-1]["recall"] >= ENOUGH:
            break
    memory = process_memory()
    result = {
        "open_s": opened,
        "curve": points,
        "anon_mb": memory["RssAnon"] / 1e6,
        "file_mb": memory["RssFile"] / 1e6,
        "anon_after_open_mb": after_open["RssAnon"] / 1e6,
        "file_after_open_mb": after_open["RssFile"] / 1e6,
        "threads": threads,
    }
    chosen = cheapest(points, 0.95) or max(points, key=lambda point: point["recall"])
    system.use(chosen["setting"])
    return result | {"batch": _batch(system, queries, chosen, threads)}


def cheapest(points: list[dict[str, Any]], recall: float) -> dict[str, Any] | None:
    """Return the quickest measured point of at least this recall."""
    good = [point for point in points if point["recall"] >= recall]
    return min(good, key=lambda point: point["p50_ms"]) if good else None


def measure(system: System, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Search one query at a time; recall and times of the searches that fitted into the time."""
    times, hits = [], 0
    deadline = time.perf_counter() + SETTING_SECONDS
    for query, best in zip(queries, truth, strict=True):
        start = time.perf_counter()
        found = system.search(query, K)
        end = time.perf_counter()
        times.append(end - start)
        hits += len(set(system.rows(found)[:K]) & set(best.tolist()))
        if end > deadline:
            break
    return {
        "recall": hits / (K * len(times)),
        "p50_ms": 1e3 * float(np.percentile(times, 50)),
        "p95_ms": 1e3 * float(np.percentile(times, 95)),
        "mean_ms": 1e3 * float(np.mean(times)),
        "queries": len(times),
    }


def _warm_up(system: System, queries: np.ndarray) -> None:
    deadline = time.perf_counter() + SETTING_SECONDS / 4
    for query in queries:
        system.search(query, K)
        if time.perf_counter() > deadline:
            return


def _batch(system: System, queries: np.ndarray, chosen: dict[str, Any], threads: int) -> dict[str, Any]:
    """Search many at once, as many as take about ten seconds one at a time."""
    count = int(np.clip(10 / (chosen["mean_ms"] / 1e3), 20, BATCH))
    many = np.resize(queries, (count, queries.shape[1]))
    system.batch(many[:20], K, threads)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        system.batch(many, K, threads)
        best = min(best, time.perf_counter() - start)
    return {"setting": chosen["setting"], "recall": chosen["recall"], "queries_per_s": count / best, "queries": count}


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def main(arguments: Any) -> None:
    """Do the step and write its result, whole or not at all."""
    threads = arguments.cores
    if arguments.child == "build":
        result = build(arguments.system, arguments.data, arguments.folder, threads)
    elif arguments.child == "search":
        result = search(arguments.system, arguments.data, arguments.folder, threads, arguments.search_seconds)
    else:
        import million_octavo

        result = million_octavo.extras(arguments.system, arguments.data, arguments.folder)
    arguments.result.write_text(json.dumps(result))
