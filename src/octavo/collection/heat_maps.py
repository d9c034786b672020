"""A query's heat map over a page image."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from octavo._arrays import Floats

#: Colours from cold to warm; the page shows through where it is cold.
_WARMTH = np.array([[255, 236, 130], [253, 174, 60], [240, 90, 40], [190, 10, 60]], np.float32)

#: Shade that black has under the warmest place.
_LIFT = 120.0

#: Query tokens of which the best patch is framed.
_FRAMED = 32
_FRAME = (60, 0, 30)


def draw_heat(picture: Any, similarities: Floats, opacity: float, most: int) -> Any:
    """Return a picture with a heat map over it.

    Parameters
    ----------
    picture : PIL.Image.Image
        In RGB.
    similarities : ndarray of shape (n_query_tokens, rows, columns)
        Of patches; they cover the picture evenly.
    opacity : float
        Of the warmest place.
    most : int
        Pixels of the longer side.
    """
    pil: Any = importlib.import_module("PIL.Image")
    drawing: Any = importlib.import_module("PIL.ImageDraw")
    scale = most / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    # in gray, so that no colour of the page is taken for warmth
    page = np.asarray(picture.resize(size, pil.Resampling.LANCZOS).convert("L"), np.float32)[..., None]
    total = similarities.sum(axis=0, dtype=np.float64)
    low, high = float(np.median(total)), float(total.max())
    warmth = np.clip((total - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(total)
    spread = pil.fromarray((warmth * 255).astype(np.uint8)).resize(size, pil.Resampling.BICUBIC)
    heat = np.asarray(spread, np.float32) / 255.0
    steps = heat * (len(_WARMTH) - 1)
    below = np.minimum(steps.astype(np.int64), len(_WARMTH) - 2)
    part = (steps - below)[..., None]
    colours = _WARMTH[below] * (1 - part) + _WARMTH[below + 1] * part
    weight = (opacity * np.sqrt(heat))[..., None]
    # multiplied with a lighter page: print stays darker than what it stands on, and dark areas take the colour on
    lighter = _LIFT + page * (255 - _LIFT) / 255
    mixed = pil.fromarray((page * (1 - weight) + weight * lighter * colours / 255).round().astype(np.uint8))
    pen = drawing.Draw(mixed)
    rows, columns = total.shape
    width = max(2, round(most / 400))
    for token in similarities[:_FRAMED]:
        row, column = divmod(int(token.argmax()), columns)
        box = (
            column * size[0] / columns,
            row * size[1] / rows,
            (column + 1) * size[0] / columns - 1,
            (row + 1) * size[1] / rows - 1,
        )
        pen.rectangle(
            tuple(side + step for side, step in zip(box, (-width, -width, width, width), strict=True)),
            None,
            "white",
            width,
        )
        pen.rectangle(box, None, _FRAME, width)
    return mixed
