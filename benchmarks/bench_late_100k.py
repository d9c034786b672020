"""Late interaction over 100,000 real texts: candidates, agreement with exhaustive MaxSim, time, memory and bytes.

``encode`` takes the 90,453 sentences of `corpora.sentences` and, to make them 100,000, documents of limit-recon50k, and writes
the token vectors of all-MiniLM-L6-v2 in bfloat16 arithmetic, at most 64 tokens a text, as float16 of unit length; SQuAD's
questions, scifact's claims and Cranfield's queries are the queries. No text is there twice, and no vector is made up. With
``--set`` it takes the documents and queries of one set, whole. ``build`` makes a collection of them, 500 a call, and says how
much memory that no file stands behind the process held before (texts, and what was imported), and at its peak. ``search``
compares candidates with exhaustive MaxSim over its codes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from common import Memory, process_memory
from corpora import sentences
from octavo.eval import load_dataset
from octavo.index import planner

MODEL = "all-MiniLM-L6-v2"
DOCUMENTS = 100_000
MOST_TOKENS = 64
WHOLE_TOKENS = 256
BATCH = 64
ADDED = 500
DIM = 384
QUERIES = {"squad-v1.1-dev": 300, "scifact": 100, "cranfield": 100}


def texts(data: Path, n: int) -> list[str]:
    """Return `n` distinct texts."""
    found = sentences(data)
    with (data / "limit-recon50k" / "corpus.jsonl").open(encoding="utf-8") as file:
        for line in file:
            if len(found) >= n:
                break
            found.append(json.loads(line)["text"])
    rows = np.random.default_rng(0).permutation(len(found))
    return [found[row] for row in rows[:n]]


def questions(data: Path) -> list[str]:
    """Return some queries of each set, evenly spread."""
    asked = []
    for name, n in QUERIES.items():
        with (data / name / "queries.jsonl").open(encoding="utf-8") as file:
            lines = [json.loads(line)["text"] for line in file]
        asked += [lines[row] for row in np.linspace(0, len(lines) - 1, n).astype(int)]
    return asked


def encode(args: argparse.Namespace) -> None:
    """Write token vectors, once."""
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.set is not None:
        dataset = load_dataset(str(args.data / args.set))
        wanted = {"queries": list(dataset.queries), "documents": list(dataset.texts)}
    else:
        wanted = {"queries": questions(args.data), "documents": texts(args.data, args.documents)}
    for name, rows in wanted.items():
        if not (args.cache / f"{name}.offsets.npy").exists():
            write(args.cache, name, rows, args.threads, MOST_TOKENS if args.set is None else WHOLE_TOKENS)


def write(cache: Path, name: str, rows: Sequence[str], threads: int, most: int) -> None:
    """Encode texts, those of like length together, and write them in their own order."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from octavo.encoders.models import resolve_model

    torch.set_num_threads(threads)
    place = resolve_model(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModel.from_pretrained(place, dtype=torch.bfloat16).eval()
    ids = tokenizer(list(rows), truncation=True, max_length=most)["input_ids"]
    lengths = np.array([len(each) for each in ids])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    out = np.memmap(cache / f"{name}.f16", np.float16, "w+", shape=(int(offsets[-1]), DIM))
    order, begun = np.argsort(lengths, kind="stable"), time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            some = order[first : first + BATCH]
            padded = tokenizer.pad({"input_ids": [ids[row] for row in some]}, return_tensors="pt")
            hidden = model(**padded).last_hidden_state.float()
            hidden = torch.nn.functional.normalize(hidden, dim=-1).to(torch.float16).numpy()
            for row, matrix in zip(some, hidden, strict=True):
                out[offsets[row] : offsets[row + 1]] = matrix[: lengths[row]]
            if first // BATCH % 100 == 0:
                print(f"{name}: {first:,} of {len(order):,}, {time.perf_counter() - begun:.0f} s", flush=True)
    out.flush()
    np.save(cache / f"{name}.offsets.npy", offsets)
    (cache / f"{name}.json").write_text(json.dumps(list(rows)), encoding="utf-8")


def encoded(cache: Path, name: str) -> tuple[Any, np.ndarray, list[str]]:
    """Return token vectors, where those of each text begin, and the texts."""
    offsets = np.load(cache / f"{name}.offsets.npy")
    tokens = np.memmap(cache / f"{name}.f16", np.float16, "r", shape=(int(offsets[-1]), DIM))
    return tokens, offsets, json.loads((cache / f"{name}.json").read_text(encoding="utf-8"))


def build(args: argparse.Namespace) -> None:
    """Build a collection of the vectors, without encoding, and say what that takes."""
    tokens, offsets, rows = encoded(args.cache, "documents")
    n = min(args.documents, len(rows))
    path = args.cache / args.kb
    memory = Memory()  # from here on: texts, and what was imported, are the benchmark's own
    begun, cpu = time.perf_counter(), time.process_time()
    with octavo.open_multi_vector(path, codec=args.codec, pool_factor=args.pool_factor, seed=0) as kb:
        for first in range(0, n, ADDED):
            some = range(first, min(n, first + ADDED))
            kb.add(
                [rows[row] for row in some],
                ids=[str(row) for row in some],
                token_vectors=[np.float32(tokens[offsets[row] : offsets[row + 1]]) for row in some],
            )
        added = time.perf_counter() - begun
        kb.flush()
        info = kb.info()
        report = {"documents": n, "token vectors": len(kb._store.snapshot.tokens.codes), "add s": round(added)}
        report |= {"build s": round(time.perf_counter() - begun), "CPU s": round(time.process_time() - cpu)}
        report |= {"MB before": round(memory.base[1] / 1e6), "MB at its end": round(process_memory()["RssAnon"] / 1e6)}
        report |= {"MB more at peak": round(memory.stop()["anon_mb"])}
        print(json.dumps(report | {"disk": info.disk, "ram": info.ram}), flush=True)


def search(args: argparse.Namespace) -> None:
    """Compare searches with exhaustive MaxSim over the same codes; CPU time of the process, encoding left out."""
    tokens, offsets, _ = encoded(args.cache, "queries")
    asked = [np.float32(tokens[a:b]) for a, b in itertools.pairwise(offsets)][:: max(1, len(offsets) // args.queries)]
    settings = [("mean", n) for n in args.mean] + [("tokens", n) for n in args.tokens]
    settings += [("vectors", n) for n in (*args.both, None)]
    with octavo.open_multi_vector(args.cache / args.kb, read_only=True) as kb:
        best = [kb.search(query, 10, exact=True).ids for query in asked]
        kept: dict[Any, list[float]] = {setting: [] for setting in settings}
        times: dict[Any, list[float]] = {setting: [] for setting in settings}
        for query, expected in zip(asked, best, strict=True):
            for setting in settings:
                options = {"candidates": setting[0], "n_candidates": setting[1]}
                kb.search(query, 10, **options)
                begun = time.thread_time()
                found = kb.search(query, 10, **options).ids
                times[setting].append(1e3 * (time.thread_time() - begun))
                kept[setting].append(len(set(found) & set(expected)) / len(expected))
        resident = round(process_memory()["RssAnon"] / 1e6)
        for setting in settings:
            print(
                f"| {setting[0]} | {setting[1] or 'default'} | {np.mean(kept[setting]):.3f} "
                f"| {np.median(times[setting]):.1f} | {np.percentile(times[setting], 20):.1f} |",
                flush=True,
            )
        print(f"{len(asked)} queries, {resident} MB anonymous", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["encode", "build", "search"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("bench-out/late100k"))
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kb", default="kb", help="name of the collection in the cache")
    parser.add_argument("--codec", default="int8")
    parser.add_argument("--pool-factor", type=int, default=1)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--mean", type=int, nargs="*", default=[200, 400, 800, 1600])
    parser.add_argument("--tokens", type=int, nargs="*", default=[100, 200, 400])
    parser.add_argument("--both", type=int, nargs="*", default=[100, 200, 400, 800])
    parser.add_argument("--set", help="whole documents (256 tokens) and queries of this set instead")
    parser.add_argument("--cells-from", type=int, help="documents from which on there are token cells")
    args = parser.parse_args()
    if args.cells_from is not None:
        planner.limits = planner.Limits(token_cells_min=args.cells_from, few=100)
    steps: dict[str, Any] = {"encode": encode, "build": build, "search": search}
    steps[args.step](args)


if __name__ == "__main__":
    main()
