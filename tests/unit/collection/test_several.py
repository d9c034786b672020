"""Several collections from one pass of a model: each as if it were filled alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.collection import add_to_each
from octavo.errors import InputTypeError, ParameterError

TEXTS = ["a red apple on a table", "green pears", "the blue sky over Rome", "apples and pears"]


class BGEM3FlagModel:
    """The heads of BGE-M3 over a tiny transformer of random weights, with the options and answers of FlagEmbedding's class."""

    def __init__(self) -> None:
        torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        config = transformers.XLMRobertaConfig(
            vocab_size=300,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=200,
        )
        self.torch = torch
        self.model = transformers.XLMRobertaModel(config, add_pooling_layer=False).eval()
        self.sparse_linear = torch.nn.Linear(16, 1)
        self.colbert_linear = torch.nn.Linear(16, 16)
        self.asked: list[list[str]] = []

    def encode(
        self,
        sentences: list[str],
        batch_size: int = 12,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
    ) -> dict[str, Any]:
        self.asked.append(list(sentences))
        dense, lexical, tokens = [], [], []
        for sentence in sentences:
            ids = [0, *(3 + byte for byte in sentence.encode()), 2]
            with self.torch.no_grad():
                hidden = self.model(self.torch.tensor([ids])).last_hidden_state[0]
                weights = self.torch.relu(self.sparse_linear(hidden))[1:-1, 0].numpy()
                late = self.torch.nn.functional.normalize(self.colbert_linear(hidden[1:]), dim=-1).numpy()
            dense.append(self.torch.nn.functional.normalize(hidden[0], dim=-1).numpy())
            found: dict[str, float] = {}
            for token, weight in zip(ids[1:-1], weights.tolist(), strict=True):
                if weight > 0:
                    found[str(token)] = max(weight, found.get(str(token), 0.0))
            lexical.append(found)
            tokens.append(late)
        return {
            "dense_vecs": np.array(dense) if return_dense else None,
            "lexical_weights": lexical if return_sparse else None,
            "colbert_vecs": tokens if return_colbert_vecs else None,
        }


@pytest.fixture
def model() -> BGEM3FlagModel:
    return BGEM3FlagModel()


@pytest.fixture
def pair(model: BGEM3FlagModel, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    with octavo.open(tmp_path / "dense", model) as dense, octavo.open_multi_vector(tmp_path / "late", model) as late:
        yield dense, late


def test_all_three_of_one_pass(model: BGEM3FlagModel, pair: tuple[Any, Any]) -> None:
    dense, late = pair
    ids = add_to_each(pair, TEXTS, ["a", "p", "s", "b"], [{"n": n} for n in range(4)], batch_size=2)
    assert model.asked[0] == TEXTS[:2]
    batches = [asked for asked in model.asked if len(asked) == 2]
    assert batches == [TEXTS[:2], TEXTS[2:]]  # not once for each collection
    assert ids == dense.ids() == late.ids() == ["a", "p", "s", "b"]
    expected = BGEM3FlagModel().encode(TEXTS, return_sparse=True, return_colbert_vecs=True)
    np.testing.assert_allclose(dense.get_vectors(ids), expected["dense_vecs"], atol=0.02)
    for kb in pair:
        assert kb.get(["s"])[0] == octavo.Document("s", TEXTS[2], {"n": 2})
        for (terms, weights), said in zip(kb.get_sparse_vectors(ids), expected["lexical_weights"], strict=True):
            assert terms.tolist() == sorted(map(int, said))
            np.testing.assert_allclose(weights, [said[str(term)] for term in terms], atol=0.02)
        assert kb.search("blue sky", 4, mode="sparse").ids[0] in ids
    alone = octavo.open_multi_vector(encoder=BGEM3FlagModel())
    alone.add(TEXTS, ids)
    for one, other in zip(late.get_token_vectors(ids), alone.get_token_vectors(ids), strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)
    alone.close()


def test_the_rankings_of_both_are_fused(pair: tuple[Any, Any]) -> None:
    dense, late = pair
    add_to_each(pair, TEXTS, ["a", "p", "s", "b"])
    found = [dense.search("pears", 4), dense.search("pears", 4, mode="sparse"), late.search("pears", 4)]
    slots = [([dense.ids().index(name) for name in each.ids], each.scores) for each in found]
    best, _ = octavo.retrievers.reciprocal_rank_fusion(slots)
    assert sorted(best.tolist()) == [0, 1, 2, 3]


def test_what_is_there_is_not_embedded_again(model: BGEM3FlagModel, pair: tuple[Any, Any]) -> None:
    dense, late = pair
    dense.add(TEXTS[:2], ["a", "p"])  # as a crash between two commits leaves it
    model.asked.clear()
    add_to_each(pair, TEXTS[:2], ["a", "p"])
    assert dense.ids() == late.ids()
    assert not [asked for asked in model.asked if len(asked) > 1]  # the pass before had given the token vectors, too
    model.asked.clear()
    add_to_each(pair, iter(TEXTS[:2]), ["a", "p"], embed_texts=[None, "pears in their context"], embed_words=True)
    assert ["pears in their context"] in model.asked
    assert dense.get(["p"])[0].embed_text == late.get(["p"])[0].embed_text == "pears in their context"


def test_made_up_ids_are_the_same(pair: tuple[Any, Any]) -> None:
    dense, late = pair
    ids = add_to_each(pair, [{"text": "x", "metadata": {"n": 1}}, octavo.Document("", "y", {}), "z"])
    assert len(set(ids)) == 3
    assert dense.ids() == late.ids() == ids
    assert add_to_each(pair, []) == []


def test_what_is_refused(pair: tuple[Any, Any]) -> None:
    dense, late = pair
    with pytest.raises(InputTypeError, match="several collections in a list"):
        add_to_each(dense, TEXTS)
    with pytest.raises(InputTypeError, match="open collections"):
        add_to_each([dense, "late"], TEXTS)  # type: ignore[list-item]
    for wrong in ([], [dense, dense]):
        with pytest.raises(ParameterError, match="each once"):
            add_to_each(wrong, TEXTS)
    with octavo.open() as kb, pytest.raises(ParameterError, match="with their encoder"):
        add_to_each([dense, kb], TEXTS)
    with pytest.raises(InputTypeError):
        add_to_each(pair, [5])  # type: ignore[list-item]
    assert len(dense) == len(late) == 0
