"""``octavo push`` and ``octavo pull``: a whole collection to another place, without encoding anything anew."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from octavo import Collection
from octavo._printing import echo, print_json
from octavo._progress import progress_bar
from octavo.cli._app import app
from octavo.cli._locations import open_local
from octavo.cli._options import CollectionArgument, Json
from octavo.collection.rebuild import Blueprint, blueprint_of, most_token_vectors, open_from_blueprint
from octavo.errors import ParameterError
from octavo.ingest.transfer import Movable, TransferReport, Write, transfer, write_stored
from octavo.integrations.qdrant.location import parse_location

_PLACES = (
    "A directory; http://HOST:PORT or https://HOST:PORT of a Qdrant server, whose key is taken from QDRANT_API_KEY; or "
    "qdrant:DIR for Qdrant's core in this process."
)

_Name = Annotated[
    str | None,
    typer.Option(
        help="Of a Qdrant server: the name of the collection there; or #NAME in the URL.", show_default="octavo"
    ),
]
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
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help=_PLACES, show_default=False)],
    name: _Name = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Of a Qdrant cluster: shards of a new collection.", show_default="its own")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Of a Qdrant cluster: copies of each shard.", show_default="its own")
    ] = None,
    batch_size: _BatchSize = 512,
    prune: _Prune = False,
    as_json: Json = False,
) -> None:
    """Make another place hold exactly what a collection holds.

    Nothing is encoded anew: vectors, codec and encoder go along. An interrupted run is continued by the same command; what has
    arrived is not written again. At the end the ids on both sides are counted and their checksums compared, and a sample of
    documents is read back, vectors included.
    """
    with open_local(path, read_only=True) as source:
        target, write = _open_target(to, source, name, shards, replicas)
        with target:
            report = _run("push", source, target, write, batch_size, prune)
            target.flush()  # a server does so on its own; in this process nobody else would
    _print(report, str(path), to, as_json)


@app.command("pull")
def pull_command(
    source_place: Annotated[str, typer.Argument(metavar="PLACE", help=_PLACES, show_default=False)],
    path: CollectionArgument,
    name: _Name = None,
    batch_size: _BatchSize = 512,
    prune: _Prune = False,
    as_json: Json = False,
) -> None:
    """Make a local collection hold exactly what another place holds; see octavo push."""
    source, blueprint = _open_source(source_place, name)
    with source, open_from_blueprint(path, blueprint) as target:
        report = _run("pull", source, target, write_stored(target), batch_size, prune)
    _print(report, source_place, str(path), as_json)


def _open_source(place: str, name: str | None) -> tuple[Any, Blueprint]:
    """Open the collection at a place, and tell what another one needs to be its equal."""
    location = parse_location(place, name)
    if location is None:
        local = open_local(place, read_only=True)
        return local, blueprint_of(local)
    from octavo.integrations.qdrant import transfer as qdrant
    from octavo.integrations.qdrant.location import open_either

    collection = open_either(**location.options())
    return collection, qdrant.blueprint_of(collection)


def _open_target(
    place: str, source: Collection, name: str | None, shards: int | None, replicas: int | None
) -> tuple[Any, Write]:
    """Open or create a collection of the source's kind, and return with it what writes stored vectors into it."""
    location = parse_location(place, name)
    distributed = {"shard_number": shards, "replication_factor": replicas}
    if any(value is not None for value in distributed.values()) and (location is None or location.url is None):
        raise ParameterError(f"--shards and --replicas belong to a Qdrant server, got --to {place}")
    if location is None:
        collection = open_from_blueprint(place, blueprint_of(source))
        return collection, write_stored(collection)
    from octavo.integrations.qdrant import transfer as qdrant

    texts = [document.text for document in source.get(source.ids()[:1000])]
    options = location.options() | (distributed if location.url is not None else {})
    target = qdrant.open_from_blueprint(blueprint_of(source), texts, longest=most_token_vectors(source), **options)
    return target, qdrant.write_stored(target)


def _run(name: str, source: Movable, target: Movable, write: Write, batch_size: int, prune: bool) -> TransferReport:
    with progress_bar(name, source.count()) as advance:
        return transfer(source, target, write=write, batch_size=batch_size, prune=prune, advance=advance)


def _print(report: TransferReport, source: str, target: str, as_json: bool) -> None:
    if as_json:
        print_json({"source": source, "target": target, **asdict(report)})
        return
    removed = f", {report.removed:,} removed" if report.removed else ""
    echo(
        f"{source} -> {target}: {report.copied:,} documents copied, {report.present:,} there already{removed}; now "
        f"{report.documents:,} on both sides, ids equal (SHA-256 {report.ids_sha256[:16]}…), "
        f"{report.compared:,} compared as a whole"
    )
