"""What every search and every document costs, whatever finds it: this tree beside another state of it, as ratios.

    python benchmarks/bench_fixed.py --base main

Two processes, one with the sources of each state, take turns on one core, a few hundred calls at a time, so that whatever
else the machine does meets both alike. Printed are the medians of both and their ratio. Searches return ten documents with
text and metadata from a collection on disk that is so small that finding them takes little; ``cells`` has enough for
the default index. Writing is the CPU time of one document in batches, durable, without an index.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import metadata_of, text_of

ROOT = Path(__file__).parent.parent
DIM, SMALL, CELLS, INGEST = 384, 1_500, 40_000, 4_096


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)
    return np.asarray(rng.standard_normal((n, DIM), dtype=np.float32) * spectrum)


def _tagged(number: int) -> dict[str, Any]:
    return metadata_of(number) | {"pair": (number, 1)}


# ---------------------------------------------------------------------- the child: has one state's sources


def _searches(folder: Path, wanted: list[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    import octavo

    questions = _vectors(64, seed=1)
    counter = iter(range(1 << 60))

    def question() -> np.ndarray:
        return np.asarray(questions[next(counter) % len(questions)])

    def filled(name: str, n: int, codec: str, metadata: Callable[[int], dict[str, Any]] = metadata_of) -> Any:
        kb = octavo.open(folder / name, codec=codec)
        texts = [text_of(number) for number in range(n)]
        kb.add(texts, ids=[f"id-{i}" for i in range(n)], metadata=[metadata(i) for i in range(n)], vectors=_vectors(n))
        kb.flush()
        return kb

    small = filled("int8", SMALL, "int8")
    where = {"year": {"$gte": 2010}}
    searches: dict[str, Callable[[], Callable[[], object]]] = {
        "int8": lambda: lambda: small.search(question(), 10),
        "filter": lambda: lambda: small.search(question(), 10, filter=where),
        "metadata": lambda: lambda: [document.metadata for document in small.search(question(), 10).documents],
        "batch of 8": lambda: lambda: small.search_batch(questions[:8], 10),
        "get": lambda: lambda: small.get([f"id-{i}" for i in range(0, 100, 10)]),
        "hybrid": lambda: lambda: small.search(question(), 10, mode="hybrid", text="alpha 17"),
    }

    def tiers() -> Callable[[], object]:
        kb = filled("tiers", SMALL, "rabitq:1 > int8")
        return lambda: kb.search(question(), 10)

    def tagged() -> Callable[[], object]:
        kb = filled("tagged", SMALL, "int8", _tagged)
        return lambda: kb.search(question(), 10)

    def cells() -> Callable[[], object]:
        kb = filled("cells", CELLS, "int8")
        return lambda: kb.search(question(), 10)

    def langchain() -> Callable[[], object]:
        from langchain_core.embeddings import DeterministicFakeEmbedding

        from octavo.integrations.langchain import OctavoVectorStore

        store = OctavoVectorStore(DeterministicFakeEmbedding(size=DIM), folder / "langchain", codec="int8")
        store.add_texts([text_of(number) for number in range(SMALL)], [metadata_of(number) for number in range(SMALL)])
        vector = questions[0].tolist()
        return lambda: store.similarity_search_by_vector(vector, k=10, filter=where)

    searches |= {"two tiers": tiers, "typed metadata": tagged, "cells": cells}
    if importlib.util.find_spec("langchain_core") is not None:
        searches["langchain"] = langchain
    for name, make in searches.items():
        if name in wanted or not wanted:
            yield name, make()


def _ingest(folder: Path, batch: int, metadata: Callable[[int], dict[str, Any]]) -> Callable[[int], float]:
    import octavo

    vectors, texts = _vectors(INGEST), [text_of(number) for number in range(INGEST)]
    rows = [metadata(number) for number in range(INGEST)]

    def run(turn: int) -> float:
        with octavo.open(folder / f"ingest-{batch}-{turn}", codec="int8") as kb:
            kb.add(texts[:1024], ids=[f"first-{i}" for i in range(1024)], vectors=vectors[:1024], metadata=rows[:1024])
            ids = [f"id-{i}" for i in range(INGEST)]
            start = time.process_time()
            kb.add(texts, ids=ids, vectors=vectors, metadata=rows, batch_size=batch)
            return (time.process_time() - start) / INGEST

    return run


def _child(folder: Path, wanted: list[str]) -> None:
    """Print names, then answer each line ``name calls`` with the median seconds of a call."""
    calls = dict(_searches(folder, wanted))
    writes = {
        "write": _ingest(folder, 1_024, metadata_of),
        "write, batches of 64": _ingest(folder, 64, metadata_of),
        "write, typed metadata": _ingest(folder, 1_024, _tagged),
        "write, no metadata": _ingest(folder, 1_024, lambda _: {}),
    }
    writes = {name: run for name, run in writes.items() if name in wanted or not wanted}
    print(json.dumps([*calls, *writes]), flush=True)
    turn = 0
    for line in sys.stdin:
        name, _, number = line.strip().rpartition("=")
        if name in writes:
            turn += 1
            print(writes[name](turn), flush=True)
            continue
        times = []
        for _ in range(int(number)):
            start = time.perf_counter()
            calls[name]()
            times.append(time.perf_counter() - start)
        print(float(np.median(times)), flush=True)


# ---------------------------------------------------------------------- the parent


def _start(sources: Path, folder: Path, wanted: list[str], core: int) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", str(folder), *wanted]
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with contextlib.suppress(AttributeError):
        os.sched_setaffinity(child.pid, {core})
    return child


def _ask(child: subprocess.Popen[str], line: str) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    if line:
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
    return child.stdout.readline()


def main() -> None:
    """Compare two states of the sources."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="main", help="revision to compare with (default: main)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each process a measurement (default: 15)")
    parser.add_argument("--calls", type=int, default=200, help="searches in a turn (default: 200)")
    parser.add_argument("--core", type=int, default=0, help="the core both run on (default: 0)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="what to measure (default: everything)")
    args = parser.parse_args()
    if args.child is not None:
        _child(args.child, args.names)
        return
    with tempfile.TemporaryDirectory() as work:
        base = Path(work, "base")
        base.mkdir()
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", args.base, "src"], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(base)], input=archive.stdout, check=True)
        children = [
            _start(sources, Path(work, name), args.names, args.core)
            for name, sources in (("a", base / "src"), ("b", ROOT / "src"))
        ]
        try:
            names, _ = [json.loads(_ask(child, "")) for child in children]
            print(f"{'microseconds':24} {args.base:>10} {'this tree':>10}  ratio")
            for name in names:
                rounds = max(3, args.rounds // 3) if name.startswith("write") else args.rounds
                found = np.array(
                    [[float(_ask(child, f"{name}={args.calls}")) for child in children] for _ in range(rounds)]
                )
                one, other = np.median(found, axis=0) * 1e6
                print(f"{name:24} {one:10.1f} {other:10.1f}  {np.median(found[:, 1] / found[:, 0]):.3f}", flush=True)
        finally:
            for child in children:
                assert child.stdin is not None
                child.stdin.close()
                child.wait()


if __name__ == "__main__":
    main()
