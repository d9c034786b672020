"""Late interaction beside PyLate, fast-plaid and xtr-warp: build, bytes, memory, and time at equal agreement, in one run.

    python -m venv plaid/ && plaid/bin/pip install pylate fast-plaid xtr-warp-rs
    export OMP_NUM_THREADS=1
    taskset -c 1 python benchmarks/bench_rivals_late.py --data ../shared/data --cache tokens/ --set scifact \
        --rivals pylate=plaid/bin/python xtr-warp=plaid/bin/python --out late-rivals.jsonl

All systems get the same token vectors, all-MiniLM-L6-v2's, as ready matrices: `--width 128` takes them through an SVD head,
as ColBERT-type models give them, `--width 384` leaves them as they are. `--tokens` takes those that bench_late_100k.py wrote
instead of encoding a set. Agreement is the share of the ten best documents by
exact float32 MaxSim over these same vectors, not pooled. Each step of each system is a process of its own (late_child.py)
that inherits the processor affinity of this one; times of a query are after encoding, one query at a time. Results are JSON
lines; the last compare each setting of the rival with the fastest setting of Octavo that agrees at least as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench_late_100k import encoded
from octavo._arrays import unit_rows
from octavo.compression import SVD, TokenMatrices
from octavo.eval.running._maxsim import rank_by_maxsim
from token_sets import K, add_token_options, load_token_sets, narrowed

CHILD = Path(__file__).parent / "late_child.py"

OCTAVO: list[dict[str, Any]] = [
    {"codec": "int8", "pool_factor": 1},
    {"codec": "rotate|int4", "pool_factor": 1},
    {"codec": "int8", "pool_factor": 2},
    {"codec": "rotate|int4", "pool_factor": 2},
    # Token cells, which collections have from 2,000 documents on.
    {"codec": "int8", "pool_factor": 1, "cells_from": 1_000},
    {"codec": "int8", "pool_factor": 2, "cells_from": 1_000},
]
#: Documents whose vectors the SVD head of `--tokens` is fitted on, and tokens that go through it at a time.
FITTED, AT_ONCE = 2_000, 65_536


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write token vectors and exact ranking for the children, and return what they are."""
    if args.tokens is not None:
        return prepare_encoded(args, folder)
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


def prepare_encoded(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Do the same with tokens of bench_late_100k.py, part by part: more of them than fit in memory as float32."""
    if (folder / "about.json").exists():
        about: dict[str, Any] = json.loads((folder / "about.json").read_text())
        return about
    tokens, offsets, _ = encoded(args.tokens, "documents")
    asked, edges, _ = encoded(args.tokens, "queries")
    rows = np.linspace(0, len(edges) - 2, min(args.queries, len(edges) - 1)).astype(int)
    queries = TokenMatrices.of([unit_rows(np.float32(asked[edges[row] : edges[row + 1]])) for row in rows])
    head = None
    if args.width != tokens.shape[1]:
        some = np.random.default_rng(0).choice(len(offsets) - 1, min(FITTED, len(offsets) - 1), replace=False)
        sample = np.concatenate([np.float32(tokens[offsets[row] : offsets[row + 1]]) for row in np.sort(some)])
        head = SVD(args.width).fit(unit_rows(sample), seed=0)
        queries = TokenMatrices(unit_rows(head.encode_queries(queries.flat)), queries.offsets)
    flat = np.lib.format.open_memmap(folder / "documents.npy", "w+", np.float32, (len(tokens), args.width))
    for start in range(0, len(tokens), AT_ONCE):
        part = unit_rows(np.float32(tokens[start : start + AT_ONCE]))
        flat[start : start + AT_ONCE] = part if head is None else unit_rows(head.encode(part))
    flat.flush()
    np.save(folder / "documents-offsets.npy", offsets)
    write(folder, "queries", queries)
    best = np.full((len(queries), K), -np.inf, np.float32)
    exact = np.zeros((len(queries), K), np.int64)
    for first in range(0, len(offsets) - 1, FITTED):  # the best of each part, and then of all
        edge = offsets[first : first + FITTED + 1]
        part = np.array(flat[edge[0] : edge[-1]])
        for number, query in enumerate(queries):
            scores = np.maximum.reduceat(part @ query.T, edge[:-1] - edge[0], axis=0).sum(axis=1)
            both = np.concatenate([best[number], scores])
            names = np.concatenate([exact[number], first + np.arange(len(scores))])
            order = np.argsort(-both, kind="stable")[:K]
            best[number], exact[number] = both[order], names[order]
    np.save(folder / "exact.npy", exact)
    about = {"set": args.tokens.name, "width": args.width, "documents": len(offsets) - 1, "tokens": len(tokens)}
    about["input_mb"] = flat.nbytes / 1e6
    (folder / "about.json").write_text(json.dumps(about))
    return about


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
        result = child([python], {**asked, "step": "build"})
        search = {**asked, "step": "search", "queries": args.queries}
        return result | child([*args.search_with.split(), python], search)
    finally:
        shutil.rmtree(index)


def child(command: list[str], asked: dict[str, Any]) -> dict[str, Any]:
    """Run one step and return what it measured."""
    done = subprocess.run([*command, str(CHILD), json.dumps(asked)], stdout=subprocess.PIPE, text=True, check=True)
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
        "--rivals",
        nargs="*",
        default=[],
        help="system=python of an environment that has it: pylate, fast-plaid, xtr-warp",
    )
    parser.add_argument("--tokens", type=Path, help="folder of bench_late_100k.py's encode, instead of a set")
    parser.add_argument("--octavo", type=int, nargs="*", default=range(len(OCTAVO)), help="which settings of Octavo")
    parser.add_argument("--nbits", type=int, nargs="*", default=[4, 2], help="which settings of the others")
    parser.add_argument("--search-with", default="", help="command that runs what searches, such as: taskset -c 1")
    parser.add_argument("--work", type=Path, help="folder for input and indexes; a temporary one unless given")
    parser.add_argument("--out", type=Path, help="file to which results are added")
    args = parser.parse_args()

    def emit(row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")

    rivals = dict(rival.split("=", 1) for rival in args.rivals)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ("octavo", *rivals)}
    kept = args.work is not None and args.tokens is not None  # the same input for several runs
    with contextlib.nullcontext(args.work) if kept else tempfile.TemporaryDirectory(dir=args.work) as work:
        folder = Path(work)
        about = prepare(args, folder)
        for system, python, settings in (
            *(("octavo", sys.executable, OCTAVO[number]) for number in args.octavo),
            *((name, python, {"nbits": bits}) for name, python in rivals.items() for bits in args.nbits),
        ):
            row = {**about, "system": system, "settings": settings}
            row |= measure(args, folder, python, system, settings)
            results[system].append(row)
            emit(row)
    for name in rivals:
        for row in compared(results["octavo"], results[name]):
            emit({"set": about["set"], "width": about["width"], "system": name, **row})


if __name__ == "__main__":
    main()
