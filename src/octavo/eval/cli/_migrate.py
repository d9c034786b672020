"""``octavo eval migrate``: what a change of the model does to searches while it runs, measured before it begins."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from octavo._printing import echo, note, print_json
from octavo.encoders.dense import Encoder, as_encoder
from octavo.encoders.models import is_attribute, load_attribute
from octavo.eval.cli._options import IgnoreIdenticalIds, Json, print_table
from octavo.eval.datasets import load_dataset
from octavo.eval.running.migration import DEFAULT_SHARES, measure_migration, vectors_of
from octavo.eval.vectors import ReadyVectors

_MODEL = (
    "a sentence-transformers model, its folder, module:attribute for a callable of your own, or an .npz file with ready "
    "vectors of documents and queries."
)

#: Part of the new model's quality that searches may lose against the old model before a note says so.
_NOTICED = 0.02


def migrate_command(
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="The data set.", show_default=False)],
    old: Annotated[str, typer.Option("--from", metavar="MODEL", help=f"The old model: {_MODEL}", show_default=False)],
    new: Annotated[str, typer.Option("--to", metavar="MODEL", help="The new one.", show_default=False)],
    codec: Annotated[str, typer.Option("--codec", "-c", help="Compression of both.")] = "int8",
    share: Annotated[
        list[float] | None,
        typer.Option(
            "--share",
            help="Part of the documents that is re-encoded; repeat for several.",
            show_default=", ".join(f"{each:g}" for each in DEFAULT_SHARES),
        ),
    ] = None,
    measure: Annotated[str, typer.Option("--measure", "-m", help="What to measure.")] = "nDCG@10",
    ignore_identical_ids: IgnoreIdenticalIds = None,
    as_json: Json = False,
) -> None:
    """Measure what searches find while a collection of your data is changed from one model to another.

    Fills a collection in memory with the old model, re-encodes it with the new one, and searches it at each share with both
    models, as `octavo reencode --serve both` does.
    """
    dataset = load_dataset(data, ignore_identical_ids=ignore_identical_ids)
    before, after = vectors_of(_model(old), dataset), vectors_of(_model(new), dataset)
    shares = tuple(share) if share else DEFAULT_SHARES
    points = measure_migration(dataset, before, after, codec=codec, shares=shares, measure=measure)
    if as_json:
        print_json(
            {"dataset": dataset.name, "from": old, "to": new, "codec": codec, "measure": measure}
            | {"points": [asdict(point) for point in points]}
        )
        return
    print_table(
        ["re-encoded", measure, "of the new model's", "against the old model", "ms a search"],
        [
            [
                f"{point.share:.0%}",
                f"{point.quality:.4f}",
                f"{point.of_new:.1%}",
                f"{100 * point.above_old:+.1f}",
                f"{point.query_ms:.2f}",
            ]
            for point in points
        ],
    )
    echo(f"{dataset.name}: {len(dataset.document_ids):,} documents, {len(dataset.query_ids):,} queries, codec {codec}")
    if min(point.above_old for point in points[1:]) < -_NOTICED:
        note(
            "searches are worse than with the old model at some moments; reencode(serve='old') keeps its answers to the end"
        )


def _model(name: str) -> Encoder | ReadyVectors:
    if Path(name).suffix == ".npz" and Path(name).exists():
        return ReadyVectors.read(name, name)
    return as_encoder(load_attribute(name)) if is_attribute(name) else as_encoder(name)
