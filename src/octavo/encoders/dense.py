"""Whatever turns texts into vectors, behind one interface, and how they are described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from octavo._arrays import Floats, as_matrix
from octavo.encoders.layers import split_name
from octavo.encoders.models import load_sentence_transformer
from octavo.encoders.one_pass import OnePass, gives_several
from octavo.encoders.page_images import refuse_images
from octavo.errors import InputTypeError, InvalidVectorsError, MismatchError, ParameterError


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors; documents and queries may be encoded differently."""

    @property
    def name(self) -> str:
        """What to call it in messages and in the manifest."""
        ...

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        """Return an array of shape ``(len(texts), dim)``."""
        ...

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """Return an array of shape ``(len(texts), dim)``."""
        ...


class _Wrapped:
    """An encoder made of two functions."""

    def __init__(
        self,
        name: str,
        documents: Callable[[list[str]], Any],
        queries: Callable[[list[str]], Any],
        prompts: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.prompts = prompts or {}
        self._documents = documents
        self._queries = queries

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        refuse_images(
            texts, self.name, "images as documents are for collections of many vectors: octavo.open_multi_vector"
        )
        return _checked(self._documents(list(texts)), len(texts), self.name)

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        return _checked(self._queries(list(texts)), len(texts), self.name)


class TextOnly:
    """What stands in for an encoder where texts are searched by their words alone: one and the same vector for each."""

    name = "none (full text alone)"

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        """Return vectors of one dimension, which say nothing."""
        return np.ones((len(texts), 1), np.float32)

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """Raise: there is nothing to compare with.

        Raises
        ------
        ParameterError
            Always.
        """
        raise ParameterError(
            "the collection holds texts without vectors, because it was filled without an encoder: search it with mode='text' "
            "(or 'sparse', if it has sparse vectors), or fill a new one that was opened with encoder="
        )


def _checked(vectors: Any, n: int, name: str) -> Floats:
    matrix = as_matrix(vectors, None, f"the vectors of encoder {name!r}")
    if len(matrix) != n:
        raise InvalidVectorsError(f"expected {n} vectors of encoder {name!r}, one for each text, got {len(matrix)}")
    return matrix


def as_encoder(encoder: Any) -> Encoder:
    """Return `encoder` behind the `Encoder` interface.

    Parameters
    ----------
    encoder : str, callable or object
        The name or path of a sentence-transformers model, such a model, LangChain ``Embeddings``, a LlamaIndex
        ``BaseEmbedding``, an object with ``encode_documents`` and ``encode_queries``, or a callable from a list of
        texts to an array of shape ``(n, dim)``.

    Raises
    ------
    InputTypeError
        When it is none of these.
    """
    if isinstance(encoder, _Wrapped):
        return encoder
    if isinstance(encoder, str):
        return _sentence_transformer(load_sentence_transformer(encoder), encoder)
    if isinstance(encoder, type):
        raise InputTypeError(f"expected an encoder object, got the class {encoder.__name__}; create an instance of it")
    if gives_several(encoder):
        return _Wrapped(
            _model_name(encoder),
            *OnePass.of(encoder).encoders("dense"),
        )
    if hasattr(encoder, "encode_documents") and hasattr(encoder, "encode_queries"):
        name = getattr(encoder, "name", None) or _type_name(encoder)
        return _Wrapped(str(name), encoder.encode_documents, encoder.encode_queries)
    if hasattr(encoder, "embed_documents") and hasattr(encoder, "embed_query"):  # LangChain
        name = _model_name(encoder)
        return _Wrapped(name, encoder.embed_documents, lambda texts: [encoder.embed_query(text) for text in texts])
    if hasattr(encoder, "get_text_embedding_batch") and hasattr(encoder, "get_query_embedding"):  # LlamaIndex
        name = _model_name(encoder)
        return _Wrapped(
            name,
            encoder.get_text_embedding_batch,
            lambda texts: [encoder.get_query_embedding(text) for text in texts],
        )
    if hasattr(encoder, "encode") and hasattr(encoder, "tokenize"):
        return _sentence_transformer(encoder, _model_name(encoder))
    if callable(encoder):
        name = getattr(encoder, "__qualname__", None) or _type_name(encoder)
        return _Wrapped(str(name), encoder, encoder)
    raise InputTypeError(
        "expected an encoder: the name of a sentence-transformers model, such a model, LangChain Embeddings, a LlamaIndex "
        f"BaseEmbedding, or a callable from a list of texts to an array; got {type(encoder).__name__}"
    )


def _sentence_transformer(model: Any, name: str) -> Encoder:
    documents = getattr(model, "encode_document", model.encode)
    queries = getattr(model, "encode_query", model.encode)
    prompts = {key: value for key, value in (getattr(model, "prompts", None) or {}).items() if value}
    return _Wrapped(
        name,
        lambda texts: documents(texts, show_progress_bar=False, convert_to_numpy=True),
        lambda texts: queries(texts, show_progress_bar=False, convert_to_numpy=True),
        prompts,
    )


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _model_name(value: Any) -> str:
    for attribute in ("model_name", "model", "model_id"):
        name = getattr(value, attribute, None)
        if isinstance(name, str) and name:
            return name
    card = getattr(getattr(value, "model_card_data", None), "base_model", None)
    return card if isinstance(card, str) and card else _type_name(value)


def fingerprint(name: str, prompts: dict[str, str], dim: int | None) -> dict[str, Any]:
    """Describe an encoder for the manifest.

    Its vectors are not part of it: which model they come from is told by the documents themselves, see
    `octavo.collection.model_check`.
    """
    return {"name": name, "prompts": prompts, "dim": dim}


def check_fingerprint(stored: dict[str, Any], name: str, dim: int | None) -> None:
    """Compare an encoder with the one that the collection was built with, as far as that takes no encoding.

    Raises
    ------
    MismatchError
        When the dimension, or the layers of one model that documents go through, differ; the message names both encoders.
    """
    own, layers, _ = split_name(stored["name"])
    other, other_layers, _ = split_name(name)
    if own == other and layers != other_layers:
        raise MismatchError(
            f"the collection was built with encoder {stored['name']!r}, got {name!r}, the same model with other layers; open "
            "it with the first, or change the collection's model to the second: reencode(encoder), octavo reencode"
        )
    if dim is not None and stored.get("dim") not in (None, dim):
        raise MismatchError(
            f"the collection was built with encoder {stored['name']!r} (dimension {stored['dim']}), got {name!r} "
            f"(dimension {dim}); open it with the first, or change the collection's model to the second: reencode(encoder), "
            "octavo reencode"
        )


def cosine(a: Any, b: Any) -> float:
    """Return the cosine of two vectors; where one is zero, 1 if they are equal and 0 if not."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    product = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / product if product else float(np.array_equal(x, y))
