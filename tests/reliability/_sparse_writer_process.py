"""As `_writer_process`, with learned sparse vectors that are sealed into segments every other batch."""

from __future__ import annotations

import json
import sys
import zlib

import numpy as np

import octavo
from octavo.store import sparse as store_sparse

BATCH = 25


def sparse_of(identifier: str) -> dict[int, float]:
    """The sparse vector that belongs to an id."""
    rng = np.random.default_rng(zlib.crc32(identifier.encode()))
    return {int(term): float(rng.random() + 0.1) for term in rng.choice(200, 12, replace=False)}


def acknowledge(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    store_sparse.SEALED_AT = 40
    path, run = sys.argv[1], sys.argv[2]
    rng = np.random.default_rng(int(run))
    with octavo.open(path, lock_timeout=60) as kb:
        acknowledge({"open": len(kb)})
        step = 0
        while True:
            ids = [f"{run}/{step}/{number}" for number in range(BATCH)]
            acknowledge({"try_add": ids})
            kb.add(ids=ids, documents=[""] * BATCH, sparse_vectors=[sparse_of(identifier) for identifier in ids])
            acknowledge({"add": ids})
            if step % 4 == 3:
                victims = list(rng.choice(kb.ids(), 10, replace=False))
                acknowledge({"try_delete": victims})
                kb.delete(victims)
                acknowledge({"delete": victims})
            if step % 13 == 7:
                kb.compact(secure=bool(step % 2))
            step += 1


if __name__ == "__main__":
    main()
