"""Late-interaction checkpoints of real architecture, tiny and randomly initialised: what they say of themselves is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.encoders.tokens import TokenEncoder
from octavo.errors import ParameterError

sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6.2")

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["the", "cat", "sat", "on", "mat", "dog", "ran", ".", ",", "a", "red", "fell", "shares", "monday"]
TEXTS = ["the cat sat on the mat . a red mat , a red cat", "shares fell on monday , the dog ran on ."]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer, 16 wide, with a vocabulary of a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("backbone")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special).save_pretrained(folder)
    return folder


def checkpoint(backbone: Path, folder: Path, *more: Any, **options: Any) -> str:
    """Save a late-interaction model with further modules, and return where."""
    from sentence_transformers.models import Normalize, Transformer

    transformer = Transformer(str(backbone), **options)
    before = [module for module in more if type(module).__name__ == "MultiVectorMask"]
    after = [module for module in more if type(module).__name__ != "MultiVectorMask"]
    sentence_transformers.MultiVectorEncoder(
        modules=[transformer, *before, Normalize("token_embeddings"), *after]
    ).save(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def modules() -> Any:
    from sentence_transformers.multi_vector_encoder import modules

    return modules


@pytest.fixture
def pooling_model(backbone: Path, tmp_path: Path, modules: Any) -> str:
    pooling = modules.token_pooling.HierarchicalTokenPooling(pool_factor=2)
    return checkpoint(backbone, tmp_path / "pooling", modules.multi_vector_mask.MultiVectorMask(), pooling)


def test_a_model_that_pools_by_itself_is_never_pooled_again(pooling_model: str, backbone: Path, tmp_path: Path) -> None:
    encoder = TokenEncoder(pooling_model)
    assert encoder.pools == "HierarchicalTokenPooling"
    assert encoder.document_tokens(TEXTS[0]) is None  # a row stands for several tokens
    pooled = encoder.encode_documents(TEXTS)
    assert [len(matrix) for matrix in pooled] == [1 + (n - 1) // 2 for n in (16, 12)]
    with octavo.open_multi_vector(tmp_path / "kb", pooling_model) as kb:
        kb.add(TEXTS, ids=["a", "b"])
        assert kb.pooling.factor == 1
        assert kb.info().tokens["pooled_by"] == "HierarchicalTokenPooling"  # type: ignore[index]
        for stored, given in zip(kb.get_token_vectors(["a", "b"]), pooled, strict=True):
            np.testing.assert_allclose(stored, given, atol=2e-3)
        assert kb.search("red mat", 1).ids == ["a"]
        assert kb.verify().ok
    with octavo.open_multi_vector(tmp_path / "kb", pooling_model) as kb:  # and it is found to be the same encoder
        kb.add(["the dog sat ."], ids=["c"])
        assert len(kb) == 3
    with pytest.raises(ParameterError, match=r"HierarchicalTokenPooling.*pool_factor=1"):
        octavo.open_multi_vector(tmp_path / "other", pooling_model, pool_factor=3)
    assert not (tmp_path / "other").exists()
    with octavo.open_multi_vector(tmp_path / "twice") as kb:
        kb.add(["ready"], token_vectors=[np.eye(16)[:4]])
    with pytest.raises(ParameterError, match="once more"):
        octavo.open_multi_vector(tmp_path / "twice", pooling_model)


def test_a_model_that_does_not_is_pooled(backbone: Path, tmp_path: Path, modules: Any) -> None:
    name = checkpoint(backbone, tmp_path / "plain", modules.multi_vector_mask.MultiVectorMask())
    queries_only = checkpoint(
        backbone,
        tmp_path / "queries",
        modules.multi_vector_mask.MultiVectorMask(),
        modules.token_pooling.HierarchicalTokenPooling(pool_factor=2, tasks="query"),
    )
    for model in (name, queries_only):
        encoder = TokenEncoder(model)
        assert encoder.pools is None
        with octavo.open_multi_vector(encoder=encoder) as kb:
            kb.add(TEXTS)
            assert kb.pooling.factor == 2
            assert "pooled_by" not in kb.info().tokens  # type: ignore[operator]


def test_re_encoding_with_a_model_that_pools(pooling_model: str, backbone: Path, tmp_path: Path, modules: Any) -> None:
    name = checkpoint(backbone, tmp_path / "plain", modules.multi_vector_mask.MultiVectorMask())
    with octavo.open_multi_vector(tmp_path / "kb", name) as kb:
        kb.add(TEXTS, ids=["a", "b"])
        kb.reencode(TokenEncoder(pooling_model))
        expected = TokenEncoder(pooling_model).encode_documents(TEXTS)
        assert [len(matrix) for matrix in kb.get_token_vectors(["a", "b"])] == [len(matrix) for matrix in expected]
        assert kb.pooling.factor == 1


def test_skip_lists_and_query_expansion_are_those_of_the_checkpoint(
    backbone: Path, tmp_path: Path, modules: Any
) -> None:
    mask = modules.multi_vector_mask.MultiVectorMask(skiplist_words=[".", ","])
    name = checkpoint(
        backbone, tmp_path / "colbert", mask, query_expansion={"strategy": "fixed", "length": 12, "token": "[MASK]"}
    )
    encoder = TokenEncoder(name)
    [query] = encoder.encode_queries(["red mat ."])
    tokens = encoder.query_tokens("red mat .")
    assert tokens is not None
    assert len(query) == len(tokens) == 12
    assert tokens[:5] == ["[CLS]", "red", "mat", ".", "[SEP]"]  # documents alone skip
    assert set(tokens[5:]) == {"[MASK]"}
    [document] = encoder.encode_documents([TEXTS[0]])
    kept = encoder.document_tokens(TEXTS[0])
    assert kept is not None
    assert len(document) == len(kept)
    assert not {".", ",", "[MASK]"} & set(kept)
    with octavo.open_multi_vector(encoder=name, pool_factor=1) as kb:
        kb.add(TEXTS, ids=["a", "b"])
        why = kb.explain("red mat .", "a")
        assert why.similarities.shape == (12, len(kept))
        assert kb.search("red mat .", 1).scores[0] == pytest.approx(why.similarities.max(axis=1).sum(), abs=0.02)


def test_xtr_is_a_way_to_train(backbone: Path, tmp_path: Path, modules: Any) -> None:
    # The library knows no model whose documents are scored by it: what was trained so is searched by MaxSim.
    name = checkpoint(backbone, tmp_path / "xtr", modules.multi_vector_mask.MultiVectorMask())
    model = sentence_transformers.MultiVectorEncoder(name)
    with pytest.raises(ValueError, match="training-time"):
        model.similarity_fn_name = "xtr"
    assert model.similarity_fn_name == "maxsim"
