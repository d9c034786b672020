"""Writes the collections of this directory. Run once, by the first version that wrote format 1; kept to show what is in them.

    python tests/data/format-v1/make_fixtures.py EMPTY_DIRECTORY

Do not replace what is committed by what a later version writes: that today's code reads the old bytes is the whole point.
A new case gets a new directory beside these.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo.collection import reencoding as collection_reencoding
from octavo.index import planner
from octavo.store import _originals

DIM = 16
N = 80
#: One red point, as PNG.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de000"
    "0000c4944415478da63f8cfc0000003010100f70341430000000049454e44ae426082"
)
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty"]


def vectors(n: int, seed: int) -> np.ndarray:
    """Return rounded vectors, so that JSON holds them exactly."""
    return np.round(np.random.default_rng(seed).standard_normal((n, DIM)) * 64) / 64


def matrices(n: int, seed: int) -> list[np.ndarray]:
    """Return token vectors, between none and five a document."""
    lengths = np.random.default_rng(seed).integers(0, 6, n)
    lengths[0] = 3
    return [vectors(int(length), seed * 1000 + i) for i, length in enumerate(lengths)]


def fill(kb: octavo.Collection, **given: Any) -> None:
    """Add, replace and delete documents with everything that a document can have."""
    kb.add(
        [f"{WORDS[i % 10]} {WORDS[i % 7]} naïve 北京 {i}" for i in range(N)],
        ids=[f"doc-{i}" if i % 9 else f"dök/{i} 😀" for i in range(N)],
        metadata=[
            {
                "n": i,
                "even": i % 2 == 0,
                "tags": [WORDS[i % 3]],
                "deep": {"a": {"b": i / 4}},
                "none": None,
                "when": date(2024, 1, 1) + timedelta(days=i),
            }
            for i in range(N)
        ],
        payloads=[json.dumps({"i": i}) if i % 3 else None for i in range(N)],
        **given,
    )


def expected(kb: octavo.Collection, queries: list[Any]) -> dict[str, Any]:
    """Return what the collection answers."""
    searches = []
    for query in queries:
        for options in ({}, {"filter": {"even": True}}, {"exact": True}, {"mode": "hybrid", "text": "amber birch"}):
            found = kb.search(query, 5, **options)
            searches.append(
                {
                    "query": np.asarray(query).tolist(),
                    "options": options,
                    "ids": found.ids,
                    "scores": [round(float(score), 6) for score in found.scores],
                }
            )
    ids = kb.ids()
    return {
        "ids": ids,
        "documents": [[d.id, d.text, json.dumps(d.metadata, default=date.isoformat)] for d in kb.get(ids)],
        "payloads": kb.get_payloads(ids),
        "searches": searches,
        "text": {word: kb.search(word, 3, mode="text").ids for word in ("amber", "北京", "naive", "absent")},
        "counts": [
            [where, kb.count(where)]
            for where in (
                {"n": {"$gte": 40}},
                {"tags": "birch"},
                {"deep.a.b": {"$lt": 5}},
                {"none": None},
                {"when": {"$lt": "2024-02-01"}},
            )
        ],
        "codec": kb.codec,
        "fitted": kb.info().fitted,
        "vectors": np.round(kb.get_vectors(ids[:3]).astype(np.float64), 6).tolist(),
    }


def dense(path: Path, codec: str, *, fit_after: int = 30, index: Any = None, metric: Any = "cosine") -> dict[str, Any]:
    """Write a collection with one vector a document; with the index that is asked for, small as it is."""
    if index is not None:
        planner.limits = planner.Limits(graph_min=50, cells_min=50, tail_max=10)
    with octavo.open(path, codec=codec, fit_after=fit_after, metric=metric, index=index) as kb:
        fill(kb, vectors=vectors(N, 1))
        kb.add(["grove replaced"], ids=["doc-4"], metadata=[{"n": 4, "even": True}], vectors=vectors(1, 2))
        kb.delete(["doc-1", "doc-50"])
        return expected(kb, list(vectors(4, 3)))


def late(path: Path) -> dict[str, Any]:
    """Write a collection with many vectors a document."""
    with octavo.open_multi_vector(path, codec="int8", fit_after=30) as kb:
        fill(kb, token_vectors=matrices(N, 1))
        kb.add(["grove replaced"], ids=["doc-4"], metadata=[{"n": 4, "even": True}], token_vectors=[vectors(2, 2)])
        kb.delete(["doc-1", "doc-50"])
        return expected(kb, [vectors(3, seed) for seed in range(4)])


def late_cells(path: Path) -> dict[str, Any]:
    """Write a collection with token cells, small as it is, and the image of a page that is kept in it."""
    planner.limits = planner.Limits(token_cells_min=50, token_tail_max=10)
    with octavo.open_multi_vector(path, codec="rabitq:2", fit_after=30) as kb:
        fill(kb, token_vectors=matrices(N, 11))
        page = octavo.PageImage(PICTURE, text="grove in colour")
        kb.add([page], ids=["page"], metadata=[{"n": 0, "even": True}], token_vectors=[vectors(4, 12)])
        kb.delete(["doc-1", "doc-50"])
        kb.flush()
        (document,) = kb.get(["page"])
        return {**expected(kb, [vectors(3, seed) for seed in range(4)]), "image": document.embed_text}


def terms(n: int, seed: int) -> list[dict[int, float]]:
    """Return learned sparse vectors, between none and seven terms a document."""
    rng = np.random.default_rng(seed)
    return [
        {int(term): round(float(rng.uniform(0.1, 3)), 3) for term in rng.choice(60, rng.integers(0, 8), replace=False)}
        for _ in range(n)
    ]


def everything_else(path: Path) -> dict[str, Any]:
    """Write learned sparse vectors (in a segment and waiting), texts that are embedded, changed texts, and a note."""
    more = 230
    with octavo.open(path, codec="int8", fit_after=30) as kb:
        fill(kb, vectors=vectors(N, 1), sparse_vectors=terms(N, 4), embed_texts=[f"context {i}" for i in range(N)])
        kb.add(
            [f"more {WORDS[i % 10]} {i}" for i in range(more)],
            ids=[f"more-{i}" for i in range(more)],
            vectors=vectors(more, 5),
            sparse_vectors=terms(more, 6),
        )
        kb.add(["few"], ids=["few"], vectors=vectors(1, 7), sparse_vectors=[{3: 1.5, 2**31: 0.25}])
        kb.update(["doc-4", "more-7"], metadata=[{"n": 4, "even": True}, {"n": 99}], texts=["grove updated", None])
        kb.delete(["doc-1", "doc-50", "more-3"])
        kb.set_note("reading", "by lamplight")
        searches = [{3: 1.0}, {1: 0.5, 2: 1.0, 40: 2.0}, {2**31: 1.0}]
        found = [kb.search(None, 5, mode="sparse", sparse_vector=vector) for vector in searches]
        return expected(kb, list(vectors(4, 3))) | {
            "sparse": [
                [list(map(list, vector.items())), result.ids, [round(float(score), 6) for score in result.scores]]
                for vector, result in zip(searches, found, strict=True)
            ],
            "embed_texts": [document.embed_text for document in kb.get(["doc-4", "doc-5", "more-7"])],
            "notes": kb.notes(),
        }


class Model:
    """Vectors, or matrices of one row a word, that depend on a name and a text alone; stops after some texts."""

    def __init__(self, name: str, dim: int, *, many: bool = False) -> None:
        self.name, self.dim, self.many = name, dim, many
        self.left: int | None = None

    def encode_documents(self, texts: Any) -> Any:
        if self.left is not None:
            self.left -= len(texts) if len(texts) > 1 else 0
            if self.left < 0:
                raise ConnectionError("no network")
        return self.encode_queries(texts)

    def encode_queries(self, texts: Any) -> Any:
        if self.many:
            return [np.stack([self._vector(word) for word in text.split() or ["nothing"]]) for text in texts]
        return np.stack([sum((self._vector(word) for word in text.split()), np.zeros(self.dim)) for text in texts])

    def _vector(self, word: str) -> np.ndarray:
        numbers = np.random.default_rng(zlib.crc32(f"{self.name} {word}".encode())).standard_normal(self.dim)
        return np.round(numbers * 64) / 64


#: What each collection whose model is being changed is changed to.
COMING = {
    "reencoding": Model("new", 24),
    "reencoding-fitted": Model("new", 24),
    "reencoding-late": Model("new", 24, many=True),
}
OLD = Model("old", DIM)


def reencoding(path: Path, name: str, *, waiting: int | None = None) -> dict[str, Any]:
    """Write a collection whose model is being changed: most documents have both vectors, some were replaced since."""
    coming = COMING[name]
    if waiting is not None:  # so many documents that the codec is learned from a sample
        collection_reencoding.WAITING, _originals.CAPACITY = waiting, 40
    with octavo.open(path, OLD, codec="int8", fit_after=30) as kb:
        fill(kb)
        kb.delete(["doc-1", "doc-50"])
        coming.left = 70 if waiting is None else 77
        with contextlib.suppress(ConnectionError):
            kb.reencode(octavo.TokenEncoder(coming) if coming.many else coming, batch_size=10)
        coming.left = None
        kb.add(["grove replaced"], ids=["doc-4"], metadata=[{"n": 4, "even": True}])
        kb.delete(["doc-2"])
        kb.flush()
        state = dict(kb.info().reencoding or {})
        assert state["documents"] >= 64
        both = [kb.search(query, 5) for query in QUESTIONS]
        assert {found.reencoding for found in both} == {"both"}
        return expected(kb, list(vectors(4, 3))) | {
            "reencoding": {
                key: state[key] for key in ("encoder", "late", "codec", "serve", "documents", "of", "bytes")
            },
            "both": [[found.ids, [round(float(score), 6) for score in found.scores]] for found in both],
        }


#: Asked by both models.
QUESTIONS = ["amber birch 3", "fjord 北京", "jetty grove naïve 41"]


def without_text_index(make: Callable[..., dict[str, Any]], path: Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Write a collection whose full-text index has not been built yet, as a snapshot leaves it."""
    with tempfile.TemporaryDirectory() as folder:
        answers = make(Path(folder) / "kb", *args, **kwargs)
        with octavo.open(Path(folder) / "kb") as kb:
            kb.snapshot(path)
    return answers


def tidy(path: Path) -> None:
    """Take away what the full-text index does not need any more, and the lock file, which is made anew."""
    (path / "octavo.lock").unlink()
    current = max((path / "text").iterdir())
    for entry in (path / "text").iterdir():
        if entry != current:
            shutil.rmtree(entry)
    for entry in current.glob(".tantivy-*.lock"):
        entry.unlink()


def main(target: Path) -> None:
    """Write the collections, what they answer, and the checksums of all files."""
    answers = {
        "unfitted-float32": without_text_index(dense, target / "unfitted-float32", "int8", fit_after=1_000),
        "svd-float8-int8": dense(target / "svd-float8-int8", "svd:50%|float8 > int8"),
        "rabitq-int8": without_text_index(dense, target / "rabitq-int8", "rabitq:1 > int8"),
        "rabitq-dot": without_text_index(dense, target / "rabitq-dot", "rabitq:4", metric="dot"),
        "dot-float16": without_text_index(dense, target / "dot-float16", "float16", metric="dot"),
        "multi-vector": without_text_index(late, target / "multi-vector"),
        "everything-else": without_text_index(everything_else, target / "everything-else"),
        "reencoding": without_text_index(reencoding, target / "reencoding", "reencoding"),
        "reencoding-late": without_text_index(reencoding, target / "reencoding-late", "reencoding-late"),
        "rabitq-int8-cells": dense(target / "rabitq-int8-cells", "rabitq:1 > int8", index="cells"),
        "binary-int8-graph": dense(target / "binary-int8-graph", "binary > int8", index="graph"),
        "reencoding-fitted": without_text_index(
            reencoding, target / "reencoding-fitted", "reencoding-fitted", waiting=60
        ),
        "multi-vector-cells": late_cells(target / "multi-vector-cells"),
    }
    tidy(target / "svd-float8-int8")
    tidy(target / "binary-int8-graph")
    tidy(target / "rabitq-int8-cells")
    tidy(target / "multi-vector-cells")
    answers["created_with"] = octavo.__version__
    (target / "expected.json").write_text(json.dumps(answers, ensure_ascii=False, indent=0), encoding="utf-8")
    files = sorted(entry for entry in target.rglob("*") if entry.is_file() and entry.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(entry.read_bytes()).hexdigest()}  {entry.relative_to(target).as_posix()}" for entry in files
    ]
    (target / "SHA256SUMS").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
