"""Page images and models of them that need no download: a toy, and tiny checkpoints of the real architectures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "white": (255, 255, 255),
}

#: Rows and columns of the toy model's patches.
ROWS, COLUMNS = 6, 4


def page(*colours: str, size: tuple[int, int] = (160, 240)) -> Image.Image:
    """Return a white page with a square of each colour, from the top left on."""
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    width, height = size[0] // COLUMNS, size[1] // ROWS
    for number, colour in enumerate(colours):
        row, column = divmod(number, COLUMNS)
        box = (column * width, row * height, (column + 1) * width - 1, (row + 1) * height - 1)
        pen.rectangle(box, fill=COLOURS[colour])
    return picture


def _directions(colours: np.ndarray) -> np.ndarray:
    """Return colours as directions: white apart from all others."""
    values = np.asarray(colours, np.float32).reshape(-1, 3) / 255
    paper = values.min(axis=1, keepdims=True)
    return np.concatenate([values - paper, paper], axis=1) + 1e-3


def patches(images: Sequence[Any]) -> list[np.ndarray]:
    """Encode images: the mean colour of each patch, and one special vector in front."""
    found = []
    for image in images:
        assert image.mode == "RGB"
        colours = np.asarray(image.resize((COLUMNS, ROWS), Image.Resampling.BOX)).reshape(-1, 3)
        found.append(np.concatenate([np.full((1, 4), 0.5, np.float32), _directions(colours)]))
    return found


def patch_grid(image: Any) -> np.ndarray:
    """Say where the patches lie."""
    return np.arange(1, ROWS * COLUMNS + 1).reshape(ROWS, COLUMNS)


def colour_words(texts: Sequence[str]) -> list[np.ndarray]:
    """Encode texts: the colour of each word."""
    found = []
    for text in texts:
        named = [COLOURS[word] for word in text.lower().split() if word in COLOURS]
        found.append(_directions(np.array(named)) if named else np.full((1, 4), 0.5, np.float32))
    return found


class ColourModel:
    """All of it as one object."""

    name = "colours"

    def encode_documents(self, texts: list[str]) -> Any:
        return colour_words(texts)

    def encode_queries(self, texts: list[str]) -> Any:
        return colour_words(texts)

    def encode_images(self, images: list[Any]) -> Any:
        return patches(images)

    def patch_grid(self, image: Any) -> Any:
        return patch_grid(image)


def _tokenizer(special: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<bos>", "<eos>", "<unk>", "Question", ":", "Describe", "the", "image", ".", *COLOURS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    if special:
        fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast


def save_colpali(folder: Path) -> None:
    """Save a ColPali of one layer with random weights: 4 x 4 patches, whatever the image."""
    import torch
    from transformers import ColPaliConfig, ColPaliForRetrieval, ColPaliProcessor, PaliGemmaConfig
    from transformers.models.siglip import SiglipImageProcessorPil

    images = SiglipImageProcessorPil(size={"height": 56, "width": 56}, image_seq_length=16)
    images.image_seq_length = 16
    processor = ColPaliProcessor(images, _tokenizer(()))
    words = len(processor.tokenizer)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14, "projection_dim": 32}
    text = {"model_type": "gemma", "num_key_value_heads": 1, "head_dim": 16, "vocab_size": words}
    backbone = PaliGemmaConfig(
        vision_config={**vision, **small, "vision_use_head": False},
        text_config={**text, **small},
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
        vocab_size=words,
    )
    torch.manual_seed(0)
    model = ColPaliForRetrieval(ColPaliConfig(vlm_config=backbone, embedding_dim=16)).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def save_colqwen2(folder: Path) -> None:
    """Save a ColQwen2 of one layer with random weights: as many patches as the image is large."""
    import torch
    from transformers import ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor, Qwen2VLConfig
    from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

    special = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    tokenizer = _tokenizer(special)
    processor = ColQwen2Processor(Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 24), tokenizer)
    image, video, start, end = tokenizer.convert_tokens_to_ids(special[:4])
    backbone = Qwen2VLConfig(
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        text_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": len(tokenizer),
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    torch.manual_seed(0)
    model = ColQwen2ForRetrieval(ColQwen2Config(vlm_config=backbone, embedding_dim=16)).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def save_colmodernvbert(folder: Path) -> None:
    """Save a ColModernVBERT of one layer with random weights: tiles of 2 x 2 patches, and the whole image as one more."""
    import torch
    from transformers import (
        ColModernVBertConfig,
        ColModernVBertForRetrieval,
        ColModernVBertProcessor,
        ModernVBertConfig,
    )
    from transformers.models.idefics3 import Idefics3ImageProcessorPil

    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = [
        "<image>",
        "<fake_token_around_image>",
        "<end_of_utterance>",
        "<global-img>",
        "<|begin_of_text|>",
        *tiles,
    ]
    tokenizer = _tokenizer(special)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 168}, max_image_size={"longest_edge": 56})
    processor = ColModernVBertProcessor(images, tokenizer, image_seq_len=4)
    words = len(tokenizer)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    backbone = ModernVBertConfig(
        text_config={"model_type": "modernbert", "vocab_size": words, **small, **tokens},
        vision_config={"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14, **small},
        image_token_id=processor.image_token_id,
        pixel_shuffle_factor=2,
    )
    torch.manual_seed(0)
    model = ColModernVBertForRetrieval(ColModernVBertConfig(vlm_config=backbone, embedding_dim=16)).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def pdf(path: Path, pages: Sequence[str | Image.Image | None]) -> Path:
    """Write a PDF: a string is a page of text, an image a scan of it, None a blank page."""
    objects: list[bytes] = [b"", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for content in pages:
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        resources = b"<</Font<</F 3 0 R>>>>"
        drawn = b""
        extra: list[bytes] = []
        if isinstance(content, str):
            lines = [line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in content.split("\n")]
            drawn = ("BT /F 14 Tf 50 750 Td 18 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET").encode()
        elif content is not None:
            import io

            out = io.BytesIO()
            content.save(out, "JPEG", quality=95)
            width, height = content.size
            head = (
                f"<</Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceRGB/BitsPerComponent 8"
                f"/Filter/DCTDecode/Length {len(out.getvalue())}>>stream\n"
            )
            extra.append(head.encode() + out.getvalue() + b"\nendstream")
            resources = f"<</XObject<</I {number + 2} 0 R>>>>".encode()
            drawn = b"q 595 0 0 842 0 0 cm /I Do Q"
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources "
            + resources
            + f"/Contents {number + 1} 0 R>>".encode()
        )
        objects.append(f"<</Length {len(drawn)}>>stream\n".encode() + drawn + b"\nendstream")
        objects += extra
    objects[0] = b"<</Type/Catalog/Pages 2 0 R>>"
    objects[1] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(kids)}>>".encode()
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    data += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    data += f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode()
    path.write_bytes(data)
    return path


#: For the command line: ``--model page_models:COLOUR_MODEL``.
COLOUR_MODEL = ColourModel()


def mean_colour(texts: Sequence[str]) -> np.ndarray:
    """Encode texts with one vector each."""
    return np.stack([matrix.mean(axis=0) for matrix in colour_words(texts)])
