"""A process that writes to a collection until it is killed, and says on standard output what was acknowledged.

Run as ``python _writer_process.py PATH RUN``. Each line on standard output is one JSON object, written after the call it
describes has returned: ``{"add": [ids]}``, ``{"delete": [ids]}``, ``{"compact": true}`` and so on.
"""

from __future__ import annotations

import json
import sys
import zlib

import numpy as np

import octavo

DIM = 16
BATCH = 25


def vector_of(identifier: str) -> np.ndarray:
    """The vector that belongs to an id, so that the checking process need not be told."""
    return np.random.default_rng(zlib.crc32(identifier.encode())).standard_normal(DIM).astype(np.float32)


def main() -> None:
    path, run = sys.argv[1], sys.argv[2]
    rng = np.random.default_rng(int(run))
    with octavo.open(path, codec="int8 > float16", fit_after=300, lock_timeout=60) as kb:
        acknowledge({"open": len(kb)})
        step = 0
        while True:
            ids = [f"{run}/{step}/{number}" for number in range(BATCH)]
            acknowledge({"try_add": ids})
            kb.add(
                [f"words of {identifier}" for identifier in ids],
                ids=ids,
                metadata=[{"batch": f"{run}/{step}", "number": number} for number in range(BATCH)],
                vectors=np.stack([vector_of(identifier) for identifier in ids]),
            )
            acknowledge({"add": ids})
            if step % 4 == 3:
                victims = list(rng.choice(kb.ids(), 10, replace=False))
                acknowledge({"try_delete": victims})
                kb.delete(victims)
                acknowledge({"delete": victims})
            if step % 9 == 5:
                kb.search("words", 3, mode="text")
            if step % 13 == 7:
                kb.compact()
            if step % 17 == 11:
                kb.refit()
            if step % 7 == 6:
                kb.flush()
            step += 1


def acknowledge(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
