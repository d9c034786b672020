"""Encode a folder of Parquet files with Ray Data and write it into a collection.

    pip install 'octavo[ray,demo]'
    python examples/ray_parquet.py chunks/ kb --checkpoint job/

The files have a column ``id`` and a column ``text``; all other columns become metadata. Kill it and run it again: what was
encoded is taken from the checkpoint. Without arguments it makes a small folder of its own first.

Ray listens where others can reach it unless it is told otherwise. This starts it on loopback alone, without its dashboard;
on a real cluster see docs/scale.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

import octavo
from octavo.integrations.ray import encode, fit_codec, upsert

MODEL = "all-MiniLM-L6-v2"


def make_folder(folder: Path) -> Path:
    """Write a few hundred sentences as Parquet files."""
    folder.mkdir()
    animals, places = ("cat", "dog", "owl", "fox", "bear"), ("garden", "forest", "house", "river")
    for file, place in enumerate(places):
        rows = [
            {"id": f"{place}-{i}", "text": f"The {animals[i % 5]} number {i} sleeps in the {place}.", "place": place}
            for i in range(60)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{file}.parquet")
    return folder


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, help="folder of Parquet files")
    parser.add_argument("target", nargs="?", type=Path, help="directory of the collection")
    parser.add_argument("--checkpoint", type=Path, help="folder for what is done")
    parser.add_argument("--codec", default="binary > int8")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each actor")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="octavo-ray-"))
    source = arguments.source or make_folder(work / "chunks")
    target = arguments.target or work / "kb"

    ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False)
    documents = ray.data.read_parquet(str(source))
    codec = fit_codec(documents, MODEL, arguments.codec, num_gpus=arguments.gpus)
    encoded = encode(documents, MODEL, codec, checkpoint=arguments.checkpoint, num_gpus=arguments.gpus)
    report = upsert(encoded, target, codec=codec, encoder=MODEL, checkpoint=arguments.checkpoint)
    print(f"{report.documents:,} written, {report.skipped:,} there already, {report.failed:,} failed")
    for identifier, error in report.failures[:10]:
        print(f"  {identifier}: {error}")
    with octavo.open(target, MODEL, must_exist=True) as kb:
        for hit in kb.search("an animal by the water", k=3):
            print(f"{hit.score:.3f}  {hit.text}")


if __name__ == "__main__":
    main()
