"""``octavo train``: a model that was made to be compressed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo._printing import echo, note, print_json
from octavo.cli._app import app
from octavo.cli._encoders import DEFAULT_MODEL
from octavo.cli._options import Json
from octavo.errors import ParameterError
from octavo.eval import ReadyVectors
from octavo.training import Trained, train
from octavo.training.recipes import RECIPES

_WHAT, _HOW = "What it is trained for", "How"

#: Which recipes an option of `What it is trained for` belongs to.
_BELONGS = {
    "dims": ("matryoshka", "2d"),
    "points": ("starbucks",),
    "alignment": ("starbucks",),
    "align_queries": ("starbucks",),
    "dim": ("late",),
    "pool_factor": ("late",),
}


class RecipeName(StrEnum):
    """What a model is trained for."""

    matryoshka = "matryoshka"
    two = "2d"
    starbucks = "starbucks"
    late = "late"


class Device(StrEnum):
    """Where torch computes."""

    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


@app.command("train")
def train_command(
    recipe: Annotated[
        RecipeName,
        typer.Argument(
            help="matryoshka: fewer dimensions. 2d: fewer layers, too, at random. starbucks: a list of layers with "
            "dimensions. late: short token vectors for late interaction.",
            show_default=False,
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            metavar="[KIND:]PATH[#SPLIT]",
            help="Pairs to train on; repeat for several. judged:PATH, the default: questions with relevant documents of a data "
            "set such as a BEIR folder, of its split train or the one named. titles:PATH: titles with bodies of JSON lines. "
            "sentences:PATH: sentences with the rest of their document, of a collection, a folder of texts or JSON lines.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of the model, new or empty. Checkpoints lie in DIR.training meanwhile; the same command goes on.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="NAME", help="Where training starts: a sentence-transformers model."),
    ] = DEFAULT_MODEL,
    dims: Annotated[
        list[int] | None,
        typer.Option(
            help="matryoshka, 2d: dimensions to keep; repeat.",
            rich_help_panel=_WHAT,
            show_default="halves, to a sixteenth",
        ),
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYERS:DIM",
            help="starbucks: layers and dimensions, such as 3:64; repeat.",
            rich_help_panel=_WHAT,
            show_default="the six of eval run --grid starbucks",
        ),
    ] = None,
    alignment: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="starbucks: how much small sizes are pulled towards the whole model.",
            rich_help_panel=_WHAT,
            show_default="1",
        ),
    ] = None,
    align_queries: Annotated[
        bool,
        typer.Option(
            "--align-queries",
            help="starbucks: queries of fewer layers against documents of all, for query_layers.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    dim: Annotated[
        int | None,
        typer.Option(min=1, help="late: dimensions of a token vector.", rich_help_panel=_WHAT, show_default="128"),
    ] = None,
    pool_factor: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="late: cluster tokens while training, as a collection with that factor does.",
            rich_help_panel=_WHAT,
            show_default="1",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Round documents to it while training: int8, int2, rabitq:2, ...",
            rich_help_panel=_WHAT,
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also learn the scores of a stronger model: its name, folder, or module:attribute.",
            rich_help_panel=_HOW,
            show_default=False,
        ),
    ] = None,
    teacher_vectors: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="DOCUMENTS QUERIES",
            help="Its vectors in place of the model: .npy, .npz#ARRAY or .parquet#COLUMN, of one judged data set.",
            rich_help_panel=_HOW,
            show_default=False,
        ),
    ] = None,
    teacher_weight: Annotated[
        float, typer.Option(help="How much the teacher counts beside the pairs.", rich_help_panel=_HOW)
    ] = 1.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Batches.", rich_help_panel=_HOW, show_default="as --epochs says")
    ] = None,
    epochs: Annotated[float, typer.Option(help="How often each pair is seen.", rich_help_panel=_HOW)] = 1.0,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs a batch.", rich_help_panel=_HOW)] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.", rich_help_panel=_HOW)] = 2e-5,
    max_length: Annotated[int, typer.Option(min=4, help="Tokens read of a text.", rich_help_panel=_HOW)] = 128,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Questions held out, with their documents, to measure by.",
            rich_help_panel=_HOW,
            show_default="200, or a tenth of the pairs",
        ),
    ] = None,
    eval_every: Annotated[
        int, typer.Option(min=1, help="Steps between two evaluations, each a checkpoint.", rich_help_panel=_HOW)
    ] = 100,
    patience: Annotated[
        int,
        typer.Option(
            min=0, help="Stop after so many evaluations without a better one; 0: never.", rich_help_panel=_HOW
        ),
    ] = 5,
    bfloat16: Annotated[
        bool,
        typer.Option(
            "--bf16", help="Compute in bfloat16: faster where the processor or the GPU has it.", rich_help_panel=_HOW
        ),
    ] = False,
    device: Annotated[
        Device | None,
        typer.Option(help="Where to compute.", rich_help_panel=_HOW, show_default="a GPU, if there is one"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that prepare batches meanwhile.",
            rich_help_panel=_HOW,
            show_default="4 with an NVIDIA GPU, else none",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.", rich_help_panel=_HOW)] = 0,
    as_json: Json = False,
) -> None:
    """Train a model so that what compression takes away is what it needs least.

    What comes out is an ordinary sentence-transformers model, with a model card. The best evaluation by nDCG@10 on held-out
    questions is kept. Interrupted, the same command goes on where it was.
    """
    given: dict[str, Any] = {
        "dims": dims, "points": _points(points), "alignment": alignment, "align_queries": align_queries or None, "dim": dim,
        "pool_factor": pool_factor,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if recipe.value not in _BELONGS[name]:
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(
                f"it belongs to {' and '.join(_BELONGS[name])}, not to {recipe.value}", param_hint=option
            )
    if teacher is not None and teacher_vectors is not None:
        raise typer.BadParameter("the teacher, or its vectors; not both", param_hint="--teacher-vectors")
    trained = train(
        RECIPES[recipe.value](codec=codec, **given),
        model,
        data,
        out,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        held_out=held_out,
        eval_every=eval_every,
        patience=patience or None,
        teacher=teacher if teacher_vectors is None else ReadyVectors.read(*teacher_vectors),
        teacher_weight=teacher_weight,
        precision="bfloat16" if bfloat16 else "float32",
        device=device.value if device is not None else None,
        workers=workers,
        seed=seed,
        progress=not as_json,
        note=note,
    )
    if as_json:
        print_json(trained.to_dict())
    else:
        echo(_summary(trained))


def _points(texts: list[str] | None) -> list[tuple[int, int]] | None:
    if not texts:
        return None
    found = []
    for text in texts:
        layers, colon, dim = text.partition(":")
        if not colon or not layers.isdecimal() or not dim.isdecimal():
            raise ParameterError(f"expected --points as LAYERS:DIM, such as 3:64, got {text!r}")
        found.append((int(layers), int(dim)))
    return found


def _summary(trained: Trained) -> str:
    rows = [
        f"  {size:>8}  {trained.before.get(size, float('nan')):.4f} -> {value:.4f}"
        for size, value in trained.after.items()
    ]
    stopped = " (stopped early)" if trained.stopped_early else ""
    return "\n".join(
        [
            f"{trained.folder}: {trained.steps:,} steps{stopped} in {trained.seconds:,.0f} s, best after {trained.best_step:,}",
            "nDCG@10 on held-out questions, before -> after, by size (layers x dimensions):",
            *rows,
        ]
    )
