"""One table from runs of `octavo eval run` with several models: agreement@10 and the share of float32's nDCG@10 that is kept.

    for model in minilm e5 sm64 wl; do for set in cranfield scifact vaswani; do
        octavo eval run --data ../shared/data/$set --vectors $model-$set.npz#D $model-$set.npz#Q --model $model \
            -c float32 -c int8 -c 'rabitq:1 > int8' --baseline itq:100% --out runs/$model
    done; done
    python benchmarks/models_report.py runs/

One row a configuration, one column a model and set; bytes are those of vectors in RAM, the smallest and the largest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from octavo.eval import load_results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of folders, one a model")
    parser.add_argument("--measure", default="nDCG@10")
    parser.add_argument("--sets", nargs="+", help="in this order; all of them if left out")
    options = parser.parse_args()
    found: dict[str, dict[tuple[str, str], tuple[float, float, float]]] = {}
    columns: dict[tuple[str, str], float] = {}
    baselines = set()
    for folder in sorted(path for path in options.runs.iterdir() if path.is_dir()):
        for result in load_results(folder):
            column = folder.name, result.dataset.name
            quality = result.quality[options.measure]
            if result.label == "float32":
                columns[column] = quality
            if result.configuration.baseline:
                baselines.add(result.label)
            row = found.setdefault(result.label, {})
            row[column] = quality, result.agreement.float32 or 0.0, result.storage.ram_bytes_per_document
    order = sorted(
        (column for column in columns if not options.sets or column[1] in options.sets),
        key=lambda column: (column[0], options.sets.index(column[1]) if options.sets else column[1]),
    )
    print("| configuration | bytes in RAM | " + " | ".join("-".join(column) for column in order) + " |")
    print("|---" * (len(order) + 2) + "|")
    for label, row in sorted(found.items(), key=lambda pair: -max(size for _, _, size in pair[1].values())):
        shown = [row.get(column) for column in order]
        sizes = [each[2] for each in shown if each]
        if not sizes:
            continue
        cells = [
            f"{each[1]:.3f} / {100 * each[0] / columns[column]:.1f}" if each else "–"
            for each, column in zip(shown, order, strict=True)
        ]
        name = f"`{label}`".replace("|", "\\|") + (" (baseline)" if label in baselines else "")
        print(f"| {name} | {min(sizes):,.0f}-{max(sizes):,.0f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
