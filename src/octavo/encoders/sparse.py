"""Encoders of learned sparse vectors behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from octavo._sparse_rows import SparseRows
from octavo.encoders._wrapping import ModelEncoder
from octavo.encoders.dense import _model_name, _type_name
from octavo.encoders.models import load_sentence_transformer
from octavo.encoders.one_pass import OnePass, gives_several
from octavo.encoders.page_images import refuse_images
from octavo.errors import InputTypeError, InvalidVectorsError


class _Backend(NamedTuple):
    name: str
    documents: Callable[[list[str]], Any]
    queries: Callable[[list[str]], Any]
    prompts: dict[str, str]


class SparseEncoder(ModelEncoder):
    """Turn texts into learned sparse vectors: weights of a few hundred terms out of a vocabulary.

    Parameters
    ----------
    model : str, callable or object
        - the name or folder of a model that ``sentence_transformers.SparseEncoder`` loads (SPLADE, CSR, and those whose queries
          need no network), or such an object;
        - FlagEmbedding's ``BGEM3FlagModel``: asked once for all that a collection keeps;
        - fastembed's ``SparseTextEmbedding``, LangChain's ``SparseEmbeddings``;
        - an object with ``encode_documents`` and ``encode_queries``, or a callable, from a list of texts to a sparse matrix of
          scipy or torch, or to a list of ``{term: weight}``, ``(indices, values)`` or objects with both.
    name : str, optional
        What to call it in messages and in the manifest.

    Raises
    ------
    InputTypeError
        When it is none of these.
    MissingExtraError
        When the name of a model is given and sentence-transformers is not installed.

    Examples
    --------
    >>> def letters(texts):
    ...     return [{ord(letter): text.count(letter) for letter in text} for text in texts]
    >>> encoder = SparseEncoder(letters)
    >>> [(terms.tolist(), weights.tolist()) for terms, weights in encoder.encode_documents(["noon"])]
    [([110, 111], [2.0, 2.0])]
    """

    _backend: _Backend

    @staticmethod
    def _backend_of(model: Any) -> _Backend:
        return _backend(model)

    def encode_documents(self, texts: Sequence[str], /) -> SparseRows:
        """Return the sparse vectors of documents.

        Parameters
        ----------
        texts : sequence of str
            Texts of documents.

        Returns
        -------
        SparseRows
            One vector each; iterates as pairs of terms and weights.

        Raises
        ------
        InvalidVectorsError
            When the model gives another number of vectors, a negative weight, NaN or infinity.
        ParameterError
            When a document is an image.
        """
        refuse_images(texts, self.name, "give sparse_vectors= with documents that are images, or leave sparse= out")
        return self._checked(self._backend.documents(list(texts)), len(texts))

    def encode_queries(self, texts: Sequence[str], /) -> SparseRows:
        """Return the sparse vectors of queries; as `encode_documents`."""
        return self._checked(self._backend.queries(list(texts)), len(texts))

    def _checked(self, given: Any, n: int) -> SparseRows:
        if not hasattr(given, "__len__") and not hasattr(given, "tocsr") and hasattr(given, "__iter__"):
            given = list(given)  # generators, as fastembed gives them
        try:
            return SparseRows.of(given, "sparse vectors", n=n)
        except InvalidVectorsError as err:
            raise InvalidVectorsError(f"the sparse vectors of encoder {self.name!r} cannot be used: {err}") from err


def as_sparse_encoder(model: Any) -> SparseEncoder | None:
    """Return a model behind the interface; None stays None."""
    return model if model is None or isinstance(model, SparseEncoder) else SparseEncoder(model)


def _backend(model: Any) -> _Backend:
    if isinstance(model, SparseEncoder):
        return model._backend
    if isinstance(model, str):
        return _sentence_transformer(load_sentence_transformer(model, "SparseEncoder", what="sparse"), model)
    if isinstance(model, type):
        raise InputTypeError(f"expected an encoder object, got the class {model.__name__}; create an instance of it")
    if gives_several(model):
        return _Backend(
            _model_name(model),
            *OnePass.of(model).encoders("sparse"),
            {},
        )
    if hasattr(model, "encode_documents") and hasattr(model, "encode_queries"):
        name = getattr(model, "name", None) or _type_name(model)
        return _Backend(str(name), model.encode_documents, model.encode_queries, {})
    if hasattr(model, "encode_document") and hasattr(model, "encode_query"):
        return _sentence_transformer(model, _model_name(model))
    if hasattr(model, "embed_documents") and hasattr(model, "embed_query"):  # LangChain's
        return _Backend(
            _model_name(model), model.embed_documents, lambda texts: [model.embed_query(text) for text in texts], {}
        )
    if hasattr(model, "embed") and hasattr(model, "query_embed"):  # fastembed's
        return _Backend(_model_name(model), model.embed, model.query_embed, {})
    if callable(model):
        name = getattr(model, "__qualname__", None) or _type_name(model)
        return _Backend(str(name), model, model, {})
    raise InputTypeError(
        "expected an encoder of sparse vectors: the name of a model that sentence_transformers.SparseEncoder loads, such a "
        "model, BGE-M3, an object with encode_documents and encode_queries, or a callable from a list of texts to sparse "
        f"vectors; got {type(model).__name__}"
    )


def _sentence_transformer(model: Any, name: str) -> _Backend:
    options = {
        "convert_to_tensor": True,
        "convert_to_sparse_tensor": True,
        "save_to_cpu": True,
        "show_progress_bar": False,
    }
    prompts = {key: value for key, value in (getattr(model, "prompts", None) or {}).items() if value}
    return _Backend(
        name,
        lambda texts: model.encode_document(texts, **options),
        lambda texts: model.encode_query(texts, **options),
        prompts,
    )
