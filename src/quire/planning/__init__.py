"""What a collection will take: bytes and hours on one machine, nodes of a cluster, and what fan-out costs in latency."""

from quire.planning._local import LocalSize, Workload, local_size, tier_layouts

__all__ = ["LocalSize", "Workload", "local_size", "tier_layouts"]
