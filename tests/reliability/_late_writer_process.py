"""A process that writes to a multi-vector collection until it is killed; see `_writer_process.py`."""

from __future__ import annotations

import json
import sys
import zlib

import numpy as np

import octavo

DIM = 16
BATCH = 20


def tokens_of(identifier: str) -> np.ndarray:
    """The token vectors that belong to an id, so that the checking process need not be told."""
    rng = np.random.default_rng(zlib.crc32(identifier.encode()))
    return rng.standard_normal((int(rng.integers(2, 9)), DIM)).astype(np.float32)


def main() -> None:
    path, run = sys.argv[1], sys.argv[2]
    rng = np.random.default_rng(int(run))
    with octavo.open_multi_vector(path, codec="int8", pool_factor=1, fit_after=150, lock_timeout=60) as kb:
        acknowledge({"open": len(kb)})
        step = 0
        while True:
            ids = [f"{run}/{step}/{number}" for number in range(BATCH)]
            acknowledge({"try_add": ids})
            kb.add(
                [f"words of {identifier}" for identifier in ids],
                ids=ids,
                metadata=[{"batch": f"{run}/{step}"} for _ in ids],
                token_vectors=[tokens_of(identifier) for identifier in ids],
            )
            acknowledge({"add": ids})
            if step % 3 == 2:
                victims = list(rng.choice(kb.ids(), 8, replace=False))
                acknowledge({"try_delete": victims})
                kb.delete(victims)
                acknowledge({"delete": victims})
            if step % 5 == 3:
                kb.compact()
            if step % 7 == 5:
                kb.refit()
            step += 1


def acknowledge(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
