"""What training for compression is worth: the tables of docs/training.md.

    python benchmarks/bench_training.py train late late-x3 late-x11 --data DATA --models MODELS
    python benchmarks/bench_training.py train starbucks matryoshka matryoshka-self --data DATA --models MODELS
    python benchmarks/bench_training.py train matryoshka-self late-x3-more --steps 3000 --batch-size 256 --rate 2e-5 ...
    python benchmarks/bench_training.py measure --data DATA --models MODELS

DATA holds BEIR folders. Trained on: the questions of squad-v1.1-dev, those of scifact's split train, titles with bodies of
scifact. What follows the recipe in a name: ``-self`` has the untrained model as its teacher, ``-taught`` that of
``--teacher``, and without ``--rate`` both learn at less than half the rate, which is what keeps a short training from
forgetting; ``-more`` also trains on sentences of scifact and squad-v1.1-dev with the rest of their document, and on the first
eight words of the abstracts of vaswani with the others. Measured on two sets that nothing was trained on, cranfield and
pubmedqa-l, by exact search, so that what differs is the vectors. Those of all layers come from one pass through a model.
Intervals are of 95 % over queries, paired. What torch finds is used, a GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from octavo._arrays import unit_rows
from octavo.compression import SVD, Codec, TokenPooling
from octavo.encoders.layers import layer_count, training_record
from octavo.encoders.models import load_sentence_transformer
from octavo.encoders.tokens import TokenEncoder
from octavo.eval import Dataset, load_dataset
from octavo.eval.analysis.statistics import paired_difference
from octavo.eval.running.measures import Measures, strictly_decreasing
from octavo.training import Late, Matryoshka, Pairs, Starbucks, read_pairs, train

#: nDCG@10 of each query, by what was measured.
Rows = dict[str, dict[str, float]]

BASE = "all-MiniLM-L6-v2"
HELD_OUT = ("cranfield", "pubmedqa-l")
#: One model for both tables: the whole depth with fewer dimensions, and fewer layers.
POINTS = [(6, 384), (6, 96), (6, 48), (4, 384), (4, 96), (3, 96), (2, 48)]
DIMS = (384, 96, 48)
RECIPES: dict[str, Any] = {
    "starbucks": Starbucks(points=POINTS, align_queries=True),
    "matryoshka": Matryoshka(dims=DIMS),
    "late": Late(),
    "late-x3": Late(pool_factor=3),
    "late-x11": Late(pool_factor=11),
}
RATE, RATE_WITH_TEACHER = 5e-5, 2e-5
NAMES = ("starbucks", "matryoshka", "matryoshka-self", "late", "late-x3", "late-x11")


def trained(options: argparse.Namespace) -> None:
    """Train the models that are not there yet."""
    for name in options.names or NAMES:
        out = options.models / name
        if out.exists():
            continue
        recipe, endings = parsed(name)
        teacher = BASE if "self" in endings else options.teacher if "taught" in endings else None
        if "taught" in endings and teacher is None:
            raise SystemExit(f"{name} needs --teacher")
        rate = options.rate if options.rate is not None else RATE if teacher is None else RATE_WITH_TEACHER
        pairs = (more_pairs if "more" in endings else few_pairs)(options.data, options.models)
        found = train(
            recipe, BASE, pairs, out, steps=options.steps, eval_every=options.steps, batch_size=options.batch_size,
            max_length=options.max_length, held_out=30, teacher=teacher, learning_rate=rate, precision="bfloat16", seed=0,
            note=lambda message: print(time.strftime("%H:%M:%S"), message, flush=True),
        )  # fmt: skip
        print(name, found, flush=True)


def parsed(name: str) -> tuple[Any, set[str]]:
    """Return the recipe of a name, and what follows it."""
    endings: set[str] = set()
    while name not in RECIPES:
        name, _, ending = name.rpartition("-")
        if not name or ending not in ("self", "taught", "more"):
            raise SystemExit(f"expected one of {', '.join(RECIPES)}, and after it -self, -taught, -more")
        endings.add(ending)
    return RECIPES[name], endings


def few_pairs(data: Path, models: Path) -> Pairs:
    """Return the pairs of two sources."""
    return read_pairs([f"{data}/squad-v1.1-dev#test", f"{data}/scifact#train", f"titles:{data}/scifact"])


def more_pairs(data: Path, models: Path) -> Pairs:
    """Return those and twice as many others, none of which is of the sets that are measured; made once."""
    kept = models / "more-pairs.json"
    if not kept.exists():
        parts = [read_pairs(f"sentences:{data / name / 'corpus.jsonl'}") for name in ("scifact", "squad-v1.1-dev")]
        queries = [query for part in parts for query in part.queries]
        documents = [document for part in parts for document in part.documents]
        with (data / "vaswani" / "corpus.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                words = json.loads(line)["text"].split()
                if len(words) >= 16:
                    queries.append(" ".join(words[:8]))
                    documents.append(" ".join(words[8:]))
        models.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([queries, documents], ensure_ascii=False), encoding="utf-8")
    queries, documents = json.loads(kept.read_text(encoding="utf-8"))
    others = Pairs(queries, documents, "sentences of scifact, squad, vaswani")
    return read_pairs([few_pairs(data, models), others])


def models_of(models: Path, *, late: bool) -> dict[str, dict[str, Any]]:
    """Return the settings of the models that were trained, those of the table of 300 steps first."""
    found = {}
    for place in sorted(models.iterdir()):
        record = training_record(str(place)) if place.is_dir() else None
        if record is not None and (record["settings"]["recipe"] == "late") == late:
            found[place.name] = record["settings"]
    return dict(sorted(found.items(), key=lambda item: NAMES.index(item[0]) if item[0] in NAMES else len(NAMES)))


def ndcg(data: Dataset, scores: Any) -> dict[str, float]:
    """Return nDCG@10 of each query."""
    run = {}
    for query, row in zip(data.query_ids, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:10]
        lowered = strictly_decreasing(np.asarray(row[best], np.float32))
        run[query] = [(data.document_ids[at], float(score)) for at, score in zip(best, lowered, strict=True)]
    return Measures(["nDCG@10"]).evaluate(data.qrels, {10: run}).per_query["nDCG@10"]


def by_layer(model: Any, texts: list[str]) -> dict[int, Any]:
    """Return the vectors of texts after each layer."""
    import torch

    from octavo.training.losses import layer_embeddings

    depths = list(range(1, layer_count(model) + 1))
    found = {depth: np.empty((len(texts), model.get_embedding_dimension()), np.float32) for depth in depths}
    order = np.argsort([-len(text) for text in texts], kind="stable")
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            features = {
                name: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for name, value in model.preprocess([texts[int(row)] for row in rows]).items()
            }
            for depth, part in layer_embeddings(model, features, depths).items():
                found[depth][rows] = part.float().cpu().numpy()
    return found


def encoded(data: Dataset, place: str, kept: Path, max_length: int) -> dict[int, tuple[Any, Any]]:
    """Return the vectors of documents and queries after each layer, from a file where they were made before."""
    if not kept.exists():
        model = load_sentence_transformer(place)
        model.max_seq_length = max_length
        documents, queries = by_layer(model, list(data.texts)), by_layer(model, list(data.queries))
        arrays = {f"documents-{depth}": one for depth, one in documents.items()}
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **arrays, **{f"queries-{depth}": one for depth, one in queries.items()})
    found = np.load(kept)
    return {depth: (found[f"documents-{depth}"], found[f"queries-{depth}"]) for depth in range(1, len(found) // 2 + 1)}


def cut(vectors: tuple[Any, Any], dim: int) -> Any:
    """Return scores of the first dimensions."""
    documents, queries = (unit_rows(one[:, :dim], keep_zeros=True) for one in vectors)
    return queries @ documents.T


def svd(vectors: tuple[Any, Any], dim: int) -> Any:
    """Return scores after an SVD that is learned from the documents, as a collection does."""
    documents, queries = vectors
    step = SVD(dim).fit(documents)
    return step.encode_queries(queries) @ step.encode(documents).T


def coded(vectors: tuple[Any, Any], codec: str) -> Any:
    """Return scores of queries with what a codec keeps of documents."""
    documents, queries = vectors
    finest = Codec.parse(codec).fit(documents).tiers[-1]
    return queries @ finest.decode(finest.encode(documents)).T


def dense(data: Dataset, models: Path, max_length: int, teacher: str | None) -> Rows:
    """Print the tables of one data set for dimensions, and for layers with dimensions."""
    places = {"base": BASE, **{name: str(models / name) for name in models_of(models, late=False)}}
    vectors = {
        name: encoded(data, place, models / f"vectors-{name}-{data.name}-{max_length}.npz", max_length)
        for name, place in places.items()
    }
    base = vectors["base"]
    whole = max(base)
    reference = ndcg(data, cut(base[whole], DIMS[0]))
    rows: Rows = {}
    if teacher is not None:
        model = load_sentence_transformer(teacher)
        model.max_seq_length = max_length
        documents, queries = (
            unit_rows(model.encode(list(texts)), keep_zeros=True) for texts in (data.texts, data.queries)
        )
        rows["teacher"] = ndcg(data, queries @ documents.T)
    for dim in DIMS:
        for name, found in vectors.items():
            rows[f"{name}, truncate:{dim}"] = ndcg(data, cut(found[whole], dim))
        if dim < DIMS[0]:
            for name, found in vectors.items():
                rows[f"{name}, svd:{dim}"] = ndcg(data, svd(found[whole], dim))
    table(f"{data.name}: dimensions", rows, reference)
    for name in list(vectors)[1:]:
        for dim in DIMS[1:]:
            before = rows[f"base, svd:{dim}"]
            compare(f"{name}, truncate:{dim} against base, svd:{dim}", before, rows[f"{name}, truncate:{dim}"])
            compare(f"{name}, svd:{dim} against base, svd:{dim}", before, rows[f"{name}, svd:{dim}"])
    print(f"\n### {data.name}: layers x dimensions, nDCG@10\n")
    print(f"| layers x dimensions | {' | '.join(vectors)} |")
    print("|---" * (len(vectors) + 1) + "|")
    for depth in sorted(base):
        for dim in DIMS:
            cells = []
            for name, one in vectors.items():
                values = rows[f"{name}, {depth} layers, truncate:{dim}"] = ndcg(data, cut(one[depth], dim))
                cells.append(f"{np.mean(list(values.values())):.4f}")
            print(f"| {depth} x {dim} | {' | '.join(cells)} |")
    print(f"\nqueries of fewer layers against documents of all, 96 dimensions, {' / '.join(vectors)}:")
    for depth in (2, 3, 4):
        means = [
            np.mean(list(ndcg(data, cut((one[whole][0], one[depth][1]), 96)).values())) for one in vectors.values()
        ]
        print(f"- {depth} layers: {' / '.join(f'{mean:.4f}' for mean in means)}")
    return rows


def late(data: Dataset, models: Path, max_length: int, teacher: str | None) -> Rows:
    """Print the table of one data set for late interaction: clusters in training against clusters afterwards."""
    rows: Rows = {}
    for name, settings in models_of(models, late=True).items():
        model = load_sentence_transformer(str(models / name), "MultiVectorEncoder")
        model.max_seq_length = max_length
        encoder = TokenEncoder(model)
        documents, queries = encoder.encode_documents(list(data.texts)), encoder.encode_queries(list(data.queries))
        for factor in (1, 3, 11) if settings["pool_factor"] == 1 else (settings["pool_factor"],):
            pooled = TokenPooling(factor).pool(documents)
            rows[f"{name}, pooled x{factor}"] = ndcg(data, maxsim(pooled, queries))
    if not rows:
        return rows
    reference = next(iter(rows.values()))
    table(f"{data.name}: late interaction, 128 dimensions a token", rows, reference)
    for ending in ("", "-self", "-taught", "-more", "-self-more", "-taught-more"):
        for factor in (3, 11):
            after = rows.get(f"late{ending}, pooled x{factor}")
            during = rows.get(f"late-x{factor}{ending}, pooled x{factor}")
            if after is not None and during is not None:
                compare(f"late{ending}, x{factor}: clustered in training against afterwards", after, during)
    return rows


def maxsim(documents: list[Any], queries: list[Any]) -> Any:
    """Return MaxSim of each query with each document that has tokens."""
    lengths = np.array([len(one) for one in documents])
    kept = np.flatnonzero(lengths)
    flat = np.concatenate([documents[int(at)] for at in kept])
    starts = np.concatenate([[0], np.cumsum(lengths[kept])[:-1]])
    scores = np.full((len(queries), len(documents)), -np.inf, np.float32)
    for number, query in enumerate(queries):
        scores[number, kept] = np.maximum.reduceat(flat @ query.T, starts, axis=0).sum(axis=1)
    return scores


def table(title: str, rows: Mapping[str, Mapping[str, float]], reference: Mapping[str, float]) -> None:
    """Print means, and paired differences from a reference with their intervals."""
    print(f"\n### {title}\n\n| vectors | nDCG@10 | difference from the first | 95 % |\n|---|---|---|---|")
    for name, values in rows.items():
        difference, low, high = paired(reference, values)
        print(f"| {name} | {np.mean(list(values.values())):.4f} | {difference:+.4f} | {low:+.4f} to {high:+.4f} |")


def compare(title: str, a: Mapping[str, float], b: Mapping[str, float]) -> None:
    """Print one paired difference with its interval."""
    difference, low, high = paired(a, b)
    print(f"- {title}: {difference:+.4f} ({low:+.4f} to {high:+.4f})")


def paired(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[float, float, float]:
    """Return the mean difference of b from a, and its interval."""
    found = paired_difference(list(a.values()), [b[query] for query in a])
    return found.difference, found.low, found.high


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument(
        "names",
        nargs="*",
        help=f"of {', '.join(RECIPES)}, with -self, -taught, -more; or of the held-out sets, to measure",
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, help="learning rate of all of them")
    parser.add_argument("--teacher", help="folder of the model that -taught learns from; measured as well")
    parser.add_argument("--kind", choices=["dense", "late"], action="append", help="what to measure, both if not given")
    parser.add_argument("--values", type=Path, help="write nDCG@10 of each query to this file, too, as JSON")
    options = parser.parse_args()
    if options.what == "train":
        trained(options)
        return
    parts: dict[str, Callable[..., Rows]] = {"dense": dense, "late": late}
    values: dict[str, Rows] = {}
    for name in options.names or HELD_OUT:
        data = load_dataset(str(options.data / name))
        for kind in options.kind or parts:
            if kind == "late" or models_of(options.models, late=False):
                rows = parts[kind](data, options.models, options.max_length, options.teacher)
                values.setdefault(data.name, {}).update(rows)
    if options.values is not None:
        options.values.write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main()
