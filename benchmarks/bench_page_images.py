"""Page images of real size without a model: synthetic patch grids, pooled and compressed; bytes, building, queries.

``python benchmarks/bench_page_images.py --pages 1000``

A page has 32 x 32 patches of 128 values and six special vectors, as ColPali gives them. The patches are made of blocks
(paragraphs, pictures, margins), each with a topic of its own, and each patch is its block's topic, a direction that all pages
share for where it lies, and noise of its own. A query is ten vectors near patches of one page, with noise. So agreement below
says how well pooling and codes keep what the whole page would have answered; it says nothing about any model's quality.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import octavo
from octavo.compression import SpatialPooling, TokenPooling

SIDE, DIM, SPECIAL = 32, 128, 6
GRID = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def made_page(rng: np.random.Generator, places: np.ndarray, special: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """Return the vectors of a page: patches row by row, then the special ones."""
    blocks = np.zeros((SIDE, SIDE), np.int64)
    for number in range(1, rng.integers(12, 40)):
        top, left = rng.integers(0, SIDE, 2)
        height, width = rng.integers(1, 7), rng.integers(3, 20)
        blocks[top : top + height, left : left + width] = number
    chosen = topics[rng.integers(0, len(topics), 40)] + 0.5 * rng.standard_normal((40, DIM))
    patches = unit(chosen)[blocks.ravel()] + 0.35 * places + 0.55 * unit(rng.standard_normal((SIDE * SIDE, DIM)))
    return np.concatenate([unit(patches), unit(special + 0.1 * rng.standard_normal(special.shape))])


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pages", type=int, default=1_000)
    options.add_argument("--queries", type=int, default=50)
    asked = options.parse_args()
    rng = np.random.default_rng(0)
    places, special = unit(rng.standard_normal((SIDE * SIDE, DIM))), rng.standard_normal((SPECIAL, DIM))
    topics = rng.standard_normal((2_000, DIM))
    pages = [made_page(rng, places, special, topics) for _ in range(asked.pages)]
    queries = []
    for _ in range(asked.queries):
        page = pages[rng.integers(len(pages))]
        chosen = page[rng.choice(SIDE * SIDE, 10, replace=False)]
        queries.append(unit(chosen + 0.8 * unit(rng.standard_normal((10, DIM)))))
    exact = []
    for query in queries:
        scores = np.array([(query @ page.T).max(axis=1).sum() for page in pages])
        exact.append(set(np.argsort(-scores)[:10].tolist()))
    each = 2 * len(pages[0]) * DIM
    print(f"{len(pages):,} pages of {len(pages[0]):,} x {DIM}: {each:,} bytes a page in float16")
    print(
        "| pooling | codec | vectors a page | bytes a page | of float16 | agreement@10 | pooling s | add s | query ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    poolings = [None, TokenPooling(3), SpatialPooling(3), TokenPooling(9), SpatialPooling(9)]
    for pooling in poolings:
        began = time.process_time()
        if isinstance(pooling, SpatialPooling):
            pooled = [pooling.pool_page(page, GRID) for page in pages]
        elif pooling is not None:  # the special vectors are left alone, as in a collection that knows the grid
            sized = TokenPooling(pooling.factor, protected=0)
            pooled = [np.concatenate([page[-SPECIAL:], sized.pool([page[:-SPECIAL]])[0]]) for page in pages]
        else:
            pooled = pages
        seconds = time.process_time() - began
        for codec in ("int8", "rotate|int4", "rotate|int2"):
            with octavo.open_multi_vector(dim=DIM, codec=codec, pool_factor=1, fit_after=min(1_000, len(pages))) as kb:
                began = time.process_time()
                kb.add(ids=[str(number) for number in range(len(pages))], token_vectors=pooled)
                kb.flush()
                added = time.process_time() - began
                assert kb.info().fitted
                kb.search(queries[0], k=10)
                began = time.process_time()
                found = [{int(name) for name in kb.search(query, k=10).ids} for query in queries]
                spent = (time.process_time() - began) / len(queries) * 1e3
                agreement = np.mean([len(one & two) / 10 for one, two in zip(found, exact, strict=True)])
                tokens = sum(map(len, pooled)) / len(pages)
                row_bytes = {"int8": DIM, "rotate|int4": DIM // 2, "rotate|int2": DIM // 4}[codec]
                size = tokens * row_bytes + 8 + DIM
                name = repr(pooling) if pooling is not None else "none"
                print(
                    f"| {name} | `{codec}` | {tokens:,.0f} | {size:,.0f} | 1/{each / size:.0f} | {agreement:.3f} "
                    f"| {seconds:.0f} | {added:.1f} | {spent:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
