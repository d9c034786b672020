"""What a search by defaults finds while a collection grows, and of questions that nothing was chosen on.

``python benchmarks/bench_growing.py VECTORS.npz --questions QUESTIONS.npz`` adds the documents ``D`` 1,000 at a time to a
collection on disk, in the order of the file and in random order, with a search after each call, as an application would. At
some sizes it asks the questions of each set of the second file, without waiting for what goes on in the background, and
prints which share of the ten best an exact search of the same codes finds, with an interval of 95 % over the questions.
Questions of the documents' own, ``Q``, can stand in for the second file. Nothing is timed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

import octavo
from common import K


def unit(matrix: np.ndarray) -> np.ndarray:
    """Return rows of unit length."""
    floats = matrix.astype(np.float32)
    return floats / np.linalg.norm(floats, axis=1, keepdims=True)


def found(kb: octavo.Collection, questions: np.ndarray) -> np.ndarray:
    """Return which share of the best each question finds; a document that scores as the last of them is as good."""
    least = [result.scores[-1] for result in kb.search_batch(questions, K, exact=True)]
    return np.array(
        [
            np.count_nonzero(kb.search(question, K).scores >= worst - 1e-6 * abs(worst)) / K
            for question, worst in zip(questions, least, strict=True)
        ]
    )


def main() -> None:
    """Print a line for each order, size and set of questions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--sets", nargs="+", help="which sets of questions; all by default")
    parser.add_argument("--most", type=int, default=300, help="questions of each set")
    parser.add_argument("--codec", default="int8")
    parser.add_argument("--orders", nargs="+", choices=("random", "file"), default=["random", "file"])
    parser.add_argument("--sizes", default="30000,45000,60000,75000,90000")
    parser.add_argument("--step", type=int, default=1_000, help="documents a call; 0 adds all that are missing in one")
    arguments = parser.parse_args()
    with np.load(arguments.vectors) as archive:
        documents, own = unit(archive["D"]), unit(archive["Q"]) if "Q" in archive else None
    if arguments.questions is not None:
        with np.load(arguments.questions) as archive:
            sets = {name: unit(archive[name][: arguments.most]) for name in arguments.sets or archive}
    elif own is not None:
        sets = {"own": own[: arguments.most]}
    else:
        parser.error("expected questions: --questions FILE.npz, or Q beside D")
    for order in arguments.orders:
        rows = documents
        if order == "random":
            rows = documents[np.random.default_rng(1).permutation(len(documents))]
        with tempfile.TemporaryDirectory() as folder, octavo.open(Path(folder) / "kb", codec=arguments.codec) as kb:
            done = 0
            for size in map(int, arguments.sizes.split(",")):
                for start in range(done, size, arguments.step or size):
                    kb.add(vectors=rows[start : min(start + (arguments.step or size), size)], batch_size=4_096)
                    kb.search(rows[start], K)
                done = size
                covered = kb.info().index_covers
                for name, questions in sets.items():
                    shares = found(kb, questions)
                    interval = bootstrap(
                        (shares,), np.mean, method="percentile", rng=np.random.default_rng(0)
                    ).confidence_interval
                    print(
                        f"{arguments.vectors.stem} {order} {size} ({covered} in cells) {name}: {shares.mean():.3f} "
                        f"({interval.low:.3f}-{interval.high:.3f}, {len(shares)} questions)",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
