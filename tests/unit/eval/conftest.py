"""A tiny collection in BEIR layout, and encoders that need no model."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from octavo.eval import Dataset, Timing

WORDS = ("red", "green", "blue", "round", "square", "heavy", "light", "old", "new", "soft", "loud", "quick")
DIM = 32


class HashEncoder:
    """Sums of one random vector for each word: texts that share words are near. Counts what it is asked for."""

    name = "hash"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        vectors = np.zeros((len(texts), DIM), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split()[:200]:
                vectors[row] += np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)
        return vectors

    encode_documents = _encode
    encode_queries = _encode


@pytest.fixture
def encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture
def quick() -> Timing:
    """Times as little as can be."""
    return Timing(queries=2, repeats=1, warmup=0)


def make_texts(n: int) -> list[str]:
    rng = np.random.default_rng(7)
    return [f"{' '.join(rng.choice(WORDS, 4))} thing{number}" for number in range(n)]


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A folder of 60 documents and 12 judged queries; one more query has no judgement, as in real BEIR folders."""
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    texts = make_texts(60)
    lines = [
        {"_id": f"d{n}", "title": text.split()[0], "text": " ".join(text.split()[1:])} for n, text in enumerate(texts)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    queries = [{"_id": f"q{n}", "text": " ".join(texts[n * 4].split()[:2])} for n in range(13)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)) + "\n")
    rows = ["query-id\tcorpus-id\tscore"]
    for number in range(12):
        rows += [f"q{number}\td{number * 4}\t2", f"q{number}\td{number * 4 + 1}\t1", f"q{number}\td{number}\t0"][
            : 2 + number % 2
        ]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def tiny() -> Dataset:
    """Forty documents and eight queries in memory."""
    texts = make_texts(40)
    return Dataset(
        name="memory",
        document_ids=[f"d{n}" for n in range(40)],
        texts=texts,
        query_ids=[f"q{n}" for n in range(8)],
        queries=[" ".join(texts[n * 5].split()[:3]) for n in range(8)],
        qrels={f"q{n}": {f"d{n * 5}": 1, f"d{n}": 2} for n in range(8)},
    )
