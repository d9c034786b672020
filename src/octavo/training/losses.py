"""Losses that sentence-transformers lacks. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation calls it
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling
from sentence_transformers.multi_vector_encoder.scoring import colbert_scores
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn

from octavo.training.rounding import Rounding

Features = dict[str, Tensor]
Round = Callable[[Tensor], Tensor]


#: Bytes of a teacher's vectors that are kept where the scores are, on a GPU: asking the processor for them in each step
#: would make the GPU wait.
_BESIDE_SCORES = 1 << 30


class Teacher:
    """A stronger model's vectors of the pairs, from which its scores within a batch are read.

    Parameters
    ----------
    queries, documents : ndarray of shape (n, teacher_dim)
        Row i belongs to pair i.
    weight : float
        Of its loss beside that of the pairs.
    temperature : float
        Divides the teacher's cosines: the smaller, the more its best document counts.
    """

    def __init__(self, queries: Any, documents: Any, *, weight: float = 1.0, temperature: float = 0.05) -> None:
        self.queries = F.normalize(torch.as_tensor(queries, dtype=torch.float32), dim=-1)
        self.documents = F.normalize(torch.as_tensor(documents, dtype=torch.float32), dim=-1)
        self.weight, self.temperature = weight, temperature
        self._small = self.queries.nbytes + self.documents.nbytes <= _BESIDE_SCORES

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return how far scores of a batch, of shape ``(n, n)``, are from the teacher's of the same pairs."""
        if self._small and self.queries.device != logits.device:
            self.queries, self.documents = self.queries.to(logits.device), self.documents.to(logits.device)
        numbers = rows.detach().long().flatten().to(self.queries.device)
        wanted = self.queries[numbers] @ self.documents[numbers].T / self.temperature
        return self.weight * _divergence(logits, wanted.to(logits.device))


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.kl_div(
        F.log_softmax(logits.float(), dim=-1),
        F.log_softmax(wanted.float(), dim=-1),
        reduction="batchmean",
        log_target=True,
    )


class RankingLoss(MultipleNegativesRankingLoss):  # type: ignore[misc]
    """The other documents of a batch are what a question is not about; with rounding, and a teacher where there is one."""

    def __init__(
        self, model: Any, *, scale: float = 20.0, rounding: Round | None = None, teacher: Teacher | None = None
    ) -> None:
        super().__init__(model, scale=scale)
        self.rounding, self.teacher = rounding, teacher

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Return the loss of a batch: queries, then one column of documents."""
        queries, documents = (F.normalize(column.float(), dim=-1) for column in embeddings[:2])
        if self.rounding is not None:
            documents = self.rounding(documents)
        loss: Tensor = super().compute_loss_from_embeddings([queries, documents], labels)
        if self.teacher is not None:
            loss = loss + self.teacher.loss(queries @ F.normalize(documents, dim=-1).T * self.scale, labels)
        return loss

    def logits(self, queries: Tensor, documents: Tensor) -> Tensor:
        """Return the scaled cosines that the loss is made of, unrounded."""
        cosines: Tensor = F.normalize(queries.float(), dim=-1) @ F.normalize(documents.float(), dim=-1).T
        return cosines * float(self.scale)


class StarbucksLoss(nn.Module):
    """Train a fixed list of sizes at once, each a number of layers and of dimensions, the small ones after the whole model.

    The loss is the mean over all sizes of the ranking loss, plus, for each but the largest, the divergence of its scores
    within the batch from those of the largest, which learns nothing from that.

    Parameters
    ----------
    model : SentenceTransformer
        What is trained.
    ranking : RankingLoss
        Of one size.
    points : sequence of (int, int)
        Layers and dimensions.
    alignment : float
        Weight of the divergence.
    align_queries : bool
        Also rank documents of the deepest size by queries of each smaller one, so that queries may go through fewer layers.

    References
    ----------
    Zhuang et al., "Starbucks: Improved Training for 2D Matryoshka Embeddings", 2024. arXiv:2410.13230.
    """

    def __init__(
        self,
        model: Any,
        ranking: RankingLoss,
        points: Sequence[tuple[int, int]],
        *,
        alignment: float = 1.0,
        align_queries: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.ranking = model, ranking
        self.points = sorted(points, reverse=True)
        self.alignment, self.align_queries = alignment, align_queries

    def get_config_dict(self) -> dict[str, Any]:
        """Return what sentence-transformers writes down about a loss."""
        return {"points": self.points, "alignment": self.alignment, "align_queries": self.align_queries}

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        depths = sorted({layers for layers, _ in self.points})
        queries, documents = (
            layer_embeddings(self.model, features, depths) for features in list(sentence_features)[:2]
        )
        deepest, widest = self.points[0]
        whole = self.ranking.logits(queries[deepest][:, :widest], documents[deepest][:, :widest]).detach()
        losses = []
        for layers, dim in self.points:
            query, document = queries[layers][:, :dim], documents[layers][:, :dim]
            loss = self.ranking.compute_loss_from_embeddings([query, document], labels)
            if (layers, dim) != (deepest, widest):
                loss = loss + self.alignment * _divergence(self.ranking.logits(query, document), whole)
            if self.align_queries and layers != deepest:
                across = self.ranking.compute_loss_from_embeddings([query, documents[deepest][:, :dim]], labels)
                loss = (loss + across) / 2
            losses.append(loss)
        return torch.stack(losses).mean()


def layer_embeddings(model: Any, features: Features, depths: Sequence[int]) -> dict[int, Tensor]:
    """Return the embeddings of a batch as if the model ended after so many layers, from one pass through it."""
    transformer, *others = list(model)
    configuration = transformer.auto_model.config
    before = configuration.output_hidden_states
    configuration.output_hidden_states = True
    try:
        output = transformer(dict(features))
    finally:
        configuration.output_hidden_states = before
    states = output.pop("all_layer_embeddings")
    found = {}
    for depth in depths:
        # What the model itself gives at its end may have passed a last norm.
        last = depth == len(states) - 1
        part = {**output} if last else {**output, "token_embeddings": states[depth]}
        for module in others:
            part = module(part)
        found[depth] = part["sentence_embedding"]
    return found


class Clusters(HierarchicalTokenPooling):  # type: ignore[misc]
    """Clusters the tokens of each document while training, in single precision whatever the rest is computed in.

    What comes out is what sentence-transformers' module makes of one document after the other. Here a batch crosses from the
    GPU to the processor and back once, not several times for each document, which is most of the time of such a step.
    """

    def forward(self, features: Features, task: str | None = None) -> Features:
        """Return the batch with fewer token vectors a document."""
        with torch.autocast(features["token_embeddings"].device.type, enabled=False):
            tokens = features["token_embeddings"].float()
            features["token_embeddings"] = tokens
            if self.pool_factor <= 1 or not self.applies_to(task) or not len(tokens):
                unchanged: Features = super().forward(features, task=task)
                return unchanged
            labels = self._labels(tokens.detach(), features["attention_mask"].bool()).to(tokens.device)
            groups = torch.arange(int(labels.max()) + 1 if labels.numel() else 0, device=tokens.device)
            members = (labels[:, None, :] == groups[None, :, None]).to(tokens.dtype)
            sizes = members.sum(dim=-1, keepdim=True)
            means = members @ tokens / sizes.clamp(min=1)
            features["token_embeddings"] = F.normalize(means, dim=-1) if self.normalize_embeddings else means
            features["attention_mask"] = sizes[..., 0] > 0
        return features

    def _labels(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return for each token of each document the number of its group within the document, -1 for padding."""
        from scipy.cluster import hierarchy
        from scipy.spatial.distance import squareform

        distances = (1 - tokens @ tokens.mT).clamp_(0, 2).cpu().numpy()
        labels = np.full(tuple(mask.shape), -1, np.int64)
        for number, kept in enumerate(mask.cpu().numpy()):
            places = np.flatnonzero(kept)
            alone, free = places[: self.num_protected_tokens], places[self.num_protected_tokens :]
            wanted = max(int(len(free) // self.pool_factor), 1)
            groups = np.arange(len(free))
            if wanted < len(free):
                tree = hierarchy.linkage(squareform(distances[number][np.ix_(free, free)], checks=False), method="ward")
                _, groups = np.unique(hierarchy.fcluster(tree, t=wanted, criterion="maxclust"), return_inverse=True)
            labels[number, alone] = np.arange(len(alone))
            labels[number, free] = len(alone) + groups
        return torch.from_numpy(labels)


class LateScores:
    """MaxSim of a batch, each query with each document, after rounding; keeps what it found last."""

    def __init__(self, rounding: Rounding | None) -> None:
        self.rounding = rounding
        self.last: Tensor | None = None

    def __call__(self, queries: Any, documents: Any, queries_mask: Any = None, documents_mask: Any = None) -> Tensor:
        """Return scores of shape ``(queries, documents)``."""
        if self.rounding is not None:
            mask = documents_mask.bool() if documents_mask is not None else documents.abs().sum(-1) > 0
            rounded = torch.zeros_like(documents)
            rounded[mask] = self.rounding(documents[mask])
            documents = rounded
        self.last = colbert_scores(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
        return self.last


class LateRankingLoss(MultiVectorMultipleNegativesRankingLoss):  # type: ignore[misc]
    """As `RankingLoss`, for token vectors and MaxSim."""

    def __init__(self, model: Any, *, rounding: Rounding | None = None, teacher: Teacher | None = None) -> None:
        super().__init__(model, scale=1.0, similarity_fct=LateScores(rounding))
        self.teacher = teacher

    def get_config_dict(self) -> dict[str, Any]:
        """Return what sentence-transformers writes down about a loss."""
        return {"scale": self.scale}

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch."""
        loss: Tensor = super().forward(sentence_features, labels)
        if self.teacher is not None and labels is not None:
            loss = loss + self.teacher.loss(self.similarity_fct.last * self.scale, labels)
        return loss
