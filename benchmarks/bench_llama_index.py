"""What the LlamaIndex adapter adds to a search of the collection underneath.

The same vectors are asked for through ``OctavoVectorStore.query`` and through ``Collection.search``, turn by turn on warm
caches, so that a busy machine slows both. The nodes are as a splitter makes them: a kilobyte of text, metadata, three
relationships.

::

    python benchmarks/bench_llama_index.py                  # 100,000 nodes, prints a line of JSON for each codec
    python benchmarks/bench_llama_index.py --nodes 20000 --codec "binary > int8"
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
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import NodeRelationship, ObjectType, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

from octavo.integrations.llama_index import OctavoVectorStore, as_retriever

DIM = 384
BATCH = 5_000
TEXT = "Octavo keeps a collection small, fast and safe on one machine. " * 16


def make_nodes(start: int, vectors: np.ndarray) -> list[TextNode]:
    """Return nodes that look like a splitter's."""

    def related(number: int, kind: ObjectType) -> RelatedNodeInfo:
        return RelatedNodeInfo(node_id=f"r{number}", node_type=kind, metadata={"file": f"{number}.txt"}, hash="0" * 64)

    return [
        TextNode(
            id_=f"n{number}",
            text=f"{number} {TEXT}",
            metadata={"file": f"{number // 20}.txt", "page": number % 20, "lang": "en"},
            relationships={
                NodeRelationship.SOURCE: related(number // 20, ObjectType.DOCUMENT),
                NodeRelationship.PREVIOUS: related(number - 1, ObjectType.TEXT),
                NodeRelationship.NEXT: related(number + 1, ObjectType.TEXT),
            },
            start_char_idx=0,
            end_char_idx=len(TEXT),
            embedding=vector,
        )
        for number, vector in enumerate(vectors.tolist(), start)
    ]


def alternate(calls: dict[str, Callable[[Any], Any]], queries: list[Any], warm_up: int) -> dict[str, np.ndarray]:
    """Time each call on each query, in turn; milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    first = next(iter(calls.values()))
    for position, query in enumerate(queries):
        first(query)  # not timed: who comes first would pay for loading the query's rows into the processor's caches
        for name, call in calls.items():
            started = time.perf_counter()
            call(query)
            if position >= warm_up:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def measure(codec: str, n_nodes: int, n_queries: int, k: int) -> dict[str, Any]:
    """Build a collection and compare the two ways to ask it."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((256, DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store = OctavoVectorStore(Path(folder) / "kb", codec=codec)
        adding = 0.0
        for start in range(0, n_nodes, BATCH):
            count = min(BATCH, n_nodes - start)
            vectors = centres[rng.integers(0, 256, count)] + rng.standard_normal((count, DIM)).astype(np.float32)
            nodes = make_nodes(start, vectors)
            began = time.perf_counter()
            store.add(nodes)
            adding += time.perf_counter() - began
        store.client.flush()
        queries = (centres[rng.integers(0, 256, n_queries)] + rng.standard_normal((n_queries, DIM))).tolist()
        retriever = as_retriever(
            VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=DIM)), similarity_top_k=k
        )
        times = alternate(
            {
                "collection": lambda query: store.client.search(query, k),
                "store": lambda query: store.query(VectorStoreQuery(query_embedding=query, similarity_top_k=k)),
                "retriever": lambda query: retriever.retrieve(QueryBundle("words", embedding=query)),
            },
            queries,
            warm_up=n_queries // 10,
        )
        result = {
            "codec": codec,
            "nodes": n_nodes,
            "k": k,
            "add_nodes_per_s": round(n_nodes / adding),
            **{f"{name}_p50_ms": round(float(np.median(values)), 3) for name, values in times.items()},
            "overhead_p50_ms": round(float(np.median(times["store"] - times["collection"])), 3),
            "overhead_of_retriever_p50_ms": round(float(np.median(times["retriever"] - times["store"])), 3),
        }
        store.close()
    return result


def main() -> None:
    """Read the options and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--codec", action="append", help="may be repeated; default: int8 and 'binary > int8'")
    options = parser.parse_args()
    for codec in options.codec or ["int8", "binary > int8"]:
        print(json.dumps(measure(codec, options.nodes, options.queries, options.k)), flush=True)


if __name__ == "__main__":
    main()
