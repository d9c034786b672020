"""Token vectors for mteb's tasks: late-interaction models behind one interface. Does not import mteb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.encoders.tokens import TokenEncoder
from octavo.errors import InputTypeError

#: Documents encoded at a time: their token vectors have to fit in memory, in float32, several hundred to a document.
_CHUNK = 4_096

#: Texts given to the model at a time where mteb says nothing; its own default.
_BATCH = 32


class TokenModel:
    """A model that gives a matrix of token vectors for each text.

    Parameters
    ----------
    model : object
        With `mteb_model_meta`, and a method ``encode`` or, as mteb's own late-interaction models have it, ``_encode``, that
        takes mteb's batches; or a sentence-transformers model.
    batches : callable
        From texts, role, task metadata, batch size and number of processes to mteb's batches and its name for the role.
    meta : object, optional
        mteb's metadata, for a model that has none of its own.

    Raises
    ------
    InputTypeError
        When it is none of these.
    """

    def __init__(self, model: Any, batches: Callable[..., tuple[Any, Any]], meta: Any = None) -> None:
        self._batches = batches
        if meta is not None:
            self._encode = _Texts(TokenEncoder(model))
            self.mteb_model_meta = meta
            return
        # mteb's late-interaction models have no public `encode`, so that nothing takes them for encoders of one vector.
        encode = getattr(model, "encode", None) or getattr(model, "_encode", None)
        if encode is None or not hasattr(model, "mteb_model_meta"):
            raise InputTypeError(
                "expected a late-interaction model of mteb (mteb.get_model(...)) or a sentence-transformers model, got "
                f"{type(model).__name__}; a model of your own needs mteb_model_meta, and encode(), which returns one matrix "
                "for each text"
            )
        self._encode = encode
        self.mteb_model_meta = model.mteb_model_meta

    def documents(self, corpus: Any, **options: Any) -> Iterator[tuple[slice, list[NDArray[np.float32]]]]:
        """Yield which documents, and their token vectors, a part of the corpus at a time."""
        for start in range(0, len(corpus), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(corpus)))
            yield part, self._matrices(corpus.select(range(part.start, part.stop)), "document", **options)

    def queries(self, queries: Any, **options: Any) -> list[NDArray[np.float32]]:
        """Return the token vectors of each query."""
        return self._matrices(queries, "query", **options)

    def _matrices(
        self,
        texts: Any,
        role: str,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any] | None = None,
        num_proc: int | None = None,
        **options: Any,
    ) -> list[NDArray[np.float32]]:
        chosen = dict(encode_kwargs or {})
        batches, kind = self._batches(texts, role, task_metadata, chosen.get("batch_size", _BATCH), num_proc)
        found = self._encode(
            batches,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            prompt_type=kind,
            **chosen,
        )
        return as_matrices(found)


class _Texts:
    """mteb's batches for a `TokenEncoder`, which takes lists of texts and has prompts of its own."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self._encoder = encoder

    def __call__(self, inputs: Any, *, prompt_type: Any, **options: Any) -> list[NDArray[np.float32]]:
        encode = self._encoder.encode_queries if prompt_type.value == "query" else self._encoder.encode_documents
        return [matrix for batch in inputs for matrix in encode(list(batch["text"]))]


def as_matrices(embeddings: Any) -> list[NDArray[np.float32]]:
    """Return float32 arrays of shape ``(n_tokens, dim)``, one for each text, from arrays or torch tensors.

    Raises
    ------
    InputTypeError
        When a text has one vector only.
    """
    matrices = [_array(matrix) for matrix in embeddings]
    for matrix in matrices:
        if matrix.ndim != 2:
            raise InputTypeError(
                f"expected a matrix of token vectors for each text, got an array of shape {matrix.shape}; a model of one "
                "vector a text is measured with mode='dense'"
            )
    return matrices


def _array(matrix: Any) -> NDArray[np.float32]:
    if hasattr(matrix, "detach"):  # a torch tensor, perhaps on an accelerator, perhaps in half precision
        matrix = matrix.detach().cpu().float().numpy()
    return np.asarray(matrix, np.float32)


def texts_of(texts: Sequence[str] | None, part: slice) -> Sequence[str] | None:
    """Return the texts of a part, if there are any."""
    return texts[part] if texts is not None else None
