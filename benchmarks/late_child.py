"""One step of one system of `bench_rivals_late.py`, in a process of its own: build an index of token vectors, or search it.

Imports of the systems are inside the methods: each system is installed in an environment of its own, which has the other's
packages not.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from common import K, Memory, folder_bytes, process_memory

Matrices = Sequence[np.ndarray]
Searcher = Callable[[np.ndarray], list[int]]


class System(Protocol):
    """What is measured: an index of token vectors that is built, opened by another process and searched."""

    package: str

    def build(self, documents: Matrices, folder: Path, settings: dict[str, Any]) -> None:
        """Build an index of documents, whose ids are their rows, and leave it in the folder."""

    def searchers(self, folder: Path, settings: dict[str, Any]) -> dict[str, Searcher]:
        """Open the index and return what finds the rows of the ten best documents, by the settings of the search."""


class Octavo:
    """A multi-vector collection; every step that it takes to be durable and to be searched is part of building."""

    package = "octavo"
    candidates = (50, 100, 200, 400, 600, 1000, 2000)

    def _options(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return what `open_multi_vector` takes, with the planner told from how many documents on there are token cells."""
        from octavo.index import planner

        if "cells_from" in settings:
            planner.limits = planner.Limits(token_cells_min=settings["cells_from"], few=100)
        return {name: value for name, value in settings.items() if name != "cells_from"}

    def build(self, documents: Matrices, folder: Path, settings: dict[str, Any]) -> None:
        import octavo

        with octavo.open_multi_vector(folder / "kb", **self._options(settings)) as kb:
            ids = [str(row) for row in range(len(documents))]
            for first in range(0, len(ids), 500):
                some = ids[first : first + 500]
                kb.add(some, ids=some, token_vectors=[np.float32(matrix) for matrix in documents[first : first + 500]])
            kb.flush()

    def searchers(self, folder: Path, settings: dict[str, Any]) -> dict[str, Searcher]:
        import octavo

        self._options(settings)
        kb = octavo.open_multi_vector(folder / "kb", read_only=True)
        return {f"n_candidates={count}": self._with(kb, count) for count in self.candidates}

    @staticmethod
    def _with(kb: Any, count: int) -> Searcher:
        return lambda query: [int(one) for one in kb.search(query, K, n_candidates=count, exact=False).ids]


class PyLate:
    """PyLate's PLAID index, which is fast-plaid; its defaults first, then cheaper and dearer searches."""

    package = "pylate"
    searches = ((8, 8192), (8, 1024), (8, 256), (4, 1024), (2, 256))

    def build(self, documents: Matrices, folder: Path, settings: dict[str, Any]) -> None:
        from pylate import indexes

        index = indexes.PLAID(str(folder), "index", override=True, device="cpu", show_progress=False, **settings)
        index.add_documents([str(row) for row in range(len(documents))], [np.float32(matrix) for matrix in documents])

    def searchers(self, folder: Path, settings: dict[str, Any]) -> dict[str, Searcher]:
        from pylate import indexes

        return {
            f"n_ivf_probe={probes}, n_full_scores={full}": self._with(
                indexes.PLAID(
                    str(folder),
                    "index",
                    device="cpu",
                    show_progress=False,
                    num_threads=1,
                    n_ivf_probe=probes,
                    n_full_scores=full,
                    **settings,
                )
            )
            for probes, full in self.searches
        }

    @staticmethod
    def _with(index: Any) -> Searcher:
        return lambda query: [int(hit["id"]) for hit in index([query], k=K)[0]]


class FastPlaid:
    """fast-plaid by itself, for versions of it that PyLate does not take yet."""

    package = "fast_plaid"
    searches = ((8, 4096), *PyLate.searches[1:5])

    def build(self, documents: Matrices, folder: Path, settings: dict[str, Any]) -> None:
        import torch
        from fast_plaid import search

        torch.set_num_threads(1)
        matrices = [torch.from_numpy(np.array(matrix)) for matrix in documents]
        search.FastPlaid(str(folder / "index"), device="cpu").create(matrices, **settings)

    def searchers(self, folder: Path, settings: dict[str, Any]) -> dict[str, Searcher]:
        import torch
        from fast_plaid import search

        torch.set_num_threads(1)
        index = search.FastPlaid(str(folder / "index"), device="cpu")
        return {
            f"n_ivf_probe={probes}, n_full_scores={full}": self._with(index, n_ivf_probe=probes, n_full_scores=full)
            for probes, full in self.searches
        }

    @staticmethod
    def _with(index: Any, **options: int) -> Searcher:
        import torch

        def find(query: np.ndarray) -> list[int]:
            found = index.search(torch.from_numpy(query)[None], top_k=K, show_progress=False, **options)
            return [int(row) for row, _ in found[0]]

        return find


class XTRWarp:
    """xtr-warp-rs: what it chooses by itself first, then more probes, all of whose documents are kept."""

    package = "xtr_warp"
    probes = (4, 8, 16, 32, 64, 128)

    def build(self, documents: Matrices, folder: Path, settings: dict[str, Any]) -> None:
        import torch
        from xtr_warp import XTRWarp as Index

        torch.set_num_threads(1)
        matrices = [torch.from_numpy(np.array(matrix)) for matrix in documents]
        Index(str(folder / "index")).create(matrices, device="cpu", show_progress=False, **settings)

    def searchers(self, folder: Path, settings: dict[str, Any]) -> dict[str, Searcher]:
        import torch
        from xtr_warp import XTRWarp as Index

        torch.set_num_threads(1)
        index = Index(str(folder / "index")).load("cpu")
        found = {"its own choice": self._with(index, {})}
        for n in self.probes:
            options = {"nprobe": n, "bound": 16 * n, "centroid_score_threshold": 0.0, "max_candidates": 10_000}
            found[", ".join(f"{name}={value}" for name, value in options.items())] = self._with(index, options)
        return found

    @staticmethod
    def _with(index: Any, options: dict[str, Any]) -> Searcher:
        import torch

        def find(query: np.ndarray) -> list[int]:
            found = index.search(torch.from_numpy(query)[None], top_k=K, num_threads=1, show_progress=False, **options)
            return [int(row) for row, _ in found[0]]

        return find


SYSTEMS: dict[str, type[System]] = {"octavo": Octavo, "pylate": PyLate, "fast-plaid": FastPlaid, "xtr-warp": XTRWarp}


def build(system: System, data: Path, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Build and measure time, memory and bytes on the disk."""
    documents = read(data, "documents")
    importlib.import_module(system.package)
    memory = Memory()
    start, cpu = time.perf_counter(), time.process_time()
    system.build(documents, folder, settings)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory.stop()
    return {
        "build_s": seconds,
        "build_cpu_s": cpu,
        "build_peak_rss_mb": process_memory()["VmHWM"] / 1e6,
        "build_peak_anon_mb": memory.peak[1] / 1e6,
        "disk_mb": folder_bytes(folder) / 1e6,
        "versions": versions("octavo", "pylate", "fast-plaid", "xtr-warp-rs", "torch", "numpy"),
    }


def search(system: System, data: Path, folder: Path, settings: dict[str, Any], n_queries: int) -> dict[str, Any]:
    """Open what was built and measure each setting of the search: agreement and time, query by query."""
    queries, exact = read(data, "queries"), np.load(data / "exact.npy")
    every = max(1, len(queries) // n_queries)
    rows = list(range(0, len(queries), every))[:n_queries]
    points = []
    for name, find in system.searchers(folder, settings).items():
        for row in rows[:5]:
            find(queries[row])
        wall, cpu, same = [], [], []
        for row in rows:
            start, start_cpu = time.perf_counter(), time.process_time()
            found = find(queries[row])
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
            same.append(len(set(found) & set(exact[row].tolist())) / K)
        point = {"search": name, "queries": len(rows), "agreement": float(np.mean(same))}
        point |= {"p50_ms": 1e3 * float(np.median(wall)), "cpu_p50_ms": 1e3 * float(np.median(cpu))}
        points.append(point | {"p95_ms": 1e3 * float(np.percentile(wall, 95))})
    memory = process_memory()
    return {"search_peak_rss_mb": memory["VmHWM"] / 1e6, "search_anon_mb": memory["RssAnon"] / 1e6, "points": points}


def read(data: Path, name: str) -> list[np.ndarray]:
    """Return the matrices that the parent wrote."""
    flat, offsets = np.load(data / f"{name}.npy", mmap_mode="c"), np.load(data / f"{name}-offsets.npy").tolist()
    return [flat[a:b] for a, b in pairwise(offsets)]


def versions(*names: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Do what the parent asks on the command line (as JSON), and print the result as JSON."""
    asked = json.loads(sys.argv[1])
    system, data, folder = SYSTEMS[asked["system"]](), Path(asked["data"]), Path(asked["folder"])
    if asked["step"] == "build":
        result = build(system, data, folder, asked["settings"])
    else:
        result = search(system, data, folder, asked["settings"], asked["queries"])
    print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
