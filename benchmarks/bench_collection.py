"""100,000 documents with given vectors: build, memory, reopening, latency and recall, with rivals in the same run.

Each system runs in a process of its own, on the same vectors, texts and metadata, and reports

- ``build s``: seconds from the first `add` until everything is stored (for Octavo: durable, text and metadata included;
  the others hold documents in memory and are saved once at the end, which is counted),
- ``peak MB``, ``anon MB``: the process's peak resident memory, and its peak anonymous memory (without mapped files), both
  above what it had after importing its packages and mapping the vectors,
- ``open s``: seconds from nothing to the first answer in a fresh process, imports not counted,
- ``p50 ms``, ``p95 ms``: one search by vector for the best 10, documents included, one thread,
- ``recall@10``: against exact float32 search.

Vectors: ``--embeddings FILE.npy`` (real embeddings) extended to ``--documents`` by moving random ones part of the way to
random others and adding a little noise; without the option, random vectors with the falling spectrum of a sentence model.

    python benchmarks/bench_collection.py --documents 100000 --systems octavo,faiss,turbovec
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import K, Memory, exact_top, metadata_of, text_of

# ---------------------------------------------------------------------- the data


def make_vectors(n: int, n_queries: int, dim: int, source: Path | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return documents and queries as unit vectors."""
    rng = np.random.default_rng(seed)
    if source is not None:
        real = np.load(source).astype(np.float32)
        if n <= len(real) - n_queries:
            base = real[:n]
        else:
            one, other = rng.integers(0, len(real), (2, n))
            base = real[one] + 0.5 * rng.random((n, 1), dtype=np.float32) * (real[other] - real[one])
        noise = 0.02 * rng.standard_normal((n, real.shape[1])).astype(np.float32)
        queries = real[rng.integers(0, len(real), n_queries)] + 0.03 * rng.standard_normal(
            (n_queries, real.shape[1])
        ).astype(np.float32)
        documents = base + noise
    else:
        spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
        turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
        centres = rng.standard_normal((max(1, n // 200), dim), dtype=np.float32) * spectrum

        def draw(count: int) -> np.ndarray:
            points = rng.standard_normal((count, dim), dtype=np.float32) * spectrum
            return (0.7 * centres[rng.integers(0, len(centres), count)] + 0.7 * points) @ turn

        documents, queries = draw(n), draw(n_queries)
    return _unit(documents), _unit(queries)


def _unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


# ---------------------------------------------------------------------- the systems


def octavo_system(codec: str) -> dict[str, Callable[..., Any]]:
    """The collection through `add` and `search`."""
    import octavo

    def build(folder: Path, vectors: np.ndarray) -> None:
        n = len(vectors)
        with octavo.open(folder / "kb", codec=codec) as kb:
            kb.add(
                (text_of(i) for i in range(n)),
                ids=(str(i) for i in range(n)),
                metadata=(metadata_of(i) for i in range(n)),
                vectors=(vectors[i] for i in range(n)),
            )

    def load(folder: Path) -> Callable[[np.ndarray], list[int]]:
        kb = octavo.open(folder / "kb")
        return lambda query: [int(identifier) for identifier in kb.search(query, K).ids]

    return {"build": build, "load": load}


def faiss_system() -> dict[str, Callable[..., Any]]:
    """LangChain's FAISS store (a flat index), as its `from_embeddings` makes it."""
    warnings.simplefilter("ignore")
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import DeterministicFakeEmbedding

    embedding = DeterministicFakeEmbedding(size=4)  # never asked: vectors are given

    def build(folder: Path, vectors: np.ndarray) -> None:
        pairs = ((text_of(i), vectors[i]) for i in range(len(vectors)))
        store = FAISS.from_embeddings(
            list(pairs),
            embedding,
            metadatas=[metadata_of(i) for i in range(len(vectors))],
            ids=[str(i) for i in range(len(vectors))],
        )
        store.save_local(str(folder / "faiss"))

    def load(folder: Path) -> Callable[[np.ndarray], list[int]]:
        store = FAISS.load_local(str(folder / "faiss"), embedding, allow_dangerous_deserialization=True)
        return lambda query: [
            document.metadata["number"] for document in store.similarity_search_by_vector(query.tolist(), K)
        ]

    return {"build": build, "load": load}


def turbovec_system(bits: int) -> dict[str, Callable[..., Any]]:
    """LangChain store of turbovec."""
    from langchain_core.embeddings import Embeddings
    from turbovec.langchain import TurboQuantVectorStore

    class Given(Embeddings):
        """Hands out ready vectors, in order."""

        def __init__(self, vectors: np.ndarray | None) -> None:
            self.rows: Iterator[np.ndarray] = iter(vectors if vectors is not None else ())

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [next(self.rows) for _ in texts]  # type: ignore[misc]

        def embed_query(self, text: str) -> list[float]:
            raise RuntimeError("queries are given as vectors")

    def build(folder: Path, vectors: np.ndarray) -> None:
        store = TurboQuantVectorStore(Given(vectors), bit_width=bits)
        step = 1_024
        for start in range(0, len(vectors), step):
            numbers = range(start, min(start + step, len(vectors)))
            store.add_texts(
                [text_of(i) for i in numbers],
                metadatas=[metadata_of(i) for i in numbers],
                ids=[str(i) for i in numbers],
            )
        store.dump(folder / "turbovec")

    def load(folder: Path) -> Callable[[np.ndarray], list[int]]:
        store = TurboQuantVectorStore.load(folder / "turbovec", Given(None))
        return lambda query: [
            document.metadata["number"] for document in store.similarity_search_by_vector(query.tolist(), K)
        ]

    return {"build": build, "load": load}


SYSTEMS: dict[str, Callable[[], dict[str, Callable[..., Any]]]] = {
    "octavo binary > int8": lambda: octavo_system("binary > int8"),
    "octavo int8": lambda: octavo_system("int8"),
    "octavo svd:50%|float8 > int8": lambda: octavo_system("svd:50%|float8 > int8"),
    "langchain faiss flat": faiss_system,
    "turbovec 4 bit": lambda: turbovec_system(4),
    "turbovec 2 bit": lambda: turbovec_system(2),
}


# ---------------------------------------------------------------------- running


def work(step: str, name: str, folder: Path) -> dict[str, Any]:
    """Do one step of one system in this process."""
    system = SYSTEMS[name]()
    if step == "build":
        vectors = np.load(folder / "documents.npy", mmap_mode="r")
        memory = Memory()
        start = time.perf_counter()
        system["build"](folder, vectors)
        seconds = time.perf_counter() - start
        return {"build_s": seconds, **memory.stop()}
    queries = np.load(folder / "queries.npy")
    truth = np.load(folder / "truth.npy")
    start = time.perf_counter()
    search = system["load"](folder)
    search(queries[0])
    opened = time.perf_counter() - start
    time.sleep(2)  # a graph may still be loading in the background; the first answers were exact
    for query in queries:
        search(query)
    times, hits = [], 0
    for _ in range(3):
        for query, best in zip(queries, truth, strict=True):
            start = time.perf_counter()
            found = search(query)
            times.append(time.perf_counter() - start)
            hits += len(set(found) & set(best.tolist()))
    return {
        "open_s": opened,
        "p50_ms": 1e3 * float(np.percentile(times, 50)),
        "p95_ms": 1e3 * float(np.percentile(times, 95)),
        "recall": hits / (3 * K * len(queries)),
        "disk_mb": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.suffix != ".npy") / 1e6,
    }


def run(name: str, folder: Path) -> dict[str, Any]:
    """Build and search one system, each in a process of its own."""
    result: dict[str, Any] = {"system": name}
    for step in ("build", "search"):
        command = [sys.executable, __file__, "--work", step, "--system", name, "--folder", str(folder)]
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if step == "search" else {})
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            result["error"] = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
            return result
        result |= json.loads(done.stdout.splitlines()[-1])
    return result


COLUMNS = (
    ("build_s", "build s", ".1f"),
    ("peak_mb", "peak MB", ".0f"),
    ("anon_mb", "anon MB", ".0f"),
    ("disk_mb", "disk MB", ".0f"),
    ("open_s", "open s", ".2f"),
    ("p50_ms", "p50 ms", ".2f"),
    ("p95_ms", "p95 ms", ".2f"),
    ("recall", "recall@10", ".3f"),
)


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table; the last column is p50 as a multiple of the first system's."""
    lines = ["| system | " + " | ".join(title for _, title, _ in COLUMNS) + " | p50 ratio |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    base = next((result["p50_ms"] for result in results if "p50_ms" in result), None)
    for result in results:
        if "error" in result:
            lines.append(f"| {result['system']} | not run: {result['error']} |" + " |" * len(COLUMNS))
            continue
        cells = [format(result[key], form) for key, _, form in COLUMNS]
        lines.append(f"| {result['system']} | " + " | ".join(cells) + f" | {result['p50_ms'] / base:.1f}x |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, or one step of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--embeddings", type=Path, help="real embeddings, .npy of shape (n, dim)")
    parser.add_argument("--systems", default="", help="parts of names, comma-separated; all by default")
    parser.add_argument("--work", choices=["build", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments.system, arguments.folder)))
        return
    wanted = [part.strip() for part in arguments.systems.split(",") if part.strip()]
    names = [name for name in SYSTEMS if not wanted or any(part in name for part in wanted)]
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        data.mkdir()
        documents, queries = make_vectors(arguments.documents, arguments.queries, arguments.dim, arguments.embeddings)
        np.save(data / "documents.npy", documents)
        np.save(data / "queries.npy", queries)
        np.save(data / "truth.npy", exact_top(documents, queries))
        del documents
        for name in names:
            folder = Path(temporary) / "run"
            folder.mkdir()
            for file in data.iterdir():
                os.link(file, folder / file.name)
            results.append(run(name, folder))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
            shutil.rmtree(folder)
    print(f"\n{arguments.documents:,} documents, {os.cpu_count()} cores\n")
    print(table(results))


if __name__ == "__main__":
    main()
