"""The process that the demo kills: writes batch after batch and says so after each.

Run as ``python -m octavo.demo._writer COLLECTION INPUT CODEC BATCH`` by `octavo.demo._crash.kill_a_writer`, which puts
``vectors.npy`` and ``documents.jsonl`` into the folder INPUT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import octavo


def write(path: str, folder: Path, codec: str, batch: int) -> None:
    """Add the documents batch by batch, and print after each how many are in."""
    vectors = np.load(folder / "vectors.npy")
    with (folder / "documents.jsonl").open(encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    with octavo.open(path, codec=codec, fit_after=2 * batch) as collection:  # fitted well before the kill
        for first in range(0, len(documents), batch):
            ids, texts, metadata = zip(*documents[first : first + batch], strict=True)
            collection.add(texts, ids=ids, metadata=metadata, vectors=vectors[first : first + batch])
            print(min(first + batch, len(documents)), flush=True)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
