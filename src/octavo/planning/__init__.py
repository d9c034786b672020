"""What a collection will take: bytes and hours on one machine, nodes of a cluster, and what fan-out costs in latency."""

from octavo.planning._cluster import ClusterPlan, Hardware, Plan, plan
from octavo.planning._fan_out import FanOut, ShardLatency, simulate_fan_out
from octavo.planning._local import LocalSize, Workload

__all__ = [
    "ClusterPlan",
    "FanOut",
    "Hardware",
    "LocalSize",
    "Plan",
    "ShardLatency",
    "Workload",
    "plan",
    "simulate_fan_out",
]
