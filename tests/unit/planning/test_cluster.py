"""Nodes and shards follow from bytes, and the simulation from probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ParameterError
from octavo.planning import Hardware, ShardLatency, Workload, plan, simulate_fan_out
from octavo.planning._cluster import point_bytes

GB = 1e9


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 10**10),
    st.sampled_from([64, 384, 1024]),
    st.sampled_from(["int8", "binary > float16", "float32"]),
    st.sampled_from([8 * GB, 64 * GB]),
    st.none() | st.sampled_from([200 * GB, 2000 * GB]),
    st.integers(1, 3),
)
def test_every_node_holds_its_part(n: int, dim: int, codec: str, ram: float, disk: float | None, replicas: int) -> None:
    found = plan(Workload(n, dim, codec), Hardware(ram, disk, replicas=replicas)).cluster
    assert found.ram_bytes <= 0.75 * ram * 1.0001
    assert disk is None or found.disk_bytes <= 0.6 * disk * 1.0001
    assert found.nodes >= (3 if replicas > 1 else 1)
    assert found.shards == 2 * found.nodes
    assert found.documents_per_shard * found.shards >= n
    # All copies together are on all nodes together.
    each_ram, _ = point_bytes(Workload(n, dim, codec), found.documents_per_shard)
    assert found.ram_bytes * found.nodes == pytest.approx(n * replicas * sum(each_ram.values()), rel=0.05)


def test_one_node_less_would_not_do() -> None:
    workload = Workload(10**9, 1024, "int8")
    found = plan(workload, Hardware(64 * GB)).cluster
    assert found.decided_by == "memory"
    assert found.ram_bytes * found.nodes / (found.nodes - 1) > 0.75 * 64 * GB
    found = plan(workload, Hardware(640 * GB, 500 * GB)).cluster
    assert found.decided_by == "disk"
    assert (found.disk_bytes * found.nodes) / (found.nodes - 1) > 0.6 * 500 * GB
    assert plan(Workload(1000, 8), Hardware(64 * GB)).cluster.decided_by == "replicas"


def test_bytes_of_a_point() -> None:
    ram, disk = point_bytes(Workload(20_000, 128, "int8", text_bytes=300, id_bytes=12, metadata_bytes=20), 20_000)
    assert ram["quantized vectors"] == 132
    assert ram["graph"] == pytest.approx(55.5 + 12, abs=0.1)
    assert disk["vectors"] == 256
    ram, disk = point_bytes(Workload(20_000, 128, "binary > float32"), 20_000)
    assert (ram["quantized vectors"], disk["vectors"]) == (16, 512)
    ram, disk = point_bytes(Workload(20_000, 128, "float16", text_bytes=0, metadata_fields=2), 20_000)
    assert (ram["vectors"], disk["vectors"], ram["words"], ram["metadata"]) == (256, 256, 0, 220)
    _, disk = point_bytes(Workload(20_000, 128, "svd:50%|int8", tokens=20), 20_000)
    assert disk["tokens"] == 10 * 64 * 2


def test_hours() -> None:
    fast, slow = (plan(Workload(10**8, 128), Hardware(64 * GB, cores=cores)).cluster for cores in (16, 8))
    assert slow.write_hours == pytest.approx(2 * fast.write_hours)
    assert slow.encode_hours is None
    assert plan(Workload(7_200_000, 8), Hardware(GB, encode_rate=1000)).cluster.encode_hours == pytest.approx(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ram_bytes": 0}, "ram_bytes"),
        ({"replicas": 0}, "replicas"),
        ({"cores": 1.5}, "cores"),
        ({"encode_rate": -1}, "encode_rate"),
    ],
)
def test_bad_hardware(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Hardware(**({"ram_bytes": GB} | change))


def test_a_disk_smaller_than_the_logs() -> None:
    with pytest.raises(ParameterError, match="logs of a node"):
        plan(Workload(10, 8), Hardware(GB, 1e6))


@pytest.mark.parametrize("shards", [1, 5, 40])
def test_simulation_against_the_distribution_of_a_maximum(shards: int) -> None:
    # Without stalls the logarithm is normal, and the maximum of independent times has the power of their distribution.
    latency = ShardLatency(10, 0.5, 0)
    (found,) = simulate_fan_out([shards], latency=latency, queries=40_000)
    single = np.sort(latency.draw(np.random.default_rng(9), (400_000,)))
    for p, value in ((0.5, found.p50_ms), (0.95, found.p95_ms)):
        assert value == pytest.approx(single[int(p ** (1 / shards) * len(single))], rel=0.05)
    assert found.extra_requests == 0


def test_hedging_takes_the_earlier_answer() -> None:
    latency = ShardLatency(5, 0.1, stall_share=0.02, stall_ms=200)
    (plain,) = simulate_fan_out([50], latency=latency)
    (hedged,) = simulate_fan_out([50], 2, latency=latency, hedge_percentile=95)
    assert hedged.p99_ms < plain.p99_ms / 2
    assert hedged.p50_ms <= plain.p50_ms
    assert hedged.extra_requests == pytest.approx(0.05, abs=0.005)
    assert hedged.hedge_ms == pytest.approx(
        np.percentile(latency.draw(np.random.default_rng(3), (100_000,)), 95), rel=0.02
    )


def test_replicas_alone_change_nothing() -> None:
    assert simulate_fan_out([8], 3)[0].p99_ms == simulate_fan_out([8], 1)[0].p99_ms


@pytest.mark.parametrize(
    "arguments",
    [{"shards": [0]}, {"shards": [1], "replicas": 0}, {"shards": [1], "hedge_percentile": 95},
     {"shards": [1], "replicas": 2, "hedge_percentile": 100}, {"shards": [1], "queries": 0}],
)  # fmt: skip
def test_bad_simulations(arguments: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        simulate_fan_out(**arguments)


@pytest.mark.parametrize("values", [{"median_ms": 0}, {"spread": -1}, {"stall_share": 1.1}, {"stall_ms": float("inf")}])
def test_bad_latencies(values: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        ShardLatency(**values)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_picture(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    from octavo.planning.picture import draw_fan_out

    curves = {"one": simulate_fan_out([1, 2, 4], queries=100)}
    draw_fan_out(curves, tmp_path / f"a.{ending}")
    draw_fan_out(curves, tmp_path / f"b.{ending}")
    first = (tmp_path / f"a.{ending}").read_bytes()
    assert len(first) > 2_000
    assert first == (tmp_path / f"b.{ending}").read_bytes()
    with pytest.raises(ParameterError, match=r"\.svg or \.png"):
        draw_fan_out(curves, tmp_path / "a.txt")
