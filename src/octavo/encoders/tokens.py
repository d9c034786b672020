"""Whatever turns texts into matrices of token vectors, behind one class."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from octavo._arrays import Floats, real_array, unit_rows
from octavo.compression.spatial_pooling import Grid, checked_grid, needs_grids, pool_documents
from octavo.compression.token_matrices import TokenMatrices
from octavo.compression.token_pooling import TokenPooling
from octavo.encoders._wrapping import ModelEncoder
from octavo.encoders.dense import _model_name, _type_name
from octavo.encoders.layers import split_name
from octavo.encoders.models import load_sentence_transformer, resolve_model
from octavo.encoders.one_pass import OnePass, gives_several
from octavo.encoders.page_images import PageImage, is_image
from octavo.encoders.page_models import ImageBackend, of_model_and_processor, of_sentence_transformer, without_tokens
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError

#: Architectures of checkpoints that are late-interaction models without a `modules.json` that says so.
_LATE_ARCHITECTURES = ("HF_ColBERT", "ForRetrieval")

_Tokens = Callable[[str], "list[str] | None"]

#: Images that are decoded at a time: one of a page takes some ten megabytes.
_IMAGES_AT_ONCE = 16


class _Backend(NamedTuple):
    name: str
    documents: Callable[[list[str]], Any]
    queries: Callable[[list[str]], Any]
    document_tokens: _Tokens
    query_tokens: _Tokens
    prompts: dict[str, str]
    images: ImageBackend | None = None
    pools: str | None = None


class TokenEncoder(ModelEncoder):
    """Turn texts into one matrix of token vectors each, for late interaction.

    Parameters
    ----------
    model : str, callable or object
        - the name or folder of a late-interaction model that sentence-transformers loads, or a
          ``sentence_transformers.MultiVectorEncoder``;
        - the name or folder of an ordinary sentence-transformers model, or a ``SentenceTransformer``: its token vectors
          are used as they leave the transformer, special tokens included (the first one stands for the whole text). They
          are as wide as the model; the codec ``"svd:128|int8"`` learns a narrower head from the corpus;
        - FlagEmbedding's ``BGEM3FlagModel``: asked once for all that a collection keeps;
        - a PyLate model, or any object whose ``encode`` takes ``is_query``;
        - an object with ``encode_documents`` and ``encode_queries``, or a callable, from a list of texts to a list of
          arrays of shape ``(n_tokens, dim)``. With ``encode_images`` (and ``patch_grid``) it takes images as well;
        - ``(model, processor)`` of transformers or colpali-engine, such as ``ColPaliForRetrieval`` and ``ColPaliProcessor``.
    name : str, optional
        What to call it in messages and in the manifest.
    images : callable, optional
        Encodes documents that are images: from a list of ``PIL.Image.Image`` in RGB to a list of arrays of shape
        ``(n_patches, dim)``. Models of images, such as ColPali and ColQwen2, bring their own.
    patch_grid : callable, optional
        For `images`: from one such image to an array of whole numbers of shape ``(rows, columns)`` that says which row of its
        matrix each patch is, for pooling by place and for heat maps; or to None. A model of images brings its own.

    Raises
    ------
    InputTypeError
        When it is none of these.
    MissingExtraError
        When the name of a model is given and sentence-transformers is not installed.

    Examples
    --------
    >>> def letters(texts):
    ...     return [np.eye(26)[[ord(letter) - ord("a") for letter in text]] for text in texts]
    >>> encoder = TokenEncoder(letters)
    >>> [matrix.shape for matrix in encoder.encode_documents(["ink", "paper"])]
    [(3, 26), (5, 26)]
    """

    _backend: _Backend

    def __init__(
        self,
        model: Any,
        *,
        name: str | None = None,
        images: Callable[[list[Any]], Any] | None = None,
        patch_grid: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(model, name=name)
        if patch_grid is not None and images is None:
            raise ParameterError("patch_grid= belongs to images=, what encodes them; give both")
        for option, value in (("images", images), ("patch_grid", patch_grid)):
            if value is not None and not callable(value):
                raise InputTypeError(f"expected {option} as a callable, got {type(value).__name__}")
        self._own_images = images, patch_grid
        if images is not None:
            self._backend = self._backend._replace(images=ImageBackend(images, patch_grid or _no_grid))
        elif isinstance(model, TokenEncoder):
            self._own_images = model._own_images
        #: The class of the module by which the model itself pools the tokens of documents; None if it does not.
        self.pools = self._backend.pools

    @staticmethod
    def _backend_of(model: Any) -> _Backend:
        return _backend(model)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._own_images == (None, None):
            return super().__reduce__()
        return _with_images, (self._model, self.name, *self._own_images)

    @property
    def takes_images(self) -> bool:
        """Whether documents may be images."""
        return self._backend.images is not None

    def encode_documents(self, texts: Sequence[str], /) -> list[Floats]:
        """Return the token vectors of each document.

        Parameters
        ----------
        texts : sequence of str
            Texts of documents, or what stands for an image (`PageImage.embed_text`).

        Returns
        -------
        list of ndarray of shape (n_tokens, dim), float32
            One matrix each.

        Raises
        ------
        InvalidVectorsError
            When the model gives another number of matrices, matrices of several widths, NaN or infinity.
        InvalidImageError
            When an image cannot be read (any more).
        ParameterError
            When there is an image, and the model takes none.
        """
        return self._encoded(list(texts), None)

    def encode_with_grids(self, texts: Sequence[str], /) -> tuple[list[Floats], list[Grid | None]]:
        """Return the token vectors of each document, and how its patches lie; each image is read once for both.

        Parameters
        ----------
        texts : sequence of str
            See `encode_documents`.

        Returns
        -------
        matrices : list of ndarray of shape (n_tokens, dim), float32
            One matrix each.
        grids : list of ndarray or None
            See `patch_grid`.

        Raises
        ------
        InvalidVectorsError, InvalidImageError, ParameterError
            As `encode_documents`.
        """
        grids: list[Grid | None] = [None] * len(texts)
        return self._encoded(list(texts), grids), grids

    def _encoded(self, texts: list[str], grids: list[Grid | None] | None) -> list[Floats]:
        """Return the token vectors of documents, and put into `grids` how the patches of images lie, if that is wanted."""
        pictures = [position for position, text in enumerate(texts) if is_image(text)]
        if not pictures:
            return self._checked(self._backend.documents(texts), len(texts))
        found: dict[int, Any] = {}
        for start in range(0, len(pictures), _IMAGES_AT_ONCE):
            part = pictures[start : start + _IMAGES_AT_ONCE]
            backend = self._require_images()
            images = [PageImage.stored(texts[position]).load() for position in part]
            found.update(zip(part, self._checked(backend.encode(images), len(part)), strict=True))
            if grids is not None:
                for position, image in zip(part, images, strict=True):
                    grids[position] = self._grid_of(image)
        words = [position for position in range(len(texts)) if position not in found]
        if words:
            encoded = self._checked(self._backend.documents([texts[i] for i in words]), len(words))
            found.update(zip(words, encoded, strict=True))
        return self._checked([found[position] for position in range(len(texts))], len(texts))

    def _require_images(self) -> ImageBackend:
        if self._backend.images is None:
            raise ParameterError(
                f"expected texts for the encoder {self.name!r}, which takes no images, got an image; open the collection with "
                "a model of page images (ColPali, ColQwen2, ...), with TokenEncoder(model, images=...), or give token_vectors="
            )
        return self._backend.images

    def patch_grid(self, text: str, /) -> Grid | None:
        """Return which row of its matrix each patch of an image is, by rows and columns; None if that is not known."""
        if not is_image(text) or self.pools is not None:
            return None
        return self._grid_of(PageImage.stored(text).load())

    def _grid_of(self, image: Any) -> Grid | None:
        if self.pools is not None:  # patches are not where they were
            return None
        grid = self._require_images().patch_grid(image)
        return None if grid is None else checked_grid(grid)

    def encode_queries(self, texts: Sequence[str], /) -> list[Floats]:
        """Return the token vectors of each query; as `encode_documents`."""
        return self._checked(self._backend.queries(list(texts)), len(texts))

    def document_tokens(self, text: str, /) -> list[str] | None:
        """Return the strings that the rows of a document's matrix stand for; None if the model cannot tell."""
        return self._backend.document_tokens(text)

    def query_tokens(self, text: str, /) -> list[str] | None:
        """Return the strings that the rows of a query's matrix stand for; None if the model cannot tell."""
        return self._backend.query_tokens(text)

    def _checked(self, matrices: Any, n: int) -> list[Floats]:
        arrays = [_array(matrix) for matrix in matrices]
        if len(arrays) != n:
            raise InvalidVectorsError(
                f"expected {n} matrices of encoder {self.name!r}, one for each text, got {len(arrays)}"
            )
        if not any(array.size for array in arrays):
            return arrays
        try:
            return list(TokenMatrices.of(arrays))
        except InvalidVectorsError as err:
            raise InvalidVectorsError(f"the token vectors of encoder {self.name!r} cannot be used: {err}") from err


def _with_images(model: Any, name: str, images: Any, patch_grid: Any) -> TokenEncoder:
    return TokenEncoder(model, name=name, images=images, patch_grid=patch_grid)


def _no_grid(image: Any) -> None:
    return None


def is_multi_vector(encoder: Any) -> bool:
    """Tell whether an encoder gives a matrix a text without being asked to: not so for names and callables."""
    return isinstance(encoder, TokenEncoder) or _is_late_model(encoder)


class MeanProbe:
    """A token encoder seen as one that gives one vector a text, to be compared with others: the mean of the unit tokens."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self._encoder = encoder
        self.name = encoder.name
        self.prompts = encoder.prompts

    def encode_documents(self, texts: Sequence[str], /) -> Floats:
        """Return the mean of each text's token vectors."""
        return np.stack([_mean(matrix, self.name) for matrix in self._encoder.encode_documents(texts)])

    def encode_queries(self, texts: Sequence[str], /) -> Floats:
        """Return the mean of each query's token vectors."""
        return np.stack([_mean(matrix, self.name) for matrix in self._encoder.encode_queries(texts)])


def _mean(matrix: Floats, name: str) -> Floats:
    if not len(matrix):
        raise InvalidVectorsError(f"expected encoder {name!r} to give token vectors for a sentence, got none")
    mean: Floats = unit_rows(matrix, keep_zeros=True).mean(axis=0)
    return mean


def unit_tokens(matrices: TokenMatrices | Sequence[Any], dim: int | None, what: str) -> TokenMatrices:
    """Return token vectors as one array of unit rows.

    Parameters
    ----------
    matrices : TokenMatrices, or sequence of array_like of shape (n_tokens, dim)
        One a text; those without tokens are allowed.
    dim : int or None
        What the dimension has to be.
    what : str
        What the matrices belong to, for messages.

    Raises
    ------
    InvalidVectorsError
        When they are ragged, not finite, of another dimension, or hold a zero vector.
    """
    if not isinstance(matrices, TokenMatrices):
        matrices = [_array(matrix) for matrix in matrices]
    tokens = TokenMatrices.of(matrices, dim=dim)
    units = unit_rows(tokens.flat, keep_zeros=True)
    directions = units.any(axis=1)
    if not directions.all():
        token = int(np.argmin(directions))
        number = int(np.searchsorted(tokens.offsets, token, side="right")) - 1
        raise InvalidVectorsError(
            f"expected token vectors with a direction, got a zero vector: row {token - int(tokens.offsets[number])} of "
            f"{what} {number}; leave such tokens out"
        )
    return TokenMatrices(units, tokens.offsets)


def encode_pooled(
    encoder: TokenEncoder, texts: Sequence[str], pooling: dict[str, Any], dim: int | None
) -> TokenMatrices:
    """Return the pooled token vectors of documents, of unit length."""
    grids: list[Grid | None] | None = None
    if encoder.takes_images and needs_grids(pooling):
        matrices, grids = encoder.encode_with_grids(texts)
    else:
        matrices = encoder.encode_documents(texts)
    if dim is None and not any(matrix.size for matrix in matrices):
        raise InvalidVectorsError(
            f"expected token vectors of encoder {encoder.name!r}, got none for any of {len(texts)} texts; the first "
            "batch has to tell the dimension"
        )
    return pooled(matrices, pooling, dim, grids)


def pooling_beside(encoder: object, asked: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return how tokens are to be pooled beside what the encoder does itself: not at all, where that pools.

    Parameters
    ----------
    encoder : object
        What makes the token vectors, if it was given.
    asked : dict or None
        Configuration of a `TokenPooling`, where one was asked for or is stored.

    Raises
    ------
    ParameterError
        When both would pool.
    """
    if not isinstance(encoder, TokenEncoder) or encoder.pools is None:
        return asked
    if asked is not None and asked.get("factor") != 1:
        raise ParameterError(
            f"encoder {encoder.name!r} pools the tokens of documents itself ({encoder.pools}), and the collection would pool "
            "them once more: open it with pool_factor=1"
        )
    return asked or TokenPooling(factor=1).get_config()


def pooled(
    matrices: TokenMatrices | Sequence[Any],
    pooling: dict[str, Any],
    dim: int | None,
    grids: Sequence[Grid | None] | None = None,
) -> TokenMatrices:
    """Return token vectors checked, scaled to unit length, and pooled."""
    return pool_documents(pooling, unit_tokens(matrices, dim, "document"), grids)


# ---------------------------------------------------------------------- the kinds of models


def _backend(model: Any) -> _Backend:
    if isinstance(model, TokenEncoder):
        return model._backend
    if isinstance(model, str):
        return _named(model)
    if isinstance(model, type):
        raise InputTypeError(f"expected an encoder object, got the class {model.__name__}; create an instance of it")
    if gives_several(model):
        return _Backend(
            _model_name(model),
            *OnePass.of(model).encoders("tokens"),
            _cannot_tell,
            _cannot_tell,
            {},
        )
    if isinstance(model, tuple) and len(model) == 2:
        return _model_and_processor(*model)
    if _mro_has(model, "MultiVectorEncoder"):
        return _late_sentence_transformer(model, _model_name(model))
    if _takes(model, "is_query"):
        return _pylate(model)
    if hasattr(model, "encode_documents") and hasattr(model, "encode_queries"):
        name = getattr(model, "name", None) or _type_name(model)
        images = None
        if hasattr(model, "encode_images"):
            images = ImageBackend(model.encode_images, getattr(model, "patch_grid", _no_grid))
        return _Backend(str(name), model.encode_documents, model.encode_queries, *_tellers(model), {}, images)
    if _takes(model, "output_value"):
        return _dense_sentence_transformer(model, _model_name(model))
    if callable(model):
        name = getattr(model, "__qualname__", None) or _type_name(model)
        return _Backend(str(name), model, model, _cannot_tell, _cannot_tell, {})
    raise InputTypeError(
        "expected a token encoder: the name of a sentence-transformers model, such a model, a PyLate model, an object with "
        "encode_documents and encode_queries, or a callable from a list of texts to a list of matrices; "
        f"got {type(model).__name__}"
    )


def _named(name: str) -> _Backend:
    if not is_late_checkpoint(name):
        return _dense_sentence_transformer(load_sentence_transformer(name), name)
    model = load_sentence_transformer(name, "MultiVectorEncoder", what="late-interaction", since=6)
    return _late_sentence_transformer(model, name)


def is_late_checkpoint(name: str) -> bool:
    """Tell a late-interaction checkpoint from an ordinary one, which pools its token vectors.

    sentence-transformers would load either as a `MultiVectorEncoder`, but put a random head on an ordinary one.
    """
    modules = _json_of(name, "modules.json")
    if modules is not None:
        kinds = [str(module.get("type", "")) for module in modules]
        return not any(kind.endswith("Pooling") and not kind.endswith("TokenPooling") for kind in kinds)
    config = _json_of(name, "config.json") or {}
    return any(str(kind).endswith(_LATE_ARCHITECTURES) for kind in config.get("architectures") or [])


def _json_of(name: str, file: str) -> Any:
    path = Path(resolve_model(split_name(name)[0])) / file
    if not path.parent.is_dir():
        try:
            util: Any = importlib.import_module("sentence_transformers.util")
        except ModuleNotFoundError:
            return None  # the loader says what is missing
        found = util.load_file_path(split_name(name)[0], file)
        if found is None:
            return None
        path = Path(found)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _late_sentence_transformer(model: Any, name: str) -> _Backend:
    def strings(encode: Callable[..., Any], text: str) -> list[str] | None:
        features = encode([text], output_value=None, show_progress_bar=False)[0]
        if "input_ids" not in features or "attention_mask" not in features:
            return None
        kept = features["input_ids"][features["attention_mask"].bool()]
        return list(model.tokenizer.convert_ids_to_tokens(kept.tolist()))

    pools = _own_pooling(model)
    images = of_sentence_transformer(model)
    if images is not None and (pair := without_tokens(model)) is not None:
        return _model_and_processor(*pair)._replace(name=name)
    return _Backend(
        name,
        lambda texts: model.encode_document(texts, convert_to_numpy=True, show_progress_bar=False),
        lambda texts: model.encode_query(texts, convert_to_numpy=True, show_progress_bar=False),
        _cannot_tell if pools is not None else lambda text: strings(model.encode_document, text),
        lambda text: strings(model.encode_query, text),
        _prompts(model),
        images=images,
        pools=pools,
    )


def _model_and_processor(model: Any, processor: Any) -> _Backend:
    images, queries = of_model_and_processor(model, processor)
    return _Backend(_model_name(model), queries, queries, _cannot_tell, _cannot_tell, {}, images)


def _own_pooling(model: Any) -> str | None:
    """Return the name of the module that pools the tokens of documents inside a model, if there is one."""
    for module in getattr(model, "modules", list)():
        pools = _mro_has(module, "BaseTokenPooling") and module.applies_to("document")
        if pools and getattr(module, "pool_factor", 2) > 1:
            return type(module).__name__
    return None


def _dense_sentence_transformer(model: Any, name: str) -> _Backend:
    documents = getattr(model, "encode_document", model.encode)
    queries = getattr(model, "encode_query", model.encode)
    prompts = _prompts(model)

    def encode(function: Callable[..., Any], texts: list[str]) -> Any:
        return function(texts, output_value="token_embeddings", show_progress_bar=False)

    def strings(prompt: str, text: str) -> list[str] | None:
        ids = model.tokenizer(prompt + text, truncation=True, max_length=model.max_seq_length)["input_ids"]
        return list(model.tokenizer.convert_ids_to_tokens(ids))

    def prompt_of(*keys: str) -> str:
        return next((prompts[key] for key in keys if key in prompts), "")

    return _Backend(
        name,
        lambda texts: encode(documents, texts),
        lambda texts: encode(queries, texts),
        lambda text: strings(prompt_of("document", "passage", "corpus"), text),
        lambda text: strings(prompt_of("query"), text),
        prompts,
    )


def _pylate(model: Any) -> _Backend:
    def encode(texts: list[str], is_query: bool) -> Any:
        return model.encode(texts, is_query=is_query, show_progress_bar=False)

    return _Backend(
        _model_name(model),
        lambda texts: encode(texts, False),
        lambda texts: encode(texts, True),
        _cannot_tell,
        _cannot_tell,
        _prompts(model),
    )


def _tellers(model: Any) -> tuple[_Tokens, _Tokens]:
    return getattr(model, "document_tokens", _cannot_tell), getattr(model, "query_tokens", _cannot_tell)


def _cannot_tell(text: str) -> list[str] | None:
    return None


def _prompts(model: Any) -> dict[str, str]:
    return {key: value for key, value in (getattr(model, "prompts", None) or {}).items() if value}


def _is_late_model(model: Any) -> bool:
    return not isinstance(model, type) and (_mro_has(model, "MultiVectorEncoder") or _takes(model, "is_query"))


def _mro_has(model: Any, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(model).__mro__)


def _takes(model: Any, option: str) -> bool:
    encode = getattr(model, "encode", None)
    if encode is None:
        return False
    try:
        return option in inspect.signature(encode).parameters
    except (TypeError, ValueError):
        return False


def _array(matrix: Any) -> Any:
    array = real_array(matrix, "token vectors")
    return array.reshape(0, 0) if array.ndim == 1 and not array.size else array
