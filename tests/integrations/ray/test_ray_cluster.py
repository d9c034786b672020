"""Ray Data for real: a cluster of two nodes on this machine, in namespaces in which nobody else can reach it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.integrations.qdrant import open_collection

pytest.importorskip("ray.data", reason="needs ray[data]: pip install 'octavo[ray]'")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("_cluster_job.py")

#: The process that is started is the first of its own process namespace: when it is killed, so is everything it started.
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]

FILES, ROWS, PART = 6, 60, 20

LONGEST = 400  # seconds; a quiet machine needs about 30


def _can_unshare() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    done = subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return done.returncode == 0


if not _can_unshare():
    pytest.skip(
        "needs Linux network namespaces (unshare), so that Ray listens on loopback only", allow_module_level=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with documents in Parquet files; three of them cannot be encoded."""
    (tmp_path / "in").mkdir()
    for file in range(FILES):
        rows: list[dict[str, Any]] = [
            {"id": f"{file}-{row}", "text": f"text {file}-{row}", "year": 2000 + row, "tag": "t" if row % 2 else None}
            for row in range(ROWS)
        ]
        if file == 2:
            rows[7]["text"], rows[9]["text"], rows[11]["id"] = "broken", "nan", None
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / f"{file}.parquet")
    return tmp_path


@pytest.fixture
def job() -> Iterator[Any]:
    """Start the job; it is killed at the end of the test if it still runs."""
    started: list[subprocess.Popen[bytes]] = []
    sockets = Path(tempfile.mkdtemp(prefix="ray-"))  # not under tmp_path: names of sockets must be short

    def start(folder: Path, delay: float, *more: str) -> subprocess.Popen[bytes]:
        inside = [
            "sh",
            "-c",
            'ip link set lo up && exec "$@"',
            "sh",
            sys.executable,
            str(SCRIPT),
            str(folder),
            str(delay),
        ]
        environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(sockets),
            "PYTHONPATH": ":".join(sys.path),
            "OMP_NUM_THREADS": "1",
        }
        with (folder / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [*UNSHARE, *inside, *more], stdout=output, stderr=subprocess.STDOUT, env=environment
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    shutil.rmtree(sockets, ignore_errors=True)


def finish(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    process.wait(timeout=LONGEST)
    assert process.returncode == 0, (folder / "output.txt").read_text()[-4000:]
    return dict(json.loads((folder / "result.json").read_text()))


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_complete(path: Path) -> None:
    expected = {f"{file}-{row}" for file in range(FILES) for row in range(ROWS)} - {"2-7", "2-9", "2-11"}
    vector_of = script().vector_of
    with octavo.open(path, must_exist=True) as kb:
        assert kb.verify().ok
        ids = kb.ids()
        assert len(ids) == len(set(ids))
        assert set(ids) == expected
        (document,) = kb.get(["4-3"])
        assert (document.text, document.metadata) == ("text 4-3", {"year": 2003, "tag": "t"})
        assert kb.get(["4-4"])[0].metadata == {"year": 2004}
        assert kb.codec == "svd:50%|int8 > int8"
        for identifier in ("0-0", "3-59", "5-30"):
            vector = vector_of(f"text {identifier}")
            assert kb.search(vector, 1).ids == [identifier]
            assert kb.get_vectors([identifier])[0] == pytest.approx(vector / np.linalg.norm(vector), abs=0.02)


FAILURES = {"2-7": "ValueError: cannot encode this", "2-9": "finite", "": "expected the id to be a str"}


def assert_failures(report: dict[str, Any]) -> None:
    assert report["failed"] == 3
    assert {identifier for identifier, _ in report["failures"]} == set(FAILURES)
    assert all(FAILURES[identifier] in error for identifier, error in report["failures"])


def test_two_nodes(folder: Path, job: Any) -> None:
    result = finish(job(folder, 0, "tasks"), folder)
    assert result["nodes"] == 2
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert set(result["listening"]) <= loopback
    total = FILES * ROWS - 3
    assert (result["first"]["documents"], result["first"]["skipped"]) == (total, 0)
    assert_failures(result["first"])
    assert_complete(folder / "kb")
    # Two tasks wrote into one collection, which lacked 100 documents and had the others.
    assert result["tasks"]["documents"] == total
    assert_failures(result["tasks"])
    assert_complete(folder / "kb2")


def test_a_place_in_qdrant(folder: Path, job: Any) -> None:
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py: pip install 'octavo[qdrant]'")
    result = finish(job(folder, 0, "qdrant"), folder)
    total = FILES * ROWS - 3
    # The driver created it with what the codec had learned; a task wrote what was missing, and the rest again.
    assert 0 < result["created"]["documents"] < total
    assert result["completed"]["documents"] == total
    assert_failures(result["completed"])
    with open_collection(f"qdrant:{folder / 'there'}") as there:
        assert (there.codec, there.count()) == ("svd:50%|int8", total)
        assert there.get(["4-3"])[0].metadata == {"year": 2003, "tag": "t"}
        for identifier in ("0-0", "3-59", "5-30"):
            assert there.search(script().vector_of(f"text {identifier}"), 1).ids == [identifier]


def test_killed_and_resumed(folder: Path, job: Any) -> None:
    process = job(folder, 0.3)
    encoded = folder / "job" / "encoded"
    deadline = time.monotonic() + LONGEST
    while len(finished(encoded)) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = finished(encoded)
    assert len(before) >= 4, (folder / "output.txt").read_text()[-4000:]
    result = finish(job(folder, 0), folder)
    after = finished(encoded)
    assert len(after) == FILES * ROWS // PART  # the blocks were the same, so no part was encoded under another name
    assert before.items() <= after.items()  # and none that was there was encoded again
    assert result["first"]["documents"] + result["first"]["skipped"] == FILES * ROWS - 3
    assert_failures(result["first"])
    assert_complete(folder / "kb")


def finished(folder: Path) -> dict[str, int]:
    """Return the parts that are done, and when they were written."""
    if not folder.is_dir():
        return {}
    return {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir() if not entry.name.startswith(".")}
