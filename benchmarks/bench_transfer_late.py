"""Move a collection for late interaction into Qdrant's core and back: is what comes back equal, and what does it cost?

    OMP_NUM_THREADS=1 python benchmarks/bench_transfer_late.py --data ../shared/data --cache tokens/ --set cranfield

pushes with ``octavo push`` into a directory of Qdrant's core, kills the pushing process, pushes again, and pulls into a new
collection. The ten best of each query, without options and with ``exact=True``, are compared among the three. Token vectors
come from all-MiniLM-L6-v2 by way of the cache. Results are JSON lines.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from bench_transfer import octavo_command, run
from octavo.integrations.qdrant import open_collection
from token_sets import K, TokenSet, add_token_options, load_token_sets


def build(path: Path, data: TokenSet, codec: str) -> None:
    """Make the collection, pooled by two."""
    dataset = data.dataset
    with octavo.open_multi_vector(path, codec=codec, pool_factor=2) as kb:
        kb.add(
            dataset.texts,
            ids=dataset.document_ids,
            metadata=[{"row": row, "length": len(text) / 1000} for row, text in enumerate(dataset.texts)],
            payloads=[None if row % 2 else f'{{"n": {row}}}' for row in range(len(dataset.texts))],
            token_vectors=list(data.documents),
        )


def documents(kb: Any) -> dict[str, tuple[Any, str | None]]:
    """Return every document with its payload."""
    ids = kb.ids()
    return dict(zip(ids, zip(kb.get(ids), kb.get_payloads(ids), strict=True), strict=True))


def compare(one: Any, other: Any, queries: list[Any]) -> dict[str, Any]:
    """Return in what two collections are equal: share of queries with the same ten in the same order, and shared of them."""
    found: dict[str, Any] = {"documents": documents(one) == documents(other)}
    ids = one.ids()
    pairs = zip(one.get_token_vectors(ids), other.get_token_vectors(ids), strict=True)
    found["largest difference of a token"] = float(max(np.abs(a - b).max() for a, b in pairs if len(a)))
    for name, exact in (("answers", None), ("exact answers", True)):
        answers = [kb.search_batch(queries, K, exact=exact) for kb in (one, other)]
        shared = [(a.ids == b.ids, len(set(a.ids) & set(b.ids)) / K) for a, b in zip(*answers, strict=True)]
        equal, common = np.mean(shared, axis=0).round(4).tolist()
        found[name] = {"equal": equal, "shared": common}
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_token_options(parser)
    parser.add_argument("--set", default="cranfield")
    parser.add_argument("--codec", action="append", help="may be given several times (default: three)")
    parser.add_argument("--kill-after", type=float, default=8.0, help="seconds until the first push is killed")
    arguments = parser.parse_args()
    (data,) = load_token_sets(arguments.data, [arguments.set], arguments.cache)
    queries = list(data.queries)
    for codec in arguments.codec or ["float16", "int8", "svd:128|int8"]:
        work = Path(tempfile.mkdtemp(prefix="octavo-transfer-"))
        place = f"qdrant:{work / 'there'}"
        try:
            build(work / "kb", data, codec)
            with subprocess.Popen(
                octavo_command("push", str(work / "kb"), "--to", place, "--batch-size", "64")
            ) as process:
                try:
                    process.wait(arguments.kill_after)
                    print("the push ended before it could be killed: give a smaller --kill-after", file=sys.stderr)
                except subprocess.TimeoutExpired:
                    process.kill()
            pushed, push_s = run("push", str(work / "kb"), "--to", place)
            pulled, pull_s = run("pull", place, str(work / "back"))
            line = {
                "codec": codec,
                "push, resumed": pushed,
                "s": round(push_s, 1),
                "pull": pulled,
                "pull s": round(pull_s, 1),
            }
            print(json.dumps(line), flush=True)
            with octavo.open(work / "kb") as one, octavo.open(work / "back") as back, open_collection(place) as there:
                print(json.dumps({"codec": codec, "vectors": int(one._current().tokens.codes.shape[0])}))
                print(json.dumps({"source and pulled": compare(one, back, queries)}), flush=True)
                print(json.dumps({"source and Qdrant": compare(one, there, queries)}), flush=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
