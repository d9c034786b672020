"""``octavo list``, ``get``, ``delete`` and ``update``: look into a collection, and change single documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from octavo._printing import console, echo, note, print_json, printable, to_json
from octavo.cli._agreement import Yes, agree
from octavo.cli._app import FAILURE, app
from octavo.cli._encoders import open_with_encoder
from octavo.cli._locations import open_place
from octavo.cli._options import FilterJson, Json, Model, OneSource, PlaceArgument, condition
from octavo.cli._search import print_excerpt
from octavo.collection import CollectionLike
from octavo.errors import ParameterError
from octavo.ingest.known_files import forget_files
from octavo.ingest.registry import forget_source
from octavo.store.documents import Document, chunked

_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of documents.", show_default=False)]

#: Documents changed at a time.
_CHUNK = 256


@app.command("list")
def list_command(
    path: PlaceArgument,
    filter_json: FilterJson = None,
    source: OneSource = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many to show.")] = 20,
    skip: Annotated[int, typer.Option("--skip", min=0, help="How many to leave out first.")] = 0,
    ids_only: Annotated[bool, typer.Option("--ids", help="Print nothing but ids, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """Print documents in the order in which they were written last, oldest first."""
    where = condition(filter_json, source)
    with closing(open_place(path, read_only=True)) as collection:
        total = collection.count(filter=where)
        documents = list(islice(collection.documents(filter=where), skip, skip + limit))
    if as_json:
        shown: list[Any] = [document.id for document in documents] if ids_only else list(map(_as_dict, documents))
        print_json({"path": path, "total": total, "skipped": skip, "ids" if ids_only else "documents": shown})
        return
    out = console()
    for document in documents:
        out.print(Text(printable(document.id), style="" if ids_only else "bold"), soft_wrap=True)
        if not ids_only:
            print_excerpt(out, document.text, document.metadata)
    last = skip + len(documents)
    if last < total or skip:
        note(f"{skip + 1 if documents else skip:,} to {last:,} of {total:,} documents; the next ones: --skip {last}")
    elif not documents:
        note("no documents")


@app.command("get")
def get_command(path: PlaceArgument, ids: _Ids = None, as_json: Json = False) -> None:
    """Print documents whole. Exit code 1 if one is not there."""
    listed = _given(ids)
    with closing(open_place(path, read_only=True)) as collection:
        documents = collection.get(listed)
    found = {document.id for document in documents}
    missing = [identifier for identifier in listed if identifier not in found]
    if as_json:
        print_json({"path": path, "documents": [_as_dict(document) for document in documents], "missing": missing})
    else:
        for number, document in enumerate(documents):
            if number:
                echo()
            console().print(Text(printable(document.id), style="bold"), soft_wrap=True)
            if document.metadata:
                console().print(Text(printable(to_json(document.metadata)), style="dim"), soft_wrap=True)
            echo(document.text)
    if missing:
        note(f"not there: {', '.join(map(repr, missing))}")
        raise typer.Exit(FAILURE)


@app.command("update")
def update_command(
    path: PlaceArgument,
    ids: _Ids = None,
    filter_json: FilterJson = None,
    source: OneSource = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="""Fields to set, e.g. '{"year": 2024, "draft": null}'; null removes one. Others stay.""",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="A new text, of a single document; it is encoded anew.", show_default=False)
    ] = None,
    model: Model = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Change the metadata of documents, which encodes nothing anew, or the text of one."""
    where = condition(filter_json, source)
    changes = _changes(metadata)
    if metadata is None and text is None:
        raise ParameterError("expected --metadata or --text, got neither")
    if (ids is None or not ids) and where is None:
        raise ParameterError("expected ids, --filter or --source, got none of them")
    if text is not None and (where is not None or len(ids or ()) != 1):
        raise ParameterError("--text is for one document; give its id, and neither --filter nor --source")
    opened = open_with_encoder(path, model, read_only=False) if text is not None else open_place(path, read_only=False)
    with closing(opened) as collection:
        chosen = _chosen(collection, ids, where)
        if where is not None:
            agree(f"{len(chosen):,} documents would be changed", yes=yes)
        missing = sorted(set(ids or ()).difference(chosen)) if where is None else []
        if missing:
            raise ParameterError(f"there is no document {missing[0]!r}; nothing was changed")
        for part in chunked(chosen, _CHUNK):
            _change(collection, part, changes, text)
    if as_json:
        print_json({"path": path, "updated": len(chosen)})
    else:
        echo(f"{path}: {len(chosen):,} documents updated")


@app.command("delete")
def delete_command(
    path: PlaceArgument,
    ids: _Ids = None,
    filter_json: FilterJson = None,
    source: OneSource = None,
    everything: Annotated[bool, typer.Option("--all", help="All documents.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete documents: by id, by a condition, all of a source, or all.

    Files are not touched; a source that is indexed again brings its documents back. What is deleted is gone from every
    search at once, and from the files with octavo compact.
    """
    where = condition(filter_json, source)
    given = bool(ids) + (where is not None) + everything
    if given == 0:
        raise ParameterError("expected ids, --filter, --source or --all, got none of them")
    if everything and given > 1:
        raise ParameterError("--all deletes everything; give it alone")
    with closing(open_place(path, read_only=dry_run)) as collection:
        chosen = collection.count() if everything else len(_chosen(collection, ids, where))
        if dry_run:
            deleted = chosen
        else:
            if where is not None or everything:
                which = "all" if everything else to_json(where)
                agree(f"{chosen:,} of {collection.count():,} documents would be deleted ({which})", yes=yes)
            deleted = collection.clear() if everything else collection.delete(ids or None, filter=where)
            if source is not None and filter_json is None and not ids:
                forget_source(collection, source)
                forget_files(collection, source)
        left = collection.count() - (chosen if dry_run else 0)
    if as_json:
        print_json({"path": path, "deleted": deleted, "dry_run": dry_run, "documents": left})
    else:
        echo(f"{path}: {deleted:,} documents {'would be ' if dry_run else ''}deleted; {left:,} left")


def _given(ids: list[str] | None) -> list[str]:
    if not ids:
        raise ParameterError("expected the ids of documents, got none; octavo list shows them")
    return ids


def _chosen(collection: CollectionLike, ids: list[str] | None, where: Any) -> list[str]:
    """Return the ids that are there, of those that were given and match."""
    if where is None:
        return [document.id for document in collection.get(dict.fromkeys(ids or ()))]
    matching = collection.ids(filter=where)
    if not ids:
        return matching
    wanted = set(ids)
    return [identifier for identifier in matching if identifier in wanted]


def _changes(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        changes = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise typer.BadParameter(f"expected a JSON object, got {text!r}: {error}", param_hint="--metadata") from None
    if not isinstance(changes, dict):
        raise typer.BadParameter(f"expected a JSON object, got {text!r}", param_hint="--metadata")
    return changes


def _change(collection: CollectionLike, ids: Sequence[str], changes: dict[str, Any], text: str | None) -> None:
    documents = collection.get(ids)
    merged = [{**document.metadata, **changes} for document in documents]
    kept = [
        {name: value for name, value in metadata.items() if name not in changes or value is not None}
        for metadata in merged
    ]
    found = [document.id for document in documents]
    if text is None:
        collection.update(found, metadata=kept)
    else:
        context = _context(documents[0], text)
        collection.add([text], ids=found, metadata=kept, payloads=collection.get_payloads(found), **context)


def _as_dict(document: Document) -> dict[str, Any]:
    return {"id": document.id, "text": document.text, "metadata": document.metadata}


def _context(before: Document, text: str) -> dict[str, Any]:
    """Return how a new text is embedded: with what stood above the one before, if anything did."""
    if before.embed_text is None or not before.embed_text.endswith(f"\n{before.text}"):
        return {}
    above = before.embed_text[: len(before.embed_text) - len(before.text)]
    return {"embed_texts": [above + text], "embed_words": before.embed_words}
