"""``quire push`` and ``quire pull``: a whole collection to another place, without encoding anything anew."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

import quire
from quire._transfer import Movable, TransferReport, Write, transfer, write_stored
from quire.cli._app import app
from quire.cli._options import CollectionArgument, Json
from quire.cli._output import print_json, progress_bar
from quire.collection._rebuild import Blueprint, blueprint_of, open_from_blueprint

_BatchSize = Annotated[int, typer.Option(min=1, help="Documents written at a time.")]
_Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="Delete documents of the target that the source does not have; else they are an error."
    ),
]


@app.command("push")
def push_command(
    path: CollectionArgument,
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help="Where to: a directory.", show_default=False)],
    batch_size: _BatchSize = 512,
    prune: _Prune = False,
    as_json: Json = False,
) -> None:
    """Make another place hold exactly what a collection holds.

    Nothing is encoded anew: vectors, codec and encoder go along. An interrupted run is continued by the same command; what has
    arrived is not written again. At the end the ids on both sides are counted and their checksums compared, and a sample of
    documents is read back, vectors included.
    """
    with quire.open(path, read_only=True, must_exist=True) as source:
        target, write = open_target(to, blueprint_of(source))
        with target:
            report = _run("push", source, target, write, batch_size, prune)
    _print(report, str(path), to, as_json)


@app.command("pull")
def pull_command(
    source_place: Annotated[str, typer.Argument(metavar="PLACE", help="Where from: a directory.", show_default=False)],
    path: CollectionArgument,
    batch_size: _BatchSize = 512,
    prune: _Prune = False,
    as_json: Json = False,
) -> None:
    """Make a local collection hold exactly what another place holds; see quire push."""
    source, blueprint = open_source(source_place)
    with source, open_from_blueprint(path, blueprint) as target:
        report = _run("pull", source, target, write_stored(target), batch_size, prune)
    _print(report, source_place, str(path), as_json)


def open_source(place: str) -> tuple[Any, Blueprint]:
    """Open the collection at a place, and tell what another one needs to be its equal."""
    collection = quire.open(place, read_only=True, must_exist=True)
    return collection, blueprint_of(collection)


def open_target(place: str, blueprint: Blueprint) -> tuple[Any, Write]:
    """Open or create a collection of the blueprint's kind, and return with it what writes stored vectors into it."""
    collection = open_from_blueprint(place, blueprint)
    return collection, write_stored(collection)


def _run(name: str, source: Movable, target: Movable, write: Write, batch_size: int, prune: bool) -> TransferReport:
    with progress_bar(name, source.count()) as advance:
        return transfer(source, target, write=write, batch_size=batch_size, prune=prune, advance=advance)


def _print(report: TransferReport, source: str, target: str, as_json: bool) -> None:
    if as_json:
        print_json({"source": source, "target": target, **asdict(report)})
        return
    removed = f", {report.removed:,} removed" if report.removed else ""
    typer.echo(
        f"{source} -> {target}: {report.copied:,} documents copied, {report.present:,} there already{removed}; now "
        f"{report.documents:,} on both sides, ids equal (SHA-256 {report.ids_sha256[:16]}…), "
        f"{report.compared:,} compared as a whole"
    )
