"""Late interaction beside PyLate with fast-plaid: build, bytes, memory, and time of a query at equal agreement, in one run.

    python -m venv plaid/ && plaid/bin/pip install pylate fast-plaid
    export OMP_NUM_THREADS=1
    taskset -c 1 python benchmarks/bench_rivals_late.py --data ../shared/data --cache tokens/ --set scifact \
        --rival-python plaid/bin/python --out late-rivals.jsonl

All systems get the same token vectors, all-MiniLM-L6-v2's, as ready matrices: `--width 128` takes them through an SVD head,
as ColBERT-type models give them, `--width 384` leaves them as they are. Agreement is the share of the ten best documents by
exact float32 MaxSim over these same vectors, not pooled. Each step of each system is a process of its own (late_child.py)
that inherits the processor affinity of this one; times of a query are after encoding, one query at a time. Results are JSON
lines; the last compare each setting of the rival with the fastest setting of Octavo that agrees at least as well.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from octavo.compression import TokenMatrices
from octavo.eval.running._maxsim import rank_by_maxsim
from token_sets import K, add_token_options, load_token_sets, narrowed

CHILD = Path(__file__).parent / "late_child.py"

OCTAVO: list[dict[str, Any]] = [
    {"codec": "int8", "pool_factor": 1},
    {"codec": "rotate|int4", "pool_factor": 1},
    {"codec": "int8", "pool_factor": 2},
    {"codec": "rotate|int4", "pool_factor": 2},
]
RIVAL: list[dict[str, Any]] = [{"nbits": 4}, {"nbits": 2}]


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write token vectors and exact ranking for the children, and return what they are."""
    (data,) = load_token_sets(args.data, [args.set], args.cache)
    documents, queries = data.documents, data.queries
    exact = None
    if args.width == documents.dim:
        exact = data.exact()
    else:
        documents, queries = narrowed(documents, queries, args.width)
    if exact is None:
        exact = rank_by_maxsim(list(documents), list(queries), K)[0]
    np.save(folder / "exact.npy", exact)
    write(folder, "documents", documents)
    write(folder, "queries", queries)
    return {
        "set": data.name,
        "width": documents.dim,
        "documents": len(documents),
        "tokens": len(documents.flat),
        "input_mb": documents.flat.nbytes / 1e6,
    }


def write(folder: Path, name: str, tokens: TokenMatrices) -> None:
    """Write token matrices as `late_child.read` reads them."""
    np.save(folder / f"{name}.npy", tokens.flat)
    np.save(folder / f"{name}-offsets.npy", tokens.offsets)


def measure(args: argparse.Namespace, folder: Path, python: str, system: str, settings: dict[str, Any]) -> Any:
    """Build and search in a process each; the index is deleted afterwards."""
    index = folder / "index"
    index.mkdir()
    try:
        asked = {"system": system, "settings": settings, "data": str(folder), "folder": str(index)}
        result = child(python, {**asked, "step": "build"})
        return result | child(python, {**asked, "step": "search", "queries": args.queries})
    finally:
        shutil.rmtree(index)


def child(python: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Run one step and return what it measured."""
    done = subprocess.run([python, str(CHILD), json.dumps(asked)], stdout=subprocess.PIPE, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


def compared(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each setting of the rival: the fastest of Octavo's that agrees at least as well, and how they relate."""
    rows = []
    for rival, point in ((one, at) for one in theirs for at in one["points"]):
        row = {"rival": rival["settings"], "rival_search": point["search"], "rival_agreement": point["agreement"]}
        equal = [(one, at) for one in ours for at in one["points"] if at["agreement"] >= point["agreement"]]
        if equal:
            one, at = min(equal, key=lambda pair: pair[1]["cpu_p50_ms"])
            row |= {"octavo": one["settings"], "search": at["search"], "agreement": at["agreement"]}
            row |= {f"faster_{name}": point[name] / at[name] for name in ("cpu_p50_ms", "p50_ms")}
            row |= {f"faster_{name}": rival[name] / one[name] for name in ("build_cpu_s", "build_s")}
            row |= {f"smaller_{name}": rival[name] / one[name] for name in ("disk_mb", "build_peak_rss_mb")}
        rows.append(row)
    return rows


def main() -> None:
    """Measure all systems and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_token_options(parser)
    parser.add_argument("--set", default="scifact")
    parser.add_argument("--width", type=int, default=128, help="of token vectors")
    parser.add_argument("--queries", type=int, default=100, help="so many at most, evenly spread")
    parser.add_argument(
        "--rival-python", help="of an environment with pylate and fast-plaid; Octavo alone unless given"
    )
    parser.add_argument("--work", type=Path, help="folder for input and indexes; a temporary one unless given")
    parser.add_argument("--out", type=Path, help="file to which results are added")
    args = parser.parse_args()

    def emit(row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")

    results: dict[str, list[dict[str, Any]]] = {"octavo": [], "pylate": []}
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        folder = Path(work)
        about = prepare(args, folder)
        for system, python, settings in (
            *(("octavo", sys.executable, one) for one in OCTAVO),
            *(("pylate", args.rival_python, one) for one in RIVAL if args.rival_python),
        ):
            row = {**about, "system": system, "settings": settings}
            row |= measure(args, folder, python, system, settings)
            results[system].append(row)
            emit(row)
    for row in compared(results["octavo"], results["pylate"]):
        emit({"set": about["set"], "width": about["width"], **row})


if __name__ == "__main__":
    main()
