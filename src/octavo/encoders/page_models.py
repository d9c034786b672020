"""Models that turn images of pages into matrices of patch vectors: of sentence-transformers, transformers, colpali-engine."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from octavo.compression.spatial_pooling import Grid
from octavo.errors import InputTypeError

#: Images that one forward pass of a model and its processor takes.
_BATCH = 4


class ImageBackend(NamedTuple):
    """How a model encodes images (of PIL, in RGB), and how the patches of one lie in its matrix."""

    encode: Callable[[list[Any]], Any]
    patch_grid: Callable[[Any], Any]


def of_sentence_transformer(model: Any) -> ImageBackend | None:
    """Return how a ``MultiVectorEncoder`` encodes images; None if it takes texts alone."""
    supports = getattr(model, "supports", None)
    if supports is None or not supports("image"):
        return None

    def encode(images: list[Any]) -> Any:
        return model.encode_document(images, convert_to_numpy=True, show_progress_bar=False)

    def patch_grid(image: Any) -> Grid | None:
        features = model.preprocess([image], task="document")
        for module in list(model)[1:]:  # the mask of what counts; the model itself need not run for it
            if type(module).__name__ == "MultiVectorMask":
                features = module({**features, "token_embeddings": _nothing(features)})
        return _grid(getattr(model, "processor", None), image.size, features)

    return ImageBackend(encode, patch_grid)


def without_tokens(model: Any) -> tuple[Any, Any] | None:
    """Return model and processor of a ``MultiVectorEncoder`` whose processor, simply called, leaves the prompts out.

    That of ColModernVBERT does (transformers 5.23), so that images come without tokens and queries without what the model was
    trained with; its `process_images` and `process_queries` do not.
    """
    first = next(iter(model), None)
    processor: Any = getattr(first, "processor", None)
    inner = getattr(first, "auto_model", None)
    if inner is None or not all(hasattr(processor, name) for name in ("process_images", "process_queries")):
        return None
    alone = processor(images=[_blank((64, 64))], return_tensors="pt")
    return None if "input_ids" in alone else (inner, processor)


def of_model_and_processor(model: Any, processor: Any) -> tuple[ImageBackend, Callable[[list[str]], Any]]:
    """Return how a model with its processor encodes images, and texts as queries.

    Parameters
    ----------
    model : torch.nn.Module
        Gives a tensor of shape ``(batch, n, dim)``, as those of colpali-engine do, or an output with such ``embeddings``, as
        those of transformers do.
    processor : object
        With ``process_images`` and ``process_queries`` (or ``process_texts``).

    Raises
    ------
    InputTypeError
        When they are not of this kind.
    """
    texts: Any = getattr(processor, "process_queries", None) or getattr(processor, "process_texts", None)
    if not callable(model) or texts is None or not hasattr(processor, "process_images"):
        raise InputTypeError(
            "expected (model, processor) with process_images and process_queries, as transformers and colpali-engine have "
            f"them, got ({type(model).__name__}, {type(processor).__name__})"
        )

    def run(features: Any) -> list[Any]:
        torch: Any = importlib.import_module("torch")
        features = {name: value for name, value in dict(features).items() if name != "labels"}
        device = getattr(model, "device", None)
        with torch.no_grad():
            moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in features.items()}
            found = model(**moved)
        vectors = getattr(found, "embeddings", found).float().cpu().numpy()
        mask = features.get("attention_mask")
        kept = np.ones(vectors.shape[:2], np.bool_) if mask is None else np.asarray(mask.cpu()).astype(np.bool_)
        return [matrix[row] for matrix, row in zip(vectors, kept, strict=True)]

    def batches(process: Callable[..., Any], inputs: list[Any]) -> list[Any]:
        was_training = getattr(model, "training", False)
        if was_training:
            model.eval()
        return [
            matrix for start in range(0, len(inputs), _BATCH) for matrix in run(process(inputs[start : start + _BATCH]))
        ]

    def patch_grid(image: Any) -> Grid | None:
        return _grid(processor, image.size, processor.process_images([image]))

    return ImageBackend(lambda images: batches(processor.process_images, images), patch_grid), (
        lambda asked: batches(texts, asked)
    )


# ---------------------------------------------------------------------- where patches lie


def _nothing(features: Any) -> Any:
    """Return token vectors without values: what a mask needs is their number."""
    torch: Any = importlib.import_module("torch")
    return torch.zeros((*features["input_ids"].shape, 1))


def _grid(processor: Any, size: tuple[int, int], features: Any) -> Grid | None:
    """Return which row of an image's matrix each patch is, from the processor's output for that image alone."""
    ids = features.get("input_ids")
    token = _image_token(processor)
    if ids is None or token is None:
        return None
    row = np.asarray(ids[0].cpu())
    mask = features.get("attention_mask")
    kept = np.ones(len(row), np.bool_) if mask is None else np.asarray(mask[0].cpu()).astype(np.bool_)
    positions: npt.NDArray[np.int64] = np.flatnonzero(row[kept] == token).astype(np.int64)
    shape = _shape(processor, size, features, len(positions))
    if shape is None:
        return None
    rows, columns, side = shape
    if side is None:
        return positions.reshape(rows, columns) if len(positions) == rows * columns else None
    tiles = rows * columns * side * side  # tile by tile; the whole image, smaller, comes last
    if len(positions) < tiles:
        return None
    return (
        positions[:tiles].reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    )


def _image_token(processor: Any) -> int | None:
    token = getattr(processor, "image_token_id", None)
    if token is not None:
        return int(token)
    name, tokenizer = getattr(processor, "image_token", None), getattr(processor, "tokenizer", None)
    if name is None or tokenizer is None:
        return None
    found = tokenizer.convert_tokens_to_ids(getattr(name, "content", name))
    return None if found is None else int(found)


def _shape(processor: Any, size: tuple[int, int], features: Any, count: int) -> tuple[int, int, int | None] | None:
    """Return rows and columns of patches; or of tiles, and how many patches a side of each has."""
    image_processor: Any = getattr(processor, "image_processor", None)
    grid = features.get("image_grid_thw")
    if grid is not None:  # Qwen2-VL and its kin: what an image is cut into depends on its size
        merge = int(getattr(image_processor, "merge_size", 1))
        return int(grid[0][1]) // merge, int(grid[0][2]) // merge, None
    if getattr(image_processor, "do_image_splitting", None) is not None:  # Idefics3, SmolVLM, ModernVBERT
        length = getattr(processor, "image_seq_len", None)
        found = image_processor([_blank(size)], return_row_col_info=True, return_tensors="np")
        rows, columns = int(found["rows"][0][0]), int(found["cols"][0][0])
        side = math.isqrt(length) if length else 0
        if not side or side * side != length:
            return None
        return (rows, columns, side) if rows and columns else (1, 1, side)
    side = math.isqrt(count)  # PaliGemma: always the same square
    return (side, side, None) if count and side * side == count else None


def _blank(size: tuple[int, int]) -> Any:
    pil: Any = importlib.import_module("PIL.Image")
    return pil.new("RGB", size)
