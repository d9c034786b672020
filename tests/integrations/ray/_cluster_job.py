"""A job on a local cluster of two nodes, run by test_ray_cluster.py in namespaces of its own.

``python _cluster_job.py FOLDER DELAY [tasks | qdrant]`` waits DELAY seconds for each batch. FOLDER holds ``in/*.parquet``, gets
``kb``, ``job`` (the checkpoint) and ``calls`` (what each process encoded). What happened is in ``result.json`` at the end.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DIM = 16
MEMORY = 100 * 2**20


class Model:
    """Encodes each text by its hash; slow enough to be killed, and not able to encode everything."""

    name = "hash model"

    def __init__(self, folder: str, delay: float) -> None:
        self._folder, self._delay = Path(folder), delay
        self.model = "loaded once an actor"

    def encode_documents(self, texts: list[str]) -> np.ndarray:
        if any("broken" in text for text in texts):
            raise ValueError("cannot encode this")
        with (self._folder / "calls" / f"{os.uname().nodename}-{os.getpid()}").open("a") as log:
            log.writelines(f"{text}\n" for text in texts)
        time.sleep(self._delay)
        return np.stack([vector_of(text) for text in texts])

    encode_queries = encode_documents


def vector_of(text: str) -> np.ndarray:
    """The vector of a text, so that the test need not be told."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIM).astype(np.float32)
    return vector if text != "nan" else np.nan * vector


def open_kb(path: str) -> object:
    """Open the target that several tasks write to; each waits for the write lock."""
    import octavo

    return octavo.open(path, must_exist=True, lock_timeout=60)


def listening() -> list[str]:
    """Return the addresses on which something in this network namespace listens for TCP, in hexadecimal."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return sorted({fields[1].split(":")[0] for fields in lines if fields[3] == "0A"})


def main() -> None:
    folder, delay = Path(sys.argv[1]), float(sys.argv[2])
    (folder / "calls").mkdir(exist_ok=True)
    import ray
    import ray.data
    from ray.cluster_utils import Cluster

    from octavo.integrations.ray import encode, upsert

    node = {"num_cpus": 1, "object_store_memory": MEMORY, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    out: dict[str, Any] = {"nodes": len(ray.nodes()), "listening": listening()}
    model = {"encoder_options": {"folder": str(folder), "delay": delay}, "batch_size": 20}
    documents = ray.data.read_parquet(str(folder / "in"))
    if sys.argv[3:] == ["qdrant"]:
        run_into_qdrant(folder, documents, model, out)
    else:
        encoded = encode(documents, Model, "svd:50%|int8 > int8", checkpoint=folder / "job", **model)
        out["first"] = upsert(encoded, folder / "kb", checkpoint=folder / "job", batch_size=50).to_dict()
    out["listening"] = sorted({*out["listening"], *listening()})
    if sys.argv[3:] == ["tasks"]:
        run_in_tasks(folder, documents, model, out)
    (folder / "result.json").write_text(json.dumps(out))
    ray.shutdown()
    cluster.shutdown()


def run_in_tasks(folder: Path, documents: Any, model: dict[str, Any], out: dict[str, Any]) -> None:
    """Add what is missing from a copy of the collection, in tasks that all write to it."""
    import octavo
    from octavo.integrations.ray import encode, stored_codec, upsert

    codec = stored_codec(folder / "kb")
    with octavo.open(folder / "kb") as kb, kb.copy(folder / "kb2") as copy:
        copy.delete(copy.ids()[:100])
    target = functools.partial(open_kb, str(folder / "kb2"))
    encoded = encode(documents, Model, codec, **model)
    out["tasks"] = upsert(encoded, target, codec=codec, checkpoint=folder / "job2", concurrency=2).to_dict()


def run_into_qdrant(folder: Path, documents: Any, model: dict[str, Any], out: dict[str, Any]) -> None:
    """Write into a place in Qdrant: half of it from this process, which creates it, and then all of it from a task."""
    from octavo.integrations.qdrant import open_collection
    from octavo.integrations.ray import encode, fit_codec, upsert

    place = f"qdrant:{folder / 'there'}"
    codec = fit_codec(documents, Model, "svd:50%|int8", encoder_options=model["encoder_options"])
    encoded = encode(documents, Model, codec, checkpoint=folder / "job", **model)
    half = encoded.filter(half_of)
    out["created"] = upsert(half, place, codec=codec, checkpoint=folder / "job").to_dict()
    target = functools.partial(open_collection, place)  # one process at a time holds a directory of Qdrant's core
    out["completed"] = upsert(encoded, target, codec=codec, checkpoint=folder / "job", concurrency=1).to_dict()


def half_of(row: dict[str, Any]) -> bool:
    """Tell whether a document is in one of the first three files."""
    return bool(row["id"] < "3")


if __name__ == "__main__":
    main()
