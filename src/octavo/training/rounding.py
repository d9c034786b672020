"""Rounding to the codec that will be used, while training: quantization-aware, for whatever codec there is."""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.compression import Codec, Pipeline
from octavo.errors import ParameterError

#: Vectors that a codec is fitted on, and how many batches later it is fitted again: the model moves.
_SAMPLE, _EVERY = 512, 25


class Rounding:
    """Replaces vectors by what a codec keeps of them; the gradient passes as if nothing had happened (straight through).

    Documents are rounded as the finest tier stores them, fitted on recent vectors of the same model, for each number of
    dimensions of its own. Queries stay as they are, since most codecs keep them finer.

    Parameters
    ----------
    codec : str
        A quantizer, such as ``"int8"``, ``"rabitq:2"`` or ``"binary > int8"``. It cannot reduce dimensions: that is what the
        recipe trains for.

    Raises
    ------
    ParameterError
        When it is no codec, or one that reduces.

    References
    ----------
    Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic neurons for conditional
    computation", 2013. arXiv:1308.3432.
    """

    def __init__(self, codec: str) -> None:
        if not isinstance(codec, str):
            raise ParameterError(f"expected codec as a string such as 'int8', got {codec!r}")
        finest = Codec.parse(codec).tiers[-1]
        if finest.reducers:
            raise ParameterError(
                f"expected a codec that only rounds, such as 'int8' or 'rabitq:2', got {codec!r}: the recipe trains for fewer "
                "dimensions itself"
            )
        self.codec = codec
        self._pipeline = finest
        self._fitted: dict[int, Pipeline] = {}
        self._recent: dict[int, Any] = {}
        self._seen: dict[int, int] = {}

    def __call__(self, vectors: Any) -> Any:
        """Return vectors, a tensor of shape ``(n, dim)``, as the codec keeps them, with the gradient of the vectors."""
        import torch

        exact = vectors.detach().float().cpu().numpy()
        kept = torch.from_numpy(self.kept(exact)).to(vectors.device, vectors.dtype)
        return vectors + (kept - vectors.detach())

    def kept(self, vectors: Any) -> Any:
        """Return what the codec keeps of float32 vectors, an array of shape ``(n, dim)``."""
        dim = vectors.shape[1]
        recent = self._recent.get(dim)
        self._recent[dim] = (vectors if recent is None else np.concatenate([recent, vectors]))[-_SAMPLE:]
        seen = self._seen.get(dim, 0)
        # Often while there is little to learn from, then now and then.
        if dim not in self._fitted or seen % _EVERY == 0 or seen < 4:
            self._fitted[dim] = self._pipeline.unfitted().fit(self._recent[dim])
        self._seen[dim] = seen + 1
        fitted = self._fitted[dim]
        return np.ascontiguousarray(fitted.decode(fitted.encode(vectors)), np.float32)
