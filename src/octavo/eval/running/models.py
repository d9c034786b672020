"""The model of an evaluation: an encoder, perhaps cut to its first layers, and a fingerprint that tells it from others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo._arrays import Floats
from octavo.encoders.dense import Encoder, as_encoder
from octavo.encoders.layers import copied, keep_layers, layered_name, split_name
from octavo.encoders.models import is_attribute, load_attribute, load_sentence_transformer
from octavo.encoders.tokens import MeanProbe, TokenEncoder
from octavo.errors import OctavoError, ParameterError
from octavo.eval.configurations import digest
from octavo.eval.results import ModelInfo
from octavo.eval.vectors import Role

#: Fixed texts whose vectors identify a model. The long one tells apart models that read texts to different lengths.
PROBES = (
    "Octavo asks every encoder for this sentence.",
    "Which of these lines was it?",
    " ".join(f"Sentence {number} makes this text longer than most models read." for number in range(400)),
)

#: Two encodings of a probe that are closer than this come from the same model; numerics differ between machines.
_SAME = 1 - 1e-4


@dataclass(frozen=True)
class EvalModel:
    """An encoder and what identifies it.

    Parameters
    ----------
    encoder : Encoder
        Makes the vectors.
    name : str
        What results call it.
    layers : int or None
        Transformer layers kept.
    prompts : dict of str to str
        What it puts in front of texts.
    probes : ndarray of shape (2 * len(PROBES), dim)
        Vectors of the probes, as documents and as queries.
    deterministic : bool
        Whether it gave the same vectors twice; if not, its vectors are never cached.
    tokens : TokenEncoder or None
        Makes token vectors, for late interaction; `encoder` then gives the mean of a text's, which identifies it.
    written : str or None
        How to name it again, see `ModelInfo.encoder`.
    """

    encoder: Encoder
    name: str
    layers: int | None
    prompts: dict[str, str]
    probes: Floats
    deterministic: bool
    tokens: TokenEncoder | None = None
    written: str | None = None

    @property
    def dim(self) -> int:
        """Dimension of its vectors."""
        return int(self.probes.shape[1])

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal, beside the probes, for two models to be the same."""
        identity = {"name": self.name, "dim": self.dim, "layers": self.layers, "prompts": self.prompts}
        return identity if self.tokens is None else {**identity, "tokens": True}

    @property
    def fingerprint(self) -> str:
        """Hash of identity and probes; use `same_probes` where a last digit may differ."""
        return digest({**self.identity, "probes": np.round(self.probes.astype(np.float64), 3).tolist()})

    def info(self, fingerprint: str) -> ModelInfo:
        """Return what results say about it."""
        return ModelInfo(
            name=self.name, fingerprint=fingerprint, dim=self.dim, layers=self.layers, encoder=self.written
        )

    def encode(self, texts: Sequence[str], role: Role) -> Floats:
        """Return the vectors of texts."""
        return self.encoder.encode_documents(texts) if role == "documents" else self.encoder.encode_queries(texts)

    def encode_tokens(self, texts: Sequence[str], role: Role) -> list[Floats]:
        """Return a matrix of token vectors for each text."""
        if self.tokens is None:
            raise ParameterError(
                f"expected {self.name!r} loaded for late interaction, with load_model(..., tokens=True)"
            )
        return self.tokens.encode_documents(texts) if role == "documents" else self.tokens.encode_queries(texts)


def load_model(model: Any, layers: int | None = None, *, tokens: bool = False) -> EvalModel:
    """Load a model, or wrap what was given, and take its fingerprint.

    Parameters
    ----------
    model : str, callable or object
        Whatever `octavo.open` takes as an encoder, or `octavo.TokenEncoder` with `tokens`; ``module:attribute`` names either.
    layers : int, optional
        Keep so many of its transformer layers; needs a sentence-transformers model.
    tokens : bool, default=False
        Load it for late interaction.

    Raises
    ------
    ParameterError
        When the model has no layers that could be cut, or fewer, or cannot encode a sentence that it has not seen.
    """
    source = load_attribute(model) if isinstance(model, str) and is_attribute(model) else model
    if layers is not None:
        source = cut_model(source, layers)
    token_encoder = TokenEncoder(source) if tokens else None
    encoder = MeanProbe(token_encoder) if token_encoder is not None else as_encoder(source)
    prompts = dict(getattr(encoder, "prompts", None) or {})
    try:
        first, second = (_probe(encoder) for _ in range(2))
    except (LookupError, ValueError) as error:
        if isinstance(error, OctavoError):
            raise
        raise ParameterError(
            f"the encoder {encoder.name!r} cannot encode a sentence that it has not seen ({type(error).__name__}: {error}), "
            "and models are told apart by such sentences. If it looks vectors up, give the vectors themselves: --vectors "
            "DOCUMENTS QUERIES, or vectors=ReadyVectors(...)"
        ) from error
    return EvalModel(
        encoder=encoder,
        name=_name(model, encoder),
        layers=layers,
        prompts=prompts,
        probes=first,
        deterministic=same_probes(first, second),
        tokens=token_encoder,
        written=written_name(model),
    )


def written_name(model: Any) -> str | None:
    """Return how somebody else would name a model: a name, an absolute folder, ``module:attribute``; None if nothing does."""
    if isinstance(model, str):
        own, layers, query_layers = split_name(model)
        place = Path(own).expanduser()
        return layered_name(str(place.resolve()), layers, query_layers) if place.is_dir() else model
    module, name = getattr(model, "__module__", None), getattr(model, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is model else None


def _name(model: Any, encoder: Encoder) -> str:
    return model_name(model if isinstance(model, str) else encoder.name)


def model_name(name: str) -> str:
    """Return what results call a model: its name, and of a folder the last part."""
    own, layers, query_layers = split_name(name)
    return layered_name(Path(own).resolve().name, layers, query_layers) if Path(own).is_dir() else name


def _probe(encoder: Encoder) -> Floats:
    vectors = [encoder.encode_documents([text]) for text in PROBES] + [
        encoder.encode_queries([text]) for text in PROBES
    ]
    return np.ascontiguousarray(np.concatenate(vectors), np.float32)


def same_probes(a: Floats, b: Floats) -> bool:
    """Tell whether two sets of probe vectors come from the same model."""
    if a.shape != b.shape:
        return False
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    alike = np.einsum("ij,ij->i", x, y) >= _SAME * lengths[0] * lengths[1]
    return bool(np.all(alike & np.isclose(*lengths, rtol=1e-3, atol=1e-6)))


def cut_model(model: Any, layers: int) -> Any:
    """Return a sentence-transformers model, loaded by its name or copied, with its first transformer layers alone.

    Raises
    ------
    ParameterError
        See `keep_layers`.
    """
    cut = load_sentence_transformer(model) if isinstance(model, str) else copied(model)
    keep_layers(cut, layers)
    return cut
