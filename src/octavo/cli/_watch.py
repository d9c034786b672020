"""``octavo watch``: a collection that follows a folder."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from octavo._printing import echo, note, printable, to_json
from octavo.cli._agreement import Yes, interruptible
from octavo.cli._app import app
from octavo.cli._index import (
    ChunkSize,
    CodecOption,
    ContextOption,
    Exclude,
    Ignore,
    Include,
    KeepImages,
    Late,
    Making,
    MaxSize,
    Overlap,
    PoolFactor,
    SourceOption,
    Target,
    megabytes,
    tell_run,
    tell_skipped,
)
from octavo.cli._options import Model, PlaceOption, Sparse
from octavo.ingest.preparing import Choices
from octavo.ingest.watching import INTERVAL, Change, Watch

_LISTED = 3


@app.command("watch")
def watch_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder or a file, as for octavo index.", show_default=False)
    ],
    path: PlaceOption,
    model: Model = None,
    sparse: Sparse = None,
    name: SourceOption = None,
    codec: CodecOption = None,
    late: Late = False,
    pool_factor: PoolFactor = None,
    keep_images: KeepImages = None,
    include: Include = None,
    exclude: Exclude = None,
    ignore: Ignore = None,
    max_size: MaxSize = None,
    chunk_size: ChunkSize = None,
    overlap: Overlap = None,
    context: ContextOption = None,
    interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks; longer ones where looking takes long.")
    ] = INTERVAL,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents encoded and committed at a time.")] = 256,
    yes: Yes = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead of text.")] = False,
) -> None:
    """Index a folder, and keep the collection up to date with it until Ctrl-C.

    New and changed files are taken over once they have come to rest, and documents of deleted files are removed; if more than a
    third of the files vanishes at once, as when a drive is not mounted, their documents stay. Others may search meanwhile.
    """
    choices = Choices(
        name=name,
        chunk_size=chunk_size,
        overlap=overlap,
        include=include or None,
        exclude=exclude or None,
        ignore=ignore,
        max_size=megabytes(max_size),
        keep_images=keep_images,
        context=context.value if context is not None else None,
    )
    making = Making(path, model=model, codec=codec, late=late, pool_factor=pool_factor, sparse=sparse)
    watching = False

    def safe() -> str:
        if not watching:
            return target.safe()
        return "everything that was taken over is written and safe; the same command goes on from there"

    with closing(Target(making, source, choices)) as target, interruptible(lambda: safe()):
        target.agree(prune=True, yes=yes)
        report = target.run(batch_size, prune=True)
        if as_json:
            counts = {key: value for key, value in asdict(report).items() if key != "changed_files"}
            echo(to_json({"event": "indexed", "source": target.prepared.record.name, **counts}))
        else:
            tell_run(path, report, target.prepared, target.about(), prune=True)
            note(f"watching {target.prepared.record.path}; Ctrl-C ends")
        watch = Watch(target.collection, target.prepared, interval=interval, batch_size=batch_size)
        watching = True
        watch.run(lambda change: _tell(change, as_json))


def _tell(change: Change, as_json: bool) -> None:
    report = change.report
    if as_json:
        counts = {key: value for key, value in asdict(report).items() if key != "changed_files"}
        echo(to_json({"event": "changed", "changed": change.changed, "gone": change.gone, **counts}))
        return
    tell_skipped(change.skipped)
    names = change.changed + change.gone
    listed = ", ".join(map(printable, names[:_LISTED])) + (
        f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    )
    echo(
        f"{time.strftime('%H:%M:%S')}  {listed}: {report.added:,} added, {report.updated:,} updated, "
        f"{report.unchanged:,} unchanged, {report.removed:,} removed"
    )
