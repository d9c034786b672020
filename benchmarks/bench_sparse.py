"""Learned sparse vectors at 100,000 documents: bytes, build, latency, agreement, and other indexes where they are installed.

    python benchmarks/bench_sparse.py --model FOLDER --data scifact-folder [--documents 100000] [--terms 180]

Documents are those of a data set as a SPLADE gives them, each many times over with terms left out and weights changed
by chance, so that lists have real frequencies; queries are the set's own. The exact ten are those of float
weights. Other work on the machine shows in every number: compare within a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import octavo
from octavo.encoders.sparse import SparseEncoder
from octavo.eval import load_dataset


def vectors(encoder: SparseEncoder, texts: list[str], encode: str) -> Any:
    rows = getattr(encoder, encode)(texts)
    return sp.csr_matrix((rows.weights, rows.terms.astype(np.int64), rows.offsets), shape=(len(rows), 1 << 15))


def grown(base: Any, n: int, terms: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    found = base[rng.integers(0, base.shape[0], n)]
    found.data[rng.random(found.nnz) >= terms / (found.nnz / n)] = 0
    found.eliminate_zeros()
    found.data = (found.data * rng.uniform(0.7, 1.3, found.nnz)).astype(np.float32)
    return found


def measured(name: str, search: Any, queries: Any, exact: list[set[int]], extra: str) -> None:
    wall, cpu, agreement = [], [], []
    for number in range(len(exact)):
        row = queries[number]
        started, used = time.perf_counter(), time.thread_time()
        found = search(row)
        wall.append(time.perf_counter() - started)
        cpu.append(time.thread_time() - used)
        agreement.append(len(exact[number] & set(found)) / max(1, len(exact[number])))
    p50, p95 = np.percentile(wall, [50, 95]) * 1e3
    print(
        f"{name:32} p50 {p50:7.2f} ms  p95 {p95:7.2f} ms  CPU p50 {np.median(cpu) * 1e3:7.2f} ms  "
        f"agreement@10 {np.mean(agreement):.4f}  {extra}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--terms", type=float, default=180)
    parser.add_argument("--texts", type=int, default=1000, help="documents of the data set that are encoded")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    data = load_dataset(options.data)
    encoder = SparseEncoder(options.model)
    base = vectors(encoder, list(data.texts[: options.texts]), "encode_documents")
    queries = vectors(encoder, list(data.queries[: options.queries]), "encode_queries")
    documents = grown(base, options.documents, options.terms)
    n = documents.shape[0]
    print(
        f"{n:,} documents of {documents.nnz / n:.1f} terms, {queries.shape[0]} queries of {queries.nnz / queries.shape[0]:.1f}"
    )
    started = time.perf_counter()
    scores = queries @ documents.T
    print(f"scipy, all queries at once: {(time.perf_counter() - started) / queries.shape[0] * 1e3:.1f} ms a query")
    exact = [
        set(np.argsort(-scores[number].toarray()[0], kind="stable")[:10].tolist()) for number in range(queries.shape[0])
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kb"
        with octavo.open(path) as kb:
            started = time.perf_counter()
            names = [str(number) for number in range(n)]
            kb.add([""] * n, names, vectors=np.ones((n, 1), np.float32), sparse_vectors=documents)
            built = time.perf_counter() - started
        with octavo.open(path, read_only=True) as kb:
            about = kb.info().sparse or {}
            each = about["bytes"] / n
            extra = f"{each:.1f} bytes a document, built in {built:.1f} s, {about['segments']} segments"

            def ours(row: Any) -> list[int]:
                return [int(each) for each in kb.search(None, 10, mode="sparse", sparse_vector=row).ids]

            ours(queries[0])
            measured("octavo", ours, queries, exact, extra)
    columns = documents.tocsc()

    def by_columns(row: Any) -> list[int]:
        sums = (columns[:, row.indices] @ row.data).ravel()
        top = np.argpartition(-sums, 10)[:10]
        return top.tolist()

    each = (columns.data.nbytes + columns.indices.nbytes + columns.indptr.nbytes) / n
    measured("scipy CSC", by_columns, queries, exact, f"{each:.1f} bytes a document, cannot change")
    seismic_index(documents, queries, exact)


def seismic_index(documents: Any, queries: Any, exact: list[set[int]]) -> None:
    try:
        import seismic
    except ImportError:
        print("pyseismic-lsr is not installed")
        return
    kind = seismic.get_seismic_string()
    data = seismic.SeismicDataset()
    for number in range(documents.shape[0]):
        row = documents[number]
        data.add_document(str(number), row.indices.astype(str).astype(kind), row.data.astype(np.float32))
    started = time.perf_counter()
    index = seismic.SeismicIndex.build_from_dataset(data)
    built = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / documents.shape[0]
    for cut, heap in ((10, 0.9), (20, 0.9), (40, 0.7)):

        def search(row: Any, cut: int = cut, heap: float = heap) -> list[int]:
            terms = row.indices.astype(str).astype(kind)
            found = index.search(
                query_id="q", query_components=terms, query_values=row.data.astype(np.float32), k=10, query_cut=cut,
                heap_factor=heap,
            )  # fmt: skip
            return [int(each[2]) for each in found]

        measured(
            f"seismic, cut {cut}, heap {heap}",
            search,
            queries,
            exact,
            f"{size:.1f} bytes a document, built in {built:.1f} s",
        )


if __name__ == "__main__":
    main()
