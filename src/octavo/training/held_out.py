"""How good a model is while it is trained: nDCG@10 on held-out questions, as our evaluation measures it. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.evaluation import BaseEvaluator

from octavo._arrays import Floats, unit_rows
from octavo.compression.token_pooling import TokenPooling
from octavo.eval.datasets import Dataset
from octavo.eval.running.measures import Measures, strictly_decreasing
from octavo.training.losses import layer_embeddings
from octavo.training.recipes import Late, Recipe, Size

MEASURE = "nDCG@10"
_DEPTH = 10


class HeldOut(BaseEvaluator):  # type: ignore[misc]
    """Measures each size that a recipe trains for, rounded and pooled as a collection would, by exact search.

    Parameters
    ----------
    data : Dataset
        Documents, questions and judgements that nothing is trained on.
    recipe : Recipe
        What is trained.
    batch_size : int
        Texts encoded at once.

    Attributes
    ----------
    best : dict of str to float
        Of the best evaluation so far, the measure by size.
    """

    def __init__(self, data: Dataset, recipe: Recipe, batch_size: int) -> None:
        super().__init__()
        self.primary_metric = "ndcg"
        self._data, self._recipe, self._batch_size = data, recipe, batch_size
        self._measures = Measures([MEASURE])

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the mean over all sizes as ``ndcg``, and each."""
        training = model.training
        model.eval()
        try:
            by_size = self.measure(model)
        finally:
            model.train(training)
        return {
            "ndcg": float(np.mean(list(by_size.values()))),
            **{f"ndcg_{size}": value for size, value in by_size.items()},
        }

    def measure(self, model: Any) -> dict[str, float]:
        """Return the measure of each size, by its label."""
        if isinstance(self._recipe, Late):
            return {"tokens": self._late(model, self._recipe)}
        sizes = self._recipe.sizes(model)
        documents = _vectors(model, self._data.texts, sizes, self._batch_size, "document")
        queries = _vectors(model, self._data.queries, sizes, self._batch_size, "query")
        found = {}
        for layers, dim in sizes:
            kept = unit_rows(documents[layers][:, :dim], keep_zeros=True)
            rounding = self._recipe.rounding()
            if rounding is not None:
                kept = rounding.kept(kept)
            asked = unit_rows(queries[layers][:, :dim], keep_zeros=True)
            found[size_label(layers, dim)] = self._ndcg(asked @ kept.T)
        return found

    def _late(self, model: Any, recipe: Late) -> float:
        matrices = model.encode_document(
            list(self._data.texts), batch_size=self._batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        # While training, the model clusters at its end; what comes out of it is what a collection would keep.
        if recipe.pool_factor > 1 and not any(type(module).__name__ == "Clusters" for module in model):
            matrices = TokenPooling(recipe.pool_factor).pool([np.asarray(one, np.float32) for one in matrices])
        rounding = recipe.rounding()
        lengths = [len(one) for one in matrices]
        flat = np.concatenate([np.asarray(one, np.float32) for one in matrices])
        flat = rounding.kept(flat) if rounding is not None else flat
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        queries = model.encode_query(
            list(self._data.queries), batch_size=self._batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        scores = np.stack(
            [
                np.maximum.reduceat(flat @ np.asarray(query, np.float32).T, starts, axis=0).sum(axis=1)
                for query in queries
            ]
        )
        return self._ndcg(scores)

    def _ndcg(self, scores: Floats) -> float:
        run = {}
        for query, row in zip(self._data.query_ids, scores, strict=True):
            best = np.argsort(-row, kind="stable")[:_DEPTH]
            lowered = strictly_decreasing(row[best])
            run[query] = [(self._data.document_ids[at], float(score)) for at, score in zip(best, lowered, strict=True)]
        return self._measures.evaluate(self._data.qrels, {self._measures.depths[MEASURE]: run}).mean[MEASURE]


def size_label(layers: int | None, dim: int) -> str:
    """Return what a size is called: ``"3x64"``, or ``"64"`` of the whole model.

    Examples
    --------
    >>> size_label(3, 64), size_label(None, 64)
    ('3x64', '64')
    """
    return f"{layers}x{dim}" if layers is not None else str(dim)


def _vectors(
    model: Any, texts: Sequence[str], sizes: Sequence[Size], batch_size: int, kind: str
) -> dict[int | None, Floats]:
    """Return the vectors of texts after each number of layers, in the order of the texts, from one pass."""
    depths = sorted({layers for layers, _ in sizes if layers is not None})
    prompt = (model.prompts or {}).get(kind) or None
    order = np.argsort([-len(text) for text in texts], kind="stable")
    found: dict[int | None, Any] = {}
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            features = _on(model, model.preprocess([texts[int(row)] for row in rows], prompt=prompt))
            made: dict[int | None, Any]
            if depths:
                made = {layers: part.float() for layers, part in layer_embeddings(model, features, depths).items()}
            else:
                made = {None: model(features)["sentence_embedding"].float()}
            for layers, part in made.items():
                vectors = part.cpu().numpy()
                if layers not in found:
                    found[layers] = np.empty((len(texts), vectors.shape[1]), np.float32)
                found[layers][rows] = vectors
    return found


def _on(model: Any, features: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.to(model.device) if isinstance(value, torch.Tensor) else value for key, value in features.items()
    }
