"""What turns texts into learned sparse vectors: models of sentence-transformers, of others, objects and callables."""

from __future__ import annotations

import gc
import json
import pickle
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import octavo
from octavo._sparse_rows import SparseRows
from octavo.encoders import SparseEncoder, TokenEncoder
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "apple", "pear", "sky", "blue", "a", "the"]


def counts(texts: Sequence[str]) -> list[dict[int, float]]:
    return [{ord(letter): float(text.count(letter)) for letter in text} for text in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint of a masked language model with random weights, as a SPLADE is one."""
    pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("splade")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def test_a_model_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder as Model

    model = Model(str(folder))
    texts = ["a red apple", "the blue sky"]
    expected = model.encode_document(texts, convert_to_sparse_tensor=False, show_progress_bar=False).numpy()
    for given in (model, str(folder), SparseEncoder(model)):
        rows = SparseEncoder(given).encode_documents(texts)
        dense = np.zeros_like(expected)
        dense[np.repeat(np.arange(2), rows.lengths), rows.terms] = rows.weights
        assert dense == pytest.approx(expected, abs=1e-5)
        assert SparseEncoder(given).encode_queries(texts).terms.tolist() == rows.terms.tolist()
    with octavo.open(tmp_path / "kb", sparse=str(folder)) as kb:
        kb.add(texts, ids=["apple", "sky"])
        assert kb.info().sparse["encoder"] == str(folder)  # type: ignore[index]
        assert kb.search("a red apple", 1, mode="sparse").ids == ["apple"]


def test_a_name_that_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ParameterError, match="could not be loaded"):
        SparseEncoder(str(tmp_path))


class Langchain:
    """As LangChain's sparse embeddings are."""

    def embed_documents(self, texts: list[str]) -> list[Any]:
        return [SimpleNamespace(indices=list(each), values=list(each.values())) for each in counts(texts)]

    def embed_query(self, text: str) -> Any:
        return self.embed_documents([text])[0]


class Fastembed:
    """As fastembed's models are: generators."""

    def embed(self, texts: list[str]) -> Iterator[Any]:
        for each in counts(texts):
            yield SimpleNamespace(indices=np.array(list(each)), values=np.array(list(each.values())))

    query_embed = embed


class Own:
    name = "own"

    def encode_documents(self, texts: Sequence[str]) -> Any:
        return counts(texts)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return [dict.fromkeys(each, 1.0) for each in counts(texts)]


@pytest.mark.parametrize("model", [counts, Langchain(), Fastembed(), Own()])
def test_objects_and_callables(model: Any) -> None:
    encoder = SparseEncoder(model)
    rows = encoder.encode_documents(["noon", ""])
    assert rows.lengths.tolist() == [2, 0]
    assert rows.weights.tolist() == [2.0, 2.0]
    assert encoder.encode_queries(["noon"]).terms.tolist() == [ord("n"), ord("o")]


def test_pickled_encoders_are_the_same() -> None:
    again = pickle.loads(pickle.dumps(SparseEncoder(Own(), name="mine")))
    assert again.name == "mine"
    assert again.encode_queries(["aa"]).weights.tolist() == [1.0]


@pytest.mark.parametrize("wrong", [5, Own, None])
def test_what_is_no_encoder(wrong: Any) -> None:
    with pytest.raises(InputTypeError):
        SparseEncoder(wrong)


def test_what_a_model_gives_is_checked() -> None:
    with pytest.raises(InvalidVectorsError, match="expected 2"):
        SparseEncoder(lambda texts: counts(texts[:1])).encode_documents(["a", "b"])
    with pytest.raises(InvalidVectorsError, match="negative"):
        SparseEncoder(lambda texts: [{1: -1.0} for _ in texts]).encode_documents(["a"])


# ---------------------------------------------------------------------- several kinds of one pass


class BGEM3FlagModel:
    """Answers as FlagEmbedding's model of this name does, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, bool, bool]] = []

    def encode(
        self,
        sentences: list[str],
        batch_size: int = 12,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
    ) -> dict[str, Any]:
        self.asked.append((return_dense, return_sparse, return_colbert_vecs))
        lexical = [{str(term): weight for term, weight in each.items()} for each in counts(sentences)]
        tokens = [np.eye(26)[[ord(letter) % 26 for letter in text]] for text in sentences]
        return {
            "dense_vecs": np.array([[len(text), 1.0] for text in sentences]) if return_dense else None,
            "lexical_weights": lexical if return_sparse else None,
            "colbert_vecs": tokens if return_colbert_vecs else None,
        }


@pytest.mark.parametrize("late", [False, True])
def test_bge_m3_is_asked_once(late: bool) -> None:
    model = BGEM3FlagModel()
    with (octavo.open_multi_vector if late else octavo.open)(encoder=model) as kb:
        kb.add(["red apple", "green pear"], ids=["a", "p"])
        assert model.asked == [(not late, True, late)]
        found = kb.search("green", 2, mode="hybrid", rank=("dense", "sparse"))
        assert set(found.ids) == {"a", "p"}
        assert len(model.asked) <= 4  # the query, and once each a document that tells whether it is the same model
        assert kb.get_sparse_vectors(["a"])[0][0].tolist() == sorted({ord(letter) for letter in "red apple"})


def test_a_model_goes_with_the_last_encoder_made_of_it() -> None:
    model: Any = BGEM3FlagModel()
    alive = weakref.ref(model)
    encoders = [SparseEncoder(model), TokenEncoder(model)]
    for encoder in encoders:
        encoder.encode_documents(["red"])
    assert len(model.asked) == 1
    del model, encoder
    encoders.pop()
    gc.collect()
    assert alive() is not None
    encoders.clear()
    gc.collect()
    assert alive() is None


def test_a_model_that_answers_without_what_was_asked() -> None:
    class Silent(BGEM3FlagModel):
        def encode(self, *arguments: Any, **options: Any) -> dict[str, Any]:
            return super().encode(*arguments, **options) | {"lexical_weights": None}

    # the signature is what tells such a model
    Silent.encode.__signature__ = __import__("inspect").signature(BGEM3FlagModel.encode)  # type: ignore[attr-defined]
    with octavo.open(encoder=Silent()) as kb, pytest.raises(InvalidVectorsError, match="lexical_weights"):
        kb.add(["red"])


def test_rows_come_as_they_are() -> None:
    rows = SparseRows.of([{1: 2.0}])
    assert SparseEncoder(lambda texts: rows).encode_documents(["a"]) is rows
    assert json.dumps(rows.terms.tolist()) == "[1]"
