"""Measure the full-text index: quality, query time, build time, memory and bytes.

Run from anywhere: ``python benchmarks/bench_fulltext.py``. The quality and the first timing are those of
limit-recon50k, which is read from ``../shared/data`` beside the repository (``--data`` names another place). The second
timing repeats its documents up to ``--documents`` and adds masks, long queries, opening and small commits.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from octavo.store.text._index import TextIndex

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "limit-recon50k"


def read(folder: Path) -> tuple[list[str], list[str], dict[str, str], dict[str, set[str]]]:
    """Read a folder in BEIR's layout: ids, texts, queries by id, relevant ids by query id."""
    with (folder / "corpus.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    with (folder / "queries.jsonl").open() as file:
        queries = {row["_id"]: row["text"] for row in map(json.loads, file)}
    relevant: dict[str, set[str]] = {}
    for path in sorted((folder / "qrels").glob("*.tsv")):
        with path.open(newline="") as file:
            for query, document, grade in list(csv.reader(file, delimiter="\t"))[1:]:
                if int(grade) > 0:
                    relevant.setdefault(query, set()).add(document)
    texts = [f"{row.get('title') or ''} {row['text']}".strip() for row in rows]
    return [row["_id"] for row in rows], texts, queries, relevant


def build(path: Path, language: str, texts: list[str]) -> tuple[TextIndex, float]:
    """Index texts in batches, one commit; return the index and the seconds that it took."""
    index = TextIndex.open(path, language)
    start = time.perf_counter()
    for first in range(0, len(texts), 2000):
        part = texts[first : first + 2000]
        index.add(range(first, first + len(part)), part)
    index.commit()
    return index, time.perf_counter() - start


def timed(search: Callable[[str], object], queries: list[str]) -> str:
    """Run each query once after a short warm-up; return the median and the 95th percentile."""
    for query in queries[:50]:
        search(query)
    seconds = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return f"p50 {np.median(seconds) * 1e3:.2f} ms, p95 {np.percentile(seconds, 95) * 1e3:.2f} ms"


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder in BEIR's layout")
    parser.add_argument("--languages", nargs="+", default=["english", "plain"])
    parser.add_argument("--documents", type=int, default=100_000, help="size of the second collection")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}; name a BEIR folder with --data", file=sys.stderr)
        return 1
    ids, texts, by_id, relevant = read(options.data)
    queries = [by_id[query] for query in relevant]
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as scratch:
        for language in options.languages:
            index, seconds = build(Path(scratch) / language, language, texts)
            recalls = []
            for query, wanted in relevant.items():
                slots, _ = index.search(by_id[query], 100)
                recalls.append(len(wanted.intersection(ids[slot] for slot in slots)) / len(wanted))
            print(
                f"{language}: {len(texts)} documents in {seconds:.2f} s, {index.nbytes / len(texts):.0f} bytes each;"
                f" R@100 {np.mean(recalls):.4f}; k=10 {timed(lambda query: index.search(query, 10), queries)}"  # noqa: B023
            )
        many = (texts * (options.documents // len(texts) + 1))[: options.documents]
        path = Path(scratch) / "many"
        index, seconds = build(path, options.languages[0], many)
        print(
            f"{options.languages[0]}: {len(many)} documents in {seconds:.2f} s ({len(many) / seconds:.0f} a second),"
            f" {index.nbytes / 1e6:.1f} MB"
        )
        rng = np.random.default_rng(0)
        for share in (None, 0.5, 0.1, 0.01, 0.001):
            alive = None if share is None else rng.random(len(many)) < share
            name = "all" if share is None else f"{share:.1%} allowed"
            for k in (10, 100):
                print(f"  {name}, k={k}: {timed(lambda query: index.search(query, k, alive=alive), queries)}")  # noqa: B023
        rng.shuffle(queries)
        for n_words in (100, 1000, 10_000):
            words = " ".join(many[:2000]).split()[:n_words]
            long = [" ".join(rng.permutation(words)) for _ in range(20)]
            print(f"  query of {n_words} words: {timed(lambda query: index.search(query, 10), long)}")
        start = time.perf_counter()
        again = TextIndex.open(path, options.languages[0], manifest=index.manifest)
        print(f"  open and verify: {(time.perf_counter() - start) * 1e3:.1f} ms")
        seconds_each = []
        for slot in range(len(many), len(many) + 30):
            start = time.perf_counter()
            again.add([slot], [many[0]])
            again.delete([slot - 1000])
            again.commit()
            seconds_each.append(time.perf_counter() - start)
        print(
            f"  commit of one text: p50 {np.median(seconds_each) * 1e3:.0f} ms, worst {max(seconds_each) * 1e3:.0f} ms"
        )
        start = time.perf_counter()
        again.delete(range(0, len(many), 5))
        again.commit()
        print(f"  commit of {len(many) // 5} deletions: {time.perf_counter() - start:.2f} s")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    print(f"peak memory above the texts: {grown:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
