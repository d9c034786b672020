"""The vectors of `bench_million.py`, made once and kept: documents, real questions, and their exact best ten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import corpora
from common import exact_top


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
        if n <= len(real):
            documents = real[:n]
        else:
            documents = corpora.extend(real, _near(embeddings, real), n, seed=seed)
        queries = questions[rng.choice(len(questions), n_queries, replace=False)]
    else:
        both = _mixture(n + n_queries, dim, rng)
        documents, queries = both[:n], both[n:]
    # `extend` puts the real ones first; in a shuffled file a prefix is a fair sample, and insertion order says nothing.
    documents = documents[rng.permutation(n)]
    _save(folder / "documents.npy", documents)
    _save(folder / "queries.npy", queries)
    _save(folder / "truth.npy", exact_top(documents, queries))
    return folder


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


def _save(path: Path, array: np.ndarray) -> None:
    """Write the whole file or none of it, so that an interrupted run leaves nothing half made."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        np.save(file, array)
    os.replace(draft, path)
