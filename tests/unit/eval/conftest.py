"""A tiny collection in BEIR layout, encoders that need no model, and results as a run would have written them, made up."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.eval import Dataset, Timing
from octavo.eval.configurations import Configuration, digest
from octavo.eval.results import (
    Agreement,
    Check,
    DatasetInfo,
    Environment,
    Latency,
    ModelInfo,
    Result,
    Speed,
    Storage,
)

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


MakeResult = Callable[..., Result]


def _make(
    codec: str | None = "int8",
    values: Sequence[float] = (0.5, 0.7, 0.9),
    *,
    ram: int = 384,
    disk: int = 2000,
    dataset: str = "toy",
    documents: int = 1000,
    model: str | None = "all-MiniLM-L6-v2",
    dim: int = 384,
    ok: bool = True,
    started: str = "2026-01-01T00:00:00Z",
    measures: Sequence[str] = ("nDCG@10", "R@100"),
    **options: Any,
) -> Result:
    configuration = Configuration(codec=codec, **options)
    ids = [f"q{i}" for i in range(len(values))]
    mean = sum(values) / len(values)
    baseline = configuration.kind == "baseline"
    per_query = {name: dict(zip(ids, map(float, values), strict=True)) for name in measures}
    return Result(
        id=digest([configuration.to_dict(), dataset, model, started]),
        label=configuration.label,
        kind=configuration.kind,
        configuration=configuration,
        dataset=DatasetInfo(
            name=dataset,
            split="test",
            source=dataset,
            documents=documents,
            queries=len(ids),
            judgements=len(ids),
            fingerprint=digest(dataset),
        ),
        model=ModelInfo(name=model, fingerprint="f" * 16, dim=dim, encoder=model) if model else None,
        quality=dict.fromkeys(measures, mean),
        per_query=per_query,
        agreement=Agreement(
            depth=10,
            float32=0.98,
            same_codes=1.0,
            codes_float32=0.98,
            per_query={"float32": dict.fromkeys(ids, 0.98)},
        ),
        storage=Storage(
            measured=not baseline,
            documents=documents,
            vector_bytes_per_document=float(ram),
            ram_bytes_per_document=float(ram),
            index_bytes_per_document=float(ram),
            disk_bytes_per_document=float(disk),
            ram={"coarse tier": ram * documents},
            disk={} if baseline else {"tier 0": ram * documents, "documents": (disk - ram) * documents},
        ),
        speed=Speed(
            build_seconds=1.5,
            latency_ms=None if baseline else Latency(p50=0.2, p95=0.4, p99=0.6, mean=0.25),
            queries_per_second=None if baseline else 4000.0,
            k=10,
            timed_queries=3,
            warmup=1,
            repeats=3,
        ),
        checks=[Check(name="finds what was stored", ok=ok, detail="2 of 3 documents found" if not ok else "all found")],
        environment=Environment(
            started=started,
            seconds=2.0,
            seed=0,
            command="octavo eval run --data toy",
            versions={"octavo": "0.1", "numpy": "2.0"},
            platform="Linux",
            cpu="a processor",
            cores=2,
            cpu_features=["avx2"],
        ),
        depth=100,
        run_file="toy.run",
        runs={"100": "toy.run"},
    )


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """Return a function that makes a result up."""
    return _make
