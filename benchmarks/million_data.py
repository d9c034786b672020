"""The vectors of `bench_million.py`, made once and kept: documents, real questions, and their exact best ten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import corpora
from common import exact_top

_BLOCK = 1_000_000


def prepare(work: Path, n: int, dim: int, embeddings: Path | None, n_queries: int, seed: int = 0) -> Path:
    """Return the folder with documents.npy, queries.npy and truth.npy, made if it is not there.

    With `embeddings` (a folder that ``corpora.py`` filled), documents are its sentences extended by `corpora.extend` and
    queries its questions. Without, or for another dimension, both are drawn from a mixture whose spectrum falls as that of
    sentence models does.
    """
    source = "synthetic" if embeddings is None else "sentences"
    folder = work / f"data-{source}-{n}-{dim}"
    if (folder / "truth.npy").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed + 1)
    if embeddings is not None:
        real = np.load(embeddings / "sentences.npy")
        if real.shape[1] != dim:
            raise SystemExit(f"expected embeddings of dimension {dim}, those in {embeddings} have {real.shape[1]}")
        questions = np.load(embeddings / "questions.npy")
        queries = questions[rng.choice(len(questions), n_queries, replace=False)]
        blocks = iter([real[:n]]) if n <= len(real) else _extended(real, _near(embeddings, real), n, seed)
    else:
        both = _mixture(n + n_queries, dim, rng)
        queries, blocks = both[n:], iter([both[:n]])
    _save_blocks(folder / "documents.npy", blocks, (n, dim), rng)
    documents = np.load(folder / "documents.npy", mmap_mode="r")
    _save(folder / "queries.npy", queries)
    _save(folder / "truth.npy", exact_top(documents, queries))
    return folder


def _extended(real: np.ndarray, near: np.ndarray, n: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks of at most a million rows, each with its share of the real ones, so that ten million fit into memory."""
    count = -(-n // _BLOCK)
    sizes = [len(part) for part in np.array_split(np.empty(n, np.bool_), count)]
    for number, (share, size) in enumerate(zip(np.array_split(real, count), sizes, strict=True)):
        made = corpora.extend(real, near, len(real) + size - len(share), seed=seed + number)[len(real) :]
        yield np.concatenate([share, made])


def _near(embeddings: Path, real: np.ndarray) -> np.ndarray:
    file = embeddings / "near.npy"
    if not file.is_file():
        _save(file, corpora.neighbours(real))
    return np.load(file)


def _mixture(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
    centres = rng.standard_normal((max(1, n // 200), dim), dtype=np.float32) * spectrum
    out = np.empty((n, dim), np.float32)
    for start in range(0, n, 50_000):
        count = min(50_000, n - start)
        points = rng.standard_normal((count, dim), dtype=np.float32) * spectrum
        out[start : start + count] = corpora.unit((centres[rng.integers(0, len(centres), count)] + points) @ turn)
    return out


def _save_blocks(path: Path, blocks: Iterator[np.ndarray], shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Write blocks of rows, each shuffled: then a prefix is a fair sample, and the order of insertion says nothing."""
    draft = path.with_name(path.name + ".tmp")
    out = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    for block in blocks:
        out[start : start + len(block)] = block[rng.permutation(len(block))]
        start += len(block)
    out.flush()
    os.replace(draft, path)


def _save(path: Path, array: np.ndarray) -> None:
    """Write the whole file or none of it, so that an interrupted run leaves nothing half made."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        np.save(file, array)
    os.replace(draft, path)
