"""Losses against slow, obvious ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from octavo.encoders.layers import copied, keep_layers, layer_count
from octavo.training.losses import Clusters, LateScores, RankingLoss, StarbucksLoss, Teacher, layer_embeddings
from octavo.training.rounding import Rounding

TEXTS = ["abc def", "bcd", "hij klm abc", "lkj"]


@pytest.fixture(scope="module")
def model(tiny: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(tiny, device="cpu").eval()


def test_embeddings_of_each_layer_are_those_of_the_cut_model(model: Any) -> None:
    found = layer_embeddings(model, model.preprocess(TEXTS), [1, 2, 3])
    assert model[0].auto_model.config.output_hidden_states in (False, None)
    for layers, vectors in found.items():
        cut = copied(model)
        keep_layers(cut, layers)
        assert np.allclose(vectors.detach().numpy(), cut.encode(TEXTS), atol=1e-5)
    assert layer_count(model) == 3


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_starbucks_is_ranking_and_divergence_over_all_sizes(model: Any) -> None:
    points = [(3, 32), (2, 16), (1, 8)]
    loss = StarbucksLoss(model, RankingLoss(model, scale=20.0), points, alignment=0.5, align_queries=True)
    features = [model.preprocess(TEXTS[:2]), model.preprocess(TEXTS[2:])]
    got = float(loss([dict(one) for one in features], torch.arange(2)).detach())
    by_depth = []
    for one in features:
        vectors = layer_embeddings(model, one, [1, 2, 3])
        by_depth.append({depth: value.detach().numpy().astype(np.float64) for depth, value in vectors.items()})
    queries, documents = by_depth

    def logits(query_depth: int, document_depth: int, dim: int) -> np.ndarray:
        return 20.0 * unit(queries[query_depth][:, :dim]) @ unit(documents[document_depth][:, :dim]).T

    def ranking(scores: np.ndarray) -> float:
        return float(-np.log(np.diag(softmax(scores))).mean())

    whole = softmax(logits(3, 3, 32))
    expected = []
    for layers, dim in points:
        scores = logits(layers, layers, dim)
        value = ranking(scores)
        if (layers, dim) != (3, 32):
            value += 0.5 * (whole * (np.log(whole) - np.log(softmax(scores)))).sum(axis=1).mean()
            value = (value + ranking(logits(layers, 3, dim))) / 2
        expected.append(value)
    assert got == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_teacher_that_agrees_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    queries, documents = (unit(rng.normal(size=(5, 8))).astype(np.float32) for _ in range(2))
    teacher = Teacher(queries, documents, temperature=0.05)
    rows = torch.tensor([4, 1, 2])
    same = torch.from_numpy(queries[rows] @ documents[rows].T) / 0.05
    assert float(teacher.loss(same, rows)) == pytest.approx(0, abs=1e-5)
    assert float(teacher.loss(same.flip(1), rows)) > 0.1


@pytest.mark.parametrize("codec", ["int8", "int2", "rabitq:2", "binary > int8"])
def test_rounding_gives_what_the_codec_keeps_and_passes_the_gradient(codec: str) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    vectors.requires_grad_()
    rounded = Rounding(codec)(vectors)
    kept = Rounding(codec).kept(vectors.detach().numpy())
    assert np.allclose(rounded.detach().numpy(), kept, atol=1e-6)
    assert not torch.equal(rounded, vectors)
    weights = torch.arange(16.0)
    (rounded * weights).sum().backward()
    assert torch.equal(vectors.grad, weights.expand(40, 16))


def test_rounding_follows_the_model_and_keeps_dimensions_apart() -> None:
    rounding = Rounding("int8")
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(30, 16)).astype(np.float32), rng.normal(size=(30, 4)).astype(np.float32)
    assert np.abs(rounding.kept(wide) - wide).max() < 0.05
    assert np.abs(rounding.kept(narrow) - narrow).max() < 0.05
    for _ in range(60):
        kept = rounding.kept(wide * 8)
    assert np.abs(kept - wide * 8).max() < 0.4  # fitted on the first ones alone, it would clip


def test_scores_of_late_interaction_leave_padding_out() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(2, 3, 8, generator=generator), torch.randn(2, 1, 5, 8, generator=generator)
    query_mask, document_mask = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 1, 5, dtype=torch.bool)
    query_mask[0, 2] = False
    document_mask[1, 0, 3:] = False
    scores = LateScores(None)(queries, documents, query_mask, document_mask)
    for at in range(2):
        for other in range(2):
            products = queries[at][query_mask[at]] @ documents[other, 0][document_mask[other, 0]].T
            assert float(scores[at, other]) == pytest.approx(float(products.max(dim=1).values.sum()), rel=1e-5)
    rounded = LateScores(Rounding("int8"))(queries, documents, query_mask, document_mask)
    assert torch.allclose(rounded, scores, atol=0.5)
    assert not torch.equal(rounded, scores)


@pytest.mark.parametrize("factor", [1, 2, 3, 50])
@pytest.mark.parametrize("protected", [0, 1])
@pytest.mark.parametrize("task", ["document", "query"])
def test_clusters_of_a_batch_are_those_of_each_document(factor: int, protected: int, task: str) -> None:
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    generator = torch.Generator().manual_seed(1)
    tokens = torch.nn.functional.normalize(torch.randn(5, 17, 8, generator=generator), dim=-1)
    mask = torch.ones(5, 17, dtype=torch.long)
    mask[1, 9:] = 0
    mask[2, 2:] = 0
    mask[3, :6] = 0  # padded on the left
    mask[4] = 0  # no token at all
    weights = torch.randn(17, 8, generator=generator)
    found = []
    for kind in (HierarchicalTokenPooling, Clusters):
        given = tokens.clone().requires_grad_()
        pooled = kind(factor, num_protected_tokens=protected)(
            {"token_embeddings": given, "attention_mask": mask.clone()}, task=task
        )
        kept = pooled["attention_mask"].bool()
        # What is padding does not count, and what comes first in a document stays the first.
        values = [one[rows] for one, rows in zip(pooled["token_embeddings"], kept, strict=True)]
        torch.stack([(one * weights[: len(one)]).sum() for one in values]).sum().backward()
        found.append((values, given.grad))
    (values, gradient), (ours, our_gradient) = found
    assert [len(one) for one in ours] == [len(one) for one in values]
    for one, other in zip(ours, values, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert gradient is not None
    assert our_gradient is not None
    assert torch.allclose(our_gradient, gradient, atol=1e-5)


def test_a_large_teacher_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    wanted, rows = torch.randn(3, 3), torch.tensor([[4], [0], [2]])
    small = Teacher(vectors, vectors[::-1].copy()).loss(wanted, rows)
    monkeypatch.setattr("octavo.training.losses._BESIDE_SCORES", 0)
    assert float(Teacher(vectors, vectors[::-1].copy()).loss(wanted, rows)) == pytest.approx(float(small))
