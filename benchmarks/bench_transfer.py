"""Move a collection of 100,000 documents to another place and back: is what comes back equal, and what does it cost?

    python benchmarks/bench_transfer.py --documents 100000 --codec 'binary > int8' --place there/

pushes to a place as ``octavo push`` understands it, kills the pushing process, pushes again, pulls into a new collection and
compares: ids, texts, metadata, payloads, stored codes, and the ten best for 1,000 queries, exact and by graph. Vectors as in
``bench_collection.py``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from bench_collection import make_vectors
from common import metadata_of, text_of


def build(path: Path, n: int, codec: str, source: Path | None) -> np.ndarray:
    """Make the collection; returns queries."""
    vectors, queries = make_vectors(n, 1000, 384, source)
    with octavo.open(path, codec=codec) as kb:
        kb.add(
            [text_of(i) for i in range(n)],
            ids=[f"doc/{i}" for i in range(n)],
            metadata=[metadata_of(i) for i in range(n)],
            payloads=[None if i % 2 else json.dumps({"n": i}) for i in range(n)],
            vectors=vectors,
        )
    return queries


def octavo_command(*arguments: str) -> list[str]:
    """Return the command line that runs ``octavo``."""
    return [sys.executable, "-c", "from octavo.cli import main; main()", *arguments]


def run(*arguments: str) -> tuple[dict[str, Any], float]:
    """Run a command to its end; returns what it printed, and the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run(octavo_command(*arguments, "--json"), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr}")
    return json.loads(done.stdout), time.perf_counter() - start


def compare(one: octavo.Collection, other: octavo.Collection, queries: np.ndarray) -> dict[str, Any]:
    """Return in what two collections are equal."""
    ids = sorted(one.ids())
    found: dict[str, Any] = {"ids": ids == sorted(other.ids()), "documents": True, "payloads": True, "vectors": True}
    for start in range(0, len(ids), 5000):
        part = ids[start : start + 5000]
        found["documents"] &= one.get(part) == other.get(part)
        found["payloads"] &= one.get_payloads(part) == other.get_payloads(part)
        found["vectors"] &= bool(np.array_equal(one.get_vectors(part), other.get_vectors(part)))
    for name, exact in (("exact answers", True), ("answers", None)):
        pairs = zip(
            one.search_batch(queries, 10, exact=exact), other.search_batch(queries, 10, exact=exact), strict=True
        )
        shared = [(a.ids == b.ids, len(set(a.ids) & set(b.ids)) / 10) for a, b in pairs]
        found[name] = {
            "equal": float(np.mean([s[0] for s in shared])),
            "shared": float(np.mean([s[1] for s in shared])),
        }
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--codec", default="binary > int8")
    parser.add_argument("--embeddings", type=Path, help="real embeddings (.npy) to make the vectors from")
    parser.add_argument(
        "--place", help="where to push to (default: a directory that is deleted afterwards; qdrant:DIR)"
    )
    parser.add_argument("--kill-after", type=float, default=8.0, help="seconds until the first push is killed")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="octavo-transfer-"))
    place = arguments.place or str(work / "there")
    try:
        queries = build(work / "kb", arguments.documents, arguments.codec, arguments.embeddings)
        with subprocess.Popen(octavo_command("push", str(work / "kb"), "--to", place)) as process:
            try:
                process.wait(arguments.kill_after)
                print("the push ended before it could be killed: give a smaller --kill-after", file=sys.stderr)
            except subprocess.TimeoutExpired:
                process.kill()
        pushed, seconds = run("push", str(work / "kb"), "--to", place)
        print(json.dumps({"push, resumed": pushed, "s": round(seconds, 1)}), flush=True)
        pulled, seconds = run("pull", place, str(work / "back"))
        print(json.dumps({"pull": pulled, "s": round(seconds, 1)}), flush=True)
        with octavo.open(work / "kb") as one, octavo.open(work / "back") as other:
            print(json.dumps(compare(one, other, queries)))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
