"""Do the intervals cover what they promise, and do the recommendations hold? Simulated, with fixed seeds.

A population of queries is given; small samples of it are drawn again and again, as if each were somebody's test set. For each
sample: does the interval of a difference contain the population's mean, and does the configuration that is recommended truly
keep the 99 % that were asked for?

    python benchmarks/bench_intervals.py                         # made-up populations
    python benchmarks/bench_intervals.py --results runs/ --dataset squad-v1.1-dev   # the queries of real runs
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octavo.eval.analysis.select import group, on_dataset
from octavo.eval.analysis.statistics import mean_interval, shares_kept
from octavo.eval.results import load_results

SIZES = (30, 52, 100, 300)
POPULATION = 100_000


def population(rng: np.random.Generator, losing: float, winning: float) -> np.ndarray:
    """Differences of nDCG@10, of which few are not zero."""
    kind = rng.random(POPULATION)
    size = rng.choice([0.11, 0.37, 0.5, 1.0], POPULATION, p=[0.4, 0.3, 0.2, 0.1])
    return np.where(kind < losing, -size, np.where(kind > 1 - winning, size, 0.0))


def percentile_bootstrap(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """The interval that this library used before, as a baseline."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage(differences: np.ndarray, n: int, trials: int, seed: int) -> dict[str, float]:
    """Return how often each interval contains the mean, and how wide it is."""
    rng = np.random.default_rng(seed)
    truth = differences.mean()
    found: dict[str, list[Any]] = {"here": [], "bootstrap": []}
    for trial in range(trials):
        sample = rng.choice(differences, n)
        for name, (low, high) in (
            ("here", mean_interval(sample, least=-1, most=1, resamples=999, seed=trial)),
            ("bootstrap", percentile_bootstrap(sample, 999, trial)),
        ):
            found[name].append((low <= truth <= high, high - low))
    return {
        f"{name} {what}": float(np.mean([value[at] for value in values]))
        for name, values in found.items()
        for at, what in enumerate(("covers", "width"))
    }


def recommendations(
    reference: np.ndarray, candidates: Sequence[np.ndarray], n: int, trials: int, seed: int, floor: float
) -> dict[str, float]:
    """Return how often the choice truly keeps less than asked for: by raw means, and by the bounds. Cheapest first."""
    rng = np.random.default_rng(seed)
    truth = [candidate.mean() / reference.mean() for candidate in candidates]
    wrong_raw = wrong_bound = settled = 0
    for trial in range(trials):
        rows = rng.integers(0, len(reference), n)
        base = reference[rows]
        if not base.any():
            continue
        raw = next((at for at, c in enumerate(candidates) if c[rows].mean() >= floor * base.mean()), None)
        wrong_raw += raw is not None and truth[raw] < floor
        shares = shares_kept([base], [[c[rows]] for c in candidates], resamples=1_999, seed=trial)
        shown = next((at for at, share in enumerate(shares) if share >= floor), None)
        wrong_bound += shown is not None and truth[shown] < floor
        settled += shown is not None
    return {
        "raw means wrong": wrong_raw / trials,
        "bound wrong": wrong_bound / trials,
        "smaller shown": settled / trials,
    }


def made_up(trials: int) -> None:
    """Print what happens with populations of few changes."""
    print("| losing | winning | n | bootstrap covers | bootstrap width | here covers | here width |")
    print("| --: | --: | --: | --: | --: | --: | --: |")
    for losing, winning in ((0.01, 0.0), (0.03, 0.01), (0.2, 0.15)):
        differences = population(np.random.default_rng(0), losing, winning)
        for n in SIZES:
            f = coverage(differences, n, trials, n)
            print(
                f"| {losing:.0%} | {winning:.0%} | {n} | {f['bootstrap covers']:.1%} | {f['bootstrap width']:.3f} | "
                f"{f['here covers']:.1%} | {f['here width']:.3f} |"
            )


def of_results(folder: Path, dataset: str, measure: str, trials: int, floor: float) -> None:
    """Print the same for the queries of real runs, all of them being the population."""
    groups, _ = group(on_dataset(load_results(folder), dataset))
    plain = next(found for found in groups if found.is_float32)
    ids = sorted(plain.first.per_query[measure])

    def values(found: Any) -> np.ndarray:
        return np.array([found.first.per_query[measure][name] for name in ids])

    others = [found for found in groups if found is not plain and not found.is_baseline]
    others.sort(key=lambda found: found.first.storage.ram_bytes_per_document)
    base = values(plain)
    print(f"{dataset}: {len(ids):,} queries, {measure} of float32 {base.mean():.4f}\n")
    print("| configuration | truly kept | queries changed | n | bootstrap covers | here covers | here width |")
    print("| :-- | --: | --: | --: | --: | --: | --: |")
    for found in others:
        d = values(found) - base
        for n in SIZES:
            f = coverage(d, n, trials, n)
            label = found.label.replace("|", "\\|")
            print(
                f"| `{label}` | {values(found).mean() / base.mean():.2%} | {np.mean(d != 0):.1%} | {n} | "
                f"{f['bootstrap covers']:.1%} | {f['here covers']:.1%} | {f['here width']:.3f} |"
            )
    print(f"\nThe smallest at {floor:.0%} of float32, of {len(others)} candidates:\n")
    print("| n | truly less, by raw means | truly less, by the bounds | one smaller than float32 shown |")
    print("| --: | --: | --: | --: |")
    for n in (*SIZES, 1_000, 3_000):
        if n <= len(ids):
            f = recommendations(base, [values(found) for found in others], n, trials, n, floor)
            print(f"| {n:,} | {f['raw means wrong']:.1%} | {f['bound wrong']:.1%} | {f['smaller shown']:.1%} |")
    for found in others:
        mean = values(found).mean() / base.mean()
        if mean > floor:
            print(
                f"about {math.ceil(math.log(len(others) / 0.05) / ((mean - floor) * base.mean())):,} for {found.label}"
            )


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="directory of results; made-up populations without it")
    parser.add_argument("--dataset", default="squad-v1.1-dev")
    parser.add_argument("--measure", default="nDCG@10")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--floor", type=float, default=0.99)
    asked = parser.parse_args()
    if asked.results is None:
        made_up(asked.trials)
    else:
        of_results(asked.results, asked.dataset, asked.measure, asked.trials, asked.floor)


if __name__ == "__main__":
    main()
