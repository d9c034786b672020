"""A query's heat map over a page image."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from octavo._arrays import Floats

#: Colours from cold to warm; the page shows through where it is cold.
_WARMTH = np.array([[255, 236, 130], [253, 174, 60], [240, 90, 40], [190, 10, 60]], np.float32)

#: Query tokens of which the best patch is framed.
_FRAMED = 32
_FRAME = (150, 0, 60)


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
    page = picture.resize(size, pil.Resampling.LANCZOS)
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
    mixed = pil.fromarray((np.asarray(page, np.float32) * (1 - weight) + colours * weight).round().astype(np.uint8))
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
        pen.rectangle(box, outline=_FRAME, width=width)
    return mixed
