"""What a plan says of one machine is what a collection then takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo.compression import Codec
from octavo.errors import CodecError, ParameterError
from octavo.planning import Workload
from octavo.planning._local import local_size, tier_layouts

CODECS = [
    "float32", "int8", "binary > int8", "svd:50%|float8 > int8", "truncate:33%|int4", "pca:40|bfloat16",
    "rotate|int4 > float16", "binary > rotate|int2", "truncate:16|int8 > truncate:50%|int8 > svd:75%|float8",
]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dim", [64, 97])
def test_row_bytes_are_those_of_the_fitted_codec(codec: str, dim: int) -> None:
    fitted = Codec.parse(codec).fit(np.random.default_rng(0).standard_normal((200, dim)), lengths=False)
    expected = [(tier.layout.kind, tier.layout.dim, tier.layout.row_bytes) for tier in fitted]
    assert [(layout.kind, layout.dim, layout.row_bytes) for layout in tier_layouts(codec, dim)] == expected


@pytest.fixture(scope="module", params=["cells", "graph"])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Workload]:
    """A collection of 30,000 documents of different lengths, large enough for an index, and what it was made of."""
    n, dim, codec = 30_000, 32, "binary > int8"
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(3000)]
    lengths = rng.integers(1, 60, n)
    picks = rng.integers(0, len(words), int(lengths.sum()))
    ends = np.cumsum(lengths)
    texts = [" ".join(words[i] for i in picks[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    metadata = [{"year": int(year), "kind": f"k{year % 7}"} for year in rng.integers(1900, 2026, n)]
    ids = [f"document-{number}" for number in range(n)]
    path: Path = tmp_path_factory.mktemp("plan") / "kb"
    with octavo.open(path, codec=codec, index=request.param) as kb:
        kb.add(texts, ids=ids, metadata=metadata, vectors=rng.standard_normal((n, dim)), batch_size=4096)
        kb.flush()
    with octavo.open(path, must_exist=True) as kb:
        kb.search(np.ones(dim), 1)
        kb._index.wait()
        info = kb.info()
    workload = Workload(
        n,
        dim,
        codec,
        text_bytes=float(np.mean([len(text) for text in texts])),
        id_bytes=float(np.mean([len(identifier) for identifier in ids])),
        metadata_bytes=float(np.mean([len(json.dumps(m, separators=(",", ":"))) for m in metadata])),
        metadata_fields=2,
        full_text=False,
        index=request.param,
    )
    return info, workload


def test_against_a_real_collection(measured: tuple[Any, Workload]) -> None:
    info, workload = measured
    size = local_size(workload)
    assert size.disk.keys() == info.disk.keys()
    assert size.ram.keys() == info.ram.keys()
    for parts, found in ((size.disk, info.disk), (size.ram, info.ram)):
        for name, expected in parts.items():
            assert found[name] == pytest.approx(expected, rel=0.10), name
    assert info.disk_bytes == pytest.approx(size.disk_bytes, rel=0.07)
    assert info.ram_bytes == pytest.approx(size.ram_bytes, rel=0.05)


def test_token_vectors_against_a_real_collection() -> None:
    rng = np.random.default_rng(0)
    with octavo.open_multi_vector(codec="svd:50%|int8", pool_factor=2, fit_after=50) as kb:
        kb.add(["t"] * 200, token_vectors=[rng.standard_normal((20, 32)) for _ in range(200)])
        found = kb._current().tokens
        assert found is not None
        stored = found.codes.nbytes + found.offsets.nbytes
        candidate_bytes = kb.info().tiers[0]["row_bytes"]
    workload = Workload(200, 32, "svd:50%|int8", tokens=20)
    assert workload.stored_tokens == 10  # the first is kept, the other 19 are pooled into 9
    assert local_size(workload).disk["tokens"] == pytest.approx(stored, rel=0.01)
    assert workload.layouts[0].row_bytes == candidate_bytes


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 20_000), st.floats(1, 2_000))
def test_more_text_never_takes_less(text: float, more: float) -> None:
    less, larger = (local_size(Workload(1000, 8, text_bytes=size)).disk_bytes for size in (text, text + more))
    assert larger > less


@pytest.mark.parametrize("index", ["cells", "graph"])
def test_small_collections_have_no_index(index: str) -> None:
    assert index not in local_size(Workload(1000, 384, index=index)).ram
    large = local_size(Workload(100_000, 384, index=index))
    assert index in large.ram
    assert large.add_hours > 0
    assert {"cells", "graph"} - {index} - large.ram.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"documents": 0}, "documents"),
        ({"dim": 1.5}, "dim"),
        ({"text_bytes": -1}, "text_bytes"),
        ({"tokens": 0.5}, "tokens"),
        ({"tokens": 10, "codec": "binary > int8"}, "one tier"),
        ({"pool_factor": 0}, "pool_factor"),
        ({"index": "tree"}, "index"),
    ],
)
def test_bad_workloads(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Workload(**({"documents": 10, "dim": 8} | change))


def test_a_codec_that_does_not_fit_the_dimension() -> None:
    with pytest.raises(CodecError, match="cannot keep 64"):
        Workload(10, 32, "truncate:64|int8")
