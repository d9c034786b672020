"""Results as a run would have written them, made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

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
        model=ModelInfo(name=model, fingerprint="f" * 16, dim=dim) if model else None,
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
