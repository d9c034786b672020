"""Nodes, shards and hours of a Qdrant cluster for a workload that has outgrown one machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from octavo._validation import check_integer, check_number
from octavo.errors import ParameterError
from octavo.planning import _measured as measured
from octavo.planning._local import LocalSize, Workload, local_size, tier_layouts

#: Bytes of one value of the stored vectors, by the kind of the finest codes: the engine has float32, float16 and uint8, and
#: nothing with a factor of its own below 16 bits, so everything smaller is kept as float16.
_VALUE_BYTES = {"f32": 4}
_OTHER_VALUE_BYTES = 2


@dataclass(frozen=True)
class Hardware:
    """What a node has, and how much is wanted.

    Parameters
    ----------
    ram_bytes : float
        Memory of a node.
    disk_bytes : float, optional
        Disk of a node; None for as much as it takes.
    cores : int, default=8
        Of a node.
    replicas : int, default=2
        Copies of each document, the first included.
    encode_rate : float, optional
        Documents that all encoders together encode in a second.

    Raises
    ------
    ParameterError
        When a number cannot be.

    Examples
    --------
    >>> Hardware(ram_bytes=64e9, replicas=3)
    Hardware(ram_bytes=64000000000.0, disk_bytes=None, cores=8, replicas=3, encode_rate=None)
    """

    ram_bytes: float
    disk_bytes: float | None = None
    cores: int = 8
    replicas: int = 2
    encode_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("cores", "replicas"):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, least=1))
        object.__setattr__(self, "ram_bytes", check_number(self.ram_bytes, "ram_bytes", above=0))
        for name in ("disk_bytes", "encode_rate"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_number(value, name, above=0))


@dataclass(frozen=True)
class ClusterPlan:
    """What a cluster takes.

    Parameters
    ----------
    nodes, shards, replicas : int
        Machines, shards of the collection, copies of each shard.
    decided_by : {"memory", "disk", "replicas"}
        What sets the number of nodes; ``replicas``: fewer would not survive the loss of one.
    ram, disk : dict of str to float
        Bytes of one node, by part.
    documents_per_shard : int
        The most that one shard holds.
    write_hours : float
        Hours until all nodes, with all their cores, have stored and linked what they were sent.
    encode_hours : float or None
        Hours to encode; None without a rate. Both go on at the same time.

    Examples
    --------
    >>> cluster = plan(Workload(50_000_000, 384, "binary > float16"), Hardware(ram_bytes=16e9)).cluster
    >>> cluster.nodes >= cluster.replicas == 2, cluster.ram_bytes < 16e9
    (True, True)
    """

    nodes: int
    shards: int
    replicas: int
    decided_by: Literal["memory", "disk", "replicas"]
    ram: dict[str, float]
    disk: dict[str, float]
    documents_per_shard: int
    write_hours: float
    encode_hours: float | None

    @property
    def ram_bytes(self) -> float:
        """Bytes in the memory of one node, all parts."""
        return sum(self.ram.values())

    @property
    def disk_bytes(self) -> float:
        """Bytes on the disk of one node, all parts."""
        return sum(self.disk.values())


@dataclass(frozen=True)
class Plan:
    """What a workload takes on one machine, and on a cluster.

    Parameters
    ----------
    workload : Workload
        What there is to store.
    hardware : Hardware
        What a node has.
    local : LocalSize
        One machine with a collection of Octavo's own.
    fits_one_machine : bool
        Whether that is enough: no cluster is needed then, but for its replicas.
    cluster : ClusterPlan
        A Qdrant cluster.

    Examples
    --------
    >>> found = plan(Workload(100_000, 384), Hardware(ram_bytes=16e9))
    >>> found.fits_one_machine, found.local.ram_bytes < 1e9
    (True, True)
    """

    workload: Workload
    hardware: Hardware
    local: LocalSize
    fits_one_machine: bool
    cluster: ClusterPlan


def plan(workload: Workload, hardware: Hardware) -> Plan:
    """Plan where a workload goes, from the formulae in ``docs/scale.md``.

    Parameters
    ----------
    workload : Workload
        What there is to store.
    hardware : Hardware
        What a node has.

    Returns
    -------
    Plan
        One machine, and a cluster.

    Examples
    --------
    >>> found = plan(Workload(200_000_000, 384, "binary > float16", text_bytes=800), Hardware(ram_bytes=16e9))
    >>> found.fits_one_machine, found.cluster.nodes, found.cluster.decided_by
    (False, 42, 'memory')
    """
    local = local_size(workload)
    disk_room = hardware.disk_bytes if hardware.disk_bytes is not None else float("inf")
    fits = (
        local.ram_bytes <= measured.RAM_USED * hardware.ram_bytes and local.disk_bytes <= measured.DISK_USED * disk_room
    )
    return Plan(workload, hardware, local, fits, _cluster(workload, hardware))


def _cluster(workload: Workload, hardware: Hardware) -> ClusterPlan:
    n, replicas = workload.documents, hardware.replicas
    least = max(replicas, measured.NODES_FOR_CONSENSUS if replicas > 1 else 1)
    # Links grow with the points of a shard, so the more nodes there are, the fewer would do: look for where they meet.
    enough = max(least, math.ceil(max(_needed(workload, hardware, least))))
    fewest = least
    while fewest < enough:
        middle = (fewest + enough) // 2
        if math.ceil(max(_needed(workload, hardware, middle))) <= middle:
            enough = middle
        else:
            fewest = middle + 1
    nodes = enough
    for_memory, for_disk = _needed(workload, hardware, nodes)
    decided: Literal["memory", "disk"] = "memory" if for_memory >= for_disk else "disk"
    per_shard = math.ceil(n / (nodes * measured.SHARDS_PER_NODE))
    ram, disk = point_bytes(workload, per_shard)
    copies = n * replicas / nodes
    disk_of_node = {name: copies * size for name, size in disk.items()}
    disk_of_node["write-ahead logs"] = _log_bytes(replicas)
    return ClusterPlan(
        nodes=nodes,
        shards=nodes * measured.SHARDS_PER_NODE,
        replicas=replicas,
        decided_by=decided if nodes > least else "replicas",
        ram={name: copies * size for name, size in ram.items()},
        disk=disk_of_node,
        documents_per_shard=per_shard,
        write_hours=copies * _write_us(workload, per_shard) / hardware.cores / 3.6e9,
        encode_hours=n / hardware.encode_rate / 3600 if hardware.encode_rate is not None else None,
    )


def _needed(workload: Workload, hardware: Hardware, nodes: int) -> tuple[float, float]:
    """Return how many nodes the memory and the disk demand, if shards are as small as with `nodes` of them."""
    ram, disk = point_bytes(workload, math.ceil(workload.documents / (nodes * measured.SHARDS_PER_NODE)))
    copies = workload.documents * hardware.replicas
    for_memory = copies * sum(ram.values()) / (measured.RAM_USED * hardware.ram_bytes)
    if hardware.disk_bytes is None:
        return for_memory, 0.0
    room = measured.DISK_USED * hardware.disk_bytes - _log_bytes(hardware.replicas)
    if room <= 0:
        raise ParameterError(f"expected disk for more than the logs of a node, got {hardware.disk_bytes:,.0f} bytes")
    return for_memory, copies * sum(disk.values()) / room


def _log_bytes(replicas: int) -> float:
    return measured.SHARD_LOG_BYTES * measured.SHARDS_PER_NODE * replicas


def point_bytes(workload: Workload, points: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the bytes of one document in memory and on disk, in a shard of so many points.

    As `QdrantCollection` maps a codec: the coarse tier becomes the engine's quantized vectors, in memory with the graph; the
    finest tier its stored vectors, on disk; a codec without binary, int8 or rabitq has no quantized vectors, and searches the
    stored ones. Token vectors are on disk and have no graph. The indexes of words and metadata count as memory, though the
    engine may map them.
    """
    layouts = workload.layouts
    coarse, finest = layouts[0], layouts[-1]
    stored = float(finest.dim * _VALUE_BYTES.get(finest.kind, _OTHER_VALUE_BYTES))
    if coarse.kind == "b1":
        searched = {"quantized vectors": float(coarse.row_bytes)}
    elif coarse.kind == "i8":
        searched = {"quantized vectors": float(coarse.dim + measured.POINT_INT8_EXTRA)}
    elif coarse.kind in ("r1", "r2", "r4"):
        searched = {"quantized vectors": float(coarse.code_bytes + measured.POINT_TURBO_EXTRA)}
    else:
        searched = {"vectors": stored}
    links = (measured.POINT_LINK_BASE + measured.POINT_LINK_BYTES * workload.connectivity) * _growth(points)
    ram = searched | {
        "graph": links + measured.POINT_LEVELS,
        "ids": measured.POINT_ID_BYTES,
        "words": measured.POINT_WORDS_SHARE * workload.text_bytes,
        "metadata": measured.POINT_FIELD_BYTES * workload.metadata_fields,
    }
    if workload.sparse_terms:
        ram["learned sparse vectors"] = measured.POINT_SPARSE_TERM_BYTES * workload.sparse_terms
    own = measured.POINT_PAYLOAD_BYTES + measured.POINT_PAYLOAD_FIELD_BYTES * workload.metadata_fields
    disk = ram | {
        "vectors": stored,
        "sparse vectors": measured.POINT_SPARSE_SHARE * workload.text_bytes,
        "payload": workload.text_bytes + workload.image_text_bytes + workload.id_bytes + workload.metadata_bytes + own,
    }
    if workload.tokens is not None:
        token = tier_layouts(workload.codec, workload.dim)[0]
        disk["tokens"] = workload.stored_tokens * token.dim * _VALUE_BYTES.get(token.kind, _OTHER_VALUE_BYTES)
    return ram, disk


def _write_us(workload: Workload, points: int) -> float:
    dim = workload.layouts[0].dim
    write = measured.POINT_WRITE_US + measured.POINT_WRITE_VALUE_US * dim
    graph = measured.POINT_GRAPH_US + measured.POINT_GRAPH_VALUE_US * dim
    return write + graph * _growth(points)


def _growth(points: int) -> float:
    """Return how much more a link takes, in bytes and in time, than in the shard that was measured."""
    return max(1.0, float(np.log(max(points, 2)) / np.log(measured.POINT_MEASURED_AT)))
