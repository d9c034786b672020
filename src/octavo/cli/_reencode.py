"""``octavo reencode``: change the embedding model of a collection that is in use."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Literal

import typer

from octavo._printing import echo, human_bytes, print_json
from octavo.cli._app import app
from octavo.cli._encoders import load_encoder_of
from octavo.cli._locations import open_place
from octavo.cli._options import Json, Layers, PlaceArgument, QueryLayers, with_layers
from octavo.collection import CollectionInfo, CollectionLike
from octavo.errors import OctavoError, ServerError


@app.command("reencode")
def reencode_command(
    path: PlaceArgument,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The new model: the name or folder of a sentence-transformers model, or module:attribute for a callable or an "
            "embedding object of your own. NAME@layers=3 stops after the first layers.",
            show_default=False,
        ),
    ] = None,
    layers: Layers = None,
    query_layers: QueryLayers = None,
    codec: Annotated[
        str | None, typer.Option(help="Compression of the new vectors.", show_default="the collection's own")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="N/UNIT", help="At most so many documents per s, min or h, such as 500/min.", show_default=False
        ),
    ] = None,
    serve: Annotated[
        Literal["both", "old"],
        typer.Option(help="What answers searches meanwhile: the vectors of both models, or the old ones alone."),
    ] = "both",
    late: Annotated[
        bool | None,
        typer.Option(
            "--late/--dense",
            help="The new model gives many vectors a text, for late interaction; or one.",
            show_default="as the collection has",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents encoded and committed at a time.")] = 256,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Drop the new vectors that are there, and stay with the old model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Change the model of a collection: encode its texts with another one, while it is searched and written to.

    Run the same command again after an interruption: it goes on where it was. Processes that search should be started with
    both models before (encoder=NEW, previous=OLD; octavo serve --model NEW --previous OLD). The old vectors are dropped when
    the new ones are complete.
    """
    model = with_layers(model, layers, query_layers)
    if cancel == (model is not None):
        raise typer.BadParameter("give the new model, or --cancel without one", param_hint="--model")
    if cancel:
        with closing(open_place(path, read_only=False)) as collection:
            cancelled = collection.cancel_reencode()
        if as_json:
            print_json({"path": path, "cancelled": cancelled})
        else:
            echo(f"{path}: back to the old model" if cancelled else f"{path}: no re-encoding was under way")
        return
    assert model is not None  # checked above
    with closing(open_place(path, read_only=False)) as collection:
        kind = collection.late is not None
        encoder = load_encoder_of(model, late=kind if late is None else late)
        _reencode(path, collection, encoder, codec=codec, rate=rate, serve=serve, batch_size=batch_size)
        if not collection.closed:
            collection.flush()
    with closing(open_place(path, read_only=True)) as collection:  # perhaps of another kind now
        info = collection.info()
    if as_json:
        print_json(
            {
                "path": path,
                "documents": info.documents,
                "encoder": info.encoder,
                "codec": info.codec,
                "dim": info.dim,
            }
            | ({"disk_bytes": info.disk_bytes} if isinstance(info, CollectionInfo) else {})
        )
        return
    size = f"; {human_bytes(info.disk_bytes)} on disk" if isinstance(info, CollectionInfo) else ""
    echo(
        f"{path}: {info.documents:,} documents are now encoded with {info.encoder}, {info.dim} dimensions, codec "
        f"{info.codec}{size}"
    )


def _reencode(
    path: str,
    collection: CollectionLike,
    encoder: object,
    *,
    codec: str | None,
    rate: str | None,
    serve: Literal["both", "old"],
    batch_size: int,
) -> None:
    try:
        collection.reencode(encoder, codec, batch_size=batch_size, rate=rate, serve=serve, progress=True)
    except OctavoError:
        raise
    except Exception as error:  # of the model: a limit, a service that is down
        state = collection.info().reencoding
        done = (
            f"{state['documents']:,} of {state['of']:,} documents are re-encoded"
            if state is not None
            else "nothing is done"
        )
        raise ServerError(
            f"the model failed ({type(error).__name__}: {error}); {done} in {path}; run the same command again to go on"
        ) from error
