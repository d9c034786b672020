"""Reproduce what papers and other projects say about compressed retrieval, through `octavo.eval` alone.

    python benchmarks/literature.py --data ../shared/data --out runs/literature --report docs/results.md
    python benchmarks/literature.py --data ../shared/data --out runs/literature --report docs/results.md --sections b,d

Sections: (a) what each byte of a vector costs, (b) token pooling, (c) truncation, funnels and two tiers, (d) LIMIT, (e) graph
against exact search. Each is written into the report as soon as it is measured, between its own markers; the prose around
them is written by hand. An interrupted call goes on where it stopped: embeddings and finished runs are kept in `--out`. Latency
is not reported here (`octavo eval run` measures it); insertion orders are `bench_million.py --insertion`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from common import with_others
from literature_report import claims, graph_table, limit_table, pooling_table, quality_tables
from million_report import machine, publish
from octavo.eval import Configuration, Dataset, Result, Timing, load_dataset, run
from octavo.index import planner

MEASURES = ("nDCG@10", "R@100", "RR@10")
LIMIT_MEASURES = ("R@2", "R@10", "R@20")

#: Enough to show that a search answers; these tables have no times.
TIMING = Timing(queries=10, repeats=1, warmup=1)

QUANTIZERS = ("float16", "float8", "int8", "int4", "binary")
REDUCERS = ("svd:50%", "pca:50%")

#: Reference schemes outside of any collection, as other studies build them.
BASELINES = (
    "int8-minmax",
    "float16-cast",
    "float8-cast",
    "binary-sign",
    "pca-cosine:50%",
    "pca-cosine:50%|float8-cast",
    "pca-cosine:50%|int8-minmax",
    "gaussian:50%",
)

#: Whether each claim holds is decided on the difference of the second to the first.
CLAIMS = (
    ("float8 loses under 0.3 % at 4x", "float32", "float8", 0.003),
    ("the same, by a plain cast", "float32", "float8-cast", 0.003),
    ("PCA 50 % and float8 (8x) beat int8 (4x), both done plainly", "int8-minmax", "pca-cosine:50%|float8-cast", 0.0),
    ("PCA 50 % and float8 (8x) beat int8 (4x), both in Octavo", "int8", "pca:50%|float8", 0.0),
    ("SVD 50 % and float8 (8x) beat int8 (4x), in Octavo", "int8", "svd:50%|float8", 0.0),
    ("float8 beats int8 at the same size, both done plainly", "int8-minmax", "float8-cast", 0.0),
    ("float8 beats int8 at the same size, both in Octavo", "int8", "float8", 0.0),
)  # fmt: skip

TRUNCATED = (
    "float32",
    "int8",
    *(f"{reducer}:{dim}|int8" for dim in (192, 128, 64) for reducer in ("truncate", "svd")),
    "truncate:64|int8 > int8",
    "truncate:64|int8 > truncate:128|int8 > int8",
    "svd:64|int8 > int8",
    "binary > int8",
)

POOL_FACTORS = (1, 2, 3, 4, 6)

#: Distractors drawn for the part of LIMIT that is embedded, and the seed that draws them.
DISTRACTORS, SEED = 2_000, 0

GRAPH_CODECS = ("float32", "int8", "svd:50%|float8", "binary > int8")


class Study:
    """Runs through `octavo.eval.run` with everything that all sections share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.data: Path = arguments.data
        self.out: Path = arguments.out
        self.model: str = arguments.model
        self.token_data: list[str] = arguments.token_data
        self.late_sample: bool = arguments.late_sample

    def load(self, name: str) -> Dataset:
        """Return one of the shared collections."""
        return load_dataset(str(self.data / name))

    def run(
        self,
        datasets: list[Dataset],
        configurations: list[Any],
        measures: tuple[str, ...] = MEASURES,
        out: Path | None = None,
    ) -> list[Result]:
        """Measure what has not been measured yet."""
        return run(
            datasets,
            self.model,
            configurations,
            measures=measures,
            out=out or self.out,
            cache=self.out / ".cache",
            timing=TIMING,
            progress=True,
            command="python benchmarks/literature.py",
            note=lambda text: print(text, file=sys.stderr, flush=True),
        )

    # -------------------------------------------------------------------------------------------------- the sections

    def storage(self) -> str:
        """(a) Number formats with and without half of the dimensions."""
        codecs = ["float32", *QUANTIZERS, *(f"{reducer}|{kind}" for reducer in REDUCERS for kind in QUANTIZERS)]
        schemes = [Configuration(baseline=name) for name in BASELINES]
        results = self.run([self.load(name) for name in ("cranfield", "scifact", "vaswani")], [*codecs, *schemes])
        return "\n\n".join([claims(results, CLAIMS), quality_tables(results)])

    def pooling(self) -> str:
        """(b) Fewer token vectors."""
        late = [Configuration(codec="int8", mode="late", pool_factor=factor) for factor in POOL_FACTORS]
        return pooling_table(self.run([self.load(name) for name in self.token_data], late))

    def truncation(self) -> str:
        """(c) Fewer dimensions, in one tier or in several."""
        return quality_tables(self.run([self.load("scifact"), self.load("vaswani")], list(TRUNCATED)))

    def limit(self) -> str:
        """(d) Combinations that a single vector cannot represent."""
        small, whole = self.load("limit-small"), self.load("limit-recon50k")
        text, late = Configuration(mode="text"), Configuration(codec="int8", mode="late", pool_factor=1)
        modes = [
            Configuration(codec="float32"),
            Configuration(codec="int8"),
            text,
            Configuration(codec="int8", mode="hybrid"),
            Configuration(codec="int8", mode="hybrid", alpha=0.5),
        ]
        return limit_table(
            [
                *self.run([small], [*modes, late], LIMIT_MEASURES),
                *self.run([sampled(whole)], [*modes, *([late] if self.late_sample else [])], LIMIT_MEASURES),
                *self.run([whole], [text], LIMIT_MEASURES),
            ]
        )

    def graph(self) -> str:
        """(e) What the graph loses against exact search over the same codes."""
        forced = [Configuration(codec=codec, exact=False) for codec in GRAPH_CODECS]
        # Collections as small as these are scanned; with the thresholds lowered they get a graph. The results lie apart,
        # since the same configuration without it is another measurement.
        with mock.patch.object(planner, "limits", planner.Limits(graph_min=1_000)):
            return graph_table(self.run([self.load("scifact"), self.load("vaswani")], forced, out=self.out / "graph"))


def sampled(whole: Dataset, distractors: int = DISTRACTORS, seed: int = SEED) -> Dataset:
    """Return all relevant documents of a data set and some of the others, drawn at random, in their old order."""
    return replace(with_others(whole, distractors, seed), name=f"{whole.name}-sample{distractors}-seed{seed}")


SECTIONS: dict[str, Callable[[Study], str]] = {
    "a": Study.storage,
    "b": Study.pooling,
    "c": Study.truncation,
    "d": Study.limit,
    "e": Study.graph,
}


def main() -> int:
    """Measure the sections asked for, and write each into the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of collections in BEIR layout"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="results and embeddings; what is there is not measured again"
    )
    parser.add_argument(
        "--report", type=Path, help="Markdown file to put the tables into; otherwise they are printed only"
    )
    parser.add_argument("--sections", default=",".join(SECTIONS), help="such as a,c (default: all)")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument(
        "--token-data", nargs="+", default=["cranfield"], help="collections of section b (default: cranfield)"
    )
    parser.add_argument(
        "--late-sample", action="store_true", help="section d: late interaction on the part of LIMIT, too"
    )
    arguments = parser.parse_args()
    wanted = [part.strip() for part in arguments.sections.split(",")]
    if unknown := [part for part in wanted if part not in SECTIONS]:
        parser.error(f"expected sections out of {', '.join(SECTIONS)}, got {unknown[0]!r}")
    if not arguments.data.is_dir():
        parser.error(f"no such folder: {arguments.data}")
    study = Study(arguments)
    for part in wanted:
        text = SECTIONS[part](study)
        publish(arguments.report, f"literature-{part}", f"{text}\n\n{machine()}.", writer="literature.py")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
