"""A randomly initialised BERT of a few thousand weights: it spells, and knows nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LETTERS = [chr(97 + at) for at in range(26)]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def save_tiny_model(folder: Path, *, layers: int = 3, dim: int = 32) -> str:
    """Write the model to a new folder and return it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    bert = folder / "bert"
    bert.mkdir(parents=True)
    BertTokenizerFast({word: at for at, word in enumerate(WORDS)}).save_pretrained(bert)
    configuration = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(configuration).save_pretrained(bert)
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(dim), Normalize()], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


def spelled_pairs(count: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return questions that are the first words of documents, and the documents."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(LETTERS[:12], 4)) for _ in range(50)]
    documents = [" ".join(rng.choice(words, 7)) for _ in range(count)]
    return [" ".join(text.split()[:3]) for text in documents], documents
