"""What the LangChain adapter adds to a search of the collection underneath.

The same vectors are asked for through ``OctavoVectorStore.similarity_search_with_score_by_vector``, through
``as_retriever().invoke`` and through ``Collection.search``, turn by turn on warm caches, so that a busy machine slows all
of them; the overhead is the difference in processor time, which other programs disturb least. Documents are as a splitter
makes them: a kilobyte of text, three metadata values.

::

    python benchmarks/bench_langchain.py                 # 100,000 documents, prints a line of JSON for each codec
    python benchmarks/bench_langchain.py --documents 20000 --codec "binary > int8"
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from octavo.integrations.langchain import OctavoVectorStore

DIM = 384
BATCH = 5_000
TEXT = "Octavo keeps a collection small, fast and safe on one machine. " * 16


class Ready(Embeddings):
    """Gives back the vector that stands for a query, in no time."""

    def __init__(self, queries: np.ndarray) -> None:
        self._queries: list[list[float]] = queries.tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return any vectors: the documents come with theirs."""
        return [self._queries[0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector with this number."""
        return self._queries[int(text)]


def alternate(calls: dict[str, Callable[[int], Any]], n: int, warm_up: int) -> dict[str, np.ndarray]:
    """Time each call on each query, in turn and in changing order; milliseconds of wall clock and of processor time."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = list(calls)
    for query in range(n):
        calls[names[0]](query)  # not timed: who comes first would pay for loading the query's rows into the caches
        names = names[1:] + names[:1]
        for name in names:
            wall, processor = time.perf_counter(), time.thread_time()
            calls[name](query)
            if query >= warm_up:
                times[name].append(((time.perf_counter() - wall) * 1e3, (time.thread_time() - processor) * 1e3))
    return {name: np.array(values) for name, values in times.items()}


def measure(codec: str, n: int, n_queries: int, k: int) -> dict[str, Any]:
    """Build a store and compare the ways to search it."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((n_queries, DIM)).astype(np.float32)
    with (
        tempfile.TemporaryDirectory() as folder,
        OctavoVectorStore(Ready(queries), Path(folder) / "kb", codec=codec) as store,
    ):
        started = time.perf_counter()
        for start in range(0, n, BATCH):
            numbers = range(start, min(n, start + BATCH))
            vectors = rng.standard_normal((len(numbers), DIM)).astype(np.float32)
            store.add_embeddings(
                zip((f"{number} {TEXT}" for number in numbers), vectors, strict=True),
                [{"file": f"{number // 20}.txt", "page": number % 20, "lang": "en"} for number in numbers],
                [f"d{number}" for number in numbers],
            )
        built = time.perf_counter() - started
        retriever = store.as_retriever(search_kwargs={"k": k})
        lists = queries.tolist()
        times = alternate(
            {
                "collection": lambda query: store.collection.search(lists[query], k),
                "by_vector": lambda query: store.similarity_search_with_score_by_vector(lists[query], k),
                "by_text": lambda query: store.similarity_search(str(query), k),
                "retriever": lambda query: retriever.invoke(str(query)),
            },
            n_queries,
            warm_up=n_queries // 10,
        )
    medians = {name: np.median(values, axis=0) for name, values in times.items()}
    base = medians["collection"]
    return {
        "codec": codec,
        "documents": n,
        "k": k,
        "build_s": round(built, 1),
        "p50_ms": {name: round(float(median[0]), 3) for name, median in medians.items()},
        "processor_ms": {name: round(float(median[1]), 3) for name, median in medians.items()},
        "overhead_ms": {name: round(float((median - base)[1]), 3) for name, median in medians.items()},
    }


def main() -> None:
    """Run the comparison for each codec."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--codec", action="append")
    options = parser.parse_args()
    for codec in options.codec or ["int8", "binary > int8"]:
        print(json.dumps(measure(codec, options.documents, options.queries, options.k)), flush=True)


if __name__ == "__main__":
    main()
