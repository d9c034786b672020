"""The machine and the software that a run was measured with."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numkong

from octavo._version import __version__
from octavo.eval.results import Environment

_ALWAYS = ("numpy", "usearch", "numkong", "tantivy", "ir-measures")
#: Named only when the run has loaded them.
_LOADED = {
    "sentence-transformers": "sentence_transformers",
    "transformers": "transformers",
    "torch": "torch",
    "qdrant-edge-py": "qdrant_edge",
}


def describe_environment(*, started: datetime, seed: int, command: str) -> Environment:
    """Return what is known about this process, and the seconds since `started`."""
    return Environment(
        started=started.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
        seed=seed,
        command=command,
        versions=_versions(),
        platform=platform.platform(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_features=[name for name, there in numkong.get_capabilities().items() if there],
    )


def _versions() -> dict[str, str]:
    found = {"octavo": __version__, "python": platform.python_version()}
    names = [*_ALWAYS, *(name for name, module in _LOADED.items() if module in sys.modules)]
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
